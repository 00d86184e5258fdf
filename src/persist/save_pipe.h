/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The first half of a save job: threads that turn ranges of a snapshot into blocks of RDB bytes, or
 * of commands, which one writer takes in the order of the file.
 *
 *     task 0: db 0, hashes [0, a)    worker 1 ──blocks──┐
 *     task 1: db 0, hashes [a, 2a)   worker 2 ──blocks──┼──> save_pipe_next, task after task
 *     task 2: ...                    worker 1 ──blocks──┘
 *
 * A worker takes the next task, at most a window ahead of the one that is being written, and fills
 * blocks of fixed size. Blocks come from a pool: who finds it empty waits for the writer, but for
 * the worker of the task that is being written, for whom the last one is kept; so a value of any
 * size goes through, and the memory in flight is bounded whatever the tasks weigh.
 *
 * A task's records go into one or more chunks, each of which ends with a block of its own: the
 * units of the file's index, verified and loaded alone. A chunk ends at the first segment boundary
 * beyond SAVE_CHUNK_BYTES. A range without keys makes none.
 *
 * With options->since only what changed since that mark is given: a delta's records.
 */
#ifndef HF_PERSIST_SAVE_PIPE_H
#define HF_PERSIST_SAVE_PIPE_H

#include "persist/save_job.h"

#define SAVE_BLOCK_BYTES (256U << 10)
#define SAVE_CHUNK_BYTES (4U << 20)

struct save_block {
    struct save_block *next;
    size_t used;
    uint64_t crc; /* CRC64 of the bytes */
    bool ends_command; /* of commands: one ends with the block */
    bool ends_chunk;
    int db;              /* with ends_chunk: the chunk's database */
    uint64_t chunk_keys; /* with ends_chunk */
    char *data;
};

struct save_pipe;

/* What the owner and the workers share; all atomic. */
struct save_counters {
    uint64_t keys_done, data_bytes;
    uint64_t tasks_done, tasks_total;
    uint64_t commands; /* written, if it is commands that are written */
    bool stop;  /* set by anyone: the workers end soon */
    bool hurry; /* stop yielding to others */
};

/* Starts the workers. False: none could be started. polite: they yield to the executor. */
bool save_pipe_start(struct save_pipe **p, struct snapshot *snapshot,
                     const struct save_options *options, uint32_t lru_now, size_t bytes_per_key,
                     bool polite, struct save_counters *counters, struct error *err);
/* The next block of the file, which must be given back; NULL when all were given or stop is set.
 * Called by one thread. */
struct save_block *save_pipe_next(struct save_pipe *p);
void save_pipe_give_back(struct save_pipe *p, struct save_block *b);
/* Waits for the workers. To end early set stop before. */
void save_pipe_free(struct save_pipe *p);

#endif
