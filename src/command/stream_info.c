/* SPDX-License-Identifier: BSD-3-Clause
 *
 * XINFO.
 */
#include "command/help.h"
#include "command/stream_common.h"
#include "handlers.h"

static void bad_subcommand(struct call *c)
{
    reply_errorf(c->reply,
                 "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try XINFO HELP.",
                 (int)(c->argv[1].size < 128 ? c->argv[1].size : 128), c->argv[1].data);
}

/* NULL: an error was replied. */
static const struct stream_root *find_stream(struct call *c)
{
    struct entry *e;
    if (!call_find(c, c->argv[2], ENTRY_STREAM, &e))
        return NULL;
    if (!e)
        reply_error(c->reply, "ERR no such key");
    return e ? stream_root_of(e) : NULL;
}

static void reply_field_id(struct reply *r, const char *name, struct stream_id id)
{
    reply_bulk_cstr(r, name);
    reply_stream_id(r, id);
}

static void reply_field_int(struct reply *r, const char *name, uint64_t v)
{
    reply_bulk_cstr(r, name);
    reply_int(r, (int64_t)v);
}

/* What is known of the group's progress: entries-read and lag. */
static void reply_progress(struct reply *r, const struct stream_root *s,
                           const struct stream_group *g)
{
    uint64_t lag;
    reply_bulk_cstr(r, "entries-read");
    if (g->entries_read == STREAM_READ_UNKNOWN)
        reply_null(r);
    else
        reply_int(r, g->entries_read);
    reply_bulk_cstr(r, "lag");
    if (stream_group_lag(s, g, &lag))
        reply_int(r, (int64_t)lag);
    else
        reply_null(r);
}

void cmd_xinfo_consumers(struct call *c)
{
    const struct stream_root *s = find_stream(c);
    struct stream_group g;
    if (!s)
        return;
    if (!stream_group_find(s, c->argv[3], &g)) {
        struct slice key = c->argv[2], group = c->argv[3];
        reply_errorf(c->reply, "NOGROUP No such consumer group '%.*s' for key name '%.*s'",
                     (int)group.size, group.data, (int)key.size, key.data);
        return;
    }
    struct stream_name_iter it;
    struct stream_consumer consumer;
    struct slice name;
    reply_array(c->reply, stream_consumer_count(s, &g));
    stream_consumer_iter_init(&it, s, &g);
    while (stream_consumer_iter_next(&it, s, &g, &name, &consumer)) {
        int64_t idle = c->now_ms - consumer.seen_ms;
        reply_map(c->reply, 3);
        reply_bulk_cstr(c->reply, "name");
        reply_bulk(c->reply, name);
        reply_field_int(c->reply, "pending", stream_owned_count(s, &g, consumer.number));
        reply_field_int(c->reply, "idle", (uint64_t)(idle > 0 ? idle : 0));
    }
    stream_name_iter_deinit(&it);
}

void cmd_xinfo_groups(struct call *c)
{
    const struct stream_root *s = find_stream(c);
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    if (!s)
        return;
    reply_array(c->reply, stream_group_count(s));
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g)) {
        reply_map(c->reply, 6);
        reply_bulk_cstr(c->reply, "name");
        reply_bulk(c->reply, name);
        reply_field_int(c->reply, "consumers", stream_consumer_count(s, &g));
        reply_field_int(c->reply, "pending", stream_pending_count(s, &g));
        reply_field_id(c->reply, "last-delivered-id", g.last);
        reply_progress(c->reply, s, &g);
    }
    stream_name_iter_deinit(&it);
}

/* Pending entries of a group, or of one consumer, up to `count` of them (0: all). */
static void reply_pending(struct reply *r, const struct stream_root *s,
                          const struct stream_group *g, uint64_t consumer, uint64_t count)
{
    struct stream_pending p = {.id = STREAM_ID_MIN};
    bool all = consumer == STREAM_ANY, more = true;
    uint64_t n = 0;
    struct reply_mark mark = reply_deferred_begin(r);
    for (; more && (count == 0 || n < count); n++, more = stream_id_next(&p.id)) {
        if (!stream_pending_from(s, g, consumer, p.id, &p))
            break;
        reply_array(r, all ? 4 : 3);
        reply_stream_id(r, p.id);
        if (all)
            reply_bulk(r, stream_consumer_name(s, g, p.consumer));
        reply_int(r, p.delivered_ms);
        reply_int(r, (int64_t)p.deliveries);
    }
    reply_deferred_array(r, mark, n);
}

static void reply_group_in_full(struct reply *r, const struct stream_root *s, struct slice name,
                                const struct stream_group *g, uint64_t count)
{
    struct stream_name_iter it;
    struct stream_consumer consumer;
    reply_map(r, 7);
    reply_bulk_cstr(r, "name");
    reply_bulk(r, name);
    reply_field_id(r, "last-delivered-id", g->last);
    reply_progress(r, s, g);
    reply_field_int(r, "pel-count", stream_pending_count(s, g));
    reply_bulk_cstr(r, "pending");
    reply_pending(r, s, g, STREAM_ANY, count);
    reply_bulk_cstr(r, "consumers");
    reply_array(r, stream_consumer_count(s, g));
    stream_consumer_iter_init(&it, s, g);
    while (stream_consumer_iter_next(&it, s, g, &name, &consumer)) {
        reply_map(r, 4);
        reply_bulk_cstr(r, "name");
        reply_bulk(r, name);
        reply_field_int(r, "seen-time", (uint64_t)consumer.seen_ms);
        reply_field_int(r, "pel-count", stream_owned_count(s, g, consumer.number));
        reply_bulk_cstr(r, "pending");
        reply_pending(r, s, g, consumer.number, count);
    }
    stream_name_iter_deinit(&it);
}

static void reply_edge(struct reply *r, const char *field, const struct stream_root *s, bool newest)
{
    struct stream_item item;
    reply_bulk_cstr(r, field);
    if (stream_edge(s, newest, &item))
        reply_stream_item(r, item);
    else
        reply_null(r);
}

static void reply_in_full(struct reply *r, const struct stream_root *s, uint64_t count)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    reply_bulk_cstr(r, "entries");
    reply_stream_range(r, s, STREAM_ID_MIN, STREAM_ID_MAX, count, false);
    reply_bulk_cstr(r, "groups");
    reply_array(r, stream_group_count(s));
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g))
        reply_group_in_full(r, s, name, &g, count);
    stream_name_iter_deinit(&it);
}

void cmd_xinfo_stream(struct call *c)
{
    const struct stream_root *s = find_stream(c);
    struct reply *r = c->reply;
    bool full = c->argc > 3;
    int64_t count = 10;
    if (!s)
        return;
    if ((full && !slice_is(c->argv[3], "full")) || (c->argc != 3 && c->argc != 4 && c->argc != 6) ||
        (c->argc == 6 && !slice_is(c->argv[4], "count"))) {
        bad_subcommand(c);
        return;
    }
    if (c->argc == 6 && !call_int64(c, c->argv[5], &count, NULL))
        return;
    if (count < 0)
        count = 10;
    reply_map(r, full ? 9 : 10);
    reply_field_int(r, "length", s->length);
    reply_field_int(r, "radix-tree-keys", stream_node_count(s));
    reply_field_int(r, "radix-tree-nodes", stream_radix_nodes(s));
    reply_field_id(r, "last-generated-id", s->last);
    reply_field_id(r, "max-deleted-entry-id", s->max_deleted);
    reply_field_int(r, "entries-added", s->added);
    reply_field_id(r, "recorded-first-entry-id", s->first);
    if (full) {
        reply_in_full(r, s, (uint64_t)count);
        return;
    }
    reply_field_int(r, "groups", stream_group_count(s));
    reply_edge(r, "first-entry", s, false);
    reply_edge(r, "last-entry", s, true);
}

void cmd_xinfo_help(struct call *c)
{
    static const char *const lines[] = {
        "CONSUMERS <key> <group>",
        "    Tell of each consumer of a group what it has pending and when it was last seen.",
        "GROUPS <key>",
        "    Tell of each group how far it has read.",
        "STREAM <key> [FULL [COUNT <count>]]",
        "    Tell of the stream; with FULL also of entries, groups and what is pending.",
    };
    reply_help(c, "XINFO", lines, sizeof(lines) / sizeof(lines[0]));
}
