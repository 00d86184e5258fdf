/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on strings share: replying a value, telling of a new one, and the conditions
 * that SET and DELEX may be given.
 */
#ifndef HF_COMMAND_STRING_COMMON_H
#define HF_COMMAND_STRING_COMMON_H

#include "command/call.h"
#include "type/string.h"

/* A string value as a bulk string; null when e is NULL. */
void reply_string(struct reply *r, const struct entry *e);

/* Tell of a key's new string: "new" first when the key was not there. */
void string_changed(struct call *c, struct slice key, bool is_new, const char *event);

/* Set and tell, as SET does. */
void string_set_and_tell(struct call *c, struct keyref *ref, struct slice value, int64_t due);

enum condition_kind {
    CONDITION_NONE,
    CONDITION_NX,    /* the key is not there */
    CONDITION_XX,    /* the key is there */
    CONDITION_IFEQ,  /* it is there and has this value */
    CONDITION_IFNE,  /* it is not there or has another value */
    CONDITION_IFDEQ, /* like the two before, comparing the value's digest */
    CONDITION_IFDNE
};

struct condition {
    enum condition_kind kind;
    struct slice operand;
};

/* Take one of the four with an operand from argv[*i], leaving *i on the operand. False: it is not
 * one of them, or its operand is missing. */
bool condition_take(struct condition *condition, const struct slice *argv, int argc, int *i);

/* Whether the condition holds for what the key has (NULL: nothing). On false from the function an
 * error was replied: the value is no string, or the operand no digest. */
bool condition_check(struct call *c, const struct condition *condition, const struct entry *e,
                     bool *holds);

/* The digest of a string, as DIGEST replies it. */
#define STRING_DIGEST_SIZE 16
void string_digest(const struct entry *e, char out[STRING_DIGEST_SIZE]);

#endif
