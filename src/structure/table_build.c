/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/table_build.h"

#include <assert.h>

#include "structure/table_segment.h"

#define FANOUT (1U << TRIE_PAGE_BITS)

/* So many items are kept in one segment, and not in two of the next depth. */
static bool fits_segment(uint64_t items)
{
    return items < class_limit[CLASS_LAST];
}

struct build {
    const struct table_type *type;
    const struct epoch *e;
    void (*reject)(void *ctx, void *item);
    void *ctx;
    uint64_t rejected;
};

/* The byte of the hash that a page of this level is indexed by. */
static uint32_t byte_at(uint64_t hash, uint32_t level)
{
    return (uint32_t)(hash >> (56 - TRIE_PAGE_BITS * level)) & (FANOUT - 1);
}

/* Whether the segment has an item of this key: a lookup in a segment that is not in a table yet. */
static bool has_key(const struct build *b, const struct table_segment *s, uint32_t meta, uint32_t q,
                    const struct table_pair *pair)
{
    uint32_t home = table_home(q, meta), at = home;
    do {
        const struct table_bucket *bucket = &s->buckets[at];
        for (uint32_t f = table_match_tags(bucket, q & 0xff); f; f &= f - 1) {
            uint64_t slot = bucket->slots[__builtin_ctz(f)];
            if (slot >> 48 == q >> 8 &&
                b->type->same(table_slot_item(slot), table_pair_item(pair)))
                return true;
        }
        if (!(bucket->state & TABLE_PASSED))
            return false;
        at = bucket_after(at, table_meta_buckets(meta));
    } while (at != home);
    return false;
}

static trie_word build_segment(struct build *b, const struct table_pair *pairs, uint64_t count,
                               uint32_t depth)
{
    /* More than fit share their whole hash: but for two or three they have one key, too. */
    uint32_t class = fits_segment(count) ? class_for((uint32_t)count) : CLASS_LAST;
    uint32_t meta = meta_of(class, depth);
    struct table_segment *s = segment_new(b->e, class, depth, INT64_MAX);
    for (uint64_t i = 0; i < count; i++) {
        const struct table_pair *pair = &pairs[i];
        void *item = table_pair_item(pair);
        uint32_t q = table_q(pair->hash, table_meta_level(meta));
        if (__builtin_expect(!fits_segment(s->count) || has_key(b, s, meta, q, pair), 0)) {
            b->rejected++;
            b->reject(b->ctx, item);
            continue;
        }
        uint32_t at, slot;
        segment_add(s, meta, q, slot_of(q, item) | slot_bits(b->e->marked), true, &at, &slot);
        if (pair->item & TABLE_PAIR_DUE) {
            int64_t due = b->type->due(item);
            if (due < s->head.due)
                s->head.due = due;
        }
    }
    return trie_leaf_word(s, (uint16_t)meta);
}

/* How the slots of a page that is indexed by a whole byte are shared out: the run of slots that
 * begins at `first` and holds what is one segment, or the one slot of a page below. */
static uint32_t run_at(const uint64_t counts[FANOUT], uint32_t first, uint64_t *items)
{
    *items = counts[first];
    uint32_t span = 1;
    if (!fits_segment(counts[first]))
        return 1;
    /* Twice as wide as long as all of it fits: a run begins at a multiple of its width. */
    while (span < FANOUT && first % (2 * span) == 0) {
        uint64_t sum = *items;
        for (uint32_t i = first + span; i < first + 2 * span; i++)
            sum += counts[i];
        if (!fits_segment(sum))
            break;
        *items = sum;
        span *= 2;
    }
    return span;
}

static uint32_t log2_of(uint32_t power)
{
    return (uint32_t)__builtin_ctz(power);
}

/* Build what lies below one slot at `depth`, a multiple of 8. */
static trie_word build_page(struct build *b, struct table_pair *pairs, struct table_pair *scratch,
                            uint64_t count, uint32_t depth)
{
    if (fits_segment(count) || depth == 64)
        return build_segment(b, pairs, count, depth);

    uint32_t level = depth / TRIE_PAGE_BITS;
    uint64_t counts[FANOUT] = {0}, to[FANOUT];
    for (uint64_t i = 0; i < count; i++)
        counts[byte_at(pairs[i].hash, level)]++;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FANOUT; i++) {
        to[i] = sum;
        sum += counts[i];
    }
    for (uint64_t i = 0; i < count; i++)
        scratch[to[byte_at(pairs[i].hash, level)]++] = pairs[i];

    trie_word words[FANOUT];
    uint32_t least_span = FANOUT;
    uint64_t at = 0;
    for (uint32_t first = 0, span; first < FANOUT; first += span) {
        uint64_t items;
        span = run_at(counts, first, &items);
        trie_word word;
        if (fits_segment(items))
            word = build_segment(b, scratch + at, items, depth + TRIE_PAGE_BITS - log2_of(span));
        else
            word = build_page(b, scratch + at, pairs + at, items, depth + TRIE_PAGE_BITS);
        at += items;
        for (uint32_t i = first; i < first + span; i++)
            words[i] = word;
        if (span < least_span)
            least_span = span;
    }
    return trie_page_of_words(b->e, level, words, least_span);
}

void table_build_plan(struct table_build *b, const struct table_type *type,
                      const uint64_t counts[TABLE_BUILD_PARTS])
{
    b->type = type;
    b->total = 0;
    b->task_count = 0;
    memcpy(b->counts, counts, sizeof(b->counts));
    for (uint32_t i = 0; i < TABLE_BUILD_PARTS; i++)
        b->total += counts[i];
    for (uint32_t first = 0; b->total > 0 && first < TABLE_BUILD_PARTS;) {
        struct table_build_task *task = &b->tasks[b->task_count++];
        *task = (struct table_build_task){.first = first};
        task->parts = run_at(counts, first, &task->items);
        first += task->parts;
    }
}

bool table_build_task(struct table_build *b, const struct epoch *e, uint32_t task,
                      struct table_pair *pairs, struct table_pair *scratch,
                      void (*reject)(void *ctx, void *item), void *ctx)
{
    struct table_build_task *t = &b->tasks[task];
    struct build build = {.type = b->type, .e = e, .reject = reject, .ctx = ctx};
    if (fits_segment(t->items))
        t->word = build_segment(&build, pairs, t->items, TRIE_PAGE_BITS - log2_of(t->parts));
    else
        t->word = build_page(&build, pairs, scratch, t->items, TRIE_PAGE_BITS);
    t->rejected = build.rejected;
    return build.rejected == 0;
}

void table_build_finish(struct table_build *b, const struct epoch *e, struct table *t)
{
    assert(t->root == 0 && t->count == 0);
    trie_word words[FANOUT];
    uint32_t least_span = FANOUT;
    uint64_t rejected = 0;
    for (uint32_t i = 0; i < b->task_count; i++) {
        const struct table_build_task *task = &b->tasks[i];
        assert(task->word != 0);
        for (uint32_t k = task->first; k < task->first + task->parts; k++)
            words[k] = task->word;
        if (task->parts < least_span)
            least_span = task->parts;
        rejected += task->rejected;
    }
    if (b->task_count == 1)
        t->root = words[0];
    else if (b->task_count > 1)
        t->root = trie_page_of_words(e, 0, words, least_span);
    t->count = b->total - rejected;
}
