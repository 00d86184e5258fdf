/* SPDX-License-Identifier: BSD-3-Clause */
#include "net/listener.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"

struct listener {
    struct loop_source source;
    struct listener *next;
    struct listeners *all;
    char *path; /* of a Unix socket, else NULL */
    bool tls;
};

struct listeners {
    struct loop *loop;
    struct listener *first;
    size_t count;
    int accepts, tls_accepts; /* of a turn, from each socket */
    listener_accept_fn *accept;
    void *ctx;
};

static void on_ready(struct loop_source *source, uint32_t events)
{
    struct listener *l = (struct listener *)source;
    (void)events;
    int most = l->tls ? l->all->tls_accepts : l->all->accepts;
    for (int i = 0; i < most; i++) {
        int fd = socket_accept(source->fd);
        if (fd < 0) {
            if (errno != EAGAIN && errno != ECONNABORTED)
                log_warning("Accepting client connection: %s", strerror(errno));
            return;
        }
        l->all->accept(l->all->ctx, fd, l->tls);
    }
}

struct listeners *listeners_new(struct loop *loop, listener_accept_fn *accept, void *ctx)
{
    struct listeners *l = mem_zalloc(sizeof(*l));
    l->loop = loop;
    l->accepts = l->tls_accepts = 1;
    l->accept = accept;
    l->ctx = ctx;
    return l;
}

static void listener_free(struct listeners *all, struct listener *l)
{
    loop_remove(all->loop, &l->source);
    socket_close(l->source.fd);
    if (l->path != NULL)
        socket_unlink_unix(l->path);
    mem_free(l->path);
    mem_free(l);
    all->count--;
}

void listeners_free(struct listeners *all)
{
    for (struct listener *l = all->first, *next; l != NULL; l = next) {
        next = l->next;
        listener_free(all, l);
    }
    mem_free(all);
}

static bool add(struct listeners *all, int fd, const char *path, bool tls)
{
    struct listener *l = mem_zalloc(sizeof(*l));
    l->source = (struct loop_source){.fd = fd, .on_ready = on_ready};
    l->all = all;
    l->tls = tls;
    if (path != NULL)
        l->path = mem_dup(path, strlen(path));
    l->next = all->first;
    all->first = l;
    all->count++;
    return loop_add(all->loop, &l->source, EPOLLIN);
}

bool listeners_add_tcp(struct listeners *all, const char *address, int port, bool tls,
                       int backlog, char error[SOCKET_ERROR_SIZE])
{
    bool optional = address[0] == '-';
    int fd = socket_listen_tcp(address + optional, port, backlog, error);
    if (fd < 0)
        return optional && socket_error_is_optional(errno);
    return add(all, fd, NULL, tls);
}

bool listeners_add_unix(struct listeners *all, const char *path, unsigned perm, const char *group,
                        int backlog, char error[SOCKET_ERROR_SIZE])
{
    int fd = socket_listen_unix(path, perm, group, backlog, error);
    return fd >= 0 && add(all, fd, path, false);
}

void listeners_close_tcp(struct listeners *all, bool tls)
{
    for (struct listener **at = &all->first; *at != NULL;) {
        struct listener *l = *at;
        if (l->path == NULL && l->tls == tls) {
            *at = l->next;
            listener_free(all, l);
        } else {
            at = &l->next;
        }
    }
}

void listeners_set_accepts(struct listeners *all, int count, int tls_count)
{
    all->accepts = count;
    all->tls_accepts = tls_count;
}

size_t listeners_count(const struct listeners *all)
{
    return all->count;
}
