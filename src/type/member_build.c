/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/member_build.h"

#include <assert.h>

#include "base/number.h"

void member_builder_init(struct member_builder *b, struct epoch *epoch,
                         const struct encoding_limits *limits)
{
    b->epoch = epoch;
    b->limits = limits;
    b->large = false;
}

static bool is_hash(const struct member_builder *b)
{
    return b->type == ENTRY_HASH;
}

static uint64_t most(const struct member_builder *b)
{
    return (uint64_t)(is_hash(b) ? b->limits->hash_max_listpack_entries
                                 : b->limits->set_max_listpack_entries);
}

static uint64_t longest(const struct member_builder *b)
{
    return (uint64_t)(is_hash(b) ? b->limits->hash_max_listpack_value
                                 : b->limits->set_max_listpack_value);
}

bool member_builder_can(const struct member_builder *b, struct slice first, uint64_t count)
{
    int64_t v;
    bool integer = first.size < NUMBER_INT64_SIZE && number_parse_int64(first, &v);
    return !integer || (count > (uint64_t)b->limits->set_max_intset_entries &&
                        count > (uint64_t)b->limits->set_max_listpack_entries);
}

static void begin_large(struct member_builder *b, uint64_t count)
{
    b->large = true;
    dict_builder_begin(&b->dict, b->epoch, is_hash(b) ? DICT_MAP : DICT_SET, count);
}

void member_builder_begin(struct member_builder *b, enum entry_type type, uint64_t count)
{
    b->type = type;
    b->large = false;
    b->grown = count > most(b);
    if (b->grown)
        begin_large(b, count);
    else
        listpack_init(b->lp);
}

static void add_large(struct member_builder *b, struct slice member, struct slice value)
{
    dict_builder_add(&b->dict, hash_bytes(member.data, member.size), member, value);
}

/* Beyond what a listpack in an entry can be. */
static void become_large(struct member_builder *b)
{
    char member_buf[LISTPACK_NUMBER_SIZE], value_buf[LISTPACK_NUMBER_SIZE];
    begin_large(b, 0);
    for (uint32_t at = listpack_first(b->lp); at; at = listpack_next(b->lp, at)) {
        struct slice member = listpack_get_slice(b->lp, at, member_buf);
        struct slice value = slice_of("", 0);
        if (is_hash(b)) {
            at = listpack_next(b->lp, at);
            value = listpack_get_slice(b->lp, at, value_buf);
        }
        add_large(b, member, value);
    }
}

void member_builder_add(struct member_builder *b, struct slice member, struct slice value)
{
    if (!b->large) {
        bool too_long = member.size > longest(b) || value.size > longest(b);
        size_t size = listpack_size(b->lp);
        if (!too_long) {
            size += listpack_entry_size(member);
            size += is_hash(b) ? listpack_entry_size(value) : 0;
        }
        b->grown |= too_long;
        if (too_long || size > ENTRY_EMBED_MAX) {
            become_large(b);
        } else {
            listpack_insert(b->lp, 0, member);
            if (is_hash(b))
                listpack_insert(b->lp, 0, value);
            return;
        }
    }
    b->grown |= member.size > longest(b) || value.size > longest(b);
    add_large(b, member, value);
}

struct entry *member_builder_finish(struct member_builder *b, struct slice key, int64_t due)
{
    if (!b->large) {
        if (!listpack_distinct(b->lp, is_hash(b) ? 1 : 0))
            return NULL;
        size_t size = listpack_size(b->lp);
        struct entry *e = entry_new(key, due, b->type, ENTRY_LISTPACK, size);
        memcpy((char *)(uintptr_t)entry_value(e), b->lp, size);
        return e;
    }
    struct dict d;
    b->large = false;
    if (!dict_builder_finish(&b->dict, &d, NULL, NULL))
        return NULL;
    assert(d.count > 0);
    struct entry *e = entry_new(key, due, b->type, ENTRY_DICT, 0);
    *(struct dict *)(uintptr_t)entry_value(e) = d;
    if (b->grown)
        e->flags |= ENTRY_GROWN;
    return e;
}

void member_builder_reset(struct member_builder *b)
{
    if (b->large)
        dict_builder_drop(&b->dict);
    b->large = false;
}
