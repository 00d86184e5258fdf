/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/process.h"

struct start {
    const char *name;
    void (*run)(void *arg);
    void *arg;
};

/* struct sched_attr of sched_setattr(2), which the C library does not declare. */
struct thread_scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t slice_ns, deadline_ns, period_ns;
};

#define SHORT_SLICE_NS 100000

/* All of it is a wish: a system that does not grant it runs the thread as it runs the others. Who
 * asks for short time slices (since Linux 6.12; 0: the usual ones) is let in sooner. The niceness
 * stays. */
static void set_scheduling(int policy, uint64_t slice_ns)
{
    struct thread_scheduling how = {.size = sizeof(how),
                                    .policy = (uint32_t)policy,
                                    .nice = getpriority(PRIO_PROCESS, 0),
                                    .slice_ns = slice_ns};
    syscall(SYS_sched_setattr, 0, &how, 0);
}

/* Whoever runs the process under another policy has his reasons. */
static void set_slice(uint64_t slice_ns)
{
    if (sched_getscheduler(0) == SCHED_OTHER)
        set_scheduling(SCHED_OTHER, slice_ns);
}

/* A thread inherits the slices of the one that starts it. */
static void be_ordinary(void)
{
    set_slice(0);
}

void os_thread_be_prompt(void)
{
    set_slice(SHORT_SLICE_NS);
}

static void *begin(void *arg)
{
    struct start start = *(struct start *)arg;
    mem_thread_begin();
    mem_free(arg);
    pthread_setname_np(pthread_self(), start.name);
    be_ordinary();
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

static void run_idle(void *arg)
{
    void (*const *run)(void) = arg;
    set_scheduling(SCHED_IDLE, 0);
    (*run)();
}

void os_thread_run_idle(void (*run)(void))
{
    pthread_t thread;
    struct error ignored = {0};
    if (os_thread_start(&thread, "hf-start", run_idle, &run, &ignored))
        pthread_join(thread, NULL);
    else
        run();
}

#define REST_MOST_US 20000

static int64_t cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* ---- bells ---- */

bool os_bell_init(struct os_bell *b, struct error *err)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0)
        return error_set_errno(err, errno, "cannot make a pipe");
    /* When it is full it has been rung often enough. */
    fcntl(fds[1], F_SETFL, O_NONBLOCK);
    *b = (struct os_bell){fds[0], fds[1]};
    return true;
}

void os_bell_deinit(struct os_bell *b)
{
    close(b->read_fd);
    close(b->write_fd);
}

void os_bell_ring(const struct os_bell *b)
{
    ssize_t n = write(b->write_fd, "", 1);
    (void)n;
}

void os_bell_wait(const struct os_bell *b, int64_t timeout_us)
{
    char rings[64];
    if (timeout_us != INT64_MAX) {
        struct pollfd p = {.fd = b->read_fd, .events = POLLIN};
        int64_t us = timeout_us > 0 ? timeout_us : 0;
        struct timespec t = {us / 1000000, us % 1000000 * 1000};
        if (ppoll(&p, 1, &t, NULL) <= 0)
            return;
    }
    ssize_t n = read(b->read_fd, rings, sizeof(rings));
    (void)n;
}

/* ---- politeness ---- */

/* How long this thread has waited for a processor while it could have run. Where the system does
 * not say so, all the time that it did not run counts. */
static int64_t wait_us(int64_t now_us, int64_t used_us)
{
    char text[96];
    unsigned long long waited_ns;
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return now_us - used_us;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return now_us - used_us;
    text[n] = '\0';
    return sscanf(text, "%*u %llu", &waited_ns) == 1 ? (int64_t)(waited_ns / 1000)
                                                     : now_us - used_us;
}

static void look_again(struct os_polite *p, bool yielding)
{
    if (p->yielding != yielding)
        set_scheduling(yielding ? SCHED_IDLE : SCHED_BATCH, 0);
    p->yielding = yielding;
    p->wall_us = clock_monotonic_us();
    p->cpu_us = p->burst_us = cpu_us();
    p->wait_us = wait_us(p->wall_us, p->cpu_us);
}

/* Whether it got little of the time in which it wanted to run. */
static bool is_starved(const struct os_polite *p)
{
    int64_t now = clock_monotonic_us(), used = cpu_us();
    double got = (double)(used - p->cpu_us), waited = (double)(wait_us(now, used) - p->wait_us);
    return got < POLITE_LEAST_SHARE * (got + waited);
}

static clockid_t executor_clock;
static bool executor_known;
static int executor_processor = -1;

void os_polite_note_processor(void)
{
    __atomic_store_n(&executor_processor, sched_getcpu(), __ATOMIC_RELAXED);
}

/* -1: none. A wish. */
static void keep_off(struct os_polite *p, int processor)
{
    if (processor == p->avoided)
        return;
    if (p->avoided < 0 && sched_getaffinity(0, sizeof(p->allowed), &p->allowed) != 0)
        return;
    cpu_set_t others = p->allowed;
    if (processor >= 0)
        CPU_CLR((size_t)processor, &others);
    if (CPU_COUNT(&others) > 0)
        sched_setaffinity(0, sizeof(others), &others);
    p->avoided = processor;
}

void os_polite_watch(void)
{
    clockid_t id;
    if (pthread_getcpuclockid(pthread_self(), &id) != 0)
        return;
    __atomic_store_n(&executor_clock, id, __ATOMIC_RELAXED);
    __atomic_store_n(&executor_known, true, __ATOMIC_RELEASE);
}

/* The processor time that the executor has used; -1: there is none. */
static int64_t executor_cpu_us(void)
{
    struct timespec t;
    if (!__atomic_load_n(&executor_known, __ATOMIC_ACQUIRE) ||
        clock_gettime(__atomic_load_n(&executor_clock, __ATOMIC_RELAXED), &t) != 0)
        return -1;
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Looks again when the last look is too old. */
static bool executor_is_busy(struct os_polite *p)
{
    int64_t now = clock_monotonic_us();
    if (now - p->looked_us < POLITE_BUSY_LOOK_US)
        return p->busy;
    int64_t used = executor_cpu_us();
    if (used < 0)
        return false;
    bool busy = p->looked_us > 0 &&
                (double)(used - p->executor_us) > POLITE_BUSY_SHARE * (double)(now - p->looked_us);
    if (busy && !p->busy)
        p->burst_us = cpu_us();
    p->busy = busy;
    p->looked_us = now;
    p->executor_us = used;
    keep_off(p, busy ? __atomic_load_n(&executor_processor, __ATOMIC_RELAXED) : -1);
    return p->busy;
}

void os_polite_begin(struct os_polite *p)
{
    *p = (struct os_polite){.avoided = -1};
    look_again(p, true);
}

/* The longer the burst was, the longer the rest: rest_us after POLITE_BURST_US. */
static void rest_after_burst(struct os_polite *p, int64_t rest_us)
{
    int64_t ran = cpu_us() - p->burst_us;
    if (ran < POLITE_BURST_US)
        return;
    int64_t rest = ran * rest_us / POLITE_BURST_US;
    os_sleep_us(rest < REST_MOST_US ? rest : REST_MOST_US);
    p->burst_us = cpu_us();
}

void os_polite_check(struct os_polite *p)
{
    if (p->ended)
        return;
    int64_t since = clock_monotonic_us() - p->wall_us;
    bool busy = executor_is_busy(p);
    if (!p->yielding || busy)
        rest_after_burst(p, p->yielding ? POLITE_BUSY_REST_US : POLITE_REST_US);
    if (!p->yielding) {
        if (since >= POLITE_COMPETE_US)
            look_again(p, true);
    } else if (since >= POLITE_YIELD_US) {
        look_again(p, !is_starved(p));
    }
}

void os_polite_end(struct os_polite *p)
{
    if (p->ended)
        return;
    p->ended = true;
    p->yielding = false;
    keep_off(p, -1);
    set_scheduling(SCHED_OTHER, SHORT_SLICE_NS);
}

/* ---- companions ---- */

void os_companion_begin(struct os_companion *c)
{
    *c = (struct os_companion){.processor = -1};
}

/* -1: none. A wish. */
static void share(struct os_companion *c, int processor)
{
    if (processor == c->processor)
        return;
    if (c->processor < 0 && sched_getaffinity(0, sizeof(c->allowed), &c->allowed) != 0)
        return;
    cpu_set_t to = c->allowed;
    if (processor >= 0) {
        if (!CPU_ISSET((size_t)processor, &c->allowed))
            return;
        CPU_ZERO(&to);
        CPU_SET((size_t)processor, &to);
    }
    sched_setaffinity(0, sizeof(to), &to);
    c->processor = processor;
}

void os_companion_check(struct os_companion *c)
{
    int64_t now = clock_monotonic_us();
    if (now - c->wall_us >= COMPANION_LOOK_US) {
        int64_t used = cpu_us(), executor = executor_cpu_us();
        double both = (double)(used - c->cpu_us + executor - c->executor_us);
        double most = c->fits ? COMPANION_FULL : COMPANION_FITS;
        c->fits = c->wall_us != 0 && executor >= 0 && both < most * (double)(now - c->wall_us);
        c->wall_us = now;
        c->cpu_us = used;
        c->executor_us = executor;
    }
    share(c, c->fits ? __atomic_load_n(&executor_processor, __ATOMIC_RELAXED) : -1);
}

void os_companion_rest(struct os_companion *c)
{
    share(c, -1);
    c->fits = false;
    c->wall_us = 0;
}
