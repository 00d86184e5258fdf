/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The directory of an extendible-hash trie: it maps the top bits of a 64-bit hash to a leaf. The
 * leaves are somebody else's: `table` (buckets of pointers to entries) and `dict` (packed items)
 * share this directory, its copy-on-write, its splitting and its walking.
 *
 * Shape. A word refers to a page or to a leaf. A page at level L is indexed by hash bits
 * [8L, 8L+8), counted from the top; it begins with two slots and doubles up to 256 (bits = 1..8). A
 * leaf of depth d holds exactly the hashes with one d-bit prefix and stands in every slot of its
 * page that has this prefix. A leaf that splits at the depth where its page is full (d = 8L+8) gets
 * a child page. Hash order is iteration order; a leaf's range is known from its depth and any hash
 * in it.
 *
 *     word:  63            48 47                        4 3   1  0
 *            +---------------+---------------------------+-----+---+
 *            | leaf's meta   | address (16-byte aligned) |  0  | p |   p = 1: a page
 *            +---------------+---------------------------+-----+---+
 *
 * The meta bits are the leaf owner's: table keeps the size of the segment there so that a lookup
 * need not touch the leaf's header. The word 0 is the empty trie.
 *
 * Copy-on-write. Pages and leaves carry their birth. Before a leaf is changed or replaced the path
 * of pages above it is made owned (trie_path_own); then the owner copies the leaf if it is not
 * owned and puts the copy's word in place (trie_path_set).
 *
 * Every leaf begins with struct trie_leaf. `due` is the owner's: the earliest expiry below, a lower
 * bound, INT64_MAX when nothing expires; pages keep the least of their children's.
 */
#ifndef HF_STRUCTURE_TRIE_H
#define HF_STRUCTURE_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "structure/epoch.h"

typedef uint64_t trie_word;

struct trie_leaf {
    uint64_t birth;
    int64_t due;
    uint8_t depth; /* how many top bits of the hash all items share */
};

#define TRIE_PAGE_BITS 8
#define TRIE_LEVELS 8

struct trie_page {
    uint64_t birth;
    int64_t due;
    uint8_t bits;  /* 1..8: 1 << bits slots */
    uint8_t level; /* indexed by hash bits [8*level, 8*level + bits) */
    trie_word slots[];
};

#define TRIE_IS_PAGE(word) ((word)&1U)
#define TRIE_ADDRESS_MASK 0x0000fffffffffff0ULL

static inline struct trie_page *trie_page_of(trie_word word)
{
    return (struct trie_page *)(uintptr_t)(word & TRIE_ADDRESS_MASK);
}

static inline struct trie_leaf *trie_leaf_of(trie_word word)
{
    return (struct trie_leaf *)(uintptr_t)(word & TRIE_ADDRESS_MASK);
}

static inline uint16_t trie_meta_of(trie_word word)
{
    return (uint16_t)(word >> 48);
}

/* leaf must be 16-byte aligned and below 2^48. */
trie_word trie_leaf_word(const void *leaf, uint16_t meta);

static inline uint32_t trie_page_index(const struct trie_page *page, uint64_t hash)
{
    /* Two shifts, as a shift by 64 is undefined when bits is 0. */
    return (uint32_t)(((hash << (TRIE_PAGE_BITS * page->level)) >> 1) >> (63 - page->bits));
}

/* The word of the leaf that holds `hash`; 0 for the empty trie. */
static inline trie_word trie_find(trie_word root, uint64_t hash)
{
    while (TRIE_IS_PAGE(root)) {
        const struct trie_page *page = trie_page_of(root);
        root = page->slots[trie_page_index(page, hash)];
    }
    return root;
}

/* Ask for what trie_find will read below the root page, where that is a page, too. */
static inline void trie_prefetch(trie_word root, uint64_t hash)
{
    if (!TRIE_IS_PAGE(root))
        return;
    const struct trie_page *page = trie_page_of(root);
    trie_word below = page->slots[trie_page_index(page, hash)];
    if (!TRIE_IS_PAGE(below))
        return;
    page = trie_page_of(below);
    __builtin_prefetch(&page->slots[trie_page_index(page, hash)]);
}

/* The way from the root to a leaf, all pages on it owned: valid until the trie is next changed by
 * other means than this path. */
struct trie_path {
    trie_word *root;
    struct trie_page *page[TRIE_LEVELS]; /* page[count-1] holds the leaf; count may be 0 */
    uint32_t index[TRIE_LEVELS];
    int count;
    trie_word leaf;
};

/* Make every page on the way to `hash` owned, copying and retiring where needed. *root may be 0. */
void trie_path_own(struct epoch *e, trie_word *root, uint64_t hash, struct trie_path *path);

/* Put `leaf` in the place of path->leaf, in all the slots that it fills. The depth must be the same
 * (or the trie empty and the depth 0). Does not retire the old leaf: the owner knows its size. */
void trie_path_set(struct trie_path *path, trie_word leaf);

/* Replace the leaf of depth d by two of depth d+1 (left: next bit 0), doubling the page or adding a
 * child page where needed. Afterwards the path leads to the one that holds `hash`. */
void trie_path_split(struct epoch *e, struct trie_path *path, trie_word left, trie_word right,
                     uint64_t hash);

/* The leaf that could be merged with path->leaf: same depth, sharing all but the last bit; 0 if
 * there is none (the neighbour is deeper, a page, or the depth is 0). */
trie_word trie_path_sibling(const struct trie_path *path, uint64_t hash);
/* Replace the leaf and its sibling (depth d) by one leaf of depth d-1, shrinking pages where that
 * is possible. The owner retires the two. */
void trie_path_merge(struct epoch *e, struct trie_path *path, trie_word merged, uint64_t hash);

/* The way to `hash` while no snapshot is live, and the pages on it moved (base/mem_move.h) whose
 * range begins with it: so a walk over all leaves moves each page once. */
struct mem_mover;
void trie_path_move(struct mem_mover *m, trie_word *root, uint64_t hash, struct trie_path *path);

/* Lower the `due` of all pages on the path to at most `due`. */
void trie_path_note_due(struct trie_path *path, int64_t due);

/* A page that is in no trie yet, for who builds one as a whole: the caller fills its slots and sets
 * its `due`. */
trie_word trie_page_new(const struct epoch *e, uint32_t bits, uint32_t level,
                        struct trie_page **page);
/* The same out of the words of 256 slots, which are equal in runs of `least_span` (a power of two
 * below 256) at least: the smallest page that tells them apart, with its `due`. */
trie_word trie_page_of_words(const struct epoch *e, uint32_t level,
                             const trie_word words[1 << TRIE_PAGE_BITS], uint32_t least_span);

/* Walking, in hash order, over the current or a frozen trie. Finds the leaf that holds `from` and
 * gives its first and last hash. The next leaf holds *last + 1; the walk ends when *last is
 * UINT64_MAX. Returns 0 for the empty trie. */
trie_word trie_leaf_at(trie_word root, uint64_t from, uint64_t *first, uint64_t *last);

/* Deep free for owners: calls free_leaf for each leaf with birth > seen, frees pages with birth >
 * seen, and calls keep for each topmost page or leaf word with birth <= seen. */
struct trie_free_ops {
    void (*free_leaf)(void *ctx, trie_word leaf, uint64_t seen);
    void (*keep)(void *ctx, trie_word word, uint64_t birth);
    void *ctx;
};
void trie_free(trie_word root, uint64_t seen, const struct trie_free_ops *ops);

/* Bytes of the pages alone (walks them). */
size_t trie_page_bytes(trie_word root);

/* Check the directory: ranges, depths, births and due times of pages and leaves; calls leaf for
 * each leaf with the first hash of its range. Aborts with a message when something is wrong. For
 * tests. With e == NULL (a frozen trie) the births are not looked at. */
void trie_check(trie_word root, const struct epoch *e,
                void (*leaf)(void *ctx, trie_word leaf, uint64_t first), void *ctx);

static inline int64_t trie_word_due(trie_word word)
{
    return TRIE_IS_PAGE(word) ? trie_page_of(word)->due : trie_leaf_of(word)->due;
}

static inline uint64_t trie_word_birth(trie_word word)
{
    return TRIE_IS_PAGE(word) ? trie_page_of(word)->birth : trie_leaf_of(word)->birth;
}

#endif
