/* SPDX-License-Identifier: BSD-3-Clause
 *
 * When keys expire: the EXPIRE and TTL families.
 */
#include "command/expire_args.h"
#include "handlers.h"

enum expire_condition { EXPIRE_NX = 1, EXPIRE_XX = 2, EXPIRE_GT = 4, EXPIRE_LT = 8 };

static bool parse_conditions(struct call *c, unsigned *conditions)
{
    *conditions = 0;
    for (int i = 3; i < c->argc; i++) {
        struct slice s = c->argv[i];
        unsigned flag = slice_is(s, "nx")   ? EXPIRE_NX
                        : slice_is(s, "xx") ? EXPIRE_XX
                        : slice_is(s, "gt") ? EXPIRE_GT
                        : slice_is(s, "lt") ? EXPIRE_LT
                                            : 0;
        if (flag == 0) {
            reply_errorf(c->reply, "ERR Unsupported option %.*s", (int)s.size, s.data);
            return false;
        }
        *conditions |= flag;
    }
    if (*conditions & EXPIRE_NX && *conditions & ~(unsigned)EXPIRE_NX) {
        reply_error(c->reply, "ERR NX and XX, GT or LT options at the same time are not "
                              "compatible");
        return false;
    }
    if (*conditions & EXPIRE_GT && *conditions & EXPIRE_LT) {
        reply_error(c->reply, "ERR GT and LT options at the same time are not compatible");
        return false;
    }
    return true;
}

/* A key without an expiry counts as expiring at the end of time. */
static bool conditions_hold(unsigned conditions, int64_t current, int64_t due)
{
    bool none = current == ENTRY_NO_EXPIRY;
    if (conditions & EXPIRE_NX)
        return none;
    if (conditions & EXPIRE_XX && none)
        return false;
    if (conditions & EXPIRE_GT && (none || due <= current))
        return false;
    if (conditions & EXPIRE_LT && !none && due >= current)
        return false;
    return true;
}

static void expire_key(struct call *c, bool seconds, int64_t base)
{
    unsigned conditions;
    int64_t due;
    if (!parse_conditions(c, &conditions) || !expire_reckon(c, c->argv[2], seconds, base, &due))
        return;
    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    if (ref.entry == NULL || !conditions_hold(conditions, entry_due(ref.entry), due)) {
        reply_int(c->reply, 0);
        return;
    }
    /* What has expired at its source may still be written to there. */
    if (c->ks->importing && due < 0)
        due = 0;
    if (due <= c->now_ms && !c->ks->importing) {
        keyref_delete(&ref);
        call_changed(c, c->db, ref.key, EVENT_GENERIC, "del", 1);
        call_effect_delete(c, c->db, ref.key);
    } else {
        keyref_set_due(&ref, due);
        call_changed(c, c->db, ref.key, EVENT_GENERIC, "expire", 1);
        call_effect_due(c, c->db, ref.key, due);
    }
    reply_int(c->reply, 1);
}

void cmd_expire(struct call *c)
{
    expire_key(c, true, c->now_ms);
}

void cmd_pexpire(struct call *c)
{
    expire_key(c, false, c->now_ms);
}

void cmd_expireat(struct call *c)
{
    expire_key(c, true, 0);
}

void cmd_pexpireat(struct call *c)
{
    expire_key(c, false, 0);
}

void cmd_persist(struct call *c)
{
    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    bool expires = ref.entry && entry_due(ref.entry) != ENTRY_NO_EXPIRY;
    if (expires) {
        keyref_set_due(&ref, ENTRY_NO_EXPIRY);
        call_changed(c, c->db, ref.key, EVENT_GENERIC, "persist", 1);
    }
    reply_int(c->reply, expires);
}

/* -2: there is no such key; -1: it does not expire. Seconds are rounded to the nearest. */
static void reply_due(struct call *c, bool seconds, int64_t base)
{
    const struct entry *e = call_peek(c, c->argv[1]);
    int64_t due = e ? entry_due(e) : 0;
    if (e == NULL || due == ENTRY_NO_EXPIRY) {
        reply_int(c->reply, e ? -1 : -2);
        return;
    }
    int64_t left = due - base;
    if (left < 0)
        left = 0;
    reply_int(c->reply, seconds ? left / 1000 + (left % 1000 >= 500) : left);
}

void cmd_ttl(struct call *c)
{
    reply_due(c, true, c->now_ms);
}

void cmd_pttl(struct call *c)
{
    reply_due(c, false, c->now_ms);
}

void cmd_expiretime(struct call *c)
{
    reply_due(c, true, 0);
}

void cmd_pexpiretime(struct call *c)
{
    reply_due(c, false, 0);
}
