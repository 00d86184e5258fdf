/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/set.h"

#include <assert.h>

#include "base/number.h"
#include "type/set_scratch.h"

static char *bytes_of(struct entry *e)
{
    return (char *)(uintptr_t)entry_value(e);
}

static struct dict *dict_of(struct entry *e)
{
    return (struct dict *)(void *)bytes_of(e);
}

static const struct encoding_limits *limits_of(const struct keyref *ref)
{
    return &ref->db->ks->limits;
}

static bool too_long(const struct keyref *ref, size_t size)
{
    return size > (uint64_t)limits_of(ref)->set_max_listpack_value;
}

static bool too_many(const struct keyref *ref, uint64_t count)
{
    return count > (uint64_t)limits_of(ref)->set_max_listpack_entries;
}

static bool too_many_integers(const struct keyref *ref, uint64_t count)
{
    return count > (uint64_t)limits_of(ref)->set_max_intset_entries;
}

bool set_is_integers(const struct entry *e)
{
    return entry_encoding(e) == ENTRY_INTSET || e->flags & ENTRY_INTEGERS;
}

const char *set_encoding_name(const struct entry *e)
{
    if (set_is_integers(e))
        return "intset";
    return e->flags & ENTRY_GROWN ? "hashtable" : "listpack";
}

/* ---- reading ---- */

static bool parse_integer(struct slice s, int64_t *v)
{
    return s.size < NUMBER_INT64_SIZE && number_parse_int64(s, v);
}

static uint32_t find_member(const char *lp, struct slice member)
{
    return listpack_find(lp, listpack_first(lp), member, 0);
}

bool set_has_hash(const struct entry *e, struct slice member, uint64_t hash)
{
    uint32_t index;
    int64_t v;
    switch (entry_encoding(e)) {
    case ENTRY_DICT:
        return dict_find(member_dict(e), hash, member, NULL, NULL);
    case ENTRY_INTSET:
        return parse_integer(member, &v) && intset_find(entry_value(e), v, &index);
    default:
        return find_member(entry_value(e), member) != 0;
    }
}

bool set_has(const struct entry *e, struct slice member)
{
    bool hashed = entry_encoding(e) == ENTRY_DICT;
    return set_has_hash(e, member, hashed ? hash_bytes(member.data, member.size) : 0);
}

/* ---- adding ---- */

/* An empty set as a dict, in the place of whatever the key had. */
static struct entry *put_dict(struct keyref *ref, int64_t due, unsigned flags)
{
    struct entry *e = keyref_put(ref, due, ENTRY_SET, ENTRY_DICT, 0);
    e->flags |= (uint8_t)flags;
    dict_init(dict_of(e), DICT_SET);
    return e;
}

static void add_to_dict(struct keyref *ref, struct slice member)
{
    struct dict *d = dict_of(ref->entry);
    dict_add(d, keyref_epoch(ref), dict_hash(d, member), member, slice_of("", 0));
}

/* A small set becomes a dict, with ENTRY_GROWN, ENTRY_INTEGERS or neither. */
static void convert_to_dict(struct keyref *ref, unsigned flags)
{
    /* The old block is let go of before the new one is filled. */
    char bytes[ENTRY_EMBED_MAX];
    memcpy(bytes, entry_value(ref->entry), ref->entry->value_size);
    bool is_intset = entry_encoding(ref->entry) == ENTRY_INTSET;
    struct entry *e = keyref_reencode(ref, ENTRY_DICT, 0);
    e->flags |= (uint8_t)flags;
    dict_init(dict_of(e), DICT_SET);
    char buf[LISTPACK_NUMBER_SIZE];
    if (is_intset) {
        for (uint32_t i = 0; i < intset_count(bytes); i++)
            add_to_dict(ref, slice_of(buf, number_format_int64(buf, intset_get(bytes, i))));
    } else {
        for (uint32_t at = listpack_first(bytes); at; at = listpack_next(bytes, at))
            add_to_dict(ref, listpack_get_slice(bytes, at, buf));
    }
}

static void create(struct keyref *ref, struct slice member)
{
    int64_t v;
    if (parse_integer(member, &v)) {
        if (too_many_integers(ref, 1)) {
            put_dict(ref, ENTRY_NO_EXPIRY, ENTRY_GROWN);
            add_to_dict(ref, member);
            return;
        }
        char empty[INTSET_EMPTY_SIZE];
        intset_init(empty);
        size_t size = intset_size_with(empty, v);
        char *is = bytes_of(keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_SET, ENTRY_INTSET, size));
        intset_init(is);
        intset_add(is, v);
        return;
    }
    bool grown = too_many(ref, 1) || too_long(ref, member.size);
    size_t size = LISTPACK_EMPTY_SIZE + (grown ? 0 : (size_t)listpack_entry_size(member));
    if (grown || size > ENTRY_EMBED_MAX) {
        put_dict(ref, ENTRY_NO_EXPIRY, grown ? ENTRY_GROWN : 0);
        add_to_dict(ref, member);
        return;
    }
    char *lp = bytes_of(keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_SET, ENTRY_LISTPACK, size));
    listpack_init(lp);
    listpack_insert(lp, 0, member);
}

/* Whether the integers of an intset fit Redis's limit of a listpack's values: the longest are the
 * first and the last. */
static bool integers_fit(const struct keyref *ref, const char *is)
{
    char buf[NUMBER_INT64_SIZE];
    return !too_long(ref, number_format_int64(buf, intset_get(is, 0))) &&
           !too_long(ref, number_format_int64(buf, intset_get(is, intset_count(is) - 1)));
}

/* The first member that is no integer comes to an intset. */
static void add_string_to_intset(struct keyref *ref, struct slice member)
{
    const char *is = entry_value(ref->entry);
    uint32_t count = intset_count(is);
    if (too_many(ref, (uint64_t)count + 1) || too_long(ref, member.size) ||
        !integers_fit(ref, is)) {
        convert_to_dict(ref, ENTRY_GROWN);
        add_to_dict(ref, member);
        return;
    }
    size_t size = LISTPACK_EMPTY_SIZE + (size_t)listpack_entry_size(member);
    char buf[NUMBER_INT64_SIZE];
    for (uint32_t i = 0; i < count; i++)
        size += listpack_entry_size(slice_of(buf, number_format_int64(buf, intset_get(is, i))));
    if (size > ENTRY_EMBED_MAX) {
        convert_to_dict(ref, 0);
        add_to_dict(ref, member);
        return;
    }
    char lp[ENTRY_EMBED_MAX];
    listpack_init(lp);
    for (uint32_t i = 0; i < count; i++)
        listpack_insert(lp, 0, slice_of(buf, number_format_int64(buf, intset_get(is, i))));
    listpack_insert(lp, 0, member);
    memcpy(bytes_of(keyref_reencode(ref, ENTRY_LISTPACK, size)), lp, size);
}

static bool add_to_intset(struct keyref *ref, struct slice member)
{
    const char *is = entry_value(ref->entry);
    int64_t v;
    uint32_t index;
    if (!parse_integer(member, &v)) {
        add_string_to_intset(ref, member);
        return true;
    }
    if (intset_find(is, v, &index))
        return false;
    size_t size = intset_size_with(is, v);
    if (too_many_integers(ref, (uint64_t)intset_count(is) + 1)) {
        convert_to_dict(ref, ENTRY_GROWN);
        add_to_dict(ref, member);
    } else if (size > ENTRY_EMBED_MAX) {
        convert_to_dict(ref, ENTRY_INTEGERS);
        add_to_dict(ref, member);
    } else {
        intset_add(bytes_of(keyref_resize(ref, size)), v);
    }
    return true;
}

static bool add_to_listpack(struct keyref *ref, struct slice member)
{
    const char *lp = entry_value(ref->entry);
    if (find_member(lp, member))
        return false;
    size_t size = ref->entry->value_size;
    bool grown = too_many(ref, (uint64_t)listpack_count(lp) + 1) || too_long(ref, member.size);
    if (!grown)
        size += listpack_entry_size(member);
    if (grown || size > ENTRY_EMBED_MAX) {
        convert_to_dict(ref, grown ? ENTRY_GROWN : 0);
        add_to_dict(ref, member);
    } else {
        listpack_insert(bytes_of(keyref_resize(ref, size)), 0, member);
    }
    return true;
}

/* What Redis would do with a set that is a dict here but not there, now that the member has been
 * added. */
static void note_growth(struct keyref *ref, struct slice member)
{
    struct entry *e = ref->entry;
    uint64_t count = dict_of(e)->count;
    int64_t v;
    if (e->flags & ENTRY_INTEGERS) {
        if (parse_integer(member, &v)) {
            if (too_many_integers(ref, count))
                e->flags ^= ENTRY_INTEGERS | ENTRY_GROWN;
            return;
        }
        e->flags ^= ENTRY_INTEGERS;
        /* Its integers are as long as they can be: to find the longest would take a pass. */
        if (too_long(ref, NUMBER_INT64_SIZE - 1))
            e->flags |= ENTRY_GROWN;
    }
    if (too_many(ref, count) || too_long(ref, member.size))
        e->flags |= ENTRY_GROWN;
}

bool set_add(struct keyref *ref, struct slice member)
{
    if (ref->entry == NULL) {
        create(ref, member);
        return true;
    }
    switch (entry_encoding(ref->entry)) {
    case ENTRY_INTSET:
        return add_to_intset(ref, member);
    case ENTRY_LISTPACK:
        return add_to_listpack(ref, member);
    default:
        break;
    }
    uint64_t hash = hash_bytes(member.data, member.size);
    if (dict_find(member_dict(ref->entry), hash, member, NULL, NULL))
        return false;
    struct entry *e = keyref_own(ref);
    dict_add(dict_of(e), keyref_epoch(ref), hash, member, slice_of("", 0));
    if (!(e->flags & ENTRY_GROWN))
        note_growth(ref, member);
    return true;
}

/* ---- removing ---- */

static bool remove_from_dict(struct keyref *ref, struct slice member)
{
    uint64_t hash = hash_bytes(member.data, member.size);
    struct dict_place place;
    if (!dict_find(member_dict(ref->entry), hash, member, NULL, &place))
        return false;
    if (member_count(ref->entry) == 1)
        keyref_delete(ref);
    else
        dict_remove(dict_of(keyref_own(ref)), keyref_epoch(ref), &place);
    return true;
}

static bool remove_from_intset(struct keyref *ref, struct slice member)
{
    int64_t v;
    uint32_t index;
    if (!parse_integer(member, &v) || !intset_find(entry_value(ref->entry), v, &index))
        return false;
    if (member_count(ref->entry) == 1) {
        keyref_delete(ref);
        return true;
    }
    char *is = bytes_of(keyref_own(ref));
    intset_remove(is, index);
    keyref_resize(ref, intset_size(is));
    return true;
}

static bool remove_from_listpack(struct keyref *ref, struct slice member)
{
    uint32_t at = find_member(entry_value(ref->entry), member);
    if (at == 0)
        return false;
    if (member_count(ref->entry) == 1) {
        keyref_delete(ref);
        return true;
    }
    char *lp = bytes_of(keyref_own(ref));
    listpack_remove(lp, at, 1);
    keyref_resize(ref, listpack_size(lp));
    return true;
}

bool set_remove(struct keyref *ref, struct slice member)
{
    switch (entry_encoding(ref->entry)) {
    case ENTRY_INTSET:
        return remove_from_intset(ref, member);
    case ENTRY_LISTPACK:
        return remove_from_listpack(ref, member);
    default:
        return remove_from_dict(ref, member);
    }
}

/* ---- popping ---- */

static void pop_all(struct keyref *ref, member_visit_fn *fn, void *ctx)
{
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, ref->entry);
    while (member_iter_next(&it, &item))
        fn(ctx, &item);
    keyref_delete(ref);
}

/* In one pass, each member having the chance that as many as are still wanted have among those that
 * are left. */
static void pop_from_small(struct keyref *ref, uint64_t count, member_visit_fn *fn, void *ctx)
{
    struct keyspace *ks = ref->db->ks;
    uint64_t left = member_count(ref->entry);
    struct entry *e = keyref_own(ref);
    char *small = bytes_of(e);
    struct dict_item item = {.value = slice_of("", 0)};
    char buf[LISTPACK_NUMBER_SIZE];
    if (entry_encoding(e) == ENTRY_INTSET) {
        for (uint32_t i = 0; count > 0; left--) {
            if (keyspace_random_below(ks, left) >= count) {
                i++;
                continue;
            }
            item.key = slice_of(buf, number_format_int64(buf, intset_get(small, i)));
            fn(ctx, &item);
            intset_remove(small, i);
            count--;
        }
        keyref_resize(ref, intset_size(small));
        return;
    }
    for (uint32_t at = listpack_first(small); count > 0; left--) {
        if (keyspace_random_below(ks, left) >= count) {
            at = listpack_next(small, at);
            continue;
        }
        item.key = listpack_get_slice(small, at, buf);
        fn(ctx, &item);
        at = listpack_remove(small, at, 1);
        count--;
    }
    keyref_resize(ref, listpack_size(small));
}

/* Most of it goes: what stays is written anew, in the smallest encoding. */
static void pop_most(struct keyref *ref, uint64_t count, member_visit_fn *fn, void *ctx)
{
    struct keyspace *ks = ref->db->ks;
    struct set_scratch kept;
    set_scratch_init(&kept, ks, ref->key);
    uint64_t left = member_count(ref->entry);
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, ref->entry);
    for (; member_iter_next(&it, &item); left--) {
        if (keyspace_random_below(ks, left) < count) {
            fn(ctx, &item);
            count--;
        } else {
            set_add(&kept.ref, item.key);
        }
    }
    int64_t due = entry_due(ref->entry);
    set_scratch_move(&kept, ref);
    keyref_set_due(ref, due);
    set_scratch_deinit(&kept);
}

/* While this many times as many stay as go, those that go are taken out one by one. */
#define POP_SINGLY_SHARE 4

void set_pop(struct keyref *ref, uint64_t count, member_visit_fn *fn, void *ctx)
{
    uint64_t all = member_count(ref->entry);
    if (count == 0)
        return;
    if (count >= all) {
        pop_all(ref, fn, ctx);
    } else if (entry_encoding(ref->entry) != ENTRY_DICT) {
        pop_from_small(ref, count, fn, ctx);
    } else if (count / POP_SINGLY_SHARE >= all - count) {
        pop_most(ref, count, fn, ctx);
    } else {
        keyref_own(ref);
        for (; count > 0; count--) {
            struct dict_item item;
            struct member_buf buf;
            member_random(ref->entry, ref->db->ks, &item, &buf);
            fn(ctx, &item);
            remove_from_dict(ref, item.key);
        }
    }
}

/* ---- loading ---- */

void set_begin(struct keyref *ref, struct slice first, uint64_t count)
{
    int64_t v;
    if (too_many(ref, count) && (!parse_integer(first, &v) || too_many_integers(ref, count)))
        put_dict(ref, ENTRY_NO_EXPIRY, ENTRY_GROWN);
}

bool set_put_listpack(struct keyref *ref, int64_t due, const char *lp)
{
    if (listpack_first(lp) == 0 || !member_listpack_distinct(lp, false))
        return false;
    size_t size = listpack_size(lp);
    bool grown = too_many(ref, listpack_count(lp));
    if (!grown && size <= ENTRY_EMBED_MAX) {
        memcpy(bytes_of(keyref_put(ref, due, ENTRY_SET, ENTRY_LISTPACK, size)), lp, size);
        return true;
    }
    put_dict(ref, due, grown ? ENTRY_GROWN : 0);
    char buf[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp); at; at = listpack_next(lp, at))
        add_to_dict(ref, listpack_get_slice(lp, at, buf));
    return true;
}

bool set_put_intset(struct keyref *ref, int64_t due, const char *is)
{
    uint32_t count = intset_count(is);
    if (count == 0)
        return false;
    size_t size = intset_size(is);
    bool grown = too_many_integers(ref, count);
    if (!grown && size <= ENTRY_EMBED_MAX) {
        memcpy(bytes_of(keyref_put(ref, due, ENTRY_SET, ENTRY_INTSET, size)), is, size);
        return true;
    }
    put_dict(ref, due, grown ? ENTRY_GROWN : ENTRY_INTEGERS);
    char buf[NUMBER_INT64_SIZE];
    for (uint32_t i = 0; i < count; i++)
        add_to_dict(ref, slice_of(buf, number_format_int64(buf, intset_get(is, i))));
    return true;
}
