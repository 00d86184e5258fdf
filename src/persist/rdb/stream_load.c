/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Streams from RDB files:
 *
 *     count of nodes; each: master id (a string of 16 bytes), listpack (a string)
 *     length, last id; from version 2 on: first id, highest deleted id, entries ever added
 *     count of groups; each:
 *         name, last id; from version 2 on: entries read (all bits set: not known)
 *         count of pending entries; each: id (16 bytes), time of delivery (8, LE), deliveries
 *         count of consumers; each:
 *             name, time seen (8, LE); version 3: time active (8, LE)
 *             count of pending entries; each: id (16 bytes), one of the group's
 *
 * Ids outside of strings are two lengths. Everything is proven: nodes, their order, the length,
 * that each of a group's pending entries is one consumer's.
 */
#include "persist/rdb/format.h"

#include "base/bytes.h"
#include "base/mem.h"
#include "type/stream.h"

#define ID_SIZE 16
/* The owner of a pending entry until its consumer is read. */
#define NOBODY ((1ULL << 40) - 1)

struct load {
    struct rdb_reader *r;
    struct stream_root *s; /* NULL: prove only */
    struct epoch *e;
    int version; /* 1 to 3 */
    uint64_t length;
    struct stream_id highest; /* id in the nodes so far */
    bool any;
};

static bool damaged(const struct load *l, const char *what)
{
    return rdb_fail(l->r, ERROR_CORRUPT, "%s", what);
}

static bool read_u64(struct load *l, uint64_t *v)
{
    bool special;
    if (!rdb_read_length(l->r, v, &special))
        return false;
    return special ? damaged(l, "a length is expected") : true;
}

static bool read_id(struct load *l, struct stream_id *id)
{
    return read_u64(l, &id->ms) && read_u64(l, &id->seq);
}

static bool read_raw_id(struct load *l, struct stream_id *id)
{
    const unsigned char *p;
    if (!rdb_read_bytes(l->r, ID_SIZE, &p))
        return false;
    *id = stream_id_get((const char *)p);
    return true;
}

/* -1 stands for never. What is further back was not written by a server: how long ago it was need
 * not be a number. */
static bool read_time(struct load *l, int64_t *ms)
{
    uint64_t v;
    if (!rdb_read_le64(l->r, &v))
        return false;
    *ms = (int64_t)v < -1 ? 0 : (int64_t)v;
    return true;
}

/* A name that outlives the next read. */
static bool read_name(struct load *l, struct slice *name, char **copy)
{
    struct rdb_string s;
    if (!rdb_read_string(l->r, &s))
        return false;
    *copy = mem_dup(s.bytes.data, s.bytes.size);
    *name = slice_of(*copy, s.bytes.size);
    return true;
}

/* Put the entries of a node that is larger than ours are into nodes of our own. */
static void split_node(struct load *l, const struct stream_node *node)
{
    static const struct encoding_limits limits = {.stream_node_max_bytes = 4096,
                                                  .stream_node_max_entries = 100};
    struct stream_item item;
    for (bool more = stream_node_first(node, &item); more; more = stream_node_next(node, &item)) {
        if (item.deleted)
            continue;
        struct stream_item fields = item;
        struct stream_pair *read = mem_alloc(((size_t)item.fields + 1) * sizeof(*read));
        struct slice *pairs = mem_alloc(((size_t)item.fields + 1) * 2 * sizeof(*pairs));
        for (uint64_t i = 0; i < item.fields; i++) {
            stream_item_pair(&fields, &read[i]);
            pairs[i * 2] = read[i].field;
            pairs[i * 2 + 1] = read[i].value;
        }
        stream_add(l->s, l->e, &limits, item.id, pairs, (size_t)item.fields);
        mem_free(pairs);
        mem_free(read);
    }
}

static bool load_node(struct load *l)
{
    struct rdb_string s;
    struct stream_id last;
    if (!rdb_read_string(l->r, &s))
        return false;
    if (s.bytes.size != ID_SIZE)
        return damaged(l, "a stream's node has no id");
    struct stream_node node = {.master = stream_id_get(s.bytes.data)};
    if (!rdb_read_string(l->r, &s))
        return false;
    node.lp = s.bytes.data;
    if (!stream_node_check(node.lp, s.bytes.size, node.master, &last))
        return damaged(l, "a stream's node is damaged");
    if (l->any && stream_id_compare(node.master, l->highest) <= 0)
        return damaged(l, "a stream's nodes are not in order");
    uint64_t live = stream_node_live(node.lp);
    l->any = true;
    l->highest = last;
    l->length += live;
    if (!l->s || live == 0)
        return true;
    if (s.bytes.size > STREAM_NODE_SIZE_MAX && live > 1)
        split_node(l, &node);
    else
        stream_add_node(l->s, l->e, node.master, node.lp);
    l->s->last = last;
    return true;
}

static bool load_entries(struct load *l)
{
    uint64_t nodes, length, added;
    struct stream_id last, ignored, max_deleted = {0, 0};
    if (!rdb_read_count(l->r, ID_SIZE + 2, &nodes))
        return false;
    for (uint64_t i = 0; i < nodes; i++) {
        if (!load_node(l))
            return false;
    }
    if (!read_u64(l, &length) || !read_id(l, &last))
        return false;
    added = length;
    if (l->version >= 2 &&
        (!read_id(l, &ignored) || !read_id(l, &max_deleted) || !read_u64(l, &added)))
        return false;
    if (length != l->length)
        return damaged(l, "a stream's length is not that of its nodes");
    if (l->any && stream_id_compare(last, l->highest) < 0)
        return damaged(l, "a stream's last id is lower than its entries'");
    if (added < length)
        return damaged(l, "a stream has more entries than were ever added");
    if (!l->s)
        return true;
    struct stream_item item;
    l->s->last = last;
    l->s->max_deleted = max_deleted;
    l->s->added = added;
    l->s->first = stream_edge(l->s, false, &item) ? item.id : STREAM_ID_MIN;
    return true;
}

static bool load_pending(struct load *l, const struct stream_group *g)
{
    uint64_t count;
    if (!rdb_read_count(l->r, ID_SIZE + 8 + 1, &count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        struct stream_pending p = {.consumer = NOBODY}, found;
        if (!read_raw_id(l, &p.id) || !read_time(l, &p.delivered_ms) || !read_u64(l, &p.deliveries))
            return false;
        if (!l->s)
            continue;
        if (stream_pending_find(l->s, g, p.id, &found))
            return damaged(l, "a group has a pending entry twice");
        stream_pending_put(l->s, l->e, g, &p);
    }
    return true;
}

static bool load_owned(struct load *l, const struct stream_group *g, uint64_t consumer)
{
    uint64_t count;
    if (!rdb_read_count(l->r, ID_SIZE, &count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        struct stream_pending p;
        struct stream_id id;
        if (!read_raw_id(l, &id))
            return false;
        if (!l->s)
            continue;
        if (!stream_pending_find(l->s, g, id, &p) || p.consumer != NOBODY)
            return damaged(l, "a consumer's pending entry is not the group's, or another's");
        p.consumer = consumer;
        stream_pending_put(l->s, l->e, g, &p);
    }
    return true;
}

static bool load_consumer(struct load *l, struct slice group_name, struct stream_group *g)
{
    struct stream_consumer consumer = {0, 0, -1};
    int64_t seen, active;
    struct slice name;
    char *copy;
    if (!read_name(l, &name, &copy))
        return false;
    bool ok = read_time(l, &seen);
    active = seen;
    ok = ok && (l->version < 3 || read_time(l, &active));
    if (ok && l->s) {
        if (stream_consumer_find(l->s, g, name, &consumer)) {
            ok = damaged(l, "a group has a consumer twice");
        } else {
            stream_consumer_create(l->s, l->e, group_name, g, name, seen, &consumer);
            consumer.active_ms = active;
            stream_consumer_save(l->s, l->e, g, &consumer);
        }
    }
    mem_free(copy);
    return ok && load_owned(l, g, consumer.number);
}

static bool load_group_named(struct load *l, struct slice name)
{
    struct stream_group g = {0};
    struct stream_id last;
    uint64_t read = 0, consumers;
    if (!read_id(l, &last) || (l->version >= 2 && !read_u64(l, &read)))
        return false;
    if (l->s) {
        if (stream_group_find(l->s, name, &g))
            return damaged(l, "a stream has a group twice");
        int64_t entries_read = l->version >= 2 ? (int64_t)read : stream_entries_up_to(l->s, last);
        if (entries_read < STREAM_READ_UNKNOWN)
            return damaged(l, "a group has read an impossible number of entries");
        stream_group_create(l->s, l->e, name, last, entries_read, &g);
    }
    if (!load_pending(l, &g) || !rdb_read_count(l->r, 1 + 8 + 1, &consumers))
        return false;
    for (uint64_t i = 0; i < consumers; i++) {
        if (!load_consumer(l, name, &g))
            return false;
    }
    if (l->s && stream_owned_count(l->s, &g, NOBODY) != 0)
        return damaged(l, "a pending entry has no consumer");
    return true;
}

static bool load_group(struct load *l)
{
    struct slice name;
    char *copy;
    if (!read_name(l, &name, &copy))
        return false;
    bool ok = load_group_named(l, name);
    mem_free(copy);
    return ok;
}

bool rdb_load_stream(struct rdb_reader *r, uint8_t type, struct stream_root *s, struct epoch *e)
{
    struct load l = {.r = r, .s = s, .e = e};
    uint64_t groups;
    l.version = type == RDB_STREAM_LISTPACKS ? 1 : type == RDB_STREAM_LISTPACKS_2 ? 2 : 3;
    if (!load_entries(&l) || !rdb_read_count(r, 5, &groups))
        return false;
    for (uint64_t i = 0; i < groups; i++) {
        if (!load_group(&l))
            return false;
    }
    return true;
}
