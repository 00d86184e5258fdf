/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the commands on hashes (hash.c) and those on the expiry of their fields (hash_expire.c)
 * share.
 *
 * A command that writes lets go of the fields that it names and that have expired before it does
 * anything else, with an effect of its own (HDEL), so that what it then finds is what whoever
 * replays the effects finds, too. One that reads hides them.
 */
#ifndef HF_COMMAND_HASH_COMMON_H
#define HF_COMMAND_HASH_COMMON_H

#include "command/member_reply.h"
#include "command/table.h"
#include "handlers.h"
#include "type/hash.h"

/* Let go of what has expired of the fields argv[first], argv[first + step], ... before argv[last].
 * ref->entry may be NULL before and afterwards. */
void hash_drop_expired(struct call *c, struct keyref *ref, int first, int last, int step);

/* Tell of a change of the hash, and that it was made by it if `is_new`. */
void hash_changed(struct call *c, const struct keyref *ref, bool is_new, const char *event,
                  uint64_t changes);
/* After fields were removed: tell of them, and of the key if it went with the last. */
void hash_fields_removed(struct call *c, const struct keyref *ref, uint64_t count);

/* A field's value, or null. `e` may be NULL. */
void hash_reply_value(struct call *c, const struct entry *e, struct slice field);

/* The effect: command, the key, argv[first] and what follows it. */
void hash_effect(struct call *c, const struct keyref *ref, struct slice command, int first);

#endif
