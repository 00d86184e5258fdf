/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/bitmap.h"

#include <assert.h>

#include "base/bits.h"
#include "base/bytes.h"
#include "base/mem.h"

static uint64_t size_of(const struct entry *e)
{
    return e ? string_size(e) : 0;
}

static unsigned char byte_at(const struct entry *e, uint64_t offset)
{
    unsigned char byte = 0;
    if (offset < size_of(e))
        string_read(e, offset, &byte, 1);
    return byte;
}

/* ---- single bits ---- */

bool bitmap_get(const struct entry *e, uint64_t offset)
{
    return byte_at(e, offset >> 3) >> (7 - (offset & 7)) & 1;
}

bool bitmap_grow(struct keyref *ref, uint64_t size)
{
    bool grows = !ref->entry || string_size(ref->entry) < size;
    if (grows)
        string_write(ref, size - 1, slice_of("", 1));
    else if (entry_encoding(ref->entry) == ENTRY_INT || !(ref->entry->flags & ENTRY_GROWN))
        string_write(ref, 0, slice_of("", 0));
    return grows;
}

bool bitmap_set(struct keyref *ref, uint64_t offset, bool bit, bool *old)
{
    uint64_t at = offset >> 3;
    unsigned char byte = byte_at(ref->entry, at);
    unsigned char mask = (unsigned char)(0x80 >> (offset & 7));
    *old = byte & mask;
    if (*old == bit)
        return bitmap_grow(ref, at + 1);
    byte ^= mask;
    string_write(ref, at, slice_of(&byte, 1));
    return true;
}

/* ---- counting and searching ---- */

static uint64_t count_bytes(const struct entry *e, uint64_t at, uint64_t end)
{
    char buf[NUMBER_INT64_SIZE];
    uint64_t count = 0;
    while (at < end) {
        uint64_t hole = string_hole(e, at);
        if (hole) {
            at += hole;
            continue;
        }
        struct slice run = string_run(e, at, end - at, buf);
        count += bits_count(run.data, run.size);
        at += run.size;
    }
    return count;
}

/* The bits of a byte from `first` up to but not including `end` (0 to 8). */
static unsigned char mask_of(unsigned first, unsigned end)
{
    return (unsigned char)(0xff >> first & ~(0xff >> end));
}

static uint64_t count_within(unsigned char byte, unsigned first, unsigned end)
{
    byte &= mask_of(first, end);
    return bits_count(&byte, 1);
}

uint64_t bitmap_count(const struct entry *e, uint64_t first, uint64_t end)
{
    uint64_t all = size_of(e) * 8;
    if (end > all)
        end = all;
    if (first >= end)
        return 0;
    uint64_t from = first >> 3, to = end >> 3;
    unsigned head = first & 7, tail = end & 7;
    if (from == to)
        return count_within(byte_at(e, from), head, tail);
    uint64_t count = 0;
    if (head)
        count += count_within(byte_at(e, from++), head, 8);
    if (tail)
        count += count_within(byte_at(e, to), 0, tail);
    return count + count_bytes(e, from, to);
}

/* The first byte in [at, end) that has such a bit. */
static uint64_t find_byte(const struct entry *e, bool bit, uint64_t at, uint64_t end)
{
    char buf[NUMBER_INT64_SIZE];
    while (at < end) {
        uint64_t hole = string_hole(e, at);
        if (hole) {
            if (!bit)
                return at;
            at += hole;
            continue;
        }
        struct slice run = string_run(e, at, end - at, buf);
        size_t i = bits_find_other(run.data, run.size, bit ? 0 : 0xff);
        if (i < run.size)
            return at + i;
        at += run.size;
    }
    return end;
}

uint64_t bitmap_find(const struct entry *e, bool bit, uint64_t first, uint64_t end)
{
    for (uint64_t at = first; at < end;) {
        if (at % 8 == 0 && end - at >= 8) {
            uint64_t byte = find_byte(e, bit, at >> 3, end >> 3);
            at = byte << 3;
            if (at >= end)
                break;
        }
        /* It is among the next eight, or these are an incomplete byte. */
        uint64_t stop = (at | 7) + 1 < end ? (at | 7) + 1 : end;
        for (; at < stop; at++)
            if (bitmap_get(e, at) == bit)
                return at;
    }
    return end;
}

/* ---- combining ---- */

struct operands {
    const struct entry *const *entries;
    size_t count;
};

/* How many bytes of an operand from `at` on are known to be zeros. */
static uint64_t zeros_at(const struct entry *e, uint64_t at)
{
    return at >= size_of(e) ? UINT64_MAX : string_hole(e, at);
}

/* How many bytes are zeros in all operands, and in any one of them. */
static uint64_t zeros_in_all(const struct operands *o, size_t first, uint64_t at)
{
    uint64_t least = UINT64_MAX;
    for (size_t i = first; i < o->count && least > 0; i++) {
        uint64_t zeros = zeros_at(o->entries[i], at);
        least = zeros < least ? zeros : least;
    }
    return least;
}

static uint64_t zeros_in_any(const struct operands *o, size_t end, uint64_t at)
{
    uint64_t most = 0;
    for (size_t i = 0; i < end; i++) {
        uint64_t zeros = zeros_at(o->entries[i], at);
        most = zeros > most ? zeros : most;
    }
    return most;
}

static uint64_t zeros_of_result(enum bitmap_operation op, const struct operands *o, uint64_t at)
{
    uint64_t a, b;
    switch (op) {
    case BITMAP_AND:
        return zeros_in_any(o, o->count, at);
    case BITMAP_OR:
    case BITMAP_XOR:
    case BITMAP_ONE:
        return zeros_in_all(o, 0, at);
    case BITMAP_DIFF:
        return zeros_in_any(o, 1, at);
    case BITMAP_DIFF1:
        return zeros_in_all(o, 1, at);
    case BITMAP_ANDOR:
        a = zeros_in_any(o, 1, at);
        b = zeros_in_all(o, 1, at);
        return a > b ? a : b;
    case BITMAP_NOT:
        break;
    }
    return 0;
}

/* n bytes of an operand: where they stand when they lie together, otherwise copied to `scratch`. */
static const char *operand_at(const struct entry *e, uint64_t at, size_t n, char *scratch)
{
    char buf[NUMBER_INT64_SIZE];
    uint64_t size = size_of(e), there = at < size ? size - at : 0;
    if (there >= n && entry_encoding(e) != ENTRY_INT) {
        struct slice run = string_run(e, at, n, buf);
        if (run.size == n)
            return run.data;
    }
    size_t copied = there < n ? (size_t)there : n;
    if (copied)
        string_read(e, at, scratch, copied);
    memset(scratch + copied, 0, n - copied);
    return scratch;
}

struct block {
    char result[ROPE_CHUNK], other[ROPE_CHUNK], scratch[ROPE_CHUNK];
};

/* All operands from `first` on together. */
static void fold(enum bits_operation op, const struct operands *o, size_t first, uint64_t at,
                 size_t n, struct block *b)
{
    memcpy(b->result, operand_at(o->entries[first], at, n, b->scratch), n);
    for (size_t i = first + 1; i < o->count; i++)
        bits_combine(op, b->result, operand_at(o->entries[i], at, n, b->scratch), n);
}

/* `result` has what stands in at least one, `other` what stands in more. */
static void fold_once(const struct operands *o, uint64_t at, size_t n, struct block *b)
{
    char both[ROPE_CHUNK];
    memset(b->result, 0, n);
    memset(b->other, 0, n);
    for (size_t i = 0; i < o->count; i++) {
        const char *operand = operand_at(o->entries[i], at, n, b->scratch);
        memcpy(both, b->result, n);
        bits_combine(BITS_AND, both, operand, n);
        bits_combine(BITS_OR, b->other, both, n);
        bits_combine(BITS_OR, b->result, operand, n);
    }
    bits_combine(BITS_AND_NOT, b->result, b->other, n);
}

static void combine_block(enum bitmap_operation op, const struct operands *o, uint64_t at, size_t n,
                          struct block *b)
{
    switch (op) {
    case BITMAP_AND:
        fold(BITS_AND, o, 0, at, n, b);
        break;
    case BITMAP_OR:
        fold(BITS_OR, o, 0, at, n, b);
        break;
    case BITMAP_XOR:
        fold(BITS_XOR, o, 0, at, n, b);
        break;
    case BITMAP_NOT:
        fold(BITS_OR, o, 0, at, n, b);
        bits_invert(b->result, n);
        break;
    case BITMAP_DIFF1:
    case BITMAP_ANDOR:
        fold(BITS_OR, o, 1, at, n, b);
        bits_combine(op == BITMAP_DIFF1 ? BITS_AND_NOT : BITS_AND, b->result,
                     operand_at(o->entries[0], at, n, b->scratch), n);
        break;
    case BITMAP_DIFF:
        fold(BITS_OR, o, 1, at, n, b);
        memcpy(b->other, operand_at(o->entries[0], at, n, b->scratch), n);
        bits_combine(BITS_AND_NOT, b->other, b->result, n);
        memcpy(b->result, b->other, n);
        break;
    case BITMAP_ONE:
        fold_once(o, at, n, b);
        break;
    }
}

void bitmap_combine(struct rope *out, struct epoch *epoch, enum bitmap_operation op,
                    const struct entry *const *sources, size_t count)
{
    assert(count >= 1 && (op < BITMAP_DIFF || op == BITMAP_ONE || count >= 2));
    struct operands o = {sources, count};
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++)
        size = size_of(sources[i]) > size ? size_of(sources[i]) : size;
    struct block *b = mem_alloc(sizeof(*b));
    rope_init(out);
    for (uint64_t at = 0; at < size;) {
        uint64_t zeros = zeros_of_result(op, &o, at);
        if (zeros) {
            at = zeros < size - at ? at + zeros : size;
            continue;
        }
        size_t n = ROPE_CHUNK - (size_t)(at % ROPE_CHUNK);
        n = n < size - at ? n : (size_t)(size - at);
        combine_block(op, &o, at, n, b);
        size_t used = n; /* zeros at the end of a chunk take no memory */
        while (used > 0 && b->result[used - 1] == 0)
            used--;
        rope_write(out, epoch, at, slice_of(b->result, used));
        at += n;
    }
    rope_extend(out, epoch, size);
    mem_free(b);
}

/* ---- fields ---- */

/* A field of 64 bits touches nine bytes. */
#define FIELD_BYTES 9
__extension__ typedef unsigned __int128 wide_word;

uint64_t bitmap_get_field(const struct entry *e, uint64_t offset, unsigned width)
{
    assert(width >= 1 && width <= 64);
    unsigned char bytes[FIELD_BYTES] = {0};
    uint64_t at = offset >> 3, size = size_of(e), there = at < size ? size - at : 0;
    size_t n = (size_t)((offset & 7) + width + 7) >> 3;
    if (there)
        string_read(e, at, bytes, there < n ? (size_t)there : n);
    wide_word v = 0;
    for (size_t i = 0; i < n; i++)
        v = v << 8 | bytes[i];
    v >>= n * 8 - (offset & 7) - width;
    return (uint64_t)v & (UINT64_MAX >> (64 - width));
}

void bitmap_set_field(struct keyref *ref, uint64_t offset, unsigned width, uint64_t value)
{
    assert(width >= 1 && width <= 64);
    unsigned char bytes[FIELD_BYTES];
    uint64_t at = offset >> 3;
    size_t n = (size_t)((offset & 7) + width + 7) >> 3;
    string_read(ref->entry, at, bytes, n);
    wide_word v = 0, mask = UINT64_MAX >> (64 - width);
    unsigned shift = (unsigned)(n * 8 - (offset & 7) - width);
    for (size_t i = 0; i < n; i++)
        v = v << 8 | bytes[i];
    v = (v & ~(mask << shift)) | (value & mask) << shift;
    for (size_t i = n; i-- > 0; v >>= 8)
        bytes[i] = (unsigned char)(v & 0xff);
    string_write(ref, at, slice_of(bytes, n));
}
