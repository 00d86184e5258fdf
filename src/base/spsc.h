/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A bounded queue of pointers between one producing and one consuming thread, without locks: two
 * counters that only grow, each written by one side, on cache lines of their own. What the producer
 * wrote before spsc_push is seen by the consumer after spsc_pop.
 *
 * It does not wake anybody: who waits is told by an eventfd or condition variable of its own.
 */
#ifndef HF_BASE_SPSC_H
#define HF_BASE_SPSC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

struct spsc {
    void **slots;
    size_t mask;
    _Alignas(64) size_t head; /* next to pop; written by the consumer */
    _Alignas(64) size_t tail; /* next to push; written by the producer */
};

/* capacity: a power of two. */
static inline void spsc_init(struct spsc *q, size_t capacity)
{
    q->slots = (void **)mem_alloc(capacity * sizeof(void *));
    q->mask = capacity - 1;
    q->head = 0;
    q->tail = 0;
}

static inline void spsc_deinit(struct spsc *q)
{
    mem_free(q->slots);
    q->slots = NULL;
}

/* False when it is full. */
static inline bool spsc_push(struct spsc *q, void *item)
{
    size_t tail = __atomic_load_n(&q->tail, __ATOMIC_RELAXED);
    if (tail - __atomic_load_n(&q->head, __ATOMIC_ACQUIRE) > q->mask)
        return false;
    q->slots[tail & q->mask] = item;
    __atomic_store_n(&q->tail, tail + 1, __ATOMIC_RELEASE);
    return true;
}

/* False when it is empty. */
static inline bool spsc_pop(struct spsc *q, void **item)
{
    size_t head = __atomic_load_n(&q->head, __ATOMIC_RELAXED);
    if (head == __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE))
        return false;
    *item = q->slots[head & q->mask];
    __atomic_store_n(&q->head, head + 1, __ATOMIC_RELEASE);
    return true;
}

#endif
