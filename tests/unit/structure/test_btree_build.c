/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "structure/btree_build.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    btree_register();
    return 0;
}

/* Items in the order of their numbers: some begin alike, some are large. */
static struct slice item_of(uint64_t id, uint32_t alike, char buf[1000])
{
    int n = snprintf(buf, 1000, "%0*llu", 10 + (int)alike, (unsigned long long)id);
    uint64_t r = id * 0x9e3779b97f4a7c15ULL >> 32;
    size_t size = (size_t)n + r % 40;
    if (r % 101 == 0)
        size = 180 + r / 101 % 700;
    memset(buf + n, 'x', size - (size_t)n);
    return slice_of(buf, size);
}

static uint64_t some_count(void)
{
    switch (random_below(4)) {
    case 0:
        return random_below(4);
    case 1:
        return random_below(200);
    case 2:
        return random_below(3000);
    default:
        return random_below(40000);
    }
}

/* Items that come up or down make the tree that has them in order, with ranks; it can be searched
 * and changed, also beside a snapshot, and no byte is left of it. */
static void test_model(void **state)
{
    (void)state;
    char buf[1000];
    for (int round = 0; round < 30; round++) {
        size_t before = mem_used();
        struct epoch e;
        struct btree_builder b;
        struct btree t;
        struct btree_pos pos;
        epoch_init(&e, false);
        uint64_t count = some_count();
        uint32_t alike = (uint32_t)random_below(20);
        btree_builder_begin(&b, &e);
        for (uint64_t i = 0; i < count; i++)
            assert_true(btree_builder_add(
                &b, item_of(2 * (round % 2 ? i : count - 1 - i), alike, buf)));
        btree_builder_finish(&b, &t);
        btree_check(&t, &e, true);
        assert_int_equal(t.count, count);
        btree_seek_rank(&t, 0, &pos);
        for (uint64_t i = 0; i < count; i++, btree_next(&pos))
            assert_true(slice_equal(btree_item(&pos), item_of(2 * i, alike, buf)));
        assert_true(btree_at_end(&pos));

        struct epoch_snapshot *frozen = epoch_snapshot_begin(&e);
        struct btree then = t;
        for (int k = 0; k < 300; k++) {
            uint64_t id = random_below(2 * count + 1);
            struct slice item = item_of(id, alike, buf);
            bool there = btree_seek(&t, item, &pos);
            if (there)
                btree_remove(&t, &e, &pos);
            else
                btree_insert(&t, &e, &pos, item);
        }
        btree_check(&t, &e, true);
        btree_check(&then, NULL, true);
        for (uint64_t i = 0; i < count; i++) {
            assert_true(btree_seek(&then, item_of(2 * i, alike, buf), &pos));
            assert_int_equal(pos.rank, i);
        }
        epoch_snapshot_end(&e, frozen);
        btree_clear(&t, &e);
        epoch_deinit(&e);
        assert_int_equal(mem_used(), before);
    }
}

/* An item that is out of order, or there already, is refused, and what came before stays. */
static void test_order(void **state)
{
    (void)state;
    char buf[1000];
    for (int round = 0; round < 30; round++) {
        struct epoch e;
        struct btree_builder b;
        struct btree t;
        epoch_init(&e, false);
        uint64_t count = 2 + random_below(500), first = 1000000;
        bool up = round % 2;
        btree_builder_begin(&b, &e);
        for (uint64_t i = 0; i < count; i++)
            assert_true(btree_builder_add(&b, item_of(up ? first + i : first - i, 3, buf)));
        uint64_t last = up ? first + count - 1 : first - count + 1;
        assert_false(btree_builder_add(&b, item_of(last, 3, buf)));
        assert_false(btree_builder_add(&b, item_of(first, 3, buf)));
        assert_false(btree_builder_add(&b, item_of(up ? last - 1 : last + 1, 3, buf)));
        btree_builder_finish(&b, &t);
        btree_check(&t, &e, true);
        assert_int_equal(t.count, count);
        btree_clear(&t, &e);
        epoch_deinit(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_order)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
