/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/expire_args.h"

#include "command/table.h"

enum expire_args_result expire_args_take(struct expire_args *args, unsigned allowed,
                                         const struct slice *argv, int argc, int *i)
{
    static const struct {
        const char *word;
        enum expire_option option;
    } words[] = {{"ex", EXPIRE_EX},     {"px", EXPIRE_PX},           {"exat", EXPIRE_EXAT},
                 {"pxat", EXPIRE_PXAT}, {"keepttl", EXPIRE_KEEPTTL}, {"persist", EXPIRE_PERSIST}};
    for (size_t w = 0; w < sizeof(words) / sizeof(words[0]); w++) {
        enum expire_option option = words[w].option;
        if (!(option & allowed) || !slice_is(argv[*i], words[w].word))
            continue;
        /* The same option may come twice, as in Redis: the last one counts. */
        if (args->option != EXPIRE_UNSET && args->option != option)
            return EXPIRE_ARGS_SYNTAX;
        if (option & EXPIRE_TIMES) {
            if (*i + 1 >= argc)
                return EXPIRE_ARGS_SYNTAX;
            args->time = argv[++*i];
        }
        args->option = option;
        return EXPIRE_ARGS_TAKEN;
    }
    return EXPIRE_ARGS_OTHER;
}

static bool refuse(struct call *c)
{
    reply_errorf(c->reply, "ERR invalid expire time in '%s' command", c->command->full_name);
    return false;
}

static bool to_due(struct call *c, int64_t time, bool seconds, int64_t base, int64_t *due)
{
    if (seconds && __builtin_mul_overflow(time, 1000, &time))
        return refuse(c);
    if (__builtin_add_overflow(time, base, due))
        return refuse(c);
    if (*due == ENTRY_NO_EXPIRY)
        *due = ENTRY_NO_EXPIRY - 1; /* the last millisecond stands for none */
    return true;
}

bool expire_reckon(struct call *c, struct slice time, bool seconds, int64_t base, int64_t *due)
{
    int64_t value;
    return call_int64(c, time, &value, NULL) && to_due(c, value, seconds, base, due);
}

bool expire_args_due(struct call *c, const struct expire_args *args, int64_t *due)
{
    int64_t value;
    if (!call_int64(c, args->time, &value, NULL))
        return false;
    if (value <= 0)
        return refuse(c);
    bool seconds = args->option & (EXPIRE_EX | EXPIRE_EXAT);
    int64_t base = args->option & (EXPIRE_EX | EXPIRE_PX) ? c->now_ms : 0;
    return to_due(c, value, seconds, base, due);
}
