/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What has changed since a mark, against copies of what was there: random writes, marks, snapshots.
 */
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
#include "type/string.h"

#define KEYS 3000
#define DBS 2

static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

/* What a keyspace holds: of each key a hash of all that a file would have of it; 0: not there. */
struct content {
    uint64_t of[DBS][KEYS];
};

struct filling {
    uint64_t *of;
    uint64_t count;
};

static unsigned key_number(struct slice key)
{
    char text[16];
    snprintf(text, sizeof(text), "%.*s", (int)key.size, key.data);
    return (unsigned)strtoul(text + 4, NULL, 10);
}

static bool fill_item(void *ctx, void *item)
{
    struct filling *f = ctx;
    char text[NUMBER_INT64_SIZE], *heap = NULL;
    uint64_t words[2] = {(uint64_t)entry_due(item), 1};
    if (entry_type(item) == ENTRY_STRING) {
        struct slice value = string_flat(item, text, &heap);
        words[1] = hash_bytes(value.data, value.size);
        mem_free(heap);
    } else {
        struct member_iter it;
        struct dict_item field;
        member_iter_init(&it, item);
        while (member_iter_next(&it, &field))
            words[1] += hash_bytes(field.key.data, field.key.size) *
                        hash_bytes(field.value.data, field.value.size);
    }
    f->of[key_number(entry_key(item))] = hash_bytes(words, sizeof(words)) | 1;
    f->count++;
    return true;
}

static void content_of(struct content *c, const struct snapshot *s)
{
    memset(c, 0, sizeof(*c));
    for (int d = 0; d < DBS; d++) {
        bool done;
        struct filling f = {c->of[d], 0};
        table_walk(&s->dbs[d].table, 0, UINT64_MAX, 0, fill_item, &f, &done);
    }
}

struct deleting {
    uint64_t *of;
    uint64_t count;
    bool wrong;
};

/* Only what was there is told as deleted, and only once. */
static bool delete_key(void *ctx, struct slice key)
{
    struct deleting *d = ctx;
    uint64_t *of = &d->of[key_number(key)];
    d->wrong |= *of == 0;
    *of = 0;
    d->count++;
    return true;
}

/* What a delta does. Returns how many keys it has, changed and deleted. */
static uint64_t apply_delta(struct content *c, const struct snapshot *s, int mark, uint64_t since)
{
    uint64_t count = 0;
    static struct content was;
    was = *c;
    for (int d = 0; d < DBS; d++)
        memcpy(c->of[d], was.of[s->dbs[d].changes[mark].origin], sizeof(c->of[d]));
    for (int d = 0; d < DBS; d++) {
        if (s->dbs[d].changes[mark].emptied)
            memset(c->of[d], 0, sizeof(c->of[d]));
        struct deleting deleting = {c->of[d], 0, false};
        assert_true(snapshot_deleted(s, d, mark, delete_key, &deleting));
        assert_false(deleting.wrong);
        bool done;
        struct filling f = {c->of[d], 0};
        table_walk_changed(&s->dbs[d].table, (unsigned)mark, since, 0, UINT64_MAX, 0, fill_item, &f,
                           &done);
        assert_true(done);
        count += f.count + deleting.count;
    }
    return count;
}

static uint64_t writes; /* keys named by writes */

static void write_something(struct keyspace *ks, unsigned first, unsigned keys)
{
    char name[32], bytes[6000];
    struct db *db = &ks->dbs[next_random() % DBS];
    int n = snprintf(name, sizeof(name), "key:%u", first + (unsigned)(next_random() % keys));
    struct slice key = slice_of(name, (size_t)n);
    struct keyref ref;
    keyref_find(&ref, db, key, key_hash(key));
    uint64_t r = next_random();
    size_t size = r >> 8 & 63;
    if ((r & 255) == 0)
        size = 5000; /* a rope */
    memset(bytes, (int)('a' + (r >> 16) % 26), size);
    writes += 2;
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
        if (ref.entry && entry_type(ref.entry) != ENTRY_HASH)
            keyref_delete(&ref);
        for (int i = 0; i < (r >> 32 & 255 ? 5 : 200); i++) {
            char field[16];
            int f = snprintf(field, sizeof(field), "f%d", (int)(next_random() % 300));
            hash_set(&ref, slice_of(field, (size_t)f), slice_of(bytes, size & 31));
        }
        break;
    case 3: {
        /* RENAME or MOVE. */
        char other[32];
        struct db *to_db = &ks->dbs[next_random() % DBS];
        int m = snprintf(other, sizeof(other), "key:%u", first + (unsigned)(next_random() % keys));
        struct slice to_key = slice_of(other, (size_t)m);
        if (!ref.entry || (to_db == db && slice_equal(to_key, key)))
            break;
        struct keyref to;
        keyref_find(&to, to_db, to_key, key_hash(to_key));
        if (to.entry)
            keyref_delete(&to);
        keyref_give(&to, keyref_take(&ref));
        break;
    }
    case 4:
        if (ref.entry && entry_type(ref.entry) == ENTRY_STRING) {
            string_append(&ref, slice_of(bytes, size));
            break;
        }
        /* fall through */
    default:
        string_set(&ref, slice_of(bytes, size), ENTRY_NO_EXPIRY);
    }
}

/* A full walk of the only snapshot, as a save does it: what lies behind it is taken over in
 * place. */
static void walk_under_writes(struct keyspace *ks, unsigned keys)
{
    static struct content before, seen;
    struct snapshot *s = snapshot_begin(ks);
    content_of(&before, s);
    memset(&seen, 0, sizeof(seen));
    for (int d = 0; d < DBS; d++) {
        for (uint32_t part = 0; part < EPOCH_PARTS; part++) {
            uint64_t first = (uint64_t)part << (64 - EPOCH_PART_BITS);
            uint64_t last = first | UINT64_MAX >> EPOCH_PART_BITS;
            struct filling f = {seen.of[d], 0};
            bool done;
            table_walk(&s->dbs[d].table, first, last, 0, fill_item, &f, &done);
            assert_true(done);
            snapshot_note_done(s, d, part, part);
            for (int i = 0; i < 3; i++)
                write_something(ks, 0, keys);
        }
    }
    assert_memory_equal(&before, &seen, sizeof(seen));
    snapshot_end(ks, s);
}

struct reader {
    struct snapshot *snapshot;
    struct content content;
    int mark;
    uint64_t since, count;
};

static void *reader_main(void *arg)
{
    struct reader *r = arg;
    mem_thread_begin();
    r->count = apply_delta(&r->content, r->snapshot, r->mark, r->since);
    mem_thread_end();
    return NULL;
}

/* A chain of deltas, each taken while writes go on, some of which fail and are taken again from the
 * mark before: the state at the base and the delta together are always the state at the snapshot,
 * and the delta names no key that was not written. */
static void test_deltas(void **state)
{
    (void)state;
    static struct reader r;
    static struct content base, now;
    for (int round = 0; round < 6; round++) {
        struct keyspace *ks = keyspace_new(DBS, true);
        for (int i = 0; i < KEYS * 2; i++)
            write_something(ks, 0, KEYS);
        struct snapshot *s = snapshot_begin(ks);
        int mark = changes_begin(ks);
        assert_true(mark >= 0);
        uint64_t since = ks->marks[mark].since;
        content_of(&base, s);
        writes = 0;
        snapshot_end(ks, s);

        struct snapshot *other = NULL; /* another one, live all the while now and then */
        for (int step = 0; step < 8; step++) {
            unsigned few = next_random() % 2 ? 40 : KEYS;
            for (uint64_t n = next_random() % 1500; n > 0; n--)
                write_something(ks, 0, few);
            if (next_random() % 4 == 0)
                db_flush(&ks->dbs[next_random() % DBS]);
            if (next_random() % 3 == 0)
                keyspace_swap(ks, 0, (int)(next_random() % DBS));
            for (uint64_t n = next_random() % 300; n > 0; n--)
                write_something(ks, 0, few);
            if (!other && next_random() % 2)
                walk_under_writes(ks, few);
            if (other) {
                snapshot_end(ks, other);
                other = NULL;
            } else if (next_random() % 2) {
                other = snapshot_begin(ks);
            }
            for (uint64_t n = next_random() % 300; n > 0; n--)
                write_something(ks, 0, few);

            assert_null(changes_lost(ks, mark));
            r.snapshot = snapshot_begin(ks);
            r.since = since;
            r.mark = snapshot_mark_of(r.snapshot, since);
            assert_int_equal(r.mark, mark);
            r.content = base;
            int next = changes_begin(ks);
            assert_true(next >= 0 && next != mark);
            assert_int_equal(changes_begin(ks), -1);
            content_of(&now, r.snapshot);
            uint64_t most = writes;
            uint64_t next_since = ks->marks[next].since;
            pthread_t thread;
            assert_int_equal(pthread_create(&thread, NULL, reader_main, &r), 0);
            uint64_t before = writes;
            for (int k = 0; k < 800; k++)
                write_something(ks, 0, few);
            if (next_random() % 4 == 0)
                db_flush(&ks->dbs[0]);
            if (next_random() % 4 == 0)
                keyspace_swap(ks, 0, 1);
            pthread_join(thread, NULL);
            assert_memory_equal(&r.content, &now, sizeof(now));
            assert_true(r.count <= most);
            snapshot_end(ks, r.snapshot);
            table_check(&ks->dbs[0].table, &ks->epoch);
            if (next_random() % 3 == 0) {
                changes_end(ks, next); /* it failed */
                continue;
            }
            changes_end(ks, mark);
            mark = next;
            since = next_since;
            base = now;
            writes -= before;
        }
        if (other)
            snapshot_end(ks, other);
        changes_end(ks, mark);
        assert_int_equal(ks->epoch.marked, 0);
        keyspace_free(ks);
    }
}

/* With no mark and with one where nothing is written, nothing has changed; a key that is only read
 * or touched has not. */
static void test_nothing(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(DBS, false);
    for (int i = 0; i < KEYS; i++)
        write_something(ks, 0, KEYS);
    struct snapshot *s = snapshot_begin(ks);
    uint64_t since = ks->marks[changes_begin(ks)].since;
    assert_int_equal(snapshot_mark_of(s, since), -1);
    assert_int_equal(snapshot_mark_of(s, 0), -1);
    snapshot_end(ks, s);
    ks->lru_clock += 1000;
    for (int i = 0; i < KEYS; i++) {
        char name[32];
        int n = snprintf(name, sizeof(name), "key:%d", i);
        struct entry *e = db_find(&ks->dbs[0], slice_of(name, (size_t)n),
                                  hash_bytes(name, (size_t)n));
        if (e)
            entry_touch(ks, e);
    }
    s = snapshot_begin(ks);
    static struct content c;
    content_of(&c, s);
    assert_int_equal(apply_delta(&c, s, snapshot_mark_of(s, since), since), 0);
    snapshot_end(ks, s);
    keyspace_free(ks);
}

/* Swapped databases and too many deleted keys: the mark is lost, with the reason, and what a
 * snapshot taken before then knows can still be read. */
static void test_lost(void **state)
{
    (void)state;
    struct keyspace *ks = keyspace_new(DBS, false);
    char name[32];
    for (int i = 0; i < 20000; i++) {
        int n = snprintf(name, sizeof(name), "key:%d", i);
        struct keyref ref;
        keyref_find(&ref, &ks->dbs[0], slice_of(name, (size_t)n), hash_bytes(name, (size_t)n));
        string_set(&ref, SLICE("value"), ENTRY_NO_EXPIRY);
    }
    struct snapshot *s = snapshot_begin(ks), *between = NULL;
    int mark = changes_begin(ks);
    uint64_t since = ks->marks[mark].since;
    snapshot_end(ks, s);
    for (int i = 0; i < 6000; i++) {
        int n = snprintf(name, sizeof(name), "key:%d", i);
        struct keyref ref;
        keyref_find(&ref, &ks->dbs[0], slice_of(name, (size_t)n), hash_bytes(name, (size_t)n));
        keyref_delete(&ref);
        if (i == 1999)
            between = snapshot_begin(ks);
        assert_int_equal(changes_lost(ks, mark) != NULL, i >= 5000);
    }
    s = snapshot_begin(ks);
    assert_int_equal(snapshot_mark_of(s, since), -1);
    snapshot_end(ks, s);
    assert_int_equal(snapshot_mark_of(between, since), mark);
    static uint64_t there[20000];
    memset(there, 1, sizeof(there));
    struct deleting d = {there, 0, false};
    assert_true(snapshot_deleted(between, 0, mark, delete_key, &d));
    assert_int_equal(d.count, 2000);
    assert_false(d.wrong);
    snapshot_end(ks, between);
    changes_end(ks, mark);

    /* Swapping is told, and loses nothing. */
    mark = changes_begin(ks);
    keyspace_swap(ks, 0, 1);
    assert_null(changes_lost(ks, mark));
    assert_int_equal(ks->dbs[0].changes[mark].origin, 1);
    keyspace_swap(ks, 0, 1);
    assert_int_equal(ks->dbs[0].changes[mark].origin, 0);
    keyspace_free(ks);
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    fprintf(stderr, "HF_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_deltas),
                                       cmocka_unit_test(test_nothing), cmocka_unit_test(test_lost)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
