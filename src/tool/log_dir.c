/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/log_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "os/file.h"
#include "persist/log/recovery.h"
#include "persist/log/recovery_files.h"

#define SUFFIX ".manifest"
#define OLD_NAME "appendonly.aof"

struct search {
    char filename[256];
    size_t count;
    size_t incrementals; /* a base alone is one that a first start has not come to name */
};

static bool ends_in(const char *name, const char *suffix)
{
    size_t n = strlen(name), size = strlen(suffix);
    return n > size && strcmp(name + n - size, suffix) == 0;
}

static void note_file(void *ctx, const char *name)
{
    struct search *s = ctx;
    size_t n = strlen(name), suffix = strlen(SUFFIX);
    if (ends_in(name, ".incr.aof") && strncmp(name, "temp-", 5) != 0)
        s->incrementals++;
    if (n >= sizeof(s->filename) || !ends_in(name, SUFFIX))
        return;
    s->count++;
    snprintf(s->filename, sizeof(s->filename), "%.*s", (int)(n - suffix), name);
}

/* Whether the directory holds one manifest. */
static bool find_manifest(struct log_dir *d, const char *path, struct error *err)
{
    struct search s = {0};
    if (!os_dir_list(path, note_file, &s, err))
        return false;
    if (s.count > 1)
        return error_set(err, ERROR_INVALID, "%s holds %zu manifests", path, s.count);
    if (s.count == 0 && s.incrementals > 0)
        return error_set(err, ERROR_CORRUPT, "%s holds %zu files of a log, but no manifest", path,
                         s.incrementals);
    if (s.count == 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no manifest of a log in %s", path);
    snprintf(d->directory, sizeof(d->directory), "%s", path);
    memcpy(d->filename, s.filename, sizeof(d->filename));
    return true;
}

static bool open_single(struct log_dir *d, const char *path)
{
    char file[512];
    snprintf(file, sizeof(file), "%s/%s", path, OLD_NAME);
    if (!os_path_exists(file))
        return false;
    snprintf(d->directory, sizeof(d->directory), "%s", path);
    snprintf(d->filename, sizeof(d->filename), "%s", OLD_NAME);
    d->single = true;
    d->manifest.files = mem_alloc(sizeof(*d->manifest.files));
    d->manifest.files[0] =
        (struct manifest_file){.name = mem_dup(OLD_NAME, strlen(OLD_NAME)),
                               .seq = 1,
                               .type = MANIFEST_BASE};
    d->manifest.count = 1;
    return true;
}

bool log_dir_open(struct log_dir *d, const char *path, struct error *err)
{
    char below[512];
    struct error first, second;
    *d = (struct log_dir){0};
    if (strlen(path) + sizeof("/appendonlydir") > sizeof(d->directory))
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", path);
    snprintf(below, sizeof(below), "%s/appendonlydir", path);
    bool found = find_manifest(d, path, &first);
    if (!found && first.code == ERROR_NOT_FOUND) {
        found = find_manifest(d, below, &second);
        if (!found && second.code != ERROR_NOT_FOUND)
            first = second; /* there is a directory of a log, and something is wrong with it */
    }
    if (found)
        return manifest_read(&d->manifest, d->directory, d->filename, err) &&
               !recovery_manifest_ends_early(d->directory, d->filename, &d->manifest, err);
    if (first.code == ERROR_NOT_FOUND && open_single(d, path))
        return true;
    *err = first;
    return false;
}

void log_dir_close(struct log_dir *d)
{
    manifest_free(&d->manifest);
}

bool log_dir_has_file(const char *path)
{
    const char *dot = strrchr(path, '.');
    struct error ignored;
    bool rdb;
    return dot != NULL && (strcmp(dot, ".aof") == 0 || strcmp(dot, ".manifest") == 0) &&
           recovery_is_rdb(path, &rdb, &ignored) && !rdb;
}

const struct manifest_file *log_dir_file(const struct log_dir *d, size_t index)
{
    for (size_t i = 0; i < d->manifest.count; i++) {
        if (d->manifest.files[i].type != MANIFEST_HISTORY && index-- == 0)
            return &d->manifest.files[i];
    }
    return NULL;
}

bool log_dir_path(const struct log_dir *d, const struct manifest_file *f, char out[512],
                  struct error *err)
{
    int n = snprintf(out, 512, "%s/%s", d->directory, f->name);
    if (n >= 0 && n < 256)
        return true;
    return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", d->directory);
}

static int by_kind_and_seq(const void *a, const void *b)
{
    const struct manifest_file *x = *(const struct manifest_file *const *)a;
    const struct manifest_file *y = *(const struct manifest_file *const *)b;
    if (manifest_is_incremental(x) != manifest_is_incremental(y))
        return manifest_is_incremental(x) ? -1 : 1;
    return x->seq < y->seq ? -1 : x->seq > y->seq;
}

const struct manifest_file **log_dir_history(const struct log_dir *d, size_t *count)
{
    const struct manifest_file **found = mem_alloc((d->manifest.count + 1) * sizeof(*found));
    *count = 0;
    for (size_t i = 0; i < d->manifest.count; i++) {
        if (d->manifest.files[i].type == MANIFEST_HISTORY)
            found[(*count)++] = &d->manifest.files[i];
    }
    qsort(found, *count, sizeof(struct manifest_file *), by_kind_and_seq);
    return found;
}

enum log_read log_dir_read(const char *path, uint64_t offset, const struct log_position *start,
                           void (*batch)(void *ctx, const struct log_batch *b), void *ctx,
                           struct log_status *status, struct error *err)
{
    struct log_batch b;
    enum log_read result;
    *status = (struct log_status){0};
    struct log_reader *r = log_reader_open(path, offset, start, err);
    if (r == NULL)
        return LOG_READ_FAILED;
    log_batch_init(&b);
    while ((result = log_reader_next(r, &b, err)) == LOG_READ_GROUPS) {
        if (batch != NULL)
            batch(ctx, &b);
    }
    *status = *log_reader_status(r);
    log_reader_close(r);
    log_batch_free(&b);
    return result;
}
