/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast info: what is in this file?
 */
#include <inttypes.h>
#include <stdio.h>

#include "tool/load.h"
#include "tool/tool.h"

struct counts {
    uint64_t keys, by_type[ENTRY_TYPE_COUNT], memory;
};

static bool count_item(void *ctx, void *item)
{
    struct counts *c = ctx;
    c->keys++;
    c->by_type[entry_type(item)]++;
    c->memory += entry_memory(item);
    return true;
}

int tool_info(int argc, char **argv)
{
    if (argc != 1)
        return tool_usage_error("info", "one file is expected");
    const char *path = argv[0];
    struct rdb_load_stats stats;
    struct keyspace *ks = tool_load(path, &stats);
    if (!ks)
        return TOOL_FAILED;
    printf("file: %s\nrdb_version: %d\ncreated_ms: %" PRId64 "\nkeys: %" PRIu64 "\n", path,
           stats.version, stats.created_ms, stats.keys);
    for (int i = 0; i < ks->db_count; i++) {
        struct counts c = {0};
        bool done;
        if (ks->dbs[i].table.count == 0)
            continue;
        table_walk(&ks->dbs[i].table, 0, UINT64_MAX, 0, count_item, &c, &done);
        printf("db%d: keys=%" PRIu64 ",expires=%" PRIu64 ",memory_bytes=%" PRIu64, i, c.keys,
               ks->dbs[i].expires, c.memory);
        for (int t = 0; t < ENTRY_TYPE_COUNT; t++) {
            if (c.by_type[t])
                printf(",%s=%" PRIu64, entry_type_name((enum entry_type)t), c.by_type[t]);
        }
        printf("\n");
    }
    keyspace_free(ks);
    return TOOL_OK;
}
