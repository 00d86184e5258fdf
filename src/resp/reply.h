/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Writing replies: RESP2 or RESP3 into an output buffer. Pure bytes: who sends them is net's matter.
 *
 * A handler replies with exactly one value; aggregate functions announce how many values follow.
 * Each function gives the right form for the protocol in use: reply_map writes %n or *2n, reply_null
 * writes _ or $-1, and so on.
 *
 * Strings are copied into the buffer. reply_bulk_begin announces a bulk string of a known size whose
 * bytes then follow by reply_append (for ropes).
 */
#ifndef HF_RESP_REPLY_H
#define HF_RESP_REPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "resp/outbuf.h"

struct reply {
    struct outbuf *out;
    uint8_t protocol;     /* 2 or 3 */
    bool muted;           /* CLIENT REPLY OFF/SKIP: write nothing */
    uint64_t error_count; /* errors written through it: EXEC and stats look at the difference */
    char last_error[64];  /* the first word of the last error ("WRONGTYPE"), for errorstats */
};

void reply_ok(struct reply *r);
void reply_simple(struct reply *r, const char *s);          /* +s */
void reply_error(struct reply *r, const char *message);     /* -message: with its code, "ERR ..." */
void reply_errorf(struct reply *r, const char *format, ...) /* CR and LF become blanks */
    __attribute__((format(printf, 2, 3)));
void reply_int(struct reply *r, int64_t v);
void reply_bulk(struct reply *r, struct slice s);
void reply_bulk_cstr(struct reply *r, const char *s);
void reply_bulk_int(struct reply *r, int64_t v); /* an integer as a bulk string */
void reply_bulkf(struct reply *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
void reply_bulk_begin(struct reply *r, uint64_t size);
void reply_append(struct reply *r, struct slice bytes);
void reply_bulk_end(struct reply *r);
void reply_double(struct reply *r, double v);      /* RESP3 double; RESP2 bulk */
void reply_bulk_double(struct reply *r, double v); /* always a bulk string */
void reply_long_double(struct reply *r, long double v); /* bulk, as INCRBYFLOAT replies */
void reply_bool(struct reply *r, bool v);          /* RESP3 #t; RESP2 :1 */
void reply_bignum(struct reply *r, struct slice digits);
void reply_verbatim(struct reply *r, struct slice text, const char *format); /* "txt", "mkd" */
void reply_null(struct reply *r);       /* RESP3 _ ; RESP2 $-1 */
void reply_null_array(struct reply *r); /* RESP3 _ ; RESP2 *-1 */
void reply_array(struct reply *r, size_t count);
void reply_map(struct reply *r, size_t pairs);
void reply_set(struct reply *r, size_t count);
void reply_push(struct reply *r, size_t count);
void reply_empty_array(struct reply *r);

/* An aggregate whose count is known only after its elements: begin, write elements, end. They may be
 * nested. */
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

#endif
