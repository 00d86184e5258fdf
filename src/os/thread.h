/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: started with all signals blocked (the main thread takes them), a name that top shows, the
 * memory accounting begun, and for helpers a way to yield to the executor.
 */
#ifndef HF_OS_THREAD_H
#define HF_OS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* name: at most 15 characters. */
bool os_thread_start(pthread_t *thread, const char *name, void (*run)(void *arg), void *arg,
                     struct error *err);

/* How a helper thread makes room for the executor. It runs under SCHED_IDLE: whoever else wants the
 * processor gets it at once, not at the end of a time slice of some milliseconds. As it might then
 * never run on a machine that is always busy, the share that it got is looked at now and then: below
 * POLITE_LEAST_SHARE it competes, with a low weight, for the next interval. */
struct os_polite {
    int64_t wall_us, cpu_us; /* at the last look */
    bool yielding;
    bool ended;
};
#define POLITE_INTERVAL_US 100000
#define POLITE_LEAST_SHARE 0.15
void os_polite_begin(struct os_polite *p);
void os_polite_check(struct os_polite *p); /* to be called every few milliseconds of work or less */
/* Compete like any other thread from now on, as far as the system allows it. */
void os_polite_end(struct os_polite *p);

#endif
