/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast restore: one RDB file out of a chain of a full snapshot and incremental ones. Every link
 * is proven first. The keys are put together in memory, as a server would at its start.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/number.h"
#include "os/file.h"
#include "persist/chain/chain.h"
#include "persist/load.h"
#include "persist/save_job.h"
#include "tool/chain_files.h"
#include "tool/chain_merge.h"
#include "tool/tool.h"

/* More than anyone configures: a file may have any. */
#define DATABASES 16384

static int complain(const char *what, const struct error *err)
{
    fprintf(stderr, "%s: %s\n", what, err->message);
    return TOOL_FAILED;
}

/* dump.rdb.chain or dump.rdb. */
static bool rdb_path_of(const char *argument, char *path, size_t size)
{
    size_t n = strlen(argument), suffix = strlen(".chain");
    if (n > suffix && strcmp(argument + n - suffix, ".chain") == 0)
        n -= suffix;
    return (size_t)snprintf(path, size, "%.*s", (int)n, argument) < size;
}

static bool write_file(struct keyspace *ks, const char *to, struct error *err)
{
    struct save_options options = {
        .compress = true, .checksum = true, .verify = true, .threads = 1};
    struct save_result result;
    if ((size_t)snprintf(options.path, sizeof(options.path), "%s", to) >= sizeof(options.path))
        return error_set(err, ERROR_INVALID, "the path is too long");
    return save_job_finish(save_job_run(ks, snapshot_begin(ks), &options), &result, err);
}

static int restore(const struct chain *c, size_t count, const char *path, const char *to)
{
    struct rdb_load_options options = {.now_ms = clock_wall_ms(), .checksum = true};
    struct rdb_load_stats stats = {0};
    struct error err = {0};
    struct keyspace *ks = keyspace_new(DATABASES, false);
    int status = TOOL_OK;
    ks->now_ms = options.now_ms;
    /* Keys past their expiry are in the snapshots, and stay. */
    ks->lazy_expire_paused = true;
    if (!load_rdb_file(ks, path, &options, &stats, &err) ||
        !chain_apply(c, count, path, ks, &options, &stats, &err))
        status = complain(path, &err);
    else if (!write_file(ks, to, &err))
        status = complain(to, &err);
    uint64_t keys = 0;
    for (int i = 0; i < ks->db_count; i++)
        keys += ks->dbs[i].table.count;
    if (status == TOOL_OK)
        printf("%s: %llu keys, links 1 to %zu of %zu\n", to, (unsigned long long)keys, count,
               c->count);
    keyspace_free(ks);
    return status;
}

int tool_restore(int argc, char **argv)
{
    static const struct option options[] = {{"to", required_argument, NULL, 't'},
                                            {"until", required_argument, NULL, 'u'},
                                            {0}};
    const char *to = NULL;
    uint64_t until = 0;
    for (int option; (option = tool_next_option(argc, argv, options)) != -1;) {
        if (option == 't')
            to = optarg;
        else if (option != 'u')
            return tool_option_error("restore", argv);
        else if (!number_parse_uint64(slice_cstr(optarg), &until) || until == 0)
            return tool_usage_error("restore", "--until takes a number of links, from 1");
    }
    char path[256];
    if (tool_argument_count(argc) != 1 || !to)
        return tool_usage_error("restore", "a chain and --to are needed");
    const char *argument = tool_argument(argv, 0);
    char inside[600];
    struct error err = {0};
    if (os_path_is_dir(argument)) {
        if (!chain_merge_in_directory(argument, inside, &err))
            return complain(argument, &err);
        argument = inside;
    }
    if (!rdb_path_of(argument, path, sizeof(path)))
        return tool_usage_error("restore", "the path is too long");
    if (os_path_exists(to)) {
        fprintf(stderr, "%s: it exists already, and is not overwritten\n", to);
        return TOOL_FAILED;
    }
    char manifest[sizeof(path) + sizeof(".chain")];
    snprintf(manifest, sizeof(manifest), "%s.chain", path);
    if (!os_path_exists(manifest)) {
        fprintf(stderr,
                "%s: there is no %s, and so no chain of snapshots: an RDB file by itself is all "
                "there is, and needs no restore\n",
                argument, manifest);
        return TOOL_FAILED;
    }
    struct chain chain;
    if (!chain_read(&chain, path, &err))
        return complain(argument, &err);
    size_t count = until && until < chain.count ? (size_t)until : chain.count;
    struct chain wanted = {chain.links, count};
    size_t whole = chain_prove(&wanted, 0, path, NULL, &err);
    int status;
    if (whole == count) {
        status = restore(&chain, count, path, to);
    } else {
        status = complain(argument, &err);
        char restorable[160];
        format_restorable(restorable, sizeof(restorable), &chain, whole);
        if (whole > 0)
            fprintf(stderr, "What can be restored: %s, by --until %zu\n", restorable, whole);
    }
    chain_free(&chain);
    return tool_finish_output("restore", status);
}
