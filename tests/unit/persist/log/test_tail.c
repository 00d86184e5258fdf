/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/tail.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "log_bytes.h"
#include "os/file.h"
#include "persist/log/reader.h"
#include "unit/random.h"

static char path[64];
static struct log_batch batch;

/* Reads a file of these bytes to its end. */
static enum log_read read_bytes(const char *data, size_t size, struct log_status *status)
{
    static const struct log_position none = {0};
    struct os_file f;
    struct error err;
    enum log_read end;
    assert_true(os_file_open(&f, path, OS_OPEN_WRITE, &err));
    assert_true(os_file_write_at(&f, 0, data, size, &err));
    assert_true(os_file_truncate(&f, size, &err));
    assert_true(os_file_close(&f, &err));
    struct log_reader *reader = log_reader_open(path, 0, &none, &err);
    assert_non_null(reader);
    while ((end = log_reader_next(reader, &batch, &err)) == LOG_READ_GROUPS) {
    }
    *status = *log_reader_status(reader);
    log_reader_close(reader);
    return end;
}

static void set(struct log_bytes *l, struct slice value)
{
    const struct slice argv[3] = {SLICE("SET"), SLICE("k"), value};
    log_request(l, 3, argv);
}

/* As `appendfsync always` writes it: each group says that what is before it is durable. */
static void group_of(struct log_bytes *l, struct slice value)
{
    uint64_t durable = l->lsn;
    log_group_begin(l);
    set(l, value);
    log_commit_durable(l, 1000, durable);
}

static void begin_log(struct log_bytes *l, uint64_t lsn, uint32_t chain)
{
    *l = (struct log_bytes){.lsn = lsn, .crc = chain};
    log_begin(l, 1000);
    for (int i = 0; i < 3; i++) {
        char value[20];
        snprintf(value, sizeof(value), "%d", i);
        group_of(l, slice_cstr(value));
    }
}

static struct slice slice_of_text(const struct text *t)
{
    return slice_of(t->data, t->size);
}

/* What a client may have written: lines like ours, made up; a copy of the log that it goes to, with
 * its end or without; pieces of others'. */
#define VALUES 9
static void make_value(int which, const struct log_bytes *log, struct text *value)
{
    struct log_bytes other;
    const char *commit;
    text_clear(value);
    switch (which) {
    case 0:
        text_append_cstr(value, "#HF1 commit 99999 1000 99998 01234567\r\n");
        break;
    case 1:
        text_append_cstr(value, "\r\n#HF1 close 300 1000 300 01234567\r\n#HF1 group 300\r\n");
        break;
    case 2: /* an older version's, which does not say what is durable */
        text_append_cstr(value, "\r\n#HF1 commit 400 1000 01234567\r\n");
        break;
    case 3:
        text_append(value, log->text.data, log->text.size);
        break;
    case 4:
        text_append(value, log->text.data, log->text.size);
        text_append(value, log->text.data, log->text.size);
        text_append_cstr(value, "and more");
        break;
    case 5: /* the last line, and what it goes on from */
        commit = log->text.data + log->text.size - 100;
        text_append(value, commit, 100);
        break;
    case 6:
    case 7: /* far ahead of this log, or behind it */
        begin_log(&other, which == 6 ? 1ULL << 40 : 3, 77);
        group_of(&other, SLICE("other"));
        log_close_durable(&other, 1001);
        text_append(value, other.text.data, other.text.size);
        text_free(&other.text);
        break;
    default:
        text_append_cstr(value, "#HF1 #HF1 group\r\n#HF1 group 99999999999999999999\r\n"
                                "01234567\r\n#HF1 group 500\r\n*1\r\n$4\r\nPING\r\n");
        text_append(value, "\0#TS:1\r\n#HF1 commit 514 1 1 ", 28);
    }
}

/* Whether the file ends just behind a line that says that more was durable than there is. */
static bool ends_in_claim(const char *data, size_t size, uint64_t lsn)
{
    size_t at = size - 1;
    struct annotation a;
    if (data[at] != '\n')
        return false;
    while (at > 0 && memcmp(data + at, "#HF1 ", 5) != 0)
        at--;
    return annotation_parse(slice_of(data + at, size - at), &a) && a.has_durable &&
           a.durable > lsn && a.lsn < lsn + size + (1 << 20);
}

/* An append that is torn anywhere inside of such a value is a torn end, and nothing before it is
 * lost; the same when the file had its room already and there are zeros. The exceptions are a tear
 * just behind a line that may be a real one, and one behind the first byte, which may be
 * filling. */
static void test_torn_values(void **state)
{
    (void)state;
    struct log_bytes l;
    struct log_status s;
    struct text value = {0};
    begin_log(&l, 100, 5);
    size_t whole = l.text.size;
    uint64_t lsn = l.lsn;
    for (int which = 0; which < VALUES; which++) {
        make_value(which, &(struct log_bytes){.text = {.data = l.text.data, .size = whole}},
                   &value);
        struct log_bytes torn = {.lsn = lsn, .crc = l.crc, .summed = whole};
        text_append(&torn.text, l.text.data, whole);
        group_of(&torn, slice_of_text(&value));
        char *zeroed = mem_zalloc(torn.text.size);
        for (size_t size = whole; size < torn.text.size; size++) {
            enum log_read want = size <= whole + 1                              ? LOG_READ_END
                                 : ends_in_claim(torn.text.data, size, lsn) ? LOG_READ_DAMAGED
                                                                                : LOG_READ_TORN;
            enum log_read end = read_bytes(torn.text.data, size, &s);
            size_t valid = want == LOG_READ_END ? size : whole;
            if (end != want || s.valid_end != valid || s.lsn != lsn)
                fail_msg("value %d, %zu of %zu bytes: %d, %s", which, size - whole,
                         torn.text.size - whole, (int)end, s.reason);
            memcpy(zeroed, torn.text.data, size);
            end = read_bytes(zeroed, torn.text.size, &s);
            if (end != LOG_READ_TORN || s.valid_end != whole)
                fail_msg("value %d, zeros behind %zu bytes: %d, %s", which, size - whole, (int)end,
                         s.reason);
        }
        mem_free(zeroed);
        assert_int_equal(read_bytes(torn.text.data, torn.text.size, &s), LOG_READ_END);
        text_free(&torn.text);
    }
    text_free(&value);
    text_free(&l.text);
}

/* A changed bit in front of what was synced is damage, whatever the values behind it, or around it,
 * look like. Only what the last line is of can be taken for a torn end. */
static void test_every_bit_before_values(void **state)
{
    (void)state;
    struct log_status s;
    struct text value = {0};
    for (int which = 0; which < VALUES; which++) {
        struct log_bytes l;
        begin_log(&l, 100, 5);
        make_value(which, &l, &value);
        size_t from = l.text.size;
        group_of(&l, slice_of_text(&value));
        size_t to = l.text.size;
        group_of(&l, SLICE("then"));
        size_t last = l.text.size;
        group_of(&l, slice_of_text(&value));
        for (size_t bit = 8 * from; bit < 8 * last; bit++) {
            /* Of long values some bits are enough. */
            if (bit % 7 != 0 && bit / 8 > from + 100 && bit / 8 + 100 < to)
                continue;
            l.text.data[bit / 8] = (char)(l.text.data[bit / 8] ^ 1 << bit % 8);
            enum log_read end = read_bytes(l.text.data, l.text.size, &s);
            if (end != LOG_READ_DAMAGED || s.valid_end > bit / 8)
                fail_msg("value %d, bit %zu: %d, %s", which, bit, (int)end, s.reason);
            l.text.data[bit / 8] = (char)(l.text.data[bit / 8] ^ 1 << bit % 8);
        }
        text_free(&l.text);
    }
    text_free(&value);
}

/* Valid groups behind damage are counted by their places: lines in their values count for nothing,
 * and hide nothing. */
static void test_count(void **state)
{
    (void)state;
    struct log_bytes l;
    struct log_status s;
    struct text value = {0};
    begin_log(&l, 100, 5);
    size_t first = l.text.size;
    group_of(&l, SLICE("damaged"));
    size_t second = l.text.size;
    for (int which = 0; which < VALUES; which++) {
        make_value(which, &l, &value);
        group_of(&l, slice_of_text(&value));
    }
    l.text.data[second - 60] ^= 1;
    assert_int_equal(read_bytes(l.text.data, l.text.size, &s), LOG_READ_DAMAGED);
    assert_int_equal(s.valid_end, first);
    assert_int_equal(s.later_offset, second);
    assert_int_equal(s.later_groups, VALUES);
    assert_int_equal(s.later_lsn, l.lsn);
    text_free(&value);
    text_free(&l.text);
}

/* A length that has become so large that all groups behind it seem to be its argument's hides them
 * not. */
static void test_large_length(void **state)
{
    (void)state;
    struct log_bytes l;
    struct log_status s;
    begin_log(&l, 100, 5);
    size_t first = l.text.size;
    group_of(&l, SLICE("a value of two digits"));
    group_of(&l, SLICE("next"));
    char *size = strstr(l.text.data + first, "$21\r\n");
    assert_non_null(size);
    memcpy(size, "$21999", 6);
    assert_int_equal(read_bytes(l.text.data, l.text.size, &s), LOG_READ_DAMAGED);
    assert_int_equal(s.later_groups, 1);
    text_free(&l.text);
}

/* The end of a line of filling between groups (persist/log/annotation.h) hides no group behind
 * damage, whichever byte before it has changed, and the filling behind them is no damage. */
static void test_behind_filling(void **state)
{
    (void)state;
    struct log_bytes l;
    struct log_status s;
    char filling[1000];
    begin_log(&l, 100, 5);
    size_t first = l.text.size, second = 0;
    for (int i = 0; i < 3; i++) {
        text_append_cstr(&l.text, "#\n");
        l.summed = l.text.size;
        group_of(&l, SLICE("joined"));
        if (i == 0)
            second = l.text.size;
    }
    annotation_fill(l.text.size, filling, sizeof(filling));
    text_append(&l.text, filling, sizeof(filling) - (l.text.size + sizeof(filling)) % 64);
    assert_int_equal(read_bytes(l.text.data, l.text.size, &s), LOG_READ_END);
    assert_int_equal(s.lsn, l.lsn);
    for (size_t at = first; at < second; at++) {
        /* The filling may end in the middle of a line. */
        size_t size = l.text.size - (at - first) % ANNOTATION_FILL_LINE;
        assert_int_equal(read_bytes(l.text.data, size, &s), LOG_READ_END);
        assert_int_equal(s.lsn, l.lsn);
        l.text.data[at] ^= 4;
        assert_int_equal(read_bytes(l.text.data, size, &s), LOG_READ_DAMAGED);
        assert_true(s.later_groups >= 2);
        l.text.data[at] ^= 4;
    }
    text_free(&l.text);
}

/* Two groups of right form with the very LSNs that would follow, in a value that is torn: this
 * cannot be told from damage, and is taken for it. */
static void test_counterfeit(void **state)
{
    (void)state;
    struct log_bytes l;
    struct log_status s;
    begin_log(&l, 100, 5);
    struct log_bytes forged = {.lsn = l.lsn + 30, .crc = 99};
    group_of(&forged, SLICE("x"));
    group_of(&forged, SLICE("y"));
    size_t before = l.text.size;
    group_of(&l, slice_of(forged.text.data, forged.text.size));
    assert_int_equal(read_bytes(l.text.data, l.text.size - 1, &s), LOG_READ_DAMAGED);
    assert_int_equal(s.valid_end, before);
    /* One alone goes on from nothing. */
    text_free(&forged.text);
    forged = (struct log_bytes){.lsn = l.lsn + 30, .crc = 99};
    group_of(&forged, SLICE("x"));
    group_of(&l, slice_of(forged.text.data, forged.text.size));
    assert_int_equal(read_bytes(l.text.data, l.text.size - 1, &s), LOG_READ_TORN);
    text_free(&forged.text);
    text_free(&l.text);
}

/* Thousands of groups that begin one inside of the other and all end in the same line, so that all
 * of it would have to be summed for each: that is given up, and taken for damage. */
static void test_work_is_bounded(void **state)
{
    (void)state;
    enum { GROUPS = 4000, ROOM = 70, FILLER = 100000 };
    struct log_bytes l;
    struct log_status s;
    struct text value = {0};
    begin_log(&l, 100, 5);
    char line[ROOM + 1];
    size_t size = (size_t)GROUPS * ROOM + FILLER;
    for (size_t i = 0; i < GROUPS; i++) {
        size_t rest = size - i * ROOM;
        int head = snprintf(line, sizeof(line), "%08x\r\n#HF1 group %llu\r\n", 1U,
                            (unsigned long long)(l.lsn + i * ROOM + 1000));
        size_t bulk = rest - (size_t)head - 4 - 9 - 2;
        int n = head + snprintf(line + head, sizeof(line) - (size_t)head, "*1\r\n$%06zu\r\n", bulk);
        text_append(&value, line, (size_t)n);
        for (; n < ROOM; n++)
            text_append_cstr(&value, "-");
    }
    for (size_t i = 0; i < FILLER - 2; i++)
        text_append_cstr(&value, "+");
    text_append_cstr(&value, "\r\n");
    assert_int_equal(value.size, size);
    /* It fits those whose own LSN has six digits. */
    uint64_t end_lsn = l.lsn + (GROUPS - 1) * ROOM + 1000 + ROOM + FILLER - 29;
    text_appendf(&value, "#HF1 commit %llu 1000 100 0badcafe\r\n", (unsigned long long)end_lsn);
    group_of(&l, slice_of_text(&value));
    assert_int_equal(read_bytes(l.text.data, l.text.size - 1, &s), LOG_READ_DAMAGED);
    assert_int_equal(s.later_groups, 0);
    text_free(&value);
    text_free(&l.text);
}

/* Logs at random, whose values are pieces of what was written before: torn anywhere they have a
 * torn end behind the last whole group; with a changed byte before the last but one they are
 * damaged there. */
static void test_random(void **state)
{
    (void)state;
    struct log_status s;
    for (int round = 0; round < 30; round++) {
        struct log_bytes l;
        size_t ends[40];
        begin_log(&l, random_below(100000), (uint32_t)random_bits());
        size_t first = l.text.size;
        for (size_t g = 0; g < 40; g++) {
            size_t at = random_below(l.text.size), size = random_below(l.text.size - at);
            char *copy = mem_dup(l.text.data + at, size % 20000);
            group_of(&l, slice_of(copy, size % 20000));
            mem_free(copy);
            ends[g] = l.text.size;
        }
        for (int i = 0; i < 20; i++) {
            size_t size = first + random_below(l.text.size - first), whole = first;
            for (size_t g = 0; g < 40 && ends[g] <= size; g++)
                whole = ends[g];
            enum log_read end = read_bytes(l.text.data, size, &s);
            /* The first byte of a line alone may be filling. */
            bool ended = size <= whole + 1;
            if (end != (ended ? LOG_READ_END : LOG_READ_TORN) ||
                s.valid_end != (ended ? size : whole))
                fail_msg("round %d, torn at %zu: %d, %s", round, size, (int)end, s.reason);
            size_t at = first + random_below(ends[38] - first);
            char was = l.text.data[at];
            l.text.data[at] = (char)(was + 1 + (char)(random_below(255)));
            end = read_bytes(l.text.data, l.text.size, &s);
            if (l.text.data[at] != was && (end != LOG_READ_DAMAGED || s.valid_end > at))
                fail_msg("round %d, damaged at %zu: %d, %s", round, at, (int)end, s.reason);
            l.text.data[at] = was;
        }
        text_free(&l.text);
    }
}

static int set_up(void **state)
{
    (void)state;
    random_begin();
    const char *place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, sizeof(path), "%s/hf-tail-%d.aof", place, (int)getpid());
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
        cmocka_unit_test(test_torn_values),   cmocka_unit_test(test_every_bit_before_values),
        cmocka_unit_test(test_count),         cmocka_unit_test(test_large_length),
        cmocka_unit_test(test_counterfeit),   cmocka_unit_test(test_work_is_bounded),
        cmocka_unit_test(test_random),        cmocka_unit_test(test_behind_filling),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
