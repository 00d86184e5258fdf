/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Streams (ENTRY_STREAM_TREES): entries in the order of their ids, and consumer groups. (The stream
 * of effects, persist/log/stream.h, has nothing to do with them.)
 *
 *     nodes    master id (16 bytes, big-endian), then the node's listpack: stream_node.h
 *     tail     the newest node, which XADD extends in place; NULL when there are no entries
 *     groups   three kinds of items, all numbers big-endian:
 *                'G' name . | group (5) last id (16) entries read (8) next consumer (5)
 *                'N' group name . | consumer (5)
 *                'C' group consumer | seen (8) active (8) name
 *     pending  group (5) id (16) | consumer (5) delivered (8) deliveries (8)
 *     owned    group (5) consumer (5) id (16)
 *
 * What stands before the bar is the key. A name in a key is written so that names sort by their
 * bytes and none begins another: 00 becomes 00 FF, and 00 01 ends it. Groups and consumers have
 * numbers that are never given again, so that pending entries are of one size whatever the names
 * are; how many entries a group or consumer has pending is a difference of ranks.
 *
 * Where a node ends is as in Redis (stream-node-max-bytes, stream-node-max-entries), as trimming
 * with `~` removes whole nodes: what it leaves is the same. A node never grows beyond
 * STREAM_NODE_SIZE_MAX, though.
 *
 * Copy-on-write: by node, as with every tree; the tail is copied when it is first changed after a
 * snapshot.
 *
 * Functions that take an epoch change the stream: the root is that of an entry that keyref_own
 * gave. Slices given in must not point into the stream. Functions that take a const root write
 * nothing, and may be used on a frozen one by any thread. Commands say when consumers were seen,
 * and keep keys of streams without entries, as Redis does.
 */
#ifndef HF_TYPE_STREAM_H
#define HF_TYPE_STREAM_H

#include "keyspace/keyspace.h"
#include "type/stream_node.h"

#define STREAM_ID_MIN ((struct stream_id){0, 0})
#define STREAM_ID_MAX ((struct stream_id){UINT64_MAX, UINT64_MAX})
#define STREAM_READ_UNKNOWN (-1) /* entries read: not known */

static inline struct stream_root *stream_root_of(const struct entry *e)
{
    return (struct stream_root *)entry_value(e);
}

static inline bool stream_id_is_zero(struct stream_id id)
{
    return id.ms == 0 && id.seq == 0;
}

/* The next id and the one before; false at the last and the first, the id stays as it is then. */
bool stream_id_next(struct stream_id *id);
bool stream_id_prev(struct stream_id *id);
void stream_id_put(char out[16], struct stream_id id);
struct stream_id stream_id_get(const char in[16]);

/* Entries -------------------------------------------------------------------------------------- */

/* Create the key with an empty stream; returns its root. */
struct stream_root *stream_create(struct keyref *ref);

/* Add an entry; `id` is higher than last. pairs: field, value, ...; `count` of them. */
void stream_add(struct stream_root *s, struct epoch *e, const struct encoding_limits *limits,
                struct stream_id id, const struct slice *pairs, size_t count);

/* Delete an entry; false when it is not there. */
bool stream_delete(struct stream_root *s, struct epoch *e, struct stream_id id);

struct stream_trim {
    bool by_id;
    bool approximate; /* whole nodes only */
    uint64_t max_length;
    struct stream_id min_id;
    uint64_t limit; /* remove no more than so many; 0: without limit */
};
/* Remove the oldest entries; returns how many. */
uint64_t stream_trim_front(struct stream_root *s, struct epoch *e, const struct stream_trim *trim);

/* The last entry that it would remove, the stream as it is; false when it would remove none. */
bool stream_trim_last(const struct stream_root *s, const struct stream_trim *trim,
                      struct stream_id *last);

/* Iteration over the entries that are not deleted, `from` and `to` included. The stream must not
 * change meanwhile. */
struct stream_iter {
    const struct stream_root *s;
    struct stream_id from, to;
    bool reverse, in_tail, ended, begun;
    struct btree_pos pos;
    struct stream_node node;
    struct stream_item item;
};
void stream_iter_init(struct stream_iter *it, const struct stream_root *s, struct stream_id from,
                      struct stream_id to, bool reverse);
/* The next entry: *item is a copy to read the fields from. */
bool stream_iter_next(struct stream_iter *it, struct stream_item *item);

/* The next field and value, of which there are item->fields. Numbers are written into the
 * buffers. */
struct stream_pair {
    struct slice field, value;
    char field_number[LISTPACK_NUMBER_SIZE], value_number[LISTPACK_NUMBER_SIZE];
};
void stream_item_pair(struct stream_item *item, struct stream_pair *pair);

/* Find one entry. item may be NULL. */
bool stream_find(const struct stream_root *s, struct stream_id id, struct stream_item *item);
/* The oldest or newest entry; false when there is none. */
bool stream_edge(const struct stream_root *s, bool newest, struct stream_item *item);

/* Nodes, from the oldest on: for writing them as they are. */
uint64_t stream_node_count(const struct stream_root *s);
struct stream_node_iter {
    const struct stream_root *s;
    struct btree_pos pos;
    bool tail_given;
};
void stream_node_iter_init(struct stream_node_iter *it, const struct stream_root *s);
bool stream_node_iter_next(struct stream_node_iter *it, struct stream_node *node);
/* For loading: put a node that stream_node_check has passed behind the others. */
void stream_add_node(struct stream_root *s, struct epoch *e, struct stream_id master,
                     const char *lp);
/* How many nodes the radix tree of Redis would have for these; exact up to a few hundred nodes, an
 * estimate beyond. */
uint64_t stream_radix_nodes(const struct stream_root *s);

/* How many entries were ever added up to this id, itself included, as far as that can be known;
 * STREAM_READ_UNKNOWN. */
int64_t stream_entries_up_to(const struct stream_root *s, struct stream_id id);
/* Whether an entry that was deleted may have been at or behind `from`, among those that there
 * are. */
bool stream_has_gap_from(const struct stream_root *s, struct stream_id from);

/* Groups (stream_group.c) ---------------------------------------------------------------------- */

struct stream_group {
    uint64_t number;
    struct stream_id last;
    int64_t entries_read; /* or STREAM_READ_UNKNOWN */
    uint64_t next_consumer;
};
struct stream_consumer {
    uint64_t number;
    int64_t seen_ms, active_ms; /* active: last got or claimed an entry; -1 never */
};
struct stream_pending {
    struct stream_id id;
    uint64_t consumer; /* number */
    int64_t delivered_ms;
    uint64_t deliveries;
};

uint64_t stream_group_count(const struct stream_root *s);
bool stream_group_find(const struct stream_root *s, struct slice name, struct stream_group *g);
/* Create a group that is not there. */
void stream_group_create(struct stream_root *s, struct epoch *e, struct slice name,
                         struct stream_id last, int64_t entries_read, struct stream_group *g);
/* Write back what was changed in *g. */
void stream_group_save(struct stream_root *s, struct epoch *e, struct slice name,
                       const struct stream_group *g);
void stream_group_destroy(struct stream_root *s, struct epoch *e, struct slice name,
                          const struct stream_group *g);
/* Entries that the group has not read, as far as that can be known: false. */
bool stream_group_lag(const struct stream_root *s, const struct stream_group *g, uint64_t *lag);
/* The group reads the entry `id`, which is behind its last. */
void stream_group_advance(const struct stream_root *s, struct stream_group *g, struct stream_id id);

/* Iteration in the order of names: those of groups, or of a group's consumers. */
struct stream_name_iter {
    struct btree_pos pos;
    char prefix[8];
    size_t prefix_size;
    char *name; /* what `name` of the last one points to */
    size_t capacity;
};
void stream_group_iter_init(struct stream_name_iter *it, const struct stream_root *s);
bool stream_group_iter_next(struct stream_name_iter *it, struct slice *name,
                            struct stream_group *g);
void stream_consumer_iter_init(struct stream_name_iter *it, const struct stream_root *s,
                               const struct stream_group *g);
bool stream_consumer_iter_next(struct stream_name_iter *it, const struct stream_root *s,
                               const struct stream_group *g, struct slice *name,
                               struct stream_consumer *consumer);
void stream_name_iter_deinit(struct stream_name_iter *it);

uint64_t stream_consumer_count(const struct stream_root *s, const struct stream_group *g);
bool stream_consumer_find(const struct stream_root *s, const struct stream_group *g,
                          struct slice name, struct stream_consumer *consumer);
/* By number; the name is valid until the stream is changed. It must be there. */
struct slice stream_consumer_name(const struct stream_root *s, const struct stream_group *g,
                                  uint64_t number);
/* Create a consumer that is not there. *g changes and is saved. */
void stream_consumer_create(struct stream_root *s, struct epoch *e, struct slice group_name,
                            struct stream_group *g, struct slice name, int64_t now_ms,
                            struct stream_consumer *consumer);
void stream_consumer_save(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                          const struct stream_consumer *consumer);
/* Remove it with what it has pending; returns how many that were. */
uint64_t stream_consumer_delete(struct stream_root *s, struct epoch *e,
                                const struct stream_group *g, struct slice name,
                                const struct stream_consumer *consumer);

uint64_t stream_pending_count(const struct stream_root *s, const struct stream_group *g);
uint64_t stream_owned_count(const struct stream_root *s, const struct stream_group *g,
                            uint64_t consumer);
bool stream_pending_find(const struct stream_root *s, const struct stream_group *g,
                         struct stream_id id, struct stream_pending *p);
/* Put an entry there, or give it another consumer, time and count. */
void stream_pending_put(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                        const struct stream_pending *p);
bool stream_pending_remove(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                           struct stream_id id);
/* The first pending entry at or behind `from`, of the group or (`consumer` not STREAM_ANY) of one
 * consumer; false when there is none. */
#define STREAM_ANY UINT64_MAX
bool stream_pending_from(const struct stream_root *s, const struct stream_group *g,
                         uint64_t consumer, struct stream_id from, struct stream_pending *p);
/* The last one of the group. */
bool stream_pending_last(const struct stream_root *s, const struct stream_group *g,
                         struct stream_pending *p);

/* Verify the invariants. For tests. */
void stream_check(const struct entry *e, const struct epoch *epoch);

#endif
