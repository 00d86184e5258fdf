/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/murmur.h"

#include "base/bytes.h"

#define MULTIPLIER 0xc6a4a7935bd1e995U
#define SHIFT 47

static uint64_t mix(uint64_t k)
{
    k *= MULTIPLIER;
    k ^= k >> SHIFT;
    return k * MULTIPLIER;
}

uint64_t murmur_hash64a(const void *data, size_t size, uint64_t seed)
{
    const unsigned char *p = data;
    uint64_t h = seed ^ size * MULTIPLIER;
    size_t left = size;
    for (; left >= 8; left -= 8, p += 8)
        h = (h ^ mix(bytes_le64(p))) * MULTIPLIER;
    if (left)
        h = (h ^ bytes_le(p, (int)left)) * MULTIPLIER;
    h = (h ^ h >> SHIFT) * MULTIPLIER;
    return h ^ h >> SHIFT;
}
