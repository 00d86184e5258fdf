/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/value.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "tool/format.h"
#include "type/string.h"

uint64_t value_count(const struct entry *e)
{
    switch (entry_type(e)) {
    case ENTRY_LIST:
        return list_count(e);
    case ENTRY_SET:
    case ENTRY_HASH:
        return member_count(e);
    case ENTRY_ZSET:
        return zset_count(e);
    case ENTRY_STREAM:
        return stream_root_of(e)->length;
    default:
        return 1;
    }
}

void value_iter_init(struct value_iter *it, const struct entry *e)
{
    it->e = e;
    it->ended = false;
    it->heap = NULL;
    it->json = (struct text){0};
    switch (entry_type(e)) {
    case ENTRY_LIST:
        list_iter_init(&it->list, e, 0, false);
        break;
    case ENTRY_SET:
    case ENTRY_HASH:
        member_iter_init(&it->member, e);
        break;
    case ENTRY_ZSET:
        zset_iter_init(&it->zset, e, 0, false);
        break;
    case ENTRY_STREAM:
        stream_iter_init(&it->stream, stream_root_of(e), STREAM_ID_MIN, STREAM_ID_MAX, false);
        break;
    default:
        break;
    }
}

/* Streams -------------------------------------------------------------------------------------- */

static void add_id(struct text *out, const char *name, struct stream_id id)
{
    text_appendf(out, "\"%s\":\"%" PRIu64 "-%" PRIu64 "\"", name, id.ms, id.seq);
}

static void add_pending(struct text *out, const struct stream_root *s, const struct stream_group *g)
{
    struct stream_pending p = {.id = STREAM_ID_MIN};
    const char *comma = "";
    while (stream_pending_from(s, g, STREAM_ANY, p.id, &p)) {
        text_appendf(out, "%s{", comma);
        add_id(out, "id", p.id);
        text_append_cstr(out, ",\"consumer\":");
        text_append_json(out, stream_consumer_name(s, g, p.consumer));
        text_appendf(out, ",\"delivered_ms\":%" PRId64 ",\"deliveries\":%" PRIu64 "}",
                     p.delivered_ms, p.deliveries);
        comma = ",";
        if (!stream_id_next(&p.id))
            break;
    }
}

/* Not when they were seen: it would be a difference where nothing else is one. */
static void add_consumers(struct text *out, const struct stream_root *s,
                          const struct stream_group *g)
{
    struct stream_name_iter it;
    struct stream_consumer consumer;
    struct slice name;
    const char *comma = "";
    stream_consumer_iter_init(&it, s, g);
    while (stream_consumer_iter_next(&it, s, g, &name, &consumer)) {
        text_append_cstr(out, comma);
        text_append_json(out, name);
        comma = ",";
    }
    stream_name_iter_deinit(&it);
}

/* All of a stream but its entries. */
static void add_rest(struct text *out, const struct stream_root *s)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    const char *comma = "";
    text_append_cstr(out, "{");
    add_id(out, "last_id", s->last);
    text_append_cstr(out, ",");
    add_id(out, "max_deleted_id", s->max_deleted);
    text_appendf(out, ",\"entries_added\":%" PRIu64 ",\"groups\":[", s->added);
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g)) {
        text_appendf(out, "%s{\"name\":", comma);
        text_append_json(out, name);
        text_append_cstr(out, ",");
        add_id(out, "last_id", g.last);
        text_appendf(out, ",\"entries_read\":%" PRId64 ",\"consumers\":[", g.entries_read);
        add_consumers(out, s, &g);
        text_append_cstr(out, "],\"pending\":[");
        add_pending(out, s, &g);
        text_append_cstr(out, "]}");
        comma = ",";
    }
    stream_name_iter_deinit(&it);
    text_append_cstr(out, "]}");
}

static bool next_of_stream(struct value_iter *it, struct value_element *element)
{
    struct stream_item item;
    struct stream_pair pair;
    if (it->ended)
        return false;
    text_clear(&it->json);
    if (!stream_iter_next(&it->stream, &item)) {
        it->ended = true;
        add_rest(&it->json, stream_root_of(it->e));
        element->value = text_slice(&it->json);
        return true;
    }
    int n =
        snprintf(it->number, sizeof(it->number), "%" PRIu64 "-%" PRIu64, item.id.ms, item.id.seq);
    element->field = slice_of(it->number, (size_t)n);
    uint64_t fields = item.fields;
    text_append_cstr(&it->json, "[");
    for (uint64_t i = 0; i < fields; i++) {
        stream_item_pair(&item, &pair);
        text_append_cstr(&it->json, i == 0 ? "" : ",");
        text_append_json(&it->json, pair.field);
        text_append_cstr(&it->json, ",");
        text_append_json(&it->json, pair.value);
    }
    text_append_cstr(&it->json, "]");
    element->value = text_slice(&it->json);
    return true;
}

bool value_iter_next(struct value_iter *it, struct value_element *element)
{
    struct dict_item item;
    struct zset_item scored;
    element->field = (struct slice){"", 0};
    element->score = 0;
    element->due = ENTRY_NO_EXPIRY;
    switch (entry_type(it->e)) {
    case ENTRY_LIST:
        return list_iter_next(&it->list, &element->value);
    case ENTRY_SET:
        if (!member_iter_next(&it->member, &item))
            return false;
        element->value = item.key;
        return true;
    case ENTRY_HASH:
        if (!member_iter_next(&it->member, &item))
            return false;
        element->field = item.key;
        element->value = item.value;
        element->due = item.due;
        return true;
    case ENTRY_ZSET:
        if (!zset_iter_next(&it->zset, &scored))
            return false;
        element->field = scored.member;
        element->score = scored.score;
        element->value = slice_of(it->number, number_format_double(it->number, scored.score));
        return true;
    case ENTRY_STREAM:
        return next_of_stream(it, element);
    default:
        if (it->ended)
            return false;
        it->ended = true;
        element->value = string_flat(it->e, it->number, &it->heap);
        return true;
    }
}

void value_iter_deinit(struct value_iter *it)
{
    mem_free(it->heap);
    it->heap = NULL;
    text_free(&it->json);
}
