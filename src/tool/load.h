/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A whole RDB file in memory, as the server would load it.
 */
#ifndef HF_TOOL_LOAD_H
#define HF_TOOL_LOAD_H

#include "persist/rdb/format.h"

/* Load one file into a keyspace of its own, with as many databases as a file may name. NULL: what is
 * wrong was printed. */
struct keyspace *tool_load(const char *path, struct rdb_load_stats *stats);

#endif
