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

void cmd_bzmpop(struct call *c)
{
    mpop_or_wait(c, &zset_mpop);
}
