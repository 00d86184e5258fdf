/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The command table: each command is described once, in src/command/table/<group>.tsv, from which
 * the build makes one array. Dispatch, COMMAND INFO/DOCS/GETKEYS, ACL categories and the prefetch
 * stage all read it. A command that is listed works; one that does not is not listed.
 *
 * The handler of "CONFIG GET" is cmd_config_get, that of "GET" cmd_get: declared in the generated
 * handlers.h. A container (CONFIG, CLIENT, OBJECT) has subcommands and no handler.
 */
#ifndef HF_COMMAND_TABLE_H
#define HF_COMMAND_TABLE_H

#include <stdint.h>

#include "command/call.h"

/* In the order in which COMMAND INFO names them. */
enum command_flag {
    COMMAND_WRITE = 1U << 0,
    COMMAND_READONLY = 1U << 1,
    COMMAND_DENYOOM = 1U << 2,
    COMMAND_ADMIN = 1U << 3,
    COMMAND_PUBSUB = 1U << 4,
    COMMAND_NOSCRIPT = 1U << 5,
    COMMAND_BLOCKING = 1U << 6,
    COMMAND_LOADING = 1U << 7,
    COMMAND_STALE = 1U << 8,
    COMMAND_SKIP_MONITOR = 1U << 9,
    COMMAND_SKIP_SLOWLOG = 1U << 10,
    COMMAND_ASKING = 1U << 11,
    COMMAND_FAST = 1U << 12,
    COMMAND_NO_AUTH = 1U << 13,
    COMMAND_NO_MANDATORY_KEYS = 1U << 14,
    COMMAND_NO_ASYNC_LOADING = 1U << 15,
    COMMAND_NO_MULTI = 1U << 16,
    COMMAND_MOVABLEKEYS = 1U << 17,
    COMMAND_ALLOW_BUSY = 1U << 18
};

/* ACL categories, in the order in which COMMAND INFO names them. */
enum acl_category {
    ACL_KEYSPACE = 1U << 0,
    ACL_READ = 1U << 1,
    ACL_WRITE = 1U << 2,
    ACL_SET = 1U << 3,
    ACL_SORTEDSET = 1U << 4,
    ACL_LIST = 1U << 5,
    ACL_HASH = 1U << 6,
    ACL_STRING = 1U << 7,
    ACL_BITMAP = 1U << 8,
    ACL_HYPERLOGLOG = 1U << 9,
    ACL_GEO = 1U << 10,
    ACL_STREAM = 1U << 11,
    ACL_PUBSUB = 1U << 12,
    ACL_ADMIN = 1U << 13,
    ACL_FAST = 1U << 14,
    ACL_SLOW = 1U << 15,
    ACL_BLOCKING = 1U << 16,
    ACL_DANGEROUS = 1U << 17,
    ACL_CONNECTION = 1U << 18,
    ACL_TRANSACTION = 1U << 19,
    ACL_SCRIPTING = 1U << 20
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

/* rename-command: `from` is found as `to` only, or, if that is empty, not at all. Before threads
 * are started. Subcommands keep their names. */
enum command_rename_result { COMMAND_RENAMED, COMMAND_RENAME_UNKNOWN, COMMAND_RENAME_TAKEN };
enum command_rename_result command_rename(struct slice from, struct slice to);
/* As if nothing had been renamed. */
void command_rename_undo(void);

/* Iterate over the top-level commands. */
const struct command *command_at(int index); /* NULL behind the last */

/* The positions in argv of all keys, for any command (movable ones included). Returns how many, or
 * -1 when the arguments are not valid for it. At most `max` are written. */
int command_keys(const struct command *cmd, const struct slice *argv, int argc, int *positions,
                 int max);

/* The same with what is done to each key: key_spec_flag bits, for ACL rules and COMMAND
 * GETKEYSANDFLAGS. */
struct command_key {
    int position;
    unsigned flags;
};
int command_keys_flags(const struct command *cmd, const struct slice *argv, int argc,
                       struct command_key *keys, int max);

/* Whether the command can take a key at all. */
bool command_has_keys(const struct command *cmd);

#endif
