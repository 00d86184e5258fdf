/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on lists share with those that wait for lists: taking elements from a list that
 * is there, with the reply, the events and the effect. Functions that return bool return false when
 * there is nothing to take: nothing was replied then, and the caller does so, or waits.
 */
#ifndef HF_COMMAND_LIST_COMMON_H
#define HF_COMMAND_LIST_COMMON_H

#include "command/call.h"
#include "command/mpop.h"
#include "type/list.h"

/* LEFT or RIGHT. False: an error was replied. */
bool list_parse_end(struct call *c, struct slice word, enum list_end *end);

/* Take `count` elements off an end of a list that has as many, and reply each: the array around
 * them is the caller's. */
void list_reply_pop(struct call *c, struct keyref *ref, enum list_end end, uint64_t count);

extern const struct mpop_kind list_mpop; /* end 0 is LIST_HEAD, 1 LIST_TAIL */

/* The arguments that LMOVEM and BLMOVEM share, which end with what stands from argv[at] on:
 * [COUNT count | EXACTLY count] [OBO | BULK], both or neither of them. */
struct list_movem {
    enum list_end from, to;
    uint64_t count; /* so many, or as many as there are */
    bool exactly;   /* so many or none */
    bool in_bulk;   /* they keep their order; else they are taken and put one by one */
};
/* False: an error was replied. */
bool list_parse_movem(struct call *c, int at, struct list_movem *o);
/* Move them from the list argv[1] to the list argv[2]. False: there are none, or not enough. True,
 * too, when an error was replied. */
bool list_reply_movem(struct call *c, const struct list_movem *o);

/* Move an element from the list argv[1] to the list argv[2]. True, too, when an error was
 * replied. */
bool list_reply_move(struct call *c, enum list_end from_end, enum list_end to_end);

#endif
