/* SPDX-License-Identifier: BSD-3-Clause */
#include "unit/type/member_model.h"

#include <math.h>

#include "type/hash.h"

/* ---- what Redis would do ---- */

static void model_set(const struct encoding_limits *l, struct model *m, int id, unsigned value)
{
    char buf[VALUE_BUF];
    size_t longest = value_of_id(value, buf).size;
    if (universe[id].size > longest)
        longest = universe[id].size;
    if (m->count == 0)
        m->encoding = "listpack";
    if (!m->has[id]) {
        m->has[id] = true;
        m->count++;
    }
    m->value[id] = (uint16_t)value;
    if (longest > (size_t)l->hash_max_listpack_value || m->count > l->hash_max_listpack_entries)
        m->encoding = "hashtable";
}

static void model_delete(struct model *m, int id)
{
    m->has[id] = false;
    if (--m->count == 0)
        m->due = ENTRY_NO_EXPIRY;
}

/* ---- the random test ---- */

struct profile {
    const char *name;
    int first, last;
    unsigned long_value_in; /* one in so many values is a long one; 0: none */
    struct encoding_limits limits;
    bool wants_listpack, wants_dict, wants_small_dict;
};

#define LIMITS(entries, value)                                                     \
    {                                                                              \
        .hash_max_listpack_entries = (entries), .hash_max_listpack_value = (value) \
    }

static const struct profile profiles[] = {
    {.name = "defaults, few fields",
     .first = 1190,
     .last = 1209,
     .limits = LIMITS(512, 64),
     .wants_listpack = true},
    {.name = "defaults, many fields",
     .first = 600,
     .last = 1400,
     .limits = LIMITS(512, 64),
     .wants_listpack = true,
     .wants_dict = true,
     .wants_small_dict = true},
    {.name = "defaults, long values now and then",
     .first = 0,
     .last = 99,
     .long_value_in = 300,
     .limits = LIMITS(512, 64),
     .wants_listpack = true,
     .wants_dict = true},
    {.name = "long fields",
     .first = 1590,
     .last = 1630,
     .limits = LIMITS(512, 64),
     .wants_dict = true},
    {.name = "long values in small hashes",
     .first = 1200,
     .last = 1240,
     .long_value_in = 10,
     .limits = LIMITS(512, 5000),
     .wants_listpack = true,
     .wants_small_dict = true},
    {.name = "a low threshold",
     .first = 1200,
     .last = 1249,
     .limits = LIMITS(20, 64),
     .wants_listpack = true,
     .wants_dict = true},
    {.name = "no listpacks",
     .first = 0,
     .last = UNIVERSE - 1,
     .long_value_in = 20,
     .limits = LIMITS(0, 64),
     .wants_dict = true},
};

static unsigned random_value(const struct profile *p)
{
    if (p->long_value_in && random_below(p->long_value_in) == 0)
        return 60000 + (unsigned)random_below(random_below(4) ? 300 : 4900);
    return (unsigned)random_below(40000);
}

static void check_field(const struct entry *e, const struct model *m, int id)
{
    char buf[LISTPACK_NUMBER_SIZE], expected[VALUE_BUF];
    struct slice value;
    bool found = e && hash_get(e, INT64_MIN, universe[id], &value, buf);
    assert_int_equal(found, m->has[id]);
    assert_int_equal(e && hash_has(e, INT64_MIN, universe[id]), m->has[id]);
    if (found)
        assert_true(slice_equal(value, value_of_id(m->value[id], expected)));
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
    char expected[VALUE_BUF];
    int id = member_id(item->key);
    assert_true(id >= 0);
    assert_true(p->model->has[id]);
    assert_true(!p->distinct || p->times[id] == 0);
    assert_true(slice_equal(item->value, value_of_id(p->model->value[id], expected)));
    p->times[id]++;
    p->count++;
}

static void pick_some(struct world *w, const struct entry *e, const struct model *m)
{
    struct picks picks = {.model = m, .distinct = random_below(2)};
    uint64_t all = hash_count(e),
             count = random_below(2) ? random_below(10) : random_below(all + 10);
    if (picks.distinct) {
        member_random_distinct(e, w->ks, count, note_pick, &picks);
        assert_int_equal(picks.count, count < all ? count : all);
    } else {
        member_random_repeated(e, w->ks, count, note_pick, &picks);
        assert_int_equal(picks.count, count);
    }
}

static void scan_all(const struct entry *e, const struct model *m)
{
    struct picks picks = {.model = m, .distinct = true};
    uint64_t cursor = 0, want = 1 + random_below(50);
    do {
        cursor = member_scan(e, cursor, want, note_pick, &picks);
        assert_true(cursor == 0 || !member_scans_at_once(e));
    } while (cursor);
    assert_int_equal(picks.count, m->count);
}

static void check_key(struct world *w, int k, bool deep)
{
    const struct entry *e = find_key(w, k).entry;
    const struct model *m = &w->models[k];
    if (m->count == 0) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(entry_type(e), ENTRY_HASH);
    assert_int_equal(hash_count(e), m->count);
    assert_string_equal(hash_encoding_name(e), m->encoding);
    if (deep) {
        assert_true(same_as_model(e, m));
        check_entry(e, &w->ks->epoch);
    }
}

static void step_once(struct world *w, const struct profile *p, int k, unsigned adding)
{
    struct model *m = &w->models[k];
    int id = p->first + (int)random_below((uint64_t)(p->last - p->first + 1));
    unsigned dice = (unsigned)random_below(1000);
    struct keyref ref = find_key(w, k);
    char buf[VALUE_BUF];
    if (dice < 50) {
        check_field(ref.entry, m, id);
    } else if (dice < 60 && ref.entry) {
        pick_some(w, ref.entry, m);
    } else if (dice < 63 && ref.entry) {
        scan_all(ref.entry, m);
    } else if (dice < 66 && ref.entry) {
        m->due = random_below(2) ? ENTRY_NO_EXPIRY : 2000000 + (int64_t)random_below(1000);
        keyref_set_due(&ref, m->due);
    } else if (dice < 70 && ref.entry && adding < 50) {
        keyref_delete(&ref);
        memset(m, 0, sizeof(*m));
        m->due = ENTRY_NO_EXPIRY;
    } else if (dice < 150) {
        unsigned value = random_value(p);
        bool fresh = hash_set_new(&ref, universe[id], value_of_id(value, buf));
        assert_int_equal(fresh, !m->has[id]);
        if (fresh)
            model_set(&w->ks->limits, m, id, value);
    } else if (random_below(100) < adding) {
        unsigned value = random_value(p);
        assert_int_equal(hash_set(&ref, universe[id], value_of_id(value, buf)), !m->has[id]);
        model_set(&w->ks->limits, m, id, value);
    } else if (ref.entry) {
        assert_int_equal(hash_delete(&ref, universe[id]), m->has[id]);
        if (m->has[id])
            model_delete(m, id);
    }
}

static void run_profile(const struct profile *p, unsigned snapshot_one_in, int steps)
{
    struct world *w = mem_alloc(sizeof(*w));
    world_init(w);
    w->ks->limits = p->limits;
    bool saw_listpack = false, saw_dict = false, saw_small_dict = false;
    /* The share of additions goes up and down, so that hashes grow past thresholds and vanish. */
    unsigned adding = 97;
    for (int step = 0; step < steps; step++) {
        if (step % 2000 == 1999 && step > 6000)
            adding = (unsigned)(20 + random_below(75));
        if (snapshot_one_in)
            maybe_snapshot(w, snapshot_one_in);
        int k = (int)random_below(KEYS);
        step_once(w, p, k, adding);
        check_key(w, k, step % 64 == 0);
        const struct entry *e = find_key(w, k).entry;
        if (e == NULL)
            continue;
        saw_listpack |= entry_encoding(e) == ENTRY_LISTPACK;
        if (entry_encoding(e) == ENTRY_DICT) {
            saw_dict |= (e->flags & ENTRY_GROWN) != 0;
            saw_small_dict |= (e->flags & ENTRY_GROWN) == 0;
        }
    }
    /* The profile has been where it was made to go. */
    assert_true(saw_listpack || !p->wants_listpack);
    assert_true(saw_dict || !p->wants_dict);
    assert_true(saw_small_dict || !p->wants_small_dict);
    for (int k = 0; k < KEYS; k++)
        check_key(w, k, true);
    world_deinit(w);
    mem_free(w);
}

#define PROFILE_COUNT (sizeof(profiles) / sizeof(profiles[0]))

/* Random operations on hashes of all kinds agree with the model, and the encodings with Redis's
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
        run_profile(&profiles[i], 60, 9000);
}

/* ---- numbers ---- */

static void assert_field(struct keyref *ref, const char *field, const char *value)
{
    char buf[LISTPACK_NUMBER_SIZE];
    struct slice s;
    assert_true(hash_get(ref->entry, INT64_MIN, slice_cstr(field), &s, buf));
    assert_true(slice_equal(s, slice_cstr(value)));
}

/* HINCRBY's arithmetic: a missing field counts as 0, what is no integer or would overflow changes
 * nothing, in both representations. */
static void test_incr(void **state)
{
    (void)state;
    for (int large = 0; large < 2; large++) {
        struct world *w = mem_alloc(sizeof(*w));
        world_init(w);
        if (large)
            w->ks->limits.hash_max_listpack_entries = 0;
        struct keyref ref = find_key(w, 0);
        int64_t sum;
        assert_int_equal(hash_incr(&ref, SLICE("n"), -5, &sum), HASH_INCR_OK);
        assert_int_equal(sum, -5);
        assert_int_equal(hash_incr(&ref, SLICE("n"), 1005, &sum), HASH_INCR_OK);
        assert_int_equal(sum, 1000);
        assert_field(&ref, "n", "1000");
        assert_int_equal(hash_incr(&ref, SLICE("n"), INT64_MAX - 1000, &sum), HASH_INCR_OK);
        assert_int_equal(hash_incr(&ref, SLICE("n"), 1, &sum), HASH_INCR_OVERFLOW);
        assert_field(&ref, "n", "9223372036854775807");
        hash_set(&ref, SLICE("s"), SLICE(" 1"));
        assert_int_equal(hash_incr(&ref, SLICE("s"), 1, &sum), HASH_INCR_NOT_NUMBER);
        hash_set(&ref, SLICE("s"), SLICE("1.5"));
        assert_int_equal(hash_incr(&ref, SLICE("s"), 1, &sum), HASH_INCR_NOT_NUMBER);

        char buf[NUMBER_LONG_DOUBLE_SIZE];
        struct slice digits;
        assert_int_equal(hash_incr_float(&ref, SLICE("s"), 0.25L, buf, &digits), HASH_INCR_OK);
        assert_true(slice_equal(digits, SLICE("1.75")));
        assert_field(&ref, "s", "1.75");
        assert_int_equal(hash_incr_float(&ref, SLICE("f"), 3.0e3L, buf, &digits), HASH_INCR_OK);
        assert_field(&ref, "f", "3000");
        hash_set(&ref, SLICE("s"), SLICE("abc"));
        assert_int_equal(hash_incr_float(&ref, SLICE("s"), 1, buf, &digits), HASH_INCR_NOT_NUMBER);
        hash_set(&ref, SLICE("s"), SLICE("inf"));
        assert_int_equal(hash_incr_float(&ref, SLICE("s"), 1, buf, &digits), HASH_INCR_OVERFLOW);
        assert_field(&ref, "s", "inf");
        world_deinit(w);
        mem_free(w);
    }
}

/* ---- loading ---- */

/* Listpacks from a file become hashes in the encoding that their size calls for; those with a field
 * twice or without a value are refused and change nothing. */
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
        int n = 1 + (int)random_below(random_below(2) ? 20 : 600),
            first = (int)random_below(MIDDLE_STRINGS - 600);
        char buf[VALUE_BUF];
        for (int i = 0; i < n; i++) {
            m->value[first + i] = (uint16_t)random_below(40000);
            listpack_insert(lp, 0, universe[first + i]);
            listpack_insert(lp, 0, value_of_id(m->value[first + i], buf));
            m->has[first + i] = true;
            m->count++;
        }
        struct keyref ref = find_key(w, 0);
        assert_true(hash_put_listpack(&ref, m->due, lp));
        assert_true(same_as_model(find_key(w, 0).entry, m));
        assert_string_equal(hash_encoding_name(ref.entry), n <= 512 ? "listpack" : "hashtable");
        check_entry(ref.entry, &w->ks->epoch);

        listpack_insert(lp, 0, universe[first + (int)random_below((uint64_t)n)]);
        ref = find_key(w, 0);
        assert_false(hash_put_listpack(&ref, 7000000, lp));
        listpack_insert(lp, 0, SLICE("a value"));
        assert_false(hash_put_listpack(&ref, 7000000, lp));
        assert_true(same_as_model(find_key(w, 0).entry, m));
        maybe_snapshot(w, 5);
    }
    listpack_init(lp);
    struct keyref ref = find_key(w, 0);
    assert_false(hash_put_listpack(&ref, ENTRY_NO_EXPIRY, lp));
    world_deinit(w);
    mem_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_random_operations_with_snapshots),
        cmocka_unit_test(test_incr),
        cmocka_unit_test(test_put),
    };
    return cmocka_run_group_tests(tests, model_setup, model_teardown);
}
