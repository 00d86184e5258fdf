/* SPDX-License-Identifier: BSD-3-Clause
 *
 *     tag:   63          16 15       8 7       0
 *            +-------------+----------+---------+
 *            |    birth    |  height  |    0    |
 *            +-------------+----------+---------+
 *
 * Invariants, checked by rope_check:
 * 1. The bytes of a chunk in use end at the rope's size at the latest, so that a rope which is
 *    extended reads as zeros there.
 * 2. A page's slots up to its capacity are valid or NULL.
 * 3. The height is enough for the size; it may be more.
 */
#include "structure/rope.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/mem_move.h"

struct chunk {
    uint64_t tag;
    uint32_t capacity; /* bytes */
    uint32_t used;
    char bytes[];
};

struct page {
    uint64_t tag;
    uint32_t capacity; /* slots */
    uint32_t unused;
    void *slots[];
};

#define PAGE_SLOTS 510
#define HEIGHT_MAX 5
static_assert(sizeof(struct chunk) == ROPE_HEAD, "a block's bytes stand where a chunk's do");
static_assert(sizeof(struct chunk) + ROPE_CHUNK == 8192, "a full chunk fills its size class");
static_assert(sizeof(struct page) + PAGE_SLOTS * sizeof(void *) == 4096, "a full page as well");

/* Chunks below a node of each height. */
static const uint64_t spans[HEIGHT_MAX + 1] = {
    1,
    PAGE_SLOTS,
    PAGE_SLOTS * PAGE_SLOTS,
    1ULL * PAGE_SLOTS * PAGE_SLOTS * PAGE_SLOTS,
    1ULL * PAGE_SLOTS * PAGE_SLOTS * PAGE_SLOTS * PAGE_SLOTS,
    1ULL * PAGE_SLOTS * PAGE_SLOTS * PAGE_SLOTS * PAGE_SLOTS * PAGE_SLOTS,
};

static const char zeros[ROPE_CHUNK];

static int height_of(const void *node)
{
    return (int)(*(const uint64_t *)node >> 8 & 0xff);
}

static uint64_t birth_of(const void *node)
{
    return *(const uint64_t *)node >> 16;
}

static uint64_t tag_of(uint64_t birth, int height)
{
    return birth << 16 | (uint64_t)height << 8;
}

static size_t block_size(const void *node)
{
    if (height_of(node) == 0)
        return sizeof(struct chunk) + ((const struct chunk *)node)->capacity;
    return sizeof(struct page) + ((const struct page *)node)->capacity * sizeof(void *);
}

static void set_size(struct rope *r, uint64_t size)
{
    r->size = size & ((1ULL << 56) - 1);
}

static void set_height(struct rope *r, int height)
{
    assert(height <= HEIGHT_MAX);
    r->height = (uint64_t)height & 0xff;
}

static uint32_t index_in(int height, uint64_t chunk)
{
    return (uint32_t)(chunk / spans[height - 1] % PAGE_SLOTS);
}

static void retire_node(struct epoch *e, void *node)
{
    epoch_retire(e, node, block_size(node), birth_of(node));
}

/* The epoch reckons with nodes of some hundred bytes. */
#define CHUNK_WEIGHT 16
/* So many chunks (2 MiB) are freed in place, in about 20 us: handing them to the reclaimer costs
 * more, and what another thread has freed is cold to the next value. */
#define CHUNKS_IN_PLACE 256

static void retire_subtree(struct epoch *e, void *node, uint64_t chunks)
{
    if (height_of(node) == 0) {
        retire_node(e, node);
        return;
    }
    size_t weight = (size_t)chunks * CHUNK_WEIGHT;
    if (chunks <= CHUNKS_IN_PLACE && weight >= EPOCH_SMALL_WEIGHT)
        weight = EPOCH_SMALL_WEIGHT - 1;
    epoch_retire_deep(e, EPOCH_ROPE, node, birth_of(node), weight);
}

void rope_init(struct rope *r)
{
    *r = (struct rope){.root = NULL};
}

/* --- reading ---------------------------------------------------------------------------------- */

static struct chunk *find_chunk(const struct rope *r, uint64_t chunk)
{
    void *node = r->root;
    for (int height = r->height; height > 0 && node; height--) {
        struct page *page = node;
        uint32_t index = index_in(height, chunk);
        node = index < page->capacity ? page->slots[index] : NULL;
    }
    return node;
}

struct slice rope_run(const struct rope *r, uint64_t offset, uint64_t size)
{
    if (offset >= r->size)
        return slice_of(zeros, 0);
    if (size > r->size - offset)
        size = r->size - offset;
    const struct chunk *c = find_chunk(r, offset / ROPE_CHUNK);
    uint32_t at = (uint32_t)(offset % ROPE_CHUNK);
    uint32_t end = c && at < c->used ? c->used : ROPE_CHUNK;
    const char *data = c && at < c->used ? c->bytes + at : zeros;
    return slice_of(data, size < end - at ? (size_t)size : end - at);
}

uint64_t rope_hole(const struct rope *r, uint64_t offset)
{
    if (offset >= r->size)
        return 0;
    uint64_t chunk = offset / ROPE_CHUNK, end = r->size;
    const void *node = r->root;
    for (int height = r->height; height > 0 && node; height--) {
        const struct page *page = node;
        uint32_t index = index_in(height, chunk);
        uint64_t span = spans[height - 1], first = chunk - chunk % spans[height];
        node = index < page->capacity ? page->slots[index] : NULL;
        /* Behind a page's capacity there is nothing up to the end of what it could have. */
        uint64_t next =
            index < page->capacity ? chunk - chunk % span + span : first + spans[height];
        if (next < end / ROPE_CHUNK + 1)
            end = next * ROPE_CHUNK;
    }
    if (!node)
        return end - offset;
    const struct chunk *c = node;
    uint64_t chunk_end = (chunk + 1) * ROPE_CHUNK;
    if (offset % ROPE_CHUNK < c->used)
        return 0;
    return (chunk_end < end ? chunk_end : end) - offset;
}

void rope_read(const struct rope *r, uint64_t offset, void *out, size_t size)
{
    assert(offset <= r->size && size <= r->size - offset);
    for (char *to = out; size > 0;) {
        struct slice run = rope_run(r, offset, size);
        memcpy(to, run.data, run.size);
        to += run.size;
        offset += run.size;
        size -= run.size;
    }
}

/* --- owned nodes ------------------------------------------------------------------------------ */

static struct chunk *chunk_new(struct epoch *e, uint32_t capacity)
{
    assert(capacity <= ROPE_CHUNK);
    size_t size = mem_good_size(sizeof(struct chunk) + capacity);
    struct chunk *c = mem_alloc(size);
    c->tag = tag_of(e->now, 0);
    c->capacity = (uint32_t)(size - sizeof(*c));
    c->used = 0;
    return c;
}

/* A page for `count` slots, with those of `old`, which may be NULL and is retired. */
static struct page *page_rebuild(struct epoch *e, int height, struct page *old, uint32_t count)
{
    size_t size = mem_good_size(sizeof(struct page) + count * sizeof(void *));
    struct page *page = mem_alloc(size);
    page->tag = tag_of(e->now, height);
    page->capacity = (uint32_t)((size - sizeof(*page)) / sizeof(void *));
    page->unused = 0;
    uint32_t kept = 0;
    if (old) {
        kept = old->capacity < page->capacity ? old->capacity : page->capacity;
        memcpy(page->slots, old->slots, kept * sizeof(void *));
        retire_node(e, old);
    }
    memset(page->slots + kept, 0, (page->capacity - kept) * sizeof(void *));
    return page;
}

/* Make the rope high enough for a number of chunks. */
static void grow_height(struct rope *r, struct epoch *e, uint64_t chunks)
{
    while (spans[r->height] < chunks) {
        int height = r->height + 1;
        if (r->root) {
            struct page *page = page_rebuild(e, height, NULL, 2);
            page->slots[0] = r->root;
            r->root = page;
        }
        set_height(r, height);
    }
}

/* The slot of a chunk, in pages that are owned. */
static void **own_slot(struct rope *r, struct epoch *e, uint64_t chunk)
{
    grow_height(r, e, chunk + 1);
    void **slot = &r->root;
    for (int height = r->height; height > 0; height--) {
        struct page *page = *slot;
        uint32_t index = index_in(height, chunk);
        if (!page || index >= page->capacity || !epoch_owned(e, birth_of(page))) {
            uint32_t count = page && page->capacity > index ? page->capacity : index + 1;
            page = page_rebuild(e, height, page, count);
            *slot = page;
        }
        slot = &page->slots[index];
    }
    return slot;
}

/* The chunk in an owned slot, to be changed in [from, to): owned, with room up to `to` and no gap
 * in front of `from`. */
static struct chunk *own_chunk(struct epoch *e, void **slot, uint32_t from, uint32_t to)
{
    struct chunk *c = *slot;
    if (!c || to > c->capacity || !epoch_owned(e, birth_of(c))) {
        /* What is about to be overwritten whole need not be copied. */
        uint32_t kept = c && !(from == 0 && to >= c->used) ? c->used : 0;
        struct chunk *fresh = chunk_new(e, kept > to ? kept : to);
        if (c) {
            memcpy(fresh->bytes, c->bytes, kept);
            retire_node(e, c);
        }
        fresh->used = kept;
        *slot = c = fresh;
    }
    if (c->used < from) {
        memset(c->bytes + c->used, 0, from - c->used);
        c->used = from;
    }
    return c;
}

/* --- writing ---------------------------------------------------------------------------------- */

void rope_write(struct rope *r, struct epoch *e, uint64_t offset, struct slice bytes)
{
    if (bytes.size == 0)
        return;
    if (offset + bytes.size > r->size)
        set_size(r, offset + bytes.size);
    while (bytes.size > 0) {
        uint32_t at = (uint32_t)(offset % ROPE_CHUNK);
        uint32_t n = bytes.size < ROPE_CHUNK - at ? (uint32_t)bytes.size : ROPE_CHUNK - at;
        struct chunk *c = own_chunk(e, own_slot(r, e, offset / ROPE_CHUNK), at, at + n);
        memcpy(c->bytes + at, bytes.data, n);
        if (c->used < at + n)
            c->used = at + n;
        bytes = slice_of(bytes.data + n, bytes.size - n);
        offset += n;
    }
}

void rope_extend(struct rope *r, struct epoch *e, uint64_t size)
{
    if (size <= r->size)
        return;
    grow_height(r, e, (size - 1) / ROPE_CHUNK + 1);
    set_size(r, size);
}

void rope_adopt(struct rope *r, struct epoch *e, char **blocks, uint64_t size)
{
    assert(r->root == NULL && r->size == 0 && size > 0);
    set_size(r, size);
    /* The last page first: the pages above the chunks get their full size at once. */
    uint64_t count = (size - 1) / ROPE_CHUNK + 1;
    for (uint64_t i = count; i-- > 0;) {
        uint64_t left = size - i * ROPE_CHUNK;
        struct chunk *c = (struct chunk *)(void *)blocks[i];
        c->tag = tag_of(e->now, 0);
        c->capacity = ROPE_CHUNK;
        c->used = left < ROPE_CHUNK ? (uint32_t)left : ROPE_CHUNK;
        blocks[i] = NULL;
        if (mem_good_size(sizeof(*c) + c->used) < sizeof(*c) + ROPE_CHUNK) {
            /* The last one is as small as it may be. */
            struct chunk *small = chunk_new(e, c->used);
            memcpy(small->bytes, c->bytes, c->used);
            small->used = c->used;
            mem_free(c);
            c = small;
        }
        *own_slot(r, e, i) = c;
    }
}

void rope_clear(struct rope *r, struct epoch *e)
{
    if (r->root)
        retire_subtree(e, r->root, r->size / ROPE_CHUNK + 1);
    rope_init(r);
}

/* --- moving ----------------------------------------------------------------------------------- */

uint64_t rope_move(struct rope *r, struct mem_mover *m, uint64_t from)
{
    if (from >= spans[r->height])
        return 0;
    void **slot = &r->root;
    uint64_t next = from + 1;
    for (int height = r->height;; height--) {
        uint64_t span = spans[height], end = from - from % span + span;
        if (!*slot) {
            next = end; /* a hole */
            break;
        }
        if (from % span == 0)
            *slot = mem_move(m, *slot);
        if (height == 0)
            break;
        struct page *page = *slot;
        uint32_t index = index_in(height, from);
        if (index >= page->capacity) {
            next = end;
            break;
        }
        slot = &page->slots[index];
    }
    return next < spans[r->height] && next * ROPE_CHUNK < r->size ? next : 0;
}

/* --- the deep free, sizes, the check ---------------------------------------------------------- */

static void free_subtree(struct epoch_reclaim *ctx, void *node, uint64_t seen)
{
    uint64_t birth = birth_of(node);
    if (birth <= seen) {
        epoch_keep(ctx, EPOCH_ROPE, node, birth);
        return;
    }
    if (height_of(node) > 0) {
        struct page *page = node;
        for (uint32_t i = 0; i < page->capacity; i++) {
            if (page->slots[i])
                free_subtree(ctx, page->slots[i], seen);
        }
    }
    mem_free_sized(node, block_size(node));
}

void rope_free_below(struct epoch_reclaim *ctx, const struct rope *r, uint64_t seen)
{
    if (r->root)
        free_subtree(ctx, r->root, seen);
}

void rope_register(void)
{
    epoch_register(EPOCH_ROPE, free_subtree);
}

static size_t bytes_below(const void *node)
{
    size_t bytes = block_size(node);
    if (height_of(node) == 0)
        return bytes;
    const struct page *page = node;
    for (uint32_t i = 0; i < page->capacity; i++) {
        if (page->slots[i])
            bytes += bytes_below(page->slots[i]);
    }
    return bytes;
}

size_t rope_bytes(const struct rope *r)
{
    return r->root ? bytes_below(r->root) : 0;
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: rope: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* `first`: the first chunk below node. */
static void check_node(const struct rope *r, const struct epoch *e, const void *node, int height,
                       uint64_t parent_birth, uint64_t first)
{
    uint64_t birth = birth_of(node);
    CHECK(height_of(node) == height);
    if (e) {
        CHECK(birth > 0 && birth <= e->now);
        CHECK(!epoch_owned(e, birth) || epoch_owned(e, parent_birth));
    }
    if (height == 0) {
        const struct chunk *c = node;
        CHECK(c->used <= c->capacity && c->capacity <= ROPE_CHUNK);
        CHECK(c->used == 0 || first * ROPE_CHUNK + c->used <= r->size);
        return;
    }
    const struct page *page = node;
    CHECK(page->capacity <= PAGE_SLOTS);
    for (uint32_t i = 0; i < page->capacity; i++) {
        if (page->slots[i])
            check_node(r, e, page->slots[i], height - 1, birth, first + i * spans[height - 1]);
    }
}

void rope_check(const struct rope *r, const struct epoch *e)
{
    CHECK(r->height <= HEIGHT_MAX && (r->size + ROPE_CHUNK - 1) / ROPE_CHUNK <= spans[r->height]);
    if (r->root)
        check_node(r, e, r->root, r->height, e ? e->now : 0, 0);
}
