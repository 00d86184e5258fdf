/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The writer: the thread that brings the stream of effects to disk. With its mates it is the only
 * one that touches the files of the log while the server runs. The executor appends to the stream
 * and never waits.
 *
 *     executor: append, stream_publish, writer_published ──┐        ┌─> wake: writer_written_lsn,
 *                                                          v        │         writer_durable_lsn
 *     writer:   sleep ── take what has gathered ── write ── sync ───┘
 *
 * What has gathered while the last sync ran is one commit group: `group` line, effects, `commit`
 * line (persist/log/annotation.h), written in one piece where it is small. With ALWAYS each group
 * is synced by itself; a few are on their way at a time, by threads beside this one
 * (writer_lanes.c), and become durable in their order. With EVERYSEC a sync begins half a second
 * after the first byte that it covers was published, so that nothing is at risk for longer than a
 * second while the disk syncs in less than the other half. With NO the system writes out when it
 * likes.
 *
 * LSNs. written: the group was given to the system; it survives the end of the process. durable: it
 * was synced; it survives the end of the machine. Both move by whole groups.
 *
 * Files. A file is named in the manifest before anything that was promised can depend on it, in
 * this order: create exclusively, header line, sync, sync the directory, write the manifest,
 * append. A file that was begun without a manifest is provisional: effects are written and synced
 * to it, under a temporary name, but durable does not move until writer_name has named it. Such
 * requests are carried out by the thread, one at a time, and wake the executor when they are done:
 *
 *     writer_begin   go on in a new file at an LSN; what was open before is left as it is; told so,
 *                    it is begun later when there is no room yet (the state is FULL until then)
 *     writer_rotate  write and sync what is published now, `close` line, go on in a new file there
 *     writer_name    write a manifest; the files of its history stay
 *     writer_close   write and sync what is published now, `close` line, no file any more
 *
 * Errors.
 *   - No space: nothing is lost and nothing is given up. The group is written again, at the same
 *     place, as soon as there is room; meanwhile the state is FULL, and the server takes no more
 *     writes. Space is reserved ahead so that this is known before it is used up.
 *   - Anything else: the state is FAILED, for good. The file is closed and never written or synced
 *     again, as nobody knows what of it is on disk. writer_begin starts anew.
 *
 * Threads. All functions are the executor's but for the two LSNs, which anybody may read. wake is
 * called on one of the writer's threads, once until writer_awake.
 */
#ifndef HF_PERSIST_LOG_WRITER_H
#define HF_PERSIST_LOG_WRITER_H

#include "base/error.h"
#include "base/histogram.h"
#include "persist/log/annotation.h"
#include "persist/log/manifest.h"
#include "persist/log/stream.h"

/* In the order of the words of `appendfsync`. */
enum writer_sync { WRITER_EVERYSEC, WRITER_ALWAYS, WRITER_NO };

enum writer_state {
    WRITER_IDLE, /* no file */
    WRITER_OPEN,
    WRITER_FULL, /* as OPEN, but there is no room for more */
    WRITER_FAILED
};

struct writer_options {
    const char *directory; /* of the log's files; made when a file is begun, if it is not there */
    const char *filename;  /* what the files' names, and the manifest's, begin with */
    enum writer_sync sync;
    bool timestamps;       /* `#TS:` lines, as Redis writes them */
    void (*wake)(void *ctx);
    void *ctx;
};

/* What the name of a provisional file begins with. */
#define WRITER_TEMPORARY "temp-"

struct writer;

/* The stream must outlive the writer. NULL: the thread could not be started. */
struct writer *writer_new(struct stream *stream, const struct writer_options *options,
                          struct error *err);
/* Stops the thread as it is: writer_close first if the log shall end in order. Waits for what it
 * does to the disk just now. */
void writer_free(struct writer *w);
/* The same without waiting: when it has ended, writer_free does not wait any more. Not while a
 * request is under way, and nothing but these two may follow. */
void writer_stop(struct writer *w);
bool writer_ended(const struct writer *w);

/* A request. None may be under way: see writer_busy. */
struct writer_begin {
    const char *name; /* of the new file */
    uint64_t lsn;     /* published already, and not below the first that can be read */
    uint32_t chain;   /* the last crc of the file before; 0: none */
    char history[ANNOTATION_HISTORY + 1];
    const struct manifest *manifest; /* to be written before anything; NULL: provisional */
    /* Where there is no room the request fails, too, but the file is begun as soon as there is
     * some, and then has what is published meanwhile; or until another request to begin, or to
     * close. */
    bool wait_for_room;
    /* A file whose end is to be cut off and kept first (recovery_cut), at cut_at; NULL: none. */
    const char *cut;
    uint64_t cut_at;
};
/* Everything here is copied. */
void writer_begin(struct writer *w, const struct writer_begin *begin);
void writer_rotate(struct writer *w, const char *name, const struct manifest *manifest);
/* The same, and the new file is of another history, which goes on from there. */
void writer_rotate_history(struct writer *w, const char *name, const struct manifest *manifest,
                           const char *history);
void writer_name(struct writer *w, const struct manifest *manifest);
void writer_close(struct writer *w);

/* Files that are begun from now on stand in a stream whose next effect is for this database, unless
 * it selects one itself: where it is not 0 the file begins with a SELECT of its own. own: what they
 * will hold is done by this server as a primary. */
void writer_set_place(struct writer *w, int db, bool own);

bool writer_busy(const struct writer *w);
/* How the last request went; err is filled in if it failed. Waits if it is under way. */
bool writer_wait(struct writer *w, struct error *err);

/* The executor has published: the thread is woken if it sleeps, and has to be. */
void writer_published(struct writer *w, int64_t now_us);
/* Have what comes up to `lsn`, which need not be published yet, synced as soon as it is written,
 * whatever the policy. Returns at once. */
void writer_sync_to(struct writer *w, uint64_t lsn);
/* The executor has been woken, and looks at what there is: the next news wake it again. */
void writer_awake(struct writer *w);
/* The executor is awake and asks for news itself: it is not woken until writer_awake. Before it
 * sleeps it calls that, and asks once more. */
void writer_hush(struct writer *w);
/* Whether there was anything to be woken for since it was taken last. */
bool writer_take_news(struct writer *w);
bool writer_has_news(const struct writer *w);

/* While set, news of what is written and durable wake the executor under every policy; otherwise
 * only ALWAYS does, as somebody waits for it. */
void writer_set_eager(struct writer *w, bool eager);
void writer_set_sync(struct writer *w, enum writer_sync sync);
void writer_set_timestamps(struct writer *w, bool timestamps);

/* Published, and still in memory for the thread's sake. */
uint64_t writer_pending_bytes(const struct writer *w);

/* The longest write and sync since it was asked last, in microseconds; 0: there was none. */
void writer_take_longest(struct writer *w, int64_t *write_us, int64_t *sync_us);

uint64_t writer_written_lsn(const struct writer *w);
uint64_t writer_durable_lsn(const struct writer *w);
/* When the first byte that is not durable was published, by the monotonic clock; 0: all is. */
int64_t writer_at_risk_since_us(const struct writer *w);
enum writer_state writer_state(const struct writer *w);

struct writer_stats {
    uint64_t file_size;    /* of the open file, up to the last group */
    uint64_t ended_size;   /* of the file that writer_rotate has ended last */
    uint32_t chain;        /* the last crc in it */
    uint64_t groups, writes, syncs, bytes;
    uint64_t beside;       /* groups that took off while another one was on its way */
    uint64_t slow_syncs;   /* that took longer than a second */
    int64_t busy_us;       /* spent in write and sync */
    bool syncing;          /* right now */
    struct error error;    /* of FULL and FAILED */
    /* In microseconds. commit: from publishing to durable. */
    struct histogram write, sync, commit;
};
/* Two of them alone. ended_size may be NULL. */
uint64_t writer_file_size(const struct writer *w, uint64_t *ended_size);
void writer_get_stats(const struct writer *w, struct writer_stats *stats);

#endif
