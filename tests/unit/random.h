/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Random numbers for tests (xorshift64*): the seed is HF_SEED or the clock, and is printed.
 */
#ifndef HF_TESTS_RANDOM_H
#define HF_TESTS_RANDOM_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static uint64_t random_seed, random_state;

static inline uint64_t random_bits(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state * 0x2545f4914f6cdd1dULL;
}

static inline uint64_t random_below(uint64_t n)
{
    return (random_bits() >> 8) % n;
}

static inline void random_begin(void)
{
    const char *s = getenv("HF_SEED");
    random_seed = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL);
    print_message("HF_SEED=%llu\n", (unsigned long long)random_seed);
    random_state = random_seed * 2 + 1;
}

#endif
