/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Preflight: what a full save would take if it began now - room on the disk, memory, time - and
 * whether there is as much. An estimate, from the last save and the pace of the writes; nothing is
 * written or reserved.
 *
 * Memory: what is overwritten while the save lasts is kept once more, with the segments of the
 * table that lead to it; half of it, as what the save has passed is given back.
 */
#ifndef HF_SERVER_PREFLIGHT_H
#define HF_SERVER_PREFLIGHT_H

#include "server/snapshots.h"

struct preflight {
    struct snapshot_estimate estimate;
    uint64_t disk_free;                   /* 0: unknown */
    bool disk_known;
    uint64_t memory_needed, memory_limit; /* limit 0: none */
    double bytes_s, changes_s;            /* the pace of the writes */
    bool disk_fits, memory_fits, time_fits;
    char reasons[3][160]; /* why it does not fit */
    int reason_count;     /* 0: it fits */
};

void preflight_run(const struct server *s, struct preflight *f);

#endif
