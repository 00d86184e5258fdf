/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/generation.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "persist/log/stream.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/persistence.h"
#include "server/replication.h"

/* After a failure the next try follows in a second, then in twice the time, up to a minute where there
 * is no log without it, and to ten where it is a rewrite, which costs as much as a full base. */
#define PAUSE_FIRST_US 1000000
#define PAUSE_MOST_ANEW_US 60000000
#define PAUSE_MOST_REWRITE_US 600000000

void generation_init(struct durability *d)
{
    d->generation.last_ok = true;
    d->generation.last_seconds = -1;
    d->generation.pause_us = PAUSE_FIRST_US;
}

void generation_hurry(struct durability *d)
{
    d->generation.pause_us = PAUSE_FIRST_US;
    d->generation.retry_us = 0;
}

static void forget_manifests(struct generation *g)
{
    manifest_free(&g->manifest);
    manifest_free(&g->rotated);
    manifest_free(&g->old);
    g->manifest = g->rotated = g->old = (struct manifest){0};
}

void generation_deinit(struct durability *d)
{
    struct generation *g = &d->generation;
    struct save_result result;
    struct error ignored;
    if (g->job != NULL) {
        save_job_cancel(g->job);
        save_job_finish(g->job, &result, &ignored);
    }
    if (g->remover != NULL)
        remover_finish(g->remover, &d->manifest);
    forget_manifests(g);
}

/* ---- history ---- */

static void remove_files(struct durability *d, const struct manifest *files)
{
    struct generation *g = &d->generation;
    struct error err = {0};
    bool any = false;
    for (size_t i = 0; i < files->count; i++)
        any = any || files->files[i].type == MANIFEST_HISTORY;
    if (!any || g->remover != NULL || d->server->config->aof_disable_auto_gc)
        return;
    g->remover = remover_start(d->server->config->appenddirname, files, durability_wake, d, &err);
    if (g->remover == NULL)
        log_warning("Files of the log that are not needed any more stay: %s", err.message);
}

void generation_drop_history(struct durability *d)
{
    remove_files(d, &d->manifest);
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

/* A base that was written and is not named: known as history, so that it goes with the rest. */
static void note_leftover(struct durability *d)
{
    const struct generation *g = &d->generation;
    const struct manifest_file *base = manifest_base(&g->manifest);
    if (g->base_size == 0 || base == NULL)
        return;
    manifest_note_history(&d->manifest, base->name, base->seq);
}

/* ---- beginning ---- */

static bool begin_save(struct durability *d, const char *name, struct error *err)
{
    struct save_options options;
    struct generation *g = &d->generation;
    const char *directory = d->server->config->appenddirname;
    persistence_options(d->server, &options);
    options.make_directory = true;
    options.incremental_sync = d->server->config->aof_rewrite_incremental_fsync;
    int n = snprintf(options.path, sizeof(options.path), "%s/%s", directory, name);
    if (n < 0 || (size_t)n >= sizeof(options.path))
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s", name);
    options.aux_count = 0;
    options.commands = !d->server->config->aof_use_rdb_preamble;
    replication_put_aux(d->server, &options, g->lsn);
    struct keyspace *ks = d->server->ks;
    g->job = save_job_start(ks, snapshot_begin(ks), &options, durability_wake, d, err);
    return g->job != NULL;
}

/* The manifests of the steps, and the name of the new file. */
static const char *plan(struct durability *d)
{
    struct generation *g = &d->generation;
    const char *filename = d->server->config->appendfilename;
    forget_manifests(g);
    copy_history(&g->old, &d->manifest);
    manifest_copy(&g->rotated, &d->manifest);
    const struct manifest_file *file = manifest_add_incremental(&g->rotated, filename);
    uint64_t seq = file->seq;
    manifest_copy(&g->manifest, &g->rotated);
    manifest_retire_before(&g->manifest, seq);
    manifest_add_base(&g->manifest, filename, d->server->config->aof_use_rdb_preamble);
    /* Numbers that were given out are not used again, whatever becomes of this. */
    d->manifest.base_seq = g->rotated.base_seq = g->manifest.base_seq;
    d->manifest.incremental_seq = g->manifest.incremental_seq;
    return g->rotated.files[g->rotated.count - 1].name;
}

static void note_failure(struct durability *d, const struct error *err)
{
    struct generation *g = &d->generation;
    if (!g->cancelled)
        log_warning(g->kind == GENERATION_REWRITE ? "The log could not be rewritten: %s"
                                                  : "A new base of the log could not be made: %s",
                    err->message);
    g->failed = true;
    if (g->job != NULL)
        save_job_cancel(g->job);
}

/* Nothing of it is under way any more. */
static enum generation_outcome end(struct durability *d)
{
    struct generation *g = &d->generation;
    int64_t now = clock_monotonic_us();
    g->running = false;
    g->last_seconds = (now - g->begun_us) / 1000000;
    if (g->failed) {
        note_leftover(d);
        forget_manifests(g);
        if (g->cancelled)
            return GENERATION_FAILED;
        int64_t most = g->kind == GENERATION_REWRITE ? PAUSE_MOST_REWRITE_US : PAUSE_MOST_ANEW_US;
        g->failures++;
        g->last_ok = false;
        g->retry_us = now + g->pause_us;
        g->pause_us = g->pause_us * 2 < most ? g->pause_us * 2 : most;
        return GENERATION_FAILED;
    }
    manifest_free(&d->manifest);
    d->manifest = g->manifest;
    g->manifest = (struct manifest){0};
    d->base_size = g->base_size;
    d->old_size = 0;
    remove_files(d, &g->old);
    forget_manifests(g);
    g->failures = 0;
    g->last_ok = true;
    g->pause_us = PAUSE_FIRST_US;
    return GENERATION_NAMED;
}

enum generation_outcome generation_begin(struct durability *d, enum generation_kind kind)
{
    struct server *s = d->server;
    struct generation *g = &d->generation;
    struct error err = {0};
    /* Keys may have expired in this turn. */
    durability_publish(s);
    g->kind = kind;
    g->running = true;
    g->failed = g->cancelled = g->opening = g->naming = false;
    g->begun_us = clock_monotonic_us();
    g->base_size = 0;
    g->count++;
    const char *name = plan(d);
    g->lsn = stream_published(s->stream);
    stream_select_again(s->stream);
    if (!begin_save(d, manifest_base(&g->manifest)->name, &err)) {
        note_failure(d, &err);
        return end(d);
    }
    g->opening = true;
    writer_set_db(d->writer, replication_stream_db(d->server));
    if (kind == GENERATION_REWRITE) {
        writer_rotate(d->writer, name, &g->rotated);
    } else {
        struct writer_begin begin = {.name = name, .lsn = g->lsn};
        memcpy(begin.history, d->history, sizeof(begin.history));
        writer_begin(d->writer, &begin);
    }
    return GENERATION_NOTHING;
}

/* ---- going on ---- */

/* The writer has ended the file before, and the manifest names the new one. */
static void note_rotated(struct durability *d)
{
    struct generation *g = &d->generation;
    uint64_t ended = 0;
    writer_file_size(d->writer, &ended);
    manifest_free(&d->manifest);
    d->manifest = g->rotated;
    g->rotated = (struct manifest){0};
    d->old_size += ended;
}

static void step_job(struct durability *d)
{
    struct generation *g = &d->generation;
    struct save_result result;
    struct error err = {0};
    if (g->job == NULL || !save_job_ended(g->job))
        return;
    bool saved = save_job_finish(g->job, &result, &err);
    g->job = NULL;
    if (saved)
        g->base_size = result.file_size;
    else if (!g->failed)
        note_failure(d, &err);
}

static void step_writer(struct durability *d)
{
    struct generation *g = &d->generation;
    struct error err = {0};
    if (!g->opening || writer_busy(d->writer))
        return;
    g->opening = false;
    if (!writer_wait(d->writer, &err))
        note_failure(d, &err);
    else if (g->kind == GENERATION_REWRITE)
        note_rotated(d);
}

enum generation_outcome generation_step(struct durability *d)
{
    struct generation *g = &d->generation;
    struct error err = {0};
    if (g->remover != NULL && remover_ended(g->remover)) {
        remover_finish(g->remover, &d->manifest);
        g->remover = NULL;
    }
    if (!g->running)
        return GENERATION_NOTHING;
    if (g->naming) {
        if (writer_busy(d->writer))
            return GENERATION_NOTHING;
        if (!writer_wait(d->writer, &err))
            note_failure(d, &err);
        return end(d);
    }
    step_job(d);
    step_writer(d);
    if (!g->failed && writer_state(d->writer) == WRITER_FAILED && !g->opening) {
        error_set(&err, ERROR_INVALID, "the log has failed meanwhile");
        note_failure(d, &err);
    }
    if (g->job != NULL || g->opening)
        return GENERATION_NOTHING;
    if (g->failed)
        return end(d);
    g->naming = true;
    writer_name(d->writer, &g->manifest);
    return GENERATION_NOTHING;
}

void generation_cancel(struct durability *d)
{
    struct generation *g = &d->generation;
    if (!g->running || g->naming)
        return;
    g->cancelled = true;
    if (g->job != NULL)
        save_job_cancel(g->job);
}
