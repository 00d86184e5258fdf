/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Scripts and functions in the server: what the engine (script/script.h) needs of it, the scripts
 * that EVAL and SCRIPT LOAD have kept, and the libraries of functions.
 *
 * A script runs within the command that calls it. Its effects are one group in the stream; the
 * command itself is never logged. What it calls passes the checks that dispatch makes.
 *
 * One that runs longer than busy-reply-threshold is interrupted now and then: others are served,
 * but get -BUSY to all but a few commands, among them those that end the script. The requests of
 * the batch that the script's own request was part of are put off before (server/batch.h).
 *
 * The code of the libraries is the keyspace's (keyspace/libraries.h), as it is in snapshots and
 * files; what is compiled of it is made anew whenever that has become another.
 */
#ifndef HF_SERVER_SCRIPTING_H
#define HF_SERVER_SCRIPTING_H

#include "base/error.h"
#include "script/script.h"
#include "server/client.h"

struct scripting;

struct scripting *scripting_new(struct server *s);
void scripting_free(struct scripting *sc);
/* After the configuration was changed. */
void scripting_configure(struct scripting *sc);

/* How a script or function is to be called. */
struct scripting_call {
    struct call *call;         /* of EVAL, FCALL: where the reply goes */
    struct script_engine *engine;
    struct script_run run;
    unsigned flags;            /* enum script_flag */
    bool plain;                /* EVAL without a shebang: each command is checked by itself */
    bool read_only;            /* EVAL_RO, FCALL_RO */
};
void scripting_call(struct scripting *sc, struct scripting_call *sccall);

/* The engines; functions with SCRIPT_FUNCTIONS. */
struct script_engine *scripting_engine(struct scripting *sc, enum script_kind kind);
/* A new one in the place of the engine: everything it kept is gone. */
void scripting_reset_engine(struct scripting *sc, enum script_kind kind);

/* The code of a library is about to run. */
void scripting_begin_load(struct scripting *sc);

/* "SHEBANG key=value ...": the first line of a script. False: `error` has the text for the
 * reply. */
struct shebang {
    struct slice engine; /* "lua", as given */
    struct slice name;   /* of a library; data NULL: not given */
    unsigned flags;
    size_t size;         /* of the line, without its end */
};
bool scripting_parse_shebang(struct slice code, bool library, struct shebang *out,
                             struct text *error);

/* SCRIPT KILL, FUNCTION KILL. */
void scripting_kill(struct call *c, enum script_kind kind);
/* What runs now: its name and command, since when; false: nothing. */
struct scripting_now {
    struct slice name;
    const struct slice *argv;
    int argc;
    int64_t duration_ms;
    enum script_kind kind;
};
bool scripting_running(const struct scripting *sc, struct scripting_now *now);

/* For INFO and MEMORY STATS. */
struct scripting_memory {
    size_t eval_vm, functions_vm; /* what Lua holds */
    size_t scripts, functions;    /* what is kept of them beside */
    size_t script_count, function_count, library_count;
};
void scripting_memory(const struct scripting *sc, struct scripting_memory *m);

/* Of the two files of commands, for the above. */
struct eval_cache;
struct eval_cache *eval_cache_new(void);
void eval_cache_free(struct eval_cache *cache);
struct eval_cache *scripting_eval_cache(struct scripting *sc);
void eval_cache_memory(const struct eval_cache *cache, struct scripting_memory *m);

struct library_set;
struct library_set *library_set_new(void);
void library_set_free(struct library_set *set);
struct library_set *scripting_library_set(struct scripting *sc);
void library_set_memory(const struct library_set *set, struct scripting_memory *m);
/* Compile the keyspace's libraries if they are not those that were compiled. */
void library_set_update(struct server *s);
/* The same for data that was loaded: false when a library does not compile, or not run. Whoever
 * starts without it would miss what clients call, and find out late. */
bool library_set_load(struct server *s, struct error *err);

#endif
