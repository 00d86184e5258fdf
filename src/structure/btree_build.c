/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/btree_build.h"

#include "structure/btree_node.h"

void btree_builder_begin(struct btree_builder *b, struct epoch *e)
{
    *b = (struct btree_builder){.e = e};
}

static void keep_leaf(struct btree_builder *b)
{
    if (b->full_count == b->full_room) {
        b->full_room = b->full_room ? b->full_room * 2 : 16;
        b->full = mem_realloc(b->full, b->full_room * sizeof(*b->full));
    }
    b->full[b->full_count++] = b->leaf;
}

static __attribute__((noinline)) void next_leaf(struct btree_builder *b)
{
    if (b->leaf)
        keep_leaf(b);
    b->leaf = btree_leaf_new(BTREE_LEAF_MAX, b->e->now);
}

bool btree_builder_add(struct btree_builder *b, struct slice item)
{
    if (b->count > 0) {
        const struct btree_leaf *leaf = b->leaf;
        int c = btree_leaf_compare(leaf, leaf->count - 1U, item, btree_word(item.data, item.size));
        if (__builtin_expect(b->count == 1, 0))
            b->descending = c > 0;
        if (c == 0 || (c > 0) != b->descending)
            return false;
    }
    struct btree_cell cell;
    btree_cell_init(&cell, item, b->e->now);
    if (!b->leaf || !btree_leaf_has_room(b->leaf, &cell))
        next_leaf(b);
    btree_leaf_put(b->leaf, b->leaf->count, &cell);
    b->count++;
    return true;
}

static void reverse_slots(struct btree_leaf *leaf)
{
    for (uint32_t i = 0, k = leaf->count - 1U; i < k; i++, k--) {
        uint16_t slot = leaf->slots[i];
        leaf->slots[i] = leaf->slots[k];
        leaf->slots[k] = slot;
    }
}

static void reverse(void **nodes, size_t count)
{
    for (size_t i = 0, k = count - 1; i < k; i++, k--) {
        void *node = nodes[i];
        nodes[i] = nodes[k];
        nodes[k] = node;
    }
    for (size_t i = 0; i < count; i++)
        reverse_slots(nodes[i]);
}

/* Put nodes of `height` above `count` of the next height below, in the same array. Returns how
 * many. They are filled alike, so that none is nearly empty. */
static size_t put_above(struct epoch *e, void **nodes, size_t count, int height)
{
    size_t parents = (count + BTREE_NODE_MAX - 1) / BTREE_NODE_MAX, from = 0;
    for (size_t i = 0; i < parents; i++) {
        size_t to = (i + 1) * count / parents;
        uint32_t children = (uint32_t)(to - from);
        struct btree_node *node = btree_node_new(height, children, e->now, false);
        for (uint32_t k = 0; k < children; k++) {
            struct btree_branch branch = btree_branch_of(nodes[from + k]);
            btree_node_put(node, k, &branch);
        }
        nodes[i] = node;
        from = to;
    }
    return parents;
}

void btree_builder_finish(struct btree_builder *b, struct btree *t)
{
    btree_init(t);
    if (b->count == 0)
        return;
    /* The last leaf is copied into a block of its own size. */
    struct btree_leaf *last = b->leaf;
    if (btree_leaf_class(btree_leaf_live(last)) < last->size) {
        b->leaf = btree_leaf_new(btree_leaf_live(last), b->e->now);
        btree_leaf_append(b->leaf, last, 0, last->count);
        mem_free_sized(last, last->size);
    }
    keep_leaf(b);
    size_t count = b->full_count;
    if (b->descending)
        reverse(b->full, count);
    int height = 0;
    while (count > 1)
        count = put_above(b->e, b->full, count, ++height);
    t->root = b->full[0];
    t->count = b->count & ((1ULL << 55) - 1);
    t->height = (unsigned)height & 0xff;
    mem_free(b->full);
    *b = (struct btree_builder){.e = b->e};
}
