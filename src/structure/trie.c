/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/trie.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/mem_move.h"

/* A page stands in exactly one slot of its parent: it took the place of a leaf that filled one slot
 * of a full page, and while it is there that page cannot get smaller. */

static size_t page_size(uint32_t bits)
{
    return sizeof(struct trie_page) + (sizeof(trie_word) << bits);
}

static trie_word page_word(const struct trie_page *page)
{
    assert(((uintptr_t)page & ~TRIE_ADDRESS_MASK) == 0);
    return (trie_word)(uintptr_t)page | 1;
}

trie_word trie_leaf_word(const void *leaf, uint16_t meta)
{
    assert(((uintptr_t)leaf & ~TRIE_ADDRESS_MASK) == 0);
    return (trie_word)(uintptr_t)leaf | (trie_word)meta << 48;
}

static struct trie_page *page_new(const struct epoch *e, uint32_t bits, uint32_t level, int64_t due)
{
    struct trie_page *page = mem_alloc(page_size(bits));
    *page = (struct trie_page){
        .birth = e->now, .due = due, .bits = (uint8_t)bits, .level = (uint8_t)level};
    return page;
}

trie_word trie_page_new(const struct epoch *e, uint32_t bits, uint32_t level,
                        struct trie_page **page)
{
    *page = page_new(e, bits, level, INT64_MAX);
    return page_word(*page);
}

trie_word trie_page_of_words(const struct epoch *e, uint32_t level,
                             const trie_word words[1 << TRIE_PAGE_BITS], uint32_t least_span)
{
    struct trie_page *page;
    uint32_t span_bits = (uint32_t)__builtin_ctz(least_span);
    trie_word word = trie_page_new(e, TRIE_PAGE_BITS - span_bits, level, &page);
    for (uint32_t i = 0; i < 1U << page->bits; i++) {
        page->slots[i] = words[i * least_span];
        int64_t due = trie_word_due(page->slots[i]);
        if (due < page->due)
            page->due = due;
    }
    return word;
}

static void page_retire(struct epoch *e, struct trie_page *page)
{
    epoch_retire(e, page, page_size(page->bits), page->birth);
}

/* How many slots of the page a leaf of this depth fills. */
static uint32_t leaf_span(const struct trie_page *page, uint32_t depth)
{
    uint32_t page_depth = TRIE_PAGE_BITS * (uint32_t)page->level + page->bits;
    assert(depth > TRIE_PAGE_BITS * (uint32_t)page->level && depth <= page_depth);
    return 1U << (page_depth - depth);
}

static void fill(struct trie_page *page, uint32_t from, uint32_t count, trie_word word)
{
    for (uint32_t i = from; i < from + count; i++)
        page->slots[i] = word;
}

/* Where the word of the path's deepest page stands. */
static trie_word *page_slot(struct trie_path *path)
{
    if (path->count == 1)
        return path->root;
    return &path->page[path->count - 2]->slots[path->index[path->count - 2]];
}

void trie_path_own(struct epoch *e, trie_word *root, uint64_t hash, struct trie_path *path)
{
    path->root = root;
    path->count = 0;
    trie_word *slot = root;
    while (TRIE_IS_PAGE(*slot)) {
        struct trie_page *page = trie_page_of(*slot);
        if (!epoch_owned(e, page->birth)) {
            struct trie_page *copy = page_new(e, page->bits, page->level, page->due);
            memcpy(copy->slots, page->slots, sizeof(trie_word) << page->bits);
            *slot = page_word(copy);
            page_retire(e, page);
            page = copy;
        }
        uint32_t index = trie_page_index(page, hash);
        path->page[path->count] = page;
        path->index[path->count] = index;
        path->count++;
        slot = &page->slots[index];
    }
    path->leaf = *slot;
}

void trie_path_move(struct mem_mover *m, trie_word *root, uint64_t hash, struct trie_path *path)
{
    path->root = root;
    path->count = 0;
    trie_word *slot = root;
    while (TRIE_IS_PAGE(*slot)) {
        struct trie_page *page = trie_page_of(*slot);
        if (hash << (TRIE_PAGE_BITS * page->level) == 0) {
            page = mem_move(m, page);
            *slot = page_word(page);
        }
        uint32_t index = trie_page_index(page, hash);
        path->page[path->count] = page;
        path->index[path->count] = index;
        path->count++;
        slot = &page->slots[index];
    }
    path->leaf = *slot;
}

void trie_path_set(struct trie_path *path, trie_word leaf)
{
    const struct trie_leaf *header = trie_leaf_of(leaf);
    path->leaf = leaf;
    if (path->count == 0) {
        assert(header->depth == 0);
        *path->root = leaf;
        return;
    }
    struct trie_page *page = path->page[path->count - 1];
    uint32_t span = leaf_span(page, header->depth);
    fill(page, path->index[path->count - 1] & ~(span - 1), span, leaf);
    trie_path_note_due(path, header->due);
}

static void page_double(struct epoch *e, struct trie_path *path)
{
    struct trie_page *page = path->page[path->count - 1];
    struct trie_page *twice = page_new(e, page->bits + 1U, page->level, page->due);
    for (uint32_t i = 0; i < 1U << page->bits; i++)
        twice->slots[2 * i] = twice->slots[2 * i + 1] = page->slots[i];
    *page_slot(path) = page_word(twice);
    path->page[path->count - 1] = twice;
    page_retire(e, page);
}

void trie_path_split(struct epoch *e, struct trie_path *path, trie_word left, trie_word right,
                     uint64_t hash)
{
    uint32_t depth = trie_leaf_of(left)->depth;
    assert(depth > 0 && trie_leaf_of(right)->depth == depth);
    uint32_t level = (depth - 1) / TRIE_PAGE_BITS;
    assert(level < TRIE_LEVELS);

    if (path->count == (int)level) {
        /* The leaf moves down to a page of its own. */
        struct trie_page *child = page_new(e, 1, level, INT64_MAX);
        trie_word *slot = path->root;
        if (path->count > 0)
            slot = &path->page[path->count - 1]->slots[path->index[path->count - 1]];
        *slot = page_word(child);
        path->page[path->count++] = child;
    } else if (level * TRIE_PAGE_BITS + path->page[path->count - 1]->bits < depth) {
        page_double(e, path);
    }
    struct trie_page *page = path->page[path->count - 1];
    uint32_t index = trie_page_index(page, hash);
    uint32_t span = leaf_span(page, depth);
    uint32_t from = index & ~(2 * span - 1);
    fill(page, from, span, left);
    fill(page, from + span, span, right);
    path->index[path->count - 1] = index;
    path->leaf = page->slots[index];
    trie_path_note_due(path, trie_leaf_of(left)->due);
    trie_path_note_due(path, trie_leaf_of(right)->due);
}

trie_word trie_path_sibling(const struct trie_path *path, uint64_t hash)
{
    if (path->count == 0)
        return 0;
    const struct trie_page *page = path->page[path->count - 1];
    uint32_t span = leaf_span(page, trie_leaf_of(path->leaf)->depth);
    uint32_t from = (trie_page_index(page, hash) ^ span) & ~(span - 1);
    trie_word word = page->slots[from];
    /* A leaf of the same depth fills just these slots, so the last is like the first. */
    if (TRIE_IS_PAGE(word) || page->slots[from + span - 1] != word)
        return 0;
    return word;
}

static bool page_can_halve(const struct trie_page *page)
{
    if (page->bits == 1)
        return false;
    for (uint32_t i = 0; i < 1U << page->bits; i += 2) {
        if (page->slots[i] != page->slots[i + 1])
            return false;
    }
    return true;
}

static void page_halve(struct epoch *e, struct trie_path *path)
{
    struct trie_page *page = path->page[path->count - 1];
    struct trie_page *half = page_new(e, page->bits - 1U, page->level, page->due);
    for (uint32_t i = 0; i < 1U << half->bits; i++)
        half->slots[i] = page->slots[2 * i];
    *page_slot(path) = page_word(half);
    path->page[path->count - 1] = half;
    path->index[path->count - 1] /= 2;
    page_retire(e, page);
}

void trie_path_merge(struct epoch *e, struct trie_path *path, trie_word merged, uint64_t hash)
{
    const struct trie_leaf *header = trie_leaf_of(merged);
    struct trie_page *page = path->page[path->count - 1];
    path->leaf = merged;
    if (header->depth == TRIE_PAGE_BITS * (uint32_t)page->level) {
        /* It is all that the page holds, and stands in the place of the page. */
        assert(page->bits == 1);
        *page_slot(path) = merged;
        path->count--;
        page_retire(e, page);
    } else {
        uint32_t span = leaf_span(page, header->depth);
        fill(page, trie_page_index(page, hash) & ~(span - 1), span, merged);
        while (page_can_halve(path->page[path->count - 1]))
            page_halve(e, path);
    }
    trie_path_note_due(path, header->due);
}

void trie_path_note_due(struct trie_path *path, int64_t due)
{
    /* A page's bound is never above that of a page below it. */
    for (int i = path->count - 1; i >= 0 && path->page[i]->due > due; i--)
        path->page[i]->due = due;
}

trie_word trie_leaf_at(trie_word root, uint64_t from, uint64_t *first, uint64_t *last)
{
    trie_word leaf = trie_find(root, from);
    *first = 0;
    *last = UINT64_MAX;
    if (leaf) {
        uint32_t depth = trie_leaf_of(leaf)->depth;
        uint64_t below = depth == 64 ? 0 : UINT64_MAX >> depth;
        *first = from & ~below;
        *last = from | below;
    }
    return leaf;
}

void trie_free(trie_word root, uint64_t seen, const struct trie_free_ops *ops)
{
    if (root == 0)
        return;
    uint64_t birth = trie_word_birth(root);
    if (birth <= seen) {
        ops->keep(ops->ctx, root, birth);
        return;
    }
    if (!TRIE_IS_PAGE(root)) {
        ops->free_leaf(ops->ctx, root, seen);
        return;
    }
    struct trie_page *page = trie_page_of(root);
    trie_word before = 0;
    for (uint32_t i = 0; i < 1U << page->bits; i++) {
        /* A leaf that fills several slots is met once. */
        if (page->slots[i] != before)
            trie_free(page->slots[i], seen, ops);
        before = page->slots[i];
    }
    mem_free_sized(page, page_size(page->bits));
}

size_t trie_page_bytes(trie_word root)
{
    if (!TRIE_IS_PAGE(root))
        return 0;
    const struct trie_page *page = trie_page_of(root);
    size_t bytes = mem_good_size(page_size(page->bits));
    for (uint32_t i = 0; i < 1U << page->bits; i++)
        bytes += trie_page_bytes(page->slots[i]);
    return bytes;
}

/* --- checking ----------------------------------------------------------------------------------
 */

#define CHECK(condition)                                                        \
    do {                                                                        \
        if (!(condition)) {                                                     \
            fprintf(stderr, "trie_check: line %d: %s\n", __LINE__, #condition); \
            abort();                                                            \
        }                                                                       \
    } while (0)

struct check {
    const struct epoch *e;
    void (*leaf)(void *ctx, trie_word leaf, uint64_t first);
    void *ctx;
};

static void check_leaf(const struct check *c, trie_word word, uint32_t depth, uint64_t first)
{
    const struct trie_leaf *leaf = trie_leaf_of(word);
    CHECK(leaf->depth == depth);
    CHECK(!c->e || (leaf->birth > 0 && leaf->birth <= c->e->now));
    if (c->leaf)
        c->leaf(c->ctx, word, first);
}

static void check_page(const struct check *c, const struct trie_page *page, uint32_t level,
                       uint64_t first)
{
    CHECK(page->level == level && level < TRIE_LEVELS);
    CHECK(page->bits >= 1 && page->bits <= TRIE_PAGE_BITS);
    CHECK(!c->e || (page->birth > 0 && page->birth <= c->e->now));
    uint32_t page_depth = level * TRIE_PAGE_BITS + page->bits;
    uint32_t count = 1U << page->bits;
    uint32_t deepest = 0;
    for (uint32_t i = 0, span; i < count; i += span) {
        trie_word word = page->slots[i];
        uint64_t here = first | (uint64_t)i << (64 - page_depth);
        CHECK(word != 0);
        CHECK(trie_word_due(word) >= page->due);
        /* Invariant 1: an owned child has an owned parent. */
        CHECK(!c->e || epoch_owned(c->e, page->birth) || !epoch_owned(c->e, trie_word_birth(word)));
        if (TRIE_IS_PAGE(word)) {
            CHECK(page->bits == TRIE_PAGE_BITS);
            check_page(c, trie_page_of(word), level + 1, here);
            span = 1;
            deepest = page_depth;
            continue;
        }
        uint32_t depth = trie_leaf_of(word)->depth;
        span = leaf_span(page, depth);
        CHECK((i & (span - 1)) == 0 && i + span <= count);
        for (uint32_t k = i; k < i + span; k++)
            CHECK(page->slots[k] == word);
        check_leaf(c, word, depth, here);
        if (depth > deepest)
            deepest = depth;
    }
    CHECK(deepest == page_depth || page->bits == 1);
}

void trie_check(trie_word root, const struct epoch *e,
                void (*leaf)(void *ctx, trie_word leaf, uint64_t first), void *ctx)
{
    struct check c = {e, leaf, ctx};
    if (root == 0)
        return;
    if (TRIE_IS_PAGE(root))
        check_page(&c, trie_page_of(root), 0, 0);
    else
        check_leaf(&c, root, 0, 0);
}
