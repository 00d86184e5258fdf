/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A feed: the data of one moment, sent to all replicas that wait for it by a thread of its own.
 *
 *     snapshot ── one walk (persist/save_pipe.h) ──> "$EOF:<mark>\r\n" RDB <mark> ──> each socket
 *     file     ── read once ───────────────────────> "$<size>\r\n" RDB ───────────> each socket
 *
 * The first form needs neither a file nor its size beforehand, the second is for replicas that do
 * not know it, or when files are wanted. What is sent goes at the pace of the slowest; one that
 * takes nothing for `timeout_ms`, or is gone, is left out from then on, and when all are, the feed
 * ends.
 *
 * Threads. The executor starts and finishes a feed; wake is called on the feed's thread when it has
 * ended. While it runs nobody else may write to the sockets; reading from them is the executor's.
 */
#ifndef HF_REPLICATION_FEED_H
#define HF_REPLICATION_FEED_H

#include "keyspace/keyspace.h"
#include "net/tls.h"
#include "persist/save_job.h"

#define FEED_PREAMBLE_MAX 96

struct feed_target {
    int fd; /* taken: closed by the feed. The executor keeps one of its own (socket_duplicate) */
    struct tls *tls; /* taken (tls_share): what is written goes through it; NULL: as it is */
    char preamble[FEED_PREAMBLE_MAX]; /* sent before anything: "+FULLRESYNC ...\r\n", or "" */
};

struct feed_options {
    const struct feed_target *targets; /* copied */
    size_t count;
    int timeout_ms;
    /* The options of the RDB: version, compression, AUX fields, rate_limit, memory_limit (a slow
     * replica cannot make the snapshot hold more), threads. */
    struct save_options save;
    bool without_keys, without_functions; /* of the snapshot: not sent */
    /* A file that is sent as it is; NULL: the snapshot is. Removed at the end. */
    const char *path;
    void (*wake)(void *ctx);
    void *ctx;
};

struct feed;

/* The snapshot is taken, and released by feed_finish; NULL with a path. On failure NULL: the
 * snapshot is released and the descriptors are closed. */
struct feed *feed_start(struct keyspace *ks, struct snapshot *snapshot,
                        const struct feed_options *options, struct error *err);
/* Ends it soon. */
void feed_cancel(struct feed *f);
bool feed_ended(const struct feed *f);
/* How a snapshot gets on; of a file nothing is known. */
void feed_progress(const struct feed *f, struct save_progress *p);
/* This target is not wanted any more. */
void feed_drop(struct feed *f, size_t target);
/* Waits if it has not ended, and frees it. ok[i]: the target has got everything. False: it ended
 * early, err says why. */
bool feed_finish(struct feed *f, bool *ok, struct error *err);

#endif
