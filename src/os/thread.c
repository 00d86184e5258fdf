/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/thread.h"

#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

struct start {
    const char *name;
    void (*run)(void *arg);
    void *arg;
};

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;
    mem_thread_begin();
    mem_free(arg);
    pthread_setname_np(pthread_self(), start.name);
    start.run(start.arg);
    mem_thread_end();
    return NULL;
}

bool os_thread_start(pthread_t *thread, const char *name, void (*run)(void *arg), void *arg,
                     struct error *err)
{
    struct start *start = mem_alloc(sizeof(*start));
    *start = (struct start){name, run, arg};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int result = pthread_create(thread, NULL, begin, start);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (result != 0) {
        mem_free(start);
        return error_set_errno(err, result, "cannot start the thread %s", name);
    }
    return true;
}

#define COMPETING_NICE 10
#define COMPETING_SLICE_NS 100000

static int64_t cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* struct sched_attr of sched_setattr(2), which the C library does not declare. */
struct thread_scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns, deadline_ns, period_ns;
};

/* All of it is a wish: a system that does not grant it runs the thread as it runs the others. While
 * it competes it asks for short time slices (since Linux 6.12), as others wait for their end. */
static void set_scheduling(bool yielding, int nice)
{
    struct thread_scheduling how = {.size = sizeof(how),
                                    .policy = yielding ? SCHED_IDLE : SCHED_OTHER,
                                    .nice = nice,
                                    .slice_ns = COMPETING_SLICE_NS};
    syscall(SYS_sched_setattr, 0, &how, 0);
}

static void set_yielding(struct os_polite *p, bool yielding)
{
    p->yielding = yielding;
    set_scheduling(yielding, yielding ? 0 : COMPETING_NICE);
}

void os_polite_begin(struct os_polite *p)
{
    p->ended = false;
    p->wall_us = clock_monotonic_us();
    p->cpu_us = cpu_us();
    set_yielding(p, true);
}

void os_polite_check(struct os_polite *p)
{
    int64_t wall = clock_monotonic_us();
    if (p->ended || wall - p->wall_us < POLITE_INTERVAL_US)
        return;
    int64_t cpu = cpu_us();
    bool starved = (double)(cpu - p->cpu_us) < POLITE_LEAST_SHARE * (double)(wall - p->wall_us);
    /* A turn of competing is followed by one of yielding. */
    bool yielding = !(p->yielding && starved);
    if (yielding != p->yielding)
        set_yielding(p, yielding);
    p->wall_us = wall;
    p->cpu_us = cpu;
}

void os_polite_end(struct os_polite *p)
{
    if (p->ended)
        return;
    p->ended = true;
    p->yielding = false;
    set_scheduling(false, 0);
}
