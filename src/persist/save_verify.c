/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/save_verify.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/mem.h"
#include "os/process.h"
#include "persist/chain/link.h"

/* Chunks up to this are read into memory and decoded by the helpers; longer ones, which hold a value
 * that is large by itself, are decoded as they are read. */
#define WHOLE_MAX (8U << 20)
#define FORGET_STEP (8U << 20)
#define SLEEP_US 20000

void save_pace_begin(struct save_pace *p)
{
    *p = (struct save_pace){.begin_us = clock_monotonic_us()};
}

void save_pace_wait(struct save_pace *p, uint64_t rate, uint64_t bytes,
                    const struct save_counters *counters)
{
    p->bytes += bytes;
    if (rate == 0)
        return;
    for (;;) {
        double due_us = (double)p->bytes / (double)rate * 1e6;
        double left = due_us - (double)(clock_monotonic_us() - p->begin_us);
        if (left <= 0 || __atomic_load_n(&counters->stop, __ATOMIC_RELAXED) ||
            __atomic_load_n(&counters->hurry, __ATOMIC_RELAXED))
            return;
        os_sleep_us(left < SLEEP_US ? (int64_t)left + 1 : SLEEP_US);
    }
}

/* A chunk in memory, waiting for a helper or being decoded. */
struct piece {
    struct piece *next;
    const struct save_chunk *chunk;
    char *data;
    size_t capacity;
};

struct verify {
    const struct save_written *f;
    const struct save_options *options;
    struct save_counters *counters;
    struct os_polite *polite;
    struct save_pace pace;
    uint64_t *done;
    EVP_MD_CTX *sha;
    uint64_t at;        /* next byte to be read */
    uint64_t forgotten; /* up to here the page cache was given back */
    uint64_t end;       /* of what the stream that is being read may take */

    pthread_mutex_t lock;
    pthread_cond_t for_helpers, for_reader;
    struct piece *waiting, *waiting_last, *idle;
    int busy;   /* pieces not idle */
    bool over;  /* no more pieces come */
    bool failed;
    struct error err; /* the first one */
};

static bool is_stopped(const struct verify *v)
{
    return __atomic_load_n(&v->counters->stop, __ATOMIC_RELAXED);
}

/* Records ---------------------------------------------------------------------------------------- */

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

static bool check_chunk(struct rdb_reader *r, struct rdb_loader *l, const struct save_chunk *chunk)
{
    struct found found = {0};
    while (rdb_reader_left(r) > 0 && !found.ended) {
        if (!check_record(r, l, &found))
            return false;
    }
    if (found.ended || found.selects != 1 || found.db != (uint64_t)chunk->db ||
        found.keys != chunk->keys)
        return rdb_fail(r, ERROR_CORRUPT, "the chunk before has %llu keys of database %llu instead of "
                        "%llu of %d", (unsigned long long)found.keys, (unsigned long long)found.db,
                        (unsigned long long)chunk->keys, chunk->db);
    if (rdb_reader_crc(r) != chunk->crc)
        return rdb_fail(r, ERROR_CORRUPT, "the chunk before is not what was written");
    return true;
}

/* Helpers ---------------------------------------------------------------------------------------- */

/* What a value that has to be built is built with: nothing of the keyspace's. */
struct bench {
    struct epoch epoch;
    struct encoding_limits limits;
    struct rdb_loader *loader;
};

static void bench_init(struct bench *b)
{
    epoch_init(&b->epoch, false);
    b->limits = (struct encoding_limits){.list_max_listpack_size = -2};
    b->loader = rdb_loader_new(&b->epoch, &b->limits);
}

static void bench_deinit(struct bench *b)
{
    rdb_loader_free(b->loader);
    epoch_deinit(&b->epoch);
}

static bool check_piece(const struct piece *p, struct rdb_loader *l, struct error *err)
{
    struct rdb_reader r;
    rdb_reader_init_memory(&r, p->data, (size_t)p->chunk->size, err);
    r.offset += p->chunk->offset;
    r.size += p->chunk->offset;
    bool ok = check_chunk(&r, l, p->chunk);
    rdb_reader_deinit(&r);
    return ok;
}

static void fail(struct verify *v, const struct error *err)
{
    pthread_mutex_lock(&v->lock);
    if (!v->failed)
        v->err = *err;
    __atomic_store_n(&v->failed, true, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&v->lock);
}

static void helper_main(void *arg)
{
    struct verify *v = arg;
    struct os_polite polite;
    struct bench bench;
    bench_init(&bench);
    if (v->polite)
        os_polite_begin(&polite);
    pthread_mutex_lock(&v->lock);
    for (;;) {
        while (!v->waiting && !v->over)
            pthread_cond_wait(&v->for_helpers, &v->lock);
        struct piece *p = v->waiting;
        if (!p)
            break;
        v->waiting = p->next;
        pthread_mutex_unlock(&v->lock);
        struct error err = {0};
        if (!is_stopped(v) && !__atomic_load_n(&v->failed, __ATOMIC_RELAXED) &&
            !check_piece(p, bench.loader, &err))
            fail(v, &err);
        if (v->polite) {
            if (__atomic_load_n(&v->counters->hurry, __ATOMIC_RELAXED))
                os_polite_end(&polite);
            else
                os_polite_check(&polite);
        }
        pthread_mutex_lock(&v->lock);
        p->next = v->idle;
        v->idle = p;
        v->busy--;
        pthread_cond_signal(&v->for_reader);
    }
    pthread_mutex_unlock(&v->lock);
    bench_deinit(&bench);
}

static struct piece *take_piece(struct verify *v)
{
    pthread_mutex_lock(&v->lock);
    while (!v->idle)
        pthread_cond_wait(&v->for_reader, &v->lock);
    struct piece *p = v->idle;
    v->idle = p->next;
    v->busy++;
    pthread_mutex_unlock(&v->lock);
    return p;
}

static void give_piece(struct verify *v, struct piece *p)
{
    pthread_mutex_lock(&v->lock);
    p->next = NULL;
    if (v->waiting)
        v->waiting_last->next = p;
    else
        v->waiting = p;
    v->waiting_last = p;
    pthread_cond_signal(&v->for_helpers);
    pthread_mutex_unlock(&v->lock);
}

static void wait_idle(struct verify *v)
{
    pthread_mutex_lock(&v->lock);
    while (v->busy)
        pthread_cond_wait(&v->for_reader, &v->lock);
    pthread_mutex_unlock(&v->lock);
}

/* Reading ---------------------------------------------------------------------------------------- */

/* The next bytes of the file, in order; they go into the SHA-256. */
static bool read_next(struct verify *v, void *data, size_t size, size_t *got, struct error *err)
{
    if (is_stopped(v))
        return error_set(err, ERROR_CANCELLED, "the save was cancelled");
    if (!os_file_read_at(v->f->file, v->at, data, size, got, err))
        return false;
    EVP_DigestUpdate(v->sha, data, *got);
    v->at += *got;
    __atomic_fetch_add(v->done, *got, __ATOMIC_RELAXED);
    if (v->options->incremental_sync && v->at - v->forgotten >= FORGET_STEP) {
        os_file_forget_cache(v->f->file, v->forgotten, v->at - v->forgotten);
        v->forgotten = v->at;
    }
    save_pace_wait(&v->pace, v->options->rate_limit, *got, v->counters);
    if (v->polite)
        os_polite_check(v->polite);
    return true;
}

static bool fill(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct verify *v = ctx;
    uint64_t left = v->end - v->at;
    return read_next(v, data, left < room ? (size_t)left : room, got, err);
}

/* A reader of the file from here to `end`, with its offsets. */
static void begin_stream(struct verify *v, struct rdb_reader *r, uint64_t end, struct error *err)
{
    v->end = end;
    rdb_reader_init_stream(r, end, fill, v, err);
    r->offset = v->at;
}

static bool read_piece(struct verify *v, const struct save_chunk *chunk, struct error *err)
{
    struct piece *p = take_piece(v);
    if (p->capacity < chunk->size) {
        mem_free(p->data);
        p->capacity = (size_t)chunk->size;
        p->data = mem_alloc(p->capacity);
    }
    p->chunk = chunk;
    bool ok = true;
    for (size_t have = 0, got = 0; ok && have < chunk->size; have += got) {
        ok = read_next(v, p->data + have, (size_t)chunk->size - have, &got, err);
        if (ok && got == 0)
            ok = error_set(err, ERROR_TRUNCATED, "%s ends too early", v->f->file->path);
    }
    if (ok) {
        give_piece(v, p);
        return true;
    }
    pthread_mutex_lock(&v->lock);
    p->next = v->idle;
    v->idle = p;
    v->busy--;
    pthread_mutex_unlock(&v->lock);
    return false;
}

static bool check_header(struct verify *v, struct rdb_loader *l, uint64_t *crc, struct error *err)
{
    struct rdb_reader r;
    bool delta = v->options->since != 0;
    struct found found = {.gone_allowed = delta};
    const unsigned char *p;
    char magic[16];
    snprintf(magic, sizeof(magic), "%s%04d", delta ? LINK_MAGIC : "REDIS", v->options->version);
    begin_stream(v, &r, v->f->chunks_begin, err);
    bool ok = rdb_read_bytes(&r, 9, &p);
    if (ok && memcmp(p, magic, 9) != 0)
        ok = rdb_fail(&r, ERROR_CORRUPT, "the header is not what was written");
    while (ok && rdb_reader_left(&r) > 0)
        ok = check_record(&r, l, &found);
    if (ok && (found.ended || found.keys || found.deleted != v->f->deleted))
        ok = rdb_fail(&r, ERROR_CORRUPT, "the header is not what was written");
    *crc = rdb_reader_crc(&r);
    rdb_reader_deinit(&r);
    return ok;
}

/* What follows the chunks. crc: of all before. */
static bool check_end(struct verify *v, struct rdb_loader *l, uint64_t crc, struct error *err)
{
    struct rdb_reader r;
    struct found found = {0};
    uint64_t stored;
    begin_stream(v, &r, v->f->size, err);
    r.crc = crc;
    bool ok = true;
    while (ok && !found.ended)
        ok = check_record(&r, l, &found);
    uint64_t sum = v->options->checksum ? rdb_reader_crc(&r) : 0;
    ok = ok && rdb_read_le64(&r, &stored);
    if (ok && (stored != sum || rdb_reader_left(&r) != 0 || found.keys))
        ok = rdb_fail(&r, ERROR_CORRUPT, "the file does not end as it was written");
    rdb_reader_deinit(&r);
    return ok;
}

static bool read_all(struct verify *v, struct error *err)
{
    uint64_t crc, size;
    struct bench bench;
    bench_init(&bench);
    bool ok = os_file_size(v->f->file, &size, err);
    if (ok && size != v->f->size)
        ok = error_set(err, ERROR_CORRUPT, "%s is of %llu bytes, but %llu were written",
                       v->f->file->path, (unsigned long long)size, (unsigned long long)v->f->size);
    ok = ok && check_header(v, bench.loader, &crc, err);
    for (size_t i = 0; ok && i < v->f->chunk_count && !__atomic_load_n(&v->failed, __ATOMIC_RELAXED);
         i++) {
        const struct save_chunk *chunk = &v->f->chunks[i];
        if (chunk->size <= WHOLE_MAX) {
            ok = read_piece(v, chunk, err);
        } else {
            struct rdb_reader r;
            begin_stream(v, &r, chunk->offset + chunk->size, err);
            ok = check_chunk(&r, bench.loader, chunk);
            rdb_reader_deinit(&r);
        }
        if (ok)
            crc = crc64_combine(crc, chunk->crc, chunk->size);
    }
    wait_idle(v);
    if (ok && v->failed) {
        *err = v->err;
        ok = false;
    }
    if (ok && is_stopped(v))
        ok = error_set(err, ERROR_CANCELLED, "the save was cancelled");
    ok = ok && check_end(v, bench.loader, crc, err);
    bench_deinit(&bench);
    return ok;
}

bool save_verify(const struct save_written *f, const struct save_options *options,
                 struct os_polite *polite, struct save_counters *counters, uint64_t *done,
                 char sha256[65], struct error *err)
{
    struct verify v = {.f = f, .options = options, .counters = counters, .polite = polite, .done = done};
    int threads = options->threads;
    if ((size_t)threads > f->chunk_count)
        threads = f->chunk_count ? (int)f->chunk_count : 1;
    pthread_t *helpers = mem_alloc((size_t)threads * sizeof(*helpers));
    pthread_mutex_init(&v.lock, NULL);
    pthread_cond_init(&v.for_helpers, NULL);
    pthread_cond_init(&v.for_reader, NULL);
    v.sha = EVP_MD_CTX_new();
    save_pace_begin(&v.pace);

    int started = 0;
    bool ok = v.sha && EVP_DigestInit_ex(v.sha, EVP_sha256(), NULL) == 1;
    if (!ok)
        error_set(err, ERROR_SYSTEM, "SHA-256 is not available");
    while (ok && started < threads &&
           os_thread_start(&helpers[started], "hf-verify", helper_main, &v, err))
        started++;
    for (int i = 0; i <= started; i++) {
        struct piece *p = mem_zalloc(sizeof(*p));
        p->next = v.idle;
        v.idle = p;
    }
    ok = ok && started > 0 && read_all(&v, err);
    if (ok)
        link_sum_end(v.sha, sha256);

    pthread_mutex_lock(&v.lock);
    v.over = true;
    pthread_cond_broadcast(&v.for_helpers);
    pthread_mutex_unlock(&v.lock);
    for (int i = 0; i < started; i++)
        pthread_join(helpers[i], NULL);
    while (v.idle) {
        struct piece *p = v.idle;
        v.idle = p->next;
        mem_free(p->data);
        mem_free(p);
    }
    EVP_MD_CTX_free(v.sha);
    pthread_cond_destroy(&v.for_helpers);
    pthread_cond_destroy(&v.for_reader);
    pthread_mutex_destroy(&v.lock);
    mem_free(helpers);
    return ok || error_prefix(err, "the file was written, but could not be verified");
}
