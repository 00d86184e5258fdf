/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/clock.h"
#include "base/number.h"
#include "keyspace/libraries.h"
#include "os/process.h"
#include "persist/rdb/record.h"

/* How often the clock is looked at, and how long is loaded at most before progress is told. */
#define PROGRESS_KEYS 64
#define PROGRESS_INTERVAL_US 2000
/* The counter of a key of which the file does not say how often it was used: that of a new one. */
#define LFU_NEW 5

uint32_t rdb_lfu_clock(int64_t now_ms, int frequency)
{
    uint32_t counter = frequency >= 0 ? (uint32_t)frequency : LFU_NEW;
    return ((uint32_t)(now_ms / 60000) & 0xffff) << 8 | counter;
}

bool rdb_build_entry(struct rdb_reader *r, const struct rdb_record *record, struct rdb_loader *l,
                     const struct rdb_load_options *options, bool lfu, struct rdb_load_stats *stats,
                     struct entry **e)
{
    if (!rdb_load_value(r, record->type, record->key, record->due, l, e))
        return false;
    if (!*e) {
        stats->empty++;
        return true;
    }
    if (options->drop_expired && record->due <= options->now_ms) {
        rdb_drop_entry(l, *e);
        *e = NULL;
        stats->expired++;
        return true;
    }
    if (lfu)
        entry_set_clock(*e, rdb_lfu_clock(options->now_ms, record->frequency));
    else if (record->has_idle)
        entry_set_clock(*e, (options->lru_now - (uint32_t)record->idle) & 0xffffff);
    else
        entry_set_clock(*e, options->lru_now);
    stats->keys++;
    return true;
}

#define PAST "hf-past-"

static void note_past(const struct rdb_record *record, struct rdb_load_stats *stats)
{
    struct lineage_past past;
    struct slice digits = slice_of(record->key.data + sizeof(PAST) - 1,
                                   record->key.size - (sizeof(PAST) - 1));
    int64_t index;
    if (number_parse_int64(digits, &index) && lineage_parse(record->value.bytes, &past))
        lineage_put(&stats->lineage, index, &past);
}

void rdb_note_aux(const struct rdb_record *record, struct rdb_load_stats *stats)
{
    /* Fields that are not known are there to be skipped. */
    int64_t number;
    if (slice_equal(record->key, SLICE("ctime")) &&
        number_parse_int64(record->value.bytes, &number) && number >= 0 &&
        number < INT64_MAX / 1000)
        stats->created_ms = number * 1000;
    else if (slice_equal(record->key, SLICE("repl-offset")) &&
             number_parse_int64(record->value.bytes, &number) && number >= 0)
        stats->repl_offset = number;
    else if (slice_equal(record->key, SLICE("repl-stream-db")) &&
             number_parse_int64(record->value.bytes, &number) && number >= 0 && number < INT32_MAX)
        stats->stream_db = (int)number;
    else if (slice_equal(record->key, SLICE("repl-id")) &&
             record->value.bytes.size == sizeof(stats->repl_id) - 1)
        memcpy(stats->repl_id, record->value.bytes.data, record->value.bytes.size);
    else if (slice_equal(record->key, SLICE("hf-log-id")) &&
             record->value.bytes.size == sizeof(stats->log_id) - 1)
        memcpy(stats->log_id, record->value.bytes.data, record->value.bytes.size);
    else if (slice_equal(record->key, SLICE("hf-log-lsn")) &&
             number_parse_int64(record->value.bytes, &number) && number >= 0)
        stats->log_lsn = (uint64_t)number;
    else if (slice_equal(record->key, SLICE("hf-log-beyond")))
        stats->log_beyond = slice_equal(record->value.bytes, SLICE("1"));
    else if (slice_equal(record->key, SLICE("hf-log-exact")))
        stats->log_exact = slice_equal(record->value.bytes, SLICE("1"));
    else if (slice_equal(record->key, SLICE("hf-own")))
        stats->own = slice_equal(record->value.bytes, SLICE("1"));
    else if (record->key.size > sizeof(PAST) - 1 &&
             memcmp(record->key.data, PAST, sizeof(PAST) - 1) == 0)
        note_past(record, stats);
}

bool rdb_check_db(struct rdb_reader *r, int db, int db_count)
{
    return db < db_count ||
           rdb_fail(r, ERROR_INVALID, "the file has a database %d, but only %d are configured", db,
                    db_count);
}

void rdb_delay_key(const struct rdb_load_options *options, uint64_t keys)
{
    int64_t us = options->key_delay_us;
    if (us > 0)
        os_sleep_us(us);
    else if (us < 0 && keys % (uint64_t)-us == 0)
        os_sleep_us(1);
}

static bool load_key(struct rdb_records *it, const struct rdb_record *record, struct keyspace *ks,
                     struct rdb_loader *loader, const struct rdb_load_options *options,
                     struct rdb_load_stats *stats)
{
    struct entry *e;
    if (!rdb_build_entry(it->r, record, loader, options, ks->lfu, stats, &e))
        return false;
    if (!e)
        return true;
    struct db *db = &ks->dbs[record->db];
    uint64_t hash = key_hash(record->key);
    if (table_find(&db->table, hash, record->key.data, record->key.size)) {
        rdb_drop_entry(loader, e);
        return rdb_fail(it->r, ERROR_CORRUPT, "a key occurs twice in database %d", db->id);
    }
    db_insert(db, hash, e);
    return true;
}

struct pace {
    const struct rdb_load_options *options;
    uint64_t keys;
    int64_t told_us;
};

/* Tell the progress and wait where that was asked for. */
static bool after_key(struct pace *p, struct rdb_reader *r)
{
    const struct rdb_load_options *o = p->options;
    p->keys++;
    rdb_delay_key(o, p->keys);
    if (!o->progress || (o->key_delay_us == 0 && p->keys % PROGRESS_KEYS != 0))
        return true;
    int64_t now = clock_monotonic_us();
    if (now - p->told_us < PROGRESS_INTERVAL_US)
        return true;
    p->told_us = now;
    o->progress(o->progress_ctx, rdb_reader_offset(r), r->size);
    return !o->cancel || !*o->cancel || rdb_fail(r, ERROR_CANCELLED, "the load was cancelled");
}

bool rdb_load_all(struct rdb_reader *r, struct keyspace *ks, const struct rdb_load_options *options,
                  struct rdb_load_stats *stats)
{
    struct rdb_records it;
    struct rdb_record record;
    struct pace pace = {.options = options};
    *stats = (struct rdb_load_stats){0};
    struct rdb_loader *loader = rdb_loader_new(&ks->epoch, &ks->limits);
    r->later = ks->later_rdb;
    bool ok = rdb_records_begin(&it, r);
    it.verify = options->checksum;
    stats->version = it.version;
    while (ok && (ok = rdb_records_next(&it, &record)) && record.kind != RDB_RECORD_END) {
        if (record.kind == RDB_RECORD_KEY) {
            ok = rdb_check_db(r, record.db, ks->db_count) &&
                 load_key(&it, &record, ks, loader, options, stats) && after_key(&pace, r);
        } else if (record.kind == RDB_RECORD_SELECT) {
            ok = rdb_check_db(r, record.db, ks->db_count);
        } else if (record.kind == RDB_RECORD_AUX) {
            rdb_note_aux(&record, stats);
        } else if (record.kind == RDB_RECORD_FUNCTION) {
            libraries_append(&ks->libraries, record.value.bytes);
        }
    }
    rdb_records_end(&it);
    rdb_loader_free(loader);
    return ok;
}
