/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The volatile cache of a disk, for a User Mode Linux that is killed: preloaded into the UML
 * process (the machine, not a program in it), it stands between its block device and the image
 * file.
 *
 * Writes go to the image at once. Before one does, the sectors that it overwrites are put into an
 * undo file, each once since the last flush; a flush empties the undo file. When the machine is
 * killed, the undo file has what the platter still had of everything that was never flushed, and
 * the test decides which of these sectors come back (tests/crash/machine.py): none, all, or some at
 * random, as a disk does whose cache was not written out, and not in order.
 *
 *     undo file:  [ count | flushes | writes | - ] [ sector number | 512 bytes ] [ ... ] ...
 *
 * A record is complete before the count includes it, and counted before its sector is overwritten;
 * both files are in the page cache of the host, which survives the process. UML serves its block
 * device by one thread.
 *
 * HF_DISK_IMAGE and HF_DISK_UNDO name the files; the undo file exists, and its size bounds what can
 * wait for a flush. HF_DISK_LIES: flushes are acknowledged and not carried out, for a test of the
 * test.
 *
 * A flush takes some milliseconds, as that of a disk does: most cuts then come in the midst of one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512
#define FLUSH_MS 3 /* what a flush takes, so that cuts fall into it */

struct record {
    uint64_t sector;
    uint8_t before[SECTOR];
};

struct undo {
    _Atomic uint64_t count;
    uint64_t flushes, writes, unused;
    struct record records[];
};

static struct undo *undo;
static uint64_t room;
static dev_t device;
static ino_t inode;
static uint8_t *saved; /* a bit for each sector: its record is there */
static size_t saved_size;
static bool lies;
static pid_t io_thread; /* of the block device; 0: not known yet */

static void die(const char *why)
{
    syscall(SYS_write, 2, why, strlen(why));
    syscall(SYS_exit_group, 99);
}

__attribute__((constructor)) static void begin(void)
{
    const char *image = getenv("HF_DISK_IMAGE"), *path = getenv("HF_DISK_UNDO");
    struct stat st;
    if (image == NULL || path == NULL)
        return;
    if (stat(image, &st) != 0)
        die("disk_cache: no image\n");
    device = st.st_dev;
    inode = st.st_ino;
    saved_size = (size_t)st.st_size / SECTOR / 8 + 1;
    saved = mmap(NULL, saved_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || saved == MAP_FAILED)
        die("disk_cache: no undo file\n");
    room = ((uint64_t)st.st_size - sizeof(struct undo)) / sizeof(struct record);
    undo = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (undo == MAP_FAILED)
        die("disk_cache: mmap\n");
    close(fd);
    lies = getenv("HF_DISK_LIES") != NULL;
}

static bool is_image(int fd)
{
    struct stat st;
    return undo != NULL && fstat(fd, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

/* Before sectors are overwritten. */
static void save(int fd, uint64_t offset, uint64_t size)
{
    for (uint64_t s = offset / SECTOR; s <= (offset + size - 1) / SECTOR; s++) {
        if (s / 8 >= saved_size || (saved[s / 8] & 1 << s % 8) != 0)
            continue;
        uint64_t n = atomic_load_explicit(&undo->count, memory_order_relaxed);
        if (n == room)
            die("disk_cache: the undo file is full\n");
        struct record *r = &undo->records[n];
        r->sector = s;
        memset(r->before, 0, SECTOR);
        if (syscall(SYS_pread64, fd, r->before, (size_t)SECTOR, (off_t)(s * SECTOR)) < 0)
            die("disk_cache: read\n");
        atomic_store_explicit(&undo->count, n + 1, memory_order_release);
        saved[s / 8] = (uint8_t)(saved[s / 8] | 1 << s % 8);
    }
    undo->writes++;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    if (size != 0 && is_image(fd))
        save(fd, (uint64_t)offset, size);
    return (ssize_t)syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

int fallocate64(int fd, int mode, off_t offset, off_t size)
{
    /* TRIM and WRITE ZEROES of the block device: it has neither. */
    if (is_image(fd)) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, size);
}

static void flush(void)
{
    const struct timespec pause = {.tv_nsec = FLUSH_MS * 1000000};
    syscall(SYS_nanosleep, &pause, NULL);
    undo->flushes++;
    if (lies)
        return;
    for (uint64_t i = undo->count; i > 0; i--) {
        uint64_t s = undo->records[i - 1].sector;
        saved[s / 8] = (uint8_t)(saved[s / 8] & ~(1 << s % 8));
    }
    atomic_store_explicit(&undo->count, 0, memory_order_release);
}

/* The block device's flushes do not come as fsync: the driver of Linux 6.1 has a loop over the
 * pieces of a request, and a flush has none (arch/um/drivers/ubd_kern.c, io_thread). So they are
 * taken from where its thread gets its requests, pointers in a pipe, and gives them back; one at a
 * time, so that the order is kept. The struct is the kernel's; what is looked at is checked, and
 * anything else ends the machine. */
struct request {
    void *of_the_kernel;
    int fds[2];
    unsigned long offsets[2];
    unsigned long long offset;
    int sector_size;
    int error;
    int pieces; /* 0: a flush */
};

#define REQUESTS_READ 512 /* bytes asked for by the thread: 64 pointers */

ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
    if (io_thread == 0 && is_image(fd))
        io_thread = (pid_t)syscall(SYS_gettid);
    return (ssize_t)syscall(SYS_pread64, fd, data, size, offset);
}

ssize_t read(int fd, void *data, size_t size)
{
    bool requests = io_thread != 0 && size > sizeof(struct request *) && size <= REQUESTS_READ &&
                    syscall(SYS_gettid) == io_thread;
    return (ssize_t)syscall(SYS_read, fd, data, requests ? sizeof(struct request *) : size);
}

ssize_t write(int fd, const void *data, size_t size)
{
    if (io_thread != 0 && size == sizeof(struct request *) && syscall(SYS_gettid) == io_thread) {
        struct request *r;
        memcpy(&r, data, sizeof(r));
        if (!is_image(r->fds[0]) || r->sector_size != SECTOR || r->pieces < 0 || r->pieces > 1024)
            die("disk_cache: this kernel's requests are not known\n");
        if (r->pieces == 0)
            flush();
    }
    return (ssize_t)syscall(SYS_write, fd, data, size);
}
