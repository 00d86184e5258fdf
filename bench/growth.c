/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How long the slowest SET takes while the keyspace grows: inserts N keys one by one and takes the
 * executor's CPU time for each. Prints JSON. Used by bench.py.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "keyspace/keyspace.h"
#include "type/string.h"

#define BUCKETS 200000 /* of 100 ns: up to 20 ms */

static int64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    if (keys == 0)
        return 2;
    hash_key_init(NULL);
    struct keyspace *ks = keyspace_new(1, true);
    uint32_t *histogram = mem_zalloc(BUCKETS * sizeof(*histogram));
    char value[64];
    memset(value, 'x', sizeof(value));
    size_t before = mem_used();
    int64_t slowest = 0, total = 0, last = cpu_ns();
    for (uint64_t i = 0; i < keys; i++) {
        char name[32];
        int n = snprintf(name, sizeof(name), "key:%012" PRIu64, i);
        struct slice key = slice_of(name, (size_t)n);
        struct keyref ref;
        last = cpu_ns();
        keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
        string_set(&ref, slice_of(value, sizeof(value)), ENTRY_NO_EXPIRY);
        int64_t taken = cpu_ns() - last;
        total += taken;
        if (taken > slowest)
            slowest = taken;
        histogram[taken / 100 < BUCKETS ? taken / 100 : BUCKETS - 1]++;
    }
    uint64_t seen = 0;
    size_t at = BUCKETS;
    while (at > 0 && seen < keys / 10000 + 1)
        seen += histogram[--at];
    printf("{\"keys\": %" PRIu64 ", \"slowest_us\": %.1f, \"mean_ns\": %.1f, \"p9999_us\": %.1f, "
           "\"bytes_per_key\": %.1f}\n",
           keys, (double)slowest / 1000, (double)total / (double)keys, (double)at / 10,
           (double)(mem_used() - before) / (double)keys);
    mem_free(histogram);
    keyspace_free(ks);
    return 0;
}
