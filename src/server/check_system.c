/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/check_system.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/process.h"
#include "os/socket.h"

#define SYNCS 16
#define SYNC_SLOW_US 20000
#define DISK_LEAST (UINT64_C(1) << 30)
#define DESCRIPTORS_RESERVED 32
#define PROBE "holdfast-check-system.tmp"

struct check {
    const struct config *config;
    struct text *out;
    bool all_well;
};

/* advice: "" where all is well. */
static void tell(struct check *c, bool well, const char *what, const char *advice)
{
    text_appendf(c->out, "%s  %s\n", well ? "ok  " : "WARN", what);
    if (!well)
        text_appendf(c->out, "      %s\n", advice);
    c->all_well &= well;
}

static void skip(struct check *c, const char *what)
{
    text_appendf(c->out, "skip  %s\n", what);
}

/* The beginning of a file of the system, without its last newline. False: it cannot be read. */
static bool read_word(const char *path, char *out, size_t size)
{
    char *data;
    size_t got;
    struct error ignored;
    if (!os_file_read_whole(path, 65536, &data, &got, &ignored))
        return false;
    snprintf(out, size, "%.*s", (int)got, data);
    out[strcspn(out, "\n")] = '\0';
    mem_free(data);
    return true;
}

static void look_at_kernel_memory(struct check *c)
{
    char text[128], line[256];
    if (read_word("/proc/sys/vm/overcommit_memory", text, sizeof(text))) {
        snprintf(line, sizeof(line), "vm.overcommit_memory is %s", text);
        tell(c, strcmp(text, "2") != 0, line,
             "With 2 allocations fail while memory is free: sysctl vm.overcommit_memory=1 (or 0; "
             "Holdfast never forks)");
    } else {
        skip(c, "vm.overcommit_memory cannot be read");
    }
    if (read_word("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text))) {
        snprintf(line, sizeof(line), "transparent huge pages: %s", text);
        tell(c, strstr(text, "[always]") == NULL, line,
             "Memory use and latency are less even: echo madvise > "
             "/sys/kernel/mm/transparent_hugepage/enabled");
    } else {
        skip(c, "transparent huge pages: this kernel has none");
    }
    char *data;
    size_t size;
    struct error ignored;
    if (!os_file_read_whole("/proc/swaps", 65536, &data, &size, &ignored)) {
        skip(c, "/proc/swaps cannot be read");
        return;
    }
    const char *first = memchr(data, '\n', size);
    bool some = first != NULL && (size_t)(first + 1 - data) < size;
    mem_free(data);
    tell(c, !some, some ? "there is swap space" : "there is no swap space",
         "What is swapped out takes milliseconds to read: swapoff -a, or vm.swappiness=1 and a "
         "maxmemory that fits");
}

static void look_at_limits(struct check *c)
{
    char text[128], line[256];
    if (read_word("/proc/sys/net/core/somaxconn", text, sizeof(text))) {
        long long most = strtoll(text, NULL, 10), want = c->config->tcp_backlog;
        snprintf(line, sizeof(line), "net.core.somaxconn is %lld, tcp-backlog %lld", most, want);
        tell(c, most >= want, line,
             "The kernel takes the smaller one: raise net.core.somaxconn by sysctl");
    } else {
        skip(c, "net.core.somaxconn cannot be read");
    }
    size_t want = (size_t)c->config->maxclients + DESCRIPTORS_RESERVED;
    size_t have = descriptor_limit_raise(want);
    snprintf(line, sizeof(line), "open files: %zu allowed, maxclients needs %zu", have, want);
    tell(c, have >= want, line,
         "Raise it (ulimit -n, LimitNOFILE in the unit) or lower maxclients");
}

/* The least limit on this process's way up the tree of control groups, version 2; then version
 * 1's. */
static uint64_t cgroup_limit(void)
{
    char path[4096], file[4200], text[64];
    uint64_t least = UINT64_MAX;
    if (read_word("/proc/self/cgroup", path, sizeof(path)) && strncmp(path, "0::/", 4) == 0) {
        char *at = path + 3;
        for (;;) {
            snprintf(file, sizeof(file), "/sys/fs/cgroup%s/memory.max", at);
            if (read_word(file, text, sizeof(text)) && text[0] >= '0' && text[0] <= '9') {
                uint64_t limit = strtoull(text, NULL, 10);
                least = limit < least ? limit : least;
            }
            char *slash = strrchr(at, '/');
            if (slash == NULL)
                break;
            *slash = '\0';
        }
    }
    if (read_word("/sys/fs/cgroup/memory/memory.limit_in_bytes", text, sizeof(text))) {
        uint64_t limit = strtoull(text, NULL, 10);
        least = limit < least ? limit : least;
    }
    return least;
}

static void look_at_memory_limit(struct check *c)
{
    char line[256];
    uint64_t all = os_total_memory(), group = cgroup_limit(), most = group < all ? group : all;
    uint64_t max = (uint64_t)c->config->maxmemory;
    snprintf(line, sizeof(line), "memory: %llu MiB %s, maxmemory %llu MiB%s",
             (unsigned long long)(most >> 20),
             group < all ? "by the control group" : "in the machine",
             (unsigned long long)(max >> 20), max == 0 ? " (no limit)" : "");
    /* Without any limit only a control group makes it an error: it kills long before the machine is
     * full. */
    bool well = max == 0 ? group >= all : max <= most / 10 * 9;
    tell(c, well, line,
         "The kernel kills the server when it goes beyond: set maxmemory to at most nine tenths of "
         "it");
}

static void look_at_clock(struct check *c)
{
    char text[64], line[128];
    if (!read_word("/sys/devices/system/clocksource/clocksource0/current_clocksource", text,
                   sizeof(text))) {
        skip(c, "the clock source cannot be read");
        return;
    }
    snprintf(line, sizeof(line), "clock source: %s", text);
    tell(c, strcmp(text, "hpet") != 0 && strcmp(text, "acpi_pm") != 0 && strcmp(text, "xen") != 0,
         line, "Reading it is a slow system call: use tsc or kvm-clock where the machine has it");
}

static bool measure_sync(uint64_t *median_us, uint64_t *worst_us, struct error *err)
{
    struct os_file f;
    struct histogram *h = mem_zalloc(sizeof(*h));
    char block[512];
    memset(block, 'h', sizeof(block));
    bool ok = os_file_open(&f, PROBE, OS_OPEN_CREATE_TRUNCATE, err);
    if (!ok)
        goto done;
    for (int i = 0; ok && i < SYNCS; i++) {
        int64_t begin = clock_monotonic_us();
        ok = os_file_write(&f, block, sizeof(block), err) && os_file_sync(&f, err);
        histogram_record(h, (uint64_t)(clock_monotonic_us() - begin), 1);
    }
    struct error ignored;
    ok = os_file_close(&f, ok ? err : &ignored) && ok;
    os_unlink(PROBE, &ignored);
    *median_us = histogram_percentile(h, 50);
    *worst_us = histogram_percentile(h, 100);
done:
    mem_free(h);
    return ok;
}

static void look_at_disk(struct check *c)
{
    char dir[4096], line[4400], type[32];
    struct error err = {0};
    uint64_t left, median = 0, worst = 0;
    if (!os_current_dir(dir, sizeof(dir)))
        snprintf(dir, sizeof(dir), "%s", c->config->dir);
    os_file_system_name(".", type, sizeof(type));
    bool volatile_disk = strcmp(type, "tmpfs") == 0 || strcmp(type, "ramfs") == 0;
    bool remote = strcmp(type, "nfs") == 0 || strcmp(type, "cifs") == 0;
    snprintf(line, sizeof(line), "file system of %s: %s", dir, type);
    tell(c, !volatile_disk && !remote, line,
         volatile_disk ? "It is in memory and gone after a power cut: choose another dir"
                       : "A lost connection stops the log: choose a disk of this machine");
    if (os_disk_free(".", &left, &err)) {
        snprintf(line, sizeof(line), "disk space in %s: %llu MiB are free", dir,
                 (unsigned long long)(left >> 20));
        tell(c, left >= DISK_LEAST, line,
             "A full disk stops writes: there should be room for the log and two snapshots");
    } else {
        tell(c, false, err.message, "Choose another dir");
    }
    if (measure_sync(&median, &worst, &err)) {
        snprintf(line, sizeof(line), "fdatasync in %s: median %llu us, worst of %d %llu us", dir,
                 (unsigned long long)median, SYNCS, (unsigned long long)worst);
        tell(c, median < SYNC_SLOW_US, line,
             "Each write waits so long with appendfsync always: use a disk with a protected write "
             "cache, "
             "or everysec");
    } else {
        tell(c, false, err.message, "The server must be able to write and sync in dir");
    }
}

bool check_system(const struct config *config, struct text *out)
{
    struct check c = {.config = config, .out = out, .all_well = true};
    look_at_kernel_memory(&c);
    look_at_memory_limit(&c);
    look_at_limits(&c);
    look_at_clock(&c);
    look_at_disk(&c);
    return c.all_well;
}
