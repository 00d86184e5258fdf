/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the tests of hashes and sets share: a universe of members of all kinds, a model that holds a
 * flag and a value for each of them, and snapshots with the models as they were when those were
 * taken, read by another thread while the tests go on.
 */
#ifndef HF_TESTS_MEMBER_MODEL_H
#define HF_TESTS_MEMBER_MODEL_H

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
#include "base/number.h"
#include "type/member.h"
#include "unit/random.h"

/* ---- the universe ---- */

enum {
    SMALL_INTEGERS = 0,   /* -300 .. 299 */
    LARGE_INTEGERS = 600, /* of 8 bytes each in an intset */
    SHORT_STRINGS = 1200,
    MIDDLE_STRINGS = 1500, /* 40 to 69 bytes */
    LONG_STRINGS = 1600,   /* 300 to 4100 bytes */
    ODD_STRINGS = 1640,
    UNIVERSE = 1648
};

static struct slice universe[UNIVERSE];
static int sorted_universe[UNIVERSE];

static inline bool is_integer(int id)
{
    return id < SHORT_STRINGS;
}

static inline int by_bytes(const void *a, const void *b)
{
    return slice_compare(universe[*(const int *)a], universe[*(const int *)b]);
}

static inline void make_member(int id)
{
    static const char *const odd[] = {"",    "007", "-0", "+1", " 1", "99999999999999999999",
                                      "1e3", "0x10"};
    char buf[5000];
    int n;
    if (id < LARGE_INTEGERS)
        n = snprintf(buf, sizeof(buf), "%d", id - 300);
    else if (id < SHORT_STRINGS)
        n = snprintf(buf, sizeof(buf), "%lld", (id - 900) * 30000000000000001LL + 7777);
    else if (id < MIDDLE_STRINGS)
        n = snprintf(buf, sizeof(buf), "m%d", id);
    else if (id < LONG_STRINGS)
        n = snprintf(buf, sizeof(buf), "%0*dm", 39 + id % 30, id);
    else if (id < ODD_STRINGS)
        n = snprintf(buf, sizeof(buf), "%0*dm", 299 + (id % 20) * 200, id);
    else
        n = snprintf(buf, sizeof(buf), "%s", odd[id - ODD_STRINGS]);
    universe[id] = slice_of(mem_dup(buf, (size_t)n), (size_t)n);
}

static inline int member_id(struct slice s)
{
    int low = 0, high = UNIVERSE;
    while (low < high) {
        int middle = (low + high) / 2;
        if (slice_compare(universe[sorted_universe[middle]], s) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == UNIVERSE || !slice_equal(universe[sorted_universe[low]], s))
        return -1;
    return sorted_universe[low];
}

/* ---- the model ---- */

#define VALUE_BUF 5000

struct model {
    int count;
    const char *encoding; /* as Redis would have it */
    int64_t due;
    bool has[UNIVERSE];
    uint16_t value[UNIVERSE]; /* for hashes: value 0 is the empty string */
};

/* The bytes of a value: numbers, short strings, and long ones. */
static inline struct slice value_of_id(unsigned id, char buf[VALUE_BUF])
{
    int n = 0;
    if (id % 4 == 1)
        n = snprintf(buf, VALUE_BUF, "%u", id);
    else if (id % 4 == 2)
        n = snprintf(buf, VALUE_BUF, "v%u", id);
    else if (id % 4 == 3)
        n = snprintf(buf, VALUE_BUF, "%0*uv", (int)(id % 64), id);
    if (id >= 60000)
        n = snprintf(buf, VALUE_BUF, "%0*uv", (int)(id - 60000), id);
    return slice_of(buf, (size_t)n);
}

/* Whether the entry (NULL: no key) is what the model has. Reads only, asserts nothing, so that it
 * may be called by any thread. */
static inline bool same_as_model(const struct entry *e, const struct model *m)
{
    if (e == NULL || m->count == 0)
        return e == NULL && m->count == 0;
    if (member_count(e) != (uint64_t)m->count || entry_due(e) != m->due)
        return false;
    bool seen[UNIVERSE] = {false};
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        int id = member_id(item.key);
        if (id < 0 || seen[id] || !m->has[id])
            return false;
        seen[id] = true;
        char buf[VALUE_BUF];
        struct slice value = slice_of("", 0);
        if (entry_type(e) == ENTRY_HASH)
            value = value_of_id(m->value[id], buf);
        if (!slice_equal(value, item.value))
            return false;
    }
    int count = 0;
    for (int id = 0; id < UNIVERSE; id++)
        count += seen[id];
    return count == m->count;
}

/* The block is as large as its value needs, and a dict is sound. */
static inline void check_entry(const struct entry *e, const struct epoch *epoch)
{
    switch (entry_encoding(e)) {
    case ENTRY_LISTPACK:
        assert_true(listpack_check(entry_value(e), e->value_size));
        break;
    case ENTRY_INTSET:
        assert_true(intset_check(entry_value(e), e->value_size));
        break;
    default:
        assert_int_equal(entry_encoding(e), ENTRY_DICT);
        dict_check(member_dict(e), epoch);
        break;
    }
}

/* ---- keys and snapshots ---- */

#define KEYS 3
#define SNAPSHOTS 3

static const char *const key_names[KEYS] = {"a", "some longer name of a key", "third\0with a zero"};
static struct slice keys[KEYS];

struct view {
    struct snapshot *snapshot; /* NULL: this place is free */
    struct model models[KEYS];
    pthread_t reader;
    bool has_reader, same;
};

struct world {
    struct keyspace *ks;
    struct db *db;
    struct model models[KEYS];
    struct view views[SNAPSHOTS];
};

static inline bool view_same(const struct view *v)
{
    for (int k = 0; k < KEYS; k++) {
        const struct entry *e =
            table_find(&v->snapshot->dbs[0].table, key_hash(keys[k]), keys[k].data, keys[k].size);
        if (!same_as_model(e, &v->models[k]))
            return false;
    }
    return true;
}

static inline void *view_read(void *arg)
{
    struct view *v = arg;
    mem_thread_begin();
    v->same = true;
    for (int i = 0; i < 3; i++)
        v->same &= view_same(v);
    mem_thread_end();
    return NULL;
}

static inline void view_begin(struct world *w, struct view *v)
{
    v->snapshot = snapshot_begin(w->ks);
    memcpy(v->models, w->models, sizeof(v->models));
    v->has_reader = random_below(2) == 0;
    if (v->has_reader)
        assert_int_equal(pthread_create(&v->reader, NULL, view_read, v), 0);
}

static inline void view_end(struct world *w, struct view *v)
{
    if (v->has_reader) {
        pthread_join(v->reader, NULL);
        assert_true(v->same);
    }
    assert_true(view_same(v));
    snapshot_end(w->ks, v->snapshot);
    v->snapshot = NULL;
}

/* Now and then a snapshot is taken or released, in any order. */
static inline void maybe_snapshot(struct world *w, unsigned one_in)
{
    if (random_below(one_in) != 0)
        return;
    struct view *v = &w->views[random_below(SNAPSHOTS)];
    if (v->snapshot)
        view_end(w, v);
    else
        view_begin(w, v);
    epoch_reclaim_step(&w->ks->epoch, 100);
}

static inline struct keyref find_key(struct world *w, int k)
{
    struct keyref ref;
    keyref_find(&ref, w->db, keys[k], key_hash(keys[k]));
    return ref;
}

static inline void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->ks = keyspace_new(2, false);
    w->db = &w->ks->dbs[0];
    w->ks->now_ms = 1000000;
    for (int k = 0; k < KEYS; k++)
        w->models[k].due = ENTRY_NO_EXPIRY;
    for (int i = 0; i < 4; i++)
        w->ks->random_state[i] = random_below(UINT64_MAX);
}

static inline void world_deinit(struct world *w)
{
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (w->views[i].snapshot)
            view_end(w, &w->views[i]);
    }
    epoch_reclaim_all(&w->ks->epoch);
    assert_int_equal(epoch_pending_count(&w->ks->epoch), 0);
    keyspace_free(w->ks);
}

static inline int model_setup(void **state)
{
    (void)state;
    random_begin();
    struct hash_key key = {random_below(UINT64_MAX), random_below(UINT64_MAX)};
    hash_key_init(&key);
    for (int id = 0; id < UNIVERSE; id++) {
        make_member(id);
        sorted_universe[id] = id;
    }
    qsort(sorted_universe, UNIVERSE, sizeof(int), by_bytes);
    keys[0] = slice_cstr(key_names[0]);
    keys[1] = slice_cstr(key_names[1]);
    keys[2] = slice_of(key_names[2], 17);
    return 0;
}

static inline int model_teardown(void **state)
{
    (void)state;
    for (int id = 0; id < UNIVERSE; id++)
        mem_free((void *)(uintptr_t)universe[id].data);
    return 0;
}

#endif
