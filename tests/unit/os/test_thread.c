/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "os/thread.h"

#define ROUNDS 2000

static struct os_bell there, back;
static struct error err;

static int setup(void **state)
{
    (void)state;
    return os_bell_init(&there, &err) && os_bell_init(&back, &err) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    os_bell_deinit(&there);
    os_bell_deinit(&back);
    return 0;
}

static void answer(void *arg)
{
    int *rounds = arg;
    os_thread_be_prompt();
    for (int i = 0; i < ROUNDS; i++) {
        os_bell_wait(&there, INT64_MAX);
        ++*rounds;
        os_bell_ring(&back);
    }
}

/* Two threads take turns: no ring is lost, whether the other one sleeps already or not yet. */
static void test_rings_are_not_lost(void **state)
{
    (void)state;
    pthread_t thread;
    int rounds = 0;
    assert_true(os_thread_start(&thread, "answer", answer, &rounds, &err));
    for (int i = 0; i < ROUNDS; i++) {
        os_bell_ring(&there);
        if (i % 2)
            os_bell_wait(&back, INT64_MAX);
        else
            os_bell_wait(&back, 60000000);
    }
    pthread_join(thread, NULL);
    assert_int_equal(rounds, ROUNDS);
}

/* What was rung while nobody waited ends one wait, however often it was. */
static void test_rings_ahead_end_one_wait(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++)
        os_bell_ring(&there);
    os_bell_wait(&there, INT64_MAX);
    int64_t begin = clock_monotonic_us();
    os_bell_wait(&there, 20000);
    assert_true(clock_monotonic_us() - begin >= 20000);
}

/* More rings than a pipe has room for do not hold up who rings. */
static void test_ringing_never_waits(void **state)
{
    (void)state;
    for (int i = 0; i < 100000; i++)
        os_bell_ring(&there);
    os_bell_wait(&there, INT64_MAX);
}

static void be_prompt(void *arg)
{
    int *nice = arg;
    os_thread_be_prompt();
    *nice = getpriority(PRIO_PROCESS, 0);
}

/* A thread that wants to be prompt keeps the niceness that the process was given. */
static void test_prompt_keeps_niceness(void **state)
{
    (void)state;
    pthread_t thread;
    int nice = -1, before = getpriority(PRIO_PROCESS, 0);
    if (before < 19)
        assert_int_equal(setpriority(PRIO_PROCESS, 0, ++before), 0);
    assert_true(os_thread_start(&thread, "prompt", be_prompt, &nice, &err));
    pthread_join(thread, NULL);
    assert_int_equal(nice, before);
}

static void be_polite(void *arg)
{
    int *nice = arg;
    struct os_polite p;
    os_polite_begin(&p);
    os_polite_check(&p);
    os_polite_end(&p);
    *nice = getpriority(PRIO_PROCESS, 0);
}

/* So does one that was polite, when it has ended to be. */
static void test_polite_keeps_niceness(void **state)
{
    (void)state;
    pthread_t thread;
    int nice = -1, before = getpriority(PRIO_PROCESS, 0);
    if (before < 19)
        assert_int_equal(setpriority(PRIO_PROCESS, 0, ++before), 0);
    assert_true(os_thread_start(&thread, "polite", be_polite, &nice, &err));
    pthread_join(thread, NULL);
    assert_int_equal(nice, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rings_are_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rings_ahead_end_one_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ringing_never_waits, setup, teardown),
        cmocka_unit_test(test_prompt_keeps_niceness),
        cmocka_unit_test(test_polite_keeps_niceness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
