/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

static void assert_words(const char *line, int count, const char *const *want)
{
    struct words w;
    assert_true(text_split(&w, slice_cstr(line)));
    assert_int_equal(w.count, count);
    for (int i = 0; i < count; i++) {
        assert_int_equal(w.items[i].size, strlen(want[i]));
        assert_memory_equal(w.items[i].data, want[i], strlen(want[i]) + 1);
    }
    words_free(&w);
}

#define ASSERT_WORDS(line, ...)                                                       \
    assert_words(line, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), \
                 (const char *[]){__VA_ARGS__})

/* Words are separated by any blanks; quotes keep blanks and escapes. */
static void test_split(void **state)
{
    (void)state;
    ASSERT_WORDS("a b", "a", "b");
    ASSERT_WORDS("  a \t b\r\n", "a", "b");
    ASSERT_WORDS("save \"\"", "save", "");
    ASSERT_WORDS("x \"a b\\n\\t\\\"\\x41\\q\" y", "x", "a b\n\t\"Aq", "y");
    ASSERT_WORDS("x 'a \\' \\n'", "x", "a ' \\n");
    ASSERT_WORDS("a\"b c\"", "ab c");
    struct words w;
    assert_true(text_split(&w, SLICE("  ")));
    assert_int_equal(w.count, 0);
    words_free(&w);
}

/* Quotes that do not close, or that something follows at once, make the line invalid. */
static void test_split_unbalanced(void **state)
{
    (void)state;
    struct words w;
    assert_false(text_split(&w, SLICE("a \"b")));
    assert_false(text_split(&w, SLICE("a 'b")));
    assert_false(text_split(&w, SLICE("\"a\"b")));
    assert_false(text_split(&w, SLICE("'a'b")));
    assert_false(text_split(&w, SLICE("\"a\\")));
}

/* What text_append_quoted writes is read back, for every byte but the NUL at the front of a word.
 */
static void test_quoted_round_trip(void **state)
{
    (void)state;
    char all[256];
    for (int i = 0; i < 256; i++)
        all[i] = (char)i;
    struct text t = {0};
    text_append_quoted(&t, slice_of(all, 256));
    struct words w;
    assert_true(text_split(&w, text_slice(&t)));
    assert_int_equal(w.count, 1);
    assert_int_equal(w.items[0].size, 256);
    assert_memory_equal(w.items[0].data, all, 256);
    words_free(&w);
    text_free(&t);
}

/* A text grows over many appends of all kinds. */
static void test_append(void **state)
{
    (void)state;
    struct text t = {0};
    assert_string_equal(text_cstr(&t), "");
    for (int i = 0; i < 1000; i++)
        text_appendf(&t, "%d,", i % 10);
    assert_int_equal(t.size, 2000);
    assert_memory_equal(t.data + 1990, "5,6,7,8,9,", 11);
    text_clear(&t);
    text_appendf(&t, "%0500d", 7);
    assert_int_equal(t.size, 500);
    assert_int_equal(t.data[499], '7');
    text_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_split_unbalanced),
        cmocka_unit_test(test_quoted_round_trip),
        cmocka_unit_test(test_append),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
