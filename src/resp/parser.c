/* SPDX-License-Identifier: BSD-3-Clause */
#include "resp/parser.h"

#include <assert.h>
#include <stdio.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "base/number.h"

#define MULTIBULK_UNAUTHENTICATED_MAX 10
#define BULK_UNAUTHENTICATED_MAX 16384
/* What is allocated for arguments before they have arrived: an announced count proves nothing. */
#define ARGS_FIRST 16

/*
 * The state of a command that did not arrive in one piece.
 *
 *     BETWEEN --"*n"--> ARGUMENTS --last argument--> HELD --parser_release--> (state freed)
 *        |                                            ^
 *        +--------------inline line-------------------+
 *     any --error--> FAILED
 */
enum stage { STAGE_BETWEEN, STAGE_ARGUMENTS, STAGE_HELD, STAGE_FAILED };

struct big {
    char *data;  /* NULL: in pieces */
    size_t size; /* with the CR LF behind the bytes */
    size_t filled;
};

struct parser_state {
    enum stage stage;
    size_t scan;         /* bytes of the window that were looked at; it begins with the command */
    int64_t count;       /* arguments announced */
    int64_t bulk;        /* size of the argument being received; -1: its header has not come */
    struct slice *argv;  /* into the window or into bigs */
    int argc, argv_room;
    size_t argv_bytes;
    struct big *bigs; /* the last one may be unfilled */
    int big_count;
    size_t big_bytes;
    bool big_open;
    struct parser_pieces pieces; /* no blocks: none */
    char error[64];
};

static struct parser_state *state_get(struct parser *p)
{
    if (p->state == NULL) {
        p->state = mem_zalloc(sizeof(*p->state));
        p->state->bulk = -1;
    }
    return p->state;
}

static void pieces_free(struct parser_pieces *pieces)
{
    for (size_t i = 0; i < pieces->count; i++)
        mem_free(pieces->blocks[i]);
    mem_free(pieces->blocks);
    *pieces = (struct parser_pieces){0};
}

void parser_reset(struct parser *p)
{
    struct parser_state *s = p->state;
    if (s == NULL)
        return;
    for (int i = 0; i < s->big_count; i++)
        mem_free(s->bigs[i].data);
    mem_free(s->bigs);
    pieces_free(&s->pieces);
    mem_free(s->argv);
    mem_free(s);
    p->state = NULL;
}

void parser_release(struct parser *p, struct parser_window *window)
{
    const struct parser_state *s = p->state;
    if (s == NULL || s->stage != STAGE_HELD)
        return;
    window->data += s->scan;
    window->size -= s->scan;
    parser_reset(p);
}

struct slice parser_held_request(const struct parser *p, const struct parser_window *window)
{
    const struct parser_state *s = p->state;
    if (s == NULL || s->stage != STAGE_HELD || s->big_count != 0 || window->data[0] != '*')
        return slice_of(NULL, 0);
    return slice_of(window->data, s->scan);
}

void parser_moved(struct parser *p, const char *from, size_t size, char *to)
{
    struct parser_state *s = p->state;
    if (s == NULL || from == to)
        return;
    uintptr_t first = (uintptr_t)from;
    for (int i = 0; i < s->argc; i++) {
        uintptr_t at = (uintptr_t)s->argv[i].data;
        if (at >= first && at <= first + size)
            s->argv[i].data = to + (at - first);
    }
}

/* The room from `at` on in the pieces, up to the end of one of them. */
static char *piece_room(const struct parser_state *s, const struct big *b, size_t at, size_t *size)
{
    size_t in = at % PARSER_PIECE;
    *size = b->size - at < PARSER_PIECE - in ? b->size - at : PARSER_PIECE - in;
    return s->pieces.blocks[at / PARSER_PIECE] + PARSER_PIECE_HEAD + in;
}

int parser_big_rooms(const struct parser *p, struct iovec *rooms, int max)
{
    const struct parser_state *s = p->state;
    if (s == NULL || !s->big_open)
        return 0;
    const struct big *b = &s->bigs[s->big_count - 1];
    if (b->data != NULL) {
        rooms[0] = (struct iovec){b->data + b->filled, b->size - b->filled};
        return b->filled < b->size;
    }
    int count = 0;
    for (size_t at = b->filled; at < b->size && count < max; at += rooms[count++].iov_len)
        rooms[count].iov_base = piece_room(s, b, at, &rooms[count].iov_len);
    return count;
}

struct parser_pieces *parser_pieces(const struct parser *p)
{
    struct parser_state *s = p->state;
    return s != NULL && s->stage == STAGE_HELD && s->pieces.count != 0 ? &s->pieces : NULL;
}

void parser_join(struct parser *p)
{
    struct parser_pieces *pieces = parser_pieces(p);
    if (pieces == NULL)
        return;
    struct parser_state *s = p->state;
    char *block = mem_alloc(pieces->size + 2);
    for (size_t at = 0, i = 0; at < pieces->size; at += PARSER_PIECE, i++) {
        size_t n = pieces->size - at < PARSER_PIECE ? pieces->size - at : PARSER_PIECE;
        memcpy(block + at, pieces->blocks[i] + PARSER_PIECE_HEAD, n);
    }
    for (int i = 0; i < s->big_count; i++) {
        if (s->bigs[i].data == NULL)
            s->bigs[i].data = block;
    }
    s->argv[pieces->index].data = block;
    pieces_free(pieces);
}

void parser_big_filled(struct parser *p, size_t size)
{
    struct parser_state *s = p->state;
    struct big *b = &s->bigs[s->big_count - 1];
    assert(size <= b->size - b->filled);
    b->filled += size;
}

size_t parser_memory(const struct parser *p)
{
    const struct parser_state *s = p->state;
    if (s == NULL)
        return 0;
    return sizeof(*s) + (size_t)s->argv_room * sizeof(struct slice) + s->big_bytes;
}

const char *parser_error_text(const struct parser *p)
{
    return p->state != NULL ? p->state->error : "";
}

static enum parse_result fail(struct parser *p, const char *what)
{
    struct parser_state *s = state_get(p);
    s->stage = STAGE_FAILED;
    snprintf(s->error, sizeof(s->error), "Protocol error: %s", what);
    return PARSE_ERROR;
}

static void add_argument(struct parser_state *s, const char *data, size_t size)
{
    if (s->argc == s->argv_room) {
        s->argv_room = s->argv_room == 0 ? ARGS_FIRST : s->argv_room * 2;
        s->argv = mem_realloc(s->argv, (size_t)s->argv_room * sizeof(struct slice));
    }
    s->argv[s->argc++] = slice_of(data, size);
    s->argv_bytes += size;
}

/* The first `c` at or behind `from`, but none behind a NUL. */
static const char *find_line_byte(const char *from, const char *end, char c)
{
    const char *at = memchr(from, c, (size_t)(end - from));
    if (at != NULL && memchr(from, '\0', (size_t)(at - from)) != NULL)
        return NULL;
    return at;
}

/* The fast way: a whole command in the window, with short lengths. False: look closer. On success
 * *used is its size. */
static bool parse_whole(const char *data, size_t size, int64_t bulk_max, int arg_max,
                        struct slice *argv, int *argc, size_t *used)
{
    const char *p = data, *end = data + size;
    /* "*n\r\n" and at least one "$n\r\n" */
    if (end - p < 8 || *p != '*')
        return false;
    unsigned count = (unsigned)(unsigned char)p[1] - '0';
    if (count > 9)
        return false;
    p += 2;
    /* Eight bytes are there: four digits at most end within them. */
    while (*p != '\r') {
        unsigned d = (unsigned)(unsigned char)*p - '0';
        if (d > 9 || count == 0 || count > 999)
            return false;
        count = count * 10 + d;
        p++;
    }
    if (count == 0 || count > (unsigned)arg_max)
        return false;
    p += 2;
    for (unsigned i = 0; i < count; i++) {
        if (end - p < 5 || *p != '$')
            return false;
        uint64_t n = (uint64_t)(unsigned char)p[1] - '0';
        if (n > 9)
            return false;
        p += 2;
        if (*p != '\r') {
            if (n == 0)
                return false;
            /* The line ends within the window, as at least five bytes were there and each round
             * checks the next. */
            do {
                uint64_t d = (uint64_t)(unsigned char)*p - '0';
                if (d > 9 || n > 99999999)
                    return false;
                n = n * 10 + d;
                if (++p == end)
                    return false;
            } while (*p != '\r');
        }
        p += 2;
        if (p > end || (uint64_t)(end - p) < n + 2 || n > (uint64_t)bulk_max)
            return false;
        argv[i] = slice_of(p, n);
        p += n + 2;
    }
    *argc = (int)count;
    *used = (size_t)(p - data);
    return true;
}

/* One line with a length, as "*12" or "$12": the number behind its first byte. 1: parsed, and scan
 * is behind it; 0: not yet there; -1: not a number; -2: the line is too long. */
static int parse_length(struct parser_state *s, const struct parser_window *w, int64_t *out)
{
    const char *from = w->data + s->scan, *end = w->data + w->size;
    const char *cr = find_line_byte(from, end, '\r');
    if (cr == NULL)
        return end - from > PARSER_LINE_MAX ? -2 : 0;
    if (end - cr < 2)
        return 0;
    struct slice text = slice_of(from + 1, (size_t)(cr - from) - 1);
    if (cr == from || !number_parse_int64(text, out))
        return -1;
    s->scan = (size_t)(cr - w->data) + 2;
    return 1;
}

static enum parse_result hold(struct parser_state *s)
{
    s->stage = STAGE_HELD;
    return PARSE_COMMAND;
}

/* Blocks for an argument of so many bytes, CR LF included. */
static void begin_pieces(struct parser_state *s, size_t size)
{
    size_t count = (size + PARSER_PIECE - 1) / PARSER_PIECE;
    s->pieces = (struct parser_pieces){.blocks = mem_alloc(count * sizeof(char *)),
                                       .count = count,
                                       .size = size - 2,
                                       .index = s->argc};
    for (size_t i = 0; i < count; i++)
        s->pieces.blocks[i] = mem_alloc(PARSER_PIECE_HEAD + PARSER_PIECE);
}

/* Begin a block, or pieces, for an argument that is not complete; what is there of it leaves the
 * window. */
static bool begin_big(struct parser_state *s, struct parser_window *w,
                      const struct parser_limits *limits)
{
    size_t size = (size_t)s->bulk + 2;
    char *block = NULL;
    bool in_pieces = size <= PARSER_PIECES_MAX && s->pieces.count == 0 &&
                     limits->in_pieces != NULL && limits->in_pieces(s->argv, s->argc, s->count);
    if (in_pieces)
        begin_pieces(s, size);
    else if ((block = mem_try_alloc(size)) == NULL)
        return false;
    s->bigs = mem_realloc(s->bigs, (size_t)(s->big_count + 1) * sizeof(*s->bigs));
    struct big *b = &s->bigs[s->big_count++];
    *b = (struct big){.data = block, .size = size, .filled = w->size - s->scan};
    const char *from = w->data + s->scan;
    if (!in_pieces)
        memcpy(block, from, b->filled);
    for (size_t at = 0, n; in_pieces && at < b->filled; at += n) {
        char *to = piece_room(s, b, at, &n);
        if (n > b->filled - at)
            n = b->filled - at;
        memcpy(to, from + at, n);
    }
    s->big_bytes += size;
    w->size = s->scan;
    s->big_open = true;
    return true;
}

static enum parse_result parse_arguments(struct parser *p, struct parser_window *w,
                                         const struct parser_limits *limits)
{
    struct parser_state *s = p->state;
    while (s->argc < s->count) {
        if (s->bulk < 0) {
            if (s->scan == w->size)
                return PARSE_MORE;
            /* Redis waits for the whole line before it looks at its first byte. */
            size_t line = s->scan;
            int64_t n = 0;
            int got = parse_length(s, w, &n);
            if (got == 0)
                return PARSE_MORE;
            if (got == -2)
                return fail(p, "too big bulk count string");
            char first = w->data[line];
            if (first != '$') {
                fail(p, "expected '$', got '");
                size_t used = strlen(s->error);
                snprintf(s->error + used, sizeof(s->error) - used, "%c'", first);
                return PARSE_ERROR;
            }
            if (got == -1 || n < 0 || n > limits->bulk_max)
                return fail(p, "invalid bulk length");
            if (n > BULK_UNAUTHENTICATED_MAX && limits->unauthenticated)
                return fail(p, "unauthenticated bulk length");
            s->bulk = n;
            if (n >= PARSER_BIG_MIN && w->size - s->scan < (size_t)n + 2 &&
                !begin_big(s, w, limits))
                return fail(p, "invalid bulk length");
        }
        size_t n = (size_t)s->bulk;
        if (s->big_open) {
            struct big *b = &s->bigs[s->big_count - 1];
            if (b->filled < b->size)
                return PARSE_MORE;
            s->big_open = false;
            add_argument(s, b->data != NULL ? b->data : s->pieces.blocks[0] + PARSER_PIECE_HEAD, n);
        } else {
            if (w->size - s->scan < n + 2)
                return PARSE_MORE;
            add_argument(s, w->data + s->scan, n);
            s->scan += n + 2;
        }
        s->bulk = -1;
    }
    return hold(s);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* What ends a word: fewer than what may stand between words. */
static bool ends_word(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decode what stands in double quotes, from behind the opening one. Gives the place behind the
 * closing one, or NULL. The decoded bytes go to *to, never ahead of what is read. */
static char *unquote_double(char *from, const char *end, char **to)
{
    char *out = *to;
    for (; from < end && *from != '"'; from++) {
        if (*from != '\\' || from + 1 >= end) {
            *out++ = *from;
            continue;
        }
        if (end - from >= 4 && from[1] == 'x' && hex_digit(from[2]) >= 0 &&
            hex_digit(from[3]) >= 0) {
            *out++ = (char)(hex_digit(from[2]) * 16 + hex_digit(from[3]));
            from += 3;
            continue;
        }
        static const char names[] = "nrtba", bytes[] = "\n\r\t\b\a";
        const char *name = memchr(names, from[1], sizeof(names) - 1);
        *out++ = name != NULL ? bytes[name - names] : from[1];
        from++;
    }
    *to = out;
    return from < end ? from + 1 : NULL;
}

static char *unquote_single(char *from, const char *end, char **to)
{
    char *out = *to;
    for (; from < end && *from != '\''; from++) {
        if (*from == '\\' && from + 1 < end && from[1] == '\'')
            from++;
        *out++ = *from;
    }
    *to = out;
    return from < end ? from + 1 : NULL;
}

/* Split a line into words; quotes are undone in place. False: they are not balanced. */
static bool split_line(struct parser_state *s, char *from, const char *end)
{
    for (;;) {
        while (from < end && is_blank(*from))
            from++;
        if (from == end)
            return true;
        char *word = from, *out = from;
        while (from < end && !ends_word(*from)) {
            if (*from != '"' && *from != '\'') {
                *out++ = *from++;
                continue;
            }
            from = *from == '"' ? unquote_double(from + 1, end, &out)
                                : unquote_single(from + 1, end, &out);
            /* A closing quote ends the word. */
            if (from == NULL || (from < end && !is_blank(*from)))
                return false;
            break;
        }
        add_argument(s, word, (size_t)(out - word));
    }
}

static enum parse_result parse_inline(struct parser *p, struct parser_window *w)
{
    char *end = w->data + w->size;
    const char *lf = find_line_byte(w->data, end, '\n');
    if (lf == NULL) {
        if (w->size > PARSER_LINE_MAX)
            return fail(p, "too big inline request");
        return PARSE_MORE;
    }
    size_t line = (size_t)(lf - w->data);
    struct parser_state *s = state_get(p);
    s->scan = line + 1;
    if (line > 0 && w->data[line - 1] == '\r')
        line--;
    if (!split_line(s, w->data, w->data + line))
        return fail(p, "unbalanced quotes in request");
    if (s->argc > 0)
        return hold(s);
    w->data += s->scan;
    w->size -= s->scan;
    parser_reset(p);
    return PARSE_EMPTY;
}

static enum parse_result parse_stepwise(struct parser *p, struct parser_window *w,
                                        const struct parser_limits *limits)
{
    struct parser_state *s = state_get(p);
    if (s->stage == STAGE_FAILED)
        return PARSE_ERROR;
    if (s->stage == STAGE_BETWEEN) {
        int got = parse_length(s, w, &s->count);
        if (got == 0)
            return PARSE_MORE;
        if (got == -2)
            return fail(p, "too big mbulk count string");
        if (got == -1 || s->count > INT32_MAX)
            return fail(p, "invalid multibulk length");
        if (s->count > MULTIBULK_UNAUTHENTICATED_MAX && limits->unauthenticated)
            return fail(p, "unauthenticated multibulk length");
        if (s->count <= 0) {
            w->data += s->scan;
            w->size -= s->scan;
            parser_reset(p);
            return PARSE_EMPTY;
        }
        s->stage = STAGE_ARGUMENTS;
    }
    return parse_arguments(p, w, limits);
}

enum parse_result parser_next(struct parser *p, struct parser_window *window,
                              const struct parser_limits *limits, struct slice *argv,
                              const struct slice **out, int *argc, bool *kept)
{
    enum parse_result result;
    *kept = false;
    if (p->state == NULL) {
        if (window->size == 0)
            return PARSE_MORE;
        if (!limits->unauthenticated) {
            size_t used;
            if (parse_whole(window->data, window->size, limits->bulk_max, PARSER_ARGS_FAST, argv,
                            argc, &used)) {
                window->data += used;
                window->size -= used;
                *out = argv;
                return PARSE_COMMAND;
            }
        }
        result = window->data[0] == '*' ? parse_stepwise(p, window, limits)
                                        : parse_inline(p, window);
    } else {
        assert(p->state->stage != STAGE_HELD);
        result = parse_stepwise(p, window, limits);
    }
    if (result == PARSE_COMMAND) {
        *out = p->state->argv;
        *argc = p->state->argc;
        *kept = true;
    }
    return result;
}
