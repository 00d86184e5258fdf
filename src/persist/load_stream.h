/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Loading an RDB as it comes over a connection, without a file: the caller's thread receives it and
 * cuts it into parts of whole records, and the threads of persist/load_job.h build the entries
 * meanwhile. When the last byte is there most of the work is done.
 *
 *     read ──> [what has come] ──whole records──> parts ──> workers ──> tables
 *                    │ a record that is larger than LOAD_STREAM_RECORD
 *                    v
 *              read through to its end, into a buffer of its own or, beyond LOAD_STREAM_HELD, into
 *              a temporary file: one part
 *
 * What has come is bounded: some parts for each worker wait, then nothing is read. A length
 * that goes beyond the whole's size is refused at once; where the size is not known it costs what
 * comes: such a record is read on, into the temporary file, until the stream ends.
 *
 * It is loaded into a keyspace of its own (load_beside) and is worth nothing until all of it is
 * there and the checksum is right: on failure the keyspace is empty again. What is damaged is
 * refused by whoever meets it first: the error is one of those that there are, and says where.
 */
#ifndef HF_PERSIST_LOAD_STREAM_H
#define HF_PERSIST_LOAD_STREAM_H

#include "persist/rdb/format.h"

#define LOAD_STREAM_RECORD ((size_t)64 << 10)
#define LOAD_STREAM_HELD ((size_t)16 << 20)

struct load_stream {
    /* At least one byte, at most `room`; waits for it. False: it failed, or there is no more. */
    bool (*read)(void *ctx, void *data, size_t room, size_t *got, struct error *err);
    /* Whether the load is to be given up: looked at now and then. */
    bool (*cancelled)(void *ctx);
    void *ctx;
    uint64_t size;    /* of the whole; 0: not known, it ends where its end marker says */
    const char *path; /* of the temporary file, whose name is gone while it is used */
};

/* All databases of `ks` must be empty, and it is nobody else's until it is loaded. `rest` are the
 * bytes that were read behind the end, of which there are none when the size is known; freed by
 * mem_free. On failure it is not touched. */
bool load_stream(struct keyspace *ks, const struct load_stream *stream,
                 const struct rdb_load_options *options, struct rdb_load_stats *stats, char **rest,
                 size_t *rest_size, struct error *err);

#endif
