/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What a commit costs on this disk, by the ways in which a log could be written: `bench-disk DIR
 * [COMMITS] [BYTES]` appends so many blocks of so many bytes to a file in DIR, each made durable
 * before the next, and prints the median, the 99th percentile and the mean in microseconds.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum space { SPACE_NONE, SPACE_RESERVED, SPACE_EXTENDED, SPACE_WRITTEN };
enum sync { SYNC_FDATASYNC, SYNC_FSYNC, SYNC_O_DSYNC, SYNC_DIRECT, SYNC_URING };

static const struct way {
    const char *name;
    enum space space;
    enum sync sync;
} ways[] = {
    {"append, fsync", SPACE_NONE, SYNC_FSYNC},
    {"append, fdatasync", SPACE_NONE, SYNC_FDATASYNC},
    {"append, O_DSYNC", SPACE_NONE, SYNC_O_DSYNC},
    {"fallocate KEEP_SIZE, fdatasync", SPACE_RESERVED, SYNC_FDATASYNC},
    {"fallocate KEEP_SIZE, io_uring write + sync", SPACE_RESERVED, SYNC_URING},
    {"fallocate KEEP_SIZE, O_DSYNC", SPACE_RESERVED, SYNC_O_DSYNC},
    {"fallocate with size, fdatasync", SPACE_EXTENDED, SYNC_FDATASYNC},
    {"pre-written zeros, fdatasync", SPACE_WRITTEN, SYNC_FDATASYNC},
    {"pre-written zeros, O_DSYNC", SPACE_WRITTEN, SYNC_O_DSYNC},
    {"pre-written zeros, O_DSYNC O_DIRECT, 4 KiB", SPACE_WRITTEN, SYNC_DIRECT},
};

/* An io_uring of two entries, without a library: a write, and a sync that is linked to it. */
struct ring {
    int fd;
    unsigned *sq_tail, *sq_array, sq_mask;
    unsigned *cq_head, *cq_tail, cq_mask;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
};

static void *ring_map(int fd, size_t size, off_t what)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
    return p == MAP_FAILED ? NULL : p;
}

/* The mappings and the descriptor last as long as the process. */
static bool ring_open(struct ring *r)
{
    struct io_uring_params p = {0};
    r->fd = (int)syscall(SYS_io_uring_setup, 2, &p);
    if (r->fd < 0)
        return false;
    char *sq =
        ring_map(r->fd, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *cq = ring_map(r->fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
                        IORING_OFF_CQ_RING);
    r->sqes = ring_map(r->fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    if (sq == NULL || cq == NULL || r->sqes == NULL)
        return false;
    r->sq_tail = (unsigned *)(void *)(sq + p.sq_off.tail);
    r->sq_array = (unsigned *)(void *)(sq + p.sq_off.array);
    r->sq_mask = *(unsigned *)(void *)(sq + p.sq_off.ring_mask);
    r->cq_head = (unsigned *)(void *)(cq + p.cq_off.head);
    r->cq_tail = (unsigned *)(void *)(cq + p.cq_off.tail);
    r->cq_mask = *(unsigned *)(void *)(cq + p.cq_off.ring_mask);
    r->cqes = (struct io_uring_cqe *)(void *)(cq + p.cq_off.cqes);
    return true;
}

/* Both, and wait for both: one system call. */
static bool ring_commit(struct ring *r, int fd, const void *data, size_t size, off_t at)
{
    unsigned tail = *r->sq_tail;
    struct io_uring_sqe *write = &r->sqes[tail & r->sq_mask];
    *write = (struct io_uring_sqe){.opcode = IORING_OP_WRITE,
                                   .flags = IOSQE_IO_LINK,
                                   .fd = fd,
                                   .off = (uint64_t)at,
                                   .addr = (uint64_t)(uintptr_t)data,
                                   .len = (uint32_t)size};
    r->sq_array[tail & r->sq_mask] = tail & r->sq_mask;
    tail++;
    r->sqes[tail & r->sq_mask] = (struct io_uring_sqe){
        .opcode = IORING_OP_FSYNC, .fd = fd, .fsync_flags = IORING_FSYNC_DATASYNC};
    r->sq_array[tail & r->sq_mask] = tail & r->sq_mask;
    __atomic_store_n(r->sq_tail, tail + 1, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, r->fd, 2, 2, IORING_ENTER_GETEVENTS, NULL, 0) != 2)
        return false;
    bool ok = true;
    unsigned head = *r->cq_head, end = __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE);
    for (; head != end; head++) {
        int result = r->cqes[head & r->cq_mask].res;
        ok = ok && (result == (int)size || result == 0);
    }
    __atomic_store_n(r->cq_head, head, __ATOMIC_RELEASE);
    return ok;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(1);
}

static bool prepare(int fd, enum space space, off_t size)
{
    if (space == SPACE_RESERVED)
        return fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size) == 0;
    if (space == SPACE_EXTENDED)
        return fallocate(fd, 0, 0, size) == 0;
    if (space == SPACE_WRITTEN) {
        static char zeros[1 << 20];
        for (off_t at = 0; at < size; at += (off_t)sizeof(zeros)) {
            if (pwrite(fd, zeros, sizeof(zeros), at) != (ssize_t)sizeof(zeros))
                return false;
        }
    }
    return fsync(fd) == 0;
}

static void measure(const struct way *way, const char *path, int commits, size_t size)
{
    bool direct = way->sync == SYNC_DIRECT;
    if (direct)
        size = (size + 4095) / 4096 * 4096;
    int flags = O_RDWR | O_CREAT | O_TRUNC;
    int fd = open(path, flags, 0644);
    if (fd < 0)
        fail(path);
    if (!prepare(fd, way->space, (off_t)size * commits)) {
        printf("%-44s not possible here: %s\n", way->name, strerror(errno));
        close(fd);
        return;
    }
    if (way->sync == SYNC_O_DSYNC || direct) {
        close(fd);
        fd = open(path, O_RDWR | O_DSYNC | (direct ? O_DIRECT : 0));
        if (fd < 0)
            fail(path);
    }
    static struct ring ring;
    if (way->sync == SYNC_URING && !ring_open(&ring)) {
        printf("%-44s not possible here: %s\n", way->name, strerror(errno));
        close(fd);
        return;
    }
    void *block = NULL;
    if (posix_memalign(&block, 4096, size) != 0)
        fail("memory");
    memset(block, 'x', size);
    int64_t *took = mem_alloc((size_t)commits * sizeof(*took)), sum = 0;
    for (int i = 0; i < commits; i++) {
        int64_t begin = clock_monotonic_ns();
        if (way->sync == SYNC_URING && !ring_commit(&ring, fd, block, size, (off_t)size * i))
            fail("io_uring");
        if (way->sync != SYNC_URING &&
            pwrite(fd, block, size, (off_t)size * i) != (ssize_t)size)
            fail("write");
        if ((way->sync == SYNC_FDATASYNC && fdatasync(fd) < 0) ||
            (way->sync == SYNC_FSYNC && fsync(fd) < 0))
            fail("sync");
        took[i] = clock_monotonic_ns() - begin;
        sum += took[i];
    }
    qsort(took, (size_t)commits, sizeof(*took), compare);
    printf("%-44s %8.1f %8.1f %8.1f\n", way->name, (double)took[commits / 2] / 1e3,
           (double)took[commits * 99 / 100] / 1e3, (double)sum / commits / 1e3);
    fflush(stdout);
    mem_free(took);
    free(block);
    close(fd);
}

int main(int argc, char **argv)
{
    const char *directory = argc > 1 ? argv[1] : ".";
    int commits = argc > 2 ? atoi(argv[2]) : 2000;
    size_t size = argc > 3 ? (size_t)atol(argv[3]) : 500;
    if (commits < 1 || size < 1) {
        fprintf(stderr, "usage: bench-disk [DIR [COMMITS [BYTES]]]\n");
        return 1;
    }
    char path[512];
    snprintf(path, sizeof(path), "%s/bench-disk-%d", directory, (int)getpid());
    printf("%d commits of %zu bytes%*s p50 us   p99 us  mean us\n", commits, size, 20, "");
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
        measure(&ways[i], path, commits, size);
    unlink(path);
    return 0;
}
