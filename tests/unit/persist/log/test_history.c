/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stream's past, from files of several generations.
 */
#include "persist/log/history.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_bytes.h"
#include "os/file.h"
#include "persist/log/manifest.h"
#include "unit/random.h"

#define NAME "a.aof"
#define FILES 4
#define GROUPS 5

static char directory[64];

/* The stream as it is said to be, by LSN, and where each file begins. */
static struct text stream;
static uint64_t begins[FILES];

static int setup(void **state)
{
    (void)state;
    random_begin();
    snprintf(directory, sizeof(directory), "%s/hf-test-history-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(directory) == NULL;
}

static int teardown(void **state)
{
    char command[100];
    (void)state;
    text_free(&stream);
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static void write_file(const char *name, struct slice bytes)
{
    struct os_file f;
    struct error err;
    char path[400];
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    assert_true(os_file_open(&f, path, OS_OPEN_CREATE_TRUNCATE, &err));
    assert_true(os_file_write(&f, bytes.data, bytes.size, &err));
    assert_true(os_file_close(&f, &err));
}

/* Files that follow each other; the one with the number `anew` begins a generation, at an LSN that
 * is `back` bytes before the end of the one before, which has something else from there on. (FILES:
 * there is none.) */
static void make_log(int anew, uint64_t back)
{
    struct log_bytes l = {0};
    struct manifest m = {0};
    struct error err;
    text_clear(&stream);
    for (int f = 0; f < FILES; f++) {
        text_clear(&l.text);
        if (f == anew) {
            l.crc = 0;
            l.lsn -= back;
            stream.size -= back;
        }
        begins[f] = l.lsn;
        log_begin(&l, 1000 * f);
        for (int g = 0; g < GROUPS; g++) {
            char command[40];
            snprintf(command, sizeof(command), "SET key value-%d.%d", f, g);
            log_group_begin(&l);
            size_t before = l.text.size;
            log_command(&l, command);
            text_append(&stream, l.text.data + before, l.text.size - before);
            log_group_end(&l, 1000 * f + g);
        }
        const char *name = manifest_add_incremental(&m, NAME)->name;
        write_file(name, text_slice(&l.text));
        if (f < 2)
            m.files[m.count - 1].type = MANIFEST_HISTORY;
    }
    assert_true(manifest_write(&m, directory, NAME, &err));
    manifest_free(&m);
    text_free(&l.text);
}

static bool take(void *ctx, struct slice bytes, struct error *err)
{
    (void)err;
    text_append(ctx, bytes.data, bytes.size);
    return true;
}

/* What is read from there to the end is the stream's; or it is not there, and nothing is given. */
static void expect(uint64_t from, bool there)
{
    struct text got = {0};
    struct error err = {0};
    bool ok = history_read(directory, NAME, from, stream.size, take, &got, &err);
    assert_int_equal(ok, there);
    if (ok) {
        assert_int_equal(got.size, stream.size - from);
        assert_memory_equal(got.data, stream.data + from, got.size);
    } else {
        assert_int_equal(err.code, ERROR_NOT_FOUND);
        assert_int_equal(got.size, 0);
    }
    text_free(&got);
}

/* From every LSN on, over all files; not beyond the end. */
static void test_one_generation(void **state)
{
    (void)state;
    make_log(FILES, 0);
    for (uint64_t from = 0; from < stream.size; from += 7)
        expect(from, true);
    struct text got = {0};
    struct error err = {0};
    assert_false(history_read(directory, NAME, 0, stream.size + 1, take, &got, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    text_free(&got);
}

/* Files from before a generation that was begun anew are not read, though they have that LSN: from
 * there on, or from before, they may have what is of another history. */
static void test_anew(void **state)
{
    (void)state;
    for (int anew = 1; anew < FILES; anew++) {
        for (uint64_t back = 0; back < 200; back += 60) {
            make_log(anew, back);
            for (uint64_t from = 0; from < stream.size; from += 7)
                expect(from, from >= begins[anew]);
        }
    }
}

/* Whatever is given is the stream's, and all of it is where it says so. */
static void expect_no_other(uint64_t from)
{
    struct text got = {0};
    struct error err = {0};
    bool ok = history_read(directory, NAME, from, stream.size, take, &got, &err);
    assert_true(got.size <= stream.size - from);
    assert_memory_equal(got.data, stream.data + from, got.size);
    if (ok)
        assert_int_equal(got.size, stream.size - from);
    text_free(&got);
}

static void flip_every_byte(const char *name)
{
    char path[400], *data;
    size_t size;
    struct error err = {0};
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    assert_true(os_file_read_whole(path, 1 << 20, &data, &size, &err));
    for (size_t at = 0; at < size; at++) {
        char good = data[at];
        data[at] = (char)(good ^ 1 << random_below(8));
        write_file(name, slice_of(data, size));
        for (int f = 0; f < FILES; f++)
            expect_no_other(begins[f]);
        data[at] = good;
    }
    write_file(name, slice_of(data, size));
    mem_free(data);
}

/* A flipped bit in each byte of a file, of the history or not, or of the manifest: what is damaged
 * is not given, nor what is of another history. */
static void test_damaged(void **state)
{
    (void)state;
    char name[40];
    for (int anew = 1; anew <= FILES; anew++) {
        make_log(anew, anew < FILES ? 60 : 0);
        for (int f = 1; f <= FILES; f++) {
            snprintf(name, sizeof(name), NAME ".%d.incr.aof", f);
            flip_every_byte(name);
        }
        flip_every_byte(NAME ".manifest");
        expect_no_other(begins[FILES - 1]);
        expect(begins[FILES - 1], true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_generation),
        cmocka_unit_test(test_anew),
        cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
