/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A table as a whole: SCAN, walking a range, moving, random items, what is due, and the check.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "structure/table_segment.h"

/* All items of a segment; returns how many. */
static uint32_t segment_items(trie_word word, void **items)
{
    const struct table_segment *s = segment_of(word);
    uint32_t count = 0;
    for (uint32_t b = 0; b < table_meta_buckets(trie_meta_of(word)); b++) {
        const struct table_bucket *bucket = &s->buckets[b];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1)
            items[count++] = table_slot_item(bucket->slots[__builtin_ctz(f)]);
    }
    return count;
}

/* --- SCAN --------------------------------------------------------------------------------------
 */

#define CURSOR_SHIFT 12

/* The least hash whose home in the segment is `bucket` or later; the segment's range begins at
 * `first`. False when there is none within the range (a very deep segment has more buckets than
 * hashes to tell them apart). bucket > 0. */
static bool bucket_first_hash(uint32_t meta, uint64_t first, uint64_t last, uint32_t bucket,
                              uint64_t *hash)
{
    uint32_t offset = table_meta_offset(meta), buckets = table_meta_buckets(meta);
    uint64_t x = (((uint64_t)bucket << TABLE_Q_BITS) + buckets - 1) / buckets;
    uint64_t q = (x + (1U << offset) - 1) >> offset; /* the part of q behind the depth */
    if ((q & 0xff) == 1)
        q--; /* a hash with 0 there counts as 1 */
    int32_t shift = 64 - TABLE_Q_BITS - TRIE_PAGE_BITS * (int32_t)table_meta_level(meta);
    uint64_t from;
    if (shift >= 0)
        from = q << shift;
    else
        from = (q + (1ULL << -shift) - 1) >> -shift;
    if (from > last - first)
        return false;
    *hash = first + from;
    return true;
}

/* Give the items whose home is `home`, but for those whose q is below `least`. */
static size_t scan_home(const struct table_segment *s, uint32_t meta, uint32_t home, uint32_t least,
                        void (*fn)(void *ctx, void *item), void *ctx)
{
    size_t given = 0;
    uint32_t at = home;
    for (;;) {
        const struct table_bucket *bucket = &s->buckets[at];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint32_t i = (uint32_t)__builtin_ctz(f);
            uint32_t q = slot_q(bucket, i);
            if (table_home(q, meta) != home || q < least)
                continue;
            fn(ctx, table_slot_item(bucket->slots[i]));
            given++;
        }
        if (!(bucket->state & TABLE_PASSED))
            return given;
        at = bucket_after(at, table_meta_buckets(meta));
        if (at == home)
            return given;
    }
}

uint64_t table_scan(const struct table *t, uint64_t cursor, size_t want, size_t max_buckets,
                    void (*fn)(void *ctx, void *item), void *ctx)
{
    uint64_t hash = cursor << CURSOR_SHIFT;
    size_t given = 0, visited = 0;
    for (;;) {
        uint64_t first, last;
        trie_word word = trie_leaf_at(t->root, hash, &first, &last);
        if (word == 0)
            return 0;
        uint32_t meta = trie_meta_of(word);
        uint32_t least = table_q(hash, table_meta_level(meta));
        for (uint32_t b = table_home(least, meta); b < table_meta_buckets(meta); b++) {
            given += scan_home(segment_of(word), meta, b, least, fn, ctx);
            least = 0;
            visited++;
            /* Stop where the next bucket's first hash fits in a cursor; nearly always it does. */
            if ((given >= want || visited >= max_buckets) && b + 1 < table_meta_buckets(meta) &&
                bucket_first_hash(meta, first, last, b + 1, &hash) &&
                (hash & ((1U << CURSOR_SHIFT) - 1)) == 0)
                return hash >> CURSOR_SHIFT;
        }
        if (last == UINT64_MAX)
            return 0;
        hash = last + 1;
        if ((given >= want || visited >= max_buckets) && (hash & ((1U << CURSOR_SHIFT) - 1)) == 0)
            return hash >> CURSOR_SHIFT;
    }
}

/* --- walking -----------------------------------------------------------------------------------
 */

/* Whether an item may belong to [first, last], by the bits of its hash that stand beside it. A leaf
 * that is not below level 0 may hold items of other parts (structure/epoch.h) than those that are
 * walked: such items must not be touched, as the walker of their part may be done with it. */
static bool may_be_within(uint64_t slot, uint32_t meta, uint64_t first, uint64_t last)
{
    static_assert(EPOCH_PART_BITS <= 16 && EPOCH_PART_BITS <= TRIE_PAGE_BITS,
                  "the slot tells the part, and a leaf of a lower level is of one part");
    uint64_t top = slot >> 48;
    return table_meta_level(meta) != 0 || (top >= first >> 48 && top <= last >> 48);
}

/* The items of a segment that may be within the range; returns how many. */
static uint32_t items_within(trie_word word, uint64_t first, uint64_t last, void **items)
{
    const struct table_segment *s = segment_of(word);
    uint32_t count = 0, meta = trie_meta_of(word);
    for (uint32_t b = 0; b < table_meta_buckets(meta); b++) {
        const struct table_bucket *bucket = &s->buckets[b];
        for (uint32_t f = slots_filled(bucket); f; f &= f - 1) {
            uint64_t slot = bucket->slots[__builtin_ctz(f)];
            if (may_be_within(slot, meta, first, last))
                items[count++] = table_slot_item(slot);
        }
    }
    return count;
}

/* The lines of a segment that are not yet asked for. */
struct ahead {
    const struct table_bucket *line, *end;
};

/* The segment behind the one that ends at `to`, if it belongs to the walk. */
static struct ahead segment_ahead(const struct table *t, uint64_t to, uint64_t last)
{
    if (to >= last)
        return (struct ahead){NULL, NULL};
    trie_word word = trie_find(t->root, to + 1);
    const struct table_segment *s = segment_of(word);
    return (struct ahead){s->buckets, s->buckets + table_meta_buckets(trie_meta_of(word))};
}

/* Items are asked for so many at once: the processor then looks up their pages beside each other,
 * which it would otherwise do one after another. */
#define ITEMS_AHEAD 16
#define ITEM_LINES_AHEAD 4

static void prefetch_items(void *const *items, uint32_t from, uint32_t to, size_t bytes)
{
    for (uint32_t i = from; i < to; i++) {
        const char *item = items[i];
        for (size_t at = 0; at < bytes; at += 64)
            __builtin_prefetch(item + at);
    }
}

/* What an item comes to, by this one, as far as it is worth asking for. */
static size_t bytes_ahead(const struct table *t, const void *item)
{
    size_t size = t->type->size(item);
    return size < ITEM_LINES_AHEAD * 64 ? size : ITEM_LINES_AHEAD * 64;
}

uint64_t table_walk(const struct table *t, uint64_t first, uint64_t last, size_t max_segments,
                    bool (*fn)(void *ctx, void *item), void *ctx, bool *done)
{
    void *items[SEGMENT_SLOTS_MAX];
    *done = false;
    for (size_t n = 0; max_segments == 0 || n < max_segments; n++) {
        uint64_t from, to;
        trie_word word = trie_leaf_at(t->root, first, &from, &to);
        if (word == 0) {
            *done = true;
            return last;
        }
        bool whole = first == from && to <= last;
        uint32_t count =
            whole ? segment_items(word, items) : items_within(word, first, last, items);
        /* While this one's items are read the next segment comes, a line with each few items. */
        struct ahead next = segment_ahead(t, to, last);
        prefetch_items(items, 0, count < ITEMS_AHEAD ? count : ITEMS_AHEAD, 64);
        for (uint32_t i = 0; i < count; i++) {
            if (i % ITEMS_AHEAD == 0 && i + ITEMS_AHEAD < count) {
                uint32_t end = i + 2 * ITEMS_AHEAD;
                prefetch_items(items, i + ITEMS_AHEAD, end < count ? end : count,
                               bytes_ahead(t, items[i]));
            }
            if ((i & 3) == 0 && next.line < next.end)
                __builtin_prefetch(next.line++);
            if (!whole) {
                uint64_t hash = t->type->hash(items[i]);
                if (hash < first || hash > last)
                    continue;
            }
            if (!fn(ctx, items[i]))
                return first;
        }
        if (to >= last) {
            *done = true;
            return last;
        }
        first = to + 1;
    }
    return first;
}

uint64_t table_walk_changed(const struct table *t, unsigned mark, uint64_t since, uint64_t first,
                            uint64_t last, size_t max_segments,
                            bool (*fn)(void *ctx, void *item), void *ctx, bool *done)
{
    *done = false;
    for (size_t n = 0; max_segments == 0 || n < max_segments; n++) {
        uint64_t from, to;
        trie_word word = trie_leaf_at(t->root, first, &from, &to);
        if (word == 0) {
            *done = true;
            return last;
        }
        const struct table_segment *s = segment_of(word);
        uint32_t buckets = s->since[mark] == since ? table_meta_buckets(trie_meta_of(word)) : 0;
        bool whole = first == from && to <= last;
        for (uint32_t b = 0; b < buckets; b++) {
            for (uint32_t i = 0; i < TABLE_BUCKET_SLOTS; i++) {
                uint64_t slot = s->buckets[b].slots[i];
                if (!(slot >> mark & 1) ||
                    !may_be_within(slot, trie_meta_of(word), first, last))
                    continue;
                void *item = table_slot_item(slot);
                uint64_t hash = whole ? first : t->type->hash(item);
                if (hash >= first && hash <= last && !fn(ctx, item))
                    return first;
            }
        }
        if (to >= last) {
            *done = true;
            return last;
        }
        first = to + 1;
    }
    return first;
}

/* --- moving ------------------------------------------------------------------------------------
 */

bool table_move(struct table *t, struct mem_mover *m, struct table_cursor *cursor,
                void *(*fn)(void *ctx, void *item, bool *stop), void *ctx)
{
    enum { SLOTS_AHEAD = 2 * TABLE_BUCKET_SLOTS };
    uint64_t first, last;
    trie_word word = trie_leaf_at(t->root, cursor->hash, &first, &last);
    if (word == 0) {
        *cursor = (struct table_cursor){0, 0};
        return false;
    }
    uint32_t meta = trie_meta_of(word), slots = table_meta_buckets(meta) * TABLE_BUCKET_SLOTS;
    struct table_segment *s = segment_of(word);
    if (cursor->slot == 0) {
        struct trie_path path;
        trie_path_move(m, &t->root, first, &path);
        s = mem_move(m, s);
        trie_path_set(&path, trie_leaf_word(s, (uint16_t)meta));
    }
    bool stop = false;
    uint32_t n = cursor->slot;
    for (; n < slots && !stop; n++) {
        if (n + SLOTS_AHEAD < slots) {
            uint32_t ahead = n + SLOTS_AHEAD;
            __builtin_prefetch(table_slot_item(
                s->buckets[ahead / TABLE_BUCKET_SLOTS].slots[ahead % TABLE_BUCKET_SLOTS]));
        }
        uint64_t *slot = &s->buckets[n / TABLE_BUCKET_SLOTS].slots[n % TABLE_BUCKET_SLOTS];
        if (*slot == 0)
            continue;
        void *item = table_slot_item(*slot), *now = fn(ctx, item, &stop);
        /* What stands beside the address goes with the item. */
        *slot ^= (uint64_t)(uintptr_t)item ^ (uint64_t)(uintptr_t)now;
    }
    *cursor = n < slots ? (struct table_cursor){first, n} : (struct table_cursor){last + 1, 0};
    return n < slots || last != UINT64_MAX;
}

/* --- random items ------------------------------------------------------------------------------
 */

/* Another number from r, as the bits of r itself have chosen the segment (Stafford's mix 13). */
static uint64_t mix(uint64_t r)
{
    r = (r ^ r >> 30) * 0xbf58476d1ce4e5b9ULL;
    r = (r ^ r >> 27) * 0x94d049bb133111ebULL;
    return r ^ r >> 31;
}

static uint32_t below(uint64_t r, uint32_t bound)
{
    return (uint32_t)((r >> 32) * bound >> 32);
}

void *table_random(const struct table *t, uint64_t r)
{
    if (t->count == 0)
        return NULL;
    uint64_t first, last;
    trie_word word = trie_leaf_at(t->root, r, &first, &last);
    while (segment_of(word)->count == 0)
        word = trie_leaf_at(t->root, last + 1, &first, &last);

    const struct table_segment *s = segment_of(word);
    uint32_t buckets = table_meta_buckets(trie_meta_of(word));
    for (int tries = 0; tries < 16; tries++) {
        r = mix(r + 0x9e3779b97f4a7c15ULL);
        uint32_t n = below(r, buckets * TABLE_BUCKET_SLOTS);
        uint64_t slot = s->buckets[n / TABLE_BUCKET_SLOTS].slots[n % TABLE_BUCKET_SLOTS];
        if (slot)
            return table_slot_item(slot);
    }
    /* Few are filled: take the n-th of them. */
    void *items[SEGMENT_SLOTS_MAX];
    uint32_t count = segment_items(word, items);
    return items[below(mix(r), count)];
}

static bool has_common_divisor(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a != 1;
}

/* A segment's slots are visited from a random one on in random strides, so that it is not those
 * behind empty ones that are mostly found: a bucket's first slots are where new items are put. */
size_t table_sample(const struct table *t, uint64_t r, void **items, size_t want)
{
    if (want > t->count)
        want = t->count;
    size_t got = 0;
    uint64_t first = r, last;
    while (got < want) {
        trie_word word = trie_leaf_at(t->root, first, &first, &last);
        const struct table_bucket *buckets = segment_of(word)->buckets;
        uint32_t slots = table_meta_buckets(trie_meta_of(word)) * TABLE_BUCKET_SLOTS;
        r = mix(r + 0x9e3779b97f4a7c15ULL);
        uint32_t n = below(r, slots);
        /* Without a divisor that the number of slots has, too, it meets each of them once. */
        uint32_t stride = (uint32_t)r % slots;
        while (has_common_divisor(stride, slots))
            stride++;
        for (uint32_t k = 0; k < slots && got < want; k++) {
            uint64_t slot = buckets[n / TABLE_BUCKET_SLOTS].slots[n % TABLE_BUCKET_SLOTS];
            if (slot)
                items[got++] = table_slot_item(slot);
            n = (n + stride) % slots;
        }
        first = last + 1;
    }
    return got;
}

/* --- expiry ------------------------------------------------------------------------------------
 */

#define HEADERS_PER_SEGMENT 16

struct collector {
    const struct table_type *type;
    const struct epoch *e;
    int64_t now;
    uint64_t from; /* leaves before this hash have been visited */
    void **items;
    size_t count, want;
    size_t segments, headers; /* how many may still be looked at */
};

/* Returns false when the visit is not complete and has to be done again. */
static bool collect_segment(struct collector *c, trie_word word)
{
    enum { AHEAD = 12 };
    struct table_segment *s = segment_of(word);
    void *all[SEGMENT_SLOTS_MAX];
    uint32_t count = segment_items(word, all);
    int64_t least = INT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch(all[i + AHEAD]);
        int64_t due = c->type->due(all[i]);
        if (due < least)
            least = due;
        if (due > c->now)
            continue;
        if (c->count == c->want)
            return false;
        c->items[c->count++] = all[i];
    }
    /* What was collected is still there, so the bound is only corrected when it was wrong now. */
    if (epoch_owned(c->e, s->head.birth))
        s->head.due = least;
    return true;
}

static void correct_page(struct collector *c, struct trie_page *page)
{
    if (!epoch_owned(c->e, page->birth) || page->due > c->now)
        return;
    enum { AHEAD = 8 };
    int64_t least = INT64_MAX;
    uint32_t count = 1U << page->bits;
    for (uint32_t i = 0; i < count; i++) {
        if (i + AHEAD < count)
            __builtin_prefetch((const void *)trie_leaf_of(page->slots[i + AHEAD]));
        int64_t due = trie_word_due(page->slots[i]);
        if (due < least)
            least = due;
    }
    page->due = least;
}

/* `first` is the first hash of the word's range. Returns false when the work or the room is used
 * up; c->from is then where to go on. */
static bool collect_word(struct collector *c, trie_word word, uint64_t first)
{
    if (c->headers == 0) {
        c->from = c->from > first ? c->from : first;
        return false;
    }
    c->headers--;
    if (trie_word_due(word) > c->now)
        return true;
    if (!TRIE_IS_PAGE(word)) {
        if (c->segments == 0 || c->count == c->want || !collect_segment(c, word)) {
            c->from = first;
            return false;
        }
        c->segments--;
        return true;
    }
    struct trie_page *page = trie_page_of(word);
    uint32_t shift = 64 - TRIE_PAGE_BITS * (uint32_t)page->level - page->bits;
    trie_word before = 0;
    for (uint32_t i = c->from > first ? trie_page_index(page, c->from) : 0; i < 1U << page->bits;
         i++) {
        if (page->slots[i] == before)
            continue;
        before = page->slots[i];
        if (!collect_word(c, before, first + ((uint64_t)i << shift)))
            return false;
    }
    correct_page(c, page);
    return true;
}

size_t table_collect_due(struct table *t, struct epoch *e, int64_t now, uint64_t *cursor,
                         size_t max_segments, void **items, size_t want)
{
    struct collector c = {.type = t->type,
                          .e = e,
                          .now = now,
                          .from = *cursor,
                          .items = items,
                          .want = want,
                          .segments = max_segments,
                          .headers = max_segments * HEADERS_PER_SEGMENT};
    *cursor = 0;
    /* Where it goes on at the very first leaf, hash 1 stands for it, as 0 is the end. */
    if (t->root && !collect_word(&c, t->root, 0))
        *cursor = c.from ? c.from : 1;
    return c.count;
}

/* --- reports and checks ------------------------------------------------------------------------
 */

size_t table_overhead_bytes(const struct table *t)
{
    size_t bytes = trie_page_bytes(t->root);
    uint64_t first = 0, last = 0;
    for (trie_word word; (word = trie_leaf_at(t->root, first, &first, &last)) != 0;
         first = last + 1) {
        bytes += 512 * ((trie_meta_of(word) & 7U) + 1);
        if (last == UINT64_MAX)
            break;
    }
    return bytes;
}

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "table_check: line %d: %s\n", __LINE__, #condition); \
            abort();                                                             \
        }                                                                        \
    } while (0)

struct check {
    const struct table *t;
    uint64_t count;
};

static void check_segment(void *arg, trie_word word, uint64_t first)
{
    struct check *c = arg;
    const struct table_segment *s = segment_of(word);
    uint32_t meta = trie_meta_of(word), buckets = table_meta_buckets(meta);
    uint32_t depth = s->head.depth;
    uint64_t below_depth = depth == 64 ? 0 : UINT64_MAX >> depth;
    CHECK(TRIE_PAGE_BITS * table_meta_level(meta) + table_meta_offset(meta) == depth);
    CHECK(table_meta_level(meta) == (depth ? (depth - 1) / TRIE_PAGE_BITS : 0));
    bool passed[64] = {false};
    uint32_t count = 0;
    for (uint32_t b = 0; b < buckets; b++) {
        const struct table_bucket *bucket = &s->buckets[b];
        for (uint32_t i = 0; i < TABLE_BUCKET_SLOTS; i++) {
            if (bucket->tags[i] == 0) {
                CHECK(bucket->slots[i] == 0);
                CHECK(!(bucket->state >> i & 1));
                continue;
            }
            const void *item = table_slot_item(bucket->slots[i]);
            uint64_t hash = c->t->type->hash(item);
            CHECK((hash & ~below_depth) == first);
            CHECK(slot_q(bucket, i) == table_q(hash, table_meta_level(meta)));
            CHECK(c->t->type->due(item) >= s->head.due);
            for (uint32_t p = table_home(slot_q(bucket, i), meta); p != b;
                 p = bucket_after(p, buckets))
                passed[p] = true;
            count++;
        }
    }
    for (uint32_t b = 0; b < buckets; b++) {
        CHECK(!(s->buckets[b].state & TABLE_PASSED) == !passed[b]);
        CHECK(!passed[b] || table_match_tags(&s->buckets[b], 0) == 0);
    }
    CHECK(count == s->count);
    c->count += count;
}

void table_check(const struct table *t, const struct epoch *e)
{
    struct check c = {.t = t};
    trie_check(t->root, e, check_segment, &c);
    CHECK(c.count == t->count);
    CHECK(t->count > 0 || t->root == 0 || !TRIE_IS_PAGE(t->root));
}
