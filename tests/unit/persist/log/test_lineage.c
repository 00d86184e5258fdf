/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/lineage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *id_of(int i)
{
    static char ids[4][LINEAGE_ID + 1];
    static int next;
    char *id = ids[next++ % 4];
    snprintf(id, LINEAGE_ID + 1, "%040x", i);
    return id;
}

static struct lineage some(int count)
{
    struct lineage l = {0};
    for (int i = 0; i < count; i++)
        lineage_push(&l, id_of(i), (uint64_t)(100 * i), i % 2 == 0);
    return l;
}

/* What was left last is first, and each is found with its place. */
static void test_push(void **state)
{
    (void)state;
    struct lineage l = some(3);
    assert_int_equal(l.count, 3);
    for (int i = 0; i < 3; i++) {
        const struct lineage_past *past = lineage_find(&l, slice_cstr(id_of(i)));
        assert_ptr_equal(past, &l.pasts[2 - i]);
        assert_int_equal(past->lsn, 100 * i);
        assert_int_equal(past->promoted, i % 2 == 0);
    }
    assert_null(lineage_find(&l, slice_cstr(id_of(3))));
    assert_null(lineage_find(&l, SLICE("")));
}

/* When there are too many those go in which nothing was done, then the oldest. */
static void test_too_many(void **state)
{
    (void)state;
    struct lineage l = some(LINEAGE_MOST - 1);
    lineage_push(&l, id_of(50), l.pasts[0].lsn, false);
    assert_int_equal(l.count, LINEAGE_MOST);
    lineage_push(&l, id_of(51), 10000, false);
    assert_int_equal(l.count, LINEAGE_MOST);
    assert_null(lineage_find(&l, slice_cstr(id_of(50))));
    assert_non_null(lineage_find(&l, slice_cstr(id_of(0))));
    lineage_push(&l, id_of(52), 10001, false);
    assert_int_equal(l.count, LINEAGE_MOST);
    assert_null(lineage_find(&l, slice_cstr(id_of(0))));
    assert_string_equal(l.pasts[0].id, id_of(52));
    assert_string_equal(l.pasts[LINEAGE_MOST - 1].id, id_of(1));
}

/* Going back to one forgets it and what came behind it; so does being left once more. */
static void test_cut(void **state)
{
    (void)state;
    struct lineage l = some(5);
    lineage_cut(&l, id_of(9));
    assert_int_equal(l.count, 5);
    lineage_cut(&l, id_of(3));
    assert_int_equal(l.count, 3);
    assert_string_equal(l.pasts[0].id, id_of(2));
    lineage_push(&l, id_of(1), 150, false);
    assert_int_equal(l.count, 2);
    assert_string_equal(l.pasts[0].id, id_of(1));
    assert_int_equal(l.pasts[0].lsn, 150);
    assert_string_equal(l.pasts[1].id, id_of(0));
    l = some(5);
    lineage_cut_at(&l, 200);
    assert_int_equal(l.count, 3);
    assert_int_equal(l.pasts[0].lsn, 200);
    lineage_cut_at(&l, 0);
    assert_int_equal(l.count, 1);
}

/* As text, with the greatest LSN, it fits, and is read again; whatever is not of that form is
 * not. */
static void test_text(void **state)
{
    (void)state;
    struct lineage l = {0};
    struct lineage_past past;
    char text[LINEAGE_TEXT];
    lineage_push(&l, id_of(7), UINT64_MAX, true);
    lineage_push(&l, id_of(8), UINT64_MAX, false);
    for (int i = 0; i < 2; i++) {
        lineage_format(&l.pasts[i], text);
        size_t size = strlen(text);
        assert_true(lineage_parse(slice_of(text, size), &past));
        assert_memory_equal(&past, &l.pasts[i], sizeof(past));
        for (size_t n = 0; n < size; n++)
            assert_false(lineage_parse(slice_of(text, n), &past));
        for (size_t n = 0; n < size; n++) {
            char kept = text[n];
            text[n] = '!';
            assert_false(lineage_parse(slice_of(text, size), &past));
            text[n] = kept;
        }
    }
    assert_false(lineage_parse(SLICE("0000000000000000000000000000000000000000 1 p "), &past));
    assert_false(lineage_parse(SLICE(""), &past));
}

/* A list that comes from a file is taken in order, and never more of it than there is room for. */
static void test_put(void **state)
{
    (void)state;
    struct lineage l = {0}, other = some(LINEAGE_MOST);
    assert_false(lineage_put(&l, 1, &other.pasts[0]));
    assert_false(lineage_put(&l, -1, &other.pasts[0]));
    for (int i = 0; i < LINEAGE_MOST; i++)
        assert_true(lineage_put(&l, i, &other.pasts[i]));
    assert_false(lineage_put(&l, LINEAGE_MOST, &other.pasts[0]));
    assert_memory_equal(&l, &other, sizeof(l));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_push), cmocka_unit_test(test_too_many), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_text), cmocka_unit_test(test_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
