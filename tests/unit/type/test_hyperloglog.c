/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "type/hyperloglog.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

static struct keyref find(struct keyspace *ks, const char *key)
{
    struct keyref ref;
    keyref_find(&ref, &ks->dbs[0], slice_cstr(key), key_hash(slice_cstr(key)));
    return ref;
}

static void assert_registers(const struct entry *e, const uint8_t *expected)
{
    uint8_t registers[HLL_REGISTERS] = {0};
    uint64_t count;
    assert_true(hll_check(e));
    assert_true(hll_merge_into(registers, e));
    assert_memory_equal(registers, expected, HLL_REGISTERS);
    assert_true(hll_count(e, &count));
    assert_int_equal(count, hll_estimate(expected));
}

/* Sparse or dense or on the way from one to the other: the registers are those of a plain array,
 * and a snapshot keeps the ones that it saw. */
static void test_against_model(void **state)
{
    (void)state;
    static const int64_t limits[] = {0, 20, 500, 3000, 100000};
    for (size_t round = 0; round < sizeof(limits) / sizeof(limits[0]); round++) {
        struct keyspace *ks = keyspace_new(1, false);
        ks->limits.hll_sparse_max_bytes = limits[round];
        struct keyref ref = find(ks, "key");
        hll_create(&ref);
        uint8_t model[HLL_REGISTERS] = {0}, then[HLL_REGISTERS];
        struct snapshot *snapshot = NULL;
        for (int step = 0; step < 3000; step++) {
            uint64_t element = random_below(2000 + (uint64_t)step * 3);
            struct slice s = slice_of(&element, sizeof(element));
            uint8_t value;
            unsigned at = hll_register_of(s, &value);
            bool changed, expected = model[at] < value;
            assert_int_equal(hll_add(&ref, &s, 1, &changed), expected ? HLL_CHANGED : HLL_SAME);
            assert_int_equal(changed, expected);
            model[at] = expected ? value : model[at];
            if (!hll_is_dense(ref.entry))
                assert_true((int64_t)string_size(ref.entry) <= limits[round] ||
                            string_size(ref.entry) == 18);
            if (step % 500 == 0) {
                if (snapshot) {
                    const struct entry *e = table_find(&snapshot->dbs[0].table, ref.hash, "key", 3);
                    assert_registers(e, then);
                    snapshot_end(ks, snapshot);
                }
                snapshot = snapshot_begin(ks);
                memcpy(then, model, sizeof(then));
                assert_registers(ref.entry, model);
            }
        }
        snapshot_end(ks, snapshot);
        assert_registers(ref.entry, model);
        assert_int_equal(hll_is_dense(ref.entry), limits[round] < 5000);

        /* Raised by another one's registers, and made dense, it has the greater ones. */
        uint8_t other[HLL_REGISTERS] = {0};
        for (int i = 0; i < 300; i++)
            other[random_below(HLL_REGISTERS)] = (uint8_t)random_below(52);
        for (unsigned i = 0; i < HLL_REGISTERS; i++)
            model[i] = model[i] > other[i] ? model[i] : other[i];
        assert_int_equal(hll_raise(&ref, other, false), HLL_CHANGED);
        assert_registers(ref.entry, model);
        assert_int_not_equal(hll_make_dense(&ref), HLL_DAMAGED);
        assert_true(hll_is_dense(ref.entry) && string_size(ref.entry) == HLL_DENSE_SIZE);
        assert_registers(ref.entry, model);
        keyspace_free(ks);
    }
}

/* Estimates of up to a million elements are within four standard errors. */
static void test_error(void **state)
{
    (void)state;
    uint8_t registers[HLL_REGISTERS] = {0}, value;
    uint64_t start = random_below(1ULL << 40), next = 100;
    for (uint64_t i = 1; i <= 1000000; i++) {
        uint64_t element = start + i;
        unsigned at = hll_register_of(slice_of(&element, sizeof(element)), &value);
        registers[at] = registers[at] > value ? registers[at] : value;
        if (i != next)
            continue;
        next *= 10;
        int64_t error = llabs((int64_t)hll_estimate(registers) - (int64_t)i);
        assert_true(error <= (int64_t)(i / 20 + 3));
    }
}

static void nothing(void *ctx, enum hll_run kind, unsigned value, unsigned length)
{
    (void)ctx;
    (void)kind;
    (void)value;
    (void)length;
}

/* Whatever stands in a string, an operation ends, within bounds, and what it leaves is no worse. */
static void test_damage(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(1, false);
    static unsigned char bytes[50000];
    for (int round = 0; round < 3000; round++) {
        struct keyref ref = find(ks, "key");
        hll_create(&ref);
        for (uint64_t i = random_below(50); i > 0; i--) {
            uint64_t element = random_below(UINT64_MAX);
            struct slice s = slice_of(&element, sizeof(element));
            bool changed;
            hll_add(&ref, &s, 1, &changed);
        }
        size_t size = string_size(ref.entry);
        string_read(ref.entry, 0, bytes, size);
        for (uint64_t i = random_below(4); i > 0; i--)
            bytes[random_below(size)] = (unsigned char)random_below(256);
        if (random_below(4) == 0)
            size = random_below(size + 1);
        if (random_below(8) == 0)
            for (size_t end = random_below(sizeof(bytes)); size < end;)
                bytes[size++] = (unsigned char)random_below(256);
        string_set_bytes(&ref, slice_of(bytes, size), ENTRY_NO_EXPIRY);
        if (!hll_check(ref.entry))
            continue;
        uint64_t element = random_below(UINT64_MAX), count;
        struct slice s = slice_of(&element, sizeof(element));
        bool changed, good = hll_count(ref.entry, &count);
        uint8_t registers[HLL_REGISTERS] = {0};
        assert_int_equal(hll_merge_into(registers, ref.entry), good);
        if (!hll_is_dense(ref.entry))
            assert_int_equal(hll_visit_runs(ref.entry, nothing, NULL), good);
        enum hll_result added = hll_add(&ref, &s, 1, &changed);
        assert_false(good && added == HLL_DAMAGED);
        assert_int_equal(hll_count(ref.entry, &count), good);
        assert_int_equal(hll_raise(&ref, registers, true) == HLL_DAMAGED, !good);
    }
    keyspace_free(ks);
}

/* The cache is void after a change until it is set again. */
static void test_cache(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(1, false);
    struct keyref ref = find(ks, "key");
    uint64_t count;
    hll_create(&ref);
    assert_true(hll_cached(ref.entry, &count) && count == 0);
    hll_void_cache(&ref);
    assert_false(hll_cached(ref.entry, &count));
    hll_set_cached(&ref, 123456789);
    assert_true(hll_cached(ref.entry, &count) && count == 123456789);
    assert_int_equal(hll_make_dense(&ref), HLL_CHANGED);
    assert_int_equal(hll_make_dense(&ref), HLL_SAME);
    assert_true(hll_cached(ref.entry, &count) && count == 123456789);
    keyspace_free(ks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model), cmocka_unit_test(test_error),
        cmocka_unit_test(test_damage), cmocka_unit_test(test_cache)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
