/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Epochs, with a binary tree that is copied by node: what is kept and what is freed, exactly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "structure/epoch.h"

static uint64_t seed, random_state;

static uint64_t random_next(void)
{
    uint64_t r = random_state += 0x9e3779b97f4a7c15ULL;
    r = (r ^ r >> 30) * 0xbf58476d1ce4e5b9ULL;
    r = (r ^ r >> 27) * 0x94d049bb133111ebULL;
    return r ^ r >> 31;
}

static uint32_t random_below(uint32_t bound)
{
    return (uint32_t)((random_next() >> 32) * bound >> 32);
}

/* --- the tree ----------------------------------------------------------------------------------
 */

struct node {
    uint64_t birth;
    uint64_t value;
    struct node *child[2];
    uint32_t mark; /* for counting what is reachable */
};

#define KIND_TREE ((enum epoch_kind)11)
#define KIND_ALONE ((enum epoch_kind)12)
#define DEPTH 7
#define SNAPSHOTS 6

static struct epoch epoch;
static struct node *root;
static size_t live; /* nodes allocated; the reclaimer counts, too */
static struct {
    struct epoch_snapshot *snapshot;
    struct node *root;
    uint64_t sum;
} snapshots[SNAPSHOTS];

static struct node *node_new(void)
{
    struct node *n = mem_zalloc(sizeof(*n));
    n->birth = epoch.now;
    n->value = random_next();
    __atomic_fetch_add(&live, 1, __ATOMIC_RELAXED);
    return n;
}

static void tree_free(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    struct node *n = ptr;
    if (n->birth <= seen) {
        epoch_keep(ctx, KIND_TREE, n, n->birth);
        return;
    }
    for (int i = 0; i < 2; i++) {
        if (n->child[i])
            tree_free(ctx, n->child[i], seen);
    }
    __atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
    mem_free_sized(n, sizeof(*n));
}

/* A node that was replaced by its copy: its children live on. As a kind of its own, so that `live`
 * is told (EPOCH_BLOCK goes the same way, but for the call). */
static void alone_free(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    (void)ctx;
    if (((struct node *)ptr)->birth <= seen)
        abort();
    __atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
    mem_free_sized(ptr, sizeof(struct node));
}

static uint64_t tree_sum(const struct node *n)
{
    if (!n)
        return 1;
    return (n->value ^ tree_sum(n->child[0]) * 3) * 0x9e3779b97f4a7c15ULL + tree_sum(n->child[1]);
}

static size_t tree_mark(struct node *n, uint32_t mark)
{
    if (!n || n->mark == mark)
        return 0;
    n->mark = mark;
    return 1 + tree_mark(n->child[0], mark) + tree_mark(n->child[1], mark);
}

static size_t reachable(void)
{
    static uint32_t mark;
    size_t count = tree_mark(root, ++mark);
    for (int i = 0; i < SNAPSHOTS; i++)
        count += tree_mark(snapshots[i].root, mark);
    return count;
}

/* Go down a random path, owning it, and grow, change or cut there. */
static void change(bool cut)
{
    struct node **link = &root;
    for (int depth = 0; depth < DEPTH; depth++) {
        struct node *n = *link;
        if (!n) {
            *link = node_new();
            return;
        }
        if (cut && random_below(DEPTH) == 0) {
            *link = NULL;
            epoch_retire_deep(&epoch, KIND_TREE, n, n->birth, random_below(2) ? 1 : 1000);
            return;
        }
        if (!epoch_owned(&epoch, n->birth)) {
            struct node *copy = node_new();
            memcpy(copy->child, n->child, sizeof(copy->child));
            *link = copy;
            epoch_retire_deep(&epoch, KIND_ALONE, n, n->birth, random_below(2) ? 1 : 100);
            n = copy;
        }
        n->value = random_next();
        link = &n->child[random_below(2)];
    }
}

static void take(int i)
{
    snapshots[i].snapshot = epoch_snapshot_begin(&epoch);
    snapshots[i].root = root;
    snapshots[i].sum = tree_sum(root);
}

static void release(int i)
{
    assert_int_equal(tree_sum(snapshots[i].root), snapshots[i].sum);
    epoch_snapshot_end(&epoch, snapshots[i].snapshot);
    snapshots[i].snapshot = NULL;
    snapshots[i].root = NULL;
}

/* What exists is exactly what can be reached from the current root and the snapshots', and what is
 * held for snapshots is accounted for. */
static void check_exact(void)
{
    epoch_reclaim_all(&epoch);
    assert_int_equal(__atomic_load_n(&live, __ATOMIC_RELAXED), reachable());
    size_t held = 0;
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (snapshots[i].snapshot)
            held += epoch_snapshot_held_count(snapshots[i].snapshot);
    }
    assert_int_equal(held, epoch_pending_count(&epoch));
}

static void run(bool with_thread, uint32_t operations)
{
    size_t before = mem_used();
    epoch_init(&epoch, with_thread);
    root = NULL;
    uint32_t cuts = 10;
    for (uint32_t n = 0; n < operations; n++) {
        int i = (int)random_below(SNAPSHOTS);
        uint32_t what = random_below(100);
        if (n % 1000 == 0)
            cuts = random_below(15);
        if (what < 4) {
            if (!snapshots[i].snapshot)
                take(i);
        } else if (what < 8) {
            if (snapshots[i].snapshot)
                release(i);
        } else if (what < 20) {
            epoch_reclaim_step(&epoch, random_below(30));
        } else {
            change(what < 20 + cuts);
        }
        if (n % 300 == 0)
            check_exact();
    }
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (snapshots[i].snapshot)
            release(i);
    }
    check_exact();
    assert_int_equal(epoch_pending_count(&epoch), 0);
    if (root)
        epoch_retire_deep(&epoch, KIND_TREE, root, root->birth, 1000);
    root = NULL;
    epoch_deinit(&epoch);
    assert_int_equal(live, 0);
#ifdef HF_JEMALLOC
    if (with_thread)
        return; /* it counts what the C library keeps for threads, too */
#endif
    assert_int_equal(mem_used(), before);
}

/* Random changes, cuts and snapshots, freed by the executor itself. */
static void test_exact(void **state)
{
    (void)state;
    run(false, 100000);
}

/* The same with the reclaimer's work in flight while snapshots are taken and released. */
static void test_exact_with_thread(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        run(true, 5000);
}

/* Without a snapshot a retired node is freed at once; with one it waits until the last snapshot
 * that sees it is released, in whatever order that is. */
static void test_single_nodes(void **state)
{
    (void)state;
    epoch_init(&epoch, false);
    epoch_retire(&epoch, mem_alloc(100), 100, epoch.now);
    epoch_retire_shared(&epoch, mem_alloc(100), 100, true);
    assert_int_equal(epoch_pending_count(&epoch), 0);

    uint64_t birth = epoch.now;
    void *old = mem_alloc(100), *shared = mem_alloc(5), *large = mem_alloc(40 << 20);
    struct epoch_snapshot *a = epoch_snapshot_begin(&epoch);
    struct epoch_snapshot *b = epoch_snapshot_begin(&epoch);
    assert_false(epoch_owned(&epoch, birth));
    assert_true(epoch_owned(&epoch, epoch.now));
    epoch_retire(&epoch, mem_alloc(8), 8, epoch.now);
    epoch_retire_shared(&epoch, mem_alloc(8), 8, false);
    assert_int_equal(epoch_pending_count(&epoch), 0);
    epoch_retire(&epoch, old, 100, birth);
    epoch_retire_shared(&epoch, shared, 5, true);
    epoch_retire(&epoch, large, 40 << 20, birth);
    /* Born between the two snapshots. */
    epoch_retire(&epoch, mem_alloc(64), 64, birth + 1);
    assert_int_equal(epoch_snapshot_held_count(b), 4);
    assert_true(epoch_snapshot_held_bytes(b) >= (40 << 20) + 169);
    assert_int_equal(epoch_snapshot_held_count(a), 0);

    struct epoch_snapshot *c = epoch_snapshot_begin(&epoch);
    epoch_snapshot_end(&epoch, b);
    assert_true(epoch_reclaim_step(&epoch, 1));
    while (epoch_reclaim_step(&epoch, 1))
        ;
    assert_int_equal(epoch_snapshot_held_count(a), 3);
    assert_int_equal(epoch_snapshot_held_count(c), 0);
    assert_int_equal(epoch_pending_count(&epoch), 3);
    epoch_snapshot_end(&epoch, a);
    epoch_reclaim_all(&epoch);
    assert_int_equal(epoch_pending_count(&epoch), 0);
    assert_true(epoch_has_snapshot(&epoch));
    epoch_snapshot_end(&epoch, c);
    assert_false(epoch_has_snapshot(&epoch));
    epoch_deinit(&epoch);
}

static int print_seed(void **state)
{
    (void)state;
    random_state = seed;
    printf("  HF_SEED=%lu\n", seed);
    return 0;
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    epoch_register(KIND_TREE, tree_free);
    epoch_register(KIND_ALONE, alone_free);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_single_nodes, print_seed),
        cmocka_unit_test_setup(test_exact, print_seed),
        cmocka_unit_test_setup(test_exact_with_thread, print_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
