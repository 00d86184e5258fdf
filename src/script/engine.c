/* SPDX-License-Identifier: BSD-3-Clause */
#include "script/engine.h"

#include <stdio.h>

#include "base/mem.h"

/* How many instructions run between two looks at the clock. */
#define HOOK_INSTRUCTIONS 100000
/* Lua's collector works as scripts allocate. After so many runs it does a step of so many KiB
 * besides, for those that allocate little and leave much. */
#define COLLECT_RUNS 50
#define COLLECT_STEP 50
/* From this size on growing a block may fail without ending the process. */
#define LARGE_BLOCK (64 * 1024)

static const char *const flag_names[SCRIPT_FLAG_COUNT] = {"no-writes", "allow-oom", "allow-stale",
                                                         "no-cluster", "allow-cross-slot-keys"};

bool script_flag_parse(struct slice name, unsigned *flag)
{
    for (unsigned i = 0; i < SCRIPT_FLAG_COUNT; i++) {
        if (slice_equal(name, slice_cstr(flag_names[i]))) {
            *flag = 1U << i;
            return true;
        }
    }
    return false;
}

const char *script_flag_name(unsigned flag)
{
    return flag_names[__builtin_ctz(flag)];
}

bool script_name_is_valid(struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_'))
            return false;
    }
    return name.size > 0;
}

struct script_engine *engine_of(lua_State *L)
{
    void *ctx;
    lua_getallocf(L, &ctx);
    return ctx;
}

static void *grow_large(void *ptr, size_t old, size_t size)
{
    void *fresh = mem_try_alloc(size);
    if (fresh == NULL)
        return NULL;
    if (ptr != NULL)
        memcpy(fresh, ptr, old < size ? old : size);
    mem_free(ptr);
    return fresh;
}

/* Lua's allocator. It refuses only while a script runs, as then there is somebody who catches the
 * error. */
static void *allocate(void *ctx, void *ptr, size_t old, size_t size)
{
    struct script_engine *e = ctx;
    if (ptr == NULL)
        old = 0;
    if (size == 0) {
        mem_free(ptr);
        e->memory -= old;
        return NULL;
    }
    bool grows = size > old && e->running;
    if (grows && e->memory_limit != 0 && e->memory + (size - old) > e->memory_limit)
        return NULL;
    void *fresh = grows && size >= LARGE_BLOCK ? grow_large(ptr, old, size)
                                               : mem_realloc(ptr, size);
    if (fresh != NULL)
        e->memory += size - old;
    return fresh;
}

static void hook(lua_State *L, lua_Debug *ar)
{
    struct script_engine *e = engine_of(L);
    (void)ar;
    if (!e->running || !e->host.go_on) {
        lua_sethook(L, hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
        return;
    }
    if (!e->killed && !e->host.go_on(e->host.ctx, &e->why))
        e->killed = true;
    if (!e->killed) {
        lua_sethook(L, hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
        return;
    }
    /* Wherever the script goes on, it is ended there too. */
    lua_sethook(L, hook, LUA_MASKLINE | LUA_MASKCOUNT, 1);
    lua_sethook(e->lua, hook, LUA_MASKLINE | LUA_MASKCOUNT, 1);
    lua_pushstring(L, e->why);
    lua_error(L);
}

void engine_look(lua_State *L)
{
    hook(L, NULL);
}

struct script_engine *script_engine_new(enum script_kind kind, const struct script_host *host)
{
    struct script_engine *e = mem_zalloc(sizeof(*e));
    e->kind = kind;
    e->host = *host;
    e->protocol = 2;
    e->random = 0x330e;
    e->lua = lua_newstate(allocate, e);
    lua_State *L = e->lua;
    lua_newtable(L);
    e->protected_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    e->scripts_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    e->globals_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    sandbox_open(e);
    lua_sethook(L, hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
    return e;
}

void script_engine_free(struct script_engine *e)
{
    if (e == NULL)
        return;
    lua_close(e->lua);
    mem_free(e);
}

void script_engine_set_memory_limit(struct script_engine *e, size_t bytes)
{
    e->memory_limit = bytes;
}

size_t script_engine_memory(const struct script_engine *e)
{
    return e->memory + sizeof(*e);
}

/* Scripts that are kept ------------------------------------------------------------------------ */

static const char *chunk_name(const struct script_engine *e)
{
    return e->kind == SCRIPT_EVAL ? "@user_script" : "@user_function";
}

/* What is garbage must not count against the limit. */
static void make_room(struct script_engine *e)
{
    if (e->memory_limit != 0 && e->memory > e->memory_limit / 2)
        lua_gc(e->lua, LUA_GCCOLLECT, 0);
}

/* Compile text, and nothing but text: what begins like byte code is refused as the parser refuses
 * the character. The chunk is at the top of the stack, or the message. */
static bool load_text(struct script_engine *e, struct slice code)
{
    lua_State *L = e->lua;
    /* The name must be held by somebody while the parser runs. */
    lua_pushstring(L, chunk_name(e));
    bool ok;
    if (code.size > 0 && code.data[0] == LUA_SIGNATURE[0]) {
        lua_pushfstring(L, "%s:1: unexpected symbol near 'char(27)'", chunk_name(e) + 1);
        ok = false;
    } else {
        e->running = true; /* the limit of memory holds for the parser, too */
        ok = luaL_loadbuffer(L, code.data, code.size, chunk_name(e)) == 0;
        e->running = false;
    }
    lua_remove(L, -2);
    return ok;
}

bool script_compile(struct script_engine *e, struct slice name, struct slice code,
                    struct text *error)
{
    lua_State *L = e->lua;
    make_room(e);
    bool ok = load_text(e, code);
    if (ok) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, e->scripts_ref);
        lua_pushlstring(L, name.data, name.size);
        lua_pushvalue(L, -3);
        lua_rawset(L, -3);
    } else {
        size_t size;
        const char *message = lua_tolstring(L, -1, &size);
        text_append(error, message, size);
    }
    lua_settop(L, 0);
    return ok;
}

static void push_script(struct script_engine *e, struct slice name)
{
    lua_rawgeti(e->lua, LUA_REGISTRYINDEX, e->scripts_ref);
    lua_pushlstring(e->lua, name.data, name.size);
    lua_rawget(e->lua, -2);
    lua_remove(e->lua, -2);
}

bool script_is_kept(struct script_engine *e, struct slice name)
{
    push_script(e, name);
    bool kept = lua_isfunction(e->lua, -1);
    lua_pop(e->lua, 1);
    return kept;
}

/* Errors --------------------------------------------------------------------------------------- */

void engine_push_error(lua_State *L, const char *message)
{
    lua_newtable(L);
    lua_pushfstring(L, "ERR %s", message);
    lua_setfield(L, -2, "err");
}

int engine_error(lua_State *L, const char *message)
{
    engine_push_error(L, message);
    return lua_error(L);
}

/* What is not a message is told as tostring tells it. */
static void push_message(lua_State *L, int index)
{
    const char *message = lua_tostring(L, index);
    if (message == NULL && lua_isboolean(L, index))
        message = lua_toboolean(L, index) ? "true" : "false";
    if (message == NULL && lua_isnil(L, index))
        message = "nil";
    if (message != NULL)
        lua_pushfstring(L, "ERR %s", message);
    else
        lua_pushfstring(L, "ERR %s: %p", luaL_typename(L, index), lua_topointer(L, index));
}

/* Where the error came from is put beside the message while the stack is still there. */
static int on_error(lua_State *L)
{
    lua_Debug ar;
    if (!lua_istable(L, 1) || sandbox_real(L, 1)) {
        lua_settop(L, 1);
        lua_newtable(L);
        push_message(L, 1);
        lua_setfield(L, 2, "err");
    }
    lua_settop(L, lua_istable(L, 2) ? 2 : 1);
    int top = lua_gettop(L), level = 1;
    bool found = lua_getstack(L, level, &ar) && lua_getinfo(L, "Slf", &ar);
    if (found && lua_tocfunction(L, -1) == sandbox_compare)
        level++; /* as if sort had compared by itself */
    if (found && strcmp(ar.what, "C") == 0)
        found = lua_getstack(L, level + 1, &ar) && lua_getinfo(L, "Sl", &ar);
    lua_settop(L, top);
    if (found) {
        lua_pushliteral(L, "source");
        lua_pushstring(L, ar.source);
        lua_rawset(L, -3);
        lua_pushliteral(L, "line");
        lua_pushinteger(L, ar.currentline);
        lua_rawset(L, -3);
    }
    return 1;
}

static const char *raw_string(lua_State *L, const char *field)
{
    lua_pushstring(L, field);
    lua_rawget(L, -2);
    const char *s = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
    lua_pop(L, 1); /* the table holds it */
    return s;
}

bool engine_is_counted(lua_State *L)
{
    lua_pushliteral(L, ENGINE_COUNTED);
    lua_rawget(L, -2);
    bool counted = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return counted;
}

/* The error at the top of the stack as text; `name`: of the script, for the place. */
static void describe_error(struct script_engine *e, struct slice name, struct text *out)
{
    lua_State *L = e->lua;
    if (!lua_istable(L, -1)) {
        /* Out of memory, mostly: there was no room for more. */
        const char *message = lua_tostring(L, -1);
        text_appendf(out, "ERR %s", message ? message : "unknown error");
    } else {
        const char *message = raw_string(L, "err");
        text_append_cstr(out, message ? message : "ERR unknown error");
        const char *source = raw_string(L, "source");
        lua_pushliteral(L, "line");
        lua_rawget(L, -2);
        int line = lua_isnumber(L, -1) ? (int)lua_tointeger(L, -1) : -1;
        lua_pop(L, 1);
        if (name.size == 0)
            return;
        if (source != NULL && line >= 0) {
            text_appendf(out, " script: %.*s, on %.100s:%d.", (int)name.size, name.data, source,
                         line);
            return;
        }
    }
    if (name.size > 0)
        text_appendf(out, " script: %.*s", (int)name.size, name.data);
}

/* Running -------------------------------------------------------------------------------------- */

static void begin(struct script_engine *e)
{
    make_room(e);
    e->killed = false;
    e->why = NULL;
    e->protocol = 2;
}

/* A protected call, within which memory is limited. */
static int call_limited(struct script_engine *e, int args, int results, int handler)
{
    e->running = true;
    int status = lua_pcall(e->lua, args, results, handler);
    e->running = false;
    return status;
}

static void end(struct script_engine *e)
{
    lua_settop(e->lua, 0);
    e->killed = false;
    lua_sethook(e->lua, hook, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
}

static void push_strings(lua_State *L, const struct slice *items, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_pushlstring(L, items[i].data, items[i].size);
        lua_rawseti(L, -2, i + 1);
    }
}

static void set_global(struct script_engine *e, const char *name)
{
    lua_State *L = e->lua;
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->globals_ref);
    lua_insert(L, -2);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

struct attempt {
    struct script_engine *e;
    const struct script_run *run;
    struct reply *reply;
};

/* In a protected call, as all of it may run out of memory. */
static int attempt_run(lua_State *L)
{
    const struct attempt *a = lua_touserdata(L, 1);
    struct script_engine *e = a->e;
    lua_settop(L, 0);
    lua_pushcfunction(L, on_error);
    if (e->kind == SCRIPT_EVAL)
        push_script(e, a->run->name);
    else
        lua_rawgeti(L, LUA_REGISTRYINDEX, a->run->ref);
    push_strings(L, a->run->keys, a->run->key_count);
    if (e->kind == SCRIPT_EVAL)
        set_global(e, "KEYS");
    push_strings(L, a->run->args, a->run->arg_count);
    if (e->kind == SCRIPT_EVAL)
        set_global(e, "ARGV");
    int status = lua_pcall(L, e->kind == SCRIPT_EVAL ? 0 : 2, 1, 1);
    lua_pushboolean(L, status == 0);
    return 2;
}

bool script_run(struct script_engine *e, const struct script_run *run, struct reply *reply)
{
    lua_State *L = e->lua;
    struct attempt a = {e, run, reply};
    begin(e);
    /* attempt_run works on the main thread's own stack, where push_script and set_global are. */
    lua_pushcfunction(L, attempt_run);
    lua_pushlightuserdata(L, &a);
    bool ok = call_limited(e, 1, 2, 0) == 0;
    if (ok) {
        ok = lua_toboolean(L, -1);
        lua_pop(L, 1);
    }
    if (ok) {
        convert_lua_to_reply(L, reply, e->protocol);
    } else {
        struct text message = {0};
        describe_error(e, run->name, &message);
        reply_error(reply, text_cstr(&message));
        text_free(&message);
        if (e->host.own_error != NULL && !(lua_istable(L, -1) && engine_is_counted(L)))
            e->host.own_error(e->host.ctx, reply->last_error);
    }
    end(e);
    if (++e->runs % COLLECT_RUNS == 0)
        lua_gc(L, LUA_GCSTEP, COLLECT_STEP);
    return ok;
}

/* Libraries of functions ----------------------------------------------------------------------- */

void script_functions_free(struct script_engine *e, struct script_function *list)
{
    for (struct script_function *f = list, *next; f != NULL; f = next) {
        next = f->next;
        luaL_unref(e->lua, LUA_REGISTRYINDEX, f->ref);
        mem_free(f->name);
        mem_free(f->description);
        mem_free(f);
    }
}

/* While a library is loaded `redis` has other fields. */
static void set_api(struct script_engine *e, bool loading)
{
    lua_State *L = e->lua;
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->api_meta_ref);
    if (loading)
        api_push(e, true);
    else
        lua_rawgeti(L, LUA_REGISTRYINDEX, e->api_ref);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

bool script_load_library(struct script_engine *e, struct slice code,
                         struct script_function **functions, struct text *error)
{
    lua_State *L = e->lua;
    begin(e);
    e->loading = NULL;
    e->loading_last = &e->loading;
    lua_pushcfunction(L, on_error);
    bool ok = load_text(e, code);
    if (!ok) {
        text_appendf(error, "Error compiling function: %s", lua_tostring(L, -1));
    } else {
        e->in_load = true;
        set_api(e, true);
        ok = call_limited(e, 0, 0, 1) == 0;
        set_api(e, false);
        e->in_load = false;
        if (!ok) {
            text_append_cstr(error, "Error registering functions: ");
            describe_error(e, slice_of(NULL, 0), error);
        }
    }
    end(e);
    *functions = e->loading;
    e->loading = NULL;
    if (!ok) {
        script_functions_free(e, *functions);
        *functions = NULL;
    }
    return ok;
}
