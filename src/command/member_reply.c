/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/member_reply.h"

#include "base/mem.h"
#include "type/zset.h"

void member_reply_item(void *ctx, const struct dict_item *item)
{
    const struct member_reply *m = ctx;
    if (m->parts == MEMBER_PAIRS)
        reply_array(m->reply, 2);
    if (m->parts != MEMBER_VALUES)
        reply_bulk(m->reply, item->key);
    if (m->parts != MEMBER_KEYS)
        reply_bulk(m->reply, item->value);
}

void member_reply_all(struct call *c, const struct entry *e, enum member_parts parts)
{
    struct member_reply m = {c->reply, parts};
    struct member_iter it;
    struct dict_item item;
    member_iter_init_live(&it, e, c->now_ms);
    while (member_iter_next(&it, &item))
        member_reply_item(&m, &item);
}

/* ---- scanning ---- */

/* The cursor stands before the elements in the reply and is known only after them. So those of a
 * dict, whose slices stay valid, are gathered first; what is given all at once has the cursor 0. */
struct scan {
    const struct scan_args *args;
    int64_t now_ms;
    struct member_reply reply;
    size_t count, capacity;
    struct dict_item *items;
};

static void scan_reply_item(void *ctx, const struct dict_item *item)
{
    struct scan *s = ctx;
    if (item->due < s->now_ms || !scan_matches(s->args, item->key))
        return;
    member_reply_item(&s->reply, item);
    s->count++;
}

static void scan_gather(void *ctx, const struct dict_item *item)
{
    struct scan *s = ctx;
    if (item->due < s->now_ms || !scan_matches(s->args, item->key))
        return;
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->items = mem_realloc(s->items, s->capacity * sizeof(*s->items));
    }
    s->items[s->count++] = *item;
}

void member_reply_scan(struct call *c, enum entry_type type)
{
    uint64_t cursor;
    struct entry *e;
    if (!scan_parse_cursor(c, c->argv[2], &cursor) || !call_find(c, c->argv[1], type, &e))
        return;
    if (e == NULL) {
        scan_reply_empty(c);
        return;
    }
    struct scan_args args;
    enum scan_kind kind = type == ENTRY_HASH ? SCAN_FIELDS : SCAN_MEMBERS;
    if (!scan_parse_options(c, 3, kind, &args))
        return;
    bool both = type == ENTRY_HASH && !args.no_values;
    struct scan s = {
        .args = &args, .now_ms = c->now_ms, .reply = {c->reply, both ? MEMBER_BOTH : MEMBER_KEYS}};
    size_t width = both ? 2 : 1;
    if (member_scans_at_once(e)) {
        scan_reply_cursor(c, 0);
        struct reply_mark mark = reply_deferred_begin(c->reply);
        member_scan(e, 0, args.count, scan_reply_item, &s);
        reply_deferred_array(c->reply, mark, s.count * width);
        return;
    }
    scan_reply_cursor(c, member_scan(e, cursor, args.count, scan_gather, &s));
    reply_array(c->reply, s.count * width);
    for (size_t i = 0; i < s.count; i++)
        member_reply_item(&s.reply, &s.items[i]);
    mem_free(s.items);
}

/* ---- random elements ---- */

/* What the reply may take, estimated by the mean size of an element. */
#define REPEATED_BYTES_MAX (UINT64_C(2) << 30)
/* "$1" and two ends of line. */
#define REPLY_OVERHEAD 6

bool member_reply_fits(struct call *c, const struct entry *e, uint64_t count)
{
    uint64_t all = entry_type(e) == ENTRY_ZSET ? zset_count(e) : member_count(e);
    /* As much as the whole collection is what other commands reply. For more than that, measuring
     * it costs less than the reply. */
    if (count <= all)
        return true;
    uint64_t mean = entry_memory(e) / all + REPLY_OVERHEAD;
    if (count <= REPEATED_BYTES_MAX / mean)
        return true;
    reply_error(c->reply, "ERR value is out of range");
    return false;
}
