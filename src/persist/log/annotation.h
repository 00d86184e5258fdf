/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Annotations: the lines that a log file has beside the effects. Redis takes a line that begins
 * with '#' for a comment and skips it. Pure bytes.
 *
 *     #HF1 log <lsn> <ms> <history> <chain> [own ]<crc>\r\n  first line of an incremental file
 *     #HF1 group <lsn>\r\n                                 a commit group begins
 *     *3\r\n$3\r\nSET\r\n ...                              its effects
 *     #HF1 commit <lsn> <ms> <durable> <crc>\r\n           it ends: the LSN behind it
 *     #HF1 close <lsn> <ms> <durable> <crc>\r\n            the file was closed in order
 *
 *     #HF1 base <lsn> <ms> <history> <db> <crc>\r\n       first line of a base of commands
 *     #HF1 select <lsn>\r\n                               the SELECT that follows is the file's own
 *
 * LSNs and milliseconds since 1970 are decimal; <history> is the replication id, 40 hex digits;
 * <chain> and <crc> are CRC32Cs, 8 lower-case hex digits. The crc of `log` covers that line up to
 * the crc, and starts from <chain>, the last crc of the file before (00000000 if there is none);
 * that of `commit` and `close` starts from the crc before it in the file and covers every byte
 * since that line's end up to its own crc field. So each crc vouches for all before it: a byte that
 * was changed, lost, or put in is found, wherever it stands.
 *
 * <durable>: when the line was written everything below this LSN was synced. (Lines without it and
 * its blank were written by versions that did not say so; they are read.) A commit line without a
 * group before it, of the same LSN as the one before, says just that.
 *
 * own: what the file holds was done by this server itself, as a primary, and is not a copy of
 * another one's stream (lines of older versions do not say so).
 *
 * LSNs count effects only, not annotations. The first LSN of a group is the last one of the group
 * before, or later (what is in between was for replicas alone).
 *
 * A base of commands holds a keyspace as it was at the LSN of its first line; <db> is the database,
 * in 8 hex digits, that the effect behind that LSN is for unless it selects one. The LSNs of its
 * groups count from 0, the bytes of the file's own commands, so that they tell a group that is
 * missing; the crc of its first line starts from 0. It ends in a close line, or it is not whole.
 *
 * A file that begins in the middle of a replica's stream is not in database 0 where redis-server
 * begins: its first group is a SELECT of its own behind a `select` line, which no LSN counts.
 *
 * Filling. Between a valid line and the next, and behind the last one, there may be lines of
 * nothing but '#': room that was written ahead, so that a commit need not wait for the file's new
 * size to be on the disk (persist/log/writer_groups.c). Every ANNOTATION_FILL_LINEth byte of the
 * file is the end of such a line, the others are '#', so that what was not yet written over is
 * whole lines again; no crc covers them. Groups stand in their place one behind the other, as if
 * they were not there. (redis-server reads lines of less than 128 bytes.)
 *
 * Reading. A file whose first line is not `#HF1 log` was written by Redis: then no `#HF1` may
 * follow. Behind a valid commit (or close, or log) line there can be:
 *   - the end of the file;
 *   - a line of '#' alone: passed over;
 *   - "#HF1 group": the next group. If it is not whole or its crc is wrong: when a later file
 *     begins, or a line follows anywhere behind that is valid, damage; else a torn tail. Valid is a
 *     commit or close that is in its place in the chain (persist/log/tail.h). But when none of
 *     these says that anything behind the last good line was durable, and they are all of one
 *     minute, it is a torn tail nevertheless: several groups were not synced when the power went,
 *     and of these the disk had written a later one and not an earlier one;
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

enum annotation_kind {
    ANNOTATION_LOG,
    ANNOTATION_GROUP,
    ANNOTATION_COMMIT,
    ANNOTATION_CLOSE,
    ANNOTATION_BASE,
    ANNOTATION_SELECT
};

struct annotation {
    enum annotation_kind kind;
    uint64_t lsn;
    int64_t ms;                          /* not in GROUP and SELECT */
    char history[ANNOTATION_HISTORY + 1]; /* LOG and BASE only */
    bool has_durable;                    /* COMMIT and CLOSE */
    uint64_t durable;
    uint32_t chain;                      /* LOG only; of a BASE it is 0 */
    bool own;                            /* LOG only */
    uint32_t db;                         /* BASE only */
    uint32_t crc;                        /* not in GROUP and SELECT */
    size_t crc_at;                       /* parsing: offset of the crc field in the line */
};

/* Writes the line without its crc field (but with the blank before it) to `out`, and returns its
 * size; annotation_finish appends the crc and the end of line and returns how much that is. GROUP
 * and SELECT lines are complete (their size includes the end of line). */
size_t annotation_format(const struct annotation *a, char out[ANNOTATION_MAX]);
size_t annotation_finish(uint32_t crc, char *out);
/* Parse a whole line, "\r\n" included. False when it is not an annotation of ours in the exact form
 * in which annotation_format writes it. The crc is not verified. */
bool annotation_parse(struct slice line, struct annotation *a);

/* A whole line, with its crc if it has one; *crc goes on over it. */
size_t annotation_put(const struct annotation *a, uint32_t *crc, char out[ANNOTATION_MAX]);
/* A group with nothing but the file's own SELECT of a database, at an LSN. */
#define ANNOTATION_SELECT_GROUP_MAX (3 * ANNOTATION_MAX)
size_t annotation_put_select(uint64_t lsn, int64_t ms, int db, uint32_t *crc,
                             char out[ANNOTATION_SELECT_GROUP_MAX]);

/* Filling for [offset, offset + size) of a file. */
#define ANNOTATION_FILL_LINE 64
void annotation_fill(uint64_t offset, char *out, size_t size);
/* Where what is written ends at `end`, in the middle of filling: what has to follow, so that what
 * is left of the line there is a line of filling, too. Returns its size, which mostly is 0. */
#define ANNOTATION_JOIN_MAX 2
size_t annotation_join_filling(uint64_t end, char out[ANNOTATION_JOIN_MAX]);

#endif
