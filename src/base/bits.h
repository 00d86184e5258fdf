/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bits in runs of bytes, at any alignment: counting, searching, combining. What the processor has
 * (POPCNT, AVX2) is found out at the start of the process; without it the portable forms are used.
 */
#ifndef HF_BASE_BITS_H
#define HF_BASE_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The number of bits that are 1. */
uint64_t bits_count(const void *data, size_t size);
/* The index of the first byte that is not `byte`; `size` when all are. */
size_t bits_find_other(const void *data, size_t size, unsigned char byte);

enum bits_operation {
    BITS_AND,    /* to = to & from */
    BITS_OR,     /* to = to | from */
    BITS_XOR,    /* to = to ^ from */
    BITS_AND_NOT /* to = to & ~from */
};
/* Combine byte by byte; the runs must not overlap. */
void bits_combine(enum bits_operation op, void *to, const void *from, size_t size);
void bits_invert(void *data, size_t size);

/* For tests: which forms are used from now on. A form that the processor does not have is not
 * taken; returns the one that is. */
enum bits_form { BITS_PORTABLE, BITS_POPCNT, BITS_AVX2 };
enum bits_form bits_use(enum bits_form form);

#endif
