/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a node of a quorum keeps on its disk, on disks that fail, lose their power and change bytes:
 * what counts as saved must be there, and what is not known to be there must not count.
 */
#include "server/quorum_file.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/fault.h"
#include "os/file.h"
#include "os/process.h"
#include "unit/random.h"

static char directory[64], path[100];
static int woken; /* atomic */

static void wake(void *ctx)
{
    (void)ctx;
    __atomic_add_fetch(&woken, 1, __ATOMIC_SEQ_CST);
}

static int setup(void **state)
{
    (void)state;
    random_begin();
    log_set_level(LOG_LEVEL_NOTHING); /* failures are what is tested */
    snprintf(directory, sizeof(directory), "%s/hf-test-quorum-XXXXXX",
             os_path_exists("/dev/shm") ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/%s", directory, QUORUM_FILE);
    return 0;
}

static int teardown(void **state)
{
    char command[100];
    (void)state;
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    return system(command);
}

static struct quorum_state some_state(void)
{
    struct quorum_state q = {.promised = random_bits() >> random_below(64),
                             .log_epoch = random_bits() >> random_below(64),
                             .log_lsn = random_bits() >> random_below(64),
                             .cap = random_below(2) ? QUORUM_NO_CAP
                                                    : random_bits() >> (1 + random_below(63))};
    size_t length = random_below(CONFIG_NODE_NAME);
    for (size_t i = 0; i < length; i++)
        q.promised_to[i] = "abc-XYZ_019"[random_below(11)];
    /* That is the form of nobody. */
    if (strcmp(q.promised_to, "-") == 0)
        q.promised_to[0] = '\0';
    return q;
}

static bool same(const struct quorum_state *a, const struct quorum_state *b)
{
    return a->promised == b->promised && strcmp(a->promised_to, b->promised_to) == 0 &&
           a->log_epoch == b->log_epoch && a->log_lsn == b->log_lsn && a->cap == b->cap;
}

/* What the next start would find. */
static bool found(struct quorum_state *state, struct error *err)
{
    struct quorum_file *f = quorum_file_new(path, wake, NULL);
    bool ok = quorum_file_load(f, state, err);
    quorum_file_free(f);
    return ok;
}

static void expect_found(const struct quorum_state *expected)
{
    struct quorum_state state;
    struct error err = {0};
    assert_true(found(&state, &err));
    assert_true(same(&state, expected));
}

static void write_bytes(const char *data, size_t size)
{
    struct os_file f;
    struct error err;
    assert_true(os_file_open(&f, path, OS_OPEN_CREATE_TRUNCATE, &err));
    assert_true(os_file_write(&f, data, size, &err));
    assert_true(os_file_close(&f, &err));
}

static void expect_refused(enum error_code code, const char *word)
{
    struct quorum_state state;
    struct error err = {0};
    assert_false(found(&state, &err));
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, QUORUM_FILE));
    assert_non_null(strstr(err.message, word));
    /* Nothing of what could not be read is left in what the caller has. */
    struct quorum_state none = {.cap = QUORUM_NO_CAP};
    assert_true(same(&state, &none));
}

/* The thread has ended what it was at, and the executor takes it. */
static void wait_for_wake(struct quorum_file *f, int before)
{
    while (__atomic_load_n(&woken, __ATOMIC_SEQ_CST) == before)
        os_sleep_us(100);
    quorum_file_step(f);
}

static void save_and_wait(struct quorum_file *f, const struct quorum_state *state)
{
    int before = __atomic_load_n(&woken, __ATOMIC_SEQ_CST);
    quorum_file_save(f, state);
    wait_for_wake(f, before);
}

/* What is saved is what a start finds, whatever the values; where there is no file there is what a
 * new node has. */
static void test_saved_and_found(void **state)
{
    (void)state;
    const struct quorum_state new = {.cap = QUORUM_NO_CAP};
    expect_found(&new);
    struct quorum_file *f = quorum_file_new(path, wake, NULL);
    for (int i = 0; i < 200; i++) {
        struct quorum_state q = some_state();
        if (i % 2) {
            assert_true(quorum_file_save_now(f, &q));
        } else {
            save_and_wait(f, &q);
            assert_true(same(quorum_file_saved(f), &q));
        }
        assert_true(quorum_file_is_saved(f, &q));
        assert_true(quorum_file_is_sure(f));
        expect_found(&q);
    }
    quorum_file_free(f);
}

/* While one is being written nothing counts as saved but what was; of those that come meanwhile the
 * last one is written, and only that. What is there already is not written again. */
static void test_the_last_one_is_written(void **state)
{
    (void)state;
    struct quorum_state a = {.promised = 1, .cap = QUORUM_NO_CAP}, b = {.promised = 2, .cap = 5},
                        c = {.promised = 3, .promised_to = "c", .cap = 7};
    struct quorum_file *f = quorum_file_new(path, wake, NULL);
    int before = __atomic_load_n(&woken, __ATOMIC_SEQ_CST);
    os_fault_set(&(struct os_fault_plan){.op = OS_OP_RENAME, .nth = 1000, .os_errno = EIO});
    quorum_file_save(f, &a);
    /* It is not taken before quorum_file_step, however fast the thread is. */
    quorum_file_save(f, &b);
    quorum_file_save(f, &c);
    assert_int_equal(quorum_file_saved(f)->promised, 0);
    assert_false(quorum_file_is_saved(f, &a));
    wait_for_wake(f, before);
    assert_true(same(quorum_file_saved(f), &a));
    assert_false(quorum_file_is_saved(f, &a)); /* c is on its way, and may be there */
    while (__atomic_load_n(&woken, __ATOMIC_SEQ_CST) < before + 2)
        os_sleep_us(100);
    quorum_file_step(f);
    assert_true(quorum_file_is_saved(f, &c));
    assert_int_equal(os_fault_calls(OS_OP_RENAME), 2);
    quorum_file_save(f, &c);
    assert_true(quorum_file_save_now(f, &c));
    assert_int_equal(os_fault_calls(OS_OP_RENAME), 2);
    /* Who cannot wait waits for the one that is under way, too: the older one does not come after
     * it. */
    quorum_file_save(f, &a);
    assert_true(quorum_file_save_now(f, &b));
    assert_true(quorum_file_is_saved(f, &b));
    quorum_file_step(f);
    assert_true(quorum_file_is_saved(f, &b));
    assert_int_equal(os_fault_calls(OS_OP_RENAME), 4);
    os_fault_set(NULL);
    expect_found(&b);
    quorum_file_free(f);
}

/* Each call on the disk fails once. Then what was saved before is still there or the new one is, as
 * nobody knows, so neither counts; and to go back to the old one takes another write, as much as to
 * have the new one. */
static void test_a_failed_write(void **state)
{
    (void)state;
    struct quorum_state old = {
        .promised = 4, .promised_to = "a", .log_epoch = 3, .log_lsn = 70, .cap = 90};
    struct quorum_state new = {
        .promised = 5, .promised_to = "b", .log_epoch = 3, .log_lsn = 70, .cap = QUORUM_NO_CAP};
    int failures = 0, after_rename = 0;
    for (int way = 0; way < 4; way++) {
        bool now = way % 2, back = way / 2;
        bool failed = true;
        for (uint64_t nth = 1; failed; nth++) {
            struct quorum_file *f = quorum_file_new(path, wake, NULL);
            struct quorum_state there;
            struct error err = {0};
            assert_true(quorum_file_save_now(f, &old));
            os_fault_set(&(struct os_fault_plan){
                .op = OS_OP_ANY, .nth = nth, .os_errno = EIO, .shorten = true});
            if (now)
                quorum_file_save_now(f, &new);
            else
                save_and_wait(f, &new);
            os_fault_set(NULL);
            failed = !quorum_file_is_sure(f);
            if (!failed) {
                assert_true(quorum_file_is_saved(f, &new));
                quorum_file_free(f);
                break;
            }
            failures++;
            assert_true(same(quorum_file_saved(f), &old));
            assert_false(quorum_file_is_saved(f, &old));
            assert_false(quorum_file_is_saved(f, &new));
            assert_true(found(&there, &err));
            assert_true(same(&there, &old) || same(&there, &new));
            after_rename += same(&there, &new);
            const struct quorum_state *then = back ? &old : &new;
            if (now) {
                assert_true(quorum_file_save_now(f, then));
            } else {
                /* By itself, after a pause. */
                quorum_file_save(f, then);
                while (!quorum_file_is_saved(f, then)) {
                    os_sleep_us(1000);
                    quorum_file_step(f);
                }
            }
            assert_true(quorum_file_is_sure(f));
            assert_true(same(quorum_file_saved(f), then));
            quorum_file_free(f);
            expect_found(then);
        }
    }
    assert_true(failures >= 16);
    assert_true(after_rename >= 4);
}

/* The power goes before each call in turn: a start finds the old state or the new one, and the new
 * one if it counted as saved. What was not finished is removed. */
static void test_power_loss(void **state)
{
    (void)state;
    struct quorum_state old = {
        .promised = 4, .promised_to = "a", .log_epoch = 3, .log_lsn = 70, .cap = 90};
    struct quorum_state new = {
        .promised = 5, .promised_to = "b", .log_epoch = 3, .log_lsn = 70, .cap = QUORUM_NO_CAP};
    int lost = 0, kept = 0;
    for (int round = 0; round < 20; round++) {
        bool cut = true;
        for (uint64_t nth = 1; cut; nth++) {
            struct quorum_file *f = quorum_file_new(path, wake, NULL);
            struct quorum_state there;
            struct error err = {0};
            assert_true(quorum_file_save_now(f, &old));
            os_fault_record(directory);
            os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY, .nth = nth, .cut_power = true});
            bool saved = quorum_file_save_now(f, &new);
            cut = os_fault_is_cut();
            assert_true(cut || saved);
            os_fault_cut();
            os_fault_set(NULL);
            os_fault_power_loss(random_bits());
            quorum_file_free(f);
            assert_true(found(&there, &err));
            assert_true(same(&there, &new) || (!saved && same(&there, &old)));
            lost += same(&there, &old);
            kept += same(&there, &new);
        }
    }
    assert_true(lost > 0 && kept > 0);
    char left[140];
    snprintf(left, sizeof(left), "%s.tmp-1", path);
    FILE *file = fopen(left, "w");
    assert_non_null(file);
    fclose(file);
    snprintf(left, sizeof(left), "%s.tmp-of-mine", path);
    file = fopen(left, "w");
    assert_non_null(file);
    fclose(file);
    struct quorum_state there;
    struct error err = {0};
    assert_true(found(&there, &err));
    assert_int_equal(access(left, F_OK), 0);
    snprintf(left, sizeof(left), "%s.tmp-1", path);
    assert_int_not_equal(access(left, F_OK), 0);
}

/* A file that was cut short anywhere, has one bit that is another one, or something more at its
 * end, is refused: what this node has promised is not known. */
static void test_damage(void **state)
{
    (void)state;
    struct quorum_file *f = quorum_file_new(path, wake, NULL);
    struct error err = {0};
    char *data, copy[400];
    size_t size;
    for (int round = 0; round < 3; round++) {
        struct quorum_state q = some_state();
        assert_true(quorum_file_save_now(f, &q));
        assert_true(os_file_read_whole(path, 4096, &data, &size, &err));
        assert_true(size < sizeof(copy));
        for (size_t n = 0; n < size; n++) {
            write_bytes(data, n);
            expect_refused(ERROR_CORRUPT, "is damaged");
        }
        for (size_t i = 0; i < size; i++) {
            for (int bit = 0; bit < 8; bit++) {
                memcpy(copy, data, size);
                copy[i] = (char)(copy[i] ^ (1 << bit));
                write_bytes(copy, size);
                expect_refused(ERROR_CORRUPT, "is damaged");
            }
        }
        memcpy(copy, data, size);
        copy[size] = '\n';
        write_bytes(copy, size + 1);
        expect_refused(ERROR_CORRUPT, "is damaged");
        write_bytes(data, size);
        expect_found(&q);
        mem_free(data);
    }
    quorum_file_free(f);
    char *large = mem_zalloc(10000);
    write_bytes(large, 10000);
    expect_refused(ERROR_TOO_LARGE, "larger than");
    mem_free(large);
}

static void write_with_crc(const char *text)
{
    struct text t = {0};
    text_appendf(&t, "%s%08x\n", text, crc32c(0, text, strlen(text)));
    write_bytes(t.data, t.size);
    text_free(&t);
}

/* What a later version wrote is told from damage: it may have promised what this one does not know
 * of. */
static void test_a_newer_version(void **state)
{
    (void)state;
    struct quorum_state q = {
        .promised = 7, .promised_to = "b", .log_epoch = 2, .log_lsn = 30, .cap = 40};
    write_with_crc("holdfast-quorum 1\npromised 7 b\nlog 2 30\ncap 40\n");
    expect_found(&q);
    static const char *const newer[] = {
        "holdfast-quorum 2\npromised 7 b\nlog 2 30\n",
        "holdfast-quorum 10\npromised 7 b\nlog 2 30\n",
        "holdfast-quorum 1\npromised 7 b\nlog 2 30\nnodes a b c\n",
        "holdfast-quorum 1\npromised 7 b\nlog 2 30\ncap 40\nnodes a b c\n",
        "holdfast-quorum 1\npromised 7 a-name-that-is-longer-than-any-is-now\nlog 2 30\n",
    };
    for (size_t i = 0; i < sizeof(newer) / sizeof(newer[0]); i++) {
        write_with_crc(newer[i]);
        expect_refused(ERROR_UNSUPPORTED, "is of a newer version");
    }
    write_with_crc("something else\n");
    expect_refused(ERROR_CORRUPT, "is damaged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_saved_and_found),  cmocka_unit_test(test_the_last_one_is_written),
        cmocka_unit_test(test_a_failed_write),   cmocka_unit_test(test_power_loss),
        cmocka_unit_test(test_damage),           cmocka_unit_test(test_a_newer_version),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
