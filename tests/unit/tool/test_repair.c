/* SPDX-License-Identifier: BSD-3-Clause
 *
 * `holdfast repair` on a disk that loses its power before every one of its calls.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../persist/log/log_bytes.h"
#include "base/mem.h"
#include "os/fault.h"
#include "os/file.h"
#include "persist/log/manifest.h"
#include "persist/log/reader.h"
#include "tool/tool.h"

#define NAME "a.aof"
#define FILES 3
#define GROUPS 4 /* in each file */

static char directory[64];
static uint64_t seed;

static void path_of(char out[400], const char *name)
{
    snprintf(out, 400, "%s/%s", directory, name);
}

static void write_file(const char *name, struct slice bytes)
{
    struct os_file f;
    struct error err;
    char path[400];
    path_of(path, name);
    assert_true(os_file_open(&f, path, OS_OPEN_CREATE_TRUNCATE, &err));
    assert_true(os_file_write(&f, bytes.data, bytes.size, &err));
    assert_true(os_file_close(&f, &err));
}

/* Three incrementals of groups "SET key <file>.<group>", and a flipped bit in the second: in its
 * second group, or in its first line, so that nothing of it can be kept. */
static void make_log(bool first_line)
{
    struct log_bytes l = {0};
    struct manifest m = {0};
    struct error err;
    char command[200];
    snprintf(command, sizeof(command), "rm -rf %s/*", directory);
    assert_int_equal(system(command), 0);
    for (int f = 0; f < FILES; f++) {
        text_clear(&l.text);
        l.summed = 0;
        log_begin(&l, 1000 * f);
        size_t second = 0;
        for (int g = 0; g < GROUPS; g++) {
            if (g == 1)
                second = l.text.size;
            snprintf(command, sizeof(command), "SET key value-%d.%d", f, g);
            log_group_begin(&l);
            log_command(&l, command);
            log_group_end(&l, 1000 * f + g);
        }
        /* What stands before the SET of the second group. */
        if (f == 1)
            l.text.data[first_line ? 8 : second + 16] ^= 1;
        write_file(manifest_add_incremental(&m, NAME)->name, text_slice(&l.text));
    }
    assert_true(manifest_write(&m, directory, NAME, &err));
    manifest_free(&m);
    text_free(&l.text);
}

static int run_repair(void)
{
    char *argv[] = {(char *)(uintptr_t)"repair", (char *)(uintptr_t)"--yes", directory, NULL};
    optind = 0;
    return tool_repair(2, argv + 1);
}

/* What the manifest's files hold, as far as it is valid: the values, each followed by a blank. */
static void read_log(struct text *out)
{
    struct manifest m;
    struct error err;
    struct log_position at = {0};
    struct log_batch b;
    log_batch_init(&b);
    assert_true(manifest_read(&m, directory, NAME, &err));
    for (size_t i = 0; i < m.count; i++) {
        char path[400];
        path_of(path, m.files[i].name);
        struct log_reader *r = log_reader_open(path, 0, &at, &err);
        assert_non_null(r);
        enum log_read end;
        while ((end = log_reader_next(r, &b, &err)) == LOG_READ_GROUPS) {
            for (size_t c = 0; c < b.command_count; c++) {
                struct slice value = b.args[b.commands[c].first_arg + 2];
                text_append(out, value.data, value.size);
                text_append_cstr(out, " ");
            }
        }
        assert_int_equal(end, LOG_READ_END);
        const struct log_status *s = log_reader_status(r);
        at = (struct log_position){.lsn = s->lsn, .crc = s->crc, .ms = s->ms, .known = true};
        log_reader_close(r);
    }
    log_batch_free(&b);
    manifest_free(&m);
}

/* Each value is in some file. */
static void check_kept(void)
{
    char command[2000] = "true";
    for (int f = 0; f < FILES; f++) {
        for (int g = 0; g < GROUPS; g++) {
            size_t used = strlen(command);
            snprintf(command + used, sizeof(command) - used, " && grep -rqaF value-%d.%d %s", f, g,
                     directory);
        }
    }
    assert_int_equal(system(command), 0);
}

/* Interrupted anywhere it can be run again; afterwards the log is what is before the damage, and
 * every byte that was behind it is kept. */
static void test_power_loss(void **state)
{
    (void)state;
    for (int first_line = 0; first_line < 2; first_line++) {
        bool cut = true;
        for (uint64_t nth = 1; cut; nth++) {
            make_log(first_line);
            os_fault_record(directory);
            os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY, .nth = nth, .cut_power = true});
            int status = run_repair();
            cut = os_fault_is_cut();
            assert_true(cut || status == TOOL_OK);
            os_fault_cut();
            os_fault_set(NULL);
            os_fault_power_loss(seed + nth);
            assert_int_equal(run_repair(), TOOL_OK);
            struct text found = {0};
            read_log(&found);
            assert_string_equal(text_cstr(&found), first_line
                                                       ? "value-0.0 value-0.1 value-0.2 value-0.3 "
                                                       : "value-0.0 value-0.1 value-0.2 value-0.3 "
                                                         "value-1.0 ");
            text_free(&found);
            check_kept();
            assert_true(nth < 1000);
        }
    }
}

static int setup(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    print_message("HF_SEED=%llu\n", (unsigned long long)seed);
    snprintf(directory, sizeof(directory), "%s/hf-test-repair-XXXXXX",
             os_path_exists("/dev/shm") ? "/dev/shm" : "/tmp");
    return mkdtemp(directory) != NULL && freopen("/dev/null", "w", stdout) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_loss)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
