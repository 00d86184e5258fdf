/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on sorted sets share: telling of changes, replying members with their scores,
 * and putting a result under a key.
 */
#ifndef HF_COMMAND_ZSET_COMMON_H
#define HF_COMMAND_ZSET_COMMON_H

#include "command/call.h"
#include "command/mpop.h"
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

extern const struct mpop_kind zset_mpop; /* end 0 has the lowest scores, 1 the highest */

/* Put what was built under a key, whatever it had, and reply how many members it has; delete the
 * key when nothing was built. */
void zset_store(struct call *c, struct slice key, struct zset_builder *b, const char *event);

#endif
