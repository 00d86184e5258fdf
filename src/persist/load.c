/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load.h"

#include "os/file.h"

static bool fill_from_file(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    return os_file_read(ctx, data, room, got, err);
}

bool load_rdb_file(struct keyspace *ks, const char *path, const struct rdb_load_options *options,
                   struct rdb_load_stats *stats, struct error *err)
{
    struct os_file f;
    struct error ignored;
    uint64_t size;
    if (!os_file_open(&f, path, OS_OPEN_READ, err))
        return false;
    if (!os_file_size(&f, &size, err)) {
        os_file_close(&f, &ignored);
        return false;
    }
    struct rdb_reader r;
    rdb_reader_init_stream(&r, size, fill_from_file, &f, err);
    bool paused = ks->lazy_expire_paused;
    ks->lazy_expire_paused = true;
    bool ok = rdb_load_all(&r, ks, options, stats);
    ks->lazy_expire_paused = paused;
    rdb_reader_deinit(&r);
    os_file_close(&f, &ignored);
    if (!ok) {
        keyspace_flush(ks);
        return error_prefix(err, "%s", path);
    }
    return true;
}
