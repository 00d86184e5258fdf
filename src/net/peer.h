/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A connection to another server that the calling thread waits for: for a command whose effect
 * depends on what the other side says (MIGRATE). Nothing of it goes through the event loop.
 *
 * What is written is gathered in a small buffer, large pieces go straight to the socket.
 * Connecting, writing each 64 KiB and reading each line may take `timeout_ms`, no longer: a peer
 * that makes progress is not given up on, however much there is to transfer, one that trickles is.
 *
 * After any failure the connection is of no use but to be closed. errno is ETIMEDOUT, what the
 * socket said, ECONNRESET when the other side has closed, or EPROTO for a line that is too long.
 */
#ifndef HF_NET_PEER_H
#define HF_NET_PEER_H

#include <stdbool.h>

#include "base/slice.h"
#include "net/tls.h"

/* Lines are replies of one line: a status or an error. */
#define PEER_LINE_MAX 4096

struct peer;

/* With a client's context: by TLS, the other side's certificate being verified. NULL when it could
 * not be made: see socket_connect_tcp for errno, and for `source`; `why` says it in words (NULL:
 * not wanted). */
struct peer *peer_connect(const char *host, int port, const char *source, struct tls_context *tls,
                          int timeout_ms, char why[TLS_ERROR_SIZE]);
void peer_close(struct peer *p);

void peer_set_timeout(struct peer *p, int timeout_ms);

/* A request: its number of arguments, then as many arguments. */
bool peer_write_request(struct peer *p, int argument_count);
bool peer_write_argument(struct peer *p, struct slice argument);
bool peer_flush(struct peer *p);
/* A whole request, sent. */
bool peer_send(struct peer *p, const struct slice *argv, int argc);
/* Of AUTH: puts them to argv and returns how many there are; 0 when no password is set. */
int peer_auth_arguments(const char *user, const char *password, struct slice argv[3]);

/* The next line without its end: valid until the next call. */
bool peer_read_line(struct peer *p, struct slice *line);
/* At least one byte, at most `room`. */
bool peer_read_some(struct peer *p, char *data, size_t room, size_t *got);

/* What errno means after a failure, in words. */
const char *peer_why(const struct peer *p);

int peer_fd(const struct peer *p);
/* Ends the peer but not the connection: returns the descriptor, and the session over it (NULL:
 * none). What was received and not read is copied to `rest`, which has room for PEER_LINE_MAX
 * bytes. */
int peer_take_fd(struct peer *p, struct tls **tls, char *rest, size_t *rest_size);

#endif
