/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/xxh3.h"

/* Every length class gives what libxxhash 0.8.1 gave for the same bytes. */
static void test_vectors(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        uint64_t digest;
    } vectors[] = {
        {0, 0x2d06800538d394c2ULL},    {1, 0x13e608bc156defedULL},    {3, 0xa9088dda485b481cULL},
        {4, 0x6d9253b16c8b1ed3ULL},    {8, 0x60539db630471163ULL},    {9, 0xfeff668361d723a8ULL},
        {16, 0xb8c859b0f030b585ULL},   {17, 0x714a04408e79b80fULL},   {32, 0x19ff4ee1d6ba1a55ULL},
        {33, 0x3e44983ad21679c8ULL},   {64, 0x287eb1fa9e4be2c1ULL},   {65, 0x829218de4d798646ULL},
        {96, 0xf084e7cfbc624743ULL},   {97, 0x1daa83271a8e7b7cULL},   {128, 0x67425a03650261bfULL},
        {129, 0xc664bf3311c6abc4ULL},  {240, 0x64556dc6b462a6cfULL},  {241, 0x8beadd3a8874fe17ULL},
        {1024, 0x9b81661c641c72b1ULL}, {1025, 0x806c2072ed713576ULL}, {5000, 0x799aaddd7339581dULL},
    };
    static unsigned char data[5000];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 7 + 3);
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        assert_int_equal(xxh3_64(data, vectors[i].size), vectors[i].digest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
