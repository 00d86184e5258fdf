/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/hash.h"

/* A plain SipHash-c-d written from the paper, byte by byte, to compare the fast one with. */
static uint64_t rotl(uint64_t x, int b)
{
    return x << b | x >> (64 - b);
}

static void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

static uint64_t plain_siphash(int c, int d, uint64_t k0, uint64_t k1, const uint8_t *in, size_t n)
{
    uint64_t v[4] = {k0 ^ 0x736f6d6570736575ULL, k1 ^ 0x646f72616e646f6dULL,
                     k0 ^ 0x6c7967656e657261ULL, k1 ^ 0x7465646279746573ULL};
    for (size_t i = 0; i <= n; i += 8) {
        uint64_t m = 0;
        for (size_t j = i; j < i + 8 && j < n; j++)
            m |= (uint64_t)in[j] << (8 * (j - i));
        if (i + 8 > n)
            m |= (uint64_t)(n & 0xff) << 56;
        v[3] ^= m;
        for (int r = 0; r < c; r++)
            sip_round(v);
        v[0] ^= m;
    }
    v[2] ^= 0xff;
    for (int r = 0; r < d; r++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

/* The plain one gives the vectors of the paper's SipHash-2-4, and the fast one agrees with it for
 * every length and alignment. */
static void test_siphash(void **state)
{
    (void)state;
    uint8_t in[80];
    for (size_t i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)i;
    uint64_t k0 = 0x0706050403020100ULL, k1 = 0x0f0e0d0c0b0a0908ULL;
    assert_true(plain_siphash(2, 4, k0, k1, in, 15) == 0xa129ca6149be45e5ULL);
    struct hash_key key = {k0, k1};
    for (size_t at = 0; at < 9; at++) {
        for (size_t n = 0; n + at <= 70; n++)
            assert_true(hash_bytes_keyed(&key, in + at, n) ==
                        plain_siphash(1, 3, k0, k1, in + at, n));
    }
}

/* Two random keys give different hashes of the same bytes. */
static void test_keyed(void **state)
{
    (void)state;
    hash_key_init(NULL);
    uint64_t first = hash_bytes("key", 3);
    hash_key_init(NULL);
    assert_true(first != hash_bytes("key", 3));
}

/* The same seed gives the same hashes, another one others; bytes behind a zero count. What was
 * drawn before stays. */
static void test_seeded(void **state)
{
    (void)state;
    hash_key_init(NULL);
    struct hash_key unique = hash_unique_key;
    hash_key_from_seed("seed\0a", 6);
    uint64_t first = hash_bytes("key", 3);
    hash_key_from_seed("seed\0b", 6);
    assert_true(first != hash_bytes("key", 3));
    hash_key_from_seed("seed\0a", 6);
    assert_true(first == hash_bytes("key", 3));
    assert_true(hash_process_key.k0 != hash_process_key.k1);
    assert_memory_equal(&unique, &hash_unique_key, sizeof(unique));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_siphash),
                                       cmocka_unit_test(test_keyed),
                                       cmocka_unit_test(test_seeded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
