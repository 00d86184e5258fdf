/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "type/digest.h"
#include "type/hash.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    struct hash_key key = {random_below(UINT64_MAX), random_below(UINT64_MAX)};
    hash_key_init(&key);
    return 0;
}

static int64_t still_us(void)
{
    return 0;
}

/* ---- the model: of some keys, the fields with a value and a time each ---- */

#define KEYS 3
#define FIELDS 700

struct model_field {
    int64_t value, due; /* value 0: it is not there */
};

struct model {
    struct model_field fields[KEYS][FIELDS];
    int64_t count[KEYS], timed[KEYS];
};

static void count_model(struct model *m)
{
    for (int k = 0; k < KEYS; k++) {
        m->count[k] = m->timed[k] = 0;
        for (int i = 0; i < FIELDS; i++) {
            if (m->fields[k][i].value == 0)
                continue;
            m->count[k]++;
            m->timed[k] += m->fields[k][i].due != ENTRY_NO_EXPIRY;
        }
    }
}

static struct slice key_of(int k)
{
    static const char *const names[KEYS] = {"small", "middle", "large"};
    return slice_cstr(names[k]);
}

static const int fields_of[KEYS] = {4, 90, FIELDS};

static struct slice field_of(int i, char buf[300])
{
    /* Some are beyond what stands in a leaf of a dict. */
    int n = snprintf(buf, 300, i % 50 == 7 ? "%0250d" : i % 3 ? "f%d" : "%d", i);
    return slice_of(buf, (size_t)n);
}

static void compare_entry(const struct entry *e, const struct model_field *fields, int64_t count,
                          int64_t timed)
{
    if (count == 0) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(hash_count(e), count);
    assert_int_equal(entry_timed(e), timed);
    struct member_iter it;
    struct dict_item item;
    int64_t seen = 0;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        int64_t value;
        assert_true(number_parse_int64(item.value, &value));
        int i = (int)(value % FIELDS);
        char buf[300];
        assert_true(slice_equal(item.key, field_of(i, buf)));
        assert_int_equal(value, fields[i].value);
        assert_int_equal(item.due, fields[i].due);
        assert_true(item.due >= entry_fields_due(e));
        seen++;
    }
    assert_int_equal(seen, count);
}

static void compare(struct keyspace *ks, struct model *m)
{
    count_model(m);
    struct db *db = &ks->dbs[0];
    uint64_t timed = 0;
    for (int k = 0; k < KEYS; k++) {
        struct slice key = key_of(k);
        compare_entry(db_find(db, key, key_hash(key)), m->fields[k], m->count[k], m->timed[k]);
        timed += m->timed[k] > 0;
    }
    assert_int_equal(db->timed, timed);
    table_check(&db->table, &ks->epoch);
}

/* ---- expiry tells of what it removes ---- */

struct told {
    struct model *m;
    struct keyspace *ks;
    uint64_t fields;
};

static void on_fields_expire(void *ctx, struct db *db, struct slice key, const struct slice *fields,
                             size_t count, bool last)
{
    struct told *t = ctx;
    int k = 0;
    while (!slice_equal(key, key_of(k)))
        k++;
    struct entry *e = db_find(db, key, key_hash(key));
    for (size_t i = 0; i < count; i++) {
        char buf[LISTPACK_NUMBER_SIZE];
        struct slice text;
        int64_t value;
        assert_true(hash_get(e, INT64_MIN, fields[i], &text, buf));
        assert_false(hash_get(e, t->ks->now_ms, fields[i], &text, buf));
        assert_true(hash_get(e, INT64_MIN, fields[i], &text, buf));
        assert_true(number_parse_int64(text, &value));
        struct model_field *f = &t->m->fields[k][value % FIELDS];
        assert_true(f->value == value && f->due < t->ks->now_ms);
        *f = (struct model_field){0};
    }
    t->fields += count;
    assert_int_equal(last, hash_count(e) == count);
}

/* ---- one random change to both ---- */

static int64_t pick_due(const struct keyspace *ks)
{
    return random_below(4) == 0
               ? ENTRY_NO_EXPIRY
               : ks->now_ms + (int64_t)random_below(random_below(5) ? 300 : 100000);
}

static void change(struct keyspace *ks, struct model *m)
{
    static int64_t version;
    char field_buf[300], digits[NUMBER_INT64_SIZE];
    int k = (int)random_below(KEYS), i = (int)random_below((uint64_t)fields_of[k]);
    struct model_field *f = &m->fields[k][i];
    struct slice field = field_of(i, field_buf);
    int64_t value = ++version * FIELDS + i;
    struct slice text = slice_of(digits, number_format_int64(digits, value));
    struct keyref ref;
    keyref_find(&ref, &ks->dbs[0], key_of(k), key_hash(key_of(k)));
    if (ref.entry)
        keyref_expire_field(&ref, field);
    switch (random_below(9)) {
    case 0:
    case 1:
        assert_int_equal(hash_set(&ref, field, text), f->value == 0);
        *f = (struct model_field){value, ENTRY_NO_EXPIRY};
        break;
    case 2: {
        int64_t due = pick_due(ks);
        assert_int_equal(hash_set_timed(&ref, field, text, due), f->value == 0);
        *f = (struct model_field){value, due};
        break;
    }
    case 3:
        assert_int_equal(hash_set_timed(&ref, field, text, HASH_KEEP_DUE), f->value == 0);
        *f = (struct model_field){value, f->value ? f->due : ENTRY_NO_EXPIRY};
        break;
    case 4:
        if (hash_set_new(&ref, field, text))
            *f = (struct model_field){value, ENTRY_NO_EXPIRY};
        break;
    case 5: {
        int64_t sum;
        if (f->value == 0)
            break;
        assert_int_equal(hash_incr(&ref, field, 5 * FIELDS, &sum), HASH_INCR_OK);
        f->value += 5 * FIELDS;
        assert_int_equal(sum, f->value);
        break;
    }
    case 6:
        if (ref.entry) {
            assert_int_equal(hash_delete(&ref, field), f->value != 0);
            *f = (struct model_field){0};
        }
        break;
    default:
        if (f->value) {
            f->due = pick_due(ks);
            hash_set_due(&ref, field, f->due);
        }
    }
    int64_t due;
    struct slice key = key_of(k);
    const struct entry *e = db_find(&ks->dbs[0], key, key_hash(key));
    bool there = e && hash_due(e, INT64_MIN, field, &due);
    assert_int_equal(there, f->value != 0);
    if (there)
        assert_int_equal(due, f->due);
}

/* Move a key away and back, or make it the copy of a copy: the times go with it. */
static void move(struct keyspace *ks)
{
    int k = (int)random_below(KEYS);
    struct db *db = &ks->dbs[0];
    struct keyref from, to;
    struct slice other = SLICE("other");
    keyref_find(&from, db, key_of(k), key_hash(key_of(k)));
    if (!from.entry)
        return;
    keyref_find(&to, &ks->dbs[1], other, key_hash(other));
    if (random_below(2)) {
        keyref_give(&to, keyref_take(&from));
        assert_int_equal(ks->dbs[1].timed, entry_timed(to.entry) > 0);
        keyref_give(&from, keyref_take(&to));
        return;
    }
    keyref_copy_from(&to, from.entry, ENTRY_NO_EXPIRY);
    struct digest a = {{0}}, b = {{0}};
    digest_value(&a, from.entry);
    digest_value(&b, to.entry);
    assert_memory_equal(a.bytes, b.bytes, DIGEST_SIZE);
    keyref_copy_from(&from, to.entry, ENTRY_NO_EXPIRY);
    keyref_delete(&to);
    assert_int_equal(ks->dbs[1].timed, 0);
}

/* ---- the random test ---- */

#define SNAPSHOTS 3

struct frozen {
    struct snapshot *snapshot;
    struct model model;
};

static void release(struct keyspace *ks, struct frozen *f)
{
    for (int k = 0; k < KEYS; k++) {
        struct slice key = key_of(k);
        const struct entry *e =
            table_find(&f->snapshot->dbs[0].table, key_hash(key), key.data, key.size);
        compare_entry(e, f->model.fields[k], f->model.count[k], f->model.timed[k]);
    }
    snapshot_end(ks, f->snapshot);
    f->snapshot = NULL;
}

static void expire_all(struct keyspace *ks, struct model *m)
{
    while (keyspace_expire_step(ks, 1, still_us))
        ;
    for (int k = 0; k < KEYS; k++) {
        for (int i = 0; i < FIELDS; i++)
            assert_true(m->fields[k][i].value == 0 || m->fields[k][i].due >= ks->now_ms);
    }
    compare(ks, m);
}

/* Random commands on small and large hashes while time goes on, with snapshots, against the model:
 * every field has the value and the time that it should have, in the snapshots too; what is due
 * goes, is told of before, and takes its key along in the end; and nothing is left over. */
static void test_model(void **state)
{
    (void)state;
    size_t used_before = mem_used();
    struct keyspace *ks = keyspace_new(2, false);
    struct model *m = mem_zalloc(sizeof(*m));
    struct frozen *frozen = mem_zalloc(SNAPSHOTS * sizeof(*frozen));
    struct told told = {.m = m, .ks = ks};
    ks->now_ms = 1000000;
    ks->on_fields_expire = on_fields_expire;
    ks->on_fields_expire_ctx = &told;
    for (int step = 0; step < 40000; step++) {
        change(ks, m);
        if (random_below(10) == 0)
            ks->now_ms += (int64_t)random_below(20);
        if (random_below(200) == 0)
            expire_all(ks, m);
        if (random_below(100) == 0)
            move(ks);
        struct frozen *f = &frozen[random_below(SNAPSHOTS)];
        if (random_below(500) == 0 && f->snapshot)
            release(ks, f);
        else if (random_below(500) == 0 && !f->snapshot) {
            count_model(m);
            *f = (struct frozen){snapshot_begin(ks), *m};
        }
        if (step % 500 == 0)
            compare(ks, m);
        epoch_reclaim_step(&ks->epoch, 4);
    }
    assert_true(told.fields > 1000);
    assert_int_equal(told.fields, ks->expired_fields);
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (frozen[i].snapshot)
            release(ks, &frozen[i]);
    }
    ks->now_ms += 1000000;
    expire_all(ks, m);
    assert_int_equal(ks->dbs[0].timed, 0);
    mem_free(frozen);
    mem_free(m);
    keyspace_free(ks);
    assert_int_equal(mem_used(), used_before);
}

static uint64_t picked[8];

static void note_pick(void *ctx, const struct dict_item *item)
{
    int64_t i;
    assert_true(number_parse_int64(item->value, &i));
    ++*(int *)ctx;
    picked[i]++;
}

/* What is past its time is hidden from those who read, counts in the length until it goes, and
 * stays where expiry is paused. */
static void test_hidden(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(1, false);
    ks->now_ms = 1000;
    struct keyref ref;
    keyref_find(&ref, &ks->dbs[0], SLICE("h"), key_hash(SLICE("h")));
    for (int i = 0; i < 8; i++) {
        char name[2] = {(char)('a' + i), 0}, value[2] = {(char)('0' + i), 0};
        hash_set_timed(&ref, slice_cstr(name), slice_cstr(value),
                       i < 5 ? 1000 + i : ENTRY_NO_EXPIRY);
    }
    assert_string_equal(hash_encoding_name(ref.entry), "listpackex");
    assert_int_equal(member_count_live(ref.entry, 1000), 8);
    ks->now_ms = 1003; /* a field lives through its millisecond */
    assert_int_equal(member_count_live(ref.entry, ks->now_ms), 5);
    assert_int_equal(hash_count(ref.entry), 8);
    assert_false(hash_has(ref.entry, ks->now_ms, SLICE("c")));
    assert_true(hash_has(ref.entry, ks->now_ms, SLICE("d")));
    int given = 0;
    memset(picked, 0, sizeof(picked));
    member_random_distinct(ref.entry, ks, 8, note_pick, &given);
    assert_int_equal(given, 5);
    member_random_repeated(ref.entry, ks, 500, note_pick, &given);
    assert_int_equal(given, 505);
    for (int i = 0; i < 8; i++)
        assert_int_equal(picked[i] > 0, i > 2);

    ks->lazy_expire_paused = true;
    assert_int_equal(keyref_expire_fields(&ref, 100), 0);
    keyref_expire_field(&ref, SLICE("a"));
    assert_int_equal(hash_count(ref.entry), 8);
    ks->lazy_expire_paused = false;
    keyref_expire_field(&ref, SLICE("a"));
    keyref_expire_field(&ref, SLICE("h"));
    assert_int_equal(hash_count(ref.entry), 7);
    assert_int_equal(keyref_expire_fields(&ref, 1), 1);
    assert_int_equal(keyref_expire_fields(&ref, 100), 1);
    assert_int_equal(hash_count(ref.entry), 5);

    struct dict_item item;
    struct member_buf buf;
    for (int i = 5; i < 8; i++) {
        char name[2] = {(char)('a' + i), 0};
        hash_set_due(&ref, slice_cstr(name), 1100);
    }
    ks->now_ms = 1101;
    assert_false(member_random(ref.entry, ks, &item, &buf));
    assert_true(keyspace_has_due(ks));
    assert_false(keyspace_expire_step(ks, 1000, still_us));
    assert_int_equal(ks->dbs[0].table.count, 0);
    assert_false(keyspace_has_due(ks));
    keyspace_free(ks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_hidden),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
