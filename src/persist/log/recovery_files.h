/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What recovery does with files, besides what the tool needs too (recovery.h), and how it names
 * moments.
 */
#ifndef HF_PERSIST_LOG_RECOVERY_FILES_H
#define HF_PERSIST_LOG_RECOVERY_FILES_H

#include "base/error.h"
#include "persist/log/annotation.h"
#include "persist/log/manifest.h"

/* "20261121-171059", local time, for names. */
#define RECOVERY_STAMP_SIZE 20
void recovery_stamp(int64_t ms, char out[RECOVERY_STAMP_SIZE]);

/* "21 Nov 2026 17:10:59.123", local time, for messages; returns `out`. */
#define RECOVERY_DATE_SIZE 40
const char *recovery_date(char out[RECOVERY_DATE_SIZE], int64_t ms);
/* "21 Nov 2026 17:10:59.123 (LSN 1234)"; ms 0: "an unknown time (LSN 1234)". */
#define RECOVERY_MOMENT_SIZE 80
const char *recovery_moment(char out[RECOVERY_MOMENT_SIZE], int64_t ms, uint64_t lsn);

/* Write the file's bytes from `from` on again, and sync: a read may have given what an earlier sync
 * has failed to bring to the disk, and that would not be tried again by itself. */
bool recovery_sync_again(const char *path, uint64_t from, struct error *err);

/* Move the files of a manifest that is no longer in force, and a copy of it, into a new directory
 * "<directory>/<why>-<date>-<time>", whose path is put into `place`. */
bool recovery_put_aside(const char *directory, const char *filename, const struct manifest *m,
                        const char *why, int64_t now_ms, char place[256], struct error *err);

/* The files in the directory whose names are of the log's form, whether named in a manifest or
 * not. */
struct recovery_names {
    size_t bases, incrementals;
    uint64_t base_seq, incremental_seq; /* the highest */
};
bool recovery_list_names(const char *directory, const char *filename, struct recovery_names *names,
                         struct error *err);

/* The annotation that a file begins with, if it does and its checksum is right. */
bool recovery_first_line(const char *path, bool *found, struct annotation *a, struct error *err);

/* A manifest of ours that is cut off at the end of a line looks like one of redis-server's, which
 * has no checksum. But then there is a log of ours behind those that it names. True: err says
 * so. */
bool recovery_manifest_ends_early(const char *directory, const char *filename,
                                  const struct manifest *m, struct error *err);

#endif
