/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keyed hash of keys and members: SipHash-1-3 (Aumasson, Bernstein: "SipHash: a fast
 * short-input PRF", 2012; the 1-3 variant is the one that Rust and Ruby use for tables). Who does
 * not know the 128-bit key cannot make keys collide. The key is drawn at start from the system's
 * random source; hashes are never stored in files.
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

uint64_t hash_bytes(const void *data, size_t size); /* with hash_process_key */
uint64_t hash_bytes_keyed(const struct hash_key *key, const void *data, size_t size);

#endif
