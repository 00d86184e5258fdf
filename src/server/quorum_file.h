/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a node of a quorum (server/quorum.h) keeps on its disk, in the file `holdfast-quorum`, and
 * the thread that writes it: the executor says what is to be there, goes on, and acts upon it when
 * it is told that it is.
 *
 *     holdfast-quorum 1
 *     promised <epoch> <name or ->
 *     log <epoch> <lsn>
 *     cap <lsn>                     only if there is one
 *     <crc32c of all before, 8 hex digits>
 *
 * The file is replaced as a whole. While one state is being written the next one waits; of several
 * that wait the last one is written. A state that could not be written may be on the disk all the
 * same, or not: it does not count as saved, and is tried again.
 */
#ifndef HF_SERVER_QUORUM_FILE_H
#define HF_SERVER_QUORUM_FILE_H

#include "base/error.h"
#include "server/config.h"

#define QUORUM_FILE "holdfast-quorum"
#define QUORUM_NO_CAP UINT64_MAX

struct quorum_state {
    uint64_t promised; /* the newest epoch that was voted in */
    char promised_to[CONFIG_NODE_NAME];
    uint64_t log_epoch, log_lsn, cap;
};

struct quorum_file;

/* path: QUORUM_FILE; it must outlive it. wake is called on the thread when a state has been
 * written, or could not be. */
struct quorum_file *quorum_file_new(const char *path, void (*wake)(void *ctx), void *ctx);
/* Waits for what is under way. */
void quorum_file_free(struct quorum_file *f);

/* What is there, or what a new node has; what a crash left of writing it is removed. False: it is
 * there, but cannot be read (SYSTEM, TOO_LARGE), is damaged (CORRUPT) or of a newer version
 * (UNSUPPORTED); the state is a new node's. */
bool quorum_file_load(struct quorum_file *f, struct quorum_state *state, struct error *err);
/* What is on the disk for certain. */
const struct quorum_state *quorum_file_saved(const struct quorum_file *f);
/* The last write has succeeded: nothing else than that can be there. */
bool quorum_file_is_sure(const struct quorum_file *f);
bool quorum_file_is_saved(const struct quorum_file *f, const struct quorum_state *state);
/* Have this on the disk, some time. */
void quorum_file_save(struct quorum_file *f, const struct quorum_state *state);
/* Take what has been written, and go on with what waits; by the executor, when it was woken. */
void quorum_file_step(struct quorum_file *f);
/* Wait until it is there. False: it could not be written; the log says why. */
bool quorum_file_save_now(struct quorum_file *f, const struct quorum_state *state);

#endif
