/* SPDX-License-Identifier: BSD-3-Clause
 *
 * While the server loads its data: what INFO and the log say of it, and clients that are served
 * meanwhile, with -LOADING to whatever needs keys.
 *
 * Threads build the data (persist/load.h); the executor waits in the event loop, so that a PING is
 * answered at once however large the file is. Inside a batch of commands (DEBUG RELOAD) it cannot
 * serve, and sleeps.
 */
#ifndef HF_SERVER_LOADING_H
#define HF_SERVER_LOADING_H

#include "base/error.h"
#include "persist/rdb/format.h"
#include "server/server.h"

/* Embedded in struct persistence. */
struct loading {
    int64_t start_s; /* wall clock */
    int64_t start_us, logged_us; /* monotonic */
    uint64_t done, size; /* bytes; they stay when it has ended */
    uint64_t keys;
    const struct rdb_load_stats *stats; /* of the file that is being loaded; NULL: of none */
};

/* From begin to end commands get -LOADING. */
void loading_begin(struct server *s);
void loading_end(struct server *s);
/* A thread loads what will take the place of the data that are there, and the executor goes on with
 * these; without begin and end. */
void loading_set_beside(struct server *s, enum loading_beside how);
/* How many bytes have come, of so many (0: not known). */
void loading_note_beside(struct server *s, uint64_t done, uint64_t size);

/* Note how far it is, for INFO and every few seconds for the log; clients are served once. keys: 0
 * where that is not known. */
void loading_tell(struct server *s, uint64_t done, uint64_t size, uint64_t keys);
/* Seconds to go; 1 while that is not known. */
int64_t loading_eta_s(const struct loading *l);

/* The options of a load by the configuration: all cores, progress told, given up when the server is
 * told to stop. `stats` are those that the load will fill in. */
void loading_options(struct server *s, struct rdb_load_options *options,
                     const struct rdb_load_stats *stats);

/* Whether keys that have expired go while a file is loaded. On a replica they are its primary's to
 * remove: what comes from there next may still be about them. */
bool loading_drops_expired(const struct server *s);

/* Load the configured file into `ks`, which is empty: the server's, or one beside it. NOT_FOUND
 * when there is none. Says in the log what was loaded. */
bool loading_load_file(struct server *s, struct keyspace *ks, struct rdb_load_stats *stats,
                       struct error *err);

/* DEBUG RELOAD: load the file, and the incremental snapshots that follow it, again. With `flush`
 * what is in memory goes before; else what is in the file joins it, and a key that is in both is
 * refused or, with `merge`, taken from the file. Called while a command of `c` is executed; others
 * are answered as during a start. */
bool loading_reload(struct server *s, struct client *c, bool flush, bool merge, struct error *err);

/* DEBUG LOADAOF: what is in memory goes, and what the log has is loaded. The log holds all that
 * there was (durability_settle). Called as loading_reload. False: the data is not there, or not all
 * of it. */
bool loading_reload_log(struct server *s, struct client *c, struct error *err);
/* The same up to an LSN, outside of any command; *db: which the next effect would be for. */
bool loading_cut_back(struct server *s, uint64_t lsn, int *db, struct error *err);

#endif
