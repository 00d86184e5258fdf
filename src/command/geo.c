/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on single places: GEOADD, GEODIST, GEOHASH, GEOPOS. For searches see geo_search.c.
 */
#include <inttypes.h>
#include <math.h>

#include "base/mem.h"
#include "command/geo_args.h"
#include "command/zset_common.h"
#include "handlers.h"

bool geo_parse_place(struct call *c, const struct slice *argv, struct geo_point *p)
{
    if (!call_double(c, argv[0], &p->longitude, NULL) ||
        !call_double(c, argv[1], &p->latitude, NULL))
        return false;
    if (geo_is_on_map(*p))
        return true;
    reply_errorf(c->reply, "ERR invalid longitude,latitude pair %f,%f", p->longitude, p->latitude);
    return false;
}

bool geo_parse_unit(struct call *c, struct slice s, double *meters)
{
    static const struct {
        const char *word;
        double meters;
    } units[] = {{"m", 1}, {"km", 1000}, {"ft", 0.3048}, {"mi", 1609.34}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (slice_is(s, units[i].word)) {
            *meters = units[i].meters;
            return true;
        }
    }
    reply_error(c->reply, "ERR unsupported unit provided. please use M, KM, FT, MI");
    return false;
}

void geo_reply_distance(struct call *c, double distance)
{
    /* Rounded after the multiplication, which printf's %.4f would do without. */
    int64_t scaled = llrint(distance * 10000);
    uint64_t size = scaled < 0 ? -(uint64_t)scaled : (uint64_t)scaled;
    reply_bulkf(c->reply, "%s%" PRIu64 ".%04" PRIu64, scaled < 0 ? "-" : "", size / 10000,
                size % 10000);
}

void geo_reply_place(struct call *c, struct geo_point p)
{
    reply_array(c->reply, 2);
    reply_human_double(c->reply, p.longitude);
    reply_human_double(c->reply, p.latitude);
}

/* ---- GEOADD ---- */

struct geoadd {
    unsigned flags; /* enum zset_add_flag */
    bool count_changed;
    int first, count;
};

static bool parse_geoadd(struct call *c, struct geoadd *g)
{
    int i = 2;
    for (; i < c->argc; i++) {
        if (slice_is(c->argv[i], "nx"))
            g->flags |= ZSET_NX;
        else if (slice_is(c->argv[i], "xx"))
            g->flags |= ZSET_XX;
        else if (slice_is(c->argv[i], "ch"))
            g->count_changed = true;
        else
            break;
    }
    g->first = i;
    g->count = (c->argc - i) / 3;
    if ((c->argc - i) % 3 == 0 && g->count > 0 && g->flags != (ZSET_NX | ZSET_XX))
        return true;
    reply_syntax_error(c->reply);
    return false;
}

static bool parse_scores(struct call *c, const struct geoadd *g, double *scores)
{
    for (int i = 0; i < g->count; i++) {
        struct geo_point p;
        if (!geo_parse_place(c, c->argv + g->first + 3 * i, &p))
            return false;
        scores[i] = geo_score(p);
    }
    return true;
}

static void add_places(struct call *c, const struct geoadd *g, const double *scores)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_ZSET, &ref))
        return;
    bool is_new = ref.entry == NULL;
    int64_t added = 0, updated = 0;
    for (int i = 0; i < g->count; i++) {
        struct slice member = c->argv[g->first + 3 * i + 2];
        enum zset_add_result result = zset_add(&ref, member, scores[i], g->flags, NULL);
        added += result == ZSET_ADDED;
        updated += result == ZSET_UPDATED;
    }
    reply_int(c->reply, g->count_changed ? added + updated : added);
    if (added + updated > 0)
        zset_tell(c, ref.key, is_new, "zadd", (uint64_t)(added + updated));
}

void cmd_geoadd(struct call *c)
{
    struct geoadd g = {0};
    if (!parse_geoadd(c, &g))
        return;
    double *scores = mem_alloc((size_t)g.count * sizeof(*scores));
    if (parse_scores(c, &g, scores))
        add_places(c, &g, scores);
    mem_free(scores);
}

/* ---- GEODIST, GEOHASH, GEOPOS ---- */

void cmd_geodist(struct call *c)
{
    double unit = 1, a, b;
    if (c->argc == 5 && !geo_parse_unit(c, c->argv[4], &unit))
        return;
    if (c->argc > 5) {
        reply_syntax_error(c->reply);
        return;
    }
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    if (e == NULL || !zset_score(e, c->argv[2], &a) || !zset_score(e, c->argv[3], &b))
        reply_null(c->reply);
    else
        geo_reply_distance(c, geo_distance(geo_place(a), geo_place(b)) / unit);
}

void cmd_geohash(struct call *c)
{
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    reply_array(c->reply, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        double score;
        char text[GEO_HASH_SIZE];
        if (e != NULL && zset_score(e, c->argv[i], &score)) {
            geo_hash(score, text);
            reply_bulk(c->reply, slice_of(text, sizeof(text)));
        } else {
            reply_null(c->reply);
        }
    }
}

void cmd_geopos(struct call *c)
{
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_ZSET, &e))
        return;
    reply_array(c->reply, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        double score;
        if (e != NULL && zset_score(e, c->argv[i], &score))
            geo_reply_place(c, geo_place(score));
        else
            reply_null_array(c->reply);
    }
}
