/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/direct.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/mem.h"

/* Of the buffer, of offsets and of sizes: a multiple of the blocks of all disks. */
#define ALIGNMENT 4096U

size_t os_direct_bytes = OS_DIRECT_BYTES;

bool os_file_past_cache(struct os_file *f, bool on)
{
    int flags = fcntl(f->fd, F_GETFL);
    if (flags < 0)
        return false;
    int wanted = on ? flags | O_DIRECT : flags & ~O_DIRECT;
    return wanted == flags || fcntl(f->fd, F_SETFL, wanted) == 0;
}

void os_direct_begin(struct os_direct *d, struct os_file *f, bool past_cache)
{
    *d = (struct os_direct){.file = f, .size = os_direct_bytes};
    d->past_cache = os_file_past_cache(f, past_cache) && past_cache;
    d->capacity = d->size;
    d->buffer = mem_huge_alloc(d->capacity);
}

void os_direct_end(struct os_direct *d)
{
    mem_huge_free(d->buffer, d->capacity);
    d->buffer = NULL;
}

/* Some file systems allow the flag and refuse the call. */
static bool give_up_direct(struct os_direct *d, const struct error *err)
{
    if (!d->past_cache || err->os_errno != EINVAL || !os_file_past_cache(d->file, false))
        return false;
    d->past_cache = false;
    return true;
}

static bool write_buffer(struct os_direct *d, struct error *err)
{
    size_t size = d->used;
    uint64_t at = d->at;
    d->used = 0;
    d->at += size;
    if (size == 0 || os_file_write_at(d->file, at, d->buffer, size, err))
        return true;
    /* To the same place: a part of it may have been written, and what was left of it refused. */
    return give_up_direct(d, err) && os_file_write_at(d->file, at, d->buffer, size, err);
}

bool os_direct_write(struct os_direct *d, const void *data, size_t size, struct error *err)
{
    const char *p = data;
    while (size > 0) {
        size_t part = d->size - d->used;
        if (part > size)
            part = size;
        memcpy(d->buffer + d->used, p, part);
        d->used += part;
        p += part;
        size -= part;
        if (d->used == d->size && !write_buffer(d, err))
            return false;
    }
    return true;
}

bool os_direct_flush(struct os_direct *d, struct error *err)
{
    /* The rest is no whole number of blocks: it goes through the cache. */
    if (d->past_cache && !os_file_past_cache(d->file, false))
        return error_set_errno(err, errno, "cannot write to %s", d->file->path);
    d->past_cache = false;
    return write_buffer(d, err);
}

/* `size` more bytes behind those that are in the buffer, less at the end of the file. */
static bool read_more(struct os_direct *d, size_t size, struct error *err)
{
    char *to = d->buffer + d->used;
    uint64_t at = d->at + d->used;
    size_t got = 0;
    if (!os_file_read_at(d->file, at, to, size, &got, err) &&
        (!give_up_direct(d, err) || !os_file_read_at(d->file, at, to, size, &got, err)))
        return false;
    d->used += got;
    return true;
}

bool os_direct_read(struct os_direct *d, uint64_t at, void *data, size_t size, size_t *got,
                    struct error *err)
{
    if (at < d->at || at >= d->at + d->used) {
        d->at = at - at % ALIGNMENT;
        d->used = 0;
        if (!read_more(d, d->size, err))
            return false;
    }
    *got = 0;
    if (at < d->at + d->used) {
        size_t there = (size_t)(d->at + d->used - at);
        *got = there < size ? there : size;
        memcpy(data, d->buffer + (at - d->at), *got);
    }
    return true;
}

const char *os_direct_aim(struct os_direct *d, uint64_t at, size_t size)
{
    size_t begin = at % ALIGNMENT;
    d->at = at - begin;
    d->used = 0;
    d->begin = begin;
    d->end = begin + size;
    size_t whole = (d->end + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (whole > d->capacity) {
        mem_huge_free(d->buffer, d->capacity);
        d->capacity = whole;
        d->buffer = mem_huge_alloc(d->capacity);
    }
    return d->buffer + begin;
}

bool os_direct_read_on(struct os_direct *d, size_t *got, struct error *err)
{
    size_t before = d->used > d->begin ? d->used : d->begin;
    *got = 0;
    /* Past the cache only the file's end can be within a block. */
    if (d->used >= d->end || (d->past_cache && d->used % ALIGNMENT != 0))
        return true;
    size_t left = (d->end - d->used + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (!read_more(d, left < d->size ? left : d->size, err))
        return false;
    size_t after = d->used < d->end ? d->used : d->end;
    *got = after > before ? after - before : 0;
    return true;
}
