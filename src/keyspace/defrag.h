/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Active defragmentation: a walk over all keys of all databases that moves blocks out of the
 * emptier slabs of the allocator (base/mem_move.h), in short steps between commands.
 *
 * Everything that belongs to keys is looked at: pages and segments of the databases, entries with
 * what stands in them (short strings, small collections), and all nodes below them (chunks of long
 * strings, leaves and nodes of large collections and streams, large members by themselves). A large
 * value takes several steps, between which it may change, or go. Not moved: what is not data
 * (clients, the log's stream, scripts, names of deleted keys that are kept for incremental
 * snapshots), and what was unlinked and waits to be freed.
 *
 * Nothing outside of the keyspace knows where its blocks are beyond one command, but snapshots:
 * while one is live the walk rests, as blocks that it holds must stay, and all that it does not
 * hold is hardly worth a pass of its own.
 */
#ifndef HF_KEYSPACE_DEFRAG_H
#define HF_KEYSPACE_DEFRAG_H

#include "base/mem_move.h"
#include "keyspace/keyspace.h"

struct defrag_stats {
    struct mem_mover blocks;
    uint64_t keys_moved, keys_stayed; /* with something that moved; with nothing */
};

struct defrag *defrag_new(struct keyspace *ks);
void defrag_free(struct defrag *d);

enum defrag_result {
    DEFRAG_MORE, /* the time is up */
    DEFRAG_DONE, /* all keys have been gone through; the next step begins anew */
    DEFRAG_RESTS /* a snapshot is live: nothing was done */
};
/* One step: for about `budget_us` by the clock. No value of more than `fields` blocks is finished
 * in one go with its key: as many are looked at between two looks at the clock at most. */
enum defrag_result defrag_step(struct defrag *d, int64_t budget_us, int64_t (*clock_us)(void),
                               uint64_t fields);
/* Begin the next pass at the first key. */
void defrag_restart(struct defrag *d);

/* Since the beginning, or since they were reset. */
const struct defrag_stats *defrag_get_stats(const struct defrag *d);
void defrag_reset_stats(struct defrag *d);

#endif
