/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An RDB file record by record, for whoever wants to look at a file instead of loading it: each key
 * comes with what stands before it (expiry, idle time, frequency) and with the reader standing in
 * front of its value, which is then decoded (rdb_load_value), or passed over (rdb_skip_value).
 *
 *     struct rdb_records records;
 *     if (!rdb_records_begin(&records, reader)) ...
 *     while (rdb_records_next(&records, &record) && record.kind != RDB_RECORD_END)
 *         if (record.kind == RDB_RECORD_KEY)
 *             rdb_load_value(reader, record.type, record.key, record.due, loader, &e) ...
 *
 * What cannot be understood is refused with the offset as by rdb_load_all. One thing is not seen
 * here: a key that occurs twice, as that needs the memory of all keys.
 */
#ifndef HF_PERSIST_RDB_RECORD_H
#define HF_PERSIST_RDB_RECORD_H

#include "persist/rdb/format.h"

enum rdb_record_kind {
    RDB_RECORD_AUX,    /* name, value */
    RDB_RECORD_FUNCTION, /* value: the code of a library of functions */
    RDB_RECORD_SELECT, /* db: the keys that follow belong to it */
    RDB_RECORD_RESIZE, /* keys, expires: how many the database has, said by the writer */
    RDB_RECORD_SLOT,   /* the same for one slot: to be ignored */
    RDB_RECORD_KEY,
    RDB_RECORD_END     /* the checksum was read and is right, or there is none: see `summed` */
};

struct rdb_record {
    enum rdb_record_kind kind;
    uint64_t offset; /* of its first byte; of a key: of what stands before it */
    int db;          /* SELECT, KEY */
    /* KEY; of AUX the name. Valid until the next call of rdb_records_next */
    struct slice key;
    struct rdb_string value; /* AUX, FUNCTION: valid until the next read */
    uint64_t keys, expires;  /* RESIZE */
    uint8_t type;            /* KEY: an enum rdb_type, which may be unknown */
    int64_t due;             /* KEY: ENTRY_NO_EXPIRY when it does not expire */
    bool has_idle;
    uint64_t idle; /* seconds, when has_idle */
    int frequency; /* -1: not given */
    bool summed;   /* END: the file has a checksum */
};

struct rdb_records {
    struct rdb_reader *r;
    int version; /* of the format */
    int db;
    bool verify; /* compare the checksum at the end; true after begin */
    char *name;  /* the copy of the key that `key` points to */
    size_t name_capacity;
};

/* Reads the header: of a later version only if r->later. `r` must live as long as the iteration,
 * and is read by the caller only to take the value of a key. */
bool rdb_records_begin(struct rdb_records *it, struct rdb_reader *r);
/* Instead: goes on at a record in the middle, to read one key that an earlier pass has found at
 * that offset: `r` stands there. Nothing is verified at the end. */
void rdb_records_resume(struct rdb_records *it, struct rdb_reader *r, int version, int db);
/* The next record. The value of a key that was given must have been read. */
bool rdb_records_next(struct rdb_records *it, struct rdb_record *record);
void rdb_records_end(struct rdb_records *it);

/* Read over a value of this type without decoding it: its lengths are proven, its contents are not
 * looked at. Needs no memory however large it is. */
bool rdb_skip_value(struct rdb_reader *r, uint8_t type);

/* The access clock (keyspace/access.c) under an LFU policy of a key that was read now; -1: the file
 * has no frequency for it. */
uint32_t rdb_lfu_clock(int64_t now_ms, int frequency);

/* Build the entry of a key as a load wants it, with its clock. *e is NULL for what is not kept: an
 * empty collection, an expired key where they are dropped. Counts it in `stats`. */
bool rdb_build_entry(struct rdb_reader *r, const struct rdb_record *record, struct rdb_loader *l,
                     const struct rdb_load_options *options, bool lfu, struct rdb_load_stats *stats,
                     struct entry **e);
/* Take over what a field says about the file. */
void rdb_note_aux(const struct rdb_record *record, struct rdb_load_stats *stats);
/* Refuses a database beyond what is configured. */
bool rdb_check_db(struct rdb_reader *r, int db, int db_count);
/* Wait as key_delay_us says, after the key of this number. */
void rdb_delay_key(const struct rdb_load_options *options, uint64_t keys);

/* Refuses a value in a file or payload of a version beyond RDB_VERSION_READ_MAX whose code is not
 * known, or may mean something else there. */
bool rdb_check_type(struct rdb_reader *r, int version, uint8_t type);

/* What a type code holds; ENTRY_TYPE_COUNT for what is not known or not supported. */
enum entry_type rdb_entry_type(uint8_t type);

#endif
