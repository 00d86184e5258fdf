/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands on hashes.
 */
#include "command/hash_common.h"

#include <math.h>

#include "command/member_reply.h"
#include "command/table.h"
#include "handlers.h"

/* A hash to read; NULL when the key is not there. False: an error was replied. */
static bool find_hash(struct call *c, struct entry **e)
{
    return call_find(c, c->argv[1], ENTRY_HASH, e);
}

static bool find_hash_to_write(struct call *c, struct keyref *ref, int first, int last, int step)
{
    if (!call_find_write(c, c->argv[1], ENTRY_HASH, ref))
        return false;
    if (ref->entry != NULL && __builtin_expect(entry_timed(ref->entry) != 0, 0))
        hash_drop_expired(c, ref, first, last, step);
    return true;
}

void hash_drop_expired(struct call *c, struct keyref *ref, int first, int last, int step)
{
    if (ref->entry == NULL || !member_hides(ref->entry, c->now_ms))
        return;
    for (int i = first; i < last && ref->entry; i += step)
        keyref_expire_field(ref, c->argv[i]);
}

void hash_changed(struct call *c, const struct keyref *ref, bool is_new, const char *event,
                  uint64_t changes)
{
    if (is_new)
        call_changed(c, c->db, ref->key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, ref->key, EVENT_HASH, event, changes);
}

void hash_fields_removed(struct call *c, const struct keyref *ref, uint64_t count)
{
    if (count == 0)
        return;
    hash_changed(c, ref, false, "hdel", count);
    if (ref->entry == NULL)
        call_changed(c, c->db, ref->key, EVENT_GENERIC, "del", 0);
}

void hash_reply_value(struct call *c, const struct entry *e, struct slice field)
{
    char buf[LISTPACK_NUMBER_SIZE];
    struct slice value;
    if (e && hash_get(e, c->now_ms, field, &value, buf))
        reply_bulk(c->reply, value);
    else
        reply_null(c->reply);
}

void hash_effect(struct call *c, const struct keyref *ref, struct slice command, int first)
{
    if (c->stream == NULL)
        return;
    call_effect_begin(c, c->db, (uint64_t)(c->argc - first) + 2);
    call_effect_argument(c, command);
    call_effect_argument(c, ref->key);
    for (int i = first; i < c->argc; i++)
        call_effect_argument(c, c->argv[i]);
}

/* ---- writing ---- */

/* HSET and HMSET up to the reply. Sets *created to the number of new fields. */
static bool set_fields(struct call *c, int64_t *created)
{
    if (c->argc % 2 != 0) {
        reply_errorf(c->reply, "ERR wrong number of arguments for '%s' command",
                     c->command->full_name);
        return false;
    }
    struct keyref ref;
    if (!find_hash_to_write(c, &ref, 2, c->argc, 2))
        return false;
    bool is_new = ref.entry == NULL;
    *created = 0;
    for (int i = 2; i < c->argc; i += 2)
        *created += hash_set(&ref, c->argv[i], c->argv[i + 1]);
    hash_changed(c, &ref, is_new, "hset", (uint64_t)(c->argc - 2) / 2);
    return true;
}

void cmd_hset(struct call *c)
{
    int64_t created;
    if (set_fields(c, &created))
        reply_int(c->reply, created);
}

void cmd_hmset(struct call *c)
{
    int64_t created;
    if (set_fields(c, &created))
        reply_ok(c->reply);
}

void cmd_hsetnx(struct call *c)
{
    struct keyref ref;
    if (!find_hash_to_write(c, &ref, 2, 3, 1))
        return;
    bool is_new = ref.entry == NULL;
    bool set = hash_set_new(&ref, c->argv[2], c->argv[3]);
    if (set)
        hash_changed(c, &ref, is_new, "hset", 1);
    reply_int(c->reply, set);
}

void cmd_hdel(struct call *c)
{
    struct keyref ref;
    if (!find_hash_to_write(c, &ref, 2, c->argc, 1))
        return;
    int64_t deleted = 0;
    for (int i = 2; i < c->argc && ref.entry; i++)
        deleted += hash_delete(&ref, c->argv[i]);
    hash_fields_removed(c, &ref, (uint64_t)deleted);
    reply_int(c->reply, deleted);
}

/* True when the sum was stored; otherwise the error was replied. */
static bool check_incr(struct call *c, enum hash_incr_result result, const char *not_number,
                       const char *overflow)
{
    if (result == HASH_INCR_NOT_NUMBER)
        reply_error(c->reply, not_number);
    else if (result == HASH_INCR_OVERFLOW)
        reply_error(c->reply, overflow);
    return result == HASH_INCR_OK;
}

void cmd_hincrby(struct call *c)
{
    int64_t delta, sum;
    struct keyref ref;
    if (!call_int64(c, c->argv[3], &delta, NULL) || !find_hash_to_write(c, &ref, 2, 3, 1))
        return;
    bool is_new = ref.entry == NULL;
    if (!check_incr(c, hash_incr(&ref, c->argv[2], delta, &sum), "ERR hash value is not an integer",
                    "ERR increment or decrement would overflow"))
        return;
    hash_changed(c, &ref, is_new, "hincrby", 1);
    reply_int(c->reply, sum);
}

void cmd_hincrbyfloat(struct call *c)
{
    long double delta;
    if (!number_parse_long_double(c->argv[3], &delta)) {
        reply_not_float(c->reply);
        return;
    }
    if (!isfinite(delta)) {
        reply_error(c->reply, "ERR value is NaN or Infinity");
        return;
    }
    struct keyref ref;
    if (!find_hash_to_write(c, &ref, 2, 3, 1))
        return;
    bool is_new = ref.entry == NULL;
    char buf[NUMBER_LONG_DOUBLE_SIZE];
    struct slice digits;
    if (!check_incr(c, hash_incr_float(&ref, c->argv[2], delta, buf, &digits),
                    "ERR hash value is not a float", "ERR increment would produce NaN or Infinity"))
        return;
    hash_changed(c, &ref, is_new, "hincrbyfloat", 1);
    int64_t due;
    if (hash_due(ref.entry, INT64_MIN, c->argv[2], &due) && due != ENTRY_NO_EXPIRY)
        CALL_EFFECT(c, c->db, SLICE("HSETEX"), ref.key, SLICE("KEEPTTL"), SLICE("FIELDS"),
                    SLICE("1"), c->argv[2], digits);
    else
        CALL_EFFECT(c, c->db, SLICE("HSET"), ref.key, c->argv[2], digits);
    reply_bulk(c->reply, digits);
}

/* ---- reading ---- */

void cmd_hget(struct call *c)
{
    struct entry *e;
    if (find_hash(c, &e))
        hash_reply_value(c, e, c->argv[2]);
}

void cmd_hmget(struct call *c)
{
    struct entry *e;
    if (!find_hash(c, &e))
        return;
    reply_array(c->reply, (size_t)(c->argc - 2));
    for (int i = 2; i < c->argc; i++)
        hash_reply_value(c, e, c->argv[i]);
}

void cmd_hlen(struct call *c)
{
    struct entry *e;
    if (find_hash(c, &e))
        reply_int(c->reply, e ? (int64_t)hash_count(e) : 0);
}

void cmd_hstrlen(struct call *c)
{
    struct entry *e;
    if (!find_hash(c, &e))
        return;
    char buf[LISTPACK_NUMBER_SIZE];
    struct slice value;
    bool found = e && hash_get(e, c->now_ms, c->argv[2], &value, buf);
    reply_int(c->reply, found ? (int64_t)value.size : 0);
}

void cmd_hexists(struct call *c)
{
    struct entry *e;
    if (find_hash(c, &e))
        reply_int(c->reply, e && hash_has(e, c->now_ms, c->argv[2]));
}

void cmd_hgetall(struct call *c)
{
    struct entry *e;
    if (!find_hash(c, &e))
        return;
    reply_map(c->reply, e ? member_count_live(e, c->now_ms) : 0);
    if (e)
        member_reply_all(c, e, MEMBER_BOTH);
}

static void reply_column(struct call *c, enum member_parts parts)
{
    struct entry *e;
    if (!find_hash(c, &e))
        return;
    reply_array(c->reply, e ? member_count_live(e, c->now_ms) : 0);
    if (e)
        member_reply_all(c, e, parts);
}

void cmd_hkeys(struct call *c)
{
    reply_column(c, MEMBER_KEYS);
}

void cmd_hvals(struct call *c)
{
    reply_column(c, MEMBER_VALUES);
}

void cmd_hscan(struct call *c)
{
    member_reply_scan(c, ENTRY_HASH);
}

static void reply_random_fields(struct call *c, int64_t count, bool with_values)
{
    struct entry *e;
    if (!find_hash(c, &e))
        return;
    uint64_t all = e ? member_count_live(e, c->now_ms) : 0;
    if (all == 0 || count == 0) {
        reply_array(c->reply, 0);
        return;
    }
    uint64_t n = count < 0 ? (uint64_t)-count : (uint64_t)count;
    if (count > 0 && n > all)
        n = all;
    if (count < 0 && !member_reply_fits(c, e, n))
        return;
    bool pairs = with_values && c->reply->protocol == 3;
    reply_array(c->reply, with_values && !pairs ? 2 * n : n);
    struct member_reply m = {c->reply, MEMBER_KEYS};
    if (with_values)
        m.parts = pairs ? MEMBER_PAIRS : MEMBER_BOTH;
    if (count < 0)
        member_random_repeated(e, c->ks, n, member_reply_item, &m);
    else
        member_random_distinct(e, c->ks, n, member_reply_item, &m);
}

void cmd_hrandfield(struct call *c)
{
    if (c->argc > 2) {
        int64_t count;
        if (!call_int64_range(c, c->argv[2], -INT64_MAX, INT64_MAX, &count, NULL))
            return;
        bool with_values = c->argc == 4 && slice_is(c->argv[3], "withvalues");
        if (c->argc > 3 && !with_values)
            reply_syntax_error(c->reply);
        else if (with_values && (count < -INT64_MAX / 2 || count > INT64_MAX / 2))
            reply_error(c->reply, "ERR value is out of range");
        else
            reply_random_fields(c, count, with_values);
        return;
    }
    struct entry *e;
    if (!find_hash(c, &e))
        return;
    struct dict_item item;
    struct member_buf buf;
    if (e && member_random(e, c->ks, &item, &buf))
        reply_bulk(c->reply, item.key);
    else
        reply_null(c->reply);
}
