/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Decoding a value without building it: every length, packed form, number and compressed string is
 * proven, in memory that does not grow with the value. What is not seen here: members and fields
 * that occur twice.
 */
#include <math.h>

#include "base/number.h"
#include "persist/rdb/format.h"
#include "persist/rdb/packed.h"
#include "structure/intset.h"
#include "structure/listpack.h"

#define PIECE (1U << 16)

static bool skip_bytes(struct rdb_reader *r, uint64_t size)
{
    const unsigned char *p;
    if (size > rdb_reader_left(r))
        return rdb_fail(r, ERROR_TRUNCATED, "a string of %llu bytes, %llu are left",
                        (unsigned long long)size, (unsigned long long)rdb_reader_left(r));
    for (; size > PIECE; size -= PIECE) {
        if (!rdb_read_bytes(r, PIECE, &p))
            return false;
    }
    return rdb_read_bytes(r, (size_t)size, &p);
}

/* A compressed string, run by run, in the layout of liblzf: 000LLLLL stands for the L+1 bytes that
 * follow; LLLDDDDD [L] D for a copy of L+2 bytes (when L is 7 the next byte is added to it) from
 * D+1 bytes back. A copy must begin within what was made so far, and all must come to `size`
 * bytes. */
static bool check_runs(struct rdb_reader *r, uint64_t packed, uint64_t size)
{
    uint64_t end = rdb_reader_offset(r) + packed, made = 0;
    while (rdb_reader_offset(r) < end) {
        uint8_t control, more = 0, low;
        if (!rdb_read_u8(r, &control))
            return false;
        uint64_t length = control >> 5;
        if (length == 0) {
            length = control + 1U;
            if (!skip_bytes(r, length))
                return false;
        } else {
            if ((length == 7 && !rdb_read_u8(r, &more)) || !rdb_read_u8(r, &low))
                return false;
            length += 2U + more;
            if (((uint64_t)(control & 31) << 8 | low) + 1 > made)
                return rdb_fail(r, ERROR_CORRUPT, "a compressed string does not unpack");
        }
        made += length;
    }
    if (rdb_reader_offset(r) != end || made != size)
        return rdb_fail(r, ERROR_CORRUPT, "a compressed string does not unpack");
    return true;
}

static bool check_string(struct rdb_reader *r)
{
    uint64_t v, packed;
    bool special;
    if (!rdb_read_length(r, &v, &special))
        return false;
    if (!special)
        return skip_bytes(r, v);
    if (v > 3)
        return rdb_fail(r, ERROR_CORRUPT, "unknown string encoding %llu", (unsigned long long)v);
    if (v < 3)
        return skip_bytes(r, 1U << v);
    if (!rdb_read_count(r, 1, &packed) || !rdb_read_length(r, &v, &special))
        return false;
    if (special || v == 0)
        return rdb_fail(r, ERROR_CORRUPT, "a compressed string has an impossible length");
    return check_runs(r, packed, v);
}

static bool check_strings(struct rdb_reader *r, unsigned each)
{
    uint64_t count;
    if (!rdb_read_count(r, each, &count))
        return false;
    for (uint64_t i = 0; i < count * each; i++) {
        if (!check_string(r))
            return false;
    }
    return true;
}

static bool check_scores(struct rdb_reader *r, bool (*read_score)(struct rdb_reader *r, double *v))
{
    uint64_t count;
    double score;
    if (!rdb_read_count(r, 2, &count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (!check_string(r) || !read_score(r, &score))
            return false;
        if (isnan(score))
            return rdb_fail(r, ERROR_CORRUPT, "a score is not a number");
    }
    return true;
}

static bool check_timed_hash(struct rdb_reader *r)
{
    uint64_t first, count, after;
    bool special;
    if (!rdb_read_le64(r, &first) || !rdb_read_count(r, 3, &count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (!rdb_read_length(r, &after, &special) || !check_string(r) || !check_string(r))
            return false;
        if (special || (after != 0 && (first > INT64_MAX || after - 1 >= INT64_MAX - first)))
            return rdb_fail(r, ERROR_CORRUPT, "a field of a hash expires at an impossible time");
    }
    return true;
}

/* What a listpack must hold: elements by ones or pairs, the second of each a score. */
struct packed_check {
    uint64_t count;
    bool scores;
};

static bool check_element(void *ctx, struct slice element)
{
    struct packed_check *c = ctx;
    double score;
    return c->count++ % 2 == 0 || !c->scores || number_parse_double(element, &score);
}

static bool check_listpack(struct rdb_reader *r, unsigned each, bool scores)
{
    struct packed_check c = {.scores = scores};
    struct rdb_string s;
    bool stopped = false;
    if (!rdb_read_string(r, &s))
        return false;
    if (!packed_each_listpack(s.bytes, check_element, &c, &stopped) || c.count % each != 0)
        return rdb_fail(r, ERROR_CORRUPT, "a listpack is damaged");
    return true;
}

static bool check_quicklist(struct rdb_reader *r)
{
    enum { PLAIN = 1, PACKED = 2 };
    uint64_t nodes, container;
    if (!rdb_read_count(r, 2, &nodes))
        return false;
    for (uint64_t i = 0; i < nodes; i++) {
        if (!rdb_read_count(r, 1, &container))
            return false;
        if (container != PLAIN && container != PACKED)
            return rdb_fail(r, ERROR_CORRUPT, "a quicklist node is neither plain nor packed");
        if (container == PLAIN ? !check_string(r) : !check_listpack(r, 1, false))
            return false;
    }
    return true;
}

static bool check_intset(struct rdb_reader *r)
{
    struct rdb_string s;
    if (!rdb_read_string(r, &s))
        return false;
    return intset_check(s.bytes.data, s.bytes.size)
               ? true
               : rdb_fail(r, ERROR_CORRUPT, "an intset is damaged");
}

bool rdb_check_value(struct rdb_reader *r, uint8_t type, struct rdb_loader *l)
{
    switch (type) {
    case RDB_STRING:
        return check_string(r);
    case RDB_LIST:
    case RDB_SET:
        return check_strings(r, 1);
    case RDB_HASH:
        return check_strings(r, 2);
    case RDB_HASH_METADATA:
        return check_timed_hash(r);
    case RDB_ZSET:
        return check_scores(r, rdb_read_text_double);
    case RDB_ZSET_2:
        return check_scores(r, rdb_read_double);
    case RDB_SET_INTSET:
        return check_intset(r);
    case RDB_SET_LISTPACK:
        return check_listpack(r, 1, false);
    case RDB_HASH_LISTPACK:
        return check_listpack(r, 2, false);
    case RDB_ZSET_LISTPACK:
        return check_listpack(r, 2, true);
    case RDB_LIST_QUICKLIST_2:
        return check_quicklist(r);
    case RDB_STREAM_LISTPACKS:
    case RDB_STREAM_LISTPACKS_2:
    case RDB_STREAM_LISTPACKS_3:
        return rdb_load_stream(r, type, NULL, NULL);
    default: {
        struct entry *e = NULL;
        bool ok = rdb_load_value(r, type, SLICE("?"), ENTRY_NO_EXPIRY, l, &e);
        if (e)
            rdb_drop_entry(l, e);
        return ok;
    }
    }
}
