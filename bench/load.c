/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A load for measurements: writers and readers, each on a connection of its own, that send the next
 * command when the last one is answered. Runs for some seconds or until SIGTERM and prints JSON:
 * for writers and readers apart, how many commands and how long they took. At SIGUSR1 it begins to
 * count anew. Used by bench.py, as redis-benchmark tells neither p99.9 nor readers from writers.
 *
 *     bench-load PORT SECONDS WRITERS READERS KEYS SIZE [zadd|fill]
 *
 * Keys are key:000000000000 ..., values are SIZE random bytes, which do not compress. Writers take
 * the lower half of the keys when there are readers, and readers the upper half. `zadd` writes
 * members of one sorted set instead. `fill` sets every key once, pipelined, and ends.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/histogram.h"

#define RANDOM_BYTES (1 << 20)
#define REPLY_MAX (1 << 16)
#define FILL_BATCH 500

enum mode { MODE_SET, MODE_ZADD, MODE_FILL };

struct options {
    int port, writers, readers;
    double seconds;
    uint64_t keys;
    size_t size;
    enum mode mode;
};

struct side {
    struct histogram latency; /* nanoseconds */
    uint64_t count, errors, slowest;
};

struct connection {
    int fd;
    bool writes;
    int64_t sent_ns;
    size_t wanted; /* of the reply; 0: its first line has not come */
    size_t got;
    char reply[REPLY_MAX];
};

static volatile sig_atomic_t stopped, count_anew;
static unsigned char noise[RANDOM_BYTES];
static uint64_t state = 88172645463325252U;

static void on_signal(int number)
{
    if (number == SIGUSR1)
        count_anew = 1;
    else
        stopped = 1;
}

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n <= 0)
            die("send");
        data += n;
        size -= (size_t)n;
    }
}

static int connect_to(int port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) != 0)
        die("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static size_t put_set(char *to, uint64_t key, size_t size)
{
    int n = sprintf(to, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012" PRIu64 "\r\n$%zu\r\n", key, size);
    memcpy(to + n, noise + next_random() % (RANDOM_BYTES - size), size);
    memcpy(to + (size_t)n + size, "\r\n", 2);
    return (size_t)n + size + 2;
}

static size_t put_zadd(char *to, uint64_t key)
{
    char score[32];
    int s = sprintf(score, "%" PRIu64, next_random() % 1000000000);
    return (size_t)sprintf(
        to, "*4\r\n$4\r\nZADD\r\n$4\r\nzset\r\n$%d\r\n%s\r\n$19\r\nmember:%012" PRIu64 "\r\n", s,
        score, key);
}

static void send_next(struct connection *c, const struct options *o)
{
    static char request[REPLY_MAX];
    uint64_t half = o->readers > 0 ? o->keys / 2 : o->keys;
    size_t n;
    if (!c->writes)
        n = (size_t)sprintf(request, "*2\r\n$3\r\nGET\r\n$16\r\nkey:%012" PRIu64 "\r\n",
                            half + next_random() % (o->keys - half));
    else if (o->mode == MODE_ZADD)
        n = put_zadd(request, next_random() % o->keys);
    else
        n = put_set(request, next_random() % half, o->size);
    c->wanted = c->got = 0;
    c->sent_ns = now_ns();
    send_all(c->fd, request, n);
}

/* How long the whole reply is, once its first line is there: a line, or a bulk string. */
static size_t reply_size(const struct connection *c)
{
    const char *end = memchr(c->reply, '\n', c->got);
    if (end == NULL)
        return 0;
    size_t line = (size_t)(end - c->reply) + 1;
    if (c->reply[0] != '$' || c->reply[1] == '-')
        return line;
    return line + (size_t)strtoul(c->reply + 1, NULL, 10) + 2;
}

static void take_reply(struct connection *c, const struct options *o, struct side *side)
{
    ssize_t n = recv(c->fd, c->reply + c->got, sizeof(c->reply) - c->got, 0);
    if (n <= 0)
        die("recv");
    c->got += (size_t)n;
    if (c->wanted == 0)
        c->wanted = reply_size(c);
    if (c->wanted == 0 || c->got < c->wanted)
        return;
    uint64_t took = (uint64_t)(now_ns() - c->sent_ns);
    histogram_record(&side->latency, took, 1);
    side->count++;
    side->errors += c->reply[0] == '-';
    if (took > side->slowest)
        side->slowest = took;
    send_next(c, o);
}

static void fill(const struct options *o)
{
    int fd = connect_to(o->port);
    char *batch = malloc(FILL_BATCH * (o->size + 64)), *replies = malloc(REPLY_MAX);
    for (uint64_t at = 0; at < o->keys && !stopped;) {
        size_t size = 0;
        uint64_t count = 0;
        for (; count < FILL_BATCH && at < o->keys; count++, at++)
            size += put_set(batch + size, at, o->size);
        send_all(fd, batch, size);
        for (uint64_t lines = 0; lines < count;) {
            ssize_t n = recv(fd, replies, REPLY_MAX, 0);
            if (n <= 0)
                die("recv");
            for (ssize_t i = 0; i < n; i++)
                lines += replies[i] == '\n';
        }
    }
    free(batch);
    free(replies);
    close(fd);
}

static void print_side(const char *name, const struct side *s, double seconds, const char *end)
{
    printf("\"%s\": {\"count\": %" PRIu64 ", \"errors\": %" PRIu64
           ", \"rps\": %.1f, \"p50_ms\": %.4f, \"p99_ms\": %.4f, "
           "\"p999_ms\": %.4f, \"max_ms\": %.4f}%s",
           name, s->count, s->errors, (double)s->count / seconds,
           (double)histogram_percentile(&s->latency, 50) / 1e6,
           (double)histogram_percentile(&s->latency, 99) / 1e6,
           (double)histogram_percentile(&s->latency, 99.9) / 1e6, (double)s->slowest / 1e6, end);
}

static void run(const struct options *o)
{
    int count = o->writers + o->readers, epoll = epoll_create1(0);
    struct connection *all = calloc((size_t)count, sizeof(*all));
    static struct side sides[2];
    int64_t begun = now_ns(), end = begun + (int64_t)(o->seconds * 1e9);
    for (int i = 0; i < count; i++) {
        all[i].fd = connect_to(o->port);
        all[i].writes = i < o->writers;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = &all[i]};
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e) != 0)
            die("epoll_ctl");
        send_next(&all[i], o);
    }
    while (!stopped && now_ns() < end) {
        if (count_anew) {
            count_anew = 0;
            memset(sides, 0, sizeof(sides));
            begun = now_ns();
        }
        struct epoll_event events[64];
        int n = epoll_wait(epoll, events, 64, 100);
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            take_reply(c, o, &sides[c->writes]);
        }
    }
    double seconds = (double)(now_ns() - begun) / 1e9;
    printf("{\"seconds\": %.3f, ", seconds);
    print_side("writers", &sides[1], seconds, ", ");
    print_side("readers", &sides[0], seconds, "}\n");
    free(all);
}

int main(int argc, char **argv)
{
    if (argc < 7) {
        fprintf(stderr, "usage: bench-load PORT SECONDS WRITERS READERS KEYS SIZE [zadd|fill]\n");
        return 2;
    }
    struct options o = {.port = atoi(argv[1]),
                        .seconds = strtod(argv[2], NULL),
                        .writers = atoi(argv[3]),
                        .readers = atoi(argv[4]),
                        .keys = strtoull(argv[5], NULL, 10),
                        .size = strtoul(argv[6], NULL, 10)};
    if (argc > 7)
        o.mode = strcmp(argv[7], "zadd") == 0 ? MODE_ZADD : MODE_FILL;
    if (o.keys == 0 || o.size > REPLY_MAX / 2) {
        fprintf(stderr, "bench-load: at least one key, and values of at most %d bytes\n",
                REPLY_MAX / 2);
        return 2;
    }
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    state ^= (uint64_t)now_ns();
    for (size_t i = 0; i < RANDOM_BYTES; i++)
        noise[i] = (unsigned char)(next_random() >> 24);
    if (o.mode == MODE_FILL)
        fill(&o);
    else
        run(&o);
    return 0;
}
