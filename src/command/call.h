/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A call: one command being executed. A handler gets it, parses its arguments, calls the type
 * (which knows no client and no reply) and replies with exactly one value. Arguments are slices of
 * the query buffer: valid until the handler returns, and copied by whoever keeps them.
 *
 * What a handler may use is here; what belongs to connections, configuration and the process is
 * behind `server` and `client`, which only the handlers in src/server look into.
 */
#ifndef HF_COMMAND_CALL_H
#define HF_COMMAND_CALL_H

#include "keyspace/keyspace.h"
#include "resp/reply.h"

struct call;
struct call_wait;
struct client;
struct server;
struct command;
struct parser_pieces;

/* What is to be told of changes. `wanted` is false while nobody watches a key or listens to events:
 * then `changed` is not called. */
struct call_hooks {
    bool wanted;
    /* event_class may have EVENT_KEEPS_WATCH; event may be NULL then. */
    void (*changed)(struct call *c, struct db *db, struct slice key, int event_class,
                    const char *event);
    /* Lets the client wait: see command/wait.h. NULL: nobody may. */
    void (*wait)(struct call *c, const struct call_wait *w);
};

struct call_key {
    const char *data; /* of the argument */
    uint64_t hash;
};

struct call {
    struct keyspace *ks;
    struct db *db; /* the client's selected database */
    struct reply *reply;
    const struct command *command;
    const struct slice *argv; /* argv[0] is the command's name */
    int argc;
    int64_t now_ms; /* = ks->now_ms */
    /* Keys that the prefetch stage has hashed already, in the order of argv; see call_hash. */
    const struct call_key *keys;
    int key_count, key_next;
    const struct call_hooks *hooks;
    bool in_exec;          /* one of a transaction's commands */
    bool in_script;        /* called by a script */
    bool no_touch;         /* CLIENT NO-TOUCH: reads leave the access clock alone */
    bool replays;          /* the request is an effect: of the log, or of the primary */
    bool errors_counted;   /* INFO's errorstats have the reply's errors already: a script's */
    bool effect_given;     /* the handler has said what its effect is: see call_effect */
    bool effect_group;     /* what it has given is one group */
    struct stream *stream; /* where effects go; NULL: nobody wants them */
    /* The request's bytes as they came, from the array's head to the last argument's CR LF. Empty
     * when they do not stand in one piece (inline commands, big arguments, queued commands). */
    struct slice request;
    /* The value of a SET without options that came in pieces: argv has no more of it than the first
     * piece then. NULL mostly. */
    struct parser_pieces *pieces;
    struct client *client;
    struct server *server;
};

typedef void command_handler(struct call *c);

/* The hash of a key argument: computed once for the keys of the common commands. Handlers take
 * their keys in order, mostly, so that the place of the last one tells where the next is. */
static inline uint64_t call_hash(struct call *c, struct slice key)
{
    int i = c->key_next;
    if (i < c->key_count) {
        if (c->keys[i].data == key.data)
            return c->keys[i].hash;
        if (i + 1 < c->key_count && c->keys[i + 1].data == key.data)
            return c->keys[c->key_next = i + 1].hash;
        if (c->keys[0].data == key.data)
            return c->keys[c->key_next = 0].hash;
    }
    return key_hash(key);
}

/* Count a read of a key that is not there, and tell who wants to know. */
void call_missed(struct call *c, struct slice key);

/* Find a key to read and note the access and the hit or miss. *e is NULL when it is not there.
 * Returns false when it has another type: -WRONGTYPE was replied. */
bool call_find(struct call *c, struct slice key, enum entry_type type, struct entry **e);
/* The same whatever its type. */
struct entry *call_find_any(struct call *c, struct slice key);
/* The same without noting an access (TTL, EXISTS). */
static inline struct entry *call_peek(struct call *c, struct slice key)
{
    struct entry *e = db_find(c->db, key, call_hash(c, key));
    if (e)
        c->ks->hit_count++;
    else
        call_missed(c, key);
    return e;
}
/* Find a key to write. ref->entry is NULL when it is not there. False: -WRONGTYPE was replied. */
bool call_find_write(struct call *c, struct slice key, enum entry_type type, struct keyref *ref);
void call_find_write_any(struct call *c, struct slice key, struct keyref *ref);
/* The same for a command that reads what it will write (GETSET): it is counted as a hit or miss. */
bool call_find_update(struct call *c, struct slice key, enum entry_type type, struct keyref *ref);
void call_count_read(struct call *c, const struct keyref *ref);

/* The classes of keyspace events, for notify-keyspace-events. */
enum event_class {
    EVENT_GENERIC,
    EVENT_STRING,
    EVENT_LIST,
    EVENT_SET,
    EVENT_HASH,
    EVENT_ZSET,
    EVENT_NEW_KEY,
    EVENT_STREAM
};

/* To be called after each change of a key, once for each event that Redis would publish for it:
 * breaks WATCHes of the key and counts `changes` to dirty (0 when this is a second event of the
 * same change). `event` is NULL for the few changes that Redis publishes none for. */
void call_changed(struct call *c, struct db *db, struct slice key, enum event_class class,
                  const char *event, uint64_t changes);

/* The same for what is no change of the key to those who WATCH it, as in Redis: consumer groups.
 * `event` may be NULL: then nothing is published. */
#define EVENT_KEEPS_WATCH 256
void call_changed_aside(struct call *c, struct db *db, struct slice key, enum event_class class,
                        const char *event, uint64_t changes);

/* Effects. What a command did goes to the stream of effects, from which the log and replicas have
 * it; see persist/log/stream.h. A handler that counted a change (call_changed) need not do
 * anything: its request is the effect. One whose request would not do the very same again - as it
 * depends on the time, on chance, on an order that is another one elsewhere - gives the effect in
 * place of it, in commands that Redis 7.0 knows: absolute times, the members that were taken.
 *
 * Several effects given by one command are put one behind the other; call_effect_group, called
 * before the first, makes them one group, of which a crash leaves all or nothing.
 *
 * The effect of keys that expire (DEL) is given by the keyspace's on_expire, before the command's.
 */
void call_effect_put(struct call *c, const struct db *db, const struct slice *argv, int argc);
static inline void call_effect(struct call *c, const struct db *db, const struct slice *argv,
                               int argc)
{
    if (__builtin_expect(c->stream != NULL, 0))
        call_effect_put(c, db, argv, argc);
}
/* The same with the arguments one by one, which are evaluated only when they are wanted:
 * CALL_EFFECT(c, db, SLICE("DEL"), key). */
#define CALL_EFFECT(c, db, ...)                                                   \
    do {                                                                          \
        if (__builtin_expect((c)->stream != NULL, 0)) {                           \
            const struct slice effect_argv_[] = {__VA_ARGS__};                    \
            call_effect_put(c, db, effect_argv_,                                  \
                            (int)(sizeof(effect_argv_) / sizeof(*effect_argv_))); \
        }                                                                         \
    } while (0)
void call_effect_group(struct call *c);
/* One effect of so many arguments, which follow one by one. Only while c->stream is not NULL. */
void call_effect_begin(struct call *c, const struct db *db, uint64_t argc);
void call_effect_argument(struct call *c, struct slice argument);
/* PEXPIREAT of a key; DEL of it; SET of it, `due` as keyref_put takes it; all that is under it. */
void call_effect_due(struct call *c, const struct db *db, struct slice key, int64_t due);
void call_effect_delete(struct call *c, const struct db *db, struct slice key);
void call_effect_set(struct call *c, const struct db *db, struct slice key, struct slice value,
                     int64_t due);
void call_effect_restore(struct call *c, const struct db *db, struct slice key,
                         const struct entry *e);
/* The command counted a change that need not be told of. */
static inline void call_no_effect(struct call *c)
{
    c->effect_given = true;
}
/* For whoever calls a handler: the call's effects are complete. `changed`: the handler counted a
 * change. */
void call_end_effects(struct call *c, const struct db *db, bool changed);

/* Arguments: on failure they reply (with `error`, or the common text when NULL) and return false.
 */
bool call_int64(struct call *c, struct slice s, int64_t *out, const char *error);
bool call_int64_range(struct call *c, struct slice s, int64_t low, int64_t high, int64_t *out,
                      const char *error);
bool call_double(struct call *c, struct slice s, double *out, const char *error);

#endif
