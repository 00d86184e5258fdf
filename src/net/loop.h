/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The event loop of one thread: waits for descriptors (epoll, level-triggered), timers and tasks
 * that other threads post, and calls whoever is concerned.
 *
 * A turn: wait; call the handler of every ready source; call the handlers of the timers that are
 * due; run posted tasks; call the end-of-turn function. A source may be removed at any time, also
 * by another source's handler: events that were already fetched for it are then dropped.
 */
#ifndef HF_NET_LOOP_H
#define HF_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop;

/* Something with a descriptor: embedded by its owner. */
struct loop_source {
    int fd;
    uint32_t events; /* what is waited for: EPOLLIN, EPOLLOUT */
    void (*on_ready)(struct loop_source *source, uint32_t events);
};

struct loop *loop_new(void);
void loop_free(struct loop *loop);

/* False: the system has no room for it (errno). */
bool loop_add(struct loop *loop, struct loop_source *source, uint32_t events);
/* No system call when nothing changes. */
void loop_set_events(struct loop *loop, struct loop_source *source, uint32_t events);
/* Before its descriptor is closed. */
void loop_remove(struct loop *loop, struct loop_source *source);

/* Timers: fn is called after `delay_ms`, and again after as many milliseconds as it returns;
 * 0 removes the timer. */
typedef int64_t loop_timer_fn(void *ctx);
struct loop_timer;
struct loop_timer *loop_add_timer(struct loop *loop, int64_t delay_ms, loop_timer_fn *fn,
                                  void *ctx);
void loop_remove_timer(struct loop *loop, struct loop_timer *timer);

/* From any thread: have fn(ctx) called by the loop's thread. */
void loop_post(struct loop *loop, void (*fn)(void *ctx), void *ctx);
/* From any thread or a signal handler: end the wait. */
void loop_wake(struct loop *loop);

/* Called at the beginning of each turn, after the wait, and at its end. The end function returns
 * true when it has more to do: the next wait then does not wait. */
void loop_set_hooks(struct loop *loop, void (*turn_begin)(void *ctx), bool (*turn_end)(void *ctx),
                    void *ctx);

/* Have a turn with at least `from` ready sources call this function when half of them are handled:
 * what they have begun goes on beside the others. NULL: none does, as at first. */
void loop_set_middle(struct loop *loop, int from, void (*turn_middle)(void *ctx));

void loop_turn(struct loop *loop, int64_t max_wait_ms); /* -1: as long as it takes */
/* Within a turn: what is ready at once is told, and nothing else is done. */
void loop_poll(struct loop *loop);

#endif
