/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on single members of sorted sets: adding, removing, scores, ranks and scanning. For
 * ranges see zset_range.c, for taking members out zset_pop.c, for several sets zset_algebra.c.
 */
#include "base/mem.h"
#include "command/scan_args.h"
#include "command/zset_common.h"
#include "handlers.h"

/* ---- ZADD, ZINCRBY ---- */

struct zadd {
    unsigned flags; /* enum zset_add_flag */
    bool count_changed;
    int first, pairs; /* of scores and members in argv */
};

static bool parse_zadd(struct call *c, struct zadd *z)
{
    static const struct {
        const char *word;
        unsigned flag;
    } options[] = {{"nx", ZSET_NX}, {"xx", ZSET_XX},     {"gt", ZSET_GT},
                   {"lt", ZSET_LT}, {"incr", ZSET_INCR}, {"ch", 0}};
    const size_t option_count = sizeof(options) / sizeof(options[0]);
    int i = 2;
    for (; i < c->argc; i++) {
        size_t o = 0;
        while (o < option_count && !slice_is(c->argv[i], options[o].word))
            o++;
        if (o == option_count)
            break;
        z->flags |= options[o].flag;
        z->count_changed |= options[o].flag == 0;
    }
    z->first = i;
    z->pairs = (c->argc - i) / 2;
    bool nx = z->flags & ZSET_NX, gt = z->flags & ZSET_GT, lt = z->flags & ZSET_LT;
    if ((c->argc - i) % 2 != 0 || z->pairs == 0)
        reply_syntax_error(c->reply);
    else if (nx && z->flags & ZSET_XX)
        reply_error(c->reply, "ERR XX and NX options at the same time are not compatible");
    else if ((gt && nx) || (lt && nx) || (gt && lt))
        reply_error(c->reply, "ERR GT, LT, and/or NX options at the same time are not compatible");
    else if (z->flags & ZSET_INCR && z->pairs > 1)
        reply_error(c->reply, "ERR INCR option supports a single increment-element pair");
    else
        return true;
    return false;
}

static void add_pairs(struct call *c, const struct zadd *z, const double *scores)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_ZSET, &ref))
        return;
    bool is_new = !ref.entry;
    int added = 0, updated = 0, skipped = 0;
    double result = 0;
    for (int i = 0; i < z->pairs; i++) {
        switch (zset_add(&ref, c->argv[z->first + 2 * i + 1], scores[i], z->flags, &result)) {
        case ZSET_ADDED:
            added++;
            break;
        case ZSET_UPDATED:
            updated++;
            break;
        case ZSET_SKIPPED:
            skipped++;
            break;
        case ZSET_SAME:
            break;
        case ZSET_NAN:
            /* Only with INCR, which takes one pair: nothing was changed before. */
            reply_error(c->reply, "ERR resulting score is not a number (NaN)");
            return;
        }
    }
    if (!(z->flags & ZSET_INCR))
        reply_int(c->reply, z->count_changed ? added + updated : added);
    else if (skipped)
        reply_null(c->reply);
    else
        reply_double(c->reply, result);
    if (added + updated > 0)
        zset_tell(c, ref.key, is_new, z->flags & ZSET_INCR ? "zincr" : "zadd",
                  (uint64_t)(added + updated));
}

#define SCORES_ON_STACK 64

static void add(struct call *c, unsigned flags)
{
    struct zadd z = {.flags = flags};
    if (!parse_zadd(c, &z))
        return;
    /* All scores are looked at before anything is changed. */
    double stack[SCORES_ON_STACK], *scores = stack;
    if (z.pairs > SCORES_ON_STACK)
        scores = mem_alloc((size_t)z.pairs * sizeof(*scores));
    int i = 0;
    while (i < z.pairs && call_double(c, c->argv[z.first + 2 * i], &scores[i], NULL))
        i++;
    if (i == z.pairs)
        add_pairs(c, &z, scores);
    if (scores != stack)
        mem_free(scores);
}

void cmd_zadd(struct call *c)
{
    add(c, 0);
}

void cmd_zincrby(struct call *c)
{
    add(c, ZSET_INCR);
}

/* ---- single members ---- */

void cmd_zrem(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_ZSET, &ref))
        return;
    uint64_t removed = 0;
    for (int i = 2; i < c->argc && ref.entry; i++)
        removed += zset_remove(&ref, c->argv[i]);
    if (removed > 0) {
        zset_tell(c, ref.key, false, "zrem", removed);
        zset_tell_if_gone(c, &ref);
    }
    reply_int(c->reply, (int64_t)removed);
}

void cmd_zcard(struct call *c)
{
    struct entry *e;
    if (call_find(c, c->argv[1], ENTRY_ZSET, &e))
        reply_int(c->reply, e ? (int64_t)zset_count(e) : 0);
}

static void reply_score(struct call *c, const struct entry *e, struct slice member)
{
    double score;
    if (e && zset_score(e, member, &score))
        reply_double(c->reply, score);
    else
        reply_null(c->reply);
}

void cmd_zscore(struct call *c)
{
    struct entry *e;
    if (call_find(c, c->argv[1], ENTRY_ZSET, &e))
        reply_score(c, e, c->argv[2]);
}

void cmd_zmscore(struct call *c)
{
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    reply_array(c->reply, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++)
        reply_score(c, e, c->argv[i]);
}

static void reply_rank(struct call *c, bool reverse)
{
    bool with_score = c->argc == 4;
    struct entry *e;
    if (c->argc > 4) {
        reply_errorf(c->reply, "ERR wrong number of arguments for '%s' command",
                     c->command->full_name);
        return;
    }
    if (with_score && !slice_is(c->argv[3], "withscore")) {
        reply_syntax_error(c->reply);
        return;
    }
    if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    uint64_t rank;
    double score;
    if (!e || !zset_rank(e, c->argv[2], &rank, &score)) {
        if (with_score)
            reply_null_array(c->reply);
        else
            reply_null(c->reply);
        return;
    }
    if (with_score)
        reply_array(c->reply, 2);
    reply_int(c->reply, (int64_t)(reverse ? zset_count(e) - 1 - rank : rank));
    if (with_score)
        reply_double(c->reply, score);
}

void cmd_zrank(struct call *c)
{
    reply_rank(c, false);
}

void cmd_zrevrank(struct call *c)
{
    reply_rank(c, true);
}

/* ---- ZSCAN ---- */

/* What a scan step has given: the cursor is replied before it, but known only after it. */
struct scanned {
    const struct scan_args *args;
    struct zset_item *items;
    size_t count, capacity;
};

static void keep_scanned(void *ctx, const struct zset_item *item)
{
    struct scanned *s = ctx;
    if (!scan_matches(s->args, item->member))
        return;
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? s->capacity * 2 : 64;
        s->items = mem_realloc(s->items, s->capacity * sizeof(*s->items));
    }
    s->items[s->count++] = *item;
}

static void reply_scanned(struct call *c, const struct entry *e, const struct zset_item *item)
{
    reply_bulk(c->reply, item->member);
    if (e->flags & ENTRY_GROWN) {
        reply_bulk_double(c->reply, item->score);
        return;
    }
    char text[NUMBER_DOUBLE_SIZE];
    reply_bulk(c->reply, slice_of(text, zset_format_score(text, item->score)));
}

struct scan_reply {
    struct call *c;
    const struct entry *e;
    const struct scan_args *args;
    size_t count;
};

static void reply_if_matching(void *ctx, const struct zset_item *item)
{
    struct scan_reply *s = ctx;
    if (!scan_matches(s->args, item->member))
        return;
    reply_scanned(s->c, s->e, item);
    s->count++;
}

void cmd_zscan(struct call *c)
{
    uint64_t cursor;
    struct entry *e;
    struct scan_args args;
    if (!scan_parse_cursor(c, c->argv[2], &cursor) || !call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    if (!e) {
        scan_reply_empty(c);
        return;
    }
    if (!scan_parse_options(c, 3, SCAN_MEMBERS, &args))
        return;
    if (entry_encoding(e) == ENTRY_LISTPACK) {
        struct scan_reply s = {c, e, &args, 0};
        scan_reply_cursor(c, 0);
        struct reply_mark mark = reply_deferred_begin(c->reply);
        zset_scan(e, 0, 0, reply_if_matching, &s);
        reply_deferred_array(c->reply, mark, s.count * 2);
        return;
    }
    struct scanned s = {.args = &args};
    cursor = zset_scan(e, cursor, args.count, keep_scanned, &s);
    scan_reply_cursor(c, cursor);
    reply_array(c->reply, s.count * 2);
    for (size_t i = 0; i < s.count; i++)
        reply_scanned(c, e, &s.items[i]);
    mem_free(s.items);
}
