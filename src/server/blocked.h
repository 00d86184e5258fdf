/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Blocked clients: those that wait for keys (command/wait.h says how a handler begins that), for
 * the log, or for time to pass.
 *
 *     table by (db, key):   key "a" ── waiter 1 ── waiter 3 ── waiter 4     in the order in which
 *                           key "b" ── waiter 3 ── waiter 2                 they began to wait
 *     ready:                "b", "a"                in the order in which they first became so
 *     heap:                 waiters by deadline
 *
 * While somebody waits for a key the server's change hook is on (server_update_hooks), so that
 * every call_changed comes to blocked_signal: no command needs to know of waiters, and while nobody
 * waits nobody pays more than the hook's one comparison. A signal only lists the key;
 * blocked_serve, which the batch calls when the command (with all of its transaction or script) has
 * ended, looks what is under it then: a key that was made and deleted again serves nobody.
 *
 * A waiting client has CLIENT_BLOCKED, as one that CLIENT PAUSE put off has: the commands behind
 * are put off until it goes on (server/batch.h). It is the waiter that tells the two apart.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_BLOCKED_H
#define HF_SERVER_BLOCKED_H

#include "command/wait.h"
#include "server/client.h"

struct blocked;

struct blocked *blocked_new(struct server *s);
void blocked_free(struct blocked *b); /* no client may be waiting */

/* The hook behind call_wait: the client waits from now on. */
void blocked_wait(struct call *c, const struct call_wait *w);

/* Whether somebody waits for a key. */
bool blocked_has_keys(const struct blocked *b);
/* This key was changed. */
void blocked_signal(struct server *s, const struct db *db, struct slice key, uint64_t hash);
/* This key is being removed by expiry or eviction. */
void blocked_signal_gone(struct server *s, const struct db *db, struct slice key);
/* All of this database was flushed or swapped. */
void blocked_signal_db(struct server *s, const struct db *db);
/* Serve those who wait for keys that were signalled (s->keys_ready), and for what that makes ready.
 * Between commands only. */
void blocked_serve(struct server *s);
/* The log is durable up to here. */
void blocked_durable(struct server *s, uint64_t lsn);

/* As if the time were over (NULL), or by this error. False: the client is not waiting. */
bool blocked_unblock(struct client *c, const char *error);
/* The client is going. */
void blocked_forget(struct client *c);

struct blocked_counts {
    size_t waiters;      /* clients */
    size_t with_timeout; /* of them */
    size_t keys, keys_gone; /* that are waited for; of them: by some who want to know of removal */
};
struct blocked_counts blocked_count(const struct blocked *b);
/* Bytes that a client's waiting takes. */
size_t blocked_client_memory(const struct client *c);

#endif
