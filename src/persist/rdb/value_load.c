/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values from RDB files: a loader for each type code, and a table of them. Each builds an entry
 * aside, so that damage half way through a value leaves nothing behind: lists and sorted sets by
 * their builders, sets and hashes as the only key of a keyspace of the loader's own, whose epoch is
 * kept equal to that of the keyspace that the entry is for.
 */
#include "persist/rdb/format.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "persist/rdb/packed.h"
#include "structure/intset.h"
#include "structure/listpack.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/member_build.h"
#include "type/set.h"
#include "type/zset.h"

struct rdb_loader {
    struct epoch *epoch;
    const struct encoding_limits *limits;
    struct list_builder list;
    struct zset_builder zset;
    struct member_builder members;
    bool bulk;
    struct keyspace *aside;
    struct keyref ref; /* of the set or hash being built aside */
    /* Of the value being loaded. */
    struct rdb_reader *r;
    struct slice key;
    int64_t due;
    char *first; /* a copy of the first half of a pair, while the second is read */
    size_t first_size, first_capacity;
    bool has_first;
};

typedef bool load_fn(struct rdb_loader *l, struct entry **e);

struct rdb_loader *rdb_loader_new(struct epoch *epoch, const struct encoding_limits *limits)
{
    struct rdb_loader *l = mem_zalloc(sizeof(*l));
    l->epoch = epoch;
    l->limits = limits;
    l->first_capacity = 256;
    l->first = mem_alloc(l->first_capacity); /* also an empty half has an address */
    list_builder_init(&l->list, epoch);
    zset_builder_init(&l->zset, epoch, limits);
    member_builder_init(&l->members, epoch, limits);
    l->aside = keyspace_new(1, false);
    l->aside->now_ms = INT64_MIN; /* nothing expires while it is being built */
    return l;
}

void rdb_loader_free(struct rdb_loader *l)
{
    keyspace_free(l->aside);
    mem_free(l->first);
    mem_free(l);
}

void rdb_loader_set_bulk(struct rdb_loader *l, bool bulk)
{
    l->bulk = bulk;
}

void rdb_drop_entry(struct rdb_loader *l, struct entry *e)
{
    /* Not in any table, so no snapshot sees it: below the block every node is the loader's own. */
    void *value = (void *)(uintptr_t)entry_value(e);
    switch (entry_encoding(e)) {
    case ENTRY_ROPE:
        rope_clear(value, l->epoch);
        break;
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT:
        dict_clear(value, l->epoch);
        break;
    case ENTRY_BTREE:
        btree_clear(value, l->epoch);
        break;
    case ENTRY_ZTREE:
        btree_clear(&((struct zset_root *)value)->tree, l->epoch);
        dict_clear(&((struct zset_root *)value)->index, l->epoch);
        dict_clear(&((struct zset_root *)value)->crowd, l->epoch);
        break;
    case ENTRY_STREAM_TREES: {
        struct stream_root *s = value;
        btree_clear(&s->nodes, l->epoch);
        btree_clear(&s->groups, l->epoch);
        btree_clear(&s->pending, l->epoch);
        btree_clear(&s->owned, l->epoch);
        mem_free(s->tail);
        break;
    }
    default:
        break;
    }
    entry_free_block(e);
}

static bool damaged(struct rdb_loader *l, const char *what)
{
    return rdb_fail(l->r, ERROR_CORRUPT, "%s", what);
}

static void begin_aside(struct rdb_loader *l)
{
    l->aside->epoch.now = l->epoch->now;
    l->aside->limits = *l->limits;
    keyref_find(&l->ref, &l->aside->dbs[0], l->key, key_hash(l->key));
}

/* Take what was built, or throw it away. */
static bool finish_aside(struct rdb_loader *l, bool ok, struct entry **e)
{
    if (!l->ref.entry)
        return ok;
    if (!ok) {
        keyref_delete(&l->ref);
        return false;
    }
    keyref_set_due(&l->ref, l->due);
    *e = keyref_take(&l->ref);
    return true;
}

/* Keep the first half of a pair: the reader may overwrite it when the second half is read. */
static void keep_first(struct rdb_loader *l, struct slice s)
{
    if (s.size > l->first_capacity) {
        l->first_capacity = s.size * 2;
        mem_free(l->first);
        l->first = mem_alloc(l->first_capacity);
    }
    if (s.size)
        memcpy(l->first, s.data, s.size);
    l->first_size = s.size;
    l->has_first = true;
}

static struct slice take_first(struct rdb_loader *l)
{
    l->has_first = false;
    return slice_of(l->first, l->first_size);
}

/* Strings -------------------------------------------------------------------------------------- */

static bool load_string(struct rdb_loader *l, struct entry **e)
{
    struct rdb_string s;
    if (!rdb_read_string(l->r, &s))
        return false;
    int64_t number;
    if (s.bytes.size <= 20 && number_parse_int64(s.bytes, &number)) {
        *e = entry_new(l->key, l->due, ENTRY_STRING, ENTRY_INT, 0);
        memcpy((void *)(uintptr_t)entry_value(*e), &number, sizeof(number));
    } else if (s.bytes.size <= ENTRY_EMBED_MAX) {
        *e = entry_new(l->key, l->due, ENTRY_STRING, ENTRY_BYTES, s.bytes.size);
        if (s.bytes.size)
            memcpy((void *)(uintptr_t)entry_value(*e), s.bytes.data, s.bytes.size);
    } else {
        *e = entry_new(l->key, l->due, ENTRY_STRING, ENTRY_ROPE, 0);
        rope_write((struct rope *)(uintptr_t)entry_value(*e), l->epoch, 0, s.bytes);
    }
    return true;
}

/* Packed values: one string that holds all elements -------------------------------------------- */

typedef bool each_fn(struct slice bytes, packed_fn *fn, void *ctx, bool *stopped);

/* Give each element of a packed string to `add`, which reports its own damage. */
static bool load_packed(struct rdb_loader *l, each_fn *each, packed_fn *add, const char *what)
{
    struct rdb_string s;
    bool stopped;
    l->has_first = false;
    if (!rdb_read_string(l->r, &s))
        return false;
    if (each(s.bytes, add, l, &stopped))
        return l->has_first ? damaged(l, "a packed value ends after half a pair") : true;
    return stopped ? false : damaged(l, what);
}

/* Lists ---------------------------------------------------------------------------------------- */

static bool add_to_list(void *ctx, struct slice element)
{
    struct rdb_loader *l = ctx;
    list_builder_add(&l->list, element);
    return true;
}

static bool finish_list(struct rdb_loader *l, bool ok, struct entry **e)
{
    if (ok)
        *e = list_builder_finish(&l->list, l->key, l->due);
    else
        list_builder_reset(&l->list);
    return ok;
}

static bool load_list(struct rdb_loader *l, struct entry **e)
{
    uint64_t count;
    struct rdb_string s;
    bool ok = rdb_read_count(l->r, 1, &count);
    for (uint64_t i = 0; ok && i < count; i++) {
        ok = rdb_read_string(l->r, &s);
        if (ok)
            list_builder_add(&l->list, s.bytes);
    }
    return finish_list(l, ok, e);
}

static bool load_list_ziplist(struct rdb_loader *l, struct entry **e)
{
    return finish_list(l, load_packed(l, packed_each_ziplist, add_to_list, "a ziplist is damaged"),
                       e);
}

static bool load_quicklist(struct rdb_loader *l, struct entry **e)
{
    uint64_t nodes;
    bool ok = rdb_read_count(l->r, 1, &nodes);
    for (uint64_t i = 0; ok && i < nodes; i++)
        ok = load_packed(l, packed_each_ziplist, add_to_list, "a quicklist's ziplist is damaged");
    return finish_list(l, ok, e);
}

static bool load_quicklist_node(struct rdb_loader *l)
{
    enum { PLAIN = 1, PACKED = 2 };
    uint64_t container;
    struct rdb_string s;
    if (!rdb_read_count(l->r, 1, &container) || !rdb_read_string(l->r, &s))
        return false;
    if (container == PLAIN) {
        list_builder_add(&l->list, s.bytes);
        return true;
    }
    if (container != PACKED)
        return damaged(l, "a quicklist node is neither plain nor packed");
    if (!listpack_check(s.bytes.data, s.bytes.size))
        return damaged(l, "a quicklist's listpack is damaged");
    list_builder_add_listpack(&l->list, s.bytes.data);
    return true;
}

static bool load_quicklist_2(struct rdb_loader *l, struct entry **e)
{
    uint64_t nodes;
    bool ok = rdb_read_count(l->r, 2, &nodes);
    for (uint64_t i = 0; ok && i < nodes; i++)
        ok = load_quicklist_node(l);
    return finish_list(l, ok, e);
}

/* Sets ----------------------------------------------------------------------------------------- */

/* Take what the member builder has, or throw it away. */
static bool finish_members(struct rdb_loader *l, bool ok, struct entry **e, const char *twice)
{
    if (!ok) {
        member_builder_reset(&l->members);
        return false;
    }
    *e = member_builder_finish(&l->members, l->key, l->due);
    return *e ? true : damaged(l, twice);
}

#define MEMBER_TWICE "a set has a member twice"

/* A set of which the first member was read. */
static bool load_set_in_bulk(struct rdb_loader *l, struct slice first, uint64_t count,
                             struct entry **e)
{
    struct rdb_string s;
    bool ok = true;
    member_builder_begin(&l->members, ENTRY_SET, count);
    member_builder_add(&l->members, first, slice_of("", 0));
    for (uint64_t i = 1; ok && i < count; i++) {
        ok = rdb_read_string(l->r, &s);
        if (ok)
            member_builder_add(&l->members, s.bytes, slice_of("", 0));
    }
    return finish_members(l, ok, e, MEMBER_TWICE);
}

static bool add_to_set(struct rdb_loader *l, struct slice member)
{
    return set_add(&l->ref, member) ? true : damaged(l, MEMBER_TWICE);
}

static bool load_set(struct rdb_loader *l, struct entry **e)
{
    uint64_t count;
    struct rdb_string s;
    begin_aside(l);
    bool ok = rdb_read_count(l->r, 1, &count);
    for (uint64_t i = 0; ok && i < count; i++) {
        ok = rdb_read_string(l->r, &s);
        if (ok && i == 0 && l->bulk && member_builder_can(&l->members, s.bytes, count))
            return load_set_in_bulk(l, s.bytes, count, e);
        if (ok && i == 0)
            set_begin(&l->ref, s.bytes, count);
        ok = ok && add_to_set(l, s.bytes);
    }
    return finish_aside(l, ok, e);
}

static bool load_set_intset(struct rdb_loader *l, struct entry **e)
{
    struct rdb_string s;
    begin_aside(l);
    if (!rdb_read_string(l->r, &s))
        return false;
    if (!intset_check(s.bytes.data, s.bytes.size))
        return damaged(l, "an intset is damaged");
    /* An empty one is no damage: it is an empty collection. */
    return finish_aside(l, intset_count(s.bytes.data) == 0 ||
                               set_put_intset(&l->ref, ENTRY_NO_EXPIRY, s.bytes.data), e);
}

static bool load_set_listpack(struct rdb_loader *l, struct entry **e)
{
    struct rdb_string s;
    begin_aside(l);
    if (!rdb_read_string(l->r, &s))
        return false;
    if (!listpack_check(s.bytes.data, s.bytes.size))
        return damaged(l, "a set's listpack is damaged");
    if (listpack_first(s.bytes.data) != 0 &&
        !set_put_listpack(&l->ref, ENTRY_NO_EXPIRY, s.bytes.data))
        return damaged(l, MEMBER_TWICE);
    return finish_aside(l, true, e);
}

/* Sorted sets ---------------------------------------------------------------------------------- */

#define SCORED_TWICE "a sorted set has a member twice"

static bool add_scored(struct rdb_loader *l, struct slice member, double score)
{
    if (isnan(score))
        return damaged(l, "a score is not a number");
    return zset_builder_add(&l->zset, member, score) ? true : damaged(l, SCORED_TWICE);
}

static bool add_to_zset(void *ctx, struct slice element)
{
    struct rdb_loader *l = ctx;
    if (!l->has_first) {
        keep_first(l, element);
        return true;
    }
    double score;
    if (!number_parse_double(element, &score))
        return damaged(l, "a score is not a number");
    return add_scored(l, take_first(l), score);
}

static bool finish_zset(struct rdb_loader *l, bool ok, struct entry **e)
{
    if (ok)
        *e = zset_builder_finish(&l->zset, l->key, l->due);
    else
        zset_builder_reset(&l->zset);
    return ok;
}

static bool load_scores(struct rdb_loader *l, struct entry **e,
                        bool (*read_score)(struct rdb_reader *r, double *v), size_t least)
{
    uint64_t count;
    struct rdb_string s;
    double score;
    bool ok = rdb_read_count(l->r, least, &count);
    if (ok && l->bulk)
        zset_builder_begin_bulk(&l->zset, count);
    else if (ok)
        zset_builder_begin(&l->zset, count);
    for (uint64_t i = 0; ok && i < count; i++) {
        ok = rdb_read_string(l->r, &s);
        if (!ok)
            break;
        keep_first(l, s.bytes);
        ok = read_score(l->r, &score) && add_scored(l, take_first(l), score);
    }
    if (ok && !zset_builder_settle(&l->zset))
        ok = damaged(l, SCORED_TWICE);
    return finish_zset(l, ok, e);
}

static bool load_zset(struct rdb_loader *l, struct entry **e)
{
    return load_scores(l, e, rdb_read_text_double, 2);
}

static bool load_zset_2(struct rdb_loader *l, struct entry **e)
{
    return load_scores(l, e, rdb_read_double, 9);
}

static bool load_zset_ziplist(struct rdb_loader *l, struct entry **e)
{
    return finish_zset(l, load_packed(l, packed_each_ziplist, add_to_zset, "a ziplist is damaged"),
                       e);
}

static bool load_zset_listpack(struct rdb_loader *l, struct entry **e)
{
    struct rdb_string s;
    if (!rdb_read_string(l->r, &s))
        return false;
    if (!listpack_check(s.bytes.data, s.bytes.size))
        return damaged(l, "a sorted set's listpack is damaged");
    bool ok = zset_builder_add_listpack(&l->zset, s.bytes.data) ||
              damaged(l, "a sorted set's listpack holds no sorted set");
    return finish_zset(l, ok, e);
}

/* Hashes --------------------------------------------------------------------------------------- */

#define FIELD_TWICE "a hash has a field twice"

static bool add_to_hash(void *ctx, struct slice element)
{
    struct rdb_loader *l = ctx;
    if (!l->has_first) {
        keep_first(l, element);
        return true;
    }
    return hash_set_new(&l->ref, take_first(l), element) ? true : damaged(l, FIELD_TWICE);
}

static bool load_hash_in_bulk(struct rdb_loader *l, uint64_t count, struct entry **e)
{
    struct rdb_string s;
    bool ok = true;
    member_builder_begin(&l->members, ENTRY_HASH, count);
    for (uint64_t i = 0; ok && i < count; i++) {
        ok = rdb_read_string(l->r, &s);
        if (!ok)
            break;
        keep_first(l, s.bytes);
        ok = rdb_read_string(l->r, &s);
        if (ok)
            member_builder_add(&l->members, take_first(l), s.bytes);
    }
    return finish_members(l, ok, e, FIELD_TWICE);
}

static bool load_hash(struct rdb_loader *l, struct entry **e)
{
    uint64_t count;
    struct rdb_string s;
    bool ok = rdb_read_count(l->r, 2, &count);
    if (ok && l->bulk && count > 0)
        return load_hash_in_bulk(l, count, e);
    begin_aside(l);
    if (ok)
        hash_begin(&l->ref, count);
    for (uint64_t i = 0; ok && i < count; i++) {
        ok = rdb_read_string(l->r, &s);
        if (!ok)
            break;
        keep_first(l, s.bytes);
        ok = rdb_read_string(l->r, &s) && add_to_hash(l, s.bytes);
    }
    return finish_aside(l, ok, e);
}

static bool load_hash_zipmap(struct rdb_loader *l, struct entry **e)
{
    begin_aside(l);
    return finish_aside(l, load_packed(l, packed_each_zipmap, add_to_hash, "a zipmap is damaged"),
                        e);
}

static bool load_hash_ziplist(struct rdb_loader *l, struct entry **e)
{
    begin_aside(l);
    return finish_aside(l, load_packed(l, packed_each_ziplist, add_to_hash, "a ziplist is damaged"),
                        e);
}

static bool load_hash_listpack(struct rdb_loader *l, struct entry **e)
{
    struct rdb_string s;
    begin_aside(l);
    if (!rdb_read_string(l->r, &s))
        return false;
    if (!listpack_check(s.bytes.data, s.bytes.size))
        return damaged(l, "a hash's listpack is damaged");
    if (listpack_first(s.bytes.data) != 0 &&
        !hash_put_listpack(&l->ref, ENTRY_NO_EXPIRY, s.bytes.data))
        return damaged(l, "a hash's listpack has a field twice, or without its value");
    return finish_aside(l, true, e);
}

/* Fields that expire: as value_save.c writes them, and before Redis 7.4 was released with each time
 * as it is. */
static bool read_field_due(struct rdb_loader *l, bool relative, uint64_t first, int64_t *due)
{
    uint64_t v;
    bool special;
    *due = ENTRY_NO_EXPIRY;
    if (!rdb_read_length(l->r, &v, &special))
        return false;
    if (special)
        return damaged(l, "a field of a hash expires at an impossible time");
    if (v == 0)
        return true;
    /* A relative time is one more than how long after the first it is. */
    if (relative && __builtin_add_overflow(v - 1, first, &v))
        v = INT64_MAX;
    if (v >= INT64_MAX)
        return damaged(l, "a field of a hash expires at an impossible time");
    *due = (int64_t)v;
    return true;
}

static bool load_timed_hash(struct rdb_loader *l, struct entry **e, bool relative)
{
    uint64_t count, first = 0;
    struct rdb_string s;
    begin_aside(l);
    if (relative && !rdb_read_le64(l->r, &first))
        return false;
    bool ok = rdb_read_count(l->r, 3, &count);
    if (ok)
        hash_begin(&l->ref, count);
    for (uint64_t i = 0; ok && i < count; i++) {
        int64_t due;
        ok = read_field_due(l, relative, first, &due) && rdb_read_string(l->r, &s);
        if (!ok)
            break;
        keep_first(l, s.bytes);
        ok = rdb_read_string(l->r, &s) && add_to_hash(l, s.bytes);
        if (ok && due != ENTRY_NO_EXPIRY)
            hash_set_due(&l->ref, slice_of(l->first, l->first_size), due);
    }
    return finish_aside(l, ok, e);
}

static bool load_hash_metadata(struct rdb_loader *l, struct entry **e)
{
    return load_timed_hash(l, e, true);
}

static bool load_hash_metadata_pre_ga(struct rdb_loader *l, struct entry **e)
{
    return load_timed_hash(l, e, false);
}

/* A listpack of field, value and time (0: none) for each. */
static bool load_hash_listpack_ex(struct rdb_loader *l, struct entry **e)
{
    struct rdb_string s;
    begin_aside(l);
    if (!rdb_read_string(l->r, &s))
        return false;
    const char *lp = s.bytes.data;
    if (!listpack_check(lp, s.bytes.size) || listpack_count(lp) % 3 != 0)
        return damaged(l, "a hash's listpack is damaged");
    bool ok = true;
    for (uint32_t at = listpack_first(lp); at && ok;) {
        char field_buf[LISTPACK_NUMBER_SIZE], value_buf[LISTPACK_NUMBER_SIZE],
            due_buf[LISTPACK_NUMBER_SIZE];
        struct slice field = listpack_get_slice(lp, at, field_buf);
        at = listpack_next(lp, at);
        struct slice value = listpack_get_slice(lp, at, value_buf);
        at = listpack_next(lp, at);
        int64_t due;
        if (!number_parse_int64(listpack_get_slice(lp, at, due_buf), &due) || due < 0 ||
            due == INT64_MAX)
            ok = damaged(l, "a field of a hash expires at an impossible time");
        else if (!hash_set_new(&l->ref, field, value))
            ok = damaged(l, "a hash has a field twice");
        else if (due != 0)
            hash_set_due(&l->ref, field, due);
        at = listpack_next(lp, at);
    }
    return finish_aside(l, ok, e);
}

static bool load_hash_listpack_timed(struct rdb_loader *l, struct entry **e)
{
    uint64_t first; /* which the times say, too */
    return rdb_read_le64(l->r, &first) && load_hash_listpack_ex(l, e);
}

/* Streams -------------------------------------------------------------------------------------- */

static bool load_stream(struct rdb_loader *l, uint8_t type, struct entry **e)
{
    struct entry *fresh = entry_new(l->key, l->due, ENTRY_STREAM, ENTRY_STREAM_TREES, 0);
    if (!rdb_load_stream(l->r, type, (struct stream_root *)(uintptr_t)entry_value(fresh),
                         l->epoch)) {
        rdb_drop_entry(l, fresh);
        return false;
    }
    *e = fresh;
    return true;
}

static bool load_stream_1(struct rdb_loader *l, struct entry **e)
{
    return load_stream(l, RDB_STREAM_LISTPACKS, e);
}

static bool load_stream_2(struct rdb_loader *l, struct entry **e)
{
    return load_stream(l, RDB_STREAM_LISTPACKS_2, e);
}

static bool load_stream_3(struct rdb_loader *l, struct entry **e)
{
    return load_stream(l, RDB_STREAM_LISTPACKS_3, e);
}

static load_fn *const loaders[] = {
    [RDB_STRING] = load_string,
    [RDB_LIST] = load_list,
    [RDB_SET] = load_set,
    [RDB_ZSET] = load_zset,
    [RDB_HASH] = load_hash,
    [RDB_ZSET_2] = load_zset_2,
    [RDB_HASH_ZIPMAP] = load_hash_zipmap,
    [RDB_LIST_ZIPLIST] = load_list_ziplist,
    [RDB_SET_INTSET] = load_set_intset,
    [RDB_ZSET_ZIPLIST] = load_zset_ziplist,
    [RDB_HASH_ZIPLIST] = load_hash_ziplist,
    [RDB_LIST_QUICKLIST] = load_quicklist,
    [RDB_HASH_LISTPACK] = load_hash_listpack,
    [RDB_ZSET_LISTPACK] = load_zset_listpack,
    [RDB_LIST_QUICKLIST_2] = load_quicklist_2,
    [RDB_SET_LISTPACK] = load_set_listpack,
    [RDB_HASH_METADATA_PRE_GA] = load_hash_metadata_pre_ga,
    [RDB_HASH_LISTPACK_EX_PRE_GA] = load_hash_listpack_ex,
    [RDB_HASH_METADATA] = load_hash_metadata,
    [RDB_HASH_LISTPACK_EX] = load_hash_listpack_timed,
    [RDB_STREAM_LISTPACKS] = load_stream_1,
    [RDB_STREAM_LISTPACKS_2] = load_stream_2,
    [RDB_STREAM_LISTPACKS_3] = load_stream_3,
};

/* What is known but cannot be kept. */
static const char *unsupported(uint8_t type)
{
    switch (type) {
    case RDB_MODULE:
    case RDB_MODULE_2:
        return "a module's value";
    default:
        return NULL;
    }
}

bool rdb_load_value(struct rdb_reader *r, uint8_t type, struct slice key, int64_t due,
                    struct rdb_loader *l, struct entry **e)
{
    *e = NULL;
    load_fn *load = type < sizeof(loaders) / sizeof(loaders[0]) ? loaders[type] : NULL;
    if (!load) {
        const char *what = unsupported(type);
        if (what)
            return rdb_fail(r, ERROR_UNSUPPORTED, "%s is not supported", what);
        return rdb_fail(r, ERROR_CORRUPT, "unknown type code %d", type);
    }
    l->r = r;
    l->key = key;
    l->due = due;
    l->has_first = false;
    return load(l, e);
}
