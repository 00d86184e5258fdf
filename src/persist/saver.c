/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/saver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"

struct saver {
    struct keyspace *ks;
    void (*wake)(void *ctx);
    void *wake_ctx;
    struct save_job *job; /* the one running, or NULL */
    struct save_options options; /* of the job */
    uint64_t dirty_at_start;
    int64_t begun_us; /* of the job; monotonic */
    int64_t new_us;
    struct saver_status status;
};

static int64_t now_s(void)
{
    return clock_wall_ms() / 1000;
}

static double megabytes_per_second(const struct save_result *r)
{
    int64_t us = r->serialise_us + r->sync_us;
    return us > 0 ? (double)r->file_size / (double)us : 0;
}

static void log_success(const struct save_result *r)
{
    char verified[64] = "not verified";
    if (r->verified)
        snprintf(verified, sizeof(verified), "read again and verified in %.3f",
                 (double)r->verify_us / 1e6);
    log_notice(
        "DB saved on disk: %llu keys, %llu bytes in %.3f seconds (written and synced in %.3f, "
        "%.0f MB/s; %s); the snapshot held %zu bytes at most",
        (unsigned long long)r->keys, (unsigned long long)r->file_size, (double)r->total_us / 1e6,
        (double)(r->serialise_us + r->sync_us) / 1e6, megabytes_per_second(r), verified,
        r->held_bytes_most);
}

/* Take the result of a job. started_s is 0 for a save in the foreground: whoever asked for it is
 * told of its failure, and nothing is concluded from it. */
static bool finish(struct saver *s, struct save_job *job, int64_t started_s, struct error *err)
{
    struct save_result result;
    bool ok = save_job_finish(job, &result, err);
    s->status.busy_us += clock_monotonic_us() - s->begun_us;
    s->status.last_held_bytes = result.held_bytes_most;
    if (started_s != 0) {
        /* Whoever cancels it knows: nothing is wrong with the disk. */
        if (ok || err->code != ERROR_CANCELLED)
            s->status.last_ok = ok;
        s->status.last_duration_s = now_s() - started_s;
    }
    if (ok) {
        s->status.last_ok = true;
        s->status.last_save_s = now_s();
        s->status.last = result;
        if (s->options.verify)
            s->status.last_verified_s = s->status.last_save_s;
        s->status.saves++;
        s->ks->dirty -= s->dirty_at_start < s->ks->dirty ? s->dirty_at_start : s->ks->dirty;
        s->status.last_error[0] = '\0';
        log_success(&result);
    } else {
        snprintf(s->status.last_error, sizeof(s->status.last_error), "%s", err->message);
        log_warning("Saving the DB on disk failed: %s", err->message);
    }
    return ok;
}

struct saver *saver_new(struct keyspace *ks, void (*wake)(void *ctx), void *ctx)
{
    struct saver *s = mem_zalloc(sizeof(*s));
    s->ks = ks;
    s->wake = wake;
    s->wake_ctx = ctx;
    s->new_us = clock_monotonic_us();
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

static void note_begin(struct saver *s, const struct save_options *options)
{
    s->options = *options;
    s->dirty_at_start = s->ks->dirty;
    s->begun_us = clock_monotonic_us();
}

bool saver_save(struct saver *s, const struct save_options *options, struct error *err)
{
    if (s->job)
        return error_set(err, ERROR_INVALID, "a background save is running");
    note_begin(s, options);
    return finish(s, save_job_run(s->ks, snapshot_begin(s->ks), options), 0, err);
}

bool saver_begin(struct saver *s, const struct save_options *options, struct error *err)
{
    if (s->job)
        return error_set(err, ERROR_INVALID, "a background save is running");
    note_begin(s, options);
    s->status.last_attempt_s = now_s();
    s->job = save_job_start(s->ks, snapshot_begin(s->ks), options, s->wake, s->wake_ctx, err);
    if (!s->job) {
        s->status.last_ok = false;
        snprintf(s->status.last_error, sizeof(s->status.last_error), "%s", err->message);
        return false;
    }
    s->status.started_s = s->status.last_attempt_s;
    return true;
}

bool saver_running(const struct saver *s)
{
    return s->job != NULL;
}

void saver_cancel(struct saver *s)
{
    if (s->job)
        save_job_cancel(s->job);
}

bool saver_wait(struct saver *s)
{
    if (!s->job)
        return false;
    struct save_job *job = s->job;
    struct error err = {0};
    s->job = NULL;
    finish(s, job, s->status.started_s, &err);
    s->status.started_s = 0;
    return true;
}

bool saver_poll(struct saver *s)
{
    if (!s->job || !save_job_ended(s->job))
        return false;
    return saver_wait(s);
}

void saver_get_status(const struct saver *s, struct saver_status *status)
{
    int64_t now = clock_monotonic_us();
    *status = s->status;
    status->running = s->job != NULL;
    status->age_us = now - s->new_us;
    status->progress = (struct save_progress){.eta_ms = -1};
    if (!s->job)
        return;
    status->busy_us += now - s->begun_us;
    save_job_progress(s->job, &status->progress);
}

void saver_note_loaded(struct saver *s)
{
    s->ks->dirty = 0;
    s->status.last_save_s = now_s();
}

/* A number, and nothing behind it but `rest`. */
static bool is_number(const char *text, const char *rest)
{
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && strcmp(text + digits, rest) == 0;
}

/* temp-PID-N.rdb, as save jobs name them; temp-sync-PID.rdb and temp-feed-PID.rdb of replication;
 * and a chain's manifest that was being replaced. */
bool saver_is_temporary(const char *name)
{
    const char *manifest = strstr(name, ".chain.tmp-");
    if (manifest != NULL && is_number(manifest + strlen(".chain.tmp-"), ""))
        return true;
    if (strncmp(name, "temp-", 5) != 0)
        return false;
    name += 5;
    if (strncmp(name, "sync-", 5) == 0 || strncmp(name, "feed-", 5) == 0)
        return is_number(name + 5, ".rdb");
    size_t digits = strspn(name, "0123456789");
    return digits > 0 && name[digits] == '-' && is_number(name + digits + 1, ".rdb");
}

static void clean_name(void *ctx, const char *name)
{
    const char *dir = ctx;
    char path[600];
    if (!saver_is_temporary(name))
        return;
    struct error err;
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (os_unlink(path, &err))
        log_notice("Removed a file that was not finished: %s", path);
}

void saver_clean_temporary(const char *path)
{
    char dir[256];
    struct error err;
    os_path_dir(path, dir, sizeof(dir));
    os_dir_list(dir, clean_name, dir, &err);
}
