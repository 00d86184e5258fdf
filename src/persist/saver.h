/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The saver: writes the keyspace to an RDB file, from a snapshot, on a thread of its own. Nothing
 * forks and the executor does not wait, but for saver_save, which is SAVE.
 *
 *     IDLE --saver_begin--> RUNNING --thread ends--> FINISHED --saver_poll--> IDLE
 *
 * saver_begin takes a snapshot in constant time and starts the thread, which walks the frozen
 * tables, writes a temporary file beside the target, syncs it, renames it over the target and syncs
 * the directory, in that order: the last good file is there until the new one is. When anything
 * fails the temporary file is removed and the target is as it was. saver_poll, called by the
 * executor when it is woken and in its cron, takes the result and releases the snapshot.
 *
 * All functions are the executor's, but for what the thread does by itself.
 */
#ifndef HF_PERSIST_SAVER_H
#define HF_PERSIST_SAVER_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/save_job.h"

struct saver;

/* wake is called on the saver's thread when it has finished, to make the executor call saver_poll. */
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
    bool last_ok;           /* no background save has failed since the last save that succeeded */
    char last_error[256];   /* of the last save of either kind; empty if it succeeded */
    int64_t last_save_s;    /* wall clock of the last success, or of saver_new; seconds */
    int64_t last_attempt_s; /* of the last background save begun; 0: none */
    int64_t last_duration_s; /* of the last background save; -1: none has ended */
    int64_t started_s;      /* of the running one; 0 if none */
    uint64_t saves;         /* that succeeded since start */
    uint64_t keys_done, keys_total, bytes_done; /* of the running one */
    size_t held_bytes;      /* kept in memory for its snapshot alone */
    size_t last_held_bytes; /* at the end of the last one */
    uint64_t last_size;     /* bytes of the last file written */
};
void saver_get_status(const struct saver *s, struct saver_status *status);
/* Called when the keyspace was loaded from a file just now: counts as a save. */
void saver_note_loaded(struct saver *s);

/* Remove temporary files that a crash left in the directory of `path`. */
void saver_clean_temporary(const char *path);

#endif
