/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How many keys of each type a database has of which size: exact at any time, for INFO keysizes.
 *
 * A size is what STRLEN, LLEN, SCARD, ZCARD, HLEN or XLEN would count (members that have expired
 * and are still there among them). Sizes are counted by their power of two: bin 0 is of the empty
 * ones, bin n of those from 2^(n-1) to 2^n - 1.
 *
 * The counts are kept by the keyspace alone; no type and no command knows of them. Whoever changes
 * a value says so before (keyref_own and its relatives), but not when it is done. So the keyspace
 * watches the one entry that it has given out last:
 *
 *     changed ──> watched: counted as it was ─another is changed, or somebody reads──> counted anew
 *
 * Numbers and short strings are counted at once, as their new size is known before.
 *
 * While it is watched the entry may be moved to another block, or removed, by the keyspace only,
 * which then tells the watch. The value must not be changed when another key has been given out to
 * be changed since, unless it is asked for again.
 *
 * Owned by the executor.
 */
#ifndef HF_KEYSPACE_KEYSIZES_H
#define HF_KEYSPACE_KEYSIZES_H

#include <string.h>

#include "keyspace/entry.h"

/* Nothing is as large as the last bin. */
#define KEYSIZES_BINS 48

struct keysizes {
    uint64_t counts[ENTRY_TYPE_COUNT][KEYSIZES_BINS];
};

static inline unsigned keysizes_bin(uint64_t size)
{
    return 63U - (unsigned)__builtin_clzll(size << 1 | 1);
}

/* Whether both are in the same bin. */
static inline bool keysizes_alike(uint64_t a, uint64_t b)
{
    return (a ^ b) <= (a & b);
}

/* Where an entry is counted. */
uint64_t *keysizes_count_of(struct keysizes *sizes, const struct entry *e);

/* `sizes` gets all that `others` has, too. */
void keysizes_add(struct keysizes *sizes, const struct keysizes *others);

/* The bin of a number's decimal form: of 1, 2 to 3, 4 to 7, 8 to 15, or more characters. */
static inline unsigned keysizes_bin_of_int(int64_t v)
{
    static const uint64_t limits[2][4] = {{10, 1000, 10000000, 1000000000000000},
                                          {0, 100, 1000000, 100000000000000}};
    const uint64_t *limit = limits[v < 0];
    uint64_t size = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    if (size < limit[1])
        return size < limit[0] ? 1 : 2;
    return size < limit[2] ? 3 : size < limit[3] ? 4 : 5;
}

/* The bin of a string that is a number or embedded bytes. */
static inline unsigned keysizes_bin_of_short(const struct entry *e)
{
    return entry_encoding(e) == ENTRY_INT ? keysizes_bin_of_int(entry_int(e))
                                          : keysizes_bin(e->value_size);
}

/* Where in a value its length is: which bits of the eight bytes at `offset`. */
struct length_form {
    uint64_t mask;
    int8_t offset;
    uint8_t shift;
};
extern const struct length_form length_forms[];

#define SIZE_WATCH_UNCOUNTED 0xff

struct size_watch {
    struct entry *entry; /* NULL: none is watched */
    const char *at;      /* where its length is, while its encoding stays */
    uint64_t mask, word; /* the length as it was counted: *at & mask */
    struct keysizes *sizes; /* of its database */
    uint8_t type_encoding;  /* what it was then; SIZE_WATCH_UNCOUNTED: it is counted nowhere yet */
};

/* Count the entry that is watched as it is and not as it was. */
void size_watch_recount(struct size_watch *w);

/* Count the entry that is watched as it is now; none is watched any more. */
static inline void size_watch_end(struct size_watch *w)
{
    uint64_t word;
    if (w->entry == NULL)
        return;
    memcpy(&word, w->at, sizeof(word));
    /* All the same whether the words are shifted, or halved where they count two for each. */
    if (w->entry->type_encoding != w->type_encoding || !keysizes_alike(word & w->mask, w->word))
        size_watch_recount(w);
    w->entry = NULL;
}

/* The entry is going to be changed. Not for numbers and embedded bytes. */
static inline void size_watch_begin(struct size_watch *w, struct keysizes *sizes, struct entry *e)
{
    if (w->entry == e)
        return;
    size_watch_end(w);
    const struct length_form *form = &length_forms[entry_encoding(e)];
    w->entry = e;
    w->at = (const char *)entry_value(e) + form->offset;
    w->mask = form->mask;
    memcpy(&w->word, w->at, sizeof(w->word));
    w->word &= w->mask;
    w->sizes = sizes;
    w->type_encoding = e->type_encoding;
}

/* The entry is new, and going to be filled. */
static inline void size_watch_new(struct size_watch *w, struct keysizes *sizes, struct entry *e)
{
    size_watch_end(w);
    *w = (struct size_watch){
        .entry = e, .at = e->body, .sizes = sizes, .type_encoding = SIZE_WATCH_UNCOUNTED};
}

/* The value has been moved, maybe to another block; or it has become another one. */
static inline void size_watch_move(struct size_watch *w, const struct entry *from, struct entry *to)
{
    if (w->entry != from)
        return;
    w->entry = to;
    w->at = to->body;
    if (to->type_encoding == w->type_encoding)
        w->at = (const char *)entry_value(to) + length_forms[entry_encoding(to)].offset;
}

/* The entry leaves its database; it is still as it was. */
void size_watch_remove(struct size_watch *w, struct keysizes *sizes, const struct entry *e);

/* What the database has is gone, and is not to be touched any more. */
void size_watch_drop(struct size_watch *w, struct keysizes *sizes);

#endif
