/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "type/geo.h"
#include "unit/random.h"

static double between(double low, double high)
{
    return low + (high - low) * (double)random_below(1U << 30) / (double)(1U << 30);
}

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* A place comes back from its score within the size of the finest cell, with the same score again;
 * the ends of the map are on it, what is beyond is not. */
static void test_scores(void **state)
{
    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct geo_point p = {between(-180, 180), between(-85.05, 85.05)};
        struct geo_point q = geo_place(geo_score(p));
        assert_true(fabs(p.longitude - q.longitude) < 360.0 / (1 << 26));
        assert_true(fabs(p.latitude - q.latitude) < 171.0 / (1 << 26));
        assert_true(geo_score(q) == geo_score(p));
    }
    assert_true(geo_is_on_map((struct geo_point){180, -85.05112878}));
    assert_false(geo_is_on_map((struct geo_point){180.0001, 0}));
    assert_false(geo_is_on_map((struct geo_point){0, 85.0512}));
    static const double odd[] = {-1, 1e300, -1e300, 9.3e18, 1.7e19, 0.5, INFINITY, -INFINITY};
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
        assert_true(geo_is_on_map(geo_place(odd[i])));
}

/* A known distance and a known geohash. */
static void test_known(void **state)
{
    (void)state;
    double palermo = geo_score((struct geo_point){13.361389, 38.115556});
    double catania = geo_score((struct geo_point){15.087269, 37.502669});
    assert_true(palermo == 3479099956230698.0 && catania == 3479447370796909.0);
    assert_true(fabs(geo_distance(geo_place(palermo), geo_place(catania)) - 166274.1516) < 0.0001);
    char text[GEO_HASH_SIZE];
    geo_hash(palermo, text);
    assert_memory_equal(text, "sqc8b49rny0", GEO_HASH_SIZE);
}

/* A search in cells finds what looking at every member finds, in small sets and large ones; sorted
 * it is in order; a limit gives as many. */
static void test_search(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        int count = round ? 1500 : 40;
        struct keyspace *ks = keyspace_new(1, false);
        struct keyref ref;
        keyref_find(&ref, &ks->dbs[0], SLICE("key"), key_hash(SLICE("key")));
        for (int i = 0; i < count; i++) {
            char name[20];
            int size = snprintf(name, sizeof(name), i % 2 ? "%d" : "member %d", i);
            struct geo_point p = {between(-150, 150), between(-60, 60)};
            zset_add(&ref, slice_of(name, (size_t)size), geo_score(p), 0, NULL);
        }
        for (int i = 0; i < 300; i++) {
            struct geo_shape shape = {.center = {between(-120, 120), between(-55, 55)},
                                      .radius = pow(10, between(0, 3)),
                                      .unit = 1000};
            struct zset_iter it;
            struct zset_item item;
            size_t expected = 0;
            zset_iter_init(&it, ref.entry, 0, false);
            while (zset_iter_next(&it, &item))
                expected +=
                    geo_distance(shape.center, geo_place(item.score)) <= shape.radius * 1000;
            struct geo_matches m;
            geo_search(&m, ref.entry, &shape, 0);
            assert_int_equal(m.count, expected);
            geo_sort(&m, i % 2);
            for (size_t k = 0; k < m.count; k++) {
                double score;
                assert_true(zset_score(ref.entry, m.items[k].member, &score));
                assert_true(score == m.items[k].score);
                if (k > 0)
                    assert_true(i % 2 ? m.items[k].distance <= m.items[k - 1].distance
                                      : m.items[k].distance >= m.items[k - 1].distance);
            }
            geo_matches_free(&m);
            geo_search(&m, ref.entry, &shape, 3);
            assert_int_equal(m.count, expected < 3 ? expected : 3);
            geo_matches_free(&m);
        }
        keyspace_free(ks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scores), cmocka_unit_test(test_known),
                                       cmocka_unit_test(test_search)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
