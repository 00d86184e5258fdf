/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "type/list.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* ---- the model: an array of element numbers, from which their bytes follow ---- */

#define MODEL_MAX 4000
#define ITEM_MAX 6000

struct model {
    uint32_t items[MODEL_MAX];
    size_t count;
};

/* Numbers, words, the empty string, and a few that are long or very long. */
static struct slice item_bytes(uint32_t id, char buf[ITEM_MAX])
{
    int n;
    switch (id % 8) {
    case 0:
        n = snprintf(buf, ITEM_MAX, "%" PRIu32, id);
        break;
    case 1:
        n = snprintf(buf, ITEM_MAX, "-%" PRIu32 "000000000", id);
        break;
    case 2:
        n = id < 10 ? 0 : snprintf(buf, ITEM_MAX, "0%" PRIu32, id);
        break;
    default:
        n = snprintf(buf, ITEM_MAX, "item:%" PRIu32, id);
        break;
    }
    size_t size = (size_t)n;
    size_t wanted = id % 61 == 60 ? 150 + id % 200 : id % 499 == 498 ? 5000 : size;
    if (size < wanted) {
        memset(buf + size, 'x', wanted - size);
        size = wanted;
    }
    return slice_of(buf, size);
}

static uint32_t random_item(uint32_t universe)
{
    return (uint32_t)random_below(universe);
}

static void model_insert(struct model *m, size_t at, uint32_t id)
{
    memmove(m->items + at + 1, m->items + at, (m->count - at) * sizeof(m->items[0]));
    m->items[at] = id;
    m->count++;
}

static void model_remove(struct model *m, size_t at, size_t count)
{
    memmove(m->items + at, m->items + at + count, (m->count - at - count) * sizeof(m->items[0]));
    m->count -= count;
}

/* ---- comparing ---- */

static void assert_item(struct slice got, uint32_t id)
{
    char buf[ITEM_MAX];
    struct slice want = item_bytes(id, buf);
    assert_int_equal(got.size, want.size);
    if (want.size)
        assert_memory_equal(got.data, want.data, want.size);
}

static void assert_list(const struct entry *e, const struct model *m)
{
    if (m->count == 0) {
        assert_null(e);
        return;
    }
    assert_non_null(e);
    assert_int_equal(entry_type(e), ENTRY_LIST);
    assert_int_equal(list_count(e), m->count);
    if (entry_encoding(e) == ENTRY_LISTPACK)
        assert_true(listpack_check(entry_value(e), e->value_size));
    struct list_iter it;
    struct slice item;
    size_t n = 0;
    list_iter_init(&it, e, 0, false);
    for (; list_iter_next(&it, &item); n++)
        assert_item(item, m->items[n]);
    assert_int_equal(n, m->count);
    size_t from = m->count - 1 - m->count / 3;
    n = from + 1;
    list_iter_init(&it, e, from, true);
    for (; list_iter_next(&it, &item); n--)
        assert_item(item, m->items[n - 1]);
    assert_int_equal(n, 0);
    list_iter_init(&it, e, m->count, false);
    assert_false(list_iter_next(&it, &item));
}

/* What Redis 7.2 would say for list-max-listpack-size -2 and 100. */
static void assert_encoding(const struct entry *e, const struct model *m)
{
    char buf[ITEM_MAX];
    uint64_t bytes = LISTPACK_EMPTY_SIZE;
    for (size_t i = 0; i < m->count; i++)
        bytes += listpack_entry_size(item_bytes(m->items[i], buf));
    struct encoding_limits limits = {.list_max_listpack_size = -2};
    assert_string_equal(list_encoding_name(e, &limits), bytes <= 8192 ? "listpack" : "quicklist");
    limits.list_max_listpack_size = 100;
    assert_string_equal(list_encoding_name(e, &limits),
                        bytes <= 8192 && m->count <= 100 ? "listpack" : "quicklist");
}

/* ---- random operations ---- */

struct run {
    struct keyspace *ks;
    struct slice key;
    struct model model;
    size_t largest; /* that it has been */
    uint32_t universe;
    size_t usual_max; /* pushes and pops keep the count about here */
};

static void ref_find(struct run *r, struct keyref *ref)
{
    keyref_find(ref, &r->ks->dbs[0], r->key, key_hash(r->key));
}

static void do_push(struct run *r)
{
    static char bytes[8][ITEM_MAX];
    struct slice items[8];
    struct keyref ref;
    struct model *m = &r->model;
    enum list_end end = random_below(2) ? LIST_HEAD : LIST_TAIL;
    size_t n = 1 + random_below(8);
    if (m->count + n > MODEL_MAX)
        return;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = random_item(r->universe);
        items[i] = item_bytes(id, bytes[i]);
        model_insert(m, end == LIST_HEAD ? 0 : m->count, id);
    }
    ref_find(r, &ref);
    list_push(&ref, end, items, n);
    assert_int_equal(list_count(ref.entry), m->count);
}

struct popped {
    const struct model *model;
    enum list_end end;
    size_t count;
};

static void check_popped(void *ctx, struct slice item)
{
    struct popped *p = ctx;
    size_t at = p->end == LIST_HEAD ? p->count : p->model->count - 1 - p->count;
    assert_item(item, p->model->items[at]);
    p->count++;
}

static void do_pop(struct run *r, struct keyref *ref)
{
    struct model *m = &r->model;
    struct popped p = {m, random_below(2) ? LIST_HEAD : LIST_TAIL, 0};
    uint64_t count = random_below(300) ? 1 + random_below(8) : random_below(m->count + 3);
    uint64_t expected = count < m->count ? count : m->count;
    assert_int_equal(list_pop(ref, p.end, count, check_popped, &p), expected);
    assert_int_equal(p.count, expected);
    model_remove(m, p.end == LIST_HEAD ? 0 : m->count - expected, expected);
}

static void do_set(struct run *r, struct keyref *ref)
{
    char bytes[ITEM_MAX];
    uint32_t id = random_item(r->universe);
    size_t at = random_below(r->model.count);
    list_set(ref, at, item_bytes(id, bytes));
    r->model.items[at] = id;
}

static void do_insert(struct run *r, struct keyref *ref)
{
    char bytes[ITEM_MAX], pivot_bytes[ITEM_MAX];
    struct model *m = &r->model;
    if (m->count == MODEL_MAX)
        return;
    uint32_t id = random_item(r->universe), pivot = random_item(r->universe);
    bool before = random_below(2);
    size_t at = 0;
    while (at < m->count && m->items[at] != pivot)
        at++;
    bool inserted = list_insert(ref, item_bytes(pivot, pivot_bytes), before, item_bytes(id, bytes));
    assert_int_equal(inserted, at < m->count);
    if (inserted)
        model_insert(m, before ? at : at + 1, id);
}

static void do_trim(struct run *r, struct keyref *ref)
{
    struct model *m = &r->model;
    /* Mostly little off both ends, now and then nearly all. */
    size_t most = random_below(20) ? m->count / 50 + 2 : m->count;
    size_t first = random_below(most), behind = random_below(most);
    if (first + behind > m->count)
        return;
    list_trim(ref, first, m->count - first - behind);
    model_remove(m, m->count - behind, behind);
    model_remove(m, 0, first);
}

static void do_remove(struct run *r, struct keyref *ref)
{
    char bytes[ITEM_MAX];
    struct model *m = &r->model;
    uint32_t id = random_below(3) ? m->items[random_below(m->count)] : random_item(r->universe);
    bool reverse = random_below(2);
    uint64_t limit = random_below(3), removed = 0;
    size_t at = reverse ? m->count : 0;
    while ((limit == 0 || removed < limit) && (reverse ? at > 0 : at < m->count)) {
        size_t here = reverse ? at - 1 : at;
        if (m->items[here] == id) {
            model_remove(m, here, 1);
            removed++;
            at = here;
        } else {
            at = reverse ? here : at + 1;
        }
    }
    assert_int_equal(list_remove(ref, item_bytes(id, bytes), limit, reverse), removed);
}

static void step(struct run *r)
{
    struct keyref ref;
    ref_find(r, &ref);
    if (!ref.entry) {
        do_push(r);
        return;
    }
    uint64_t what = random_below(100);
    bool full = r->model.count > r->usual_max;
    if (what < 55) {
        if (random_below(100) < (full ? 35 : 85))
            do_push(r);
        else
            do_pop(r, &ref);
    } else if (what < 70) {
        do_set(r, &ref);
    } else if (what < 85) {
        do_insert(r, &ref);
    } else if (what < 88) {
        do_trim(r, &ref);
    } else if (what < 92 || full) {
        do_remove(r, &ref);
    }
    if (r->model.count > r->largest)
        r->largest = r->model.count;
}

/* ---- snapshots ---- */

#define SNAPSHOTS 4

struct held {
    struct snapshot *snapshot;
    struct model model;
};

static const struct entry *frozen_entry(const struct snapshot *s, struct slice key)
{
    return table_find(&s->dbs[0].table, key_hash(key), key.data, key.size);
}

static void release(struct run *r, struct held *h)
{
    assert_list(frozen_entry(h->snapshot, r->key), &h->model);
    snapshot_end(r->ks, h->snapshot);
    h->snapshot = NULL;
}

static void random_run(uint32_t universe, size_t usual_max, int steps, bool snapshots)
{
    struct run *r = mem_zalloc(sizeof(*r));
    struct held *held = mem_zalloc(SNAPSHOTS * sizeof(*held));
    r->ks = keyspace_new(1, false);
    r->key = SLICE("key");
    r->universe = universe;
    r->usual_max = usual_max;
    for (int i = 0; i < steps; i++) {
        step(r);
        if (i % 16 == 0) {
            struct entry *e = db_find(&r->ks->dbs[0], r->key, key_hash(r->key));
            assert_list(e, &r->model);
            if (e)
                assert_encoding(e, &r->model);
        }
        if (snapshots && random_below(40) == 0) {
            struct held *h = &held[random_below(SNAPSHOTS)];
            if (h->snapshot) {
                release(r, h);
            } else {
                h->model = r->model;
                h->snapshot = snapshot_begin(r->ks);
            }
        }
        epoch_reclaim_step(&r->ks->epoch, 10);
    }
    /* By chance (a trim, a removal of all) it may have stayed small until now. */
    while (r->largest <= usual_max / 2) {
        do_push(r);
        if (r->model.count > r->largest)
            r->largest = r->model.count;
    }
    assert_list(db_find(&r->ks->dbs[0], r->key, key_hash(r->key)), &r->model);
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (held[i].snapshot)
            release(r, &held[i]);
    }
    keyspace_free(r->ks);
    mem_free(held);
    mem_free(r);
}

/* Small lists, around the point where a listpack becomes a tree and back to nothing, behave like an
 * array. */
static void small_lists_are_like_arrays(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++)
        random_run(60, 10, 400, false);
    random_run(1200, 60, 2000, false);
    random_run(300, 400, 3000, false);
}

/* So do large ones. */
static void large_lists_are_like_arrays(void **state)
{
    (void)state;
    random_run(5000, 3000, 4000, false);
    random_run(20, 1500, 3000, false);
}

/* While snapshots are taken and released at random, each reads as it did when it was taken; and
 * when all is released no byte is left. */
static void snapshots_keep_their_lists(void **state)
{
    (void)state;
    random_run(60, 10, 400, true);
    size_t used = mem_used();
    for (int i = 0; i < 10; i++)
        random_run(60, 10, 400, true);
    random_run(1200, 60, 2000, true);
    random_run(5000, 2000, 3000, true);
    assert_int_equal(mem_used(), used);
}

struct reader {
    const struct entry *e;
    const struct model *model;
    atomic_bool stop;
    int rounds;
};

static void *read_frozen(void *ctx)
{
    struct reader *r = ctx;
    do {
        assert_list(r->e, r->model);
        r->rounds++;
    } while (!atomic_load(&r->stop));
    return NULL;
}

/* Another thread may walk a snapshot's list while the list is being changed. */
static void a_thread_reads_what_is_frozen(void **state)
{
    (void)state;
    struct run *r = mem_zalloc(sizeof(*r));
    struct model *then = mem_alloc(sizeof(*then));
    r->ks = keyspace_new(1, true);
    r->key = SLICE("key");
    r->universe = 2000;
    static const size_t sizes[] = {30, 1000};
    for (int round = 0; round < 2; round++) {
        r->usual_max = sizes[round];
        for (int i = 0; i < 3000 || r->model.count == 0; i++)
            step(r);
        *then = r->model;
        struct snapshot *s = snapshot_begin(r->ks);
        struct reader reader = {.e = frozen_entry(s, r->key), .model = then};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, read_frozen, &reader), 0);
        for (int i = 0; i < 1500; i++) {
            step(r);
            epoch_reclaim_step(&r->ks->epoch, 10);
        }
        atomic_store(&reader.stop, true);
        pthread_join(thread, NULL);
        assert_true(reader.rounds > 0);
        snapshot_end(r->ks, s);
    }
    keyspace_free(r->ks);
    mem_free(then);
    mem_free(r);
}

/* A builder makes lists of every size, from single elements and from listpacks, and can throw away
 * what it has. */
static void builders_make_lists(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(1, false);
    struct list_builder *b = mem_alloc(sizeof(*b));
    struct model *m = mem_alloc(sizeof(*m));
    char bytes[ITEM_MAX];
    static char lp[ENTRY_EMBED_MAX];
    list_builder_init(b, &ks->epoch);
    assert_null(list_builder_finish(b, SLICE("none"), ENTRY_NO_EXPIRY));
    for (int round = 0; round < 60; round++) {
        m->count = 0;
        size_t count = 1 + random_below(round % 3 == 0 ? 20 : 1500);
        while (m->count < count) {
            uint32_t id = random_item(5000);
            if (random_below(50) == 0 && m->count + 20 < count) {
                listpack_init(lp);
                for (uint32_t i = 0; i < 20; i++) {
                    struct slice item = item_bytes(i, bytes);
                    listpack_insert(lp, 0, item);
                    m->items[m->count++] = i;
                }
                list_builder_add_listpack(b, lp);
            } else {
                list_builder_add(b, item_bytes(id, bytes));
                m->items[m->count++] = id;
            }
        }
        assert_int_equal(list_builder_count(b), count);
        if (random_below(4) == 0) {
            list_builder_reset(b);
            continue;
        }
        char name[20];
        struct slice key = slice_of(name, (size_t)snprintf(name, sizeof(name), "k%d", round));
        struct entry *e = list_builder_finish(b, key, random_below(2) ? ENTRY_NO_EXPIRY : 1000);
        db_insert(&ks->dbs[0], key_hash(key), e);
        assert_list(db_find(&ks->dbs[0], key, key_hash(key)), m);
    }
    keyspace_free(ks);
    mem_free(m);
    mem_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_lists_are_like_arrays),
        cmocka_unit_test(large_lists_are_like_arrays),
        cmocka_unit_test(snapshots_keep_their_lists),
        cmocka_unit_test(a_thread_reads_what_is_frozen),
        cmocka_unit_test(builders_make_lists),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
