/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sorted sets. A small one is a listpack of member, score pairs in order, embedded in the entry
 * (ENTRY_LISTPACK). A large one is a struct zset_root (ENTRY_ZTREE):
 *
 *     tree     items of score, 8 bytes in order-preserving form, and member
 *     index    hash of the member -> score, 8 bytes each
 *     crowd    a set of members: at least those whose score is shared by more than ZSET_FEW members
 *
 * The index does not keep members, as the tree has them: what it says is verified by looking for
 * score and member in the tree, and that is how equal hashes are told apart.
 *
 * ZSCAN goes the other way: it walks the index, as only an order by hash lets a cursor survive
 * changes of scores, and needs the member for a hash and a score. The tree gives the few members of
 * that score, whose hashes tell which one it is; but that would not end where a million members
 * share one score. There the crowd gives the member by its hash. A member enters the crowd when it
 * comes to a score that so many have already; those few enter with it when the bound is passed just
 * then. It leaves the crowd when it leaves the score. Where scores differ the crowd is empty and
 * costs nothing.
 *
 * A zset becomes large when Redis's thresholds are passed, with ENTRY_GROWN set, or when it would
 * not fit in the entry, without. It never becomes small again. -0.0 is kept as 0.0.
 *
 * Functions that take a keyref change the zset and leave ref->entry up to date; one that removes
 * the last member deletes the key (ref->entry is NULL then). Slices given in must not point into
 * the zset. Functions that take a const entry write nothing and may be used on a frozen entry by
 * any thread.
 */
#ifndef HF_TYPE_ZSET_H
#define HF_TYPE_ZSET_H

#include "base/number.h"
#include "keyspace/keyspace.h"
#include "structure/btree_build.h"
#include "structure/listpack.h"

#define ZSET_FEW 8

struct zset_item {
    struct slice member;
    double score;
};

uint64_t zset_count(const struct entry *e);
const char *zset_encoding_name(const struct entry *e);

/* A score as Redis writes it into a listpack, and as ZSCAN shows it there: whole numbers as
 * integers even where a reply would have an exponent. */
size_t zset_format_score(char out[NUMBER_DOUBLE_SIZE], double score);

bool zset_score(const struct entry *e, struct slice member, double *score);
/* The rank from the lowest score up; score may be NULL. */
bool zset_rank(const struct entry *e, struct slice member, uint64_t *rank, double *score);

/* Iteration, from a rank (beyond the zset there is nothing) upwards, or with `reverse` downwards.
 * The zset must not change meanwhile. */
struct zset_iter {
    const char *lp; /* NULL for a tree */
    uint32_t at;    /* of the member in lp; 0 at the end */
    bool reverse, more;
    struct btree_pos pos;
    char number[LISTPACK_NUMBER_SIZE];
};
void zset_iter_init(struct zset_iter *it, const struct entry *e, uint64_t rank, bool reverse);
/* The next item; its member is valid until the next call (in a tree: until the zset is changed). */
bool zset_iter_next(struct zset_iter *it, struct zset_item *item);

struct zset_score_range {
    double min, max;
    bool min_open, max_open; /* the bound itself is left out */
};

enum zset_lex_kind { ZSET_LEX_LOWEST, ZSET_LEX_CLOSED, ZSET_LEX_OPEN, ZSET_LEX_HIGHEST };
struct zset_lex_bound {
    enum zset_lex_kind kind;
    struct slice member; /* for CLOSED and OPEN */
};
struct zset_lex_range {
    struct zset_lex_bound min, max;
};

/* The ranks of a range: `first` is the lowest, `count` may be 0. */
struct zset_ranks {
    uint64_t first, count;
};
struct zset_ranks zset_ranks_by_score(const struct entry *e, const struct zset_score_range *range);
/* Meant for zsets whose members have all the same score. Where they have not, Redis's answer
 * depends on the direction it walks in: small ones answer the same here. */
struct zset_ranks zset_ranks_by_lex(const struct entry *e, const struct zset_lex_range *range,
                                    bool reverse);

enum zset_add_flag {
    ZSET_NX = 1,   /* only new members */
    ZSET_XX = 2,   /* only members that are there */
    ZSET_GT = 4,   /* change a score only to a greater one */
    ZSET_LT = 8,   /* ... only to a lesser one */
    ZSET_INCR = 16 /* add to the score */
};
enum zset_add_result {
    ZSET_SKIPPED, /* a flag forbade it */
    ZSET_SAME,    /* the score was this already */
    ZSET_ADDED,
    ZSET_UPDATED,
    ZSET_NAN /* infinities of both signs were added: nothing was changed */
};
/* Add a member or change its score. Creates the zset. *result_score (may be NULL) is what the
 * member has afterwards, for SAME, ADDED and UPDATED. */
enum zset_add_result zset_add(struct keyref *ref, struct slice member, double score, unsigned flags,
                              double *result_score);

/* False when it is not there. */
bool zset_remove(struct keyref *ref, struct slice member);
/* Remove the members of these ranks, which must be within the zset. */
void zset_remove_ranks(struct keyref *ref, uint64_t first, uint64_t count);

/* SCAN, as dict_scan: gives whole leaves from `cursor` on until at least `want` members were given;
 * returns the next cursor, 0 at the end. What is small to Redis is given whole, in order. The
 * slices of a tree are valid until the zset is changed, those of a listpack until fn returns. */
typedef void zset_visit_fn(void *ctx, const struct zset_item *item);
uint64_t zset_scan(const struct entry *e, uint64_t cursor, size_t want, zset_visit_fn *fn,
                   void *ctx);

/* Building a zset aside, for loading and for results. One builder may build many, one after
 * another. */
struct zset_builder {
    struct epoch *epoch;
    const struct encoding_limits *limits;
    bool large, grown;
    uint64_t run; /* of the last members appended: how many share one score */
    double run_score;
    struct zset_root root;
    bool bulk; /* what was added is in `sorted` alone */
    struct btree_builder sorted;
    char lp[ENTRY_EMBED_MAX];
};
void zset_builder_init(struct zset_builder *b, struct epoch *epoch,
                       const struct encoding_limits *limits);
/* Before `count` different members are added, where that is known: a zset that will be large is
 * made so at once, and not out of a small one. */
void zset_builder_begin(struct zset_builder *b, uint64_t count);
/* The same; and if it will be large, and as long as the members come in order (by score and member,
 * up or down) it is built as a whole: a member that is there twice is then noticed at the end, by
 * zset_builder_settle. False: `count` is that of a small one, and all is as without it. */
bool zset_builder_begin_bulk(struct zset_builder *b, uint64_t count);
/* Must be called before the end where zset_builder_begin_bulk was answered by true. False when a
 * member was there twice: the builder must be reset then. */
bool zset_builder_settle(struct zset_builder *b);
/* Add in any order. False when the member is there already or the score is NaN. */
bool zset_builder_add(struct zset_builder *b, struct slice member, double score);
/* Add behind all others, by score, then member: the caller knows the order, and that the member is
 * not there. Not to be mixed with zset_builder_add. */
void zset_builder_append(struct zset_builder *b, struct slice member, double score);
/* Add all pairs of a listpack that listpack_check has passed, to a builder that is empty. False
 * when they are no zset: a member without a score, a score that is no number, a member twice. The
 * builder must be reset then. */
bool zset_builder_add_listpack(struct zset_builder *b, const char *lp);
uint64_t zset_builder_count(const struct zset_builder *b);
/* The finished entry, for db_insert or keyref_give; NULL when nothing was added. The builder is
 * empty afterwards. */
struct entry *zset_builder_finish(struct zset_builder *b, struct slice key, int64_t due);
/* Throw away what was added. */
void zset_builder_reset(struct zset_builder *b);

/* Verify the invariants of a zset: order, index and crowd. For tests. */
void zset_check(const struct entry *e, const struct epoch *epoch);

#endif
