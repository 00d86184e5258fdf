/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When the memory of keys is defragmented (keyspace/defrag.h does it), by the directives that Redis
 * has: `activedefrag`, `active-defrag-*`.
 *
 * Each second the allocator is asked how much more its pages take than what is in use. Beyond
 * active-defrag-threshold-lower percent (and active-defrag-ignore-bytes) a pass over all keys
 * begins. It takes active-defrag-cycle-min to active-defrag-cycle-max percent of the executor's
 * time, the more the nearer the fragmentation is to active-defrag-threshold-upper, in slices of
 * 0.25 ms at most: one at the beginning of a turn, or when nothing else is to be done. Pass follows
 * pass until there is little enough, or a pass has found hardly anything to move: what is left is
 * then not in keys, and the next one begins after a minute at the earliest. While a snapshot is
 * live, or data is loaded, it rests.
 */
#ifndef HF_SERVER_DEFRAGMENT_H
#define HF_SERVER_DEFRAGMENT_H

#include "keyspace/defrag.h"

struct server;
struct defragment;

struct defragment *defragment_new(struct server *s);
void defragment_free(struct defragment *d);

/* From the cron: look whether there is something to do. */
void defragment_cron(struct defragment *d);
/* At the beginning of each turn: do some of it, if it is time. Two compares when it is not. */
void defragment_begin_turn(struct defragment *d);
/* For tests: everything is moved all the time, whatever the directives say. */
void defragment_everything(struct defragment *d, bool on);

struct defragment_report {
    int percent; /* of the executor's time that it may take now; 0: it does not run */
    struct defrag_stats stats;
    int64_t total_us;   /* so long it has run in all */
    int64_t current_us; /* since it began to run; 0: it does not */
    uint64_t passes;    /* over all keys */
    int64_t executor_us;     /* what the slices took of the executor's time */
    int64_t slowest_slice_us;
};
void defragment_get_report(const struct defragment *d, struct defragment_report *report);
void defragment_reset_stats(struct defragment *d);

#endif
