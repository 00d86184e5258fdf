/* SPDX-License-Identifier: BSD-3-Clause
 *
 * FAILOVER: a primary and one of its replicas change places, and no write is lost.
 *
 *     NONE ──FAILOVER──> WAITING ──a replica has acknowledged all──> HANDING_OVER ──it answers┐
 *                          │  └──TIMEOUT is over: FORCE──────────────────^   │                v
 *                          │                                                 │        NONE, replica
 *                          └──TIMEOUT is over, ABORT──> NONE (primary) <─────┘ ABORT, it refuses
 *
 * From WAITING on clients that want to write are put off, as by CLIENT PAUSE ... WRITE, so that the
 * stream has an end that a replica can reach. HANDING_OVER: this server is a replica of the target
 * already, and asks it by PSYNC id lsn+1 FAILOVER to be a primary and to go on from there; the
 * clients wait until it has, and are then told -READONLY. A target that cannot be reached is tried
 * again until ABORT; without FORCE, if it was not asked, TIMEOUT ends that too.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_FAILOVER_H
#define HF_SERVER_FAILOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "replication/sync.h"

struct server;
struct replica;

enum failover_state { FAILOVER_NONE, FAILOVER_WAITING, FAILOVER_HANDING_OVER };

struct failover {
    enum failover_state state;
    char host[256]; /* the target; "": the first replica that has everything */
    int port;
    bool force;
    bool asked;         /* the target may have got the request to take over */
    int64_t end_us;     /* when TIMEOUT is over, monotonic; 0: never */
    uint64_t asked_lsn; /* where the stream ended when the replicas were asked to acknowledge */
};

static inline bool failover_is_on(const struct failover *f)
{
    return f->state != FAILOVER_NONE;
}
/* For INFO. */
const char *failover_state_name(const struct failover *f);
/* At the end of a turn and by the timer, while one is on. */
void failover_step(struct server *s);
/* HANDING_OVER: what came of asking the target. True: the result is to be taken like any other;
 * false: it is dealt with, and its connection (if any) is still the caller's. */
bool failover_take(struct server *s, const struct sync_result *r);
/* PSYNC ... FAILOVER by the primary of this server, which is at `lsn`: become a primary. An error
 * to reply; NULL: done. `regression`: it would rather stay primary than lose what it has more. */
const char *failover_take_over(struct server *s, struct slice id, uint64_t lsn, bool regression);

#endif
