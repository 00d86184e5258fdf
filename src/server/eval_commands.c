/* SPDX-License-Identifier: BSD-3-Clause
 *
 * EVAL and its relatives, SCRIPT. The scripts that have been run or loaded are kept by their SHA-1
 * until SCRIPT FLUSH, and found by it or by their text, so that EVAL of a script that is known does
 * not compute its SHA-1 again.
 */
#include <openssl/sha.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/number.h"
#include "command/help.h"
#include "handlers.h"
#include "server/scripting.h"

#define SHA_SIZE (2 * SHA_DIGEST_LENGTH)
#define CHAINS_FIRST 64

struct eval_script {
    struct eval_script *next_by_sha, *next_by_text;
    uint64_t sha_hash, text_hash;
    unsigned flags;
    bool plain; /* no shebang */
    char sha[SHA_SIZE];
    size_t size;
    char text[];
};

struct eval_cache {
    struct eval_script **by_sha, **by_text;
    size_t chains, count, bytes;
};

/* The cache ------------------------------------------------------------------------------------ */

struct eval_cache *eval_cache_new(void)
{
    struct eval_cache *cache = mem_zalloc(sizeof(*cache));
    cache->chains = CHAINS_FIRST;
    cache->by_sha = mem_zalloc(cache->chains * sizeof(struct eval_script *));
    cache->by_text = mem_zalloc(cache->chains * sizeof(struct eval_script *));
    return cache;
}

static void clear(struct eval_cache *cache)
{
    for (size_t i = 0; i < cache->chains; i++) {
        for (struct eval_script *s = cache->by_sha[i], *next; s != NULL; s = next) {
            next = s->next_by_sha;
            mem_free(s);
        }
        cache->by_sha[i] = cache->by_text[i] = NULL;
    }
    cache->count = cache->bytes = 0;
}

void eval_cache_free(struct eval_cache *cache)
{
    clear(cache);
    mem_free(cache->by_sha);
    mem_free(cache->by_text);
    mem_free(cache);
}

void eval_cache_memory(const struct eval_cache *cache, struct scripting_memory *m)
{
    m->scripts = cache->bytes + 2 * cache->chains * sizeof(struct eval_script *);
    m->script_count = cache->count;
}

static void link_script(struct eval_cache *cache, struct eval_script *s)
{
    struct eval_script **sha = &cache->by_sha[s->sha_hash & (cache->chains - 1)];
    struct eval_script **text = &cache->by_text[s->text_hash & (cache->chains - 1)];
    s->next_by_sha = *sha;
    *sha = s;
    s->next_by_text = *text;
    *text = s;
}

static void grow(struct eval_cache *cache)
{
    struct eval_script **old = cache->by_sha;
    size_t chains = cache->chains;
    mem_free(cache->by_text);
    cache->chains *= 2;
    cache->by_sha = mem_zalloc(cache->chains * sizeof(struct eval_script *));
    cache->by_text = mem_zalloc(cache->chains * sizeof(struct eval_script *));
    for (size_t i = 0; i < chains; i++) {
        for (struct eval_script *s = old[i], *next; s != NULL; s = next) {
            next = s->next_by_sha;
            link_script(cache, s);
        }
    }
    mem_free(old);
}

static struct eval_script *find_text(const struct eval_cache *cache, struct slice text)
{
    uint64_t hash = hash_bytes(text.data, text.size);
    struct eval_script *s = cache->by_text[hash & (cache->chains - 1)];
    while (s != NULL && (s->text_hash != hash || !slice_equal(slice_of(s->text, s->size), text)))
        s = s->next_by_text;
    return s;
}

static struct eval_script *find_sha(const struct eval_cache *cache, const char sha[SHA_SIZE])
{
    uint64_t hash = hash_bytes(sha, SHA_SIZE);
    struct eval_script *s = cache->by_sha[hash & (cache->chains - 1)];
    while (s != NULL && memcmp(s->sha, sha, SHA_SIZE) != 0)
        s = s->next_by_sha;
    return s;
}

/* A SHA-1 as it was asked for, in whatever case. */
static struct eval_script *find_named(const struct eval_cache *cache, struct slice name)
{
    char sha[SHA_SIZE];
    if (name.size != SHA_SIZE)
        return NULL;
    for (int i = 0; i < SHA_SIZE; i++) {
        char c = name.data[i];
        sha[i] = c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
    }
    return find_sha(cache, sha);
}

static void make_sha(struct slice text, char sha[SHA_SIZE])
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[SHA_DIGEST_LENGTH];
    SHA1((const unsigned char *)text.data, text.size, digest);
    for (int i = 0; i < SHA_DIGEST_LENGTH; i++) {
        sha[2 * i] = hex[digest[i] >> 4];
        sha[2 * i + 1] = hex[digest[i] & 15];
    }
}

/* Compile it unless it is known. NULL: the error was replied. */
static struct eval_script *take_script(struct call *c, struct slice text)
{
    struct scripting *sc = c->server->scripting;
    struct eval_cache *cache = scripting_eval_cache(sc);
    struct eval_script *known = find_text(cache, text);
    if (known != NULL)
        return known;
    struct shebang shebang = {0};
    struct text error = {0};
    bool plain = text.size < 2 || memcmp(text.data, "#!", 2) != 0;
    bool ok = plain || scripting_parse_shebang(text, false, &shebang, &error);
    char sha[SHA_SIZE];
    make_sha(text, sha);
    struct text reason = {0};
    if (ok && !script_compile(scripting_engine(sc, SCRIPT_EVAL), slice_of(sha, SHA_SIZE),
                              slice_of(text.data + shebang.size, text.size - shebang.size),
                              &reason)) {
        text_appendf(&error, "ERR Error compiling script (new function): %s", text_cstr(&reason));
        ok = false;
    }
    if (!ok)
        reply_errorf(c->reply, "%s", text_cstr(&error));
    text_free(&reason);
    text_free(&error);
    if (!ok)
        return NULL;
    if (cache->count == cache->chains)
        grow(cache);
    struct eval_script *s = mem_alloc(sizeof(*s) + text.size);
    *s = (struct eval_script){.text_hash = hash_bytes(text.data, text.size),
                              .sha_hash = hash_bytes(sha, SHA_SIZE),
                              .flags = shebang.flags,
                              .plain = plain,
                              .size = text.size};
    memcpy(s->sha, sha, SHA_SIZE);
    if (text.size != 0)
        memcpy(s->text, text.data, text.size);
    link_script(cache, s);
    cache->count++;
    cache->bytes += sizeof(*s) + text.size;
    return s;
}

/* EVAL ----------------------------------------------------------------------------------------- */

/* Where keys end; false: the error was replied. */
static bool take_key_count(struct call *c, int *count)
{
    int64_t n;
    if (!call_int64(c, c->argv[2], &n, NULL))
        return false;
    if (n > c->argc - 3) {
        reply_error(c->reply, "ERR Number of keys can't be greater than number of args");
        return false;
    }
    if (n < 0) {
        reply_error(c->reply, "ERR Number of keys can't be negative");
        return false;
    }
    *count = (int)n;
    return true;
}

static void eval(struct call *c, bool by_sha, bool read_only)
{
    struct scripting *sc = c->server->scripting;
    int keys;
    struct eval_script *script = NULL;
    if (by_sha && c->argv[1].size != SHA_SIZE) {
        reply_error(c->reply, "NOSCRIPT No matching script. Please use EVAL.");
        return;
    }
    if (!take_key_count(c, &keys))
        return;
    if (by_sha) {
        script = find_named(scripting_eval_cache(sc), c->argv[1]);
        if (script == NULL) {
            reply_error(c->reply, "NOSCRIPT No matching script. Please use EVAL.");
            return;
        }
    } else {
        script = take_script(c, c->argv[1]);
        if (script == NULL)
            return;
    }
    struct scripting_call now = {.call = c,
                                 .engine = scripting_engine(sc, SCRIPT_EVAL),
                                 .flags = script->flags,
                                 .plain = script->plain,
                                 .read_only = read_only,
                                 .run = {.name = slice_of(script->sha, SHA_SIZE),
                                         .keys = c->argv + 3,
                                         .key_count = keys,
                                         .args = c->argv + 3 + keys,
                                         .arg_count = c->argc - 3 - keys}};
    scripting_call(sc, &now);
}

void cmd_eval(struct call *c)
{
    eval(c, false, false);
}

void cmd_eval_ro(struct call *c)
{
    eval(c, false, true);
}

void cmd_evalsha(struct call *c)
{
    eval(c, true, false);
}

void cmd_evalsha_ro(struct call *c)
{
    eval(c, true, true);
}

/* SCRIPT --------------------------------------------------------------------------------------- */

void cmd_script_load(struct call *c)
{
    const struct eval_script *s = take_script(c, c->argv[2]);
    if (s != NULL)
        reply_bulk(c->reply, slice_of(s->sha, SHA_SIZE));
}

void cmd_script_exists(struct call *c)
{
    const struct eval_cache *cache = scripting_eval_cache(c->server->scripting);
    reply_array(c->reply, (size_t)(c->argc - 2));
    for (int i = 2; i < c->argc; i++)
        reply_int(c->reply,
                  c->argv[i].size == SHA_SIZE && find_sha(cache, c->argv[i].data) != NULL);
}

void cmd_script_show(struct call *c)
{
    const struct eval_script *s =
        find_named(scripting_eval_cache(c->server->scripting), c->argv[2]);
    if (s == NULL)
        reply_error(c->reply, "NOSCRIPT No matching script. Please use EVAL.");
    else
        reply_bulk(c->reply, slice_of(s->text, s->size));
}

void cmd_script_flush(struct call *c)
{
    if (c->argc > 3 ||
        (c->argc == 3 && !slice_is(c->argv[2], "sync") && !slice_is(c->argv[2], "async"))) {
        reply_error(c->reply, "ERR SCRIPT FLUSH only support SYNC|ASYNC option");
        return;
    }
    clear(scripting_eval_cache(c->server->scripting));
    scripting_reset_engine(c->server->scripting, SCRIPT_EVAL);
    reply_ok(c->reply);
}

void cmd_script_kill(struct call *c)
{
    scripting_kill(c, SCRIPT_EVAL);
}

void cmd_script_debug(struct call *c)
{
    if (slice_is(c->argv[2], "no"))
        reply_ok(c->reply);
    else if (slice_is(c->argv[2], "yes") || slice_is(c->argv[2], "sync"))
        reply_error(c->reply, "ERR There is no debugger for scripts in this server");
    else
        reply_error(c->reply, "ERR Use SCRIPT DEBUG YES/SYNC/NO");
}

void cmd_script_help(struct call *c)
{
    static const char *const lines[] = {
        "DEBUG (YES|SYNC|NO)",
        "    For clients that ask; there is no debugger, so that only NO is taken.",
        "EXISTS <sha1> [<sha1> ...]",
        "    For each SHA-1 whether its script is kept.",
        "FLUSH [ASYNC|SYNC]",
        "    Forget all scripts.",
        "KILL",
        "    End the script that runs now, unless it has written already.",
        "LOAD <script>",
        "    Keep a script for EVALSHA, without running it.",
        "SHOW <sha1>",
        "    The text of a script that is kept.",
    };
    reply_help(c, "SCRIPT", lines, sizeof(lines) / sizeof(lines[0]));
}
