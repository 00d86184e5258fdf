/* SPDX-License-Identifier: BSD-3-Clause
 *
 * As much of HTTP/1.1 (RFC 9112) as a server needs that answers GET and HEAD and closes the
 * connection after each answer. Pure bytes; no sockets.
 */
#ifndef HF_NET_HTTP_H
#define HF_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"
#include "base/text.h"

enum http_parse {
    HTTP_INCOMPLETE, /* more bytes are needed */
    HTTP_OK,
    HTTP_BAD         /* not a request */
};

struct http_request {
    struct slice method;
    struct slice path; /* without the query */
};

/* A request's head, to the empty line. Its headers are checked for their form and not kept. The
 * slices point into `data`. */
enum http_parse http_parse_request(struct slice data, struct http_request *request);

/* Appends a whole answer. Without `with_body` (HEAD) the head alone, with the body's length. */
void http_append_response(struct text *out, int status, const char *content_type, struct slice body,
                          bool with_body);

#endif
