/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stream's past, from the log's files: the bytes that were in the stream between two LSNs, as
 * long as the files that the manifest names (those of its history among them) go back so far.
 *
 *     incr 3 (history)       incr 4 (history)    incr 5
 *     [lsn 0 ........ 700] [700 ...... 950] [950 ........ written]
 *                 from ^---------------------------^ until
 *
 * Files are read from the one that `from` is in, and follow each other by LSN and checksum:
 * whatever is not proven is not given. The file that is being written to may be read meanwhile, up
 * to what is written. What was read leaves the page cache, so that serving one who is far behind
 * does not cost others theirs.
 *
 * Any thread; one call of history_read is one thread's.
 */
#ifndef HF_PERSIST_LOG_HISTORY_H
#define HF_PERSIST_LOG_HISTORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/slice.h"

/* Bytes of the stream, the next ones; the slice is valid during the call. False: err says why, and
 * it ends. */
typedef bool history_take(void *ctx, struct slice bytes, struct error *err);

/* Gives what is between the two LSNs, in order. False: some of it may have been given. NOT_FOUND:
 * the files do not go back to `from`; those before a generation that was begun anew do not count,
 * as it may be of another history. */
bool history_read(const char *directory, const char *filename, uint64_t from, uint64_t until,
                  history_take *take, void *ctx, struct error *err);
/* Where a file begins, and whether it is the first of a generation, which nothing before leads up
 * to. False: that is not known. */
bool history_head(const char *directory, const char *name, uint64_t *lsn, bool *anew);

/* A divergence journal: a file of the log's form (`holdfast log` reads it) that holds these bytes
 * of a history, on the disk when this returns. */
struct history_journal;
struct history_journal *history_journal_begin(const char *path, const char *history, uint64_t lsn,
                                              int64_t now_ms, struct error *err);
bool history_journal_add(struct history_journal *j, struct slice bytes, struct error *err);
/* Frees it in any case; with `ok` false the file is removed. */
bool history_journal_end(struct history_journal *j, bool ok, int64_t now_ms, struct error *err);

#endif
