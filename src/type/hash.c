/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/hash.h"

#include <assert.h>
#include <math.h>

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

static bool too_long(const struct keyref *ref, struct slice s)
{
    return s.size > (uint64_t)limits_of(ref)->hash_max_listpack_value;
}

static bool too_many(const struct keyref *ref, uint64_t count)
{
    return count > (uint64_t)limits_of(ref)->hash_max_listpack_entries;
}

const char *hash_encoding_name(const struct entry *e)
{
    if (e->flags & ENTRY_GROWN)
        return "hashtable";
    return entry_encoding(e) == ENTRY_TIMED_DICT ? "listpackex" : "listpack";
}

/* ---- reading ---- */

static uint32_t find_field(const char *lp, struct slice field)
{
    return listpack_find(lp, listpack_first(lp), field, 1);
}

bool hash_get(const struct entry *e, int64_t now_ms, struct slice field, struct slice *value,
              char buf[LISTPACK_NUMBER_SIZE])
{
    if (entry_has_dict(e)) {
        struct dict_item item;
        if (!dict_find(member_dict(e), hash_bytes(field.data, field.size), field, &item, NULL) ||
            item.due < now_ms)
            return false;
        *value = item.value;
        return true;
    }
    const char *lp = entry_value(e);
    uint32_t at = find_field(lp, field);
    if (at == 0)
        return false;
    *value = listpack_get_slice(lp, listpack_next(lp, at), buf);
    return true;
}

bool hash_due(const struct entry *e, int64_t now_ms, struct slice field, int64_t *due)
{
    *due = ENTRY_NO_EXPIRY;
    if (!entry_has_dict(e))
        return find_field(entry_value(e), field) != 0;
    struct dict_item item;
    if (!dict_find(member_dict(e), hash_bytes(field.data, field.size), field, &item, NULL) ||
        item.due < now_ms)
        return false;
    *due = item.due;
    return true;
}

bool hash_has(const struct entry *e, int64_t now_ms, struct slice field)
{
    int64_t due;
    return hash_due(e, now_ms, field, &due);
}

/* ---- changing ---- */

static void add_listpack(struct dict *d, struct epoch *epoch, const char *lp)
{
    char field_buf[LISTPACK_NUMBER_SIZE], value_buf[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp); at; at = listpack_next(lp, at)) {
        struct slice field = listpack_get_slice(lp, at, field_buf);
        at = listpack_next(lp, at);
        struct slice value = listpack_get_slice(lp, at, value_buf);
        dict_add(d, epoch, dict_hash(d, field), field, value);
    }
}

static void convert(struct keyref *ref)
{
    /* The old block is let go of before the new one is filled. */
    char lp[ENTRY_EMBED_MAX];
    memcpy(lp, entry_value(ref->entry), ref->entry->value_size);
    struct dict *d = dict_of(keyref_reencode(ref, ENTRY_DICT, 0));
    dict_init(d, DICT_MAP);
    add_listpack(d, keyref_epoch(ref), lp);
}

/* From here on fields of the hash may expire. */
static void make_timed(struct keyref *ref)
{
    if (entry_encoding(ref->entry) == ENTRY_LISTPACK)
        convert(ref);
    if (entry_encoding(ref->entry) == ENTRY_TIMED_DICT)
        return;
    struct dict d = *member_dict(ref->entry);
    *dict_of(keyref_reencode(ref, ENTRY_TIMED_DICT, 0)) = d;
}

/* The expiry of a field of the owned hash was `old` and is `due` now. */
static void note_due(struct keyref *ref, int64_t old, int64_t due)
{
    int64_t change = (due != ENTRY_NO_EXPIRY) - (old != ENTRY_NO_EXPIRY);
    if (change != 0 || due != ENTRY_NO_EXPIRY)
        keyref_note_timed(ref, change, due);
}

/* `due` counts in an ENTRY_TIMED_DICT only. */
static bool set_in_dict(struct keyref *ref, struct slice field, struct slice value, int64_t due,
                        bool only_new)
{
    struct epoch *epoch = keyref_epoch(ref);
    uint64_t hash = hash_bytes(field.data, field.size);
    struct dict_place place;
    struct dict_item item;
    bool timed = entry_encoding(ref->entry) == ENTRY_TIMED_DICT;
    bool found = dict_find(member_dict(ref->entry), hash, field, timed ? &item : NULL, &place);
    if (found && only_new)
        return false;
    int64_t old_due = timed && found ? item.due : ENTRY_NO_EXPIRY;
    struct entry *e = keyref_own(ref);
    struct dict *d = dict_of(e);
    if (due == HASH_KEEP_DUE)
        due = old_due;
    if (found)
        dict_set_value_due(d, epoch, &place, value, due);
    else
        dict_add_due(d, epoch, hash, field, value, due);
    note_due(ref, old_due, due);
    if (!(e->flags & ENTRY_GROWN) &&
        (too_many(ref, d->count) || too_long(ref, field) || too_long(ref, value)))
        e->flags |= ENTRY_GROWN;
    return !found;
}

static void create(struct keyref *ref, struct slice field, struct slice value)
{
    bool fits = !too_many(ref, 1) && !too_long(ref, field) && !too_long(ref, value);
    size_t size = LISTPACK_EMPTY_SIZE;
    if (fits)
        size += (size_t)listpack_entry_size(field) + listpack_entry_size(value);
    if (!fits || size > ENTRY_EMBED_MAX) {
        struct entry *e = keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_HASH, ENTRY_DICT, 0);
        dict_init(dict_of(e), DICT_MAP);
        set_in_dict(ref, field, value, ENTRY_NO_EXPIRY, false);
        return;
    }
    char *lp = bytes_of(keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_HASH, ENTRY_LISTPACK, size));
    listpack_init(lp);
    listpack_insert(lp, 0, field);
    listpack_insert(lp, 0, value);
}

/* Replace the value at `at`. False, with nothing changed: it does not fit in the entry. */
static bool replace_in_listpack(struct keyref *ref, uint32_t at, struct slice value)
{
    int64_t size = ref->entry->value_size;
    int64_t new_size = size + listpack_replace_growth(entry_value(ref->entry), at, value);
    if (new_size > ENTRY_EMBED_MAX)
        return false;
    struct entry *e = new_size > size ? keyref_resize(ref, (size_t)new_size) : keyref_own(ref);
    listpack_replace(bytes_of(e), at, value);
    if (new_size < size)
        keyref_resize(ref, (size_t)new_size);
    return true;
}

static bool append_to_listpack(struct keyref *ref, struct slice field, struct slice value)
{
    size_t new_size =
        (size_t)ref->entry->value_size + listpack_entry_size(field) + listpack_entry_size(value);
    if (new_size > ENTRY_EMBED_MAX)
        return false;
    char *lp = bytes_of(keyref_resize(ref, new_size));
    listpack_insert(lp, 0, field);
    listpack_insert(lp, 0, value);
    return true;
}

static bool set_field(struct keyref *ref, struct slice field, struct slice value, int64_t due,
                      bool only_new)
{
    if (ref->entry == NULL) {
        create(ref, field, value);
        return true;
    }
    if (entry_has_dict(ref->entry))
        return set_in_dict(ref, field, value, due, only_new);

    const char *lp = entry_value(ref->entry);
    uint32_t at = find_field(lp, field);
    if (at && only_new)
        return false;
    if (!too_long(ref, field) && !too_long(ref, value)) {
        if (at && replace_in_listpack(ref, listpack_next(lp, at), value))
            return false;
        if (!at && !too_many(ref, member_count(ref->entry) + 1) &&
            append_to_listpack(ref, field, value))
            return true;
    }
    convert(ref);
    return set_in_dict(ref, field, value, due, only_new);
}

bool hash_set(struct keyref *ref, struct slice field, struct slice value)
{
    return set_field(ref, field, value, ENTRY_NO_EXPIRY, false);
}

bool hash_set_new(struct keyref *ref, struct slice field, struct slice value)
{
    return set_field(ref, field, value, ENTRY_NO_EXPIRY, true);
}

bool hash_set_timed(struct keyref *ref, struct slice field, struct slice value, int64_t due)
{
    bool expires = due != HASH_KEEP_DUE && due != ENTRY_NO_EXPIRY;
    if (expires && ref->entry)
        make_timed(ref);
    bool is_new = set_field(ref, field, value, due, false);
    if (expires && entry_timed(ref->entry) == 0)
        hash_set_due(ref, field, due); /* it made the hash */
    return is_new;
}

void hash_set_due(struct keyref *ref, struct slice field, int64_t due)
{
    if (due == ENTRY_NO_EXPIRY && entry_timed(ref->entry) == 0)
        return;
    make_timed(ref);
    struct dict_place place;
    struct dict_item item;
    uint64_t hash = hash_bytes(field.data, field.size);
    if (!dict_find(member_dict(ref->entry), hash, field, &item, &place) || item.due == due)
        return;
    dict_set_due(dict_of(keyref_own(ref)), keyref_epoch(ref), &place, due);
    note_due(ref, item.due, due);
}

bool hash_delete(struct keyref *ref, struct slice field)
{
    struct entry *e = ref->entry;
    if (entry_has_dict(e)) {
        struct dict_place place;
        struct dict_item item;
        uint64_t hash = hash_bytes(field.data, field.size);
        if (!dict_find(member_dict(e), hash, field, &item, &place))
            return false;
        if (member_count(e) == 1) {
            keyref_delete(ref);
            return true;
        }
        int64_t due = item.due;
        dict_remove(dict_of(keyref_own(ref)), keyref_epoch(ref), &place);
        note_due(ref, due, ENTRY_NO_EXPIRY);
        return true;
    }
    uint32_t at = find_field(entry_value(e), field);
    if (at == 0)
        return false;
    if (member_count(e) == 1) {
        keyref_delete(ref);
        return true;
    }
    char *lp = bytes_of(keyref_own(ref));
    listpack_remove(lp, at, 2);
    keyref_resize(ref, listpack_size(lp));
    return true;
}

enum hash_incr_result hash_incr(struct keyref *ref, struct slice field, int64_t delta,
                                int64_t *result)
{
    char buf[LISTPACK_NUMBER_SIZE];
    struct slice old;
    int64_t value = 0;
    if (ref->entry && hash_get(ref->entry, INT64_MIN, field, &old, buf) &&
        !number_parse_int64(old, &value))
        return HASH_INCR_NOT_NUMBER;
    if (__builtin_add_overflow(value, delta, &value))
        return HASH_INCR_OVERFLOW;
    char digits[NUMBER_INT64_SIZE];
    struct slice sum = slice_of(digits, number_format_int64(digits, value));
    set_field(ref, field, sum, HASH_KEEP_DUE, false);
    *result = value;
    return HASH_INCR_OK;
}

enum hash_incr_result hash_incr_float(struct keyref *ref, struct slice field, long double delta,
                                      char buf[NUMBER_LONG_DOUBLE_SIZE], struct slice *digits)
{
    char old_buf[LISTPACK_NUMBER_SIZE];
    struct slice old;
    long double value = 0;
    if (ref->entry && hash_get(ref->entry, INT64_MIN, field, &old, old_buf) &&
        !number_parse_long_double(old, &value))
        return HASH_INCR_NOT_NUMBER;
    value += delta;
    if (!isfinite(value))
        return HASH_INCR_OVERFLOW;
    *digits = slice_of(buf, number_format_long_double(buf, value));
    set_field(ref, field, *digits, HASH_KEEP_DUE, false);
    return HASH_INCR_OK;
}

/* ---- loading ---- */

void hash_begin(struct keyref *ref, uint64_t count)
{
    if (!too_many(ref, count))
        return;
    struct entry *e = keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_HASH, ENTRY_DICT, 0);
    e->flags |= ENTRY_GROWN;
    dict_init(dict_of(e), DICT_MAP);
}

bool hash_put_listpack(struct keyref *ref, int64_t due, const char *lp)
{
    if (listpack_first(lp) == 0 || !member_listpack_distinct(lp, true))
        return false;
    size_t size = listpack_size(lp);
    bool grown = too_many(ref, listpack_count(lp) / 2);
    if (!grown && size <= ENTRY_EMBED_MAX) {
        memcpy(bytes_of(keyref_put(ref, due, ENTRY_HASH, ENTRY_LISTPACK, size)), lp, size);
        return true;
    }
    struct entry *e = keyref_put(ref, due, ENTRY_HASH, ENTRY_DICT, 0);
    if (grown)
        e->flags |= ENTRY_GROWN;
    dict_init(dict_of(e), DICT_MAP);
    add_listpack(dict_of(e), keyref_epoch(ref), lp);
    return true;
}
