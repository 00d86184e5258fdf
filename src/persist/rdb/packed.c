/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/packed.h"

#include "base/bytes.h"
#include "base/number.h"
#include "structure/intset.h"
#include "structure/listpack.h"

static bool give(packed_fn *fn, void *ctx, struct slice element, bool *stopped)
{
    if (fn(ctx, element))
        return true;
    *stopped = true;
    return false;
}

static bool give_int(packed_fn *fn, void *ctx, int64_t v, bool *stopped)
{
    char text[NUMBER_INT64_SIZE];
    return give(fn, ctx, slice_of(text, number_format_int64(text, v)), stopped);
}

bool packed_each_listpack(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped)
{
    *stopped = false;
    if (!listpack_check(bytes.data, bytes.size))
        return false;
    for (uint32_t at = listpack_first(bytes.data); at; at = listpack_next(bytes.data, at)) {
        char text[LISTPACK_NUMBER_SIZE];
        if (!give(fn, ctx, listpack_get_slice(bytes.data, at, text), stopped))
            return false;
    }
    return true;
}

bool packed_each_intset(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped)
{
    *stopped = false;
    if (!intset_check(bytes.data, bytes.size))
        return false;
    uint32_t count = intset_count(bytes.data);
    for (uint32_t i = 0; i < count; i++) {
        if (!give_int(fn, ctx, intset_get(bytes.data, i), stopped))
            return false;
    }
    return true;
}

/* One ziplist entry's encoding byte(s) and data. Returns the bytes consumed, 0 for damage. */
static size_t ziplist_element(const unsigned char *p, size_t left, struct slice *string,
                              int64_t *number)
{
    unsigned char code = p[0];
    size_t head, size;
    int width = 0;
    *string = (struct slice){NULL, 0};
    switch (code >> 6) {
    case 0:
        head = 1;
        size = code & 63;
        break;
    case 1:
        if (left < 2)
            return 0;
        head = 2;
        size = (size_t)(code & 63) << 8 | p[1];
        break;
    case 2:
        if (code != 0x80 || left < 5)
            return 0;
        head = 5;
        size = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | p[4];
        break;
    default:
        if (code >= 0xf1 && code <= 0xfd) {
            *number = code - 0xf1;
            return 1;
        }
        width = code == 0xc0 ? 2 : code == 0xd0 ? 4 : code == 0xe0 ? 8 : code == 0xf0 ? 3
                                                   : code == 0xfe ? 1 : 0;
        if (width == 0 || left < 1 + (size_t)width)
            return 0;
        *number = bytes_le_signed(p + 1, width);
        return 1 + (size_t)width;
    }
    if (size > left - head)
        return 0;
    *string = slice_of(p + head, size);
    return head + size;
}

bool packed_each_ziplist(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped)
{
    *stopped = false;
    const unsigned char *base = (const unsigned char *)bytes.data;
    if (bytes.size < 11 || bytes_le(base, 4) != bytes.size || base[bytes.size - 1] != 0xff)
        return false;
    uint64_t tail = bytes_le(base + 4, 4), count = bytes_le(base + 8, 2), seen = 0;
    size_t at = 10, before = 0, last = 10;
    while (base[at] != 0xff) {
        size_t start = at, left = bytes.size - 1 - at;
        /* The size of the entry before must be true: walking backwards would rely on it. */
        uint64_t claimed = base[at];
        size_t head = 1;
        if (claimed == 0xfe) {
            if (left < 5)
                return false;
            claimed = bytes_le(base + at + 1, 4);
            head = 5;
        }
        if (claimed != before || left <= head)
            return false;
        struct slice string;
        int64_t number = 0;
        size_t used = ziplist_element(base + at + head, left - head, &string, &number);
        if (used == 0)
            return false;
        at += head + used;
        before = at - start;
        last = start;
        seen++;
        if (!(string.data ? give(fn, ctx, string, stopped) : give_int(fn, ctx, number, stopped)))
            return false;
        if (at >= bytes.size)
            return false;
    }
    return at == bytes.size - 1 && tail == last && (count == 65535 || count == seen);
}

/* A zipmap length at *at; moves on. */
static bool zipmap_length(struct slice bytes, size_t *at, size_t *length)
{
    const unsigned char *p = (const unsigned char *)bytes.data;
    if (*at >= bytes.size)
        return false;
    if (p[*at] < 254) {
        *length = p[(*at)++];
        return true;
    }
    if (p[*at] == 255 || bytes.size - *at < 5)
        return false;
    *length = (size_t)bytes_le(p + *at + 1, 4);
    *at += 5;
    return true;
}

bool packed_each_zipmap(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped)
{
    *stopped = false;
    const unsigned char *p = (const unsigned char *)bytes.data;
    if (bytes.size < 2 || p[bytes.size - 1] != 0xff)
        return false;
    size_t at = 1, pairs = 0, end = bytes.size - 1;
    while (at < end) {
        size_t size;
        if (!zipmap_length(bytes, &at, &size) || at > end || size > end - at)
            return false;
        struct slice key = slice_of(p + at, size);
        at += size;
        if (!zipmap_length(bytes, &at, &size) || at >= end)
            return false;
        size_t unused = p[at++];
        if (size > end - at || unused > end - at - size)
            return false;
        if (!give(fn, ctx, key, stopped) || !give(fn, ctx, slice_of(p + at, size), stopped))
            return false;
        at += size + unused;
        pairs++;
    }
    return at == end && (p[0] >= 254 || p[0] == pairs);
}
