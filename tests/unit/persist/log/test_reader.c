/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_bytes.h"
#include "os/file.h"

static char path[64];
static struct log_batch batch;
static uint64_t seed;

static uint64_t next_random(void)
{
    uint64_t z = (seed += 0x9e3779b97f4a7c15ULL);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static void write_file(const char *data, size_t size)
{
    struct os_file f;
    struct error err;
    /* Not truncated first: file systems take that for a replacement, to be synced. */
    assert_true(os_file_open(&f, path, OS_OPEN_WRITE, &err));
    if (size > 0)
        assert_true(os_file_write_at(&f, 0, data, size, &err));
    assert_true(os_file_truncate(&f, size, &err));
    assert_true(os_file_close(&f, &err));
}

/* What a file gives: all arguments, each followed by a blank, each group by a newline. */
struct reading {
    enum log_read end;
    struct log_status status;
    struct text text;
};

static void read_from(struct reading *r, const struct log_position *start)
{
    struct error err = {0};
    text_clear(&r->text);
    struct log_reader *reader = log_reader_open(path, 0, start, &err);
    assert_non_null(reader);
    while ((r->end = log_reader_next(reader, &batch, &err)) == LOG_READ_GROUPS) {
        assert_true(batch.group_count > 0);
        for (size_t g = 0; g < batch.group_count; g++) {
            const struct log_group *group = &batch.groups[g];
            for (size_t i = 0; i < group->command_count; i++) {
                const struct log_command *c = &batch.commands[group->first_command + i];
                for (size_t a = 0; a < c->argc; a++) {
                    const struct slice *s = &batch.args[c->first_arg + a];
                    text_append(&r->text, s->data, s->size);
                    text_append_cstr(&r->text, " ");
                }
            }
            text_append_cstr(&r->text, "\n");
        }
    }
    r->status = *log_reader_status(reader);
    log_reader_close(reader);
}

static void read_bytes(struct reading *r, const char *data, size_t size)
{
    static const struct log_position none = {0};
    write_file(data, size);
    read_from(r, &none);
}

static bool begins_with(const struct text *text, const struct text *begin)
{
    return begin->size <= text->size &&
           (begin->size == 0 || memcmp(text->data, begin->data, begin->size) == 0);
}

/* A log of a few groups, one with a transaction, closed in order. */
static void small_log(struct log_bytes *l)
{
    *l = (struct log_bytes){.lsn = 100, .crc = 0x12345678};
    log_begin(l, 1000);
    log_group_begin(l);
    log_command(l, "SELECT 0");
    log_command(l, "SET k v");
    log_group_end(l, 1001);
    log_group_begin(l);
    log_command(l, "MULTI");
    log_command(l, "INCR n");
    log_command(l, "DEL k \"\"");
    log_command(l, "EXEC");
    log_group_end(l, 1002);
    l->lsn += 7; /* something for replicas alone */
    log_group_begin(l);
    log_command(l, "RPUSH l \"#HF1 \\r\\n*1\\r\\n\"");
    log_group_end(l, 1003);
    log_close(l, 1004);
}

/* As it is written today: two groups that are synced together, and said to be by a mark; a third
 * one, and the end. */
static void synced_log(struct log_bytes *l)
{
    *l = (struct log_bytes){.lsn = 100, .crc = 0x12345678};
    log_begin(l, 1000);
    log_group_begin(l);
    log_command(l, "SET k v");
    log_commit_durable(l, 1001, 100);
    log_group_begin(l);
    log_command(l, "SET l w");
    log_commit_durable(l, 1002, 100);
    log_commit_durable(l, 1500, l->lsn);
    uint64_t durable = l->lsn;
    log_group_begin(l);
    log_command(l, "INCR n");
    log_commit_durable(l, 1600, durable);
    log_close_durable(l, 1700);
}

/* Groups come with their offsets, LSNs and times, and the arguments as they were. */
static void test_groups(void **state)
{
    (void)state;
    struct log_bytes l;
    struct error err = {0};
    small_log(&l);
    write_file(l.text.data, l.text.size);
    struct log_position start = {.lsn = 90, .crc = 0x12345678, .known = true};
    struct log_reader *r = log_reader_open(path, 0, &start, &err);
    assert_non_null(r);
    assert_int_equal(log_reader_next(r, &batch, &err), LOG_READ_GROUPS);
    assert_int_equal(batch.group_count, 3);
    assert_int_equal(batch.command_count, 7);
    const struct log_group *g = batch.groups;
    assert_int_equal(g[0].ms, 1001);
    assert_int_equal(g[0].lsn, 100 + 23 + 27);
    assert_int_equal(g[1].command_count, 4);
    assert_int_equal(g[1].offset, g[0].end);
    assert_int_equal(g[2].ms, 1003);
    assert_int_equal(g[2].lsn, l.lsn);
    assert_memory_equal(l.text.data + g[2].offset, "#HF1 group ", 11);
    const struct log_command *c = batch.commands;
    assert_memory_equal(l.text.data + c[1].offset, "*3\r\n$3\r\nSET", 11);
    assert_int_equal(c[0].lsn, 123);
    assert_true(c[0].unit && !c[0].control);
    assert_true(c[2].control && !c[2].unit);
    assert_true(!c[3].control && !c[3].unit);
    assert_true(c[5].control && c[5].unit);
    assert_int_equal(batch.args[c[4].first_arg + 2].size, 0);
    assert_int_equal(log_reader_next(r, &batch, &err), LOG_READ_END);
    const struct log_status *s = log_reader_status(r);
    assert_true(s->annotated && s->closed && !s->foreign);
    assert_string_equal(s->log.history, LOG_HISTORY);
    assert_int_equal(s->groups, 3);
    assert_int_equal(s->commands, 7);
    assert_int_equal(s->valid_end, l.text.size);
    assert_int_equal(s->lsn, l.lsn);
    assert_int_equal(s->ms, 1004);
    assert_int_equal(s->crc, l.crc);
    log_reader_close(r);
    text_free(&l.text);
}

static void every_bit(void (*make)(struct log_bytes *l), const char *last)
{
    struct log_bytes l;
    struct reading whole = {0}, r = {0};
    make(&l);
    read_bytes(&whole, l.text.data, l.text.size);
    assert_int_equal(whole.end, LOG_READ_END);
    size_t last_commit = 0;
    for (const char *p = l.text.data; (p = strstr(p, last)) != NULL; p++)
        last_commit = (size_t)(p - l.text.data);
    for (size_t bit = 0; bit < 8 * l.text.size; bit++) {
        l.text.data[bit / 8] = (char)(l.text.data[bit / 8] ^ 1 << bit % 8);
        read_bytes(&r, l.text.data, l.text.size);
        if ((r.end != LOG_READ_TORN && r.end != LOG_READ_DAMAGED) || r.status.reason[0] == '\0')
            fail_msg("bit %zu: %d", bit, (int)r.end);
        if (!begins_with(&whole.text, &r.text))
            fail_msg("bit %zu: gave %s", bit, text_cstr(&r.text));
        /* Of what the last line says nothing bears witness; without durable LSNs, nor of the line
         * that its checksum goes on from. */
        assert_true(r.end == LOG_READ_DAMAGED || bit / 8 >= last_commit);
        l.text.data[bit / 8] = (char)(l.text.data[bit / 8] ^ 1 << bit % 8);
    }
    text_free(&l.text);
    text_free(&whole.text);
    text_free(&r.text);
}

/* A bit that is changed, wherever it is, is found, and nothing of what was changed is given. In a
 * log that was synced it is damage, and no torn end. */
static void test_every_bit(void **state)
{
    (void)state;
    every_bit(small_log, "#HF1 commit");
    every_bit(synced_log, "#HF1 close");
}

/* Three groups, of which the second was lost on its way to the disk and the third was not. The
 * third one says that so much was durable (0: nothing), so long after the others. */
static enum log_read read_with_hole(uint64_t durable, int64_t ms, struct reading *r,
                                    uint64_t *first)
{
    struct log_bytes l = {.lsn = 100, .crc = 0x12345678};
    log_begin(&l, 1000);
    log_group_begin(&l);
    log_command(&l, "SET k v");
    log_commit_durable(&l, 1001, 100);
    *first = l.lsn;
    size_t from = l.text.size;
    log_group_begin(&l);
    log_command(&l, "SET l w");
    size_t to = l.text.size;
    log_commit_durable(&l, 1002, *first);
    log_group_begin(&l);
    log_command(&l, "INCR n");
    log_commit_durable(&l, 1003, *first);
    log_group_begin(&l);
    log_command(&l, "INCR n");
    if (durable == 0)
        log_group_end(&l, ms); /* an older version: it does not say */
    else
        log_commit_durable(&l, ms, durable);
    memset(l.text.data + from, 0, to - from);
    read_bytes(r, l.text.data, l.text.size);
    assert_string_equal(text_cstr(&r->text), "SET k v \n");
    assert_int_equal(r->status.valid_end, from);
    assert_int_equal(r->status.later_groups, 2);
    text_free(&l.text);
    return r->end;
}

/* A group that is lost and was not durable, as what follows it says, is a torn end; it is damage
 * when one that follows says that more was durable, or does not say, or was written much later. */
static void test_hole_in_what_was_not_synced(void **state)
{
    (void)state;
    struct reading r = {0};
    uint64_t first;
    assert_int_equal(read_with_hole(100, 1004, &r, &first), LOG_READ_TORN);
    assert_int_equal(read_with_hole(first, 1004, &r, &first), LOG_READ_TORN);
    assert_int_equal(read_with_hole(first, 61003, &r, &first), LOG_READ_TORN);
    assert_int_equal(read_with_hole(first + 1, 1004, &r, &first), LOG_READ_DAMAGED);
    assert_int_equal(read_with_hole(first, 61004, &r, &first), LOG_READ_DAMAGED);
    assert_int_equal(read_with_hole(first, 1000, &r, &first), LOG_READ_DAMAGED);
    assert_int_equal(read_with_hole(0, 1004, &r, &first), LOG_READ_DAMAGED);
    text_free(&r.text);
}

/* Cut off at any byte: whole groups are given, what is left is a torn tail, but for a '#' alone,
 * which is as filling is. */
static void test_every_length(void **state)
{
    (void)state;
    struct log_bytes l;
    struct reading whole = {0}, r = {0};
    small_log(&l);
    read_bytes(&whole, l.text.data, l.text.size);
    size_t first_line = (size_t)(strchr(l.text.data, '\n') + 1 - l.text.data);
    size_t ends = 0;
    for (size_t size = 0; size < l.text.size; size++) {
        read_bytes(&r, l.text.data, size);
        assert_true(begins_with(&whole.text, &r.text));
        if (size >= 2 && size < first_line) {
            assert_int_equal(r.end, LOG_READ_DAMAGED);
        } else if (r.status.valid_end == size) {
            assert_int_equal(r.end, LOG_READ_END);
            ends++;
        } else {
            assert_int_equal(r.end, LOG_READ_TORN);
            assert_true(r.status.valid_end < size);
        }
    }
    /* Nothing; the first line and three groups, also with the first byte of what follows. */
    assert_int_equal(ends, 9);
    text_free(&l.text);
    text_free(&whole.text);
    text_free(&r.text);
}

/* Zeros in place of the end, or behind it, are a torn tail. */
static void test_zeros(void **state)
{
    (void)state;
    struct log_bytes l;
    struct reading whole = {0}, r = {0};
    small_log(&l);
    read_bytes(&whole, l.text.data, l.text.size);
    size_t first_line = (size_t)(strchr(l.text.data, '\n') + 1 - l.text.data);
    char *copy = mem_zalloc(l.text.size + 5000);
    memcpy(copy, l.text.data, l.text.size);
    read_bytes(&r, copy, l.text.size + 5000);
    assert_int_equal(r.end, LOG_READ_TORN);
    assert_int_equal(r.status.valid_end, l.text.size);
    for (size_t from = l.text.size - 1; from >= first_line; from--) {
        copy[from] = '\0';
        read_bytes(&r, copy, l.text.size);
        assert_int_equal(r.end, LOG_READ_TORN);
        assert_true(r.status.valid_end <= from);
        assert_true(begins_with(&whole.text, &r.text));
    }
    mem_free(copy);
    text_free(&l.text);
    text_free(&whole.text);
    text_free(&r.text);
}

/* What is behind damage in the middle is told: how many groups, from where, up to which LSN. */
static void test_behind_damage(void **state)
{
    (void)state;
    struct log_bytes l;
    struct reading r = {0};
    small_log(&l);
    char *set = strstr(l.text.data, "SET");
    set[0] = 'G';
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_DAMAGED);
    assert_int_equal(r.text.size, 0);
    /* Two groups and the close. */
    assert_int_equal(r.status.later_groups, 3);
    assert_int_equal(r.status.later_lsn, l.lsn);
    assert_int_equal(r.status.later_ms, 1004);
    assert_memory_equal(l.text.data + r.status.later_offset, "#HF1 group 150", 14);
    text_free(&l.text);
    text_free(&r.text);
}

static const char redis_file[] = "#TS:1790000000\r\n"
                                 "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
                                 "*3\r\n$3\r\nset\r\n$1\r\nk\r\n$2\r\n\0\r\r\n"
                                 "#TS:1790000005\r\n"
                                 "*1\r\n$5\r\nMULTI\r\n"
                                 "*2\r\n$4\r\nincr\r\n$1\r\nn\r\n"
                                 "*1\r\n$4\r\nEXEC\r\n";
#define REDIS_SIZE (sizeof(redis_file) - 1)

/* redis-server's files: each command or transaction is a group; times come from its notes. */
static void test_of_redis(void **state)
{
    (void)state;
    struct reading r = {0};
    read_bytes(&r, redis_file, REDIS_SIZE);
    assert_int_equal(r.end, LOG_READ_END);
    assert_false(r.status.annotated);
    assert_int_equal(r.status.groups, 3);
    assert_int_equal(r.status.ms, 1790000005000);
    assert_int_equal(r.status.lsn, REDIS_SIZE - 32);
    assert_memory_equal(r.text.data, "SELECT 0 \nset k \0\r \nMULTI incr n EXEC \n", r.text.size);
    text_free(&r.text);
}

/* Cut off at any byte they have a torn tail, which begins with the command, or with MULTI. */
static void test_of_redis_cut(void **state)
{
    (void)state;
    struct reading r = {0};
    size_t transaction = (size_t)(strstr(redis_file + 80, "*1\r\n$5") - redis_file);
    for (size_t size = 0; size < REDIS_SIZE; size++) {
        read_bytes(&r, redis_file, size);
        bool whole = r.status.valid_end == size;
        assert_int_equal(r.end, whole ? LOG_READ_END : LOG_READ_TORN);
        if (size >= transaction)
            assert_int_equal(r.status.valid_end, transaction);
        /* Zeros where the system had not yet written. */
        char zeros[REDIS_SIZE + 64] = {0};
        memcpy(zeros, redis_file, size);
        read_bytes(&r, zeros, sizeof(zeros));
        assert_int_equal(r.end, LOG_READ_TORN);
    }
    text_free(&r.text);
}

/* What redis-server would not have written is damage, where it is. */
static void test_of_redis_damaged(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        uint64_t offset;
    } cases[] = {
        {"hello\r\n", 0},
        {"*0\r\n", 0},
        {"*x\r\n", 1},
        {"*1\r\n+OK\r\n", 4},
        {"*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", 12},
        {"*1\r\n$4\r\nPING\r\nfoo", 14},
        {"*1\r\n$4\r\nEXEC\r\n", 0},
        {"*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nMULTI\r\n", 15},
        {"*1\r\n$4\r\nPING\r\n#HF1 group 0\r\n", 14},
        {"*99999999999999999999\r\n", 0},
        {"*1\r\n$99999999999999999999\r\n", 4},
    };
    struct reading r = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        read_bytes(&r, cases[i].bytes, strlen(cases[i].bytes));
        if (r.end != LOG_READ_DAMAGED || r.status.bad_offset != cases[i].offset)
            fail_msg("%zu: %d at %llu", i, (int)r.end, (unsigned long long)r.status.bad_offset);
    }
    text_free(&r.text);
}

/* redis-server has appended to a file of ours: both are read; the checksum goes on over it, so that
 * the next file of ours vouches for it. */
static void test_appended_by_redis(void **state)
{
    (void)state;
    struct log_bytes l;
    struct reading r = {0};
    small_log(&l);
    size_t ours = l.text.size;
    text_append(&l.text, redis_file, REDIS_SIZE);
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_END);
    assert_true(r.status.foreign && !r.status.closed);
    assert_int_equal(r.status.groups, 6);
    assert_int_equal(r.status.lsn, l.lsn + REDIS_SIZE - 32);
    assert_int_equal(r.status.ms, 1790000005000);
    assert_int_equal(r.status.crc, crc32c(l.crc, redis_file, REDIS_SIZE));
    /* Cut off, it is torn; with something of ours behind it, damaged. */
    for (size_t size = ours + 1; size < l.text.size; size++) {
        read_bytes(&r, l.text.data, size);
        assert_int_equal(r.end, r.status.valid_end == size ? LOG_READ_END : LOG_READ_TORN);
        assert_true(r.status.valid_end >= ours);
    }
    l.summed = l.text.size;
    log_group_begin(&l);
    log_group_end(&l, 2000);
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_DAMAGED);
    /* What is ours before it is still proven. */
    l.text.data[ours - 60] ^= 1;
    read_bytes(&r, l.text.data, ours + REDIS_SIZE);
    assert_true(r.end == LOG_READ_DAMAGED || r.end == LOG_READ_TORN);
    text_free(&l.text);
    text_free(&r.text);
}

/* Times of redis-server's form inside our groups, and before them, belong to the groups. */
static void test_timestamps(void **state)
{
    (void)state;
    struct log_bytes l = {.lsn = 0};
    struct reading r = {0};
    log_begin(&l, 1000);
    text_append_cstr(&l.text, "#TS:1\r\n");
    log_group_begin(&l);
    text_append_cstr(&l.text, "#TS:1\r\n");
    log_command(&l, "SET k v");
    log_group_end(&l, 1001);
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_END);
    assert_int_equal(r.status.groups, 1);
    assert_int_equal(r.status.ms, 1001);
    assert_false(r.status.foreign);
    text_free(&l.text);
    text_free(&r.text);
}

/* A file that does not go on where the one before it has ended is of another generation. */
static void test_chain(void **state)
{
    (void)state;
    struct log_bytes l;
    struct reading r = {0};
    small_log(&l);
    write_file(l.text.data, l.text.size);
    struct log_position start = {.lsn = 100, .crc = 0x12345678, .known = true};
    read_from(&r, &start);
    assert_int_equal(r.end, LOG_READ_END);
    start.crc++;
    read_from(&r, &start);
    assert_int_equal(r.end, LOG_READ_DAMAGED);
    assert_non_null(strstr(r.status.reason, "does not follow"));
    start.crc--;
    start.lsn = 101;
    read_from(&r, &start);
    assert_int_equal(r.end, LOG_READ_DAMAGED);
    text_free(&l.text);
    text_free(&r.text);
}

/* Groups of any size, smaller and larger than a batch: a model of what was written is given back;
 * random damage is always found. */
static void random_log(struct log_bytes *l, struct text *want, bool annotated)
{
    *l = (struct log_bytes){0};
    text_clear(want);
    if (annotated)
        log_begin(l, 1);
    size_t filler_size = 600000;
    char *filler = mem_alloc(filler_size);
    for (size_t i = 0; i < filler_size; i++)
        filler[i] = (char)(next_random() % 7 == 0 ? '\r' : 'a' + next_random() % 26);
    for (int g = 0; g < 60; g++) {
        if (annotated)
            log_group_begin(l);
        uint64_t commands = annotated ? 1 + next_random() % 20 : 1;
        for (uint64_t i = 0; i < commands; i++) {
            size_t max = next_random() % 40 == 0 ? filler_size : 2000;
            struct slice argv[3] = {SLICE("SET"), slice_of(filler, next_random() % 30),
                                    slice_of(filler, next_random() % max)};
            log_request(l, 3, argv);
            for (int a = 0; a < 3; a++) {
                text_append(want, argv[a].data, argv[a].size);
                text_append_cstr(want, " ");
            }
        }
        text_append_cstr(want, "\n");
        if (annotated)
            log_group_end(l, 2 + g);
    }
    mem_free(filler);
}

static void test_random(void **state)
{
    (void)state;
    struct log_bytes l;
    struct text want = {0};
    struct reading r = {0};
    for (int round = 0; round < 6; round++) {
        bool annotated = round % 2 == 0;
        random_log(&l, &want, annotated);
        read_bytes(&r, l.text.data, l.text.size);
        assert_int_equal(r.end, LOG_READ_END);
        assert_int_equal(r.text.size, want.size);
        assert_memory_equal(r.text.data, want.data, want.size);
        for (int i = 0; annotated && i < 20; i++) {
            size_t at = next_random() % l.text.size, size = 1 + next_random() % 3000;
            if (size > l.text.size - at)
                size = l.text.size - at;
            char *copy = mem_dup(l.text.data, l.text.size);
            for (size_t k = 0; k < size; k++)
                copy[at + k] = (char)(copy[at + k] + 1 + (char)(next_random() % 200));
            read_bytes(&r, copy, l.text.size);
            assert_true(r.end == LOG_READ_DAMAGED || r.end == LOG_READ_TORN);
            assert_true(begins_with(&want, &r.text));
            assert_true(r.status.valid_end <= at);
            mem_free(copy);
        }
        text_free(&l.text);
    }
    text_free(&want);
    text_free(&r.text);
}

/* A base of commands: its groups count its own bytes, behind it is the LSN that it is of. A changed
 * byte, a byte less or more: damage, never a torn tail. */
static void test_base(void **state)
{
    (void)state;
    struct log_bytes l = {0};
    struct reading r = {0};
    log_line(&l,
             (struct annotation){
                 .kind = ANNOTATION_BASE, .lsn = 5000, .ms = 1, .history = LOG_HISTORY, .db = 3});
    for (int i = 0; i < 3; i++) {
        log_group_begin(&l);
        log_command(&l, "SELECT 0");
        log_command(&l, "SET key value");
        log_group_end(&l, 1);
    }
    log_close(&l, 1);
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_END);
    assert_true(r.status.annotated && r.status.base && r.status.closed);
    assert_int_equal(r.status.lsn, 5000);
    assert_int_equal(r.status.log.db, 3);
    assert_int_equal(r.status.commands, 6);
    assert_int_equal(r.status.crc, l.crc);
    for (size_t size = 1; size < l.text.size; size++) {
        read_bytes(&r, l.text.data, size);
        /* A single byte is not known for ours. */
        assert_int_equal(r.end, size < 2 ? LOG_READ_TORN : LOG_READ_DAMAGED);
        assert_true(r.status.reason[0] != '\0');
    }
    for (size_t at = 0; at < l.text.size; at++) {
        char *copy = mem_dup(l.text.data, l.text.size);
        copy[at] = (char)(copy[at] ^ 1 << next_random() % 8);
        read_bytes(&r, copy, l.text.size);
        assert_int_equal(r.end, LOG_READ_DAMAGED);
        mem_free(copy);
    }
    log_command(&l, "SET key behind");
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_DAMAGED);
    text_free(&l.text);
    text_free(&r.text);
}

/* A SELECT of the file's own is read and not counted; its bytes are summed like all others. */
static void test_select(void **state)
{
    (void)state;
    struct log_bytes l = {.lsn = 100};
    struct reading r = {0};
    char group[ANNOTATION_SELECT_GROUP_MAX];
    log_begin(&l, 1);
    text_append(&l.text, group, annotation_put_select(l.lsn, 2, 12, &l.crc, group));
    l.summed = l.text.size;
    log_group_begin(&l);
    log_command(&l, "SET a b");
    log_group_end(&l, 3);
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_END);
    assert_int_equal(r.status.lsn, l.lsn);
    assert_string_equal(text_cstr(&r.text), "SELECT 12 \nSET a b \n");
    /* Without its line it would count. */
    char *line = strstr(l.text.data, "#HF1 select");
    line[5] = 'x';
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_DAMAGED);
    text_free(&l.text);
    text_free(&r.text);
}

static void put_filling(struct log_bytes *l, size_t size)
{
    char filling[1024];
    annotation_fill(l->text.size, filling, size);
    text_append(&l->text, filling, size);
    l->summed = l->text.size;
}

/* Room that was filled ahead counts for nothing, between groups and behind them; a group that is
 * written over it and does not come to its end is a torn one. */
static void test_filling(void **state)
{
    (void)state;
    struct log_bytes l = {.lsn = 100, .crc = 0x12345678};
    struct reading r = {0}, cut = {0};
    log_begin(&l, 1000);
    log_group_begin(&l);
    log_command(&l, "SET k v");
    log_commit_durable(&l, 1001, 100);
    /* As it is where a group has ended right before the end of a line. */
    text_append_cstr(&l.text, "#\n");
    l.summed = l.text.size;
    log_group_begin(&l);
    log_command(&l, "SET l w");
    log_commit_durable(&l, 1002, l.lsn);
    size_t begin = l.text.size;
    uint64_t lsn = l.lsn;
    uint32_t crc = l.crc;
    log_group_begin(&l);
    log_command(&l, "SET m \"x#\\n#y\"");
    log_commit_durable(&l, 1003, lsn);
    size_t end = l.text.size;
    char join[ANNOTATION_JOIN_MAX];
    text_append(&l.text, join, annotation_join_filling(end, join));
    size_t full = (end / ANNOTATION_FILL_LINE + 5) * ANNOTATION_FILL_LINE;
    put_filling(&l, full - l.text.size);
    read_bytes(&r, l.text.data, l.text.size);
    assert_int_equal(r.end, LOG_READ_END);
    assert_int_equal(r.status.lsn, l.lsn);
    assert_int_equal(r.status.crc, l.crc);
    assert_int_equal(r.status.valid_end, full);
    assert_int_equal(r.status.groups, 3);
    char *torn = mem_alloc(full);
    for (size_t at = begin; at <= end; at++) {
        memcpy(torn, l.text.data, at);
        annotation_fill(at, torn + at, full - at);
        read_bytes(&cut, torn, full);
        /* The begin of a group's line may look like filling, and its last byte does. */
        bool whole = at == end || (at == end - 1 && torn[at] == '\n');
        bool nothing = at - begin <= 1;
        bool joined = at == end && end % ANNOTATION_FILL_LINE == ANNOTATION_FILL_LINE - 1;
        assert_int_equal(cut.end, (whole && !joined) || nothing ? LOG_READ_END : LOG_READ_TORN);
        assert_int_equal(cut.status.groups, whole ? 3 : 2);
        assert_int_equal(cut.status.lsn, whole ? l.lsn : lsn);
        assert_int_equal(cut.status.crc, whole ? l.crc : crc);
        assert_true(begins_with(&r.text, &cut.text));
    }
    /* Nor does it count where it ends, but for a piece of the group's own first line. */
    for (size_t size = begin; size <= full; size++) {
        memcpy(torn, l.text.data, full);
        read_bytes(&cut, torn, size);
        bool torn_group = size > begin + 1 && size < end;
        assert_int_equal(cut.end, torn_group ? LOG_READ_TORN : LOG_READ_END);
        assert_int_equal(cut.status.valid_end, torn_group ? begin : size);
        assert_int_equal(cut.status.lsn, size < end ? lsn : l.lsn);
        assert_int_equal(cut.status.crc, size < end ? crc : l.crc);
        assert_int_equal(cut.status.later_groups, 0);
    }
    /* A piece of a line followed by anything else is none. */
    memcpy(torn, l.text.data, full);
    torn[full - 10] = 'x';
    read_bytes(&cut, torn, full);
    assert_int_equal(cut.end, LOG_READ_TORN);
    assert_int_equal(cut.status.lsn, l.lsn);
    /* A byte of the filling that has changed loses nothing either. */
    for (size_t at = end; at < full; at++) {
        memcpy(torn, l.text.data, full);
        torn[at] ^= 1;
        read_bytes(&cut, torn, full);
        assert_true(cut.end == LOG_READ_END || cut.end == LOG_READ_TORN);
        assert_int_equal(cut.status.lsn, l.lsn);
    }
    mem_free(torn);
    text_free(&l.text);
    text_free(&r.text);
    text_free(&cut.text);
}

static int set_up(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("HF_SEED=%llu\n", (unsigned long long)seed);
    snprintf(path, sizeof(path), "/tmp/hf-reader-%d.aof", (int)getpid());
    log_batch_init(&batch);
    struct os_file f;
    struct error err;
    return os_file_open(&f, path, OS_OPEN_CREATE_TRUNCATE, &err) && os_file_close(&f, &err) ? 0
                                                                                           : -1;
}

static int tear_down(void **state)
{
    (void)state;
    struct error err;
    log_batch_free(&batch);
    return os_unlink(path, &err) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_hole_in_what_was_not_synced),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_zeros),
        cmocka_unit_test(test_behind_damage),
        cmocka_unit_test(test_of_redis),
        cmocka_unit_test(test_of_redis_cut),
        cmocka_unit_test(test_of_redis_damaged),
        cmocka_unit_test(test_appended_by_redis),
        cmocka_unit_test(test_timestamps),
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_filling),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
