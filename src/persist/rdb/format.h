/* SPDX-License-Identifier: BSD-3-Clause
 *
 * RDB files as a whole: the codes, and the walk over a file's records. Pure bytes.
 *
 *     "REDIS" version (4 digits)
 *     records: opcode or (expiry, idle, frequency)* type key value
 *     EOF (255) and, from version 5 on, the CRC64 of all bytes before it, or 0 for "not summed"
 *
 * Read: versions 1 to 12, all encodings of the six types; where it is allowed (keyspace.later_rdb)
 * also later ones, as far as nothing is met that is not known. A file with modules' data is refused
 * with the offset, as leaving them out would lose data.
 * Written: version 10 (Redis 7.0) by default, or 12 (Redis 7.4) where there are hashes whose fields
 * expire, which no earlier version has.
 */
#ifndef HF_PERSIST_RDB_FORMAT_H
#define HF_PERSIST_RDB_FORMAT_H

#include "keyspace/keyspace.h"
#include "persist/log/lineage.h"
#include "persist/rdb/io.h"

#define RDB_VERSION_READ_MAX 12
/* From this one on the numbers are Valkey's, in whose files the codes of hashes whose fields expire
 * mean something else. */
#define RDB_VERSION_VALKEY 80
#define RDB_VERSION_DEFAULT 10
/* The first that has AUX fields, on which the index stands. */
#define RDB_VERSION_WRITE_MIN 7
#define RDB_VERSION_WRITE_MAX 12
/* The first that has libraries of functions. */
#define RDB_VERSION_FUNCTIONS 10

/* The value of the last AUX field before EOF, "hf-index", is of this size: docs/formats.md. */
#define RDB_INDEX_SIZE 32

enum rdb_opcode {
    RDB_OP_SLOT_INFO = 244,
    RDB_OP_FUNCTION2 = 245,
    RDB_OP_FUNCTION_PRE_GA = 246,
    RDB_OP_MODULE_AUX = 247,
    RDB_OP_IDLE = 248,
    RDB_OP_FREQ = 249,
    RDB_OP_AUX = 250,
    RDB_OP_RESIZEDB = 251,
    RDB_OP_EXPIRE_MS = 252,
    RDB_OP_EXPIRE = 253,
    RDB_OP_SELECTDB = 254,
    RDB_OP_EOF = 255
};

enum rdb_type {
    RDB_STRING = 0,
    RDB_LIST = 1,
    RDB_SET = 2,
    RDB_ZSET = 3,
    RDB_HASH = 4,
    RDB_ZSET_2 = 5,
    RDB_MODULE = 6,
    RDB_MODULE_2 = 7,
    RDB_HASH_ZIPMAP = 9,
    RDB_LIST_ZIPLIST = 10,
    RDB_SET_INTSET = 11,
    RDB_ZSET_ZIPLIST = 12,
    RDB_HASH_ZIPLIST = 13,
    RDB_LIST_QUICKLIST = 14,
    RDB_STREAM_LISTPACKS = 15,
    RDB_HASH_LISTPACK = 16,
    RDB_ZSET_LISTPACK = 17,
    RDB_LIST_QUICKLIST_2 = 18,
    RDB_STREAM_LISTPACKS_2 = 19,
    RDB_SET_LISTPACK = 20,
    RDB_STREAM_LISTPACKS_3 = 21,
    RDB_HASH_METADATA_PRE_GA = 22,
    RDB_HASH_LISTPACK_EX_PRE_GA = 23,
    RDB_HASH_METADATA = 24,
    RDB_HASH_LISTPACK_EX = 25
};

/* Values (value_load.c, value_save.c) ---------------------------------------------------------- */

/* What building values needs. One for a load; not shared between threads. */
struct rdb_loader;
struct rdb_loader *rdb_loader_new(struct epoch *epoch, const struct encoding_limits *limits);
void rdb_loader_free(struct rdb_loader *l);
/* Sets, hashes and sorted sets may be built as wholes, which is quicker: of a member that is there
 * twice the error then says where the value ends, and not where the member stands. */
void rdb_loader_set_bulk(struct rdb_loader *l, bool bulk);

/* Read a value of this type and build an entry under `key` (whose bytes are copied first, as they
 * may stand in the reader's buffer). The entry is not yet in any database. *e is NULL for an empty
 * collection, which old versions could write. */
bool rdb_load_value(struct rdb_reader *r, uint8_t type, struct slice key, int64_t due,
                    struct rdb_loader *l, struct entry **e);
/* Free an entry that was built and is not wanted. */
void rdb_drop_entry(struct rdb_loader *l, struct entry *e);

/* Read a value and prove that it can be decoded, without building it; the types that this server
 * does not write are built with l, and dropped. */
bool rdb_check_value(struct rdb_reader *r, uint8_t type, struct rdb_loader *l);

/* The lowest version that can express the entry: LONG where a collection or a string is of more
 * than UINT32_MAX, STREAMS a stream, TIMED a hash whose fields expire; else 1. None but the latter
 * needs more than RDB_VERSION_NEEDED_MOST. */
#define RDB_VERSION_LONG 8
#define RDB_VERSION_STREAMS 9
#define RDB_VERSION_NEEDED_MOST 9
#define RDB_VERSION_TIMED 12
int rdb_version_needed(const struct entry *e);
/* What is written where no version was chosen. */
int rdb_version_for(const struct snapshot *s);

/* The type code that an entry is written as, and its value. Reads only: any thread, frozen
 * entries. */
uint8_t rdb_type_of(const struct entry *e, int version);
void rdb_save_value(struct rdb_writer *w, const struct entry *e);

/* Streams (stream_load.c, stream_save.c). Build into an empty root, which is to be cleared on
 * failure too; or with NULL prove only, but for names and pending entries that occur twice. */
bool rdb_load_stream(struct rdb_reader *r, uint8_t type, struct stream_root *s, struct epoch *e);
void rdb_save_stream(struct rdb_writer *w, uint8_t type, const struct stream_root *s);

/* Files (file_load.c, file_save.c) ------------------------------------------------------------- */

enum rdb_clock { RDB_CLOCK_NONE, RDB_CLOCK_LRU, RDB_CLOCK_LFU };

void rdb_save_header(struct rdb_writer *w, int64_t now_ms, size_t used_memory);
/* The code of a library of functions: from version 10 on, behind the fields and before the keys. */
void rdb_save_function(struct rdb_writer *w, struct slice code);
/* An AUX field whose value is written as it stands. Redis skips those that it does not know. */
void rdb_save_aux(struct rdb_writer *w, const char *name, struct slice value);
void rdb_save_select(struct rdb_writer *w, int db, uint64_t keys, uint64_t expires);
/* clock: whether the time since the last access (from lru_now) or the frequency is written too. */
void rdb_save_entry(struct rdb_writer *w, const struct entry *e, enum rdb_clock clock,
                    uint32_t lru_now);
/* The end, with the checksum if `checksum`, and flush. False: some flush failed. */
bool rdb_save_end(struct rdb_writer *w, bool checksum);

struct rdb_load_stats {
    uint64_t keys, expired, empty;
    int version;
    int64_t created_ms; /* of the "ctime" field; 0: unknown */
    int threads;        /* that built the entries; 0: the caller alone */
    bool indexed;       /* by the file's own chunk index */
    /* Of the fields "repl-id" and "repl-offset": the history and LSN that the file is of. Redis has
     * them in some files, Holdfast in those that belong to a log; "": unknown. */
    char repl_id[41];
    int64_t repl_offset;
    int stream_db; /* of "repl-stream-db": for which database the stream's next effect is; else 0 */
    /* Of "hf-log-id", "hf-log-lsn" and "hf-log-beyond": the file holds all that the log of this
     * history had up to this LSN, and if log_beyond, what was changed then without a log. "":
     * unknown. */
    char log_id[41];
    uint64_t log_lsn;
    bool log_beyond;
    /* Of "hf-log-exact": it holds just what a replay of that log up to log_lsn makes, so that what
     * the log has behind it is all that has changed since. */
    bool log_exact;
    /* Of "hf-own": it was made by a primary, and so is not a copy of another one's data; and of
     * "hf-past-<n>": the histories that its data have come through. */
    bool own;
    struct lineage lineage;
    size_t deltas; /* incremental snapshots that were carried out on it (persist/chain) */
};

struct rdb_load_options {
    int64_t now_ms;
    bool drop_expired;
    bool checksum;        /* compare it (rdbchecksum) */
    bool polite;          /* the threads make room for the executor, which serves meanwhile */
    uint32_t lru_now;     /* for idle times */
    /* Called now and then, by the thread that loads, with the bytes read so far; stats->keys is up
     * to date then. May be NULL. */
    void (*progress)(void *ctx, uint64_t done, uint64_t size);
    void *progress_ctx;
    int64_t key_delay_us; /* wait so long after each key (for tests); -n: 1 us after each n keys */
    /* For persist/load.h, which passes the work to so many threads. 0: none, the caller loads. */
    int threads;
    uint64_t threads_min_size; /* no threads for files of less bytes */
    /* While threads load: wait for at most so many ms, or until woken by `wake`, which is called by
     * one of the threads; then progress is told. May be NULL. */
    void (*wait)(void *wait_ctx, int ms);
    void (*wake)(void *wait_ctx);
    void *wait_ctx;
    const bool *cancel; /* set by what the callbacks do: give the load up. May be NULL */
};

/* Read a whole file's bytes into the keyspace, whose databases should be empty. On failure what was
 * loaded is still there: the caller flushes it. */
bool rdb_load_all(struct rdb_reader *r, struct keyspace *ks, const struct rdb_load_options *options,
                  struct rdb_load_stats *stats);

/* DUMP payloads (dump.c): type, value, RDB version (2, LE), CRC64 (8, LE). --------------------- */

void rdb_dump(struct rdb_writer *w, const struct entry *e);
/* False with INVALID when version or checksum do not fit; CORRUPT when the value is damaged. later:
 * a version that is not known may be tried. */
bool rdb_restore(struct slice payload, struct slice key, int64_t due, bool later,
                 struct rdb_loader *l, struct entry **e, struct error *err);

#endif
