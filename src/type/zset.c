/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sorted sets: the two encodings and the operations that choose between them. See zset_tree.h for
 * what is done to a large one.
 */
#include "type/zset.h"

#include <assert.h>
#include <math.h>

#include "base/mem.h"
#include "type/zset_tree.h"

static struct zset_root *root_of(const struct entry *e)
{
    return (struct zset_root *)entry_value(e);
}

static char *listpack_of(const struct entry *e)
{
    return (char *)entry_value(e);
}

static struct epoch *epoch_of(const struct keyref *ref)
{
    return keyref_epoch(ref);
}

static bool is_tree(const struct entry *e)
{
    return entry_encoding(e) == ENTRY_ZTREE;
}

static uint64_t hash_member(struct slice member)
{
    return hash_bytes(member.data, member.size);
}

uint64_t zset_count(const struct entry *e)
{
    return is_tree(e) ? root_of(e)->tree.count : listpack_count(listpack_of(e)) / 2;
}

const char *zset_encoding_name(const struct entry *e)
{
    return e->flags & ENTRY_GROWN ? "skiplist" : "listpack";
}

size_t zset_format_score(char out[NUMBER_DOUBLE_SIZE], double score)
{
    const double whole_max = 4611686018427387904.0; /* 2^62, as Redis has it */
    if (score >= -whole_max && score <= whole_max && (double)(int64_t)score == score)
        return number_format_int64(out, (int64_t)score);
    return number_format_double(out, score);
}

/* The score that stands at `at`. In a zset from outside it may be no number: false. */
static bool parse_score(const char *lp, uint32_t at, double *score)
{
    struct listpack_value v = listpack_get(lp, at);
    if (v.data)
        return number_parse_double(slice_of(v.data, v.size), score);
    *score = (double)v.number;
    return true;
}

/* The score of the member at `at`. */
static double score_behind(const char *lp, uint32_t at)
{
    double score = 0;
    bool parsed = parse_score(lp, listpack_next(lp, at), &score);
    assert(parsed);
    (void)parsed;
    return score;
}

static uint32_t next_pair(const char *lp, uint32_t at)
{
    return listpack_next(lp, listpack_next(lp, at));
}

/* The member before the one at `at`, 0 if that is the first. */
static uint32_t prev_pair(const char *lp, uint32_t at)
{
    uint32_t score_at = listpack_prev(lp, at);
    return score_at ? listpack_prev(lp, score_at) : 0;
}

/* The member of this rank; 0 behind the last. */
static uint32_t pair_at(const char *lp, uint64_t rank)
{
    return rank < listpack_count(lp) / 2 ? listpack_seek(lp, (int64_t)rank * 2) : 0;
}

/* Whether the pair at `at` comes behind (score, member). */
static bool pair_is_behind(const char *lp, uint32_t at, struct slice member, double score)
{
    double s = score_behind(lp, at);
    if (s != score)
        return s > score;
    char number[LISTPACK_NUMBER_SIZE];
    return slice_compare(listpack_get_slice(lp, at, number), member) > 0;
}

/* Where the pair belongs: the offset of the member to insert before, 0 for the end. */
static uint32_t find_place(const char *lp, struct slice member, double score)
{
    uint32_t at = listpack_first(lp);
    if (at == 0 || !pair_is_behind(lp, listpack_prev(lp, listpack_last(lp)), member, score))
        return 0;
    while (!pair_is_behind(lp, at, member, score))
        at = next_pair(lp, at);
    return at;
}

static void insert_pair(char *lp, struct slice member, struct slice score_text, double score)
{
    uint32_t at = find_place(lp, member, score);
    at = listpack_insert(lp, at, member);
    listpack_insert(lp, listpack_next(lp, at), score_text);
}

bool zset_score(const struct entry *e, struct slice member, double *score)
{
    if (is_tree(e)) {
        struct zset_found found;
        if (!zset_tree_find(root_of(e), member, hash_member(member), &found))
            return false;
        *score = found.score;
        return true;
    }
    const char *lp = listpack_of(e);
    uint32_t at = listpack_find(lp, listpack_first(lp), member, 1);
    if (at == 0)
        return false;
    *score = score_behind(lp, at);
    return true;
}

bool zset_rank(const struct entry *e, struct slice member, uint64_t *rank, double *score)
{
    double found = 0;
    if (is_tree(e)) {
        struct zset_found place;
        if (!zset_tree_find(root_of(e), member, hash_member(member), &place))
            return false;
        *rank = place.pos.rank;
        found = place.score;
    } else {
        const char *lp = listpack_of(e);
        uint32_t at = listpack_first(lp);
        uint64_t n = 0;
        while (at != 0 && !listpack_equal(lp, at, member)) {
            at = next_pair(lp, at);
            n++;
        }
        if (at == 0)
            return false;
        *rank = n;
        found = score_behind(lp, at);
    }
    if (score)
        *score = found;
    return true;
}

void zset_iter_init(struct zset_iter *it, const struct entry *e, uint64_t rank, bool reverse)
{
    it->reverse = reverse;
    it->more = rank < zset_count(e);
    it->lp = NULL;
    if (is_tree(e)) {
        if (it->more)
            btree_seek_rank(&root_of(e)->tree, rank, &it->pos);
    } else {
        it->lp = listpack_of(e);
        it->at = pair_at(it->lp, rank);
    }
}

bool zset_iter_next(struct zset_iter *it, struct zset_item *item)
{
    if (it->lp) {
        if (it->at == 0)
            return false;
        item->member = listpack_get_slice(it->lp, it->at, it->number);
        item->score = score_behind(it->lp, it->at);
        it->at = it->reverse ? prev_pair(it->lp, it->at) : next_pair(it->lp, it->at);
        return true;
    }
    if (!it->more)
        return false;
    *item = zset_tree_item(btree_item(&it->pos));
    it->more = it->reverse ? btree_prev(&it->pos) : btree_next(&it->pos);
    return true;
}

struct zset_ranks zset_ranks_by_score(const struct entry *e, const struct zset_score_range *range)
{
    if (is_tree(e))
        return zset_tree_ranks_by_score(root_of(e), range);
    const char *lp = listpack_of(e);
    struct zset_ranks ranks = {0, 0};
    for (uint32_t at = listpack_first(lp); at != 0; at = next_pair(lp, at)) {
        double score = score_behind(lp, at);
        if (range->min_open ? score <= range->min : score < range->min)
            ranks.first++;
        else if (range->max_open ? score < range->max : score <= range->max)
            ranks.count++;
        else
            break;
    }
    return ranks;
}

bool zset_lex_above_min(const struct zset_lex_range *range, struct slice member)
{
    switch (range->min.kind) {
    case ZSET_LEX_LOWEST:
        return true;
    case ZSET_LEX_HIGHEST:
        return false;
    case ZSET_LEX_CLOSED:
        return slice_compare(member, range->min.member) >= 0;
    case ZSET_LEX_OPEN:
        break;
    }
    return slice_compare(member, range->min.member) > 0;
}

bool zset_lex_below_max(const struct zset_lex_range *range, struct slice member)
{
    switch (range->max.kind) {
    case ZSET_LEX_LOWEST:
        return false;
    case ZSET_LEX_HIGHEST:
        return true;
    case ZSET_LEX_CLOSED:
        return slice_compare(member, range->max.member) <= 0;
    case ZSET_LEX_OPEN:
        break;
    }
    return slice_compare(member, range->max.member) < 0;
}

/* The members from the first that is not before the range to the one before the first that is
 * behind it; seen from the other end in reverse. */
static struct zset_ranks ranks_by_walking(const struct entry *e, const struct zset_lex_range *range,
                                          bool reverse)
{
    uint64_t count = zset_count(e), skipped = 0, within = 0;
    struct zset_ranks none = {0, 0};
    struct zset_iter it;
    struct zset_item item;
    /* When the last member is before the range, or the first behind it, there is none in it. */
    zset_iter_init(&it, e, count - 1, true);
    if (!zset_iter_next(&it, &item) || !zset_lex_above_min(range, item.member))
        return none;
    zset_iter_init(&it, e, 0, false);
    if (!zset_iter_next(&it, &item) || !zset_lex_below_max(range, item.member))
        return none;
    zset_iter_init(&it, e, reverse ? count - 1 : 0, reverse);
    while (zset_iter_next(&it, &item)) {
        bool above = zset_lex_above_min(range, item.member);
        bool below = zset_lex_below_max(range, item.member);
        if (within == 0 && !(reverse ? below : above)) {
            skipped++;
            continue;
        }
        if (!(reverse ? above : below))
            break;
        within++;
    }
    return (struct zset_ranks){reverse ? count - skipped - within : skipped, within};
}

struct zset_ranks zset_ranks_by_lex(const struct entry *e, const struct zset_lex_range *range,
                                    bool reverse)
{
    return e->flags & ENTRY_GROWN ? zset_tree_ranks_by_lex(root_of(e), range)
                                  : ranks_by_walking(e, range, reverse);
}

/* Make it a tree; creates the key where there is none. */
static void make_tree(struct keyref *ref)
{
    if (!ref->entry) {
        struct entry *e = keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_ZSET, ENTRY_ZTREE, 0);
        zset_tree_init(root_of(e));
        return;
    }
    struct zset_root root;
    zset_tree_init(&root);
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, ref->entry, 0, false);
    while (zset_iter_next(&it, &item)) {
        uint64_t hash = hash_member(item.member);
        zset_tree_insert(&root, epoch_of(ref), item.member, hash, item.score);
    }
    struct entry *e = keyref_reencode(ref, ENTRY_ZTREE, 0);
    *root_of(e) = root;
}

/* What the flags make of a score for a member that has one. */
static enum zset_add_result decide(double current, unsigned flags, double *score)
{
    if (flags & ZSET_NX)
        return ZSET_SKIPPED;
    double s = flags & ZSET_INCR ? current + *score : *score;
    if (isnan(s))
        return ZSET_NAN;
    s += 0.0; /* turns -0.0 into 0.0 */
    if (((flags & ZSET_GT) && s <= current) || ((flags & ZSET_LT) && s >= current))
        return ZSET_SKIPPED;
    *score = s;
    return s == current ? ZSET_SAME : ZSET_UPDATED;
}

static bool beyond_limits(const struct encoding_limits *limits, uint64_t count, struct slice member)
{
    return count > (uint64_t)limits->zset_max_listpack_entries ||
           member.size > (uint64_t)limits->zset_max_listpack_value;
}

/* Room for a new pair in a listpack; false when it must be a tree now, which it then is. */
static bool make_room(struct keyref *ref, struct slice member, struct slice score_text)
{
    struct entry *e = ref->entry;
    bool grown = beyond_limits(&ref->db->ks->limits, (e ? zset_count(e) : 0) + 1, member);
    size_t size = e ? e->value_size : LISTPACK_EMPTY_SIZE;
    size += (size_t)listpack_entry_size(member) + listpack_entry_size(score_text);
    if (grown || size > ENTRY_EMBED_MAX) {
        make_tree(ref);
        if (grown)
            keyref_own(ref)->flags |= ENTRY_GROWN;
        return false;
    }
    if (e)
        keyref_resize(ref, size);
    else
        listpack_init(
            listpack_of(keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_ZSET, ENTRY_LISTPACK, size)));
    return true;
}

static void add_to_tree(struct keyref *ref, struct slice member, uint64_t hash, double score)
{
    struct entry *e = keyref_own(ref);
    struct zset_root *root = root_of(e);
    zset_tree_insert(root, epoch_of(ref), member, hash, score);
    if (beyond_limits(&ref->db->ks->limits, root->tree.count, member))
        e->flags |= ENTRY_GROWN;
}

static enum zset_add_result add_large(struct keyref *ref, struct slice member, unsigned flags,
                                      double *score)
{
    uint64_t hash = hash_member(member);
    struct zset_root *root = root_of(keyref_own(ref));
    struct zset_found found;
    if (!zset_tree_find(root, member, hash, &found)) {
        if (flags & ZSET_XX)
            return ZSET_SKIPPED;
        add_to_tree(ref, member, hash, *score);
        return ZSET_ADDED;
    }
    enum zset_add_result result = decide(found.score, flags, score);
    if (result == ZSET_UPDATED)
        zset_tree_move(root, epoch_of(ref), member, hash, &found, *score);
    return result;
}

static enum zset_add_result add_small(struct keyref *ref, struct slice member, unsigned flags,
                                      double *score)
{
    char *lp = ref->entry ? listpack_of(ref->entry) : NULL;
    uint32_t at = lp ? listpack_find(lp, listpack_first(lp), member, 1) : 0;
    char number[NUMBER_DOUBLE_SIZE];
    if (at == 0) {
        if (flags & ZSET_XX)
            return ZSET_SKIPPED;
        struct slice text = slice_of(number, zset_format_score(number, *score));
        if (make_room(ref, member, text))
            insert_pair(listpack_of(ref->entry), member, text, *score);
        else
            add_to_tree(ref, member, hash_member(member), *score);
        return ZSET_ADDED;
    }
    enum zset_add_result result = decide(score_behind(lp, at), flags, score);
    if (result != ZSET_UPDATED)
        return result;
    struct slice text = slice_of(number, zset_format_score(number, *score));
    int64_t size =
        ref->entry->value_size + listpack_replace_growth(lp, listpack_next(lp, at), text);
    if (size > ENTRY_EMBED_MAX) {
        make_tree(ref);
        return add_large(ref, member, 0, score);
    }
    if ((size_t)size > ref->entry->value_size)
        keyref_resize(ref, (size_t)size);
    lp = listpack_of(keyref_own(ref));
    listpack_remove(lp, at, 2);
    insert_pair(lp, member, text, *score);
    if ((size_t)size < ref->entry->value_size)
        keyref_resize(ref, (size_t)size);
    return ZSET_UPDATED;
}

enum zset_add_result zset_add(struct keyref *ref, struct slice member, double score, unsigned flags,
                              double *result_score)
{
    score += 0.0; /* turns -0.0 into 0.0 */
    enum zset_add_result result = ref->entry && is_tree(ref->entry)
                                      ? add_large(ref, member, flags, &score)
                                      : add_small(ref, member, flags, &score);
    if (result_score)
        *result_score = score;
    return result;
}

static void remove_pairs(struct keyref *ref, uint32_t at, uint32_t pairs)
{
    char *lp = listpack_of(ref->entry);
    if (pairs == listpack_count(lp) / 2) {
        keyref_delete(ref);
        return;
    }
    lp = listpack_of(keyref_own(ref));
    listpack_remove(lp, at, pairs * 2);
    keyref_resize(ref, listpack_size(lp));
}

bool zset_remove(struct keyref *ref, struct slice member)
{
    if (!is_tree(ref->entry)) {
        const char *lp = listpack_of(ref->entry);
        uint32_t at = listpack_find(lp, listpack_first(lp), member, 1);
        if (at != 0)
            remove_pairs(ref, at, 1);
        return at != 0;
    }
    struct zset_root *root = root_of(keyref_own(ref));
    struct zset_found found;
    uint64_t hash = hash_member(member);
    if (!zset_tree_find(root, member, hash, &found))
        return false;
    if (root->tree.count == 1)
        keyref_delete(ref);
    else
        zset_tree_remove(root, epoch_of(ref), member, hash, &found);
    return true;
}

void zset_remove_ranks(struct keyref *ref, uint64_t first, uint64_t count)
{
    assert(first + count <= zset_count(ref->entry));
    if (count == 0)
        return;
    if (!is_tree(ref->entry))
        remove_pairs(ref, pair_at(listpack_of(ref->entry), first), (uint32_t)count);
    else if (count == zset_count(ref->entry))
        keyref_delete(ref);
    else
        zset_tree_remove_ranks(root_of(keyref_own(ref)), epoch_of(ref), first, count);
}

uint64_t zset_scan(const struct entry *e, uint64_t cursor, size_t want, zset_visit_fn *fn,
                   void *ctx)
{
    if (e->flags & ENTRY_GROWN)
        return zset_tree_scan(root_of(e), cursor, want, fn, ctx);
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, e, 0, false);
    while (zset_iter_next(&it, &item))
        fn(ctx, &item);
    return 0;
}

void zset_builder_init(struct zset_builder *b, struct epoch *epoch,
                       const struct encoding_limits *limits)
{
    b->epoch = epoch;
    b->limits = limits;
    b->large = b->grown = b->bulk = false;
    b->run = 0;
    b->run_score = 0;
    zset_tree_init(&b->root);
    listpack_init(b->lp);
}

static void builder_append_large(struct zset_builder *b, struct slice member, double score)
{
    b->run = b->run > 0 && b->run_score == score ? b->run + 1 : 1;
    b->run_score = score;
    zset_tree_append(&b->root, b->epoch, member, hash_member(member), score, b->run);
}

/* Make room in the listpack for one more pair, or a tree of it. */
static void builder_make_room(struct zset_builder *b, struct slice member, struct slice score_text)
{
    if (beyond_limits(b->limits, zset_builder_count(b) + 1, member))
        b->grown = true;
    if (b->large)
        return;
    size_t size = (size_t)listpack_size(b->lp) + listpack_entry_size(member) +
                  listpack_entry_size(score_text);
    if (!b->grown && size <= ENTRY_EMBED_MAX)
        return;
    b->large = true;
    char number[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(b->lp); at != 0; at = next_pair(b->lp, at))
        builder_append_large(b, listpack_get_slice(b->lp, at, number), score_behind(b->lp, at));
}

void zset_builder_begin(struct zset_builder *b, uint64_t count)
{
    assert(zset_builder_count(b) == 0);
    if (count > (uint64_t)b->limits->zset_max_listpack_entries)
        b->large = b->grown = true;
}

bool zset_builder_begin_bulk(struct zset_builder *b, uint64_t count)
{
    zset_builder_begin(b, count);
    b->bulk = b->large;
    if (b->bulk)
        btree_builder_begin(&b->sorted, b->epoch);
    return b->bulk;
}

bool zset_builder_settle(struct zset_builder *b)
{
    if (!b->bulk)
        return true;
    b->bulk = false;
    btree_builder_finish(&b->sorted, &b->root.tree);
    return zset_tree_index(&b->root, b->epoch);
}

bool zset_builder_add(struct zset_builder *b, struct slice member, double score)
{
    if (isnan(score))
        return false;
    score += 0.0; /* turns -0.0 into 0.0 */
    if (b->bulk) {
        if (zset_tree_add_sorted(&b->sorted, member, score))
            return true;
        /* Not in order: what follows is added one by one. */
        if (!zset_builder_settle(b))
            return false;
    }
    uint64_t hash = 0;
    if (b->large) {
        hash = hash_member(member);
        struct zset_found found;
        if (zset_tree_find(&b->root, member, hash, &found))
            return false;
    } else if (listpack_first(b->lp) != 0 &&
               listpack_find(b->lp, listpack_first(b->lp), member, 1) != 0) {
        return false;
    }
    char number[NUMBER_DOUBLE_SIZE];
    struct slice text = {number, 0};
    bool was_large = b->large;
    if (!was_large)
        text.size = zset_format_score(number, score);
    builder_make_room(b, member, text);
    if (b->large) {
        if (!was_large)
            hash = hash_member(member);
        zset_tree_insert(&b->root, b->epoch, member, hash, score);
    } else {
        insert_pair(b->lp, member, text, score);
    }
    return true;
}

void zset_builder_append(struct zset_builder *b, struct slice member, double score)
{
    score += 0.0; /* turns -0.0 into 0.0 */
    char number[NUMBER_DOUBLE_SIZE];
    struct slice text = {number, 0};
    if (!b->large)
        text.size = zset_format_score(number, score);
    builder_make_room(b, member, text);
    if (b->large) {
        builder_append_large(b, member, score);
    } else {
        listpack_insert(b->lp, 0, member);
        listpack_insert(b->lp, 0, text);
    }
}

/* What a listpack from outside is as a zset. */
enum listpack_state { LISTPACK_ORDERED, LISTPACK_UNORDERED, LISTPACK_BAD };

static enum listpack_state look_at_listpack(const struct zset_builder *b, const char *lp)
{
    enum listpack_state state = LISTPACK_ORDERED;
    double last_score = 0;
    uint32_t last_at = 0;
    char number[LISTPACK_NUMBER_SIZE], last_number[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp), next; at != 0; at = next) {
        uint32_t score_at = listpack_next(lp, at);
        double score;
        if (score_at == 0 || !parse_score(lp, score_at, &score))
            return LISTPACK_BAD;
        struct slice member = listpack_get_slice(lp, at, number);
        if (last_at != 0) {
            bool behind = score > last_score;
            if (score == last_score)
                behind = slice_compare(listpack_get_slice(lp, last_at, last_number), member) < 0;
            if (!behind)
                state = LISTPACK_UNORDERED;
        }
        /* A score written as -0 must be written anew; a member too long leads to a tree. */
        if ((score == 0 && signbit(score)) || beyond_limits(b->limits, 0, member))
            state = LISTPACK_UNORDERED;
        last_score = score;
        last_at = at;
        next = listpack_next(lp, score_at);
    }
    return state;
}

bool zset_builder_add_listpack(struct zset_builder *b, const char *lp)
{
    assert(zset_builder_count(b) == 0);
    enum listpack_state state = look_at_listpack(b, lp);
    if (state == LISTPACK_BAD)
        return false;
    size_t size = listpack_size(lp);
    if (state == LISTPACK_ORDERED && size <= ENTRY_EMBED_MAX &&
        listpack_count(lp) / 2 <= (uint64_t)b->limits->zset_max_listpack_entries) {
        if (!listpack_distinct(lp, 1))
            return false;
        memcpy(b->lp, lp, size);
        return true;
    }
    char number[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp); at != 0; at = next_pair(lp, at)) {
        if (!zset_builder_add(b, listpack_get_slice(lp, at, number), score_behind(lp, at)))
            return false;
    }
    return true;
}

uint64_t zset_builder_count(const struct zset_builder *b)
{
    if (b->bulk)
        return b->sorted.count;
    return b->large ? b->root.tree.count : listpack_count(b->lp) / 2;
}

struct entry *zset_builder_finish(struct zset_builder *b, struct slice key, int64_t due)
{
    assert(!b->bulk);
    if (zset_builder_count(b) == 0)
        return NULL;
    struct entry *e;
    if (b->large) {
        e = entry_new(key, due, ENTRY_ZSET, ENTRY_ZTREE, 0);
        *root_of(e) = b->root;
        if (b->grown)
            e->flags |= ENTRY_GROWN;
    } else {
        size_t size = listpack_size(b->lp);
        e = entry_new(key, due, ENTRY_ZSET, ENTRY_LISTPACK, size);
        memcpy(listpack_of(e), b->lp, size);
    }
    zset_builder_init(b, b->epoch, b->limits);
    return e;
}

void zset_builder_reset(struct zset_builder *b)
{
    if (b->bulk)
        btree_builder_finish(&b->sorted, &b->root.tree);
    zset_tree_clear(&b->root, b->epoch);
    zset_builder_init(b, b->epoch, b->limits);
}

void zset_check(const struct entry *e, const struct epoch *epoch)
{
    assert(entry_type(e) == ENTRY_ZSET);
    if (is_tree(e)) {
        zset_tree_check(root_of(e), epoch);
        return;
    }
    const char *lp = listpack_of(e);
    assert(listpack_check(lp, e->value_size));
    assert(listpack_count(lp) > 0 && listpack_count(lp) % 2 == 0);
    assert(!(e->flags & ENTRY_GROWN));
    for (uint32_t at = listpack_first(lp); at != 0; at = next_pair(lp, at)) {
        char number[LISTPACK_NUMBER_SIZE];
        uint32_t next = next_pair(lp, at);
        assert(next == 0 ||
               pair_is_behind(lp, next, listpack_get_slice(lp, at, number), score_behind(lp, at)));
    }
}
