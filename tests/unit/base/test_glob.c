/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/glob.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static bool match(const char *pattern, const char *s)
{
    return glob_match(slice_cstr(pattern), slice_cstr(s), false);
}

/* What the documentation of KEYS promises. */
static void test_documented(void **state)
{
    (void)state;
    assert_true(match("h?llo", "hallo"));
    assert_true(match("h*llo", "hllo"));
    assert_true(match("h*llo", "heeeello"));
    assert_true(match("h[ae]llo", "hello"));
    assert_false(match("h[ae]llo", "hillo"));
    assert_true(match("h[^e]llo", "hallo"));
    assert_false(match("h[^e]llo", "hello"));
    assert_true(match("h[a-b]llo", "hbllo"));
    assert_true(match("h\\*llo", "h*llo"));
    assert_false(match("h\\*llo", "hallo"));
    assert_false(match("hello", "hell"));
    assert_false(match("hell", "hello"));
}

/* Corner cases as redis-server 7.0.15 answers them. */
static void test_corners(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *all, *matching;
    } cases[] = {
        {"[a", "a[b]A-^", "a"},         {"[^]", "ab[]", "ab[]"}, {"[z-a]", "ab[]", "ab"},
        {"[a-]", "a]^b-", "a]^"},       {"[-", "a-", "-"},       {"[", "a[", ""},
        {"[a-", "a-b", "a-"},           {"[\\a]", "ab", "a"},    {"[^a", "ab[", "b["},
        {"[A-b]", "ab[]A^-", "ab[]A^"}, {"[a\\", "a\\b", "a\\"}, {"[a-z", "ab[", "ab"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (const char *c = cases[i].all; *c; c++) {
            bool want = strchr(cases[i].matching, *c) != NULL;
            if (glob_match(slice_cstr(cases[i].pattern), slice_of(c, 1), false) != want)
                fail_msg("pattern %s, character %c", cases[i].pattern, *c);
        }
    }
    assert_true(match("", ""));
    assert_false(match("*", ""));
    assert_true(match("*", "a"));
    assert_true(match("*\\", "a\\"));
    assert_true(match("?*?", "ab"));
    assert_false(match("?*?", "a"));
    assert_true(match("a[b", "ab"));
}

/* Case is ignored on request only, in classes, too. */
static void test_case(void **state)
{
    (void)state;
    assert_false(match("SAVE*", "save-x"));
    assert_true(glob_match(SLICE("SA[U-V]E*"), SLICE("save-x"), true));
}

/* A pattern with many stars does not take exponential time: this would never end. */
static void test_many_stars(void **state)
{
    (void)state;
    char pattern[401], s[2001];
    for (int i = 0; i < 400; i += 2)
        memcpy(pattern + i, "a*", 2);
    memcpy(pattern + 399, "b", 2);
    memset(s, 'a', 2000);
    s[2000] = '\0';
    assert_false(match(pattern, s));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documented),
        cmocka_unit_test(test_corners),
        cmocka_unit_test(test_case),
        cmocka_unit_test(test_many_stars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
