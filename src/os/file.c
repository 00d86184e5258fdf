/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "os/fault.h"
#include "os/thread.h"

static inline bool faults_active(void)
{
    return __builtin_expect(__atomic_load_n(&os_fault_active, __ATOMIC_RELAXED) != 0, 0);
}

/* The fault hook: 0 to go on. */
static inline int before(enum os_op op, size_t *allowed)
{
    return faults_active() ? os_fault_before(op, allowed) : 0;
}

bool os_file_open(struct os_file *f, const char *path, enum os_open_mode mode, struct error *err)
{
    static const int flags[] = {
        [OS_OPEN_READ] = O_RDONLY,
        [OS_OPEN_CREATE_EXCLUSIVE] = O_RDWR | O_CREAT | O_EXCL,
        [OS_OPEN_CREATE_TRUNCATE] = O_RDWR | O_CREAT | O_TRUNC,
        [OS_OPEN_APPEND] = O_RDWR | O_CREAT | O_APPEND,
        [OS_OPEN_WRITE] = O_RDWR,
    };
    f->fd = -1;
    int n = snprintf(f->path, sizeof(f->path), "%s", path);
    if (n < 0 || (size_t)n >= sizeof(f->path))
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", path);
    bool writes = mode != OS_OPEN_READ;
    bool existed = !faults_active() || os_path_exists(path);
    int fault = writes ? before(OS_OP_OPEN, NULL) : 0;
    if (fault)
        return error_set_errno(err, fault, "cannot open %s", path);
    do {
        f->fd = open(path, flags[mode] | O_CLOEXEC, 0644);
    } while (f->fd < 0 && errno == EINTR);
    if (f->fd < 0)
        return error_set_errno(err, errno, "cannot open %s", path);
    if (writes && faults_active())
        os_fault_note_open(f->fd, path, !existed, mode == OS_OPEN_CREATE_TRUNCATE);
    return true;
}

bool os_file_close(struct os_file *f, struct error *err)
{
    if (f->fd < 0)
        return true;
    int fault = before(OS_OP_CLOSE, NULL);
    if (faults_active())
        os_fault_note_close(f->fd);
    int result = close(f->fd);
    int saved = errno;
    f->fd = -1;
    if (fault || (result < 0 && saved != EINTR))
        return error_set_errno(err, fault ? fault : saved, "cannot close %s", f->path);
    return true;
}

/* Where the next write without an offset goes: only asked while faults are recorded. */
static uint64_t write_position(const struct os_file *f)
{
    bool append = (fcntl(f->fd, F_GETFL) & O_APPEND) != 0;
    return (uint64_t)lseek(f->fd, 0, append ? SEEK_END : SEEK_CUR);
}

/* offset < 0: at the position. */
static bool write_all(struct os_file *f, int64_t offset, const void *data, size_t size,
                      struct error *err)
{
    const char *p = data;
    while (size > 0) {
        size_t allowed = size;
        int fault = before(OS_OP_WRITE, &allowed);
        ssize_t n = 0;
        char *wrong = NULL;
        const char *from = p;
        if (fault == OS_FAULT_GARBLE) {
            fault = 0;
            wrong = mem_alloc(size + 4096);
            /* As far from a page's begin as the original: O_DIRECT asks for that. */
            size_t shift = ((uintptr_t)p - (uintptr_t)wrong) % 4096;
            memcpy(wrong + shift, p, size);
            wrong[shift + size / 2] ^= 1;
            from = wrong + shift;
        }
        if (!fault || allowed < size) { /* a failing call may have done a part */
            uint64_t at = (uint64_t)offset;
            if (offset < 0 && faults_active())
                at = write_position(f);
            n = offset < 0 ? write(f->fd, from, allowed)
                           : pwrite(f->fd, from, allowed, (off_t)offset);
            if (n > 0 && faults_active())
                os_fault_note_write(f->fd, at, from, (size_t)n);
        }
        int saved = errno;
        mem_free(wrong);
        errno = saved;
        if (fault)
            return error_set_errno(err, fault, "cannot write to %s", f->path);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            return error_set_errno(err, errno, "cannot write to %s", f->path);
        }
        p += n;
        size -= (size_t)n;
        if (offset >= 0)
            offset += n;
    }
    return true;
}

bool os_file_write(struct os_file *f, const void *data, size_t size, struct error *err)
{
    return write_all(f, -1, data, size, err);
}

bool os_file_write_at(struct os_file *f, uint64_t offset, const void *data, size_t size,
                      struct error *err)
{
    return write_all(f, (int64_t)offset, data, size, err);
}

static bool read_some(struct os_file *f, int64_t offset, void *data, size_t size, size_t *got,
                      struct error *err)
{
    int fault = before(OS_OP_READ, NULL);
    ssize_t n;
    do {
        n = offset < 0 ? read(f->fd, data, size) : pread(f->fd, data, size, (off_t)offset);
    } while (n < 0 && errno == EINTR);
    if (fault || n < 0)
        return error_set_errno(err, fault ? fault : errno, "cannot read %s", f->path);
    *got = (size_t)n;
    return true;
}

bool os_file_read(struct os_file *f, void *data, size_t size, size_t *got, struct error *err)
{
    return read_some(f, -1, data, size, got, err);
}

bool os_file_read_at(struct os_file *f, uint64_t offset, void *data, size_t size, size_t *got,
                     struct error *err)
{
    return read_some(f, (int64_t)offset, data, size, got, err);
}

bool os_file_sync(struct os_file *f, struct error *err)
{
    int fault = before(OS_OP_SYNC, NULL);
    /* Not repeated on EINTR or any error: the first answer is the one that counts. */
    if (fault || fdatasync(f->fd) < 0)
        return error_set_errno(err, fault ? fault : errno, "cannot sync %s", f->path);
    if (faults_active())
        os_fault_note_sync(f->fd);
    return true;
}

bool os_file_size(struct os_file *f, uint64_t *size, struct error *err)
{
    struct stat st;
    if (fstat(f->fd, &st) < 0)
        return error_set_errno(err, errno, "cannot stat %s", f->path);
    *size = (uint64_t)st.st_size;
    return true;
}

bool os_file_truncate(struct os_file *f, uint64_t size, struct error *err)
{
    int fault = before(OS_OP_TRUNCATE, NULL);
    if (fault || ftruncate(f->fd, (off_t)size) < 0)
        return error_set_errno(err, fault ? fault : errno, "cannot truncate %s", f->path);
    if (faults_active())
        os_fault_note_truncate(f->fd, size);
    return true;
}

bool os_file_reserve(struct os_file *f, uint64_t offset, uint64_t size, struct error *err)
{
    int fault = before(OS_OP_WRITE, NULL);
    if (fault > 0)
        return error_set_errno(err, fault, "cannot reserve space for %s", f->path);
    if (fallocate(f->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)size) == 0)
        return true;
    if (errno == EOPNOTSUPP || errno == ENOSYS)
        return error_set(err, ERROR_UNSUPPORTED, "cannot reserve space for %s", f->path);
    return error_set_errno(err, errno, "cannot reserve space for %s", f->path);
}

void os_file_forget_cache(struct os_file *f, uint64_t offset, uint64_t size)
{
    posix_fadvise(f->fd, (off_t)offset, (off_t)size, POSIX_FADV_DONTNEED);
}

void os_file_read_ahead(struct os_file *f, bool wanted)
{
    posix_fadvise(f->fd, 0, 0, wanted ? POSIX_FADV_NORMAL : POSIX_FADV_RANDOM);
}

bool os_file_is_cached(const struct os_file *f, uint64_t offset)
{
    /* To try a read that must not wait (RWF_NOWAIT) would ask, too: but the kernel then reads
     * ahead, megabytes where the disk is set up so. */
    struct stat st;
    unsigned char there = 1;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (fstat(f->fd, &st) < 0 || offset >= (uint64_t)st.st_size)
        return true;
    void *mapped = mmap(NULL, page, PROT_READ, MAP_SHARED, f->fd, (off_t)(offset - offset % page));
    if (mapped == MAP_FAILED)
        return true;
    bool known = mincore(mapped, page, &there) == 0;
    munmap(mapped, page);
    return !known || (there & 1);
}

bool os_rename(const char *from, const char *to, struct error *err)
{
    int fault = before(OS_OP_RENAME, NULL);
    if (fault || rename(from, to) < 0)
        return error_set_errno(err, fault ? fault : errno, "cannot rename %s to %s", from, to);
    if (faults_active())
        os_fault_note_rename(from, to);
    return true;
}

static void close_one(void *fd)
{
    close((int)(intptr_t)fd);
}

/* Closing the last descriptor of a file that has no name any more frees its blocks. */
static void close_elsewhere(int fd)
{
    pthread_t thread;
    struct error ignored;
    if (os_thread_start(&thread, "hf-close", close_one, (void *)(intptr_t)fd, &ignored))
        pthread_detach(thread);
    else
        close(fd);
}

bool os_rename_over(const char *from, const char *to, struct error *err)
{
    int old = open(to, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool ok = os_rename(from, to, err);
    if (old >= 0)
        close_elsewhere(old);
    return ok;
}

bool os_unlink(const char *path, struct error *err)
{
    int fault = before(OS_OP_UNLINK, NULL);
    if (fault || unlink(path) < 0)
        return error_set_errno(err, fault ? fault : errno, "cannot remove %s", path);
    if (faults_active())
        os_fault_note_unlink(path);
    return true;
}

bool os_unlink_large(const char *path, struct error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok = os_unlink(path, err);
    if (fd >= 0)
        close_elsewhere(fd);
    return ok;
}

bool os_link(const char *from, const char *to, struct error *err)
{
    int fault = before(OS_OP_RENAME, NULL);
    if (fault || link(from, to) < 0)
        return error_set_errno(err, fault ? fault : errno, "cannot link %s as %s", from, to);
    return true;
}

bool os_dir_remove(const char *path, struct error *err)
{
    if (rmdir(path) < 0)
        return error_set_errno(err, errno, "cannot remove directory %s", path);
    return true;
}

bool os_dir_create(const char *path, struct error *err)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return error_set_errno(err, errno, "cannot create directory %s", path);
    return true;
}

bool os_dir_create_synced(const char *path, struct error *err)
{
    char parent[sizeof(((struct os_file *)0)->path)];
    os_path_dir(path, parent, sizeof(parent));
    return os_dir_create(path, err) && os_dir_sync(parent, err);
}

bool os_dir_sync(const char *path, struct error *err)
{
    int fault = before(OS_OP_DIR_SYNC, NULL);
    if (fault)
        return error_set_errno(err, fault, "cannot sync directory %s", path);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot open directory %s", path);
    int result = fsync(fd), saved = errno;
    close(fd);
    /* Some file systems cannot sync directories and say EINVAL; there is nothing more to do
     * there. */
    if (result < 0 && saved != EINVAL)
        return error_set_errno(err, saved, "cannot sync directory %s", path);
    if (faults_active())
        os_fault_note_dir_sync(path);
    return true;
}

bool os_dir_lock(const char *path, int *lock, struct error *err)
{
    *lock = -1;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_set_errno(err, errno, "cannot open directory %s", path);
    /* It goes with the descriptor: what the process leaves behind when it is killed is free. */
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *lock = fd;
        return true;
    }
    int why = errno;
    close(fd);
    if (why == EWOULDBLOCK)
        return error_set(err, ERROR_EXISTS, "%s is in use by another process", path);
    return error_set(err, ERROR_UNSUPPORTED, "cannot lock directory %s: %s", path, strerror(why));
}

void os_dir_unlock(int *lock)
{
    if (*lock >= 0)
        close(*lock);
    *lock = -1;
}

bool os_dir_list(const char *path, void (*fn)(void *ctx, const char *name), void *ctx,
                 struct error *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return error_set_errno(err, errno, "cannot list %s", path);
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(ctx, entry->d_name);
    }
    closedir(dir);
    return true;
}

static void note_any(void *ctx, const char *name)
{
    (void)name;
    *(bool *)ctx = false;
}

bool os_dir_is_empty(const char *path, bool *empty, struct error *err)
{
    *empty = true;
    return os_dir_list(path, note_any, empty, err);
}

bool os_path_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

bool os_path_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

uint64_t os_file_fingerprint(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return 0;
    const uint64_t parts[] = {(uint64_t)st.st_dev,          (uint64_t)st.st_ino,
                              (uint64_t)st.st_size,         (uint64_t)st.st_mtim.tv_sec,
                              (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_ctim.tv_sec,
                              (uint64_t)st.st_ctim.tv_nsec};
    uint64_t sum = 1;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        sum = (sum ^ parts[i]) * 0x9e3779b97f4a7c15U;
    return sum | 1;
}

bool os_disk_free(const char *path, uint64_t *free_bytes, struct error *err)
{
    struct statvfs st;
    if (statvfs(path, &st) < 0)
        return error_set_errno(err, errno, "cannot see the free space of %s", path);
    *free_bytes = (uint64_t)st.f_bavail * st.f_frsize;
    return true;
}

void os_file_system_name(const char *path, char *out, size_t size)
{
    /* As statfs(2) and linux/magic.h have them. */
    static const struct {
        unsigned long number;
        const char *name;
    } known[] = {{0xef53, "ext"},         {0x58465342, "xfs"},      {0x9123683e, "btrfs"},
                 {0x2fc12fc1, "zfs"},     {0x01021994, "tmpfs"},    {0x858458f6, "ramfs"},
                 {0x6969, "nfs"},         {0xff534d42, "cifs"},     {0xfe534d42, "cifs"},
                 {0x794c7630, "overlay"}, {0xf2f52010, "f2fs"},     {0x65735546, "fuse"},
                 {0x01021997, "9p"}};
    struct statfs st;
    snprintf(out, size, "unknown");
    if (statfs(path, &st) < 0)
        return;
    unsigned long number = (unsigned long)st.f_type & 0xffffffffUL;
    snprintf(out, size, "0x%lx", number);
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].number == number)
            snprintf(out, size, "%s", known[i].name);
}

void os_path_dir(const char *path, char *out, size_t size)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        snprintf(out, size, ".");
    else if (slash == path)
        snprintf(out, size, "/");
    else
        snprintf(out, size, "%.*s", (int)(slash - path), path);
}

bool os_file_read_whole(const char *path, size_t max, char **data, size_t *size, struct error *err)
{
    struct os_file f;
    if (!os_file_open(&f, path, OS_OPEN_READ, err))
        return false;
    struct error ignored;
    size_t room = 4096, used = 0, got = 0;
    char *text = mem_alloc(room + 1);
    bool ok;
    /* The size that stat tells is not trusted: pipes and /proc have none. */
    while ((ok = os_file_read(&f, text + used, room - used, &got, err)) && got > 0) {
        used += got;
        if (used > max) {
            ok = error_set(err, ERROR_TOO_LARGE, "%s is larger than %zu bytes", path, max);
            break;
        }
        if (used == room) {
            room *= 2;
            text = mem_realloc(text, room + 1);
        }
    }
    os_file_close(&f, &ignored);
    if (!ok) {
        mem_free(text);
        return false;
    }
    text[used] = '\0';
    *data = text;
    *size = used;
    return true;
}

bool os_file_replace(const char *path, const void *data, size_t size, struct error *err)
{
    char temporary[sizeof(((struct os_file *)0)->path)], dir[sizeof(temporary)];
    int n = snprintf(temporary, sizeof(temporary), "%s.tmp-%d", path, (int)getpid());
    if (n < 0 || (size_t)n >= sizeof(temporary))
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", path);
    os_path_dir(path, dir, sizeof(dir));

    struct error ignored;
    struct os_file f;
    if (!os_file_open(&f, temporary, OS_OPEN_CREATE_TRUNCATE, err))
        return false;
    /* While it is empty: what the old file kept from others' eyes must not become readable. */
    struct stat old;
    bool ok = true;
    if (stat(path, &old) == 0 && fchmod(f.fd, old.st_mode & 07777) != 0)
        ok = error_set_errno(err, errno, "%s: chmod", temporary);
    ok = ok && os_file_write(&f, data, size, err) && os_file_sync(&f, err);
    if (!os_file_close(&f, ok ? err : &ignored))
        ok = false;
    if (!ok || !os_rename(temporary, path, err)) {
        os_unlink(temporary, &ignored);
        return false;
    }
    if (os_dir_sync(dir, err))
        return true;
    /* NO_SPACE says that nothing was done, which is true no more. */
    if (err->code == ERROR_NO_SPACE)
        err->code = ERROR_SYSTEM;
    return false;
}
