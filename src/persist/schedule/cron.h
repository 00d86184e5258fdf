/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Cron expressions: when the local clock shows what one says.
 *
 *     minute hour day-of-month month day-of-week
 *     0-59   0-23 1-31         1-12  0-7 (0 and 7: Sunday)
 *
 * A field is a list of items separated by ',': a value, a range a-b, '*'; a range or '*' may have a
 * step, as in 0-30/10 (also a/n: from a to the end). Months and days of the week may be given by
 * the first three letters of their English names. Where both day fields are restricted a day that
 * fits either will do, as in every cron; a field that begins with '*' is not a restriction. In
 * place of five fields: @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually.
 * Several expressions are separated by ';'.
 *
 * When clocks are put forward, the times that are left out count as the first minute after the
 * jump. When they are put back, the minutes that come again do not count again. Both only when the
 * hour is restricted: with an hour of '*' each minute is taken as it comes.
 *
 * Local time is that of the process (TZ). No state; any thread.
 */
#ifndef HF_PERSIST_SCHEDULE_CRON_H
#define HF_PERSIST_SCHEDULE_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* Bit n is set when value n fits. */
struct cron {
    uint64_t minutes;
    uint32_t hours, days, months; /* days and months from bit 1 */
    uint8_t weekdays;             /* bit 0: Sunday */
    bool any_hour, any_day, any_weekday;
};

#define CRON_MAX 16
struct cron_list {
    struct cron items[CRON_MAX];
    int count; /* 0: never */
};

/* An empty text is an empty list. False: err names the field, the character (from 1) and what
 * stands there. */
bool cron_parse(struct cron_list *list, struct slice text, struct error *err);

/* The first minute after `after_s` (seconds since 1970) that one of them names; INT64_MAX when
 * there is none within nine years. Takes up to some milliseconds: not for every turn. */
int64_t cron_next(const struct cron_list *list, int64_t after_s);

#endif
