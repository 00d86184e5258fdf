/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Numbers as bytes, at any alignment: little-endian (le) as in RDB files, listpacks and the hash
 * functions, and big-endian (be) where bytes have to compare like the numbers.
 */
#ifndef HF_BASE_BYTES_H
#define HF_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t bytes_le16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof(v));
    return le16toh(v);
}

static inline uint32_t bytes_le32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof(v));
    return le32toh(v);
}

static inline uint64_t bytes_le64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return le64toh(v);
}

static inline void bytes_put_le32(void *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof(v));
}

/* The same for any width of 1 to 8 bytes. */
static inline uint64_t bytes_le(const void *p, int width)
{
    const unsigned char *byte = (const unsigned char *)p;
    uint64_t v = 0;
    for (int i = width - 1; i >= 0; i--)
        v = v << 8 | byte[i];
    return v;
}

static inline int64_t bytes_le_signed(const void *p, int width)
{
    int unused = 64 - 8 * width;
    return (int64_t)(bytes_le(p, width) << unused) >> unused;
}

static inline uint64_t bytes_be(const void *p, int width)
{
    const unsigned char *byte = (const unsigned char *)p;
    uint64_t v = 0;
    for (int i = 0; i < width; i++)
        v = v << 8 | byte[i];
    return v;
}

static inline void bytes_put_le(void *p, uint64_t v, int width)
{
    unsigned char *byte = (unsigned char *)p;
    for (int i = 0; i < width; i++, v >>= 8)
        byte[i] = (unsigned char)(v & 0xff);
}

static inline void bytes_put_be(void *p, uint64_t v, int width)
{
    unsigned char *byte = (unsigned char *)p;
    for (int i = width - 1; i >= 0; i--, v >>= 8)
        byte[i] = (unsigned char)(v & 0xff);
}

#endif
