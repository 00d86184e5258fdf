/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The chain of snapshots: its manifest's text, and what is there after failures and power losses.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "os/fault.h"
#include "os/file.h"
#include "persist/chain/keeper.h"
#include "persist/load.h"
#include "persist/saver.h"
#include "type/digest.h"
#include "type/string.h"

#define KEYS 40
#define DBS 3

static char dir[64], path[128];
static struct keyspace *ks;
static struct saver *saver;
static struct chain_keeper *keeper;
static uint64_t seed;
static bool verify = true;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static void write_some(int count)
{
    for (int i = 0; i < count; i++) {
        if (next_random() % 16 == 0)
            keyspace_swap(ks, (int)(next_random() % DBS), (int)(next_random() % DBS));
        if (next_random() % 64 == 0)
            db_flush(&ks->dbs[next_random() % DBS]);
        char name[32], value[3000];
        struct keyref ref;
        int n = snprintf(name, sizeof(name), "key:%d", (int)(next_random() % KEYS));
        struct slice key = slice_of(name, (size_t)n);
        keyref_find(&ref, &ks->dbs[next_random() % DBS], key, key_hash(key));
        if (ref.entry && next_random() % 4 == 0) {
            keyref_delete(&ref);
            continue;
        }
        size_t size = next_random() % sizeof(value);
        for (size_t at = 0; at < size; at++)
            value[at] = (char)next_random();
        string_set(&ref, slice_of(value, size), ENTRY_NO_EXPIRY);
    }
}

static struct digest digest_now(void)
{
    struct digest d = {0};
    digest_keyspace(&d, ks);
    return d;
}

static bool same(const struct digest *a, const struct digest *b)
{
    return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

static struct save_options options(void)
{
    struct save_options o = {
        .version = RDB_VERSION_DEFAULT, .checksum = true, .verify = verify, .threads = 2};
    snprintf(o.path, sizeof(o.path), "%s", path);
    return o;
}

static bool take_full(void)
{
    struct save_options o = options();
    struct saver_status status;
    struct error err;
    chain_keeper_full_begins(keeper, &o, 100);
    bool ok = saver_save(saver, &o, &err);
    saver_get_status(saver, &status);
    chain_keeper_full_ended(keeper, ok, &status.last);
    chain_keeper_wait(keeper);
    return ok;
}

static bool take_delta(void)
{
    struct save_options o = options();
    struct error err = {0};
    if (!chain_keeper_begin(keeper, &o, 200, &err))
        fail_msg("%s", err.message);
    return chain_keeper_wait(keeper);
}

/* What a server would start with. False: it would refuse. */
static bool restore(struct digest *d)
{
    struct keyspace *loaded = keyspace_new(DBS, false);
    struct rdb_load_options o = {.now_ms = 1, .checksum = true};
    struct rdb_load_stats stats = {0};
    struct chain_found found;
    struct error err = {0};
    enum chain_state state = chain_find(&found, path, &err);
    bool ok = state != CHAIN_BROKEN && load_rdb_file(loaded, path, &o, &stats, &err);
    if (ok && state == CHAIN_WHOLE)
        ok = chain_apply(&found.chain, found.whole, path, loaded, &o, &stats, &err);
    *d = (struct digest){0};
    if (ok)
        digest_keyspace(d, loaded);
    else
        fprintf(stderr, "%s\n", err.message);
    chain_free(&found.chain);
    keyspace_free(loaded);
    return ok;
}

static void begin(void)
{
    ks = keyspace_new(DBS, false);
    saver = saver_new(ks, NULL, NULL);
    keeper = chain_keeper_new(ks, NULL, NULL);
    chain_keeper_enable(keeper, true);
}

static void end(void)
{
    os_fault_set(NULL);
    os_fault_forget();
    chain_keeper_free(keeper);
    saver_free(saver);
    keyspace_free(ks);
    char command[128];
    snprintf(command, sizeof(command), "rm -f %s/*", dir);
    assert_int_equal(system(command), 0);
}

/* A chain of a full snapshot and a delta, and changes after it. */
static void begin_with_chain(struct digest *before, struct digest *after)
{
    begin();
    write_some(100);
    assert_true(take_full());
    write_some(10);
    assert_true(take_delta());
    *before = digest_now();
    do {
        write_some(10);
        *after = digest_now();
    } while (same(before, after));
}

static int setup(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    fprintf(stderr, "HF_SEED=%llu\n", (unsigned long long)seed);
    snprintf(dir, sizeof(dir), "%s/hf-test-chain-XXXXXX",
             os_path_exists("/dev/shm") ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/dump.rdb", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

/* Each call on the disk in turn fails, or the power goes before it, and then or afterwards the
 * power goes: what is restored is the state at the link before or at the one that was being taken,
 * and the latter for certain once that has succeeded. */
static void check_losses(bool (*take)(void))
{
    struct digest before, after, found;
    bool saw_before = false, any_hit = true;
    for (uint64_t nth = 1; any_hit; nth++) {
        any_hit = false;
        for (int round = 0; round < 6; round++) {
            begin_with_chain(&before, &after);
            os_fault_record(dir);
            os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY,
                                                 .nth = nth,
                                                 .os_errno = EIO,
                                                 .cut_power = round % 3 == 0,
                                                 .shorten = round % 3 == 1});
            bool done = take();
            any_hit |= os_fault_calls(OS_OP_ANY) >= nth;
            os_fault_cut();
            os_fault_power_loss(next_random());
            if (!restore(&found))
                fail_msg("call %d, round %d: nothing can be restored", (int)nth, round);
            if (!same(&found, &after) && (done || !same(&found, &before)))
                fail_msg("call %d, round %d: another state is restored", (int)nth, round);
            saw_before |= same(&found, &before);
            end();
        }
        assert_true(nth < 1000);
    }
    assert_true(saw_before);
}

static void test_losses_of_delta(void **state)
{
    (void)state;
    check_losses(take_delta);
}

/* The same for the full snapshot that takes the chain's place. */
static void test_losses_of_full(void **state)
{
    (void)state;
    check_losses(take_full);
}

/* After a delta that failed the next one has all that changed since the link before. */
static void test_goes_on_after_failure(void **state)
{
    (void)state;
    struct digest before, after, found;
    bool any_failed = true;
    for (uint64_t nth = 1; any_failed; nth++) {
        begin_with_chain(&before, &after);
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY, .nth = nth, .os_errno = ENOSPC});
        any_failed = !take_delta();
        os_fault_set(NULL);
        struct chain_keeper_status status;
        chain_keeper_get_status(keeper, &status);
        assert_int_equal(status.last_ok, !any_failed);
        assert_int_equal(status.chain->count, any_failed ? 2 : 3);
        assert_null(chain_keeper_cannot(keeper));
        write_some(5);
        assert_true(take_delta());
        after = digest_now();
        assert_true(restore(&found));
        assert_true(same(&found, &after));
        end();
        assert_true(nth < 1000);
    }
}

/* Reading a delta again fails in turn, and so does closing its file; or a bit of what reaches the
 * disk is wrong, and no call fails: it is not named, and the next one has all that changed. */
static void test_not_proven(void **state)
{
    (void)state;
    static const struct os_fault_plan plans[] = {{.op = OS_OP_READ, .os_errno = EIO},
                                                 {.op = OS_OP_CLOSE, .os_errno = EIO},
                                                 {.op = OS_OP_WRITE, .garble = true}};
    struct digest before, after, found;
    for (size_t i = 0; i < sizeof(plans) / sizeof(plans[0]); i++) {
        bool any_failed = true;
        uint64_t nth = 0;
        while (any_failed) {
            struct os_fault_plan plan = plans[i];
            plan.nth = ++nth;
            begin_with_chain(&before, &after);
            os_fault_set(&plan);
            any_failed = !take_delta();
            /* A wrong bit in the manifest, the last write, is found by who reads it. */
            bool hit = os_fault_calls(plan.op) >= nth, manifest = plan.garble && !any_failed && hit;
            os_fault_set(NULL);
            assert_true(any_failed == hit || manifest);
            if (manifest)
                assert_false(restore(&found));
            else
                assert_true(restore(&found) && same(&found, any_failed ? &before : &after));
            assert_true(take_delta());
            after = digest_now();
            assert_true(restore(&found) && same(&found, &after));
            any_failed |= manifest;
            end();
            assert_true(nth < 1000);
        }
        assert_true(nth > 1);
    }
}

/* Databases that change places, are emptied and written to in any order, between any two links;
 * files that are summed when they are read again, or when they are written. */
static void test_swaps(void **state)
{
    (void)state;
    struct digest now, found;
    for (int round = 0; round < 30; round++) {
        verify = round % 2 == 0;
        begin();
        write_some(60);
        assert_true(take_full());
        for (int i = 0; i < 4; i++) {
            for (uint64_t n = next_random() % 5; n > 0; n--) {
                keyspace_swap(ks, (int)(next_random() % DBS), (int)(next_random() % DBS));
                write_some((int)(next_random() % 8));
            }
            assert_true(take_delta());
            now = digest_now();
            assert_true(restore(&found));
            assert_true(same(&found, &now));
        }
        end();
    }
    verify = true;
}

/* A delta that is cancelled, or given up as it holds too much, leaves nothing behind, and the next
 * one has what it would have had. */
static void test_given_up(void **state)
{
    (void)state;
    struct digest before, after, found;
    struct chain_keeper_status status;
    for (int round = 0; round < 2; round++) {
        begin_with_chain(&before, &after);
        struct save_options o = options();
        struct error err = {0};
        o.key_delay_us = 100000;
        o.memory_limit = round == 0 ? 0 : 1;
        write_some(30);
        assert_true(chain_keeper_begin(keeper, &o, 300, &err));
        assert_true(chain_keeper_incremental(keeper));
        chain_keeper_get_status(keeper, &status);
        assert_false(chain_keeper_begin(keeper, &o, 300, &err));
        if (round == 0)
            chain_keeper_cancel(keeper);
        else
            write_some(30);
        assert_false(chain_keeper_wait(keeper));
        chain_keeper_get_status(keeper, &status);
        assert_int_equal(status.last_cancelled, round == 0);
        assert_int_equal(status.last_ok, round == 0);
        if (round == 1)
            assert_non_null(strstr(status.last_error, "snapshot-memory-limit"));
        assert_true(restore(&found));
        assert_true(same(&found, &before));
        assert_true(take_delta());
        after = digest_now();
        assert_true(restore(&found));
        assert_true(same(&found, &after));
        end();
    }
}

/* A manifest reads as it was written, and not with any of its bytes changed or missing. */
static void test_manifest(void **state)
{
    (void)state;
    struct chain c = {0}, read;
    struct error err = {0};
    for (int i = 0; i < 3; i++) {
        struct chain_link link = {.kind = i ? LINK_DELTA : LINK_FULL, .lsn = 1000 + (uint64_t)i,
                                  .time_ms = 1700000000000 + i, .keys = 17, .deleted = (uint64_t)i,
                                  .size = 4711};
        snprintf(link.name, sizeof(link.name), "a file %d", i);
        link_new_id(link.id);
        if (i)
            memcpy(link.parent, c.links[i - 1].id, sizeof(link.parent));
        memset(link.sha256, 'a' + i, 64);
        chain_add(&c, &link);
    }
    struct text text = {0};
    chain_format(&c, &text);
    assert_true(chain_parse(&read, text_slice(&text), &err));
    assert_int_equal(read.count, 3);
    assert_memory_equal(read.links, c.links, 3 * sizeof(*c.links));
    chain_free(&read);
    for (size_t at = 0; at < text.size; at++) {
        text.data[at] ^= (char)(1 << next_random() % 7);
        char *changed = mem_dup(text.data, text.size);
        assert_false(chain_parse(&read, slice_of(changed, text.size), &err));
        assert_false(chain_parse(&read, slice_of(changed, at), &err));
        mem_free(changed);
        text_clear(&text);
        chain_format(&c, &text);
    }
    /* A delta that follows another one. */
    c.links[2].parent[0] ^= 1;
    text_clear(&text);
    chain_format(&c, &text);
    assert_false(chain_parse(&read, text_slice(&text), &err));
    assert_non_null(strstr(err.message, "line 4"));
    text_free(&text);
    chain_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_manifest),       cmocka_unit_test(test_losses_of_delta),
        cmocka_unit_test(test_losses_of_full), cmocka_unit_test(test_goes_on_after_failure),
        cmocka_unit_test(test_not_proven),
        cmocka_unit_test(test_swaps),          cmocka_unit_test(test_given_up)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
