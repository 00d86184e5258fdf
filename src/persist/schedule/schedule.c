/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/schedule/schedule.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RETRY_FIRST_MS 5000
#define RETRY_MOST_MS (5 * 60 * 1000)
/* A new base is worth its cost when a start gets shorter by this share of the target. */
#define WORTH 0.1

struct deciding {
    const struct schedule_rules *r;
    const struct schedule_counters *c;
    struct schedule_decision *d;
};

static void act(struct deciding *g, enum schedule_action action, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The first reason is the one that is told; what needs a full snapshot goes before what does
 * not. */
static void act(struct deciding *g, enum schedule_action action, const char *format, ...)
{
    va_list args;
    if (g->d->action != SCHEDULE_NOTHING)
        return;
    g->d->action = action;
    va_start(args, format);
    vsnprintf(g->d->reason, sizeof(g->d->reason), format, args);
    va_end(args);
}

static void act_later(struct deciding *g, int64_t at_ms, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void act_later(struct deciding *g, int64_t at_ms, const char *format, ...)
{
    va_list args;
    if (g->d->next_ms >= 0 && g->d->next_ms <= at_ms)
        return;
    g->d->next_ms = at_ms;
    va_start(args, format);
    vsnprintf(g->d->next, sizeof(g->d->next), format, args);
    va_end(args);
}

static double load_seconds(const struct schedule_speed *v, uint64_t bytes, uint64_t keys)
{
    double by_bytes = (double)bytes / (v->load_bytes_s > 1 ? v->load_bytes_s : 1);
    double by_keys = (double)keys / (v->load_keys_s > 1 ? v->load_keys_s : 1);
    return by_bytes > by_keys ? by_bytes : by_keys;
}

static double replay_seconds(const struct schedule_speed *v, double bytes)
{
    return bytes / (v->replay_bytes_s > 1 ? v->replay_bytes_s : 1);
}

double schedule_recovery_seconds(const struct schedule_counters *c)
{
    return load_seconds(&c->speed, c->base_bytes, c->base_keys) +
           replay_seconds(&c->speed, (double)c->log_bytes);
}

static void look_at_points(struct deciding *g)
{
    const struct schedule_counters *c = g->c;
    for (int i = 0; i < g->r->point_count; i++) {
        const struct save_point *p = &g->r->points[i];
        if (c->changes < (uint64_t)p->changes)
            continue;
        /* In whole seconds, and more than so many, as in Redis. */
        int64_t due = (c->last_save_ms / 1000 + p->seconds + 1) * 1000;
        if (c->now_ms >= due)
            act(g, SCHEDULE_SNAPSHOT, "%lld changes in %lld seconds (save)", (long long)p->changes,
                (long long)p->seconds);
        else
            act_later(g, due, "save %lld %lld", (long long)p->seconds, (long long)p->changes);
    }
}

static void look_at_bytes(struct deciding *g)
{
    if (g->r->bytes > 0 && g->c->changes > 0 && g->c->bytes >= g->r->bytes)
        act(g, SCHEDULE_SNAPSHOT,
            "%llu bytes were written since the last snapshot (save-bytes %llu)",
            (unsigned long long)g->c->bytes, (unsigned long long)g->r->bytes);
}

static void look_at_idle(struct deciding *g)
{
    const struct schedule_counters *c = g->c;
    if (g->r->idle_s <= 0 || c->changes == 0)
        return;
    int64_t due = c->last_change_ms + g->r->idle_s * 1000;
    if (c->now_ms >= due)
        act(g, SCHEDULE_SNAPSHOT,
            "no write for %lld seconds, with %llu changes not saved (save-idle)",
            (long long)g->r->idle_s, (unsigned long long)c->changes);
    else
        act_later(g, due, "save-idle %lld", (long long)g->r->idle_s);
}

static void format_time(int64_t ms, char *out, size_t size)
{
    time_t t = (time_t)(ms / 1000);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(out, size, "%Y-%m-%d %H:%M", &tm);
}

static void work_out_cron(struct schedule *s, const struct deciding *g)
{
    int64_t next = cron_next(&g->r->cron, g->c->now_ms / 1000);
    s->cron_from_ms = g->c->now_ms;
    s->cron_ms = next == INT64_MAX ? INT64_MAX : next * 1000;
}

static void look_at_cron(struct schedule *s, struct deciding *g)
{
    const struct schedule_counters *c = g->c;
    char when[32];
    if (g->r->cron.count == 0) {
        s->cron_due = false;
        return;
    }
    /* When the clock was put back what was worked out is too far away. */
    if (s->cron_ms == 0 || c->now_ms < s->cron_from_ms) {
        work_out_cron(s, g);
    } else if (c->now_ms >= s->cron_ms) {
        s->cron_due = c->changes > 0;
        work_out_cron(s, g);
    }
    if (s->cron_due)
        act(g, SCHEDULE_SNAPSHOT, "it is a time of save-cron");
    if (s->cron_ms == INT64_MAX)
        return;
    format_time(s->cron_ms, when, sizeof(when));
    act_later(g, s->cron_ms, "save-cron at %s%s", when,
              c->changes > 0 ? "" : ", if there are changes by then");
}

static void look_at_loss(struct deciding *g)
{
    const struct schedule_counters *c = g->c;
    int64_t target = g->r->loss_s * 1000;
    /* What the log has is not lost. */
    if (target <= 0 || c->log)
        return;
    /* While one is being taken the changes for the next one wait. */
    g->d->loss_too_short = 2 * c->save_ms > target;
    if (c->first_change_ms == 0)
        return;
    int64_t due = c->first_change_ms + (target > c->save_ms ? target - c->save_ms : 0);
    if (c->now_ms >= due)
        act(g, SCHEDULE_SNAPSHOT,
            "the oldest change not saved is %.1f seconds old, and a snapshot takes about %.1f "
            "(data-loss-target %lld)",
            (double)(c->now_ms - c->first_change_ms) / 1e3, (double)c->save_ms / 1e3,
            (long long)g->r->loss_s);
    else
        act_later(g, due, "data-loss-target %lld", (long long)g->r->loss_s);
}

static void look_at_recovery(struct deciding *g)
{
    const struct schedule_counters *c = g->c;
    double target = (double)g->r->recovery_s;
    double now = schedule_recovery_seconds(c);
    double then = load_seconds(&c->speed, c->full_bytes, c->full_keys);
    if (target <= 0)
        return;
    g->d->recovery_too_short = then > target;
    /* While the new base is being written the log goes on growing. */
    double growth =
        c->log ? replay_seconds(&c->speed, c->log_bytes_s * (double)c->save_ms / 1e3) : 0;
    if (now + growth <= target || now - then < target * WORTH)
        return;
    char reason[160];
    snprintf(reason, sizeof(reason),
             "a start would take about %.1f seconds, afterwards %.1f (recovery-time-target %lld)",
             now, then, (long long)g->r->recovery_s);
    if (!c->log) {
        act(g, SCHEDULE_FULL, "%s", reason);
        return;
    }
    g->d->rewrite = true;
    memcpy(g->d->rewrite_reason, reason, sizeof(reason));
}

void schedule_decide(struct schedule *s, const struct schedule_rules *r,
                     const struct schedule_counters *c, struct schedule_decision *d)
{
    *d = (struct schedule_decision){.next_ms = -1};
    struct deciding g = {.r = r, .c = c, .d = d};
    look_at_recovery(&g);
    look_at_cron(s, &g);
    look_at_points(&g);
    look_at_bytes(&g);
    look_at_loss(&g);
    look_at_idle(&g);
    /* The clock may have been put back meanwhile. */
    if (s->retry_ms > c->now_ms + RETRY_MOST_MS)
        s->retry_ms = c->now_ms + RETRY_MOST_MS;
    if (d->action != SCHEDULE_NOTHING && c->now_ms < s->retry_ms) {
        d->action = SCHEDULE_NOTHING;
        d->next_ms = s->retry_ms;
        snprintf(d->next, sizeof(d->next), "once more after %d failure%s: %.110s", s->failures,
                 s->failures == 1 ? "" : "s", d->reason);
        d->reason[0] = '\0';
    }
}

void schedule_changed(struct schedule *s)
{
    s->cron_ms = 0;
    s->cron_due = false;
    s->retry_ms = 0;
}

void schedule_note_result(struct schedule *s, bool ok, int64_t now_ms)
{
    if (ok) {
        s->cron_due = false;
        s->failures = 0;
        s->retry_ms = 0;
        return;
    }
    int64_t wait = RETRY_FIRST_MS;
    for (int i = 0; i < s->failures && wait < RETRY_MOST_MS; i++)
        wait *= 2;
    s->failures++;
    s->retry_ms = now_ms + (wait < RETRY_MOST_MS ? wait : RETRY_MOST_MS);
}
