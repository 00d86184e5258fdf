/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyspace/evict.h"

#include "base/mem.h"

#define POOL 16
#define SAMPLES_MAX 64
/* Where few keys expire, so many are looked at for each that is wanted before those with an expiry
 * are sought by the bounds that the table's segments keep. */
#define LOOKS_PER_SAMPLE 4
/* More than a segment holds. */
#define SEGMENT_MAX 512
#define ROUNDS 16

struct candidate {
    uint64_t merit; /* how much it deserves to go */
    uint64_t hash;
    char *key;
    size_t size;
    int db;
};

struct evictor {
    struct candidate pool[POOL]; /* by merit, the best last */
    size_t count;
    int next_db;
};

struct evictor *evictor_new(void)
{
    return mem_zalloc(sizeof(struct evictor));
}

void evictor_reset(struct evictor *v)
{
    while (v->count > 0)
        mem_free(v->pool[--v->count].key);
}

void evictor_free(struct evictor *v)
{
    evictor_reset(v);
    mem_free(v);
}

static uint64_t merit_of(const struct keyspace *ks, const struct entry *e, enum evict_order order)
{
    switch (order) {
    case EVICT_LRU:
        return entry_idle_seconds(ks, e);
    case EVICT_LFU:
        return 255 - entry_frequency(ks, e);
    case EVICT_TTL:
        return UINT64_MAX - (uint64_t)entry_due(e);
    case EVICT_RANDOM:
        break;
    }
    return 0;
}

static bool is_in_pool(const struct evictor *v, int db, uint64_t hash, struct slice key)
{
    for (size_t i = 0; i < v->count; i++) {
        const struct candidate *c = &v->pool[i];
        if (c->hash == hash && c->db == db && slice_equal(slice_of(c->key, c->size), key))
            return true;
    }
    return false;
}

static void consider(struct evictor *v, const struct db *db, const struct entry *e,
                     enum evict_order order)
{
    uint64_t merit = merit_of(db->ks, e, order);
    if (v->count == POOL && merit <= v->pool[0].merit)
        return;
    struct slice key = entry_key(e);
    uint64_t hash = key_hash(key);
    if (is_in_pool(v, db->id, hash, key))
        return;
    if (v->count == POOL) {
        mem_free(v->pool[0].key);
        memmove(&v->pool[0], &v->pool[1], (POOL - 1) * sizeof(v->pool[0]));
        v->count--;
    }
    size_t at = v->count;
    while (at > 0 && v->pool[at - 1].merit > merit)
        at--;
    memmove(&v->pool[at + 1], &v->pool[at], (v->count - at) * sizeof(v->pool[0]));
    v->pool[at] = (struct candidate){merit, hash, mem_dup(key.data, key.size), key.size, db->id};
    v->count++;
}

/* The keys that expire of the next segment with something that is due ever: others are there for
 * their fields. */
static size_t collect_expiring(struct db *db, uint64_t *cursor, void **items, size_t want)
{
    size_t n = table_collect_due(&db->table, &db->ks->epoch, INT64_MAX - 1, cursor, 1, items, want);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (((const struct entry *)items[i])->flags & ENTRY_EXPIRES)
            items[kept++] = items[i];
    }
    return kept;
}

/* Up to `want` keys of the database from a random place. */
static size_t sample(struct db *db, bool expiring, size_t want, void **items)
{
    struct keyspace *ks = db->ks;
    if (!expiring)
        return table_sample(&db->table, keyspace_random(ks), items, want);
    void *looked_at[SAMPLES_MAX * LOOKS_PER_SAMPLE];
    size_t n = table_sample(&db->table, keyspace_random(ks), looked_at, want * LOOKS_PER_SAMPLE);
    size_t got = 0;
    for (size_t i = 0; i < n && got < want; i++) {
        if (((const struct entry *)looked_at[i])->flags & ENTRY_EXPIRES)
            items[got++] = looked_at[i];
    }
    if (got > 0)
        return got;
    /* They are few: whole segments that have some, from a random place on, and from the beginning
     * if there is none behind it. */
    void *all[SEGMENT_MAX];
    uint64_t cursor = keyspace_random(ks) | 1;
    n = collect_expiring(db, &cursor, all, SEGMENT_MAX);
    cursor = 0;
    for (int rounds = 0; n == 0 && rounds < 64; rounds++) {
        n = collect_expiring(db, &cursor, all, SEGMENT_MAX);
        if (cursor == 0)
            break;
    }
    for (; got < want && got < n; got++) {
        size_t other = got + keyspace_random_below(ks, n - got);
        items[got] = all[other];
        all[other] = all[got];
    }
    return got;
}

static bool remove_key(struct db *db, struct slice key, uint64_t hash,
                       void (*on_evict)(void *ctx, struct db *db, struct slice key), void *ctx)
{
    struct keyref ref;
    keyref_find(&ref, db, key, hash);
    if (ref.entry == NULL)
        return false;
    on_evict(ctx, db, key);
    keyref_delete(&ref);
    return true;
}

/* A random key of a database, the databases in turn. */
static bool evict_random(struct evictor *v, struct keyspace *ks, bool expiring,
                         void (*on_evict)(void *ctx, struct db *db, struct slice key), void *ctx)
{
    for (int i = 0; i < ks->db_count; i++) {
        struct db *db = &ks->dbs[v->next_db];
        v->next_db = (v->next_db + 1) % ks->db_count;
        void *item;
        if (db->table.count == 0 || (expiring && db->expires == 0) ||
            sample(db, expiring, 1, &item) == 0)
            continue;
        struct slice key = entry_key(item);
        char *copy = mem_dup(key.data, key.size);
        bool done = remove_key(db, slice_of(copy, key.size), key_hash(key), on_evict, ctx);
        mem_free(copy);
        if (done)
            return true;
    }
    return false;
}

bool evictor_evict(struct evictor *v, struct keyspace *ks, enum evict_order order, bool expiring,
                   size_t samples, void (*on_evict)(void *ctx, struct db *db, struct slice key),
                   void *ctx)
{
    if (order == EVICT_RANDOM)
        return evict_random(v, ks, expiring, on_evict, ctx);
    if (samples > SAMPLES_MAX)
        samples = SAMPLES_MAX;
    /* A candidate may have gone, or have been used, since it was put in the pool: then the next. */
    for (int round = 0; round < ROUNDS; round++) {
        size_t found = 0;
        for (int i = 0; i < ks->db_count; i++) {
            struct db *db = &ks->dbs[i];
            if (db->table.count == 0 || (expiring && db->expires == 0))
                continue;
            void *items[SAMPLES_MAX];
            size_t n = sample(db, expiring, samples, items);
            for (size_t k = 0; k < n; k++)
                consider(v, db, items[k], order);
            found += n;
        }
        if (found == 0)
            return false;
        while (v->count > 0) {
            struct candidate c = v->pool[--v->count];
            struct db *db = &ks->dbs[c.db];
            struct slice key = slice_of(c.key, c.size);
            const struct entry *e = db_find(db, key, c.hash);
            bool stands = e != NULL && (!expiring || e->flags & ENTRY_EXPIRES) &&
                          merit_of(ks, e, order) >= c.merit;
            bool done = e != NULL ? stands && remove_key(db, key, c.hash, on_evict, ctx)
                                  : db_expire(db, key, c.hash);
            mem_free(c.key);
            if (done)
                return true;
        }
    }
    return false;
}
