/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/marks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/mem.h"

static void expect(const struct marks *m, uint64_t lsn, int64_t now_us, uint64_t bytes,
                   uint64_t effects, int64_t us)
{
    struct marks_behind b;
    assert_true(marks_behind(m, lsn, now_us, &b));
    assert_int_equal(b.bytes, bytes);
    assert_int_equal(b.effects, effects);
    assert_int_equal(b.us, us);
}

/* Who has everything is behind by nothing; else by the effects since the stream left his LSN, and
 * since then. */
static void test_few(void **state)
{
    struct marks *m = mem_zalloc(sizeof(*m));
    struct marks_behind b;
    (void)state;
    marks_begin(m, 10, 0);
    expect(m, 10, 5, 0, 0, 0);
    marks_note(m, 100, 1, 1000000);
    assert_false(marks_behind(m, 9, 1500000, &b));
    assert_int_equal(b.bytes, 91);
    marks_note(m, 100, 1, 2000000);
    marks_note(m, 250, 4, 3000000);
    marks_note(m, 300, 5, 7000000);
    expect(m, 300, 9000000, 0, 0, 0);
    expect(m, 250, 9000000, 50, 1, 2000000);
    expect(m, 299, 9000000, 1, 1, 2000000);
    expect(m, 100, 9000000, 200, 4, 6000000);
    expect(m, 249, 9000000, 51, 4, 6000000);
    expect(m, 10, 9000000, 290, 5, 8000000);
    /* Another stream, of which nothing is known before where it is now. */
    marks_note(m, 40, 9, 9500000);
    expect(m, 40, 9900000, 0, 0, 0);
    assert_false(marks_behind(m, 39, 9900000, &b));
    assert_int_equal(b.bytes, 1);
    marks_note(m, 50, 11, 9600000);
    expect(m, 40, 9900000, 10, 2, 300000);
    mem_free(m);
    (void)state;
}

/* Over days of a stream at random paces what is told is never too little, and too much by a few
 * hundredths at most. */
static void test_long(void **state)
{
    enum { COUNT = 300000 };
    const char *given = getenv("HF_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    struct marks *m = mem_zalloc(sizeof(*m));
    struct mark *all = mem_alloc(COUNT * sizeof(*all));
    uint64_t lsn = 0;
    int64_t now = 1;
    (void)state;
    printf("seed %u\n", seed);
    srand(seed);
    for (int i = 0; i < COUNT; i++) {
        int64_t pace = rand() % 100 == 0 ? 10000000 : rand() % 10 == 0 ? 10000 : 300;
        now += 1 + rand() % pace;
        /* When the effect i, which follows this LSN, is done. */
        all[i] = (struct mark){lsn, (uint64_t)i, now};
        lsn += 1 + (uint64_t)rand() % 100;
        marks_note(m, lsn, (uint64_t)i + 1, now);
        assert_true(m->count <= MARKS_MOST);
        if (i % 1000 != 999)
            continue;
        struct marks_behind b;
        int64_t later = now + rand() % 1000;
        /* Near and far. */
        int at = i - rand() % (rand() % 2 == 0 ? i : 100);
        assert_true(marks_behind(m, all[at].lsn, later, &b));
        assert_int_equal(b.bytes, lsn - all[at].lsn);
        int64_t age = later - all[at].us;
        assert_true(b.us >= age);
        assert_true(b.effects >= (uint64_t)(i + 1 - at));
        /* No closer than the stream's own pauses: the effect before it. */
        int64_t before = at > 0 ? later - all[at - 1].us : age;
        assert_true(b.us <= before + before / 16 + 2000);
    }
    mem_free(all);
    mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_few), cmocka_unit_test(test_long)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
