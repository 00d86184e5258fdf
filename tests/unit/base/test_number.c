/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/number.h"

static bool int_of(const char *s, int64_t *v)
{
    return number_parse_int64(slice_cstr(s), v);
}

/* Only the canonical form of an integer is one: what Redis takes for INCR and what it stores as
 * int. */
static void test_parse_int64(void **state)
{
    (void)state;
    int64_t v;
    assert_true(int_of("0", &v) && v == 0);
    assert_true(int_of("-1", &v) && v == -1);
    assert_true(int_of("9223372036854775807", &v) && v == INT64_MAX);
    assert_true(int_of("-9223372036854775808", &v) && v == INT64_MIN);
    const char *bad[] = {"", "-", "+1", "-0", "00", "01", " 1", "1 ", "1.0", "9223372036854775808",
                         "-9223372036854775809", "18446744073709551616", "99999999999999999999",
                         "100000000000000000000", "a", "1a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(int_of(bad[i], &v));
    uint64_t u;
    assert_true(number_parse_uint64(SLICE("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(number_parse_uint64(SLICE("18446744073709551616"), &u));
}

/* What is printed reads back, and is what printf prints. */
static void test_format_int64(void **state)
{
    (void)state;
    uint64_t x = 88172645463325252ULL;
    for (int i = 0; i < 20000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        int64_t v = (int64_t)(x >> (i % 64));
        if (i & 1)
            v = (int64_t)(0 - (uint64_t)v);
        char mine[NUMBER_INT64_SIZE], theirs[32];
        size_t n = number_format_int64(mine, v);
        snprintf(theirs, sizeof(theirs), "%" PRId64, v);
        assert_int_equal(n, strlen(theirs));
        assert_memory_equal(mine, theirs, n);
        int64_t back;
        assert_true(number_parse_int64(slice_of(mine, n), &back) && back == v);
    }
}

/* Doubles as scores are taken and replied. */
static void test_doubles(void **state)
{
    (void)state;
    double v;
    assert_true(number_parse_double(SLICE("3.5"), &v) && v == 3.5);
    assert_true(number_parse_double(SLICE("-inf"), &v) && isinf(v) && v < 0);
    assert_true(number_parse_double(SLICE("+Infinity"), &v) && isinf(v));
    assert_true(number_parse_double(SLICE("0x10"), &v) && v == 16);
    assert_true(number_parse_double(SLICE("+5"), &v) && v == 5);
    assert_false(number_parse_double(SLICE("nan"), &v));
    assert_false(number_parse_double(SLICE(""), &v));
    assert_false(number_parse_double(SLICE(" 1"), &v));
    assert_false(number_parse_double(SLICE("1 "), &v));
    assert_false(number_parse_double(SLICE("1e999"), &v));
    assert_false(number_parse_double(SLICE("1\0"), &v));
    struct {
        double v;
        const char *text;
    } cases[] = {{0.1, "0.10000000000000001"}, {3, "3"}, {-17, "-17"}, {1e17, "1e+17"},
                 {INFINITY, "inf"}, {-INFINITY, "-inf"}, {1.5, "1.5"}, {-0.0, "-0"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[NUMBER_DOUBLE_SIZE];
        size_t n = number_format_double(out, cases[i].v);
        assert_int_equal(n, strlen(cases[i].text));
        assert_memory_equal(out, cases[i].text, n);
    }
    char out[NUMBER_LONG_DOUBLE_SIZE];
    assert_int_equal(number_format_long_double(out, 10.5L), 4);
    assert_memory_equal(out, "10.5", 4);
    assert_int_equal(number_format_long_double(out, 3.0L), 1);
    assert_int_equal(number_format_long_double(out, -0.0L), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse_int64),
                                       cmocka_unit_test(test_format_int64),
                                       cmocka_unit_test(test_doubles)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
