/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Loading by several threads.
 *
 *     file ──> parts, each of whole records ──> workers: parse, build the entries, hash the keys
 *                                                  │  pairs (hash, entry) by the hash's top byte
 *                                                  v
 *              all parts are through: the workers build the tables (structure/table_build.h), each
 *              another range of the hashes, from all workers' pairs ──> the caller links them in
 *
 * Parts come in two ways:
 *
 *   - A file that Holdfast wrote ends with an index: AUX fields "hf-chunk" = "<db> <offset>
 *     <keys>", one for each chunk, which begins with its own SELECTDB and RESIZEDB, and as the last
 *     field "hf-index" = "<offset of the first hf-chunk> <number of chunks>", in 32 bytes, which
 *     makes its place known: 52 bytes before the end. Workers take chunk after chunk. Those that
 *     are not in the page cache are read ahead of them, past it (persist/load_ahead.h).
 *   - Of any other file a thread of its own finds the boundaries of the records and cuts the file
 *     into parts of some hundred KB, at most a few ahead of the workers. A record too large for a
 *     part it builds itself, from the file, in bounded memory.
 *
 * The index is a hint. Why it cannot make a file be read as what it is not: the header is read from
 * the first byte and must end where the first chunk begins; each chunk must end, after a whole
 * record, where the next begins, and the last where the fields of the index begin. So if a chunk
 * begins where a record begins, it ends where one ends, and the next one begins where a record
 * begins: by induction the same records are read as in one run. Databases and numbers of keys must
 * be as the index says. The checksum is combined from those of the parts.
 *
 * The pairs take 16 bytes a key while the file is loaded.
 *
 * Memory and epochs: a thread builds with an epoch domain of its own, whose `now` is the
 * keyspace's, so that all births are right; no thread but the caller touches the keyspace.
 */
#ifndef HF_PERSIST_LOAD_THREADS_H
#define HF_PERSIST_LOAD_THREADS_H

#include "os/file.h"
#include "persist/rdb/format.h"

/* As rdb_load_all; all databases must be empty. False: the keyspace is as it was, and the file
 * should be read the plain way, which tells what is wrong with it; err is only to be logged. */
bool load_by_threads(struct keyspace *ks, struct os_file *f, uint64_t size,
                     const struct rdb_load_options *options, struct rdb_load_stats *stats,
                     struct error *err);

#endif
