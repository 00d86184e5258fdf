/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HOLDFAST DURABILITY: how sure what this client is told has to be (server/hold.h).
 */
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/quorum.h"

/* Whether it could ever be so sure. */
static bool is_possible(struct call *c, int level)
{
    const struct server *s = c->server;
    if ((level == HOLD_LOCAL || level == HOLD_QUORUM) && !s->durability->wanted) {
        reply_error(c->reply, "ERR local and quorum need a log: appendonly is no");
        return false;
    }
    if (level == HOLD_QUORUM && !quorum_is_on(s->quorum)) {
        reply_error(c->reply, "ERR quorum needs quorum-nodes");
        return false;
    }
    return true;
}

void cmd_holdfast_durability(struct call *c)
{
    int level;
    char text[HOLD_LEVEL_TEXT];
    if (c->argc == 2) {
        hold_level_text(hold_wanted_level(c->client), text);
        reply_bulk_cstr(c->reply, text);
        return;
    }
    if (!hold_parse_level(c->argv + 2, c->argc - 2, &level)) {
        reply_error(
            c->reply,
            "ERR HOLDFAST DURABILITY takes auto, memory, local, quorum, or replica and how many");
        return;
    }
    if (!is_possible(c, level))
        return;
    hold_set_level(c->client, level);
    reply_ok(c->reply);
}
