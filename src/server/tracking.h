/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Client-side caching (CLIENT TRACKING): clients are told when what they have read may have
 * changed.
 *
 * By default the server remembers which client has read which key, whatever the database, in a hash
 * table of key -> clients; the first change after that is told, and the key forgotten. In BCAST
 * mode nothing is remembered: a client is told of every change of keys that begin with one of its
 * prefixes. tracking-table-max-keys bounds the table: beyond it keys are told of as if changed.
 *
 * The message is a push in RESP3; with REDIRECT it goes to another client, which in RESP2 has to
 * subscribe to __redis__:invalidate.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_TRACKING_H
#define HF_SERVER_TRACKING_H

#include "server/client.h"

struct tracking_table;

struct tracking_table *tracking_table_new(void);
void tracking_table_free(struct tracking_table *t);

/* The client executed a command that reads: remember its keys. */
void tracking_note_read(struct client *c, const struct command *command, const struct slice *argv,
                        int argc, bool in_exec);
/* A key was changed by this client (NULL: expiry, eviction). */
void tracking_changed(struct server *s, struct client *by, struct slice key);
/* A whole database was. */
void tracking_flushed(struct server *s);
/* What BCAST clients are to be told is gathered during a turn. */
void tracking_end_turn(struct server *s);
/* Whether anybody wants to know of changes. */
bool tracking_wanted(const struct server *s);
/* CLIENT TRACKING OFF; the client goes. */
void tracking_end(struct client *c);

/* For INFO and CLIENT LIST. */
struct tracking_counts {
    size_t clients, keys, items, prefixes;
};
void tracking_count(const struct server *s, struct tracking_counts *counts);
/* "t", "tB", "tR" or "". */
const char *tracking_letters(const struct client *c);
int64_t tracking_redirect(const struct client *c); /* -1: off; 0: to itself */

#endif
