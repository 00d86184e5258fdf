/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Whole lives of a log on a disk that loses its power, or fails: recovery, a new file, commits,
 * rewrites and new bases after a failed disk (persist/log/generation.h, as the server has it, with
 * the removal of what they replace), a change of the history, closing, being superseded by a
 * snapshot, and recovery of what is left, whose power can go, too. The data are one key, "n", whose
 * value counts: effect i sets it to i. So what is recovered says how many effects it has, and an
 * effect that is left out or done twice shows.
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
#include "persist/log/generation.h"
#include "persist/log/recovery.h"
#include "persist/saver.h"
#include "type/string.h"
#include "flush.h"

#define NAME "a.aof"
#define LONG_MS 60000
#define EFFECTS_MAX 100000
/* Before the first new try, as generation.c has it. */
#define PAUSE_US 1000000

static char directory[64];
static uint64_t seed;
static uint64_t appended;              /* effects that anything on disk may have */
static uint64_t promised;              /* of these, so many are durable */
static uint64_t ends[EFFECTS_MAX];     /* the LSN behind each effect */
/* A snapshot that was made when the log had been closed, and something had been changed since. */
static struct {
    bool there;
    char history[ANNOTATION_HISTORY + 1];
    uint64_t lsn, value;
} snapshot;
static unsigned rewrites, heals, rotations, closes, kills, torn, unsynced_groups;
static unsigned supersedings, refusals, failures;
static uint64_t groups_beside;

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
    struct generation generation;
    char history[ANNOTATION_HISTORY + 1];
    bool provisional; /* nothing may be promised of the file that is open: the log begins anew */
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

static void new_history(char history[ANNOTATION_HISTORY + 1])
{
    static uint64_t last;
    snprintf(history, ANNOTATION_HISTORY + 1, "%040llx", (unsigned long long)++last);
}

static void fill_options(struct save_options *o, const char *history, uint64_t lsn, bool commands)
{
    *o = (struct save_options){.version = RDB_VERSION_DEFAULT,
                               .checksum = true,
                               .verify = true,
                               .threads = 1,
                               .commands = commands,
                               .at = {.lsn = lsn},
                               .aux_count = 2};
    snprintf(o->at.history, sizeof(o->at.history), "%s", history);
    snprintf(o->aux[0].name, sizeof(o->aux[0].name), "repl-id");
    snprintf(o->aux[0].value, sizeof(o->aux[0].value), "%s", history);
    snprintf(o->aux[1].name, sizeof(o->aux[1].name), "repl-offset");
    snprintf(o->aux[1].value, sizeof(o->aux[1].value), "%llu", (unsigned long long)lsn);
}

static bool save_base(void *ctx, const char *path, uint64_t lsn, const char *history,
                      struct error *err)
{
    struct life *l = ctx;
    struct save_options options;
    fill_options(&options, history, lsn, strcmp(path + strlen(path) - 4, ".aof") == 0);
    snprintf(options.path, sizeof(options.path), "%s", path);
    return saver_save(l->saver, &options, err);
}

static bool load_snapshot(void *ctx, struct rdb_load_stats *stats, struct error *err)
{
    struct life *l = ctx;
    if (!snapshot.there)
        return error_set(err, ERROR_NOT_FOUND, "there is no snapshot");
    *stats = (struct rdb_load_stats){.keys = 1};
    set(l->ks, snapshot.value);
    supersedings++;
    return true;
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
    bool ok = flush_writer(l->writer, l->stream, LONG_MS);
    promise(l);
    return ok;
}

/* A generation, to its end, while effects go on. */
static bool make(struct life *l, enum generation_kind kind)
{
    struct generation_begin begin = {
        .writer = l->writer, .stream = l->stream, .ks = l->ks, .history = l->history};
    fill_options(&begin.save, l->history, stream_published(l->stream), next_random() % 2 == 0);
    l->provisional = kind == GENERATION_ANEW;
    enum generation_outcome outcome = generation_begin(&l->generation, kind, &begin);
    uint64_t most = next_random() % 4;
    while (outcome == GENERATION_NOTHING) {
        if (most > 0 && next_random() % 2 == 0) {
            append(l);
            most--;
        }
        outcome = generation_step(&l->generation, l->writer);
        usleep(50);
    }
    bool ok = outcome == GENERATION_NAMED;
    l->provisional = l->provisional && !ok;
    /* Pauses grow with each failure, and a success ends that. */
    assert_int_equal(l->generation.failures == 0, ok);
    assert_int_equal(l->generation.pause_us == PAUSE_US, ok);
    if (ok && kind == GENERATION_REWRITE)
        rewrites++;
    else if (ok)
        heals++;
    return ok;
}

/* Something has failed: what the server does then. False: the power is gone. */
static bool mend(struct life *l)
{
    for (int tries = 0; tries < 5 && !os_fault_is_cut(); tries++) {
        bool broken = l->provisional || writer_state(l->writer) == WRITER_FAILED;
        if (!broken || make(l, GENERATION_ANEW)) {
            failures++;
            return true;
        }
    }
    assert_true(os_fault_is_cut());
    return false;
}

/* One thing that the files of the log go through. */
static bool change_files(struct life *l)
{
    struct error err;
    switch (next_random() % 6) {
    case 0:
    case 1:
        return make(l, GENERATION_REWRITE);
    case 2:
    case 3:
        return make(l, GENERATION_ANEW);
    case 4:
        stream_select_again(l->stream);
        rotations++;
        new_history(l->history);
        /* A writer that could not go on under the new history is abandoned: see
         * server/durability.c. */
        l->provisional = !generation_rotate(&l->generation, l->writer, l->history, &err);
        return !l->provisional;
    default:
        generation_drop_history(&l->generation);
        return true;
    }
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

/* Groups beside each other on their way to a slow disk. */
static void write_beside(struct life *l)
{
    os_fault_hold(OS_OP_SYNC, 3000);
    for (int i = 0; i < 12 && writer_state(l->writer) == WRITER_OPEN; i++) {
        append(l);
        usleep((useconds_t)(next_random() % 1500));
    }
    os_fault_hold(OS_OP_SYNC, 0);
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(l->writer, stats);
    groups_beside += stats->beside;
    mem_free(stats);
}

/* The log is closed; then perhaps something is changed without it, and saved. */
static bool close_log(struct life *l)
{
    writer_close(l->writer);
    if (!writer_wait(l->writer, &l->err))
        return false;
    promise(l);
    assert_int_equal(promised, appended);
    closes++;
    if (next_random() % 2 == 0) {
        snapshot.there = true;
        memcpy(snapshot.history, l->history, sizeof(snapshot.history));
        snapshot.lsn = stream_published(l->stream);
        snapshot.value = appended += 10;
        promised = appended;
    }
    return true;
}

/* From the start of a server to its end, or to that of its power. `killed`: at its end it has
 * written more than it has synced. False: the power has gone, or a call has failed at its start or
 * its end. */
static bool live(struct life *l, bool killed)
{
    struct recovery_result result;
    char history[ANNOTATION_HISTORY + 1];
    new_history(history);
    struct recovery_options options = {
        .directory = directory,
        .filename = NAME,
        .rdb_path = "/nonexistent/dump.rdb",
        .cut_torn = true,
        .base_of_commands = next_random() % 2 == 0,
        .rdb = {.now_ms = 1, .checksum = true},
        .now_ms = 1790000000000 + (int64_t)(next_random() % 100000000),
        .new_history = history,
        .execute = execute,
        .save_base = save_base,
        .load_snapshot = load_snapshot,
        .ctx = l,
    };
    if (snapshot.there) {
        options.snapshot = (struct recovery_snapshot){
            .log_lsn = snapshot.lsn, .log_beyond = true, .ms = 1};
        memcpy(options.snapshot.log_id, snapshot.history, sizeof(snapshot.history));
    }
    if (!recovery_run(l->ks, &options, &result, &l->err))
        return false;
    torn += result.cut_bytes > 0;
    uint64_t found = get(l->ks);
    assert_in_range(found, promised, appended);
    appended = found;
    l->stream = stream_new(result.lsn);
    struct writer_options writer_options = {.directory = directory,
                                            .filename = NAME,
                                            .sync = WRITER_ALWAYS,
                                            .wake = on_wake};
    l->writer = writer_new(l->stream, &writer_options, &l->err);
    assert_non_null(l->writer);
    struct generation_position position = {.manifest = &result.manifest,
                                           .lsn = result.lsn,
                                           .chain = result.crc,
                                           .history = l->history};
    memcpy(l->history, result.history, sizeof(l->history));
    bool opened = generation_open(&l->generation, l->writer, &position, &l->err);
    manifest_free(&result.manifest);
    if (!opened)
        return false;
    /* It is served, and so it must not go any more. */
    for (uint64_t i = promised + 1; i <= found; i++)
        ends[i] = result.lsn;
    promised = found;
    for (int i = 0; i < 3; i++) {
        append(l);
        if (next_random() % 3 == 0)
            write_beside(l);
        if (next_random() % 2 == 0 && !flush(l) && !mend(l))
            return false;
        if (!change_files(l) && !mend(l))
            return false;
        promise(l);
    }
    if (killed) {
        kills++;
        return write_unsynced(l) || mend(l);
    }
    /* Then the power goes, of whose groups a later one may be on disk, and an earlier one not. */
    if (next_random() % 3 == 0)
        return write_unsynced(l) || mend(l);
    append(l);
    if (next_random() % 3 == 0) {
        write_beside(l);
        return true;
    }
    if (next_random() % 2 != 0)
        return flush(l) || mend(l);
    return close_log(l);
}

/* One life; the plan is for its calls on the disk. At the end the power goes, whatever that has
 * left unsynced, or, if `killed`, the process: what it had written is there for the next one to
 * read, and not on the disk. Returns how many calls there were. */
static uint64_t one_life(const struct os_fault_plan *plan, bool killed)
{
    static bool recording;
    struct life l = {.ks = keyspace_new(1, false)};
    l.ks->now_ms = 1;
    l.saver = saver_new(l.ks, NULL, NULL);
    generation_init(&l.generation, directory, NAME, on_wake, NULL);
    if (!recording)
        os_fault_record(directory);
    const struct os_fault_plan none = {.op = OS_OP_ANY, .nth = UINT64_MAX};
    os_fault_set(plan != NULL ? plan : &none);
    bool ok = live(&l, killed);
    uint64_t calls = os_fault_calls(OS_OP_ANY);
    bool may_fail = plan != NULL && calls >= plan->nth;
    if (!ok && !may_fail)
        fail_msg("without any fault: %s", l.err.message);
    refusals += !ok && !plan->cut_power;
    if (l.writer != NULL)
        promise(&l);
    recording = killed && !os_fault_is_cut();
    if (!recording)
        os_fault_cut();
    generation_deinit(&l.generation);
    if (l.writer != NULL)
        writer_free(l.writer);
    if (l.stream != NULL)
        stream_free(l.stream);
    saver_free(l.saver);
    keyspace_free(l.ks);
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

/* An empty directory. */
static void begin_fresh(void)
{
    struct error err;
    assert_true(os_dir_list(directory, remove_name, NULL, &err));
    appended = promised = 0;
    snapshot.there = false;
}

/* The power goes before each call on the disk in turn, then at random ones in the lives that
 * follow, which begin with recovering, some after a mere kill: what was durable or served is always
 * there, and nothing that was never appended. */
static void test_power_loss(void **state)
{
    (void)state;
    /* Every call is tried in the long form; else one of seven. */
    uint64_t step = getenv("HF_LONG") != NULL ? 1 : 7;
    uint64_t lives = 0, most = 60;
    for (uint64_t nth = 1 + next_random() % step; nth <= most; nth += step) {
        begin_fresh();
        uint64_t first = next_random();
        for (int i = 0; i < 4; i++) {
            /* The last one ends by itself; the third dies anywhere, or soon after its start. */
            bool killed = i == 1 && first % 4 != 0;
            uint64_t at = i == 0               ? nth
                          : i == 3 || killed ? 0
                                             : next_random() % (first % 3 == 0 ? most : 15) + 1;
            struct os_fault_plan plan = {.op = OS_OP_ANY, .nth = at, .cut_power = true};
            uint64_t calls = one_life(at != 0 ? &plan : NULL, killed);
            if (i == 3 && calls > most)
                most = calls;
            lives++;
        }
    }
    print_message("%llu lives of up to %llu calls: %u rewrites, %u heals, %u rotations, %u closed, "
                  "%u superseded, %u killed, %u torn ends, %u groups not synced, %llu beside "
                  "others\n",
                  (unsigned long long)lives, (unsigned long long)most, rewrites, heals, rotations,
                  closes, supersedings, kills, torn, unsynced_groups,
                  (unsigned long long)groups_beside);
    assert_true(most > 50 && rewrites > 3 && heals > 3 && closes > 0 && unsynced_groups > 10);
}

/* Any call on the disk fails once: with EIO, or as there is no room. A start may be refused; else
 * the log is mended, and goes on. What was promised is there in the next life, after a power loss,
 * too. */
static void test_errors(void **state)
{
    (void)state;
    uint64_t step = getenv("HF_LONG") != NULL ? 1 : 8;
    uint64_t most = 60;
    unsigned named = rewrites + heals;
    failures = refusals = 0;
    for (uint64_t nth = 1 + next_random() % step; nth <= most; nth += step) {
        begin_fresh();
        one_life(NULL, false);
        bool killed = next_random() % 2 == 0;
        struct os_fault_plan plan = {.op = OS_OP_ANY,
                                     .nth = nth,
                                     .os_errno = next_random() % 2 == 0 ? EIO : ENOSPC,
                                     .shorten = next_random() % 2 == 0};
        uint64_t calls = one_life(&plan, killed);
        if (calls > most)
            most = calls;
        one_life(NULL, false);
    }
    print_message("%u lives were mended, %u starts or ends failed, %u generations\n", failures,
                  refusals, rewrites + heals - named);
    assert_true(failures + refusals > 0);
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
