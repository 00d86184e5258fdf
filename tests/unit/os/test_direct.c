/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/direct.h"
#include "os/fault.h"

#define FILE_BYTES (5U * 16384 + 1234)

static char path[128];
static struct os_file file;
static char *bytes;
static uint64_t state_of_random;
static struct error err;

static uint64_t next_random(uint64_t below)
{
    state_of_random ^= state_of_random << 13;
    state_of_random ^= state_of_random >> 7;
    state_of_random ^= state_of_random << 17;
    return state_of_random % below;
}

/* In a directory of a disk, as a file system in memory may not know O_DIRECT. */
static int setup(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    state_of_random = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("HF_SEED=%llu\n", (unsigned long long)state_of_random);
    os_direct_bytes = 16384;
    snprintf(path, sizeof(path), "/var/tmp/hf-test-direct-%d", (int)getpid());
    unlink(path);
    bytes = mem_alloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++)
        bytes[i] = (char)next_random(256);
    file = (struct os_file)OS_FILE_CLOSED;
    return os_file_open(&file, path, OS_OPEN_CREATE_EXCLUSIVE, &err) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    os_fault_set(NULL);
    mem_free(bytes);
    return os_file_close(&file, &err) ? unlink(path) : -1;
}

static bool write_pieces(bool past_cache, size_t size)
{
    struct os_direct d;
    os_direct_begin(&d, &file, past_cache);
    bool ok = true;
    for (size_t at = 0, part; ok && at < size; at += part) {
        part = 1 + next_random(40000);
        if (part > size - at)
            part = size - at;
        ok = os_direct_write(&d, bytes + at, part, &err);
    }
    ok = ok && os_direct_flush(&d, &err);
    os_direct_end(&d);
    return ok;
}

/* From `at` to the end, in pieces: what is read and how much of it there is. */
static void check_from(struct os_direct *d, size_t at, size_t size)
{
    static char data[40000];
    for (;;) {
        size_t got = 1, want = 1 + next_random(sizeof(data));
        assert_true(os_direct_read(d, at, data, want, &got, &err));
        assert_true(got <= want);
        if (got == 0)
            break;
        assert_memory_equal(data, bytes + at, got);
        at += got;
    }
    assert_int_equal(at, size);
}

/* The same without a copy: where the bytes are that were aimed at, however they came, and how many
 * there are. */
static void check_aimed(struct os_direct *d, size_t at, size_t want, size_t size)
{
    const char *data = os_direct_aim(d, at, want);
    size_t have = 0, got = 1, there = size > at ? size - at : 0;
    for (; got > 0; have += got) {
        assert_true(os_direct_read_on(d, &got, &err));
        assert_memory_equal(data, bytes + at, have + got);
    }
    assert_int_equal(have, want < there ? want : there);
}

static void check_round_trip(bool past_cache, size_t size)
{
    struct os_direct d;
    uint64_t found;
    assert_true(os_file_truncate(&file, 0, &err));
    assert_int_equal(lseek(file.fd, 0, SEEK_SET), 0);
    assert_true(write_pieces(past_cache, size));
    assert_true(os_file_sync(&file, &err));
    assert_true(os_file_size(&file, &found, &err));
    assert_int_equal(found, size);
    os_direct_begin(&d, &file, past_cache);
    check_from(&d, 0, size);
    for (int i = 0; i < 20; i++) {
        check_from(&d, (size_t)next_random(size + 1), size);
        check_aimed(&d, (size_t)next_random(size + 1), (size_t)next_random(60000), size);
    }
    check_aimed(&d, 0, size, size);
    os_direct_end(&d);
}

/* Pieces of any size are in the file as they were given, and are read from any place, past the page
 * cache and through it; files that end within a block, at its end, or are empty. */
static void test_round_trip(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 4095, 4096, 16384, 16385, 32768, FILE_BYTES};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        check_round_trip(true, sizes[i]);
        check_round_trip(false, sizes[i]);
    }
}

/* A write that fails is told at once or by the flush. */
static void test_write_fails(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 6; nth++) {
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_WRITE, .nth = nth, .os_errno = 28});
        assert_false(write_pieces(true, FILE_BYTES));
        assert_int_equal(err.code, ERROR_NO_SPACE);
    }
}

/* A file system that allows the flag and refuses the calls is used through the page cache. */
static void test_refused(void **state)
{
    (void)state;
    os_fault_set(&(struct os_fault_plan){.op = OS_OP_WRITE, .nth = 2, .os_errno = 22});
    check_round_trip(true, FILE_BYTES);
    os_fault_set(&(struct os_fault_plan){.op = OS_OP_READ, .nth = 2, .os_errno = 22});
    check_round_trip(true, FILE_BYTES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
        cmocka_unit_test_setup_teardown(test_write_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
