/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/save_verify.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/mem.h"
#include "os/direct.h"
#include "os/process.h"
#include "persist/chain/link.h"

/* Chunks up to this are read into memory whole; longer ones, which hold a value that is large by
 * itself, are decoded as they are read. */
#define WHOLE_MAX (8U << 20)
#define SLEEP_US 20000
/* How much is read or hashed between two looks whether somebody wants the processor: some 50 us. */
#define STEP_BYTES (64U << 10)

void save_pace_begin(struct save_pace *p)
{
    *p = (struct save_pace){.begin_us = clock_monotonic_us()};
}

void save_pace_wait(struct save_pace *p, const struct save_options *options, uint64_t bytes,
                    const struct save_counters *counters)
{
    p->bytes += bytes;
    for (;;) {
        uint64_t rate = save_rate_limit(options);
        if (rate != p->rate)
            *p = (struct save_pace){
                .begin_us = clock_monotonic_us(), .bytes = bytes, .rate = rate};
        if (rate == 0)
            return;
        double due_us = (double)p->bytes / (double)rate * 1e6;
        double left = due_us - (double)(clock_monotonic_us() - p->begin_us);
        if (left <= 0 || __atomic_load_n(&counters->stop, __ATOMIC_RELAXED) ||
            __atomic_load_n(&counters->hurry, __ATOMIC_RELAXED))
            return;
        os_sleep_us(left < SLEEP_US ? (int64_t)left + 1 : SLEEP_US);
    }
}

struct verify {
    const struct save_written *f;
    const struct save_options *options;
    struct save_counters *counters;
    bool polite;
    bool past_cache; /* as the header could be read */
    uint64_t *done;
    struct save_pace pace; /* guarded by the lock */

    pthread_mutex_t lock;
    pthread_cond_t for_turn;
    size_t next_chunk;   /* to be taken */
    uint64_t hashed;     /* up to here the file is in the SHA-256: whose turn it is */
    EVP_MD_CTX *sha;     /* belongs to whose turn it is; NULL: it is not asked for */
    bool failed;         /* atomic */
    struct error err;    /* the first one */
};

/* One of those who read: the thread of the job for what is not in chunks, and helpers. What a value
 * that has to be built is built with is nothing of the keyspace's. */
struct helper {
    struct verify *v;
    pthread_t thread;
    struct os_direct in;
    struct os_polite *polite; /* NULL: it does not yield */
    uint64_t at, end;         /* what the stream that is being read may take */
    struct epoch epoch;
    struct encoding_limits limits;
    struct rdb_loader *loader;
};

static bool is_stopped(const struct verify *v)
{
    return __atomic_load_n(&v->counters->stop, __ATOMIC_RELAXED) ||
           __atomic_load_n(&v->failed, __ATOMIC_RELAXED);
}

static void make_room(struct helper *h)
{
    if (!h->polite)
        return;
    if (__atomic_load_n(&h->v->counters->hurry, __ATOMIC_RELAXED))
        os_polite_end(h->polite);
    else
        os_polite_check(h->polite);
}

/* Records -------------------------------------------------------------------------------------- */

struct found {
    uint64_t keys;
    uint64_t selects;
    uint64_t db; /* of the last SELECTDB */
    bool gone_allowed; /* in the header of a delta */
    uint64_t deleted;
    bool ended;  /* EOF was read: what is left is the checksum */
};

static bool read_plain_length(struct rdb_reader *r, uint64_t *v)
{
    bool special;
    if (!rdb_read_length(r, v, &special))
        return false;
    return special ? rdb_fail(r, ERROR_CORRUPT, "a length is expected") : true;
}

static bool check_record(struct rdb_reader *r, struct rdb_loader *l, struct found *found)
{
    uint8_t code, byte;
    uint64_t v;
    struct rdb_string s;
    if (!rdb_read_u8(r, &code))
        return false;
    if (found->gone_allowed && code >= LINK_DELETED && code <= LINK_SWAPPED) {
        found->deleted += code == LINK_DELETED;
        return rdb_read_string(r, &s);
    }
    switch (code) {
    case RDB_OP_EOF:
        found->ended = true;
        return true;
    case RDB_OP_AUX:
        return rdb_read_string(r, &s) && rdb_read_string(r, &s);
    case RDB_OP_FUNCTION2:
        return rdb_check_value(r, RDB_STRING, l);
    case RDB_OP_SELECTDB:
        found->selects++;
        return read_plain_length(r, &found->db);
    case RDB_OP_RESIZEDB:
        return read_plain_length(r, &v) && read_plain_length(r, &v);
    case RDB_OP_EXPIRE_MS:
        return rdb_read_le64(r, &v);
    case RDB_OP_IDLE:
        return read_plain_length(r, &v);
    case RDB_OP_FREQ:
        return rdb_read_u8(r, &byte);
    default:
        found->keys++;
        return rdb_check_value(r, RDB_STRING, l) && rdb_check_value(r, code, l);
    }
}

static bool check_chunk(struct helper *h, struct rdb_reader *r, const struct save_chunk *chunk)
{
    struct found found = {0};
    while (rdb_reader_left(r) > 0 && !found.ended) {
        if (!check_record(r, h->loader, &found))
            return false;
        if ((size_t)(r->cur - r->summed) < STEP_BYTES)
            continue;
        rdb_reader_crc(r);
        make_room(h);
    }
    if (found.ended || found.selects != 1 || found.db != (uint64_t)chunk->db ||
        found.keys != chunk->keys)
        return rdb_fail(r, ERROR_CORRUPT,
                        "the chunk before has %llu keys of database %llu instead of "
                        "%llu of %d",
                        (unsigned long long)found.keys, (unsigned long long)found.db,
                        (unsigned long long)chunk->keys, chunk->db);
    if (rdb_reader_crc(r) != chunk->crc)
        return rdb_fail(r, ERROR_CORRUPT, "the chunk before is not what was written");
    return true;
}

/* Reading -------------------------------------------------------------------------------------- */

static void keep_pace(struct verify *v, uint64_t bytes)
{
    if (save_rate_limit(v->options) == 0)
        return;
    /* All readers wait together. */
    pthread_mutex_lock(&v->lock);
    save_pace_wait(&v->pace, v->options, bytes, v->counters);
    pthread_mutex_unlock(&v->lock);
}

static bool go_on(const struct verify *v, struct error *err)
{
    return !is_stopped(v) || error_set(err, ERROR_CANCELLED, "the save was cancelled");
}

static void note_read(struct helper *h, uint64_t bytes)
{
    __atomic_fetch_add(h->v->done, bytes, __ATOMIC_RELAXED);
    keep_pace(h->v, bytes);
    make_room(h);
}

static bool read_next(struct helper *h, void *data, size_t size, size_t *got, struct error *err)
{
    if (size > STEP_BYTES)
        size = STEP_BYTES;
    if (!go_on(h->v, err) || !os_direct_read(&h->in, h->at, data, size, got, err))
        return false;
    h->at += *got;
    note_read(h, *got);
    return true;
}

static void hash_bytes_of(struct helper *h, const char *data, size_t size)
{
    for (size_t at = 0; at < size; at += STEP_BYTES) {
        EVP_DigestUpdate(h->v->sha, data + at, size - at < STEP_BYTES ? size - at : STEP_BYTES);
        make_room(h);
    }
}

/* The SHA-256 is one of the whole file: who comes to it waits until all before is in it. False: the
 * verification has failed or is to stop. */
static bool wait_turn(struct helper *h, uint64_t offset)
{
    struct verify *v = h->v;
    if (v->sha == NULL)
        return true;
    pthread_mutex_lock(&v->lock);
    while (v->hashed != offset && !is_stopped(v)) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += SLEEP_US * 1000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&v->for_turn, &v->lock, &until);
    }
    bool mine = v->hashed == offset;
    pthread_mutex_unlock(&v->lock);
    return mine;
}

static void end_turn(struct helper *h, uint64_t offset)
{
    pthread_mutex_lock(&h->v->lock);
    h->v->hashed = offset;
    pthread_cond_broadcast(&h->v->for_turn);
    pthread_mutex_unlock(&h->v->lock);
}

static bool fill(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct helper *h = ctx;
    uint64_t left = h->end - h->at;
    if (!read_next(h, data, left < room ? (size_t)left : room, got, err))
        return false;
    if (h->v->sha != NULL)
        EVP_DigestUpdate(h->v->sha, data, *got);
    return true;
}

/* A reader of the file from `at` to `end`, with its offsets, for the one whose turn it is. */
static void begin_stream(struct helper *h, struct rdb_reader *r, uint64_t at, uint64_t end,
                         struct error *err)
{
    h->at = at;
    h->end = end;
    rdb_reader_init_stream(r, end, fill, h, err);
    r->offset = at;
}

/* Chunks --------------------------------------------------------------------------------------- */

static bool check_long_chunk(struct helper *h, const struct save_chunk *chunk, struct error *err)
{
    struct rdb_reader r;
    if (!wait_turn(h, chunk->offset))
        return error_set(err, ERROR_CANCELLED, "the save was cancelled");
    begin_stream(h, &r, chunk->offset, chunk->offset + chunk->size, err);
    bool ok = check_chunk(h, &r, chunk);
    rdb_reader_deinit(&r);
    return ok;
}

/* Returns where its bytes are, until the helper reads something else; NULL: err says why. */
static const char *read_chunk(struct helper *h, const struct save_chunk *chunk, struct error *err)
{
    const char *data = os_direct_aim(&h->in, chunk->offset, (size_t)chunk->size);
    for (size_t have = 0, got = 0; have < chunk->size; have += got) {
        if (!go_on(h->v, err) || !os_direct_read_on(&h->in, &got, err))
            return NULL;
        if (got == 0) {
            error_set(err, ERROR_TRUNCATED, "%s ends too early", h->v->f->file->path);
            return NULL;
        }
        note_read(h, got);
    }
    return data;
}

static bool check_whole_chunk(struct helper *h, const struct save_chunk *chunk, struct error *err)
{
    struct rdb_reader r;
    const char *data = read_chunk(h, chunk, err);
    if (data == NULL)
        return false;
    rdb_reader_init_memory(&r, data, (size_t)chunk->size, err);
    r.offset += chunk->offset;
    r.size += chunk->offset;
    bool ok = check_chunk(h, &r, chunk);
    rdb_reader_deinit(&r);
    if (!ok || h->v->sha == NULL)
        return ok;
    if (!wait_turn(h, chunk->offset))
        return error_set(err, ERROR_CANCELLED, "the save was cancelled");
    hash_bytes_of(h, data, (size_t)chunk->size);
    return true;
}

static void fail(struct verify *v, const struct error *err)
{
    pthread_mutex_lock(&v->lock);
    if (!v->failed)
        v->err = *err;
    __atomic_store_n(&v->failed, true, __ATOMIC_RELAXED);
    pthread_cond_broadcast(&v->for_turn);
    pthread_mutex_unlock(&v->lock);
}

static const struct save_chunk *take_chunk(struct verify *v)
{
    pthread_mutex_lock(&v->lock);
    const struct save_chunk *chunk = NULL;
    if (!is_stopped(v) && v->next_chunk < v->f->chunk_count)
        chunk = &v->f->chunks[v->next_chunk++];
    pthread_mutex_unlock(&v->lock);
    return chunk;
}

static void check_chunks(struct helper *h)
{
    const struct save_chunk *chunk;
    while ((chunk = take_chunk(h->v)) != NULL) {
        struct error err = {0};
        bool ok = chunk->size <= WHOLE_MAX ? check_whole_chunk(h, chunk, &err)
                                           : check_long_chunk(h, chunk, &err);
        if (!ok)
            fail(h->v, &err);
        else
            end_turn(h, chunk->offset + chunk->size);
    }
}

/* All helpers read the file in the same way, as O_DIRECT is a flag of the one descriptor that they
 * share. */
static void helper_init(struct helper *h, struct verify *v, struct os_polite *polite)
{
    *h = (struct helper){.v = v, .polite = polite};
    os_direct_begin(&h->in, v->f->file, v->past_cache);
    epoch_init(&h->epoch, false);
    h->limits = (struct encoding_limits){.list_max_listpack_size = -2};
    h->loader = rdb_loader_new(&h->epoch, &h->limits);
}

static void helper_deinit(struct helper *h)
{
    rdb_loader_free(h->loader);
    epoch_deinit(&h->epoch);
    os_direct_end(&h->in);
}

static void helper_main(void *arg)
{
    struct verify *v = arg;
    struct os_polite polite;
    struct helper h;
    helper_init(&h, v, v->polite ? &polite : NULL);
    if (v->polite)
        os_polite_begin(&polite);
    check_chunks(&h);
    helper_deinit(&h);
}

/* The file ------------------------------------------------------------------------------------- */

static bool check_header(struct helper *h, uint64_t *crc, struct error *err)
{
    const struct verify *v = h->v;
    struct rdb_reader r;
    bool delta = v->options->since != 0;
    struct found found = {.gone_allowed = delta};
    const unsigned char *p;
    char magic[16];
    snprintf(magic, sizeof(magic), "%s%04d", delta ? LINK_MAGIC : "REDIS", v->options->version);
    begin_stream(h, &r, 0, v->f->chunks_begin, err);
    bool ok = rdb_read_bytes(&r, 9, &p);
    if (ok && memcmp(p, magic, 9) != 0)
        ok = rdb_fail(&r, ERROR_CORRUPT, "the header is not what was written");
    while (ok && rdb_reader_left(&r) > 0)
        ok = check_record(&r, h->loader, &found);
    if (ok && (found.ended || found.keys || found.deleted != v->f->deleted))
        ok = rdb_fail(&r, ERROR_CORRUPT, "the header is not what was written");
    *crc = rdb_reader_crc(&r);
    rdb_reader_deinit(&r);
    return ok;
}

/* What follows the chunks. crc: of all before. */
static bool check_end(struct helper *h, uint64_t crc, struct error *err)
{
    const struct verify *v = h->v;
    struct rdb_reader r;
    struct found found = {0};
    uint64_t stored;
    begin_stream(h, &r, v->f->chunks_end, v->f->size, err);
    r.crc = crc;
    bool ok = true;
    while (ok && !found.ended)
        ok = check_record(&r, h->loader, &found);
    uint64_t sum = v->options->checksum ? rdb_reader_crc(&r) : 0;
    ok = ok && rdb_read_le64(&r, &stored);
    if (ok && (stored != sum || rdb_reader_left(&r) != 0 || found.keys))
        ok = rdb_fail(&r, ERROR_CORRUPT, "the file does not end as it was written");
    rdb_reader_deinit(&r);
    return ok;
}

/* Helpers take what follows the header; with none of them this thread does it. */
static bool check_all_chunks(struct helper *own, struct error *err)
{
    struct verify *v = own->v;
    /* One more, as each waits for the disk for half of its time. */
    size_t wanted = (size_t)v->options->threads + 1, started = 0;
    if (wanted > v->f->chunk_count)
        wanted = v->f->chunk_count;
    pthread_t *threads = mem_alloc((wanted + 1) * sizeof(*threads));
    struct error ignored;
    while (started < wanted &&
           os_thread_start(&threads[started], "hf-verify", helper_main, v, &ignored))
        started++;
    if (started == 0)
        check_chunks(own);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    mem_free(threads);
    if (v->failed)
        *err = v->err;
    else if (is_stopped(v))
        error_set(err, ERROR_CANCELLED, "the save was cancelled");
    else
        return true;
    return false;
}

static bool read_all(struct helper *h, struct error *err)
{
    struct verify *v = h->v;
    uint64_t crc, size;
    if (!os_file_size(v->f->file, &size, err))
        return false;
    if (size != v->f->size)
        return error_set(err, ERROR_CORRUPT, "%s is of %llu bytes, but %llu were written",
                         v->f->file->path, (unsigned long long)size,
                         (unsigned long long)v->f->size);
    if (!check_header(h, &crc, err))
        return false;
    v->past_cache = h->in.past_cache;
    end_turn(h, v->f->chunks_begin);
    if (!check_all_chunks(h, err))
        return false;
    for (size_t i = 0; i < v->f->chunk_count; i++)
        crc = crc64_combine(crc, v->f->chunks[i].crc, v->f->chunks[i].size);
    return check_end(h, crc, err);
}

bool save_verify(const struct save_written *f, const struct save_options *options,
                 struct os_polite *polite, struct save_counters *counters, uint64_t *done,
                 char sha256[65], struct error *err)
{
    struct verify v = {.f = f, .options = options, .counters = counters, .polite = polite != NULL,
                       .past_cache = options->incremental_sync, .done = done};
    struct helper own;
    bool sum = options->sum || options->since != 0;
    if (sum)
        v.sha = EVP_MD_CTX_new();
    if (sum && (!v.sha || EVP_DigestInit_ex(v.sha, EVP_sha256(), NULL) != 1)) {
        EVP_MD_CTX_free(v.sha);
        return error_set(err, ERROR_SYSTEM, "SHA-256 is not available");
    }
    pthread_mutex_init(&v.lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&v.for_turn, &attr);
    pthread_condattr_destroy(&attr);
    save_pace_begin(&v.pace);
    helper_init(&own, &v, polite);

    bool ok = read_all(&own, err);
    if (ok && sum)
        link_sum_end(v.sha, sha256);

    helper_deinit(&own);
    EVP_MD_CTX_free(v.sha);
    pthread_cond_destroy(&v.for_turn);
    pthread_mutex_destroy(&v.lock);
    return ok || error_prefix(err, "the file was written, but could not be verified");
}
