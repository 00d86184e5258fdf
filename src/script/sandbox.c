/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What scripts may call, and guards for what trusts its arguments too much. A guard that goes on to
 * the library's function calls it in its own frame, so that its messages name what they always do.
 */
#include "base/mem.h"
#include "script/engine.h"

/* Lua counts the signs of a long bracket in an int. */
#define CHUNK_MAX ((size_t)1 << 30)
#define STRING_MAX ((size_t)1 << 30)
#define UNPACK_MAX 1000000
/* Tables from this size on are sorted so that it can be interrupted: after so many comparisons,
 * where a long string counts as one for so many bytes. */
#define SORT_LONG 1000
#define COMPARED_MAX 20000
#define COMPARED_AT_ONCE 64

#define READ_ONLY "Attempt to modify a readonly table"

/* Stand-ins ------------------------------------------------------------------------------------ */

bool sandbox_real(lua_State *L, int index)
{
    if (!lua_istable(L, index))
        return false;
    lua_pushvalue(L, index);
    lua_rawgeti(L, LUA_REGISTRYINDEX, engine_of(L)->protected_ref);
    lua_insert(L, -2);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

static int refuse_write(lua_State *L)
{
    return luaL_error(L, READ_ONLY);
}

/* From a function of the library: without a place before the message. */
static void check_writable(lua_State *L)
{
    if (!sandbox_real(L, 1))
        return;
    lua_pushliteral(L, READ_ONLY);
    lua_error(L);
}

void sandbox_protect(lua_State *L)
{
    struct script_engine *e = engine_of(L);
    lua_newtable(L); /* real, stand-in */
    lua_newtable(L); /* real, stand-in, metatable */
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_write);
    lua_setfield(L, -2, "__newindex");
    /* What getmetatable gives: the same as it would be, read-only. An empty stand-in for all. */
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->protected_ref);
    lua_getfield(L, -1, "metatable");
    lua_remove(L, -2);
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->protected_ref);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -4);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    lua_remove(L, -2);
}

/* Guards: the globals -------------------------------------------------------------------------- */

/* The library's function stands in the first upvalue; it does not look at its own. */
static int library(lua_State *L)
{
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int guarded_rawget(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    if (sandbox_real(L, 1))
        lua_replace(L, 1);
    lua_settop(L, 2);
    lua_rawget(L, 1);
    return 1;
}

static int guarded_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    if (sandbox_real(L, 1))
        lua_replace(L, 1);
    if (lua_next(L, 1))
        return 2;
    lua_pushnil(L);
    return 1;
}

/* Upvalues: the library's next, the guarded one. */
static int guarded_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    bool shared = sandbox_real(L, 1);
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(shared ? 2 : 1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* For all that write into their first argument. */
static int guarded_write(lua_State *L)
{
    check_writable(L);
    return library(L);
}

static int guarded_insert(lua_State *L)
{
    check_writable(L);
    if (lua_gettop(L) == 3 && lua_isnumber(L, 2) && lua_tonumber(L, 2) < 0)
        return luaL_argerror(L, 2, "position out of bounds");
    return library(L);
}

int sandbox_compare(lua_State *L)
{
    struct script_engine *e = engine_of(L);
    size_t cost = 1 + (lua_type(L, 1) == LUA_TSTRING ? lua_objlen(L, 1) / COMPARED_AT_ONCE : 0);
    e->compared += cost;
    if (e->compared >= COMPARED_MAX) {
        e->compared = 0;
        engine_look(L);
    }
    lua_pushboolean(L, lua_lessthan(L, 1, 2));
    return 1;
}

static int guarded_sort(lua_State *L)
{
    check_writable(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_isnoneornil(L, 2) && lua_objlen(L, 1) >= SORT_LONG) {
        lua_settop(L, 1);
        lua_pushcfunction(L, sandbox_compare);
    }
    return library(L);
}

static int guarded_collectgarbage(lua_State *L)
{
    static const char *const options[] = {"stop", "restart",  "collect",    "count",
                                          "step", "setpause", "setstepmul", NULL};
    int option = luaL_checkoption(L, 1, "collect", options);
    /* The collector belongs to all scripts: it is not stopped. */
    if (option == 2 || option == 3 || option == 4)
        return library(L);
    lua_pushinteger(L, 0);
    return 1;
}

static int guarded_unpack(lua_State *L)
{
    lua_Number from = luaL_optnumber(L, 2, 1);
    lua_Number to = lua_isnoneornil(L, 3) ? (lua_Number)(lua_istable(L, 1) ? lua_objlen(L, 1) : 0)
                                          : luaL_checknumber(L, 3);
    if (!(to - from < UNPACK_MAX) || from < -UNPACK_MAX * 1000.0 || to > UNPACK_MAX * 1000.0)
        return luaL_error(L, "too many results to unpack");
    return library(L);
}

/* Text only. The name is the copy at the top of the stack, so that it stays while the parser runs;
 * nor does the collector run meanwhile. */
static int load_chunk(lua_State *L, const char *code, size_t size, const char *name)
{
    lua_pushstring(L, name);
    name = lua_tostring(L, -1);
    if (size > 0 && code[0] == LUA_SIGNATURE[0]) {
        lua_pushnil(L);
        lua_pushliteral(L, "byte code is not loaded: unexpected symbol near 'char(27)'");
        return 2;
    }
    if (size > CHUNK_MAX) {
        lua_pushnil(L);
        lua_pushliteral(L, "chunk has too many syntax levels");
        return 2;
    }
    lua_gc(L, LUA_GCSTOP, 0);
    int status = luaL_loadbuffer(L, code, size, name);
    lua_gc(L, LUA_GCRESTART, 0);
    if (status == 0)
        return 1;
    lua_pushnil(L);
    lua_insert(L, -2);
    return 2;
}

static int guarded_loadstring(lua_State *L)
{
    size_t size;
    const char *code = luaL_checklstring(L, 1, &size);
    return load_chunk(L, code, size, luaL_optstring(L, 2, code));
}

/* The pieces are gathered first. */
static int guarded_load(lua_State *L)
{
    const char *name = luaL_optstring(L, 2, "=(load)");
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_newtable(L);
    for (int n = 1;; n++) {
        lua_pushvalue(L, 1);
        lua_call(L, 0, 1);
        if (lua_isnil(L, -1))
            break;
        if (!lua_isstring(L, -1))
            return luaL_error(L, "reader function must return a string");
        if (lua_objlen(L, -1) == 0)
            break;
        /* What will be refused need not be gathered: it may have no end. */
        if (n == 1 && lua_tostring(L, -1)[0] == LUA_SIGNATURE[0])
            return load_chunk(L, LUA_SIGNATURE, 1, name);
        lua_rawseti(L, 3, n);
    }
    lua_settop(L, 3);
    luaL_Buffer code;
    luaL_buffinit(L, &code);
    for (int n = 1, count = (int)lua_objlen(L, 3); n <= count; n++) {
        lua_rawgeti(L, 3, n);
        luaL_addvalue(&code);
    }
    luaL_pushresult(&code);
    size_t size;
    const char *bytes = lua_tolstring(L, -1, &size);
    return load_chunk(L, bytes, size, name);
}

/* Nothing holds back the error that ends a script. */
static void pass_on_kill(lua_State *L)
{
    struct script_engine *e = engine_of(L);
    if (!e->killed)
        return;
    lua_pushstring(L, e->why);
    lua_error(L);
}

/* An error that has a message as its field `err` is given as that message. */
static int guarded_pcall(lua_State *L)
{
    luaL_checkany(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    if (status != 0) {
        pass_on_kill(L);
        if (lua_istable(L, -1)) {
            lua_pushliteral(L, "err");
            lua_rawget(L, -2);
            if (lua_isstring(L, -1))
                lua_replace(L, -2);
            else
                lua_pop(L, 1);
        }
    }
    lua_pushboolean(L, status == 0);
    lua_insert(L, 1);
    return lua_gettop(L);
}

/* The script's handler runs where no hook is called: not while the script is being ended. */
static int handle_error(lua_State *L)
{
    if (engine_of(L)->killed)
        return 1;
    lua_settop(L, 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

static int guarded_xpcall(lua_State *L)
{
    luaL_checkany(L, 2);
    lua_settop(L, 2);
    lua_pushcclosure(L, handle_error, 1);
    lua_insert(L, 1);
    int status = lua_pcall(L, 0, LUA_MULTRET, 1);
    if (status != 0)
        pass_on_kill(L);
    lua_pushboolean(L, status == 0);
    lua_replace(L, 1);
    return lua_gettop(L);
}

static int guarded_resume(lua_State *L)
{
    int results = library(L);
    pass_on_kill(L);
    return results;
}

/* Guards: the libraries ------------------------------------------------------------------------ */

static int guarded_rep(lua_State *L)
{
    size_t size;
    luaL_checklstring(L, 1, &size);
    lua_Number times = luaL_checknumber(L, 2);
    if (size == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if (times > 0 && !(times * (lua_Number)size <= (lua_Number)STRING_MAX))
        return luaL_error(L, "resulting string too large");
    return library(L);
}

/* The generator of Redis's scripts is the 48-bit one of drand48, of which each engine has its
 * own. */
static int64_t next_random(struct script_engine *e)
{
    e->random = (e->random * 0x5deece66dULL + 0xb) & 0xffffffffffffULL;
    return (int64_t)(e->random >> 17);
}

static int random_number(lua_State *L)
{
    lua_Number r = (lua_Number)(next_random(engine_of(L)) % INT32_MAX) / (lua_Number)INT32_MAX;
    int low = 1, high;
    switch (lua_gettop(L)) {
    case 0:
        lua_pushnumber(L, r);
        return 1;
    case 1:
        high = luaL_checkint(L, 1);
        luaL_argcheck(L, 1 <= high, 1, "interval is empty");
        break;
    case 2:
        low = luaL_checkint(L, 1);
        high = luaL_checkint(L, 2);
        luaL_argcheck(L, low <= high, 2, "interval is empty");
        break;
    default:
        return luaL_error(L, "wrong number of arguments");
    }
    lua_Number width = (lua_Number)high - (lua_Number)low + 1, whole = r * width;
    lua_pushnumber(L, (lua_Number)(int64_t)whole + (lua_Number)low);
    return 1;
}

static int seed_random(lua_State *L)
{
    engine_of(L)->random = ((uint64_t)(uint32_t)luaL_checkint(L, 1) << 16) | 0x330e;
    return 0;
}

/* Opening -------------------------------------------------------------------------------------- */

struct guard {
    const char *name;
    lua_CFunction function;
};

static const struct guard global_guards[] = {
    {"rawget", guarded_rawget},         {"rawset", guarded_write}, {"setmetatable", guarded_write},
    {"next", guarded_next},             {"unpack", guarded_unpack}, {"load", guarded_load},
    {"loadstring", guarded_loadstring}, {"pcall", guarded_pcall},  {"xpcall", guarded_xpcall},
    {"collectgarbage", guarded_collectgarbage}, {NULL, NULL}};
static const struct guard string_guards[] = {
    {"find", pattern_find},    {"match", pattern_match}, {"gmatch", pattern_gmatch},
    {"gfind", pattern_gmatch}, {"gsub", pattern_gsub},   {"rep", guarded_rep},
    {NULL, NULL}};
static const struct guard table_guards[] = {
    {"insert", guarded_insert}, {"remove", guarded_write}, {"sort", guarded_sort}, {NULL, NULL}};
static const struct guard math_guards[] = {
    {"random", random_number}, {"randomseed", seed_random}, {NULL, NULL}};
static const struct guard coroutine_guards[] = {{"resume", guarded_resume}, {NULL, NULL}};

/* What is taken from the library; "pairs" is made here. */
static const char *const globals[] = {
    "_VERSION", "assert",  "collectgarbage", "error",      "gcinfo",   "getmetatable",
    "ipairs",   "load",    "loadstring",     "next",       "pcall",    "rawequal",
    "rawget",   "rawset",  "select",         "setmetatable", "tonumber", "tostring",
    "type",     "unpack",  "xpcall",         NULL};

/* Put guards in the place of the fields of the table at the top. */
static void put_guards(lua_State *L, const struct guard *guards)
{
    for (const struct guard *g = guards; g->name != NULL; g++) {
        lua_getfield(L, -1, g->name);
        lua_pushcclosure(L, g->function, 1);
        lua_setfield(L, -2, g->name);
    }
}

/* A library of Lua's own becomes a field of the table at the top. */
static void take_library(lua_State *L, int from, const char *name, const struct guard *guards,
                         const char *drop)
{
    lua_getfield(L, from, name);
    if (guards != NULL)
        put_guards(L, guards);
    if (drop != NULL) {
        lua_pushnil(L);
        lua_setfield(L, -2, drop);
    }
    sandbox_protect(L);
    lua_setfield(L, -2, name);
}

static void add_library(lua_State *L, const char *name, lua_CFunction open)
{
    open(L);
    sandbox_protect(L);
    lua_setfield(L, -2, name);
}

static int no_such_global(lua_State *L)
{
    const char *name = lua_tostring(L, 2);
    return luaL_error(L, "Script attempted to access nonexistent global variable '%s'",
                      name ? name : luaL_typename(L, 2));
}

static void open_libraries(lua_State *L)
{
    static const lua_CFunction open[] = {luaopen_base, luaopen_string, luaopen_table, luaopen_math,
                                         luaopen_os};
    for (size_t i = 0; i < sizeof(open) / sizeof(open[0]); i++) {
        lua_pushcfunction(L, open[i]);
        lua_call(L, 0, 0);
    }
}

static void add_clock(lua_State *L, int from)
{
    lua_newtable(L);
    lua_getfield(L, from, "os");
    lua_getfield(L, -1, "clock");
    lua_setfield(L, -3, "clock");
    lua_pop(L, 1);
    sandbox_protect(L);
    lua_setfield(L, -2, "os");
}

static void add_pairs(lua_State *L, int from)
{
    lua_getfield(L, from, "next");
    lua_getfield(L, -2, "next");
    lua_pushcclosure(L, guarded_pairs, 2);
    lua_setfield(L, -2, "pairs");
}

/* redis, and server, which is the same. */
static void add_api(struct script_engine *e)
{
    lua_State *L = e->lua;
    api_push(e, false);
    lua_pushvalue(L, -1);
    e->api_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    sandbox_protect(L);
    lua_getmetatable(L, -1);
    e->api_meta_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "server");
    lua_setfield(L, -2, "redis");
}

void sandbox_open(struct script_engine *e)
{
    lua_State *L = e->lua;
    open_libraries(L);
    /* The metatable that getmetatable shows of everything shared. */
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->protected_ref);
    lua_newtable(L);
    sandbox_protect(L);
    /* Its own metatable is itself, as far as getmetatable tells. */
    lua_getmetatable(L, -1);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_setfield(L, -2, "metatable");
    lua_pop(L, 1);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    int from = lua_gettop(L);
    lua_newtable(L);
    for (const char *const *name = globals; *name != NULL; name++) {
        lua_getfield(L, from, *name);
        lua_setfield(L, -2, *name);
    }
    put_guards(L, global_guards);
    add_pairs(L, from);
    /* The string metatable's __index is the table that is guarded here, not its stand-in. */
    take_library(L, from, "string", string_guards, "dump");
    take_library(L, from, "table", table_guards, NULL);
    take_library(L, from, "math", math_guards, NULL);
    take_library(L, from, "coroutine", coroutine_guards, NULL);
    add_clock(L, from);
    add_library(L, "cjson", open_cjson);
    add_library(L, "cmsgpack", open_cmsgpack);
    add_library(L, "struct", open_struct);
    add_library(L, "bit", open_bit);
    add_api(e);
    /* "".x: the metatable of strings is not to be changed either. */
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, e->protected_ref);
    lua_getfield(L, -1, "metatable");
    lua_setfield(L, -3, "__metatable");
    lua_pop(L, 3);
    /* A global that is not there is an error. */
    lua_newtable(L);
    lua_pushcfunction(L, no_such_global);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, LUA_REGISTRYINDEX, e->globals_ref);
    lua_pushvalue(L, -1);
    sandbox_protect(L);
    lua_pushvalue(L, -1);
    lua_replace(L, LUA_GLOBALSINDEX);
    lua_pushliteral(L, "_G");
    lua_insert(L, -2);
    lua_rawset(L, -3);
    lua_settop(L, 0);
}
