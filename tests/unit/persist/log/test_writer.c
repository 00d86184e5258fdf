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

#include "base/clock.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/fault.h"
#include "os/file.h"
#include "persist/log/annotation.h"
#include "persist/log/remover.h"
#include "persist/log/writer.h"
#include "flush.h"

#define HISTORY "0123456789abcdef0123456789abcdef01234567"
#define LONG_US (60 * INT64_C(1000000))

static char dir[64];
static struct error err;
static int wakes;
static uint64_t seed;

static uint64_t rnd(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
}

static void on_wake(void *ctx)
{
    (void)ctx;
    __atomic_fetch_add(&wakes, 1, __ATOMIC_SEQ_CST);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/hf-test-writer-XXXXXX");
    assert_non_null(mkdtemp(dir));
    wakes = 0;
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

/* A log with everything that a test looks at: what was appended is kept beside it. */
struct log {
    struct stream *stream;
    struct writer *writer;
    struct manifest manifest;
    struct text effects; /* everything that was appended */
    uint64_t number;
};

static void open_writer(struct log *l, enum writer_sync sync)
{
    *l = (struct log){.stream = stream_new(0)};
    manifest_init(&l->manifest);
    struct writer_options options = {
        .directory = dir, .filename = "a.aof", .sync = sync, .wake = on_wake};
    l->writer = writer_new(l->stream, &options, &err);
    assert_non_null(l->writer);
}

static bool begin(struct log *l)
{
    const struct manifest_file *f = manifest_add_incremental(&l->manifest, "a.aof");
    struct writer_begin b = {.name = f->name,
                             .lsn = stream_published(l->stream),
                             .history = HISTORY,
                             .manifest = &l->manifest};
    writer_begin(l->writer, &b);
    return writer_wait(l->writer, &err);
}

static void close_log(struct log *l)
{
    writer_free(l->writer);
    stream_free(l->stream);
    manifest_free(&l->manifest);
    text_free(&l->effects);
}

/* Appends effects of random sizes and publishes them. */
static void append(struct log *l, int count, size_t most)
{
    for (int i = 0; i < count; i++) {
        char key[32];
        size_t size = rnd() % (most + 1);
        char *value = mem_alloc(size + 1);
        memset(value, 'a' + (int)(l->number % 26), size);
        int n = snprintf(key, sizeof(key), "key:%llu", (unsigned long long)l->number++);
        struct slice argv[] = {SLICE("SET"), slice_of(key, (size_t)n), slice_of(value, size)};
        if (stream_end(l->stream) == 0 || l->effects.size == 0)
            text_append_cstr(&l->effects, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
        text_appendf(&l->effects, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%zu\r\n", n, key, size);
        text_append(&l->effects, value, size);
        text_append_cstr(&l->effects, "\r\n");
        stream_append(l->stream, 0, argv, 3);
        mem_free(value);
    }
    assert_int_equal(stream_end(l->stream), l->effects.size);
    stream_publish(l->stream);
    writer_published(l->writer, clock_monotonic_us());
}

/* Waits for the thread; a test that would wait for ever fails. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        int64_t until = clock_monotonic_us() + LONG_US;                                            \
        while (!(condition)) {                                                                     \
            assert_true(clock_monotonic_us() < until);                                             \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

static bool is_filling(struct slice line)
{
    for (size_t i = 0; i + 1 < line.size; i++) {
        if (line.data[i] != '#')
            return false;
    }
    return line.size > 1 && line.size <= ANNOTATION_FILL_LINE;
}

/* Reads a file by the rules of annotation.h, written down once more. What is found behind the last
 * valid line is left out. */
struct found {
    bool header, closed;
    uint64_t first_lsn, lsn;
    uint32_t chain, crc;
    struct text effects;
};

static void read_log(const char *name, struct found *found)
{
    char path[128], *data;
    size_t size;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    *found = (struct found){0};
    if (!os_file_read_whole(path, 64 << 20, &data, &size, &err))
        return;
    size_t at = 0, valid = 0;
    struct text pending = {0};
    uint32_t crc = 0;
    while (at < size) {
        const char *end = memchr(data + at, '\n', size - at);
        if (end == NULL)
            break;
        size_t line = (size_t)(end + 1 - (data + at));
        struct annotation a;
        if (data[at] != '#') {
            /* "*3", "$3", "SET", ...: the arguments are skipped by their lengths. */
            size_t from = at;
            long argc = strtol(data + at + 1, NULL, 10);
            at += line;
            bool whole = true;
            for (long i = 0; i < argc && whole; i++) {
                const char *p = memchr(data + at, '\n', size - at);
                long n = p != NULL ? strtol(data + at + 1, NULL, 10) : -1;
                whole = n >= 0 && (size_t)(p + 1 - data) + (size_t)n + 2 <= size;
                if (whole)
                    at = (size_t)(p + 1 - data) + (size_t)n + 2;
            }
            if (!whole)
                break;
            text_append(&pending, data + from, at - from);
            continue;
        }
        if (at == valid && at > 0 && is_filling(slice_of(data + at, line))) {
            valid = at += line;
            continue;
        }
        if (!annotation_parse(slice_of(data + at, line), &a))
            break;
        if (a.kind == ANNOTATION_LOG) {
            assert_int_equal(at, 0);
            crc = a.chain;
        }
        if (a.kind != ANNOTATION_GROUP) {
            crc = crc32c(crc, data + valid, at + a.crc_at - valid);
            if (crc != a.crc)
                break;
            valid = at + line;
            found->crc = crc;
            if (a.kind == ANNOTATION_LOG) {
                assert_string_equal(a.history, HISTORY);
                found->header = true;
                found->first_lsn = a.lsn;
                found->chain = a.chain;
            }
            found->lsn = a.lsn;
            found->closed = a.kind == ANNOTATION_CLOSE;
            if (pending.size > 0)
                text_append(&found->effects, pending.data, pending.size);
            pending.size = 0;
        }
        at += line;
    }
    text_free(&pending);
    mem_free(data);
    if (found->header)
        assert_int_equal(found->first_lsn + found->effects.size, found->lsn);
}

/* What the file has is the beginning of what was appended, and at least up to `lsn`. */
static void assert_has(const struct found *found, const struct log *l, uint64_t lsn)
{
    assert_true(found->lsn >= lsn);
    assert_true(found->lsn <= l->effects.size);
    if (found->effects.size > 0)
        assert_memory_equal(found->effects.data, l->effects.data + found->first_lsn,
                            found->effects.size);
}

/* Effects of all sizes come to the file in valid groups, and the file ends with a close line and
 * not with what was reserved. */
static void test_written(void **state)
{
    (void)state;
    struct log l;
    struct found found;
    open_writer(&l, WRITER_ALWAYS);
    assert_true(begin(&l));
    for (int i = 0; i < 20; i++)
        append(&l, 20, i % 5 == 4 ? 400000 : 200);
    WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
    assert_true(wakes > 0);
    assert_int_equal(writer_at_risk_since_us(l.writer), 0);
    writer_close(l.writer);
    assert_true(writer_wait(l.writer, &err));
    assert_int_equal(writer_state(l.writer), WRITER_IDLE);
    read_log("a.aof.1.incr.aof", &found);
    assert_true(found.header && found.closed);
    assert_int_equal(found.lsn, l.effects.size);
    assert_has(&found, &l, l.effects.size);
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(l.writer, stats);
    assert_int_equal(stats->chain, found.crc);
    assert_true(stats->groups > 0 && stats->sync.total == stats->syncs && stats->commit.total > 0);
    struct os_file f;
    uint64_t size = 0;
    char path[128];
    snprintf(path, sizeof(path), "%s/a.aof.1.incr.aof", dir);
    assert_true(os_file_open(&f, path, OS_OPEN_READ, &err) && os_file_size(&f, &size, &err));
    assert_int_equal(size, stats->file_size);
    os_file_close(&f, &err);
    mem_free(stats);
    text_free(&found.effects);
    close_log(&l);
}

/* With ALWAYS the room behind the last group is filled ahead, whatever the groups' sizes; what was
 * filled is given back when the file ends. */
static void test_filled_ahead(void **state)
{
    (void)state;
    struct log l;
    struct found found;
    char path[128], *data, filling[64];
    size_t size = 0;
    open_writer(&l, WRITER_ALWAYS);
    assert_true(begin(&l));
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    snprintf(path, sizeof(path), "%s/a.aof.1.incr.aof", dir);
    for (int i = 0; i < 400; i++) {
        append(&l, 1, i % 100 == 99 ? 400000 : 300);
        WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
        if (i % 20 != 0)
            continue;
        writer_get_stats(l.writer, stats);
        assert_true(os_file_read_whole(path, 64 << 20, &data, &size, &err));
        assert_true(size > stats->file_size);
        for (size_t at = stats->file_size; at < size; at++) {
            annotation_fill(at, filling, 1);
            assert_int_equal(data[at], filling[0]);
        }
        assert_int_not_equal(data[stats->file_size], '\n');
        assert_int_equal(size % 4096, 0); /* no line of it is cut */
        mem_free(data);
    }
    read_log("a.aof.1.incr.aof", &found);
    assert_has(&found, &l, l.effects.size);
    text_free(&found.effects);
    writer_close(l.writer);
    assert_true(writer_wait(l.writer, &err));
    writer_get_stats(l.writer, stats);
    read_log("a.aof.1.incr.aof", &found);
    assert_true(found.closed);
    assert_has(&found, &l, l.effects.size);
    assert_true(os_file_read_whole(path, 64 << 20, &data, &size, &err));
    assert_int_equal(size, stats->file_size);
    mem_free(data);
    mem_free(stats);
    text_free(&found.effects);
    close_log(&l);
}

/* The first filling behind the first group begins with no line end, wherever that group ends: it
 * would be an empty line, which redis-server does not read. */
static void test_first_filling(void **state)
{
    (void)state;
    for (size_t more = 0; more < ANNOTATION_FILL_LINE; more++) {
        struct log l;
        char path[128], *data, value[512];
        size_t size = 0;
        open_writer(&l, WRITER_ALWAYS);
        assert_true(begin(&l));
        memset(value, 'v', sizeof(value));
        struct slice argv[] = {SLICE("SET"), SLICE("key"), slice_of(value, 300 + more)};
        stream_append(l.stream, 0, argv, 3);
        stream_publish(l.stream);
        writer_published(l.writer, clock_monotonic_us());
        WAIT_FOR(writer_durable_lsn(l.writer) == stream_end(l.stream));
        struct writer_stats *stats = mem_alloc(sizeof(*stats));
        writer_get_stats(l.writer, stats);
        snprintf(path, sizeof(path), "%s/a.aof.1.incr.aof", dir);
        assert_true(os_file_read_whole(path, 64 << 20, &data, &size, &err));
        assert_true(size > stats->file_size);
        assert_int_equal(data[stats->file_size], '#');
        mem_free(data);
        mem_free(stats);
        close_log(&l);
        snprintf(path, sizeof(path), "rm -rf %s/*", dir);
        assert_int_equal(system(path), 0);
    }
}

/* Without a sync by the policy nothing is durable; everysec syncs within its second, by itself. */
static void test_policies(void **state)
{
    (void)state;
    struct log l;
    open_writer(&l, WRITER_NO);
    assert_true(begin(&l));
    os_fault_record(dir); /* so that calls are counted */
    uint64_t syncs = os_fault_calls(OS_OP_SYNC);
    append(&l, 10, 100);
    WAIT_FOR(writer_written_lsn(l.writer) == l.effects.size);
    usleep(700000);
    assert_int_equal(os_fault_calls(OS_OP_SYNC), syncs);
    assert_int_equal(writer_durable_lsn(l.writer), 0);
    assert_true(writer_at_risk_since_us(l.writer) != 0);
    writer_set_sync(l.writer, WRITER_EVERYSEC);
    WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
    assert_int_equal(os_fault_calls(OS_OP_SYNC), syncs + 1);
    append(&l, 10, 100);
    WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
    assert_int_equal(os_fault_calls(OS_OP_SYNC), syncs + 2);
    writer_set_sync(l.writer, WRITER_NO);
    append(&l, 10, 100);
    assert_true(flush_writer(l.writer, l.stream, LONG_US / 1000));
    assert_int_equal(writer_durable_lsn(l.writer), l.effects.size);
    os_fault_forget();
    close_log(&l);
}

static void no_wake(void *ctx)
{
    (void)ctx;
}

/* Rotation: what was published before is in the old file, which is closed; the rest is in the new
 * one, whose chain goes on; both are named. A file that is not named makes nothing durable. */
static void test_rotate(void **state)
{
    (void)state;
    struct log l;
    struct found first, second;
    open_writer(&l, WRITER_ALWAYS);
    assert_true(begin(&l));
    append(&l, 500, 2000);
    uint64_t cut = l.effects.size;
    const struct manifest_file *f = manifest_add_incremental(&l.manifest, "a.aof");
    writer_rotate(l.writer, f->name, &l.manifest);
    append(&l, 50, 200);
    assert_true(writer_wait(l.writer, &err));
    WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
    read_log("a.aof.1.incr.aof", &first);
    read_log("a.aof.2.incr.aof", &second);
    assert_true(first.closed && first.lsn == cut);
    assert_has(&first, &l, cut);
    assert_int_equal(second.first_lsn, cut);
    assert_int_equal(second.chain, first.crc);
    assert_has(&second, &l, l.effects.size);
    struct manifest named;
    assert_true(manifest_read(&named, dir, "a.aof", &err));
    assert_int_equal(named.count, 2);
    manifest_free(&named);
    text_free(&first.effects);
    text_free(&second.effects);

    uint64_t durable = l.effects.size;
    manifest_retire_before(&l.manifest, 3);
    f = manifest_add_incremental(&l.manifest, "a.aof");
    struct writer_begin b = {.name = f->name, .lsn = durable, .history = HISTORY};
    writer_begin(l.writer, &b);
    assert_true(writer_wait(l.writer, &err));
    append(&l, 50, 200);
    WAIT_FOR(writer_written_lsn(l.writer) == l.effects.size);
    usleep(20000);
    assert_int_equal(writer_durable_lsn(l.writer), durable);
    writer_name(l.writer, &l.manifest);
    assert_true(writer_wait(l.writer, &err));
    assert_int_equal(writer_durable_lsn(l.writer), l.effects.size);
    assert_true(manifest_read(&named, dir, "a.aof", &err));
    assert_int_equal(named.count, 3);
    manifest_free(&named);
    /* What is history goes when it is asked for, and is then forgotten. */
    struct remover *r = remover_start(dir, &l.manifest, no_wake, NULL, &err);
    assert_non_null(r);
    WAIT_FOR(remover_ended(r));
    remover_finish(r, &l.manifest);
    assert_int_equal(l.manifest.count, 1);
    char path[128];
    snprintf(path, sizeof(path), "%s/a.aof.1.incr.aof", dir);
    assert_false(os_path_exists(path));
    close_log(&l);
}

/* One life of a log, for the tests of faults: begins, appends, rotates, closes; as far as it
 * gets. */
static void live(struct log *l)
{
    if (!begin(l))
        return;
    for (int i = 0; i < 6 && writer_state(l->writer) == WRITER_OPEN; i++) {
        append(l, (int)(rnd() % 5) + 1, 3000);
        if (rnd() % 2 == 0)
            flush_writer(l->writer, l->stream, LONG_US / 1000);
        if (i == 3) {
            const struct manifest_file *f = manifest_add_incremental(&l->manifest, "a.aof");
            writer_rotate(l->writer, f->name, &l->manifest);
            writer_wait(l->writer, &err);
        }
    }
    writer_close(l->writer);
    writer_wait(l->writer, &err);
}

/* What is found in all files that the manifest on disk names: the LSN up to which it is whole. */
static uint64_t found_lsn(const struct log *l)
{
    struct manifest m;
    uint64_t lsn = 0;
    if (!manifest_read(&m, dir, "a.aof", &err))
        return 0;
    for (size_t i = 0; i < m.count; i++) {
        struct found found;
        read_log(m.files[i].name, &found);
        assert_true(found.header); /* it is named only when that is on disk */
        assert_int_equal(found.first_lsn, lsn);
        assert_has(&found, l, 0);
        lsn = found.lsn;
        text_free(&found.effects);
    }
    manifest_free(&m);
    return lsn;
}

/* Wherever the power goes, what was said to be durable is there afterwards, and what is there is
 * what was appended. */
static void test_power_loss(void **state)
{
    (void)state;
    int lost = 0;
    for (uint64_t nth = 1; nth <= 45; nth++) {
        struct log l;
        open_writer(&l, nth % 3 == 0 ? WRITER_EVERYSEC : WRITER_ALWAYS);
        os_fault_record(dir);
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_ANY, .nth = nth, .cut_power = true});
        live(&l);
        os_fault_cut();
        uint64_t durable = writer_durable_lsn(l.writer);
        writer_free(l.writer);
        os_fault_set(NULL);
        os_fault_power_loss(rnd());
        uint64_t lsn = found_lsn(&l);
        assert_true(lsn >= durable);
        lost += lsn < l.effects.size;
        stream_free(l.stream);
        manifest_free(&l.manifest);
        text_free(&l.effects);
        assert_int_equal(teardown(NULL), 0);
        setup(NULL);
    }
    assert_true(lost > 0);
}

/* Whichever call fails: the log says so, what it called durable is in the files, and the file is
 * neither written nor synced again. */
static void test_errors(void **state)
{
    (void)state;
    static const enum os_op ops[] = {OS_OP_WRITE, OS_OP_SYNC};
    int failed = 0;
    for (size_t o = 0; o < 2; o++) {
        for (uint64_t nth = 1; nth <= 24; nth++) {
            struct log l;
            open_writer(&l, WRITER_ALWAYS);
            os_fault_set(&(struct os_fault_plan){
                .op = ops[o], .nth = nth, .os_errno = EIO, .shorten = nth % 2});
            live(&l);
            if (writer_state(l.writer) == WRITER_FAILED) {
                failed++;
                uint64_t calls = os_fault_calls(OS_OP_WRITE) + os_fault_calls(OS_OP_SYNC);
                uint64_t durable = writer_durable_lsn(l.writer);
                append(&l, 3, 100);
                assert_false(flush_writer(l.writer, l.stream, 1000));
                assert_int_equal(os_fault_calls(OS_OP_WRITE) + os_fault_calls(OS_OP_SYNC), calls);
                assert_int_equal(writer_durable_lsn(l.writer), durable);
                struct writer_stats *stats = mem_alloc(sizeof(*stats));
                writer_get_stats(l.writer, stats);
                assert_non_null(strstr(stats->error.message, "Input/output error"));
                mem_free(stats);
            }
            assert_true(found_lsn(&l) >= writer_durable_lsn(l.writer));
            /* A new file heals it. */
            os_fault_set(NULL);
            if (writer_state(l.writer) == WRITER_FAILED) {
                assert_true(begin(&l));
                assert_int_equal(writer_state(l.writer), WRITER_OPEN);
                append(&l, 1, 10);
                assert_true(flush_writer(l.writer, l.stream, LONG_US / 1000));
            }
            close_log(&l);
            assert_int_equal(teardown(NULL), 0);
            setup(NULL);
        }
    }
    assert_true(failed > 10);
}

/* A full disk loses nothing: the log waits, says so, and goes on when there is room. */
static void test_no_space(void **state)
{
    (void)state;
    for (uint64_t nth = 1; nth <= 4; nth++) {
        struct log l;
        struct found found;
        open_writer(&l, WRITER_ALWAYS);
        assert_true(begin(&l));
        append(&l, 10, 1000);
        WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
        uint64_t durable = l.effects.size;
        /* Reserving, too, is a write to the fault layer. */
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_WRITE, .nth = nth, .os_errno = ENOSPC,
                                             .sticky = true, .shorten = true});
        while (writer_state(l.writer) == WRITER_OPEN && l.effects.size < 40000000)
            append(&l, 10, 100000);
        WAIT_FOR(writer_state(l.writer) == WRITER_FULL);
        append(&l, 10, 1000);
        usleep(250000);
        assert_int_equal(writer_state(l.writer), WRITER_FULL);
        assert_true(writer_durable_lsn(l.writer) >= durable);
        os_fault_set(NULL);
        int64_t freed = clock_monotonic_us();
        WAIT_FOR(writer_durable_lsn(l.writer) == l.effects.size);
        WAIT_FOR(writer_state(l.writer) == WRITER_OPEN);
        assert_true(clock_monotonic_us() - freed < LONG_US / 2);
        read_log("a.aof.1.incr.aof", &found);
        assert_has(&found, &l, l.effects.size);
        text_free(&found.effects);
        close_log(&l);
        assert_int_equal(teardown(NULL), 0);
        setup(NULL);
    }
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)clock_wall_us();
    seed = seed != 0 ? seed : 1;
    print_message("HF_SEED=%llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_written, setup, teardown),
        cmocka_unit_test_setup_teardown(test_filled_ahead, setup, teardown),
        cmocka_unit_test_setup_teardown(test_first_filling, setup, teardown),
        cmocka_unit_test_setup_teardown(test_policies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rotate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_power_loss, setup, teardown),
        cmocka_unit_test_setup_teardown(test_errors, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_space, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
