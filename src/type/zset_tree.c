/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/zset_tree.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "structure/dict_build.h"

/* An item as the tree has it: on the stack unless the member is long. */
#define JOINED_SIZE 512

struct joined {
    struct slice item;
    char *heap;
    char stack[JOINED_SIZE];
};

static struct slice joined_begin(struct joined *j, double score, struct slice member)
{
    size_t size = 8 + member.size;
    j->heap = size > JOINED_SIZE ? mem_alloc(size) : NULL;
    char *out = j->heap ? j->heap : j->stack;
    btree_put_double(out, score);
    if (member.size > 0)
        memcpy(out + 8, member.data, member.size);
    j->item = slice_of(out, size);
    return j->item;
}

static void joined_end(struct joined *j)
{
    if (j->heap)
        mem_free(j->heap);
}

static struct slice hash_key(const uint64_t *hash)
{
    return slice_of(hash, sizeof(*hash));
}

static uint64_t hash_member(struct slice member)
{
    return hash_bytes(member.data, member.size);
}

struct zset_item zset_tree_item(struct slice item)
{
    return (struct zset_item){slice_of(item.data + 8, item.size - 8), btree_get_double(item.data)};
}

static struct zset_item item_at(const struct btree_pos *pos)
{
    return zset_tree_item(btree_item(pos));
}

static double index_score(const struct dict_item *item)
{
    double score;
    memcpy(&score, item->value.data, sizeof(score));
    return score;
}

void zset_tree_init(struct zset_root *z)
{
    btree_init(&z->tree);
    dict_init(&z->index, DICT_INDEX);
    dict_init(&z->crowd, DICT_SET);
}

void zset_tree_clear(struct zset_root *z, struct epoch *e)
{
    btree_clear(&z->tree, e);
    dict_clear(&z->index, e);
    dict_clear(&z->crowd, e);
}

static bool seek(const struct zset_root *z, double score, struct slice member,
                 struct btree_pos *pos)
{
    struct joined j;
    bool equal = btree_seek(&z->tree, joined_begin(&j, score, member), pos);
    joined_end(&j);
    return equal;
}

bool zset_tree_find(const struct zset_root *z, struct slice member, uint64_t hash,
                    struct zset_found *found)
{
    struct dict_item item;
    for (bool more = dict_find(&z->index, hash, hash_key(&hash), &item, &found->place); more;
         more = dict_find_next(&z->index, hash_key(&hash), &item, &found->place)) {
        found->score = index_score(&item);
        if (seek(z, found->score, member, &found->pos))
            return true;
    }
    return false;
}

/* ---- the crowd ---- */

static void join_crowd(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash)
{
    if (!dict_find(&z->crowd, hash, member, NULL, NULL))
        dict_add(&z->crowd, e, hash, member, slice_of("", 0));
}

static void leave_crowd(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash)
{
    struct dict_place place;
    if (z->crowd.count > 0 && dict_find(&z->crowd, hash, member, NULL, &place))
        dict_remove(&z->crowd, e, &place);
}

/* The ZSET_FEW members from `pos` on. */
static void few_join_crowd(struct zset_root *z, struct epoch *e, struct btree_pos pos)
{
    for (unsigned i = 0; i < ZSET_FEW; i++) {
        struct slice member = item_at(&pos).member;
        join_crowd(z, e, member, hash_member(member));
        btree_next(&pos);
    }
}

static bool has_score(const struct btree_pos *pos, const char score[8])
{
    return memcmp(btree_item(pos).data, score, 8) == 0;
}

/* How many of the items at and around pos have this score: counted up to ZSET_FEW + 1. *first is
 * set to the first of them when there are no more than ZSET_FEW. */
static unsigned count_around(const struct btree_pos *pos, const char score[8],
                             struct btree_pos *first)
{
    unsigned count = 0;
    struct btree_pos p = *pos;
    for (bool more = !btree_at_end(&p); more && has_score(&p, score); more = btree_next(&p)) {
        if (++count > ZSET_FEW)
            return count;
    }
    p = *first = *pos;
    while (p.rank > 0 && btree_prev(&p) && has_score(&p, score)) {
        *first = p;
        if (++count > ZSET_FEW)
            break;
    }
    return count;
}

/* A member is about to be inserted at pos with this score. False when too few are there for a
 * crowd. */
static bool enter_crowd(struct zset_root *z, struct epoch *e, const struct btree_pos *pos,
                        struct slice member, uint64_t hash, double score)
{
    char bytes[8];
    btree_put_double(bytes, score);
    struct btree_pos first;
    unsigned count = count_around(pos, bytes, &first);
    if (count < ZSET_FEW)
        return false;
    if (count == ZSET_FEW)
        few_join_crowd(z, e, first);
    join_crowd(z, e, member, hash);
    return true;
}

/* ---- changes ---- */

static void add_to_index(struct zset_root *z, struct epoch *e, uint64_t hash, double score)
{
    dict_add(&z->index, e, hash, hash_key(&hash), slice_of(&score, sizeof(score)));
}

void zset_tree_insert(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      double score)
{
    struct joined j;
    struct slice item = joined_begin(&j, score, member);
    struct btree_pos pos;
    btree_seek(&z->tree, item, &pos);
    enter_crowd(z, e, &pos, member, hash, score);
    btree_insert(&z->tree, e, &pos, item);
    joined_end(&j);
    add_to_index(z, e, hash, score);
}

void zset_tree_append(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      double score, uint64_t run)
{
    if (run == ZSET_FEW + 1) {
        struct btree_pos first;
        btree_seek_rank(&z->tree, z->tree.count - ZSET_FEW, &first);
        few_join_crowd(z, e, first);
    }
    if (run > ZSET_FEW)
        join_crowd(z, e, member, hash);
    struct joined j;
    btree_append(&z->tree, e, joined_begin(&j, score, member));
    joined_end(&j);
    add_to_index(z, e, hash, score);
}

void zset_tree_move(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                    struct zset_found *found, double score)
{
    struct joined j;
    struct slice item = joined_begin(&j, score, member);
    btree_remove(&z->tree, e, &found->pos);
    btree_seek(&z->tree, item, &found->pos);
    if (!enter_crowd(z, e, &found->pos, member, hash, score))
        leave_crowd(z, e, member, hash);
    btree_insert(&z->tree, e, &found->pos, item);
    joined_end(&j);
    dict_set_value(&z->index, e, &found->place, slice_of(&score, sizeof(score)));
}

void zset_tree_remove(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      struct zset_found *found)
{
    leave_crowd(z, e, member, hash);
    dict_remove(&z->index, e, &found->place);
    btree_remove(&z->tree, e, &found->pos);
}

/* Two items with the same hash and score are alike: either will do. */
static void remove_from_index(struct zset_root *z, struct epoch *e, uint64_t hash, double score)
{
    struct dict_item item;
    struct dict_place place;
    bool more = dict_find(&z->index, hash, hash_key(&hash), &item, &place);
    while (more && index_score(&item) != score)
        more = dict_find_next(&z->index, hash_key(&hash), &item, &place);
    assert(more);
    dict_remove(&z->index, e, &place);
}

void zset_tree_remove_ranks(struct zset_root *z, struct epoch *e, uint64_t first, uint64_t count)
{
    struct btree_pos pos;
    btree_seek_rank(&z->tree, first, &pos);
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0)
            btree_next(&pos);
        struct zset_item item = item_at(&pos);
        uint64_t hash = hash_member(item.member);
        leave_crowd(z, e, item.member, hash);
        remove_from_index(z, e, hash, item.score);
    }
    if (count == 1)
        btree_remove(&z->tree, e, &pos);
    else
        btree_remove_range(&z->tree, e, first, count);
}

/* ---- index and crowd at once ---- */

bool zset_tree_add_sorted(struct btree_builder *b, struct slice member, double score)
{
    struct joined j;
    bool in_order = btree_builder_add(b, joined_begin(&j, score, member));
    joined_end(&j);
    return in_order;
}

/* Two members have this hash, and these scores: are they one member, which is in the tree twice? */
static bool same_member(void *ctx, uint64_t hash, const char value[8], const char other[8])
{
    const struct zset_root *z = ctx;
    char bytes[8];
    double score, other_score;
    memcpy(&score, value, sizeof(score));
    memcpy(&other_score, other, sizeof(other_score));
    if (score == other_score)
        return false; /* the tree has nothing twice */
    btree_put_double(bytes, score);
    struct btree_pos pos, ignored;
    btree_seek(&z->tree, slice_of(bytes, sizeof(bytes)), &pos);
    for (bool more = !btree_at_end(&pos); more && has_score(&pos, bytes); more = btree_next(&pos)) {
        struct slice member = item_at(&pos).member;
        if (hash_member(member) == hash && seek(z, other_score, member, &ignored))
            return true;
    }
    return false;
}

/* Members of one score: those before the (ZSET_FEW + 1)th are kept until it comes. */
struct run {
    struct dict_builder crowd;
    double score;
    uint64_t length;
    struct slice members[ZSET_FEW];
    uint64_t hashes[ZSET_FEW];
};

static void add_to_run(struct run *run, const struct zset_item *item, uint64_t hash)
{
    if (run->length > 0 && run->score != item->score)
        run->length = 0;
    run->score = item->score;
    if (run->length < ZSET_FEW) {
        run->members[run->length] = item->member;
        run->hashes[run->length++] = hash;
        return;
    }
    for (unsigned i = 0; run->length == ZSET_FEW && i < ZSET_FEW; i++)
        dict_builder_add(&run->crowd, run->hashes[i], run->members[i], slice_of("", 0));
    dict_builder_add(&run->crowd, hash, item->member, slice_of("", 0));
    run->length++;
}

bool zset_tree_index(struct zset_root *z, struct epoch *e)
{
    struct dict_builder index;
    struct run *run = mem_alloc(sizeof(*run));
    run->length = 0;
    dict_builder_begin(&index, e, DICT_INDEX, z->tree.count);
    dict_builder_begin(&run->crowd, e, DICT_SET, z->tree.count);
    struct btree_pos pos;
    btree_seek_rank(&z->tree, 0, &pos);
    for (bool more = !btree_at_end(&pos); more; more = btree_next(&pos)) {
        struct zset_item item = item_at(&pos);
        uint64_t hash = hash_member(item.member);
        dict_builder_add(&index, hash, hash_key(&hash),
                         slice_of(&item.score, sizeof(item.score)));
        add_to_run(run, &item, hash);
    }
    bool ok = dict_builder_finish(&index, &z->index, same_member, z);
    if (!ok) {
        dict_builder_drop(&run->crowd);
    } else if (!dict_builder_finish(&run->crowd, &z->crowd, NULL, NULL)) {
        assert(false); /* no member is there twice */
        ok = false;
    }
    mem_free(run);
    return ok;
}

/* ---- ranges ---- */

/* The rank of the first item whose score is at least `score`, or with `above` greater than it. The
 * eight bytes are ordered as a number, so that one more is the next score. */
static uint64_t rank_of_score(const struct zset_root *z, double score, bool above)
{
    unsigned char bytes[8];
    btree_put_double((char *)bytes, score);
    for (int i = 7; above && i >= 0; i--)
        above = ++bytes[i] == 0;
    struct btree_pos pos;
    btree_seek(&z->tree, slice_of(bytes, sizeof(bytes)), &pos);
    return pos.rank;
}

static struct zset_ranks ranks_between(uint64_t first, uint64_t end)
{
    return (struct zset_ranks){first, end > first ? end - first : 0};
}

struct zset_ranks zset_tree_ranks_by_score(const struct zset_root *z,
                                           const struct zset_score_range *range)
{
    return ranks_between(rank_of_score(z, range->min, range->min_open),
                         rank_of_score(z, range->max, !range->max_open));
}

/* The rank of the first member (all having the same score) at or above the bound, or with `above`
 * behind all members equal to it. */
static uint64_t rank_of_member(const struct zset_root *z, const struct zset_lex_bound *bound,
                               bool above)
{
    if (bound->kind == ZSET_LEX_LOWEST)
        return 0;
    if (bound->kind == ZSET_LEX_HIGHEST)
        return z->tree.count;
    struct btree_pos pos;
    btree_seek_rank(&z->tree, 0, &pos);
    bool equal = seek(z, item_at(&pos).score, bound->member, &pos);
    return pos.rank + (equal && above);
}

struct zset_ranks zset_tree_ranks_by_lex(const struct zset_root *z,
                                         const struct zset_lex_range *range)
{
    return ranks_between(rank_of_member(z, &range->min, range->min.kind == ZSET_LEX_OPEN),
                         rank_of_member(z, &range->max, range->max.kind == ZSET_LEX_CLOSED));
}

/* ---- scanning ---- */

struct scan {
    const struct zset_root *z;
    zset_visit_fn *fn;
    void *ctx;
};

/* The members that the crowd has for this hash, if they have this score. */
static bool scan_crowd(const struct scan *scan, uint64_t hash, double score)
{
    const struct zset_root *z = scan->z;
    struct dict_item item;
    struct dict_place place;
    bool any = false;
    for (bool more = dict_find_hash(&z->crowd, hash, &item, &place); more;
         more = dict_find_hash_next(&z->crowd, &item, &place)) {
        struct btree_pos pos;
        if (seek(z, score, item.key, &pos)) {
            struct zset_item found = {item.key, score};
            scan->fn(scan->ctx, &found);
            any = true;
        }
    }
    return any;
}

/* Members whose hashes are equal are each given for each other's, as SCAN may. */
static void scan_index_item(void *ctx, const struct dict_item *item)
{
    const struct scan *scan = ctx;
    uint64_t hash;
    double score = index_score(item);
    memcpy(&hash, item->key.data, sizeof(hash));
    if (scan_crowd(scan, hash, score))
        return;
    /* Few share this score. */
    char bytes[8];
    btree_put_double(bytes, score);
    struct btree_pos pos;
    btree_seek(&scan->z->tree, slice_of(bytes, sizeof(bytes)), &pos);
    for (bool more = !btree_at_end(&pos); more && has_score(&pos, bytes); more = btree_next(&pos)) {
        struct zset_item found = item_at(&pos);
        if (hash_member(found.member) == hash)
            scan->fn(scan->ctx, &found);
    }
}

uint64_t zset_tree_scan(const struct zset_root *z, uint64_t cursor, size_t want, zset_visit_fn *fn,
                        void *ctx)
{
    struct scan scan = {z, fn, ctx};
    return dict_scan(&z->index, cursor, want, scan_index_item, &scan);
}

void zset_tree_check(const struct zset_root *z, const struct epoch *e)
{
    btree_check(&z->tree, e, true);
    dict_check(&z->index, e);
    dict_check(&z->crowd, e);
    assert(z->tree.count == z->index.count);
    struct btree_pos pos;
    btree_seek_rank(&z->tree, 0, &pos);
    uint64_t run = 0, alone = 0, crowd = 0;
    double run_score = NAN;
    for (; !btree_at_end(&pos); btree_next(&pos)) {
        struct zset_item item = item_at(&pos);
        uint64_t hash = hash_member(item.member);
        struct zset_found found;
        bool there = zset_tree_find(z, item.member, hash, &found);
        assert(there && found.score == item.score && found.pos.rank == pos.rank);
        (void)there;
        if (item.score != run_score)
            run = alone = 0;
        run_score = item.score;
        run++;
        bool in_crowd = dict_find(&z->crowd, hash, item.member, NULL, NULL);
        crowd += in_crowd;
        alone += !in_crowd;
        assert(run <= ZSET_FEW || alone == 0);
    }
    assert(crowd == z->crowd.count);
}
