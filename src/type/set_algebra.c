/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/set_algebra.h"

#include <stdlib.h>

#include "base/mem.h"

static int by_count(const void *a, const void *b)
{
    uint64_t x = set_count(*(const struct entry *const *)a);
    uint64_t y = set_count(*(const struct entry *const *)b);
    return (x > y) - (x < y);
}

/* A sorted copy of the sets, the smallest first; the caller frees it. None of them may be NULL. */
static const struct entry **sorted(const struct entry *const *sets, int count)
{
    size_t size = (size_t)count * sizeof(*sets);
    const struct entry **copy = mem_alloc(size);
    memcpy(copy, sets, size);
    qsort(copy, (size_t)count, sizeof(*copy), by_count);
    return copy;
}

/* Whether the member is in all (or, with `any`, in one) of the sets. */
static bool in_sets(const struct entry *const *sets, int count, struct slice member, bool any)
{
    uint64_t hash = 0;
    bool hashed = false;
    for (int i = 0; i < count; i++) {
        if (!hashed && entry_encoding(sets[i]) == ENTRY_DICT) {
            hash = hash_bytes(member.data, member.size);
            hashed = true;
        }
        if (set_has_hash(sets[i], member, hash) == any)
            return any;
    }
    return !any;
}

uint64_t set_intersect(const struct entry *const *sets, int count, uint64_t limit,
                       member_visit_fn *fn, void *ctx)
{
    for (int i = 0; i < count; i++) {
        if (sets[i] == NULL)
            return 0;
    }
    const struct entry **order = sorted(sets, count);
    uint64_t found = 0;
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, order[0]);
    while ((limit == 0 || found < limit) && member_iter_next(&it, &item)) {
        if (!in_sets(order + 1, count - 1, item.key, false))
            continue;
        found++;
        if (fn)
            fn(ctx, &item);
    }
    mem_free(order);
    return found;
}

static void add_item(void *ctx, const struct dict_item *item)
{
    struct set_scratch *s = ctx;
    set_add(&s->ref, item->key);
}

static void add_all(struct set_scratch *s, const struct entry *set)
{
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, set);
    while (member_iter_next(&it, &item))
        set_add(&s->ref, item.key);
}

/* Look for each member of the first set in the others, of which the largest come first, as they are
 * the most likely to have it. */
static void subtract_by_search(struct set_scratch *s, const struct entry *first,
                               const struct entry *const *others, int count)
{
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, first);
    while (member_iter_next(&it, &item)) {
        if (!in_sets(others, count, item.key, true))
            set_add(&s->ref, item.key);
    }
}

/* Take the members of the others out of a copy of the first set. */
static void subtract_by_removal(struct set_scratch *s, const struct entry *first,
                                const struct entry *const *others, int count)
{
    add_all(s, first);
    for (int i = 0; i < count; i++) {
        struct member_iter it;
        struct dict_item item;
        member_iter_init(&it, others[i]);
        while (s->ref.entry && member_iter_next(&it, &item))
            set_remove(&s->ref, item.key);
    }
}

static void subtract(struct set_scratch *s, const struct entry *const *sets, int count)
{
    if (sets[0] == NULL)
        return;
    const struct entry **others = mem_alloc((size_t)count * sizeof(*others));
    int n = 0;
    uint64_t total = set_count(sets[0]);
    bool itself = false;
    for (int i = 1; i < count; i++) {
        itself |= sets[i] == sets[0];
        if (sets[i]) {
            others[n++] = sets[i];
            total += set_count(sets[i]);
        }
    }
    /* A search costs about half of what adding and removing cost. */
    uint64_t search = set_count(sets[0]) * (uint64_t)(n + 1) / 2;
    if (itself) {
        /* Nothing is left. */
    } else if (search <= total) {
        qsort(others, (size_t)n, sizeof(*others), by_count);
        for (int i = 0; i < n / 2; i++) {
            const struct entry *swap = others[i];
            others[i] = others[n - 1 - i];
            others[n - 1 - i] = swap;
        }
        subtract_by_search(s, sets[0], others, n);
    } else {
        subtract_by_removal(s, sets[0], others, n);
    }
    mem_free(others);
}

void set_combine(struct set_scratch *s, enum set_operation operation,
                 const struct entry *const *sets, int count)
{
    switch (operation) {
    case SET_INTERSECTION:
        set_intersect(sets, count, 0, add_item, s);
        break;
    case SET_DIFFERENCE:
        subtract(s, sets, count);
        break;
    case SET_UNION:
        for (int i = 0; i < count; i++) {
            if (sets[i])
                add_all(s, sets[i]);
        }
        break;
    }
}
