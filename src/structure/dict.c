/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How a change goes: the leaf is found; if it is owned and the change fits in its block, it is made
 * there, without looking at the pages above (an owned leaf has owned pages). Otherwise the path is
 * made owned and the leaf is replaced: by a copy in a block of the right size, by its two halves,
 * or by itself joined with its sibling.
 */
#include "structure/dict.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "structure/dict_leaf.h"

/* Two siblings that fit together in this are merged. The distance to DICT_LEAF_MAX is what has to
 * be added before the leaf splits again. */
#define MERGE_MAX (DICT_LEAF_MAX / 4 * 3)

static inline struct dict_leaf *leaf_at(const struct dict *d, uint64_t hash)
{
    trie_word word = trie_find(d->root, hash);
    return word ? dict_leaf_of(word) : NULL;
}

static inline trie_word word_of(const struct dict_leaf *leaf)
{
    return trie_leaf_word(leaf, 0);
}

void dict_init(struct dict *d, enum dict_kind kind)
{
    *d = (struct dict){.kind = (uint8_t)kind};
}

uint64_t dict_hash(const struct dict *d, struct slice key)
{
    if (d->kind == DICT_INDEX) {
        uint64_t hash;
        assert(key.size == sizeof(hash));
        memcpy(&hash, key.data, sizeof(hash));
        return hash;
    }
    return hash_bytes(key.data, key.size);
}

void dict_prefetch(const struct dict *d, uint64_t hash)
{
    const struct dict_leaf *leaf = leaf_at(d, hash);
    __builtin_prefetch(leaf);
    __builtin_prefetch((const char *)leaf + 64);
}

void dict_prefetch_item(const struct dict *d, uint64_t hash)
{
    const struct dict_leaf *leaf = leaf_at(d, hash);
    if (!leaf)
        return;
    uint8_t tag = dict_leaf_tag(hash);
    uint32_t count = leaf->count;
    for (uint32_t base = 0; base < count; base += 16) {
        uint32_t mask = dict_leaf_match(leaf->tags + base, tag);
        if (count - base < 16)
            mask &= (1U << (count - base)) - 1;
        if (mask) {
            __builtin_prefetch(dict_leaf_item(leaf, base + (uint32_t)__builtin_ctz(mask)));
            return;
        }
    }
}

static bool found(const struct dict_leaf *leaf, uint32_t index, uint64_t hash,
                  struct dict_item *item, struct dict_place *place)
{
    if (index == DICT_LEAF_NONE)
        return false;
    if (item)
        *item = dict_item_read(leaf->kind, dict_leaf_item(leaf, index));
    if (place)
        *place = (struct dict_place){hash, index};
    return true;
}

bool dict_find(const struct dict *d, uint64_t hash, struct slice key, struct dict_item *item,
               struct dict_place *place)
{
    const struct dict_leaf *leaf = leaf_at(d, hash);
    if (!leaf)
        return false;
    /* The offsets stand mostly in the second line: it comes together with the first. */
    __builtin_prefetch((const char *)leaf + 64);
    return found(leaf, dict_leaf_find(leaf, 0, dict_leaf_tag(hash), key), hash, item, place);
}

bool dict_find_next(const struct dict *d, struct slice key, struct dict_item *item,
                    struct dict_place *place)
{
    const struct dict_leaf *leaf = leaf_at(d, place->hash);
    uint8_t tag = dict_leaf_tag(place->hash);
    return found(leaf, dict_leaf_find(leaf, place->index + 1, tag, key), place->hash, item, place);
}

static uint32_t find_hash(const struct dict_leaf *leaf, uint32_t from, uint64_t hash)
{
    for (uint32_t i = from; i < leaf->count; i++) {
        if (leaf->tags[i] == dict_leaf_tag(hash) &&
            dict_item_hash(leaf->kind, dict_leaf_item(leaf, i)) == hash)
            return i;
    }
    return DICT_LEAF_NONE;
}

bool dict_find_hash(const struct dict *d, uint64_t hash, struct dict_item *item,
                    struct dict_place *place)
{
    const struct dict_leaf *leaf = leaf_at(d, hash);
    return leaf && found(leaf, find_hash(leaf, 0, hash), hash, item, place);
}

bool dict_find_hash_next(const struct dict *d, struct dict_item *item, struct dict_place *place)
{
    const struct dict_leaf *leaf = leaf_at(d, place->hash);
    return found(leaf, find_hash(leaf, place->index + 1, place->hash), place->hash, item, place);
}

/* ---- parts and blocks ---- */

static size_t block_size(const struct dict_block *block)
{
    return sizeof(*block) + block->size;
}

static void put_part(struct dict_raw *raw, struct slice s, uint64_t hash, const struct epoch *e)
{
    char *p = raw->bytes + raw->size;
    if (s.size <= DICT_INLINE_MAX) {
        *p = (char)s.size;
        if (s.size)
            memcpy(p + 1, s.data, s.size);
    } else {
        struct dict_block *block = mem_alloc(sizeof(*block) + s.size);
        *block = (struct dict_block){.birth = e->now, .size = s.size, .hash = hash};
        memcpy(block->bytes, s.data, s.size);
        *p = (char)DICT_PART_BLOCK;
        memcpy(p + 1, &block, sizeof(block));
        raw->has_block = true;
    }
    raw->size += dict_part_size(p);
}

static void put_due(struct dict_raw *raw, int64_t due)
{
    raw->due = due;
    if (due == INT64_MAX)
        return;
    raw->bytes[raw->size] = (char)DICT_PART_DUE;
    memcpy(raw->bytes + raw->size + 1, &due, sizeof(due));
    raw->size += DICT_DUE_SIZE;
}

static void make_raw(struct dict_raw *raw, uint32_t kind, const struct epoch *e, uint64_t hash,
                     struct slice key, struct slice value, int64_t due)
{
    raw->size = 0;
    raw->has_block = false;
    raw->due = INT64_MAX;
    if (kind == DICT_INDEX) {
        assert(key.size == 8 && value.size == 8);
        memcpy(raw->bytes, key.data, 8);
        memcpy(raw->bytes + 8, value.data, 8);
        raw->size = DICT_INDEX_ITEM;
        return;
    }
    put_part(raw, key, hash, e);
    if (kind == DICT_MAP) {
        put_due(raw, due);
        put_part(raw, value, 0, e);
    } else {
        assert(value.size == 0 && due == INT64_MAX);
    }
}

static void retire_part(struct epoch *e, const char *part)
{
    if (dict_part_is_block(part)) {
        struct dict_block *block = dict_part_block(part);
        epoch_retire(e, block, block_size(block), block->birth);
    }
}

static void retire_leaf(struct epoch *e, struct dict_leaf *leaf)
{
    epoch_retire(e, leaf, leaf->size, leaf->birth);
}

/* ---- replacing leaves ---- */

/* Put a copy of the leaf in a block of `size` bytes in its place. */
static struct dict_leaf *replace_leaf(struct dict *d, struct epoch *e, uint64_t hash, uint32_t size)
{
    struct trie_path path;
    trie_path_own(e, &d->root, hash, &path);
    struct dict_leaf *old = dict_leaf_of(path.leaf);
    struct dict_leaf *copy = dict_leaf_copy(old, e->now, size);
    trie_path_set(&path, word_of(copy));
    retire_leaf(e, old);
    return copy;
}

static struct dict_leaf *own_leaf(struct dict *d, struct epoch *e, uint64_t hash)
{
    struct dict_leaf *leaf = leaf_at(d, hash);
    if (epoch_owned(e, leaf->birth))
        return leaf;
    return replace_leaf(d, e, hash, leaf->size);
}

/* Split the leaf at the path's end in two, leaving room for an item of `size` bytes that is to come
 * with `hash`. The path then leads to where it belongs. False, and nothing done, when all items
 * and the new one have one hash, so that no split could part them. */
static bool split_leaf(struct epoch *e, struct trie_path *path, uint64_t hash, uint32_t size)
{
    struct dict_leaf *leaf = dict_leaf_of(path->leaf);
    uint32_t kind = leaf->kind, depth = leaf->depth, count = leaf->count;
    uint8_t side[DICT_LEAF_LIMIT / 4];
    uint32_t counts[2] = {0, 0}, used[2] = {0, 0};
    bool same = true;
    for (uint32_t i = 0; i < count; i++) {
        const char *item = dict_leaf_item(leaf, i);
        uint64_t h = dict_item_hash(kind, item);
        same &= h == hash;
        /* At depth 64 all the hashes are equal: the shift is not used then. */
        side[i] = (uint8_t)(h >> (63 - (depth & 63)) & 1);
        counts[side[i]]++;
        used[side[i]] += dict_item_size(kind, item);
    }
    if (same)
        return false;
    uint32_t target = (uint32_t)(hash >> (63 - depth) & 1);
    struct dict_leaf *half[2];
    for (uint32_t k = 0; k < 2; k++) {
        uint32_t need = dict_leaf_need(kind, counts[k], used[k]);
        uint32_t with = dict_leaf_need(kind, counts[k] + 1, used[k] + size);
        if (k == target && with <= DICT_LEAF_MAX)
            need = with;
        half[k] = dict_leaf_new(kind, depth + 1, e->now, dict_leaf_class(need), counts[k]);
        half[k]->has_blocks = leaf->has_blocks;
    }
    uint32_t filled[2] = {0, 0};
    for (uint32_t i = 0; i < count; i++) {
        const char *item = dict_leaf_item(leaf, i);
        dict_leaf_fill(half[side[i]], filled[side[i]]++, leaf->tags[i], item,
                       dict_item_size(kind, item));
    }
    for (uint32_t k = 0; leaf->due != INT64_MAX && k < 2; k++)
        half[k]->due = dict_leaf_first_due(half[k]);
    trie_path_split(e, path, word_of(half[0]), word_of(half[1]), hash);
    retire_leaf(e, leaf);
    return true;
}

/* The general case of insert: the leaf has to be made, copied, enlarged or split. */
static __attribute__((noinline)) void insert_slowly(struct dict *d, struct epoch *e, uint64_t hash,
                                                    const struct dict_raw *raw)
{
    struct trie_path path;
    trie_path_own(e, &d->root, hash, &path);
    if (!path.leaf) {
        uint32_t size = dict_leaf_class(dict_leaf_need(d->kind, 1, raw->size));
        struct dict_leaf *leaf = dict_leaf_new(d->kind, 0, e->now, size, 0);
        dict_leaf_put(leaf, dict_leaf_tag(hash), raw);
        trie_path_set(&path, word_of(leaf));
        return;
    }
    for (;;) {
        struct dict_leaf *leaf = dict_leaf_of(path.leaf);
        uint32_t need = dict_leaf_need(leaf->kind, leaf->count + 1U, leaf->used + raw->size);
        if (need > leaf->size && need > DICT_LEAF_MAX && leaf->count > 0 &&
            split_leaf(e, &path, hash, raw->size))
            continue;
        if (need > leaf->size || !epoch_owned(e, leaf->birth)) {
            uint32_t size = dict_leaf_class(need);
            if (size > DICT_LEAF_LIMIT) {
                fprintf(stderr, "holdfast: dict: too many items with one hash\n");
                abort();
            }
            struct dict_leaf *copy =
                dict_leaf_copy(leaf, e->now, size > leaf->size ? size : leaf->size);
            trie_path_set(&path, word_of(copy));
            retire_leaf(e, leaf);
            leaf = copy;
        }
        dict_leaf_put(leaf, dict_leaf_tag(hash), raw);
        trie_path_note_due(&path, raw->due);
        return;
    }
}

static void insert(struct dict *d, struct epoch *e, uint64_t hash, const struct dict_raw *raw)
{
    struct dict_leaf *leaf = leaf_at(d, hash);
    if (leaf && epoch_owned(e, leaf->birth) && dict_leaf_fits(leaf, raw->size) &&
        raw->due >= leaf->due)
        dict_leaf_put(leaf, dict_leaf_tag(hash), raw);
    else
        insert_slowly(d, e, hash, raw);
}

/* Merge the leaf of `hash` with its sibling if they are small enough. */
static bool merge_leaf(struct dict *d, struct epoch *e, uint64_t hash)
{
    struct trie_path path;
    trie_path_own(e, &d->root, hash, &path);
    trie_word other = trie_path_sibling(&path, hash);
    if (!other)
        return false;
    struct dict_leaf *from[2] = {dict_leaf_of(path.leaf), dict_leaf_of(other)};
    uint32_t kind = from[0]->kind, count = (uint32_t)from[0]->count + from[1]->count;
    uint32_t need = dict_leaf_need(kind, count, (uint32_t)from[0]->used + from[1]->used);
    if (need > MERGE_MAX)
        return false;
    struct dict_leaf *merged =
        dict_leaf_new(kind, from[0]->depth - 1U, e->now, dict_leaf_class(need), count);
    uint32_t filled = 0;
    for (uint32_t k = 0; k < 2; k++) {
        merged->has_blocks |= from[k]->has_blocks;
        if (from[k]->due < merged->due)
            merged->due = from[k]->due;
        for (uint32_t i = 0; i < from[k]->count; i++) {
            const char *item = dict_leaf_item(from[k], i);
            dict_leaf_fill(merged, filled++, from[k]->tags[i], item, dict_item_size(kind, item));
        }
    }
    trie_path_merge(e, &path, word_of(merged), hash);
    retire_leaf(e, from[0]);
    retire_leaf(e, from[1]);
    return true;
}

/* After something was taken out of the owned leaf of `hash`. */
static void shrink(struct dict *d, struct epoch *e, uint64_t hash)
{
    for (;;) {
        struct dict_leaf *leaf = leaf_at(d, hash);
        uint32_t need = dict_leaf_need(leaf->kind, leaf->count, leaf->used);
        /* Looking at the sibling costs a cache miss: not while this one alone is half of it. */
        if (leaf->depth > 0 && need <= MERGE_MAX / 2 && merge_leaf(d, e, hash))
            continue;
        /* A quarter of room is left, so that adding does not enlarge it at once again. */
        uint32_t size = dict_leaf_class(need + need / 4);
        if (size < leaf->size)
            replace_leaf(d, e, hash, size);
        return;
    }
}

/* ---- changes ---- */

void dict_add_due(struct dict *d, struct epoch *e, uint64_t hash, struct slice key,
                  struct slice value, int64_t due)
{
    struct dict_raw raw;
    make_raw(&raw, d->kind, e, hash, key, value, due);
    insert(d, e, hash, &raw);
    d->count++;
}

void dict_add(struct dict *d, struct epoch *e, uint64_t hash, struct slice key, struct slice value)
{
    dict_add_due(d, e, hash, key, value, INT64_MAX);
}

/* An item that was due then has gone from the owned leaf, or is due later now. */
static void due_gone(struct dict_leaf *leaf, int64_t due)
{
    if (due != INT64_MAX && due == leaf->due)
        leaf->due = dict_leaf_first_due(leaf);
}

/* Lower the bound of an owned leaf, and those above it. */
static void lower_due(struct dict *d, struct epoch *e, uint64_t hash, int64_t due)
{
    struct trie_path path;
    trie_path_own(e, &d->root, hash, &path);
    dict_leaf_of(path.leaf)->due = due;
    trie_path_note_due(&path, due);
}

/* Put the item in the place of the one at `place` in its owned leaf. */
static void replace_item(struct dict *d, struct epoch *e, struct dict_leaf *leaf,
                         const struct dict_place *place, const struct dict_raw *raw)
{
    const char *item = dict_leaf_item(leaf, place->index);
    int64_t due = dict_value_due(item + dict_part_size(item));
    bool smaller = raw->size < dict_item_size(leaf->kind, item);
    dict_leaf_take(leaf, place->index);
    due_gone(leaf, due);
    insert(d, e, place->hash, raw);
    if (smaller)
        shrink(d, e, place->hash);
}

void dict_set_value(struct dict *d, struct epoch *e, const struct dict_place *place,
                    struct slice value)
{
    dict_set_value_due(d, e, place, value, INT64_MAX);
}

void dict_set_value_due(struct dict *d, struct epoch *e, const struct dict_place *place,
                        struct slice value, int64_t due)
{
    struct dict_leaf *leaf = own_leaf(d, e, place->hash);
    assert(d->kind != DICT_SET && place->index < leaf->count);
    char *item = (char *)leaf + ((const char *)dict_leaf_item(leaf, place->index) - (char *)leaf);
    if (d->kind == DICT_INDEX) {
        assert(value.size == 8);
        memcpy(item + 8, value.data, 8);
        return;
    }
    char *old = item + dict_part_size(item);
    if (due == INT64_MAX && value.size <= DICT_INLINE_MAX && (unsigned char)*old == value.size) {
        /* It stays in its place, and neither did nor does expire. */
        if (value.size)
            memcpy(old + 1, value.data, value.size);
        return;
    }
    struct dict_raw raw;
    raw.size = dict_part_size(item);
    raw.has_block = dict_part_is_block(item);
    memcpy(raw.bytes, item, raw.size);
    const char *fresh = raw.bytes + raw.size;
    put_due(&raw, due);
    put_part(&raw, value, 0, e);
    retire_part(e, dict_value_part(old));
    if (*old == *fresh && due == INT64_MAX) {
        /* Both are blocks. */
        memcpy(old + 1, fresh + 1, dict_part_size(fresh) - 1);
        return;
    }
    replace_item(d, e, leaf, place, &raw);
}

void dict_set_due(struct dict *d, struct epoch *e, const struct dict_place *place, int64_t due)
{
    struct dict_leaf *leaf = own_leaf(d, e, place->hash);
    assert(d->kind == DICT_MAP && place->index < leaf->count);
    char *item = (char *)leaf + ((const char *)dict_leaf_item(leaf, place->index) - (char *)leaf);
    char *value = item + dict_part_size(item);
    if (dict_value_expires(value) && due != INT64_MAX) {
        int64_t old = dict_value_due(value);
        memcpy(value + 1, &due, sizeof(due));
        if (due < leaf->due)
            lower_due(d, e, place->hash, due);
        else
            due_gone(leaf, old);
        return;
    }
    if (!dict_value_expires(value) && due == INT64_MAX)
        return;
    /* The parts stay what they are, blocks among them. */
    const char *part = dict_value_part(value);
    struct dict_raw raw;
    raw.size = dict_part_size(item);
    raw.has_block = dict_part_is_block(item) || dict_part_is_block(part);
    memcpy(raw.bytes, item, raw.size);
    put_due(&raw, due);
    memcpy(raw.bytes + raw.size, part, dict_part_size(part));
    raw.size += dict_part_size(part);
    replace_item(d, e, leaf, place, &raw);
}

/* Take item i out of an owned leaf, with what it has outside. */
static void take_item(struct dict *d, struct epoch *e, struct dict_leaf *leaf, uint32_t i)
{
    if (leaf->has_blocks) {
        const char *item = dict_leaf_item(leaf, i);
        retire_part(e, item);
        if (leaf->kind == DICT_MAP)
            retire_part(e, dict_value_part(item + dict_part_size(item)));
    }
    dict_leaf_take(leaf, i);
    d->count--;
}

void dict_remove(struct dict *d, struct epoch *e, const struct dict_place *place)
{
    if (d->count == 1) {
        dict_clear(d, e);
        return;
    }
    struct dict_leaf *leaf = own_leaf(d, e, place->hash);
    assert(place->index < leaf->count);
    int64_t due = dict_item_read(leaf->kind, dict_leaf_item(leaf, place->index)).due;
    take_item(d, e, leaf, place->index);
    due_gone(leaf, due);
    shrink(d, e, place->hash);
}

/* ---- what is due ---- */

/* Find the first leaf at or behind the hash `from` whose bound is below `before`, under a word
 * whose hashes begin with `first`. On the way the bounds of owned pages are made exact where all
 * that is below was looked at. */
static bool find_due(const struct epoch *e, trie_word word, int64_t before, uint64_t first,
                     uint64_t from, uint64_t *hash)
{
    if (trie_word_due(word) >= before)
        return false;
    if (!TRIE_IS_PAGE(word)) {
        *hash = first > from ? first : from;
        return true;
    }
    struct trie_page *page = trie_page_of(word);
    uint32_t depth = TRIE_PAGE_BITS * (uint32_t)page->level + page->bits;
    uint64_t below = depth == 64 ? 0 : UINT64_MAX >> depth;
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < 1U << page->bits; i++) {
        uint64_t here = first | (uint64_t)i << (64 - depth);
        if (i > 0 && page->slots[i] == page->slots[i - 1])
            continue; /* a leaf that fills several slots */
        uint64_t last = here | below;
        if (!TRIE_IS_PAGE(page->slots[i])) {
            uint32_t d = trie_leaf_of(page->slots[i])->depth;
            last = here | (d == 64 ? 0 : UINT64_MAX >> d);
        }
        if (last >= from && find_due(e, page->slots[i], before, here, from, hash))
            return true;
        if (trie_word_due(page->slots[i]) < least)
            least = trie_word_due(page->slots[i]);
    }
    if (epoch_owned(e, page->birth))
        page->due = least;
    return false;
}

/* So many items at most are taken out of a leaf at once. */
#define EXPIRE_AT_ONCE 64

/* Take items that are due out of the leaf of `hash`. Returns how many. */
static size_t expire_in_leaf(struct dict *d, struct epoch *e, uint64_t hash, int64_t before,
                             size_t want, dict_expire_fn *fn, void *ctx)
{
    struct dict_leaf *leaf = own_leaf(d, e, hash);
    struct slice keys[EXPIRE_AT_ONCE];
    uint32_t at[EXPIRE_AT_ONCE], n = 0;
    if (want > EXPIRE_AT_ONCE)
        want = EXPIRE_AT_ONCE;
    /* From the end on, as the last item takes the place of one that goes. */
    for (uint32_t i = leaf->count; i-- > 0 && n < want;) {
        struct dict_item item = dict_item_read(leaf->kind, dict_leaf_item(leaf, i));
        if (item.due >= before)
            continue;
        keys[n] = item.key;
        at[n++] = i;
    }
    if (n > 0)
        fn(ctx, keys, n);
    if (n == d->count) {
        dict_clear(d, e);
        return n;
    }
    for (uint32_t i = 0; i < n; i++)
        take_item(d, e, leaf, at[i]);
    leaf->due = dict_leaf_first_due(leaf);
    shrink(d, e, hash);
    return n;
}

size_t dict_expire(struct dict *d, struct epoch *e, int64_t before, size_t want, dict_expire_fn *fn,
                   void *ctx)
{
    size_t done = 0;
    uint64_t from = 0, hash;
    while (done < want && d->root) {
        if (find_due(e, d->root, before, 0, from, &hash)) {
            from = hash;
            done += expire_in_leaf(d, e, hash, before, want - done, fn, ctx);
        } else if (from == 0) {
            break;
        } else {
            from = 0; /* once more from the beginning, which makes the bounds exact */
        }
    }
    return done;
}

/* ---- reading through ---- */

/* Cursors are positions in hash order with their bits reversed: a small dict has small cursors,
 * which clients that take them for signed or floating numbers can still hold. */
static uint64_t reverse_bits(uint64_t v)
{
    v = (v >> 1 & 0x5555555555555555U) | (v & 0x5555555555555555U) << 1;
    v = (v >> 2 & 0x3333333333333333U) | (v & 0x3333333333333333U) << 2;
    v = (v >> 4 & 0x0f0f0f0f0f0f0f0fU) | (v & 0x0f0f0f0f0f0f0f0fU) << 4;
    return __builtin_bswap64(v);
}

uint64_t dict_scan(const struct dict *d, uint64_t cursor, size_t want,
                   void (*fn)(void *ctx, const struct dict_item *item), void *ctx)
{
    uint64_t from = reverse_bits(cursor), first, last;
    size_t given = 0;
    /* Leaves may be empty: their number is bounded too. */
    for (size_t visited = 0; visited == 0 || (given < want && visited < want + 16); visited++) {
        trie_word word = trie_leaf_at(d->root, from, &first, &last);
        if (!word)
            return 0;
        const struct dict_leaf *leaf = dict_leaf_of(word);
        for (uint32_t i = 0; i < leaf->count; i++) {
            struct dict_item item = dict_item_read(leaf->kind, dict_leaf_item(leaf, i));
            fn(ctx, &item);
        }
        given += leaf->count;
        if (last == UINT64_MAX)
            return 0;
        from = last + 1;
    }
    return reverse_bits(from);
}

void dict_iter_init(struct dict_iter *it, const struct dict *d)
{
    *it = (struct dict_iter){.dict = d};
}

bool dict_iter_next(struct dict_iter *it, struct dict_item *item)
{
    for (;;) {
        if (it->leaf) {
            const struct dict_leaf *leaf = dict_leaf_of(it->leaf);
            if (it->index < leaf->count) {
                *item = dict_item_read(leaf->kind, dict_leaf_item(leaf, it->index++));
                return true;
            }
        }
        if (it->ended)
            return false;
        uint64_t first, last;
        it->leaf = trie_leaf_at(it->dict->root, it->next_hash, &first, &last);
        it->index = 0;
        it->ended = it->leaf == 0 || last == UINT64_MAX;
        it->next_hash = last + 1;
        if (!it->leaf)
            return false;
    }
}

bool dict_random(const struct dict *d, uint64_t (*rand)(void *ctx), void *ctx,
                 struct dict_item *item)
{
    if (d->count == 0)
        return false;
    /* A leaf is met with probability 2^-depth, so that accepting it in proportion to its items
     * times 2^depth makes all items equal. That product is about d->count for every leaf, rarely
     * four times as much. After many misses (a dict of a few items in many leaves) any will do. */
    const struct dict_leaf *leaf = NULL;
    for (int tries = 0; tries < 256; tries++) {
        uint64_t hash = rand(ctx);
        trie_word word = trie_find(d->root, hash);
        const struct dict_leaf *here = dict_leaf_of(word);
        if (here->count == 0)
            continue;
        leaf = here;
        if (here->depth == 0)
            break;
        double density = (double)here->count * (double)(1ULL << (here->depth & 63));
        double share = density / (4.0 * (double)d->count);
        if ((double)(rand(ctx) >> 11) * 0x1p-53 < share)
            break;
    }
    struct dict_iter it;
    if (!leaf) {
        dict_iter_init(&it, d);
        return dict_iter_next(&it, item);
    }
    uint32_t index = (uint32_t)(((rand(ctx) >> 32) * leaf->count) >> 32);
    *item = dict_item_read(leaf->kind, dict_leaf_item(leaf, index));
    return true;
}

/* ---- moving ---- */

static void move_part(struct mem_mover *m, char *part)
{
    if (!dict_part_is_block(part))
        return;
    struct dict_block *block = mem_move(m, dict_part_block(part));
    memcpy(part + 1, &block, sizeof(block));
}

uint64_t dict_move(struct dict *d, struct mem_mover *m, uint64_t from)
{
    uint64_t first, last;
    if (!trie_leaf_at(d->root, from, &first, &last))
        return 0;
    struct trie_path path;
    trie_path_move(m, &d->root, first, &path);
    struct dict_leaf *leaf = mem_move(m, dict_leaf_of(path.leaf));
    trie_path_set(&path, word_of(leaf));
    for (uint32_t i = 0; leaf->has_blocks && i < leaf->count; i++) {
        char *item = (char *)leaf + (dict_leaf_item(leaf, i) - (const char *)leaf);
        move_part(m, item);
        if (leaf->kind == DICT_MAP) {
            char *value = item + dict_part_size(item);
            move_part(m, value + (dict_value_part(value) - value));
        }
    }
    return last + 1;
}

/* ---- freeing ---- */

static void free_part(struct epoch_reclaim *ctx, const char *part, uint64_t seen)
{
    if (!dict_part_is_block(part))
        return;
    struct dict_block *block = dict_part_block(part);
    if (block->birth <= seen)
        epoch_keep(ctx, EPOCH_BLOCK, block, block->birth);
    else
        mem_free_sized(block, block_size(block));
}

static void free_leaf(void *ctx, trie_word word, uint64_t seen)
{
    struct dict_leaf *leaf = dict_leaf_of(word);
    for (uint32_t i = 0; leaf->has_blocks && i < leaf->count; i++) {
        const char *item = dict_leaf_item(leaf, i);
        free_part(ctx, item, seen);
        if (leaf->kind == DICT_MAP)
            free_part(ctx, dict_value_part(item + dict_part_size(item)), seen);
    }
    mem_free_sized(leaf, leaf->size);
}

static void keep_below(void *ctx, trie_word word, uint64_t birth)
{
    epoch_keep(ctx, EPOCH_DICT, (void *)(uintptr_t)word, birth);
}

static void free_root(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    struct trie_free_ops ops = {.free_leaf = free_leaf, .keep = keep_below, .ctx = ctx};
    trie_free((trie_word)(uintptr_t)ptr, seen, &ops);
}

void dict_clear(struct dict *d, struct epoch *e)
{
    if (d->root)
        epoch_retire_deep(e, EPOCH_DICT, (void *)(uintptr_t)d->root, trie_word_birth(d->root),
                          d->count / 16 + 1);
    d->root = 0;
    d->count = 0;
}

void dict_free_below(struct epoch_reclaim *ctx, const struct dict *d, uint64_t seen)
{
    if (d->root)
        free_root(ctx, (void *)(uintptr_t)d->root, seen);
}

void dict_register(void)
{
    epoch_register(EPOCH_DICT, free_root);
}

/* ---- reports and checks ---- */

static size_t part_bytes(const char *part)
{
    return dict_part_is_block(part) ? mem_good_size(block_size(dict_part_block(part))) : 0;
}

static size_t leaf_bytes(const struct dict_leaf *leaf)
{
    size_t sum = mem_good_size(leaf->size);
    for (uint32_t i = 0; leaf->has_blocks && i < leaf->count; i++) {
        const char *item = dict_leaf_item(leaf, i);
        sum += part_bytes(item);
        if (leaf->kind == DICT_MAP)
            sum += part_bytes(dict_value_part(item + dict_part_size(item)));
    }
    return sum;
}

size_t dict_bytes(const struct dict *d)
{
    size_t sum = trie_page_bytes(d->root);
    uint64_t from = 0, first, last = d->root ? 0 : UINT64_MAX;
    for (; last != UINT64_MAX; from = last + 1)
        sum += leaf_bytes(dict_leaf_of(trie_leaf_at(d->root, from, &first, &last)));
    return sum;
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "dict_check: line %d: not so: %s\n", __LINE__, #condition);            \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void check_part(const struct epoch *e, const struct dict_leaf *leaf, const char *part)
{
    if (!dict_part_is_block(part)) {
        CHECK((unsigned char)*part <= DICT_INLINE_MAX);
        return;
    }
    const struct dict_block *block = dict_part_block(part);
    CHECK(leaf->has_blocks && block->size > DICT_INLINE_MAX && block->birth <= e->now);
    /* A frozen node never points to what was born later. */
    if (!epoch_owned(e, leaf->birth))
        CHECK(!epoch_owned(e, block->birth));
}

struct check {
    const struct dict *dict;
    const struct epoch *e;
    uint64_t count;
};

static void check_leaf(void *ctx, trie_word word, uint64_t first)
{
    struct check *c = ctx;
    const struct dict_leaf *leaf = dict_leaf_of(word);
    uint32_t kind = leaf->kind;
    CHECK(kind == c->dict->kind && leaf->due <= dict_leaf_first_due(leaf));
    CHECK(leaf->size == dict_leaf_class(leaf->size));
    CHECK(dict_leaf_need(kind, leaf->count, leaf->used) <= leaf->size);
    uint64_t last = first | (leaf->depth == 64 ? 0 : UINT64_MAX >> leaf->depth);
    size_t used = 0;
    for (uint32_t i = 0; i < leaf->count; i++) {
        const char *item = dict_leaf_item(leaf, i);
        CHECK(item >= (const char *)leaf + leaf->size - leaf->used);
        uint64_t hash = dict_item_hash(kind, item);
        CHECK(hash >= first && hash <= last && leaf->tags[i] == dict_leaf_tag(hash));
        used += dict_item_size(kind, item);
        if (kind == DICT_INDEX)
            continue;
        check_part(c->e, leaf, item);
        if (kind == DICT_MAP)
            check_part(c->e, leaf, dict_value_part(item + dict_part_size(item)));
        /* No two items at one place; with the sum below they cover the used bytes exactly. */
        for (uint32_t k = 0; k < i; k++)
            CHECK(dict_leaf_offsets(leaf)[k] != dict_leaf_offsets(leaf)[i]);
    }
    CHECK(used == leaf->used);
    c->count += leaf->count;
}

void dict_check(const struct dict *d, const struct epoch *e)
{
    struct check c = {d, e, 0};
    CHECK((d->root == 0) == (d->count == 0));
    trie_check(d->root, e, check_leaf, &c);
    CHECK(c.count == d->count);
}
