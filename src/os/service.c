/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "base/log.h"

#define OOM_PATH "/proc/self/oom_score_adj"

static const char *notify_path(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    return path != NULL && (path[0] == '/' || path[0] == '@') && path[1] != '\0' ? path : NULL;
}

bool service_systemd_present(void)
{
    return notify_path() != NULL;
}

bool service_systemd_notify(const char *lines)
{
    const char *path = notify_path();
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (path == NULL || strlen(path) >= sizeof(to.sun_path))
        return false;
    size_t size = strlen(path);
    memcpy(to.sun_path, path, size);
    if (path[0] == '@')
        to.sun_path[0] = '\0'; /* an abstract name: its length ends it, not a NUL */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    ssize_t sent = sendto(fd, lines, strlen(lines), MSG_NOSIGNAL | MSG_DONTWAIT,
                          (const struct sockaddr *)&to, length);
    close(fd);
    return sent >= 0;
}

int64_t service_watchdog_interval_us(void)
{
    const char *text = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (text == NULL || (pid != NULL && strtoll(pid, NULL, 10) != (long long)getpid()))
        return 0;
    long long us = strtoll(text, NULL, 10);
    return us > 0 ? us / 2 : 0;
}

bool service_upstart_present(void)
{
    return getenv("UPSTART_JOB") != NULL;
}

void service_upstart_ready(void)
{
    unsetenv("UPSTART_JOB");
    raise(SIGSTOP);
}

static void to_syslog(enum log_level level, const char *text)
{
    static const int priorities[] = {LOG_DEBUG, LOG_INFO, LOG_NOTICE, LOG_WARNING};
    syslog(priorities[level], "%s", text);
}

void service_syslog_open(const char *identity, const char *facility)
{
    static const int local[] = {LOG_LOCAL0, LOG_LOCAL1, LOG_LOCAL2, LOG_LOCAL3,
                                LOG_LOCAL4, LOG_LOCAL5, LOG_LOCAL6, LOG_LOCAL7};
    int number = LOG_USER;
    if (strncmp(facility, "local", 5) == 0 && facility[5] >= '0' && facility[5] <= '7')
        number = local[facility[5] - '0'];
    openlog(identity, LOG_PID | LOG_NDELAY | LOG_NOWAIT, number);
    log_set_second_sink(to_syslog);
}

bool service_oom_score_get(int *score, struct error *err)
{
    char text[32] = "";
    int fd = open(OOM_PATH, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : -1;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return error_set_errno(err, saved, OOM_PATH);
    *score = (int)strtol(text, NULL, 10);
    return true;
}

bool service_oom_score_set(int score, struct error *err)
{
    char text[32];
    int size = snprintf(text, sizeof(text), "%d", score);
    int fd = open(OOM_PATH, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? write(fd, text, (size_t)size) : -1;
    int saved = errno;
    if (fd >= 0)
        close(fd);
    if (n != size)
        return error_set_errno(err, saved, OOM_PATH " to %d", score);
    return true;
}
