/* SPDX-License-Identifier: BSD-3-Clause */
#include "os/process.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"

/* Of Linux 6.18, for PR_SET_THP_DISABLE. */
#ifndef PR_THP_DISABLE_EXCEPT_ADVISED
#define PR_THP_DISABLE_EXCEPT_ADVISED (1 << 1)
#endif

bool os_change_dir(const char *path, struct error *err)
{
    if (chdir(path) != 0)
        return error_set_errno(err, errno, "can't chdir to '%s'", path);
    return true;
}

bool os_current_dir(char *path, size_t size)
{
    return getcwd(path, size) != NULL;
}

char *os_absolute_path(const char *path)
{
    char dir[4096];
    if (path[0] == '/' || !getcwd(dir, sizeof(dir)))
        return mem_dup(path, strlen(path));
    struct text t = {0};
    text_appendf(&t, "%s/%s", strcmp(dir, "/") == 0 ? "" : dir, path);
    char *absolute = mem_dup(t.data, t.size);
    text_free(&t);
    return absolute;
}

bool os_read_stdin(size_t max, struct text *out, struct error *err)
{
    char buffer[16384];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, errno, "standard input");
        if (n == 0)
            return true;
        if (out->size + (size_t)n > max)
            return error_set(err, ERROR_TOO_LARGE, "standard input: more than %zu bytes", max);
        text_append(out, buffer, (size_t)n);
    }
}

bool os_glob(const char *pattern, bool (*fn)(void *ctx, const char *path), void *ctx)
{
    if (!strpbrk(pattern, "*?["))
        return fn(ctx, pattern);
    glob_t found = {0};
    bool ok = true;
    if (glob(pattern, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && ok; i++)
            ok = fn(ctx, found.gl_pathv[i]);
    globfree(&found);
    return ok;
}

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

void os_cpu_times(struct os_cpu_times *times)
{
    struct rusage self, children, thread;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    getrusage(RUSAGE_THREAD, &thread);
    times->user = seconds(self.ru_utime);
    times->system = seconds(self.ru_stime);
    times->user_children = seconds(children.ru_utime);
    times->system_children = seconds(children.ru_stime);
    times->user_thread = seconds(thread.ru_utime);
    times->system_thread = seconds(thread.ru_stime);
}

void os_system_name(char *out, size_t size)
{
    struct utsname name;
    if (uname(&name) == 0)
        snprintf(out, size, "%s %s %s", name.sysname, name.release, name.machine);
    else
        snprintf(out, size, "unknown");
}

uint64_t os_total_memory(void)
{
    struct sysinfo info;
    return sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : 0;
}

int os_processor_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
    return 1;
}

int os_process_id(void)
{
    return getpid();
}

void os_program_path(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    out[n > 0 ? n : 0] = '\0';
}

bool os_daemonize(struct error *err)
{
    pid_t child = fork();
    if (child < 0)
        return error_set_errno(err, errno, "fork");
    if (child > 0)
        _exit(0);
    setsid();
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    return true;
}

bool os_is_terminal(int fd)
{
    return isatty(fd) == 1;
}

void os_sleep_us(int64_t us)
{
    struct timespec left = {us / 1000000, us % 1000000 * 1000};
    if (us > 0)
        while (nanosleep(&left, &left) != 0 && errno == EINTR)
            continue;
}

static bool huge_pages_are_always(void)
{
    char text[128] = "";
    int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    return n > 0 && strstr(text, "[always]") != NULL;
}

bool os_huge_pages_by_advice_only(void)
{
    if (prctl(PR_SET_THP_DISABLE, 1UL, (unsigned long)PR_THP_DISABLE_EXCEPT_ADVISED, 0UL, 0UL) == 0)
        return true;
    return !huge_pages_are_always() || prctl(PR_SET_THP_DISABLE, 1UL, 0UL, 0UL, 0UL) == 0;
}
