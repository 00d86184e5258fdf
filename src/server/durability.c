/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/durability.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "os/process.h"
#include "persist/log/stream.h"
#include "server/backup.h"
#include "server/blocked.h"
#include "server/client.h"
#include "server/config.h"
#include "server/hold.h"
#include "server/persistence.h"
#include "server/replication.h"
#include "server/slowlog.h"

#define TIMER_MS 100
/* More incrementals than this are merged by a rewrite, whatever their size; where none is to begin
 * by itself, more than so many: each start adds one, and all are opened by the next. */
#define INCREMENTALS_MOST 16
#define INCREMENTALS_MOST_BY_HAND 1000
/* With `everysec` writers wait while something is at risk for longer than this. */
#define AT_RISK_MOST_US 1000000
/* So long may everybody wait for the disk before a log that is given up is left to itself. */
#define STOP_MOST_US 2000000
/* Between two counts of commands. */
#define COUNT_INTERVAL_US 2000

static void step(struct durability *d);

/* ---- what dispatch is told ---- */

bool durability_attention(const struct server *s)
{
    const struct durability *d = s->durability;
    return d != NULL && (d->refusal != NULL || d->slow_down);
}

static void set_refusal(struct durability *d, const char *why)
{
    d->refusal = NULL;
    if (why != NULL) {
        snprintf(d->refusal_text, sizeof(d->refusal_text),
                 "MISCONF Errors writing to the AOF file: %.200s", why);
        d->refusal = d->refusal_text;
    }
    server_update_attention(d->server);
}

static void set_slow_down(struct durability *d, bool slow_down)
{
    struct server *s = d->server;
    if (d->slow_down == slow_down)
        return;
    d->slow_down = slow_down;
    writer_set_eager(d->writer, slow_down);
    server_update_attention(s);
    if (slow_down) {
        d->slow_downs++;
        return;
    }
    if (s->clients.blocked_count == 0)
        return;
    for (struct client *c = s->clients.first; c != NULL; c = c->next)
        client_unblock(c);
}

/* Published and not yet where the policy wants it. While the log begins or ends nothing is promised
 * of what is written now, but it takes memory until the writer has come to it. */
static uint64_t waiting_bytes(const struct durability *d)
{
    if (d->state != DURABILITY_ON)
        return writer_pending_bytes(d->writer);
    uint64_t end = stream_published(d->server->stream);
    uint64_t at = durability_syncs_always(d->server) ? writer_durable_lsn(d->writer)
                                                                 : writer_written_lsn(d->writer);
    return end > at ? end - at : 0;
}

static void check_pace(struct durability *d)
{
    if (d->state == DURABILITY_OFF || d->refusal != NULL) {
        if (d->writer != NULL)
            set_slow_down(d, false);
        return;
    }
    const struct config *c = d->server->config;
    uint64_t limit = (uint64_t)c->log_buffer_limit;
    uint64_t waiting = waiting_bytes(d);
    bool late = false;
    if (d->state == DURABILITY_ON && c->appendfsync == FSYNC_EVERYSEC) {
        int64_t since = writer_at_risk_since_us(d->writer);
        late = since != 0 && d->server->now_us - since > AT_RISK_MOST_US;
    }
    set_slow_down(d, late || waiting > (d->slow_down ? limit / 2 : limit));
}

/* Who wants to know that something is on the disk shall not wait longer than it takes. */
static void update_holding(struct durability *d)
{
    struct server *s = d->server;
    if (d->writer != NULL)
        hold_release(s->hold, writer_durable_lsn(d->writer));
    hold_update(s->hold);
    durability_follow_levels(s);
}

void durability_follow_levels(struct server *s)
{
    struct durability *d = s->durability;
    /* While the commit of one half of the clients is on its way, the other half is served.
     * Otherwise all get their replies at once, send their next requests at once, and wait
     * together. */
    server_split_turns(s, s->hold_replies);
    if (d == NULL || d->writer == NULL)
        return;
    bool always = durability_syncs_always(s);
    writer_set_sync(d->writer,
                    always ? WRITER_ALWAYS : (enum writer_sync)s->config->appendfsync);
    /* Who waits already was promised a sync, and may be the last to get one. */
    if (!always && hold_waiting_clients(s->hold) > 0)
        writer_sync_to(d->writer, stream_end(s->stream));
}

bool durability_syncs_always(const struct server *s)
{
    return s->config->appendfsync == FSYNC_ALWAYS || hold_uses(s->hold, HOLD_LOCAL) ||
           hold_uses(s->hold, HOLD_QUORUM);
}

static void set_state(struct durability *d, enum durability_state state)
{
    d->state = state;
    update_holding(d);
    check_pace(d);
}

/* ---- feeding ---- */

static void note_count(struct durability *d, uint64_t lsn, int64_t now_us)
{
    if (now_us - d->counted_us < COUNT_INTERVAL_US)
        return;
    d->counted_us = now_us;
    if (d->count_end - d->count_first == DURABILITY_COUNTS)
        d->count_first++;
    d->counts[d->count_end++ % DURABILITY_COUNTS] =
        (struct effect_count){lsn, d->server->effects};
}

void durability_publish(struct server *s)
{
    struct durability *d = s->durability;
    uint64_t before = stream_published(s->stream);
    stream_publish(s->stream);
    uint64_t end = stream_published(s->stream);
    if (end == before)
        return;
    stream_trim(s->stream);
    replication_note_marks(s);
    if (d->writer == NULL)
        return;
    writer_published(d->writer, s->now_us);
    note_count(d, end, s->now_us);
    /* Whoever waits is let go on by the wake-up or the timer, before the next batch. */
    if (!d->slow_down)
        check_pace(d);
}

void durability_check_room(struct server *s)
{
    struct durability *d = s->durability;
    if (d->writer == NULL || d->state == DURABILITY_OFF || d->refusal != NULL || d->slow_down)
        return;
    uint64_t unpublished = stream_end(s->stream) - stream_published(s->stream);
    if (unpublished + waiting_bytes(d) > (uint64_t)s->config->log_buffer_limit)
        set_slow_down(d, true);
}

/* ---- the wake-up, and the timer ---- */

static void look(struct durability *d)
{
    writer_take_news(d->writer);
    hold_release(d->server->hold, writer_durable_lsn(d->writer));
    replication_durable(d->server);
    step(d);
    if (d->writer != NULL)
        check_pace(d);
}

static void on_awake(void *ctx)
{
    struct durability *d = ctx;
    if (d->writer == NULL)
        return;
    if (!d->hushed)
        writer_awake(d->writer);
    look(d);
}

void durability_begin_turn(struct server *s)
{
    struct durability *d = s->durability;
    if (!s->hold_replies || d->writer == NULL)
        return;
    writer_hush(d->writer);
    d->hushed = true;
}

void durability_look(struct server *s)
{
    struct durability *d = s->durability;
    if (d->hushed && writer_has_news(d->writer))
        look(d);
}

bool durability_end_turn(struct server *s)
{
    struct durability *d = s->durability;
    if (!d->hushed)
        return false;
    d->hushed = false;
    writer_awake(d->writer);
    return writer_has_news(d->writer);
}

void durability_wake(void *ctx)
{
    struct durability *d = ctx;
    loop_post(d->server->loop, on_awake, d);
}

/* For LATENCY, under Redis's names. */
static void note_latency(struct durability *d)
{
    int64_t write_us, sync_us;
    writer_take_longest(d->writer, &write_us, &sync_us);
    if (write_us != 0)
        latency_note(d->server, "aof-write", write_us);
    if (sync_us != 0)
        latency_note(d->server,
                     d->server->config->appendfsync == FSYNC_ALWAYS ? "aof-fsync-always"
                                                                    : "aof-fsync",
                     sync_us);
}

static int64_t on_timer(void *ctx)
{
    struct durability *d = ctx;
    if (d->writer != NULL) {
        note_latency(d);
        hold_release(d->server->hold, writer_durable_lsn(d->writer));
        replication_durable(d->server);
    }
    if (d->server->stream != NULL)
        stream_trim(d->server->stream);
    step(d);
    if (d->writer != NULL)
        check_pace(d);
    return TIMER_MS;
}

/* ---- the directory ---- */

bool durability_lock(struct server *s, struct error *err)
{
    return log_directory_take(&s->durability->directory, s->config->appenddirname, err);
}

static bool claim_directory(struct durability *d, struct error *err)
{
    const struct config *c = d->server->config;
    return log_directory_claim(&d->directory, c->appenddirname, c->appendfilename,
                               &d->generation.manifest, err);
}

/* ---- states ---- */

static bool new_writer(struct durability *d, struct error *err)
{
    const struct config *c = d->server->config;
    struct writer_options options = {.directory = c->appenddirname,
                                     .filename = c->appendfilename,
                                     .sync = (enum writer_sync)c->appendfsync,
                                     .timestamps = c->aof_timestamp_enabled,
                                     .wake = durability_wake,
                                     .ctx = d};
    struct server *s = d->server;
    if (d->history[0] == '\0')
        memcpy(d->history, s->run_id, sizeof(d->history));
    bool was_there = s->stream != NULL;
    if (was_there)
        d->lsn = stream_published(s->stream);
    else
        s->stream = stream_new(d->lsn);
    if (!was_there)
        replication_begin_marks(s);
    d->writer = writer_new(s->stream, &options, err);
    if (d->writer == NULL) {
        if (!was_there)
            durability_drop_stream(s);
        return false;
    }
    d->started_us = clock_monotonic_us();
    d->content = (struct durability_content){.lsn = stream_end(s->stream),
                                             .requests = stream_requests(s->stream)};
    d->first_effects = s->effects;
    d->count_first = d->count_end = 0;
    generation_hurry(&d->generation);
    return true;
}

bool durability_has_log(const struct durability *d)
{
    return d->state == DURABILITY_ON || d->state == DURABILITY_CLOSING ||
           d->state == DURABILITY_FAILED;
}

uint64_t durability_size(const struct durability *d)
{
    return d->generation.base_size + d->generation.old_size + writer_file_size(d->writer, NULL);
}

/* What the log was on for is done. */
static void remove_temporary(struct durability *d)
{
    if (!d->temporary || d->generation.running)
        return;
    generation_remove_all(&d->generation);
    d->temporary = false;
    d->once = d->rewrite_scheduled;
    d->rewrite_scheduled = false;
}

/* The log is off. Without `wait` its thread may be in the middle of a call that does not come
 * back. */
static void drop_writer(struct durability *d, bool wait)
{
    struct server *s = d->server;
    struct writer *w = d->writer;
    set_slow_down(d, false);
    d->lsn = stream_published(s->stream);
    /* One that is only starting has not come to a log: the one before is still what there is. */
    if (durability_has_log(d)) {
        memcpy(d->covered.id, d->history, sizeof(d->history));
        d->covered.lsn = d->lsn;
        d->covered.beyond = d->state != DURABILITY_CLOSING;
    }
    hold_release(s->hold, d->lsn);
    d->state = DURABILITY_OFF;
    hold_fail(s->hold, NULL);
    set_refusal(d, NULL);
    d->writer = NULL;
    d->hushed = false;
    if (wait || writer_ended(w)) {
        writer_free(w);
        remove_temporary(d);
    } else {
        d->left = w;
        d->left_stream = s->stream;
    }
    if (!replication_wants_stream(s))
        durability_drop_stream(s);
    hold_update(s->hold);
    /* Who waits for it learns that it is off. */
    blocked_durable(s, UINT64_MAX);
}

void durability_make_stream(struct server *s)
{
    if (s->stream == NULL) {
        s->stream = stream_new(s->durability->lsn);
        replication_begin_marks(s);
    }
    hold_update(s->hold);
}

void durability_drop_stream(struct server *s)
{
    struct durability *d = s->durability;
    if (s->stream == NULL || d->writer != NULL)
        return;
    d->lsn = stream_end(s->stream);
    if (s->stream != d->left_stream)
        stream_free(s->stream);
    s->stream = NULL;
    hold_update(s->hold);
}

/* Whether nothing is under way any more; whatever is, is given up. */
static bool has_stopped(struct durability *d, struct writer *w)
{
    generation_cancel(&d->generation);
    generation_step(&d->generation, w);
    if (d->generation.running || writer_busy(w))
        return false;
    writer_stop(w);
    return writer_ended(w);
}

static void stop_now(struct durability *d)
{
    if (d->writer == NULL)
        return;
    int64_t begin_us = clock_monotonic_us();
    while (!has_stopped(d, d->writer)) {
        if (clock_monotonic_us() - begin_us > STOP_MOST_US) {
            log_warning("The disk keeps the log waiting: it is given up as it is, and begins anew "
                        "when the disk works again");
            break;
        }
        os_sleep_us(200);
    }
    drop_writer(d, false);
    generation_hurry(&d->generation);
}

bool durability_take_left(struct durability *d)
{
    if (d->left == NULL)
        return true;
    if (!has_stopped(d, d->left))
        return false;
    writer_free(d->left);
    if (d->left_stream != d->server->stream)
        stream_free(d->left_stream);
    d->left = NULL;
    d->left_stream = NULL;
    remove_temporary(d);
    generation_hurry(&d->generation);
    log_notice("The log that was given up has come to its end: the disk works again");
    return true;
}

void durability_restart(struct server *s, const char *history, uint64_t lsn)
{
    struct durability *d = s->durability;
    backup_log_broken(s, "the data was replaced by a primary's");
    stop_now(d);
    durability_drop_stream(s);
    snprintf(d->history, sizeof(d->history), "%s", history);
    d->lsn = lsn;
    hold_restart(s->hold, lsn);
    if (replication_wants_stream(s))
        durability_make_stream(s);
    step(d);
}

/* In a new file, which the log goes on in. */
static bool rotate_to_history(struct durability *d)
{
    struct error err = {0};
    if (d->state != DURABILITY_ON || d->generation.running || writer_busy(d->writer))
        return false;
    writer_set_place(d->writer, replication_stream_db(d->server), d->server->replication->own);
    if (generation_rotate(&d->generation, d->writer, d->history, &err))
        return true;
    log_warning("The log could not go on in a new file: %s", err.message);
    return false;
}

void durability_set_history(struct server *s, const char *history)
{
    struct durability *d = s->durability;
    if (strcmp(d->history, history) == 0)
        return;
    snprintf(d->history, sizeof(d->history), "%s", history);
    if (d->writer == NULL)
        return;
    durability_publish(s);
    if (rotate_to_history(d))
        return;
    backup_log_broken(s, "the log could not go on");
    stop_now(d);
    step(d);
}

static void switch_on(struct durability *d)
{
    struct error err = {0};
    if (d->once && !claim_directory(d, &err)) {
        d->once = false;
        log_warning("The log could not be started: %s", err.message);
        return;
    }
    /* What was changed meanwhile is in no log: it goes on behind every position that a snapshot
     * made meanwhile can name. */
    if (d->server->stream == NULL) {
        if (strcmp(d->history, d->covered.id) == 0 && d->lsn < d->covered.lsn)
            d->lsn = d->covered.lsn;
        d->lsn += 2;
    }
    if (!new_writer(d, &err)) {
        log_warning("The log could not be started: %s", err.message);
        return;
    }
    set_state(d, DURABILITY_STARTING);
}

static void switch_off(struct durability *d)
{
    struct generation *g = &d->generation;
    if (g->running) {
        /* What was under way is ended first. */
        generation_cancel(&d->generation);
        return;
    }
    if (writer_busy(d->writer))
        return;
    if (d->state == DURABILITY_ON) {
        writer_close(d->writer);
        set_state(d, DURABILITY_CLOSING);
        return;
    }
    log_notice("The log is off");
    drop_writer(d, true);
}

static void fail(struct durability *d)
{
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(d->writer, stats);
    d->failure = stats->error;
    mem_free(stats);
    backup_log_broken(d->server, d->failure.message);
    hold_release(d->server->hold, writer_durable_lsn(d->writer));
    log_warning("Writes are refused until a new base and a new log are on disk: %s",
                d->failure.message);
    set_refusal(d, d->failure.message);
    set_state(d, DURABILITY_FAILED);
    if (d->generation.kind == GENERATION_REWRITE)
        generation_hurry(&d->generation);
    d->generation.retry_us = clock_monotonic_us() + d->generation.pause_us;
    hold_fail(d->server->hold, d->failure.message);
}

static void watch_writer(struct durability *d)
{
    enum writer_state state = writer_state(d->writer);
    if (state == WRITER_FAILED) {
        fail(d);
    } else if (state == WRITER_FULL && d->refusal == NULL) {
        struct writer_stats *stats = mem_alloc(sizeof(*stats));
        writer_get_stats(d->writer, stats);
        set_refusal(d, stats->error.message);
        mem_free(stats);
        check_pace(d);
        generation_drop_history(&d->generation);
    } else if (state == WRITER_OPEN && d->refusal != NULL) {
        set_refusal(d, NULL);
    }
}

/* ---- rewriting ---- */

static bool can_rewrite(const struct durability *d)
{
    /* What is in memory is not what the history and the LSN say, and is not to become the log's
     * base. */
    return d->state == DURABILITY_ON && !persistence_has_lost(d->server) && d->refusal == NULL &&
           !d->generation.running && !writer_busy(d->writer) && !backup_keeps_files(d->server);
}

/* By size or number; when the last try has failed it is not repeated at once. */
static bool rewrite_is_due(const struct durability *d)
{
    const struct config *c = d->server->config;
    if (clock_monotonic_us() < d->generation.retry_us)
        return false;
    if (d->rewrite_scheduled)
        return true;
    int64_t percentage = c->auto_aof_rewrite_percentage;
    size_t incrementals = 0, most = percentage == 0 ? INCREMENTALS_MOST_BY_HAND : INCREMENTALS_MOST;
    for (size_t i = 0; i < d->generation.manifest.count; i++)
        incrementals += d->generation.manifest.files[i].type == MANIFEST_INCREMENTAL;
    if (incrementals > most) {
        log_notice("The log has %zu incremental files: rewriting it", incrementals);
        return true;
    }
    uint64_t size = durability_size(d);
    if (percentage == 0 || size <= (uint64_t)c->auto_aof_rewrite_min_size)
        return false;
    uint64_t base = d->generation.base_size > 0 ? d->generation.base_size : 1;
    double growth = 100.0 * (double)size / (double)base - 100.0;
    if (growth < (double)percentage)
        return false;
    log_notice("The log has grown by %.0f%% to %llu bytes: rewriting it", growth,
               (unsigned long long)size);
    return true;
}

static void note_outcome(struct durability *d, enum generation_outcome outcome)
{
    const struct generation *g = &d->generation;
    if (outcome == GENERATION_NOTHING)
        return;
    if (outcome == GENERATION_NAMED)
        d->content = (struct durability_content){.lsn = g->lsn, .requests = d->generation_requests};
    if (g->kind == GENERATION_REWRITE) {
        if (outcome == GENERATION_NAMED)
            log_notice("The log was rewritten: its base is of LSN %llu, %llu bytes",
                       (unsigned long long)g->lsn, (unsigned long long)d->generation.base_size);
        else if (!g->cancelled)
            d->rewrite_scheduled = true;
        backup_base_ended(d->server,
                          outcome == GENERATION_NAMED ? NULL : "the log could not be rewritten");
        return;
    }
    d->no_snapshot = d->once || (!d->wanted && backup_in_progress(d->server));
    d->once = false;
    if (outcome != GENERATION_NAMED) {
        backup_base_ended(d->server, "a base of the log could not be made");
        return;
    }
    d->rewrite_scheduled = false;
    log_notice("The log is on: it begins at LSN %llu", (unsigned long long)g->lsn);
    hold_fail(d->server->hold, NULL);
    set_refusal(d, NULL);
    set_state(d, DURABILITY_ON);
    backup_base_ended(d->server, NULL);
}

static enum generation_outcome begin_generation(struct durability *d, enum generation_kind kind)
{
    struct server *s = d->server;
    /* Keys may have expired in this turn. */
    durability_publish(s);
    struct generation_begin begin = {
        .writer = d->writer, .stream = s->stream, .ks = s->ks, .history = d->history};
    persistence_options(s, &begin.save);
    begin.save.incremental_sync = s->config->aof_rewrite_incremental_fsync;
    begin.save.commands = !s->config->aof_use_rdb_preamble;
    begin.save.version = 0; /* a log is for those who know version 10 */
    begin.save.aux_count = 0;
    replication_put_aux(s, &begin.save, stream_published(s->stream));
    replication_put_lineage(s, &begin.save);
    backup_base_begun(s);
    d->generation_requests = stream_requests(s->stream);
    return generation_begin(&d->generation, kind, &begin);
}

static bool begin_rewrite(struct durability *d)
{
    d->rewrite_scheduled = false;
    note_outcome(d, begin_generation(d, GENERATION_REWRITE));
    return d->generation.running;
}

enum durability_rewrite durability_rewrite(struct server *s, bool later)
{
    struct durability *d = s->durability;
    if (d->generation.running || d->once)
        return DURABILITY_REWRITE_RUNS;
    if (d->state == DURABILITY_OFF && !d->wanted && d->manifest_error.code != ERROR_NONE) {
        log_warning("The log cannot be rewritten: %s", d->manifest_error.message);
        return DURABILITY_REWRITE_FAILED;
    }
    d->generation.retry_us = 0;
    if (d->state == DURABILITY_OFF && !d->wanted) {
        d->once = true;
        return later ? DURABILITY_REWRITE_SCHEDULED : DURABILITY_REWRITE_STARTED;
    }
    d->rewrite_scheduled = true;
    if (later || (s->stream != NULL && stream_in_group(s->stream)) || !can_rewrite(d))
        return DURABILITY_REWRITE_SCHEDULED;
    return begin_rewrite(d) ? DURABILITY_REWRITE_STARTED : DURABILITY_REWRITE_FAILED;
}

/* ---- for a backup ---- */

void durability_make_base(struct server *s, bool later)
{
    struct durability *d = s->durability;
    d->generation.retry_us = 0;
    if (d->generation.running && !d->generation.cancelled)
        backup_base_begun(s);
    else if (d->state == DURABILITY_ON)
        d->rewrite_scheduled = true;
    if (!later && !(s->stream != NULL && stream_in_group(s->stream)))
        step(d);
}

bool durability_end_file(struct server *s, struct error *err)
{
    struct durability *d = s->durability;
    struct error ignored;
    if (d->state != DURABILITY_ON || writer_state(d->writer) != WRITER_OPEN ||
        d->generation.running)
        return error_set(err, ERROR_INVALID, "the log is not in order now");
    durability_publish(s);
    writer_wait(d->writer, &ignored);
    writer_set_place(d->writer, replication_stream_db(s), s->replication->own);
    return generation_rotate(&d->generation, d->writer, NULL, err);
}

void durability_release(struct server *s)
{
    durability_wake(s->durability);
}

/* ---- what there is to do ---- */

/* Whatever there is to do now. Outside of any command. */
static void step(struct durability *d)
{
    struct error err = {0};
    if (d->server->loading || !durability_take_left(d))
        return;
    note_outcome(d, generation_step(&d->generation, d->writer));
    bool wanted = d->wanted || d->once || backup_in_progress(d->server);
    switch (d->state) {
    case DURABILITY_OFF:
        if (!wanted)
            break;
        d->temporary = !d->wanted && !d->once && generation_is_first(&d->generation);
        switch_on(d);
        break;
    case DURABILITY_CLOSING:
        if (writer_busy(d->writer))
            break;
        if (!writer_wait(d->writer, &err)) {
            log_warning("The log could not be closed: %s", err.message);
            hold_fail(d->server->hold, err.message);
        }
        log_notice("The log is off");
        drop_writer(d, true);
        /* So that a start without the log has what there is now. */
        if (!d->no_snapshot) {
            struct persistence *p = d->server->persistence;
            p->scheduled = true;
            snprintf(p->snapshots.reason, sizeof(p->snapshots.reason), "the log was switched off");
        }
        break;
    case DURABILITY_ON:
        log_directory_take_new(&d->directory, d->server->config->appenddirname);
        watch_writer(d);
        if (!wanted)
            switch_off(d);
        else if (can_rewrite(d) && rewrite_is_due(d))
            begin_rewrite(d);
        break;
    case DURABILITY_STARTING:
    case DURABILITY_FAILED:
        if (!wanted)
            switch_off(d);
        else if (!d->generation.running && !persistence_has_lost(d->server) &&
                 !writer_busy(d->writer) && generation_may_retry(&d->generation))
            note_outcome(d, begin_generation(d, GENERATION_ANEW));
        break;
    }
}

void durability_apply_config(struct server *s)
{
    struct durability *d = s->durability;
    const struct config *c = s->config;
    if (d->wanted && !c->appendonly)
        backup_log_broken(s, "appendonly is stopped");
    d->wanted = c->appendonly;
    if (d->wanted)
        d->temporary = d->no_snapshot = false;
    d->generation.keep_history = c->aof_disable_auto_gc;
    d->generation.keep_bytes = (uint64_t)c->repl_log_history;
    hold_update(s->hold);
    if (d->writer == NULL)
        return;
    writer_set_timestamps(d->writer, c->aof_timestamp_enabled);
    update_holding(d);
}

static bool takes_too_long(int64_t begin_us, int64_t most_us, struct error *err)
{
    if (most_us == 0 || clock_monotonic_us() - begin_us <= most_us)
        return false;
    error_set(err, ERROR_SYSTEM, "the log's disk is too slow");
    return true;
}

bool durability_settle(struct server *s, int64_t most_us, struct error *err)
{
    struct durability *d = s->durability;
    struct error ignored;
    if (d->left != NULL)
        return error_set(err, ERROR_INVALID, "the log waits for its disk");
    if (d->writer == NULL)
        return true;
    int64_t begin_us = clock_monotonic_us();
    durability_publish(s);
    for (;;) {
        if (most_us > 0 && d->generation.running && d->generation.kind == GENERATION_ANEW)
            return error_set(err, ERROR_INVALID, "the log begins anew");
        if (d->generation.kind == GENERATION_REWRITE)
            generation_cancel(&d->generation);
        if (most_us == 0)
            writer_wait(d->writer, &ignored);
        note_outcome(d, generation_step(&d->generation, d->writer));
        if (!d->generation.running && !writer_busy(d->writer))
            break;
        if (takes_too_long(begin_us, most_us, err))
            return false;
        os_sleep_us(1000);
    }
    while (writer_state(d->writer) == WRITER_OPEN &&
           writer_written_lsn(d->writer) < stream_published(s->stream)) {
        if (takes_too_long(begin_us, most_us, err))
            return false;
        os_sleep_us(1000);
    }
    if (d->state == DURABILITY_ON && writer_state(d->writer) == WRITER_OPEN)
        return true;
    return error_set(err, ERROR_INVALID, "the log does not have all that is in memory: it is %s",
                     d->state == DURABILITY_CLOSING ? "being closed"
                                                    : "not on, or its disk does not work");
}

void durability_note_replayed(struct server *s)
{
    s->durability->unlogged = false;
}

/* ---- start and end ---- */

void durability_init(struct server *s)
{
    struct durability *d = mem_zalloc(sizeof(*d));
    d->server = s;
    d->directory = (struct log_directory)LOG_DIRECTORY_FREE;
    s->durability = d;
    struct generation *g = &d->generation;
    generation_init(g, s->config->appenddirname, s->config->appendfilename, durability_wake, d);
    g->keep_history = s->config->aof_disable_auto_gc;
    g->keep_bytes = (uint64_t)s->config->repl_log_history;
    loop_add_timer(s->loop, TIMER_MS, on_timer, d);
    if (!manifest_read(&g->manifest, s->config->appenddirname, s->config->appendfilename,
                       &d->manifest_error) &&
        d->manifest_error.code == ERROR_NOT_FOUND)
        d->manifest_error = (struct error){0};
    generation_pass_numbers(g);
}

bool durability_may_start(struct server *s, struct error *err)
{
    const struct durability *d = s->durability;
    if (d->writer != NULL)
        return true;
    if (d->manifest_error.code == ERROR_NONE)
        return claim_directory(s->durability, err);
    *err = d->manifest_error;
    return false;
}

bool durability_start(struct server *s, const struct durability_position *at, struct error *err)
{
    struct durability *d = s->durability;
    d->wanted = true;
    d->lsn = at->lsn;
    if (at->history != NULL && at->history[0] != '\0')
        snprintf(d->history, sizeof(d->history), "%s", at->history);
    if (!new_writer(d, err))
        return false;
    if (at->no_base != NULL) {
        log_warning(
            "The data is there, but there is no room for the base of a log: writes are refused "
            "until there is some");
        writer_set_place(d->writer, at->db, at->own);
        set_refusal(d, at->no_base);
        set_state(d, DURABILITY_STARTING);
        generation_note_no_room(&d->generation);
        d->generation.retry_us = d->generation.room_us + d->generation.pause_us;
        return true;
    }
    d->content.commands = at->commands;
    d->content.bytes = at->command_bytes;
    struct generation_position position = {.manifest = at->manifest,
                                           .lsn = at->lsn,
                                           .chain = at->chain,
                                           .history = d->history,
                                           .cut = at->cut,
                                           .cut_at = at->cut_at};
    writer_set_place(d->writer, at->db, at->own);
    bool ok = generation_open(&d->generation, d->writer, &position, err);
    if (!ok && writer_state(d->writer) == WRITER_FULL && strcmp(d->history, s->run_id) != 0) {
        /* Keys may expire and replicas be told before anything on disk says that the history has
         * gone on: where it was closed another one begins, as after a crash. */
        memcpy(d->history, s->run_id, sizeof(d->history));
        ok = generation_open(&d->generation, d->writer, &position, err);
    }
    if (!ok && writer_state(d->writer) != WRITER_FULL) {
        drop_writer(d, true);
        return false;
    }
    if (!ok)
        log_warning(
            "The data is there, but there is no room to go on with the log: writes are refused "
            "until there is some");
    set_state(d, DURABILITY_ON);
    watch_writer(d);
    log_directory_take_new(&d->directory, s->config->appenddirname);
    return true;
}

void durability_deinit(struct server *s)
{
    struct durability *d = s->durability;
    bool hangs;
    if (!d->ended)
        durability_end(s, &hangs);
    while (!durability_take_left(d))
        os_sleep_us(1000);
    remove_temporary(d);
    d->temporary = false;
    generation_deinit(&d->generation);
    if (d->writer != NULL)
        drop_writer(d, true);
    log_directory_release(&d->directory);
    mem_free(d);
    s->durability = NULL;
}
