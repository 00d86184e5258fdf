/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Recovery: from what is on disk to a keyspace and the point where the log goes on.
 *
 * What is loaded, with the log on:
 *
 *     manifest                          its base (RDB or commands), then its incrementals in order
 *     no manifest, an old single file   that (RDB preamble or not); afterwards it is put into the
 *                                       directory and named in a manifest, as Redis 7 does
 *     nothing of a log                  the RDB file; nothing at all if there is none
 *     files of a log but no manifest, a file that the manifest names missing, damage that is not a
 *     torn tail, two files that do not follow each other:
 *                                       refused; or, told so (fall_back), the RDB file
 *
 * An RDB file that was made while the log was off, or of what the log lost afterwards, goes on
 * where the log ends. When it says so itself (of the same history, up to the log's end, and beyond)
 * it is used, and the log begins anew from it; when it is of another history, or does not say, the
 * log is, as Redis does it, and a younger file is warned of. Where such a file's chain is damaged,
 * so that what is whole of it has less than the log, that is refused; or, told so (fall_back), the
 * log is used.
 *
 * A torn tail of the last file (persist/log/reader.h) is cut off, and a damaged one where that is
 * allowed; its bytes are kept beside it in "<file>.torn-<date>-<time>". What a read gives is no
 * proof that it is on the disk: the end of the last file, unless it was closed in order, is written
 * again and synced before anything is served.
 *
 * `until` ends the replay at an LSN or a time. The files are left as they were. A moment before the
 * base, an LSN behind the log's end and a time that is yet to come are refused; a time behind the
 * end that has been is warned of.
 *
 * On return the manifest on disk names a base that, with the incrementals it names, is the keyspace
 * (but see may_lack_room):
 * where there was none (a first start, an RDB file, a fall-back, until) `save_base` has made one,
 * and a log that was not used is kept in a directory "<why>-<date>-<time>" in the log's directory.
 * The caller goes on with a new incremental that begins at `lsn` with `crc` as its chain.
 *
 * Replay is pipelined: a thread reads, proves and parses; the caller's executes.
 */
#ifndef HF_PERSIST_LOG_RECOVERY_H
#define HF_PERSIST_LOG_RECOVERY_H

#include "base/error.h"
#include "keyspace/keyspace.h"
#include "persist/log/lineage.h"
#include "persist/log/manifest.h"
#include "persist/log/reader.h"
#include "persist/rdb/format.h"

enum until_kind { UNTIL_END, UNTIL_LSN, UNTIL_MS };

struct recovery_until {
    enum until_kind kind;
    uint64_t lsn; /* nothing behind it */
    int64_t ms;   /* no group that was committed later */
};

/* "123456" is an LSN; 13 digits or more: milliseconds since 1970; "2026-11-21 17:00:00" (or with a
 * T, with fractions, with Z for UTC; else local time): a date. False: none of these. */
bool recovery_parse_until(struct slice text, struct recovery_until *until);

/* What is known of the RDB file (with the chain that follows it) before it is loaded. */
struct recovery_snapshot {
    char log_id[ANNOTATION_HISTORY + 1]; /* as rdb_load_stats; "": unknown, or there is none */
    uint64_t log_lsn;
    bool log_beyond;
    int64_t ms; /* when it was made; 0: unknown */
    size_t deltas; /* incremental snapshots that follow the RDB file */
};

struct recovery_options {
    const char *directory; /* appenddirname */
    const char *filename;  /* appendfilename */
    const char *rdb_path;
    bool cut_torn;  /* aof-load-truncated; else a torn tail is refused */
    /* aof-load-corrupt-tail-max-size: damage of the last file is treated as a torn tail when no
     * more bytes than this are behind what is good; 0: never */
    uint64_t damaged_tail_max;
    bool fall_back; /* recovery-fallback snapshot */
    /* Only load what the log has, whatever an RDB file has: nothing is done to the files, which are
     * in use. No log is NOT_FOUND. */
    bool only_load;
    /* A disk without room is not the end. A torn end that there is no room to keep is left as it is
     * (result->uncut): the caller has it cut off before it goes on in another file. Where there was
     * no log, or a single file, the manifest is left for the caller to make, too
     * (result->no_base). */
    bool may_lack_room;
    /* a base that is made is named .base.aof, and save_base writes commands */
    bool base_of_commands;
    struct recovery_until until;
    struct rdb_load_options rdb; /* progress and progress_ctx are recovery's own */
    struct recovery_snapshot snapshot;
    /* Load the RDB file and what belongs to it. NOT_FOUND: there is none. NULL: rdb_path alone. */
    bool (*load_snapshot)(void *ctx, struct rdb_load_stats *stats, struct error *err);
    /* Prove what follows the RDB file. False: err says what is damaged, and `whole` is as
     * `snapshot`, but of what can be restored. NULL: it is whole. */
    bool (*prove_snapshot)(void *ctx, struct recovery_snapshot *whole, struct error *err);
    int64_t now_ms;              /* for the names of what is kept */
    const char *new_history;     /* 40 hex digits, for when the old one does not go on */
    /* Execute the first `count` commands of a batch but those marked `control`. */
    bool (*execute)(void *ctx, const struct log_batch *b, size_t count, struct error *err);
    /* A file of commands behind the base begins, at this LSN of this history; "" and 0 when it does
     * not say. May be NULL. */
    void (*file)(void *ctx, const char *history, uint64_t lsn);
    /* The base has been loaded: the next commands are for this database until they select one. */
    void (*select)(void *ctx, int db);
    /* Bytes read of all files together; called several times a second. */
    void (*progress)(void *ctx, uint64_t done, uint64_t size);
    /* Write the keyspace durably as a base, with this position in it. */
    bool (*save_base)(void *ctx, const char *path, uint64_t lsn, const char *history,
                      struct error *err);
    void *ctx;
};

enum recovery_source { RECOVERY_NOTHING, RECOVERY_SNAPSHOT, RECOVERY_LOG };

struct recovery_result {
    enum recovery_source source;
    struct manifest manifest; /* as on disk; to be freed */
    uint64_t lsn;
    /* The old one if the log was closed in order, else new_history: replicas may have seen more. */
    char history[ANNOTATION_HISTORY + 1];
    /* The one that was found, whatever becomes of it; "": none. `lsn` is a position in it. */
    char found_history[ANNOTATION_HISTORY + 1];
    struct lineage lineage; /* the histories before that one */
    bool own;               /* its end was done here, by a primary, and is no copy */
    int stream_db; /* of which the effects behind the base are until a SELECT says otherwise */
    uint32_t crc;  /* the last of the log */
    int64_t ms;    /* of the last group, or when the snapshot was made; 0: unknown */
    bool closed;   /* the log was closed in order: nothing behind `lsn` has ever been */
    uint64_t rdb_keys, rdb_expired; /* of the base or the RDB file */
    uint64_t commands;              /* replayed */
    uint64_t log_commands, log_bytes; /* of these, those in the files behind the base */
    uint64_t cut_bytes;             /* of a torn tail */
    char uncut[256];                /* the file whose torn tail is still there; "": none */
    uint64_t uncut_at;              /* where it begins */
    bool fell_back;
    /* NO_SPACE: there is no manifest on disk, as there is no room for it or for a base. What was
     * loaded is as it was, and a new generation has to be made before anything is promised. */
    struct error no_base;
};

/* False: err says why, and what can be done; nothing on disk was changed, and the keyspace holds
 * something or nothing. */
bool recovery_run(struct keyspace *ks, const struct recovery_options *options,
                  struct recovery_result *result, struct error *err);

/* For the tool --------------------------------------------------------------------------------- */

/* Whether a file begins as an RDB file does (also: an AOF with a preamble). */
bool recovery_is_rdb(const char *path, bool *rdb, struct error *err);
/* The fields before the first key of an RDB file, all else zeros. NOT_FOUND. */
bool recovery_read_fields(const char *path, struct rdb_load_stats *stats, struct error *err);
/* Load the RDB file or preamble at the beginning of `path`; *end is the offset behind it. */
bool recovery_load_preamble(struct keyspace *ks, const char *path,
                            const struct rdb_load_options *options, struct rdb_load_stats *stats,
                            uint64_t *end, struct error *err);
/* Cut a file at `size`, the bytes behind kept in a file beside it whose path is put into `kept`.
 * Both are durable on return. */
bool recovery_cut(const char *path, uint64_t size, int64_t now_ms, char kept[256],
                  struct error *err);

#endif
