/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Intset: a sorted array of distinct integers of 2, 4 or 8 bytes, in the layout that RDB files use:
 * encoding (4, little-endian: the width), length (4), then the numbers, little-endian. The bytes
 * belong to the caller; nothing here allocates.
 */
#ifndef HF_STRUCTURE_INTSET_H
#define HF_STRUCTURE_INTSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INTSET_EMPTY_SIZE 8

void intset_init(char *is);
size_t intset_size(const char *is);
uint32_t intset_count(const char *is);
int64_t intset_get(const char *is, uint32_t index);
bool intset_find(const char *is, int64_t v, uint32_t *index /* where it is or would be */);
/* The size that the set will have with v in it (widening included). */
size_t intset_size_with(const char *is, int64_t v);
/* Add v, which is not there; the room must be there. */
void intset_add(char *is, int64_t v);
void intset_remove(char *is, uint32_t index);
bool intset_check(const void *bytes, size_t size); /* for bytes from outside: sorted, distinct */

#endif
