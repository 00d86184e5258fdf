/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <time.h>

#include "base/mem.h"
#include "base/text.h"
#include "resp/parser.h"

#define BULK_MAX (512LL << 20)

/* Feeds bytes to a parser in pieces, the way a connection does (the window is moved to other memory
 * before each piece, big arguments are filled in place), and writes down what comes out:
 * "[GET|a]" for a command, "()" for nothing to execute, "!text" for an error. */
struct feeder {
    struct parser parser;
    struct parser_limits limits;
    char *memory; /* of the window */
    struct parser_window window;
    struct text log;
    struct slice big; /* what arguments of this size have to be */
    int joined;       /* arguments that came in pieces */
    bool failed;
};

static void feeder_init(struct feeder *f)
{
    *f = (struct feeder){.limits = {.bulk_max = BULK_MAX}};
}

static void feeder_deinit(struct feeder *f)
{
    parser_reset(&f->parser);
    mem_free(f->memory);
    text_free(&f->log);
}

static void note_command(struct feeder *f, const struct slice *argv, int argc)
{
    for (int i = 0; i < argc; i++) {
        text_append_cstr(&f->log, i == 0 ? "[" : "|");
        if (f->big.size == argv[i].size)
            assert_true(slice_equal(f->big, argv[i]));
        if (argv[i].size > 1000)
            text_appendf(&f->log, "%c*%zu*%c", argv[i].data[0], argv[i].size,
                         argv[i].data[argv[i].size - 1]);
        else
            text_append(&f->log, argv[i].data, argv[i].size);
    }
    text_append_cstr(&f->log, "]");
}

static void parse_all(struct feeder *f)
{
    static struct slice args[PARSER_ARGS_FAST];
    while (!f->failed) {
        const struct slice *argv;
        int argc;
        bool kept;
        switch (parser_next(&f->parser, &f->window, &f->limits, args, &argv, &argc, &kept)) {
        case PARSE_MORE:
            return;
        case PARSE_EMPTY:
            text_append_cstr(&f->log, "()");
            break;
        case PARSE_ERROR:
            text_appendf(&f->log, "!%s", parser_error_text(&f->parser));
            f->failed = true;
            break;
        case PARSE_COMMAND:
            assert_true(argc > 0);
            if (parser_pieces(&f->parser) != NULL) {
                const struct parser_pieces *pieces = parser_pieces(&f->parser);
                assert_memory_equal(pieces->blocks[0] + PARSER_PIECE_HEAD, f->big.data,
                                    PARSER_PIECE);
                assert_int_equal(argv[pieces->index].size, pieces->size);
                parser_join(&f->parser);
                assert_null(parser_pieces(&f->parser));
                f->joined++;
            }
            note_command(f, argv, argc);
            if (kept)
                parser_release(&f->parser, &f->window);
            break;
        }
    }
}

static void feed(struct feeder *f, const char *bytes, size_t size)
{
    struct iovec room;
    while (parser_big_rooms(&f->parser, &room, 1) != 0 && size != 0) {
        size_t n = size < room.iov_len ? size : room.iov_len;
        memcpy(room.iov_base, bytes, n);
        parser_big_filled(&f->parser, n);
        bytes += n;
        size -= n;
    }
    char *memory = mem_alloc(f->window.size + size + 1);
    if (f->window.size != 0)
        memcpy(memory, f->window.data, f->window.size);
    parser_moved(&f->parser, f->window.data, f->window.size, memory);
    if (size != 0)
        memcpy(memory + f->window.size, bytes, size);
    mem_free(f->memory);
    f->memory = memory;
    f->window.data = memory;
    f->window.size += size;
    parse_all(f);
}

static struct parser_limits open_limits(void)
{
    return (struct parser_limits){.bulk_max = BULK_MAX};
}

/* The log of the bytes given whole, in two pieces split anywhere, and one by one, is the same. */
static void expect_limited(struct slice input, const char *wanted, struct parser_limits limits)
{
    for (size_t split = 0; split <= input.size; split++) {
        struct feeder f;
        feeder_init(&f);
        f.limits = limits;
        feed(&f, input.data, split);
        if (split < input.size)
            feed(&f, input.data + split, input.size - split);
        if (strcmp(text_cstr(&f.log), wanted) != 0)
            fail_msg("split at %zu of \"%.60s\": \"%s\", not \"%s\"", split, input.data,
                     text_cstr(&f.log), wanted);
        feeder_deinit(&f);
    }
    struct feeder f;
    feeder_init(&f);
    f.limits = limits;
    for (size_t i = 0; i < input.size; i++)
        feed(&f, input.data + i, 1);
    assert_string_equal(text_cstr(&f.log), wanted);
    feeder_deinit(&f);
}

#define EXPECT(literal, wanted) expect_limited(SLICE(literal), wanted, open_limits())

/* Arrays of bulk strings, pipelined, with empty and odd ones between. */
static void test_arrays(void **state)
{
    (void)state;
    EXPECT("*1\r\n$4\r\nPING\r\n", "[PING]");
    EXPECT("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*3\r\n$3\r\nSET\r\n$0\r\n\r\n$2\r\n\r\n\r\n",
           "[GET|a][SET||\r\n]");
    EXPECT("*0\r\n*-1\r\n*1\r\n$1\r\nx\r\n", "()()[x]");
    EXPECT(
        "*11\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1\r\n"
        "h\r\n$1\r\ni\r\n$1\r\nj\r\n$11\r\nkkkkkkkkkkk\r\n",
        "[a|b|c|d|e|f|g|h|i|j|kkkkkkkkkkk]");
    /* What stands in the place of CR LF behind an argument and of LF behind a length is not
     * read. */
    EXPECT("*1\r\n$4\r\nPINGxy*1\rz$4\r\nECHO\r\n", "[PING][ECHO]");
}

/* The texts of Redis 7.0 for what is not an array of bulk strings. */
static void test_array_errors(void **state)
{
    (void)state;
    EXPECT("*abc\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("*\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("*01\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("* 1\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("*2147483648\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("*99999999999999999999\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("*1\r\n+x\r\n", "!Protocol error: expected '$', got '+'");
    EXPECT("*1\r\n\r\n", "!Protocol error: expected '$', got '\r'");
    EXPECT("*1\r\n$-1\r\n", "!Protocol error: invalid bulk length");
    EXPECT("*1\r\n$abc\r\n", "!Protocol error: invalid bulk length");
    EXPECT("*1\r\n$04\r\n", "!Protocol error: invalid bulk length");
    EXPECT("*1\r\n$536870913\r\n", "!Protocol error: invalid bulk length");
    EXPECT("*1\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n$x\r\n", "[a]!Protocol error: invalid bulk length");
    /* The line of a length ends at CR LF, not at LF; a NUL hides its end. */
    EXPECT("*1\n$4\nPING\n\r\n", "!Protocol error: invalid multibulk length");
    EXPECT("*1\0\r\n", "");
}

/* Inline requests: words, quotes and escapes as redis-cli and telnet users write them. */
static void test_inline(void **state)
{
    (void)state;
    EXPECT("PING\r\n", "[PING]");
    EXPECT("PING\n", "[PING]");
    EXPECT("  SET \t a   b \r\n\r\nGET a\n", "[SET|a|b]()[GET|a]");
    EXPECT("set \"a b\" 'c d'\r\n", "[set|a b|c d]");
    EXPECT("set \"\\x41\\n\\t\\q\\\"\" 'it\\'s \\n'\r\n", "[set|A\n\tq\"|it's \\n]");
    EXPECT("set \"\" ''\r\n", "[set||]");
    EXPECT("se\"t\" x\r\n", "[set|x]");
    EXPECT("set \"\\xzz\\x4\"\r\n", "[set|xzzx4]");
    EXPECT("set \"abc\r\nPING\r\n", "!Protocol error: unbalanced quotes in request");
    EXPECT("set 'abc\r\n", "!Protocol error: unbalanced quotes in request");
    EXPECT("set \"a\"b\r\n", "!Protocol error: unbalanced quotes in request");
    EXPECT("set 'a'b\r\n", "!Protocol error: unbalanced quotes in request");
    EXPECT("PING\r\n*1\r\n$4\r\nECHO\r\nTIME\r\n", "[PING][ECHO][TIME]");
}

/* Before authentication: at most 10 arguments of at most 16384 bytes. */
static void test_unauthenticated(void **state)
{
    (void)state;
    struct parser_limits limits = {.bulk_max = BULK_MAX, .unauthenticated = true};
    expect_limited(SLICE("*2\r\n$4\r\nAUTH\r\n$1\r\na\r\n"), "[AUTH|a]", limits);
    expect_limited(SLICE("*10\r\n"), "", limits);
    expect_limited(SLICE("*11\r\n"), "!Protocol error: unauthenticated multibulk length", limits);
    expect_limited(SLICE("*1\r\n$16384\r\n"), "", limits);
    expect_limited(SLICE("*1\r\n$16385\r\n"), "!Protocol error: unauthenticated bulk length",
                   limits);
}

/* proto-max-bulk-len. */
static void test_bulk_limit(void **state)
{
    (void)state;
    struct parser_limits limits = {.bulk_max = 5};
    expect_limited(SLICE("*1\r\n$5\r\nhello\r\n"), "[hello]", limits);
    expect_limited(SLICE("*1\r\n$6\r\nhellos\r\n"), "!Protocol error: invalid bulk length", limits);
}

/* A line without an end is refused when it is longer than 64 KiB, not before. */
static void test_long_lines(void **state)
{
    (void)state;
    static char line[PARSER_LINE_MAX + 1];
    static const struct {
        const char *begin, *error;
    } cases[] = {
        {"", "!Protocol error: too big inline request"},
        {"*", "!Protocol error: too big mbulk count string"},
        {"*1\r\n$", "!Protocol error: too big bulk count string"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct feeder f;
        feeder_init(&f);
        memset(line, '1', sizeof(line));
        size_t begin = strlen(cases[i].begin);
        feed(&f, cases[i].begin, begin);
        size_t of_line = begin != 0 ? 1 : 0;
        feed(&f, line, PARSER_LINE_MAX - of_line);
        assert_string_equal(text_cstr(&f.log), "");
        feed(&f, line, 1);
        assert_string_equal(text_cstr(&f.log), cases[i].error);
        feeder_deinit(&f);
    }
}

static bool first_in_pieces(const struct slice *argv, int argc, int64_t count)
{
    return count == 4 && argc == 1 && slice_is(argv[0], "mset");
}

/* An argument of 32 KiB or more is received in a block of its own, or in pieces if that is wanted,
 * wherever it is cut, and the arguments around it are right. */
static void receive_big_arguments(bool in_pieces)
{
    static const size_t sizes[] = {PARSER_BIG_MIN - 1, PARSER_BIG_MIN,   5 * PARSER_PIECE - 1,
                                   5 * PARSER_PIECE,   100000};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        size_t n = sizes[k];
        struct text input = {0};
        char *value = mem_alloc(n);
        for (size_t i = 0; i < n; i++)
            value[i] = (char)('c' + i % 19);
        value[0] = 'b';
        value[n - 1] = 'e';
        text_appendf(&input, "*4\r\n$4\r\nMSET\r\n$%zu\r\n", n);
        text_append(&input, value, n);
        text_appendf(&input, "\r\n$1\r\nk\r\n$%zu\r\n", n);
        text_append(&input, value, n);
        text_append_cstr(&input, "\r\n*1\r\n$4\r\nPING\r\n");
        char wanted[128];
        snprintf(wanted, sizeof(wanted), "[MSET|b*%zu*e|k|b*%zu*e][PING]", n, n);
        for (size_t piece = 1; piece <= input.size; piece = piece * 3 + 1) {
            if (piece < 100)
                piece = 997;
            struct feeder f;
            feeder_init(&f);
            f.big = slice_of(value, n);
            f.limits.in_pieces = in_pieces ? first_in_pieces : NULL;
            for (size_t at = 0; at < input.size; at += piece)
                feed(&f, input.data + at,
                     input.size - at < piece ? input.size - at : piece);
            assert_string_equal(text_cstr(&f.log), wanted);
            assert_int_equal(parser_memory(&f.parser), 0);
            /* One that was there whole from the beginning is a slice of the window. */
            assert_int_equal(f.joined, in_pieces && n >= PARSER_BIG_MIN && piece < n);
            feeder_deinit(&f);
        }
        text_free(&input);
        mem_free(value);
    }
}

static void test_big_arguments(void **state)
{
    (void)state;
    receive_big_arguments(false);
    receive_big_arguments(true);
}

/* A command that is given up in the middle of such an argument leaves nothing behind. */
static void test_pieces_are_dropped(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct feeder f;
    feeder_init(&f);
    f.limits.in_pieces = first_in_pieces;
    struct slice begun = SLICE("*4\r\n$4\r\nmset\r\n$100000\r\nabc");
    feed(&f, begun.data, begun.size);
    assert_true(parser_memory(&f.parser) > 100000);
    feeder_deinit(&f);
    assert_int_equal(mem_used(), before);
}

/* More arguments than the fast way takes, announced counts that are never filled. */
static void test_many_arguments(void **state)
{
    (void)state;
    for (int count = PARSER_ARGS_FAST - 1; count <= PARSER_ARGS_FAST + 1; count++) {
        struct text input = {0}, wanted = {0};
        text_appendf(&input, "*%d\r\n", count);
        for (int i = 0; i < count; i++) {
            text_append_cstr(&input, "$1\r\na\r\n");
            text_append_cstr(&wanted, i == 0 ? "[a" : "|a");
        }
        text_append_cstr(&wanted, "]");
        struct feeder f;
        feeder_init(&f);
        feed(&f, input.data, input.size);
        assert_string_equal(text_cstr(&f.log), text_cstr(&wanted));
        feeder_deinit(&f);
        text_free(&input);
        text_free(&wanted);
    }
    struct feeder f;
    feeder_init(&f);
    feed(&f, "*2147483647\r\n$1\r\na\r\n", 20);
    assert_true(parser_memory(&f.parser) < 4096);
    feeder_deinit(&f);
}

/* Random requests cut at random, and random damage, never read or write where they may not (under
 * the sanitizers), and undamaged ones come out as they went in. */
static void test_random(void **state)
{
    (void)state;
    const char *given = getenv("HF_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    print_message("HF_SEED=%u\n", seed);
    srand(seed);
    for (int round = 0; round < 2000; round++) {
        struct text input = {0}, wanted = {0};
        for (int commands = rand() % 5 + 1; commands > 0; commands--) {
            int argc = rand() % 6 + 1;
            text_appendf(&input, "*%d\r\n", argc);
            for (int i = 0; i < argc; i++) {
                size_t n = (size_t)rand() % 50;
                text_appendf(&input, "$%zu\r\n", n);
                text_append_cstr(&wanted, i == 0 ? "[" : "|");
                while (n-- > 0) {
                    char c = (char)rand();
                    text_append(&input, &c, 1);
                    text_append(&wanted, &c, 1);
                }
                text_append_cstr(&input, "\r\n");
            }
            text_append_cstr(&wanted, "]");
        }
        bool damaged = rand() % 2 == 0;
        for (int i = damaged ? rand() % 4 + 1 : 0; i > 0; i--)
            input.data[(size_t)rand() % input.size] = "*$\r\n0199\"'x-"[rand() % 12];
        struct feeder f;
        feeder_init(&f);
        f.limits.bulk_max = 1 << 20;
        for (size_t at = 0; at < input.size;) {
            size_t n = (size_t)rand() % (input.size - at) + 1;
            feed(&f, input.data + at, n);
            at += n;
        }
        if (!damaged)
            assert_true(slice_equal(text_slice(&f.log), text_slice(&wanted)));
        feeder_deinit(&f);
        text_free(&input);
        text_free(&wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arrays),         cmocka_unit_test(test_array_errors),
        cmocka_unit_test(test_inline),         cmocka_unit_test(test_unauthenticated),
        cmocka_unit_test(test_bulk_limit),     cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_big_arguments),
        cmocka_unit_test(test_pieces_are_dropped),  cmocka_unit_test(test_many_arguments),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
