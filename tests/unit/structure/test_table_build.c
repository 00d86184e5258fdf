/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "structure/table_build.h"

static uint64_t seed, random_state;

static uint64_t mix(uint64_t r)
{
    r = (r ^ r >> 30) * 0xbf58476d1ce4e5b9ULL;
    r = (r ^ r >> 27) * 0x94d049bb133111ebULL;
    return r ^ r >> 31;
}

static uint64_t random_next(void)
{
    random_state += 0x9e3779b97f4a7c15ULL;
    return mix(random_state);
}

struct item {
    uint64_t key;
    int64_t due;
};

static uint32_t same_bits; /* how many top bits all hashes have in common */
static bool same_hash;     /* all hashes are one */

static uint64_t hash_of(uint64_t key)
{
    uint64_t h = same_hash ? 0x123456789abcdef0ULL : mix(key + 1);
    return same_bits ? h >> same_bits | 0xb5b5b5b5b5b5b5b5ULL << (64 - same_bits) : h;
}

static bool item_match(const void *item, const char *key, size_t size)
{
    return memcmp(&((const struct item *)item)->key, key, size) == 0;
}

static uint64_t item_hash(const void *item)
{
    return hash_of(((const struct item *)item)->key);
}

static size_t item_size(const void *item)
{
    (void)item;
    return sizeof(struct item);
}

static int64_t item_due(const void *item)
{
    return ((const struct item *)item)->due;
}

static void item_free_below(struct epoch_reclaim *ctx, void *item, uint64_t seen)
{
    (void)ctx;
    (void)item;
    (void)seen;
}

static bool item_same(const void *item, const void *other)
{
    return ((const struct item *)item)->key == ((const struct item *)other)->key;
}

static const struct table_type item_type = {item_match, item_hash,       item_size,
                                            item_due,   item_free_below, item_same};

static struct item *item_new(uint64_t key)
{
    struct item *item = mem_alloc(sizeof(*item));
    *item = (struct item){.key = key, .due = INT64_MAX};
    if (random_next() % 4 == 0)
        item->due = (int64_t)(random_next() % 10000);
    return item;
}

/* Items by parts, as those who make them keep them. */
struct parts {
    uint64_t counts[TABLE_BUILD_PARTS];
    struct table_pair *pairs[TABLE_BUILD_PARTS];
    size_t rooms[TABLE_BUILD_PARTS];
};

static void parts_add(struct parts *p, struct item *item)
{
    uint64_t hash = hash_of(item->key);
    uint32_t part = table_build_part(hash);
    if (p->counts[part] == p->rooms[part]) {
        p->rooms[part] = p->rooms[part] * 2 + 8;
        p->pairs[part] = mem_realloc(p->pairs[part], p->rooms[part] * sizeof(struct table_pair));
    }
    p->pairs[part][p->counts[part]++] = (struct table_pair){
        hash, (uintptr_t)item | (item->due != INT64_MAX ? TABLE_PAIR_DUE : 0)};
}

static void drop_rejected(void *ctx, void *item)
{
    mem_free_sized(item, sizeof(struct item));
    ++*(uint64_t *)ctx;
}

struct builder {
    struct table_build *b;
    struct parts *parts;
    struct epoch *e;
    uint32_t next; /* shared: atomic */
    uint64_t rejected;
};

static void *build_tasks(void *arg)
{
    struct builder *w = arg;
    for (;;) {
        uint32_t i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
        if (i >= w->b->task_count)
            return NULL;
        const struct table_build_task *task = &w->b->tasks[i];
        struct table_pair *pairs = mem_alloc((task->items + 1) * sizeof(*pairs));
        struct table_pair *scratch = mem_alloc((task->items + 1) * sizeof(*pairs));
        uint64_t n = 0, rejected = 0;
        for (uint32_t k = task->first; k < task->first + task->parts; k++) {
            if (w->parts->counts[k])
                memcpy(pairs + n, w->parts->pairs[k], w->parts->counts[k] * sizeof(*pairs));
            n += w->parts->counts[k];
        }
        assert_int_equal(n, task->items);
        bool ok = table_build_task(w->b, w->e, i, pairs, scratch, drop_rejected, &rejected);
        assert_int_equal(ok, rejected == 0);
        __atomic_fetch_add(&w->rejected, rejected, __ATOMIC_RELAXED);
        mem_free(pairs);
        mem_free(scratch);
    }
}

/* Returns how many were rejected. */
static uint64_t build(struct parts *p, struct epoch *e, struct table *t, bool threads)
{
    struct table_build b;
    table_build_plan(&b, &item_type, p->counts);
    struct builder w = {.b = &b, .parts = p, .e = e};
    pthread_t thread;
    if (threads)
        assert_int_equal(pthread_create(&thread, NULL, build_tasks, &w), 0);
    build_tasks(&w);
    if (threads)
        pthread_join(thread, NULL);
    table_init(t, &item_type);
    table_build_finish(&b, e, t);
    for (int i = 0; i < TABLE_BUILD_PARTS; i++)
        mem_free(p->pairs[i]);
    return w.rejected;
}

static struct item *find(const struct table *t, uint64_t key)
{
    return table_find(t, hash_of(key), (const char *)&key, sizeof(key));
}

static void build_and_use(uint64_t count, bool threads)
{
    struct epoch e;
    epoch_init(&e, false);
    e.now = 7;
    struct parts p = {0};
    struct table t;
    for (uint64_t i = 0; i < count; i++)
        parts_add(&p, item_new(i * 3));
    assert_int_equal(build(&p, &e, &t, threads), 0);
    table_check(&t, &e);
    assert_int_equal(t.count, count);
    assert_int_equal(t.root != 0, count != 0);
    for (uint64_t i = 0; i < count; i++) {
        assert_non_null(find(&t, i * 3));
        assert_null(find(&t, i * 3 + 1));
    }
    /* It goes on as a table that was filled one by one, a snapshot of it included. */
    struct table frozen = t;
    struct epoch_snapshot *s = epoch_snapshot_begin(&e);
    for (uint64_t i = 0; i < count; i += 5)
        table_insert(&t, &e, hash_of(i * 3 + 1), item_new(i * 3 + 1), NULL);
    for (uint64_t i = 0; i < count; i += 2) {
        struct table_place place;
        struct item *item = find(&t, i * 3);
        table_own(&t, &e, hash_of(i * 3), item, &place);
        table_remove(&t, &e, &place);
        epoch_retire_shared(&e, item, sizeof(*item), true);
    }
    table_check(&t, &e);
    for (uint64_t i = 0; i < count; i++) {
        assert_non_null(find(&frozen, i * 3));
        assert_int_equal(find(&t, i * 3) != NULL, i % 2);
        assert_int_equal(find(&t, i * 3 + 1) != NULL, i % 5 == 0);
    }
    epoch_snapshot_end(&e, s);
    table_clear(&t, &e);
    epoch_reclaim_all(&e);
    epoch_deinit(&e);
}

/* A table that was built at once is as one that was filled, whatever its size, and whatever the
 * hashes have in common. */
static void test_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {0, 1, 2, 49, 411, 412, 413, 414, 830, 5000, 60000};
    static const uint32_t bits[] = {0, 1, 7, 8, 9, 20, 40};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        for (size_t k = 0; k < sizeof(bits) / sizeof(bits[0]); k++) {
            if (bits[k] != 0 && sizes[i] > 5000)
                continue;
            same_bits = bits[k];
            build_and_use(sizes[i], false);
        }
    }
    same_bits = 0;
}

/* Random sizes, built by two threads. */
static void test_threads(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        build_and_use(random_next() % (1ULL << (i % 16)), true);
}

/* Keys that are there twice, or thousands of times, are given back, and the others are in. */
static void test_duplicates(void **state)
{
    (void)state;
    for (uint64_t times = 2; times < 3000; times = times * 3 + random_next() % 5) {
        struct epoch e;
        epoch_init(&e, false);
        struct parts p = {0};
        struct table t;
        uint64_t count = random_next() % 5000 + 10;
        for (uint64_t i = 0; i < count; i++)
            parts_add(&p, item_new(i));
        for (uint64_t i = 0; i < times; i++)
            parts_add(&p, item_new(5));
        assert_int_equal(build(&p, &e, &t, false), times);
        assert_int_equal(t.count, count);
        table_check(&t, &e);
        for (uint64_t i = 0; i < count; i++)
            assert_non_null(find(&t, i));
        table_clear(&t, &e);
        epoch_deinit(&e);
    }
}

/* Different keys of one hash: as many as a segment has room for, and no crash beyond. */
static void test_one_hash(void **state)
{
    (void)state;
    same_hash = true;
    for (uint64_t count = 2; count < 3000; count = count * 4) {
        struct epoch e;
        epoch_init(&e, false);
        struct parts p = {0};
        struct table t;
        for (uint64_t i = 0; i < count; i++)
            parts_add(&p, item_new(i));
        uint64_t rejected = build(&p, &e, &t, false);
        assert_int_equal(t.count, count - rejected);
        assert_true(count > 400 ? rejected > 0 : rejected == 0);
        table_check(&t, &e);
        table_clear(&t, &e);
        epoch_deinit(&e);
    }
    same_hash = false;
}

static int begin_test(void **state)
{
    (void)state;
    random_state = seed;
    same_bits = 0;
    same_hash = false;
    printf("  HF_SEED=%lu\n", seed);
    return 0;
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    table_register(&item_type);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sizes, begin_test),
        cmocka_unit_test_setup(test_threads, begin_test),
        cmocka_unit_test_setup(test_duplicates, begin_test),
        cmocka_unit_test_setup(test_one_hash, begin_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
