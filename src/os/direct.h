/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Large files past the page cache (O_DIRECT): written once from the beginning to the end, or read
 * back. Nothing of them displaces what others have in the cache, no dirty pages pile up whose flush
 * holds up everybody, and the kernel allocates, copies and frees no pages: going through the cache
 * cost a save more processor time than all the rest of it. The bytes pass through one aligned
 * buffer of huge pages, of which whole blocks go to the disk in few large pieces: a virtual disk
 * took three times as long for the same bytes in single pages. Where the file system cannot do it,
 * or it is not wanted, the same calls go through the cache.
 *
 * Not durable by itself: os_file_sync after os_direct_flush is what makes it so.
 */
#ifndef HF_OS_DIRECT_H
#define HF_OS_DIRECT_H

#include "os/file.h"

/* Whether calls from now on go past the page cache: buffers, offsets and sizes are then whole
 * blocks of the disk. False: it cannot be. Some file systems allow it and refuse the calls
 * (EINVAL). */
bool os_file_past_cache(struct os_file *f, bool on);

/* A huge page. Larger calls gain nothing. */
#define OS_DIRECT_BYTES (2U << 20)
/* So large are the calls of those that are begun from now on. For tests that fail each call in
 * turn: a multiple of 4096. */
extern size_t os_direct_bytes;

struct os_direct {
    struct os_file *file;
    bool past_cache;
    char *buffer;
    size_t capacity, size; /* of the buffer, and of a call */
    size_t used;           /* bytes that are in the buffer */
    uint64_t at;           /* the file's offset of the buffer */
    size_t begin, end;     /* in the buffer, of what is aimed at */
};

/* For one of both: writing a file that is empty from its beginning, or reading. The file must stay
 * open; several may read the same file, each by a struct of its own, with the same past_cache. */
void os_direct_begin(struct os_direct *d, struct os_file *f, bool past_cache);
void os_direct_end(struct os_direct *d);

bool os_direct_write(struct os_direct *d, const void *data, size_t size, struct error *err);
/* What is in the buffer goes to the file; nothing may be written afterwards. */
bool os_direct_flush(struct os_direct *d, struct error *err);

/* Up to `size` bytes at the offset `at`; *got is 0 at the end of the file only. */
bool os_direct_read(struct os_direct *d, uint64_t at, void *data, size_t size, size_t *got,
                    struct error *err);

/* Reading without a copy: [at, at + size) will be where `aim` says, in the struct's own buffer,
 * which grows as it must, until the next call but read_on. Each read_on brings the next of these
 * bytes, by one call to the system; *got is 0 when all of them are there, or the file ends. */
const char *os_direct_aim(struct os_direct *d, uint64_t at, size_t size);
bool os_direct_read_on(struct os_direct *d, size_t *got, struct error *err);

#endif
