/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The files of a chain of snapshots: a full one, which is an RDB file, and deltas, each with the
 * keys that were changed and deleted since the one before it. Here single files are read through
 * and proven, and here is what a delta has besides an RDB file's records; both kinds are written by
 * save jobs (persist/save_job.h). persist/chain/chain.h knows how the files belong together.
 *
 * A delta is written with the records of RDB, but it begins with another word than an RDB file, so
 * that no server and no tool can take it for one: redis-server and redis-check-rdb refuse it, too.
 *
 *     "HFDLT" version (4 digits: the RDB version of the values)
 *     AUX ctime, hf-id, hf-parent, hf-lsn, hf-version and those that the RDB file would have
 *     FUNCTION2 code           for each library of functions that there is, changed or not
 *     SELECTDB a, SWAPPED (226) "b"    databases a and b have changed places: in this order
 *     for each database from which something is gone:
 *         SELECTDB
 *         EMPTIED (225) ""         nothing of what was there before is there any more
 *         DELETED (224) key        for each key that is no longer there
 *     SELECTDB, type key value     for each key that was put in or changed, as in an RDB; in runs
 *     EOF and the CRC64 of all before it
 *
 * A full snapshot has its id in the AUX field hf-id, which Redis skips.
 */
#ifndef HF_PERSIST_CHAIN_LINK_H
#define HF_PERSIST_CHAIN_LINK_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/rdb/record.h"
#include "persist/save_limits.h"

#define LINK_ID_SIZE 17 /* 16 hex digits */
#define LINK_AUX_ID "hf-id"
#define LINK_AUX_PARENT "hf-parent"
#define LINK_AUX_LSN "hf-lsn"
#define LINK_AUX_VERSION "hf-version" /* counts the snapshots, over restarts */

enum link_kind { LINK_FULL, LINK_DELTA };

/* Records of a delta's own, among the types of keys: neither Redis nor Valkey has such types. */
enum link_record { LINK_DELETED = 224, LINK_EMPTIED = 225, LINK_SWAPPED = 226 };
#define LINK_MAGIC "HFDLT" /* then four digits */

/* One file, as the manifest has it. */
struct chain_link {
    enum link_kind kind;
    char name[256];            /* beside the manifest */
    char id[LINK_ID_SIZE];
    char parent[LINK_ID_SIZE]; /* of a delta: the id of the link before it; "" of a full one */
    uint64_t lsn;              /* the replication offset that it stands for */
    int64_t time_ms;           /* when it was taken */
    uint64_t keys, deleted;    /* in the file */
    uint64_t size;
    char sha256[65];
    uint64_t version; /* in the file, not in the manifest; 0: unknown */
};

/* An id that no other link has. */
void link_new_id(char id[LINK_ID_SIZE]);

/* End the summing up; `text` gets the digest. For an EVP_MD_CTX. */
struct evp_md_ctx_st;
void link_sum_end(struct evp_md_ctx_st *sha, char text[65]);

/* The header of a delta, to be followed by further AUX fields. The version is the writer's. */
void link_write_header(struct rdb_writer *w, int64_t taken_ms);
/* Then, before the keys: databases that were swapped and emptied, and keys that are gone. The
 * number of the latter is added to *deleted. */
void link_write_gone(struct rdb_writer *w, const struct snapshot *s, int mark, uint64_t *deleted);

/* What a file holds, in its order. False stops with an error set. `put` takes the entry, which is
 * built in the epoch given to link_read. */
struct link_visitor {
    bool (*swapped)(void *ctx, int db, int other, struct error *err);
    bool (*emptied)(void *ctx, int db, struct error *err);
    bool (*deleted)(void *ctx, int db, struct slice key, struct error *err);
    bool (*put)(void *ctx, const struct rdb_record *record, struct entry *e, struct error *err);
    /* The code of a library of functions. A file has all that there were; may be NULL. */
    void (*function)(void *ctx, struct slice code);
    void (*aux)(void *ctx, const struct rdb_record *record); /* likewise */
    void *ctx;
};

/* Given to what takes long: set (atomically, by another thread) to make it fail with CANCELLED. */
struct link_care {
    bool stop;
    bool polite; /* it runs on a thread that makes room for the executor */
    uint64_t rate; /* bytes a second of each file; 0: as fast as it goes */
    const struct save_limits *limits; /* if not NULL its rate, which may change, holds instead */
    void (*progress)(void *ctx, uint64_t done, uint64_t size); /* of each file; may be NULL */
    void *ctx;
};

/* Read a file through, decoding everything; found (NULL: not wanted) gets ids, time, counts, size
 * and SHA-256 as they are. Without a visitor (NULL) entries are thrown away. care may be NULL.
 * False: err names the offset. */
bool link_read(const char *path, enum link_kind kind, struct epoch *epoch,
               const struct encoding_limits *limits, const struct link_visitor *visitor,
               const struct link_care *care, struct chain_link *found, struct error *err);

/* Read the header of a delta, up to its first record: the version of its records. */
bool link_read_magic(struct rdb_reader *r, int *version);
/* What a file of either kind says of itself before its first key; sizes and ids among it, counts
 * not. */
bool link_read_head(const char *path, enum link_kind kind, struct chain_link *found,
                    struct rdb_load_stats *stats, struct error *err);
/* A delta that does not say how it stands to the log (as none did at first) is of its parent's log,
 * at `lsn`. */
void link_pass_place(struct rdb_load_stats *of, const struct rdb_load_stats *parent, uint64_t lsn);

/* The id of the RDB file: "" when it has none. Reads only what stands before its first key. */
bool link_read_id(const char *path, char id[LINK_ID_SIZE], struct error *err);
/* Likewise the version of a file of either kind: 0 when it has none. */
bool link_read_version(const char *path, enum link_kind kind, uint64_t *version,
                       struct error *err);

/* Prove that the file is what the link says: every value decodes, and ids, counts, size and SHA-256
 * are the same. Any thread. care may be NULL. */
bool link_prove(const char *path, const struct chain_link *link, const struct link_care *care,
                struct error *err);

/* Carry out a delta on a keyspace that holds the state before it. When it fails what was done
 * stays. The fields of `stats` about when and where in the stream the data is from become the
 * delta's. */
bool link_apply_delta(const char *path, struct keyspace *ks, const struct rdb_load_options *options,
                      struct rdb_load_stats *stats, struct error *err);

#endif
