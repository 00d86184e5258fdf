/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "type/stream.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* ---- the model: arrays ---- */

#define ENTRIES 4000
#define GROUPS 3
#define CONSUMERS 4

struct model {
    struct stream_id ids[ENTRIES]; /* ever added */
    bool there[ENTRIES];
    size_t count;
    bool groups[GROUPS];
    bool consumers[GROUPS][CONSUMERS];
    int owner[GROUPS][ENTRIES]; /* -1: not pending */
    uint64_t deliveries[GROUPS][ENTRIES];
};

/* Two group names that are prefixes of each other, and one with a NUL. */
static struct slice group_name(int g)
{
    static const struct slice names[GROUPS] = {{"g", 1}, {"gg", 2}, {"g\0g", 3}};
    return names[g];
}

static struct slice consumer_name(int c)
{
    static char names[CONSUMERS][400];
    size_t size = c == 0 ? 0 : c == 3 ? sizeof(names[0]) : (size_t)c;
    memset(names[c], 'a' + c, sizeof(names[c]));
    return slice_of(names[c], size);
}

/* The fields of the entry of this number: mostly the same ones, now and then many or long. */
static size_t fields_of(size_t n, struct slice pairs[8], char buf[8][1500])
{
    size_t count = n % 7 == 3 ? 4 : 1;
    for (size_t i = 0; i < count; i++) {
        int field = snprintf(buf[i * 2], 1500, n % 5 == 4 ? "f%zu-%zu" : "f%zu", i, n);
        int value = snprintf(buf[i * 2 + 1], 1500, "%zu", n * 131);
        size_t size = n % 41 == 40 ? 1400 : (size_t)value;
        memset(buf[i * 2 + 1] + value, 'x', size - (size_t)value);
        pairs[i * 2] = slice_of(buf[i * 2], (size_t)field);
        pairs[i * 2 + 1] = slice_of(buf[i * 2 + 1], size);
    }
    return count;
}

/* ---- a picture: all of a stream as text, by its functions and by the model ---- */

static void draw_entry(struct text *t, struct stream_id id)
{
    text_appendf(t, "%" PRIu64 "-%" PRIu64 ":", id.ms, id.seq);
}

static void draw_slice(struct text *t, struct slice s)
{
    text_append(t, s.data, s.size);
    text_append_cstr(t, ",");
}

static void picture_of_stream(struct text *t, const struct stream_root *s)
{
    struct stream_iter it;
    struct stream_item item;
    struct stream_pair pair;
    stream_iter_init(&it, s, STREAM_ID_MIN, STREAM_ID_MAX, false);
    while (stream_iter_next(&it, &item)) {
        draw_entry(t, item.id);
        for (uint64_t i = 0, n = item.fields; i < n; i++) {
            stream_item_pair(&item, &pair);
            draw_slice(t, pair.field);
            draw_slice(t, pair.value);
        }
    }
    text_appendf(t, "length %" PRIu64 "\n", s->length);
    for (int g = 0; g < GROUPS; g++) {
        struct stream_group group;
        if (!stream_group_find(s, group_name(g), &group))
            continue;
        text_appendf(t, "group %d of %" PRIu64 ":", g, stream_pending_count(s, &group));
        struct stream_pending p = {.id = STREAM_ID_MIN};
        while (stream_pending_from(s, &group, STREAM_ANY, p.id, &p)) {
            draw_entry(t, p.id);
            draw_slice(t, stream_consumer_name(s, &group, p.consumer));
            text_appendf(t, "%" PRIu64 ";", p.deliveries);
            stream_id_next(&p.id);
        }
        text_appendf(t, "consumers %" PRIu64 "\n", stream_consumer_count(s, &group));
    }
}

static void picture_of_model(struct text *t, const struct model *m)
{
    static char buf[8][1500];
    struct slice pairs[8];
    uint64_t length = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (!m->there[i])
            continue;
        draw_entry(t, m->ids[i]);
        size_t count = fields_of(i, pairs, buf);
        for (size_t j = 0; j < count * 2; j++)
            draw_slice(t, pairs[j]);
        length++;
    }
    text_appendf(t, "length %" PRIu64 "\n", length);
    for (int g = 0; g < GROUPS; g++) {
        uint64_t pending = 0, consumers = 0;
        if (!m->groups[g])
            continue;
        for (size_t i = 0; i < m->count; i++)
            pending += m->owner[g][i] >= 0;
        text_appendf(t, "group %d of %" PRIu64 ":", g, pending);
        for (size_t i = 0; i < m->count; i++) {
            if (m->owner[g][i] < 0)
                continue;
            draw_entry(t, m->ids[i]);
            draw_slice(t, consumer_name(m->owner[g][i]));
            text_appendf(t, "%" PRIu64 ";", m->deliveries[g][i]);
        }
        for (int c = 0; c < CONSUMERS; c++)
            consumers += m->consumers[g][c];
        text_appendf(t, "consumers %" PRIu64 "\n", consumers);
    }
}

static void assert_picture(const struct entry *e, const struct text *wanted)
{
    struct text t = {0};
    picture_of_stream(&t, stream_root_of(e));
    assert_int_equal(t.size, wanted->size);
    assert_memory_equal(t.data, wanted->data, t.size);
    text_free(&t);
}

/* ---- steps ---- */

struct run {
    struct keyspace *ks;
    struct keyref ref;
    struct model m;
};

static struct run *run_new(bool with_reclaimer)
{
    struct run *r = mem_zalloc(sizeof(*r));
    r->ks = keyspace_new(1, with_reclaimer);
    r->ks->limits.stream_node_max_entries = (int64_t[]){0, 3, 100}[random_below(3)];
    keyref_find(&r->ref, &r->ks->dbs[0], SLICE("x"), key_hash(SLICE("x")));
    stream_create(&r->ref);
    return r;
}

static void run_free(struct run *r)
{
    keyspace_free(r->ks);
    mem_free(r);
}

static void add(struct run *r, struct stream_root *s)
{
    static char buf[8][1500];
    struct slice pairs[8];
    struct model *m = &r->m;
    if (m->count == ENTRIES)
        return;
    struct stream_id id = s->last;
    id = random_below(2) ? (struct stream_id){id.ms + 1 + random_below(3), random_below(2)}
                         : (struct stream_id){id.ms, id.seq + 1};
    size_t n = m->count++, count = fields_of(n, pairs, buf);
    m->ids[n] = id;
    m->there[n] = true;
    for (int g = 0; g < GROUPS; g++)
        m->owner[g][n] = -1;
    stream_add(s, &r->ks->epoch, &r->ks->limits, id, pairs, count);
}

static void trim(struct run *r, struct stream_root *s)
{
    struct model *m = &r->m;
    uint64_t left = s->length, wanted = left - random_below(left / 3 + 1);
    struct stream_trim t = {.max_length = wanted};
    if (random_below(2) && m->count > 0) {
        t.by_id = true;
        t.min_id = m->ids[m->count - 1 - random_below(m->count / 2 + 1)];
    }
    uint64_t removed = stream_trim_front(s, &r->ks->epoch, &t), gone = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (t.by_id ? stream_id_compare(m->ids[i], t.min_id) >= 0 : left <= wanted)
            break;
        left -= m->there[i];
        gone += m->there[i];
        m->there[i] = false;
    }
    assert_int_equal(removed, gone);
}

static void change_group(struct run *r, struct stream_root *s)
{
    struct model *m = &r->m;
    struct epoch *e = &r->ks->epoch;
    struct stream_group group;
    struct stream_consumer consumer;
    int g = (int)random_below(GROUPS), c = (int)random_below(CONSUMERS);
    assert_int_equal(stream_group_find(s, group_name(g), &group), m->groups[g]);
    if (!m->groups[g]) {
        stream_group_create(s, e, group_name(g), s->last, 0, &group);
        m->groups[g] = true;
        return;
    }
    if (random_below(300) == 0) {
        stream_group_destroy(s, e, group_name(g), &group);
        m->groups[g] = false;
        memset(m->consumers[g], 0, sizeof(m->consumers[g]));
        memset(m->owner[g], 0xff, sizeof(m->owner[g]));
        return;
    }
    bool there = stream_consumer_find(s, &group, consumer_name(c), &consumer);
    assert_int_equal(there, m->consumers[g][c]);
    if (!there) {
        stream_consumer_create(s, e, group_name(g), &group, consumer_name(c), 5, &consumer);
        m->consumers[g][c] = true;
    } else if (random_below(100) == 0) {
        uint64_t lost = 0;
        for (size_t i = 0; i < m->count; i++) {
            lost += m->owner[g][i] == c;
            m->owner[g][i] = m->owner[g][i] == c ? -1 : m->owner[g][i];
        }
        assert_int_equal(stream_consumer_delete(s, e, &group, consumer_name(c), &consumer), lost);
        m->consumers[g][c] = false;
        return;
    }
    for (size_t k = random_below(8); k > 0 && m->count > 0; k--) {
        size_t i = m->count - 1 - random_below(m->count < 300 ? m->count : 300);
        struct stream_pending p;
        bool pending = stream_pending_find(s, &group, m->ids[i], &p);
        assert_int_equal(pending, m->owner[g][i] >= 0);
        if (random_below(3) == 0) {
            assert_int_equal(stream_pending_remove(s, e, &group, m->ids[i]), pending);
            m->owner[g][i] = -1;
            continue;
        }
        p = (struct stream_pending){m->ids[i], consumer.number, 7, m->deliveries[g][i] + 1};
        stream_pending_put(s, e, &group, &p);
        m->owner[g][i] = c;
        m->deliveries[g][i]++;
    }
}

static void step(struct run *r)
{
    struct model *m = &r->m;
    struct stream_root *s = stream_root_of(keyref_own(&r->ref));
    uint64_t kind = random_below(100);
    if (kind < 60) {
        add(r, s);
    } else if (kind < 75 && m->count > 0) {
        size_t i = random_below(4) ? m->count - 1 - random_below(m->count / 4 + 1)
                                   : random_below(m->count);
        assert_int_equal(stream_delete(s, &r->ks->epoch, m->ids[i]), m->there[i]);
        m->there[i] = false;
    } else if (kind == 75) {
        trim(r, s);
    } else {
        change_group(r, s);
    }
}

/* Random changes: after some of them the stream holds what arrays hold, and its invariants are
 * true; a copy of it, too. */
static void streams_are_like_arrays(void **state)
{
    (void)state;
    for (int round = 0; round < 6; round++) {
        struct run *r = run_new(false);
        for (int i = 0; i < 1500; i++) {
            step(r);
            if (random_below(150) != 0)
                continue;
            struct text wanted = {0};
            picture_of_model(&wanted, &r->m);
            stream_check(r->ref.entry, &r->ks->epoch);
            assert_picture(r->ref.entry, &wanted);
            struct keyref copy;
            keyref_find(&copy, &r->ks->dbs[0], SLICE("copy"), key_hash(SLICE("copy")));
            keyref_copy_from(&copy, r->ref.entry, ENTRY_NO_EXPIRY);
            stream_check(copy.entry, &r->ks->epoch);
            assert_picture(copy.entry, &wanted);
            keyref_find(&r->ref, &r->ks->dbs[0], SLICE("x"), key_hash(SLICE("x")));
            text_free(&wanted);
        }
        run_free(r);
    }
}

/* A snapshot's stream, found by walking its table. */
static bool find_frozen(void *ctx, void *item)
{
    const struct entry *e = item;
    if (slice_equal(entry_key(e), SLICE("x")))
        *(const struct entry **)ctx = e;
    return true;
}

static const struct entry *frozen_stream(const struct snapshot *snapshot)
{
    const struct entry *e = NULL;
    bool done;
    table_walk(&snapshot->dbs[0].table, 0, UINT64_MAX, 0, find_frozen, &e, &done);
    assert_non_null(e);
    return e;
}

/* Several snapshots at once, released in any order: each keeps the stream as it was. */
static void snapshots_keep_their_streams(void **state)
{
    (void)state;
    enum { LIVE = 4 };
    struct run *r = run_new(true);
    struct snapshot *snapshots[LIVE] = {NULL};
    struct text pictures[LIVE] = {0};
    for (int i = 0; i < 3000; i++) {
        step(r);
        size_t n = random_below(LIVE);
        if (random_below(60) != 0)
            continue;
        if (snapshots[n]) {
            assert_picture(frozen_stream(snapshots[n]), &pictures[n]);
            snapshot_end(r->ks, snapshots[n]);
            snapshots[n] = NULL;
            text_clear(&pictures[n]);
            epoch_reclaim_step(&r->ks->epoch, 1000);
        } else {
            picture_of_model(&pictures[n], &r->m);
            snapshots[n] = snapshot_begin(r->ks);
        }
        keyref_find(&r->ref, &r->ks->dbs[0], SLICE("x"), key_hash(SLICE("x")));
    }
    keyref_delete(&r->ref);
    for (size_t n = 0; n < LIVE; n++) {
        if (snapshots[n]) {
            assert_picture(frozen_stream(snapshots[n]), &pictures[n]);
            snapshot_end(r->ks, snapshots[n]);
        }
        text_free(&pictures[n]);
    }
    epoch_reclaim_all(&r->ks->epoch);
    run_free(r);
}

struct walker {
    const struct snapshot *snapshot;
    const struct text *wanted;
};

static void *walk(void *arg)
{
    const struct walker *w = arg;
    mem_thread_begin();
    for (int i = 0; i < 5; i++)
        assert_picture(frozen_stream(w->snapshot), w->wanted);
    mem_thread_end();
    return NULL;
}

/* Another thread reads what is frozen, while the stream is changed. */
static void a_thread_reads_what_is_frozen(void **state)
{
    (void)state;
    struct run *r = run_new(true);
    for (int round = 0; round < 5; round++) {
        struct text wanted = {0};
        for (int i = 0; i < 200; i++)
            step(r);
        picture_of_model(&wanted, &r->m);
        struct walker w = {snapshot_begin(r->ks), &wanted};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, walk, &w), 0);
        keyref_find(&r->ref, &r->ks->dbs[0], SLICE("x"), key_hash(SLICE("x")));
        for (int i = 0; i < 300; i++)
            step(r);
        pthread_join(thread, NULL);
        snapshot_end(r->ks, (struct snapshot *)(uintptr_t)w.snapshot);
        text_free(&wanted);
    }
    run_free(r);
}

/* Nodes from outside: every byte changed in every way is refused, or is a node that can be read. */
static void damaged_nodes_are_refused(void **state)
{
    (void)state;
    static char buf[8][1500], lp[8000];
    struct slice pairs[8];
    struct stream_id last = {0, 0}, master = {5, 5};
    size_t count = fields_of(0, pairs, buf), accepted = 0;
    stream_node_init(lp, pairs, count);
    for (size_t n = 0; n < 6; n++) {
        count = fields_of(n, pairs, buf);
        stream_node_append(lp, master, (struct stream_id){5 + n * 100, 5}, pairs, count);
    }
    size_t size = listpack_size(lp);
    assert_true(stream_node_check(lp, size, master, &last));
    assert_true(last.ms == 505 && last.seq == 5);
    for (size_t at = 0; at < size; at++) {
        for (int bit = 0; bit < 8; bit++) {
            /* of the very size, so that a sanitizer sees a read behind */
            char *bytes = mem_alloc(size);
            memcpy(bytes, lp, size);
            bytes[at] = (char)(bytes[at] ^ 1 << bit);
            struct stream_node node = {bytes, master};
            struct stream_item item;
            struct stream_pair pair;
            bool sound = stream_node_check(bytes, size, master, &last);
            accepted += sound;
            for (bool more = sound && stream_node_first(&node, &item); more;
                 more = stream_node_next(&node, &item)) {
                struct stream_item copy = item;
                for (uint64_t i = 0; i < item.fields; i++)
                    stream_item_pair(&copy, &pair);
            }
            mem_free(bytes);
        }
    }
    assert_true(accepted > 0 && accepted < size * 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(streams_are_like_arrays),
        cmocka_unit_test(snapshots_keep_their_streams),
        cmocka_unit_test(a_thread_reads_what_is_frozen),
        cmocka_unit_test(damaged_nodes_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
