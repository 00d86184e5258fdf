/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Whole directories of the log with something changed in them: a manifest, a base of either form,
 * an incremental that was closed, and one that was not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/log.h"
#include "base/mem.h"
#include "keyspace/keyspace.h"
#include "log_bytes.h"
#include "os/file.h"
#include "persist/log/recovery.h"
#include "persist/save_job.h"
#include "type/string.h"
#include "unit/random.h"

#define NAME "a.aof"
#define FILES 4 /* manifest, base, two incrementals */
#define BEGIN_LSN 5000
/* Of the manifest: "#HF1 <crc>\n". Without it it is one of redis-server's, which names the same. */
#define LAST_LINE 14

static char directory[64];

struct file {
    char path[640];
    char *data;
    size_t size;
};

struct sample {
    struct file files[FILES];
    struct text want; /* what is executed of it, whole */
    size_t last_group; /* where the last file's last group begins */
};

static void add_keys(struct keyspace *ks, int count)
{
    for (int i = 0; i < count; i++) {
        char name[40];
        struct keyref ref;
        int n =
            snprintf(name, sizeof(name), "key:%d:%016llx", i, (unsigned long long)random_bits());
        const struct slice key = slice_of(name, (size_t)n);
        keyref_find(&ref, &ks->dbs[0], key, key_hash(key));
        string_set(&ref, key, ENTRY_NO_EXPIRY);
    }
}

/* A base of a few keys, of BEGIN_LSN. */
static void put_base(const char *path, bool commands, int keys)
{
    struct keyspace *ks = keyspace_new(16, false);
    struct save_options o = {.version = RDB_VERSION_DEFAULT,
                             .checksum = true,
                             .threads = 1,
                             .commands = commands,
                             .at = {.lsn = BEGIN_LSN},
                             .aux_count = 2};
    struct save_result result;
    struct error err;
    add_keys(ks, keys);
    assert_true(snprintf(o.path, sizeof(o.path), "%s", path) < (int)sizeof(o.path));
    snprintf(o.at.history, sizeof(o.at.history), "%s", LOG_HISTORY);
    snprintf(o.aux[0].name, sizeof(o.aux[0].name), "repl-id");
    snprintf(o.aux[0].value, sizeof(o.aux[0].value), "%s", LOG_HISTORY);
    snprintf(o.aux[1].name, sizeof(o.aux[1].name), "repl-offset");
    snprintf(o.aux[1].value, sizeof(o.aux[1].value), "%d", BEGIN_LSN);
    assert_true(save_job_finish(save_job_run(ks, snapshot_begin(ks), &o), &result, &err));
    keyspace_free(ks);
}

/* As `always` writes them. */
static void add_groups(struct log_bytes *l, int count, size_t most)
{
    char *value = mem_alloc(most + 1);
    for (int i = 0; i < count; i++) {
        uint64_t durable = l->lsn;
        log_group_begin(l);
        for (uint64_t k = 0; k <= random_below(3); k++) {
            size_t size = random_below(most + 1);
            for (size_t at = 0; at < size; at++)
                value[at] = (char)random_bits();
            const struct slice argv[3] = {SLICE("SET"), SLICE("k"), slice_of(value, size)};
            log_request(l, 3, argv);
        }
        log_commit_durable(l, 1000 + i, durable);
    }
    mem_free(value);
}

static void keep_file(struct file *f, const char path[640])
{
    struct error err;
    memcpy(f->path, path, sizeof(f->path));
    assert_true(os_file_read_whole(path, 64 << 20, &f->data, &f->size, &err));
}

static void remove_name(void *ctx, const char *name)
{
    struct error err;
    char path[400];
    (void)ctx;
    snprintf(path, sizeof(path), "%s/%s", directory, name);
    os_unlink(path, &err);
}

static void put_back(const struct sample *s)
{
    struct error err;
    assert_true(os_dir_list(directory, remove_name, NULL, &err));
    for (int i = 0; i < FILES; i++)
        assert_true(os_file_replace(s->files[i].path, s->files[i].data, s->files[i].size, &err));
}

static bool save_no_base(void *ctx, const char *path, uint64_t lsn, const char *history,
                         struct error *err)
{
    (void)ctx;
    (void)lsn;
    (void)history;
    return error_set(err, ERROR_INVALID, "%s is not to be made", path);
}

static bool run(struct text *executed, bool cut_torn, struct recovery_result *result)
{
    static char new_history[] = "fedcba98765432100123456789abcdef01234567";
    struct keyspace *ks = keyspace_new(16, false);
    struct error err = {0};
    const struct recovery_options options = {
        .directory = directory,
        .filename = NAME,
        .rdb_path = "/nonexistent/dump.rdb",
        .cut_torn = cut_torn,
        .rdb = {.checksum = true},
        .now_ms = 1790000000000,
        .new_history = new_history,
        .execute = log_execute_as_text,
        .save_base = save_no_base,
        .ctx = executed,
    };
    text_clear(executed);
    bool ok = recovery_run(ks, &options, result, &err);
    assert_true(ok || err.message[0] != '\0');
    keyspace_free(ks);
    return ok;
}

static void make_sample(struct sample *s, bool commands, int scale)
{
    struct manifest m;
    struct error err;
    char path[FILES][640];
    *s = (struct sample){0};
    assert_true(os_dir_list(directory, remove_name, NULL, &err));
    manifest_init(&m);
    snprintf(path[0], sizeof(path[0]), "%s/" NAME ".manifest", directory);
    snprintf(path[1], sizeof(path[1]), "%s/%s", directory,
             manifest_add_base(&m, NAME, !commands)->name);
    put_base(path[1], commands, 3 * scale);
    struct log_bytes l = {.lsn = BEGIN_LSN};
    for (int i = 2; i < FILES; i++) {
        text_clear(&l.text);
        snprintf(path[i], sizeof(path[i]), "%s/%s", directory,
                 manifest_add_incremental(&m, NAME)->name);
        log_begin(&l, 999);
        add_groups(&l, 3 * scale, scale == 1 ? 9 : 2000);
        s->last_group = l.text.size;
        add_groups(&l, 1, scale == 1 ? 9 : 2000);
        if (i + 1 < FILES)
            log_close_durable(&l, 2000);
        assert_true(os_file_replace(path[i], l.text.data, l.text.size, &err));
    }
    assert_true(manifest_write(&m, directory, NAME, &err));
    for (int i = 0; i < FILES; i++)
        keep_file(&s->files[i], path[i]);
    manifest_free(&m);
    text_free(&l.text);
    struct recovery_result result;
    assert_true(run(&s->want, true, &result));
    assert_int_equal(result.rdb_keys, commands ? 0 : 3 * scale);
    manifest_free(&result.manifest);
}

static void free_sample(struct sample *s)
{
    for (int i = 0; i < FILES; i++)
        mem_free(s->files[i].data);
    text_free(&s->want);
}

/* One of the files with other bytes: changed at an offset, and as it was from `same` bytes before
 * its end on. Never is it loaded but as what is before a torn end, which is reported, and behind
 * which nothing is that was synced; nor that, if it is not to be. What is not loaded is not changed
 * on disk either. */
static void check_changed(const struct sample *s, int which, size_t at, size_t same,
                          const char *data, size_t size, struct text *got)
{
    struct recovery_result result;
    struct error err;
    const struct file *f = &s->files[which];
    put_back(s);
    assert_true(os_file_replace(f->path, data, size, &err));
    if (run(got, false, &result))
        fail_msg("%s, offset %zu, %zu of %zu bytes: not seen", f->path, at, size, f->size);
    for (int i = 0; i < FILES; i++) {
        char *now;
        size_t now_size;
        assert_true(os_file_read_whole(s->files[i].path, 64 << 20, &now, &now_size, &err));
        assert_int_equal(now_size, i == which ? size : s->files[i].size);
        assert_memory_equal(now, i == which ? data : s->files[i].data, now_size);
        mem_free(now);
    }
    if (!run(got, true, &result))
        return;
    manifest_free(&result.manifest);
    bool begins = got->size <= s->want.size && memcmp(got->data, s->want.data, got->size) == 0;
    if (which != FILES - 1 || result.cut_bytes == 0 || !begins)
        fail_msg("%s, offset %zu: loaded, %zu bytes of %zu executed, %llu cut off", f->path, at,
                 got->size, s->want.size, (unsigned long long)result.cut_bytes);
    if (at < s->last_group && same >= f->size - s->last_group)
        fail_msg("%s, offset %zu: %llu bytes cut off", f->path, at,
                 (unsigned long long)result.cut_bytes);
}

/* A flipped bit in each byte of a small log: seen, wherever it is. (HF_LONG: each bit.) */
static void test_every_byte(void **state)
{
    (void)state;
    struct sample s;
    struct text got = {0};
    bool each = getenv("HF_LONG") != NULL;
    for (int commands = 0; commands < 2; commands++) {
        make_sample(&s, commands == 1, 1);
        for (int which = 0; which < FILES; which++) {
            struct file *f = &s.files[which];
            char *data = mem_dup(f->data, f->size);
            for (size_t bit = 0; bit < 8 * f->size; bit += each ? 1 : 8) {
                size_t at = bit / 8, of = each ? bit % 8 : random_below(8);
                data[at] = (char)(data[at] ^ 1 << of);
                check_changed(&s, which, at, f->size - at - 1, data, f->size, &got);
                data[at] = f->data[at];
            }
            mem_free(data);
        }
        free_sample(&s);
    }
    text_free(&got);
}

/* A manifest that is cut off anywhere. */
static void test_manifest_cut(void **state)
{
    (void)state;
    struct sample s;
    struct text got = {0};
    make_sample(&s, false, 1);
    for (size_t size = 0; size < s.files[0].size - LAST_LINE; size++)
        check_changed(&s, 0, size, 0, s.files[0].data, size, &got);
    free_sample(&s);
    text_free(&got);
}

/* Changes at random of a larger one: bytes overwritten, zeroed, left out, put in, exchanged. */
static void test_random_damage(void **state)
{
    (void)state;
    struct sample s;
    struct text got = {0};
    int rounds = getenv("HF_LONG") != NULL ? 2000 : 60;
    for (int commands = 0; commands < 2; commands++) {
        make_sample(&s, commands == 1, 100);
        for (int i = 0; i < rounds; i++) {
            int which = (int)random_below(FILES);
            const struct file *f = &s.files[which];
            size_t at = random_below(f->size), size = 1 + random_below(5000), end = f->size;
            if (size > f->size - at)
                size = f->size - at;
            size_t behind = f->size - at - size;
            char *data = mem_alloc(f->size + size);
            memcpy(data, f->data, f->size);
            switch (random_below(5)) {
            case 0:
                for (size_t k = 0; k < size; k++)
                    data[at + k] = (char)random_bits();
                break;
            case 1:
                memset(data + at, 0, size);
                break;
            case 2: /* from there on all is earlier */
                memmove(data + at, data + at + size, f->size - at - size);
                end = f->size - size;
                break;
            case 3:
                memmove(data + at + size, f->data + at, f->size - at);
                behind = f->size - at;
                end = f->size + size;
                at += size;
                break;
            default:
                for (size_t k = 0; k < size / 2; k++) {
                    char one = data[at + k];
                    data[at + k] = data[at + size - 1 - k];
                    data[at + size - 1 - k] = one;
                }
            }
            /* A last file that ends with a group is one that was killed there. */
            bool same = end == f->size && memcmp(data, f->data, end) == 0;
            bool shorter = end < f->size && memcmp(data, f->data, end) == 0 &&
                           (which == FILES - 1 || (which == 0 && end + LAST_LINE == f->size));
            /* What stands behind the checksum of an RDB file is not of it. */
            bool longer = end > f->size && memcmp(data, f->data, f->size) == 0 && which == 1;
            if (!same && !shorter && !longer)
                check_changed(&s, which, at, behind, data, end, &got);
            mem_free(data);
        }
        free_sample(&s);
    }
    text_free(&got);
}

static int set_up(void **state)
{
    (void)state;
    random_begin();
    log_set_level(LOG_LEVEL_NOTHING);
    snprintf(directory, sizeof(directory), "%s/hf-damaged-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    return mkdtemp(directory) != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    struct error err;
    assert_true(os_dir_list(directory, remove_name, NULL, &err));
    return rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_byte),
        cmocka_unit_test(test_manifest_cut),
        cmocka_unit_test(test_random_damage),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
