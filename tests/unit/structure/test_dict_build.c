/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "structure/dict_build.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    struct hash_key key = {random_below(UINT32_MAX), random_below(UINT32_MAX)};
    hash_key_init(&key);
    dict_register();
    return 0;
}

/* The key and value of a number; some are too large to stand in a leaf. */
struct texts {
    char key[600], value[600];
    uint64_t hash;
};

static struct slice text_of(char buf[600], char prefix, uint64_t id)
{
    int n = snprintf(buf, 600, "%c%llu", prefix, (unsigned long long)id);
    uint64_t r = id * 0x9e3779b97f4a7c15ULL >> 32;
    size_t size = (size_t)n;
    if (r % 4 == 0)
        size += r / 4 % 60;
    if (r % 97 == 0)
        size = 150 + r / 97 % 400;
    memset(buf + n, 'x', size - (size_t)n);
    return slice_of(buf, size);
}

static void item_of(enum dict_kind kind, uint64_t id, struct texts *t, struct slice *key,
                    struct slice *value)
{
    if (kind == DICT_INDEX) {
        t->hash = hash_bytes(&id, sizeof(id));
        memcpy(t->value, &id, sizeof(id));
        *key = slice_of(&t->hash, 8);
        *value = slice_of(t->value, 8);
        return;
    }
    *key = text_of(t->key, 'k', id);
    *value = kind == DICT_MAP ? text_of(t->value, 'v', id) : slice_of("", 0);
    t->hash = hash_bytes(key->data, key->size);
}

static void add_item(struct dict_builder *b, uint64_t id)
{
    struct texts t;
    struct slice key, value;
    item_of(b->kind, id, &t, &key, &value);
    dict_builder_add(b, t.hash, key, value);
}

static bool has_item(const struct dict *d, uint64_t id, struct dict_place *place)
{
    struct texts t;
    struct slice key, value;
    struct dict_item item;
    item_of((enum dict_kind)d->kind, id, &t, &key, &value);
    if (!dict_find(d, t.hash, key, &item, place))
        return false;
    assert_true(slice_equal(item.value, value));
    return true;
}

static uint64_t some_count(void)
{
    switch (random_below(5)) {
    case 0:
        return random_below(4);
    case 1:
        return random_below(100);
    case 2:
        return random_below(3000);
    case 3:
        return 4000 + random_below(200); /* around where items are kept in parts */
    default:
        return random_below(30000);
    }
}

/* What was built has all items and is a dict that can be changed, also beside a snapshot; the
 * number that was expected may be wrong. Afterwards no byte is left. */
static void test_model(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        static const enum dict_kind kinds[] = {DICT_SET, DICT_MAP, DICT_INDEX};
        size_t before = mem_used();
        struct epoch e;
        struct dict_builder b;
        struct dict d;
        epoch_init(&e, false);
        uint64_t count = some_count(), step = 1 + 2 * random_below(1000);
        dict_builder_begin(&b, &e, kinds[round % 3], random_below(3) ? count : some_count());
        for (uint64_t i = 0; i < count; i++)
            add_item(&b, i * step);
        if (random_below(8) == 0) {
            dict_builder_drop(&b);
            dict_init(&d, kinds[round % 3]);
            count = 0;
        } else {
            assert_true(dict_builder_finish(&b, &d, NULL, NULL));
        }
        assert_int_equal(d.count, count);
        dict_check(&d, &e);
        for (uint64_t i = 0; i < count; i++)
            assert_true(has_item(&d, i * step, NULL));
        assert_false(has_item(&d, count * step, NULL));

        struct epoch_snapshot *frozen = epoch_snapshot_begin(&e);
        struct dict then = d;
        for (uint64_t i = 0; i < count / 2; i++) {
            struct dict_place place;
            assert_true(has_item(&d, i * step, &place));
            dict_remove(&d, &e, &place);
        }
        for (uint64_t i = count; i < count + 500; i++) {
            struct texts t;
            struct slice key, value;
            item_of((enum dict_kind)d.kind, i * step, &t, &key, &value);
            dict_add(&d, &e, t.hash, key, value);
        }
        dict_check(&d, &e);
        assert_int_equal(d.count, count - count / 2 + 500);
        assert_int_equal(then.count, count);
        for (uint64_t i = 0; i < count; i++)
            assert_true(has_item(&then, i * step, NULL));
        epoch_snapshot_end(&e, frozen);
        dict_clear(&d, &e);
        epoch_deinit(&e);
        assert_int_equal(mem_used(), before);
    }
}

/* A key that comes twice is noticed, wherever the two stand, and nothing is left behind. */
static void test_twice(void **state)
{
    (void)state;
    for (int round = 0; round < 40; round++) {
        size_t before = mem_used();
        struct epoch e;
        struct dict_builder b;
        struct dict d;
        epoch_init(&e, false);
        uint64_t count = some_count() + 2, first = random_below(count), second = first;
        while (second == first)
            second = random_below(count);
        dict_builder_begin(&b, &e, round % 2 ? DICT_SET : DICT_MAP, count);
        for (uint64_t i = 0; i < count; i++)
            add_item(&b, i == second ? first : i);
        assert_false(dict_builder_finish(&b, &d, NULL, NULL));
        assert_int_equal(d.count, 0);
        assert_true(d.root == 0);
        epoch_deinit(&e);
        assert_int_equal(mem_used(), before);
    }
}

/* A key that comes ever so often, more than any leaf holds, as a damaged file may have it. */
static void test_ever_so_often(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        size_t before = mem_used();
        struct epoch e;
        struct dict_builder b;
        struct dict d;
        epoch_init(&e, false);
        /* Of the first, neither part is in the leaf; of the second both are. */
        char long_text[300] = {0};
        struct slice key = round < 2 ? slice_of(long_text, sizeof(long_text)) : slice_of("k", 1);
        dict_builder_begin(&b, &e, round % 2 ? DICT_SET : DICT_MAP, 30000);
        for (uint64_t i = 0; i < 30000; i++)
            dict_builder_add(&b, hash_bytes(key.data, key.size), key,
                             round % 2 ? slice_of("", 0) : key);
        for (uint64_t i = 0; i < 1000; i++)
            add_item(&b, i);
        assert_false(dict_builder_finish(&b, &d, NULL, NULL));
        assert_true(d.root == 0);
        epoch_deinit(&e);
        assert_int_equal(mem_used(), before);
    }
}

struct asked {
    uint64_t key, calls;
    bool answer;
};

static bool on_same(void *ctx, uint64_t key, const char value[8], const char other[8])
{
    struct asked *asked = ctx;
    uint64_t a, b;
    memcpy(&a, value, 8);
    memcpy(&b, other, 8);
    assert_true(key == asked->key && a + b == 3);
    asked->calls++;
    return asked->answer;
}

/* An index may have a key twice: who builds it is asked, with both values. */
static void test_index_twice(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct epoch e;
        struct dict_builder b;
        struct dict d;
        uint64_t count = some_count();
        struct asked asked = {.key = random_below(UINT64_MAX), .answer = round % 2};
        epoch_init(&e, false);
        dict_builder_begin(&b, &e, DICT_INDEX, count);
        for (uint64_t v = 1; v <= 2; v++)
            dict_builder_add(&b, asked.key, slice_of(&asked.key, 8), slice_of(&v, 8));
        for (uint64_t i = 0; i < count; i++)
            add_item(&b, i);
        bool ok = dict_builder_finish(&b, &d, on_same, &asked);
        assert_int_equal(ok, !asked.answer);
        assert_int_equal(asked.calls, 1);
        assert_int_equal(d.count, ok ? count + 2 : 0);
        dict_check(&d, &e);
        dict_clear(&d, &e);
        epoch_deinit(&e);
    }
}

/* Hashes that have many bits in common, or all: what no page parts stands in one leaf. */
static void test_common_bits(void **state)
{
    (void)state;
    for (uint32_t common = 8; common <= 64; common += 7) {
        struct epoch e;
        struct dict_builder b;
        struct dict d;
        epoch_init(&e, false);
        uint64_t count = common > 56 ? 200 : 2000;
        dict_builder_begin(&b, &e, DICT_INDEX, count);
        for (uint64_t i = 0; i < count; i++) {
            uint64_t r = hash_bytes(&i, sizeof(i));
            uint64_t hash = 0x5a5a5a5a5a5a5a5aULL;
            if (common < 64)
                hash = hash << (64 - common) | r >> common;
            dict_builder_add(&b, hash, slice_of(&hash, 8), slice_of(&i, 8));
        }
        assert_true(dict_builder_finish(&b, &d, NULL, NULL));
        assert_int_equal(d.count, count);
        dict_check(&d, &e);
        dict_clear(&d, &e);
        epoch_deinit(&e);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model), cmocka_unit_test(test_twice),
                                       cmocka_unit_test(test_ever_so_often),
                                       cmocka_unit_test(test_index_twice),
                                       cmocka_unit_test(test_common_bits)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
