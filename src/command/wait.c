/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/wait.h"

#include <math.h>

#include "base/mem.h"
#include "base/number.h"

void call_wait(struct call *c, const struct call_wait *w)
{
    if (c->hooks != NULL && c->hooks->wait != NULL && !c->in_exec) {
        c->hooks->wait(c, w);
        return;
    }
    if (w->timed_out == NULL) {
        reply_null_array(c->reply);
        return;
    }
    /* It may change its state, as it would the copy. */
    _Alignas(16) char small[256];
    char *state = w->state_size <= sizeof(small) ? small : mem_alloc(w->state_size);
    if (w->state_size != 0)
        memcpy(state, w->state, w->state_size);
    w->timed_out(c, state);
    if (state != small)
        mem_free(state);
}

struct taking {
    wait_take_fn *take;
    int how;
};

static bool serve_take(struct call *c, struct slice key, struct entry *e, void *state)
{
    (void)e;
    const struct taking *t = state;
    struct keyref ref;
    call_find_write_any(c, key, &ref);
    t->take(c, &ref, t->how);
    return true;
}

void call_take_or_wait(struct call *c, enum entry_type type, wait_take_fn *take, int how)
{
    const struct taking t = {.take = take, .how = how};
    int64_t timeout_ms;
    if (!call_timeout_seconds(c, c->argv[c->argc - 1], &timeout_ms))
        return;
    for (int i = 1; i < c->argc - 1; i++) {
        struct keyref ref;
        if (!call_find_write(c, c->argv[i], type, &ref))
            return;
        if (ref.entry) {
            take(c, &ref, how);
            return;
        }
    }
    call_wait(c, &(struct call_wait){.type = type,
                                     .keys = c->argv + 1,
                                     .key_count = c->argc - 2,
                                     .timeout_ms = timeout_ms,
                                     .serve = serve_take,
                                     .state = &t,
                                     .state_size = sizeof(t)});
}

static bool check_timeout(struct call *c, int64_t timeout_ms)
{
    if (timeout_ms < 0) {
        reply_error(c->reply, "ERR timeout is negative");
        return false;
    }
    if (timeout_ms > INT64_MAX - c->now_ms) {
        reply_error(c->reply, "ERR timeout is out of range");
        return false;
    }
    return true;
}

bool call_timeout_seconds(struct call *c, struct slice s, int64_t *timeout_ms)
{
    long double seconds;
    if (!number_parse_long_double(s, &seconds)) {
        reply_error(c->reply, "ERR timeout is not a float or out of range");
        return false;
    }
    long double ms = ceill(seconds * 1000);
    *timeout_ms = ms >= (long double)INT64_MAX ? INT64_MAX : ms < 0 ? -1 : (int64_t)ms;
    return check_timeout(c, *timeout_ms);
}

bool call_timeout_ms(struct call *c, struct slice s, int64_t *timeout_ms)
{
    return call_int64(c, s, timeout_ms, "ERR timeout is not an integer or out of range") &&
           check_timeout(c, *timeout_ms);
}
