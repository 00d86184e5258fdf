/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The saver: what BGSAVE, SAVE, the schedule and INFO know of the saves of the keyspace to its RDB
 * file. The work is a save job's (persist/save_job.h); here is the one that is called
 * "the background save", what became of the last ones, and how many changes are not yet in a file.
 *
 *     IDLE --saver_begin--> RUNNING --job ends--> FINISHED --saver_poll--> IDLE
 *
 * Other jobs (the rewrite of the log, backups) run beside it and do not concern it.
 *
 * All functions are the executor's.
 */
#ifndef HF_PERSIST_SAVER_H
#define HF_PERSIST_SAVER_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/save_job.h"

struct saver;

/* wake is called on a thread of the job's when it has finished, to make the executor call
 * saver_poll. */
struct saver *saver_new(struct keyspace *ks, void (*wake)(void *ctx), void *ctx);
/* Waits for a running save to stop: it is cancelled first. */
void saver_free(struct saver *s);

/* SAVE: the executor waits. Must not be called while one is running. */
bool saver_save(struct saver *s, const struct save_options *options, struct error *err);
/* BGSAVE. False when one is running or the thread cannot be started. */
bool saver_begin(struct saver *s, const struct save_options *options, struct error *err);
bool saver_running(const struct saver *s);
/* Make a running save stop soon, with the error CANCELLED. */
void saver_cancel(struct saver *s);
/* Take the result of a save that has ended. True when there was one: status tells how it went. */
bool saver_poll(struct saver *s);
/* Wait until it has ended, then as saver_poll. */
bool saver_wait(struct saver *s);

/* For INFO, LASTSAVE and the schedule. */
struct saver_status {
    bool running;
    bool last_ok;           /* no background save has failed, but by being cancelled, since the
                                 last save that succeeded */
    char last_error[256];   /* of the last save of either kind; empty if it succeeded */
    int64_t last_save_s;    /* wall clock of the last success, or of saver_new; seconds */
    int64_t last_attempt_s; /* of the last background save begun; 0: none */
    int64_t last_duration_s; /* of the last background save; -1: none has ended */
    int64_t started_s;      /* of the running one; 0 if none */
    uint64_t saves;         /* that succeeded since start */
    struct save_progress progress; /* of the running one; zeros, eta_ms -1, if none */
    /* Of the last one that succeeded, of either kind. */
    struct save_result last;
    int64_t last_verified_s; /* wall clock; 0: none was verified since start */
    size_t last_held_bytes;  /* the most that the last one held, however it ended */
    /* spent in saves of either kind since saver_new, the running one too */
    int64_t busy_us;
    int64_t age_us;          /* since saver_new */
};
void saver_get_status(const struct saver *s, struct saver_status *status);
/* Called when the keyspace was loaded from a file just now: counts as a save. */
void saver_note_loaded(struct saver *s);

/* Whether a file of this name is one that is being written, or that a crash left. */
bool saver_is_temporary(const char *name);
/* Remove temporary files that a crash left in the directory of `path`. */
void saver_clean_temporary(const char *path);

#endif
