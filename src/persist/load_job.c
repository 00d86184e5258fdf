/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load_job.h"

#include <assert.h>
#include <time.h>

#include "base/crc.h"
#include "base/mem.h"

/* How many parts in memory wait for a worker at most, for each worker. */
#define PARTS_AHEAD 3U
#define WAIT_MS 10
/* Progress is written down after so many keys. */
#define PROGRESS_KEYS 64

/* Pairs whose hashes have one top byte. The blocks of a list grow, so that a database of a few keys
 * costs little and one of many is not made of crumbs: 7, 15, ... 255 pairs are 128 to 4096
 * bytes. */
#define BLOCK_PAIRS_FIRST 7U
#define BLOCK_PAIRS_LAST 255U
struct pair_block {
    struct pair_block *next;
    uint32_t room;
    struct table_pair pairs[];
};

bool load_job_has_failed(const struct load_job *job)
{
    return __atomic_load_n(&job->failed, __ATOMIC_RELAXED);
}

/* The first error is the one that is told. Once there is a plan nothing fails any more, as then the
 * threads build from each other's pairs: who gives up at that point gets the whole load. */
void load_job_fail(struct load_job *job, const struct error *err)
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

static void builder_init(struct load_builder *b)
{
    epoch_init(&b->epoch, false);
    b->epoch.now = b->job->ks->epoch.now;
    b->loader = rdb_loader_new(&b->epoch, &b->job->ks->limits);
    /* Whatever is wrong, the one thread that then reads the file again says where. */
    rdb_loader_set_bulk(b->loader, true);
}

static void add_block(struct pair_part *part)
{
    uint32_t room = BLOCK_PAIRS_FIRST;
    if (part->block)
        room = part->block->room < BLOCK_PAIRS_LAST ? part->block->room * 2 + 1 : BLOCK_PAIRS_LAST;
    struct pair_block *block = mem_alloc(sizeof(*block) + room * sizeof(block->pairs[0]));
    *block = (struct pair_block){.next = part->block, .room = room};
    part->block = block;
    part->next = block->pairs;
    part->end = block->pairs + room;
}

/* Take the part's newest block away from it; NULL: there is none. *used: the pairs in it. */
static struct pair_block *take_block(struct pair_part *part, size_t *used)
{
    struct pair_block *block = part->block;
    if (block) {
        *used = (size_t)(part->next - block->pairs);
        part->block = block->next;
        /* Those before it are full. */
        part->next = part->block ? part->block->pairs + part->block->room : NULL;
    }
    return block;
}

static void add_entry(struct load_builder *b, int db, uint64_t hash, struct entry *e)
{
    struct db_pairs *d = b->dbs[db];
    if (__builtin_expect(!d, 0))
        d = b->dbs[db] = mem_zalloc(sizeof(*d));
    struct pair_part *part = &d->parts[table_build_part(hash)];
    if (__builtin_expect(part->next == part->end, 0))
        add_block(part);
    bool expires = e->flags & ENTRY_EXPIRES, timed = entry_timed(e) > 0;
    *part->next++ =
        (struct table_pair){hash, (uintptr_t)e | (expires || timed ? TABLE_PAIR_DUE : 0)};
    part->count++;
    d->expires += expires;
    d->timed += timed;
    ++*keysizes_count_of(&d->sizes, e);
}

static void drop_pairs(struct load_builder *b)
{
    for (int db = 0; db < b->job->ks->db_count; db++) {
        for (uint32_t part = 0; b->dbs[db] && part < TABLE_BUILD_PARTS; part++) {
            struct pair_block *block;
            size_t used;
            while ((block = take_block(&b->dbs[db]->parts[part], &used))) {
                for (size_t i = 0; i < used; i++)
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

static bool fill_from_range(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct load_range *range = ctx;
    if (room > range->end - range->at)
        room = (size_t)(range->end - range->at);
    *got = 0;
    if (room > 0 && !os_file_read_at(range->file, range->at, data, room, got, err))
        return error_prefix(err, "offset %llu", (unsigned long long)range->at);
    range->at += *got;
    return true;
}

void load_reader_init_range(struct rdb_reader *r, struct load_range *range, struct error *err)
{
    uint64_t at = range->at;
    rdb_reader_init_stream(r, range->end, fill_from_range, range, err);
    r->offset = at;
}

void load_reader_init_bytes(struct rdb_reader *r, const void *data, size_t size, uint64_t from,
                              struct error *err)
{
    rdb_reader_init_memory(r, data, size, err);
    r->offset = r->size = from + size;
}

static bool load_key(struct load_builder *b, struct rdb_reader *r, const struct rdb_record *record)
{
    const struct load_job *job = b->job;
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

bool load_job_record(struct load_builder *b, struct rdb_reader *r, const struct rdb_record *record,
                        const struct load_part *p)
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

void load_job_note_progress(struct load_builder *b, uint64_t bytes)
{
    __atomic_store_n(&b->bytes, bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&b->keys, b->stats.keys, __ATOMIC_RELAXED);
}

static bool load_records(struct load_builder *b, struct rdb_reader *r, struct load_part *p)
{
    struct rdb_records it;
    struct rdb_record record;
    uint64_t keys = 0, before = b->bytes;
    bool ok = true;
    rdb_records_resume(&it, r, b->job->version, p->chunk ? -1 : p->db);
    while (ok && rdb_reader_offset(r) < p->to) {
        ok = rdb_records_next(&it, &record) && load_job_record(b, r, &record, p);
        keys += ok && record.kind == RDB_RECORD_KEY;
        if (keys % PROGRESS_KEYS == 0) {
            load_job_note_progress(b, before + rdb_reader_offset(r) - p->from);
            if (load_job_has_failed(b->job))
                break;
            if (b->job->options->polite)
                os_polite_check(&b->polite);
        }
    }
    rdb_records_end(&it);
    if (ok && p->chunk && keys != p->keys && !load_job_has_failed(b->job))
        ok = rdb_fail(r, ERROR_CORRUPT, "a chunk has %llu keys and not %llu",
                      (unsigned long long)keys, (unsigned long long)p->keys);
    load_job_note_progress(b, before + p->to - p->from);
    return ok;
}

/* A file that holds nothing but this part. */
static void reader_init_spilled(struct rdb_reader *r, struct load_part *p, struct load_range *range,
                                struct error *err)
{
    *range = (struct load_range){&p->spilled, 0, p->to - p->from};
    load_reader_init_range(r, range, err);
    r->offset += p->from;
    r->size += p->from;
}

static void load_part(struct load_builder *b, struct load_part *p)
{
    struct error err = {0}, ignored;
    struct rdb_reader r;
    struct load_range range = {b->job->file, p->from, p->to};
    const void *data = p->buffer ? (const void *)p->buffer->data : p->data;
    if (data)
        load_reader_init_bytes(&r, data, (size_t)(p->to - p->from), p->from, &err);
    else if (p->spilled.fd >= 0)
        reader_init_spilled(&r, p, &range, &err);
    else
        load_reader_init_range(&r, &range, &err);
    if (load_records(b, &r, p))
        p->crc = rdb_reader_crc(&r);
    else
        load_job_fail(b->job, &err);
    rdb_reader_deinit(&r);
    if (p->buffer)
        load_ahead_give_back(b->job, p->buffer);
    p->buffer = NULL;
    mem_free(p->data);
    p->data = NULL;
    if (p->spilled.fd >= 0)
        os_file_close(&p->spilled, &ignored);
}

void load_job_append(struct load_job *job, const struct load_part *part, bool loaded)
{
    struct load_part *p = mem_alloc(sizeof(*p));
    *p = *part;
    pthread_mutex_lock(&job->lock);
    while (!loaded && !p->chunk && job->queued >= PARTS_AHEAD * (uint32_t)job->workers &&
           !job->failed)
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

void load_job_all_queued(struct load_job *job)
{
    pthread_mutex_lock(&job->lock);
    job->all_queued = true;
    pthread_cond_broadcast(&job->changed);
    pthread_mutex_unlock(&job->lock);
}

/* The next part to be loaded; NULL: there will be none. */
static struct load_part *take_part(struct load_job *job)
{
    pthread_mutex_lock(&job->lock);
    while ((job->queue ? job->queue->awaited : !job->all_queued) && !job->failed)
        pthread_cond_wait(&job->changed, &job->lock);
    struct load_part *p = job->failed ? NULL : job->queue;
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

/* --- from pairs to tables ----------------------------------------------------------------------
 */

bool load_crc_of_range(struct os_file *f, uint64_t from, uint64_t to, uint64_t *crc,
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

/* What stands behind the parts and before the checksum: of a stream the end marker alone. */
static bool add_crc_of_tail(struct load_job *job, uint64_t *crc, struct error *err)
{
    const unsigned char end = RDB_OP_EOF;
    if (job->file)
        return load_crc_of_range(job->file, job->tail, job->size - 8, crc, err);
    *crc = crc64(*crc, &end, 1);
    return true;
}

/* The parts follow each other, and the sum of all bytes is what stands at the end. */
static bool check_whole(struct load_job *job, struct error *err)
{
    bool sum = job->options->checksum && job->stored_crc != 0;
    uint64_t crc = job->head_crc, at = job->start;
    for (const struct load_part *p = job->first; p; p = p->next) {
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
    if (sum && !add_crc_of_tail(job, &crc, err))
        return false;
    return !sum || crc == job->stored_crc ||
           error_set(err, ERROR_CORRUPT, "the checksum is %016llx but should be %016llx",
                     (unsigned long long)crc, (unsigned long long)job->stored_crc);
}

static void plan_db(struct load_job *job, int db)
{
    uint64_t counts[TABLE_BUILD_PARTS] = {0}, expires = 0, timed = 0, keys = 0;
    for (int i = 0; i < job->builder_count; i++) {
        const struct db_pairs *d = job->builders[i].dbs[db];
        for (uint32_t k = 0; d && k < TABLE_BUILD_PARTS; k++) {
            counts[k] += d->parts[k].count;
            keys += d->parts[k].count;
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
    b->sizes = (struct keysizes){0};
    for (int i = 0; i < job->builder_count; i++) {
        if (job->builders[i].dbs[db])
            keysizes_add(&b->sizes, &job->builders[i].dbs[db]->sizes);
    }
    table_build_plan(&b->build, job->ks->dbs[db].table.type, counts);
    job->builds[job->build_count++] = b;
    job->task_count += b->build.task_count;
}

static void plan(struct load_job *job)
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
static void gather(struct load_job *job, const struct build_task *t, struct table_pair *to)
{
    const struct table_build_task *task = &t->build->build.tasks[t->task];
    uint64_t n = 0;
    for (uint32_t part = task->first; part < task->first + task->parts; part++) {
        for (int i = 0; i < job->builder_count; i++) {
            struct db_pairs *d = job->builders[i].dbs[t->build->db];
            struct pair_block *block;
            size_t used;
            while (d && (block = take_block(&d->parts[part], &used))) {
                memcpy(to + n, block->pairs, used * sizeof(*to));
                n += used;
                mem_free(block);
            }
        }
    }
    assert(n == task->items);
}

static void reject(void *ctx, void *item)
{
    struct load_builder *b = ctx;
    rdb_drop_entry(b->loader, item);
}

static void build_tables(struct load_builder *b)
{
    struct load_job *job = b->job;
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
        if (job->options->polite)
            os_polite_check(&b->polite);
        gather(job, t, b->pairs);
        if (!table_build_task(&t->build->build, &b->epoch, t->task, b->pairs, b->scratch, reject,
                              b))
            __atomic_store_n(&job->rejected, true, __ATOMIC_RELAXED);
    }
}

/* --- the threads -------------------------------------------------------------------------------
 */

/* Wait until all have parsed; the last one to come makes the plan. */
static void meet(struct load_job *job)
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

static void work(struct load_builder *b, bool scans)
{
    struct load_job *job = b->job;
    struct load_part *p;
    builder_init(b);
    if (job->options->polite)
        os_polite_begin(&b->polite);
    if (scans)
        job->scan(b);
    while ((p = take_part(job)))
        load_part(b, p);
    meet(job);
    if (load_job_has_failed(job))
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

bool load_job_start(struct load_job *job, struct error *err)
{
    bool scans = job->scan != NULL;
    int wanted = job->workers + scans, started = 0;
    job->builders = mem_zalloc((size_t)wanted * sizeof(struct load_builder));
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
    if (enough)
        load_ahead_start(job);
    pthread_mutex_unlock(&job->lock);
    return enough;
}

static void tell_progress(struct load_job *job, struct rdb_load_stats *stats)
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
    if ((o->cancel && *o->cancel) || (job->cancelled && job->cancelled(job->cancelled_ctx)))
        load_job_fail(
            job, &(struct error){.code = ERROR_CANCELLED, .message = "the load was cancelled"});
}

static bool is_finished(struct load_job *job)
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

void load_job_wait(struct load_job *job, struct rdb_load_stats *stats)
{
    while (!is_finished(job)) {
        if (job->options->wait)
            job->options->wait(job->options->wait_ctx, WAIT_MS);
        tell_progress(job, stats);
    }
    for (int i = 0; i < job->builder_count; i++)
        pthread_join(job->builders[i].thread, NULL);
}

bool load_job_take_tables(struct load_job *job, struct error *err)
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
        keysizes_add(db->sizes, &b->sizes);
    }
    return !job->rejected || error_set(err, ERROR_CORRUPT, "a key occurs twice");
}

void load_job_sum_stats(const struct load_job *job, struct rdb_load_stats *stats)
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
        stats->own |= s->own;
        if (s->lineage.count > 0)
            stats->lineage = s->lineage;
    }
    stats->threads = job->builder_count;
}

void load_job_deinit(struct load_job *job)
{
    struct error ignored;
    struct load_part *next;
    load_ahead_end(job);
    for (struct load_part *p = job->first; p; p = next) {
        next = p->next;
        mem_free(p->data);
        if (p->spilled.fd >= 0)
            os_file_close(&p->spilled, &ignored);
        mem_free(p);
    }
    for (int i = 0; i < job->builder_count; i++) {
        struct load_builder *b = &job->builders[i];
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

void load_job_init(struct load_job *job, struct keyspace *ks, struct os_file *f, uint64_t size,
                     const struct rdb_load_options *options)
{
    *job = (struct load_job){
        .ks = ks, .file = f, .size = size, .options = options, .workers = options->threads,
        .ahead = {.file = OS_FILE_CLOSED}};
    job->last = &job->first;
    job->queue_last = &job->queue;
    pthread_mutex_init(&job->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&job->changed, &attr);
    pthread_condattr_destroy(&attr);
}
