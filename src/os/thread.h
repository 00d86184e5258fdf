/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Threads: started with all signals blocked (the main thread takes them), a name that top shows,
 * the memory accounting begun, for helpers a way to yield to the executor, and for those that
 * others wait for a way to run soon.
 */
#ifndef HF_OS_THREAD_H
#define HF_OS_THREAD_H

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* name: at most 15 characters. */
bool os_thread_start(pthread_t *thread, const char *name, void (*run)(void *arg), void *arg,
                     struct error *err);

/* The calling thread works little at a time, and others wait for it: when it is woken it shall not
 * wait for the end of another thread's time slice. It asks for short time slices itself (since
 * Linux 6.12: who does so is let in at once); a wish. Threads that it starts have the usual
 * ones. */
void os_thread_be_prompt(void);

/* Run a function on a thread to which any other one is preferred (SCHED_IDLE; a wish), and wait for
 * it: for a library's function that starts threads, which inherit that. */
void os_thread_run_idle(void (*run)(void));

/* A bell: one thread sleeps until another one rings. Unlike a condition's signal, ringing tells the
 * kernel that the ringer will soon sleep itself, so that the thread that it wakes may have the same
 * processor rather than wait for another one. What is rung while nobody waits ends the next
 * wait. */
struct os_bell {
    int read_fd, write_fd; /* a pipe */
};
bool os_bell_init(struct os_bell *b, struct error *err);
void os_bell_deinit(struct os_bell *b);
void os_bell_ring(const struct os_bell *b);
/* Until it is rung, for `timeout_us` at most (INT64_MAX: without a limit); may end early. */
void os_bell_wait(const struct os_bell *b, int64_t timeout_us);

/* How a helper thread makes room for the executor. It runs under SCHED_IDLE: whoever else wants the
 * processor gets it at once, not at the end of a time slice of some milliseconds. As it might then
 * never run on a machine that is always busy, the share that it got of the time in which it wanted
 * the processor is looked at now and then (what it waited for a disk or a lock is not such time):
 * below POLITE_LEAST_SHARE it competes for a while, in bursts that are over before anybody notices
 * and that it rests after: left to the kernel a burst would last until the next tick, some
 * milliseconds. Then it runs under SCHED_BATCH, which gives it its share, but not when it wakes in
 * the middle of somebody else's work.
 *
 * A processor that nobody else wants is not free either: it may be the other half of the executor's
 * core, and it shares caches and memory with it. So while the executor has much to do there are
 * rests after bursts then, too; and a helper keeps off the processor that the executor runs on, if
 * there is another one that it may use. */
struct os_polite {
    int64_t wall_us;         /* at the last look */
    int64_t cpu_us, wait_us; /* then: processor time, and time spent waiting for a processor */
    int64_t burst_us;        /* processor time at the begin of this burst */
    int64_t looked_us;       /* when the executor was last looked at */
    int64_t executor_us;     /* its processor time then */
    bool busy;               /* it was */
    int avoided;             /* the processor that is kept off; -1: none */
    cpu_set_t allowed;       /* those that the thread might use before */
    bool yielding;
    bool ended;
};
#define POLITE_YIELD_US 100000
#define POLITE_COMPETE_US 120000
#define POLITE_LEAST_SHARE 0.02
#define POLITE_BURST_US 100
#define POLITE_REST_US 400
/* The executor is busy when it has run for this share of the time since the last look. */
#define POLITE_BUSY_SHARE 0.25
#define POLITE_BUSY_LOOK_US 2000
#define POLITE_BUSY_REST_US 100
/* The calling thread is the executor: there is one in a process. Without one nobody is busy. */
void os_polite_watch(void);
/* The executor says which processor it runs on: whenever it has slept. */
void os_polite_note_processor(void);
void os_polite_begin(struct os_polite *p);
/* To be called after each 50 us of work or so: where it is called less often, bursts are longer. */
void os_polite_check(struct os_polite *p);
/* Compete like any other thread from now on, as far as the system allows it. */
void os_polite_end(struct os_polite *p);

/* A thread that the executor wakes often, for little at a time, shares the executor's processor as
 * long as that one has time enough for both: it is woken at little cost there, and the other
 * processors are left to whom the executor serves. (The kernel alone wakes it on another one that
 * is idle just then, where it is soon in the way of clients on the same machine, and they in its:
 * docs/durability.md has the figures.) Otherwise, and where there is no choice, the kernel
 * decides. */
struct os_companion {
    cpu_set_t allowed; /* those that the thread might use before it shared one */
    int processor;     /* that is shared; -1: none */
    bool fits;
    int64_t wall_us, cpu_us, executor_us; /* at the last look; 0: there was none */
};
/* How often it is looked whether there is time enough: while both need less than the first share of
 * a processor it is shared, and until they need more than the second. */
#define COMPANION_LOOK_US 100000
#define COMPANION_FITS 0.97
#define COMPANION_FULL 0.992
void os_companion_begin(struct os_companion *c);
/* By the thread itself, each time before it waits for something. */
void os_companion_check(struct os_companion *c);
/* It is no companion any more, until it checks again. */
void os_companion_rest(struct os_companion *c);

#endif
