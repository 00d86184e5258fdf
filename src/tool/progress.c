/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/progress.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "os/process.h"
#include "tool/format.h"

#define REDRAW_MS 100
/* A file of this size takes long enough to be shown at once. */
#define LARGE (16 << 20)
#define BAR_WIDTH 24

void progress_begin(struct progress *p, const char *label, const char *path, uint64_t total)
{
    *p = (struct progress){.label = label, .path = path, .total = total};
    p->enabled = label && total > 0 && os_is_terminal(2);
    p->begun_ms = clock_monotonic_us() / 1000;
    p->drawn_ms = total < LARGE ? p->begun_ms : p->begun_ms - REDRAW_MS;
}

static void draw(struct progress *p, uint64_t done, int64_t now_ms)
{
    char bar[BAR_WIDTH + 1], size[FORMAT_SIZE], total[FORMAT_SIZE], rate[FORMAT_SIZE],
        left[FORMAT_SIZE] = "";
    double part = (double)done / (double)p->total, seconds = (double)(now_ms - p->begun_ms) / 1000;
    size_t filled = (size_t)(part * BAR_WIDTH);
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '#', filled < BAR_WIDTH ? filled : BAR_WIDTH);
    bar[BAR_WIDTH] = '\0';
    double speed = seconds > 0 ? (double)done / seconds : 0;
    if (speed > 0)
        format_duration(left, (int64_t)((double)(p->total - done) / speed * 1000));
    fprintf(stderr, "\r%s %s  [%s] %3d %%  %s of %s  %s/s  %s left\033[K", p->label, p->path, bar,
            (int)(part * 100), format_bytes(size, done), format_bytes(total, p->total),
            format_bytes(rate, (uint64_t)speed), left);
    fflush(stderr);
    p->drawn = true;
}

void progress_update(struct progress *p, uint64_t done)
{
    if (!p->enabled)
        return;
    int64_t now_ms = clock_monotonic_us() / 1000;
    if (now_ms - p->drawn_ms < REDRAW_MS)
        return;
    p->drawn_ms = now_ms;
    draw(p, done < p->total ? done : p->total, now_ms);
}

void progress_end(struct progress *p)
{
    if (!p->drawn)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->drawn = false;
}
