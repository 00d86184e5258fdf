/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What recovery does with files: a preamble is loaded, a torn tail is cut off, the end of a file is
 * made durable.
 */
#include "persist/log/recovery_files.h"

#include <stdio.h>
#include <time.h>

#include "base/crc.h"
#include "base/mem.h"
#include "os/file.h"
#include "persist/log/reader.h"
#include "persist/log/recovery.h"
#include "persist/rdb/record.h"

#define COPY_SIZE ((size_t)1 << 20)
/* The fields at the beginning of an RDB file take less. */
#define FIELDS_MAX ((size_t)16 << 10)

bool recovery_is_rdb(const char *path, bool *rdb, struct error *err)
{
    struct os_file f;
    struct error ignored;
    char magic[5];
    size_t got = 0;
    if (!os_file_open(&f, path, OS_OPEN_READ, err))
        return false;
    bool ok = os_file_read(&f, magic, sizeof(magic), &got, err);
    os_file_close(&f, &ignored);
    *rdb = got == sizeof(magic) && memcmp(magic, "REDIS", sizeof(magic)) == 0;
    return ok;
}

static bool fill_from_file(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    return os_file_read(ctx, data, room, got, err);
}

bool recovery_load_preamble(struct keyspace *ks, const char *path,
                            const struct rdb_load_options *options, struct rdb_load_stats *stats,
                            uint64_t *end, struct error *err)
{
    struct os_file f;
    struct error ignored;
    uint64_t size;
    if (!os_file_open(&f, path, OS_OPEN_READ, err))
        return false;
    bool ok = os_file_size(&f, &size, err);
    if (ok) {
        struct rdb_reader r;
        rdb_reader_init_stream(&r, size, fill_from_file, &f, err);
        ok = rdb_load_all(&r, ks, options, stats) || error_prefix(err, "%s", path);
        *end = rdb_reader_offset(&r);
        rdb_reader_deinit(&r);
    }
    os_file_close(&f, &ignored);
    return ok;
}

void recovery_stamp(int64_t ms, char out[RECOVERY_STAMP_SIZE])
{
    struct tm t;
    time_t seconds = (time_t)(ms / 1000);
    localtime_r(&seconds, &t);
    strftime(out, RECOVERY_STAMP_SIZE, "%Y%m%d-%H%M%S", &t);
}

const char *recovery_date(char out[RECOVERY_DATE_SIZE], int64_t ms)
{
    struct tm t;
    time_t seconds = (time_t)(ms / 1000);
    localtime_r(&seconds, &t);
    size_t n = strftime(out, RECOVERY_DATE_SIZE, "%d %b %Y %H:%M:%S", &t);
    snprintf(out + n, RECOVERY_DATE_SIZE - n, ".%03d", (int)(ms % 1000));
    return out;
}

const char *recovery_moment(char out[RECOVERY_MOMENT_SIZE], int64_t ms, uint64_t lsn)
{
    char when[RECOVERY_DATE_SIZE] = "an unknown time";
    if (ms > 0)
        recovery_date(when, ms);
    snprintf(out, RECOVERY_MOMENT_SIZE, "%s (LSN %llu)", when, (unsigned long long)lsn);
    return out;
}

/* A new file whose name says what it was cut from; "-2" and so on behind it if it is there. */
static bool create_kept(struct os_file *f, const char *path, int64_t now_ms, struct error *err)
{
    char stamp[RECOVERY_STAMP_SIZE], name[320];
    recovery_stamp(now_ms, stamp);
    for (int i = 1; i < 100; i++) {
        int n = snprintf(name, sizeof(name), i == 1 ? "%s.torn-%s" : "%s.torn-%s-%d", path, stamp,
                         i);
        if (n < 0 || (size_t)n >= sizeof(f->path))
            break;
        if (os_file_open(f, name, OS_OPEN_CREATE_EXCLUSIVE, err))
            return true;
        if (err->code != ERROR_EXISTS)
            return false;
    }
    return error_set(err, ERROR_INVALID, "no name is free for what is cut from %s", path);
}

static bool copy_tail(struct os_file *from, uint64_t at, struct os_file *to, struct error *err)
{
    char *buffer = mem_alloc(COPY_SIZE);
    size_t got;
    bool ok;
    while ((ok = os_file_read_at(from, at, buffer, COPY_SIZE, &got, err)) && got > 0) {
        ok = os_file_write(to, buffer, got, err);
        if (!ok)
            break;
        at += got;
    }
    mem_free(buffer);
    return ok;
}

bool recovery_cut(const char *path, uint64_t size, int64_t now_ms, char kept[256],
                  struct error *err)
{
    struct os_file f, copy;
    struct error ignored;
    char dir[256];
    os_path_dir(path, dir, sizeof(dir));
    if (!os_file_open(&f, path, OS_OPEN_WRITE, err))
        return false;
    if (!create_kept(&copy, path, now_ms, err)) {
        os_file_close(&f, &ignored);
        return false;
    }
    snprintf(kept, 256, "%s", copy.path);
    /* What is cut off is safe before it is cut off. */
    bool ok = copy_tail(&f, size, &copy, err) && os_file_sync(&copy, err);
    if (!os_file_close(&copy, ok ? err : &ignored))
        ok = false;
    ok = ok && os_dir_sync(dir, err);
    if (!ok)
        os_unlink(kept, &ignored); /* It is where it was, too. */
    ok = ok && os_file_truncate(&f, size, err) && os_file_sync(&f, err);
    if (!os_file_close(&f, ok ? err : &ignored))
        ok = false;
    return ok;
}

bool recovery_sync_again(const char *path, uint64_t from, struct error *err)
{
    struct os_file f;
    struct error ignored;
    if (!os_file_open(&f, path, OS_OPEN_WRITE, err))
        return false;
    char *buffer = mem_alloc(COPY_SIZE);
    size_t got;
    bool ok;
    while ((ok = os_file_read_at(&f, from, buffer, COPY_SIZE, &got, err)) && got > 0) {
        ok = os_file_write_at(&f, from, buffer, got, err);
        if (!ok)
            break;
        from += got;
    }
    mem_free(buffer);
    ok = ok && os_file_sync(&f, err);
    if (!os_file_close(&f, ok ? err : &ignored))
        ok = false;
    return ok;
}

/* Directories as the log's have nothing in them that is not moved by name: see put_aside. */
bool recovery_put_aside(const char *directory, const char *filename, const struct manifest *m,
                        const char *why, int64_t now_ms, char place[256], struct error *err)
{
    char stamp[RECOVERY_STAMP_SIZE], from[600], to[600];
    recovery_stamp(now_ms, stamp);
    int n = snprintf(place, 256, "%s/%s-%s", directory, why, stamp);
    if (n < 0 || n >= 256)
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", directory);
    if (!os_dir_create(place, err) || !manifest_write(m, place, filename, err))
        return false;
    for (size_t i = 0; i < m->count; i++) {
        snprintf(from, sizeof(from), "%s/%s", directory, m->files[i].name);
        snprintf(to, sizeof(to), "%s/%s", place, m->files[i].name);
        if (os_path_exists(from) && !os_rename(from, to, err))
            return false;
    }
    return os_dir_sync(place, err) && os_dir_sync(directory, err);
}

/* "<filename>.<seq>.base.rdb", ".base.aof" or ".incr.aof"; 0: another name. */
static uint64_t seq_of(const char *name, const char *filename, bool *incremental)
{
    size_t n = strlen(filename);
    if (strncmp(name, filename, n) != 0 || name[n] != '.')
        return 0;
    uint64_t seq = 0;
    const char *p = name + n + 1;
    for (; *p >= '0' && *p <= '9' && seq < UINT64_MAX / 20; p++)
        seq = seq * 10 + (uint64_t)(*p - '0');
    *incremental = strcmp(p, ".incr.aof") == 0;
    bool base = strcmp(p, ".base.rdb") == 0 || strcmp(p, ".base.aof") == 0;
    return *incremental || base ? seq : 0;
}

struct found {
    const char *filename;
    struct recovery_names *names;
};

static void note_name(void *ctx, const char *name)
{
    struct found *f = ctx;
    bool incremental;
    uint64_t seq = seq_of(name, f->filename, &incremental);
    if (seq == 0)
        return;
    if (incremental)
        f->names->incrementals++;
    else
        f->names->bases++;
    uint64_t *highest = incremental ? &f->names->incremental_seq : &f->names->base_seq;
    if (seq > *highest)
        *highest = seq;
}

/* sound: its checksum is right. */
static bool first_line(const char *path, bool *found, bool *sound, struct annotation *a,
                       struct error *err)
{
    char buffer[ANNOTATION_MAX];
    struct os_file f;
    struct error ignored;
    size_t got = 0;
    if (!os_file_open(&f, path, OS_OPEN_READ, err))
        return false;
    bool ok = os_file_read(&f, buffer, sizeof(buffer), &got, err);
    os_file_close(&f, &ignored);
    const char *newline = ok ? memchr(buffer, '\n', got) : NULL;
    *found = newline != NULL &&
             annotation_parse(slice_of(buffer, (size_t)(newline + 1 - buffer)), a);
    *sound = *found && (a->kind == ANNOTATION_LOG || a->kind == ANNOTATION_BASE) &&
             crc32c(a->chain, buffer, a->crc_at) == a->crc;
    return ok;
}

/* Whether there are effects in the file, behind its first line at `head`. What is filled ahead of
 * the first group, and one that only selects a database, are none. */
static bool has_effects(const char *path, const struct annotation *head)
{
    struct error ignored;
    struct log_batch batch;
    struct log_reader *reader = log_reader_open(path, 0, &(struct log_position){0}, &ignored);
    if (reader == NULL)
        return false;
    log_batch_init(&batch);
    const struct log_status *s = log_reader_status(reader);
    while (log_reader_next(reader, &batch, &ignored) == LOG_READ_GROUPS && s->lsn <= head->lsn)
        continue;
    bool found = s->lsn > head->lsn || s->later_groups > 0;
    log_batch_free(&batch);
    log_reader_close(reader);
    return found;
}

bool recovery_manifest_ends_early(const char *directory, const char *filename,
                                  const struct manifest *m, struct error *err)
{
    struct recovery_names names;
    struct annotation a;
    struct error ignored;
    char path[512];
    bool found = false, sound;
    if (m->ours || !recovery_list_names(directory, filename, &names, &ignored) ||
        names.incremental_seq <= m->incremental_seq)
        return false;
    int n = snprintf(path, sizeof(path), "%s/%s.%llu.incr.aof", directory, filename,
                     (unsigned long long)names.incremental_seq);
    if (n < 0 || (size_t)n >= sizeof(path) || !first_line(path, &found, &sound, &a, &ignored) ||
        !found || !has_effects(path, &a)) /* else it was begun, and not named any more */
        return false;
    error_set(err, ERROR_CORRUPT, "it has no checksum, and does not name %s: its end is lost",
              path);
    return true;
}

bool recovery_read_fields(const char *path, struct rdb_load_stats *stats, struct error *err)
{
    struct os_file f;
    struct error ignored;
    char *head = mem_alloc(FIELDS_MAX);
    size_t size = 0, got = 1;
    *stats = (struct rdb_load_stats){0};
    bool ok = os_file_open(&f, path, OS_OPEN_READ, err);
    if (!ok) {
        mem_free(head);
        return false;
    }
    while (ok && size < FIELDS_MAX && got > 0) {
        ok = os_file_read(&f, head + size, FIELDS_MAX - size, &got, err);
        size += ok ? got : 0;
    }
    os_file_close(&f, &ignored);
    struct rdb_reader r;
    struct rdb_records records;
    struct rdb_record record;
    rdb_reader_init_memory(&r, head, size, err);
    r.later = true; /* whether it can be loaded is for who does it to say */
    if (ok && rdb_records_begin(&records, &r)) {
        /* Whatever is wrong further on is for who loads it to say. */
        while (rdb_records_next(&records, &record) && record.kind == RDB_RECORD_AUX)
            rdb_note_aux(&record, stats);
        rdb_records_end(&records);
        *err = (struct error){0};
    } else {
        ok = false;
    }
    rdb_reader_deinit(&r);
    mem_free(head);
    return ok;
}

bool recovery_list_names(const char *directory, const char *filename, struct recovery_names *names,
                         struct error *err)
{
    *names = (struct recovery_names){0};
    struct found f = {filename, names};
    if (!os_path_exists(directory))
        return true;
    return os_dir_list(directory, note_name, &f, err);
}

bool recovery_first_line(const char *path, bool *found, struct annotation *a, struct error *err)
{
    bool sound = false;
    if (!first_line(path, found, &sound, a, err))
        return false;
    *found = *found && sound;
    return true;
}
