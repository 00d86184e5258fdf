/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/btree_node.h"

#define CHILD_BYTES (3 * sizeof(uint64_t) + sizeof(uint16_t))

struct btree_node *btree_node_new(int height, uint32_t count, uint64_t birth, bool unordered)
{
    static const uint16_t sizes[] = {256, 512, 768, 1024, 1280, 1536};
    static_assert(sizeof(struct btree_node) + BTREE_NODE_MAX * CHILD_BYTES <= 1536, "a full node");
    assert(count <= BTREE_NODE_MAX);
    size_t i = 0;
    while (sizes[i] < sizeof(struct btree_node) + count * CHILD_BYTES)
        i++;
    struct btree_node *node = mem_alloc(sizes[i]);
    node->tag = btree_tag(birth, height) | (unordered ? BTREE_FLAG_UNORDERED : 0);
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

/* --- bits ------------------------------------------------------------------------------------- */

uint16_t btree_first_bit(struct slice a, struct slice b)
{
    size_t n = a.size < b.size ? a.size : b.size, i = 0;
    unsigned bit = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t diff = btree_load64(a.data + i) ^ btree_load64(b.data + i);
        if (diff == 0)
            continue;
        bit = (unsigned)__builtin_clzll(diff);
        i += bit / 8;
        bit = bit % 8 + 1;
        break;
    }
    while (bit == 0 && i < n) {
        unsigned diff = (unsigned char)a.data[i] ^ (unsigned char)b.data[i];
        if (diff == 0)
            i++;
        else
            bit = (unsigned)__builtin_clz(diff) - 24 + 1;
    }
    if (i >= BTREE_BIT_UNKNOWN / 16 || (bit == 0 && a.size == b.size))
        return BTREE_BIT_UNKNOWN;
    return (uint16_t)(i * 16 + bit);
}

static bool bit_of(struct slice key, uint16_t position)
{
    size_t byte = position / 16;
    unsigned bit = position % 16;
    return byte < key.size && (bit == 0 || (unsigned char)key.data[byte] >> (8 - bit) & 1);
}

struct slice btree_first_item(const void *ptr)
{
    while (btree_height(ptr) > 0)
        ptr = btree_node_children(ptr)[0];
    return btree_leaf_item(ptr, 0);
}

static void note_bit(struct btree_node *node, uint32_t index)
{
    const uint64_t *words = btree_node_words(node);
    if (index == 0 || index >= node->count || btree_node_is_unordered(node))
        return;
    uint16_t bit = 0;
    if (words[index - 1] == words[index]) {
        void **children = btree_node_children(node);
        bit = btree_first_bit(btree_first_item(children[index - 1]),
                              btree_first_item(children[index]));
    }
    btree_node_bits(node)[index] = bit;
}

void btree_node_note_first(struct btree_node *node, uint32_t index)
{
    if (btree_node_is_unordered(node))
        return;
    btree_node_words(node)[index] = btree_first_word(btree_node_children(node)[index]);
    note_bit(node, index);
    note_bit(node, index + 1);
}

/* --- finding ---------------------------------------------------------------------------------- */

/* The first of children [from, to) whose first item is not below the key: by looking at the
 * items. */
static uint32_t find_by_items(const struct btree_node *node, uint32_t from, uint32_t to,
                              struct slice key)
{
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (slice_compare(btree_first_item(btree_node_children(node)[middle]), key) < 0)
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

/* The same in few looks, where the words of all these children equal the key's. */
static uint32_t find_by_bits(const struct btree_node *node, uint32_t from, uint32_t to,
                             struct slice key)
{
    /* Were the key among the first items, the bits would lead to it. In any case no other item has
     * more bits in common with the key than the one that they lead to. */
    const uint16_t *bits = btree_node_bits(node);
    uint32_t guess = from;
    for (uint32_t i = from + 1; i < to;) {
        uint16_t bit = bits[i];
        if (bit == BTREE_BIT_UNKNOWN)
            return find_by_items(node, from, to, key);
        if (bit_of(key, bit)) {
            guess = i++;
            continue;
        }
        do
            i++;
        while (i < to && bits[i] > bit);
    }
    void *child = btree_node_children(node)[guess];
    if (btree_height(node) == 1)
        btree_leaf_prefetch(child); /* it is likely the one that is looked for */
    struct slice first = btree_first_item(child);
    uint16_t bit = btree_first_bit(first, key);
    if (bit == BTREE_BIT_UNKNOWN)
        return slice_equal(first, key) ? guess : find_by_items(node, from, to, key);
    /* Those that have the bits up to this one in common with the guess are on its side. */
    if (bit_of(key, bit)) {
        do
            guess++;
        while (guess < to && bits[guess] > bit);
    } else {
        while (guess > from && bits[guess] > bit)
            guess--;
    }
    return guess;
}

uint32_t btree_node_find(const struct btree_node *node, struct slice key, uint64_t word)
{
    /* Which words of children 1.. are below the key's? Without branches: the outcomes are
     * random. */
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
    rest = 1;
    while (at + rest < last && words[at + rest] == word)
        rest++;
    return find_by_bits(node, at + 1, at + 1 + rest, key) - 1;
}

/* --- changing --------------------------------------------------------------------------------- */

static void write_branch(struct btree_node *node, uint32_t index, const struct btree_branch *b)
{
    btree_node_words(node)[index] = b->word;
    btree_node_children(node)[index] = b->node;
    btree_node_counts(node)[index] = b->count;
}

void btree_node_set(struct btree_node *node, uint32_t index, const struct btree_branch *b,
                    bool first_changed)
{
    write_branch(node, index, b);
    if (first_changed) {
        note_bit(node, index);
        note_bit(node, index + 1);
    }
}

/* Move children [from, count) to `to` on. */
static void node_shift(struct btree_node *node, uint32_t from, uint32_t to)
{
    size_t n = node->count - from;
    memmove(btree_node_words(node) + to, btree_node_words(node) + from, n * sizeof(uint64_t));
    memmove(btree_node_children(node) + to, btree_node_children(node) + from, n * sizeof(void *));
    memmove(btree_node_counts(node) + to, btree_node_counts(node) + from, n * sizeof(uint64_t));
    memmove(btree_node_bits(node) + to, btree_node_bits(node) + from, n * sizeof(uint16_t));
}

void btree_node_put(struct btree_node *node, uint32_t index, const struct btree_branch *b)
{
    assert(index <= node->count && node->count < node->capacity);
    uint16_t *bits = btree_node_bits(node);
    node_shift(node, index, index + 1);
    write_branch(node, index, b);
    node->count++;
    bits[index] = 0;
    if (btree_node_is_unordered(node))
        return;
    note_bit(node, index);
    /* Of three in order, the outer two differ where a neighbour pair differs first: often this
     * tells the second pair's bit without a look at the third. */
    const uint64_t *words = btree_node_words(node);
    bool as_before = index > 0 && index + 1U < node->count && words[index - 1] == words[index] &&
                     words[index] == words[index + 1] && bits[index] > bits[index + 1];
    if (!as_before)
        note_bit(node, index + 1);
}

void btree_node_take(struct btree_node *node, uint32_t from, uint32_t to)
{
    assert(from <= to && to <= node->count);
    if (from == to)
        return;
    uint16_t *bits = btree_node_bits(node), bit = BTREE_BIT_UNKNOWN;
    for (uint32_t i = from; i <= to && i < node->count; i++)
        bit = bits[i] < bit ? bits[i] : bit;
    node_shift(node, to, from);
    node->count = (uint16_t)(node->count - (to - from));
    const uint64_t *words = btree_node_words(node);
    if (from > 0 && from < node->count)
        bits[from] = words[from - 1] == words[from] ? bit : 0;
}

/* Copy children [from, to) of src behind those of dst. */
static void node_append(struct btree_node *dst, const struct btree_node *src, uint32_t from,
                        uint32_t to)
{
    uint32_t at = dst->count, n = to - from;
    assert(from <= to && at + n <= dst->capacity);
    memcpy(btree_node_words(dst) + at, btree_node_words(src) + from, n * sizeof(uint64_t));
    memcpy(btree_node_children(dst) + at, btree_node_children(src) + from, n * sizeof(void *));
    memcpy(btree_node_counts(dst) + at, btree_node_counts(src) + from, n * sizeof(uint64_t));
    memcpy(btree_node_bits(dst) + at, btree_node_bits(src) + from, n * sizeof(uint16_t));
    dst->count = (uint16_t)(at + n);
}

struct btree_node *btree_node_rebuild(struct epoch *e, struct btree_node *node, uint32_t count)
{
    struct btree_node *fresh = btree_node_new(btree_height(node), count, e->now,
                                             btree_node_is_unordered(node));
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
    bool unordered = btree_node_is_unordered(node);
    struct btree_node *l = btree_node_new(height, cut, e->now, unordered);
    struct btree_node *r = btree_node_new(height, total - cut, e->now, unordered);
    if (index < cut) {
        node_append(l, node, 0, cut - 1);
        node_append(r, node, cut - 1, node->count);
        btree_node_put(l, index, b);
    } else {
        node_append(l, node, 0, cut);
        node_append(r, node, cut, node->count);
        btree_node_put(r, index - cut, b);
    }
    btree_retire_node(e, node);
    *left = l;
    *right = r;
}

/* --- merging ---------------------------------------------------------------------------------- */

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
    struct btree_node *node = btree_node_new(btree_height(l), seam + r->count, e->now,
                                             btree_node_is_unordered(l));
    node_append(node, l, 0, seam);
    node_append(node, r, 0, r->count);
    note_bit(node, seam);
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
    btree_node_take(node, left + 1, left + 2);
    btree_node_set(node, left, &b, true);
    return true;
}

/* --- retiring --------------------------------------------------------------------------------- */

void btree_retire_subtree(struct epoch *e, void *node, uint64_t count)
{
    /* A leaf holds some tens of items; were they all large, each would be a block. */
    size_t weight = 1 + (size_t)(count / 16);
    epoch_retire_deep(e, EPOCH_BTREE, node, btree_birth(node), weight);
}
