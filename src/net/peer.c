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
    size_t out_used;
    size_t in_at, in_used; /* in[in_at, in_used) was received and not yet read */
    char out[OUT_SIZE];
    char in[PEER_LINE_MAX];
};

struct peer *peer_connect(const char *host, int port, int timeout_ms)
{
    int fd = socket_connect_tcp(host, port, timeout_ms);
    if (fd < 0)
        return NULL;
    socket_set_nodelay(fd);
    struct peer *p = mem_alloc(sizeof(*p));
    p->fd = fd;
    p->timeout_ms = timeout_ms;
    p->out_used = p->in_at = p->in_used = 0;
    return p;
}

void peer_close(struct peer *p)
{
    socket_close(p->fd);
    mem_free(p);
}

void peer_set_timeout(struct peer *p, int timeout_ms)
{
    p->timeout_ms = timeout_ms;
}

/* After a call that returned -1: wait until it may be tried again. */
static bool wait_again(struct peer *p, bool to_write, int64_t end_us)
{
    if (errno != EAGAIN && errno != EWOULDBLOCK)
        return false;
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

static bool write_through(struct peer *p, const char *data, size_t size)
{
    while (size > 0) {
        size_t piece = size < PIECE ? size : PIECE;
        int64_t end = end_of_wait(p);
        data += piece;
        size -= piece;
        while (piece > 0) {
            ssize_t n = socket_write(p->fd, data - piece, piece);
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
        ssize_t n = socket_read(p->fd, p->in + have, PEER_LINE_MAX - have);
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
        ssize_t n = socket_read(p->fd, data, room);
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

int peer_take_fd(struct peer *p, char *rest, size_t *rest_size)
{
    int fd = p->fd;
    *rest_size = p->in_used - p->in_at;
    memcpy(rest, p->in + p->in_at, *rest_size);
    mem_free(p);
    return fd;
}
