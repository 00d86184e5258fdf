/* SPDX-License-Identifier: BSD-3-Clause
 *
 * BACKUP: a copy of the data, up to one moment, that a start reads: a base of the log, the file (or
 * files) of effects behind it, and a manifest, in the directory backupdirname.
 *
 *     IDLE ──START──> PENDING ──a base is begun──> SNAPSHOTTING ──it is named──> INCREMENTING
 *      ^                                                                              │ SEAL
 *      └───────────────────────────── CLEANUP, backup-sealed-ttl ───────────────── SEALED
 *
 *     PENDING, SNAPSHOTTING, INCREMENTING ──ABORT, or it cannot go on──> FAILED ──CLEANUP──> IDLE
 *                                                                          └─────START──> PENDING
 *
 * Nothing is written twice: the base is that of a rewrite of the log, or of one that runs already,
 * and the files of a log are never changed once they have ended, so the backup has them by hard
 * links. Until it is sealed the log is not rewritten again, as its files have to lead from that
 * base up to the seal, where the log goes on in a new file. Without appendonly there is a log from
 * START to SEAL only, for the backup; it is removed then, unless there were files in its directory
 * before.
 *
 * START, SEAL and CLEANUP touch directories on the executor; SEAL also waits until what was written
 * is on the disk. Nothing of all this outlives the process: a backup that was not sealed when it
 * ends is given up, and one that was sealed is just files.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_BACKUP_H
#define HF_SERVER_BACKUP_H

#include <stdbool.h>

struct server;
struct text;

/* Sets s->backup. */
void backup_init(struct server *s);
/* One that is in progress is given up. */
void backup_deinit(struct server *s);

/* From START on until it is sealed, or has failed. */
bool backup_in_progress(const struct server *s);
/* The log's files are needed: it is not to be rewritten. */
bool backup_keeps_files(const struct server *s);

/* Ten times a second: backup-sealed-ttl. */
void backup_look(struct server *s);

/* For server/durability.c, which says what happens to the log. */
void backup_base_begun(struct server *s);
/* The log has a new base, or (why not NULL) it could not be made. */
void backup_base_ended(struct server *s, const char *why);
/* Its files do not lead further from the base. */
void backup_log_broken(struct server *s, const char *why);

/* The field of INFO persistence. */
void backup_info(struct server *s, struct text *out);

#endif
