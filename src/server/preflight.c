/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/preflight.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/persistence.h"

/* A segment of the table, and how many keys are in one. */
#define SEGMENT_BYTES 4096.0
#define SEGMENT_KEYS 200.0
/* Of the free room on the disk a save may take up so much. */
#define DISK_SHARE 0.95

static void does_not_fit(struct preflight *f, bool *fits, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void does_not_fit(struct preflight *f, bool *fits, const char *format, ...)
{
    va_list args;
    *fits = false;
    va_start(args, format);
    vsnprintf(f->reasons[f->reason_count], sizeof(f->reasons[0]), format, args);
    va_end(args);
    f->reason_count++;
}

/* How many of `all` are hit by so many writes to any of them. */
static double distinct(double all, double writes)
{
    return all > 0 ? all * (1 - exp(-writes / all)) : 0;
}

static uint64_t memory_needed(const struct preflight *f)
{
    double keys = (double)f->estimate.keys, writes = f->changes_s * (double)f->estimate.ms / 1e3;
    double each = keys > 0 ? (double)f->estimate.memory / keys : 0;
    double values = distinct(keys, writes) * each;
    double segments = distinct(keys / SEGMENT_KEYS, writes) * SEGMENT_BYTES;
    return (uint64_t)((values + segments) / 2);
}

static void look_at_disk(struct preflight *f, const char *path)
{
    char dir[256];
    struct error ignored;
    os_path_dir(path, dir, sizeof(dir));
    f->disk_known = os_disk_free(dir, &f->disk_free, &ignored);
    if (f->disk_known && (double)f->estimate.bytes > (double)f->disk_free * DISK_SHARE)
        does_not_fit(f, &f->disk_fits, "disk: the file would have about %llu bytes, %llu are free",
                     (unsigned long long)f->estimate.bytes, (unsigned long long)f->disk_free);
}

static void look_at_memory(struct preflight *f)
{
    f->memory_needed = memory_needed(f);
    uint64_t all = os_total_memory(), rss = mem_rss();
    if (f->memory_limit > 0 && f->memory_needed > f->memory_limit)
        does_not_fit(f, &f->memory_fits,
                     "memory: about %llu bytes would be held, snapshot-memory-limit is %llu",
                     (unsigned long long)f->memory_needed, (unsigned long long)f->memory_limit);
    else if (all > rss && f->memory_needed > all - rss)
        does_not_fit(f, &f->memory_fits,
                     "memory: about %llu bytes would be held, the machine has %llu besides",
                     (unsigned long long)f->memory_needed, (unsigned long long)(all - rss));
}

void preflight_run(const struct server *s, struct preflight *f)
{
    const struct snapshots *n = &s->persistence->snapshots;
    struct save_options options;
    *f = (struct preflight){.disk_fits = true, .memory_fits = true, .time_fits = true};
    persistence_options(s, &options);
    snapshots_estimate(s, &f->estimate);
    f->bytes_s = n->bytes_s;
    f->changes_s = n->changes_s;
    f->memory_limit = options.memory_limit;
    look_at_disk(f, options.path);
    look_at_memory(f);
    int64_t target = s->config->data_loss_target;
    if (target > 0 && s->durability->state == DURABILITY_OFF && !s->config->save_incremental &&
        2 * f->estimate.ms > target * 1000)
        does_not_fit(f, &f->time_fits,
                     "time: about %.1f seconds, which is more than half of data-loss-target %lld",
                     (double)f->estimate.ms / 1e3, (long long)target);
}
