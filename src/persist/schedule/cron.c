/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/schedule/cron.h"

#include <stdio.h>
#include <time.h>

#define MINUTE 60
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
/* From one 29 February to the next there may be eight years. */
#define HORIZON (9LL * 366 * DAY)
/* Clocks are put forward or back by less than this; further jumps are a change of the time zone. */
#define JUMP_MAX (3 * HOUR)
/* All of today's zones differ from UTC by a multiple of it. */
#define ZONE_STEP (15 * MINUTE)

/* --- parsing ---------------------------------------------------------------------------------- */

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

struct field {
    const char *name;
    int low, high;
    const char *const *words; /* for low, low + 1, ... */
    int word_count;
};
enum { FIELD_MINUTE, FIELD_HOUR, FIELD_DAY, FIELD_MONTH, FIELD_WEEKDAY, FIELDS };
static const struct field fields[FIELDS] = {
    {"minute", 0, 59, NULL, 0},          {"hour", 0, 23, NULL, 0},
    {"day of month", 1, 31, NULL, 0},    {"month", 1, 12, month_names, 12},
    {"day of week", 0, 7, weekday_names, 7},
};

struct parser {
    const char *text;
    size_t size, at;
    const struct field *field;
    struct error *err;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static bool at_end(const struct parser *p)
{
    return p->at == p->size || p->text[p->at] == ';';
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->size && is_blank(p->text[p->at]))
        p->at++;
}

/* The word that `at` is in, for messages: up to a blank, a comma or the end. */
static struct slice word_at(const struct parser *p, size_t at)
{
    size_t end = at;
    while (end < p->size && !is_blank(p->text[end]) && p->text[end] != ';' && p->text[end] != ',')
        end++;
    return slice_of(p->text + at, end - at);
}

static bool fail(struct parser *p, size_t at, const char *why)
{
    struct slice word = word_at(p, at);
    return error_set(p->err, ERROR_INVALID, "%s, at character %zu ('%.*s'): %s", p->field->name,
                     at + 1, (int)(word.size < 32 ? word.size : 32), word.data, why);
}

static bool out_of_range(struct parser *p, size_t at)
{
    char why[64];
    snprintf(why, sizeof(why), "not within %d-%d", p->field->low, p->field->high);
    return fail(p, at, why);
}

static bool parse_word(struct parser *p, int *value)
{
    size_t at = p->at;
    while (p->at < p->size && ((p->text[p->at] | 32) >= 'a' && (p->text[p->at] | 32) <= 'z'))
        p->at++;
    for (int i = 0; i < p->field->word_count; i++) {
        if (slice_is(slice_of(p->text + at, p->at - at), p->field->words[i])) {
            *value = p->field->low + i;
            return true;
        }
    }
    return fail(p, at, p->field->words ? "neither a number nor a name" : "not a number");
}

static bool parse_number(struct parser *p, int *value)
{
    size_t at = p->at;
    int v = 0;
    while (p->at < p->size && p->text[p->at] >= '0' && p->text[p->at] <= '9') {
        v = v * 10 + (p->text[p->at] - '0');
        p->at++;
        if (v > 1000000)
            return fail(p, at, "the number is too large");
    }
    if (p->at == at)
        return parse_word(p, value);
    *value = v;
    return true;
}

static bool parse_value(struct parser *p, int *value)
{
    size_t at = p->at;
    if (!parse_number(p, value))
        return false;
    if (*value < p->field->low || *value > p->field->high)
        return out_of_range(p, at);
    return true;
}

static bool next_is(struct parser *p, char c)
{
    if (p->at == p->size || p->text[p->at] != c)
        return false;
    p->at++;
    return true;
}

static bool parse_item(struct parser *p, uint64_t *bits)
{
    int first = p->field->low, last = p->field->high, step = 1;
    size_t begin = p->at;
    bool range = next_is(p, '*');
    if (!range) {
        if (!parse_value(p, &first))
            return false;
        last = first;
        if (next_is(p, '-')) {
            range = true;
            if (!parse_value(p, &last))
                return false;
            if (last < first)
                return fail(p, begin, "the range ends before it begins");
        }
    }
    if (next_is(p, '/')) {
        size_t at = p->at;
        if (at == p->size || p->text[at] < '0' || p->text[at] > '9' || !parse_number(p, &step) ||
            step < 1)
            return fail(p, at, "a step is a number from 1");
        if (!range)
            last = p->field->high;
    }
    for (int v = first; v <= last; v += step)
        *bits |= UINT64_C(1) << v;
    return true;
}

static bool parse_field(struct parser *p, uint64_t *bits, bool *any)
{
    skip_blanks(p);
    *bits = 0;
    if (at_end(p))
        return fail(p, p->at, "the field is missing");
    *any = p->text[p->at] == '*';
    do {
        if (!parse_item(p, bits))
            return false;
    } while (next_is(p, ','));
    if (!at_end(p) && !is_blank(p->text[p->at]))
        return fail(p, p->at, "not expected here");
    return true;
}

/* "@daily" and its like; false when the word is none of them. */
static bool find_nickname(struct slice word, struct cron *c)
{
    static const struct {
        const char *name;
        struct cron cron;
    } nicknames[] = {
        {"@hourly", {1, 0xffffff, 0xfffffffe, 0x1ffe, 0x7f, true, true, true}},
        {"@daily", {1, 1, 0xfffffffe, 0x1ffe, 0x7f, false, true, true}},
        {"@midnight", {1, 1, 0xfffffffe, 0x1ffe, 0x7f, false, true, true}},
        {"@weekly", {1, 1, 0xfffffffe, 0x1ffe, 1, false, true, false}},
        {"@monthly", {1, 1, 2, 0x1ffe, 0x7f, false, false, true}},
        {"@yearly", {1, 1, 2, 2, 0x7f, false, false, true}},
        {"@annually", {1, 1, 2, 2, 0x7f, false, false, true}},
    };
    for (size_t i = 0; i < sizeof(nicknames) / sizeof(nicknames[0]); i++) {
        if (slice_is(word, nicknames[i].name)) {
            *c = nicknames[i].cron;
            return true;
        }
    }
    return false;
}

/* Whether there are such days: not the 30th of February alone. */
static bool day_exists(const struct cron *c)
{
    static const int lengths[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c->any_day || !c->any_weekday)
        return true;
    for (int month = 1; month <= 12; month++) {
        uint32_t days = (uint32_t)((UINT64_C(2) << lengths[month - 1]) - 2);
        if (c->months & 1U << month && c->days & days)
            return true;
    }
    return false;
}

static bool parse_one(struct parser *p, struct cron *c)
{
    uint64_t bits[FIELDS];
    bool any[FIELDS];
    p->field = &fields[0];
    if (p->text[p->at] == '@') {
        size_t at = p->at;
        struct slice word = word_at(p, at);
        if (!find_nickname(word, c))
            return fail(p, at, "no such name of an expression");
        p->at += word.size;
    } else {
        for (int i = 0; i < FIELDS; i++) {
            p->field = &fields[i];
            if (!parse_field(p, &bits[i], &any[i]))
                return false;
        }
        *c = (struct cron){.minutes = bits[FIELD_MINUTE],
                           .hours = (uint32_t)bits[FIELD_HOUR],
                           .days = (uint32_t)bits[FIELD_DAY],
                           .months = (uint32_t)bits[FIELD_MONTH],
                           .weekdays =
                               (uint8_t)((bits[FIELD_WEEKDAY] | bits[FIELD_WEEKDAY] >> 7) & 0x7f),
                           .any_hour = any[FIELD_HOUR],
                           .any_day = any[FIELD_DAY],
                           .any_weekday = any[FIELD_WEEKDAY]};
    }
    skip_blanks(p);
    if (!at_end(p))
        return fail(p, p->at, "there is more than five fields; expressions are separated by ';'");
    p->field = &fields[FIELD_DAY];
    return day_exists(c) || fail(p, p->at, "there is no such day in any of these months");
}

bool cron_parse(struct cron_list *list, struct slice text, struct error *err)
{
    struct parser p = {.text = text.data, .size = text.size, .field = &fields[0], .err = err};
    tzset();
    list->count = 0;
    for (;;) {
        skip_blanks(&p);
        if (!at_end(&p)) {
            if (list->count == CRON_MAX)
                return error_set(err, ERROR_INVALID, "more than %d cron expressions", CRON_MAX);
            if (!parse_one(&p, &list->items[list->count]))
                return false;
            list->count++;
        }
        if (p.at == p.size)
            return true;
        p.at++; /* the ';' */
    }
}

/* --- the next time ---------------------------------------------------------------------------- */

static void local(int64_t s, struct tm *tm)
{
    time_t t = (time_t)s;
    localtime_r(&t, tm);
}

static long offset_at(int64_t s)
{
    struct tm tm;
    local(s, &tm);
    return tm.tm_gmtoff;
}

static bool day_fits(const struct cron *c, const struct tm *tm)
{
    bool day = c->days >> tm->tm_mday & 1, weekday = c->weekdays >> tm->tm_wday & 1;
    if (!(c->months >> (tm->tm_mon + 1) & 1))
        return false;
    return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

static bool minute_fits(const struct cron *c, const struct tm *tm)
{
    return c->hours >> tm->tm_hour & 1 && c->minutes >> tm->tm_min & 1 && day_fits(c, tm);
}

/* Whether the local clock has shown this minute before. */
static bool is_repeated(int64_t s, const struct tm *tm)
{
    long before = offset_at(s - JUMP_MAX), back = before - tm->tm_gmtoff;
    return back > 0 && offset_at(s - back) == before;
}

/* Whether one of the minutes fits that the local clock left out right before s. */
static bool skipped_fits(const struct cron *c, int64_t s, const struct tm *tm)
{
    long forward = tm->tm_gmtoff - offset_at(s - MINUTE);
    if (forward <= 0 || forward > JUMP_MAX)
        return false;
    for (int64_t left_out = s - forward; left_out < s; left_out += MINUTE) {
        /* What the clock would have shown, computed as if it were UTC. */
        struct tm shown;
        time_t t = (time_t)(left_out + tm->tm_gmtoff);
        gmtime_r(&t, &shown);
        if (minute_fits(c, &shown))
            return true;
    }
    return false;
}

/* Seconds to go from a minute of a day that does not fit, without passing the beginning of a day
 * that may. Near midnight in small steps, as the clock may jump there. */
static int64_t step_over(const struct cron *c, const struct tm *tm)
{
    int64_t left = DAY - tm->tm_hour * HOUR - tm->tm_min * MINUTE;
    if (!(c->months >> (tm->tm_mon + 1) & 1) && tm->tm_mday < 27)
        left += (27 - tm->tm_mday) * DAY;
    if (left > JUMP_MAX)
        return left - JUMP_MAX;
    return ZONE_STEP - tm->tm_min * MINUTE % ZONE_STEP;
}

static int64_t next_of(const struct cron *c, int64_t after_s, int64_t limit_s)
{
    int64_t s = after_s - after_s % MINUTE + MINUTE;
    while (s < limit_s) {
        struct tm tm;
        local(s, &tm);
        /* Zones of old were not whole minutes from UTC. */
        s -= tm.tm_sec;
        if (s <= after_s) {
            s += MINUTE;
            continue;
        }
        if (!day_fits(c, &tm)) {
            s += step_over(c, &tm);
            continue;
        }
        if (minute_fits(c, &tm) && (c->any_hour || !is_repeated(s, &tm)))
            return s;
        if (!c->any_hour && skipped_fits(c, s, &tm))
            return s;
        /* Clocks jump on the quarters of an hour. */
        if (c->hours >> tm.tm_hour & 1)
            s += MINUTE;
        else
            s += ZONE_STEP - tm.tm_min * MINUTE % ZONE_STEP;
    }
    return INT64_MAX;
}

int64_t cron_next(const struct cron_list *list, int64_t after_s)
{
    int64_t first = INT64_MAX;
    for (int i = 0; i < list->count; i++) {
        int64_t limit = after_s + HORIZON;
        int64_t at = next_of(&list->items[i], after_s, first < limit ? first : limit);
        first = at < first ? at : first;
    }
    return first;
}
