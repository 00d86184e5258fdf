/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The least that a server can do for PUBLISH: what it costs is the kernel's, and the floor beside
 * which bench.py shows the servers. It knows no command and no channel. Who sends SUBSCRIBE is a
 * subscriber; every other read is taken for one PUBLISH of the benchmark's (no pipeline), which is
 * answered. When a turn has read what was ready, each subscriber gets all of the turn's messages
 * with one call, `send`, or all of them with one call of io_uring.
 *
 *     bench-fanout PORT [send|uring]
 */
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 1024
#define PUBLISHERS_MAX 256
/* "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$64\r\n...\r\n" */
#define MESSAGE_SIZE 98

/* A submission queue and its completions, as the kernel maps them. */
struct ring {
    int fd;
    unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail;
    struct io_uring_sqe *entries;
};

static int subscribers[DESCRIPTORS_MAX];
static unsigned subscriber_count;
static char messages[PUBLISHERS_MAX * MESSAGE_SIZE];

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static char *map(int fd, size_t size, uint64_t offset)
{
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (at == MAP_FAILED)
        die("mmap");
    return at;
}

static struct ring ring_open(void)
{
    struct io_uring_params p = {0};
    struct ring r = {.fd = (int)syscall(SYS_io_uring_setup, DESCRIPTORS_MAX, &p)};
    if (r.fd < 0)
        die("io_uring_setup");
    char *sq = map(r.fd, p.sq_off.array + p.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
    char *cq = map(r.fd, p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe),
                   IORING_OFF_CQ_RING);
    r.entries = (void *)map(r.fd, p.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    r.sq_tail = (void *)(sq + p.sq_off.tail);
    r.sq_mask = (void *)(sq + p.sq_off.ring_mask);
    r.sq_array = (void *)(sq + p.sq_off.array);
    r.cq_head = (void *)(cq + p.cq_off.head);
    r.cq_tail = (void *)(cq + p.cq_off.tail);
    return r;
}

static void ring_send_all(struct ring *r, size_t size)
{
    unsigned tail = *r->sq_tail;
    for (unsigned i = 0; i < subscriber_count; i++, tail++) {
        unsigned slot = tail & *r->sq_mask;
        r->entries[slot] = (struct io_uring_sqe){.opcode = IORING_OP_SEND,
                                                 .fd = subscribers[i],
                                                 .addr = (uintptr_t)messages,
                                                 .len = (uint32_t)size,
                                                 .msg_flags = MSG_NOSIGNAL | MSG_DONTWAIT};
        r->sq_array[slot] = slot;
    }
    __atomic_store_n(r->sq_tail, tail, __ATOMIC_RELEASE);
    if (syscall(SYS_io_uring_enter, r->fd, subscriber_count, subscriber_count,
                IORING_ENTER_GETEVENTS, NULL, 0) < 0)
        die("io_uring_enter");
    __atomic_store_n(r->cq_head, __atomic_load_n(r->cq_tail, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static void watch(int poll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || fd >= DESCRIPTORS_MAX || epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

static int listen_at(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                            .sin_port = htons((uint16_t)port)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) != 0 || listen(fd, 511) != 0)
        die("listen");
    return fd;
}

/* Whether it was a PUBLISH. */
static bool serve(int fd)
{
    static char buffer[65536];
    ssize_t size = read(fd, buffer, sizeof(buffer) - 1);
    const char *reply = ":100\r\n";
    if (size <= 0) {
        close(fd);
        return false;
    }
    buffer[size] = '\0';
    bool publish = strncmp(buffer, "*3\r\n$7\r\nPUBLISH", 15) == 0;
    if (strncmp(buffer, "SUBSCRIBE", 9) == 0) {
        subscribers[subscriber_count++] = fd;
        reply = "*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n";
    } else if (!publish) {
        reply = "*0\r\n"; /* redis-benchmark asks for directives first */
    }
    send(fd, reply, strlen(reply), MSG_NOSIGNAL);
    return publish;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return 2;
    bool uring = argc > 2 && strcmp(argv[2], "uring") == 0;
    struct ring ring = uring ? ring_open() : (struct ring){0};
    int listener = listen_at(atoi(argv[1])), poll = epoll_create1(0), one = 1;
    memset(messages, 'x', sizeof(messages));
    watch(poll, listener);
    for (;;) {
        struct epoll_event ready[PUBLISHERS_MAX];
        int n = epoll_wait(poll, ready, PUBLISHERS_MAX, -1);
        size_t size = 0;
        for (int i = 0; i < n; i++) {
            if (ready[i].data.fd == listener) {
                int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                watch(poll, fd);
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
            } else if (serve(ready[i].data.fd)) {
                size += MESSAGE_SIZE;
            }
        }
        if (size == 0)
            continue;
        if (uring)
            ring_send_all(&ring, size);
        else
            for (unsigned i = 0; i < subscriber_count; i++)
                send(subscribers[i], messages, size, MSG_NOSIGNAL);
    }
}
