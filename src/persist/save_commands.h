/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The base of a log as commands (`aof-use-rdb-preamble no`): what a save job writes around them,
 * and how it proves the file afterwards. The form is that of persist/log/annotation.h:
 *
 *     #HF1 base ...                        the LSN, history and database that it is of
 *     #HF1 group 0, FUNCTION LOAD ..., #HF1 commit
 *     #HF1 group n, SELECT 0, SET ..., #HF1 commit        for each block or two of the pipe
 *     #HF1 close
 *
 * The CRC goes over what was in memory, through the whole file.
 */
#ifndef HF_PERSIST_SAVE_COMMANDS_H
#define HF_PERSIST_SAVE_COMMANDS_H

#include "keyspace/libraries.h"
#include "os/thread.h"
#include "persist/save_pipe.h"

struct save_commands {
    bool (*write)(void *ctx, const void *data, size_t size);
    void *ctx;
    uint64_t lsn;      /* bytes of commands so far */
    uint64_t commands; /* FUNCTION LOAD alone: the others are counted by the pipe */
    int64_t ms;
    uint32_t crc;
    bool in_group;
};

/* The functions write through `write`; false: it has failed. */
bool save_commands_begin(struct save_commands *c, const struct save_position *at, int64_t ms,
                         const struct libraries *functions);
/* Some bytes of commands; ends: with them a command ends, and so does the group. */
bool save_commands_put(struct save_commands *c, const void *data, size_t size, bool ends);
bool save_commands_end(struct save_commands *c);

/* Reads the file of `size` bytes again: every command must be well formed, every checksum right,
 * and there must be as many commands as were written. *done counts the bytes (atomic). polite may
 * be NULL. */
bool save_commands_verify(const struct save_commands *c, const char *path, uint64_t size,
                          const struct save_options *options, struct os_polite *polite,
                          struct save_counters *counters, uint64_t *done, struct error *err);

#endif
