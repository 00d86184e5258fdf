/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Bytes of log files for tests, as Holdfast's writer and redis-server write them.
 */
#ifndef HF_TEST_LOG_BYTES_H
#define HF_TEST_LOG_BYTES_H

#include <stdint.h>
#include <stdio.h>

#include "base/crc.h"
#include "base/text.h"
#include "persist/log/annotation.h"
#include "persist/log/reader.h"

#define LOG_HISTORY "0123456789abcdef0123456789abcdef01234567"

struct log_bytes {
    struct text text;
    uint64_t lsn;
    uint32_t crc;
    size_t summed; /* the crc has gone up to here */
};

static inline void log_line(struct log_bytes *l, struct annotation a)
{
    char line[ANNOTATION_MAX], end[16];
    text_append(&l->text, line, annotation_format(&a, line));
    if (a.kind == ANNOTATION_GROUP || a.kind == ANNOTATION_SELECT)
        return;
    l->crc = crc32c(l->crc, l->text.data + l->summed, l->text.size - l->summed);
    text_append(&l->text, end, annotation_finish(l->crc, end));
    l->summed = l->text.size;
}

/* The first line; lsn and crc are those of the file before. */
static inline void log_begin(struct log_bytes *l, int64_t ms)
{
    l->summed = l->text.size;
    log_line(l, (struct annotation){.kind = ANNOTATION_LOG,
                                    .lsn = l->lsn,
                                    .ms = ms,
                                    .history = LOG_HISTORY,
                                    .chain = l->crc});
}

static inline void log_request(struct log_bytes *l, int argc, const struct slice *argv)
{
    size_t before = l->text.size;
    text_appendf(&l->text, "*%d\r\n", argc);
    for (int i = 0; i < argc; i++) {
        text_appendf(&l->text, "$%zu\r\n", argv[i].size);
        text_append(&l->text, argv[i].data, argv[i].size);
        text_append_cstr(&l->text, "\r\n");
    }
    l->lsn += l->text.size - before;
}

/* Words separated by blanks. */
static inline void log_command(struct log_bytes *l, const char *words)
{
    struct words w;
    if (!text_split(&w, slice_cstr(words)))
        return;
    log_request(l, w.count, w.items);
    words_free(&w);
}

static inline void log_group_begin(struct log_bytes *l)
{
    log_line(l, (struct annotation){.kind = ANNOTATION_GROUP, .lsn = l->lsn});
}
static inline void log_group_end(struct log_bytes *l, int64_t ms)
{
    log_line(l, (struct annotation){.kind = ANNOTATION_COMMIT, .lsn = l->lsn, .ms = ms});
}
/* Lines that say what was durable when they were written. A commit without a group before it is a
 * mark. */
static inline void log_commit_durable(struct log_bytes *l, int64_t ms, uint64_t durable)
{
    log_line(l, (struct annotation){.kind = ANNOTATION_COMMIT,
                                    .lsn = l->lsn,
                                    .ms = ms,
                                    .has_durable = true,
                                    .durable = durable});
}
static inline void log_close_durable(struct log_bytes *l, int64_t ms)
{
    log_line(l, (struct annotation){.kind = ANNOTATION_CLOSE,
                                    .lsn = l->lsn,
                                    .ms = ms,
                                    .has_durable = true,
                                    .durable = l->lsn});
}
static inline void log_close(struct log_bytes *l, int64_t ms)
{
    log_line(l, (struct annotation){.kind = ANNOTATION_CLOSE, .lsn = l->lsn, .ms = ms});
}

/* For recovery: what is executed becomes a text at ctx, the arguments of a command and a
 * newline. */
static inline bool log_execute_as_text(void *ctx, const struct log_batch *b, size_t count,
                                       struct error *err)
{
    (void)err;
    for (size_t i = 0; i < count; i++) {
        const struct log_command *c = &b->commands[i];
        for (uint32_t a = 0; a < c->argc; a++)
            text_append(ctx, b->args[c->first_arg + a].data, b->args[c->first_arg + a].size);
        text_append_cstr(ctx, "\n");
    }
    return true;
}

#endif
