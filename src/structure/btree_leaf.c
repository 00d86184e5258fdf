/* SPDX-License-Identifier: BSD-3-Clause */
#include "structure/btree_node.h"

void btree_cell_init(struct btree_cell *cell, struct slice item, uint64_t birth)
{
    *cell = (struct btree_cell){.item = item};
    if (item.size < BTREE_CODE_SIZED) {
        cell->code = (uint16_t)item.size;
        cell->size = (uint16_t)item.size;
    } else if (item.size <= BTREE_INLINE_MAX) {
        cell->code = BTREE_CODE_SIZED;
        cell->size = (uint16_t)(item.size + 1);
    } else {
        cell->code = BTREE_CODE_LARGE;
        cell->size = 16;
        cell->large = mem_alloc(sizeof(*cell->large) + item.size);
        cell->large->birth = birth;
        cell->large->size = item.size;
        memcpy(cell->large->bytes, item.data, item.size);
    }
}

static void cell_write(const struct btree_cell *cell, char *payload)
{
    if (cell->code == BTREE_CODE_LARGE) {
        memcpy(payload, &cell->large, sizeof(cell->large));
        memcpy(payload + 8, cell->item.data, 8);
        return;
    }
    if (cell->code == BTREE_CODE_SIZED)
        *payload++ = (char)cell->item.size;
    if (cell->item.size)
        memcpy(payload, cell->item.data, cell->item.size);
}

struct btree_leaf *btree_leaf_new(size_t live, uint64_t birth)
{
    uint16_t size = btree_leaf_class(live);
    struct btree_leaf *leaf = mem_alloc(size);
    leaf->tag = btree_tag(birth, 0);
    leaf->size = size;
    leaf->count = 0;
    leaf->heap = 0;
    leaf->dead = 0;
    return leaf;
}

int btree_leaf_compare(const struct btree_leaf *leaf, uint32_t index, struct slice key,
                       uint64_t word)
{
    uint64_t own = btree_leaf_word(leaf, index);
    if (own != word)
        return own < word ? -1 : 1;
    /* Only now the block of a large item is touched. */
    struct slice item = btree_leaf_item(leaf, index);
    if (item.size > 8 && key.size > 8)
        return slice_compare(slice_of(item.data + 8, item.size - 8),
                             slice_of(key.data + 8, key.size - 8));
    return slice_compare(item, key);
}

uint32_t btree_leaf_find(const struct btree_leaf *leaf, struct slice key, uint64_t word,
                         bool *equal)
{
    uint32_t at = 0, rest = leaf->count;
    *equal = false;
    while (rest > 0) {
        uint32_t half = rest / 2;
        int c = btree_leaf_compare(leaf, at + half, key, word);
        if (c < 0) {
            at += half + 1;
            rest -= half + 1;
        } else {
            *equal = c == 0;
            rest = half;
        }
    }
    return at;
}

static uint16_t slot_of(unsigned code, unsigned distance)
{
    return (uint16_t)(code << BTREE_DISTANCE_BITS | distance);
}

void btree_leaf_put(struct btree_leaf *leaf, uint32_t index, const struct btree_cell *cell)
{
    assert(index <= leaf->count && btree_leaf_has_room(leaf, cell));
    leaf->heap = (uint16_t)(leaf->heap + cell->size);
    cell_write(cell, (char *)leaf + leaf->size - leaf->heap);
    uint16_t *slot = &leaf->slots[index];
    memmove(slot + 1, slot, (leaf->count - index) * sizeof(*slot));
    *slot = slot_of(cell->code, leaf->heap);
    leaf->count++;
    if (cell->code == BTREE_CODE_LARGE)
        leaf->tag |= BTREE_FLAG_LARGE;
}

void btree_leaf_overwrite(struct btree_leaf *leaf, uint32_t index, const struct btree_cell *cell)
{
    uint16_t slot = leaf->slots[index];
    assert(btree_leaf_payload_size(leaf, slot) == cell->size);
    char *payload = (char *)leaf + (btree_leaf_payload(leaf, slot) - (const char *)leaf);
    cell_write(cell, payload);
    leaf->slots[index] = slot_of(cell->code, (unsigned)((char *)leaf + leaf->size - payload));
    if (cell->code == BTREE_CODE_LARGE)
        leaf->tag |= BTREE_FLAG_LARGE;
}

void btree_leaf_take(struct btree_leaf *leaf, uint32_t index)
{
    assert(index < leaf->count);
    uint16_t *slot = &leaf->slots[index];
    uint16_t size = btree_leaf_payload_size(leaf, *slot);
    if (btree_leaf_payload(leaf, *slot) == (const char *)leaf + leaf->size - leaf->heap)
        leaf->heap = (uint16_t)(leaf->heap - size); /* the lowest one leaves no hole */
    else
        leaf->dead = (uint16_t)(leaf->dead + size);
    leaf->count--;
    memmove(slot, slot + 1, (leaf->count - index) * sizeof(*slot));
    if (leaf->count == 0) {
        leaf->heap = 0;
        leaf->dead = 0;
    }
}

void btree_leaf_append(struct btree_leaf *dst, const struct btree_leaf *src, uint32_t from,
                       uint32_t to)
{
    dst->tag |= src->tag & BTREE_FLAG_LARGE;
    if (dst->count == 0 && from == 0 && to == src->count && src->dead == 0 &&
        dst->size >= src->size) {
        memcpy(dst->slots, src->slots, to * sizeof(*src->slots));
        memcpy((char *)dst + dst->size - src->heap, (const char *)src + src->size - src->heap,
               src->heap);
        dst->count = src->count;
        dst->heap = src->heap;
        return;
    }
    unsigned heap = dst->heap;
    uint16_t *out = dst->slots + dst->count;
    char *end = (char *)dst + dst->size;
    for (uint32_t i = from; i < to; i++) {
        uint16_t slot = src->slots[i];
        uint16_t size = btree_leaf_payload_size(src, slot);
        heap += size;
        memcpy(end - heap, btree_leaf_payload(src, slot), size);
        *out++ = slot_of(btree_slot_code(slot), heap);
    }
    dst->heap = (uint16_t)heap;
    dst->count = (uint16_t)(dst->count + (to - from));
    assert(sizeof(*dst) + dst->count * sizeof(*out) + heap <= dst->size);
}

void btree_leaf_retire_large(struct epoch *e, const struct btree_leaf *leaf, uint32_t from,
                             uint32_t to)
{
    if (!(leaf->tag & BTREE_FLAG_LARGE))
        return;
    for (uint32_t i = from; i < to; i++) {
        if (btree_slot_code(leaf->slots[i]) != BTREE_CODE_LARGE)
            continue;
        struct btree_large *large =
            btree_payload_large(btree_leaf_payload(leaf, leaf->slots[i]));
        epoch_retire(e, large, sizeof(*large) + large->size, large->birth);
    }
}

struct btree_leaf *btree_leaf_rebuild(struct epoch *e, struct btree_leaf *leaf, size_t live)
{
    struct btree_leaf *fresh = btree_leaf_new(live, e->now);
    btree_leaf_append(fresh, leaf, 0, leaf->count);
    btree_retire_node(e, leaf);
    return fresh;
}

uint32_t btree_leaf_split(struct epoch *e, struct btree_leaf *leaf, uint32_t index,
                          const struct btree_cell *cell, struct btree_leaf **left,
                          struct btree_leaf **right)
{
    /* Go through the items as if the new one stood among them already, up to the middle. */
    size_t total = btree_leaf_live(leaf) - sizeof(*leaf) + sizeof(uint16_t) + cell->size;
    size_t bytes = 0;
    uint32_t cut = 0;
    while (cut < leaf->count && (cut == 0 || bytes < total / 2)) {
        uint16_t size = cut == index
                            ? cell->size
                            : btree_leaf_payload_size(leaf, leaf->slots[cut - (cut > index)]);
        bytes += sizeof(uint16_t) + size;
        cut++;
    }
    struct btree_leaf *l = btree_leaf_new(sizeof(*l) + bytes, e->now);
    struct btree_leaf *r = btree_leaf_new(sizeof(*r) + total - bytes, e->now);
    if (index < cut) {
        btree_leaf_append(l, leaf, 0, index);
        btree_leaf_put(l, index, cell);
        btree_leaf_append(l, leaf, index, cut - 1);
        btree_leaf_append(r, leaf, cut - 1, leaf->count);
    } else {
        btree_leaf_append(l, leaf, 0, cut);
        btree_leaf_append(r, leaf, cut, index);
        btree_leaf_put(r, index - cut, cell);
        btree_leaf_append(r, leaf, index, leaf->count);
    }
    btree_retire_node(e, leaf);
    *left = l;
    *right = r;
    return cut;
}
