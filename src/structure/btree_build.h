/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Building a whole btree at once from items that come in order, for loading: leaves are filled one
 * after another, and the nodes above them are made at the end. Items may come in ascending or in
 * descending order (RDB files hold sorted sets from the highest down); the second item says which.
 *
 * The tree is as any other afterwards: its leaves are full, but the last has the size that it
 * needs; all nodes are born in the present epoch. For ordered trees alone.
 */
#ifndef HF_STRUCTURE_BTREE_BUILD_H
#define HF_STRUCTURE_BTREE_BUILD_H

#include "structure/btree.h"

struct btree_leaf;

struct btree_builder {
    struct epoch *e;
    struct btree_leaf *leaf; /* being filled; NULL: no item yet */
    void **full;             /* the ones before it */
    size_t full_count, full_room;
    uint64_t count;
    bool descending;
};

void btree_builder_begin(struct btree_builder *b, struct epoch *e);
/* The slice is copied. False, and nothing done, if the item is not in order behind the one
 * before. */
bool btree_builder_add(struct btree_builder *b, struct slice item);
/* Make *t, whatever it held before, of all items. The builder is used up. */
void btree_builder_finish(struct btree_builder *b, struct btree *t);

#endif
