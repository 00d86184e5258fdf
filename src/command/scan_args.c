/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/scan_args.h"

#include "base/glob.h"
#include "base/number.h"

#define SCAN_COUNT_DEFAULT 10

/* Redis reads the cursor with strtoul: an empty one is 0, a sign is allowed and wraps around, and
 * what follows a NUL is not looked at. */
bool scan_parse_cursor(struct call *c, struct slice s, uint64_t *cursor)
{
    const char *nul = s.size ? memchr(s.data, '\0', s.size) : NULL;
    size_t size = nul ? (size_t)(nul - s.data) : s.size, i = 0;
    bool negative = size > 0 && s.data[0] == '-';
    if (size > 1 && (s.data[0] == '-' || s.data[0] == '+'))
        i = 1;
    uint64_t v = 0;
    for (; i < size; i++) {
        unsigned digit = (unsigned)(unsigned char)s.data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(v, 10U, &v) ||
            __builtin_add_overflow(v, digit, &v)) {
            reply_error(c->reply, "ERR invalid cursor");
            return false;
        }
    }
    *cursor = negative ? 0 - v : v;
    return true;
}

bool scan_parse_options(struct call *c, int first, enum scan_kind kind, struct scan_args *args)
{
    *args = (struct scan_args){.count = SCAN_COUNT_DEFAULT};
    for (int i = first; i < c->argc;) {
        struct slice option = c->argv[i];
        bool has_value = i + 1 < c->argc;
        if (has_value && slice_is(option, "count")) {
            int64_t count;
            if (!call_int64(c, c->argv[i + 1], &count, NULL))
                return false;
            if (count < 1) {
                reply_syntax_error(c->reply);
                return false;
            }
            args->count = (size_t)count;
            i += 2;
        } else if (has_value && slice_is(option, "match")) {
            args->match = c->argv[i + 1];
            args->has_match = !slice_equal(args->match, SLICE("*"));
            i += 2;
        } else if (has_value && kind == SCAN_KEYS && slice_is(option, "type")) {
            args->type = c->argv[i + 1];
            args->has_type = true;
            i += 2;
        } else if (kind == SCAN_FIELDS && slice_is(option, "novalues")) {
            args->no_values = true;
            i++;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

bool scan_matches(const struct scan_args *args, struct slice element)
{
    return !args->has_match || glob_match(args->match, element, false);
}

void scan_reply_cursor(struct call *c, uint64_t cursor)
{
    char digits[NUMBER_INT64_SIZE];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + cursor % 10);
        cursor /= 10;
    } while (cursor != 0);
    reply_array(c->reply, 2);
    reply_bulk(c->reply, slice_of(digits + at, sizeof(digits) - at));
}

void scan_reply_empty(struct call *c)
{
    scan_reply_cursor(c, 0);
    reply_array(c->reply, 0);
}
