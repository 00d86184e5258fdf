/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Lanes: with ALWAYS more than one commit group is on its way to the disk at a time.
 *
 * A commit is a write and a flush, and each takes the disk about as long. The writer's thread is
 * one lane; each mate, a further thread, is another, and takes what has gathered while the others
 * wait for the disk: the disk writes one group while it flushes for the one before, and nobody
 * waits for two of them, the one that he has come too late for and his own. This is of use past the
 * page cache only: through it a sync waits for whatever the file has that is dirty, the other
 * lanes' included.
 *
 *     turn:  taken ── gather a group ── given back ── write, sync ── taken ── land ── ...
 *
 * Who has the turn (a mutex) has everything that is the thread's own. The writer's thread gives it
 * back only when it sleeps or while its group flies; for whatever is not a flight it first lets the
 * other lanes land, and then is as alone as without mates.
 *
 * Where groups go. Flights write whole blocks over room that was filled, so that the file's size
 * and its place on the disk stay as they are. A group that goes beside another one begins at the
 * next block, as two flights must not write the same one; what is between them is filling. One that
 * is alone begins where the last one ended, and writes its end again with it. On a fast disk two
 * fly at most, and the second one only with so much that it is worth its share of a processor and
 * the room between (LANE_LEAST); what is less waits for the first one to land.
 *
 * Groups are durable in their order: one that lands before one that took off before it is durable
 * when that has landed. If one fails none that has not landed counts, and the file is given up when
 * all are down. After a crash a later one may be there and an earlier one not: its commit line does
 * not say that the earlier one was durable, so that this is a torn end (annotation.h).
 *
 * A mate fills the room ahead, too, so that no commit waits for that.
 */
#include "persist/log/writer_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/direct.h"
#include "os/process.h"

/* Buffers are aligned to a page. */
#define LANE_ALIGNMENT 4096
/* While the disk is fast (a flight takes less than LANE_SLOW_US in the mean) beside another group
 * goes one of at least so many bytes of effects, and no third. */
#define LANE_LEAST 1024
#define LANE_SLOW_US 300
/* Of the mean: each flight counts for one part of so many. */
#define LANE_MEAN 16
/* Larger groups go the usual way, as do those for which there is no room filled. */
#define LANE_BUFFER ((uint64_t)128 << 10)
#define LANE_MOST (LANE_BUFFER - 3 * ANNOTATION_MAX - 2 * LANE_BLOCK)
/* The mate fills when less room than this is left. */
#define LANE_LOW ((uint64_t)32 << 10)
/* How long a flight without room waits before it tries again. */
#define LANE_FULL_US 100000

static uint64_t block_begin(uint64_t at)
{
    return at & ~(uint64_t)(LANE_BLOCK - 1);
}

static uint64_t block_end(uint64_t at)
{
    return block_begin(at + LANE_BLOCK - 1);
}

/* ---- whether ---- */

bool writer_lane_is_wanted(const struct writer *w)
{
    uint64_t at = stream_reader_lsn(w->reader);
    uint64_t size = stream_published(w->stream) - at;
    int flights = __atomic_load_n(&w->flights, __ATOMIC_SEQ_CST);
    if (flights == 0 || __atomic_load_n(&w->flight_us, __ATOMIC_RELAXED) >= LANE_SLOW_US)
        return size > 0;
    return flights == 1 && size >= LANE_LEAST;
}

/* One of those that sleep; one at a time, as what the next one would find may be taken by it. */
static void wake_mate(struct writer *w)
{
    if (__atomic_exchange_n(&w->mate_called, true, __ATOMIC_SEQ_CST))
        return;
    for (int i = 1; i < WRITER_LANES; i++) {
        struct writer_lane *lane = &w->lanes[i];
        if (__atomic_exchange_n(&lane->asleep, false, __ATOMIC_SEQ_CST)) {
            os_bell_ring(&lane->bell);
            return;
        }
    }
    __atomic_store_n(&w->mate_called, false, __ATOMIC_SEQ_CST);
}

void writer_call_mate(struct writer *w)
{
    if (__atomic_load_n(&w->flights, __ATOMIC_SEQ_CST) > 0 && writer_lane_is_wanted(w))
        wake_mate(w);
}

/* With the turn. *published is from before any request that may be under way now. */
static bool may_fly(struct writer *w, uint64_t *published)
{
    if (w->past_cache.fd < 0 || w->lanes_refused || w->settling || w->lost || w->unsynced ||
        !w->named || writer_state(w) != WRITER_OPEN ||
        __atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS)
        return false;
    pthread_mutex_lock(&w->lock);
    bool may = !w->stop && !w->busy;
    *published = stream_published(w->stream);
    pthread_mutex_unlock(&w->lock);
    return may;
}

/* The group that would go next. */
static bool plan_group(struct writer *w, struct writer_group *g)
{
    uint64_t published;
    if (!may_fly(w, &published) || !writer_lane_is_wanted(w))
        return false;
    g->from = stream_reader_lsn(w->reader);
    g->to = writer_group_end(w, g->from, published);
    g->begin = w->flights > 0 ? block_end(w->offset) : w->offset;
    uint64_t size = g->to - g->from;
    return size > 0 && size <= LANE_MOST &&
           g->begin + size + 3 * ANNOTATION_MAX + LANE_BLOCK <= w->filled_end;
}

static bool plan_filling(struct writer *w, uint64_t *from, uint64_t *to)
{
    uint64_t ignored;
    *from = w->filled_end;
    *to = writer_fill_end(w, w->offset + LANE_LOW);
    if (*to > *from + LANE_BUFFER)
        *to = *from + LANE_BUFFER;
    return w->filled_end < w->offset + LANE_LOW && !w->filling && may_fly(w, &ignored) &&
           *from >= w->offset && *from % LANE_BLOCK == 0 && *to > *from && *to <= w->reserved_end;
}

/* ---- flights ---- */

/* What stands in the block before a group that does not begin one. */
static bool put_begin_of_block(struct writer *w, struct writer_lane *lane, uint64_t at)
{
    struct error ignored = {0};
    size_t size = (size_t)(at - block_begin(at)), got = 0;
    if (size == 0)
        return true;
    if (w->tail_end != at)
        return os_file_read_at(&w->file, block_begin(at), lane->buffer, size, &got, &ignored) &&
               got == size;
    memcpy(lane->buffer, w->tail, size);
    return true;
}

/* The next group is in the lane's buffer, and counts as written as far as the next one is
 * concerned. */
static bool take_off(struct writer *w, struct writer_lane *lane)
{
    struct writer_group g;
    struct error err = {0};
    if (!plan_group(w, &g))
        return false;
    /* Whatever is wrong then shows when the group goes the usual way. */
    w->lanes_refused = !put_begin_of_block(w, lane, g.begin) || !writer_gather(w, &g, &err);
    if (w->lanes_refused)
        return false;
    lane->at = block_begin(g.begin);
    lane->size = (size_t)(g.begin - lane->at) + w->buffered;
    memcpy(lane->buffer + (g.begin - lane->at), w->buffer, w->buffered);
    w->buffered = 0;
    uint64_t end = lane->at + lane->size, whole = block_end(end);
    annotation_fill(end, lane->buffer + lane->size, (size_t)(whole - end));
    lane->size += (size_t)(whole - end);
    w->tail_end = end;
    memcpy(w->tail, lane->buffer + (block_begin(end) - lane->at), (size_t)(end - block_begin(end)));
    writer_count_group(w, &g);
    lane->to = g.to;
    lane->number = ++w->flight_number;
    lane->flies = true;
    lane->syncs = false;
    lane->since_us = clock_monotonic_us();
    if (w->flights == 0)
        w->flying_since_us = lane->since_us;
    int beside = __atomic_fetch_add(&w->flights, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&w->lock);
    w->stats.beside += beside > 0;
    pthread_mutex_unlock(&w->lock);
    return true;
}

/* The last one that took off before and is still up; NULL: there is none. */
static struct writer_lane *lane_before(struct writer *w, const struct writer_lane *lane)
{
    struct writer_lane *before = NULL;
    for (int i = 0; i < WRITER_LANES; i++) {
        struct writer_lane *other = &w->lanes[i];
        if (other->flies && other->number < lane->number &&
            (before == NULL || other->number > before->number))
            before = other;
    }
    return before;
}

/* Syncs begin in the order of the flights: what a failed one may have lost, of what was written
 * before it, is then of flights that wait for its end, or that have begun theirs before. Once one
 * has failed there is no further one. */
static bool begin_sync(struct writer *w, struct writer_lane *lane, struct error *err)
{
    struct writer_lane *before;
    pthread_mutex_lock(&w->turn);
    while (!w->lost && (before = lane_before(w, lane)) != NULL && !before->syncs)
        pthread_cond_wait(&w->landed, &w->turn);
    if (w->lost)
        *err = w->lost_error;
    bool ok = !w->lost;
    lane->syncs = true;
    pthread_cond_broadcast(&w->landed);
    pthread_mutex_unlock(&w->turn);
    return ok;
}

static bool write_lane(struct writer *w, struct os_file *f, const struct writer_lane *lane,
                       struct error *err)
{
    int64_t begin = clock_monotonic_us();
    bool ok = os_file_write_at(f, lane->at, lane->buffer, lane->size, err);
    writer_record_write(w, clock_monotonic_us() - begin);
    return ok;
}

static bool sync_lane(struct writer *w, struct os_file *f, struct error *err)
{
    int64_t begin = clock_monotonic_us();
    __atomic_fetch_add(&w->syncing, 1, __ATOMIC_RELAXED);
    bool ok = os_file_sync(f, err);
    __atomic_fetch_sub(&w->syncing, 1, __ATOMIC_RELAXED);
    writer_record_sync(w, clock_monotonic_us() - begin);
    return ok;
}

/* Over room that was filled there is always room, but on a file system that writes elsewhere. A
 * request is not kept waiting for it. */
static bool wait_for_room(struct writer *w, const struct error *err)
{
    pthread_mutex_lock(&w->lock);
    bool wait = !w->stop && !w->busy;
    pthread_mutex_unlock(&w->lock);
    if (wait) {
        writer_no_room(w, err);
        os_sleep_us(LANE_FULL_US);
    }
    return wait;
}

/* A flight has failed: neither what is behind it counts from now on, nor what was before it, of
 * which nobody knows whether the disk has lost it, too. */
static void lose(struct writer *w, const struct error *err)
{
    if (!w->lost)
        w->lost_error = *err;
    w->lost = true;
}

/* What has failed is given up when nothing flies any more. */
static void end_flight(struct writer *w)
{
    if (w->lost && w->flights == 0 && !w->filling && writer_file_is_open(w))
        writer_give_up(w, &w->lost_error);
    pthread_cond_broadcast(&w->landed);
}

/* Everything up to the lane's group is durable, if all that took off before has landed. */
static void land(struct writer *w, struct writer_lane *lane, bool ok, const struct error *err)
{
    struct writer_lane *before = lane_before(w, lane);
    lane->flies = false;
    if (__atomic_fetch_sub(&w->flights, 1, __ATOMIC_SEQ_CST) == 1)
        writer_record_busy(w, clock_monotonic_us() - w->flying_since_us);
    int64_t mean = w->flight_us;
    mean += (clock_monotonic_us() - lane->since_us - mean) / LANE_MEAN;
    __atomic_store_n(&w->flight_us, mean, __ATOMIC_RELAXED);
    if (!ok) {
        lose(w, err);
    } else if (!w->lost) {
        if (before != NULL) {
            before->to = lane->to;
        } else {
            __atomic_store_n(&w->written, lane->to, __ATOMIC_RELEASE);
            writer_move_durable(w, lane->to);
        }
    }
    end_flight(w);
}

/* With the turn, which is given back meanwhile. */
static void fly(struct writer *w, struct writer_lane *lane)
{
    struct error err = {0};
    bool refused = false, waited = false, ok;
    if (writer_lane_is_wanted(w))
        wake_mate(w);
    pthread_mutex_unlock(&w->turn);
    os_companion_check(&lane->companion);
    for (;;) {
        ok = write_lane(w, refused ? &w->file : &w->past_cache, lane, &err);
        if (ok)
            break;
        if (err.os_errno == EINVAL && !refused)
            refused = true; /* as some file systems do that have let it be opened */
        else if (err.code != ERROR_NO_SPACE || !wait_for_room(w, &err))
            break;
        else
            waited = true;
        err = (struct error){0};
    }
    ok = ok && begin_sync(w, lane, &err) && sync_lane(w, refused ? &w->file : &w->past_cache, &err);
    pthread_mutex_lock(&w->turn);
    w->lanes_refused |= refused;
    if (waited && ok)
        writer_room_again(w);
    land(w, lane, ok, &err);
}

/* More room. It is not synced: the first group that needs it is, and the file's size with it. */
static void fill(struct writer *w, struct writer_lane *lane, uint64_t from, uint64_t to)
{
    struct error err = {0}, ignored;
    size_t size = (size_t)(to - from);
    w->filling = true;
    pthread_mutex_unlock(&w->turn);
    annotation_fill(from, lane->buffer, size);
    bool ok = os_file_write_at(&w->past_cache, from, lane->buffer, size, &err);
    pthread_mutex_lock(&w->turn);
    if (ok) {
        w->filled_end = to;
    } else if (err.code == ERROR_NO_SPACE || err.os_errno == EINVAL) {
        /* A piece of it may be there, behind which the next one must not leave a hole. */
        w->lanes_refused = true;
        while (w->flights > 0)
            pthread_cond_wait(&w->landed, &w->turn);
        if (os_file_truncate(&w->file, from, &ignored) && w->reserved_end != UINT64_MAX)
            w->reserved_end = from;
    } else {
        lose(w, &err);
    }
    w->filling = false;
    end_flight(w);
}

/* ---- the threads ---- */

static void mate(void *arg)
{
    struct writer_lane *lane = arg;
    struct writer *w = lane->writer;
    struct writer_group g;
    uint64_t from, to;
    os_thread_be_prompt();
    os_companion_begin(&lane->companion);
    pthread_mutex_lock(&w->turn);
    while (!w->mates_stop) {
        if (plan_filling(w, &from, &to)) {
            fill(w, lane, from, to);
        } else if (take_off(w, lane)) {
            fly(w, lane);
        } else {
            __atomic_store_n(&lane->asleep, true, __ATOMIC_SEQ_CST);
            if (!w->mates_stop && !plan_group(w, &g) && !plan_filling(w, &from, &to)) {
                /* What cannot fly is the writer's, who may have left it to whoever is up. */
                if (writer_lane_is_wanted(w))
                    writer_rouse(w);
                pthread_mutex_unlock(&w->turn);
                os_bell_wait(&lane->bell, INT64_MAX);
                pthread_mutex_lock(&w->turn);
            }
            __atomic_store_n(&lane->asleep, false, __ATOMIC_SEQ_CST);
            __atomic_store_n(&w->mate_called, false, __ATOMIC_SEQ_CST);
        }
    }
    pthread_mutex_unlock(&w->turn);
}

/* Buffers for all lanes, and threads for all but the first. */
static bool start_mates(struct writer *w)
{
    struct error err = {0};
    for (int i = 0; i < WRITER_LANES; i++) {
        struct writer_lane *lane = &w->lanes[i];
        if (lane->memory == NULL) {
            lane->memory = mem_alloc(LANE_BUFFER + LANE_ALIGNMENT);
            lane->buffer = lane->memory + LANE_ALIGNMENT - (uintptr_t)lane->memory % LANE_ALIGNMENT;
        }
        if (i == 0 || lane->started)
            continue;
        lane->writer = w;
        if (!os_bell_init(&lane->bell, &err))
            return false;
        lane->started = os_thread_start(&lane->thread, "log-mate", mate, lane, &err);
        if (!lane->started) {
            os_bell_deinit(&lane->bell);
            return false;
        }
    }
    return true;
}

/* Where what is written over stays in its place, and so needs no new room. */
static bool overwrites_in_place(const struct writer *w)
{
    static const char *const kinds[] = {"ext", "xfs", "tmpfs"};
    char kind[32];
    os_file_system_name(w->file.path, kind, sizeof(kind));
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kind, kinds[i]) == 0)
            return true;
    }
    return false;
}

/* The file is opened once more, past the page cache, when it has room that was filled. */
static bool open_lanes(struct writer *w)
{
    struct error ignored = {0};
    if (w->past_cache.fd >= 0 || w->lanes_refused)
        return !w->lanes_refused;
    if (!w->named || w->unsynced || w->filled_end <= w->offset ||
        __atomic_load_n(&w->sync, __ATOMIC_RELAXED) != WRITER_ALWAYS)
        return false;
    bool ok = overwrites_in_place(w) && start_mates(w) &&
              os_file_open(&w->past_cache, w->file.path, OS_OPEN_WRITE, &ignored) &&
              os_file_past_cache(&w->past_cache, true);
    w->lanes_refused = !ok;
    return ok;
}

bool writer_fly(struct writer *w)
{
    struct writer_lane *lane = &w->lanes[0];
    struct writer_group g;
    uint64_t published, from, to;
    if (!open_lanes(w))
        return false;
    while (take_off(w, lane)) {
        fly(w, lane);
        if (plan_filling(w, &from, &to))
            wake_mate(w);
    }
    /* What is left is for the lane that is still up, or for nobody; or goes the usual way. */
    return may_fly(w, &published) && (!writer_lane_is_wanted(w) || plan_group(w, &g));
}

void writer_settle(struct writer *w)
{
    w->settling = true;
    while (w->flights > 0 || w->filling)
        pthread_cond_wait(&w->landed, &w->turn);
    w->settling = false;
}

void writer_end_lanes(struct writer *w)
{
    pthread_mutex_lock(&w->turn);
    w->mates_stop = true;
    pthread_mutex_unlock(&w->turn);
    for (int i = 0; i < WRITER_LANES; i++) {
        struct writer_lane *lane = &w->lanes[i];
        if (lane->started) {
            os_bell_ring(&lane->bell);
            pthread_join(lane->thread, NULL);
            os_bell_deinit(&lane->bell);
            lane->started = false;
        }
        mem_free(lane->memory);
        lane->memory = NULL;
    }
}
