/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/annotation.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc.h"

#define HISTORY "0123456789abcdef0123456789abcdef01234567"

static const struct annotation examples[] = {
    {.kind = ANNOTATION_LOG, .lsn = 0, .ms = 0, .history = HISTORY},
    {.kind = ANNOTATION_LOG, .lsn = UINT64_MAX, .ms = INT64_MAX, .history = HISTORY, .chain = ~0U},
    {.kind = ANNOTATION_LOG, .lsn = UINT64_MAX, .ms = INT64_MAX, .history = HISTORY, .own = true},
    {.kind = ANNOTATION_GROUP, .lsn = 1234567},
    {.kind = ANNOTATION_COMMIT, .lsn = 1234599, .ms = 1790000000123},
    {.kind = ANNOTATION_CLOSE, .lsn = 9, .ms = 1790000000124},
    {.kind = ANNOTATION_BASE, .lsn = 77, .ms = 1790000000125, .history = HISTORY, .db = 11},
    {.kind = ANNOTATION_SELECT, .lsn = 1234567},
    {.kind = ANNOTATION_COMMIT, .lsn = 1234599, .ms = 1, .has_durable = true, .durable = 1234567},
    {.kind = ANNOTATION_CLOSE, .lsn = UINT64_MAX, .ms = INT64_MAX, .has_durable = true,
     .durable = UINT64_MAX},
};
static bool is_bare(const struct annotation *a)
{
    return a->kind == ANNOTATION_GROUP || a->kind == ANNOTATION_SELECT;
}

#define EXAMPLES (sizeof(examples) / sizeof(examples[0]))

/* A whole line with its crc, begun at 7; returns its size. */
static size_t write_line(const struct annotation *a, char *line)
{
    size_t size = annotation_format(a, line);
    if (!is_bare(a))
        size += annotation_finish(crc32c(7, line, size), line + size);
    return size;
}

/* Each kind of line is read as it was written, and its crc stands where crc_at says. */
static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        char line[ANNOTATION_MAX];
        size_t size = write_line(&examples[i], line);
        assert_true(size <= ANNOTATION_MAX);
        struct annotation a;
        assert_true(annotation_parse(slice_of(line, size), &a));
        assert_int_equal(a.kind, examples[i].kind);
        assert_true(a.lsn == examples[i].lsn);
        assert_true(a.ms == examples[i].ms);
        assert_int_equal(a.chain, examples[i].chain);
        assert_int_equal(a.db, examples[i].db);
        assert_int_equal(a.has_durable, examples[i].has_durable);
        assert_true(a.durable == examples[i].durable);
        assert_string_equal(a.history, examples[i].history);
        if (is_bare(&a))
            continue;
        assert_int_equal(a.crc_at, size - 10);
        assert_int_equal(a.crc, crc32c(7, line, a.crc_at));
    }
}

/* A changed bit, wherever it is, makes the line no annotation, or its crc wrong. */
static void test_every_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        char line[ANNOTATION_MAX];
        size_t size = write_line(&examples[i], line);
        uint32_t whole = crc32c(0, line, size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            line[bit / 8] = (char)(line[bit / 8] ^ 1 << bit % 8);
            struct annotation a;
            if (annotation_parse(slice_of(line, size), &a)) {
                /* A group's line has no crc of its own: the commit's covers it. */
                if (is_bare(&a) && is_bare(&examples[i]))
                    assert_int_not_equal(crc32c(0, line, size), whole);
                else
                    assert_int_not_equal(a.crc, crc32c(7, line, a.crc_at));
            }
            line[bit / 8] = (char)(line[bit / 8] ^ 1 << bit % 8);
        }
    }
}

/* A line that is cut off, or has a byte more, is none. */
static void test_every_length(void **state)
{
    (void)state;
    for (size_t i = 0; i < EXAMPLES; i++) {
        char line[ANNOTATION_MAX + 1];
        size_t size = write_line(&examples[i], line);
        struct annotation a;
        for (size_t n = 0; n < size; n++)
            assert_false(annotation_parse(slice_of(line, n), &a));
        line[size] = '\n';
        assert_false(annotation_parse(slice_of(line, size + 1), &a));
    }
}

/* Only the one form that is written is read. */
static void test_other_forms(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "#HF1 group 01\r\n",
        "#HF1 group +1\r\n",
        "#HF1 group -1\r\n",
        "#HF1 group  1\r\n",
        "#HF1 group 1 \r\n",
        "#HF1 group 1\n",
        "#HF1 group 18446744073709551616\r\n",
        "#HF2 group 1\r\n",
        "#HF1 begin 1\r\n",
        "#HF1 commit 1 1 0000000A\r\n",
        "#HF1 commit 1 -1 0000000a\r\n",
        "#HF1 commit 1 1 a\r\n",
        "#HF1 commit 1 1 000000000a\r\n",
        "#HF1 commit 1 1  0000000a\r\n",
        "#HF1 close 1 0000000a\r\n",
        "#HF1 log 1 1 " HISTORY " 0000000a\r\n",
        "#HF1 log 1 1 0" HISTORY " 00000000 0000000a\r\n",
        "#TS:1790000000\r\n",
        "",
    };
    struct annotation a;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_false(annotation_parse(slice_cstr(lines[i]), &a));
}

/* Wherever what is written over filling ends, what is left of it is whole lines of comment again,
 * not longer than redis-server reads. */
static void test_filling(void **state)
{
    (void)state;
    char all[1024], join[ANNOTATION_JOIN_MAX], part[100];
    annotation_fill(0, all, sizeof(all));
    for (size_t i = 0; i < sizeof(all); i++)
        assert_int_equal(all[i], i % ANNOTATION_FILL_LINE == ANNOTATION_FILL_LINE - 1 ? '\n' : '#');
    for (size_t end = 0; end < 900; end++) {
        annotation_fill(end, part, sizeof(part));
        assert_memory_equal(part, all + end, sizeof(part));
        size_t at = end + annotation_join_filling(end, join);
        assert_true(at <= end + sizeof(join));
        if (at != end)
            assert_memory_equal(join, "#\n", 2);
        while (at + 128 < sizeof(all)) {
            const char *newline = memchr(all + at, '\n', 127);
            assert_non_null(newline);
            assert_true(newline != all + at && all[at] == '#');
            at = (size_t)(newline + 1 - all);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_other_forms),
        cmocka_unit_test(test_filling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
