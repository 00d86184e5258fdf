/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on one set. Those that combine several are in set_algebra.c.
 */
#include "type/set.h"

#include "command/member_reply.h"
#include "handlers.h"

/* A set to read; NULL when the key is not there. False: an error was replied. */
static bool find_set(struct call *c, struct entry **e)
{
    return call_find(c, c->argv[1], ENTRY_SET, e);
}

static void changed(struct call *c, const struct keyref *ref, bool is_new, const char *event,
                    uint64_t changes)
{
    if (is_new)
        call_changed(c, c->db, ref->key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, ref->key, EVENT_SET, event, changes);
}

/* After members were removed: tell of them, and of the key if it went with the last. */
static void members_removed(struct call *c, const struct keyref *ref, const char *event,
                            uint64_t count)
{
    changed(c, ref, false, event, count);
    if (ref->entry == NULL)
        call_changed(c, c->db, ref->key, EVENT_GENERIC, "del", 0);
}

/* ---- writing ---- */

void cmd_sadd(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_SET, &ref))
        return;
    bool is_new = ref.entry == NULL;
    int64_t added = 0;
    for (int i = 2; i < c->argc; i++)
        added += set_add(&ref, c->argv[i]);
    if (added)
        changed(c, &ref, is_new, "sadd", (uint64_t)added);
    reply_int(c->reply, added);
}

void cmd_srem(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_SET, &ref))
        return;
    int64_t removed = 0;
    for (int i = 2; i < c->argc && ref.entry; i++)
        removed += set_remove(&ref, c->argv[i]);
    if (removed)
        members_removed(c, &ref, "srem", (uint64_t)removed);
    reply_int(c->reply, removed);
}

void cmd_smove(struct call *c)
{
    struct keyref from, to;
    struct slice member = c->argv[3];
    call_find_write_any(c, c->argv[1], &from);
    if (from.entry == NULL) {
        reply_int(c->reply, 0);
        return;
    }
    if (entry_type(from.entry) != ENTRY_SET) {
        reply_wrong_type(c->reply);
        return;
    }
    if (slice_equal(c->argv[1], c->argv[2])) {
        reply_int(c->reply, set_has(from.entry, member));
        return;
    }
    if (!call_find_write(c, c->argv[2], ENTRY_SET, &to))
        return;
    if (!set_remove(&from, member)) {
        reply_int(c->reply, 0);
        return;
    }
    members_removed(c, &from, "srem", 1);
    bool is_new = to.entry == NULL;
    if (set_add(&to, member))
        changed(c, &to, is_new, "sadd", 1);
    reply_int(c->reply, 1);
}

/* Many members are told of in several effects, so that none is too long for who replays it. */
#define POP_EFFECT_MAX 1024

struct popped {
    struct member_reply reply;
    struct call *c;
    struct slice key;
    uint64_t left; /* members that no effect has told of */
    uint64_t room; /* members that the effect begun still takes */
};

static void pop_item(void *ctx, const struct dict_item *item)
{
    struct popped *p = ctx;
    member_reply_item(&p->reply, item);
    if (p->left == 0)
        return;
    if (p->room == 0) {
        p->room = p->left < POP_EFFECT_MAX ? p->left : POP_EFFECT_MAX;
        call_effect_begin(p->c, p->c->db, p->room + 2);
        call_effect_argument(p->c, SLICE("SREM"));
        call_effect_argument(p->c, p->key);
    }
    call_effect_argument(p->c, item->key);
    p->room--;
    p->left--;
}

/* Reply `count` members, remove them, and tell of it. */
static void pop_members(struct call *c, struct keyref *ref, uint64_t count)
{
    struct popped p = {.reply = {c->reply, MEMBER_KEYS}, .c = c, .key = ref->key};
    if (count == set_count(ref->entry)) {
        call_effect_delete(c, c->db, ref->key);
    } else if (c->stream != NULL) {
        p.left = count;
        if (count > POP_EFFECT_MAX)
            call_effect_group(c);
    }
    set_pop(ref, count, pop_item, &p);
    members_removed(c, ref, "spop", count);
}

static void pop_one(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_SET, &ref))
        return;
    if (ref.entry == NULL) {
        reply_null(c->reply);
        return;
    }
    pop_members(c, &ref, 1);
}

void cmd_spop(struct call *c)
{
    if (c->argc == 2) {
        pop_one(c);
        return;
    }
    if (c->argc > 3) {
        reply_syntax_error(c->reply);
        return;
    }
    int64_t count;
    struct keyref ref;
    if (!call_int64_range(c, c->argv[2], 0, INT64_MAX, &count,
                          "ERR value is out of range, must be positive") ||
        !call_find_write(c, c->argv[1], ENTRY_SET, &ref))
        return;
    if (ref.entry == NULL || count == 0) {
        reply_set(c->reply, 0);
        return;
    }
    uint64_t n = (uint64_t)count < set_count(ref.entry) ? (uint64_t)count : set_count(ref.entry);
    reply_set(c->reply, n);
    pop_members(c, &ref, n);
}

/* ---- reading ---- */

void cmd_scard(struct call *c)
{
    struct entry *e;
    if (find_set(c, &e))
        reply_int(c->reply, e ? (int64_t)set_count(e) : 0);
}

void cmd_sismember(struct call *c)
{
    struct entry *e;
    if (find_set(c, &e))
        reply_int(c->reply, e && set_has(e, c->argv[2]));
}

void cmd_smismember(struct call *c)
{
    struct entry *e;
    if (!find_set(c, &e))
        return;
    reply_array(c->reply, (size_t)(c->argc - 2));
    for (int i = 2; i < c->argc; i++)
        reply_int(c->reply, e && set_has(e, c->argv[i]));
}

void cmd_smembers(struct call *c)
{
    struct entry *e;
    if (!find_set(c, &e))
        return;
    reply_set(c->reply, e ? set_count(e) : 0);
    if (e)
        member_reply_all(c, e, MEMBER_KEYS);
}

void cmd_sscan(struct call *c)
{
    member_reply_scan(c, ENTRY_SET);
}

static void reply_random_members(struct call *c)
{
    int64_t count;
    struct entry *e;
    if (!call_int64_range(c, c->argv[2], -INT64_MAX, INT64_MAX, &count, NULL) || !find_set(c, &e))
        return;
    if (e == NULL || count == 0) {
        reply_array(c->reply, 0);
        return;
    }
    struct member_reply m = {c->reply, MEMBER_KEYS};
    uint64_t n = count < 0 ? (uint64_t)-count : (uint64_t)count;
    if (count < 0) {
        if (!member_reply_fits(c, e, n))
            return;
        reply_array(c->reply, n);
        member_random_repeated(e, c->ks, n, member_reply_item, &m);
        return;
    }
    if (n > set_count(e))
        n = set_count(e);
    reply_array(c->reply, n);
    member_random_distinct(e, c->ks, n, member_reply_item, &m);
}

void cmd_srandmember(struct call *c)
{
    if (c->argc == 3) {
        reply_random_members(c);
        return;
    }
    if (c->argc > 3) {
        reply_syntax_error(c->reply);
        return;
    }
    struct entry *e;
    if (!find_set(c, &e))
        return;
    if (e == NULL) {
        reply_null(c->reply);
        return;
    }
    struct dict_item item;
    struct member_buf buf;
    member_random(e, c->ks, &item, &buf);
    reply_bulk(c->reply, item.key);
}
