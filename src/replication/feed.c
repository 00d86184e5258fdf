/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/feed.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "keyspace/libraries.h"
#include "os/file.h"
#include "os/socket.h"
#include "os/thread.h"
#include "persist/rdb/format.h"
#include "persist/save_pipe.h"
#include "persist/save_verify.h"

#define MARK_SIZE 40
#define META_BUFFER (64 * 1024)
#define FILE_PIECE (256 * 1024)
#define DATA_PER_THREAD ((size_t)64 << 20)
/* How long a wait for a socket lasts before it is looked whether the feed was cancelled. */
#define WAIT_MS 100
/* Written at once: over a loopback device the writer does the receiving side's work, too, some 50
 * us for so much, and is not interrupted. */
#define WRITE_MOST ((size_t)64 << 10)

struct target {
    int fd;
    struct tls *tls;
    bool alive;      /* the thread's, like the next two */
    size_t at;       /* of what is sent now */
    int64_t last_us; /* when it took something, or was first offered what is sent now */
    bool dropped;    /* atomic; set by the executor */
    char preamble[FEED_PREAMBLE_MAX];
};

struct feed {
    struct keyspace *ks;
    struct snapshot *snapshot; /* NULL: a file is sent */
    struct save_options save;
    bool without_keys, without_functions;
    char path[sizeof(((struct os_file *)0)->path)];
    uint32_t lru_now;
    size_t used_memory;
    uint64_t keys;
    int timeout_ms;
    void (*wake)(void *ctx);
    void *ctx;
    pthread_t thread;
    struct save_counters counters; /* stop: cancelled */
    struct save_pace pace;
    struct os_polite polite;
    uint64_t crc;
    uint64_t sent; /* bytes, of what all have been given; atomic */
    uint64_t too_much_held; /* the limit that was passed; 0: none was */
    int64_t begun_us;
    struct error err;
    bool ok;
    bool ended; /* atomic */
    size_t count;
    struct target targets[];
};

static bool is_stopped(const struct feed *f)
{
    return __atomic_load_n(&f->counters.stop, __ATOMIC_RELAXED);
}

static bool given_up(struct feed *f)
{
    return f->too_much_held
               ? error_set(&f->err, ERROR_TOO_LARGE,
                           "its snapshot held more than the %llu bytes of snapshot-memory-limit",
                           (unsigned long long)f->too_much_held)
               : error_set(&f->err, ERROR_CANCELLED, "it was given up");
}

/* As a save does: half of the limit makes it hurry, all of it ends it. */
static void watch_memory(struct feed *f)
{
    uint64_t limit = save_memory_limit(&f->save);
    size_t held = f->snapshot != NULL ? epoch_snapshot_held_bytes(f->snapshot->epoch) : 0;
    if (limit == 0 || held <= limit / 2)
        return;
    if (!__atomic_exchange_n(&f->counters.hurry, true, __ATOMIC_RELAXED))
        log_warning("A full resynchronisation holds %zu bytes, more than half of "
                    "snapshot-memory-limit: it hurries",
                    held);
    if (held <= limit)
        return;
    f->too_much_held = limit;
    __atomic_store_n(&f->counters.stop, true, __ATOMIC_RELAXED);
}

/* ---- sending: the feed's thread ---- */

static void leave_out(struct target *t, const char *why)
{
    if (t->alive)
        log_notice("A replica is left out of a full resynchronisation: %s", why);
    t->alive = false;
}

/* As much as it takes now. */
static bool offer(struct feed *f, struct target *t, const char *data, size_t size)
{
    if (__atomic_load_n(&t->dropped, __ATOMIC_ACQUIRE) || is_stopped(f)) {
        t->alive = false;
        return false;
    }
    size_t left = size - t->at < WRITE_MOST ? size - t->at : WRITE_MOST;
    ssize_t n = t->tls != NULL ? tls_write(t->tls, data + t->at, left)
                               : socket_write(t->fd, data + t->at, left);
    if (n > 0) {
        t->at += (size_t)n;
        t->last_us = clock_monotonic_us();
        if (__atomic_load_n(&f->counters.hurry, __ATOMIC_RELAXED))
            os_polite_end(&f->polite);
        else
            os_polite_check(&f->polite);
    } else if (n < 0 && errno != EAGAIN) {
        leave_out(t, strerror(errno));
    } else if (clock_monotonic_us() - t->last_us > (int64_t)f->timeout_ms * 1000) {
        leave_out(t, "it took nothing for repl-timeout seconds");
    }
    return n > 0;
}

/* Offered to all in turn: while one is not ready the others go on, up to the end of the piece. */
static void send_piece(struct feed *f, const char *data, size_t size)
{
    for (;;) {
        int fds[SOCKET_WAIT_MOST];
        size_t unready = 0, left = 0;
        for (size_t i = 0; i < f->count; i++) {
            struct target *t = &f->targets[i];
            if (!t->alive || t->at == size)
                continue;
            if (!offer(f, t, data, size) && t->alive && unready < SOCKET_WAIT_MOST)
                fds[unready++] = t->fd;
            left += t->alive && t->at < size;
        }
        if (left == 0)
            return;
        watch_memory(f);
        if (unready == left || unready == SOCKET_WAIT_MOST)
            socket_wait_any(fds, unready, true, WAIT_MS);
    }
}

static void begin_piece(struct feed *f)
{
    int64_t now_us = clock_monotonic_us();
    for (size_t i = 0; i < f->count; i++) {
        f->targets[i].at = 0;
        f->targets[i].last_us = now_us;
    }
}

static bool send_all(struct feed *f, const void *data, size_t size)
{
    bool some = false;
    begin_piece(f);
    send_piece(f, data, size);
    for (size_t i = 0; i < f->count; i++)
        some |= f->targets[i].alive;
    __atomic_fetch_add(&f->sent, size, __ATOMIC_RELAXED);
    watch_memory(f);
    save_pace_wait(&f->pace, &f->save, size, &f->counters);
    if (is_stopped(f))
        return given_up(f);
    return some || error_set(&f->err, ERROR_SYSTEM, "no replica is left that takes it");
}

/* Each its own. */
static void send_preambles(struct feed *f)
{
    begin_piece(f);
    for (size_t i = 0; i < f->count; i++) {
        struct target *t = &f->targets[i];
        size_t size = strlen(t->preamble);
        while (t->alive && t->at < size) {
            if (!offer(f, t, t->preamble, size) && t->alive)
                socket_wait(t->fd, true, WAIT_MS);
        }
    }
}

static bool flush_meta(void *ctx, const void *data, size_t size)
{
    return send_all(ctx, data, size);
}

static void begin_meta(struct feed *f, struct rdb_writer *w)
{
    rdb_writer_init(w, META_BUFFER, flush_meta, f);
    w->version = f->save.version;
    w->crc = f->crc;
}

static bool end_meta(struct feed *f, struct rdb_writer *w, bool ok)
{
    ok = ok && rdb_writer_flush(w);
    f->crc = w->crc;
    rdb_writer_deinit(w);
    return ok;
}

static bool send_header(struct feed *f)
{
    struct rdb_writer w;
    begin_meta(f, &w);
    rdb_save_header(&w, f->snapshot->taken_ms, f->used_memory);
    for (int i = 0; i < f->save.aux_count; i++)
        rdb_save_aux(&w, f->save.aux[i].name, slice_cstr(f->save.aux[i].value));
    const struct libraries *functions = f->without_functions ? NULL : f->snapshot->libraries;
    for (size_t i = 0; functions && i < functions->count; i++)
        rdb_save_function(&w, functions->codes[i]);
    return end_meta(f, &w, true);
}

static bool send_records(struct feed *f)
{
    struct save_pipe *pipe;
    size_t per_key = f->keys != 0 ? f->used_memory / f->keys : 1;
    if (!save_pipe_start(&pipe, f->snapshot, &f->save, f->lru_now, per_key, true, &f->counters,
                         &f->err))
        return false;
    bool ok = true;
    struct save_block *b;
    while (ok && (b = save_pipe_next(pipe)) != NULL) {
        ok = send_all(f, b->data, b->used);
        f->crc = crc64_combine(f->crc, b->crc, b->used);
        save_pipe_give_back(pipe, b);
    }
    if (ok && is_stopped(f))
        ok = given_up(f);
    if (!ok)
        __atomic_store_n(&f->counters.stop, true, __ATOMIC_RELAXED);
    save_pipe_free(pipe);
    return ok;
}

static bool send_end(struct feed *f)
{
    struct rdb_writer w;
    begin_meta(f, &w);
    return end_meta(f, &w, rdb_save_end(&w, f->save.checksum));
}

static void make_mark(char mark[MARK_SIZE + 1])
{
    unsigned char bytes[MARK_SIZE / 2];
    if (getrandom(bytes, sizeof(bytes), 0) != (ssize_t)sizeof(bytes))
        memset(bytes, (int)(clock_monotonic_us() & 0xff), sizeof(bytes));
    for (int i = 0; i < MARK_SIZE / 2; i++)
        snprintf(mark + 2 * i, 3, "%02x", (unsigned)bytes[i]);
}

static bool send_snapshot(struct feed *f)
{
    char mark[MARK_SIZE + 1], line[64];
    make_mark(mark);
    int n = snprintf(line, sizeof(line), "$EOF:%s\r\n", mark);
    return send_all(f, line, (size_t)n) && send_header(f) &&
           (f->without_keys || send_records(f)) && send_end(f) &&
           send_all(f, mark, MARK_SIZE);
}

static bool send_file(struct feed *f)
{
    struct os_file file;
    struct error ignored;
    uint64_t size;
    char line[64];
    if (!os_file_open(&file, f->path, OS_OPEN_READ, &f->err))
        return false;
    bool ok = os_file_size(&file, &size, &f->err);
    int n = snprintf(line, sizeof(line), "$%llu\r\n", (unsigned long long)size);
    ok = ok && send_all(f, line, (size_t)n);
    char *piece = mem_alloc(FILE_PIECE);
    while (ok && size > 0) {
        size_t got;
        ok = os_file_read(&file, piece, FILE_PIECE, &got, &f->err);
        if (ok && got == 0)
            ok = error_set(&f->err, ERROR_TRUNCATED, "%s became shorter", f->path);
        ok = ok && send_all(f, piece, got);
        size -= ok ? got : 0;
    }
    mem_free(piece);
    os_file_close(&file, &ignored);
    return ok;
}

static void feed_main(void *arg)
{
    struct feed *f = arg;
    save_pace_begin(&f->pace);
    os_polite_begin(&f->polite);
    send_preambles(f);
    f->ok = f->snapshot != NULL ? send_snapshot(f) : send_file(f);
    __atomic_store_n(&f->ended, true, __ATOMIC_RELEASE);
    /* The feed is still there: feed_finish joins this thread. */
    f->wake(f->ctx);
}

/* ---- the executor's ---- */

static void feed_free(struct feed *f)
{
    struct error ignored;
    if (f->snapshot != NULL)
        snapshot_end(f->ks, f->snapshot);
    if (f->path[0] != '\0')
        os_unlink(f->path, &ignored);
    for (size_t i = 0; i < f->count; i++) {
        tls_unshare(f->targets[i].tls);
        socket_close(f->targets[i].fd);
    }
    mem_free(f);
}

struct feed *feed_start(struct keyspace *ks, struct snapshot *snapshot,
                        const struct feed_options *options, struct error *err)
{
    struct feed *f = mem_zalloc(sizeof(*f) + options->count * sizeof(f->targets[0]));
    f->ks = ks;
    f->snapshot = snapshot;
    f->save = options->save;
    f->begun_us = clock_monotonic_us();
    f->without_keys = options->without_keys;
    f->without_functions = options->without_functions;
    /* What the chosen version has no form for is sent all the same: to a replica of our own, which
     * reads it, and to none that does not. */
    int needed = snapshot != NULL ? rdb_version_for(snapshot) : RDB_VERSION_DEFAULT;
    if (f->save.version == 0 || needed > RDB_VERSION_DEFAULT)
        f->save.version = needed;
    if (options->path != NULL)
        snprintf(f->path, sizeof(f->path), "%s", options->path);
    f->lru_now = ks->lru_clock;
    f->used_memory = mem_used();
    for (int i = 0; snapshot != NULL && i < snapshot->db_count; i++)
        f->keys += snapshot->dbs[i].table.count;
    /* Each holds some MB of what is to be sent, which shall be little beside the data. */
    int worth = f->used_memory / DATA_PER_THREAD < INT32_MAX
                    ? (int)(f->used_memory / DATA_PER_THREAD)
                    : INT32_MAX;
    if (f->save.threads > worth)
        f->save.threads = worth;
    if (f->save.threads < 1)
        f->save.threads = 1;
    f->timeout_ms = options->timeout_ms;
    f->wake = options->wake;
    f->ctx = options->ctx;
    f->count = options->count;
    for (size_t i = 0; i < f->count; i++) {
        f->targets[i] = (struct target){
            .fd = options->targets[i].fd, .tls = options->targets[i].tls, .alive = true};
        memcpy(f->targets[i].preamble, options->targets[i].preamble, FEED_PREAMBLE_MAX);
    }
    if (!os_thread_start(&f->thread, "hf-feed", feed_main, f, err)) {
        feed_free(f);
        return NULL;
    }
    return f;
}

void feed_cancel(struct feed *f)
{
    __atomic_store_n(&f->counters.stop, true, __ATOMIC_RELAXED);
}

bool feed_ended(const struct feed *f)
{
    return __atomic_load_n(&f->ended, __ATOMIC_ACQUIRE);
}

void feed_progress(const struct feed *f, struct save_progress *p)
{
    *p = (struct save_progress){.eta_ms = -1};
    if (f->snapshot == NULL)
        return;
    p->keys_total = f->keys;
    p->keys_done = __atomic_load_n(&f->counters.keys_done, __ATOMIC_RELAXED);
    p->held_bytes = epoch_snapshot_held_bytes(f->snapshot->epoch);
    p->bytes_done = __atomic_load_n(&f->sent, __ATOMIC_RELAXED);
    if (p->keys_done == 0)
        return;
    double share = (double)p->keys_done / (double)p->keys_total;
    double elapsed_ms = (double)(clock_monotonic_us() - f->begun_us) / 1e3;
    p->bytes_estimated = (uint64_t)((double)p->bytes_done / share);
    p->eta_ms = (int64_t)(elapsed_ms * (1 - share) / share);
}

void feed_drop(struct feed *f, size_t target)
{
    __atomic_store_n(&f->targets[target].dropped, true, __ATOMIC_RELEASE);
}

bool feed_finish(struct feed *f, bool *ok, struct error *err)
{
    pthread_join(f->thread, NULL);
    bool whole = f->ok;
    if (!whole)
        *err = f->err;
    for (size_t i = 0; i < f->count; i++)
        ok[i] = whole && f->targets[i].alive;
    feed_free(f);
    return whole;
}
