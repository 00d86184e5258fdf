/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A save job: writes one snapshot to one file on threads of its own, durably and proven: an RDB
 * file; what changed in it since an earlier one, as a delta (persist/chain/link.h); or a log's base
 * as commands (persist/save_commands.h). BGSAVE, the rewrite of the log, incremental snapshots and
 * backups are save jobs; several may run at once.
 *
 *     save_job_start -> threads serialise ranges, one writes in order -> sync -> re-read and decode
 *                    -> rename to the target -> directory sync -> wake(ctx) -> save_job_finish
 *
 * The snapshot is taken by the caller and given to the job, which gives it back by releasing it in
 * save_job_finish. The target is not touched before the new file is proven; on failure the
 * temporary file is gone and err says why.
 *
 * The functions are the executor's; wake is called on a thread of the job's.
 */
#ifndef HF_PERSIST_SAVE_JOB_H
#define HF_PERSIST_SAVE_JOB_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/rdb/format.h"
#include "persist/save_limits.h"

/* An AUX field, in addition to those that every file has. */
struct save_aux {
    char name[32];
    char value[64];
};
#define SAVE_AUX_MAX 24

/* Where in the stream of effects the snapshot is. */
struct save_position {
    uint64_t lsn;
    char history[41]; /* 40 hex digits */
    int db;           /* for which the effect behind it is, unless it selects one */
    bool own;         /* what follows is done by this server as a primary */
};

struct save_options {
    char path[256];
    int version; /* that was chosen; 0: the one that the data needs, 10 or 12 */
    bool raise_version; /* what the version has no form for is written as a later one has it: for
                           those who read all of them; else the save is refused */
    bool compress, checksum, incremental_sync;
    bool verify;           /* re-read and decode before the rename */
    bool sum;              /* take the SHA-256 of what is verified; of a delta it always is */
    bool make_directory;   /* of the path, if it is not there */
    int threads;           /* serialising; at least 1 */
    uint64_t rate_limit;   /* bytes per second; 0: none */
    uint64_t memory_limit; /* bytes held for the snapshot: half of it hurries, beyond it the job is
                              given up; 0: none */
    const struct save_limits *limits; /* these hold instead of the two; NULL: the two do */
    int64_t silent_most_us; /* of save_job_run: when nothing has moved for so long it is said in the
                               log, again and again; 0: never */
    enum rdb_clock clock;
    int64_t key_delay_us;  /* wait so long after each key (for tests); -n: 1 us after each n keys */
    struct save_aux aux[SAVE_AUX_MAX]; /* repl-id, repl-offset, ... */
    int aux_count;
    /* Not 0: a delta of what changed since the mark that is called so (struct change_mark), which
     * must stand until the job has been finished. */
    uint64_t since;
    /* Commands instead of RDB records, in the form of persist/save_commands.h; `at` goes into the
     * first line. version, compress, checksum, clock, aux and since do not matter then. */
    bool commands;
    struct save_position at;
};

/* What holds now. */
uint64_t save_rate_limit(const struct save_options *options);
uint64_t save_memory_limit(const struct save_options *options);

struct save_job;

struct save_job *save_job_start(struct keyspace *ks, struct snapshot *snapshot,
                                const struct save_options *options, void (*wake)(void *ctx),
                                void *ctx, struct error *err); /* NULL: the snapshot is released */
/* The same in this thread, as fast as it goes: SAVE. Ended when it returns. */
struct save_job *save_job_run(struct keyspace *ks, struct snapshot *snapshot,
                              const struct save_options *options);
void save_job_cancel(struct save_job *j);
bool save_job_ended(const struct save_job *j);

struct save_progress {
    uint64_t keys_done, bytes_done;
    uint64_t keys_total; /* of a delta: estimated, from what is done */
    uint64_t bytes_estimated; /* of the whole file, from what is done; 0: not yet known */
    int64_t eta_ms;           /* -1: not yet known */
    size_t held_bytes;        /* kept in memory for the snapshot alone */
    bool verifying;
};
void save_job_progress(const struct save_job *j, struct save_progress *p);

struct save_result {
    uint64_t keys, file_size, data_size; /* data: bytes of keys and values before compression */
    uint64_t deleted;                    /* of a delta */
    int64_t serialise_us, sync_us, verify_us, total_us;
    size_t held_bytes_most;
    bool verified;
    char sha256[65]; /* of the file; empty unless it was verified with `sum`, or is a delta */
};
/* Waits if it has not ended. Releases the snapshot and frees the job. False: err says why. */
bool save_job_finish(struct save_job *j, struct save_result *result, struct error *err);

#endif
