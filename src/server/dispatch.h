/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Dispatch: what is checked before a command runs, in Redis's order, and counted after.
 */
#ifndef HF_SERVER_DISPATCH_H
#define HF_SERVER_DISPATCH_H

#include "command/table.h"
#include "server/client.h"

/* Execute, queue (MULTI) or refuse one command of a client. `call` has keyspace, server, hooks,
 * time, arguments and the first key's hash; command is what command_find gave for argv[0] (NULL:
 * unknown). Returns false when the command must wait: nothing was done and the client is to be
 * blocked. */
bool dispatch(struct client *c, struct call *call, const struct command *command);

/* Run a command that has been checked, and count it. */
void dispatch_call(struct client *c, struct call *call, const struct command *command);

/* The command, or the subcommand if it is a container; on failure *error is set to a new text
 * ("ERR unknown command ...", arity) which the caller frees. */
const struct command *dispatch_lookup(const struct command *command, const struct slice *argv,
                                      int argc, char **error);

/* The error that commands which write get now, as snapshots or the log fail; NULL: none. */
const char *dispatch_write_refusal(const struct server *s);

/* Whether argv[i] is, or may be, a password: it is not to be shown or logged. */
bool dispatch_is_secret(const struct command *command, const struct slice *argv, int i);

/* Count an error reply by its code. */
void dispatch_count_error(struct server *s, const char *code);

#endif
