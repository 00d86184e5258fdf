/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/manifest.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_bytes.h"
#include "os/file.h"

static bool parses(const char *text)
{
    struct manifest m;
    struct error err = {0};
    if (!manifest_parse(&m, slice_cstr(text), &err)) {
        assert_int_equal(err.code, ERROR_CORRUPT);
        assert_true(err.message[0] != '\0');
        return false;
    }
    manifest_free(&m);
    return true;
}

static void expect_file(const struct manifest *m, size_t i, const char *name, uint64_t seq,
                        enum manifest_type type)
{
    assert_true(i < m->count);
    assert_string_equal(m->files[i].name, name);
    assert_int_equal(m->files[i].seq, seq);
    assert_int_equal(m->files[i].type, type);
}

/* A manifest as redis-server 7.0 writes it, in the midst of a rewrite. */
static void test_of_redis(void **state)
{
    (void)state;
    struct manifest m;
    struct error err = {0};
    assert_true(manifest_parse(&m,
                               SLICE("file appendonly.aof.2.base.rdb seq 2 type b\n"
                                     "file appendonly.aof.1.base.rdb seq 1 type h\n"
                                     "file appendonly.aof.3.incr.aof seq 3 type h\n"
                                     "file appendonly.aof.4.incr.aof seq 4 type i\n"
                                     "file \"append \\\"x.aof.5.incr.aof\" seq 5 type i\n"),
                               &err));
    assert_false(m.ours);
    assert_int_equal(m.count, 5);
    assert_string_equal(manifest_base(&m)->name, "appendonly.aof.2.base.rdb");
    expect_file(&m, 1, "appendonly.aof.1.base.rdb", 1, MANIFEST_HISTORY);
    expect_file(&m, 2, "appendonly.aof.3.incr.aof", 3, MANIFEST_HISTORY);
    expect_file(&m, 3, "appendonly.aof.4.incr.aof", 4, MANIFEST_INCREMENTAL);
    expect_file(&m, 4, "append \"x.aof.5.incr.aof", 5, MANIFEST_INCREMENTAL);
    assert_int_equal(m.base_seq, 2);
    assert_int_equal(m.incremental_seq, 5);
    manifest_free(&m);
}

/* Comments, other orders of the words, and what later versions add are read; what is not a manifest
 * is refused with its line. */
static void test_forms(void **state)
{
    (void)state;
    assert_true(parses("# by hand\nseq 1 file a.aof type i\n"));
    assert_true(parses("file a.aof seq 1 type i startoffset 17\n"));
    static const char *const bad[] = {
        "",
        "# only a comment\n",
        "file a.aof seq 1 type i",
        "\nfile a.aof seq 1 type i\n",
        "file a.aof seq 0 type i\n",
        "file a.aof seq x type i\n",
        "file a.aof seq 1 type x\n",
        "file a.aof seq 1 type ib\n",
        "file a.aof seq 1 type \"\"\n",
        "file a.aof seq 1 type\n",
        "file a.aof type i\n",
        "seq 1 type i\n",
        "file \"\" seq 1 type i\n",
        "file ../a.aof seq 1 type i\n",
        "file .. seq 1 type i\n",
        "file \"a seq 1 type i\n",
        "file \"a\\x00b\" seq 1 type i\n",
        "file a.aof seq 1 type i colour red\n",
        "file a.aof seq 1 type b\nfile b.aof seq 2 type b\n",
        "file a.aof seq 2 type i\nfile b.aof seq 2 type i\n",
        "file a.aof seq 1 type i\nfile a.aof seq 2 type i\n",
        "file a.aof seq 1 type i\n#HF1 00000000\n",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (parses(bad[i]))
            fail_msg("accepted: %s", bad[i]);
    }
    struct manifest m;
    struct error err = {0};
    assert_false(manifest_parse(&m, SLICE("file a.aof seq 1 type i\nfile b.aof\n"), &err));
    assert_non_null(strstr(err.message, "line 2"));
}

/* Names and numbers are given out in order, never twice, and a new base makes the old one
 * history. */
static void test_changes(void **state)
{
    (void)state;
    struct manifest m;
    manifest_init(&m);
    assert_null(manifest_base(&m));
    manifest_add_base(&m, "a.aof", true);
    manifest_add_incremental(&m, "a.aof");
    manifest_add_incremental(&m, "a.aof");
    manifest_add_base(&m, "a.aof", false);
    expect_file(&m, 0, "a.aof.2.base.aof", 2, MANIFEST_BASE);
    expect_file(&m, 1, "a.aof.1.base.rdb", 1, MANIFEST_HISTORY);
    manifest_retire_before(&m, 2);
    expect_file(&m, 2, "a.aof.1.incr.aof", 1, MANIFEST_HISTORY);
    expect_file(&m, 3, "a.aof.2.incr.aof", 2, MANIFEST_INCREMENTAL);

    struct manifest copy;
    assert_true(manifest_copy(&copy, &m));
    manifest_drop_history(&m);
    assert_int_equal(m.count, 2);
    assert_int_equal(copy.count, 4);
    assert_true(manifest_same_log(&m, &copy) && manifest_same_log(&copy, &m));
    manifest_drop_history(&copy);
    manifest_retire_before(&copy, 3);
    assert_false(manifest_same_log(&m, &copy) || manifest_same_log(&copy, &m));
    manifest_drop_history(&copy);
    assert_int_equal(copy.count, 1);
    assert_string_equal(manifest_add_incremental(&copy, "a.aof")->name, "a.aof.3.incr.aof");
    manifest_free(&copy);
    manifest_free(&m);
}

static void example(struct manifest *m)
{
    manifest_init(m);
    manifest_add_base(m, "append only.aof", true);
    manifest_add_incremental(m, "append only.aof");
    manifest_add_base(m, "append only.aof", true);
    manifest_add_incremental(m, "append only.aof");
}

/* What is written is read back, with its checksum. */
static void test_round_trip(void **state)
{
    (void)state;
    struct manifest m, read;
    struct error err = {0};
    example(&m);
    struct text text = {0}, again = {0};
    manifest_format(&m, &text);
    assert_true(manifest_parse(&read, text_slice(&text), &err));
    assert_true(read.ours);
    assert_int_equal(read.count, m.count);
    assert_int_equal(read.base_seq, 2);
    assert_int_equal(read.incremental_seq, 2);
    manifest_format(&read, &again);
    assert_string_equal(text_cstr(&again), text_cstr(&text));
    manifest_free(&read);
    manifest_free(&m);
    text_free(&text);
    text_free(&again);
}

/* No changed bit, and no missing end, leaves a manifest of ours that is taken for whole. */
static void test_damage(void **state)
{
    (void)state;
    struct manifest m;
    struct error err = {0};
    example(&m);
    struct text text = {0};
    manifest_format(&m, &text);
    manifest_free(&m);
    for (size_t bit = 0; bit < 8 * text.size; bit++) {
        text.data[bit / 8] = (char)(text.data[bit / 8] ^ 1 << bit % 8);
        if (manifest_parse(&m, text_slice(&text), &err))
            fail_msg("bit %zu", bit);
        text.data[bit / 8] = (char)(text.data[bit / 8] ^ 1 << bit % 8);
    }
    /* Cut at an end of line it looks like one of Redis's: what is beside it tells
     * (test_damaged.c). */
    for (size_t size = 0; size < text.size; size++) {
        if (size > 0 && text.data[size - 1] == '\n')
            continue;
        assert_false(manifest_parse(&m, slice_of(text.data, size), &err));
    }
    text_free(&text);
}

/* On disk: written, read, missing, damaged; errors name the path. */
static void test_files(void **state)
{
    (void)state;
    char dir[] = "/tmp/hf-manifest-XXXXXX";
    assert_non_null(mkdtemp(dir));
    struct manifest m, read;
    struct error err = {0};
    assert_false(manifest_read(&read, dir, "a.aof", &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "a.aof.manifest"));
    example(&m);
    assert_true(manifest_write(&m, dir, "a.aof", &err));
    assert_true(manifest_read(&read, dir, "a.aof", &err));
    assert_int_equal(read.count, m.count);
    manifest_free(&read);
    manifest_free(&m);
    char path[128];
    snprintf(path, sizeof(path), "%s/a.aof.manifest", dir);
    assert_true(os_file_replace(path, "x\n", 2, &err));
    assert_false(manifest_read(&read, dir, "a.aof", &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_non_null(strstr(err.message, path));
    assert_true(os_unlink(path, &err));
    assert_int_equal(rmdir(dir), 0);
}

/* A manifest without a checksum does not name the newest incremental: it has lost its end if that
 * has effects, but not when it was only begun, whatever was written ahead. */
static void test_newest_not_named(void **state)
{
    (void)state;
    char dir[] = "/tmp/hf-manifest-XXXXXX", path[128], other[128];
    char select[ANNOTATION_SELECT_GROUP_MAX], filling[4096];
    static const char manifest[] = "file a.aof.1.incr.aof seq 1 type i\n";
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/a.aof.manifest", dir);
    snprintf(other, sizeof(other), "%s/a.aof.2.incr.aof", dir);
    struct manifest read;
    struct error err = {0};
    assert_true(os_file_replace(path, manifest, sizeof(manifest) - 1, &err));
    struct log_bytes l = {.lsn = 100, .crc = 0x12345678};
    log_begin(&l, 1000);
    assert_true(os_file_replace(other, l.text.data, l.text.size, &err));
    assert_true(manifest_read(&read, dir, "a.aof", &err));
    manifest_free(&read);
    text_append(&l.text, select, annotation_put_select(100, 1001, 11, &l.crc, select));
    l.summed = l.text.size;
    assert_true(l.text.size > ANNOTATION_MAX);
    size_t begun = l.text.size;
    annotation_fill(begun, filling, sizeof(filling));
    text_append(&l.text, filling, sizeof(filling));
    assert_true(os_file_replace(other, l.text.data, l.text.size, &err));
    assert_true(manifest_read(&read, dir, "a.aof", &err));
    manifest_free(&read);
    l.text.size = l.summed = begun;
    log_group_begin(&l);
    log_command(&l, "SET k v");
    log_commit_durable(&l, 1002, 100);
    assert_true(os_file_replace(other, l.text.data, l.text.size, &err));
    assert_false(manifest_read(&read, dir, "a.aof", &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_non_null(strstr(err.message, other));
    text_free(&l.text);
    assert_true(os_unlink(path, &err));
    assert_true(os_unlink(other, &err));
    assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_of_redis), cmocka_unit_test(test_forms),
        cmocka_unit_test(test_changes),  cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_damage),   cmocka_unit_test(test_files),
        cmocka_unit_test(test_newest_not_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
