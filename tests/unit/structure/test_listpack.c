/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "base/number.h"
#include "structure/listpack.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* A listpack in a block of exactly its size, so that the sanitizer sees every step beside it. */
struct pack {
    char *lp;
};

static void pack_init(struct pack *p)
{
    p->lp = mem_alloc(LISTPACK_EMPTY_SIZE);
    listpack_init(p->lp);
}

static void pack_deinit(struct pack *p)
{
    mem_free(p->lp);
}

static void pack_resize(struct pack *p, size_t size)
{
    p->lp = mem_realloc(p->lp, size);
}

static uint32_t pack_insert(struct pack *p, uint32_t at, struct slice s)
{
    uint32_t size = listpack_size(p->lp) + listpack_entry_size(s);
    pack_resize(p, size);
    at = listpack_insert(p->lp, at, s);
    assert_int_equal(listpack_size(p->lp), size);
    return at;
}

static void pack_replace(struct pack *p, uint32_t at, struct slice s)
{
    int64_t size = listpack_size(p->lp), growth = listpack_replace_growth(p->lp, at, s);
    if (growth > 0)
        pack_resize(p, (size_t)(size + growth));
    listpack_replace(p->lp, at, s);
    assert_int_equal(listpack_size(p->lp), size + growth);
    if (growth < 0)
        pack_resize(p, (size_t)(size + growth));
}

static uint32_t pack_remove(struct pack *p, uint32_t at, uint32_t count)
{
    uint32_t next = listpack_remove(p->lp, at, count);
    pack_resize(p, listpack_size(p->lp));
    return next;
}

static bool pack_is(const struct pack *p, uint32_t at, struct slice expected)
{
    char buf[LISTPACK_NUMBER_SIZE];
    return slice_equal(listpack_get_slice(p->lp, at, buf), expected);
}

/* The very bytes that redis-server 7.0.15 gave for RPUSH of these elements (DUMP, uncompressed):
 * each integer width at both of its ends, and strings that only look like integers. */
static void test_golden(void **state)
{
    (void)state;
    static const char *const elements[] = {
        "0", "127", "128", "-1", "4095", "4096", "-4096", "-4097", "32767", "32768", "-32768",
        "-32769", "8388607", "8388608", "-8388608", "-8388609", "2147483647", "2147483648",
        "-2147483648", "-2147483649", "9223372036854775807", "-9223372036854775808", "", "-0", "01",
        "9223372036854775808", "-9223372036854775809", "+1", "-", "hello"};
    static const char hex[] =
        "be0000001e0000017f01c08002dfff02cfff02f1001003d00002f1ffef03f1ff7f03f200800004f1008003f2ff"
        "7fff04f2ffff7f04f30000800005f200008004f3ffff7fff05f3ffffff7f05f4000000800000000009f3000000"
        "8005f4ffffff7fffffffff09f4ffffffffffffff7f09f40000000000000080098001822d300382303103933932"
        "323333373230333638353437373538303814942d3932323333373230333638353437373538303915822b310381"
        "2d028568656c6c6f06ff";
    struct pack p;
    pack_init(&p);
    for (size_t i = 0; i < sizeof(elements) / sizeof(elements[0]); i++)
        pack_insert(&p, 0, slice_cstr(elements[i]));
    assert_int_equal(listpack_size(p.lp), (sizeof(hex) - 1) / 2);
    for (size_t i = 0; i < (sizeof(hex) - 1) / 2; i++) {
        char pair[3] = {hex[2 * i], hex[2 * i + 1], '\0'};
        assert_int_equal((unsigned char)p.lp[i], strtoul(pair, NULL, 16));
    }
    assert_true(listpack_check(p.lp, listpack_size(p.lp)));
    uint32_t at = listpack_first(p.lp);
    for (size_t i = 0; i < sizeof(elements) / sizeof(elements[0]); i++) {
        assert_true(pack_is(&p, at, slice_cstr(elements[i])));
        assert_true(listpack_equal(p.lp, at, slice_cstr(elements[i])));
        assert_int_equal(listpack_find(p.lp, listpack_first(p.lp), slice_cstr(elements[i]), 0), at);
        at = listpack_next(p.lp, at);
    }
    assert_int_equal(at, 0);
    pack_deinit(&p);
}

/* Strings around each change of the size of the length and of the backlen: the sizes are those that
 * redis-server 7.0.15 gave, and the list can be walked back over them. */
static void test_string_sizes(void **state)
{
    (void)state;
    static const struct {
        uint32_t size, entry;
    } cases[] = {{0, 2},           {1, 3},           {63, 65},
                 {64, 67},         {125, 128},       {126, 130},
                 {4095, 4099},     {4096, 4103},     {16377, 16384},
                 {16378, 16386},   {16379, 16387},   {2097145, 2097153},
                 {2097146, 2097155}, {2097147, 2097156}};
    char *text = mem_alloc(2097147);
    memset(text, 'x', 2097147);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct slice s = slice_of(text, cases[i].size);
        assert_int_equal(listpack_entry_size(s), cases[i].entry);
        struct pack p;
        pack_init(&p);
        pack_insert(&p, 0, SLICE("first"));
        uint32_t at = pack_insert(&p, 0, s);
        uint32_t end = pack_insert(&p, 0, SLICE("last"));
        assert_int_equal(end - at, cases[i].entry);
        assert_int_equal(listpack_last(p.lp), end);
        assert_int_equal(listpack_prev(p.lp, end), at);
        assert_int_equal(listpack_prev(p.lp, at), 6);
        assert_int_equal(listpack_prev(p.lp, 6), 0);
        assert_int_equal(listpack_next(p.lp, at), end);
        assert_true(pack_is(&p, at, s));
        assert_int_equal(listpack_find(p.lp, 6, s, 0), at);
        assert_true(listpack_check(p.lp, listpack_size(p.lp)));
        pack_deinit(&p);
    }
    mem_free(text);
}

/* The largest backlen, of five bytes, begins one byte before a body of 2^28 bytes. */
static void test_huge_string(void **state)
{
    (void)state;
    uint32_t border = 268435455 - 5; /* string bytes of a body of 2^28 - 1 */
    char *text = mem_zalloc(border);
    for (uint32_t size = border - 1; size <= border; size++) {
        struct slice s = slice_of(text, size);
        assert_int_equal(listpack_entry_size(s), size + 5 + (size == border ? 5 : 4));
        struct pack p;
        pack_init(&p);
        pack_insert(&p, 0, s);
        assert_int_equal(listpack_last(p.lp), 6);
        assert_true(listpack_check(p.lp, listpack_size(p.lp)));
        pack_deinit(&p);
    }
    mem_free(text);
}

/* The naive model: an array of strings on the heap. */
#define MODEL_MAX 400
struct model {
    struct slice items[MODEL_MAX];
    size_t count;
};

static struct slice make_element(char *buf, size_t room)
{
    size_t n;
    switch (random_below(12)) {
    case 0:
        return slice_of(buf, 0);
    case 1:
    case 2:
    case 3:
    case 4: { /* a number of a random width, either sign */
        int64_t v = (int64_t)(random_bits() >> random_below(64));
        return slice_of(buf, number_format_int64(buf, random_below(2) ? v : -v));
    }
    case 5: /* a number at the border of a width */
    {
        static const int shifts[] = {7, 12, 15, 23, 31, 63};
        uint64_t v = 1ULL << shifts[random_below(6)];
        v += random_below(3) - 1;
        return slice_of(buf, number_format_int64(buf, (int64_t)(random_below(2) ? v : 0 - v)));
    }
    case 6: /* looks like a number and is none */
        n = (size_t)snprintf(buf, room, "%s%llu", random_below(2) ? "0" : "-0",
                             (unsigned long long)random_below(200));
        return slice_of(buf, n);
    case 7:
        n = 50 + random_below(30);
        break;
    case 8:
        n = 100 + random_below(60);
        break;
    case 9:
        n = random_below(20) == 0 ? 4090 + random_below(12) : 10;
        break;
    default:
        n = random_below(8);
        break;
    }
    for (size_t i = 0; i < n; i++)
        buf[i] = (char)('a' + random_below(n < 4 ? 2 : 26));
    return slice_of(buf, n);
}

static struct slice keep(struct slice s)
{
    return slice_of(mem_dup(s.data, s.size), s.size);
}

static void drop(struct slice s)
{
    mem_free((char *)(uintptr_t)s.data);
}

static void model_insert(struct model *m, size_t index, struct slice s)
{
    memmove(m->items + index + 1, m->items + index, (m->count - index) * sizeof(m->items[0]));
    m->items[index] = keep(s);
    m->count++;
}

static void model_remove(struct model *m, size_t index, size_t count)
{
    for (size_t i = index; i < index + count; i++)
        drop(m->items[i]);
    m->count -= count;
    memmove(m->items + index, m->items + index + count,
            (m->count - index) * sizeof(m->items[0]));
}

static void compare(const struct pack *p, const struct model *m)
{
    assert_int_equal(listpack_count(p->lp), m->count);
    uint32_t at = listpack_first(p->lp);
    for (size_t i = 0; i < m->count; i++) {
        assert_true(pack_is(p, at, m->items[i]));
        at = listpack_next(p->lp, at);
    }
    assert_int_equal(at, 0);
    at = listpack_last(p->lp);
    for (size_t i = m->count; i-- > 0;) {
        assert_true(pack_is(p, at, m->items[i]));
        at = listpack_prev(p->lp, at);
    }
    assert_int_equal(at, 0);
    assert_true(listpack_check(p->lp, listpack_size(p->lp)));
}

/* Random inserts, replacements, removals, seeks and searches agree with the naive array. */
static void test_model(void **state)
{
    (void)state;
    static struct model m;
    char buf[8192];
    for (int round = 0; round < 40; round++) {
        struct pack p;
        pack_init(&p);
        size_t target = 1 + random_below(MODEL_MAX - 10);
        for (int step = 0; step < 600; step++) {
            uint64_t op = random_below(10);
            size_t index = m.count ? random_below(m.count) : 0;
            uint32_t at = listpack_seek(p.lp, (int64_t)index);
            assert_int_equal(listpack_seek(p.lp, (int64_t)index - (int64_t)m.count), at);
            if (op < 5 && m.count < target) {
                struct slice s = make_element(buf, sizeof(buf));
                if (random_below(3) == 0) {
                    index = m.count;
                    at = 0;
                }
                uint32_t placed = pack_insert(&p, at, s);
                model_insert(&m, index, s);
                assert_int_equal(placed, listpack_seek(p.lp, (int64_t)index));
            } else if (op < 7 && m.count > 0) {
                struct slice s = make_element(buf, sizeof(buf));
                pack_replace(&p, at, s);
                drop(m.items[index]);
                m.items[index] = keep(s);
            } else if (op < 8 && m.count > 0) {
                size_t n = random_below(4) ? 1 : random_below(m.count - index + 1);
                uint32_t next = pack_remove(&p, at, (uint32_t)n + (n == m.count - index ? 3 : 0));
                model_remove(&m, index, n);
                assert_int_equal(next, listpack_seek(p.lp, (int64_t)index));
            } else if (m.count > 0) {
                struct slice s = random_below(2) ? m.items[random_below(m.count)]
                                                 : make_element(buf, sizeof(buf));
                uint32_t skip = (uint32_t)random_below(3);
                uint32_t found = listpack_find(p.lp, at, s, skip);
                size_t i = index;
                while (i < m.count && !slice_equal(m.items[i], s))
                    i += skip + 1;
                assert_int_equal(found, i < m.count ? listpack_seek(p.lp, (int64_t)i) : 0);
            }
            assert_int_equal(listpack_seek(p.lp, (int64_t)m.count), 0);
            assert_int_equal(listpack_seek(p.lp, -(int64_t)m.count - 1), 0);
            if (step % 50 == 0)
                compare(&p, &m);
        }
        compare(&p, &m);
        model_remove(&m, 0, m.count);
        pack_deinit(&p);
    }
}

/* From 65535 elements on the header does not tell the number: it is counted, stays right when
 * elements go, and seeking works from both ends. */
static void test_unknown_count(void **state)
{
    (void)state;
    struct pack p;
    pack_init(&p);
    pack_resize(&p, LISTPACK_EMPTY_SIZE + 70000 * 5);
    char buf[NUMBER_INT64_SIZE];
    for (int64_t i = 0; i < 70000; i++) {
        if (i >= 65533 && i <= 65537)
            assert_int_equal(listpack_count(p.lp), i);
        listpack_insert(p.lp, 0, slice_of(buf, number_format_int64(buf, i)));
    }
    pack_resize(&p, listpack_size(p.lp));
    assert_int_equal(listpack_count(p.lp), 70000);
    assert_true(listpack_check(p.lp, listpack_size(p.lp)));
    assert_int_equal(listpack_get(p.lp, listpack_seek(p.lp, 69000)).number, 69000);
    assert_int_equal(listpack_get(p.lp, listpack_seek(p.lp, -2)).number, 69998);
    assert_int_equal(listpack_seek(p.lp, 70000), 0);
    assert_int_equal(listpack_seek(p.lp, -70001), 0);
    pack_remove(&p, listpack_first(p.lp), 69990);
    assert_int_equal(listpack_count(p.lp), 10);
    assert_int_equal(listpack_get(p.lp, listpack_first(p.lp)).number, 69990);
    assert_true(listpack_check(p.lp, listpack_size(p.lp)));
    pack_deinit(&p);
}

/* A string that is an integer may stand as a string in a file: it is found and equal all the
 * same. */
static void test_number_as_string(void **state)
{
    (void)state;
    static const char lp[] = "\x0b\0\0\0\1\0\x82"
                             "42\x03\xff";
    assert_true(listpack_check(lp, 11));
    assert_int_equal(listpack_find(lp, 6, SLICE("42"), 0), 6);
    assert_true(listpack_equal(lp, 6, SLICE("42")));
    assert_false(listpack_equal(lp, 6, SLICE("43")));
}

/* Touch all that a checked listpack gives. */
static uint64_t read_all(const char *lp)
{
    uint64_t sum = listpack_count(lp);
    char buf[LISTPACK_NUMBER_SIZE];
    for (uint32_t at = listpack_first(lp); at; at = listpack_next(lp, at)) {
        struct slice s = listpack_get_slice(lp, at, buf);
        for (size_t i = 0; i < s.size; i++)
            sum += (unsigned char)s.data[i];
    }
    for (uint32_t at = listpack_last(lp); at; at = listpack_prev(lp, at))
        sum++;
    return sum + listpack_find(lp, listpack_first(lp), SLICE("no such element"), 0);
}

/* Bytes with random damage are either refused or can be read within their bounds: under the
 * address sanitizer a step beside the exact block ends the test. Cut and lengthened ones are
 * refused. */
static void test_damaged(void **state)
{
    (void)state;
    char buf[8192];
    unsigned refused = 0, read = 0;
    uint64_t sum = 0;
    for (int round = 0; round < 300; round++) {
        struct pack p;
        pack_init(&p);
        for (uint64_t n = random_below(20); n > 0; n--)
            pack_insert(&p, 0, make_element(buf, sizeof(buf)));
        uint32_t size = listpack_size(p.lp);
        assert_true(listpack_check(p.lp, size));
        for (int i = 0; i < 100; i++) {
            char *copy = mem_alloc(size);
            memcpy(copy, p.lp, size);
            for (uint64_t n = 1 + random_below(3); n > 0; n--)
                copy[random_below(3) ? random_below(size) : random_below(size < 12 ? size : 12)] =
                    (char)(random_below(2) ? random_bits() : 0xf0 + random_below(16));
            if (listpack_check(copy, size)) {
                sum += read_all(copy);
                read++;
            } else {
                refused++;
            }
            mem_free(copy);
            size_t cut = random_below(size);
            copy = mem_alloc(cut);
            memcpy(copy, p.lp, cut);
            assert_false(listpack_check(copy, cut));
            if (cut >= 4) {
                uint32_t claimed = (uint32_t)cut;
                memcpy(copy, &claimed, 4);
                if (listpack_check(copy, cut))
                    sum += read_all(copy);
            }
            mem_free(copy);
        }
        pack_deinit(&p);
    }
    assert_true(refused > 1000 && read > 100 && sum > 0);
    /* A string of nearly 4 GiB, whose end would wrap around to within the bytes. */
    static const char wraps[] = "\x12\0\0\0\1\0\xf0\xfb\xff\xff\xff"
                                "aaaaaa\xff";
    assert_false(listpack_check(wraps, 18));
}

static bool is_distinct(char *const elements[], size_t count, size_t skip)
{
    for (size_t i = 0; i < count; i += skip + 1) {
        for (size_t k = 0; k < i; k += skip + 1) {
            if (strcmp(elements[i], elements[k]) == 0)
                return false;
        }
    }
    return true;
}

/* Elements that are there twice are found, few or many, numbers or strings. */
static void test_distinct(void **state)
{
    (void)state;
    static char *elements[1000];
    int twice = 0;
    for (int round = 0; round < 300; round++) {
        struct pack p;
        pack_init(&p);
        size_t count = random_below(random_below(4) ? 40 : 1000), skip = random_below(3);
        uint64_t range = count * (1 + random_below(200));
        for (size_t i = 0; i < count; i++) {
            char text[64];
            uint64_t v = random_below(range);
            int n = random_below(2) ? snprintf(text, sizeof(text), "%lld", (long long)v - 50)
                             : snprintf(text, sizeof(text), "%*s%llu", (int)(v % 30), "m",
                                        (unsigned long long)v);
            elements[i] = mem_dup(text, (size_t)n + 1);
            pack_insert(&p, 0, slice_of(text, (size_t)n));
        }
        bool expected = is_distinct(elements, count, skip);
        twice += !expected;
        assert_int_equal(listpack_distinct(p.lp, (uint32_t)skip), expected);
        for (size_t i = 0; i < count; i++)
            mem_free(elements[i]);
        pack_deinit(&p);
    }
    assert_in_range(twice, 10, 290);
}

/* Strings whose quick hashes collide, which whoever writes a file can choose, take no time in the
 * square of their number; the one that is there twice is found all the same. */
static void test_colliding(void **state)
{
    (void)state;
    for (int twice = 0; twice < 2; twice++) {
        struct pack p;
        pack_init(&p);
        for (uint64_t i = 0; i < 3000; i++) {
            uint64_t words[2] = {(i == 2999 && twice ? 17 : i) << 40 | 'x', 0};
            uint64_t h = (16 * 0x9e3779b97f4a7c15ULL ^ words[0]) * 0x9e3779b97f4a7c15ULL;
            words[1] = h ^ h >> 29;
            pack_insert(&p, 0, slice_of(words, sizeof(words)));
        }
        assert_int_equal(listpack_distinct(p.lp, 0), !twice);
        pack_deinit(&p);
    }
}

/* A number is itself also where another program has written it as a string. */
static void test_distinct_foreign(void **state)
{
    (void)state;
    static const char lp[] = "\x0d\0\0\0\2\0\x82"
                             "12\x03\x0c\x01\xff";
    assert_true(listpack_check(lp, sizeof(lp) - 1));
    assert_false(listpack_distinct(lp, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),        cmocka_unit_test(test_string_sizes),
        cmocka_unit_test(test_huge_string),   cmocka_unit_test(test_model),
        cmocka_unit_test(test_unknown_count), cmocka_unit_test(test_number_as_string),
        cmocka_unit_test(test_damaged),       cmocka_unit_test(test_distinct),
        cmocka_unit_test(test_colliding),     cmocka_unit_test(test_distinct_foreign)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
