/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/writer_private.h"

#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"

/* Pieces of effects that are as long as this are written from where they are. */
#define PIECE_DIRECT (64 * 1024)
/* A group is no longer than this, where the executor has published in between: a crash in the
 * middle of a group takes all of it. */
#define GROUP_MAX (1024 * 1024)
#define SLOW_SYNC_US 1000000
/* Space is reserved in steps of RESERVE_STEP when less than RESERVE_LOW is left; on a disk that
 * has not got that much, in smaller ones, down to RESERVE_LEAST. */
#define RESERVE_STEP (16 << 20)
#define RESERVE_LOW (1 << 20)
#define RESERVE_LEAST (64 << 10)
/* Room is filled ahead when less than FILL_LOW is left, a few groups; for as much as the file has
 * already, within bounds. */
#define FILL_LOW (16 << 10)
#define FILL_LEAST (4 << 10)
#define FILL_MOST ((uint64_t)256 << 10)

/* ---- states ---- */

void writer_tell(struct writer *w)
{
    __atomic_store_n(&w->news, true, __ATOMIC_SEQ_CST);
    if (!__atomic_exchange_n(&w->told, true, __ATOMIC_SEQ_CST))
        w->wake(w->wake_ctx);
}

void writer_set_state(struct writer *w, enum writer_state state)
{
    if (__atomic_exchange_n(&w->state, (int)state, __ATOMIC_RELEASE) != (int)state)
        writer_tell(w);
}

void writer_note_error(struct writer *w, const struct error *err)
{
    pthread_mutex_lock(&w->lock);
    w->stats.error = *err;
    pthread_mutex_unlock(&w->lock);
}

void writer_give_up(struct writer *w, const struct error *err)
{
    struct error ignored;
    log_warning("The log is given up: %s", err->message);
    writer_note_error(w, err);
    writer_close_file(w, &ignored);
    w->unsynced = false;
    writer_set_state(w, WRITER_FAILED);
}

void writer_no_room(struct writer *w, const struct error *err)
{
    if (writer_state(w) != WRITER_FULL)
        log_warning("There is no room for the log: %s", err->message);
    writer_note_error(w, err);
    writer_set_state(w, WRITER_FULL);
}

void writer_room_again(struct writer *w)
{
    if (writer_state(w) == WRITER_FULL) {
        log_notice("There is room for the log again");
        writer_note_error(w, &(struct error){0});
        writer_set_state(w, WRITER_OPEN);
    }
}

bool writer_file_is_open(const struct writer *w)
{
    return w->file.fd >= 0;
}

bool writer_close_file(struct writer *w, struct error *err)
{
    struct error ignored;
    os_file_close(&w->past_cache, &ignored);
    return os_file_close(&w->file, err);
}

/* ---- writing ---- */

/* An error while a group is being written: nothing of the group counts. */
static bool write_failed(struct writer *w, const struct error *err)
{
    w->buffered = 0;
    if (err->code == ERROR_NO_SPACE)
        writer_no_room(w, err);
    else
        writer_give_up(w, err);
    return false;
}

void writer_record_write(struct writer *w, int64_t took)
{
    pthread_mutex_lock(&w->lock);
    w->stats.writes++;
    histogram_record(w->write_times, (uint64_t)took, 1);
    if (took > w->longest_write_us)
        w->longest_write_us = took;
    pthread_mutex_unlock(&w->lock);
}

void writer_record_sync(struct writer *w, int64_t took)
{
    pthread_mutex_lock(&w->lock);
    w->stats.syncs++;
    w->stats.slow_syncs += took > SLOW_SYNC_US;
    histogram_record(w->sync_times, (uint64_t)took, 1);
    if (took > w->longest_sync_us)
        w->longest_sync_us = took;
    pthread_mutex_unlock(&w->lock);
}

void writer_record_busy(struct writer *w, int64_t took)
{
    pthread_mutex_lock(&w->lock);
    w->stats.busy_us += took;
    pthread_mutex_unlock(&w->lock);
}

static bool put_out(struct writer *w, uint64_t *at, const char *data, size_t size,
                    struct error *err)
{
    int64_t begin = clock_monotonic_us();
    bool ok = os_file_write_at(&w->file, *at, data, size, err);
    int64_t took = clock_monotonic_us() - begin;
    *at += size;
    writer_record_write(w, took);
    writer_record_busy(w, took);
    return ok;
}

static bool flush_buffer(struct writer *w, uint64_t *at, struct error *err)
{
    size_t size = w->buffered;
    w->buffered = 0;
    return size == 0 || put_out(w, at, w->buffer, size, err);
}

static bool put(struct writer *w, uint64_t *at, const char *data, size_t size, struct error *err)
{
    if (size > WRITER_BUFFER_SIZE - w->buffered) {
        if (!flush_buffer(w, at, err))
            return false;
        if (size >= PIECE_DIRECT)
            return put_out(w, at, data, size, err);
    }
    memcpy(w->buffer + w->buffered, data, size);
    w->buffered += size;
    return true;
}

bool writer_reserve(struct writer *w, uint64_t end)
{
    if (w->reserved_end == UINT64_MAX)
        return true;
    if (w->reserved_end >= end + RESERVE_LOW)
        return true;
    struct error err = {0};
    for (uint64_t step = RESERVE_STEP; step >= RESERVE_LEAST; step /= 2) {
        uint64_t to = (end > w->reserved_end ? end : w->reserved_end) + step;
        if (os_file_reserve(&w->file, w->reserved_end, to - w->reserved_end, &err)) {
            w->reserved_end = to;
            return true;
        }
        if (err.code == ERROR_UNSUPPORTED) {
            w->reserved_end = UINT64_MAX;
            return true;
        }
        if (err.code != ERROR_NO_SPACE)
            break;
    }
    if (err.code == ERROR_NO_SPACE)
        writer_no_room(w, &err);
    else
        writer_give_up(w, &err);
    return false;
}

size_t writer_join_filling(const struct writer *w, uint64_t end, char *out)
{
    /* Also where nothing is filled yet, as fill_ahead is about to. */
    bool filled = end < w->filled_end ||
                  __atomic_load_n(&w->sync, __ATOMIC_RELAXED) == WRITER_ALWAYS;
    return filled ? annotation_join_filling(end, out) : 0;
}

uint64_t writer_fill_end(const struct writer *w, uint64_t low)
{
    uint64_t most = w->offset < FILL_LEAST ? FILL_LEAST : w->offset;
    uint64_t from = w->filled_end > w->offset ? w->filled_end : w->offset;
    uint64_t to = low + (most < FILL_MOST ? most : FILL_MOST);
    if (to > from + WRITER_BUFFER_SIZE)
        to = from + WRITER_BUFFER_SIZE;
    return to & ~(uint64_t)4095;
}

/* Where each commit is waited for the room of the next ones is written with this one: to write over
 * what is on the disk already takes one write of the disk, and to make the file longer two, or one
 * more of the journal. Without room for it nothing is filled. */
static bool fill_ahead(struct writer *w, struct error *err)
{
    if (__atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS ||
        w->filled_end >= w->offset + FILL_LOW || writer_state(w) == WRITER_FULL)
        return true;
    uint64_t from = w->filled_end > w->offset ? w->filled_end : w->offset;
    /* The policy was another one when the group was joined: behind the next group, then. */
    if (from == w->offset && from % ANNOTATION_FILL_LINE == ANNOTATION_FILL_LINE - 1)
        return true;
    uint64_t to = writer_fill_end(w, w->offset + FILL_LOW);
    if (to > w->reserved_end)
        return true;
    /* Whether it fails or not: what has been written is filling. */
    w->filled_end = to;
    annotation_fill(from, w->buffer, (size_t)(to - from));
    if (os_file_write_at(&w->file, from, w->buffer, (size_t)(to - from), err))
        return true;
    if (err->code != ERROR_NO_SPACE)
        return false;
    /* A piece of it may be there, behind which the next one must not leave a hole. */
    struct error ignored;
    if (os_file_truncate(&w->file, from, &ignored)) {
        w->filled_end = from;
        if (w->reserved_end != UINT64_MAX)
            w->reserved_end = from;
    }
    return true;
}

uint64_t writer_group_end(struct writer *w, uint64_t at, uint64_t limit)
{
    size_t tail = __atomic_load_n(&w->mark_tail, __ATOMIC_ACQUIRE);
    if (limit - at <= GROUP_MAX)
        return limit;
    uint64_t end = 0;
    for (size_t i = w->mark_written; i != tail; i++) {
        uint64_t lsn = w->marks[i % WRITER_MARKS].lsn;
        if (lsn <= at)
            continue;
        if (end != 0 && lsn - at > GROUP_MAX)
            break;
        end = lsn;
    }
    return end != 0 && end < limit ? end : limit;
}

static int peek(struct writer *w, size_t size)
{
    for (;;) {
        size_t found = 0;
        int count = stream_reader_peek(w->reader, w->pieces, w->piece_room, size);
        for (int i = 0; i < count; i++)
            found += w->pieces[i].iov_len;
        if (found == size)
            return count;
        assert(count == w->piece_room);
        w->piece_room *= 2;
        w->pieces = mem_realloc(w->pieces, (size_t)w->piece_room * sizeof(*w->pieces));
    }
}

/* What is marked up to this LSN is written; the time of the first of it, or `now`. */
static int64_t pass_marks(struct writer *w, uint64_t lsn, int64_t now)
{
    size_t tail = __atomic_load_n(&w->mark_tail, __ATOMIC_ACQUIRE);
    int64_t first = now;
    for (; w->mark_written != tail && w->marks[w->mark_written % WRITER_MARKS].lsn <= lsn;
         w->mark_written++) {
        int64_t us = w->marks[w->mark_written % WRITER_MARKS].us;
        if (us < first)
            first = us;
    }
    return first;
}

bool writer_gather(struct writer *w, struct writer_group *g, struct error *err)
{
    char line[ANNOTATION_MAX];
    uint64_t at = g->begin;
    size_t left = (size_t)(g->to - g->from);
    int64_t ms = clock_wall_ms();
    struct annotation group = {.kind = ANNOTATION_GROUP, .lsn = g->from};
    size_t size = annotation_format(&group, line);
    g->stamp_s = w->last_stamp_s;
    if (__atomic_load_n(&w->timestamps, __ATOMIC_RELAXED) && ms / 1000 != g->stamp_s) {
        g->stamp_s = ms / 1000;
        size += (size_t)snprintf(line + size, sizeof(line) - size, "#TS:%lld\r\n",
                                 (long long)g->stamp_s);
    }
    g->crc = crc32c(w->chain, line, size);
    bool ok = put(w, &at, line, size, err);
    int count = peek(w, left);
    for (int i = 0; ok && i < count; i++) {
        g->crc = crc32c(g->crc, w->pieces[i].iov_base, w->pieces[i].iov_len);
        ok = put(w, &at, w->pieces[i].iov_base, w->pieces[i].iov_len, err);
    }
    struct annotation commit = {.kind = ANNOTATION_COMMIT,
                                .lsn = g->to,
                                .ms = ms,
                                .has_durable = true,
                                .durable = __atomic_load_n(&w->durable, __ATOMIC_RELAXED)};
    size = annotation_put(&commit, &g->crc, line);
    size += writer_join_filling(w, at + w->buffered + size, line + size);
    ok = ok && put(w, &at, line, size, err);
    g->end = at + w->buffered;
    return ok;
}

void writer_count_group(struct writer *w, const struct writer_group *g)
{
    int64_t since = pass_marks(w, g->to, clock_monotonic_us());
    if (!w->unsynced)
        w->unsynced_since_us = since;
    w->last_stamp_s = g->stamp_s;
    w->chain = g->crc;
    pthread_mutex_lock(&w->lock);
    w->stats.groups++;
    w->stats.bytes += g->end - w->offset;
    w->stats.file_size = g->end;
    w->stats.chain = g->crc;
    pthread_mutex_unlock(&w->lock);
    w->offset = g->end;
    stream_reader_advance(w->reader, (size_t)(g->to - g->from));
}

static bool write_group(struct writer *w, uint64_t from, uint64_t to)
{
    struct error err = {0};
    struct writer_group g = {.from = from, .to = to, .begin = w->offset};
    if (!writer_reserve(w, g.begin + (to - from) + 3 * ANNOTATION_MAX) &&
        writer_state(w) != WRITER_FULL)
        return false;
    if (!writer_gather(w, &g, &err))
        return write_failed(w, &err);
    uint64_t at = g.end - w->buffered;
    if (!flush_buffer(w, &at, &err))
        return write_failed(w, &err);
    writer_count_group(w, &g);
    w->unsynced = true;
    if (!fill_ahead(w, &err))
        return write_failed(w, &err);
    __atomic_store_n(&w->written, to, __ATOMIC_RELEASE);
    if (__atomic_load_n(&w->eager, __ATOMIC_RELAXED))
        writer_tell(w);
    return true;
}

void writer_move_durable(struct writer *w, uint64_t lsn)
{
    int64_t now = clock_monotonic_us();
    size_t head = w->mark_head;
    pthread_mutex_lock(&w->lock);
    while (head != w->mark_written && w->marks[head % WRITER_MARKS].lsn <= lsn) {
        int64_t took = now - w->marks[head % WRITER_MARKS].us;
        histogram_record(w->commit_times, took > 0 ? (uint64_t)took : 0, 1);
        head++;
    }
    pthread_mutex_unlock(&w->lock);
    __atomic_store_n(&w->mark_head, head, __ATOMIC_RELEASE);
    __atomic_store_n(&w->durable, lsn, __ATOMIC_RELEASE);
    bool waits = __atomic_load_n(&w->sync, __ATOMIC_RELAXED) == WRITER_ALWAYS ||
                 __atomic_load_n(&w->eager, __ATOMIC_RELAXED);
    if (waits)
        writer_tell(w);
}

bool writer_sync_file(struct writer *w)
{
    struct error err = {0};
    if (!w->unsynced)
        return true;
    int64_t begin = clock_monotonic_us();
    __atomic_fetch_add(&w->syncing, 1, __ATOMIC_RELAXED);
    bool ok = os_file_sync(&w->file, &err);
    __atomic_fetch_sub(&w->syncing, 1, __ATOMIC_RELAXED);
    int64_t took = clock_monotonic_us() - begin;
    writer_record_sync(w, took);
    writer_record_busy(w, took);
    if (!ok) {
        writer_give_up(w, &err);
        return false;
    }
    w->unsynced = false;
    if (w->named)
        writer_move_durable(w, w->written);
    return true;
}

bool writer_put_line(struct writer *w, enum annotation_kind kind, uint64_t lsn, struct error *err)
{
    char line[ANNOTATION_MAX];
    uint32_t crc = w->chain;
    struct annotation a = {.kind = kind,
                           .lsn = lsn,
                           .ms = clock_wall_ms(),
                           .has_durable = true,
                           .durable = __atomic_load_n(&w->durable, __ATOMIC_RELAXED)};
    size_t size = annotation_put(&a, &crc, line);
    size += writer_join_filling(w, w->offset + size, line + size);
    if (!os_file_write_at(&w->file, w->offset, line, size, err))
        return false;
    w->offset += size;
    w->chain = crc;
    pthread_mutex_lock(&w->lock);
    w->stats.file_size = w->offset;
    w->stats.chain = crc;
    pthread_mutex_unlock(&w->lock);
    return true;
}

bool writer_write_up_to(struct writer *w, uint64_t limit)
{
    uint64_t at;
    while ((at = stream_reader_lsn(w->reader)) < limit) {
        if (!write_group(w, at, writer_group_end(w, at, limit)))
            return false;
        if (__atomic_load_n(&w->sync, __ATOMIC_RELAXED) == WRITER_ALWAYS && !writer_sync_file(w))
            return false;
    }
    return true;
}

void writer_discard_up_to(struct writer *w, uint64_t lsn)
{
    uint64_t at = stream_reader_lsn(w->reader);
    if (lsn > at)
        stream_reader_advance(w->reader, (size_t)(lsn - at));
    pass_marks(w, lsn, 0);
    __atomic_store_n(&w->mark_head, w->mark_written, __ATOMIC_RELEASE);
}
