/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Strings as whole values, one key at a time: GET, SET and their relatives.
 */
#include "command/expire_args.h"
#include "command/string_common.h"
#include "handlers.h"
#include "resp/parser.h"

static_assert(PARSER_PIECE_HEAD == ROPE_HEAD && PARSER_PIECE == ROPE_CHUNK,
              "what the parser reads in pieces becomes a rope as it is");
static_assert(PARSER_BIG_MIN > ENTRY_EMBED_MAX, "and is one by its size");

void cmd_get(struct call *c)
{
    struct entry *e;
    if (call_find(c, c->argv[1], ENTRY_STRING, &e))
        reply_string(c->reply, e);
}

void cmd_strlen(struct call *c)
{
    struct entry *e;
    if (call_find(c, c->argv[1], ENTRY_STRING, &e))
        reply_int(c->reply, e ? (int64_t)string_size(e) : 0);
}

void cmd_digest(struct call *c)
{
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_STRING, &e))
        return;
    if (e == NULL) {
        reply_null(c->reply);
        return;
    }
    char digest[STRING_DIGEST_SIZE];
    string_digest(e, digest);
    reply_bulk(c->reply, slice_of(digest, sizeof(digest)));
}

/* ---- SET ---- */

struct set_args {
    struct condition condition;
    struct expire_args expire;
    bool get;
};

/* One option at argv[*i]. False when it is none or does not go with those before. */
static bool take_set_option(struct call *c, struct set_args *args, int *i)
{
    const unsigned allowed = EXPIRE_TIMES | EXPIRE_KEEPTTL;
    enum expire_args_result r = expire_args_take(&args->expire, allowed, c->argv, c->argc, i);
    if (r != EXPIRE_ARGS_OTHER)
        return r == EXPIRE_ARGS_TAKEN;
    if (slice_is(c->argv[*i], "get")) {
        args->get = true;
        return true;
    }
    struct condition condition = {CONDITION_NONE, {NULL, 0}};
    if (slice_is(c->argv[*i], "nx"))
        condition.kind = CONDITION_NX;
    else if (slice_is(c->argv[*i], "xx"))
        condition.kind = CONDITION_XX;
    else if (!condition_take(&condition, c->argv, c->argc, i))
        return false;
    /* NX may be given twice, but not with XX. */
    if (args->condition.kind != CONDITION_NONE && args->condition.kind != condition.kind)
        return false;
    args->condition = condition;
    return true;
}

static bool parse_set_args(struct call *c, struct set_args *args)
{
    for (int i = 3; i < c->argc; i++) {
        if (!take_set_option(c, args, &i)) {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

static void set_with_options(struct call *c)
{
    struct set_args args = {0};
    if (!parse_set_args(c, &args))
        return;
    int64_t due = args.expire.option == EXPIRE_KEEPTTL ? KEYREF_KEEP_DUE : ENTRY_NO_EXPIRY;
    bool expires = args.expire.option & EXPIRE_TIMES;
    if (expires && !expire_args_due(c, &args.expire, &due))
        return;

    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    if (args.get)
        call_count_read(c, &ref);
    if (args.get && ref.entry && entry_type(ref.entry) != ENTRY_STRING) {
        reply_wrong_type(c->reply);
        return;
    }
    bool holds;
    if (!condition_check(c, &args.condition, ref.entry, &holds))
        return;
    if (args.get)
        reply_string(c->reply, ref.entry);
    if (holds) {
        string_set_and_tell(c, &ref, c->argv[2], due);
        if (expires)
            call_changed(c, c->db, ref.key, EVENT_GENERIC, "expire", 0);
        call_effect_set(c, c->db, ref.key, c->argv[2], due);
    }
    if (args.get)
        return;
    if (holds)
        reply_ok(c->reply);
    else
        reply_null(c->reply);
}

void cmd_set(struct call *c)
{
    if (c->argc > 3) {
        set_with_options(c);
        return;
    }
    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    if (__builtin_expect(c->pieces != NULL, 0)) {
        bool is_new = ref.entry == NULL;
        string_set_blocks(&ref, c->pieces->blocks, c->pieces->size, ENTRY_NO_EXPIRY);
        string_changed(c, ref.key, is_new, "set");
    } else {
        string_set_and_tell(c, &ref, c->argv[2], ENTRY_NO_EXPIRY);
    }
    reply_ok(c->reply);
}

void cmd_setnx(struct call *c)
{
    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    bool is_new = ref.entry == NULL;
    if (is_new)
        string_set_and_tell(c, &ref, c->argv[2], ENTRY_NO_EXPIRY);
    reply_int(c->reply, is_new);
}

static void set_expiring(struct call *c, enum expire_option unit)
{
    struct expire_args expire = {unit, c->argv[2]};
    int64_t due;
    if (!expire_args_due(c, &expire, &due))
        return;
    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    string_set_and_tell(c, &ref, c->argv[3], due);
    call_changed(c, c->db, ref.key, EVENT_GENERIC, "expire", 0);
    call_effect_set(c, c->db, ref.key, c->argv[3], due);
    reply_ok(c->reply);
}

void cmd_setex(struct call *c)
{
    set_expiring(c, EXPIRE_EX);
}

void cmd_psetex(struct call *c)
{
    set_expiring(c, EXPIRE_PX);
}

/* ---- reading and writing at once ---- */

void cmd_getset(struct call *c)
{
    struct keyref ref;
    if (!call_find_update(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    reply_string(c->reply, ref.entry);
    string_set_and_tell(c, &ref, c->argv[2], ENTRY_NO_EXPIRY);
    call_effect_set(c, c->db, ref.key, c->argv[2], ENTRY_NO_EXPIRY);
}

static void delete_and_tell(struct call *c, struct keyref *ref)
{
    keyref_delete(ref);
    call_changed(c, c->db, ref->key, EVENT_GENERIC, "del", 1);
    call_effect_delete(c, c->db, ref->key);
}

void cmd_getdel(struct call *c)
{
    struct keyref ref;
    if (!call_find_update(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    reply_string(c->reply, ref.entry);
    if (ref.entry)
        delete_and_tell(c, &ref);
}

void cmd_getex(struct call *c)
{
    struct expire_args expire = {0};
    for (int i = 2; i < c->argc; i++) {
        if (expire_args_take(&expire, EXPIRE_TIMES | EXPIRE_PERSIST, c->argv, c->argc, &i) !=
            EXPIRE_ARGS_TAKEN) {
            reply_syntax_error(c->reply);
            return;
        }
    }
    struct keyref ref;
    if (!call_find_update(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    if (ref.entry == NULL) {
        reply_null(c->reply);
        return;
    }
    int64_t due = ENTRY_NO_EXPIRY;
    if (expire.option & EXPIRE_TIMES && !expire_args_due(c, &expire, &due))
        return;

    reply_string(c->reply, ref.entry);
    if (expire.option & EXPIRE_TIMES) {
        if (due <= c->now_ms && !c->ks->importing) {
            delete_and_tell(c, &ref);
        } else {
            keyref_set_due(&ref, due);
            call_changed(c, c->db, ref.key, EVENT_GENERIC, "expire", 1);
            call_effect_due(c, c->db, ref.key, due);
        }
    } else if (expire.option == EXPIRE_PERSIST && entry_due(ref.entry) != ENTRY_NO_EXPIRY) {
        keyref_set_due(&ref, ENTRY_NO_EXPIRY);
        call_changed(c, c->db, ref.key, EVENT_GENERIC, "persist", 1);
        CALL_EFFECT(c, c->db, SLICE("PERSIST"), ref.key);
    }
}

/* ---- deleting on a condition ---- */

static void delete_if(struct call *c, const struct condition *condition)
{
    struct keyref ref;
    call_find_write_any(c, c->argv[1], &ref);
    bool holds;
    if (!condition_check(c, condition, ref.entry, &holds))
        return;
    bool deleted = ref.entry != NULL && holds;
    if (deleted)
        delete_and_tell(c, &ref);
    reply_int(c->reply, deleted);
}

void cmd_delifeq(struct call *c)
{
    struct condition condition = {CONDITION_IFEQ, c->argv[2]};
    delete_if(c, &condition);
}

void cmd_delex(struct call *c)
{
    struct condition condition = {CONDITION_NONE, {NULL, 0}};
    int i = 2;
    if (c->argc > 2 && (!condition_take(&condition, c->argv, c->argc, &i) || i + 1 != c->argc)) {
        reply_syntax_error(c->reply);
        return;
    }
    delete_if(c, &condition);
}
