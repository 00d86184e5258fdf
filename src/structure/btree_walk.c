/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Walks over whole btrees: moving, the deep free, sizes, and the check for tests.
 */
#include "structure/btree_node.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/mem_move.h"

/* --- moving ----------------------------------------------------------------------------------- */

static void move_large(struct mem_mover *m, struct btree_leaf *leaf)
{
    for (uint32_t i = 0; leaf->tag & BTREE_FLAG_LARGE && i < leaf->count; i++) {
        uint16_t slot = leaf->slots[i];
        if (btree_slot_code(slot) != BTREE_CODE_LARGE)
            continue;
        char *payload = (char *)leaf + (btree_leaf_payload(leaf, slot) - (const char *)leaf);
        struct btree_large *large = mem_move(m, btree_payload_large(payload));
        memcpy(payload, &large, sizeof(large));
    }
}

uint64_t btree_move(struct btree *t, struct mem_mover *m, uint64_t rank)
{
    if (rank >= t->count)
        return 0;
    void **slot = &t->root;
    uint64_t rest = rank;
    for (int height = t->height; height > 0; height--) {
        if (rest == 0)
            *slot = mem_move(m, *slot);
        struct btree_node *node = *slot;
        const uint64_t *counts = btree_node_counts(node);
        uint32_t index = 0;
        while (rest >= counts[index])
            rest -= counts[index++];
        slot = &btree_node_children(node)[index];
        if (height == 1 && index + 1U < node->count)
            __builtin_prefetch(btree_node_children(node)[index + 1]);
    }
    struct btree_leaf *leaf = mem_move(m, *slot);
    *slot = leaf;
    move_large(m, leaf);
    rank += leaf->count - rest;
    return rank < t->count ? rank : 0;
}

/* --- deep free -------------------------------------------------------------------------------- */

static void free_large(struct epoch_reclaim *ctx, const struct btree_leaf *leaf, uint64_t seen)
{
    if (!(leaf->tag & BTREE_FLAG_LARGE))
        return;
    for (uint32_t i = 0; i < leaf->count; i++) {
        uint16_t slot = leaf->slots[i];
        if (btree_slot_code(slot) != BTREE_CODE_LARGE)
            continue;
        struct btree_large *large = btree_payload_large(btree_leaf_payload(leaf, slot));
        if (large->birth > seen)
            mem_free_sized(large, sizeof(*large) + large->size);
        else
            epoch_keep(ctx, EPOCH_BLOCK, large, large->birth);
    }
}

static void free_subtree(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    uint64_t birth = btree_birth(ptr);
    if (birth <= seen) {
        epoch_keep(ctx, EPOCH_BTREE, ptr, birth);
        return;
    }
    if (btree_height(ptr) == 0) {
        free_large(ctx, ptr, seen);
    } else {
        const struct btree_node *node = ptr;
        for (uint32_t i = 0; i < node->count; i++)
            free_subtree(ctx, btree_node_children(node)[i], seen);
    }
    mem_free_sized(ptr, ((struct btree_head *)ptr)->size);
}

void btree_free_below(struct epoch_reclaim *ctx, const struct btree *t, uint64_t seen)
{
    if (t->root)
        free_subtree(ctx, t->root, seen);
}

void btree_register(void)
{
    epoch_register(EPOCH_BTREE, free_subtree);
}

/* --- sizes ------------------------------------------------------------------------------------ */

static size_t bytes_below(const void *ptr)
{
    size_t bytes = ((const struct btree_head *)ptr)->size;
    if (btree_height(ptr) > 0) {
        const struct btree_node *node = ptr;
        for (uint32_t i = 0; i < node->count; i++)
            bytes += bytes_below(btree_node_children(node)[i]);
        return bytes;
    }
    const struct btree_leaf *leaf = ptr;
    for (uint32_t i = 0; i < leaf->count && leaf->tag & BTREE_FLAG_LARGE; i++) {
        uint16_t slot = leaf->slots[i];
        if (btree_slot_code(slot) == BTREE_CODE_LARGE)
            bytes += mem_good_size(sizeof(struct btree_large) + btree_leaf_item(leaf, i).size);
    }
    return bytes;
}

size_t btree_bytes(const struct btree *t)
{
    return t->root ? bytes_below(t->root) : 0;
}

static size_t leaves_below(const void *ptr)
{
    if (btree_height(ptr) == 0)
        return 1;
    const struct btree_node *node = ptr;
    if (btree_height(ptr) == 1)
        return node->count;
    size_t count = 0;
    for (uint32_t i = 0; i < node->count; i++)
        count += leaves_below(btree_node_children(node)[i]);
    return count;
}

size_t btree_leaf_count(const struct btree *t)
{
    return t->root ? leaves_below(t->root) : 0;
}

/* --- the check -------------------------------------------------------------------------------- */

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: btree: %s\n", __FILE__, __LINE__, #condition);                 \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct check {
    const struct epoch *e; /* NULL: births are not looked at */
    bool ordered;
    bool unordered; /* the tree keeps no words and bits */
    bool has_last; /* `last` is the item before */
    struct slice last;
};

static void check_birth(const struct check *c, uint64_t birth, uint64_t parent_birth)
{
    if (!c->e)
        return;
    CHECK(birth > 0 && birth <= c->e->now);
    CHECK(!epoch_owned(c->e, birth) || epoch_owned(c->e, parent_birth));
}

static void check_leaf(struct check *c, const struct btree_leaf *leaf)
{
    CHECK(leaf->count > 0);
    CHECK(leaf->size <= BTREE_LEAF_MAX && leaf->size == btree_leaf_class(leaf->size));
    CHECK(sizeof(*leaf) + leaf->count * sizeof(uint16_t) + leaf->heap <= leaf->size);
    size_t live = 0;
    bool large = false;
    for (uint32_t i = 0; i < leaf->count; i++) {
        uint16_t slot = leaf->slots[i];
        const char *payload = btree_leaf_payload(leaf, slot);
        uint16_t size = btree_leaf_payload_size(leaf, slot);
        live += size;
        CHECK(size == 0 || payload >= (const char *)leaf + leaf->size - leaf->heap);
        CHECK(payload + size <= (const char *)leaf + leaf->size);
        struct slice item = btree_leaf_item(leaf, i);
        CHECK((btree_slot_code(slot) == BTREE_CODE_LARGE) == (item.size > BTREE_INLINE_MAX));
        if (btree_slot_code(slot) == BTREE_CODE_LARGE) {
            large = true;
            check_birth(c, btree_payload_large(payload)->birth, btree_birth(leaf));
        }
        CHECK(btree_leaf_word(leaf, i) == btree_word(item.data, item.size));
        CHECK(!c->ordered || !c->has_last || slice_compare(c->last, item) <= 0);
        c->last = item;
        c->has_last = true;
    }
    CHECK(live + leaf->dead == leaf->heap);
    CHECK(!large || leaf->tag & BTREE_FLAG_LARGE);
}

static void check_bit(const struct btree_node *node, uint32_t index)
{
    const uint64_t *words = btree_node_words(node);
    void **children = btree_node_children(node);
    uint16_t bit = 0;
    if (words[index - 1] == words[index])
        bit = btree_first_bit(btree_first_item(children[index - 1]),
                              btree_first_item(children[index]));
    CHECK(btree_node_bits(node)[index] == bit);
}

static uint64_t check_node(struct check *c, const void *ptr, int height, uint64_t parent_birth)
{
    CHECK(btree_height(ptr) == height);
    check_birth(c, btree_birth(ptr), parent_birth);
    if (height == 0) {
        check_leaf(c, ptr);
        return ((const struct btree_leaf *)ptr)->count;
    }
    const struct btree_node *node = ptr;
    CHECK(node->count > 0 && node->count <= node->capacity && node->capacity <= BTREE_NODE_MAX);
    CHECK(btree_node_is_unordered(node) == c->unordered);
    CHECK(sizeof(*node) + 26U * node->capacity <= node->size);
    uint64_t total = 0;
    for (uint32_t i = 0; i < node->count; i++) {
        void *child = btree_node_children(node)[i];
        uint64_t count = check_node(c, child, height - 1, btree_birth(node));
        CHECK(count == btree_node_counts(node)[i]);
        CHECK(c->unordered || btree_node_words(node)[i] == btree_first_word(child));
        if (c->ordered && i > 0)
            check_bit(node, i);
        total += count;
    }
    return total;
}

void btree_check(const struct btree *t, const struct epoch *e, bool ordered)
{
    struct check c = {.e = e, .ordered = ordered, .unordered = t->unordered};
    CHECK(!(ordered && t->unordered));
    if (!t->root) {
        CHECK(t->count == 0 && t->height == 0);
        return;
    }
    CHECK(t->count > 0 && t->height < BTREE_HEIGHT_MAX);
    CHECK(t->height == 0 || ((const struct btree_head *)t->root)->count > 1);
    CHECK(check_node(&c, t->root, t->height, e ? e->now : 0) == t->count);
}
