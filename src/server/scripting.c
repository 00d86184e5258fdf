/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/scripting.h"

#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "command/table.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/acl.h"
#include "server/batch.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/himport.h"
#include "server/hold.h"
#include "server/replication.h"

#define BUSY_EVAL                                                                                  \
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
#define BUSY_FUNCTION                                                                              \
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
/* How long the code of a library may run when it is loaded. */
#define LOAD_MAX_US 500000

struct scripting {
    struct server *server;
    struct script_engine *engines[2];
    struct eval_cache *cache;
    struct library_set *libraries;
    /* While a script runs. */
    struct scripting_call *running;
    int64_t begun_us;
    bool dirty;     /* it has called a command that writes */
    bool oom;       /* memory was short when it began */
    bool timed_out; /* others are served */
    bool kill;
};

/* What the engine asks ------------------------------------------------------------------------- */

/* As dispatch_lookup, with the errors that scripts get. NULL: there is no such command; *error is
 * set, as it is when the number of arguments is wrong. */
static const struct command *look_up(const struct slice *argv, int argc, const char **error)
{
    const struct command *command = command_find(argv[0]);
    if (command != NULL && command->subcommand_count != 0 && argc > 1)
        command = command_find_sub(command, argv[1]);
    if (command == NULL)
        *error = "ERR Unknown Redis command called from script";
    else if (command->handler == NULL ||
             (command->arity > 0 ? argc != command->arity : argc < -command->arity))
        *error = "ERR Wrong number of args calling Redis command from script";
    return command;
}

/* The error of a denial, or NULL. */
static const char *check_acl(struct client *c, const struct command *command,
                             const struct slice *argv, int argc)
{
    if (!(c->flags & CLIENT_RESTRICTED))
        return NULL;
    int at = 0;
    enum acl_denial denial = acl_check(c->user, command, argv, argc, &at);
    if (denial == ACL_ALLOWED)
        return acl_check_sort(c->user, command, argv, argc);
    struct slice object = denial == ACL_DENIED_COMMAND ? slice_cstr(command->full_name) : argv[at];
    acl_log(c, denial, "lua", object, slice_cstr(acl_user_name(c->user)));
    if (denial == ACL_DENIED_KEY)
        return "ERR The user executing the script can't access at least one of the keys mentioned "
               "in "
               "the command arguments";
    if (denial == ACL_DENIED_CHANNEL)
        return "ERR The user executing the script can't publish to the channel mentioned in the "
               "command";
    return "ERR The user executing the script can't run this command or subcommand";
}

/* Those that only read are not to cause anything elsewhere either, nor note anything in a value. */
static bool may_replicate(const struct command *command)
{
    return command->handler == cmd_pfcount || command->handler == cmd_publish ||
           command->handler == cmd_spublish;
}

static const char *check_write(struct scripting *sc, const struct command *command)
{
    struct server *s = sc->server;
    const struct scripting_call *now = sc->running;
    if ((now->read_only || now->flags & SCRIPT_NO_WRITES) &&
        (command->flags & COMMAND_WRITE || may_replicate(command)))
        return "ERR Write commands are not allowed from read-only scripts.";
    if (command->flags & COMMAND_WRITE) {
        const char *refusal = dispatch_write_refusal(s);
        if (refusal == NULL)
            refusal = replication_refusal(s, now->call->client, command->flags);
        if (refusal != NULL)
            return refusal;
    }
    /* What it has begun it may end. */
    if (sc->oom && command->flags & COMMAND_DENYOOM && !sc->dirty &&
        !(now->flags & SCRIPT_ALLOW_OOM))
        return "OOM command not allowed when used memory > 'maxmemory'.";
    return NULL;
}

static void host_call(void *ctx, const struct slice *argv, int argc, struct reply *reply)
{
    struct scripting *sc = ctx;
    struct server *s = sc->server;
    struct client *client = sc->running->call->client;
    const char *error = NULL;
    const struct command *command = look_up(argv, argc, &error);
    if (error == NULL && command->flags & COMMAND_NOSCRIPT)
        error = "ERR This Redis command is not allowed from script";
    if (error == NULL)
        error = check_acl(client, command, argv, argc);
    if (error == NULL)
        error = check_write(sc, command);
    if (error != NULL) {
        if (command != NULL)
            s->stats.commands[command->id].rejected++;
        reply_error(reply, error);
        dispatch_count_error(s, reply->last_error);
        return;
    }
    if (command->flags & COMMAND_WRITE)
        sc->dirty = true;
    struct call call = *sc->running->call;
    call.db = client->db;
    call.reply = reply;
    call.argv = argv;
    call.argc = argc;
    call.keys = NULL;
    call.key_count = call.key_next = 0;
    call.in_exec = call.in_script = true;
    call.request = slice_of(NULL, 0);
    call.pieces = NULL;
    call.effect_given = call.effect_group = false;
    dispatch_call(client, &call, command);
    if (s->hold_replies)
        hold_note_call(s, &call, command);
}

static int host_may_call(void *ctx, const struct slice *argv, int argc)
{
    struct scripting *sc = ctx;
    const char *error = NULL;
    const struct command *command = look_up(argv, argc, &error);
    if (error != NULL)
        return -1;
    int at = 0;
    struct client *c = sc->running->call->client;
    return !(c->flags & CLIENT_RESTRICTED) ||
           acl_check(c->user, command, argv, argc, &at) == ACL_ALLOWED;
}

static void host_own_error(void *ctx, const char *code)
{
    const struct scripting *sc = ctx;
    dispatch_count_error(sc->server, code);
}

static void host_log(void *ctx, int level, struct slice message)
{
    (void)ctx;
    int size = message.size < 1000 ? (int)message.size : 1000;
    if (level == 0)
        log_debug("%.*s", size, message.data);
    else if (level == 1)
        log_verbose("%.*s", size, message.data);
    else if (level == 2)
        log_notice("%.*s", size, message.data);
    else
        log_warning("%.*s", size, message.data);
}

/* Let others be served. */
static void interrupt(struct scripting *sc)
{
    struct server *s = sc->server;
    struct client *executing = s->executing;
    if (!sc->timed_out) {
        sc->timed_out = true;
        log_warning("Slow script detected: still in execution after %lld milliseconds. You can try "
                    "killing the script using the %s command.",
                    (long long)((clock_monotonic_us() - sc->begun_us) / 1000),
                    sc->engines[SCRIPT_EVAL] == sc->running->engine ? "SCRIPT KILL"
                                                                    : "FUNCTION KILL");
        s->busy = sc->engines[SCRIPT_EVAL] == sc->running->engine ? BUSY_EVAL : BUSY_FUNCTION;
        server_update_attention(s);
        batch_step_aside(s, sc->running->call->client);
    }
    server_serve_aside(s);
    s->executing = executing;
}

static bool host_go_on(void *ctx, const char **why)
{
    struct scripting *sc = ctx;
    struct server *s = sc->server;
    int64_t ran_us = clock_monotonic_us() - sc->begun_us;
    if (sc->running == NULL) {
        *why = "FUNCTION LOAD timeout";
        return ran_us < LOAD_MAX_US;
    }
    int64_t threshold_ms = s->config->busy_reply_threshold;
    if (threshold_ms == 0 || ran_us < threshold_ms * 1000)
        return true;
    interrupt(sc);
    if (s->stopping)
        *why = "The server is shutting down.";
    else
        *why = sc->engines[SCRIPT_EVAL] == sc->running->engine
                   ? "Script killed by user with SCRIPT KILL."
                   : "Script killed by user with FUNCTION KILL.";
    return !sc->kill && !s->stopping;
}

/* Calling -------------------------------------------------------------------------------------- */

/* What is checked before a script with a shebang runs, in redis-server's order. */
static const char *check_flags(const struct scripting *sc, const struct scripting_call *now)
{
    struct server *s = sc->server;
    if (!(now->flags & SCRIPT_NO_WRITES)) {
        const char *refusal = dispatch_write_refusal(s);
        if (now->read_only)
            return "ERR Can not execute a script with write flag using *_ro command.";
        if (refusal != NULL)
            return refusal;
        if (s->is_replica && s->config->replica_read_only)
            return "READONLY Can not run script with write flag on readonly replica.";
    }
    if (s->out_of_memory && !(now->flags & (SCRIPT_ALLOW_OOM | SCRIPT_NO_WRITES)))
        return "OOM allow-oom flag is not set on the script, can not run it when used memory > "
               "'maxmemory'";
    return NULL;
}

void scripting_call(struct scripting *sc, struct scripting_call *now)
{
    struct server *s = sc->server;
    struct call *c = now->call;
    struct client *client = c->client;
    if (!now->plain) {
        const char *refusal = check_flags(sc, now);
        if (refusal != NULL) {
            reply_error(c->reply, refusal);
            return;
        }
    }
    sc->running = now;
    sc->begun_us = clock_monotonic_us();
    sc->dirty = sc->kill = false;
    sc->oom = s->out_of_memory;
    struct db *db = client->db;
    struct stream *stream = s->stream;
    if (stream != NULL)
        stream_begin_group(stream);
    script_run(now->engine, &now->run, c->reply);
    c->errors_counted = true;
    if (stream != NULL && stream == s->stream && stream_in_group(stream))
        stream_end_group(stream);
    /* SELECT in a script is the script's own. */
    client->db = db;
    fieldsets_free(&s->script_fieldsets);
    sc->running = NULL;
    if (sc->timed_out) {
        sc->timed_out = false;
        s->busy = NULL;
        batch_step_back(s);
        server_update_attention(s);
    }
}

void scripting_kill(struct call *c, enum script_kind kind)
{
    struct scripting *sc = c->server->scripting;
    if (sc->running == NULL)
        reply_error(c->reply, "NOTBUSY No scripts in execution right now.");
    else if (sc->dirty)
        reply_error(
            c->reply,
            "UNKILLABLE Sorry the script already executed write commands against the dataset. "
            "You can either wait the script termination or kill the server in a hard way using "
            "the SHUTDOWN NOSAVE command.");
    else if (sc->running->engine != sc->engines[kind])
        reply_error(c->reply, c->server->busy);
    else {
        sc->kill = true;
        reply_ok(c->reply);
    }
}

bool scripting_running(const struct scripting *sc, struct scripting_now *now)
{
    if (sc->running == NULL)
        return false;
    *now = (struct scripting_now){
        .name = sc->running->run.name,
        .argv = sc->running->call->argv,
        .argc = sc->running->call->argc,
        .duration_ms = (clock_monotonic_us() - sc->begun_us) / 1000,
        .kind = sc->running->engine == sc->engines[SCRIPT_EVAL] ? SCRIPT_EVAL : SCRIPT_FUNCTIONS};
    return true;
}

/* Shebangs ------------------------------------------------------------------------------------- */

static bool parse_flags(struct slice flags, struct shebang *out, struct text *error)
{
    const char *p = flags.data, *end = p + flags.size;
    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        if (comma == NULL)
            comma = end;
        struct slice name = slice_of(p, (size_t)(comma - p));
        unsigned flag;
        if (!script_flag_parse(name, &flag)) {
            text_appendf(error, "ERR Unexpected flag in script shebang: %.*s", (int)name.size,
                         name.data);
            return false;
        }
        out->flags |= flag;
        p = comma + 1;
    }
    return true;
}

static bool parse_part(struct slice part, bool library, struct shebang *out, struct text *error)
{
    if (!library && part.size >= 6 && memcmp(part.data, "flags=", 6) == 0)
        return parse_flags(slice_of(part.data + 6, part.size - 6), out, error);
    if (!library) {
        text_appendf(error, "ERR Unknown lua shebang option: %.*s", (int)part.size, part.data);
        return false;
    }
    if (part.size < 5 || memcmp(part.data, "name=", 5) != 0) {
        text_appendf(error, "ERR Invalid metadata value given: %.*s", (int)part.size, part.data);
        return false;
    }
    if (out->name.data != NULL) {
        text_append_cstr(error,
                         "ERR Invalid metadata value, name argument was given multiple times");
        return false;
    }
    out->name = slice_of(part.data + 5, part.size - 5);
    return true;
}

bool scripting_parse_shebang(struct slice code, bool library, struct shebang *out,
                             struct text *error)
{
    *out = (struct shebang){0};
    const char *newline = memchr(code.data, '\n', code.size);
    if (library && (code.size < 2 || memcmp(code.data, "#!", 2) != 0)) {
        text_append_cstr(error, "ERR Missing library metadata");
        return false;
    }
    if (newline == NULL) {
        text_append_cstr(error, library ? "ERR Invalid library metadata"
                                        : "ERR Invalid script shebang");
        return false;
    }
    out->size = (size_t)(newline - code.data);
    struct words words;
    if (!text_split(&words, slice_of(code.data, out->size))) {
        text_append_cstr(error, library ? "ERR Invalid library metadata"
                                        : "ERR Invalid engine in script shebang");
        return false;
    }
    bool ok = true;
    struct slice engine = words.count > 0 ? words.items[0] : SLICE("");
    /* The slices point into the words; what is kept is found again in the code. */
    if (!library && !slice_is(engine, "#!lua")) {
        text_appendf(error, "ERR Unexpected engine in script shebang: %.*s", (int)engine.size,
                     engine.data);
        ok = false;
    }
    for (int i = 1; ok && i < words.count; i++)
        ok = parse_part(words.items[i], library, out, error);
    if (ok && library && out->name.data == NULL) {
        text_append_cstr(error, "ERR Library name was not given");
        ok = false;
    }
    if (ok && library && !script_name_is_valid(out->name)) {
        text_append_cstr(error,
                         "ERR Library names can only contain letters, numbers, or underscores(_) "
                         "and must be at least one character long");
        ok = false;
    }
    if (ok && library && !slice_is(engine, "#!lua")) {
        text_appendf(error, "ERR Engine '%.*s' not found", (int)engine.size - 2, engine.data + 2);
        ok = false;
    }
    if (ok && out->name.data != NULL)
        out->name.data = memmem(code.data, out->size, out->name.data, out->name.size);
    words_free(&words);
    return ok;
}

/* Life ----------------------------------------------------------------------------------------- */

static struct script_engine *new_engine(struct scripting *sc, enum script_kind kind)
{
    const struct script_host host = {.ctx = sc,
                                     .call = host_call,
                                     .go_on = host_go_on,
                                     .may_call = host_may_call,
                                     .log = host_log,
                                     .own_error = host_own_error,
                                     .version = SERVER_REDIS_VERSION};
    struct script_engine *e = script_engine_new(kind, &host);
    script_engine_set_memory_limit(e, (size_t)sc->server->config->script_memory_limit);
    return e;
}

struct scripting *scripting_new(struct server *s)
{
    struct scripting *sc = mem_zalloc(sizeof(*sc));
    sc->server = s;
    sc->engines[SCRIPT_EVAL] = new_engine(sc, SCRIPT_EVAL);
    sc->engines[SCRIPT_FUNCTIONS] = new_engine(sc, SCRIPT_FUNCTIONS);
    sc->cache = eval_cache_new();
    sc->libraries = library_set_new();
    return sc;
}

void scripting_free(struct scripting *sc)
{
    if (sc == NULL)
        return;
    library_set_free(sc->libraries);
    eval_cache_free(sc->cache);
    script_engine_free(sc->engines[SCRIPT_EVAL]);
    script_engine_free(sc->engines[SCRIPT_FUNCTIONS]);
    mem_free(sc);
}

void scripting_configure(struct scripting *sc)
{
    for (int i = 0; i < 2; i++)
        script_engine_set_memory_limit(sc->engines[i],
                                       (size_t)sc->server->config->script_memory_limit);
}

struct script_engine *scripting_engine(struct scripting *sc, enum script_kind kind)
{
    return sc->engines[kind];
}

void scripting_reset_engine(struct scripting *sc, enum script_kind kind)
{
    script_engine_free(sc->engines[kind]);
    sc->engines[kind] = new_engine(sc, kind);
}

void scripting_begin_load(struct scripting *sc)
{
    sc->begun_us = clock_monotonic_us();
}

struct eval_cache *scripting_eval_cache(struct scripting *sc)
{
    return sc->cache;
}

struct library_set *scripting_library_set(struct scripting *sc)
{
    return sc->libraries;
}

void scripting_memory(const struct scripting *sc, struct scripting_memory *m)
{
    *m = (struct scripting_memory){
        .eval_vm = script_engine_memory(sc->engines[SCRIPT_EVAL]),
        .functions_vm = script_engine_memory(sc->engines[SCRIPT_FUNCTIONS])};
    eval_cache_memory(sc->cache, m);
    library_set_memory(sc->libraries, m);
}
