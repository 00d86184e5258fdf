/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "base/mem.h"
#include "os/fault.h"
#include "persist/load.h"
#include "persist/load_index.h"
#include "persist/load_stream.h"
#include "type/digest.h"

#define DATABASES 4
#define NOW_MS 1000000

static uint64_t seed, random_state;
static char dir[64], path[128];

static uint64_t random_next(void)
{
    uint64_t z = (random_state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static uint64_t below(uint64_t bound)
{
    return random_next() % bound;
}

/* --- files -------------------------------------------------------------------------------------
 */

struct chunk {
    int db;
    uint64_t offset, keys;
};

#define CHUNKS 256
struct file {
    struct rdb_writer w;
    struct chunk chunks[CHUNKS];
    int chunk_count;
    uint64_t index_offset;
    bool short_names;
};

static void write_text(struct rdb_writer *w, const char *prefix, uint64_t number, size_t size)
{
    static char text[1 << 20];
    int n = snprintf(text, sizeof(text), "%s:%llu:", prefix, (unsigned long long)number);
    if ((size_t)n < size)
        memset(text + n, 'x', size - (size_t)n);
    rdb_write_string(w, slice_of(text, (size_t)n < size ? size : (size_t)n));
}

/* One key of a random type, sometimes with an expiry. `large`: as large as a part of the file. */
static void write_key(struct file *f, uint64_t number, bool large)
{
    static const uint8_t types[] = {RDB_STRING, RDB_STRING, RDB_STRING,   RDB_LIST,
                                    RDB_SET,    RDB_HASH,   RDB_ZSET_2};
    struct rdb_writer *w = &f->w;
    if (below(4) == 0) {
        rdb_write_u8(w, RDB_OP_EXPIRE_MS);
        rdb_write_le64(w, NOW_MS - 500000 + below(1000000));
    }
    if (below(8) == 0) {
        rdb_write_u8(w, RDB_OP_IDLE);
        rdb_write_length(w, below(1000));
    }
    uint8_t type = types[below(sizeof(types))];
    uint64_t count = below(10) == 0 ? below(600) + 1 : below(20) + 1;
    if (large)
        count = 35000;
    rdb_write_u8(w, type);
    write_text(w, "key", number, !f->short_names && below(20) == 0 ? below(1000) : 0);
    if (type == RDB_STRING) {
        write_text(w, "value", below(1000),
                   large            ? 900000
                   : below(10) == 0 ? below(9000)
                                    : below(60));
        return;
    }
    rdb_write_length(w, count);
    for (uint64_t i = 0; i < count; i++) {
        write_text(w, "member", i, below(20));
        if (type == RDB_HASH)
            write_text(w, "v", below(100), below(20));
        if (type == RDB_ZSET_2)
            rdb_write_double(w, (double)below(1000) / 7);
    }
}

static void file_begin(struct file *f)
{
    bool short_names = f->short_names;
    *f = (struct file){.short_names = short_names};
    rdb_writer_init(&f->w, 1 << 16, NULL, NULL);
    rdb_save_header(&f->w, 123456000, 0);
}

static void begin_chunk(struct file *f, int db)
{
    f->chunks[f->chunk_count++] = (struct chunk){.db = db, .offset = f->w.used};
    rdb_save_select(&f->w, db, 0, 0);
}

static void add_key(struct file *f, uint64_t number, bool large)
{
    write_key(f, number, large);
    f->chunks[f->chunk_count - 1].keys++;
}

static void write_aux(struct file *f, const char *name, const char *value)
{
    rdb_write_u8(&f->w, RDB_OP_AUX);
    rdb_write_string(&f->w, slice_cstr(name));
    rdb_write_length(&f->w, strlen(value));
    rdb_write_bytes(&f->w, value, strlen(value));
}

static void write_index(struct file *f)
{
    char text[64];
    f->index_offset = f->w.used;
    for (int i = 0; i < f->chunk_count; i++) {
        const struct chunk *c = &f->chunks[i];
        snprintf(text, sizeof(text), "%d %llu %llu", c->db, (unsigned long long)c->offset,
                 (unsigned long long)c->keys);
        write_aux(f, "hf-chunk", text);
    }
    char last[33];
    snprintf(text, sizeof(text), "%llu %d", (unsigned long long)f->index_offset, f->chunk_count);
    snprintf(last, sizeof(last), "%-32.32s", text);
    write_aux(f, "hf-index", last);
}

/* Not synced: nothing here is about losing power. */
static void put_file(const void *data, size_t size)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

/* Every other time it leaves the page cache: its chunks are then read past it. */
static void let_go_of_file(void)
{
    struct error err;
    struct os_file f;
    if (below(2) == 0)
        return;
    assert_true(os_file_open(&f, path, OS_OPEN_WRITE, &err));
    assert_true(os_file_sync(&f, &err));
    os_file_forget_cache(&f, 0, 0);
    assert_true(os_file_close(&f, &err));
}

/* The end, and into the file. */
static void file_end(struct file *f)
{
    rdb_save_end(&f->w, true);
    put_file(f->w.buffer, f->w.used);
}

static void make_file(struct file *f, bool indexed, uint64_t keys, bool large)
{
    file_begin(f);
    uint64_t number = 0;
    int chunks = indexed ? 1 + (int)below(20) : DATABASES;
    for (int c = 0; c < chunks; c++) {
        begin_chunk(f, c * DATABASES / chunks);
        for (uint64_t i = 0; i < keys / (uint64_t)chunks; i++)
            add_key(f, number++, large && below(keys) < 2);
    }
    if (indexed)
        write_index(f);
    file_end(f);
}

/* --- loading and comparing ---------------------------------------------------------------------
 */

struct outcome {
    bool ok;
    struct rdb_load_stats stats;
    struct error err;
    struct digest digest;
    uint64_t keys, expires;
};

static bool note_expiry(void *ctx, void *item)
{
    *(uint64_t *)ctx += entry_due(item) != ENTRY_NO_EXPIRY;
    return true;
}

static struct rdb_load_options options_for(int threads)
{
    return (struct rdb_load_options){
        .now_ms = NOW_MS, .checksum = true, .lru_now = 5000, .threads = threads};
}

static struct keyspace *keyspace_for_load(void)
{
    struct keyspace *ks = keyspace_new(DATABASES, true);
    ks->now_ms = NOW_MS - 900000;
    ks->epoch.now = 3; /* as after some snapshots: the births must be of this epoch */
    return ks;
}

/* What is in the keyspace, which is freed. */
static void look_at(struct outcome *result, struct keyspace *ks)
{
    struct outcome o = *result;
    for (int i = 0; i < DATABASES; i++) {
        const struct db *db = &ks->dbs[i];
        uint64_t expires = 0;
        bool done;
        table_check(&db->table, &ks->epoch);
        table_walk(&db->table, 0, UINT64_MAX, 0, note_expiry, &expires, &done);
        assert_int_equal(expires, db->expires);
        o.expires += expires;
        o.keys += db->table.count;
    }
    assert_int_equal(o.keys, o.ok ? o.stats.keys : 0);
    digest_keyspace(&o.digest, ks);
    /* What was loaded lives on: a snapshot, and writes under it. */
    struct snapshot *s = snapshot_begin(ks);
    keyspace_flush(ks);
    snapshot_end(ks, s);
    keyspace_free(ks);
    *result = o;
}

static struct outcome load_with(const struct rdb_load_options *options)
{
    struct outcome o = {.ok = false};
    struct keyspace *ks = keyspace_for_load();
    o.ok = load_rdb_file(ks, path, options, &o.stats, &o.err);
    look_at(&o, ks);
    return o;
}

/* What a connection gives: pieces of up to `most` bytes, and behind the end something else. */
#define BEHIND "0123456789 is what comes behind it"
struct connection {
    const char *data;
    size_t size, at, most;
    size_t behind;       /* how much of BEHIND was given */
    size_t cancel_after; /* 0: it is not cancelled */
};

static bool receive(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct connection *c = ctx;
    size_t want = 1 + below(c->most);
    if (want > room)
        want = room;
    if (c->at < c->size) {
        size_t left = c->size - c->at;
        *got = want < left ? want : left;
        memcpy(data, c->data + c->at, *got);
        c->at += *got;
        return true;
    }
    size_t left = sizeof(BEHIND) - 1 - c->behind;
    if (left == 0)
        return error_set(err, ERROR_SYSTEM, "the connection was closed");
    *got = want < left ? want : left;
    memcpy(data, &BEHIND[c->behind], *got);
    c->behind += *got;
    return true;
}

static bool is_cancelled(void *ctx)
{
    const struct connection *c = ctx;
    return c->cancel_after != 0 && c->at >= c->cancel_after;
}

/* The file's bytes, or the first ones, as they come over a connection. */
static struct outcome load_streamed(const struct file *f, size_t size, int threads, bool sized,
                                    size_t most, size_t cancel_after)
{
    struct outcome o = {.ok = false};
    struct rdb_load_options options = options_for(threads);
    struct keyspace *ks = keyspace_for_load();
    struct connection c = {
        .data = f->w.buffer, .size = size, .most = most, .cancel_after = cancel_after};
    char spilled[160], *rest;
    size_t rest_size;
    snprintf(spilled, sizeof(spilled), "%s.spilled", path);
    struct load_stream stream = {.read = receive,
                                 .cancelled = is_cancelled,
                                 .ctx = &c,
                                 .size = sized ? f->w.used : 0,
                                 .path = spilled};
    options.polite = below(8) == 0;
    if (size < f->w.used || sized)
        c.behind = sizeof(BEHIND) - 1;
    o.ok = load_stream(ks, &stream, &options, &o.stats, &rest, &rest_size, &o.err);
    assert_int_equal(access(spilled, F_OK), -1);
    if (o.ok) {
        assert_int_equal(rest_size, sized ? 0 : c.behind);
        assert_memory_equal(rest, BEHIND, rest_size);
        mem_free(rest);
    }
    look_at(&o, ks);
    return o;
}

static struct outcome load_by(int threads)
{
    struct rdb_load_options options = options_for(threads);
    return load_with(&options);
}

static void assert_same(const struct outcome *a, const struct outcome *b)
{
    if (a->ok != b->ok)
        fail_msg("one was loaded and one was not: %s", a->ok ? b->err.message : a->err.message);
    if (!a->ok) {
        assert_string_equal(a->err.message, b->err.message);
        assert_int_equal(a->err.code, b->err.code);
        return;
    }
    assert_memory_equal(&a->digest, &b->digest, sizeof(a->digest));
    assert_int_equal(a->keys, b->keys);
    assert_int_equal(a->expires, b->expires);
    assert_int_equal(a->stats.expired, b->stats.expired);
    assert_int_equal(a->stats.empty, b->stats.empty);
    assert_int_equal(a->stats.version, b->stats.version);
    assert_int_equal(a->stats.created_ms, b->stats.created_ms);
}

/* Files with an index and without are loaded by threads as they are by none, expired keys dropped
 * or not. */
static void test_equal(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        bool indexed = i % 2;
        struct file f = {.short_names = false};
        make_file(&f, indexed, i < 2 ? below(5) : 200 + below(3000), i >= 6);
        for (int drop = 0; drop < 2; drop++) {
            struct rdb_load_options options = options_for(0);
            options.drop_expired = drop;
            struct outcome plain = load_with(&options);
            assert_true(plain.ok);
            assert_int_equal(plain.stats.threads, 0);
            for (int threads = 1; threads <= 4; threads += 1 + (int)below(2)) {
                options.threads = threads;
                let_go_of_file();
                struct outcome o = load_with(&options);
                assert_same(&plain, &o);
                assert_int_equal(o.stats.indexed, indexed);
                assert_int_equal(o.stats.threads, indexed ? threads : threads + 1);
            }
        }
        rdb_writer_deinit(&f.w);
    }
}

/* Puts bytes that were changed into the file, with the checksum that they now should have. */
static void write_again(struct file *f, size_t size, bool sum)
{
    if (sum && size == f->w.used)
        bytes_put_le(f->w.buffer + size - 8, crc64(0, f->w.buffer, size - 8), 8);
    put_file(f->w.buffer, size);
}

/* A file that is damaged anywhere gives the same error, or the same data, as it does by one thread:
 * bytes that were changed, with and without a checksum that tells, and files cut short. */
static void test_damage(void **state)
{
    (void)state;
    int refused = 0;
    for (int i = 0; i < 40; i++) {
        struct file f = {.short_names = false};
        make_file(&f, i % 2, 300, false);
        size_t size = f.w.used;
        int kind = (int)below(3);
        if (kind == 2)
            size = below(size);
        for (uint64_t n = 1 + below(3); kind < 2 && n > 0; n--)
            f.w.buffer[below(size)] ^= (char)(1U << below(8));
        write_again(&f, size, kind == 1);
        struct outcome plain = load_by(0);
        let_go_of_file();
        struct outcome o = load_by(1 + (int)below(4));
        assert_same(&plain, &o);
        refused += !o.ok;
        rdb_writer_deinit(&f.w);
    }
    assert_true(refused > 5);
}

/* A read that fails, whichever it is, makes the file be read once more: the data are whole. Where
 * no read succeeds any more nothing is loaded, and it is said at which offset. */
static void test_reads_fail(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct file f = {.short_names = false};
        make_file(&f, i > 0, 200, i == 2);
        struct outcome plain = load_by(0);
        let_go_of_file();
        os_fault_set(&(struct os_fault_plan){.op = OS_OP_READ, .nth = UINT64_MAX});
        assert_true(load_by(3).ok);
        uint64_t reads = os_fault_calls(OS_OP_READ);
        assert_true(reads > 0);
        for (uint64_t nth = 1; nth <= reads; nth += 1 + below(reads / 3 + 1)) {
            struct os_fault_plan plan = {.op = OS_OP_READ, .nth = nth, .os_errno = EIO};
            let_go_of_file();
            os_fault_set(&plan);
            struct outcome o = load_by(3);
            assert_same(&plain, &o);
        }
        struct os_fault_plan all = {
            .op = OS_OP_READ, .nth = 1 + below(reads), .os_errno = EIO, .sticky = true};
        let_go_of_file();
        os_fault_set(&all);
        struct outcome o = load_by(3);
        os_fault_set(NULL);
        if (!o.ok)
            assert_non_null(strstr(o.err.message, ": offset 0: "));
        /* With a machine that is slow to let go of the file more was read at the first load. */
        assert_true(!o.ok || all.nth > 1);
        rdb_writer_deinit(&f.w);
    }
}

static bool is_cached(uint64_t offset)
{
    struct error err;
    struct os_file f;
    assert_true(os_file_open(&f, path, OS_OPEN_READ, &err));
    bool cached = os_file_is_cached(&f, offset);
    assert_true(os_file_close(&f, &err));
    return cached;
}

/* A large file that is not in the page cache is not there after it was loaded either: it was read
 * once, and not a second time by a cache that reads ahead. */
static void test_cold(void **state)
{
    (void)state;
    enum { CHUNKS_HERE = 4, KEYS = 45, VALUE = 100000 };
    struct file f = {.short_names = true};
    struct os_file file;
    struct error err;
    file_begin(&f);
    for (uint64_t c = 0, number = 0; c < CHUNKS_HERE; c++) {
        begin_chunk(&f, 0);
        for (int i = 0; i < KEYS; i++, f.chunks[c].keys++) {
            rdb_write_u8(&f.w, RDB_STRING);
            write_text(&f.w, "key", number++, 0);
            write_text(&f.w, "value", below(1000), VALUE);
        }
    }
    write_index(&f);
    /* Where the page cache can be gone past, which it cannot in memory. */
    char at_first[sizeof(path)], system[16];
    memcpy(at_first, path, sizeof(path));
    snprintf(path, sizeof(path), "/var/tmp/hf-test-load-%d.rdb", (int)getpid());
    file_end(&f);
    struct outcome plain = load_by(0);
    assert_true(os_file_open(&file, path, OS_OPEN_WRITE, &err));
    assert_true(os_file_sync(&file, &err));
    os_file_forget_cache(&file, 0, 0);
    assert_true(os_file_close(&file, &err));
    os_file_system_name(path, system, sizeof(system));
    bool tells = !strcmp(system, "ext");
    for (int c = 0; tells && c < CHUNKS_HERE; c++)
        tells = !is_cached(f.chunks[c].offset + KEYS * VALUE / 2);
    for (int threads = 1; threads < 4; threads++) {
        struct outcome o = load_by(threads);
        assert_same(&plain, &o);
        assert_true(o.stats.indexed);
        for (int c = 0; tells && c < CHUNKS_HERE; c++)
            assert_false(is_cached(f.chunks[c].offset + KEYS * VALUE / 2));
    }
    unlink(path);
    memcpy(path, at_first, sizeof(path));
    rdb_writer_deinit(&f.w);
}

/* An index that lies is not believed: the file is loaded as if it had none. */
static void test_index_lies(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct file f = {.short_names = false};
        file_begin(&f);
        uint64_t number = 0;
        for (int c = 0; c < 6; c++) {
            begin_chunk(&f, c / 2);
            for (int k = 0; k < 50; k++)
                add_key(&f, number++, false);
        }
        struct chunk *c = &f.chunks[below(6)];
        switch (i % 10) {
        case 0:
            c->keys += below(2) ? 1 : -1ULL;
            break;
        case 1:
            c->db = c->db == 3 ? 0 : 3;
            break;
        case 2:
            c->offset += 1 + below(200);
            break;
        case 3:
            c->offset -= 1 + below(100);
            break;
        case 4: /* one is missing */
            memmove(c, c + 1, (size_t)(&f.chunks[f.chunk_count] - (c + 1)) * sizeof(*c));
            f.chunk_count--;
            break;
        case 5: /* one is there twice */
            f.chunks[f.chunk_count++] = f.chunks[0];
            break;
        case 6: /* no field of a chunk follows */
            f.chunk_count = 0;
            break;
        case 7:
            c->db = 70000;
            break;
        case 8:
            c->offset = 1ULL << 60;
            break;
        case 9: /* two exchanged their places */
            f.chunks[5] = f.chunks[0];
            f.chunks[0] = f.chunks[1];
            break;
        }
        write_index(&f);
        file_end(&f);
        struct outcome plain = load_by(0), o = load_by(2);
        assert_true(plain.ok);
        assert_int_equal(plain.keys, 300);
        assert_same(&plain, &o);
        assert_false(o.stats.indexed && o.stats.threads > 0);
        rdb_writer_deinit(&f.w);
    }
}

/* Numbers in the index's last field that are no place in the file. */
static void test_index_field(void **state)
{
    (void)state;
    static const char *const values[] = {"0 5",
                                         "-1 5",
                                         "99999999999 1",
                                         "9223372036854775807 1",
                                         "100",
                                         "10 x",
                                         "",
                                         "100 9223372036854775807",
                                         "100 -3",
                                         "18446744073709551615 1"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        struct file f = {.short_names = false};
        file_begin(&f);
        begin_chunk(&f, 0);
        for (uint64_t k = 0; k < 100; k++)
            add_key(&f, k, false);
        char text[33];
        snprintf(text, sizeof(text), "%-32.32s", values[i]);
        write_aux(&f, "hf-index", text);
        file_end(&f);
        struct outcome plain = load_by(0), o = load_by(2);
        assert_true(plain.ok);
        assert_same(&plain, &o);
        assert_false(o.stats.indexed);
        rdb_writer_deinit(&f.w);
    }
}

/* A stream gives the same data as the file, in whatever pieces it comes, whether its size is known
 * or not; nothing behind it is taken for it, or lost. */
static void test_stream(void **state)
{
    (void)state;
    static const size_t most[] = {1, 100, 5000, 70000, 3000000};
    for (int i = 0; i < 8; i++) {
        struct file f = {.short_names = false};
        bool small = i < 2, large = i >= 6;
        make_file(&f, i % 2, small ? below(8) : 200 + below(1000), large);
        struct outcome plain = load_by(0);
        assert_true(plain.ok);
        for (int k = 0; k < 2; k++) {
            size_t pieces = most[small ? below(2) : large ? 2 + below(3) : 1 + below(4)];
            struct outcome o = load_streamed(&f, f.w.used, 1 + (int)below(3), k % 2, pieces, 0);
            assert_same(&plain, &o);
        }
        rdb_writer_deinit(&f.w);
    }
}

/* A key that is larger than what is held in memory: a string and a list, in front of others. */
static void test_stream_huge(void **state)
{
    (void)state;
    static char text[1 << 20];
    memset(text, 'h', sizeof(text));
    struct file f = {.short_names = false};
    file_begin(&f);
    begin_chunk(&f, 2);
    add_key(&f, 1, false);
    rdb_write_u8(&f.w, RDB_STRING);
    write_text(&f.w, "string", 0, 0);
    rdb_write_length(&f.w, LOAD_STREAM_HELD + sizeof(text));
    for (size_t at = 0; at < LOAD_STREAM_HELD + sizeof(text); at += sizeof(text))
        rdb_write_bytes(&f.w, text, sizeof(text));
    for (uint64_t i = 2; i < 200; i++)
        add_key(&f, i, false);
    rdb_write_u8(&f.w, RDB_LIST);
    write_text(&f.w, "list", 0, 0);
    rdb_write_length(&f.w, LOAD_STREAM_HELD / 4000);
    for (uint64_t i = 0; i < LOAD_STREAM_HELD / 4000; i++)
        write_text(&f.w, "element", i, 4096);
    for (uint64_t i = 200; i < 400; i++)
        add_key(&f, i, false);
    file_end(&f);
    struct outcome plain = load_by(0);
    assert_true(plain.ok);
    for (int k = 0; k < 2; k++) {
        struct outcome o = load_streamed(&f, f.w.used, 2, k, 200000, 0);
        assert_same(&plain, &o);
    }
    struct outcome o = load_streamed(&f, f.w.used / 2, 2, true, 200000, 0);
    assert_false(o.ok);
    rdb_writer_deinit(&f.w);
}

/* What is damaged, torn or given up leaves nothing behind; nothing is taken that a file would not
 * be. */
static void test_stream_damage(void **state)
{
    (void)state;
    int refused = 0;
    for (int i = 0; i < 40; i++) {
        struct file f = {.short_names = false};
        make_file(&f, i % 2, 200, i % 20 == 19);
        size_t size = f.w.used, cancel_after = 0;
        int kind = (int)below(4);
        if (kind == 2)
            size = below(size);
        if (kind == 3)
            cancel_after = 1 + below(size - 1);
        for (uint64_t n = 1 + below(3); kind < 2 && n > 0; n--)
            f.w.buffer[below(size)] ^= (char)(1U << below(8));
        write_again(&f, size, kind == 1);
        struct outcome plain = load_by(0);
        struct outcome o =
            load_streamed(&f, size, 1 + (int)below(3), below(2), 20000, cancel_after);
        if (kind == 3)
            assert_true(o.ok || o.err.code == ERROR_CANCELLED);
        else if (o.ok != plain.ok)
            fail_msg("%s", o.ok ? plain.err.message : o.err.message);
        if (o.ok)
            assert_same(&plain, &o);
        refused += !o.ok;
        rdb_writer_deinit(&f.w);
    }
    assert_true(refused > 10);
}

/* A length that is claimed is not believed before the bytes are there: however large it is, what
 * was sent is too short. */
static void test_stream_claims(void **state)
{
    (void)state;
    static const uint8_t types[] = {RDB_STRING, RDB_LIST,   RDB_SET,
                                    RDB_HASH,   RDB_ZSET_2, RDB_STREAM_LISTPACKS};
    for (size_t i = 0; i < sizeof(types); i++) {
        struct file f = {.short_names = false};
        file_begin(&f);
        begin_chunk(&f, 0);
        rdb_write_u8(&f.w, types[i]);
        write_text(&f.w, "key", 1, 0);
        rdb_write_length(&f.w, 1ULL << (33 + below(28)));
        for (uint64_t k = 0; k < 20000; k++)
            write_text(&f.w, "v", k, 0);
        struct outcome o = load_streamed(&f, f.w.used, 2, false, 20000, 0);
        assert_false(o.ok);
        rdb_writer_deinit(&f.w);
    }
}

/* A key that is there twice is refused, wherever the two stand, with the offset. */
static void test_twice(void **state)
{
    (void)state;
    for (int i = 0; i < 12; i++) {
        struct file f = {.short_names = false};
        bool indexed = i % 2;
        uint64_t keys = 10 + below(2000), first = below(keys), second = first;
        while (second == first)
            second = below(keys);
        file_begin(&f);
        begin_chunk(&f, 1);
        for (uint64_t k = 0; k < keys; k++) {
            if (indexed && k % 100 == 99)
                begin_chunk(&f, 1);
            rdb_write_u8(&f.w, RDB_STRING);
            write_text(&f.w, "key", k == second ? first : k, 0);
            write_text(&f.w, "v", k, 0);
            f.chunks[f.chunk_count - 1].keys++;
        }
        if (indexed)
            write_index(&f);
        file_end(&f);
        struct outcome plain = load_by(0), o = load_by(1 + (int)below(3));
        assert_false(plain.ok);
        assert_non_null(strstr(plain.err.message, "a key occurs twice in database 1"));
        struct outcome streamed = load_streamed(&f, f.w.used, 1 + (int)below(3), false, 20000, 0);
        assert_false(streamed.ok);
        assert_non_null(strstr(streamed.err.message, "a key occurs twice"));
        assert_non_null(strstr(plain.err.message, "offset "));
        assert_same(&plain, &o);
        rdb_writer_deinit(&f.w);
    }
}

/* A member that is there twice in a set, hash or sorted set, small or large, is refused with the
 * offset where the second stands, however many threads there are. */
static void test_member_twice(void **state)
{
    (void)state;
    static const uint8_t types[] = {RDB_SET, RDB_HASH, RDB_ZSET_2};
    for (int i = 0; i < 24; i++) {
        struct file f = {.short_names = false};
        uint64_t members = 2 + below(i % 2 ? 100 : 6000), keys = 5 + below(100), bad = below(keys);
        uint64_t first = below(members - 1), second = first + 1 + below(members - first - 1);
        uint8_t type = types[i % 3];
        size_t expected = 0;
        file_begin(&f);
        begin_chunk(&f, 0);
        for (uint64_t k = 0; k < keys; k++) {
            rdb_write_u8(&f.w, k == bad ? type : RDB_STRING);
            write_text(&f.w, "key", k, 0);
            if (k != bad)
                write_text(&f.w, "v", k, 0);
            else
                rdb_write_length(&f.w, members);
            for (uint64_t n = 0; k == bad && n < members; n++) {
                write_text(&f.w, "member", n == second ? first : n, 0);
                if (type == RDB_HASH)
                    write_text(&f.w, "v", n, 0);
                if (type == RDB_ZSET_2)
                    rdb_write_double(&f.w, (double)n);
                if (n == second)
                    expected = f.w.used;
            }
            f.chunks[0].keys++;
        }
        write_index(&f);
        file_end(&f);
        struct outcome plain = load_by(0), o = load_by(1 + (int)below(3));
        char text[64];
        snprintf(text, sizeof(text), "offset %zu: a ", expected);
        assert_false(plain.ok);
        assert_non_null(strstr(plain.err.message, text));
        assert_non_null(strstr(plain.err.message, " twice"));
        assert_same(&plain, &o);
        rdb_writer_deinit(&f.w);
    }
}

struct watcher {
    bool cancel;
    uint64_t done, size, calls, waits, woken;
    int cancel_after;
};

static void on_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct watcher *w = ctx;
    assert_true(done >= w->done && done <= size);
    w->done = done;
    w->size = size;
    if (++w->calls == (uint64_t)w->cancel_after)
        w->cancel = true;
}

static void on_wait(void *ctx, int ms)
{
    struct watcher *w = ctx;
    w->waits++;
    usleep((unsigned)ms * 50);
}

static void on_wake(void *ctx)
{
    struct watcher *w = ctx;
    __atomic_fetch_add(&w->woken, 1, __ATOMIC_RELAXED);
}

/* Progress grows and never passes the size, the end wakes whoever waits, and a load that is given
 * up leaves nothing. */
static void test_progress(void **state)
{
    (void)state;
    for (int i = 0; i < 8; i++) {
        struct file f = {.short_names = false};
        struct watcher w = {.cancel_after = i / 4 ? 2 : -1};
        make_file(&f, i % 2, 200, false);
        struct rdb_load_options options = options_for(i % 4 < 2 ? 2 : 0);
        options.progress = on_progress;
        options.progress_ctx = &w;
        options.wait = on_wait;
        options.wake = on_wake;
        options.wait_ctx = &w;
        options.cancel = &w.cancel;
        options.key_delay_us = options.threads > 0 ? 2000 : 50;
        struct outcome o = load_with(&options);
        if (w.cancel_after < 0 || !w.cancel)
            assert_true(o.ok);
        else if (options.threads == 0) /* threads may have been through already */
            assert_false(o.ok);
        if (!o.ok)
            assert_int_equal(o.err.code, ERROR_CANCELLED);
        assert_int_equal(w.size, f.w.used);
        assert_true(w.calls > 1);
        assert_int_equal(w.woken, options.threads > 0 ? 1 : 0);
        rdb_writer_deinit(&f.w);
    }
}

/* Merging: either all keys are new, or those that are there give way; else nothing changes. */
static void test_merge(void **state)
{
    (void)state;
    for (int i = 0; i < 6; i++) {
        struct error err;
        struct file f = {.short_names = true};
        struct rdb_load_options options = options_for(2);
        struct rdb_load_stats stats;
        struct keyspace *ks = keyspace_new(DATABASES, true);
        make_file(&f, true, 500, false);
        assert_true(load_rdb_file(ks, path, &options, &stats, &err));
        struct digest all = {{0}}, now = {{0}};
        digest_keyspace(&all, ks);

        /* Half of the keys gone: loading the others again must refuse, or replace them. */
        uint64_t kept = 0;
        for (uint64_t k = 0; k < 500; k++) {
            char text[40];
            int n = snprintf(text, sizeof(text), "key:%llu:", (unsigned long long)k);
            struct slice key = slice_of(text, (size_t)n);
            for (int db = 0; db < DATABASES; db++) {
                struct keyref ref = {.db = &ks->dbs[db], .key = key, .hash = key_hash(key)};
                ref.entry = table_find(&ref.db->table, ref.hash, key.data, key.size);
                if (ref.entry && (i < 2 || k % 2))
                    keyref_delete(&ref);
                else
                    kept += ref.entry != NULL;
            }
        }
        struct snapshot *s = i % 2 ? snapshot_begin(ks) : NULL;
        struct digest before = {{0}};
        digest_keyspace(&before, ks);
        for (int replace = 0; replace < 2; replace++) {
            struct keyspace *beside = load_beside(ks);
            assert_true(load_rdb_file(beside, path, &options, &stats, &err));
            bool ok = load_merge(ks, beside, replace, &err);
            assert_int_equal(ok, replace || kept == 0);
            keyspace_free(beside);
            now = (struct digest){{0}};
            digest_keyspace(&now, ks);
            assert_memory_equal(&now, ok ? &all : &before, sizeof(now));
            if (!ok)
                assert_int_equal(err.code, ERROR_EXISTS);
            for (int db = 0; db < DATABASES; db++)
                table_check(&ks->dbs[db].table, &ks->epoch);
        }
        assert_int_equal(kept > 0, i >= 2);
        if (s)
            snapshot_end(ks, s);
        keyspace_free(ks);
        rdb_writer_deinit(&f.w);
    }
}

static int begin_test(void **state)
{
    (void)state;
    random_state = seed;
    printf("  HF_SEED=%lu\n", seed);
    return 0;
}

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/hf-test-load-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/dump.rdb", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const char *given = getenv("HF_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_equal, begin_test),
        cmocka_unit_test_setup(test_damage, begin_test),
        cmocka_unit_test_setup(test_reads_fail, begin_test),
        cmocka_unit_test_setup(test_cold, begin_test),
        cmocka_unit_test_setup(test_stream, begin_test),
        cmocka_unit_test_setup(test_stream_huge, begin_test),
        cmocka_unit_test_setup(test_stream_damage, begin_test),
        cmocka_unit_test_setup(test_stream_claims, begin_test),
        cmocka_unit_test_setup(test_index_lies, begin_test),
        cmocka_unit_test_setup(test_index_field, begin_test),
        cmocka_unit_test_setup(test_twice, begin_test),
        cmocka_unit_test_setup(test_member_twice, begin_test),
        cmocka_unit_test_setup(test_progress, begin_test),
        cmocka_unit_test_setup(test_merge, begin_test),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
