/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replication: this server as a primary of others and as a replica of one, in Redis's protocol
 * (PSYNC2). The position in the history is the stream's (persist/log/stream.h): LSN = replication
 * offset; the history's id (durability.h) is the replication id.
 *
 * As a primary (replication_primary.c) a replica is a client that has sent PSYNC:
 *
 *     PSYNC ──partial──────────[CATCHING_UP from the log on disk]──┐
 *       │ full                                                      v
 *       v                                                        ONLINE   a stream reader,
 *     WAITING ──delay──> [SAVING a file] ──> FEEDING ──> READY ──ack─┘    written to its socket
 *
 * FEEDING is the feed's (replication/feed.h): one for all that wait. The stream meanwhile stays in
 * memory, once for all of them, held by their readers; when it is more than the backlog, and there
 * is a log, it is given back, and what came meanwhile is sent from the log: READY ──ack──>
 * CATCHING_UP.
 *
 * As a replica (replication_link.c):
 *
 *     DOWN ──retry──> SYNCING (replication/sync.h, a thread) ──> [LOADING] ──> UP
 *       ^                 │ what is here went another way:                     │ the link breaks
 *       │<──[taken back]──┘ journal                                            │
 *       └──────────────────────────────────────────────────────────────────────┘
 *
 * While it is UP the primary is a client (CLIENT_MASTER) whose requests are executed by
 * replication_execute: no replies, no effects of their own; their very bytes go to this server's
 * stream, so that its log and its replicas have the same LSNs. Time stands still for them, as keys
 * expire by the primary's DEL alone; for everybody else here keys past their expiry are hidden, not
 * removed.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_REPLICATION_H
#define HF_SERVER_REPLICATION_H

#include "command/table.h"
#include "replication/catchup.h"
#include "replication/feed.h"
#include "replication/marks.h"
#include "persist/log/lineage.h"
#include "replication/sync.h"
#include "server/client.h"
#include "server/config.h"
#include "server/failover.h"

struct recovery_result;

enum replica_state {
    REPLICA_WAITING,
    REPLICA_SAVING,
    REPLICA_FEEDING,
    REPLICA_READY,
    REPLICA_CATCHING_UP, /* from the log on disk */
    REPLICA_ONLINE
};

/* What a client has said of itself by REPLCONF, and what becomes of it when it has asked for the
 * stream. Made by the first REPLCONF, freed with the client. */
struct replica {
    struct client *client;
    struct replica *prev, *next; /* of those that have sent PSYNC or SYNC */
    bool listed;
    enum replica_state state;
    bool eof, psync2, regression, diverged, own; /* capabilities */
    bool rdb_only;
    bool without_keys, without_functions; /* REPLCONF rdb-filter-only: not wanted */
    bool plain_sync; /* SYNC: it acknowledges nothing, and gets no +FULLRESYNC */
    int listening_port;
    char ip[64]; /* as it announces itself; "": as its connection shows */
    struct stream_reader *reader; /* from FEEDING (or SAVING) on; NULL if from_log */
    bool from_log; /* what is behind `acked` comes from the log when all of the data is there */
    size_t target;                /* of the feed, while FEEDING */
    struct catchup *catchup;      /* while CATCHING_UP, up to catchup_lsn */
    uint64_t catchup_lsn;
    struct lineage *pasts; /* of its data, as it says; NULL: none */
    bool catchup_announced;       /* it was told that the stream goes on */
    uint64_t acked;               /* LSN */
    uint64_t facked;              /* LSN: on its disk, as it says */
    char node[CONFIG_NODE_NAME];  /* of quorum-nodes; "": none */
    uint64_t epoch;               /* that it acknowledges in: server/quorum.h */
    int64_t acked_us;             /* when it was last heard of; monotonic */
    int64_t since_us;             /* in this state */
    int64_t soft_limit_since_us;
};

enum link_state { LINK_DOWN, LINK_SYNCING, LINK_LOADING, LINK_UP };

struct primary_link {
    enum link_state state;
    struct sync *sync;          /* SYNCING; also one that was given up and has not ended */
    bool sync_unwanted;
    struct sync_result *loading; /* LOADING: what is to be loaded, outside of any turn */
    struct client *client;      /* UP */
    int db;                     /* of the next effect */
    struct text open_group;     /* bytes since a MULTI whose EXEC has not come */
    uint64_t open_requests;     /* in it */
    bool continuable;           /* history and LSN are a position that PSYNC may name */
    /* As a primary this server went on from here under an id that nobody has been told of: this is
     * the last position that others can know. "": there is none but the history and the LSN. */
    char fork_id[SYNC_ID_SIZE + 1];
    uint64_t fork_lsn;
    bool acknowledge;           /* as soon as what is executed is in the stream */
    uint64_t acked_lsn, acked_durable, acked_epoch; /* as last said */
    uint64_t asked_lsn; /* the primary wants to know when this is on the disk */
    int64_t acked_us, newline_us;
    int64_t retry_us;           /* not before then */
    bool connect_now;           /* not only when the timer comes around */
    int64_t down_since_s;       /* wall clock */
    uint64_t cut_backs;
    uint64_t full_syncs;        /* all data that has come from a primary, and was loaded */
    uint64_t errors;            /* commands of the primary that were answered by an error here */
    bool down_told;             /* that it is down was announced */
    struct error failure;       /* why it is down; NONE: it is not, or nothing is known */
    bool data_lost;             /* what had come could not be loaded: there is nothing in memory */
    bool refused;               /* the primary has less than there is here */
    /* What the primary's history does not have, from diverged_lsn on: to be written to a
     * journal. */
    bool diverged, given_up; /* given_up: that is done */
    /* diverged: to go back to diverged_lsn is no use, everything comes anew */
    bool everything;
    bool cut_back;           /* it is, and is to be taken back now, outside of any turn */
    uint64_t diverged_lsn;
    /* What has to be given up is not in the log one by one, or nobody knows what it is: all of the
     * data goes into a file first (replication_keep.c). */
    bool keep;
    struct save_job *keep_job;
    bool keep_unwanted; /* it may end, but nobody waits for it */
    int64_t keep_retry_us;
    char keep_try[256];
    uint64_t keep_try_lsn;
    char kept[256]; /* the last one; "": none */
    uint64_t kept_lsn;
    bool kept_now; /* of what is here now */
    char journal_try[256];
    uint64_t journal_try_from, journal_try_until;
    char journal[256];         /* the last one's path; "": none */
    uint64_t journal_from, journal_until, journals;
};

struct replication {
    struct server *server;
    bool started;
    /* The history before this one, whose first `second_lsn` bytes this one goes on from; "":
     * none. */
    char second_id[SYNC_ID_SIZE + 1];
    uint64_t second_lsn;
    int second_db; /* of the next effect there */
    bool second_promoted; /* by a promotion, not by a start after a crash */
    bool id_told; /* a replica has been told of this history */
    struct lineage older; /* the histories before that one */
    /* What is here was done here, by a primary, since it was last the copy of another one's data,
     * or may have been; written: something was for certain, as far as it is known. */
    bool own, written;
    uint64_t own_effects, own_bytes; /* the server's counts when it became a primary */
    struct replica *replicas;
    size_t replica_count, good_count; /* good: ONLINE, and heard of within min-replicas-max-lag */
    size_t present_count; /* the same within durability-timeout */
    int quorum_present;   /* and nodes of the quorum, this one included */
    struct feed *feed;
    struct replica **fed; /* the feed's targets; NULL: that one is gone */
    size_t fed_count;
    struct save_job *save; /* the file for those that want one */
    char save_path[64];
    uint64_t save_lsn;
    int64_t ping_us;
    int64_t lonely_since_us; /* no replicas since; 0: there are some */
    uint64_t sync_full, sync_partial_ok, sync_partial_err;
    uint64_t sync_partial_disk; /* of those that were ok: from the log on disk */
    int64_t distrust_disk_until_us;
    char full_reason[160];   /* why the last full resynchronisation was made */
    struct marks marks;      /* of the stream, as published */
    size_t waiting_clients;  /* in WAIT */
    uint64_t gone_acked;     /* what a replica that has gone had acknowledged: the most of any */
    uint64_t local_writes;   /* by clients of this server while it was a replica */
    uint64_t asked_lsn;      /* for acknowledgements, as somebody's reply waits for them */
    struct primary_link link;
    struct failover failover;
};

/* Sets s->replication. */
void replication_init(struct server *s);
/* What was loaded tells where the history goes on. Before anything is served. */
void replication_start(struct server *s, const struct recovery_result *found);
/* Ends threads; clients are gone already. Before the loop is freed. */
void replication_deinit(struct server *s);
/* The configuration may have changed. */
void replication_apply_config(struct server *s);
/* A stream has to be there, log or not. */
bool replication_wants_stream(const struct server *s);
/* The database that the next effect of the stream is for, unless it selects one: a replica's stream
 * goes on in the middle of its primary's; one's own selects anew where it matters. */
int replication_stream_db(const struct server *s);
/* The LSN, also where there is no stream. */
uint64_t replication_lsn(const struct server *s);
/* Is there something that must be done outside of a turn? Does it. */
void replication_between_turns(struct server *s);
/* At the end of a turn: write what the stream has got to the replicas. */
void replication_feed(struct server *s);
void replication_info(struct server *s, struct text *out);
/* Whether dispatch has to look closer at every command. */
bool replication_attention(const struct server *s);
/* More is on this server's disk. */
void replication_durable(struct server *s);
/* An error to reply, if this command must not be executed now; else NULL. */
const char *replication_refusal(const struct server *s, const struct client *c, uint32_t flags);
/* A client has changed something on this replica: it is counted, and said once. */
void replication_note_local_write(struct server *s);
/* "repl-id", "repl-offset" and "repl-stream-db" for an RDB file of this moment. */
void replication_put_aux(const struct server *s, struct save_options *options, uint64_t lsn);
/* "hf-own" and "hf-past-<n>", for files that this server itself will read. */
void replication_put_lineage(const struct server *s, struct save_options *options);
void replication_put_found(struct save_options *options, const struct lineage *lineage, bool own);
/* The histories that the data have come through, this one left out. */
void replication_lineage(const struct server *s, struct lineage *l);

/* As a primary. */
struct replica *replication_replica_of(struct client *c); /* made if need be */
void replication_begin_replica(struct client *c, bool full, const char *reason);
void replication_continue_replica(struct client *c, uint64_t lsn);
/* What replicas get has to be on this server's disk first. */
bool replication_gated(const struct server *s);
/* From the log on disk: replication_disk.c. */
bool replication_may_use_disk(const struct server *s, uint64_t lsn);
void replication_catch_up_replica(struct client *c, uint64_t lsn);
void replication_begin_disk(struct client *c, uint64_t lsn, bool announce);
void replication_disk_ended(struct replica *r);
void replication_disk_online(struct replica *r, uint64_t lsn);
void replication_disk_cancel(struct replica *r);
/* lsn and durable 0: nothing new. */
void replication_acknowledged(struct client *c, uint64_t lsn, uint64_t durable);
/* What replicas have has changed, or what is on this server's disk: how sure everything is now. */
void replication_update_sure(struct server *s);
/* Others with this name are gone: the node has come back. */
void replication_take_node(struct client *c);
void replication_forget_client(struct client *c); /* the client is going */
/* its socket takes more, and its output is empty */
void replication_writable(struct client *c);
void replication_close_replicas(struct server *s, const char *why);
void replication_primary_cron(struct server *s);
/* When it is time for a full resynchronisation: so many ms from now; 1 at least. */
int64_t replication_feed_due_ms(const struct server *s);
void replication_primary_deinit(struct server *s);
/* It has what counts as acknowledged: not one that is sent all of the data just now, or says
 * nothing. */
bool replication_holds_acked(const struct replica *r);
/* The first LSN that the stream can be given again from, from memory or the log's files. False:
 * from none. */
bool replication_reach(const struct server *s, uint64_t *lsn);
/* The stream begins, or is another one; it has more. */
void replication_begin_marks(struct server *s);
void replication_note_marks(struct server *s);
/* What somebody lacks who has acknowledged that LSN. False: but for the bytes it is not known. */
bool replication_behind(struct server *s, uint64_t lsn, struct marks_behind *out);
/* The same of the replica that has most, be it there or gone: what a failover now would lose. */
bool replication_would_lose(struct server *s, struct marks_behind *out);
/* bytes that are not sent */
uint64_t replication_lag(const struct server *s, const struct replica *r);
/* As it announces itself, or as its connection shows. */
void replication_address(struct replica *r, char ip[SOCKET_NAME_SIZE]);
/* Replicas that have acknowledged this LSN. */
size_t replication_count_acked(const struct server *s, uint64_t lsn);
/* Those that have it on their disks. */
size_t replication_count_on_disk(const struct server *s, uint64_t lsn);
/* Ask all replicas to acknowledge now (WAIT). */
void replication_ask_for_acks(struct server *s);
/* Those who sit in WAIT for what has been acknowledged now go on. */
void replication_wake_waiting(struct server *s);

/* As a replica. */
void replication_follow(struct server *s, const char *host, int port);
void replication_promote(struct server *s);
void replication_execute(struct client *c, struct call *call, const struct command *command);
void replication_link_cron(struct server *s);
/* More is on this server's disk: the primary is told if it waits for it. */
void replication_link_durable(struct server *s);
void replication_link_down(struct server *s, const struct error *why);
void replication_link_load(struct server *s);
void replication_link_cut_back(struct server *s);
void replication_link_deinit(struct server *s);
/* What is given up (replication_keep.c): from where on there are effects one by one, in the log
 * (from *logged on) or in memory; the journal that is to be written of them; it was. */
uint64_t replication_keep_first(const struct server *s, uint64_t *logged);
void replication_keep_journal(struct server *s, const char *history, struct sync_journal *j);
void replication_keep_note_journal(struct server *s);
/* All of the data is to be in a file before it is given up. True: it is, or need not be. */
bool replication_keep_step(struct server *s);
void replication_keep_forget(struct server *s); /* what is here is another data now, or wanted */
void replication_keep_deinit(struct server *s);
/* For INFO and ROLE: "connect", "connecting", "sync", "connected". */
const char *replication_link_state(const struct server *s);

/* A new history id. */
void replication_new_id(char id[SYNC_ID_SIZE + 1]);

#endif
