/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Everything of the pipe is guarded by its lock, but for what a worker does to the blocks that it
 * holds and the counters. Nobody who must not wait takes the lock: the executor sets `stop`, which
 * those who wait look at every WAIT_MS.
 */
#include "persist/save_pipe.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

#include "base/mem.h"
#include "os/process.h"
#include "os/thread.h"
#include "persist/emit.h"

#define WAIT_MS 20
/* What a task should come to, by the estimated size of a key: half a chunk, as estimates err. */
#define TASK_BYTES (SAVE_CHUNK_BYTES / 2)
#define TASK_BITS_MAX 20
#define BLOCKS_PER_WORKER 12
#define TASKS_PER_WORKER 4
/* Of a delta: segments at once, as most have nothing to give. */
#define DELTA_SEGMENTS 32
/* Of commands a block is handed over when it is so full and a command ends: it is a group of the
 * file then, unless a long command has filled it before. */
#define BLOCK_FULL (SAVE_BLOCK_BYTES / 4 * 3)
/* How many small keys come to some 20 us. */
#define KEYS_PER_LOOK 64

struct task {
    struct save_block *first, *last;
    bool done; /* no more blocks come */
};

struct worker {
    struct save_pipe *pipe;
    pthread_t thread;
    struct rdb_writer writer;
    struct emitter emitter;
    bool at_end;              /* of a command */
    struct save_block *block; /* whose data is the writer's buffer */
    struct os_polite polite;
    uint64_t task;
    int db;
    bool in_chunk;
    uint64_t chunk_start, chunk_keys; /* start: what the writer had written */
    uint64_t keys;                    /* not yet in the counters */
    uint64_t data_size, commands;     /* of the writer and the emitter, as of the last report */
};

struct save_pipe {
    struct snapshot *snapshot;
    const struct save_options *options;
    struct save_counters *counters;
    uint32_t lru_now;
    int mark; /* that changes are told from; -1: everything is saved */
    bool polite;

    pthread_mutex_t lock;
    pthread_cond_t for_workers, for_writer;
    struct task *ring; /* of the tasks from `head` on, `window` of them */
    uint64_t window, head, next, count;
    int *bits;         /* of each database: 1 << bits tasks; -1: it is empty */
    /* of each database with more tasks than parts: for each part, tasks not ended */
    uint32_t **left;
    int next_db;       /* where `next` is */
    uint64_t next_in_db;
    struct save_block *pool; /* those that were used before and are free */
    size_t pool_count;       /* free ones, those not yet made included */
    struct worker *workers;
    int worker_count;
    struct save_block *blocks; /* all of them */
    size_t made_count;
};

static bool is_stopped(const struct save_pipe *p)
{
    return __atomic_load_n(&p->counters->stop, __ATOMIC_RELAXED);
}

static void wait_for(struct save_pipe *p, pthread_cond_t *cond)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += WAIT_MS * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_cond_timedwait(cond, &p->lock, &until);
}

/* The worker's turn is over for now, if there is somebody who wants the processor. */
static void make_room(struct worker *w)
{
    if (!w->pipe->polite)
        return;
    if (__atomic_load_n(&w->pipe->counters->hurry, __ATOMIC_RELAXED))
        os_polite_end(&w->polite);
    else
        os_polite_check(&w->polite);
}

/* Blocks --------------------------------------------------------------------------------------- */

/* An empty block for the worker; NULL when the save is to stop. */
static struct save_block *take_block(struct worker *w)
{
    struct save_pipe *p = w->pipe;
    struct save_block *b = NULL;
    pthread_mutex_lock(&p->lock);
    while (!is_stopped(p) && p->pool_count <= (w->task == p->head ? 0 : 1))
        wait_for(p, &p->for_workers);
    if (!is_stopped(p)) {
        b = p->pool;
        if (b)
            p->pool = b->next;
        else
            b = &p->blocks[p->made_count++];
        p->pool_count--;
        *b = (struct save_block){.data = b->data};
    }
    pthread_mutex_unlock(&p->lock);
    if (b && !b->data)
        b->data = mem_alloc(SAVE_BLOCK_BYTES);
    return b;
}

void save_pipe_give_back(struct save_pipe *p, struct save_block *b)
{
    pthread_mutex_lock(&p->lock);
    b->next = p->pool;
    p->pool = b;
    p->pool_count++;
    pthread_cond_broadcast(&p->for_workers);
    pthread_mutex_unlock(&p->lock);
}

static void hand_over(struct worker *w)
{
    struct save_pipe *p = w->pipe;
    pthread_mutex_lock(&p->lock);
    struct task *t = &p->ring[w->task % p->window];
    if (t->last)
        t->last->next = w->block;
    else
        t->first = w->block;
    t->last = w->block;
    if (w->task == p->head)
        pthread_cond_signal(&p->for_writer);
    pthread_mutex_unlock(&p->lock);
}

/* The writer's flush: its buffer goes to the pipe, and an empty one comes into its place. */
static bool flush_block(void *ctx, const void *data, size_t size)
{
    struct worker *w = ctx;
    assert(data == w->block->data);
    (void)data;
    w->block->used = size;
    w->block->crc = w->writer.crc;
    w->block->ends_command = w->at_end;
    w->writer.crc = 0;
    hand_over(w);
    make_room(w);
    w->block = take_block(w);
    w->writer.buffer = w->block ? w->block->data : NULL;
    if (!w->block)
        w->writer.capacity = 0;
    return w->block != NULL;
}

/* Tasks ---------------------------------------------------------------------------------------- */

static uint64_t range_first(int bits, uint64_t n)
{
    return bits ? n << (64 - bits) : 0;
}

static uint64_t range_last(int bits, uint64_t n)
{
    return bits ? (n << (64 - bits)) | UINT64_MAX >> bits : UINT64_MAX;
}

/* False: there is none left, or the save is to stop. */
static bool take_task(struct worker *w, uint64_t *first, uint64_t *last)
{
    struct save_pipe *p = w->pipe;
    pthread_mutex_lock(&p->lock);
    while (!is_stopped(p) && p->next < p->count && p->next - p->head >= p->window)
        wait_for(p, &p->for_workers);
    bool found = !is_stopped(p) && p->next < p->count;
    if (found) {
        while (p->bits[p->next_db] < 0 || p->next_in_db >> p->bits[p->next_db] != 0) {
            p->next_db++;
            p->next_in_db = 0;
        }
        w->task = p->next++;
        w->db = p->next_db;
        int bits = p->bits[w->db];
        *first = range_first(bits, p->next_in_db);
        *last = range_last(bits, p->next_in_db);
        p->next_in_db++;
        p->ring[w->task % p->window] = (struct task){0};
    }
    pthread_mutex_unlock(&p->lock);
    return found;
}

static void end_task(struct worker *w, uint64_t first)
{
    struct save_pipe *p = w->pipe;
    uint32_t part = epoch_part_of(first);
    bool part_done = false;
    pthread_mutex_lock(&p->lock);
    p->ring[w->task % p->window].done = true;
    if (p->left[w->db])
        part_done = --p->left[w->db][part] == 0;
    if (w->task == p->head)
        pthread_cond_signal(&p->for_writer);
    pthread_mutex_unlock(&p->lock);
    __atomic_fetch_add(&p->counters->tasks_done, 1, __ATOMIC_RELAXED);
    if (part_done)
        snapshot_note_done(p->snapshot, w->db, part, part);
}

/* Within a task of several parts: those up to `next`, which has not been read yet, are done. */
static void note_parts(struct worker *w, uint64_t next, bool all, uint32_t *part, uint32_t last)
{
    uint32_t end = all ? last + 1 : epoch_part_of(next);
    if (w->pipe->left[w->db] || end <= *part)
        return;
    snapshot_note_done(w->pipe->snapshot, w->db, *part, end - 1);
    *part = end;
}

static uint64_t written(const struct worker *w)
{
    return w->writer.written + w->writer.used;
}

static void on_command_end(void *ctx)
{
    struct worker *w = ctx;
    if (w->writer.used < BLOCK_FULL)
        return;
    w->at_end = true;
    rdb_writer_flush(&w->writer);
    w->at_end = false;
}

static void begin_chunk(struct worker *w)
{
    const struct snapshot_db *db = &w->pipe->snapshot->dbs[w->db];
    w->in_chunk = true;
    w->chunk_start = written(w);
    w->chunk_keys = 0;
    /* A chunk's bytes follow from its keys, whoever writes it. */
    rdb_writer_forget_luck(&w->writer);
    if (w->pipe->mark >= 0) {
        rdb_write_u8(&w->writer, RDB_OP_SELECTDB);
        rdb_write_length(&w->writer, (uint64_t)w->db);
        return;
    }
    if (w->pipe->options->commands) {
        emit_select(&w->emitter, w->db);
        return;
    }
    /* The numbers are of the whole database: who reads the file in one go makes room once. */
    rdb_save_select(&w->writer, w->db, db->table.count, db->expires);
}

static void end_chunk(struct worker *w)
{
    if (w->block) {
        w->block->ends_chunk = true;
        w->block->db = w->db;
        w->block->chunk_keys = w->chunk_keys;
    }
    w->in_chunk = false;
    w->at_end = true;
    rdb_writer_flush(&w->writer);
    w->at_end = false;
}

static void report(struct worker *w)
{
    struct save_counters *c = w->pipe->counters;
    __atomic_fetch_add(&c->keys_done, w->keys, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->data_bytes, w->writer.data_size - w->data_size, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->commands, w->emitter.commands - w->commands, __ATOMIC_RELAXED);
    w->data_size = w->writer.data_size;
    w->commands = w->emitter.commands;
    w->keys = 0;
}

static void delay(struct worker *w)
{
    int64_t us = w->pipe->options->key_delay_us;
    report(w);
    if (us > 0)
        os_sleep_us(us);
    else if (w->chunk_keys % (uint64_t)-us == 0)
        os_sleep_us(1);
}

static bool save_item(void *ctx, void *item)
{
    struct worker *w = ctx;
    const struct save_options *o = w->pipe->options;
    if (!w->in_chunk)
        begin_chunk(w);
    if (o->commands)
        emit_entry(&w->emitter, item);
    else
        rdb_save_entry(&w->writer, item, o->clock, w->pipe->lru_now);
    w->chunk_keys++;
    w->keys++;
    if (__builtin_expect(o->key_delay_us != 0, 0)) {
        delay(w);
        return !w->writer.failed && !is_stopped(w->pipe);
    }
    if (w->chunk_keys % KEYS_PER_LOOK == 0)
        make_room(w);
    return !w->writer.failed;
}

/* The next few segments of the range. Returns where to go on. */
static uint64_t save_some(struct worker *w, uint64_t first, uint64_t last, bool *done)
{
    const struct save_pipe *p = w->pipe;
    const struct table *table = &p->snapshot->dbs[w->db].table;
    if (p->mark < 0)
        return table_walk(table, first, last, 1, save_item, w, done);
    return table_walk_changed(table, (unsigned)p->mark, p->snapshot->marks[p->mark], first, last,
                              DELTA_SEGMENTS, save_item, w, done);
}

static void run_task(struct worker *w, uint64_t first, uint64_t last)
{
    struct save_pipe *p = w->pipe;
    uint32_t part = epoch_part_of(first), last_part = epoch_part_of(last);
    bool done = false;
    while (!done && !w->writer.failed && !is_stopped(p)) {
        first = save_some(w, first, last, &done);
        report(w);
        if (!w->writer.failed && !is_stopped(p))
            note_parts(w, first, done, &part, last_part);
        if (w->in_chunk && written(w) - w->chunk_start >= SAVE_CHUNK_BYTES)
            end_chunk(w);
        make_room(w);
    }
    if (w->in_chunk)
        end_chunk(w);
}

static void worker_main(void *arg)
{
    struct worker *w = arg;
    uint64_t first, last;
    if (w->pipe->polite)
        os_polite_begin(&w->polite);
    while (take_task(w, &first, &last)) {
        run_task(w, first, last);
        if (w->writer.failed || is_stopped(w->pipe))
            break;
        end_task(w, first);
    }
}

struct save_block *save_pipe_next(struct save_pipe *p)
{
    struct save_block *b = NULL;
    pthread_mutex_lock(&p->lock);
    while (!is_stopped(p) && p->head < p->count) {
        struct task *t = &p->ring[p->head % p->window];
        if (p->head < p->next && t->first) {
            b = t->first;
            t->first = b->next;
            if (!t->first)
                t->last = NULL;
            break;
        }
        if (p->head < p->next && t->done) {
            p->head++;
            pthread_cond_broadcast(&p->for_workers);
            continue;
        }
        wait_for(p, &p->for_writer);
    }
    pthread_mutex_unlock(&p->lock);
    return b;
}

/* The pipe as a whole -------------------------------------------------------------------------- */

static void plan(struct save_pipe *p, size_t bytes_per_key)
{
    uint64_t keys_per_task = TASK_BYTES / (bytes_per_key ? bytes_per_key : 1) + 1;
    p->bits = mem_alloc((size_t)p->snapshot->db_count * sizeof(*p->bits));
    p->left = mem_zalloc((size_t)p->snapshot->db_count * sizeof(*p->left));
    for (int i = 0; i < p->snapshot->db_count; i++) {
        uint64_t keys = p->snapshot->dbs[i].table.count;
        p->bits[i] = -1;
        if (keys == 0)
            continue;
        p->bits[i] = 0;
        while (p->bits[i] < TASK_BITS_MAX && keys >> p->bits[i] > keys_per_task)
            p->bits[i]++;
        p->count += 1ULL << p->bits[i];
        if (p->bits[i] <= EPOCH_PART_BITS)
            continue;
        p->left[i] = mem_alloc(EPOCH_PARTS * sizeof(uint32_t));
        for (uint32_t part = 0; part < EPOCH_PARTS; part++)
            p->left[i][part] = 1U << (p->bits[i] - EPOCH_PART_BITS);
    }
}

static void start_workers(struct save_pipe *p, int wanted, struct error *err)
{
    p->workers = mem_zalloc((size_t)wanted * sizeof(*p->workers));
    for (int i = 0; i < wanted; i++) {
        struct worker *w = &p->workers[i];
        w->pipe = p;
        /* Those that run already take blocks, too. */
        pthread_mutex_lock(&p->lock);
        w->block = &p->blocks[p->made_count++];
        pthread_mutex_unlock(&p->lock);
        w->block->data = mem_alloc(SAVE_BLOCK_BYTES);
        rdb_writer_init(&w->writer, 1, flush_block, w);
        mem_free(w->writer.buffer);
        w->writer.buffer = w->block->data;
        w->writer.capacity = SAVE_BLOCK_BYTES;
        w->writer.compress = p->options->compress;
        w->writer.version = p->options->version;
        emit_init(&w->emitter, &w->writer, on_command_end, w);
        p->worker_count++;
        if (!os_thread_start(&w->thread, "hf-snapshot", worker_main, w, err)) {
            /* Fewer will do. */
            p->worker_count--;
            mem_free(w->writer.lzf);
            return;
        }
    }
}

bool save_pipe_start(struct save_pipe **result, struct snapshot *snapshot,
                     const struct save_options *options, uint32_t lru_now, size_t bytes_per_key,
                     bool polite, struct save_counters *counters, struct error *err)
{
    struct save_pipe *p = mem_zalloc(sizeof(*p));
    p->snapshot = snapshot;
    p->options = options;
    p->counters = counters;
    p->lru_now = lru_now;
    p->polite = polite;
    p->mark = options->since ? snapshot_mark_of(snapshot, options->since) : -1;
    plan(p, bytes_per_key);
    __atomic_store_n(&counters->tasks_total, p->count, __ATOMIC_RELAXED);
    uint64_t wanted = (uint64_t)options->threads;
    if (wanted > p->count)
        wanted = p->count ? p->count : 1;

    p->window = wanted * TASKS_PER_WORKER;
    p->ring = mem_zalloc(p->window * sizeof(*p->ring));
    p->pool_count = wanted * BLOCKS_PER_WORKER + 1;
    p->blocks = mem_zalloc((wanted + p->pool_count) * sizeof(*p->blocks));
    pthread_mutex_init(&p->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->for_workers, &attr);
    pthread_cond_init(&p->for_writer, &attr);
    pthread_condattr_destroy(&attr);
    start_workers(p, (int)wanted, err);
    if (p->worker_count == 0) {
        save_pipe_free(p);
        return false;
    }
    *result = p;
    return true;
}

void save_pipe_free(struct save_pipe *p)
{
    for (int i = 0; i < p->worker_count; i++) {
        pthread_join(p->workers[i].thread, NULL);
        mem_free(p->workers[i].writer.lzf);
        emit_deinit(&p->workers[i].emitter);
    }
    for (size_t i = 0; i < p->made_count; i++)
        mem_free(p->blocks[i].data);
    pthread_cond_destroy(&p->for_workers);
    pthread_cond_destroy(&p->for_writer);
    pthread_mutex_destroy(&p->lock);
    mem_free(p->workers);
    mem_free(p->blocks);
    mem_free(p->ring);
    for (int i = 0; i < p->snapshot->db_count; i++)
        mem_free(p->left[i]);
    mem_free(p->left);
    mem_free(p->bits);
    mem_free(p);
}
