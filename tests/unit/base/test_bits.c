/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/bits.h"
#include "base/murmur.h"
#include "unit/random.h"

#define SIZE 700

static void fill(unsigned char *p, size_t n)
{
    unsigned sparse = (unsigned)random_below(3);
    for (size_t i = 0; i < n; i++)
        p[i] = sparse == 0 ? (unsigned char)random_below(256) : sparse == 1 ? 0 : 0xff;
    if (n && random_below(2))
        p[random_below(n)] ^= (unsigned char)(1 + random_below(255));
}

/* Every form that this processor has counts, finds and combines as a loop over bytes does, at any
 * alignment and size, and touches nothing beside. */
static void test_forms(void **state)
{
    (void)state;
    static unsigned char a[SIZE], b[SIZE], to[SIZE], expected[SIZE];
    for (int round = 0; round < 6000; round++) {
        bits_use((enum bits_form)(round % 3));
        size_t from = random_below(40),
               n = random_below(3) ? random_below(SIZE - 40) : random_below(40);
        fill(a, SIZE);
        fill(b, SIZE);
        uint64_t count = 0;
        size_t other = 0;
        unsigned char byte = random_below(2) ? 0 : 0xff;
        for (size_t i = 0; i < n; i++)
            for (int k = 0; k < 8; k++)
                count += a[from + i] >> k & 1;
        while (other < n && a[from + other] == byte)
            other++;
        assert_int_equal(bits_count(a + from, n), count);
        assert_int_equal(bits_find_other(a + from, n, byte), other);
        for (enum bits_operation op = BITS_AND; op <= BITS_AND_NOT; op++) {
            memcpy(to, a, SIZE);
            memcpy(expected, a, SIZE);
            for (size_t i = from; i < from + n; i++)
                expected[i] = (unsigned char)(op == BITS_AND   ? a[i] & b[i]
                                              : op == BITS_OR  ? a[i] | b[i]
                                              : op == BITS_XOR ? a[i] ^ b[i]
                                                               : a[i] & ~b[i]);
            bits_combine(op, to + from, b + from, n);
            assert_memory_equal(to, expected, SIZE);
        }
        bits_invert(to + from, n);
        for (size_t i = from; i < from + n; i++)
            expected[i] ^= 0xff;
        assert_memory_equal(to, expected, SIZE);
    }
    bits_use(BITS_AVX2);
}

/* The hash of nothing with the seed 0 is 0; every byte counts, and none behind the last. (That
 * values are Redis's is seen by comparing HyperLogLogs: tests/compare.) */
static void test_murmur(void **state)
{
    (void)state;
    assert_int_equal(murmur_hash64a("", 0, 0), 0);
    unsigned char bytes[32];
    for (unsigned i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)i;
    /* Each size takes another way through the last bytes: no two hashes are alike, nor do they
     * depend on what stands behind. */
    uint64_t seen[sizeof(bytes) + 1];
    for (size_t n = 0; n <= sizeof(bytes); n++) {
        seen[n] = murmur_hash64a(bytes, n, 0xadc83b19U);
        for (size_t k = 0; k < n; k++)
            assert_int_not_equal(seen[k], seen[n]);
        if (n < sizeof(bytes)) {
            bytes[n] ^= 0xff;
            assert_int_equal(murmur_hash64a(bytes, n, 0xadc83b19U), seen[n]);
            bytes[n] ^= 0xff;
        }
    }
}

int main(void)
{
    random_begin();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_forms), cmocka_unit_test(test_murmur)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
