/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/xxh3.h"

#include "base/bytes.h"

#define PRIME32_1 0x9E3779B1U
#define PRIME32_2 0x85EBCA77U
#define PRIME32_3 0xC2B2AE3DU
#define PRIME64_1 0x9E3779B185EBCA87ULL
#define PRIME64_2 0xC2B2AE3D27D4EB4FULL
#define PRIME64_3 0x165667B19E3779F9ULL
#define PRIME64_4 0x85EBCA77C2B2AE63ULL
#define PRIME64_5 0x27D4EB2F165667C5ULL
#define PRIME_MX1 0x165667919E3779F9ULL
#define PRIME_MX2 0x9FB21C651E98DF25ULL

#define SECRET_SIZE 192
#define STRIPE 64
#define STRIPES_A_BLOCK ((SECRET_SIZE - STRIPE) / 8)
#define BLOCK (STRIPE * STRIPES_A_BLOCK)

/* The specification's default secret. */
static const unsigned char secret[SECRET_SIZE] = {
    0xb8, 0xfe, 0x6c, 0x39, 0x23, 0xa4, 0x4b, 0xbe, 0x7c, 0x01, 0x81, 0x2c, 0xf7, 0x21, 0xad, 0x1c,
    0xde, 0xd4, 0x6d, 0xe9, 0x83, 0x90, 0x97, 0xdb, 0x72, 0x40, 0xa4, 0xa4, 0xb7, 0xb3, 0x67, 0x1f,
    0xcb, 0x79, 0xe6, 0x4e, 0xcc, 0xc0, 0xe5, 0x78, 0x82, 0x5a, 0xd0, 0x7d, 0xcc, 0xff, 0x72, 0x21,
    0xb8, 0x08, 0x46, 0x74, 0xf7, 0x43, 0x24, 0x8e, 0xe0, 0x35, 0x90, 0xe6, 0x81, 0x3a, 0x26, 0x4c,
    0x3c, 0x28, 0x52, 0xbb, 0x91, 0xc3, 0x00, 0xcb, 0x88, 0xd0, 0x65, 0x8b, 0x1b, 0x53, 0x2e, 0xa3,
    0x71, 0x64, 0x48, 0x97, 0xa2, 0x0d, 0xf9, 0x4e, 0x38, 0x19, 0xef, 0x46, 0xa9, 0xde, 0xac, 0xd8,
    0xa8, 0xfa, 0x76, 0x3f, 0xe3, 0x9c, 0x34, 0x3f, 0xf9, 0xdc, 0xbb, 0xc7, 0xc7, 0x0b, 0x4f, 0x1d,
    0x8a, 0x51, 0xe0, 0x4b, 0xcd, 0xb4, 0x59, 0x31, 0xc8, 0x9f, 0x7e, 0xc9, 0xd9, 0x78, 0x73, 0x64,
    0xea, 0xc5, 0xac, 0x83, 0x34, 0xd3, 0xeb, 0xc3, 0xc5, 0x81, 0xa0, 0xff, 0xfa, 0x13, 0x63, 0xeb,
    0x17, 0x0d, 0xdd, 0x51, 0xb7, 0xf0, 0xda, 0x49, 0xd3, 0x16, 0x55, 0x26, 0x29, 0xd4, 0x68, 0x9e,
    0x2b, 0x16, 0xbe, 0x58, 0x7d, 0x47, 0xa1, 0xfc, 0x8f, 0xf8, 0xb8, 0xd1, 0x7a, 0xd0, 0x31, 0xce,
    0x45, 0xcb, 0x3a, 0x8f, 0x95, 0x16, 0x04, 0x28, 0xaf, 0xd7, 0xfb, 0xca, 0xbb, 0x4b, 0x40, 0x7e,
};

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

/* The 128-bit product, its halves folded together. */
static uint64_t multiply_fold(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t avalanche(uint64_t h)
{
    h = (h ^ h >> 37) * PRIME_MX1;
    return h ^ h >> 32;
}

/* The final mixing of the older XXH64, used for the shortest inputs. */
static uint64_t avalanche_xxh64(uint64_t h)
{
    h = (h ^ h >> 33) * PRIME64_2;
    h = (h ^ h >> 29) * PRIME64_3;
    return h ^ h >> 32;
}

static uint64_t mix16(const unsigned char *p, const unsigned char *s)
{
    return multiply_fold(bytes_le64(p) ^ bytes_le64(s), bytes_le64(p + 8) ^ bytes_le64(s + 8));
}

static uint64_t hash_to_16(const unsigned char *p, size_t n)
{
    if (n > 8) {
        uint64_t low = bytes_le64(p) ^ bytes_le64(secret + 24) ^ bytes_le64(secret + 32);
        uint64_t high = bytes_le64(p + n - 8) ^ bytes_le64(secret + 40) ^ bytes_le64(secret + 48);
        return avalanche(n + __builtin_bswap64(low) + high + multiply_fold(low, high));
    }
    if (n >= 4) {
        uint64_t h = bytes_le32(p + n - 4) + ((uint64_t)bytes_le32(p) << 32);
        h ^= bytes_le64(secret + 8) ^ bytes_le64(secret + 16);
        h ^= rotate(h, 49) ^ rotate(h, 24);
        h *= PRIME_MX2;
        h ^= (h >> 35) + n;
        h *= PRIME_MX2;
        return h ^ h >> 28;
    }
    if (n > 0) {
        uint32_t word =
            (uint32_t)p[0] << 16 | (uint32_t)p[n >> 1] << 24 | p[n - 1] | (uint32_t)n << 8;
        return avalanche_xxh64(word ^ (uint64_t)(bytes_le32(secret) ^ bytes_le32(secret + 4)));
    }
    return avalanche_xxh64(bytes_le64(secret + 56) ^ bytes_le64(secret + 64));
}

/* 17 to 128 bytes: pairs of 16 bytes from both ends towards the middle. */
static uint64_t hash_to_128(const unsigned char *p, size_t n)
{
    uint64_t h = n * PRIME64_1;
    for (size_t i = (n - 1) / 32 + 1; i-- > 0;) {
        h += mix16(p + 16 * i, secret + 32 * i);
        h += mix16(p + n - 16 * (i + 1), secret + 32 * i + 16);
    }
    return avalanche(h);
}

static uint64_t hash_to_240(const unsigned char *p, size_t n)
{
    uint64_t h = n * PRIME64_1;
    size_t rounds = n / 16;
    for (size_t i = 0; i < 8; i++)
        h += mix16(p + 16 * i, secret + 16 * i);
    h = avalanche(h);
    for (size_t i = 8; i < rounds; i++)
        h += mix16(p + 16 * i, secret + 16 * (i - 8) + 3);
    h += mix16(p + n - 16, secret + 136 - 17);
    return avalanche(h);
}

static void accumulate(uint64_t acc[8], const unsigned char *p, const unsigned char *s)
{
    for (size_t i = 0; i < 8; i++) {
        uint64_t value = bytes_le64(p + 8 * i);
        uint64_t key = value ^ bytes_le64(s + 8 * i);
        acc[i ^ 1] += value;
        acc[i] += (key & 0xffffffffU) * (key >> 32);
    }
}

static uint64_t hash_long(const unsigned char *p, size_t n)
{
    uint64_t acc[8] = {PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3,
                       PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1};
    const unsigned char *end_secret = secret + SECRET_SIZE - STRIPE;
    size_t blocks = (n - 1) / BLOCK;
    const unsigned char *at = p;
    for (size_t b = 0; b < blocks; b++, at += BLOCK) {
        for (size_t i = 0; i < STRIPES_A_BLOCK; i++)
            accumulate(acc, at + STRIPE * i, secret + 8 * i);
        for (size_t i = 0; i < 8; i++)
            acc[i] = (acc[i] ^ acc[i] >> 47 ^ bytes_le64(end_secret + 8 * i)) * PRIME32_1;
    }
    size_t stripes = ((n - 1) - BLOCK * blocks) / STRIPE;
    for (size_t i = 0; i < stripes; i++)
        accumulate(acc, at + STRIPE * i, secret + 8 * i);
    accumulate(acc, p + n - STRIPE, end_secret - 7);

    uint64_t h = n * PRIME64_1;
    for (size_t i = 0; i < 4; i++)
        h += multiply_fold(acc[2 * i] ^ bytes_le64(secret + 11 + 16 * i),
                           acc[2 * i + 1] ^ bytes_le64(secret + 11 + 16 * i + 8));
    return avalanche(h);
}

uint64_t xxh3_64(const void *data, size_t size)
{
    if (size <= 16)
        return hash_to_16(data, size);
    if (size <= 128)
        return hash_to_128(data, size);
    if (size <= 240)
        return hash_to_240(data, size);
    return hash_long(data, size);
}
