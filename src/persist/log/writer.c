/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/writer.h"

#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/thread.h"
#include "persist/log/writer_private.h"

/* A sync under EVERYSEC begins when the first byte that it covers is so old. */
#define SYNC_AFTER_US 500000
/* With EVERYSEC and NO a group is written so long after the one before, or at once when that is
 * longer ago: so long is what the end of the process may lose. */
#define LINGER_US 2000
/* How often it is looked whether there is room again. */
#define FULL_RETRY_US 100000
/* What the executor says of its publishing: one mark a millisecond, or for so many bytes. With
 * ALWAYS, where commits take less than that, one each time. */
#define MARK_US 1000
#define MARK_BYTES (128 * 1024)

/* ---- the thread ---- */

/* The thread sleeps until it is woken or until `us`; under the lock, which it gives back meanwhile.
 * What it is to be woken for is looked at between begin_sleep and sleep_until. */
static void begin_sleep(struct writer *w, enum writer_sleep sleep)
{
    __atomic_exchange_n(&w->sleep, (int)sleep, __ATOMIC_SEQ_CST);
}

static void sleep_until(struct writer *w, int64_t us)
{
    pthread_mutex_unlock(&w->lock);
    int64_t now_us = us == INT64_MAX ? 0 : clock_monotonic_us();
    os_bell_wait(&w->bell, us == INT64_MAX ? INT64_MAX : us - now_us);
    pthread_mutex_lock(&w->lock);
}

/* Who waits for the thread has something for it. */
void writer_rouse(struct writer *w)
{
    if (__atomic_exchange_n(&w->sleep, SLEEP_NONE, __ATOMIC_SEQ_CST) != SLEEP_NONE)
        os_bell_ring(&w->bell);
}

/* When a sync is due; INT64_MAX: not at any time. */
static int64_t sync_due(const struct writer *w, uint64_t flush_lsn)
{
    if (!w->unsynced)
        return INT64_MAX;
    int policy = __atomic_load_n(&w->sync, __ATOMIC_RELAXED);
    if (policy == WRITER_ALWAYS || flush_lsn > __atomic_load_n(&w->durable, __ATOMIC_RELAXED))
        return 0;
    return policy == WRITER_EVERYSEC ? w->unsynced_since_us + SYNC_AFTER_US : INT64_MAX;
}

static void work(struct writer *w, uint64_t published, uint64_t flush_lsn)
{
    if (writer_fly(w))
        return;
    writer_settle(w);
    if (w->waiting.kind != JOB_NONE && !writer_begin_waiting(w))
        return;
    if (!writer_file_is_open(w)) {
        writer_discard_up_to(w, published);
        return;
    }
    bool ok = writer_write_up_to(w, published);
    if (!writer_file_is_open(w))
        return;
    if (ok && writer_state(w) == WRITER_FULL && writer_reserve(w, w->offset))
        writer_room_again(w);
    if (!w->unsynced || clock_monotonic_us() < sync_due(w, flush_lsn) || !writer_sync_file(w))
        return;
    /* What comes next may be long in coming, or never: it is said now that all this was synced, so
     * that no damage in it is ever taken for an end that was torn. With ALWAYS the groups
     * behind it say so of all but the last few. */
    struct error err = {0};
    if (w->named && __atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS &&
        !writer_put_line(w, ANNOTATION_COMMIT, w->written, &err) && err.code != ERROR_NO_SPACE)
        writer_give_up(w, &err);
}

static bool lingers(const struct writer *w)
{
    return __atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS && !w->busy &&
           w->flush_lsn <= writer_written_lsn(w) && !w->stop;
}

static void run(void *arg)
{
    struct writer *w = arg;
    os_thread_be_prompt();
    os_companion_begin(&w->lanes[0].companion);
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        int64_t linger_until = w->last_work_us + LINGER_US;
        if (lingers(w) && clock_monotonic_us() < linger_until) {
            begin_sleep(w, SLEEP_LINGERING);
            sleep_until(w, linger_until);
            begin_sleep(w, SLEEP_NONE);
            if (lingers(w) && clock_monotonic_us() < linger_until)
                continue;
        }
        bool job = w->job.kind != JOB_NONE;
        uint64_t flush_lsn = w->flush_lsn;
        /* Read before anything of a later request can be published. */
        uint64_t published = stream_published(w->stream);
        pthread_mutex_unlock(&w->lock);
        /* Where the executor waits for each commit. */
        if (__atomic_load_n(&w->sync, __ATOMIC_RELAXED) == WRITER_ALWAYS)
            os_companion_check(&w->lanes[0].companion);
        else
            os_companion_rest(&w->lanes[0].companion);
        pthread_mutex_lock(&w->turn);
        if (job) {
            writer_settle(w);
            writer_run_job(w);
        } else {
            work(w, published, flush_lsn);
            w->last_work_us = clock_monotonic_us();
        }
        int64_t due = writer_file_is_open(w) ? sync_due(w, flush_lsn) : INT64_MAX;
        bool lanes = w->past_cache.fd >= 0;
        pthread_mutex_unlock(&w->turn);
        pthread_mutex_lock(&w->lock);
        /* What was published meanwhile is to be looked at, too. */
        if (job)
            continue;
        begin_sleep(w, SLEEP_ANY);
        if (writer_state(w) == WRITER_FULL && due > clock_monotonic_us() + FULL_RETRY_US)
            due = clock_monotonic_us() + FULL_RETRY_US;
        bool nothing = stream_published(w->stream) == published ||
                       (lanes && !writer_lane_is_wanted(w)) || writer_state(w) == WRITER_FULL;
        if (!w->stop && w->job.kind == JOB_NONE && w->flush_lsn == flush_lsn && nothing)
            sleep_until(w, due);
        begin_sleep(w, SLEEP_NONE);
    }
    pthread_mutex_unlock(&w->lock);
    writer_end_lanes(w);
    __atomic_store_n(&w->ended, true, __ATOMIC_RELEASE);
}

/* ---- the executor's side ---- */

struct writer *writer_new(struct stream *stream, const struct writer_options *options,
                          struct error *err)
{
    struct writer *w = mem_zalloc(sizeof(*w));
    w->stream = stream;
    w->directory = mem_dup(options->directory, strlen(options->directory));
    w->filename = mem_dup(options->filename, strlen(options->filename));
    w->wake = options->wake;
    w->wake_ctx = options->ctx;
    w->file = w->past_cache = (struct os_file)OS_FILE_CLOSED;
    w->sync = (int)options->sync;
    w->timestamps = options->timestamps;
    w->piece_room = 64;
    w->pieces = mem_alloc((size_t)w->piece_room * sizeof(*w->pieces));
    w->buffer = mem_alloc(WRITER_BUFFER_SIZE);
    w->write_times = &w->stats.write;
    w->sync_times = &w->stats.sync;
    w->commit_times = &w->stats.commit;
    w->last_published = w->last_marked = w->written = w->durable = stream_published(stream);
    w->reader = stream_reader_new(stream, w->written);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->done, NULL);
    pthread_mutex_init(&w->turn, NULL);
    pthread_cond_init(&w->landed, NULL);
    w->bell = (struct os_bell){-1, -1};
    w->started = os_bell_init(&w->bell, err) && os_thread_start(&w->thread, "log", run, w, err);
    if (w->started)
        return w;
    writer_free(w);
    return NULL;
}

void writer_stop(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    assert(!w->busy);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    writer_rouse(w);
}

bool writer_ended(const struct writer *w)
{
    return __atomic_load_n(&w->ended, __ATOMIC_ACQUIRE);
}

void writer_free(struct writer *w)
{
    struct error ignored;
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    w->stop = true;
    pthread_mutex_unlock(&w->lock);
    writer_rouse(w);
    if (w->started)
        pthread_join(w->thread, NULL);
    writer_close_file(w, &ignored);
    writer_forget_provisional(w);
    writer_forget_waiting(w);
    stream_reader_free(w->stream, w->reader);
    if (w->job.has_manifest)
        manifest_free(&w->job.manifest);
    os_bell_deinit(&w->bell);
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    pthread_cond_destroy(&w->landed);
    pthread_mutex_destroy(&w->turn);
    mem_free(w->pieces);
    mem_free(w->buffer);
    mem_free(w->directory);
    mem_free(w->filename);
    mem_free(w);
}

static void give_job(struct writer *w, struct writer_job *job, const struct manifest *manifest)
{
    if (manifest != NULL)
        job->has_manifest = manifest_copy(&job->manifest, manifest);
    pthread_mutex_lock(&w->lock);
    assert(!w->busy);
    job->db = w->db;
    job->own = w->own;
    w->job = *job;
    w->busy = true;
    w->job_error = (struct error){0};
    pthread_mutex_unlock(&w->lock);
    writer_rouse(w);
}

void writer_begin(struct writer *w, const struct writer_begin *begin)
{
    assert(strlen(begin->history) == ANNOTATION_HISTORY);
    struct writer_job job = {.kind = JOB_BEGIN,
                             .lsn = begin->lsn,
                             .chain = begin->chain,
                             .wait_for_room = begin->wait_for_room,
                             .cut_at = begin->cut_at};
    snprintf(job.name, sizeof(job.name), "%s", begin->name);
    snprintf(job.cut, sizeof(job.cut), "%s", begin->cut != NULL ? begin->cut : "");
    memcpy(job.history, begin->history, sizeof(job.history));
    give_job(w, &job, begin->manifest);
}

void writer_rotate(struct writer *w, const char *name, const struct manifest *manifest)
{
    struct writer_job job = {.kind = JOB_ROTATE, .lsn = stream_published(w->stream)};
    snprintf(job.name, sizeof(job.name), "%s", name);
    give_job(w, &job, manifest);
}

void writer_rotate_history(struct writer *w, const char *name, const struct manifest *manifest,
                           const char *history)
{
    assert(strlen(history) == ANNOTATION_HISTORY);
    struct writer_job job = {.kind = JOB_ROTATE, .lsn = stream_published(w->stream)};
    snprintf(job.name, sizeof(job.name), "%s", name);
    memcpy(job.history, history, sizeof(job.history));
    give_job(w, &job, manifest);
}

void writer_name(struct writer *w, const struct manifest *manifest)
{
    struct writer_job job = {.kind = JOB_NAME};
    give_job(w, &job, manifest);
}

void writer_close(struct writer *w)
{
    struct writer_job job = {.kind = JOB_CLOSE, .lsn = stream_published(w->stream)};
    give_job(w, &job, NULL);
}

void writer_set_place(struct writer *w, int db, bool own)
{
    w->db = db;
    w->own = own;
}

bool writer_busy(const struct writer *w)
{
    struct writer *mutable = (struct writer *)(uintptr_t)w;
    pthread_mutex_lock(&mutable->lock);
    bool busy = w->busy;
    pthread_mutex_unlock(&mutable->lock);
    return busy;
}

bool writer_wait(struct writer *w, struct error *err)
{
    pthread_mutex_lock(&w->lock);
    while (w->busy)
        pthread_cond_wait(&w->done, &w->lock);
    bool ok = w->job_error.code == ERROR_NONE;
    if (!ok)
        *err = w->job_error;
    pthread_mutex_unlock(&w->lock);
    return ok;
}

static void add_mark(struct writer *w, uint64_t lsn, int64_t now_us)
{
    if (w->unmarked_since_us == 0)
        w->unmarked_since_us = now_us;
    if (now_us - w->last_mark_us < MARK_US && lsn - w->last_marked < MARK_BYTES &&
        __atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS)
        return;
    size_t tail = w->mark_tail;
    if (tail - __atomic_load_n(&w->mark_head, __ATOMIC_ACQUIRE) >= WRITER_MARKS)
        return;
    w->marks[tail % WRITER_MARKS] = (struct writer_mark){lsn, w->unmarked_since_us};
    __atomic_store_n(&w->mark_tail, tail + 1, __ATOMIC_RELEASE);
    w->unmarked_since_us = 0;
    w->last_mark_us = now_us;
    w->last_marked = lsn;
}

void writer_published(struct writer *w, int64_t now_us)
{
    uint64_t lsn = stream_published(w->stream);
    if (lsn == w->last_published)
        return;
    w->last_published = lsn;
    add_mark(w, lsn, now_us);
    /* Either we see that it sleeps, or it sees what was published before it does, as both read and
     * write in one step. (A fence would do, but the thread sanitizer knows none.) */
    if (__atomic_fetch_or(&w->sleep, 0, __ATOMIC_SEQ_CST) != SLEEP_ANY)
        writer_call_mate(w);
    else if (writer_lane_is_wanted(w))
        writer_rouse(w);
}

void writer_sync_to(struct writer *w, uint64_t lsn)
{
    pthread_mutex_lock(&w->lock);
    if (lsn > w->flush_lsn)
        w->flush_lsn = lsn;
    pthread_mutex_unlock(&w->lock);
    writer_rouse(w);
}

void writer_hush(struct writer *w)
{
    __atomic_store_n(&w->told, true, __ATOMIC_SEQ_CST);
}

bool writer_take_news(struct writer *w)
{
    return __atomic_load_n(&w->news, __ATOMIC_RELAXED) &&
           __atomic_exchange_n(&w->news, false, __ATOMIC_SEQ_CST);
}

bool writer_has_news(const struct writer *w)
{
    return __atomic_load_n(&w->news, __ATOMIC_SEQ_CST);
}

void writer_awake(struct writer *w)
{
    __atomic_store_n(&w->told, false, __ATOMIC_SEQ_CST);
}

void writer_set_sync(struct writer *w, enum writer_sync sync)
{
    if (__atomic_exchange_n(&w->sync, (int)sync, __ATOMIC_SEQ_CST) == (int)sync)
        return;
    /* What is due may be due earlier now. */
    writer_rouse(w);
}

void writer_set_timestamps(struct writer *w, bool timestamps)
{
    __atomic_store_n(&w->timestamps, timestamps, __ATOMIC_RELAXED);
}

void writer_set_eager(struct writer *w, bool eager)
{
    __atomic_store_n(&w->eager, eager, __ATOMIC_SEQ_CST);
}

uint64_t writer_written_lsn(const struct writer *w)
{
    return __atomic_load_n(&w->written, __ATOMIC_ACQUIRE);
}

uint64_t writer_durable_lsn(const struct writer *w)
{
    return __atomic_load_n(&w->durable, __ATOMIC_ACQUIRE);
}

uint64_t writer_pending_bytes(const struct writer *w)
{
    return stream_published(w->stream) - stream_reader_lsn(w->reader);
}

int64_t writer_at_risk_since_us(const struct writer *w)
{
    if (writer_durable_lsn(w) >= w->last_published)
        return 0;
    size_t head = __atomic_load_n(&w->mark_head, __ATOMIC_ACQUIRE);
    return head != w->mark_tail ? w->marks[head % WRITER_MARKS].us : w->unmarked_since_us;
}

enum writer_state writer_state(const struct writer *w)
{
    return (enum writer_state)__atomic_load_n(&w->state, __ATOMIC_ACQUIRE);
}

void writer_take_longest(struct writer *w, int64_t *write_us, int64_t *sync_us)
{
    pthread_mutex_lock(&w->lock);
    *write_us = w->longest_write_us;
    *sync_us = w->longest_sync_us;
    w->longest_write_us = w->longest_sync_us = 0;
    pthread_mutex_unlock(&w->lock);
}

uint64_t writer_file_size(const struct writer *w, uint64_t *ended_size)
{
    struct writer *mutable = (struct writer *)(uintptr_t)w;
    pthread_mutex_lock(&mutable->lock);
    uint64_t size = w->stats.file_size;
    if (ended_size != NULL)
        *ended_size = w->stats.ended_size;
    pthread_mutex_unlock(&mutable->lock);
    return size;
}

void writer_get_stats(const struct writer *w, struct writer_stats *stats)
{
    struct writer *mutable = (struct writer *)(uintptr_t)w;
    pthread_mutex_lock(&mutable->lock);
    *stats = w->stats;
    pthread_mutex_unlock(&mutable->lock);
    stats->syncing = __atomic_load_n(&w->syncing, __ATOMIC_RELAXED);
}
