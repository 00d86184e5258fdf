/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A line on the terminal that says how far the reading of a file has come:
 *
 *     check dump.rdb  [#########...........]  45 %  1.2 of 2.7 GiB  210 MiB/s  7 s left
 *
 * On standard error, and only if that is a terminal: nothing of it is ever seen in a pipe, a file
 * or a log.
 */
#ifndef HF_TOOL_PROGRESS_H
#define HF_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *label, *path; /* must live as long */
    uint64_t total;
    int64_t begun_ms, drawn_ms;
    bool enabled; /* there is a terminal */
    bool drawn;   /* there is something to be wiped away */
};

/* label NULL: no progress is shown. */
void progress_begin(struct progress *p, const char *label, const char *path, uint64_t total);
/* Draws when the last time is a tenth of a second ago; of a large file at once. */
void progress_update(struct progress *p, uint64_t done);
/* Wipes the line away: to be called before anything else is printed. It may be drawn again. */
void progress_end(struct progress *p);

#endif
