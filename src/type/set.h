/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Sets. How they stand, and everything that reads all of one: see type/member.h.
 *
 *     to Redis     here             while
 *     intset       ENTRY_INTSET     all members that were ever added are integers, and no more than
 *                                   set-max-intset-entries, and no more than ENTRY_EMBED_MAX bytes
 *                  ENTRY_DICT with ENTRY_INTEGERS when the bytes are more than that
 *     listpack     ENTRY_LISTPACK   no more than set-max-listpack-entries, none longer than
 *                                   set-max-listpack-value, and no more than ENTRY_EMBED_MAX bytes
 *                  ENTRY_DICT without ENTRY_GROWN when the bytes are more than that
 *     hashtable    ENTRY_DICT with ENTRY_GROWN
 *
 * The listpack of small sets is what Redis 7.2 and later have; 7.0 calls them `hashtable`. A set
 * never goes back to a smaller encoding, except where SPOP writes what is left of it anew.
 *
 * Functions that take a keyref change the set and leave ref->entry up to date; one that removes the
 * last member deletes the key (ref->entry is NULL then). Slices given in are copied and must not
 * point into the set itself. Functions that take a const entry write nothing and may be used on the
 * entry of a snapshot by any thread.
 */
#ifndef HF_TYPE_SET_H
#define HF_TYPE_SET_H

#include "type/member.h"

static inline uint64_t set_count(const struct entry *e)
{
    return member_count(e);
}

/* "intset", "listpack" or "hashtable", as OBJECT ENCODING replies. */
const char *set_encoding_name(const struct entry *e);

/* Whether RDB files hold the set as integers (set_encoding_name is "intset"). */
bool set_is_integers(const struct entry *e);

bool set_has(const struct entry *e, struct slice member);
/* The same with hash_bytes of the member, for who asks several sets. */
bool set_has_hash(const struct entry *e, struct slice member, uint64_t hash);

/* Add a member, creating the set when the key is not there. False: it was there. */
bool set_add(struct keyref *ref, struct slice member);
/* Before `count` different members, the first of which is `first`, are added to a key that is not
 * there, for loading: a set that will be large is made so at once, and not out of a small one. */
void set_begin(struct keyref *ref, struct slice first, uint64_t count);
/* Remove a member of a set that is there. False: it was not in it. */
bool set_remove(struct keyref *ref, struct slice member);

/* Take `count` different random members out, or all, each shown to fn before it goes; fn must not
 * change the keyspace. */
void set_pop(struct keyref *ref, uint64_t count, member_visit_fn *fn, void *ctx);

/* Give the key (which may be there) a set from a listpack or intset, which must have passed
 * listpack_check or intset_check. False, with the key as it was, if it is not a set: empty, or a
 * member twice. */
bool set_put_listpack(struct keyref *ref, int64_t due, const char *lp);
bool set_put_intset(struct keyref *ref, int64_t due, const char *is);

#endif
