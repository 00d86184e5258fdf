/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The nodes of the btree, private to btree*.c: leaves with their items, and interior nodes.
 *
 * Both begin with a tag (birth, height, a flag), the size of their block and a count, so that a
 * subtree can be walked from its top node alone.
 *
 *     tag:   63          16 15       8 7       0
 *            +-------------+----------+---------+
 *            |    birth    |  height  |  flags  |
 *            +-------------+----------+---------+
 *
 * Leaf, height 0. A slot says how far before the block's end its item starts (so that a leaf can be
 * copied to a larger block without changing slots), and, where it fits, how large the item is:
 *
 *     slot:  15    10 9                0
 *            +--------+-----------------+
 *            |  code  |    distance     |
 *            +--------+-----------------+
 *
 *     code 0..61   the item's bytes, as many as the code says
 *     code 62      a byte with the size, then the item's bytes
 *     code 63      the address of a struct btree_large, then the item's first 8 bytes
 *
 * What a slot points to is a payload. Payloads fill the leaf from the end; `heap` is how many bytes
 * lie between the lowest and the block's end, `dead` how many of these belong to removed items.
 *
 * Interior node: four arrays of `capacity` elements behind the header: the first 8 bytes of each
 * child's first item (its word), the children, the numbers of items below them, and the bits.
 *
 * Bits serve where words are equal, as with members of equal score: bit i is where the first items
 * of children i-1 and i differ first, in children with equal words; else it is 0. A key is then
 * placed among the children by looking at some of its own bits and at one child's first item
 * (Ferguson: "Bit-Tree: a data structure for fast file processing", 1992), where a binary search
 * would look at one child after another. The position of a bit is 16 times that of its byte, plus 1
 * to 8 from the highest to the lowest; plus 0 for the bit that says whether there is such a byte.
 * The nodes of an unordered tree carry a flag: their words and bits are not kept up and mean
 * nothing.
 */
#ifndef HF_STRUCTURE_BTREE_NODE_H
#define HF_STRUCTURE_BTREE_NODE_H

#include <assert.h>
#include <endian.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/slice.h"
#include "structure/btree.h"
#include "structure/epoch.h"

#define BTREE_FLAG_LARGE 1U     /* the leaf may hold items of code 63 */
#define BTREE_FLAG_UNORDERED 2U /* the interior node keeps no words and bits */

struct btree_head {
    uint64_t tag;
    uint16_t size;
    uint16_t count;
};

struct btree_leaf {
    uint64_t tag;
    uint16_t size; /* of the block */
    uint16_t count;
    uint16_t heap, dead;
    uint16_t slots[];
};

#define BTREE_LEAF_MAX 1024
#define BTREE_LEAF_MERGE (BTREE_LEAF_MAX * 3 / 4)
#define BTREE_DISTANCE_BITS 10
#define BTREE_CODE_SIZED 62U
#define BTREE_CODE_LARGE 63U
static_assert(BTREE_LEAF_MAX - sizeof(struct btree_leaf) < 1 << BTREE_DISTANCE_BITS,
              "a distance fits its bits");
static_assert(BTREE_INLINE_MAX <= UINT8_MAX, "a size fits its byte");

struct btree_node {
    uint64_t tag;
    uint16_t size; /* of the block */
    uint16_t count;
    uint16_t capacity;
    uint16_t unused;
    uint64_t arrays[];
};

#define BTREE_NODE_MAX 58 /* children: 16 + 58 * 26 bytes fit a class of 1536 */
#define BTREE_BIT_UNKNOWN UINT16_MAX /* the items are equal, or differ far behind */
#define BTREE_NODE_MERGE (BTREE_NODE_MAX * 3 / 4)

/* An item of more than BTREE_INLINE_MAX bytes. Immutable. */
struct btree_large {
    uint64_t birth;
    uint64_t size;
    char bytes[];
};

/* An item about to be put into a leaf. */
struct btree_cell {
    struct slice item;
    struct btree_large *large;
    uint16_t code;
    uint16_t size; /* of the payload */
};

/* A child, as its parent knows it. */
struct btree_branch {
    void *node;
    uint64_t count;
    uint64_t word;
};

static inline uint64_t btree_birth(const void *node)
{
    return ((const struct btree_head *)node)->tag >> 16;
}

static inline int btree_height(const void *node)
{
    return (int)(((const struct btree_head *)node)->tag >> 8 & 0xff);
}

static inline uint64_t btree_tag(uint64_t birth, int height)
{
    return birth << 16 | (uint64_t)height << 8;
}

static inline bool btree_node_is_unordered(const struct btree_node *node)
{
    return node->tag & BTREE_FLAG_UNORDERED;
}

/* Unlink one node whose children, or large items, live on elsewhere. */
static inline void btree_retire_node(struct epoch *e, void *node)
{
    epoch_retire(e, node, ((struct btree_head *)node)->size, btree_birth(node));
}

/* Unlink a node with all below it: `count` items. */
void btree_retire_subtree(struct epoch *e, void *node, uint64_t count);

/* --- words ------------------------------------------------------------------------------------ */

static inline uint64_t btree_load64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return be64toh(v);
}

static inline uint64_t btree_load32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return be32toh(v);
}

/* The first 8 bytes as a big-endian number, zeros behind a shorter item: where the words of two
 * items differ they are in the order of the items. */
static inline uint64_t btree_word(const char *p, size_t size)
{
    if (__builtin_expect(size >= 8, 1))
        return btree_load64(p);
    if (size >= 4) /* the two halves overlap, with equal bits */
        return btree_load32(p) << 32 | btree_load32(p + size - 4) << (64 - 8 * size);
    uint64_t word = 0;
    for (size_t i = 0; i < size; i++)
        word |= (uint64_t)(unsigned char)p[i] << (56 - 8 * i);
    return word;
}

/* --- leaves ----------------------------------------------------------------------------------- */

static inline unsigned btree_slot_code(uint16_t slot)
{
    return (unsigned)slot >> BTREE_DISTANCE_BITS;
}

static inline const char *btree_leaf_payload(const struct btree_leaf *leaf, uint16_t slot)
{
    return (const char *)leaf + leaf->size - (slot & ((1U << BTREE_DISTANCE_BITS) - 1));
}

static inline uint16_t btree_leaf_payload_size(const struct btree_leaf *leaf, uint16_t slot)
{
    unsigned code = btree_slot_code(slot);
    if (code < BTREE_CODE_SIZED)
        return (uint16_t)code;
    if (code == BTREE_CODE_LARGE)
        return 16;
    return (uint16_t)(1 + *(const unsigned char *)btree_leaf_payload(leaf, slot));
}

static inline struct btree_large *btree_payload_large(const char *payload)
{
    struct btree_large *large;
    memcpy(&large, payload, sizeof(large));
    return large;
}

static inline struct slice btree_leaf_item(const struct btree_leaf *leaf, uint32_t index)
{
    uint16_t slot = leaf->slots[index];
    const char *p = btree_leaf_payload(leaf, slot);
    unsigned code = btree_slot_code(slot);
    if (__builtin_expect(code < BTREE_CODE_SIZED, 1))
        return slice_of(p, code);
    if (code == BTREE_CODE_SIZED)
        return slice_of(p + 1, *(const unsigned char *)p);
    const struct btree_large *large = btree_payload_large(p);
    return slice_of(large->bytes, large->size);
}

static inline uint64_t btree_leaf_word(const struct btree_leaf *leaf, uint32_t index)
{
    uint16_t slot = leaf->slots[index];
    if (btree_slot_code(slot) == BTREE_CODE_LARGE)
        return btree_load64(btree_leaf_payload(leaf, slot) + 8);
    struct slice item = btree_leaf_item(leaf, index);
    return btree_word(item.data, item.size);
}

/* Bytes that the leaf would have without holes and free room. */
static inline size_t btree_leaf_live(const struct btree_leaf *leaf)
{
    return sizeof(*leaf) + leaf->count * sizeof(uint16_t) + leaf->heap - leaf->dead;
}

static inline bool btree_leaf_has_room(const struct btree_leaf *leaf, const struct btree_cell *cell)
{
    return sizeof(*leaf) + (leaf->count + 1U) * sizeof(uint16_t) + leaf->heap + cell->size <=
           leaf->size;
}

static inline void btree_leaf_prefetch(const struct btree_leaf *leaf)
{
    for (size_t at = 0; at < BTREE_LEAF_MAX; at += 64)
        __builtin_prefetch((const char *)leaf + at);
}

/* The block size for so many bytes: 128, 192, 256, 384, 512, 768, 1024. Fewer steps than the
 * allocator has, as partly empty slabs would cost more than those save (see dict_leaf_class). */
static inline uint16_t btree_leaf_class(size_t live)
{
    assert(live <= BTREE_LEAF_MAX);
    if (live <= 128)
        return 128;
    size_t step = live <= 256 ? 64 : live <= 512 ? 128 : 256;
    return (uint16_t)((live + step - 1) & ~(step - 1));
}

/* Prepares an item: a large one gets its block here. */
void btree_cell_init(struct btree_cell *cell, struct slice item, uint64_t birth);

/* An empty leaf for `live` bytes in all. */
struct btree_leaf *btree_leaf_new(size_t live, uint64_t birth);
/* The first index with an item >= key, leaf->count if there is none. `word` is the key's. */
uint32_t btree_leaf_find(const struct btree_leaf *leaf, struct slice key, uint64_t word,
                         bool *equal);
/* Negative, zero, positive as the item is below, equal to, above the key. */
int btree_leaf_compare(const struct btree_leaf *leaf, uint32_t index, struct slice key,
                       uint64_t word);
/* Insert before `index`; there must be room. */
void btree_leaf_put(struct btree_leaf *leaf, uint32_t index, const struct btree_cell *cell);
/* Put the cell in the place of an item whose payload has the same size. */
void btree_leaf_overwrite(struct btree_leaf *leaf, uint32_t index, const struct btree_cell *cell);
/* Take an item out. Does not retire a large one's block. */
void btree_leaf_take(struct btree_leaf *leaf, uint32_t index);
/* Copy items [from, to) of src behind those of dst. The large ones are then shared. */
void btree_leaf_append(struct btree_leaf *dst, const struct btree_leaf *src, uint32_t from,
                       uint32_t to);
/* Retire the blocks of the large items in [from, to). */
void btree_leaf_retire_large(struct epoch *e, const struct btree_leaf *leaf, uint32_t from,
                             uint32_t to);
/* A new leaf with the items of `leaf`, in a block for `live` bytes; `leaf` is retired. */
struct btree_leaf *btree_leaf_rebuild(struct epoch *e, struct btree_leaf *leaf, size_t live);
/* The items of a full leaf and the cell before `index`, in two leaves of about equal size; `leaf`
 * is retired. Returns how many items are in the left one. */
uint32_t btree_leaf_split(struct epoch *e, struct btree_leaf *leaf, uint32_t index,
                          const struct btree_cell *cell, struct btree_leaf **left,
                          struct btree_leaf **right);

/* --- interior nodes --------------------------------------------------------------------------- */

static inline uint64_t *btree_node_words(const struct btree_node *node)
{
    return (uint64_t *)(uintptr_t)node->arrays;
}

static inline void **btree_node_children(const struct btree_node *node)
{
    return (void **)(uintptr_t)(node->arrays + node->capacity);
}

static inline uint64_t *btree_node_counts(const struct btree_node *node)
{
    return (uint64_t *)(uintptr_t)(node->arrays + 2 * (size_t)node->capacity);
}

static inline uint16_t *btree_node_bits(const struct btree_node *node)
{
    return (uint16_t *)(uintptr_t)(node->arrays + 3 * (size_t)node->capacity);
}

/* The number of items below children [from, to). */
static inline uint64_t btree_node_sum(const struct btree_node *node, uint32_t from, uint32_t to)
{
    const uint64_t *counts = btree_node_counts(node);
    uint64_t even = 0, odd = 0;
    for (; from + 1 < to; from += 2) {
        even += counts[from];
        odd += counts[from + 1];
    }
    return even + odd + (from < to ? counts[from] : 0);
}

/* The word of a leaf's or node's first item. It must not be empty. */
static inline uint64_t btree_first_word(const void *node)
{
    if (btree_height(node) == 0)
        return btree_leaf_word(node, 0);
    return btree_node_words(node)[0];
}

/* The first item below a leaf or node. */
struct slice btree_first_item(const void *node);

struct btree_branch btree_branch_of(void *node);

/* An empty node for `count` children at least. */
struct btree_node *btree_node_new(int height, uint32_t count, uint64_t birth, bool unordered);
/* The last child whose first item is below the key; the first child if there is none. */
uint32_t btree_node_find(const struct btree_node *node, struct slice key, uint64_t word);
/* Where two items differ first. */
uint16_t btree_first_bit(struct slice a, struct slice b);
/* The first item of a child has changed: note its word and the bits. */
void btree_node_note_first(struct btree_node *node, uint32_t index);
/* Put in the place of child `index`; `first_changed` says whether its first item is another. */
void btree_node_set(struct btree_node *node, uint32_t index, const struct btree_branch *b,
                    bool first_changed);
/* Insert before `index`; there must be room. */
void btree_node_put(struct btree_node *node, uint32_t index, const struct btree_branch *b);
/* Take children [from, to) out. Does not retire them, and does not look at them. */
void btree_node_take(struct btree_node *node, uint32_t from, uint32_t to);
/* A new node with the children of `node`, with room for `count`; `node` is retired. */
struct btree_node *btree_node_rebuild(struct epoch *e, struct btree_node *node, uint32_t count);
/* The children of a full node and `b` before `index`, the first `cut` of them in one new node, the
 * others in another; `node` is retired. */
void btree_node_split(struct epoch *e, struct btree_node *node, uint32_t index,
                      const struct btree_branch *b, uint32_t cut, struct btree_node **left,
                      struct btree_node **right);
/* Bring child `index` in order after items were taken from it: takes it out when it is empty,
 * merges it with a neighbour when the two are small. The node must be owned. True if it has one
 * child less now. */
bool btree_node_fix(struct epoch *e, struct btree_node *node, uint32_t index);

#endif
