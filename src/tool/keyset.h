/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A set of keys in bounded memory, each known by 16 bytes of hash, with 8 bytes of value if wanted:
 * what finding keys twice (check) and comparing files (diff) stand on.
 *
 * All keys of a large file do not fit, so a set covers a range of the hashes only. It begins with
 * all; when it is full it gives up the upper half of its range with the keys in it. The caller goes
 * over its file, takes what is covered, and goes over it again for the next range, until all of
 * the hashes have been covered:
 *
 *     do {
 *         for each key: if (keyset_covers(...)) keyset_put(...);
 *     } while (keyset_next_range(&set));
 *
 * Files that fit are read once; others cost more time, not more memory. Two different keys are
 * taken for one with a probability of n^2 / 2^129, for a hash that nobody outside can predict.
 */
#ifndef HF_TOOL_KEYSET_H
#define HF_TOOL_KEYSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct key_id {
    uint64_t a, b; /* never both 0 */
};

struct keyset {
    struct key_id *ids; /* a is 0 and b is 0: free */
    uint64_t *values;   /* NULL when none are wanted */
    size_t capacity, count, most;
    uint64_t first, last; /* the range of key_id.a that is covered */
};

struct key_id key_id_of(int db, struct slice key);

/* `memory`: bytes, at most; at least 64 KiB are taken. */
void keyset_init(struct keyset *s, size_t memory, bool with_values);
void keyset_free(struct keyset *s);

static inline bool keyset_covers(const struct keyset *s, struct key_id id)
{
    return id.a >= s->first && id.a <= s->last;
}

/* Add a key that is covered. *added is false when it was there. The place of its value is valid
 * until the next call; NULL when the range became smaller and the key is no longer covered, or no
 * values are kept. */
uint64_t *keyset_put(struct keyset *s, struct key_id id, bool *added);
/* NULL: it is not there. */
uint64_t *keyset_find(struct keyset *s, struct key_id id);

/* Empty the set and cover the range behind this one; false when there is none. */
bool keyset_next_range(struct keyset *s);

#endif
