/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzzes the RDB loader: bytes from outside either are refused or give data that can be saved and
 * loaded again with the same number of keys. The first byte chooses between a whole file and a
 * DUMP payload's value. Checksums are not compared, as the fuzzer could not get past them.
 */
#include <stdint.h>
#include <stdlib.h>

#include "persist/rdb/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct rdb_load_options options;

static uint64_t key_count(const struct keyspace *ks)
{
    uint64_t count = 0;
    for (int i = 0; i < ks->db_count; i++)
        count += ks->dbs[i].table.count;
    return count;
}

static bool save_item(void *ctx, void *item)
{
    rdb_save_entry(ctx, item, RDB_CLOCK_NONE, 0);
    return true;
}

static void check_round_trip(struct keyspace *ks)
{
    struct rdb_writer w;
    rdb_writer_init(&w, 4096, NULL, NULL);
    w.compress = true;
    rdb_save_header(&w, 0, 0);
    for (int i = 0; i < ks->db_count; i++) {
        bool done;
        rdb_save_select(&w, i, ks->dbs[i].table.count, ks->dbs[i].expires);
        table_walk(&ks->dbs[i].table, 0, UINT64_MAX, 0, save_item, &w, &done);
    }
    rdb_save_end(&w, false);
    struct keyspace *again = keyspace_new(ks->db_count, false);
    struct error err;
    struct rdb_load_stats stats;
    struct rdb_reader r;
    rdb_reader_init_memory(&r, w.buffer, w.used, &err);
    if (!rdb_load_all(&r, again, &options, &stats) || key_count(again) != key_count(ks))
        abort();
    rdb_reader_deinit(&r);
    keyspace_free(again);
    rdb_writer_deinit(&w);
}

static void load_file(const uint8_t *data, size_t size)
{
    struct keyspace *ks = keyspace_new(4, false);
    struct error err;
    struct rdb_load_stats stats;
    struct rdb_reader r;
    rdb_reader_init_memory(&r, data, size, &err);
    if (rdb_load_all(&r, ks, &options, &stats))
        check_round_trip(ks);
    rdb_reader_deinit(&r);
    keyspace_free(ks);
}

static void load_value(const uint8_t *data, size_t size)
{
    struct keyspace *ks = keyspace_new(1, false);
    struct rdb_loader *loader = rdb_loader_new(&ks->epoch, &ks->limits);
    struct error err;
    struct entry *e;
    struct rdb_reader r;
    uint8_t type;
    rdb_reader_init_memory(&r, data, size, &err);
    if (rdb_read_u8(&r, &type) &&
        rdb_load_value(&r, type, SLICE("key"), ENTRY_NO_EXPIRY, loader, &e) && e) {
        db_insert(&ks->dbs[0], key_hash(SLICE("key")), e);
        check_round_trip(ks);
    }
    rdb_reader_deinit(&r);
    rdb_loader_free(loader);
    keyspace_free(ks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] & 1)
        load_file(data + 1, size - 1);
    else
        load_value(data + 1, size - 1);
    return 0;
}
