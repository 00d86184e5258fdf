/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/zset_tree.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"

/* Eight bytes and a member, together: on the stack unless the member is long. */
#define JOINED_SIZE 512

struct joined {
    struct slice bytes;
    char *heap;
    char stack[JOINED_SIZE];
};

static char *joined_begin(struct joined *j, struct slice member)
{
    size_t size = 8 + member.size;
    j->heap = size > JOINED_SIZE ? mem_alloc(size) : NULL;
    char *out = j->heap ? j->heap : j->stack;
    if (member.size > 0)
        memcpy(out + 8, member.data, member.size);
    j->bytes = slice_of(out, size);
    return out;
}

static void joined_end(struct joined *j)
{
    mem_free(j->heap);
}

/* As the tree has it. */
static struct slice tree_item_begin(struct joined *j, double score, struct slice member)
{
    btree_put_double(joined_begin(j, member), score);
    return j->bytes;
}

/* As the index has it in full. */
static struct slice full_value_begin(struct joined *j, double score, struct slice member)
{
    memcpy(joined_begin(j, member), &score, sizeof(score));
    return j->bytes;
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

/* An index item taken apart; a lean one has no member. */
static struct zset_item index_item(const struct dict_item *item, bool *full)
{
    struct zset_item z = {slice_of(item->value.data + 8, item->value.size - 8), 0};
    memcpy(&z.score, item->value.data, sizeof(z.score));
    *full = item->value.size > 8;
    return z;
}

void zset_tree_init(struct zset_root *z)
{
    btree_init(&z->tree);
    dict_init(&z->index, DICT_INDEX);
}

void zset_tree_clear(struct zset_root *z, struct epoch *e)
{
    btree_clear(&z->tree, e);
    dict_clear(&z->index, e);
}

static bool seek(const struct zset_root *z, double score, struct slice member,
                 struct btree_pos *pos)
{
    struct joined j;
    bool equal = btree_seek(&z->tree, tree_item_begin(&j, score, member), pos);
    joined_end(&j);
    return equal;
}

/* Find the member's index item. A full one is told by the member in it, a lean one by the tree. If
 * hashes are equal, a lean item may be another member's while ours is full, so a full one is
 * preferred. The empty member's item looks lean: that is as good, the tree tells. *sought says that
 * found->pos was set on the way. */
static bool find_in_index(const struct zset_root *z, struct slice member, uint64_t hash,
                          struct zset_found *found, bool *sought)
{
    struct dict_item item;
    struct dict_place place;
    bool have = false;
    *sought = false;
    for (bool more = dict_find(&z->index, hash, hash_key(&hash), &item, &place); more;
         more = dict_find_next(&z->index, hash_key(&hash), &item, &place)) {
        bool full;
        struct zset_item candidate = index_item(&item, &full);
        if (full && slice_equal(candidate.member, member)) {
            found->score = candidate.score;
            found->full = true;
            found->place = place;
            *sought = false;
            return true;
        }
        if (!full && !have && seek(z, candidate.score, member, &found->pos)) {
            found->score = candidate.score;
            found->full = false;
            found->place = place;
            *sought = have = true;
        }
    }
    return have;
}

bool zset_tree_score(const struct zset_root *z, struct slice member, double *score)
{
    struct zset_found found;
    bool sought;
    if (!find_in_index(z, member, hash_member(member), &found, &sought))
        return false;
    *score = found.score;
    return true;
}

bool zset_tree_find(const struct zset_root *z, struct slice member, uint64_t hash,
                    struct zset_found *found)
{
    bool sought;
    if (!find_in_index(z, member, hash, found, &sought))
        return false;
    if (!sought) {
        bool there = seek(z, found->score, member, &found->pos);
        assert(there);
        (void)there;
    }
    return true;
}

bool zset_tree_rank(const struct zset_root *z, struct slice member, uint64_t *rank, double *score)
{
    struct zset_found found;
    if (!zset_tree_find(z, member, hash_member(member), &found))
        return false;
    *rank = found.pos.rank;
    *score = found.score;
    return true;
}

/* Make the index items of these members, who all have this score, full. */
static void make_full(struct zset_root *z, struct epoch *e, const struct btree_pos *first,
                      unsigned count)
{
    struct btree_pos pos = *first;
    for (unsigned i = 0; i < count; i++) {
        struct zset_item item = item_at(&pos);
        struct zset_found found;
        bool sought;
        bool there = find_in_index(z, item.member, hash_member(item.member), &found, &sought);
        assert(there);
        (void)there;
        if (!found.full) {
            struct joined j;
            dict_set_value(&z->index, e, &found.place,
                           full_value_begin(&j, item.score, item.member));
            joined_end(&j);
        }
        btree_next(&pos);
    }
}

static bool has_score(const struct btree_pos *pos, const char score[8])
{
    return memcmp(btree_item(pos).data, score, 8) == 0;
}

/* A member is about to be inserted at pos with this score: whether its index item must be full. If
 * the bound is passed just now, those that are there are made full. */
static bool must_be_full(struct zset_root *z, struct epoch *e, const struct btree_pos *pos,
                         double score)
{
    char bytes[8];
    btree_put_double(bytes, score);
    struct btree_pos p = *pos;
    unsigned behind = 0, before = 0;
    if (!btree_at_end(&p) && has_score(&p, bytes)) {
        do
            behind++;
        while (behind <= ZSET_LEAN_MAX && btree_next(&p) && has_score(&p, bytes));
        if (behind > ZSET_LEAN_MAX)
            return true;
        p = *pos;
    }
    struct btree_pos first = *pos;
    while (p.rank > 0 && btree_prev(&p) && has_score(&p, bytes)) {
        first = p;
        if (++before + behind > ZSET_LEAN_MAX)
            return true;
    }
    if (before + behind < ZSET_LEAN_MAX)
        return false;
    make_full(z, e, &first, ZSET_LEAN_MAX);
    return true;
}

static void add_to_index(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                         double score, bool full)
{
    struct joined j;
    j.heap = NULL;
    struct slice value = full ? full_value_begin(&j, score, member)
                              : slice_of(&score, sizeof(score));
    dict_add(&z->index, e, hash, hash_key(&hash), value);
    joined_end(&j);
}

void zset_tree_insert(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      double score)
{
    struct joined j;
    struct slice item = tree_item_begin(&j, score, member);
    struct btree_pos pos;
    btree_seek(&z->tree, item, &pos);
    bool full = must_be_full(z, e, &pos, score);
    btree_insert(&z->tree, e, &pos, item);
    joined_end(&j);
    add_to_index(z, e, member, hash, score, full);
}

void zset_tree_append(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                      double score, uint64_t run)
{
    if (run == ZSET_LEAN_MAX + 1) {
        struct btree_pos first;
        btree_seek_rank(&z->tree, z->tree.count - ZSET_LEAN_MAX, &first);
        make_full(z, e, &first, ZSET_LEAN_MAX);
    }
    struct joined j;
    btree_append(&z->tree, e, tree_item_begin(&j, score, member));
    joined_end(&j);
    add_to_index(z, e, member, hash, score, run > ZSET_LEAN_MAX);
}

/* The place in the index of a member whose score is known, without a look at the tree. Two lean
 * items with the same hash and score are alike: either will do. */
static struct dict_place index_place(const struct zset_root *z, struct slice member, uint64_t hash,
                                     double score)
{
    struct dict_item item;
    struct dict_place place, lean = {0, 0};
    bool have = false;
    for (bool more = dict_find(&z->index, hash, hash_key(&hash), &item, &place); more;
         more = dict_find_next(&z->index, hash_key(&hash), &item, &place)) {
        bool full;
        struct zset_item candidate = index_item(&item, &full);
        if (candidate.score != score)
            continue;
        if (full && slice_equal(candidate.member, member))
            return place;
        if (!full && !have) {
            lean = place;
            have = true;
        }
    }
    assert(have);
    return lean;
}

void zset_tree_move(struct zset_root *z, struct epoch *e, struct slice member, uint64_t hash,
                    struct zset_found *found, double score)
{
    struct joined j;
    struct slice item = tree_item_begin(&j, score, member);
    btree_remove(&z->tree, e, &found->pos);
    btree_seek(&z->tree, item, &found->pos);
    bool full = must_be_full(z, e, &found->pos, score);
    btree_insert(&z->tree, e, &found->pos, item);
    joined_end(&j);
    if (!full) {
        dict_set_value(&z->index, e, &found->place, slice_of(&score, sizeof(score)));
        return;
    }
    /* Other items may have been made full meanwhile, which moves items about. */
    struct dict_place place = index_place(z, member, hash, found->score);
    dict_set_value(&z->index, e, &place, full_value_begin(&j, score, member));
    joined_end(&j);
}

void zset_tree_remove(struct zset_root *z, struct epoch *e, struct zset_found *found)
{
    dict_remove(&z->index, e, &found->place);
    btree_remove(&z->tree, e, &found->pos);
}

void zset_tree_remove_ranks(struct zset_root *z, struct epoch *e, uint64_t first, uint64_t count)
{
    struct btree_pos pos;
    btree_seek_rank(&z->tree, first, &pos);
    for (uint64_t i = 0; i < count; i++) {
        if (i > 0)
            btree_next(&pos);
        struct zset_item item = item_at(&pos);
        struct dict_place place = index_place(z, item.member, hash_member(item.member),
                                              item.score);
        dict_remove(&z->index, e, &place);
    }
    if (count == 1)
        btree_remove(&z->tree, e, &pos);
    else
        btree_remove_range(&z->tree, e, first, count);
}

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

struct scan {
    const struct zset_root *z;
    zset_visit_fn *fn;
    void *ctx;
};

static void scan_index_item(void *ctx, const struct dict_item *item)
{
    const struct scan *scan = ctx;
    bool full;
    struct zset_item z = index_item(item, &full);
    if (full) {
        scan->fn(scan->ctx, &z);
        return;
    }
    /* Few share this score. Equal hashes are each given once for each of them, as SCAN may. */
    char score[8];
    btree_put_double(score, z.score);
    struct btree_pos pos;
    btree_seek(&scan->z->tree, slice_of(score, sizeof(score)), &pos);
    while (!btree_at_end(&pos) && has_score(&pos, score)) {
        struct zset_item found = item_at(&pos);
        uint64_t hash = hash_member(found.member);
        if (memcmp(&hash, item->key.data, sizeof(hash)) == 0) {
            scan->fn(scan->ctx, &found);
            /* The empty member comes first, and may be one of many; equal hashes are none. */
            if (found.member.size == 0)
                break;
        }
        btree_next(&pos);
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
    assert(z->tree.count == z->index.count);
    struct btree_pos pos;
    btree_seek_rank(&z->tree, 0, &pos);
    uint64_t run = 0, lean_in_run = 0;
    double run_score = NAN;
    for (; !btree_at_end(&pos); btree_next(&pos)) {
        struct zset_item item = item_at(&pos);
        struct zset_found found;
        bool there = zset_tree_find(z, item.member, hash_member(item.member), &found);
        assert(there && found.score == item.score && found.pos.rank == pos.rank);
        (void)there;
        if (item.score != run_score)
            run = lean_in_run = 0;
        run_score = item.score;
        run++;
        lean_in_run += !found.full && item.member.size > 0;
        assert(run <= ZSET_LEAN_MAX || lean_in_run == 0);
    }
}
