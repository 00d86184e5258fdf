/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Several strings at once: MGET, MSET, MSETNX, MSETEX.
 */
#include "command/expire_args.h"
#include "command/string_common.h"
#include "command/table.h"
#include "handlers.h"

void cmd_mget(struct call *c)
{
    reply_array(c->reply, (size_t)c->argc - 1);
    for (int i = 1; i < c->argc; i++) {
        struct entry *e = call_find_any(c, c->argv[i]);
        reply_string(c->reply, e && entry_type(e) == ENTRY_STRING ? e : NULL);
    }
}

/* Key and value alternate in `pairs`. */
static void set_all(struct call *c, const struct slice *pairs, int64_t count, int64_t due)
{
    for (int64_t i = 0; i < count; i++) {
        struct keyref ref;
        call_find_write_any(c, pairs[2 * i], &ref);
        string_set_and_tell(c, &ref, pairs[2 * i + 1], due);
    }
}

/* How many of the keys are there; stops when it is known that some are and some are not. */
static int64_t count_existing(struct call *c, const struct slice *pairs, int64_t count)
{
    int64_t existing = 0;
    for (int64_t i = 0; i < count; i++) {
        struct keyref ref;
        call_find_write_any(c, pairs[2 * i], &ref);
        if (ref.entry)
            existing++;
        if (existing > 0 && existing <= i)
            break;
    }
    return existing;
}

static bool check_pairs(struct call *c)
{
    if (c->argc % 2 == 1)
        return true;
    reply_errorf(c->reply, "ERR wrong number of arguments for '%s' command", c->command->full_name);
    return false;
}

void cmd_mset(struct call *c)
{
    if (!check_pairs(c))
        return;
    set_all(c, c->argv + 1, c->argc / 2, ENTRY_NO_EXPIRY);
    reply_ok(c->reply);
}

void cmd_msetnx(struct call *c)
{
    if (!check_pairs(c))
        return;
    bool free_all = count_existing(c, c->argv + 1, c->argc / 2) == 0;
    if (free_all)
        set_all(c, c->argv + 1, c->argc / 2, ENTRY_NO_EXPIRY);
    reply_int(c->reply, free_all);
}

void cmd_msetex(struct call *c)
{
    int64_t count;
    if (!call_int64_range(c, c->argv[1], 1, INT32_MAX, &count, "ERR invalid numkeys value"))
        return;
    if (count > (c->argc - 2) / 2) {
        reply_error(c->reply, "ERR wrong number of key-value pairs");
        return;
    }
    struct expire_args expire = {0};
    enum condition_kind condition = CONDITION_NONE;
    for (int i = (int)(2 + 2 * count); i < c->argc; i++) {
        enum expire_args_result r =
            expire_args_take(&expire, EXPIRE_TIMES | EXPIRE_KEEPTTL, c->argv, c->argc, &i);
        if (r == EXPIRE_ARGS_TAKEN)
            continue;
        enum condition_kind kind = slice_is(c->argv[i], "nx")   ? CONDITION_NX
                                   : slice_is(c->argv[i], "xx") ? CONDITION_XX
                                                                : CONDITION_NONE;
        if (r == EXPIRE_ARGS_SYNTAX || kind == CONDITION_NONE ||
            (condition != CONDITION_NONE && condition != kind)) {
            reply_syntax_error(c->reply);
            return;
        }
        condition = kind;
    }
    int64_t due = expire.option == EXPIRE_KEEPTTL ? KEYREF_KEEP_DUE : ENTRY_NO_EXPIRY;
    bool expires = expire.option & EXPIRE_TIMES;
    if (expires && !expire_args_due(c, &expire, &due))
        return;

    const struct slice *pairs = c->argv + 2;
    if (condition != CONDITION_NONE &&
        count_existing(c, pairs, count) != (condition == CONDITION_NX ? 0 : count)) {
        reply_int(c->reply, 0);
        return;
    }
    set_all(c, pairs, count, due);
    if (count > 1)
        call_effect_group(c);
    for (int64_t i = 0; i < count; i++)
        call_effect_set(c, c->db, pairs[2 * i], pairs[2 * i + 1], due);
    for (int64_t i = 0; expires && i < count; i++)
        call_changed(c, c->db, pairs[2 * i], EVENT_GENERIC, "expire", 0);
    reply_int(c->reply, 1);
}
