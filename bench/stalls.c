/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What this machine does to a program that wants nothing but a processor: one thread on each looks
 * at the clock all the time and notes how long it was not there. No server's slowest write can be
 * shown to be below that: bench.py prints it beside them.
 *
 *     bench-stalls SECONDS
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"

#define PROCESSORS_MAX 256

struct watcher {
    pthread_t thread;
    size_t processor;
    int64_t end_us, longest_us;
    unsigned above_1ms;
};

static void *watch(void *arg)
{
    struct watcher *w = arg;
    cpu_set_t own;
    CPU_ZERO(&own);
    CPU_SET(w->processor, &own);
    pthread_setaffinity_np(pthread_self(), sizeof(own), &own);
    for (int64_t before = clock_monotonic_us(); before < w->end_us;) {
        int64_t now = clock_monotonic_us(), away = now - before;
        if (away > w->longest_us)
            w->longest_us = away;
        w->above_1ms += away > 1000;
        before = now;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct watcher watchers[PROCESSORS_MAX];
    cpu_set_t allowed;
    size_t count = 0;
    if (argc != 2 || sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        fprintf(stderr, "usage: bench-stalls SECONDS\n");
        return 2;
    }
    int64_t end_us = clock_monotonic_us() + (int64_t)(strtod(argv[1], NULL) * 1e6);
    for (size_t i = 0; i < PROCESSORS_MAX; i++) {
        struct watcher *w = &watchers[count];
        *w = (struct watcher){.processor = i, .end_us = end_us};
        if (CPU_ISSET(i, &allowed) && pthread_create(&w->thread, NULL, watch, w) == 0)
            count++;
    }
    int64_t longest_us = 0;
    unsigned above_1ms = 0;
    for (size_t i = 0; i < count; i++) {
        pthread_join(watchers[i].thread, NULL);
        if (watchers[i].longest_us > longest_us)
            longest_us = watchers[i].longest_us;
        above_1ms += watchers[i].above_1ms;
    }
    printf("{\"processors\": %zu, \"max_ms\": %.3f, \"above_1ms\": %u}\n", count,
           (double)longest_us / 1000, above_1ms);
    return 0;
}
