/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/histogram.h"

#include <math.h>

uint64_t histogram_bucket_max(unsigned bucket)
{
    if (bucket < 2U << HISTOGRAM_SUB_BITS)
        return bucket;
    unsigned octave = (bucket >> HISTOGRAM_SUB_BITS) - 1;
    uint64_t top = (bucket & ((1U << HISTOGRAM_SUB_BITS) - 1)) + (1U << HISTOGRAM_SUB_BITS);
    /* One less than where the next bucket begins; the last ends at the greatest number. */
    return (top << octave) + ((1ULL << octave) - 1);
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    double wanted = ceil((double)h->total * percent / 100);
    uint64_t seen = 0, rank = wanted < 1 ? 1 : (uint64_t)wanted;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank)
            return histogram_bucket_max(i);
    }
    return 0;
}
