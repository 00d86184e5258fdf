/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/record.h"

#include <liblzf/lzf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/hash.h"
#include "base/mem.h"

#define RECORDS                                                                                    \
    "REDIS0010"                                                                                    \
    "\xfa\x05" "ctime" "\xc0\x07"                       /* a field whose value is a number */      \
    "\xfe\x03"                                          /* database 3 */                           \
    "\xfb\x03\x01"                                      /* three keys, one with an expiry */       \
    "\xfc\x10\0\0\0\0\0\0\0" "\xf8\x05" "\x00\x01" "a" "\x02" "vv" /* at offset 24 */              \
    "\xf9\x09" "\x04\x01" "h" "\x01" "\x01" "f" "\xc1\x01\x02"     /* at offset 40 */              \
    "\x12\x01" "l" "\x01\x01\x03" "xyz"                 /* at offset 50: a quicklist of one */

/* Every kind of record, in order, with what it says; values are passed over. */
static void test_records(void **state)
{
    (void)state;
    static const char bytes[] = RECORDS "\xff\0\0\0\0\0\0\0\0";
    struct error err;
    struct rdb_reader r;
    struct rdb_records it;
    struct rdb_record record;
    rdb_reader_init_memory(&r, bytes, sizeof(bytes) - 1, &err);
    assert_true(rdb_records_begin(&it, &r));
    assert_int_equal(it.version, 10);
    assert_true(rdb_records_next(&it, &record));
    assert_int_equal(record.kind, RDB_RECORD_AUX);
    assert_true(slice_equal(record.key, SLICE("ctime")) &&
                slice_equal(record.value.bytes, SLICE("7")));
    assert_true(rdb_records_next(&it, &record));
    assert_int_equal(record.kind, RDB_RECORD_SELECT);
    assert_int_equal(record.db, 3);
    assert_true(rdb_records_next(&it, &record));
    assert_int_equal(record.kind, RDB_RECORD_RESIZE);
    assert_int_equal(record.keys, 3);
    assert_int_equal(record.expires, 1);

    assert_true(rdb_records_next(&it, &record));
    assert_int_equal(record.kind, RDB_RECORD_KEY);
    uint64_t offset = record.offset;
    assert_true(slice_equal(record.key, SLICE("a")) && record.db == 3 && record.type == RDB_STRING);
    assert_true(record.due == 16 && record.has_idle && record.idle == 5 && record.frequency == -1);
    assert_true(rdb_skip_value(&r, record.type));
    assert_true(rdb_records_next(&it, &record));
    assert_true(slice_equal(record.key, SLICE("h")) && record.type == RDB_HASH);
    assert_true(record.due == ENTRY_NO_EXPIRY && !record.has_idle && record.frequency == 9);
    assert_true(rdb_skip_value(&r, record.type));
    assert_true(rdb_records_next(&it, &record));
    assert_true(slice_equal(record.key, SLICE("l")) && rdb_entry_type(record.type) == ENTRY_LIST);
    assert_true(rdb_skip_value(&r, record.type));
    assert_true(rdb_records_next(&it, &record));
    assert_int_equal(record.kind, RDB_RECORD_END);
    assert_false(record.summed);
    rdb_records_end(&it);
    rdb_reader_deinit(&r);

    /* One key again, at its offset. */
    rdb_reader_init_memory(&r, bytes + offset, sizeof(bytes) - 1 - offset, &err);
    rdb_records_resume(&it, &r, 10, 3);
    assert_true(rdb_records_next(&it, &record));
    assert_true(slice_equal(record.key, SLICE("a")) && record.due == 16 && record.db == 3);
    rdb_records_end(&it);
    rdb_reader_deinit(&r);
}

/* A file that ends anywhere too early is refused, also where values are only passed over. */
static void test_cuts(void **state)
{
    (void)state;
    static const char bytes[] = RECORDS "\xff\0\0\0\0\0\0\0\0";
    for (size_t size = 0; size < sizeof(bytes) - 1; size++) {
        struct error err;
        struct rdb_reader r;
        struct rdb_records it;
        struct rdb_record record = {0};
        rdb_reader_init_memory(&r, bytes, size, &err);
        bool ok = rdb_records_begin(&it, &r);
        while (ok && record.kind != RDB_RECORD_END) {
            ok = rdb_records_next(&it, &record);
            if (ok && record.kind == RDB_RECORD_KEY)
                ok = rdb_skip_value(&r, record.type);
        }
        assert_false(ok);
        assert_non_null(strstr(err.message, "offset "));
        rdb_records_end(&it);
        rdb_reader_deinit(&r);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t write_value(struct rdb_writer *w, uint64_t *random, bool compressible)
{
    char value[200];
    size_t before = w->used;
    for (size_t i = 0; i < sizeof(value); i++)
        value[i] = compressible ? 'x' : (char)next_random(random);
    rdb_write_string(w, slice_of(value, sizeof(value)));
    return w->used - before;
}

/* Strings that do not compress are soon taken as they are; what compresses among them is found
 * again after a bounded number of strings and from then on always compressed; other sizes are not
 * affected; and after rdb_writer_forget_luck the same strings give the same bytes. */
static void test_compression_luck(void **state)
{
    (void)state;
    struct rdb_writer w;
    uint64_t random = 88172645463325252U;
    rdb_writer_init(&w, 1 << 20, NULL, NULL);
    w.compress = true;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(write_value(&w, &random, false), 202);
    int missed = 0;
    while (write_value(&w, &random, true) == 202)
        missed++;
    assert_true(missed > 0 && missed <= RDB_LZF_SKIP_MOST);
    for (int i = 0; i < 100; i++) {
        assert_true(write_value(&w, &random, true) < 100);
        if (i % 2)
            assert_int_equal(write_value(&w, &random, false), 202);
    }
    for (int i = 0; i < 100; i++)
        write_value(&w, &random, false);
    size_t before = w.used;
    rdb_write_string(&w, SLICE("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    assert_true(w.used - before < 20);
    rdb_writer_forget_luck(&w);
    assert_true(write_value(&w, &random, true) < 100);
    rdb_writer_deinit(&w);
}

static uint64_t long_seed;

/* What a stretch of a string looks like: noise, words, or the same byte over and over. */
static void fill_stretch(char *p, size_t size, unsigned kind)
{
    if (kind == 2)
        memset(p, 0, size);
    for (size_t at = 0; kind != 2 && at < size; at++)
        p[at] = kind == 0 ? (char)next_random(&long_seed)
                          : "the words of a text "[(at + next_random(&long_seed) % 3) % 20];
}

/* Long strings are read back as they were, whatever their stretches are like, compressed or not;
 * what compresses does so nearly as well as in one piece, and what does not is not made longer. */
static void test_long_strings(void **state)
{
    (void)state;
    long_seed = getenv("HF_SEED") ? strtoull(getenv("HF_SEED"), NULL, 10) : (uint64_t)time(NULL);
    fprintf(stderr, "HF_SEED=%llu\n", (unsigned long long)long_seed);
    size_t most = 3U << 20;
    char *text = mem_alloc(most), *packed = mem_alloc(most);
    for (int round = 0; round < 30; round++) {
        size_t size =
            RDB_PIECE * (1 + next_random(&long_seed) % 8) + next_random(&long_seed) % 5 - 2;
        if (round % 3 == 0)
            size = RDB_PIECE + next_random(&long_seed) % (most - RDB_PIECE);
        /* which of the three may occur */
        unsigned kinds = 1 + (unsigned)next_random(&long_seed) % 7;
        for (size_t at = 0; at < size;) {
            size_t stretch = 1 + next_random(&long_seed) % 600000;
            unsigned kind = (unsigned)next_random(&long_seed) % 3;
            stretch = stretch < size - at ? stretch : size - at;
            fill_stretch(text + at, stretch, kinds >> kind & 1 ? kind : (kinds & 1 ? 0 : 2));
            at += stretch;
        }
        struct rdb_writer w;
        struct rdb_reader r;
        struct rdb_string back;
        size_t whole = lzf_compress(text, (unsigned)size, packed, (unsigned)most);
        struct error err = {0};
        rdb_writer_init(&w, 100, NULL, NULL);
        w.compress = round % 4 != 0;
        rdb_write_string(&w, slice_of(text, size));
        assert_int_equal(w.data_size, size);
        assert_true(w.used <= size + 9);
        if (!w.compress)
            assert_int_equal(w.used, size + 5);
        else if (!(kinds & 1))
            assert_true(w.used <= whole + whole / 20 + 20);
        rdb_reader_init_memory(&r, w.buffer, w.used, &err);
        assert_true(rdb_read_string(&r, &back));
        assert_int_equal(rdb_reader_left(&r), 0);
        assert_int_equal(back.bytes.size, size);
        assert_memory_equal(back.bytes.data, text, size);
        rdb_reader_deinit(&r);
        rdb_writer_deinit(&w);
    }
    mem_free(packed);
    mem_free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_records),
        cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_compression_luck),
        cmocka_unit_test(test_long_strings),
    };
    hash_key_init(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
