/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who owns what. `lock` guards the list of parts, the queue, the counters of threads and the first
 * error. A part belongs to the thread that took it, a builder to its thread until all are through
 * with parsing (`planned`); from then on its pairs belong to whoever has taken the task for their
 * range of hashes. `failed`, `bytes` and `keys` are read at any time, atomically.
 */
#include "persist/load_threads.h"

#include <assert.h>
#include <pthread.h>
#include <time.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "base/mem.h"
#include "keyspace/libraries.h"
#include "os/thread.h"
#include "persist/load_index.h"
#include "persist/rdb/record.h"
#include "structure/table_build.h"

/* What the scanning thread cuts a file into. */
#define PART_BYTES (512U << 10)
/* How many such parts wait for a worker at most, for each worker. */
#define PARTS_AHEAD 3U
#define WAIT_MS 10
/* Progress is written down after so many keys. */
#define PROGRESS_KEYS 64

/* Pairs whose hashes have one top byte. The blocks of a list grow, so that a database of a few keys
 * costs little and one of many is not made of crumbs: 7, 15, ... 255 pairs are 128 to 4096 bytes. */
#define BLOCK_PAIRS_FIRST 7U
#define BLOCK_PAIRS_LAST 255U
struct pair_block {
    struct pair_block *next;
    uint32_t used, room;
    struct table_pair pairs[];
};

/* One builder's entries of one database. */
struct db_pairs {
    struct pair_block *blocks[TABLE_BUILD_PARTS];
    uint64_t counts[TABLE_BUILD_PARTS];
    uint64_t expires, timed;
};

/* Bytes [from, to) of the file: whole records. */
struct part {
    struct part *next;   /* in the file */
    struct part *queued; /* the next to be taken */
    uint64_t from, to;
    int db;              /* that is selected where it begins; in a chunk: that it selects itself */
    bool chunk;          /* of the index */
    uint64_t keys;       /* of a chunk, as the index says */
    unsigned char *data; /* the bytes; NULL: to be read from the file */
    uint64_t crc;
};

struct job;

struct builder {
    struct job *job;
    pthread_t thread;
    struct epoch epoch;
    struct rdb_loader *loader;
    struct rdb_load_stats stats;
    struct db_pairs **dbs; /* by database; NULL: no keys of it */
    uint64_t bytes, keys;  /* loaded so far, for the progress */
    uint64_t delayed;      /* keys, for key_delay_us */
    struct table_pair *pairs, *scratch; /* room for a task */
    uint64_t room;
};

struct db_build {
    int db;
    uint64_t expires, timed;
    struct table_build build;
};

struct job {
    struct keyspace *ks;
    struct os_file *file;
    uint64_t size;
    const struct rdb_load_options *options;
    int version;
    uint64_t start; /* of the first record that is no field */
    uint64_t tail;  /* where the last part ends */
    uint64_t stored_crc;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct part *first, **last; /* all parts, in the order of the file */
    struct part *queue, **queue_last;
    uint32_t queued;
    bool all_queued;
    uint32_t parsing, working; /* threads that are not through with it */
    bool planned, finished;
    bool failed;
    struct error err;

    struct db_build **builds;
    int build_count;
    struct build_task {
        struct db_build *build;
        uint32_t task;
    } *tasks;
    uint32_t task_count, next_task;
    bool rejected; /* a key was there twice; set by any thread */

    struct builder *builders;
    int builder_count, workers;
};

static bool has_failed(const struct job *job)
{
    return __atomic_load_n(&job->failed, __ATOMIC_RELAXED);
}

/* The first error is the one that is told. Once there is a plan nothing fails any more, as then the
 * threads build from each other's pairs: who gives up at that point gets the whole load. */
static void fail(struct job *job, const struct error *err)
{
    pthread_mutex_lock(&job->lock);
    if (!job->failed && !job->planned) {
        job->err = *err;
        __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
    }
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

/* --- entries -----------------------------------------------------------------------------------
 */

static void builder_init(struct builder *b)
{
    epoch_init(&b->epoch, false);
    b->epoch.now = b->job->ks->epoch.now;
    b->loader = rdb_loader_new(&b->epoch, &b->job->ks->limits);
    /* Whatever is wrong, the one thread that then reads the file again says where. */
    rdb_loader_set_bulk(b->loader, true);
}

static struct pair_block *block_new(struct pair_block *before)
{
    uint32_t room = BLOCK_PAIRS_FIRST;
    if (before)
        room = before->room < BLOCK_PAIRS_LAST ? before->room * 2 + 1 : BLOCK_PAIRS_LAST;
    struct pair_block *block = mem_alloc(sizeof(*block) + room * sizeof(block->pairs[0]));
    *block = (struct pair_block){.next = before, .room = room};
    return block;
}

static void add_entry(struct builder *b, int db, uint64_t hash, struct entry *e)
{
    struct db_pairs *d = b->dbs[db];
    if (__builtin_expect(!d, 0))
        d = b->dbs[db] = mem_zalloc(sizeof(*d));
    uint32_t part = table_build_part(hash);
    struct pair_block *block = d->blocks[part];
    if (__builtin_expect(!block || block->used == block->room, 0))
        block = d->blocks[part] = block_new(block);
    bool expires = e->flags & ENTRY_EXPIRES, timed = entry_timed(e) > 0;
    block->pairs[block->used++] =
        (struct table_pair){hash, (uintptr_t)e | (expires || timed ? TABLE_PAIR_DUE : 0)};
    d->counts[part]++;
    d->expires += expires;
    d->timed += timed;
}

static void drop_pairs(struct builder *b)
{
    for (int db = 0; db < b->job->ks->db_count; db++) {
        for (uint32_t part = 0; b->dbs[db] && part < TABLE_BUILD_PARTS; part++) {
            struct pair_block *block = b->dbs[db]->blocks[part], *next;
            for (; block; block = next) {
                next = block->next;
                for (uint32_t i = 0; i < block->used; i++)
                    rdb_drop_entry(b->loader, table_pair_item(&block->pairs[i]));
                mem_free(block);
            }
        }
        mem_free(b->dbs[db]);
        b->dbs[db] = NULL;
    }
}

/* --- parts -------------------------------------------------------------------------------------
 */

struct range {
    struct os_file *file;
    uint64_t at, end;
};

static bool fill_from_range(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct range *range = ctx;
    if (room > range->end - range->at)
        room = (size_t)(range->end - range->at);
    *got = 0;
    if (room > 0 && !os_file_read_at(range->file, range->at, data, room, got, err))
        return false;
    range->at += *got;
    return true;
}

/* A reader of the file from `range->at` to `range->end`. */
static void reader_init_range(struct rdb_reader *r, struct range *range, struct error *err)
{
    uint64_t at = range->at;
    rdb_reader_init_stream(r, range->end, fill_from_range, range, err);
    r->offset = at;
}

/* A reader of bytes that stand at `from` in the file. */
static void reader_init_bytes(struct rdb_reader *r, const void *data, size_t size, uint64_t from,
                              struct error *err)
{
    rdb_reader_init_memory(r, data, size, err);
    r->offset = r->size = from + size;
}

static bool load_key(struct builder *b, struct rdb_reader *r, const struct rdb_record *record)
{
    const struct job *job = b->job;
    struct entry *e;
    if (record->db < 0)
        return rdb_fail(r, ERROR_CORRUPT, "a chunk does not begin with its database");
    if (!rdb_check_db(r, record->db, job->ks->db_count) ||
        !rdb_build_entry(r, record, b->loader, job->options, job->ks->lfu, &b->stats, &e))
        return false;
    if (e)
        add_entry(b, record->db, key_hash(record->key), e);
    if (job->options->key_delay_us)
        rdb_delay_key(job->options, ++b->delayed);
    return true;
}

/* One record, whatever it is; a chunk has but one database. */
static bool load_record(struct builder *b, struct rdb_reader *r, const struct rdb_record *record,
                        const struct part *p)
{
    switch (record->kind) {
    case RDB_RECORD_KEY:
        return load_key(b, r, record);
    case RDB_RECORD_SELECT:
        if (p->chunk && record->db != p->db)
            return rdb_fail(r, ERROR_CORRUPT, "a chunk of database %d selects database %d", p->db,
                            record->db);
        return rdb_check_db(r, record->db, b->job->ks->db_count);
    case RDB_RECORD_AUX:
        rdb_note_aux(record, &b->stats);
        return true;
    case RDB_RECORD_RESIZE:
    case RDB_RECORD_SLOT:
        return true;
    default:
        return rdb_fail(r, ERROR_UNSUPPORTED, "a record that no thread can load by itself");
    }
}

static void note_progress(struct builder *b, uint64_t bytes)
{
    __atomic_store_n(&b->bytes, bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&b->keys, b->stats.keys, __ATOMIC_RELAXED);
}

static bool load_records(struct builder *b, struct rdb_reader *r, struct part *p)
{
    struct rdb_records it;
    struct rdb_record record;
    uint64_t keys = 0, before = b->bytes;
    bool ok = true;
    rdb_records_resume(&it, r, b->job->version, p->chunk ? -1 : p->db);
    while (ok && rdb_reader_offset(r) < p->to) {
        ok = rdb_records_next(&it, &record) && load_record(b, r, &record, p);
        keys += ok && record.kind == RDB_RECORD_KEY;
        if (keys % PROGRESS_KEYS == 0) {
            note_progress(b, before + rdb_reader_offset(r) - p->from);
            if (has_failed(b->job))
                break;
        }
    }
    rdb_records_end(&it);
    if (ok && p->chunk && keys != p->keys && !has_failed(b->job))
        ok = rdb_fail(r, ERROR_CORRUPT, "a chunk has %llu keys and not %llu",
                      (unsigned long long)keys, (unsigned long long)p->keys);
    note_progress(b, before + p->to - p->from);
    return ok;
}

static void load_part(struct builder *b, struct part *p)
{
    struct error err = {0};
    struct rdb_reader r;
    struct range range = {b->job->file, p->from, p->to};
    if (p->data)
        reader_init_bytes(&r, p->data, (size_t)(p->to - p->from), p->from, &err);
    else
        reader_init_range(&r, &range, &err);
    if (load_records(b, &r, p))
        p->crc = rdb_reader_crc(&r);
    else
        fail(b->job, &err);
    rdb_reader_deinit(&r);
    mem_free(p->data);
    p->data = NULL;
}

/* Put a part behind those there are; queue it for a worker unless it is loaded already. */
static void append_part(struct job *job, const struct part *part, bool loaded)
{
    struct part *p = mem_alloc(sizeof(*p));
    *p = *part;
    pthread_mutex_lock(&job->lock);
    while (p->data && job->queued >= PARTS_AHEAD * (uint32_t)job->workers && !job->failed)
        pthread_cond_wait(&job->changed, &job->lock);
    *job->last = p;
    job->last = &p->next;
    if (!loaded) {
        *job->queue_last = p;
        job->queue_last = &p->queued;
        job->queued++;
        pthread_cond_broadcast(&job->changed);
    }
    pthread_mutex_unlock(&job->lock);
}

/* The next part to be loaded; NULL: there will be none. */
static struct part *take_part(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    while (!job->queue && !job->all_queued && !job->failed)
        pthread_cond_wait(&job->changed, &job->lock);
    struct part *p = job->failed ? NULL : job->queue;
    if (p) {
        job->queue = p->queued;
        if (!job->queue)
            job->queue_last = &job->queue;
        job->queued--;
        pthread_cond_broadcast(&job->changed);
    }
    pthread_mutex_unlock(&job->lock);
    return p;
}

/* --- the scanning thread: cuts a file without an index -----------------------------------------
 */

struct scan {
    struct job *job;
    struct builder *b;
    unsigned char *data; /* what was read from `at` on */
    size_t have;
    uint64_t at;
    int db;      /* selected there */
    bool ended;  /* the end marker was found; the last part ends before it */
    struct error err;
};

static bool scan_fill(struct scan *s)
{
    if (!s->data)
        s->data = mem_alloc(PART_BYTES);
    while (s->have < PART_BYTES && s->at + s->have < s->job->size) {
        size_t got;
        if (!os_file_read_at(s->job->file, s->at + s->have, s->data + s->have,
                             PART_BYTES - s->have, &got, &s->err))
            return false;
        if (got == 0)
            return error_set(&s->err, ERROR_TRUNCATED, "the file became shorter");
        s->have += got;
    }
    return true;
}

/* How many of the bytes there are whole records; *db: what is selected behind them. */
static size_t scan_whole_records(struct scan *s, int *db)
{
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    reader_init_bytes(&r, s->data, s->have, s->at, &s->err);
    rdb_records_resume(&it, &r, s->job->version, s->db);
    uint64_t good = s->at;
    while (good < s->at + s->have && rdb_records_next(&it, &record)) {
        if (record.kind == RDB_RECORD_END) {
            s->ended = true;
            break;
        }
        if (record.kind == RDB_RECORD_KEY && !rdb_skip_value(&r, record.type))
            break;
        good = rdb_reader_offset(&r);
        *db = it.db;
    }
    rdb_records_end(&it);
    rdb_reader_deinit(&r);
    return (size_t)(good - s->at);
}

/* Give away the first `size` bytes; the others move to a buffer of their own. */
static void scan_cut(struct scan *s, size_t size, int db)
{
    struct part p = {.from = s->at, .to = s->at + size, .db = s->db, .data = s->data};
    size_t rest = s->have - size;
    s->data = mem_alloc(PART_BYTES);
    memcpy(s->data, p.data + size, rest);
    s->have = rest;
    s->at += size;
    s->db = db;
    append_part(s->job, &p, false);
}

/* A record that is larger than a part: built here, read piece by piece. */
static bool scan_large(struct scan *s)
{
    struct part p = {.from = s->at, .to = s->job->size, .db = s->db};
    struct range range = {s->job->file, s->at, s->job->size};
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    reader_init_range(&r, &range, &s->err);
    rdb_records_resume(&it, &r, s->job->version, s->db);
    bool ok = rdb_records_next(&it, &record) && load_record(s->b, &r, &record, &p);
    if (ok) {
        p.to = s->at = rdb_reader_offset(&r);
        p.crc = rdb_reader_crc(&r);
        s->have = 0;
        append_part(s->job, &p, true);
        note_progress(s->b, s->b->bytes + p.to - p.from);
    }
    rdb_records_end(&it);
    rdb_reader_deinit(&r);
    return ok;
}

static bool scan_parts(struct scan *s)
{
    while (!s->ended && !has_failed(s->job)) {
        if (!scan_fill(s))
            return false;
        int db = s->db;
        size_t whole = scan_whole_records(s, &db);
        if (whole > 0)
            scan_cut(s, whole, db);
        else if (!s->ended && (s->have < PART_BYTES || !scan_large(s)))
            return s->err.code != ERROR_NONE
                       ? false
                       : error_set(&s->err, ERROR_TRUNCATED, "offset %llu: there is no end marker",
                                   (unsigned long long)s->at);
    }
    if (s->ended && s->at != s->job->tail)
        return error_set(&s->err, ERROR_CORRUPT, "offset %llu: the end marker is not at the end",
                         (unsigned long long)s->at);
    return true;
}

static void scan(struct builder *b)
{
    struct job *job = b->job;
    struct scan s = {.job = job, .b = b, .at = job->start};
    if (!scan_parts(&s))
        fail(job, &s.err);
    mem_free(s.data);
    pthread_mutex_lock(&job->lock);
    job->all_queued = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

/* --- from pairs to tables ----------------------------------------------------------------------
 */

static bool crc_of_range(struct os_file *f, uint64_t from, uint64_t to, uint64_t *crc,
                         struct error *err)
{
    size_t room = 64 * 1024;
    unsigned char *data = mem_alloc(room);
    bool ok = true;
    while (ok && from < to) {
        size_t got, want = to - from < room ? (size_t)(to - from) : room;
        ok = os_file_read_at(f, from, data, want, &got, err);
        if (ok && got == 0)
            ok = error_set(err, ERROR_TRUNCATED, "the file became shorter");
        if (ok) {
            *crc = crc64(*crc, data, got);
            from += got;
        }
    }
    mem_free(data);
    return ok;
}

/* The parts follow each other, and the sum of all bytes is what stands at the end. */
static bool check_whole(struct job *job, struct error *err)
{
    bool sum = job->options->checksum && job->stored_crc != 0;
    uint64_t crc = 0, at = job->start;
    if (sum && !crc_of_range(job->file, 0, job->start, &crc, err))
        return false;
    for (const struct part *p = job->first; p; p = p->next) {
        if (p->from != at)
            return error_set(err, ERROR_CORRUPT, "the chunks do not meet at offset %llu",
                             (unsigned long long)at);
        if (sum)
            crc = crc64_combine(crc, p->crc, p->to - p->from);
        at = p->to;
    }
    if (at != job->tail)
        return error_set(err, ERROR_CORRUPT, "the chunks end at offset %llu",
                         (unsigned long long)at);
    if (sum && !crc_of_range(job->file, job->tail, job->size - 8, &crc, err))
        return false;
    return !sum || crc == job->stored_crc ||
           error_set(err, ERROR_CORRUPT, "the checksum is %016llx but should be %016llx",
                     (unsigned long long)crc, (unsigned long long)job->stored_crc);
}

static void plan_db(struct job *job, int db)
{
    uint64_t counts[TABLE_BUILD_PARTS] = {0}, expires = 0, timed = 0, keys = 0;
    for (int i = 0; i < job->builder_count; i++) {
        const struct db_pairs *d = job->builders[i].dbs[db];
        for (uint32_t k = 0; d && k < TABLE_BUILD_PARTS; k++) {
            counts[k] += d->counts[k];
            keys += d->counts[k];
        }
        expires += d ? d->expires : 0;
        timed += d ? d->timed : 0;
    }
    if (keys == 0)
        return;
    struct db_build *b = mem_alloc(sizeof(*b));
    b->db = db;
    b->expires = expires;
    b->timed = timed;
    table_build_plan(&b->build, job->ks->dbs[db].table.type, counts);
    job->builds[job->build_count++] = b;
    job->task_count += b->build.task_count;
}

static void plan(struct job *job)
{
    job->builds = mem_zalloc((size_t)job->ks->db_count * sizeof(struct db_build *));
    for (int db = 0; db < job->ks->db_count; db++)
        plan_db(job, db);
    job->tasks = mem_alloc((job->task_count + 1) * sizeof(job->tasks[0]));
    uint32_t n = 0;
    for (int i = 0; i < job->build_count; i++) {
        for (uint32_t task = 0; task < job->builds[i]->build.task_count; task++)
            job->tasks[n++] = (struct build_task){job->builds[i], task};
    }
}

/* All pairs of a task, from all builders. */
static void gather(struct job *job, const struct build_task *t, struct table_pair *to)
{
    const struct table_build_task *task = &t->build->build.tasks[t->task];
    uint64_t n = 0;
    for (uint32_t part = task->first; part < task->first + task->parts; part++) {
        for (int i = 0; i < job->builder_count; i++) {
            struct db_pairs *d = job->builders[i].dbs[t->build->db];
            struct pair_block *block = d ? d->blocks[part] : NULL, *next;
            for (; block; block = next) {
                next = block->next;
                memcpy(to + n, block->pairs, block->used * sizeof(*to));
                n += block->used;
                mem_free(block);
            }
            if (d)
                d->blocks[part] = NULL;
        }
    }
    assert(n == task->items);
}

static void reject(void *ctx, void *item)
{
    struct builder *b = ctx;
    rdb_drop_entry(b->loader, item);
}

static void build_tables(struct builder *b)
{
    struct job *job = b->job;
    for (;;) {
        uint32_t i = __atomic_fetch_add(&job->next_task, 1, __ATOMIC_RELAXED);
        if (i >= job->task_count)
            return;
        struct build_task *t = &job->tasks[i];
        uint64_t items = t->build->build.tasks[t->task].items;
        if (items > b->room) {
            mem_free(b->pairs);
            mem_free(b->scratch);
            b->room = items + items / 8;
            b->pairs = mem_alloc(b->room * sizeof(*b->pairs));
            b->scratch = mem_alloc(b->room * sizeof(*b->pairs));
        }
        gather(job, t, b->pairs);
        if (!table_build_task(&t->build->build, &b->epoch, t->task, b->pairs, b->scratch, reject,
                              b))
            __atomic_store_n(&job->rejected, true, __ATOMIC_RELAXED);
    }
}

/* --- the threads -------------------------------------------------------------------------------
 */

/* Wait until all have parsed; the last one to come makes the plan. */
static void meet(struct job *job)
{
    struct error err = {0};
    pthread_mutex_lock(&job->lock);
    if (--job->parsing == 0) {
        if (!job->failed && !check_whole(job, &err)) {
            job->err = err;
            __atomic_store_n(&job->failed, true, __ATOMIC_RELAXED);
        }
        if (!job->failed)
            plan(job);
        job->planned = true;
        pthread_cond_broadcast(&job->changed);
    }
    while (!job->planned)
        pthread_cond_wait(&job->changed, &job->lock);
    pthread_mutex_unlock(&job->lock);
}

static void work(struct builder *b, bool scans)
{
    struct job *job = b->job;
    struct part *p;
    builder_init(b);
    if (scans)
        scan(b);
    while ((p = take_part(job)))
        load_part(b, p);
    meet(job);
    if (has_failed(job))
        drop_pairs(b);
    else
        build_tables(b);
    mem_free(b->pairs);
    mem_free(b->scratch);

    void (*wake)(void *) = job->options->wake;
    void *ctx = job->options->wait_ctx;
    pthread_mutex_lock(&job->lock);
    bool last = --job->working == 0;
    job->finished = last;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
    if (last && wake)
        wake(ctx);
}

static void worker_thread(void *arg)
{
    work(arg, false);
}

static void scanner_thread(void *arg)
{
    work(arg, true);
}

/* Start the workers, and the one that scans if there is no index. The lock keeps them until it is
 * known how many there are. */
static bool start_threads(struct job *job, bool scans, struct error *err)
{
    int wanted = job->workers + scans, started = 0;
    job->builders = mem_zalloc((size_t)wanted * sizeof(struct builder));
    for (int i = 0; i < wanted; i++) {
        job->builders[i].job = job;
        job->builders[i].dbs = mem_zalloc((size_t)job->ks->db_count * sizeof(struct db_pairs *));
    }
    pthread_mutex_lock(&job->lock);
    for (; started < wanted; started++) {
        bool first_scans = scans && started == 0;
        if (!os_thread_start(&job->builders[started].thread, first_scans ? "hf-scan" : "hf-load",
                             first_scans ? scanner_thread : worker_thread, &job->builders[started],
                             err))
            break;
    }
    job->parsing = job->working = (uint32_t)started;
    job->finished = started == 0;
    bool enough = started > (scans ? 1 : 0);
    if (!enough) {
        job->failed = true;
        job->err = *err;
    }
    job->workers = started - scans;
    for (int i = started; i < wanted; i++)
        mem_free(job->builders[i].dbs);
    job->builder_count = started;
    pthread_mutex_unlock(&job->lock);
    return enough;
}

static void tell_progress(struct job *job, struct rdb_load_stats *stats)
{
    const struct rdb_load_options *o = job->options;
    uint64_t done = job->start;
    stats->keys = 0;
    for (int i = 0; i < job->builder_count; i++) {
        done += __atomic_load_n(&job->builders[i].bytes, __ATOMIC_RELAXED);
        stats->keys += __atomic_load_n(&job->builders[i].keys, __ATOMIC_RELAXED);
    }
    if (o->progress)
        o->progress(o->progress_ctx, done, job->size);
    if (o->cancel && *o->cancel)
        fail(job, &(struct error){.code = ERROR_CANCELLED, .message = "the load was cancelled"});
}

static bool is_finished(struct job *job)
{
    pthread_mutex_lock(&job->lock);
    if (!job->finished && !job->options->wait) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += WAIT_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        pthread_cond_timedwait(&job->changed, &job->lock, &until);
    }
    bool finished = job->finished;
    pthread_mutex_unlock(&job->lock);
    return finished;
}

static void wait_for_threads(struct job *job, struct rdb_load_stats *stats)
{
    while (!is_finished(job)) {
        if (job->options->wait)
            job->options->wait(job->options->wait_ctx, WAIT_MS);
        tell_progress(job, stats);
    }
    for (int i = 0; i < job->builder_count; i++)
        pthread_join(job->builders[i].thread, NULL);
}

/* --- the caller --------------------------------------------------------------------------------
 */

/* Everything before the first record that is neither field nor function, and what stands at the end. */
static bool read_ends(struct job *job, struct rdb_load_stats *stats, struct error *err)
{
    struct range range = {job->file, 0, job->size};
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    unsigned char end[9];
    size_t got;
    reader_init_range(&r, &range, err);
    bool ok = rdb_records_begin(&it, &r);
    it.verify = false;
    while (ok && (ok = rdb_records_next(&it, &record)) &&
           (record.kind == RDB_RECORD_AUX || record.kind == RDB_RECORD_FUNCTION)) {
        if (record.kind == RDB_RECORD_AUX)
            rdb_note_aux(&record, stats);
        else
            libraries_append(&job->ks->libraries, record.value.bytes);
    }
    if (ok) {
        stats->version = job->version = it.version;
        job->start = record.offset;
        job->tail = job->size - sizeof(end);
    }
    rdb_records_end(&it);
    rdb_reader_deinit(&r);
    if (!ok || job->version < 5 || job->size < job->start + sizeof(end))
        return ok && error_set(err, ERROR_UNSUPPORTED, "a file without a checksum");
    if (!os_file_read_at(job->file, job->tail, end, sizeof(end), &got, err))
        return false;
    if (got != sizeof(end) || end[0] != RDB_OP_EOF)
        return error_set(err, ERROR_CORRUPT, "there is no end marker at the end");
    job->stored_crc = bytes_le64(end + 1);
    return true;
}

/* Make parts of the chunks that the index names. False: there is none to be used. */
static bool queue_chunks(struct job *job)
{
    struct load_index index;
    struct error ignored;
    if (!load_index_read(&index, job->file, job->size, &ignored))
        return false;
    bool usable = index.count > 0 && index.chunks[0].offset == job->start;
    for (uint64_t i = 0; usable && i < index.count; i++) {
        const struct load_chunk *c = &index.chunks[i];
        uint64_t to = i + 1 < index.count ? c[1].offset : index.offset;
        struct part p = {.from = c->offset, .to = to, .db = c->db, .chunk = true, .keys = c->keys};
        append_part(job, &p, false);
    }
    if (usable) {
        job->tail = index.offset;
        job->all_queued = true;
    }
    load_index_deinit(&index);
    return usable;
}

/* Link what was built into the keyspace; or away with it, if there was a key twice. */
static bool take_tables(struct job *job, struct error *err)
{
    for (int i = 0; i < job->build_count; i++) {
        struct db_build *b = job->builds[i];
        struct db *db = &job->ks->dbs[b->db];
        table_build_finish(&b->build, &job->ks->epoch, &db->table);
        if (job->rejected) {
            table_clear(&db->table, &job->ks->epoch);
            continue;
        }
        db->expires += b->expires;
        db->timed += b->timed;
    }
    return !job->rejected || error_set(err, ERROR_CORRUPT, "a key occurs twice");
}

static void sum_stats(const struct job *job, struct rdb_load_stats *stats)
{
    stats->keys = 0;
    for (int i = 0; i < job->builder_count; i++) {
        const struct rdb_load_stats *s = &job->builders[i].stats;
        stats->keys += s->keys;
        stats->expired += s->expired;
        stats->empty += s->empty;
        if (s->created_ms)
            stats->created_ms = s->created_ms;
        if (s->repl_id[0])
            memcpy(stats->repl_id, s->repl_id, sizeof(stats->repl_id));
        if (s->repl_offset)
            stats->repl_offset = s->repl_offset;
        if (s->log_id[0])
            memcpy(stats->log_id, s->log_id, sizeof(stats->log_id));
        if (s->log_lsn)
            stats->log_lsn = s->log_lsn;
        stats->log_beyond |= s->log_beyond;
    }
    stats->threads = job->builder_count;
}

static void job_deinit(struct job *job)
{
    struct part *next;
    for (struct part *p = job->first; p; p = next) {
        next = p->next;
        mem_free(p->data);
        mem_free(p);
    }
    for (int i = 0; i < job->builder_count; i++) {
        struct builder *b = &job->builders[i];
        for (int db = 0; db < job->ks->db_count; db++)
            mem_free(b->dbs[db]);
        mem_free(b->dbs);
        rdb_loader_free(b->loader);
        epoch_deinit(&b->epoch);
    }
    mem_free(job->builders);
    for (int i = 0; i < job->build_count; i++)
        mem_free(job->builds[i]);
    mem_free(job->builds);
    mem_free(job->tasks);
    pthread_cond_destroy(&job->changed);
    pthread_mutex_destroy(&job->lock);
}

static void job_init(struct job *job, struct keyspace *ks, struct os_file *f, uint64_t size,
                     const struct rdb_load_options *options)
{
    *job = (struct job){
        .ks = ks, .file = f, .size = size, .options = options, .workers = options->threads};
    job->last = &job->first;
    job->queue_last = &job->queue;
    pthread_mutex_init(&job->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &attr);
    pthread_condattr_destroy(&attr);
}

bool load_by_threads(struct keyspace *ks, struct os_file *f, uint64_t size,
                     const struct rdb_load_options *options, struct rdb_load_stats *stats,
                     struct error *err)
{
    struct job job;
    *stats = (struct rdb_load_stats){0};
    *err = (struct error){0};
    job_init(&job, ks, f, size, options);
    bool ok = read_ends(&job, stats, err);
    if (ok) {
        stats->indexed = queue_chunks(&job);
        uint64_t epoch = ks->epoch.now;
        ok = start_threads(&job, !stats->indexed, err);
        wait_for_threads(&job, stats);
        assert(ks->epoch.now == epoch);
        (void)epoch;
        if (job.failed)
            *err = job.err;
        ok = ok && !job.failed && take_tables(&job, err);
        if (ok)
            sum_stats(&job, stats);
    }
    job_deinit(&job);
    return ok;
}
