/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Versions by birth epoch: who may change a node in place, and when an old node may be freed.
 *
 * What it is. Every node of every structure remembers the epoch in which it was allocated (its
 * birth). A snapshot keeps the roots of the structures as they are and adds one to the epoch, so
 * taking one costs the same at any size. From then on a node that the snapshot can see (birth <=
 * its epoch) is immutable: a writer copies it, links the copy in its place (which copies the parent
 * too, up to the root), and *retires* the original to the newest live snapshot.
 *
 *     now      the epoch given to nodes allocated now; starts at 1
 *     frozen   the epoch of the newest live snapshot; 0 when none is live
 *     owned    birth > frozen: may be changed and freed in place. The only check on the hot path.
 *
 * Release. When snapshot n is released, each node retired to it is looked at once: if an older live
 * snapshot m < n can still see it (birth <= m) it moves to m's list, otherwise it is freed. This is
 * exact: a node retired to n was in the current tree from its birth until it was retired, so every
 * live snapshot taken in between sees it, and no other does.
 *
 * Shallow and deep. Replacing a node by its copy retires that one node (shallow: the children are
 * shared). Removing a whole value or table retires the root with all below it (deep). If the root
 * itself is frozen the whole subtree is, as everything reachable from a frozen node is frozen: one
 * record suffices. Otherwise the subtree is walked by the reclaimer: nodes with birth > seen are
 * freed, the topmost frozen nodes are handed back and retired deep.
 *
 * Invariant 1: an owned child has an owned parent.
 * Invariant 2: birth <= now for every node; a frozen node never points to a node with a later
 * birth.
 *
 * Parts. What hangs below the keys of a database belongs to one of EPOCH_PARTS parts of a *space*,
 * by the top bits of the key's hash. Who reads a snapshot may tell that it is done with a part:
 * from then on, for what belongs to that part, everything is as if that snapshot had been released.
 * So a walk gives back what it has passed, in any order and by several threads, whatever other
 * snapshots are live. The executor asks for a *view* of the epoch for a hash (epoch_part), in which
 * `frozen` is the epoch of the newest live snapshot that is not done with it, and gives it to the
 * structures instead of the epoch itself; what is retired through it waits with its part. Pages of
 * the database's own table belong to many parts, and are changed through the epoch itself. A node
 * that was changed through a view may be older than its children; invariant 1 holds in every view
 * of its part. What moves from one part to another is changed through the epoch itself from then
 * on.
 *
 * Threads. Everything here is called by the executor alone, except the reclaimer thread, which
 * gets and gives work through the domain's own queue, and readers of a snapshot, who read frozen
 * nodes without locks: the caller of epoch_snapshot_end makes sure that they are gone.
 */
#ifndef HF_STRUCTURE_EPOCH_H
#define HF_STRUCTURE_EPOCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct epoch_snapshot; /* one live snapshot's epoch and retired list */
struct epoch_private;

/* A mark is an epoch since which it is to be told what has changed, also when no snapshot is live:
 * tables keep a bit for each item and mark (structure/table.h). There are two, so that changes
 * since the last snapshot that is proven can still be told when the one that is being taken
 * fails. */
#define EPOCH_MARKS 2

struct epoch {
    uint64_t now;
    uint64_t frozen;
    uint64_t marks[EPOCH_MARKS]; /* 0: not set. Never the same epoch twice */
    uint64_t marked;             /* bit i: marks[i] is set */
    uint32_t space, part; /* of a view; EPOCH_NOWHERE otherwise */
    struct epoch_private *priv;
};

#define EPOCH_PART_BITS 8
#define EPOCH_PARTS (1U << EPOCH_PART_BITS)
#define EPOCH_NOWHERE UINT32_MAX

/* How to free something. `seen` is the epoch of the newest live snapshot that may still see parts
 * of it: 0 means free everything.
 *
 * A deep free function frees every node below `ptr` with birth > seen and calls
 * epoch_keep(ctx, kind, node, birth) for each topmost node with birth <= seen, not descending
 * there. It may run on the reclaimer thread and must touch nothing but the subtree. A shallow one
 * frees ptr alone (seen is not used). */
struct epoch_reclaim;
typedef void epoch_free_fn(struct epoch_reclaim *ctx, void *ptr, uint64_t seen);

/* The kinds of things that are retired; each module registers its own function once per process,
 * before use: registration is idempotent. EPOCH_BLOCK is one mem_alloc block. */
enum epoch_kind {
    EPOCH_BLOCK = 0, /* shallow: mem_free */
    EPOCH_TABLE,     /* deep: root word of a table with its entries and their values */
    EPOCH_DICT,      /* deep: root word of a dict */
    EPOCH_BTREE,     /* deep: root node of a btree */
    EPOCH_ROPE,      /* deep: root node of a rope */
    EPOCH_KIND_COUNT = 16
};
void epoch_register(enum epoch_kind kind, epoch_free_fn *fn);
void epoch_keep(struct epoch_reclaim *ctx, enum epoch_kind kind, void *ptr, uint64_t birth);

/* A domain: one for the keyspace; tests make their own. with_thread starts the reclaimer thread;
 * without it deep frees are done in place. */
void epoch_init(struct epoch *e, bool with_thread);
/* No snapshot may be live. Waits for the reclaimer to have freed everything. */
void epoch_deinit(struct epoch *e);

static inline bool epoch_owned(const struct epoch *e, uint64_t birth)
{
    return birth > e->frozen;
}

static inline bool epoch_has_snapshot(const struct epoch *e)
{
    return e->frozen != 0;
}

/* Whether changes have to be told to anyone: to a snapshot by copying, to a mark by its bits. */
static inline bool epoch_is_watched(const struct epoch *e)
{
    return (e->frozen | e->marked) != 0;
}

/* Tell changes after the epoch `since`, which no mark has had yet; or (0) no longer. */
static inline void epoch_set_mark(struct epoch *e, unsigned i, uint64_t since)
{
    e->marks[i] = since;
    e->marked = (e->marked & ~(1ULL << i)) | (uint64_t)(since != 0) << i;
}

/* Take a snapshot: the caller keeps the roots. Constant time. */
struct epoch_snapshot *epoch_snapshot_begin(struct epoch *e);
/* Bytes and nodes that are kept for this snapshot alone or for it and older ones. A subtree counts
 * as one node, its bytes are estimated from its weight. The bytes may be asked for on any
 * thread. */
size_t epoch_snapshot_held_bytes(const struct epoch_snapshot *s);
size_t epoch_snapshot_held_count(const struct epoch_snapshot *s);
/* The sum over all live snapshots. */
size_t epoch_held_bytes(const struct epoch *e);
/* Subtrees that the reclaimer has yet to free. */
size_t epoch_reclaiming_count(const struct epoch *e);
/* Release, in any order of snapshots. Constant time: the retired list becomes work for
 * epoch_reclaim_step, or goes to the reclaimer thread whole when no older snapshot is live. */
void epoch_snapshot_end(struct epoch *e, struct epoch_snapshot *s);

/* How many spaces later snapshots have: 0 .. count - 1. None at first. */
void epoch_set_spaces(struct epoch *e, uint32_t count);
/* The part of a hash: its top bits. */
static inline uint32_t epoch_part_of(uint64_t hash)
{
    return (uint32_t)(hash >> (64 - EPOCH_PART_BITS));
}
/* The view for what belongs to all hashes that share the first `depth` bits of `hash`. To be used
 * at once: within one command. Of no space, or when no snapshot is live, it is the epoch itself. */
struct epoch epoch_part(const struct epoch *e, uint32_t space, uint64_t hash, unsigned depth);
/* Whoever reads the snapshot is done with parts [first, last]. Any thread, once for each part. What
 * waited for it is freed by epoch_reclaim_step. */
void epoch_snapshot_done(struct epoch_snapshot *s, uint32_t space, uint32_t first, uint32_t last);

/* What the two functions below come to when a snapshot can see the node: it waits. */
void epoch_retire_frozen(struct epoch *e, void *ptr, size_t size, uint64_t birth);

/* One node that has been unlinked from the current tree, of `size` bytes (as it was asked of the
 * allocator). Frees it at once when it is owned; else it waits with the newest live snapshot. */
static inline void epoch_retire(struct epoch *e, void *ptr, size_t size, uint64_t birth)
{
    if (__builtin_expect(birth > e->frozen, 1))
        mem_free_sized(ptr, size);
    else
        epoch_retire_frozen(e, ptr, size, birth);
}

/* The same for a block without a birth of its own, `shared` saying whether a snapshot may see it
 * (the entry's bit in its segment). Treated as born at the beginning of time. */
static inline void epoch_retire_shared(struct epoch *e, void *ptr, size_t size, bool shared)
{
    if (!shared || e->frozen == 0)
        mem_free_sized(ptr, size);
    else
        epoch_retire_frozen(e, ptr, size, 0);
}

/* A whole subtree that has been unlinked. `birth` is the root node's; `ptr` may be any 64-bit word
 * that the kind's function understands. `weight` is a rough count of the nodes below: small ones
 * (less than EPOCH_SMALL_WEIGHT) are freed in place, larger ones by the reclaimer. */
#define EPOCH_SMALL_WEIGHT 64
void epoch_retire_deep(struct epoch *e, enum epoch_kind kind, void *ptr, uint64_t birth,
                       size_t weight);

/* Housekeeping in bounded steps: looks at `budget` retired nodes at most. Returns true when there
 * is more to do. Called by the executor between batches; also takes what the reclaimer gave back.
 */
bool epoch_reclaim_step(struct epoch *e, size_t budget);
/* Wait until all that can be freed is freed (tests, shutdown). */
void epoch_reclaim_all(struct epoch *e);
/* Retired nodes and subtrees not yet freed, over all snapshots and the reclaimer's queue. */
size_t epoch_pending_count(const struct epoch *e);

#endif
