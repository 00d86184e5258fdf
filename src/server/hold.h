/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Holding replies: under `appendfsync always` a reply leaves the server only when what it tells of is
 * durable. The executor never waits: it goes on with other commands, and the reply stays in its
 * client's output.
 *
 *     output of a client:   [ may be written ][ run: lsn 700 ][ free ][ run: lsn 900 ][ free ]
 *                           ^ sent so far      ^ start    end
 *
 * A run is one or more replies, one behind the other, that wait for the same commit group. Output is
 * written up to the start of the first run whose LSN is not durable: so replies keep their order,
 * and none waits for what was asked after it.
 *
 * What a reply waits for:
 *   - a command that changed something: the end of its effects;
 *   - any other command with keys: the greatest LSN of a change of one of these keys. A small table
 *     knows the last change of each key that is not durable yet; reads of all other keys pass;
 *   - a read without keys (SCAN, DBSIZE, RANDOMKEY), an EXEC that was refused: all that there is;
 *   - a transaction: the greatest of its commands;
 *   - a message of Pub/Sub (keyspace notifications among them): all that there is when it is sent.
 *
 * When the log fails, what waits will never be durable: each held reply is replaced by an error, and
 * so is, from then on, each reply that would show what is not durable.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_HOLD_H
#define HF_SERVER_HOLD_H

#include "server/client.h"

struct hold;

struct hold *hold_new(struct server *s);
void hold_free(struct hold *h); /* no client may be waiting */

/* Begin to hold replies, or no longer hold new ones. What changed before is taken as not durable
 * up to the stream's end. */
void hold_begin(struct hold *h);
void hold_end(struct hold *h);

/* As dispatch (server/dispatch.h), which it calls: while replies are held (server->hold_replies). */
bool hold_dispatch(struct client *c, struct call *call, const struct command *command);
/* The same around a reply to a client that waited (server/blocked.h): `start` is what begin gave. The
 * second only while replies are held, when the effects of the reply are in the stream. */
uint64_t hold_reply_begin(const struct client *c);
void hold_reply_end(struct client *c, uint64_t start);
/* One command of a transaction has been executed. */
void hold_note_call(struct server *s, struct call *call, const struct command *command);
/* A key was changed, or has expired. */
void hold_note_change(struct hold *h, const struct db *db, uint64_t hash);

/* What stands in the client's output behind its first `before` bytes is a message of Pub/Sub, or one
 * that tells of a key: it waits for all that there is, as nobody knows what it tells of. When the log
 * fails it is dropped. Only while replies are held. */
void hold_note_message(struct client *c, size_t before);
/* While set, the effect of what messages tell of is yet to be appended. */
void hold_set_changing(struct hold *h, bool changing);

/* How many bytes of the client's output may be written now. */
size_t hold_writable(const struct client *c);
/* The client is going. */
void hold_forget(struct client *c);

/* Everything up to this LSN is durable: lets go what waited for it. */
void hold_release(struct hold *h, uint64_t durable);
/* The log has failed, for this reason, or works again (NULL). The text is copied. */
void hold_fail(struct hold *h, const char *reason);

size_t hold_waiting_clients(const struct hold *h);
uint64_t hold_waiting_replies(const struct hold *h);

#endif
