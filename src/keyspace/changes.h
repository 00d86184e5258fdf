/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What has changed since a snapshot: for incremental ones.
 *
 * changes_begin sets a mark at a snapshot. From then on every key that is put in or changed has its
 * bit in its table (structure/table.h), and the name of every key that was there at the mark and is
 * removed is kept in a list of its database. A later snapshot freezes both: the bits lie in the
 * segments that it sees, and of the lists, which only grow, it remembers how far they went.
 *
 *     mark set at snapshot A ... writes ... snapshot B: snapshot_mark_of(B, since) -> mark
 *                                           table_walk_changed(), snapshot_deleted()
 *
 * There are two marks. Who writes the delta from A to B sets the second one at B, and ends the
 * first when the delta is proven, or the second when it has failed: the next delta is then one from
 * A again.
 *
 * A database that was emptied has all its keys as changed and none as deleted. When databases are
 * swapped what is known of their changes goes with their contents, and `origin` says where these
 * were at the mark. The mark is *lost*, and the next snapshot has to be a full one, when data was
 * loaded and when more was deleted than is worth remembering: a quarter of the keys, or names of
 * CHANGES_DELETED_BYTES.
 *
 * Everything here is the executor's, but for snapshot_mark_of and snapshot_deleted: any thread.
 */
#ifndef HF_KEYSPACE_CHANGES_H
#define HF_KEYSPACE_CHANGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "structure/epoch.h"

struct keyspace;
struct db;
struct snapshot;

#define CHANGES_DELETED_LEAST 4096 /* so many deleted keys are always remembered */
#define CHANGES_DELETED_BYTES (64U << 20)

struct deleted_chunk;

/* The names of deleted keys: appended to by the executor, and read up to a count on any thread. */
struct deleted_list {
    struct deleted_chunk *first, *last;
    uint64_t count;
};

/* Of one database and one mark. */
struct db_changes {
    struct deleted_list deleted;
    int origin;   /* the database that had at the mark what this one was made from */
    bool emptied; /* all that is there has been put in since */
};

/* Of one mark over all databases. */
struct change_mark {
    uint64_t since;   /* what the mark is called in epochs and snapshots; 0: not in use */
    const char *lost; /* why changes are not known; NULL when they are */
    uint64_t keys;    /* there were so many */
    uint64_t deleted;
    size_t deleted_bytes;
};

/* Tell changes from what is there now on. To be called just before or after the snapshot is taken
 * that they are to be told from. Returns the mark, or -1 when both are in use. */
int changes_begin(struct keyspace *ks);
/* No longer. No snapshot that knows of the mark may be read for its deleted keys any more. */
void changes_end(struct keyspace *ks, int mark);
/* Why a delta from the mark cannot be made, as the end of a sentence; NULL when it can. */
const char *changes_lost(const struct keyspace *ks, int mark);

/* The mark that stood at `since` when the snapshot was taken; -1 when there was none, or lost. */
int snapshot_mark_of(const struct snapshot *s, uint64_t since);
/* Give the names of the keys of a database that were there at the mark and are not in the snapshot.
 * fn returns false to stop; then so does this. */
bool snapshot_deleted(const struct snapshot *s, int db, int mark,
                      bool (*fn)(void *ctx, struct slice key), void *ctx);

/* For the keyspace: the key, which is removed, was there at these marks (see struct
 * table_place). */
void changes_note_deleted(struct db *db, uint32_t at_marks, struct slice key);
void changes_note_emptied(struct db *db);
void changes_lose(struct keyspace *ks, const char *why);

#endif
