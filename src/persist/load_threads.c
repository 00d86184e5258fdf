/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load_threads.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "keyspace/libraries.h"
#include "persist/load_index.h"
#include "persist/load_job.h"

/* What the scanning thread cuts a file into. */
#define PART_BYTES (512U << 10)

/* --- the scanning thread: cuts a file without an index -----------------------------------------
 */

struct scan {
    struct load_job *job;
    struct load_builder *b;
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
    load_reader_init_bytes(&r, s->data, s->have, s->at, &s->err);
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
    struct load_part p = {
        .from = s->at, .to = s->at + size, .db = s->db, .data = s->data, .spilled = OS_FILE_CLOSED};
    size_t rest = s->have - size;
    s->data = mem_alloc(PART_BYTES);
    memcpy(s->data, p.data + size, rest);
    s->have = rest;
    s->at += size;
    s->db = db;
    load_job_append(s->job, &p, false);
}

/* A record that is larger than a part: built here, read piece by piece. */
static bool scan_large(struct scan *s)
{
    struct load_part p = {
        .from = s->at, .to = s->job->size, .db = s->db, .spilled = OS_FILE_CLOSED};
    struct load_range range = {s->job->file, s->at, s->job->size};
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    load_reader_init_range(&r, &range, &s->err);
    rdb_records_resume(&it, &r, s->job->version, s->db);
    bool ok = rdb_records_next(&it, &record) && load_job_record(s->b, &r, &record, &p);
    if (ok) {
        p.to = s->at = rdb_reader_offset(&r);
        p.crc = rdb_reader_crc(&r);
        s->have = 0;
        load_job_append(s->job, &p, true);
        load_job_note_progress(s->b, s->b->bytes + p.to - p.from);
    }
    rdb_records_end(&it);
    rdb_reader_deinit(&r);
    return ok;
}

static bool scan_parts(struct scan *s)
{
    while (!s->ended && !load_job_has_failed(s->job)) {
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

static void scan(struct load_builder *b)
{
    struct load_job *job = b->job;
    struct scan s = {.job = job, .b = b, .at = job->start};
    if (!scan_parts(&s))
        load_job_fail(job, &s.err);
    mem_free(s.data);
    load_job_all_queued(job);
}

/* --- the caller --------------------------------------------------------------------------------
 */

/* Everything before the first record that is neither field nor function, and what stands at the
 * end. */
static bool read_ends(struct load_job *job, struct rdb_load_stats *stats, struct error *err)
{
    struct load_range range = {job->file, 0, job->size};
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    unsigned char end[9];
    size_t got;
    load_reader_init_range(&r, &range, err);
    r.later = job->ks->later_rdb;
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
    return !job->options->checksum || job->stored_crc == 0 ||
           load_crc_of_range(job->file, 0, job->start, &job->head_crc, err);
}

/* Make parts of the chunks that the index names. False: there is none to be used. */
static bool queue_chunks(struct load_job *job)
{
    struct load_index index;
    struct error ignored;
    if (!load_index_read(&index, job->file, job->size, &ignored))
        return false;
    bool usable = index.count > 0 && index.chunks[0].offset == job->start;
    for (uint64_t i = 0; usable && i < index.count; i++) {
        const struct load_chunk *c = &index.chunks[i];
        uint64_t to = i + 1 < index.count ? c[1].offset : index.offset;
        struct load_part p = {.from = c->offset,
                              .to = to,
                              .db = c->db,
                              .chunk = true,
                              .keys = c->keys,
                              .spilled = OS_FILE_CLOSED};
        load_job_append(job, &p, false);
    }
    if (usable) {
        job->tail = index.offset;
        job->all_queued = true;
        /* Another descriptor, as how a file is read belongs to it. If there is none, so be it. */
        os_file_open(&job->ahead.file, job->file->path, OS_OPEN_READ, &ignored);
    }
    load_index_deinit(&index);
    return usable;
}

bool load_by_threads(struct keyspace *ks, struct os_file *f, uint64_t size,
                     const struct rdb_load_options *options, struct rdb_load_stats *stats,
                     struct error *err)
{
    struct load_job job;
    *stats = (struct rdb_load_stats){0};
    *err = (struct error){0};
    load_job_init(&job, ks, f, size, options);
    /* Chunks that came into the cache because what is before them was read would be taken for
     * warm, and with reading those the next ones would come, and so on. */
    os_file_read_ahead(f, false);
    bool ok = read_ends(&job, stats, err);
    if (ok) {
        stats->indexed = queue_chunks(&job);
        uint64_t epoch = ks->epoch.now;
        if (!stats->indexed) {
            job.scan = scan;
            os_file_read_ahead(f, true);
        }
        ok = load_job_start(&job, err);
        load_job_wait(&job, stats);
        assert(ks->epoch.now == epoch);
        (void)epoch;
        if (job.failed)
            *err = job.err;
        ok = ok && !job.failed && load_job_take_tables(&job, err);
        if (ok)
            load_job_sum_stats(&job, stats);
    }
    load_job_deinit(&job);
    os_file_read_ahead(f, true);
    return ok;
}
