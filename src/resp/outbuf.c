/* SPDX-License-Identifier: BSD-3-Clause */
#include "resp/outbuf.h"

#include <assert.h>
#include <sys/uio.h>

#include "base/mem.h"

#define BLOCK_CAPACITY (OUTBUF_BLOCK_SIZE - sizeof(struct outbuf_block))
static_assert(BLOCK_CAPACITY > OUTBUF_RESERVE_MAX, "a block holds what can be reserved");

/* The pool keeps at most this many free blocks for each thread: 2 MiB. */
#define POOL_MAX 128

static _Thread_local struct outbuf_block *pool;
static _Thread_local unsigned pool_count;

static struct outbuf_block *block_new(size_t capacity)
{
    struct outbuf_block *b;
    if (capacity <= BLOCK_CAPACITY) {
        capacity = BLOCK_CAPACITY;
        b = pool;
        if (b != NULL) {
            pool = b->next;
            pool_count--;
        } else {
            b = mem_alloc(OUTBUF_BLOCK_SIZE);
        }
    } else {
        b = mem_alloc(sizeof(*b) + capacity);
    }
    b->next = NULL;
    b->size = 0;
    b->capacity = capacity;
    return b;
}

static void block_free(struct outbuf_block *b)
{
    if (b->capacity == BLOCK_CAPACITY && pool_count < POOL_MAX) {
        b->next = pool;
        pool = b;
        pool_count++;
    } else {
        mem_free(b);
    }
}

static void seal(struct outbuf *o)
{
    if (o->last != NULL)
        o->last->size = (size_t)(o->pos - o->last->data);
}

static void add_block(struct outbuf *o, size_t capacity)
{
    struct outbuf_block *b = block_new(capacity);
    if (o->last != NULL) {
        seal(o);
        o->sealed += o->last->size;
        o->last->next = b;
    } else {
        o->first = b;
    }
    o->last = b;
    o->pos = b->data;
    o->end = b->data + b->capacity;
    o->allocated += b->capacity;
    o->block_count++;
}

void outbuf_clear(struct outbuf *o)
{
    for (struct outbuf_block *b = o->first, *next; b != NULL; b = next) {
        next = b->next;
        block_free(b);
    }
    *o = (struct outbuf){0};
}

char *outbuf_reserve_slow(struct outbuf *o, size_t size)
{
    assert(size <= OUTBUF_RESERVE_MAX);
    add_block(o, size);
    return o->pos;
}

void outbuf_append_slow(struct outbuf *o, const void *data, size_t size)
{
    const char *from = data;
    size_t room = (size_t)(o->end - o->pos);
    if (room != 0) {
        memcpy(o->pos, from, room);
        o->pos += room;
        from += room;
        size -= room;
    }
    add_block(o, size);
    memcpy(o->pos, from, size);
    o->pos += size;
}

struct outbuf_mark outbuf_hole(struct outbuf *o)
{
    char *at = outbuf_reserve(o, OUTBUF_HOLE_SIZE);
    o->pos = at + OUTBUF_HOLE_SIZE;
    return (struct outbuf_mark){o->last, (size_t)(at - o->last->data)};
}

void outbuf_fill(struct outbuf *o, struct outbuf_mark mark, const void *data, size_t size)
{
    assert(size <= OUTBUF_HOLE_SIZE);
    struct outbuf_block *b = mark.block;
    char *at = b->data + mark.offset;
    size_t left = OUTBUF_HOLE_SIZE - size;
    bool is_last = b == o->last;
    char *stop = is_last ? o->pos : b->data + b->size;
    char *behind = at + OUTBUF_HOLE_SIZE;
    memcpy(at, data, size);
    if (left == 0)
        return;
    memmove(at + size, behind, (size_t)(stop - behind));
    if (is_last) {
        o->pos -= left;
    } else {
        b->size -= left;
        o->sealed -= left;
    }
}

void outbuf_move(struct outbuf *to, struct outbuf *from)
{
    if (from->first == NULL)
        return;
    if (to->first == NULL) {
        *to = *from;
        *from = (struct outbuf){0};
        return;
    }
    seal(from);
    /* Small outputs are copied, so that many of them do not leave half-empty blocks behind. */
    if (outbuf_size(from) <= OUTBUF_RESERVE_MAX) {
        size_t skip = from->consumed;
        for (struct outbuf_block *b = from->first; b != NULL; b = b->next) {
            outbuf_append(to, b->data + skip, b->size - skip);
            skip = 0;
        }
        outbuf_clear(from);
        return;
    }
    if (from->consumed != 0) {
        struct outbuf_block *b = from->first;
        b->size -= from->consumed;
        memmove(b->data, b->data + from->consumed, b->size);
        if (b == from->last)
            from->pos -= from->consumed;
        else
            from->sealed -= from->consumed;
    }
    seal(to);
    to->sealed += to->last->size + from->sealed;
    to->last->next = from->first;
    to->last = from->last;
    to->pos = from->pos;
    to->end = from->end;
    to->allocated += from->allocated;
    to->block_count += from->block_count;
    *from = (struct outbuf){0};
}

int outbuf_vectors(struct outbuf *o, struct iovec *out, int max)
{
    int n = 0;
    size_t skip = o->consumed;
    seal(o);
    for (struct outbuf_block *b = o->first; b != NULL && n < max; b = b->next) {
        if (b->size > skip)
            out[n++] = (struct iovec){b->data + skip, b->size - skip};
        skip = 0;
    }
    return n;
}

void outbuf_consume(struct outbuf *o, size_t size)
{
    seal(o);
    while (o->first != NULL) {
        struct outbuf_block *b = o->first;
        size_t here = b->size - o->consumed;
        if (size < here) {
            o->consumed += size;
            return;
        }
        size -= here;
        if (b != o->last)
            o->sealed -= b->size;
        o->allocated -= b->capacity;
        o->block_count--;
        o->consumed = 0;
        o->first = b->next;
        block_free(b);
    }
    assert(size == 0);
    *o = (struct outbuf){0};
}
