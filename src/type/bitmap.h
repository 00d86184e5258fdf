/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Strings as rows of bits. Bit 0 is the highest bit of the first byte, as everywhere in Redis.
 * Behind the end of a string all bits are 0.
 *
 * Nothing here puts a long string together: counting, searching and combining go chunk by chunk and
 * pass over holes; a write copies at most the chunks that it touches.
 *
 * The entries are strings or NULL, which counts as an empty one; so must ref->entry be.
 */
#ifndef HF_TYPE_BITMAP_H
#define HF_TYPE_BITMAP_H

#include "type/string.h"

bool bitmap_get(const struct entry *e, uint64_t offset);

/* Set one bit, with the string made long enough for it, or the key. *old is what it was. Returns
 * whether the value is another one now. */
bool bitmap_set(struct keyref *ref, uint64_t offset, bool bit, bool *old);

/* How many of the bits in [first, end) are 1. */
uint64_t bitmap_count(const struct entry *e, uint64_t first, uint64_t end);

/* The first bit in [first, end) that is `bit`; `end` when there is none. `end` must be within the
 * string. */
uint64_t bitmap_find(const struct entry *e, bool bit, uint64_t first, uint64_t end);

enum bitmap_operation {
    BITMAP_AND,
    BITMAP_OR,
    BITMAP_XOR,
    BITMAP_NOT,   /* of one source */
    BITMAP_DIFF,  /* in the first one, but in none of the others */
    BITMAP_DIFF1, /* in one of the others, but not in the first */
    BITMAP_ANDOR, /* in the first and in one of the others */
    BITMAP_ONE    /* in exactly one */
};

/* Build a rope of what the operation makes of the sources: as long as the longest of them. What is
 * all zeros is left a hole. */
void bitmap_combine(struct rope *out, struct epoch *epoch, enum bitmap_operation op,
                    const struct entry *const *sources, size_t count);

/* Numbers of 1 to 64 bits at any offset, the highest bit first. */
uint64_t bitmap_get_field(const struct entry *e, uint64_t offset, unsigned width);
/* The string must be long enough: see bitmap_grow. */
void bitmap_set_field(struct keyref *ref, uint64_t offset, unsigned width, uint64_t value);

/* Make the string at least so many bytes long, or make the key; and `raw`, as a change in part
 * does. Returns whether it was not. */
bool bitmap_grow(struct keyref *ref, uint64_t size);

#endif
