/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Large sorted sets: what type/zset.c does to a struct zset_root. The tree and the index, and how
 * they are kept in step, are explained in type/zset.h. Used by zset.c alone.
 */
#ifndef HF_TYPE_ZSET_TREE_H
#define HF_TYPE_ZSET_TREE_H

#include "type/zset.h"

/* Where a member was found. Valid until the zset is next changed. */
struct zset_found {
    double score;
    struct btree_pos pos;
    struct dict_place place;
};

void zset_tree_init(struct zset_root *z);
void zset_tree_clear(struct zset_root *z, struct epoch *e);

/* A tree's item taken apart. */
struct zset_item zset_tree_item(struct slice item);

/* Find a member in index and tree. `hash` is the member's. */
bool zset_tree_find(const struct zset_root *z, struct slice member, uint64_t hash,
                    struct zset_found *found);

/* Insert a member that is not there. */
void zset_tree_insert(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      double score);
/* The same for one that belongs behind all others; `run` of the last members share its score,
 * itself counted. */
void zset_tree_append(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      double score, uint64_t run);
/* Give the member that was found another score. */
void zset_tree_move(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                    struct zset_found *found, double score);
void zset_tree_remove(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      struct zset_found *found);
void zset_tree_remove_ranks(struct zset_root *z, struct epoch *e, uint64_t first, uint64_t count);

/* Add a member to a tree in the making. False: it does not come in order. */
bool zset_tree_add_sorted(struct btree_builder *b, struct slice member, double score);
/* Make index and crowd, both empty yet, of all that is in the tree. False when a member is there
 * twice: both are as they were. */
bool zset_tree_index(struct zset_root *z, struct epoch *e);

struct zset_ranks zset_tree_ranks_by_score(const struct zset_root *z,
                                           const struct zset_score_range *range);
struct zset_ranks zset_tree_ranks_by_lex(const struct zset_root *z,
                                         const struct zset_lex_range *range);

uint64_t zset_tree_scan(const struct zset_root *z, uint64_t cursor, size_t want, zset_visit_fn *fn,
                        void *ctx);
void zset_tree_check(const struct zset_root *z, const struct epoch *e);

/* In zset.c: a member against the bounds of a range. */
bool zset_lex_above_min(const struct zset_lex_range *range, struct slice member);
bool zset_lex_below_max(const struct zset_lex_range *range, struct slice member);

#endif
