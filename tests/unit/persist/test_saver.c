/* SPDX-License-Identifier: BSD-3-Clause */
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
#include "os/direct.h"
#include "os/fault.h"
#include "os/file.h"
#include "persist/load.h"
#include "persist/saver.h"
#include "type/digest.h"
#include "type/string.h"

/* Enough for several blocks, chunks and writes. */
#define VALUES 24
#define VALUE_SIZE 20000

static char dir[64], path[128];
static struct keyspace *ks;
static struct saver *saver;
static struct digest old_digest, new_digest;
static bool long_form; /* HF_LONG: more of each, for minutes */
static char *old_bytes;
static size_t old_size;
static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static void set_key(const char *name, struct slice value)
{
    struct keyref ref;
    struct slice key = slice_cstr(name);
    keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
    string_set(&ref, value, ENTRY_NO_EXPIRY);
    ks->dirty++;
}

/* Gives each key a value that is of this generation and fills some sectors. */
static void fill(int generation)
{
    static char value[VALUE_SIZE];
    for (int i = 0; i < VALUES; i++) {
        char name[32];
        snprintf(name, sizeof(name), "key:%d", i);
        for (size_t at = 0; at < VALUE_SIZE; at += 50)
            snprintf(value + at, sizeof(value) - at, "%-49d", generation * 1000 + i);
        set_key(name, slice_of(value, VALUE_SIZE));
    }
}

static struct save_options options(void)
{
    struct save_options o = {.version = RDB_VERSION_DEFAULT,
                              .checksum = true,
                              .verify = true,
                              .incremental_sync = true,
                              .threads = 2};
    snprintf(o.path, sizeof(o.path), "%s", path);
    return o;
}

static bool same(const struct digest *a, const struct digest *b)
{
    return memcmp(a->bytes, b->bytes, DIGEST_SIZE) == 0;
}

static bool save(bool in_background, struct error *err)
{
    struct save_options o = options();
    if (!in_background)
        return saver_save(saver, &o, err);
    if (!saver_begin(saver, &o, err))
        return false;
    assert_true(saver_wait(saver));
    struct saver_status status;
    saver_get_status(saver, &status);
    assert_false(status.running);
    return status.last_error[0] == '\0';
}

/* The file holds the data of the old save (1), the new one (2), or cannot be loaded (0). */
static int what_is_there(void)
{
    struct keyspace *loaded = keyspace_new(1, false);
    struct rdb_load_options o = {.now_ms = 1, .checksum = true};
    struct rdb_load_stats stats = {0};
    struct error err = {0};
    struct digest digest = {0};
    int result = 0;
    if (load_rdb_file(loaded, path, &o, &stats, &err)) {
        digest_keyspace(&digest, loaded);
        result = same(&digest, &old_digest) ? 1 : same(&digest, &new_digest) ? 2 : 0;
    } else {
        fprintf(stderr, "%s\n", err.message);
    }
    keyspace_free(loaded);
    return result;
}

static void count_temporary(void *ctx, const char *name)
{
    if (strncmp(name, "temp-", 5) == 0)
        ++*(int *)ctx;
}

static int temporary_files(void)
{
    int count = 0;
    struct error err;
    assert_true(os_dir_list(dir, count_temporary, &count, &err));
    return count;
}

/* What each try begins with: the old data in the file, the new data in memory. The old file is made
 * once, and then put back as it was. */
static void make_old_then_new(void)
{
    struct error err = {0};
    if (!old_bytes) {
        fill(1);
        assert_true(save(false, &err));
        assert_true(os_file_read_whole(path, 1 << 30, &old_bytes, &old_size, &err));
        digest_keyspace(&old_digest, ks);
        fill(2);
        digest_keyspace(&new_digest, ks);
        assert_false(same(&old_digest, &new_digest));
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(old_bytes, 1, old_size, f), old_size);
    assert_int_equal(fclose(f), 0);
    ks->dirty = VALUES;
}

static int setup(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    /* In memory where that is possible: there are thousands of syncs, and the faults are the
     * test. */
    snprintf(dir, sizeof(dir), "%s/hf-test-saver-XXXXXX",
             os_path_exists("/dev/shm") ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/dump.rdb", dir);
    ks = keyspace_new(1, false);
    saver = saver_new(ks, NULL, NULL);
    os_direct_bytes = 65536; /* a small file is many writes, each of which can fail */
    old_digest = new_digest = (struct digest){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    os_fault_set(NULL);
    os_fault_forget();
    saver_free(saver);
    keyspace_free(ks);
    mem_free(old_bytes);
    old_bytes = NULL;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static uint64_t calls_of_a_save(enum os_op op)
{
    struct error err = {0};
    os_fault_set(&(struct os_fault_plan){.op = op, .nth = UINT64_MAX});
    assert_true(save(false, &err));
    uint64_t calls = os_fault_calls(op);
    os_fault_set(NULL);
    return calls;
}

/* Whether the call that a plan names has come: how a file is divided into writes may differ from
 * one save to the next, so the last ones need not come each time. To be asked before the plan is
 * reset. */
static bool was_hit(enum os_op op, uint64_t nth)
{
    return os_fault_calls(op) >= nth;
}

/* Each call of a save fails in turn, once or from then on, a write after half of its bytes. The
 * file is the old one until the new one is there whole, the failure is told, its temporary file is
 * gone, and the next save works. */
static void test_each_call_fails(void **state)
{
    (void)state;
    static const enum os_op ops[] = {OS_OP_OPEN,   OS_OP_WRITE,    OS_OP_SYNC, OS_OP_READ,
                                     OS_OP_RENAME, OS_OP_DIR_SYNC, OS_OP_CLOSE};
    struct error err;
    fill(1);
    assert_true(calls_of_a_save(OS_OP_WRITE) >= 3);
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        uint64_t calls = calls_of_a_save(ops[i]);
        assert_true(calls > 0);
        for (uint64_t nth = 1; nth <= calls; nth++) {
            for (int variant = 0; variant < (long_form ? 4 : 2); variant++) {
                bool background = variant == 0 && nth == 1;
                make_old_then_new();
                uint64_t dirty = ks->dirty;
                os_fault_set(&(struct os_fault_plan){.op = ops[i],
                                                     .nth = nth,
                                                     .os_errno = variant & 1 ? ENOSPC : EIO,
                                                     .shorten = variant & 1,
                                                     .sticky = variant & 2});
                err = (struct error){0};
                bool done = save(background, &err), hit = was_hit(ops[i], nth);
                os_fault_set(NULL);
                assert_true(done == !hit);
                if (!hit)
                    continue;
                struct saver_status status;
                saver_get_status(saver, &status);
                assert_true(status.last_error[0] != '\0');
                assert_true(ks->dirty == dirty);
                /* Only the sync of the directory comes after the rename. */
                assert_int_equal(what_is_there(), ops[i] == OS_OP_DIR_SYNC ? 2 : 1);
                assert_int_equal(temporary_files(), 0);
                assert_true(save(background, &err));
                assert_int_equal(what_is_there(), 2);
                saver_get_status(saver, &status);
                assert_true(status.last_ok && status.last_error[0] == '\0');
                assert_true(ks->dirty == 0);
            }
        }
    }
}

/* One bit of what reaches the disk is wrong, in each write in turn, and no call fails: reading it
 * again finds it, the old file stays and there is no temporary one. Without that the file would
 * have been taken for good. */
static void test_wrong_on_disk(void **state)
{
    (void)state;
    fill(1);
    uint64_t calls = calls_of_a_save(OS_OP_WRITE);
    for (uint64_t nth = 1; nth <= calls; nth++) {
        struct error err = {0};
        make_old_then_new();
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_WRITE, .nth = nth, .garble = true});
        bool done = save(nth == 1, &err), hit = was_hit(OS_OP_WRITE, nth);
        os_fault_set(NULL);
        assert_true(done == !hit);
        if (!hit)
            continue;
        struct saver_status status;
        saver_get_status(saver, &status);
        assert_non_null(strstr(status.last_error, "could not be verified"));
        assert_int_equal(what_is_there(), 1);
        assert_int_equal(temporary_files(), 0);

        struct save_options o = options();
        o.verify = false;
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_WRITE, .nth = nth, .garble = true});
        assert_true(saver_save(saver, &o, &err));
        os_fault_set(NULL);
    }
}

/* When not even the temporary file can be removed, the old one is still the one that counts, and
 * the next start cleans up. */
static void test_cannot_remove(void **state)
{
    (void)state;
    struct error err = {0};
    make_old_then_new();
    os_fault_set(
        &(struct os_fault_plan){.op = OS_OP_ANY, .nth = 4, .os_errno = EIO, .sticky = true});
    assert_false(save(true, &err));
    os_fault_set(NULL);
    assert_int_equal(temporary_files(), 1);
    assert_int_equal(what_is_there(), 1);
    saver_clean_temporary(path);
    assert_int_equal(temporary_files(), 0);
}

/* The power goes before each call in turn, or right after the save, or after a call has failed: the
 * old or the new file is there, whole, and the new one for certain once the save has succeeded.
 * What is left of the temporary file is removed at the next start. */
static void test_power_loss(void **state)
{
    (void)state;
    enum { CUT, FAIL, SHORTEN, KINDS };
    bool saw_old = false, saw_new = false, saw_done = false, saw_temporary = false;
    make_old_then_new();
    uint64_t calls = calls_of_a_save(OS_OP_ANY);
    assert_true(calls >= 7);
    print_message("HF_SEED=%llu\n", (unsigned long long)seed);
    bool any_hit = true;
    for (uint64_t nth = 1; any_hit; nth++) {
        any_hit = false;
        /* Among the last calls are the rename and the sync of the directory: more of them. */
        int rounds = long_form || nth + 1 >= calls ? 8 : 2;
        for (int round = 0; round < rounds * KINDS; round++) {
            int kind = round % KINDS;
            make_old_then_new();
            os_fault_record(dir);
            os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY,
                                                 .nth = nth,
                                                 .os_errno = EIO,
                                                 .cut_power = kind == CUT,
                                                 .shorten = kind == SHORTEN});
            struct error err = {0};
            bool done = save(round == 0 && (nth & 1), &err);
            bool hit = was_hit(OS_OP_ANY, nth);
            os_fault_cut();
            os_fault_power_loss(next_random());
            int there = what_is_there();
            if (there == 0 || (done && there != 2))
                fail_msg("call %d of %d, kind %d, the save %s: the file is %d", (int)nth,
                         (int)calls, kind, done ? "succeeded" : "failed", there);
            assert_true(done == !hit);
            any_hit |= hit;
            saw_old |= there == 1;
            saw_new |= there == 2 && !done;
            saw_done |= done;
            saw_temporary |= temporary_files() > 0;
            saver_clean_temporary(path);
            assert_int_equal(temporary_files(), 0);
        }
    }
    assert_true(saw_old && saw_new && saw_done && saw_temporary);
}

/* A save that runs keeps others from beginning; one that is cancelled leaves the old file. */
static void test_cancel(void **state)
{
    (void)state;
    struct error err = {0};
    struct save_options o = options();
    make_old_then_new();
    assert_true(saver_begin(saver, &o, &err));
    assert_true(saver_running(saver));
    assert_false(saver_begin(saver, &o, &err));
    assert_false(saver_save(saver, &o, &err));
    saver_cancel(saver);
    assert_true(saver_wait(saver));
    struct saver_status status;
    saver_get_status(saver, &status);
    /* It may have been too late. Whichever way, nothing is wrong with saving. */
    assert_int_equal(what_is_there(), status.last_error[0] ? 1 : 2);
    assert_true(status.last_ok);
    assert_int_equal(temporary_files(), 0);
    assert_false(saver_wait(saver));
    assert_false(saver_poll(saver));
}

/* Only the saver's own temporary files are removed at a start. */
static void test_clean_temporary(void **state)
{
    (void)state;
    static const char *const names[] = {"temp-1-2.rdb", "temp-77-1.rdb",  "temp-x.rdb",
                                        "temp-1.rdb",   "temp-1-2.rdb.x", "temp-1-.rdb",
                                        "a.rdb"};
    struct error err;
    char file[192];
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        assert_true(os_file_replace(file, "x", 1, &err));
    }
    saver_clean_temporary(path);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(file, sizeof(file), "%s/%s", dir, names[i]);
        assert_true(os_path_exists(file) == (i >= 2));
    }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_each_call_fails),
        TEST(test_wrong_on_disk),
        TEST(test_cannot_remove),
        TEST(test_power_loss),
        TEST(test_cancel),
        TEST(test_clean_temporary),
    };
    long_form = getenv("HF_LONG") != NULL;
    log_set_level(LOG_LEVEL_NOTHING); /* failures are what is tested */
    mem_thread_begin();
    int result = cmocka_run_group_tests(tests, NULL, NULL);
    mem_thread_end();
    return result;
}
