/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The stream of effects in memory: what the executor did to the data, as RESP requests one behind
 * the other, in the order in which it did them. It is what the log writes, what replicas get, and
 * what recovery replays. A position in it is an LSN: the count of its bytes since the beginning of
 * the history, equal to the replication offset.
 *
 *     lsn:   first             reader             published        end
 *       -> [ block ] -> [ block  |        ] -> [ block  |      | pos   free ]
 *            freed when all readers are past it
 *
 * Appending puts a SELECT before an effect of another database than the last one's, and before the
 * MULTI where it is a group's first effect. A group (MULTI/EXEC, a script) is put between MULTI and
 * EXEC; a group without effects leaves nothing.
 * Readers see whole groups only: `published` moves at stream_publish, which the executor calls once
 * a turn, outside of any group.
 *
 * Threads. The executor alone appends, publishes, adds readers and frees. A reader belongs to one
 * thread, and takes bytes below `published` without locks.
 */
#ifndef HF_PERSIST_LOG_STREAM_H
#define HF_PERSIST_LOG_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

struct iovec;
struct stream;

struct stream *stream_new(uint64_t lsn);
void stream_free(struct stream *s);

/* Make the next effect be preceded by SELECT: a new file or a new replica begins here. */
void stream_select_again(struct stream *s);

/* One effect: encoded, or, when the request came as RESP, its bytes as they came. */
void stream_append(struct stream *s, int db, const struct slice *argv, int argc);
void stream_append_request(struct stream *s, int db, struct slice request);
/* Bytes of another server's stream as they came, its SELECTs among them: so many whole requests. */
void stream_append_raw(struct stream *s, struct slice bytes, uint64_t requests);
/* An effect of `argc` arguments that are given one by one, each with stream_put_argument. */
void stream_begin_append(struct stream *s, int db, uint64_t argc);
void stream_put_argument(struct stream *s, struct slice argument);
/* Groups may be nested: the outermost one counts. */
void stream_begin_group(struct stream *s);
void stream_end_group(struct stream *s);
/* Whether one has begun: no snapshot, new file or replica may begin at stream_end now. */
bool stream_in_group(const struct stream *s);

uint64_t stream_end(const struct stream *s);       /* behind the last byte appended */
uint64_t stream_requests(const struct stream *s);  /* appended since it is there, SELECT, MULTI and
                                                    * EXEC among them */
void stream_publish(struct stream *s);             /* within a group nothing happens */
uint64_t stream_published(const struct stream *s); /* any thread (acquire) */
/* Bytes in memory that some reader has not released. */
size_t stream_memory(const struct stream *s);
/* Keep so many bytes before the end even if all readers have passed them (repl-backlog-size). */
void stream_set_backlog(struct stream *s, uint64_t bytes);
/* The first LSN that can still be read. */
uint64_t stream_first(const struct stream *s);
/* Free what all readers have released and the backlog does not need. Once a turn. */
void stream_trim(struct stream *s);

/* Copies what is between two LSNs that can still be read. */
void stream_copy(const struct stream *s, uint64_t from, uint64_t until, char *out);

struct stream_reader;
/* Begins at `lsn`, which must not be below stream_first nor above stream_end. */
struct stream_reader *stream_reader_new(struct stream *s, uint64_t lsn);
void stream_reader_free(struct stream *s, struct stream_reader *r);
uint64_t stream_reader_lsn(const struct stream_reader *r); /* any thread */
/* Up to `max` pieces of what is published behind the reader's position, `limit` bytes at most; the
 * reader does not move. Returns how many pieces. The reader's thread. */
int stream_reader_peek(struct stream_reader *r, struct iovec *pieces, int max, size_t limit);
/* It is done with so many bytes: they may be freed. The reader's thread. */
void stream_reader_advance(struct stream_reader *r, size_t size);

#endif
