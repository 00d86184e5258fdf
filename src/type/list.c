/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/list.h"

#include <assert.h>

static struct btree *tree_of(const struct entry *e)
{
    return (struct btree *)entry_value(e);
}

static char *listpack_of(const struct entry *e)
{
    return (char *)entry_value(e);
}

static struct epoch *epoch_of(const struct keyref *ref)
{
    return keyref_epoch(ref);
}

static bool is_tree(const struct entry *e)
{
    return entry_encoding(e) == ENTRY_BTREE;
}

uint64_t list_count(const struct entry *e)
{
    return is_tree(e) ? tree_of(e)->count : listpack_count(listpack_of(e));
}

/* Redis keeps a node with a limit by count below this size all the same. */
#define COUNT_LIMIT_BYTES 8192

/* The limits that list-max-listpack-size stands for. */
static void listpack_limits(int64_t setting, uint64_t *bytes, uint64_t *count)
{
    if (setting >= 0) {
        *count = setting == 0 ? 1 : (uint64_t)setting;
        *bytes = COUNT_LIMIT_BYTES;
    } else {
        int64_t level = setting < -5 ? 5 : -setting;
        *count = UINT64_MAX;
        *bytes = UINT64_C(2048) << level;
    }
}

const char *list_encoding_name(const struct entry *e, const struct encoding_limits *limits)
{
    uint64_t max_bytes, max_count;
    listpack_limits(limits->list_max_listpack_size, &max_bytes, &max_count);
    bool fits = list_count(e) <= max_count;
    if (fits && is_tree(e)) {
        /* At most max_bytes / 2 elements are looked at, as each takes two bytes or more. */
        uint64_t bytes = LISTPACK_EMPTY_SIZE;
        struct btree_pos pos;
        btree_seek_rank(tree_of(e), 0, &pos);
        do
            bytes += listpack_entry_size(btree_item(&pos));
        while (bytes <= max_bytes && btree_next(&pos));
        fits = bytes <= max_bytes;
    } else if (fits) {
        fits = e->value_size <= max_bytes;
    }
    return fits ? "listpack" : "quicklist";
}

void list_iter_init(struct list_iter *it, const struct entry *e, uint64_t index, bool reverse)
{
    it->reverse = reverse;
    it->more = index < list_count(e);
    it->lp = NULL;
    if (is_tree(e)) {
        if (it->more)
            btree_seek_rank(tree_of(e), index, &it->pos);
    } else {
        it->lp = listpack_of(e);
        it->at = it->more ? listpack_seek(it->lp, (int64_t)index) : 0;
    }
}

bool list_iter_next(struct list_iter *it, struct slice *item)
{
    if (it->lp) {
        if (it->at == 0)
            return false;
        *item = listpack_get_slice(it->lp, it->at, it->number);
        it->at = it->reverse ? listpack_prev(it->lp, it->at) : listpack_next(it->lp, it->at);
        return true;
    }
    if (!it->more)
        return false;
    /* The position is moved by the call after, so that a leaf is entered only when it is needed. */
    *item = btree_item(&it->pos);
    it->more = it->reverse ? btree_prev(&it->pos) : btree_next(&it->pos);
    return true;
}

static void append_listpack(struct btree *tree, struct epoch *epoch, const char *lp)
{
    char number[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp); at != 0; at = listpack_next(lp, at))
        btree_append(tree, epoch, listpack_get_slice(lp, at, number));
}

/* Make it a tree; creates the key where there is none. */
static void make_tree(struct keyref *ref)
{
    if (!ref->entry) {
        struct entry *e = keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_LIST, ENTRY_BTREE, 0);
        btree_init_unordered(tree_of(e));
        return;
    }
    struct btree tree;
    btree_init_unordered(&tree);
    append_listpack(&tree, epoch_of(ref), listpack_of(ref->entry));
    struct entry *e = keyref_reencode(ref, ENTRY_BTREE, 0);
    *tree_of(e) = tree;
}

static void push_small(struct keyref *ref, enum list_end end, const struct slice *items,
                       size_t count, size_t new_size)
{
    char *lp;
    if (ref->entry) {
        lp = listpack_of(keyref_resize(ref, new_size));
    } else {
        lp = listpack_of(keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_LIST, ENTRY_LISTPACK, new_size));
        listpack_init(lp);
    }
    for (size_t i = 0; i < count; i++)
        listpack_insert(lp, end == LIST_HEAD ? listpack_first(lp) : 0, items[i]);
    assert(listpack_size(lp) == new_size);
}

void list_push(struct keyref *ref, enum list_end end, const struct slice *items, size_t count)
{
    if (!ref->entry || !is_tree(ref->entry)) {
        size_t size = ref->entry ? ref->entry->value_size : LISTPACK_EMPTY_SIZE;
        for (size_t i = 0; i < count && size <= ENTRY_EMBED_MAX; i++)
            size += listpack_entry_size(items[i]);
        if (size <= ENTRY_EMBED_MAX) {
            push_small(ref, end, items, count, size);
            return;
        }
        make_tree(ref);
    }
    struct btree *tree = tree_of(keyref_own(ref));
    struct epoch *epoch = epoch_of(ref);
    for (size_t i = 0; i < count; i++) {
        if (end == LIST_HEAD)
            btree_prepend(tree, epoch, items[i]);
        else
            btree_append(tree, epoch, items[i]);
    }
}

static void pop_small(struct keyref *ref, enum list_end end, uint32_t n, list_visit_fn *fn,
                      void *ctx)
{
    char *lp = listpack_of(ref->entry);
    char number[LISTPACK_NUMBER_SIZE];
    uint32_t at = end == LIST_HEAD ? listpack_first(lp) : listpack_last(lp);
    for (uint32_t i = 0;;) {
        if (fn)
            fn(ctx, listpack_get_slice(lp, at, number));
        if (++i == n)
            break;
        at = end == LIST_HEAD ? listpack_next(lp, at) : listpack_prev(lp, at);
    }
    if (n == listpack_count(lp)) {
        keyref_delete(ref);
        return;
    }
    lp = listpack_of(keyref_own(ref));
    listpack_remove(lp, end == LIST_HEAD ? listpack_first(lp) : at, n);
    keyref_resize(ref, listpack_size(lp));
}

static void pop_tree(struct keyref *ref, enum list_end end, uint64_t n, list_visit_fn *fn,
                     void *ctx)
{
    struct btree *tree = tree_of(keyref_own(ref));
    struct btree_pos pos;
    btree_seek_rank(tree, end == LIST_HEAD ? 0 : tree->count - 1, &pos);
    if (n == 1 && tree->count > 1) {
        if (fn)
            fn(ctx, btree_item(&pos));
        btree_remove(tree, epoch_of(ref), &pos);
        return;
    }
    for (uint64_t i = 0; fn && i < n; i++) {
        fn(ctx, btree_item(&pos));
        if (end == LIST_HEAD)
            btree_next(&pos);
        else
            btree_prev(&pos);
    }
    if (n == tree->count)
        keyref_delete(ref);
    else
        btree_remove_range(tree, epoch_of(ref), end == LIST_HEAD ? 0 : tree->count - n, n);
}

uint64_t list_pop(struct keyref *ref, enum list_end end, uint64_t count, list_visit_fn *fn,
                  void *ctx)
{
    uint64_t n = list_count(ref->entry);
    if (count < n)
        n = count;
    if (n == 0)
        return 0;
    if (is_tree(ref->entry))
        pop_tree(ref, end, n, fn, ctx);
    else
        pop_small(ref, end, (uint32_t)n, fn, ctx);
    return n;
}

void list_set(struct keyref *ref, uint64_t index, struct slice item)
{
    assert(index < list_count(ref->entry));
    if (!is_tree(ref->entry)) {
        char *lp = listpack_of(ref->entry);
        uint32_t at = listpack_seek(lp, (int64_t)index);
        int64_t size = ref->entry->value_size + listpack_replace_growth(lp, at, item);
        if (size <= ENTRY_EMBED_MAX) {
            size_t room =
                (size_t)size > ref->entry->value_size ? (size_t)size : ref->entry->value_size;
            lp = listpack_of(keyref_resize(ref, room));
            listpack_replace(lp, at, item);
            if ((size_t)size < room)
                keyref_resize(ref, (size_t)size);
            return;
        }
        make_tree(ref);
    }
    struct btree *tree = tree_of(keyref_own(ref));
    struct btree_pos pos;
    btree_seek_rank(tree, index, &pos);
    btree_replace(tree, epoch_of(ref), &pos, item);
}

/* The index of the first element equal to item; the count if there is none. */
static uint64_t index_of(const struct entry *e, struct slice item)
{
    struct list_iter it;
    struct slice found;
    uint64_t index = 0;
    list_iter_init(&it, e, 0, false);
    while (list_iter_next(&it, &found) && !slice_equal(found, item))
        index++;
    return index;
}

bool list_insert(struct keyref *ref, struct slice pivot, bool before, struct slice item)
{
    uint64_t index = index_of(ref->entry, pivot);
    if (index == list_count(ref->entry))
        return false;
    if (!before)
        index++;
    if (!is_tree(ref->entry)) {
        size_t size = (size_t)ref->entry->value_size + listpack_entry_size(item);
        if (size <= ENTRY_EMBED_MAX) {
            char *lp = listpack_of(keyref_resize(ref, size));
            /* Behind the last there is nothing to seek: 0 stands for the end. */
            uint32_t at = index < listpack_count(lp) ? listpack_seek(lp, (int64_t)index) : 0;
            listpack_insert(lp, at, item);
            return true;
        }
        make_tree(ref);
    }
    struct btree *tree = tree_of(keyref_own(ref));
    struct btree_pos pos;
    btree_seek_rank(tree, index, &pos);
    btree_insert(tree, epoch_of(ref), &pos, item);
    return true;
}

void list_trim(struct keyref *ref, uint64_t first, uint64_t count)
{
    uint64_t total = list_count(ref->entry);
    assert(first + count <= total);
    if (count == total)
        return;
    if (count == 0) {
        keyref_delete(ref);
        return;
    }
    uint64_t behind = total - first - count;
    struct entry *e = keyref_own(ref);
    if (is_tree(e)) {
        if (behind > 0)
            btree_remove_range(tree_of(e), epoch_of(ref), first + count, behind);
        if (first > 0)
            btree_remove_range(tree_of(e), epoch_of(ref), 0, first);
        return;
    }
    char *lp = listpack_of(e);
    if (behind > 0)
        listpack_remove(lp, listpack_seek(lp, (int64_t)(first + count)), (uint32_t)behind);
    if (first > 0)
        listpack_remove(lp, listpack_first(lp), (uint32_t)first);
    keyref_resize(ref, listpack_size(lp));
}

static uint64_t remove_small(struct keyref *ref, struct slice item, uint64_t limit, bool reverse)
{
    char *lp = listpack_of(keyref_own(ref));
    uint64_t removed = 0;
    uint32_t at = reverse ? listpack_last(lp) : listpack_first(lp);
    while (at != 0 && removed < limit) {
        bool equal = listpack_equal(lp, at, item);
        uint32_t before = reverse ? listpack_prev(lp, at) : 0;
        uint32_t behind = equal ? listpack_remove(lp, at, 1) : listpack_next(lp, at);
        removed += equal;
        at = reverse ? before : behind;
    }
    if (listpack_count(lp) == 0)
        keyref_delete(ref);
    else if (removed > 0)
        keyref_resize(ref, listpack_size(lp));
    return removed;
}

static uint64_t remove_tree(struct keyref *ref, struct slice item, uint64_t limit, bool reverse)
{
    struct btree *tree = tree_of(keyref_own(ref));
    struct epoch *epoch = epoch_of(ref);
    uint64_t removed = 0;
    struct btree_pos pos;
    btree_seek_rank(tree, reverse ? tree->count - 1 : 0, &pos);
    bool more = true;
    while (more && removed < limit) {
        bool equal = slice_equal(btree_item(&pos), item);
        if (equal) {
            btree_remove(tree, epoch, &pos);
            removed++;
        }
        /* Removing has moved the position to the element behind. */
        if (reverse)
            more = pos.rank > 0 && btree_prev(&pos);
        else
            more = equal ? !btree_at_end(&pos) : btree_next(&pos);
    }
    if (tree->count == 0)
        keyref_delete(ref);
    return removed;
}

uint64_t list_remove(struct keyref *ref, struct slice item, uint64_t limit, bool reverse)
{
    if (limit == 0)
        limit = UINT64_MAX;
    return is_tree(ref->entry) ? remove_tree(ref, item, limit, reverse)
                               : remove_small(ref, item, limit, reverse);
}

void list_builder_init(struct list_builder *b, struct epoch *epoch)
{
    b->epoch = epoch;
    b->large = false;
    btree_init_unordered(&b->tree);
    listpack_init(b->lp);
}

static void builder_enlarge(struct list_builder *b)
{
    append_listpack(&b->tree, b->epoch, b->lp);
    b->large = true;
}

void list_builder_add(struct list_builder *b, struct slice item)
{
    if (!b->large) {
        if ((size_t)listpack_size(b->lp) + listpack_entry_size(item) <= ENTRY_EMBED_MAX) {
            listpack_insert(b->lp, 0, item);
            return;
        }
        builder_enlarge(b);
    }
    btree_append(&b->tree, b->epoch, item);
}

void list_builder_add_listpack(struct list_builder *b, const char *lp)
{
    size_t size = listpack_size(lp);
    if (!b->large && listpack_count(b->lp) == 0 && size <= ENTRY_EMBED_MAX) {
        memcpy(b->lp, lp, size);
        return;
    }
    char number[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp); at != 0; at = listpack_next(lp, at))
        list_builder_add(b, listpack_get_slice(lp, at, number));
}

uint64_t list_builder_count(const struct list_builder *b)
{
    return b->large ? b->tree.count : listpack_count(b->lp);
}

struct entry *list_builder_finish(struct list_builder *b, struct slice key, int64_t due)
{
    if (list_builder_count(b) == 0)
        return NULL;
    struct entry *e;
    if (b->large) {
        e = entry_new(key, due, ENTRY_LIST, ENTRY_BTREE, 0);
        *tree_of(e) = b->tree;
    } else {
        size_t size = listpack_size(b->lp);
        e = entry_new(key, due, ENTRY_LIST, ENTRY_LISTPACK, size);
        memcpy(listpack_of(e), b->lp, size);
    }
    list_builder_init(b, b->epoch);
    return e;
}

void list_builder_reset(struct list_builder *b)
{
    btree_clear(&b->tree, b->epoch);
    list_builder_init(b, b->epoch);
}
