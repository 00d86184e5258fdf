/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/intset.h"

#include <endian.h>

#include "base/bytes.h"

#define HEADER_SIZE 8

static inline uint32_t width_of(const char *is)
{
    return bytes_le32(is);
}

/* The least width that holds v. */
static inline uint32_t width_for(int64_t v)
{
    if (v >= INT16_MIN && v <= INT16_MAX)
        return 2;
    return v >= INT32_MIN && v <= INT32_MAX ? 4 : 8;
}

static inline int64_t load_number(const char *is, uint32_t width, uint32_t index)
{
    const char *p = is + HEADER_SIZE + (size_t)index * width;
    if (width == 2) {
        uint16_t v;
        memcpy(&v, p, sizeof(v));
        return (int16_t)le16toh(v);
    }
    if (width == 4)
        return (int32_t)bytes_le32(p);
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return (int64_t)le64toh(v);
}

static inline void store_number(char *is, uint32_t width, uint32_t index, int64_t v)
{
    char *p = is + HEADER_SIZE + (size_t)index * width;
    if (width == 2) {
        uint16_t le = htole16((uint16_t)v);
        memcpy(p, &le, sizeof(le));
    } else if (width == 4) {
        bytes_put_le32(p, (uint32_t)v);
    } else {
        uint64_t le = htole64((uint64_t)v);
        memcpy(p, &le, sizeof(le));
    }
}

void intset_init(char *is)
{
    bytes_put_le32(is, 2);
    bytes_put_le32(is + 4, 0);
}

size_t intset_size(const char *is)
{
    return HEADER_SIZE + (size_t)intset_count(is) * width_of(is);
}

uint32_t intset_count(const char *is)
{
    return bytes_le32(is + 4);
}

int64_t intset_get(const char *is, uint32_t index)
{
    return load_number(is, width_of(is), index);
}

bool intset_find(const char *is, int64_t v, uint32_t *index)
{
    uint32_t width = width_of(is), count = intset_count(is), at = 0;
    /* Numbers are often added in order: the end is looked at first. */
    if (count == 0 || v > load_number(is, width, count - 1)) {
        *index = count;
        return false;
    }
    /* Here the last number is >= v: the first such lies in [at, at + rest]. */
    for (uint32_t rest = count - 1; rest > 0;) {
        uint32_t half = rest / 2;
        if (load_number(is, width, at + half) < v) {
            at += half + 1;
            rest -= half + 1;
        } else {
            rest = half;
        }
    }
    *index = at;
    return load_number(is, width, at) == v;
}

size_t intset_size_with(const char *is, int64_t v)
{
    uint32_t width = width_of(is), needed = width_for(v);
    return HEADER_SIZE + ((size_t)intset_count(is) + 1) * (needed > width ? needed : width);
}

/* v does not fit the width, so it is less or greater than all that are there. */
static void widen_and_add(char *is, uint32_t wide, int64_t v)
{
    uint32_t width = width_of(is), count = intset_count(is), shift = v < 0 ? 1 : 0;
    /* From the last on: a number's new place is behind all that are still to be read. */
    for (uint32_t i = count; i-- > 0;)
        store_number(is, wide, i + shift, load_number(is, width, i));
    store_number(is, wide, v < 0 ? 0 : count, v);
    bytes_put_le32(is, wide);
    bytes_put_le32(is + 4, count + 1);
}

void intset_add(char *is, int64_t v)
{
    uint32_t width = width_of(is), needed = width_for(v);
    if (needed > width) {
        widen_and_add(is, needed, v);
        return;
    }
    uint32_t count = intset_count(is), at;
    if (intset_find(is, v, &at))
        return;
    char *p = is + HEADER_SIZE + (size_t)at * width;
    memmove(p + width, p, (size_t)(count - at) * width);
    store_number(is, width, at, v);
    bytes_put_le32(is + 4, count + 1);
}

void intset_remove(char *is, uint32_t index)
{
    uint32_t width = width_of(is), count = intset_count(is);
    char *p = is + HEADER_SIZE + (size_t)index * width;
    memmove(p, p + width, (size_t)(count - index - 1) * width);
    bytes_put_le32(is + 4, count - 1);
}

bool intset_check(const void *bytes, size_t size)
{
    const char *is = bytes;
    if (size < HEADER_SIZE)
        return false;
    uint32_t width = width_of(is), count = intset_count(is);
    if ((width != 2 && width != 4 && width != 8) || size != HEADER_SIZE + (size_t)count * width)
        return false;
    for (uint32_t i = 1; i < count; i++) {
        if (load_number(is, width, i - 1) >= load_number(is, width, i))
            return false;
    }
    return true;
}
