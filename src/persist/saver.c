/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/saver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include "os/thread.h"

#define WRITE_BUFFER (256 * 1024)
/* With incremental_sync the disk begins to write after so many bytes, so that the sync at the end has
 * little left to do and other writers of the disk are not held up by one long flush. */
#define WRITEBACK_STEP (4 << 20)

/* One save: made by the executor, then the thread's own until it has set `ended`. */
struct job {
    struct save_options options;
    struct snapshot *snapshot;
    uint32_t lru_now;
    size_t used_memory;
    char temporary[300];
    struct os_file file;
    uint64_t file_size, writeback_from;
    struct error err;
    bool ok;
    bool cancel;             /* set by the executor */
    bool ended;              /* set by the thread as its last act */
    uint64_t keys_done, bytes_done, keys_total; /* progress: relaxed */
    struct rdb_writer writer;
    bool background;         /* on a thread of its own */
    struct os_polite polite;
    void (*wake)(void *ctx);
    void *wake_ctx;
};

struct saver {
    struct keyspace *ks;
    void (*wake)(void *ctx);
    void *wake_ctx;
    struct job *job; /* the one running, or NULL */
    pthread_t thread;
    uint64_t dirty_at_start;
    struct saver_status status;
    uint64_t sequence;
};

static bool flush_to_file(void *ctx, const void *data, size_t size)
{
    struct job *job = ctx;
    if (__atomic_load_n(&job->cancel, __ATOMIC_RELAXED))
        return error_set(&job->err, ERROR_CANCELLED, "the save was cancelled");
    if (!os_file_write(&job->file, data, size, &job->err))
        return false;
    job->file_size += size;
    __atomic_store_n(&job->bytes_done, job->file_size, __ATOMIC_RELAXED);
    if (job->options.incremental_sync && job->file_size - job->writeback_from >= WRITEBACK_STEP) {
        os_file_start_writeback(&job->file, job->writeback_from,
                                job->file_size - job->writeback_from);
        job->writeback_from = job->file_size;
    }
    return true;
}

static void delay(struct job *job)
{
    int64_t us = job->options.key_delay_us;
    if (us > 0)
        os_sleep_us(us);
    else if (job->keys_done % (uint64_t)-us == 0)
        os_sleep_us(1);
}

static bool save_item(void *ctx, void *item)
{
    struct job *job = ctx;
    rdb_save_entry(&job->writer, item, job->options.clock, job->lru_now);
    __atomic_store_n(&job->keys_done, job->keys_done + 1, __ATOMIC_RELAXED);
    if (job->options.key_delay_us != 0) {
        delay(job);
        if (__atomic_load_n(&job->cancel, __ATOMIC_RELAXED)) {
            job->writer.failed = true;
            error_set(&job->err, ERROR_CANCELLED, "the save was cancelled");
        }
    }
    return !job->writer.failed;
}

static bool write_file(struct job *job)
{
    struct rdb_writer *w = &job->writer;
    rdb_writer_init(w, WRITE_BUFFER, flush_to_file, job);
    w->compress = job->options.compress;
    w->version = job->options.version;
    rdb_save_header(w, job->snapshot->taken_ms, job->used_memory);
    for (int i = 0; i < job->snapshot->db_count && !w->failed; i++) {
        const struct snapshot_db *db = &job->snapshot->dbs[i];
        if (db->table.count == 0)
            continue;
        rdb_save_select(w, i, db->table.count, db->expires);
        bool done = false;
        uint64_t next = 0;
        while (!done && !w->failed) {
            next = table_walk(&db->table, next, UINT64_MAX, 1, save_item, job, &done);
            snapshot_note_walked(job->snapshot, i, next);
            if (job->background)
                os_polite_check(&job->polite);
        }
    }
    bool ok = rdb_save_end(w, job->options.checksum);
    rdb_writer_deinit(w);
    return ok;
}

/* The whole of a durable write: the temporary file is written and synced before it gets the name. */
static bool run_job(struct job *job)
{
    struct error ignored;
    char dir[sizeof(job->options.path)];
    os_path_dir(job->options.path, dir, sizeof(dir));
    if (!os_file_open(&job->file, job->temporary, OS_OPEN_CREATE_EXCLUSIVE, &job->err))
        return false;
    bool ok = write_file(job) && os_file_sync(&job->file, &job->err);
    if (!os_file_close(&job->file, ok ? &job->err : &ignored))
        ok = false;
    if (!ok || !os_rename(job->temporary, job->options.path, &job->err)) {
        os_unlink(job->temporary, &ignored);
        return false;
    }
    return os_dir_sync(dir, &job->err);
}

static void job_thread(void *arg)
{
    struct job *job = arg;
    /* The job may be freed as soon as `ended` is seen. */
    void (*wake)(void *) = job->wake;
    void *ctx = job->wake_ctx;
    os_polite_begin(&job->polite);
    job->ok = run_job(job);
    __atomic_store_n(&job->ended, true, __ATOMIC_RELEASE);
    if (wake)
        wake(ctx);
}

static struct job *job_new(struct saver *s, const struct save_options *options)
{
    struct job *job = mem_zalloc(sizeof(*job));
    job->options = *options;
    job->file.fd = -1;
    char dir[sizeof(options->path)];
    os_path_dir(options->path, dir, sizeof(dir));
    snprintf(job->temporary, sizeof(job->temporary), "%s/temp-%d-%llu.rdb", dir, (int)getpid(),
             (unsigned long long)++s->sequence);
    job->lru_now = s->ks->lru_clock;
    job->used_memory = mem_used();
    job->snapshot = snapshot_begin(s->ks);
    for (int i = 0; i < job->snapshot->db_count; i++)
        job->keys_total += job->snapshot->dbs[i].table.count;
    s->dirty_at_start = s->ks->dirty;
    return job;
}

static int64_t now_s(void)
{
    return clock_wall_ms() / 1000;
}

/* Take the result and release everything of the job. started_s is 0 for a save in the foreground:
 * whoever asked for it is told of its failure, and nothing is concluded from it. */
static void finish(struct saver *s, struct job *job, int64_t started_s)
{
    if (started_s != 0) {
        s->status.last_ok = job->ok;
        s->status.last_duration_s = now_s() - started_s;
    }
    s->status.last_held_bytes = epoch_snapshot_held_bytes(job->snapshot->epoch);
    if (job->ok) {
        s->status.last_ok = true;
        s->status.last_save_s = now_s();
        s->status.last_size = job->file_size;
        s->status.saves++;
        s->ks->dirty -= s->dirty_at_start < s->ks->dirty ? s->dirty_at_start : s->ks->dirty;
        s->status.last_error[0] = '\0';
        log_notice("DB saved on disk: %llu keys, %llu bytes", (unsigned long long)job->keys_total,
                   (unsigned long long)job->file_size);
    } else {
        snprintf(s->status.last_error, sizeof(s->status.last_error), "%s", job->err.message);
        log_warning("Saving the DB on disk failed: %s", job->err.message);
    }
    snapshot_end(s->ks, job->snapshot);
    mem_free(job);
}

struct saver *saver_new(struct keyspace *ks, void (*wake)(void *ctx), void *ctx)
{
    struct saver *s = mem_zalloc(sizeof(*s));
    s->ks = ks;
    s->wake = wake;
    s->wake_ctx = ctx;
    s->status.last_ok = true;
    s->status.last_duration_s = -1;
    s->status.last_save_s = now_s();
    return s;
}

void saver_free(struct saver *s)
{
    if (!s)
        return;
    saver_cancel(s);
    saver_wait(s);
    mem_free(s);
}

bool saver_save(struct saver *s, const struct save_options *options, struct error *err)
{
    if (s->job)
        return error_set(err, ERROR_INVALID, "a background save is running");
    struct job *job = job_new(s, options);
    bool ok = job->ok = run_job(job);
    *err = job->err;
    finish(s, job, 0);
    return ok;
}

bool saver_begin(struct saver *s, const struct save_options *options, struct error *err)
{
    if (s->job)
        return error_set(err, ERROR_INVALID, "a background save is running");
    struct job *job = job_new(s, options);
    job->background = true;
    job->wake = s->wake;
    job->wake_ctx = s->wake_ctx;
    s->status.last_attempt_s = s->status.started_s = now_s();
    if (!os_thread_start(&s->thread, "hf-snapshot", job_thread, job, err)) {
        job->err = *err;
        finish(s, job, s->status.started_s);
        s->status.started_s = 0;
        return false;
    }
    s->job = job;
    return true;
}

bool saver_running(const struct saver *s)
{
    return s->job != NULL;
}

void saver_cancel(struct saver *s)
{
    if (s->job)
        __atomic_store_n(&s->job->cancel, true, __ATOMIC_RELAXED);
}

bool saver_wait(struct saver *s)
{
    if (!s->job)
        return false;
    pthread_join(s->thread, NULL);
    struct job *job = s->job;
    s->job = NULL;
    finish(s, job, s->status.started_s);
    s->status.started_s = 0;
    return true;
}

bool saver_poll(struct saver *s)
{
    if (!s->job || !__atomic_load_n(&s->job->ended, __ATOMIC_ACQUIRE))
        return false;
    return saver_wait(s);
}

void saver_get_status(const struct saver *s, struct saver_status *status)
{
    *status = s->status;
    status->running = s->job != NULL;
    if (!s->job)
        return;
    status->keys_total = s->job->keys_total;
    status->keys_done = __atomic_load_n(&s->job->keys_done, __ATOMIC_RELAXED);
    status->bytes_done = __atomic_load_n(&s->job->bytes_done, __ATOMIC_RELAXED);
    status->held_bytes = epoch_snapshot_held_bytes(s->job->snapshot->epoch);
}

void saver_note_loaded(struct saver *s)
{
    s->ks->dirty = 0;
    s->status.last_save_s = now_s();
}

static void clean_name(void *ctx, const char *name)
{
    /* temp-PID-N.rdb, as job_new names them. */
    const char *dir = ctx;
    char *end;
    if (strncmp(name, "temp-", 5) != 0)
        return;
    strtoul(name + 5, &end, 10);
    if (end == name + 5 || *end != '-')
        return;
    const char *number = end + 1;
    strtoul(number, &end, 10);
    if (end == number || strcmp(end, ".rdb") != 0)
        return;
    char path[600];
    struct error err;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (os_unlink(path, &err))
        log_notice("Removed a save that was not finished: %s", path);
}

void saver_clean_temporary(const char *path)
{
    char dir[256];
    struct error err;
    os_path_dir(path, dir, sizeof(dir));
    os_dir_list(dir, clean_name, dir, &err);
}
