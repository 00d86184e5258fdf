/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The schedule: each rule by itself and together, failures, targets, and a simulated server that is
 * held to its targets.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/slice.h"
#include "persist/schedule/schedule.h"

#define START INT64_C(1790000000000) /* 2026-09-21 14:13:20 UTC */

static struct schedule schedule;
static struct schedule_rules rules;
static struct schedule_counters now;
static struct schedule_decision decision;

static int setup(void **state)
{
    (void)state;
    setenv("TZ", "UTC0", 1);
    tzset();
    schedule = (struct schedule){0};
    rules = (struct schedule_rules){0};
    now = (struct schedule_counters){
        .now_ms = START, .last_save_ms = START, .speed = SCHEDULE_SPEED_UNKNOWN};
    return 0;
}

static bool decide(void)
{
    schedule_decide(&schedule, &rules, &now, &decision);
    return decision.action != SCHEDULE_NOTHING;
}

static void change(uint64_t count)
{
    now.changes += count;
    now.bytes += 100 * count;
    now.last_change_ms = now.now_ms;
    if (now.first_change_ms == 0)
        now.first_change_ms = now.now_ms;
}

static void reason_has(const char *text)
{
    if (strstr(decision.reason, text) == NULL)
        fail_msg("'%s' is not in '%s'", text, decision.reason);
}

/* `save`: more than so many seconds, and so many changes; when it will be is told. */
static void test_points(void **state)
{
    (void)state;
    const struct save_point points[] = {{3600, 1}, {300, 100}};
    rules.points = points;
    rules.point_count = 2;
    now.now_ms += 10000 * 1000;
    assert_false(decide()); /* nothing has changed */
    assert_int_equal(decision.next_ms, -1);
    now.now_ms = START + 1000;
    change(1);
    assert_false(decide());
    assert_int_equal(decision.next_ms, START + 3601 * 1000);
    assert_string_equal(decision.next, "save 3600 1");
    change(99);
    assert_false(decide());
    assert_int_equal(decision.next_ms, START + 301 * 1000);
    now.now_ms = START + 300 * 1000;
    assert_false(decide());
    now.now_ms += 1000;
    assert_true(decide());
    reason_has("100 changes in 300 seconds");
}

/* `save-bytes` and `save-idle`. */
static void test_bytes_and_idle(void **state)
{
    (void)state;
    rules.bytes = 1000;
    change(9);
    assert_false(decide());
    change(1);
    assert_true(decide());
    reason_has("save-bytes 1000");
    rules.bytes = 0;
    rules.idle_s = 30;
    assert_false(decide());
    assert_int_equal(decision.next_ms, START + 30000);
    now.now_ms += 20000;
    change(1);
    now.now_ms += 29999;
    assert_false(decide());
    now.now_ms++;
    assert_true(decide());
    reason_has("no write for 30 seconds, with 11 changes");
}

/* `save-cron`: at the time, if there are changes; a failure is tried again, a success uses it up;
 * and a clock that is put back does not put it off. */
static void test_cron(void **state)
{
    (void)state;
    struct error err;
    assert_true(cron_parse(&rules.cron, SLICE("20 14 * * *"), &err));
    int64_t due = INT64_C(1790000400000);
    assert_false(decide());
    assert_int_equal(decision.next_ms, due);
    assert_string_equal(decision.next,
                        "save-cron at 2026-09-21 14:20, if there are changes by then");
    now.now_ms = due + 50;
    assert_false(decide());
    assert_int_equal(decision.next_ms, due + 86400 * 1000);
    change(1);
    assert_false(decide()); /* it was passed without any */
    now.now_ms = due + 86400 * 1000;
    assert_true(decide());
    reason_has("save-cron");
    schedule_note_result(&schedule, false, now.now_ms);
    assert_false(decide());
    now.now_ms += 5000;
    assert_true(decide());
    schedule_note_result(&schedule, true, now.now_ms);
    assert_false(decide());
    assert_int_equal(decision.next_ms, due + 2 * 86400 * 1000);
    now.now_ms = due - 10 * 86400 * 1000LL - 1000;
    assert_false(decide());
    assert_int_equal(decision.next_ms, due - 10 * 86400 * 1000LL);
}

/* Of several rules each suffices, and the soonest is the next. */
static void test_together(void **state)
{
    (void)state;
    struct error err;
    const struct save_point point = {60, 1};
    rules.points = &point;
    rules.point_count = 1;
    rules.idle_s = 20;
    rules.loss_s = 30;
    assert_true(cron_parse(&rules.cron, SLICE("* * * * *"), &err));
    change(1);
    now.save_ms = 1000;
    assert_false(decide());
    assert_string_equal(decision.next, "save-idle 20");
    rules.idle_s = 35;
    assert_false(decide());
    assert_string_equal(decision.next, "data-loss-target 30");
    assert_int_equal(decision.next_ms, START + 29000);
    rules.loss_s = 0;
    assert_false(decide());
    assert_string_equal(decision.next, "save-idle 35");
    rules.idle_s = 0;
    assert_false(decide());
    assert_string_equal(decision.next, "save-cron at 2026-09-21 14:14");
    rules.cron.count = 0;
    assert_false(decide());
    assert_string_equal(decision.next, "save 60 1");
}

/* After failures it waits 5, 10, 20, ... seconds, at most 5 minutes; a success ends that, and so
 * does a change of the rules. */
static void test_failures(void **state)
{
    (void)state;
    rules.bytes = 1;
    change(1);
    int64_t waits[] = {5, 10, 20, 40, 80, 160, 300, 300, 300};
    for (size_t i = 0; i < sizeof(waits) / sizeof(waits[0]); i++) {
        assert_true(decide());
        schedule_note_result(&schedule, false, now.now_ms);
        assert_false(decide());
        assert_int_equal(decision.next_ms, now.now_ms + waits[i] * 1000);
        assert_non_null(strstr(decision.next, "failure"));
        now.now_ms += waits[i] * 1000 - 1;
        assert_false(decide());
        now.now_ms++;
    }
    assert_true(decide());
    schedule_note_result(&schedule, false, now.now_ms);
    assert_false(decide());
    schedule_changed(&schedule);
    assert_true(decide());
    schedule_note_result(&schedule, false, now.now_ms);
    schedule_note_result(&schedule, true, now.now_ms);
    assert_true(decide());
    schedule_note_result(&schedule, false, now.now_ms);
    assert_false(decide());
    /* A clock that is put back by a year does not make it wait a year. */
    now.now_ms -= INT64_C(365) * 86400 * 1000;
    assert_false(decide());
    now.now_ms += 300 * 1000;
    assert_true(decide());
}

/* `data-loss-target`: over an hour of random writes no change is ever older than the target when
 * the snapshot that has it is done; and that holds with as few snapshots as that takes. */
static void test_loss_target(void **state)
{
    (void)state;
    rules.loss_s = 60;
    now.save_ms = 5000;
    int64_t begun_ms = 0, oldest_in_it = 0, oldest_after = 0, worst = 0;
    int taken = 0;
    for (; now.now_ms < START + 3600 * 1000; now.now_ms += 100) {
        bool wrote = now.now_ms / 100 % 7 == 0;
        if (wrote)
            change(1);
        if (begun_ms != 0 && wrote && oldest_after == 0)
            oldest_after = now.now_ms;
        if (begun_ms != 0 && now.now_ms >= begun_ms + now.save_ms) {
            int64_t age = now.now_ms - oldest_in_it;
            worst = age > worst ? age : worst;
            begun_ms = 0;
            taken++;
            now.first_change_ms = oldest_after;
            now.changes = oldest_after != 0;
        }
        if (begun_ms == 0 && decide()) {
            begun_ms = now.now_ms;
            oldest_in_it = now.first_change_ms;
            oldest_after = 0;
        }
    }
    assert_true(worst <= 60 * 1000 + 200);
    assert_in_range(taken, 60, 68); /* one in 55 seconds */
    assert_false(decision.loss_too_short);
    /* What cannot be kept to is told, and with a log there is nothing to do. */
    now.save_ms = 31000;
    decide();
    assert_true(decision.loss_too_short);
    now.log = true;
    assert_false(decide());
    assert_false(decision.loss_too_short);
}

/* `recovery-time-target` without a log: a chain of deltas that takes too long to load gives way to
 * a full snapshot; when that would not help nothing is done but told. */
static void test_recovery_target(void **state)
{
    (void)state;
    rules.recovery_s = 10;
    now.speed = (struct schedule_speed){100e6, 1e6, 20e6};
    now.base_bytes = 800 * 1000000ULL;
    now.base_keys = 1000000;
    now.full_bytes = 500 * 1000000ULL;
    now.full_keys = 1000000;
    assert_true(schedule_recovery_seconds(&now) == 8);
    assert_false(decide());
    now.base_bytes = 1100 * 1000000ULL;
    assert_true(decide());
    assert_int_equal(decision.action, SCHEDULE_FULL);
    reason_has("about 11.0 seconds, afterwards 5.0");
    now.full_bytes = 1090 * 1000000ULL;
    assert_false(decide());
    assert_true(decision.recovery_too_short);
    /* Many small keys: their number counts. */
    now.base_keys = 20 * 1000000;
    assert_true(schedule_recovery_seconds(&now) == 20);
}

/* With a log it is rewritten early enough to be done in time. */
static void test_recovery_target_with_log(void **state)
{
    (void)state;
    rules.recovery_s = 10;
    now.log = true;
    now.speed = (struct schedule_speed){100e6, 1e6, 20e6};
    now.base_bytes = now.full_bytes = 400 * 1000000ULL;
    now.save_ms = 4000;
    now.log_bytes_s = 10e6;
    /* 4 s for the base, 2 s for what is written meanwhile: 4 s are left for the log. */
    now.log_bytes = 79 * 1000000;
    assert_false(decide());
    assert_false(decision.rewrite);
    now.log_bytes = 81 * 1000000;
    assert_false(decide()); /* no snapshot */
    assert_true(decision.rewrite);
    assert_non_null(strstr(decision.rewrite_reason, "recovery-time-target 10"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_points, setup),
        cmocka_unit_test_setup(test_bytes_and_idle, setup),
        cmocka_unit_test_setup(test_cron, setup),
        cmocka_unit_test_setup(test_together, setup),
        cmocka_unit_test_setup(test_failures, setup),
        cmocka_unit_test_setup(test_loss_target, setup),
        cmocka_unit_test_setup(test_recovery_target, setup),
        cmocka_unit_test_setup(test_recovery_target_with_log, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
