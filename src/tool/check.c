/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast check: are these files sound?
 */
#include <inttypes.h>
#include <stdio.h>

#include "tool/load.h"
#include "tool/tool.h"

static bool check_file(const char *path)
{
    struct rdb_load_stats stats;
    struct keyspace *ks = tool_load(path, &stats);
    if (!ks)
        return false;
    printf("%s: sound, RDB version %d, %" PRIu64 " keys\n", path, stats.version, stats.keys);
    keyspace_free(ks);
    return true;
}

int tool_check(int argc, char **argv)
{
    if (argc == 0)
        return tool_usage_error("check", "which file?");
    int status = TOOL_OK;
    for (int i = 0; i < argc; i++) {
        if (!check_file(argv[i]))
            status = TOOL_FAILED;
    }
    return status;
}
