/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One file of the log, read by a thread of its own some batches ahead of whoever takes them.
 *
 *     pipeline_start -> (pipeline_take -> use -> pipeline_give)* -> pipeline_stop
 *
 * All functions are the one taker's.
 */
#ifndef HF_PERSIST_LOG_PIPELINE_H
#define HF_PERSIST_LOG_PIPELINE_H

#include "persist/log/reader.h"

struct pipeline;

/* Takes the reader, which pipeline_stop closes. NULL: the thread cannot be started, and the reader
 * was closed. */
struct pipeline *pipeline_start(struct log_reader *r, struct error *err);

/* Wait for a batch, at most so long. GROUPS: *batch is one, to be given back, or NULL if the time
 * has passed. Anything else: it is over; see log_reader_status. */
enum log_read pipeline_take(struct pipeline *p, int64_t wait_us, struct log_batch **batch,
                            struct error *err);
void pipeline_give(struct pipeline *p, struct log_batch *batch);
/* Of the reader; only when it is over. */
const struct log_status *pipeline_status(const struct pipeline *p);
/* Ends the thread, wherever it is. */
void pipeline_stop(struct pipeline *p);

#endif
