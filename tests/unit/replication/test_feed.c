/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/feed.h"

#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "os/file.h"
#include "persist/load.h"
#include "type/digest.h"
#include "type/string.h"

#define KEYS 500
#define ROOM 200000
#define PREAMBLE "+FULLRESYNC x 1\r\n"

static char path[64];
static char got[2][ROOM];

static void nothing(void *ctx)
{
    (void)ctx;
}

static struct keyspace *keyspace_with_data(void)
{
    struct keyspace *ks = keyspace_new(1, false);
    for (int i = 0; i < KEYS; i++) {
        char name[32];
        struct keyref ref;
        snprintf(name, sizeof(name), "key:%d", i);
        struct slice key = slice_cstr(name);
        keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
        string_set(&ref, key, ENTRY_NO_EXPIRY);
    }
    return ks;
}

/* Two pairs of sockets whose buffers take all that is sent. */
static void connect_both(struct feed_target targets[2], int ends[2])
{
    int size = 4 * ROOM;
    for (int i = 0; i < 2; i++) {
        int pair[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
        setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        targets[i] = (struct feed_target){.fd = pair[0]};
        snprintf(targets[i].preamble, FEED_PREAMBLE_MAX, PREAMBLE);
        ends[i] = pair[1];
    }
}

static struct feed_options options_for(const struct feed_target targets[2], const char *file)
{
    return (struct feed_options){
        .targets = targets,
        .count = 2,
        .timeout_ms = 10000,
        .save = {.version = RDB_VERSION_DEFAULT, .checksum = true, .threads = 1},
        .path = file,
        .wake = nothing};
}

static size_t read_all(int fd, char *data)
{
    size_t size = 0;
    ssize_t n;
    while (size < ROOM && (n = read(fd, data + size, ROOM - size)) > 0)
        size += (size_t)n;
    close(fd);
    return size;
}

/* The data that came is a whole RDB file with what was in the keyspace. */
static void check_rdb(const char *data, size_t size, struct keyspace *ks)
{
    struct keyspace *loaded = keyspace_new(1, false);
    struct rdb_load_options o = {.now_ms = 1, .checksum = true};
    struct rdb_load_stats stats = {0};
    struct error err = {0};
    struct digest a = {0}, b = {0};
    assert_true(os_file_replace(path, data, size, &err));
    assert_true(load_rdb_file(loaded, path, &o, &stats, &err));
    digest_keyspace(&a, ks);
    digest_keyspace(&b, loaded);
    assert_memory_equal(a.bytes, b.bytes, DIGEST_SIZE);
    assert_true(os_unlink(path, &err));
    keyspace_free(loaded);
}

/* One walk feeds both: the same bytes, between a mark of their own. */
static void a_walk_for_two(void **state)
{
    struct keyspace *ks = keyspace_with_data();
    struct feed_target targets[2];
    int ends[2];
    bool ok[2];
    struct error err = {0};
    (void)state;
    connect_both(targets, ends);
    struct feed_options o = options_for(targets, NULL);
    struct feed *f = feed_start(ks, snapshot_begin(ks), &o, &err);
    assert_non_null(f);
    assert_true(feed_finish(f, ok, &err));
    assert_true(ok[0] && ok[1]);
    size_t head = strlen(PREAMBLE) + strlen("$EOF:") + 40 + 2;
    size_t size = read_all(ends[0], got[0]);
    assert_int_equal(read_all(ends[1], got[1]), size);
    assert_memory_equal(got[0], got[1], size);
    assert_memory_equal(got[0], PREAMBLE "$EOF:", strlen(PREAMBLE) + 5);
    assert_memory_equal(got[0] + head - 42, got[0] + size - 40, 40);
    check_rdb(got[0] + head, size - head - 40, ks);
    keyspace_free(ks);
}

/* A file is sent with its size in front, and removed. One whose other side is gone is left out,
 * without harm to the other. */
static void a_file_for_one_of_two(void **state)
{
    static const char data[] = "what the file holds";
    struct keyspace *ks = keyspace_with_data();
    struct feed_target targets[2];
    int ends[2];
    bool ok[2];
    struct error err = {0};
    char expected[128];
    (void)state;
    assert_true(os_file_replace(path, data, sizeof(data) - 1, &err));
    connect_both(targets, ends);
    close(ends[1]);
    struct feed_options o = options_for(targets, path);
    struct feed *f = feed_start(ks, NULL, &o, &err);
    assert_non_null(f);
    feed_finish(f, ok, &err);
    assert_true(ok[0]);
    assert_false(ok[1]);
    size_t size = read_all(ends[0], got[0]);
    int n = snprintf(expected, sizeof(expected), PREAMBLE "$%zu\r\n%s", sizeof(data) - 1, data);
    assert_int_equal(size, n);
    assert_memory_equal(got[0], expected, size);
    assert_false(os_path_exists(path));
    keyspace_free(ks);
}

/* A file that is not there is an error, and nobody has got it. */
static void no_file(void **state)
{
    struct keyspace *ks = keyspace_with_data();
    struct feed_target targets[2];
    int ends[2];
    bool ok[2];
    struct error err = {0};
    (void)state;
    connect_both(targets, ends);
    struct feed_options o = options_for(targets, path);
    struct feed *f = feed_start(ks, NULL, &o, &err);
    assert_non_null(f);
    assert_false(feed_finish(f, ok, &err));
    assert_true(err.code != ERROR_NONE);
    assert_false(ok[0] || ok[1]);
    close(ends[0]);
    close(ends[1]);
    keyspace_free(ks);
}

/* Who takes nothing does not hold up the end of a feed that is cancelled, nor one whose replicas
 * are dropped; the snapshot is released. */
static void nobody_takes(void **state)
{
    (void)state;
    for (int dropped = 0; dropped < 2; dropped++) {
        struct keyspace *ks = keyspace_with_data();
        struct feed_target targets[2];
        int ends[2], size = 1024;
        bool ok[2];
        struct error err = {0};
        connect_both(targets, ends);
        for (int i = 0; i < 2; i++)
            setsockopt(targets[i].fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
        struct feed_options o = options_for(targets, NULL);
        o.timeout_ms = 600000;
        struct feed *f = feed_start(ks, snapshot_begin(ks), &o, &err);
        assert_non_null(f);
        struct pollfd begun = {.fd = ends[0], .events = POLLIN};
        assert_int_equal(poll(&begun, 1, 60000), 1);
        if (dropped) {
            feed_drop(f, 0);
            feed_drop(f, 1);
        } else {
            feed_cancel(f);
        }
        assert_false(feed_finish(f, ok, &err));
        assert_false(ok[0] || ok[1]);
        close(ends[0]);
        close(ends[1]);
        keyspace_free(ks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_walk_for_two),
        cmocka_unit_test(a_file_for_one_of_two),
        cmocka_unit_test(no_file),
        cmocka_unit_test(nobody_takes),
    };
    mem_thread_begin();
    snprintf(path, sizeof(path), "test-feed-%d.rdb", (int)getpid());
    return cmocka_run_group_tests(tests, NULL, NULL);
}
