/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Generations of the log: a base (a snapshot at LSN n) and an incremental file that begins at n. Made
 * in two ways:
 *
 *   ANEW     there is no log that could be gone on with (appendonly yes at run time; the disk has
 *            failed): the incremental is provisional, and counts when base and file are both on disk:
 *            writer_begin + save job -> writer_name
 *   REWRITE  the log goes on all the time: its file is ended at n and a new one begins there, named
 *            behind the old ones; when the base of n is on disk it takes the place of all before:
 *            writer_rotate + save job -> writer_name
 *
 *       base 1, incr 1              ── rotate ──>   base 1, incr 1, incr 2
 *       base 1, incr 1, incr 2      ── name ────>   base 2, incr 2; history: base 1, incr 1
 *
 * Whatever fails, and whenever the machine stops, the manifest on disk names files that are whole. It
 * begins in constant time: the executor publishes, takes a snapshot and hands both jobs over; it does
 * nothing to a file itself.
 *
 * What a generation replaces stays as history until the one after it is named; then a thread
 * removes it (persist/log/remover.h). When the disk is full it goes at once.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_GENERATION_H
#define HF_SERVER_GENERATION_H

#include "persist/log/manifest.h"
#include "persist/log/remover.h"
#include "persist/save_job.h"

struct durability;

enum generation_kind { GENERATION_ANEW, GENERATION_REWRITE };

struct generation {
    enum generation_kind kind;
    bool running;
    bool opening, naming; /* what the writer does for it */
    struct save_job *job; /* writes the base; NULL: it has ended */
    bool failed, cancelled;
    struct manifest manifest; /* as it will be */
    struct manifest rotated;  /* REWRITE: as it is once the new file is named */
    struct manifest old;      /* the history that goes with the success of this */
    struct remover *remover;  /* NULL: nothing is being removed */
    uint64_t lsn, base_size;
    int64_t retry_us; /* not before then */
    int64_t pause_us; /* to the next try when this one fails */
    int64_t begun_us;
    uint64_t count, failures; /* begun since start; failed since the last success */
    int64_t last_seconds;     /* how long the last one took; -1: there was none */
    bool last_ok;
};

enum generation_outcome { GENERATION_NOTHING, GENERATION_NAMED, GENERATION_FAILED };

void generation_init(struct durability *d);
/* A job that is running is cancelled. Before the writer goes. */
void generation_deinit(struct durability *d);

/* None may be running, the writer not busy, and no group begun. Outcome FAILED: it could not even
 * be begun; what is known of the failure is noted as by generation_step. */
enum generation_outcome generation_begin(struct durability *d, enum generation_kind kind);
/* Go on with it. NAMED and FAILED are told once, when nothing of it is under way any more. */
enum generation_outcome generation_step(struct durability *d);
/* Let it end soon, without counting as a failure. */
void generation_cancel(struct durability *d);
/* The next try may follow in a second. */
void generation_hurry(struct durability *d);

/* Remove all history now: the disk is full. */
void generation_drop_history(struct durability *d);

#endif
