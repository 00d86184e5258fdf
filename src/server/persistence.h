/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the server does about its data on disk: loads it at the start, saves it by the schedule
 * (server/snapshots.h), by command and at the end, and refuses writes when saving does not work.
 * The work itself is the saver's (persist/saver.h).
 *
 * Owned by the executor thread.
 */
#ifndef HF_SERVER_PERSISTENCE_H
#define HF_SERVER_PERSISTENCE_H

#include "persist/chain/keeper.h"
#include "persist/log/recovery.h"
#include "persist/saver.h"
#include "server/loading.h"
#include "server/server.h"
#include "server/snapshots.h"

struct persistence {
    struct server *server;
    struct saver *saver;
    struct chain_keeper *chain;
    struct snapshots snapshots;
    bool saving;         /* the chain waits for the end of a full snapshot */
    bool scheduled;      /* begin a background save as soon as none runs */
    bool refuse_writes;  /* the last save failed and stop-writes-on-bgsave-error is set */
    /* of the last incremental one; "": it, or a full one since, succeeded */
    char incremental_error[256];
    uint64_t loaded_keys, loaded_expired; /* at the start */
    struct recovery_result recovered;     /* where the log goes on; zeros without appendonly */
    struct loading loading;
};

/* Sets s->persistence, and a timer that looks after the schedule (server/snapshots.h). */
void persistence_init(struct server *s);
/* A save that is running is cancelled. */
void persistence_deinit(struct server *s);

/* Work out anew whether writes are refused, and the limits of saves that run: after a save, and
 * when the configuration was changed. */
void persistence_update(struct persistence *p);

/* With appendonly load the log (server/replay.h), else the configured RDB file, if there is one.
 * Clients are answered meanwhile, with -LOADING. False: it cannot be loaded whole. True when the
 * server was told to stop meanwhile (server.stopping): the keyspace is empty then. */
bool persistence_load(struct server *s, struct error *err);

/* Load the RDB file and the incremental snapshots that follow it into `ks`, which is empty: the
 * server's, whose next incremental one then follows them, or one beside it (load_beside).
 * NOT_FOUND: there is no file. */
bool persistence_load_snapshot(struct server *s, struct keyspace *ks, struct rdb_load_stats *stats,
                               struct error *err);
/* Saves that run in the background are given up; returns when they have ended. */
void persistence_give_up(struct server *s);
/* This replica's data could be loaded neither from its primary nor anew from its own log: what is
 * in memory is nothing, and no save is begun until everything has come anew. */
bool persistence_has_lost(const struct server *s);
/* The options that a save has by the configuration. */
void persistence_options(const struct server *s, struct save_options *options);
/* SAVE. The executor waits. */
bool persistence_save(struct server *s, struct error *err);
/* BGSAVE. */
bool persistence_begin_save(struct server *s, struct error *err);
/* HOLDFAST SNAPSHOT INCREMENTAL. When it has been taken and the chain is longer than
 * snapshot-chain-max, a full snapshot is taken. */
bool persistence_begin_incremental(struct server *s, struct error *err);

/* Whether the end saves: by `bits` (enum shutdown_bits of config.h), or else the configuration. */
bool persistence_saves_at_end(const struct server *s, int bits);
/* Before the process ends: save if `bits` (enum shutdown_bits of config.h) or else the
 * configuration say so. False: saving has failed, and the process should go on. */
bool persistence_shutdown(struct server *s, int bits);

#endif
