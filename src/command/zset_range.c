/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Ranges of sorted sets by rank, score and member: ZRANGE and its older forms, ZRANGESTORE, ZCOUNT,
 * ZLEXCOUNT and ZREMRANGEBY*. All of them are turned into a range of ranks.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/number.h"
#include "command/zset_common.h"
#include "handlers.h"

enum range_kind { BY_RANK, BY_SCORE, BY_LEX };

struct range {
    enum range_kind kind;
    int64_t start, end; /* ranks as given */
    struct zset_score_range score;
    struct zset_lex_range lex;
};

/* A bound of a score range is read as strtod does it, which is more generous than for scores:
 * blanks before it, nothing at all (which is 0) and numbers out of range (which are infinite) are
 * taken, and what follows a NUL is not looked at. */
static bool parse_loosely(struct slice s, double *out)
{
    if (number_parse_double(s, out))
        return true;
    char *text = mem_dup(s.data, s.size);
    char *end;
    *out = strtod(text, &end);
    bool valid = *end == '\0' && !isnan(*out);
    mem_free(text);
    return valid;
}

static bool parse_score_bound(struct slice s, double *bound, bool *open)
{
    *open = s.size > 0 && s.data[0] == '(';
    return parse_loosely(*open ? slice_of(s.data + 1, s.size - 1) : s, bound);
}

static bool parse_lex_bound(struct slice s, struct zset_lex_bound *bound)
{
    char first = s.size > 0 ? s.data[0] : '\0';
    if (first == '(' || first == '[') {
        bound->kind = first == '(' ? ZSET_LEX_OPEN : ZSET_LEX_CLOSED;
        bound->member = slice_of(s.data + 1, s.size - 1);
        return true;
    }
    bound->kind = first == '-' ? ZSET_LEX_LOWEST : ZSET_LEX_HIGHEST;
    bound->member = slice_of("", 0);
    return (first == '-' || first == '+') && (s.size == 1 || s.data[1] == '\0');
}

/* False: an error was replied. */
static bool parse_range(struct call *c, enum range_kind kind, struct slice min, struct slice max,
                        struct range *range)
{
    range->kind = kind;
    switch (kind) {
    case BY_RANK:
        return call_int64(c, min, &range->start, NULL) && call_int64(c, max, &range->end, NULL);
    case BY_SCORE:
        if (parse_score_bound(min, &range->score.min, &range->score.min_open) &&
            parse_score_bound(max, &range->score.max, &range->score.max_open))
            return true;
        reply_error(c->reply, "ERR min or max is not a float");
        return false;
    case BY_LEX:
        break;
    }
    if (parse_lex_bound(min, &range->lex.min) && parse_lex_bound(max, &range->lex.max))
        return true;
    reply_error(c->reply, "ERR min or max not valid string range item");
    return false;
}

/* Ranks as given, counted from the low end or with `reverse` from the high one. */
static struct zset_ranks resolve_ranks(int64_t start, int64_t end, uint64_t total, bool reverse)
{
    int64_t n = (int64_t)total;
    if (start < 0)
        start = start + n < 0 ? 0 : start + n;
    if (end < 0)
        end += n;
    if (end >= n)
        end = n - 1;
    if (start > end || start >= n)
        return (struct zset_ranks){0, 0};
    return (struct zset_ranks){(uint64_t)(reverse ? n - 1 - end : start),
                               (uint64_t)(end - start) + 1};
}

static struct zset_ranks find_ranks(const struct entry *e, const struct range *range, bool reverse)
{
    switch (range->kind) {
    case BY_RANK:
        return resolve_ranks(range->start, range->end, zset_count(e), reverse);
    case BY_SCORE:
        return zset_ranks_by_score(e, &range->score);
    case BY_LEX:
        break;
    }
    return zset_ranks_by_lex(e, &range->lex, reverse);
}

/* ---- ZRANGE and its kin ---- */

enum direction { FORWARD, REVERSE, NO_DIRECTION /* the options say */ };

struct zrange {
    struct range range;
    bool reverse, with_scores;
    int64_t offset, limit; /* limit < 0: none */
};

/* The options behind argv[first + 2]. `kind` < 0 and NO_DIRECTION: the options may give them. */
static bool parse_zrange(struct call *c, int first, bool store, int kind, enum direction direction,
                         struct zrange *z)
{
    *z = (struct zrange){.limit = -1};
    bool kind_is_free = kind < 0, direction_is_free = direction == NO_DIRECTION;
    for (int i = first + 3; i < c->argc; i++) {
        struct slice option = c->argv[i];
        if (!store && slice_is(option, "withscores")) {
            z->with_scores = true;
        } else if (slice_is(option, "limit") && i + 2 < c->argc) {
            if (!call_int64(c, c->argv[i + 1], &z->offset, NULL) ||
                !call_int64(c, c->argv[i + 2], &z->limit, NULL))
                return false;
            i += 2;
        } else if (direction_is_free && slice_is(option, "rev")) {
            direction = REVERSE;
            direction_is_free = false;
        } else if (kind_is_free && slice_is(option, "bylex")) {
            kind = BY_LEX;
            kind_is_free = false;
        } else if (kind_is_free && slice_is(option, "byscore")) {
            kind = BY_SCORE;
            kind_is_free = false;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    if (kind < 0)
        kind = BY_RANK;
    z->reverse = direction == REVERSE;
    if (z->limit != -1 && kind == BY_RANK) {
        reply_error(c->reply, "ERR syntax error, LIMIT is only supported in combination with "
                              "either BYSCORE or BYLEX");
        return false;
    }
    if (z->with_scores && kind == BY_LEX) {
        reply_error(c->reply,
                    "ERR syntax error, WITHSCORES not supported in combination with BYLEX");
        return false;
    }
    /* By score and member a reverse range is given from its upper end. */
    bool swap = z->reverse && kind != BY_RANK;
    struct slice min = c->argv[first + (swap ? 2 : 1)], max = c->argv[first + (swap ? 1 : 2)];
    return parse_range(c, (enum range_kind)kind, min, max, &z->range);
}

/* The ranks that are left of the range by LIMIT. */
static struct zset_ranks limit_ranks(const struct zrange *z, struct zset_ranks ranks)
{
    if (z->range.kind == BY_RANK)
        return ranks;
    if (z->offset < 0 || (uint64_t)z->offset >= ranks.count)
        return (struct zset_ranks){0, 0};
    uint64_t count = ranks.count - (uint64_t)z->offset;
    if (z->limit >= 0 && (uint64_t)z->limit < count)
        count = (uint64_t)z->limit;
    uint64_t end = ranks.first + ranks.count - (uint64_t)z->offset;
    return (struct zset_ranks){z->reverse ? end - count : ranks.first + (uint64_t)z->offset, count};
}

static void reply_range(struct call *c, int kind, enum direction direction)
{
    struct zrange z;
    struct entry *e;
    if (!parse_zrange(c, 1, false, kind, direction, &z) ||
        !call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    if (!e) {
        reply_empty_array(c->reply);
        return;
    }
    struct zset_ranks ranks = limit_ranks(&z, find_ranks(e, &z.range, z.reverse));
    zset_reply_begin(c->reply, ranks.count, z.with_scores);
    if (ranks.count == 0)
        return;
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, e, z.reverse ? ranks.first + ranks.count - 1 : ranks.first, z.reverse);
    for (uint64_t i = 0; i < ranks.count && zset_iter_next(&it, &item); i++)
        zset_reply_item(c->reply, &item, z.with_scores);
}

void cmd_zrange(struct call *c)
{
    reply_range(c, -1, NO_DIRECTION);
}

void cmd_zrevrange(struct call *c)
{
    reply_range(c, BY_RANK, REVERSE);
}

void cmd_zrangebyscore(struct call *c)
{
    reply_range(c, BY_SCORE, FORWARD);
}

void cmd_zrevrangebyscore(struct call *c)
{
    reply_range(c, BY_SCORE, REVERSE);
}

void cmd_zrangebylex(struct call *c)
{
    reply_range(c, BY_LEX, FORWARD);
}

void cmd_zrevrangebylex(struct call *c)
{
    reply_range(c, BY_LEX, REVERSE);
}

void cmd_zrangestore(struct call *c)
{
    struct zrange z;
    struct entry *e;
    if (!parse_zrange(c, 2, true, -1, NO_DIRECTION, &z) ||
        !call_find(c, c->argv[2], ENTRY_ZSET, &e))
        return;
    struct zset_builder b;
    zset_builder_init(&b, &c->ks->epoch, &c->ks->limits);
    if (e) {
        struct zset_ranks ranks = limit_ranks(&z, find_ranks(e, &z.range, z.reverse));
        struct zset_iter it;
        struct zset_item item;
        zset_iter_init(&it, e, ranks.first, false);
        for (uint64_t i = 0; i < ranks.count && zset_iter_next(&it, &item); i++)
            zset_builder_append(&b, item.member, item.score);
    }
    zset_store(c, c->argv[1], &b, "zrangestore");
}

/* ---- counting and removing ---- */

static void count_range(struct call *c, enum range_kind kind)
{
    struct range range;
    struct entry *e;
    if (parse_range(c, kind, c->argv[2], c->argv[3], &range) &&
        call_find(c, c->argv[1], ENTRY_ZSET, &e))
        reply_int(c->reply, e ? (int64_t)find_ranks(e, &range, false).count : 0);
}

void cmd_zcount(struct call *c)
{
    count_range(c, BY_SCORE);
}

void cmd_zlexcount(struct call *c)
{
    count_range(c, BY_LEX);
}

static void remove_range(struct call *c, enum range_kind kind, const char *event)
{
    struct range range;
    struct keyref ref;
    if (!parse_range(c, kind, c->argv[2], c->argv[3], &range) ||
        !call_find_write(c, c->argv[1], ENTRY_ZSET, &ref))
        return;
    struct zset_ranks ranks = {0, 0};
    if (ref.entry)
        ranks = find_ranks(ref.entry, &range, false);
    if (ranks.count > 0) {
        zset_remove_ranks(&ref, ranks.first, ranks.count);
        zset_tell(c, ref.key, false, event, ranks.count);
        zset_tell_if_gone(c, &ref);
    }
    reply_int(c->reply, (int64_t)ranks.count);
}

void cmd_zremrangebyrank(struct call *c)
{
    remove_range(c, BY_RANK, "zremrangebyrank");
}

void cmd_zremrangebyscore(struct call *c)
{
    remove_range(c, BY_SCORE, "zremrangebyscore");
}

void cmd_zremrangebylex(struct call *c)
{
    remove_range(c, BY_LEX, "zremrangebylex");
}
