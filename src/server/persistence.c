/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/persistence.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include "server/config.h"
#include "server/replay.h"

#define SCHEDULE_INTERVAL_MS 100
/* After a save that failed the schedule waits so long before it tries again. */
#define RETRY_SECONDS 5

/* Below this much held memory nothing hurries or is given up, however little data there is. */
#define MEMORY_LIMIT_FLOOR (64 << 20)

/* One core is left to the executor. */
static int snapshot_threads(const struct config *c)
{
    int cores = os_processor_count();
    if (c->snapshot_threads > 0)
        return (int)c->snapshot_threads;
    return cores > 1 ? cores - 1 : 1;
}

/* A share is one of maxmemory if there is one, else of what is in use now. */
static uint64_t snapshot_memory_limit(const struct config *c)
{
    if (c->snapshot_memory_limit >= 0)
        return (uint64_t)c->snapshot_memory_limit;
    uint64_t whole = c->maxmemory > 0 ? (uint64_t)c->maxmemory : mem_used();
    uint64_t limit = whole / 100 * (uint64_t)-c->snapshot_memory_limit;
    return limit > MEMORY_LIMIT_FLOOR ? limit : MEMORY_LIMIT_FLOOR;
}

void persistence_options(const struct server *s, struct save_options *options)
{
    const struct config *c = s->config;
    *options = (struct save_options){
        .version = (int)c->rdb_format_version,
        .compress = c->rdbcompression,
        .checksum = c->rdbchecksum,
        .incremental_sync = c->rdb_save_incremental_fsync,
        .verify = c->rdb_verify,
        .threads = snapshot_threads(c),
        .rate_limit = (uint64_t)c->snapshot_rate_limit,
        .memory_limit = snapshot_memory_limit(c),
        .clock = RDB_CLOCK_NONE,
        .key_delay_us = c->rdb_key_save_delay,
    };
    if (c->maxmemory_policy == POLICY_VOLATILE_LFU || c->maxmemory_policy == POLICY_ALLKEYS_LFU)
        options->clock = RDB_CLOCK_LFU;
    else if (c->maxmemory_policy == POLICY_VOLATILE_LRU ||
             c->maxmemory_policy == POLICY_ALLKEYS_LRU)
        options->clock = RDB_CLOCK_LRU;
    snprintf(options->path, sizeof(options->path), "%s", c->dbfilename);
}

void persistence_update(struct persistence *p)
{
    struct saver_status status;
    saver_get_status(p->saver, &status);
    const struct config *c = p->server->config;
    p->refuse_writes = !status.last_ok && c->stop_writes_on_bgsave_error && c->save_count > 0;
    server_update_attention(p->server);
}

static bool is_due(struct persistence *p)
{
    struct saver_status status;
    saver_get_status(p->saver, &status);
    int64_t now = p->server->ks->now_ms / 1000;
    if (!status.last_ok && now - status.last_attempt_s <= RETRY_SECONDS)
        return false;
    const struct config *c = p->server->config;
    for (int i = 0; i < c->save_count; i++) {
        const struct save_point *point = &c->save[i];
        if (p->server->ks->dirty >= (uint64_t)point->changes &&
            now - status.last_save_s > point->seconds) {
            log_notice("%lld changes in %lld seconds. Saving...", (long long)point->changes,
                       (long long)point->seconds);
            return true;
        }
    }
    return false;
}

static int64_t on_timer(void *ctx)
{
    struct persistence *p = ctx;
    if (saver_poll(p->saver))
        persistence_update(p);
    if (!p->server->loading && !saver_running(p->saver) && (p->scheduled || is_due(p))) {
        struct error err = {0};
        p->scheduled = false;
        persistence_begin_save(p->server, &err);
    }
    return SCHEDULE_INTERVAL_MS;
}

static void on_finished(void *ctx)
{
    struct persistence *p = ctx;
    if (saver_poll(p->saver))
        persistence_update(p);
}

/* On the saver's thread. */
static void wake(void *ctx)
{
    struct persistence *p = ctx;
    loop_post(p->server->loop, on_finished, p);
}

void persistence_init(struct server *s)
{
    struct persistence *p = mem_zalloc(sizeof(*p));
    p->server = s;
    p->saver = saver_new(s->ks, wake, p);
    s->persistence = p;
    loop_add_timer(s->loop, SCHEDULE_INTERVAL_MS, on_timer, p);
}

void persistence_deinit(struct server *s)
{
    saver_free(s->persistence->saver);
    manifest_free(&s->persistence->recovered.manifest);
    mem_free(s->persistence);
    s->persistence = NULL;
}

static bool load_snapshot(struct server *s, struct error *err)
{
    struct persistence *p = s->persistence;
    struct rdb_load_stats stats;
    bool ok = loading_load_file(s, s->ks, &stats, err);
    if (!ok) {
        if (err->code != ERROR_NOT_FOUND)
            return false;
        log_notice("No data to load: there is no '%s'", s->config->dbfilename);
        *err = (struct error){0};
        return true;
    }
    p->loaded_keys = stats.keys;
    p->loaded_expired = stats.expired;
    saver_note_loaded(p->saver);
    return true;
}

static bool load_log(struct server *s, struct error *err)
{
    struct persistence *p = s->persistence;
    struct recovery_result *r = &p->recovered;
    if (!replay_log(s, r, err))
        return false;
    p->loaded_keys = r->rdb_keys;
    p->loaded_expired = r->rdb_expired;
    saver_note_loaded(p->saver);
    return true;
}

bool persistence_load(struct server *s, struct error *err)
{
    struct config *c = s->config;
    saver_clean_temporary(c->dbfilename);
    if (!c->appendonly) {
        if (c->recover_until[0] != '\0')
            return error_set(err, ERROR_INVALID, "recover-until needs a log: appendonly is no");
        if (os_path_exists(c->appenddirname))
            log_warning("There is a log in %s, but appendonly is no: it is not looked at, and falls "
                        "behind",
                        c->appenddirname);
    }
    loading_begin(s);
    bool ok = c->appendonly ? load_log(s, err) : load_snapshot(s, err);
    loading_end(s);
    if (!ok && err->code == ERROR_CANCELLED && s->stopping) {
        log_notice("The data was not loaded: the server is to stop");
        return true;
    }
    /* For this start alone: not to be written to a file by CONFIG REWRITE. */
    if (ok)
        c->recover_until[0] = '\0';
    return ok;
}

bool persistence_save(struct server *s, struct error *err)
{
    struct save_options options;
    persistence_options(s, &options);
    bool ok = saver_save(s->persistence->saver, &options, err);
    if (!ok)
        log_warning("Saving failed: %s", err->message);
    persistence_update(s->persistence);
    return ok;
}

bool persistence_begin_save(struct server *s, struct error *err)
{
    struct save_options options;
    persistence_options(s, &options);
    bool ok = saver_begin(s->persistence->saver, &options, err);
    if (!ok) {
        log_warning("Background saving could not be started: %s", err->message);
        persistence_update(s->persistence);
    }
    return ok;
}

bool persistence_shutdown(struct server *s, int bits)
{
    struct persistence *p = s->persistence;
    if (saver_running(p->saver)) {
        log_notice("A background save is running: it is given up");
        saver_cancel(p->saver);
        saver_wait(p->saver);
    }
    bool wanted = bits & SHUTDOWN_BIT_SAVE || s->config->save_count > 0;
    if (bits & SHUTDOWN_BIT_NOSAVE || !wanted || s->loading)
        return true;
    log_notice("Saving before exiting");
    struct error err = {0};
    if (persistence_save(s, &err))
        return true;
    return bits & SHUTDOWN_BIT_FORCE;
}
