/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The files of a chain of snapshots that are no RDB files: its manifest (dump.rdb.chain) and the
 * deltas (dump.rdb.<id>.delta), for `check` and `info`. What a file is, is told by its first bytes.
 */
#ifndef HF_TOOL_CHAIN_FILES_H
#define HF_TOOL_CHAIN_FILES_H

#include <stdbool.h>

#include "persist/chain/chain.h"

enum chain_file { CHAIN_FILE_NONE, CHAIN_FILE_MANIFEST, CHAIN_FILE_DELTA };
/* NONE, too, when it cannot be read: whoever opens it next says why. */
enum chain_file chain_file_of(const char *path);

/* Prove every link of the chain that the file belongs to, and say for each what it is; behind one
 * that is broken, up to where the chain can be restored. Of a delta that no manifest names, it
 * alone. False: something is not sound. */
bool check_chain_file(const char *path, enum chain_file kind);
/* Those of a directory; how many there are is added to *count. */
bool check_chains_beside(const char *directory, size_t *count);

/* The links as the manifest has them, or what stands in the delta. Returns an exit status. */
int info_chain_file(const char *path, enum chain_file kind, bool json);

/* "links 1 to N, up to <time> (LSN ...)", as the end of a sentence. */
void format_restorable(char *out, size_t size, const struct chain *c, size_t whole);

#endif
