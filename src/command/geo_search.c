/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Searches for places: GEOSEARCH, GEOSEARCHSTORE, and the older GEORADIUS with its relatives.
 *
 * What is stored depends on sines and cosines, in whose last bits two machines may differ, and on
 * which of several places at one distance COUNT leaves out: the effect is the result itself.
 */
#include "command/geo_args.h"
#include "command/zset_common.h"
#include "handlers.h"

enum geo_flag {
    GEO_RADIUS = 1,    /* GEORADIUS: place and radius are in front of the options */
    GEO_BY_MEMBER = 2, /* GEORADIUSBYMEMBER: a member instead of the place */
    GEO_SEARCH = 4,    /* GEOSEARCH: all of that are options */
    GEO_STORE = 8,     /* GEOSEARCHSTORE: the destination is in front of the key */
    GEO_NO_STORE = 16  /* *_RO */
};

enum geo_order { GEO_UNSORTED, GEO_ASCENDING, GEO_DESCENDING };

struct geo_query {
    unsigned flags;
    const struct entry *e; /* NULL: no such key */
    struct geo_shape shape;
    bool from_member, from_place, by_radius, by_box;
    bool with_distance, with_hash, with_place;
    bool any;
    int64_t count; /* 0: all */
    enum geo_order order;
    const struct slice *store; /* NULL: the matches are replied */
    bool store_distance;
};

/* ---- arguments ---- */

static bool place_of_member(struct call *c, struct geo_query *q, struct slice member)
{
    double score;
    if (q->e == NULL)
        return true; /* nothing will be found; other mistakes are still told of */
    if (!zset_score(q->e, member, &score)) {
        reply_error(c->reply, "ERR could not decode requested zset member");
        return false;
    }
    q->shape.center = geo_place(score);
    return true;
}

/* argv: radius, unit */
static bool parse_radius(struct call *c, struct geo_query *q, const struct slice *argv)
{
    if (!call_double(c, argv[0], &q->shape.radius, "ERR need numeric radius"))
        return false;
    if (q->shape.radius < 0) {
        reply_error(c->reply, "ERR radius cannot be negative");
        return false;
    }
    return geo_parse_unit(c, argv[1], &q->shape.unit);
}

/* argv: width, height, unit */
static bool parse_box(struct call *c, struct geo_query *q, const struct slice *argv)
{
    q->shape.box = true;
    if (!call_double(c, argv[0], &q->shape.width, "ERR need numeric width") ||
        !call_double(c, argv[1], &q->shape.height, "ERR need numeric height"))
        return false;
    if (q->shape.width < 0 || q->shape.height < 0) {
        reply_error(c->reply, "ERR height or width cannot be negative");
        return false;
    }
    return geo_parse_unit(c, argv[2], &q->shape.unit);
}

static bool parse_count(struct call *c, struct slice s, int64_t *count)
{
    if (!call_int64(c, s, count, NULL))
        return false;
    if (*count > 0)
        return true;
    reply_error(c->reply, "ERR COUNT must be > 0");
    return false;
}

/* An option of GEOSEARCH at argv[0], with `left` arguments behind it: how many of those are its
 * own, or -1: it is none, or -2: an error was replied. */
static int parse_shape_option(struct call *c, struct geo_query *q, const struct slice *argv,
                              int left)
{
    if (slice_is(argv[0], "frommember") && left >= 1 && !q->from_place) {
        q->from_member = true;
        return place_of_member(c, q, argv[1]) ? 1 : -2;
    }
    if (slice_is(argv[0], "fromlonlat") && left >= 2 && !q->from_member) {
        q->from_place = true;
        return geo_parse_place(c, argv + 1, &q->shape.center) ? 2 : -2;
    }
    if (slice_is(argv[0], "byradius") && left >= 2 && !q->by_box) {
        q->by_radius = true;
        return parse_radius(c, q, argv + 1) ? 2 : -2;
    }
    if (slice_is(argv[0], "bybox") && left >= 3 && !q->by_radius) {
        q->by_box = true;
        return parse_box(c, q, argv + 1) ? 3 : -2;
    }
    if (slice_is(argv[0], "storedist") && q->flags & GEO_STORE) {
        q->store_distance = true;
        return 0;
    }
    return -1;
}

/* The same for those of GEORADIUS. */
static int parse_store_option(struct geo_query *q, const struct slice *argv, int left)
{
    bool distance = slice_is(argv[0], "storedist");
    if (left < 1 || q->flags & GEO_NO_STORE || !(distance || slice_is(argv[0], "store")))
        return -1;
    q->store = &argv[1];
    q->store_distance = distance;
    return 1;
}

static int parse_option(struct call *c, struct geo_query *q, const struct slice *argv, int left)
{
    if (slice_is(argv[0], "withdist"))
        q->with_distance = true;
    else if (slice_is(argv[0], "withhash"))
        q->with_hash = true;
    else if (slice_is(argv[0], "withcoord"))
        q->with_place = true;
    else if (slice_is(argv[0], "any"))
        q->any = true;
    else if (slice_is(argv[0], "asc"))
        q->order = GEO_ASCENDING;
    else if (slice_is(argv[0], "desc"))
        q->order = GEO_DESCENDING;
    else if (slice_is(argv[0], "count") && left >= 1)
        return parse_count(c, argv[1], &q->count) ? 1 : -2;
    else if (q->flags & GEO_SEARCH)
        return parse_shape_option(c, q, argv, left);
    else
        return parse_store_option(q, argv, left);
    return 0;
}

static bool parse_options(struct call *c, struct geo_query *q, int at)
{
    while (at < c->argc) {
        int own = parse_option(c, q, c->argv + at, c->argc - at - 1);
        if (own == -1)
            reply_syntax_error(c->reply);
        if (own < 0)
            return false;
        at += own + 1;
    }
    return true;
}

static bool check_options(struct call *c, const struct geo_query *q)
{
    const struct slice name = c->argv[0];
    if (q->store != NULL && (q->with_distance || q->with_hash || q->with_place))
        reply_errorf(c->reply,
                     "ERR %s is not compatible with WITHDIST, WITHHASH and WITHCOORD options",
                     q->flags & GEO_STORE ? "GEOSEARCHSTORE" : "STORE option in GEORADIUS");
    else if (q->flags & GEO_SEARCH && !q->from_member && !q->from_place)
        reply_errorf(c->reply,
                     "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for %.*s",
                     (int)name.size, name.data);
    else if (q->flags & GEO_SEARCH && !q->by_radius && !q->by_box)
        reply_errorf(c->reply, "ERR exactly one of BYRADIUS and BYBOX can be specified for %.*s",
                     (int)name.size, name.data);
    else if (q->any && q->count == 0)
        reply_error(c->reply, "ERR the ANY argument requires COUNT argument");
    else
        return true;
    return false;
}

static bool parse_query(struct call *c, struct geo_query *q)
{
    int at = q->flags & GEO_STORE ? 3 : 2;
    if (q->flags & GEO_STORE)
        q->store = &c->argv[1];
    if (q->flags & GEO_RADIUS) {
        if (!geo_parse_place(c, c->argv + 2, &q->shape.center) || !parse_radius(c, q, c->argv + 4))
            return false;
        at = 6;
    } else if (q->flags & GEO_BY_MEMBER) {
        /* Without the key nobody looks at the radius. */
        if (!place_of_member(c, q, c->argv[2]) ||
            (q->e != NULL && !parse_radius(c, q, c->argv + 3)))
            return false;
        at = 5;
    }
    return parse_options(c, q, at) && check_options(c, q);
}

/* ---- results ---- */

static void reply_matches(struct call *c, const struct geo_query *q, const struct geo_matches *m,
                          size_t count)
{
    size_t parts = 1 + (size_t)q->with_distance + (size_t)q->with_hash + (size_t)q->with_place;
    reply_array(c->reply, count);
    for (size_t i = 0; i < count; i++) {
        const struct geo_match *match = &m->items[i];
        if (parts > 1)
            reply_array(c->reply, parts);
        reply_bulk(c->reply, match->member);
        if (q->with_distance)
            geo_reply_distance(c, match->distance / q->shape.unit);
        if (q->with_hash)
            reply_int(c->reply, (int64_t)match->score);
        if (q->with_place)
            geo_reply_place(c, match->place);
    }
}

static void store_matches(struct call *c, const struct geo_query *q, const struct geo_matches *m,
                          size_t count)
{
    struct zset_builder b;
    zset_builder_init(&b, &c->ks->epoch, &c->ks->limits);
    for (size_t i = 0; i < count; i++) {
        const struct geo_match *match = &m->items[i];
        zset_builder_add(&b, match->member,
                         q->store_distance ? match->distance / q->shape.unit : match->score);
    }
    uint64_t dirty = c->ks->dirty;
    struct slice key = *q->store;
    zset_store(c, key, &b, q->flags & GEO_STORE ? "geosearchstore" : "georadiusstore");
    if (count > 0) {
        c->ks->dirty = dirty + count;
        call_effect_restore(c, c->db, key, db_find(c->db, key, key_hash(key)));
    } else if (c->ks->dirty != dirty) {
        call_effect_delete(c, c->db, key);
    }
}

static void run(struct call *c, unsigned flags)
{
    struct geo_query q = {.flags = flags, .shape.unit = 1};
    struct geo_matches m = {0};
    struct entry *e;
    if (!call_find(c, c->argv[flags & GEO_STORE ? 2 : 1], ENTRY_ZSET, &e))
        return;
    q.e = e;
    if (!parse_query(c, &q))
        return;
    /* The closest, if only some are wanted and it does not matter which otherwise. */
    if (q.count && q.order == GEO_UNSORTED && !q.any)
        q.order = GEO_ASCENDING;
    if (q.e != NULL) {
        geo_search(&m, q.e, &q.shape, q.any ? (size_t)q.count : 0);
        if (q.order != GEO_UNSORTED)
            geo_sort(&m, q.order == GEO_DESCENDING);
    }
    size_t count = q.count && (uint64_t)q.count < m.count ? (size_t)q.count : m.count;
    if (q.store != NULL)
        store_matches(c, &q, &m, count);
    else
        reply_matches(c, &q, &m, count);
    geo_matches_free(&m);
}

void cmd_geosearch(struct call *c)
{
    run(c, GEO_SEARCH);
}

void cmd_geosearchstore(struct call *c)
{
    run(c, GEO_SEARCH | GEO_STORE);
}

void cmd_georadius(struct call *c)
{
    run(c, GEO_RADIUS);
}

void cmd_georadius_ro(struct call *c)
{
    run(c, GEO_RADIUS | GEO_NO_STORE);
}

void cmd_georadiusbymember(struct call *c)
{
    run(c, GEO_BY_MEMBER);
}

void cmd_georadiusbymember_ro(struct call *c)
{
    run(c, GEO_BY_MEMBER | GEO_NO_STORE);
}
