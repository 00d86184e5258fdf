/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk that does as it is told, for the real server: preloaded, it stands before the calls by
 * which the log is written. The first word of the file $HF_DISK says what happens to the log's
 * incremental files: "hang" (fdatasync waits until the word is another one), "slow" (it takes 3 ms
 * more), "sync" (fdatasync fails with EIO), "write" (pwrite fails with EIO), "full" (no space);
 * "vote": fdatasync of the quorum's file waits, "vote-error": it fails with EIO; "hang-rdb": that
 * of a file that is to become an RDB file waits. Each fdatasync of an incremental file is noted in
 * $HF_DISK.log, one line with its name and result.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static const char *word(char out[16])
{
    const char *path = getenv("HF_DISK");
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = fd >= 0 ? read(fd, out, 15) : 0;
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n ")] = '\0';
    return out;
}

static int is_log(int fd, char name[512])
{
    char link[64];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, 511);
    name[n > 0 ? n : 0] = '\0';
    return n > 9 && strcmp(name + n - 9, ".incr.aof") == 0;
}

static void note(const char *name, int result)
{
    char path[512], line[600];
    snprintf(path, sizeof(path), "%s.log", getenv("HF_DISK"));
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    int n = snprintf(line, sizeof(line), "%s %d\n", strrchr(name, '/') + 1, result);
    ssize_t written = write(fd, line, (size_t)n);
    (void)written;
    close(fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    char name[512], say[16];
    if (real == NULL)
        real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    bool log = is_log(fd, name);
    bool quorum = strstr(name, "holdfast-quorum") != NULL;
    while (strstr(name, "/temp-") != NULL && strcmp(word(say), "hang-rdb") == 0)
        usleep(2000);
    while (quorum && strcmp(word(say), "vote") == 0)
        usleep(2000);
    if (quorum && strcmp(say, "vote-error") == 0) {
        errno = EIO;
        return -1;
    }
    if (!log)
        return real(fd);
    while (strcmp(word(say), "hang") == 0)
        usleep(2000);
    if (strcmp(say, "slow") == 0)
        usleep(3000);
    int result = strcmp(say, "sync") == 0 ? -1 : real(fd);
    note(name, result);
    if (strcmp(say, "sync") == 0)
        errno = EIO;
    return result;
}

static int write_error(int fd)
{
    char name[512], say[16];
    if (!is_log(fd, name))
        return 0;
    word(say);
    return strcmp(say, "write") == 0 ? EIO : strcmp(say, "full") == 0 ? ENOSPC : 0;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (real == NULL)
        real = (ssize_t(*)(int, const void *, size_t, off_t))dlsym(RTLD_NEXT, "pwrite64");
    errno = write_error(fd);
    return errno != 0 ? -1 : real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

int fallocate64(int fd, int mode, off_t offset, off_t size)
{
    static int (*real)(int, int, off_t, off_t);
    if (real == NULL)
        real = (int (*)(int, int, off_t, off_t))dlsym(RTLD_NEXT, "fallocate64");
    errno = write_error(fd);
    return errno != 0 ? -1 : real(fd, mode, offset, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size)
{
    return fallocate64(fd, mode, offset, size);
}
