/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Holding replies: a reply leaves the server only when what it tells of is as sure as its client
 * wants it. The executor never waits: it goes on with other commands, and the reply stays in its
 * client's output.
 *
 *     output of a client:   [ may be written ][ run: lsn 700 ][ free ][ run: lsn 900 ][ free ]
 *                           ^ sent so far      ^ start    end
 *
 * A run is one or more replies, one behind the other, that wait for the same commit group at the
 * same level. Output is written up to the start of the first run whose LSN is not that sure: so
 * replies keep their order, and none waits for what was asked after it.
 *
 * Levels. For each there is the LSN up to which everything is so sure; it only grows.
 *
 *     memory     nothing is waited for
 *     local      on this server's disk
 *     replica N  acknowledged by N replicas, whether on their disks or not
 *     quorum     on the disks of a majority of quorum-nodes, in this primary's epoch
 *                (server/quorum.h)
 *
 * A client has the level it has set (HOLDFAST DURABILITY), else its user's, else the server's
 * (`durability`). `auto` is local with `appendfsync always` and memory otherwise. On a replica
 * nobody knows what others have: replica N and quorum are local there, and local is memory without
 * a log.
 *
 * What a reply waits for:
 *   - a command that changed something: the end of its effects;
 *   - any other command with keys: the greatest LSN of a change of one of these keys. A small table
 *     knows the last change of each key that is not durable yet; reads of all other keys pass;
 *   - a read without keys (SCAN, DBSIZE, RANDOMKEY), an EXEC that was refused: all that there is;
 *   - a transaction: the greatest of its commands;
 *   - a message of Pub/Sub (keyspace notifications among them): all that there is when it is sent.
 *
 * When more than log-buffer-limit bytes of output wait, those who wait are put off: their next
 * command is executed when something of theirs has left. Who has nothing that waits is not.
 *
 * When the log fails, what waits will never be durable: each held reply is replaced by an error,
 * and so is, from then on, each reply that would show what is not durable.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_HOLD_H
#define HF_SERVER_HOLD_H

#include "server/client.h"

struct hold;

enum hold_level {
    HOLD_MEMORY,
    HOLD_LOCAL,
    HOLD_QUORUM,
    HOLD_REPLICA, /* by one; HOLD_REPLICA + n - 1: by n */
};
#define HOLD_REPLICAS_MOST 13
#define HOLD_LEVELS (HOLD_REPLICA + HOLD_REPLICAS_MOST)
#define HOLD_AUTO (-1)
#define HOLD_LEVEL_TEXT 24

/* "auto", "memory", "local", "quorum", "replica" with the number as the second word. */
bool hold_parse_level(const struct slice *words, int count, int *level);
void hold_level_text(int level, char out[HOLD_LEVEL_TEXT]);

struct hold *hold_new(struct server *s);
void hold_free(struct hold *h); /* no client may be waiting */

/* The configuration, the log's state, the role, or what some client or user wants has changed:
 * which levels are in use now, and whether replies are held at all. For a level that was not in use
 * before what changed before is taken as not sure up to the stream's end. */
void hold_update(struct hold *h);
/* This client wants this level from now on; HOLD_AUTO: its user's or the server's. */
void hold_set_level(struct client *c, int level);
/* What it has set, or HOLD_AUTO; and what follows from all there is. */
int hold_own_level(const struct client *c);
int hold_level_of(const struct client *c);
/* The same before this server's role and log are looked at. */
int hold_wanted_level(const struct client *c);
/* Whether some reply may have to wait at this level. */
bool hold_uses(const struct hold *h, enum hold_level level);
/* Whether somebody wants replicas to have what he is told of. */
bool hold_uses_replicas(const struct hold *h);

/* As dispatch (server/dispatch.h), which it calls: while replies are held
 * (server->hold_replies). */
bool hold_dispatch(struct client *c, struct call *call, const struct command *command);
/* The same around a reply to a client that waited (server/blocked.h): `start` is what begin gave.
 * The second only while replies are held, when the effects of the reply are in the stream; a reply
 * that shows nothing of the data (a vote) is not held. */
uint64_t hold_reply_begin(const struct client *c);
void hold_reply_end(struct client *c, const struct command *command, uint64_t start);
/* One command of a transaction has been executed. */
void hold_note_call(struct server *s, struct call *call, const struct command *command);
/* A key was changed, or has expired. */
void hold_note_change(struct hold *h, const struct db *db, uint64_t hash);

/* What stands in the client's output behind its first `before` bytes is a message of Pub/Sub, or
 * one that tells of a key: it waits for all that there is, as nobody knows what it tells of. When
 * the log fails it is dropped. Only while replies are held. */
void hold_note_message(struct client *c, size_t before);
/* While set, the effect of what messages tell of is yet to be appended. */
void hold_set_changing(struct hold *h, bool changing);

/* How many bytes of the client's output may be written now. */
size_t hold_writable(const struct client *c);
/* The client is going. */
void hold_forget(struct client *c);

/* Everything up to this LSN is on this server's disk: lets go what waited for it. */
void hold_release(struct hold *h, uint64_t durable);
/* The same for a level of replicas. Those that wait go on with hold_let_go, for several levels at
 * once. */
void hold_note_sure(struct hold *h, enum hold_level level, uint64_t lsn);
void hold_let_go(struct hold *h);
uint64_t hold_sure(const struct hold *h, enum hold_level level);
/* The stream begins anew at this LSN, with data that is as sure as it will ever be; or what was
 * sure to replicas of an earlier primary is not known any more. Nobody waits at such a level. */
void hold_restart(struct hold *h, uint64_t lsn);
void hold_forget_replicas(struct hold *h);
/* Whoever waits for replicas, since before `since_us`, gets this error: it may have been lost, or
 * not. */
void hold_give_up(struct hold *h, int64_t since_us, const char *error);
/* The greatest LSN that somebody may wait for with `replica N`; 0: nobody does. */
uint64_t hold_waits_for_replicas(const struct hold *h);
/* The log has failed, for this reason, or works again (NULL). The text is copied. */
void hold_fail(struct hold *h, const char *reason);

size_t hold_waiting_clients(const struct hold *h);
uint64_t hold_waiting_replies(const struct hold *h);
/* Of the output of those clients, as last counted. */
size_t hold_waiting_bytes(const struct hold *h);

#endif
