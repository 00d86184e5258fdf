/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/failover.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/durability.h"
#include "server/quorum.h"
#include "server/replication.h"

static struct failover *failover_of(const struct server *s)
{
    return &s->replication->failover;
}

const char *failover_state_name(const struct failover *f)
{
    switch (f->state) {
    case FAILOVER_WAITING:
        return "waiting-for-sync";
    case FAILOVER_HANDING_OVER:
        return "failover-in-progress";
    case FAILOVER_NONE:
        break;
    }
    return "no-failover";
}

/* "any replica", or its address. */
static void describe_target(const struct failover *f, char text[288])
{
    if (f->host[0] == '\0')
        snprintf(text, 288, "any replica");
    else
        snprintf(text, 288, "%s:%d", f->host, f->port);
}

/* ---- the end ---- */

static void end(struct server *s)
{
    *failover_of(s) = (struct failover){.state = FAILOVER_NONE};
    server_pause_failover(s, false);
}

static void give_up(struct server *s, const char *why)
{
    struct failover *f = failover_of(s);
    char target[288];
    bool handing_over = f->state == FAILOVER_HANDING_OVER;
    describe_target(f, target);
    log_warning("The failover to %s is given up: %s", target, why);
    f->state = FAILOVER_NONE;
    if (handing_over)
        replication_promote(s);
    end(s);
}

/* ---- towards a replica ---- */

static bool has_all(const struct server *s, const struct replica *r)
{
    return r->state == REPLICA_ONLINE && !r->plain_sync && !(r->client->flags & CLIENT_CLOSING) &&
           r->acked == stream_end(s->stream);
}

/* A primary that is none of quorum-nodes would be followed by none of them. */
static bool may_lead(const struct server *s, const struct replica *r)
{
    return !quorum_is_on(s->quorum) || r->node[0] != '\0';
}

static struct replica *find(const struct server *s, const char *host, int port)
{
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        char ip[SOCKET_NAME_SIZE];
        replication_address(r, ip);
        if (r->listening_port == port && strcmp(ip, host) == 0)
            return r;
    }
    return NULL;
}

/* The target if it has everything; without one, whoever has. */
static struct replica *find_ready(const struct server *s)
{
    const struct failover *f = failover_of(s);
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        char ip[SOCKET_NAME_SIZE];
        if (!has_all(s, r) || r->listening_port == 0 || !may_lead(s, r))
            continue;
        replication_address(r, ip);
        if (f->host[0] == '\0' || (r->listening_port == f->port && strcmp(ip, f->host) == 0))
            return r;
    }
    return NULL;
}

static void hand_over(struct server *s)
{
    struct failover *f = failover_of(s);
    log_notice("Failover: %s:%d is asked to take over at LSN %llu", f->host, f->port,
               (unsigned long long)replication_lsn(s));
    f->state = FAILOVER_HANDING_OVER;
    f->asked = false;
    replication_follow(s, f->host, f->port);
    replication_link_cron(s);
}

/* Replicas acknowledge once a second by themselves, which would be most of the time that this
 * takes. */
static void ask_for_acks(struct server *s)
{
    struct failover *f = failover_of(s);
    if (stream_in_group(s->stream) || stream_end(s->stream) == f->asked_lsn)
        return;
    replication_ask_for_acks(s);
    durability_publish(s);
    f->asked_lsn = stream_end(s->stream);
}

void failover_step(struct server *s)
{
    struct failover *f = failover_of(s);
    bool late = f->end_us != 0 && s->now_us >= f->end_us;
    if (f->state == FAILOVER_HANDING_OVER) {
        if (late && !f->force && !f->asked && s->replication->link.failure.code != ERROR_NONE)
            give_up(s, "the target could not be reached");
        return;
    }
    struct replica *r = s->stream != NULL ? find_ready(s) : NULL;
    if (r != NULL) {
        char ip[SOCKET_NAME_SIZE];
        replication_address(r, ip);
        snprintf(f->host, sizeof(f->host), "%s", ip);
        f->port = r->listening_port;
        hand_over(s);
    } else if (late && f->force) {
        log_warning("Failover: %s:%d has not caught up in time, and gets its place by force",
                    f->host, f->port);
        hand_over(s);
    } else if (late) {
        give_up(s, "no replica caught up in time");
    } else if (s->stream != NULL) {
        ask_for_acks(s);
    }
}

bool failover_take(struct server *s, const struct sync_result *r)
{
    struct failover *f = failover_of(s);
    if (r->outcome == SYNC_CONTINUES || r->outcome == SYNC_FULL) {
        log_notice("Failover: %s:%d has taken over", f->host, f->port);
        end(s);
        return true;
    }
    if (!r->rejected) {
        /* It may have become a primary, and only its answer was lost. */
        f->asked |= r->failover_sent;
        return true;
    }
    if (f->asked && strstr(r->error.message, "PSYNC FAILOVER can't be sent to a master") != NULL) {
        log_notice("Failover: %s:%d had taken over already", f->host, f->port);
        end(s);
        return true;
    }
    give_up(s, r->error.message);
    return false;
}

/* ---- as the target ---- */

const char *failover_take_over(struct server *s, struct slice id, uint64_t lsn, bool regression)
{
    if (!s->is_replica)
        return "ERR PSYNC FAILOVER can't be sent to a master.";
    if (!slice_is(id, s->durability->history))
        return "ERR PSYNC FAILOVER replid must match my replid.";
    if (regression && lsn > replication_lsn(s))
        return "REGRESSION this replica does not have all of that history";
    if (!quorum_prepare(s))
        return "ERR The disk of this replica does not take what a primary of a quorum needs";
    log_notice("Failover: the primary asks this server to take over at LSN %llu",
               (unsigned long long)replication_lsn(s));
    replication_promote(s);
    return NULL;
}

/* ---- the command ---- */

struct request {
    struct slice host; /* data NULL: none */
    int64_t port, timeout_ms; /* 0: none */
    bool force;
};

/* False: an error was replied. */
static bool parse(struct call *c, struct request *q)
{
    *q = (struct request){0};
    for (int i = 1; i < c->argc; i++) {
        int left = c->argc - 1 - i;
        if (slice_is(c->argv[i], "timeout") && left >= 1 && q->timeout_ms == 0) {
            if (!call_int64(c, c->argv[++i], &q->timeout_ms, NULL))
                return false;
            if (q->timeout_ms <= 0) {
                reply_error(c->reply, "ERR FAILOVER timeout must be greater than 0");
                return false;
            }
        } else if (slice_is(c->argv[i], "to") && left >= 2 && q->host.data == NULL) {
            q->host = c->argv[i + 1];
            if (!call_int64(c, c->argv[i + 2], &q->port, NULL))
                return false;
            i += 2;
        } else if (slice_is(c->argv[i], "force") && !q->force) {
            q->force = true;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

/* An error; NULL: it can begin. */
static const char *obstacle(struct server *s, const struct request *q, char host[256])
{
    if (failover_is_on(failover_of(s)))
        return "ERR FAILOVER already in progress.";
    if (s->is_replica)
        return "ERR FAILOVER is not valid when server is a replica.";
    if (s->replication->replica_count == 0)
        return "ERR FAILOVER requires connected replicas.";
    if (q->force && (q->timeout_ms == 0 || q->host.data == NULL))
        return "ERR FAILOVER with force option requires both a timeout and target HOST and IP.";
    host[0] = '\0';
    if (q->host.data == NULL)
        return NULL;
    struct replica *r = NULL;
    if (q->host.size > 0 && q->host.size < 256 && q->port > 0 && q->port <= 65535) {
        memcpy(host, q->host.data, q->host.size);
        host[q->host.size] = '\0';
        r = find(s, host, (int)q->port);
    }
    if (r == NULL)
        return "ERR FAILOVER target HOST and PORT is not a replica.";
    if (r->state != REPLICA_ONLINE)
        return "ERR FAILOVER target replica is not online.";
    if (!may_lead(s, r))
        return "ERR FAILOVER target is none of quorum-nodes.";
    return NULL;
}

static void abort_by_hand(struct call *c)
{
    struct server *s = c->server;
    if (!failover_is_on(failover_of(s))) {
        reply_error(c->reply, "ERR No failover in progress.");
        return;
    }
    give_up(s, "FAILOVER ABORT");
    reply_ok(c->reply);
}

void cmd_failover(struct call *c)
{
    struct server *s = c->server;
    struct failover *f = failover_of(s);
    struct request q;
    char host[256], target[288];
    if (c->argc == 2 && slice_is(c->argv[1], "abort")) {
        abort_by_hand(c);
        return;
    }
    if (!parse(c, &q))
        return;
    const char *error = obstacle(s, &q, host);
    if (error != NULL) {
        reply_error(c->reply, error);
        return;
    }
    *f = (struct failover){.state = FAILOVER_WAITING, .port = (int)q.port, .force = q.force};
    snprintf(f->host, sizeof(f->host), "%s", host);
    if (q.timeout_ms != 0) {
        int64_t most_ms = INT64_MAX / 2000;
        f->end_us = s->now_us + (q.timeout_ms < most_ms ? q.timeout_ms : most_ms) * 1000;
    }
    describe_target(f, target);
    log_notice("A failover to %s was asked for by %s", target, client_peer(c->client));
    server_pause_failover(s, true);
    reply_ok(c->reply);
}
