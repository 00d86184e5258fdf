/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/loop.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cmocka.h>

#define SOURCES 10

static struct loop *loop;
static struct loop_source sources[SOURCES];
static int handled, handled_at_middle, middles;
static bool remove_others;

static void on_ready(struct loop_source *source, uint32_t events)
{
    (void)source;
    assert_true(events & EPOLLIN);
    handled++;
}

static void on_middle(void *ctx)
{
    assert_ptr_equal(ctx, sources);
    middles++;
    handled_at_middle = handled;
    for (int i = 0; remove_others && i < SOURCES; i++)
        loop_remove(loop, &sources[i]);
}

static bool on_end(void *ctx)
{
    (void)ctx;
    return false;
}

static void turn(void)
{
    handled = handled_at_middle = middles = 0;
    loop_turn(loop, 0);
}

/* A turn with as many ready sources as was said stops when half of them are handled, and goes on;
 * what is removed there is not handled any more. A smaller one, and one without a function, has no
 * middle. */
static void test_middle(void **state)
{
    (void)state;
    int pipes[SOURCES][2];
    loop = loop_new();
    loop_set_hooks(loop, NULL, on_end, sources);
    for (int i = 0; i < SOURCES; i++) {
        assert_int_equal(pipe(pipes[i]), 0);
        assert_int_equal(write(pipes[i][1], "x", 1), 1);
        sources[i] = (struct loop_source){.fd = pipes[i][0], .on_ready = on_ready};
        assert_true(loop_add(loop, &sources[i], EPOLLIN));
    }
    turn();
    assert_int_equal(handled, SOURCES);
    assert_int_equal(middles, 0);
    loop_set_middle(loop, SOURCES + 1, on_middle);
    turn();
    assert_int_equal(middles, 0);
    loop_set_middle(loop, SOURCES, on_middle);
    turn();
    assert_int_equal(handled, SOURCES);
    assert_int_equal(middles, 1);
    assert_int_equal(handled_at_middle, SOURCES / 2);
    remove_others = true;
    turn();
    assert_int_equal(middles, 1);
    assert_int_equal(handled, SOURCES / 2);
    loop_free(loop);
    for (int i = 0; i < SOURCES; i++) {
        close(pipes[i][0]);
        close(pipes[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_middle)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
