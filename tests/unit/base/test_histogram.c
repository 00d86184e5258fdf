/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

/* The buckets cover all numbers in order, without gaps: each begins where the one before ended. */
static void test_buckets(void **state)
{
    (void)state;
    assert_int_equal(histogram_bucket(0), 0);
    for (unsigned i = 0; i + 1 < HISTOGRAM_BUCKETS; i++) {
        uint64_t max = histogram_bucket_max(i);
        assert_int_equal(histogram_bucket(max), i);
        assert_int_equal(histogram_bucket(max + 1), i + 1);
    }
    assert_int_equal(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    assert_true(histogram_bucket_max(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

/* Percentiles of 1 .. 1000 are within a sixteenth of the exact ones, and never below. */
static void test_percentiles(void **state)
{
    (void)state;
    static struct histogram h;
    assert_int_equal(histogram_percentile(&h, 50), 0);
    for (uint64_t v = 1; v <= 1000; v++)
        histogram_record(&h, v, 16);
    static const double percents[] = {0, 1, 50, 90, 99, 99.9, 100};
    static const uint64_t exact[] = {1, 10, 500, 900, 990, 999, 1000};
    for (size_t i = 0; i < sizeof(exact) / sizeof(exact[0]); i++) {
        uint64_t v = histogram_percentile(&h, percents[i]);
        assert_in_range(v, exact[i], exact[i] + exact[i] / 16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_percentiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
