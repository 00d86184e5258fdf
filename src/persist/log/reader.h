/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading one file of the log, from its beginning to its end, whoever wrote it: Holdfast
 * (annotated, persist/log/annotation.h), redis-server (incrementals of a multi-part AOF, old single
 * files, "#TS:" lines), or redis-server behind what Holdfast wrote.
 *
 *     file -> batch: [ group | group | group ]   each whole and, where there are checksums, proven
 *
 * Groups are given in batches of about LOG_BATCH_SIZE bytes, which own the bytes that the arguments
 * are slices of: a batch may be filled by one thread and used by another. Memory is bounded by that
 * size, or by the largest group (of Holdfast's, a commit group; of redis-server's, one command, or
 * MULTI .. EXEC).
 *
 * What stands behind the last valid group is classified:
 *
 *     LOG_READ_END      nothing: the file ends there
 *     LOG_READ_TORN     the end of an append that did not come to its end: a group that is cut off
 *                       or, in an annotated file, whose checksum is wrong, and no valid group
 *                       behind it, or only such as were not synced either (persist/log/tail.h); or
 *                       zeros. To be cut off, if no other file of the log follows
 *     LOG_READ_DAMAGED  anything else: valid groups follow, or bytes that nobody appends; a base of
 *                       commands that does not end as it was written
 *
 * Without checksums (redis-server's files) a changed byte inside an argument cannot be seen.
 *
 * A reader belongs to one thread.
 */
#ifndef HF_PERSIST_LOG_READER_H
#define HF_PERSIST_LOG_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"
#include "persist/log/annotation.h"

#define LOG_BATCH_SIZE ((size_t)256 << 10)

struct log_command {
    uint64_t offset; /* in the file */
    uint64_t lsn;    /* behind it */
    uint64_t size;   /* of its bytes */
    uint32_t first_arg, argc;
    bool control; /* MULTI or EXEC: nothing to be executed */
    bool unit;    /* with it something ends that is done whole: a command, or MULTI .. EXEC */
};

struct log_group {
    uint64_t offset, end; /* in the file, annotations included */
    uint64_t lsn;         /* behind it */
    int64_t ms;           /* of its commit; of redis-server's the last #TS: line; 0: unknown */
    uint32_t first_command, command_count;
};

/* Arrays that are used again from one filling to the next. */
struct log_batch {
    struct log_group *groups;
    struct log_command *commands;
    struct slice *args; /* of all commands */
    size_t group_count, command_count, arg_count;
    uint64_t end; /* offset in the file behind the last group */

    /* the reader's own */
    size_t group_room, command_room, arg_room;
    char *bytes;
    size_t size, room;
    uint64_t base; /* the offset of its bytes in the file */
};

/* What stands at this offset of the file, if it is in the batch: a command's bytes, say. */
static inline const char *log_batch_bytes(const struct log_batch *b, uint64_t offset)
{
    return b->bytes + (offset - b->base);
}

void log_batch_init(struct log_batch *b);
void log_batch_free(struct log_batch *b);

/* Where a file begins: what the one before it ended with. */
struct log_position {
    uint64_t lsn;
    uint32_t crc;
    int64_t ms;
    bool known; /* there was a file before: a log line must follow it */
};

enum log_read { LOG_READ_GROUPS, LOG_READ_END, LOG_READ_TORN, LOG_READ_DAMAGED, LOG_READ_FAILED };

struct log_status {
    bool annotated;       /* it begins with a log or base line of ours */
    bool base; /* with a base line; then its groups' LSNs count its own commands, and `lsn`
                             is that of the base once it is over */
    bool closed;          /* its last line is a close */
    bool foreign;         /* redis-server has appended to what we wrote */
    struct annotation log; /* its first line (LOG or BASE), if annotated */
    uint64_t size;        /* of the file */
    uint64_t valid_end;   /* offset behind the last valid group or line */
    uint64_t lsn;         /* there */
    int64_t ms;           /* the last time that was seen; 0: none */
    uint32_t crc;         /* of all up to valid_end: what the next file's chain is */
    uint64_t groups, commands;
    /* of TORN and DAMAGED */
    uint64_t bad_offset;  /* where what is wrong was noticed */
    char reason[128];
    /* of DAMAGED, and maybe of TORN, in an annotated file: valid groups behind the damage */
    uint64_t later_groups, later_offset, later_lsn;
    int64_t later_ms;
};

struct log_reader;

/* Begin at `offset` (behind an RDB preamble; else 0). NULL: the file cannot be opened. */
struct log_reader *log_reader_open(const char *path, uint64_t offset,
                                   const struct log_position *start, struct error *err);
void log_reader_close(struct log_reader *r);
/* The next groups. FAILED: the file could not be read. After anything but GROUPS it is over. */
enum log_read log_reader_next(struct log_reader *r, struct log_batch *b, struct error *err);
/* Up to the last batch; whole when it is over. */
const struct log_status *log_reader_status(const struct log_reader *r);

#endif
