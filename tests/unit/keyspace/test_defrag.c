/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Two keyspaces get the same random changes of all types. In one of them everything moves all the
 * time: they must stay equal, whatever was under way. Under ASan each move is a new block and an
 * end of the old one, so that whoever still knows the old address is found.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "keyspace/defrag.h"
#include "type/digest.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/stream.h"
#include "type/string.h"
#include "type/zset.h"
#include "unit/random.h"

#define DBS 2
#define KEYS 40
#define FAR_MS 4102444800000
#define BYTES_MAX 30000

static char noise[BYTES_MAX + 4096];
static int64_t fake_us;

static int setup(void **state)
{
    (void)state;
    random_begin();
    for (size_t i = 0; i < sizeof(noise); i++)
        noise[i] = (char)random_bits();
    return 0;
}

static int64_t fake_clock_us(void)
{
    return fake_us += 40;
}

static struct slice some_bytes(size_t most)
{
    return slice_of(noise + random_below(4096), random_below(most + 1));
}

/* Mostly short, now and then so long that it has a block of its own. */
static struct slice member_of(uint64_t number, char buf[600])
{
    int n = sprintf(buf, "member %llu", (unsigned long long)number);
    size_t more = number % 11 == 0 ? 200 + number % 300 : number % 20;
    memset(buf + n, 'm', more);
    return slice_of(buf, (size_t)n + more);
}

static void change_string(struct keyref *ref)
{
    if (ref->entry && random_below(3) == 0)
        string_append(ref, some_bytes(300));
    else if (ref->entry && random_below(3) == 0)
        string_write(ref, random_below(BYTES_MAX), some_bytes(5000));
    else
        string_set(ref, some_bytes(random_below(3) ? 100 : BYTES_MAX), ENTRY_NO_EXPIRY);
}

static void change_list(struct keyref *ref)
{
    struct slice items[40];
    size_t count = 1 + random_below(40);
    for (size_t i = 0; i < count; i++)
        items[i] = some_bytes(random_below(10) ? 40 : 600);
    enum list_end end = random_below(2) ? LIST_HEAD : LIST_TAIL;
    if (!ref->entry || random_below(3))
        list_push(ref, end, items, count);
    else
        list_pop(ref, end, random_below(60), NULL, NULL);
}

static void change_set(struct keyref *ref, bool grow)
{
    char buf[600];
    for (int i = 0; i < 60 && (i == 0 || ref->entry); i++) {
        struct slice member = member_of(random_below(2000), buf);
        if (!ref->entry || grow)
            set_add(ref, member);
        else
            set_remove(ref, member);
    }
}

static void change_hash(struct keyref *ref, bool grow)
{
    char buf[600];
    for (int i = 0; i < 60 && (i == 0 || ref->entry); i++) {
        struct slice field = member_of(random_below(2000), buf);
        if (ref->entry && !grow)
            hash_delete(ref, field);
        else if (ref->entry && random_below(20) == 0)
            hash_set_timed(ref, field, some_bytes(400), FAR_MS + (int64_t)random_below(1000));
        else
            hash_set(ref, field, some_bytes(random_below(10) ? 30 : 900));
    }
}

static void change_zset(struct keyref *ref, bool grow)
{
    char buf[600];
    for (int i = 0; i < 60 && (i == 0 || ref->entry); i++) {
        struct slice member = member_of(random_below(2000), buf);
        if (ref->entry && !grow)
            zset_remove(ref, member);
        else
            zset_add(ref, member, random_below(2) ? 7 : (double)random_below(1000), 0, NULL);
    }
}

static void change_group(struct stream_root *s, struct epoch *e)
{
    static const struct slice name = {"group", 5}, consumer_name = {"consumer", 8};
    struct stream_group g;
    struct stream_consumer c;
    if (!stream_group_find(s, name, &g)) {
        stream_group_create(s, e, name, STREAM_ID_MIN, 0, &g);
        stream_consumer_create(s, e, name, &g, consumer_name, 5, &c);
    }
    assert_true(stream_consumer_find(s, &g, consumer_name, &c));
    for (int i = 0; i < 20; i++) {
        struct stream_pending p = {{random_below(3000), 0}, c.number, 7, 1};
        if (random_below(3))
            stream_pending_put(s, e, &g, &p);
        else
            stream_pending_remove(s, e, &g, p.id);
    }
}

static void change_stream(struct keyref *ref, const struct encoding_limits *limits)
{
    struct stream_root *s;
    if (ref->entry) {
        keyref_own(ref);
        s = stream_root_of(ref->entry);
    } else {
        s = stream_create(ref);
    }
    struct epoch *e = keyref_epoch(ref);
    for (int i = 0; i < 30; i++) {
        struct slice pair[2] = {some_bytes(20), some_bytes(random_below(20) ? 50 : 1000)};
        if (random_below(4))
            stream_add(s, e, limits, (struct stream_id){s->last.ms + 1, 0}, pair, 1);
        else
            stream_delete(s, e, (struct stream_id){random_below(s->last.ms + 2), 0});
    }
    if (random_below(2))
        change_group(s, e);
}

static void change_value(struct keyref *ref, uint64_t kind)
{
    enum entry_type type = ref->entry ? entry_type(ref->entry)
                                      : (enum entry_type)(kind % ENTRY_TYPE_COUNT);
    bool grow = kind >> 8 & 1;
    switch (type) {
    case ENTRY_LIST:
        change_list(ref);
        break;
    case ENTRY_SET:
        change_set(ref, grow);
        break;
    case ENTRY_ZSET:
        change_zset(ref, grow);
        break;
    case ENTRY_HASH:
        change_hash(ref, grow);
        break;
    case ENTRY_STREAM:
        change_stream(ref, &ref->db->ks->limits);
        break;
    default:
        change_string(ref);
        break;
    }
}

/* One change, which is the same for equal keyspaces in the same state of the random numbers. */
static void change(struct keyspace *ks)
{
    uint64_t what = random_below(100), k = random_below(KEYS), kind = random_bits() >> 16;
    struct db *db = &ks->dbs[random_below(DBS)];
    char name[400];
    size_t size = (size_t)sprintf(name, "key:%u", (unsigned)k);
    if (k % 7 == 0) {
        memset(name + size, '.', 300);
        size += 300;
    }
    struct keyref ref;
    keyref_find(&ref, db, slice_of(name, size), key_hash(slice_of(name, size)));
    if (what == 0)
        keyspace_swap(ks, 0, 1);
    else if (what == 1 && random_below(5) == 0)
        db_flush(db);
    else if (what < 8 && ref.entry)
        keyref_delete(&ref);
    else if (what < 12 && ref.entry)
        keyref_set_due(&ref, random_below(2) ? ENTRY_NO_EXPIRY : FAR_MS);
    else
        change_value(&ref, kind);
}

static bool check_value(void *ctx, void *item)
{
    const struct epoch *e = ctx;
    const struct entry *entry = item;
    const void *value = entry_value(entry);
    switch (entry_encoding(entry)) {
    case ENTRY_ROPE:
        rope_check(value, e);
        break;
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT:
        dict_check(value, e);
        break;
    case ENTRY_BTREE:
        btree_check(value, e, false);
        break;
    case ENTRY_ZTREE:
        zset_check(entry, e);
        break;
    case ENTRY_STREAM_TREES:
        stream_check(entry, e);
        break;
    default:
        break;
    }
    return true;
}

static void check_keyspace(const struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++) {
        bool done = false;
        table_check(&ks->dbs[i].table, &ks->epoch);
        table_walk(&ks->dbs[i].table, 0, UINT64_MAX, 0, check_value,
                   (void *)(uintptr_t)&ks->epoch, &done);
        assert_true(done);
    }
}

/* DEBUG DIGEST does not look at streams' groups, so their sizes are added. */
static uint64_t groups_of(const struct keyspace *ks)
{
    uint64_t sum = 0;
    for (int i = 0; i < ks->db_count; i++) {
        for (unsigned k = 0; k < KEYS; k++) {
            char name[400];
            size_t size = (size_t)sprintf(name, "key:%u", k);
            if (k % 7 == 0) {
                memset(name + size, '.', 300);
                size += 300;
            }
            struct slice key = slice_of(name, size);
            const struct entry *e = db_find(&ks->dbs[i], key, key_hash(key));
            if (!e || entry_type(e) != ENTRY_STREAM)
                continue;
            const struct stream_root *s = stream_root_of(e);
            sum =
                sum * 31 + s->groups.count * 5 + s->pending.count * 3 + s->owned.count + s->length;
        }
    }
    return sum;
}

static void assert_equal_keyspaces(const struct keyspace *a, const struct keyspace *b)
{
    struct digest of_a = {{0}}, of_b = {{0}};
    digest_keyspace(&of_a, a);
    digest_keyspace(&of_b, b);
    assert_memory_equal(of_a.bytes, of_b.bytes, DIGEST_SIZE);
    assert_int_equal(groups_of(a), groups_of(b));
}

static struct keyspace *make_keyspace(bool with_reclaimer)
{
    struct keyspace *ks = keyspace_new(DBS, with_reclaimer);
    ks->now_ms = 1000000;
    return ks;
}

/* Steps of all lengths, between changes of all kinds and with snapshots coming and going, of a
 * keyspace that must stay equal to one that nothing moves in, and as sound; and of each snapshot
 * what it was. */
static void run(bool with_reclaimer, int steps)
{
    struct keyspace *moved = make_keyspace(with_reclaimer), *still = make_keyspace(with_reclaimer);
    struct defrag *d = defrag_new(moved);
    struct snapshot *snapshot = NULL;
    uint64_t rests = 0, dones = 0;
    mem_move_everything(true);
    for (int i = 0; i < steps; i++) {
        uint64_t before = random_state;
        change(still);
        uint64_t after = random_state;
        random_state = before;
        change(moved);
        assert_true(random_state == after);
        for (uint64_t n = random_below(3); n > 0; n--) {
            enum defrag_result result =
                defrag_step(d, (int64_t)random_below(1500), fake_clock_us, 1 + random_below(50));
            assert_int_equal(result == DEFRAG_RESTS, snapshot != NULL);
            rests += result == DEFRAG_RESTS;
            dones += result == DEFRAG_DONE;
        }
        if (random_below(100) == 0) {
            if (snapshot)
                snapshot_end(moved, snapshot);
            snapshot = snapshot ? NULL : snapshot_begin(moved);
        }
        epoch_reclaim_step(&moved->epoch, 16);
        epoch_reclaim_step(&still->epoch, 16);
        if (i % 200 == 199) {
            check_keyspace(moved);
            assert_equal_keyspaces(moved, still);
        }
    }
    if (snapshot)
        snapshot_end(moved, snapshot);
    while (defrag_step(d, 1000, fake_clock_us, 8) == DEFRAG_MORE)
        ;
    check_keyspace(moved);
    assert_equal_keyspaces(moved, still);
    const struct defrag_stats *stats = defrag_get_stats(d);
    assert_true(dones > 0 && rests > 0);
    assert_true(stats->keys_moved > 0 && stats->blocks.moved > stats->keys_moved);
    assert_int_equal(stats->keys_stayed + stats->blocks.stayed, 0);
    mem_move_everything(false);
    defrag_free(d);
    keyspace_free(moved);
    keyspace_free(still);
}

static void test_all_types(void **state)
{
    (void)state;
    size_t before = mem_used();
    run(false, 3000);
#ifndef HF_JEMALLOC
    assert_int_equal(mem_used(), before); /* it counts what the C library keeps, too */
#endif
    (void)before;
    run(true, 3000);
}

/* A pass meets each block of each key once while nothing changes, in steps as short as there may
 * be. */
static void test_each_block_once(void **state)
{
    (void)state;
    struct keyspace *ks = make_keyspace(false);
    for (int i = 0; i < 1500; i++)
        change(ks);
    struct defrag *d = defrag_new(ks);
    mem_move_everything(true);
    while (defrag_step(d, INT64_MAX / 2, fake_clock_us, 1000) != DEFRAG_DONE)
        ;
    struct defrag_stats whole = *defrag_get_stats(d);
    defrag_reset_stats(d);
    while (defrag_step(d, 0, fake_clock_us, 1) != DEFRAG_DONE)
        ;
    const struct defrag_stats *steps = defrag_get_stats(d);
    assert_int_equal(steps->blocks.moved, whole.blocks.moved);
    assert_int_equal(steps->keys_moved, whole.keys_moved);
    assert_int_equal(steps->keys_moved, ks->dbs[0].table.count + ks->dbs[1].table.count);
    mem_move_everything(false);
    defrag_free(d);
    keyspace_free(ks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_types),
                                       cmocka_unit_test(test_each_block_once)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
