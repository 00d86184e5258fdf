/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table: a trie (structure/trie.h) whose leaves are segments of buckets that point to items:
 * the keyspace's entries. It serves the databases. What an item is, how its key is compared and
 * hashed and how it is freed is told by a table_type.
 *
 * A segment is one block of 64-byte lines, 8 to 64 of them: a header line and 7 to 63 buckets. The
 * sizes in between (in steps of a jemalloc class) are there so that segments are always well
 * filled: one grows by a step when it is full and splits in two at 64 lines, so memory per item
 * does not swing with the number of items as it does where a table only doubles.
 *
 *     bucket, 64 bytes:
 *     +------+------+ .. +------+-------+--------+--------+ .. +--------+
 *     | tag0 | tag1 |    | tag6 | state | slot 0 | slot 1 |    | slot 6 |
 *     +------+------+ .. +------+-------+--------+--------+ .. +--------+
 *       1 byte each (0 = empty)  1 byte   8 bytes each
 *
 *     slot:  16 bits of the hash | 48 bits of address
 *     state: bit i: the item in slot i was allocated after the segment was (it may be changed and
 *            freed in place as far as this segment is owned); bit 7: items whose home this bucket
 *            is were put into a later bucket
 *
 * The home bucket of a hash follows from its bits after the segment's depth, in hash order. The tag
 * (never 0) and the 16 bits in the slot are those after the level's first bit, so that a segment
 * can grow or split without touching the items, except once in eight splits, when a leaf moves down
 * to a new page. A hit costs two cache misses: bucket and item. The size of the segment is kept in
 * the meta bits of the directory's word, so the header line is not touched.
 *
 * The state bits are what makes entries versioned without an epoch of their own: see DESIGN.md.
 * A segment that is copied for a snapshot starts with all bits clear.
 */
#ifndef HF_STRUCTURE_TABLE_H
#define HF_STRUCTURE_TABLE_H

#include "base/slice.h"
#include "structure/epoch.h"
#include "structure/trie.h"

struct table_type {
    bool (*match)(const void *item, const char *key, size_t size);
    uint64_t (*hash)(const void *item);
    size_t (*size)(const void *item); /* bytes of its block, for the accounting */
    int64_t (*due)(const void *item); /* its expiry in ms; INT64_MAX when it has none */
    /* Free what hangs below the item (nodes with their own birth), not the item's own block:
     * nodes with birth <= seen are handed to epoch_keep. */
    void (*free_below)(struct epoch_reclaim *ctx, void *item, uint64_t seen);
};

/* The root. Embedded by its owner; copied by value into a snapshot, where it stays readable. */
struct table {
    trie_word root;
    uint64_t count;
    const struct table_type *type;
};

void table_init(struct table *t, const struct table_type *type);

/* Hints, to be given for a batch of hashes before the finds: first the bucket, then the item. */
void table_prefetch_bucket(const struct table *t, uint64_t hash);
/* Looks at the bucket's tags and prefetches the likely item; returns it (not verified) or NULL. */
void *table_prefetch_item(const struct table *t, uint64_t hash);

/* The item with this key, or NULL. Reads only. */
void *table_find(const struct table *t, uint64_t hash, const char *key, size_t size);

/* A found or free place. Valid until the table is next changed by other means than this place. */
struct table_place {
    struct trie_path path;
    uint64_t hash;
    uint32_t bucket, slot;
};

/* Before an item is changed in place, replaced, or removed: make its segment owned (copying it and
 * the pages above it where a snapshot sees them). `item` must be in the table. */
void table_own(struct table *t, struct epoch *e, uint64_t hash, const void *item,
               struct table_place *place);
/* Whether the item itself may be changed and freed in place: false means that a live snapshot may
 * see it, so it has to be copied and the original retired (table_replace does that). */
bool table_item_owned(const struct table *t, const struct epoch *e,
                      const struct table_place *place);
/* Put another block in the place of the item (same key and hash). The old block is not freed or
 * retired: that is the caller's, before or after. Marks the slot as owned. */
void table_replace(struct table *t, struct table_place *place, void *item);
/* Lower the earliest expiry known above the item. To be called when its expiry was set. */
void table_note_due(struct table *t, struct table_place *place, int64_t due);

/* Add an item whose key is not there. May grow or split one segment. */
void table_insert(struct table *t, struct epoch *e, uint64_t hash, void *item,
                  struct table_place *place /* may be NULL */);
/* Take the item out (place from table_own). Does not free it. May shrink or merge segments. */
void table_remove(struct table *t, struct epoch *e, struct table_place *place);

/* Scanning for SCAN: calls fn for every item whose home lies in a run of whole buckets from
 * `cursor` on, going on until at least `want` items were given or `max_buckets` were visited.
 * Returns the next cursor, 0 at the end. Every item that is there all through a scan is given at
 * least once, whatever grew, split or merged in between, and exactly once if it did not move. */
uint64_t table_scan(const struct table *t, uint64_t cursor, size_t want, size_t max_buckets,
                    void (*fn)(void *ctx, void *item), void *ctx);

/* Walking a range of hashes [first, last] of the current or a frozen table, segment after segment;
 * fn returns false to stop. Returns the hash to go on from; *done is set when the range is through.
 * At most max_segments segments are visited (0: no bound). Safe on another thread for a frozen one. */
uint64_t table_walk(const struct table *t, uint64_t first, uint64_t last, size_t max_segments,
                    bool (*fn)(void *ctx, void *item), void *ctx, bool *done);

/* A random item: a random segment weighted by hash range, then a random filled slot; the bias of
 * the ranges is small. NULL when empty. r is a fresh random number. */
void *table_random(const struct table *t, uint64_t r);
/* Up to `want` items from a random place, for sampling (eviction). Returns how many. */
size_t table_sample(const struct table *t, uint64_t r, void **items, size_t want);

/* Active expiry: visits segments whose earliest expiry is <= now, beginning at hash *cursor, at
 * most max_segments, and collects up to `want` items that are due. Where a visited owned segment's
 * bound was too low it is corrected. Advances *cursor; returns the count; *cursor is 0 when the
 * table has been gone through. */
size_t table_collect_due(struct table *t, struct epoch *e, int64_t now, uint64_t *cursor,
                         size_t max_segments, void **items, size_t want);

/* Empty the table: constant time for the caller; the items are retired deep. */
void table_clear(struct table *t, struct epoch *e);

/* Register EPOCH_TABLE. Once per process, with the one type that tables have. */
void table_register(const struct table_type *type);

/* Bytes of pages and segments, not of the items (walks the directory: for reports). */
size_t table_overhead_bytes(const struct table *t);
/* Check every invariant; aborts with a message when one does not hold. For tests. */
void table_check(const struct table *t, const struct epoch *e);

#endif
