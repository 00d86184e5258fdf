/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A replica's way to its primary, once: connect, prove who it is, ask for the stream (PSYNC) and,
 * if all of the data has to come, take it: into a keyspace beside the own one, while it comes; or,
 * where there is no memory for both, into a file, and prove it. By a thread of its own, so that the
 * executor neither waits for the network nor writes files.
 *
 *     connect -> PING -> [AUTH] -> REPLCONF listening-port, ip-address, capa -> PSYNC id lsn+1
 *         +CONTINUE [id]          the stream goes on where it was
 *         +FULLRESYNC id lsn      $<size> or $EOF:<mark>, an RDB file -> keyspace
 *                                 (persist/load_stream.h), or -> temporary file, decoded whole:
 *                                 what is damaged is refused before anything is given up for it
 *
 * Nothing of the own data is touched here. Lines are bounded (PEER_LINE_MAX), lengths are proven,
 * and nothing waits longer than `timeout_ms` for the other side.
 */
#ifndef HF_REPLICATION_SYNC_H
#define HF_REPLICATION_SYNC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/peer.h"
#include "persist/log/lineage.h"
#include "persist/rdb/format.h"

#define SYNC_ID_SIZE 40
#define SYNC_NODE_SIZE 32

struct sync_options {
    char host[256];
    int port;
    char source[64];         /* the own address to come from; "": any */
    struct tls_context *tls; /* taken; NULL: without TLS */
    char user[128], password[512]; /* "": none */
    int listening_port;
    char announce_ip[64]; /* "": what the connection shows */
    /* What is there already; has_history false: nothing that could go on. */
    bool has_history;
    char history[SYNC_ID_SIZE + 1];
    uint64_t lsn;
    /* at least lsn: what is behind has been done here, in no history that others know */
    uint64_t end;
    struct lineage pasts; /* the histories that what is there has come through before */
    /* It was done here, by a primary, and is in no file: what the primary's data are to replace is
     * told first (unrelated), where nobody can say what of it they have. */
    bool own;
    bool later_rdb; /* as keyspace.later_rdb */
    bool has_data; /* some keys: a primary without any is refused unless accept_regression */
    bool accept_regression;
    /* Ask the other side, a replica so far, to become the primary. Of a quorum it is not elected
     * yet when it has: the epoch of the result is 0 then. */
    bool failover;
    /* Of a quorum (server/quorum.h): this node, and the newest epoch that it has voted in: an older
     * primary is not followed. "": none. */
    char node[SYNC_NODE_SIZE];
    uint64_t promised;
    /* What this side has to give up, as the primary's history went another way at LSN `from`:
     * written to a journal (persist/log/history.h) before the primary is asked for everything. path
     * "": nothing. */
    struct sync_journal {
        char path[256];
        char history[SYNC_ID_SIZE + 1];
        uint64_t from, until;
        char log_directory[256], log_filename[128]; /* "": the bytes are here */
        char *bytes; /* taken */
    } journal;
    bool journal_only; /* and nobody is asked yet */
    bool given_up; /* that is done: the primary may send everything */
    int timeout_ms;
    char path[256]; /* the temporary file */
    /* Empty (load_beside), taken: the data is loaded into it as these options say. NULL: it is left
     * in the file. */
    struct keyspace *into;
    struct rdb_load_options load;
    /* on the thread, when it has ended, and before it when the transfer begins */
    void (*wake)(void *ctx);
    void *ctx;
};

enum sync_stage { SYNC_CONNECTING, SYNC_HANDSHAKE, SYNC_TRANSFER, SYNC_VERIFYING, SYNC_ENDED };

enum sync_outcome {
    SYNC_FAILED,     /* to be tried again: error says why */
    SYNC_REFUSED,    /* this side refuses it: the primary has less than there is here */
    /* the same history up to `lsn`, but no further: what is behind has to be given up */
    SYNC_DIVERGED,
    SYNC_CONTINUES,  /* from `lsn` on; history may be another one than was asked for */
    SYNC_FULL,       /* `loaded`, or else the file at `path`, is the data at `lsn` of `history` */
    SYNC_JOURNAL     /* journal_only: it is written */
};

struct sync_result {
    enum sync_outcome outcome;
    struct error error;
    /* FAILED, REFUSED: PSYNC was answered, but by neither of the good answers */
    bool rejected;
    bool failover_sent; /* the other side may have been told to become a primary */
    bool unelected;     /* FAILED: it is about to be elected by a majority of the quorum, or not */
    int fd; /* CONTINUES, FULL: the connection, which the caller takes; else -1 */
    struct tls *tls; /* the session over it; NULL: none */
    char history[SYNC_ID_SIZE + 1];
    uint64_t lsn;
    uint64_t epoch, epoch_lsn; /* of the primary, if this is a node of a quorum */
    /* DIVERGED: of another history than was asked for, one of those that it has come through */
    bool past;
    bool unrelated;     /* DIVERGED: how much of what is there the primary has nobody knows */
    bool everything;    /* DIVERGED: the primary goes on from nowhere here, it sends everything */
    bool journal_written;
    struct keyspace *loaded; /* FULL: the caller's; NULL: there is a file */
    uint64_t keys;
    /* FULL: which database the stream's next effect is for, as the file says; -1: unknown */
    int stream_db;
    char rest[PEER_LINE_MAX]; /* of the stream, received already */
    size_t rest_size;
};

struct sync;

/* Options are copied. NULL: the thread could not be started. */
struct sync *sync_start(const struct sync_options *options, struct error *err);
/* Ends it as soon as the system lets it. */
void sync_cancel(struct sync *y);
bool sync_ended(const struct sync *y);
struct sync_progress {
    enum sync_stage stage;
    uint64_t read, total; /* bytes of the transfer; total 0: not known */
    bool loads;           /* what comes is loaded at once */
    bool same_history;    /* from TRANSFER on: it is of the history that the options name */
    int64_t last_io_us;   /* monotonic */
};
void sync_progress(const struct sync *y, struct sync_progress *p);
/* Waits if it has not ended, and frees it. Unless the outcome is FULL there is no file left. */
void sync_finish(struct sync *y, struct sync_result *result);
/* The connection is not wanted: closes it, if there is one. */
void sync_drop_connection(struct sync_result *result);

#endif
