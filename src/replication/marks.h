/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When the stream was where: for how long, and how many effects, somebody is behind who has
 * acknowledged an LSN.
 *
 *     mark:   at 12.301 s, when the stream went on behind LSN 700, 31 effects had been
 *
 * Each mark is of the moment at which the stream left an LSN, so that what is behind it is never
 * older. They stand close together in the near past and farther apart in the far one: the distance
 * to the next is at most a hundredth or so of the age, and the number of them is bounded.
 *
 * Owned by one thread.
 */
#ifndef HF_REPLICATION_MARKS_H
#define HF_REPLICATION_MARKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MARKS_MOST 4096

struct marks {
    struct mark {
        uint64_t lsn, effects;
        int64_t us; /* monotonic */
    } all[MARKS_MOST]; /* all of them ascend */
    size_t count;
    uint64_t lsn, effects; /* as of now */
};

/* The stream, or another one, begins to be watched at this LSN, after so many effects: of what was
 * before nothing is known. */
void marks_begin(struct marks *m, uint64_t lsn, uint64_t effects);
/* It is at this LSN now. Below the last one: another stream. */
void marks_note(struct marks *m, uint64_t lsn, uint64_t effects, int64_t now_us);

/* What somebody has not got who has everything up to an LSN. */
struct marks_behind {
    uint64_t bytes;
    uint64_t effects; /* at most so many */
    int64_t us;       /* the oldest of them is at most so old */
};
/* False: only `bytes` is known, as the LSN is from before marks_begin. */
bool marks_behind(const struct marks *m, uint64_t lsn, int64_t now_us, struct marks_behind *out);

#endif
