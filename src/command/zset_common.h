/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on sorted sets share: telling of changes, replying members with their scores,
 * and putting a result under a key.
 */
#ifndef HF_COMMAND_ZSET_COMMON_H
#define HF_COMMAND_ZSET_COMMON_H

#include "command/call.h"
#include "type/zset.h"

/* Tell of a change: "new" first when the key was not there. */
void zset_tell(struct call *c, struct slice key, bool is_new, const char *event, uint64_t changes);
/* Tell that the key is gone when it is, as its last member was removed. */
void zset_tell_if_gone(struct call *c, const struct keyref *ref);

/* Members with their scores are a flat array in RESP2, an array of pairs in RESP3; without them the
 * array is flat. */
void zset_reply_begin(struct reply *r, uint64_t count, bool with_scores);
void zset_reply_item(struct reply *r, const struct zset_item *item, bool with_scores);

/* BZPOPMIN, BZPOPMAX: one member of a sorted set that is there, with its key and score. */
void zset_reply_pop(struct call *c, struct keyref *ref, bool highest);

/* The arguments of ZMPOP and BZMPOP, which begin with the number of keys at argv[first]. */
struct zset_mpop {
    const struct slice *keys; /* in argv */
    int key_count;
    bool highest;
    int64_t count;
};
/* False: an error was replied. */
bool zset_parse_mpop(struct call *c, int first, struct zset_mpop *o);
/* From this set, which is there. */
void zset_reply_mpop(struct call *c, struct keyref *ref, const struct zset_mpop *o);
/* From the first of the keys that is there; false when none is: nothing was replied. True, too,
 * when an error was. */
bool zset_reply_mpop_any(struct call *c, const struct zset_mpop *o);

/* Put what was built under a key, whatever it had, and reply how many members it has; delete the
 * key when nothing was built. */
void zset_store(struct call *c, struct slice key, struct zset_builder *b, const char *event);

#endif
