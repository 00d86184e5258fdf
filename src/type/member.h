/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What hashes and sets have in common: both are members (of a hash: fields with a value each) that
 * stand in one of these ways:
 *
 *     ENTRY_LISTPACK   member, member, ...  or  field, value, field, value, ...
 *     ENTRY_INTSET     sets of integers
 *     ENTRY_DICT       more than what fits in ENTRY_EMBED_MAX bytes, or beyond Redis's thresholds
 *     ENTRY_TIMED_DICT a hash of which a field has had an expiry, however small: type/hash.h
 *
 * Everything here takes a const entry and writes nothing, so it may be used by any thread on the
 * entries of a snapshot, and it shows a hash or set in the same way whatever its encoding is: for
 * saving, DUMP, DEBUG DIGEST and for the commands. Of a set the values are empty.
 *
 * Integers of listpacks and intsets are handed out in decimal, written into a buffer which the
 * caller or the iterator has; all other slices point into the value.
 */
#ifndef HF_TYPE_MEMBER_H
#define HF_TYPE_MEMBER_H

#include "keyspace/keyspace.h"
#include "structure/intset.h"
#include "structure/listpack.h"

/* The dict of an entry that has one. */
static inline const struct dict *member_dict(const struct entry *e)
{
    return (const struct dict *)entry_value(e);
}

uint64_t member_count(const struct entry *e);

/* Fields of a hash that are past their expiry and have not been removed yet: what takes a time
 * hides those that were due before it. INT64_MIN hides nothing. */
static inline bool member_hides(const struct entry *e, int64_t now_ms)
{
    return __builtin_expect(entry_fields_due(e) < now_ms, 0);
}
/* Those that are not hidden. Walks the hash when some may be. */
uint64_t member_count_live(const struct entry *e, int64_t now_ms);

/* Iteration over all members. The value must not change meanwhile. */
struct member_iter {
    int64_t hidden; /* those due before this are passed over */
    const char *small; /* the listpack or intset; NULL for a dict */
    bool is_intset, has_values;
    uint32_t at; /* offset in the listpack, index in the intset */
    struct dict_iter dict;
    char key_buf[LISTPACK_NUMBER_SIZE], value_buf[LISTPACK_NUMBER_SIZE];
};
void member_iter_init(struct member_iter *it, const struct entry *e);
void member_iter_init_live(struct member_iter *it, const struct entry *e, int64_t now_ms);
/* The next member: the slices are valid until the next call. False behind the last. */
bool member_iter_next(struct member_iter *it, struct dict_item *item);

typedef void member_visit_fn(void *ctx, const struct dict_item *item);

/* For HSCAN and SSCAN: gives members from `cursor` on until at least `want` were given, and returns
 * the next cursor, 0 at the end. What Redis holds in its small encodings is given all at once. The
 * slices of a dict are valid until the value is next changed, the others until fn returns. */
bool member_scans_at_once(const struct entry *e);
uint64_t member_scan(const struct entry *e, uint64_t cursor, size_t want, member_visit_fn *fn,
                     void *ctx);

/* Room for the integers of one item. */
struct member_buf {
    char key[LISTPACK_NUMBER_SIZE], value[LISTPACK_NUMBER_SIZE];
};

/* A random member; false when all are hidden, at ks->now_ms as in the following. */
bool member_random(const struct entry *e, struct keyspace *ks, struct dict_item *item,
                   struct member_buf *buf);
/* `count` random members, each drawn anew: may show some more than once. There must be one. */
void member_random_repeated(const struct entry *e, struct keyspace *ks, uint64_t count,
                            member_visit_fn *fn, void *ctx);
/* `count` different random members, or all when there are no more. Takes time and memory in
 * proportion to count alone, unless count is a good part of all. */
void member_random_distinct(const struct entry *e, struct keyspace *ks, uint64_t count,
                            member_visit_fn *fn, void *ctx);

/* The dict in which members are looked up by their hash_bytes, of a set, hash or sorted set; NULL
 * when it has none, or is of another type. For dict_prefetch of a batch of commands. */
static inline const struct dict *member_index(const struct entry *e)
{
    if (entry_has_dict(e))
        return (const struct dict *)entry_value(e);
    if (entry_encoding(e) == ENTRY_ZTREE)
        return &((const struct zset_root *)entry_value(e))->index;
    return NULL;
}

/* Whether a listpack that has passed listpack_check holds distinct members: every element, or every
 * other one when has_values is set (false also when there is a field without a value). */
bool member_listpack_distinct(const char *lp, bool has_values);

#endif
