/* SPDX-License-Identifier: BSD-3-Clause
 *
 * INCREX: adds to a number within bounds, and says when the key expires. The log has it as the SET
 * of what came of it.
 */
#include <float.h>
#include <math.h>

#include "command/expire_args.h"
#include "command/string_common.h"
#include "handlers.h"

struct increx {
    bool is_float, saturate, only_if_none; /* ENX */
    struct slice increment, lower, upper;  /* as given; data is NULL where they are not */
    struct expire_args expire;
};

/* Take an option's value, once. */
static bool take_value(struct call *c, int *i, struct slice *value)
{
    if (value->data != NULL || *i + 1 >= c->argc)
        return false;
    *value = c->argv[++*i];
    return true;
}

static bool take_option(struct call *c, int *i, struct increx *o)
{
    struct slice word = c->argv[*i];
    if (slice_is(word, "byint") || slice_is(word, "byfloat")) {
        o->is_float = slice_is(word, "byfloat");
        return take_value(c, i, &o->increment);
    }
    if (slice_is(word, "lbound"))
        return take_value(c, i, &o->lower);
    if (slice_is(word, "ubound"))
        return take_value(c, i, &o->upper);
    if (slice_is(word, "saturate") || slice_is(word, "enx")) {
        bool *flag = slice_is(word, "enx") ? &o->only_if_none : &o->saturate;
        bool first = !*flag;
        *flag = true;
        return first;
    }
    /* Other commands let the last of equal options count, this one takes none twice. */
    return o->expire.option == EXPIRE_UNSET &&
           expire_args_take(&o->expire, EXPIRE_TIMES | EXPIRE_PERSIST, c->argv, c->argc, i) ==
               EXPIRE_ARGS_TAKEN;
}

static bool parse(struct call *c, struct increx *o)
{
    *o = (struct increx){0};
    for (int i = 2; i < c->argc; i++) {
        if (!take_option(c, &i, o)) {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    if (o->only_if_none && !(o->expire.option & EXPIRE_TIMES)) {
        if (o->expire.option == EXPIRE_PERSIST)
            reply_syntax_error(c->reply);
        else
            reply_error(c->reply, "ERR ENX flag requires an expiration");
        return false;
    }
    return true;
}

/* ---- the number ---- */

/* A number and what was added to it, one of the two kinds. */
struct sum {
    bool is_float;
    int64_t value, added;
    long double float_value, float_added;
};

enum outcome { SUM_SET, SUM_REFUSED, SUM_ERROR };

static enum outcome bounds_crossed(struct call *c)
{
    reply_error(c->reply, "ERR LBOUND can't be greater than UBOUND");
    return SUM_ERROR;
}

static enum outcome add_int(struct call *c, const struct increx *o, struct keyref *ref,
                            struct sum *sum)
{
    int64_t increment = 1, lower = INT64_MIN, upper = INT64_MAX, old = 0;
    if ((o->increment.data && !call_int64(c, o->increment, &increment,
                                          "ERR Increment is not an integer or out of range")) ||
        (o->lower.data &&
         !call_int64(c, o->lower, &lower, "ERR LBOUND is not an integer or out of range")) ||
        (o->upper.data &&
         !call_int64(c, o->upper, &upper, "ERR UBOUND is not an integer or out of range")))
        return SUM_ERROR;
    if (lower > upper)
        return bounds_crossed(c);
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, ref))
        return SUM_ERROR;
    if (ref->entry && !string_get_int64(ref->entry, &old)) {
        reply_not_integer(c->reply);
        return SUM_ERROR;
    }
    int64_t value;
    bool overflows = __builtin_add_overflow(old, increment, &value);
    sum->value = old;
    sum->added = 0;
    if (overflows || value < lower || value > upper) {
        if (!o->saturate)
            return SUM_REFUSED;
        value = (overflows ? increment > 0 : value > upper) ? upper : lower;
    }
    sum->value = value;
    if (__builtin_sub_overflow(value, old, &sum->added)) {
        reply_error(c->reply, "ERR applied increment would overflow");
        return SUM_ERROR;
    }
    return SUM_SET;
}

/* A number that is not infinite; else an error of `name` replied. */
static bool parse_finite(struct call *c, struct slice s, const char *name, const char *error,
                         long double *out)
{
    if (!number_parse_long_double(s, out))
        reply_error(c->reply, error);
    else if (isinf(*out))
        reply_errorf(c->reply, "ERR %s cannot be Infinity", name);
    else
        return true;
    return false;
}

static enum outcome add_float(struct call *c, const struct increx *o, struct keyref *ref,
                              struct sum *sum)
{
    long double increment, lower = -LDBL_MAX, upper = LDBL_MAX, old = 0;
    if (!parse_finite(c, o->increment, "BYFLOAT increment", "ERR Increment is not a valid float",
                      &increment) ||
        (o->lower.data &&
         !parse_finite(c, o->lower, "LBOUND", "ERR LBOUND is not a valid float", &lower)) ||
        (o->upper.data &&
         !parse_finite(c, o->upper, "UBOUND", "ERR UBOUND is not a valid float", &upper)))
        return SUM_ERROR;
    if (lower > upper)
        return bounds_crossed(c);
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, ref))
        return SUM_ERROR;
    if (ref->entry && !string_get_long_double(ref->entry, &old)) {
        reply_not_float(c->reply);
        return SUM_ERROR;
    }
    if (isinf(old)) {
        reply_error(c->reply, "ERR value cannot be Infinity");
        return SUM_ERROR;
    }
    long double value = old + increment;
    sum->float_value = old;
    sum->float_added = 0;
    if (value < lower || value > upper) {
        if (!o->saturate)
            return SUM_REFUSED;
        value = value > upper ? upper : lower;
    }
    sum->float_value = value;
    sum->float_added = value - old;
    if (isinf(sum->float_added)) {
        reply_error(c->reply, "ERR applied increment would produce Infinity");
        return SUM_ERROR;
    }
    return SUM_SET;
}

static void reply_sum(struct call *c, const struct sum *sum)
{
    reply_array(c->reply, 2);
    if (sum->is_float) {
        reply_human_double(c->reply, sum->float_value);
        reply_human_double(c->reply, sum->float_added);
    } else {
        reply_int(c->reply, sum->value);
        reply_int(c->reply, sum->added);
    }
}

/* ---- the key ---- */

static void set_sum(struct call *c, struct keyref *ref, const struct sum *sum, int64_t due)
{
    char text[NUMBER_LONG_DOUBLE_SIZE];
    struct slice bytes;
    bool is_new = ref->entry == NULL;
    if (sum->is_float) {
        bytes = slice_of(text, number_format_long_double(text, sum->float_value));
        string_set_bytes(ref, bytes, due);
    } else {
        bytes = slice_of(text, number_format_int64(text, sum->value));
        string_set_int64(ref, sum->value, due);
    }
    string_changed(c, ref->key, is_new, sum->is_float ? "incrbyfloat" : "incrby");
    call_effect_set(c, c->db, ref->key, bytes, due);
}

void cmd_increx(struct call *c)
{
    struct increx o;
    struct keyref ref;
    int64_t due = KEYREF_KEEP_DUE;
    if (!parse(c, &o) ||
        (o.expire.option & EXPIRE_TIMES && !expire_args_due(c, &o.expire, &due)))
        return;
    struct sum sum = {.is_float = o.is_float};
    enum outcome outcome = (o.is_float ? add_float : add_int)(c, &o, &ref, &sum);
    if (outcome == SUM_ERROR)
        return;
    reply_sum(c, &sum);
    if (outcome == SUM_REFUSED)
        return;

    bool expires = ref.entry != NULL && entry_due(ref.entry) != ENTRY_NO_EXPIRY;
    if (o.only_if_none && expires)
        due = KEYREF_KEEP_DUE;
    if (o.expire.option == EXPIRE_PERSIST && expires)
        due = ENTRY_NO_EXPIRY;
    if (due != KEYREF_KEEP_DUE && due <= c->now_ms) {
        /* The time is past: the key goes, or is not made. */
        if (ref.entry) {
            keyref_delete(&ref);
            call_changed(c, c->db, ref.key, EVENT_GENERIC, "del", 1);
            call_effect_delete(c, c->db, ref.key);
        }
        return;
    }
    set_sum(c, &ref, &sum, due);
    if (due != KEYREF_KEEP_DUE)
        call_changed(c, c->db, ref.key, EVENT_GENERIC,
                     due == ENTRY_NO_EXPIRY ? "persist" : "expire", 0);
}
