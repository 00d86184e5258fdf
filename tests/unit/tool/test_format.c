/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/format.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define ASSERT_TEXT(call, want)                    \
    do {                                           \
        struct text t = {0};                       \
        call;                                      \
        assert_string_equal(text_cstr(&t), want);  \
        text_free(&t);                             \
    } while (0)

/* Sizes, counts, times and shares as people read them. */
static void test_figures(void **state)
{
    (void)state;
    char out[FORMAT_SIZE];
    assert_string_equal(format_bytes(out, 0), "0 B");
    assert_string_equal(format_bytes(out, 1023), "1023 B");
    assert_string_equal(format_bytes(out, 1536), "1.5 KiB");
    assert_string_equal(format_bytes(out, 1048575), "1.0 MiB");
    assert_string_equal(format_bytes(out, UINT64_MAX), "16.0 EiB");
    assert_string_equal(format_count(out, 999), "999");
    assert_string_equal(format_count(out, 1234567), "1,234,567");
    assert_string_equal(format_count(out, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(format_duration(out, 59999), "59 s");
    assert_string_equal(format_duration(out, 90061000), "1 d 1 h");
    assert_string_equal(format_time(out, 4102444800000), "2100-01-01 00:00:00 UTC");
    assert_string_equal(format_time(out, INT64_MAX), "292278994-08-17 07:12:55 UTC");
    assert_string_equal(format_percent(out, 1, 3), "33.3 %");
    assert_string_equal(format_percent(out, 1, 100000), "<0.1 %");
    assert_string_equal(format_percent(out, 0, 0), "0.0 %");
}

/* Only well-formed UTF-8 counts: nothing too long, no surrogates, nothing beyond Unicode, no part
 * of a character. */
static void test_utf8(void **state)
{
    (void)state;
    assert_true(utf8_valid(SLICE("plain, \xc3\xa4, \xe2\x82\xac, \xf0\x9f\x99\x82")));
    assert_true(utf8_valid(SLICE("\0")));
    static const char *const wrong[] = {"\x80",
                                        "\xc3",
                                        "\xc0\x80",
                                        "\xe0\x80\x80",
                                        "\xed\xa0\x80",
                                        "\xf0\x80\x80\x80",
                                        "\xf4\x90\x80\x80",
                                        "\xff",
                                        "\xe2\x82",
                                        "\xc3("};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        assert_false(utf8_valid(slice_cstr(wrong[i])));
}

/* Names that could disturb a terminal, or be taken for something else, are quoted; long ones are
 * cut between characters. */
static void test_printable(void **state)
{
    (void)state;
    ASSERT_TEXT(text_append_printable(&t, SLICE("user:\xc3\xa4"), 99), "user:\xc3\xa4");
    ASSERT_TEXT(text_append_printable(&t, SLICE("\x1b[31m"), 99), "\"\\x1b[31m\"");
    ASSERT_TEXT(text_append_printable(&t, SLICE("\xc2\x9b" "31m"), 99), "\"\\xc2\\x9b31m\"");
    ASSERT_TEXT(text_append_printable(&t, SLICE("a\xe2\x80\xae" "b"), 99), "\"a\\xe2\\x80\\xaeb\"");
    ASSERT_TEXT(text_append_printable(&t, SLICE(""), 99), "\"\"");
    ASSERT_TEXT(text_append_printable(&t, SLICE("\"a"), 99), "\"\\\"a\"");
    ASSERT_TEXT(text_append_printable(&t, SLICE("abc\xe2\x82\xac"), 4), "abc...");
    ASSERT_TEXT(text_append_printable(&t, SLICE("abcdef"), 4), "abcd...");
}

/* JSON strings, and the object that stands for what is no text; HTML without a way out. */
static void test_json_and_html(void **state)
{
    (void)state;
    ASSERT_TEXT(text_append_json(&t, SLICE("a\"\\\n\0\x7f\xc3\xa4")),
                "\"a\\\"\\\\\\u000a\\u0000\\u007f\xc3\xa4\"");
    ASSERT_TEXT(text_append_json(&t, SLICE("\xff")), "{\"base64\":\"/w==\"}");
    ASSERT_TEXT(text_append_base64(&t, SLICE("ab")), "YWI=");
    ASSERT_TEXT(text_append_base64(&t, SLICE("abc")), "YWJj");
    ASSERT_TEXT(text_append_html(&t, SLICE("<b a='x'>&\"\xff"), 99),
                "&quot;&lt;b a=&#39;x&#39;&gt;&amp;\\&quot;\\xff&quot;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_printable),
        cmocka_unit_test(test_json_and_html),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
