/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A histogram of durations, whatever their unit: 16 buckets to each doubling, so that a percentile
 * is off by at most 1/16 of its value. Recording is a few instructions and never allocates.
 */
#ifndef HF_BASE_HISTOGRAM_H
#define HF_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB_BITS 4
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_SUB_BITS + 1) << HISTOGRAM_SUB_BITS)

struct histogram {
    uint64_t total;
    uint64_t counts[HISTOGRAM_BUCKETS];
};

static inline unsigned histogram_bucket(uint64_t value)
{
    if (value < 1U << HISTOGRAM_SUB_BITS)
        return (unsigned)value;
    unsigned octave = 63U - (unsigned)__builtin_clzll(value) - HISTOGRAM_SUB_BITS;
    return (octave << HISTOGRAM_SUB_BITS) + (unsigned)(value >> octave);
}

/* Record a value that stands for `weight` ones: more than 1 when only some are looked at. */
static inline void histogram_record(struct histogram *h, uint64_t value, unsigned weight)
{
    h->counts[histogram_bucket(value)] += weight;
    h->total += weight;
}

/* The highest value of a bucket. */
uint64_t histogram_bucket_max(unsigned bucket);
/* The value below or at which `percent` of all recorded values lie (the top of its bucket); 0 when
 * there are none. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

#endif
