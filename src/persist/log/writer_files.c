/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/writer_private.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "persist/log/recovery.h"

static bool make_path(const struct writer *w, const char *name, char path[WRITER_PATH_SIZE],
                      struct error *err)
{
    int n = snprintf(path, WRITER_PATH_SIZE, "%s/%s", w->directory, name);
    if (n < 0 || (size_t)n >= WRITER_PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", w->directory);
    return true;
}

static bool write_manifest(struct writer *w, const struct manifest *m, struct error *err)
{
    return manifest_write(m, w->directory, w->filename, err);
}

/* A new file with its header, on disk, its name too. On failure there is none. */
static bool create_file(struct writer *w, const char *name, const struct writer_job *job,
                        struct os_file *f, uint64_t *offset, uint32_t *crc, struct error *err)
{
    char path[WRITER_PATH_SIZE], line[ANNOTATION_MAX + ANNOTATION_SELECT_GROUP_MAX];
    struct error ignored;
    /* What ends the file before, if there is one: the chain goes on from it. */
    uint32_t chain = job->kind == JOB_BEGIN ? job->chain : w->chain;
    f->fd = -1;
    if (!make_path(w, name, path, err) || !os_file_open(f, path, OS_OPEN_CREATE_EXCLUSIVE, err))
        return false;
    struct annotation header = {
        .kind = ANNOTATION_LOG, .lsn = job->lsn, .ms = clock_wall_ms(), .chain = chain,
        .own = job->own};
    memcpy(header.history, w->history, sizeof(header.history));
    *crc = chain;
    size_t size = annotation_put(&header, crc, line);
    if (job->db != 0)
        size += annotation_put_select(job->lsn, header.ms, job->db, crc, line + size);
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
    w->offset = w->filled_end = w->reserved_end = offset;
    w->chain = crc;
    w->unsynced = false;
    w->lost = w->lanes_refused = false;
    w->tail_end = UINT64_MAX;
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
    if (err->code != ERROR_NO_SPACE && writer_file_is_open(w))
        writer_give_up(w, err);
}

static void drop_file(struct os_file *f)
{
    struct error ignored;
    char path[WRITER_PATH_SIZE];
    snprintf(path, sizeof(path), "%s", f->path);
    os_file_close(f, &ignored);
    os_unlink(path, &ignored);
}

void writer_forget_provisional(struct writer *w)
{
    struct error ignored;
    if (w->temporary[0] != '\0')
        os_unlink(w->temporary, &ignored);
    w->temporary[0] = '\0';
}

/* The torn end that recovery has found, and had no room to keep. */
static bool cut_end(struct writer_job *job, struct error *err)
{
    char kept[256];
    if (job->cut[0] == '\0')
        return true;
    if (!recovery_cut(job->cut, job->cut_at, clock_wall_ms(), kept, err))
        return false;
    log_warning("The torn end of %s was cut off, and is kept in %s", job->cut, kept);
    job->cut[0] = '\0';
    return true;
}

static bool do_begin(struct writer *w, struct writer_job *job, struct error *err)
{
    struct error ignored;
    struct os_file f;
    uint64_t offset;
    uint32_t crc;
    char name[WRITER_PATH_SIZE];
    writer_close_file(w, &ignored);
    writer_forget_provisional(w);
    w->unsynced = false;
    memcpy(w->history, job->history, sizeof(w->history));
    writer_discard_up_to(w, job->lsn);
    int n =
        snprintf(name, sizeof(name), "%s%s", job->has_manifest ? "" : WRITER_TEMPORARY, job->name);
    if (n < 0 || (size_t)n >= sizeof(name) || !make_path(w, job->name, w->final, err))
        return error_set(err, ERROR_INVALID, "the name is too long: %.100s", job->name);
    if (!cut_end(job, err) || !os_dir_create_synced(w->directory, err) ||
        !create_file(w, name, job, &f, &offset, &crc, err))
        return false;
    if (!job->has_manifest)
        memcpy(w->temporary, f.path, sizeof(w->temporary));
    if (job->has_manifest && !write_manifest(w, &job->manifest, err)) {
        /* Unless it is known that the manifest does not name it, the file stays. */
        if (err->code == ERROR_NO_SPACE)
            drop_file(&f);
        else
            os_file_close(&f, &ignored);
        return false;
    }
    take_file(w, &f, offset, crc);
    w->named = job->has_manifest;
    __atomic_store_n(&w->written, job->lsn, __ATOMIC_RELEASE);
    if (w->named)
        writer_move_durable(w, job->lsn);
    writer_note_error(w, &(struct error){0});
    writer_set_state(w, WRITER_OPEN);
    writer_reserve(w, offset);
    return true;
}

/* The line that says that the file was not cut off, and that all of it is synced: damage will be
 * told from a torn end. What is reserved behind it is given back. */
static bool end_file(struct writer *w, uint64_t lsn, struct error *err)
{
    struct error ignored;
    if (!writer_put_line(w, ANNOTATION_CLOSE, lsn, err))
        return false;
    if (os_file_truncate(&w->file, w->offset, &ignored))
        w->filled_end = w->offset;
    w->reserved_end = w->offset;
    w->unsynced = true;
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
    if (!writer_file_is_open(w) || !writer_write_up_to(w, lsn) || !writer_sync_file(w))
        return not_open(w, err);
    if (!end_file(w, lsn, err)) {
        if (err->code != ERROR_NO_SPACE)
            writer_give_up(w, err);
        return false;
    }
    return writer_sync_file(w) || not_open(w, err);
}

static bool do_rotate(struct writer *w, const struct writer_job *job, struct error *err)
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
    if (!create_file(w, job->name, job, &f, &offset, &crc, err))
        return false;
    if (!write_manifest(w, &job->manifest, err)) {
        manifest_failed(w, err);
        if (writer_file_is_open(w))
            drop_file(&f);
        else
            os_file_close(&f, &ignored);
        return false;
    }
    writer_close_file(w, &ignored);
    pthread_mutex_lock(&w->lock);
    w->stats.ended_size = w->offset;
    pthread_mutex_unlock(&w->lock);
    take_file(w, &f, offset, crc);
    writer_reserve(w, offset);
    return true;
}

/* The file gets its name. Where there is no manifest yet there is one of the base alone first:
 * files of a log without a manifest would look like a log that has lost it. */
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

static bool do_name(struct writer *w, const struct writer_job *job, struct error *err)
{
    if (!writer_file_is_open(w) || !writer_sync_file(w))
        return not_open(w, err);
    if (w->temporary[0] != '\0' && !rename_provisional(w, &job->manifest, err))
        return false;
    if (!write_manifest(w, &job->manifest, err)) {
        manifest_failed(w, err);
        return false;
    }
    w->named = true;
    writer_move_durable(w, w->written);
    return true;
}

static bool do_close(struct writer *w, const struct writer_job *job, struct error *err)
{
    /* What has not begun, and has got nothing, need not be ended. */
    if (w->waiting.kind != JOB_NONE && w->waiting.lsn == job->lsn) {
        writer_forget_waiting(w);
        writer_set_state(w, WRITER_IDLE);
        return true;
    }
    bool ok = finish_file(w, job->lsn, err);
    if (writer_state(w) == WRITER_FAILED)
        return false;
    if (!ok)
        return false;
    if (!writer_close_file(w, err)) {
        writer_give_up(w, err);
        return false;
    }
    writer_set_state(w, WRITER_IDLE);
    return true;
}

void writer_forget_waiting(struct writer *w)
{
    if (w->waiting.has_manifest)
        manifest_free(&w->waiting.manifest);
    w->waiting = (struct writer_job){0};
}

bool writer_begin_waiting(struct writer *w)
{
    struct error err = {0};
    if (!do_begin(w, &w->waiting, &err)) {
        if (err.code == ERROR_NO_SPACE) {
            writer_no_room(w, &err);
            return false;
        }
        writer_give_up(w, &err);
    } else {
        log_notice("There is room for the log: it goes on");
    }
    writer_forget_waiting(w);
    return writer_file_is_open(w);
}

/* Without room it is tried again, if it may be: see writer_begin_waiting. */
static bool begin_or_wait(struct writer *w, struct writer_job *job, struct error *err)
{
    writer_forget_waiting(w);
    if (do_begin(w, job, err))
        return true;
    if (!job->wait_for_room || err->code != ERROR_NO_SPACE) {
        writer_give_up(w, err);
        return false;
    }
    w->waiting = *job;
    job->has_manifest = false;
    writer_no_room(w, err);
    return false;
}

void writer_run_job(struct writer *w)
{
    struct error err = {0};
    struct writer_job *job = &w->job;
    bool ok = false;
    switch (job->kind) {
    case JOB_BEGIN:
        ok = begin_or_wait(w, job, &err);
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
    *job = (struct writer_job){0};
    w->busy = false;
    pthread_cond_broadcast(&w->done);
    pthread_mutex_unlock(&w->lock);
    writer_tell(w);
}
