/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the four files of the writer share (persist/log/writer.h says what it is):
 *
 *     writer.c         the executor's side, and the thread's loop: who sleeps when, and who wakes
 *                      whom
 *     writer_groups.c  commit groups: writing them, syncing them, and what follows when that fails
 *     writer_lanes.c   with ALWAYS, more than one commit group on its way at a time
 *     writer_files.c   files and the manifest: the requests begin, rotate, name and close
 *
 * What the last three have is the thread's, and that of who has the turn (writer_lanes.c), but for
 * writer_forget_provisional, when the threads have ended.
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

/* A commit group, and where it stands. */
struct writer_group {
    uint64_t from, to;   /* LSNs */
    uint64_t begin, end; /* in the file */
    uint32_t crc;        /* of its commit line */
    int64_t stamp_s;     /* of the last `#TS:` line, once it is written */
};

/* Of writer_lanes.c. */
#define WRITER_LANES 4
/* What a disk takes past the page cache: one that wants more refuses, and there are no lanes. */
#define LANE_BLOCK 512
struct writer_lane {
    struct os_companion companion; /* of the lane's thread */
    char *memory, *buffer; /* the buffer is aligned */
    uint64_t at;           /* whole blocks, in the file */
    size_t size;
    bool flies;
    bool syncs; /* its sync has begun */
    int64_t since_us;
    uint64_t number; /* flights take off in this order */
    uint64_t to;     /* durable when it has landed, as what was behind it has */
    /* Of the mates, all lanes but the first. */
    struct writer *writer;
    pthread_t thread;
    bool started;
    struct os_bell bell; /* rung by whoever takes `asleep` back to false */
    bool asleep;         /* atomic */
};

struct writer {
    struct stream *stream;
    struct stream_reader *reader;
    char *directory, *filename;
    void (*wake)(void *ctx);
    void *wake_ctx;
    pthread_t thread;

    pthread_mutex_t turn; /* before `lock` where both are taken */
    pthread_cond_t landed;
    /* The thread's own, and that of who has the turn. */
    struct os_file file;
    struct os_file past_cache; /* the same file; -1: there are no lanes */
    struct writer_lane lanes[WRITER_LANES];
    uint64_t flight_number;    /* of the last flight */
    int64_t flying_since_us;   /* when the first of those that are up took off */
    bool filling;              /* a mate is at it */
    bool settling;             /* nobody takes off */
    bool lanes_refused;        /* not for this file */
    bool lost;                 /* a flight has failed: none counts any more */
    struct error lost_error;
    char tail[LANE_BLOCK];     /* what stands before tail_end, from the begin of its block on */
    uint64_t tail_end;         /* UINT64_MAX: unknown */
    bool mates_stop;
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
    int syncing; /* how many syncs are under way */
    bool ended;  /* the threads have come to their end */
    int flights;
    int64_t flight_us; /* how long they take, in the mean */
    bool mate_called;  /* one was woken, and has not yet looked */

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

/* ---- writer.c ---- */

/* The thread has to look what there is. Anybody. */
void writer_rouse(struct writer *w);

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
/* Both descriptors of it. */
bool writer_close_file(struct writer *w, struct error *err);
void writer_record_write(struct writer *w, int64_t took);
void writer_record_sync(struct writer *w, int64_t took);
void writer_record_busy(struct writer *w, int64_t took);
/* Behind what ends at `end`: see annotation_join_filling. */
size_t writer_join_filling(const struct writer *w, uint64_t end, char *out);
/* See to it that there is room in the file up to `end`, and some more. */
bool writer_reserve(struct writer *w, uint64_t end);
/* Where filling ends that leaves room behind `low`. */
uint64_t writer_fill_end(const struct writer *w, uint64_t low);
/* Up to where the next group goes: all that was published, or a mark that is near enough. */
uint64_t writer_group_end(struct writer *w, uint64_t at, uint64_t limit);
/* The group [g->from, g->to) to the buffer, for g->begin; where it does not fit what is in the
 * buffer goes to the file. Fills in the rest of *g. */
bool writer_gather(struct writer *w, struct writer_group *g, struct error *err);
/* It has its place: the next one goes behind it. */
void writer_count_group(struct writer *w, const struct writer_group *g);
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

/* ---- writer_lanes.c: with the turn, where nothing else is said ---- */

/* Write and sync what there is, as long as it can be done this way; the turn is given back
 * meanwhile. False: there is something that is to be written the usual way. */
bool writer_fly(struct writer *w);
/* Wait until nothing flies. */
void writer_settle(struct writer *w);
/* Whether there is enough for another group. Anybody may ask. */
bool writer_lane_is_wanted(const struct writer *w);
/* Something was published while the thread is awake. Anybody. */
void writer_call_mate(struct writer *w);
/* Ends the mates, and waits for them. Without the turn. */
void writer_end_lanes(struct writer *w);

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
