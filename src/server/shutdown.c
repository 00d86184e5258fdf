/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/shutdown.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/blocked.h"
#include "server/client.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/life.h"
#include "server/persistence.h"
#include "server/replication.h"
#include "server/server.h"

/* ---- the replicas ---- */

/* A group that is open is of a command or a script that has not ended: nobody knows of it yet. */
static uint64_t wanted_lsn(const struct server *s)
{
    if (s->is_replica)
        return s->shutdown.target;
    return stream_in_group(s->stream) ? stream_published(s->stream) : stream_end(s->stream);
}

static bool counts(const struct replica *r)
{
    return !r->plain_sync && !(r->client->flags & CLIENT_CLOSING);
}

static bool has_all(const struct server *s, const struct replica *r)
{
    return r->state == REPLICA_ONLINE && r->acked >= wanted_lsn(s);
}

static bool all_have_all(const struct server *s)
{
    for (const struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        if (counts(r) && !has_all(s, r))
            return false;
    }
    return true;
}

/* They acknowledge once a second by themselves. */
static void ask_for_acks(struct server *s)
{
    if (s->is_replica || stream_in_group(s->stream) ||
        stream_end(s->stream) == s->shutdown.asked_lsn)
        return;
    replication_ask_for_acks(s);
    durability_publish(s);
    s->shutdown.asked_lsn = stream_end(s->stream);
}

static void tell_of_replicas(struct server *s)
{
    size_t count = 0, whole = 0;
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        if (!counts(r))
            continue;
        count++;
        if (has_all(s, r)) {
            whole++;
            continue;
        }
        log_notice("Replica %s lags: it has acknowledged %llu of %llu", client_peer(r->client),
                   (unsigned long long)r->acked, (unsigned long long)wanted_lsn(s));
    }
    if (count > 0)
        log_notice("%zu of %zu replicas have everything at the end", whole, count);
}

/* ---- the clients that have sent SHUTDOWN ---- */

static void not_shut_down(struct call *c, void *state)
{
    (void)state;
    reply_error(c->reply, "ERR Errors trying to SHUTDOWN. Check logs.");
}

static void go_on(struct server *s)
{
    s->shutdown = (struct shutdown){.waiting = false};
    server_pause_shutdown(s, false);
    for (struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (c->wait_shutdown && !(c->flags & CLIENT_CLOSING))
            blocked_unblock(c, NULL);
        c->wait_shutdown = false;
    }
}

/* ---- the way ---- */

/* What a full or broken disk has not taken stays in memory, unless a snapshot has it, or it is said
 * that it need not be kept. */
static bool may_end(const struct server *s, int bits)
{
    uint64_t writes, bytes;
    if (bits & (SHUTDOWN_BIT_FORCE | SHUTDOWN_BIT_NOSAVE) || persistence_saves_at_end(s, bits) ||
        !durability_end_loses(s, &writes, &bytes))
        return true;
    log_warning("The log cannot be written now: the end would lose %llu writes (%llu bytes) that "
                "were acknowledged, so the server goes on. SHUTDOWN FORCE ends it all the same",
                (unsigned long long)writes, (unsigned long long)bytes);
    return false;
}

static bool finish(struct server *s, int bits)
{
    if (!may_end(s, bits))
        return false;
    tell_of_replicas(s);
    life_stopping(s, "Saving before the end");
    if (!persistence_shutdown(s, bits)) {
        log_warning("The data could not be saved, so the server goes on. "
                    "SHUTDOWN NOSAVE ends it without saving");
        return false;
    }
    server_stop(s, 0);
    return true;
}

enum shutdown_result shutdown_begin(struct server *s, int bits)
{
    struct shutdown *d = &s->shutdown;
    if (d->waiting)
        return SHUTDOWN_WAITS;
    d->target = s->is_replica ? replication_lsn(s) : 0;
    int64_t timeout_s = s->config->shutdown_timeout;
    if (bits & SHUTDOWN_BIT_NOW || timeout_s == 0 || s->stream == NULL || s->loading ||
        all_have_all(s))
        return finish(s, bits) ? SHUTDOWN_STOPS : SHUTDOWN_FAILED;
    log_notice("Replicas lag: they are waited for, for at most %lld seconds", (long long)timeout_s);
    life_stopping(s, "Waiting for replicas before the end");
    d->waiting = true;
    d->bits = bits;
    d->end_us = clock_monotonic_us() + timeout_s * 1000000;
    d->asked_lsn = 0;
    server_pause_shutdown(s, true);
    return SHUTDOWN_WAITS;
}

void shutdown_step(struct server *s)
{
    struct shutdown *d = &s->shutdown;
    if (!d->waiting || s->stopping)
        return;
    /* In the middle of a script the turn's clock stands still. */
    if (s->stream != NULL && !all_have_all(s) && clock_monotonic_us() < d->end_us)
        ask_for_acks(s);
    else if (!finish(s, d->bits))
        go_on(s);
}

bool shutdown_abort(struct server *s)
{
    if (!s->shutdown.waiting)
        return false;
    log_notice("The way down is given up, as the user asked for");
    go_on(s);
    return true;
}

void shutdown_info(const struct server *s, struct text *out)
{
    if (!s->shutdown.waiting)
        return;
    int64_t left_us = s->shutdown.end_us - clock_monotonic_us();
    text_appendf(out, "shutdown_in_milliseconds:%lld\r\n",
                 left_us > 0 ? (long long)(left_us / 1000) : 0LL);
}

/* ---- the command ---- */

void cmd_shutdown(struct call *c)
{
    struct server *s = c->server;
    int bits = 0;
    bool abort = false;
    for (int i = 1; i < c->argc && bits >= 0; i++) {
        if (slice_is(c->argv[i], "nosave"))
            bits |= SHUTDOWN_BIT_NOSAVE;
        else if (slice_is(c->argv[i], "save"))
            bits |= SHUTDOWN_BIT_SAVE;
        else if (slice_is(c->argv[i], "now"))
            bits |= SHUTDOWN_BIT_NOW;
        else if (slice_is(c->argv[i], "force"))
            bits |= SHUTDOWN_BIT_FORCE;
        else if (slice_is(c->argv[i], "abort"))
            abort = true;
        else
            bits = -1;
    }
    if (bits < 0 || (abort && bits != 0) ||
        (bits & SHUTDOWN_BIT_NOSAVE && bits & SHUTDOWN_BIT_SAVE)) {
        reply_syntax_error(c->reply);
        return;
    }
    if (abort) {
        if (shutdown_abort(s))
            reply_ok(c->reply);
        else
            reply_error(c->reply, "ERR No shutdown in progress.");
        return;
    }
    if (s->busy != NULL && !(bits & SHUTDOWN_BIT_NOSAVE)) {
        reply_error(c->reply, s->busy);
        return;
    }
    log_warning("User requested shutdown...");
    switch (shutdown_begin(s, bits)) {
    case SHUTDOWN_STOPS:
        /* Who asked gets no reply: the connection ends. */
        client_close(c->client);
        break;
    case SHUTDOWN_WAITS:
        c->client->wait_shutdown = true;
        call_wait(c, &(struct call_wait){.timed_out = not_shut_down});
        break;
    case SHUTDOWN_FAILED:
        not_shut_down(c, NULL);
        break;
    }
}
