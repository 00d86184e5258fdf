/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The expiry options that SET, GETEX and MSETEX share (EX PX EXAT PXAT KEEPTTL PERSIST), and the
 * reckoning from what a client gave to the moment when a key is due, which the EXPIRE and SETEX
 * families need, too.
 */
#ifndef HF_COMMAND_EXPIRE_ARGS_H
#define HF_COMMAND_EXPIRE_ARGS_H

#include "command/call.h"

enum expire_option {
    EXPIRE_UNSET = 0,
    EXPIRE_EX = 1,
    EXPIRE_PX = 2,
    EXPIRE_EXAT = 4,
    EXPIRE_PXAT = 8,
    EXPIRE_KEEPTTL = 16,
    EXPIRE_PERSIST = 32
};
#define EXPIRE_TIMES (EXPIRE_EX | EXPIRE_PX | EXPIRE_EXAT | EXPIRE_PXAT)

struct expire_args {
    enum expire_option option; /* EXPIRE_UNSET at first */
    struct slice time;         /* for the first four */
};

enum expire_args_result { EXPIRE_ARGS_TAKEN, EXPIRE_ARGS_OTHER, EXPIRE_ARGS_SYNTAX };

/* Look at argv[*i]: when it is one of the `allowed` options take it, with its value, and leave *i
 * on the last argument taken. OTHER: it is something else. SYNTAX: it does not go with what came
 * before, or its value is missing. Replies nothing. */
enum expire_args_result expire_args_take(struct expire_args *args, unsigned allowed,
                                         const struct slice *argv, int argc, int *i);

/* The moment meant by the option: a positive time. Replies an error and returns false when it is
 * no number or not in range. */
bool expire_args_due(struct call *c, const struct expire_args *args, int64_t *due);

/* `time` in seconds or milliseconds, from `base` on (0: from 1970 on); it may be negative. */
bool expire_reckon(struct call *c, struct slice time, bool seconds, int64_t base, int64_t *due);

#endif
