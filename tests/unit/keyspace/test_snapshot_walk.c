/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "keyspace/keyspace.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/string.h"
#include "type/zset.h"

#define KEYS 6000
#define DBS 2

static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static void mix(uint64_t *sum, uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t words[3] = {a, b, c};
    *sum += hash_bytes(words, sizeof(words));
}

static uint64_t hash_of(struct slice s)
{
    return hash_bytes(s.data, s.size);
}

static uint64_t value_digest(const void *item)
{
    char text[NUMBER_INT64_SIZE], *heap = NULL;
    uint64_t sum = 0, n = 0;
    switch (entry_type(item)) {
    case ENTRY_STRING:
        sum = hash_of(string_flat(item, text, &heap));
        mem_free(heap);
        break;
    case ENTRY_LIST: {
        struct list_iter it;
        struct slice element;
        list_iter_init(&it, item, 0, false);
        while (list_iter_next(&it, &element))
            mix(&sum, n++, hash_of(element), 1);
        break;
    }
    case ENTRY_ZSET: {
        struct zset_iter it;
        struct zset_item element;
        zset_iter_init(&it, item, 0, false);
        while (zset_iter_next(&it, &element))
            mix(&sum, n++, hash_of(element.member), (uint64_t)(int64_t)element.score);
        break;
    }
    default: {
        struct member_iter it;
        struct dict_item field;
        member_iter_init(&it, item);
        while (member_iter_next(&it, &field))
            mix(&sum, hash_of(field.key), hash_of(field.value), 2);
    }
    }
    return sum;
}

/* A sum over all keys and values, in any order. */
static bool add_item(void *ctx, void *item)
{
    mix(ctx, key_hash(entry_key(item)), (uint64_t)entry_due(item), value_digest(item));
    return true;
}

static uint64_t digest(const struct table *t)
{
    uint64_t sum = 0;
    bool done;
    table_walk(t, 0, UINT64_MAX, 0, add_item, &sum, &done);
    return sum;
}

/* Few keys are drawn often: these become large. */
static struct slice random_key(char name[32])
{
    uint64_t r = next_random();
    int n = snprintf(name, 32, "key:%d", (int)(r & 7 ? r >> 8 & 31 : r >> 8) % KEYS);
    return slice_of(name, (size_t)n);
}

static void want_type(struct keyref *ref, enum entry_type type)
{
    if (ref->entry && entry_type(ref->entry) != type)
        keyref_delete(ref);
}

static void rename_key(struct keyref *from, struct db *to_db)
{
    char name[32];
    struct keyref to;
    struct slice key = random_key(name);
    if (slice_equal(key, from->key) && from->db == to_db)
        return;
    keyref_find(&to, to_db, key, key_hash(key));
    if (to.entry)
        keyref_delete(&to);
    keyref_give(&to, keyref_take(from));
}

static void write_collection(struct keyref *ref, uint64_t r, struct slice bytes)
{
    char field[16];
    int many = r >> 32 & 127 ? 5 : 400;
    enum entry_type type = r >> 44 & 1 ? ENTRY_HASH : r >> 45 & 1 ? ENTRY_LIST : ENTRY_ZSET;
    want_type(ref, type);
    for (int i = 0; i < many; i++) {
        int f = snprintf(field, sizeof(field), "f%d", (int)(next_random() % 600));
        struct slice member = slice_of(field, (size_t)f);
        double score = (double)(next_random() % 1000);
        if (type == ENTRY_HASH)
            hash_set(ref, member, bytes);
        else if (type == ENTRY_LIST)
            list_push(ref, next_random() & 1 ? LIST_HEAD : LIST_TAIL, &bytes, 1);
        else
            zset_add(ref, member, score, 0, NULL);
    }
}

static void write_something(struct keyspace *ks)
{
    char name[32], bytes[6000];
    struct db *db = &ks->dbs[next_random() % DBS];
    struct slice key = random_key(name);
    struct keyref ref;
    keyref_find(&ref, db, key, key_hash(key));
    uint64_t r = next_random();
    size_t size = r >> 8 & 63;
    if ((r & 255) == 0)
        size = 5000; /* a rope */
    memset(bytes, (int)('a' + (r >> 16) % 26), sizeof(bytes));
    switch (r >> 24 & 7) {
    case 0:
        if (ref.entry)
            keyref_delete(&ref);
        break;
    case 1:
        if (ref.entry)
            keyref_set_due(&ref, (int64_t)(r >> 40) + 1);
        break;
    case 2:
    case 3:
        write_collection(&ref, r, slice_of(bytes, size & 31));
        break;
    case 4:
        if (ref.entry && entry_type(ref.entry) == ENTRY_STRING) {
            string_append(&ref, slice_of(bytes, size));
            break;
        }
        /* fall through */
    case 5:
        if (ref.entry && r >> 40 & 1) {
            rename_key(&ref, &ks->dbs[r >> 41 & 1]);
            break;
        }
        /* fall through */
    default:
        if ((r >> 48 & 1023) == 0)
            keyspace_swap(ks, 0, 1);
        else
            string_set(&ref, slice_of(bytes, size), ENTRY_NO_EXPIRY);
    }
}

/* A snapshot that several threads read: each takes the next range of parts, in an order of its own,
 * and tells when it is done with it. */
#define RANGES 16
#define RANGE_PARTS (EPOCH_PARTS / RANGES)

struct reading {
    struct snapshot *snapshot;
    uint64_t expected[DBS];
    uint64_t sums[DBS]; /* atomic */
    uint32_t next;      /* atomic */
    uint32_t order[DBS * RANGES];
    pthread_t threads[2];
};

static void *reader(void *arg)
{
    struct reading *r = arg;
    mem_thread_begin();
    for (;;) {
        uint32_t n = __atomic_fetch_add(&r->next, 1, __ATOMIC_RELAXED);
        if (n >= DBS * RANGES)
            break;
        int db = (int)(r->order[n] / RANGES);
        uint32_t part = r->order[n] % RANGES * RANGE_PARTS, last_part = part + RANGE_PARTS - 1;
        uint64_t first = (uint64_t)part << (64 - EPOCH_PART_BITS), sum = 0;
        uint64_t last =
            (uint64_t)last_part << (64 - EPOCH_PART_BITS) | UINT64_MAX >> EPOCH_PART_BITS;
        bool done = false;
        while (!done)
            first = table_walk(&r->snapshot->dbs[db].table, first, last, 1, add_item, &sum, &done);
        __atomic_fetch_add(&r->sums[db], sum, __ATOMIC_RELAXED);
        snapshot_note_done(r->snapshot, db, part, last_part);
    }
    mem_thread_end();
    return NULL;
}

static struct reading *begin_reading(struct keyspace *ks)
{
    struct reading *r = mem_zalloc(sizeof(*r));
    r->snapshot = snapshot_begin(ks);
    for (int db = 0; db < DBS; db++)
        r->expected[db] = digest(&ks->dbs[db].table);
    for (uint32_t i = 0; i < DBS * RANGES; i++) {
        uint32_t j = (uint32_t)(next_random() % (i + 1));
        r->order[i] = r->order[j];
        r->order[j] = i;
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&r->threads[i], NULL, reader, r), 0);
    return r;
}

static void end_reading(struct keyspace *ks, struct reading *r, int join)
{
    for (int i = 0; join && i < 2; i++)
        pthread_join(r->threads[i], NULL);
    for (int db = 0; db < DBS; db++)
        assert_true(r->sums[db] == r->expected[db]);
    snapshot_end(ks, r->snapshot);
    mem_free(r);
}

/* Several snapshots are taken and released at random, each read by two threads in an order of its
 * own, while keys in front of them and behind them are written, renamed, moved, and databases
 * swapped and emptied. Each is read as it was when it was taken, and at the end nothing is left. */
static void test_walk_under_writes(void **state)
{
    (void)state;
    enum { LIVE = 3 };
    size_t before = 0;
    for (int round = 0; round < 5; round++) {
        if (round == 1)
            before = mem_used();
        struct keyspace *ks = keyspace_new(DBS, true);
        struct reading *live[LIVE] = {NULL};
        for (int i = 0; i < KEYS * 2; i++)
            write_something(ks);
        for (int k = 0; k < 6000; k++) {
            write_something(ks);
            if (k % 300 == 0) {
                size_t i = next_random() % LIVE;
                if (live[i])
                    end_reading(ks, live[i], 1);
                live[i] = next_random() % 4 ? begin_reading(ks) : NULL;
            }
            if (k == 4000)
                db_flush(&ks->dbs[next_random() % DBS]);
            if (k % 64 == 0)
                epoch_reclaim_step(&ks->epoch, 100);
        }
        for (int i = 0; i < LIVE; i++) {
            if (live[i])
                end_reading(ks, live[i], 1);
        }
        for (int db = 0; db < DBS; db++)
            table_check(&ks->dbs[db].table, &ks->epoch);
        epoch_reclaim_all(&ks->epoch);
        assert_int_equal(epoch_pending_count(&ks->epoch), 0);
        keyspace_free(ks);
    }
    /* The C library's own per-thread memory stays within this. */
    assert_true(mem_used() <= before + 65536);
}

/* What is held falls as a walk proceeds, whatever was written before and whatever is written behind
 * it: of a walk that has passed half of the parts half is left, and at its end next to nothing. The
 * writes behind it copy nothing. */
static void test_held_memory_falls(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(DBS, false);
    for (int i = 0; i < KEYS * 4; i++)
        write_something(ks);
    struct snapshot *s = snapshot_begin(ks);
    uint64_t frozen[DBS];
    const struct table tables[DBS] = {s->dbs[0].table, s->dbs[1].table};
    for (int db = 0; db < DBS; db++)
        frozen[db] = digest(&tables[db]);
    for (int db = 0; db < DBS; db++) {
        for (int i = 0; i < KEYS; i++) {
            char name[32];
            int n = snprintf(name, sizeof(name), "key:%d", i);
            struct slice key = slice_of(name, (size_t)n);
            struct keyref ref;
            keyref_find(&ref, &ks->dbs[db], key, key_hash(key));
            string_set(&ref, SLICE("overwritten"), ENTRY_NO_EXPIRY);
        }
    }
    for (int db = 0; db < DBS; db++)
        assert_true(digest(&tables[db]) == frozen[db]);
    size_t all = epoch_snapshot_held_bytes(s->epoch), most = 0;
    assert_true(all > 100000);
    for (int db = 0; db < DBS; db++) {
        for (uint32_t part = 0; part < EPOCH_PARTS; part += 64) {
            snapshot_note_done(s, db, part, part + 63);
            epoch_reclaim_all(&ks->epoch);
            size_t held = epoch_snapshot_held_bytes(s->epoch);
            assert_true(held < all);
            if (db == 0 && part == EPOCH_PARTS - 64)
                most = held;
        }
    }
    /* The first database was half of it. What is left at the end are pages, and segments that are
     * so large, as there are so few keys, that they lie in more than one part. */
    assert_true(most < all * 3 / 4);
    size_t left = epoch_snapshot_held_bytes(s->epoch);
    assert_true(left < all / 4);
    for (int i = 0; i < KEYS; i++)
        write_something(ks);
    assert_true(epoch_snapshot_held_bytes(s->epoch) <= left + 65536);
    snapshot_end(ks, s);
    epoch_reclaim_all(&ks->epoch);
    assert_int_equal(epoch_pending_count(&ks->epoch), 0);
    keyspace_free(ks);
}

/* A sorted set of a million members under write: each write copies a few nodes, whatever the set's
 * size, and nothing once the snapshot is done with its part. */
static void test_large_value(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(DBS, false);
    struct zset_builder b;
    struct keyref ref;
    struct slice key = SLICE("big");
    char member[32];
    enum { MEMBERS = 1000000 };
    zset_builder_init(&b, &ks->epoch, &ks->limits);
    for (int i = 0; i < MEMBERS; i++) {
        int n = snprintf(member, sizeof(member), "member:%07d", i);
        zset_builder_add(&b, slice_of(member, (size_t)n), i);
    }
    db_insert(&ks->dbs[0], key_hash(key), zset_builder_finish(&b, key, ENTRY_NO_EXPIRY));
    struct snapshot *s = snapshot_begin(ks);
    size_t most = 0;
    for (int i = 0; i < 2000; i++) {
        size_t before = epoch_snapshot_held_bytes(s->epoch);
        if (i == 1000)
            snapshot_note_done(s, 0, 0, EPOCH_PARTS - 1);
        double score = (double)(next_random() % MEMBERS);
        int n = snprintf(member, sizeof(member), "member:%07d", (int)(next_random() % MEMBERS));
        keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
        zset_add(&ref, slice_of(member, (size_t)n), score, 0, NULL);
        size_t copied = epoch_snapshot_held_bytes(s->epoch) - before;
        if (copied > most)
            most = copied;
        if (i > 1000)
            assert_int_equal(copied, 0);
    }
    print_message("most copied by one write: %zu bytes\n", most);
    assert_true(most > 1000 && most < 64 * 1024);
    snapshot_end(ks, s);
    keyspace_free(ks);
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    fprintf(stderr, "HF_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk_under_writes),
                                       cmocka_unit_test(test_held_memory_falls),
                                       cmocka_unit_test(test_large_value)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
