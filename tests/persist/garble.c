/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A disk that is wrong without saying so, preloaded into a server: while the file $HF_GARBLE is
 * there, one bit in the middle of whatever is written to a temporary RDB file is another one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* A copy, aligned for O_DIRECT, with a wrong bit; NULL: it is to be written as it is. */
static void *garbled(int fd, const void *data, size_t size)
{
    char link[64], name[512];
    const char *flag = getenv("HF_GARBLE");
    void *copy;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, name, sizeof(name) - 1);
    name[n > 0 ? n : 0] = '\0';
    if (strstr(name, "/temp-") == NULL || flag == NULL || access(flag, F_OK) != 0 ||
        posix_memalign(&copy, 4096, size) != 0)
        return NULL;
    memcpy(copy, data, size);
    ((char *)copy)[size / 2] ^= 1;
    return copy;
}

ssize_t write(int fd, const void *data, size_t size)
{
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "write");
    void *copy = garbled(fd, data, size);
    ssize_t n = real(fd, copy != NULL ? copy : data, size);
    free(copy);
    return n;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "pwrite64");
    void *copy = garbled(fd, data, size);
    ssize_t n = real(fd, copy != NULL ? copy : data, size, offset);
    free(copy);
    return n;
}
