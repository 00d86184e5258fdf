/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/metrics_listener.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/http.h"
#include "server/config.h"
#include "server/metrics.h"

#define REQUEST_MAX 8192
#define CONNECTIONS_MAX 16
#define TIMEOUT_US 10000000
#define LOOK_MS 1000
#define BACKLOG 64
#define PLAIN "text/plain; charset=utf-8"

struct visitor {
    struct loop_source source;
    struct visitor *next, **link; /* the oldest first */
    struct metrics_listener *all;
    int64_t since_us;
    bool watched; /* the loop has it */
    char request[REQUEST_MAX];
    size_t request_size;
    struct text answer; /* empty: the request is not whole yet */
    size_t sent;
};

struct metrics_listener {
    struct server *server;
    struct listeners *listeners;
    struct visitor *first, **last;
    size_t count;
    struct loop_timer *timer; /* while there are visitors */
};

static void close_visitor(struct visitor *v)
{
    struct metrics_listener *m = v->all;
    *v->link = v->next;
    if (v->next != NULL)
        v->next->link = v->link;
    else
        m->last = v->link;
    m->count--;
    if (v->watched)
        loop_remove(m->server->loop, &v->source);
    socket_close(v->source.fd);
    text_free(&v->answer);
    mem_free(v);
}

static int64_t close_slow(void *ctx)
{
    struct metrics_listener *m = ctx;
    int64_t now = clock_monotonic_us();
    while (m->first != NULL && now - m->first->since_us > TIMEOUT_US)
        close_visitor(m->first);
    if (m->first != NULL)
        return LOOK_MS;
    m->timer = NULL;
    return 0;
}

static void answer(struct visitor *v, const struct http_request *request)
{
    struct server *s = v->all->server;
    bool head = slice_equal(request->method, SLICE("HEAD"));
    struct text body = {0};
    const char *type = PLAIN;
    int status = 200;
    if (!head && !slice_equal(request->method, SLICE("GET"))) {
        status = 405;
        text_append_cstr(&body, "only GET and HEAD\n");
    } else if (slice_equal(request->path, SLICE("/metrics"))) {
        type = "text/plain; version=0.0.4; charset=utf-8";
        metrics_append(s, &body);
    } else if (slice_equal(request->path, SLICE("/health/live"))) {
        text_append_cstr(&body, "live\n");
    } else if (slice_equal(request->path, SLICE("/health/ready"))) {
        if (metrics_is_ready(s, &body))
            text_append_cstr(&body, "ready");
        else
            status = 503;
        text_append_cstr(&body, "\n");
    } else {
        status = 404;
        text_append_cstr(&body, "/metrics, /health/live, /health/ready\n");
    }
    http_append_response(&v->answer, status, type, text_slice(&body), !head);
    text_free(&body);
}

static void refuse(struct visitor *v, int status, const char *why)
{
    http_append_response(&v->answer, status, PLAIN, slice_cstr(why), true);
}

/* False: it is closed. */
static bool send_answer(struct visitor *v)
{
    while (v->sent < v->answer.size) {
        ssize_t n = socket_write(v->source.fd, v->answer.data + v->sent, v->answer.size - v->sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            loop_set_events(v->all->server->loop, &v->source, EPOLLOUT);
            return true;
        }
        if (n <= 0)
            break;
        v->sent += (size_t)n;
    }
    close_visitor(v);
    return false;
}

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct visitor *v = (struct visitor *)source;
    (void)events;
    if (v->answer.size > 0) {
        send_answer(v);
        return;
    }
    ssize_t n =
        socket_read(source->fd, v->request + v->request_size, REQUEST_MAX - v->request_size);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        close_visitor(v);
        return;
    }
    v->request_size += (size_t)n;
    struct http_request request;
    switch (http_parse_request(slice_of(v->request, v->request_size), &request)) {
    case HTTP_INCOMPLETE:
        if (v->request_size < REQUEST_MAX)
            return;
        refuse(v, 431, "the request is too long\n");
        break;
    case HTTP_BAD:
        refuse(v, 400, "not an HTTP request\n");
        break;
    case HTTP_OK:
        answer(v, &request);
        break;
    }
    send_answer(v);
}

static void on_accept(void *ctx, int fd, bool tls)
{
    struct metrics_listener *m = ctx;
    (void)tls;
    if (m->count == CONNECTIONS_MAX)
        close_visitor(m->first);
    struct visitor *v = mem_zalloc(sizeof(*v));
    v->source = (struct loop_source){.fd = fd, .on_ready = on_ready};
    v->all = m;
    v->since_us = clock_monotonic_us();
    v->link = m->last;
    *m->last = v;
    m->last = &v->next;
    m->count++;
    v->watched = loop_add(m->server->loop, &v->source, EPOLLIN);
    if (!v->watched) {
        close_visitor(v);
        return;
    }
    if (m->timer == NULL)
        m->timer = loop_add_timer(m->server->loop, LOOK_MS, close_slow, m);
}

struct metrics_listener *metrics_listener_new(struct server *s)
{
    struct metrics_listener *m = mem_zalloc(sizeof(*m));
    m->server = s;
    m->last = &m->first;
    m->listeners = listeners_new(s->loop, on_accept, m);
    return m;
}

void metrics_listener_free(struct metrics_listener *m)
{
    while (m->first != NULL)
        close_visitor(m->first);
    if (m->timer != NULL)
        loop_remove_timer(m->server->loop, m->timer);
    listeners_free(m->listeners);
    mem_free(m);
}

bool metrics_listen(struct server *s, char error[SOCKET_ERROR_SIZE])
{
    const struct config *c = s->config;
    char why[SOCKET_ERROR_SIZE];
    listeners_close_tcp(s->metrics->listeners, false);
    if (c->metrics_port == 0 || listeners_add_tcp(s->metrics->listeners, c->metrics_bind,
                                                  (int)c->metrics_port, false, BACKLOG, why))
        return true;
    snprintf(error, SOCKET_ERROR_SIZE, "%.60s port %d: %.150s", c->metrics_bind,
             (int)c->metrics_port, why);
    return false;
}
