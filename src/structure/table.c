/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Changing a table: inserting, replacing, removing, and the sizes of segments. Reading and walking
 * are in table_walk.c.
 */
#include "structure/table.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "structure/table_segment.h"

/* Two neighbours become one when they hold no more than this together: half of what splits. */
#define MERGE_MAX 200U

/* The epoch as it is for a segment that holds the hash. */
static struct epoch segment_view(const struct table *t, const struct epoch *e,
                                 const struct table_segment *s, uint64_t hash)
{
    return epoch_part(e, t->space, hash, s->head.depth);
}

static void segment_retire(const struct table *t, struct epoch *e, trie_word word, uint64_t hash)
{
    struct table_segment *s = segment_of(word);
    size_t size = meta_bytes(trie_meta_of(word));
    if (__builtin_expect(epoch_owned(e, s->head.birth), 1)) {
        mem_free_sized(s, size);
        return;
    }
    struct epoch view = segment_view(t, e, s, hash);
    epoch_retire(&view, s, size, s->head.birth);
}

/* Buckets from `from` forward to `to`. */
static uint32_t bucket_distance(uint32_t from, uint32_t to, uint32_t buckets)
{
    return to >= from ? to - from : to + buckets - from;
}

/* Which of the bits for the marks say something in this segment. */
static uint64_t marks_in_force(const struct epoch *e, const struct table_segment *s)
{
    uint64_t bits = 0;
    for (unsigned i = 0; i < EPOCH_MARKS; i++)
        bits |= (uint64_t)(s->since[i] == e->marks[i]) << i;
    return bits & e->marked;
}

/* What goes with the items of a segment that is rebuilt. */
struct kept {
    bool owned;         /* the bits of the state */
    uint64_t slot_bits; /* these of the bits for the marks */
};

static struct kept kept_of(const struct epoch *e, const struct table_segment *s)
{
    return (struct kept){epoch_owned(e, s->head.birth), slot_bits(marks_in_force(e, s))};
}

static void segment_move_item(struct table_segment *to, uint32_t meta, uint32_t q,
                              const struct table_bucket *from, uint32_t i, struct kept keep)
{
    uint32_t b, k;
    uint64_t slot = slot_of(q, table_slot_item(from->slots[i])) | (from->slots[i] & keep.slot_bits);
    segment_add(to, meta, q, slot, keep.owned && (from->state >> i & 1), &b, &k);
}

static __attribute__((noinline)) void clear_stale(const struct epoch *e, struct table_segment *s,
                                                  uint32_t meta)
{
    uint64_t stale = slot_bits(e->marked & ~marks_in_force(e, s));
    if (stale) {
        for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
            for (uint32_t i = 0; i < TABLE_BUCKET_SLOTS; i++)
                s->buckets[b].slots[i] &= ~stale;
        }
    }
    memcpy(s->since, e->marks, sizeof(s->since));
}

/* An owned segment's bits count from the marks as they are now. */
static void segment_note_marks(const struct epoch *e, struct table_segment *s, uint32_t meta)
{
    static_assert(EPOCH_MARKS == 2, "both are compared");
    uint64_t differs = (s->since[0] ^ e->marks[0]) | (s->since[1] ^ e->marks[1]);
    if (__builtin_expect(differs != 0, 0))
        clear_stale(e, s, meta);
}

/* Make the path's segment one that may be changed. */
static void own_segment(const struct table *t, struct epoch *e, struct trie_path *path,
                        uint64_t hash)
{
    if (!epoch_is_watched(e))
        return;
    trie_word word = path->leaf;
    struct table_segment *s = segment_of(word);
    uint32_t meta = trie_meta_of(word);
    if (epoch_owned(e, s->head.birth)) {
        segment_note_marks(e, s, meta);
        return;
    }
    /* Who is done with its part reads it no more, and none of the pages that a snapshot holds and
     * that point to it is in the current tree, too: the path's are owned. */
    struct epoch view = segment_view(t, e, s, hash);
    if (epoch_owned(&view, s->head.birth)) {
        segment_note_marks(e, s, meta);
        return;
    }
    struct table_segment *copy = mem_alloc(meta_bytes(meta));
    memcpy(copy, s, meta_bytes(meta));
    copy->head.birth = e->now;
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++)
        copy->buckets[b].state &= TABLE_PASSED;
    segment_note_marks(e, copy, meta);
    trie_path_set(path, trie_leaf_word(copy, (uint16_t)meta));
    segment_retire(t, e, word, hash);
}

/* Another size, same depth. */
static void segment_resize(const struct table *t, struct epoch *e, struct trie_path *path,
                           uint64_t hash, uint32_t class)
{
    trie_word word = path->leaf;
    uint32_t meta = trie_meta_of(word), new_meta = (meta & ~7U) | class;
    const struct table_segment *old = segment_of(word);
    struct kept keep = kept_of(e, old);
    struct table_segment *s = segment_new(e, class, old->head.depth, old->head.due);
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
        const struct table_bucket *bucket = &old->buckets[b];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            segment_move_item(s, new_meta, slot_q(bucket, i), bucket, i, keep);
        }
    }
    trie_path_set(path, trie_leaf_word(s, (uint16_t)new_meta));
    segment_retire(t, e, word, hash);
}

/* The q of every item one level further down, for which the items themselves are read. */
static void read_deeper_q(const struct table_type *type, const struct table_segment *s,
                          uint32_t meta, uint32_t *q)
{
    const void *items[SEGMENT_SLOTS_MAX];
    uint32_t count = 0;
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
        const struct table_bucket *bucket = &s->buckets[b];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1)
            items[count++] = table_slot_item(bucket->slots[__builtin_ctz(f)]);
    }
    enum { AHEAD = 12 };
    for (uint32_t n = 0; n < count; n++) {
        if (n + AHEAD < count)
            __builtin_prefetch(items[n + AHEAD]);
        q[n] = table_q(type->hash(items[n]), table_meta_level(meta) + 1);
    }
}

static void segment_split(const struct table *t, struct epoch *e, struct trie_path *path,
                          uint64_t hash)
{
    trie_word word = path->leaf;
    uint32_t meta = trie_meta_of(word);
    const struct table_segment *old = segment_of(word);
    struct kept keep = kept_of(e, old);
    uint32_t depth = old->head.depth;
    if (depth == 64) {
        /* More than four hundred keys with one 64-bit hash: the hash function does not work. */
        fprintf(stderr, "holdfast: table: too many keys with one hash\n");
        abort();
    }

    uint32_t q[SEGMENT_SLOTS_MAX];
    bool deeper = table_meta_offset(meta) == TRIE_PAGE_BITS;
    uint32_t n = 0;
    if (deeper) {
        read_deeper_q(t->type, old, meta, q);
    } else {
        for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
            for (uint32_t f = slots_filled(&old->buckets[b]); f; f &= f - 1)
                q[n++] = slot_q(&old->buckets[b], (uint32_t)__builtin_ctz(f));
        }
    }
    uint32_t side_bit = TABLE_Q_BITS - 1 - (deeper ? 0 : table_meta_offset(meta));
    uint32_t right_count = 0;
    for (n = 0; n < old->count; n++)
        right_count += q[n] >> side_bit & 1;

    struct table_segment *part[2];
    uint32_t part_meta[2];
    for (uint32_t side = 0; side < 2; side++) {
        uint32_t class = class_for(side ? right_count : old->count - right_count);
        part[side] = segment_new(e, class, depth + 1, old->head.due);
        part_meta[side] = meta_of(class, depth + 1);
    }
    n = 0;
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
        const struct table_bucket *bucket = &old->buckets[b];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1, n++) {
            uint32_t side = q[n] >> side_bit & 1;
            segment_move_item(part[side], part_meta[side], q[n], bucket, (uint32_t)__builtin_ctz(f),
                              keep);
        }
    }
    trie_path_split(e, path, trie_leaf_word(part[0], (uint16_t)part_meta[0]),
                    trie_leaf_word(part[1], (uint16_t)part_meta[1]), hash);
    segment_retire(t, e, word, hash);
}

/* Move all items of one of two neighbours into what becomes of both. `above` is the byte of the
 * hash before the bits that the slots keep, needed when the items move up a level. */
static void merge_items(struct epoch *e, struct table_segment *to, uint32_t to_meta, trie_word from,
                        uint32_t above)
{
    uint32_t meta = trie_meta_of(from);
    const struct table_segment *old = segment_of(from);
    struct kept keep = kept_of(e, old);
    bool upwards = table_meta_level(meta) != table_meta_level(to_meta);
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
        const struct table_bucket *bucket = &old->buckets[b];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            uint32_t q = slot_q(bucket, i);
            if (upwards) {
                q = above << 16 | q >> 8;
                q |= (q & 0xff) == 0;
            }
            segment_move_item(to, to_meta, q, bucket, i, keep);
        }
    }
}

static void merge_segments(const struct table *t, struct epoch *e, struct trie_path *path,
                           uint64_t hash)
{
    for (;;) {
        trie_word a = path->leaf, b = trie_path_sibling(path, hash);
        if (b == 0)
            return;
        uint32_t count = segment_of(a)->count + segment_of(b)->count;
        if (count > MERGE_MAX)
            return;
        uint32_t depth = segment_of(a)->head.depth - 1U;
        uint32_t class = class_for(count), meta = meta_of(class, depth);
        int64_t due = segment_of(a)->head.due;
        if (segment_of(b)->head.due < due)
            due = segment_of(b)->head.due;
        struct table_segment *s = segment_new(e, class, depth, due);
        uint32_t above = (uint32_t)(hash << (TRIE_PAGE_BITS * table_meta_level(meta)) >> 56);
        merge_items(e, s, meta, a, above);
        merge_items(e, s, meta, b, above);
        trie_path_merge(e, path, trie_leaf_word(s, (uint16_t)meta), hash);
        segment_retire(t, e, a, hash);
        segment_retire(t, e, b, hash ^ 1ULL << (63 - depth));
    }
}

/* --- the interface -----------------------------------------------------------------------------
 */

void table_init(struct table *t, const struct table_type *type)
{
    *t = (struct table){.root = 0, .count = 0, .type = type, .space = EPOCH_NOWHERE};
}

void *table_find(const struct table *t, uint64_t hash, const char *key, size_t size)
{
    return table_look_up(t, hash, key, size, t->type->match);
}

void table_own(struct table *t, struct epoch *e, uint64_t hash, const void *item,
               struct table_place *place)
{
    trie_path_own(e, &t->root, hash, &place->path);
    own_segment(t, e, &place->path, hash);
    place->hash = hash;

    uint32_t meta = trie_meta_of(place->path.leaf);
    struct table_segment *s = segment_of(place->path.leaf);
    uint32_t q = table_q(hash, table_meta_level(meta));
    uint64_t slot = slot_of(q, item);
    for (uint32_t at = table_home(q, meta);; at = bucket_after(at, table_meta_buckets(meta))) {
        struct table_bucket *bucket = &s->buckets[at];
        for (uint32_t f = table_match_tags(bucket, q & 0xff); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            if ((bucket->slots[i] & ~TABLE_MARK_BITS) == slot) {
                place->bucket = at;
                place->slot = i;
                place->at_marks = (uint32_t)(e->marked & ~(bucket->slots[i] >> TABLE_NEW_SHIFT));
                bucket->slots[i] |= e->marked;
                return;
            }
        }
        assert(bucket->state & TABLE_PASSED);
    }
}

void table_note_change(struct table *t, const struct epoch *e, uint64_t hash, const void *item)
{
    assert(!epoch_has_snapshot(e));
    trie_word word = trie_find(t->root, hash);
    uint32_t meta = trie_meta_of(word);
    struct table_segment *s = segment_of(word);
    segment_note_marks(e, s, meta);
    uint32_t q = table_q(hash, table_meta_level(meta));
    uint64_t slot = slot_of(q, item);
    for (uint32_t at = table_home(q, meta);; at = bucket_after(at, table_meta_buckets(meta))) {
        struct table_bucket *bucket = &s->buckets[at];
        for (uint32_t f = table_match_tags(bucket, q & 0xff); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            if ((bucket->slots[i] & ~TABLE_MARK_BITS) == slot) {
                bucket->slots[i] |= e->marked;
                return;
            }
        }
        assert(bucket->state & TABLE_PASSED);
    }
}

bool table_item_owned(const struct table *t, const struct epoch *e, const struct table_place *place)
{
    if (!epoch_has_snapshot(e))
        return true;
    const struct table_segment *s = segment_of(place->path.leaf);
    struct epoch view = segment_view(t, e, s, place->hash);
    return view.frozen == 0 || (epoch_owned(&view, s->head.birth) &&
                                (s->buckets[place->bucket].state >> place->slot & 1));
}

void table_replace(struct table *t, struct table_place *place, void *item)
{
    (void)t;
    struct table_bucket *bucket = &segment_of(place->path.leaf)->buckets[place->bucket];
    bucket->slots[place->slot] =
        slot_of(slot_q(bucket, place->slot), item) | (bucket->slots[place->slot] & TABLE_MARK_BITS);
    bucket->state |= (uint8_t)(1U << place->slot);
}

void table_note_due(struct table *t, struct table_place *place, int64_t due)
{
    (void)t;
    struct table_segment *s = segment_of(place->path.leaf);
    if (due >= s->head.due)
        return;
    s->head.due = due;
    trie_path_note_due(&place->path, due);
}

void table_insert(struct table *t, struct epoch *e, uint64_t hash, void *item,
                  struct table_place *place)
{
    struct table_place own_place;
    if (!place)
        place = &own_place;
    place->hash = hash;
    struct trie_path *path = &place->path;
    trie_path_own(e, &t->root, hash, path);
    if (path->leaf)
        own_segment(t, e, path, hash);
    else
        trie_path_set(path, trie_leaf_word(segment_new(e, 0, 0, INT64_MAX), 0));

    /* Nearly always at most one turn: a split leaves both parts about half full. */
    uint32_t meta = trie_meta_of(path->leaf);
    while (segment_of(path->leaf)->count >= class_limit[meta_class(meta)]) {
        if (meta_class(meta) < CLASS_LAST)
            segment_resize(t, e, path, hash, meta_class(meta) + 1);
        else
            segment_split(t, e, path, hash);
        meta = trie_meta_of(path->leaf);
    }
    uint32_t q = table_q(hash, table_meta_level(meta));
    segment_add(segment_of(path->leaf), meta, q, slot_of(q, item) | slot_bits(e->marked), true,
                &place->bucket, &place->slot);
    place->at_marks = 0;
    t->count++;
    table_note_due(t, place, t->type->due(item));
}

static void slot_clear(struct table_bucket *bucket, uint32_t i)
{
    bucket->tags[i] = 0;
    bucket->slots[i] = 0;
    bucket->state &= (uint8_t) ~(1U << i);
}

/* Fill the hole with an item that passed over it, the hole that this leaves likewise, and so on;
 * returns the bucket that has a free slot in the end. No item passes over that one. */
static uint32_t fill_hole(struct table_segment *s, uint32_t meta, uint32_t hole, uint32_t hole_slot)
{
    uint32_t buckets = table_meta_buckets(meta);
    uint32_t at = hole;
    while (s->buckets[at].state & TABLE_PASSED) {
        at = bucket_after(at, buckets);
        if (at == hole)
            break;
        struct table_bucket *bucket = &s->buckets[at];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            uint32_t home = table_home(slot_q(bucket, i), meta);
            if (bucket_distance(home, at, buckets) < bucket_distance(hole, at, buckets))
                continue;
            struct table_bucket *to = &s->buckets[hole];
            to->tags[hole_slot] = bucket->tags[i];
            to->slots[hole_slot] = bucket->slots[i];
            to->state |= (uint8_t)((((uint32_t)bucket->state >> i) & 1U) << hole_slot);
            slot_clear(bucket, i);
            hole = at;
            hole_slot = i;
            break;
        }
    }
    return hole;
}

/* Items no longer pass over `hole`, and one less over the buckets from `home` up to it: clear bit 7
 * where there is none left. Going backwards, `reach` is how far back the items seen so far go. */
static void clear_passed(struct table_segment *s, uint32_t meta, uint32_t home, uint32_t hole)
{
    uint32_t buckets = table_meta_buckets(meta);
    s->buckets[hole].state &= (uint8_t)~TABLE_PASSED;
    int32_t reach = INT32_MAX;
    for (int32_t pos = (int32_t)bucket_distance(home, hole, buckets); pos > 0; pos--) {
        uint32_t at = (home + (uint32_t)pos) % buckets;
        const struct table_bucket *bucket = &s->buckets[at];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint32_t own = table_home(slot_q(bucket, (uint32_t)__builtin_ctz(f)), meta);
            int32_t back = pos - (int32_t)bucket_distance(own, at, buckets);
            if (back < reach)
                reach = back;
        }
        if (reach > pos - 1)
            s->buckets[(home + (uint32_t)pos - 1) % buckets].state &= (uint8_t)~TABLE_PASSED;
    }
}

void table_remove(struct table *t, struct epoch *e, struct table_place *place)
{
    struct trie_path *path = &place->path;
    uint32_t meta = trie_meta_of(path->leaf);
    struct table_segment *s = segment_of(path->leaf);
    uint32_t home = table_home(slot_q(&s->buckets[place->bucket], place->slot), meta);
    slot_clear(&s->buckets[place->bucket], place->slot);
    if ((s->buckets[place->bucket].state & TABLE_PASSED) || home != place->bucket)
        clear_passed(s, meta, home, fill_hole(s, meta, place->bucket, place->slot));
    s->count--;
    t->count--;

    if (t->count == 0 && path->count == 0) {
        trie_word word = path->leaf;
        t->root = 0;
        segment_retire(t, e, word, place->hash);
        return;
    }
    /* Neighbours are looked at now and then only, as it costs a cache miss. At 0 at the latest:
     * so an empty table ends as one segment. */
    if (s->count % 8 == 0 && s->count <= MERGE_MAX) {
        merge_segments(t, e, path, place->hash);
        if (t->count == 0 && path->count == 0) {
            segment_retire(t, e, path->leaf, place->hash);
            t->root = 0;
            return;
        }
    }
    meta = trie_meta_of(path->leaf);
    uint32_t class = meta_class(meta);
    /* An eighth below what made it grow, so that it does not go back and forth. */
    if (class > 0 && segment_of(path->leaf)->count < class_limit[class - 1] * 7 / 8)
        segment_resize(t, e, path, place->hash, class - 1);
}

void table_clear(struct table *t, struct epoch *e)
{
    trie_word root = t->root;
    size_t weight = t->count + 1;
    t->root = 0;
    t->count = 0;
    if (root)
        epoch_retire_deep(e, EPOCH_TABLE, (void *)(uintptr_t)root, trie_word_birth(root), weight);
}

/* --- deep freeing ------------------------------------------------------------------------------
 */

static const struct table_type *registered_type;

static void free_segment(void *arg, trie_word word, uint64_t seen)
{
    struct epoch_reclaim *ctx = arg;
    struct table_segment *s = segment_of(word);
    uint32_t meta = trie_meta_of(word);
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
        const struct table_bucket *bucket = &s->buckets[b];
        if (b + 2 < table_meta_buckets(meta)) {
            const struct table_bucket *ahead = &s->buckets[b + 2];
            for (uint32_t i = 0; i < TABLE_BUCKET_SLOTS; i++)
                __builtin_prefetch(table_slot_item(ahead->slots[i]));
        }
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            void *item = table_slot_item(bucket->slots[i]);
            size_t size = registered_type->size(item);
            registered_type->free_below(ctx, item, seen);
            if (seen == 0 || (bucket->state >> i & 1))
                mem_free_sized(item, size);
            else
                epoch_keep(ctx, EPOCH_BLOCK, item, 0);
        }
    }
    mem_free_sized(s, meta_bytes(meta));
}

static void keep_word(void *arg, trie_word word, uint64_t birth)
{
    epoch_keep(arg, EPOCH_TABLE, (void *)(uintptr_t)word, birth);
}

static void free_table(struct epoch_reclaim *ctx, void *ptr, uint64_t seen)
{
    struct trie_free_ops ops = {.free_leaf = free_segment, .keep = keep_word, .ctx = ctx};
    trie_free((trie_word)(uintptr_t)ptr, seen, &ops);
}

void table_register(const struct table_type *type)
{
    if (registered_type != type)
        registered_type = type;
    epoch_register(EPOCH_TABLE, free_table);
}
