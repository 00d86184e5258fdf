/* SPDX-License-Identifier: BSD-3-Clause
 *
 * TLS by OpenSSL, for both sides: a context (certificate, whom to trust, protocols) and one session
 * for each connection, over its non-blocking socket. A context is a server's or a client's, and so
 * are its sessions; a client asks for a certificate that its authorities have signed, and if names
 * are expected, that is for one of them.
 *
 * A session reads through a buffer of OpenSSL's that holds a record: one system call often fetches
 * several small records, or a record and a piece of the next. What was fetched and not yet asked
 * for is not seen by epoll, so that who stops asking before he is told EAGAIN has to look at
 * tls_pending. A read that got less than there was room for has emptied the socket: until the next
 * tls_begin_read it is not asked again.
 *
 * Sessions keep the context alive that they were made with: replacing it concerns new ones only.
 * A client cannot renegotiate; there is no compression.
 *
 * Threads. A session that is shared (tls_share) may be written to by one thread while another one
 * reads: a lock in the session is held for each call, none of which waits for the socket. What has
 * been freed by its owner says EPIPE to those who share it, and does not touch the socket any more.
 */
#ifndef HF_NET_TLS_H
#define HF_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_ERROR_SIZE 512

/* Whether a client has to show a certificate: the order of tls-auth-clients' words. */
enum tls_client_auth { TLS_CLIENT_AUTH_NO, TLS_CLIENT_AUTH_YES, TLS_CLIENT_AUTH_OPTIONAL };

/* As the directives of these names; an empty string: not given. */
struct tls_options {
    bool client;
    const char *cert_file, *key_file, *key_file_pass;
    const char *ca_cert_file, *ca_cert_dir;
    const char *peer_names; /* of servers, with spaces between them; "": any */
    const char *protocols, *ciphers, *ciphersuites, *dh_params_file;
    enum tls_client_auth auth_clients;
    bool prefer_server_ciphers, session_caching;
    int64_t session_cache_size, session_cache_timeout_s;
};

struct tls_context;
struct tls;

/* NULL: `error` says what is wrong with the options or the files. */
struct tls_context *tls_context_new(const struct tls_options *options, char error[TLS_ERROR_SIZE]);
void tls_context_free(struct tls_context *context); /* NULL is allowed */
/* One more owner, who frees it too; of any thread. NULL is allowed. */
struct tls_context *tls_context_share(struct tls_context *context);

/* A session on a connected socket, which stays the caller's. */
struct tls *tls_new(struct tls_context *context, int fd);
/* The owner's: tells the peer that nothing more follows, as far as the socket takes it at once.
 * NULL is allowed. */
void tls_free(struct tls *t);
/* For another thread that writes, or reads, and ends that by tls_unshare. */
struct tls *tls_share(struct tls *t);
void tls_unshare(struct tls *t); /* NULL is allowed */

/* All of these return -1 with errno: EAGAIN (what is waited for is told below),
 * EPROTO (tls_error says why), or what the socket said. After anything but EAGAIN the session is of
 * no use any more. */
int tls_handshake(struct tls *t); /* 1 when it is done, 0 when the peer has closed */
void tls_begin_read(struct tls *t);
ssize_t tls_read(struct tls *t, void *data, size_t size); /* 0: the peer has closed */
/* May write less than `size`. When it returns EAGAIN the next call has to offer the same bytes,
 * from wherever they are then, or more: less is EAGAIN again. */
ssize_t tls_write(struct tls *t, const void *data, size_t size);

/* What the last call waits for that returned EAGAIN is that the socket takes bytes, not that it has
 * some: of the handshake or tls_read, and of tls_write. */
bool tls_read_wants_write(const struct tls *t);
bool tls_write_wants_write(const struct tls *t);
bool tls_is_established(const struct tls *t);
/* Bytes have been fetched that tls_read has not yet given. */
bool tls_pending(struct tls *t);
const char *tls_error(const struct tls *t);
/* About what a session takes, in bytes. */
size_t tls_memory(const struct tls *t);

/* What names the peer in the certificate that it has shown and that was verified: its common name,
 * or its n-th URI among the alternative names. False: there is none, or one with a NUL in it. */
bool tls_peer_common_name(const struct tls *t, char *name, size_t size);
bool tls_peer_uri(const struct tls *t, int n, char *name, size_t size);

#endif
