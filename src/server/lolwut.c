/* SPDX-License-Identifier: BSD-3-Clause
 *
 * LOLWUT: a drawing and the version. Holdfasts are what kelp clings to the rock with.
 */
#include "base/number.h"
#include "base/text.h"
#include "handlers.h"
#include "server/server.h"

#define HEIGHT 12
#define STEM_WIDTH 6 /* columns for each stem, so that none touches its neighbour */
#define COLUMNS_DEFAULT 66
#define COLUMNS_MAX 600

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static void draw(struct text *out, int columns, uint64_t seed)
{
    static const char rock[] = "_.-^-._,";
    char rows[HEIGHT][COLUMNS_MAX];
    memset(rows, ' ', sizeof(rows));
    for (int left = 0; left + STEM_WIDTH <= columns; left += STEM_WIDTH) {
        int at = left + STEM_WIDTH / 2;
        int top = (int)(next_random(&seed) % (HEIGHT - 3));
        for (int row = HEIGHT - 2; row >= top; row--) {
            int to = at + (int)(next_random(&seed) % 3) - 1;
            if (to <= left || to >= left + STEM_WIDTH - 1)
                to = at;
            rows[row][at] = to < at ? '\\' : to > at ? '/' : '|';
            at = to;
        }
    }
    for (int i = 0; i < columns; i++)
        rows[HEIGHT - 1][i] = rock[next_random(&seed) % (sizeof(rock) - 1)];
    for (int row = 0; row < HEIGHT; row++) {
        int size = columns;
        while (size > 0 && rows[row][size - 1] == ' ')
            size--;
        text_append(out, rows[row], (size_t)size);
        text_append_cstr(out, "\n");
    }
}

void cmd_lolwut(struct call *c)
{
    int64_t version, columns = COLUMNS_DEFAULT;
    if (c->argc > 2 && slice_is(c->argv[1], "version")) {
        if (!call_int64(c, c->argv[2], &version, NULL))
            return;
        /* Those of Redis 5 and 6 take sizes, of which ours has one. */
        int sizes = version == 5 ? 3 : version == 6 ? 2 : 0;
        for (int i = 3; i < c->argc && i < 3 + sizes; i++) {
            int64_t size;
            if (!call_int64(c, c->argv[i], &size, NULL))
                return;
            if (i == 3)
                columns = size < 1 ? 1 : size > COLUMNS_MAX ? COLUMNS_MAX : size;
        }
    }
    struct text out = {0};
    draw(&out, (int)columns, (uint64_t)c->now_ms);
    text_append_cstr(&out, "Redis ver. " SERVER_REDIS_VERSION "\n");
    reply_verbatim(c->reply, slice_of(text_cstr(&out), out.size), "txt");
    text_free(&out);
}
