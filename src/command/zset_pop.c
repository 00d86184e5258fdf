/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Members from an end of a sorted set or at random: ZPOPMIN, ZPOPMAX, ZMPOP, ZRANDMEMBER.
 */
#include "base/mem.h"
#include "command/member_reply.h"
#include "command/zset_common.h"
#include "handlers.h"

/* Reply the members and remove them. */
static void take(struct call *c, struct keyref *ref, bool highest, uint64_t count, bool pairs)
{
    struct zset_iter it;
    struct zset_item item;
    uint64_t total = zset_count(ref->entry);
    zset_iter_init(&it, ref->entry, highest ? total - 1 : 0, highest);
    for (uint64_t i = 0; i < count && zset_iter_next(&it, &item); i++) {
        if (pairs)
            reply_array(c->reply, 2);
        reply_bulk(c->reply, item.member);
        reply_double(c->reply, item.score);
    }
    zset_remove_ranks(ref, highest ? total - count : 0, count);
    zset_tell(c, ref->key, false, highest ? "zpopmax" : "zpopmin", count);
    zset_tell_if_gone(c, ref);
}

static uint64_t at_most(int64_t count, const struct entry *e)
{
    uint64_t have = zset_count(e);
    return (uint64_t)count < have ? (uint64_t)count : have;
}

static void pop(struct call *c, bool highest)
{
    int64_t count = 1;
    struct keyref ref;
    if (c->argc > 3) {
        reply_syntax_error(c->reply);
        return;
    }
    if (c->argc == 3 && !call_int64_range(c, c->argv[2], 0, INT64_MAX, &count,
                                          "ERR value is out of range, must be positive"))
        return;
    if (!call_find_write(c, c->argv[1], ENTRY_ZSET, &ref))
        return;
    if (!ref.entry || count == 0) {
        reply_empty_array(c->reply);
        return;
    }
    uint64_t n = at_most(count, ref.entry);
    /* One pair without a count is flat in RESP3, too. */
    bool pairs = c->reply->protocol > 2 && c->argc == 3;
    reply_array(c->reply, pairs ? n : n * 2);
    take(c, &ref, highest, n, pairs);
}

void cmd_zpopmin(struct call *c)
{
    pop(c, false);
}

void cmd_zpopmax(struct call *c)
{
    pop(c, true);
}

static void take_items(struct call *c, struct keyref *ref, int highest, uint64_t count)
{
    take(c, ref, highest != 0, count, true);
}

const struct mpop_kind zset_mpop = {.type = ENTRY_ZSET,
                                    .words = {"min", "max"},
                                    .effects = {"ZPOPMIN", "ZPOPMAX"},
                                    .count = zset_count,
                                    .take = take_items};

void cmd_zmpop(struct call *c)
{
    mpop(c, &zset_mpop);
}

void zset_reply_pop(struct call *c, struct keyref *ref, bool highest)
{
    reply_array(c->reply, 3);
    reply_bulk(c->reply, ref->key);
    take(c, ref, highest, 1, false);
    CALL_EFFECT(c, c->db, highest ? SLICE("ZPOPMAX") : SLICE("ZPOPMIN"), ref->key);
}

/* ---- ZRANDMEMBER ---- */

static void reply_at_rank(struct call *c, const struct entry *e, uint64_t rank, bool with_scores)
{
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, e, rank, false);
    zset_iter_next(&it, &item);
    zset_reply_item(c->reply, &item, with_scores);
}

/* `count` different members of many more: ranks are drawn until enough different ones were. */
static void draw_few(struct call *c, const struct entry *e, uint64_t count, bool with_scores)
{
    size_t slots = 16;
    while (slots < count * 2)
        slots *= 2;
    uint64_t *drawn = mem_zalloc(slots * sizeof(*drawn)); /* rank + 1, hashed; 0: free */
    for (uint64_t n = 0; n < count;) {
        uint64_t rank = keyspace_random_below(c->ks, zset_count(e));
        size_t slot = (size_t)(rank * 0x9e3779b97f4a7c15U) & (slots - 1);
        while (drawn[slot] != 0 && drawn[slot] != rank + 1)
            slot = (slot + 1) & (slots - 1);
        if (drawn[slot] != 0)
            continue;
        drawn[slot] = rank + 1;
        n++;
        reply_at_rank(c, e, rank, with_scores);
    }
    mem_free(drawn);
}

/* `count` different members of not many more: one walk takes each with the chance that is left. */
static void draw_many(struct call *c, const struct entry *e, uint64_t count, bool with_scores)
{
    struct zset_iter it;
    struct zset_item item;
    uint64_t left = zset_count(e);
    /* Downwards, as Redis gives all of them. */
    zset_iter_init(&it, e, left - 1, true);
    for (; count > 0 && zset_iter_next(&it, &item); left--) {
        if (count < left && keyspace_random_below(c->ks, left) >= count)
            continue;
        zset_reply_item(c->reply, &item, with_scores);
        count--;
    }
}

static void reply_random(struct call *c, const struct entry *e, int64_t count, bool with_scores)
{
    if (count < 0) {
        uint64_t n = (uint64_t)-count;
        if (!member_reply_fits(c, e, n))
            return;
        zset_reply_begin(c->reply, n, with_scores);
        while (n-- > 0)
            reply_at_rank(c, e, keyspace_random_below(c->ks, zset_count(e)), with_scores);
        return;
    }
    uint64_t n = at_most(count, e);
    zset_reply_begin(c->reply, n, with_scores);
    if (n > zset_count(e) / 4)
        draw_many(c, e, n, with_scores);
    else
        draw_few(c, e, n, with_scores);
}

void cmd_zrandmember(struct call *c)
{
    struct entry *e;
    if (c->argc == 2) {
        if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
            return;
        if (e)
            reply_at_rank(c, e, keyspace_random_below(c->ks, zset_count(e)), false);
        else
            reply_null(c->reply);
        return;
    }
    int64_t count;
    if (!call_int64_range(c, c->argv[2], -INT64_MAX, INT64_MAX, &count, NULL))
        return;
    bool with_scores = c->argc == 4;
    if (c->argc > 4 || (with_scores && !slice_is(c->argv[3], "withscores"))) {
        reply_syntax_error(c->reply);
        return;
    }
    if (with_scores && (count < -INT64_MAX / 2 || count > INT64_MAX / 2)) {
        reply_error(c->reply, "ERR value is out of range");
        return;
    }
    if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    if (e && count != 0)
        reply_random(c, e, count, with_scores);
    else
        reply_empty_array(c->reply);
}
