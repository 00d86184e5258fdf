/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Strings of more than RDB_PIECE bytes: written in bounded memory whatever their size.
 *
 * A compressed string is one LZF stream whose length comes before it. LZF has neither header nor
 * end, and refers back within what was unpacked, so streams of pieces, one behind the other, are
 * the stream of the whole; only references across pieces are lost, which reach back 8 KiB at most.
 * What the pieces come to is held until the length is known, up to RDB_PACKED_MOST. A string that
 * takes more, or whose pieces do not get shorter, is written as it is.
 */
#include <liblzf/lzf.h>
#include <string.h>

#include "base/mem.h"
#include "persist/rdb/io.h"

#define LITERALS_MOST 32
/* After so many bytes without a gain of a 32nd nothing more is hoped for. */
#define PATIENCE (4U * RDB_PIECE)

struct packed {
    char *bytes;
    size_t used, capacity;
};

/* Room for one more piece, however it turns out. */
static bool make_room(struct packed *p, size_t piece)
{
    size_t need = p->used + piece + piece / LITERALS_MOST + 1;
    if (need <= p->capacity)
        return true;
    if (p->used > RDB_PACKED_MOST)
        return false;
    p->capacity = need > 2 * p->capacity ? need : 2 * p->capacity;
    p->bytes = mem_realloc(p->bytes, p->capacity);
    return true;
}

/* The form that LZF has for what is not repeated: runs of up to 32 bytes behind their length less
 * one. */
static void add_literals(struct packed *p, struct slice piece)
{
    for (size_t at = 0; at < piece.size; at += LITERALS_MOST) {
        size_t run = piece.size - at < LITERALS_MOST ? piece.size - at : LITERALS_MOST;
        p->bytes[p->used++] = (char)(run - 1);
        memcpy(p->bytes + p->used, piece.data + at, run);
        p->used += run;
    }
}

static bool pack(struct packed *p, uint64_t size, rdb_piece_fn *give, void *ctx, char *room)
{
    for (uint64_t at = 0; at < size;) {
        size_t want = size - at < RDB_PIECE ? (size_t)(size - at) : RDB_PIECE;
        struct slice piece = give(ctx, at, want, room);
        if (!make_room(p, piece.size))
            return false;
        unsigned most = (unsigned)(piece.size > 4 ? piece.size - 4 : 0);
        unsigned n =
            most ? lzf_compress(piece.data, (unsigned)piece.size, p->bytes + p->used, most) : 0;
        if (n)
            p->used += n;
        else
            add_literals(p, piece);
        at += piece.size;
        if (at >= PATIENCE && p->used > at - at / 32)
            return false;
    }
    return p->used + 4 < size;
}

void rdb_write_long_string(struct rdb_writer *w, uint64_t size, rdb_piece_fn *give, void *ctx)
{
    char *room = mem_alloc(RDB_PIECE);
    struct packed p = {0};
    w->data_size += size;
    if (w->compress && size <= UINT32_MAX && pack(&p, size, give, ctx, room)) {
        rdb_write_u8(w, 0xc3);
        rdb_write_length(w, p.used);
        rdb_write_length(w, size);
        rdb_write_bytes(w, p.bytes, p.used);
    } else {
        rdb_write_length(w, size);
        for (uint64_t at = 0; at < size && !w->failed;) {
            size_t want = size - at < RDB_PIECE ? (size_t)(size - at) : RDB_PIECE;
            struct slice piece = give(ctx, at, want, room);
            rdb_write_bytes(w, piece.data, piece.size);
            at += piece.size;
        }
    }
    mem_free(p.bytes);
    mem_free(room);
}
