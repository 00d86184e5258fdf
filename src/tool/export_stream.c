/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A stream as RESP commands: XADD for each entry, XSETID for what is known of the past, XGROUP
 * CREATE and CREATECONSUMER, XCLAIM for what is pending. Entries that are pending, but were
 * deleted, are left out, as no command makes them.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tool/export.h"
#include "type/stream.h"

static void begin(struct text *out, size_t count, const char *name, const struct entry *e)
{
    export_resp_begin(out, count, name);
    export_resp_bulk(out, entry_key(e));
}

static void add_word(struct text *out, const char *word)
{
    export_resp_bulk(out, slice_cstr(word));
}

static void add_id(struct text *out, struct stream_id id)
{
    char text[48];
    snprintf(text, sizeof(text), "%" PRIu64 "-%" PRIu64, id.ms, id.seq);
    add_word(out, text);
}

static void add_number(struct text *out, int64_t v)
{
    char text[24];
    snprintf(text, sizeof(text), "%" PRId64, v);
    add_word(out, text);
}

static void add_entries(struct text *out, const struct entry *e)
{
    struct stream_iter it;
    struct stream_item item;
    struct stream_pair pair;
    stream_iter_init(&it, stream_root_of(e), STREAM_ID_MIN, STREAM_ID_MAX, false);
    while (stream_iter_next(&it, &item)) {
        uint64_t fields = item.fields;
        begin(out, 3 + 2 * fields, "XADD", e);
        add_id(out, item.id);
        for (uint64_t i = 0; i < fields; i++) {
            stream_item_pair(&item, &pair);
            export_resp_bulk(out, pair.field);
            export_resp_bulk(out, pair.value);
        }
        export_flush(out, EXPORT_FLUSH_SIZE);
    }
}

static void add_group_command(struct text *out, size_t count, const char *what,
                              const struct entry *e, struct slice group)
{
    export_resp_begin(out, count, "XGROUP");
    add_word(out, what);
    export_resp_bulk(out, entry_key(e));
    export_resp_bulk(out, group);
}

static void add_pending(struct text *out, const struct entry *e, struct slice group,
                        const struct stream_group *g)
{
    const struct stream_root *s = stream_root_of(e);
    struct stream_pending p = {.id = STREAM_ID_MIN};
    for (bool more = true; more; more = stream_id_next(&p.id)) {
        if (!stream_pending_from(s, g, STREAM_ANY, p.id, &p))
            break;
        if (!stream_find(s, p.id, NULL))
            continue;
        begin(out, 12, "XCLAIM", e);
        export_resp_bulk(out, group);
        export_resp_bulk(out, stream_consumer_name(s, g, p.consumer));
        add_word(out, "0");
        add_id(out, p.id);
        add_word(out, "TIME");
        add_number(out, p.delivered_ms);
        add_word(out, "RETRYCOUNT");
        add_number(out, (int64_t)p.deliveries);
        add_word(out, "FORCE");
        add_word(out, "JUSTID");
        export_flush(out, EXPORT_FLUSH_SIZE);
    }
}

static void add_group(struct text *out, const struct entry *e, struct slice name,
                      const struct stream_group *g)
{
    const struct stream_root *s = stream_root_of(e);
    struct stream_name_iter it;
    struct stream_consumer consumer;
    struct slice consumer_name;
    add_group_command(out, 7, "CREATE", e, name);
    add_id(out, g->last);
    add_word(out, "ENTRIESREAD");
    add_number(out, g->entries_read);
    stream_consumer_iter_init(&it, s, g);
    while (stream_consumer_iter_next(&it, s, g, &consumer_name, &consumer)) {
        add_group_command(out, 5, "CREATECONSUMER", e, name);
        export_resp_bulk(out, consumer_name);
    }
    stream_name_iter_deinit(&it);
    add_pending(out, e, name, g);
}

void export_resp_stream(struct text *out, const struct entry *e)
{
    const struct stream_root *s = stream_root_of(e);
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    add_entries(out, e);
    if (s->length == 0) {
        /* One entry that is trimmed at once leaves an empty stream. */
        begin(out, 7, "XADD", e);
        add_word(out, "MAXLEN");
        add_word(out, "0");
        add_word(out, "0-1");
        add_word(out, "");
        add_word(out, "");
    }
    begin(out, 7, "XSETID", e);
    add_id(out, s->last);
    add_word(out, "ENTRIESADDED");
    add_number(out, (int64_t)s->added);
    add_word(out, "MAXDELETEDID");
    add_id(out, s->max_deleted);
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g))
        add_group(out, e, name, &g);
    stream_name_iter_deinit(&it);
}
