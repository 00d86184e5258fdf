/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup.h"
#include "server/server.h"

#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "command/table.h"
#include "os/crash.h"
#include "os/process.h"
#include "os/thread.h"
#include "persist/log/stream.h"
#include "keyspace/evict.h"
#include "server/acl.h"
#include "server/batch.h"
#include "server/blocked.h"
#include "server/client.h"
#include "server/config.h"
#include "server/defragment.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/hotkeys.h"
#include "server/memory_limit.h"
#include "server/metrics_listener.h"
#include "server/migrate.h"
#include "server/persistence.h"
#include "server/pubsub.h"
#include "server/quorum.h"
#include "server/replication.h"
#include "server/scripting.h"
#include "server/secure.h"
#include "server/slowlog.h"
#include "server/tracking.h"
#include "server/transaction.h"

#define CRON_MS 100
/* A turn of so many ready clients is split, where turns are. */
#define SPLIT_FROM 24
/* Active expiry: one step, and the least time from one step to the next while more is due, at
 * active-expire-effort 1; at effort n it is the n-th part. */
#define EXPIRE_STEP_US 250
#define EXPIRE_GAP_US 1000
/* The largest argument that is taken, whatever proto-max-bulk-len says. */
#define BULK_MAX ((INT64_C(4) << 30) - (1 << 20))
/* Descriptors besides the clients': files, listeners, pipes. */
#define DESCRIPTORS_RESERVED 32

void server_update_clock(struct server *s)
{
    s->now_us = clock_monotonic_us();
    s->ks->now_ms = s->ks->wall_ms = clock_wall_ms();
    s->ks->lru_clock = (uint32_t)(s->ks->now_ms / 1000) & 0xffffff;
}

void server_update_attention(struct server *s)
{
    s->attention = s->loading || s->loading_beside != BESIDE_NONE || s->busy != NULL ||
                   s->out_of_memory || server_is_paused(s) ||
                   (s->persistence != NULL && s->persistence->refuse_writes) ||
                   durability_attention(s) || (s->replication != NULL && replication_attention(s));
}

void server_update_hooks(struct server *s)
{
    s->hooks.wanted = s->watches->count != 0 || s->limits.notify_events || tracking_wanted(s) ||
                      s->hold_replies || blocked_has_keys(s->blocked);
}

void server_set_loading(struct server *s, bool loading)
{
    s->loading = loading;
    server_update_attention(s);
}

/* By enum event_class. */
static const int notify_bits[] = {
    [EVENT_GENERIC] = NOTIFY_GENERIC, [EVENT_STRING] = NOTIFY_STRING, [EVENT_LIST] = NOTIFY_LIST,
    [EVENT_SET] = NOTIFY_SET,         [EVENT_HASH] = NOTIFY_HASH,     [EVENT_ZSET] = NOTIFY_ZSET,
    [EVENT_NEW_KEY] = NOTIFY_NEW,     [EVENT_STREAM] = NOTIFY_STREAM,
};

static void on_changed(struct call *c, struct db *db, struct slice key, int event_class,
                       const char *event)
{
    struct server *s = c->server;
    if (s->watches->count != 0 && !(event_class & EVENT_KEEPS_WATCH))
        watch_touch(s, db, key, call_hash(c, key));
    if (s->limits.notify_events && event != NULL) {
        hold_set_changing(s->hold, true);
        pubsub_notify(s, notify_bits[event_class & ~EVENT_KEEPS_WATCH], event, key, db->id);
        hold_set_changing(s->hold, false);
    }
    if (tracking_wanted(s) && !(event_class & EVENT_KEEPS_WATCH))
        tracking_changed(s, c->client, key);
    if (s->hold_replies)
        hold_note_change(s->hold, db, call_hash(c, key));
    if (blocked_has_keys(s->blocked))
        blocked_signal(s, db, key, call_hash(c, key));
}

void server_key_gone(struct server *s, struct db *db, struct slice key, int notify_class,
                     const char *event)
{
    if (s->hold_replies)
        hold_note_change(s->hold, db, key_hash(key));
    blocked_signal_gone(s, db, key);
    if (s->stream != NULL) {
        const struct slice effect[] = {SLICE("DEL"), key};
        stream_append(s->stream, db->id, effect, 2);
    }
    if (s->limits.notify_events)
        pubsub_notify(s, notify_class, event, key, db->id);
    if (tracking_wanted(s))
        tracking_changed(s, NULL, key);
}

static void on_expire(void *ctx, struct db *db, struct slice key)
{
    watch_touch_expired(ctx, db, key);
    server_key_gone(ctx, db, key, NOTIFY_EXPIRED, "expired");
}

/* Fields of a hash are about to go, as they have expired. */
static void on_fields_expire(void *ctx, struct db *db, struct slice key, const struct slice *fields,
                             size_t count, bool last)
{
    struct server *s = ctx;
    watch_touch(s, db, key, key_hash(key));
    if (s->hold_replies)
        hold_note_change(s->hold, db, key_hash(key));
    if (last)
        blocked_signal_gone(s, db, key);
    for (size_t done = 0; s->stream != NULL && done < count;) {
        struct slice effect[2 + 64] = {SLICE("HDEL"), key};
        int n = 2;
        while (done < count && n < (int)(sizeof(effect) / sizeof(effect[0])))
            effect[n++] = fields[done++];
        stream_append(s->stream, db->id, effect, n);
    }
    if (s->limits.notify_events) {
        pubsub_notify(s, NOTIFY_HASH, "hexpired", key, db->id);
        if (last)
            pubsub_notify(s, NOTIFY_GENERIC, "del", key, db->id);
    }
    if (tracking_wanted(s))
        tracking_changed(s, NULL, key);
}

static void on_miss(void *ctx, struct db *db, struct slice key)
{
    pubsub_notify(ctx, NOTIFY_KEY_MISS, "keymiss", key, db->id);
}

/* What stands in the table of limits is read for each request: it must not be looked for. */
void server_apply_config(struct server *s)
{
    const struct config *c = s->config;
    struct server_limits *l = &s->limits;
    /* The sizes of keys and members are kept in 32 bits, with some bytes around them. */
    l->bulk_max = c->proto_max_bulk_len < BULK_MAX ? c->proto_max_bulk_len : BULK_MAX;
    l->query_buffer_max = (uint64_t)c->client_query_buffer_limit;
    scripting_configure(s->scripting);
    l->maxclients = (uint64_t)c->maxclients;
    l->timeout_seconds = c->timeout;
    l->tcp_keepalive_seconds = (int)c->tcp_keepalive;
    l->protected_mode = c->protected_mode;
    if (strcmp(c->requirepass, s->password_applied) != 0) {
        mem_free(s->password_applied);
        s->password_applied = mem_dup(c->requirepass, strlen(c->requirepass));
        acl_set_password(s->acl, slice_cstr(c->requirepass));
    }
    l->password_set = !acl_user_is_open(acl_default_user(s->acl));
    l->notify_events = c->notify != 0;
    l->track_latency = c->latency_tracking;
    for (int i = 0; i < CLIENT_CLASSES; i++) {
        const struct config_output_limit *from = &c->output_limits[i];
        l->output[i] = (struct output_limit){.hard_bytes = (uint64_t)from->hard_bytes,
                                             .soft_bytes = (uint64_t)from->soft_bytes,
                                             .soft_seconds = from->soft_seconds};
    }
    struct encoding_limits *e = &s->ks->limits;
    e->hash_max_listpack_entries = c->hash_max_listpack_entries;
    e->hash_max_listpack_value = c->hash_max_listpack_value;
    e->set_max_intset_entries = c->set_max_intset_entries;
    e->set_max_listpack_entries = c->set_max_listpack_entries;
    e->set_max_listpack_value = c->set_max_listpack_value;
    e->zset_max_listpack_entries = c->zset_max_listpack_entries;
    e->zset_max_listpack_value = c->zset_max_listpack_value;
    e->list_max_listpack_size = c->list_max_listpack_size;
    e->list_compress_depth = c->list_compress_depth;
    e->hll_sparse_max_bytes = c->hll_sparse_max_bytes;
    e->stream_node_max_bytes = c->stream_node_max_bytes;
    e->stream_node_max_entries = c->stream_node_max_entries;
    s->ks->string_size_max = (uint64_t)c->proto_max_bulk_len;
    s->ks->lfu =
        c->maxmemory_policy == POLICY_VOLATILE_LFU || c->maxmemory_policy == POLICY_ALLKEYS_LFU;
    s->ks->lrm =
        c->maxmemory_policy == POLICY_VOLATILE_LRM || c->maxmemory_policy == POLICY_ALLKEYS_LRM;
    s->ks->lfu_log_factor = (int32_t)c->lfu_log_factor;
    s->ks->lfu_decay_minutes = (int32_t)c->lfu_decay_time;
    s->ks->importing = c->import_mode;
    s->ks->later_rdb = c->rdb_version_check != 0;
    listeners_set_accepts(s->listeners, (int)c->max_new_connections_per_cycle,
                          (int)c->max_new_tls_connections_per_cycle);
    server_update_hooks(s);
    if (s->durability != NULL)
        durability_apply_config(s);
    if (s->replication != NULL)
        replication_apply_config(s);
    slowlog_update(s);
    crash_set_enabled(c->crash_log_enabled);
    crash_set_exit(c->use_exit_on_panic);
    evictor_reset(s->evictor);
    memory_limit_check(s);
    s->ks->on_miss = c->notify & NOTIFY_KEY_MISS ? on_miss : NULL;
    s->ks->on_miss_ctx = s;
    /* Clients that the system has no descriptors for would be refused without a word. */
    size_t have = descriptor_limit_raise((size_t)l->maxclients + DESCRIPTORS_RESERVED);
    if (have < l->maxclients + DESCRIPTORS_RESERVED && have > DESCRIPTORS_RESERVED) {
        log_warning("maxclients is lowered to %zu: the limit of open files is %zu",
                    have - DESCRIPTORS_RESERVED, have);
        l->maxclients = have - DESCRIPTORS_RESERVED;
    }
}

/* Those that were put off go on; who has to wait still is put off again. */
static void end_pause(struct server *s)
{
    server_update_attention(s);
    if (s->clients.blocked_count == 0)
        return;
    for (struct client *c = s->clients.first; c != NULL; c = c->next)
        client_unblock(c);
}

static int64_t pause_timer(void *ctx)
{
    struct server *s = ctx;
    if (s->pause.until_ms != 0) {
        int64_t left = s->pause.until_ms - s->ks->now_ms;
        if (left > 0)
            return left;
        s->pause.until_ms = 0;
        end_pause(s);
    }
    s->pause_timer = NULL;
    return 0;
}

void server_pause(struct server *s, int64_t until_ms, bool all)
{
    /* A later pause can only make it stricter and longer. */
    if (s->pause.until_ms == 0)
        s->pause.all = false;
    s->pause.all |= all;
    if (until_ms > s->pause.until_ms)
        s->pause.until_ms = until_ms;
    server_update_attention(s);
    int64_t left = s->pause.until_ms - s->ks->now_ms;
    if (s->pause_timer == NULL)
        s->pause_timer = loop_add_timer(s->loop, left > 0 ? left : 1, pause_timer, s);
}

void server_unpause(struct server *s)
{
    if (s->pause.until_ms == 0)
        return;
    s->pause.until_ms = 0;
    end_pause(s);
}

static void set_pause(struct server *s, bool *reason, bool pause)
{
    if (*reason == pause)
        return;
    *reason = pause;
    if (pause)
        server_update_attention(s);
    else
        end_pause(s);
}

void server_pause_failover(struct server *s, bool pause)
{
    set_pause(s, &s->pause.failover, pause);
}

void server_pause_shutdown(struct server *s, bool pause)
{
    set_pause(s, &s->pause.shutdown, pause);
}

void server_pause_quorum(struct server *s, bool pause)
{
    set_pause(s, &s->pause.quorum, pause);
}

static void expire_some(struct server *s);

/* While more is due and nobody sends anything: steps with a gap between them. */
static int64_t expire_timer(void *ctx)
{
    struct server *s = ctx;
    if (s->expire_more && s->now_us >= s->expire_next_us)
        expire_some(s);
    if (s->expire_more)
        return 1;
    s->expire_timer_set = false;
    return 0;
}

static void expire_some(struct server *s)
{
    if (s->expire_disabled || s->loading || s->is_replica || server_is_paused(s) ||
        s->ks->importing) {
        s->expire_more = false;
        return;
    }
    s->expire_more = keyspace_expire_step(s->ks, EXPIRE_STEP_US, clock_monotonic_us);
    s->expire_next_us = s->now_us;
    if (s->expire_more) {
        s->expire_next_us += EXPIRE_GAP_US / s->config->active_expire_effort;
        if (!s->expire_timer_set)
            loop_add_timer(s->loop, 1, expire_timer, s);
        s->expire_timer_set = true;
    } else if (keyspace_has_due(s->ks)) {
        /* A bound that is too low, and that a snapshot keeps as it is: not to be looked at
         * always. */
        s->expire_next_us += CRON_MS * 1000;
    }
}

static void sample_rates(struct server *s)
{
    struct server_stats *st = &s->stats;
    int64_t passed = s->now_us - st->rate.last_us;
    if (passed <= 0)
        return;
    unsigned at = st->rate.at++ % 16;
    uint64_t us = (uint64_t)passed;
    st->rate.commands[at] = (st->commands_processed - st->rate.last_commands) * 1000000 / us;
    st->rate.input[at] = (st->input_bytes - st->rate.last_input) * 1000000 / us;
    st->rate.output[at] = (st->output_bytes - st->rate.last_output) * 1000000 / us;
    st->rate.last_us = s->now_us;
    st->rate.last_commands = st->commands_processed;
    st->rate.last_input = st->input_bytes;
    st->rate.last_output = st->output_bytes;
}

static uint64_t mean(const uint64_t samples[16])
{
    uint64_t sum = 0;
    for (int i = 0; i < 16; i++)
        sum += samples[i];
    return sum / 16;
}

uint64_t server_commands_per_second(const struct server *s)
{
    return mean(s->stats.rate.commands);
}

uint64_t server_input_per_second(const struct server *s)
{
    return mean(s->stats.rate.input);
}

uint64_t server_output_per_second(const struct server *s)
{
    return mean(s->stats.rate.output);
}

void server_reset_stats(struct server *s)
{
    struct server_stats *old = &s->stats;
    struct server_stats fresh = {.start_ms = old->start_ms,
                                 .start_us = old->start_us,
                                 .commands = old->commands,
                                 .cycles_at_start = old->cycles_at_start};
    fresh.rate.last_us = s->now_us;
    for (int i = 0; i < command_count; i++)
        mem_free(fresh.commands[i].latency);
    memset(fresh.commands, 0, (size_t)command_count * sizeof(*fresh.commands));
    *old = fresh;
    s->ks->hit_count = s->ks->miss_count = s->ks->expired_count = 0;
    s->ks->expired_fields = 0;
    defragment_reset_stats(s->defragment);
    struct replication *r = s->replication;
    r->sync_full = r->sync_partial_ok = r->sync_partial_err = r->sync_partial_disk = 0;
}

static int64_t cron(void *ctx)
{
    struct server *s = ctx;
    s->cron_count++;
    sample_rates(s);
    clients_cron(s);
    memory_limit_check(s);
    memory_limit_clients(s);
    defragment_cron(s->defragment);
    shutdown_step(s);
    backup_look(s);
    if (s->cron_count % 100 == 1)
        slowlog_update(s);
    if (s->cron_count % 10 == 0)
        mem_note_peak();
    migrate_cache_cron(s->migrate, s->now_us);
    if (!s->expire_more)
        expire_some(s);
    return CRON_MS;
}

/* Keys that have become due go before the commands of this turn, so that DBSIZE, say, need not wait
 * for the cron. */
static void turn_begin(void *ctx)
{
    struct server *s = ctx;
    os_polite_note_processor();
    server_update_clock(s);
    durability_begin_turn(s);
    if (s->now_us >= s->expire_next_us && (s->expire_more || keyspace_has_due(s->ks)))
        expire_some(s);
    defragment_begin_turn(s->defragment);
    if (s->clients.tls_pending != NULL)
        secure_read_pending(s);
}

static void serve(struct server *s)
{
    batch_run(s);
    if (s->interrupted == NULL)
        durability_look(s);
    tracking_end_turn(s);
    if (s->replication->replicas != NULL)
        replication_feed(s);
    if (failover_is_on(&s->replication->failover))
        failover_step(s);
    if (__builtin_expect(s->shutdown.waiting, 0))
        shutdown_step(s);
    clients_write(s);
    batch_end_turn(s);
    if (s->clients.closing != NULL)
        clients_free_closing(s);
}

static void turn_middle(void *ctx)
{
    serve(ctx);
}

/* What snapshots held and need no more, as far as it is for the executor to look at: a few
 * microseconds each turn. */
#define RECLAIM_EACH_TURN 64

static bool turn_end(void *ctx)
{
    struct server *s = ctx;
    serve(s);
    bool more = epoch_reclaim_step(&s->ks->epoch, RECLAIM_EACH_TURN);
    return durability_end_turn(s) || more || s->clients.tls_pending != NULL;
}

static void on_accept(void *ctx, int fd, bool tls)
{
    client_accept(ctx, fd, tls);
}

void server_split_turns(struct server *s, bool split)
{
    loop_set_middle(s->loop, SPLIT_FROM, split ? turn_middle : NULL);
}

static void make_run_id(char out[41])
{
    unsigned char bytes[20];
    ssize_t n = getrandom(bytes, sizeof(bytes), 0);
    if (n != (ssize_t)sizeof(bytes))
        memset(bytes, 0, sizeof(bytes));
    for (int i = 0; i < 20; i++)
        snprintf(out + 2 * i, 3, "%02x", (unsigned)bytes[i]);
}

struct server *server_new(struct config *config)
{
    struct server *s = mem_zalloc(sizeof(*s));
    s->config = config;
    s->ks = keyspace_new((int)config->databases, true);
    s->ks->on_expire = on_expire;
    s->ks->on_expire_ctx = s;
    s->ks->on_fields_expire = on_fields_expire;
    s->ks->on_fields_expire_ctx = s;
    s->loop = loop_new();
    s->listeners = listeners_new(s->loop, on_accept, s);
    s->batch = batch_new();
    s->watches = watch_table_new();
    s->pubsub = pubsub_new();
    s->tracking = tracking_table_new();
    s->acl = acl_new();
    s->password_applied = mem_dup("", 0);
    s->evictor = evictor_new();
    s->defragment = defragment_new(s);
    s->command_logs = command_log_new();
    s->latency = latency_monitor_new();
    s->migrate = migrate_cache_new();
    s->metrics = metrics_listener_new(s);
    s->scripting = scripting_new(s);
    s->blocked = blocked_new(s);
    s->hooks.changed = on_changed;
    s->hooks.wait = blocked_wait;
    s->hold = hold_new(s);
    backup_init(s);
    durability_init(s);
    replication_init(s);
    clients_init(s);
    quorum_init(s);
    s->clients.write_last = &s->clients.write_first;
    s->clients.push_last = &s->clients.push_first;
    s->stats.commands = mem_zalloc((size_t)command_count * sizeof(*s->stats.commands));
    server_update_clock(s);
    s->stats.start_ms = s->ks->now_ms;
    s->stats.start_us = s->now_us;
    s->stats.rate.last_us = s->now_us;
    s->stats.cycles_at_start = server_cycles();
    make_run_id(s->run_id);
    server_apply_config(s);
    /* What cannot be had is not what CONFIG GET and REWRITE should say. */
    config->maxclients = (int64_t)s->limits.maxclients;
    loop_set_hooks(s->loop, turn_begin, turn_end, s);
    return s;
}

void server_free(struct server *s)
{
    struct client *next;
    for (struct client *c = s->clients.first; c != NULL; c = next) {
        next = c->next;
        client_close(c);
    }
    clients_free_closing(s);
    durability_deinit(s);
    backup_deinit(s);
    blocked_free(s->blocked);
    replication_deinit(s);
    quorum_deinit(s);
    hold_free(s->hold);
    listeners_free(s->listeners);
    metrics_listener_free(s->metrics);
    secure_deinit(s);
    loop_free(s->loop);
    batch_free(s->batch);
    watch_table_free(s->watches);
    pubsub_free(s->pubsub);
    tracking_table_free(s->tracking);
    acl_free(s->acl);
    mem_free(s->password_applied);
    evictor_free(s->evictor);
    defragment_free(s->defragment);
    command_log_free(s->command_logs);
    hotkeys_free(s->hotkeys);
    latency_monitor_free(s->latency);
    migrate_cache_free(s->migrate);
    scripting_free(s->scripting);
    s->ks->on_expire = NULL;
    s->ks->on_fields_expire = NULL;
    keyspace_free(s->ks);
    stream_free(s->stream);
    for (int i = 0; i < command_count; i++)
        mem_free(s->stats.commands[i].latency);
    mem_free(s->stats.commands);
    mem_free(s);
}

static bool listen_tcp(struct server *s, bool tls, char error[SOCKET_ERROR_SIZE])
{
    const struct config *c = s->config;
    char why[SOCKET_ERROR_SIZE];
    int port = (int)(tls ? c->tls_port : c->port);
    for (int i = 0; port != 0 && i < c->bind_count; i++) {
        if (!listeners_add_tcp(s->listeners, c->bind[i], port, tls, (int)c->tcp_backlog, why)) {
            snprintf(error, SOCKET_ERROR_SIZE, "Could not listen on %.60s port %d: %.150s",
                     c->bind[i], port, why);
            return false;
        }
    }
    return true;
}

bool server_listen(struct server *s, char error[SOCKET_ERROR_SIZE])
{
    const struct config *c = s->config;
    char why[SOCKET_ERROR_SIZE], tls_why[TLS_ERROR_SIZE];
    if (!secure_configure(s, tls_why)) {
        snprintf(error, SOCKET_ERROR_SIZE, "Failed to configure TLS: %.200s", tls_why);
        return false;
    }
    secure_watch(s);
    if (!listen_tcp(s, false, error) || !listen_tcp(s, true, error))
        return false;
    if (c->unixsocket[0] != '\0' &&
        !listeners_add_unix(s->listeners, c->unixsocket, (unsigned)c->unixsocketperm,
                            c->unixsocketgroup, (int)c->tcp_backlog, why)) {
        snprintf(error, SOCKET_ERROR_SIZE, "Could not listen on %.100s: %.120s", c->unixsocket,
                 why);
        return false;
    }
    if (listeners_count(s->listeners) == 0) {
        snprintf(error, SOCKET_ERROR_SIZE, "Configured to not listen anywhere, exiting.");
        return false;
    }
    if (!metrics_listen(s, why)) {
        snprintf(error, SOCKET_ERROR_SIZE, "Could not listen for metrics: %.200s", why);
        return false;
    }
    return true;
}

bool server_listen_again(struct server *s, bool tls, char error[SOCKET_ERROR_SIZE])
{
    listeners_close_tcp(s->listeners, tls);
    return listen_tcp(s, tls, error);
}

int server_run(struct server *s)
{
    /* Every client waits for this thread. */
    os_thread_be_prompt();
    os_polite_watch();
    if (!s->cron_running) {
        s->cron_running = true;
        loop_add_timer(s->loop, CRON_MS, cron, s);
    }
    while (!s->stopping) {
        loop_turn(s->loop, -1);
        replication_between_turns(s);
    }
    return s->exit_status;
}

void server_stop(struct server *s, int exit_status)
{
    s->stopping = true;
    s->exit_status = exit_status;
}

void server_serve_while_busy(struct server *s, int wait_ms)
{
    /* Inside a batch nothing can be served, as its clients are in the middle of theirs, unless the
     * one that is executing has stepped aside. */
    if (s->interrupted != NULL) {
        struct client *executing = s->executing;
        server_serve_aside(s);
        s->executing = executing;
    } else if (!batch_is_running(s->batch)) {
        loop_turn(s->loop, wait_ms);
        return;
    }
    if (wait_ms > 0)
        os_sleep_us(1000);
}

void server_serve_aside(struct server *s)
{
    loop_poll(s->loop);
    serve(s);
}

uint64_t server_cycles_us(const struct server *s, uint64_t cycles)
{
    uint64_t passed_cycles = server_cycles() - s->stats.cycles_at_start;
    int64_t passed_us = clock_monotonic_us() - s->stats.start_us;
    if (passed_cycles == 0 || passed_us <= 0)
        return 0;
    return (uint64_t)((double)cycles * (double)passed_us / (double)passed_cycles);
}
