/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The second half of a save job: the written and synced file is read again from its beginning to
 * its end, and proven before it gets its name. Every record is decoded (rdb_check_value), each
 * chunk must have the keys and the checksum that it had in memory, the checksum at the end must be
 * that of what was read. Helpers read and decode chunks, past the page cache where the file system
 * can do that; where the SHA-256 is asked for, each of them puts its chunk into it in the order of
 * the file.
 */
#ifndef HF_PERSIST_SAVE_VERIFY_H
#define HF_PERSIST_SAVE_VERIFY_H

#include "os/file.h"
#include "os/thread.h"
#include "persist/save_pipe.h"

/* A part of the file that can be read alone, as it was written. */
struct save_chunk {
    uint64_t offset, size, keys, crc;
    int db;
};

/* Keeps to a rate: how many bytes have passed since when. When the rate changes it begins anew. */
struct save_pace {
    int64_t begin_us;
    uint64_t bytes, rate;
};
void save_pace_begin(struct save_pace *p);
/* Waits until `bytes` more are due at the options' rate (0: does not wait), or the job stops or
 * hurries. */
void save_pace_wait(struct save_pace *p, const struct save_options *options, uint64_t bytes,
                    const struct save_counters *counters);

struct save_written {
    struct os_file *file;
    uint64_t size;
    struct save_chunk *chunks; /* one behind the other */
    size_t chunk_count;
    /* offsets: before it the header, after it the index and EOF */
    uint64_t chunks_begin, chunks_end;
    uint64_t deleted;                  /* of a delta: keys named as deleted in the header */
};

/* In the calling thread, which yields by `polite` unless it is NULL. *done counts the bytes
 * (atomic). False: the file is not what it should be, or cannot be read; CANCELLED when
 * counters->stop is set. */
bool save_verify(const struct save_written *f, const struct save_options *options,
                 struct os_polite *polite, struct save_counters *counters, uint64_t *done,
                 char sha256[65], struct error *err);

#endif
