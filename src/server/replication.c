/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/replication.h"

#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "persist/log/recovery.h"
#include "persist/log/stream.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/quorum.h"

#define TIMER_MS 100

void replication_new_id(char id[SYNC_ID_SIZE + 1])
{
    unsigned char bytes[SYNC_ID_SIZE / 2];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        log_warning("There are no random numbers for a replication id");
    for (int i = 0; i < SYNC_ID_SIZE / 2; i++)
        snprintf(id + 2 * i, 3, "%02x", (unsigned)bytes[i]);
}

uint64_t replication_lsn(const struct server *s)
{
    return s->stream != NULL ? stream_end(s->stream) : s->durability->lsn;
}

int replication_stream_db(const struct server *s)
{
    return s->is_replica ? s->replication->link.db : 0;
}

bool replication_wants_stream(const struct server *s)
{
    const struct replication *r = s->replication;
    /* A second history is worth something only while what comes behind it is counted. */
    return r != NULL && (s->is_replica || r->replica_count > 0 || r->lonely_since_us != 0 ||
                         (r->started && r->second_id[0] != '\0'));
}

void replication_put_aux(const struct server *s, struct save_options *options, uint64_t lsn)
{
    struct save_aux *aux = options->aux + options->aux_count;
    snprintf(aux[0].name, sizeof(aux[0].name), "repl-id");
    snprintf(aux[0].value, sizeof(aux[0].value), "%s", s->durability->history);
    snprintf(aux[1].name, sizeof(aux[1].name), "repl-offset");
    snprintf(aux[1].value, sizeof(aux[1].value), "%llu", (unsigned long long)lsn);
    options->aux_count += 2;
    options->at = (struct save_position){.lsn = lsn};
    memcpy(options->at.history, s->durability->history, sizeof(options->at.history));
    options->at.own = s->replication->own;
    if (!s->is_replica)
        return;
    options->at.db = s->replication->link.db;
    snprintf(aux[2].name, sizeof(aux[2].name), "repl-stream-db");
    snprintf(aux[2].value, sizeof(aux[2].value), "%d", s->replication->link.db);
    options->aux_count++;
}

void replication_put_found(struct save_options *options, const struct lineage *lineage, bool own)
{
    struct save_aux *aux = options->aux + options->aux_count;
    for (int i = 0; i < lineage->count; i++, aux++) {
        snprintf(aux->name, sizeof(aux->name), "hf-past-%d", i);
        static_assert(sizeof(aux->value) >= LINEAGE_TEXT, "a past fits");
        lineage_format(&lineage->pasts[i], aux->value);
    }
    if (own) {
        snprintf(aux->name, sizeof(aux->name), "hf-own");
        snprintf(aux->value, sizeof(aux->value), "1");
        aux++;
    }
    options->aux_count = (int)(aux - options->aux);
}

void replication_lineage(const struct server *s, struct lineage *l)
{
    const struct replication *r = s->replication;
    *l = r->older;
    if (r->second_id[0] != '\0')
        lineage_push(l, r->second_id, r->second_lsn, r->second_promoted);
}

void replication_put_lineage(const struct server *s, struct save_options *options)
{
    struct lineage l;
    replication_lineage(s, &l);
    replication_put_found(options, &l, s->replication->own);
}

bool replication_attention(const struct server *s)
{
    return s->is_replica || s->config->min_replicas_to_write > 0 || hold_uses_replicas(s->hold) ||
           quorum_refusal(s) != NULL || s->config->durability == HOLD_LOCAL || s->explicit_levels;
}

/* What cannot become as sure as the client wants it is not begun. */
static const char *refusal_of_level(const struct server *s, const struct client *c)
{
    const struct replication *r = s->replication;
    const char *refusal = quorum_refusal(s);
    int level = hold_wanted_level(c);
    if (refusal != NULL || level <= HOLD_MEMORY)
        return refusal;
    if (level >= HOLD_REPLICA)
        return r->present_count < (size_t)(level - HOLD_REPLICA + 1)
                   ? "NOREPLICAS Not enough replicas are there for this client's durability"
                   : NULL;
    if (s->durability->state != DURABILITY_ON)
        return "MISCONF The log is not on, and this client's durability needs it";
    if (level == HOLD_QUORUM && !quorum_is_on(s->quorum))
        return "NOREPLICAS There are no quorum-nodes, and this client's durability is quorum";
    return level == HOLD_QUORUM && r->quorum_present < s->quorum->majority
               ? "NOREPLICAS No majority of quorum-nodes is there"
               : NULL;
}

const char *replication_refusal(const struct server *s, const struct client *c, uint32_t flags)
{
    const struct replication *r = s->replication;
    const struct config *config = s->config;
    if (!s->is_replica && flags & COMMAND_WRITE && config->min_replicas_to_write > 0 &&
        config->min_replicas_max_lag > 0 &&
        r->good_count < (size_t)config->min_replicas_to_write)
        return "NOREPLICAS Not enough good replicas to write.";
    if (!s->is_replica && flags & COMMAND_WRITE) {
        const char *refusal = refusal_of_level(s, c);
        if (refusal != NULL)
            return refusal;
    }
    if (!s->is_replica || c->flags & CLIENT_MASTER)
        return NULL;
    /* While a failover is on they wait for its end: it may be given up. */
    if (config->replica_read_only && flags & COMMAND_WRITE && !s->pause.failover)
        return "READONLY You can't write against a read only replica.";
    if (r->link.state != LINK_UP && !config->replica_serve_stale_data &&
        !(flags & COMMAND_STALE))
        return "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.";
    return NULL;
}

/* Who waits for replicas has them asked. */
static void ask_for_waiting(struct server *s)
{
    struct replication *all = s->replication;
    uint64_t wanted = hold_waits_for_replicas(s->hold);
    if (s->is_replica || wanted <= all->asked_lsn || s->stream == NULL ||
        stream_in_group(s->stream))
        return;
    replication_ask_for_acks(s);
    durability_publish(s);
    all->asked_lsn = stream_end(s->stream);
}

void replication_note_local_write(struct server *s)
{
    durability_note_unlogged(s);
    if (s->replication->local_writes++ > 0)
        return;
    log_warning(
        "A client has written to this replica (replica-read-only is no): such changes have no "
        "place in its primary's stream, and so are not in the log, but in snapshots and in the "
        "next base alone. Until then a restart loses them, and a full resynchronisation at any "
        "time");
}

void replication_feed(struct server *s)
{
    ask_for_waiting(s);
    struct replica *next;
    for (struct replica *r = s->replication->replicas; r != NULL; r = next) {
        next = r->next;
        if (r->state == REPLICA_ONLINE && !r->client->io.write_blocked &&
            !(r->client->flags & CLIENT_CLOSING))
            replication_writable(r->client);
    }
}

void replication_durable(struct server *s)
{
    if (s->replication == NULL || !s->replication->started)
        return;
    quorum_step(s);
    if (s->is_replica)
        replication_link_durable(s);
    else
        replication_update_sure(s);
}

static int64_t on_timer(void *ctx)
{
    struct server *s = ctx;
    if (s->replication->started && !s->stopping) {
        replication_primary_cron(s);
        replication_link_cron(s);
        if (failover_is_on(&s->replication->failover))
            failover_step(s);
    }
    int64_t due_ms = replication_feed_due_ms(s);
    return due_ms < TIMER_MS ? due_ms : TIMER_MS;
}

void replication_between_turns(struct server *s)
{
    struct primary_link *l = &s->replication->link;
    if (l->loading != NULL)
        replication_link_load(s);
    else if (l->cut_back)
        replication_link_cut_back(s);
    if (l->connect_now && s->replication->started && !s->stopping) {
        l->connect_now = false;
        replication_link_cron(s);
    }
}

/* ---- start and end ---- */

void replication_init(struct server *s)
{
    struct replication *r = mem_zalloc(sizeof(*r));
    r->server = s;
    s->replication = r;
    snprintf(r->full_reason, sizeof(r->full_reason), "none");
    loop_add_timer(s->loop, TIMER_MS, on_timer, s);
}

void replication_start(struct server *s, const struct recovery_result *found)
{
    struct replication *r = s->replication;
    struct durability *d = s->durability;
    const struct config *c = s->config;
    const char *old = found->found_history;
    r->started = true;
    if (d->writer == NULL)
        d->lsn = found->lsn;
    r->older = found->lineage;
    r->written = found->own;
    r->own = found->own || c->replicaof_host[0] == '\0';
    r->own_effects = s->effects;
    r->own_bytes = s->changed_bytes;
    replication_begin_marks(s);
    if (c->replicaof_host[0] != '\0') {
        /* What was found is true as far as it goes, however the server has ended. */
        if (old[0] != '\0')
            snprintf(d->history, sizeof(d->history), "%s", old);
        else if (d->history[0] == '\0')
            replication_new_id(d->history);
        replication_follow(s, c->replicaof_host, (int)c->replicaof_port);
        r->link.continuable = old[0] != '\0';
        r->link.db = found->stream_db < s->ks->db_count ? found->stream_db : 0;
        return;
    }
    if (d->history[0] == '\0')
        replication_new_id(d->history);
    if (old[0] != '\0' && strcmp(old, d->history) != 0) {
        snprintf(r->second_id, sizeof(r->second_id), "%s", old);
        r->second_lsn = found->lsn;
        r->second_db = found->stream_db;
        r->second_promoted = false;
        r->lonely_since_us = s->now_us;
    }
    if (replication_wants_stream(s))
        durability_make_stream(s);
    replication_apply_config(s);
}

void replication_deinit(struct server *s)
{
    replication_primary_deinit(s);
    replication_link_deinit(s);
    mem_free(s->replication);
    s->replication = NULL;
}

void replication_apply_config(struct server *s)
{
    if (s->stream != NULL)
        stream_set_backlog(s->stream, replication_wants_stream(s)
                                          ? (uint64_t)s->config->repl_backlog_size
                                          : 0);
    server_update_attention(s);
}

/* ---- INFO ---- */

static const char *state_name(enum replica_state state)
{
    switch (state) {
    case REPLICA_WAITING:
    case REPLICA_SAVING:
        return "wait_bgsave";
    case REPLICA_FEEDING:
    case REPLICA_READY:
    case REPLICA_CATCHING_UP:
        return "send_bulk";
    case REPLICA_ONLINE:
        break;
    }
    return "online";
}

void replication_address(struct replica *r, char ip[SOCKET_NAME_SIZE])
{
    if (r->ip[0] != '\0') {
        snprintf(ip, SOCKET_NAME_SIZE, "%s", r->ip);
        return;
    }
    const char *peer = client_peer(r->client);
    const char *colon = strrchr(peer, ':');
    int n = colon != NULL ? (int)(colon - peer) : (int)strlen(peer);
    snprintf(ip, SOCKET_NAME_SIZE, "%.*s", n, peer);
}

static int64_t seconds_since(const struct server *s, int64_t us)
{
    return (s->now_us - us) / 1000000;
}

static void link_info(struct server *s, struct text *out)
{
    const struct primary_link *l = &s->replication->link;
    const struct config *c = s->config;
    bool up = l->state == LINK_UP;
    struct sync_progress p = {0};
    bool syncing = l->state == LINK_LOADING;
    if (l->sync != NULL && !l->sync_unwanted) {
        sync_progress(l->sync, &p);
        syncing |= p.stage == SYNC_TRANSFER || p.stage == SYNC_VERIFYING;
    }
    long long last_io = up ? (long long)seconds_since(s, l->client->active_us) : -1;
    text_appendf(out, "master_host:%s\r\nmaster_port:%lld\r\nmaster_link_status:%s\r\n",
                 c->replicaof_host, (long long)c->replicaof_port, up ? "up" : "down");
    text_appendf(out, "master_last_io_seconds_ago:%lld\r\nmaster_sync_in_progress:%d\r\n", last_io,
                 syncing);
    text_appendf(out, "slave_read_repl_offset:%llu\r\nslave_repl_offset:%llu\r\n",
                 (unsigned long long)(replication_lsn(s) + l->open_group.size),
                 (unsigned long long)replication_lsn(s));
    if (syncing)
        text_appendf(out,
                     "master_sync_total_bytes:%llu\r\nmaster_sync_read_bytes:%llu\r\n"
                     "master_sync_left_bytes:%lld\r\nmaster_sync_perc:%.2f\r\n"
                     "master_sync_last_io_seconds_ago:%lld\r\n",
                     (unsigned long long)p.total, (unsigned long long)p.read,
                     p.total != 0 ? (long long)(p.total - p.read) : -1LL,
                     p.total != 0 ? 100.0 * (double)p.read / (double)p.total : 0.0,
                     p.last_io_us != 0 ? (long long)seconds_since(s, p.last_io_us) : 0LL);
    if (!up)
        text_appendf(out, "master_link_down_since_seconds:%lld\r\n",
                     l->down_since_s != 0 ? (long long)(s->ks->now_ms / 1000 - l->down_since_s)
                                          : -1LL);
    text_appendf(out, "master_link_error:%s\r\nmaster_refused_regression:%d\r\n",
                 up || l->failure.code == ERROR_NONE ? "none" : l->failure.message, l->refused);
    text_appendf(out, "master_stream_errors:%llu\r\nmaster_full_syncs:%llu\r\n"
                 "master_cut_backs:%llu\r\n",
                 (unsigned long long)l->errors, (unsigned long long)l->full_syncs,
                 (unsigned long long)l->cut_backs);
    text_appendf(out, "slave_priority:%lld\r\nslave_read_only:%d\r\nreplica_announced:%d\r\n",
                 (long long)c->replica_priority, c->replica_read_only, c->replica_announced);
    text_appendf(out, "replica_unlogged_writes:%llu\r\n",
                 (unsigned long long)s->replication->local_writes);
}

bool replication_reach(const struct server *s, uint64_t *lsn)
{
    bool active = s->stream != NULL && replication_wants_stream(s);
    uint64_t first;
    if (active)
        *lsn = stream_first(s->stream);
    if (!replication_may_use_disk(s, 0) ||
        !generation_first_lsn(&s->durability->generation, &first))
        return active;
    if (!active || first < *lsn)
        *lsn = first;
    return true;
}

void replication_begin_marks(struct server *s)
{
    if (s->replication != NULL)
        marks_begin(&s->replication->marks, replication_lsn(s), s->effects);
}

void replication_note_marks(struct server *s)
{
    if (s->replication != NULL)
        marks_note(&s->replication->marks, replication_lsn(s), s->effects, s->now_us);
}

bool replication_behind(struct server *s, uint64_t lsn, struct marks_behind *out)
{
    replication_note_marks(s);
    return marks_behind(&s->replication->marks, lsn, s->now_us, out);
}

/* One that has gone goes on having what it had: all of the stream, if there has been none. */
bool replication_would_lose(struct server *s, struct marks_behind *out)
{
    uint64_t most = s->replication->gone_acked;
    *out = (struct marks_behind){0};
    if (s->is_replica)
        return true;
    for (const struct replica *p = s->replication->replicas; p != NULL; p = p->next) {
        if (replication_holds_acked(p) && p->acked > most)
            most = p->acked;
    }
    return replication_behind(s, most, out);
}

/* -1 where it is not known. */
static void behind_info(struct text *out, const char *format, bool known,
                        const struct marks_behind *b)
{
    text_appendf(out, format, (unsigned long long)b->bytes, known ? (long long)b->effects : -1LL,
                 known ? (double)b->us / 1e6 : -1.0);
}

void replication_info(struct server *s, struct text *out)
{
    const struct replication *r = s->replication;
    text_appendf(out, "role:%s\r\n", s->is_replica ? "slave" : "master");
    if (s->is_replica)
        link_info(s, out);
    text_appendf(out, "connected_slaves:%zu\r\n", r->replica_count);
    if (s->config->min_replicas_to_write > 0 && s->config->min_replicas_max_lag > 0)
        text_appendf(out, "min_slaves_good_slaves:%zu\r\n", r->good_count);
    int i = 0;
    for (struct replica *p = r->replicas; p != NULL; p = p->next) {
        char ip[SOCKET_NAME_SIZE];
        replication_address(p, ip);
        text_appendf(out, "slave%d:ip=%s,port=%d,state=%s,offset=%llu,lag=%lld", i++, ip,
                     p->listening_port, state_name(p->state), (unsigned long long)p->acked,
                     p->state == REPLICA_ONLINE ? (long long)seconds_since(s, p->acked_us) : 0LL);
        struct marks_behind b;
        bool known = replication_behind(s, p->acked, &b);
        behind_info(out, ",lag_bytes=%llu,lag_writes=%lld,lag_seconds=%.3f", known, &b);
        text_appendf(out, ",unsent_bytes=%llu\r\n", (unsigned long long)replication_lag(s, p));
    }
    bool active = s->stream != NULL && replication_wants_stream(s);
    uint64_t first = active ? stream_first(s->stream) : 0, end = replication_lsn(s);
    text_appendf(out, "master_failover_state:%s\r\n", failover_state_name(&r->failover));
    text_appendf(out, "master_replid:%s\r\nmaster_replid2:%s\r\n", s->durability->history,
                 r->second_id[0] != '\0' ? r->second_id
                                         : "0000000000000000000000000000000000000000");
    text_appendf(out, "master_repl_offset:%llu\r\nsecond_repl_offset:%lld\r\n",
                 (unsigned long long)end,
                 r->second_id[0] != '\0' ? (long long)r->second_lsn + 1 : -1LL);
    text_appendf(out, "repl_backlog_active:%d\r\nrepl_backlog_size:%lld\r\n", active,
                 (long long)s->config->repl_backlog_size);
    text_appendf(out, "repl_backlog_first_byte_offset:%llu\r\nrepl_backlog_histlen:%llu\r\n",
                 active ? (unsigned long long)first + 1 : 0ULL,
                 active ? (unsigned long long)(end - first) : 0ULL);
    /* As far as a replica may be behind on the whole: the log's files go on where memory ends. */
    uint64_t log_first = 0;
    bool on_disk = replication_may_use_disk(s, 0) &&
                   generation_first_lsn(&s->durability->generation, &log_first);
    text_appendf(
        out, "repl_log_active:%d\r\nrepl_log_first_byte_offset:%llu\r\nrepl_log_histlen:%llu\r\n",
        on_disk, on_disk ? (unsigned long long)log_first + 1 : 0ULL,
        on_disk ? (unsigned long long)(end - log_first) : 0ULL);
    text_appendf(out, "last_full_sync_reason:%s\r\nsync_partial_from_disk:%llu\r\n", r->full_reason,
                 (unsigned long long)r->sync_partial_disk);
    struct marks_behind lost;
    bool known = replication_would_lose(s, &lost);
    behind_info(out,
                "failover_would_lose_bytes:%llu\r\nfailover_would_lose_writes:%lld\r\n"
                "failover_would_lose_seconds:%.3f\r\n",
                known, &lost);
    const struct primary_link *l = &r->link;
    if (l->kept[0] != '\0')
        text_appendf(out, "divergence_data:%s\r\ndivergence_data_lsn:%llu\r\n", l->kept,
                     (unsigned long long)l->kept_lsn);
    text_appendf(out, "divergence_journals:%llu\r\n", (unsigned long long)l->journals);
    if (l->journal[0] != '\0')
        text_appendf(
            out, "divergence_journal:%s\r\ndivergence_from_lsn:%llu\r\ndivergence_bytes:%llu\r\n",
            l->journal, (unsigned long long)l->journal_from,
            (unsigned long long)(l->journal_until - l->journal_from));
    quorum_info(s, out);
}
