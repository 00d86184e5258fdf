/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/exposition.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Lines as the format describes them; backslashes, quotes and newlines are escaped. */
static void samples(void **state)
{
    const char *const labels[] = {"a", "x\"y\\z\n", "b", "", NULL};
    struct text out = {0};
    (void)state;
    exposition_begin(&out, "m", "summary", "One\\two\nthree \"four\".");
    exposition_value(&out, "m", "", labels, 0.25);
    exposition_count(&out, "m", "_count", NULL, UINT64_MAX);
    exposition_value(&out, "m", "_sum", NULL, INFINITY);
    exposition_gauge(&out, "g", "G.", NAN);
    exposition_counter(&out, "c", "C.", 0);
    assert_string_equal(text_cstr(&out), "# HELP m One\\\\two\\nthree \"four\".\n"
                                         "# TYPE m summary\n"
                                         "m{a=\"x\\\"y\\\\z\\n\",b=\"\"} 0.25\n"
                                         "m_count 18446744073709551615\n"
                                         "m_sum +Inf\n"
                                         "# HELP g G.\n# TYPE g gauge\ng NaN\n"
                                         "# HELP c C.\n# TYPE c counter\nc 0\n");
    text_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(samples)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
