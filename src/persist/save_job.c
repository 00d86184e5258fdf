/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A job's threads: the manager, which watches the memory that the snapshot holds and waits for the
 * others; the writer, which makes all calls on the file; the workers of the pipe and the helpers of
 * the verification. The manager does not yield to anyone, so that the executor, which joins it,
 * never waits for a thread that only runs when nobody else does.
 *
 * The order of the steps that make a file durable is all in write_and_prove.
 */
#include "persist/save_job.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "keyspace/libraries.h"
#include "os/direct.h"
#include "os/file.h"
#include "os/process.h"
#include "os/thread.h"
#include "persist/chain/link.h"
#include "persist/save_commands.h"
#include "persist/save_pipe.h"
#include "persist/save_verify.h"

#define WATCH_INTERVAL_MS 20
#define META_BUFFER (64 * 1024)

struct save_job {
    struct keyspace *ks; /* only used by the executor */
    struct snapshot *snapshot;
    struct save_options options;
    uint32_t lru_now;
    size_t used_memory;
    uint64_t keys_total;
    char temporary[300];
    int mark;        /* of a delta: changes are told from it; else -1 */
    bool background; /* its threads yield to the executor */
    void (*wake)(void *ctx);
    void *wake_ctx;
    pthread_t manager;
    bool joined;

    /* The writer's, until it has ended. */
    struct os_file file;
    struct os_direct out;
    struct os_polite polite;
    struct save_written written;
    struct save_commands commands;
    size_t chunk_capacity;
    uint64_t crc;
    struct error err;
    bool ok;
    int64_t begin_us, serialised_us, synced_us, end_us;
    EVP_MD_CTX *sha; /* of a delta that is not verified, which sums it, too; else NULL */
    char sha256[65];

    pthread_mutex_t lock; /* of writer_ended alone */
    pthread_cond_t changed;
    bool writer_ended;

    /* Atomic. */
    struct save_counters counters;
    uint64_t bytes_done, verified_bytes;
    size_t held_most;
    uint64_t moved; /* keys and bytes, when it was last looked */
    int64_t moved_us, told_us; /* when they last were others; when it was last said */
    uint64_t limit_passed; /* with too_much_held: the limit as it was then */
    bool cancelled, too_much_held, ended;
};

uint64_t save_rate_limit(const struct save_options *options)
{
    return options->limits != NULL ? __atomic_load_n(&options->limits->rate, __ATOMIC_RELAXED)
                                   : options->rate_limit;
}

uint64_t save_memory_limit(const struct save_options *options)
{
    return options->limits != NULL ? __atomic_load_n(&options->limits->memory, __ATOMIC_RELAXED)
                                   : options->memory_limit;
}

static bool is_stopped(const struct save_job *j)
{
    return __atomic_load_n(&j->counters.stop, __ATOMIC_RELAXED);
}

static bool stopped_error(const struct save_job *j, struct error *err)
{
    if (__atomic_load_n(&j->too_much_held, __ATOMIC_RELAXED))
        return error_set(err, ERROR_TOO_LARGE,
                         "the save was given up: its snapshot held more than the %llu bytes of "
                         "snapshot-memory-limit",
                         (unsigned long long)__atomic_load_n(&j->limit_passed, __ATOMIC_RELAXED));
    return error_set(err, ERROR_CANCELLED, "the save was cancelled");
}

/* The writer's turn is over for now, unless the job hurries. */
static void make_room(struct save_job *j)
{
    if (!j->background)
        return;
    if (__atomic_load_n(&j->counters.hurry, __ATOMIC_RELAXED))
        os_polite_end(&j->polite);
    else
        os_polite_check(&j->polite);
}

/* What the chosen version cannot express ------------------------------------------------------- */

/* By what it is that cannot be expressed. */
static const struct unexpressed {
    int needed; /* the version */
    const char *one, *more;
} unexpressed[] = {
    {RDB_VERSION_FUNCTIONS, "library of functions", "libraries of functions"},
    {RDB_VERSION_STREAMS, "stream", "streams"},
    {RDB_VERSION_TIMED, "hash with fields that expire", "hashes with fields that expire"},
    {RDB_VERSION_LONG, "very long value", "very long values"},
};
enum { UNEXPRESSED_KINDS = sizeof(unexpressed) / sizeof(unexpressed[0]) };
/* So many names are in the error, and so many keys are named in the log. */
#define NAMED_EACH 2
#define LOGGED_MOST 20

struct refused {
    const struct save_job *job;
    int db;
    uint64_t logged;
    uint64_t count[UNEXPRESSED_KINDS];
    char names[UNEXPRESSED_KINDS][48]; /* the first of them */
};

static bool look_at(void *ctx, void *item)
{
    struct refused *f = ctx;
    const struct entry *e = item;
    int needed = rdb_version_needed(e);
    if (needed <= f->job->options.version)
        return !is_stopped(f->job);
    int kind = 0;
    while (unexpressed[kind].needed != needed)
        kind++;
    struct slice key = entry_key(e);
    if (f->count[kind]++ < NAMED_EACH) {
        size_t used = strlen(f->names[kind]);
        snprintf(f->names[kind] + used, sizeof(f->names[kind]) - used, "'%.*s', ",
                 key.size < 16 ? (int)key.size : 16, key.data);
    }
    if (f->logged++ < LOGGED_MOST)
        log_warning("rdb-format-version %d has no form for the %s '%.*s' in database %d",
                    f->job->options.version, unexpressed[kind].one,
                    key.size < 100 ? (int)key.size : 100, key.data, f->db);
    return !is_stopped(f->job);
}

/* "rdb-format-version 8 cannot express 2 streams ('a', 'b', needs 9), 1 library of functions
 * (needs 10)" */
static bool refuse(struct save_job *j, const struct refused *f)
{
    char list[200] = "";
    if (f->logged > LOGGED_MOST)
        log_warning("... and for %llu more", (unsigned long long)(f->logged - LOGGED_MOST));
    for (size_t i = 0; i < UNEXPRESSED_KINDS; i++) {
        size_t used = strlen(list);
        if (f->count[i] > 0)
            snprintf(list + used, sizeof(list) - used, "%s%llu %s (%s%sneeds %d)",
                     used > 0 ? ", " : "", (unsigned long long)f->count[i],
                     f->count[i] == 1 ? unexpressed[i].one : unexpressed[i].more, f->names[i],
                     f->count[i] > NAMED_EACH ? "..., " : "", unexpressed[i].needed);
    }
    return error_set(&j->err, ERROR_UNSUPPORTED, "rdb-format-version %d cannot express %s",
                     j->options.version, list);
}

/* Before the file is touched: version 10 takes everything that there is but fields that expire. */
static bool can_be_expressed(struct save_job *j)
{
    struct refused f = {.job = j};
    int version = j->options.version;
    if (j->options.commands || j->options.raise_version)
        return true;
    if (version < RDB_VERSION_FUNCTIONS && j->snapshot->libraries)
        f.count[0] = j->snapshot->libraries->count;
    bool all = version >= RDB_VERSION_NEEDED_MOST &&
               (version >= RDB_VERSION_TIMED || rdb_version_for(j->snapshot) < RDB_VERSION_TIMED);
    for (f.db = 0; !all && f.db < j->snapshot->db_count; f.db++) {
        const struct table *table = &j->snapshot->dbs[f.db].table;
        bool done = table->count == 0;
        for (uint64_t next = 0; !done && !is_stopped(j);) {
            next = table_walk(table, next, UINT64_MAX, 16, look_at, &f, &done);
            make_room(j);
        }
    }
    if (is_stopped(j))
        return stopped_error(j, &j->err);
    return (f.logged == 0 && f.count[0] == 0) || refuse(j, &f);
}

/* Writing -------------------------------------------------------------------------------------- */

static bool write_bytes(struct save_job *j, const void *data, size_t size)
{
    if (is_stopped(j))
        return stopped_error(j, &j->err);
    if (!os_direct_write(&j->out, data, size, &j->err))
        return false;
    if (j->sha)
        EVP_DigestUpdate(j->sha, data, size);
    j->written.size += size;
    __atomic_store_n(&j->bytes_done, j->written.size, __ATOMIC_RELAXED);
    return true;
}

static bool write_some(void *ctx, const void *data, size_t size)
{
    return write_bytes(ctx, data, size);
}

/* For what stands before and after the records; its checksum goes on from that of what is
 * written. */
static void begin_meta(struct save_job *j, struct rdb_writer *w)
{
    rdb_writer_init(w, META_BUFFER, write_some, j);
    w->version = j->options.version;
    w->crc = j->crc;
}

static bool end_meta(struct save_job *j, struct rdb_writer *w, bool ok)
{
    ok = ok && rdb_writer_flush(w);
    j->crc = w->crc;
    rdb_writer_deinit(w);
    return ok;
}

static bool write_header(struct save_job *j)
{
    struct rdb_writer w;
    if (j->options.commands) {
        j->commands = (struct save_commands){.write = write_some, .ctx = j};
        return save_commands_begin(&j->commands, &j->options.at, j->snapshot->taken_ms,
                                   j->snapshot->libraries);
    }
    begin_meta(j, &w);
    if (j->mark >= 0)
        link_write_header(&w, j->snapshot->taken_ms);
    else
        rdb_save_header(&w, j->snapshot->taken_ms, j->used_memory);
    for (int i = 0; i < j->options.aux_count; i++)
        rdb_save_aux(&w, j->options.aux[i].name, slice_cstr(j->options.aux[i].value));
    const struct libraries *functions = j->snapshot->libraries;
    for (size_t i = 0; functions && i < functions->count; i++)
        rdb_save_function(&w, functions->codes[i]);
    if (j->mark >= 0)
        link_write_gone(&w, j->snapshot, j->mark, &j->written.deleted);
    bool ok = end_meta(j, &w, true);
    j->written.chunks_begin = j->written.chunks_end = j->written.size;
    return ok;
}

static void add_chunk(struct save_job *j, const struct save_chunk *chunk)
{
    struct save_written *f = &j->written;
    if (f->chunk_count == j->chunk_capacity) {
        j->chunk_capacity = j->chunk_capacity ? j->chunk_capacity * 2 : 64;
        f->chunks = mem_realloc(f->chunks, j->chunk_capacity * sizeof(*f->chunks));
    }
    f->chunks[f->chunk_count++] = *chunk;
}

static bool write_block(struct save_job *j, const struct save_block *b, struct save_chunk *chunk)
{
    if (j->options.commands)
        return save_commands_put(&j->commands, b->data, b->used, b->ends_command);
    if (chunk->size == 0)
        chunk->offset = j->written.size;
    if (!write_bytes(j, b->data, b->used))
        return false;
    j->crc = crc64_combine(j->crc, b->crc, b->used);
    chunk->crc = crc64_combine(chunk->crc, b->crc, b->used);
    chunk->size += b->used;
    if (b->ends_chunk) {
        chunk->db = b->db;
        chunk->keys = b->chunk_keys;
        add_chunk(j, chunk);
        *chunk = (struct save_chunk){0};
    }
    return true;
}

static bool write_records(struct save_job *j)
{
    struct save_pipe *pipe;
    struct save_chunk chunk = {0};
    struct save_pace pace;
    size_t per_key = j->keys_total ? j->used_memory / j->keys_total : 1;
    if (!save_pipe_start(&pipe, j->snapshot, &j->options, j->lru_now, per_key, j->background,
                         &j->counters, &j->err))
        return false;
    bool ok = true;
    save_pace_begin(&pace);
    save_pace_wait(&pace, &j->options, j->written.size, &j->counters);
    struct save_block *b;
    while (ok && (b = save_pipe_next(pipe)) != NULL) {
        ok = write_block(j, b, &chunk);
        uint64_t size = b->used;
        save_pipe_give_back(pipe, b);
        save_pace_wait(&pace, &j->options, size, &j->counters);
        make_room(j);
    }
    if (ok && is_stopped(j))
        ok = stopped_error(j, &j->err);
    if (!ok)
        __atomic_store_n(&j->counters.stop, true, __ATOMIC_RELAXED);
    save_pipe_free(pipe);
    j->written.chunks_end = j->written.size;
    return ok;
}

/* The index, which a delta has no use for, EOF and the checksum: docs/formats.md. */
static bool write_end(struct save_job *j)
{
    struct rdb_writer w;
    char text[96];
    if (j->options.commands)
        return save_commands_end(&j->commands);
    begin_meta(j, &w);
    if (j->mark >= 0)
        return end_meta(j, &w, rdb_save_end(&w, j->options.checksum));
    uint64_t index = j->written.size;
    for (size_t i = 0; i < j->written.chunk_count && !w.failed; i++) {
        const struct save_chunk *c = &j->written.chunks[i];
        int n = snprintf(text, sizeof(text), "%d %llu %llu", c->db, (unsigned long long)c->offset,
                         (unsigned long long)c->keys);
        rdb_save_aux(&w, "hf-chunk", slice_of(text, (size_t)n));
    }
    snprintf(text, sizeof(text), "%llu %zu", (unsigned long long)index, j->written.chunk_count);
    size_t used = strlen(text);
    memset(text + used, ' ', RDB_INDEX_SIZE > used ? RDB_INDEX_SIZE - used : 0);
    rdb_save_aux(&w, "hf-index", slice_of(text, RDB_INDEX_SIZE));
    return end_meta(j, &w, rdb_save_end(&w, j->options.checksum));
}

static bool begin_sum(struct save_job *j)
{
    if (j->mark < 0 || j->options.verify)
        return true;
    j->sha = EVP_MD_CTX_new();
    return (j->sha && EVP_DigestInit_ex(j->sha, EVP_sha256(), NULL) == 1) ||
           error_set(&j->err, ERROR_SYSTEM, "SHA-256 is not available");
}

static bool write_file(struct save_job *j)
{
    /* With incremental_sync what others have in the page cache stays there. */
    os_direct_begin(&j->out, &j->file, j->options.incremental_sync);
    bool ok = begin_sum(j) && write_header(j) && write_records(j) && write_end(j) &&
              os_direct_flush(&j->out, &j->err);
    os_direct_end(&j->out);
    if (ok && j->sha)
        link_sum_end(j->sha, j->sha256);
    j->serialised_us = clock_monotonic_us();
    return ok;
}

static bool prove(struct save_job *j)
{
    struct os_polite *polite = j->background ? &j->polite : NULL;
    if (!j->options.verify)
        return true;
    if (j->options.commands)
        return save_commands_verify(&j->commands, j->temporary, j->written.size, &j->options,
                                    polite, &j->counters, &j->verified_bytes, &j->err);
    return save_verify(&j->written, &j->options, polite, &j->counters, &j->verified_bytes,
                       j->sha256, &j->err);
}

/* The whole of a durable write: the temporary file is written, synced and proven before it gets the
 * name, and the name is synced. Until the rename the target is as it was. */
static bool write_and_prove(struct save_job *j)
{
    struct error ignored;
    char dir[sizeof(j->options.path)];
    os_path_dir(j->options.path, dir, sizeof(dir));
    if (j->options.since && j->mark < 0)
        return error_set(&j->err, ERROR_INVALID, "what has changed is not known");
    if (!can_be_expressed(j) ||
        (j->options.make_directory && !os_dir_create_synced(dir, &j->err)) ||
        !os_file_open(&j->file, j->temporary, OS_OPEN_CREATE_EXCLUSIVE, &j->err))
        return false;
    j->written.file = &j->file;
    bool ok = write_file(j) && os_file_sync(&j->file, &j->err);
    j->synced_us = clock_monotonic_us();
    ok = ok && prove(j);
    if (!ok && j->err.code == ERROR_CANCELLED)
        stopped_error(j, &j->err);
    if (!os_file_close(&j->file, ok ? &j->err : &ignored))
        ok = false;
    if (!ok || !os_rename_over(j->temporary, j->options.path, &j->err)) {
        os_unlink(j->temporary, &ignored);
        return false;
    }
    return os_dir_sync(dir, &j->err);
}

/* The threads ---------------------------------------------------------------------------------- */

static void writer_main(void *arg)
{
    struct save_job *j = arg;
    if (j->background)
        os_polite_begin(&j->polite);
    j->ok = write_and_prove(j);
    pthread_mutex_lock(&j->lock);
    j->writer_ended = true;
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
}

/* Half of the limit makes the job hurry, all of it ends it. */
static void watch_memory(struct save_job *j)
{
    size_t held = epoch_snapshot_held_bytes(j->snapshot->epoch);
    uint64_t limit = save_memory_limit(&j->options);
    if (held > j->held_most)
        __atomic_store_n(&j->held_most, held, __ATOMIC_RELAXED);
    if (limit == 0 || held <= limit / 2)
        return;
    if (!__atomic_exchange_n(&j->counters.hurry, true, __ATOMIC_RELAXED))
        log_warning("A snapshot holds %zu bytes, more than half of snapshot-memory-limit: the save "
                    "hurries", held);
    if (held > limit) {
        __atomic_store_n(&j->limit_passed, limit, __ATOMIC_RELAXED);
        __atomic_store_n(&j->too_much_held, true, __ATOMIC_RELAXED);
        __atomic_store_n(&j->counters.stop, true, __ATOMIC_RELAXED);
    }
}

/* Everybody waits for it. It is not given up when its disk does not answer, as it may be all that
 * keeps the data, but who waits shall know for what. */
static void watch_disk(struct save_job *j)
{
    if (!j->joined || j->options.silent_most_us == 0)
        return;
    uint64_t done = __atomic_load_n(&j->counters.keys_done, __ATOMIC_RELAXED) +
                    __atomic_load_n(&j->bytes_done, __ATOMIC_RELAXED) +
                    __atomic_load_n(&j->verified_bytes, __ATOMIC_RELAXED);
    int64_t now_us = clock_monotonic_us();
    if (done != j->moved || j->moved_us == 0) {
        j->moved = done;
        j->moved_us = j->told_us = now_us;
    }
    if (now_us - j->told_us < j->options.silent_most_us)
        return;
    j->told_us = now_us;
    log_warning("The save to %s waits for its disk, which has not answered for %lld seconds",
                j->options.path, (long long)(now_us - j->moved_us) / 1000000);
}

static void wait_for_writer(struct save_job *j)
{
    pthread_mutex_lock(&j->lock);
    while (!j->writer_ended) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WATCH_INTERVAL_MS * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&j->changed, &j->lock, &until);
        watch_memory(j);
        watch_disk(j);
    }
    pthread_mutex_unlock(&j->lock);
}

static void manage(struct save_job *j)
{
    pthread_t writer;
    if (os_thread_start(&writer, "hf-save", writer_main, j, &j->err)) {
        wait_for_writer(j);
        pthread_join(writer, NULL);
    }
    j->end_us = clock_monotonic_us();
    __atomic_store_n(&j->ended, true, __ATOMIC_RELEASE);
}

static void manager_main(void *arg)
{
    struct save_job *j = arg;
    manage(j);
    /* The job is still there: save_job_finish joins this thread. */
    if (j->wake)
        j->wake(j->wake_ctx);
}

/* The executor's ------------------------------------------------------------------------------- */

static struct save_job *job_new(struct keyspace *ks, struct snapshot *snapshot,
                                const struct save_options *options)
{
    static unsigned sequence;
    struct save_job *j = mem_zalloc(sizeof(*j));
    j->ks = ks;
    j->snapshot = snapshot;
    j->options = *options;
    j->file = (struct os_file)OS_FILE_CLOSED;
    j->begin_us = clock_monotonic_us();
    if (j->options.threads < 1)
        j->options.threads = 1;
    int needed = rdb_version_for(snapshot);
    if (j->options.version == 0 ||
        (j->options.raise_version && needed > RDB_VERSION_DEFAULT))
        j->options.version = needed;
    char dir[sizeof(options->path)];
    os_path_dir(options->path, dir, sizeof(dir));
    snprintf(j->temporary, sizeof(j->temporary), "%s/temp-%d-%u.rdb", dir, (int)getpid(),
             ++sequence);
    j->mark = j->options.since ? snapshot_mark_of(snapshot, j->options.since) : -1;
    j->lru_now = ks->lru_clock;
    j->used_memory = mem_used();
    for (int i = 0; i < snapshot->db_count; i++)
        j->keys_total += snapshot->dbs[i].table.count;
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->changed, &attr);
    pthread_condattr_destroy(&attr);
    return j;
}

static void job_free(struct save_job *j)
{
    snapshot_end(j->ks, j->snapshot);
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    EVP_MD_CTX_free(j->sha);
    mem_free(j->written.chunks);
    mem_free(j);
}

struct save_job *save_job_start(struct keyspace *ks, struct snapshot *snapshot,
                                const struct save_options *options, void (*wake)(void *ctx),
                                void *ctx, struct error *err)
{
    struct save_job *j = job_new(ks, snapshot, options);
    j->background = true;
    j->wake = wake;
    j->wake_ctx = ctx;
    if (!os_thread_start(&j->manager, "hf-save-watch", manager_main, j, err)) {
        job_free(j);
        return NULL;
    }
    return j;
}

struct save_job *save_job_run(struct keyspace *ks, struct snapshot *snapshot,
                              const struct save_options *options)
{
    struct save_job *j = job_new(ks, snapshot, options);
    j->joined = true;
    j->counters.hurry = true; /* everybody waits for it: it keeps to no rate */
    manage(j);
    return j;
}

void save_job_cancel(struct save_job *j)
{
    __atomic_store_n(&j->cancelled, true, __ATOMIC_RELAXED);
    __atomic_store_n(&j->counters.stop, true, __ATOMIC_RELAXED);
}

bool save_job_ended(const struct save_job *j)
{
    return __atomic_load_n(&j->ended, __ATOMIC_ACQUIRE);
}

void save_job_progress(const struct save_job *j, struct save_progress *p)
{
    *p = (struct save_progress){
        .keys_done = __atomic_load_n(&j->counters.keys_done, __ATOMIC_RELAXED),
        .keys_total = j->keys_total,
        .bytes_done = __atomic_load_n(&j->bytes_done, __ATOMIC_RELAXED),
        .eta_ms = -1,
        .held_bytes = epoch_snapshot_held_bytes(j->snapshot->epoch),
    };
    uint64_t verified = __atomic_load_n(&j->verified_bytes, __ATOMIC_RELAXED);
    p->verifying = verified > 0;
    uint64_t tasks = __atomic_load_n(&j->counters.tasks_total, __ATOMIC_RELAXED);
    uint64_t tasks_done = __atomic_load_n(&j->counters.tasks_done, __ATOMIC_RELAXED);
    double keys_share = 0;
    if (j->mark < 0 && p->keys_total > 0)
        keys_share = (double)p->keys_done / (double)p->keys_total;
    if (j->mark >= 0 && tasks > 0)
        keys_share = (double)tasks_done / (double)tasks;
    if (j->mark >= 0)
        p->keys_total =
            keys_share > 0 ? (uint64_t)((double)p->keys_done / keys_share) : p->keys_done;
    if (keys_share <= 0)
        return;
    p->bytes_estimated = (uint64_t)((double)p->bytes_done / keys_share);
    if (p->bytes_estimated == 0)
        return;
    /* Reading again is taken to last as long as writing, until it is known better. */
    double elapsed = (double)(clock_monotonic_us() - j->begin_us);
    double read_share = (double)verified / (double)p->bytes_estimated;
    double share = j->options.verify ? (keys_share + read_share) / 2 : keys_share;
    p->eta_ms = share < 1 ? (int64_t)(elapsed * (1 - share) / share / 1000) : 0;
}

bool save_job_finish(struct save_job *j, struct save_result *result, struct error *err)
{
    if (!j->joined)
        pthread_join(j->manager, NULL);
    bool ok = j->ok;
    if (!ok)
        *err = j->err;
    size_t held = epoch_snapshot_held_bytes(j->snapshot->epoch);
    *result = (struct save_result){
        .keys = j->mark < 0 ? j->keys_total : j->counters.keys_done,
        .deleted = j->written.deleted,
        .file_size = j->written.size,
        .data_size = j->counters.data_bytes,
        .serialise_us = j->serialised_us - j->begin_us,
        .sync_us = j->synced_us - j->serialised_us,
        .verify_us = j->end_us - j->synced_us,
        .total_us = j->end_us - j->begin_us,
        .held_bytes_most = held > j->held_most ? held : j->held_most,
        .verified = j->options.verify,
    };
    snprintf(result->sha256, sizeof(result->sha256), "%s", j->sha256);
    job_free(j);
    return ok;
}
