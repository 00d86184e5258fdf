/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Generations of the log: a base (a snapshot at LSN n) and an incremental file that begins at n;
 * and which files the log has now. A generation is made in two ways:
 *
 *   ANEW     there is no log that could be gone on with (appendonly yes at run time; the disk has
 *            failed): the incremental is provisional, and counts when base and file are both on
 *            disk: writer_begin + save job -> writer_name
 *   REWRITE  the log goes on all the time: its file is ended at n and a new one begins there, named
 *            behind the old ones; when the base of n is on disk it takes the place of all before:
 *            writer_rotate + save job -> writer_name
 *
 *       base 1, incr 1              ── rotate ──>   base 1, incr 1, incr 2
 *       base 1, incr 1, incr 2      ── name ────>   base 2, incr 2; history: base 1, incr 1
 *
 * Whatever fails, and whenever the machine stops, the manifest on disk names files that are whole.
 * It begins in constant time: the caller publishes, a snapshot is taken and both jobs are handed
 * over; the caller's thread does nothing to a file itself.
 *
 * What a generation replaces stays as history until the one after it is named; then a thread
 * removes it (persist/log/remover.h), but for the files that hold something of the last keep_bytes
 * of the stream, for replicas that are far behind. When the disk is full it goes at once.
 *
 * When one is made, and what follows when it fails, is the caller's to decide: server/durability.c.
 *
 * Owned by the executor.
 */
#ifndef HF_PERSIST_LOG_GENERATION_H
#define HF_PERSIST_LOG_GENERATION_H

#include "persist/log/manifest.h"
#include "persist/log/remover.h"
#include "persist/log/writer.h"
#include "persist/save_job.h"

enum generation_kind { GENERATION_ANEW, GENERATION_REWRITE };

struct generation {
    const char *directory, *filename; /* of the log's files; the caller's */
    /* generation_step has something to do; called on any thread */
    void (*wake)(void *ctx);
    void *wake_ctx;
    uint64_t keep_bytes; /* of the stream, before its end; the caller's to change at any time */
    bool keep_history; /* nothing is removed; the caller's to change at any time */

    struct manifest manifest;     /* as on disk */
    uint64_t base_size, old_size; /* bytes: of the base; of the incrementals before the open one */

    /* The one that is being made, or was made last. */
    enum generation_kind kind;
    bool running;
    bool opening, naming; /* what the writer does for it */
    struct save_job *job; /* writes the base; NULL: it has ended */
    bool failed, cancelled;
    struct manifest planned;  /* as it will be */
    struct manifest rotated;  /* REWRITE: as it is once the new file is named */
    struct manifest old;      /* the history that goes with the success of this */
    struct remover *remover;  /* NULL: nothing is being removed */
    uint64_t lsn, planned_base_size;
    size_t last_held_bytes; /* most that was held for the last base that was written */
    int64_t retry_us; /* not before then; but see generation_may_retry */
    bool no_room;     /* the last one failed for want of room, when so much was free */
    uint64_t free_bytes;
    int64_t room_us;  /* not before then, even if there is room */
    int64_t pause_us; /* to the next try when this one fails */
    int64_t begun_us;
    uint64_t count, failures; /* begun since start; failed since the last success */
    int64_t last_seconds;     /* how long the last one took; -1: there was none */
    bool last_ok;
};

enum generation_outcome { GENERATION_NOTHING, GENERATION_NAMED, GENERATION_FAILED };

/* directory and filename must outlive it. No file is touched. */
void generation_init(struct generation *g, const char *directory, const char *filename,
                     void (*wake)(void *ctx), void *ctx);
/* A job that is running is cancelled. Before the writer goes. */
void generation_deinit(struct generation *g);

/* ---- the files that there are ---- */

/* Numbers of files in the directory, which tries that failed may have left, are not given out
 * again. */
void generation_pass_numbers(struct generation *g);

/* Where a log goes on after recovery. */
struct generation_position {
    const struct manifest *manifest; /* as on disk: it has a base */
    uint64_t lsn;
    uint32_t chain;      /* the last crc of the last file; 0: none */
    const char *history; /* 40 hex digits */
    /* a file whose end recovery had no room to cut off (at cut_at); NULL: none */
    const char *cut;
    uint64_t cut_at;
};
/* Begin the first file behind those that recovery has left, and name it, before anything else is
 * done. What a process that was killed has left of a generation that it did not come to name is
 * removed. Waits for the disk. False, the writer being FULL: there is no room yet, and it is begun
 * when there is some; a second call may take the place of this one. */
bool generation_open(struct generation *g, struct writer *w, const struct generation_position *at,
                     struct error *err);
/* Go on in a new file, of another history, or (NULL) the same. Waits for the disk. None may be
 * running, nor the writer be busy. False: the file before is gone on with, or the writer has
 * failed. */
bool generation_rotate(struct generation *g, struct writer *w, const char *history,
                       struct error *err);
/* Whether the log's directory is empty, or not there. */
bool generation_is_first(const struct generation *g);
/* The log is closed, and nobody needs it: no file of it stays, nor the directory if it is empty
 * then. */
void generation_remove_all(struct generation *g);

/* ---- making one ---- */

struct generation_begin {
    struct writer *writer;
    struct stream *stream;
    struct keyspace *ks;
    const char *history; /* ANEW: of the new file */
    /* Of the base, but for the path: `commands` decides its name, and its position is that which
     * the stream has published. */
    struct save_options save;
};
/* None may be running, the writer not busy, all published, and no group begun. Outcome FAILED: it
 * could not even be begun; what is known of the failure is noted as by generation_step. */
enum generation_outcome generation_begin(struct generation *g, enum generation_kind kind,
                                         const struct generation_begin *begin);
/* Go on with it. NAMED and FAILED are told once, when nothing of it is under way any more. The
 * writer must be the one it was begun with; it may be NULL while none is running. */
enum generation_outcome generation_step(struct generation *g, struct writer *w);
/* Let it end soon, without counting as a failure. */
void generation_cancel(struct generation *g);
/* There was no room, and nothing can be made before there is some. */
void generation_note_no_room(struct generation *g);
/* The pause after the last failure is over; or it failed for want of room, and there is more
 * now. */
bool generation_may_retry(const struct generation *g);
/* Whether a thread of its own works for it: writes a base, or removes files. */
bool generation_is_busy(const struct generation *g);
/* The next try may follow in a second. */
void generation_hurry(struct generation *g);

/* The first LSN from which on the files have the stream without a gap. False: not known. */
bool generation_first_lsn(const struct generation *g, uint64_t *lsn);
/* Where the files that a start would read begin: the base's LSN. False: not known. */
bool generation_base_lsn(const struct generation *g, uint64_t *lsn);
/* Remove all history now: the disk is full. */
void generation_drop_history(struct generation *g);

#endif
