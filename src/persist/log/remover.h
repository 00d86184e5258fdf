/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Removing files of the log that nobody needs any more, on a thread of its own: to unlink a large
 * file can take the file system a second, for which neither the executor nor the log may wait.
 *
 * A file is removed only when the manifest on disk does not count on it: the caller has written one
 * that calls it history, or does not name it. Which of them are gone is to be left out of the
 * manifest when it is written next; until then it names history that is not there, which nobody
 * minds.
 */
#ifndef HF_PERSIST_LOG_REMOVER_H
#define HF_PERSIST_LOG_REMOVER_H

#include <stdbool.h>

#include "base/error.h"
#include "persist/log/manifest.h"

struct remover;

/* Begin to remove the files that `files` has as history. wake is called on the thread when it is
 * done. NULL: the thread cannot be started. */
struct remover *remover_start(const char *directory, const struct manifest *files,
                              void (*wake)(void *ctx), void *ctx, struct error *err);
bool remover_ended(const struct remover *r);
/* Waits, forgets in `m` the files that are gone, and frees the remover. */
void remover_finish(struct remover *r, struct manifest *m);

#endif
