/* SPDX-License-Identifier: BSD-3-Clause
 *
 * redis.*: what scripts call of the server. Errors and messages are those of redis-server 7.0.
 */
#include <math.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "base/mem.h"
#include "resp/outbuf.h"
#include "script/engine.h"

/* Arguments of a call, up to so many without an allocation. */
#define ARGS_FAST 32

/* A reply as it came, in one piece. */
static struct slice gather(struct outbuf *out, char **memory)
{
    size_t size = outbuf_size(out);
    *memory = NULL;
    if (out->first == out->last)
        return slice_of(out->first->data + out->consumed, size);
    char *p = *memory = mem_alloc(size);
    struct outbuf_block *b = out->first;
    size_t from = out->consumed;
    for (; b != out->last; b = b->next) {
        memcpy(p, b->data + from, b->size - from);
        p += b->size - from;
        from = 0;
    }
    memcpy(p, b->data + from, (size_t)(out->pos - b->data) - from);
    return slice_of(*memory, size);
}

/* The arguments as strings: those that are numbers are put into the stack's place as strings. */
static bool take_arguments(lua_State *L, struct slice *argv, int argc)
{
    for (int i = 0; i < argc; i++) {
        int type = lua_type(L, i + 1);
        if (type == LUA_TNUMBER) {
            char number[64];
            int n = snprintf(number, sizeof(number), "%.17g", lua_tonumber(L, i + 1));
            lua_pushlstring(L, number, (size_t)n);
            lua_replace(L, i + 1);
        } else if (type != LUA_TSTRING) {
            return false;
        }
        argv[i].data = lua_tolstring(L, i + 1, &argv[i].size);
    }
    return true;
}

/* In a protected call, as memory may run out. */
static int convert(lua_State *L)
{
    const struct slice *reply = lua_touserdata(L, 1);
    convert_reply_to_lua(L, *reply);
    return 1;
}

static int call(lua_State *L, bool raise)
{
    struct script_engine *e = engine_of(L);
    int argc = lua_gettop(L);
    if (argc == 0) {
        engine_push_error(L, "Please specify at least one argument for this redis lib call");
        return raise ? lua_error(L) : 1;
    }
    struct slice fast[ARGS_FAST];
    /* Beyond that the array belongs to Lua, too, as an error may pass by here. */
    struct slice *argv = fast;
    if (argc > ARGS_FAST)
        argv = lua_newuserdata(L, (size_t)argc * sizeof(*argv));
    if (!take_arguments(L, argv, argc)) {
        engine_push_error(L, "Lua redis lib command arguments must be strings or integers");
        return raise ? lua_error(L) : 1;
    }
    struct outbuf out = {0};
    struct reply reply = {.out = &out, .protocol = (uint8_t)e->protocol};
    struct slice bytes;
    char *memory;
    /* Before there is anything to be freed. */
    luaL_checkstack(L, 4, "too many arguments");
    lua_pushcfunction(L, convert);
    lua_pushlightuserdata(L, &bytes);
    e->host.call(e->host.ctx, argv, argc, &reply);
    bytes = gather(&out, &memory);
    bool failed = bytes.data[0] == '-';
    int status = lua_pcall(L, 1, 1, 0);
    mem_free(memory);
    outbuf_clear(&out);
    return status != 0 || (failed && raise) ? lua_error(L) : 1;
}

static int api_call(lua_State *L)
{
    return call(L, true);
}

static int api_pcall(lua_State *L)
{
    return call(L, false);
}

static int api_sha1hex(lua_State *L)
{
    if (lua_gettop(L) != 1)
        return engine_error(L, "wrong number of arguments");
    size_t size;
    const char *s = luaL_checklstring(L, 1, &size);
    unsigned char digest[SHA_DIGEST_LENGTH];
    char hex[2 * SHA_DIGEST_LENGTH + 1];
    SHA1((const unsigned char *)s, size, digest);
    for (int i = 0; i < SHA_DIGEST_LENGTH; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)digest[i]);
    lua_pushlstring(L, hex, 2 * SHA_DIGEST_LENGTH);
    return 1;
}

static bool one_string(lua_State *L)
{
    if (lua_gettop(L) == 1 && lua_type(L, 1) == LUA_TSTRING)
        return true;
    engine_push_error(L, "wrong number or type of arguments");
    return false;
}

static int api_status_reply(lua_State *L)
{
    if (!one_string(L))
        return 1;
    lua_newtable(L);
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "ok");
    return 1;
}

/* "CODE message", with or without a "-" in front; one word is a message without a code. */
static int api_error_reply(lua_State *L)
{
    if (!one_string(L))
        return 1;
    const char *s = lua_tostring(L, 1);
    if (*s == '-')
        s++;
    if (strchr(s, ' ') == NULL) {
        engine_push_error(L, s);
        return 1;
    }
    lua_newtable(L);
    lua_pushstring(L, s);
    lua_setfield(L, -2, "err");
    return 1;
}

static int api_setresp(lua_State *L)
{
    if (lua_gettop(L) != 1)
        return engine_error(L, "redis.setresp() requires one argument.");
    int protocol = (int)luaL_checkinteger(L, 1);
    if (protocol != 2 && protocol != 3)
        return engine_error(L, "RESP version must be 2 or 3.");
    engine_of(L)->protocol = protocol;
    return 0;
}

/* Effects always go to the log: what is in memory must be there, too. So this is checked, and has
 * no effect. */
static int api_set_repl(lua_State *L)
{
    if (lua_gettop(L) != 1)
        return engine_error(L, "redis.set_repl() requires two arguments.");
    lua_Number flags = lua_tonumber(L, 1);
    if (flags < 0 || flags > 3)
        return engine_error(L, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or "
                               "REPL_NONE.");
    return 0;
}

static int api_replicate_commands(lua_State *L)
{
    lua_pushboolean(L, 1);
    return 1;
}

/* There is no debugger. */
static int api_breakpoint(lua_State *L)
{
    lua_pushboolean(L, 0);
    return 1;
}

static int api_debug(lua_State *L)
{
    (void)L;
    return 0;
}

static int api_log(lua_State *L)
{
    int count = lua_gettop(L);
    if (count < 2)
        return engine_error(L, "redis.log() requires two arguments or more.");
    if (!lua_isnumber(L, 1))
        return engine_error(L, "First argument must be a number (log level).");
    lua_Number level = lua_tonumber(L, 1);
    if (!(level >= 0 && level <= 3))
        return engine_error(L, "Invalid debug level.");
    luaL_Buffer all;
    luaL_buffinit(L, &all);
    for (int i = 2; i <= count; i++) {
        if (!lua_isstring(L, i))
            continue;
        if (i > 2)
            luaL_addchar(&all, ' ');
        lua_pushvalue(L, i);
        luaL_addvalue(&all);
    }
    luaL_pushresult(&all);
    size_t size;
    const char *message = lua_tolstring(L, -1, &size);
    struct script_engine *e = engine_of(L);
    if (e->host.log != NULL)
        e->host.log(e->host.ctx, (int)level, slice_of(message, size));
    return 0;
}

static int api_acl_check_cmd(lua_State *L)
{
    struct script_engine *e = engine_of(L);
    int argc = lua_gettop(L);
    if (argc == 0)
        return engine_error(L, "Please specify at least one argument for this redis lib call");
    struct slice *argv = lua_newuserdata(L, (size_t)argc * sizeof(*argv));
    if (!take_arguments(L, argv, argc))
        return engine_error(L, "Lua redis lib command arguments must be strings or integers");
    int may = e->host.may_call != NULL ? e->host.may_call(e->host.ctx, argv, argc) : 1;
    if (may < 0)
        return engine_error(L, "Invalid command passed to redis.acl_check_cmd()");
    lua_pushboolean(L, may);
    return 1;
}

/* redis.register_function ---------------------------------------------------------------------- */

/* What it is given, until it is proven. The strings are Lua's. */
struct registration {
    const char *name, *description;
    int callback; /* its place on the stack; 0: not given */
    unsigned flags;
};

static void take_flags(lua_State *L, struct registration *r)
{
    if (!lua_istable(L, -1))
        engine_error(L, "flags argument to redis.register_function must be a table representing "
                        "function flags");
    int list = lua_gettop(L);
    for (int i = 1;; i++) {
        unsigned flag = 0;
        lua_rawgeti(L, list, i);
        if (lua_isnil(L, -1))
            break;
        if (lua_type(L, -1) != LUA_TSTRING ||
            !script_flag_parse(slice_cstr(lua_tostring(L, -1)), &flag))
            engine_error(L, "unknown flag given");
        r->flags |= flag;
        lua_pop(L, 1);
    }
    lua_settop(L, list);
}

static void take_field(lua_State *L, struct registration *r, const char *key)
{
    if (strcmp(key, "function_name") == 0) {
        if (lua_type(L, -1) != LUA_TSTRING)
            engine_error(
                L, "function_name argument given to redis.register_function must be a string");
        r->name = lua_tostring(L, -1);
    } else if (strcmp(key, "description") == 0) {
        if (lua_type(L, -1) != LUA_TSTRING)
            engine_error(L,
                         "description argument given to redis.register_function must be a string");
        r->description = lua_tostring(L, -1);
    } else if (strcmp(key, "callback") == 0) {
        if (!lua_isfunction(L, -1))
            engine_error(L,
                         "callback argument given to redis.register_function must be a function");
        lua_pushvalue(L, -1);
        lua_replace(L, 2);
        r->callback = 2;
    } else if (strcmp(key, "flags") == 0) {
        take_flags(L, r);
    } else {
        engine_error(L, "unknown argument given to redis.register_function");
    }
}

static void take_named(lua_State *L, struct registration *r)
{
    if (!lua_istable(L, 1))
        engine_error(L,
                     "calling redis.register_function with a single argument is only applicable to "
                     "Lua table (representing named arguments).");
    lua_settop(L, 1);
    lua_pushnil(L); /* for the callback */
    lua_pushnil(L);
    while (lua_next(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            engine_error(L, "named argument key given to redis.register_function is not a string");
        take_field(L, r, lua_tostring(L, -2));
        lua_pop(L, 1);
    }
    if (r->name == NULL)
        engine_error(L, "redis.register_function must get a function name argument");
    if (r->callback == 0)
        engine_error(L, "redis.register_function must get a callback argument");
}

static void take_positional(lua_State *L, struct registration *r)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        engine_error(L, "first argument to redis.register_function must be a string");
    if (!lua_isfunction(L, 2))
        engine_error(L, "second argument to redis.register_function must be a function");
    r->name = lua_tostring(L, 1);
    r->callback = 2;
}

static int api_register_function(lua_State *L)
{
    struct script_engine *e = engine_of(L);
    struct registration r = {0};
    if (!e->in_load)
        return engine_error(L,
                            "redis.register_function can only be called on FUNCTION LOAD command");
    int count = lua_gettop(L);
    if (count < 1 || count > 2)
        return engine_error(L, "wrong number of arguments to redis.register_function");
    if (count == 1)
        take_named(L, &r);
    else
        take_positional(L, &r);
    if (!script_name_is_valid(slice_cstr(r.name)))
        return engine_error(
            L, "Library names can only contain letters, numbers, or underscores(_) and "
               "must be at least one character long");
    for (const struct script_function *f = e->loading; f != NULL; f = f->next) {
        if (strcmp(f->name, r.name) == 0)
            return engine_error(L, "Function already exists in the library");
    }
    lua_pushvalue(L, r.callback);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX);
    struct script_function *f = mem_alloc(sizeof(*f));
    *f = (struct script_function){
        .name = mem_dup(r.name, strlen(r.name)), .flags = r.flags, .ref = ref};
    if (r.description != NULL)
        f->description = mem_dup(r.description, strlen(r.description));
    *e->loading_last = f;
    e->loading_last = &f->next;
    return 0;
}

/* The tables ----------------------------------------------------------------------------------- */

static const luaL_Reg calls[] = {{"call", api_call},
                                 {"pcall", api_pcall},
                                 {"sha1hex", api_sha1hex},
                                 {"status_reply", api_status_reply},
                                 {"error_reply", api_error_reply},
                                 {"setresp", api_setresp},
                                 {"set_repl", api_set_repl},
                                 {"replicate_commands", api_replicate_commands},
                                 {"breakpoint", api_breakpoint},
                                 {"debug", api_debug},
                                 {"acl_check_cmd", api_acl_check_cmd},
                                 {NULL, NULL}};
/* There is no replicate_commands, breakpoint and debug in functions. */
static const char *const for_eval[] = {"replicate_commands", "breakpoint", "debug", NULL};

static int no_such_field(lua_State *L)
{
    const char *name = lua_tostring(L, 2);
    return luaL_error(L, "Script attempted to access nonexistent global variable '%s'",
                      name ? name : luaL_typename(L, 2));
}

static void set_number(lua_State *L, const char *name, lua_Number value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void set_version(lua_State *L, const char *version)
{
    unsigned major = 0, minor = 0, patch = 0;
    sscanf(version, "%u.%u.%u", &major, &minor, &patch);
    lua_pushstring(L, version);
    lua_setfield(L, -2, "REDIS_VERSION");
    set_number(L, "REDIS_VERSION_NUM", (lua_Number)(major << 16 | minor << 8 | patch));
}

static bool is_for_eval(const char *name)
{
    for (const char *const *n = for_eval; *n != NULL; n++) {
        if (strcmp(*n, name) == 0)
            return true;
    }
    return false;
}

void api_push(struct script_engine *e, bool loading)
{
    lua_State *L = e->lua;
    lua_newtable(L);
    for (const luaL_Reg *r = calls; !loading && r->name != NULL; r++) {
        if (e->kind == SCRIPT_FUNCTIONS && is_for_eval(r->name))
            continue;
        lua_pushcfunction(L, r->func);
        lua_setfield(L, -2, r->name);
    }
    lua_pushcfunction(L, api_log);
    lua_setfield(L, -2, "log");
    set_number(L, "LOG_DEBUG", 0);
    set_number(L, "LOG_VERBOSE", 1);
    set_number(L, "LOG_NOTICE", 2);
    set_number(L, "LOG_WARNING", 3);
    set_version(L, e->host.version);
    if (loading) {
        lua_pushcfunction(L, api_register_function);
        lua_setfield(L, -2, "register_function");
        lua_newtable(L);
        lua_pushcfunction(L, no_such_field);
        lua_setfield(L, -2, "__index");
        lua_setmetatable(L, -2);
        return;
    }
    set_number(L, "REPL_NONE", 0);
    set_number(L, "REPL_AOF", 1);
    set_number(L, "REPL_SLAVE", 2);
    set_number(L, "REPL_REPLICA", 2);
    set_number(L, "REPL_ALL", 3);
}
