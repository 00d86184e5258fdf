/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/snapshots.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "persist/chain/chain.h"
#include "persist/log/stream.h"
#include "server/announce.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/persistence.h"
#include "server/preflight.h"

/* The pace is that of about the last five seconds. */
#define PACE_INTERVAL_US 1000000
#define PACE_WEIGHT 0.2
#define LOG_INTERVAL_US 1000000
/* Less than this says nothing of speed: what every file costs prevails. */
#define MEASURE_BYTES (1U << 20)
#define MEASURE_US 20000
/* What a save is taken to write in a second, and to make of a byte in memory, until there was
 * one. */
#define SAVE_BYTES_S 50e6
#define SAVE_SHARE 0.8

static struct snapshots *of(const struct server *s)
{
    return &s->persistence->snapshots;
}

void snapshots_init(struct server *s)
{
    struct snapshots *n = of(s);
    n->speed = (struct schedule_speed)SCHEDULE_SPEED_UNKNOWN;
    n->cron_text = mem_dup("", 0);
    n->pace_us = clock_monotonic_us();
    n->estimate = s->changed_bytes;
}

void snapshots_deinit(struct server *s)
{
    mem_free(of(s)->cron_text);
}

/* --- what the files say ----------------------------------------------------------------------- */

static void note_version(struct snapshots *n, const char *path, enum link_kind kind)
{
    uint64_t version;
    struct error ignored;
    if (link_read_version(path, kind, &version, &ignored) && version > n->version)
        n->version = version;
}

void snapshots_loaded(struct server *s)
{
    struct snapshots *n = of(s);
    const char *rdb = s->config->dbfilename;
    struct chain chain = {0};
    struct error ignored;
    char path[600];
    note_version(n, rdb, LINK_FULL);
    if (chain_read(&chain, rdb, &ignored)) {
        for (size_t i = 1; i < chain.count; i++)
            if (chain_link_path(rdb, &chain.links[i], path, sizeof(path)))
                note_version(n, path, LINK_DELTA);
        chain_free(&chain);
    }
    n->done_version = n->version;
    n->dirty = s->ks->dirty;
    n->first_change_ms = 0;
    n->estimate = s->changed_bytes;
}

void snapshots_note_load(struct server *s, uint64_t bytes, uint64_t keys, int64_t us)
{
    struct snapshots *n = of(s);
    n->full_size = bytes;
    n->full_keys = keys;
    n->full_memory = mem_used() > s->startup_memory ? mem_used() - s->startup_memory : 0;
    if (bytes < MEASURE_BYTES || us < MEASURE_US || keys == 0)
        return;
    /* What was measured is right about a file like this one, by either count. */
    n->speed.load_bytes_s = (double)bytes * 1e6 / (double)us;
    n->speed.load_keys_s = (double)keys * 1e6 / (double)us;
}

void snapshots_note_replay(struct server *s, uint64_t bytes, int64_t us)
{
    if (bytes >= MEASURE_BYTES && us >= MEASURE_US)
        of(s)->speed.replay_bytes_s = (double)bytes * 1e6 / (double)us;
}

/* --- estimates -------------------------------------------------------------------------------- */

static uint64_t count_keys(const struct server *s)
{
    uint64_t keys = 0;
    for (int i = 0; i < s->ks->db_count; i++)
        keys += s->ks->dbs[i].table.count;
    return keys;
}

void snapshots_estimate(const struct server *s, struct snapshot_estimate *e)
{
    const struct snapshots *n = of(s);
    size_t used = mem_used();
    *e = (struct snapshot_estimate){.keys = count_keys(s), .measured = n->full_us > 0};
    e->memory = used > s->startup_memory ? used - s->startup_memory : 0;
    /* What was in the last file is taken to be as large again, what came since to have its
     * ratio. */
    double ratio = SAVE_SHARE, bytes = (double)e->memory * ratio;
    if (n->full_memory >= MEASURE_BYTES)
        ratio = (double)n->full_size / (double)n->full_memory;
    if (n->full_size > 0)
        bytes = (double)n->full_size + ((double)e->memory - (double)n->full_memory) * ratio;
    /* A file is never less than a few bytes for each key. */
    double least = 100 + 4 * (double)e->keys;
    e->bytes = (uint64_t)(bytes > least ? bytes : least);
    double us;
    if (!e->measured) {
        us = (double)e->bytes / SAVE_BYTES_S * 1e6;
    } else if (n->full_size < MEASURE_BYTES) {
        us = (double)n->full_us;
        if (e->bytes > n->full_size)
            us += (double)(e->bytes - n->full_size) / SAVE_BYTES_S * 1e6;
    } else {
        us = (double)n->full_sync_us +
             (double)(n->full_us - n->full_sync_us) * (double)e->bytes / (double)n->full_size;
    }
    uint64_t rate = (uint64_t)s->config->snapshot_rate_limit;
    if (rate > 0) {
        double paced = (double)e->bytes / (double)rate * 1e6 * (s->config->rdb_verify ? 2 : 1);
        us = paced > us ? paced : us;
    }
    e->ms = (int64_t)(us / 1000);
}

static void rules_of(const struct server *s, struct schedule_rules *r)
{
    const struct config *c = s->config;
    *r = (struct schedule_rules){.points = c->save,
                                 .point_count = c->save_count,
                                 .bytes = (uint64_t)c->save_bytes,
                                 .idle_s = c->save_idle,
                                 .loss_s = c->data_loss_target,
                                 .recovery_s = c->recovery_time_target,
                                 .cron = of(s)->cron};
}

bool snapshots_are_scheduled(const struct server *s)
{
    const struct config *c = s->config;
    return c->save_count > 0 || c->save_bytes > 0 || c->save_idle > 0 || c->save_cron[0] != '\0' ||
           c->data_loss_target > 0 || c->recovery_time_target > 0;
}

static bool log_is_on(const struct server *s)
{
    return s->durability->state != DURABILITY_OFF;
}

static void counters_of(const struct server *s, struct schedule_counters *c)
{
    const struct snapshots *n = of(s);
    struct saver_status saver;
    struct chain_keeper_status chain;
    struct snapshot_estimate full;
    saver_get_status(s->persistence->saver, &saver);
    chain_keeper_get_status(s->persistence->chain, &chain);
    snapshots_estimate(s, &full);
    *c = (struct schedule_counters){
        .now_ms = s->ks->now_ms,
        .last_save_ms = saver.last_save_s * 1000,
        .first_change_ms = n->first_change_ms,
        .last_change_ms = n->last_change_ms,
        .changes = s->ks->dirty,
        .bytes = n->bytes - n->saved_bytes,
        .save_ms = full.ms,
        .log = log_is_on(s),
        .log_bytes_s = n->bytes_s,
        .full_bytes = full.bytes,
        .full_keys = full.keys,
        .speed = n->speed,
    };
    /* An incremental one is a save, too. */
    if (chain.taken > 0 && chain.last.time_ms > c->last_save_ms)
        c->last_save_ms = chain.last.time_ms;
    if (s->config->save_incremental && n->incremental_us > 0 && !n->full_next &&
        chain_keeper_cannot(s->persistence->chain) == NULL)
        c->save_ms = n->incremental_us / 1000;
    c->base_bytes = n->full_size;
    c->base_keys = n->full_keys;
    if (c->log) {
        c->base_bytes = n->log_base_bytes;
        c->base_keys = 0;
        c->log_bytes = n->log_bytes;
        return;
    }
    for (size_t i = 1; i < chain.chain->count; i++) {
        c->base_bytes += chain.chain->links[i].size;
        c->base_keys += chain.chain->links[i].keys + chain.chain->links[i].deleted;
    }
}

double snapshots_recovery_seconds(const struct server *s)
{
    struct schedule_counters c;
    counters_of(s, &c);
    return schedule_recovery_seconds(&c);
}

/* --- counting --------------------------------------------------------------------------------- */

/* The log knows how many bytes changes are; without one the requests' sizes are counted. */
static void count_bytes(struct server *s, struct snapshots *n)
{
    if (s->stream != NULL) {
        uint64_t end = stream_end(s->stream);
        if (n->had_stream && end > n->stream_end)
            n->bytes += end - n->stream_end;
        n->stream_end = end;
    }
    n->had_stream = s->stream != NULL;
    n->bytes += s->changed_bytes - n->estimate;
    n->estimate = s->changed_bytes;
}

static void count_changes(struct server *s, struct snapshots *n)
{
    uint64_t dirty = s->ks->dirty;
    if (dirty > n->dirty) {
        int64_t now = s->ks->now_ms;
        n->changes += dirty - n->dirty;
        n->last_change_ms = now;
        if (n->first_change_ms == 0)
            n->first_change_ms = now;
        for (int i = 0; i < SNAPSHOT_KINDS; i++)
            if (n->runs[i].running && n->runs[i].first_change_ms == 0)
                n->runs[i].first_change_ms = now;
    } else if (dirty == 0 && n->dirty > 0) {
        n->first_change_ms = 0;
    }
    n->dirty = dirty;
}

static void count_pace(struct server *s, struct snapshots *n)
{
    int64_t passed = s->now_us - n->pace_us;
    if (passed < PACE_INTERVAL_US)
        return;
    double bytes = (double)(n->bytes - n->pace_bytes) * 1e6 / (double)passed;
    double changes = (double)(n->changes - n->pace_changes) * 1e6 / (double)passed;
    n->bytes_s += (bytes - n->bytes_s) * PACE_WEIGHT;
    n->changes_s += (changes - n->changes_s) * PACE_WEIGHT;
    n->pace_us = s->now_us;
    n->pace_bytes = n->bytes;
    n->pace_changes = n->changes;
}

static void look_at_log(struct server *s, struct snapshots *n)
{
    const struct durability *d = s->durability;
    bool failed = d->state == DURABILITY_FAILED, full = !failed && d->refusal != NULL;
    if (failed && !n->log_failed)
        announce_log(s, "failed", d->failure.message);
    else if (full && !n->log_full)
        announce_log(s, "full", NULL);
    else if (!failed && !full && (n->log_failed || n->log_full))
        announce_log(s, "healed", NULL);
    n->log_failed = failed;
    n->log_full = full;
    if (d->writer == NULL || s->now_us - n->log_looked_us < LOG_INTERVAL_US)
        return;
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(d->writer, stats);
    n->log_looked_us = s->now_us;
    n->log_base_bytes = d->generation.base_size;
    n->log_bytes = d->generation.old_size + stats->file_size;
    mem_free(stats);
}

/* --- taking ----------------------------------------------------------------------------------- */

void snapshots_note_begin(struct server *s, enum snapshot_kind kind, struct save_options *options)
{
    struct snapshots *n = of(s);
    struct snapshot_run *run = &n->runs[kind];
    count_bytes(s, n);
    count_changes(s, n);
    *run = (struct snapshot_run){.running = true,
                                 .version = ++n->version,
                                 .bytes = n->bytes,
                                 .begun_us = clock_monotonic_us(),
                                 .verify = options->verify};
    if (n->reason[0] == '\0')
        log_notice("Saving (%s): a command", kind == SNAPSHOT_FULL ? "full" : "incremental");
    snprintf(run->reason, sizeof(run->reason), "%s",
             n->reason[0] != '\0' ? n->reason : "a command");
    n->reason[0] = '\0';
    snprintf(run->file, sizeof(run->file), "%s", options->path);
    assert(options->aux_count < SAVE_AUX_MAX);
    struct save_aux *aux = &options->aux[options->aux_count++];
    snprintf(aux->name, sizeof(aux->name), LINK_AUX_VERSION);
    snprintf(aux->value, sizeof(aux->value), "%llu", (unsigned long long)run->version);
}

static void note_success(struct server *s, enum snapshot_kind kind, const struct snapshot_run *run,
                         const struct snapshot_done *done, int64_t us)
{
    struct snapshots *n = of(s);
    if (run->version > n->done_version)
        n->done_version = run->version;
    if (run->bytes > n->saved_bytes)
        n->saved_bytes = run->bytes;
    count_changes(s, n);
    n->first_change_ms = s->ks->dirty > 0 ? run->first_change_ms : 0;
    /* It came after the changes were last counted, while the snapshot was being taken. */
    if (s->ks->dirty > 0 && n->first_change_ms == 0)
        n->first_change_ms = s->ks->now_ms;
    if (kind == SNAPSHOT_INCREMENTAL) {
        n->incremental_us = us;
        return;
    }
    n->full_size = done->bytes;
    n->full_keys = done->keys;
    n->full_memory = mem_used() > s->startup_memory ? mem_used() - s->startup_memory : 0;
    n->full_us = us > 0 ? us : 1;
    n->full_sync_us = done->sync_us < us ? done->sync_us : us;
}

void snapshots_note_end(struct server *s, enum snapshot_kind kind, const struct snapshot_done *done,
                        const char *error)
{
    struct snapshots *n = of(s);
    struct snapshot_run *run = &n->runs[kind];
    int64_t us = clock_monotonic_us() - run->begun_us;
    bool ok = error == NULL;
    run->running = false;
    if (ok)
        note_success(s, kind, run, done, us);
    if (kind == SNAPSHOT_INCREMENTAL)
        n->incremental_busy_us += us;
    n->full_next = kind == SNAPSHOT_INCREMENTAL ? !ok : n->full_next && !ok;
    schedule_note_result(&n->schedule, ok, s->ks->now_ms);
    struct snapshot_event event = {.ok = ok,
                                   .version = run->version,
                                   .incremental = kind == SNAPSHOT_INCREMENTAL,
                                   .reason = run->reason,
                                   .file = run->file,
                                   .us = us,
                                   .verified = ok && run->verify,
                                   .error = error};
    if (ok) {
        event.keys = done->keys;
        event.deleted = done->deleted;
        event.bytes = done->bytes;
        if (done->file)
            event.file = done->file;
    }
    announce_snapshot(s, &event);
}

static void warn_of_targets(struct server *s, struct snapshots *n)
{
    const struct schedule_decision *d = &n->decision;
    if (d->loss_too_short && !n->warned_loss)
        log_warning(
            "data-loss-target %lld cannot be kept to: a snapshot takes about as long as half of "
            "it, and the next can only begin when it is done. A log (appendonly) could",
            (long long)s->config->data_loss_target);
    n->warned_loss = d->loss_too_short;
    if (d->recovery_too_short && !n->warned_recovery)
        log_warning(
            "recovery-time-target %lld cannot be kept to: loading the data alone takes longer",
            (long long)s->config->recovery_time_target);
    n->warned_recovery = d->recovery_too_short;
}

#define REWRITE_PAUSE_US 5000000

/* A start would take too long for what the log has to be replayed: the log is rewritten. One that
 * has failed is tried again by the log itself. */
static void rewrite_log(struct server *s, struct snapshots *n)
{
    const struct schedule_decision *d = &n->decision;
    const struct generation *g = &s->durability->generation;
    if (!d->rewrite || g->running || !g->last_ok || s->durability->rewrite_scheduled ||
        s->now_us < n->rewrite_next_us)
        return;
    /* What the log has grown by is counted now and then only. */
    n->rewrite_next_us = s->now_us + REWRITE_PAUSE_US;
    log_notice("%s: the log is rewritten", d->rewrite_reason);
    durability_rewrite(s, false);
}

/* False: not now. */
static bool begin(struct server *s, struct snapshots *n, bool full)
{
    struct persistence *p = s->persistence;
    struct error err = {0};
    const char *kind = "full";
    bool incremental = !full && s->config->save_incremental && !n->full_next &&
                       chain_keeper_cannot(p->chain) == NULL;
    if (incremental && chain_keeper_busy(p->chain))
        return false;
    if (incremental)
        kind = "incremental";
    struct preflight flight;
    preflight_run(s, &flight);
    log_notice("Saving (%s): %s", kind, n->reason);
    for (int i = 0; i < flight.reason_count; i++)
        log_warning("The snapshot that begins now may not fit: %s", flight.reasons[i]);
    snprintf(n->last_reason, sizeof(n->last_reason), "%s", n->reason);
    bool ok =
        incremental ? persistence_begin_incremental(s, &err) : persistence_begin_save(s, &err);
    n->reason[0] = '\0';
    if (!ok && incremental) {
        log_warning("The incremental snapshot could not be started: %s", err.message);
        n->full_next = true;
    }
    return ok;
}

static void decide(const struct server *s, struct schedule *schedule,
                   struct schedule_decision *decision)
{
    struct schedule_rules rules;
    struct schedule_counters counters;
    rules_of(s, &rules);
    counters_of(s, &counters);
    schedule_decide(schedule, &rules, &counters, decision);
}

static void follow_schedule(struct server *s, struct snapshots *n)
{
    decide(s, &n->schedule, &n->decision);
    warn_of_targets(s, n);
    rewrite_log(s, n);
    if (n->decision.action == SCHEDULE_NOTHING)
        return;
    snprintf(n->reason, sizeof(n->reason), "%s", n->decision.reason);
    begin(s, n, n->decision.action == SCHEDULE_FULL);
    n->reason[0] = '\0';
}

void snapshots_look(struct server *s)
{
    struct snapshots *n = of(s);
    struct persistence *p = s->persistence;
    if (s->loading || persistence_has_lost(s))
        return;
    count_bytes(s, n);
    count_changes(s, n);
    count_pace(s, n);
    look_at_log(s, n);
    if (saver_running(p->saver) || chain_keeper_incremental(p->chain))
        return;
    if (p->scheduled) {
        p->scheduled = false;
        if (n->reason[0] == '\0')
            snprintf(n->reason, sizeof(n->reason), "it was scheduled by a command");
        begin(s, n, true);
        return;
    }
    follow_schedule(s, n);
}

void snapshots_config_changed(struct server *s, const char *directive)
{
    struct snapshots *n = of(s);
    struct error ignored;
    if (strcmp(n->cron_text, s->config->save_cron) != 0) {
        mem_free(n->cron_text);
        n->cron_text = mem_dup(s->config->save_cron, strlen(s->config->save_cron));
        cron_parse(&n->cron, slice_cstr(n->cron_text), &ignored);
    }
    if (directive == NULL || strncmp(directive, "save", 4) == 0 ||
        strcmp(directive, "data-loss-target") == 0 ||
        strcmp(directive, "recovery-time-target") == 0)
        schedule_changed(&n->schedule);
}

/* --- telling ---------------------------------------------------------------------------------- */

static void next_fields(const struct server *s, const struct snapshots *n, struct text *out)
{
    /* As it would be decided now; a copy, as nothing is done about it here. */
    struct schedule schedule = n->schedule;
    struct schedule_decision d;
    int64_t left = -1;
    const char *next = "none";
    decide(s, &schedule, &d);
    if (n->runs[SNAPSHOT_FULL].running || n->runs[SNAPSHOT_INCREMENTAL].running) {
        next = "one is being taken";
    } else if (d.action != SCHEDULE_NOTHING) {
        left = 0;
        next = d.reason;
    } else if (d.next_ms >= 0) {
        left = (d.next_ms - s->ks->now_ms + 999) / 1000;
        left = left > 0 ? left : 0;
        next = d.next;
    }
    text_appendf(out, "schedule_next:%s\r\nschedule_next_in_seconds:%lld\r\n", next,
                 (long long)left);
    text_appendf(out, "schedule_last:%s\r\nschedule_failures:%d\r\n", n->last_reason,
                 n->schedule.failures);
}

void snapshots_info(struct server *s, struct text *out)
{
    struct snapshots *n = of(s);
    struct saver_status saver;
    struct chain_keeper_status chain;
    saver_get_status(s->persistence->saver, &saver);
    chain_keeper_get_status(s->persistence->chain, &chain);
    if (!s->loading) {
        count_bytes(s, n);
        count_changes(s, n);
    }
    int64_t busy = saver.busy_us + n->incremental_busy_us;
    if (n->runs[SNAPSHOT_INCREMENTAL].running)
        busy += clock_monotonic_us() - n->runs[SNAPSHOT_INCREMENTAL].begun_us;
    text_appendf(out, "snapshot_version:%llu\r\nsnapshot_time_share_percent:%.4f\r\n",
                 (unsigned long long)n->done_version,
                 saver.age_us > 0 ? 100 * (double)busy / (double)saver.age_us : 0);
    int64_t incremental_s = chain.taken > 0 ? chain.last.time_ms / 1000 : 0;
    text_appendf(
        out, "snapshot_last_time:%lld\r\n",
        (long long)(incremental_s > saver.last_save_s ? incremental_s : saver.last_save_s));
    text_appendf(out, "snapshot_changed_bytes:%llu\r\nsnapshot_changed_bytes_per_sec:%.0f\r\n",
                 (unsigned long long)(n->bytes - n->saved_bytes), n->bytes_s);
    text_appendf(out, "recovery_predicted_seconds:%.3f\r\nrecovery_load_bytes_per_sec:%.0f\r\n",
                 snapshots_recovery_seconds(s), n->speed.load_bytes_s);
    text_appendf(out, "recovery_load_keys_per_sec:%.0f\r\nrecovery_replay_bytes_per_sec:%.0f\r\n",
                 n->speed.load_keys_s, n->speed.replay_bytes_s);
    next_fields(s, n, out);
    text_append_cstr(out, "chain_ids:");
    for (size_t i = 0; i < chain.chain->count; i++)
        text_appendf(out, "%s%s", i > 0 ? "," : "", chain.chain->links[i].id);
    text_append_cstr(out, "\r\n");
}
