/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HyperLogLogs: strings that estimate how many different elements they have been shown, with a
 * standard error of 0.81 %, in Redis's very bytes:
 *
 *     "HYLL" | encoding, 1 | unused, 3 | cached cardinality, 8, little-endian | registers
 *
 * The highest bit of the cardinality's last byte says that the cache is void. There are 16384
 * registers of 6 bits. An element's hash (MurmurHash64A by Austin Appleby, with Redis's seed) names
 * one by its low 14 bits; the register keeps the greatest number of the bits up to and including
 * the first 1 in what is left of the hash.
 *
 *     dense    (encoding 0) the registers one behind the other, the low bits first: 12288 bytes
 *     sparse   (encoding 1) runs of equal registers:
 *                00nnnnnn            n + 1 registers are 0
 *                01nnnnnn nnnnnnnn   n + 1 registers are 0 (the high bits first)
 *                1vvvvvnn            n + 1 registers are v + 1
 *
 * A sparse one becomes dense when a register is beyond 32, or when it would be longer than
 * limits.hll_sparse_max_bytes. The cardinality is Otmar Ertl's improved estimate ("New cardinality
 * estimation algorithms for HyperLogLog sketches", 2017, algorithm 6), computed in Redis's order,
 * so that equal registers give equal numbers.
 *
 * The bytes may come from anybody (SET, RESTORE). The header is looked at by hll_check; sparse runs
 * are checked as far as an operation goes along them, which gives HLL_DAMAGED.
 */
#ifndef HF_TYPE_HYPERLOGLOG_H
#define HF_TYPE_HYPERLOGLOG_H

#include "type/string.h"

#define HLL_REGISTERS 16384
#define HLL_DENSE_SIZE (16 + HLL_REGISTERS * 6 / 8)

/* Whether a string has a HyperLogLog's header and, if that says dense, its size. */
bool hll_check(const struct entry *e);
bool hll_is_dense(const struct entry *e); /* of what hll_check has passed */

/* Make the key an empty one. */
void hll_create(struct keyref *ref);

enum hll_result { HLL_SAME, HLL_CHANGED, HLL_DAMAGED };

/* Show it elements. *changed: whether a register has changed, which may be so before damage was
 * met. */
enum hll_result hll_add(struct keyref *ref, const struct slice *elements, size_t count,
                        bool *changed);
/* Say that the cached cardinality is void. */
void hll_void_cache(struct keyref *ref);
/* The cached cardinality; false when it is void. */
bool hll_cached(const struct entry *e, uint64_t *cardinality);
void hll_set_cached(struct keyref *ref, uint64_t cardinality);

/* The registers, one byte each. `into` keeps the greater ones. False when it is damaged. */
bool hll_merge_into(uint8_t into[HLL_REGISTERS], const struct entry *e);
/* The other way: raise the registers to these, as an HLL that is dense if `dense` or if it was. */
enum hll_result hll_raise(struct keyref *ref, const uint8_t registers[HLL_REGISTERS], bool dense);
enum hll_result hll_make_dense(struct keyref *ref); /* SAME: it was dense */

uint64_t hll_estimate(const uint8_t registers[HLL_REGISTERS]);
/* The estimate for one HLL, from the registers; false when it is damaged. */
bool hll_count(const struct entry *e, uint64_t *cardinality);

/* The runs of a sparse one in order, for PFDEBUG DECODE. False when it is damaged. */
enum hll_run { HLL_RUN_ZERO, HLL_RUN_LONG_ZERO, HLL_RUN_VALUE };
typedef void hll_visit_fn(void *ctx, enum hll_run kind, unsigned value, unsigned length);
bool hll_visit_runs(const struct entry *e, hll_visit_fn *fn, void *ctx);

/* An element's register and what it asks of it: for the self test. */
unsigned hll_register_of(struct slice element, uint8_t *value);

#endif
