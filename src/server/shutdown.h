/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The way down, for SHUTDOWN and for signals: replicas that lag are waited for, the data is saved,
 * the server stops.
 *
 *     NONE ──replicas lag──> WAITING ──they have all, or shutdown-timeout is over──> save ──> stop
 *       │                       └──SHUTDOWN ABORT──> NONE                           ^ │
 *       └──none lags, NOW, shutdown-timeout 0───────────────────────────────────────┘ └fails─> NONE
 *
 * From WAITING on clients that want to write are put off, as by CLIENT PAUSE ... WRITE, so that
 * whatever was acknowledged before is in a stream whose end a replica can reach: one that takes
 * over then has all of it. Clients that have sent SHUTDOWN wait meanwhile; they get an error when
 * the server goes on.
 *
 * Replicas that never acknowledge anything (SYNC, as old tools send it) are not waited for. A
 * replica that has replicas of its own waits until they have what it had itself when the wait
 * began: its primary goes on.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_SHUTDOWN_H
#define HF_SERVER_SHUTDOWN_H

#include <stdbool.h>
#include <stdint.h>

struct server;
struct text;

struct shutdown {
    bool waiting;
    int bits;            /* enum shutdown_bits of config.h */
    int64_t end_us;      /* of the wait; monotonic */
    uint64_t target;     /* on a replica: the LSN that its replicas are to reach */
    uint64_t asked_lsn;  /* where the stream ended when the replicas were asked to acknowledge */
};

enum shutdown_result {
    SHUTDOWN_STOPS, /* server_stop was called */
    SHUTDOWN_WAITS, /* for replicas; also when that was so already, whose options then hold */
    SHUTDOWN_FAILED /* the data could not be saved, and the server goes on */
};

/* Go down; inside a command or between turns. */
enum shutdown_result shutdown_begin(struct server *s, int bits);
/* At the end of a turn and by the cron, while it waits. */
void shutdown_step(struct server *s);
/* False: nothing waits. */
bool shutdown_abort(struct server *s);
/* The line of INFO while it waits. */
void shutdown_info(const struct server *s, struct text *out);

#endif
