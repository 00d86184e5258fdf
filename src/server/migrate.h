/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MIGRATE: keys go to another server by RESTORE and are deleted here once it has said OK to them.
 *
 * How it works. The requests for all keys are written one behind the other, each value serialised
 * just before, so that no more than one of them is in memory twice; then the replies are read in
 * order, and each OK deletes its key (unless COPY). A key whose reply never came may be on both
 * sides afterwards; it is never on none.
 *
 * The executor waits. As in Redis nothing else is served meanwhile: the move is one step for all
 * other clients. It waits for the target at most the command's time-out at a time - for the
 * connection, for each 64 KiB that are written, for each reply - and for the resolver when the host
 * is a name. Moving a server onto itself therefore only runs into the time-out.
 *
 * Connections are kept for the next MIGRATE to the same host and port with the same credentials,
 * until they have not been used for ten seconds; 64 at most. One that turns out to have been closed
 * by the target is made anew, unseen.
 */
#ifndef HF_SERVER_MIGRATE_H
#define HF_SERVER_MIGRATE_H

#include <stddef.h>
#include <stdint.h>

struct migrate_cache;

struct migrate_cache *migrate_cache_new(void);
void migrate_cache_free(struct migrate_cache *cache);
/* Close the connections that have not been used for ten seconds. By the monotonic clock. */
void migrate_cache_cron(struct migrate_cache *cache, int64_t now_us);
size_t migrate_cache_count(const struct migrate_cache *cache);

#endif
