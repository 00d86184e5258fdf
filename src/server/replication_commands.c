/* SPDX-License-Identifier: BSD-3-Clause
 *
 * REPLICAOF, REPLCONF, PSYNC, SYNC, ROLE.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/text.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/quorum.h"
#include "server/replication.h"

void cmd_replicaof(struct call *c)
{
    struct server *s = c->server;
    const struct config *config = s->config;
    int64_t port;
    if (failover_is_on(&s->replication->failover)) {
        reply_error(c->reply, "ERR REPLICAOF not allowed while failing over.");
        return;
    }
    if (slice_is(c->argv[1], "no") && slice_is(c->argv[2], "one")) {
        if (s->is_replica)
            log_notice("Promotion was asked for by %s", client_peer(c->client));
        replication_promote(s);
        reply_ok(c->reply);
        return;
    }
    if (c->client->flags & CLIENT_REPLICA) {
        reply_error(c->reply, "ERR Command is not valid when client is a replica.");
        return;
    }
    if (!call_int64_range(c, c->argv[2], 0, 65535, &port, "ERR Invalid master port"))
        return;
    if (c->argv[1].size == 0 || c->argv[1].size > 255 ||
        memchr(c->argv[1].data, '\0', c->argv[1].size) != NULL) {
        reply_error(c->reply, "ERR Invalid master host");
        return;
    }
    if (s->is_replica && slice_is(c->argv[1], config->replicaof_host) &&
        config->replicaof_port == port) {
        reply_simple(c->reply, "OK Already connected to specified master");
        return;
    }
    char *host = mem_dup(c->argv[1].data, c->argv[1].size);
    replication_follow(s, host, (int)port);
    mem_free(host);
    reply_ok(c->reply);
}

void cmd_slaveof(struct call *c)
{
    cmd_replicaof(c);
}

/* ---- REPLCONF ---- */

static void take_capability(struct replica *r, struct slice name)
{
    r->eof |= slice_is(name, "eof");
    r->psync2 |= slice_is(name, "psync2");
    r->regression |= slice_is(name, "regression");
    r->diverged |= slice_is(name, "diverged");
    r->own |= slice_is(name, "own");
}

/* Words of what is wanted of the data: "functions", or nothing. False: an error was replied. */
static bool take_filter(struct call *c, struct slice value)
{
    struct replica *r = replication_replica_of(c->client);
    struct words words;
    if (!text_split(&words, value)) {
        reply_error(c->reply, "ERR Missing rdb-filter-only values");
        return false;
    }
    r->without_keys = r->without_functions = true;
    bool ok = true;
    for (int i = 0; ok && i < words.count; i++) {
        ok = slice_is(words.items[i], "functions");
        if (ok)
            r->without_functions = false;
        else
            reply_errorf(c->reply, "ERR Unsupported rdb-filter-only option: %.*s",
                         (int)(words.items[i].size < 128 ? words.items[i].size : 128),
                         words.items[i].data);
    }
    words_free(&words);
    return ok;
}

struct said {
    bool ack; /* nothing is answered */
    uint64_t lsn, durable;
    bool joins; /* the answer is the epoch */
};

/* False: an error was replied. */
static bool take_option(struct call *c, struct slice name, struct slice value, struct said *said)
{
    struct replica *r = replication_replica_of(c->client);
    int64_t number;
    if (slice_is(name, "ack")) {
        said->ack = true;
        if (number_parse_int64(value, &number) && number >= 0)
            said->lsn = (uint64_t)number;
    } else if (slice_is(name, "fack")) {
        said->ack = true;
        if (number_parse_int64(value, &number) && number >= 0)
            said->durable = (uint64_t)number;
    } else if (slice_is(name, "quorum-epoch")) {
        if (r->node[0] != '\0' && number_parse_int64(value, &number) && number >= 0)
            r->epoch = (uint64_t)number;
    } else if (slice_is(name, "quorum-node")) {
        if (!quorum_is_on(c->server->quorum) || !quorum_is_other(c->server->quorum, value)) {
            reply_error(c->reply, "ERR That is no other one of this server's quorum-nodes");
            return false;
        }
        snprintf(r->node, sizeof(r->node), "%.*s", (int)value.size, value.data);
        said->joins = true;
    } else if (slice_is(name, "quorum-promised")) {
        if (!call_int64_range(c, value, 0, INT64_MAX, &number, NULL))
            return false;
        quorum_note_promise(c->server, (uint64_t)number);
    } else if (slice_is(name, "getack")) {
        /* From a primary; it came here from a client. */
        said->ack = true;
    } else if (slice_is(name, "listening-port")) {
        if (!call_int64(c, value, &number, NULL))
            return false;
        r->listening_port = (int)number;
    } else if (slice_is(name, "ip-address")) {
        if (value.size >= sizeof(r->ip)) {
            reply_errorf(
                c->reply,
                "ERR REPLCONF ip-address provided by replica instance is too long: %zu bytes",
                value.size);
            return false;
        }
        /* It is shown in INFO, one field of a line. */
        for (size_t i = 0; i < value.size; i++) {
            if (value.data[i] <= ' ' || value.data[i] > '~' || value.data[i] == ',') {
                reply_error(c->reply, "ERR REPLCONF ip-address is no address");
                return false;
            }
        }
        memcpy(r->ip, value.data, value.size);
        r->ip[value.size] = '\0';
    } else if (slice_is(name, "capa")) {
        take_capability(r, value);
    } else if (slice_is(name, "rdb-only")) {
        if (!call_int64_range(c, value, 0, 1, &number, NULL))
            return false;
        r->rdb_only = number == 1;
    } else if (slice_is(name, "past")) {
        struct lineage_past past;
        if (!lineage_parse(value, &past)) {
            reply_error(c->reply, "ERR REPLCONF past is no history");
            return false;
        }
        if (r->pasts == NULL)
            r->pasts = mem_zalloc(sizeof(*r->pasts));
        /* The newest come first. */
        lineage_put(r->pasts, r->pasts->count, &past);
    } else if (slice_is(name, "rdb-filter-only")) {
        return take_filter(c, value);
    } else if (!slice_is(name, "version")) {
        reply_errorf(c->reply, "ERR Unrecognized REPLCONF option: %.*s",
                     (int)(name.size < 128 ? name.size : 128), name.data);
        return false;
    }
    return true;
}

void cmd_replconf(struct call *c)
{
    struct said said = {0};
    const struct quorum *q = c->server->quorum;
    char line[64];
    if (c->argc % 2 == 0) {
        reply_syntax_error(c->reply);
        return;
    }
    for (int i = 1; i < c->argc; i += 2) {
        if (!take_option(c, c->argv[i], c->argv[i + 1], &said))
            return;
    }
    if (said.ack) {
        replication_acknowledged(c->client, said.lsn, said.durable);
    } else if (said.joins) {
        snprintf(line, sizeof(line), "EPOCH %llu %llu", (unsigned long long)q->epoch,
                 (unsigned long long)q->epoch_lsn);
        reply_simple(c->reply, line);
    } else {
        reply_ok(c->reply);
    }
}

/* ---- PSYNC and SYNC ---- */

static bool may_sync(struct call *c)
{
    struct server *s = c->server;
    if (s->is_replica && s->replication->link.state != LINK_UP) {
        reply_error(c->reply, "NOMASTERLINK Can't SYNC while not connected with my master");
        return false;
    }
    if (!outbuf_is_empty(&c->client->io.out)) {
        reply_error(c->reply, "ERR SYNC and PSYNC are invalid with pending output");
        return false;
    }
    /* A part of the data is not kept in a file, and so has no size that could be told before. */
    const struct replica *r = replication_replica_of(c->client);
    if ((r->without_keys || r->without_functions) && !r->eof) {
        reply_error(c->reply, "ERR Filtered replica requires EOF capability");
        return false;
    }
    return true;
}

/* How a place in a history stands to this server's data. */
enum standing {
    STANDING_UNKNOWN, /* another history */
    STANDING_OURS,    /* the data went by there */
    STANDING_AHEAD,   /* of this history, where it has not come to yet, or has lost the end of */
    STANDING_ASTRAY   /* of a history that this server has left before, at *left */
};

static enum standing stands(const struct server *s, struct slice id, uint64_t lsn,
                            struct lineage_past *left)
{
    struct lineage l;
    if (slice_is(id, s->durability->history))
        return lsn <= replication_lsn(s) ? STANDING_OURS : STANDING_AHEAD;
    replication_lineage(s, &l);
    const struct lineage_past *past = lineage_find(&l, id);
    if (past == NULL)
        return STANDING_UNKNOWN;
    *left = *past;
    return lsn <= past->lsn ? STANDING_OURS : STANDING_ASTRAY;
}

/* Whoever was left behind by a promotion is told where the ways part, and whoever has more of a
 * history than this server, which has lost the end of it, is told so. Where the history that a
 * replica is of is not known here, one that its data have come through may be: it is told how far
 * that is the same, and what it has behind it it has done by itself. False: nothing was told. */
static bool tell_where_left(struct call *c, struct slice id, uint64_t lsn)
{
    struct server *s = c->server;
    const struct replica *r = c->client->replica;
    struct lineage_past left = {0};
    enum standing standing = stands(s, id, lsn, &left);
    bool asked = true, promoted = quorum_is_on(s->quorum) && s->quorum->epoch != 0;
    for (int i = 0; standing == STANDING_UNKNOWN && r->diverged && r->pasts != NULL &&
                    i < r->pasts->count; i++) {
        asked = false;
        id = slice_cstr(r->pasts->pasts[i].id);
        lsn = r->pasts->pasts[i].lsn;
        standing = stands(s, id, lsn, &left);
        /* In this one it went another way by itself, from there on. */
        if (standing == STANDING_OURS)
            left.lsn = lsn;
    }
    if (r->diverged && ((standing == STANDING_OURS && !asked) ||
                        (standing == STANDING_ASTRAY && (left.promoted || promoted)))) {
        log_notice("Replica %s has gone astray from LSN %llu of a history of this server's on: it "
                   "is told so",
                   client_peer(c->client), (unsigned long long)left.lsn);
        if (asked)
            reply_errorf(c->reply, "DIVERGED %llu", (unsigned long long)left.lsn);
        else
            reply_errorf(c->reply, "DIVERGED %llu %.*s", (unsigned long long)left.lsn,
                         (int)id.size, id.data);
        return true;
    }
    if (r->regression && (standing == STANDING_AHEAD ||
                          (standing == STANDING_ASTRAY && !left.promoted))) {
        uint64_t here = standing == STANDING_AHEAD ? replication_lsn(s) : left.lsn;
        log_warning("Replica %s is at LSN %llu of this server's history, which goes no further "
                    "than %llu here: it is told so",
                    client_peer(c->client), (unsigned long long)lsn, (unsigned long long)here);
        reply_errorf(c->reply, "REGRESSION this server is at %llu", (unsigned long long)here);
        return true;
    }
    return false;
}

/* A replica with something of its own, of which nothing is known here, keeps that before it is sent
 * everything. */
static bool tell_unrelated(struct call *c)
{
    if (!c->client->replica->own)
        return false;
    log_notice("Replica %s has written something itself, in a history that is not known here: it "
               "is told so first",
               client_peer(c->client));
    reply_error(c->reply, "UNRELATED this server's data are of another history");
    return true;
}

void cmd_psync(struct call *c)
{
    struct server *s = c->server;
    struct replica *r = replication_replica_of(c->client);
    struct slice id = c->argv[1];
    int64_t next;
    char reason[160];
    if (c->client->flags & (CLIENT_REPLICA | CLIENT_MASTER))
        return;
    bool is_number = number_parse_int64(c->argv[2], &next);
    if (c->argc > 3 && slice_is(c->argv[3], "failover")) {
        const char *error = failover_take_over(
            s, id, is_number && next > 0 ? (uint64_t)next - 1 : 0, r->regression);
        if (error != NULL) {
            reply_error(c->reply, error);
            return;
        }
    }
    if (!may_sync(c))
        return;
    if (!is_number) {
        reply_not_integer(c->reply);
        return;
    }
    if (r->node[0] != '\0')
        replication_take_node(c->client);
    bool asks = slice_equal(id, SLICE("?")) || next < 1;
    if (asks && tell_unrelated(c))
        return;
    if (asks) {
        replication_begin_replica(c->client, true, "it has asked for one");
        return;
    }
    uint64_t lsn = (uint64_t)next - 1, end = replication_lsn(s);
    struct lineage_past left;
    enum standing standing = stands(s, id, lsn, &left);
    bool ours = standing == STANDING_OURS;
    if (ours && s->stream != NULL && lsn >= stream_first(s->stream)) {
        replication_continue_replica(c->client, lsn);
        return;
    }
    if (ours && replication_may_use_disk(s, lsn) && s->stream != NULL &&
        lsn < stream_first(s->stream)) {
        replication_catch_up_replica(c->client, lsn);
        return;
    }
    if (tell_where_left(c, id, lsn) || (standing == STANDING_UNKNOWN && tell_unrelated(c)))
        return;
    if (standing == STANDING_UNKNOWN)
        snprintf(reason, sizeof(reason), "it is of another history, %.*s",
                 (int)(id.size < 40 ? id.size : 40), id.data);
    else if (s->stream == NULL || lsn < stream_first(s->stream))
        snprintf(reason, sizeof(reason), "it is at LSN %llu, the backlog begins at %llu",
                 (unsigned long long)lsn,
                 (unsigned long long)(s->stream != NULL ? stream_first(s->stream) : end));
    else if (standing == STANDING_ASTRAY)
        snprintf(reason, sizeof(reason),
                 "it is at LSN %llu, and this server went another way from %llu on",
                 (unsigned long long)lsn, (unsigned long long)left.lsn);
    else
        snprintf(reason, sizeof(reason), "it is at LSN %llu, which this server has not reached",
                 (unsigned long long)lsn);
    for (char *p = reason; *p != '\0'; p++) {
        if (*p < ' ' || *p > '~')
            *p = '?';
    }
    replication_begin_replica(c->client, false, reason);
}

void cmd_sync(struct call *c)
{
    struct replica *r = replication_replica_of(c->client);
    if (c->client->flags & (CLIENT_REPLICA | CLIENT_MASTER) || !may_sync(c))
        return;
    r->plain_sync = true;
    replication_begin_replica(c->client, true, "it has asked for one by SYNC");
}

/* ---- ROLE ---- */

static void role_of_primary(struct call *c)
{
    struct server *s = c->server;
    reply_array(c->reply, 3);
    reply_bulk_cstr(c->reply, "master");
    reply_int(c->reply, (int64_t)replication_lsn(s));
    size_t count = 0;
    for (const struct replica *r = s->replication->replicas; r != NULL; r = r->next)
        count += r->state == REPLICA_ONLINE;
    reply_array(c->reply, count);
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        char ip[SOCKET_NAME_SIZE], number[NUMBER_INT64_SIZE];
        if (r->state != REPLICA_ONLINE)
            continue;
        replication_address(r, ip);
        reply_array(c->reply, 3);
        reply_bulk_cstr(c->reply, ip);
        reply_bulk(c->reply, slice_of(number, number_format_int64(number, r->listening_port)));
        reply_bulk(c->reply, slice_of(number, number_format_int64(number, (int64_t)r->acked)));
    }
}

void cmd_role(struct call *c)
{
    struct server *s = c->server;
    if (!s->is_replica) {
        role_of_primary(c);
        return;
    }
    reply_array(c->reply, 5);
    reply_bulk_cstr(c->reply, "slave");
    reply_bulk_cstr(c->reply, s->config->replicaof_host);
    reply_int(c->reply, s->config->replicaof_port);
    reply_bulk_cstr(c->reply, replication_link_state(s));
    reply_int(c->reply,
              s->replication->link.state == LINK_UP ? (int64_t)replication_lsn(s) : -1);
}
