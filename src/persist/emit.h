/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Entries as commands: what has to be executed, in a database in which the key is not, to have the
 * key as it is. Only commands that redis-server 7.0 knows are used, but where a value has something
 * that it does not know.
 *
 *     string  SET                      list  RPUSH             hash  HSET
 *     set     SADD                     zset  ZADD              expiry  PEXPIREAT
 *     HPEXPIREAT for each field of a hash that expires
 *     stream  XADD for each entry, XSETID; for each group XGROUP CREATE, XGROUP CREATECONSUMER and
 *             an XCLAIM for each entry that is pending. Entries that are pending and have been
 *             deleted cannot be made so: such a stream is one RESTORE.
 *
 * A command has EMIT_ITEMS elements at most, and about EMIT_BYTES: a larger element goes alone, and
 * is written from where it stands, so that memory is bounded whatever there is. Access clocks, and
 * when a consumer was last seen, are not told by commands (nor are they by redis-server's).
 *
 * Reads only: on any thread, entries of a snapshot. An emitter belongs to one thread.
 */
#ifndef HF_PERSIST_EMIT_H
#define HF_PERSIST_EMIT_H

#include "base/text.h"
#include "keyspace/keyspace.h"
#include "persist/rdb/io.h"

#define EMIT_ITEMS 64
#define EMIT_BYTES ((size_t)32 << 10)

struct emitter {
    struct rdb_writer *out; /* takes the bytes as they are; its version is not looked at */
    /* Called behind each command: here the bytes may be parted. May be NULL. */
    void (*command_end)(void *ctx);
    void *ctx;
    uint64_t commands; /* so many were written */

    /* Its own: elements of the command to come. */
    struct text items;
    unsigned item_count, arg_count;
};

void emit_init(struct emitter *m, struct rdb_writer *out, void (*command_end)(void *ctx),
               void *ctx);
void emit_deinit(struct emitter *m);

void emit_select(struct emitter *m, int db);
/* FUNCTION LOAD of a library. */
void emit_function(struct emitter *m, struct slice code);
void emit_entry(struct emitter *m, const struct entry *e);

#endif
