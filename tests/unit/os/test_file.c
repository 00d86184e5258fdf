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
#include <unistd.h>

#include "base/mem.h"
#include "os/fault.h"
#include "os/file.h"

static char dir[64], path_a[128], path_b[128];
static struct error err;

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/hf-test-file-XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(path_a, sizeof(path_a), "%s/a", dir);
    snprintf(path_b, sizeof(path_b), "%s/b", dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    os_fault_set(NULL);
    os_fault_forget();
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    return system(command);
}

static bool holds(const char *path, const char *text)
{
    char *data;
    size_t size;
    if (!os_file_read_whole(path, 1 << 20, &data, &size, &err))
        return false;
    bool same = size == strlen(text) && memcmp(data, text, size) == 0;
    mem_free(data);
    return same;
}

/* Writing, reading back, exclusive creation, and messages that name the file. */
static void test_basics(void **state)
{
    (void)state;
    struct os_file f;
    assert_true(os_file_open(&f, path_a, OS_OPEN_CREATE_EXCLUSIVE, &err));
    assert_true(os_file_write(&f, "hello", 5, &err));
    assert_true(os_file_write_at(&f, 1, "E", 1, &err));
    assert_true(os_file_sync(&f, &err));
    uint64_t size;
    assert_true(os_file_size(&f, &size, &err) && size == 5);
    assert_true(os_file_close(&f, &err));
    assert_true(holds(path_a, "hEllo"));
    assert_false(os_file_open(&f, path_a, OS_OPEN_CREATE_EXCLUSIVE, &err));
    assert_int_equal(err.code, ERROR_EXISTS);
    assert_non_null(strstr(err.message, path_a));
    assert_false(os_file_open(&f, path_b, OS_OPEN_READ, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

/* The n-th call fails, a write in part, and the calls before and after do not. */
static void test_plans(void **state)
{
    (void)state;
    struct os_file f;
    os_fault_set(
        &(struct os_fault_plan){.op = OS_OP_WRITE, .nth = 2, .os_errno = ENOSPC, .shorten = true});
    assert_true(os_file_open(&f, path_a, OS_OPEN_CREATE_EXCLUSIVE, &err));
    assert_true(os_file_write(&f, "aaaa", 4, &err));
    assert_false(os_file_write(&f, "bbbb", 4, &err));
    assert_int_equal(err.code, ERROR_NO_SPACE);
    assert_true(os_file_write(&f, "cc", 2, &err));
    assert_true(os_file_close(&f, &err));
    assert_int_equal(os_fault_calls(OS_OP_WRITE), 3);
    assert_true(holds(path_a, "aaaabbcc"));
    os_fault_set(
        &(struct os_fault_plan){.op = OS_OP_SYNC, .nth = 1, .os_errno = EIO, .sticky = true});
    assert_true(os_file_open(&f, path_a, OS_OPEN_APPEND, &err));
    assert_false(os_file_sync(&f, &err));
    assert_false(os_file_sync(&f, &err));
    assert_true(os_file_close(&f, &err));
}

/* Whatever call fails or wherever the power goes, replacing a file leaves the old or the new
 * contents, whole; and the new ones for certain once it has said so. */
static void test_replace_survives(void **state)
{
    (void)state;
    bool saw_old = false, saw_new = false;
    for (uint64_t nth = 1; nth <= 8; nth++) {
        for (uint64_t seed = 0; seed < 64; seed++) {
            assert_true(os_file_replace(path_a, "old contents", 12, &err));
            os_fault_record(dir);
            bool power = seed & 1;
            os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY,
                                                 .nth = nth,
                                                 .os_errno = EIO,
                                                 .cut_power = power,
                                                 .shorten = !power});
            bool done = os_file_replace(path_a, "new contents, longer", 20, &err);
            os_fault_cut();
            os_fault_power_loss(seed * 977 + nth);
            bool is_old = holds(path_a, "old contents"),
                 is_new = holds(path_a, "new contents, longer");
            assert_true(is_old || is_new);
            if (done)
                assert_true(is_new);
            saw_old |= is_old;
            saw_new |= is_new;
        }
    }
    assert_true(saw_old && saw_new);
}

/* The simulation does lose: without syncs, data and names are not always there. */
static void test_loss_happens(void **state)
{
    (void)state;
    int lost_name = 0, lost_data = 0, torn = 0, kept = 0;
    static char block[4096];
    memset(block, 'x', sizeof(block));
    for (uint64_t seed = 0; seed < 200; seed++) {
        os_fault_record(dir);
        struct os_file f;
        assert_true(os_file_open(&f, path_b, OS_OPEN_CREATE_EXCLUSIVE, &err));
        assert_true(os_file_write(&f, block, sizeof(block), &err));
        assert_true(os_file_close(&f, &err));
        os_fault_power_loss(seed);
        char *data;
        size_t size;
        if (!os_file_read_whole(path_b, 1 << 20, &data, &size, &err)) {
            lost_name++;
            continue;
        }
        if (size == 0)
            lost_data++;
        else if (size == sizeof(block) && memcmp(data, block, size) == 0)
            kept++;
        else
            torn++;
        mem_free(data);
        assert_true(os_unlink(path_b, &err));
    }
    assert_true(lost_name > 0 && lost_data > 0 && torn > 0 && kept > 0);
}

/* What was just written is in the page cache; what was synced and let go is not, where the system
 * says so. */
static void test_cached(void **state)
{
    (void)state;
    struct os_file f;
    static char block[16384];
    assert_true(os_file_open(&f, path_a, OS_OPEN_CREATE_TRUNCATE, &err));
    assert_true(os_file_write(&f, block, sizeof(block), &err));
    assert_true(os_file_is_cached(&f, 0) && os_file_is_cached(&f, 8192));
    assert_true(os_file_is_cached(&f, 1 << 20)); /* behind the end no disk is asked */
    assert_true(os_file_sync(&f, &err));
    os_file_forget_cache(&f, 0, sizeof(block));
    bool there = os_file_is_cached(&f, 8192);
    assert_true(os_file_is_cached(&f, 8192) == there); /* asking brings nothing in */
    size_t got;
    assert_true(os_file_read_at(&f, 8192, block, 1, &got, &err));
    assert_true(os_file_is_cached(&f, 8192));
    assert_true(os_file_close(&f, &err));
}

/* A directory is taken by one holder at a time, also by another description in this process, and is
 * free when it is given back; taking it writes nothing. */
static void test_dir_lock(void **state)
{
    (void)state;
    int first, second;
    assert_false(os_dir_lock(path_a, &first, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_int_equal(first, -1);
    assert_true(os_dir_create(path_a, &err));
    assert_true(os_dir_lock(path_a, &first, &err));
    assert_false(os_dir_lock(path_a, &second, &err));
    assert_int_equal(err.code, ERROR_EXISTS);
    assert_non_null(strstr(err.message, path_a));
    os_dir_unlock(&second);
    os_dir_unlock(&first);
    assert_int_equal(first, -1);
    assert_true(os_dir_lock(path_a, &second, &err));
    os_dir_unlock(&second);
    assert_int_equal(rmdir(path_a), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_basics, setup, teardown),
        cmocka_unit_test_setup_teardown(test_plans, setup, teardown),
        cmocka_unit_test_setup_teardown(test_replace_survives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_loss_happens, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cached, setup, teardown),
        cmocka_unit_test_setup_teardown(test_dir_lock, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
