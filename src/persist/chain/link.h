/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The files of a chain of snapshots: a full one, which is an RDB file, and deltas, each with the keys
 * that were changed and deleted since the one before it. Here single files are written, read through
 * and proven; persist/chain/chain.h knows how they belong together.
 *
 * A delta is written with the records of RDB, but it begins with another word than an RDB file, so
 * that no server and no tool can take it for one: redis-server and redis-check-rdb refuse it, too.
 *
 *     "HFDLT" version (4 digits: the RDB version of the values)
 *     AUX hf-id, hf-parent, hf-lsn, ctime
 *     FUNCTION2 code           for each library of functions that there is, changed or not
 *     for each database that something happened to:
 *         SELECTDB
 *         EMPTIED (225) ""         first: nothing of what was there before is there any more
 *         DELETED (224) key        for each key that is no longer there
 *         ... type key value       for each key that was put in or changed, as in RDB files
 *     EOF and the CRC64 of all before it
 *
 * A full snapshot has its id in the AUX field hf-id, which Redis skips.
 */
#ifndef HF_PERSIST_CHAIN_LINK_H
#define HF_PERSIST_CHAIN_LINK_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/rdb/record.h"

#define LINK_ID_SIZE 17 /* 16 hex digits */
#define LINK_AUX_ID "hf-id"
#define LINK_AUX_PARENT "hf-parent"
#define LINK_AUX_LSN "hf-lsn"
#define LINK_AUX_VERSION "hf-version" /* counts the snapshots, over restarts */

enum link_kind { LINK_FULL, LINK_DELTA };

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

struct link_options {
    bool compress;
    enum rdb_clock clock;
    uint32_t lru_now;
    bool polite;       /* on a thread that makes room for the executor */
    const bool *stop;  /* set (atomically) by others to give up; may be NULL */
};

/* Write the delta from mark `mark` to the snapshot into a file that is not there, and sync it. id,
 * parent, lsn and time_ms of the link are given; its counts, size and SHA-256 are filled in. On
 * failure the file may be there in part: the caller removes it. */
bool link_write_delta(const char *path, const struct snapshot *s, int mark,
                      const struct link_options *options, struct chain_link *link,
                      struct error *err);

/* What a file holds, in its order. False stops with an error set. `put` takes the entry, which is
 * built in the epoch given to link_read. */
struct link_visitor {
    bool (*emptied)(void *ctx, int db, struct error *err);
    bool (*deleted)(void *ctx, int db, struct slice key, struct error *err);
    bool (*put)(void *ctx, const struct rdb_record *record, struct entry *e, struct error *err);
    /* The code of a library of functions. A file has all that there were; may be NULL. */
    void (*function)(void *ctx, struct slice code);
    void *ctx;
};

/* Read a file through, decoding everything; found (NULL: not wanted) gets ids, counts, size and
 * SHA-256 as they are. Without a visitor (NULL) entries are thrown away. False: err names the
 * offset. */
bool link_read(const char *path, enum link_kind kind, struct epoch *epoch,
               const struct encoding_limits *limits, const struct link_visitor *visitor,
               struct chain_link *found, struct error *err);

/* The id of the RDB file: "" when it has none. Reads only what stands before its first key. */
bool link_read_id(const char *path, char id[LINK_ID_SIZE], struct error *err);
/* Likewise the version of a file of either kind: 0 when it has none. */
bool link_read_version(const char *path, enum link_kind kind, uint64_t *version,
                       struct error *err);

/* Prove that the file is what the link says: every value decodes, and ids, counts, size and SHA-256
 * are the same. Any thread. */
bool link_prove(const char *path, const struct chain_link *link, struct error *err);

/* Carry out a delta on a keyspace that holds the state before it. When it fails what was done stays. */
bool link_apply_delta(const char *path, struct keyspace *ks, const struct rdb_load_options *options,
                      struct error *err);

#endif
