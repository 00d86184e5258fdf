/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The log's directory, taken by one process: two servers that write one log destroy it, and a start
 * cuts off what another one is just writing. The lock (os_dir_lock) ends with the process, however
 * that ends. A directory that is not there yet is taken as soon as there is a log in it.
 *
 * Owned by one thread.
 */
#ifndef HF_PERSIST_LOG_DIRECTORY_H
#define HF_PERSIST_LOG_DIRECTORY_H

#include "persist/log/manifest.h"

struct log_directory {
    int lock;   /* -1: not taken */
    bool tried; /* and need not be tried again */
};

#define LOG_DIRECTORY_FREE {.lock = -1}

/* Take it, or another one in its place. False: another process has it, which err says. True also
 * where it is not there, or where its file system knows no such locks, which is warned of. */
bool log_directory_take(struct log_directory *d, const char *path, struct error *err);
/* A log is there: take the directory if that could not be done so far. */
void log_directory_take_new(struct log_directory *d, const char *path);
/* A log is to begin where none was written so far. The directory is made, so that of two servers
 * that begin one at the same time one is refused; and what is in it must be what `known` names,
 * which this server found there when it was started, or has written itself: the log of one that has
 * ended since is not begun anew with what is in this one's memory. */
bool log_directory_claim(struct log_directory *d, const char *path, const char *filename,
                         const struct manifest *known, struct error *err);
void log_directory_release(struct log_directory *d);

#endif
