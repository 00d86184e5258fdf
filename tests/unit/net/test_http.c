/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/http.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static enum http_parse parse(const char *text, struct http_request *r)
{
    return http_parse_request(slice_of(text, strlen(text)), r);
}

/* A request is whole at its empty line, with either line end, and not before: every prefix of it is
 * incomplete. */
static void whole_requests(void **state)
{
    static const char *const requests[] = {
        "GET /metrics?x=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
        "GET /metrics HTTP/1.0\n\n",
    };
    struct http_request r;
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        size_t size = strlen(requests[i]);
        for (size_t n = 0; n < size; n++)
            assert_int_equal(http_parse_request(slice_of(requests[i], n), &r), HTTP_INCOMPLETE);
        assert_int_equal(parse(requests[i], &r), HTTP_OK);
        assert_true(slice_equal(r.method, SLICE("GET")));
        assert_true(slice_equal(r.path, SLICE("/metrics")));
    }
}

/* What is no request is refused by its first bad line. */
static void bad_requests(void **state)
{
    static const char *const requests[] = {
        "PING\r\n",
        "*1\r\n$4\r\nPING\r\n",
        "\r\n",
        "GET /\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET metrics HTTP/1.1\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/1.1 \r\n",
        "G(T / HTTP/1.1\r\n",
        "GET /\x01 HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n",
        "GET / HTTP/1.1\r\nbad name: x\r\n",
        "GET / HTTP/1.1\r\na: \x02\r\n",
        "GET / HTTP/1.1\r\n: x\r\n",
    };
    struct http_request r;
    (void)state;
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        assert_int_equal(parse(requests[i], &r), HTTP_BAD);
}

/* An answer says how long its body is, also where it has none as the request was HEAD. */
static void answers(void **state)
{
    struct text out = {0};
    (void)state;
    http_append_response(&out, 503, "text/plain", SLICE("no\n"), true);
    assert_non_null(strstr(text_cstr(&out), "HTTP/1.1 503 Service Unavailable\r\n"));
    assert_non_null(strstr(text_cstr(&out), "\r\nContent-Length: 3\r\n"));
    assert_string_equal(text_cstr(&out) + out.size - 7, "\r\n\r\nno\n");
    text_clear(&out);
    http_append_response(&out, 405, "text/plain", SLICE("no\n"), false);
    assert_non_null(strstr(text_cstr(&out), "\r\nAllow: GET, HEAD\r\n"));
    assert_non_null(strstr(text_cstr(&out), "\r\nContent-Length: 3\r\n"));
    assert_string_equal(text_cstr(&out) + out.size - 4, "\r\n\r\n");
    text_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(whole_requests),
                                       cmocka_unit_test(bad_requests), cmocka_unit_test(answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
