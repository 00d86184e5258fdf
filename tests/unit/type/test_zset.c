/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "type/zset.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* ---- the model: a score for each possible member, NaN for those that are not there ---- */

#define MODEL_MAX 3000
#define MEMBER_MAX 1000

struct model {
    double scores[MODEL_MAX];
    size_t count;
};

static void model_init(struct model *m)
{
    for (size_t i = 0; i < MODEL_MAX; i++)
        m->scores[i] = NAN;
    m->count = 0;
}

/* Numbers, words, the empty member, and a few that are long. `longest` bounds them. */
static struct slice member_bytes(uint32_t id, size_t longest, char buf[MEMBER_MAX])
{
    int n = 0;
    if (id % 5 == 1)
        n = snprintf(buf, MEMBER_MAX, "%" PRIu32, id);
    else if (id > 0)
        n = snprintf(buf, MEMBER_MAX, "member:%" PRIu32, id * 2654435761U % 100000 * 4096 + id);
    size_t size = (size_t)n, wanted = id % 7 == 6     ? 30 + id % 34
                                      : id % 97 == 96 ? 100 + id % 800
                                                      : 0;
    if (wanted > longest)
        wanted = longest;
    if (size < wanted) {
        memset(buf + size, 'x', wanted - size);
        size = wanted;
    }
    return slice_of(buf, size);
}

/* How scores are drawn: all the same, few different ones, or hardly two the same. */
enum scores { SAME_SCORES, FEW_SCORES, MANY_SCORES };

static double random_score(enum scores kind)
{
    switch (kind) {
    case SAME_SCORES:
        return random_below(200) ? 1 : 2;
    case FEW_SCORES:
        return (double)random_below(40) / 4 - 5;
    case MANY_SCORES:
        break;
    }
    switch (random_below(20)) {
    case 0:
        return INFINITY;
    case 1:
        return -INFINITY;
    case 2:
        return -0.0;
    case 3:
        return (double)random_below(1000000) * 1e300;
    case 4:
        return 1.0 / (double)(1 + random_below(1000000));
    default:
        return (double)random_below(100000) - 50000;
    }
}

/* ---- the model in order ---- */

struct ordered {
    uint32_t ids[MODEL_MAX];
    size_t count;
};

static const struct model *sorting;
static size_t sorting_longest;

static int compare_ids(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    double s = sorting->scores[x], t = sorting->scores[y];
    if (s != t)
        return s < t ? -1 : 1;
    char xb[MEMBER_MAX], yb[MEMBER_MAX];
    return slice_compare(member_bytes(x, sorting_longest, xb),
                         member_bytes(y, sorting_longest, yb));
}

static void put_in_order(const struct model *m, size_t longest, struct ordered *o)
{
    o->count = 0;
    for (uint32_t i = 0; i < MODEL_MAX; i++) {
        if (!isnan(m->scores[i]))
            o->ids[o->count++] = i;
    }
    sorting = m;
    sorting_longest = longest;
    qsort(o->ids, o->count, sizeof(o->ids[0]), compare_ids);
}

/* ---- comparing ---- */

static void assert_item(const struct zset_item *item, const struct model *m, size_t longest,
                        uint32_t id)
{
    char buf[MEMBER_MAX];
    struct slice want = member_bytes(id, longest, buf);
    assert_int_equal(item->member.size, want.size);
    if (want.size)
        assert_memory_equal(item->member.data, want.data, want.size);
    assert_true(item->score == m->scores[id]);
    assert_false(item->score == 0 && signbit(item->score));
}

/* Walks it up from the bottom and down from the middle. Needs no lock on a frozen entry. */
static void assert_in_order(const struct entry *e, const struct model *m, size_t longest,
                            const struct ordered *o)
{
    struct zset_iter it;
    struct zset_item item;
    size_t n = 0;
    assert_int_equal(zset_count(e), o->count);
    zset_iter_init(&it, e, 0, false);
    for (; zset_iter_next(&it, &item); n++)
        assert_item(&item, m, longest, o->ids[n]);
    assert_int_equal(n, o->count);
    size_t from = o->count - 1 - o->count / 3;
    n = from + 1;
    zset_iter_init(&it, e, from, true);
    for (; zset_iter_next(&it, &item); n--)
        assert_item(&item, m, longest, o->ids[n - 1]);
    assert_int_equal(n, 0);
}

struct scan_seen {
    const struct model *m;
    size_t longest, count;
    uint8_t times[MODEL_MAX];
};

/* The member's number, which member_bytes has written into it. */
static uint32_t member_id(struct slice member)
{
    char text[32] = {0};
    memcpy(text, member.data, member.size < 31 ? member.size : 31);
    if (member.size == 0)
        return 0;
    if (strncmp(text, "member:", 7) == 0)
        return (uint32_t)(strtoul(text + 7, NULL, 10) % 4096);
    return (uint32_t)strtoul(text, NULL, 10);
}

static void note_scanned(void *ctx, const struct zset_item *item)
{
    struct scan_seen *s = ctx;
    uint32_t id = member_id(item->member);
    assert_true(id < MODEL_MAX);
    assert_item(item, s->m, s->longest, id);
    assert_int_equal(s->times[id]++, 0);
    s->count++;
}

static void assert_scan(const struct entry *e, const struct model *m, size_t longest)
{
    struct scan_seen *seen = mem_zalloc(sizeof(*seen));
    seen->m = m;
    seen->longest = longest;
    uint64_t cursor = 0;
    do
        cursor = zset_scan(e, cursor, 1 + random_below(40), note_scanned, seen);
    while (cursor != 0);
    assert_int_equal(seen->count, m->count);
    mem_free(seen);
}

static bool in_score_range(double s, const struct zset_score_range *r)
{
    return (r->min_open ? s > r->min : s >= r->min) && (r->max_open ? s < r->max : s <= r->max);
}

static void assert_score_range(const struct entry *e, const struct model *m,
                               const struct ordered *o, enum scores kind)
{
    struct zset_score_range r = {random_score(kind), random_score(kind), random_below(2),
                                 random_below(2)};
    struct zset_ranks got = zset_ranks_by_score(e, &r);
    size_t count = 0, first = 0;
    for (size_t i = 0; i < o->count; i++) {
        if (in_score_range(m->scores[o->ids[i]], &r) && count++ == 0)
            first = i;
    }
    assert_int_equal(got.count, count);
    if (count)
        assert_int_equal(got.first, first);
}

static bool in_lex_range(struct slice member, const struct zset_lex_range *r)
{
    int above = r->min.kind == ZSET_LEX_LOWEST    ? 1
                : r->min.kind == ZSET_LEX_HIGHEST ? -1
                                                  : slice_compare(member, r->min.member);
    int below = r->max.kind == ZSET_LEX_HIGHEST  ? -1
                : r->max.kind == ZSET_LEX_LOWEST ? 1
                                                 : slice_compare(member, r->max.member);
    return (r->min.kind == ZSET_LEX_OPEN ? above > 0 : above >= 0) &&
           (r->max.kind == ZSET_LEX_OPEN ? below < 0 : below <= 0);
}

/* Only for zsets whose members all have the same score. */
static void assert_lex_range(const struct entry *e, const struct ordered *o, size_t longest,
                             uint32_t universe)
{
    char min[MEMBER_MAX], max[MEMBER_MAX], buf[MEMBER_MAX];
    struct zset_lex_range r = {{(enum zset_lex_kind)random_below(4),
                                member_bytes((uint32_t)random_below(universe), longest, min)},
                               {(enum zset_lex_kind)random_below(4),
                                member_bytes((uint32_t)random_below(universe), longest, max)}};
    struct zset_ranks got = zset_ranks_by_lex(e, &r, random_below(2));
    size_t count = 0, first = 0;
    for (size_t i = 0; i < o->count; i++) {
        if (in_lex_range(member_bytes(o->ids[i], longest, buf), &r) && count++ == 0)
            first = i;
    }
    assert_int_equal(got.count, count);
    if (count)
        assert_int_equal(got.first, first);
}

/* ---- random operations ---- */

struct run {
    struct keyspace *ks;
    struct slice key;
    struct model model;
    uint32_t universe;
    size_t longest;
    enum scores scores;
    size_t largest; /* that it has been */
    bool grown;     /* Redis's thresholds have been passed since the key is there */
    size_t usual_max;
};

static void note_limits(struct run *r, size_t member_size)
{
    const struct encoding_limits *l = &r->ks->limits;
    if (r->model.count > (size_t)l->zset_max_listpack_entries ||
        member_size > (size_t)l->zset_max_listpack_value)
        r->grown = true;
}

static void do_add(struct run *r, struct keyref *ref)
{
    char buf[MEMBER_MAX];
    uint32_t id = (uint32_t)random_below(r->universe);
    struct slice member = member_bytes(id, r->longest, buf);
    double *current = &r->model.scores[id], score = random_score(r->scores), result = NAN;
    bool there = !isnan(*current);
    unsigned flags = 0;
    if (random_below(3) == 0)
        flags = (unsigned)random_below(32);
    double wanted = flags & ZSET_INCR && there ? *current + score : score;
    enum zset_add_result expected = ZSET_ADDED;
    if (there) {
        if (flags & ZSET_NX)
            expected = ZSET_SKIPPED;
        else if (isnan(wanted))
            expected = ZSET_NAN;
        else if ((flags & ZSET_GT && wanted <= *current) || (flags & ZSET_LT && wanted >= *current))
            expected = ZSET_SKIPPED;
        else
            expected = wanted == *current ? ZSET_SAME : ZSET_UPDATED;
    } else if (flags & ZSET_XX) {
        expected = ZSET_SKIPPED;
    }
    assert_int_equal(zset_add(ref, member, score, flags, &result), expected);
    if (expected == ZSET_ADDED || expected == ZSET_UPDATED) {
        r->model.count += expected == ZSET_ADDED;
        *current = wanted;
        if (expected == ZSET_ADDED)
            note_limits(r, member.size);
    }
    if (expected != ZSET_SKIPPED && expected != ZSET_NAN)
        assert_true(result == *current);
}

static void do_remove(struct run *r, struct keyref *ref)
{
    char buf[MEMBER_MAX];
    uint32_t id = (uint32_t)random_below(r->universe);
    bool there = !isnan(r->model.scores[id]);
    assert_int_equal(zset_remove(ref, member_bytes(id, r->longest, buf)), there);
    r->model.scores[id] = NAN;
    r->model.count -= there;
}

static void do_remove_ranks(struct run *r, struct keyref *ref)
{
    static struct ordered o;
    put_in_order(&r->model, r->longest, &o);
    size_t most = random_below(20) ? 1 + o.count / 10 : o.count, count = 1 + random_below(most);
    size_t first = random_below(o.count - count + 1);
    zset_remove_ranks(ref, first, count);
    for (size_t i = first; i < first + count; i++)
        r->model.scores[o.ids[i]] = NAN;
    r->model.count -= count;
}

static void do_look(struct run *r, const struct entry *e)
{
    static struct ordered o;
    char buf[MEMBER_MAX];
    put_in_order(&r->model, r->longest, &o);
    uint32_t id =
        random_below(4) ? o.ids[random_below(o.count)] : (uint32_t)random_below(r->universe);
    struct slice member = member_bytes(id, r->longest, buf);
    bool there = !isnan(r->model.scores[id]);
    double score = NAN, score_too = NAN;
    uint64_t rank = 0;
    assert_int_equal(zset_score(e, member, &score), there);
    assert_int_equal(zset_rank(e, member, &rank, &score_too), there);
    if (there) {
        assert_true(score == r->model.scores[id] && score_too == score);
        assert_int_equal(o.ids[rank], id);
    }
    assert_score_range(e, &r->model, &o, r->scores);
    if (r->model.scores[o.ids[0]] == r->model.scores[o.ids[o.count - 1]])
        assert_lex_range(e, &o, r->longest, r->universe);
}

static void step(struct run *r)
{
    struct keyref ref;
    keyref_find(&ref, &r->ks->dbs[0], r->key, key_hash(r->key));
    assert_int_equal(ref.entry != NULL, r->model.count > 0);
    if (!ref.entry)
        r->grown = false;
    uint64_t what = random_below(100);
    bool full = r->model.count > r->usual_max;
    if (!ref.entry || what < (full ? 40 : 78))
        do_add(r, &ref);
    else if (what < 90)
        do_remove(r, &ref);
    else if (what < 92 && (full || random_below(20) == 0))
        do_remove_ranks(r, &ref);
    else
        do_look(r, ref.entry);
    if (r->model.count > r->largest)
        r->largest = r->model.count;
}

static void assert_run(struct run *r)
{
    static struct ordered o;
    const struct entry *e = db_find(&r->ks->dbs[0], r->key, key_hash(r->key));
    assert_int_equal(e != NULL, r->model.count > 0);
    if (!e)
        return;
    zset_check(e, &r->ks->epoch);
    put_in_order(&r->model, r->longest, &o);
    assert_in_order(e, &r->model, r->longest, &o);
    assert_scan(e, &r->model, r->longest);
    assert_string_equal(zset_encoding_name(e), r->grown ? "skiplist" : "listpack");
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
    static struct ordered o;
    const struct entry *e = frozen_entry(h->snapshot, r->key);
    assert_int_equal(e != NULL, h->model.count > 0);
    if (e) {
        put_in_order(&h->model, r->longest, &o);
        assert_in_order(e, &h->model, r->longest, &o);
        assert_scan(e, &h->model, r->longest);
    }
    snapshot_end(r->ks, h->snapshot);
    h->snapshot = NULL;
}

struct shape {
    uint32_t universe;
    size_t longest, usual_max;
    enum scores scores;
};

static struct run *run_new(const struct shape *shape)
{
    struct run *r = mem_zalloc(sizeof(*r));
    r->ks = keyspace_new(1, false);
    r->key = SLICE("key");
    r->universe = shape->universe;
    r->longest = shape->longest;
    r->usual_max = shape->usual_max;
    r->scores = shape->scores;
    model_init(&r->model);
    return r;
}

static void random_run(const struct shape *shape, int steps, bool snapshots)
{
    struct run *r = run_new(shape);
    struct held *held = mem_zalloc(SNAPSHOTS * sizeof(*held));
    for (int i = 0; i < steps; i++) {
        step(r);
        if (i % (64 + (int)shape->usual_max / 4) == 0)
            assert_run(r);
        if (snapshots && random_below(60) == 0) {
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
    assert_run(r);
    assert_true(r->largest > shape->usual_max / 2);
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (held[i].snapshot)
            release(r, &held[i]);
    }
    keyspace_free(r->ks);
    mem_free(held);
    mem_free(r);
}

/* Within Redis's thresholds by far; at them; with members that make a tree before Redis would have
 * made a skiplist; and far beyond them. */
static const struct shape shapes[] = {
    {20, 50, 10, FEW_SCORES},        {20, 50, 10, SAME_SCORES},      {200, 60, 140, MANY_SCORES},
    {200, 60, 140, SAME_SCORES},     {150, 64, 110, FEW_SCORES},     {100, 1000, 40, MANY_SCORES},
    {3000, 1000, 2000, MANY_SCORES}, {3000, 1000, 1500, FEW_SCORES}, {3000, 60, 1000, SAME_SCORES},
};
#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* Every shape of zset behaves like an array of scores that is sorted when it is looked at. */
static void zsets_are_like_sorted_arrays(void **state)
{
    (void)state;
    for (size_t i = 0; i < SHAPES; i++)
        random_run(&shapes[i], 1500 + 3 * (int)shapes[i].usual_max, false);
}

/* While snapshots are taken and released at random, each reads as it did when it was taken; and
 * when all is released no byte is left. */
static void snapshots_keep_their_zsets(void **state)
{
    (void)state;
    random_run(&shapes[0], 1000, true);
    size_t used = mem_used();
    for (size_t i = 0; i < SHAPES; i++)
        random_run(&shapes[i], 1500 + 3 * (int)shapes[i].usual_max, true);
    assert_int_equal(mem_used(), used);
}

struct reader {
    const struct entry *e;
    const struct model *model;
    const struct ordered *ordered;
    size_t longest;
    atomic_bool stop;
    int rounds;
};

static void *read_frozen(void *ctx)
{
    struct reader *r = ctx;
    do {
        assert_in_order(r->e, r->model, r->longest, r->ordered);
        r->rounds++;
    } while (!atomic_load(&r->stop));
    return NULL;
}

/* Another thread may walk a snapshot's zset while the zset is being changed. */
static void a_thread_reads_what_is_frozen(void **state)
{
    (void)state;
    static const struct shape two[] = {{100, 40, 60, FEW_SCORES}, {3000, 300, 2000, MANY_SCORES}};
    struct model *then = mem_alloc(sizeof(*then));
    struct ordered *ordered = mem_alloc(sizeof(*ordered));
    for (int round = 0; round < 2; round++) {
        struct run *r = run_new(&two[round]);
        for (int i = 0; i < 3000 || r->model.count == 0; i++)
            step(r);
        *then = r->model;
        put_in_order(then, r->longest, ordered);
        struct snapshot *s = snapshot_begin(r->ks);
        struct reader reader = {frozen_entry(s, r->key), then, ordered, r->longest, false, 0};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, read_frozen, &reader), 0);
        for (int i = 0; i < 2000; i++) {
            step(r);
            epoch_reclaim_step(&r->ks->epoch, 10);
        }
        atomic_store(&reader.stop, true);
        pthread_join(thread, NULL);
        assert_true(reader.rounds > 0);
        snapshot_end(r->ks, s);
        keyspace_free(r->ks);
        mem_free(r);
    }
    mem_free(then);
    mem_free(ordered);
}

/* ---- builders ---- */

static void build(struct zset_builder *b, struct model *m, const struct shape *shape, bool in_order)
{
    static struct ordered o;
    char buf[MEMBER_MAX];
    for (size_t i = 0; i < shape->usual_max; i++) {
        uint32_t id = (uint32_t)random_below(shape->universe);
        double score = random_score(shape->scores);
        bool there = !isnan(m->scores[id]);
        if (!in_order) {
            struct slice member = member_bytes(id, shape->longest, buf);
            assert_int_equal(zset_builder_add(b, member, score), !there);
        }
        if (!there) {
            m->scores[id] = score;
            m->count++;
        }
    }
    if (!in_order)
        return;
    put_in_order(m, shape->longest, &o);
    for (size_t i = 0; i < o.count; i++) {
        struct slice member = member_bytes(o.ids[i], shape->longest, buf);
        zset_builder_append(b, member, m->scores[o.ids[i]]);
    }
}

/* A builder makes zsets of every shape, adding in any order or in theirs, refuses a member that it
 * has, and can throw away what it has. */
static void builders_make_zsets(void **state)
{
    (void)state;
    struct zset_builder *b = mem_alloc(sizeof(*b));
    for (size_t round = 0; round < 8 * SHAPES; round++) {
        const struct shape *shape = &shapes[round % SHAPES];
        struct run *r = run_new(shape);
        zset_builder_init(b, &r->ks->epoch, &r->ks->limits);
        assert_null(zset_builder_finish(b, r->key, ENTRY_NO_EXPIRY));
        build(b, &r->model, shape, random_below(2));
        assert_int_equal(zset_builder_count(b), r->model.count);
        if (random_below(4) == 0) {
            zset_builder_reset(b);
            assert_int_equal(zset_builder_count(b), 0);
        } else {
            for (uint32_t id = 0; id < MODEL_MAX; id++) {
                char buf[MEMBER_MAX];
                size_t size = member_bytes(id, shape->longest, buf).size;
                if (!isnan(r->model.scores[id]))
                    note_limits(r, size);
            }
            struct entry *e = zset_builder_finish(b, r->key, ENTRY_NO_EXPIRY);
            db_insert(&r->ks->dbs[0], key_hash(r->key), e);
            assert_run(r);
            for (int i = 0; i < 200; i++)
                step(r);
            assert_run(r);
        }
        keyspace_free(r->ks);
        mem_free(r);
    }
    mem_free(b);
}

/* Add the model's members in order, from the lowest up or the highest down; `spoil` so that a part
 * of them, at the end, is not. */
static bool add_in_bulk(struct zset_builder *b, const struct model *m, const struct shape *shape,
                        const struct ordered *o, bool down, bool spoil)
{
    char buf[MEMBER_MAX];
    size_t sorted = spoil ? o->count / 2 : o->count;
    for (size_t i = 0; i < o->count; i++) {
        size_t at = i < sorted ? i : o->count - 1 - (i - sorted);
        uint32_t id = o->ids[down ? o->count - 1 - at : at];
        if (!zset_builder_add(b, member_bytes(id, shape->longest, buf), m->scores[id]))
            return false;
    }
    return zset_builder_settle(b);
}

/* A zset that is built as a whole is as any other, also where the order ends half way; a member
 * that is there twice is noticed, whatever scores it has. */
static void zsets_are_built_in_bulk(void **state)
{
    (void)state;
    struct zset_builder *b = mem_alloc(sizeof(*b));
    static struct ordered o;
    bool any_bulk = false;
    for (size_t round = 0; round < 16 * SHAPES; round++) {
        const struct shape *shape = &shapes[round % SHAPES];
        struct run *r = run_new(shape);
        struct model *m = &r->model;
        zset_builder_init(b, &r->ks->epoch, &r->ks->limits);
        for (size_t i = 0; i < shape->usual_max; i++) {
            uint32_t id = (uint32_t)random_below(shape->universe);
            if (isnan(m->scores[id]))
                m->count++;
            m->scores[id] = random_score(shape->scores);
        }
        put_in_order(m, shape->longest, &o);
        bool bulk = zset_builder_begin_bulk(b, o.count),
             twice = random_below(3) == 0 && o.count > 1;
        any_bulk |= bulk;
        bool ok = add_in_bulk(b, m, shape, &o, random_below(2), random_below(3) == 0);
        assert_true(ok);
        assert_int_equal(zset_builder_count(b), o.count);
        if (twice) {
            char buf[MEMBER_MAX];
            zset_builder_reset(b);
            zset_builder_begin_bulk(b, o.count + 1);
            uint32_t id = o.ids[random_below(o.count)];
            bool last = random_below(2);
            struct slice member = member_bytes(id, shape->longest, buf);
            double score = last && random_below(2) ? INFINITY : -INFINITY;
            ok = last || zset_builder_add(b, member, score);
            ok = ok && add_in_bulk(b, m, shape, &o, false, false);
            ok = ok && (!last || zset_builder_add(b, member, score));
            assert_false(ok && zset_builder_settle(b));
            zset_builder_reset(b);
        } else {
            for (uint32_t id = 0; id < MODEL_MAX; id++) {
                char buf[MEMBER_MAX];
                if (!isnan(m->scores[id]))
                    note_limits(r, member_bytes(id, shape->longest, buf).size);
            }
            struct entry *e = zset_builder_finish(b, r->key, ENTRY_NO_EXPIRY);
            db_insert(&r->ks->dbs[0], key_hash(r->key), e);
            assert_run(r);
            for (int i = 0; i < 200; i++)
                step(r);
            assert_run(r);
        }
        keyspace_free(r->ks);
        mem_free(r);
    }
    assert_true(any_bulk);
    mem_free(b);
}

static void put_pair(char *lp, const char *member, const char *score)
{
    listpack_insert(lp, 0, slice_cstr(member));
    if (score)
        listpack_insert(lp, 0, slice_cstr(score));
}

/* Listpacks from outside become zsets if they are any, whatever order they are in. */
static void listpacks_are_checked(void **state)
{
    (void)state;
    static char lp[100000];
    struct keyspace *ks = keyspace_new(1, false);
    struct zset_builder *b = mem_alloc(sizeof(*b));
    zset_builder_init(b, &ks->epoch, &ks->limits);

    struct {
        const char *pairs[8];
        bool valid;
    } cases[] = {
        {{"a", "1", "b", "2"}, true},
        {{"b", "2", "a", "1"}, true},
        {{"b", "1", "a", "1"}, true},
        {{"a", "-inf", "7", "inf"}, true},
        {{"a", "1", "a", "1"}, false},
        {{"a", "1", "b", "1", "a", "2"}, false},
        {{"a", "x"}, false},
        {{"a", "nan"}, false},
        {{"a", "1", "b"}, false},
        {{"b", "2", "a", "1", "b", "3"}, false},
        {{"a", "-0", "b", "0.5"}, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        listpack_init(lp);
        size_t n = 0;
        for (; n < 8 && cases[i].pairs[n]; n += 2)
            put_pair(lp, cases[i].pairs[n], cases[i].pairs[n + 1]);
        assert_int_equal(zset_builder_add_listpack(b, lp), cases[i].valid);
        if (!cases[i].valid) {
            zset_builder_reset(b);
            continue;
        }
        struct entry *e = zset_builder_finish(b, SLICE("k"), ENTRY_NO_EXPIRY);
        zset_check(e, &ks->epoch);
        assert_int_equal(zset_count(e), n / 2);
        entry_free_block(e);
    }

    /* Many pairs: as they come, beyond the limits, and with one twice. */
    for (size_t count = 100; count <= 1000; count += 450) {
        for (int twice = 0; twice < 2; twice++) {
            listpack_init(lp);
            for (size_t i = 0; i < count; i++) {
                char member[20], score[20];
                snprintf(member, sizeof(member), "m%04zu", twice && i == count - 1 ? 5 : i);
                snprintf(score, sizeof(score), "%zu", i);
                put_pair(lp, member, score);
            }
            assert_int_equal(zset_builder_add_listpack(b, lp), !twice);
            assert_int_equal(zset_builder_count(b) == count, !twice);
            zset_builder_reset(b);
        }
    }
    keyspace_free(ks);
    mem_free(b);
}

/* Scores stand in listpacks as Redis 7.0 writes them: whole ones as integers up to 2^62. */
static void scores_are_written_as_redis_does(void **state)
{
    (void)state;
    static const struct {
        double score;
        const char *text;
    } cases[] = {{0, "0"},
                 {-3, "-3"},
                 {0.1, "0.10000000000000001"},
                 {123456789012345678.0, "123456789012345680"},
                 {4611686018427387904.0, "4611686018427387904"},
                 {9223372036854775808.0, "9.2233720368547758e+18"},
                 {1e300, "1.0000000000000001e+300"},
                 {INFINITY, "inf"},
                 {-INFINITY, "-inf"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[NUMBER_DOUBLE_SIZE + 1];
        text[zset_format_score(text, cases[i].score)] = '\0';
        assert_string_equal(text, cases[i].text);
    }
}

/* Thousands of members with one score are a crowd, and a scan finds each once. */
static void one_score_for_many(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(1, false);
    struct keyref ref;
    struct slice key = SLICE("k");
    struct model *m = mem_alloc(sizeof(*m));
    model_init(m);
    keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
    for (uint32_t id = 0; id < MODEL_MAX; id++) {
        char buf[MEMBER_MAX];
        assert_int_equal(zset_add(&ref, member_bytes(id, 60, buf), 7, 0, NULL), ZSET_ADDED);
        m->scores[id] = 7;
        m->count++;
    }
    zset_check(ref.entry, &ks->epoch);
    assert_scan(ref.entry, m, 60);
    struct zset_score_range range = {7, 7, false, false};
    assert_int_equal(zset_ranks_by_score(ref.entry, &range).count, MODEL_MAX);
    keyspace_free(ks);
    mem_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zsets_are_like_sorted_arrays),
        cmocka_unit_test(snapshots_keep_their_zsets),
        cmocka_unit_test(a_thread_reads_what_is_frozen),
        cmocka_unit_test(builders_make_zsets),
        cmocka_unit_test(zsets_are_built_in_bulk),
        cmocka_unit_test(listpacks_are_checked),
        cmocka_unit_test(scores_are_written_as_redis_does),
        cmocka_unit_test(one_score_for_many),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
