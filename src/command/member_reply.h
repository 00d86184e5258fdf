/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replying members of hashes and sets: what the commands on both share.
 */
#ifndef HF_COMMAND_MEMBER_REPLY_H
#define HF_COMMAND_MEMBER_REPLY_H

#include "command/scan_args.h"
#include "type/member.h"

enum member_parts {
    MEMBER_KEYS,   /* members of a set, fields of a hash */
    MEMBER_VALUES, /* of a hash */
    MEMBER_BOTH,   /* a field, then its value */
    MEMBER_PAIRS   /* an array of the two for each */
};

/* A member_visit_fn that replies the item; ctx is a struct member_reply. */
struct member_reply {
    struct reply *reply;
    enum member_parts parts;
};
void member_reply_item(void *ctx, const struct dict_item *item);

/* All members, without the head of the aggregate. */
void member_reply_all(struct call *c, const struct entry *e, enum member_parts parts);

/* The whole of HSCAN and SSCAN: argv is key, cursor, options. */
void member_reply_scan(struct call *c, enum entry_type type);

/* Whether `count` elements drawn with repetition may be replied: false, with an error replied, when
 * that would take gigabytes, as nothing else bounds what a negative count asks for. */
bool member_reply_fits(struct call *c, const struct entry *e, uint64_t count);

#endif
