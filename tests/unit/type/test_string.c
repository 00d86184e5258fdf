/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "type/string.h"
#include "unit/random.h"

static struct keyref find(struct keyspace *ks)
{
    struct keyref ref;
    keyref_find(&ref, &ks->dbs[0], SLICE("key"), key_hash(SLICE("key")));
    return ref;
}

static void assert_value(const struct entry *e, struct slice expected)
{
    assert_int_equal(string_size(e), expected.size);
    assert_true(string_equal(e, expected));
    char buf[NUMBER_INT64_SIZE], *heap;
    struct slice flat = string_flat(e, buf, &heap);
    assert_true(slice_equal(flat, expected));
    mem_free(heap);
    char out[64];
    size_t at = expected.size ? random_below(expected.size) : 0;
    size_t size = expected.size - at < sizeof(out) ? expected.size - at : sizeof(out);
    string_read(e, at, out, size);
    assert_memory_equal(out, expected.data + at, size);
}

static struct slice text(const char *s)
{
    return slice_cstr(s);
}

/* Only canonical numbers are kept as integers; short strings are embstr, longer ones raw, and any
 * that was changed in part is raw for good. */
static void test_encodings(void **state)
{
    (void)state;
    static const struct {
        const char *value, *name;
    } cases[] = {
        {"0", "int"},
        {"-1", "int"},
        {"9223372036854775807", "int"},
        {"-9223372036854775808", "int"},
        {"9223372036854775808", "embstr"},
        {"01", "embstr"},
        {"-0", "embstr"},
        {"+1", "embstr"},
        {" 1", "embstr"},
        {"", "embstr"},
        {"1.0", "embstr"},
        {"12345678901234567890123456789012345678901234", "embstr"},
        {"123456789012345678901234567890123456789012345", "raw"},
    };
    struct keyspace *ks = keyspace_new(1, false);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct keyref ref = find(ks);
        string_set(&ref, text(cases[i].value), ENTRY_NO_EXPIRY);
        assert_string_equal(string_encoding_name(ref.entry), cases[i].name);
        assert_value(ref.entry, text(cases[i].value));
    }
    struct keyref ref = find(ks);
    string_set(&ref, text("12"), ENTRY_NO_EXPIRY);
    assert_int_equal(string_append(&ref, text("")), 2);
    assert_string_equal(string_encoding_name(ref.entry), "raw");
    string_set(&ref, text("12"), ENTRY_NO_EXPIRY);
    assert_string_equal(string_encoding_name(ref.entry), "int");
    assert_int_equal(string_write(&ref, 1, text("3")), 2);
    assert_string_equal(string_encoding_name(ref.entry), "raw");
    assert_value(ref.entry, text("13"));
    keyref_delete(&ref);
    assert_int_equal(string_append(&ref, text("7")), 1);
    assert_string_equal(string_encoding_name(ref.entry), "int");
    keyref_delete(&ref);
    assert_int_equal(string_write(&ref, 2, text("7")), 3);
    assert_string_equal(string_encoding_name(ref.entry), "raw");
    assert_value(ref.entry, slice_of("\0\0007", 3));
    string_set_bytes(&ref, text("3"), ENTRY_NO_EXPIRY);
    assert_string_equal(string_encoding_name(ref.entry), "embstr");
    keyspace_free(ks);
}

/* Adding keeps the expiry and works in place, on a fresh key, and on digits that were written by
 * APPEND; it refuses what is no integer and what would not be one. */
static void test_incr(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(1, false);
    struct keyref ref = find(ks);
    int64_t v;
    assert_int_equal(string_incr(&ref, -3, &v), STRING_INCR_OK);
    assert_int_equal(v, -3);
    struct entry *e = ref.entry;
    assert_int_equal(string_incr(&ref, 10, &v), STRING_INCR_OK);
    assert_int_equal(v, 7);
    assert_ptr_equal(ref.entry, e);

    struct snapshot *s = snapshot_begin(ks);
    assert_int_equal(string_incr(&ref, 1, &v), STRING_INCR_OK);
    struct slice key = SLICE("key");
    const struct entry *old = table_find(&s->dbs[0].table, key_hash(key), key.data, key.size);
    assert_value(old, text("7"));
    assert_value(ref.entry, text("8"));
    snapshot_end(ks, s);

    keyref_set_due(&ref, 5000);
    string_append(&ref, text("1"));
    assert_int_equal(string_incr(&ref, 1, &v), STRING_INCR_OK);
    assert_int_equal(v, 82);
    assert_int_equal(entry_due(ref.entry), 5000);
    assert_string_equal(string_encoding_name(ref.entry), "int");
    assert_int_equal(string_incr(&ref, INT64_MAX, &v), STRING_INCR_OVERFLOW);
    assert_value(ref.entry, text("82"));
    string_append(&ref, text("x"));
    assert_int_equal(string_incr(&ref, 1, &v), STRING_INCR_NOT_INTEGER);
    long double d;
    assert_false(string_get_long_double(ref.entry, &d));
    string_set(&ref, text("1.5"), ENTRY_NO_EXPIRY);
    assert_true(string_get_long_double(ref.entry, &d));
    assert_true(d == 1.5L);
    keyspace_free(ks);
}

/* Sizes around what fits in an entry, and a few chunks. */
static size_t random_size(void)
{
    switch (random_below(4)) {
    case 0:
        return random_below(60);
    case 1:
        return random_below(500);
    case 2:
        return ENTRY_EMBED_MAX - 20 + random_below(40);
    default:
        return random_below(30000);
    }
}

static void fill(char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (char)('!' + random_below(90));
}

/* Random sets, appends and writes at random offsets do to a string what they do to a plain array,
 * while snapshots taken in between keep what it was. */
static void test_model(void **state)
{
    (void)state;
    enum { MAX = 200000 };
    random_begin();
    size_t before = mem_used();
    struct keyspace *ks = keyspace_new(1, false);
    static char model[MAX], bytes[40000], frozen[MAX];
    size_t size = 0, frozen_size = 0;
    struct snapshot *s = NULL;
    struct slice key = SLICE("key");
    struct keyref ref = find(ks);
    string_set(&ref, text(""), ENTRY_NO_EXPIRY);

    for (int i = 0; i < 3000; i++) {
        size_t n = random_size(), at = random_below(size + 1 + random_below(100));
        fill(bytes, n);
        ref = find(ks);
        uint64_t what = random_below(size > MAX / 2 ? 1 : 8);
        if (what == 0) {
            string_set(&ref, slice_of(bytes, n), ENTRY_NO_EXPIRY);
            memcpy(model, bytes, n);
            size = n;
        } else if (what < 3) {
            memcpy(model + size, bytes, n);
            size += n;
            assert_int_equal(string_append(&ref, slice_of(bytes, n)), size);
        } else {
            if (n == 0)
                continue;
            n = random_below(2) ? n : 1 + random_below(10);
            if (at > size)
                memset(model + size, 0, at - size);
            memcpy(model + at, bytes, n);
            size = at + n > size ? at + n : size;
            assert_int_equal(string_write(&ref, at, slice_of(bytes, n)), size);
        }
        assert_value(ref.entry, slice_of(model, size));
        if (s && random_below(20) == 0) {
            const struct entry *old =
                table_find(&s->dbs[0].table, key_hash(key), key.data, key.size);
            assert_value(old, slice_of(frozen, frozen_size));
            snapshot_end(ks, s);
            s = NULL;
        } else if (!s && random_below(10) == 0) {
            memcpy(frozen, model, size);
            frozen_size = size;
            s = snapshot_begin(ks);
        }
    }
    if (s)
        snapshot_end(ks, s);
    keyspace_free(ks);
    assert_int_equal(mem_used(), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_encodings),
                                       cmocka_unit_test(test_incr), cmocka_unit_test(test_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
