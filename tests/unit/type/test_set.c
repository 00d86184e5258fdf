/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit/type/member_model.h"

#include "type/set.h"
#include "type/set_algebra.h"

/* ---- what Redis would do ---- */

static bool fits(const struct encoding_limits *l, int id)
{
    return universe[id].size <= (size_t)l->set_max_listpack_value;
}

/* The encoding of a set to which these members are added, in any order. */
static const char *fresh_encoding(const struct encoding_limits *l, const struct model *m)
{
    bool integers = true, short_enough = true;
    for (int id = 0; id < UNIVERSE; id++) {
        if (m->has[id]) {
            integers &= is_integer(id);
            short_enough &= fits(l, id);
        }
    }
    if (integers)
        return m->count <= l->set_max_intset_entries ? "intset" : "hashtable";
    return short_enough && m->count <= l->set_max_listpack_entries ? "listpack" : "hashtable";
}

static void model_add(const struct encoding_limits *l, struct model *m, int id)
{
    bool was_integers = m->count == 0 || strcmp(m->encoding, "intset") == 0;
    bool was_small = m->count == 0 || strcmp(m->encoding, "hashtable") != 0;
    m->has[id] = true;
    m->count++;
    if (was_integers)
        m->encoding = fresh_encoding(l, m);
    else if (was_small && (!fits(l, id) || m->count > l->set_max_listpack_entries))
        m->encoding = "hashtable";
}

static void model_remove(struct model *m, int id)
{
    m->has[id] = false;
    if (--m->count == 0)
        m->due = ENTRY_NO_EXPIRY;
}

/* ---- the random test ---- */

struct profile {
    const char *name;
    int first, last;     /* the members that are used */
    unsigned odd_one_in; /* how often any string of the universe is; 0: never */
    struct encoding_limits limits;
    bool wants_listpack, wants_intset, wants_dict, wants_integer_dict, wants_small_dict;
};

#define LIMITS(intset, entries, value)                                             \
    {                                                                              \
        .set_max_intset_entries = (intset), .set_max_listpack_entries = (entries), \
        .set_max_listpack_value = (value)                                          \
    }

static const struct profile profiles[] = {
    {.name = "defaults, small integers",
     .first = 0,
     .last = 599,
     .limits = LIMITS(512, 128, 64),
     .wants_intset = true,
     .wants_dict = true},
    {.name = "defaults, large integers",
     .first = 600,
     .last = 1199,
     .limits = LIMITS(512, 128, 64),
     .wants_intset = true,
     .wants_integer_dict = true},
    {.name = "large integers, a higher threshold",
     .first = 600,
     .last = 1199,
     .limits = LIMITS(580, 128, 64),
     .wants_integer_dict = true},
    {.name = "integers that become others",
     .first = 600,
     .last = 1199,
     .odd_one_in = 3000,
     .limits = LIMITS(1000, 700, 5000),
     .wants_integer_dict = true,
     .wants_small_dict = true},
    {.name = "defaults, short strings",
     .first = 1200,
     .last = 1499,
     .limits = LIMITS(512, 128, 64),
     .wants_listpack = true,
     .wants_dict = true},
    {.name = "strings of middle length",
     .first = 1450,
     .last = 1599,
     .limits = LIMITS(512, 140, 70),
     .wants_small_dict = true,
     .wants_listpack = true},
    {.name = "long strings",
     .first = 1560,
     .last = 1647,
     .limits = LIMITS(512, 60, 5000),
     .wants_small_dict = true,
     .wants_dict = true},
    {.name = "everything",
     .first = 0,
     .last = UNIVERSE - 1,
     .limits = LIMITS(512, 128, 64),
     .wants_dict = true},
    {.name = "short numbers only",
     .first = 0,
     .last = 100,
     .odd_one_in = 200,
     .limits = LIMITS(64, 80, 3),
     .wants_intset = true,
     .wants_dict = true},
    {.name = "no small encodings",
     .first = 0,
     .last = 1300,
     .limits = LIMITS(0, 0, 64),
     .wants_dict = true},
};

struct pops {
    struct model *model;
    int count;
};

static void note_pop(void *ctx, const struct dict_item *item)
{
    struct pops *p = ctx;
    int id = member_id(item->key);
    assert_true(id >= 0);
    assert_true(p->model->has[id]);
    model_remove(p->model, id);
    p->count++;
}

static void pop_some(struct world *w, int k)
{
    struct keyref ref = find_key(w, k);
    struct model *m = &w->models[k];
    if (ref.entry == NULL)
        return;
    uint64_t all = set_count(ref.entry), count = 1 + random_below(3);
    if (random_below(4) == 0)
        count = random_below(all + 2);
    if (random_below(4) == 0)
        count = all - all / (6 + random_below(20));
    bool rewritten =
        entry_encoding(ref.entry) == ENTRY_DICT && count < all && count >= 4 * (all - count);
    int64_t due = m->due;
    struct pops pops = {.model = m};
    set_pop(&ref, count, note_pop, &pops);
    assert_int_equal(pops.count, count < all ? count : all);
    if (m->count)
        assert_int_equal(m->due, due);
    if (rewritten && count > 0)
        m->encoding = fresh_encoding(&w->ks->limits, m);
}

struct picks {
    const struct model *model;
    bool distinct;
    int count;
    int times[UNIVERSE];
};

static void note_pick(void *ctx, const struct dict_item *item)
{
    struct picks *p = ctx;
    int id = member_id(item->key);
    assert_true(id >= 0);
    assert_true(p->model->has[id]);
    assert_true(!p->distinct || p->times[id] == 0);
    p->times[id]++;
    p->count++;
}

static void pick_some(struct world *w, int k)
{
    const struct entry *e = find_key(w, k).entry;
    if (e == NULL)
        return;
    struct picks picks = {.model = &w->models[k], .distinct = random_below(2)};
    uint64_t count = random_below(2) ? random_below(10) : random_below(set_count(e) + 10);
    if (picks.distinct) {
        member_random_distinct(e, w->ks, count, note_pick, &picks);
        assert_int_equal(picks.count, count < set_count(e) ? count : set_count(e));
    } else {
        member_random_repeated(e, w->ks, count, note_pick, &picks);
        assert_int_equal(picks.count, count);
    }
}

static void scan_all(struct world *w, int k)
{
    const struct entry *e = find_key(w, k).entry;
    if (e == NULL)
        return;
    struct picks picks = {.model = &w->models[k], .distinct = true};
    uint64_t cursor = 0, want = 1 + random_below(50);
    do {
        cursor = member_scan(e, cursor, want, note_pick, &picks);
        assert_true(cursor == 0 || !member_scans_at_once(e));
    } while (cursor);
    assert_int_equal(picks.count, set_count(e));
}

/* Redis's own name: what it calls an encoding must follow from its thresholds alone. */
static void check_key(struct world *w, int k, bool deep)
{
    const struct entry *e = find_key(w, k).entry;
    const struct model *m = &w->models[k];
    if (m->count == 0) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(entry_type(e), ENTRY_SET);
    assert_int_equal(set_count(e), m->count);
    assert_string_equal(set_encoding_name(e), m->encoding);
    if (deep) {
        assert_true(same_as_model(e, m));
        check_entry(e, &w->ks->epoch);
    }
}

/* Where a set has been. */
struct seen {
    bool listpack, intset, dict, integer_dict, small_dict;
};

static void note_seen(struct seen *seen, const struct entry *e)
{
    switch (entry_encoding(e)) {
    case ENTRY_LISTPACK:
        seen->listpack = true;
        break;
    case ENTRY_INTSET:
        seen->intset = true;
        break;
    default:
        seen->dict |= (e->flags & ENTRY_GROWN) != 0;
        seen->integer_dict |= (e->flags & ENTRY_INTEGERS) != 0;
        seen->small_dict |= (e->flags & ENTRY_VALUE_FLAGS) == 0;
        break;
    }
}

static void add_one(struct world *w, int k, int id)
{
    struct keyref ref = find_key(w, k);
    struct model *m = &w->models[k];
    assert_int_equal(set_add(&ref, universe[id]), !m->has[id]);
    if (!m->has[id])
        model_add(&w->ks->limits, m, id);
}

static void step_once(struct world *w, const struct profile *p, int k, unsigned adding)
{
    struct model *m = &w->models[k];
    int id = p->first + (int)random_below((uint64_t)(p->last - p->first + 1));
    if (p->odd_one_in && random_below(p->odd_one_in) == 0)
        id = SHORT_STRINGS + (int)random_below(UNIVERSE - SHORT_STRINGS);
    unsigned dice = (unsigned)random_below(1000);
    struct keyref ref = find_key(w, k);
    if (dice < 20) {
        assert_int_equal(ref.entry && set_has(ref.entry, universe[id]), m->has[id]);
    } else if (dice < 25) {
        pick_some(w, k);
    } else if (dice < 28) {
        scan_all(w, k);
    } else if (dice < 33) {
        if (adding < 80)
            pop_some(w, k);
    } else if (dice < 36 && ref.entry) {
        m->due = random_below(2) ? ENTRY_NO_EXPIRY : 2000000 + (int64_t)random_below(1000);
        keyref_set_due(&ref, m->due);
    } else if (random_below(100) < adding) {
        add_one(w, k, id);
    } else if (ref.entry) {
        assert_int_equal(set_remove(&ref, universe[id]), m->has[id]);
        if (m->has[id])
            model_remove(m, id);
    }
}

/* All members of the profile, in order, into one set that was empty: past every threshold. */
static void grow(struct world *w, const struct profile *p, struct seen *seen)
{
    struct keyref ref = find_key(w, 0);
    if (ref.entry)
        keyref_delete(&ref);
    memset(&w->models[0], 0, sizeof(w->models[0]));
    w->models[0].due = ENTRY_NO_EXPIRY;
    for (int id = p->first; id <= p->last; id++) {
        add_one(w, 0, id);
        check_key(w, 0, false);
        note_seen(seen, find_key(w, 0).entry);
    }
    if (p->odd_one_in)
        add_one(w, 0, SHORT_STRINGS);
    check_key(w, 0, true);
    note_seen(seen, find_key(w, 0).entry);
}

static void run_profile(const struct profile *p, unsigned snapshot_one_in, int steps)
{
    struct world *w = mem_alloc(sizeof(*w));
    world_init(w);
    w->ks->limits = p->limits;
    struct seen seen = {false, false, false, false, false};
    /* The share of additions goes up and down, so that sets grow past thresholds and vanish. */
    unsigned adding = 97;
    for (int step = 0; step < steps; step++) {
        if (step % 2000 == 1999 && step > steps / 2)
            adding = (unsigned)(20 + random_below(75));
        if (snapshot_one_in)
            maybe_snapshot(w, snapshot_one_in);
        int k = (int)random_below(KEYS);
        step_once(w, p, k, adding);
        check_key(w, k, step % 64 == 0);
        const struct entry *e = find_key(w, k).entry;
        if (e)
            note_seen(&seen, e);
    }
    grow(w, p, &seen);
    /* The profile has been where it was made to go. */
    assert_true(seen.listpack || !p->wants_listpack);
    assert_true(seen.intset || !p->wants_intset);
    assert_true(seen.dict || !p->wants_dict);
    assert_true(seen.integer_dict || !p->wants_integer_dict);
    assert_true(seen.small_dict || !p->wants_small_dict);
    for (int k = 0; k < KEYS; k++)
        check_key(w, k, true);
    world_deinit(w);
    mem_free(w);
}

#define PROFILE_COUNT (sizeof(profiles) / sizeof(profiles[0]))

/* Random operations on sets of all kinds agree with the model, and the encodings with Redis's
 * thresholds. */
static void test_random_operations(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROFILE_COUNT; i++)
        run_profile(&profiles[i], 0, 10000);
}

/* The same while snapshots come and go: each still reads as it did when it was taken, by this
 * thread and another. */
static void test_random_operations_with_snapshots(void **state)
{
    (void)state;
    for (size_t i = 0; i < PROFILE_COUNT; i++)
        run_profile(&profiles[i], 60, 8000);
}

/* ---- algebra ---- */

static void fill(struct world *w, int k, int first, int last, unsigned percent)
{
    struct keyref ref = find_key(w, k);
    if (ref.entry)
        keyref_delete(&ref);
    struct model *m = &w->models[k];
    memset(m, 0, sizeof(*m));
    m->due = ENTRY_NO_EXPIRY;
    for (int id = first; id <= last; id++) {
        if (random_below(100) < percent) {
            set_add(&ref, universe[id]);
            m->has[id] = true;
            m->count++;
        }
    }
}

/* Intersections, unions and differences of random sets, some missing or equal, are those of the
 * model; the result is stored over one of the sources without harm. */
static void test_algebra(void **state)
{
    (void)state;
    struct world *w = mem_alloc(sizeof(*w));
    world_init(w);
    for (int round = 0; round < 150; round++) {
        for (int k = 0; k < KEYS; k++) {
            int first = (int)random_below(UNIVERSE),
                last = first + (int)random_below(random_below(2) ? 20 : 800);
            fill(w, k, first, last < UNIVERSE ? last : UNIVERSE - 1, random_below(2) ? 95 : 40);
        }
        if (round % 3 == 0)
            maybe_snapshot(w, 1);
        const struct entry *sets[5];
        int order[5], count = 1 + (int)random_below(5);
        for (int i = 0; i < count; i++) {
            order[i] = (int)random_below(KEYS);
            sets[i] = find_key(w, order[i]).entry;
        }
        static struct model expected[3];
        memset(expected, 0, sizeof(expected));
        for (int id = 0; id < UNIVERSE; id++) {
            bool all = true, any = false, others = false;
            for (int i = 0; i < count; i++) {
                bool has = w->models[order[i]].has[id];
                all &= has;
                any |= has;
                others |= has && i > 0;
            }
            bool in[3] = {[SET_INTERSECTION] = all,
                          [SET_UNION] = any,
                          [SET_DIFFERENCE] = w->models[order[0]].has[id] && !others};
            for (int op = 0; op < 3; op++) {
                expected[op].has[id] = in[op];
                expected[op].count += in[op];
                expected[op].due = ENTRY_NO_EXPIRY;
            }
        }
        struct picks picks = {.model = &expected[SET_INTERSECTION], .distinct = true};
        assert_int_equal(set_intersect(sets, count, 0, note_pick, &picks),
                         expected[SET_INTERSECTION].count);
        uint64_t limit = 1 + random_below(10);
        uint64_t limited = (uint64_t)expected[SET_INTERSECTION].count;
        assert_int_equal(set_intersect(sets, count, limit, NULL, NULL),
                         limited < limit ? limited : limit);

        enum set_operation op = (enum set_operation)random_below(3);
        struct set_scratch scratch;
        set_scratch_init(&scratch, w->ks, keys[0]);
        set_combine(&scratch, op, sets, count);
        if (scratch.ref.entry && op != SET_DIFFERENCE)
            assert_string_equal(set_encoding_name(scratch.ref.entry),
                                fresh_encoding(&w->ks->limits, &expected[op]));
        assert_true(same_as_model(scratch.ref.entry, &expected[op]));
        if (random_below(2)) {
            struct keyref to = find_key(w, 0);
            set_scratch_move(&scratch, &to);
            w->models[0] = expected[op];
            assert_true(same_as_model(find_key(w, 0).entry, &w->models[0]));
        }
        set_scratch_deinit(&scratch);
        for (int k = 0; k < KEYS; k++)
            assert_true(same_as_model(find_key(w, k).entry, &w->models[k]));
    }
    world_deinit(w);
    mem_free(w);
}

/* ---- chance ---- */

static void count_pick(void *ctx, const struct dict_item *item)
{
    int *times = ctx;
    times[member_id(item->key)]++;
}

/* Every member comes up about as often as any other, in all encodings and for small and large
 * counts. */
static void test_randomness(void **state)
{
    (void)state;
    static const struct {
        int first, last;
    } sets[] = {{0, 99}, {1200, 1299}, {0, 599}, {1200, 1499}};
    for (size_t s = 0; s < sizeof(sets) / sizeof(sets[0]); s++) {
        struct world *w = mem_alloc(sizeof(*w));
        world_init(w);
        fill(w, 0, sets[s].first, sets[s].last, 100);
        const struct entry *e = find_key(w, 0).entry;
        uint64_t n = set_count(e);
        const uint64_t wanted[] = {1, 5, n / 3, n - 2};
        for (size_t c = 0; c < 4; c++) {
            int times[UNIVERSE] = {0};
            uint64_t rounds = 400 * n / wanted[c];
            for (uint64_t i = 0; i < rounds; i++)
                member_random_distinct(e, w->ks, wanted[c], count_pick, times);
            /* 400 are expected of each; 20 is the standard deviation of what is independent. */
            for (int id = sets[s].first; id <= sets[s].last; id++) {
                assert_in_range(times[id], 250, 600);
                times[id] = 0;
            }
            member_random_repeated(e, w->ks, 400 * n, count_pick, times);
            for (int id = sets[s].first; id <= sets[s].last; id++)
                assert_in_range(times[id], 250, 600);
        }
        world_deinit(w);
        mem_free(w);
    }
}

/* ---- loading ---- */

/* Listpacks and intsets from a file become sets in the encoding that their size calls for; those
 * with a member twice are refused and change nothing. */
static void test_put(void **state)
{
    (void)state;
    struct world *w = mem_alloc(sizeof(*w));
    world_init(w);
    static char lp[200000];
    for (int round = 0; round < 200; round++) {
        struct model *m = &w->models[0];
        memset(m, 0, sizeof(*m));
        m->due = random_below(2) ? ENTRY_NO_EXPIRY : 5000000;
        listpack_init(lp);
        int n = 1 + (int)random_below(200), first = (int)random_below(ODD_STRINGS - 200);
        for (int i = 0; i < n; i++) {
            listpack_insert(lp, 0, universe[first + i]);
            m->has[first + i] = true;
            m->count++;
        }
        struct keyref ref = find_key(w, 0);
        assert_true(set_put_listpack(&ref, m->due, lp));
        assert_true(same_as_model(find_key(w, 0).entry, m));
        assert_string_equal(set_encoding_name(ref.entry), n <= 128 ? "listpack" : "hashtable");
        check_entry(ref.entry, &w->ks->epoch);
        listpack_insert(lp, 0, universe[first + (int)random_below((uint64_t)n)]);
        ref = find_key(w, 0);
        assert_false(set_put_listpack(&ref, 7000000, lp));
        assert_true(same_as_model(find_key(w, 0).entry, m));
        maybe_snapshot(w, 5);
    }
    for (int round = 0; round < 100; round++) {
        static char is[10000];
        struct model *m = &w->models[1];
        memset(m, 0, sizeof(*m));
        m->due = ENTRY_NO_EXPIRY;
        intset_init(is);
        int n = 1 + (int)random_below(600), first = (int)random_below((uint64_t)(1200 - n));
        for (int i = 0; i < n; i++) {
            int64_t v;
            assert_true(number_parse_int64(universe[first + i], &v));
            intset_add(is, v);
            m->has[first + i] = true;
            m->count++;
        }
        struct keyref ref = find_key(w, 1);
        assert_true(set_put_intset(&ref, m->due, is));
        assert_true(same_as_model(find_key(w, 1).entry, m));
        assert_string_equal(set_encoding_name(ref.entry), n <= 512 ? "intset" : "hashtable");
        check_entry(ref.entry, &w->ks->epoch);
    }
    listpack_init(lp);
    struct keyref ref = find_key(w, 0);
    assert_false(set_put_listpack(&ref, ENTRY_NO_EXPIRY, lp));
    world_deinit(w);
    mem_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_random_operations_with_snapshots),
        cmocka_unit_test(test_algebra),
        cmocka_unit_test(test_randomness),
        cmocka_unit_test(test_put),
    };
    return cmocka_run_group_tests(tests, model_setup, model_teardown);
}
