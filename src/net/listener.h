/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Listening sockets: TCP over IPv4 and IPv6 on several addresses, and a Unix socket. Each new
 * connection's descriptor is handed to one function.
 */
#ifndef HF_NET_LISTENER_H
#define HF_NET_LISTENER_H

#include <stdbool.h>
#include <stddef.h>

#include "net/loop.h"
#include "os/socket.h"

/* Called with a non-blocking descriptor, which it takes. `tls`: it came to a port for TLS. */
typedef void listener_accept_fn(void *ctx, int fd, bool tls);

struct listeners;

struct listeners *listeners_new(struct loop *loop, listener_accept_fn *accept, void *ctx);
/* Closes all of them, and removes the Unix socket's file. */
void listeners_free(struct listeners *l);

/* One address. One that begins with '-' is optional: when the machine does not have it, it is left
 * out and true is returned. On failure `error` says why. */
bool listeners_add_tcp(struct listeners *l, const char *address, int port, bool tls,
                       int backlog, char error[SOCKET_ERROR_SIZE]);
bool listeners_add_unix(struct listeners *l, const char *path, unsigned perm, const char *group,
                        int backlog, char error[SOCKET_ERROR_SIZE]);
/* Close the TCP ones of this kind (before `bind`, `port` or `tls-port` changes). */
void listeners_close_tcp(struct listeners *l, bool tls);
/* How many connections are accepted from each socket in one turn, so that those that are there are
 * served meanwhile. One for TLS is followed by a handshake, which takes the time of hundreds of
 * commands. Both are 1 to begin with. */
void listeners_set_accepts(struct listeners *l, int count, int tls_count);
size_t listeners_count(const struct listeners *l);

#endif
