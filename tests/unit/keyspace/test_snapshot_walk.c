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
#include "type/string.h"

#define KEYS 6000

static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

/* A sum over all keys and values, in any order. */
static bool add_item(void *ctx, void *item)
{
    uint64_t *sum = ctx;
    char text[NUMBER_INT64_SIZE], *heap = NULL;
    uint64_t words[3] = {key_hash(entry_key(item)), (uint64_t)entry_due(item), 0};
    if (entry_type(item) == ENTRY_STRING) {
        struct slice value = string_flat(item, text, &heap);
        words[2] = hash_bytes(value.data, value.size);
        mem_free(heap);
    } else {
        struct member_iter it;
        struct dict_item field;
        member_iter_init(&it, item);
        while (member_iter_next(&it, &field))
            words[2] += hash_bytes(field.key.data, field.key.size) *
                        hash_bytes(field.value.data, field.value.size);
    }
    *sum += hash_bytes(words, sizeof(words));
    return true;
}

static uint64_t digest(const struct table *t)
{
    uint64_t sum = 0;
    bool done;
    table_walk(t, 0, UINT64_MAX, 0, add_item, &sum, &done);
    return sum;
}

static void write_something(struct keyspace *ks)
{
    char name[32], bytes[6000];
    int n = snprintf(name, sizeof(name), "key:%d", (int)(next_random() % KEYS));
    struct slice key = slice_of(name, (size_t)n);
    struct keyref ref;
    keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
    uint64_t r = next_random();
    size_t size = r >> 8 & 63;
    if ((r & 255) == 0)
        size = 5000; /* a rope */
    memset(bytes, (int)('a' + (r >> 16) % 26), size);
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
        if (ref.entry && entry_type(ref.entry) != ENTRY_HASH)
            keyref_delete(&ref);
        for (int i = 0; i < (r >> 32 & 255 ? 5 : 200); i++) {
            char field[16];
            int f = snprintf(field, sizeof(field), "f%d", (int)(next_random() % 300));
            hash_set(&ref, slice_of(field, (size_t)f), slice_of(bytes, size & 31));
        }
        break;
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

struct walk {
    struct snapshot *snapshot;
    uint64_t sum;
};

/* As the saver does it: segment by segment, telling how far it has come. */
static void *walker(void *arg)
{
    struct walk *w = arg;
    mem_thread_begin();
    bool done = false;
    uint64_t next = 0;
    while (!done) {
        next = table_walk(&w->snapshot->dbs[0].table, next, UINT64_MAX, 1, add_item, &w->sum, &done);
        snapshot_note_walked(w->snapshot, 0, next);
    }
    mem_thread_end();
    return NULL;
}

/* A walk that tells how far it has come still reads everything as it was, while keys in front of it
 * and behind it are written, also when other snapshots come and go; and at the end nothing is left. */
static void test_walk_under_writes(void **state)
{
    (void)state;
    size_t before = 0;
    for (int round = 0; round < 12; round++) {
        if (round == 1)
            before = mem_used();
        struct keyspace *ks = keyspace_new(1, true);
        for (int i = 0; i < KEYS * 2; i++)
            write_something(ks);
        for (int i = 0; i < 3; i++) {
            struct walk w = {.snapshot = snapshot_begin(ks)};
            uint64_t expected = digest(&ks->dbs[0].table);
            pthread_t thread;
            assert_int_equal(pthread_create(&thread, NULL, walker, &w), 0);
            struct snapshot *second = NULL;
            uint64_t second_digest = 0;
            for (int k = 0; k < 3000; k++) {
                write_something(ks);
                if (i == 1 && k == 700) {
                    second = snapshot_begin(ks);
                    second_digest = digest(&ks->dbs[0].table);
                }
                if (i == 2 && k == 1500)
                    db_flush(&ks->dbs[0]);
                if (k % 64 == 0)
                    epoch_reclaim_step(&ks->epoch, 100);
            }
            pthread_join(thread, NULL);
            assert_true(w.sum == expected);
            for (int k = 0; k < 500; k++)
                write_something(ks);
            table_check(&ks->dbs[0].table, &ks->epoch);
            snapshot_end(ks, w.snapshot);
            for (int k = 0; k < 500; k++)
                write_something(ks);
            if (second) {
                assert_true(digest(&second->dbs[0].table) == second_digest);
                snapshot_end(ks, second);
            }
        }
        epoch_reclaim_all(&ks->epoch);
        assert_int_equal(epoch_pending_count(&ks->epoch), 0);
        keyspace_free(ks);
    }
    /* The C library's own per-thread memory stays within this. */
    assert_true(mem_used() <= before + 65536);
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    fprintf(stderr, "HF_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk_under_writes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
