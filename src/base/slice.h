/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A slice is a run of bytes that somebody else owns: a key or an argument in the query buffer, an
 * item inside a node, a field of a file. It is passed by value. It is not terminated by a NUL and
 * may hold any byte. An empty one has an address, too, as memcpy and memcmp want one. How long
 * `data` stays valid is said by whoever hands the slice out; a callee copies what it keeps.
 */
#ifndef HF_BASE_SLICE_H
#define HF_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
    const char *data;
    size_t size;
};

/* A slice over a string literal, for initialisers and comparisons. */
#define SLICE(literal) ((struct slice){(literal), sizeof(literal) - 1})

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice){(const char *)data, size};
}

static inline struct slice slice_cstr(const char *s)
{
    return (struct slice){s, strlen(s)};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool slice_ends_with(struct slice s, const char *end)
{
    size_t size = strlen(end);
    return s.size >= size && memcmp(s.data + s.size - size, end, size) == 0;
}

/* Bytewise order, the shorter first when one begins the other: as Redis orders members. */
static inline int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int c = n ? memcmp(a.data, b.data, n) : 0;
    if (c != 0)
        return c;
    return (a.size > b.size) - (a.size < b.size);
}

/* Equality with a lower-case word, the case of the slice's ASCII letters ignored: for keywords and
 * command names. `word` must be lower case. */
static inline bool slice_is(struct slice s, const char *word)
{
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + ('a' - 'A'));
        if (word[i] == '\0' || c != word[i])
            return false;
    }
    return word[s.size] == '\0';
}

#endif
