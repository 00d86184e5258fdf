/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client's pending output: a queue of blocks that replies are appended to and that the connection
 * writes out with writev and consumes. Pure bytes.
 *
 *     first -> [ consumed | pending ...... ] -> [ pending ...... ] -> [ pending | pos  free  end ]
 *
 * Blocks are of OUTBUF_BLOCK_SIZE and come from a small pool of the thread's own, so that the few
 * clients that have output at one time share blocks that are warm in the cache, and one that has
 * none holds no memory. A string larger than a block gets a block of its own size.
 */
#ifndef HF_RESP_OUTBUF_H
#define HF_RESP_OUTBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct iovec;

#define OUTBUF_BLOCK_SIZE 16384
/* The most that outbuf_reserve may be asked for. */
#define OUTBUF_RESERVE_MAX 1024

struct outbuf_block {
    struct outbuf_block *next;
    size_t size;     /* bytes filled; of the last block: not up to date, `pos` is */
    size_t capacity; /* of data */
    char data[];
};

/* Zeroed memory is an empty buffer. */
struct outbuf {
    char *pos, *end; /* the free room in the last block; both NULL when there is no block */
    struct outbuf_block *first, *last;
    size_t consumed;    /* bytes of the first block that were written already */
    size_t sealed;      /* bytes in all blocks but the last, the consumed ones included */
    size_t allocated;   /* capacity of all blocks, for the accounting of the client's memory */
    size_t block_count;
};

/* A place in the output where something is to be put in later. */
struct outbuf_mark {
    struct outbuf_block *block;
    size_t offset;
};

void outbuf_clear(struct outbuf *o); /* drops everything and gives the blocks back */

/* Bytes that wait to be written. */
static inline size_t outbuf_size(const struct outbuf *o)
{
    if (o->last == NULL)
        return 0;
    return o->sealed + (size_t)(o->pos - o->last->data) - o->consumed;
}

static inline bool outbuf_is_empty(const struct outbuf *o)
{
    return outbuf_size(o) == 0;
}

char *outbuf_reserve_slow(struct outbuf *o, size_t size);

/* Room for `size` contiguous bytes (<= OUTBUF_RESERVE_MAX) at o->pos, to be followed by
 * outbuf_commit with the place behind the last byte put there. */
static inline char *outbuf_reserve(struct outbuf *o, size_t size)
{
    if (__builtin_expect((size_t)(o->end - o->pos) >= size, 1))
        return o->pos;
    return outbuf_reserve_slow(o, size);
}

static inline void outbuf_commit(struct outbuf *o, char *pos)
{
    o->pos = pos;
}

void outbuf_append_slow(struct outbuf *o, const void *data, size_t size);

static inline void outbuf_append(struct outbuf *o, const void *data, size_t size)
{
    if (__builtin_expect((size_t)(o->end - o->pos) >= size, 1)) {
        if (size != 0) {
            memcpy(o->pos, data, size);
            o->pos += size;
        }
        return;
    }
    outbuf_append_slow(o, data, size);
}

/* Leave a hole of OUTBUF_HOLE_SIZE bytes at the end; outbuf_fill puts `size` bytes (at most as
 * many) there and closes what is left of the hole by moving what follows in the same block. Holes
 * that are open at the same time are filled in the reverse order of their making. No output may be
 * consumed while a hole is open. */
#define OUTBUF_HOLE_SIZE 24
struct outbuf_mark outbuf_hole(struct outbuf *o);
void outbuf_fill(struct outbuf *o, struct outbuf_mark mark, const void *data, size_t size);

/* Move everything that `from` holds behind what `to` holds; `from` is empty afterwards. */
void outbuf_move(struct outbuf *to, struct outbuf *from);

/* The pending bytes as at most `max` vectors, for writev; returns how many. */
int outbuf_vectors(struct outbuf *o, struct iovec *out, int max);
/* Drop `size` bytes from the front: they were written. */
void outbuf_consume(struct outbuf *o, size_t size);

#endif
