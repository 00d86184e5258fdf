/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The folding of CRC64 by carry-less multiplication follows the idea of Gopal et al., "Fast CRC
 * Computation for Generic Polynomials Using PCLMULQDQ" (Intel, 2009); the constants are computed at
 * start from the polynomial.
 *
 * Notation: all words are bit-reflected, so bit i of a 64-bit word stands for x^(63-i). The
 * carry-less product of two reflected words, read as a reflected 128-bit word, is A*B*x: hence the
 * exponents below are one less than the distance that is folded over.
 */
#include "base/crc.h"

#include "base/bytes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define CRC64_POLY 0x95ac9329ac4bc9b5ULL /* 0xad93d23594c935a9 reflected */
#define CRC32C_POLY 0x82f63b78U

static uint64_t table64[8][256];
static uint32_t table32[8][256];
/* What a CRC32C becomes behind LANE zero bytes, by the bytes of what it was. */
#define LANE 1024
static uint32_t lane_table[4][256];
static uint64_t fold_lo_16, fold_hi_16, fold_lo_64, fold_hi_64;
static int has_pclmul, has_sse42;

static uint64_t times_x(uint64_t a)
{
    return a >> 1 ^ (a & 1 ? CRC64_POLY : 0);
}

/* A * B mod P */
static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (int i = 0; i < 64; i++) {
        if (a >> (63 - i) & 1)
            product ^= b;
        b = times_x(b);
    }
    return product;
}

#define X_TO_THE_0 0x8000000000000000ULL

static uint64_t x_to_the(uint64_t n)
{
    uint64_t result = X_TO_THE_0, square = X_TO_THE_0 >> 1;
    for (; n; n >>= 1) {
        if (n & 1)
            result = multiply(result, square);
        square = multiply(square, square);
    }
    return result;
}

static uint32_t over_zeros(uint32_t a, size_t size)
{
    for (; size > 0; size--)
        a = a >> 8 ^ table32[0][a & 0xff];
    return a;
}

static void build_lane_table(void)
{
    /* It is linear: what a bit becomes says all. */
    uint32_t bits[32];
    for (int i = 0; i < 32; i++)
        bits[i] = over_zeros(1U << i, LANE);
    for (int k = 0; k < 4; k++) {
        for (unsigned i = 0; i < 256; i++) {
            for (int bit = 0; bit < 8; bit++)
                lane_table[k][i] ^= i >> bit & 1 ? bits[8 * k + bit] : 0;
        }
    }
}

static void __attribute__((constructor)) build_tables(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t a = i;
        uint32_t b = i;
        for (int bit = 0; bit < 8; bit++) {
            a = times_x(a);
            b = b >> 1 ^ (b & 1 ? CRC32C_POLY : 0);
        }
        table64[0][i] = a;
        table32[0][i] = b;
    }
    for (int k = 1; k < 8; k++) {
        for (int i = 0; i < 256; i++) {
            table64[k][i] = table64[k - 1][i] >> 8 ^ table64[0][table64[k - 1][i] & 0xff];
            table32[k][i] = table32[k - 1][i] >> 8 ^ table32[0][table32[k - 1][i] & 0xff];
        }
    }
    build_lane_table();
    /* A 128-bit accumulator is LO * x^64 + HI: its low word moves by 64 bits more. */
    fold_lo_16 = x_to_the(128 + 64 - 1);
    fold_hi_16 = x_to_the(128 - 1);
    fold_lo_64 = x_to_the(512 + 64 - 1);
    fold_hi_64 = x_to_the(512 - 1);
#if defined(__x86_64__)
    __builtin_cpu_init();
    has_pclmul = __builtin_cpu_supports("pclmul") != 0;
    has_sse42 = __builtin_cpu_supports("sse4.2") != 0;
#endif
}

int crc_has_pclmul(void)
{
    return has_pclmul;
}

int crc_has_sse42(void)
{
    return has_sse42;
}

uint64_t crc64_table(uint64_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t v = crc ^ bytes_le64(p);
        crc = table64[7][v & 0xff] ^ table64[6][v >> 8 & 0xff] ^ table64[5][v >> 16 & 0xff] ^
              table64[4][v >> 24 & 0xff] ^ table64[3][v >> 32 & 0xff] ^ table64[2][v >> 40 & 0xff] ^
              table64[1][v >> 48 & 0xff] ^ table64[0][v >> 56];
    }
    for (; size > 0; size--)
        crc = crc >> 8 ^ table64[0][(crc ^ *p++) & 0xff];
    return crc;
}

uint32_t crc32c_table(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
    crc = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t v = crc ^ bytes_le64(p);
        crc = table32[7][v & 0xff] ^ table32[6][v >> 8 & 0xff] ^ table32[5][v >> 16 & 0xff] ^
              table32[4][v >> 24 & 0xff] ^ table32[3][v >> 32 & 0xff] ^ table32[2][v >> 40 & 0xff] ^
              table32[1][v >> 48 & 0xff] ^ table32[0][v >> 56];
    }
    for (; size > 0; size--)
        crc = crc >> 8 ^ table32[0][(crc ^ *p++) & 0xff];
    return ~crc;
}

#if defined(__x86_64__)

__attribute__((target("pclmul,sse4.1"))) static inline __m128i fold(__m128i acc, __m128i keys,
                                                                    __m128i next)
{
    __m128i lo = _mm_clmulepi64_si128(acc, keys, 0x00);
    __m128i hi = _mm_clmulepi64_si128(acc, keys, 0x11);
    return _mm_xor_si128(_mm_xor_si128(lo, hi), next);
}

__attribute__((target("pclmul,sse4.1"))) uint64_t crc64_pclmul(uint64_t crc, const void *data,
                                                               size_t size)
{
    const unsigned char *p = data;
    if (size < 128)
        return crc64_table(crc, data, size);
#define LOAD(at) _mm_loadu_si128((const __m128i *)(const void *)(at))
    __m128i a = _mm_xor_si128(LOAD(p), _mm_set_epi64x(0, (long long)crc));
    __m128i b = LOAD(p + 16), c = LOAD(p + 32), d = LOAD(p + 48);
    __m128i keys = _mm_set_epi64x((long long)fold_hi_64, (long long)fold_lo_64);
    p += 64;
    size -= 64;
    for (; size >= 64; size -= 64, p += 64) {
        a = fold(a, keys, LOAD(p));
        b = fold(b, keys, LOAD(p + 16));
        c = fold(c, keys, LOAD(p + 32));
        d = fold(d, keys, LOAD(p + 48));
    }
    keys = _mm_set_epi64x((long long)fold_hi_16, (long long)fold_lo_16);
    a = fold(a, keys, b);
    a = fold(a, keys, c);
    a = fold(a, keys, d);
    for (; size >= 16; size -= 16, p += 16)
        a = fold(a, keys, LOAD(p));
#undef LOAD
    /* What has been folded is congruent to all the bytes so far: sum it like 16 bytes of
     * message. */
    unsigned char rest[16];
    _mm_storeu_si128((__m128i *)(void *)rest, a);
    return crc64_table(crc64_table(0, rest, sizeof(rest)), p, size);
}

static uint32_t pass_lane(uint32_t v)
{
    return lane_table[0][v & 0xff] ^ lane_table[1][v >> 8 & 0xff] ^ lane_table[2][v >> 16 & 0xff] ^
           lane_table[3][v >> 24];
}

__attribute__((target("sse4.2"))) uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size)
{
    const unsigned char *p = data;
    uint64_t v = (uint32_t)~crc;
    /* The instruction takes three cycles, but one can begin in each: three lanes at once. */
    for (; size >= 3 * LANE; size -= 3 * LANE, p += 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            v = _mm_crc32_u64(v, bytes_le64(p + i));
            b = _mm_crc32_u64(b, bytes_le64(p + LANE + i));
            c = _mm_crc32_u64(c, bytes_le64(p + 2 * LANE + i));
        }
        v = pass_lane(pass_lane((uint32_t)v) ^ (uint32_t)b) ^ c;
    }
    for (; size >= 8; size -= 8, p += 8)
        v = _mm_crc32_u64(v, bytes_le64(p));
    uint32_t w = (uint32_t)v;
    for (; size > 0; size--)
        w = _mm_crc32_u8(w, *p++);
    return ~w;
}

#else

uint64_t crc64_pclmul(uint64_t crc, const void *data, size_t size)
{
    return crc64_table(crc, data, size);
}

uint32_t crc32c_sse42(uint32_t crc, const void *data, size_t size)
{
    return crc32c_table(crc, data, size);
}

#endif

uint64_t crc64(uint64_t crc, const void *data, size_t size)
{
    return has_pclmul ? crc64_pclmul(crc, data, size) : crc64_table(crc, data, size);
}

uint32_t crc32c(uint32_t crc, const void *data, size_t size)
{
    return has_sse42 ? crc32c_sse42(crc, data, size) : crc32c_table(crc, data, size);
}

uint64_t crc64_combine(uint64_t a, uint64_t b, uint64_t size_b)
{
    /* Behind A stand 8 * size_b more bits. Sizes stay far below 2^61. */
    return multiply(a, x_to_the(8 * size_b)) ^ b;
}
