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
 *     slot:  16 bits of the hash | 48 bits of address, the low 4 of which are 0 there. Bits 0 and
 *            1: the item was put in or changed after mark 0 and 1 (structure/epoch.h); bits 2 and
 *            3: it was not there at mark 0 and 1
 *     state: bit i: the item in slot i was allocated after the segment was (it may be changed and
 *            freed in place as far as this segment is owned); bit 7: an item was put behind this
 *            bucket although its home is this one or one before
 *
 * Which bits. For a segment whose word stands in a page of level L (0 for the root), `q` are the
 * 24 bits [8L, 8L+24) of the hash, but the last 8 of them, which are the tag, are 1 where they
 * would be 0. The first 16 stand in the slot. The home bucket is the position of q in the segment's
 * range, scaled to the number of buckets, so it grows with the hash. All of it can be told from tag
 * and slot: a segment grows, splits and merges without touching the items, except once in eight
 * splits, when it moves down to a new page. A hit costs two cache misses: bucket and item; a miss
 * mostly one, as an item is touched only where tag and slot agree. Size and depth of the segment
 * are kept in the meta bits of the directory's word, so the header line is not touched.
 *
 * An item whose home is full goes to the next bucket that is not, round the end to the first if
 * need be. Invariant: bit 7 of a bucket is set exactly when some item passed over it, and then the
 * bucket is full. A lookup follows the bits; a removal fills the hole from behind and clears them.
 *
 * The state bits are what makes entries versioned without an epoch of their own: see DESIGN.md.
 * A segment that is copied for a snapshot starts with all bits clear; one that is rebuilt while it
 * is owned keeps them, as no live snapshot is as young as either.
 *
 * Marks. A segment's header says for each mark which epoch its bits count from (`since`). When the
 * mark has been set anew the bits count for nothing, and are cleared before the first of them is
 * set. So setting a mark costs nothing, and table_walk_changed passes over a segment that has not
 * been changed since by a look at its header. The bits go with the items wherever a segment is
 * copied, resized, split or merged; nothing of this touches births and what a snapshot sees.
 */
#ifndef HF_STRUCTURE_TABLE_H
#define HF_STRUCTURE_TABLE_H

#include <assert.h>
#include <string.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

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
    bool (*same)(const void *item, const void *other); /* whether they have one key */
};

/* The root. Embedded by its owner; copied by value into a snapshot, where it stays readable. */
struct table {
    trie_word root;
    uint64_t count;
    const struct table_type *type;
    uint32_t space; /* whose parts its items belong to (structure/epoch.h); EPOCH_NOWHERE: none */
};

void table_init(struct table *t, const struct table_type *type);

/* --- the layout: here so that lookups can be inlined --------------------------------------------
 */

#define TABLE_BUCKET_SLOTS 7
#define TABLE_PASSED 0x80 /* bit 7 of the state */
#define TABLE_Q_BITS 24

struct table_bucket {
    uint8_t tags[TABLE_BUCKET_SLOTS];
    uint8_t state;
    uint64_t slots[TABLE_BUCKET_SLOTS];
};

struct table_segment {
    struct trie_leaf head;
    uint32_t count;
    uint32_t unused;
    uint64_t since[EPOCH_MARKS]; /* what the items' bits for each mark count from */
    uint64_t unused2[2];
    struct table_bucket buckets[];
};

/* The meta bits of a segment's word: bits 0-2: its lines / 8 - 1; bits 3-6: how many bits of its
 * depth are beyond its level's first; bits 7-9: the level. */
static inline uint32_t table_meta_buckets(uint32_t meta)
{
    return ((meta & 7) + 1) * 8 - 1;
}

static inline uint32_t table_meta_offset(uint32_t meta)
{
    return (meta >> 3) & 15;
}

static inline uint32_t table_meta_level(uint32_t meta)
{
    return (meta >> 7) & 7;
}

static inline uint32_t table_home(uint32_t q, uint32_t meta)
{
    uint32_t x = (q << table_meta_offset(meta)) & ((1U << TABLE_Q_BITS) - 1);
    return (x * table_meta_buckets(meta)) >> TABLE_Q_BITS;
}

static inline uint32_t table_q(uint64_t hash, uint32_t level)
{
    uint32_t q = (uint32_t)((hash << (TRIE_PAGE_BITS * level)) >> (64 - TABLE_Q_BITS));
    return q | ((q & 0xff) == 0);
}

/* Bit i is set where tag i is equal to `tag`; tag 0 finds empty slots. */
static inline uint32_t table_match_tags(const struct table_bucket *bucket, uint32_t tag)
{
#ifdef __SSE2__
    __m128i tags = _mm_loadl_epi64((const __m128i *)(const void *)bucket);
    __m128i equal = _mm_cmpeq_epi8(tags, _mm_set1_epi8((char)tag));
    return (uint32_t)_mm_movemask_epi8(equal) & 0x7f;
#else
    uint32_t found = 0;
    for (uint32_t i = 0; i < TABLE_BUCKET_SLOTS; i++)
        found |= (uint32_t)(bucket->tags[i] == tag) << i;
    return found;
#endif
}

/* A slot's bits for the marks. */
#define TABLE_NEW_SHIFT EPOCH_MARKS
#define TABLE_MARK_BITS 15ULL
static_assert(TABLE_NEW_SHIFT + EPOCH_MARKS == 4, "items are aligned to 16 bytes");

static inline void *table_slot_item(uint64_t slot)
{
    return (void *)(uintptr_t)(slot & 0x0000fffffffffff0ULL);
}

/* Hints, to be given for a batch of hashes before the finds: first the bucket, then the item. */
static inline void table_prefetch_bucket(const struct table *t, uint64_t hash)
{
    trie_word word = trie_find(t->root, hash);
    if (word == 0)
        return;
    uint32_t meta = trie_meta_of(word);
    const struct table_segment *segment = (const struct table_segment *)trie_leaf_of(word);
    __builtin_prefetch(&segment->buckets[table_home(table_q(hash, table_meta_level(meta)), meta)]);
}

/* The same for who is going to insert or change an item, which needs the segment's head, too. */
static inline void table_prefetch_for_change(const struct table *t, uint64_t hash)
{
    trie_word word = trie_find(t->root, hash);
    if (word == 0)
        return;
    uint32_t meta = trie_meta_of(word);
    const struct table_segment *segment = (const struct table_segment *)trie_leaf_of(word);
    __builtin_prefetch(&segment->buckets[table_home(table_q(hash, table_meta_level(meta)), meta)]);
    __builtin_prefetch(segment);
}

typedef bool table_match_fn(const void *item, const char *key, size_t size);

/* The one lookup. With match == NULL it gives the first item whose tag and slot agree. */
static inline __attribute__((always_inline)) void *table_look_up(const struct table *t,
                                                                 uint64_t hash, const char *key,
                                                                 size_t size, table_match_fn *match)
{
    trie_word word = trie_find(t->root, hash);
    if (__builtin_expect(word == 0, 0))
        return NULL;
    uint32_t meta = trie_meta_of(word);
    uint32_t q = table_q(hash, table_meta_level(meta));
    uint32_t home = table_home(q, meta), at = home;
    const struct table_segment *segment = (const struct table_segment *)trie_leaf_of(word);
    for (;;) {
        const struct table_bucket *bucket = &segment->buckets[at];
        uint32_t found = table_match_tags(bucket, q & 0xff);
        while (found) {
            uint64_t slot = bucket->slots[__builtin_ctz(found)];
            if (__builtin_expect(slot >> 48 == q >> 8, 1)) {
                void *item = table_slot_item(slot);
                if (!match || match(item, key, size))
                    return item;
            }
            found &= found - 1;
        }
        if (__builtin_expect(!(bucket->state & TABLE_PASSED), 1))
            return NULL;
        if (++at == table_meta_buckets(meta))
            at = 0;
        if (at == home)
            return NULL;
    }
}

/* Looks at the bucket's tags and prefetches the likely item; returns it (not verified) or NULL. */
static inline void *table_prefetch_item(const struct table *t, uint64_t hash)
{
    void *item = table_look_up(t, hash, NULL, 0, NULL);
    __builtin_prefetch(item);
    return item;
}

/* The item with this key, or NULL. Reads only. */
void *table_find(const struct table *t, uint64_t hash, const char *key, size_t size);

/* The same, for callers on a hot path who know the type: `match`, the type's own, is inlined. */
static inline void *table_find_with(const struct table *t, uint64_t hash, const char *key,
                                    size_t size, table_match_fn *match)
{
    return table_look_up(t, hash, key, size, match);
}

/* A found or free place. Valid until the table is next changed by other means than this place. */
struct table_place {
    struct trie_path path;
    uint64_t hash;
    uint32_t bucket, slot;
    uint32_t at_marks; /* bit i: the item's key was there at mark i, and always since */
};

/* Before an item is changed in place, replaced, or removed: make its segment owned (copying it and
 * the pages above it where a snapshot sees them) and note the change for the marks. `item` must be
 * in the table. */
void table_own(struct table *t, struct epoch *e, uint64_t hash, const void *item,
               struct table_place *place);
/* What table_own comes to for an item that is changed in place while no snapshot is live. */
void table_note_change(struct table *t, const struct epoch *e, uint64_t hash, const void *item);
/* Whether the item itself may be changed and freed in place: false means that a live snapshot may
 * see it, so it has to be copied and the original retired (table_replace does that). */
bool table_item_owned(const struct table *t, const struct epoch *e,
                      const struct table_place *place);
/* Put another block in the place of the item (same key and hash). The old block is not freed or
 * retired: that is the caller's, before or after. Marks the slot as owned. */
void table_replace(struct table *t, struct table_place *place, void *item);
/* Lower the earliest expiry known above the item. To be called when its expiry was set. */
void table_note_due(struct table *t, struct table_place *place, int64_t due);

/* Add an item whose key is not there, and which no live snapshot sees. Notes its expiry. May grow
 * or split one segment. */
void table_insert(struct table *t, struct epoch *e, uint64_t hash, void *item,
                  struct table_place *place /* may be NULL */);
/* Take the item out (place from table_own). Does not free it. May shrink or merge segments. */
void table_remove(struct table *t, struct epoch *e, struct table_place *place);

/* Scanning for SCAN: calls fn for every item whose home lies in a run of whole buckets from
 * `cursor` on, going on until at least `want` items were given or `max_buckets` were visited.
 * Returns the next cursor, 0 at the end. Every item that is there all through a scan is given at
 * least once, whatever grew, split or merged in between, and mostly just once: items behind the
 * cursor are told by the bits in their slots. A cursor is the top 52 bits of the hash to go on
 * from, which clients that keep it as a double or a signed integer can do without loss; any value
 * is safe. fn must not change the table. */
uint64_t table_scan(const struct table *t, uint64_t cursor, size_t want, size_t max_buckets,
                    void (*fn)(void *ctx, void *item), void *ctx);

/* Walking a range of hashes [first, last] of the current or a frozen table, segment after segment;
 * fn returns false to stop. Returns the hash to go on from; *done is set when the range is through.
 * At most max_segments segments are visited (0: no bound). When fn stops the walk, the hash
 * returned is where the segment begins, whose items would be given again. Safe on another thread
 * for a frozen table. */
uint64_t table_walk(const struct table *t, uint64_t first, uint64_t last, size_t max_segments,
                    bool (*fn)(void *ctx, void *item), void *ctx, bool *done);

/* The same for the items alone that were put in or changed after mark `mark`, which stood at
 * `since` when the table was current. Costs a look at the header of each segment, and the items
 * given. */
uint64_t table_walk_changed(const struct table *t, unsigned mark, uint64_t since, uint64_t first,
                            uint64_t last, size_t max_segments,
                            bool (*fn)(void *ctx, void *item), void *ctx, bool *done);

/* Moving (base/mem_move.h) while no snapshot is live: the segment that the cursor stands on, and
 * the pages that begin with it, are moved when it is come to; then fn is given its items one after
 * another, moves them and what hangs below them, and returns where they are now. Returns when the
 * segment is through or fn has set *stop. The table may be changed between two calls: what is then
 * passed over stays where it is. False: the table has been gone through, and the cursor stands at
 * its beginning. A cursor of zeros does at first. */
struct mem_mover;
struct table_cursor {
    uint64_t hash; /* the first of the segment */
    uint32_t slot; /* of all its buckets, the next one */
};
bool table_move(struct table *t, struct mem_mover *m, struct table_cursor *cursor,
                void *(*fn)(void *ctx, void *item, bool *stop), void *ctx);

/* A random item: a random segment weighted by hash range, then a random filled slot; the bias of
 * the ranges is small. NULL when empty. r is a fresh random number. */
void *table_random(const struct table *t, uint64_t r);
/* Up to `want` items from a random place, for sampling (eviction). Returns how many. */
size_t table_sample(const struct table *t, uint64_t r, void **items, size_t want);

/* Active expiry: visits segments whose earliest expiry is <= now, beginning at hash *cursor, at
 * most max_segments (and looks at the headers of at most 16 times as many), and collects up to
 * `want` items that are due. Where a visited owned segment's or page's bound was too low it is
 * corrected. Advances *cursor; returns the count; *cursor is 0 when the table has been gone
 * through. When `want` is reached within a segment *cursor stays on it: who calls again without
 * having removed the items is given them again. */
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
