/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What loading by several threads is made of, whether the bytes come from a file
 * (persist/load_threads.h, where it is drawn) or over a connection (persist/load_stream.h): parts
 * of whole records, workers that build entries from them, and the tables that come of it.
 *
 *     load_job_init, fields set by the caller -> load_job_start -> load_job_append for each part,
 *     load_job_all_queued -> load_job_wait -> load_job_take_tables -> load_job_deinit
 *
 * Who owns what. `lock` guards the list of parts, the queue, the counters of threads and the first
 * error. A part belongs to the thread that took it, a builder to its thread until all are through
 * with parsing (`planned`); from then on its pairs belong to whoever has taken the task for their
 * range of hashes. `failed`, `bytes` and `keys` are read at any time, atomically.
 */
#ifndef HF_PERSIST_LOAD_JOB_H
#define HF_PERSIST_LOAD_JOB_H

#include <pthread.h>

#include "os/file.h"
#include "os/thread.h"
#include "persist/load_ahead.h"
#include "persist/rdb/format.h"
#include "persist/rdb/record.h"
#include "structure/table_build.h"

struct pair_block;

/* One builder's entries of one database, by the top byte of their hashes. What is needed to put
 * one down lies close together: the blocks themselves begin at like addresses, which a processor's
 * cache keeps few of (8 % of a load of small strings went into looking into them). */
struct db_pairs {
    struct pair_part {
        struct table_pair *next, *end; /* in the block that is not full yet */
        struct pair_block *block;      /* it, and behind it the full ones; NULL: no pairs */
        uint64_t count;
    } parts[TABLE_BUILD_PARTS];
    uint64_t expires, timed;
    struct keysizes sizes;
};

/* Bytes [from, to) of the file: whole records. */
struct load_part {
    struct load_part *next;   /* in the file */
    struct load_part *queued; /* the next to be taken */
    uint64_t from, to;
    int db;              /* that is selected where it begins; in a chunk: that it selects itself */
    bool chunk;          /* of the index */
    uint64_t keys;       /* of a chunk, as the index says */
    unsigned char *data; /* the bytes; NULL: to be read from the file */
    struct load_buffer *buffer; /* has the bytes, read ahead */
    bool awaited; /* may not be taken yet: a reader will say so */
    struct os_file spilled; /* open: these bytes are in a file of their own */
    uint64_t crc;
};

struct load_job;

struct load_builder {
    struct load_job *job;
    pthread_t thread;
    struct epoch epoch;
    struct rdb_loader *loader;
    struct rdb_load_stats stats;
    struct db_pairs **dbs; /* by database; NULL: no keys of it */
    uint64_t bytes, keys;  /* loaded so far, for the progress */
    uint64_t delayed;      /* keys, for key_delay_us */
    struct table_pair *pairs, *scratch; /* room for a task */
    uint64_t room;
    struct os_polite polite;
};

struct db_build {
    int db;
    uint64_t expires, timed;
    struct keysizes sizes;
    struct table_build build;
};

struct load_job {
    struct keyspace *ks;
    struct os_file *file; /* NULL: the bytes come by a stream */
    struct load_ahead ahead; /* of the same file, if it has an index */
    uint64_t size;
    const struct rdb_load_options *options;
    /* Run by a thread of its own that makes the parts; NULL: the caller does, before or
     * meanwhile. */
    void (*scan)(struct load_builder *b);
    bool (*cancelled)(void *ctx); /* looked at while the caller waits; may be NULL */
    void *cancelled_ctx;
    int version;
    uint64_t start; /* of the first record that is no field */
    uint64_t tail;  /* where the last part ends */
    uint64_t head_crc; /* of what stands before `start` */
    uint64_t stored_crc;

    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct load_part *first, **last; /* all parts, in the order of the file */
    struct load_part *queue, **queue_last;
    uint32_t queued;
    bool all_queued;
    uint32_t parsing, working; /* threads that are not through with it */
    bool planned, finished;
    bool failed;
    struct error err;

    struct db_build **builds;
    int build_count;
    struct build_task {
        struct db_build *build;
        uint32_t task;
    } *tasks;
    uint32_t task_count, next_task;
    bool rejected; /* a key was there twice; set by any thread */

    struct load_builder *builders;
    int builder_count, workers;
};

void load_job_init(struct load_job *job, struct keyspace *ks, struct os_file *f, uint64_t size,
                   const struct rdb_load_options *options);
void load_job_deinit(struct load_job *job);
/* Start the workers, and the one that scans if there is one. False: there are too few. */
bool load_job_start(struct load_job *job, struct error *err);
/* Put a part, which is copied, behind those there are; queue it for a worker unless it is loaded
 * already. Waits while there are enough in the queue. Its bytes and its file are the job's from
 * here on. */
void load_job_append(struct load_job *job, const struct load_part *part, bool loaded);
void load_job_all_queued(struct load_job *job);
/* Until all threads have ended. */
void load_job_wait(struct load_job *job, struct rdb_load_stats *stats);
/* Link what was built into the keyspace; or away with it, if there was a key twice. */
bool load_job_take_tables(struct load_job *job, struct error *err);
void load_job_sum_stats(const struct load_job *job, struct rdb_load_stats *stats);

bool load_job_has_failed(const struct load_job *job);
void load_job_fail(struct load_job *job, const struct error *err);
void load_job_note_progress(struct load_builder *b, uint64_t bytes);
/* One record, whatever it is; a chunk has but one database. */
bool load_job_record(struct load_builder *b, struct rdb_reader *r, const struct rdb_record *record,
                     const struct load_part *p);

struct load_range {
    struct os_file *file;
    uint64_t at, end;
};
/* A reader of the file from `range->at` to `range->end`. */
void load_reader_init_range(struct rdb_reader *r, struct load_range *range, struct error *err);
/* A reader of bytes that stand at `from` in the file. */
void load_reader_init_bytes(struct rdb_reader *r, const void *data, size_t size, uint64_t from,
                            struct error *err);
bool load_crc_of_range(struct os_file *f, uint64_t from, uint64_t to, uint64_t *crc,
                       struct error *err);

#endif
