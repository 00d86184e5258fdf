/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replication as a primary: the replicas, the full resynchronisation that they share, and the
 * stream.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include "os/socket.h"
#include "persist/log/stream.h"
#include "server/announce.h"
#include "server/blocked.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/persistence.h"
#include "server/quorum.h"
#include "server/replication.h"

#define PIECES 32
/* Written to one replica before the others get their turn. */
#define SEND_MOST (4U << 20)

static void end_feed(struct server *s);

/* ---- the list ---- */

struct replica *replication_replica_of(struct client *c)
{
    if (c->replica == NULL) {
        c->replica = mem_zalloc(sizeof(*c->replica));
        c->replica->client = c;
    }
    return c->replica;
}

static void set_state(struct replica *r, enum replica_state state)
{
    r->state = state;
    r->since_us = r->acked_us = r->client->server->now_us;
}

static void list(struct client *c)
{
    struct server *s = c->server;
    struct replication *all = s->replication;
    struct replica *r = replication_replica_of(c);
    if (r->listed)
        return;
    r->listed = true;
    r->next = all->replicas;
    if (r->next != NULL)
        r->next->prev = r;
    all->replicas = r;
    all->replica_count++;
    all->lonely_since_us = 0;
    all->id_told = true;
    /* It asks, it is sent the stream, and it is not answered any more. */
    c->flags |= CLIENT_REPLICA | CLIENT_REPLY_OFF | CLIENT_NO_EVICT;
    if (s->config->repl_disable_tcp_nodelay)
        socket_set_delay(c->io.source.fd);
    durability_make_stream(s);
    replication_apply_config(s);
}

/* It goes on having it, and may be promoted: a link that breaks loses nothing more. */
static void note_gone_acked(struct server *s, const struct replica *r)
{
    struct replication *all = s->replication;
    if (!s->is_replica && replication_holds_acked(r) && r->acked > all->gone_acked)
        all->gone_acked = r->acked;
}

void replication_forget_client(struct client *c)
{
    struct server *s = c->server;
    struct replication *all = s->replication;
    struct replica *r = c->replica;
    if (c->wait_replicas != 0)
        all->waiting_clients--;
    c->wait_replicas = 0;
    if (r == NULL)
        return;
    c->replica = NULL;
    if (r->catchup != NULL) {
        /* Its thread has a descriptor of its own, which would keep the connection. */
        socket_shut_down(c->io.source.fd);
        replication_disk_cancel(r);
    }
    if (r->listed) {
        note_gone_acked(s, r);
        if (r->prev != NULL)
            r->prev->next = r->next;
        else
            all->replicas = r->next;
        if (r->next != NULL)
            r->next->prev = r->prev;
        all->replica_count--;
        if (all->replica_count == 0)
            all->lonely_since_us = s->now_us;
        log_notice("Replica %s has gone", client_peer(c));
        announce_replication(s, "replica-gone", client_peer(c));
    }
    for (size_t i = 0; i < all->fed_count; i++) {
        if (all->fed[i] != r)
            continue;
        all->fed[i] = NULL;
        /* The feed has a descriptor of its own, which would keep the connection. */
        if (all->feed != NULL) {
            feed_drop(all->feed, r->target);
            socket_shut_down(c->io.source.fd);
        }
    }
    if (r->reader != NULL)
        stream_reader_free(s->stream, r->reader);
    mem_free(r->pasts);
    mem_free(r);
}

void replication_close_replicas(struct server *s, const char *why)
{
    if (s->replication->replicas != NULL)
        log_notice("Replicas are disconnected: %s", why);
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        /* Its reader must not outlive the stream. */
        if (r->reader != NULL)
            stream_reader_free(s->stream, r->reader);
        r->reader = NULL;
        r->from_log = false;
        note_gone_acked(s, r);
        r->state = REPLICA_WAITING;
        /* First, as its thread may be waiting for the socket. */
        socket_shut_down(r->client->io.source.fd);
        replication_disk_cancel(r);
        client_close(r->client);
    }
}

uint64_t replication_lag(const struct server *s, const struct replica *r)
{
    if (r->state == REPLICA_CATCHING_UP || (r->from_log && s->stream != NULL))
        return stream_end(s->stream) - r->acked;
    if (r->reader == NULL)
        return 0;
    uint64_t end = stream_end(s->stream), at = stream_reader_lsn(r->reader);
    return end > at ? end - at : 0;
}

/* ---- the stream ---- */

static void send_line(struct client *c, const char *line)
{
    outbuf_append(&c->io.out, line, strlen(line));
    client_want_write(c);
}

/* Memory goes on where it is, or else the log does. False: neither does. */
static bool go_on_from_log(struct replica *r)
{
    struct server *s = r->client->server;
    r->from_log = false;
    if (r->acked >= stream_first(s->stream)) {
        r->reader = stream_reader_new(s->stream, r->acked);
        return false;
    }
    if (!replication_may_use_disk(s, r->acked)) {
        log_warning("Replica %s has all of the data, but not what has come behind it: the log is "
                    "not on any more",
                    client_peer(r->client));
        client_close(r->client);
        return true;
    }
    log_notice("Replica %s has all of the data, and gets what has come behind it from the log",
               client_peer(r->client));
    set_state(r, REPLICA_CATCHING_UP);
    replication_begin_disk(r->client, r->acked, false);
    return true;
}

static void go_online(struct replica *r)
{
    if (r->from_log && go_on_from_log(r))
        return;
    log_notice("Replica %s is online", client_peer(r->client));
    announce_replication(r->client->server, "replica-online", client_peer(r->client));
    set_state(r, REPLICA_ONLINE);
    replication_writable(r->client);
}

void replication_catch_up_replica(struct client *c, uint64_t lsn)
{
    list(c);
    c->replica->acked = lsn;
    set_state(c->replica, REPLICA_CATCHING_UP);
    log_notice(
        "Replica %s is at LSN %llu, the backlog begins at %llu: it is served from the log on disk",
        client_peer(c), (unsigned long long)lsn,
        (unsigned long long)stream_first(c->server->stream));
    replication_begin_disk(c, lsn, true);
}

void replication_disk_online(struct replica *r, uint64_t lsn)
{
    r->reader = stream_reader_new(r->client->server->stream, lsn);
    go_online(r);
}

void replication_continue_replica(struct client *c, uint64_t lsn)
{
    struct server *s = c->server;
    char line[64];
    list(c);
    struct replica *r = c->replica;
    r->reader = stream_reader_new(s->stream, lsn);
    r->acked = lsn;
    s->replication->sync_partial_ok++;
    if (r->psync2)
        snprintf(line, sizeof(line), "+CONTINUE %s\r\n", s->durability->history);
    else
        snprintf(line, sizeof(line), "+CONTINUE\r\n");
    send_line(c, line);
    log_notice("Replica %s goes on at LSN %llu, %llu bytes behind", client_peer(c),
               (unsigned long long)lsn, (unsigned long long)replication_lag(s, r));
    announce_replication(s, "replica-online", client_peer(c));
    set_state(r, REPLICA_ONLINE);
}

bool replication_gated(const struct server *s)
{
    return s->durability->writer != NULL &&
           (hold_uses(s->hold, HOLD_LOCAL) || hold_uses(s->hold, HOLD_QUORUM));
}

/* While replies wait for the disk so do the replicas: none of them ever has what this server could
 * still lose. */
static uint64_t may_send(const struct server *s)
{
    const struct durability *d = s->durability;
    uint64_t published = stream_published(s->stream);
    if (!replication_gated(s))
        return published;
    uint64_t durable = writer_durable_lsn(d->writer);
    return durable < published ? durable : published;
}

static void set_blocked(struct client *c, bool blocked)
{
    if (c->io.write_blocked == blocked)
        return;
    c->io.write_blocked = blocked;
    uint32_t events = c->io.source.events;
    loop_set_events(c->io.loop, &c->io.source,
                    blocked ? events | EPOLLOUT : events & ~(uint32_t)EPOLLOUT);
}

void replication_writable(struct client *c)
{
    struct server *s = c->server;
    struct replica *r = c->replica;
    if (r == NULL || r->state != REPLICA_ONLINE || r->reader == NULL ||
        !outbuf_is_empty(&c->io.out))
        return;
    uint64_t limit = may_send(s);
    size_t sent = 0;
    for (;;) {
        struct iovec pieces[PIECES];
        uint64_t at = stream_reader_lsn(r->reader);
        if (at >= limit || sent >= SEND_MOST)
            break;
        uint64_t left = limit - at;
        int count = stream_reader_peek(r->reader, pieces, PIECES,
                                       left < SEND_MOST ? (size_t)left : SEND_MOST);
        if (count == 0)
            break;
        size_t size = 0;
        for (int i = 0; i < count; i++)
            size += pieces[i].iov_len;
        s->stats.writes++;
        ssize_t n = connection_writev(&c->io, pieces, count);
        if (n < 0 && errno != EAGAIN) {
            log_verbose("Error writing to replica: %s", strerror(errno));
            client_close(c);
            return;
        }
        if (n > 0) {
            stream_reader_advance(r->reader, (size_t)n);
            c->output_bytes += (size_t)n;
            s->stats.output_bytes += (size_t)n;
            sent += (size_t)n;
        }
        if (n < (ssize_t)size) {
            set_blocked(c, true);
            return;
        }
    }
    /* What is left of a long way to go is sent when the loop comes around again. */
    set_blocked(c, stream_reader_lsn(r->reader) < limit);
}

/* ---- acknowledgements ---- */

bool replication_holds_acked(const struct replica *r)
{
    return (r->state == REPLICA_ONLINE || r->state == REPLICA_CATCHING_UP) && !r->plain_sync;
}

size_t replication_count_acked(const struct server *s, uint64_t lsn)
{
    size_t count = 0;
    for (const struct replica *r = s->replication->replicas; r != NULL; r = r->next)
        count += r->state == REPLICA_ONLINE && r->acked >= lsn;
    return count;
}

size_t replication_count_on_disk(const struct server *s, uint64_t lsn)
{
    size_t count = 0;
    for (const struct replica *r = s->replication->replicas; r != NULL; r = r->next)
        count += r->state == REPLICA_ONLINE && r->facked >= lsn;
    return count;
}

void replication_update_sure(struct server *s)
{
    struct replication *all = s->replication;
    struct hold *h = s->hold;
    uint64_t best[HOLD_REPLICAS_MOST];
    int count = 0;
    if (s->is_replica || s->stream == NULL || !hold_uses_replicas(h))
        return;
    for (const struct replica *r = all->replicas; r != NULL; r = r->next) {
        if (r->state != REPLICA_ONLINE || r->plain_sync ||
            (count == HOLD_REPLICAS_MOST && best[count - 1] >= r->acked))
            continue;
        int at = count < HOLD_REPLICAS_MOST ? count++ : count - 1;
        for (; at > 0 && best[at - 1] < r->acked; at--)
            best[at] = best[at - 1];
        best[at] = r->acked;
    }
    for (int i = 0; i < count; i++)
        hold_note_sure(h, HOLD_REPLICA + (enum hold_level)i, best[i]);
    hold_note_sure(h, HOLD_QUORUM, quorum_sure(s));
    hold_let_go(h);
}

void replication_take_node(struct client *c)
{
    for (struct replica *r = c->server->replication->replicas; r != NULL; r = r->next) {
        if (r == c->replica || r->node[0] == '\0' || strcmp(r->node, c->replica->node) != 0)
            continue;
        r->node[0] = '\0';
        client_close(r->client);
    }
}

void replication_wake_waiting(struct server *s)
{
    if (s->replication->waiting_clients == 0)
        return;
    for (struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (c->wait_replicas != 0 && !(c->flags & CLIENT_CLOSING) &&
            replication_count_acked(s, c->wait_lsn) >= c->wait_replicas &&
            !blocked_unblock(c, NULL)) {
            /* CLIENT UNBLOCK has been there. */
            c->wait_replicas = 0;
            s->replication->waiting_clients--;
        }
    }
}

void replication_ask_for_acks(struct server *s)
{
    static const char ask[] = "*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n";
    if (s->is_replica || s->stream == NULL || stream_in_group(s->stream) || s->pause.quorum)
        return;
    stream_append_raw(s->stream, slice_of(ask, sizeof(ask) - 1), 1);
}

/* At least for as long as a replica that has nothing to say needs to say so. */
#define PRESENT_LEAST_US 2500000

static void count_present(struct server *s)
{
    struct replication *all = s->replication;
    int64_t within_us = s->config->durability_timeout * 1000;
    size_t count = 0;
    if (within_us < PRESENT_LEAST_US)
        within_us = PRESENT_LEAST_US;
    for (const struct replica *r = all->replicas; r != NULL; r = r->next)
        count +=
            r->state == REPLICA_ONLINE && !r->plain_sync && s->now_us - r->acked_us <= within_us;
    all->present_count = count;
    all->quorum_present = quorum_is_on(s->quorum) ? quorum_present(s, within_us) : 0;
}

void replication_acknowledged(struct client *c, uint64_t lsn, uint64_t durable)
{
    struct server *s = c->server;
    struct replica *r = c->replica;
    if (r == NULL || !r->listed)
        return;
    r->acked_us = s->now_us;
    /* It cannot have what it was not sent: what is beyond is not believed. */
    bool reads = r->reader != NULL || r->state == REPLICA_CATCHING_UP;
    if (reads && lsn > r->acked && lsn <= stream_end(s->stream))
        r->acked = lsn;
    if (reads && durable > r->facked && durable <= r->acked)
        r->facked = durable;
    if (r->state == REPLICA_READY)
        go_online(r);
    count_present(s);
    replication_update_sure(s);
    replication_wake_waiting(s);
    if (durable != 0)
        blocked_durable(s, 0);
}

static void count_good(struct server *s)
{
    count_present(s);
    struct replication *all = s->replication;
    int64_t most_us = s->config->min_replicas_max_lag * 1000000;
    size_t good = 0;
    for (const struct replica *r = all->replicas; r != NULL; r = r->next)
        good += r->state == REPLICA_ONLINE && s->now_us - r->acked_us <= most_us;
    all->good_count = good;
}

/* ---- the full resynchronisation ---- */

void replication_begin_replica(struct client *c, bool full, const char *reason)
{
    struct server *s = c->server;
    list(c);
    s->replication->sync_full++;
    if (!full)
        s->replication->sync_partial_err++;
    snprintf(s->replication->full_reason, sizeof(s->replication->full_reason), "%s", reason);
    set_state(c->replica, REPLICA_WAITING);
    announce_replication(s, "full", reason);
    log_notice("Replica %s gets a full resynchronisation: %s", client_peer(c), reason);
}

static bool wants_file(const struct server *s, const struct replica *r)
{
    /* What is left out is left out by the one who sends. */
    if (r->without_keys || r->without_functions)
        return false;
    return !r->eof || !s->config->repl_diskless_sync;
}

static bool wants_the_same(const struct replica *a, const struct replica *b)
{
    return a->without_keys == b->without_keys && a->without_functions == b->without_functions;
}

static bool is_waiting(const struct server *s, const struct replica *r, bool file)
{
    return r->state == REPLICA_WAITING && !(r->client->flags & CLIENT_CLOSING) &&
           outbuf_is_empty(&r->client->io.out) && wants_file(s, r) == file;
}

/* On the feed's thread. */
static void on_feed_ended(void *ctx)
{
    end_feed(ctx);
}

static void wake(void *ctx)
{
    struct server *s = ctx;
    loop_post(s->loop, on_feed_ended, s);
}

static void save_options_of(struct server *s, struct save_options *options, uint64_t lsn)
{
    persistence_options(s, options);
    /* A replica has to get the data, whatever the files are to be. */
    options->raise_version = true;
    options->aux_count = 0;
    replication_put_aux(s, options, lsn);
}

static void feed_failed(struct server *s, const struct error *err)
{
    log_warning("A full resynchronisation could not be begun: %s", err->message);
    struct replication *all = s->replication;
    for (size_t i = 0; i < all->fed_count; i++) {
        if (all->fed[i] != NULL)
            client_close(all->fed[i]->client);
    }
    mem_free(all->fed);
    all->fed = NULL;
    all->fed_count = 0;
}

/* The replicas in all->fed get the snapshot, or the file. */
static void start_feed(struct server *s, struct snapshot *snapshot, uint64_t lsn, const char *path)
{
    struct replication *all = s->replication;
    struct error err = {0};
    struct feed_target *targets = mem_zalloc(all->fed_count * sizeof(*targets));
    struct feed_options options = {.targets = targets,
                                   .timeout_ms = (int)(s->config->repl_timeout * 1000),
                                   .path = path,
                                   .wake = wake,
                                   .ctx = s};
    size_t count = 0;
    for (size_t i = 0; i < all->fed_count; i++) {
        struct replica *r = all->fed[i];
        int fd = r != NULL ? socket_duplicate(r->client->io.source.fd) : -1;
        if (fd < 0) {
            if (r != NULL)
                client_close(r->client);
            continue;
        }
        all->fed[count] = r;
        r->target = count;
        set_state(r, REPLICA_FEEDING);
        options.without_keys = r->without_keys;
        options.without_functions = r->without_functions;
        targets[count].fd = fd;
        if (r->client->io.tls != NULL)
            targets[count].tls = tls_share(r->client->io.tls);
        if (!r->plain_sync)
            snprintf(targets[count].preamble, FEED_PREAMBLE_MAX, "+FULLRESYNC %s %llu\r\n",
                     s->durability->history, (unsigned long long)lsn);
        count++;
    }
    all->fed_count = options.count = count;
    save_options_of(s, &options.save, lsn);
    if (count > 0) {
        log_notice("A full resynchronisation of %zu replicas begins at LSN %llu", count,
                   (unsigned long long)lsn);
        all->feed = feed_start(s->ks, snapshot, &options, &err);
    } else {
        error_set(&err, ERROR_SYSTEM, "no replica is left");
        if (snapshot != NULL)
            snapshot_end(s->ks, snapshot);
    }
    mem_free(targets);
    if (all->feed == NULL)
        feed_failed(s, &err);
}

/* Those that wait, and want the same, from now on served together; each holds the stream from `lsn`
 * on. */
static size_t gather(struct server *s, bool file, enum replica_state state, uint64_t lsn)
{
    struct replication *all = s->replication;
    const struct replica *first = NULL;
    size_t count = 0;
    for (struct replica *r = all->replicas; r != NULL; r = r->next) {
        if (!is_waiting(s, r, file) || (first != NULL && !wants_the_same(first, r)))
            continue;
        if (first == NULL)
            first = r;
        count++;
    }
    if (count == 0)
        return 0;
    all->fed = mem_alloc(count * sizeof(struct replica *));
    all->fed_count = 0;
    for (struct replica *r = all->replicas; r != NULL; r = r->next) {
        if (!is_waiting(s, r, file) || !wants_the_same(first, r))
            continue;
        all->fed[all->fed_count++] = r;
        r->reader = stream_reader_new(s->stream, lsn);
        r->acked = lsn;
        set_state(r, state);
    }
    return count;
}

/* A position at which no group is open, and which the stream's next SELECT comes behind. */
static uint64_t begin_position(struct server *s)
{
    durability_publish(s);
    if (!s->is_replica)
        stream_select_again(s->stream);
    return stream_end(s->stream);
}

static void start_diskless(struct server *s)
{
    uint64_t lsn = begin_position(s);
    if (gather(s, false, REPLICA_FEEDING, lsn) > 0)
        start_feed(s, snapshot_begin(s->ks), lsn, NULL);
}

static void on_save_ended(void *ctx)
{
    struct server *s = ctx;
    struct replication *all = s->replication;
    struct save_result result;
    struct error err = {0};
    if (all->save == NULL || !save_job_ended(all->save))
        return;
    bool ok = save_job_finish(all->save, &result, &err);
    all->save = NULL;
    if (ok)
        start_feed(s, NULL, all->save_lsn, all->save_path);
    else
        feed_failed(s, &err);
}

static void wake_saved(void *ctx)
{
    struct server *s = ctx;
    loop_post(s->loop, on_save_ended, s);
}

static void start_file(struct server *s)
{
    struct replication *all = s->replication;
    struct error err = {0};
    struct save_options options;
    uint64_t lsn = begin_position(s);
    if (gather(s, true, REPLICA_SAVING, lsn) == 0)
        return;
    save_options_of(s, &options, lsn);
    all->save_lsn = lsn;
    snprintf(all->save_path, sizeof(all->save_path), "temp-feed-%d.rdb", os_process_id());
    snprintf(options.path, sizeof(options.path), "%s", all->save_path);
    all->save = save_job_start(s->ks, snapshot_begin(s->ks), &options, wake_saved, s, &err);
    if (all->save == NULL)
        feed_failed(s, &err);
}

/* How long those that wait have still to wait for others to join them; INT64_MAX: there are
 * none. */
static int64_t wait_left_us(const struct server *s, bool file)
{
    const struct config *c = s->config;
    size_t count = 0;
    int64_t first_us = INT64_MAX;
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        if (!is_waiting(s, r, file))
            continue;
        count++;
        if (r->since_us < first_us)
            first_us = r->since_us;
    }
    if (count == 0)
        return INT64_MAX;
    if (file || c->repl_diskless_sync_delay == 0 ||
        (c->repl_diskless_sync_max_replicas > 0 &&
         count >= (size_t)c->repl_diskless_sync_max_replicas))
        return 0;
    int64_t left = first_us + c->repl_diskless_sync_delay * 1000000 - s->now_us;
    return left > 0 ? left : 0;
}

static bool may_begin(const struct server *s)
{
    const struct replication *all = s->replication;
    if (all->feed != NULL || all->save != NULL || all->fed != NULL || s->loading ||
        s->stream == NULL || stream_in_group(s->stream))
        return false;
    /* A replica that is not in step with its own primary has nothing to give. */
    return !s->is_replica || all->link.state == LINK_UP;
}

static void begin_if_time(struct server *s)
{
    if (!may_begin(s))
        return;
    if (wait_left_us(s, false) == 0)
        start_diskless(s);
    else if (wait_left_us(s, true) == 0)
        start_file(s);
}

int64_t replication_feed_due_ms(const struct server *s)
{
    int64_t left_us = may_begin(s) ? wait_left_us(s, false) : INT64_MAX;
    return left_us < INT64_MAX - 1000 ? (left_us + 999) / 1000 + 1 : INT64_MAX;
}

static void end_feed(struct server *s)
{
    struct replication *all = s->replication;
    struct error err = {0};
    if (all->feed == NULL || !feed_ended(all->feed))
        return;
    bool *ok = mem_zalloc((all->fed_count + 1) * sizeof(*ok));
    if (!feed_finish(all->feed, ok, &err))
        log_warning("A full resynchronisation has failed: %s", err.message);
    all->feed = NULL;
    for (size_t i = 0; i < all->fed_count; i++) {
        struct replica *r = all->fed[i];
        if (r == NULL || r->client->flags & CLIENT_CLOSING)
            continue;
        if (!ok[i] || r->rdb_only)
            client_close_after_reply(r->client);
        else if (r->plain_sync)
            go_online(r);
        else
            set_state(r, REPLICA_READY);
    }
    mem_free(ok);
    mem_free(all->fed);
    all->fed = NULL;
    all->fed_count = 0;
}

/* ---- the cron ---- */

static bool over_limit(struct server *s, struct replica *r)
{
    const struct output_limit *l = &s->limits.output[CLIENT_CLASS_REPLICA];
    uint64_t lag = replication_lag(s, r), hard = l->hard_bytes;
    /* A limit below the backlog would cut off those that the backlog is for. */
    if (hard != 0 && hard < (uint64_t)s->config->repl_backlog_size)
        hard = (uint64_t)s->config->repl_backlog_size;
    if (hard != 0 && lag > hard)
        return true;
    if (l->soft_bytes == 0 || lag <= l->soft_bytes) {
        r->soft_limit_since_us = 0;
        return false;
    }
    if (r->soft_limit_since_us == 0)
        r->soft_limit_since_us = s->now_us;
    return s->now_us - r->soft_limit_since_us > l->soft_seconds * 1000000;
}

static void look_after(struct server *s, struct replica *r)
{
    int64_t timeout_us = s->config->repl_timeout * 1000000;
    if (r->client->flags & CLIENT_CLOSING)
        return;
    bool acknowledges = r->state == REPLICA_READY || (r->state == REPLICA_ONLINE && !r->plain_sync);
    if (acknowledges && s->now_us - r->acked_us > timeout_us) {
        log_warning("Replica %s has said nothing for repl-timeout seconds: it is disconnected",
                    client_peer(r->client));
        client_close(r->client);
    } else if (r->reader != NULL && over_limit(s, r)) {
        log_warning("Replica %s is %llu bytes behind, more than client-output-buffer-limit allows: "
                    "it is disconnected",
                    client_peer(r->client), (unsigned long long)replication_lag(s, r));
        s->stats.output_buffer_closed++;
        client_close(r->client);
    }
}

/* While it is sent all of the data the stream grows behind it, in memory: no more than the backlog
 * where the log has it, too, and does not go back behind it before it is sent from there. */
static void leave_to_log(struct server *s)
{
    struct durability *d = s->durability;
    uint64_t most = (uint64_t)s->config->repl_backlog_size, first;
    uint64_t keep = (uint64_t)s->config->repl_log_history;
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        bool fed = r->state == REPLICA_SAVING || r->state == REPLICA_FEEDING ||
                   r->state == REPLICA_READY;
        if (fed && r->reader != NULL && replication_lag(s, r) > most &&
            replication_may_use_disk(s, r->acked) &&
            generation_first_lsn(&d->generation, &first) && first <= r->acked) {
            stream_reader_free(s->stream, r->reader);
            r->reader = NULL;
            r->from_log = true;
        }
        if (r->from_log || r->state == REPLICA_CATCHING_UP) {
            uint64_t behind = replication_lag(s, r);
            keep = behind > keep ? behind : keep;
        }
    }
    d->generation.keep_bytes = keep;
}

static void ping(struct server *s)
{
    static const char request[] = "*1\r\n$4\r\nPING\r\n";
    struct replication *all = s->replication;
    for (struct replica *r = all->replicas; r != NULL; r = r->next) {
        /* So that it knows that it is waited with, not for. */
        if (r->state == REPLICA_WAITING || r->state == REPLICA_SAVING)
            send_line(r->client, "\n");
    }
    if (s->is_replica || s->stream == NULL || all->replica_count == 0 ||
        stream_in_group(s->stream) || server_is_paused(s))
        return;
    stream_append_raw(s->stream, slice_of(request, sizeof(request) - 1), 1);
    durability_publish(s);
}

/* Nobody has asked for the stream for so long that it is not worth its memory. */
static void give_up_backlog(struct server *s)
{
    struct replication *all = s->replication;
    int64_t ttl = s->config->repl_backlog_ttl;
    if (all->lonely_since_us == 0 || ttl == 0 || s->is_replica ||
        s->now_us - all->lonely_since_us < ttl * 1000000)
        return;
    all->lonely_since_us = 0;
    if (s->durability->writer == NULL) {
        /* From here on nobody counts: what is at this LSN later is another history. */
        all->second_id[0] = '\0';
        all->older.count = 0;
        replication_new_id(s->durability->history);
        all->id_told = false;
        all->gone_acked = 0;
        durability_drop_stream(s);
    }
    replication_apply_config(s);
}

void replication_primary_cron(struct server *s)
{
    struct replication *all = s->replication;
    for (struct replica *r = all->replicas; r != NULL; r = r->next)
        look_after(s, r);
    leave_to_log(s);
    count_good(s);
    hold_give_up(s->hold, s->now_us - s->config->durability_timeout * 1000,
                 "NOREPLICAS Replicas did not make this as sure as asked for in time: it may be "
                 "lost, or not");
    quorum_step(s);
    if (s->now_us - all->ping_us >= s->config->repl_ping_replica_period * 1000000) {
        all->ping_us = s->now_us;
        ping(s);
    }
    begin_if_time(s);
    give_up_backlog(s);
}

void replication_primary_deinit(struct server *s)
{
    struct replication *all = s->replication;
    struct error err;
    struct save_result result;
    if (all->feed != NULL) {
        bool *ok = mem_zalloc((all->fed_count + 1) * sizeof(*ok));
        feed_cancel(all->feed);
        feed_finish(all->feed, ok, &err);
        mem_free(ok);
        all->feed = NULL;
    }
    if (all->save != NULL) {
        save_job_cancel(all->save);
        if (save_job_finish(all->save, &result, &err))
            os_unlink(all->save_path, &err);
        all->save = NULL;
    }
    mem_free(all->fed);
    all->fed = NULL;
}
