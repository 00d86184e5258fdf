/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/loop.h"

#include <pthread.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/socket.h"

#define EVENTS_MAX 256
#define POLL_MAX 64

struct loop_timer {
    struct loop_timer *next;
    int64_t due_us;
    loop_timer_fn *fn;
    void *ctx;
    bool removed; /* while timers run they are only marked */
};

struct task {
    struct task *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop {
    int epoll;
    struct loop_source wake;
    int64_t now_us;
    int64_t next_due_us; /* of the timers; INT64_MAX without any */
    bool more, in_timers;
    struct loop_timer *timers;
    void (*turn_begin)(void *ctx);
    bool (*turn_end)(void *ctx);
    void *hook_ctx;
    void (*turn_middle)(void *ctx);
    int middle_from; /* how many events a turn with a middle has at least */
    int event_count; /* fetched, and which is being handled: for loop_remove */
    int event_index;
    struct epoll_event events[EVENTS_MAX];
    pthread_mutex_t lock; /* guards the tasks */
    struct task *first_task, **last_task;
    bool has_tasks; /* read without the lock */
};

static void on_wake(struct loop_source *source, uint32_t events)
{
    (void)events;
    eventfd_reset(source->fd);
}

struct loop *loop_new(void)
{
    struct loop *loop = mem_zalloc(sizeof(*loop));
    loop->epoll = epoll_open();
    loop->wake = (struct loop_source){.fd = eventfd_open(), .on_ready = on_wake};
    loop->now_us = clock_monotonic_us();
    loop->next_due_us = INT64_MAX;
    loop->last_task = &loop->first_task;
    pthread_mutex_init(&loop->lock, NULL);
    loop_add(loop, &loop->wake, EPOLLIN);
    return loop;
}

void loop_free(struct loop *loop)
{
    for (struct loop_timer *t = loop->timers, *next; t != NULL; t = next) {
        next = t->next;
        mem_free(t);
    }
    for (struct task *t = loop->first_task, *next; t != NULL; t = next) {
        next = t->next;
        mem_free(t);
    }
    socket_close(loop->wake.fd);
    socket_close(loop->epoll);
    pthread_mutex_destroy(&loop->lock);
    mem_free(loop);
}

bool loop_add(struct loop *loop, struct loop_source *source, uint32_t events)
{
    source->events = events;
    return epoll_add(loop->epoll, source->fd, events, source);
}

void loop_set_events(struct loop *loop, struct loop_source *source, uint32_t events)
{
    if (source->events == events)
        return;
    source->events = events;
    epoll_change(loop->epoll, source->fd, events, source);
}

void loop_remove(struct loop *loop, struct loop_source *source)
{
    epoll_remove(loop->epoll, source->fd);
    for (int i = loop->event_index + 1; i < loop->event_count; i++) {
        if (loop->events[i].data.ptr == source)
            loop->events[i].data.ptr = NULL;
    }
}

static void find_next_due(struct loop *loop)
{
    loop->next_due_us = INT64_MAX;
    for (struct loop_timer *t = loop->timers; t != NULL; t = t->next) {
        if (!t->removed && t->due_us < loop->next_due_us)
            loop->next_due_us = t->due_us;
    }
}

struct loop_timer *loop_add_timer(struct loop *loop, int64_t delay_ms, loop_timer_fn *fn,
                                  void *ctx)
{
    struct loop_timer *t = mem_alloc(sizeof(*t));
    *t = (struct loop_timer){.next = loop->timers,
                             .due_us = loop->now_us + delay_ms * 1000,
                             .fn = fn,
                             .ctx = ctx};
    loop->timers = t;
    if (t->due_us < loop->next_due_us)
        loop->next_due_us = t->due_us;
    return t;
}

static void sweep_timers(struct loop *loop)
{
    for (struct loop_timer **at = &loop->timers; *at != NULL;) {
        struct loop_timer *t = *at;
        if (t->removed) {
            *at = t->next;
            mem_free(t);
        } else {
            at = &t->next;
        }
    }
    find_next_due(loop);
}

void loop_remove_timer(struct loop *loop, struct loop_timer *timer)
{
    timer->removed = true;
    if (!loop->in_timers)
        sweep_timers(loop);
}

static void run_timers(struct loop *loop)
{
    loop->in_timers = true;
    for (struct loop_timer *t = loop->timers; t != NULL; t = t->next) {
        if (t->removed || t->due_us > loop->now_us)
            continue;
        int64_t again_ms = t->fn(t->ctx);
        if (again_ms <= 0)
            t->removed = true;
        else
            t->due_us = loop->now_us + again_ms * 1000;
    }
    loop->in_timers = false;
    sweep_timers(loop);
}

void loop_post(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
    struct task *t = mem_alloc(sizeof(*t));
    *t = (struct task){.fn = fn, .ctx = ctx};
    pthread_mutex_lock(&loop->lock);
    *loop->last_task = t;
    loop->last_task = &t->next;
    __atomic_store_n(&loop->has_tasks, true, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&loop->lock);
    eventfd_signal(loop->wake.fd);
}

static void run_tasks(struct loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    struct task *t = loop->first_task, *next;
    loop->first_task = NULL;
    loop->last_task = &loop->first_task;
    __atomic_store_n(&loop->has_tasks, false, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&loop->lock);
    for (; t != NULL; t = next) {
        next = t->next;
        t->fn(t->ctx);
        mem_free(t);
    }
}

void loop_wake(struct loop *loop)
{
    eventfd_signal(loop->wake.fd);
}

void loop_set_hooks(struct loop *loop, void (*turn_begin)(void *ctx), bool (*turn_end)(void *ctx),
                    void *ctx)
{
    loop->turn_begin = turn_begin;
    loop->turn_end = turn_end;
    loop->hook_ctx = ctx;
}

void loop_set_middle(struct loop *loop, int from, void (*turn_middle)(void *ctx))
{
    loop->middle_from = from > 1 ? from : 2;
    loop->turn_middle = turn_middle;
}

static int wait_ms(const struct loop *loop, int64_t max_wait_ms)
{
    if (loop->more)
        return 0;
    int64_t wait = max_wait_ms;
    if (loop->next_due_us != INT64_MAX) {
        /* The clock of the turn is a little old, so that the wait may end a little late: timers are
         * for housekeeping. */
        int64_t until = (loop->next_due_us - loop->now_us + 999) / 1000;
        if (until < 0)
            until = 0;
        if (wait < 0 || until < wait)
            wait = until;
    }
    return wait > INT32_MAX ? INT32_MAX : (int)wait;
}

void loop_turn(struct loop *loop, int64_t max_wait_ms)
{
    int n = epoll_wait_for(loop->epoll, loop->events, EVENTS_MAX, wait_ms(loop, max_wait_ms));
    loop->now_us = clock_monotonic_us();
    if (loop->turn_begin != NULL)
        loop->turn_begin(loop->hook_ctx);
    loop->event_count = n;
    int middle = loop->turn_middle != NULL && n >= loop->middle_from ? n / 2 : n;
    for (int i = 0; i < n; i++) {
        if (i == middle && loop->turn_middle != NULL)
            loop->turn_middle(loop->hook_ctx);
        struct loop_source *source = loop->events[i].data.ptr;
        loop->event_index = i;
        if (source != NULL)
            source->on_ready(source, loop->events[i].events);
    }
    loop->event_count = 0;
    if (loop->now_us >= loop->next_due_us)
        run_timers(loop);
    if (__atomic_load_n(&loop->has_tasks, __ATOMIC_ACQUIRE))
        run_tasks(loop);
    loop->more = loop->turn_end != NULL && loop->turn_end(loop->hook_ctx);
}

void loop_poll(struct loop *loop)
{
    struct epoll_event events[POLL_MAX];
    int n = epoll_wait_for(loop->epoll, events, POLL_MAX, 0);
    for (int i = 0; i < n; i++) {
        struct loop_source *source = events[i].data.ptr;
        source->on_ready(source, events[i].events);
    }
}
