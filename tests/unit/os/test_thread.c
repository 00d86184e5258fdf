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

struct keeping_off {
    int state; /* atomic: how far the helper has come */
    int allowed, kept;
};
enum { BEGUN, KEPT_OFF, BACK };

static int allowed_count(void)
{
    cpu_set_t set;
    assert_int_equal(sched_getaffinity(0, sizeof(set), &set), 0);
    return CPU_COUNT(&set);
}

static void keep_off(void *arg)
{
    struct keeping_off *k = arg;
    struct os_polite p;
    k->allowed = allowed_count();
    os_polite_begin(&p);
    while (p.avoided < 0)
        os_polite_check(&p);
    k->kept = allowed_count();
    __atomic_store_n(&k->state, KEPT_OFF, __ATOMIC_RELEASE);
    while (p.avoided >= 0)
        os_polite_check(&p);
    assert_int_equal(allowed_count(), k->allowed);
    __atomic_store_n(&k->state, BACK, __ATOMIC_RELEASE);
    os_polite_end(&p);
}

/* While the executor is busy a helper keeps off its processor, where there is another one; when it
 * is not it runs anywhere again. */
static void test_polite_keeps_off(void **state)
{
    (void)state;
    pthread_t thread;
    struct keeping_off k = {.state = BEGUN};
    os_polite_watch();
    assert_true(os_thread_start(&thread, "keep-off", keep_off, &k, &err));
    while (__atomic_load_n(&k.state, __ATOMIC_ACQUIRE) == BEGUN)
        os_polite_note_processor();
    int expected = k.allowed > 1 ? k.allowed - 1 : 1;
    assert_int_equal(k.kept, expected);
    while (__atomic_load_n(&k.state, __ATOMIC_ACQUIRE) != BACK)
        os_bell_wait(&there, 1000);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rings_are_not_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rings_ahead_end_one_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(test_ringing_never_waits, setup, teardown),
        cmocka_unit_test(test_prompt_keeps_niceness),
        cmocka_unit_test(test_polite_keeps_niceness),
        cmocka_unit_test_setup_teardown(test_polite_keeps_off, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
