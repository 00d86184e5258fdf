/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/persistence.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include "persist/log/recovery_files.h"
#include "persist/log/stream.h"
#include "server/config.h"
#include "server/replication.h"
#include "server/durability.h"
#include "server/replay.h"
#include "server/scripting.h"

#define SCHEDULE_INTERVAL_MS 100

/* So long may a disk keep a save waiting unsaid, where shutdown-timeout gives no time. */
#define SILENT_MOST_S 10

/* How long a start waits for another server to let go of the log's directory. */
#define DIRECTORY_WAIT_US 10000000

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

/* Of all jobs that run, and of those to come. */
static void note_limits(const struct persistence *p)
{
    const struct config *c = p->server->config;
    struct save_limits *limits = &p->server->save_limits;
    __atomic_store_n(&limits->rate, (uint64_t)c->snapshot_rate_limit, __ATOMIC_RELAXED);
    __atomic_store_n(&limits->memory, snapshot_memory_limit(c), __ATOMIC_RELAXED);
}

void persistence_options(const struct server *s, struct save_options *options)
{
    const struct config *c = s->config;
    /* A share of the data is one of what they are now. */
    note_limits(s->persistence);
    *options = (struct save_options){
        .version = c->rdb_format_version == 0 ? 0 : (int)c->rdb_format_version + 6,
        .compress = c->rdbcompression,
        .checksum = c->rdbchecksum,
        .incremental_sync = c->rdb_save_incremental_fsync,
        .verify = c->rdb_verify,
        .threads = snapshot_threads(c),
        .rate_limit = (uint64_t)c->snapshot_rate_limit,
        .memory_limit = snapshot_memory_limit(c),
        .limits = &s->save_limits,
        .clock = RDB_CLOCK_NONE,
        .key_delay_us = c->rdb_key_save_delay,
        .silent_most_us = 1000000 * (c->shutdown_timeout > 0 ? c->shutdown_timeout : SILENT_MOST_S),
    };
    if (c->maxmemory_policy == POLICY_VOLATILE_LFU || c->maxmemory_policy == POLICY_ALLKEYS_LFU)
        options->clock = RDB_CLOCK_LFU;
    else if (c->maxmemory_policy == POLICY_VOLATILE_LRU ||
             c->maxmemory_policy == POLICY_ALLKEYS_LRU ||
             c->maxmemory_policy == POLICY_VOLATILE_LRM ||
             c->maxmemory_policy == POLICY_ALLKEYS_LRM)
        options->clock = RDB_CLOCK_LRU;
    snprintf(options->path, sizeof(options->path), "%s", c->dbfilename);
    /* Inside a transaction there is no position to name. */
    if (s->stream != NULL && !stream_in_group(s->stream)) {
        replication_put_aux(s, options, stream_end(s->stream));
        replication_put_lineage(s, options);
    }
}

void persistence_update(struct persistence *p)
{
    struct saver_status status;
    saver_get_status(p->saver, &status);
    const struct config *c = p->server->config;
    note_limits(p);
    bool failed = !status.last_ok || p->incremental_error[0] != '\0';
    p->refuse_writes = failed && c->stop_writes_on_bgsave_error &&
                       snapshots_are_scheduled(p->server);
    server_update_attention(p->server);
}

static uint64_t position(struct server *s)
{
    return durability_position(s);
}

static void full_begins(struct persistence *p, struct save_options *options)
{
    chain_keeper_enable(p->chain, p->server->config->snapshot_chain_max > 0);
    if (p->server->config->save_incremental)
        chain_keeper_want(p->chain);
    chain_keeper_full_begins(p->chain, options, position(p->server));
    durability_mark_snapshot(p->server, options);
    snapshots_note_begin(p->server, SNAPSHOT_FULL, options);
    p->saving = true;
}

/* Tell the chain how the full snapshot has ended, if there was one. */
static void note_full(struct persistence *p)
{
    if (!p->saving || saver_running(p->saver))
        return;
    struct saver_status status;
    saver_get_status(p->saver, &status);
    p->saving = false;
    bool ok = status.last_error[0] == '\0';
    chain_keeper_full_ended(p->chain, ok, &status.last);
    if (ok)
        p->incremental_error[0] = '\0';
    persistence_update(p);
    struct snapshot_done done = {.keys = status.last.keys,
                                 .bytes = status.last.file_size,
                                 .sync_us = status.last.sync_us};
    snapshots_note_end(p->server, SNAPSHOT_FULL, &done, ok ? NULL : status.last_error);
}

/* A cancelled one says nothing against the disk. */
static void incremental_failed(struct persistence *p, const char *error)
{
    snprintf(p->incremental_error, sizeof(p->incremental_error), "%s", error);
    persistence_update(p);
}

/* The same of an incremental one. */
static void note_incremental(struct persistence *p, bool taken)
{
    struct chain_keeper_status status;
    if (!p->snapshots.runs[SNAPSHOT_INCREMENTAL].running || chain_keeper_incremental(p->chain))
        return;
    chain_keeper_get_status(p->chain, &status);
    struct snapshot_done done = {.keys = status.last.keys,
                                 .deleted = status.last.deleted,
                                 .bytes = status.last.size,
                                 .file = status.last.name};
    if (taken || !status.last_cancelled)
        incremental_failed(p, taken ? "" : status.last_error);
    bool full_next = p->snapshots.full_next;
    snapshots_note_end(p->server, SNAPSHOT_INCREMENTAL, &done, taken ? NULL : status.last_error);
    /* The next can follow the same link. */
    if (!taken && status.last_cancelled)
        p->snapshots.full_next = full_next;
}

static void look_after_chain(struct persistence *p)
{
    struct chain_keeper_status status;
    int64_t most = p->server->config->snapshot_chain_max;
    chain_keeper_enable(p->chain, most > 0);
    bool taken = chain_keeper_poll(p->chain);
    note_incremental(p, taken);
    if (!taken)
        return;
    chain_keeper_get_status(p->chain, &status);
    if (most > 0 && status.chain->count > (size_t)most && !p->scheduled) {
        log_notice(
            "The chain of snapshots has %zu links, snapshot-chain-max is %lld: a full snapshot "
            "will take its place",
            status.chain->count, (long long)most);
        p->scheduled = true;
        snprintf(p->snapshots.reason, sizeof(p->snapshots.reason),
                 "the chain has become longer than snapshot-chain-max");
    }
}

static int64_t on_timer(void *ctx)
{
    struct persistence *p = ctx;
    if (saver_poll(p->saver))
        persistence_update(p);
    note_full(p);
    look_after_chain(p);
    snapshots_look(p->server);
    return SCHEDULE_INTERVAL_MS;
}

static void on_finished(void *ctx)
{
    struct persistence *p = ctx;
    if (saver_poll(p->saver))
        persistence_update(p);
    note_full(p);
    look_after_chain(p);
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
    p->chain = chain_keeper_new(s->ks, wake, p);
    chain_keeper_enable(p->chain, s->config->snapshot_chain_max > 0);
    s->persistence = p;
    note_limits(p);
    chain_keeper_set_limits(p->chain, &s->save_limits);
    snapshots_init(s);
    snapshots_config_changed(s, NULL);
    loop_add_timer(s->loop, SCHEDULE_INTERVAL_MS, on_timer, p);
}

void persistence_deinit(struct server *s)
{
    saver_free(s->persistence->saver);
    chain_keeper_free(s->persistence->chain);
    manifest_free(&s->persistence->recovered.manifest);
    snapshots_deinit(s);
    mem_free(s->persistence);
    s->persistence = NULL;
}

static enum chain_state find_chain(struct server *s, struct chain_found *found, struct error *err)
{
    const char *path = s->config->dbfilename;
    enum chain_state state = chain_find(found, path, err);
    if (state == CHAIN_PAST)
        log_notice(
            "The chain of snapshots beside '%s' is of an earlier full one: it is not looked at",
            path);
    return state;
}

/* The chain is broken: whether what can be restored of it is taken. */
static bool goes_on(struct server *s, const struct chain_found *found, struct error *err)
{
    char last[128] = "nothing", when[RECOVERY_MOMENT_SIZE];
    if (found->whole > 0 && found->chain.count > 0) {
        const struct chain_link *link = &found->chain.links[found->whole - 1];
        snprintf(last, sizeof(last), "links 1 to %zu, up to %s", found->whole,
                 recovery_moment(when, link->time_ms, link->lsn));
    } else if (found->whole > 0) {
        snprintf(last, sizeof(last), "the full snapshot alone");
    }
    log_warning("The chain of snapshots is broken: %s", err->message);
    log_warning("What can be restored: %s", last);
    if (found->whole == 0 || s->config->recovery_fallback != FALLBACK_SNAPSHOT) {
        if (found->whole > 0)
            log_warning(
                "`recovery-fallback snapshot` starts with that; what came after it is lost then");
        return false;
    }
    log_warning("recovery-fallback is snapshot: starting with that. What came after it is missing");
    *err = (struct error){0};
    return true;
}

/* Apply the deltas that are whole. */
static bool load_deltas(struct server *s, struct keyspace *ks, struct chain_found *found,
                        bool whole, struct rdb_load_stats *stats, struct error *err)
{
    struct persistence *p = s->persistence;
    struct rdb_load_options options = {
        .now_ms = s->ks->now_ms,
        .drop_expired = loading_drops_expired(s),
        .lru_now = s->ks->lru_clock,
    };
    int64_t begin_us = clock_monotonic_us();
    if (!chain_apply(&found->chain, found->whole, s->config->dbfilename, ks, &options, stats,
                     err)) {
        keyspace_flush(ks);
        return false;
    }
    stats->keys = 0;
    for (int i = 0; i < ks->db_count; i++)
        stats->keys += ks->dbs[i].table.count;
    if (found->whole > 1)
        log_notice("Applied %zu incremental snapshots in %.3f seconds", found->whole - 1,
                   (double)(clock_monotonic_us() - begin_us) / 1e6);
    chain_keeper_enable(p->chain, s->config->snapshot_chain_max > 0);
    if (whole && ks == s->ks)
        chain_keeper_loaded(p->chain, &found->chain, s->config->dbfilename);
    return true;
}

/* What was loaded is a full snapshot without deltas: the next incremental one can follow it when it
 * has an id. Its counts and SHA-256 are found then. */
static void continue_full(struct server *s, const struct rdb_load_stats *stats)
{
    struct persistence *p = s->persistence;
    struct chain chain = {0};
    struct chain_link link = {.kind = LINK_FULL, .time_ms = stats->created_ms};
    struct error ignored;
    const char *path = s->config->dbfilename;
    if (!link_read_id(path, link.id, &ignored) || link.id[0] == '\0')
        return;
    snprintf(link.name, sizeof(link.name), "%s", path);
    link.keys = stats->keys + stats->expired;
    chain_add(&chain, &link);
    chain_keeper_enable(p->chain, s->config->snapshot_chain_max > 0);
    chain_keeper_loaded(p->chain, &chain, path);
}

bool persistence_load_snapshot(struct server *s, struct keyspace *ks, struct rdb_load_stats *stats,
                               struct error *err)
{
    struct chain_found found;
    enum chain_state state = find_chain(s, &found, err);
    bool ok = state != CHAIN_BROKEN || goes_on(s, &found, err);
    ok = ok && loading_load_file(s, ks, stats, err);
    if (!ok && err->code == ERROR_NOT_FOUND && state != CHAIN_NONE)
        err->code = ERROR_CORRUPT; /* a chain without its first link is no empty server */
    if (ok && (state == CHAIN_WHOLE || state == CHAIN_BROKEN)) {
        ok = load_deltas(s, ks, &found, state == CHAIN_WHOLE, stats, err);
    } else if (ok && ks == s->ks) {
        continue_full(s, stats);
    }
    if (ok && state == CHAIN_BROKEN && ks == s->ks)
        chain_keeper_not_continued(s->persistence->chain, "the chain that there was is broken");
    chain_free(&found.chain);
    return ok;
}

static bool load_snapshot(struct server *s, struct error *err)
{
    struct persistence *p = s->persistence;
    struct rdb_load_stats stats;
    if (!persistence_load_snapshot(s, s->ks, &stats, err)) {
        if (err->code != ERROR_NOT_FOUND)
            return false;
        log_notice("No data to load: there is no '%s'", s->config->dbfilename);
        *err = (struct error){0};
        return true;
    }
    durability_note_loaded(s, &stats);
    p->loaded_keys = stats.keys;
    p->loaded_expired = stats.expired;
    if (stats.repl_id[0] != '\0') {
        memcpy(p->recovered.found_history, stats.repl_id, sizeof(stats.repl_id));
        p->recovered.lsn = (uint64_t)stats.repl_offset;
        p->recovered.stream_db = stats.stream_db;
        p->recovered.lineage = stats.lineage;
        p->recovered.own = stats.own;
    }
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

/* The server before this one may have closed its sockets and not yet its log. */
static bool take_directory(struct server *s, struct error *err)
{
    int64_t begin_us = clock_monotonic_us();
    bool said = false;
    while (!durability_lock(s, err)) {
        if (clock_monotonic_us() - begin_us > DIRECTORY_WAIT_US)
            return false;
        if (!said)
            log_notice("%s: waiting for it to end", err->message);
        said = true;
        os_sleep_us(10000);
    }
    return true;
}

bool persistence_load(struct server *s, struct error *err)
{
    struct config *c = s->config;
    /* Another server's temporary files, and the end of its log, are not what a crash has left. */
    if (c->appendonly && !take_directory(s, err))
        return false;
    saver_clean_temporary(c->dbfilename);
    if (!c->appendonly) {
        if (c->recover_until[0] != '\0')
            return error_set(err, ERROR_INVALID, "recover-until needs a log: appendonly is no");
        if (os_path_exists(c->appenddirname))
            log_warning(
                "There is a log in %s, but appendonly is no: it is not looked at, and falls "
                "behind",
                c->appenddirname);
    }
    loading_begin(s);
    bool ok = c->appendonly ? load_log(s, err) : load_snapshot(s, err);
    loading_end(s);
    ok = ok && library_set_load(s, err);
    if (!ok && err->code == ERROR_CANCELLED && s->stopping) {
        log_notice("The data was not loaded: the server is to stop");
        return true;
    }
    /* For this start alone: not to be written to a file by CONFIG REWRITE. */
    if (ok) {
        c->recover_until[0] = '\0';
        snapshots_loaded(s);
    }
    return ok;
}

bool persistence_has_lost(const struct server *s)
{
    return s->replication != NULL && s->is_replica && s->replication->link.data_lost;
}

/* What is in memory is at no position of any history, and what is on the disk is better. */
static bool has_nothing(const struct server *s, struct error *err)
{
    if (!persistence_has_lost(s))
        return false;
    error_set(
        err, ERROR_INVALID,
        "there is nothing to save: this replica's data is lost until its primary sends it anew. "
        "What is on the disk stays");
    return true;
}

bool persistence_save(struct server *s, struct error *err)
{
    struct save_options options;
    if (has_nothing(s, err))
        return false;
    persistence_options(s, &options);
    full_begins(s->persistence, &options);
    bool ok = saver_save(s->persistence->saver, &options, err);
    note_full(s->persistence);
    if (!ok)
        log_warning("Saving failed: %s", err->message);
    persistence_update(s->persistence);
    return ok;
}

bool persistence_begin_save(struct server *s, struct error *err)
{
    struct save_options options;
    if (has_nothing(s, err))
        return false;
    persistence_options(s, &options);
    full_begins(s->persistence, &options);
    bool ok = saver_begin(s->persistence->saver, &options, err);
    if (!ok) {
        note_full(s->persistence);
        log_warning("Background saving could not be started: %s", err->message);
        persistence_update(s->persistence);
    }
    return ok;
}

bool persistence_begin_incremental(struct server *s, struct error *err)
{
    struct persistence *p = s->persistence;
    struct save_options options;
    if (has_nothing(s, err))
        return false;
    persistence_options(s, &options);
    chain_keeper_enable(p->chain, s->config->snapshot_chain_max > 0);
    /* What the chain has to say against it is said before a number is given out. */
    if (chain_keeper_busy(p->chain) || chain_keeper_cannot(p->chain) != NULL)
        return chain_keeper_begin(p->chain, &options, position(s), err);
    durability_mark_snapshot(s, &options);
    snapshots_note_begin(s, SNAPSHOT_INCREMENTAL, &options);
    bool ok = chain_keeper_begin(p->chain, &options, position(s), err);
    if (!ok) {
        snapshots_note_end(s, SNAPSHOT_INCREMENTAL, NULL, err->message);
        incremental_failed(p, err->message);
    }
    return ok;
}

void persistence_give_up(struct server *s)
{
    struct persistence *p = s->persistence;
    if (saver_running(p->saver)) {
        log_notice("A background save is running: it is given up");
        saver_cancel(p->saver);
        saver_wait(p->saver);
        note_full(p);
    }
    if (chain_keeper_busy(p->chain)) {
        chain_keeper_cancel(p->chain);
        note_incremental(p, chain_keeper_wait(p->chain));
    }
}

bool persistence_saves_at_end(const struct server *s, int bits)
{
    bool wanted = bits & SHUTDOWN_BIT_SAVE || snapshots_are_scheduled(s);
    return wanted && !(bits & SHUTDOWN_BIT_NOSAVE) && !s->loading;
}

bool persistence_shutdown(struct server *s, int bits)
{
    struct persistence *p = s->persistence;
    persistence_give_up(s);
    if (!persistence_saves_at_end(s, bits))
        return true;
    struct error err = {0};
    if (has_nothing(s, &err)) {
        log_warning("Not saved before exiting: %s", err.message);
        return !(bits & SHUTDOWN_BIT_SAVE) || bits & SHUTDOWN_BIT_FORCE;
    }
    log_notice("Saving before exiting");
    snprintf(p->snapshots.reason, sizeof(p->snapshots.reason), "the server ends");
    if (persistence_save(s, &err))
        return true;
    return bits & SHUTDOWN_BIT_FORCE;
}
