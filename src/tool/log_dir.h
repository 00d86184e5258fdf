/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A log as the tool finds it: the files of an append-only directory in their order, or an old
 * single file.
 */
#ifndef HF_TOOL_LOG_DIR_H
#define HF_TOOL_LOG_DIR_H

#include "base/error.h"
#include "persist/log/manifest.h"
#include "persist/log/reader.h"

struct log_dir {
    char directory[256]; /* where the files are */
    char filename[256];  /* what their names begin with */
    struct manifest manifest;
    bool single; /* an old single file, which the manifest (made up) names as the base */
};

/* `path` is the append-only directory, or the data directory that it stands in (under the name
 * appendonlydir), or one with an old single file. NOT_FOUND: there is no log; CORRUPT: there are
 * files of one, but no manifest, or a damaged one. */
bool log_dir_open(struct log_dir *d, const char *path, struct error *err);
void log_dir_close(struct log_dir *d);

/* Whether a file is one of a log, by its name, and no RDB file: it is nothing by itself. One with
 * an RDB preamble is read as far as that goes. */
bool log_dir_has_file(const char *path);

/* The files in use, in order: base, incrementals. NULL behind the last. */
const struct manifest_file *log_dir_file(const struct log_dir *d, size_t index);
bool log_dir_path(const struct log_dir *d, const struct manifest_file *f, char out[512],
                  struct error *err);
/* The files of the history: those of effects in the order of the stream, then bases. An array of
 * *count, to be freed with mem_free; what it points to lives as long as `d`. */
const struct manifest_file **log_dir_history(const struct log_dir *d, size_t *count);

/* Read a file of commands from `offset` to its end. `batch` (may be NULL) is called for each.
 * Returns how it ends; *status then is the reader's. */
enum log_read log_dir_read(const char *path, uint64_t offset, const struct log_position *start,
                           void (*batch)(void *ctx, const struct log_batch *b), void *ctx,
                           struct log_status *status, struct error *err);

/* check.c: validate an RDB file, or the preamble that a file begins with, and print the result;
 * *end (may be NULL) is the offset behind it, *stats (may be NULL) gets what its fields tell of
 * where it stands. */
struct rdb_load_stats;
bool check_rdb_file(const char *path, size_t memory, uint64_t *end, struct rdb_load_stats *stats);
/* check_log.c: the same for a whole log, and for the RDB files beside it. */
bool check_log_dir(const char *path, size_t memory);

/* The first thing in a log that keeps it from being loaded whole. */
struct log_damage {
    bool found;
    bool torn;    /* it is a torn tail, which a start cuts off by itself */
    bool base;    /* it is in the base, where nothing can be cut off */
    size_t index; /* of the file */
    uint64_t cut; /* all before this offset is good; 0: nothing of the file is */
};
/* Look through all files that a start reads, printing a line for each, and find the first
 * damage. */
bool check_log_files(const struct log_dir *d, size_t memory, struct log_damage *damage);

#endif
