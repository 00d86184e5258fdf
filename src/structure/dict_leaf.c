/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/dict_leaf.h"

#include <assert.h>

#include "base/mem.h"

static_assert(offsetof(struct dict_leaf, birth) == offsetof(struct trie_leaf, birth),
              "as trie_leaf");
static_assert(offsetof(struct dict_leaf, due) == offsetof(struct trie_leaf, due), "as trie_leaf");
static_assert(offsetof(struct dict_leaf, depth) == offsetof(struct trie_leaf, depth),
              "as trie_leaf");
static_assert(sizeof(struct dict_leaf) == 24, "the tags begin in the first cache line");
static_assert(DICT_LEAF_LIMIT <= UINT16_MAX, "offsets and sizes have 16 bits");
static_assert(DICT_INLINE_MAX < DICT_PART_DUE, "a size is one byte");

static uint16_t *offsets_of(struct dict_leaf *leaf, uint32_t count)
{
    return (uint16_t *)(void *)(leaf->tags + dict_leaf_tag_room(count));
}

struct dict_leaf *dict_leaf_new(uint32_t kind, uint32_t depth, uint64_t birth, uint32_t size,
                                uint32_t count)
{
    struct dict_leaf *leaf = mem_alloc(size);
    *leaf = (struct dict_leaf){.birth = birth,
                               .due = INT64_MAX,
                               .depth = (uint8_t)depth,
                               .kind = (uint8_t)(kind & 3),
                               .count = (uint16_t)count,
                               .size = (uint16_t)size};
    return leaf;
}

void dict_leaf_fill(struct dict_leaf *leaf, uint32_t i, uint8_t tag, const char *item,
                    uint32_t size)
{
    leaf->used = (uint16_t)(leaf->used + size);
    leaf->tags[i] = tag;
    if (leaf->kind != DICT_INDEX)
        offsets_of(leaf, leaf->count)[i] = leaf->used;
    memcpy((char *)leaf + leaf->size - leaf->used, item, size);
}

struct dict_leaf *dict_leaf_copy(const struct dict_leaf *leaf, uint64_t birth, uint32_t size)
{
    struct dict_leaf *copy = mem_alloc(size);
    memcpy(copy, leaf, dict_leaf_front(leaf->kind, leaf->count));
    memcpy((char *)copy + size - leaf->used, (const char *)leaf + leaf->size - leaf->used,
           leaf->used);
    copy->birth = birth;
    copy->size = (uint16_t)size;
    return copy;
}

int64_t dict_leaf_first_due(const struct dict_leaf *leaf)
{
    int64_t first = INT64_MAX;
    for (uint32_t i = 0; leaf->kind == DICT_MAP && i < leaf->count; i++) {
        const char *item = dict_leaf_item(leaf, i);
        int64_t due = dict_value_due(item + dict_part_size(item));
        if (due < first)
            first = due;
    }
    return first;
}

void dict_leaf_put(struct dict_leaf *leaf, uint8_t tag, const struct dict_raw *raw)
{
    uint32_t count = leaf->count;
    assert(dict_leaf_fits(leaf, raw->size));
    leaf->used = (uint16_t)(leaf->used + raw->size);
    if (leaf->kind != DICT_INDEX) {
        uint16_t *offsets = offsets_of(leaf, count + 1);
        if (count % 8 == 0 && count > 0)
            memmove(offsets, offsets_of(leaf, count), sizeof(*offsets) * count);
        offsets[count] = leaf->used;
    }
    leaf->tags[count] = tag;
    leaf->count = (uint16_t)(count + 1);
    leaf->has_blocks |= raw->has_block;
    if (raw->due < leaf->due)
        leaf->due = raw->due;
    memcpy((char *)leaf + leaf->size - leaf->used, raw->bytes, raw->size);
}

void dict_leaf_take(struct dict_leaf *leaf, uint32_t i)
{
    uint32_t last = leaf->count - 1U;
    char *end = (char *)leaf + leaf->size;
    leaf->tags[i] = leaf->tags[last];
    if (leaf->kind == DICT_INDEX) {
        if (i != last)
            memcpy(end - DICT_INDEX_ITEM * (i + 1), end - DICT_INDEX_ITEM * (last + 1),
                   DICT_INDEX_ITEM);
        leaf->used = (uint16_t)(leaf->used - DICT_INDEX_ITEM);
        leaf->count = (uint16_t)last;
        return;
    }
    uint16_t *offsets = offsets_of(leaf, last + 1);
    uint32_t offset = offsets[i];
    uint32_t size = dict_item_size(leaf->kind, end - offset);
    /* Close the hole: what lies before the item moves up. */
    memmove(end - leaf->used + size, end - leaf->used, leaf->used - offset);
    leaf->used = (uint16_t)(leaf->used - size);
    offsets[i] = offsets[last];
    for (uint32_t k = 0; k < last; k++)
        offsets[k] = (uint16_t)(offsets[k] - (offsets[k] > offset ? size : 0));
    if (last % 8 == 0)
        memmove(offsets_of(leaf, last), offsets, sizeof(*offsets) * last);
    leaf->count = (uint16_t)last;
}
