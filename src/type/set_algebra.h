/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Intersection, union and difference of sets. The sets are given as entries, NULL for one that is not
 * there; nothing of them is changed.
 *
 * A result that has to be gathered (a union has to know what it has already; the destination of a
 * STORE may be one of the sources) is built in a set_scratch: a set under a key of a database of its
 * own, which no snapshot sees. From there it is moved under its key as by RENAME, or thrown away.
 */
#ifndef HF_TYPE_SET_ALGEBRA_H
#define HF_TYPE_SET_ALGEBRA_H

#include "type/set.h"

enum set_operation { SET_INTERSECTION, SET_UNION, SET_DIFFERENCE };

struct set_scratch {
    struct db db;
    struct keyref ref; /* ref.entry: the set, NULL while it is empty */
};

/* `key` is the name that the result will have; it must live as long as the scratch. */
void set_scratch_init(struct set_scratch *s, struct keyspace *ks, struct slice key);
/* Throws away what is still in it. */
void set_scratch_deinit(struct set_scratch *s);
/* Move the set, which is not empty, to `to` (the same key): what that had before is deleted. */
void set_scratch_move(struct set_scratch *s, struct keyref *to);

/* Work out the operation into an empty scratch. */
void set_combine(struct set_scratch *s, enum set_operation operation,
                 const struct entry *const *sets, int count);

/* Show each member of the intersection to fn (may be NULL), at most `limit` of them (0: all).
 * Returns how many. */
uint64_t set_intersect(const struct entry *const *sets, int count, uint64_t limit,
                       member_visit_fn *fn, void *ctx);

#endif
