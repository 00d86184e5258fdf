/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/catchup.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "os/socket.h"
#include "os/thread.h"
#include "persist/log/history.h"

#define WAIT_MS 100
/* Small effects are sent together. */
#define BUFFER_SIZE (128 * 1024)

struct catchup {
    struct catchup_options options;
    struct catchup_result result;
    pthread_t thread;
    bool socket_failed;
    bool cancelled, ended; /* atomic */
    size_t used;
    char buffer[BUFFER_SIZE];
};

static bool send_now(struct catchup *c, const char *data, size_t size, struct error *err)
{
    int64_t last_us = clock_monotonic_us();
    c->result.begun |= size > 0;
    while (size > 0) {
        if (__atomic_load_n(&c->cancelled, __ATOMIC_ACQUIRE))
            return error_set(err, ERROR_CANCELLED, "it was given up");
        struct tls *tls = c->options.tls;
        ssize_t n =
            tls != NULL ? tls_write(tls, data, size) : socket_write(c->options.fd, data, size);
        if (n > 0) {
            data += n;
            size -= (size_t)n;
            last_us = clock_monotonic_us();
            continue;
        }
        c->socket_failed = true;
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return error_set(err, ERROR_SYSTEM, "the replica: %s", strerror(errno));
        if (clock_monotonic_us() - last_us > c->options.timeout_ms * INT64_C(1000))
            return error_set(err, ERROR_SYSTEM, "the replica takes nothing");
        c->socket_failed = false;
        socket_wait(c->options.fd, true, WAIT_MS);
    }
    return true;
}

static bool flush(struct catchup *c, struct error *err)
{
    size_t size = c->used;
    c->used = 0;
    return send_now(c, c->buffer, size, err);
}

static bool take(void *ctx, struct slice bytes, struct error *err)
{
    struct catchup *c = ctx;
    const char *line = c->options.preamble;
    if (!c->result.begun && c->used == 0 && line[0] != '\0') {
        c->used = strlen(line);
        memcpy(c->buffer, line, c->used);
    }
    if (bytes.size > BUFFER_SIZE - c->used && !flush(c, err))
        return false;
    if (bytes.size > BUFFER_SIZE)
        return send_now(c, bytes.data, bytes.size, err);
    memcpy(c->buffer + c->used, bytes.data, bytes.size);
    c->used += bytes.size;
    return true;
}

static void catchup_main(void *arg)
{
    struct catchup *c = arg;
    const struct catchup_options *o = &c->options;
    struct catchup_result *r = &c->result;
    struct os_polite polite;
    os_polite_begin(&polite);
    r->ok = history_read(o->directory, o->filename, o->from, o->until, take, c, &r->error) &&
            flush(c, &r->error);
    r->of_log = !r->ok && !c->socket_failed && r->error.code != ERROR_CANCELLED;
    void (*wake)(void *) = o->wake;
    void *ctx = o->ctx;
    __atomic_store_n(&c->ended, true, __ATOMIC_RELEASE);
    wake(ctx);
}

struct catchup *catchup_start(const struct catchup_options *options, struct error *err)
{
    struct catchup *c = mem_alloc(sizeof(*c));
    memset(c, 0, offsetof(struct catchup, buffer));
    c->options = *options;
    if (!os_thread_start(&c->thread, "hf-catchup", catchup_main, c, err)) {
        tls_unshare(options->tls);
        socket_close(options->fd);
        mem_free(c);
        return NULL;
    }
    return c;
}

void catchup_cancel(struct catchup *c)
{
    __atomic_store_n(&c->cancelled, true, __ATOMIC_RELEASE);
}

bool catchup_ended(const struct catchup *c)
{
    return __atomic_load_n(&c->ended, __ATOMIC_ACQUIRE);
}

void catchup_finish(struct catchup *c, struct catchup_result *result)
{
    pthread_join(c->thread, NULL);
    *result = c->result;
    tls_unshare(c->options.tls);
    socket_close(c->options.fd);
    mem_free(c);
}
