/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/sync.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/crc.h"
#include "base/mem.h"
#include "keyspace/keyspace.h"
#include "os/file.h"
#include "os/socket.h"

#define ID "0123456789abcdef0123456789abcdef01234567"
#define OTHER "fedcba98765432100123456789abcdef01234567"
#define MARK "mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm"

/* A primary of one connection: it answers each request of the handshake by +OK, and PSYNC by
 * `answer`. */
struct primary {
    int listener, port;
    const char *answer;
    size_t answer_size;
    bool stays; /* the connection is kept open until the other side closes it */
    char heard[8192];
    pthread_t thread;
};

static void send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = socket_write(fd, data, size);
        if (n < 0 && errno == EAGAIN) {
            socket_wait(fd, true, 10000);
            continue;
        }
        if (n < 0)
            return;
        data += n;
        size -= (size_t)n;
    }
}

static void *serve(void *arg)
{
    struct primary *p = arg;
    size_t used = 0;
    bool answered = false;
    int fd = -1;
    while (fd < 0 && socket_wait(p->listener, false, 10000) > 0)
        fd = socket_accept(p->listener);
    while (fd >= 0 && socket_wait(fd, false, 10000) > 0 && used < sizeof(p->heard) - 1) {
        ssize_t n = socket_read(fd, p->heard + used, sizeof(p->heard) - 1 - used);
        if (n <= 0)
            break;
        const char *request = p->heard + used;
        used += (size_t)n;
        p->heard[used] = '\0';
        if (answered)
            continue;
        answered = strstr(request, "PSYNC") != NULL;
        if (answered)
            send_all(fd, p->answer, p->answer_size);
        else
            send_all(fd, "+OK\r\n", 5);
        if (answered && !p->stays)
            break;
    }
    if (fd >= 0)
        socket_close(fd);
    return NULL;
}

static void begin(struct primary *p, const char *answer, size_t size)
{
    char error[SOCKET_ERROR_SIZE];
    *p = (struct primary){.answer = answer, .answer_size = size, .stays = true};
    /* A port that is free; another test may take it meanwhile. */
    for (int i = 0; i < 100; i++) {
        p->port = 20000 + (int)((unsigned)getpid() * 7 + (unsigned)rand()) % 40000;
        p->listener = socket_listen_tcp("127.0.0.1", p->port, 5, error);
        if (p->listener >= 0)
            break;
    }
    assert_true(p->listener >= 0);
    assert_int_equal(pthread_create(&p->thread, NULL, serve, p), 0);
}

static void end(struct primary *p)
{
    pthread_join(p->thread, NULL);
    socket_close(p->listener);
}

/* ---- the other side ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int woken;

static void wake(void *ctx)
{
    (void)ctx;
    pthread_mutex_lock(&lock);
    woken++;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

/* Whether the data are loaded while they come, or left in a file. */
static bool loads;

static int into_a_file(void **state)
{
    (void)state;
    loads = false;
    return 0;
}

static int into_a_keyspace(void **state)
{
    (void)state;
    loads = true;
    return 0;
}

static struct sync_options options_for(const struct primary *p)
{
    struct sync_options o = {.port = p->port,
                             .listening_port = 1234,
                             .has_history = true,
                             .history = ID,
                             .lsn = 100,
                             .has_data = true,
                             .timeout_ms = 10000,
                             .wake = wake};
    snprintf(o.host, sizeof(o.host), "127.0.0.1");
    snprintf(o.path, sizeof(o.path), "test-sync-%d.rdb", (int)getpid());
    if (loads) {
        o.into = keyspace_new(4, false);
        o.load = (struct rdb_load_options){.threads = 2, .checksum = true};
    }
    return o;
}

static void run(const struct sync_options *o, struct sync_result *r)
{
    struct error err = {0};
    woken = 0;
    struct sync *y = sync_start(o, &err);
    assert_non_null(y);
    pthread_mutex_lock(&lock);
    /* Once when the data begin to be loaded, once at the end. */
    while (!sync_ended(y))
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
    sync_finish(y, r);
    assert_in_range(woken, 1, 2);
    if (r->fd >= 0)
        socket_close(r->fd);
}

static bool file_is_there(const struct sync_options *o)
{
    struct error err;
    bool there = os_path_exists(o->path);
    if (there)
        os_unlink(o->path, &err);
    return there;
}

/* An RDB file with one key in database 0. Returns its size. */
static size_t make_rdb(char *out)
{
    size_t n = 0;
    memcpy(out, "REDIS0010\xfe\x00\x00\x01k\x01v\xff", 17);
    n = 17;
    uint64_t crc = crc64(0, out, n);
    for (int i = 0; i < 8; i++)
        out[n++] = (char)(crc >> (8 * i));
    return n;
}

/* The same history goes on, or one with a new id; the stream's first bytes are kept. */
static void continues(void **state)
{
    static const struct {
        const char *answer, *history, *rest;
    } cases[] = {
        {"+CONTINUE\r\n*1\r\n", ID, "*1\r\n"},
        {"\n\n+CONTINUE " OTHER "\r\n", OTHER, ""},
    };
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct primary p;
        struct sync_result r;
        begin(&p, cases[i].answer, strlen(cases[i].answer));
        struct sync_options o = options_for(&p);
        run(&o, &r);
        end(&p);
        assert_int_equal(r.outcome, SYNC_CONTINUES);
        assert_int_equal(r.lsn, 100);
        assert_string_equal(r.history, cases[i].history);
        assert_int_equal(r.rest_size, strlen(cases[i].rest));
        assert_memory_equal(r.rest, cases[i].rest, r.rest_size);
        assert_false(file_is_there(&o));
        /* It has asked for what comes behind LSN 100. */
        assert_non_null(strstr(p.heard, ID "\r\n$3\r\n101\r\n"));
        assert_non_null(strstr(p.heard, "listening-port\r\n$4\r\n1234"));
        assert_null(strstr(p.heard, "FAILOVER"));
    }
}

/* To be asked to take over the other side is told so in PSYNC itself. */
static void failover(void **state)
{
    struct primary p;
    struct sync_result r;
    (void)state;
    begin(&p, "-ERR no\r\n", 9);
    struct sync_options o = options_for(&p);
    o.failover = true;
    run(&o, &r);
    end(&p);
    assert_int_equal(r.outcome, SYNC_FAILED);
    assert_true(r.rejected && r.failover_sent);
    assert_non_null(strstr(p.heard, "101\r\n$8\r\nFAILOVER\r\n"));
    assert_non_null(strstr(r.error.message, "-ERR no"));
}

/* All of the data, with its size in front or a mark behind; what follows it is the stream's. */
static void full(void **state)
{
    char rdb[64], answer[512];
    size_t size = make_rdb(rdb);
    (void)state;
    for (int marked = 0; marked < 2; marked++) {
        struct primary p;
        struct sync_result r;
        size_t n = (size_t)snprintf(answer, sizeof(answer), "+FULLRESYNC " OTHER " 7\r\n\n\n");
        n += (size_t)(marked ? snprintf(answer + n, sizeof(answer) - n, "$EOF:" MARK "\r\n")
                             : snprintf(answer + n, sizeof(answer) - n, "$%zu\r\n", size));
        memcpy(answer + n, rdb, size);
        n += size;
        n += (size_t)snprintf(answer + n, sizeof(answer) - n, "%s*1\r\n", marked ? MARK : "");
        begin(&p, answer, n);
        struct sync_options o = options_for(&p);
        run(&o, &r);
        end(&p);
        assert_string_equal(r.error.message, "");
        assert_int_equal(r.outcome, SYNC_FULL);
        assert_string_equal(r.history, OTHER);
        assert_int_equal(r.lsn, 7);
        assert_int_equal(r.keys, 1);
        assert_memory_equal(r.rest, "*1\r\n", r.rest_size);
        assert_int_equal(file_is_there(&o), !loads);
        assert_int_equal(r.loaded != NULL, loads);
        if (loads) {
            assert_int_equal(r.loaded->dbs[0].table.count, 1);
            keyspace_free(r.loaded);
        }
    }
}

/* Data cut anywhere, and data with any byte changed, leaves no file and is no result. */
static void torn_and_damaged(void **state)
{
    char rdb[64], answer[256];
    size_t size = make_rdb(rdb);
    (void)state;
    for (size_t i = 0; i < size; i++) {
        struct primary p;
        struct sync_result r;
        bool torn = i % 2 == 0;
        size_t head =
            (size_t)snprintf(answer, sizeof(answer), "+FULLRESYNC " OTHER " 7\r\n$%zu\r\n", size);
        memcpy(answer + head, rdb, size);
        if (!torn)
            answer[head + i] ^= 0x10;
        begin(&p, answer, head + (torn ? i : size));
        p.stays = !torn;
        struct sync_options o = options_for(&p);
        run(&o, &r);
        end(&p);
        assert_int_equal(r.outcome, SYNC_FAILED);
        assert_true(r.error.code != ERROR_NONE);
        assert_null(r.loaded);
        assert_false(file_is_there(&o));
    }
}

/* What is not ended by its mark, or has something behind what its size says, is refused. */
static void another_end(void **state)
{
    char rdb[64], answer[512];
    size_t size = make_rdb(rdb);
    (void)state;
    for (int sized = 0; sized < 2; sized++) {
        struct primary p;
        struct sync_result r;
        size_t n = (size_t)snprintf(answer, sizeof(answer), "+FULLRESYNC " OTHER " 7\r\n");
        n += (size_t)(sized ? snprintf(answer + n, sizeof(answer) - n, "$%zu\r\n", size + 5)
                            : snprintf(answer + n, sizeof(answer) - n, "$EOF:" MARK "\r\n"));
        memcpy(answer + n, rdb, size);
        n += size;
        n += (size_t)snprintf(answer + n, sizeof(answer) - n, "%.39sx", MARK);
        begin(&p, answer, n);
        p.stays = false;
        struct sync_options o = options_for(&p);
        run(&o, &r);
        end(&p);
        assert_int_equal(r.outcome, SYNC_FAILED);
        assert_null(r.loaded);
        assert_false(file_is_there(&o));
    }
}

/* Who has less than there is here is refused, unless that is what is wanted. */
static void refused(void **state)
{
    static const char *const answers[] = {
        "-REGRESSION this server is at 5\r\n",
        "+FULLRESYNC " ID " 99\r\n",
        "+FULLRESYNC " OTHER " 7\r\n$18\r\nREDIS0010\xff\0\0\0\0\0\0\0\0", /* no key at all */
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct primary p;
        struct sync_result r;
        size_t size =
            i < 2 ? strlen(answers[i]) : strlen("+FULLRESYNC " OTHER " 7\r\n$18\r\n") + 18;
        begin(&p, answers[i], size);
        struct sync_options o = options_for(&p);
        run(&o, &r);
        end(&p);
        assert_int_equal(r.outcome, SYNC_REFUSED);
        assert_false(file_is_there(&o));
    }
}

/* Lines that are no answer, that have no end, or numbers that are none: an error that says what
 * came. */
static void nonsense(void **state)
{
    static const char *const answers[] = {
        "+FULLRESYNC\r\n",
        "+FULLRESYNC zz 1\r\n",
        "+FULLRESYNC " ID " -5\r\n",
        "+FULLRESYNC " ID " 1x\r\n",
        "+CONTINUE x\r\n",
        "+CONTINUE " ID "0\r\n",
        "+OK\r\n",
        ":1\r\n",
        "*1\r\n",
        "+FULLRESYNC " OTHER " 7\r\n*1\r\n",
        "+FULLRESYNC " OTHER " 7\r\n$-1\r\n",
        "+FULLRESYNC " OTHER " 7\r\n$99999999999999999999\r\n",
        "+FULLRESYNC " OTHER " 7\r\n$EOF:short\r\nREDIS",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {
        struct primary p;
        struct sync_result r;
        begin(&p, answers[i], strlen(answers[i]));
        struct sync_options o = options_for(&p);
        run(&o, &r);
        end(&p);
        assert_int_equal(r.outcome, SYNC_FAILED);
        assert_true(r.error.code != ERROR_NONE);
        assert_int_equal(r.fd, -1);
        assert_false(file_is_there(&o));
    }
    struct primary p;
    struct sync_result r;
    char *line = mem_alloc(100000);
    memset(line, 'x', 100000);
    begin(&p, line, 100000);
    struct sync_options o = options_for(&p);
    run(&o, &r);
    end(&p);
    mem_free(line);
    assert_int_equal(r.outcome, SYNC_FAILED);
    assert_non_null(strstr(r.error.message, "without end"));
}

/* A synchronisation that waits for the other side ends when it is given up. */
static void cancelled(void **state)
{
    struct primary p;
    struct sync_result r;
    struct error err = {0};
    struct sync_progress progress;
    (void)state;
    begin(&p, "+FULLRESYNC " OTHER " 7\r\n$1000\r\nREDIS", 12 + 40 + 4 + 7 + 5);
    struct sync_options o = options_for(&p);
    o.timeout_ms = 600000;
    struct sync *y = sync_start(&o, &err);
    assert_non_null(y);
    do {
        sync_progress(y, &progress);
        usleep(1000);
    } while (progress.stage != SYNC_TRANSFER);
    sync_cancel(y);
    sync_finish(y, &r);
    end(&p);
    assert_int_equal(r.outcome, SYNC_FAILED);
    assert_int_equal(r.fd, -1);
    assert_false(file_is_there(&o));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(continues, into_a_file),
        cmocka_unit_test_setup(failover, into_a_file),
        cmocka_unit_test_setup(full, into_a_file),
        cmocka_unit_test_setup(torn_and_damaged, into_a_file),
        cmocka_unit_test_setup(another_end, into_a_file),
        cmocka_unit_test_setup(refused, into_a_file),
        cmocka_unit_test_setup(nonsense, into_a_file),
        cmocka_unit_test_setup(cancelled, into_a_file),
        cmocka_unit_test_setup(continues, into_a_keyspace),
        cmocka_unit_test_setup(full, into_a_keyspace),
        cmocka_unit_test_setup(torn_and_damaged, into_a_keyspace),
        cmocka_unit_test_setup(another_end, into_a_keyspace),
        cmocka_unit_test_setup(refused, into_a_keyspace),
        cmocka_unit_test_setup(nonsense, into_a_keyspace),
        cmocka_unit_test_setup(cancelled, into_a_keyspace),
    };
    mem_thread_begin();
    srand((unsigned)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
