/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "persist/load.h"

static const char usage[] =
    "usage: holdfast COMMAND FILE...\n"
    "\n"
    "  check FILE...   validate RDB files: every length, structure and checksum. Names the file, the\n"
    "                  offset and the reason of the first damage. Exit status 0: all are sound; 1: not\n"
    "  info FILE       what an RDB file holds: version, time, keys by database and type\n"
    "  --version       the tool's version\n"
    "  --help          this text\n"
    "\n"
    "A file is loaded into memory as the server would load it.\n";

/* Load one file into a keyspace of its own, with as many databases as a file may name. */
static struct keyspace *load(const char *path, struct rdb_load_stats *stats)
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

static int check(int count, char **paths)
{
    int status = 0;
    for (int i = 0; i < count; i++) {
        struct rdb_load_stats stats;
        struct keyspace *ks = load(paths[i], &stats);
        if (ks) {
            printf("%s: sound, RDB version %d, %" PRIu64 " keys\n", paths[i], stats.version, stats.keys);
            keyspace_free(ks);
        } else {
            status = 1;
        }
    }
    return status;
}

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

static int info(const char *path)
{
    struct rdb_load_stats stats;
    struct keyspace *ks = load(path, &stats);
    if (!ks)
        return 1;
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
    return 0;
}

int tool_run(int argc, char **argv)
{
    const char *command = argc > 1 ? argv[1] : "";
    if (strcmp(command, "--help") == 0 || strcmp(command, "-h") == 0 || strcmp(command, "help") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (strcmp(command, "--version") == 0 || strcmp(command, "-v") == 0) {
        printf("holdfast %s\n", HF_VERSION);
        return 0;
    }
    if (strcmp(command, "check") == 0 && argc > 2)
        return check(argc - 2, argv + 2);
    if (strcmp(command, "info") == 0 && argc == 3)
        return info(argv[2]);
    fputs(usage, stderr);
    return 2;
}
