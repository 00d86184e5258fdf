/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MULTI and WATCH. Queued commands are copied, one block for each. Watches stand in one hash table
 * by (database, key), so that a change of a key finds those who watch it; a flush or swap of a
 * database is noticed at EXEC by its flush_count, and costs nothing before.
 */
#ifndef HF_SERVER_TRANSACTION_H
#define HF_SERVER_TRANSACTION_H

#include "server/client.h"

/* A command with copies of its arguments, in one block of mem_alloc. */
struct queued_command {
    struct queued_command *next;
    const struct command *command; /* NULL: unknown */
    size_t size;                   /* of the block */
    int argc;
    struct slice argv[];
};
struct queued_command *queued_command_new(const struct command *command, const struct slice *argv,
                                          int argc);

struct watch_table {
    struct watch **chains;
    size_t size;  /* a power of two */
    size_t count; /* watches, over all clients */
};
struct watch_table *watch_table_new(void);
void watch_table_free(struct watch_table *t);

/* Queue a copy of the command. */
void transaction_queue(struct client *c, const struct command *command, const struct slice *argv,
                       int argc);
/* Leave MULTI, forget what was queued, unwatch. */
void transaction_discard(struct client *c);
/* The flags of all queued commands, or'ed (enum command_flag). */
uint32_t transaction_flags(const struct client *c);
/* The flags that some queued command has not. */
uint32_t transaction_lacking(const struct client *c);
size_t transaction_count(const struct client *c);
size_t transaction_memory(const struct client *c);

void watch_forget_all(struct client *c);
/* A key was changed: whoever watches it will fail. */
/* A key that had expired was removed. */
void watch_touch_expired(struct server *s, const struct db *db, struct slice key);
void watch_touch(struct server *s, const struct db *db, struct slice key, uint64_t hash);

#endif
