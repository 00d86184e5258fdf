/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One segment of a table: its sizes, its slots and how an item is put in. Private to the files of
 * the table (table.c, table_walk.c, table_build.c); the layout is drawn in table.h.
 */
#ifndef HF_STRUCTURE_TABLE_SEGMENT_H
#define HF_STRUCTURE_TABLE_SEGMENT_H

#include <assert.h>

#include "base/mem.h"
#include "structure/table.h"

static_assert(sizeof(struct table_bucket) == 64, "a bucket is a cache line");
static_assert(sizeof(struct table_segment) == 64, "so is a segment's header");

/* Sizes of segments: class c has 8 * (c + 1) lines of 64 bytes, all of them classes of jemalloc. */
#define CLASS_BYTES 512U
#define CLASS_LAST 7U
#define SEGMENT_SLOTS_MAX (63 * TABLE_BUCKET_SLOTS)

/* A segment grows or splits when it holds this many 64ths of its slots. The higher, the less memory
 * and the more items that are not in their home bucket. */
#define LOAD_64THS 60U

static const uint32_t class_limit[CLASS_LAST + 1] = {
#define LIMIT(c) (((c) + 1) * 8 - 1) * TABLE_BUCKET_SLOTS *LOAD_64THS / 64
    LIMIT(0U), LIMIT(1U), LIMIT(2U), LIMIT(3U), LIMIT(4U), LIMIT(5U), LIMIT(6U), LIMIT(7U),
#undef LIMIT
};

static inline uint32_t meta_class(uint32_t meta)
{
    return meta & 7;
}

static inline uint32_t meta_of(uint32_t class, uint32_t depth)
{
    uint32_t level = depth ? (depth - 1) / TRIE_PAGE_BITS : 0;
    return class | (depth - TRIE_PAGE_BITS * level) << 3 | level << 7;
}

static inline size_t meta_bytes(uint32_t meta)
{
    return CLASS_BYTES * (meta_class(meta) + 1);
}

static inline struct table_segment *segment_of(trie_word word)
{
    return (struct table_segment *)trie_leaf_of(word);
}

/* The smallest class that holds n items and some more before it grows. */
static inline uint32_t class_for(uint32_t n)
{
    uint32_t class = 0;
    while (class < CLASS_LAST && n + (class + 1) >= class_limit[class])
        class ++;
    return class;
}

static inline struct table_segment *segment_new(const struct epoch *e, uint32_t class,
                                                uint32_t depth, int64_t due)
{
    struct table_segment *s = mem_alloc(CLASS_BYTES * (class + 1));
    memset(s, 0, CLASS_BYTES * (class + 1));
    s->head = (struct trie_leaf){.birth = e->now, .due = due, .depth = (uint8_t)depth};
    memcpy(s->since, e->marks, sizeof(s->since));
    return s;
}

/* Of a slot: the bits that say for these marks that it was changed since and is new. */
static inline uint64_t slot_bits(uint64_t marks)
{
    return marks | marks << TABLE_NEW_SHIFT;
}

static inline uint64_t slot_of(uint32_t q, const void *item)
{
    assert((uintptr_t)item >> 48 == 0 && ((uintptr_t)item & TABLE_MARK_BITS) == 0);
    return (uint64_t)(q >> 8) << 48 | (uintptr_t)item;
}

static inline uint32_t slot_q(const struct table_bucket *bucket, uint32_t i)
{
    return (uint32_t)(bucket->slots[i] >> 48) << 8 | bucket->tags[i];
}

static inline uint32_t slots_filled(const struct table_bucket *bucket)
{
    return table_match_tags(bucket, 0) ^ 0x7f;
}

static inline uint32_t bucket_after(uint32_t at, uint32_t buckets)
{
    return at + 1 == buckets ? 0 : at + 1;
}

/* Put an item where there is room for it. The segment must have a free slot. */
static inline void segment_add(struct table_segment *s, uint32_t meta, uint32_t q, uint64_t slot,
                               bool owned, uint32_t *bucket_index, uint32_t *slot_index)
{
    uint32_t at = table_home(q, meta);
    struct table_bucket *bucket = &s->buckets[at];
    uint32_t empty;
    while (__builtin_expect((empty = table_match_tags(bucket, 0)) == 0, 0)) {
        bucket->state |= TABLE_PASSED;
        at = bucket_after(at, table_meta_buckets(meta));
        bucket = &s->buckets[at];
    }
    uint32_t i = (uint32_t)__builtin_ctz(empty);
    bucket->tags[i] = (uint8_t)q;
    bucket->slots[i] = slot;
    bucket->state |= (uint8_t)((uint32_t)owned << i);
    s->count++;
    *bucket_index = at;
    *slot_index = i;
}

#endif
