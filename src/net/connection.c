/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/connection.h"

#include <errno.h>

#include "base/mem.h"
#include "os/socket.h"

#define VECTORS_MAX 64

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
        n = socket_readv(c->source.fd, vectors, used + (used < VECTORS_MAX));
    } else {
        if (c->after_big && room > CONNECTION_READ_AHEAD)
            room = CONNECTION_READ_AHEAD;
        n = socket_read(c->source.fd, to, room);
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

enum connection_result connection_write(struct connection *c, size_t limit, size_t *count)
{
    *count = 0;
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
