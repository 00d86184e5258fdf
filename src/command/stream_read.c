/* SPDX-License-Identifier: BSD-3-Clause
 *
 * XREAD and XREADGROUP.
 */
#include <stdlib.h>

#include "base/mem.h"
#include "command/stream_common.h"
#include "command/wait.h"
#include "handlers.h"

/* A reader that waits for pending entries to become idle looks no more often. */
#define CLAIM_PAUSE_MIN_MS 10

/* A request as it was understood. Arguments are told by their positions. */
struct read {
    bool by_group, no_ack, blocks, claims;
    int64_t timeout_ms;
    int64_t least_idle;     /* of what is claimed, in ms */
    int group_at;           /* of the group's name; the consumer's is behind it */
    int keys_at, key_count; /* the ids are behind the keys */
    uint64_t count;         /* 0: all */
};

static bool fail(struct call *c, const char *message)
{
    reply_error(c->reply, message);
    return false;
}

static bool parse(struct call *c, bool by_group, struct read *r)
{
    *r = (struct read){.by_group = by_group};
    for (int i = 1; i < c->argc && r->keys_at == 0; i++) {
        int more = c->argc - 1 - i;
        if (slice_is(c->argv[i], "count") && more) {
            int64_t count;
            if (!call_int64(c, c->argv[++i], &count, NULL))
                return false;
            r->count = count < 0 ? 0 : (uint64_t)count;
        } else if (slice_is(c->argv[i], "block") && more) {
            if (c->in_script) {
                reply_errorf(c->reply,
                             "ERR %.*s command is not allowed with BLOCK option from scripts",
                             (int)c->argv[0].size, c->argv[0].data);
                return false;
            }
            if (!call_timeout_ms(c, c->argv[++i], &r->timeout_ms))
                return false;
            r->blocks = true;
        } else if (slice_is(c->argv[i], "streams") && more) {
            r->keys_at = i + 1;
            if (more % 2 != 0)
                return fail(c, "ERR Unbalanced XREAD list of streams: for each stream key an ID or "
                               "'$' must be specified.");
            r->key_count = more / 2;
        } else if (slice_is(c->argv[i], "group") && more >= 2) {
            if (!by_group)
                return fail(c, "ERR The GROUP option is only supported by XREADGROUP. You called "
                               "XREAD instead.");
            r->group_at = i + 1;
            i += 2;
        } else if (slice_is(c->argv[i], "noack")) {
            if (!by_group)
                return fail(c, "ERR The NOACK option is only supported by XREADGROUP. You called "
                               "XREAD instead.");
            r->no_ack = true;
        } else if (slice_is(c->argv[i], "claim") && more) {
            if (!by_group)
                return fail(c, "ERR The CLAIM option is only supported by XREADGROUP. You called "
                               "XREAD instead.");
            if (!call_int64(c, c->argv[++i], &r->least_idle, "ERR min-idle-time is not an integer"))
                return false;
            if (r->least_idle < 0)
                return fail(c, "ERR min-idle-time must be a positive integer");
            r->claims = true;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    if (r->keys_at == 0) {
        reply_syntax_error(c->reply);
        return false;
    }
    if (by_group && r->group_at == 0)
        return fail(c, "ERR Missing GROUP option for XREADGROUP");
    return true;
}

/* The id behind which one stream is read: that of the last entry for `$`, the one before it for
 * `+`, which is so read itself, the highest one for `>`. */
static bool resolve_id(struct call *c, const struct read *r, int i, struct stream_id *id)
{
    struct slice key = c->argv[r->keys_at + i], text = c->argv[r->keys_at + r->key_count + i];
    struct stream_group g;
    struct entry *e;
    if (!call_find(c, key, ENTRY_STREAM, &e))
        return false;
    if (r->by_group && (!e || !stream_group_find(stream_root_of(e), c->argv[r->group_at], &g))) {
        struct slice group = c->argv[r->group_at];
        reply_errorf(c->reply,
                     "NOGROUP No such key '%.*s' or consumer group '%.*s' in XREADGROUP with GROUP "
                     "option",
                     (int)key.size, key.data, (int)group.size, group.data);
        return false;
    }
    if (text.size == 1 && text.data[0] == '$') {
        if (r->by_group)
            return fail(c,
                        "ERR The $ ID is meaningless in the context of XREADGROUP: you want to "
                        "read the history of this consumer by specifying a proper ID, or use the "
                        "> ID to get new messages. The $ ID would just return an empty result "
                        "set.");
        *id = e ? stream_root_of(e)->last : STREAM_ID_MIN;
        return true;
    }
    if (text.size == 1 && text.data[0] == '+') {
        struct stream_item newest;
        if (r->by_group)
            return fail(c,
                        "ERR The + ID is meaningless in the context of XREADGROUP: you want to "
                        "read the history of this consumer by specifying a proper ID, or use the "
                        "> ID to get new messages. The + ID would just return an empty result "
                        "set.");
        *id = e ? stream_root_of(e)->last : STREAM_ID_MIN;
        if (e && stream_edge(stream_root_of(e), true, &newest)) {
            *id = newest.id;
            stream_id_prev(id);
        }
        return true;
    }
    if (text.size == 1 && text.data[0] == '>') {
        if (!r->by_group)
            return fail(c, "ERR The > ID can be specified only when calling XREADGROUP using the "
                           "GROUP <group> <consumer> option.");
        *id = STREAM_ID_MAX;
        return true;
    }
    return call_stream_id_strict(c, text, 0, id, NULL);
}

/* Replies: the first stream that has something begins the outer array or map. */
struct answer {
    struct reply_mark mark;
    size_t streams;
};

static void begin_stream(struct call *c, struct answer *a, struct slice key)
{
    if (a->streams++ == 0)
        a->mark = reply_deferred_begin(c->reply);
    if (c->reply->protocol == 2)
        reply_array(c->reply, 2);
    reply_bulk(c->reply, key);
}

static void end_answer(struct call *c, const struct answer *a)
{
    if (c->reply->protocol == 2)
        reply_deferred_array(c->reply, a->mark, a->streams);
    else
        reply_deferred_map(c->reply, a->mark, a->streams);
}

static bool has_entries_behind(const struct stream_root *s, struct stream_id id)
{
    struct stream_item newest;
    return stream_edge(s, true, &newest) && stream_id_compare(newest.id, id) > 0;
}

/* Serve one stream to a reader without a group. */
static void read_plain(struct call *c, const struct read *r, const struct entry *e,
                       struct slice key, struct stream_id id, struct answer *a)
{
    const struct stream_root *s = stream_root_of(e);
    if (!has_entries_behind(s, id) || !stream_id_next(&id))
        return;
    begin_stream(c, a, key);
    reply_stream_range(c->reply, s, id, STREAM_ID_MAX, r->count, false);
}

/* One stream for one consumer. */
struct member {
    struct keyref ref;
    struct stream_root *s;
    struct slice group_name, name;
    struct stream_group g;
    struct stream_consumer consumer;
};

static int64_t idle_of(const struct call *c, const struct stream_pending *p)
{
    return c->now_ms > p->delivered_ms ? c->now_ms - p->delivered_ms : 0;
}

/* What the consumer has pending behind an id: delivered once more. */
static void read_history(struct call *c, const struct read *r, struct member *m,
                         struct stream_id from)
{
    struct stream_pending p = {.id = from};
    struct stream_item item;
    uint64_t n = 0;
    bool more = stream_id_next(&p.id);
    struct reply_mark mark = reply_deferred_begin(c->reply);
    for (; more && (r->count == 0 || n < r->count); n++, more = stream_id_next(&p.id)) {
        if (!stream_pending_from(m->s, &m->g, m->consumer.number, p.id, &p))
            break;
        if (!stream_find(m->s, p.id, &item)) {
            reply_array(c->reply, 2);
            reply_stream_id(c->reply, p.id);
            reply_null_array(c->reply);
            continue;
        }
        p.delivered_ms = c->now_ms;
        p.deliveries++;
        stream_pending_put(m->s, &c->ks->epoch, &m->g, &p);
        reply_stream_item(c->reply, item);
        stream_effect_claim(c, m->ref.key, m->group_name, m->name, &p, m->g.last);
    }
    reply_deferred_array(c->reply, mark, n);
}

/* Pending entries to be claimed. */
struct idle_list {
    struct stream_pending *items;
    size_t count, capacity;
};

static int compare_idle(const void *a, const void *b)
{
    const struct stream_pending *p = a, *q = b;
    if (p->delivered_ms != q->delivered_ms)
        return p->delivered_ms < q->delivered_ms ? -1 : 1;
    return stream_id_compare(p->id, q->id);
}

/* What of the group is pending for long enough and still in the stream, the idlest first, up to
 * `most` (0: all). Pending entries are not ordered by time: all of them are looked at. */
static struct idle_list find_idle(const struct call *c, const struct stream_root *s,
                                  const struct stream_group *g, int64_t least_idle, uint64_t most)
{
    struct idle_list list = {0};
    struct stream_pending p = {.id = STREAM_ID_MIN};
    for (bool more = true; more; more = stream_id_next(&p.id)) {
        if (!stream_pending_from(s, g, STREAM_ANY, p.id, &p))
            break;
        if (idle_of(c, &p) < least_idle)
            continue;
        if (list.count == list.capacity) {
            list.capacity = list.capacity * 2 + 16;
            list.items = mem_realloc(list.items, list.capacity * sizeof(*list.items));
        }
        list.items[list.count++] = p;
    }
    if (list.count > 1)
        qsort(list.items, list.count, sizeof(*list.items), compare_idle);
    size_t kept = 0;
    for (size_t i = 0; i < list.count && (most == 0 || kept < most); i++) {
        if (stream_find(s, list.items[i].id, NULL))
            list.items[kept++] = list.items[i];
    }
    list.count = kept;
    return list;
}

/* They are the consumer's now. */
static void claim_idle(struct call *c, struct member *m, const struct idle_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        struct stream_pending p = list->items[i];
        struct stream_item item;
        if (!stream_find(m->s, p.id, &item))
            continue; /* not so: it was there */
        reply_stream_delivery(c->reply, item, idle_of(c, &p), p.deliveries);
        p.consumer = m->consumer.number;
        p.delivered_ms = c->now_ms;
        p.deliveries++;
        stream_pending_put(m->s, &c->ks->epoch, &m->g, &p);
        stream_effect_claim(c, m->ref.key, m->group_name, m->name, &p, m->g.last);
    }
}

/* Entries that nobody of the group has got, behind those that are claimed. */
static void read_new(struct call *c, const struct read *r, struct member *m,
                     const struct idle_list *idle)
{
    struct stream_iter it;
    struct stream_item item;
    struct stream_id from = m->g.last;
    uint64_t n = idle->count;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    claim_idle(c, m, idle);
    stream_iter_init(&it, m->s, from, STREAM_ID_MAX, false);
    it.ended = !stream_id_next(&it.from);
    while ((r->count == 0 || n < r->count) && stream_iter_next(&it, &item)) {
        stream_group_advance(m->s, &m->g, item.id);
        if (r->claims)
            reply_stream_delivery(c->reply, item, 0, 0);
        else
            reply_stream_item(c->reply, item);
        n++;
        if (r->no_ack)
            continue;
        struct stream_pending p = {item.id, m->consumer.number, c->now_ms, 1};
        stream_pending_put(m->s, &c->ks->epoch, &m->g, &p);
        stream_effect_claim(c, m->ref.key, m->group_name, m->name, &p, m->g.last);
    }
    reply_deferred_array(c->reply, mark, n);
    if (n == idle->count)
        return;
    stream_group_save(m->s, &c->ks->epoch, m->group_name, &m->g);
    stream_effect_group(c, m->ref.key, m->group_name, &m->g);
}

/* Serve one stream to a consumer. */
static void read_for_group(struct call *c, const struct read *r, struct slice key,
                           struct stream_id id, struct answer *a)
{
    struct member m = {.group_name = c->argv[r->group_at], .name = c->argv[r->group_at + 1]};
    bool history = stream_id_compare(id, STREAM_ID_MAX) != 0;
    keyref_find(&m.ref, c->db, key, call_hash(c, key));
    if (!m.ref.entry || entry_type(m.ref.entry) != ENTRY_STREAM ||
        !stream_group_find(stream_root_of(m.ref.entry), m.group_name, &m.g))
        return;
    struct idle_list idle = {0};
    if (!history && r->claims)
        idle = find_idle(c, stream_root_of(m.ref.entry), &m.g, r->least_idle, r->count);
    if (!history && idle.count == 0 && !has_entries_behind(stream_root_of(m.ref.entry), m.g.last))
        goto out;
    call_effect_group(c);
    stream_consumer_see(c, &m.ref, m.group_name, &m.g, m.name, &m.consumer);
    m.s = stream_own(&m.ref);
    begin_stream(c, a, key);
    if (history) {
        read_history(c, r, &m, id);
    } else {
        read_new(c, r, &m, &idle);
        m.consumer.active_ms = c->now_ms;
        stream_consumer_save(m.s, &c->ks->epoch, &m.g, &m.consumer);
    }
    call_changed_aside(c, c->db, key, EVENT_STREAM, NULL, 1);
    call_no_effect(c); /* but what was given */
out:
    mem_free(idle.items);
}

/* What a request is while it waits, and before. */
struct reading {
    struct read r;
    int64_t deadline_ms;    /* 0: none */
    struct stream_id ids[]; /* behind which to read; `>` is the highest there is */
};

/* Read one of the streams. */
static void read_one(struct call *c, const struct reading *reading, int i, struct entry *e,
                     struct answer *a)
{
    struct slice key = c->argv[reading->r.keys_at + i];
    if (reading->r.by_group)
        read_for_group(c, &reading->r, key, reading->ids[i], a);
    else
        read_plain(c, &reading->r, e, key, reading->ids[i], a);
}

/* A stream that is waited for was changed, or is gone. */
static bool serve(struct call *c, struct slice key, struct entry *e, void *state)
{
    struct reading *reading = state;
    struct answer answer = {.streams = 0};
    struct stream_group g;
    int i = 0;
    while (!slice_equal(c->argv[reading->r.keys_at + i], key))
        i++;
    if (!e || entry_type(e) != ENTRY_STREAM) {
        reply_error(c->reply, "UNBLOCKED the stream key no longer exists");
        return true;
    }
    if (reading->r.by_group &&
        !stream_group_find(stream_root_of(e), c->argv[reading->r.group_at], &g)) {
        reply_error(c->reply,
                    "NOGROUP the consumer group this client was blocked on no longer exists");
        return true;
    }
    read_one(c, reading, i, e, &answer);
    if (answer.streams > 0)
        end_answer(c, &answer);
    return answer.streams > 0;
}

/* How long to sleep before something pending may be claimed: no longer than until the first of what
 * is pending now is idle for long enough, nor than what is delivered from now on takes for that. */
static int64_t until_idle(struct call *c, const struct reading *reading)
{
    const struct read *r = &reading->r;
    int64_t sleep = r->least_idle;
    for (int i = 0; i < r->key_count; i++) {
        struct slice key = c->argv[r->keys_at + i];
        struct entry *e = db_find(c->db, key, call_hash(c, key));
        struct stream_group g;
        struct stream_pending p = {.id = STREAM_ID_MIN};
        bool more = e && entry_type(e) == ENTRY_STREAM &&
                    stream_group_find(stream_root_of(e), c->argv[r->group_at], &g);
        for (; more; more = stream_id_next(&p.id)) {
            const struct stream_root *s = stream_root_of(e);
            if (!stream_pending_from(s, &g, STREAM_ANY, p.id, &p))
                break;
            int64_t left = r->least_idle - idle_of(c, &p);
            if (left < sleep && stream_find(s, p.id, NULL))
                sleep = left;
        }
    }
    if (sleep < CLAIM_PAUSE_MIN_MS)
        sleep = CLAIM_PAUSE_MIN_MS;
    if (reading->deadline_ms != 0 && reading->deadline_ms - c->now_ms < sleep)
        sleep = reading->deadline_ms - c->now_ms;
    return sleep;
}

/* Claim what has become idle while waiting. */
static bool look_again(struct call *c, void *state, int64_t *again_ms)
{
    struct reading *reading = state;
    struct answer answer = {.streams = 0};
    for (int i = 0; i < reading->r.key_count; i++) {
        struct slice key = c->argv[reading->r.keys_at + i];
        struct entry *e = db_find(c->db, key, call_hash(c, key));
        if (e && entry_type(e) == ENTRY_STREAM)
            read_one(c, reading, i, e, &answer);
    }
    if (answer.streams > 0) {
        end_answer(c, &answer);
        return true;
    }
    if (reading->deadline_ms != 0 && c->now_ms >= reading->deadline_ms) {
        reply_null_array(c->reply);
        return true;
    }
    *again_ms = until_idle(c, reading);
    return false;
}

static void wait(struct call *c, struct reading *reading, size_t size)
{
    const struct read *r = &reading->r;
    int64_t timeout_ms = r->timeout_ms;
    if (r->claims) {
        reading->deadline_ms = timeout_ms == 0 ? 0 : c->now_ms + timeout_ms;
        timeout_ms = until_idle(c, reading);
    }
    call_wait(c, &(struct call_wait){.type = ENTRY_STREAM,
                                     .gone = r->by_group,
                                     .keys = c->argv + r->keys_at,
                                     .key_count = r->key_count,
                                     .timeout_ms = timeout_ms,
                                     .serve = serve,
                                     .again = r->claims ? look_again : NULL,
                                     .state = reading,
                                     .state_size = size});
}

static void read_streams(struct call *c, bool by_group)
{
    struct read r;
    if (!parse(c, by_group, &r))
        return;
    size_t size = sizeof(struct reading) + (size_t)r.key_count * sizeof(struct stream_id);
    struct reading *reading = mem_alloc(size);
    struct answer answer = {.streams = 0};
    reading->r = r;
    for (int i = 0; i < r.key_count; i++) {
        if (!resolve_id(c, &r, i, &reading->ids[i]))
            goto out;
    }
    for (int i = 0; i < r.key_count; i++) {
        struct slice key = c->argv[r.keys_at + i];
        struct entry *e = db_find(c->db, key, call_hash(c, key));
        if (e)
            read_one(c, reading, i, e, &answer);
    }
    if (answer.streams > 0)
        end_answer(c, &answer);
    else if (r.blocks)
        wait(c, reading, size);
    else
        reply_null_array(c->reply);
out:
    mem_free(reading);
}

void cmd_xread(struct call *c)
{
    read_streams(c, false);
}

void cmd_xreadgroup(struct call *c)
{
    read_streams(c, true);
}
