/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the server tells subscribers of itself, as one line of JSON on a channel of its own:
 *
 *     __holdfast__:snapshot   a snapshot has succeeded or failed
 *     __holdfast__:log        the log has failed, its disk is full, or it is in order again
 *     __holdfast__:replication  roles, links and replicas have changed
 *
 * docs/operations.md has the members. Nothing is kept for who subscribes later.
 */
#ifndef HF_SERVER_ANNOUNCE_H
#define HF_SERVER_ANNOUNCE_H

#include "server/server.h"

#define ANNOUNCE_SNAPSHOT "__holdfast__:snapshot"
#define ANNOUNCE_LOG "__holdfast__:log"
#define ANNOUNCE_REPLICATION "__holdfast__:replication"

struct snapshot_event {
    bool ok;
    uint64_t version;
    bool incremental;
    const char *reason; /* why it was taken */
    const char *file;
    uint64_t keys, deleted, bytes;
    int64_t us;
    bool verified;
    const char *error; /* when it failed */
};
void announce_snapshot(struct server *s, const struct snapshot_event *e);
/* event: "failed", "full", "healed"; error: NULL when there is none. */
void announce_log(struct server *s, const char *event, const char *error);
/* event: docs/operations.md has them; detail: why, who, or the file. Nothing is said while the
 * server ends. */
void announce_replication(struct server *s, const char *event, const char *detail);

#endif
