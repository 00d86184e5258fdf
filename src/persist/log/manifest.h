/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The manifest of an append-only directory: which files make up the log, in which order, in the
 * form that Redis 7 reads and writes.
 *
 *     file appendonly.aof.2.base.rdb seq 2 type b
 *     file appendonly.aof.1.incr.aof seq 1 type h
 *     file appendonly.aof.2.incr.aof seq 2 type i
 *     #HF1 <crc32c of all lines before, 8 hex digits>
 *
 * b: the base, at most one; i: incrementals, in order; h: history, no longer needed. Names with
 * blanks or quotes stand in quotes. The last line is ours: Redis skips it as a comment. A manifest
 * without it was written by Redis and is taken as it is, unless there is a log of ours behind what
 * it names: then its end is lost. That is refused, and so is one with a wrong crc.
 *
 * Writing replaces the file as a whole (os_file_replace: temporary file, sync, rename, directory
 * sync): at each instant it names what is true.
 */
#ifndef HF_PERSIST_LOG_MANIFEST_H
#define HF_PERSIST_LOG_MANIFEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "base/text.h"

enum manifest_type { MANIFEST_BASE = 'b', MANIFEST_INCREMENTAL = 'i', MANIFEST_HISTORY = 'h' };

struct manifest_file {
    char *name; /* relative to the directory */
    uint64_t seq;
    enum manifest_type type;
    /* Of a file of effects, as far as the one who uses the manifest has found out; not in the
     * file. */
    bool known;
    uint64_t lsn; /* that it begins at */
    bool anew;    /* what was before does not lead up to it */
};

struct manifest {
    struct manifest_file *files; /* base first, then history, then incrementals by seq */
    size_t count;
    uint64_t base_seq, incremental_seq; /* the highest ones given out so far */
    bool ours;                          /* it had our last line */
    bool unsummed; /* to be written without it, as redis-server does; false after reading */
};

void manifest_init(struct manifest *m);
void manifest_free(struct manifest *m);
bool manifest_copy(struct manifest *to, const struct manifest *from);

/* False: err names the line and what is wrong with it. */
bool manifest_parse(struct manifest *m, struct slice text, struct error *err);
void manifest_format(const struct manifest *m, struct text *out);

/* Both name the path in their errors. NOT_FOUND when there is no manifest. */
bool manifest_read(struct manifest *m, const char *directory, const char *filename,
                   struct error *err);
bool manifest_write(const struct manifest *m, const char *directory, const char *filename,
                    struct error *err);

const struct manifest_file *manifest_base(const struct manifest *m); /* NULL: none */
/* Give out the next name ("<filename>.<seq>.base.rdb", ".base.aof", ".incr.aof") and add it. A new
 * base makes the old one history. */
struct manifest_file *manifest_add_incremental(struct manifest *m, const char *filename);
struct manifest_file *manifest_add_base(struct manifest *m, const char *filename, bool rdb);
/* Whether it is a file of effects, in use or history. */
bool manifest_is_incremental(const struct manifest_file *f);
/* All incrementals before this seq become history. */
void manifest_retire_before(struct manifest *m, uint64_t seq);
/* A file that was left over: to be removed with the history. */
void manifest_note_history(struct manifest *m, const char *name, uint64_t seq);
/* Forget one file, if it is named. */
void manifest_forget(struct manifest *m, const char *name);
/* Whether both name the same base and the same incrementals. */
bool manifest_same_log(const struct manifest *a, const struct manifest *b);
/* Forget history. */
void manifest_drop_history(struct manifest *m);

#endif
