/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replication as a primary: a replica that is farther behind than the backlog in memory is sent
 * what is missing from the log on disk (replication/catchup.h), piece after piece, until memory
 * goes on from there.
 */
#include <stdio.h>

#include "base/log.h"
#include "os/socket.h"
#include "persist/log/stream.h"
#include "server/durability.h"
#include "server/replication.h"

/* After the log could not give what it should have, everything is sent anew for so long. */
#define DISTRUST_US 60000000

bool replication_may_use_disk(const struct server *s, uint64_t lsn)
{
    const struct durability *d = s->durability;
    return d->state == DURABILITY_ON && s->now_us >= s->replication->distrust_disk_until_us &&
           lsn <= writer_written_lsn(d->writer);
}

static void on_ended(void *ctx)
{
    struct server *s = ctx;
    struct replica *next;
    for (struct replica *r = s->replication->replicas; r != NULL; r = next) {
        next = r->next;
        if (r->catchup != NULL && catchup_ended(r->catchup))
            replication_disk_ended(r);
    }
}

/* On the thread. */
static void wake(void *ctx)
{
    struct server *s = ctx;
    loop_post(s->loop, on_ended, s);
}

void replication_begin_disk(struct client *c, uint64_t lsn, bool announce)
{
    struct server *s = c->server;
    const struct durability *d = s->durability;
    struct replica *r = c->replica;
    struct error err = {0};
    struct catchup_options o = {.fd = socket_duplicate(c->io.source.fd),
                                .tls = c->io.tls != NULL ? tls_share(c->io.tls) : NULL,
                                .from = lsn,
                                .until = writer_written_lsn(d->writer),
                                .timeout_ms = (int)(s->config->repl_timeout * 1000),
                                .wake = wake,
                                .ctx = s};
    if (replication_gated(s) && writer_durable_lsn(d->writer) < o.until)
        o.until = writer_durable_lsn(d->writer);
    snprintf(o.directory, sizeof(o.directory), "%s", s->config->appenddirname);
    snprintf(o.filename, sizeof(o.filename), "%s", s->config->appendfilename);
    if (announce && r->psync2)
        snprintf(o.preamble, sizeof(o.preamble), "+CONTINUE %s\r\n", d->history);
    else if (announce)
        snprintf(o.preamble, sizeof(o.preamble), "+CONTINUE\r\n");
    r->catchup_lsn = o.until;
    r->catchup_announced = !announce;
    bool possible = o.fd >= 0 && o.until > lsn;
    if (!possible) {
        tls_unshare(o.tls);
        if (o.fd >= 0)
            socket_close(o.fd);
    }
    if (!possible || (r->catchup = catchup_start(&o, &err)) == NULL) {
        log_warning("Replica %s cannot be served from the log: %s", client_peer(c), err.message);
        client_close(c);
    }
}

void replication_disk_ended(struct replica *r)
{
    struct client *c = r->client;
    struct server *s = c->server;
    struct replication *all = s->replication;
    struct catchup_result result;
    char reason[sizeof(all->full_reason)];
    catchup_finish(r->catchup, &result);
    r->catchup = NULL;
    if (c->flags & CLIENT_CLOSING)
        return;
    if (result.ok) {
        if (!r->catchup_announced) {
            all->sync_partial_ok++;
            all->sync_partial_disk++;
        }
        if (r->catchup_lsn >= stream_first(s->stream))
            replication_disk_online(r, r->catchup_lsn);
        else
            replication_begin_disk(c, r->catchup_lsn, false);
        return;
    }
    log_warning("Replica %s could not be served from the log on disk: %s", client_peer(c),
                result.error.message);
    if (result.of_log && result.error.code != ERROR_NOT_FOUND)
        all->distrust_disk_until_us = s->now_us + DISTRUST_US;
    if (result.begun || !result.of_log) {
        client_close(c);
        return;
    }
    snprintf(reason, sizeof(reason), "behind the backlog in memory, and on disk: %.100s",
             result.error.message);
    replication_begin_replica(c, false, reason);
}

void replication_disk_cancel(struct replica *r)
{
    struct catchup_result result;
    if (r->catchup == NULL)
        return;
    catchup_cancel(r->catchup);
    catchup_finish(r->catchup, &result);
    r->catchup = NULL;
}
