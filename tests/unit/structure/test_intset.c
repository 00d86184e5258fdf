/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "structure/intset.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* Adds v to a set in a block of exactly its size. */
static char *add(char *is, int64_t v)
{
    size_t size = intset_size_with(is, v);
    is = mem_realloc(is, size);
    intset_add(is, v);
    assert_int_equal(intset_size(is), size);
    return is;
}

static char *new_set(void)
{
    char *is = mem_alloc(INTSET_EMPTY_SIZE);
    intset_init(is);
    return is;
}

/* The bytes are those of the format: 16 bits until a number needs more, then 32, then 64. */
static void test_layout(void **state)
{
    (void)state;
    char *is = new_set();
    is = add(is, 5);
    is = add(is, -2);
    assert_memory_equal(is, "\2\0\0\0\2\0\0\0\xfe\xff\5\0", 12);
    is = add(is, 32768);
    assert_memory_equal(is, "\4\0\0\0\3\0\0\0\xfe\xff\xff\xff\5\0\0\0\0\x80\0\0", 20);
    is = add(is, -2147483649LL);
    assert_memory_equal(is,
                        "\x8\0\0\0\4\0\0\0\xff\xff\xff\x7f\xff\xff\xff\xff"
                        "\xfe\xff\xff\xff\xff\xff\xff\xff\5\0\0\0\0\0\0\0\0\x80\0\0\0\0\0\0",
                        40);
    mem_free(is);
}

#define MODEL_MAX 300

/* Random additions, removals and searches with numbers of all widths agree with a naive sorted
 * array. */
static void test_model(void **state)
{
    (void)state;
    int64_t model[MODEL_MAX];
    for (int round = 0; round < 60; round++) {
        char *is = new_set();
        size_t count = 0;
        unsigned least_shift = round % 3 == 0 ? 52 : round % 3 == 1 ? 36 : 0;
        for (int step = 0; step < 400; step++) {
            int64_t v = (int64_t)(random_bits() >> (least_shift + random_below(64 - least_shift)));
            if (random_below(2))
                v = (int64_t)(0 - (uint64_t)v);
            if (random_below(20) == 0)
                v = random_below(2) ? INT64_MAX : INT64_MIN;
            if (random_below(3) == 0 && count)
                v = model[random_below(count)];
            size_t i = 0;
            while (i < count && model[i] < v)
                i++;
            bool there = i < count && model[i] == v;
            uint32_t index;
            assert_int_equal(intset_find(is, v, &index), there);
            assert_int_equal(index, i);
            if (!there && count < MODEL_MAX) {
                is = add(is, v);
                memmove(model + i + 1, model + i, (count - i) * sizeof(model[0]));
                model[i] = v;
                count++;
            } else if (there && random_below(3) == 0) {
                intset_remove(is, index);
                is = mem_realloc(is, intset_size(is));
                count--;
                memmove(model + i, model + i + 1, (count - i) * sizeof(model[0]));
            }
            assert_int_equal(intset_count(is), count);
            assert_true(intset_check(is, intset_size(is)));
        }
        for (size_t i = 0; i < count; i++)
            assert_int_equal(intset_get(is, (uint32_t)i), model[i]);
        mem_free(is);
    }
}

/* Damaged, cut, unsorted and duplicate bytes are refused or read within their bounds. */
static void test_damaged(void **state)
{
    (void)state;
    assert_false(intset_check("\2\0\0\0\2\0\0\0\5\0\5\0", 12)); /* twice the same */
    assert_false(intset_check("\2\0\0\0\2\0\0\0\6\0\5\0", 12)); /* falling */
    assert_false(intset_check("\3\0\0\0\1\0\0\0\6\0\5", 11));   /* no such width */
    assert_false(intset_check("\2\0\0\0\1\0\0\0\6\0\7\0", 12)); /* longer than it says */
    assert_false(intset_check("\2\0\0\0", 4));
    assert_true(intset_check("\2\0\0\0\0\0\0\0", 8));
    /* A count whose size does not fit in 32 bits. */
    assert_false(intset_check("\x8\0\0\0\0\0\0\x20", 8));
    unsigned refused = 0, read = 0;
    uint64_t sum = 0;
    for (int round = 0; round < 2000; round++) {
        char *is = new_set();
        for (uint64_t n = random_below(20); n > 0; n--) {
            int64_t v = (int64_t)(random_bits() >> random_below(64));
            uint32_t index;
            if (!intset_find(is, v, &index))
                is = add(is, v);
        }
        size_t size = intset_size(is);
        for (uint64_t n = 1 + random_below(3); n > 0; n--)
            is[random_below(size)] = (char)(random_below(2) ? random_bits() : random_below(9));
        if (random_below(4) == 0) {
            size = random_below(size + 1);
            is = mem_realloc(is, size);
        }
        if (intset_check(is, size)) {
            uint32_t index;
            for (uint32_t i = 0; i < intset_count(is); i++) {
                assert_true(intset_find(is, intset_get(is, i), &index));
                assert_int_equal(index, i);
                sum += (uint64_t)intset_get(is, i);
            }
            read++;
        } else {
            refused++;
        }
        mem_free(is);
    }
    assert_true(refused > 100 && read > 100 && sum != 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_layout), cmocka_unit_test(test_model),
                                       cmocka_unit_test(test_damaged)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
