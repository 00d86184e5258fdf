/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/crc.h"

static unsigned char bytes[10000 + 16];

static int fill(void **state)
{
    (void)state;
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(x >> 24);
    }
    return 0;
}

/* The check values of both polynomials over "123456789". */
static void test_known_values(void **state)
{
    (void)state;
    assert_true(crc64(0, "123456789", 9) == 0xe9c6d914c4b8d9caULL);
    assert_true(crc64_table(0, "123456789", 9) == 0xe9c6d914c4b8d9caULL);
    assert_true(crc32c(0, "123456789", 9) == 0xe3069283U);
    assert_true(crc32c_table(0, "123456789", 9) == 0xe3069283U);
}

/* Fast and table forms agree for every length and alignment, and a sum may be taken in parts. */
static void test_agree(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 10000; n += n < 300 ? 1 : 61) {
        size_t at = n % 16;
        if (crc_has_pclmul())
            assert_true(crc64_pclmul(n, bytes + at, n) == crc64_table(n, bytes + at, n));
        if (crc_has_sse42())
            assert_true(crc32c_sse42((uint32_t)n, bytes + at, n) ==
                        crc32c_table((uint32_t)n, bytes + at, n));
        size_t cut = n / 3;
        assert_true(crc64(crc64(0, bytes, cut), bytes + cut, n - cut) == crc64(0, bytes, n));
    }
}

/* The checksum of a whole follows from those of its parts. */
static void test_combine(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 4096; n += 37) {
        size_t cut = n / 5 * 2;
        uint64_t a = crc64(0, bytes, cut), b = crc64(0, bytes + cut, n - cut);
        assert_true(crc64_combine(a, b, n - cut) == crc64(0, bytes, n));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_known_values),
                                       cmocka_unit_test(test_agree),
                                       cmocka_unit_test(test_combine)};
    return cmocka_run_group_tests(tests, fill, NULL);
}
