/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The script engine: Lua 5.1 in a sandbox, with the interface that scripts know from Redis
 * (redis.call, KEYS, cjson, ...). It knows no client and no keyspace: what a script does is done by
 * its host, whose functions it is given.
 *
 *     engine = script_engine_new(&host)
 *     script_compile(engine, name, code) ... script_run(engine, &run, reply)
 *
 * Sandbox. The library is the plain Lua of the system, which has no read-only tables. Scripts see
 * each shared table (the globals, `redis`, `string`, ...) as an empty table that stands for it:
 * reads pass through, writes are refused, also by rawset and table.insert, and its metatable cannot
 * be had. Of the libraries only what computes is there: no files, no modules, no debug, no byte
 * code in or out, no getfenv and setfenv, no newproxy (so that there are no finalizers). Functions
 * of the library that trust their arguments too much (unpack, patterns, load) are guarded:
 * sandbox.c.
 *
 * Memory. All of Lua's comes from base/mem by one allocator, which counts, and which refuses beyond
 * a limit: the script gets "not enough memory".
 *
 * Time. Every so many instructions the host is asked whether to go on. When it says no the script
 * gets an error that no pcall of its own holds back.
 *
 * All functions are the executor's.
 */
#ifndef HF_SCRIPT_SCRIPT_H
#define HF_SCRIPT_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/text.h"
#include "resp/reply.h"

struct script_engine;

enum script_kind {
    SCRIPT_EVAL,     /* chunks that run by themselves, keys and arguments in KEYS and ARGV */
    SCRIPT_FUNCTIONS /* libraries that register functions, which get them as arguments */
};

struct script_host {
    void *ctx;
    /* Execute a command for redis.call: its reply goes to `reply`, errors too. */
    void (*call)(void *ctx, const struct slice *argv, int argc, struct reply *reply);
    /* After every so many instructions. False: the script is to be ended, with `why`. */
    bool (*go_on)(void *ctx, const char **why);
    /* redis.acl_check_cmd: 1 allowed, 0 not allowed, -1 no such command. */
    int (*may_call)(void *ctx, const struct slice *argv, int argc);
    /* redis.log: level 0 (debug) to 3 (warning). */
    void (*log)(void *ctx, int level, struct slice message);
    /* The script's reply has an error of its own making, with this code ("ERR"), not one that
     * `call` replied. May be NULL. */
    void (*own_error)(void *ctx, const char *code);
    const char *version; /* of Redis: "7.0.15" */
};

struct script_engine *script_engine_new(enum script_kind kind, const struct script_host *host);
void script_engine_free(struct script_engine *e);
/* 0: none. */
void script_engine_set_memory_limit(struct script_engine *e, size_t bytes);
size_t script_engine_memory(const struct script_engine *e); /* bytes that Lua holds */

/* Compile a chunk (without a shebang's first line, of which the line end stays) and keep it under
 * `name`, replacing what was there. False: the reason is in `error`, without a code. */
bool script_compile(struct script_engine *e, struct slice name, struct slice code,
                    struct text *error);
bool script_is_kept(struct script_engine *e, struct slice name);

/* What the function at redis.register_function was given, in the order of the calls. */
struct script_function {
    struct script_function *next;
    char *name, *description; /* description may be NULL */
    unsigned flags;           /* enum script_flag */
    int ref;                  /* of the callback, for script_run */
};

enum script_flag {
    SCRIPT_NO_WRITES = 1U << 0,
    SCRIPT_ALLOW_OOM = 1U << 1,
    SCRIPT_ALLOW_STALE = 1U << 2,
    SCRIPT_NO_CLUSTER = 1U << 3,
    SCRIPT_CROSS_SLOT = 1U << 4,
    SCRIPT_FLAG_COUNT = 5
};
/* "no-writes" and so on; false: there is no such flag. */
bool script_flag_parse(struct slice name, unsigned *flag);
const char *script_flag_name(unsigned flag);
/* Of a library or function: letters, digits and underscores. */
bool script_name_is_valid(struct slice name);

/* Run a library's code, which registers its functions. *functions is a list that the caller frees
 * with script_functions_free. False: error says why, nothing is registered. */
bool script_load_library(struct script_engine *e, struct slice code,
                         struct script_function **functions, struct text *error);
void script_functions_free(struct script_engine *e, struct script_function *list);

struct script_run {
    struct slice name; /* of what script_compile kept; or for messages, with ref */
    int ref;           /* of a function, with SCRIPT_FUNCTIONS */
    const struct slice *keys, *args;
    int key_count, arg_count;
};

/* Run it and reply with what it gives, one value. False: it has failed, and the error was
 * replied. */
bool script_run(struct script_engine *e, const struct script_run *run, struct reply *reply);

#endif
