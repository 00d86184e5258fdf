/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What the files of the engine share. A lua_State finds its engine by engine_of; the registry's
 * fields are named here.
 */
#ifndef HF_SCRIPT_ENGINE_H
#define HF_SCRIPT_ENGINE_H

#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>

#include "script/script.h"

struct script_engine {
    lua_State *lua;
    struct script_host host;
    enum script_kind kind;
    size_t memory, memory_limit;
    uint64_t random;    /* the state of math.random, 48 bits */
    size_t compared;    /* by table.sort since the last look at the clock */
    int pattern_steps;  /* of pattern matching up to the next look */
    unsigned runs;      /* how many scripts have been run */
    int protocol;       /* redis.setresp */
    bool running;
    bool killed;        /* no pcall holds the error back any more */
    const char *why;    /* it was */
    int protected_ref;  /* registry: stand-in -> the table it stands for */
    int scripts_ref;    /* registry: name -> function */
    int globals_ref;    /* registry: the globals as they are */
    int api_ref;        /* registry: `redis` as it is when scripts run */
    int api_meta_ref;   /* registry: the metatable of the stand-in for `redis` */
    struct script_function *loading, **loading_last; /* what a library registers */
    bool in_load;
};

struct script_engine *engine_of(lua_State *L);

/* Errors as scripts see them: a table with `err`. "ERR " is put before a message. Does not
 * return. */
int engine_error(lua_State *L, const char *message);
void engine_push_error(lua_State *L, const char *message);

/* For what runs long without instructions of Lua: as after so many of those, the host looks at the
 * clock; does not return when the script is to be ended. */
void engine_look(lua_State *L);

/* Put an empty table in the place of the table at the top of the stack, which stands for it. */
void sandbox_protect(lua_State *L);
/* Everything that scripts may call but redis.*: leaves the globals behind. */
void sandbox_open(struct script_engine *e);
/* The order of table.sort, which is not interrupted where it compares by itself. */
int sandbox_compare(lua_State *L);
/* Whether the value is a stand-in; then the table it stands for is pushed. */
bool sandbox_real(lua_State *L, int index);

/* redis.* (api.c): pushes the table; `loading`: as a library sees it while it is loaded. */
void api_push(struct script_engine *e, bool loading);

/* A command's error has this field, true, by which it is known from a script's own: as in Redis,
 * where scripts see it, too. */
#define ENGINE_COUNTED "ignore_error_stats_update"
/* Whether the table at the top of the stack has it. */
bool engine_is_counted(lua_State *L);

/* Values (convert.c). */
void convert_reply_to_lua(lua_State *L, struct slice reply);
void convert_lua_to_reply(lua_State *L, struct reply *reply, int script_protocol);

/* Libraries: each pushes its table. */
int open_cjson(lua_State *L);
int open_cmsgpack(lua_State *L);
int open_struct(lua_State *L);
int open_bit(lua_State *L);

/* Functions of `string` (lib_pattern.c) in the place of the library's. */
int pattern_find(lua_State *L);
int pattern_match(lua_State *L);
int pattern_gmatch(lua_State *L);
int pattern_gsub(lua_State *L);

#endif
