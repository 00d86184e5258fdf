/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CLIENT UNBLOCK, and the commands that wait for something else than keys: WAIT, WAITAOF.
 */
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/blocked.h"
#include "server/durability.h"
#include "server/replication.h"

static struct client *find_client(const struct server *s, uint64_t id)
{
    struct client *c = s->clients.first;
    while (c != NULL && c->id != id)
        c = c->next;
    return c;
}

void cmd_client_unblock(struct call *c)
{
    int64_t id;
    bool by_error = false;
    if (c->argc > 4) {
        reply_errorf(c->reply,
                     "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try CLIENT "
                     "HELP.",
                     (int)(c->argv[1].size < 128 ? c->argv[1].size : 128), c->argv[1].data);
        return;
    }
    if (c->argc == 4) {
        by_error = slice_is(c->argv[3], "error");
        if (!by_error && !slice_is(c->argv[3], "timeout")) {
            reply_error(c->reply, "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR");
            return;
        }
    }
    if (!call_int64(c, c->argv[2], &id, NULL))
        return;
    struct client *target = find_client(c->server, (uint64_t)id);
    const char *error = by_error ? "UNBLOCKED client unblocked via CLIENT UNBLOCK" : NULL;
    bool waited = target != NULL && !(target->flags & CLIENT_CLOSING) &&
                  blocked_unblock(target, error);
    reply_int(c->reply, waited);
}

static void reply_replicas(struct call *c, void *state)
{
    struct client *client = c->client;
    (void)state;
    if (client->wait_replicas != 0)
        c->server->replication->waiting_clients--;
    client->wait_replicas = 0;
    reply_int(c->reply, (int64_t)replication_count_acked(c->server, client->wait_lsn));
}

void cmd_wait(struct call *c)
{
    int64_t replicas, timeout_ms;
    if (!call_int64(c, c->argv[1], &replicas, NULL) ||
        !call_timeout_ms(c, c->argv[2], &timeout_ms))
        return;
    if (c->server->is_replica) {
        reply_error(c->reply,
                    "ERR WAIT cannot be used with replica instances. Please also note that "
                    "since Redis 4.0 if a replica is configured to be writable (which is "
                    "not the default) writes to replicas are just local and are not "
                    "propagated.");
        return;
    }
    /* Everything up to now: more than this client's own writes, and never less. */
    c->client->wait_lsn = replication_lsn(c->server);
    if (replicas <= 0 ||
        replication_count_acked(c->server, c->client->wait_lsn) >= (size_t)replicas || c->in_exec) {
        reply_replicas(c, NULL);
        return;
    }
    c->client->wait_replicas = (size_t)replicas;
    c->server->replication->waiting_clients++;
    replication_ask_for_acks(c->server);
    call_wait(c, &(struct call_wait){.timeout_ms = timeout_ms, .timed_out = reply_replicas});
}

/* ---- WAITAOF ---- */

struct wait_log {
    uint64_t lsn; /* everything up to here was written before */
    int64_t local, replicas; /* disks that it has to be on */
};

/* Whether what was written before is on this server's disk. */
static bool is_durable(const struct server *s, uint64_t lsn)
{
    const struct durability *d = s->durability;
    return d->state == DURABILITY_ON && writer_durable_lsn(d->writer) >= lsn;
}

static bool is_enough(const struct server *s, const struct wait_log *w)
{
    return (w->local == 0 || is_durable(s, w->lsn)) &&
           replication_count_on_disk(s, w->lsn) >= (size_t)w->replicas;
}

static void reply_durable(struct call *c, void *state)
{
    const struct wait_log *w = state;
    reply_array(c->reply, 2);
    reply_int(c->reply, is_durable(c->server, w->lsn));
    reply_int(c->reply, (int64_t)replication_count_on_disk(c->server, w->lsn));
}

static bool refuse_without_log(struct call *c)
{
    if (c->server->durability->wanted)
        return false;
    reply_error(c->reply, "ERR WAITAOF cannot be used when numlocal is set but appendonly is "
                          "disabled.");
    return true;
}

static bool serve_durable(struct call *c, struct slice key, struct entry *e, void *state)
{
    (void)key;
    (void)e;
    const struct wait_log *w = state;
    if (w->local != 0 && refuse_without_log(c))
        return true;
    if (!is_enough(c->server, w))
        return false;
    reply_durable(c, state);
    return true;
}

void cmd_waitaof(struct call *c)
{
    int64_t local, replicas, timeout_ms;
    if (!call_int64_range(c, c->argv[1], 0, 1, &local, NULL) ||
        !call_int64_range(c, c->argv[2], 0, INT64_MAX, &replicas,
                          "ERR value is out of range, must be positive") ||
        !call_timeout_ms(c, c->argv[3], &timeout_ms))
        return;
    if (c->server->is_replica) {
        reply_error(c->reply,
                    "ERR WAITAOF cannot be used with replica instances. Please also note that "
                    "writes to replicas are just local and are not propagated.");
        return;
    }
    if (local != 0 && refuse_without_log(c))
        return;
    struct wait_log w = {replication_lsn(c->server), local, replicas};
    if (is_enough(c->server, &w)) {
        reply_durable(c, &w);
        return;
    }
    if (replicas > 0 && !c->in_exec)
        replication_ask_for_acks(c->server);
    /* Replicas' disks are looked at whenever one of them acknowledges. */
    call_wait(c, &(struct call_wait){.timeout_ms = timeout_ms,
                                     .serve = serve_durable,
                                     .timed_out = reply_durable,
                                     .state = &w,
                                     .state_size = sizeof(w),
                                     .log = true,
                                     .lsn = replicas == 0 ? w.lsn : 0});
}
