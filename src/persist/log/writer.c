/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/writer.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>
#include <time.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/thread.h"

/* Lines and effects are gathered here: a small group is one write. */
#define BUFFER_SIZE (256 * 1024)
/* Pieces of effects that are as long as this are written from where they are. */
#define PIECE_DIRECT (64 * 1024)
/* A group is no longer than this, where the executor has published in between: a crash in the middle
 * of a group takes all of it. */
#define GROUP_MAX (1024 * 1024)
/* A sync under EVERYSEC begins when the first byte that it covers is so old. */
#define SYNC_AFTER_US 500000
/* With EVERYSEC and NO the thread is woken at most once in this time. */
#define LINGER_US 5000
/* How often it is looked whether there is room again. */
#define FULL_RETRY_US 100000
#define SLOW_SYNC_US 1000000
/* Space is reserved in steps of RESERVE_STEP when less than RESERVE_LOW is left; on a disk that
 * has not got that much, in smaller ones, down to RESERVE_LEAST. */
#define RESERVE_STEP (16 << 20)
#define RESERVE_LOW (1 << 20)
#define RESERVE_LEAST (64 << 10)
/* What the executor says of its publishing: one mark a millisecond, or for so many bytes. */
#define MARKS 2048
#define MARK_US 1000
#define MARK_BYTES (128 * 1024)

#define PATH_SIZE sizeof(((struct os_file *)0)->path)

/* Everything up to `lsn` (and behind the mark before) was published at `us`, or later. */
struct mark {
    uint64_t lsn;
    int64_t us;
};

enum job_kind { JOB_NONE, JOB_BEGIN, JOB_ROTATE, JOB_NAME, JOB_CLOSE };

struct job {
    enum job_kind kind;
    char name[PATH_SIZE];
    uint64_t lsn; /* of the new file, or up to where the old one is to be written */
    uint32_t chain;
    char history[ANNOTATION_HISTORY + 1];
    bool has_manifest;
    struct manifest manifest;
};

struct writer {
    struct stream *stream;
    struct stream_reader *reader;
    char *directory, *filename;
    void (*wake)(void *ctx);
    void *wake_ctx;
    pthread_t thread;

    /* The thread's own. */
    struct os_file file;
    uint64_t offset;       /* behind the last whole line; the position of the next write */
    uint64_t reserved_end; /* what the file has got up to there is its own */
    uint32_t chain;
    char history[ANNOTATION_HISTORY + 1];
    bool named;            /* in the manifest: what is synced is durable */
    char temporary[PATH_SIZE]; /* of a file that is not: its path, and the one it will have */
    char final[PATH_SIZE];
    bool unsynced;         /* something was written since the last sync */
    int64_t unsynced_since_us;
    int64_t last_stamp_s;  /* of the last `#TS:` line */
    size_t mark_written;   /* the next mark that is not yet written */
    struct iovec *pieces;
    int piece_room;
    char *buffer;
    size_t buffered;
    struct histogram *write_times, *sync_times, *commit_times; /* under the lock */

    /* Atomics. */
    uint64_t written, durable;
    int state; /* enum writer_state; written by the thread */
    bool told; /* wake was called */
    bool eager;
    int sync;  /* enum writer_sync */
    bool timestamps;
    bool syncing;

    /* The executor's. */
    uint64_t last_published, last_marked;
    int64_t unmarked_since_us; /* the first publishing that no mark tells of; 0: none */
    int64_t last_mark_us;
    struct mark marks[MARKS];
    size_t mark_tail; /* atomic: written by the executor */
    size_t mark_head; /* atomic: written by the thread; durable up to there */

    pthread_mutex_t lock;
    pthread_cond_t work, done;
    /* Under the lock. */
    int sleeping; /* also read without it */
    bool stop;
    bool busy; /* a job was given and has not ended */
    struct job job;
    struct error job_error;
    uint64_t flush_lsn; /* sync up to here at once */
    int64_t longest_write_us, longest_sync_us;
    struct writer_stats stats;
};

/* ---- the thread: small things ---- */

static void tell(struct writer *w)
{
    if (!__atomic_exchange_n(&w->told, true, __ATOMIC_SEQ_CST))
        w->wake(w->wake_ctx);
}

static void set_state(struct writer *w, enum writer_state state)
{
    if (__atomic_exchange_n(&w->state, (int)state, __ATOMIC_RELEASE) != (int)state)
        tell(w);
}

static enum writer_state get_state(const struct writer *w)
{
    return (enum writer_state)__atomic_load_n(&w->state, __ATOMIC_ACQUIRE);
}

static void note_error(struct writer *w, const struct error *err)
{
    pthread_mutex_lock(&w->lock);
    w->stats.error = *err;
    pthread_mutex_unlock(&w->lock);
}

/* The file is given up: whoever has it in the page cache knows as little of it as we do. */
static void give_up(struct writer *w, const struct error *err)
{
    struct error ignored;
    log_warning("The log is given up: %s", err->message);
    note_error(w, err);
    os_file_close(&w->file, &ignored);
    w->unsynced = false;
    set_state(w, WRITER_FAILED);
}

static void no_room(struct writer *w, const struct error *err)
{
    if (get_state(w) != WRITER_FULL)
        log_warning("There is no room for the log: %s", err->message);
    note_error(w, err);
    set_state(w, WRITER_FULL);
}

static void room_again(struct writer *w)
{
    if (get_state(w) == WRITER_FULL) {
        log_notice("There is room for the log again");
        note_error(w, &(struct error){0});
        set_state(w, WRITER_OPEN);
    }
}

static bool file_is_open(const struct writer *w)
{
    return w->file.fd >= 0;
}

/* ---- writing ---- */

/* An error while a group is being written: nothing of the group counts. */
static bool write_failed(struct writer *w, const struct error *err)
{
    w->buffered = 0;
    if (err->code == ERROR_NO_SPACE)
        no_room(w, err);
    else
        give_up(w, err);
    return false;
}

static bool put_out(struct writer *w, uint64_t *at, const char *data, size_t size,
                    struct error *err)
{
    int64_t begin = clock_monotonic_us();
    bool ok = os_file_write_at(&w->file, *at, data, size, err);
    int64_t took = clock_monotonic_us() - begin;
    *at += size;
    pthread_mutex_lock(&w->lock);
    w->stats.writes++;
    w->stats.busy_us += took;
    histogram_record(w->write_times, (uint64_t)took, 1);
    if (took > w->longest_write_us)
        w->longest_write_us = took;
    pthread_mutex_unlock(&w->lock);
    return ok;
}

static bool flush_buffer(struct writer *w, uint64_t *at, struct error *err)
{
    size_t size = w->buffered;
    w->buffered = 0;
    return size == 0 || put_out(w, at, w->buffer, size, err);
}

static bool put(struct writer *w, uint64_t *at, const char *data, size_t size, struct error *err)
{
    if (size > BUFFER_SIZE - w->buffered) {
        if (!flush_buffer(w, at, err))
            return false;
        if (size >= PIECE_DIRECT)
            return put_out(w, at, data, size, err);
    }
    memcpy(w->buffer + w->buffered, data, size);
    w->buffered += size;
    return true;
}

/* A line that ends in a crc, which becomes the chain's next. */
static size_t format_line(const struct annotation *a, uint32_t *crc, char *line)
{
    size_t size = annotation_format(a, line);
    *crc = crc32c(*crc, line, size);
    return size + annotation_finish(*crc, line + size);
}

static bool reserve(struct writer *w, uint64_t end)
{
    if (w->reserved_end == UINT64_MAX)
        return true;
    if (w->reserved_end >= end + RESERVE_LOW)
        return true;
    struct error err = {0};
    for (uint64_t step = RESERVE_STEP; step >= RESERVE_LEAST; step /= 2) {
        uint64_t to = (end > w->reserved_end ? end : w->reserved_end) + step;
        if (os_file_reserve(&w->file, w->reserved_end, to - w->reserved_end, &err)) {
            w->reserved_end = to;
            return true;
        }
        if (err.code == ERROR_UNSUPPORTED) {
            w->reserved_end = UINT64_MAX;
            return true;
        }
        if (err.code != ERROR_NO_SPACE)
            break;
    }
    if (err.code == ERROR_NO_SPACE)
        no_room(w, &err);
    else
        give_up(w, &err);
    return false;
}

/* Up to where the next group goes: all that was published, or a mark that is near enough. */
static uint64_t group_end(struct writer *w, uint64_t at, uint64_t limit)
{
    size_t tail = __atomic_load_n(&w->mark_tail, __ATOMIC_ACQUIRE);
    if (limit - at <= GROUP_MAX)
        return limit;
    uint64_t end = 0;
    for (size_t i = w->mark_written; i != tail; i++) {
        uint64_t lsn = w->marks[i % MARKS].lsn;
        if (lsn <= at)
            continue;
        if (end != 0 && lsn - at > GROUP_MAX)
            break;
        end = lsn;
    }
    return end != 0 && end < limit ? end : limit;
}

static int peek(struct writer *w, size_t size)
{
    for (;;) {
        size_t found = 0;
        int count = stream_reader_peek(w->reader, w->pieces, w->piece_room, size);
        for (int i = 0; i < count; i++)
            found += w->pieces[i].iov_len;
        if (found == size)
            return count;
        assert(count == w->piece_room);
        w->piece_room *= 2;
        w->pieces = mem_realloc(w->pieces, (size_t)w->piece_room * sizeof(*w->pieces));
    }
}

/* What is marked up to this LSN is written; the time of the first of it, or `now`. */
static int64_t pass_marks(struct writer *w, uint64_t lsn, int64_t now)
{
    size_t tail = __atomic_load_n(&w->mark_tail, __ATOMIC_ACQUIRE);
    int64_t first = now;
    for (; w->mark_written != tail && w->marks[w->mark_written % MARKS].lsn <= lsn;
         w->mark_written++) {
        int64_t us = w->marks[w->mark_written % MARKS].us;
        if (us < first)
            first = us;
    }
    return first;
}

static bool write_group(struct writer *w, uint64_t from, uint64_t to)
{
    struct error err = {0};
    char line[ANNOTATION_MAX];
    uint64_t at = w->offset;
    uint32_t crc = w->chain;
    int64_t ms = clock_wall_ms();
    size_t left = (size_t)(to - from);
    if (!reserve(w, at + left + 3 * ANNOTATION_MAX) && get_state(w) != WRITER_FULL)
        return false;
    struct annotation group = {.kind = ANNOTATION_GROUP, .lsn = from};
    size_t size = annotation_format(&group, line);
    int64_t stamp_s = w->last_stamp_s;
    if (__atomic_load_n(&w->timestamps, __ATOMIC_RELAXED) && ms / 1000 != stamp_s) {
        stamp_s = ms / 1000;
        size += (size_t)snprintf(line + size, sizeof(line) - size, "#TS:%lld\r\n",
                                 (long long)stamp_s);
    }
    crc = crc32c(crc, line, size);
    bool ok = put(w, &at, line, size, &err);
    int count = peek(w, left);
    for (int i = 0; ok && i < count; i++) {
        crc = crc32c(crc, w->pieces[i].iov_base, w->pieces[i].iov_len);
        ok = put(w, &at, w->pieces[i].iov_base, w->pieces[i].iov_len, &err);
    }
    struct annotation commit = {.kind = ANNOTATION_COMMIT, .lsn = to, .ms = ms};
    size = format_line(&commit, &crc, line);
    ok = ok && put(w, &at, line, size, &err) && flush_buffer(w, &at, &err);
    if (!ok)
        return write_failed(w, &err);
    int64_t since = pass_marks(w, to, clock_monotonic_us());
    if (!w->unsynced)
        w->unsynced_since_us = since;
    w->unsynced = true;
    w->last_stamp_s = stamp_s;
    w->chain = crc;
    pthread_mutex_lock(&w->lock);
    w->stats.groups++;
    w->stats.bytes += at - w->offset;
    w->stats.file_size = at;
    w->stats.chain = crc;
    pthread_mutex_unlock(&w->lock);
    w->offset = at;
    stream_reader_advance(w->reader, left);
    __atomic_store_n(&w->written, to, __ATOMIC_RELEASE);
    if (__atomic_load_n(&w->eager, __ATOMIC_RELAXED))
        tell(w);
    return true;
}

static void move_durable(struct writer *w, uint64_t lsn)
{
    int64_t now = clock_monotonic_us();
    size_t head = w->mark_head;
    pthread_mutex_lock(&w->lock);
    while (head != w->mark_written && w->marks[head % MARKS].lsn <= lsn) {
        int64_t took = now - w->marks[head % MARKS].us;
        histogram_record(w->commit_times, took > 0 ? (uint64_t)took : 0, 1);
        head++;
    }
    pthread_mutex_unlock(&w->lock);
    __atomic_store_n(&w->mark_head, head, __ATOMIC_RELEASE);
    __atomic_store_n(&w->durable, lsn, __ATOMIC_RELEASE);
    bool waits = __atomic_load_n(&w->sync, __ATOMIC_RELAXED) == WRITER_ALWAYS ||
                 __atomic_load_n(&w->eager, __ATOMIC_RELAXED);
    if (waits)
        tell(w);
}

static bool sync_file(struct writer *w)
{
    struct error err = {0};
    if (!w->unsynced)
        return true;
    int64_t begin = clock_monotonic_us();
    __atomic_store_n(&w->syncing, true, __ATOMIC_RELAXED);
    bool ok = os_file_sync(&w->file, &err);
    __atomic_store_n(&w->syncing, false, __ATOMIC_RELAXED);
    int64_t took = clock_monotonic_us() - begin;
    pthread_mutex_lock(&w->lock);
    w->stats.syncs++;
    w->stats.slow_syncs += took > SLOW_SYNC_US;
    w->stats.busy_us += took;
    histogram_record(w->sync_times, (uint64_t)took, 1);
    if (took > w->longest_sync_us)
        w->longest_sync_us = took;
    pthread_mutex_unlock(&w->lock);
    if (!ok) {
        give_up(w, &err);
        return false;
    }
    w->unsynced = false;
    if (w->named)
        move_durable(w, w->written);
    return true;
}

/* Everything below `limit`, group by group; with ALWAYS each is synced. */
static bool write_up_to(struct writer *w, uint64_t limit)
{
    uint64_t at;
    while ((at = stream_reader_lsn(w->reader)) < limit) {
        if (!write_group(w, at, group_end(w, at, limit)))
            return false;
        if (__atomic_load_n(&w->sync, __ATOMIC_RELAXED) == WRITER_ALWAYS && !sync_file(w))
            return false;
    }
    return true;
}

/* ---- files ---- */

static bool make_path(const struct writer *w, const char *name, char path[PATH_SIZE],
                      struct error *err)
{
    int n = snprintf(path, PATH_SIZE, "%s/%s", w->directory, name);
    if (n < 0 || (size_t)n >= PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", w->directory);
    return true;
}

static bool write_manifest(struct writer *w, const struct manifest *m, struct error *err)
{
    return manifest_write(m, w->directory, w->filename, err);
}

/* A new file with its header, on disk, its name too. On failure there is none. */
static bool create_file(struct writer *w, const char *name, uint64_t lsn, uint32_t chain,
                        struct os_file *f, uint64_t *offset, uint32_t *crc, struct error *err)
{
    char path[PATH_SIZE], line[ANNOTATION_MAX];
    struct error ignored;
    f->fd = -1;
    if (!make_path(w, name, path, err) || !os_file_open(f, path, OS_OPEN_CREATE_EXCLUSIVE, err))
        return false;
    struct annotation header = {
        .kind = ANNOTATION_LOG, .lsn = lsn, .ms = clock_wall_ms(), .chain = chain};
    memcpy(header.history, w->history, sizeof(header.history));
    *crc = chain;
    size_t size = format_line(&header, crc, line);
    *offset = size;
    if (os_file_write_at(f, 0, line, size, err) && os_file_sync(f, err) &&
        os_dir_sync(w->directory, err))
        return true;
    os_file_close(f, &ignored);
    os_unlink(path, &ignored);
    return false;
}

static void take_file(struct writer *w, const struct os_file *f, uint64_t offset, uint32_t crc)
{
    w->file = *f;
    w->offset = w->reserved_end = offset;
    w->chain = crc;
    w->unsynced = false;
    w->last_stamp_s = 0;
    pthread_mutex_lock(&w->lock);
    w->stats.file_size = offset;
    w->stats.chain = crc;
    pthread_mutex_unlock(&w->lock);
}

/* The manifest was not written; or perhaps it was, and just what followed has failed. Only a disk
 * that is full is known not to have got as far as that. */
static void manifest_failed(struct writer *w, const struct error *err)
{
    if (err->code != ERROR_NO_SPACE && file_is_open(w))
        give_up(w, err);
}

static void drop_file(struct os_file *f)
{
    struct error ignored;
    char path[PATH_SIZE];
    snprintf(path, sizeof(path), "%s", f->path);
    os_file_close(f, &ignored);
    os_unlink(path, &ignored);
}

static void discard_up_to(struct writer *w, uint64_t lsn)
{
    uint64_t at = stream_reader_lsn(w->reader);
    if (lsn > at)
        stream_reader_advance(w->reader, (size_t)(lsn - at));
    pass_marks(w, lsn, 0);
    __atomic_store_n(&w->mark_head, w->mark_written, __ATOMIC_RELEASE);
}

/* What a file that was never named has got is of no use. */
static void forget_provisional(struct writer *w)
{
    struct error ignored;
    if (w->temporary[0] != '\0')
        os_unlink(w->temporary, &ignored);
    w->temporary[0] = '\0';
}

static bool do_begin(struct writer *w, const struct job *job, struct error *err)
{
    struct error ignored;
    struct os_file f;
    uint64_t offset;
    uint32_t crc;
    char name[PATH_SIZE];
    os_file_close(&w->file, &ignored);
    forget_provisional(w);
    w->unsynced = false;
    memcpy(w->history, job->history, sizeof(w->history));
    discard_up_to(w, job->lsn);
    int n = snprintf(name, sizeof(name), "%s%s", job->has_manifest ? "" : WRITER_TEMPORARY, job->name);
    if (n < 0 || (size_t)n >= sizeof(name) || !make_path(w, job->name, w->final, err))
        return error_set(err, ERROR_INVALID, "the name is too long: %.100s", job->name);
    if (!os_dir_create_synced(w->directory, err) ||
        !create_file(w, name, job->lsn, job->chain, &f, &offset, &crc, err))
        return false;
    if (!job->has_manifest)
        memcpy(w->temporary, f.path, sizeof(w->temporary));
    if (job->has_manifest && !write_manifest(w, &job->manifest, err)) {
        os_file_close(&f, &ignored);
        return false;
    }
    take_file(w, &f, offset, crc);
    w->named = job->has_manifest;
    __atomic_store_n(&w->written, job->lsn, __ATOMIC_RELEASE);
    if (w->named)
        move_durable(w, job->lsn);
    note_error(w, &(struct error){0});
    set_state(w, WRITER_OPEN);
    reserve(w, offset);
    return true;
}

/* The line that says that the file was not cut off; what is reserved behind it is given back. */
static bool end_file(struct writer *w, uint64_t lsn, struct error *err)
{
    char line[ANNOTATION_MAX];
    struct error ignored;
    uint32_t crc = w->chain;
    struct annotation end = {.kind = ANNOTATION_CLOSE, .lsn = lsn, .ms = clock_wall_ms()};
    size_t size = format_line(&end, &crc, line);
    if (!os_file_write_at(&w->file, w->offset, line, size, err))
        return false;
    w->offset += size;
    w->chain = crc;
    os_file_truncate(&w->file, w->offset, &ignored);
    w->reserved_end = w->offset;
    w->unsynced = true;
    pthread_mutex_lock(&w->lock);
    w->stats.file_size = w->offset;
    w->stats.chain = crc;
    pthread_mutex_unlock(&w->lock);
    return true;
}

/* What a request finds when the file is not as it should be. */
static bool not_open(struct writer *w, struct error *err)
{
    pthread_mutex_lock(&w->lock);
    *err = w->stats.error;
    pthread_mutex_unlock(&w->lock);
    if (err->code == ERROR_NONE)
        error_set(err, ERROR_INVALID, "there is no log");
    return false;
}

/* Write, end and sync the file up to `lsn`. */
static bool finish_file(struct writer *w, uint64_t lsn, struct error *err)
{
    if (!file_is_open(w) || !write_up_to(w, lsn))
        return not_open(w, err);
    if (!end_file(w, lsn, err)) {
        if (err->code != ERROR_NO_SPACE)
            give_up(w, err);
        return false;
    }
    return sync_file(w) || not_open(w, err);
}

static bool do_rotate(struct writer *w, const struct job *job, struct error *err)
{
    struct os_file f;
    struct error ignored;
    uint64_t offset;
    uint32_t crc;
    if (!finish_file(w, job->lsn, err))
        return false;
    if (job->history[0] != '\0')
        memcpy(w->history, job->history, sizeof(w->history));
    /* Should it fail from here on the old file is gone on with, behind its `close` line. */
    if (!create_file(w, job->name, job->lsn, w->chain, &f, &offset, &crc, err))
        return false;
    if (!write_manifest(w, &job->manifest, err)) {
        manifest_failed(w, err);
        if (file_is_open(w))
            drop_file(&f);
        else
            os_file_close(&f, &ignored);
        return false;
    }
    os_file_close(&w->file, &ignored);
    pthread_mutex_lock(&w->lock);
    w->stats.ended_size = w->offset;
    pthread_mutex_unlock(&w->lock);
    take_file(w, &f, offset, crc);
    reserve(w, offset);
    return true;
}

/* The file gets its name. Where there is no manifest yet there is one of the base alone first: files
 * of a log without a manifest would look like a log that has lost it. */
static bool rename_provisional(struct writer *w, const struct manifest *m, struct error *err)
{
    struct manifest old, base;
    if (manifest_read(&old, w->directory, w->filename, err)) {
        manifest_free(&old);
    } else if (err->code == ERROR_NOT_FOUND) {
        *err = (struct error){0};
        manifest_copy(&base, m);
        manifest_retire_before(&base, UINT64_MAX);
        manifest_drop_history(&base);
        bool ok = base.count == 0 || write_manifest(w, &base, err);
        manifest_free(&base);
        if (!ok)
            return false;
    } else {
        return false;
    }
    if (!os_rename(w->temporary, w->final, err) || !os_dir_sync(w->directory, err))
        return false;
    memcpy(w->file.path, w->final, sizeof(w->file.path));
    w->temporary[0] = '\0';
    return true;
}

static bool do_name(struct writer *w, const struct job *job, struct error *err)
{
    if (!file_is_open(w) || !sync_file(w))
        return not_open(w, err);
    if (w->temporary[0] != '\0' && !rename_provisional(w, &job->manifest, err))
        return false;
    if (!write_manifest(w, &job->manifest, err)) {
        manifest_failed(w, err);
        return false;
    }
    w->named = true;
    move_durable(w, w->written);
    return true;
}

static bool do_close(struct writer *w, const struct job *job, struct error *err)
{
    bool ok = finish_file(w, job->lsn, err);
    if (get_state(w) == WRITER_FAILED)
        return false;
    if (!ok)
        return false;
    if (!os_file_close(&w->file, err)) {
        give_up(w, err);
        return false;
    }
    set_state(w, WRITER_IDLE);
    return true;
}

static void run_job(struct writer *w)
{
    struct error err = {0};
    struct job *job = &w->job;
    bool ok = false;
    switch (job->kind) {
    case JOB_BEGIN:
        ok = do_begin(w, job, &err);
        if (!ok)
            give_up(w, &err);
        break;
    case JOB_ROTATE:
        ok = do_rotate(w, job, &err);
        break;
    case JOB_NAME:
        ok = do_name(w, job, &err);
        break;
    case JOB_CLOSE:
        ok = do_close(w, job, &err);
        break;
    case JOB_NONE:
        break;
    }
    if (!ok && err.code == ERROR_NONE)
        error_set(&err, ERROR_INVALID, "there is no log");
    pthread_mutex_lock(&w->lock);
    w->job_error = err;
    if (job->has_manifest)
        manifest_free(&job->manifest);
    *job = (struct job){0};
    w->busy = false;
    pthread_cond_broadcast(&w->done);
    pthread_mutex_unlock(&w->lock);
    tell(w);
}

/* ---- the thread ---- */

/* By the monotonic clock, which the condition waits by. */
static void wait_until(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t us)
{
    if (us == INT64_MAX) {
        pthread_cond_wait(cond, lock);
        return;
    }
    struct timespec t = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
    pthread_cond_timedwait(cond, lock, &t);
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
    if (!file_is_open(w)) {
        discard_up_to(w, published);
        return;
    }
    bool ok = write_up_to(w, published);
    if (!file_is_open(w))
        return;
    if (ok && get_state(w) == WRITER_FULL && reserve(w, w->offset))
        room_again(w);
    if (clock_monotonic_us() >= sync_due(w, flush_lsn))
        sync_file(w);
}

static void run(void *arg)
{
    struct writer *w = arg;
    bool linger = false;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        if (linger && !w->busy && w->flush_lsn <= w->written) {
            /* What comes in the meantime does not wake it. */
            wait_until(&w->work, &w->lock, clock_monotonic_us() + LINGER_US);
            linger = false;
            continue;
        }
        bool job = w->job.kind != JOB_NONE;
        uint64_t flush_lsn = w->flush_lsn;
        /* Read before anything of a later request can be published. */
        uint64_t published = stream_published(w->stream);
        pthread_mutex_unlock(&w->lock);
        if (job) {
            /* What was published meanwhile is to be looked at, too. */
            run_job(w);
            pthread_mutex_lock(&w->lock);
            continue;
        }
        work(w, published, flush_lsn);
        int64_t due = file_is_open(w) ? sync_due(w, flush_lsn) : INT64_MAX;
        if (get_state(w) == WRITER_FULL && due > clock_monotonic_us() + FULL_RETRY_US)
            due = clock_monotonic_us() + FULL_RETRY_US;
        pthread_mutex_lock(&w->lock);
        pthread_cond_broadcast(&w->done);
        __atomic_exchange_n(&w->sleeping, 1, __ATOMIC_SEQ_CST);
        if (!w->stop && w->job.kind == JOB_NONE && w->flush_lsn == flush_lsn &&
            (stream_published(w->stream) == published || get_state(w) == WRITER_FULL))
            wait_until(&w->work, &w->lock, due);
        __atomic_store_n(&w->sleeping, 0, __ATOMIC_SEQ_CST);
        linger = __atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS;
    }
    pthread_mutex_unlock(&w->lock);
}

/* ---- the executor ---- */

struct writer *writer_new(struct stream *stream, const struct writer_options *options,
                          struct error *err)
{
    struct writer *w = mem_zalloc(sizeof(*w));
    w->stream = stream;
    w->directory = mem_dup(options->directory, strlen(options->directory));
    w->filename = mem_dup(options->filename, strlen(options->filename));
    w->wake = options->wake;
    w->wake_ctx = options->ctx;
    w->file = (struct os_file)OS_FILE_CLOSED;
    w->sync = (int)options->sync;
    w->timestamps = options->timestamps;
    w->piece_room = 64;
    w->pieces = mem_alloc((size_t)w->piece_room * sizeof(*w->pieces));
    w->buffer = mem_alloc(BUFFER_SIZE);
    w->write_times = &w->stats.write;
    w->sync_times = &w->stats.sync;
    w->commit_times = &w->stats.commit;
    w->last_published = w->last_marked = w->written = w->durable = stream_published(stream);
    w->reader = stream_reader_new(stream, w->written);
    pthread_mutex_init(&w->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&w->work, &attributes);
    pthread_cond_init(&w->done, &attributes);
    pthread_condattr_destroy(&attributes);
    if (os_thread_start(&w->thread, "log", run, w, err))
        return w;
    w->stop = true;
    writer_free(w);
    return NULL;
}

void writer_free(struct writer *w)
{
    struct error ignored;
    if (w == NULL)
        return;
    pthread_mutex_lock(&w->lock);
    bool running = !w->stop;
    w->stop = true;
    pthread_cond_broadcast(&w->work);
    pthread_mutex_unlock(&w->lock);
    if (running)
        pthread_join(w->thread, NULL);
    os_file_close(&w->file, &ignored);
    forget_provisional(w);
    stream_reader_free(w->stream, w->reader);
    if (w->job.has_manifest)
        manifest_free(&w->job.manifest);
    pthread_cond_destroy(&w->work);
    pthread_cond_destroy(&w->done);
    pthread_mutex_destroy(&w->lock);
    mem_free(w->pieces);
    mem_free(w->buffer);
    mem_free(w->directory);
    mem_free(w->filename);
    mem_free(w);
}

static void give_job(struct writer *w, struct job *job, const struct manifest *manifest)
{
    if (manifest != NULL)
        job->has_manifest = manifest_copy(&job->manifest, manifest);
    pthread_mutex_lock(&w->lock);
    assert(!w->busy);
    w->job = *job;
    w->busy = true;
    w->job_error = (struct error){0};
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
}

void writer_begin(struct writer *w, const struct writer_begin *begin)
{
    assert(strlen(begin->history) == ANNOTATION_HISTORY);
    struct job job = {.kind = JOB_BEGIN, .lsn = begin->lsn, .chain = begin->chain};
    snprintf(job.name, sizeof(job.name), "%s", begin->name);
    memcpy(job.history, begin->history, sizeof(job.history));
    give_job(w, &job, begin->manifest);
}

void writer_rotate(struct writer *w, const char *name, const struct manifest *manifest)
{
    struct job job = {.kind = JOB_ROTATE, .lsn = stream_published(w->stream)};
    snprintf(job.name, sizeof(job.name), "%s", name);
    give_job(w, &job, manifest);
}

void writer_rotate_history(struct writer *w, const char *name, const struct manifest *manifest,
                           const char *history)
{
    assert(strlen(history) == ANNOTATION_HISTORY);
    struct job job = {.kind = JOB_ROTATE, .lsn = stream_published(w->stream)};
    snprintf(job.name, sizeof(job.name), "%s", name);
    memcpy(job.history, history, sizeof(job.history));
    give_job(w, &job, manifest);
}

void writer_name(struct writer *w, const struct manifest *manifest)
{
    struct job job = {.kind = JOB_NAME};
    give_job(w, &job, manifest);
}

void writer_close(struct writer *w)
{
    struct job job = {.kind = JOB_CLOSE, .lsn = stream_published(w->stream)};
    give_job(w, &job, NULL);
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
        wait_until(&w->done, &w->lock, INT64_MAX);
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
    if (now_us - w->last_mark_us < MARK_US && lsn - w->last_marked < MARK_BYTES)
        return;
    size_t tail = w->mark_tail;
    if (tail - __atomic_load_n(&w->mark_head, __ATOMIC_ACQUIRE) >= MARKS)
        return;
    w->marks[tail % MARKS] = (struct mark){lsn, w->unmarked_since_us};
    __atomic_store_n(&w->mark_tail, tail + 1, __ATOMIC_RELEASE);
    w->unmarked_since_us = 0;
    w->last_mark_us = now_us;
    w->last_marked = lsn;
}

static void rouse(struct writer *w)
{
    pthread_mutex_lock(&w->lock);
    if (w->sleeping) {
        __atomic_store_n(&w->sleeping, 0, __ATOMIC_SEQ_CST);
        pthread_cond_signal(&w->work);
    }
    pthread_mutex_unlock(&w->lock);
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
    if (__atomic_fetch_or(&w->sleeping, 0, __ATOMIC_SEQ_CST))
        rouse(w);
}

bool writer_flush(struct writer *w, int64_t timeout_ms)
{
    uint64_t lsn = stream_published(w->stream);
    int64_t until = clock_monotonic_us() + timeout_ms * 1000;
    pthread_mutex_lock(&w->lock);
    if (lsn > w->flush_lsn)
        w->flush_lsn = lsn;
    pthread_cond_signal(&w->work);
    while (writer_durable_lsn(w) < lsn && clock_monotonic_us() < until) {
        enum writer_state state = get_state(w);
        if (state == WRITER_FAILED || state == WRITER_IDLE)
            break;
        wait_until(&w->done, &w->lock, until);
    }
    pthread_mutex_unlock(&w->lock);
    return writer_durable_lsn(w) >= lsn;
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
    pthread_mutex_lock(&w->lock);
    pthread_cond_signal(&w->work);
    pthread_mutex_unlock(&w->lock);
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

int64_t writer_at_risk_since_us(const struct writer *w)
{
    if (writer_durable_lsn(w) >= w->last_published)
        return 0;
    size_t head = __atomic_load_n(&w->mark_head, __ATOMIC_ACQUIRE);
    return head != w->mark_tail ? w->marks[head % MARKS].us : w->unmarked_since_us;
}

enum writer_state writer_state(const struct writer *w)
{
    return get_state(w);
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
