/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/chain/link.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/number.h"
#include "keyspace/libraries.h"
#include "os/file.h"
#include "os/process.h"
#include "os/thread.h"

/* Somebody who wants it to stop does not wait for longer. */
#define PACE_SLEEP_US 20000

void link_new_id(char id[LINK_ID_SIZE])
{
    static unsigned sequence;
    int64_t words[3] = {clock_wall_us(), getpid(), ++sequence};
    snprintf(id, LINK_ID_SIZE, "%016llx",
             (unsigned long long)hash_bytes_keyed(&hash_unique_key, words, sizeof(words)));
}

/* --- SHA-256 ---------------------------------------------------------------------------------- */

static bool sha_begin(EVP_MD_CTX **sha, struct error *err)
{
    *sha = EVP_MD_CTX_new();
    if (*sha && EVP_DigestInit_ex(*sha, EVP_sha256(), NULL) == 1)
        return true;
    EVP_MD_CTX_free(*sha);
    *sha = NULL;
    return error_set(err, ERROR_SYSTEM, "SHA-256 is not available");
}

void link_sum_end(EVP_MD_CTX *sha, char text[65])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    EVP_DigestFinal_ex(sha, digest, &size);
    for (unsigned i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

/* --- writing ---------------------------------------------------------------------------------- */

static void write_aux(struct rdb_writer *w, const char *name, const char *value)
{
    rdb_write_u8(w, RDB_OP_AUX);
    rdb_write_string(w, slice_cstr(name));
    rdb_write_string(w, slice_cstr(value));
}

void link_write_header(struct rdb_writer *w, int64_t taken_ms)
{
    char text[32];
    snprintf(text, sizeof(text), LINK_MAGIC "%04d", w->version);
    rdb_write_bytes(w, text, 9);
    snprintf(text, sizeof(text), "%lld", (long long)taken_ms / 1000);
    write_aux(w, "ctime", text);
}

struct gone_writer {
    struct rdb_writer *w;
    uint64_t *deleted;
    int db;
    bool selected;
};

static void select_db(struct gone_writer *g)
{
    if (g->selected)
        return;
    g->selected = true;
    rdb_write_u8(g->w, RDB_OP_SELECTDB);
    rdb_write_length(g->w, (uint64_t)g->db);
}

static bool write_deleted(void *ctx, struct slice key)
{
    struct gone_writer *g = ctx;
    select_db(g);
    rdb_write_u8(g->w, LINK_DELETED);
    rdb_write_string(g->w, key);
    ++*g->deleted;
    return !g->w->failed;
}

/* Each database gets in its turn what it is to have, from a later one or from itself. */
static void write_swaps(struct rdb_writer *w, const struct snapshot *s, int mark)
{
    int *at = mem_alloc((size_t)s->db_count * sizeof(*at)); /* whose contents are where */
    for (int i = 0; i < s->db_count; i++)
        at[i] = i;
    for (int i = 0; i < s->db_count; i++) {
        int j = i;
        while (at[j] != s->dbs[i].changes[mark].origin)
            j++;
        if (j == i)
            continue;
        at[j] = at[i];
        rdb_write_u8(w, RDB_OP_SELECTDB);
        rdb_write_length(w, (uint64_t)i);
        rdb_write_u8(w, LINK_SWAPPED);
        rdb_write_int(w, j);
    }
    mem_free(at);
}

void link_write_gone(struct rdb_writer *w, const struct snapshot *s, int mark, uint64_t *deleted)
{
    write_swaps(w, s, mark);
    for (int i = 0; i < s->db_count && !w->failed; i++) {
        struct gone_writer g = {.w = w, .deleted = deleted, .db = i};
        if (s->dbs[i].changes[mark].emptied) {
            select_db(&g);
            rdb_write_u8(w, LINK_EMPTIED);
            rdb_write_string(w, SLICE(""));
        }
        snapshot_deleted(s, i, mark, write_deleted, &g);
    }
}

/* --- reading ---------------------------------------------------------------------------------- */

struct input {
    struct os_file file;
    uint64_t size;
    EVP_MD_CTX *sha;
    struct rdb_reader r;
    struct rdb_records records;
    bool has_records;
    enum link_kind kind;
    const struct link_visitor *visitor;
    struct rdb_loader *loader;
    struct chain_link *found;
    const struct link_care *care;
    struct os_polite polite;
    uint64_t done;
    uint64_t rate, rate_from; /* that is kept to, and what was done when that began */
    int64_t begun_us;         /* likewise */
    struct error *err;
};

static uint64_t rate_now(const struct link_care *care)
{
    return care->limits != NULL ? __atomic_load_n(&care->limits->rate, __ATOMIC_RELAXED)
                                : care->rate;
}

/* Until what has been read is due. */
static void keep_pace(struct input *in, size_t got)
{
    uint64_t rate;
    while ((rate = rate_now(in->care)) > 0 &&
           !__atomic_load_n(&in->care->stop, __ATOMIC_RELAXED)) {
        if (rate != in->rate) {
            in->rate = rate;
            in->rate_from = in->done - got;
            in->begun_us = clock_monotonic_us();
        }
        double due_us = (double)(in->done - in->rate_from) / (double)rate * 1e6;
        double left = due_us - (double)(clock_monotonic_us() - in->begun_us);
        if (left <= 0)
            break;
        os_sleep_us(left < PACE_SLEEP_US ? (int64_t)left + 1 : PACE_SLEEP_US);
    }
}

static bool fill(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct input *in = ctx;
    if (in->care && __atomic_load_n(&in->care->stop, __ATOMIC_RELAXED))
        return error_set(err, ERROR_CANCELLED, "it was cancelled");
    if (in->care && in->care->polite)
        os_polite_check(&in->polite);
    if (!os_file_read(&in->file, data, room, got, err))
        return false;
    if (in->sha)
        EVP_DigestUpdate(in->sha, data, *got);
    in->done += *got;
    if (in->care && in->care->progress)
        in->care->progress(in->care->ctx, in->done, in->size);
    if (in->care)
        keep_pace(in, *got);
    return true;
}

bool link_read_magic(struct rdb_reader *r, int *version)
{
    const unsigned char *p;
    if (!rdb_read_bytes(r, 9, &p))
        return false;
    if (memcmp(p, LINK_MAGIC, 5) != 0)
        return rdb_fail(r, ERROR_CORRUPT, "this is not a delta");
    *version = 0;
    for (int i = 5; i < 9; i++) {
        if (p[i] < '0' || p[i] > '9')
            return rdb_fail(r, ERROR_CORRUPT, "the version is not a number");
        *version = *version * 10 + (p[i] - '0');
    }
    if (*version < 5 || *version > RDB_VERSION_READ_MAX)
        return rdb_fail(r, ERROR_UNSUPPORTED, "a delta of version %d; 5 to %d can be read",
                        *version, RDB_VERSION_READ_MAX);
    return true;
}

static bool input_open(struct input *in, const char *path, struct error *err)
{
    in->err = err;
    if (!os_file_open(&in->file, path, OS_OPEN_READ, err))
        return false;
    struct error ignored;
    if (!os_file_size(&in->file, &in->size, err)) {
        os_file_close(&in->file, &ignored);
        return false;
    }
    rdb_reader_init_stream(&in->r, in->size, fill, in, err);
    int version = 0;
    if (in->kind == LINK_FULL) {
        in->has_records = true;
        return rdb_records_begin(&in->records, &in->r);
    }
    if (!link_read_magic(&in->r, &version))
        return false;
    rdb_records_resume(&in->records, &in->r, version, 0);
    in->has_records = true;
    in->records.verify = true;
    return true;
}

static void input_close(struct input *in)
{
    struct error ignored;
    if (in->file.fd < 0)
        return;
    if (in->has_records)
        rdb_records_end(&in->records);
    rdb_reader_deinit(&in->r);
    os_file_close(&in->file, &ignored);
}

static void note_aux(struct input *in, const struct rdb_record *record)
{
    struct slice value = record->value.bytes;
    char *to = NULL;
    int64_t seconds;
    if (slice_is(record->key, LINK_AUX_ID))
        to = in->found->id;
    else if (slice_is(record->key, LINK_AUX_PARENT))
        to = in->found->parent;
    else if (slice_is(record->key, LINK_AUX_LSN))
        number_parse_uint64(value, &in->found->lsn);
    else if (slice_is(record->key, LINK_AUX_VERSION))
        number_parse_uint64(value, &in->found->version);
    else if (slice_is(record->key, "ctime") && number_parse_int64(value, &seconds) &&
             seconds >= 0 && seconds < INT64_MAX / 1000)
        in->found->time_ms = seconds * 1000;
    if (to && value.size < LINK_ID_SIZE) {
        memcpy(to, value.data, value.size);
        to[value.size] = '\0';
    }
}

static bool read_swapped(struct input *in, const struct rdb_record *record)
{
    int64_t other;
    const struct link_visitor *v = in->visitor;
    if (!number_parse_int64(record->key, &other) || other < 0 || other > INT32_MAX)
        return rdb_fail(&in->r, ERROR_CORRUPT, "databases are swapped, but not named");
    return !v || v->swapped(v->ctx, record->db, (int)other, in->err);
}

static bool read_key(struct input *in, const struct rdb_record *record)
{
    const struct link_visitor *v = in->visitor;
    struct entry *e = NULL;
    if (in->kind == LINK_DELTA && record->type == LINK_DELETED) {
        in->found->deleted++;
        return !v || v->deleted(v->ctx, record->db, record->key, in->err);
    }
    if (in->kind == LINK_DELTA && record->type == LINK_SWAPPED)
        return read_swapped(in, record);
    if (in->kind == LINK_DELTA && record->type == LINK_EMPTIED)
        return !v || v->emptied(v->ctx, record->db, in->err);
    if (!rdb_load_value(&in->r, record->type, record->key, record->due, in->loader, &e))
        return false;
    in->found->keys++;
    if (v && e)
        return v->put(v->ctx, record, e, in->err);
    if (e)
        rdb_drop_entry(in->loader, e);
    return true;
}

static bool read_records(struct input *in)
{
    struct rdb_record record;
    for (;;) {
        if (!rdb_records_next(&in->records, &record))
            return false;
        if (record.kind == RDB_RECORD_AUX)
            note_aux(in, &record);
        if (record.kind == RDB_RECORD_AUX && in->visitor && in->visitor->aux)
            in->visitor->aux(in->visitor->ctx, &record);
        else if (record.kind == RDB_RECORD_FUNCTION && in->visitor && in->visitor->function)
            in->visitor->function(in->visitor->ctx, record.value.bytes);
        else if (record.kind == RDB_RECORD_KEY && !read_key(in, &record))
            return false;
        else if (record.kind == RDB_RECORD_END)
            break;
    }
    if (rdb_reader_left(&in->r) != 0)
        return rdb_fail(&in->r, ERROR_CORRUPT, "there is something behind the end");
    return true;
}

bool link_read(const char *path, enum link_kind kind, struct epoch *epoch,
               const struct encoding_limits *limits, const struct link_visitor *visitor,
               const struct link_care *care, struct chain_link *found, struct error *err)
{
    struct chain_link unwanted;
    struct input in = {.file = OS_FILE_CLOSED, .kind = kind, .visitor = visitor, .care = care,
                       .found = found ? found : &unwanted};
    memset(in.found, 0, sizeof(*in.found));
    in.found->kind = kind;
    if (!sha_begin(&in.sha, err))
        return false;
    if (care && care->polite)
        os_polite_begin(&in.polite);
    in.loader = rdb_loader_new(epoch, limits);
    bool ok = input_open(&in, path, err) && read_records(&in);
    rdb_loader_free(in.loader);
    input_close(&in);
    in.found->size = in.size;
    if (ok)
        link_sum_end(in.sha, in.found->sha256);
    EVP_MD_CTX_free(in.sha);
    return ok;
}

bool link_read_head(const char *path, enum link_kind kind, struct chain_link *found,
                    struct rdb_load_stats *stats, struct error *err)
{
    *found = (struct chain_link){.kind = kind};
    *stats = (struct rdb_load_stats){0};
    struct input in = {.file = OS_FILE_CLOSED, .kind = kind, .found = found};
    struct rdb_record record;
    bool ok = input_open(&in, path, err), more = ok;
    while (more) {
        ok = rdb_records_next(&in.records, &record);
        more = ok && record.kind == RDB_RECORD_AUX;
        if (more) {
            note_aux(&in, &record);
            rdb_note_aux(&record, stats);
        }
    }
    found->size = in.size;
    input_close(&in);
    return ok;
}

bool link_read_id(const char *path, char id[LINK_ID_SIZE], struct error *err)
{
    struct chain_link found;
    struct rdb_load_stats stats;
    bool ok = link_read_head(path, LINK_FULL, &found, &stats, err);
    memcpy(id, found.id, LINK_ID_SIZE);
    return ok;
}

bool link_read_version(const char *path, enum link_kind kind, uint64_t *version, struct error *err)
{
    struct chain_link found;
    struct rdb_load_stats stats;
    bool ok = link_read_head(path, kind, &found, &stats, err);
    *version = found.version;
    return ok;
}

bool link_prove(const char *path, const struct chain_link *link, const struct link_care *care,
                struct error *err)
{
    struct chain_link found;
    struct keyspace *ks = keyspace_new(1, false);
    bool ok = link_read(path, link->kind, &ks->epoch, &ks->limits, NULL, care, &found, err);
    keyspace_free(ks);
    if (!ok)
        return false;
    if (found.size != link->size)
        return error_set(err, ERROR_CORRUPT, "it has %llu bytes but should have %llu",
                         (unsigned long long)found.size, (unsigned long long)link->size);
    if (strcmp(found.sha256, link->sha256) != 0)
        return error_set(err, ERROR_CORRUPT, "its SHA-256 is %s but should be %s", found.sha256,
                         link->sha256);
    if (strcmp(found.id, link->id) != 0 || strcmp(found.parent, link->parent) != 0 ||
        found.keys != link->keys || found.deleted != link->deleted)
        return error_set(err, ERROR_CORRUPT, "it is another snapshot than the manifest says");
    return true;
}

/* --- applying --------------------------------------------------------------------------------- */

struct applying {
    struct keyspace *ks;
    const struct rdb_load_options *options;
    struct rdb_load_stats *stats;
};

static bool find_db(struct applying *a, int db, struct error *err)
{
    if (db < a->ks->db_count)
        return true;
    return error_set(err, ERROR_INVALID, "the file has a database %d, but only %d are configured",
                     db, a->ks->db_count);
}

static bool apply_swapped(void *ctx, int db, int other, struct error *err)
{
    struct applying *a = ctx;
    if (!find_db(a, db, err) || !find_db(a, other, err))
        return false;
    keyspace_swap(a->ks, db, other);
    return true;
}

static bool apply_emptied(void *ctx, int db, struct error *err)
{
    struct applying *a = ctx;
    if (!find_db(a, db, err))
        return false;
    db_flush(&a->ks->dbs[db]);
    return true;
}

/* An expired key is one, too: what keyref_find does about it is not wanted here. */
static void remove_key(struct keyspace *ks, int db, struct slice key, uint64_t hash)
{
    struct table *t = &ks->dbs[db].table;
    struct keyref ref = {.db = &ks->dbs[db],
                         .key = key,
                         .hash = hash,
                         .entry = table_find(t, hash, key.data, key.size)};
    if (ref.entry)
        keyref_delete(&ref);
}

static bool apply_deleted(void *ctx, int db, struct slice key, struct error *err)
{
    struct applying *a = ctx;
    if (!find_db(a, db, err))
        return false;
    remove_key(a->ks, db, key, key_hash(key));
    return true;
}

static bool apply_put(void *ctx, const struct rdb_record *record, struct entry *e,
                      struct error *err)
{
    struct applying *a = ctx;
    struct slice key = entry_key(e);
    uint64_t hash = key_hash(key);
    bool known = find_db(a, record->db, err);
    if (known)
        remove_key(a->ks, record->db, key, hash);
    if (!known || (a->options->drop_expired && record->due <= a->options->now_ms)) {
        struct rdb_loader *loader = rdb_loader_new(&a->ks->epoch, &a->ks->limits);
        rdb_drop_entry(loader, e);
        rdb_loader_free(loader);
        a->stats->expired += known;
        return known;
    }
    if (a->ks->lfu)
        entry_set_clock(e, rdb_lfu_clock(a->options->now_ms, record->frequency));
    else
        entry_set_clock(e, (a->options->lru_now - (record->has_idle ? (uint32_t)record->idle : 0)) &
                               0xffffff);
    db_insert(&a->ks->dbs[record->db], hash, e);
    return true;
}

static void apply_function(void *ctx, struct slice code)
{
    struct applying *a = ctx;
    libraries_append(&a->ks->libraries, code);
}

static void apply_aux(void *ctx, const struct rdb_record *record)
{
    struct applying *a = ctx;
    rdb_note_aux(record, a->stats);
}

void link_pass_place(struct rdb_load_stats *of, const struct rdb_load_stats *parent, uint64_t lsn)
{
    if (of->log_id[0] != '\0')
        return;
    memcpy(of->log_id, parent->log_id, sizeof(of->log_id));
    of->log_lsn = lsn > parent->log_lsn ? lsn : parent->log_lsn;
    of->log_beyond = parent->log_beyond;
    of->log_exact = false;
}

bool link_apply_delta(const char *path, struct keyspace *ks, const struct rdb_load_options *options,
                      struct rdb_load_stats *stats, struct error *err)
{
    struct applying a = {ks, options, stats};
    struct link_visitor visitor = {.swapped = apply_swapped,
                                   .emptied = apply_emptied,
                                   .deleted = apply_deleted,
                                   .put = apply_put,
                                   .function = apply_function,
                                   .aux = apply_aux,
                                   .ctx = &a};
    libraries_replace(&ks->libraries, NULL);
    stats->repl_id[0] = '\0'; /* one that was taken in a transaction has none */
    stats->repl_offset = 0;
    stats->stream_db = 0;
    stats->own = false;
    stats->lineage.count = 0;
    struct rdb_load_stats before = *stats;
    struct chain_link found;
    stats->log_id[0] = '\0';
    stats->log_exact = stats->log_beyond = false; /* those of the link before are in `before` */
    if (!link_read(path, LINK_DELTA, &ks->epoch, &ks->limits, &visitor, NULL, &found, err))
        return false;
    link_pass_place(stats, &before, found.lsn);
    return true;
}
