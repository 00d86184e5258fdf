/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Loading an RDB file into the keyspace: with several threads (persist/load_threads.h) where that
 * was asked for and the file is worth it, else by the caller alone, the plain way.
 *
 * The plain way is the judge. The threads find that a file cannot be loaded, not always where and
 * why: the index of chunks may lie, a key that occurs twice is met far from its bytes, and of two
 * mistakes the later may be found first. So when they fail all that they made is thrown away and
 * the file is read once more, record after record: the error with its offset, if there is one,
 * comes from there.
 *
 * The executor owns the keyspace and calls this; while it waits it may serve clients (see
 * rdb_load_options.wait), whose commands must not touch keys and must not take a snapshot.
 */
#ifndef HF_PERSIST_LOAD_H
#define HF_PERSIST_LOAD_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/rdb/format.h"

/* Load the file into the keyspace, whose databases are empty; its libraries of functions take the
 * place of those that are there. False: nothing of it stays loaded and
 * err names the offset and the reason. NOT_FOUND when there is no file. */
bool load_rdb_file(struct keyspace *ks, const char *path, const struct rdb_load_options *options,
                   struct rdb_load_stats *stats, struct error *err);

/* Move all keys of `from` into `to`, where a key may be there already: with `replace` it gives way,
 * else nothing is moved and the first such key is in err (EXISTS). Both must have begun with the
 * same epoch (load_beside makes such a keyspace). `from` is empty afterwards if it succeeds. */
bool load_merge(struct keyspace *to, struct keyspace *from, bool replace, struct error *err);
/* An empty keyspace to load into what shall be merged into `ks`. Freed by keyspace_free. No
 * snapshot of ks may be taken before it was merged. */
struct keyspace *load_beside(const struct keyspace *ks);

#endif
