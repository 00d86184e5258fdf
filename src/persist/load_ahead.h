/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading the chunks of a file ahead of the threads that load them, so that the disk and the
 * processors work at the same time.
 *
 *     part:   loaded   being loaded   read   being read   (nobody has looked at it)
 *                                                          ^ `next`
 *
 * A reader takes a free buffer and the next part, in the order of the file, reads the one into the
 * other, and marks the part as ready; workers take the parts in the same order, and who has loaded
 * one gives its buffer back. There are only so many buffers. Nobody waits for ever: the first part
 * that is not ready either has a reader with its buffer, or all buffers are with parts before it,
 * which are ready.
 *
 * Files that Holdfast saved past the page cache are not in it after a restart, and are read but
 * once: so it goes past the cache here, too (os/direct.h), as through it a start would wait for
 * pages to be found and copied, and what others have there would leave. What is in the cache all
 * the same, and chunks of one large value, the workers read themselves, through the cache.
 */
#ifndef HF_PERSIST_LOAD_AHEAD_H
#define HF_PERSIST_LOAD_AHEAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "os/direct.h"

/* Longer chunks are not read ahead. */
#define LOAD_AHEAD_MOST (16U << 20)
/* One reader feeds so many workers. */
#define LOAD_AHEAD_WORKERS 8
/* Buffers besides those that workers have, for each reader. */
#define LOAD_AHEAD_BUFFERS 2
#define LOAD_AHEAD_READERS 8

struct load_job;
struct load_part;

/* One part's bytes. */
struct load_buffer {
    struct os_direct in;
    const char *data;
    struct load_buffer *next; /* in the list of those that are free */
};

/* Guarded by the job's lock, but for the file. */
struct load_ahead {
    struct os_file file; /* not open: nothing is read ahead */
    struct load_part *next;
    struct load_buffer *free;
    int buffers, most; /* that there are, and may be */
    pthread_t threads[LOAD_AHEAD_READERS];
    int count;
};

/* With the job's lock held, when all parts are there. Without threads to be had parts are not
 * waited for. */
void load_ahead_start(struct load_job *job);
/* The part that had it is loaded. */
void load_ahead_give_back(struct load_job *job, struct load_buffer *buffer);
/* When all workers have ended: wait for the readers, and free what is left. */
void load_ahead_end(struct load_job *job);

#endif
