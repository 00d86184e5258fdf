/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc.h"
#include "base/mem.h"
#include "os/file.h"
#include "persist/log/manifest.h"
#include "persist/log/reader.h"
#include "persist/log/recovery_files.h"

struct reading {
    const char *directory;
    struct manifest manifest;
    uint64_t until, at;
    history_take *take;
    void *ctx;
};

static bool make_path(const char *directory, const char *name, char path[256], struct error *err)
{
    int n = snprintf(path, 256, "%s/%s", directory, name);
    return (n > 0 && n < 256) || error_set(err, ERROR_INVALID, "the path of %s is too long", name);
}

/* A file's first line, if it is ours. */
static bool read_head(const char *directory, const char *name, struct annotation *a)
{
    struct error ignored = {0};
    char path[256];
    bool found = false;
    return make_path(directory, name, path, &ignored) &&
           recovery_first_line(path, &found, a, &ignored) && found && a->kind == ANNOTATION_LOG;
}

bool history_head(const char *directory, const char *name, uint64_t *lsn, bool *anew)
{
    struct annotation head;
    if (!read_head(directory, name, &head))
        return false;
    *lsn = head.lsn;
    *anew = head.chain == 0;
    return true;
}

static int by_seq(const void *a, const void *b)
{
    const struct manifest_file *x = a, *y = b;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

/* The incrementals in order, those of the history first; the rest is left out. */
static bool list_files(struct reading *r, const char *filename, struct error *err)
{
    if (!manifest_read(&r->manifest, r->directory, filename, err))
        return false;
    size_t count = 0;
    for (size_t i = 0; i < r->manifest.count; i++) {
        struct manifest_file f = r->manifest.files[i];
        if (!manifest_is_incremental(&f))
            continue;
        r->manifest.files[i] = r->manifest.files[count];
        r->manifest.files[count++] = f;
    }
    qsort(r->manifest.files, count, sizeof(struct manifest_file), by_seq);
    /* What is behind is freed with the manifest. */
    for (size_t i = count; i < r->manifest.count; i++)
        mem_free(r->manifest.files[i].name);
    r->manifest.count = count;
    return true;
}

static bool give(struct reading *r, const char *data, uint64_t begin, uint64_t end,
                 struct error *err)
{
    uint64_t first = begin < r->at ? r->at : begin, last = end < r->until ? end : r->until;
    if (first >= last)
        return true;
    if (first != r->at)
        return error_set(err, ERROR_NOT_FOUND, "the log has nothing between LSN %llu and %llu",
                         (unsigned long long)r->at, (unsigned long long)first);
    r->at = last;
    return r->take(r->ctx, slice_of(data + (first - begin), (size_t)(last - first)), err);
}

static bool give_group(struct reading *r, const struct log_batch *b, const struct log_group *g,
                       struct error *err)
{
    for (uint32_t i = 0; i < g->command_count && r->at < r->until; i++) {
        const struct log_command *c = &b->commands[g->first_command + i];
        if (c->lsn <= r->at)
            continue;
        /* Effects stand in the file as they are in the stream. */
        if (!give(r, log_batch_bytes(b, c->offset), c->lsn - c->size, c->lsn, err))
            return false;
    }
    return true;
}

static bool read_file(struct reading *r, const struct manifest_file *file,
                      struct log_position *start, struct error *err)
{
    char path[256];
    struct log_batch batch;
    struct error ignored;
    struct os_file f;
    uint64_t forgotten = 0;
    if (!make_path(r->directory, file->name, path, err))
        return false;
    struct log_reader *reader = log_reader_open(path, 0, start, err);
    if (reader == NULL)
        return false;
    bool cached = os_file_open(&f, path, OS_OPEN_READ, &ignored);
    log_batch_init(&batch);
    enum log_read result;
    bool ok = true;
    while (ok && r->at < r->until &&
           (result = log_reader_next(reader, &batch, err)) == LOG_READ_GROUPS) {
        for (size_t i = 0; ok && i < batch.group_count; i++)
            ok = give_group(r, &batch, &batch.groups[i], err);
        if (cached)
            os_file_forget_cache(&f, forgotten, batch.end - forgotten);
        forgotten = batch.end;
    }
    const struct log_status *s = log_reader_status(reader);
    if (ok && r->at < r->until) {
        if (result == LOG_READ_FAILED)
            ok = false;
        else if (!s->annotated || result == LOG_READ_DAMAGED)
            ok = error_set(err, ERROR_CORRUPT, "%s: %s", path,
                           s->annotated ? s->reason : "not of Holdfast");
        *start = (struct log_position){.lsn = s->lsn, .crc = s->crc, .ms = s->ms, .known = true};
    }
    if (cached)
        os_file_close(&f, &ignored);
    log_batch_free(&batch);
    log_reader_close(reader);
    return ok;
}

bool history_read(const char *directory, const char *filename, uint64_t from, uint64_t until,
                  history_take *take, void *ctx, struct error *err)
{
    struct reading r = {
        .directory = directory, .until = until, .at = from, .take = take, .ctx = ctx};
    struct log_position start = {0};
    struct annotation head;
    if (!list_files(&r, filename, err))
        return false;
    size_t first = r.manifest.count;
    for (size_t i = r.manifest.count; i > 0; i--) {
        /* Without it nobody knows whether this one goes on where the one before ends. */
        if (!read_head(directory, r.manifest.files[i - 1].name, &head))
            break;
        if (head.lsn <= from) {
            first = i - 1;
            break;
        }
        /* What was before may be another history's, which went on where this one was left. */
        if (head.chain == 0)
            break;
    }
    bool ok = first < r.manifest.count ||
              error_set(err, ERROR_NOT_FOUND, "the log does not go back to LSN %llu",
                        (unsigned long long)from);
    for (size_t i = first; ok && i < r.manifest.count && r.at < until; i++)
        ok = read_file(&r, &r.manifest.files[i], &start, err);
    if (ok && r.at < until)
        ok = error_set(err, ERROR_NOT_FOUND, "the log ends at LSN %llu", (unsigned long long)r.at);
    manifest_free(&r.manifest);
    return ok;
}

/* ---- the divergence journal ---- */

struct history_journal {
    struct os_file file;
    char path[256];
    uint32_t crc;
    uint64_t lsn;
};

static bool put(struct history_journal *j, const void *data, size_t size, struct error *err)
{
    j->crc = crc32c(j->crc, data, size);
    return os_file_write(&j->file, data, size, err);
}

static bool put_line(struct history_journal *j, const struct annotation *a, struct error *err)
{
    char line[ANNOTATION_MAX];
    return os_file_write(&j->file, line, annotation_put(a, &j->crc, line), err);
}

struct history_journal *history_journal_begin(const char *path, const char *history, uint64_t lsn,
                                              int64_t now_ms, struct error *err)
{
    struct history_journal *j = mem_zalloc(sizeof(*j));
    struct error ignored;
    struct annotation head = {.kind = ANNOTATION_LOG, .lsn = lsn, .ms = now_ms};
    struct annotation group = {.kind = ANNOTATION_GROUP, .lsn = lsn};
    snprintf(j->path, sizeof(j->path), "%s", path);
    snprintf(head.history, sizeof(head.history), "%s", history);
    j->lsn = lsn;
    if (!os_file_open(&j->file, path, OS_OPEN_CREATE_EXCLUSIVE, err)) {
        mem_free(j);
        return NULL;
    }
    if (put_line(j, &head, err) && put_line(j, &group, err))
        return j;
    history_journal_end(j, false, now_ms, &ignored);
    return NULL;
}

bool history_journal_add(struct history_journal *j, struct slice bytes, struct error *err)
{
    j->lsn += bytes.size;
    return put(j, bytes.data, bytes.size, err);
}

bool history_journal_end(struct history_journal *j, bool ok, int64_t now_ms, struct error *err)
{
    struct error ignored;
    struct annotation commit = {.kind = ANNOTATION_COMMIT, .lsn = j->lsn, .ms = now_ms};
    char directory[256];
    os_path_dir(j->path, directory, sizeof(directory));
    bool done = ok && put_line(j, &commit, err) && os_file_sync(&j->file, err);
    os_file_close(&j->file, &ignored);
    if (done)
        done = os_dir_sync(directory, err);
    else
        os_unlink(j->path, &ignored);
    mem_free(j);
    return done;
}
