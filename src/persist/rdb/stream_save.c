/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Streams into RDB files: see stream_load.c for the form. Reads only.
 */
#include "persist/rdb/format.h"
#include "type/stream.h"

static void write_id(struct rdb_writer *w, struct stream_id id)
{
    rdb_write_length(w, id.ms);
    rdb_write_length(w, id.seq);
}

static void write_raw_id(struct rdb_writer *w, struct stream_id id)
{
    char bytes[16];
    stream_id_put(bytes, id);
    rdb_write_bytes(w, bytes, sizeof(bytes));
}

static void save_nodes(struct rdb_writer *w, const struct stream_root *s)
{
    struct stream_node_iter it;
    struct stream_node node;
    char id[16];
    rdb_write_length(w, stream_node_count(s));
    stream_node_iter_init(&it, s);
    while (stream_node_iter_next(&it, &node)) {
        stream_id_put(id, node.master);
        rdb_write_string(w, slice_of(id, sizeof(id)));
        rdb_write_string(w, slice_of(node.lp, listpack_size(node.lp)));
    }
}

/* Pending entries of the group, or the ids of a consumer's. */
static void save_pending(struct rdb_writer *w, const struct stream_root *s,
                         const struct stream_group *g, uint64_t consumer)
{
    struct stream_pending p = {.id = STREAM_ID_MIN};
    rdb_write_length(w, consumer == STREAM_ANY ? stream_pending_count(s, g)
                                               : stream_owned_count(s, g, consumer));
    while (stream_pending_from(s, g, consumer, p.id, &p)) {
        write_raw_id(w, p.id);
        if (consumer == STREAM_ANY) {
            rdb_write_le64(w, (uint64_t)p.delivered_ms);
            rdb_write_length(w, p.deliveries);
        }
        if (!stream_id_next(&p.id))
            break;
    }
}

static void save_consumers(struct rdb_writer *w, int version, const struct stream_root *s,
                           const struct stream_group *g)
{
    struct stream_name_iter it;
    struct stream_consumer consumer;
    struct slice name;
    rdb_write_length(w, stream_consumer_count(s, g));
    stream_consumer_iter_init(&it, s, g);
    while (stream_consumer_iter_next(&it, s, g, &name, &consumer)) {
        rdb_write_string(w, name);
        rdb_write_le64(w, (uint64_t)consumer.seen_ms);
        if (version >= 3)
            rdb_write_le64(w, (uint64_t)consumer.active_ms);
        save_pending(w, s, g, consumer.number);
    }
    stream_name_iter_deinit(&it);
}

void rdb_save_stream(struct rdb_writer *w, uint8_t type, const struct stream_root *s)
{
    int version = type == RDB_STREAM_LISTPACKS ? 1 : type == RDB_STREAM_LISTPACKS_2 ? 2 : 3;
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    save_nodes(w, s);
    rdb_write_length(w, s->length);
    write_id(w, s->last);
    if (version >= 2) {
        write_id(w, s->first);
        write_id(w, s->max_deleted);
        rdb_write_length(w, s->added);
    }
    rdb_write_length(w, stream_group_count(s));
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g)) {
        rdb_write_string(w, name);
        write_id(w, g.last);
        if (version >= 2)
            rdb_write_length(w, (uint64_t)g.entries_read);
        save_pending(w, s, &g, STREAM_ANY);
        save_consumers(w, version, s, &g);
    }
    stream_name_iter_deinit(&it);
}
