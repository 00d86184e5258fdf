/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the keys of a file take, by what their names begin with: "user:", "user:*:", ... down to a
 * depth. A part of a name that is a number, or a long run of hexadecimal digits and dashes, counts
 * as `*`: ids would make every key a prefix of its own.
 *
 * Memory is bounded: PREFIXES_MOST prefixes are counted. When they are full the smaller half is
 * given up (lossy counting, after Manku and Motwani, "Approximate frequency counts over data
 * streams", 2002, with memory as the weight). A prefix that comes back later lacks at most what the
 * largest one had that was given up: the sum of those over all times is `missed`, and no prefix
 * that is shown lacks more.
 */
#ifndef HF_TOOL_PREFIXES_H
#define HF_TOOL_PREFIXES_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define PREFIXES_MOST 8192
#define PREFIX_DEPTH_MOST 8
/* A longer one is not told from others that begin in the same way. */
#define PREFIX_SIZE_MOST 200

/* What a group of keys takes. */
struct tally {
    uint64_t keys;
    uint64_t elements; /* members, fields, items; a string is one */
    uint64_t memory;   /* bytes that Holdfast needs for them */
    uint64_t bytes;    /* in the file */
};

static inline void tally_add(struct tally *sum, const struct tally *t)
{
    sum->keys += t->keys;
    sum->elements += t->elements;
    sum->memory += t->memory;
    sum->bytes += t->bytes;
}

struct prefix {
    char *name; /* with the separator at its end; of level 1 and empty: keys without a separator */
    size_t size;
    int level; /* 1 and up */
    uint64_t hash;
    struct tally tally;
};

struct prefixes {
    struct prefix *items; /* after prefixes_sort: the largest first */
    size_t count;
    uint32_t *slots; /* of items + 1; 0: free */
    int depth;
    char separator;  /* '\0': none, there are no prefixes */
    uint64_t missed; /* bytes */
};

void prefixes_init(struct prefixes *p, int depth, char separator);
void prefixes_free(struct prefixes *p);
void prefixes_add(struct prefixes *p, struct slice key, const struct tally *t);
/* By memory; nothing may be added afterwards. */
void prefixes_sort(struct prefixes *p);

/* Guessing which character separates: note some keys, then ask. */
struct separator_guess {
    uint64_t keys, with[8];
};
void separator_note(struct separator_guess *g, struct slice key);
/* The one that most keys have; '\0' when fewer than a twentieth of the keys have any. */
char separator_best(const struct separator_guess *g);

#endif
