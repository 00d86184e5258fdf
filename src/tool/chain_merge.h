/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Which records of a chain of snapshots count, so that all of its files can be read as if they were
 * one RDB file (tool/input.h), each key once, as it is at the chain's end.
 *
 * The deltas are read before anything else, the last one first: of each key that they put in or
 * delete it is kept which link decides, in 24 bytes (with free room 30 to 60) of a set that is
 * bounded (tool/keyset.h):
 *
 *     full, delta 1, ... delta n     a record counts when its link decides for its key;
 *                                    one of the full snapshot when no delta knows the key
 *
 * What does not fit in the set comes in further rounds over all files. Databases that were emptied
 * or have changed places after a link are reckoned with when its records are looked at.
 */
#ifndef HF_TOOL_CHAIN_MERGE_H
#define HF_TOOL_CHAIN_MERGE_H

#include "persist/chain/chain.h"
#include "persist/rdb/record.h"
#include "tool/keyset.h"

struct chain_merge {
    char rdb[600]; /* the path of the full snapshot */
    struct chain chain;
    struct chain_changes *changes; /* of each link, to databases as wholes */
    struct keyset deciding;
    uint64_t size;  /* of all files */
    /* what a user should know of how the file was chosen, if it is not empty; of a file, too */
    char note[400];
};

enum chain_found_kind {
    CHAIN_IS_FILE,  /* a single RDB file, or something that is none: `path` */
    CHAIN_IS_CHAIN, /* a manifest with deltas: `merge`, to be freed */
    CHAIN_IS_WRONG  /* err */
};

/* What a user has named: a file, a manifest, or a directory, in which there is one chain, or else
 * one file that ends in .rdb. `path` has what is to be opened where that is a file, and `merge` the
 * chain. memory: of the set, in bytes. */
enum chain_found_kind chain_merge_find(const char *named, size_t memory, char path[600],
                                       struct chain_merge *merge, struct error *err);
/* The manifest in a directory, or else its one .rdb. */
bool chain_merge_in_directory(const char *directory, char path[600], struct error *err);
void chain_merge_free(struct chain_merge *m);

/* The file of a link. False: the path is too long. */
bool chain_merge_path(const struct chain_merge *m, size_t link, char path[600]);

/* A key's record of a delta, which is read before those of links behind it have been passed: tell
 * what it is. */
void chain_merge_note(struct chain_merge *m, size_t link, const struct rdb_record *record);
/* In which database of the chain's end a link's database is; -1: it has been emptied since. */
int chain_merge_database(const struct chain_merge *m, size_t link, int db);
/* Whether the record, with its final database, counts in this round. */
bool chain_merge_counts(struct chain_merge *m, size_t link, const struct rdb_record *record);
/* All files have been read: false when that was the last round. */
bool chain_merge_next_round(struct chain_merge *m);

#endif
