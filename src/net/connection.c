/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/connection.h"

#include <assert.h>
#include <errno.h>

#include "base/mem.h"
#include "os/socket.h"

#define VECTORS_MAX 64
/* How much is encrypted in one call. */
#define TLS_WRITE_MAX (256 * 1024)

void read_arena_init(struct read_arena *arena, size_t size)
{
    *arena = (struct read_arena){.data = mem_alloc(size), .size = size};
}

void read_arena_deinit(struct read_arena *arena)
{
    mem_free(arena->data);
    *arena = (struct read_arena){0};
}

bool connection_init(struct connection *c, struct loop *loop, int fd,
                     void (*on_ready)(struct loop_source *source, uint32_t events))
{
    *c = (struct connection){.source = {.fd = fd, .on_ready = on_ready}, .loop = loop};
    return loop_add(loop, &c->source, EPOLLIN);
}

void connection_deinit(struct connection *c)
{
    loop_remove(c->loop, &c->source);
    if (c->tls != NULL)
        tls_free(c->tls);
    socket_close(c->source.fd);
    parser_reset(&c->parser);
    mem_free(c->own);
    outbuf_clear(&c->out);
}

/* Bring the window to the beginning of `to`. */
static void move_window(struct connection *c, char *to)
{
    size_t size = c->end - c->start;
    char *from = c->data + c->start;
    if (size != 0)
        memmove(to, from, size);
    parser_moved(&c->parser, from, size, to);
    c->data = to;
    c->start = 0;
    c->end = size;
}

/* Room behind the window, in the arena or the own block. */
static size_t make_room(struct connection *c, struct read_arena *arena)
{
    size_t left = c->end - c->start;
    if (left <= CONNECTION_MOVE_MAX && read_arena_has_room(arena)) {
        move_window(c, arena->data + arena->used);
        size_t room = arena->size - arena->used - left;
        return room < CONNECTION_READ_MAX ? room : CONNECTION_READ_MAX;
    }
    if (c->data != c->own || c->own_size - c->end < CONNECTION_READ_MIN) {
        size_t size = mem_good_size(left * 2 + CONNECTION_READ_MIN);
        if (size > c->own_size || c->data != c->own) {
            char *block = mem_alloc(size);
            char *old = c->own;
            move_window(c, block);
            mem_free(old);
            c->own = block;
            c->own_size = size;
        } else {
            move_window(c, c->own);
        }
    }
    return c->own_size - c->end;
}

void connection_set_tls(struct connection *c, struct tls *tls)
{
    c->tls = tls;
}

void connection_set_established(struct connection *c, struct tls *tls)
{
    c->tls = tls;
    c->tls_established = true;
    c->tls_pending = tls_pending(tls);
}

/* Wait for EPOLLOUT while somebody needs it. */
static void update_events(struct connection *c)
{
    uint32_t events = c->source.events & ~(uint32_t)EPOLLOUT;
    if (c->write_blocked || c->tls_read_wants_write)
        events |= EPOLLOUT;
    loop_set_events(c->loop, &c->source, events);
}

static void wait_to_read(struct connection *c, bool wants_write)
{
    if (c->tls_read_wants_write == wants_write)
        return;
    c->tls_read_wants_write = wants_write;
    update_events(c);
}

enum connection_result connection_handshake(struct connection *c)
{
    int n = tls_handshake(c->tls);
    bool again = n < 0 && errno == EAGAIN;
    wait_to_read(c, again && tls_read_wants_write(c->tls));
    if (n == 1) {
        c->tls_established = true;
        c->tls_pending = tls_pending(c->tls);
    }
    if (n >= 0)
        return n == 1 ? CONNECTION_OK : CONNECTION_END;
    return again ? CONNECTION_AGAIN : CONNECTION_FAILED;
}

uint32_t connection_tls_events(struct connection *c, uint32_t events)
{
    uint32_t meant = events & ~(uint32_t)(EPOLLIN | EPOLLOUT);
    if (events & EPOLLIN || (events & EPOLLOUT && c->tls_read_wants_write))
        meant |= EPOLLIN;
    if ((events & EPOLLOUT && c->write_blocked) || (events & EPOLLIN && c->tls_write_wants_read))
        meant |= EPOLLOUT;
    return meant;
}

/* As socket_readv. It stops when there is no more room or no more to read. */
static ssize_t read_tls(struct connection *c, const struct iovec *vectors, int count)
{
    size_t total = 0;
    bool wants_write = false;
    tls_begin_read(c->tls);
    c->tls_pending = false;
    for (int i = 0; i < count; i++) {
        for (size_t at = 0; at < vectors[i].iov_len;) {
            ssize_t n = tls_read(c->tls, (char *)vectors[i].iov_base + at, vectors[i].iov_len - at);
            if (n > 0) {
                at += (size_t)n;
                total += (size_t)n;
                continue;
            }
            bool again = n < 0 && errno == EAGAIN;
            wants_write = again && tls_read_wants_write(c->tls);
            int error_number = errno;
            wait_to_read(c, wants_write);
            errno = error_number;
            if (total == 0)
                return n;
            /* An end or an error is met again by the next read, which no event may announce. */
            c->tls_pending = !again;
            return (ssize_t)total;
        }
    }
    wait_to_read(c, false);
    c->tls_pending = tls_pending(c->tls);
    return (ssize_t)total;
}

enum connection_result connection_read(struct connection *c, struct read_arena *arena,
                                       size_t *count)
{
    size_t room = make_room(c, arena);
    char *to = c->data + c->end;
    size_t big_room = 0;
    struct iovec vectors[VECTORS_MAX + 1];
    int used = parser_big_rooms(&c->parser, vectors, VECTORS_MAX);
    ssize_t n;
    *count = 0;
    if (used != 0) {
        if (room > CONNECTION_READ_AHEAD)
            room = CONNECTION_READ_AHEAD;
        for (int i = 0; i < used; i++)
            big_room += vectors[i].iov_len;
        vectors[used] = (struct iovec){to, room};
        /* The window comes behind the argument's end only. */
        used += used < VECTORS_MAX;
        n = c->tls != NULL ? read_tls(c, vectors, used)
                           : socket_readv(c->source.fd, vectors, used);
    } else {
        if (c->after_big && room > CONNECTION_READ_AHEAD)
            room = CONNECTION_READ_AHEAD;
        n = c->tls != NULL ? read_tls(c, &(struct iovec){to, room}, 1)
                           : socket_read(c->source.fd, to, room);
    }
    if (n <= 0) {
        enum connection_result result = n == 0            ? CONNECTION_END
                                        : errno == EAGAIN ? CONNECTION_AGAIN
                                                          : CONNECTION_FAILED;
        /* The place in the arena was not taken: others may read there. */
        connection_keep(c);
        return result;
    }
    *count = (size_t)n;
    size_t to_big = *count < big_room ? *count : big_room;
    if (to_big != 0)
        parser_big_filled(&c->parser, to_big);
    c->after_big = to_big != 0;
    c->end += *count - to_big;
    if (c->data == arena->data + arena->used && c->data != c->own) {
        /* The next connection reads behind it, from a new cache line on. */
        arena->used += (c->end + 63) & ~(size_t)63;
        if (arena->used > arena->size)
            arena->used = arena->size;
    }
    return CONNECTION_OK;
}

void connection_keep(struct connection *c)
{
    size_t left = c->end - c->start;
    if (left == 0) {
        mem_free(c->own);
        c->own = NULL;
        c->data = NULL;
        c->own_size = c->start = c->end = 0;
        return;
    }
    if (c->data == c->own)
        return;
    if (c->own_size < left) {
        mem_free(c->own);
        c->own_size = mem_good_size(left);
        c->own = mem_alloc(c->own_size);
    }
    move_window(c, c->own);
}

size_t connection_input_memory(const struct connection *c)
{
    return c->own_size + parser_memory(&c->parser);
}

/* Record by record. Who takes it as fast as it comes lets others have their turn. */
static enum connection_result write_tls(struct connection *c, size_t limit, size_t *count)
{
    bool blocked = false;
    size_t most = limit < TLS_WRITE_MAX ? limit : TLS_WRITE_MAX;
    c->tls_write_wants_read = false;
    while (*count < most && !blocked && !outbuf_is_empty(&c->out)) {
        struct iovec vector;
        outbuf_vectors(&c->out, &vector, 1);
        size_t left = limit - *count;
        ssize_t n =
            tls_write(c->tls, vector.iov_base, vector.iov_len < left ? vector.iov_len : left);
        if (n > 0) {
            outbuf_consume(&c->out, (size_t)n);
            *count += (size_t)n;
        } else if (errno != EAGAIN) {
            return CONNECTION_FAILED;
        } else if (tls_write_wants_write(c->tls)) {
            blocked = true;
        } else {
            c->tls_write_wants_read = true;
            break;
        }
    }
    blocked |= *count >= most && *count < limit && !outbuf_is_empty(&c->out);
    if (blocked != c->write_blocked) {
        c->write_blocked = blocked;
        update_events(c);
    }
    return blocked || c->tls_write_wants_read ? CONNECTION_AGAIN : CONNECTION_OK;
}

size_t connection_send(struct connection *c, const struct slice *parts, int count)
{
    struct iovec vectors[VECTORS_MAX];
    assert(count <= VECTORS_MAX && outbuf_is_empty(&c->out));
    if (c->tls != NULL || c->write_blocked)
        return 0;
    for (int i = 0; i < count; i++)
        vectors[i] = (struct iovec){(char *)(uintptr_t)parts[i].data, parts[i].size};
    ssize_t n = socket_writev(c->source.fd, vectors, count);
    return n > 0 ? (size_t)n : 0;
}

ssize_t connection_writev(struct connection *c, struct iovec *pieces, int count)
{
    if (c->tls == NULL)
        return socket_writev(c->source.fd, pieces, count);
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        for (size_t at = 0; at < pieces[i].iov_len;) {
            ssize_t n =
                tls_write(c->tls, (const char *)pieces[i].iov_base + at, pieces[i].iov_len - at);
            if (n < 0)
                return total > 0 ? (ssize_t)total : -1;
            at += (size_t)n;
            total += (size_t)n;
        }
    }
    return (ssize_t)total;
}

enum connection_result connection_write(struct connection *c, size_t limit, size_t *count)
{
    *count = 0;
    if (c->tls != NULL)
        return write_tls(c, limit, count);
    while (*count < limit && !outbuf_is_empty(&c->out)) {
        struct iovec vectors[VECTORS_MAX];
        int used = outbuf_vectors(&c->out, vectors, VECTORS_MAX);
        size_t size = 0, left = limit - *count;
        for (int i = 0; i < used; i++) {
            if (vectors[i].iov_len >= left - size) {
                vectors[i].iov_len = left - size;
                used = i + 1;
            }
            size += vectors[i].iov_len;
        }
        ssize_t n = used == 1
                        ? socket_write(c->source.fd, vectors[0].iov_base, vectors[0].iov_len)
                        : socket_writev(c->source.fd, vectors, used);
        if (n < 0) {
            if (errno != EAGAIN)
                return CONNECTION_FAILED;
            n = 0;
        }
        outbuf_consume(&c->out, (size_t)n);
        *count += (size_t)n;
        if ((size_t)n < size) {
            /* A short write means that the socket's buffer is full: no need to ask again. */
            c->write_blocked = true;
            loop_set_events(c->loop, &c->source, c->source.events | EPOLLOUT);
            return CONNECTION_AGAIN;
        }
    }
    if (c->write_blocked) {
        c->write_blocked = false;
        loop_set_events(c->loop, &c->source, c->source.events & ~(uint32_t)EPOLLOUT);
    }
    return CONNECTION_OK;
}
