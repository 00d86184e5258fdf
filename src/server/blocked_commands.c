/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CLIENT UNBLOCK, and the commands that wait for something else than keys: WAIT.
 */
#include "base/number.h"
#include "handlers.h"
#include "server/blocked.h"

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
    bool waited = target != NULL && !(target->flags & CLIENT_CLOSING) &&
                  blocked_unblock(target, by_error);
    reply_int(c->reply, waited);
}

/* There are no replicas: as many as that have seen everything. */
static void reply_replicas(struct call *c, void *state)
{
    (void)state;
    reply_int(c->reply, 0);
}

void cmd_wait(struct call *c)
{
    int64_t replicas, timeout_ms;
    if (!call_int64(c, c->argv[1], &replicas, NULL) ||
        !call_timeout_ms(c, c->argv[2], &timeout_ms))
        return;
    if (replicas <= 0) {
        reply_replicas(c, NULL);
        return;
    }
    call_wait(c, &(struct call_wait){.timeout_ms = timeout_ms, .timed_out = reply_replicas});
}
