/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/generation.h"

#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/file.h"
#include "persist/log/history.h"
#include "persist/log/recovery_files.h"
#include "persist/log/stream.h"
#include "persist/saver.h"

/* After a failure the next try follows in a second, then in twice the time, up to a minute where
 * there is no log without it, and to ten where it is a rewrite, which costs as much as a full
 * base. */
#define PAUSE_FIRST_US 1000000
#define PAUSE_MOST_ANEW_US 60000000
#define PAUSE_MOST_REWRITE_US 600000000
/* When the disk was full and has more room, it is tried again that soon, or after as long as the
 * try took. */
#define PAUSE_FULL_US 250000

#define PATH_SIZE sizeof(((struct os_file *)0)->path)

void generation_init(struct generation *g, const char *directory, const char *filename,
                     void (*wake)(void *ctx), void *ctx)
{
    *g = (struct generation){.directory = directory,
                             .filename = filename,
                             .wake = wake,
                             .wake_ctx = ctx,
                             .last_ok = true,
                             .last_seconds = -1,
                             .pause_us = PAUSE_FIRST_US};
}

void generation_hurry(struct generation *g)
{
    g->pause_us = PAUSE_FIRST_US;
    g->retry_us = 0;
    g->no_room = false;
}

static uint64_t free_bytes(const struct generation *g)
{
    struct error ignored;
    char parent[PATH_SIZE];
    uint64_t bytes = 0;
    os_path_dir(g->directory, parent, sizeof(parent));
    if (!os_disk_free(g->directory, &bytes, &ignored))
        os_disk_free(parent, &bytes, &ignored);
    return bytes;
}

void generation_note_no_room(struct generation *g)
{
    int64_t now = clock_monotonic_us(), took = g->begun_us != 0 ? now - g->begun_us : 0;
    g->no_room = true;
    g->free_bytes = free_bytes(g);
    g->room_us = now + (took > PAUSE_FULL_US ? took : PAUSE_FULL_US);
}

bool generation_may_retry(const struct generation *g)
{
    int64_t now = clock_monotonic_us();
    return now >= g->retry_us || (g->no_room && now >= g->room_us && free_bytes(g) > g->free_bytes);
}

static void forget_manifests(struct generation *g)
{
    manifest_free(&g->planned);
    manifest_free(&g->rotated);
    manifest_free(&g->old);
    g->planned = g->rotated = g->old = (struct manifest){0};
}

void generation_deinit(struct generation *g)
{
    struct save_result result;
    struct error ignored;
    if (g->job != NULL) {
        save_job_cancel(g->job);
        save_job_finish(g->job, &result, &ignored);
    }
    if (g->remover != NULL)
        remover_finish(g->remover, &g->manifest);
    forget_manifests(g);
    manifest_free(&g->manifest);
    g->manifest = (struct manifest){0};
}

/* ---- history ---- */

static void remove_files(struct generation *g, const struct manifest *files)
{
    struct error err = {0};
    bool any = false;
    for (size_t i = 0; i < files->count; i++)
        any = any || files->files[i].type == MANIFEST_HISTORY;
    if (!any || g->remover != NULL || g->keep_history)
        return;
    g->remover = remover_start(g->directory, files, g->wake, g->wake_ctx, &err);
    if (g->remover == NULL)
        log_warning("Files of the log that are not needed any more stay: %s", err.message);
}

void generation_drop_history(struct generation *g)
{
    remove_files(g, &g->manifest);
}

/* Only what is history already. */
static void copy_history(struct manifest *to, const struct manifest *from)
{
    manifest_copy(to, from);
    for (size_t i = to->count; i-- > 0;) {
        if (to->files[i].type != MANIFEST_HISTORY)
            manifest_forget(to, to->files[i].name);
    }
}

static void note_begin(struct manifest_file *f, uint64_t lsn, bool anew)
{
    f->known = true;
    f->lsn = lsn;
    f->anew = anew;
}

/* The file of effects before that number; NULL: none. */
static const struct manifest_file *before(const struct manifest *m, uint64_t seq)
{
    const struct manifest_file *found = NULL;
    for (size_t i = 0; i < m->count; i++) {
        const struct manifest_file *f = &m->files[i];
        if (manifest_is_incremental(f) && f->seq < seq && (found == NULL || f->seq > found->seq))
            found = f;
    }
    return found;
}

bool generation_first_lsn(const struct generation *g, uint64_t *lsn)
{
    const struct manifest_file *f = NULL, *next = before(&g->manifest, UINT64_MAX);
    while (next != NULL && next->known && (f == NULL || next->lsn <= f->lsn)) {
        f = next;
        next = f->anew ? NULL : before(&g->manifest, f->seq);
    }
    if (f != NULL)
        *lsn = f->lsn;
    return f != NULL;
}

bool generation_base_lsn(const struct generation *g, uint64_t *lsn)
{
    for (size_t i = 0; i < g->manifest.count; i++) {
        const struct manifest_file *f = &g->manifest.files[i];
        if (f->type != MANIFEST_INCREMENTAL)
            continue;
        *lsn = f->lsn;
        return f->known;
    }
    return false;
}

/* What would go, but has something of the last keep_bytes of the stream, stays. */
static void keep_needed(struct generation *g)
{
    uint64_t first, end = g->lsn, next_lsn = end;
    if (!generation_first_lsn(g, &first))
        return;
    const struct manifest_file *f = before(&g->manifest, UINT64_MAX);
    for (; f != NULL && f->known && f->lsn >= first; f = before(&g->manifest, f->seq)) {
        /* Its last byte is the one before the next file's first. */
        if (end - next_lsn >= g->keep_bytes)
            break;
        manifest_forget(&g->old, f->name);
        next_lsn = f->lsn;
        if (f->anew)
            break;
    }
}

/* A base that was written and is not named: known as history, so that it goes with the rest. */
static void note_leftover(struct generation *g)
{
    const struct manifest_file *base = manifest_base(&g->planned);
    if (g->planned_base_size == 0 || base == NULL)
        return;
    manifest_note_history(&g->manifest, base->name, base->seq);
}

/* ---- the files that there are ---- */

void generation_pass_numbers(struct generation *g)
{
    struct recovery_names names = {0};
    struct error ignored;
    if (!os_path_is_dir(g->directory) ||
        !recovery_list_names(g->directory, g->filename, &names, &ignored))
        return;
    if (names.base_seq > g->manifest.base_seq)
        g->manifest.base_seq = names.base_seq;
    if (names.incremental_seq > g->manifest.incremental_seq)
        g->manifest.incremental_seq = names.incremental_seq;
}

static bool file_path(const struct generation *g, const char *name, char path[PATH_SIZE])
{
    int n = snprintf(path, PATH_SIZE, "%s/%s", g->directory, name);
    return n > 0 && (size_t)n < PATH_SIZE;
}

static void remove_one(void *ctx, const char *name)
{
    const struct generation *g = ctx;
    struct error err = {0};
    char path[PATH_SIZE];
    size_t n = strlen(WRITER_TEMPORARY);
    if (strncmp(name, WRITER_TEMPORARY, n) == 0 &&
        strncmp(name + n, g->filename, strlen(g->filename)) == 0 && file_path(g, name, path) &&
        !os_unlink(path, &err))
        log_warning("%s", err.message);
}

static void remove_temporary(struct generation *g)
{
    struct error err = {0};
    char path[PATH_SIZE];
    if (!os_dir_list(g->directory, remove_one, g, &err))
        log_warning("%s", err.message);
    if (file_path(g, "any", path))
        saver_clean_temporary(path);
}

static uint64_t file_size(const struct generation *g, const char *name)
{
    struct os_file f;
    struct error ignored;
    uint64_t size = 0;
    char path[PATH_SIZE];
    if (!file_path(g, name, path) || !os_file_open(&f, path, OS_OPEN_READ, &ignored))
        return 0;
    os_file_size(&f, &size, &ignored);
    os_file_close(&f, &ignored);
    return size;
}

bool generation_open(struct generation *g, struct writer *w, const struct generation_position *at,
                     struct error *err)
{
    manifest_free(&g->manifest);
    manifest_copy(&g->manifest, at->manifest);
    remove_temporary(g);
    generation_pass_numbers(g);
    g->base_size = g->old_size = 0;
    for (size_t i = 0; i < g->manifest.count; i++) {
        struct manifest_file *f = &g->manifest.files[i];
        if (f->type == MANIFEST_BASE) {
            g->base_size = file_size(g, f->name);
        } else if (f->type == MANIFEST_INCREMENTAL) {
            g->old_size += file_size(g, f->name);
        }
        if (manifest_is_incremental(f))
            f->known = history_head(g->directory, f->name, &f->lsn, &f->anew);
    }
    struct manifest_file *file = manifest_add_incremental(&g->manifest, g->filename);
    note_begin(file, at->lsn, at->chain == 0);
    struct writer_begin begin = {.name = file->name,
                                 .lsn = at->lsn,
                                 .chain = at->chain,
                                 .manifest = &g->manifest,
                                 .wait_for_room = true,
                                 .cut = at->cut,
                                 .cut_at = at->cut_at};
    snprintf(begin.history, sizeof(begin.history), "%s", at->history);
    writer_begin(w, &begin);
    return writer_wait(w, err);
}

/* The writer has ended the file before, and the manifest on disk is `rotated`. */
static void note_rotated(struct generation *g, struct writer *w, struct manifest *rotated)
{
    uint64_t ended = 0;
    writer_file_size(w, &ended);
    manifest_free(&g->manifest);
    g->manifest = *rotated;
    *rotated = (struct manifest){0};
    g->old_size += ended;
}

bool generation_rotate(struct generation *g, struct writer *w, const char *history,
                       struct error *err)
{
    struct manifest rotated;
    assert(!g->running);
    manifest_copy(&rotated, &g->manifest);
    struct manifest_file *file = manifest_add_incremental(&rotated, g->filename);
    g->manifest.incremental_seq = rotated.incremental_seq;
    if (history != NULL)
        writer_rotate_history(w, file->name, &rotated, history);
    else
        writer_rotate(w, file->name, &rotated);
    if (!writer_wait(w, err)) {
        manifest_free(&rotated);
        return false;
    }
    /* Nothing was published while the caller waited. */
    note_begin(file, writer_written_lsn(w), false);
    note_rotated(g, w, &rotated);
    return true;
}

bool generation_is_first(const struct generation *g)
{
    struct error ignored;
    bool empty;
    return !os_path_exists(g->directory) ||
           (os_dir_is_empty(g->directory, &empty, &ignored) && empty);
}

void generation_remove_all(struct generation *g)
{
    struct error err = {0};
    char path[PATH_SIZE], name[PATH_SIZE];
    assert(!g->running);
    if (g->remover != NULL) {
        remover_finish(g->remover, &g->manifest);
        g->remover = NULL;
    }
    /* The manifest first, as it must not name what is not there. */
    int n = snprintf(name, sizeof(name), "%s.manifest", g->filename);
    bool ok = n > 0 && (size_t)n < sizeof(name) && file_path(g, name, path);
    if (ok && os_path_exists(path))
        ok = os_unlink(path, &err) && os_dir_sync(g->directory, &err);
    if (!ok) {
        log_warning("The files of the log stay: %s", err.message);
        return;
    }
    for (size_t i = 0; i < g->manifest.count; i++) {
        if (file_path(g, g->manifest.files[i].name, path) && os_path_exists(path) &&
            !os_unlink_large(path, &err))
            log_warning("A file of the log stays: %s", err.message);
    }
    remove_temporary(g);
    os_dir_remove(g->directory, &err); /* unless there is something else in it */
    struct manifest none = {.base_seq = g->manifest.base_seq,
                            .incremental_seq = g->manifest.incremental_seq};
    manifest_free(&g->manifest);
    g->manifest = none;
    g->base_size = g->old_size = 0;
}

/* ---- beginning ---- */

static bool begin_save(struct generation *g, const struct generation_begin *begin, const char *name,
                       struct error *err)
{
    struct save_options options = begin->save;
    options.make_directory = true;
    int n = snprintf(options.path, sizeof(options.path), "%s/%s", g->directory, name);
    if (n < 0 || (size_t)n >= sizeof(options.path))
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s", name);
    g->job =
        save_job_start(begin->ks, snapshot_begin(begin->ks), &options, g->wake, g->wake_ctx, err);
    return g->job != NULL;
}

/* The manifests of the steps, and the name of the new file. */
static const char *plan(struct generation *g, bool rdb)
{
    forget_manifests(g);
    copy_history(&g->old, &g->manifest);
    manifest_copy(&g->rotated, &g->manifest);
    struct manifest_file *file = manifest_add_incremental(&g->rotated, g->filename);
    note_begin(file, g->lsn, g->kind == GENERATION_ANEW);
    uint64_t seq = file->seq;
    manifest_copy(&g->planned, &g->rotated);
    manifest_retire_before(&g->planned, seq);
    manifest_add_base(&g->planned, g->filename, rdb);
    /* Numbers that were given out are not used again, whatever becomes of this. */
    g->manifest.base_seq = g->rotated.base_seq = g->planned.base_seq;
    g->manifest.incremental_seq = g->planned.incremental_seq;
    return g->rotated.files[g->rotated.count - 1].name;
}

static void note_failure(struct generation *g, const struct error *err)
{
    if (!g->cancelled)
        log_warning(g->kind == GENERATION_REWRITE ? "The log could not be rewritten: %s"
                                                  : "A new base of the log could not be made: %s",
                    err->message);
    g->failed = true;
    g->no_room = g->no_room || err->code == ERROR_NO_SPACE;
    if (g->job != NULL)
        save_job_cancel(g->job);
}

/* Nothing of it is under way any more. */
static enum generation_outcome end(struct generation *g)
{
    int64_t now = clock_monotonic_us();
    g->running = false;
    g->last_seconds = (now - g->begun_us) / 1000000;
    if (g->failed) {
        note_leftover(g);
        forget_manifests(g);
        if (g->cancelled)
            return GENERATION_FAILED;
        int64_t most = g->kind == GENERATION_REWRITE ? PAUSE_MOST_REWRITE_US : PAUSE_MOST_ANEW_US;
        g->failures++;
        g->last_ok = false;
        g->retry_us = now + g->pause_us;
        if (g->no_room)
            generation_note_no_room(g);
        g->pause_us = g->pause_us * 2 < most ? g->pause_us * 2 : most;
        return GENERATION_FAILED;
    }
    manifest_free(&g->manifest);
    g->manifest = g->planned;
    g->planned = (struct manifest){0};
    g->base_size = g->planned_base_size;
    g->old_size = 0;
    keep_needed(g);
    remove_files(g, &g->old);
    forget_manifests(g);
    g->failures = 0;
    g->last_ok = true;
    g->pause_us = PAUSE_FIRST_US;
    return GENERATION_NAMED;
}

enum generation_outcome generation_begin(struct generation *g, enum generation_kind kind,
                                         const struct generation_begin *begin)
{
    struct error err = {0};
    assert(!g->running && g->job == NULL);
    g->kind = kind;
    g->running = true;
    g->no_room = g->failed = g->cancelled = g->opening = g->naming = false;
    g->begun_us = clock_monotonic_us();
    g->planned_base_size = 0;
    g->count++;
    g->lsn = stream_published(begin->stream);
    const char *name = plan(g, !begin->save.commands);
    stream_select_again(begin->stream);
    if (!begin_save(g, begin, manifest_base(&g->planned)->name, &err)) {
        note_failure(g, &err);
        return end(g);
    }
    g->opening = true;
    writer_set_place(begin->writer, begin->save.at.db, begin->save.at.own);
    if (kind == GENERATION_REWRITE) {
        writer_rotate(begin->writer, name, &g->rotated);
    } else {
        struct writer_begin first = {.name = name, .lsn = g->lsn};
        snprintf(first.history, sizeof(first.history), "%s", begin->history);
        writer_begin(begin->writer, &first);
    }
    return GENERATION_NOTHING;
}

/* ---- going on ---- */

static void step_job(struct generation *g)
{
    struct save_result result;
    struct error err = {0};
    if (g->job == NULL || !save_job_ended(g->job))
        return;
    bool saved = save_job_finish(g->job, &result, &err);
    g->job = NULL;
    g->last_held_bytes = result.held_bytes_most;
    if (saved)
        g->planned_base_size = result.file_size;
    else if (!g->failed)
        note_failure(g, &err);
}

static void step_writer(struct generation *g, struct writer *w)
{
    struct error err = {0};
    if (!g->opening || writer_busy(w))
        return;
    g->opening = false;
    if (!writer_wait(w, &err))
        note_failure(g, &err);
    else if (g->kind == GENERATION_REWRITE)
        note_rotated(g, w, &g->rotated);
}

enum generation_outcome generation_step(struct generation *g, struct writer *w)
{
    struct error err = {0};
    if (g->remover != NULL && remover_ended(g->remover)) {
        remover_finish(g->remover, &g->manifest);
        g->remover = NULL;
    }
    if (!g->running)
        return GENERATION_NOTHING;
    if (g->naming) {
        if (writer_busy(w))
            return GENERATION_NOTHING;
        if (!writer_wait(w, &err))
            note_failure(g, &err);
        return end(g);
    }
    step_job(g);
    step_writer(g, w);
    if (!g->failed && writer_state(w) == WRITER_FAILED && !g->opening) {
        error_set(&err, ERROR_INVALID, "the log has failed meanwhile");
        note_failure(g, &err);
    }
    if (g->job != NULL || g->opening)
        return GENERATION_NOTHING;
    if (g->failed)
        return end(g);
    g->naming = true;
    writer_name(w, &g->planned);
    return GENERATION_NOTHING;
}

bool generation_is_busy(const struct generation *g)
{
    return (g->job != NULL && !save_job_ended(g->job)) ||
           (g->remover != NULL && !remover_ended(g->remover));
}

void generation_cancel(struct generation *g)
{
    if (!g->running || g->naming)
        return;
    g->cancelled = true;
    if (g->job != NULL)
        save_job_cancel(g->job);
}
