/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <pthread.h>
#include <sched.h>

#include "base/spsc.h"

#define ITEMS 200000

static void *produce(void *arg)
{
    struct spsc *q = arg;
    for (size_t i = 0; i < ITEMS; i++) {
        size_t *item = mem_alloc(sizeof(*item));
        *item = i;
        while (!spsc_push(q, item))
            sched_yield();
    }
    return NULL;
}

/* Everything comes out once, in order, with its contents (ThreadSanitizer watches the
 * hand-over). */
static void test_two_threads(void **state)
{
    (void)state;
    struct spsc q;
    spsc_init(&q, 64);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, produce, &q), 0);
    for (size_t i = 0; i < ITEMS; i++) {
        void *item;
        while (!spsc_pop(&q, &item))
            sched_yield();
        assert_true(*(size_t *)item == i);
        mem_free(item);
    }
    pthread_join(thread, NULL);
    void *item;
    assert_false(spsc_pop(&q, &item));
    spsc_deinit(&q);
}

/* A full queue refuses. */
static void test_full(void **state)
{
    (void)state;
    struct spsc q;
    spsc_init(&q, 4);
    for (int i = 0; i < 4; i++)
        assert_true(spsc_push(&q, &q));
    assert_false(spsc_push(&q, &q));
    void *item;
    assert_true(spsc_pop(&q, &item));
    assert_true(spsc_push(&q, &q));
    spsc_deinit(&q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_two_threads),
                                       cmocka_unit_test(test_full)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
