/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The log as the server has it: started and ended by the configuration, fed once a turn, and what
 * follows when its disk is slow, full or broken. The files are the writer's (persist/log/writer.h);
 * replies that wait for it are server/hold.h's.
 *
 *     OFF ──appendonly yes──> STARTING ─base and file named──> ON ──appendonly no──> CLOSING ─> OFF
 *                                ^ │                            │
 *                                └─┘ it failed: again, later    │ the disk failed
 *                                                               v
 *                                                        FAILED ──new base and new file──> ON
 *
 * STARTING and FAILED make a new generation (persist/log/generation.h), and try again with growing
 * pauses until it works; at the start of the server recovery has made the base. ON makes one (a
 * rewrite) when it is asked for, when the incrementals have grown by auto-aof-rewrite-percentage,
 * and when there are many of them, as each start adds one.
 *
 *   STARTING   writes are taken and go to the new file, but nothing is promised yet. (At the start
 *              of the server they are refused, where there was no room for a base.)
 *   ON         with `always` replies are held until they are durable
 *   FAILED     what waited was answered by errors, writes are refused, reads go on
 *
 * When the disk is full the state stays ON, writes are refused until there is room, and nothing is
 * lost.
 *
 * Clients that write are put off (slow_down) while more than log-buffer-limit bytes wait for the
 * disk, and with `everysec` while something is not durable for longer than a second: the disk's
 * pace becomes theirs, and what a crash can take stays bounded.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_DURABILITY_H
#define HF_SERVER_DURABILITY_H

#include "persist/log/directory.h"
#include "persist/log/generation.h"
#include "persist/log/writer.h"
#include "server/server.h"

enum durability_state {
    DURABILITY_OFF,
    DURABILITY_STARTING,
    DURABILITY_ON,
    DURABILITY_CLOSING,
    DURABILITY_FAILED
};

/* How many commands had been logged when the stream was at an LSN: one every few milliseconds. */
#define DURABILITY_COUNTS 1024
struct effect_count {
    uint64_t lsn, effects;
};

struct durability {
    struct server *server;
    enum durability_state state;
    bool wanted; /* appendonly, as last seen */
    bool once;   /* BGREWRITEAOF while it is off: on until there is a generation */
    bool temporary; /* it is on for a backup alone, and is removed then */
    bool rewrite_scheduled;
    /* Why writes (and PING) are refused: an error reply; NULL: they are not. */
    const char *refusal;
    bool slow_down; /* writes are put off */
    struct writer *writer; /* NULL: OFF */
    /* A log that was given up, and its stream, whose disk hangs. No other one is begun, nor is
     * anything done to the files, before its thread has ended. NULL: there is none. */
    struct writer *left;
    struct stream *left_stream;
    char history[ANNOTATION_HISTORY + 1];
    uint64_t lsn;             /* while OFF: where the stream would go on */
    /* While there is no log: the data hold all of the log of this history up to this LSN, and if
     * `beyond`, more that no log has. id "": unknown. */
    struct {
        char id[ANNOTATION_HISTORY + 1];
        uint64_t lsn;
        bool beyond;
    } covered;
    /* Something was changed without an effect since the log was loaded or begun: no snapshot is
     * what a replay would make. */
    bool unlogged;
    bool no_snapshot;         /* when it goes OFF no snapshot need be made */
    struct error manifest_error; /* it is there, but cannot be read */
    struct log_directory directory; /* taken while there is a log in it */
    struct generation generation; /* and the files that there are */
    uint64_t slow_downs;
    int64_t started_us;       /* the time that shares are shares of */
    uint64_t first_effects;
    /* What is in the files behind the base: what was there when it was begun or loaded, and what
     * the stream has got since it was at that LSN. */
    struct durability_content {
        uint64_t commands, bytes;
        uint64_t lsn, requests;
    } content;
    uint64_t generation_requests; /* of the stream, where the generation begins */
    struct effect_count counts[DURABILITY_COUNTS]; /* a ring: [count_first, count_end) */
    uint64_t count_first, count_end;
    int64_t counted_us;
    bool ended;            /* durability_end was called */
    bool hushed;           /* the writer does not wake the executor, which asks itself */
    struct error failure;  /* of FAILED */
    char refusal_text[256];
};

/* The history changes (replication): from the LSN where the stream is now it is another one. With a
 * log it is on disk, in a new file, when this returns, or a new generation is made for it. */
void durability_set_history(struct server *s, const char *history);
/* The data is another one, at another place of maybe another history (a full resynchronisation,
 * whose data is in the keyspace already): the log of what there was ends, as it is, and a new
 * generation is made; if the disk hangs, when it works again: nobody waits for longer than 2 s. The
 * stream begins anew: nobody may read it any more. */
void durability_restart(struct server *s, const char *history, uint64_t lsn);
/* Have a stream, with a log or without; and do without, if neither a log nor a replica needs it. */
void durability_make_stream(struct server *s);
void durability_drop_stream(struct server *s);

/* Sets s->durability: OFF. */
void durability_init(struct server *s);
/* Ends the log in order if it runs, and durability_end was not called. Waits for the disk. */
void durability_deinit(struct server *s);

/* Where a log goes on at the start of the server. */
struct durability_position {
    const struct manifest *manifest; /* as on disk: recovery has seen to it that it has a base */
    uint64_t lsn;
    uint32_t chain;       /* the crc of the last line of the last file; 0: none */
    const char *history;  /* "": make a new one */
    uint64_t commands, command_bytes; /* in the files behind the base */
    int db;               /* of a replica: which the effect at `lsn` is for */
    bool own;             /* what is there, or will be, is no copy of a primary's */
    /* a file with a torn end, at cut_at, that there was no room to keep; NULL: none */
    const char *cut;
    uint64_t cut_at;
    const char *no_base;  /* there is no manifest, as there was no room: why. NULL: there is one */
};
/* Before anything is served: the executor waits. On return the log is ON, maybe without room, and
 * then goes on by itself when there is some; or, without a base, STARTING, and refuses writes until
 * it is ON. False: err says why. */
bool durability_start(struct server *s, const struct durability_position *at, struct error *err);

/* Whether CONFIG SET appendonly yes can work: not beside a manifest that cannot be read, nor where
 * another server writes its log, or has left one. The directory is made. */
bool durability_may_start(struct server *s, struct error *err);
/* Take the log's directory for this process, until it ends (log_directory_take). False: another
 * process has it. */
bool durability_lock(struct server *s, struct error *err);
/* The bounds of a turn. Between them the log's thread need not wake the executor where replies wait
 * for it: it is asked at the end, before replies are written. The end is in two parts; the second
 * is true when there is more to do. */
void durability_begin_turn(struct server *s);
void durability_look(struct server *s);
bool durability_end_turn(struct server *s);
/* Publish what the commands of this turn have done. Outside of any group. */
void durability_publish(struct server *s);
/* In the middle of a turn: if what it has done so far is more than may wait for the disk, writes
 * are put off from here on. */
void durability_check_room(struct server *s);
/* Tell in an RDB file that is being made how it stands to the log: by which recovery knows which of
 * the two goes on where the other ends. */
struct save_options;
void durability_mark_snapshot(struct server *s, struct save_options *options);
/* The executor waits until the log has on disk, or in the system's cache, all that was done, and
 * nothing of it is under way; a rewrite is given up. False: it cannot have all, or (most_us, 0:
 * there is no limit) takes longer than this, or as long as a new log takes. True when there is no
 * log. Not within a group. */
bool durability_settle(struct server *s, int64_t most_us, struct error *err);
/* The data is again what a replay of the log makes. */
void durability_note_replayed(struct server *s);
/* Data was changed of which the log has nothing. */
void durability_note_unlogged(struct server *s);
/* The same as one number, for the chain's links. */
uint64_t durability_position(struct server *s);
/* What an RDB file says of itself that was loaded with appendonly no. */
struct rdb_load_stats;
void durability_note_loaded(struct server *s, const struct rdb_load_stats *stats);

enum durability_rewrite {
    DURABILITY_REWRITE_RUNS, /* one is under way already */
    DURABILITY_REWRITE_SCHEDULED,
    DURABILITY_REWRITE_STARTED,
    DURABILITY_REWRITE_FAILED /* it was tried, and will be again */
};
/* BGREWRITEAOF. later: a snapshot must not be taken now. With appendonly no a log of what is in
 * memory is made and closed again, as redis-server makes a base then. */
enum durability_rewrite durability_rewrite(struct server *s, bool later);

/* For server/backup.c. A base is to be made: as a rewrite, if the log is on; else it is switched
 * on. `later`: not now, within a transaction. */
void durability_make_base(struct server *s, bool later);
/* All that was done is in files that have ended, on disk; the log goes on in a new one. Waits for
 * the disk. Not within a group. */
bool durability_end_file(struct server *s, struct error *err);
/* The backup does not need the log any more. */
void durability_release(struct server *s);

/* Whether each commit group is synced at once: by `appendfsync always`, or as somebody waits for
 * it. */
bool durability_syncs_always(const struct server *s);
/* The levels in use (server/hold.h) have changed: the log syncs as they want it. */
void durability_follow_levels(struct server *s);

/* The configuration may have changed. */
void durability_apply_config(struct server *s);
/* Before the process ends: everything is written and synced, and the log closed. False: it could
 * not be, and something is at risk by it; the server's log says what, and why. A disk on which
 * nothing moves is waited for as long as shutdown-timeout says (where that is 0, ten seconds);
 * *hangs: threads wait for it still, so that nothing can be freed, and the process is to end as it
 * is. */
bool durability_end(struct server *s, bool *hangs);
/* Whether the log cannot be written just now, so that an end would lose writes that were
 * acknowledged, and nobody else has: how many, and their bytes. */
bool durability_end_loses(const struct server *s, uint64_t *writes, uint64_t *bytes);
/* What a crash of the machine may take now: the writes, at most, and their bytes. While it is not
 * OFF. */
uint64_t durability_at_risk(const struct durability *d, uint64_t *bytes);

/* For the files of this module. Whether there is a log on disk of what is in memory; and whether
 * one that was left to itself has come to its end, which is seen to then. */
bool durability_has_log(const struct durability *d);
bool durability_take_left(struct durability *d);

/* Whether dispatch has to look at refusal and slow_down. */
bool durability_attention(const struct server *s);

/* Bytes in the files that a start would read. While it is not OFF. */
uint64_t durability_size(const struct durability *d);
/* For the jobs of a generation (ctx: the durability): the executor is to look after them. Any
 * thread. */
void durability_wake(void *ctx);

/* The fields of INFO persistence about the log. */
struct text;
void durability_info(struct server *s, struct text *out);

#endif
