/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/mpop.h"

#include "base/number.h"
#include "command/wait.h"

struct request {
    const struct mpop_kind *kind;
    const struct slice *keys; /* in argv */
    int key_count, end;
    uint64_t most;
};

/* numkeys key [key ...] end [COUNT count], from argv[at] on. False: an error was replied. */
static bool parse(struct call *c, int at, struct request *r)
{
    int64_t key_count, count = -1;
    if (!call_int64_range(c, c->argv[at], 1, INT64_MAX, &key_count,
                          "ERR numkeys should be greater than 0"))
        return false;
    int end_at = key_count < c->argc - at - 1 ? at + 1 + (int)key_count : 0;
    r->end = end_at != 0 && slice_is(c->argv[end_at], r->kind->words[1]);
    if (end_at == 0 || (r->end == 0 && !slice_is(c->argv[end_at], r->kind->words[0]))) {
        reply_syntax_error(c->reply);
        return false;
    }
    for (int i = end_at + 1; i < c->argc; i++) {
        if (count != -1 || !slice_is(c->argv[i], "count") || i + 1 == c->argc) {
            reply_syntax_error(c->reply);
            return false;
        }
        if (!call_int64_range(c, c->argv[++i], 1, INT64_MAX, &count,
                              "ERR count should be greater than 0"))
            return false;
    }
    r->keys = c->argv + at + 1;
    r->key_count = (int)key_count;
    r->most = count == -1 ? 1 : (uint64_t)count;
    return true;
}

static void take(struct call *c, struct keyref *ref, const struct request *r)
{
    uint64_t have = r->kind->count(ref->entry), count = r->most < have ? r->most : have;
    reply_array(c->reply, 2);
    reply_bulk(c->reply, ref->key);
    reply_array(c->reply, count);
    r->kind->take(c, ref, r->end, count);
    char text[NUMBER_INT64_SIZE];
    CALL_EFFECT(c, c->db, slice_cstr(r->kind->effects[r->end]), ref->key,
                slice_of(text, number_format_int64(text, (int64_t)count)));
}

/* From the first key that is there. True, too, when an error was replied. */
static bool take_any(struct call *c, const struct request *r)
{
    for (int i = 0; i < r->key_count; i++) {
        struct keyref ref;
        if (!call_find_write(c, r->keys[i], r->kind->type, &ref))
            return true;
        if (!ref.entry)
            continue;
        take(c, &ref, r);
        return true;
    }
    return false;
}

void mpop(struct call *c, const struct mpop_kind *kind)
{
    struct request r = {.kind = kind};
    if (parse(c, 1, &r) && !take_any(c, &r))
        reply_null_array(c->reply);
}

static bool serve(struct call *c, struct slice key, struct entry *e, void *state)
{
    (void)e;
    struct keyref ref;
    call_find_write_any(c, key, &ref);
    take(c, &ref, state);
    return true;
}

void mpop_or_wait(struct call *c, const struct mpop_kind *kind)
{
    struct request r = {.kind = kind};
    int64_t timeout_ms;
    if (!parse(c, 2, &r) || !call_timeout_seconds(c, c->argv[1], &timeout_ms) || take_any(c, &r))
        return;
    /* What `serve` looks at in `r` is not in argv. */
    call_wait(c, &(struct call_wait){.type = kind->type,
                                     .keys = r.keys,
                                     .key_count = r.key_count,
                                     .timeout_ms = timeout_ms,
                                     .serve = serve,
                                     .state = &r,
                                     .state_size = sizeof(r)});
}
