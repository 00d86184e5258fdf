/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Building hashes and sets aside, for loading: members are added in any order, and a member that is
 * there twice is noticed at the end. What comes out is what hash_set and set_add of the same
 * members would have made; only sets whose first member is an integer and that could be an intset
 * are not for this builder (member_builder_can).
 *
 * One builder may build many, one after another. It belongs to one thread.
 */
#ifndef HF_TYPE_MEMBER_BUILD_H
#define HF_TYPE_MEMBER_BUILD_H

#include "structure/dict_build.h"
#include "type/member.h"

struct member_builder {
    struct epoch *epoch;
    const struct encoding_limits *limits;
    enum entry_type type; /* ENTRY_SET or ENTRY_HASH */
    bool large, grown;
    struct dict_builder dict; /* what was added when `large` */
    char lp[ENTRY_EMBED_MAX];
};

void member_builder_init(struct member_builder *b, struct epoch *epoch,
                         const struct encoding_limits *limits);
/* Whether this builder is right for a set of `count` members with this one first. */
bool member_builder_can(const struct member_builder *b, struct slice first, uint64_t count);
/* Before `count` members are added to a builder that is empty. */
void member_builder_begin(struct member_builder *b, enum entry_type type, uint64_t count);
/* The slices are copied. The value of a set's member is empty. */
void member_builder_add(struct member_builder *b, struct slice member, struct slice value);
/* The finished entry, for db_insert or keyref_give; NULL when a member was added twice. At least
 * one was added. The builder is empty afterwards. */
struct entry *member_builder_finish(struct member_builder *b, struct slice key, int64_t due);
/* Throw away what was added. */
void member_builder_reset(struct member_builder *b);

#endif
