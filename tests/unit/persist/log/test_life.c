/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Whole lives of a log on a disk that loses its power: recovery, a new file, commits, a rewrite
 * (rotation, a base, the manifest), a new base after a failed disk, closing, and recovery of what is left,
 * whose power can go, too. The data are one key, "n", whose value counts: effect i sets it to i. So what
 * is recovered says how many effects it has, and an effect that is left out or done twice shows.
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
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/fault.h"
#include "os/file.h"
#include "persist/log/recovery.h"
#include "persist/log/writer.h"
#include "persist/saver.h"
#include "type/string.h"

#define NAME "a.aof"
#define HISTORY "0123456789abcdef0123456789abcdef01234567"
#define LONG_MS 60000
#define EFFECTS_MAX 100000

static char directory[64];
static uint64_t seed;
static uint64_t appended;              /* effects that anything on disk may have */
static uint64_t promised;              /* of these, so many are durable */
static uint64_t ends[EFFECTS_MAX];     /* the LSN behind each effect */
static unsigned rewrites, heals, closes, kills, torn, unsynced_groups;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

/* A server's parts, as far as the log needs them. */
struct life {
    struct keyspace *ks;
    struct saver *saver;
    struct stream *stream;
    struct writer *writer;
    struct manifest manifest; /* as on disk */
    struct error err;
};

static uint64_t get(struct keyspace *ks)
{
    struct keyref ref;
    const struct slice key = SLICE("n");
    int64_t n = 0;
    keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
    if (ref.entry != NULL)
        assert_true(string_get_int64(ref.entry, &n));
    return (uint64_t)n;
}

static void set(struct keyspace *ks, uint64_t n)
{
    struct keyref ref;
    const struct slice key = SLICE("n");
    keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
    string_set_int64(&ref, (int64_t)n, ENTRY_NO_EXPIRY);
}

static bool execute(void *ctx, const struct log_batch *b, size_t count, struct error *err)
{
    struct life *l = ctx;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        const struct log_command *c = &b->commands[i];
        const struct slice *args = &b->args[c->first_arg];
        if (c->control || slice_equal(args[0], SLICE("SELECT")))
            continue;
        /* SET n <number> <padding>; of a base: SET n <number> */
        char number[24];
        assert_in_range(c->argc, 3, 4);
        assert_true(args[2].size < sizeof(number));
        memcpy(number, args[2].data, args[2].size);
        number[args[2].size] = '\0';
        uint64_t n = strtoull(number, NULL, 10);
        if (c->argc == 4)
            assert_int_equal(n, get(l->ks) + 1);
        else
            assert_int_equal(get(l->ks), 0);
        set(l->ks, n);
    }
    return true;
}

static bool save(struct life *l, const char *path, uint64_t lsn)
{
    struct save_options o = {
        .version = RDB_VERSION_DEFAULT, .checksum = true, .verify = true, .threads = 1};
    snprintf(o.path, sizeof(o.path), "%s", path);
    o.commands = strcmp(path + strlen(path) - 4, ".aof") == 0;
    o.at.lsn = lsn;
    memcpy(o.at.history, HISTORY, sizeof(o.at.history));
    o.aux_count = 2;
    snprintf(o.aux[0].name, sizeof(o.aux[0].name), "repl-id");
    snprintf(o.aux[0].value, sizeof(o.aux[0].value), "%s", HISTORY);
    snprintf(o.aux[1].name, sizeof(o.aux[1].name), "repl-offset");
    snprintf(o.aux[1].value, sizeof(o.aux[1].value), "%llu", (unsigned long long)lsn);
    return saver_save(l->saver, &o, &l->err);
}

static bool save_base(void *ctx, const char *path, uint64_t lsn, const char *history,
                      struct error *err)
{
    struct life *l = ctx;
    (void)history;
    bool ok = save(l, path, lsn);
    *err = l->err;
    return ok;
}

/* Some effects, published. */
static void append(struct life *l)
{
    static char padding[3000];
    memset(padding, 'x', sizeof(padding));
    for (uint64_t i = next_random() % 4 + 1; i > 0; i--) {
        char number[24];
        assert_true(++appended < EFFECTS_MAX);
        int n = snprintf(number, sizeof(number), "%llu", (unsigned long long)appended);
        struct slice argv[] = {SLICE("SET"), SLICE("n"), slice_of(number, (size_t)n),
                               slice_of(padding, next_random() % sizeof(padding))};
        stream_append(l->stream, 0, argv, 4);
        ends[appended] = stream_end(l->stream);
        set(l->ks, appended);
    }
    stream_publish(l->stream);
    writer_published(l->writer, clock_monotonic_us());
}

/* What is durable by now is promised. */
static void promise(struct life *l)
{
    uint64_t durable = writer_durable_lsn(l->writer);
    while (promised < appended && ends[promised + 1] <= durable)
        promised++;
}

static bool flush(struct life *l)
{
    bool ok = writer_flush(l->writer, LONG_MS);
    promise(l);
    return ok;
}

static bool base_path(const struct manifest *m, char path[256])
{
    snprintf(path, 256, "%s/%s", directory, manifest_base(m)->name);
    return true;
}

/* A name that no file has: what was begun before a power loss may be there. */
static const struct manifest_file *add_incremental(struct manifest *m)
{
    for (;;) {
        char path[256];
        struct manifest_file *f = manifest_add_incremental(m, NAME);
        snprintf(path, sizeof(path), "%s/%s", directory, f->name);
        if (!os_path_exists(path))
            return f;
        f->type = MANIFEST_HISTORY;
        manifest_drop_history(m);
    }
}

static void remove_temporary(void *ctx, const char *file)
{
    struct error err;
    char path[400];
    (void)ctx;
    snprintf(path, sizeof(path), "%s/%s", directory, file);
    if (strncmp(file, WRITER_TEMPORARY, strlen(WRITER_TEMPORARY)) == 0)
        os_unlink(path, &err);
}

/* Put `next` on disk, and take it for what is there. */
static bool name(struct life *l, struct manifest *next)
{
    writer_name(l->writer, next);
    bool ok = writer_wait(l->writer, &l->err);
    if (ok) {
        manifest_free(&l->manifest);
        l->manifest = *next;
        *next = (struct manifest){0};
        manifest_drop_history(&l->manifest);
    }
    manifest_free(next);
    return ok;
}

/* A rewrite: a new file at this LSN, named beside the old ones; the base of this LSN; then these two
 * alone. */
static bool rewrite(struct life *l)
{
    struct manifest next;
    char path[256];
    stream_select_again(l->stream);
    const struct manifest_file *file = add_incremental(&l->manifest);
    uint64_t seq = file->seq, lsn = stream_published(l->stream);
    writer_rotate(l->writer, file->name, &l->manifest);
    if (!writer_wait(l->writer, &l->err))
        return false;
    manifest_copy(&next, &l->manifest);
    manifest_add_base(&next, NAME, next_random() % 2 == 0);
    manifest_retire_before(&next, seq);
    base_path(&next, path);
    if (!save(l, path, lsn)) {
        manifest_free(&next);
        return false;
    }
    append(l);
    rewrites++;
    return name(l, &next);
}

/* A new base and a provisional file, as after a disk that failed. */
static bool heal(struct life *l)
{
    struct manifest next;
    char path[256];
    manifest_copy(&next, &l->manifest);
    manifest_add_base(&next, NAME, next_random() % 2 == 0);
    const struct manifest_file *file = add_incremental(&next);
    manifest_retire_before(&next, file->seq);
    base_path(&next, path);
    stream_select_again(l->stream);
    struct writer_begin begin = {
        .name = file->name, .lsn = stream_published(l->stream), .history = HISTORY};
    writer_begin(l->writer, &begin);
    if (!writer_wait(l->writer, &l->err) || !save(l, path, begin.lsn)) {
        manifest_free(&next);
        return false;
    }
    append(l);
    heals++;
    return name(l, &next);
}

static void on_wake(void *ctx)
{
    (void)ctx; /* Everything is waited for. */
}

/* Several groups that are written and not synced. */
static bool write_unsynced(struct life *l)
{
    writer_set_sync(l->writer, next_random() % 2 == 0 ? WRITER_NO : WRITER_EVERYSEC);
    for (uint64_t i = next_random() % 6 + 1; i > 0; i--) {
        append(l);
        while (writer_written_lsn(l->writer) < stream_published(l->stream)) {
            if (writer_state(l->writer) == WRITER_FAILED)
                return false;
            usleep(100);
        }
        unsynced_groups++;
    }
    return true;
}

/* From the start of a server to its end, or to that of its power. `killed`: at its end it has written
 * more than it has synced. */
static bool live(struct life *l, bool killed)
{
    struct recovery_result result;
    struct recovery_options options = {
        .directory = directory,
        .filename = NAME,
        .rdb_path = "/nonexistent/dump.rdb",
        .cut_torn = true,
        .base_of_commands = next_random() % 2 == 0,
        .rdb = {.now_ms = 1, .checksum = true},
        .now_ms = 1790000000000 + (int64_t)(next_random() % 100000000),
        .new_history = HISTORY,
        .execute = execute,
        .save_base = save_base,
        .ctx = l,
    };
    if (!recovery_run(l->ks, &options, &result, &l->err)) {
        if (!os_fault_is_cut())
            fail_msg("recovery refuses: %s", l->err.message);
        return false;
    }
    l->manifest = result.manifest;
    os_dir_list(directory, remove_temporary, NULL, &l->err);
    torn += result.cut_bytes > 0;
    uint64_t found = get(l->ks);
    assert_true(promised <= found && found <= appended);
    appended = found;
    l->stream = stream_new(result.lsn);
    struct writer_options writer_options = {.directory = directory,
                                            .filename = NAME,
                                            .sync = WRITER_ALWAYS,
                                            .wake = on_wake};
    l->writer = writer_new(l->stream, &writer_options, &l->err);
    assert_non_null(l->writer);
    struct writer_begin begin = {.name = add_incremental(&l->manifest)->name,
                                 .lsn = result.lsn,
                                 .chain = result.crc,
                                 .history = HISTORY,
                                 .manifest = &l->manifest};
    writer_begin(l->writer, &begin);
    if (!writer_wait(l->writer, &l->err))
        return false;
    /* It is served, and so it must not go any more. */
    for (uint64_t i = promised + 1; i <= found; i++)
        ends[i] = result.lsn;
    promised = found;
    for (int i = 0; i < 3; i++) {
        append(l);
        if (next_random() % 2 == 0 && !flush(l))
            return false;
        uint64_t what = next_random() % 3;
        if ((what == 0 && !rewrite(l)) || (what == 1 && !heal(l)))
            return false;
        promise(l);
    }
    if (killed) {
        if (!write_unsynced(l))
            return false;
        kills++;
        return true;
    }
    /* Then the power goes, of whose groups a later one may be on disk, and an earlier one not. */
    if (next_random() % 3 == 0)
        return write_unsynced(l);
    append(l);
    if (next_random() % 2 != 0)
        return flush(l);
    writer_close(l->writer);
    closes++;
    return writer_wait(l->writer, &l->err);
}

/* One life; the power goes before call `nth` on the disk (0: at the end, whatever that has left
 * unsynced). `killed`: at the end the process goes and not the power: what it had written is there
 * for the next one to read, and not on the disk. Returns how many calls there were. */
static uint64_t one_life(uint64_t nth, bool killed)
{
    static bool recording;
    struct life l = {.ks = keyspace_new(1, false)};
    l.ks->now_ms = 1;
    l.saver = saver_new(l.ks, NULL, NULL);
    if (!recording)
        os_fault_record(directory);
    const struct os_fault_plan plan = {.op = OS_OP_ANY, .nth = nth, .cut_power = true};
    const struct os_fault_plan none = {.op = OS_OP_ANY, .nth = UINT64_MAX};
    os_fault_set(nth != 0 ? &plan : &none);
    bool ok = live(&l, killed);
    uint64_t calls = os_fault_calls(OS_OP_ANY);
    assert_true(ok || os_fault_is_cut());
    if (l.writer != NULL)
        promise(&l);
    recording = killed && !os_fault_is_cut();
    if (!recording)
        os_fault_cut();
    if (l.writer != NULL)
        writer_free(l.writer);
    if (l.stream != NULL)
        stream_free(l.stream);
    saver_free(l.saver);
    keyspace_free(l.ks);
    manifest_free(&l.manifest);
    os_fault_set(NULL);
    if (!recording)
        os_fault_power_loss(next_random());
    return calls;
}

static void remove_name(void *ctx, const char *file)
{
    struct error err;
    char path[400];
    (void)ctx;
    snprintf(path, sizeof(path), "%s/%s", directory, file);
    os_unlink(path, &err);
}

/* The power goes before each call on the disk in turn, then at random ones in the lives that follow,
 * which begin with recovering, some after a mere kill: what was durable or served is always there, and
 * nothing that was never appended. */
static void test_power_loss(void **state)
{
    (void)state;
    /* Every call is tried in the long form; else one of five. */
    uint64_t step = getenv("HF_LONG") != NULL ? 1 : 5;
    uint64_t lives = 0, most = 60;
    for (uint64_t nth = 1 + next_random() % step; nth <= most; nth += step) {
        struct error err;
        assert_true(os_dir_list(directory, remove_name, NULL, &err));
        appended = promised = 0;
        uint64_t first = next_random();
        for (int i = 0; i < 4; i++) {
            /* The last one ends by itself; the third dies anywhere, or soon after its start. */
            bool killed = i == 1 && first % 4 != 0;
            uint64_t at = i == 0               ? nth
                          : i == 3 || killed ? 0
                                             : next_random() % (first % 3 == 0 ? most : 15) + 1;
            uint64_t calls = one_life(at, killed);
            if (i == 3 && calls > most)
                most = calls;
            lives++;
        }
    }
    print_message("%llu lives of up to %llu calls: %u rewrites, %u heals, %u closed, %u killed, %u "
                  "torn ends, %u groups not synced\n",
                  (unsigned long long)lives, (unsigned long long)most, rewrites, heals, closes, kills,
                  torn, unsynced_groups);
    assert_true(most > 50 && rewrites > 3 && heals > 3 && closes > 3 && unsynced_groups > 10);
}

/* Any call on the disk fails once with EIO while it recovers: the start is refused or not, and the
 * next one has what was promised. */
static void test_errors(void **state)
{
    (void)state;
    for (uint64_t nth = 1 + next_random() % 2; nth < 24; nth += 2) {
        struct error err;
        assert_true(os_dir_list(directory, remove_name, NULL, &err));
        appended = promised = 0;
        one_life(0, false);
        struct life l = {.ks = keyspace_new(1, false)};
        l.ks->now_ms = 1;
        l.saver = saver_new(l.ks, NULL, NULL);
        os_fault_record(directory);
        os_fault_set(&(struct os_fault_plan){
            .op = OS_OP_ANY, .nth = nth, .os_errno = EIO, .shorten = nth % 2 == 0});
        /* A recovery that fails is a start that is refused; nothing is cut. */
        struct recovery_result result;
        struct recovery_options options = {
            .directory = directory, .filename = NAME, .rdb_path = "/nonexistent/dump.rdb",
            .cut_torn = true, .rdb = {.now_ms = 1, .checksum = true}, .now_ms = 1790000000000,
            .new_history = HISTORY, .execute = execute, .save_base = save_base, .ctx = &l};
        if (recovery_run(l.ks, &options, &result, &l.err)) {
            uint64_t found = get(l.ks);
            assert_true(promised <= found && found <= appended);
            manifest_free(&result.manifest);
        } else {
            assert_true(l.err.message[0] != '\0');
        }
        saver_free(l.saver);
        keyspace_free(l.ks);
        os_fault_cut();
        os_fault_set(NULL);
        os_fault_power_loss(next_random());
        one_life(0, false);
    }
}

static int setup(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)clock_wall_us();
    print_message("HF_SEED=%llu\n", (unsigned long long)seed);
    log_set_level(LOG_LEVEL_NOTHING);
    snprintf(directory, sizeof(directory), "%s/hf-test-life-XXXXXX",
             os_path_exists("/dev/shm") ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(directory));
    return 0;
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_power_loss),
                                       cmocka_unit_test(test_errors)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
