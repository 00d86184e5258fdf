/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/btree_node.h"

#define CHILD_BYTES (3 * sizeof(uint64_t))

struct btree_node *btree_node_new(int height, uint32_t count, uint64_t birth)
{
    static const uint16_t sizes[] = {256, 512, 768, 1024, 1280, 1536};
    static_assert(sizeof(struct btree_node) + BTREE_NODE_MAX * CHILD_BYTES <= 1536, "a full node");
    assert(count <= BTREE_NODE_MAX);
    size_t i = 0;
    while (sizes[i] < sizeof(struct btree_node) + count * CHILD_BYTES)
        i++;
    struct btree_node *node = mem_alloc(sizes[i]);
    node->tag = btree_tag(birth, height);
    node->size = sizes[i];
    node->count = 0;
    node->capacity = (uint16_t)((sizes[i] - sizeof(*node)) / CHILD_BYTES);
    node->unused = 0;
    return node;
}

struct btree_branch btree_branch_of(void *ptr)
{
    if (btree_height(ptr) == 0) {
        const struct btree_leaf *leaf = ptr;
        return (struct btree_branch){ptr, leaf->count, btree_leaf_word(leaf, 0)};
    }
    const struct btree_node *node = ptr;
    return (struct btree_branch){ptr, btree_node_sum(node, 0, node->count),
                                 btree_node_words(node)[0]};
}

/* The order of a subtree's first item and the key, where their words are equal. */
static int compare_first(const void *ptr, struct slice key, uint64_t word)
{
    while (btree_height(ptr) > 0)
        ptr = btree_node_children(ptr)[0];
    return btree_leaf_compare(ptr, 0, key, word);
}

uint32_t btree_node_find(const struct btree_node *node, struct slice key, uint64_t word)
{
    /* Which words of children 1.. are below the key's? Without branches: the outcomes are random. */
    const uint64_t *words = btree_node_words(node) + 1, *base = words;
    uint32_t last = node->count - 1U, rest = last;
    while (rest > 1) {
        uint32_t half = rest / 2;
        base = base[half - 1] < word ? base + half : base;
        rest -= half;
    }
    uint32_t at = (uint32_t)(base - words) + (rest == 1 && *base < word);
    if (at == last || words[at] != word)
        return at;
    /* Children whose words tell nothing: look at their first items. */
    rest = 1;
    while (at + rest < last && words[at + rest] == word)
        rest++;
    while (rest > 0) {
        uint32_t half = rest / 2;
        if (compare_first(btree_node_children(node)[1 + at + half], key, word) < 0) {
            at += half + 1;
            rest -= half + 1;
        } else {
            rest = half;
        }
    }
    return at;
}

void btree_node_set(struct btree_node *node, uint32_t index, const struct btree_branch *b)
{
    btree_node_words(node)[index] = b->word;
    btree_node_children(node)[index] = b->node;
    btree_node_counts(node)[index] = b->count;
}

/* Move children [from, count) to `to` on. */
static void node_shift(struct btree_node *node, uint32_t from, uint32_t to)
{
    size_t size = (node->count - from) * sizeof(uint64_t);
    memmove(btree_node_words(node) + to, btree_node_words(node) + from, size);
    memmove(btree_node_children(node) + to, btree_node_children(node) + from, size);
    memmove(btree_node_counts(node) + to, btree_node_counts(node) + from, size);
}

void btree_node_put(struct btree_node *node, uint32_t index, const struct btree_branch *b)
{
    assert(index <= node->count && node->count < node->capacity);
    node_shift(node, index, index + 1);
    btree_node_set(node, index, b);
    node->count++;
}

void btree_node_take(struct btree_node *node, uint32_t from, uint32_t to)
{
    assert(from <= to && to <= node->count);
    node_shift(node, to, from);
    node->count = (uint16_t)(node->count - (to - from));
}

/* Copy children [from, to) of src behind those of dst. */
static void node_append(struct btree_node *dst, const struct btree_node *src, uint32_t from,
                        uint32_t to)
{
    assert(dst->count + (to - from) <= dst->capacity);
    size_t size = (to - from) * sizeof(uint64_t);
    memcpy(btree_node_words(dst) + dst->count, btree_node_words(src) + from, size);
    memcpy(btree_node_children(dst) + dst->count, btree_node_children(src) + from, size);
    memcpy(btree_node_counts(dst) + dst->count, btree_node_counts(src) + from, size);
    dst->count = (uint16_t)(dst->count + (to - from));
}

struct btree_node *btree_node_rebuild(struct epoch *e, struct btree_node *node, uint32_t count)
{
    struct btree_node *fresh = btree_node_new(btree_height(node), count, e->now);
    node_append(fresh, node, 0, node->count);
    btree_retire_node(e, node);
    return fresh;
}

void btree_node_split(struct epoch *e, struct btree_node *node, uint32_t index,
                      const struct btree_branch *b, uint32_t cut, struct btree_node **left,
                      struct btree_node **right)
{
    int height = btree_height(node);
    uint32_t total = node->count + 1U;
    assert(cut > 0 && cut < total);
    struct btree_node *l = btree_node_new(height, cut, e->now);
    struct btree_node *r = btree_node_new(height, total - cut, e->now);
    if (index < cut) {
        node_append(l, node, 0, index);
        btree_node_put(l, index, b);
        node_append(l, node, index, cut - 1);
        node_append(r, node, cut - 1, node->count);
    } else {
        node_append(l, node, 0, cut);
        node_append(r, node, cut, index);
        btree_node_put(r, index - cut, b);
        node_append(r, node, index, node->count);
    }
    btree_retire_node(e, node);
    *left = l;
    *right = r;
}

/* --- merging ----------------------------------------------------------------------------------- */

static bool is_empty(const void *node)
{
    return ((const struct btree_head *)node)->count == 0;
}

/* Two nodes are merged when their loads together are at most merge_limit. The load of an empty node
 * is 0. */
static size_t load_of(const void *node)
{
    if (btree_height(node) == 0)
        return btree_leaf_live(node) - sizeof(struct btree_leaf);
    return ((const struct btree_node *)node)->count;
}

static size_t merge_limit(int height)
{
    return height == 0 ? BTREE_LEAF_MERGE - sizeof(struct btree_leaf) : BTREE_NODE_MERGE;
}

static void *merge(struct epoch *e, void *left, void *right)
{
    if (btree_height(left) == 0) {
        struct btree_leaf *l = left, *r = right;
        struct btree_leaf *leaf =
            btree_leaf_new(btree_leaf_live(l) + btree_leaf_live(r) - sizeof(*r), e->now);
        btree_leaf_append(leaf, l, 0, l->count);
        btree_leaf_append(leaf, r, 0, r->count);
        btree_retire_node(e, l);
        btree_retire_node(e, r);
        return leaf;
    }
    struct btree_node *l = left, *r = right;
    uint32_t seam = l->count;
    struct btree_node *node = btree_node_new(btree_height(l), seam + r->count, e->now);
    node_append(node, l, 0, seam);
    node_append(node, r, 0, r->count);
    btree_retire_node(e, l);
    btree_retire_node(e, r);
    /* What met here had no common parent before and may be small as well. */
    btree_node_fix(e, node, seam);
    if (seam <= node->count)
        btree_node_fix(e, node, seam - 1);
    return node;
}

bool btree_node_fix(struct epoch *e, struct btree_node *node, uint32_t index)
{
    assert(epoch_owned(e, btree_birth(node)) && index < node->count);
    void **children = btree_node_children(node);
    void *child = children[index];
    if (is_empty(child)) {
        btree_retire_node(e, child);
        btree_node_take(node, index, index + 1);
        return true;
    }
    size_t load = load_of(child), limit = merge_limit(btree_height(child));
    if (load > limit / 2) /* else the neighbour decides; if both are above, they do not fit */
        return false;
    uint32_t left;
    if (index + 1U < node->count && load + load_of(children[index + 1]) <= limit)
        left = index;
    else if (index > 0 && load + load_of(children[index - 1]) <= limit)
        left = index - 1;
    else
        return false;
    struct btree_branch b = {.node = merge(e, children[left], children[left + 1]),
                             .count = btree_node_sum(node, left, left + 2)};
    b.word = btree_first_word(b.node);
    btree_node_set(node, left, &b);
    btree_node_take(node, left + 1, left + 2);
    return true;
}

/* --- retiring ---------------------------------------------------------------------------------- */

void btree_retire_subtree(struct epoch *e, void *node, uint64_t count)
{
    /* A leaf holds some tens of items; were they all large, each would be a block. */
    size_t weight = 1 + (size_t)(count / 16);
    epoch_retire_deep(e, EPOCH_BTREE, node, btree_birth(node), weight);
}
