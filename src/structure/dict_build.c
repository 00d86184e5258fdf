/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/dict_build.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "structure/dict_leaf.h"

#define FANOUT (1U << TRIE_PAGE_BITS)
/* From so many items on they are kept in parts. */
#define PARTS_FROM 4096
/* The blocks of a part grow up to this. */
#define BLOCK_FIRST 240U
#define BLOCK_LAST 4080U
#define BLOCK_LAST_ALONE 65520U /* where there is one part alone */

/* Records: in an index the items, in others the hash and the item, unaligned. */
struct dict_build_block {
    struct dict_build_block *next;
    uint32_t used, room;
    char bytes[];
};

/* An item on its way into a leaf. */
struct pair {
    uint64_t hash;
    const char *item; /* in a block */
};

struct build {
    const struct epoch *e;
    enum dict_kind kind;
    dict_build_same_fn *same;
    void *ctx;
    bool twice;
};

static_assert(FANOUT == DICT_BUILD_PARTS, "a part is what lies below a slot of the root page");

void dict_builder_begin(struct dict_builder *b, struct epoch *e, enum dict_kind kind,
                        uint64_t expected)
{
    b->e = e;
    b->kind = kind;
    b->total = 0;
    b->parts = expected >= PARTS_FROM ? DICT_BUILD_PARTS : 1;
    memset(b->part, 0, b->parts * sizeof(b->part[0]));
}

static __attribute__((noinline)) struct dict_build_block *
block_new(const struct dict_builder *b, struct dict_build_block *before, uint32_t least)
{
    uint32_t last = b->parts == 1 ? BLOCK_LAST_ALONE : BLOCK_LAST;
    uint32_t room = before ? before->room * 2 + 16 : BLOCK_FIRST;
    if (room > last)
        room = last;
    if (room < least)
        room = least;
    struct dict_build_block *block = mem_alloc(sizeof(*block) + room);
    *block = (struct dict_build_block){.next = before, .room = room};
    return block;
}

static inline uint32_t part_room(struct slice s)
{
    return 1 + (uint32_t)(s.size <= DICT_INLINE_MAX ? s.size : sizeof(void *));
}

static inline char *put_part(char *p, struct slice s, uint64_t hash, const struct epoch *e)
{
    if (__builtin_expect(s.size <= DICT_INLINE_MAX, 1)) {
        *p++ = (char)s.size;
        if (s.size)
            memcpy(p, s.data, s.size);
        return p + s.size;
    }
    struct dict_block *block = mem_alloc(sizeof(*block) + s.size);
    *block = (struct dict_block){.birth = e->now, .size = s.size, .hash = hash};
    memcpy(block->bytes, s.data, s.size);
    *p++ = (char)DICT_PART_BLOCK;
    memcpy(p, &block, sizeof(void *));
    return p + sizeof(void *);
}

void dict_builder_add(struct dict_builder *b, uint64_t hash, struct slice key, struct slice value)
{
    struct dict_build_part *part = &b->part[b->parts == 1 ? 0 : hash >> 56];
    uint32_t size = DICT_INDEX_ITEM, head = 0;
    if (b->kind != DICT_INDEX) {
        head = sizeof(hash);
        size = part_room(key) + (b->kind == DICT_MAP ? part_room(value) : 0);
    }
    struct dict_build_block *block = part->blocks;
    if (__builtin_expect(!block || block->room - block->used < head + size, 0))
        block = part->blocks = block_new(b, block, head + size);
    char *p = block->bytes + block->used;
    memcpy(p, &hash, sizeof(hash));
    if (b->kind == DICT_INDEX) {
        assert(key.size == 8 && value.size == 8);
        memcpy(p + 8, value.data, 8);
    } else {
        p = put_part(p + head, key, hash, b->e);
        if (b->kind == DICT_MAP)
            put_part(p, value, 0, b->e);
    }
    block->used += head + size;
    part->count++;
    part->used += size;
    b->total++;
}

/* --- throwing away ---------------------------------------------------------------------------- */

static void free_part_block(const char *part)
{
    if (dict_part_is_block(part)) {
        struct dict_block *block = dict_part_block(part);
        mem_free_sized(block, sizeof(*block) + block->size);
    }
}

static void free_item_blocks(enum dict_kind kind, const char *item)
{
    if (kind == DICT_INDEX)
        return;
    free_part_block(item);
    if (kind == DICT_MAP)
        free_part_block(item + dict_part_size(item));
}

/* Free what records point to. */
static void drop_records(const struct dict_builder *b, const struct dict_build_block *block)
{
    for (uint32_t at = 0; b->kind != DICT_INDEX && at < block->used;) {
        const char *item = block->bytes + at + sizeof(uint64_t);
        free_item_blocks(b->kind, item);
        at += (uint32_t)sizeof(uint64_t) + dict_item_size(b->kind, item);
    }
}

static void free_blocks(const struct dict_builder *b, struct dict_build_part *part, bool records)
{
    struct dict_build_block *next;
    for (struct dict_build_block *block = part->blocks; block; block = next) {
        next = block->next;
        if (records)
            drop_records(b, block);
        mem_free_sized(block, sizeof(*block) + block->room);
    }
    *part = (struct dict_build_part){0};
}

void dict_builder_drop(struct dict_builder *b)
{
    for (uint32_t i = 0; i < b->parts; i++)
        free_blocks(b, &b->part[i], true);
    b->total = 0;
}

/* --- building --------------------------------------------------------------------------------- */

static bool fits_leaf(const struct build *b, uint64_t count, uint64_t used)
{
    /* Whatever the kind, an item takes a byte at least. */
    return count <= DICT_LEAF_MAX && used <= DICT_LEAF_MAX &&
           dict_leaf_need(b->kind, (uint32_t)count, (uint32_t)used) <= DICT_LEAF_MAX;
}

static bool are_same(const struct build *b, const char *item, const char *other)
{
    if (b->kind != DICT_INDEX)
        return slice_equal(dict_part_slice(item), dict_part_slice(other));
    uint64_t key;
    memcpy(&key, item, sizeof(key));
    return b->same && b->same(b->ctx, key, item + 8, other + 8);
}

/* Whether pair i's key is that of a pair before it, whose tags are in the leaf already. */
static inline bool is_twice(const struct build *b, const struct dict_leaf *leaf,
                            const struct pair *pairs, uint32_t i)
{
    uint8_t tag = dict_leaf_tag(pairs[i].hash);
    for (uint32_t base = 0; base < i; base += 16) {
        uint32_t mask = dict_leaf_match(leaf->tags + base, tag);
        if (i - base < 16)
            mask &= (1U << (i - base)) - 1;
        for (; mask; mask &= mask - 1) {
            uint32_t k = base + (uint32_t)__builtin_ctz(mask);
            if (__builtin_expect(pairs[k].hash == pairs[i].hash, 0) &&
                are_same(b, pairs[k].item, pairs[i].item))
                return true;
        }
    }
    return false;
}

static trie_word build_leaf(struct build *b, const struct pair *pairs, uint64_t count,
                            uint64_t used, uint32_t depth)
{
    if (count > DICT_LEAF_LIMIT || used > DICT_LEAF_LIMIT ||
        dict_leaf_class(dict_leaf_need(b->kind, (uint32_t)count, (uint32_t)used)) >
            DICT_LEAF_LIMIT) {
        fprintf(stderr, "holdfast: dict: too many items with one hash\n");
        abort();
    }
    uint32_t n = (uint32_t)count, kind = b->kind;
    struct dict_leaf *leaf =
        dict_leaf_new(kind, depth, b->e->now,
                      dict_leaf_class(dict_leaf_need(kind, n, (uint32_t)used)), n);
    for (uint32_t i = 0; i < n; i++) {
        const char *item = pairs[i].item;
        b->twice |= is_twice(b, leaf, pairs, i);
        dict_leaf_fill(leaf, i, dict_leaf_tag(pairs[i].hash), item, dict_item_size(kind, item));
        if (kind != DICT_INDEX)
            leaf->has_blocks |=
                dict_part_is_block(item) ||
                (kind == DICT_MAP && dict_part_is_block(item + dict_part_size(item)));
    }
    return trie_leaf_word(leaf, 0);
}

/* Of pairs that all have one hash those stay whose keys differ: of a file that has one member ever
 * so often the leaf would be of any size. Returns how many stay; *used are their bytes. */
static uint64_t drop_twice(struct build *b, struct pair *pairs, uint64_t count, uint64_t *used)
{
    uint64_t kept = 0;
    *used = 0;
    for (uint64_t i = 0; i < count; i++) {
        const char *item = pairs[i].item;
        uint64_t k = 0;
        while (k < kept && !are_same(b, pairs[k].item, item))
            k++;
        if (k == kept) {
            *used += dict_item_size(b->kind, item);
            pairs[kept++] = pairs[i];
            continue;
        }
        b->twice = true;
        free_item_blocks(b->kind, item);
    }
    return kept;
}

/* What lies below each slot of a page that is indexed by a whole byte. */
struct slots {
    uint64_t counts[FANOUT], used[FANOUT];
};

/* The run of slots from `first` on that one leaf holds, or the one slot of a page below. */
static uint32_t run_at(const struct build *b, const struct slots *s, uint32_t first,
                       uint64_t *count, uint64_t *used)
{
    uint32_t span = 1;
    *count = s->counts[first];
    *used = s->used[first];
    if (!fits_leaf(b, *count, *used))
        return 1;
    /* Twice as wide as long as all of it fits: a run begins at a multiple of its width. */
    while (span < FANOUT && first % (2 * span) == 0) {
        uint64_t more = *count, bytes = *used;
        for (uint32_t i = first + span; i < first + 2 * span; i++) {
            more += s->counts[i];
            bytes += s->used[i];
        }
        if (!fits_leaf(b, more, bytes))
            break;
        *count = more;
        *used = bytes;
        span *= 2;
    }
    return span;
}

static uint32_t depth_of_run(uint32_t level, uint32_t span)
{
    return (level + 1) * TRIE_PAGE_BITS - (uint32_t)__builtin_ctz(span);
}

static uint32_t byte_at(uint64_t hash, uint32_t level)
{
    return (uint32_t)(hash >> (56 - TRIE_PAGE_BITS * level)) & (FANOUT - 1);
}

/* What lies below one slot at `depth`, a multiple of 8. Uses up both arrays. */
static trie_word build_below(struct build *b, struct pair *pairs, struct pair *scratch,
                             uint64_t count, uint64_t used, uint32_t depth)
{
    if (depth == 64 && !fits_leaf(b, count, used))
        count = drop_twice(b, pairs, count, &used);
    if (fits_leaf(b, count, used) || depth == 64)
        return build_leaf(b, pairs, count, used, depth);
    uint32_t level = depth / TRIE_PAGE_BITS;
    struct slots s = {.counts = {0}};
    uint64_t to[FANOUT], sum = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t slot = byte_at(pairs[i].hash, level);
        s.counts[slot]++;
        s.used[slot] += dict_item_size(b->kind, pairs[i].item);
    }
    for (uint32_t i = 0; i < FANOUT; i++) {
        to[i] = sum;
        sum += s.counts[i];
    }
    for (uint64_t i = 0; i < count; i++)
        scratch[to[byte_at(pairs[i].hash, level)]++] = pairs[i];

    trie_word words[FANOUT];
    uint32_t least_span = FANOUT;
    uint64_t at = 0;
    for (uint32_t first = 0, span; first < FANOUT; first += span) {
        uint64_t below, bytes;
        span = run_at(b, &s, first, &below, &bytes);
        trie_word word;
        if (fits_leaf(b, below, bytes))
            word = build_leaf(b, scratch + at, below, bytes, depth_of_run(level, span));
        else
            word = build_below(b, scratch + at, pairs + at, below, bytes, depth + TRIE_PAGE_BITS);
        at += below;
        for (uint32_t i = first; i < first + span; i++)
            words[i] = word;
        if (span < least_span)
            least_span = span;
    }
    return trie_page_of_words(b->e, level, words, least_span);
}

/* Point at the records of a part. Returns how many. */
static uint64_t gather(const struct dict_builder *b, const struct dict_build_part *part,
                       struct pair *pairs)
{
    uint64_t n = 0;
    uint32_t head = b->kind == DICT_INDEX ? 0 : sizeof(uint64_t);
    for (const struct dict_build_block *block = part->blocks; block; block = block->next) {
        for (uint32_t at = 0; at < block->used;) {
            struct pair *pair = &pairs[n++];
            memcpy(&pair->hash, block->bytes + at, sizeof(pair->hash));
            pair->item = block->bytes + at + head;
            at += head + dict_item_size(b->kind, pair->item);
        }
    }
    assert(n == part->count);
    return n;
}

/* Arrays for the pairs of a run of parts. */
struct room {
    struct pair *pairs, *scratch;
    uint64_t size;
};

static void make_room(struct room *room, uint64_t count)
{
    if (count <= room->size)
        return;
    mem_free(room->pairs);
    mem_free(room->scratch);
    room->size = count + count / 8;
    room->pairs = mem_alloc(room->size * sizeof(struct pair));
    room->scratch = mem_alloc(room->size * sizeof(struct pair));
}

/* The parts are what lies below the slots of the root page. */
static trie_word build_parts(struct dict_builder *b, struct build *build, struct room *room)
{
    struct slots s;
    for (uint32_t i = 0; i < FANOUT; i++) {
        s.counts[i] = b->part[i].count;
        s.used[i] = b->part[i].used;
    }
    trie_word words[FANOUT];
    uint32_t least_span = FANOUT;
    for (uint32_t first = 0, span; first < FANOUT; first += span) {
        uint64_t count, used, n = 0;
        span = run_at(build, &s, first, &count, &used);
        make_room(room, count);
        for (uint32_t i = first; i < first + span; i++)
            n += gather(b, &b->part[i], room->pairs + n);
        trie_word word;
        if (fits_leaf(build, count, used))
            word = build_leaf(build, room->pairs, count, used, depth_of_run(0, span));
        else
            word = build_below(build, room->pairs, room->scratch, count, used, TRIE_PAGE_BITS);
        for (uint32_t i = first; i < first + span; i++) {
            free_blocks(b, &b->part[i], false);
            words[i] = word;
        }
        if (span < least_span)
            least_span = span;
    }
    /* All in one leaf: there were less than expected. */
    return least_span == FANOUT ? words[0] : trie_page_of_words(b->e, 0, words, least_span);
}

bool dict_builder_finish(struct dict_builder *b, struct dict *d, dict_build_same_fn *same,
                         void *ctx)
{
    struct build build = {.e = b->e, .kind = b->kind, .same = same, .ctx = ctx};
    struct room room = {0};
    dict_init(d, b->kind);
    if (b->total > 0) {
        if (b->parts == 1) {
            struct dict_build_part *part = &b->part[0];
            make_room(&room, part->count);
            gather(b, part, room.pairs);
            d->root = build_below(&build, room.pairs, room.scratch, part->count, part->used, 0);
            free_blocks(b, part, false);
        } else {
            d->root = build_parts(b, &build, &room);
        }
        d->count = b->total & ((1ULL << 56) - 1);
        b->total = 0;
    }
    mem_free(room.pairs);
    mem_free(room.scratch);
    if (!build.twice)
        return true;
    dict_clear(d, b->e);
    return false;
}
