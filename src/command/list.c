/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on lists, but for the blocking ones (list_wait.c).
 */
#include "command/list_common.h"

#include "base/mem.h"
#include "handlers.h"

static void changed(struct call *c, struct slice key, const char *event, uint64_t changes)
{
    call_changed(c, c->db, key, EVENT_LIST, event, changes);
}

static void tell_new(struct call *c, struct slice key)
{
    call_changed(c, c->db, key, EVENT_NEW_KEY, "new", 0);
}

/* When the list is gone, as its last element was removed. */
static void tell_if_gone(struct call *c, const struct keyref *ref)
{
    if (!ref->entry)
        call_changed(c, c->db, ref->key, EVENT_GENERIC, "del", 0);
}

static const char *push_event(enum list_end end)
{
    return end == LIST_HEAD ? "lpush" : "rpush";
}

static const char *pop_event(enum list_end end)
{
    return end == LIST_HEAD ? "lpop" : "rpop";
}

static void push(struct call *c, enum list_end end, bool create)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_LIST, &ref))
        return;
    bool is_new = !ref.entry;
    if (is_new && !create) {
        reply_int(c->reply, 0);
        return;
    }
    size_t count = (size_t)c->argc - 2;
    list_push(&ref, end, c->argv + 2, count);
    reply_int(c->reply, (int64_t)list_count(ref.entry));
    if (is_new)
        tell_new(c, ref.key);
    changed(c, ref.key, push_event(end), count);
}

void cmd_lpush(struct call *c)
{
    push(c, LIST_HEAD, true);
}

void cmd_rpush(struct call *c)
{
    push(c, LIST_TAIL, true);
}

void cmd_lpushx(struct call *c)
{
    push(c, LIST_HEAD, false);
}

void cmd_rpushx(struct call *c)
{
    push(c, LIST_TAIL, false);
}

static void reply_item(void *ctx, struct slice item)
{
    reply_bulk(ctx, item);
}

void list_reply_pop(struct call *c, struct keyref *ref, enum list_end end, uint64_t count)
{
    uint64_t popped = list_pop(ref, end, count, reply_item, c->reply);
    changed(c, ref->key, pop_event(end), popped);
    tell_if_gone(c, ref);
}

static void pop(struct call *c, enum list_end end)
{
    int64_t count = 1;
    bool has_count = c->argc == 3;
    if (c->argc > 3) {
        reply_errorf(c->reply, "ERR wrong number of arguments for '%s' command",
                     c->command->full_name);
        return;
    }
    if (has_count && !call_int64_range(c, c->argv[2], 0, INT64_MAX, &count,
                                       "ERR value is out of range, must be positive"))
        return;
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_LIST, &ref))
        return;
    if (!ref.entry) {
        if (has_count)
            reply_null_array(c->reply);
        else
            reply_null(c->reply);
        return;
    }
    if (count == 0) {
        reply_empty_array(c->reply);
        return;
    }
    uint64_t have = list_count(ref.entry);
    if (has_count)
        reply_array(c->reply, (uint64_t)count < have ? (uint64_t)count : have);
    list_reply_pop(c, &ref, end, (uint64_t)count);
}

void cmd_lpop(struct call *c)
{
    pop(c, LIST_HEAD);
}

void cmd_rpop(struct call *c)
{
    pop(c, LIST_TAIL);
}

bool list_parse_end(struct call *c, struct slice word, enum list_end *end)
{
    if (slice_is(word, "left")) {
        *end = LIST_HEAD;
    } else if (slice_is(word, "right")) {
        *end = LIST_TAIL;
    } else {
        reply_syntax_error(c->reply);
        return false;
    }
    return true;
}

static void take_items(struct call *c, struct keyref *ref, int end, uint64_t count)
{
    list_reply_pop(c, ref, (enum list_end)end, count);
}

const struct mpop_kind list_mpop = {.type = ENTRY_LIST,
                                    .words = {"left", "right"},
                                    .effects = {"LPOP", "RPOP"},
                                    .count = list_count,
                                    .take = take_items};

void cmd_lmpop(struct call *c)
{
    mpop(c, &list_mpop);
}

/* A copy of an element, on the stack if it is short. */
struct kept {
    struct slice item;
    char *heap;
    char stack[256];
};

static void keep(struct kept *kept, const struct entry *e, enum list_end end)
{
    struct list_iter it;
    struct slice item = {NULL, 0};
    list_iter_init(&it, e, end == LIST_HEAD ? 0 : list_count(e) - 1, false);
    list_iter_next(&it, &item);
    kept->heap = NULL;
    char *to = kept->stack;
    if (item.size > sizeof(kept->stack))
        to = kept->heap = mem_alloc(item.size);
    if (item.size > 0)
        memcpy(to, item.data, item.size);
    kept->item = slice_of(to, item.size);
}

bool list_reply_move(struct call *c, enum list_end from_end, enum list_end to_end)
{
    struct keyref from, to;
    if (!call_find_write(c, c->argv[1], ENTRY_LIST, &from))
        return true;
    if (!from.entry)
        return false;
    bool same = slice_equal(c->argv[1], c->argv[2]);
    if (!same && !call_find_write(c, c->argv[2], ENTRY_LIST, &to))
        return true;
    struct kept kept;
    keep(&kept, from.entry, from_end);
    bool is_new = false;
    if (same) {
        /* Pushed first, so that the key with its expiry stays when there is one element only. Where
         * it goes back to the end that it came from nothing is changed. */
        if (from_end != to_end) {
            list_push(&from, to_end, &kept.item, 1);
            list_pop(&from, from_end, 1, NULL, NULL);
        }
    } else {
        is_new = !to.entry;
        list_pop(&from, from_end, 1, NULL, NULL);
        list_push(&to, to_end, &kept.item, 1);
    }
    reply_bulk(c->reply, kept.item);
    mem_free(kept.heap);
    if (is_new)
        tell_new(c, c->argv[2]);
    changed(c, c->argv[2], push_event(to_end), 0);
    changed(c, c->argv[1], pop_event(from_end), 1);
    tell_if_gone(c, &from);
    return true;
}

void cmd_lmove(struct call *c)
{
    enum list_end from, to;
    if (list_parse_end(c, c->argv[3], &from) && list_parse_end(c, c->argv[4], &to) &&
        !list_reply_move(c, from, to))
        reply_null(c->reply);
}

void cmd_rpoplpush(struct call *c)
{
    if (!list_reply_move(c, LIST_TAIL, LIST_HEAD))
        reply_null(c->reply);
}

void cmd_llen(struct call *c)
{
    struct entry *e;
    if (call_find(c, c->argv[1], ENTRY_LIST, &e))
        reply_int(c->reply, e ? (int64_t)list_count(e) : 0);
}

/* The position that an index means, negative ones counting from the end; false beyond the list. */
static bool resolve_index(int64_t index, uint64_t count, uint64_t *position)
{
    if (index < 0)
        index += (int64_t)count;
    *position = (uint64_t)index;
    return index >= 0 && (uint64_t)index < count;
}

/* The elements that a range from start to end, both included, means. */
static void resolve_range(int64_t start, int64_t end, uint64_t total, uint64_t *first,
                          uint64_t *count)
{
    int64_t n = (int64_t)total;
    if (start < 0)
        start = start + n < 0 ? 0 : start + n;
    if (end < 0)
        end += n;
    if (end >= n)
        end = n - 1;
    *first = (uint64_t)start;
    *count = start > end || start >= n ? 0 : (uint64_t)(end - start) + 1;
}

void cmd_lindex(struct call *c)
{
    struct entry *e;
    int64_t index;
    if (!call_find(c, c->argv[1], ENTRY_LIST, &e))
        return;
    if (!e) {
        reply_null(c->reply);
        return;
    }
    if (!call_int64(c, c->argv[2], &index, NULL))
        return;
    uint64_t position;
    struct list_iter it;
    struct slice item;
    if (!resolve_index(index, list_count(e), &position)) {
        reply_null(c->reply);
        return;
    }
    list_iter_init(&it, e, position, false);
    list_iter_next(&it, &item);
    reply_bulk(c->reply, item);
}

void cmd_lrange(struct call *c)
{
    int64_t start, end;
    struct entry *e;
    if (!call_int64(c, c->argv[2], &start, NULL) || !call_int64(c, c->argv[3], &end, NULL) ||
        !call_find(c, c->argv[1], ENTRY_LIST, &e))
        return;
    uint64_t first = 0, count = 0;
    if (e)
        resolve_range(start, end, list_count(e), &first, &count);
    reply_array(c->reply, count);
    if (count == 0)
        return;
    struct list_iter it;
    struct slice item;
    list_iter_init(&it, e, first, false);
    for (; count > 0 && list_iter_next(&it, &item); count--)
        reply_bulk(c->reply, item);
}

void cmd_ltrim(struct call *c)
{
    int64_t start, end;
    struct keyref ref;
    if (!call_int64(c, c->argv[2], &start, NULL) || !call_int64(c, c->argv[3], &end, NULL) ||
        !call_find_write(c, c->argv[1], ENTRY_LIST, &ref))
        return;
    if (ref.entry) {
        uint64_t first, count, total = list_count(ref.entry);
        resolve_range(start, end, total, &first, &count);
        list_trim(&ref, count ? first : 0, count);
        changed(c, ref.key, "ltrim", total - count);
        tell_if_gone(c, &ref);
    }
    reply_ok(c->reply);
}

void cmd_lset(struct call *c)
{
    struct keyref ref;
    int64_t index;
    uint64_t position;
    if (!call_find_write(c, c->argv[1], ENTRY_LIST, &ref))
        return;
    if (!ref.entry) {
        reply_error(c->reply, "ERR no such key");
        return;
    }
    if (!call_int64(c, c->argv[2], &index, NULL))
        return;
    if (!resolve_index(index, list_count(ref.entry), &position)) {
        reply_error(c->reply, "ERR index out of range");
        return;
    }
    list_set(&ref, position, c->argv[3]);
    reply_ok(c->reply);
    changed(c, ref.key, "lset", 1);
}

void cmd_linsert(struct call *c)
{
    bool before = slice_is(c->argv[2], "before");
    if (!before && !slice_is(c->argv[2], "after")) {
        reply_syntax_error(c->reply);
        return;
    }
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_LIST, &ref))
        return;
    if (!ref.entry) {
        reply_int(c->reply, 0);
        return;
    }
    if (!list_insert(&ref, c->argv[3], before, c->argv[4])) {
        reply_int(c->reply, -1);
        return;
    }
    reply_int(c->reply, (int64_t)list_count(ref.entry));
    changed(c, ref.key, "linsert", 1);
}

void cmd_lrem(struct call *c)
{
    int64_t count;
    struct keyref ref;
    if (!call_int64(c, c->argv[2], &count, NULL) ||
        !call_find_write(c, c->argv[1], ENTRY_LIST, &ref))
        return;
    if (!ref.entry) {
        reply_int(c->reply, 0);
        return;
    }
    bool reverse = count < 0;
    uint64_t limit = reverse ? 0 - (uint64_t)count : (uint64_t)count;
    uint64_t removed = list_remove(&ref, c->argv[3], limit, reverse);
    reply_int(c->reply, (int64_t)removed);
    if (removed > 0) {
        changed(c, ref.key, "lrem", removed);
        tell_if_gone(c, &ref);
    }
}

struct lpos_options {
    int64_t rank, count, max_length; /* count: -1 when it is not given */
};

static bool parse_lpos(struct call *c, struct lpos_options *o)
{
    *o = (struct lpos_options){1, -1, 0};
    for (int i = 3; i < c->argc; i += 2) {
        struct slice option = c->argv[i];
        if (i + 1 == c->argc) {
            reply_syntax_error(c->reply);
            return false;
        }
        struct slice value = c->argv[i + 1];
        if (slice_is(option, "rank")) {
            if (!call_int64(c, value, &o->rank, NULL))
                return false;
            if (o->rank == 0) {
                reply_error(c->reply,
                            "ERR RANK can't be zero: use 1 to start from the first match, 2 from "
                            "the second ... or use negative to start from the end of the list");
                return false;
            }
        } else if (slice_is(option, "count")) {
            if (!call_int64_range(c, value, 0, INT64_MAX, &o->count, "ERR COUNT can't be negative"))
                return false;
        } else if (slice_is(option, "maxlen")) {
            if (!call_int64_range(c, value, 0, INT64_MAX, &o->max_length,
                                  "ERR MAXLEN can't be negative"))
                return false;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

/* The next match from `seen` elements on; false when there is none within the limit. */
static bool next_match(struct list_iter *it, struct slice wanted, int64_t max_length, int64_t *seen)
{
    struct slice item;
    while ((max_length == 0 || *seen < max_length) && list_iter_next(it, &item)) {
        ++*seen;
        if (slice_equal(item, wanted))
            return true;
    }
    return false;
}

void cmd_lpos(struct call *c)
{
    struct lpos_options o;
    struct entry *e;
    if (!parse_lpos(c, &o) || !call_find(c, c->argv[1], ENTRY_LIST, &e))
        return;
    bool many = o.count != -1;
    if (!e) {
        if (many)
            reply_empty_array(c->reply);
        else
            reply_null(c->reply);
        return;
    }
    bool reverse = o.rank < 0;
    /* Redis cannot negate the lowest number either: there it skips nothing. */
    int64_t to_skip = o.rank == INT64_MIN ? 0 : (reverse ? -o.rank : o.rank) - 1;
    int64_t total = (int64_t)list_count(e), seen = 0;
    uint64_t found = 0, wanted = many ? (uint64_t)o.count : 1;
    struct reply_mark mark = {0};
    if (many)
        mark = reply_deferred_begin(c->reply);
    struct list_iter it;
    list_iter_init(&it, e, reverse ? (uint64_t)total - 1 : 0, reverse);
    while (next_match(&it, c->argv[2], o.max_length, &seen)) {
        if (to_skip-- > 0)
            continue;
        reply_int(c->reply, reverse ? total - seen : seen - 1);
        if (++found == wanted)
            break;
    }
    if (many)
        reply_deferred_array(c->reply, mark, found);
    else if (found == 0)
        reply_null(c->reply);
}
