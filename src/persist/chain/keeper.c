/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/chain/keeper.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "os/file.h"
#include "os/thread.h"

/* NOTE makes the manifest say that there is a new full snapshot. As long as there are no deltas
 * there is no manifest: who only ever takes full snapshots does not meet it. */
enum job_kind { JOB_NOTE, JOB_DELTA, JOB_VERIFY };

/* Made by the executor, then the thread's own until it has set `ended`. A delta has no thread while
 * its file is being saved. */
struct job {
    enum job_kind kind;
    bool has_thread;
    pthread_t thread;
    char rdb_path[256];
    struct chain chain; /* a copy of its own; in the end with the new link */
    struct chain_link link;
    struct save_job *save; /* of a delta, until it has been finished */
    struct save_result result;
    int next_mark;
    uint64_t dirty;
    int64_t begun_us;
    size_t whole;
    bool proven;    /* the links before a delta are */
    bool base_lost; /* there is no chain that the delta could follow */
    bool ok;
    struct error err;
    struct link_care care;
    bool ended; /* atomic */
    void (*wake)(void *ctx);
    void *wake_ctx;
};

struct chain_keeper {
    struct keyspace *ks;
    const struct save_limits *limits; /* NULL: none but those of the calls */
    void (*wake)(void *ctx);
    void *wake_ctx;
    bool enabled, wanted;
    char rdb_path[256];
    struct chain chain;
    bool proven;     /* its links were written, loaded or verified by this process */
    int tip_mark;    /* -1: none */
    const char *why; /* there is no tip to continue */
    struct job *job;
    bool note_waits;   /* for the job that is running */
    bool drop_chain;   /* likewise: a full snapshot has made it past */
    struct chain_link full; /* the one that is being taken */
    char full_path[256];
    uint64_t full_rate; /* at which it may be read again, should its sum be wanted after all */
    int full_mark;
    bool full_running;
    struct chain_keeper_status status;
};

static const char *const no_full = "there is no full snapshot yet that it could follow";

/* --- the jobs' threads ------------------------------------------------------------------------ */

/* A save that was not verified did not sum up its file, and one that was loaded was not, either. */
static bool complete_full(struct job *j)
{
    struct chain_link *full = &j->chain.links[0], found;
    if (full->sha256[0] != '\0')
        return true;
    struct keyspace *ks = keyspace_new(1, false);
    bool ok = link_read(j->rdb_path, LINK_FULL, &ks->epoch, &ks->limits, NULL, &j->care, &found,
                        &j->err);
    keyspace_free(ks);
    if (!ok)
        return error_prefix(&j->err, "%s", j->rdb_path);
    if (strcmp(found.id, full->id) != 0)
        return error_set(&j->err, ERROR_INVALID, "%s has been written anew", j->rdb_path);
    full->lsn = found.lsn;
    full->keys = found.keys;
    full->size = found.size;
    memcpy(full->sha256, found.sha256, sizeof(full->sha256));
    return true;
}

static bool has_manifest(const char *rdb_path)
{
    char manifest[256];
    return chain_manifest_path(rdb_path, manifest, sizeof(manifest)) && os_path_exists(manifest);
}

static void run_note(struct job *j)
{
    j->ok = !has_manifest(j->rdb_path) ||
            (complete_full(j) && chain_write(&j->chain, j->rdb_path, &j->err));
    if (j->ok)
        chain_clean(&j->chain, j->rdb_path);
}

/* The delta is there, proven and durable. It stays whatever happens: the manifest on disk may name
 * it. */
static void run_delta(struct job *j)
{
    bool summed = j->chain.links[0].sha256[0] != '\0';
    j->base_lost = !complete_full(j);
    if (!j->base_lost && !j->proven) {
        size_t first = summed ? 0 : 1;
        j->base_lost =
            chain_prove(&j->chain, first, j->rdb_path, &j->care, &j->err) < j->chain.count;
    }
    if (j->base_lost)
        return;
    j->proven = true;
    chain_add(&j->chain, &j->link);
    j->ok = chain_write(&j->chain, j->rdb_path, &j->err);
}

static void run_job(void *arg)
{
    struct job *j = arg;
    if (j->kind == JOB_NOTE)
        run_note(j);
    else if (j->kind == JOB_DELTA)
        run_delta(j);
    else if (complete_full(j))
        j->whole = chain_prove(&j->chain, 0, j->rdb_path, &j->care, &j->err);
    void (*wake)(void *) = j->wake;
    void *ctx = j->wake_ctx;
    __atomic_store_n(&j->ended, true, __ATOMIC_RELEASE);
    if (wake)
        wake(ctx);
}

static void job_free(struct job *j)
{
    chain_free(&j->chain);
    mem_free(j);
}

static struct job *job_new(struct chain_keeper *k, enum job_kind kind)
{
    struct job *j = mem_zalloc(sizeof(*j));
    j->kind = kind;
    j->wake = k->wake;
    j->wake_ctx = k->wake_ctx;
    j->begun_us = clock_monotonic_us();
    j->care.polite = true;
    j->care.limits = k->limits;
    j->proven = k->proven;
    memcpy(j->rdb_path, k->rdb_path, sizeof(j->rdb_path));
    chain_copy(&j->chain, &k->chain);
    return j;
}

static bool job_start(struct chain_keeper *k, struct job *j, struct error *err)
{
    if (!os_thread_start(&j->thread, "hf-chain", run_job, j, err))
        return false;
    j->has_thread = true;
    k->job = j;
    return true;
}

/* --- the chain -------------------------------------------------------------------------------- */

static void drop_tip(struct chain_keeper *k, const char *why)
{
    if (k->tip_mark >= 0)
        changes_end(k->ks, k->tip_mark);
    k->tip_mark = -1;
    k->why = why;
}

static void drop_chain(struct chain_keeper *k, const char *why)
{
    drop_tip(k, why);
    chain_free(&k->chain);
}

struct chain_keeper *chain_keeper_new(struct keyspace *ks, void (*wake)(void *ctx), void *ctx)
{
    struct chain_keeper *k = mem_zalloc(sizeof(*k));
    k->ks = ks;
    k->wake = wake;
    k->wake_ctx = ctx;
    k->tip_mark = k->full_mark = -1;
    k->why = no_full;
    k->status.last_ok = true;
    k->status.last_duration_us = -1;
    return k;
}

void chain_keeper_free(struct chain_keeper *k)
{
    if (!k)
        return;
    k->note_waits = false;
    chain_keeper_cancel(k);
    chain_keeper_wait(k);
    if (k->full_mark >= 0)
        changes_end(k->ks, k->full_mark);
    drop_chain(k, no_full);
    mem_free(k);
}

void chain_keeper_set_limits(struct chain_keeper *k, const struct save_limits *limits)
{
    k->limits = limits;
}

void chain_keeper_enable(struct chain_keeper *k, bool enabled)
{
    if (!enabled && k->enabled && !chain_keeper_incremental(k))
        drop_tip(k, "snapshot-chain-max was 0");
    k->enabled = enabled;
}

static void begin_note(struct chain_keeper *k)
{
    struct error err;
    if (k->job) {
        k->note_waits = true;
        return;
    }
    k->note_waits = false;
    struct job *j = job_new(k, JOB_NOTE);
    j->care.rate = k->full_rate;
    if (job_start(k, j, &err))
        return;
    log_warning("The manifest of the chain of snapshots could not be written: %s", err.message);
    job_free(j);
    drop_chain(k, "the manifest of the chain could not be written");
}

static void set_name(struct chain_link *link, const char *rdb_path)
{
    const char *slash = strrchr(rdb_path, '/');
    snprintf(link->name, sizeof(link->name), "%s", slash ? slash + 1 : rdb_path);
}

void chain_keeper_want(struct chain_keeper *k)
{
    k->wanted = true;
}

void chain_keeper_full_begins(struct chain_keeper *k, struct save_options *options, uint64_t lsn)
{
    k->full = (struct chain_link){.kind = LINK_FULL, .lsn = lsn, .time_ms = clock_wall_ms()};
    link_new_id(k->full.id);
    set_name(&k->full, options->path);
    snprintf(k->full_path, sizeof(k->full_path), "%s", options->path);
    assert(options->aux_count + 2 <= SAVE_AUX_MAX);
    struct save_aux *id = &options->aux[options->aux_count++];
    snprintf(id->name, sizeof(id->name), "%s", LINK_AUX_ID);
    snprintf(id->value, sizeof(id->value), "%s", k->full.id);
    struct save_aux *at = &options->aux[options->aux_count++];
    snprintf(at->name, sizeof(at->name), "%s", LINK_AUX_LSN);
    snprintf(at->value, sizeof(at->value), "%llu", (unsigned long long)lsn);
    if (k->full_mark >= 0)
        changes_end(k->ks, k->full_mark);
    options->sum = k->enabled && (k->wanted || has_manifest(k->full_path));
    k->full_rate = options->rate_limit;
    k->full_running = true;
    k->full_mark = k->enabled ? changes_begin(k->ks) : -1;
}

void chain_keeper_full_ended(struct chain_keeper *k, bool ok, const struct save_result *result)
{
    int mark = k->full_mark;
    k->full_mark = -1;
    k->full_running = false;
    if (mark >= 0 && (!ok || !k->enabled)) {
        changes_end(k->ks, mark);
        mark = -1;
    }
    if (!ok)
        return;
    /* The RDB file is the new one, so the chain is past whatever follows. */
    if (chain_keeper_incremental(k)) {
        /* Its snapshot is older; its marks are in use until it has ended. */
        assert(mark < 0);
        k->drop_chain = true;
        return;
    }
    drop_chain(k, k->enabled ? no_full : "snapshot-chain-max was 0");
    if (mark < 0)
        return;
    k->full.keys = result->keys;
    k->full.size = result->file_size;
    memcpy(k->full.sha256, result->sha256, sizeof(k->full.sha256));
    memcpy(k->rdb_path, k->full_path, sizeof(k->rdb_path));
    chain_add(&k->chain, &k->full);
    k->tip_mark = mark;
    k->proven = true;
    begin_note(k);
}

void chain_keeper_loaded(struct chain_keeper *k, struct chain *chain, const char *rdb_path)
{
    if (!k->job && k->enabled) {
        drop_chain(k, no_full);
        k->chain = *chain;
        *chain = (struct chain){0};
        k->wanted |= k->chain.count > 1;
        snprintf(k->rdb_path, sizeof(k->rdb_path), "%s", rdb_path);
        k->tip_mark = changes_begin(k->ks);
        k->proven = true;
    }
    chain_free(chain);
}

void chain_keeper_continued(struct chain_keeper *k, struct chain *chain, const char *rdb_path,
                            int mark)
{
    if (!k->job && k->enabled) {
        drop_chain(k, no_full);
        k->chain = *chain;
        *chain = (struct chain){0};
        k->wanted |= k->chain.count > 1;
        snprintf(k->rdb_path, sizeof(k->rdb_path), "%s", rdb_path);
        k->tip_mark = mark;
        k->proven = false;
    } else {
        changes_end(k->ks, mark);
    }
    chain_free(chain);
}

void chain_keeper_not_continued(struct chain_keeper *k, const char *why)
{
    if (k->tip_mark < 0)
        k->why = why;
}

/* --- taking ----------------------------------------------------------------------------------- */

const char *chain_keeper_cannot(const struct chain_keeper *k)
{
    if (!k->enabled)
        return "snapshot-chain-max is 0";
    if (k->tip_mark < 0)
        return k->why;
    return changes_lost(k->ks, k->tip_mark);
}

static void add_aux(struct save_options *options, const char *name, const char *value)
{
    assert(options->aux_count < SAVE_AUX_MAX);
    struct save_aux *aux = &options->aux[options->aux_count++];
    snprintf(aux->name, sizeof(aux->name), "%s", name);
    snprintf(aux->value, sizeof(aux->value), "%s", value);
}

/* What the link is to be, and what the file is to say of it. False: the name is too long. */
static bool make_link(struct job *j, struct save_options *options)
{
    struct chain_link *link = &j->link;
    char lsn[24];
    for (int i = 0; i < options->aux_count; i++) {
        if (strcmp(options->aux[i].name, LINK_AUX_VERSION) == 0)
            number_parse_uint64(slice_cstr(options->aux[i].value), &link->version);
    }
    link_new_id(link->id);
    memcpy(link->parent, j->chain.links[j->chain.count - 1].id, sizeof(link->parent));
    snprintf(lsn, sizeof(lsn), "%llu", (unsigned long long)link->lsn);
    add_aux(options, LINK_AUX_ID, link->id);
    add_aux(options, LINK_AUX_PARENT, link->parent);
    add_aux(options, LINK_AUX_LSN, lsn);
    set_name(link, j->rdb_path);
    size_t used = strlen(link->name), room = sizeof(link->name) - used;
    return (size_t)snprintf(link->name + used, room, ".%s.delta", link->id) < room &&
           chain_link_path(j->rdb_path, link, options->path, sizeof(options->path));
}

bool chain_keeper_begin(struct chain_keeper *k, const struct save_options *wanted, uint64_t lsn,
                        struct error *err)
{
    const char *cannot = chain_keeper_cannot(k);
    if (k->job || k->full_running)
        return error_set(err, ERROR_INVALID, "another snapshot or verification is running");
    if (cannot)
        return error_set(err, ERROR_INVALID, "%s", cannot);
    struct job *j = job_new(k, JOB_DELTA);
    struct save_options options = *wanted;
    j->care.rate = wanted->rate_limit;
    j->link = (struct chain_link){.kind = LINK_DELTA, .lsn = lsn, .time_ms = clock_wall_ms()};
    if (!make_link(j, &options)) {
        job_free(j);
        return error_set(err, ERROR_INVALID, "the name of the RDB file is too long for a chain");
    }
    /* Nobody else reads it: whatever the RDB file is to be, a delta is of the version that the data
     * need. */
    options.version = 0;
    options.checksum = true;
    options.since = k->ks->marks[k->tip_mark].since;
    j->dirty = k->ks->dirty;
    struct snapshot *snapshot = snapshot_begin(k->ks);
    j->next_mark = changes_begin(k->ks);
    assert(j->next_mark >= 0);
    j->save = save_job_start(k->ks, snapshot, &options, k->wake, k->wake_ctx, err);
    if (j->save) {
        k->job = j;
        return true;
    }
    changes_end(k->ks, j->next_mark);
    job_free(j);
    return false;
}

bool chain_keeper_begin_verify(struct chain_keeper *k, uint64_t rate, struct error *err)
{
    if (k->job)
        return error_set(err, ERROR_INVALID, "another snapshot or verification is running");
    if (k->chain.count == 0)
        return error_set(err, ERROR_INVALID, "there is no chain of snapshots");
    struct job *j = job_new(k, JOB_VERIFY);
    j->care.rate = rate;
    if (job_start(k, j, err))
        return true;
    job_free(j);
    return false;
}

bool chain_keeper_busy(const struct chain_keeper *k)
{
    return k->job != NULL;
}

bool chain_keeper_incremental(const struct chain_keeper *k)
{
    return k->job && k->job->kind == JOB_DELTA;
}

void chain_keeper_cancel(struct chain_keeper *k)
{
    if (!k->job)
        return;
    __atomic_store_n(&k->job->care.stop, true, __ATOMIC_RELAXED);
    if (k->job->save)
        save_job_cancel(k->job->save);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void note_ended(struct chain_keeper *k, struct job *j)
{
    bool current = k->chain.count == 1 && strcmp(k->chain.links[0].id, j->chain.links[0].id) == 0;
    if (j->ok) {
        if (current)
            k->chain.links[0] = j->chain.links[0];
        return;
    }
    log_warning("The manifest of the chain of snapshots could not be written: %s", j->err.message);
    if (current)
        drop_chain(k, "the manifest of the chain could not be written");
}

static bool delta_ended(struct chain_keeper *k, struct job *j)
{
    struct chain_keeper_status *st = &k->status;
    /* Whoever cancels it knows: nothing is wrong with the disk. */
    st->last_cancelled = !j->ok && j->err.code == ERROR_CANCELLED;
    if (!st->last_cancelled)
        st->last_ok = j->ok;
    st->last_duration_us = clock_monotonic_us() - j->begun_us;
    if (j->ok) {
        changes_end(k->ks, k->tip_mark);
        k->tip_mark = j->next_mark;
        k->proven = j->proven;
        k->chain.links[0] = j->chain.links[0];
        chain_add(&k->chain, &j->link);
        k->ks->dirty -= j->dirty < k->ks->dirty ? j->dirty : k->ks->dirty;
        st->last_error[0] = '\0';
        st->last = j->link;
        st->last_result = j->result;
        st->taken++;
        log_notice(
            "Incremental snapshot saved: %llu keys changed, %llu deleted, %llu bytes in %.3f "
            "seconds; the chain has %zu links",
            (unsigned long long)j->link.keys, (unsigned long long)j->link.deleted,
            (unsigned long long)j->link.size, (double)st->last_duration_us / 1e6, k->chain.count);
    } else {
        changes_end(k->ks, j->next_mark);
        snprintf(st->last_error, sizeof(st->last_error), "%s", j->err.message);
        log_warning("The incremental snapshot failed: %s", j->err.message);
    }
    if (k->drop_chain) {
        k->drop_chain = false;
        drop_chain(k, "the last full snapshot was begun while an incremental one was being taken");
    } else if (j->base_lost && !st->last_cancelled) {
        drop_chain(k, "a file of the chain is damaged, or not the one that it was");
    } else if (!k->enabled) {
        drop_tip(k, "snapshot-chain-max was 0");
    }
    return j->ok;
}

static void verify_ended(struct chain_keeper *k, struct job *j)
{
    struct chain_keeper_status *st = &k->status;
    bool whole = j->whole == j->chain.count;
    bool current = k->chain.count > 0 && strcmp(k->chain.links[0].id, j->chain.links[0].id) == 0;
    if (!whole && j->err.code == ERROR_CANCELLED)
        return;
    if (!whole && (!current || k->full_running)) {
        log_notice(
            "The chain of snapshots was not verified: a full one has taken its place meanwhile");
        return;
    }
    st->verified_ms = clock_wall_ms();
    st->verified_links = j->whole;
    st->verify_error[0] = '\0';
    if (whole) {
        k->proven |= current && k->chain.count == j->whole;
        log_notice("The chain of snapshots is whole: %zu links verified", j->whole);
        return;
    }
    snprintf(st->verify_error, sizeof(st->verify_error), "%s", j->err.message);
    log_warning("The chain of snapshots is damaged: %s", j->err.message);
    /* What follows a broken link would be lost with it. */
    drop_tip(k, "a link of the chain is damaged");
}

/* The save job of a delta has ended or is waited for: with its file the job goes on in a thread. */
static void save_ended(struct chain_keeper *k)
{
    struct job *j = k->job;
    struct chain_link *link = &j->link;
    bool ok = save_job_finish(j->save, &j->result, &j->err);
    j->save = NULL;
    if (!ok)
        return;
    link->keys = j->result.keys;
    link->deleted = j->result.deleted;
    link->size = j->result.file_size;
    memcpy(link->sha256, j->result.sha256, sizeof(link->sha256));
    job_start(k, j, &j->err);
}

/* The job, which has ended or is waited for. */
static bool end_job(struct chain_keeper *k)
{
    struct job *j = k->job;
    bool taken = false;
    if (j->save)
        save_ended(k);
    if (j->has_thread)
        pthread_join(j->thread, NULL);
    k->job = NULL;
    if (j->kind == JOB_NOTE)
        note_ended(k, j);
    else if (j->kind == JOB_DELTA)
        taken = delta_ended(k, j);
    else
        verify_ended(k, j);
    job_free(j);
    if (k->note_waits)
        begin_note(k);
    return taken;
}

bool chain_keeper_wait(struct chain_keeper *k)
{
    bool taken = false;
    while (k->job)
        taken |= end_job(k);
    return taken;
}

bool chain_keeper_poll(struct chain_keeper *k)
{
    if (!k->job)
        return false;
    if (k->job->save) {
        if (!save_job_ended(k->job->save))
            return false;
        save_ended(k);
        if (k->job->has_thread)
            return false; /* which will wake us */
        return end_job(k);
    }
    return __atomic_load_n(&k->job->ended, __ATOMIC_ACQUIRE) && end_job(k);
}

void chain_keeper_get_status(const struct chain_keeper *k, struct chain_keeper_status *status)
{
    *status = k->status;
    status->chain = &k->chain;
    status->verifying = k->job && k->job->kind == JOB_VERIFY;
    status->progress = (struct save_progress){.eta_ms = -1};
    if (k->job && k->job->save)
        save_job_progress(k->job->save, &status->progress);
}
