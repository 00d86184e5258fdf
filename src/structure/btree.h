/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The btree: a counted B+tree of byte strings. Ordered by memcmp (sorted sets: items are the score
 * as 8 order-preserving bytes, then the member; streams: items begin with the id) or by position
 * alone (lists). Every subtree's item count is known, so that ranks and positions cost O(log n).
 *
 * A leaf is a slotted block of at most 1 KiB, grown in steps:
 *
 *     +--------+------------------------------+------+--------------------------+
 *     | header | slots in order, 2 bytes each | free | items, from the end down |
 *     +--------+------------------------------+------+--------------------------+
 *
 * A slot says where its item lies and how large it is (items from 62 bytes on have one more byte
 * for that). An insert moves slots, not items; a removed item leaves a hole that is closed when
 * room is needed. An item of more than BTREE_INLINE_MAX bytes lives in an immutable block of its
 * own with a birth; the leaf then holds its address (and its first 8 bytes, for the order). An
 * interior node holds for each child its address, its number of items, and the first 8 bytes of its
 * first item as a big-endian number: comparing needs a child only when these are equal, and then
 * one (btree_node.h says how). A tree that is told to be unordered (a list) keeps none of this, so
 * that inserts in front of it touch nothing but the leaf and the counts.
 *
 * Splitting: in the middle, but at the end when an item is appended behind the last (or put before
 * the first) of the whole tree, so that lists and growing keys fill their leaves; the leaf that
 * such an item begins has its full size at once, as it will be filled. Leaves and nodes that
 * together fit in less than 3/4 of one merge.
 *
 * Copy-on-write: by node, each carries its birth; a change makes the path from the root owned.
 */
#ifndef HF_STRUCTURE_BTREE_H
#define HF_STRUCTURE_BTREE_H

#include "base/slice.h"
#include "structure/epoch.h"

#define BTREE_INLINE_MAX 192
#define BTREE_HEIGHT_MAX 12

/* The root: embedded in the entry, copied by value with it. Zeroed memory is an empty tree. */
struct btree {
    void *root;
    uint64_t count : 55;
    uint64_t unordered : 1; /* by position alone: not to be searched by key */
    uint64_t height : 8;    /* 0: the root is a leaf */
};

/* A place in the tree: an item, or the end (behind the last item). Valid until the tree is next
 * changed by other means than this place. */
struct btree_pos {
    const struct btree *tree;
    void *node[BTREE_HEIGHT_MAX]; /* node[0] is the leaf */
    uint32_t index[BTREE_HEIGHT_MAX];
    uint64_t rank; /* of the item it stands on; tree->count at the end */
};

void btree_init(struct btree *t);
/* A tree by position alone, which cannot be searched by key. It stays one when it is cleared. (A
 * list in a tree that was not told so works as well, but is slower to change at its beginning.) */
void btree_init_unordered(struct btree *t);

/* Order-preserving form of a double (not NaN): as big-endian bytes they compare like the numbers;
 * -0.0 is taken as 0.0. */
void btree_put_double(char out[8], double d);
double btree_get_double(const char in[8]);

/* Stand on the first item >= key (in memcmp order, the shorter first). True if it is equal. Not for
 * unordered trees. */
bool btree_seek(const struct btree *t, struct slice key, struct btree_pos *pos);
/* Stand on the item of this rank; on the end if rank >= count. */
void btree_seek_rank(const struct btree *t, uint64_t rank, struct btree_pos *pos);
bool btree_at_end(const struct btree_pos *pos);
/* The item that pos stands on: valid until the tree is next changed. */
struct slice btree_item(const struct btree_pos *pos);
/* Step; false when it arrives at the end (or, for prev, was at the first item). */
bool btree_next(struct btree_pos *pos);
bool btree_prev(struct btree_pos *pos);

/* Insert before pos (at the end: append); pos then stands on the new item. `item` is copied and
 * must not point into the tree. The caller keeps the order. */
void btree_insert(struct btree *t, struct epoch *e, struct btree_pos *pos, struct slice item);
/* Remove the item that pos stands on; pos then stands on the one behind it, or the end. */
void btree_remove(struct btree *t, struct epoch *e, struct btree_pos *pos);
/* Replace the item that pos stands on (lists; the caller keeps the order). */
void btree_replace(struct btree *t, struct epoch *e, struct btree_pos *pos, struct slice item);
/* Remove `count` items from `rank` on: whole leaves and subtrees are cut out at once. */
void btree_remove_range(struct btree *t, struct epoch *e, uint64_t rank, uint64_t count);

/* Short forms for the ends of a list. */
void btree_append(struct btree *t, struct epoch *e, struct slice item);
void btree_prepend(struct btree *t, struct epoch *e, struct slice item);

/* Moves (base/mem_move.h) what should: the leaf with the item of this rank, its large items, and
 * the nodes that begin with it. Returns the rank to go on from, 0 at the end; any rank may be
 * given. No snapshot may be live. */
struct mem_mover;
uint64_t btree_move(struct btree *t, struct mem_mover *m, uint64_t rank);

/* Retire everything (in constant time or by the reclaimer); the tree is empty afterwards. */
void btree_clear(struct btree *t, struct epoch *e);
/* For the deep free of an entry: see table_type.free_below. */
void btree_free_below(struct epoch_reclaim *ctx, const struct btree *t, uint64_t seen);
void btree_register(void); /* EPOCH_BTREE */

size_t btree_bytes(const struct btree *t);
size_t btree_leaf_count(const struct btree *t);
void btree_check(const struct btree *t, const struct epoch *e, bool ordered);

#endif
