/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Batches: what all ready sockets have sent in a turn is parsed into a batch of commands, whose
 * keys are looked up in three steps so that cache misses overlap, and then executed one after
 * another in the order of each client.
 *
 *     fill:    parse; find the command; hash its first key; prefetch the bucket
 *     step 2:  look at the bucket's tags; prefetch the entry
 *     step 3:  for large collections, prefetch the node that the command will look at
 *     execute
 *
 * A command that must wait (CLIENT PAUSE) blocks its client: it and the later commands of the
 * client in this batch are copied, to be executed first when the client goes on.
 */
#ifndef HF_SERVER_BATCH_H
#define HF_SERVER_BATCH_H

#include "server/client.h"

struct batch *batch_new(void);
void batch_free(struct batch *b);

/* Read from a client's connection; what came is queued for execution. */
void batch_read(struct server *s, struct client *c);
/* Queue a client whose window may hold commands (after it was unblocked). */
void batch_add(struct server *s, struct client *c);
/* Execute all that is queued. */
void batch_run(struct server *s);
bool batch_is_running(const struct batch *b);
/* In the middle of a command of `executing`: from now on another batch takes what others send, so
 * that server_serve_aside can execute it; of `executing` nothing is read or executed. What stood
 * behind the command in the batch is put off: it comes first in the new one. */
void batch_step_aside(struct server *s, struct client *executing);
/* The command has ended: back to its batch. */
void batch_step_back(struct server *s);
/* The end of a turn: bytes not yet parsed are moved to the connections' own memory. */
void batch_end_turn(struct server *s);

#endif
