/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Expiry: lazily, when an expired key is met (keyspace.c), and actively here. There is no index of
 * expiries: every segment and page of a table knows a lower bound of the expiries below it, and
 * table_collect_due descends only where something may be due.
 */
#include "keyspace/keyspace.h"

/* One look at the clock for so many keys: some 100 us when all of them go. The room is for more
 * than a segment has, so that each call gets past one at least. */
#define EXPIRE_BATCH 512
#define EXPIRE_SEGMENTS 16

/* Removes a batch of due keys. Returns false when the table has been gone through. */
static bool expire_batch(struct db *db)
{
    struct keyspace *ks = db->ks;
    void *items[EXPIRE_BATCH];
    /* A key lives through the very millisecond of its expiry, hence the 1. */
    size_t n = table_collect_due(&db->table, &ks->epoch, ks->now_ms - 1, &db->expire_cursor,
                                 EXPIRE_SEGMENTS, items, EXPIRE_BATCH);
    for (size_t i = 0; i < n; i++) {
        const struct entry *e = items[i];
        struct slice key = entry_key(e);
        db_expire(db, key, key_hash(key));
    }
    return db->expire_cursor != 0;
}

bool keyspace_has_due(const struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++) {
        const struct db *db = &ks->dbs[i];
        if (db->expires > 0 && trie_word_due(db->table.root) < ks->now_ms)
            return true;
    }
    return false;
}

bool keyspace_expire_step(struct keyspace *ks, int64_t budget_us, int64_t (*clock_us)(void))
{
    if (ks->lazy_expire_paused)
        return false;
    int64_t end = clock_us() + budget_us;
    for (int i = 0; i < ks->db_count; i++) {
        struct db *db = &ks->dbs[ks->expire_db];
        while (db->expires > 0 && expire_batch(db)) {
            if (clock_us() >= end)
                return true;
        }
        ks->expire_db = (ks->expire_db + 1) % ks->db_count;
    }
    return false;
}
