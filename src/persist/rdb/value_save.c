/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values into RDB files. What stands as a listpack or intset is written as it stands; what is large
 * is written element by element. Reads only: on any thread, entries of a snapshot.
 */
#include "persist/rdb/format.h"

#include "base/mem.h"
#include "structure/listpack.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/string.h"
#include "type/zset.h"

/* A quicklist's nodes: how they are held, and how large we make them (list-max-listpack-size
 * -2). */
enum { NODE_PLAIN = 1, NODE_PACKED = 2 };
#define NODE_SIZE 8192

int rdb_version_for(const struct snapshot *s)
{
    for (int i = 0; i < s->db_count; i++) {
        if (s->dbs[i].timed > 0)
            return RDB_VERSION_TIMED;
    }
    return RDB_VERSION_DEFAULT;
}

int rdb_version_needed(const struct entry *e)
{
    if (entry_timed(e) > 0)
        return RDB_VERSION_TIMED;
    /* Lengths of more than 32 bits came with version 8. */
    uint64_t length = 0;
    switch (entry_type(e)) {
    case ENTRY_STRING:
        length = string_size(e);
        break;
    case ENTRY_LIST:
        length = list_count(e);
        break;
    case ENTRY_SET:
    case ENTRY_HASH:
        length = member_count(e);
        break;
    case ENTRY_ZSET:
        length = zset_count(e);
        break;
    case ENTRY_STREAM:
        return RDB_VERSION_STREAMS;
    default:
        break;
    }
    return length > UINT32_MAX ? RDB_VERSION_LONG : 1;
}

uint8_t rdb_type_of(const struct entry *e, int version)
{
    /* Before version 10 there were no listpacks in files: everything goes element by element then,
     * as all versions can read it. */
    bool listpack = entry_encoding(e) == ENTRY_LISTPACK && version >= 10;
    switch (entry_type(e)) {
    case ENTRY_LIST:
        return version >= 10 ? RDB_LIST_QUICKLIST_2 : RDB_LIST;
    case ENTRY_SET:
        if (entry_encoding(e) == ENTRY_INTSET)
            return RDB_SET_INTSET;
        /* Redis 7.0, whose version is 10, does not know sets in listpacks. */
        return listpack && version >= 11 ? RDB_SET_LISTPACK : RDB_SET;
    case ENTRY_ZSET:
        return listpack ? RDB_ZSET_LISTPACK : version >= 8 ? RDB_ZSET_2 : RDB_ZSET;
    case ENTRY_HASH:
        if (entry_timed(e) > 0)
            return RDB_HASH_METADATA;
        return listpack ? RDB_HASH_LISTPACK : RDB_HASH;
    case ENTRY_STREAM:
        return version >= 11   ? RDB_STREAM_LISTPACKS_3
               : version >= 10 ? RDB_STREAM_LISTPACKS_2
                               : RDB_STREAM_LISTPACKS;
    default:
        return RDB_STRING;
    }
}

static struct slice string_piece(void *ctx, uint64_t at, size_t size, char *room)
{
    string_read(ctx, at, room, size);
    return slice_of(room, size);
}

static void save_string(struct rdb_writer *w, const struct entry *e)
{
    char number[NUMBER_INT64_SIZE];
    if (entry_encoding(e) == ENTRY_INT) {
        rdb_write_int(w, entry_int(e));
        return;
    }
    if (entry_encoding(e) == ENTRY_BYTES) {
        rdb_write_string(w, entry_bytes(e));
        return;
    }
    if (string_size(e) > RDB_PIECE) {
        rdb_write_long_string(w, string_size(e), string_piece, (void *)e);
        return;
    }
    char *heap;
    rdb_write_string(w, string_flat(e, number, &heap));
    mem_free(heap);
}

static void write_node(struct rdb_writer *w, int kind, struct slice bytes)
{
    rdb_write_length(w, (uint64_t)kind);
    rdb_write_string(w, bytes);
}

/* How an element goes into nodes: alone when it is too large to be packed. */
static bool is_plain(struct slice item)
{
    return listpack_entry_size(item) + LISTPACK_EMPTY_SIZE > NODE_SIZE;
}

/* The walk over a list's nodes is done twice, as their number comes first: it is cheaper than to
 * hold them all. w NULL: count only. */
static uint64_t walk_nodes(struct rdb_writer *w, const struct entry *e)
{
    char node[NODE_SIZE];
    uint64_t nodes = 0;
    size_t used = LISTPACK_EMPTY_SIZE;
    bool filled = false;
    struct list_iter it;
    struct slice item;
    if (w)
        listpack_init(node);
    list_iter_init(&it, e, 0, false);
    while (list_iter_next(&it, &item)) {
        bool plain = is_plain(item);
        size_t size = plain ? 0 : listpack_entry_size(item);
        if (filled && (plain || used + size > NODE_SIZE)) {
            nodes++;
            if (w) {
                write_node(w, NODE_PACKED, slice_of(node, listpack_size(node)));
                listpack_init(node);
            }
            used = LISTPACK_EMPTY_SIZE;
            filled = false;
        }
        if (plain) {
            nodes++;
            if (w)
                write_node(w, NODE_PLAIN, item);
            continue;
        }
        if (w)
            listpack_insert(node, 0, item);
        used += size;
        filled = true;
    }
    if (filled) {
        nodes++;
        if (w)
            write_node(w, NODE_PACKED, slice_of(node, listpack_size(node)));
    }
    return nodes;
}

static void save_list(struct rdb_writer *w, const struct entry *e)
{
    if (entry_encoding(e) == ENTRY_LISTPACK) {
        rdb_write_length(w, 1);
        write_node(w, NODE_PACKED, entry_bytes(e));
        return;
    }
    rdb_write_length(w, walk_nodes(NULL, e));
    walk_nodes(w, e);
}

static void save_elements(struct rdb_writer *w, const struct entry *e)
{
    struct list_iter it;
    struct slice item;
    rdb_write_length(w, list_count(e));
    list_iter_init(&it, e, 0, false);
    while (list_iter_next(&it, &item))
        rdb_write_string(w, item);
}

static void save_members(struct rdb_writer *w, const struct entry *e, bool with_values)
{
    struct member_iter it;
    struct dict_item item;
    rdb_write_length(w, member_count(e));
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        rdb_write_string(w, item.key);
        if (with_values)
            rdb_write_string(w, item.value);
    }
}

/* When the first field expires; of each field one more than how long after that, or 0; field;
 * value. */
static void save_timed_hash(struct rdb_writer *w, const struct entry *e)
{
    struct member_iter it;
    struct dict_item item;
    int64_t first = ENTRY_NO_EXPIRY;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item))
        first = item.due < first ? item.due : first;
    rdb_write_le64(w, (uint64_t)first);
    rdb_write_length(w, member_count(e));
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        bool expires = item.due != ENTRY_NO_EXPIRY;
        rdb_write_length(w, expires ? (uint64_t)(item.due - first) + 1 : 0);
        rdb_write_string(w, item.key);
        rdb_write_string(w, item.value);
    }
}

static void save_zset(struct rdb_writer *w, const struct entry *e)
{
    uint64_t count = zset_count(e);
    struct zset_iter it;
    struct zset_item item;
    rdb_write_length(w, count);
    /* From the highest score down, as Redis does: it inserts at the head of its skiplist then. */
    zset_iter_init(&it, e, count - 1, true);
    while (zset_iter_next(&it, &item)) {
        rdb_write_string(w, item.member);
        if (w->version >= 8)
            rdb_write_double(w, item.score);
        else
            rdb_write_text_double(w, item.score);
    }
}

void rdb_save_value(struct rdb_writer *w, const struct entry *e)
{
    uint8_t type = rdb_type_of(e, w->version);
    switch (type) {
    case RDB_STRING:
        save_string(w, e);
        break;
    case RDB_LIST_QUICKLIST_2:
        save_list(w, e);
        break;
    case RDB_LIST:
        save_elements(w, e);
        break;
    case RDB_SET:
        save_members(w, e, false);
        break;
    case RDB_HASH:
        save_members(w, e, true);
        break;
    case RDB_HASH_METADATA:
        save_timed_hash(w, e);
        break;
    case RDB_ZSET:
    case RDB_ZSET_2:
        save_zset(w, e);
        break;
    case RDB_STREAM_LISTPACKS:
    case RDB_STREAM_LISTPACKS_2:
    case RDB_STREAM_LISTPACKS_3:
        rdb_save_stream(w, type, entry_value(e));
        break;
    default: /* a listpack or intset, as it stands */
        rdb_write_string(w, entry_bytes(e));
        break;
    }
}
