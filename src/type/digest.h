/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Digests of values, keys and databases: the same 160 bits as DEBUG DIGEST and DEBUG DIGEST-VALUE
 * of redis-server give for the same data, so that two servers can be compared by them.
 *
 * Two operations on a digest D, with SHA1:
 *
 *     xor(D, bytes):   D = D ^ SHA1(bytes)                 order does not matter
 *     mix(D, bytes):   D = SHA1(D ^ SHA1(bytes))           order matters
 *
 *     value of a key:  D = mix(type as 4 bytes, big-endian); then
 *         string       mix(the string)
 *         list         mix(each element)
 *         set          xor(each member)
 *         zset         xor(E) of each member, where E = mix(member), mix(score as %.17g)
 *         hash         xor(E) of each field, where E = mix(field), mix(value)
 *         and xor("!!expire!!") when the key expires
 *     databases:       for each that is not empty: mix(its number, 4 bytes, big-endian); then
 * xor(K) of each key, where K = mix(key) and then its value's operations
 */
#ifndef HF_TYPE_DIGEST_H
#define HF_TYPE_DIGEST_H

#include "keyspace/keyspace.h"

#define DIGEST_SIZE 20

struct digest {
    unsigned char bytes[DIGEST_SIZE]; /* begins as zeros */
};

/* The digest of one key's value. */
void digest_value(struct digest *d, const struct entry *e);
/* The digest of all databases. */
void digest_keyspace(struct digest *d, const struct keyspace *ks);
void digest_to_hex(const struct digest *d, char hex[2 * DIGEST_SIZE + 1]);

#endif
