/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/defragment.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/config.h"
#include "server/server.h"
#include "server/slowlog.h"

/* What a slice has begun when its time is up takes it to 0.25 ms at most. */
#define SLICE_US 200
/* Looks at the allocator's statistics, in runs of the cron: every second. */
#define LOOK_EVERY 10
/* A pass that has moved less than one block of so many has found nothing worth another. */
#define WORTH_ONE_OF 100
#define PAUSE_US (60 * INT64_C(1000000))
/* Between two looks whether it may go on. */
#define REST_US 10000
#define EVERYTHING_PERCENT 50

struct defragment {
    struct server *server;
    struct defrag *walk;
    int percent; /* of the executor's time; 0: not running */
    bool pass_begun, everything, timer_set;
    int64_t next_us;   /* when the next slice is due, by server->now_us */
    int64_t not_before_us; /* no new pass before that */
    int64_t begun_us;  /* when it began to run */
    int64_t total_us;  /* of earlier runs */
    int64_t executor_us, slowest_us; /* of the slices */
    uint64_t passes;
    unsigned looks;
    struct mem_mover at_begin; /* of the pass */
};

struct defragment *defragment_new(struct server *s)
{
    struct defragment *d = mem_zalloc(sizeof(*d));
    d->server = s;
    d->walk = defrag_new(s->ks);
    return d;
}

void defragment_free(struct defragment *d)
{
    mem_move_everything(false);
    defrag_free(d->walk);
    mem_free(d);
}

/* How much of the executor's time the fragmentation is worth; 0: it is below the thresholds. */
static int percent_wanted(const struct config *c)
{
    struct mem_stats m;
    mem_get_stats(&m);
    if (m.allocated == 0 || m.active < m.allocated + (uint64_t)c->active_defrag_ignore_bytes)
        return 0;
    double over = 100.0 * (double)(m.active - m.allocated) / (double)m.allocated;
    double lower = (double)c->active_defrag_threshold_lower;
    double upper = (double)c->active_defrag_threshold_upper;
    double least = (double)c->active_defrag_cycle_min, most = (double)c->active_defrag_cycle_max;
    if (over < lower)
        return 0;
    if (most < least)
        most = least;
    if (over >= upper)
        return (int)most;
    /* over is between the two, so these are not equal. */
    return (int)(least + (most - least) * (over - lower) / (upper - lower));
}

static void stop(struct defragment *d)
{
    if (d->percent == 0)
        return;
    d->total_us += d->server->now_us - d->begun_us;
    d->percent = 0;
}

static int64_t on_timer(void *ctx)
{
    struct defragment *d = ctx;
    defragment_begin_turn(d);
    if (d->percent == 0) {
        d->timer_set = false;
        return 0;
    }
    int64_t left_ms = (d->next_us - d->server->now_us) / 1000;
    return left_ms > 0 ? left_ms : 1;
}

static void run(struct defragment *d, int percent)
{
    if (d->percent == 0)
        d->begun_us = d->next_us = d->server->now_us;
    d->percent = percent;
    if (!d->timer_set)
        loop_add_timer(d->server->loop, 1, on_timer, d);
    d->timer_set = true;
}

/* A pass is over: whether there is to be another, the next look at the allocator says. */
static void end_pass(struct defragment *d)
{
    const struct defrag_stats *stats = defrag_get_stats(d->walk);
    uint64_t moved = stats->blocks.moved - d->at_begin.moved;
    uint64_t stayed = stats->blocks.stayed - d->at_begin.stayed;
    d->passes++;
    d->pass_begun = false;
    if (d->everything)
        return;
    log_verbose("Active defragmentation: a pass over all keys has moved %llu of %llu blocks",
                (unsigned long long)moved, (unsigned long long)(moved + stayed));
    stop(d);
    if (moved * WORTH_ONE_OF < moved + stayed)
        d->not_before_us = d->server->now_us + PAUSE_US;
    d->looks = 0;
}

static bool must_rest(const struct server *s)
{
    return s->loading || s->loading_beside != BESIDE_NONE || epoch_has_snapshot(&s->ks->epoch);
}

void defragment_begin_turn(struct defragment *d)
{
    struct server *s = d->server;
    if (d->percent == 0 || s->now_us < d->next_us)
        return;
    if (must_rest(s)) {
        d->next_us = s->now_us + REST_US;
        return;
    }
    if (!d->pass_begun) {
        d->pass_begun = true;
        d->at_begin = defrag_get_stats(d->walk)->blocks;
        defrag_restart(d->walk);
    }
    const struct config *c = s->config;
    int64_t slice = c->active_defrag_cycle_us > 0 && c->active_defrag_cycle_us < SLICE_US
                        ? c->active_defrag_cycle_us
                        : SLICE_US;
    int64_t begun = clock_monotonic_us();
    enum defrag_result result = defrag_step(d->walk, slice, clock_monotonic_us,
                                            (uint64_t)c->active_defrag_max_scan_fields);
    int64_t took = clock_monotonic_us() - begun;
    d->executor_us += took;
    if (took > d->slowest_us)
        d->slowest_us = took;
    latency_note(s, "active-defrag-cycle", took);
    /* So that what it took is the wanted part of the time until the next one begins. */
    d->next_us = begun + (took > 0 ? took : 1) * 100 / d->percent;
    if (result == DEFRAG_DONE)
        end_pass(d);
}

void defragment_cron(struct defragment *d)
{
    const struct server *s = d->server;
    if (d->everything)
        return;
    if (!s->config->activedefrag) {
        stop(d);
        d->pass_begun = false;
        d->not_before_us = 0;
        return;
    }
    if (d->looks++ % LOOK_EVERY != 0 || must_rest(s) ||
        (d->percent == 0 && s->now_us < d->not_before_us))
        return;
    int percent = percent_wanted(s->config);
    if (percent > 0)
        run(d, percent);
    /* A pass that has begun goes to its end, at the lowest pace by then. */
    else if (d->percent > 0)
        run(d, (int)s->config->active_defrag_cycle_min);
}

void defragment_everything(struct defragment *d, bool on)
{
    d->everything = on;
    mem_move_everything(on);
    if (on)
        run(d, EVERYTHING_PERCENT);
    else
        stop(d);
}

void defragment_get_report(const struct defragment *d, struct defragment_report *report)
{
    int64_t current = d->percent > 0 ? d->server->now_us - d->begun_us : 0;
    *report = (struct defragment_report){.percent = d->percent,
                                         .stats = *defrag_get_stats(d->walk),
                                         .total_us = d->total_us + current,
                                         .current_us = current,
                                         .passes = d->passes,
                                         .executor_us = d->executor_us,
                                         .slowest_slice_us = d->slowest_us};
}

void defragment_reset_stats(struct defragment *d)
{
    defrag_reset_stats(d->walk);
    d->at_begin = (struct mem_mover){0, 0};
    d->total_us = 0;
    if (d->percent > 0)
        d->begun_us = d->server->now_us;
    d->executor_us = d->slowest_us = 0;
    d->passes = 0;
}
