/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/http.h"

#include <string.h>

/* The characters of a method or a header's name: RFC 9110's tchar. */
static bool is_token(struct slice s)
{
    for (size_t i = 0; i < s.size; i++) {
        char c = s.data[i];
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!plain && (c == '\0' || strchr("!#$%&'*+-.^_`|~", c) == NULL))
            return false;
    }
    return s.size > 0;
}

static bool has_controls(struct slice s, bool blanks_too)
{
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c == 0x7f || (c < ' ' && c != '\t') || (blanks_too && (c == ' ' || c == '\t')))
            return true;
    }
    return false;
}

/* The line at the beginning of *rest, without its end, which may be LF alone. False: it has no
 * end. */
static bool take_line(struct slice *rest, struct slice *line)
{
    const char *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;
    if (end == NULL)
        return false;
    size_t size = (size_t)(end - rest->data);
    *line = slice_of(rest->data, size > 0 && end[-1] == '\r' ? size - 1 : size);
    *rest = slice_of(end + 1, rest->size - size - 1);
    return true;
}

static bool parse_first_line(struct slice line, struct http_request *request)
{
    const char *blank = line.size > 0 ? memchr(line.data, ' ', line.size) : NULL;
    if (blank == NULL)
        return false;
    request->method = slice_of(line.data, (size_t)(blank - line.data));
    struct slice rest = slice_of(blank + 1, line.size - request->method.size - 1);
    blank = rest.size > 0 ? memchr(rest.data, ' ', rest.size) : NULL;
    if (blank == NULL)
        return false;
    struct slice target = slice_of(rest.data, (size_t)(blank - rest.data));
    struct slice version = slice_of(blank + 1, rest.size - target.size - 1);
    if (!is_token(request->method) || target.size == 0 || target.data[0] != '/' ||
        has_controls(target, true))
        return false;
    const char *query = memchr(target.data, '?', target.size);
    request->path =
        slice_of(target.data, query != NULL ? (size_t)(query - target.data) : target.size);
    return slice_equal(version, SLICE("HTTP/1.1")) || slice_equal(version, SLICE("HTTP/1.0"));
}

enum http_parse http_parse_request(struct slice data, struct http_request *request)
{
    struct slice rest = data, line;
    *request = (struct http_request){0};
    if (!take_line(&rest, &line))
        return HTTP_INCOMPLETE;
    if (!parse_first_line(line, request))
        return HTTP_BAD;
    while (take_line(&rest, &line)) {
        if (line.size == 0)
            return HTTP_OK;
        const char *colon = memchr(line.data, ':', line.size);
        if (colon == NULL || !is_token(slice_of(line.data, (size_t)(colon - line.data))) ||
            has_controls(line, false))
            return HTTP_BAD;
    }
    return HTTP_INCOMPLETE;
}

static const char *reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 431:
        return "Request Header Fields Too Large";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

void http_append_response(struct text *out, int status, const char *content_type, struct slice body,
                          bool with_body)
{
    text_appendf(out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n", status,
                 reason(status), content_type, body.size);
    if (status == 405)
        text_append_cstr(out, "Allow: GET, HEAD\r\n");
    text_append_cstr(out, "Cache-Control: no-store\r\nConnection: close\r\n\r\n");
    if (with_body)
        text_append(out, body.data, body.size);
}
