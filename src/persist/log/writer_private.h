/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the three files of the writer share (persist/log/writer.h says what it is):
 *
 *     writer.c         the executor's side, and the thread's loop: who sleeps when, and who wakes
 *                      whom
 *     writer_groups.c  commit groups: writing them, syncing them, and what follows when that fails
 *     writer_files.c   files and the manifest: the requests begin, rotate, name and close
 *
 * What writer_groups.c and writer_files.c have is the thread's, but for writer_forget_provisional,
 * when the thread has ended.
 */
#ifndef HF_PERSIST_LOG_WRITER_PRIVATE_H
#define HF_PERSIST_LOG_WRITER_PRIVATE_H

#include <pthread.h>
#include <sys/uio.h>

#include "os/file.h"
#include "os/thread.h"
#include "persist/log/writer.h"

/* Lines and effects are gathered here: a small group is one write. */
#define WRITER_BUFFER_SIZE (256 * 1024)
#define WRITER_MARKS 2048
#define WRITER_PATH_SIZE sizeof(((struct os_file *)0)->path)

/* Everything up to `lsn` (and behind the mark before) was published at `us`, or later. */
struct writer_mark {
    uint64_t lsn;
    int64_t us;
};

enum writer_job_kind { JOB_NONE, JOB_BEGIN, JOB_ROTATE, JOB_NAME, JOB_CLOSE };

/* What the thread is woken for: while it lingers, for requests alone, not for what is published. */
enum writer_sleep { SLEEP_NONE, SLEEP_ANY, SLEEP_LINGERING };

struct writer_job {
    enum writer_job_kind kind;
    char name[WRITER_PATH_SIZE];
    uint64_t lsn; /* of the new file, or up to where the old one is to be written */
    uint32_t chain;
    int db; /* of the effect at lsn */
    bool own;
    char history[ANNOTATION_HISTORY + 1];
    bool has_manifest;
    struct manifest manifest;
    bool wait_for_room;
    char cut[WRITER_PATH_SIZE]; /* "": nothing, or done */
    uint64_t cut_at;
};

struct writer {
    struct stream *stream;
    struct stream_reader *reader;
    char *directory, *filename;
    void (*wake)(void *ctx);
    void *wake_ctx;
    pthread_t thread;

    /* The thread's own. */
    struct os_file file;
    uint64_t offset;       /* behind the last whole line; the position of the next write */
    uint64_t filled_end;   /* there may be filling from `offset` up to there */
    uint64_t reserved_end; /* what the file has got up to there is its own */
    uint32_t chain;
    char history[ANNOTATION_HISTORY + 1];
    bool named;            /* in the manifest: what is synced is durable */
    /* of a file that is not: its path, and the one it will have */
    char temporary[WRITER_PATH_SIZE];
    char final[WRITER_PATH_SIZE];
    struct writer_job waiting; /* JOB_BEGIN: there has been no room for it; else JOB_NONE */
    bool unsynced;         /* something was written since the last sync */
    int64_t unsynced_since_us;
    int64_t last_work_us;  /* when it has written last, or has found nothing to write */
    int64_t last_stamp_s;  /* of the last `#TS:` line */
    size_t mark_written;   /* the next mark that is not yet written */
    struct iovec *pieces;
    int piece_room;
    char *buffer;
    size_t buffered;
    struct histogram *write_times, *sync_times, *commit_times; /* under the lock */

    /* Atomics. */
    uint64_t written, durable;
    int state; /* enum writer_state; written by the thread */
    bool told; /* wake was called, or need not be */
    bool news; /* since writer_take_news was asked last */
    bool eager;
    int sync;  /* enum writer_sync */
    bool timestamps;
    bool syncing;
    bool ended; /* the thread has come to its end */

    /* The executor's. */
    int db; /* for the next job */
    bool own;
    uint64_t last_published, last_marked;
    int64_t unmarked_since_us; /* the first publishing that no mark tells of; 0: none */
    int64_t last_mark_us;
    struct writer_mark marks[WRITER_MARKS];
    size_t mark_tail; /* atomic: written by the executor */
    size_t mark_head; /* atomic: written by the thread; durable up to there */

    pthread_mutex_t lock;
    pthread_cond_t done;
    struct os_bell bell; /* rung by whoever takes `sleep` back to NONE */
    int sleep;           /* enum writer_sleep; atomic */
    /* Under the lock. */
    bool stop, started;
    bool busy; /* a job was given and has not ended */
    struct writer_job job;
    struct error job_error;
    uint64_t flush_lsn; /* sync up to here at once */
    int64_t longest_write_us, longest_sync_us;
    struct writer_stats stats;
};

/* ---- writer_groups.c ---- */

/* Wakes the executor, unless it has been and has not yet looked. */
void writer_tell(struct writer *w);
void writer_set_state(struct writer *w, enum writer_state state);
void writer_note_error(struct writer *w, const struct error *err);
/* The file is given up: whoever has it in the page cache knows as little of it as we do. */
void writer_give_up(struct writer *w, const struct error *err);
/* There is no room, and there is again. */
void writer_no_room(struct writer *w, const struct error *err);
void writer_room_again(struct writer *w);
bool writer_file_is_open(const struct writer *w);
/* Behind what ends at `end`: see annotation_join_filling. */
size_t writer_join_filling(const struct writer *w, uint64_t end, char *out);
/* See to it that there is room in the file up to `end`, and some more. */
bool writer_reserve(struct writer *w, uint64_t end);
/* Everything below `limit`, group by group; with ALWAYS each is synced. */
bool writer_write_up_to(struct writer *w, uint64_t limit);
/* What is published up to `lsn` goes nowhere. */
void writer_discard_up_to(struct writer *w, uint64_t lsn);
bool writer_sync_file(struct writer *w);
/* A line that says what is durable and ends no group; it is not synced itself. `kind` is COMMIT or
 * CLOSE. */
bool writer_put_line(struct writer *w, enum annotation_kind kind, uint64_t lsn, struct error *err);
/* Everything up to `lsn` is durable. */
void writer_move_durable(struct writer *w, uint64_t lsn);

/* ---- writer_files.c ---- */

/* Carries out w->job, and says so. */
void writer_run_job(struct writer *w);
/* Begin the file that there was no room for, if there is some now. False: no file is open. */
bool writer_begin_waiting(struct writer *w);
/* That file is not wanted any more. */
void writer_forget_waiting(struct writer *w);
/* What a file that was never named has got is of no use. */
void writer_forget_provisional(struct writer *w);

#endif
