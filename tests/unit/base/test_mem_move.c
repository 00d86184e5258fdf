/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "unit/random.h"

#define BLOCKS 60000
static unsigned char *blocks[BLOCKS];
static size_t sizes[BLOCKS];

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

static void fill(size_t i)
{
    memset(blocks[i], (int)(i * 31 % 251), sizes[i]);
}

static void check(size_t i)
{
    for (size_t k = 0; k < sizes[i]; k++)
        assert_int_equal(blocks[i][k], i * 31 % 251);
}

/* Blocks of several sizes, of which three of four are freed again, here and there. */
static size_t make_holes(void)
{
    static const size_t choice[] = {16, 40, 48, 100, 300, 512, 1024, 3000, 6100};
    size_t left = 0;
    for (size_t i = 0; i < BLOCKS; i++) {
        sizes[i] = choice[random_below(random_below(20) ? 6 : 9)];
        blocks[i] = mem_alloc(sizes[i]);
        fill(i);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (random_below(4) == 0) {
            left++;
            continue;
        }
        mem_free(blocks[i]);
        blocks[i] = NULL;
    }
    return left;
}

static void move_all(struct mem_mover *m)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i])
            blocks[i] = mem_move(m, blocks[i]);
    }
}

static void free_all(void)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i])
            check(i);
        mem_free(blocks[i]);
        blocks[i] = NULL;
    }
}

/* Where three of four blocks are gone the pages of the others are given back, by some passes, and
 * by then hardly anything moves any more. Without jemalloc nothing ever does. */
static void test_slabs_become_free(void **state)
{
    (void)state;
    struct mem_stats before, holes, after;
    mem_get_stats(&before);
    size_t left = make_holes();
    mem_get_stats(&holes);
    struct mem_mover first = {0, 0}, last = {0, 0};
    move_all(&first);
    assert_int_equal(first.moved + first.stayed, left);
    for (int pass = 0; pass < 4; pass++) {
        last = (struct mem_mover){0, 0};
        move_all(&last);
    }
    mem_get_stats(&after);
    if (mem_can_move()) {
        assert_true(first.moved > left / 4);
        assert_true(last.moved < left / 10);
        /* What takes pages for itself beyond what is in use: less than half of it is left. */
        size_t wasted = holes.active - holes.allocated, still = after.active - after.allocated;
        assert_true(wasted > 2 * still);
        assert_true(after.active < holes.active);
    } else {
        assert_int_equal(first.moved + last.moved, 0);
    }
    free_all();
}

/* Nobody's bytes change when everything moves, and what is in use is counted as before. */
static void test_everything(void **state)
{
    (void)state;
    size_t left = make_holes(), used = mem_used();
    struct mem_mover m = {0, 0};
    assert_false(mem_moves_everything());
    mem_move_everything(true);
    assert_true(mem_moves_everything());
    move_all(&m);
    mem_move_everything(false);
    assert_int_equal(m.moved, left);
    assert_int_equal(m.stayed, 0);
    assert_int_equal(mem_used(), used);
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i])
            assert_true(mem_usable_size(blocks[i]) >= sizes[i]);
    }
    free_all();
}

/* A block that has its pages for itself stays where it is. */
static void test_large_blocks_stay(void **state)
{
    (void)state;
    struct mem_mover m = {0, 0};
    char *large = mem_alloc(1 << 20);
    assert_ptr_equal(mem_move(&m, large), large);
    assert_int_equal(m.stayed, 1);
    mem_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_slabs_become_free),
                                       cmocka_unit_test(test_everything),
                                       cmocka_unit_test(test_large_blocks_stay)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
