/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Counting with AVX2 looks up the count of each half byte in a register of 16 counts, as in Mula,
 * Kurz, Lemire: "Faster Population Counts Using AVX2 Instructions" (2016).
 */
#include "base/bits.h"

#include <string.h>

#include "base/bytes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static enum bits_form form = BITS_PORTABLE;

static enum bits_form best_form(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt"))
        return BITS_AVX2;
    if (__builtin_cpu_supports("popcnt"))
        return BITS_POPCNT;
#endif
    return BITS_PORTABLE;
}

enum bits_form bits_use(enum bits_form wanted)
{
    enum bits_form best = best_form();
    return form = wanted < best ? wanted : best;
}

static void __attribute__((constructor)) choose_form(void)
{
    form = best_form();
}

static inline uint64_t load64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

/* ---- counting ---- */

/* The bytes' own counts, added by a multiplication. */
static uint64_t count_word(uint64_t w)
{
    const uint64_t ones = 0x0101010101010101U;
    w -= w >> 1 & ones * 0x55;
    w = (w & ones * 0x33) + (w >> 2 & ones * 0x33);
    w = (w + (w >> 4)) & ones * 0x0f;
    return w * ones >> 56;
}

static uint64_t count_portable(const unsigned char *p, size_t n)
{
    uint64_t count = 0;
    for (; n >= 8; n -= 8, p += 8)
        count += count_word(load64(p));
    return count + count_word(bytes_le(p, (int)n));
}

#if defined(__x86_64__)
__attribute__((target("popcnt"))) static uint64_t count_popcnt(const unsigned char *p, size_t n)
{
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (; n >= 32; n -= 32, p += 32) {
        a += (uint64_t)__builtin_popcountll(load64(p));
        b += (uint64_t)__builtin_popcountll(load64(p + 8));
        c += (uint64_t)__builtin_popcountll(load64(p + 16));
        d += (uint64_t)__builtin_popcountll(load64(p + 24));
    }
    return a + b + c + d + count_portable(p, n);
}

/* The counts of bytes are gathered over eight loads: they are below 256 then. */
#define ROUND 8

__attribute__((target("avx2,popcnt"))) static uint64_t count_avx2(const unsigned char *p, size_t n)
{
    const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, /**/
                                            0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(0x0f);
    __m256i total = _mm256_setzero_si256();
    while (n >= 32) {
        size_t loads = n / 32 < ROUND ? n / 32 : ROUND;
        __m256i bytes = _mm256_setzero_si256();
        for (size_t i = 0; i < loads; i++, p += 32) {
            __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
            __m256i a = _mm256_shuffle_epi8(counts, _mm256_and_si256(v, low));
            __m256i b =
                _mm256_shuffle_epi8(counts, _mm256_and_si256(_mm256_srli_epi16(v, 4), low));
            bytes = _mm256_add_epi8(bytes, _mm256_add_epi8(a, b));
        }
        n -= loads * 32;
        total = _mm256_add_epi64(total, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
    }
    uint64_t sums[4];
    _mm256_storeu_si256((__m256i *)(void *)sums, total);
    return sums[0] + sums[1] + sums[2] + sums[3] + count_popcnt(p, n);
}
#endif

uint64_t bits_count(const void *data, size_t size)
{
#if defined(__x86_64__)
    if (form == BITS_AVX2)
        return count_avx2(data, size);
    if (form == BITS_POPCNT)
        return count_popcnt(data, size);
#endif
    return count_portable(data, size);
}

/* ---- searching ---- */

size_t bits_find_other(const void *data, size_t size, unsigned char byte)
{
    const unsigned char *p = data;
    const uint64_t word = byte * 0x0101010101010101U;
    size_t i = 0;
    for (; size - i >= 32; i += 32) {
        if (((load64(p + i) ^ word) | (load64(p + i + 8) ^ word) | (load64(p + i + 16) ^ word) |
             (load64(p + i + 24) ^ word)) != 0)
            break;
    }
    for (; i < size && p[i] == byte; i++) {
    }
    return i;
}

/* ---- combining ---- */

/* The compiler makes vector code of these loops, for each function that they are part of with the
 * instructions which that one may use. */
static inline __attribute__((always_inline)) void combine(enum bits_operation op,
                                                          unsigned char *restrict to,
                                                          const unsigned char *restrict from,
                                                          size_t size)
{
    switch (op) {
    case BITS_AND:
        for (size_t i = 0; i < size; i++)
            to[i] &= from[i];
        break;
    case BITS_OR:
        for (size_t i = 0; i < size; i++)
            to[i] |= from[i];
        break;
    case BITS_XOR:
        for (size_t i = 0; i < size; i++)
            to[i] ^= from[i];
        break;
    case BITS_AND_NOT:
        for (size_t i = 0; i < size; i++)
            to[i] &= (unsigned char)~from[i];
        break;
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void combine_avx2(enum bits_operation op,
                                                         unsigned char *restrict to,
                                                         const unsigned char *restrict from,
                                                         size_t size)
{
    combine(op, to, from, size);
}
#endif

void bits_combine(enum bits_operation op, void *to, const void *from, size_t size)
{
#if defined(__x86_64__)
    if (form == BITS_AVX2) {
        combine_avx2(op, to, from, size);
        return;
    }
#endif
    combine(op, to, from, size);
}

void bits_invert(void *data, size_t size)
{
    unsigned char *p = data;
    for (size_t i = 0; i < size; i++)
        p[i] = (unsigned char)~p[i];
}
