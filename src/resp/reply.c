/* SPDX-License-Identifier: BSD-3-Clause */
#include "resp/reply.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/number.h"

static_assert(OUTBUF_RESERVE_MAX >= 999 + 8, "reply_bulk reserves header, bytes and end at once");

static void put(struct reply *r, const char *s, size_t size)
{
    outbuf_append(r->out, s, size);
}

void reply_header(struct reply *r, char kind, int64_t n)
{
    char *p = outbuf_reserve(r->out, NUMBER_INT64_SIZE + 3);
    *p++ = kind;
    p += number_format_int64(p, n);
    memcpy(p, "\r\n", 2);
    outbuf_commit(r->out, p + 2);
}

void reply_bulk_large(struct reply *r, struct slice s)
{
    reply_header(r, '$', (int64_t)s.size);
    outbuf_append(r->out, s.data, s.size);
    put(r, "\r\n", 2);
}

/* The text of a line: CR and LF would end it early. */
static void put_line(struct reply *r, char kind, const char *s, size_t size)
{
    outbuf_append(r->out, &kind, 1);
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        if (s[i] != '\r' && s[i] != '\n')
            continue;
        outbuf_append(r->out, s + from, i - from);
        outbuf_append(r->out, " ", 1);
        from = i + 1;
    }
    outbuf_append(r->out, s + from, size - from);
    put(r, "\r\n", 2);
}

void reply_simple(struct reply *r, const char *s)
{
    put_line(r, '+', s, strlen(s));
}

/* What a client sent may end the message, with its line ends: those go. */
static void put_error_line(struct reply *r, const char *s, size_t size)
{
    while (size > 0 && (s[size - 1] == '\r' || s[size - 1] == '\n'))
        size--;
    put_line(r, '-', s, size);
}

static void note_error(struct reply *r, const char *message)
{
    size_t n = strcspn(message, " \r\n");
    /* What is one word, as a script may make it, is no code. */
    if (message[n] == '\0') {
        message = "ERR";
        n = 3;
    }
    if (n >= sizeof(r->last_error))
        n = sizeof(r->last_error) - 1;
    memcpy(r->last_error, message, n);
    r->last_error[n] = '\0';
    r->error_count++;
}

void reply_error(struct reply *r, const char *message)
{
    note_error(r, message);
    put_error_line(r, message, strlen(message));
}

/* Formats into a buffer of the stack, or a block when it does not fit there. */
struct formatted {
    char small[512];
    char *text;
    size_t size;
};

static void format(struct formatted *f, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(f->small, sizeof(f->small), fmt, args);
    f->size = n > 0 ? (size_t)n : 0;
    f->text = f->small;
    if (f->size >= sizeof(f->small)) {
        f->text = mem_alloc(f->size + 1);
        vsnprintf(f->text, f->size + 1, fmt, again);
    }
    va_end(again);
}

static void format_release(struct formatted *f)
{
    if (f->text != f->small)
        mem_free(f->text);
}

void reply_errorf(struct reply *r, const char *fmt, ...)
{
    struct formatted f;
    va_list args;
    va_start(args, fmt);
    format(&f, fmt, args);
    va_end(args);
    note_error(r, f.text);
    put_error_line(r, f.text, f.size);
    format_release(&f);
}

void reply_bulkf(struct reply *r, const char *fmt, ...)
{
    struct formatted f;
    va_list args;
    va_start(args, fmt);
    format(&f, fmt, args);
    va_end(args);
    reply_bulk(r, slice_of(f.text, f.size));
    format_release(&f);
}

void reply_bulk_cstr(struct reply *r, const char *s)
{
    reply_bulk(r, slice_cstr(s));
}

void reply_bulk_int(struct reply *r, int64_t v)
{
    char text[NUMBER_INT64_SIZE];
    size_t n = number_format_int64(text, v);
    reply_bulk(r, slice_of(text, n));
}

/* Send what was gathered; what is not taken is copied, and so is then all that follows. */
static void send_gathered(struct reply *r)
{
    struct reply_direct *d = r->direct;
    size_t sent = d->send(r, d->parts, d->count);
    for (int i = 0; i < d->count; i++) {
        struct slice part = d->parts[i];
        size_t skip = sent < part.size ? sent : part.size;
        sent -= skip;
        if (skip == part.size)
            continue;
        d->gathering = false;
        outbuf_append(r->out, part.data + skip, part.size - skip);
    }
    d->count = 0;
}

void reply_bulk_begin(struct reply *r, uint64_t size)
{
    struct reply_direct *d = r->direct;
    if (size < REPLY_DIRECT_MIN || d == NULL || !outbuf_is_empty(r->out)) {
        reply_header(r, '$', (int64_t)size);
        return;
    }
    char *p = d->header;
    *p++ = '$';
    p += number_format_int64(p, (int64_t)size);
    memcpy(p, "\r\n", 2);
    d->parts[0] = slice_of(d->header, (size_t)(p + 2 - d->header));
    d->count = 1;
    d->gathering = true;
}

void reply_append(struct reply *r, struct slice bytes)
{
    struct reply_direct *d = r->direct;
    if (d == NULL || !d->gathering) {
        outbuf_append(r->out, bytes.data, bytes.size);
        return;
    }
    d->parts[d->count++] = bytes;
    if (d->count == REPLY_DIRECT_PARTS)
        send_gathered(r);
}

void reply_bulk_end(struct reply *r)
{
    reply_append(r, slice_of("\r\n", 2));
    if (r->direct == NULL || !r->direct->gathering)
        return;
    if (r->direct->count != 0)
        send_gathered(r);
    r->direct->gathering = false;
}

void reply_double(struct reply *r, double v)
{
    if (r->protocol == 2) {
        reply_bulk_double(r, v);
        return;
    }
    char text[NUMBER_DOUBLE_SIZE];
    size_t n = number_format_double(text, v);
    put_line(r, ',', text, n);
}

void reply_bulk_double(struct reply *r, double v)
{
    char text[NUMBER_DOUBLE_SIZE];
    size_t n = number_format_double(text, v);
    reply_bulk(r, slice_of(text, n));
}

void reply_human_double(struct reply *r, long double v)
{
    char text[NUMBER_LONG_DOUBLE_SIZE];
    size_t n = number_format_long_double(text, v);
    if (r->protocol == 2)
        reply_bulk(r, slice_of(text, n));
    else
        put_line(r, ',', text, n);
}

void reply_bool(struct reply *r, bool v)
{
    if (r->protocol == 2)
        reply_int(r, v);
    else
        put(r, v ? "#t\r\n" : "#f\r\n", 4);
}

void reply_bignum(struct reply *r, struct slice digits)
{
    if (r->protocol == 2)
        reply_bulk(r, digits);
    else
        put_line(r, '(', digits.data, digits.size);
}

void reply_verbatim(struct reply *r, struct slice text, const char *fmt)
{
    if (r->protocol == 2) {
        reply_bulk(r, text);
        return;
    }
    /* The format is three characters, whatever was given. */
    char head[4] = {' ', ' ', ' ', ':'};
    for (int i = 0; i < 3 && fmt[i] != '\0'; i++)
        head[i] = fmt[i];
    reply_header(r, '=', (int64_t)text.size + 4);
    outbuf_append(r->out, head, sizeof(head));
    outbuf_append(r->out, text.data, text.size);
    put(r, "\r\n", 2);
}

void reply_null_array(struct reply *r)
{
    if (r->protocol == 2)
        put(r, "*-1\r\n", 5);
    else
        put(r, "_\r\n", 3);
}

void reply_map(struct reply *r, size_t pairs)
{
    if (r->protocol == 2)
        reply_array(r, pairs * 2);
    else
        reply_header(r, '%', (int64_t)pairs);
}

void reply_set(struct reply *r, size_t count)
{
    reply_header(r, r->protocol == 2 ? '*' : '~', (int64_t)count);
}

void reply_push(struct reply *r, size_t count)
{
    reply_header(r, r->protocol == 2 ? '*' : '>', (int64_t)count);
}

void reply_empty_array(struct reply *r)
{
    reply_array(r, 0);
}

struct reply_mark reply_deferred_begin(struct reply *r)
{
    return (struct reply_mark){outbuf_hole(r->out)};
}

static void deferred_end(struct reply *r, struct reply_mark mark, char kind, size_t count)
{
    char text[NUMBER_INT64_SIZE + 3];
    text[0] = kind;
    size_t n = 1 + number_format_int64(text + 1, (int64_t)count);
    memcpy(text + n, "\r\n", 2);
    outbuf_fill(r->out, mark.at, text, n + 2);
}

void reply_deferred_array(struct reply *r, struct reply_mark mark, size_t count)
{
    deferred_end(r, mark, '*', count);
}

void reply_deferred_map(struct reply *r, struct reply_mark mark, size_t pairs)
{
    if (r->protocol == 2)
        deferred_end(r, mark, '*', pairs * 2);
    else
        deferred_end(r, mark, '%', pairs);
}

void reply_deferred_set(struct reply *r, struct reply_mark mark, size_t count)
{
    deferred_end(r, mark, r->protocol == 2 ? '*' : '~', count);
}

void reply_wrong_type(struct reply *r)
{
    reply_error(r, "WRONGTYPE Operation against a key holding the wrong kind of value");
}

void reply_syntax_error(struct reply *r)
{
    reply_error(r, "ERR syntax error");
}

void reply_not_integer(struct reply *r)
{
    reply_error(r, "ERR value is not an integer or out of range");
}

void reply_not_float(struct reply *r)
{
    reply_error(r, "ERR value is not a valid float");
}
