/* SPDX-License-Identifier: BSD-3-Clause
 *
 * DEBUG: for tests and for the search for mistakes. Allowed by enable-debug-command only.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/glob.h"
#include "base/log.h"
#include "base/mem.h"
#include "command/help.h"
#include "handlers.h"
#include "os/process.h"
#include "persist/log/stream.h"
#include "persist/rdb/format.h"
#include "server/access.h"
#include "server/config_table.h"
#include "server/defragment.h"
#include "server/durability.h"
#include "server/persistence.h"
#include "server/server.h"
#include "type/digest.h"
#include "type/encoding.h"
#include "type/list.h"
#include "type/member.h"
#include "type/string.h"
#include "type/zset.h"

static void debug_help(struct call *c)
{
    static const char *const lines[] = {
        "DEFRAG-EVERYTHING <0|1>",
        "    Move all blocks of all keys all the time, to find who does not expect it.",
        "DIGEST",
        "    A digest of all keys and values; redis-server gives the same for the same data.",
        "DIGEST-VALUE <key> [<key> ...]",
        "    A digest of the value of each key.",
        "ERROR <text>",
        "    Reply this error.",
        "LISTPACK <key>",
        "    Print the elements of a value that is kept as a listpack on standard output.",
        "LOADAOF",
        "    Forget the data, and load what the log has. The server ends if that fails.",
        "LOG <text>",
        "    Write this to the log.",
        "OBJECT <key>",
        "    How a value is kept.",
        "PANIC",
        "    Abort, as after a mistake in the program: leaves a crash report.",
        "POPULATE <count> [<prefix>] [<size>]",
        "    Create string keys <prefix>:<number> (\"key\") with values of a size.",
        "PROTOCOL <type>",
        "    A reply of this type: string, integer, double, bignum, null, array, set, map, attrib, "
        "push,",
        "    verbatim, true, false.",
        "QUICKLIST-PACKED-THRESHOLD <size>",
        "    Accepted for tests that set it; lists have no nodes of that kind here.",
        "RELOAD [NOSAVE] [NOFLUSH] [MERGE]",
        "    Save the data (or not), forget it (or not), and load the file and the incremental "
        "snapshots",
        "    that follow it. With MERGE a key that is in memory, too, is taken from them; else it "
        "is",
        "    refused.",
        "SEGFAULT",
        "    Crash by SIGSEGV: leaves a crash report.",
        "SET-ACTIVE-EXPIRE <0|1>",
        "    Whether keys that are due are removed without being asked for.",
        "SLEEP <seconds>",
        "    Do nothing for so long.",
        "STRINGMATCH-LEN <pattern> <string>",
        "    1 if the pattern matches the string, else 0.",
    };
    reply_help(c, "DEBUG", lines, sizeof(lines) / sizeof(lines[0]));
}

/* The entry of a key, or NULL: an error was replied. */
static struct entry *find_key(struct call *c, struct slice key)
{
    struct entry *e = db_find(c->db, key, key_hash(key));
    if (!e)
        reply_error(c->reply, "ERR no such key");
    return e;
}

/* As C's strtod: 0 for what is no number. */
static double to_double(struct slice s)
{
    char text[64];
    size_t size = s.size < sizeof(text) ? s.size : sizeof(text) - 1;
    memcpy(text, s.data, size);
    text[size] = '\0';
    return strtod(text, NULL);
}

static void debug_sleep(struct call *c)
{
    double seconds = to_double(c->argv[2]);
    if (seconds > 0 && seconds < 1e9)
        os_sleep_us((int64_t)(seconds * 1e6));
    reply_ok(c->reply);
}

static bool discard(void *ctx, const void *data, size_t size)
{
    (void)ctx;
    (void)data;
    (void)size;
    return true;
}

/* How many bytes the value takes in an RDB file. */
static uint64_t saved_size(const struct server *s, const struct entry *e)
{
    struct rdb_writer w;
    rdb_writer_init(&w, 4096, discard, NULL);
    w.compress = s->config->rdbcompression;
    w.version = entry_timed(e) > 0 ? RDB_VERSION_TIMED : RDB_VERSION_DEFAULT;
    rdb_save_value(&w, e);
    uint64_t size = w.written + w.used;
    rdb_writer_deinit(&w);
    return size;
}

static void debug_object(struct call *c)
{
    struct entry *e = find_key(c, c->argv[2]);
    if (!e)
        return;
    char text[256];
    snprintf(text, sizeof(text),
             "Value at:%p refcount:%lld encoding:%s serializedlength:%llu lru:%u "
             "lru_seconds_idle:%u",
             (void *)e, (long long)type_reference_count(e), type_encoding_name(e, &c->ks->limits),
             (unsigned long long)saved_size(c->server, e), entry_clock(e),
             c->ks->lfu ? 0 : entry_idle_seconds(c->ks, e));
    reply_simple(c->reply, text);
}

static void reply_digest(struct call *c, const struct digest *d)
{
    char hex[2 * DIGEST_SIZE + 1];
    digest_to_hex(d, hex);
    reply_simple(c->reply, hex);
}

static void debug_digest(struct call *c)
{
    struct digest d = {{0}};
    digest_keyspace(&d, c->ks);
    reply_digest(c, &d);
}

static void debug_digest_value(struct call *c)
{
    reply_array(c->reply, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++) {
        struct digest d = {{0}};
        const struct entry *e = db_find(c->db, c->argv[i], key_hash(c->argv[i]));
        if (e)
            digest_value(&d, e);
        reply_digest(c, &d);
    }
}

static bool positive(struct call *c, struct slice s, int64_t *out)
{
    return call_int64_range(c, s, 0, INT64_MAX, out, "ERR value is out of range, must be positive");
}

static void debug_populate(struct call *c)
{
    int64_t count, size = -1;
    if (!positive(c, c->argv[2], &count) || (c->argc == 5 && !positive(c, c->argv[4], &size)))
        return;
    if (size > 512LL << 20) {
        reply_error(c->reply, "ERR value is out of range, must be positive");
        return;
    }
    struct slice prefix = c->argc > 3 ? c->argv[3] : SLICE("key");
    size_t key_room = prefix.size + 24;
    size_t value_room = size > 32 ? (size_t)size : 32;
    char *key = mem_alloc(key_room), *value = mem_zalloc(value_room);
    memcpy(key, prefix.data, prefix.size);
    for (int64_t i = 0; i < count; i++) {
        int key_size = snprintf(key + prefix.size, 24, ":%lld", (long long)i);
        struct slice k = slice_of(key, prefix.size + (size_t)key_size);
        struct keyref ref;
        keyref_find(&ref, c->db, k, key_hash(k));
        if (ref.entry)
            continue;
        char text[32];
        int n = snprintf(text, sizeof(text), "value:%lld", (long long)i);
        memcpy(value, text, (size_t)n);
        /* Without a size the value is the text; with one it is cut, or filled up with zeros. */
        string_set(&ref, slice_of(value, size >= 0 ? (size_t)size : (size_t)n), ENTRY_NO_EXPIRY);
        call_changed(c, c->db, k, EVENT_NEW_KEY, "new", 1);
    }
    durability_note_unlogged(c->server);
    mem_free(key);
    mem_free(value);
    reply_ok(c->reply);
}

static void debug_set_active_expire(struct call *c)
{
    c->server->expire_disabled = (int)to_double(c->argv[2]) == 0;
    reply_ok(c->reply);
}

static void debug_defrag_everything(struct call *c)
{
    defragment_everything(c->server->defragment, (int)to_double(c->argv[2]) != 0);
    reply_ok(c->reply);
}

static void debug_reload(struct call *c)
{
    bool save = true, flush = true, merge = false;
    for (int i = 2; i < c->argc; i++) {
        if (slice_is(c->argv[i], "nosave")) {
            save = false;
        } else if (slice_is(c->argv[i], "noflush")) {
            flush = false;
        } else if (slice_is(c->argv[i], "merge")) {
            merge = true;
        } else {
            reply_error(c->reply,
                        "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.");
            return;
        }
    }
    struct error err = {0};
    persistence_give_up(c->server);
    durability_note_unlogged(c->server);
    if (save && !persistence_save(c->server, &err)) {
        reply_errorf(c->reply, "ERR %s", err.message);
        return;
    }
    if (!loading_reload(c->server, c->client, flush, merge, &err)) {
        log_warning("DEBUG RELOAD: %s", err.message);
        reply_error(c->reply, "ERR Error trying to load the RDB dump, check server logs.");
        return;
    }
    log_warning("DB reloaded by DEBUG RELOAD");
    reply_ok(c->reply);
}

static void debug_loadaof(struct call *c)
{
    struct server *s = c->server;
    const struct config *config = s->config;
    struct error err = {0};
    struct manifest manifest;
    if (s->stream != NULL && stream_in_group(s->stream)) {
        reply_error(c->reply,
                    "ERR DEBUG LOADAOF is not possible in a transaction, of which the log has "
                    "nothing yet");
        return;
    }
    persistence_give_up(s);
    bool ok = durability_settle(s, 0, &err) &&
              manifest_read(&manifest, config->appenddirname, config->appendfilename, &err);
    if (!ok) {
        log_warning("DEBUG LOADAOF: %s", err.message);
        reply_error(c->reply, "ERR Error trying to load the AOF files, check server logs.");
        return;
    }
    manifest_free(&manifest);
    if (!loading_reload_log(s, c->client, &err)) {
        /* What is in memory now must not be served, nor saved, nor go on in the log. */
        log_warning("DEBUG LOADAOF: %s. The server ends; the files are as they were", err.message);
        _exit(1);
    }
    durability_note_replayed(s);
    log_warning("Append Only File loaded by DEBUG LOADAOF");
    reply_ok(c->reply);
}

static void debug_segfault(struct call *c)
{
    (void)c;
    raise(SIGSEGV);
}

static void debug_panic(struct call *c)
{
    (void)c;
    log_warning("Asked to panic by DEBUG PANIC");
    abort();
}

static void print_item(size_t i, struct slice s)
{
    struct text t = {0};
    text_append_quoted(&t, s);
    printf("%zu: %s\n", i, text_cstr(&t));
    text_free(&t);
}

static void debug_listpack(struct call *c)
{
    struct entry *e = find_key(c, c->argv[2]);
    if (!e)
        return;
    if (strcmp(type_encoding_name(e, &c->ks->limits), "listpack") != 0) {
        reply_error(c->reply, "ERR Not a listpack encoded object.");
        return;
    }
    size_t n = 0;
    struct slice item;
    if (entry_type(e) == ENTRY_LIST) {
        struct list_iter it;
        list_iter_init(&it, e, 0, false);
        while (list_iter_next(&it, &item))
            print_item(n++, item);
    } else if (entry_type(e) == ENTRY_ZSET) {
        struct zset_iter it;
        struct zset_item pair;
        zset_iter_init(&it, e, 0, false);
        while (zset_iter_next(&it, &pair)) {
            char score[NUMBER_DOUBLE_SIZE];
            size_t size = number_format_double(score, pair.score);
            print_item(n++, pair.member);
            print_item(n++, slice_of(score, size));
        }
    } else {
        struct member_iter it;
        struct dict_item pair;
        member_iter_init(&it, e);
        while (member_iter_next(&it, &pair)) {
            print_item(n++, pair.key);
            if (entry_type(e) == ENTRY_HASH)
                print_item(n++, pair.value);
        }
    }
    fflush(stdout);
    reply_simple(c->reply, "Listpack structure printed on stdout");
}

static void debug_packed_threshold(struct call *c)
{
    int64_t bytes;
    if (!config_parse_memory(c->argv[2], &bytes) || bytes >= 4LL << 30)
        reply_error(c->reply,
                    "ERR argument must be a memory value bigger than 1 and smaller than 4gb");
    else
        reply_ok(c->reply);
}

/* One reply of each type, for who writes a client. */
static void debug_protocol(struct call *c)
{
    struct reply *r = c->reply;
    struct slice type = c->argv[2];
    if (slice_is(type, "string")) {
        reply_bulk_cstr(r, "Hello World");
    } else if (slice_is(type, "integer")) {
        reply_int(r, 12345);
    } else if (slice_is(type, "double")) {
        reply_double(r, 3.141);
    } else if (slice_is(type, "bignum")) {
        reply_bignum(r, SLICE("1234567999999999999999999999999999999"));
    } else if (slice_is(type, "null")) {
        reply_null(r);
    } else if (slice_is(type, "true") || slice_is(type, "false")) {
        reply_bool(r, slice_is(type, "true"));
    } else if (slice_is(type, "verbatim")) {
        reply_verbatim(r, SLICE("This is a verbatim\nstring"), "txt");
    } else if (slice_is(type, "array") || slice_is(type, "set")) {
        if (slice_is(type, "set"))
            reply_set(r, 3);
        else
            reply_array(r, 3);
        for (int i = 0; i < 3; i++)
            reply_int(r, i);
    } else if (slice_is(type, "map")) {
        reply_map(r, 3);
        for (int i = 0; i < 3; i++) {
            reply_int(r, i);
            reply_bool(r, i == 1);
        }
    } else if (slice_is(type, "attrib")) {
        if (r->protocol > 2) {
            reply_header(r, '|', 1);
            reply_bulk_cstr(r, "key-popularity");
            reply_array(r, 2);
            reply_bulk_cstr(r, "key:123");
            reply_int(r, 90);
        }
        reply_bulk_cstr(r, "Some real reply following the attribute");
    } else if (slice_is(type, "push") && r->protocol == 2) {
        reply_error(r, "ERR RESP2 is not supported by this command");
    } else if (slice_is(type, "push")) {
        reply_push(r, 2);
        reply_bulk_cstr(r, "server-cpu-usage");
        reply_int(r, 42);
        reply_bulk_cstr(r, "Some real reply following the push reply");
    } else {
        reply_error(r, "ERR Wrong protocol type name. Please use one of the following: "
                       "string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|"
                       "true|false");
    }
}

static void debug_error(struct call *c)
{
    reply_errorf(c->reply, "%.*s", (int)c->argv[2].size, c->argv[2].data);
}

static void debug_log(struct call *c)
{
    log_warning("DEBUG LOG: %.*s", (int)c->argv[2].size, c->argv[2].data);
    reply_ok(c->reply);
}

static void debug_stringmatch(struct call *c)
{
    reply_int(c->reply, glob_match(c->argv[2], c->argv[3], false));
}

static const struct {
    const char *name;
    int least, most; /* arguments, "DEBUG" and the name included */
    void (*run)(struct call *c);
} subcommands[] = {
    {"help", 2, 2, debug_help},
    {"sleep", 3, 3, debug_sleep},
    {"object", 3, 3, debug_object},
    {"digest", 2, 2, debug_digest},
    {"digest-value", 2, INT32_MAX, debug_digest_value},
    {"populate", 3, 5, debug_populate},
    {"set-active-expire", 3, 3, debug_set_active_expire},
    {"defrag-everything", 3, 3, debug_defrag_everything},
    {"segfault", 2, 2, debug_segfault},
    {"panic", 2, INT32_MAX, debug_panic},
    {"reload", 2, INT32_MAX, debug_reload},
    {"loadaof", 2, INT32_MAX, debug_loadaof},
    {"listpack", 3, 3, debug_listpack},
    {"protocol", 3, 3, debug_protocol},
    {"error", 3, 3, debug_error},
    {"log", 3, 3, debug_log},
    {"quicklist-packed-threshold", 3, 3, debug_packed_threshold},
    {"stringmatch-len", 4, 4, debug_stringmatch},
};

void cmd_debug(struct call *c)
{
    if (!access_allowed(c, c->server->config->enable_debug_command)) {
        reply_error(c->reply,
                    "ERR DEBUG command not allowed. If the enable-debug-command option is set to "
                    "\"local\", you can run it from a local connection, otherwise you need to set "
                    "this option in the configuration file, and then restart the server.");
        return;
    }
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
        if (slice_is(c->argv[1], subcommands[i].name) && c->argc >= subcommands[i].least &&
            c->argc <= subcommands[i].most) {
            subcommands[i].run(c);
            return;
        }
    }
    int size = c->argv[1].size > 128 ? 128 : (int)c->argv[1].size;
    reply_errorf(c->reply,
                 "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try DEBUG HELP.",
                 size, c->argv[1].data);
}
