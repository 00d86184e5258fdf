/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/hotkeys.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/mem.h"
#include "command/help.h"
#include "command/table.h"
#include "handlers.h"
#include "os/process.h"
#include "server/slowlog.h"

#define SETS 512
#define WAYS 8
/* Longer keys are not tracked: their names would be copied again and again. */
#define KEY_MAX (16 * 1024)
#define COUNT_MAX 64
#define COUNT_DEFAULT 10

struct counter {
    char *key; /* NULL: free */
    uint32_t size;
    uint64_t weight;
};

struct sketch {
    struct counter counters[SETS][WAYS];
};

enum { BY_CPU, BY_NET, METRICS };

struct hotkeys {
    bool active;
    int64_t count, sample;
    int64_t start_ms;             /* by the wall clock */
    /* monotonic; the end: when it was, or will be, stopped (INT64_MAX) */
    int64_t start_us, end_us;
    double user, system;          /* the process's until the start; its own when it has stopped */
    uint64_t cycles, bytes;       /* of all commands */
    struct sketch *sketches[METRICS]; /* NULL: not wanted */
};

void hotkeys_free(struct hotkeys *h)
{
    if (h == NULL)
        return;
    for (int m = 0; m < METRICS; m++) {
        for (int i = 0; h->sketches[m] != NULL && i < SETS * WAYS; i++)
            mem_free(h->sketches[m]->counters[i / WAYS][i % WAYS].key);
        mem_free(h->sketches[m]);
    }
    mem_free(h);
}

bool hotkeys_is_on(const struct hotkeys *h)
{
    return h != NULL && h->active;
}

/* Counting ------------------------------------------------------------------------------------- */

static void set_key(struct counter *c, struct slice key, uint64_t weight)
{
    mem_free(c->key);
    *c = (struct counter){mem_dup(key.data, key.size), (uint32_t)key.size, weight};
}

static void add(struct sketch *sketch, struct slice key, uint64_t hash, uint64_t weight)
{
    struct counter *set = sketch->counters[hash % SETS], *least = set;
    for (struct counter *c = set; c < set + WAYS; c++) {
        if (c->key == NULL) {
            set_key(c, key, weight);
            return;
        }
        if (slice_equal(slice_of(c->key, c->size), key)) {
            c->weight += weight;
            return;
        }
        if (c->weight < least->weight)
            least = c;
    }
    if (least->weight <= weight)
        set_key(least, key, weight);
    else
        least->weight -= weight;
}

static void stop(struct server *s, struct hotkeys *h, int64_t now_us)
{
    struct os_cpu_times used;
    os_cpu_times(&used);
    h->user = used.user - h->user;
    h->system = used.system - h->system;
    h->active = false;
    if (now_us < h->end_us)
        h->end_us = now_us;
    slowlog_update(s);
}

/* Whether it goes on. */
static bool look_at_end(struct server *s, struct hotkeys *h)
{
    if (h->active && s->now_us >= h->end_us)
        stop(s, h, s->now_us);
    return h->active;
}

void hotkeys_note(struct server *s, const struct call *call, const struct command *command,
                  uint64_t cycles, uint64_t bytes)
{
    struct hotkeys *h = s->hotkeys;
    /* What a script or a transaction does is counted once: the script's keys, the commands of
     * EXEC. */
    if (!look_at_end(s, h) || call->in_script || command->handler == cmd_exec)
        return;
    h->cycles += cycles;
    h->bytes += bytes;
    int few[64], *positions = call->argc <= 64 ? few : mem_alloc((size_t)call->argc * sizeof(int));
    int count = command_keys(command, call->argv, call->argc, positions, call->argc);
    for (int i = 0; i < count; i++) {
        struct slice key = call->argv[positions[i]];
        if (key.size > KEY_MAX || keyspace_random_below(s->ks, (uint64_t)h->sample) != 0)
            continue;
        uint64_t hash = hash_bytes(key.data, key.size);
        if (h->sketches[BY_CPU] != NULL)
            add(h->sketches[BY_CPU], key, hash, cycles / (uint64_t)count);
        if (h->sketches[BY_NET] != NULL)
            add(h->sketches[BY_NET], key, hash, bytes / (uint64_t)count);
    }
    if (positions != few)
        mem_free(positions);
}

/* The commands --------------------------------------------------------------------------------- */

/* METRICS count and that many names; names that are not known are for later versions. `at` goes
 * behind. */
static bool parse_metrics(struct call *c, int *at, bool wanted[METRICS])
{
    int64_t count;
    if (*at + 1 >= c->argc || !slice_is(c->argv[*at], "metrics")) {
        reply_error(c->reply, "ERR METRICS parameter is required");
        return false;
    }
    if (!call_int64_range(c, c->argv[*at + 1], 1, METRICS, &count,
                          "ERR METRICS count must be 1 or 2"))
        return false;
    *at += 2;
    int64_t known = 0;
    for (int64_t i = 0; i < count; i++, (*at)++) {
        if (*at == c->argc) {
            reply_error(c->reply,
                        "ERR METRICS count does not match number of metric types provided");
            return false;
        }
        bool cpu = slice_is(c->argv[*at], "cpu");
        if (!cpu && !slice_is(c->argv[*at], "net"))
            continue;
        bool *want = &wanted[cpu ? BY_CPU : BY_NET];
        if (*want) {
            reply_errorf(c->reply, "ERR METRICS %s is given twice", cpu ? "CPU" : "NET");
            return false;
        }
        *want = true;
        known++;
    }
    if (known == 0)
        reply_error(c->reply, "ERR METRICS no valid metrics passed: CPU, NET");
    return known > 0;
}

struct options {
    int64_t count, sample, seconds;
};

static bool parse_options(struct call *c, int at, struct options *o)
{
    *o = (struct options){.count = COUNT_DEFAULT, .sample = 1};
    for (; at < c->argc; at += 2) {
        if (slice_is(c->argv[at], "slots")) {
            reply_error(c->reply, "ERR SLOTS parameter cannot be used in non-cluster mode");
            return false;
        }
        bool count = slice_is(c->argv[at], "count"), sample = slice_is(c->argv[at], "sample");
        if (at + 1 == c->argc || (!count && !sample && !slice_is(c->argv[at], "duration"))) {
            reply_syntax_error(c->reply);
            return false;
        }
        struct slice value = c->argv[at + 1];
        bool ok = count    ? call_int64_range(c, value, 1, COUNT_MAX, &o->count,
                                              "ERR COUNT must be between 1 and 64")
                  : sample ? call_int64_range(c, value, 1, INT32_MAX, &o->sample,
                                              "ERR SAMPLE ratio must be positive")
                           : call_int64_range(c, value, 1, INT32_MAX, &o->seconds,
                                              "ERR DURATION must be positive");
        if (!ok)
            return false;
    }
    return true;
}

void cmd_hotkeys_start(struct call *c)
{
    struct server *s = c->server;
    bool wanted[METRICS] = {false};
    struct options o;
    int at = 2;
    if (s->hotkeys != NULL && look_at_end(s, s->hotkeys)) {
        reply_error(c->reply, "ERR hotkey tracking session already in progress");
        return;
    }
    if (!parse_metrics(c, &at, wanted) || !parse_options(c, at, &o))
        return;
    hotkeys_free(s->hotkeys);
    struct hotkeys *h = s->hotkeys = mem_zalloc(sizeof(*h));
    struct os_cpu_times used;
    os_cpu_times(&used);
    h->active = true;
    h->count = o.count;
    h->sample = o.sample;
    h->start_ms = clock_wall_ms();
    h->start_us = s->now_us;
    h->end_us = o.seconds > 0 ? s->now_us + o.seconds * 1000000 : INT64_MAX;
    h->user = used.user;
    h->system = used.system;
    for (int m = 0; m < METRICS; m++)
        h->sketches[m] = wanted[m] ? mem_zalloc(sizeof(struct sketch)) : NULL;
    slowlog_update(s);
    reply_ok(c->reply);
}

void cmd_hotkeys_stop(struct call *c)
{
    struct server *s = c->server;
    if (s->hotkeys == NULL || !look_at_end(s, s->hotkeys)) {
        reply_error(c->reply, "ERR no hotkey tracking session in progress");
        return;
    }
    stop(s, s->hotkeys, s->now_us);
    reply_ok(c->reply);
}

void cmd_hotkeys_reset(struct call *c)
{
    struct server *s = c->server;
    if (s->hotkeys != NULL && look_at_end(s, s->hotkeys)) {
        reply_error(c->reply, "ERR hotkey tracking session in progress, stop tracking first");
        return;
    }
    hotkeys_free(s->hotkeys);
    s->hotkeys = NULL;
    reply_ok(c->reply);
}

static int by_weight(const void *a, const void *b)
{
    const struct counter *const *x = a, *const *y = b;
    return (*x)->weight < (*y)->weight ? 1 : (*x)->weight > (*y)->weight ? -1 : 0;
}

/* The heaviest: key, weight, key, weight. */
static void reply_heaviest(struct call *c, const struct hotkeys *h, int metric)
{
    const struct counter **all = mem_alloc(SETS * WAYS * sizeof(struct counter *));
    size_t n = 0;
    for (int i = 0; i < SETS * WAYS; i++) {
        const struct counter *k = &h->sketches[metric]->counters[i / WAYS][i % WAYS];
        if (k->key != NULL)
            all[n++] = k;
    }
    if (n > 0)
        qsort(all, n, sizeof(struct counter *), by_weight);
    if (n > (size_t)h->count)
        n = (size_t)h->count;
    reply_array(c->reply, 2 * n);
    for (size_t i = 0; i < n; i++) {
        uint64_t weight = all[i]->weight;
        reply_bulk(c->reply, slice_of(all[i]->key, all[i]->size));
        reply_int(c->reply,
                  (int64_t)(metric == BY_CPU ? server_cycles_us(c->server, weight) : weight));
    }
    mem_free(all);
}

static void reply_field(struct call *c, const char *name, int64_t value)
{
    reply_bulk_cstr(c->reply, name);
    reply_int(c->reply, value);
}

void cmd_hotkeys_get(struct call *c)
{
    struct server *s = c->server;
    struct hotkeys *h = s->hotkeys;
    if (h == NULL) {
        reply_null(c->reply);
        return;
    }
    bool active = look_at_end(s, h), cpu = h->sketches[BY_CPU] != NULL,
         net = h->sketches[BY_NET] != NULL;
    double user = h->user, system = h->system;
    if (active) {
        struct os_cpu_times used;
        os_cpu_times(&used);
        user = used.user - user;
        system = used.system - system;
    }
    reply_array(c->reply, 1);
    reply_map(c->reply, 7U + (cpu ? 3U : 0U) + (net ? 2U : 0U));
    reply_field(c, "tracking-active", active);
    reply_field(c, "sample-ratio", h->sample);
    /* Without a cluster: all of them. */
    reply_bulk_cstr(c->reply, "selected-slots");
    reply_array(c->reply, 1);
    reply_array(c->reply, 2);
    reply_int(c->reply, 0);
    reply_int(c->reply, 16383);
    reply_field(c, "all-commands-all-slots-us", (int64_t)server_cycles_us(s, h->cycles));
    reply_field(c, "net-bytes-all-commands-all-slots", (int64_t)h->bytes);
    reply_field(c, "collection-start-time-unix-ms", h->start_ms);
    reply_field(c, "collection-duration-ms",
                ((active ? s->now_us : h->end_us) - h->start_us) / 1000);
    if (cpu) {
        reply_field(c, "total-cpu-time-user-ms", (int64_t)(user * 1000));
        reply_field(c, "total-cpu-time-sys-ms", (int64_t)(system * 1000));
    }
    if (net)
        reply_field(c, "total-net-bytes", (int64_t)h->bytes);
    if (cpu) {
        reply_bulk_cstr(c->reply, "by-cpu-time-us");
        reply_heaviest(c, h, BY_CPU);
    }
    if (net) {
        reply_bulk_cstr(c->reply, "by-net-bytes");
        reply_heaviest(c, h, BY_NET);
    }
}

void cmd_hotkeys_help(struct call *c)
{
    static const char *const lines[] = {
        "START METRICS <count> [CPU] [NET] [COUNT <keys>] [DURATION <seconds>] [SAMPLE <ratio>]",
        "    Begin to count what keys take, of every <ratio>th access to a key.",
        "STOP",
        "    End it; what was counted stays.",
        "GET",
        "    The keys that took most so far.",
        "RESET",
        "    Forget what was counted.",
    };
    reply_help(c, "HOTKEYS", lines, sizeof(lines) / sizeof(lines[0]));
}
