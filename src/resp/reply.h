/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing replies: RESP2 or RESP3 into an output buffer. Pure bytes: who sends them is net's
 * matter.
 *
 * A handler replies with exactly one value; aggregate functions announce how many values follow.
 * Each function gives the right form for the protocol in use: reply_map writes %n or *2n,
 * reply_null writes _ or $-1, and so on.
 *
 * CLIENT REPLY OFF and SKIP: whoever mutes a client points `out` at a buffer that is thrown away,
 * so that no function here has to look; `muted` is for those who would rather not work for nothing.
 *
 * Strings are copied into the buffer. reply_bulk_begin announces a bulk string of a known size
 * whose bytes then follow by reply_append (for ropes). When there are REPLY_DIRECT_MIN of them or
 * more, and nothing waits in the buffer before them, they are not copied: reply_direct.send gives
 * them to the socket where they lie, and only what it does not take is. So what is appended has to
 * stay where it is until reply_bulk_end.
 */
#ifndef HF_RESP_REPLY_H
#define HF_RESP_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "resp/outbuf.h"

struct reply;

/* The way past the buffer. One serves all of a thread's replies. */
#define REPLY_DIRECT_MIN (256 * 1024)
#define REPLY_DIRECT_PARTS 62
struct reply_direct {
    /* Sends at once what can be sent of the parts, in order; returns how many bytes. 0 also when
     * the reply may not leave yet. */
    size_t (*send)(struct reply *r, const struct slice *parts, int count);
    bool gathering; /* between reply_bulk_begin and reply_bulk_end, until the socket is full */
    int count;
    struct slice parts[REPLY_DIRECT_PARTS];
    char header[32];
};

struct reply {
    struct outbuf *out;
    struct reply_direct *direct; /* NULL: none */
    uint8_t protocol;            /* 2 or 3 */
    bool muted;                  /* CLIENT REPLY OFF/SKIP: write nothing */
    uint64_t error_count; /* errors written through it: EXEC and stats look at the difference */
    char last_error[64];  /* the first word of the last error ("WRONGTYPE"), for errorstats */
};

static inline void reply_ok(struct reply *r);
void reply_simple(struct reply *r, const char *s);          /* +s */
void reply_error(struct reply *r, const char *message);     /* -message: with its code, "ERR ..." */
void reply_errorf(struct reply *r, const char *format, ...) /* CR and LF become blanks */
    __attribute__((format(printf, 2, 3)));
static inline void reply_int(struct reply *r, int64_t v);
static inline void reply_bulk(struct reply *r, struct slice s);
void reply_bulk_cstr(struct reply *r, const char *s);
void reply_bulk_int(struct reply *r, int64_t v); /* an integer as a bulk string */
void reply_bulkf(struct reply *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void reply_bulk_begin(struct reply *r, uint64_t size);
void reply_append(struct reply *r, struct slice bytes);
void reply_bulk_end(struct reply *r);
void reply_double(struct reply *r, double v);      /* RESP3 double; RESP2 bulk */
void reply_bulk_double(struct reply *r, double v); /* always a bulk string */
void reply_human_double(struct reply *r, long double v); /* the same digits; RESP3 double */
void reply_bool(struct reply *r, bool v);          /* RESP3 #t; RESP2 :1 */
void reply_bignum(struct reply *r, struct slice digits);
void reply_verbatim(struct reply *r, struct slice text, const char *format); /* "txt", "mkd" */
static inline void reply_null(struct reply *r); /* RESP3 _ ; RESP2 $-1 */
void reply_null_array(struct reply *r);         /* RESP3 _ ; RESP2 *-1 */
static inline void reply_array(struct reply *r, size_t count);
void reply_map(struct reply *r, size_t pairs);
void reply_set(struct reply *r, size_t count);
void reply_push(struct reply *r, size_t count);
void reply_empty_array(struct reply *r);

/* An aggregate whose count is known only after its elements: begin, write elements, end. They may
 * be nested. */
struct reply_mark {
    struct outbuf_mark at;
};
struct reply_mark reply_deferred_begin(struct reply *r);
void reply_deferred_array(struct reply *r, struct reply_mark mark, size_t count);
void reply_deferred_map(struct reply *r, struct reply_mark mark, size_t pairs);
void reply_deferred_set(struct reply *r, struct reply_mark mark, size_t count);

/* Redis's common errors, in its words. */
void reply_wrong_type(struct reply *r);
void reply_syntax_error(struct reply *r);
void reply_not_integer(struct reply *r);
void reply_not_float(struct reply *r);

/* What the hot path uses, inline. */

void reply_header(struct reply *r, char kind, int64_t n); /* kind, n, CR, LF */
void reply_bulk_large(struct reply *r, struct slice s);

/* A decimal of up to three digits; returns the place behind it. */
static inline char *reply_put_small(char *p, unsigned n)
{
    if (n >= 100) {
        *p++ = (char)('0' + n / 100);
        n %= 100;
        *p++ = (char)('0' + n / 10);
        n %= 10;
    } else if (n >= 10) {
        *p++ = (char)('0' + n / 10);
        n %= 10;
    }
    *p++ = (char)('0' + n);
    return p;
}

static inline void reply_ok(struct reply *r)
{
    char *p = outbuf_reserve(r->out, 5);
    memcpy(p, "+OK\r\n", 5);
    outbuf_commit(r->out, p + 5);
}

static inline void reply_small_header(struct reply *r, char kind, unsigned n)
{
    char *p = outbuf_reserve(r->out, 8);
    *p++ = kind;
    p = reply_put_small(p, n);
    memcpy(p, "\r\n", 2);
    outbuf_commit(r->out, p + 2);
}

static inline void reply_int(struct reply *r, int64_t v)
{
    if (__builtin_expect((uint64_t)v < 1000, 1))
        reply_small_header(r, ':', (unsigned)v);
    else
        reply_header(r, ':', v);
}

static inline void reply_array(struct reply *r, size_t count)
{
    if (__builtin_expect(count < 1000, 1))
        reply_small_header(r, '*', (unsigned)count);
    else
        reply_header(r, '*', (int64_t)count);
}

static inline void reply_bulk(struct reply *r, struct slice s)
{
    if (__builtin_expect(s.size > 999, 0)) {
        reply_bulk_large(r, s);
        return;
    }
    char *p = outbuf_reserve(r->out, s.size + 8);
    *p++ = '$';
    p = reply_put_small(p, (unsigned)s.size);
    memcpy(p, "\r\n", 2);
    p += 2;
    if (s.size != 0)
        memcpy(p, s.data, s.size);
    p += s.size;
    memcpy(p, "\r\n", 2);
    outbuf_commit(r->out, p + 2);
}

static inline void reply_null(struct reply *r)
{
    char *p = outbuf_reserve(r->out, 5);
    if (r->protocol == 2) {
        memcpy(p, "$-1\r\n", 5);
        outbuf_commit(r->out, p + 5);
    } else {
        memcpy(p, "_\r\n", 3);
        outbuf_commit(r->out, p + 3);
    }
}

#endif
