/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands that take members from sorted sets and wait for them: BZPOPMIN, BZPOPMAX, BZMPOP.
 * The log has them as what they did: ZPOPMIN, ZPOPMAX.
 */
#include "command/wait.h"
#include "command/zset_common.h"
#include "handlers.h"

static void take_member(struct call *c, struct keyref *ref, int highest)
{
    zset_reply_pop(c, ref, highest != 0);
}

void cmd_bzpopmin(struct call *c)
{
    call_take_or_wait(c, ENTRY_ZSET, take_member, false);
}

void cmd_bzpopmax(struct call *c)
{
    call_take_or_wait(c, ENTRY_ZSET, take_member, true);
}

static bool serve_mpop(struct call *c, struct slice key, struct entry *e, void *state)
{
    (void)e;
    struct keyref ref;
    call_find_write_any(c, key, &ref);
    zset_reply_mpop(c, &ref, state);
    return true;
}

void cmd_bzmpop(struct call *c)
{
    struct zset_mpop o;
    int64_t timeout_ms;
    if (!zset_parse_mpop(c, 2, &o) || !call_timeout_seconds(c, c->argv[1], &timeout_ms) ||
        zset_reply_mpop_any(c, &o))
        return;
    /* What serve_mpop looks at in `o` is not in argv. */
    call_wait(c, &(struct call_wait){.type = ENTRY_ZSET,
                                     .keys = o.keys,
                                     .key_count = o.key_count,
                                     .timeout_ms = timeout_ms,
                                     .serve = serve_mpop,
                                     .state = &o,
                                     .state_size = sizeof(o)});
}
