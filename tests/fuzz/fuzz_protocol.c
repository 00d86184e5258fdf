/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzzes the request parser: whatever comes, in whatever pieces, gives the same commands as when it
 * comes at once, and never an argument outside the bytes that came. The first two bytes choose
 * where the input is cut; the parser is fed as the server does it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/hash.h"
#include "base/mem.h"
#include "resp/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The input so far, and what was parsed of it: a running hash of all arguments. */
struct feed {
    struct parser parser;
    char *bytes; /* the window's memory; the window begins at `at` */
    size_t at, used;
    uint64_t digest, commands;
    bool failed;
};

static void note(struct feed *f, const struct slice *args, int count)
{
    f->commands++;
    for (int i = 0; i < count; i++) {
        uint64_t words[3] = {f->digest, args[i].size, hash_bytes(args[i].data, args[i].size)};
        f->digest = hash_bytes(words, sizeof(words));
    }
}

static bool every_other(const struct slice *argv, int argc, int64_t count)
{
    /* There may be no argument yet, and no array. */
    size_t first = argc > 0 ? argv[0].size : 0;
    return (first + (size_t)argc + (size_t)count) % 2 == 0;
}

static void parse(struct feed *f)
{
    const struct parser_limits limits = {.bulk_max = 1 << 20, .in_pieces = every_other};
    struct slice argv[PARSER_ARGS_FAST];
    for (;;) {
        struct parser_window window = {f->bytes + f->at, f->used - f->at};
        const struct slice *args;
        int count;
        bool kept = false;
        enum parse_result result =
            parser_next(&f->parser, &window, &limits, argv, &args, &count, &kept);
        if (result == PARSE_COMMAND) {
            parser_join(&f->parser);
            note(f, args, count);
            if (kept)
                parser_release(&f->parser, &window);
        } else if (result == PARSE_ERROR) {
            if (strncmp(parser_error_text(&f->parser), "Protocol error: ", 16) != 0)
                abort();
            f->failed = true;
        }
        f->at = (size_t)(window.data - f->bytes);
        f->used = f->at + window.size;
        if (result != PARSE_COMMAND && result != PARSE_EMPTY)
            return;
    }
}

static void feed(struct feed *f, const uint8_t *data, size_t size)
{
    while (size > 0 && !f->failed) {
        size_t n;
        struct iovec room;
        if (parser_big_rooms(&f->parser, &room, 1) != 0) {
            n = size < room.iov_len ? size : room.iov_len;
            memcpy(room.iov_base, data, n);
            parser_big_filled(&f->parser, n);
        } else {
            n = size;
            memcpy(f->bytes + f->used, data, n);
            f->used += n;
        }
        data += n;
        size -= n;
        parse(f);
    }
}

static struct feed run(const uint8_t *data, size_t size, size_t step)
{
    struct feed f = {.bytes = mem_alloc(size + 1)};
    for (size_t at = 0; at < size; at += step)
        feed(&f, data + at, size - at < step ? size - at : step);
    parser_reset(&f.parser);
    mem_free(f.bytes);
    f.bytes = NULL;
    return f;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t step = 1 + (size_t)(data[0] | data[1] << 8) % 4096;
    struct feed whole = run(data + 2, size - 2, size);
    struct feed pieces = run(data + 2, size - 2, step);
    if (whole.commands != pieces.commands || whole.digest != pieces.digest ||
        whole.failed != pieces.failed)
        abort();
    return 0;
}
