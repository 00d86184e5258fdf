/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/recovery.h"

#include <time.h>

#include "base/number.h"

/* So many digits are milliseconds: an LSN of so many would be a petabyte of log. */
#define MS_DIGITS 13

/* Two or four digits at *p. */
static bool take_digits(const char **p, const char *end, int digits, int *out)
{
    if (end - *p < digits)
        return false;
    *out = 0;
    for (int i = 0; i < digits; i++, (*p)++) {
        if (**p < '0' || **p > '9')
            return false;
        *out = *out * 10 + (**p - '0');
    }
    return true;
}

static bool take_char(const char **p, const char *end, const char *set)
{
    if (*p == end || **p == '\0' || strchr(set, **p) == NULL)
        return false;
    (*p)++;
    return true;
}

static int64_t take_fraction(const char **p, const char *end)
{
    int64_t ms = 0, weight = 100;
    for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, weight /= 10)
        ms += (**p - '0') * weight;
    return ms;
}

static bool parse_date(struct slice text, int64_t *ms)
{
    const char *p = text.data, *end = p + text.size;
    struct tm t = {.tm_isdst = -1};
    if (!take_digits(&p, end, 4, &t.tm_year) || !take_char(&p, end, "-") ||
        !take_digits(&p, end, 2, &t.tm_mon) || !take_char(&p, end, "-") ||
        !take_digits(&p, end, 2, &t.tm_mday))
        return false;
    int64_t fraction = 0;
    if (p < end && (!take_char(&p, end, " T") || !take_digits(&p, end, 2, &t.tm_hour) ||
                    !take_char(&p, end, ":") || !take_digits(&p, end, 2, &t.tm_min)))
        return false;
    if (take_char(&p, end, ":")) {
        if (!take_digits(&p, end, 2, &t.tm_sec))
            return false;
        if (take_char(&p, end, "."))
            fraction = take_fraction(&p, end);
    }
    bool utc = take_char(&p, end, "Z");
    if (p != end || t.tm_year < 1970 || t.tm_mon < 1 || t.tm_mon > 12 || t.tm_mday < 1 ||
        t.tm_mday > 31 || t.tm_hour > 23 || t.tm_min > 59 || t.tm_sec > 60)
        return false;
    t.tm_year -= 1900;
    t.tm_mon--;
    int64_t seconds = utc ? (int64_t)timegm(&t) : (int64_t)mktime(&t);
    *ms = seconds * 1000 + fraction;
    return seconds >= 0;
}

bool recovery_parse_until(struct slice text, struct recovery_until *until)
{
    *until = (struct recovery_until){0};
    if (number_parse_uint64(text, &until->lsn)) {
        until->kind = UNTIL_LSN;
        if (text.size >= MS_DIGITS) {
            if (until->lsn > INT64_MAX)
                return false;
            until->kind = UNTIL_MS;
            until->ms = (int64_t)until->lsn;
        }
        return true;
    }
    until->kind = UNTIL_MS;
    return parse_date(text, &until->ms);
}
