/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/prefixes.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"

#define SLOT_COUNT (PREFIXES_MOST * 2)
/* From so many on, hexadecimal digits and dashes are taken for an id. */
#define HEX_ID_LEAST 16

static const char separators[] = ":/|.-_#"; /* the earlier one when two are as frequent */
_Static_assert(sizeof(separators) - 1 <= 8, "separator_guess counts each of them");

void separator_note(struct separator_guess *g, struct slice key)
{
    g->keys++;
    for (size_t i = 0; separators[i]; i++)
        g->with[i] += key.size && memchr(key.data, separators[i], key.size) != NULL;
}

char separator_best(const struct separator_guess *g)
{
    size_t best = 0;
    for (size_t i = 1; separators[i]; i++) {
        if (g->with[i] > g->with[best])
            best = i;
    }
    return g->with[best] > 0 && g->with[best] >= g->keys / 20 ? separators[best] : '\0';
}

void prefixes_init(struct prefixes *p, int depth, char separator)
{
    *p = (struct prefixes){.depth = depth, .separator = separator};
    p->items = mem_alloc(PREFIXES_MOST * sizeof(*p->items));
    p->slots = mem_zalloc(SLOT_COUNT * sizeof(*p->slots));
}

void prefixes_free(struct prefixes *p)
{
    for (size_t i = 0; i < p->count; i++)
        mem_free(p->items[i].name);
    mem_free(p->items);
    mem_free(p->slots);
}

static size_t slot_of(const struct prefixes *p, uint64_t hash, int level, const char *name,
                      size_t size)
{
    size_t at = hash % SLOT_COUNT;
    for (; p->slots[at]; at = (at + 1) % SLOT_COUNT) {
        const struct prefix *x = &p->items[p->slots[at] - 1];
        if (x->hash == hash && x->level == level && x->size == size &&
            memcmp(x->name, name, size) == 0)
            break;
    }
    return at;
}

static int by_memory(const void *a, const void *b)
{
    const struct prefix *x = a, *y = b;
    if (x->tally.memory != y->tally.memory)
        return x->tally.memory < y->tally.memory ? 1 : -1;
    /* A prefix before what begins with it. */
    return x->level != y->level
               ? x->level - y->level
               : slice_compare(slice_of(x->name, x->size), slice_of(y->name, y->size));
}

void prefixes_sort(struct prefixes *p)
{
    qsort(p->items, p->count, sizeof(*p->items), by_memory);
}

static void give_up_half(struct prefixes *p)
{
    prefixes_sort(p);
    size_t keep = p->count / 2;
    p->missed += p->items[keep].tally.memory;
    for (size_t i = keep; i < p->count; i++)
        mem_free(p->items[i].name);
    p->count = keep;
    memset(p->slots, 0, SLOT_COUNT * sizeof(*p->slots));
    for (size_t i = 0; i < keep; i++) {
        const struct prefix *x = &p->items[i];
        p->slots[slot_of(p, x->hash, x->level, x->name, x->size)] = (uint32_t)i + 1;
    }
}

static void add_one(struct prefixes *p, int level, const char *name, size_t size,
                    const struct tally *t)
{
    uint64_t hash = hash_bytes(name, size);
    size_t at = slot_of(p, hash, level, name, size);
    if (p->slots[at] == 0) {
        if (p->count == PREFIXES_MOST) {
            give_up_half(p);
            at = slot_of(p, hash, level, name, size);
        }
        p->items[p->count++] = (struct prefix){
            .name = mem_dup(name, size), .size = size, .level = level, .hash = hash};
        p->slots[at] = (uint32_t)p->count;
    }
    tally_add(&p->items[p->slots[at] - 1].tally, t);
}

/* Whether a part of a name only tells one key from another. */
static bool is_id(struct slice part)
{
    size_t digits = 0, hex = 0;
    for (size_t i = 0; i < part.size; i++) {
        char c = part.data[i], lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9';
        digits += digit;
        hex += digit || c == '-' || (lower >= 'a' && lower <= 'f');
    }
    return part.size > 0 &&
           (digits == part.size || (hex == part.size && part.size >= HEX_ID_LEAST));
}

void prefixes_add(struct prefixes *p, struct slice key, const struct tally *t)
{
    char name[PREFIX_SIZE_MOST];
    size_t used = 0, from = 0;
    int level = 0;
    while (p->separator && level < p->depth) {
        const char *end =
            from < key.size ? memchr(key.data + from, p->separator, key.size - from) : NULL;
        if (!end)
            break;
        struct slice part = slice_of(key.data + from, (size_t)(end - key.data) - from);
        from += part.size + 1;
        if (is_id(part))
            part = SLICE("*");
        if (used + part.size + 1 > sizeof(name))
            break;
        memcpy(name + used, part.data, part.size);
        used += part.size;
        name[used++] = p->separator;
        add_one(p, ++level, name, used, t);
    }
    if (level == 0)
        add_one(p, 1, "", 0, t);
}
