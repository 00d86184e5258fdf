/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

static struct {
    char path[256];
    int fd;
    dev_t device;
    ino_t inode;
} file = {.fd = -1};

static bool reopen(void)
{
    int fd = open(file.path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0)
        return false;
    if (file.fd >= 0)
        close(file.fd);
    file.fd = fd;
    struct stat st;
    if (fstat(fd, &st) == 0) {
        file.device = st.st_dev;
        file.inode = st.st_ino;
    }
    return true;
}

/* The log serialises its lines, so this is never entered twice at once. */
static void sink(void *ctx, const char *line, size_t size)
{
    (void)ctx;
    struct stat st;
    if (stat(file.path, &st) < 0 || st.st_dev != file.device || st.st_ino != file.inode)
        reopen();
    /* A log that cannot be written must not stop the server. */
    ssize_t ignored = write(file.fd, line, size);
    (void)ignored;
}

bool log_file_open(const char *path, struct error *err)
{
    if (path[0] == '\0') {
        log_set_sink(NULL, NULL);
        return true;
    }
    int n = snprintf(file.path, sizeof(file.path), "%s", path);
    if (n < 0 || (size_t)n >= sizeof(file.path))
        return error_set(err, ERROR_INVALID, "logfile: the path is too long");
    if (!reopen())
        return error_set_errno(err, errno, "cannot open the log file %s", path);
    log_set_sink(sink, NULL);
    return true;
}

int log_file_descriptor(void)
{
    return file.fd >= 0 ? file.fd : STDOUT_FILENO;
}
