/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/member.h"

#include <assert.h>

#include "base/mem.h"
#include "base/number.h"

static_assert(LISTPACK_NUMBER_SIZE >= NUMBER_INT64_SIZE, "any integer fits");

/* A listpack in an entry has at most this many elements: the smallest takes two bytes. */
#define SMALL_COUNT_MAX (ENTRY_EMBED_MAX / 2)

static bool has_values(const struct entry *e)
{
    return entry_type(e) == ENTRY_HASH;
}

uint64_t member_count(const struct entry *e)
{
    switch (entry_encoding(e)) {
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT:
        return member_dict(e)->count;
    case ENTRY_INTSET:
        return intset_count(entry_value(e));
    default: {
        uint32_t count = listpack_count(entry_value(e));
        return has_values(e) ? count / 2 : count;
    }
    }
}

uint64_t member_count_live(const struct entry *e, int64_t now_ms)
{
    if (!member_hides(e, now_ms))
        return member_count(e);
    uint64_t count = 0;
    struct member_iter it;
    struct dict_item item;
    member_iter_init_live(&it, e, now_ms);
    while (member_iter_next(&it, &item))
        count++;
    return count;
}

/* ---- iteration ---- */

void member_iter_init_live(struct member_iter *it, const struct entry *e, int64_t now_ms)
{
    member_iter_init(it, e);
    it->hidden = now_ms;
}

void member_iter_init(struct member_iter *it, const struct entry *e)
{
    it->hidden = INT64_MIN;
    it->has_values = has_values(e);
    it->is_intset = entry_encoding(e) == ENTRY_INTSET;
    if (entry_has_dict(e)) {
        it->small = NULL;
        dict_iter_init(&it->dict, member_dict(e));
        return;
    }
    it->small = entry_value(e);
    it->at = it->is_intset ? 0 : listpack_first(it->small);
}

/* The item at an offset of a listpack. Returns the offset of the element behind it, 0 at the end.
 */
static uint32_t listpack_item(const char *lp, uint32_t at, bool with_value, struct dict_item *item,
                              char key_buf[LISTPACK_NUMBER_SIZE],
                              char value_buf[LISTPACK_NUMBER_SIZE])
{
    item->key = listpack_get_slice(lp, at, key_buf);
    item->value = slice_of(value_buf, 0);
    item->due = ENTRY_NO_EXPIRY;
    at = listpack_next(lp, at);
    if (with_value) {
        item->value = listpack_get_slice(lp, at, value_buf);
        at = listpack_next(lp, at);
    }
    return at;
}

static void intset_item(const char *is, uint32_t index, struct dict_item *item,
                        char buf[LISTPACK_NUMBER_SIZE])
{
    item->key = slice_of(buf, number_format_int64(buf, intset_get(is, index)));
    item->value = slice_of(buf, 0);
    item->due = ENTRY_NO_EXPIRY;
}

bool member_iter_next(struct member_iter *it, struct dict_item *item)
{
    if (it->small == NULL) {
        while (dict_iter_next(&it->dict, item)) {
            if (item->due >= it->hidden)
                return true;
        }
        return false;
    }
    if (it->is_intset) {
        if (it->at == intset_count(it->small))
            return false;
        intset_item(it->small, it->at++, item, it->key_buf);
        return true;
    }
    if (it->at == 0)
        return false;
    it->at = listpack_item(it->small, it->at, it->has_values, item, it->key_buf, it->value_buf);
    return true;
}

bool member_scans_at_once(const struct entry *e)
{
    return !(e->flags & ENTRY_GROWN);
}

uint64_t member_scan(const struct entry *e, uint64_t cursor, size_t want, member_visit_fn *fn,
                     void *ctx)
{
    if (!member_scans_at_once(e))
        return dict_scan(member_dict(e), cursor, want, fn, ctx);
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item))
        fn(ctx, &item);
    return 0;
}

/* ---- random members ---- */

static uint64_t next_random(void *ctx)
{
    return keyspace_random(ctx);
}

/* So often a hash with hidden fields is drawn from before it is walked: as many as half of them may
 * be hidden then, and hardly any draw ends in a walk. */
#define LIVE_DRAWS 16

static bool random_live(const struct entry *e, struct keyspace *ks, struct dict_item *item)
{
    for (int i = 0; i < LIVE_DRAWS; i++) {
        dict_random(member_dict(e), next_random, ks, item);
        if (item->due >= ks->now_ms)
            return true;
    }
    uint64_t live = member_count_live(e, ks->now_ms);
    if (live == 0)
        return false;
    uint64_t index = keyspace_random_below(ks, live);
    struct member_iter it;
    member_iter_init_live(&it, e, ks->now_ms);
    for (uint64_t i = 0; i <= index; i++)
        member_iter_next(&it, item);
    return true;
}

bool member_random(const struct entry *e, struct keyspace *ks, struct dict_item *item,
                   struct member_buf *buf)
{
    const char *small = entry_value(e);
    if (member_hides(e, ks->now_ms))
        return random_live(e, ks, item);
    switch (entry_encoding(e)) {
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT: {
        bool found = dict_random(member_dict(e), next_random, ks, item);
        assert(found);
        (void)found;
        break;
    }
    case ENTRY_INTSET:
        intset_item(small, (uint32_t)keyspace_random_below(ks, intset_count(small)), item,
                    buf->key);
        break;
    default: {
        int64_t index = (int64_t)keyspace_random_below(ks, member_count(e));
        bool with_value = has_values(e);
        uint32_t at = listpack_seek(small, with_value ? 2 * index : index);
        listpack_item(small, at, with_value, item, buf->key, buf->value);
        break;
    }
    }
    return true;
}

void member_random_repeated(const struct entry *e, struct keyspace *ks, uint64_t count,
                            member_visit_fn *fn, void *ctx)
{
    struct dict_item item;
    struct member_buf buf;
    if (entry_encoding(e) != ENTRY_LISTPACK) {
        for (uint64_t i = 0; i < count; i++) {
            member_random(e, ks, &item, &buf);
            fn(ctx, &item);
        }
        return;
    }
    /* Finding the n-th element of a listpack means walking there: it is done once for all. */
    uint16_t places[SMALL_COUNT_MAX];
    uint32_t n = 0;
    const char *lp = entry_value(e);
    bool with_value = has_values(e);
    for (uint32_t at = listpack_first(lp); at; at = listpack_next(lp, at)) {
        places[n++] = (uint16_t)at;
        if (with_value)
            at = listpack_next(lp, at);
    }
    for (uint64_t i = 0; i < count; i++) {
        listpack_item(lp, places[keyspace_random_below(ks, n)], with_value, &item, buf.key,
                      buf.value);
        fn(ctx, &item);
    }
}

/* The items that were shown already, known by where they stand in the dict. Open addressing in a
 * table that is never more than half full. */
struct shown {
    const char **slots;
    size_t mask;
};

static void shown_init(struct shown *s, uint64_t count)
{
    size_t size = 16;
    while (size < 2 * count)
        size *= 2;
    s->slots = mem_zalloc(size * sizeof(*s->slots));
    s->mask = size - 1;
}

static size_t shown_slot(const struct shown *s, const char *item)
{
    size_t i = (size_t)((uintptr_t)item * 0x9e3779b97f4a7c15ULL >> 20) & s->mask;
    while (s->slots[i] && s->slots[i] != item)
        i = (i + 1) & s->mask;
    return i;
}

static bool shown_has(const struct shown *s, const char *item)
{
    return s->slots[shown_slot(s, item)] != NULL;
}

/* False when it was there. */
static bool shown_add(struct shown *s, const char *item)
{
    size_t i = shown_slot(s, item);
    if (s->slots[i])
        return false;
    s->slots[i] = item;
    return true;
}

/* `count` of the `left` members that were not shown, by one pass over all: each is taken with the
 * chance that as many as are still wanted have among those that are left (Knuth, The Art of
 * Computer Programming, volume 2, algorithm 3.4.2 S). */
static void sample_by_pass(const struct entry *e, struct keyspace *ks, uint64_t count,
                           uint64_t left, const struct shown *shown, member_visit_fn *fn, void *ctx)
{
    struct member_iter it;
    struct dict_item item;
    member_iter_init_live(&it, e, ks->now_ms);
    while (count > 0 && member_iter_next(&it, &item)) {
        if (shown && shown_has(shown, item.key.data))
            continue;
        if (keyspace_random_below(ks, left--) < count) {
            fn(ctx, &item);
            count--;
        }
    }
}

/* Drawing single members of a dict costs some cache misses each, a pass over all next to nothing a
 * member: drawing pays up to this share of all. */
#define DRAW_SHARE 8

void member_random_distinct(const struct entry *e, struct keyspace *ks, uint64_t count,
                            member_visit_fn *fn, void *ctx)
{
    uint64_t all = member_count_live(e, ks->now_ms);
    if (count > all)
        count = all;
    if (count == 0)
        return;
    struct dict_item item;
    if (count == 1) {
        struct member_buf buf;
        member_random(e, ks, &item, &buf);
        fn(ctx, &item);
        return;
    }
    if (!entry_has_dict(e) || count > all / DRAW_SHARE || member_hides(e, ks->now_ms)) {
        sample_by_pass(e, ks, count, all, NULL, fn, ctx);
        return;
    }
    struct shown shown;
    shown_init(&shown, count);
    uint64_t found = 0;
    /* One draw in eight or less meets a member that was shown; if chance has it otherwise for so
     * long, the pass ends it. */
    for (uint64_t draws = 4 * count + 64; found < count && draws > 0; draws--) {
        dict_random(member_dict(e), next_random, ks, &item);
        if (shown_add(&shown, item.key.data)) {
            fn(ctx, &item);
            found++;
        }
    }
    if (found < count)
        sample_by_pass(e, ks, count - found, all - found, &shown, fn, ctx);
    mem_free(shown.slots);
}

/* ---- bytes from outside ---- */

bool member_listpack_distinct(const char *lp, bool with_values)
{
    if (with_values && listpack_count(lp) % 2 != 0)
        return false;
    return listpack_distinct(lp, with_values ? 1 : 0);
}
