/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The server's part of recovery (persist/log/recovery.h): the options by the configuration,
 * commands of the log executed by the command table, and what is said about it in the log and in
 * INFO.
 *
 * replay_log is called once, by persistence_load, when `appendonly` is yes. What it finds out stays
 * in persistence.recovered: from there the log goes on, in a new incremental file (a copy of
 * recovered.manifest, manifest_add_incremental, chain recovered.crc, LSN recovered.lsn, history
 * recovered.history, which is never empty then).
 */
#ifndef HF_SERVER_REPLAY_H
#define HF_SERVER_REPLAY_H

#include "base/error.h"
#include "persist/log/recovery.h"

struct server;

/* False: nothing may be served; err says why. On disk nothing was changed then. */
bool replay_log(struct server *s, struct recovery_result *result, struct error *err);

/* The same again in the running server (DEBUG LOADAOF), whose keyspace is empty: what the log has
 * now is loaded, and where the log goes on stays as it is. NOT_FOUND: there is none. */
bool replay_log_again(struct server *s, struct error *err);
/* The same up to an LSN. False also if the log cannot end just there. *db: which the next effect
 * would be for. */
bool replay_log_until(struct server *s, uint64_t lsn, int *db, struct error *err);

#endif
