/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "structure/btree.h"
#include "unit/random.h"

/* The C library keeps the bookkeeping of threads that have ended for later ones: some hundred bytes
 * for each that ran at once. */
#ifdef HF_JEMALLOC
#define THREADS_KEEP 4096
#else
#define THREADS_KEEP 0
#endif

static int setup(void **state)
{
    (void)state;
    random_begin();
    btree_register();
    mem_move_everything(true);
    /* The C library keeps something of each thread for the next one: not to be taken for a leak. */
    struct epoch a, b;
    epoch_init(&a, true);
    epoch_init(&b, true);
    epoch_deinit(&a);
    epoch_deinit(&b);
    return 0;
}

/* --- the model: an array of slices, whose bytes live until the test ends ---------------------- */

struct model {
    struct slice *items;
    size_t count, capacity;
};

static char *pool;
static size_t pool_used, pool_size;

static struct slice keep(const char *data, size_t size)
{
    if (pool_used + size > pool_size)
        fail_msg("the pool of items is too small");
    char *at = pool + pool_used;
    if (size)
        memcpy(at, data, size);
    pool_used += size;
    return slice_of(at, size);
}

static void model_insert(struct model *m, size_t at, struct slice item)
{
    if (m->count == m->capacity) {
        m->capacity = m->capacity ? m->capacity * 2 : 64;
        m->items = mem_realloc(m->items, m->capacity * sizeof(*m->items));
    }
    memmove(m->items + at + 1, m->items + at, (m->count - at) * sizeof(*m->items));
    m->items[at] = item;
    m->count++;
}

static void model_remove(struct model *m, size_t at, size_t n)
{
    if (n == 0)
        return;
    memmove(m->items + at, m->items + at + n, (m->count - at - n) * sizeof(*m->items));
    m->count -= n;
}

static struct model model_copy(const struct model *m)
{
    struct model copy = {mem_alloc(m->count * sizeof(*m->items) + 1), m->count, m->count};
    if (m->count)
        memcpy(copy.items, m->items, m->count * sizeof(*m->items));
    return copy;
}

static size_t model_lower_bound(const struct model *m, struct slice key)
{
    size_t at = 0, rest = m->count;
    while (rest) {
        size_t half = rest / 2;
        if (slice_compare(m->items[at + half], key) < 0) {
            at += half + 1;
            rest -= half + 1;
        } else {
            rest = half;
        }
    }
    return at;
}

/* The whole tree, forwards and backwards. */
static void assert_reads_as(const struct btree *t, const struct model *m)
{
    struct btree_pos pos;
    assert_int_equal(t->count, m->count);
    btree_seek_rank(t, 0, &pos);
    for (size_t i = 0; i < m->count; i++) {
        assert_int_equal(pos.rank, i);
        assert_false(btree_at_end(&pos));
        assert_true(slice_equal(btree_item(&pos), m->items[i]));
        assert_int_equal(btree_next(&pos), i + 1 < m->count);
    }
    assert_true(btree_at_end(&pos));
    assert_false(btree_next(&pos));
    for (size_t i = m->count; i > 0; i--) {
        assert_true(btree_prev(&pos));
        assert_true(slice_equal(btree_item(&pos), m->items[i - 1]));
    }
    assert_false(btree_prev(&pos));
}

/* Where pos stands, and a few steps to either side. */
static void assert_place(const struct btree_pos *place, const struct model *m, size_t rank)
{
    assert_int_equal(place->rank, rank);
    assert_int_equal(btree_at_end(place), rank == m->count);
    struct btree_pos pos = *place;
    for (size_t i = rank; i < m->count && i < rank + 4; i++) {
        assert_true(slice_equal(btree_item(&pos), m->items[i]));
        assert_int_equal(btree_next(&pos), i + 1 < m->count);
    }
    pos = *place;
    for (size_t i = rank; i > 0 && i + 4 > rank; i--) {
        assert_true(btree_prev(&pos));
        assert_int_equal(pos.rank, i - 1);
        assert_true(slice_equal(btree_item(&pos), m->items[i - 1]));
    }
}

/* --- random items ----------------------------------------------------------------------------- */

enum shape {
    SHAPE_MIXED,  /* from nothing to several KiB */
    SHAPE_SCORED, /* 8 bytes of a score, few different ones, and a member */
    SHAPE_LONG,   /* about as long as stands inline: few to a leaf, so that trees grow high */
    SHAPE_SHORT,
};

static struct slice random_item(enum shape shape)
{
    static char buf[8192];
    size_t size = 0;
    switch (shape) {
    case SHAPE_MIXED: {
        uint64_t kind = random_below(100);
        size = kind < 70 ? random_below(40) : kind < 97 ? random_below(260) : random_below(6000);
        break;
    }
    case SHAPE_SCORED: size = 8 + random_below(24); break;
    case SHAPE_LONG: size = 170 + random_below(40); break;
    case SHAPE_SHORT: size = random_below(7); break;
    }
    /* Letters from a small alphabet make long common beginnings, and equal items. */
    for (size_t i = 0; i < size; i++)
        buf[i] = (char)(random_below(4) ? 'a' : random_below(3) ? 0 : -1);
    if (shape == SHAPE_SCORED)
        btree_put_double(buf, (double)random_below(8) - 4);
    return keep(buf, size);
}

/* --- model tests ------------------------------------------------------------------------------ */

#define SNAPSHOTS 4

struct world {
    struct epoch epoch;
    struct btree tree;
    struct model model;
    bool ordered;
    enum shape shape;
    struct {
        struct epoch_snapshot *snapshot;
        struct btree tree;
        struct model model;
    } frozen[SNAPSHOTS];
};

static void insert_one(struct world *w)
{
    struct slice item = random_item(w->shape);
    struct btree_pos pos;
    size_t at;
    if (w->ordered) {
        at = model_lower_bound(&w->model, item);
        bool equal = at < w->model.count && slice_equal(w->model.items[at], item);
        assert_int_equal(btree_seek(&w->tree, item, &pos), equal);
    } else {
        uint64_t where = random_below(4);
        at = where == 0 ? 0 : where == 1 ? w->model.count : random_below(w->model.count + 1);
        btree_seek_rank(&w->tree, at, &pos);
    }
    assert_place(&pos, &w->model, at);
    /* Several in one place, as RPUSH and LINSERT do it: no search between them. */
    for (uint64_t n = random_below(8) ? 1 : 1 + random_below(30); n > 0; n--) {
        btree_insert(&w->tree, &w->epoch, &pos, item);
        model_insert(&w->model, at, item);
        assert_place(&pos, &w->model, at);
    }
}

static void remove_some(struct world *w)
{
    if (w->model.count == 0)
        return;
    struct btree_pos pos;
    size_t at = random_below(w->model.count);
    btree_seek_rank(&w->tree, at, &pos);
    for (uint64_t n = random_below(8) ? 1 : 1 + random_below(30); n > 0 && at < w->model.count;
         n--) {
        btree_remove(&w->tree, &w->epoch, &pos);
        model_remove(&w->model, at, 1);
        assert_place(&pos, &w->model, at);
    }
}

static void remove_range(struct world *w, size_t most)
{
    size_t at = random_below(w->model.count + 1);
    size_t n = random_below(most + 1);
    btree_remove_range(&w->tree, &w->epoch, at, n);
    if (n > w->model.count - at)
        n = w->model.count - at;
    model_remove(&w->model, at, n);
}

static void replace_one(struct world *w)
{
    if (w->ordered || w->model.count == 0)
        return;
    size_t at = random_below(w->model.count);
    struct slice item = random_item(w->shape);
    struct btree_pos pos;
    btree_seek_rank(&w->tree, at, &pos);
    btree_replace(&w->tree, &w->epoch, &pos, item);
    w->model.items[at] = item;
    assert_place(&pos, &w->model, at);
}

static void seek_one(struct world *w)
{
    struct btree_pos pos;
    size_t rank = random_below(w->model.count + 2);
    btree_seek_rank(&w->tree, rank, &pos);
    if (rank > w->model.count)
        rank = w->model.count;
    assert_place(&pos, &w->model, rank);
    if (!w->ordered)
        return;
    struct slice key = random_item(w->shape);
    size_t at = model_lower_bound(&w->model, key);
    bool equal = at < w->model.count && slice_equal(w->model.items[at], key);
    assert_int_equal(btree_seek(&w->tree, key, &pos), equal);
    assert_place(&pos, &w->model, at);
}

static void toggle_snapshot(struct world *w)
{
    size_t i = random_below(SNAPSHOTS);
    if (!w->frozen[i].snapshot) {
        w->frozen[i].snapshot = epoch_snapshot_begin(&w->epoch);
        w->frozen[i].tree = w->tree;
        w->frozen[i].model = model_copy(&w->model);
        return;
    }
    assert_reads_as(&w->frozen[i].tree, &w->frozen[i].model);
    btree_check(&w->frozen[i].tree, NULL, w->ordered);
    epoch_snapshot_end(&w->epoch, w->frozen[i].snapshot);
    mem_free(w->frozen[i].model.items);
    w->frozen[i].snapshot = NULL;
}

/* Every block of some leaves moves, from anywhere on, or of all. */
static void move_some(struct world *w)
{
    struct mem_mover m = {0, 0};
    uint64_t rank = random_below(2) ? 0 : random_below(w->model.count + 3);
    uint64_t leaves = random_below(8) ? 1 + random_below(10) : UINT64_MAX;
    bool there = rank < w->model.count;
    if (epoch_has_snapshot(&w->epoch))
        return;
    do
        rank = btree_move(&w->tree, &m, rank);
    while (rank != 0 && --leaves > 0);
    assert_int_equal(m.stayed, 0);
    assert_int_equal(m.moved > 0, there);
}

/* Grows towards `size`, wanders about it, and shrinks to nothing, snapshots coming and going. */
static void run_world(bool ordered, enum shape shape, size_t size, size_t steps, bool with_thread)
{
    size_t before = mem_used();
    pool_size = (steps + 1000) * (shape == SHAPE_MIXED ? 600 : 256);
    pool = mem_alloc(pool_size);
    pool_used = 0;
    struct world w = {.ordered = ordered, .shape = shape};
    epoch_init(&w.epoch, with_thread);
    if (ordered)
        btree_init(&w.tree);
    else
        btree_init_unordered(&w.tree);
    for (size_t i = 0; i < steps; i++) {
        size_t goal = i < steps / 2 ? size : i < steps * 3 / 4 ? size / 4 : 0;
        uint64_t dice = random_below(100);
        if (dice < 3)
            toggle_snapshot(&w);
        else if (dice < 12)
            seek_one(&w);
        else if (dice < 16)
            replace_one(&w);
        else if (dice < 18)
            remove_range(&w, random_below(20) ? 60 : w.model.count / 2);
        else if (dice < (w.model.count < goal ? 80 : 45))
            insert_one(&w);
        else
            remove_some(&w);
        if (random_below(10) == 0)
            epoch_reclaim_step(&w.epoch, random_below(50));
        if (random_below(10) == 0)
            move_some(&w);
        if (i % 64 == 0)
            btree_check(&w.tree, &w.epoch, ordered);
    }
    assert_reads_as(&w.tree, &w.model);
    btree_clear(&w.tree, &w.epoch);
    assert_int_equal(w.tree.count, 0);
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        if (!w.frozen[i].snapshot)
            continue;
        assert_reads_as(&w.frozen[i].tree, &w.frozen[i].model);
        epoch_snapshot_end(&w.epoch, w.frozen[i].snapshot);
        mem_free(w.frozen[i].model.items);
    }
    epoch_deinit(&w.epoch);
    mem_free(w.model.items);
    mem_free(pool);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* Items of all sizes in memcmp order, with snapshots. */
static void test_model_ordered(void **state)
{
    (void)state;
    run_world(true, SHAPE_MIXED, 1500, 12000, false);
}

/* As a sorted set has them: words are equal most of the time. */
static void test_model_scored(void **state)
{
    (void)state;
    run_world(true, SHAPE_SCORED, 4000, 15000, true);
}

/* A high tree: nodes split and merge, not leaves alone. */
static void test_model_high(void **state)
{
    (void)state;
    run_world(true, SHAPE_LONG, 6000, 16000, false);
    run_world(false, SHAPE_LONG, 6000, 16000, true);
}

/* By position alone, as lists do it. */
static void test_model_positions(void **state)
{
    (void)state;
    run_world(false, SHAPE_MIXED, 1500, 12000, true);
    run_world(false, SHAPE_SHORT, 4000, 12000, false);
}

/* Scores compare as bytes as they do as numbers, and come back as they were. */
static void test_doubles(void **state)
{
    (void)state;
    static const double rising[] = {-INFINITY, -1.7e308, -3.5, -1, -1e-300, -4.9e-324, 0,
                                    4.9e-324,  1e-300,   1,    3.5, 1.7e308, INFINITY};
    char last[8], bytes[8];
    for (size_t i = 0; i < sizeof(rising) / sizeof(rising[0]); i++) {
        btree_put_double(bytes, rising[i]);
        assert_true(btree_get_double(bytes) == rising[i]);
        if (i)
            assert_true(memcmp(last, bytes, 8) < 0);
        memcpy(last, bytes, 8);
    }
    btree_put_double(last, 0.0);
    btree_put_double(bytes, -0.0);
    assert_memory_equal(last, bytes, 8);
    assert_false(signbit(btree_get_double(bytes)));
}

/* Appending and prepending leave full leaves; a queue does not grow. */
static void test_sequences(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct epoch e;
    struct btree t;
    epoch_init(&e, false);
    btree_init(&t);
    const size_t n = 100000;
    for (size_t i = 0; i < n; i++)
        btree_append(&t, &e, SLICE("abc"));
    btree_check(&t, &e, false);
    assert_in_range(btree_bytes(&t) * 100 / n, 500, 700); /* hundredths of a byte for an item */
    btree_clear(&t, &e);
    for (size_t i = 0; i < n; i++)
        btree_prepend(&t, &e, SLICE("abc"));
    btree_check(&t, &e, false);
    assert_in_range(btree_bytes(&t) * 100 / n, 500, 700);
    for (size_t i = 0; i < n; i++) {
        struct btree_pos pos;
        btree_seek_rank(&t, 0, &pos);
        btree_remove(&t, &e, &pos);
        if (i % 3 == 0)
            btree_append(&t, &e, SLICE("xyz"));
    }
    btree_check(&t, &e, false);
    assert_in_range(btree_bytes(&t) * 100 / t.count, 500, 750);
    btree_clear(&t, &e);
    epoch_deinit(&e);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

static void put_random_scores(struct btree *t, struct epoch *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char item[28];
        for (size_t k = 0; k < sizeof(item); k++)
            item[k] = (char)random_bits();
        btree_put_double(item, (double)random_bits());
        struct btree_pos pos;
        btree_seek(t, slice_of(item, sizeof(item)), &pos);
        btree_insert(t, e, &pos, slice_of(item, sizeof(item)));
    }
}

/* A sorted set's items, inserted at random, cost little more than themselves. */
static void test_random_density(void **state)
{
    (void)state;
    struct epoch e;
    struct btree t;
    epoch_init(&e, false);
    btree_init(&t);
    put_random_scores(&t, &e, 100000);
    btree_check(&t, &e, true);
    /* Tenths of a byte. */
    assert_in_range(btree_bytes(&t) * 10 / t.count, 300, 390);
    btree_clear(&t, &e);
    epoch_deinit(&e);
}

/* A large range is cut out in few steps: what a snapshot must keep are some nodes and whole
 * subtrees, whatever the size of the range. */
static void test_range_is_cut_whole(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct epoch e;
    struct btree t;
    epoch_init(&e, false);
    btree_init(&t);
    put_random_scores(&t, &e, 100000);
    struct btree frozen = t;
    struct epoch_snapshot *s = epoch_snapshot_begin(&e);
    btree_remove_range(&t, &e, 5000, 90000);
    assert_int_equal(t.count, 10000);
    btree_check(&t, &e, true);
    assert_true(epoch_snapshot_held_count(s) < 4 * 64);
    btree_check(&frozen, NULL, true);
    struct btree_pos a, b;
    for (uint64_t rank = 0; rank < 10000; rank += 7) {
        btree_seek_rank(&t, rank, &a);
        btree_seek_rank(&frozen, rank < 5000 ? rank : rank + 90000, &b);
        assert_true(slice_equal(btree_item(&a), btree_item(&b)));
    }
    epoch_snapshot_end(&e, s);
    btree_clear(&t, &e);
    epoch_deinit(&e);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

#define KIND_HOLDER ((enum epoch_kind)9)

/* Stands for an entry, which is freed with the tree that it holds the root of. */
static void free_holder(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    btree_free_below(ctx, ptr, seen);
    mem_free(ptr);
}

/* A tree that goes with its entry leaves what a snapshot sees of it. */
static void test_free_with_the_entry(void **state)
{
    (void)state;
    static const char large[1000] = "large";
    size_t before = mem_used();
    struct epoch e;
    struct btree t;
    epoch_register(KIND_HOLDER, free_holder);
    epoch_init(&e, false);
    btree_init(&t);
    for (int i = 0; i < 2000; i++)
        btree_append(&t, &e, i % 10 ? SLICE("small") : slice_of(large, sizeof(large)));
    struct btree frozen = t;
    struct epoch_snapshot *s = epoch_snapshot_begin(&e);
    struct btree *holder = mem_alloc(sizeof(*holder));
    btree_prepend(&t, &e, SLICE("first"));
    btree_append(&t, &e, slice_of(large, sizeof(large)));
    *holder = t;
    epoch_retire_deep(&e, KIND_HOLDER, holder, e.now, 1);
    struct btree_pos pos;
    btree_seek_rank(&frozen, 0, &pos);
    for (int i = 0; i < 2000; i++, btree_next(&pos))
        assert_int_equal(btree_item(&pos).size, i % 10 ? 5 : sizeof(large));
    epoch_snapshot_end(&e, s);
    epoch_deinit(&e);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* The sizes that are reported: of blocks, with those of large items, and the number of leaves. */
static void test_sizes(void **state)
{
    (void)state;
    static const char large[1000] = "large";
    struct epoch e;
    struct btree t;
    epoch_init(&e, false);
    btree_init(&t);
    assert_int_equal(btree_leaf_count(&t), 0);
    assert_int_equal(btree_bytes(&t), 0);
    btree_append(&t, &e, slice_of(large, sizeof(large)));
    assert_int_equal(btree_leaf_count(&t), 1);
    assert_int_equal(btree_bytes(&t), 128 + mem_good_size(1016));
    /* 100 to a leaf: 1024 - 16 bytes of room, 2 + 8 for each. */
    btree_clear(&t, &e);
    for (int i = 0; i < 100 * 1000; i++)
        btree_append(&t, &e, SLICE("8 bytes."));
    assert_int_equal(btree_leaf_count(&t), 1000);
    btree_clear(&t, &e);
    epoch_deinit(&e);
}

/* --- a thread reads while the tree changes ---------------------------------------------------- */

struct reading {
    struct btree tree;
    uint64_t sum; /* of all bytes, as they should be */
    bool stop;
    bool good;
    size_t rounds;
};

static uint64_t sum_of(const struct btree *t)
{
    struct btree_pos pos;
    uint64_t sum = 0;
    btree_seek_rank(t, 0, &pos);
    for (; !btree_at_end(&pos); btree_next(&pos)) {
        struct slice item = btree_item(&pos);
        for (size_t i = 0; i < item.size; i++)
            sum = sum * 31 + (unsigned char)item.data[i];
    }
    return sum;
}

static void *read_on(void *arg)
{
    struct reading *r = arg;
    do {
        r->good = r->good && sum_of(&r->tree) == r->sum;
        r->rounds++;
    } while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE));
    return NULL;
}

/* A snapshot thread walks a frozen tree without locks while the owner changes everything. */
static void test_reader_thread(void **state)
{
    (void)state;
    size_t before = mem_used();
    pool_size = 16 << 20;
    pool = mem_alloc(pool_size);
    pool_used = 0;
    struct world w = {.ordered = false, .shape = SHAPE_MIXED};
    epoch_init(&w.epoch, true);
    btree_init(&w.tree);
    for (int i = 0; i < 1500; i++)
        insert_one(&w);
    for (int round = 0; round < 4; round++) {
        struct reading r = {.tree = w.tree, .sum = sum_of(&w.tree), .good = true};
        struct epoch_snapshot *s = epoch_snapshot_begin(&w.epoch);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
        for (int i = 0; i < 600; i++) {
            insert_one(&w);
            remove_some(&w);
            replace_one(&w);
            if (i % 100 == 0)
                remove_range(&w, 200);
            epoch_reclaim_step(&w.epoch, 10);
        }
        __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
        pthread_join(thread, NULL);
        assert_true(r.good && r.rounds > 0);
        epoch_snapshot_end(&w.epoch, s);
    }
    assert_reads_as(&w.tree, &w.model);
    btree_clear(&w.tree, &w.epoch);
    epoch_deinit(&w.epoch);
    mem_free(w.model.items);
    mem_free(pool);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubles),         cmocka_unit_test(test_model_ordered),
        cmocka_unit_test(test_model_scored),    cmocka_unit_test(test_model_high),
        cmocka_unit_test(test_model_positions), cmocka_unit_test(test_sequences),
        cmocka_unit_test(test_random_density),  cmocka_unit_test(test_range_is_cut_whole),
        cmocka_unit_test(test_free_with_the_entry), cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_reader_thread),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
