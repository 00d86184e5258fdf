/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Places in the tree, and changes at a place.
 *
 * A change at a place works from the leaf up: the nodes of the path are made owned first (nothing
 * to do if the leaf is, as an owned child has an owned parent), the leaf is changed, and the counts
 * and words above follow. A split keeps the place on the new item without searching again; where
 * nodes are merged, which is rare, the place is found anew by its rank.
 */
#include "structure/btree_node.h"

#define COUNT_MASK ((1ULL << 55) - 1)

static void set_count(struct btree *t, uint64_t count)
{
    t->count = count & COUNT_MASK;
}

void btree_init(struct btree *t)
{
    *t = (struct btree){.root = NULL};
}

void btree_init_unordered(struct btree *t)
{
    *t = (struct btree){.unordered = 1};
}

void btree_put_double(char out[8], double d)
{
    uint64_t bits = 0;
    if (d != 0)
        memcpy(&bits, &d, sizeof(bits));
    /* Negative numbers in reverse, below the positive ones. */
    bits = htobe64(bits >> 63 ? ~bits : bits | 1ULL << 63);
    memcpy(out, &bits, sizeof(bits));
}

double btree_get_double(const char in[8])
{
    uint64_t bits = btree_load64(in);
    bits = bits >> 63 ? bits & ~(1ULL << 63) : ~bits;
    double d;
    memcpy(&d, &bits, sizeof(d));
    return d;
}

/* --- places ----------------------------------------------------------------------------------- */

static void pos_set(struct btree_pos *pos, int level, void *node, uint32_t index)
{
    pos->node[level] = node;
    pos->index[level] = index;
}

static struct btree_leaf *pos_leaf(const struct btree_pos *pos)
{
    return pos->node[0];
}

/* Down from `node` along its first children, to the first item. */
static void pos_first_below(struct btree_pos *pos, void *node)
{
    int level = btree_height(node);
    for (; level > 0; level--) {
        pos_set(pos, level, node, 0);
        node = btree_node_children(node)[0];
    }
    pos_set(pos, 0, node, 0);
}

/* Down along the last children, to the last item or, with `behind`, behind it. */
static void pos_last_below(struct btree_pos *pos, void *node, bool behind)
{
    int level = btree_height(node);
    for (; level > 0; level--) {
        uint32_t last = ((struct btree_node *)node)->count - 1U;
        pos_set(pos, level, node, last);
        node = btree_node_children(node)[last];
    }
    pos_set(pos, 0, node, ((struct btree_leaf *)node)->count - !behind);
}

static void pos_init(struct btree_pos *pos, const struct btree *t)
{
    pos->tree = t;
    pos->node[0] = NULL;
    pos->index[0] = 0;
    pos->rank = 0;
}

/* From behind a leaf's last item to the first of the next leaf; false in the last leaf. */
static bool pos_next_leaf(struct btree_pos *pos)
{
    int height = pos->tree->height;
    for (int level = 1; level <= height; level++) {
        const struct btree_node *node = pos->node[level];
        uint32_t index = pos->index[level] + 1;
        if (index >= node->count)
            continue;
        pos->index[level] = index;
        void **children = btree_node_children(node);
        if (level == 1 && index + 1U < node->count)
            __builtin_prefetch(children[index + 1]);
        pos_first_below(pos, children[index]);
        return true;
    }
    return false;
}

static bool pos_prev_leaf(struct btree_pos *pos)
{
    int height = pos->tree->height;
    for (int level = 1; level <= height; level++) {
        if (pos->index[level] == 0)
            continue;
        uint32_t index = --pos->index[level];
        void **children = btree_node_children(pos->node[level]);
        if (level == 1 && index > 0)
            __builtin_prefetch(children[index - 1]);
        pos_last_below(pos, children[index], false);
        return true;
    }
    return false;
}

bool btree_seek(const struct btree *t, struct slice key, struct btree_pos *pos)
{
    assert(!t->unordered);
    pos_init(pos, t);
    if (!t->root)
        return false;
    uint64_t word = btree_word(key.data, key.size);
    void *ptr = t->root;
    for (int level = t->height; level > 0; level--) {
        const struct btree_node *node = ptr;
        uint32_t index = btree_node_find(node, key, word);
        ptr = btree_node_children(node)[index];
        /* Ahead of time, as a binary search would wait for one line after another. */
        if (level == 1)
            btree_leaf_prefetch(ptr);
        pos_set(pos, level, (void *)(uintptr_t)node, index);
        pos->rank += btree_node_sum(node, 0, index);
    }
    const struct btree_leaf *leaf = ptr;
    bool equal;
    uint32_t index = btree_leaf_find(leaf, key, word, &equal);
    pos_set(pos, 0, ptr, index);
    pos->rank += index;
    if (index == leaf->count && pos_next_leaf(pos))
        equal = btree_leaf_compare(pos_leaf(pos), 0, key, word) == 0;
    return equal;
}

void btree_seek_rank(const struct btree *t, uint64_t rank, struct btree_pos *pos)
{
    pos_init(pos, t);
    if (!t->root)
        return;
    if (rank >= t->count) {
        pos_last_below(pos, t->root, true);
        pos->rank = t->count;
        return;
    }
    pos->rank = rank;
    void *ptr = t->root;
    for (int level = t->height; level > 0; level--) {
        const uint64_t *counts = btree_node_counts(ptr);
        uint32_t index = 0;
        while (rank >= counts[index])
            rank -= counts[index++];
        pos_set(pos, level, ptr, index);
        ptr = btree_node_children(ptr)[index];
    }
    pos_set(pos, 0, ptr, (uint32_t)rank);
}

bool btree_at_end(const struct btree_pos *pos)
{
    return pos->rank >= pos->tree->count;
}

struct slice btree_item(const struct btree_pos *pos)
{
    assert(!btree_at_end(pos));
    return btree_leaf_item(pos_leaf(pos), pos->index[0]);
}

bool btree_next(struct btree_pos *pos)
{
    if (btree_at_end(pos))
        return false;
    pos->rank++;
    if (++pos->index[0] < pos_leaf(pos)->count)
        return true;
    return pos_next_leaf(pos);
}

bool btree_prev(struct btree_pos *pos)
{
    if (pos->rank == 0)
        return false;
    pos->rank--;
    if (pos->index[0] > 0) {
        pos->index[0]--;
        return true;
    }
    return pos_prev_leaf(pos);
}

/* --- the path of a change --------------------------------------------------------------------- */

/* Put a node in the place of the one at this level of the path, whose parent is owned. */
static void path_link(struct btree *t, struct btree_pos *pos, int level, void *node)
{
    if (level == t->height)
        t->root = node;
    else
        btree_node_children(pos->node[level + 1])[pos->index[level + 1]] = node;
    pos->node[level] = node;
}

/* Make the interior nodes of the path owned. */
static void path_own(struct btree *t, struct epoch *e, struct btree_pos *pos)
{
    for (int level = t->height; level > 0; level--) {
        struct btree_node *node = pos->node[level];
        if (!epoch_owned(e, btree_birth(node)))
            path_link(t, pos, level, btree_node_rebuild(e, node, node->count));
    }
}

/* The leaf of the path, owned, in a block that fits `live` bytes. */
static struct btree_leaf *path_rebuild_leaf(struct btree *t, struct epoch *e,
                                            struct btree_pos *pos, size_t live)
{
    path_link(t, pos, 0, btree_leaf_rebuild(e, pos_leaf(pos), live));
    return pos_leaf(pos);
}

/* Add to the counts from `level` on up. */
static void path_add(struct btree *t, struct btree_pos *pos, int level, uint64_t n)
{
    for (; level <= t->height; level++)
        btree_node_counts(pos->node[level])[pos->index[level]] += n;
}

/* Note the words of first items from `level` on up; what lies below has its words already. */
static void path_note_words(struct btree *t, struct btree_pos *pos, int level)
{
    for (; level <= t->height && !t->unordered; level++) {
        btree_node_note_first(pos->node[level], pos->index[level]);
        if (pos->index[level] > 0)
            break;
    }
}

/* --- insert ----------------------------------------------------------------------------------- */

enum bias {
    BIAS_NONE,
    BIAS_FIRST, /* the item goes before the tree's first: what lies behind stays full */
    BIAS_LAST,  /* behind the last */
};

/* The child of the path at `level` has become two; the place is in the right one if `in_right`.
 * `first_changed`: the left one's first item is not what it was. */
static void path_split(struct btree *t, struct epoch *e, struct btree_pos *pos, int level,
                       const struct btree_branch *left, const struct btree_branch *right,
                       bool in_right, bool first_changed, enum bias bias)
{
    if (level > t->height) {
        assert(level < BTREE_HEIGHT_MAX);
        struct btree_node *root = btree_node_new(level, 2, e->now, t->unordered);
        btree_node_put(root, 0, left);
        btree_node_put(root, 1, right);
        t->root = root;
        t->height = (uint64_t)level & 0xff;
        pos_set(pos, level, root, in_right);
        return;
    }
    struct btree_node *node = pos->node[level];
    uint32_t index = pos->index[level];
    btree_node_set(node, index, left, first_changed);
    first_changed = first_changed && index == 0;
    if (node->count < BTREE_NODE_MAX) {
        if (node->count == node->capacity) {
            node = btree_node_rebuild(e, node, node->count + 1U);
            path_link(t, pos, level, node);
        }
        btree_node_put(node, index + 1, right);
        pos->index[level] = index + in_right;
        path_add(t, pos, level + 1, 1);
        if (first_changed)
            path_note_words(t, pos, level + 1);
        return;
    }
    uint32_t cut = bias == BIAS_LAST ? node->count : bias == BIAS_FIRST ? 1 : node->count / 2U + 1;
    struct btree_node *l, *r;
    btree_node_split(e, node, index + 1, right, cut, &l, &r);
    index += in_right;
    in_right = index >= cut;
    pos_set(pos, level, in_right ? r : l, in_right ? index - cut : index);
    struct btree_branch upper_left = btree_branch_of(l), upper_right = btree_branch_of(r);
    path_split(t, e, pos, level + 1, &upper_left, &upper_right, in_right, first_changed, bias);
}

/* A leaf for `live` bytes at least, with one item. */
static struct btree_leaf *leaf_of_one(struct epoch *e, const struct btree_cell *cell, size_t live)
{
    struct btree_leaf *leaf = btree_leaf_new(live, e->now);
    btree_leaf_put(leaf, 0, cell);
    return leaf;
}

/* Insert where the leaf is full. */
static void split_leaf(struct btree *t, struct epoch *e, struct btree_pos *pos,
                       const struct btree_cell *cell, enum bias bias)
{
    struct btree_leaf *left = pos_leaf(pos), *right = left;
    uint32_t index = pos->index[0];
    bool in_right = false;
    if (bias == BIAS_LAST) {
        right = leaf_of_one(e, cell, BTREE_LEAF_MAX);
        in_right = true;
        pos_set(pos, 0, right, 0);
    } else if (bias == BIAS_FIRST) {
        left = leaf_of_one(e, cell, BTREE_LEAF_MAX);
        pos_set(pos, 0, left, 0);
    } else {
        uint32_t cut = btree_leaf_split(e, left, index, cell, &left, &right);
        in_right = index >= cut;
        pos_set(pos, 0, in_right ? right : left, in_right ? index - cut : index);
    }
    struct btree_branch l = btree_branch_of(left), r = btree_branch_of(right);
    path_split(t, e, pos, 1, &l, &r, in_right, index == 0, bias);
}

static void insert_cell(struct btree *t, struct epoch *e, struct btree_pos *pos,
                        const struct btree_cell *cell)
{
    struct btree_leaf *leaf = pos_leaf(pos);
    enum bias bias = pos->rank == t->count ? BIAS_LAST
                     : pos->rank == 0      ? BIAS_FIRST
                                           : BIAS_NONE;
    set_count(t, t->count + 1);
    bool owned = epoch_owned(e, btree_birth(leaf));
    if (!owned)
        path_own(t, e, pos);
    if (!owned || !btree_leaf_has_room(leaf, cell)) {
        size_t live = btree_leaf_live(leaf) + sizeof(uint16_t) + cell->size;
        if (live > BTREE_LEAF_MAX) {
            split_leaf(t, e, pos, cell, bias);
            return;
        }
        leaf = path_rebuild_leaf(t, e, pos, live);
    }
    btree_leaf_put(leaf, pos->index[0], cell);
    path_add(t, pos, 1, 1);
    if (pos->index[0] == 0)
        path_note_words(t, pos, 1);
}

void btree_insert(struct btree *t, struct epoch *e, struct btree_pos *pos, struct slice item)
{
    struct btree_cell cell;
    btree_cell_init(&cell, item, e->now);
    pos->tree = t;
    if (t->root) {
        /* Between two leaves: behind the last item of the left one, so that none has another first
         * item. */
        if (t->height > 0 && pos->index[0] == 0 && pos->index[1] > 0) {
            struct btree_leaf *left = btree_node_children(pos->node[1])[--pos->index[1]];
            pos_set(pos, 0, left, left->count);
        }
        insert_cell(t, e, pos, &cell);
        return;
    }
    t->root = leaf_of_one(e, &cell, sizeof(struct btree_leaf) + sizeof(uint16_t) + cell.size);
    set_count(t, 1);
    pos_init(pos, t);
    pos_set(pos, 0, t->root, 0);
}

void btree_append(struct btree *t, struct epoch *e, struct slice item)
{
    struct btree_pos pos;
    btree_seek_rank(t, t->count, &pos);
    btree_insert(t, e, &pos, item);
}

void btree_prepend(struct btree *t, struct epoch *e, struct slice item)
{
    struct btree_pos pos;
    pos_init(&pos, t);
    if (t->root)
        pos_first_below(&pos, t->root);
    btree_insert(t, e, &pos, item);
}

/* --- remove and replace ----------------------------------------------------------------------- */

/* While the root has one child alone, that becomes the root. */
static void drop_lone_roots(struct btree *t, struct epoch *e)
{
    while (t->height > 0 && ((const struct btree_head *)t->root)->count == 1) {
        void *root = t->root;
        t->root = btree_node_children(root)[0];
        t->height = (t->height - 1U) & 0xff;
        btree_retire_node(e, root);
    }
}

/* Bring the owned path in order after an item was taken from the leaf, and note the words of first
 * items. True if nodes are gone: the path is then no longer valid. */
static bool path_fix(struct btree *t, struct epoch *e, struct btree_pos *pos)
{
    bool changed = true, any = false;
    for (int level = 1; level <= t->height && (changed || pos->index[level - 1] == 0); level++) {
        struct btree_node *node = pos->node[level];
        uint32_t index = pos->index[level];
        changed = changed && btree_node_fix(e, node, index);
        if (changed)
            any = true;
        else
            btree_node_note_first(node, index);
    }
    if (any)
        drop_lone_roots(t, e);
    return any;
}

/* The leaf of the path, owned, and the nodes above. */
static struct btree_leaf *path_own_leaf(struct btree *t, struct epoch *e, struct btree_pos *pos)
{
    struct btree_leaf *leaf = pos_leaf(pos);
    if (epoch_owned(e, btree_birth(leaf)))
        return leaf;
    path_own(t, e, pos);
    return path_rebuild_leaf(t, e, pos, btree_leaf_live(leaf));
}

void btree_remove(struct btree *t, struct epoch *e, struct btree_pos *pos)
{
    pos->tree = t;
    assert(!btree_at_end(pos));
    if (t->count == 1) {
        btree_clear(t, e);
        pos_init(pos, t);
        return;
    }
    struct btree_leaf *leaf = path_own_leaf(t, e, pos);
    uint32_t index = pos->index[0];
    btree_leaf_retire_large(e, leaf, index, index + 1);
    btree_leaf_take(leaf, index);
    set_count(t, t->count - 1);
    path_add(t, pos, 1, (uint64_t)-1);
    if (path_fix(t, e, pos)) {
        btree_seek_rank(t, pos->rank, pos);
        return;
    }
    size_t live = btree_leaf_live(leaf);
    /* The leaves at the ends of a list are about to be emptied, or filled again: not worth a
     * copy. */
    bool at_end = t->unordered && (pos->rank == 0 || pos->rank == t->count);
    /* Some room is left, so that the next insert does not enlarge it again. */
    if (live <= leaf->size * 3U / 4 && !at_end && btree_leaf_class(live + live / 8) < leaf->size)
        leaf = path_rebuild_leaf(t, e, pos, live);
    if (index == leaf->count)
        pos_next_leaf(pos);
}

void btree_replace(struct btree *t, struct epoch *e, struct btree_pos *pos, struct slice item)
{
    pos->tree = t;
    assert(!btree_at_end(pos));
    struct btree_cell cell;
    btree_cell_init(&cell, item, e->now);
    struct btree_leaf *leaf = path_own_leaf(t, e, pos);
    uint32_t index = pos->index[0];
    btree_leaf_retire_large(e, leaf, index, index + 1);
    if (btree_leaf_payload_size(leaf, leaf->slots[index]) == cell.size) {
        btree_leaf_overwrite(leaf, index, &cell);
        if (index == 0)
            path_note_words(t, pos, 1);
        return;
    }
    btree_leaf_take(leaf, index);
    set_count(t, t->count - 1);
    path_add(t, pos, 1, (uint64_t)-1);
    insert_cell(t, e, pos, &cell);
}

/* --- ranges ----------------------------------------------------------------------------------- */

static struct btree_leaf *cut_leaf(struct epoch *e, struct btree_leaf *leaf, uint32_t from,
                                   uint32_t to)
{
    btree_leaf_retire_large(e, leaf, from, to);
    size_t gone = (to - from) * sizeof(uint16_t);
    for (uint32_t i = from; i < to; i++)
        gone += btree_leaf_payload_size(leaf, leaf->slots[i]);
    struct btree_leaf *fresh = btree_leaf_new(btree_leaf_live(leaf) - gone, e->now);
    btree_leaf_append(fresh, leaf, 0, from);
    btree_leaf_append(fresh, leaf, to, leaf->count);
    btree_retire_node(e, leaf);
    return fresh;
}

/* Remove n items from `from` on, not all, of the subtree; gives the node that stands for it now,
 * which is owned. What lies in the range whole is retired whole, so that two nodes at most of each
 * height are touched besides their parents. */
static void *cut(struct epoch *e, void *ptr, uint64_t from, uint64_t n)
{
    if (btree_height(ptr) == 0)
        return cut_leaf(e, ptr, (uint32_t)from, (uint32_t)(from + n));
    struct btree_node *node = ptr;
    if (!epoch_owned(e, btree_birth(node)))
        node = btree_node_rebuild(e, node, node->count);
    void **children = btree_node_children(node);
    uint64_t *counts = btree_node_counts(node);
    uint32_t index = 0;
    while (from >= counts[index])
        from -= counts[index++];

    uint32_t first_gone = index, gone = 0;
    for (; n > 0; index++, from = 0) {
        uint64_t part = counts[index] - from < n ? counts[index] - from : n;
        n -= part;
        if (part == counts[index]) {
            btree_retire_subtree(e, children[index], part);
            gone++;
            continue;
        }
        children[index] = cut(e, children[index], from, part);
        counts[index] -= part;
        if (!btree_node_is_unordered(node))
            btree_node_words(node)[index] = btree_first_word(children[index]);
        if (gone == 0)
            first_gone = index + 1;
    }
    btree_node_take(node, first_gone, first_gone + gone);
    for (uint32_t back = 0; back < 3; back++) {
        if (back <= first_gone && first_gone - back < node->count)
            btree_node_note_first(node, first_gone - back);
    }
    /* The two sides of the cut may be small now: they are among these. */
    for (uint32_t back = 0; back < 3; back++) {
        if (back <= first_gone && first_gone - back < node->count)
            btree_node_fix(e, node, first_gone - back);
    }
    return node;
}

void btree_remove_range(struct btree *t, struct epoch *e, uint64_t rank, uint64_t count)
{
    if (rank >= t->count || count == 0)
        return;
    if (count > t->count - rank)
        count = t->count - rank;
    if (count == t->count) {
        btree_clear(t, e);
        return;
    }
    t->root = cut(e, t->root, rank, count);
    set_count(t, t->count - count);
    drop_lone_roots(t, e);
}

void btree_clear(struct btree *t, struct epoch *e)
{
    if (t->root)
        btree_retire_subtree(e, t->root, t->count);
    *t = (struct btree){.unordered = t->unordered};
}
