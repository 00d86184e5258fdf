/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on streams share: ids as arguments and in replies, entries in replies, and the
 * effects that groups have.
 */
#ifndef HF_COMMAND_STREAM_COMMON_H
#define HF_COMMAND_STREAM_COMMON_H

#include "command/call.h"
#include "type/stream.h"

#define STREAM_ID_TEXT_SIZE 44

/* When a consumer was seen, and got an entry at the latest: now, also while the log or a primary's
 * stream is replayed at a moment long ago. */
static inline int64_t stream_now(const struct call *c)
{
    return c->now_ms > c->ks->wall_ms ? c->now_ms : c->ks->wall_ms;
}

size_t stream_format_id(char out[STREAM_ID_TEXT_SIZE], struct stream_id id);
/* A bulk string. */
void reply_stream_id(struct reply *r, struct stream_id id);
/* [id, [field, value, ...]] */
void reply_stream_item(struct reply *r, struct stream_item item);
/* The entries of a range, up to `count` of them (0: all); returns how many. */
uint64_t reply_stream_range(struct reply *r, const struct stream_root *s, struct stream_id from,
                            struct stream_id to, uint64_t count, bool reverse);

/* An id without a sequence number gets `missing`. In the first form "-" and "+" are the lowest and
 * highest id. The others want a number; "<ms>-*" is taken where auto_seq is not NULL, and tells.
 * False: an error was replied. */
bool call_stream_id(struct call *c, struct slice s, uint64_t missing, struct stream_id *id);
bool call_stream_id_strict(struct call *c, struct slice s, uint64_t missing, struct stream_id *id,
                           bool *auto_seq);
/* Whether this is an id in the strict form. */
bool stream_id_parse(struct slice s, uint64_t missing, struct stream_id *id);
/* One end of an interval, which "(" in front leaves out. */
bool call_stream_start(struct call *c, struct slice s, struct stream_id *id);
bool call_stream_end(struct call *c, struct slice s, struct stream_id *id);

/* Find a stream to write and make its root changeable. *s is NULL when the key is not there. False:
 * -WRONGTYPE was replied. */
bool call_stream_write(struct call *c, struct slice key, struct keyref *ref);
struct stream_root *stream_own(struct keyref *ref);

/* What was done to a group, as commands that Redis 7.0 knows. */
void stream_effect_claim(struct call *c, struct slice key, struct slice group,
                         struct slice consumer, const struct stream_pending *p,
                         struct stream_id last);
void stream_effect_ack(struct call *c, struct slice key, struct slice group, struct stream_id id);
void stream_effect_group(struct call *c, struct slice key, struct slice group,
                         const struct stream_group *g);
void stream_effect_consumer(struct call *c, struct slice key, struct slice group,
                            struct slice consumer);

/* The consumer of this name, which is made if it is not there; notes that it was seen. */
void stream_consumer_see(struct call *c, struct keyref *ref, struct slice group_name,
                         struct stream_group *g, struct slice name,
                         struct stream_consumer *consumer);

void reply_no_group(struct call *c, struct slice key, struct slice group);

#endif
