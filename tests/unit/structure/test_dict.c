/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/mem_move.h"
#include "structure/dict.h"
#include "unit/random.h"

/* The C library keeps the bookkeeping of threads that have ended for later ones: some hundred bytes
 * for each that ran at once. */
#ifdef HF_JEMALLOC
#define THREADS_KEEP 4096
#else
#define THREADS_KEEP 0
#endif

static uint64_t rnd_for(void *ctx)
{
    (void)ctx;
    return random_bits();
}

static void *wait_at(void *barrier)
{
    pthread_barrier_wait(barrier);
    return NULL;
}

/* The C library keeps what it allocates for a thread for the next one, and under jemalloc
 * mem_used() counts it. With some threads run at the start, it does not change afterwards. */
static void warm_threads(void)
{
    pthread_barrier_t barrier;
    pthread_t threads[4];
    pthread_barrier_init(&barrier, NULL, 4);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, wait_at, &barrier), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
}

static int setup(void **state)
{
    (void)state;
    warm_threads();
    random_begin();
    struct hash_key key = {random_bits(), random_bits()};
    hash_key_init(&key);
    dict_register();
    mem_move_everything(true);
    return 0;
}

/* ---- the model: a number for each possible item, from which its key and value follow ---- */

#define KEY_MAX 2048

/* How large the items of a test are: few are beyond what stands in a leaf. */
struct sizes {
    uint32_t key_small, value_small; /* up to so many bytes mostly */
    uint32_t large_one_in;           /* every so many-th is large; 0: none */
};

struct model {
    enum dict_kind kind;
    struct sizes sizes;
    uint32_t universe;
    uint32_t *version; /* of each item; 0: it is not there */
    uint64_t count;
    int64_t *due; /* of each item, behind the versions; NULL: none expires in this test */
    int64_t now;
};

static uint64_t mix(uint64_t v)
{
    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9U;
    v = (v ^ v >> 27) * 0x94d049bb133111ebU;
    return v ^ v >> 31;
}

static uint32_t pick_size(const struct sizes *sizes, uint32_t small, uint64_t r)
{
    if (sizes->large_one_in && r % sizes->large_one_in == 0)
        return (uint32_t)(DICT_INLINE_MAX - 3 + (r >> 32) % (r >> 20 & 1 ? 8 : 1500));
    return (uint32_t)((r >> 32) % (small + 1));
}

/* The key begins with the item's number, so that it can be told from the bytes. */
static struct slice key_of(const struct model *m, uint32_t id, char buf[KEY_MAX])
{
    memset(buf, 0, 8);
    if (m->kind == DICT_INDEX) {
        uint64_t r = mix(id + 1);
        memcpy(buf, &r, 8);
        return slice_of(buf, 8);
    }
    uint64_t r = mix(id * 2ULL);
    uint32_t size = 4 + pick_size(&m->sizes, m->sizes.key_small, r);
    for (uint32_t i = 0; i < size; i++)
        buf[i] = (char)(r >> (i % 8 * 8));
    memcpy(buf, &id, 4);
    return slice_of(buf, size);
}

static struct slice value_of(const struct model *m, uint32_t id, uint32_t version,
                             char buf[KEY_MAX])
{
    if (m->kind == DICT_SET)
        return slice_of(buf, 0);
    uint64_t r = mix(((uint64_t)id << 32 | version) * 2 + 1);
    uint32_t size = m->kind == DICT_INDEX ? 8 : pick_size(&m->sizes, m->sizes.value_small, r);
    for (uint32_t i = 0; i < size; i++)
        buf[i] = (char)(r >> (i % 8 * 8));
    if (m->kind == DICT_INDEX)
        memcpy(buf, &id, 4);
    return slice_of(buf, size);
}

static uint32_t id_of(const struct model *m, const struct dict_item *item)
{
    uint32_t id;
    memcpy(&id, m->kind == DICT_INDEX ? item->value.data : item->key.data, 4);
    return id;
}

static struct model model_new(enum dict_kind kind, struct sizes sizes, uint32_t universe)
{
    return (struct model){kind, sizes, universe, mem_zalloc(universe * sizeof(uint32_t)),
                          0,    NULL,  0};
}

/* One whose items may expire. */
static struct model model_new_timed(struct sizes sizes, uint32_t universe)
{
    universe &= ~1U; /* the times are aligned then */
    struct model m = {.kind = DICT_MAP, .sizes = sizes, .universe = universe};
    m.version = mem_zalloc(universe * (sizeof(uint32_t) + sizeof(int64_t)));
    m.due = (int64_t *)(void *)(m.version + universe);
    return m;
}

static struct model model_copy(const struct model *m)
{
    struct model copy = *m;
    size_t size = m->universe * (sizeof(uint32_t) + (m->due ? sizeof(int64_t) : 0));
    copy.version = mem_alloc(size);
    memcpy(copy.version, m->version, size);
    if (m->due)
        copy.due = (int64_t *)(void *)(copy.version + m->universe);
    return copy;
}

/* ---- comparing: without cmocka's assertions, as it runs on other threads too ---- */

#define REQUIRE(condition)                                                                \
    do {                                                                                  \
        if (!(condition)) {                                                               \
            fprintf(stderr, "line %d: not so: %s (HF_SEED=%llu)\n", __LINE__, #condition, \
                    (unsigned long long)random_seed);                                     \
            abort();                                                                      \
        }                                                                                 \
    } while (0)

static bool item_is(const struct model *m, uint32_t id, uint32_t version,
                    const struct dict_item *item)
{
    char key[KEY_MAX], value[KEY_MAX];
    return item->due == (m->due ? m->due[id] : INT64_MAX) &&
           slice_equal(item->key, key_of(m, id, key)) &&
           slice_equal(item->value, value_of(m, id, version, value));
}

static void compare_one(const struct dict *d, const struct model *m, uint32_t id)
{
    char buf[KEY_MAX];
    struct slice key = key_of(m, id, buf);
    struct dict_item item;
    bool there = dict_find(d, dict_hash(d, key), key, &item, NULL);
    REQUIRE(there == (m->version[id] != 0));
    REQUIRE(!there || item_is(m, id, m->version[id], &item));
}

/* Every item once, with its value, and none besides. */
static void compare(const struct dict *d, const struct model *m)
{
    REQUIRE(d->count == m->count);
    struct dict_iter it;
    struct dict_item item;
    uint8_t *seen = mem_zalloc(m->universe);
    uint64_t count = 0, before = 0;
    dict_iter_init(&it, d);
    while (dict_iter_next(&it, &item)) {
        uint32_t id = id_of(m, &item);
        REQUIRE(id < m->universe && m->version[id] != 0 && !seen[id]);
        seen[id] = 1;
        REQUIRE(item_is(m, id, m->version[id], &item));
        /* Hash order from leaf to leaf, which is what the top bits show with so many items. */
        uint64_t hash = dict_hash(d, item.key);
        REQUIRE(d->count < 1000 || hash >> 63 >= before >> 63);
        before = hash;
        count++;
    }
    REQUIRE(!dict_iter_next(&it, &item));
    REQUIRE(count == m->count);
    for (uint32_t id = 0; id < m->universe; id += 7)
        compare_one(d, m, id);
    mem_free(seen);
}

/* ---- one random change to both ---- */

static uint32_t next_version = 1;

/* When an item is to expire: soon, late, or not at all. */
static int64_t pick_due(struct model *m, uint32_t id)
{
    if (!m->due)
        return INT64_MAX;
    m->due[id] = random_below(3) == 0   ? INT64_MAX
                 : random_below(10) == 0 ? INT64_MAX - 1 - (int64_t)random_below(5)
                                  : m->now + (int64_t)random_below(500);
    return m->due[id];
}

static void note_expired(void *ctx, const struct slice *keys, size_t count)
{
    struct model *m = ctx;
    for (size_t i = 0; i < count; i++) {
        uint32_t id;
        char buf[KEY_MAX];
        memcpy(&id, keys[i].data, 4);
        REQUIRE(id < m->universe && m->version[id] != 0 && m->due[id] < m->now);
        REQUIRE(slice_equal(keys[i], key_of(m, id, buf)));
        m->version[id] = 0;
        m->count--;
    }
}

/* Time goes on, and what is due is removed, some at a time. */
static void expire(struct dict *d, struct epoch *e, struct model *m)
{
    m->now += (int64_t)random_below(100);
    size_t want = 1 + random_below(60), done;
    uint64_t before = m->count;
    do {
        done = dict_expire(d, e, m->now, want, note_expired, m);
        REQUIRE(d->count == m->count && done <= want && before - m->count == done);
        before = m->count;
    } while (done == want && random_below(4) != 0);
    if (done == want)
        return;
    for (uint32_t id = 0; id < m->universe; id++)
        REQUIRE(m->version[id] == 0 || m->due[id] >= m->now);
    /* Only what a snapshot has may have a bound that is too low. */
    REQUIRE(d->root == 0 || epoch_has_snapshot(e) || dict_due_bound(d) >= m->now);
}

static void change(struct dict *d, struct epoch *e, struct model *m, unsigned add_percent)
{
    char key_buf[KEY_MAX], value_buf[KEY_MAX];
    uint32_t id = (uint32_t)random_below(m->universe);
    struct slice key = key_of(m, id, key_buf);
    uint64_t hash = dict_hash(d, key);
    struct dict_place place;
    struct dict_item item;
    bool there = dict_find(d, hash, key, &item, &place);
    REQUIRE(there == (m->version[id] != 0));
    REQUIRE(!there || item_is(m, id, m->version[id], &item));
    if (!there) {
        if (random_below(100) < add_percent) {
            m->version[id] = next_version++;
            m->count++;
            struct slice value = value_of(m, id, m->version[id], value_buf);
            dict_add_due(d, e, hash, key, value, pick_due(m, id));
        }
    } else if (m->due && random_below(3) == 0) {
        dict_set_due(d, e, &place, pick_due(m, id));
    } else if (random_below(100) < 100 - add_percent) {
        m->version[id] = 0;
        m->count--;
        dict_remove(d, e, &place);
    } else if (m->kind != DICT_SET) {
        m->version[id] = next_version++;
        struct slice value = value_of(m, id, m->version[id], value_buf);
        dict_set_value_due(d, e, &place, value, pick_due(m, id));
    }
    compare_one(d, m, id);
    if (m->due && random_below(100) == 0)
        expire(d, e, m);
}

/* Every block of some leaves moves, from anywhere on, or of all. */
static void move_some(struct dict *d, const struct epoch *e)
{
    struct mem_mover m = {0, 0};
    uint64_t at = random_below(2) ? 0 : random_bits();
    size_t leaves = random_below(8) ? 1 + random_below(10) : SIZE_MAX;
    if (epoch_has_snapshot(e))
        return;
    do
        at = dict_move(d, &m, at);
    while (at != 0 && --leaves > 0);
    REQUIRE(m.stayed == 0 && (m.moved > 0) == (d->root != 0));
}

/* ---- snapshots ---- */

struct frozen {
    struct epoch_snapshot *snapshot;
    struct dict dict;
    struct model model;
};

static struct frozen freeze(struct epoch *e, const struct dict *d, const struct model *m)
{
    return (struct frozen){epoch_snapshot_begin(e), *d, model_copy(m)};
}

static void release(struct epoch *e, struct frozen *f)
{
    compare(&f->dict, &f->model);
    epoch_snapshot_end(e, f->snapshot);
    mem_free(f->model.version);
}

#define LIVE_MAX 6

static void run_model_of(struct model (*make)(void *ctx), void *ctx, unsigned steps,
                         bool with_thread)
{
    size_t used_before = mem_used();
    struct epoch e;
    epoch_init(&e, with_thread);
    struct dict d;
    struct model m = make(ctx);
    uint32_t universe = m.universe;
    dict_init(&d, m.kind);
    struct frozen live[LIVE_MAX];
    size_t live_count = 0;
    unsigned add_percent = 70;
    for (unsigned step = 0; step < steps; step++) {
        change(&d, &e, &m, add_percent);
        if (step % (steps / 12 + 1) == 0)
            add_percent = (unsigned)random_below(3) * 35 + 15; /* shrinking, even, growing */
        if (random_below(300) == 0 && live_count < LIVE_MAX)
            live[live_count++] = freeze(&e, &d, &m);
        if (random_below(400) == 0 && live_count) {
            size_t i = random_below(live_count);
            release(&e, &live[i]);
            live[i] = live[--live_count];
        }
        if (random_below(1000) == 0 && live_count) {
            size_t i = random_below(live_count);
            compare(&live[i].dict, &live[i].model);
        }
        while (random_below(3000) < live_count)
            release(&e, &live[--live_count]);
        if (random_below(20) == 0)
            epoch_reclaim_step(&e, 8);
        if (random_below(20) == 0)
            move_some(&d, &e);
        if (random_below(2000) == 0) {
            dict_check(&d, &e);
            compare(&d, &m);
        }
        if (random_below(6000) == 0) {
            dict_clear(&d, &e);
            memset(m.version, 0, universe * sizeof(uint32_t));
            m.count = 0;
            add_percent = 85;
        }
    }
    dict_check(&d, &e);
    compare(&d, &m);
    while (live_count)
        release(&e, &live[--live_count]);
    epoch_reclaim_all(&e);
    assert_int_equal(epoch_pending_count(&e), 0);
    compare(&d, &m);
    dict_clear(&d, &e);
    epoch_deinit(&e);
    mem_free(m.version);
    assert_int_equal(mem_used(), used_before);
}

struct plain {
    enum dict_kind kind;
    struct sizes sizes;
    uint32_t universe;
};

static struct model make_plain(void *ctx)
{
    const struct plain *p = ctx;
    return model_new(p->kind, p->sizes, p->universe);
}

static struct model make_timed(void *ctx)
{
    const struct plain *p = ctx;
    return model_new_timed(p->sizes, p->universe);
}

static void run_model(enum dict_kind kind, struct sizes sizes, uint32_t universe, unsigned steps,
                      bool with_thread)
{
    run_model_of(make_plain, &(struct plain){kind, sizes, universe}, steps, with_thread);
}

/* The same with items that expire, of all sizes: they have their times in every snapshot, and what
 * is due is found, told of and removed, all of it and nothing else. */
static void test_model_timed(void **state)
{
    (void)state;
    run_model_of(make_timed, &(struct plain){DICT_MAP, {12, 24, 20}, 2000}, 40000, true);
    run_model_of(make_timed, &(struct plain){DICT_MAP, {188, 192, 4}, 300}, 15000, false);
    run_model_of(make_timed, &(struct plain){DICT_MAP, {4, 4, 0}, 20000}, 60000, true);
    for (unsigned i = 0; i < 20; i++)
        run_model_of(make_timed,
                     &(struct plain){DICT_MAP, {100, 100, 3}, 2 + (uint32_t)random_below(8)}, 2000,
                     i & 1);
}

/* Random changes and random snapshots, released in any order, with items of all sizes: the dict and
 * every snapshot read as the naive model does, and in the end nothing is left. */
static void test_model_set(void **state)
{
    (void)state;
    run_model(DICT_SET, (struct sizes){30, 0, 50}, 3000, 40000, true);
    run_model(DICT_SET, (struct sizes){190, 0, 0}, 200, 10000, false);
}

static void test_model_map(void **state)
{
    (void)state;
    run_model(DICT_MAP, (struct sizes){12, 24, 20}, 2000, 40000, true);
    run_model(DICT_MAP, (struct sizes){188, 192, 4}, 300, 15000, false);
}

static void test_model_index(void **state)
{
    (void)state;
    run_model(DICT_INDEX, (struct sizes){0, 0, 0}, 4000, 40000, true);
}

/* A few items at most: the ends of growing and shrinking. */
static void test_model_tiny(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        run_model(DICT_MAP, (struct sizes){100, 100, 3}, 1 + (uint32_t)random_below(8), 2000,
                  i & 1);
        run_model(DICT_INDEX, (struct sizes){0, 0, 0}, 1 + (uint32_t)random_below(8), 1000, i & 1);
    }
}

/* Enough items for three levels of pages, with snapshots while they come and go. */
static void test_model_large(void **state)
{
    (void)state;
    size_t used_before = mem_used();
    struct epoch e;
    epoch_init(&e, true);
    struct dict d;
    dict_init(&d, DICT_MAP);
    struct model m = model_new(DICT_MAP, (struct sizes){60, 120, 0}, 400000);
    char key_buf[KEY_MAX], value_buf[KEY_MAX];
    struct frozen f = {0};
    for (uint32_t id = 0; id < m.universe; id++) {
        struct slice key = key_of(&m, id, key_buf);
        m.version[id] = next_version++;
        m.count++;
        dict_add(&d, &e, dict_hash(&d, key), key, value_of(&m, id, m.version[id], value_buf));
        if (id == 300000)
            f = freeze(&e, &d, &m);
    }
    dict_check(&d, &e);
    compare(&d, &m);
    for (uint32_t id = 0; id < m.universe; id++) {
        struct slice key = key_of(&m, id, key_buf);
        struct dict_place place;
        uint64_t hash = dict_hash(&d, key);
        REQUIRE(dict_find(&d, hash, key, NULL, &place));
        dict_remove(&d, &e, &place);
        m.version[id] = 0;
        m.count--;
        if (id == 200000) {
            dict_check(&d, &e);
            compare(&d, &m);
            release(&e, &f);
        }
    }
    assert_true(d.root == 0 && d.count == 0);
    epoch_deinit(&e);
    mem_free(m.version);
    assert_int_equal(mem_used(), used_before);
}

/* ---- a reader on another thread ---- */

static void *reader_main(void *arg)
{
    struct frozen *f = arg;
    mem_thread_begin();
    for (int i = 0; i < 3; i++)
        compare(&f->dict, &f->model);
    mem_thread_end();
    return NULL;
}

/* While the dict is being changed, other threads read two snapshots of it, each as it was taken. */
static void test_reader_thread(void **state)
{
    (void)state;
    size_t used_before = mem_used();
    struct epoch e;
    epoch_init(&e, true);
    struct dict d;
    dict_init(&d, DICT_MAP);
    struct model m = model_new(DICT_MAP, (struct sizes){20, 40, 30}, 4000);
    for (int i = 0; i < 6000; i++)
        change(&d, &e, &m, 80);
    for (int round = 0; round < 6; round++) {
        struct frozen f[2];
        pthread_t thread[2];
        for (int k = 0; k < 2; k++) {
            f[k] = freeze(&e, &d, &m);
            assert_int_equal(pthread_create(&thread[k], NULL, reader_main, &f[k]), 0);
            for (int i = 0; i < 4000; i++) {
                change(&d, &e, &m, round & 1 ? 30 : 70);
                if (i % 64 == 0)
                    epoch_reclaim_step(&e, 16);
            }
        }
        if (round == 3) {
            dict_clear(&d, &e);
            memset(m.version, 0, m.universe * sizeof(uint32_t));
            m.count = 0;
        }
        for (int k = 0; k < 2; k++) {
            int i = round & 1 ? 1 - k : k;
            assert_int_equal(pthread_join(thread[i], NULL), 0);
            release(&e, &f[i]);
        }
    }
    dict_clear(&d, &e);
    epoch_deinit(&e);
    mem_free(m.version);
    assert_true(mem_used() <= used_before + THREADS_KEEP);
}

/* ---- single promises ---- */

/* Equal keys of an index are all found, one after another, and each can be removed; more of them
 * than a leaf otherwise holds stay together. */
static void test_equal_keys(void **state)
{
    (void)state;
    struct epoch e;
    epoch_init(&e, false);
    struct dict d;
    dict_init(&d, DICT_INDEX);
    uint64_t hash = 0x123456789abcdef0U, near = hash ^ 1;
    struct slice key = slice_of(&hash, 8), near_key = slice_of(&near, 8);
    for (uint64_t v = 0; v < 1000; v++) {
        dict_add(&d, &e, hash, key, slice_of(&v, 8));
        if (v % 10 == 0)
            dict_add(&d, &e, near, near_key, slice_of(&v, 8));
    }
    dict_check(&d, &e);
    struct dict_place place;
    struct dict_item item;
    for (uint64_t left = 1000; left > 0; left--) {
        uint64_t found = 0, sum = 0;
        struct dict_place last = {0, 0};
        for (bool ok = dict_find(&d, hash, key, &item, &place); ok;
             ok = dict_find_next(&d, key, &item, &place)) {
            uint64_t v;
            memcpy(&v, item.value.data, 8);
            sum += v;
            found++;
            if (found == 1 || random_below(left) == 0)
                last = place;
        }
        assert_int_equal(found, left);
        if (left == 1000)
            assert_int_equal(sum, 1000 * 999 / 2);
        dict_remove(&d, &e, &last);
    }
    dict_check(&d, &e);
    assert_int_equal(d.count, 100);
    assert_false(dict_find(&d, hash, key, NULL, NULL));
    assert_true(dict_find(&d, near, near_key, NULL, NULL));
    dict_clear(&d, &e);
    epoch_deinit(&e);
}

/* Scanning a dict that does not change gives each item exactly once, in steps that are no larger
 * than asked for by more than a leaf; any cursor is taken. */
static uint32_t scan_counts[20000];
static size_t scan_given;
static const struct model *scan_model;

static void scan_one(void *ctx, const struct dict_item *item)
{
    (void)ctx;
    uint32_t id = id_of(scan_model, item);
    REQUIRE(id < scan_model->universe);
    scan_counts[id]++;
    scan_given++;
}

static void test_scan_still(void **state)
{
    (void)state;
    struct epoch e;
    epoch_init(&e, false);
    for (uint32_t n = 0; n < 20000; n = n * 3 + 1) {
        struct dict d;
        dict_init(&d, DICT_SET);
        struct model m = model_new(DICT_SET, (struct sizes){16, 0, 100}, n + 1);
        while (m.count < n)
            change(&d, &e, &m, 100);
        memset(scan_counts, 0, sizeof(scan_counts));
        scan_model = &m;
        uint64_t cursor = 0;
        do {
            scan_given = 0;
            cursor = dict_scan(&d, cursor, 10, scan_one, NULL);
            assert_true(scan_given <= 10 + 250);
            assert_true(cursor == 0 || scan_given >= 10);
        } while (cursor != 0);
        for (uint32_t id = 0; id < m.universe; id++)
            assert_int_equal(scan_counts[id], m.version[id] != 0);
        for (int i = 0; i < 100; i++)
            dict_scan(&d, random_bits() >> random_below(64), random_below(30), scan_one, NULL);
        dict_clear(&d, &e);
        mem_free(m.version);
    }
    epoch_deinit(&e);
}

/* An item that is there all through a scan is given, however the dict grows and shrinks between the
 * calls. */
static void test_scan_changing(void **state)
{
    (void)state;
    struct epoch e;
    epoch_init(&e, false);
    for (int round = 0; round < 12; round++) {
        struct dict d;
        dict_init(&d, DICT_MAP);
        struct model m = model_new(DICT_MAP, (struct sizes){20, 30, 40}, 20000);
        char key_buf[KEY_MAX], value_buf[KEY_MAX];
        /* The items that stay are the first 300. */
        for (uint32_t id = 0; id < 300; id++) {
            struct slice key = key_of(&m, id, key_buf);
            dict_add(&d, &e, dict_hash(&d, key), key, value_of(&m, id, 1, value_buf));
        }
        memset(scan_counts, 0, sizeof(scan_counts));
        scan_model = &m;
        bool growing = true;
        uint64_t cursor = 0;
        unsigned calls = 0;
        do {
            cursor = dict_scan(&d, cursor, 5, scan_one, NULL);
            calls++;
            growing = d.count < 400 ? true : d.count > 9000 ? false : growing;
            for (uint64_t n = random_below(round < 6 ? 3000 : 60); n > 0; n--) {
                uint32_t id = 300 + (uint32_t)random_below(m.universe - 300);
                struct slice key = key_of(&m, id, key_buf);
                struct dict_place place;
                bool there = dict_find(&d, dict_hash(&d, key), key, NULL, &place);
                if (there && !growing)
                    dict_remove(&d, &e, &place);
                else if (!there && growing)
                    dict_add(&d, &e, dict_hash(&d, key), key, value_of(&m, id, 1, value_buf));
            }
            assert_true(calls < 100000);
        } while (cursor != 0);
        for (uint32_t id = 0; id < 300; id++)
            assert_true(scan_counts[id] >= 1);
        dict_check(&d, &e);
        dict_clear(&d, &e);
        mem_free(m.version);
    }
    epoch_deinit(&e);
}

/* Random items come near enough uniformly: each of n, drawn 400 times on the average, within a half
 * of that; of dicts with one leaf and with many. */
static void test_random(void **state)
{
    (void)state;
    struct epoch e;
    epoch_init(&e, false);
    static const uint32_t counts[] = {1, 2, 5, 30, 100, 1000};
    for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
        struct dict d;
        dict_init(&d, DICT_SET);
        struct dict_item item;
        assert_false(dict_random(&d, rnd_for, NULL, &item));
        struct model m = model_new(DICT_SET, (struct sizes){20, 0, 0}, counts[k]);
        while (m.count < counts[k])
            change(&d, &e, &m, 100);
        memset(scan_counts, 0, sizeof(scan_counts));
        for (uint32_t i = 0; i < 400 * counts[k]; i++) {
            assert_true(dict_random(&d, rnd_for, NULL, &item));
            scan_counts[id_of(&m, &item)]++;
        }
        for (uint32_t id = 0; id < counts[k]; id++)
            assert_in_range(scan_counts[id], 200, 600);
        dict_clear(&d, &e);
        mem_free(m.version);
    }
    epoch_deinit(&e);
}

/* dict_bytes is what the allocator gave. */
static void test_bytes(void **state)
{
    (void)state;
    struct epoch e;
    epoch_init(&e, false);
    struct dict d;
    dict_init(&d, DICT_MAP);
    struct model m = model_new(DICT_MAP, (struct sizes){20, 30, 10}, 5000);
    assert_int_equal(dict_bytes(&d), 0);
    size_t before = mem_used();
    while (m.count < 4000)
        change(&d, &e, &m, 95);
    size_t bytes = dict_bytes(&d), used = mem_used() - before;
    /* The C library's classes are other than those that dict_bytes reports. */
    assert_true(bytes > used - used / 8 && bytes < used + used / 8);
    dict_clear(&d, &e);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
    mem_free(m.version);
    epoch_deinit(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model_set),     cmocka_unit_test(test_model_map),
        cmocka_unit_test(test_model_timed),
        cmocka_unit_test(test_model_index),   cmocka_unit_test(test_model_tiny),
        cmocka_unit_test(test_model_large),   cmocka_unit_test(test_reader_thread),
        cmocka_unit_test(test_equal_keys),    cmocka_unit_test(test_scan_still),
        cmocka_unit_test(test_scan_changing), cmocka_unit_test(test_random),
        cmocka_unit_test(test_bytes)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
