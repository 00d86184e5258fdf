/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command table: each command is described once, in src/command/table/<group>.tsv, from which
 * the build makes one array. Dispatch, COMMAND INFO/DOCS/GETKEYS, ACL categories and the prefetch
 * stage all read it. A command that is listed works; one that does not is not listed.
 *
 * The handler of "CONFIG GET" is cmd_config_get, that of "GET" cmd_get: declared in the generated
 * command/handlers.h. A container (CONFIG, CLIENT, OBJECT) has subcommands and no handler.
 */
#ifndef HF_COMMAND_TABLE_H
#define HF_COMMAND_TABLE_H

#include <stdint.h>

#include "command/call.h"

enum command_flag {
    COMMAND_WRITE = 1U << 0,
    COMMAND_READONLY = 1U << 1,
    COMMAND_DENYOOM = 1U << 2,
    COMMAND_ADMIN = 1U << 3,
    COMMAND_NOSCRIPT = 1U << 4,
    COMMAND_BLOCKING = 1U << 5,
    COMMAND_LOADING = 1U << 6,
    COMMAND_STALE = 1U << 7,
    COMMAND_FAST = 1U << 8,
    COMMAND_NO_AUTH = 1U << 9,
    COMMAND_MOVABLEKEYS = 1U << 10,
    COMMAND_ALLOW_BUSY = 1U << 11,
    COMMAND_NO_MULTI = 1U << 12,
    COMMAND_SKIP_SLOWLOG = 1U << 13,
    COMMAND_NO_ASYNC_LOADING = 1U << 14
};

struct command {
    const char *name;      /* lower case, "get"; subcommands: "get" with full_name "config|get" */
    const char *full_name; /* as Redis names it: "get", "config|get" */
    command_handler *handler;
    int16_t arity; /* negative: at least */
    int16_t first_key, last_key, key_step;
    uint32_t flags;
    uint64_t acl_categories;
    uint16_t id; /* index into per-command statistics; 0 .. command_count - 1 */
    uint16_t subcommand_count;
    const struct command *subcommands;
    const struct command_doc *doc; /* summary, since, group, complexity, ...: see docs.h */
};

extern const int command_count; /* ids given, subcommands included */

/* The command of this name (any case), or NULL. */
const struct command *command_find(struct slice name);
const struct command *command_find_sub(const struct command *container, struct slice name);

/* Iterate over the top-level commands. */
const struct command *command_at(int index); /* NULL behind the last */

/* The positions in argv of all keys, for any command (movable ones included). Returns how many, or
 * -1 when the arguments are not valid for it. At most `max` are written. */
int command_keys(const struct command *cmd, const struct slice *argv, int argc, int *positions,
                 int max);

#endif
