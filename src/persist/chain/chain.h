/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The chain of snapshots: one full one and the deltas after it, named by a manifest.
 *
 *     dump.rdb         the full snapshot, as BGSAVE writes it
 *     dump.rdb.<id>.delta   the deltas
 *     dump.rdb.chain   the manifest, a text:
 *         holdfast-chain 1
 *         full <id> - <lsn> <time ms> <keys> 0 <size> <sha256> <name>
 *         delta <id> <parent's id> <lsn> <time ms> <keys> <deleted> <size> <sha256> <name>
 *         end <crc32c of all lines before, 8 hex digits>
 *
 * There is a manifest once there has been a delta. It is replaced as a whole, and only when the new
 * link is proven and durable. Whether it is about the RDB file that is there is told by the id in
 * that file: when a full snapshot has been written anew and the machine stopped before the manifest
 * was, the file is newer than the whole chain, which is then *past* and is not looked at.
 */
#ifndef HF_PERSIST_CHAIN_CHAIN_H
#define HF_PERSIST_CHAIN_CHAIN_H

#include "base/text.h"
#include "persist/chain/link.h"

struct chain {
    struct chain_link *links; /* the full one first */
    size_t count;
};

void chain_free(struct chain *c); /* empty afterwards */
void chain_copy(struct chain *to, const struct chain *from);
void chain_add(struct chain *c, const struct chain_link *link);

bool chain_parse(struct chain *c, struct slice text, struct error *err);
void chain_format(const struct chain *c, struct text *out);

/* The manifest's path and that of a link, by the path of the RDB file. False: too long. */
bool chain_manifest_path(const char *rdb_path, char *out, size_t size);
bool chain_link_path(const char *rdb_path, const struct chain_link *link, char *out, size_t size);

/* NOT_FOUND when there is no manifest. */
bool chain_read(struct chain *c, const char *rdb_path, struct error *err);
bool chain_write(const struct chain *c, const char *rdb_path, struct error *err);

/* Remove the files of deltas that the chain does not name. */
void chain_clean(const struct chain *c, const char *rdb_path);

/* Prove all links from number `first` on. Returns how many from the beginning of the chain are
 * whole, those before `first` counted in; where it is fewer than all, err names the link and the
 * reason. care may be NULL. */
size_t chain_prove(const struct chain *c, size_t first, const char *rdb_path,
                   const struct link_care *care, struct error *err);

/* What there is to be restored beside a RDB file. */
enum chain_state {
    CHAIN_NONE,   /* no manifest, or no RDB file and no deltas: the RDB file is all there is */
    CHAIN_PAST,   /* the RDB file is another one than the chain's: likewise */
    CHAIN_WHOLE,  /* the deltas of `chain` are proven: to be applied after the RDB file */
    CHAIN_BROKEN  /* only the first `whole` links can be restored; err says what is wrong */
};

struct chain_found {
    struct chain chain; /* to be freed */
    size_t whole;
};
enum chain_state chain_find(struct chain_found *f, const char *rdb_path, struct error *err);

/* What the file of link i says of itself before its first key; false: it is not there, or not the
 * one that the manifest names, as far as that can be told by its beginning and its size. */
bool chain_read_head(const struct chain *c, size_t i, const char *rdb_path,
                     struct rdb_load_stats *stats, struct error *err);

/* What a start would restore, and how it stands to the log: of the files only the beginnings are
 * read. */
struct chain_tip {
    struct chain chain; /* to be freed; of one link, without SHA-256, where there is no manifest;
                                    empty where the RDB file is no link */
    struct rdb_load_stats stats; /* what the last link says of itself; zeros without an RDB file */
    /* why the chain cannot be continued, if there is one; else code 0 */
    struct error broken;
};
void chain_read_tip(struct chain_tip *tip, const char *rdb_path);
/* As that, but the deltas are proven: the chain is those links alone that can be restored, and
 * `broken` says why others cannot. The RDB file is not read through. */
void chain_prove_tip(struct chain_tip *tip, const char *rdb_path);

/* Apply deltas 1 .. count - 1 to what the full one has; `stats` are those of its load, as with
 * link_apply_delta. */
bool chain_apply(const struct chain *c, size_t count, const char *rdb_path, struct keyspace *ks,
                 const struct rdb_load_options *options, struct rdb_load_stats *stats,
                 struct error *err);

#endif
