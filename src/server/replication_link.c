/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replication as a replica: the link to the primary, and what comes over it.
 */
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "handlers.h"
#include "keyspace/evict.h"
#include "keyspace/libraries.h"
#include "os/file.h"
#include "os/process.h"
#include "os/socket.h"
#include "persist/load.h"
#include "persist/log/stream.h"
#include "server/announce.h"
#include "server/batch.h"
#include "server/blocked.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/durability.h"
#include "server/loading.h"
#include "server/hold.h"
#include "server/persistence.h"
#include "server/quorum.h"
#include "server/replication.h"
#include "server/tracking.h"
#include "server/transaction.h"

#define RETRY_US 1000000
/* An election takes a few round trips, and its primary is waited for by whoever writes. */
#define UNELECTED_RETRY_US 50000
/* What a primary with less history would take away stays; it is asked again not so often. */
#define REFUSED_RETRY_US 10000000
#define ACK_US 1000000
#define NEWLINE_US 1000000
/* For so long may everybody wait for the disk before everything comes anew instead. */
#define SETTLE_MOST_US 2000000
/* The LFU clock counts minutes modulo 2^16: this long is once around. */
#define LFU_ROUND_MS ((int64_t)65536 * 60000)

static struct primary_link *link_of(const struct server *s)
{
    return &s->replication->link;
}

const char *replication_link_state(const struct server *s)
{
    const struct primary_link *l = link_of(s);
    struct sync_progress p;
    switch (l->state) {
    case LINK_DOWN:
        return "connect";
    case LINK_LOADING:
        return "sync";
    case LINK_UP:
        return "connected";
    case LINK_SYNCING:
        break;
    }
    if (l->sync == NULL)
        return "connect";
    sync_progress(l->sync, &p);
    return p.stage < SYNC_TRANSFER ? "connecting" : "sync";
}

static bool has_data(const struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++) {
        if (ks->dbs[i].table.count > 0)
            return true;
    }
    return false;
}

/* ---- the link goes down ---- */

static void file_path(char path[256])
{
    snprintf(path, 256, "temp-sync-%d.rdb", os_process_id());
}

static void set_down(struct server *s, int64_t retry_us)
{
    struct primary_link *l = link_of(s);
    if (l->state == LINK_UP || l->down_since_s == 0)
        l->down_since_s = s->ks->now_ms / 1000;
    l->state = LINK_DOWN;
    l->retry_us = s->now_us + retry_us;
    text_free(&l->open_group);
    l->open_requests = 0;
    server_update_attention(s);
}

static void note_failure(struct server *s, const struct error *why)
{
    struct primary_link *l = link_of(s);
    /* Said once, not at every try. */
    if (strcmp(l->failure.message, why->message) != 0)
        log_warning("The link to the primary %s:%lld is down: %s", s->config->replicaof_host,
                    (long long)s->config->replicaof_port, why->message);
    if (!l->down_told)
        announce_replication(s, "link-down", why->message);
    l->down_told = true;
    l->failure = *why;
}

void replication_link_down(struct server *s, const struct error *why)
{
    struct primary_link *l = link_of(s);
    struct client *c = l->client;
    l->client = NULL;
    quorum_link_down(s);
    if (c != NULL) {
        c->flags &= ~(uint32_t)CLIENT_MASTER;
        transaction_discard(c);
        client_close(c);
    }
    if (why != NULL)
        note_failure(s, why);
    set_down(s, c != NULL ? 0 : RETRY_US);
}

/* What a full resynchronisation has brought is not wanted. */
static void drop_full(struct server *s, struct sync_result *r)
{
    struct error ignored;
    char path[256];
    sync_drop_connection(r);
    if (r->loaded != NULL) {
        keyspace_discard(s->ks, r->loaded);
    } else if (r->outcome == SYNC_FULL) {
        file_path(path);
        os_unlink(path, &ignored);
    }
    mem_free(r);
}

static void update_beside(struct server *s);

static void give_up_sync(struct server *s)
{
    struct primary_link *l = link_of(s);
    l->cut_back = false;
    if (l->sync != NULL) {
        sync_cancel(l->sync);
        l->sync_unwanted = true;
        update_beside(s);
    }
    if (l->loading != NULL) {
        drop_full(s, l->loading);
        l->loading = NULL;
    }
}

/* ---- asking the primary ---- */

static void take_result(struct server *s);

/* What comes may be loaded already, or is not any more. */
static void update_beside(struct server *s)
{
    const struct primary_link *l = link_of(s);
    struct sync_progress p = {0};
    bool wanted = l->sync != NULL && !l->sync_unwanted;
    if (wanted)
        sync_progress(l->sync, &p);
    if (!wanted || !p.loads || p.stage < SYNC_TRANSFER) {
        loading_set_beside(s, BESIDE_NONE);
        return;
    }
    /* Who reads sees the past of what comes, or nothing, but not another primary's data. */
    bool parted = l->fork_id[0] != '\0' || l->diverged || l->given_up;
    bool same = (l->continuable && p.same_history && !parted) || !has_data(s->ks);
    loading_set_beside(s, same ? BESIDE_READ : BESIDE_HIDDEN);
    loading_note_beside(s, p.read, p.total);
}

static void on_sync_ended(void *ctx)
{
    update_beside(ctx);
    take_result(ctx);
}

/* On the thread of the synchronisation. */
static void wake(void *ctx)
{
    struct server *s = ctx;
    loop_post(s->loop, on_sync_ended, s);
}

/* The history that the primary is asked for. */
static const char *asked_history(const struct server *s)
{
    const struct primary_link *l = link_of(s);
    return l->fork_id[0] != '\0' ? l->fork_id : s->durability->history;
}

/* Whether the log can be replayed up to the place where the ways parted. */
static bool can_cut_back(const struct server *s)
{
    const struct durability *d = s->durability;
    uint64_t base;
    return d->state == DURABILITY_ON && generation_base_lsn(&d->generation, &base) &&
           base <= link_of(s)->diverged_lsn;
}

/* By threads that make room for the executor, which serves from what there is. */
static void load_options(struct server *s, struct rdb_load_options *options)
{
    loading_options(s, options, NULL);
    options->drop_expired = false;
    options->polite = true;
    options->progress = NULL;
    options->wait = NULL;
    options->wake = NULL;
    options->cancel = NULL;
}

static void connect_to_primary(struct server *s)
{
    struct primary_link *l = link_of(s);
    const struct config *c = s->config;
    struct error err = {0};
    struct sync_options *o = mem_zalloc(sizeof(*o));
    uint64_t end = replication_lsn(s), lsn = l->fork_id[0] != '\0' ? l->fork_lsn : end;
    bool given_up = l->given_up || l->diverged;
    *o = (struct sync_options){.port = (int)c->replicaof_port,
                               .listening_port = (int)(c->replica_announce_port != 0
                                                           ? c->replica_announce_port
                                                           : c->tls_replication && c->tls_port != 0
                                                               ? c->tls_port
                                                               : c->port),
                               .tls = tls_context_share(c->tls_replication ? s->tls_client : NULL),
                               .has_history = l->continuable && !(given_up && end > lsn),
                               .lsn = lsn,
                               .end = end,
                               .given_up = given_up,
                               .own = s->replication->own && !given_up && !l->kept_now &&
                                      has_data(s->ks),
                               .has_data = has_data(s->ks),
                               .accept_regression = c->replica_accept_regression ||
                                                    s->replication->failover.force,
                               .failover = s->replication->failover.state == FAILOVER_HANDING_OVER,
                               .timeout_ms = (int)(c->repl_timeout * 1000),
                               .later_rdb = s->ks->later_rdb,
                               .wake = wake,
                               .ctx = s};
    snprintf(o->host, sizeof(o->host), "%s", c->replicaof_host);
    snprintf(o->source, sizeof(o->source), "%s", c->bind_source_addr);
    snprintf(o->user, sizeof(o->user), "%s", c->masteruser);
    snprintf(o->password, sizeof(o->password), "%s", c->masterauth);
    snprintf(o->announce_ip, sizeof(o->announce_ip), "%s", c->replica_announce_ip);
    snprintf(o->history, sizeof(o->history), "%s", asked_history(s));
    replication_lineage(s, &o->pasts);
    file_path(o->path);
    if (l->diverged) {
        replication_keep_journal(s, asked_history(s), &o->journal);
        o->journal_only = l->diverged && !l->everything && can_cut_back(s);
    }
    if (quorum_is_on(s->quorum)) {
        snprintf(o->node, sizeof(o->node), "%s", c->quorum_node);
        o->promised = s->quorum->now.promised;
    }
    /* Beside what there is, if that is nothing or may stay until all has come. */
    if (c->repl_diskless_load == DISKLESS_LOAD_SWAPDB || !o->has_data) {
        o->into = load_beside(s->ks);
        load_options(s, &o->load);
    }
    l->sync = sync_start(o, &err);
    l->sync_unwanted = false;
    if (l->sync != NULL) {
        l->state = LINK_SYNCING;
    } else {
        note_failure(s, &err);
        set_down(s, RETRY_US);
    }
    mem_free(o);
}

/* ---- the link comes up ---- */

static void append_pair(struct text *t, const char *name, char *number, uint64_t value)
{
    size_t digits = number_format_int64(number, (int64_t)value);
    text_appendf(t, "$%zu\r\n%s\r\n$%zu\r\n%.*s\r\n", strlen(name), name, digits, (int)digits,
                 number);
}

static void send_ack(struct server *s)
{
    struct primary_link *l = link_of(s);
    const struct durability *d = s->durability;
    uint64_t epoch = quorum_acknowledges(s->quorum);
    bool log = d->state == DURABILITY_ON;
    char number[NUMBER_INT64_SIZE];
    struct text t = {0};
    text_appendf(&t, "*%d\r\n$8\r\nREPLCONF\r\n", 3 + 2 * log + 2 * (epoch != 0));
    append_pair(&t, "ACK", number, replication_lsn(s));
    l->acked_lsn = replication_lsn(s);
    /* What is on this server's disk; behind the rest, where those that do not know it do not
     * look. */
    l->acked_durable = log ? writer_durable_lsn(d->writer) : 0;
    if (log)
        append_pair(&t, "FACK", number, l->acked_durable);
    if (epoch != 0)
        append_pair(&t, "quorum-epoch", number, epoch);
    l->acked_epoch = epoch;
    outbuf_append(&l->client->io.out, t.data, t.size);
    text_free(&t);
    client_want_write(l->client);
    l->acked_us = s->now_us;
}

void replication_link_durable(struct server *s)
{
    struct primary_link *l = link_of(s);
    if (l->state != LINK_UP || s->durability->state != DURABILITY_ON)
        return;
    uint64_t durable = writer_durable_lsn(s->durability->writer);
    bool wanted = quorum_is_on(s->quorum) || l->acked_durable < l->asked_lsn;
    if (wanted && (durable > l->acked_durable || quorum_acknowledges(s->quorum) != l->acked_epoch))
        send_ack(s);
}

static void link_up(struct server *s, struct sync_result *r)
{
    struct primary_link *l = link_of(s);
    struct error err = {0};
    /* It may have voted meanwhile. */
    if (!quorum_accepts(s->quorum, r->epoch)) {
        sync_drop_connection(r);
        error_set(&err, ERROR_CANCELLED, "this node has voted for another one");
        replication_link_down(s, &err);
        return;
    }
    struct client *c = client_adopt(s, r->fd, r->tls, slice_of(r->rest, r->rest_size));
    if (c == NULL) {
        error_set(&err, ERROR_SYSTEM, "the event loop does not take the connection");
        replication_link_down(s, &err);
        return;
    }
    c->flags = (c->flags & ~(uint32_t)(CLIENT_UNAUTHENTICATED | CLIENT_RESTRICTED)) |
               CLIENT_MASTER | CLIENT_NO_EVICT;
    c->reply.out = &c->discarded;
    c->reply.muted = true;
    c->db = &s->ks->dbs[l->db < s->ks->db_count ? l->db : 0];
    l->client = c;
    l->state = LINK_UP;
    l->down_since_s = 0;
    l->failure = (struct error){0};
    l->down_told = false;
    l->refused = false;
    l->continuable = true;
    server_update_attention(s);
    log_notice("The link to the primary %s:%lld is up, at LSN %llu", s->config->replicaof_host,
               (long long)s->config->replicaof_port, (unsigned long long)replication_lsn(s));
    announce_replication(s, "link-up", s->config->replicaof_host);
    l->asked_lsn = 0;
    l->diverged = l->given_up = false;
    l->fork_id[0] = '\0';
    replication_keep_forget(s);
    quorum_link_up(s, r->epoch, r->epoch_lsn);
    send_ack(s);
}

/* Another one takes its place. */
static void forget_second(struct server *s)
{
    struct replication *all = s->replication;
    if (all->second_id[0] != '\0')
        lineage_push(&all->older, all->second_id, all->second_lsn, all->second_promoted);
    all->second_id[0] = '\0';
}

/* The stream goes on where it was, if under another id. */
static void continue_stream(struct server *s, struct sync_result *r)
{
    struct replication *all = s->replication;
    struct durability *d = s->durability;
    all->own = all->written = false;
    if (strcmp(r->history, d->history) != 0) {
        forget_second(s);
        lineage_cut(&all->older, asked_history(s));
        snprintf(all->second_id, sizeof(all->second_id), "%s", asked_history(s));
        all->second_lsn = r->lsn;
        all->second_promoted = true;
        durability_set_history(s, r->history);
        /* They have to learn the new id, and go on at once. */
        replication_close_replicas(s, "the primary's history has another id now");
    }
    link_up(s, r);
}

/* A journal is written, and the data kept, before the primary is asked for everything. */
static void note_diverged(struct server *s, const struct sync_result *r)
{
    struct primary_link *l = link_of(s);
    uint64_t end = replication_lsn(s), logged;
    if (r->past) {
        memcpy(l->fork_id, r->history, sizeof(l->fork_id));
        l->fork_lsn = r->lsn;
    }
    l->diverged = true;
    l->diverged_lsn = r->lsn;
    l->everything = r->everything;
    l->keep = r->unrelated || replication_keep_first(s, &logged) > r->lsn;
    if (r->unrelated)
        log_notice("The primary is of a history that this server's have never met: what was done "
                   "here is given up");
    else
        log_notice("The primary's history went another way at LSN %llu; here it goes on to %llu",
                   (unsigned long long)r->lsn, (unsigned long long)end);
}

static void take_result(struct server *s)
{
    struct primary_link *l = link_of(s);
    if (l->sync == NULL || !sync_ended(l->sync))
        return;
    struct sync_result *r = mem_alloc(sizeof(*r));
    sync_finish(l->sync, r);
    l->sync = NULL;
    update_beside(s);
    if (l->sync_unwanted || !s->is_replica) {
        l->sync_unwanted = false;
        drop_full(s, r);
        return;
    }
    if (s->replication->failover.state == FAILOVER_HANDING_OVER) {
        bool took = r->outcome == SYNC_CONTINUES || r->outcome == SYNC_FULL;
        if (!failover_take(s, r)) {
            mem_free(r);
            return;
        }
        if (took && quorum_is_on(s->quorum)) {
            /* It is followed when it has been elected. */
            drop_full(s, r);
            set_down(s, UNELECTED_RETRY_US);
            return;
        }
    }
    if (r->journal_written)
        replication_keep_note_journal(s);
    switch (r->outcome) {
    case SYNC_JOURNAL:
        l->cut_back = true;
        set_down(s, 0);
        break;
    case SYNC_DIVERGED:
        note_diverged(s, r);
        set_down(s, 0);
        break;
    case SYNC_FAILED:
        note_failure(s, &r->error);
        set_down(s, r->unelected ? UNELECTED_RETRY_US : RETRY_US);
        break;
    case SYNC_REFUSED:
        l->refused = true;
        if (strcmp(l->failure.message, r->error.message) != 0) {
            log_warning(
                "ALARM: the primary %s:%lld is refused: %s. This replica keeps its data. If "
                "it is to be given up for the primary's, set replica-accept-regression yes; "
                "if it is the better one, promote it with REPLICAOF NO ONE",
                s->config->replicaof_host, (long long)s->config->replicaof_port, r->error.message);
            announce_replication(s, "refused", r->error.message);
        }
        l->failure = r->error;
        set_down(s, REFUSED_RETRY_US);
        break;
    case SYNC_CONTINUES:
        continue_stream(s, r);
        break;
    case SYNC_FULL:
        /* Loading serves clients meanwhile: not from within a turn. */
        l->state = LINK_LOADING;
        l->loading = r;
        return;
    }
    mem_free(r);
}

/* ---- loading what has come ---- */

/* Whatever clients keep, or wait for, may be something else now. */
static void tell_of_new_data(struct server *s)
{
    tracking_flushed(s);
    for (int i = 0; i < s->ks->db_count; i++)
        blocked_signal_db(s, &s->ks->dbs[i]);
    if (s->keys_ready)
        blocked_serve(s);
}

/* Instead of the old data, as there is no memory for both: what has come was decoded whole
 * before. */
static bool load_file(struct server *s, struct error *err)
{
    struct rdb_load_options options;
    struct rdb_load_stats stats = {0};
    char path[256];
    file_path(path);
    loading_begin(s);
    keyspace_flush(s->ks);
    loading_options(s, &options, &stats);
    options.drop_expired = false;
    bool ok = load_rdb_file(s->ks, path, &options, &stats, err);
    loading_end(s);
    return ok;
}

/* What was loaded beside takes the old data's place, in a moment. */
static void take_loaded(struct server *s, struct sync_result *r)
{
    keyspace_flush(s->ks);
    keyspace_exchange(s->ks, r->loaded);
    libraries_replace(&s->ks->libraries, libraries_ref(r->loaded->libraries));
    keyspace_free(r->loaded);
    r->loaded = NULL;
}

static bool load_data(struct server *s, struct sync_result *r, struct error *err)
{
    struct error ignored;
    char path[256];
    bool ok = true;
    uint64_t keys = r->keys;
    if (r->loaded != NULL) {
        take_loaded(s, r);
    } else {
        file_path(path);
        ok = load_file(s, err);
        os_unlink(path, &ignored);
    }
    tell_of_new_data(s);
    if (ok)
        log_notice("Loaded %llu keys from the primary", (unsigned long long)keys);
    return ok;
}

void replication_link_load(struct server *s)
{
    struct primary_link *l = link_of(s);
    struct sync_result *r = l->loading;
    struct error err = {0};
    /* The old data's last effects are in the log before it is given up. */
    replication_close_replicas(s, "all data comes anew from the primary");
    clients_free_closing(s);
    bool ok = load_data(s, r, &err);
    /* Clients were served meanwhile: one of them may have changed its mind about the primary. */
    bool wanted = l->loading == r;
    if (wanted)
        l->loading = NULL;
    if (!ok) {
        if (wanted) {
            sync_drop_connection(r);
            mem_free(r);
        }
        l->data_lost = !has_data(s->ks);
        l->continuable = l->continuable && !l->data_lost;
        if (l->data_lost)
            quorum_note_lost(s);
        note_failure(s, &err);
        set_down(s, RETRY_US);
        return;
    }
    if (!wanted)
        return;
    l->db = r->stream_db >= 0 && r->stream_db < s->ks->db_count ? r->stream_db : 0;
    s->replication->second_id[0] = '\0';
    s->replication->older.count = 0;
    s->replication->own = s->replication->written = false;
    l->data_lost = false;
    l->full_syncs++;
    durability_restart(s, r->history, r->lsn);
    replication_apply_config(s);
    s->ks->lazy_expire_paused = true;
    s->ks->dirty++;
    link_up(s, r);
    mem_free(r);
}

/* What the primary's history does not have is in a journal: the data are what they were before
 * that, by the own log, and the stream goes on from there. If it does not work everything comes
 * anew. */
void replication_link_cut_back(struct server *s)
{
    struct primary_link *l = link_of(s);
    struct error err = {0};
    char id[SYNC_ID_SIZE + 1];
    uint64_t lsn = l->diverged_lsn;
    int db;
    l->cut_back = false;
    if (!can_cut_back(s))
        return;
    if (!durability_settle(s, SETTLE_MOST_US, &err) || !can_cut_back(s)) {
        log_notice("The data are not taken back, everything comes anew%s%s",
                   err.message[0] != '\0' ? ": " : "", err.message);
        return;
    }
    snprintf(id, sizeof(id), "%s", asked_history(s));
    log_notice("The data are taken back to LSN %llu, where the primary's history went another way",
               (unsigned long long)lsn);
    replication_close_replicas(s, "what they have is taken back");
    clients_free_closing(s);
    persistence_give_up(s);
    l->state = LINK_LOADING;
    bool ok = loading_cut_back(s, lsn, &db, &err);
    tell_of_new_data(s);
    set_down(s, 0);
    if (!ok) {
        /* What there was has gone: what there is is in no history that could be gone on with. */
        log_warning("The data could not be taken back to LSN %llu: %s", (unsigned long long)lsn,
                    err.message);
        keyspace_flush(s->ks);
        libraries_replace(&s->ks->libraries, NULL);
        l->data_lost = true;
        quorum_note_lost(s);
        l->continuable = false;
        return;
    }
    l->db = db >= 0 && db < s->ks->db_count ? db : 0;
    l->fork_id[0] = '\0';
    l->given_up = false;
    l->cut_backs++;
    /* What there is now was the primary's, too. */
    forget_second(s);
    lineage_cut(&s->replication->older, id);
    s->replication->own = s->replication->written = false;
    durability_restart(s, id, lsn);
    replication_apply_config(s);
    s->ks->lazy_expire_paused = true;
    s->ks->dirty++;
}

/* ---- executing the primary's commands ---- */

static bool belongs_in_stream(const struct command *command)
{
    command_handler *h = command->handler;
    /* redis-server sends PFCOUNT when it has changed the cached cardinality. */
    return command->flags & COMMAND_WRITE || h == cmd_pfcount || h == cmd_spublish ||
           h == cmd_select || h == cmd_ping || h == cmd_multi || h == cmd_exec ||
           h == cmd_discard || h == cmd_replconf || h == cmd_publish;
}

static void break_off(struct server *s, const char *what, const struct call *call)
{
    struct error err = {0};
    char name[64];
    size_t n = call->argv[0].size < sizeof(name) - 1 ? call->argv[0].size : sizeof(name) - 1;
    for (size_t i = 0; i < n; i++)
        name[i] = call->argv[0].data[i] >= ' ' && call->argv[0].data[i] < 0x7f
                      ? call->argv[0].data[i]
                      : '?';
    name[n] = '\0';
    error_set(&err, ERROR_UNSUPPORTED, "at LSN %llu the primary sent '%s', %s",
              (unsigned long long)replication_lsn(s), name, what);
    replication_link_down(s, &err);
    /* At once it would say the same again. */
    link_of(s)->retry_us = s->now_us + RETRY_US;
}

/* Into the stream, byte for byte; of a transaction all at once, when it was executed. */
static void pass_on(struct server *s, const struct call *call, bool in_group)
{
    struct primary_link *l = link_of(s);
    struct text encoded = {0};
    struct slice bytes = call->request;
    if (bytes.size == 0) {
        text_appendf(&encoded, "*%d\r\n", call->argc);
        for (int i = 0; i < call->argc; i++) {
            text_appendf(&encoded, "$%zu\r\n", call->argv[i].size);
            text_append(&encoded, call->argv[i].data, call->argv[i].size);
            text_append(&encoded, "\r\n", 2);
        }
        bytes = text_slice(&encoded);
    }
    if (in_group) {
        text_append(&l->open_group, bytes.data, bytes.size);
        l->open_requests++;
    } else {
        stream_append_raw(s->stream, text_slice(&l->open_group), l->open_requests);
        text_free(&l->open_group);
        l->open_requests = 0;
        stream_append_raw(s->stream, bytes, 1);
        s->effects++;
    }
    text_free(&encoded);
}

static void note_error(struct server *s, const struct call *call, const struct command *command)
{
    struct primary_link *l = link_of(s);
    if (l->errors++ == 0)
        log_warning(
            "A command of the primary ('%s', at LSN %llu) was answered by an error: %s. The "
            "data may differ from the primary's from here on",
            command->full_name, (unsigned long long)replication_lsn(s), call->reply->last_error);
}

/* Time stands still in 1970 while the primary's commands are executed: what it has not yet deleted
 * is there for them, however long ago it has expired. */
static void execute(struct client *c, struct call *call, const struct command *command)
{
    struct server *s = c->server;
    struct keyspace *ks = s->ks;
    int64_t now_ms = ks->now_ms;
    uint64_t errors = call->reply->error_count;
    command_handler *h = command->handler;
    ks->now_ms = now_ms % LFU_ROUND_MS;
    call->now_ms = ks->now_ms;
    call->replays = true;
    if (c->flags & CLIENT_MULTI && h != cmd_exec && h != cmd_discard && h != cmd_multi) {
        transaction_queue(c, command, call->argv, call->argc);
    } else {
        dispatch_call(c, call, command);
        if (call->reply->error_count != errors && h != cmd_exec)
            note_error(s, call, command);
    }
    ks->now_ms = now_ms;
    call->now_ms = now_ms;
    call->replays = false;
    outbuf_clear(&c->discarded);
}

void replication_execute(struct client *c, struct call *call, const struct command *command)
{
    struct server *s = c->server;
    struct primary_link *l = link_of(s);
    char *error;
    if (l->client != c)
        return;
    command = dispatch_lookup(command, call->argv, call->argc, &error);
    if (command == NULL) {
        mem_free(error);
        break_off(s, "which this server does not know", call);
        return;
    }
    if (!belongs_in_stream(command)) {
        break_off(s, "which has no place in a stream", call);
        return;
    }
    c->last_command = command;
    l->acknowledge = false;
    if (command->handler == cmd_replconf) {
        l->acknowledge = call->argc > 1 && slice_is(call->argv[1], "getack");
        s->stats.commands_processed++;
    } else {
        execute(c, call, command);
    }
    bool in_group = c->flags & CLIENT_MULTI;
    pass_on(s, call, in_group);
    /* Of the stream: what is in an open group is not in it yet. */
    if (!in_group)
        l->db = c->db->id;
    if (l->acknowledge && !in_group) {
        l->asked_lsn = replication_lsn(s);
        send_ack(s);
    }
}

/* ---- the cron ---- */

static void say_newline(struct server *s)
{
    struct primary_link *l = link_of(s);
    if (l->loading == NULL || s->now_us - l->newline_us < NEWLINE_US)
        return;
    l->newline_us = s->now_us;
    struct sync_result *r = l->loading;
    ssize_t ignored = r->tls != NULL ? tls_write(r->tls, "\n", 1) : socket_write(r->fd, "\n", 1);
    (void)ignored;
}

void replication_link_cron(struct server *s)
{
    struct primary_link *l = link_of(s);
    struct error err = {0};
    if (!s->is_replica)
        return;
    switch (l->state) {
    case LINK_DOWN:
        if (l->sync == NULL && !l->cut_back && !s->loading && s->now_us >= l->retry_us &&
            replication_keep_step(s))
            connect_to_primary(s);
        break;
    case LINK_SYNCING:
        update_beside(s);
        break;
    case LINK_LOADING:
        say_newline(s);
        break;
    case LINK_UP:
        if (s->now_us - l->client->active_us > s->config->repl_timeout * 1000000) {
            error_set(&err, ERROR_SYSTEM, "it has said nothing for repl-timeout seconds");
            replication_link_down(s, &err);
        } else if (s->now_us - l->acked_us >= ACK_US) {
            send_ack(s);
        }
        break;
    }
}

/* ---- roles ---- */

/* As a primary this server has gone on under an id of its own. If nobody has been told of that one,
 * nobody can go on from it: what others know is the history before, up to where it was left. */
static void name_position(struct server *s)
{
    struct replication *all = s->replication;
    struct primary_link *l = link_of(s);
    l->db = 0;
    l->fork_id[0] = '\0';
    if (all->second_id[0] == '\0' || all->id_told)
        return;
    l->db = all->second_db < s->ks->db_count ? all->second_db : 0;
    if (replication_lsn(s) == all->second_lsn) {
        durability_set_history(s, all->second_id);
        all->second_id[0] = '\0';
        return;
    }
    memcpy(l->fork_id, all->second_id, sizeof(l->fork_id));
    l->fork_lsn = all->second_lsn;
}

void replication_follow(struct server *s, const char *host, int port)
{
    struct replication *all = s->replication;
    struct primary_link *l = link_of(s);
    char *name = mem_dup(host, strlen(host));
    /* An own history can be gone on with only if what was done in it was counted. */
    if (!s->is_replica)
        l->continuable = s->stream != NULL;
    give_up_sync(s);
    replication_link_down(s, NULL);
    mem_free(s->config->replicaof_host);
    s->config->replicaof_host = name;
    s->config->replicaof_port = port;
    bool was_replica = s->is_replica;
    s->is_replica = true;
    if (!was_replica) {
        /* Without it there is nothing that nobody else has. */
        all->written |= s->effects != all->own_effects || s->changed_bytes != all->own_bytes;
        all->own = all->own && all->written;
        name_position(s);
    }
    forget_second(s);
    all->gone_acked = 0;
    durability_make_stream(s);
    replication_close_replicas(s, "this server is a replica of another one now");
    s->ks->lazy_expire_paused = true;
    l->failure = (struct error){0};
    l->down_told = false;
    l->diverged = l->given_up = false;
    l->keep = false;
    l->refused = false;
    l->retry_us = 0;
    l->connect_now = true;
    l->down_since_s = s->ks->now_ms / 1000;
    log_set_role('S');
    /* Who waits for keys to be written waits for what cannot be now. */
    for (struct client *c = s->clients.first; c != NULL; c = c->next)
        blocked_unblock(c, "UNBLOCKED force unblock from blocking operation, instance state "
                           "changed (master -> replica?)");
    replication_apply_config(s);
    hold_give_up(s->hold, INT64_MAX,
                 "NOREPLICAS This server became a replica before this was as sure as asked for: it "
                 "may be lost, "
                 "or not");
    hold_update(s->hold);
    quorum_became_replica(s);
    log_notice("This server is a replica of %s:%d", name, port);
    announce_replication(s, "following", name);
}

void replication_promote(struct server *s)
{
    struct replication *all = s->replication;
    struct primary_link *l = link_of(s);
    char id[SYNC_ID_SIZE + 1];
    if (!s->is_replica)
        return;
    give_up_sync(s);
    replication_link_down(s, NULL);
    replication_keep_forget(s);
    mem_free(s->config->replicaof_host);
    s->config->replicaof_host = mem_dup("", 0);
    s->is_replica = false;
    all->own = true;
    all->own_effects = s->effects;
    all->own_bytes = s->changed_bytes;
    l->continuable = false;
    l->refused = false;
    l->failure = (struct error){0};
    /* From here on it is another history, which has the old one up to here. */
    replication_close_replicas(s, "this server is a primary now");
    replication_new_id(id);
    forget_second(s);
    all->second_lsn = replication_lsn(s);
    all->second_db = l->db;
    all->second_promoted = true;
    if (l->data_lost) {
        /* What is in memory has nothing to do with any history. */
        all->second_id[0] = '\0';
        all->older.count = 0;
        all->lonely_since_us = s->now_us;
        durability_restart(s, id, all->second_lsn);
        l->data_lost = false;
    } else {
        snprintf(all->second_id, sizeof(all->second_id), "%s", s->durability->history);
        durability_set_history(s, id);
    }
    l->fork_id[0] = '\0';
    all->id_told = false;
    stream_select_again(s->stream);
    s->ks->lazy_expire_paused = false;
    log_set_role('M');
    replication_apply_config(s);
    hold_forget_replicas(s->hold);
    hold_update(s->hold);
    quorum_became_primary(s);
    log_notice("This server is a primary. Its history %s goes on from LSN %llu of %s", id,
               (unsigned long long)all->second_lsn, all->second_id);
    announce_replication(s, "promoted", id);
}

void replication_link_deinit(struct server *s)
{
    struct primary_link *l = link_of(s);
    replication_keep_deinit(s);
    if (l->sync != NULL) {
        struct sync_result *r = mem_alloc(sizeof(*r));
        sync_cancel(l->sync);
        sync_finish(l->sync, r);
        drop_full(s, r);
        l->sync = NULL;
    }
    if (l->loading != NULL) {
        drop_full(s, l->loading);
        l->loading = NULL;
    }
    text_free(&l->open_group);
}
