/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS for clients: the context that new connections get, made from the tls-* directives and
 * replaced as a whole when one of them (or a file that one names) changes; the handshake of each
 * client, and who it is by its certificate; and the clients whose sessions hold bytes that no event
 * announces.
 *
 *     accepted -> (handshake, SECURE_HANDSHAKE_S at most) -> established -> served as any other
 *
 * A client in its handshake counts as a client, but nothing of it is parsed or executed.
 */
#ifndef HF_SERVER_SECURE_H
#define HF_SERVER_SECURE_H

#include "base/error.h"
#include "net/tls.h"
#include "server/client.h"

#define SECURE_HANDSHAKE_S 10

/* Make the context as the configuration says; while tls-port is 0 there is none. False: the one
 * that was there stays. */
bool secure_configure(struct server *s, char error[TLS_ERROR_SIZE]);
/* With tls-auto-reload-interval the files are looked at now and then from here on, and contexts
 * made of what stands in them when they have changed. */
void secure_watch(struct server *s);
/* tls-expected-peer-name, as CONFIG SET is to refuse it. */
bool secure_check_names(const char *names, struct error *err);
void secure_deinit(struct server *s);
/* Whether a change of this directive asks for a new context. */
bool secure_concerns(const char *name);

/* A new client's session. False: there is no memory for it. */
bool secure_accept(struct client *c);
/* What an event means for this client. False: nothing, for now or as it is being closed. */
bool secure_ready(struct client *c, uint32_t *events);
bool secure_handshake_is_late(const struct client *c);

/* The client is to be read from in the next turn. */
void secure_note_pending(struct client *c);
void secure_read_pending(struct server *s);
void secure_forget(struct client *c);

#endif
