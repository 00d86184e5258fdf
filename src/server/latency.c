/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The latency monitor and LATENCY. Of each event the worst of every second is kept, for the last
 * SAMPLES seconds in which there was one.
 */
#include <stdio.h>

#include "base/histogram.h"
#include "base/mem.h"
#include "base/text.h"
#include "command/help.h"
#include "command/table.h"
#include "handlers.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/slowlog.h"

#define SAMPLES 160
#define EVENTS_MAX 16
#define GRAPH_ROWS 4
#define GRAPH_COLUMNS 80

struct sample {
    int64_t at_s, ms;
};

struct latency_event {
    char name[32];
    struct sample samples[SAMPLES]; /* a ring */
    size_t count, next;
    int64_t worst_ms;
};

struct latency_monitor {
    struct latency_event events[EVENTS_MAX];
    size_t count;
};

struct latency_monitor *latency_monitor_new(void)
{
    return mem_zalloc(sizeof(struct latency_monitor));
}

void latency_monitor_free(struct latency_monitor *m)
{
    mem_free(m);
}

static struct latency_event *find_event(struct latency_monitor *m, struct slice name)
{
    for (size_t i = 0; i < m->count; i++) {
        if (slice_is(name, m->events[i].name))
            return &m->events[i];
    }
    return NULL;
}

/* The i-th sample, the oldest first. */
static const struct sample *sample_at(const struct latency_event *e, size_t i)
{
    return &e->samples[(e->next + SAMPLES - e->count + i) % SAMPLES];
}

void latency_note(struct server *s, const char *event, int64_t us)
{
    int64_t least = s->config->latency_monitor_threshold, ms = us / 1000;
    struct latency_monitor *m = s->latency;
    if (least == 0 || ms < least)
        return;
    struct latency_event *e = find_event(m, slice_of(event, strlen(event)));
    if (e == NULL) {
        if (m->count == EVENTS_MAX)
            return;
        e = &m->events[m->count++];
        snprintf(e->name, sizeof(e->name), "%s", event);
    }
    if (ms > e->worst_ms)
        e->worst_ms = ms;
    int64_t now_s = s->ks->now_ms / 1000;
    struct sample *last = &e->samples[(e->next + SAMPLES - 1) % SAMPLES];
    if (e->count > 0 && last->at_s == now_s) {
        last->ms = ms > last->ms ? ms : last->ms;
        return;
    }
    e->samples[e->next] = (struct sample){now_s, ms};
    e->next = (e->next + 1) % SAMPLES;
    e->count += e->count < SAMPLES;
}

void cmd_latency_latest(struct call *c)
{
    const struct latency_monitor *m = c->server->latency;
    reply_array(c->reply, m->count);
    for (size_t i = 0; i < m->count; i++) {
        const struct latency_event *e = &m->events[i];
        const struct sample *last = sample_at(e, e->count - 1);
        reply_array(c->reply, 4);
        reply_bulk_cstr(c->reply, e->name);
        reply_int(c->reply, last->at_s);
        reply_int(c->reply, last->ms);
        reply_int(c->reply, e->worst_ms);
    }
}

void cmd_latency_history(struct call *c)
{
    const struct latency_event *e = find_event(c->server->latency, c->argv[2]);
    reply_array(c->reply, e != NULL ? e->count : 0);
    for (size_t i = 0; e != NULL && i < e->count; i++) {
        reply_array(c->reply, 2);
        reply_int(c->reply, sample_at(e, i)->at_s);
        reply_int(c->reply, sample_at(e, i)->ms);
    }
}

void cmd_latency_reset(struct call *c)
{
    struct latency_monitor *m = c->server->latency;
    int64_t removed = 0;
    if (c->argc == 2) {
        removed = (int64_t)m->count;
        m->count = 0;
    }
    for (int i = 2; i < c->argc; i++) {
        struct latency_event *e = find_event(m, c->argv[i]);
        if (e == NULL)
            continue;
        *e = m->events[--m->count];
        removed++;
    }
    memset(&m->events[m->count], 0, (EVENTS_MAX - m->count) * sizeof(m->events[0]));
    reply_int(c->reply, removed);
}

/* How long ago, in two characters and a unit. */
static void append_age(struct text *out, int64_t seconds)
{
    if (seconds < 60)
        text_appendf(out, "%llds", (long long)seconds);
    else if (seconds < 3600)
        text_appendf(out, "%lldm", (long long)(seconds / 60));
    else
        text_appendf(out, "%lldh", (long long)(seconds / 3600));
}

/* Bars, GRAPH_ROWS high, one column for a sample, and below them how long ago it was. */
static void append_graph(struct text *out, const struct latency_event *e, int64_t now_s)
{
    size_t columns = e->count < GRAPH_COLUMNS ? e->count : GRAPH_COLUMNS,
           first = e->count - columns;
    int64_t low = INT64_MAX, high = 0;
    for (size_t i = first; i < e->count; i++) {
        int64_t ms = sample_at(e, i)->ms;
        low = ms < low ? ms : low;
        high = ms > high ? ms : high;
    }
    text_appendf(out, "%s: highest %lld ms, lowest %lld ms (highest ever %lld ms)\n", e->name,
                 (long long)high, (long long)low, (long long)e->worst_ms);
    for (int row = GRAPH_ROWS; row > 0; row--) {
        for (size_t i = first; i < e->count; i++) {
            int64_t height = (sample_at(e, i)->ms * GRAPH_ROWS * 2 + high - 1) / high;
            text_append(out, height >= row * 2 ? "#" : height == row * 2 - 1 ? "_" : " ", 1);
        }
        text_append(out, "\n", 1);
    }
    text_append_cstr(out, "oldest ");
    append_age(out, now_s - sample_at(e, first)->at_s);
    text_append_cstr(out, " ago, newest ");
    append_age(out, now_s - sample_at(e, e->count - 1)->at_s);
    text_append_cstr(out, " ago\n");
}

void cmd_latency_graph(struct call *c)
{
    const struct latency_event *e = find_event(c->server->latency, c->argv[2]);
    if (e == NULL) {
        reply_errorf(c->reply, "ERR No samples available for event '%.*s'", (int)c->argv[2].size,
                     c->argv[2].data);
        return;
    }
    struct text out = {0};
    append_graph(&out, e, c->server->ks->now_ms / 1000);
    reply_verbatim(c->reply, slice_of(out.data, out.size), "txt");
    text_free(&out);
}

static const char *advice(const char *event)
{
    if (strcmp(event, "command") == 0)
        return "Commands that look at many elements take long: SLOWLOG GET names them.";
    if (strcmp(event, "fast-command") == 0)
        return "Commands that take constant time were slow: the machine itself was (another "
               "process, "
               "a virtual machine that was stopped, swapping), or the network buffers.";
    if (strcmp(event, "expire-cycle") == 0)
        return "Many keys expire at the same time: spread their times to live.";
    if (strcmp(event, "eviction-cycle") == 0)
        return "Much has to be evicted at once: raise maxmemory or write less in a burst.";
    if (strncmp(event, "aof", 3) == 0)
        return "The disk is slow to write or to sync. No command waits for it, but replies under "
               "appendfsync always do.";
    return "See docs/operations.md.";
}

void cmd_latency_doctor(struct call *c)
{
    const struct server *s = c->server;
    const struct latency_monitor *m = s->latency;
    struct text out = {0};
    if (s->config->latency_monitor_threshold == 0)
        text_append_cstr(&out, "The latency monitor is off. CONFIG SET latency-monitor-threshold "
                               "<milliseconds> turns it on.\n");
    else if (m->count == 0)
        text_appendf(&out,
                     "Nothing took %lld ms or longer since the start or the last LATENCY RESET.\n",
                     (long long)s->config->latency_monitor_threshold);
    for (size_t i = 0; i < m->count; i++) {
        const struct latency_event *e = &m->events[i];
        int64_t sum = 0;
        for (size_t k = 0; k < e->count; k++)
            sum += sample_at(e, k)->ms;
        int64_t span = sample_at(e, e->count - 1)->at_s - sample_at(e, 0)->at_s;
        text_appendf(&out,
                     "%zu. %s: %zu spikes (mean %lld ms, worst %lld ms) within %lld seconds. %s\n",
                     i + 1, e->name, e->count, (long long)(sum / (int64_t)e->count),
                     (long long)e->worst_ms, (long long)span, advice(e->name));
    }
    reply_verbatim(c->reply, slice_of(out.data, out.size), "txt");
    text_free(&out);
}

/* One histogram: how many calls took at most 1, 2, 4, ... microseconds, from the first bound that
 * holds some to the one that holds all. Of commands it is in cycles, of the log in microseconds. */
static void reply_histogram(struct call *c, const char *name, uint64_t calls,
                            const struct histogram *h, bool in_cycles)
{
    reply_bulk_cstr(c->reply, name);
    reply_map(c->reply, 2);
    reply_bulk_cstr(c->reply, "calls");
    reply_int(c->reply, (int64_t)calls);
    reply_bulk_cstr(c->reply, "histogram_usec");
    struct reply_mark mark = reply_deferred_begin(c->reply);
    uint64_t below = 0, bound = 1;
    size_t pairs = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && below < h->total; i++) {
        if (h->counts[i] == 0)
            continue;
        uint64_t us = histogram_bucket_max(i);
        if (in_cycles)
            us = server_cycles_us(c->server, us);
        if (us > bound && below != 0) {
            reply_int(c->reply, (int64_t)bound);
            reply_int(c->reply, (int64_t)below);
            pairs++;
        }
        while (bound < us)
            bound *= 2;
        below += h->counts[i];
    }
    if (below != 0) {
        reply_int(c->reply, (int64_t)bound);
        reply_int(c->reply, (int64_t)below);
        pairs++;
    }
    reply_deferred_map(c->reply, mark, pairs);
}

static size_t histograms_of(struct call *c, const struct command *command)
{
    size_t count = 0;
    const struct command_stats *stats = &c->server->stats.commands[command->id];
    if (stats->calls > 0 && stats->latency != NULL) {
        reply_histogram(c, command->full_name, stats->calls, stats->latency, true);
        count++;
    }
    for (int i = 0; i < command->subcommand_count; i++)
        count += histograms_of(c, &command->subcommands[i]);
    return count;
}

/* What the log's thread does, under names that no command has: all of it, or the one of this
 * name. */
static size_t histograms_of_log(struct call *c, const struct slice *name)
{
    const struct durability *d = c->server->durability;
    if (d == NULL || d->writer == NULL)
        return 0;
    size_t count = 0;
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(d->writer, stats);
    const struct {
        const char *name;
        const struct histogram *h;
    } rows[] = {
        {"log|write", &stats->write}, {"log|sync", &stats->sync}, {"log|commit", &stats->commit}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (rows[i].h->total == 0 || (name != NULL && !slice_is(*name, rows[i].name)))
            continue;
        reply_histogram(c, rows[i].name, rows[i].h->total, rows[i].h, false);
        count++;
    }
    mem_free(stats);
    return count;
}

void cmd_latency_histogram(struct call *c)
{
    struct reply_mark mark = reply_deferred_begin(c->reply);
    size_t count = 0;
    for (int i = 0; c->argc == 2 && command_at(i) != NULL; i++)
        count += histograms_of(c, command_at(i));
    if (c->argc == 2)
        count += histograms_of_log(c, NULL);
    for (int i = 2; i < c->argc; i++) {
        count += histograms_of_log(c, &c->argv[i]);
        const struct command *command = command_find(c->argv[i]);
        const char *bar = memchr(c->argv[i].data, '|', c->argv[i].size);
        if (command == NULL && bar != NULL) {
            size_t n = (size_t)(bar - c->argv[i].data);
            command = command_find(slice_of(c->argv[i].data, n));
            if (command != NULL)
                command = command_find_sub(command, slice_of(bar + 1, c->argv[i].size - n - 1));
        }
        if (command != NULL)
            count += histograms_of(c, command);
    }
    reply_deferred_map(c->reply, mark, count);
}

void cmd_latency_help(struct call *c)
{
    static const char *const lines[] = {
        "DOCTOR",
        "    What was slow, and what may help.",
        "GRAPH <event>",
        "    An event's samples as bars.",
        "HISTOGRAM [<command> ...]",
        "    How many calls of commands took at most 1, 2, 4, ... microseconds.",
        "HISTORY <event>",
        "    An event's samples: time and milliseconds.",
        "LATEST",
        "    For each event the time and length of the last one, and the longest.",
        "RESET [<event> ...]",
        "    Forget all events, or these.",
    };
    reply_help(c, "LATENCY", lines, sizeof(lines) / sizeof(lines[0]));
}
