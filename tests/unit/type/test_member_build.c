/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit/type/member_model.h"

#include "type/hash.h"
#include "type/member_build.h"
#include "type/set.h"

/* A part of the universe, in a random order; the first is no integer unless `any_first`. */
static int pick(int ids[UNIVERSE], bool any_first)
{
    int first = (int)random_below(UNIVERSE),
        last = first + 1 + (int)random_below(random_below(2) ? 20 : UNIVERSE);
    int n = 0;
    for (int id = first; id < last && id < UNIVERSE; id++)
        ids[n++] = id;
    for (int i = n - 1; i > 0; i--) {
        int k = (int)random_below((uint64_t)i + 1), id = ids[i];
        ids[i] = ids[k];
        ids[k] = id;
    }
    for (int i = 0; i < n && !any_first && is_integer(ids[0]); i++) {
        int id = ids[i];
        ids[i] = ids[0];
        ids[0] = id;
    }
    return n;
}

static struct encoding_limits random_limits(void)
{
    static const int entries[] = {0, 10, 128, 512, 2000}, lengths[] = {10, 64, 5000};
    int most = entries[random_below(5)], longest = lengths[random_below(3)];
    return (struct encoding_limits){.set_max_intset_entries = 512,
                                    .set_max_listpack_entries = most,
                                    .set_max_listpack_value = longest,
                                    .hash_max_listpack_entries = most,
                                    .hash_max_listpack_value = longest};
}

static void model_of(struct model *m, const int ids[], int n, bool hash)
{
    *m = (struct model){.count = n, .due = ENTRY_NO_EXPIRY};
    for (int i = 0; i < n; i++) {
        m->has[ids[i]] = true;
        m->value[ids[i]] = (uint16_t)(hash ? ids[i] * 37 % 65000 : 0);
    }
}

static void add(struct member_builder *b, const struct model *m, int id)
{
    char buf[VALUE_BUF];
    struct slice value = slice_of("", 0);
    if (b->type == ENTRY_HASH)
        value = value_of_id(m->value[id], buf);
    member_builder_add(b, universe[id], value);
}

/* The same members, added to a key one by one. */
static const struct entry *added_one_by_one(struct world *w, const struct model *m, const int ids[],
                                            int n, bool hash)
{
    struct keyref ref = find_key(w, 1);
    if (ref.entry)
        keyref_delete(&ref);
    if (hash)
        hash_begin(&ref, (uint64_t)n);
    else
        set_begin(&ref, universe[ids[0]], (uint64_t)n);
    for (int i = 0; i < n; i++) {
        char buf[VALUE_BUF];
        if (hash)
            hash_set(&ref, universe[ids[i]], value_of_id(m->value[ids[i]], buf));
        else
            set_add(&ref, universe[ids[i]]);
    }
    return ref.entry;
}

/* What the builder makes is what adding the members one by one makes, in every encoding. */
static void test_same(void **state)
{
    (void)state;
    static int ids[UNIVERSE];
    struct world *w = mem_alloc(sizeof(*w));
    struct member_builder *b = mem_alloc(sizeof(*b));
    struct model *m = mem_alloc(sizeof(*m));
    world_init(w);
    bool seen_listpack = false, seen_dict = false, seen_small_dict = false;
    for (int round = 0; round < 600; round++) {
        bool hash = round % 2;
        int n = pick(ids, hash);
        w->ks->limits = random_limits();
        model_of(m, ids, n, hash);
        member_builder_init(b, &w->ks->epoch, &w->ks->limits);
        if (!hash && !member_builder_can(b, universe[ids[0]], (uint64_t)n)) {
            assert_true(is_integer(ids[0]));
            continue;
        }
        member_builder_begin(b, hash ? ENTRY_HASH : ENTRY_SET, (uint64_t)n);
        for (int i = 0; i < n; i++)
            add(b, m, ids[i]);
        if (random_below(10) == 0) {
            member_builder_reset(b);
            continue;
        }
        struct entry *e = member_builder_finish(b, keys[0], ENTRY_NO_EXPIRY);
        assert_non_null(e);
        check_entry(e, &w->ks->epoch);
        assert_true(same_as_model(e, m));
        const struct entry *other = added_one_by_one(w, m, ids, n, hash);
        assert_int_equal(entry_type(e), entry_type(other));
        assert_int_equal(entry_encoding(e), entry_encoding(other));
        assert_int_equal(e->flags, other->flags);
        if (entry_encoding(e) == ENTRY_LISTPACK)
            seen_listpack = true;
        else if (e->flags & ENTRY_GROWN)
            seen_dict = true;
        else
            seen_small_dict = true;
        struct keyref ref = find_key(w, 0);
        keyref_give(&ref, e);
        keyref_delete(&ref);
    }
    assert_true(seen_listpack && seen_dict && seen_small_dict);
    mem_free(m);
    mem_free(b);
    world_deinit(w);
    mem_free(w);
}

/* A member that is added twice is noticed, whatever stands between the two. */
static void test_twice(void **state)
{
    (void)state;
    static int ids[UNIVERSE];
    struct world *w = mem_alloc(sizeof(*w));
    struct member_builder *b = mem_alloc(sizeof(*b));
    struct model *m = mem_alloc(sizeof(*m));
    world_init(w);
    for (int round = 0; round < 200; round++) {
        bool hash = round % 2;
        int n = pick(ids, true), again = (int)random_below((uint64_t)n),
            at = (int)random_below((uint64_t)n);
        w->ks->limits = random_limits();
        model_of(m, ids, n, hash);
        member_builder_init(b, &w->ks->epoch, &w->ks->limits);
        member_builder_begin(b, hash ? ENTRY_HASH : ENTRY_SET, (uint64_t)n + 1);
        for (int i = 0; i < n; i++) {
            add(b, m, ids[i]);
            if (i == at)
                add(b, m, ids[again]);
        }
        assert_null(member_builder_finish(b, keys[0], ENTRY_NO_EXPIRY));
    }
    mem_free(m);
    mem_free(b);
    world_deinit(w);
    mem_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same), cmocka_unit_test(test_twice)};
    return cmocka_run_group_tests(tests, model_setup, model_teardown);
}
