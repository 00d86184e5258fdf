/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/tail.h"

#include <string.h>

#include "base/crc.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/slice.h"
#include "persist/log/annotation.h"

#define TAG "#HF1 "
#define TAG_SIZE (sizeof(TAG) - 1)
#define SEARCH_SIZE ((size_t)1 << 20)
#define WALK_SIZE ((size_t)64 << 10)
/* The crc and the end of a line. */
#define DIGITS 8
#define LINE_END (DIGITS + 2)
/* A `#TS:` line is no longer. */
#define STAMP_MAX 32
/* "*16777216\r\n", "$1099511627776\r\n" */
#define HEADER_MAX 24
/* Between two groups the LSN may pass over what the log has not: the format allows it. */
#define GAP_MOST ((uint64_t)1 << 20)
/* How much is read, for each byte that there is, before it is given up. */
#define WORK_PER_BYTE 16
#define WORK_LEAST ((uint64_t)64 << 20)
#define HEADER_WORK 8

/* A piece of the file in memory. */
struct window {
    char *buffer;
    size_t room, size;
    uint64_t base;
};

struct scan {
    struct os_file *file;
    const struct log_tail_start *start;
    struct log_tail *tail;
    struct window search, walk;
    uint64_t work, most_work;
    uint64_t summed; /* `crc` goes from the last good line up to here */
    uint32_t crc;
    bool failed; /* *err is set */
    struct error *err;
};

/* A group, or a line alone, that may be valid. */
struct found {
    uint64_t begin, end; /* of both lines, and what is between */
    uint64_t crc_end;    /* what the crc covers */
    struct annotation line;
};

/* The bytes from `offset` on, `size` of them at most: *got, fewer at the end of the file. */
static const char *look(struct scan *s, struct window *w, uint64_t offset, size_t size, size_t *got)
{
    *got = 0;
    if (offset >= s->start->size)
        return w->buffer;
    if (size > s->start->size - offset)
        size = (size_t)(s->start->size - offset);
    if (offset < w->base || offset + size > w->base + w->size) {
        w->base = offset;
        w->size = 0;
        size_t n = 1, want = w->room;
        if (want > s->start->size - offset)
            want = (size_t)(s->start->size - offset);
        while (w->size < want && n > 0) {
            if (!os_file_read_at(s->file, offset + w->size, w->buffer + w->size, want - w->size, &n,
                                 s->err)) {
                s->failed = true;
                w->size = 0;
                return w->buffer;
            }
            w->size += n;
        }
        s->work += w->size;
    }
    size_t there = w->size - (size_t)(offset - w->base);
    *got = size < there ? size : there;
    return w->buffer + (offset - w->base);
}

static uint32_t sum(struct scan *s, uint32_t crc, uint64_t from, uint64_t to)
{
    size_t got;
    while (from < to) {
        size_t want = to - from < WALK_SIZE ? (size_t)(to - from) : WALK_SIZE;
        const char *p = look(s, &s->walk, from, want, &got);
        if (got == 0)
            break;
        crc = crc32c(crc, p, got);
        s->work += got;
        from += got;
    }
    return crc;
}

/* A whole line that begins with '#'; size 0: there is none. */
static struct slice line_at(struct scan *s, uint64_t offset)
{
    size_t got;
    const char *p = look(s, &s->walk, offset, ANNOTATION_MAX, &got);
    const char *newline = got > 0 ? memchr(p, '\n', got) : NULL;
    return newline != NULL && *p == '#' ? slice_of(p, (size_t)(newline + 1 - p)) : slice_of(p, 0);
}

/* "*3\r\n" */
static bool take_header(struct scan *s, uint64_t *at, char first, uint64_t *value)
{
    size_t got;
    const char *p = look(s, &s->walk, *at, HEADER_MAX, &got);
    const char *cr = got > 0 ? memchr(p, '\r', got) : NULL;
    s->work += HEADER_WORK;
    if (cr == NULL || *p != first || cr + 1 == p + got || cr[1] != '\n' ||
        !number_parse_uint64(slice_of(p + 1, (size_t)(cr - p - 1)), value))
        return false;
    *at += (size_t)(cr + 2 - p);
    return true;
}

/* A command: *at goes behind it. */
static bool take_command(struct scan *s, uint64_t *at)
{
    uint64_t argc, size;
    size_t got;
    if (!take_header(s, at, '*', &argc) || argc == 0)
        return false;
    for (; argc > 0 && s->work <= s->most_work; argc--) {
        if (!take_header(s, at, '$', &size) || size > s->start->size - *at)
            return false;
        const char *p = look(s, &s->walk, *at + size, 2, &got);
        if (got < 2 || p[0] != '\r' || p[1] != '\n')
            return false;
        *at += size + 2;
    }
    return argc == 0;
}

/* The group whose line is at `offset`, up to its commit: the commands are whole, and fit the
 * LSNs. */
static bool take_group(struct scan *s, uint64_t offset, struct slice line, uint64_t lsn,
                       struct found *found)
{
    uint64_t at = offset + line.size;
    bool counts = true;
    size_t got;
    while (s->work <= s->most_work) {
        const char *p = look(s, &s->walk, at, 1, &got);
        if (got == 0)
            return false;
        if (*p != '#') {
            uint64_t from = at;
            if (!take_command(s, &at))
                return false;
            lsn += counts ? at - from : 0;
            counts = true;
            continue;
        }
        line = line_at(s, at);
        if (line.size == 0)
            return false;
        if (line.size > 4 && memcmp(line.data, "#TS:", 4) == 0) {
            at += line.size;
            continue;
        }
        if (!annotation_parse(line, &found->line))
            return false;
        if (found->line.kind == ANNOTATION_SELECT) {
            counts = false;
            at += line.size;
            continue;
        }
        found->crc_end = at + found->line.crc_at;
        found->end = at + line.size;
        return found->line.kind == ANNOTATION_COMMIT && found->line.lsn == lsn;
    }
    return false;
}

/* Before a line of ours another one has ended; a `#TS:` line may be in between. */
static uint64_t begin_of(struct scan *s, uint64_t offset)
{
    size_t back = STAMP_MAX, got;
    if (back > offset - s->start->offset)
        back = (size_t)(offset - s->start->offset);
    const char *p = look(s, &s->walk, offset - back, back, &got);
    if (got < back)
        return offset;
    for (size_t i = 0; i + 4 < back; i++) {
        if (memcmp(p + i, "#TS:", 4) == 0 && memchr(p + i, '\n', back - i) == p + back - 1)
            return offset - back + i;
    }
    return offset;
}

/* Where the line before ends: a line of filling that it was written over may have its end in
 * between. */
static uint64_t end_before(struct scan *s, uint64_t begin)
{
    size_t got;
    if (begin < s->start->offset + ANNOTATION_JOIN_MAX)
        return begin;
    uint64_t end = begin - ANNOTATION_JOIN_MAX;
    const char *p = look(s, &s->walk, end, ANNOTATION_JOIN_MAX, &got);
    return got == ANNOTATION_JOIN_MAX && memcmp(p, "#\n", ANNOTATION_JOIN_MAX) == 0 ? end : begin;
}

/* The digits in which the line that ends there does. */
static bool stated(struct scan *s, uint64_t end, uint32_t *crc)
{
    size_t got;
    if (end < s->start->offset + LINE_END)
        return false;
    const char *p = look(s, &s->walk, end - LINE_END, DIGITS, &got);
    if (got < DIGITS)
        return false;
    *crc = 0;
    for (size_t i = 0; i < DIGITS; i++) {
        const char *digits = "0123456789abcdef",
                   *digit = p[i] != '\0' ? strchr(digits, p[i]) : NULL;
        if (digit == NULL)
            return false;
        *crc = *crc << 4 | (uint32_t)(digit - digits);
    }
    return true;
}

static bool chains(struct scan *s, const struct found *f)
{
    uint32_t crc;
    uint64_t end = end_before(s, f->begin);
    if (stated(s, end, &crc) && sum(s, crc, f->begin, f->crc_end) == f->line.crc)
        return true;
    uint64_t before = end - LINE_END;
    if (end < s->start->offset + LINE_END || before < s->summed)
        return false;
    s->crc = sum(s, s->crc, s->summed, before);
    s->summed = before;
    return sum(s, s->crc, f->begin, f->crc_end) == f->line.crc;
}

/* Whether a line that ends there can have this LSN. */
static bool fits(const struct scan *s, uint64_t lsn, uint64_t end)
{
    const struct log_tail_start *start = s->start;
    return lsn > start->lsn && lsn - start->lsn <= end - start->offset + GAP_MOST;
}

static void count(struct log_tail *tail, const struct found *f)
{
    const struct annotation *a = &f->line;
    if (tail->groups++ == 0) {
        tail->offset = f->begin;
        tail->first_ms = a->ms;
    }
    tail->lsn = a->lsn;
    tail->ms = a->ms;
    if (!a->has_durable)
        tail->durable = UINT64_MAX;
    else if (a->durable > tail->durable)
        tail->durable = a->durable;
}

/* What is at a tag. Returns where to go on. */
static uint64_t look_at(struct scan *s, uint64_t offset)
{
    struct found f = {.begin = begin_of(s, offset)};
    struct slice line = line_at(s, offset);
    if (line.size == 0 || !annotation_parse(line, &f.line))
        return offset + TAG_SIZE;
    bool commit = f.line.kind == ANNOTATION_COMMIT || f.line.kind == ANNOTATION_CLOSE;
    f.end = offset + line.size;
    f.crc_end = offset + f.line.crc_at;
    if (f.line.kind == ANNOTATION_GROUP) {
        uint64_t lsn = f.line.lsn;
        if (lsn < s->start->lsn || !take_group(s, offset, line, lsn, &f))
            return offset + TAG_SIZE;
    } else if (!commit) {
        return offset + TAG_SIZE;
    }
    const struct annotation *a = &f.line;
    if (!fits(s, a->lsn, f.end))
        return offset + TAG_SIZE;
    if (chains(s, &f)) {
        count(s->tail, &f);
        return f.end;
    }
    bool outside = offset >= s->start->framed || f.end == s->start->size;
    if (commit && outside && a->has_durable && a->durable > s->start->lsn && a->durable <= a->lsn)
        s->tail->claims = true;
    return offset + TAG_SIZE;
}

bool log_tail_scan(struct os_file *file, const struct log_tail_start *start, struct log_tail *tail,
                   struct error *err)
{
    struct scan s = {
        .file = file,
        .start = start,
        .tail = tail,
        .search = {.buffer = mem_alloc(SEARCH_SIZE), .room = SEARCH_SIZE},
        .walk = {.buffer = mem_alloc(WALK_SIZE), .room = WALK_SIZE},
        .most_work = WORK_LEAST + WORK_PER_BYTE * (start->size - start->offset),
        .summed = start->offset,
        .crc = start->crc,
        .err = err,
    };
    *tail = (struct log_tail){0};
    uint64_t at = start->offset;
    size_t got;
    while (!s.failed) {
        if (s.work > s.most_work) {
            tail->claims = true;
            break;
        }
        /* What the window has from there on; a tag is looked for again when it is at its end. */
        uint64_t end = s.search.base + s.search.size;
        bool inside = at >= s.search.base && at + TAG_SIZE <= end;
        const char *p = look(&s, &s.search, at, inside ? (size_t)(end - at) : SEARCH_SIZE, &got);
        if (got < TAG_SIZE)
            break;
        const char *tag = memmem(p, got, TAG, TAG_SIZE);
        at = tag != NULL ? look_at(&s, at + (uint64_t)(tag - p)) : at + got - TAG_SIZE + 1;
    }
    mem_free(s.search.buffer);
    mem_free(s.walk.buffer);
    return !s.failed;
}
