/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Files and directories: with os/socket.h the only place where the program asks the system for
 * them. Every function that can fail returns false and fills in the error with the path in its
 * message. Interrupted calls are repeated; short writes are completed.
 *
 * Durability, function by function:
 *   os_file_write       in the page cache; a crash of the machine may lose or tear it
 *   os_file_sync        what was written to this file before is on the disk, its size included
 *   os_rename, os_unlink, creating a file: in the directory's cache; on the disk after os_dir_sync
 * After os_file_sync has failed the state of the file's pages is unknown; do not sync it again and
 * call it safe: write a new file.
 *
 * Every call passes the fault hook of os/fault.h, by which a test makes the n-th call fail,
 * shortens it, or lets the machine "lose power".
 */
#ifndef HF_OS_FILE_H
#define HF_OS_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct os_file {
    int fd; /* -1: not open */
    char path[256];
};

#define OS_FILE_CLOSED {.fd = -1}

enum os_open_mode {
    OS_OPEN_READ,             /* must exist */
    OS_OPEN_CREATE_EXCLUSIVE, /* must not exist; for writing and reading back */
    OS_OPEN_CREATE_TRUNCATE,
    OS_OPEN_APPEND, /* created if missing; every write goes to the end */
    OS_OPEN_WRITE   /* must exist */
};

bool os_file_open(struct os_file *f, const char *path, enum os_open_mode mode, struct error *err);
/* Closing loses nothing that was synced; f->fd is -1 afterwards, whatever is returned. */
bool os_file_close(struct os_file *f, struct error *err);
/* All of it, at the file's position (or the end, in append mode). On failure some of it may have
 * been written. */
bool os_file_write(struct os_file *f, const void *data, size_t size, struct error *err);
/* All of it at `offset`. */
bool os_file_write_at(struct os_file *f, uint64_t offset, const void *data, size_t size,
                      struct error *err);
/* Up to `size` bytes from the position; *got is 0 at the end of the file only. */
bool os_file_read(struct os_file *f, void *data, size_t size, size_t *got, struct error *err);
bool os_file_read_at(struct os_file *f, uint64_t offset, void *data, size_t size, size_t *got,
                     struct error *err);
bool os_file_sync(struct os_file *f, struct error *err); /* fdatasync */
bool os_file_size(struct os_file *f, uint64_t *size, struct error *err);
bool os_file_truncate(struct os_file *f, uint64_t size, struct error *err);
/* Reserve room behind the end without changing the size (KEEP_SIZE). UNSUPPORTED if it cannot. */
bool os_file_reserve(struct os_file *f, uint64_t offset, uint64_t size, struct error *err);
/* The range (size 0: all that is behind it) will not be needed soon: may leave the page cache. */
void os_file_forget_cache(struct os_file *f, uint64_t offset, uint64_t size);
/* Whether what follows a read shall come into the page cache, too, as it does unless told
 * otherwise: how much is the system's affair (8 MiB at once are usual on virtual disks). */
void os_file_read_ahead(struct os_file *f, bool wanted);
/* Whether the byte at the offset can be read without asking the disk; true, too, where the system
 * does not say. Brings nothing into the cache. */
bool os_file_is_cached(const struct os_file *f, uint64_t offset);

bool os_rename(const char *from, const char *to, struct error *err);
/* The same, for large files: the room of the one that was there is given back on a thread of its
 * own, so that nobody waits for it (46 ms for 220 MB). */
bool os_rename_over(const char *from, const char *to, struct error *err);
bool os_unlink(const char *path, struct error *err);
/* The same for large files, as os_rename_over. */
bool os_unlink_large(const char *path, struct error *err);
/* Another name for a file, on the same file system; it must not exist. */
bool os_link(const char *from, const char *to, struct error *err);
bool os_dir_remove(const char *path, struct error *err); /* must be empty */
bool os_dir_create(const char *path, struct error *err); /* existing already is no error */
/* The same, and on return its name is on the disk. */
bool os_dir_create_synced(const char *path, struct error *err);
bool os_dir_sync(const char *path, struct error *err);
/* Take the directory for this process, as others that use this function see it: until
 * os_dir_unlock, or the process ends, however it does. EXISTS: another process has it, or this one
 * already. NOT_FOUND: there is no such directory. UNSUPPORTED: its file system knows no such locks.
 * Nothing is written. */
bool os_dir_lock(const char *path, int *lock, struct error *err);
/* -1 is none, and remains so. */
void os_dir_unlock(int *lock);
/* Calls fn for each name in the directory (not "." and ".."), in no order. */
bool os_dir_list(const char *path, void (*fn)(void *ctx, const char *name), void *ctx,
                 struct error *err);
bool os_dir_is_empty(const char *path, bool *empty, struct error *err);
bool os_path_exists(const char *path);
bool os_path_is_dir(const char *path);
/* Changes with the file at `path` (through links): another one, other bytes, another time. 0: there
 * is none. */
uint64_t os_file_fingerprint(const char *path);
bool os_disk_free(const char *path, uint64_t *free_bytes, struct error *err);
/* "ext", "xfs", "tmpfs", ...; of an unknown one its number, of none "unknown". */
void os_file_system_name(const char *path, char *out, size_t size);

/* The directory part of a path ("." if there is none) into out. */
void os_path_dir(const char *path, char *out, size_t size);

/* A whole small file, NUL-terminated; freed by mem_free. TOO_LARGE beyond `max`. */
bool os_file_read_whole(const char *path, size_t max, char **data, size_t *size, struct error *err);

/* Replace a file so that after a crash either the old or the new contents are there, whole: write
 * under a temporary name beside it, sync, rename, sync the directory. It keeps its mode. After
 * NO_SPACE it is the old one that is there; after other errors it may be either. */
bool os_file_replace(const char *path, const void *data, size_t size, struct error *err);

#endif
