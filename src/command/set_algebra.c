/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands that combine sets: SINTER, SUNION, SDIFF, what they have to STORE, and SINTERCARD,
 * SUNIONCARD and SDIFFCARD.
 */
#include "type/set_algebra.h"

#include "base/mem.h"
#include "command/member_reply.h"
#include "handlers.h"

/* Most calls name few sets. */
#define SETS_INLINE 16

struct operands {
    int count;
    const struct entry **sets; /* NULL where there is no such key */
    const struct entry *few[SETS_INLINE];
};

static void operands_free(struct operands *o)
{
    if (o->sets != o->few)
        mem_free(o->sets);
}

/* Find the sets argv[first] to argv[first + count - 1]. False, with an error replied and nothing to
 * free: one of them is no set. All are looked at, whatever is missing. */
static bool find_operands(struct call *c, int first, int count, struct operands *o)
{
    o->count = count;
    o->sets = count <= SETS_INLINE ? o->few : mem_alloc((size_t)count * sizeof(*o->sets));
    for (int i = 0; i < count; i++) {
        struct entry *e;
        if (!call_find(c, c->argv[first + i], ENTRY_SET, &e)) {
            operands_free(o);
            return false;
        }
        o->sets[i] = e;
    }
    return true;
}

/* ---- replying ---- */

struct counted_reply {
    struct member_reply reply;
    size_t count;
};

static void reply_and_count(void *ctx, const struct dict_item *item)
{
    struct counted_reply *r = ctx;
    member_reply_item(&r->reply, item);
    r->count++;
}

void cmd_sinter(struct call *c)
{
    struct operands o;
    if (!find_operands(c, 1, c->argc - 1, &o))
        return;
    struct counted_reply r = {.reply = {c->reply, MEMBER_KEYS}};
    struct reply_mark mark = reply_deferred_begin(c->reply);
    set_intersect(o.sets, o.count, 0, reply_and_count, &r);
    reply_deferred_set(c->reply, mark, r.count);
    operands_free(&o);
}

static void reply_combined(struct call *c, enum set_operation operation)
{
    struct operands o;
    if (!find_operands(c, 1, c->argc - 1, &o))
        return;
    struct set_scratch scratch;
    set_scratch_init(&scratch, c->ks, slice_of("", 0));
    set_combine(&scratch, operation, o.sets, o.count);
    const struct entry *e = scratch.ref.entry;
    reply_set(c->reply, e ? set_count(e) : 0);
    if (e)
        member_reply_all(c, e, MEMBER_KEYS);
    set_scratch_deinit(&scratch);
    operands_free(&o);
}

void cmd_sunion(struct call *c)
{
    reply_combined(c, SET_UNION);
}

void cmd_sdiff(struct call *c)
{
    reply_combined(c, SET_DIFFERENCE);
}

/* ---- storing ---- */

static void store_combined(struct call *c, enum set_operation operation, const char *event)
{
    struct operands o;
    if (!find_operands(c, 2, c->argc - 2, &o))
        return;
    struct set_scratch scratch;
    set_scratch_init(&scratch, c->ks, c->argv[1]);
    set_combine(&scratch, operation, o.sets, o.count);
    operands_free(&o);

    struct keyref to;
    call_find_write_any(c, c->argv[1], &to);
    bool was_there = to.entry != NULL;
    set_scratch_move(&scratch, &to);
    set_scratch_deinit(&scratch);
    if (to.entry) {
        if (!was_there)
            call_changed(c, c->db, to.key, EVENT_NEW_KEY, "new", 0);
        call_changed(c, c->db, to.key, EVENT_SET, event, 1);
    } else if (was_there) {
        call_changed(c, c->db, to.key, EVENT_GENERIC, "del", 1);
    }
    reply_int(c->reply, to.entry ? (int64_t)set_count(to.entry) : 0);
}

void cmd_sinterstore(struct call *c)
{
    store_combined(c, SET_INTERSECTION, "sinterstore");
}

void cmd_sunionstore(struct call *c)
{
    store_combined(c, SET_UNION, "sunionstore");
}

void cmd_sdiffstore(struct call *c)
{
    store_combined(c, SET_DIFFERENCE, "sdiffstore");
}

/* ---- counting ---- */

struct card_args {
    struct operands sets;
    uint64_t limit; /* 0: none */
    bool approx;
};

/* numkeys key [key ...] [LIMIT limit] [APPROX]. False: an error was replied. Else o->sets is to be
 * freed. */
static bool parse_card(struct call *c, bool approx_allowed, struct card_args *o)
{
    int64_t numkeys, limit = 0;
    if (!call_int64_range(c, c->argv[1], 1, INT64_MAX, &numkeys,
                          "ERR numkeys should be greater than 0"))
        return false;
    if (numkeys > c->argc - 2) {
        reply_error(c->reply, "ERR Number of keys can't be greater than number of args");
        return false;
    }
    o->approx = false;
    for (int i = 2 + (int)numkeys; i < c->argc; i++) {
        if (approx_allowed && slice_is(c->argv[i], "approx")) {
            o->approx = true;
        } else if (!slice_is(c->argv[i], "limit") || i + 1 == c->argc) {
            reply_syntax_error(c->reply);
            return false;
        } else if (!call_int64_range(c, c->argv[++i], 0, INT64_MAX, &limit,
                                     "ERR LIMIT can't be negative")) {
            return false;
        }
    }
    o->limit = (uint64_t)limit;
    return find_operands(c, 2, (int)numkeys, &o->sets);
}

void cmd_sintercard(struct call *c)
{
    struct card_args o;
    if (!parse_card(c, false, &o))
        return;
    reply_int(c->reply, (int64_t)set_intersect(o.sets.sets, o.sets.count, o.limit, NULL, NULL));
    operands_free(&o.sets);
}

void cmd_sdiffcard(struct call *c)
{
    struct card_args o;
    if (!parse_card(c, false, &o))
        return;
    reply_int(c->reply, (int64_t)set_count_difference(o.sets.sets, o.sets.count, o.limit));
    operands_free(&o.sets);
}

void cmd_sunioncard(struct call *c)
{
    struct card_args o;
    if (!parse_card(c, true, &o))
        return;
    uint64_t found = o.approx ? set_estimate_union(o.sets.sets, o.sets.count)
                              : set_count_union(c->ks, o.sets.sets, o.sets.count, o.limit);
    reply_int(c->reply, (int64_t)(o.limit != 0 && found > o.limit ? o.limit : found));
    operands_free(&o.sets);
}
