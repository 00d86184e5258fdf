/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keyspace: the databases, their keys, expiry and snapshots. Owned by the executor thread;
 * every function here is called by it, unless it says otherwise.
 *
 * Reading: db_find gives an entry that stays valid until the key is next written. A key past its
 * expiry is not found.
 *
 * Writing goes through a keyref, which names a key and its entry. Before the value is changed in
 * place keyref_own must be called: when a snapshot can see the entry it is copied first. Nodes
 * below a root look after themselves given keyspace.epoch. Every keyref operation leaves ref->entry
 * up to date; raw pointers into the old entry (keys, values) are void after any of them but
 * keyref_find.
 *
 * A key is never empty: whoever removes the last element of a collection calls keyref_delete.
 */
#ifndef HF_KEYSPACE_KEYSPACE_H
#define HF_KEYSPACE_KEYSPACE_H

#include "base/hash.h"
#include "keyspace/changes.h"
#include "keyspace/entry.h"
#include "keyspace/keysizes.h"
#include "structure/epoch.h"
#include "structure/table.h"

/* Redis's encoding thresholds, as configured. The names are the directives'. Negative
 * list_max_listpack_size: -1 .. -5 = 4, 8, 16, 32, 64 KiB. */
struct encoding_limits {
    int64_t hash_max_listpack_entries, hash_max_listpack_value;
    int64_t set_max_intset_entries, set_max_listpack_entries, set_max_listpack_value;
    int64_t zset_max_listpack_entries, zset_max_listpack_value;
    int64_t list_max_listpack_size, list_compress_depth;
    int64_t hll_sparse_max_bytes;
    int64_t stream_node_max_bytes, stream_node_max_entries;
};

struct keyspace;

struct db {
    struct keyspace *ks;
    int id;
    struct table table;
    uint64_t expires;       /* keys with an expiry */
    uint64_t timed;         /* hashes of which fields expire */
    struct keysizes *sizes; /* of its keys, but for the one that is watched: see db_keysizes */
    uint64_t expire_cursor; /* where active expiry goes on */
    uint64_t flush_count;   /* adds one at every FLUSHDB, FLUSHALL, SWAPDB: for WATCH */
    struct db_changes changes[EPOCH_MARKS];
};

struct libraries;

struct keyspace {
    struct epoch epoch;
    struct db *dbs;
    int db_count;
    struct change_mark marks[EPOCH_MARKS];
    struct size_watch size_watch;
    struct keysizes *sizes_aside; /* for databases that are nobody's: type/set_scratch.h */
    struct encoding_limits limits;
    uint64_t string_size_max; /* proto-max-bulk-len: what APPEND and SETRANGE may make */
    int64_t now_ms; /* wall clock, set by the executor before each command; it stands still
                                 while commands of the past are replayed */
    int64_t wall_ms;          /* wall clock, that goes on then */
    bool lazy_expire_paused;  /* expired keys are hidden but not removed (loading, CLIENT PAUSE) */
    /* import-mode: what has expired stays until somebody else writes to it */
    bool importing;
    bool later_rdb; /* rdb-version-check relaxed: RDB of a version that is not known may be tried */
    /* the command that runs is of who imports: no key has expired for it */
    bool show_expired;
    uint64_t dirty;           /* changes since the last save that succeeded */
    uint64_t expired_count;   /* since start */
    uint64_t expired_fields;  /* of hashes, since start */
    uint64_t hit_count, miss_count;
    bool lfu;           /* how the access clock is used: see access.c */
    bool lrm;           /* only what may change a key touches it, whoever asks */
    int lfu_log_factor; /* the directives lfu-log-factor and lfu-decay-time */
    int lfu_decay_minutes;
    uint32_t lru_clock;       /* seconds, modulo 2^24 (set by the executor with now_ms) */
    int expire_db;            /* the database where active expiry goes on */
    uint64_t random_state[4]; /* for SPOP, RANDOMKEY, ...: xoshiro256** (seedable in tests) */
    /* Told of each key that expiry removes, before the entry goes. May be NULL. */
    void (*on_expire)(void *ctx, struct db *db, struct slice key);
    void *on_expire_ctx;
    /* Told of fields of a hash that expiry removes, before they go; `last`: the key goes with them.
     * May be NULL. */
    void (*on_fields_expire)(void *ctx, struct db *db, struct slice key, const struct slice *fields,
                             size_t count, bool last);
    void *on_fields_expire_ctx;
    /* Told of reads of keys that are not there. NULL: nobody wants to know. */
    void (*on_miss)(void *ctx, struct db *db, struct slice key);
    void *on_miss_ctx;
    struct libraries *libraries; /* code of functions: libraries.h; NULL: there is none */
};

struct keyspace *keyspace_new(int db_count, bool with_reclaimer);
void keyspace_free(struct keyspace *ks);
uint64_t keyspace_random(struct keyspace *ks);
/* A random number below `bound` (> 0), unbiased enough for sampling. */
uint64_t keyspace_random_below(struct keyspace *ks, uint64_t bound);

static inline uint64_t key_hash(struct slice key)
{
    return hash_bytes(key.data, key.size);
}

/* Whether a key is past its expiry, for the command that runs. */
static inline bool entry_has_expired(const struct keyspace *ks, const struct entry *e)
{
    return e->flags & ENTRY_EXPIRES && entry_due(e) < ks->now_ms && !ks->show_expired;
}

/* The entry, or NULL when there is none or it has expired. Changes nothing; not even the clock. */
struct entry *db_find(const struct db *db, struct slice key, uint64_t hash);

/* Note an access for LRU or LFU. Allowed on a shared entry. */
void entry_touch(struct keyspace *ks, struct entry *e);
/* The access clock of an entry that is written now. */
uint32_t entry_fresh_clock(const struct keyspace *ks);
/* LRU: how long ago the last access was; OBJECT IDLETIME. */
uint32_t entry_idle_seconds(const struct keyspace *ks, const struct entry *e);
/* LFU: the logarithmic counter 0..255 after decay; OBJECT FREQ. */
uint32_t entry_frequency(const struct keyspace *ks, const struct entry *e);
/* Set the clock from an idle time or a frequency: RESTORE, RDB files. */
void entry_set_idle_seconds(const struct keyspace *ks, struct entry *e, uint32_t seconds);
void entry_set_frequency(const struct keyspace *ks, struct entry *e, uint32_t frequency);

struct keyref {
    struct db *db;
    struct slice key; /* the caller's bytes; must live as long as the ref is used */
    uint64_t hash;
    struct entry *entry; /* NULL: there is no such key */
    struct epoch view;   /* of keyref_epoch */
};

/* Find a key for writing. An expired one is removed first (or, while lazy_expire_paused, hidden
 * until keyref_put replaces it). ref->entry may be NULL afterwards. */
void keyref_find(struct keyref *ref, struct db *db, struct slice key, uint64_t hash);

/* The epoch to give to the structures below the entry, for every change of them: in its view
 * snapshots that are done with the key's part do not count. Good for one call; it may be asked for
 * again. */
struct epoch *keyref_part_epoch(const struct keyref *ref);
static inline struct epoch *keyref_epoch(const struct keyref *ref)
{
    if (__builtin_expect(!epoch_has_snapshot(&ref->db->ks->epoch), 1))
        return &ref->db->ks->epoch;
    return keyref_part_epoch(ref);
}

/* Make the entry itself changeable in place. Cheap when it already is. Returns ref->entry. */
struct entry *keyref_own(struct keyref *ref);

/* For who changes a number in place, which is at hand: before it becomes another one. */
static inline void keyref_note_int(struct keyref *ref, int64_t fresh)
{
    unsigned before = keysizes_bin_of_int(entry_int(ref->entry)),
             after = keysizes_bin_of_int(fresh);
    if (before != after && ref->db->ks->size_watch.entry != ref->entry) {
        ref->db->sizes->counts[ENTRY_STRING][before]--;
        ref->db->sizes->counts[ENTRY_STRING][after]++;
    }
}

/* Give the key a fresh value: creates the key or replaces what it had (type, value, encoding,
 * flags), retiring the old value. `due`: ENTRY_NO_EXPIRY or a time; KEYREF_KEEP_DUE keeps the old
 * entry's. `value_size` counts for embedded bytes; of a number it is the number. Returns the new
 * entry; its value field is to be filled by the caller (roots are zeroed). */
#define KEYREF_KEEP_DUE INT64_MIN
struct entry *keyref_put(struct keyref *ref, int64_t due, enum entry_type type,
                         enum entry_encoding encoding, size_t value_size);

/* Resize embedded bytes; the common prefix is kept. Owns the entry. new_size <= ENTRY_EMBED_MAX. */
struct entry *keyref_resize(struct keyref *ref, size_t new_size);

/* Change the encoding (and with it the value field) without retiring anything: the caller has moved
 * the contents. The value field is as after keyref_put. Key, type, due, clock and flags stay. */
struct entry *keyref_reencode(struct keyref *ref, enum entry_encoding encoding, size_t value_size);

/* Set or clear (ENTRY_NO_EXPIRY) the expiry. */
void keyref_set_due(struct keyref *ref, int64_t due);

/* For who changes a hash of ENTRY_TIMED_DICT: `change` more (or less) of its fields expire now, one
 * of them at `due` (ENTRY_NO_EXPIRY: none has been set). */
void keyref_note_timed(struct keyref *ref, int64_t change, int64_t due);
/* Remove up to `want` fields that are past their expiry, and the key with the last of all. Returns
 * how many were removed: less than `want` when there are no more. None while lazy_expire_paused. */
size_t keyref_expire_fields(struct keyref *ref, size_t want);
/* The same for one field. */
void keyref_expire_field(struct keyref *ref, struct slice field);

/* Remove the key with its value. ref->entry is NULL afterwards. */
void keyref_delete(struct keyref *ref);

/* Take the entry out of its database without freeing anything below it, and put it (under the ref's
 * key and database, which must be free) back: for RENAME, MOVE. The block may be a new one. */
struct entry *keyref_take(struct keyref *ref);
void keyref_give(struct keyref *ref, struct entry *e);

/* A deep copy of the value under another name (COPY): nodes are copied, not shared. */
void keyref_copy_from(struct keyref *to, const struct entry *from, int64_t due);

/* Insert an entry that was built aside (loading): the key must not be there. Takes it. */
void db_insert(struct db *db, uint64_t hash, struct entry *e);

/* How many keys of each size it has now. Valid until the keyspace is next written. */
const struct keysizes *db_keysizes(struct db *db);

void db_flush(struct db *db); /* constant time; the reclaimer frees */
void keyspace_flush(struct keyspace *ks);
void keyspace_swap(struct keyspace *ks, int a, int b);
/* Everything of `from` takes the place of what is in `to`, whose databases are empty, and the other
 * way round: in constant time. Both have begun with the same epoch (load_beside). */
void keyspace_exchange(struct keyspace *to, struct keyspace *from);
/* `from`, which has begun with the same epoch, is not wanted: it goes in constant time, and the
 * reclaimer of `ks` frees what is in it. */
void keyspace_discard(struct keyspace *ks, struct keyspace *from);

/* Remove the key if it is there but past its expiry, as a read of it does. True if it did. */
bool db_expire(struct db *db, struct slice key, uint64_t hash);

/* Whether some key may be due: a few loads for each database that has keys with an expiry. */
bool keyspace_has_due(const struct keyspace *ks);

/* Active expiry: removes keys that are due, for at most `budget_us` of time by the monotonic clock
 * given as a function. Returns true when there is more. */
bool keyspace_expire_step(struct keyspace *ks, int64_t budget_us, int64_t (*clock_us)(void));

/* A frozen view of all databases. */
struct snapshot {
    struct epoch_snapshot *epoch;
    struct libraries *libraries; /* as they were; may be NULL */
    int db_count;
    int64_t taken_ms;
    uint64_t marks[EPOCH_MARKS]; /* as they stood before it: see changes.h */
    struct snapshot_db {
        struct table table; /* read with table_walk, on any thread */
        uint64_t expires, timed;
        struct db_changes changes[EPOCH_MARKS];
    } dbs[];
};
struct snapshot *snapshot_begin(struct keyspace *ks); /* constant time in the size of the data */
/* Whoever reads the snapshot, on as many threads as it likes, has read all hashes of the database
 * whose top EPOCH_PART_BITS bits are first..last, and will not look up or walk there again (nor
 * call snapshot_deleted): what was kept of them is let go, and what is written there needs no
 * copies for it. Any thread; once for each part. */
void snapshot_note_done(struct snapshot *s, int db, uint32_t first_part, uint32_t last_part);
/* No thread may read it any more. */
void snapshot_end(struct keyspace *ks, struct snapshot *s);

#endif
