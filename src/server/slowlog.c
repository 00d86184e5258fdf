/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/slowlog.h"

#include <stdio.h>

#include "base/mem.h"
#include "base/number.h"
#include "command/help.h"
#include "handlers.h"
#include "server/config.h"
#include "server/hotkeys.h"
#include "server/dispatch.h"

struct log_entry {
    struct log_entry *older;
    uint64_t id, value;
    int64_t at_s;
    const char *peer, *name; /* in the block, as the arguments */
    int argc;
    struct slice argv[];
};

struct ring {
    struct log_entry *newest;
    uint64_t count, next_id;
};

struct command_log {
    struct ring rings[COMMAND_LOGS];
};

struct command_log *command_log_new(void)
{
    return mem_zalloc(sizeof(struct command_log));
}

static void shorten(struct ring *r, uint64_t max)
{
    struct log_entry **link = &r->newest;
    for (uint64_t i = 0; i < max && *link != NULL; i++)
        link = &(*link)->older;
    struct log_entry *e = *link;
    *link = NULL;
    while (e != NULL) {
        struct log_entry *older = e->older;
        mem_free(e);
        r->count--;
        e = older;
    }
}

void command_log_free(struct command_log *logs)
{
    for (int i = 0; i < COMMAND_LOGS; i++)
        shorten(&logs->rings[i], 0);
    mem_free(logs);
}

static int64_t threshold(const struct config *c, enum command_log_kind kind)
{
    const int64_t all[] = {c->slowlog_log_slower_than, c->commandlog_request_larger_than,
                           c->commandlog_reply_larger_than};
    return all[kind];
}

static uint64_t length_max(const struct config *c, enum command_log_kind kind)
{
    const int64_t all[] = {c->slowlog_max_len, c->commandlog_large_request_max_len,
                           c->commandlog_large_reply_max_len};
    return (uint64_t)all[kind];
}

/* Trimmed copies of the arguments go to `to`, if it is not NULL; returns their bytes. */
static size_t copy_arguments(const struct config *c, const struct command *command,
                             const struct slice *argv, int argc, int shown, struct slice *out,
                             char *to)
{
    char note[64];
    size_t size = 0;
    size_t most = (size_t)c->slowlog_entry_max_string_len;
    for (int i = 0; i < shown; i++) {
        size_t n = argv[i].size < most ? argv[i].size : most, extra = 0;
        if (i == shown - 1 && argc > shown) {
            n = 0;
            extra =
                (size_t)snprintf(note, sizeof(note), "... (%d more arguments)", argc - shown + 1);
        } else if (dispatch_is_secret(command, argv, i)) {
            n = 0;
            extra = (size_t)snprintf(note, sizeof(note), "(redacted)");
        } else if (n < argv[i].size) {
            extra = (size_t)snprintf(note, sizeof(note), "... (%zu more bytes)", argv[i].size - n);
        }
        if (to != NULL) {
            memcpy(to + size, argv[i].data, n);
            memcpy(to + size + n, note, extra);
            out[i] = slice_of(to + size, n + extra);
        }
        size += n + extra;
    }
    return size;
}

void command_log_note(struct client *c, const struct command *command, enum command_log_kind kind,
                      const struct slice *argv, int argc, uint64_t value)
{
    struct server *s = c->server;
    const struct config *config = s->config;
    struct ring *r = &s->command_logs->rings[kind];
    int64_t least = threshold(config, kind);
    if (least < 0 || value < (uint64_t)least)
        return;
    int shown = argc < config->slowlog_entry_max_argc ? argc : (int)config->slowlog_entry_max_argc;
    const char *peer = client_peer(c), *name = c->name != NULL ? c->name : "";
    size_t peer_size = strlen(peer) + 1, name_size = strlen(name) + 1;
    size_t head = sizeof(struct log_entry) + (size_t)shown * sizeof(struct slice);
    size_t bytes = copy_arguments(config, command, argv, argc, shown, NULL, NULL);
    struct log_entry *e = mem_alloc(head + bytes + peer_size + name_size);
    char *texts = (char *)e + head;
    *e = (struct log_entry){.older = r->newest,
                            .id = r->next_id++,
                            .value = value,
                            .at_s = s->ks->now_ms / 1000,
                            .peer = texts + bytes,
                            .name = texts + bytes + peer_size,
                            .argc = shown};
    copy_arguments(config, command, argv, argc, shown, e->argv, texts);
    memcpy(texts + bytes, peer, peer_size);
    memcpy(texts + bytes + peer_size, name, name_size);
    r->newest = e;
    r->count++;
    shorten(r, length_max(config, kind));
}

void slowlog_update(struct server *s)
{
    const struct config *c = s->config;
    /* Below the size of a block of output each command has to be looked at. */
    s->log_small = (c->commandlog_request_larger_than >= 0 &&
                    c->commandlog_request_larger_than < OUTBUF_BLOCK_SIZE) ||
                   (c->commandlog_reply_larger_than >= 0 &&
                    c->commandlog_reply_larger_than < OUTBUF_BLOCK_SIZE);
    int64_t us = c->slowlog_log_slower_than;
    int64_t monitored = c->latency_monitor_threshold * 1000;
    if (monitored > 0 && (us < 0 || monitored < us))
        us = monitored;
    if (hotkeys_is_on(s->hotkeys)) {
        s->slow_cycles = 0;
        return;
    }
    if (us < 0) {
        s->slow_cycles = UINT64_MAX;
        return;
    }
    /* A little less than it comes to: what is beyond is measured exactly. */
    uint64_t sample = UINT64_C(1) << 40, sample_us = server_cycles_us(s, sample);
    s->slow_cycles =
        sample_us == 0 ? 0 : (uint64_t)((double)us * 0.9 * (double)sample / (double)sample_us);
}

/* SLOWLOG and COMMANDLOG ----------------------------------------------------------------------- */

static void reply_entries(struct call *c, enum command_log_kind kind, int64_t count)
{
    const struct ring *r = &c->server->command_logs->rings[kind];
    uint64_t n = count < 0 || (uint64_t)count > r->count ? r->count : (uint64_t)count;
    reply_array(c->reply, n);
    for (const struct log_entry *e = r->newest; n > 0; e = e->older, n--) {
        reply_array(c->reply, 6);
        reply_int(c->reply, (int64_t)e->id);
        reply_int(c->reply, e->at_s);
        reply_int(c->reply, (int64_t)e->value);
        reply_array(c->reply, (size_t)e->argc);
        for (int i = 0; i < e->argc; i++)
            reply_bulk(c->reply, e->argv[i]);
        reply_bulk_cstr(c->reply, e->peer);
        reply_bulk_cstr(c->reply, e->name);
    }
}

static bool parse_count(struct call *c, struct slice s, int64_t *count)
{
    static const char error[] = "ERR count should be greater than or equal to -1";
    return call_int64_range(c, s, -1, INT64_MAX, count, error);
}

void cmd_slowlog_get(struct call *c)
{
    int64_t count = 10;
    if (c->argc > 3) {
        reply_error(c->reply, "ERR unknown subcommand or wrong number of arguments for 'GET'. Try "
                              "SLOWLOG HELP.");
        return;
    }
    if (c->argc == 3 && !parse_count(c, c->argv[2], &count))
        return;
    reply_entries(c, COMMAND_LOG_SLOW, count);
}

void cmd_slowlog_len(struct call *c)
{
    reply_int(c->reply, (int64_t)c->server->command_logs->rings[COMMAND_LOG_SLOW].count);
}

void cmd_slowlog_reset(struct call *c)
{
    shorten(&c->server->command_logs->rings[COMMAND_LOG_SLOW], 0);
    reply_ok(c->reply);
}

void cmd_slowlog_help(struct call *c)
{
    static const char *const lines[] = {
        "GET [<count>]",
        "    The newest entries (10; -1: all): number, time, microseconds, arguments, client,",
        "    name.",
        "LEN",
        "    How many entries there are.",
        "RESET",
        "    Forget them.",
    };
    reply_help(c, "SLOWLOG", lines, sizeof(lines) / sizeof(lines[0]));
}

static bool parse_kind(struct call *c, struct slice s, enum command_log_kind *kind)
{
    static const char *const names[] = {"slow", "large-request", "large-reply"};
    for (int i = 0; i < COMMAND_LOGS; i++) {
        if (slice_is(s, names[i])) {
            *kind = (enum command_log_kind)i;
            return true;
        }
    }
    reply_error(c->reply,
                "ERR type should be one of the following: slow, large-request, large-reply");
    return false;
}

void cmd_commandlog_get(struct call *c)
{
    int64_t count;
    enum command_log_kind kind;
    if (parse_count(c, c->argv[2], &count) && parse_kind(c, c->argv[3], &kind))
        reply_entries(c, kind, count);
}

void cmd_commandlog_len(struct call *c)
{
    enum command_log_kind kind;
    if (parse_kind(c, c->argv[2], &kind))
        reply_int(c->reply, (int64_t)c->server->command_logs->rings[kind].count);
}

void cmd_commandlog_reset(struct call *c)
{
    enum command_log_kind kind;
    if (!parse_kind(c, c->argv[2], &kind))
        return;
    shorten(&c->server->command_logs->rings[kind], 0);
    reply_ok(c->reply);
}

void cmd_commandlog_help(struct call *c)
{
    static const char *const lines[] = {
        "GET <count> <type>",
        "    The newest entries (-1: all): number, time, value, arguments, client, name.",
        "    The value is in microseconds for slow, in bytes for large-request and large-reply.",
        "LEN <type>",
        "    How many entries there are.",
        "RESET <type>",
        "    Forget them.",
    };
    reply_help(c, "COMMANDLOG", lines, sizeof(lines) / sizeof(lines[0]));
}
