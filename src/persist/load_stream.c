/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load_stream.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "keyspace/libraries.h"
#include "persist/load_job.h"

/* What the stream is cut into. */
#define PART_BYTES ((size_t)512 << 10)
/* What is asked for at once while a large record is read: it must fit behind one in the next
 * part. */
#define PIECE_BYTES ((size_t)256 << 10)
/* Where the size is not known: what it is surely below. */
#define SIZE_UNKNOWN (UINT64_MAX / 2)

struct cutter {
    struct load_job *job;
    const struct load_stream *stream;
    uint64_t taken;      /* bytes that were read */
    unsigned char *data; /* what stands from `at` on, of PART_BYTES */
    size_t have, whole;  /* whole: so many of them are whole records */
    uint64_t at;
    int db, next_db; /* selected at the begin, and behind what is whole */
    bool ended;      /* the end marker was found, behind what is whole */
    size_t end_size; /* of the marker and the checksum */
    struct error *err;
    struct os_polite polite;
};

static bool more_to_read(const struct cutter *c)
{
    return c->stream->size == 0 || c->taken < c->stream->size;
}

/* No length that is claimed can reach beyond it. */
static uint64_t size_known(const struct cutter *c)
{
    return c->stream->size != 0 ? c->stream->size : SIZE_UNKNOWN;
}

static bool read_some(struct cutter *c, void *data, size_t room, size_t *got)
{
    const struct load_stream *s = c->stream;
    *got = 0;
    if (s->size != 0 && room > s->size - c->taken)
        room = (size_t)(s->size - c->taken);
    if (room == 0)
        return true;
    if (!s->read(s->ctx, data, room, got, c->err))
        return false;
    c->taken += *got;
    return true;
}

/* The reader is through with what it needed: what it has read beyond goes on as the next part. */
static void keep_rest(struct cutter *c, struct rdb_reader *r)
{
    size_t rest = (size_t)(r->end - r->cur);
    assert(rest <= PART_BYTES);
    memmove(c->data, r->cur, rest);
    c->at = rdb_reader_offset(r);
    c->have = rest;
    c->whole = 0;
}

/* --- the head ----------------------------------------------------------------------------------
 */

static bool fill_piece(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    (void)err;
    return read_some(ctx, data, room < PIECE_BYTES ? room : PIECE_BYTES, got);
}

/* The fields and libraries, which stand before everything else. */
static bool take_head(struct cutter *c, struct rdb_reader *r, struct rdb_load_stats *stats)
{
    struct rdb_records it;
    struct rdb_record record;
    uint8_t code;
    r->later = c->job->ks->later_rdb;
    bool ok = rdb_records_begin(&it, r);
    while (ok && (ok = rdb_peek_u8(r, &code)) && (code == RDB_OP_AUX || code == RDB_OP_FUNCTION2)) {
        ok = rdb_records_next(&it, &record);
        if (ok && record.kind == RDB_RECORD_AUX)
            rdb_note_aux(&record, stats);
        else if (ok)
            libraries_append(&c->job->ks->libraries, record.value.bytes);
    }
    stats->version = c->job->version = it.version;
    rdb_records_end(&it);
    return ok && (c->job->version >= 5 ||
                  rdb_fail(r, ERROR_UNSUPPORTED, "RDB version %d comes without a checksum",
                           c->job->version));
}

static bool read_head(struct cutter *c, struct rdb_load_stats *stats)
{
    struct rdb_reader r;
    rdb_reader_init_stream(&r, size_known(c), fill_piece, c, c->err);
    bool ok = take_head(c, &r, stats);
    if (ok) {
        c->job->head_crc = rdb_reader_crc(&r);
        keep_rest(c, &r);
        c->job->start = c->at;
    }
    rdb_reader_deinit(&r);
    return ok;
}

/* --- parts of many records ----------------------------------------------------------------------
 */

/* How far whole records go now. False: what has come is damaged. */
static bool find_whole(struct cutter *c)
{
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    struct error err = {0};
    load_reader_init_bytes(&r, c->data + c->whole, c->have - c->whole, c->at + c->whole, &err);
    r.size = size_known(c);
    rdb_records_resume(&it, &r, c->job->version, c->next_db);
    while (r.cur < r.end && rdb_records_next(&it, &record)) {
        if (record.kind == RDB_RECORD_END) {
            c->ended = true;
            c->end_size = (size_t)(r.cur - c->data) - c->whole;
            c->job->stored_crc = bytes_le64(r.cur - 8);
            break;
        }
        if (record.kind == RDB_RECORD_KEY && !rdb_skip_value(&r, record.type))
            break;
        c->whole = (size_t)(r.cur - c->data);
        c->next_db = it.db;
    }
    rdb_records_end(&it);
    rdb_reader_deinit(&r);
    if (err.code == ERROR_NONE || err.code == ERROR_TRUNCATED)
        return true;
    *c->err = err;
    return false;
}

/* Give away what is whole; the rest moves to a buffer of its own. */
static void cut(struct cutter *c)
{
    struct load_part p = {.from = c->at,
                          .to = c->at + c->whole,
                          .db = c->db,
                          .data = c->data,
                          .spilled = OS_FILE_CLOSED};
    if (c->whole == 0)
        return;
    c->data = mem_alloc(PART_BYTES);
    c->have -= c->whole;
    memcpy(c->data, p.data + c->whole, c->have);
    c->at += c->whole;
    c->whole = 0;
    c->db = c->next_db;
    load_job_append(c->job, &p, false);
}

/* --- a large record ----------------------------------------------------------------------------
 */

/* What has been read of it, from its first byte on: first in memory, then in a file. */
struct large {
    struct cutter *c;
    size_t given; /* of what the cutter had */
    unsigned char *data;
    size_t used, room;
    struct os_file file;
};

static bool spill(struct large *l)
{
    struct error ignored;
    const char *path = l->c->stream->path;
    os_unlink(path, &ignored);
    if (!os_file_open(&l->file, path, OS_OPEN_CREATE_EXCLUSIVE, l->c->err))
        return false;
    os_unlink(path, &ignored);
    bool ok = os_file_write(&l->file, l->data, l->used, l->c->err);
    mem_free(l->data);
    l->data = NULL;
    return ok;
}

static bool put(struct large *l, const void *data, size_t size)
{
    if (l->file.fd < 0 && l->used + size > LOAD_STREAM_HELD && !spill(l))
        return false;
    if (l->file.fd >= 0)
        return os_file_write(&l->file, data, size, l->c->err);
    if (l->used + size > l->room) {
        l->room = l->used + size > l->room * 2 ? l->used + size : l->room * 2;
        l->data = mem_realloc(l->data, l->room);
    }
    memcpy(l->data + l->used, data, size);
    l->used += size;
    return true;
}

static bool fill_large(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct large *l = ctx;
    struct cutter *c = l->c;
    size_t left = c->have - l->given;
    if (room > PIECE_BYTES)
        room = PIECE_BYTES;
    if (left == 0)
        return fill_piece(c, data, room, got, err) && put(l, data, *got);
    *got = left < room ? left : room;
    memcpy(data, c->data + l->given, *got);
    l->given += *got;
    return put(l, data, *got);
}

/* One record: what it is made of is passed over as it comes. */
static bool read_through(struct cutter *c, struct rdb_reader *r)
{
    struct rdb_records it;
    struct rdb_record record;
    rdb_records_resume(&it, r, c->job->version, c->db);
    bool ok = rdb_records_next(&it, &record);
    if (ok && record.kind != RDB_RECORD_KEY)
        ok = rdb_fail(r, ERROR_CORRUPT, "a record of more than %zu bytes that is no key",
                      LOAD_STREAM_RECORD);
    ok = ok && rdb_skip_value(r, record.type);
    rdb_records_end(&it);
    return ok;
}

static bool take_large(struct cutter *c)
{
    struct large l = {.c = c, .file = OS_FILE_CLOSED};
    struct load_part p = {.from = c->at, .db = c->db, .spilled = OS_FILE_CLOSED};
    struct rdb_reader r;
    struct error ignored;
    rdb_reader_init_stream(&r, size_known(c), fill_large, &l, c->err);
    r.offset = c->at;
    bool ok = read_through(c, &r);
    if (ok) {
        assert(l.given == c->have);
        keep_rest(c, &r);
        p.to = c->at;
        p.data = l.data;
        p.spilled = l.file;
        load_job_append(c->job, &p, false);
    } else {
        mem_free(l.data);
        if (l.file.fd >= 0)
            os_file_close(&l.file, &ignored);
    }
    rdb_reader_deinit(&r);
    return ok;
}

/* --- all of it ---------------------------------------------------------------------------------
 */

static bool cut_some(struct cutter *c)
{
    size_t got;
    if (!find_whole(c))
        return false;
    if (c->ended) {
        cut(c);
        return true;
    }
    if (c->have - c->whole > LOAD_STREAM_RECORD) {
        cut(c);
        return take_large(c);
    }
    if (c->have == PART_BYTES)
        cut(c);
    if (!more_to_read(c))
        return error_set(c->err, ERROR_TRUNCATED, "offset %llu: there is no end marker",
                         (unsigned long long)c->taken);
    if (!read_some(c, c->data + c->have, PART_BYTES - c->have, &got))
        return false;
    c->have += got;
    return true;
}

static bool cut_all(struct cutter *c)
{
    const struct load_stream *s = c->stream;
    while (!c->ended && !load_job_has_failed(c->job)) {
        if (s->cancelled(s->ctx))
            return error_set(c->err, ERROR_CANCELLED, "it was given up");
        if (!cut_some(c))
            return false;
        if (c->job->options->polite)
            os_polite_check(&c->polite);
    }
    c->job->tail = c->at;
    if (s->size != 0 && c->ended && c->at + c->end_size != s->size)
        return error_set(c->err, ERROR_CORRUPT, "there is more behind the end");
    return true;
}

/* Whatever happens, all threads have ended when it returns. */
static bool run(struct cutter *c, struct rdb_load_stats *stats)
{
    struct load_job *job = c->job;
    if (job->options->polite)
        os_polite_begin(&c->polite);
    if (!load_job_start(job, c->err)) {
        load_job_all_queued(job);
        load_job_wait(job, stats);
        return false;
    }
    bool ok = cut_all(c);
    if (!ok)
        load_job_fail(job, c->err);
    load_job_all_queued(job);
    load_job_wait(job, stats);
    if (job->failed)
        *c->err = job->err;
    return !job->failed && load_job_take_tables(job, c->err);
}

bool load_stream(struct keyspace *ks, const struct load_stream *stream,
                 const struct rdb_load_options *options, struct rdb_load_stats *stats, char **rest,
                 size_t *rest_size, struct error *err)
{
    struct load_job job;
    struct cutter c = {.job = &job, .stream = stream, .err = err};
    *stats = (struct rdb_load_stats){0};
    *err = (struct error){0};
    load_job_init(&job, ks, NULL, 0, options);
    job.cancelled = stream->cancelled;
    job.cancelled_ctx = stream->ctx;
    c.data = mem_alloc(PART_BYTES);
    bool ok = read_head(&c, stats) && run(&c, stats);
    if (ok) {
        load_job_sum_stats(&job, stats);
        *rest_size = c.have - c.end_size;
        *rest = mem_dup((const char *)c.data + c.end_size, *rest_size);
    } else {
        libraries_replace(&ks->libraries, NULL);
    }
    if (options->polite)
        os_polite_end(&c.polite);
    mem_free(c.data);
    load_job_deinit(&job);
    return ok;
}
