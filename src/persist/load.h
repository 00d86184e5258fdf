/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Loading: an RDB file into the keyspace. Called by the executor, which waits.
 */
#ifndef HF_PERSIST_LOAD_H
#define HF_PERSIST_LOAD_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/rdb/format.h"

/* Load the file into the keyspace, whose databases are empty. False: nothing of it stays loaded and
 * err names the offset and the reason. NOT_FOUND when there is no file. */
bool load_rdb_file(struct keyspace *ks, const char *path, const struct rdb_load_options *options,
                   struct rdb_load_stats *stats, struct error *err);

#endif
