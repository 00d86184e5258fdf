/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/peer.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/socket.h"

#define OUT_SIZE 16384
/* How much is written within one time-out. */
#define PIECE 65536

struct peer {
    int fd, timeout_ms;
    struct tls *tls; /* NULL: bytes go as they are */
    size_t out_used;
    size_t in_at, in_used; /* in[in_at, in_used) was received and not yet read */
    char out[OUT_SIZE];
    char in[PEER_LINE_MAX];
};

/* After a call that returned -1: wait until it may be tried again. */
static bool wait_again(struct peer *p, bool to_write, int64_t end_us)
{
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return false;
    if (p->tls != NULL)
        to_write = to_write ? tls_write_wants_write(p->tls) : tls_read_wants_write(p->tls);
    int64_t left = (end_us - clock_monotonic_us() + 999) / 1000;
    if (left <= 0 || socket_wait(p->fd, to_write, (int)left) == 0) {
        errno = ETIMEDOUT;
        return false;
    }
    return true;
}

static int64_t end_of_wait(const struct peer *p)
{
    return clock_monotonic_us() + (int64_t)p->timeout_ms * 1000;
}

static ssize_t read_now(struct peer *p, char *data, size_t room)
{
    if (p->tls == NULL)
        return socket_read(p->fd, data, room);
    tls_begin_read(p->tls);
    return tls_read(p->tls, data, room);
}

static ssize_t write_now(struct peer *p, const char *data, size_t size)
{
    return p->tls != NULL ? tls_write(p->tls, data, size) : socket_write(p->fd, data, size);
}

static bool shake_hands(struct peer *p, struct tls_context *context)
{
    int64_t end = end_of_wait(p);
    p->tls = tls_new(context, p->fd);
    if (p->tls == NULL) {
        errno = ENOMEM;
        return false;
    }
    for (;;) {
        int n = tls_handshake(p->tls);
        if (n == 1)
            return true;
        if (n == 0)
            errno = ECONNRESET;
        if (n == 0 || !wait_again(p, false, end))
            return false;
    }
}

struct peer *peer_connect(const char *host, int port, const char *source, struct tls_context *tls,
                          int timeout_ms, char why[TLS_ERROR_SIZE])
{
    int fd = socket_connect_tcp(host, port, source, timeout_ms);
    if (fd < 0) {
        if (why != NULL)
            snprintf(why, TLS_ERROR_SIZE, "%s", strerror(errno));
        return NULL;
    }
    socket_set_nodelay(fd);
    struct peer *p = mem_alloc(sizeof(*p));
    p->fd = fd;
    p->tls = NULL;
    p->timeout_ms = timeout_ms;
    p->out_used = p->in_at = p->in_used = 0;
    if (tls == NULL || shake_hands(p, tls))
        return p;
    int number = errno;
    if (why != NULL)
        snprintf(why, TLS_ERROR_SIZE, "TLS: %s", peer_why(p));
    peer_close(p);
    errno = number;
    return NULL;
}

void peer_close(struct peer *p)
{
    tls_free(p->tls);
    socket_close(p->fd);
    mem_free(p);
}

const char *peer_why(const struct peer *p)
{
    if (errno != EPROTO)
        return strerror(errno);
    if (p->tls != NULL && tls_error(p->tls)[0] != '\0')
        return tls_error(p->tls);
    return "the other side sent a line without end";
}

void peer_set_timeout(struct peer *p, int timeout_ms)
{
    p->timeout_ms = timeout_ms;
}

static bool write_through(struct peer *p, const char *data, size_t size)
{
    while (size > 0) {
        size_t piece = size < PIECE ? size : PIECE;
        int64_t end = end_of_wait(p);
        data += piece;
        size -= piece;
        while (piece > 0) {
            ssize_t n = write_now(p, data - piece, piece);
            if (n >= 0)
                piece -= (size_t)n;
            else if (!wait_again(p, true, end))
                return false;
        }
    }
    return true;
}

bool peer_flush(struct peer *p)
{
    size_t size = p->out_used;
    p->out_used = 0;
    return write_through(p, p->out, size);
}

static bool write_some(struct peer *p, const char *data, size_t size)
{
    if (size > OUT_SIZE - p->out_used && !peer_flush(p))
        return false;
    if (size > OUT_SIZE)
        return write_through(p, data, size);
    if (size != 0)
        memcpy(p->out + p->out_used, data, size);
    p->out_used += size;
    return true;
}

static bool write_header(struct peer *p, char kind, size_t n)
{
    char header[32];
    int size = snprintf(header, sizeof(header), "%c%zu\r\n", kind, n);
    return write_some(p, header, (size_t)size);
}

bool peer_write_request(struct peer *p, int argument_count)
{
    return write_header(p, '*', (size_t)argument_count);
}

bool peer_write_argument(struct peer *p, struct slice argument)
{
    return write_header(p, '$', argument.size) && write_some(p, argument.data, argument.size) &&
           write_some(p, "\r\n", 2);
}

bool peer_send(struct peer *p, const struct slice *argv, int argc)
{
    bool ok = peer_write_request(p, argc);
    for (int i = 0; ok && i < argc; i++)
        ok = peer_write_argument(p, argv[i]);
    return ok && peer_flush(p);
}

int peer_auth_arguments(const char *user, const char *password, struct slice argv[3])
{
    int argc = 0;
    if (password[0] == '\0')
        return 0;
    argv[argc++] = SLICE("AUTH");
    if (user[0] != '\0')
        argv[argc++] = slice_cstr(user);
    argv[argc++] = slice_cstr(password);
    return argc;
}

bool peer_read_line(struct peer *p, struct slice *line)
{
    int64_t end = end_of_wait(p);
    size_t looked = 0;
    for (;;) {
        char *start = p->in + p->in_at;
        size_t have = p->in_used - p->in_at;
        char *newline = have > looked ? memchr(start + looked, '\n', have - looked) : NULL;
        if (newline != NULL) {
            size_t size = (size_t)(newline - start);
            p->in_at += size + 1;
            if (size > 0 && start[size - 1] == '\r')
                size--;
            *line = slice_of(start, size);
            return true;
        }
        looked = have;
        memmove(p->in, start, have);
        p->in_at = 0;
        p->in_used = have;
        if (have == PEER_LINE_MAX) {
            errno = EPROTO;
            return false;
        }
        ssize_t n = read_now(p, p->in + have, PEER_LINE_MAX - have);
        if (n == 0)
            errno = ECONNRESET;
        if (n == 0 || (n < 0 && !wait_again(p, false, end)))
            return false;
        if (n > 0)
            p->in_used += (size_t)n;
    }
}

bool peer_read_some(struct peer *p, char *data, size_t room, size_t *got)
{
    size_t have = p->in_used - p->in_at;
    if (have > 0) {
        *got = have < room ? have : room;
        memcpy(data, p->in + p->in_at, *got);
        p->in_at += *got;
        return true;
    }
    int64_t end = end_of_wait(p);
    for (;;) {
        ssize_t n = read_now(p, data, room);
        if (n > 0) {
            *got = (size_t)n;
            return true;
        }
        if (n == 0)
            errno = ECONNRESET;
        if (n == 0 || !wait_again(p, false, end))
            return false;
    }
}

int peer_fd(const struct peer *p)
{
    return p->fd;
}

int peer_take_fd(struct peer *p, struct tls **tls, char *rest, size_t *rest_size)
{
    *tls = p->tls;
    int fd = p->fd;
    *rest_size = p->in_used - p->in_at;
    memcpy(rest, p->in + p->in_at, *rest_size);
    mem_free(p);
    return fd;
}
