/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on the entries of streams, but for XREAD.
 */
#include "base/number.h"
#include "command/stream_common.h"
#include "handlers.h"

static void changed(struct call *c, struct slice key, const char *event, uint64_t changes)
{
    call_changed(c, c->db, key, EVENT_STREAM, event, changes);
}

/* What stands before the fields of XADD, and all of XTRIM's arguments. */
struct add_options {
    bool no_create, trims, id_given, auto_seq;
    struct stream_id id;
    struct stream_trim trim;
    int64_t limit;
    bool limit_given;
    enum stream_refs refs;
    bool refs_given;
};

static bool syntax(struct call *c, const char *message)
{
    reply_error(c->reply, message);
    return false;
}

/* MAXLEN or MINID at *at, with an operator. */
static bool parse_strategy(struct call *c, int *at, bool by_id, struct add_options *o)
{
    int more = c->argc - 1 - *at;
    struct slice next = c->argv[*at + 1];
    int64_t length;
    if (o->trims)
        return syntax(c, "ERR syntax error, MAXLEN and MINID options at the same time are not "
                         "compatible");
    o->trim.approximate = false;
    if (more >= 2 && next.size == 1 && (next.data[0] == '~' || next.data[0] == '=')) {
        o->trim.approximate = next.data[0] == '~';
        ++*at;
    }
    struct slice threshold = c->argv[++*at];
    o->trims = true;
    o->trim.by_id = by_id;
    if (by_id)
        return call_stream_id_strict(c, threshold, 0, &o->trim.min_id, NULL);
    if (!call_int64(c, threshold, &length, NULL))
        return false;
    if (length < 0)
        return syntax(c, "ERR The MAXLEN argument must be >= 0.");
    o->trim.max_length = (uint64_t)length;
    return true;
}

/* Without LIMIT `~` removes what about a hundred nodes hold. */
static uint64_t limit_by_default(const struct call *c)
{
    int64_t entries = c->ks->limits.stream_node_max_entries;
    const uint64_t least = 10000, most = 1000000;
    if (entries <= 0)
        return least;
    return (uint64_t)entries > most / 100 ? most : (uint64_t)entries * 100;
}

/* *at is set to the id's place for XADD. */
static bool parse_options(struct call *c, bool add, struct add_options *o, int *at)
{
    int i = 2;
    *o = (struct add_options){0};
    for (; i < c->argc; i++) {
        bool more = i + 1 < c->argc;
        struct slice s = c->argv[i];
        if (add && s.size == 1 && s.data[0] == '*')
            break;
        if (slice_is(s, "maxlen") && more) {
            if (!parse_strategy(c, &i, false, o))
                return false;
        } else if (slice_is(s, "minid") && more) {
            if (!parse_strategy(c, &i, true, o))
                return false;
        } else if (slice_is(s, "limit") && more) {
            if (!call_int64(c, c->argv[++i], &o->limit, NULL))
                return false;
            if (o->limit < 0)
                return syntax(c, "ERR The LIMIT argument must be >= 0.");
            o->limit_given = true;
        } else if (!o->refs_given && stream_refs_parse(s, &o->refs)) {
            o->refs_given = true;
        } else if (add && slice_is(s, "nomkstream")) {
            o->no_create = true;
        } else if (add) {
            if (!call_stream_id_strict(c, s, 0, &o->id, &o->auto_seq))
                return false;
            o->id_given = true;
            break;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    *at = i;
    if (o->limit != 0 && !o->trims)
        return syntax(c, "ERR syntax error, LIMIT cannot be used without specifying a trimming "
                         "strategy");
    if (!add && !o->trims)
        return syntax(c, "ERR syntax error, XTRIM must be called with a trimming strategy");
    if (o->limit_given && !o->trim.approximate)
        return syntax(c, "ERR syntax error, LIMIT cannot be used without the special ~ option");
    if (o->trim.approximate)
        o->trim.limit = o->limit_given ? (uint64_t)o->limit : limit_by_default(c);
    return true;
}

/* The id that a new entry gets. False: an error was replied. */
static bool choose_id(struct call *c, const struct add_options *o, struct stream_id last,
                      struct stream_id *id)
{
    const char *too_low = "ERR The ID specified in XADD is equal or smaller than the target stream "
                          "top item";
    *id = last;
    if (!stream_id_next(id))
        return syntax(c, "ERR The stream has exhausted the last possible ID, unable to add more "
                         "items");
    if (!o->id_given) {
        if ((uint64_t)c->now_ms > last.ms)
            *id = (struct stream_id){(uint64_t)c->now_ms, 0};
        return true;
    }
    if (!o->auto_seq || o->id.ms != last.ms)
        *id = o->id;
    else if (id->ms != last.ms)
        return syntax(c, too_low);
    return stream_id_compare(*id, last) > 0 || syntax(c, too_low);
}

/* `trimmed`: so that it is of this length now. */
static void add_effect(struct call *c, struct stream_id id, int fields_at,
                       const struct stream_root *s, bool trimmed)
{
    char text[STREAM_ID_TEXT_SIZE], length[NUMBER_INT64_SIZE];
    if (c->stream == NULL)
        return;
    call_effect_begin(c, c->db, (uint64_t)(3 + (trimmed ? 3 : 0) + c->argc - fields_at));
    call_effect_argument(c, SLICE("XADD"));
    call_effect_argument(c, c->argv[1]);
    if (trimmed) {
        call_effect_argument(c, SLICE("MAXLEN"));
        call_effect_argument(c, SLICE("="));
        call_effect_argument(c, slice_of(length, number_format_int64(length, (int64_t)s->length)));
    }
    call_effect_argument(c, slice_of(text, stream_format_id(text, id)));
    for (int i = fields_at; i < c->argc; i++)
        call_effect_argument(c, c->argv[i]);
}

static bool refs_matter(const struct add_options *o, const struct stream_root *s)
{
    return o->refs != STREAM_KEEPREF && stream_group_count(s) > 0;
}

/* Trim and tell of it, counting `change` for each entry. Returns how many were removed. */
static uint64_t trim(struct call *c, struct keyref *ref, const struct add_options *o,
                     uint64_t change)
{
    uint64_t references, removed = stream_trim_with_refs(c, ref->key, stream_own(ref), &o->trim,
                                                         o->refs, &references);
    if (references > 0)
        call_changed_aside(c, c->db, ref->key, EVENT_STREAM, NULL, references);
    if (removed > 0)
        changed(c, ref->key, "xtrim", removed * change);
    return removed;
}

void cmd_xadd(struct call *c)
{
    struct add_options o;
    int id_at;
    if (!parse_options(c, true, &o, &id_at))
        return;
    int fields_at = id_at + 1, fields = c->argc - fields_at;
    if (fields < 2 || fields % 2 != 0) {
        reply_error(c->reply, "ERR wrong number of arguments for 'xadd' command");
        return;
    }
    if (o.id_given && !o.auto_seq && stream_id_is_zero(o.id)) {
        reply_error(c->reply, "ERR The ID specified in XADD must be greater than 0-0");
        return;
    }
    struct keyref ref;
    if (!call_stream_write(c, c->argv[1], &ref))
        return;
    if (!ref.entry && o.no_create) {
        reply_null(c->reply);
        return;
    }
    struct stream_id id, last = STREAM_ID_MIN;
    if (ref.entry)
        last = stream_root_of(ref.entry)->last;
    if (!choose_id(c, &o, last, &id))
        return;
    bool is_new = !ref.entry;
    struct stream_root *s = is_new ? stream_create(&ref) : stream_own(&ref);
    stream_add(s, &c->ks->epoch, &c->ks->limits, id, c->argv + fields_at, (size_t)fields / 2);
    reply_stream_id(c->reply, id);
    if (is_new)
        call_changed(c, c->db, ref.key, EVENT_NEW_KEY, "new", 0);
    changed(c, ref.key, "xadd", 1);
    if (o.trims && refs_matter(&o, s)) {
        call_effect_group(c);
        add_effect(c, id, fields_at, s, false);
        trim(c, &ref, &o, 0);
        return;
    }
    bool trimmed = o.trims && stream_trim_front(s, &c->ks->epoch, &o.trim) > 0;
    if (trimmed)
        changed(c, ref.key, "xtrim", 0);
    if (!o.id_given || o.auto_seq || o.trims || o.no_create || o.refs_given)
        add_effect(c, id, fields_at, s, trimmed);
}

void cmd_xtrim(struct call *c)
{
    struct add_options o;
    int ignored;
    if (!parse_options(c, false, &o, &ignored))
        return;
    struct keyref ref;
    if (!call_stream_write(c, c->argv[1], &ref))
        return;
    uint64_t removed = 0;
    if (ref.entry) {
        if (refs_matter(&o, stream_root_of(ref.entry)))
            call_effect_group(c);
        removed = trim(c, &ref, &o, 1);
    }
    reply_int(c->reply, (int64_t)removed);
}

void cmd_xdel(struct call *c)
{
    struct keyref ref;
    struct stream_id id;
    if (!call_stream_write(c, c->argv[1], &ref))
        return;
    if (!ref.entry) {
        reply_int(c->reply, 0);
        return;
    }
    for (int i = 2; i < c->argc; i++) {
        if (!call_stream_id_strict(c, c->argv[i], 0, &id, NULL))
            return;
    }
    struct stream_root *s = stream_own(&ref);
    uint64_t deleted = 0;
    for (int i = 2; i < c->argc; i++) {
        stream_id_parse(c->argv[i], 0, &id);
        deleted += stream_delete(s, &c->ks->epoch, id);
    }
    if (deleted > 0)
        changed(c, ref.key, "xdel", deleted);
    reply_int(c->reply, (int64_t)deleted);
}

void cmd_xlen(struct call *c)
{
    struct entry *e;
    if (call_find(c, c->argv[1], ENTRY_STREAM, &e))
        reply_int(c->reply, e ? (int64_t)stream_root_of(e)->length : 0);
}

static void range(struct call *c, bool reverse)
{
    struct stream_id from, to;
    int64_t count = -1;
    if (!call_stream_start(c, c->argv[reverse ? 3 : 2], &from) ||
        !call_stream_end(c, c->argv[reverse ? 2 : 3], &to))
        return;
    for (int i = 4; i < c->argc; i++) {
        if (!slice_is(c->argv[i], "count") || i + 1 == c->argc) {
            reply_syntax_error(c->reply);
            return;
        }
        if (!call_int64(c, c->argv[++i], &count, NULL))
            return;
        if (count < 0)
            count = 0;
    }
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_STREAM, &e))
        return;
    if (!e)
        reply_empty_array(c->reply);
    else if (count == 0)
        reply_null_array(c->reply);
    else
        reply_stream_range(c->reply, stream_root_of(e), from, to, count < 0 ? 0 : (uint64_t)count,
                           reverse);
}

void cmd_xrange(struct call *c)
{
    range(c, false);
}

void cmd_xrevrange(struct call *c)
{
    range(c, true);
}

void cmd_xsetid(struct call *c)
{
    struct stream_id id, max_deleted = STREAM_ID_MIN;
    int64_t added = -1;
    if (!call_stream_id_strict(c, c->argv[2], 0, &id, NULL))
        return;
    for (int i = 3; i < c->argc; i++) {
        bool more = i + 1 < c->argc;
        if (slice_is(c->argv[i], "entriesadded") && more) {
            if (!call_int64_range(c, c->argv[++i], INT64_MIN, INT64_MAX, &added, NULL))
                return;
            if (added < 0) {
                reply_error(c->reply, "ERR entries_added must be positive");
                return;
            }
        } else if (slice_is(c->argv[i], "maxdeletedid") && more) {
            if (!call_stream_id_strict(c, c->argv[++i], 0, &max_deleted, NULL))
                return;
            if (stream_id_compare(id, max_deleted) < 0) {
                reply_error(c->reply, "ERR The ID specified in XSETID is smaller than the provided "
                                      "max_deleted_entry_id");
                return;
            }
        } else {
            reply_syntax_error(c->reply);
            return;
        }
    }
    struct keyref ref;
    if (!call_stream_write(c, c->argv[1], &ref))
        return;
    if (!ref.entry) {
        reply_error(c->reply, "ERR no such key");
        return;
    }
    struct stream_root *s = stream_own(&ref);
    struct stream_item newest;
    if (s->length > 0) {
        if (stream_edge(s, true, &newest) && stream_id_compare(id, newest.id) < 0) {
            reply_error(
                c->reply,
                "ERR The ID specified in XSETID is smaller than the target stream top item");
            return;
        }
        if (added != -1 && s->length > (uint64_t)added) {
            reply_error(c->reply, "ERR The entries_added specified in XSETID is smaller than the "
                                  "target stream length");
            return;
        }
    }
    s->last = id;
    if (added != -1)
        s->added = (uint64_t)added;
    if (!stream_id_is_zero(max_deleted))
        s->max_deleted = max_deleted;
    reply_ok(c->reply);
    call_changed_aside(c, c->db, ref.key, EVENT_STREAM, "xsetid", 1);
}
