/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Annotations: the lines that a log file has beside the effects. Redis takes a line that begins with
 * '#' for a comment and skips it. Pure bytes.
 *
 *     #HF1 log <lsn> <ms> <history> <chain> <crc>\r\n      first line of an incremental file
 *     #HF1 group <lsn>\r\n                                 a commit group begins
 *     *3\r\n$3\r\nSET\r\n ...                              its effects
 *     #HF1 commit <lsn> <ms> <crc>\r\n                     it ends: the LSN behind it
 *     #HF1 close <lsn> <ms> <crc>\r\n                      the file was closed in order
 *
 * LSNs and milliseconds since 1970 are decimal; <history> is the replication id, 40 hex digits;
 * <chain> and <crc> are CRC32Cs, 8 lower-case hex digits. The crc of `log` covers that line up to
 * the crc, and starts from <chain>, the last crc of the file before (00000000 if there is none);
 * that of `commit` and `close` starts from the crc before it in the file and covers every byte since
 * that line's end up to its own crc field. So each crc vouches for all before it: a byte that was
 * changed, lost, or put in is found, wherever it stands.
 *
 * LSNs count effects only, not annotations. The first LSN of a group is the last one of the group
 * before, or later (what is in between was for replicas alone).
 *
 * Reading. A file whose first line is not `#HF1 log` was written by Redis: then no `#HF1` may follow.
 * Behind a valid commit (or close, or log) line there can be:
 *   - the end of the file;
 *   - "#HF1 group": the next group. If it is not whole or its crc is wrong: when a valid commit line
 *     follows anywhere behind, or a later file begins, damage; else a torn tail;
 *   - bytes that begin with '*' (or a line "#TS:"): appended by redis-server, which has no
 *     annotations: taken as Redis takes them. A log line or a commit may follow when Holdfast has
 *     gone on behind it in the same file: it does not; it begins a new file;
 *   - anything else (zeros, pieces): as an invalid group.
 */
#ifndef HF_PERSIST_LOG_ANNOTATION_H
#define HF_PERSIST_LOG_ANNOTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define ANNOTATION_MAX 160
#define ANNOTATION_HISTORY 40

enum annotation_kind { ANNOTATION_LOG, ANNOTATION_GROUP, ANNOTATION_COMMIT, ANNOTATION_CLOSE };

struct annotation {
    enum annotation_kind kind;
    uint64_t lsn;
    int64_t ms;                          /* not in GROUP */
    char history[ANNOTATION_HISTORY + 1]; /* LOG only */
    uint32_t chain;                      /* LOG only */
    uint32_t crc;                        /* not in GROUP */
    size_t crc_at;                       /* parsing: offset of the crc field in the line */
};

/* Writes the line without its crc field (but with the blank before it) to `out`, and returns its
 * size; annotation_finish appends the crc and the end of line and returns how much that is. GROUP
 * lines are complete (their size includes the end of line). */
size_t annotation_format(const struct annotation *a, char out[ANNOTATION_MAX]);
size_t annotation_finish(uint32_t crc, char *out);
/* Parse a whole line, "\r\n" included. False when it is not an annotation of ours in the exact form
 * in which annotation_format writes it. The crc is not verified. */
bool annotation_parse(struct slice line, struct annotation *a);

#endif
