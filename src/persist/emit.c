/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/emit.h"

#include <stdio.h>

#include "base/number.h"
#include "persist/rdb/format.h"
#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/stream.h"
#include "type/string.h"
#include "type/zset.h"

#define PAYLOAD_BUFFER ((size_t)64 << 10)
#define STREAM_ID_SIZE 44

/* Requests ------------------------------------------------------------------------------------- */

static void put_count(struct emitter *m, char first, uint64_t count)
{
    char line[NUMBER_INT64_SIZE + 3];
    line[0] = first;
    size_t size = 1 + number_format_int64(line + 1, (int64_t)count);
    line[size++] = '\r';
    line[size++] = '\n';
    rdb_write_bytes(m->out, line, size);
}

static void put_end(struct emitter *m)
{
    rdb_write_bytes(m->out, "\r\n", 2);
}

static void put_arg(struct emitter *m, struct slice arg)
{
    put_count(m, '$', arg.size);
    rdb_write_bytes(m->out, arg.data, arg.size);
    put_end(m);
}

static void put_number(struct emitter *m, int64_t number)
{
    char text[NUMBER_INT64_SIZE];
    put_arg(m, slice_of(text, number_format_int64(text, number)));
}

static void put_id(struct emitter *m, struct stream_id id)
{
    char text[STREAM_ID_SIZE];
    int n = snprintf(text, sizeof(text), "%llu-%llu", (unsigned long long)id.ms,
                     (unsigned long long)id.seq);
    put_arg(m, slice_of(text, (size_t)n));
}

/* The command has been written. */
static void end_command(struct emitter *m)
{
    m->commands++;
    if (m->command_end != NULL)
        m->command_end(m->ctx);
}

/* "NAME key", and the arguments that follow. */
static void begin_command(struct emitter *m, const char *name, struct slice key, uint64_t more)
{
    put_count(m, '*', 2 + more);
    put_arg(m, slice_cstr(name));
    put_arg(m, key);
}

/* Collections: "NAME key element element ..." -------------------------------------------------- */

static void end_items(struct emitter *m, const char *name, struct slice key)
{
    if (m->item_count == 0)
        return;
    begin_command(m, name, key, m->arg_count);
    rdb_write_bytes(m->out, m->items.data, m->items.size);
    end_command(m);
    text_clear(&m->items);
    m->item_count = m->arg_count = 0;
}

static void add_item(struct emitter *m, const char *name, struct slice key,
                     const struct slice *parts, unsigned count)
{
    size_t size = 0;
    for (unsigned i = 0; i < count; i++)
        size += parts[i].size;
    if (m->items.size + size > EMIT_BYTES || m->item_count == EMIT_ITEMS)
        end_items(m, name, key);
    if (size > EMIT_BYTES) {
        begin_command(m, name, key, count);
        for (unsigned i = 0; i < count; i++)
            put_arg(m, parts[i]);
        end_command(m);
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        text_appendf(&m->items, "$%zu\r\n", parts[i].size);
        text_append(&m->items, parts[i].data, parts[i].size);
        text_append(&m->items, "\r\n", 2);
    }
    m->item_count++;
    m->arg_count += count;
}

static void emit_list(struct emitter *m, const struct entry *e, struct slice key)
{
    struct list_iter it;
    struct slice item;
    list_iter_init(&it, e, 0, false);
    while (list_iter_next(&it, &item))
        add_item(m, "RPUSH", key, &item, 1);
    end_items(m, "RPUSH", key);
}

static void emit_members(struct emitter *m, const struct entry *e, struct slice key, bool hash)
{
    const char *name = hash ? "HSET" : "SADD";
    struct member_iter it;
    struct dict_item item;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        const struct slice parts[] = {item.key, item.value};
        add_item(m, name, key, parts, hash ? 2 : 1);
    }
    end_items(m, name, key);
}

/* When its fields expire. */
static void emit_field_dues(struct emitter *m, const struct entry *e, struct slice key)
{
    struct member_iter it;
    struct dict_item item;
    if (entry_timed(e) == 0)
        return;
    member_iter_init(&it, e);
    while (member_iter_next(&it, &item)) {
        if (item.due == ENTRY_NO_EXPIRY)
            continue;
        begin_command(m, "HPEXPIREAT", key, 4);
        put_number(m, item.due);
        put_arg(m, SLICE("FIELDS"));
        put_number(m, 1);
        put_arg(m, item.key);
        end_command(m);
    }
}

static void emit_zset(struct emitter *m, const struct entry *e, struct slice key)
{
    struct zset_iter it;
    struct zset_item item;
    char score[NUMBER_DOUBLE_SIZE];
    zset_iter_init(&it, e, 0, false);
    while (zset_iter_next(&it, &item)) {
        const struct slice parts[] = {slice_of(score, number_format_double(score, item.score)),
                                      item.member};
        add_item(m, "ZADD", key, parts, 2);
    }
    end_items(m, "ZADD", key);
}

static void emit_string(struct emitter *m, const struct entry *e, struct slice key)
{
    char number[NUMBER_INT64_SIZE];
    uint64_t size = string_size(e), at = 0;
    begin_command(m, "SET", key, 1);
    put_count(m, '$', size);
    while (at < size) {
        struct slice run = string_run(e, at, size - at, number);
        rdb_write_bytes(m->out, run.data, run.size);
        at += run.size;
    }
    put_end(m);
    end_command(m);
}

/* Streams -------------------------------------------------------------------------------------- */

/* An entry that is pending and not in the stream any more: no command makes it pending. */
static bool has_pending_gone(const struct stream_root *s)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    bool gone = false;
    stream_group_iter_init(&it, s);
    while (!gone && stream_group_iter_next(&it, &name, &g)) {
        struct stream_pending p = {.id = STREAM_ID_MIN};
        while (!gone && stream_pending_from(s, &g, STREAM_ANY, p.id, &p)) {
            gone = !stream_find(s, p.id, NULL);
            if (!stream_id_next(&p.id))
                break;
        }
    }
    stream_name_iter_deinit(&it);
    return gone;
}

static bool count_only(void *ctx, const void *data, size_t size)
{
    (void)ctx;
    (void)data;
    (void)size;
    return true;
}

static bool pass_on(void *ctx, const void *data, size_t size)
{
    struct rdb_writer *out = ctx;
    rdb_write_bytes(out, data, size);
    return !out->failed;
}

static uint64_t write_payload(const struct entry *e, bool (*flush)(void *, const void *, size_t),
                              void *ctx)
{
    struct rdb_writer w;
    rdb_writer_init(&w, PAYLOAD_BUFFER, flush, ctx);
    w.version = RDB_VERSION_DEFAULT;
    rdb_dump(&w, e);
    rdb_writer_flush(&w);
    uint64_t size = w.written;
    rdb_writer_deinit(&w);
    return size;
}

/* RESTORE key expiry payload REPLACE ABSTTL. The payload is written twice, as its size comes
 * first. */
static void emit_restore(struct emitter *m, const struct entry *e, struct slice key)
{
    begin_command(m, "RESTORE", key, 4);
    put_number(m, e->flags & ENTRY_EXPIRES ? entry_due(e) : 0);
    put_count(m, '$', write_payload(e, count_only, NULL));
    write_payload(e, pass_on, m->out);
    put_end(m);
    put_arg(m, SLICE("REPLACE"));
    put_arg(m, SLICE("ABSTTL"));
    end_command(m);
}

static void emit_stream_entry(struct emitter *m, struct slice key, struct stream_item *item)
{
    struct stream_pair pair;
    begin_command(m, "XADD", key, 1 + 2 * item->fields);
    put_id(m, item->id);
    for (uint64_t i = item->fields; i > 0; i--) {
        stream_item_pair(item, &pair);
        put_arg(m, pair.field);
        put_arg(m, pair.value);
    }
    end_command(m);
}

/* A stream without entries comes from one that is added and trimmed away at once. */
static void emit_empty_stream(struct emitter *m, const struct stream_root *s, struct slice key)
{
    struct stream_id first = {0, 1};
    begin_command(m, "XADD", key, 5);
    put_arg(m, SLICE("MAXLEN"));
    put_number(m, 0);
    put_id(m, stream_id_is_zero(s->last) ? first : s->last);
    put_arg(m, SLICE("x"));
    put_arg(m, SLICE("y"));
    end_command(m);
}

static void emit_pending(struct emitter *m, const struct stream_root *s, struct slice key,
                         struct slice group_name, const struct stream_group *g)
{
    struct stream_pending p = {.id = STREAM_ID_MIN};
    while (stream_pending_from(s, g, STREAM_ANY, p.id, &p)) {
        begin_command(m, "XCLAIM", key, 10);
        put_arg(m, group_name);
        put_arg(m, stream_consumer_name(s, g, p.consumer));
        put_number(m, 0);
        put_id(m, p.id);
        put_arg(m, SLICE("TIME"));
        put_number(m, p.delivered_ms);
        put_arg(m, SLICE("RETRYCOUNT"));
        put_number(m, (int64_t)p.deliveries);
        put_arg(m, SLICE("FORCE"));
        put_arg(m, SLICE("JUSTID"));
        end_command(m);
        if (!stream_id_next(&p.id))
            break;
    }
}

static void emit_group(struct emitter *m, const struct stream_root *s, struct slice key,
                       struct slice name, const struct stream_group *g)
{
    struct stream_name_iter it;
    struct stream_consumer consumer;
    struct slice consumer_name;
    put_count(m, '*', 7);
    put_arg(m, SLICE("XGROUP"));
    put_arg(m, SLICE("CREATE"));
    put_arg(m, key);
    put_arg(m, name);
    put_id(m, g->last);
    put_arg(m, SLICE("ENTRIESREAD"));
    put_number(m, g->entries_read);
    end_command(m);
    stream_consumer_iter_init(&it, s, g);
    while (stream_consumer_iter_next(&it, s, g, &consumer_name, &consumer)) {
        put_count(m, '*', 5);
        put_arg(m, SLICE("XGROUP"));
        put_arg(m, SLICE("CREATECONSUMER"));
        put_arg(m, key);
        put_arg(m, name);
        put_arg(m, consumer_name);
        end_command(m);
    }
    stream_name_iter_deinit(&it);
    emit_pending(m, s, key, name, g);
}

static void emit_stream(struct emitter *m, const struct entry *e, struct slice key)
{
    const struct stream_root *s = entry_value(e);
    struct stream_iter entries;
    struct stream_item item;
    stream_iter_init(&entries, s, STREAM_ID_MIN, STREAM_ID_MAX, false);
    while (stream_iter_next(&entries, &item))
        emit_stream_entry(m, key, &item);
    if (s->length == 0)
        emit_empty_stream(m, s, key);
    begin_command(m, "XSETID", key, 5);
    put_id(m, s->last);
    put_arg(m, SLICE("ENTRIESADDED"));
    put_number(m, (int64_t)s->added);
    put_arg(m, SLICE("MAXDELETEDID"));
    put_id(m, s->max_deleted);
    end_command(m);
    struct stream_name_iter groups;
    struct stream_group g;
    struct slice name;
    stream_group_iter_init(&groups, s);
    while (stream_group_iter_next(&groups, &name, &g))
        emit_group(m, s, key, name, &g);
    stream_name_iter_deinit(&groups);
}

/* All of it ------------------------------------------------------------------------------------ */

void emit_init(struct emitter *m, struct rdb_writer *out, void (*command_end)(void *ctx), void *ctx)
{
    *m = (struct emitter){.out = out, .command_end = command_end, .ctx = ctx};
}

void emit_deinit(struct emitter *m)
{
    text_free(&m->items);
}

void emit_select(struct emitter *m, int db)
{
    char text[NUMBER_INT64_SIZE];
    begin_command(m, "SELECT", slice_of(text, number_format_int64(text, db)), 0);
    end_command(m);
}

void emit_function(struct emitter *m, struct slice code)
{
    begin_command(m, "FUNCTION", SLICE("LOAD"), 1);
    put_arg(m, code);
    end_command(m);
}

void emit_entry(struct emitter *m, const struct entry *e)
{
    struct slice key = entry_key(e);
    switch (entry_type(e)) {
    case ENTRY_LIST:
        emit_list(m, e, key);
        break;
    case ENTRY_SET:
        emit_members(m, e, key, false);
        break;
    case ENTRY_ZSET:
        emit_zset(m, e, key);
        break;
    case ENTRY_HASH:
        emit_members(m, e, key, true);
        emit_field_dues(m, e, key);
        break;
    case ENTRY_STREAM:
        if (has_pending_gone(entry_value(e))) {
            emit_restore(m, e, key);
            return;
        }
        emit_stream(m, e, key);
        break;
    default:
        emit_string(m, e, key);
        break;
    }
    if (!(e->flags & ENTRY_EXPIRES))
        return;
    begin_command(m, "PEXPIREAT", key, 1);
    put_number(m, entry_due(e));
    end_command(m);
}
