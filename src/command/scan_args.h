/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What SCAN, HSCAN, SSCAN and ZSCAN have in common: the cursor and the options, and how the reply
 * begins. Redis looks at the cursor before it looks the key up, and at the options only when the
 * key is there, hence two functions.
 */
#ifndef HF_COMMAND_SCAN_ARGS_H
#define HF_COMMAND_SCAN_ARGS_H

#include "command/call.h"

enum scan_kind {
    SCAN_KEYS,   /* takes TYPE */
    SCAN_FIELDS, /* HSCAN: takes NOVALUES */
    SCAN_MEMBERS
};

struct scan_args {
    size_t count;   /* COUNT, at least 1; 10 when it is not given */
    bool has_match; /* false also for MATCH *, which needs no look at the element */
    bool has_type;
    bool no_values;
    struct slice match; /* the pattern, for glob_match */
    struct slice type;  /* as given, in any case; it may be the name of no type at all */
};

/* False: "invalid cursor" was replied. */
bool scan_parse_cursor(struct call *c, struct slice s, uint64_t *cursor);

/* The options from argv[first] on. False: an error was replied. */
bool scan_parse_options(struct call *c, int first, enum scan_kind kind, struct scan_args *args);

bool scan_matches(const struct scan_args *args, struct slice element);

/* The reply's beginning: an array of two, and the cursor. The array of elements has to follow. */
void scan_reply_cursor(struct call *c, uint64_t cursor);
/* What is replied for a key that is not there. */
void scan_reply_empty(struct call *c);

#endif
