/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Open addressing with linear probing. Where a key belongs follows from b, whether it is covered
 * from a: so a smaller range does not crowd the table.
 */
#include "tool/keyset.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

#define MEMORY_LEAST (64 * 1024)
#define CAPACITY_FIRST 1024

struct key_id key_id_of(int db, struct slice key)
{
    const struct hash_key one = {hash_process_key.k0 ^ (uint64_t)db, hash_process_key.k1};
    const struct hash_key other = {hash_process_key.k1 ^ (uint64_t)db, ~hash_process_key.k0};
    struct key_id id = {hash_bytes_keyed(&one, key.data, key.size),
                        hash_bytes_keyed(&other, key.data, key.size)};
    if (id.a == 0 && id.b == 0)
        id.b = 1;
    return id;
}

void keyset_init(struct keyset *s, size_t memory, bool with_values)
{
    size_t slot = sizeof(struct key_id) + (with_values ? sizeof(uint64_t) : 0);
    if (memory < MEMORY_LEAST)
        memory = MEMORY_LEAST;
    /* While it grows the old table of half the size is there, too. */
    *s = (struct keyset){.most = memory / (slot + slot / 2), .last = UINT64_MAX};
    if (s->most > UINT32_MAX)
        s->most = UINT32_MAX; /* home() multiplies it with 32 bits of hash */
    s->capacity = CAPACITY_FIRST < s->most ? CAPACITY_FIRST : s->most;
    s->ids = mem_zalloc(s->capacity * sizeof(*s->ids));
    if (with_values)
        s->values = mem_zalloc(s->capacity * sizeof(*s->values));
}

void keyset_free(struct keyset *s)
{
    mem_free(s->ids);
    mem_free(s->values);
}

static bool is_free(const struct keyset *s, size_t at)
{
    return s->ids[at].a == 0 && s->ids[at].b == 0;
}

static size_t home(const struct keyset *s, struct key_id id)
{
    return (size_t)((id.b >> 32) * s->capacity >> 32);
}

static size_t following(const struct keyset *s, size_t at)
{
    return at + 1 == s->capacity ? 0 : at + 1;
}

/* Where the key is, or the free slot where it would be put. */
static size_t probe(const struct keyset *s, struct key_id id)
{
    size_t at = home(s, id);
    while (!is_free(s, at) && (s->ids[at].a != id.a || s->ids[at].b != id.b))
        at = following(s, at);
    return at;
}

static void grow(struct keyset *s)
{
    struct keyset old = *s;
    s->capacity = old.capacity * 2 < s->most ? old.capacity * 2 : s->most;
    s->ids = mem_zalloc(s->capacity * sizeof(*s->ids));
    if (old.values)
        s->values = mem_zalloc(s->capacity * sizeof(*s->values));
    for (size_t i = 0; i < old.capacity; i++) {
        if (is_free(&old, i))
            continue;
        size_t at = probe(s, old.ids[i]);
        s->ids[at] = old.ids[i];
        if (s->values)
            s->values[at] = old.values[i];
    }
    keyset_free(&old);
}

/* Free a slot, and move those behind it that could not be found any more. */
static void remove_at(struct keyset *s, size_t hole)
{
    s->count--;
    for (size_t at = following(s, hole); !is_free(s, at); at = following(s, at)) {
        size_t wanted = home(s, s->ids[at]);
        /* It may stay where it is if its home is behind the hole, seen around the end. */
        bool stays = hole <= at ? wanted > hole && wanted <= at : wanted > hole || wanted <= at;
        if (stays)
            continue;
        s->ids[hole] = s->ids[at];
        if (s->values)
            s->values[hole] = s->values[at];
        hole = at;
    }
    s->ids[hole] = (struct key_id){0, 0};
}

/* Give up the upper half of the range. */
static void narrow(struct keyset *s)
{
    s->last = s->first + (s->last - s->first) / 2;
    /* What is moved into a slot that was freed comes from behind it, or was looked at already. */
    for (size_t i = 0; i < s->capacity; i++) {
        while (!is_free(s, i) && !keyset_covers(s, s->ids[i]))
            remove_at(s, i);
    }
}

uint64_t *keyset_put(struct keyset *s, struct key_id id, bool *added)
{
    size_t at = probe(s, id);
    *added = is_free(s, at);
    if (!*added)
        return s->values ? &s->values[at] : NULL;
    while (s->count >= s->capacity / 5 * 4) {
        if (s->capacity < s->most)
            grow(s);
        else
            narrow(s);
    }
    if (!keyset_covers(s, id))
        return NULL;
    at = probe(s, id);
    s->ids[at] = id;
    s->count++;
    if (!s->values)
        return NULL;
    s->values[at] = 0;
    return &s->values[at];
}

uint64_t *keyset_find(struct keyset *s, struct key_id id)
{
    size_t at = probe(s, id);
    return is_free(s, at) || !s->values ? NULL : &s->values[at];
}

bool keyset_next_range(struct keyset *s)
{
    if (s->last == UINT64_MAX)
        return false;
    uint64_t width = s->last - s->first;
    s->first = s->last + 1;
    s->last = s->first > UINT64_MAX - width ? UINT64_MAX : s->first + width;
    memset(s->ids, 0, s->capacity * sizeof(*s->ids));
    s->count = 0;
    return true;
}
