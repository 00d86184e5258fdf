/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keyed hash of keys and members: SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast
 * short-input PRF", 2012; the 1-3 variant is the one that Rust and Ruby use for tables). Who does
 * not know the 128-bit key cannot make keys collide. The key is drawn at start from the system's
 * random source, or made of a secret (`hash-seed`), so that several servers have the same order of
 * keys; hashes are never stored in files.
 */
#ifndef HF_BASE_HASH_H
#define HF_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct hash_key {
    uint64_t k0, k1;
};

/* The key of this process. Set once by hash_key_init before any thread starts; tests may set it. */
extern struct hash_key hash_process_key;
void hash_key_init(const struct hash_key *key); /* NULL: draw a random one */

/* What hash_key_init has set: for what must differ from process to process whatever
 * hash_process_key is made of afterwards. */
extern struct hash_key hash_unique_key;
/* hash_process_key from now on is made of these bytes: the same for the same bytes. To be called
 * before anything is hashed. */
void hash_key_from_seed(const void *seed, size_t size);

uint64_t hash_bytes(const void *data, size_t size); /* with hash_process_key */
uint64_t hash_bytes_keyed(const struct hash_key *key, const void *data, size_t size);

#endif
