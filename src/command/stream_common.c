/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/stream_common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/number.h"

size_t stream_format_id(char out[STREAM_ID_TEXT_SIZE], struct stream_id id)
{
    return (size_t)snprintf(out, STREAM_ID_TEXT_SIZE, "%" PRIu64 "-%" PRIu64, id.ms, id.seq);
}

void reply_stream_id(struct reply *r, struct stream_id id)
{
    char text[STREAM_ID_TEXT_SIZE];
    reply_bulk(r, slice_of(text, stream_format_id(text, id)));
}

static void reply_parts(struct reply *r, struct stream_item item)
{
    struct stream_pair pair;
    uint64_t fields = item.fields;
    reply_stream_id(r, item.id);
    reply_array(r, fields * 2);
    for (uint64_t i = 0; i < fields; i++) {
        stream_item_pair(&item, &pair);
        reply_bulk(r, pair.field);
        reply_bulk(r, pair.value);
    }
}

void reply_stream_item(struct reply *r, struct stream_item item)
{
    reply_array(r, 2);
    reply_parts(r, item);
}

void reply_stream_delivery(struct reply *r, struct stream_item item, int64_t idle_ms,
                           uint64_t deliveries)
{
    reply_array(r, 4);
    reply_parts(r, item);
    reply_bulk_int(r, idle_ms);
    reply_bulk_int(r, (int64_t)deliveries);
}

uint64_t reply_stream_range(struct reply *r, const struct stream_root *s, struct stream_id from,
                            struct stream_id to, uint64_t count, bool reverse)
{
    struct stream_iter it;
    struct stream_item item;
    uint64_t n = 0;
    struct reply_mark mark = reply_deferred_begin(r);
    stream_iter_init(&it, s, from, to, reverse);
    while ((count == 0 || n < count) && stream_iter_next(&it, &item)) {
        reply_stream_item(r, item);
        n++;
    }
    reply_deferred_array(r, mark, n);
    return n;
}

/* ---- ids as arguments ---- */

/* A number as Redis takes it here: besides the strict form whatever strtoull takes to the end. */
static bool parse_part(const char *s, uint64_t *v)
{
    int64_t number;
    if (number_parse_int64(slice_cstr(s), &number)) {
        *v = (uint64_t)number;
        return number >= 0;
    }
    char *end;
    errno = 0;
    *v = strtoull(s, &end, 10);
    return errno == 0 && *s != '\0' && *end == '\0';
}

static bool parse_id(struct slice s, uint64_t missing, struct stream_id *id, bool *auto_seq)
{
    char text[128];
    if (s.size > sizeof(text) - 1)
        return false;
    if (s.size)
        memcpy(text, s.data, s.size);
    text[s.size] = '\0';
    char *dash = strchr(text, '-');
    if (dash)
        *dash = '\0';
    if (!parse_part(text, &id->ms))
        return false;
    id->seq = missing;
    if (auto_seq)
        *auto_seq = false;
    if (!dash)
        return true;
    if (auto_seq && strcmp(dash + 1, "*") == 0) {
        id->seq = 0;
        *auto_seq = true;
        return true;
    }
    return parse_part(dash + 1, &id->seq);
}

static bool bad_id(struct call *c)
{
    reply_error(c->reply, "ERR Invalid stream ID specified as stream command argument");
    return false;
}

bool call_stream_id(struct call *c, struct slice s, uint64_t missing, struct stream_id *id)
{
    if (s.size == 1 && s.data[0] == '-')
        *id = STREAM_ID_MIN;
    else if (s.size == 1 && s.data[0] == '+')
        *id = STREAM_ID_MAX;
    else if (!parse_id(s, missing, id, NULL))
        return bad_id(c);
    return true;
}

bool call_stream_id_strict(struct call *c, struct slice s, uint64_t missing, struct stream_id *id,
                           bool *auto_seq)
{
    return parse_id(s, missing, id, auto_seq) || bad_id(c);
}

bool stream_id_parse(struct slice s, uint64_t missing, struct stream_id *id)
{
    return parse_id(s, missing, id, NULL);
}

/* *open: the id itself is left out. */
static bool parse_bound(struct call *c, struct slice s, uint64_t missing, struct stream_id *id,
                        bool *open)
{
    *open = s.size > 1 && s.data[0] == '(';
    if (*open)
        return call_stream_id_strict(c, slice_of(s.data + 1, s.size - 1), missing, id, NULL);
    return call_stream_id(c, s, missing, id);
}

bool call_stream_start(struct call *c, struct slice s, struct stream_id *id)
{
    bool open;
    if (!parse_bound(c, s, 0, id, &open))
        return false;
    if (!open || stream_id_next(id))
        return true;
    reply_error(c->reply, "ERR invalid start ID for the interval");
    return false;
}

bool call_stream_end(struct call *c, struct slice s, struct stream_id *id)
{
    bool open;
    if (!parse_bound(c, s, UINT64_MAX, id, &open))
        return false;
    if (!open || stream_id_prev(id))
        return true;
    reply_error(c->reply, "ERR invalid end ID for the interval");
    return false;
}

bool call_stream_write(struct call *c, struct slice key, struct keyref *ref)
{
    return call_find_write(c, key, ENTRY_STREAM, ref);
}

struct stream_root *stream_own(struct keyref *ref)
{
    return stream_root_of(keyref_own(ref));
}

void reply_no_group(struct call *c, struct slice key, struct slice group)
{
    reply_errorf(c->reply, "NOGROUP No such key '%.*s' or consumer group '%.*s'", (int)key.size,
                 key.data, (int)group.size, group.data);
}

/* ---- effects ---- */

struct text {
    char data[STREAM_ID_TEXT_SIZE];
};

static struct slice id_text(struct text *t, struct stream_id id)
{
    return slice_of(t->data, stream_format_id(t->data, id));
}

static struct slice number_text(struct text *t, int64_t v)
{
    return slice_of(t->data, number_format_int64(t->data, v));
}

void stream_effect_claim(struct call *c, struct slice key, struct slice group,
                         struct slice consumer, const struct stream_pending *p,
                         struct stream_id last)
{
    struct text id, time, count, last_text;
    CALL_EFFECT(c, c->db, SLICE("XCLAIM"), key, group, consumer, SLICE("0"), id_text(&id, p->id),
                SLICE("TIME"), number_text(&time, p->delivered_ms), SLICE("RETRYCOUNT"),
                number_text(&count, (int64_t)p->deliveries), SLICE("FORCE"), SLICE("JUSTID"),
                SLICE("LASTID"), id_text(&last_text, last));
}

void stream_effect_ack(struct call *c, struct slice key, struct slice group, struct stream_id id)
{
    struct text text;
    CALL_EFFECT(c, c->db, SLICE("XACK"), key, group, id_text(&text, id));
}

void stream_effect_group(struct call *c, struct slice key, struct slice group,
                         const struct stream_group *g)
{
    struct text id, read;
    CALL_EFFECT(c, c->db, SLICE("XGROUP"), SLICE("SETID"), key, group, id_text(&id, g->last),
                SLICE("ENTRIESREAD"), number_text(&read, g->entries_read));
}

void stream_effect_consumer(struct call *c, struct slice key, struct slice group,
                            struct slice consumer)
{
    CALL_EFFECT(c, c->db, SLICE("XGROUP"), SLICE("CREATECONSUMER"), key, group, consumer);
}

void stream_consumer_see(struct call *c, struct keyref *ref, struct slice group_name,
                         struct stream_group *g, struct slice name,
                         struct stream_consumer *consumer)
{
    struct epoch *e = &c->ks->epoch;
    struct stream_root *s = stream_own(ref);
    if (stream_consumer_find(s, g, name, consumer)) {
        if (consumer->seen_ms != stream_now(c)) {
            consumer->seen_ms = stream_now(c);
            stream_consumer_save(s, e, g, consumer);
        }
        return;
    }
    stream_consumer_create(s, e, group_name, g, name, stream_now(c), consumer);
    stream_effect_consumer(c, ref->key, group_name, name);
    call_changed_aside(c, c->db, ref->key, EVENT_STREAM, "xgroup-createconsumer", 1);
}
