/* SPDX-License-Identifier: BSD-3-Clause
 *
 * maxmemory: keys are evicted, as maxmemory-policy says, when more memory is in use than allowed,
 * in slices of bounded time; commands that need memory are refused while it does not help.
 *
 * What counts is what the allocator has given out, without what is kept for live snapshots and for
 * the log's and the replicas' buffers: evicting keys would not free those, and eviction would not
 * end.
 */
#ifndef HF_SERVER_MEMORY_LIMIT_H
#define HF_SERVER_MEMORY_LIMIT_H

#include "server/server.h"

struct evictor;

/* Bytes in use that do not count for maxmemory. */
size_t memory_limit_not_counted(const struct server *s);
/* And those that do. */
size_t memory_limit_used(const struct server *s);
/* Evict if need be, for one slice of time. Afterwards s->out_of_memory says whether commands that
 * need memory are to be refused. Called between commands, and by the cron. */
void memory_limit_check(struct server *s);

/* The clients whose memory, all together, is above maxmemory-clients are closed, the largest
 * first. */
void memory_limit_clients(struct server *s);

#endif
