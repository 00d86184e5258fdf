/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/load.h"

#include <stdio.h>

#include "persist/load.h"

struct keyspace *tool_load(const char *path, struct rdb_load_stats *stats)
{
    enum { DATABASES = 65536 };
    struct error err;
    struct keyspace *ks = keyspace_new(DATABASES, false);
    /* Expired keys count too: nothing of the file is left out. */
    struct rdb_load_options options = {.checksum = true};
    if (load_rdb_file(ks, path, &options, stats, &err))
        return ks;
    printf("%s\n", err.message);
    keyspace_free(ks);
    return NULL;
}
