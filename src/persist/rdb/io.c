/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/io.h"

#include <liblzf/lzf.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "base/mem.h"
#include "base/number.h"

#define READ_BUFFER (1 << 20)
/* LZF cannot compress by more than this: 3 bytes stand for at most 264. A length beyond it is
 * damage, and is not allocated. */
#define LZF_MOST 264

void rdb_reader_init_memory(struct rdb_reader *r, const void *data, size_t size, struct error *err)
{
    *r = (struct rdb_reader){.cur = data, .summed = data, .size = size, .offset = size, .err = err};
    r->end = r->cur + size;
}

void rdb_reader_init_stream(struct rdb_reader *r, uint64_t size,
                            bool (*fill)(void *, void *, size_t, size_t *, struct error *),
                            void *ctx, struct error *err)
{
    *r = (struct rdb_reader){.size = size, .fill = fill, .ctx = ctx, .err = err};
    r->capacity = size < READ_BUFFER ? (size_t)size + 1 : READ_BUFFER;
    r->buffer = mem_alloc(r->capacity);
    r->cur = r->end = r->summed = r->buffer;
}

void rdb_reader_deinit(struct rdb_reader *r)
{
    mem_free(r->buffer);
    mem_free(r->scratch);
    r->buffer = NULL;
    r->scratch = NULL;
}

uint64_t rdb_reader_crc(struct rdb_reader *r)
{
    r->crc = crc64(r->crc, r->summed, (size_t)(r->cur - r->summed));
    r->summed = r->cur;
    return r->crc;
}

bool rdb_fail(struct rdb_reader *r, enum error_code code, const char *format, ...)
{
    char text[160];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(r->err, code, "offset %llu: %s", (unsigned long long)rdb_reader_offset(r),
                     text);
}

/* Bring at least `size` bytes into the buffer. The caller has seen that so many are left. */
static bool refill(struct rdb_reader *r, size_t size)
{
    if (!r->fill)
        return rdb_fail(r, ERROR_TRUNCATED, "the input ends too early");
    rdb_reader_crc(r);
    size_t have = (size_t)(r->end - r->cur);
    if (size > r->capacity) {
        size_t capacity = size + READ_BUFFER;
        unsigned char *fresh = mem_try_alloc(capacity);
        if (!fresh)
            return rdb_fail(r, ERROR_TOO_LARGE, "no memory for a string of %zu bytes", size);
        memcpy(fresh, r->cur, have);
        mem_free(r->buffer);
        r->buffer = fresh;
        r->capacity = capacity;
    } else {
        memmove(r->buffer, r->cur, have);
    }
    r->cur = r->summed = r->buffer;
    r->end = r->buffer + have;
    while ((size_t)(r->end - r->cur) < size) {
        size_t used = (size_t)(r->end - r->buffer), got = 0;
        if (!r->fill(r->ctx, r->buffer + used, r->capacity - used, &got, r->err))
            return false;
        if (got == 0)
            return rdb_fail(r, ERROR_TRUNCATED, "the input ends too early");
        r->end += got;
        r->offset += got;
    }
    return true;
}

bool rdb_read_bytes(struct rdb_reader *r, size_t size, const unsigned char **bytes)
{
    if (__builtin_expect(size > (size_t)(r->end - r->cur), 0)) {
        if (size > rdb_reader_left(r))
            return rdb_fail(r, ERROR_TRUNCATED, "%zu bytes are needed, %llu are left", size,
                            (unsigned long long)rdb_reader_left(r));
        if (!refill(r, size))
            return false;
    }
    *bytes = r->cur;
    r->cur += size;
    return true;
}

bool rdb_read_le32(struct rdb_reader *r, uint32_t *v)
{
    const unsigned char *p;
    if (!rdb_read_bytes(r, 4, &p))
        return false;
    *v = (uint32_t)bytes_le(p, 4);
    return true;
}

bool rdb_read_le64(struct rdb_reader *r, uint64_t *v)
{
    const unsigned char *p;
    if (!rdb_read_bytes(r, 8, &p))
        return false;
    *v = bytes_le(p, 8);
    return true;
}

bool rdb_read_double(struct rdb_reader *r, double *v)
{
    uint64_t bits;
    if (!rdb_read_le64(r, &bits))
        return false;
    memcpy(v, &bits, sizeof(*v));
    return true;
}

bool rdb_read_text_double(struct rdb_reader *r, double *v)
{
    uint8_t size;
    const unsigned char *p;
    if (!rdb_read_u8(r, &size))
        return false;
    switch (size) {
    case 253:
        *v = NAN;
        return true;
    case 254:
        *v = INFINITY;
        return true;
    case 255:
        *v = -INFINITY;
        return true;
    default:
        if (!rdb_read_bytes(r, size, &p))
            return false;
        if (!number_parse_double(slice_of(p, size), v))
            return rdb_fail(r, ERROR_CORRUPT, "a score is not a number");
        return true;
    }
}

bool rdb_read_length(struct rdb_reader *r, uint64_t *v, bool *special)
{
    uint8_t first;
    const unsigned char *p;
    *special = false;
    if (!rdb_read_u8(r, &first))
        return false;
    switch (first >> 6) {
    case 0:
        *v = first & 63;
        return true;
    case 1:
        if (!rdb_read_bytes(r, 1, &p))
            return false;
        *v = (uint64_t)(first & 63) << 8 | *p;
        return true;
    case 2:
        if (first == 0x80) {
            if (!rdb_read_bytes(r, 4, &p))
                return false;
            *v = bytes_be(p, 4);
            return true;
        }
        if (first == 0x81) {
            if (!rdb_read_bytes(r, 8, &p))
                return false;
            *v = bytes_be(p, 8);
            return true;
        }
        return rdb_fail(r, ERROR_CORRUPT, "unknown length encoding 0x%02x", first);
    default:
        *special = true;
        *v = first & 63;
        return true;
    }
}

bool rdb_read_count(struct rdb_reader *r, size_t least, uint64_t *v)
{
    bool special;
    if (!rdb_read_length(r, v, &special))
        return false;
    if (special)
        return rdb_fail(r, ERROR_CORRUPT, "a count is expected, not a string encoding");
    if (*v > rdb_reader_left(r) / least)
        return rdb_fail(r, ERROR_CORRUPT, "a count of %llu is more than the input can hold",
                        (unsigned long long)*v);
    return true;
}

static char *scratch(struct rdb_reader *r, size_t size)
{
    if (size > r->scratch_capacity) {
        mem_free(r->scratch);
        r->scratch_capacity = 0;
        r->scratch = mem_try_alloc(size);
        if (!r->scratch)
            return NULL;
        r->scratch_capacity = size;
    }
    return r->scratch;
}

static bool read_compressed(struct rdb_reader *r, struct rdb_string *s)
{
    uint64_t packed, size;
    if (!rdb_read_count(r, 1, &packed))
        return false;
    bool special;
    if (!rdb_read_length(r, &size, &special))
        return false;
    if (special || size == 0 || size / LZF_MOST > packed)
        return rdb_fail(r, ERROR_CORRUPT, "a compressed string has an impossible length");
    const unsigned char *p;
    if (!rdb_read_bytes(r, (size_t)packed, &p))
        return false;
    char *out = scratch(r, (size_t)size);
    if (!out)
        return rdb_fail(r, ERROR_TOO_LARGE, "no memory for a string of %llu bytes",
                        (unsigned long long)size);
    if (size > UINT32_MAX || packed > UINT32_MAX ||
        lzf_decompress(p, (unsigned)packed, out, (unsigned)size) != size)
        return rdb_fail(r, ERROR_CORRUPT, "a compressed string does not unpack");
    s->bytes = slice_of(out, (size_t)size);
    return true;
}

bool rdb_read_string(struct rdb_reader *r, struct rdb_string *s)
{
    uint64_t v;
    bool special;
    const unsigned char *p;
    if (!rdb_read_length(r, &v, &special))
        return false;
    if (!special) {
        if (v > rdb_reader_left(r))
            return rdb_fail(r, ERROR_TRUNCATED, "a string of %llu bytes, %llu are left",
                            (unsigned long long)v, (unsigned long long)rdb_reader_left(r));
        if (!rdb_read_bytes(r, (size_t)v, &p))
            return false;
        s->bytes = slice_of(p, (size_t)v);
        return true;
    }
    if (v == 3)
        return read_compressed(r, s);
    if (v > 3)
        return rdb_fail(r, ERROR_CORRUPT, "unknown string encoding %llu", (unsigned long long)v);
    int width = 1 << v;
    if (!rdb_read_bytes(r, (size_t)width, &p))
        return false;
    uint64_t raw = bytes_le(p, width);
    int64_t number = width == 1 ? (int8_t)raw : width == 2 ? (int16_t)raw : (int32_t)raw;
    s->bytes = slice_of(s->text, number_format_int64(s->text, number));
    return true;
}

/* Writing -------------------------------------------------------------------------------------- */

void rdb_writer_init(struct rdb_writer *w, size_t capacity,
                     bool (*flush)(void *, const void *, size_t), void *ctx)
{
    *w = (struct rdb_writer){.capacity = capacity, .flush = flush, .ctx = ctx, .version = 10};
    w->buffer = mem_alloc(capacity);
}

void rdb_writer_deinit(struct rdb_writer *w)
{
    mem_free(w->buffer);
    mem_free(w->lzf);
    w->buffer = NULL;
    w->lzf = NULL;
}

void rdb_writer_forget_luck(struct rdb_writer *w)
{
    memset(w->lzf_luck, 0, sizeof(w->lzf_luck));
}

bool rdb_writer_flush(struct rdb_writer *w)
{
    if (w->failed || !w->flush || w->used == 0)
        return !w->failed;
    w->crc = crc64(w->crc, w->buffer, w->used);
    w->written += w->used;
    if (!w->flush(w->ctx, w->buffer, w->used))
        w->failed = true;
    w->used = 0;
    return !w->failed;
}

uint64_t rdb_writer_crc(const struct rdb_writer *w)
{
    return crc64(w->crc, w->buffer, w->used);
}

void rdb_write_bytes(struct rdb_writer *w, const void *data, size_t size)
{
    if (__builtin_expect(size > w->capacity - w->used, 0)) {
        if (!w->flush) {
            w->capacity = (w->used + size) * 2;
            w->buffer = mem_realloc(w->buffer, w->capacity);
        } else {
            rdb_writer_flush(w);
            const char *p = data;
            for (; size > w->capacity && !w->failed; size -= w->capacity, p += w->capacity) {
                memcpy(w->buffer, p, w->capacity);
                w->used = w->capacity;
                rdb_writer_flush(w);
            }
            if (w->failed)
                return;
            data = p;
        }
    }
    if (size)
        memcpy(w->buffer + w->used, data, size);
    w->used += size;
}

void rdb_write_u8(struct rdb_writer *w, uint8_t v)
{
    if (__builtin_expect(w->used < w->capacity, 1))
        w->buffer[w->used++] = (char)v;
    else
        rdb_write_bytes(w, &v, 1);
}

void rdb_write_le64(struct rdb_writer *w, uint64_t v)
{
    char bytes[8];
    bytes_put_le(bytes, v, 8);
    rdb_write_bytes(w, bytes, sizeof(bytes));
}

void rdb_write_double(struct rdb_writer *w, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    w->data_size += sizeof(bits);
    rdb_write_le64(w, bits);
}

void rdb_write_text_double(struct rdb_writer *w, double v)
{
    char text[NUMBER_DOUBLE_SIZE];
    w->data_size += sizeof(v);
    if (isinf(v)) {
        rdb_write_u8(w, v > 0 ? 254 : 255);
        return;
    }
    size_t size = number_format_double(text, v);
    rdb_write_u8(w, (uint8_t)size);
    rdb_write_bytes(w, text, size);
}

void rdb_write_length(struct rdb_writer *w, uint64_t v)
{
    char bytes[9];
    if (v < 1 << 6) {
        rdb_write_u8(w, (uint8_t)v);
    } else if (v < 1 << 14) {
        bytes_put_be(bytes, v | 1 << 14, 2);
        rdb_write_bytes(w, bytes, 2);
    } else if (v <= UINT32_MAX) {
        bytes[0] = (char)0x80;
        bytes_put_be(bytes + 1, v, 4);
        rdb_write_bytes(w, bytes, 5);
    } else {
        bytes[0] = (char)0x81;
        bytes_put_be(bytes + 1, v, 8);
        rdb_write_bytes(w, bytes, 9);
    }
}

/* The short forms of an integer; false when it needs more than 32 bits. */
static bool write_short_int(struct rdb_writer *w, int64_t v)
{
    char bytes[5];
    int n = v == (int8_t)v ? 1 : v == (int16_t)v ? 2 : v == (int32_t)v ? 4 : 0;
    if (n == 0)
        return false;
    bytes[0] = (char)(0xc0 | (n == 4 ? 2 : n - 1));
    bytes_put_le(bytes + 1, (uint64_t)v, n);
    rdb_write_bytes(w, bytes, (size_t)n + 1);
    return true;
}

void rdb_write_int(struct rdb_writer *w, int64_t v)
{
    if (write_short_int(w, v))
        return;
    char text[NUMBER_INT64_SIZE];
    size_t size = number_format_int64(text, v);
    rdb_write_length(w, size);
    rdb_write_bytes(w, text, size);
}

static void note_miss(struct rdb_writer *w, unsigned class)
{
    if (w->lzf_luck[class].misses < RDB_LZF_MISSES) {
        w->lzf_luck[class].misses++;
        return;
    }
    unsigned next = w->lzf_luck[class].skip_next * 2U + 1;
    if (next > RDB_LZF_SKIP_MOST)
        next = RDB_LZF_SKIP_MOST;
    w->lzf_luck[class].skip = w->lzf_luck[class].skip_next = (uint8_t)next;
}

static bool write_compressed(struct rdb_writer *w, struct slice s)
{
    /* It must save a few bytes, or it is not worth the unpacking. */
    size_t room = s.size - 4;
    if (room > w->lzf_capacity) {
        mem_free(w->lzf);
        w->lzf = mem_alloc(room);
        w->lzf_capacity = room;
    }
    unsigned class = 31 - (unsigned)__builtin_clz((unsigned)s.size);
    if (w->lzf_luck[class].skip > 0) {
        w->lzf_luck[class].skip--;
        return false;
    }
    unsigned packed = lzf_compress(s.data, (unsigned)s.size, w->lzf, (unsigned)room);
    if (packed == 0) {
        note_miss(w, class);
        return false;
    }
    w->lzf_luck[class].misses = w->lzf_luck[class].skip_next = 0;
    rdb_write_u8(w, 0xc3);
    rdb_write_length(w, packed);
    rdb_write_length(w, s.size);
    rdb_write_bytes(w, w->lzf, packed);
    return true;
}

static struct slice piece_of(void *ctx, uint64_t at, size_t size, char *room)
{
    const struct slice *s = ctx;
    (void)room;
    return slice_of(s->data + at, size);
}

void rdb_write_string(struct rdb_writer *w, struct slice s)
{
    int64_t number;
    if (__builtin_expect(s.size > RDB_PIECE, 0)) {
        rdb_write_long_string(w, s.size, piece_of, &s);
        return;
    }
    w->data_size += s.size;
    if (s.size <= 11 && number_parse_int64(s, &number) && write_short_int(w, number))
        return;
    if (w->compress && s.size > 20 && write_compressed(w, s))
        return;
    rdb_write_length(w, s.size);
    rdb_write_bytes(w, s.data, s.size);
}
