/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sockets, epoll and event descriptors: the system calls that the network code makes, and nothing
 * that they do not do by themselves. Errors are errno's.
 *
 * Faults. A test may set socket_fault: it is asked before each call that transfers bytes or
 * accepts, and may make it fail with an errno or transfer fewer bytes.
 */
#ifndef HF_OS_SOCKET_H
#define HF_OS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Long enough for "[ipv6%interface]:port" and for the path of a Unix socket. */
#define SOCKET_NAME_SIZE 128
#define SOCKET_ERROR_SIZE 256

enum socket_call { SOCKET_CALL_READ, SOCKET_CALL_WRITE, SOCKET_CALL_ACCEPT };

/* Returns 0 to let the call happen, or an errno for it to fail with. *limit (not for accept) may be
 * lowered to the number of bytes that it may transfer at most. NULL in production. */
extern int (*socket_fault)(enum socket_call call, size_t *limit);

/* Listening, non-blocking sockets. They return a descriptor, or -1 with a text in `error`.
 * `address` is a numeric address or a name, "*" for all of IPv4, "::*" for all of IPv6. */
int socket_listen_tcp(const char *address, int port, int backlog, char error[SOCKET_ERROR_SIZE]);
/* A file that is already there is removed. perm 0: as the umask says. `group`, a name or a number,
 * becomes the file's; "": the process's. */
int socket_listen_unix(const char *path, unsigned perm, const char *group, int backlog,
                       char error[SOCKET_ERROR_SIZE]);
void socket_unlink_unix(const char *path);
/* Whether the last socket_listen_tcp failed because the machine has no such protocol or address:
 * optional binds ("-::1") are then left out. */
bool socket_error_is_optional(int error_number);

/* A new non-blocking connection, or -1 (EAGAIN: no more; EMFILE: out of descriptors). */
int socket_accept(int listener);
void socket_set_nodelay(int fd);
/* The opposite: small pieces wait for each other. */
void socket_set_delay(int fd);
/* The first probe after `seconds` of silence, then each third of it. 0: off. */
void socket_set_keepalive(int fd, int seconds);

/* A new non-blocking connection to an address or a name, whose addresses are tried one after
 * another; -1 when none answered: errno is ETIMEDOUT after `timeout_ms`, or what the last one said.
 * A name is looked up first, which takes as long as the resolver takes (EADDRNOTAVAIL: there is
 * none). It comes from `source`, a numeric address of this machine, and only addresses of that
 * protocol are tried; "": from whatever the system takes. */
int socket_connect_tcp(const char *host, int port, const char *source, int timeout_ms);
/* Wait until it can be read from, or written to. 1: it can, or it failed, as the call itself will
 * tell; 0: not within the time. */
int socket_wait(int fd, bool to_write, int timeout_ms);
/* The same for any of several, up to SOCKET_WAIT_MOST: others are not waited for. */
#define SOCKET_WAIT_MOST 32
int socket_wait_any(const int *fds, size_t count, bool to_write, int timeout_ms);

/* "127.0.0.1:6379", "[::1]:6379", "/path:0"; "?:0" when it cannot be told. */
void socket_peer_name(int fd, char name[SOCKET_NAME_SIZE]);
void socket_local_name(int fd, char name[SOCKET_NAME_SIZE]);
bool socket_is_unix(int fd);
/* The peer is this machine: a Unix socket or a loopback address. */
bool socket_peer_is_local(int fd);

/* As recv and sendmsg: the bytes transferred, 0 at the end of the stream, -1 with errno. */
ssize_t socket_read(int fd, void *data, size_t size);
ssize_t socket_readv(int fd, struct iovec *vectors, int count);
ssize_t socket_write(int fd, const void *data, size_t size);
ssize_t socket_writev(int fd, struct iovec *vectors, int count);
void socket_close(int fd);
/* Another descriptor of the same connection; -1 with errno. */
int socket_duplicate(int fd);
/* End the connection in both directions: who waits for it, on any thread, is told. */
void socket_shut_down(int fd);

/* epoll, level-triggered. They abort on errors that only a programmer can make. */
int epoll_open(void);
bool epoll_add(int epoll, int fd, uint32_t events, void *data);
void epoll_change(int epoll, int fd, uint32_t events, void *data);
void epoll_remove(int epoll, int fd);
/* -1: without end. Returns 0 when interrupted by a signal. */
int epoll_wait_for(int epoll, struct epoll_event *events, int max, int timeout_ms);

/* A counter that wakes an epoll: write from any thread or a signal handler, read to reset. */
int eventfd_open(void);
void eventfd_signal(int fd);
void eventfd_reset(int fd);

/* Raise the limit of open descriptors to `want` or as far as it goes; returns the limit then. */
size_t descriptor_limit_raise(size_t want);

#endif
