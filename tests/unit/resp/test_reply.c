/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

#include "base/mem.h"
#include "resp/reply.h"

struct output {
    struct outbuf out;
    struct reply reply;
};

static void begin(struct output *o, uint8_t protocol)
{
    *o = (struct output){0};
    o->reply = (struct reply){.out = &o->out, .protocol = protocol};
}

/* Take everything out in pieces of at most `piece` bytes. The caller frees it. */
static char *drain(struct outbuf *out, size_t piece, size_t *size)
{
    *size = outbuf_size(out);
    char *all = mem_alloc(*size + 1);
    size_t at = 0;
    while (!outbuf_is_empty(out)) {
        struct iovec v[3];
        int n = outbuf_vectors(out, v, 3);
        size_t taken = 0;
        assert_true(n > 0);
        for (int i = 0; i < n && taken < piece; i++) {
            size_t part = v[i].iov_len < piece - taken ? v[i].iov_len : piece - taken;
            assert_true(at + part <= *size);
            memcpy(all + at, v[i].iov_base, part);
            at += part;
            taken += part;
        }
        outbuf_consume(out, taken);
    }
    assert_int_equal(at, *size);
    assert_null(out->first);
    all[at] = '\0';
    return all;
}

static void expect(struct output *o, const char *wanted)
{
    size_t size;
    char *got = drain(&o->out, SIZE_MAX, &size);
    assert_string_equal(got, wanted);
    assert_int_equal(size, strlen(wanted));
    mem_free(got);
}

/* Every function gives its form in RESP2. */
static void test_resp2(void **state)
{
    struct output o;
    struct reply *r = &o.reply;
    (void)state;
    begin(&o, 2);
    reply_ok(r);
    reply_simple(r, "QUEUED");
    reply_int(r, 0);
    reply_int(r, 999);
    reply_int(r, 1000);
    reply_int(r, -1);
    reply_int(r, INT64_MIN);
    expect(&o, "+OK\r\n+QUEUED\r\n:0\r\n:999\r\n:1000\r\n:-1\r\n:-9223372036854775808\r\n");
    reply_bulk(r, SLICE("hello"));
    reply_bulk(r, slice_of(NULL, 0));
    reply_bulk_cstr(r, "a");
    reply_bulk_int(r, -42);
    reply_bulkf(r, "%d:%s", 1, "x");
    expect(&o, "$5\r\nhello\r\n$0\r\n\r\n$1\r\na\r\n$3\r\n-42\r\n$3\r\n1:x\r\n");
    reply_double(r, 1.5);
    reply_double(r, 3);
    reply_double(r, INFINITY);
    reply_bulk_double(r, 0.1);
    reply_bool(r, true);
    reply_bignum(r, SLICE("123"));
    reply_verbatim(r, SLICE("text"), "txt");
    expect(&o, "$3\r\n1.5\r\n$1\r\n3\r\n$3\r\ninf\r\n$19\r\n0.10000000000000001\r\n:1\r\n$3\r\n123"
               "\r\n$4\r\ntext\r\n");
    reply_null(r);
    reply_null_array(r);
    reply_array(r, 3);
    reply_array(r, 1234);
    reply_map(r, 2);
    reply_set(r, 2);
    reply_push(r, 2);
    reply_empty_array(r);
    expect(&o, "$-1\r\n*-1\r\n*3\r\n*1234\r\n*4\r\n*2\r\n*2\r\n*0\r\n");
}

/* Every function gives its form in RESP3. */
static void test_resp3(void **state)
{
    struct output o;
    struct reply *r = &o.reply;
    (void)state;
    begin(&o, 3);
    reply_double(r, 1.5);
    reply_double(r, -INFINITY);
    reply_bulk_double(r, 2);
    reply_bool(r, true);
    reply_bool(r, false);
    reply_bignum(r, SLICE("123"));
    reply_verbatim(r, SLICE("text"), "txt");
    expect(&o, ",1.5\r\n,-inf\r\n$1\r\n2\r\n#t\r\n#f\r\n(123\r\n=8\r\ntxt:text\r\n");
    reply_null(r);
    reply_null_array(r);
    reply_map(r, 2);
    reply_set(r, 2);
    reply_push(r, 2);
    expect(&o, "_\r\n_\r\n%2\r\n~2\r\n>2\r\n");
}

/* An error is one line whatever it holds, its code is noted and it is counted. */
static void test_errors(void **state)
{
    struct output o;
    struct reply *r = &o.reply;
    (void)state;
    begin(&o, 2);
    reply_errorf(r, "ERR bad '%s'", "a\r\nb");
    assert_string_equal(r->last_error, "ERR");
    reply_wrong_type(r);
    assert_string_equal(r->last_error, "WRONGTYPE");
    reply_error(r, "NOCODE");
    assert_string_equal(r->last_error, "ERR"); /* one word is no code */
    assert_int_equal(r->error_count, 3);
    expect(&o, "-ERR bad 'a  b'\r\n-WRONGTYPE Operation against a key holding the wrong kind of "
               "value\r\n-NOCODE\r\n");
    char name[1000];
    memset(name, 'x', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    reply_errorf(r, "ERR %s", name);
    size_t size;
    char *got = drain(&o.out, SIZE_MAX, &size);
    assert_int_equal(size, 5 + 999 + 2);
    mem_free(got);
}

/* Deferred aggregates, nested and over several blocks, come out as if the count had been known. */
static void test_deferred(void **state)
{
    (void)state;
    static char filler[20000];
    memset(filler, 'f', sizeof(filler));
    for (size_t lead = 0; lead < 64; lead++) {
        for (size_t item = 0; item < sizeof(filler); item += 4999) {
            struct output a, b;
            begin(&a, 3);
            begin(&b, 3);
            struct slice first = slice_of(filler, 16384 - 64 + lead);
            reply_append(&a.reply, first);
            reply_append(&b.reply, first);
            struct reply_mark outer = reply_deferred_begin(&a.reply);
            reply_array(&b.reply, 3);
            reply_bulk(&a.reply, slice_of(filler, item));
            reply_bulk(&b.reply, slice_of(filler, item));
            struct reply_mark inner = reply_deferred_begin(&a.reply);
            reply_map(&b.reply, 1);
            reply_int(&a.reply, 7);
            reply_int(&b.reply, 7);
            reply_bulk(&a.reply, slice_of(filler, item));
            reply_bulk(&b.reply, slice_of(filler, item));
            reply_deferred_map(&a.reply, inner, 1);
            struct reply_mark last = reply_deferred_begin(&a.reply);
            reply_deferred_set(&a.reply, last, 0);
            reply_set(&b.reply, 0);
            reply_deferred_array(&a.reply, outer, 3);
            reply_ok(&a.reply);
            reply_ok(&b.reply);
            size_t size_a, size_b;
            char *got_a = drain(&a.out, 1000, &size_a), *got_b = drain(&b.out, 777, &size_b);
            assert_int_equal(size_a, size_b);
            assert_memory_equal(got_a, got_b, size_a);
            mem_free(got_a);
            mem_free(got_b);
        }
    }
}

/* Random appends, holes, moves between buffers and partial consumption against a plain string. */
static void test_outbuf_random(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    print_message("HF_SEED=%u\n", seed);
    srand(seed);
    for (int round = 0; round < 300; round++) {
        struct outbuf out = {0}, other = {0};
        char *model = mem_alloc(4 << 20);
        size_t begin_at = 0, end = 0;
        for (int step = 0; step < 100; step++) {
            size_t n = (size_t)rand() % (rand() % 4 == 0 ? 30000 : 300);
            char *bytes = mem_alloc(n + 1);
            for (size_t i = 0; i < n; i++)
                bytes[i] = (char)rand();
            switch (rand() % 5) {
            case 0:
            case 1:
                outbuf_append(&out, bytes, n);
                memcpy(model + end, bytes, n);
                end += n;
                break;
            case 2: {
                struct outbuf_mark mark = outbuf_hole(&out);
                outbuf_append(&out, bytes, n);
                outbuf_fill(&out, mark, "0123456789", n % 11);
                memcpy(model + end, "0123456789", n % 11);
                memcpy(model + end + n % 11, bytes, n);
                end += n % 11 + n;
                break;
            }
            case 3:
                outbuf_append(&other, bytes, n);
                outbuf_append(&other, bytes, n);
                outbuf_consume(&other, n / 2);
                outbuf_move(&out, &other);
                assert_true(outbuf_is_empty(&other));
                memcpy(model + end, bytes + n / 2, n - n / 2);
                memcpy(model + end + (n - n / 2), bytes, n);
                end += n - n / 2 + n;
                break;
            default: {
                size_t size = outbuf_size(&out), part = size != 0 ? (size_t)rand() % size : 0;
                struct iovec v[64];
                int count = outbuf_vectors(&out, v, 64);
                size_t at = begin_at;
                for (int i = 0; i < count; i++) {
                    assert_memory_equal(v[i].iov_base, model + at, v[i].iov_len);
                    at += v[i].iov_len;
                }
                outbuf_consume(&out, part);
                begin_at += part;
            }
            }
            mem_free(bytes);
            assert_int_equal(outbuf_size(&out), end - begin_at);
        }
        size_t size;
        char *got = drain(&out, 5000, &size);
        assert_int_equal(size, end - begin_at);
        assert_memory_equal(got, model + begin_at, size);
        mem_free(got);
        mem_free(model);
    }
}

/* A socket that takes as many bytes as it has room for. */
struct socket {
    struct output output;
    char *taken;
    size_t size, room;
};

static size_t take(struct reply *r, const struct slice *parts, int count)
{
    struct socket *s = (struct socket *)(void *)((char *)r - offsetof(struct socket, output.reply));
    size_t sent = 0;
    for (int i = 0; i < count; i++) {
        size_t n = parts[i].size < s->room ? parts[i].size : s->room;
        memcpy(s->taken + s->size, parts[i].data, n);
        s->size += n;
        s->room -= n;
        sent += n;
    }
    return sent;
}

/* Large strings go past the buffer as far as the socket takes them, wherever it stops, and only
 * when nothing waits before them; what was taken and what is left are the reply. */
static void test_direct(void **state)
{
    (void)state;
    enum { RUN = 3000, RUNS = 100, SIZE = RUN * RUNS };
    static const size_t rooms[] = {
        0,        1,        8,        9,         10,        RUN + 9, 61 * RUN + 9, 61 * RUN + 10,
        62 * RUN, SIZE + 8, SIZE + 9, SIZE + 10, SIZE + 11, 2 * SIZE};
    char *bytes = mem_alloc(SIZE), *wanted = mem_alloc(2 * SIZE + 100);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        struct reply_direct direct = {.send = take};
        struct socket s = {.taken = mem_alloc(2 * SIZE + 100), .room = rooms[i]};
        begin(&s.output, 2);
        s.output.reply.direct = &direct;
        size_t end = 0;
        for (int round = 0; round < 2; round++) {
            reply_bulk_begin(&s.output.reply, SIZE);
            for (size_t at = 0; at < SIZE; at += RUN)
                reply_append(&s.output.reply, slice_of(bytes + at, RUN));
            reply_bulk_end(&s.output.reply);
            reply_int(&s.output.reply, round);
            memcpy(wanted + end, "$300000\r\n", 9);
            memcpy(wanted + end + 9, bytes, SIZE);
            memcpy(wanted + end + 9 + SIZE, "\r\n:", 3);
            wanted[end + SIZE + 12] = (char)('0' + round);
            memcpy(wanted + end + SIZE + 13, "\r\n", 2);
            end += SIZE + 15;
        }
        /* The second one waits behind the number. */
        assert_int_equal(s.size, rooms[i] < SIZE + 11 ? rooms[i] : SIZE + 11);
        size_t left;
        char *rest = drain(&s.output.out, SIZE_MAX, &left);
        assert_int_equal(s.size + left, end);
        assert_memory_equal(s.taken, wanted, s.size);
        assert_memory_equal(rest, wanted + s.size, left);
        mem_free(rest);
        mem_free(s.taken);
    }
    mem_free(bytes);
    mem_free(wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resp2),         cmocka_unit_test(test_resp3),
        cmocka_unit_test(test_errors),        cmocka_unit_test(test_deferred),
        cmocka_unit_test(test_outbuf_random), cmocka_unit_test(test_direct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
