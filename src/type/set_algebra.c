/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/set_algebra.h"

#include <stdlib.h>

#include "base/mem.h"
#include "type/hyperloglog.h"

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

/* The others that are there, the largest first, as they are the most likely to have a member; the
 * caller frees the array. */
static const struct entry **largest_first(const struct entry *const *sets, int count, int *found)
{
    const struct entry **order = mem_alloc(((size_t)count + 1) * sizeof(*order));
    int n = 0;
    for (int i = 0; i < count; i++) {
        if (sets[i])
            order[n++] = sets[i];
    }
    qsort(order, (size_t)n, sizeof(*order), by_count);
    for (int i = 0; i < n / 2; i++) {
        const struct entry *swap = order[i];
        order[i] = order[n - 1 - i];
        order[n - 1 - i] = swap;
    }
    *found = n;
    return order;
}

static void subtract(struct set_scratch *s, const struct entry *const *sets, int count)
{
    if (sets[0] == NULL)
        return;
    int n;
    const struct entry **others = largest_first(sets + 1, count - 1, &n);
    uint64_t total = set_count(sets[0]);
    bool itself = false;
    for (int i = 0; i < n; i++) {
        itself |= others[i] == sets[0];
        total += set_count(others[i]);
    }
    /* A search costs about half of what adding and removing cost. */
    uint64_t search = set_count(sets[0]) * (uint64_t)(n + 1) / 2;
    if (itself) {
        /* Nothing is left. */
    } else if (search <= total) {
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

/* ---- counting ---- */

uint64_t set_count_difference(const struct entry *const *sets, int count, uint64_t limit)
{
    if (sets[0] == NULL)
        return 0;
    int n;
    const struct entry **others = largest_first(sets + 1, count - 1, &n);
    uint64_t found = 0;
    bool itself = false;
    for (int i = 0; i < n; i++)
        itself |= others[i] == sets[0];
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, sets[0]);
    while (!itself && (limit == 0 || found < limit) && member_iter_next(&it, &item))
        found += !in_sets(others, n, item.key, true);
    mem_free(others);
    return found;
}

/* Up to this number of sets it is quicker to look each member up in the larger ones than to keep a
 * union of them; and nothing is allocated. */
#define UNION_SEARCHED 4

uint64_t set_count_union(struct keyspace *ks, const struct entry *const *sets, int count,
                         uint64_t limit)
{
    int n;
    const struct entry **order = largest_first(sets, count, &n);
    struct set_scratch scratch;
    bool kept = n > UNION_SEARCHED;
    if (kept)
        set_scratch_init(&scratch, ks, slice_of("", 0));
    uint64_t found = n > 0 && !kept ? set_count(order[0]) : 0;
    for (int i = kept ? 0 : 1; i < n && (limit == 0 || found < limit); i++) {
        struct member_iter it;
        struct dict_item item;
        member_iter_init(&it, order[i]);
        while ((limit == 0 || found < limit) && member_iter_next(&it, &item))
            found += kept ? set_add(&scratch.ref, item.key) : !in_sets(order, i, item.key, true);
    }
    if (kept)
        set_scratch_deinit(&scratch);
    mem_free(order);
    return limit != 0 && found > limit ? limit : found;
}

uint64_t set_estimate_union(const struct entry *const *sets, int count)
{
    uint8_t registers[HLL_REGISTERS] = {0};
    for (int i = 0; i < count; i++) {
        struct member_iter it;
        struct dict_item item;
        if (sets[i] == NULL)
            continue;
        member_iter_init(&it, sets[i]);
        while (member_iter_next(&it, &item)) {
            uint8_t value;
            unsigned at = hll_register_of(item.key, &value);
            if (value > registers[at])
                registers[at] = value;
        }
    }
    return hll_estimate(registers);
}
