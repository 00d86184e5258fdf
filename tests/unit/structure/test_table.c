/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The table against a naive model, with snapshots taken, nested and released in any order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "structure/table.h"

/* The C library keeps the bookkeeping of threads that have ended for later ones: some hundred bytes
 * for each that ran at once. */
#ifdef HF_JEMALLOC
#define THREADS_KEEP 4096
#else
#define THREADS_KEEP 0
#endif

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SLOWED_DOWN 10
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer)
#define SLOWED_DOWN 10
#endif
#endif
#ifndef SLOWED_DOWN
#define SLOWED_DOWN 1
#endif

/* --- random numbers ----------------------------------------------------------------------------
 */

static uint64_t seed, random_state;
static bool running; /* a test has begun and not come to its end */

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

static uint32_t random_below(uint32_t bound)
{
    return (uint32_t)((random_next() >> 32) * bound >> 32);
}

/* --- items -------------------------------------------------------------------------------------
 */

/* An item has a value that may change in place, and a chain of nodes below it, each with a birth.
 */
struct node {
    uint64_t birth;
    uint64_t value;
    struct node *next;
};

struct item {
    uint32_t key, value;
    int64_t due;
    struct node *below;
    uint64_t unused; /* items are aligned to 16 bytes, those in an array, too */
};

#define KIND_NODE ((enum epoch_kind)10)
#define CHAIN_MAX 3

static uint32_t same_bits; /* how many top bits all hashes have in common */
static uint64_t hash_calls;

static uint64_t key_hash(uint32_t key)
{
    uint64_t h = mix(key + 1);
    return same_bits ? h >> same_bits | 0xb5b5b5b5b5b5b5b5ULL << (64 - same_bits) : h;
}

static bool item_match(const void *item, const char *key, size_t size)
{
    assert_int_equal(size, sizeof(uint32_t));
    return memcmp(&((const struct item *)item)->key, key, sizeof(uint32_t)) == 0;
}

static uint64_t item_hash(const void *item)
{
    __atomic_fetch_add(&hash_calls, 1, __ATOMIC_RELAXED);
    return key_hash(((const struct item *)item)->key);
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

static void chain_free(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    struct node *n = ptr;
    while (n && n->birth > seen) {
        struct node *next = n->next;
        mem_free_sized(n, sizeof(*n));
        n = next;
    }
    if (n)
        epoch_keep(ctx, KIND_NODE, n, n->birth);
}

static void item_free_below(struct epoch_reclaim *ctx, void *item, uint64_t seen)
{
    chain_free(ctx, ((struct item *)item)->below, seen);
}

static bool item_same(const void *item, const void *other)
{
    return ((const struct item *)item)->key == ((const struct item *)other)->key;
}

static const struct table_type item_type = {item_match, item_hash, item_size, item_due,
                                            item_free_below, item_same};

/* --- the model ---------------------------------------------------------------------------------
 */

#define KEYS 4000

struct model_item {
    bool there;
    uint32_t value;
    int64_t due;
    uint32_t chain_count;
    uint64_t chain[CHAIN_MAX];
};

struct model {
    uint64_t count;
    uint64_t since[EPOCH_MARKS];          /* 0: the mark is not set */
    bool changed[EPOCH_MARKS][KEYS];      /* put in or changed since */
    bool kept[EPOCH_MARKS][KEYS];         /* there at the mark, and always since */
    struct model_item items[KEYS];
};

/* A frozen table and what it has to read as; perhaps with a thread that keeps reading it. */
struct view {
    struct table table;
    struct epoch_snapshot *snapshot;
    struct model model;
    bool threaded, stop;
    pthread_t thread;
};

static struct table table;
static struct epoch epoch;
static struct model model;
#define VIEWS 5
static struct view *views[VIEWS];

struct comparison {
    const struct model *model;
    uint64_t count;
    bool wrong;
};

static bool compare_item(void *arg, void *ptr)
{
    struct comparison *c = arg;
    const struct item *item = ptr;
    if (item->key >= KEYS) {
        c->wrong = true;
        return false;
    }
    const struct model_item *m = &c->model->items[item->key];
    c->count++;
    if (!m->there || m->value != item->value || m->due != item->due)
        c->wrong = true;
    const struct node *n = item->below;
    for (uint32_t i = 0; i < m->chain_count; i++, n = n->next) {
        if (!n || n->value != m->chain[i]) {
            c->wrong = true;
            return false;
        }
    }
    if (n)
        c->wrong = true;
    return !c->wrong;
}

struct change_comparison {
    const struct model *model;
    unsigned mark;
    uint32_t count;
    bool wrong;
};

static bool compare_change(void *arg, void *ptr)
{
    struct change_comparison *c = arg;
    const struct item *item = ptr;
    if (item->key >= KEYS || !c->model->items[item->key].there ||
        !c->model->changed[c->mark][item->key])
        c->wrong = true;
    c->count++;
    return !c->wrong;
}

/* What the table gives as changed after each mark is what was put in or changed, and is there. */
static bool changes_equal(const struct table *t, const struct model *m, uint64_t split_at)
{
    for (unsigned mark = 0; mark < EPOCH_MARKS; mark++) {
        if (m->since[mark] == 0)
            continue;
        struct change_comparison c = {.model = m, .mark = mark};
        bool done = false;
        uint64_t from = 0;
        while (!done)
            from = table_walk_changed(t, mark, m->since[mark], from, split_at, 3, compare_change,
                                      &c, &done);
        done = split_at == UINT64_MAX;
        from = split_at + 1;
        while (!done && !c.wrong)
            from = table_walk_changed(t, mark, m->since[mark], from, UINT64_MAX, 0, compare_change,
                                      &c, &done);
        uint32_t expected = 0;
        for (uint32_t key = 0; key < KEYS; key++)
            expected += m->items[key].there && m->changed[mark][key];
        if (c.wrong || c.count != expected)
            return false;
    }
    return true;
}

/* Every key is given once, so equal counts and equal items mean equal contents. */
static bool table_equals(const struct table *t, const struct model *m, uint64_t split_at)
{
    struct comparison c = {.model = m};
    bool done = false;
    uint64_t from = 0;
    /* In two ranges, in steps of a few segments. */
    while (!done)
        from = table_walk(t, from, split_at, 3, compare_item, &c, &done);
    done = split_at == UINT64_MAX;
    from = split_at + 1;
    while (!done && !c.wrong)
        from = table_walk(t, from, UINT64_MAX, 0, compare_item, &c, &done);
    return !c.wrong && c.count == m->count && t->count == m->count;
}

static void *view_reader(void *arg)
{
    struct view *v = arg;
    uint64_t r = 1;
    do {
        r = mix(r + 12345);
        if (!table_equals(&v->table, &v->model, r) || !changes_equal(&v->table, &v->model, r)) {
            fprintf(stderr, "a snapshot changed under its reader; HF_SEED=%lu\n", seed);
            abort();
        }
    } while (!__atomic_load_n(&v->stop, __ATOMIC_RELAXED));
    return NULL;
}

/* Set a mark at what is there now, or take it back. */
static void set_mark(unsigned mark, bool set)
{
    model.since[mark] = set ? epoch.now : 0;
    epoch_set_mark(&epoch, mark, model.since[mark]);
    memset(model.changed[mark], 0, sizeof(model.changed[mark]));
    for (uint32_t key = 0; key < KEYS; key++)
        model.kept[mark][key] = set && model.items[key].there;
    epoch.now++;
}

static void note_change(uint32_t key)
{
    for (unsigned mark = 0; mark < EPOCH_MARKS; mark++)
        model.changed[mark][key] = true;
}

static void check_kept(const struct table_place *place, uint32_t key)
{
    for (unsigned mark = 0; mark < EPOCH_MARKS; mark++)
        assert_int_equal(place->at_marks >> mark & 1, model.kept[mark][key]);
}

static void view_take(struct view **slot, bool threaded)
{
    struct view *v = malloc(sizeof(*v));
    v->snapshot = epoch_snapshot_begin(&epoch);
    v->table = table;
    v->model = model;
    v->threaded = threaded;
    v->stop = false;
    if (threaded)
        assert_int_equal(pthread_create(&v->thread, NULL, view_reader, v), 0);
    *slot = v;
}

static void view_drop(struct view **slot)
{
    struct view *v = *slot;
    if (v->threaded) {
        __atomic_store_n(&v->stop, true, __ATOMIC_RELAXED);
        pthread_join(v->thread, NULL);
    }
    assert_true(table_equals(&v->table, &v->model, random_next()));
    assert_true(changes_equal(&v->table, &v->model, random_next()));
    epoch_snapshot_end(&epoch, v->snapshot);
    free(v);
    *slot = NULL;
}

/* --- changing both -----------------------------------------------------------------------------
 */

static struct item *find(uint32_t key)
{
    struct item *item = table_find(&table, key_hash(key), (const char *)&key, sizeof(key));
    assert_ptr_equal(
        item, table_find_with(&table, key_hash(key), (const char *)&key, sizeof(key), item_match));
    assert_int_equal(item != NULL, model.items[key].there);
    if (item)
        assert_int_equal(item->value, model.items[key].value);
    return item;
}

static struct node *node_new(uint64_t value, struct node *next)
{
    struct node *n = mem_alloc(sizeof(*n));
    *n = (struct node){.birth = epoch.now, .value = value, .next = next};
    return n;
}

static void insert(uint32_t key)
{
    struct item *item = mem_alloc(sizeof(*item));
    struct model_item *m = &model.items[key];
    *m = (struct model_item){.there = true, .value = (uint32_t)random_next(), .due = INT64_MAX};
    if (random_below(4) == 0)
        m->due = random_below(10000);
    m->chain_count = random_below(CHAIN_MAX + 1);
    *item = (struct item){.key = key, .value = m->value, .due = m->due};
    for (uint32_t i = m->chain_count; i-- > 0;) {
        m->chain[i] = random_next();
        item->below = node_new(m->chain[i], item->below);
    }
    struct table_place place;
    table_insert(&table, &epoch, key_hash(key), item, random_below(2) ? &place : NULL);
    model.count++;
    note_change(key);
}

/* The item, changeable in place: as the keyspace does it. */
static struct item *own(struct item *item, struct table_place *place)
{
    table_own(&table, &epoch, key_hash(item->key), item, place);
    check_kept(place, item->key);
    note_change(item->key);
    if (table_item_owned(&table, &epoch, place))
        return item;
    struct item *copy = mem_alloc(sizeof(*copy));
    *copy = *item;
    table_replace(&table, place, copy);
    epoch_retire_shared(&epoch, item, sizeof(*item), true);
    assert_true(table_item_owned(&table, &epoch, place));
    return copy;
}

static void change(uint32_t key)
{
    struct table_place place;
    struct model_item *m = &model.items[key];
    struct item *item = find(key);
    if (m->chain_count == 0 && !epoch_has_snapshot(&epoch) && random_below(2)) {
        table_note_change(&table, &epoch, key_hash(key), item);
        note_change(key);
        item->value = m->value = (uint32_t)random_next();
        return;
    }
    item = own(item, &place);
    item->value = m->value = (uint32_t)random_next();
    if (m->chain_count) {
        /* Change a node of the chain, with those above it made owned. */
        uint32_t which = random_below(m->chain_count);
        struct node **link = &item->below;
        for (uint32_t i = 0; i <= which; i++) {
            struct node *n = *link;
            if (!epoch_owned(&epoch, n->birth)) {
                *link = node_new(n->value, n->next);
                epoch_retire(&epoch, n, sizeof(*n), n->birth);
                n = *link;
            }
            if (i == which)
                n->value = m->chain[i] = random_next();
            link = &n->next;
        }
    }
    if (random_below(3) == 0) {
        item->due = m->due = random_below(10000);
        table_note_due(&table, &place, item->due);
    }
}

static void drop(uint32_t key)
{
    struct table_place place;
    struct item *item = find(key);
    table_own(&table, &epoch, key_hash(key), item, &place);
    bool owned = table_item_owned(&table, &epoch, &place);
    check_kept(&place, key);
    for (unsigned mark = 0; mark < EPOCH_MARKS; mark++)
        model.kept[mark][key] = false;
    table_remove(&table, &epoch, &place);
    if (item->below)
        epoch_retire_deep(&epoch, KIND_NODE, item->below, item->below->birth,
                          random_below(2) ? 1 : 1000);
    epoch_retire_shared(&epoch, item, sizeof(*item), !owned);
    model.items[key].there = false;
    model.count--;
}

static void clear_all(void)
{
    table_clear(&table, &epoch);
    memset(&model.items, 0, sizeof(model.items));
    memset(&model.kept, 0, sizeof(model.kept));
    model.count = 0;
    assert_int_equal(table.root, 0);
}

/* Collects what is due at `now` in several steps; all of it must be found, and nothing else. */
static void collect(int64_t now)
{
    void *items[50];
    uint64_t cursor = 0;
    do {
        size_t n = table_collect_due(&table, &epoch, now, &cursor, 1 + random_below(8), items, 50);
        for (size_t i = 0; i < n; i++) {
            struct item *item = items[i];
            assert_true(item->due <= now);
            assert_true(model.items[item->key].there);
        }
        for (size_t i = 0; i < n; i++)
            drop(((struct item *)items[i])->key);
    } while (cursor != 0);
    for (uint32_t key = 0; key < KEYS; key++)
        assert_false(model.items[key].there && model.items[key].due <= now);
}

static void *move_item(void *ctx, void *item, bool *stop)
{
    *stop = random_below(30) == 0;
    return mem_move(ctx, item);
}

/* Some segments move, with pages and items, from anywhere on, or all of them. */
static void move_some(void)
{
    struct mem_mover m = {0, 0};
    struct table_cursor at = {0, 0};
    uint32_t calls = random_below(4) ? random_below(40) : UINT32_MAX;
    if (random_below(2))
        at = (struct table_cursor){random_next(), random_below(500)};
    while (table_move(&table, &m, &at, move_item, &m) && calls-- > 0)
        ;
    assert_int_equal(m.stayed, 0);
}

/* Now and then all changes come to one part of the hashes, so that some segments have long not been
 * touched when a neighbour merges with them. */
static uint64_t local_hash, local_mask;

static uint32_t random_key(uint32_t keys)
{
    uint32_t key;
    int tries = 64;
    do
        key = random_below(keys);
    while (tries-- > 0 && ((key_hash(key) ^ local_hash) & local_mask));
    return key;
}

static void one_operation(uint32_t keys, uint32_t bias, bool threads)
{
    uint32_t what = random_below(1000), key = random_key(keys);
    struct view **slot = &views[random_below(VIEWS)];
    if (!epoch_has_snapshot(&epoch) && random_below(100) == 0)
        move_some();
    if (what < 6) {
        if (!*slot)
            view_take(slot, threads && random_below(2));
    } else if (what < 12) {
        if (*slot)
            view_drop(slot);
    } else if (what < 15) {
        set_mark(random_below(EPOCH_MARKS), random_below(4) > 0);
    } else if (what < 16 && random_below(20) == 0) {
        clear_all();
    } else if (what < 17 && random_below(4) == 0) {
        collect(random_below(8000));
    } else if (what < 300) {
        epoch_reclaim_step(&epoch, random_below(20));
    } else if (!find(key)) {
        if (random_below(100) < bias)
            insert(key);
    } else if (random_below(100) >= bias) {
        drop(key);
    } else {
        change(key);
    }
}

/* With few keys and a bias that swings, segments split and merge all the time. */
static void run_model(uint32_t top_bits, uint32_t keys, bool threads, uint32_t operations)
{
    same_bits = top_bits;
    epoch_init(&epoch, threads);
    table_init(&table, &item_type);
    memset(&model, 0, sizeof(model));
    uint32_t bias = 90;
    for (uint32_t i = 0; i < operations; i++) {
        if (i % (keys / 2) == 0) {
            bias = random_below(100);
            local_hash = random_next();
            local_mask = UINT64_MAX >> same_bits & ~(UINT64_MAX >> same_bits >> random_below(4));
        }
        one_operation(keys, bias, threads);
        if (i % 1000 == 0) {
            table_check(&table, &epoch);
            assert_true(table_equals(&table, &model, random_next()));
            assert_true(changes_equal(&table, &model, random_next()));
        }
    }
    /* Emptied in random order half of the time, so that segments merge down to none. */
    if (random_below(2)) {
        for (uint32_t key = 0, at = random_below(KEYS); key < KEYS; key++) {
            uint32_t k = (key * 7919 + at) % KEYS;
            if (model.items[k].there)
                drop(k);
        }
        assert_int_equal(table.root, 0);
    } else {
        clear_all();
    }
    for (int i = 0; i < VIEWS; i++) {
        if (views[i])
            view_drop(&views[i]);
    }
    epoch_reclaim_all(&epoch);
    assert_int_equal(epoch_pending_count(&epoch), 0);
    epoch_deinit(&epoch);
}

static void check_model(uint32_t top_bits, uint32_t keys, bool threads, uint32_t operations)
{
    /* Once to warm up the C library's own blocks. */
    run_model(top_bits, keys, threads, 2000);
    size_t before = mem_used();
    run_model(top_bits, keys, threads, operations / SLOWED_DOWN);
#ifdef HF_JEMALLOC
    if (threads)
        return; /* it counts what the C library keeps for threads, too */
#endif
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* Random changes agree with a naive model, and every snapshot reads as when it was taken. */
static void test_model(void **state)
{
    (void)state;
    check_model(0, KEYS, false, 150000);
    check_model(0, 700, false, 150000);
    running = false;
}

/* The same where segments lie around the border between two levels of pages, or at the very end of
 * the hash, where the bits run out. */
static void test_model_deep(void **state)
{
    (void)state;
    check_model(6, KEYS, false, 100000);
    check_model(13, 1500, false, 100000);
    check_model(22, KEYS, false, 60000);
    check_model(37, KEYS, false, 60000);
    check_model(50, KEYS, false, 60000);
    running = false;
}

/* The same with readers on other threads and a reclaimer. */
static void test_model_threads(void **state)
{
    (void)state;
    check_model(0, KEYS, true, 100000);
    check_model(7, 1500, true, 60000);
    running = false;
}

/* --- SCAN --------------------------------------------------------------------------------------
 */

struct scanned {
    uint32_t times[KEYS];
    uint64_t given;
};

static void note_scanned(void *ctx, void *item)
{
    struct scanned *s = ctx;
    s->times[((struct item *)item)->key]++;
    s->given++;
}

/* What is there all through a scan is given, whatever comes and goes meanwhile; when nothing does,
 * everything is given once, and each call keeps to its bounds. */
static void test_scan(void **state)
{
    (void)state;
    static const uint32_t top_bits[] = {0, 7, 15, 38, 50};
    static struct scanned s;
    for (uint32_t round = 0; round < 200 / SLOWED_DOWN; round++) {
        same_bits = top_bits[round % 5];
        epoch_init(&epoch, false);
        table_init(&table, &item_type);
        memset(&model, 0, sizeof(model));
        for (uint32_t i = random_below(KEYS); i > 0; i--) {
            uint32_t key = random_below(KEYS);
            if (!model.items[key].there)
                insert(key);
        }
        memset(&s, 0, sizeof(s));
        uint64_t cursor = 0;
        do {
            uint64_t before = s.given, next;
            next = table_scan(&table, cursor, 10, 1000, note_scanned, &s);
            assert_true(next == 0 || next > cursor);
            assert_true(next < 1ULL << 53);
            /* Where all hashes begin alike, many have the same home. */
            assert_true(same_bits || s.given - before < 10 + 50);
            cursor = next;
        } while (cursor);
        for (uint32_t key = 0; key < KEYS; key++)
            assert_int_equal(s.times[key], model.items[key].there);

        /* Keys that are divisible by 3 stay; the others come and go. */
        static bool stays[KEYS];
        for (uint32_t key = 0; key < KEYS; key++)
            stays[key] = key % 3 == 0 && model.items[key].there;
        memset(&s, 0, sizeof(s));
        uint32_t bias = random_below(101);
        do {
            cursor = table_scan(&table, cursor, 1 + random_below(100), 1 + random_below(100),
                                note_scanned, &s);
            for (uint32_t i = random_below(300); i > 0; i--) {
                uint32_t key = random_below(KEYS);
                if (stays[key])
                    continue;
                if (!model.items[key].there && random_below(100) < bias)
                    insert(key);
                else if (model.items[key].there && random_below(100) >= bias)
                    drop(key);
            }
        } while (cursor);
        for (uint32_t key = 0; key < KEYS; key++)
            assert_true(!stays[key] || s.times[key] >= 1);
        /* Any cursor is safe. */
        for (uint32_t i = 0; i < 20; i++)
            table_scan(&table, random_next(), 10, 100, note_scanned, &s);
        clear_all();
        epoch_deinit(&epoch);
    }
    running = false;
}

/* --- random items ------------------------------------------------------------------------------
 */

/* Random items come from all over the table, and a sample has no item twice. */
static void test_random(void **state)
{
    (void)state;
    same_bits = 0;
    epoch_init(&epoch, false);
    table_init(&table, &item_type);
    memset(&model, 0, sizeof(model));
    assert_null(table_random(&table, 1));
    assert_int_equal(table_sample(&table, 1, NULL, 0), 0);
    static uint32_t times[KEYS];
    static void *items[KEYS];
    for (uint32_t key = 0; key < KEYS; key++) {
        insert(key);
        if (key != 0 && key != 20 && key != 1000)
            continue;
        for (int i = 0; i < 50; i++) {
            size_t n = table_sample(&table, random_next(), items, KEYS);
            assert_int_equal(n, key + 1);
            memset(times, 0, sizeof(times));
            for (size_t k = 0; k < n; k++)
                assert_int_equal(times[((struct item *)items[k])->key]++, 0);
        }
    }
    memset(times, 0, sizeof(times));
    for (uint32_t i = 0; i < KEYS * 100; i++)
        times[((struct item *)table_random(&table, random_next()))->key]++;
    for (uint32_t key = 0; key < KEYS; key++)
        assert_true(times[key] > 25 && times[key] < 400);
    /* Samples, too, of whatever size: none is spared, and none is where they are mostly taken
     * from. */
    for (uint32_t want = 1; want <= 5; want += 4) {
        memset(times, 0, sizeof(times));
        for (uint32_t i = 0; i < KEYS * 100 / want; i++) {
            assert_int_equal(table_sample(&table, random_next(), items, want), want);
            for (uint32_t k = 0; k < want; k++)
                times[((struct item *)items[k])->key]++;
        }
        for (uint32_t key = 0; key < KEYS; key++)
            assert_true(times[key] > 10 && times[key] < 600);
    }
    clear_all();
    epoch_deinit(&epoch);
    running = false;
}

/* --- size and bounds ---------------------------------------------------------------------------
 */

static double seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* At any number of items the table is well filled, an insert touches no more items than a segment
 * has, and after removing all nothing is left. */
static void test_bounds(void **state)
{
    (void)state;
    uint32_t count = 3000000 / SLOWED_DOWN;
    struct item *items = mem_zalloc(sizeof(*items) * count);
    same_bits = 0;
    epoch_init(&epoch, false);
    table_init(&table, &item_type);
    double slowest = 0, sum = 0, least = 100, most = 0, next_check = 10000;
    uint64_t most_touched = 0;
    int checks = 0;
    for (uint32_t i = 0; i < count; i++) {
        items[i] = (struct item){.key = i, .due = INT64_MAX};
        uint64_t hash = key_hash(i), touched = hash_calls;
        double start = seconds();
        table_insert(&table, &epoch, hash, &items[i], NULL);
        double took = seconds() - start;
        if (took > slowest)
            slowest = took;
        if (hash_calls - touched > most_touched)
            most_touched = hash_calls - touched;
        if (i < next_check)
            continue;
        next_check *= 1.05;
        double bytes = (double)table_overhead_bytes(&table) / (i + 1);
        sum += bytes;
        checks++;
        if (bytes < least)
            least = bytes;
        if (bytes > most)
            most = bytes;
    }
    printf("  table: bytes per item: least %.2f average %.2f most %.2f; slowest insert %.0f us, "
           "items touched by one: %lu\n",
           least, sum / checks, most, slowest * 1e6, most_touched);
    assert_true(sum / checks < 11.5);
    assert_true(most < 12.3);
    assert_true(most_touched <= 441);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t key = (uint32_t)((uint64_t)i * 1999993 % count);
        struct table_place place;
        if (i == count / 2)
            assert_true((double)table_overhead_bytes(&table) / (count - i) < 16);
        table_own(&table, &epoch, key_hash(key), &items[key], &place);
        table_remove(&table, &epoch, &place);
    }
    assert_int_equal(table.count, 0);
    assert_int_equal(table.root, 0);
    epoch_deinit(&epoch);
    mem_free(items);
    running = false;
}

/* After a failure the state is no good for the tests that follow. */
static int begin_test(void **state)
{
    (void)state;
    random_state = seed;
    if (running)
        return -1;
    running = true;
    printf("  HF_SEED=%lu\n", seed);
    return 0;
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    table_register(&item_type);
    mem_move_everything(true);
    epoch_register(KIND_NODE, chain_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_model, begin_test),
        cmocka_unit_test_setup(test_model_deep, begin_test),
        cmocka_unit_test_setup(test_model_threads, begin_test),
        cmocka_unit_test_setup(test_scan, begin_test),
        cmocka_unit_test_setup(test_random, begin_test),
        cmocka_unit_test_setup(test_bounds, begin_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
