/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How long the slowest SET takes while the keyspace grows: inserts N keys one by one and takes the
 * executor's CPU time for each. Prints JSON. Used by bench.py.
 *
 * On a virtual machine a thread's CPU clock also runs while the hypervisor runs somebody else,
 * which shows as milliseconds on arbitrary keys. The insertion is deterministic, so it is done
 * several times over and of each key's SET the shortest time counts: what the work itself takes is
 * there every time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "keyspace/keyspace.h"
#include "type/string.h"

static uint32_t cpu_ns_since(int64_t begun, int64_t *now)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    *now = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    int64_t taken = *now - begun;
    return taken > UINT32_MAX ? UINT32_MAX : (uint32_t)taken;
}

/* Insert the keys into a new keyspace; least[i] becomes the least of itself and key i's time. */
static double insert_all(uint64_t keys, uint32_t *least)
{
    struct keyspace *ks = keyspace_new(1, true);
    char value[64];
    memset(value, 'x', sizeof(value));
    size_t before = mem_used();
    int64_t begun;
    for (uint64_t i = 0; i < keys; i++) {
        char name[32];
        int n = snprintf(name, sizeof(name), "key:%012" PRIu64, i);
        struct slice key = slice_of(name, (size_t)n);
        struct keyref ref;
        cpu_ns_since(0, &begun);
        keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
        string_set(&ref, slice_of(value, sizeof(value)), ENTRY_NO_EXPIRY);
        int64_t ended;
        uint32_t taken = cpu_ns_since(begun, &ended);
        if (taken < least[i])
            least[i] = taken;
    }
    double bytes = (double)(mem_used() - before) / (double)keys;
    keyspace_free(ks);
    return bytes;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    uint64_t keys = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
    int rounds = argc > 2 ? atoi(argv[2]) : 3;
    if (keys == 0 || rounds < 1)
        return 2;
    uint32_t *least = mem_alloc(keys * sizeof(*least));
    memset(least, 0xff, keys * sizeof(*least));
    double bytes = 0, total = 0;
    for (int i = 0; i < rounds; i++)
        bytes = insert_all(keys, least);
    for (uint64_t i = 0; i < keys; i++)
        total += least[i];
    qsort(least, keys, sizeof(*least), compare);
    printf("{\"keys\": %" PRIu64 ", \"slowest_us\": %.1f, \"mean_ns\": %.1f, \"p9999_us\": %.1f, "
           "\"bytes_per_key\": %.1f}\n",
           keys, (double)least[keys - 1] / 1000, total / (double)keys,
           (double)least[keys - 1 - keys / 10000] / 1000, bytes);
    mem_free(least);
    return 0;
}
