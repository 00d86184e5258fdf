/* SPDX-License-Identifier: BSD-3-Clause
 *
 * FUNCTION, FCALL: libraries of functions. What is compiled of them is here, their code is the
 * keyspace's: each change puts another set of codes there, and is a command that writes, so that
 * its request is in the log.
 */
#include <stdio.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "base/glob.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "command/help.h"
#include "handlers.h"
#include "keyspace/libraries.h"
#include "persist/rdb/format.h"
#include "server/scripting.h"

struct library {
    struct library *next;
    char *name, *code;
    size_t code_size;
    struct script_function *functions;
};

struct library_set {
    struct library *first;
    struct libraries *source; /* what they were compiled of */
    size_t count, function_count, bytes;
};

/* Libraries ------------------------------------------------------------------------------------ */

struct library_set *library_set_new(void)
{
    return mem_zalloc(sizeof(struct library_set));
}

/* Without an engine its functions are gone with it already. */
static void library_free(struct library *l, struct script_engine *e)
{
    if (e != NULL) {
        script_functions_free(e, l->functions);
    } else {
        for (struct script_function *f = l->functions, *next; f != NULL; f = next) {
            next = f->next;
            mem_free(f->name);
            mem_free(f->description);
            mem_free(f);
        }
    }
    mem_free(l->name);
    mem_free(l->code);
    mem_free(l);
}

static void clear(struct library_set *set)
{
    for (struct library *l = set->first, *next; l != NULL; l = next) {
        next = l->next;
        library_free(l, NULL);
    }
    set->first = NULL;
}

void library_set_free(struct library_set *set)
{
    clear(set);
    libraries_unref(set->source);
    mem_free(set);
}

void library_set_memory(const struct library_set *set, struct scripting_memory *m)
{
    m->functions = set->bytes;
    m->function_count = set->function_count;
    m->library_count = set->count;
}

static struct library *find_library(const struct library *list, const char *name)
{
    while (list != NULL && strcmp(list->name, name) != 0)
        list = list->next;
    return (struct library *)list;
}

static struct script_function *find_function(const struct library *list, struct slice name)
{
    for (; list != NULL; list = list->next) {
        for (struct script_function *f = list->functions; f != NULL; f = f->next) {
            if (strlen(f->name) == name.size && memcmp(f->name, name.data, name.size) == 0)
                return f;
        }
    }
    return NULL;
}

/* Compile a library. NULL: `error` has the text for the reply. */
static struct library *library_new(struct scripting *sc, struct slice code, struct text *error)
{
    struct shebang shebang;
    struct script_function *functions;
    struct text reason = {0};
    if (!scripting_parse_shebang(code, true, &shebang, error))
        return NULL;
    scripting_begin_load(sc);
    bool ok = script_load_library(scripting_engine(sc, SCRIPT_FUNCTIONS),
                                  slice_of(code.data + shebang.size, code.size - shebang.size),
                                  &functions, &reason);
    if (!ok)
        text_appendf(error, "ERR %s", text_cstr(&reason));
    else if (functions == NULL)
        text_append_cstr(error, "ERR No functions registered");
    text_free(&reason);
    if (!ok || functions == NULL)
        return NULL;
    struct library *l = mem_alloc(sizeof(*l));
    *l = (struct library){.name = mem_dup(shebang.name.data, shebang.name.size),
                          .code = mem_dup(code.data, code.size),
                          .code_size = code.size,
                          .functions = functions};
    return l;
}

static void unlink_library(struct library_set *set, struct library *l)
{
    struct library **at = &set->first;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
}

static void append(struct library **list, struct library *l)
{
    while (*list != NULL)
        list = &(*list)->next;
    l->next = NULL;
    *list = l;
}

static void count_all(struct library_set *set)
{
    set->count = set->function_count = set->bytes = 0;
    for (const struct library *l = set->first; l != NULL; l = l->next) {
        set->count++;
        set->bytes += sizeof(*l) + l->code_size + strlen(l->name);
        for (const struct script_function *f = l->functions; f != NULL; f = f->next) {
            set->function_count++;
            set->bytes +=
                sizeof(*f) + strlen(f->name) + (f->description ? strlen(f->description) : 0);
        }
    }
}

/* The set has been changed by a command: the keyspace has the code, and the log the request. */
static void changed(struct call *c, struct library_set *set)
{
    count_all(set);
    struct slice *codes = mem_alloc((set->count + 1) * sizeof(*codes));
    size_t n = 0;
    for (const struct library *l = set->first; l != NULL; l = l->next)
        codes[n++] = slice_of(l->code, l->code_size);
    libraries_replace(&c->ks->libraries, libraries_new(codes, n));
    libraries_replace(&set->source, libraries_ref(c->ks->libraries));
    mem_free(codes);
    c->ks->dirty++;
}

/* `failure` gets why the first one that does not load does not; NULL: that is logged. */
static void update(struct server *s, struct text *failure)
{
    struct library_set *set = scripting_library_set(s->scripting);
    struct libraries *codes = s->ks->libraries;
    if (set->source == codes)
        return;
    scripting_reset_engine(s->scripting, SCRIPT_FUNCTIONS);
    clear(set);
    for (size_t i = 0; codes != NULL && i < codes->count; i++) {
        struct text error = {0};
        struct library *l = library_new(s->scripting, codes->codes[i], &error);
        if (l != NULL)
            append(&set->first, l);
        else if (failure == NULL)
            log_warning("A library of functions cannot be used, and is kept: %s",
                        text_cstr(&error));
        else if (failure->size == 0)
            text_append_cstr(failure, text_cstr(&error));
        text_free(&error);
    }
    libraries_replace(&set->source, libraries_ref(codes));
    count_all(set);
}

void library_set_update(struct server *s)
{
    update(s, NULL);
}

bool library_set_load(struct server *s, struct error *err)
{
    struct text failure = {0};
    update(s, &failure);
    bool ok = failure.size == 0;
    if (!ok)
        error_set(err, ERROR_INVALID, "failed loading a library of functions: %s",
                  text_cstr(&failure) + strlen("ERR "));
    text_free(&failure);
    return ok;
}

static struct library_set *current(struct call *c)
{
    library_set_update(c->server);
    return scripting_library_set(c->server->scripting);
}

/* FUNCTION LOAD, DELETE, FLUSH ----------------------------------------------------------------- */

/* A function of the library that one in the list has already. */
static const char *clash(const struct library *list, const struct library *l,
                         const struct library *besides)
{
    for (; list != NULL; list = list->next) {
        for (const struct script_function *f = l->functions; list != besides && f != NULL;
             f = f->next) {
            for (const struct script_function *g = list->functions; g != NULL; g = g->next) {
                if (strcmp(f->name, g->name) == 0)
                    return f->name;
            }
        }
    }
    return NULL;
}

void cmd_function_load(struct call *c)
{
    bool replace = false;
    for (int i = 2; i < c->argc - 1; i++) {
        if (!slice_is(c->argv[i], "replace")) {
            reply_errorf(c->reply, "ERR Unknown option given: %.*s", (int)c->argv[i].size,
                         c->argv[i].data);
            return;
        }
        replace = true;
    }
    struct library_set *set = current(c);
    struct scripting *sc = c->server->scripting;
    struct slice code = c->argv[c->argc - 1];
    struct text error = {0};
    struct shebang shebang;
    struct library *old = NULL, *fresh = NULL;
    if (scripting_parse_shebang(code, true, &shebang, &error)) {
        char *name = mem_dup(shebang.name.data, shebang.name.size);
        old = find_library(set->first, name);
        if (old != NULL && !replace)
            text_appendf(&error, "ERR Library '%s' already exists", name);
        else
            fresh = library_new(sc, code, &error);
        mem_free(name);
    }
    const char *taken = fresh != NULL ? clash(set->first, fresh, old) : NULL;
    if (taken != NULL) {
        text_appendf(&error, "ERR Function %s already exists", taken);
        library_free(fresh, scripting_engine(sc, SCRIPT_FUNCTIONS));
        fresh = NULL;
    }
    if (fresh == NULL) {
        reply_errorf(c->reply, "%s", text_cstr(&error));
    } else {
        if (old != NULL) {
            unlink_library(set, old);
            library_free(old, scripting_engine(sc, SCRIPT_FUNCTIONS));
        }
        append(&set->first, fresh);
        changed(c, set);
        reply_bulk_cstr(c->reply, fresh->name);
    }
    text_free(&error);
}

void cmd_function_delete(struct call *c)
{
    struct library_set *set = current(c);
    char *name = mem_dup(c->argv[2].data, c->argv[2].size);
    struct library *l = strlen(name) == c->argv[2].size ? find_library(set->first, name) : NULL;
    mem_free(name);
    if (l == NULL) {
        reply_error(c->reply, "ERR Library not found");
        return;
    }
    unlink_library(set, l);
    library_free(l, scripting_engine(c->server->scripting, SCRIPT_FUNCTIONS));
    changed(c, set);
    reply_ok(c->reply);
}

void cmd_function_flush(struct call *c)
{
    if (c->argc > 3) {
        reply_errorf(
            c->reply,
            "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try FUNCTION HELP.",
            (int)(c->argv[1].size < 128 ? c->argv[1].size : 128), c->argv[1].data);
        return;
    }
    if (c->argc == 3 && !slice_is(c->argv[2], "sync") && !slice_is(c->argv[2], "async")) {
        reply_error(c->reply, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option");
        return;
    }
    struct library_set *set = current(c);
    clear(set);
    scripting_reset_engine(c->server->scripting, SCRIPT_FUNCTIONS);
    changed(c, set);
    reply_ok(c->reply);
}

/* DUMP, RESTORE -------------------------------------------------------------------------------- */

#define FOOTER_SIZE 10

void cmd_function_dump(struct call *c)
{
    struct rdb_writer w;
    const struct libraries *codes = c->ks->libraries;
    rdb_writer_init(&w, 256, NULL, NULL);
    w.compress = true;
    for (size_t i = 0; codes != NULL && i < codes->count; i++) {
        rdb_write_u8(&w, RDB_OP_FUNCTION2);
        rdb_write_string(&w, codes->codes[i]);
    }
    rdb_write_u8(&w, RDB_VERSION_DEFAULT);
    rdb_write_u8(&w, 0);
    rdb_write_le64(&w, crc64(0, w.buffer, w.used));
    reply_bulk(c->reply, slice_of(w.buffer, w.used));
    rdb_writer_deinit(&w);
}

static bool footer_is_right(struct slice payload, bool later)
{
    if (payload.size < FOOTER_SIZE)
        return false;
    const unsigned char *end = (const unsigned char *)payload.data + payload.size;
    int version = end[-10] | end[-9] << 8;
    return (version <= RDB_VERSION_READ_MAX || later) &&
           bytes_le64(end - 8) == crc64(0, payload.data, payload.size - 8);
}

/* Compile what the payload holds, in a list of its own. */
static bool read_payload(struct call *c, struct slice payload, struct library **list,
                         struct text *error)
{
    struct rdb_reader r;
    struct error why = {0};
    rdb_reader_init_memory(&r, payload.data, payload.size - FOOTER_SIZE, &why);
    bool ok = true;
    while (ok && rdb_reader_left(&r) > 0) {
        uint8_t code;
        struct rdb_string s;
        if (!rdb_read_u8(&r, &code) || code != RDB_OP_FUNCTION2) {
            text_append_cstr(error, "ERR given type is not a function");
            ok = false;
        } else if (!rdb_read_string(&r, &s)) {
            text_append_cstr(error, "ERR Failed loading library data");
            ok = false;
        } else {
            struct library *l = library_new(c->server->scripting, s.bytes, error);
            const char *taken = NULL;
            if (l != NULL && find_library(*list, l->name) != NULL)
                text_appendf(error, "ERR Library '%s' already exists", l->name);
            else if (l != NULL && (taken = clash(*list, l, NULL)) != NULL)
                text_appendf(error, "ERR Function %s already exists", taken);
            ok = l != NULL && error->size == 0;
            if (l != NULL)
                append(list, l);
        }
    }
    rdb_reader_deinit(&r);
    return ok;
}

enum policy { POLICY_FLUSH, POLICY_APPEND, POLICY_REPLACE };

/* Whether the new ones fit to those that stay. */
static bool fits(const struct library_set *set, const struct library *list, enum policy policy,
                 struct text *error)
{
    for (const struct library *l = list; policy != POLICY_FLUSH && l != NULL; l = l->next) {
        if (policy == POLICY_APPEND && find_library(set->first, l->name) != NULL) {
            text_appendf(error, "ERR Library %s already exists", l->name);
            return false;
        }
    }
    for (const struct library *old = set->first; policy != POLICY_FLUSH && old != NULL;
         old = old->next) {
        const char *taken = NULL;
        if (find_library(list, old->name) == NULL)
            taken = clash(list, old, NULL);
        if (taken != NULL) {
            text_appendf(error, "ERR Function %s already exists", taken);
            return false;
        }
    }
    return true;
}

static bool take_policy(struct call *c, enum policy *policy)
{
    *policy = POLICY_APPEND;
    if (c->argc == 3 || slice_is(c->argv[3], "append"))
        return true;
    *policy = slice_is(c->argv[3], "flush") ? POLICY_FLUSH : POLICY_REPLACE;
    return *policy == POLICY_FLUSH || slice_is(c->argv[3], "replace");
}

void cmd_function_restore(struct call *c)
{
    enum policy policy;
    if (c->argc > 4) {
        reply_errorf(c->reply,
                     "ERR Unknown subcommand or wrong number of arguments for '%.*s'. Try "
                     "FUNCTION HELP.",
                     (int)c->argv[1].size, c->argv[1].data);
        return;
    }
    if (!take_policy(c, &policy)) {
        reply_error(c->reply,
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or "
                    "REPLACE.");
        return;
    }
    if (!footer_is_right(c->argv[2], c->ks->later_rdb)) {
        reply_error(c->reply, "ERR DUMP payload version or checksum are wrong");
        return;
    }
    struct library_set *set = current(c);
    struct script_engine *e = scripting_engine(c->server->scripting, SCRIPT_FUNCTIONS);
    struct library *list = NULL, *next;
    struct text error = {0};
    bool ok = read_payload(c, c->argv[2], &list, &error) && fits(set, list, policy, &error);
    /* What goes: all that is replaced, or what was read. */
    for (struct library *l = ok ? set->first : list; l != NULL; l = next) {
        next = l->next;
        if (!ok) {
            library_free(l, e);
        } else if (policy == POLICY_FLUSH || find_library(list, l->name) != NULL) {
            unlink_library(set, l);
            library_free(l, e);
        }
    }
    if (ok) {
        for (struct library *l = list; l != NULL; l = next) {
            next = l->next;
            append(&set->first, l);
        }
        changed(c, set);
        reply_ok(c->reply);
    } else {
        reply_errorf(c->reply, "%s", text_cstr(&error));
    }
    text_free(&error);
}

/* LIST, STATS ---------------------------------------------------------------------------------- */

static void reply_function(struct reply *r, const struct script_function *f)
{
    reply_map(r, 3);
    reply_bulk_cstr(r, "name");
    reply_bulk_cstr(r, f->name);
    reply_bulk_cstr(r, "description");
    if (f->description != NULL)
        reply_bulk_cstr(r, f->description);
    else
        reply_null(r);
    reply_bulk_cstr(r, "flags");
    reply_set(r, (size_t)__builtin_popcount(f->flags));
    for (unsigned i = 0; i < SCRIPT_FLAG_COUNT; i++) {
        if (f->flags & 1U << i)
            reply_simple(r, script_flag_name(1U << i));
    }
}

static void reply_library(struct reply *r, const struct library *l, bool with_code)
{
    size_t functions = 0;
    for (const struct script_function *f = l->functions; f != NULL; f = f->next)
        functions++;
    reply_map(r, with_code ? 4 : 3);
    reply_bulk_cstr(r, "library_name");
    reply_bulk_cstr(r, l->name);
    reply_bulk_cstr(r, "engine");
    reply_bulk_cstr(r, "LUA");
    reply_bulk_cstr(r, "functions");
    reply_array(r, functions);
    for (const struct script_function *f = l->functions; f != NULL; f = f->next)
        reply_function(r, f);
    if (with_code) {
        reply_bulk_cstr(r, "library_code");
        reply_bulk(r, slice_of(l->code, l->code_size));
    }
}

void cmd_function_list(struct call *c)
{
    bool with_code = false, filtered = false;
    struct slice pattern = {0};
    for (int i = 2; i < c->argc; i++) {
        if (!with_code && slice_is(c->argv[i], "withcode")) {
            with_code = true;
        } else if (!filtered && slice_is(c->argv[i], "libraryname")) {
            if (i == c->argc - 1) {
                reply_error(c->reply, "ERR library name argument was not given");
                return;
            }
            filtered = true;
            pattern = c->argv[++i];
        } else {
            reply_errorf(c->reply, "ERR Unknown argument %.*s", (int)c->argv[i].size,
                         c->argv[i].data);
            return;
        }
    }
    const struct library_set *set = current(c);
    size_t count = 0;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    for (const struct library *l = set->first; l != NULL; l = l->next) {
        if (filtered && !glob_match(pattern, slice_cstr(l->name), true))
            continue;
        reply_library(c->reply, l, with_code);
        count++;
    }
    reply_deferred_array(c->reply, mark, count);
}

void cmd_function_stats(struct call *c)
{
    struct reply *r = c->reply;
    struct scripting_now now;
    struct scripting_memory m;
    bool running = scripting_running(c->server->scripting, &now);
    if (running && now.kind == SCRIPT_EVAL) {
        reply_error(r, c->server->busy);
        return;
    }
    if (!running)
        library_set_update(c->server);
    reply_map(r, 2);
    reply_bulk_cstr(r, "running_script");
    if (running) {
        reply_map(r, 3);
        reply_bulk_cstr(r, "name");
        reply_bulk(r, now.name);
        reply_bulk_cstr(r, "command");
        reply_array(r, (size_t)now.argc);
        for (int i = 0; i < now.argc; i++)
            reply_bulk(r, now.argv[i]);
        reply_bulk_cstr(r, "duration_ms");
        reply_int(r, now.duration_ms);
    } else {
        reply_null(r);
    }
    scripting_memory(c->server->scripting, &m);
    reply_bulk_cstr(r, "engines");
    reply_map(r, 1);
    reply_bulk_cstr(r, "LUA");
    reply_map(r, 2);
    reply_bulk_cstr(r, "libraries_count");
    reply_int(r, (int64_t)m.library_count);
    reply_bulk_cstr(r, "functions_count");
    reply_int(r, (int64_t)m.function_count);
}

void cmd_function_kill(struct call *c)
{
    scripting_kill(c, SCRIPT_FUNCTIONS);
}

void cmd_function_help(struct call *c)
{
    static const char *const lines[] = {
        "DELETE <library>",
        "    Remove a library and its functions.",
        "DUMP",
        "    All libraries as a payload for FUNCTION RESTORE.",
        "FLUSH [ASYNC|SYNC]",
        "    Remove all libraries.",
        "KILL",
        "    End the function that runs now, unless it has written already.",
        "LIST [LIBRARYNAME <pattern>] [WITHCODE]",
        "    The libraries and what is in them.",
        "LOAD [REPLACE] <code>",
        "    Add a library, or put it in the place of the one of its name.",
        "RESTORE <payload> [FLUSH|APPEND|REPLACE]",
        "    Add the libraries of a payload: after removing all others, beside them, or in place",
        "    of those of the same name. APPEND unless told otherwise.",
        "STATS",
        "    The function that runs now, and how many there are.",
    };
    reply_help(c, "FUNCTION", lines, sizeof(lines) / sizeof(lines[0]));
}

/* FCALL ---------------------------------------------------------------------------------------- */

static void fcall(struct call *c, bool read_only)
{
    struct scripting *sc = c->server->scripting;
    const struct script_function *f = find_function(current(c)->first, c->argv[1]);
    int64_t keys;
    if (f == NULL) {
        reply_error(c->reply, "ERR Function not found");
        return;
    }
    if (!call_int64(c, c->argv[2], &keys, "ERR Bad number of keys provided"))
        return;
    if (keys > c->argc - 3) {
        reply_error(c->reply, "ERR Number of keys can't be greater than number of args");
        return;
    }
    if (keys < 0) {
        reply_error(c->reply, "ERR Number of keys can't be negative");
        return;
    }
    struct scripting_call now = {.call = c,
                                 .engine = scripting_engine(sc, SCRIPT_FUNCTIONS),
                                 .flags = f->flags,
                                 .read_only = read_only,
                                 .run = {.name = slice_cstr(f->name),
                                         .ref = f->ref,
                                         .keys = c->argv + 3,
                                         .key_count = (int)keys,
                                         .args = c->argv + 3 + keys,
                                         .arg_count = c->argc - 3 - (int)keys}};
    scripting_call(sc, &now);
}

void cmd_fcall(struct call *c)
{
    fcall(c, false);
}

void cmd_fcall_ro(struct call *c)
{
    fcall(c, true);
}
