/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The parser of requests: RESP arrays of bulk strings and inline commands, from bytes that arrive
 * in any pieces. Pure bytes: it reads no socket and knows no command.
 *
 * How it works. The caller keeps unread bytes in a window of its own memory. A command that lies
 * there whole is parsed in one pass without any state or allocation: its arguments are slices of
 * the window. One that is not complete (or has very many arguments) is parsed step by step: a state
 * is allocated that remembers the arguments found so far, so that no byte is looked at twice.
 *
 * An argument of PARSER_BIG_MIN bytes or more that is not yet complete gets a block of its own
 * size: the bytes of it that were there are moved out of the window, and the caller reads the rest
 * straight into parser_big_rooms. Where the caller says so (parser_limits.in_pieces) it gets pieces
 * of PARSER_PIECE bytes instead, which the command may take and keep as its value's final place;
 * who wants the argument as one slice calls parser_join first.
 *
 * Lifetimes. The arguments are valid until the window's bytes are changed. After PARSE_COMMAND with
 * *kept set the array of arguments is held by the parser and the window still begins with the
 * command: parser_release ends both, and until then the parser gives nothing more.
 *
 * It does as Redis 7.0 in the details: the texts of the errors, line feeds that are skipped but not
 * looked at, a NUL that hides the end of a line.
 */
#ifndef HF_RESP_PARSER_H
#define HF_RESP_PARSER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define PARSER_BIG_MIN (32 * 1024)
/* The longest inline request, and the longest line that holds a length. */
#define PARSER_LINE_MAX (64 * 1024)
/* How many arguments the caller must have room for in parser_next. */
#define PARSER_ARGS_FAST 1024

/* A piece is a block of head and bytes. The head is left to whoever takes the pieces. */
#define PARSER_PIECE_HEAD 16
#define PARSER_PIECE 8176
/* A larger argument stands in one block: an announced size proves nothing. */
#define PARSER_PIECES_MAX (16 * 1024 * 1024)

/* An argument in pieces, all of them full but the last. The blocks were got by mem_alloc; taking
 * one is to put NULL in its place. */
struct parser_pieces {
    char **blocks;
    size_t count;
    size_t size; /* bytes of the argument */
    /* of the argument: its slice has the right size, but only the first piece lies there */
    int index;
};

struct parser_limits {
    int64_t bulk_max;     /* proto-max-bulk-len */
    /* Whether argument `argc` of a command of `count` ones may come in pieces; NULL: none. */
    bool (*in_pieces)(const struct slice *argv, int argc, int64_t count);
    bool unauthenticated; /* at most 10 arguments of at most 16384 bytes */
};

struct parser_state;

/* Zeroed memory is a parser at the beginning of a command. */
struct parser {
    struct parser_state *state; /* NULL unless in the middle of a command or holding one */
};

enum parse_result {
    PARSE_MORE,    /* the window holds no whole command */
    PARSE_COMMAND, /* *argc > 0 arguments */
    PARSE_EMPTY,   /* an empty line or array: nothing to execute, go on */
    PARSE_ERROR    /* parser_error_text says what; nothing more can be parsed */
};

/* The bytes not yet consumed. `data` may be moved by the caller between two calls, see
 * parser_moved. */
struct parser_window {
    char *data;
    size_t size;
};

/* Parse one command from the beginning of the window. It is consumed (the window is advanced) when
 * it is complete and not kept; until then its bytes must stay. The arguments are put into `argv`,
 * which has room for PARSER_ARGS_FAST, or *out points elsewhere and *kept is true. The end of the
 * window may come nearer: a big argument was moved out. */
enum parse_result parser_next(struct parser *p, struct parser_window *window,
                              const struct parser_limits *limits, struct slice *argv,
                              const struct slice **out, int *argc, bool *kept);

/* The bytes of the held command in the window, from its first to the last argument's CR LF; empty
 * when it came inline or an argument of it lies elsewhere. Valid as long as the arguments. */
struct slice parser_held_request(const struct parser *p, const struct parser_window *window);

/* The held command (if there is one) has been executed: the window is advanced behind it. */
void parser_release(struct parser *p, struct parser_window *window);

/* The caller moved the bytes of the window that begin at `from` to `to`. */
void parser_moved(struct parser *p, const char *from, size_t size, char *to);

/* Where to read to when a big argument is being received: at most `max` vectors; gives how many, 0
 * when there is no such argument. While there is, the window gets what follows it. */
struct iovec;
int parser_big_rooms(const struct parser *p, struct iovec *rooms, int max);
void parser_big_filled(struct parser *p, size_t size);

/* The argument in pieces of the held command; NULL when there is none. */
struct parser_pieces *parser_pieces(const struct parser *p);
/* Make it an argument like any other. */
void parser_join(struct parser *p);

/* Bytes that the parser itself holds: state, arguments, big ones. */
size_t parser_memory(const struct parser *p);

/* "Protocol error: ..." without a code; valid until parser_reset. */
const char *parser_error_text(const struct parser *p);
/* Forget everything and free it. */
void parser_reset(struct parser *p);

#endif
