/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cron expressions: known dates, jumps of the clock, leap years, mistakes and their places, and a
 * random comparison with a model that looks at one minute after the other.
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

#include "persist/schedule/cron.h"

/* Written out, so that no zone file is needed. */
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define NEW_YORK "EST5EDT,M3.2.0,M11.1.0"
#define LORD_HOWE "LHST-10:30LHDT-11,M10.1.0,M4.1.0"
#define MIDNIGHT "BRT3BRST,M11.1.0/0,M2.3.0/0"

static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static int below(int n)
{
    return (int)(next_random() % (uint64_t)n);
}

static void set_zone(const char *zone)
{
    setenv("TZ", zone, 1);
    tzset();
}

static struct cron_list parsed(const char *text)
{
    struct cron_list list;
    struct error err = {0};
    if (!cron_parse(&list, slice_cstr(text), &err))
        fail_msg("'%s': %s", text, err.message);
    return list;
}

/* "2026-11-21 17:00" as UTC. */
static int64_t utc(const char *text)
{
    struct tm tm = {0};
    assert_non_null(strptime(text, "%Y-%m-%d %H:%M", &tm));
    return timegm(&tm);
}

static void expect(const char *expression, const char *after, const char *expected)
{
    struct cron_list list = parsed(expression);
    int64_t s = cron_next(&list, utc(after));
    char got[32];
    time_t t = (time_t)s;
    struct tm tm;
    strftime(got, sizeof(got), "%Y-%m-%d %H:%M", gmtime_r(&t, &tm));
    if (strcmp(got, expected) != 0)
        fail_msg("'%s' after %s: %s, not %s", expression, after, got, expected);
}

/* Lists, ranges, steps and names, in UTC. */
static void test_known_dates(void **state)
{
    (void)state;
    set_zone("UTC0");
    expect("* * * * *", "2026-11-21 17:00", "2026-11-21 17:01");
    expect("0 3 * * *", "2026-11-21 17:00", "2026-11-22 03:00");
    expect("0 3 * * *", "2026-11-22 03:00", "2026-11-23 03:00");
    expect("*/20 * * * *", "2026-11-21 17:21", "2026-11-21 17:40");
    expect("5/20 * * * *", "2026-11-21 17:26", "2026-11-21 17:45");
    expect("10-30/7 * * * *", "2026-11-21 17:18", "2026-11-21 17:24");
    expect("1,2,50-52 8-10 * * *", "2026-11-21 08:03", "2026-11-21 08:50");
    expect("0 0 * * MON-fri", "2026-11-20 12:00", "2026-11-23 00:00");
    expect("0 0 * jan,Jul *", "2026-11-20 12:00", "2027-01-01 00:00");
    expect("0 12 * * 7", "2026-11-21 17:00", "2026-11-22 12:00");
    expect("0 12 * * 5-7", "2026-11-21 17:00", "2026-11-22 12:00");
    /* Both day fields: either will do, unless one begins with a star. */
    expect("0 0 13 * fri", "2026-11-01 00:00", "2026-11-06 00:00");
    expect("0 0 13 * fri", "2026-12-11 00:00", "2026-12-13 00:00");
    expect("0 0 */2 * mon", "2026-11-21 00:00", "2026-11-23 00:00");
    expect("0 0 */2 * mon", "2026-11-23 00:00", "2026-12-07 00:00");
    expect("@hourly", "2026-11-21 17:00", "2026-11-21 18:00");
    expect("@daily", "2026-11-21 17:00", "2026-11-22 00:00");
    expect("@weekly", "2026-11-21 17:00", "2026-11-22 00:00");
    expect("@monthly", "2026-11-21 17:00", "2026-12-01 00:00");
    expect("@yearly", "2026-11-21 17:00", "2027-01-01 00:00");
    /* Several: the first of them. */
    expect("0 3 * * * ; 30 1 * * *;", "2026-11-21 17:00", "2026-11-22 01:30");
    expect("0 3 * * * ; 30 1 * * *", "2026-11-22 01:30", "2026-11-22 03:00");
}

/* The end of months and years; the 29th of February, also over 2100, which has none. */
static void test_leap_years(void **state)
{
    (void)state;
    set_zone("UTC0");
    expect("0 0 29 2 *", "2026-11-21 17:00", "2028-02-29 00:00");
    expect("0 0 29 2 *", "2028-02-29 00:00", "2032-02-29 00:00");
    expect("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00");
    expect("0 0 31 * *", "2026-11-21 17:00", "2026-12-31 00:00");
    expect("0 0 31 * *", "2027-01-31 00:00", "2027-03-31 00:00");
    expect("59 23 31 12 *", "2026-11-21 17:00", "2026-12-31 23:59");
    struct cron_list none = {0}, far = parsed("0 0 29 2 */7");
    assert_true(cron_next(&none, utc("2026-11-21 17:00")) == INT64_MAX);
    /* A 29 February that is a Sunday is farther away than it looks. */
    assert_true(cron_next(&far, utc("2033-01-01 00:00")) == INT64_MAX);
}

/* Berlin skips 02:00-03:00 on 29 March 2026, and has 02:00-03:00 twice on 25 October. */
static void test_clock_jumps(void **state)
{
    (void)state;
    set_zone(BERLIN);
    expect("0 3 * * *", "2026-11-21 17:00", "2026-11-22 02:00");
    /* What is skipped comes right after, once. */
    expect("30 2 * * *", "2026-03-28 12:00", "2026-03-29 01:00");
    expect("30 2 * * *", "2026-03-29 01:00", "2026-03-30 00:30");
    expect("0,30 2 * * *", "2026-03-29 00:59", "2026-03-29 01:00");
    expect("0,30 2 * * *", "2026-03-29 01:00", "2026-03-30 00:00");
    /* What comes twice counts once. */
    expect("30 2 * * *", "2026-10-24 12:00", "2026-10-25 00:30");
    expect("30 2 * * *", "2026-10-25 00:30", "2026-10-26 01:30");
    /* With every hour the minutes are taken as they come. */
    expect("30 * * * *", "2026-10-25 00:30", "2026-10-25 01:30");
    expect("30 * * * *", "2026-03-29 00:30", "2026-03-29 01:30");
    set_zone(NEW_YORK);
    expect("15 2 8 3 *", "2026-03-01 00:00", "2026-03-08 07:00");
    expect("30 1 * * *", "2026-11-01 04:00", "2026-11-01 05:30");
    expect("30 1 * * *", "2026-11-01 05:30", "2026-11-02 06:30");
    /* Half an hour, and a jump at midnight: the day begins at 01:00. */
    set_zone(LORD_HOWE);
    expect("15 2 * * *", "2026-10-03 00:00", "2026-10-03 15:30");
    set_zone(MIDNIGHT);
    expect("10 0 1 11 *", "2026-10-31 00:00", "2026-11-01 03:00");
}

static void refuse(const char *text, const char *message)
{
    struct cron_list list;
    struct error err = {0};
    if (cron_parse(&list, slice_cstr(text), &err))
        fail_msg("'%s' was taken", text);
    if (strcmp(err.message, message) != 0)
        fail_msg("'%s': %s", text, err.message);
}

/* Mistakes are told with field, character and word. */
static void test_mistakes(void **state)
{
    (void)state;
    refuse("60 * * * *", "minute, at character 1 ('60'): not within 0-59");
    refuse("0 25 * * *", "hour, at character 3 ('25'): not within 0-23");
    refuse("0 0 0 * *", "day of month, at character 5 ('0'): not within 1-31");
    refuse("0 0 * 13 *", "month, at character 7 ('13'): not within 1-12");
    refuse("0 0 * * 8", "day of week, at character 9 ('8'): not within 0-7");
    refuse("0 0 * * sunday", "day of week, at character 9 ('sunday'): neither a number nor a name");
    refuse("0 0 * mon *", "month, at character 7 ('mon'): neither a number nor a name");
    refuse("x 0 * * *", "minute, at character 1 ('x'): not a number");
    refuse("0 0 * *", "day of week, at character 8 (''): the field is missing");
    refuse("0 0 * * * *", "day of week, at character 11 ('*'): there is more than five fields; "
                          "expressions are separated by ';'");
    refuse("0 3-1 * * *", "hour, at character 3 ('3-1'): the range ends before it begins");
    refuse("*/0 * * * *", "minute, at character 3 ('0'): a step is a number from 1");
    refuse("*/ * * * *", "minute, at character 3 (''): a step is a number from 1");
    refuse("1,,2 * * * *", "minute, at character 3 (''): not a number");
    refuse("1- * * * *", "minute, at character 3 (''): not a number");
    refuse("-1 * * * *", "minute, at character 1 ('-1'): not a number");
    refuse("5x * * * *", "minute, at character 2 ('x'): not expected here");
    refuse("** * * * *", "minute, at character 2 ('*'): not expected here");
    refuse("99999999999999999999 * * * *",
           "minute, at character 1 ('99999999999999999999'): the number is too large");
    refuse("0 0 31 2,4,jun *",
           "day of month, at character 17 (''): there is no such day in any of these months");
    refuse("@often", "minute, at character 1 ('@often'): no such name of an expression");
    refuse("0 3 * * *; 0 24 * * *", "hour, at character 14 ('24'): not within 0-23");
    char many[400] = "";
    for (int i = 0; i < CRON_MAX + 1; i++)
        strcat(many, "0 0 * * *;");
    refuse(many, "more than 16 cron expressions");
    assert_int_equal(parsed("").count, 0);
    assert_int_equal(parsed(" ; ;").count, 0);
}

/* ---- the model ------------------------------------------------------------------------------- */

struct model {
    bool field[5][64]; /* by value */
    bool any[5];
};

static const int lows[5] = {0, 0, 1, 1, 0}, highs[5] = {59, 23, 31, 12, 6};

static void random_field(struct model *m, int f, char *out)
{
    int low = lows[f], high = highs[f], count = high - low + 1;
    /* Mostly one minute of each hour, so that many days are gone through. */
    m->any[f] = below(f == 0 ? 20 : 3) == 0;
    if (m->any[f]) {
        int step = below(2) ? 1 : 1 + below(f == 4 ? 2 : 6);
        for (int v = low; v <= (f == 4 ? 7 : high); v += step)
            m->field[f][f == 4 ? v % 7 : v] = true;
        out += sprintf(out, step == 1 ? "*" : "*/%d", step);
        return;
    }
    for (int i = f == 0 ? 0 : below(3); i >= 0; i--) {
        int a = low + below(count), b = a + below(high - a + 1), step = 1 + below(4);
        if (f == 0 || below(2))
            b = a, step = 1;
        for (int v = a; v <= b; v += step)
            m->field[f][v] = true;
        out += sprintf(out, a == b ? "%d" : "%d-%d", a, b);
        out += step == 1 ? 0 : a == b ? 0 : sprintf(out, "/%d", step);
        out += sprintf(out, i > 0 ? "," : "");
    }
}

static bool model_fits(const struct model *m, int64_t shown)
{
    time_t t = (time_t)shown;
    struct tm tm;
    gmtime_r(&t, &tm);
    bool day = m->field[2][tm.tm_mday], weekday = m->field[4][tm.tm_wday];
    bool days = m->any[2] || m->any[4] ? day && weekday : day || weekday;
    return days && m->field[0][tm.tm_min] && m->field[1][tm.tm_hour] && m->field[3][tm.tm_mon + 1];
}

static int64_t shown_at(int64_t s)
{
    time_t t = (time_t)s;
    struct tm tm;
    localtime_r(&t, &tm);
    return s + tm.tm_gmtoff;
}

/* One minute after the other, from some hours before, with the latest time that the clock has
 * shown. */
static int64_t model_next(const struct model *m, int64_t after, int64_t limit)
{
    int64_t s = after - after % 60 - 6 * 3600, latest = shown_at(s);
    for (s += 60; s < limit; s += 60) {
        int64_t shown = shown_at(s);
        bool fits = false;
        if (m->any[1])
            fits = model_fits(m, shown);
        else
            for (int64_t t = latest + 60; t <= shown && !fits; t += 60)
                fits = model_fits(m, t);
        latest = shown > latest ? shown : latest;
        if (fits && s > after)
            return s;
    }
    return limit;
}

/* Random expressions, mostly about the days on which clocks jump. */
static void test_random(void **state)
{
    (void)state;
    static const char *const zones[] = {BERLIN, NEW_YORK, LORD_HOWE, MIDNIGHT, "UTC0", "IST-5:30"};
    for (int round = 0; round < 500; round++) {
        struct model m = {0};
        char text[600] = "";
        for (int f = 0; f < 5; f++) {
            random_field(&m, f, text + strlen(text));
            strcat(text, f < 4 ? " " : "");
        }
        struct cron_list list;
        struct error err = {0};
        if (!cron_parse(&list, slice_cstr(text), &err)) {
            assert_non_null(strstr(err.message, "no such day"));
            continue;
        }
        const char *zone = zones[below(6)];
        set_zone(zone);
        static const int days[] = {60, 86, 88, 92, 276, 297, 303, 304};
        int64_t after = utc("2026-01-01 00:00") + below(20) * 365LL * 86400 +
                        (days[below(8)] + below(10) - 5) * 86400LL + below(86400);
        int64_t limit = after + 6 * 86400;
        for (int i = 0; i < 25 && after < limit; i++) {
            int64_t got = cron_next(&list, after), expected = model_next(&m, after, limit);
            if (got != expected && (got < limit || expected < limit))
                fail_msg("'%s' in %s after %lld: %lld, not %lld", text, zone, (long long)after,
                         (long long)got, (long long)expected);
            after = got;
        }
    }
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("seed %llu\n", (unsigned long long)seed);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_dates), cmocka_unit_test(test_leap_years),
        cmocka_unit_test(test_clock_jumps), cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
