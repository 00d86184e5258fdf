/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Intersection, union and difference of sets. The sets are given as entries, NULL for one that is
 * not there; nothing of them is changed.
 */
#ifndef HF_TYPE_SET_ALGEBRA_H
#define HF_TYPE_SET_ALGEBRA_H

#include "type/set_scratch.h"

enum set_operation { SET_INTERSECTION, SET_UNION, SET_DIFFERENCE };

/* Work out the operation into an empty scratch: a union has to know what it has already, and the
 * destination of a STORE may be one of the sources. */
void set_combine(struct set_scratch *s, enum set_operation operation,
                 const struct entry *const *sets, int count);

/* Show each member of the intersection to fn (may be NULL), at most `limit` of them (0: all).
 * Returns how many. */
uint64_t set_intersect(const struct entry *const *sets, int count, uint64_t limit,
                       member_visit_fn *fn, void *ctx);

/* How many members the union has, or the first set has that no other one has; at most `limit` (0:
 * all). */
uint64_t set_count_union(struct keyspace *ks, const struct entry *const *sets, int count,
                         uint64_t limit);
uint64_t set_count_difference(const struct entry *const *sets, int count, uint64_t limit);
/* About how many members the union has, by a HyperLogLog, which takes 16 KiB however many they
 * are. */
uint64_t set_estimate_union(const struct entry *const *sets, int count);

#endif
