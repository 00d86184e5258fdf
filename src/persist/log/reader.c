/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/reader.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/crc.h"
#include "base/mem.h"
#include "base/number.h"
#include "os/file.h"
#include "persist/log/tail.h"

#define TAG "#HF1 "
#define TAG_SIZE (sizeof(TAG) - 1)
/* The longest comment that redis-server writes or takes is shorter. */
#define COMMENT_MAX 1024
#define ARGS_MAX (1 << 24)
#define ARGUMENT_MAX ((uint64_t)1 << 40)
#define SCAN_SIZE ((size_t)1 << 20)
/* Linux writes out what was written half a minute ago. */
#define UNSYNCED_MOST_MS 60000

struct log_reader {
    struct os_file file;
    struct log_position start;
    struct log_status status;
    uint64_t read_at;  /* the file is in memory up to here */
    uint64_t base;     /* offset in the file of the batch's first byte */
    char *carry;       /* a group that was cut off by the end of the batch before */
    size_t carry_size, carry_room;
    bool begun;        /* the first line was looked at */
};

/* How a step of the parser went. */
enum step { STEP_OK, STEP_MORE, STEP_BAD };

/* One filling of a batch. */
struct fill {
    struct log_reader *r;
    struct log_batch *b;
    size_t at;      /* in b->bytes: the next item */
    size_t group_at; /* where the group begins */
    size_t want;    /* after STEP_MORE: so many bytes are needed at least; 0: just more */
    bool in_group;  /* behind a group's line */
    bool in_multi;
    uint64_t lsn;   /* behind the last command */
};

void log_batch_init(struct log_batch *b)
{
    *b = (struct log_batch){0};
}

void log_batch_free(struct log_batch *b)
{
    mem_free(b->groups);
    mem_free(b->commands);
    mem_free(b->args);
    mem_free(b->bytes);
    *b = (struct log_batch){0};
}

static void *grow(void *array, size_t *room, size_t item_size)
{
    *room = *room == 0 ? 256 : *room * 2;
    return mem_realloc(array, *room * item_size);
}

static inline void push_arg(struct log_batch *b, size_t at, size_t size)
{
    if (__builtin_expect(b->arg_count == b->arg_room, 0))
        b->args = grow(b->args, &b->arg_room, sizeof(*b->args));
    /* The bytes may yet move: log_reader_next adds where they are. */
    b->args[b->arg_count++] = (struct slice){(const char *)at, size};
}

static struct log_command *push_command(struct log_batch *b)
{
    if (__builtin_expect(b->command_count == b->command_room, 0))
        b->commands = grow(b->commands, &b->command_room, sizeof(*b->commands));
    return &b->commands[b->command_count++];
}

static struct log_group *push_group(struct log_batch *b)
{
    if (b->group_count == b->group_room)
        b->groups = grow(b->groups, &b->group_room, sizeof(*b->groups));
    return &b->groups[b->group_count++];
}

/* What is wrong, and where in the batch's bytes. Always STEP_BAD. */
static enum step bad(struct fill *f, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static enum step bad(struct fill *f, size_t at, const char *format, ...)
{
    struct log_status *s = &f->r->status;
    va_list args;
    va_start(args, format);
    vsnprintf(s->reason, sizeof(s->reason), format, args);
    va_end(args);
    s->bad_offset = f->r->base + at;
    return STEP_BAD;
}

static enum step more(struct fill *f, size_t want)
{
    f->want = want;
    return STEP_MORE;
}

/* The number of a line "*3\r\n" or "$5\r\n", whose first byte is at *at; *at goes behind the
 * line. */
static inline enum step read_count(struct fill *f, size_t *at, char first, uint64_t max,
                                   uint64_t *out)
{
    const char *p = f->b->bytes + *at, *end = f->b->bytes + f->b->size;
    if (__builtin_expect(p == end, 0))
        return more(f, 0);
    if (__builtin_expect(*p != first, 0))
        return bad(f, *at, "'%c' is expected", first);
    uint64_t v = 0;
    const char *digits = ++p;
    while (p < end && *p >= '0' && *p <= '9') {
        v = v * 10 + (uint64_t)(*p++ - '0');
        if (__builtin_expect(v > max, 0))
            return bad(f, *at, "a count that is too large");
    }
    /* The offset is that of the very byte: zeros from there on are a torn tail. */
    if (p < end && __builtin_expect(p == digits || *p != '\r', 0))
        return bad(f, (size_t)(p - f->b->bytes), "a digit is expected");
    if (__builtin_expect(end - p < 2, 0))
        return more(f, 0);
    if (__builtin_expect(p[1] != '\n', 0))
        return bad(f, (size_t)(p + 1 - f->b->bytes), "the end of the line is expected");
    *at = (size_t)(p + 2 - f->b->bytes);
    *out = v;
    return STEP_OK;
}

/* One request at f->at. */
static enum step read_command(struct fill *f)
{
    struct log_batch *b = f->b;
    size_t at = f->at, first_arg = b->arg_count;
    uint64_t argc = 0, size = 0;
    enum step step = read_count(f, &at, '*', ARGS_MAX, &argc);
    if (step == STEP_OK && argc == 0)
        step = bad(f, f->at, "a command without arguments");
    for (uint64_t i = 0; step == STEP_OK && i < argc; i++) {
        step = read_count(f, &at, '$', ARGUMENT_MAX, &size);
        if (step != STEP_OK)
            break;
        size_t left = b->size - at;
        if (__builtin_expect(left < size + 2, 0)) {
            if (left > size && b->bytes[at + size] != '\r')
                step = bad(f, at + size, "the end of an argument is expected");
            else
                step = more(f, at + size + 2);
            break;
        }
        if (__builtin_expect(b->bytes[at + size] != '\r' || b->bytes[at + size + 1] != '\n', 0)) {
            step = bad(f, at + size + (b->bytes[at + size] == '\r'),
                       "the end of an argument is expected");
            break;
        }
        push_arg(b, at, size);
        at += size + 2;
    }
    if (step != STEP_OK) {
        b->arg_count = first_arg;
        return step;
    }
    f->lsn += at - f->at;
    *push_command(b) = (struct log_command){
        .offset = f->r->base + f->at,
        .lsn = f->lsn,
        .size = at - f->at,
        .first_arg = (uint32_t)first_arg,
        .argc = (uint32_t)argc,
    };
    f->at = at;
    return STEP_OK;
}

/* The same, seeing to it that MULTI and EXEC come in pairs. */
static enum step read_in_order(struct fill *f)
{
    size_t at = f->at;
    enum step step = read_command(f);
    if (step != STEP_OK)
        return step;
    struct log_batch *b = f->b;
    struct log_command *c = &b->commands[b->command_count - 1];
    struct slice name = b->args[c->first_arg];
    name.data = b->bytes + (size_t)name.data;
    if (__builtin_expect(c->argc == 1, 0)) {
        bool multi = slice_is(name, "multi"), exec = slice_is(name, "exec");
        if ((multi && f->in_multi) || (exec && !f->in_multi))
            return bad(f, at, "MULTI and EXEC do not fit");
        c->control = multi || exec;
        f->in_multi = (f->in_multi || multi) && !exec;
    }
    c->unit = !f->in_multi;
    return STEP_OK;
}

/* A line that begins with '#', at f->at; *line is the whole of it. */
static enum step read_line(struct fill *f, size_t max, struct slice *line)
{
    struct log_batch *b = f->b;
    size_t left = b->size - f->at;
    const char *p = b->bytes + f->at;
    const char *newline = memchr(p, '\n', left < max ? left : max);
    if (newline == NULL) {
        const char *nul = memchr(p, '\0', left < max ? left : max);
        if (nul != NULL)
            return bad(f, (size_t)(nul - b->bytes), "a NUL byte in a line");
        return left < max ? more(f, 0) : bad(f, f->at, "a line that is too long");
    }
    *line = slice_of(p, (size_t)(newline + 1 - p));
    return STEP_OK;
}

/* "#TS:1790000000": redis-server's note of the time, in seconds. */
static bool read_timestamp(struct slice line, int64_t *ms)
{
    int64_t seconds;
    size_t end = line.size >= 2 && line.data[line.size - 2] == '\r' ? 2 : 1;
    if (line.size < 4 + end || memcmp(line.data, "#TS:", 4) != 0 ||
        !number_parse_int64(slice_of(line.data + 4, line.size - 4 - end), &seconds) ||
        seconds < 0 || seconds > INT64_MAX / 1000)
        return false;
    *ms = seconds * 1000;
    return true;
}

/* Whether most of the tag is there: a line of ours with a changed byte. */
static bool is_like_tag(struct slice line)
{
    size_t same = 0;
    for (size_t i = 0; i < TAG_SIZE && i < line.size; i++)
        same += line.data[i] == TAG[i];
    return same >= 3;
}

static void end_group(struct fill *f, size_t end, uint64_t lsn, int64_t ms)
{
    struct log_batch *b = f->b;
    struct log_status *s = &f->r->status;
    size_t first = b->group_count > 0 ? b->groups[b->group_count - 1].first_command +
                                            b->groups[b->group_count - 1].command_count
                                      : 0;
    *push_group(b) = (struct log_group){
        .offset = f->r->base + f->group_at,
        .end = f->r->base + end,
        .lsn = lsn,
        .ms = ms,
        .first_command = (uint32_t)first,
        .command_count = (uint32_t)(b->command_count - first),
    };
    s->groups++;
    s->commands += b->command_count - first;
    s->lsn = lsn;
    s->ms = ms;
}

/* Everything before `end` is valid. */
static void advance(struct fill *f, size_t end)
{
    f->r->status.valid_end = f->r->base + end;
    f->at = f->group_at = end;
}

/* redis-server's: one command, or MULTI .. EXEC, or a comment. */
static enum step read_plain(struct fill *f)
{
    struct log_status *s = &f->r->status;
    struct log_batch *b = f->b;
    enum step step;
    if (f->at == b->size)
        return more(f, 0);
    if (b->bytes[f->at] == '#') {
        struct slice line;
        int64_t ms;
        step = read_line(f, COMMENT_MAX, &line);
        if (step != STEP_OK)
            return step;
        if (read_timestamp(line, &ms))
            s->ms = ms;
        else if (is_like_tag(line))
            return bad(f, f->at, "an annotation where there should be none");
        if (f->in_multi) {
            f->at += line.size;
            return STEP_OK;
        }
        size_t end = f->at + line.size;
        s->crc = crc32c(s->crc, b->bytes + f->group_at, end - f->group_at);
        advance(f, end);
        return STEP_OK;
    }
    if (!f->in_multi)
        f->lsn = s->lsn;
    step = read_in_order(f);
    if (step != STEP_OK || f->in_multi)
        return step;
    s->crc = crc32c(s->crc, b->bytes + f->group_at, f->at - f->group_at);
    end_group(f, f->at, f->lsn, s->ms);
    advance(f, f->at);
    return STEP_OK;
}

/* An annotation at f->at, parsed. */
static enum step read_annotation(struct fill *f, struct annotation *a, struct slice *line)
{
    enum step step = read_line(f, ANNOTATION_MAX, line);
    if (step != STEP_OK)
        return step;
    return annotation_parse(*line, a) ? STEP_OK : bad(f, f->at, "no valid annotation");
}

/* A commit or close: its crc goes on from the one before, over all bytes since. */
static enum step check_crc(struct fill *f, const struct annotation *a, struct slice line)
{
    const struct log_status *s = &f->r->status;
    const char *from = f->b->bytes + f->group_at;
    uint32_t crc = crc32c(s->crc, from, (size_t)(line.data + a->crc_at - from));
    if (crc != a->crc)
        return bad(f, f->group_at, "the checksum is %08x but should be %08x", crc, a->crc);
    return STEP_OK;
}

/* The file's own SELECT behind its line, which no LSN counts. */
static enum step read_select(struct fill *f, struct slice line)
{
    size_t begin = f->at;
    uint64_t lsn = f->lsn;
    f->at += line.size;
    enum step step = f->in_multi ? bad(f, begin, "a SELECT of the file's own inside of MULTI")
                                 : read_in_order(f);
    if (step == STEP_OK) {
        struct log_command *c = &f->b->commands[f->b->command_count - 1];
        f->lsn = c->lsn = lsn;
        return STEP_OK;
    }
    f->at = begin;
    return step;
}

static enum step read_commit(struct fill *f)
{
    struct annotation a;
    struct slice line;
    enum step step = read_annotation(f, &a, &line);
    if (step != STEP_OK)
        return step;
    if (a.kind == ANNOTATION_SELECT && a.lsn == f->lsn)
        return read_select(f, line);
    if (a.kind != ANNOTATION_COMMIT)
        return bad(f, f->at, "a commit is expected");
    step = check_crc(f, &a, line);
    if (step != STEP_OK)
        return step;
    /* The checksum holds: what follows would be the writer's own mistake. */
    if (a.lsn != f->lsn || f->in_multi)
        return bad(f, f->at, "the group's commands do not reach to its LSN %llu",
                   (unsigned long long)a.lsn);
    f->r->status.crc = a.crc;
    end_group(f, f->at + line.size, a.lsn, a.ms);
    f->in_group = false;
    advance(f, f->at + line.size);
    return STEP_OK;
}

/* Inside a group of ours. */
static enum step read_inside(struct fill *f)
{
    struct log_batch *b = f->b;
    if (f->at == b->size)
        return more(f, 0);
    if (b->bytes[f->at] != '#')
        return read_in_order(f);
    struct slice line;
    int64_t ms;
    enum step step = read_line(f, ANNOTATION_MAX, &line);
    if (step != STEP_OK)
        return step;
    if (!read_timestamp(line, &ms))
        return read_commit(f);
    f->at += line.size;
    return STEP_OK;
}

/* "#TS:" behind a valid line of ours belongs to what follows it: a group of ours, or what
 * redis-server has appended. */
static enum step read_stamp(struct fill *f)
{
    struct log_status *s = &f->r->status;
    struct slice line;
    int64_t ms;
    enum step step = read_line(f, ANNOTATION_MAX, &line);
    if (step != STEP_OK)
        return step;
    if (!read_timestamp(line, &ms))
        return bad(f, f->at, "no valid annotation");
    size_t next = f->at + line.size;
    if (next == f->b->size && f->r->read_at < s->size)
        return more(f, 0);
    if (next < f->b->size && f->b->bytes[next] == '#') {
        f->at = next;
        return STEP_OK;
    }
    s->foreign = true;
    s->closed = false;
    return read_plain(f);
}

/* A line of filling at f->at; at the end of the file it may be a piece of one, as the room was
 * filled only so far when the process ended. False: there is none, or not all of it has been
 * read. */
static bool pass_filling(struct fill *f)
{
    const char *bytes = f->b->bytes;
    size_t at = f->at;
    while (at < f->b->size && bytes[at] == '#')
        at++;
    if (at == f->at)
        return false;
    if (at == f->b->size) {
        if (f->r->read_at < f->r->status.size)
            return false;
        advance(f, at);
        return true;
    }
    if (bytes[at] != '\n')
        return false;
    advance(f, at + 1);
    return true;
}

/* Behind a valid line of ours. */
static enum step read_between(struct fill *f)
{
    struct log_batch *b = f->b;
    struct log_status *s = &f->r->status;
    size_t left = b->size - f->at;
    if (left == 0)
        return more(f, 0);
    const char *p = b->bytes + f->at;
    if (left >= 4 && memcmp(p, "#TS:", 4) == 0)
        return read_stamp(f);
    if (!s->base && pass_filling(f))
        return STEP_OK;
    if (s->base && s->closed)
        return bad(f, f->at, "something stands behind the end of the base");
    if (*p == '*' && !s->base) {
        s->foreign = true;
        s->closed = false;
        return read_plain(f);
    }
    if (*p != '#')
        return bad(f, f->at, "no group begins here");
    struct annotation a;
    struct slice line;
    enum step step = read_annotation(f, &a, &line);
    if (step != STEP_OK)
        return step;
    if (a.kind == ANNOTATION_CLOSE) {
        step = check_crc(f, &a, line);
        if (step != STEP_OK)
            return step;
        if (a.lsn < s->lsn || (s->base && a.lsn != s->lsn))
            return bad(f, f->at, "the LSN %llu does not follow %llu", (unsigned long long)a.lsn,
                       (unsigned long long)s->lsn);
        s->closed = true;
        s->crc = a.crc;
        s->lsn = s->base ? s->log.lsn : a.lsn;
        s->ms = a.ms;
        advance(f, f->at + line.size);
        return STEP_OK;
    }
    if (a.kind == ANNOTATION_COMMIT) {
        step = check_crc(f, &a, line);
        if (step != STEP_OK)
            return step;
        if (a.lsn != s->lsn)
            return bad(f, f->at, "a commit without a group");
        s->crc = a.crc;
        s->ms = a.ms;
        advance(f, f->at + line.size);
        return STEP_OK;
    }
    if (a.kind != ANNOTATION_GROUP || a.lsn < s->lsn || (s->base && a.lsn != s->lsn))
        return bad(f, f->at, "no group begins here");
    s->closed = false;
    f->in_group = true;
    f->lsn = a.lsn;
    f->at += line.size;
    return STEP_OK;
}

/* The first line of the file: whose is it? */
static enum step read_first(struct fill *f)
{
    struct log_status *s = &f->r->status;
    struct slice line;
    struct annotation a;
    size_t left = f->b->size - f->at;
    if (left < TAG_SIZE && f->r->read_at < s->size)
        return more(f, 0);
    if (left > TAG_SIZE)
        left = TAG_SIZE;
    if (left < 2 || memcmp(f->b->bytes + f->at, TAG, left) != 0) {
        f->r->begun = true;
        return STEP_OK;
    }
    s->annotated = true;
    enum step step = read_line(f, ANNOTATION_MAX, &line);
    if (step != STEP_OK)
        return step;
    if (!annotation_parse(line, &a) ||
        (a.kind != ANNOTATION_LOG && a.kind != ANNOTATION_BASE) ||
        crc32c(a.chain, line.data, a.crc_at) != a.crc)
        return bad(f, f->at, "the first line is damaged");
    s->base = a.kind == ANNOTATION_BASE;
    const struct log_position *start = &f->r->start;
    if (start->known && (a.chain != start->crc || a.lsn < start->lsn))
        return bad(f, f->at,
                   "the file does not follow the one before: it begins at LSN %llu with %08x, that "
                   "one ends at %llu with %08x",
                   (unsigned long long)a.lsn, a.chain, (unsigned long long)start->lsn, start->crc);
    s->log = a;
    s->lsn = s->base ? 0 : a.lsn;
    s->ms = a.ms;
    s->crc = a.crc;
    f->r->begun = true;
    advance(f, f->at + line.size);
    return STEP_OK;
}

static enum step read_item(struct fill *f)
{
    if (!f->r->begun)
        return read_first(f);
    if (f->in_group)
        return read_inside(f);
    if (f->r->status.annotated && !f->r->status.foreign)
        return read_between(f);
    return read_plain(f);
}

/* --- what stands behind the last valid group --- */

/* Whether all bytes from `offset` to the end are zero. */
static bool is_zero_from(struct log_reader *r, uint64_t offset, bool *zero, struct error *err)
{
    char *buffer = mem_alloc(SCAN_SIZE);
    size_t got = 1;
    bool ok = true;
    *zero = offset < r->status.size;
    for (; *zero && offset < r->status.size; offset += got) {
        ok = os_file_read_at(&r->file, offset, buffer, SCAN_SIZE, &got, err);
        if (!ok || got == 0)
            break;
        *zero = buffer[0] == '\0' && memcmp(buffer, buffer + 1, got - 1) == 0;
    }
    mem_free(buffer);
    return ok;
}

/* Nothing that is valid behind the damage says that it was synced, and none of it is old: what was
 * written longer ago than that the system has written out, whether it was synced or not. */
static bool is_unsynced(const struct log_tail *tail, const struct log_status *s)
{
    int64_t span = tail->ms - tail->first_ms;
    return !s->foreign && tail->durable <= s->lsn && span >= 0 && span <= UNSYNCED_MOST_MS;
}

/* The step is MORE at the end of the file, or BAD. */
static enum log_read classify(struct fill *f, enum step step, struct error *err)
{
    struct log_reader *r = f->r;
    struct log_status *s = &r->status;
    if (step == STEP_MORE) {
        bool whole = !s->base || s->closed;
        if (s->valid_end == s->size && whole)
            return LOG_READ_END;
        s->bad_offset = s->valid_end;
        snprintf(s->reason, sizeof(s->reason), "%s is cut off",
                 s->valid_end == s->size ? "the base"
                 : f->in_multi           ? "a transaction"
                 : f->in_group           ? "a group"
                 : s->annotated && !s->foreign ? "an annotation"
                                               : "a command");
    }
    if (s->annotated && !r->begun)
        return LOG_READ_DAMAGED; /* the first line is durable before the file is named anywhere */
    bool zero;
    if (s->annotated) {
        uint64_t parsed = r->base + f->at;
        struct log_tail_start start = {
            .offset = s->valid_end,
            .size = s->size,
            .lsn = s->lsn,
            .crc = s->crc,
            .framed = step == STEP_MORE         ? s->size
                      : parsed > s->bad_offset ? parsed
                                               : s->bad_offset,
        };
        struct log_tail tail;
        if (!log_tail_scan(&r->file, &start, &tail, err))
            return LOG_READ_FAILED;
        s->later_groups = tail.groups;
        s->later_offset = tail.offset;
        s->later_lsn = tail.lsn;
        s->later_ms = tail.ms;
        if (tail.claims || (tail.groups > 0 && !is_unsynced(&tail, s)))
            return LOG_READ_DAMAGED;
        if (s->base)
            return LOG_READ_DAMAGED; /* it was written whole before it was named */
        if (!s->foreign)
            return LOG_READ_TORN;
    }
    if (step == STEP_MORE)
        return LOG_READ_TORN;
    if (!is_zero_from(r, s->bad_offset, &zero, err))
        return LOG_READ_FAILED;
    return zero ? LOG_READ_TORN : LOG_READ_DAMAGED;
}

/* --- filling --- */

struct log_reader *log_reader_open(const char *path, uint64_t offset,
                                   const struct log_position *start, struct error *err)
{
    struct log_reader *r = mem_zalloc(sizeof(*r));
    struct error ignored;
    if (!os_file_open(&r->file, path, OS_OPEN_READ, err)) {
        mem_free(r);
        return NULL;
    }
    if (!os_file_size(&r->file, &r->status.size, err)) {
        os_file_close(&r->file, &ignored);
        mem_free(r);
        return NULL;
    }
    r->start = *start;
    r->read_at = r->status.valid_end = offset;
    r->status.lsn = start->lsn;
    r->status.crc = start->crc;
    r->status.ms = start->ms;
    /* What follows a preamble was written by redis-server. */
    r->begun = offset > 0;
    return r;
}

void log_reader_close(struct log_reader *r)
{
    struct error ignored;
    if (r == NULL)
        return;
    os_file_close(&r->file, &ignored);
    mem_free(r->carry);
    mem_free(r);
}

const struct log_status *log_reader_status(const struct log_reader *r)
{
    return &r->status;
}

/* Read on until the batch's bytes are full. */
static bool read_more(struct log_reader *r, struct log_batch *b, struct error *err)
{
    while (b->size < b->room && r->read_at < r->status.size) {
        size_t got, room = b->room - b->size;
        if (room > r->status.size - r->read_at)
            room = (size_t)(r->status.size - r->read_at);
        if (!os_file_read_at(&r->file, r->read_at, b->bytes + b->size, room, &got, err))
            return false;
        if (got == 0)
            r->status.size = r->read_at; /* it has become shorter */
        b->size += got;
        r->read_at += got;
    }
    return true;
}

/* Room for a group that is larger than the batch. False: it says that it is larger than the
 * file. */
static bool make_room(struct fill *f)
{
    struct log_batch *b = f->b;
    uint64_t left = f->r->status.size - f->r->read_at;
    if (left == 0 || (f->want > b->size && f->want - b->size > left))
        return false;
    size_t room = b->room * 2 > f->want ? b->room * 2 : f->want;
    b->bytes = mem_realloc(b->bytes, room);
    b->room = room;
    return true;
}

/* The batch before has left something of its last group. */
static void take_carry(struct log_reader *r, struct log_batch *b)
{
    b->group_count = b->command_count = b->arg_count = 0;
    size_t room = LOG_BATCH_SIZE + r->carry_size;
    /* What one large group has needed is not kept. */
    if (b->room < room || b->room / 4 > room) {
        mem_free(b->bytes);
        b->room = room;
        b->bytes = mem_alloc(b->room);
    }
    if (r->carry_size > 0)
        memcpy(b->bytes, r->carry, r->carry_size);
    b->size = r->carry_size;
    r->base = b->base = r->read_at - r->carry_size;
    r->carry_size = 0;
}

static void leave_carry(struct log_reader *r, struct log_batch *b, size_t from)
{
    size_t size = b->size - from;
    if (size > r->carry_room) {
        mem_free(r->carry);
        r->carry = mem_alloc(size);
        r->carry_room = size;
    }
    if (size > 0)
        memcpy(r->carry, b->bytes + from, size);
    r->carry_size = size;
}

/* Forget what was parsed of a group that is not whole, and let the slices point to the bytes. */
static void finish(struct fill *f)
{
    struct log_batch *b = f->b;
    b->command_count = 0;
    if (b->group_count > 0) {
        const struct log_group *last = &b->groups[b->group_count - 1];
        b->command_count = last->first_command + last->command_count;
    }
    b->arg_count = 0;
    if (b->command_count > 0) {
        const struct log_command *last = &b->commands[b->command_count - 1];
        b->arg_count = last->first_arg + last->argc;
    }
    for (size_t i = 0; i < b->arg_count; i++)
        b->args[i].data = b->bytes + (size_t)b->args[i].data;
    b->end = f->r->status.valid_end;
}

enum log_read log_reader_next(struct log_reader *r, struct log_batch *b, struct error *err)
{
    struct fill f = {.r = r, .b = b};
    take_carry(r, b);
    enum step step;
    do {
        if (!read_more(r, b, err))
            return LOG_READ_FAILED;
        do
            step = read_item(&f);
        while (step == STEP_OK);
    } while (step == STEP_MORE && b->group_count == 0 && make_room(&f));
    finish(&f);
    if (b->group_count > 0) {
        /* What is wrong behind the last whole group is found again by the next call. */
        leave_carry(r, b, f.group_at);
        return LOG_READ_GROUPS;
    }
    return classify(&f, step, err);
}
