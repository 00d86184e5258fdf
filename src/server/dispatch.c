/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/dispatch.h"

#include <ctype.h>
#include <stdio.h>

#include "base/histogram.h"
#include "base/mem.h"
#include "base/text.h"
#include "handlers.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/hotkeys.h"
#include "server/acl.h"
#include "server/persistence.h"
#include "server/pubsub.h"
#include "server/replication.h"
#include "server/slowlog.h"
#include "server/tracking.h"
#include "server/transaction.h"

/* How much of the arguments an error about an unknown command shows. */
#define SHOWN_MAX 128

/* At most `max` bytes, up to the first NUL: as C's %.*s prints an argument. */
static int shown(struct slice s, size_t max)
{
    if (s.size < max)
        max = s.size;
    const char *nul = memchr(s.data, '\0', max);
    return (int)(nul != NULL ? (size_t)(nul - s.data) : max);
}

static char *unknown_command(const struct slice *argv, int argc)
{
    struct text args = {0}, all = {0};
    for (int i = 1; i < argc && args.size < SHOWN_MAX; i++) {
        int n = shown(argv[i], SHOWN_MAX - args.size);
        text_appendf(&args, "'%.*s' ", n, argv[i].data);
    }
    text_appendf(&all, "ERR unknown command '%.*s', with args beginning with: %s",
                 shown(argv[0], SHOWN_MAX), argv[0].data, text_cstr(&args));
    text_free(&args);
    return all.data;
}

static char *unknown_subcommand(const struct command *container, struct slice name)
{
    struct text all = {0}, upper = {0};
    for (const char *p = container->name; *p != '\0'; p++) {
        char c = (char)toupper((unsigned char)*p);
        text_append(&upper, &c, 1);
    }
    text_appendf(&all, "ERR unknown subcommand '%.*s'. Try %s HELP.", shown(name, SHOWN_MAX),
                 name.data, text_cstr(&upper));
    text_free(&upper);
    return all.data;
}

const struct command *dispatch_lookup(const struct command *command, const struct slice *argv,
                                      int argc, char **error)
{
    *error = NULL;
    if (command == NULL) {
        *error = unknown_command(argv, argc);
        return NULL;
    }
    if (command->subcommand_count != 0 && argc > 1) {
        const struct command *sub = command_find_sub(command, argv[1]);
        if (sub == NULL) {
            *error = unknown_subcommand(command, argv[1]);
            return NULL;
        }
        command = sub;
    }
    if ((command->arity > 0 && command->arity != argc) || argc < -command->arity ||
        command->handler == NULL) {
        struct text all = {0};
        text_appendf(&all, "ERR wrong number of arguments for '%s' command", command->full_name);
        *error = all.data;
        return NULL;
    }
    return command;
}

void dispatch_count_error(struct server *s, const char *code)
{
    struct server_stats *stats = &s->stats;
    stats->error_replies++;
    for (size_t i = 0; i < stats->error_count; i++) {
        if (strcmp(stats->errors[i].code, code) == 0) {
            stats->errors[i].count++;
            return;
        }
    }
    if (stats->error_count == SERVER_ERROR_STATS_MAX)
        return;
    struct error_stat *e = &stats->errors[stats->error_count++];
    snprintf(e->code, sizeof(e->code), "%s", code);
    e->count = 1;
}

/* A command that is not executed. */
static void reject(struct client *c, struct call *call, const struct command *command,
                   const char *error)
{
    if (command != NULL)
        c->server->stats.commands[command->id].rejected++;
    if (command != NULL && command->handler == cmd_exec) {
        transaction_discard(c); /* without one it still forgets what was watched */
        struct text all = {0};
        const char *rest = strncmp(error, "ERR ", 4) == 0 ? error + 4 : error;
        text_appendf(&all, "EXECABORT Transaction discarded because of: %s", rest);
        reply_error(call->reply, text_cstr(&all));
        text_free(&all);
        dispatch_count_error(c->server, call->reply->last_error);
        return;
    }
    if (c->flags & CLIENT_MULTI)
        c->flags |= CLIENT_DIRTY_EXEC;
    reply_error(call->reply, error);
    dispatch_count_error(c->server, call->reply->last_error);
}

/* A command's flags, EXEC's with those of what it will execute. */
static uint32_t all_flags(const struct client *c, const struct command *command)
{
    uint32_t flags = command->flags;
    if (command->handler == cmd_exec && c->flags & CLIENT_MULTI)
        flags |= transaction_flags(c);
    return flags;
}

/* The command has not this flag, or is an EXEC of one that has not. */
static bool lacks(const struct client *c, const struct command *command, uint32_t flag)
{
    if (command->handler == cmd_exec && c->flags & CLIENT_MULTI && transaction_lacking(c) & flag)
        return true;
    return !(command->flags & flag);
}

/* A script or function, of which nobody knows before. */
static bool may_write(const struct command *command)
{
    command_handler *h = command->handler;
    return h == cmd_eval || h == cmd_evalsha || h == cmd_fcall;
}

/* While other data are loaded beside those that are there, these are read. What was written to them
 * would be lost: a replica that takes writes says that it is loading, one that does not READONLY.
 * An EXEC counts as a write there, as it can have a script in it. Whoever decides who the primary
 * is need not wait: the load is given up. */
static bool must_not_load(const struct client *c, const struct command *command)
{
    const struct server *s = c->server;
    uint32_t flags = all_flags(c, command);
    bool writes = flags & COMMAND_WRITE || may_write(command) || command->handler == cmd_exec;
    if (s->loading_beside != BESIDE_NONE &&
        (command->handler == cmd_replicaof || command->handler == cmd_slaveof))
        return false;
    if (s->loading_beside != BESIDE_READ || (writes && !s->config->replica_read_only))
        return lacks(c, command, COMMAND_LOADING);
    return (flags & COMMAND_NO_ASYNC_LOADING) != 0;
}

/* CLIENT PAUSE, and a log that cannot keep up: whether this command has to wait. */
static bool must_wait(const struct client *c, const struct command *command)
{
    const struct server_pause *pause = &c->server->pause;
    bool paused = server_is_paused(c->server);
    if (pause->until_ms != 0 && pause->all)
        return true;
    return (paused || c->server->durability->slow_down) &&
           (all_flags(c, command) & COMMAND_WRITE || may_write(command));
}

/* In RESP2 a client that subscribes to something gets messages and may do little else. */
static bool is_for_subscribers(const struct command *command)
{
    command_handler *h = command->handler;
    return h == cmd_ping || h == cmd_subscribe || h == cmd_unsubscribe || h == cmd_psubscribe ||
           h == cmd_punsubscribe || h == cmd_ssubscribe || h == cmd_sunsubscribe || h == cmd_quit ||
           h == cmd_reset;
}

static bool is_queued(const struct command *command)
{
    command_handler *h = command->handler;
    return h != cmd_exec && h != cmd_discard && h != cmd_multi && h != cmd_watch &&
           h != cmd_quit && h != cmd_reset;
}

const char *dispatch_write_refusal(const struct server *s)
{
    if (s->persistence != NULL && s->persistence->refuse_writes)
        return "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to "
               "persist to disk. Commands that may modify the data set are disabled, because this "
               "instance is configured to report errors during writes if RDB snapshotting fails "
               "(stop-writes-on-bgsave-error option). Please check the Redis logs for details "
               "about the RDB error.";
    return s->durability->refusal;
}

/* Whether the client's user may run this; if not the error was replied and the denial logged. */
static bool is_permitted(struct client *c, struct call *call, const struct command *command)
{
    int at = 0;
    enum acl_denial denial = acl_check(c->user, command, call->argv, call->argc, &at);
    if (denial == ACL_ALLOWED) {
        const char *refusal = acl_check_sort(c->user, command, call->argv, call->argc);
        if (refusal != NULL)
            reject(c, call, command, refusal);
        return refusal == NULL;
    }
    struct slice object =
        denial == ACL_DENIED_COMMAND ? slice_cstr(command->full_name) : call->argv[at];
    struct text error = {0};
    acl_log(c, denial, c->flags & CLIENT_MULTI ? "multi" : "toplevel", object,
            slice_cstr(acl_user_name(c->user)));
    acl_denial_text(denial, command, &error);
    reject(c, call, command, text_cstr(&error));
    text_free(&error);
    return false;
}

/* A client that can be redirected (CLIENT CAPA) works on a replica's data only as far as READONLY
 * lets it. While a failover is on it waits for its end. */
static bool redirect(struct client *c, struct call *call, const struct command *command)
{
    const struct server *s = c->server;
    uint32_t flags = all_flags(c, command) & (COMMAND_WRITE | COMMAND_READONLY);
    if (!s->is_replica || s->pause.failover || flags == 0 ||
        (c->flags & CLIENT_READS_HERE && !(flags & COMMAND_WRITE)))
        return false;
    struct text refusal = {0};
    text_appendf(&refusal, "REDIRECT %s:%lld", s->config->replicaof_host,
                 (long long)s->config->replicaof_port);
    reject(c, call, command, text_cstr(&refusal));
    text_free(&refusal);
    return true;
}

/* Whatever is not the common case: the checks in Redis's order. */
static bool dispatch_slowly(struct client *c, struct call *call, const struct command *command)
{
    struct server *s = c->server;
    char *error;
    const struct command *found = dispatch_lookup(command, call->argv, call->argc, &error);
    if (found == NULL) {
        /* What exists and has a wrong number of arguments is counted, a container's subcommand
         * too. */
        if (command != NULL && command->subcommand_count != 0 && call->argc > 1)
            command = command_find_sub(command, call->argv[1]);
        reject(c, call, command, error);
        mem_free(error);
        return true;
    }
    command = found;
    c->last_command = command;
    if (c->flags & CLIENT_UNAUTHENTICATED && !(command->flags & COMMAND_NO_AUTH)) {
        reject(c, call, command, "NOAUTH Authentication required.");
        return true;
    }
    if (c->flags & CLIENT_MULTI && command->flags & COMMAND_NO_MULTI) {
        reject(c, call, command, "ERR Command not allowed inside a transaction");
        return true;
    }
    if (c->flags & CLIENT_RESTRICTED && !is_permitted(c, call, command))
        return true;
    if (c->flags & CLIENT_PUBSUB && c->reply.protocol == 2 && !is_for_subscribers(command)) {
        struct text refusal = {0};
        text_appendf(
            &refusal,
            "ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / "
            "RESET are allowed in this context",
            command->full_name);
        reject(c, call, command, text_cstr(&refusal));
        text_free(&refusal);
        return true;
    }
    if ((s->loading || s->loading_beside != BESIDE_NONE) && must_not_load(c, command)) {
        reject(c, call, command, "LOADING Redis is loading the dataset in memory");
        return true;
    }
    if (s->busy != NULL && !(command->flags & COMMAND_ALLOW_BUSY)) {
        reject(c, call, command, s->busy);
        return true;
    }
    const char *failure = dispatch_write_refusal(s);
    if (failure != NULL &&
        (all_flags(c, command) & COMMAND_WRITE || command->handler == cmd_ping)) {
        reject(c, call, command, failure);
        return true;
    }
    if (c->flags & CLIENT_REDIRECTS && redirect(c, call, command))
        return true;
    if (replication_attention(s)) {
        const char *refusal = replication_refusal(s, c, all_flags(c, command));
        if (refusal != NULL) {
            reject(c, call, command, refusal);
            return true;
        }
    }
    /* What is queued takes memory, too. */
    if (s->out_of_memory &&
        (all_flags(c, command) & COMMAND_DENYOOM ||
         (c->flags & CLIENT_MULTI && is_queued(command) && command->handler != cmd_unwatch))) {
        reject(c, call, command, "OOM command not allowed when used memory > 'maxmemory'.");
        return true;
    }
    if (must_wait(c, command))
        return false;
    if (c->flags & CLIENT_MULTI && is_queued(command)) {
        transaction_queue(c, command, call->argv, call->argc);
        reply_simple(call->reply, "QUEUED");
        return true;
    }
    dispatch_call(c, call, command);
    return true;
}

/* Of the first so many calls of a command each is noted for latency-tracking, then one in sixteen,
 * which is enough for percentiles and costs next to nothing. */
#define LATENCY_ALL 1024
#define LATENCY_STEP 16

static __attribute__((noinline)) void note_latency(struct command_stats *stats, uint64_t cycles)
{
    if (stats->latency == NULL)
        stats->latency = mem_zalloc(sizeof(*stats->latency));
    histogram_record(stats->latency, cycles, stats->calls <= LATENCY_ALL ? 1 : LATENCY_STEP);
}

bool dispatch_is_secret(const struct command *command, const struct slice *argv, int i)
{
    static const char *const directives[] = {"requirepass",
                                             "masterauth",
                                             "primaryauth",
                                             "masteruser",
                                             "primaryuser",
                                             "tls-key-file-pass",
                                             "tls-client-key-file-pass"};
    if (command == NULL)
        return false;
    if (command->handler == cmd_auth)
        return i > 0;
    for (int at = 1; command->handler == cmd_hello && at < i; at++) {
        if (slice_is(argv[at], "auth"))
            return i <= at + 2;
    }
    for (size_t d = 0; command->handler == cmd_config_set && i > 2 &&
                       d < sizeof(directives) / sizeof(directives[0]);
         d++) {
        if (slice_is(argv[i - 1], directives[d]))
            return true;
    }
    if (command->handler == cmd_acl_setuser)
        return i > 2;
    return false;
}

/* The request did not come in one piece, or the reply has begun another block of output: either may
 * be large. */
static __attribute__((noinline)) void note_large(struct client *c, const struct call *call,
                                                 const struct command *command, size_t output)
{
    size_t request = call->request.size;
    if (request == 0) {
        for (int i = 0; i < call->argc; i++)
            request += call->argv[i].size;
    }
    size_t now = outbuf_size(&c->io.out) + c->server->direct_bytes;
    c->server->direct_bytes = 0;
    if (command->flags & COMMAND_SKIP_SLOWLOG)
        return;
    command_log_note(c, command, COMMAND_LOG_REQUEST, call->argv, call->argc, request);
    if (now > output)
        command_log_note(c, command, COMMAND_LOG_REPLY, call->argv, call->argc, now - output);
}

/* Requests from this size on are looked at for COMMANDLOG, as are those that are not in one piece
 * (their size is 0, less 1 a large number). */
#define LARGE_REQUEST (16 * 1024)

/* What MONITOR does not show when it has been executed. */
#define HIDDEN_FLAGS (COMMAND_SKIP_MONITOR | COMMAND_ADMIN)

/* Of a request whose bytes are not known in one piece: those of its arguments. */
static __attribute__((noinline)) uint64_t arguments_size(const struct call *call)
{
    uint64_t size = 0;
    for (int i = 0; i < call->argc; i++)
        size += call->argv[i].size;
    return size;
}

static inline uint64_t request_size(const struct call *call)
{
    return call->request.size > 0 ? call->request.size : arguments_size(call);
}

/* It took long enough for one of the logs or the latency monitor, or keys are tracked. */
static __attribute__((noinline)) void note_slow(struct client *c, const struct call *call,
                                                const struct command *command, uint64_t cycles,
                                                size_t output)
{
    struct server *s = c->server;
    if (hotkeys_is_on(s->hotkeys)) {
        size_t now = outbuf_size(&c->io.out) + s->direct_bytes;
        hotkeys_note(s, call, command, cycles,
                     request_size(call) + (now > output ? now - output : 0));
    }
    uint64_t us = server_cycles_us(s, cycles);
    if (!(command->flags & COMMAND_SKIP_SLOWLOG))
        command_log_note(c, command, COMMAND_LOG_SLOW, call->argv, call->argc, us);
    latency_note(s, command->flags & COMMAND_FAST ? "fast-command" : "command", (int64_t)us);
}

void dispatch_call(struct client *c, struct call *call, const struct command *command)
{
    struct server *s = c->server;
    struct command_stats *stats = &s->stats.commands[command->id];
    uint64_t errors = call->reply->error_count;
    const struct outbuf_block *block = c->io.out.last;
    size_t output = outbuf_size(&c->io.out);
    uint64_t begin = server_cycles();
    uint64_t dirty = call->ks->dirty;
    /* A replica's stream is its primary's. */
    struct stream *stream = s->is_replica ? NULL : s->stream;
    call->command = command;
    call->stream = stream;
    call->errors_counted = false;
    /* What a script calls is shown after the script. */
    if (__builtin_expect(s->clients.monitors != NULL, 0) && command->flags & COMMAND_SKIP_MONITOR)
        monitor_feed(c, command, call->argv, call->argc, NULL);
    command->handler(call);
    /* Only commands that are flagged so count changes of their own: EXEC's are its commands',
     * SAVE's the counter's return to zero. */
    if (__builtin_expect(stream != NULL, 0)) {
        bool changed = call->ks->dirty != dirty && command->flags & COMMAND_WRITE;
        call_end_effects(call, call->db, changed);
        s->effects += changed;
    } else if (call->ks->dirty != dirty && command->flags & COMMAND_WRITE) {
        s->changed_bytes += request_size(call);
        if (s->is_replica && !(c->flags & CLIENT_MASTER))
            replication_note_local_write(s);
    }
    if (__builtin_expect(c->tracking != NULL, 0))
        tracking_note_read(c, command, call->argv, call->argc, call->in_exec);
    if (__builtin_expect(s->clients.monitors != NULL, 0) && !(command->flags & HIDDEN_FLAGS))
        monitor_feed(c, command, call->argv, call->argc, call->in_script ? "lua" : NULL);
    uint64_t took = server_cycles() - begin;
    if (__builtin_expect(took >= s->slow_cycles, 0))
        note_slow(c, call, command, took, output);
    if (__builtin_expect(c->io.out.last != block || call->request.size - 1 >= LARGE_REQUEST ||
                             s->log_small || s->direct_bytes != 0,
                         0))
        note_large(c, call, command, output);
    stats->cycles += took;
    stats->calls++;
    if ((stats->calls <= LATENCY_ALL || stats->calls % LATENCY_STEP == 0) &&
        s->limits.track_latency)
        note_latency(stats, took);
    s->stats.commands_processed++;
    c->commands++;
    if (__builtin_expect(call->reply->error_count != errors, 0)) {
        stats->failed++;
        if (!call->errors_counted)
            dispatch_count_error(s, call->reply->last_error);
    }
}

/* CLIENT REPLY OFF and SKIP: the replies go to a buffer that is thrown away. */
static bool dispatch_muted(struct client *c, struct call *call, const struct command *command)
{
    if (c->flags & CLIENT_REPLY_SKIP_NEXT)
        c->flags = (c->flags & ~(uint32_t)CLIENT_REPLY_SKIP_NEXT) | CLIENT_REPLY_SKIP;
    bool executed;
    if (c->flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP)) {
        struct outbuf *out = c->reply.out;
        c->reply.out = &c->discarded;
        c->reply.muted = true;
        executed = dispatch_slowly(c, call, command);
        outbuf_clear(&c->discarded);
        c->reply.out = out;
        c->reply.muted = false;
    } else {
        executed = dispatch_slowly(c, call, command);
    }
    if (!executed && c->flags & CLIENT_REPLY_SKIP)
        c->flags |= CLIENT_REPLY_SKIP_NEXT;
    /* One that waits now gets its reply later. */
    if (!(c->flags & CLIENT_BLOCKED))
        c->flags &= ~(uint32_t)CLIENT_REPLY_SKIP;
    return executed;
}

bool dispatch(struct client *c, struct call *call, const struct command *command)
{
    if (__builtin_expect(command != NULL && command->subcommand_count == 0 &&
                             !(c->flags & CLIENT_ATTENTION) && !c->server->attention &&
                             (command->arity > 0 ? call->argc == command->arity
                                                 : call->argc >= -command->arity),
                         1)) {
        c->last_command = command;
        dispatch_call(c, call, command);
        return true;
    }
    return dispatch_muted(c, call, command);
}
