/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The primitives of the RDB format: bytes, numbers, lengths and strings, read from and written to
 * buffers that somebody else fills and empties. No file descriptors here.
 *
 * Format (described in "Redis RDB Dump File Format", Sripathi Krishnan, and by the files
 * themselves):
 *
 *     length:  00LLLLLL                      6 bits
 *              01LLLLLL LLLLLLLL             14 bits, big-endian
 *              10000000 + 4 bytes            32 bits, big-endian
 *              10000001 + 8 bytes            64 bits, big-endian
 *              11EEEEEE                      no length: a specially encoded string follows
 *     string:  length + bytes, or E = 0, 1, 2: an integer of 1, 2, 4 bytes, little-endian;
 *              E = 3: LZF: compressed length, length, compressed bytes
 *
 * The reader proves every length against what is left of its input before it uses or allocates it.
 * All errors name the offset. The checksum is summed over what was consumed.
 */
#ifndef HF_PERSIST_RDB_IO_H
#define HF_PERSIST_RDB_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* Reading -------------------------------------------------------------------------------------- */

struct rdb_reader {
    const unsigned char *cur, *end; /* what is in the buffer and not yet consumed */
    const unsigned char *summed;    /* up to here the checksum has gone */
    uint64_t crc;
    uint64_t offset;  /* of `end` in the input */
    uint64_t size;    /* of the whole input */
    /* Fill the buffer with up to `room` bytes; *got is 0 at the end. NULL: all is in the buffer. */
    bool (*fill)(void *ctx, void *data, size_t room, size_t *got, struct error *err);
    void *ctx;
    unsigned char *buffer; /* own buffer when there is a fill function */
    size_t capacity;
    char *scratch; /* decompressed string; grown as needed */
    size_t scratch_capacity;
    bool later; /* a header of a version that is not known may be passed: set by who may */
    struct error *err;
};

/* Over bytes in memory, which must stay. Who has only the first ones of an input sets `size` to
 * what the whole may come to: TRUNCATED then says that more are needed. */
void rdb_reader_init_memory(struct rdb_reader *r, const void *data, size_t size, struct error *err);
/* Over an input of `size` bytes that fill gives piece by piece. */
void rdb_reader_init_stream(struct rdb_reader *r, uint64_t size,
                            bool (*fill)(void *, void *, size_t, size_t *, struct error *),
                            void *ctx, struct error *err);
void rdb_reader_deinit(struct rdb_reader *r);

static inline uint64_t rdb_reader_offset(const struct rdb_reader *r)
{
    return r->offset - (uint64_t)(r->end - r->cur);
}
static inline uint64_t rdb_reader_left(const struct rdb_reader *r)
{
    return r->size - rdb_reader_offset(r);
}
/* The checksum of everything consumed so far. */
uint64_t rdb_reader_crc(struct rdb_reader *r);

/* Make the error "offset N: ..." ; returns false. */
bool rdb_fail(struct rdb_reader *r, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* `size` bytes in one run, valid until the next read. TRUNCATED if there are not so many. */
bool rdb_read_bytes(struct rdb_reader *r, size_t size, const unsigned char **bytes);
static inline bool rdb_read_u8(struct rdb_reader *r, uint8_t *v)
{
    const unsigned char *p;
    if (__builtin_expect(r->cur < r->end, 1)) {
        *v = *r->cur++;
        return true;
    }
    if (!rdb_read_bytes(r, 1, &p))
        return false;
    *v = *p;
    return true;
}
/* The next byte, which is read again then. */
static inline bool rdb_peek_u8(struct rdb_reader *r, uint8_t *v)
{
    bool ok = rdb_read_u8(r, v);
    r->cur -= ok;
    return ok;
}
bool rdb_read_le32(struct rdb_reader *r, uint32_t *v);
bool rdb_read_le64(struct rdb_reader *r, uint64_t *v);
bool rdb_read_double(struct rdb_reader *r, double *v);      /* 8 bytes, little-endian */
bool rdb_read_text_double(struct rdb_reader *r, double *v); /* the old form: a length and text */
/* A length; *special is set to the encoding when it was one (then *v is the encoding). */
bool rdb_read_length(struct rdb_reader *r, uint64_t *v, bool *special);
/* A plain length that counts things of at least `least` bytes each in the rest of the input. */
bool rdb_read_count(struct rdb_reader *r, size_t least, uint64_t *v);
/* A string in any encoding: valid until the next read. number_text must outlive the slice. */
struct rdb_string {
    struct slice bytes;
    char text[24];
};
bool rdb_read_string(struct rdb_reader *r, struct rdb_string *s);

/* Writing -------------------------------------------------------------------------------------- */

#define RDB_LZF_CLASSES 32

struct rdb_writer {
    char *buffer;
    size_t used, capacity;
    uint64_t crc;     /* of what was flushed */
    uint64_t written; /* bytes flushed */
    uint64_t data_size; /* bytes of strings and scores, before integers were packed and LZF */
    /* Take the buffer's bytes; it may put another buffer of the same capacity in the place of
     * w->buffer, and keep this one. NULL: the buffer grows and holds everything. */
    bool (*flush)(void *ctx, const void *data, size_t size);
    void *ctx;
    bool failed;   /* a flush failed: everything after does nothing */
    bool compress; /* strings by LZF where that is shorter */
    int version;   /* 7 .. 12: what may be used; 10 at first */
    char *lzf;     /* room for a compressed string */
    size_t lzf_capacity;
    /* Trying to compress what does not compress costs many times what writing it does. After
     * RDB_LZF_MISSES tries in a row without a gain the next strings of about that size (a class for
     * each doubling) are taken as they are, more of them after each further miss, up to
     * RDB_LZF_SKIP_MOST; a gain puts everything back. */
    struct {
        uint8_t misses, skip;
        uint8_t skip_next; /* how many after the next miss */
    } lzf_luck[RDB_LZF_CLASSES];
};
#define RDB_LZF_MISSES 16
#define RDB_LZF_SKIP_MOST 63

void rdb_writer_init(struct rdb_writer *w, size_t capacity,
                     bool (*flush)(void *, const void *, size_t), void *ctx);
void rdb_writer_deinit(struct rdb_writer *w);
bool rdb_writer_flush(struct rdb_writer *w);
/* What follows is compressed as it would be at the beginning of a file, whatever was before. */
void rdb_writer_forget_luck(struct rdb_writer *w);
/* The checksum of everything written so far. */
uint64_t rdb_writer_crc(const struct rdb_writer *w);

void rdb_write_bytes(struct rdb_writer *w, const void *data, size_t size);
void rdb_write_u8(struct rdb_writer *w, uint8_t v);
void rdb_write_le64(struct rdb_writer *w, uint64_t v);
void rdb_write_double(struct rdb_writer *w, double v);
void rdb_write_text_double(struct rdb_writer *w, double v); /* the old form */
void rdb_write_length(struct rdb_writer *w, uint64_t v);
void rdb_write_string(struct rdb_writer *w, struct slice s);
void rdb_write_int(struct rdb_writer *w, int64_t v); /* an integer as a string */

/* A string of any size in bounded memory (long_string.c). `give` is asked for `size` bytes from
 * `at` on, at most RDB_PIECE, in their order and perhaps twice; it may put them into `room`. */
#define RDB_PIECE (256U << 10)
#define RDB_PACKED_MOST (16U << 20)
typedef struct slice rdb_piece_fn(void *ctx, uint64_t at, size_t size, char *room);
void rdb_write_long_string(struct rdb_writer *w, uint64_t size, rdb_piece_fn *give, void *ctx);

#endif
