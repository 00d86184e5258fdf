/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A node of a stream: up to stream-node-max-entries entries packed in one listpack, in the layout
 * of RDB files ("Streams: a new general purpose data structure in Redis", Sanfilippo, 2017). Ids
 * are kept as differences from the node's master id, which is that of the entry it was made for,
 * and fields that are the master entry's are not repeated.
 *
 *     master:  live entries, deleted entries, number of fields, field ..., 0
 *     entry:   flags, ms difference, seq difference,
 *              [number of fields, unless they are the master's,] (field, value) ... or value ...,
 *              number of the entry's elements before this one
 *
 * A deleted entry is flagged and stays until its node goes. Ids of the entries of a node ascend.
 *
 * Nothing here allocates. Bytes from outside go through stream_node_check first.
 */
#ifndef HF_TYPE_STREAM_NODE_H
#define HF_TYPE_STREAM_NODE_H

#include "keyspace/entry.h"
#include "structure/listpack.h"

/* A node that is written anew ends at this size even where the directives would let it grow, as it
 * is copied at once when a snapshot sees it. An entry that is larger has a node of its own. */
#define STREAM_NODE_SIZE_MAX 65536

struct stream_node {
    const char *lp;
    struct stream_id master;
};

/* One entry of a node. */
struct stream_item {
    struct stream_id id;
    uint64_t fields;
    const char *lp;
    uint32_t at;       /* of its flags */
    uint32_t field_at; /* of the next field that stream_item_pair gives; in the master for `same` */
    uint32_t value_at; /* of the next value, for `same` */
    bool same, deleted;
};

static inline int stream_id_compare(struct stream_id a, struct stream_id b)
{
    if (a.ms != b.ms)
        return a.ms < b.ms ? -1 : 1;
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

uint64_t stream_node_live(const char *lp);
uint64_t stream_node_deleted(const char *lp);

/* Bytes that the node for one entry, or one entry more, takes at most beyond what it has. */
size_t stream_node_room(const struct slice *pairs, size_t count);
/* Make an empty node for an entry with these fields, at lp. */
void stream_node_init(char *lp, const struct slice *pairs, size_t count);
/* Add an entry of `count` pairs behind the others. */
void stream_node_append(char *lp, struct stream_id master, struct stream_id id,
                        const struct slice *pairs, size_t count);

/* The entry whose flags stand at `at`; the first, the next, the last and the one before; false when
 * there is none. Deleted ones are given, too. */
bool stream_node_first(const struct stream_node *n, struct stream_item *item);
bool stream_node_next(const struct stream_node *n, struct stream_item *item);
bool stream_node_last(const struct stream_node *n, struct stream_item *item);
bool stream_node_prev(const struct stream_node *n, struct stream_item *item);
/* Flag the entry as deleted. The buffer must have room for LISTPACK_NUMBER_BYTES more. */
void stream_node_delete(char *lp, uint32_t at);

/* Whether the bytes are a node: every element, the counts, ids that ascend. *last is set to the id
 * of the last entry. */
bool stream_node_check(const char *lp, size_t size, struct stream_id master,
                       struct stream_id *last);

#endif
