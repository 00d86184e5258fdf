/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/help.h"

#include <stdio.h>

void reply_help(struct call *c, const char *container, const char *const *lines, size_t count)
{
    char head[128];
    snprintf(head, sizeof(head),
             "%s <subcommand> [<argument> ...]. The subcommands are:", container);
    reply_array(c->reply, count + 3);
    reply_simple(c->reply, head);
    for (size_t i = 0; i < count; i++)
        reply_simple(c->reply, lines[i]);
    reply_simple(c->reply, "HELP");
    reply_simple(c->reply, "    Print this.");
}
