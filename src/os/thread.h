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
 * POLITE_LEAST_SHARE it competes for a while, in bursts that are over before anybody notices and
 * that it rests after: left to the kernel a burst would last until the next tick, some milliseconds. */
struct os_polite {
    int64_t wall_us, cpu_us; /* at the last look */
    int64_t burst_us;        /* while it competes: processor time at the begin of this burst */
    bool yielding;
    bool ended;
};
#define POLITE_YIELD_US 30000
#define POLITE_COMPETE_US 120000
#define POLITE_LEAST_SHARE 0.15
#define POLITE_BURST_US 100
#define POLITE_REST_US 400
void os_polite_begin(struct os_polite *p);
/* To be called after each 50 us of work or so: where it is called less often, bursts are longer. */
void os_polite_check(struct os_polite *p);
/* Compete like any other thread from now on, as far as the system allows it. */
void os_polite_end(struct os_polite *p);

#endif
