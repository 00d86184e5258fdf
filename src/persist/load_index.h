/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Reading the index of chunks at the end of a file that Holdfast wrote. The format is drawn in
 * persist/load_threads.h.
 */
#ifndef HF_PERSIST_LOAD_INDEX_H
#define HF_PERSIST_LOAD_INDEX_H

#include <stdint.h>

#include "base/error.h"
#include "os/file.h"

struct load_chunk {
    int db;
    uint64_t offset; /* of its first byte */
    uint64_t keys;
};

struct load_index {
    uint64_t offset; /* of its first field: where the last chunk ends */
    uint64_t count;
    struct load_chunk *chunks; /* their offsets grow, and all are before `offset` */
};

/* False: there is none, or it is not well formed; nothing is to be freed then. Whether the chunks
 * are what it says is not looked at. */
bool load_index_read(struct load_index *index, struct os_file *f, uint64_t size, struct error *err);
void load_index_deinit(struct load_index *index);

#endif
