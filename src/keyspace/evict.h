/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Eviction: which key goes next when memory is short. No list of all keys is kept: a few keys are
 * looked at, at random, and the best candidates of several looks stay in a small pool, so that what
 * goes is close to what an exact order would choose. (The idea of the pool is Redis's.)
 *
 * Owned by the executor.
 */
#ifndef HF_KEYSPACE_EVICT_H
#define HF_KEYSPACE_EVICT_H

#include "keyspace/keyspace.h"

enum evict_order { EVICT_LRU, EVICT_LFU, EVICT_TTL, EVICT_RANDOM };

struct evictor;

struct evictor *evictor_new(void);
void evictor_free(struct evictor *v);
/* Forget the candidates: the policy has changed, or the data. */
void evictor_reset(struct evictor *v);

/* Remove one key: the best candidate after another look at `samples` keys in each database. With
 * `expiring` only keys with an expiry are looked at. The key is told to `on_evict` before it goes.
 * False: there is none. */
bool evictor_evict(struct evictor *v, struct keyspace *ks, enum evict_order order, bool expiring,
                   size_t samples,
                   void (*on_evict)(void *ctx, struct db *db, struct slice key), void *ctx);

#endif
