/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/bytes.h"

struct hash_key hash_process_key = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
struct hash_key hash_unique_key = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};

void hash_key_init(const struct hash_key *key)
{
    if (key) {
        hash_process_key = hash_unique_key = *key;
        return;
    }
    size_t got = 0;
    while (got < sizeof(hash_process_key)) {
        ssize_t n = getrandom((char *)&hash_process_key + got, sizeof(hash_process_key) - got, 0);
        if (n <= 0) {
            /* Without a secret key anybody could make keys collide. */
            fprintf(stderr, "holdfast: the system gives no random bytes\n");
            abort();
        }
        got += (size_t)n;
    }
    hash_unique_key = hash_process_key;
}

void hash_key_from_seed(const void *seed, size_t size)
{
    static const struct hash_key first = {1, 0}, second = {2, 0};
    hash_process_key = (struct hash_key){hash_bytes_keyed(&first, seed, size),
                                         hash_bytes_keyed(&second, seed, size)};
}

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

#define SIP_ROUND(a, b, c, d)                                                                      \
    do {                                                                                           \
        a += b;                                                                                    \
        c += d;                                                                                    \
        b = rotate(b, 13) ^ a;                                                                     \
        d = rotate(d, 16) ^ c;                                                                     \
        a = rotate(a, 32);                                                                         \
        c += b;                                                                                    \
        a += d;                                                                                    \
        b = rotate(b, 17) ^ c;                                                                     \
        d = rotate(d, 21) ^ a;                                                                     \
        c = rotate(c, 32);                                                                         \
    } while (0)

/* The last 0..7 bytes as a little-endian number, without reading outside the input. */
static inline uint64_t load_tail(const unsigned char *p, size_t n)
{
    if (n >= 4)
        return bytes_le32(p) | (uint64_t)bytes_le32(p + n - 4) << (8 * (n - 4));
    if (n == 0)
        return 0;
    return (uint64_t)p[0] | (uint64_t)p[n / 2] << (8 * (n / 2)) |
           (uint64_t)p[n - 1] << (8 * (n - 1));
}

uint64_t hash_bytes_keyed(const struct hash_key *key, const void *data, size_t size)
{
    const unsigned char *p = data;
    uint64_t a = key->k0 ^ 0x736f6d6570736575ULL, b = key->k1 ^ 0x646f72616e646f6dULL;
    uint64_t c = key->k0 ^ 0x6c7967656e657261ULL, d = key->k1 ^ 0x7465646279746573ULL;

    for (size_t left = size; left >= 8; left -= 8, p += 8) {
        uint64_t m = bytes_le64(p);
        d ^= m;
        SIP_ROUND(a, b, c, d);
        a ^= m;
    }
    uint64_t last = load_tail(p, size & 7) | (uint64_t)size << 56;
    d ^= last;
    SIP_ROUND(a, b, c, d);
    a ^= last;
    c ^= 0xff;
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

uint64_t hash_bytes(const void *data, size_t size)
{
    return hash_bytes_keyed(&hash_process_key, data, size);
}
