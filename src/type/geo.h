/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Places in sorted sets. A place is kept as a score: its longitude and latitude, each as 26 bits of
 * the part that it is of the whole range, interleaved (a geohash of 52 bits, the longitude's
 * highest bit first). Places near each other mostly have scores near each other: a square cell of
 * the map is a range of scores, and what is within a shape is found in nine cells: the one that the
 * center lies in and its neighbours, as large as the shape needs.
 *
 * The formulas and their order are those of Redis, so that scores, distances, what is found, and in
 * which order, are the same.
 *
 * The latitudes are those of the square map that Web Mercator makes of the globe (EPSG:3857); the
 * distances are on a sphere, by the haversine formula.
 */
#ifndef HF_TYPE_GEO_H
#define HF_TYPE_GEO_H

#include "type/zset.h"

struct geo_point {
    double longitude, latitude; /* degrees */
};

/* Whether it is on the map: longitudes up to 180, latitudes up to 85.05112878. */
bool geo_is_on_map(struct geo_point p);
double geo_score(struct geo_point p);
/* The middle of what a score stands for. Any score will do. */
struct geo_point geo_place(double score);
double geo_distance(struct geo_point a, struct geo_point b); /* meters */

/* The standard geohash of 11 characters, over latitudes up to 90. The last is always '0', as 52
 * bits make ten. */
#define GEO_HASH_SIZE 11
void geo_hash(double score, char out[GEO_HASH_SIZE]);

struct geo_shape {
    struct geo_point center;
    bool box;
    double radius;        /* of a circle */
    double width, height; /* of a box */
    double unit;          /* in which they are given, in meters */
};

struct geo_match {
    struct slice member; /* in the zset or in `bytes` */
    double score;
    double distance; /* meters */
    struct geo_point place;
};

struct geo_matches {
    struct geo_match *items;
    size_t count, capacity;
    char *bytes; /* members that do not stand in the zset as they are */
    size_t used, room;
};

/* Find what is within a shape, in the order of cells and scores; at most `limit`, if that is not 0.
 * The matches are valid until the zset is changed. */
void geo_search(struct geo_matches *m, const struct entry *e, const struct geo_shape *shape,
                size_t limit);
/* By distance; what is equally far stays in its order. */
void geo_sort(struct geo_matches *m, bool descending);
void geo_matches_free(struct geo_matches *m);

#endif
