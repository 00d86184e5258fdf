/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Strings as numbers: INCR and its relatives.
 */
#include <math.h>

#include "command/string_common.h"
#include "handlers.h"

static void add(struct call *c, int64_t delta)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL;
    int64_t value;
    switch (string_incr(&ref, delta, &value)) {
    case STRING_INCR_NOT_INTEGER:
        reply_not_integer(c->reply);
        return;
    case STRING_INCR_OVERFLOW:
        reply_error(c->reply, "ERR increment or decrement would overflow");
        return;
    case STRING_INCR_OK:
        break;
    }
    string_changed(c, ref.key, is_new, "incrby");
    reply_int(c->reply, value);
}

void cmd_incr(struct call *c)
{
    add(c, 1);
}

void cmd_decr(struct call *c)
{
    add(c, -1);
}

void cmd_incrby(struct call *c)
{
    int64_t delta;
    if (call_int64(c, c->argv[2], &delta, NULL))
        add(c, delta);
}

void cmd_decrby(struct call *c)
{
    int64_t delta;
    if (!call_int64(c, c->argv[2], &delta, NULL))
        return;
    if (delta == INT64_MIN)
        reply_error(c->reply, "ERR decrement would overflow");
    else
        add(c, -delta);
}

void cmd_incrbyfloat(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL;
    long double value = 0, delta;
    if ((!is_new && !string_get_long_double(ref.entry, &value)) ||
        !number_parse_long_double(c->argv[2], &delta)) {
        reply_not_float(c->reply);
        return;
    }
    value += delta;
    if (isnan(value) || isinf(value)) {
        reply_error(c->reply, "ERR increment would produce NaN or Infinity");
        return;
    }
    char text[NUMBER_LONG_DOUBLE_SIZE];
    struct slice result = slice_of(text, number_format_long_double(text, value));
    string_set_bytes(&ref, result, KEYREF_KEEP_DUE);
    string_changed(c, ref.key, is_new, "incrbyfloat");
    call_effect_set(c, c->db, ref.key, result, KEYREF_KEEP_DUE);
    reply_bulk(c->reply, result);
}
