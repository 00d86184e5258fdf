/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/recovery.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "log_bytes.h"
#include "os/fault.h"
#include "os/file.h"

#define NAME "a.aof"

static char directory[64], file[128], new_history[] = LOG_HISTORY;
static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static bool save_base(void *ctx, const char *path, uint64_t lsn, const char *history,
                      struct error *err)
{
    (void)ctx;
    (void)lsn;
    (void)history;
    /* An RDB file without keys. */
    static const char empty[] = "REDIS0010\xff\0\0\0\0\0\0\0\0";
    return os_file_replace(path, empty, sizeof(empty) - 1, err);
}

static bool run(struct text *executed, struct recovery_result *result, struct error *err)
{
    struct keyspace *ks = keyspace_new(16, false);
    struct recovery_options options = {
        .directory = directory,
        .filename = NAME,
        .rdb_path = "/nonexistent/dump.rdb",
        .cut_torn = true,
        .now_ms = 1790000000000,
        .new_history = new_history,
        .execute = log_execute_as_text,
        .save_base = save_base,
        .ctx = executed,
    };
    text_clear(executed);
    *err = (struct error){0};
    bool ok = recovery_run(ks, &options, result, err);
    keyspace_free(ks);
    return ok;
}

static void remove_name(void *ctx, const char *name)
{
    struct error err;
    char path[400];
    (void)ctx;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    os_unlink(path, &err);
}

static void clear_directory(void)
{
    struct error err;
    assert_true(os_dir_list(directory, remove_name, NULL, &err));
}

/* One incremental with these bytes, named in a manifest. */
static void put_log(const struct text *bytes)
{
    struct manifest m;
    struct error err;
    clear_directory();
    manifest_init(&m);
    manifest_add_incremental(&m, NAME);
    assert_true(os_file_replace(file, bytes->data, bytes->size, &err));
    assert_true(manifest_write(&m, directory, NAME, &err));
    manifest_free(&m);
}

struct kept {
    struct slice tail;
    bool found;
};

static void look_for_tail(void *ctx, const char *name)
{
    struct kept *k = ctx;
    struct error err;
    char path[400], *data;
    size_t size;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    assert_true(os_file_read_whole(path, 1 << 20, &data, &size, &err));
    if (size >= k->tail.size && memcmp(data + size - k->tail.size, k->tail.data, k->tail.size) == 0)
        k->found = true;
    mem_free(data);
}

/* Whenever the power goes while a torn tail is cut off, the next start gives the same, and the torn
 * bytes are still somewhere. */
static void test_power_loss(void **state)
{
    (void)state;
    struct log_bytes l = {0};
    struct text want = {0}, got = {0};
    struct recovery_result result;
    struct error err;
    log_begin(&l, 1);
    for (int i = 0; i < 5; i++) {
        log_group_begin(&l);
        log_command(&l, "SET k v");
        log_group_end(&l, 2 + i);
        text_append_cstr(&want, "SETkv\n");
    }
    const struct slice tail = SLICE("#HF1 group 1350\r\n*3\r\n$3\r\nSE");
    text_append(&l.text, tail.data, tail.size);
    bool cut = true;
    uint64_t nth;
    for (nth = 1; cut; nth++) {
        for (int round = 0; round < 3; round++) {
            put_log(&l.text);
            os_fault_record(directory);
            os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY, .nth = nth, .cut_power = true});
            if (run(&got, &result, &err))
                manifest_free(&result.manifest);
            cut = os_fault_is_cut();
            os_fault_cut();
            os_fault_set(NULL);
            os_fault_power_loss(next_random());
            assert_true(run(&got, &result, &err));
            assert_string_equal(text_cstr(&got), text_cstr(&want));
            assert_int_equal(result.lsn, l.lsn);
            manifest_free(&result.manifest);
            struct kept kept = {.tail = tail};
            assert_true(os_dir_list(directory, look_for_tail, &kept, &err));
            assert_true(kept.found);
        }
    }
    /* Copy, sync, directory, cut, sync, written and synced again. */
    assert_true(nth > 7);
    text_free(&l.text);
    text_free(&want);
    text_free(&got);
}

/* Every operation on the disk that fails stops the start with an error, and the next one is as if
 * nothing had been. */
static void test_failures(void **state)
{
    (void)state;
    struct log_bytes l = {0};
    struct text got = {0};
    struct recovery_result result;
    struct error err;
    log_begin(&l, 1);
    log_group_begin(&l);
    log_command(&l, "SET k v");
    log_group_end(&l, 2);
    text_append(&l.text, "#HF1 gr", 7);
    for (uint64_t nth = 1;; nth++) {
        put_log(&l.text);
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY, .nth = nth, .os_errno = 5});
        bool ok = run(&got, &result, &err);
        uint64_t calls = os_fault_calls(OS_OP_ANY);
        os_fault_set(NULL);
        if (ok) {
            manifest_free(&result.manifest);
            assert_true(calls < nth);
            break;
        }
        assert_true(err.message[0] != '\0');
        assert_true(run(&got, &result, &err));
        assert_string_equal(text_cstr(&got), "SETkv\n");
        manifest_free(&result.manifest);
    }
    text_free(&l.text);
    text_free(&got);
}

/* A log of many batches is executed whole and in order, whichever thread is faster; the chain goes
 * on from file to file. */
static void test_many_batches(void **state)
{
    (void)state;
    struct log_bytes l = {0};
    struct text want = {0}, got = {0};
    struct recovery_result result;
    struct error err;
    log_begin(&l, 1);
    for (int i = 0; i < 3000; i++) {
        char words[1200];
        int n = snprintf(words, sizeof(words), "SET key:%d ", i);
        size_t size = next_random() % 1000;
        memset(words + n, 'x', size);
        words[n + (int)size] = '\0';
        log_group_begin(&l);
        log_command(&l, words);
        log_group_end(&l, 2 + i);
        text_appendf(&want, "SETkey:%d%s\n", i, words + n);
    }
    put_log(&l.text);
    assert_true(run(&got, &result, &err));
    assert_int_equal(got.size, want.size);
    assert_memory_equal(got.data, want.data, want.size);
    assert_int_equal(result.commands, 3000);
    assert_int_equal(result.crc, l.crc);
    assert_int_equal(result.ms, 3001);
    assert_false(result.closed);
    manifest_free(&result.manifest);
    text_free(&l.text);
    text_free(&want);
    text_free(&got);
}

/* A first start makes a base and names it; the next one finds it. */
static void test_first_start(void **state)
{
    (void)state;
    struct text got = {0};
    struct recovery_result result;
    struct error err;
    clear_directory();
    assert_true(run(&got, &result, &err));
    assert_int_equal(result.source, RECOVERY_NOTHING);
    assert_non_null(manifest_base(&result.manifest));
    assert_string_equal(result.history, new_history);
    manifest_free(&result.manifest);
    assert_true(run(&got, &result, &err));
    assert_int_equal(result.source, RECOVERY_LOG);
    assert_string_equal(manifest_base(&result.manifest)->name, NAME ".1.base.rdb");
    manifest_free(&result.manifest);
    text_free(&got);
}

/* LSNs, milliseconds and dates. */
static void test_parse_until(void **state)
{
    (void)state;
    struct recovery_until u;
    assert_true(recovery_parse_until(SLICE("0"), &u));
    assert_true(u.kind == UNTIL_LSN && u.lsn == 0);
    assert_true(recovery_parse_until(SLICE("1790000000123"), &u));
    assert_true(u.kind == UNTIL_MS && u.ms == 1790000000123);
    assert_true(recovery_parse_until(SLICE("2026-11-21T17:10:59.5Z"), &u));
    assert_true(u.kind == UNTIL_MS && u.ms == 1795281059500);
    assert_true(recovery_parse_until(SLICE("1970-01-02 00:00Z"), &u));
    assert_true(u.ms == 86400000);
    assert_true(recovery_parse_until(SLICE("2026-11-21"), &u));
    static const char *const bad[] = {"",           "x",          "-1",
                                      "2026-13-01", "2026-1-1",   "2026-11-21T",
                                      "1969-01-01", "2026-11-21T17:10:59.5Zx"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(recovery_parse_until(slice_cstr(bad[i]), &u));
}

static int set_up(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("HF_SEED=%llu\n", (unsigned long long)seed);
    log_set_level(LOG_LEVEL_NOTHING);
    snprintf(directory, sizeof(directory), "/tmp/hf-recovery-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(file, sizeof(file), "%s/" NAME ".1.incr.aof", directory);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    clear_directory();
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_loss),   cmocka_unit_test(test_failures),
        cmocka_unit_test(test_many_batches), cmocka_unit_test(test_first_start),
        cmocka_unit_test(test_parse_until),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
