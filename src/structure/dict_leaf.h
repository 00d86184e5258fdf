/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One leaf of a dict: a block of packed items. Private to structure/dict.c, which knows about the
 * trie, the epochs and the out-of-line blocks; here is only the layout.
 *
 *     +--------+------------------------+--------------+------+----------------------+
 *     | header | tags, 1 byte each, room| offsets,     | free | items, from the end  |
 *     |        | for a multiple of 8    | 2 bytes each |      | down, without holes  |
 *     +--------+------------------------+--------------+------+----------------------+
 *
 *     item of a set:  part            of a map:  part part        of an index:  8 bytes, 8 bytes
 *     part:           size (1 byte), bytes; or 255 and the address of a block (8 bytes)
 *     a map's value that expires:  254, when (8 bytes), part
 *
 * An offset is the distance of the item's first byte from the end of the block, so that offsets
 * stay what they are when the leaf moves to a larger or smaller block. The items of an index are
 * all of one size: item i stands 16 * (i + 1) bytes before the end, and there are no offsets.
 *
 * The tag is the hash's lowest byte, which the trie does not use above depth 56. Tags are read 16
 * at a time, beyond their number too: any block is large enough for that, as the least is 64 bytes
 * and an item takes at least 4.
 */
#ifndef HF_STRUCTURE_DICT_LEAF_H
#define HF_STRUCTURE_DICT_LEAF_H

#include "base/hash.h"
#include "base/slice.h"
#include "structure/dict.h"
#include "structure/trie.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* A leaf beyond this size splits; it is larger only when all its items have one hash. */
#define DICT_LEAF_MAX 1024U
/* The largest size of all, which 16 bits of offset can address. */
#define DICT_LEAF_LIMIT 57344U

#define DICT_PART_BLOCK 255U
#define DICT_PART_DUE 254U
#define DICT_PART_MAX (1U + DICT_INLINE_MAX)
/* What stands before the part of a value that expires. */
#define DICT_DUE_SIZE 9U
#define DICT_INDEX_ITEM 16U
#define DICT_LEAF_NONE UINT32_MAX

/* A key or value that is too large to stand in a leaf. Immutable. */
struct dict_block {
    uint64_t birth;
    uint64_t size;
    uint64_t hash; /* of a key: it is not to be computed again over megabytes */
    char bytes[];
};

/* Begins as struct trie_leaf, whose padding is used. */
struct dict_leaf {
    uint64_t birth;
    int64_t due;
    uint8_t depth;
    uint8_t kind : 2;       /* enum dict_kind */
    uint8_t has_blocks : 1; /* some part is or was a block: they have to be looked for */
    uint16_t count;
    uint16_t used; /* bytes of items */
    uint16_t size; /* bytes of the block */
    uint8_t tags[];
};

/* An item in the form in which it stands in a leaf. */
struct dict_raw {
    uint32_t size;
    bool has_block;
    int64_t due;
    char bytes[2 * DICT_PART_MAX + DICT_DUE_SIZE];
};

static inline struct dict_leaf *dict_leaf_of(trie_word word)
{
    return (struct dict_leaf *)trie_leaf_of(word);
}

static inline uint8_t dict_leaf_tag(uint64_t hash)
{
    return (uint8_t)hash;
}

static inline uint32_t dict_leaf_tag_room(uint32_t count)
{
    return (count + 7) & ~7U;
}

/* Bytes before the free room. */
static inline uint32_t dict_leaf_front(uint32_t kind, uint32_t count)
{
    return (uint32_t)sizeof(struct dict_leaf) + dict_leaf_tag_room(count) +
           (kind == DICT_INDEX ? 0 : 2 * count);
}

/* Bytes that a leaf of so many items of so many bytes needs. */
static inline uint32_t dict_leaf_need(uint32_t kind, uint32_t count, uint32_t used)
{
    return dict_leaf_front(kind, count) + used;
}

/* The block size for a need: those of the allocator's classes that are 1 or 1.5 times a power of
 * two (and 64 apart up to 256). The classes between would fit more closely, but cost more than they
 * save: all leaves of a dict grow at about the same pace, so that with each step the slabs of one
 * class empty, and these are larger for odd classes (32 blocks of 640 or 896 bytes, 16 of 768, 4 of
 * 1024) and go back to the system only when the last leaf has left. */
static inline uint32_t dict_leaf_class(uint32_t need)
{
    if (need <= 256)
        return (need + 63) & ~63U;
    /* Beyond DICT_LEAF_MAX leaves are rare, and large: all classes. */
    uint32_t step = 1U << ((need <= DICT_LEAF_MAX ? 30 : 29) - __builtin_clz(need - 1));
    return (need + step - 1) & ~(step - 1);
}

static inline bool dict_leaf_fits(const struct dict_leaf *leaf, uint32_t item_size)
{
    return dict_leaf_need(leaf->kind, leaf->count + 1U, leaf->used + item_size) <= leaf->size;
}

static inline const uint16_t *dict_leaf_offsets(const struct dict_leaf *leaf)
{
    return (const uint16_t *)(const void *)(leaf->tags + dict_leaf_tag_room(leaf->count));
}

static inline const char *dict_leaf_item(const struct dict_leaf *leaf, uint32_t i)
{
    const char *end = (const char *)leaf + leaf->size;
    if (leaf->kind == DICT_INDEX)
        return end - DICT_INDEX_ITEM * (i + 1);
    return end - dict_leaf_offsets(leaf)[i];
}

static inline struct dict_block *dict_part_block(const char *part)
{
    struct dict_block *block;
    memcpy(&block, part + 1, sizeof(block));
    return block;
}

static inline bool dict_part_is_block(const char *part)
{
    return (unsigned char)*part == DICT_PART_BLOCK;
}

/* Bytes of a part with its size byte. */
static inline uint32_t dict_part_size(const char *part)
{
    uint32_t n = (unsigned char)*part;
    return 1 + (n == DICT_PART_BLOCK ? (uint32_t)sizeof(void *) : n);
}

static inline struct slice dict_part_slice(const char *part)
{
    if (dict_part_is_block(part)) {
        const struct dict_block *block = dict_part_block(part);
        return slice_of(block->bytes, block->size);
    }
    return slice_of(part + 1, (unsigned char)*part);
}

/* Of a map's value: when it expires, and the part behind that. */
static inline bool dict_value_expires(const char *value)
{
    return (unsigned char)*value == DICT_PART_DUE;
}

static inline int64_t dict_value_due(const char *value)
{
    int64_t due = INT64_MAX;
    if (__builtin_expect(dict_value_expires(value), 0))
        memcpy(&due, value + 1, sizeof(due));
    return due;
}

static inline const char *dict_value_part(const char *value)
{
    return __builtin_expect(dict_value_expires(value), 0) ? value + DICT_DUE_SIZE : value;
}

static inline uint32_t dict_item_size(uint32_t kind, const char *item)
{
    if (kind == DICT_INDEX)
        return DICT_INDEX_ITEM;
    uint32_t n = dict_part_size(item);
    if (kind != DICT_MAP)
        return n;
    const char *part = dict_value_part(item + n);
    return (uint32_t)(part - item) + dict_part_size(part);
}

static inline struct dict_item dict_item_read(uint32_t kind, const char *item)
{
    if (kind == DICT_INDEX)
        return (struct dict_item){slice_of(item, 8), slice_of(item + 8, 8), INT64_MAX};
    struct dict_item out = {.key = dict_part_slice(item), .due = INT64_MAX};
    if (kind == DICT_MAP) {
        const char *value = item + dict_part_size(item);
        out.due = dict_value_due(value);
        out.value = dict_part_slice(dict_value_part(value));
    }
    return out;
}

static inline bool dict_item_key_is(uint32_t kind, const char *item, struct slice key)
{
    if (kind == DICT_INDEX)
        return memcmp(item, key.data, 8) == 0;
    if (key.size <= DICT_INLINE_MAX)
        return (unsigned char)*item == key.size && memcmp(item + 1, key.data, key.size) == 0;
    return dict_part_is_block(item) && slice_equal(dict_part_slice(item), key);
}

static inline uint64_t dict_item_hash(uint32_t kind, const char *item)
{
    if (kind == DICT_INDEX) {
        uint64_t hash;
        memcpy(&hash, item, sizeof(hash));
        return hash;
    }
    if (dict_part_is_block(item))
        return dict_part_block(item)->hash;
    return hash_bytes(item + 1, (unsigned char)*item);
}

/* Which of the 16 bytes from `tags` on are equal to tag: bit i for tags[i]. */
static inline uint32_t dict_leaf_match(const uint8_t *tags, uint8_t tag)
{
#if defined(__SSE2__)
    __m128i have = _mm_loadu_si128((const __m128i *)(const void *)tags);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(have, _mm_set1_epi8((char)tag)));
#else
    uint32_t mask = 0;
    for (uint32_t i = 0; i < 16; i++)
        mask |= (uint32_t)(tags[i] == tag) << i;
    return mask;
#endif
}

/* The first item with this key from index `from` on, or DICT_LEAF_NONE. */
static inline uint32_t dict_leaf_find(const struct dict_leaf *leaf, uint32_t from, uint8_t tag,
                                      struct slice key)
{
    uint32_t count = leaf->count, kind = leaf->kind;
    for (uint32_t base = from & ~15U; base < count; base += 16) {
        uint32_t mask = dict_leaf_match(leaf->tags + base, tag);
        if (count - base < 16)
            mask &= (1U << (count - base)) - 1;
        if (base < from)
            mask &= ~0U << (from - base);
        for (; mask; mask &= mask - 1) {
            uint32_t i = base + (uint32_t)__builtin_ctz(mask);
            if (dict_item_key_is(kind, dict_leaf_item(leaf, i), key))
                return i;
        }
    }
    return DICT_LEAF_NONE;
}

/* A new leaf that is to hold `count` items, none of which are filled in yet. */
struct dict_leaf *dict_leaf_new(uint32_t kind, uint32_t depth, uint64_t birth, uint32_t size,
                                uint32_t count);
/* Fill item i of a new leaf; from 0 on, each once. */
void dict_leaf_fill(struct dict_leaf *leaf, uint32_t i, uint8_t tag, const char *item,
                    uint32_t size);
/* The same items in a block of another size, which must be enough. */
struct dict_leaf *dict_leaf_copy(const struct dict_leaf *leaf, uint64_t birth, uint32_t size);

/* When the first of a leaf's items expires; INT64_MAX: none does. */
int64_t dict_leaf_first_due(const struct dict_leaf *leaf);

/* Append an item, for which there must be room. The leaf's bound is lowered, not those above it. */
void dict_leaf_put(struct dict_leaf *leaf, uint8_t tag, const struct dict_raw *raw);
/* Take item i out; the last item then has its index. */
void dict_leaf_take(struct dict_leaf *leaf, uint32_t i);

#endif
