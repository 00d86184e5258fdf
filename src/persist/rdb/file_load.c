/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/format.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"

#define PROGRESS_KEYS 4096

/* What precedes a key's type. */
struct key_facts {
    int64_t due;
    uint64_t idle;
    int freq;
    bool has_idle;
};

struct load {
    struct rdb_reader *r;
    struct keyspace *ks;
    const struct rdb_load_options *options;
    struct rdb_load_stats *stats;
    struct rdb_loader *loader;
    struct db *db;
    struct key_facts facts;
    uint64_t records;
};

static const struct key_facts no_facts = {.due = ENTRY_NO_EXPIRY, .freq = -1};

static bool load_aux(struct load *l)
{
    struct rdb_string name, value;
    char copy[32];
    if (!rdb_read_string(l->r, &name))
        return false;
    size_t n = name.bytes.size < sizeof(copy) ? name.bytes.size : sizeof(copy);
    memcpy(copy, name.bytes.data, n);
    if (!rdb_read_string(l->r, &value))
        return false;
    int64_t number;
    if (slice_equal(slice_of(copy, n), SLICE("ctime")) && number_parse_int64(value.bytes, &number) &&
        number >= 0 && number < INT64_MAX / 1000)
        l->stats->created_ms = number * 1000;
    return true; /* Fields that are not known are there to be skipped. */
}

static bool read_plain_length(struct rdb_reader *r, uint64_t *v)
{
    bool special;
    if (!rdb_read_length(r, v, &special))
        return false;
    return special ? rdb_fail(r, ERROR_CORRUPT, "a length is expected") : true;
}

static bool select_db(struct load *l)
{
    uint64_t id;
    if (!read_plain_length(l->r, &id))
        return false;
    if (id >= (uint64_t)l->ks->db_count)
        return rdb_fail(l->r, ERROR_INVALID,
                        "the file has a database %llu, but only %d are configured",
                        (unsigned long long)id, l->ks->db_count);
    l->db = &l->ks->dbs[id];
    return true;
}

static bool load_key(struct load *l, uint8_t type)
{
    struct rdb_string text;
    if (!rdb_read_string(l->r, &text))
        return false;
    /* The value is read next, and may move the buffer that the key stands in. */
    char small[256], *heap = NULL;
    struct slice key = text.bytes;
    if (key.size <= sizeof(small)) {
        memcpy(small, key.data, key.size);
        key.data = small;
    } else {
        heap = mem_dup(key.data, key.size);
        key.data = heap;
    }
    struct entry *e = NULL;
    bool ok = rdb_load_value(l->r, type, key, l->facts.due, l->loader, &e);
    if (ok && !e) {
        l->stats->empty++;
    } else if (ok && l->options->drop_expired && l->facts.due <= l->options->now_ms) {
        rdb_drop_entry(l->loader, e);
        l->stats->expired++;
    } else if (ok) {
        uint64_t hash = key_hash(key);
        if (table_find(&l->db->table, hash, key.data, key.size)) {
            rdb_drop_entry(l->loader, e);
            ok = rdb_fail(l->r, ERROR_CORRUPT, "a key occurs twice in database %d", l->db->id);
        } else {
            if (l->ks->lfu && l->facts.freq >= 0)
                entry_set_clock(e, (uint32_t)l->facts.freq);
            else if (!l->ks->lfu && l->facts.has_idle)
                entry_set_clock(e, (l->options->lru_now - (uint32_t)l->facts.idle) & 0xffffff);
            else if (!l->ks->lfu)
                entry_set_clock(e, l->options->lru_now);
            db_insert(l->db, hash, e);
            l->stats->keys++;
        }
    }
    mem_free(heap);
    l->facts = no_facts;
    return ok;
}

/* One record. *ended is set at the end marker. */
static bool load_record(struct load *l, bool *ended)
{
    struct rdb_reader *r = l->r;
    uint8_t code;
    uint32_t seconds;
    uint64_t v;
    if (!rdb_read_u8(r, &code))
        return false;
    switch (code) {
    case RDB_OP_EOF:
        *ended = true;
        return true;
    case RDB_OP_AUX:
        return load_aux(l);
    case RDB_OP_SELECTDB:
        return select_db(l);
    case RDB_OP_RESIZEDB:
        return read_plain_length(r, &v) && read_plain_length(r, &v);
    case RDB_OP_SLOT_INFO:
        return read_plain_length(r, &v) && read_plain_length(r, &v) && read_plain_length(r, &v);
    case RDB_OP_EXPIRE:
        if (!rdb_read_le32(r, &seconds))
            return false;
        l->facts.due = (int64_t)(int32_t)seconds * 1000;
        return true;
    case RDB_OP_EXPIRE_MS:
        if (!rdb_read_le64(r, &v))
            return false;
        l->facts.due = (int64_t)v;
        return true;
    case RDB_OP_IDLE:
        l->facts.has_idle = true;
        return read_plain_length(r, &l->facts.idle);
    case RDB_OP_FREQ: {
        uint8_t freq;
        if (!rdb_read_u8(r, &freq))
            return false;
        l->facts.freq = freq;
        return true;
    }
    case RDB_OP_FUNCTION2:
    case RDB_OP_FUNCTION_PRE_GA:
        return rdb_fail(r, ERROR_UNSUPPORTED, "the file holds functions, which are not supported");
    case RDB_OP_MODULE_AUX:
        return rdb_fail(r, ERROR_UNSUPPORTED, "the file holds a module's data");
    default:
        return load_key(l, code);
    }
}

static bool load_header(struct rdb_reader *r, int *version)
{
    const unsigned char *p;
    if (!rdb_read_bytes(r, 9, &p))
        return false;
    uint64_t v;
    char digits[5] = {0};
    memcpy(digits, p + 5, 4);
    if (memcmp(p, "REDIS", 5) != 0)
        return rdb_fail(r, ERROR_CORRUPT, "this is not an RDB file");
    for (int i = 0; i < 4; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return rdb_fail(r, ERROR_CORRUPT, "the version is not a number");
    }
    v = strtoul(digits, NULL, 10);
    if (v < 1 || v > RDB_VERSION_READ_MAX)
        return rdb_fail(r, ERROR_UNSUPPORTED, "RDB version %d; this server reads 1 to %d", (int)v,
                        RDB_VERSION_READ_MAX);
    *version = (int)v;
    return true;
}

static bool check_sum(struct rdb_reader *r)
{
    uint64_t computed = rdb_reader_crc(r), stored;
    if (!rdb_read_le64(r, &stored))
        return false;
    if (stored != 0 && stored != computed)
        return rdb_fail(r, ERROR_CORRUPT, "the checksum is %016llx but should be %016llx",
                        (unsigned long long)computed, (unsigned long long)stored);
    return true;
}

bool rdb_load_all(struct rdb_reader *r, struct keyspace *ks, const struct rdb_load_options *options,
                  struct rdb_load_stats *stats)
{
    struct load l = {.r = r, .ks = ks, .options = options, .stats = stats, .db = &ks->dbs[0],
                     .facts = no_facts};
    *stats = (struct rdb_load_stats){0};
    if (!load_header(r, &stats->version))
        return false;
    l.loader = rdb_loader_new(&ks->epoch, &ks->limits);
    bool ok = true, ended = false;
    while (ok && !ended) {
        ok = load_record(&l, &ended);
        if (++l.records % PROGRESS_KEYS == 0 && options->progress)
            options->progress(options->progress_ctx, rdb_reader_offset(r), r->size);
    }
    if (ok && stats->version >= 5 && options->checksum)
        ok = check_sum(r);
    rdb_loader_free(l.loader);
    return ok;
}
