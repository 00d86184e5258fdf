/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Several sorted sets at once: ZUNION, ZINTER, ZDIFF, their STORE forms, and ZINTERCARD. The inputs
 * may be sets, too, whose members count as having the score 1.
 *
 * Results are gathered as an array of slices into the inputs, which nobody changes meanwhile. A
 * union is sorted by the members' hashes, so that what is to be aggregated stands together; in the
 * order of the inputs, which sums of floating point depend on. Then results are sorted by score.
 */
#include <math.h>
#include <stdlib.h>

#include "base/mem.h"
#include "command/zset_common.h"
#include "handlers.h"
#include "type/set.h"

enum operation { UNION, INTERSECTION, DIFFERENCE };
enum aggregate { AGGREGATE_SUM, AGGREGATE_MIN, AGGREGATE_MAX, AGGREGATE_COUNT };

/* ---- inputs ---- */

struct input {
    const struct entry *e; /* NULL: an empty one */
    double weight;
    uint64_t count;
};

static bool is_zset(const struct entry *e)
{
    return entry_type(e) == ENTRY_ZSET;
}

static bool input_score(const struct input *in, struct slice member, double *score)
{
    if (!in->e)
        return false;
    if (is_zset(in->e))
        return zset_score(in->e, member, score);
    *score = 1;
    return set_has(in->e, member);
}

struct input_iter {
    bool zset, empty;
    union {
        struct zset_iter z;
        struct member_iter s;
    };
};

static void input_iter_init(struct input_iter *it, const struct input *in)
{
    it->empty = !in->e;
    if (it->empty)
        return;
    it->zset = is_zset(in->e);
    if (it->zset)
        zset_iter_init(&it->z, in->e, 0, false);
    else
        member_iter_init(&it->s, in->e);
}

/* *transient: the member is valid until the next call only, as it is a number in decimal. */
static bool input_iter_next(struct input_iter *it, struct zset_item *item, bool *transient)
{
    if (it->empty)
        return false;
    if (it->zset) {
        *transient = it->z.lp != NULL;
        return zset_iter_next(&it->z, item);
    }
    struct dict_item member;
    if (!member_iter_next(&it->s, &member))
        return false;
    *transient = it->s.small != NULL;
    *item = (struct zset_item){member.key, 1};
    return true;
}

/* ---- results ---- */

struct result {
    struct slice member;
    double score;
    uint64_t hash, order;
};

#define TEXT_BLOCK 4064

/* Members that had to be copied. */
struct text_block {
    struct text_block *next;
    char bytes[TEXT_BLOCK];
};

struct results {
    struct result *items;
    size_t count, capacity;
    struct text_block *texts;
    size_t text_used;
};

static struct slice keep_text(struct results *r, struct slice s)
{
    if (!r->texts || s.size > TEXT_BLOCK - r->text_used) {
        struct text_block *block = mem_alloc(sizeof(*block));
        block->next = r->texts;
        r->texts = block;
        r->text_used = 0;
    }
    char *to = r->texts->bytes + r->text_used;
    memcpy(to, s.data, s.size);
    r->text_used += s.size;
    return slice_of(to, s.size);
}

static void results_add(struct results *r, struct slice member, bool transient, double score)
{
    if (r->count == r->capacity) {
        r->capacity = r->capacity ? r->capacity * 2 : 64;
        r->items = mem_realloc(r->items, r->capacity * sizeof(*r->items));
    }
    /* Only decimal numbers are transient; what is longer stands in the input itself. */
    if (transient && member.size < LISTPACK_NUMBER_SIZE)
        member = keep_text(r, member);
    r->items[r->count++] = (struct result){.member = member, .score = score};
}

static void results_deinit(struct results *r)
{
    while (r->texts) {
        struct text_block *next = r->texts->next;
        mem_free(r->texts);
        r->texts = next;
    }
    mem_free(r->items);
}

static int by_member(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    int c = slice_compare(x->member, y->member);
    return c ? c : (x->order > y->order) - (x->order < y->order);
}

static int by_score(const void *a, const void *b)
{
    const struct result *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? -1 : 1;
    return slice_compare(x->member, y->member);
}

static void sort_results(struct results *r, int (*compare)(const void *, const void *))
{
    if (r->count > 1)
        qsort(r->items, r->count, sizeof(*r->items), compare);
}

/* ---- the operations ---- */

static double aggregate(enum aggregate how, double a, double b)
{
    double sum = a + b;
    switch (how) {
    case AGGREGATE_SUM:
    case AGGREGATE_COUNT: /* of the weights: see weighted */
        return isnan(sum) ? 0 : sum; /* infinities of both signs */
    case AGGREGATE_MIN:
        return b < a ? b : a;
    case AGGREGATE_MAX:
        break;
    }
    return b > a ? b : a;
}

static double weighted(const struct input *in, double score, enum aggregate how)
{
    if (how == AGGREGATE_COUNT)
        return in->weight;
    double product = in->weight * score;
    return isnan(product) ? 0 : product; /* zero times infinity */
}

static void unite(struct results *r, const struct input *inputs, int count, enum aggregate how)
{
    for (int i = 0; i < count; i++) {
        struct input_iter it;
        struct zset_item item;
        bool transient;
        input_iter_init(&it, &inputs[i]);
        while (input_iter_next(&it, &item, &transient))
            results_add(r, item.member, transient, weighted(&inputs[i], item.score, how));
    }
    if (count == 1)
        return;
    for (size_t i = 0; i < r->count; i++) {
        r->items[i].hash = hash_bytes(r->items[i].member.data, r->items[i].member.size);
        r->items[i].order = i;
    }
    sort_results(r, by_member);
    size_t kept = 0;
    for (size_t i = 0; i < r->count; i++) {
        struct result *last = kept ? &r->items[kept - 1] : NULL;
        if (last && last->hash == r->items[i].hash && slice_equal(last->member, r->items[i].member))
            last->score = aggregate(how, last->score, r->items[i].score);
        else
            r->items[kept++] = r->items[i];
    }
    r->count = kept;
}

/* The score that the intersection gives a member of the first input; false when it is not in all.
 */
static bool in_all(const struct input *inputs, int count, enum aggregate how, struct slice member,
                   double *score)
{
    *score = weighted(&inputs[0], *score, how);
    for (int i = 1; i < count; i++) {
        double other;
        if (!input_score(&inputs[i], member, &other))
            return false;
        /* As in Redis, zero times infinity makes the whole sum 0 here, not only this part. */
        double part = how == AGGREGATE_COUNT ? inputs[i].weight : inputs[i].weight * other;
        *score = aggregate(how, *score, part);
    }
    return true;
}

static bool in_none(const struct input *inputs, int count, struct slice member)
{
    double score;
    for (int i = 1; i < count; i++) {
        if (input_score(&inputs[i], member, &score))
            return false;
    }
    return true;
}

/* Those of the first input that are in all others, or in none; at most `limit` (0: all). */
static void sift(struct results *r, const struct input *inputs, int count, enum operation operation,
                 enum aggregate how, uint64_t limit)
{
    struct input_iter it;
    struct zset_item item;
    bool transient;
    /* An empty input is the first of an intersection, as they are sorted. */
    input_iter_init(&it, &inputs[0]);
    while (input_iter_next(&it, &item, &transient)) {
        bool wanted = operation == INTERSECTION
                          ? in_all(inputs, count, how, item.member, &item.score)
                          : in_none(inputs, count, item.member);
        if (!wanted)
            continue;
        results_add(r, item.member, transient, item.score);
        if (limit && r->count == limit)
            break;
    }
}

/* ---- the commands ---- */

struct algebra {
    enum operation operation;
    bool store, count_only;
    struct input *inputs;
    int input_count;
    enum aggregate aggregate;
    bool with_scores;
    int64_t limit;
};

/* The number of keys at argv[at] and the inputs behind it. */
static bool parse_inputs(struct call *c, int at, struct algebra *a)
{
    int64_t n;
    if (!call_int64(c, c->argv[at], &n, NULL))
        return false;
    if (n < 1) {
        reply_errorf(c->reply, "ERR at least 1 input key is needed for '%s' command",
                     c->command->full_name);
        return false;
    }
    if (n > c->argc - at - 1) {
        reply_syntax_error(c->reply);
        return false;
    }
    a->input_count = (int)n;
    a->inputs = mem_alloc((size_t)n * sizeof(*a->inputs));
    for (int i = 0; i < a->input_count; i++) {
        struct entry *e = call_find_any(c, c->argv[at + 1 + i]);
        if (e && !is_zset(e) && entry_type(e) != ENTRY_SET) {
            reply_wrong_type(c->reply);
            return false;
        }
        a->inputs[i].e = e;
        a->inputs[i].weight = 1;
        a->inputs[i].count = !e ? 0 : is_zset(e) ? zset_count(e) : set_count(e);
    }
    return true;
}

static bool parse_aggregate(struct call *c, struct slice word, enum aggregate *out)
{
    if (slice_is(word, "sum")) {
        *out = AGGREGATE_SUM;
    } else if (slice_is(word, "min")) {
        *out = AGGREGATE_MIN;
    } else if (slice_is(word, "max")) {
        *out = AGGREGATE_MAX;
    } else if (slice_is(word, "count")) {
        *out = AGGREGATE_COUNT;
    } else {
        reply_syntax_error(c->reply);
        return false;
    }
    return true;
}

static bool parse_options(struct call *c, int i, struct algebra *a)
{
    bool scores_matter = a->operation != DIFFERENCE && !a->count_only;
    while (i < c->argc) {
        int left = c->argc - i;
        struct slice option = c->argv[i++];
        if (scores_matter && left > a->input_count && slice_is(option, "weights")) {
            for (int k = 0; k < a->input_count; k++) {
                if (!call_double(c, c->argv[i++], &a->inputs[k].weight,
                                 "ERR weight value is not a float"))
                    return false;
            }
        } else if (scores_matter && left >= 2 && slice_is(option, "aggregate")) {
            if (!parse_aggregate(c, c->argv[i++], &a->aggregate))
                return false;
        } else if (!a->store && !a->count_only && slice_is(option, "withscores")) {
            a->with_scores = true;
        } else if (a->count_only && left >= 2 && slice_is(option, "limit")) {
            if (!call_int64_range(c, c->argv[i++], 0, INT64_MAX, &a->limit,
                                  "ERR LIMIT can't be negative"))
                return false;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

/* The smallest input first, others equal in size staying in their order. */
static void sort_inputs(struct algebra *a)
{
    for (int i = 1; i < a->input_count; i++) {
        struct input in = a->inputs[i];
        int k = i;
        for (; k > 0 && a->inputs[k - 1].count > in.count; k--)
            a->inputs[k] = a->inputs[k - 1];
        a->inputs[k] = in;
    }
}

static void answer(struct call *c, const struct algebra *a, const struct results *r)
{
    static const char *const events[] = {"zunionstore", "zinterstore", "zdiffstore"};
    if (a->count_only) {
        reply_int(c->reply, (int64_t)r->count);
        return;
    }
    if (!a->store) {
        zset_reply_begin(c->reply, r->count, a->with_scores);
        for (size_t i = 0; i < r->count; i++) {
            struct zset_item item = {r->items[i].member, r->items[i].score};
            zset_reply_item(c->reply, &item, a->with_scores);
        }
        return;
    }
    struct zset_builder b;
    zset_builder_init(&b, &c->ks->epoch, &c->ks->limits);
    for (size_t i = 0; i < r->count; i++)
        zset_builder_append(&b, r->items[i].member, r->items[i].score);
    struct slice key = c->argv[1];
    bool was_there = db_find(c->db, key, key_hash(key)) != NULL;
    zset_store(c, key, &b, events[a->operation]);
    /* Redis 7.0 cannot count: it is told the result. */
    if (a->aggregate == AGGREGATE_COUNT && r->count > 0)
        call_effect_restore(c, c->db, key, db_find(c->db, key, key_hash(key)));
    else if (a->aggregate == AGGREGATE_COUNT && was_there)
        call_effect_delete(c, c->db, key);
}

static void run(struct call *c, struct algebra a)
{
    int at = a.store ? 2 : 1;
    struct results r = {0};
    if (parse_inputs(c, at, &a) && parse_options(c, at + 1 + a.input_count, &a)) {
        if (a.operation != DIFFERENCE)
            sort_inputs(&a);
        if (a.operation == UNION)
            unite(&r, a.inputs, a.input_count, a.aggregate);
        else
            sift(&r, a.inputs, a.input_count, a.operation, a.aggregate, (uint64_t)a.limit);
        for (size_t i = 0; i < r.count; i++)
            r.items[i].score += 0.0; /* turns -0.0 into 0.0 */
        if (!a.count_only)
            sort_results(&r, by_score);
        answer(c, &a, &r);
    }
    results_deinit(&r);
    mem_free(a.inputs);
}

void cmd_zunion(struct call *c)
{
    run(c, (struct algebra){.operation = UNION});
}

void cmd_zunionstore(struct call *c)
{
    run(c, (struct algebra){.operation = UNION, .store = true});
}

void cmd_zinter(struct call *c)
{
    run(c, (struct algebra){.operation = INTERSECTION});
}

void cmd_zinterstore(struct call *c)
{
    run(c, (struct algebra){.operation = INTERSECTION, .store = true});
}

void cmd_zintercard(struct call *c)
{
    run(c, (struct algebra){.operation = INTERSECTION, .count_only = true});
}

void cmd_zdiff(struct call *c)
{
    run(c, (struct algebra){.operation = DIFFERENCE});
}

void cmd_zdiffstore(struct call *c)
{
    run(c, (struct algebra){.operation = DIFFERENCE, .store = true});
}
