/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Expiry: lazily, when an expired key is met (keyspace.c), and actively here: of keys, and of the
 * fields of hashes, which a read only hides. There is no index of expiries: every segment and page
 * of a table knows a lower bound of the expiries below it, and table_collect_due descends only
 * where something may be due.
 */
#include "keyspace/keyspace.h"

/* Room for more than a segment has, so that each call gets past one at least. */
#define EXPIRE_BATCH 512
#define EXPIRE_SEGMENTS 16
/* So many keys are removed between two looks at the clock: some 20 us. */
#define EXPIRE_RUN 64

struct slice_end {
    int64_t us;
    int64_t (*clock_us)(void);
};

/* Removes the fields of a hash that are due. False: the time is up. */
static bool expire_fields(struct db *db, struct entry *e, const struct slice_end *end)
{
    struct keyref ref = {.db = db, .key = entry_key(e), .entry = e};
    ref.hash = key_hash(ref.key);
    if (entry_fields_due(e) >= db->ks->now_ms)
        return true;
    ref.key = entry_key(keyref_own(&ref)); /* of the copy, if a snapshot has the old one */
    while (keyref_expire_fields(&ref, EXPIRE_RUN) == EXPIRE_RUN && ref.entry) {
        if (end->clock_us() >= end->us)
            return false;
    }
    return true;
}

enum batch_result { BATCH_MORE, BATCH_LAST, BATCH_TIME_UP };

/* Removes a batch of due keys. LAST: the table has been gone through. */
static enum batch_result expire_batch(struct db *db, const struct slice_end *end)
{
    struct keyspace *ks = db->ks;
    void *items[EXPIRE_BATCH];
    uint64_t begun_at = db->expire_cursor;
    /* A key lives through the very millisecond of its expiry, hence the 1. */
    size_t n = table_collect_due(&db->table, &ks->epoch, ks->now_ms - 1, &db->expire_cursor,
                                 EXPIRE_SEGMENTS, items, EXPIRE_BATCH);
    for (size_t i = 0; i < n; i++) {
        if (i % EXPIRE_RUN == EXPIRE_RUN - 1 && end->clock_us() >= end->us) {
            db->expire_cursor = begun_at; /* the others are found again */
            return BATCH_TIME_UP;
        }
        struct slice key = entry_key(items[i]);
        if (entry_due(items[i]) < ks->now_ms) {
            db_expire(db, key, key_hash(key));
        } else if (!expire_fields(db, items[i], end)) {
            db->expire_cursor = begun_at;
            return BATCH_TIME_UP;
        }
    }
    if (db->expire_cursor == 0)
        return BATCH_LAST;
    return end->clock_us() >= end->us ? BATCH_TIME_UP : BATCH_MORE;
}

bool keyspace_has_due(const struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++) {
        const struct db *db = &ks->dbs[i];
        if (db->expires + db->timed > 0 && trie_word_due(db->table.root) < ks->now_ms)
            return true;
    }
    return false;
}

bool keyspace_expire_step(struct keyspace *ks, int64_t budget_us, int64_t (*clock_us)(void))
{
    if (ks->lazy_expire_paused)
        return false;
    struct slice_end end = {clock_us() + budget_us, clock_us};
    for (int i = 0; i < ks->db_count; i++) {
        struct db *db = &ks->dbs[ks->expire_db];
        enum batch_result result = BATCH_MORE;
        while (db->expires + db->timed > 0 && result == BATCH_MORE)
            result = expire_batch(db, &end);
        if (result == BATCH_TIME_UP)
            return true;
        ks->expire_db = (ks->expire_db + 1) % ks->db_count;
    }
    return false;
}
