/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load.h"

#include "base/log.h"
#include "keyspace/libraries.h"
#include "os/file.h"
#include "persist/load_job.h"
#include "persist/load_threads.h"

static bool load_plainly(struct keyspace *ks, struct os_file *f, uint64_t size,
                         const struct rdb_load_options *options, struct rdb_load_stats *stats,
                         struct error *err)
{
    struct rdb_reader r;
    struct load_range range = {f, 0, size};
    load_reader_init_range(&r, &range, err);
    bool paused = ks->lazy_expire_paused;
    ks->lazy_expire_paused = true;
    bool ok = rdb_load_all(&r, ks, options, stats);
    ks->lazy_expire_paused = paused;
    rdb_reader_deinit(&r);
    if (!ok) {
        keyspace_flush(ks);
        libraries_replace(&ks->libraries, NULL);
    }
    return ok;
}

static bool load_open_file(struct keyspace *ks, struct os_file *f,
                           const struct rdb_load_options *options, struct rdb_load_stats *stats,
                           struct error *err)
{
    uint64_t size;
    if (!os_file_size(f, &size, err))
        return false;
    if (options->threads > 0 && size >= options->threads_min_size) {
        if (load_by_threads(ks, f, size, options, stats, err))
            return true;
        if (err->code == ERROR_CANCELLED)
            return false;
        libraries_replace(&ks->libraries, NULL);
        log_verbose("%s is read once more, by one thread: %s", f->path, err->message);
    }
    return load_plainly(ks, f, size, options, stats, err);
}

bool load_rdb_file(struct keyspace *ks, const char *path, const struct rdb_load_options *options,
                   struct rdb_load_stats *stats, struct error *err)
{
    struct os_file f;
    struct error ignored;
    if (!os_file_open(&f, path, OS_OPEN_READ, err))
        return false;
    /* The threads build tables that know of no mark. */
    changes_lose(ks, "data was loaded since the last one");
    libraries_replace(&ks->libraries, NULL);
    bool ok = load_open_file(ks, &f, options, stats, err);
    os_file_close(&f, &ignored);
    return ok || error_prefix(err, "%s", path);
}

/* --- merging -----------------------------------------------------------------------------------
 */

struct keyspace *load_beside(const struct keyspace *ks)
{
    struct keyspace *beside = keyspace_new(ks->db_count, false);
    beside->epoch.now = ks->epoch.now;
    beside->limits = ks->limits;
    beside->lfu = ks->lfu;
    beside->later_rdb = ks->later_rdb;
    beside->now_ms = ks->now_ms;
    beside->lru_clock = ks->lru_clock;
    beside->lazy_expire_paused = true;
    return beside;
}

struct search {
    const struct db *db;
    struct error *err;
};

/* Also a key that is past its expiry is there. */
static bool is_new(void *ctx, void *item)
{
    struct search *s = ctx;
    struct slice key = entry_key(item);
    if (!table_find(&s->db->table, key_hash(key), key.data, key.size))
        return true;
    return error_set(s->err, ERROR_EXISTS, "the key '%.*s' is in database %d already",
                     key.size < 100 ? (int)key.size : 100, key.data, s->db->id);
}

static bool all_are_new(struct keyspace *to, struct keyspace *from, struct error *err)
{
    *err = (struct error){0};
    for (int i = 0; i < from->db_count && err->code == ERROR_NONE; i++) {
        struct search s = {&to->dbs[i], err};
        bool done = false;
        uint64_t at = 0;
        while (!done && err->code == ERROR_NONE)
            at = table_walk(&from->dbs[i].table, at, UINT64_MAX, 64, is_new, &s, &done);
    }
    return err->code == ERROR_NONE;
}

static void move_entry(struct db *to, struct db *from, struct entry *e)
{
    struct slice key = entry_key(e);
    uint64_t hash = key_hash(key);
    struct keyref old = {.db = to, .key = key, .hash = hash};
    old.entry = table_find(&to->table, hash, key.data, key.size);
    if (old.entry)
        keyref_delete(&old);
    struct keyref ref = {.db = from, .key = key, .hash = hash, .entry = e};
    struct entry *taken = keyref_take(&ref);
    db_insert(to, hash, taken);
}

bool load_merge(struct keyspace *to, struct keyspace *from, bool replace, struct error *err)
{
    if (!replace && !all_are_new(to, from, err))
        return false;
    for (int i = 0; i < from->db_count; i++) {
        struct db *db = &from->dbs[i];
        while (db->table.count > 0) {
            void *items[64];
            size_t n = table_sample(&db->table, 0, items, sizeof(items) / sizeof(items[0]));
            for (size_t k = 0; k < n; k++)
                move_entry(&to->dbs[i], db, items[k]);
        }
    }
    if (from->libraries)
        libraries_replace(&to->libraries, libraries_ref(from->libraries));
    return true;
}
