/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "structure/rope.h"
#include "unit/random.h"

/* The C library keeps the bookkeeping of threads that have ended for later ones: some hundred bytes
 * for each that ran at once. */
#ifdef HF_JEMALLOC
#define THREADS_KEEP 4096
#else
#define THREADS_KEEP 0
#endif

#define NOISE_SIZE (1 << 17)
static char noise[NOISE_SIZE];

static int setup(void **state)
{
    (void)state;
    random_begin();
    for (size_t i = 0; i < NOISE_SIZE; i++)
        noise[i] = (char)random_bits();
    rope_register();
    mem_move_everything(true);
    /* The C library keeps something of each thread for the next one: not to be taken for a leak. */
    struct epoch a, b;
    epoch_init(&a, true);
    epoch_init(&b, true);
    epoch_deinit(&a);
    epoch_deinit(&b);
    return 0;
}

/* Random bytes, at most most / 2 and NOISE_SIZE / 2 of them. */
static struct slice random_bytes(size_t most)
{
    size_t size = random_below(most < NOISE_SIZE ? most / 2 : NOISE_SIZE / 2);
    return slice_of(noise + random_below(NOISE_SIZE / 2), size);
}

/* --- the model: the bytes in one block; those behind the size are zeros ----------------------- */

#define SNAPSHOTS 4

struct world {
    struct epoch epoch;
    struct rope rope;
    char *bytes;
    size_t size, limit;
    struct {
        struct epoch_snapshot *snapshot;
        struct rope rope;
        char *bytes;
        size_t size;
    } frozen[SNAPSHOTS];
};

static void assert_reads_as(const struct rope *r, const char *bytes, size_t size)
{
    assert_int_equal(r->size, size);
    for (size_t at = 0; at < size;) {
        struct slice run = rope_run(r, at, UINT64_MAX);
        assert_in_range(run.size, 1, size - at);
        assert_memory_equal(run.data, bytes + at, run.size);
        at += run.size;
    }
    assert_int_equal(rope_run(r, size, 1).size, 0);
}

static void write_some(struct world *w)
{
    uint64_t kind = random_below(4);
    size_t at = kind == 0   ? w->size
                : kind == 1 ? random_below(w->limit)
                            : random_below(w->size + 1);
    struct slice bytes = random_below(2) ? random_bytes(100) : random_bytes(w->limit);
    if (at + bytes.size > w->limit)
        return;
    rope_write(&w->rope, &w->epoch, at, bytes);
    if (bytes.size == 0)
        return;
    memcpy(w->bytes + at, bytes.data, bytes.size);
    if (w->size < at + bytes.size)
        w->size = at + bytes.size;
}

static void read_some(struct world *w)
{
    size_t at = random_below(w->size + 1), size = random_below(w->size - at + 1);
    char *copy = mem_alloc(size + 1);
    rope_read(&w->rope, at, copy, size);
    if (size)
        assert_memory_equal(copy, w->bytes + at, size);
    mem_free(copy);
}

static void toggle_snapshot(struct world *w)
{
    size_t i = random_below(SNAPSHOTS);
    if (!w->frozen[i].snapshot) {
        w->frozen[i].snapshot = epoch_snapshot_begin(&w->epoch);
        w->frozen[i].rope = w->rope;
        w->frozen[i].size = w->size;
        w->frozen[i].bytes = mem_dup(w->bytes, w->size);
        return;
    }
    assert_reads_as(&w->frozen[i].rope, w->frozen[i].bytes, w->frozen[i].size);
    rope_check(&w->frozen[i].rope, NULL);
    epoch_snapshot_end(&w->epoch, w->frozen[i].snapshot);
    mem_free(w->frozen[i].bytes);
    w->frozen[i].snapshot = NULL;
}

/* Every block of some chunks moves, from anywhere on, or of all. */
static void move_some(struct world *w)
{
    struct mem_mover m = {0, 0};
    uint64_t at = random_below(2) ? 0 : random_below(w->size / ROPE_CHUNK + 3);
    uint64_t chunks = random_below(4) ? 1 + random_below(10) : UINT64_MAX;
    if (epoch_has_snapshot(&w->epoch))
        return;
    do
        at = rope_move(&w->rope, &m, at);
    while (at != 0 && --chunks > 0);
    assert_int_equal(m.stayed, 0);
}

static void clear(struct world *w)
{
    rope_clear(&w->rope, &w->epoch);
    memset(w->bytes, 0, w->size);
    w->size = 0;
}

static void change(struct world *w)
{
    if (random_below(20))
        write_some(w);
    else
        clear(w);
}

static void run_world(size_t limit, size_t steps, bool with_thread)
{
    size_t before = mem_used();
    struct world w = {.limit = limit};
    epoch_init(&w.epoch, with_thread);
    rope_init(&w.rope);
    w.bytes = mem_zalloc(limit);
    for (size_t i = 0; i < steps; i++) {
        uint64_t dice = random_below(100);
        if (dice < 5)
            toggle_snapshot(&w);
        else if (dice < 10)
            read_some(&w);
        else
            change(&w);
        if (random_below(10) == 0)
            epoch_reclaim_step(&w.epoch, random_below(50));
        if (random_below(4) == 0)
            move_some(&w);
        if (i % 16 == 0)
            rope_check(&w.rope, &w.epoch);
        if (i % 256 == 0)
            assert_reads_as(&w.rope, w.bytes, w.size);
    }
    assert_reads_as(&w.rope, w.bytes, w.size);
    rope_clear(&w.rope, &w.epoch);
    assert_int_equal(w.rope.size, 0);
    for (size_t i = 0; i < SNAPSHOTS; i++) {
        if (!w.frozen[i].snapshot)
            continue;
        assert_reads_as(&w.frozen[i].rope, w.frozen[i].bytes, w.frozen[i].size);
        epoch_snapshot_end(&w.epoch, w.frozen[i].snapshot);
        mem_free(w.frozen[i].bytes);
    }
    epoch_deinit(&w.epoch);
    mem_free(w.bytes);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* Random writes, clearing and snapshots, in ropes of one chunk, of one page, of several
 * pages. */
static void test_model(void **state)
{
    (void)state;
    run_world(9000, 6000, false);
    run_world(150000, 4000, true);
    run_world(6000000, 800, false);
}

/* A bit far behind the end costs a chunk and a few pages; the hole reads as zeros, and goes. */
static void test_holes(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct epoch e;
    struct rope r;
    epoch_init(&e, false);
    rope_init(&r);
    rope_write(&r, &e, 0, SLICE("begin"));
    const uint64_t far = 1ULL << 39;
    rope_write(&r, &e, far, SLICE("far"));
    rope_check(&r, &e);
    assert_int_equal(r.size, far + 3);
    assert_true(rope_bytes(&r) < 40000);
    char bytes[5];
    rope_read(&r, 3, bytes, 5);
    assert_memory_equal(bytes, "in\0\0\0", 5);
    rope_read(&r, far - 2, bytes, 5);
    assert_memory_equal(bytes, "\0\0far", 5);
    struct slice run = rope_run(&r, far / 2, UINT64_MAX);
    assert_in_range(run.size, 1, ROPE_CHUNK);
    for (size_t i = 0; i < run.size; i++)
        assert_int_equal(run.data[i], 0);
    rope_clear(&r, &e);
    /* A hole from the first byte on. */
    rope_write(&r, &e, far, SLICE("far"));
    rope_read(&r, 0, bytes, 5);
    assert_memory_equal(bytes, "\0\0\0\0\0", 5);
    rope_clear(&r, &e);
    epoch_deinit(&e);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* A small value costs its size class, not a chunk; a large one little more than its bytes. */
static void test_sizes(void **state)
{
    (void)state;
    struct epoch e;
    struct rope r;
    epoch_init(&e, false);
    rope_init(&r);
    rope_write(&r, &e, 0, slice_of(noise, 1000));
    assert_int_equal(rope_bytes(&r), mem_good_size(1016));
    rope_write(&r, &e, 1000, slice_of(noise, 100));
    assert_int_equal(rope_bytes(&r), mem_good_size(1116));
    for (int i = 0; i < 100; i++)
        rope_write(&r, &e, r.size, slice_of(noise, 65536));
    assert_true(rope_bytes(&r) < r.size * 101 / 100);
    rope_clear(&r, &e);
    epoch_deinit(&e);
}

/* With a snapshot a write copies one chunk and the pages above, whatever the size. */
static void test_write_copies_one_chunk(void **state)
{
    (void)state;
    struct epoch e;
    struct rope r;
    epoch_init(&e, false);
    rope_init(&r);
    for (int i = 0; i < 200; i++)
        rope_write(&r, &e, r.size, slice_of(noise, 65536));
    assert_int_equal(r.height, 2);
    struct rope frozen = r;
    struct epoch_snapshot *s = epoch_snapshot_begin(&e);
    size_t before = mem_used();
    rope_write(&r, &e, 7000000, SLICE("!"));
    assert_int_equal(epoch_snapshot_held_count(s), 3);
    assert_true(mem_used() - before < 8192 + 2 * 4096 + 5000);
    rope_write(&r, &e, 7000001, SLICE("!"));
    assert_int_equal(epoch_snapshot_held_count(s), 3);
    char now, then;
    rope_read(&r, 7000000, &now, 1);
    rope_read(&frozen, 7000000, &then, 1);
    assert_int_equal(now, '!');
    assert_int_equal(then, noise[7000000 % 65536]);
    epoch_snapshot_end(&e, s);
    rope_clear(&r, &e);
    epoch_deinit(&e);
}

#define KIND_HOLDER ((enum epoch_kind)9)

/* Stands for an entry, which is freed with the rope that it holds the root of. */
static void free_holder(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    rope_free_below(ctx, ptr, seen);
    mem_free(ptr);
}

/* A rope that goes with its entry leaves what a snapshot sees of it. */
static void test_free_with_the_entry(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct epoch e;
    struct rope r;
    epoch_register(KIND_HOLDER, free_holder);
    epoch_init(&e, false);
    rope_init(&r);
    rope_write(&r, &e, 0, slice_of(noise, NOISE_SIZE));
    struct rope frozen = r;
    struct epoch_snapshot *s = epoch_snapshot_begin(&e);
    struct rope *holder = mem_alloc(sizeof(*holder));
    rope_write(&r, &e, 20000, SLICE("changed"));
    rope_write(&r, &e, r.size, SLICE("appended"));
    *holder = r;
    epoch_retire_deep(&e, KIND_HOLDER, holder, e.now, 1);
    assert_reads_as(&frozen, noise, NOISE_SIZE);
    epoch_snapshot_end(&e, s);
    epoch_deinit(&e);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* A rope made from blocks holds their bytes, takes no more memory than one that was written, and
 * can be changed, under a snapshot too. */
static void test_adopted_blocks(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, ROPE_CHUNK - 1, ROPE_CHUNK, ROPE_CHUNK + 1, 5 * ROPE_CHUNK,
                                   600 * ROPE_CHUNK + 77};
    size_t before = mem_used();
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        size_t size = sizes[k], count = (size - 1) / ROPE_CHUNK + 1;
        char *bytes = mem_alloc(size);
        for (size_t i = 0; i < size; i++)
            bytes[i] = (char)(i * 7 + i / 999);
        char **blocks = mem_alloc(count * sizeof(*blocks));
        for (size_t i = 0; i < count; i++) {
            size_t at = i * ROPE_CHUNK, n = size - at < ROPE_CHUNK ? size - at : ROPE_CHUNK;
            blocks[i] = mem_alloc(ROPE_HEAD + ROPE_CHUNK);
            memcpy(blocks[i] + ROPE_HEAD, bytes + at, n);
        }
        struct epoch e;
        struct rope r, written;
        epoch_init(&e, false);
        rope_init(&r);
        rope_init(&written);
        rope_adopt(&r, &e, blocks, size);
        rope_write(&written, &e, 0, slice_of(bytes, size));
        for (size_t i = 0; i < count; i++)
            assert_null(blocks[i]);
        rope_check(&r, &e);
        assert_reads_as(&r, bytes, size);
        assert_in_range(rope_bytes(&r), 1, rope_bytes(&written));
        struct rope frozen = r;
        struct epoch_snapshot *s = epoch_snapshot_begin(&e);
        rope_write(&r, &e, size / 2, SLICE("changed and longer"));
        assert_reads_as(&frozen, bytes, size);
        rope_check(&r, &e);
        epoch_snapshot_end(&e, s);
        rope_clear(&r, &e);
        rope_clear(&written, &e);
        epoch_deinit(&e);
        mem_free(blocks);
        mem_free(bytes);
    }
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* --- a thread reads while the rope changes ---------------------------------------------------- */

struct reading {
    struct rope rope;
    const char *bytes;
    bool stop, good;
    size_t rounds;
};

static void *read_on(void *arg)
{
    struct reading *r = arg;
    do {
        for (uint64_t at = 0; at < r->rope.size;) {
            struct slice run = rope_run(&r->rope, at, UINT64_MAX);
            r->good = r->good && memcmp(run.data, r->bytes + at, run.size) == 0;
            at += run.size;
        }
        r->rounds++;
    } while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE));
    return NULL;
}

/* A snapshot thread reads a frozen rope without locks while the owner changes it. */
static void test_reader_thread(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct world w = {.limit = 300000};
    epoch_init(&w.epoch, true);
    rope_init(&w.rope);
    w.bytes = mem_zalloc(w.limit);
    for (int i = 0; i < 50; i++)
        write_some(&w);
    for (int round = 0; round < 4; round++) {
        struct reading r = {.rope = w.rope, .bytes = mem_dup(w.bytes, w.size), .good = true};
        struct epoch_snapshot *s = epoch_snapshot_begin(&w.epoch);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, read_on, &r), 0);
        for (int i = 0; i < 300; i++) {
            change(&w);
            epoch_reclaim_step(&w.epoch, 10);
        }
        __atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
        pthread_join(thread, NULL);
        assert_true(r.good && r.rounds > 0);
        epoch_snapshot_end(&w.epoch, s);
        mem_free((void *)(uintptr_t)r.bytes);
    }
    assert_reads_as(&w.rope, w.bytes, w.size);
    rope_clear(&w.rope, &w.epoch);
    epoch_deinit(&w.epoch);
    mem_free(w.bytes);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_holes),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_write_copies_one_chunk),
        cmocka_unit_test(test_free_with_the_entry),
        cmocka_unit_test(test_adopted_blocks),
        cmocka_unit_test(test_reader_thread),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
