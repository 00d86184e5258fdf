/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Hashes. How they stand, and everything that reads all of one: see type/member.h.
 *
 * A hash becomes a dict when Redis would convert it (more fields than hash-max-listpack-entries, a
 * field or value longer than hash-max-listpack-value): then ENTRY_GROWN is set and it is a
 * `hashtable`; or when its listpack would be beyond ENTRY_EMBED_MAX bytes: then it stays a
 * `listpack` to whoever asks, until Redis's thresholds are passed. It never goes back.
 *
 * Fields may expire. A hash that has had such a field is an ENTRY_TIMED_DICT, of whatever size, and
 * stays one; to Redis it is a `listpackex` until its thresholds are passed. What has expired is
 * removed by the keyspace (active expiry, and keyref_expire_field before a field is written); until
 * then it counts in hash_count, and readers hide it: hash_get and hash_has take the time for that.
 * Functions that change a hash do not hide: who calls them has let go of what has expired.
 *
 * Functions that take a keyref change the hash and leave ref->entry up to date; one that removes
 * the last field deletes the key (ref->entry is NULL then). Slices given in are copied and must not
 * point into the hash itself. Functions that take a const entry write nothing and may be used on
 * the entry of a snapshot by any thread.
 */
#ifndef HF_TYPE_HASH_H
#define HF_TYPE_HASH_H

#include "base/number.h"
#include "type/member.h"

static inline uint64_t hash_count(const struct entry *e)
{
    return member_count(e);
}

/* "listpack", "listpackex" or "hashtable", as OBJECT ENCODING replies. */
const char *hash_encoding_name(const struct entry *e);

/* The value of a field: valid until the hash is changed, and as long as buf. One that was due
 * before now_ms is not found. */
bool hash_get(const struct entry *e, int64_t now_ms, struct slice field, struct slice *value,
              char buf[LISTPACK_NUMBER_SIZE]);
bool hash_has(const struct entry *e, int64_t now_ms, struct slice field);
/* When a field expires: ENTRY_NO_EXPIRY if it does not. False: there is no such field. */
bool hash_due(const struct entry *e, int64_t now_ms, struct slice field, int64_t *due);

/* Set a field, creating the hash when the key is not there: it does not expire then. True when the
 * field is new. */
bool hash_set(struct keyref *ref, struct slice field, struct slice value);
/* Only if the field is not there. True when it was set. */
bool hash_set_new(struct keyref *ref, struct slice field, struct slice value);
/* Set a field that expires: HASH_KEEP_DUE: as it did. */
#define HASH_KEEP_DUE INT64_MIN
bool hash_set_timed(struct keyref *ref, struct slice field, struct slice value, int64_t due);
/* Set when a field that is there expires; ENTRY_NO_EXPIRY: not at all. */
void hash_set_due(struct keyref *ref, struct slice field, int64_t due);

/* Before `count` different fields are added to a key that is not there, for loading: a hash that
 * will be large is made so at once, and not out of a small one. */
void hash_begin(struct keyref *ref, uint64_t count);

/* Remove a field of a hash that is there. False: there is no such field. */
bool hash_delete(struct keyref *ref, struct slice field);

enum hash_incr_result { HASH_INCR_OK, HASH_INCR_NOT_NUMBER, HASH_INCR_OVERFLOW };
/* Add to a field's number (0 when the field or key is not there). It expires as it did. */
enum hash_incr_result hash_incr(struct keyref *ref, struct slice field, int64_t delta,
                                int64_t *result);
/* The same with floating point. HASH_INCR_OVERFLOW: the sum is not finite. *digits is the sum as it
 * was stored, in buf. */
enum hash_incr_result hash_incr_float(struct keyref *ref, struct slice field, long double delta,
                                      char buf[NUMBER_LONG_DOUBLE_SIZE], struct slice *digits);

/* Give the key (which may be there) a hash from a listpack of fields and values, which must have
 * passed listpack_check. False, with the key as it was, if it is not a hash: empty, a field without
 * value, or a field twice. */
bool hash_put_listpack(struct keyref *ref, int64_t due, const char *lp);

#endif
