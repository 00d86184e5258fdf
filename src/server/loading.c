/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/loading.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "keyspace/libraries.h"
#include "os/process.h"
#include "persist/load.h"
#include "server/batch.h"
#include "server/config.h"
#include "server/persistence.h"
#include "server/replay.h"
#include "server/scripting.h"

#define LOG_INTERVAL_US 2000000
/* Threads are not worth their start for less. */
#define THREADS_MIN_SIZE (1U << 20)

static struct loading *loading_of(const struct server *s)
{
    return &s->persistence->loading;
}

void loading_begin(struct server *s)
{
    server_update_clock(s);
    *loading_of(s) = (struct loading){
        .start_s = s->ks->now_ms / 1000, .start_us = s->now_us, .logged_us = s->now_us};
    server_set_loading(s, true);
}

void loading_set_beside(struct server *s, enum loading_beside how)
{
    if (s->loading_beside == how)
        return;
    if (s->loading_beside == BESIDE_NONE)
        *loading_of(s) = (struct loading){
            .start_s = s->ks->now_ms / 1000, .start_us = s->now_us, .logged_us = s->now_us};
    s->loading_beside = how;
    server_update_attention(s);
}

void loading_note_beside(struct server *s, uint64_t done, uint64_t size)
{
    loading_of(s)->done = done;
    loading_of(s)->size = size;
}

void loading_end(struct server *s)
{
    struct loading *l = loading_of(s);
    server_set_loading(s, false);
    server_update_clock(s);
    l->stats = NULL;
}

int64_t loading_eta_s(const struct loading *l)
{
    if (l->done == 0)
        return 1;
    double passed = (double)(clock_monotonic_us() - l->start_us) / 1e6;
    double left = l->size > l->done ? (double)(l->size - l->done) : 0;
    return (int64_t)(passed * left / (double)l->done);
}

void loading_tell(struct server *s, uint64_t done, uint64_t size, uint64_t keys)
{
    struct loading *l = loading_of(s);
    l->done = done;
    l->size = size;
    l->keys = keys;
    int64_t now = clock_monotonic_us();
    if (now - l->logged_us >= LOG_INTERVAL_US) {
        l->logged_us = now;
        char count[40] = "";
        if (keys > 0)
            snprintf(count, sizeof(count), ", %llu keys", (unsigned long long)keys);
        log_notice("Loading: %.1f %% of %llu bytes%s, about %lld seconds to go",
                   size ? 100 * (double)done / (double)size : 0, (unsigned long long)size, count,
                   (long long)loading_eta_s(l));
    }
    server_serve_while_busy(s, 0);
}

static void on_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct server *s = ctx;
    const struct rdb_load_stats *stats = loading_of(s)->stats;
    loading_tell(s, done, size, stats ? stats->keys : 0);
}

static void on_wait(void *ctx, int ms)
{
    server_serve_while_busy(ctx, ms);
}

/* On a loading thread. */
static void on_wake(void *ctx)
{
    struct server *s = ctx;
    loop_wake(s->loop);
}

/* At the start the server is not yet what it is told to be. */
bool loading_drops_expired(const struct server *s)
{
    return !s->is_replica && s->config->replicaof_host[0] == '\0';
}

void loading_options(struct server *s, struct rdb_load_options *options,
                     const struct rdb_load_stats *stats)
{
    const struct config *c = s->config;
    loading_of(s)->stats = stats;
    *options = (struct rdb_load_options){
        .now_ms = s->ks->now_ms,
        .drop_expired = loading_drops_expired(s),
        .checksum = c->rdbchecksum,
        .lru_now = s->ks->lru_clock,
        .progress = on_progress,
        .progress_ctx = s,
        .key_delay_us = c->key_load_delay,
        .threads = c->load_threads > 0 ? (int)c->load_threads : os_processor_count(),
        .threads_min_size = c->load_threads > 0 ? 0 : THREADS_MIN_SIZE,
        .wait = on_wait,
        .wake = on_wake,
        .wait_ctx = s,
        .cancel = &s->stopping,
    };
}

bool loading_load_file(struct server *s, struct keyspace *ks, struct rdb_load_stats *stats,
                       struct error *err)
{
    struct rdb_load_options options;
    const char *path = s->config->dbfilename;
    int64_t begin_us = clock_monotonic_us();
    *stats = (struct rdb_load_stats){0};
    loading_options(s, &options, stats);
    bool ok = load_rdb_file(ks, path, &options, stats, err);
    loading_of(s)->stats = NULL;
    if (!ok)
        return false;
    if (ks == s->ks)
        snapshots_note_load(s, loading_of(s)->size, stats->keys, clock_monotonic_us() - begin_us);
    char how[64] = "";
    if (stats->threads > 0)
        snprintf(how, sizeof(how), ", by %d threads%s", stats->threads,
                 stats->indexed ? " and the file's index" : "");
    log_notice("Loaded %llu keys (%llu had expired) from '%s', RDB version %d, in %.3f seconds%s",
               (unsigned long long)stats->keys, (unsigned long long)stats->expired, path,
               stats->version, (double)(clock_monotonic_us() - begin_us) / 1e6, how);
    return true;
}

static bool reload_beside(struct server *s, bool merge, struct error *err)
{
    struct rdb_load_stats stats;
    struct keyspace *beside = load_beside(s->ks);
    bool ok =
        persistence_load_snapshot(s, beside, &stats, err) && load_merge(s->ks, beside, merge, err);
    keyspace_free(beside);
    return ok;
}

bool loading_reload(struct server *s, struct client *c, bool flush, bool merge, struct error *err)
{
    struct rdb_load_stats stats;
    if (flush)
        keyspace_flush(s->ks);
    loading_begin(s);
    batch_step_aside(s, c);
    bool ok =
        flush ? persistence_load_snapshot(s, s->ks, &stats, err) : reload_beside(s, merge, err);
    batch_step_back(s);
    loading_end(s);
    ok = ok && library_set_load(s, err);
    if (ok && flush)
        saver_note_loaded(s->persistence->saver);
    return ok;
}

/* For the log to be replayed into. */
static void give_up_data(struct server *s)
{
    keyspace_flush(s->ks);
    libraries_replace(&s->ks->libraries, NULL);
}

bool loading_reload_log(struct server *s, struct client *c, struct error *err)
{
    give_up_data(s);
    loading_begin(s);
    batch_step_aside(s, c);
    bool ok = replay_log_again(s, err);
    batch_step_back(s);
    loading_end(s);
    ok = ok && library_set_load(s, err);
    if (ok)
        saver_note_loaded(s->persistence->saver);
    return ok;
}

bool loading_cut_back(struct server *s, uint64_t lsn, int *db, struct error *err)
{
    give_up_data(s);
    loading_begin(s);
    bool ok = replay_log_until(s, lsn, db, err);
    loading_end(s);
    /* A library that cannot be used is data all the same. */
    library_set_update(s);
    return ok;
}
