/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on consumer groups and what they have pending, but for XREADGROUP.
 */
#include "base/mem.h"
#include "base/number.h"
#include "command/help.h"
#include "command/stream_common.h"
#include "handlers.h"

static void changed(struct call *c, struct slice key, const char *event)
{
    call_changed_aside(c, c->db, key, EVENT_STREAM, event, 1);
}

/* ---- XGROUP ---- */

static bool bad_subcommand(struct call *c)
{
    reply_errorf(c->reply,
                 "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try XGROUP HELP.",
                 (int)(c->argv[1].size < 128 ? c->argv[1].size : 128), c->argv[1].data);
    return false;
}

/* ENTRIESREAD and, where *make is, MKSTREAM, from the fifth argument on. */
static bool parse_group_options(struct call *c, bool *make, int64_t *entries_read)
{
    *entries_read = STREAM_READ_UNKNOWN;
    for (int i = 5; i < c->argc; i++) {
        if (make && slice_is(c->argv[i], "mkstream")) {
            *make = true;
        } else if (slice_is(c->argv[i], "entriesread") && i + 1 < c->argc) {
            if (!call_int64(c, c->argv[++i], entries_read, NULL))
                return false;
            if (*entries_read < 0 && *entries_read != STREAM_READ_UNKNOWN) {
                reply_error(c->reply, "ERR value for ENTRIESREAD must be positive or -1");
                return false;
            }
        } else {
            return bad_subcommand(c);
        }
    }
    return true;
}

/* The stream of an XGROUP command; it must be there unless `make`. */
static bool find_stream(struct call *c, bool make, struct keyref *ref)
{
    if (!call_stream_write(c, c->argv[2], ref))
        return false;
    if (ref->entry || make)
        return true;
    reply_error(c->reply,
                "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE "
                "you may want to use the MKSTREAM option to create an empty stream "
                "automatically.");
    return false;
}

static void reply_group_missing(struct call *c)
{
    struct slice key = c->argv[2], group = c->argv[3];
    reply_errorf(c->reply, "NOGROUP No such consumer group '%.*s' for key name '%.*s'",
                 (int)group.size, group.data, (int)key.size, key.data);
}

static bool find_group(struct call *c, struct keyref *ref, struct stream_group *g)
{
    if (!find_stream(c, false, ref))
        return false;
    if (stream_group_find(stream_root_of(ref->entry), c->argv[3], g))
        return true;
    reply_group_missing(c);
    return false;
}

/* The id argument, where `$` is the last one. A group that is there may be set to `-` and `+`, too:
 * they are given to CREATE by mistake only. */
static bool parse_group_id(struct call *c, const struct stream_root *s, bool create,
                           struct stream_id *id)
{
    if (c->argv[4].size == 1 && c->argv[4].data[0] == '$') {
        *id = s ? s->last : STREAM_ID_MIN;
        return true;
    }
    return create ? call_stream_id_strict(c, c->argv[4], 0, id, NULL)
                  : call_stream_id(c, c->argv[4], 0, id);
}

void cmd_xgroup_create(struct call *c)
{
    bool make = false;
    int64_t entries_read;
    struct keyref ref;
    struct stream_id id;
    struct stream_group g;
    if (!parse_group_options(c, &make, &entries_read) || !find_stream(c, make, &ref))
        return;
    if (c->argc > 8) {
        bad_subcommand(c);
        return;
    }
    if (!parse_group_id(c, ref.entry ? stream_root_of(ref.entry) : NULL, true, &id))
        return;
    if (ref.entry && stream_group_find(stream_root_of(ref.entry), c->argv[3], &g)) {
        reply_error(c->reply, "BUSYGROUP Consumer Group name already exists");
        return;
    }
    bool is_new = !ref.entry;
    struct stream_root *s = is_new ? stream_create(&ref) : stream_own(&ref);
    stream_group_create(s, &c->ks->epoch, c->argv[3], id, entries_read, &g);
    reply_ok(c->reply);
    if (is_new)
        call_changed(c, c->db, ref.key, EVENT_NEW_KEY, "new", 0); /* breaks WATCHes, too */
    changed(c, ref.key, "xgroup-create");
}

void cmd_xgroup_setid(struct call *c)
{
    int64_t entries_read;
    struct keyref ref;
    struct stream_group g;
    if (!parse_group_options(c, NULL, &entries_read) || !find_group(c, &ref, &g))
        return;
    if (c->argc != 5 && c->argc != 7) {
        bad_subcommand(c);
        return;
    }
    if (!parse_group_id(c, stream_root_of(ref.entry), false, &g.last))
        return;
    g.entries_read = entries_read;
    stream_group_save(stream_own(&ref), &c->ks->epoch, c->argv[3], &g);
    reply_ok(c->reply);
    changed(c, ref.key, "xgroup-setid");
}

void cmd_xgroup_destroy(struct call *c)
{
    struct keyref ref;
    struct stream_group g;
    if (!find_stream(c, false, &ref))
        return;
    bool there = stream_group_find(stream_root_of(ref.entry), c->argv[3], &g);
    if (there) {
        stream_group_destroy(stream_own(&ref), &c->ks->epoch, c->argv[3], &g);
        changed(c, ref.key, "xgroup-destroy");
    }
    reply_int(c->reply, there);
}

void cmd_xgroup_createconsumer(struct call *c)
{
    struct keyref ref;
    struct stream_group g;
    struct stream_consumer consumer;
    if (!find_group(c, &ref, &g))
        return;
    bool there = stream_consumer_find(stream_root_of(ref.entry), &g, c->argv[4], &consumer);
    if (!there) {
        stream_consumer_create(stream_own(&ref), &c->ks->epoch, c->argv[3], &g, c->argv[4],
                               stream_now(c), &consumer);
        changed(c, ref.key, "xgroup-createconsumer");
    }
    reply_int(c->reply, !there);
}

void cmd_xgroup_delconsumer(struct call *c)
{
    struct keyref ref;
    struct stream_group g;
    struct stream_consumer consumer;
    uint64_t pending = 0;
    if (!find_group(c, &ref, &g))
        return;
    if (stream_consumer_find(stream_root_of(ref.entry), &g, c->argv[4], &consumer)) {
        pending =
            stream_consumer_delete(stream_own(&ref), &c->ks->epoch, &g, c->argv[4], &consumer);
        changed(c, ref.key, "xgroup-delconsumer");
    }
    reply_int(c->reply, (int64_t)pending);
}

void cmd_xgroup_help(struct call *c)
{
    static const char *const lines[] = {
        "CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <count>]",
        "    Make a group that reads what comes behind the id; MKSTREAM makes the stream, too.",
        "CREATECONSUMER <key> <group> <consumer>",
        "    Make a consumer of a group.",
        "DELCONSUMER <key> <group> <consumer>",
        "    Remove a consumer with what it has pending.",
        "DESTROY <key> <group>",
        "    Remove a group.",
        "SETID <key> <group> <id|$> [ENTRIESREAD <count>]",
        "    Set the id behind which the group goes on reading.",
    };
    reply_help(c, "XGROUP", lines, sizeof(lines) / sizeof(lines[0]));
}

/* ---- XACK ---- */

void cmd_xack(struct call *c)
{
    struct keyref ref;
    struct stream_group g;
    struct stream_id id;
    if (!call_find_update(c, c->argv[1], ENTRY_STREAM, &ref))
        return;
    if (!ref.entry || !stream_group_find(stream_root_of(ref.entry), c->argv[2], &g)) {
        reply_int(c->reply, 0);
        return;
    }
    for (int i = 3; i < c->argc; i++) {
        if (!call_stream_id_strict(c, c->argv[i], 0, &id, NULL))
            return;
    }
    struct stream_root *s = stream_own(&ref);
    uint64_t acknowledged = 0;
    for (int i = 3; i < c->argc; i++) {
        stream_id_parse(c->argv[i], 0, &id);
        acknowledged += stream_pending_remove(s, &c->ks->epoch, &g, id);
    }
    if (acknowledged > 0)
        call_changed_aside(c, c->db, ref.key, EVENT_STREAM, NULL, acknowledged);
    reply_int(c->reply, (int64_t)acknowledged);
}

/* ---- XPENDING ---- */

static void reply_summary(struct call *c, const struct stream_root *s,
                          const struct stream_group *g)
{
    struct stream_pending p;
    struct stream_name_iter it;
    struct stream_consumer consumer;
    struct slice name;
    uint64_t n = 0, total = stream_pending_count(s, g);
    reply_array(c->reply, 4);
    reply_int(c->reply, (int64_t)total);
    if (total == 0) {
        reply_null(c->reply);
        reply_null(c->reply);
        reply_null_array(c->reply);
        return;
    }
    stream_pending_from(s, g, STREAM_ANY, STREAM_ID_MIN, &p);
    reply_stream_id(c->reply, p.id);
    stream_pending_last(s, g, &p);
    reply_stream_id(c->reply, p.id);
    struct reply_mark mark = reply_deferred_begin(c->reply);
    stream_consumer_iter_init(&it, s, g);
    while (stream_consumer_iter_next(&it, s, g, &name, &consumer)) {
        uint64_t count = stream_owned_count(s, g, consumer.number);
        if (count == 0)
            continue;
        reply_array(c->reply, 2);
        reply_bulk(c->reply, name);
        reply_bulk_int(c->reply, (int64_t)count);
        n++;
    }
    stream_name_iter_deinit(&it);
    reply_deferred_array(c->reply, mark, n);
}

struct pending_range {
    int64_t least_idle, count;
    struct stream_id from, to;
    int consumer_at; /* 0: of all consumers */
};

static bool parse_pending_range(struct call *c, struct pending_range *r)
{
    int at = 3;
    *r = (struct pending_range){0};
    if (slice_is(c->argv[3], "idle")) {
        if (!call_int64(c, c->argv[4], &r->least_idle, NULL))
            return false;
        if (c->argc < 8) {
            reply_syntax_error(c->reply);
            return false;
        }
        at = 5;
    }
    if (!call_int64(c, c->argv[at + 2], &r->count, NULL) ||
        !call_stream_start(c, c->argv[at], &r->from) ||
        !call_stream_end(c, c->argv[at + 1], &r->to))
        return false;
    if (at + 3 < c->argc)
        r->consumer_at = at + 3;
    return true;
}

static int64_t idle_time(const struct call *c, int64_t since)
{
    return c->now_ms > since ? c->now_ms - since : 0;
}

static void reply_pending(struct call *c, const struct stream_root *s,
                          const struct stream_group *g, const struct pending_range *r)
{
    struct stream_consumer consumer = {.number = STREAM_ANY};
    if (r->consumer_at != 0 && !stream_consumer_find(s, g, c->argv[r->consumer_at], &consumer)) {
        reply_empty_array(c->reply);
        return;
    }
    struct stream_pending p = {.id = r->from};
    int64_t n = 0;
    bool more = true;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    for (; more && n < r->count; more = stream_id_next(&p.id)) {
        if (!stream_pending_from(s, g, consumer.number, p.id, &p) ||
            stream_id_compare(p.id, r->to) > 0)
            break;
        if (r->least_idle != 0 && c->now_ms - p.delivered_ms < r->least_idle)
            continue;
        reply_array(c->reply, 4);
        reply_stream_id(c->reply, p.id);
        reply_bulk(c->reply, stream_consumer_name(s, g, p.consumer));
        reply_int(c->reply, idle_time(c, p.delivered_ms));
        reply_int(c->reply, (int64_t)p.deliveries);
        n++;
    }
    reply_deferred_array(c->reply, mark, (size_t)n);
}

void cmd_xpending(struct call *c)
{
    struct pending_range r;
    struct stream_group g;
    struct entry *e;
    if (c->argc != 3 && (c->argc < 6 || c->argc > 9)) {
        reply_syntax_error(c->reply);
        return;
    }
    if (c->argc > 3 && !parse_pending_range(c, &r))
        return;
    if (!call_find(c, c->argv[1], ENTRY_STREAM, &e))
        return;
    if (!e || !stream_group_find(stream_root_of(e), c->argv[2], &g))
        reply_no_group(c, c->argv[1], c->argv[2]);
    else if (c->argc == 3)
        reply_summary(c, stream_root_of(e), &g);
    else
        reply_pending(c, stream_root_of(e), &g, &r);
}

/* ---- XCLAIM and XAUTOCLAIM ---- */

struct claim {
    struct keyref ref;
    struct stream_root *s;
    struct stream_group g;
    struct stream_consumer consumer;
    int64_t least_idle, delivered_ms;
    int64_t deliveries; /* -1: one more */
    bool force, just_id;
    bool has_consumer; /* it is looked for, or made, when there is something for it */
    bool group_told; /* an effect has told the group's last id */
    uint64_t changes;
};

static bool parse_least_idle(struct call *c, struct claim *claim, const char *error)
{
    if (!call_int64(c, c->argv[4], &claim->least_idle, error))
        return false;
    if (claim->least_idle < 0)
        claim->least_idle = 0;
    return true;
}

static bool find_claim(struct call *c, struct claim *claim)
{
    if (!call_find_update(c, c->argv[1], ENTRY_STREAM, &claim->ref))
        return false;
    if (claim->ref.entry &&
        stream_group_find(stream_root_of(claim->ref.entry), c->argv[2], &claim->g))
        return true;
    reply_no_group(c, c->argv[1], c->argv[2]);
    return false;
}

static void begin_claim(struct call *c, struct claim *claim)
{
    call_effect_group(c);
    claim->s = stream_own(&claim->ref);
}

/* An entry that is pending, but was deleted: nobody gets it. */
static void forget_deleted(struct call *c, struct claim *claim, struct stream_id id)
{
    stream_pending_remove(claim->s, &c->ks->epoch, &claim->g, id);
    stream_effect_ack(c, c->argv[1], c->argv[2], id);
    claim->changes++;
}

static void take_over(struct call *c, struct claim *claim, struct stream_pending *p,
                      struct stream_item item)
{
    if (!claim->has_consumer)
        stream_consumer_see(c, &claim->ref, c->argv[2], &claim->g, c->argv[3], &claim->consumer);
    claim->has_consumer = true;
    p->consumer = claim->consumer.number;
    p->delivered_ms = claim->delivered_ms;
    if (claim->deliveries >= 0)
        p->deliveries = (uint64_t)claim->deliveries;
    else if (!claim->just_id)
        p->deliveries++;
    stream_pending_put(claim->s, &c->ks->epoch, &claim->g, p);
    if (claim->just_id)
        reply_stream_id(c->reply, p->id);
    else
        reply_stream_item(c->reply, item);
    stream_effect_claim(c, c->argv[1], c->argv[2], c->argv[3], p, claim->g.last);
    claim->group_told = true;
    claim->changes++;
}

static void end_claim(struct call *c, struct claim *claim)
{
    if (claim->changes == 0)
        return;
    if (claim->has_consumer) {
        claim->consumer.active_ms = stream_now(c);
        stream_consumer_save(claim->s, &c->ks->epoch, &claim->g, &claim->consumer);
    }
    call_changed_aside(c, c->db, claim->ref.key, EVENT_STREAM, NULL, claim->changes);
}

static bool is_idle(const struct call *c, const struct claim *claim, const struct stream_pending *p)
{
    return claim->least_idle == 0 || c->now_ms - p->delivered_ms >= claim->least_idle;
}

/* True if an entry was replied. */
static bool claim_one(struct call *c, struct claim *claim, struct stream_id id)
{
    struct stream_pending p;
    struct stream_item item;
    bool pending = stream_pending_find(claim->s, &claim->g, id, &p);
    if (!stream_find(claim->s, id, &item)) {
        if (pending)
            forget_deleted(c, claim, id);
        return false;
    }
    if (!pending && !claim->force)
        return false;
    if (pending && !is_idle(c, claim, &p))
        return false;
    if (!pending)
        p = (struct stream_pending){.id = id, .deliveries = 1};
    take_over(c, claim, &p, item);
    return true;
}

/* The options of XCLAIM from `at` on. */
static bool parse_claim_options(struct call *c, int at, struct claim *claim, struct stream_id *last)
{
    int64_t delivered = -1;
    claim->deliveries = -1;
    *last = STREAM_ID_MIN;
    for (int i = at; i < c->argc; i++) {
        struct slice s = c->argv[i];
        bool more = i + 1 < c->argc;
        if (slice_is(s, "force")) {
            claim->force = true;
        } else if (slice_is(s, "justid")) {
            claim->just_id = true;
        } else if (slice_is(s, "idle") && more) {
            if (!call_int64(c, c->argv[++i], &delivered,
                            "ERR Invalid IDLE option argument for XCLAIM"))
                return false;
            delivered = (int64_t)((uint64_t)c->now_ms - (uint64_t)delivered);
        } else if (slice_is(s, "time") && more) {
            if (!call_int64(c, c->argv[++i], &delivered,
                            "ERR Invalid TIME option argument for XCLAIM"))
                return false;
        } else if (slice_is(s, "retrycount") && more) {
            if (!call_int64(c, c->argv[++i], &claim->deliveries,
                            "ERR Invalid RETRYCOUNT option argument for XCLAIM"))
                return false;
        } else if (slice_is(s, "lastid") && more) {
            if (!call_stream_id_strict(c, c->argv[++i], 0, last, NULL))
                return false;
        } else {
            reply_errorf(c->reply, "ERR Unrecognized XCLAIM option '%.*s'", (int)s.size, s.data);
            return false;
        }
    }
    /* A time that cannot be is now. */
    claim->delivered_ms = delivered < 0 || delivered > stream_now(c) ? stream_now(c) : delivered;
    return true;
}

void cmd_xclaim(struct call *c)
{
    struct claim claim = {0};
    struct stream_id id, last;
    int options_at = 5;
    if (!find_claim(c, &claim) ||
        !parse_least_idle(c, &claim, "ERR Invalid min-idle-time argument for XCLAIM"))
        return;
    while (options_at < c->argc && stream_id_parse(c->argv[options_at], 0, &id))
        options_at++;
    if (!parse_claim_options(c, options_at, &claim, &last))
        return;
    bool raise = stream_id_compare(last, claim.g.last) > 0;
    if (raise) {
        claim.g.last = last;
        stream_group_save(stream_own(&claim.ref), &c->ks->epoch, c->argv[2], &claim.g);
    }
    begin_claim(c, &claim);
    uint64_t n = 0;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    for (int i = 5; i < options_at; i++) {
        stream_id_parse(c->argv[i], 0, &id);
        n += claim_one(c, &claim, id);
    }
    reply_deferred_array(c->reply, mark, n);
    if (raise && !claim.group_told) {
        stream_effect_group(c, c->argv[1], c->argv[2], &claim.g);
        claim.changes++;
    }
    end_claim(c, &claim);
}

/* Entries looked at for each that may be taken. */
#define LOOK_FACTOR 10

static bool parse_autoclaim(struct call *c, struct claim *claim, struct stream_id *from,
                            int64_t *count)
{
    *count = 100;
    claim->deliveries = -1;
    claim->delivered_ms = c->now_ms;
    if (!parse_least_idle(c, claim, "ERR Invalid min-idle-time argument for XAUTOCLAIM") ||
        !call_stream_start(c, c->argv[5], from))
        return false;
    for (int i = 6; i < c->argc; i++) {
        if (slice_is(c->argv[i], "count") && i + 1 < c->argc) {
            if (!call_int64_range(c, c->argv[++i], 1, INT64_MAX / 16, count,
                                  "ERR COUNT must be > 0"))
                return false;
        } else if (slice_is(c->argv[i], "justid")) {
            claim->just_id = true;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

/* The ids that were found deleted. */
struct id_list {
    struct stream_id *ids;
    size_t count, capacity;
};

static void id_list_add(struct id_list *list, struct stream_id id)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity * 2 + 16;
        list->ids = mem_realloc(list->ids, list->capacity * sizeof(*list->ids));
    }
    list->ids[list->count++] = id;
}

void cmd_xautoclaim(struct call *c)
{
    struct claim claim = {0};
    struct stream_pending p = {0};
    struct id_list deleted = {0};
    struct stream_item item;
    int64_t count;
    uint64_t n = 0;
    if (!parse_autoclaim(c, &claim, &p.id, &count) || !find_claim(c, &claim))
        return;
    begin_claim(c, &claim);
    int64_t looks = count * LOOK_FACTOR;
    bool more = stream_pending_from(claim.s, &claim.g, STREAM_ANY, p.id, &p);
    reply_array(c->reply, 3);
    /* The cursor comes first, but is known last. */
    struct outbuf entries = {0}, *out = c->reply->out;
    c->reply->out = &entries;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    while (more && looks-- > 0 && count > 0) {
        if (!stream_find(claim.s, p.id, &item)) {
            forget_deleted(c, &claim, p.id);
            id_list_add(&deleted, p.id);
            count--;
        } else if (is_idle(c, &claim, &p)) {
            take_over(c, &claim, &p, item);
            n++;
            count--;
        }
        more = stream_id_next(&p.id) &&
               stream_pending_from(claim.s, &claim.g, STREAM_ANY, p.id, &p);
    }
    reply_deferred_array(c->reply, mark, n);
    c->reply->out = out;
    reply_stream_id(c->reply, more ? p.id : STREAM_ID_MIN);
    outbuf_move(out, &entries);
    reply_array(c->reply, deleted.count);
    for (size_t i = 0; i < deleted.count; i++)
        reply_stream_id(c->reply, deleted.ids[i]);
    mem_free(deleted.ids);
    end_claim(c, &claim);
}
