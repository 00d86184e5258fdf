/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/geo.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

#define STEPS_MAX 26 /* bits for each of the two */
#define EARTH_RADIUS 6372797.560856
#define MERCATOR_MAX 20037726.37 /* meters: half of the map's width */
#define DEGREE (M_PI / 180.0)

struct range {
    double min, max;
};

static const struct range longitudes = {-180, 180};
static const struct range latitudes = {-85.05112878, 85.05112878};
static const struct range all_latitudes = {-90, 90};

/* A cell of the map: the first `steps` bits of longitude and latitude. */
struct cell {
    uint32_t longitude, latitude;
    int steps;
    bool unused;
};

/* ---- bits ---- */

/* Move 32 bits apart, so that there is room for another one between each two, and back. */
static uint64_t spread(uint32_t bits)
{
    uint64_t v = bits;
    v = (v | v << 16) & 0x0000ffff0000ffffU;
    v = (v | v << 8) & 0x00ff00ff00ff00ffU;
    v = (v | v << 4) & 0x0f0f0f0f0f0f0f0fU;
    v = (v | v << 2) & 0x3333333333333333U;
    return (v | v << 1) & 0x5555555555555555U;
}

static uint32_t gather(uint64_t v)
{
    v &= 0x5555555555555555U;
    v = (v | v >> 1) & 0x3333333333333333U;
    v = (v | v >> 2) & 0x0f0f0f0f0f0f0f0fU;
    v = (v | v >> 4) & 0x00ff00ff00ff00ffU;
    v = (v | v >> 8) & 0x0000ffff0000ffffU;
    return (uint32_t)((v | v >> 16) & 0xffffffffU);
}

static uint64_t cell_bits(const struct cell *c)
{
    return spread(c->latitude) | spread(c->longitude) << 1;
}

static uint32_t part_of(double v, struct range r, int steps)
{
    return (uint32_t)((v - r.min) / (r.max - r.min) * (double)(1ULL << steps));
}

static struct cell cell_of(struct geo_point p, struct range lat, int steps)
{
    return (struct cell){part_of(p.longitude, longitudes, steps), part_of(p.latitude, lat, steps),
                         steps, false};
}

static struct range range_of(uint32_t part, struct range r, int steps)
{
    double whole = (double)(1ULL << steps), size = r.max - r.min;
    return (struct range){r.min + (part * 1.0 / whole) * size,
                          r.min + ((part + 1.0) / whole) * size};
}

static double within(double v, struct range r)
{
    return v > r.max ? r.max : v < r.min ? r.min : v;
}

/* ---- places and scores ---- */

bool geo_is_on_map(struct geo_point p)
{
    return p.longitude >= longitudes.min && p.longitude <= longitudes.max &&
           p.latitude >= latitudes.min && p.latitude <= latitudes.max;
}

double geo_score(struct geo_point p)
{
    struct cell c = cell_of(p, latitudes, STEPS_MAX);
    return (double)cell_bits(&c);
}

/* What x86's conversion makes of a number that is no uint64, defined for all. */
static uint64_t score_bits(double score)
{
    const double half = 9223372036854775808.0;
    if (score < half)
        return score >= -half ? (uint64_t)(int64_t)score : (uint64_t)INT64_MIN;
    return score < 2 * half ? (uint64_t)score : 0;
}

struct geo_point geo_place(double score)
{
    uint64_t bits = score_bits(score);
    struct range lon = range_of(gather(bits >> 1), longitudes, STEPS_MAX);
    struct range lat = range_of(gather(bits), latitudes, STEPS_MAX);
    return (struct geo_point){within((lon.min + lon.max) / 2, longitudes),
                              within((lat.min + lat.max) / 2, latitudes)};
}

double geo_distance(struct geo_point a, struct geo_point b)
{
    double lat_a = a.latitude * DEGREE, lat_b = b.latitude * DEGREE;
    double v = sin((b.longitude * DEGREE - a.longitude * DEGREE) / 2);
    if (v == 0)
        return EARTH_RADIUS * fabs(lat_b - lat_a); /* exact, along a meridian; as Redis has it */
    double u = sin((lat_b - lat_a) / 2);
    return 2.0 * EARTH_RADIUS * asin(sqrt(u * u + cos(lat_a) * cos(lat_b) * v * v));
}

void geo_hash(double score, char out[GEO_HASH_SIZE])
{
    static const char alphabet[] = "0123456789bcdefghjkmnpqrstuvwxyz";
    struct cell c = cell_of(geo_place(score), all_latitudes, STEPS_MAX);
    uint64_t bits = cell_bits(&c);
    for (int i = 0; i < GEO_HASH_SIZE - 1; i++)
        out[i] = alphabet[bits >> (2 * STEPS_MAX - (i + 1) * 5) & 31];
    out[GEO_HASH_SIZE - 1] = alphabet[0];
}

/* ---- the cells of a shape ---- */

struct area {
    struct range longitude, latitude;
};

static struct area area_of(const struct cell *c)
{
    return (struct area){range_of(c->longitude, longitudes, c->steps),
                         range_of(c->latitude, latitudes, c->steps)};
}

/* The next cell to the east or north by so many; the map is round in both directions. */
static struct cell neighbour(const struct cell *c, int east, int north)
{
    uint32_t mask = (uint32_t)((1ULL << c->steps) - 1);
    struct cell n = *c;
    if (east)
        n.longitude = (n.longitude + (uint32_t)east) & mask;
    if (north)
        n.latitude = (n.latitude + (uint32_t)north) & mask;
    return n;
}

/* How fine the cells may be: so that three of them are wider than the shape. Towards the poles the
 * map's squares are smaller. */
static int steps_for(double meters, double latitude)
{
    if (meters == 0)
        return STEPS_MAX;
    int steps = 1;
    for (; meters < MERCATOR_MAX; meters *= 2)
        steps++;
    steps -= 2;
    if (fabs(latitude) > 66)
        steps--;
    if (fabs(latitude) > 80)
        steps--;
    return steps < 1 ? 1 : steps > STEPS_MAX ? STEPS_MAX : steps;
}

/* What the shape reaches to. The parallels are shorter at its end that is nearer to a pole. */
static struct area bounds_of(const struct geo_shape *s)
{
    double height = s->unit * (s->box ? s->height / 2 : s->radius);
    double width = s->unit * (s->box ? s->width / 2 : s->radius);
    double lat = s->center.latitude, lon = s->center.longitude;
    double lat_delta = height / EARTH_RADIUS / DEGREE;
    double edge = lat < 0 ? lat - lat_delta : lat + lat_delta;
    double lon_delta = width / EARTH_RADIUS / cos(edge * DEGREE) / DEGREE;
    return (struct area){{lon - lon_delta, lon + lon_delta}, {lat - lat_delta, lat + lat_delta}};
}

enum { CENTER, NORTH, SOUTH, EAST, WEST, NORTH_EAST, NORTH_WEST, SOUTH_EAST, SOUTH_WEST, CELLS };

static void set_cells(struct cell cells[CELLS], struct geo_point center, int steps)
{
    static const signed char moves[CELLS][2] = {{0, 0}, {0, 1},  {0, -1}, {1, 0},  {-1, 0},
                                                {1, 1}, {-1, 1}, {1, -1}, {-1, -1}};
    struct cell c = cell_of(center, latitudes, steps);
    for (int i = 0; i < CELLS; i++)
        cells[i] = neighbour(&c, moves[i][0], moves[i][1]);
}

/* Whether the shape reaches beyond the neighbouring cells: its center is near a cell's edge. */
static bool reaches_beyond(const struct cell cells[CELLS], const struct area *bounds)
{
    return area_of(&cells[NORTH]).latitude.max < bounds->latitude.max ||
           area_of(&cells[SOUTH]).latitude.min > bounds->latitude.min ||
           area_of(&cells[EAST]).longitude.max < bounds->longitude.max ||
           area_of(&cells[WEST]).longitude.min > bounds->longitude.min;
}

static void drop(struct cell cells[CELLS], int a, int b, int c)
{
    cells[a].unused = cells[b].unused = cells[c].unused = true;
}

static void find_cells(struct cell cells[CELLS], const struct geo_shape *s)
{
    double half_width = s->width / 2, half_height = s->height / 2;
    double reach = s->box ? sqrt(half_width * half_width + half_height * half_height) : s->radius;
    reach *= s->unit;
    int steps = steps_for(reach, s->center.latitude);
    struct area bounds = bounds_of(s);
    set_cells(cells, s->center, steps);
    if (steps > 1 && reaches_beyond(cells, &bounds))
        set_cells(cells, s->center, --steps);
    if (steps < 2)
        return;
    struct area area = area_of(&cells[CENTER]);
    if (area.latitude.min < bounds.latitude.min)
        drop(cells, SOUTH, SOUTH_WEST, SOUTH_EAST);
    if (area.latitude.max > bounds.latitude.max)
        drop(cells, NORTH, NORTH_WEST, NORTH_EAST);
    if (area.longitude.min < bounds.longitude.min)
        drop(cells, WEST, NORTH_WEST, SOUTH_WEST);
    if (area.longitude.max > bounds.longitude.max)
        drop(cells, EAST, NORTH_EAST, SOUTH_EAST);
}

/* ---- the search ---- */

static bool is_within(const struct geo_shape *s, struct geo_point p, double *distance)
{
    if (s->box) {
        /* Along the parallel and the meridian of the place itself. */
        struct geo_point beside = {s->center.longitude, p.latitude};
        struct geo_point above = {p.longitude, s->center.latitude};
        if (geo_distance(p, beside) > s->width * s->unit / 2 ||
            geo_distance(p, above) > s->height * s->unit / 2)
            return false;
    }
    *distance = geo_distance(s->center, p);
    return s->box || *distance <= s->radius * s->unit;
}

static void keep_bytes(struct geo_matches *m, struct slice s)
{
    if (s.size > m->room - m->used) {
        m->room = (m->room + s.size) * 2;
        m->bytes = mem_realloc(m->bytes, m->room);
    }
    if (s.size)
        memcpy(m->bytes + m->used, s.data, s.size);
    m->used += s.size;
}

static void search_cell(struct geo_matches *m, const struct entry *e, const struct geo_shape *shape,
                        const struct cell *c, size_t limit)
{
    uint64_t bits = cell_bits(c);
    int shift = 2 * (STEPS_MAX - c->steps);
    struct zset_score_range range = {.min = (double)(bits << shift),
                                     .max = (double)((bits + 1) << shift),
                                     .max_open = true};
    struct zset_ranks ranks = zset_ranks_by_score(e, &range);
    struct zset_iter it;
    struct zset_item item;
    zset_iter_init(&it, e, ranks.first, false);
    for (uint64_t i = 0; i < ranks.count && zset_iter_next(&it, &item); i++) {
        struct geo_match match = {item.member, item.score, 0, geo_place(item.score)};
        if (!is_within(shape, match.place, &match.distance))
            continue;
        if (it.lp)
            keep_bytes(m, item.member);
        if (m->count == m->capacity) {
            m->capacity = m->capacity ? m->capacity * 2 : 32;
            m->items = mem_realloc(m->items, m->capacity * sizeof(*m->items));
        }
        m->items[m->count++] = match;
        if (limit && m->count >= limit)
            return;
    }
}

static bool same_cell(const struct cell *a, const struct cell *b)
{
    return a->longitude == b->longitude && a->latitude == b->latitude;
}

void geo_search(struct geo_matches *m, const struct entry *e, const struct geo_shape *shape,
                size_t limit)
{
    struct cell cells[CELLS];
    *m = (struct geo_matches){0};
    find_cells(cells, shape);
    int last = CENTER;
    for (int i = 0; i < CELLS; i++) {
        /* Where the cells are as large as half the map, two neighbours are the same one. */
        if (cells[i].unused || (last != CENTER && same_cell(&cells[i], &cells[last])))
            continue;
        if (limit && m->count >= limit)
            break;
        search_cell(m, e, shape, &cells[i], limit);
        last = i;
    }
    /* A listpack's members were copied one behind the other; the copy stays where it is from now
     * on. */
    size_t at = 0;
    for (size_t i = 0; i < m->count && m->bytes; i++) {
        m->items[i].member.data = m->bytes + at;
        at += m->items[i].member.size;
    }
}

static int nearer_first(const void *a, const void *b)
{
    const struct geo_match *x = a, *y = b;
    return (x->distance > y->distance) - (x->distance < y->distance);
}

static int farther_first(const void *a, const void *b)
{
    return nearer_first(b, a);
}

void geo_sort(struct geo_matches *m, bool descending)
{
    if (m->count > 1)
        qsort(m->items, m->count, sizeof(*m->items), descending ? farther_first : nearer_first);
}

void geo_matches_free(struct geo_matches *m)
{
    mem_free(m->items);
    mem_free(m->bytes);
}
