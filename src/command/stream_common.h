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
/* [id, [field, value, ...], idle, deliveries]: XREADGROUP with CLAIM. The numbers are bulk strings.
 */
void reply_stream_delivery(struct reply *r, struct stream_item item, int64_t idle_ms,
                           uint64_t deliveries);
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

/* What becomes of an entry that some group still refers to (it has it pending, or has not read it)
 * when it is deleted or trimmed: stream_refs.c. */
enum stream_refs {
    STREAM_KEEPREF, /* deleted all the same; it stays pending */
    STREAM_DELREF,  /* deleted, and no longer pending anywhere */
    STREAM_ACKED    /* not deleted before every group has read and acknowledged it */
};
bool stream_refs_parse(struct slice word, enum stream_refs *refs);
/* Whether some group has not read the entry, or not acknowledged it. */
bool stream_is_referred_to(const struct stream_root *s, struct stream_id id);
/* No group has it pending any more, which is told as effects. Returns how many had. */
uint64_t stream_remove_references(struct call *c, struct slice key, struct stream_root *s,
                                  struct stream_id id);
/* Trim, and tell the effects. With STREAM_ACKED those of the oldest entries go that nobody refers
 * to: with `approximate` no others than would go without it, else as many as max_length asks for,
 * or all below min_id. Returns how many went; *references is set to how many were pending no more.
 */
uint64_t stream_trim_with_refs(struct call *c, struct slice key, struct stream_root *s,
                               const struct stream_trim *trim, enum stream_refs refs,
                               uint64_t *references);

/* The consumer of this name, which is made if it is not there; notes that it was seen. */
void stream_consumer_see(struct call *c, struct keyref *ref, struct slice group_name,
                         struct stream_group *g, struct slice name,
                         struct stream_consumer *consumer);

void reply_no_group(struct call *c, struct slice key, struct slice group);

#endif
