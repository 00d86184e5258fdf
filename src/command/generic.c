/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Keys whatever their type: deleting, naming, copying, listing them.
 */
#include "base/glob.h"
#include "command/call.h"
#include "handlers.h"

/* ---- deleting and counting ---- */

/* What hangs below a big value is freed by the reclaimer, so DEL costs no more than UNLINK. */
static void delete_keys(struct call *c)
{
    int64_t deleted = 0;
    for (int i = 1; i < c->argc; i++) {
        struct keyref ref;
        call_find_write_any(c, c->argv[i], &ref);
        if (ref.entry == NULL)
            continue;
        keyref_delete(&ref);
        call_changed(c, c->db, ref.key, EVENT_GENERIC, "del", 1);
        deleted++;
    }
    reply_int(c->reply, deleted);
}

void cmd_del(struct call *c)
{
    delete_keys(c);
}

void cmd_unlink(struct call *c)
{
    delete_keys(c);
}

void cmd_exists(struct call *c)
{
    int64_t count = 0;
    for (int i = 1; i < c->argc; i++)
        count += call_peek(c, c->argv[i]) != NULL;
    reply_int(c->reply, count);
}

void cmd_touch(struct call *c)
{
    int64_t count = 0;
    for (int i = 1; i < c->argc; i++)
        count += call_find_any(c, c->argv[i]) != NULL;
    reply_int(c->reply, count);
}

void cmd_type(struct call *c)
{
    const struct entry *e = call_peek(c, c->argv[1]);
    reply_simple(c->reply, e ? entry_type_name(entry_type(e)) : "none");
}

/* ---- names ---- */

static void rename_key(struct call *c, bool only_if_free)
{
    struct keyref from, to;
    call_find_write_any(c, c->argv[1], &from);
    if (from.entry == NULL) {
        reply_error(c->reply, "ERR no such key");
        return;
    }
    bool same = slice_equal(c->argv[1], c->argv[2]);
    if (!same)
        call_find_write_any(c, c->argv[2], &to);
    if (only_if_free && (same || to.entry)) {
        reply_int(c->reply, 0);
        return;
    }
    if (!same) {
        if (to.entry)
            keyref_delete(&to);
        keyref_give(&to, keyref_take(&from));
        call_changed(c, c->db, to.key, EVENT_NEW_KEY, "new", 0);
        call_changed(c, c->db, from.key, EVENT_GENERIC, "rename_from", 1);
        call_changed(c, c->db, to.key, EVENT_GENERIC, "rename_to", 0);
    }
    if (only_if_free)
        reply_int(c->reply, 1);
    else
        reply_ok(c->reply);
}

void cmd_rename(struct call *c)
{
    rename_key(c, false);
}

void cmd_renamenx(struct call *c)
{
    rename_key(c, true);
}

/* The database of this number; NULL when there is none: an error was replied. */
static struct db *parse_db(struct call *c, struct slice s)
{
    int64_t id;
    if (!call_int64(c, s, &id, NULL))
        return NULL;
    if (id < INT32_MIN || id > INT32_MAX) {
        reply_errorf(c->reply, "ERR value is out of range, value must between %d and %d", INT32_MIN,
                     INT32_MAX);
        return NULL;
    }
    if (id < 0 || id >= c->ks->db_count) {
        reply_error(c->reply, "ERR DB index is out of range");
        return NULL;
    }
    return &c->ks->dbs[id];
}

static void reply_same_object(struct call *c)
{
    reply_error(c->reply, "ERR source and destination objects are the same");
}

void cmd_move(struct call *c)
{
    struct db *target = parse_db(c, c->argv[2]);
    if (target == NULL)
        return;
    if (target == c->db) {
        reply_same_object(c);
        return;
    }
    struct keyref from, to;
    call_find_write_any(c, c->argv[1], &from);
    if (from.entry)
        keyref_find(&to, target, from.key, from.hash);
    if (from.entry == NULL || to.entry) {
        reply_int(c->reply, 0);
        return;
    }
    keyref_give(&to, keyref_take(&from));
    call_changed(c, target, to.key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, from.key, EVENT_GENERIC, "move_from", 1);
    call_changed(c, target, to.key, EVENT_GENERIC, "move_to", 0);
    reply_int(c->reply, 1);
}

void cmd_copy(struct call *c)
{
    struct db *target = c->db;
    bool replace = false;
    for (int i = 3; i < c->argc; i++) {
        if (slice_is(c->argv[i], "replace")) {
            replace = true;
        } else if (slice_is(c->argv[i], "db") && i + 1 < c->argc) {
            target = parse_db(c, c->argv[++i]);
            if (target == NULL)
                return;
        } else {
            reply_syntax_error(c->reply);
            return;
        }
    }
    if (target == c->db && slice_equal(c->argv[1], c->argv[2])) {
        reply_same_object(c);
        return;
    }
    const struct entry *from = call_find_any(c, c->argv[1]);
    struct keyref to;
    if (from)
        keyref_find(&to, target, c->argv[2], call_hash(c, c->argv[2]));
    if (from == NULL || (to.entry && !replace)) {
        reply_int(c->reply, 0);
        return;
    }
    keyref_copy_from(&to, from, entry_due(from));
    call_changed(c, target, to.key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, target, to.key, EVENT_GENERIC, "copy_to", 1);
    reply_int(c->reply, 1);
}

/* ---- listing ---- */

struct keys_walk {
    struct call *c;
    struct slice pattern;
    bool all;
    size_t count;
};

static bool visit_key(void *ctx, void *item)
{
    struct keys_walk *walk = ctx;
    struct slice key = entry_key(item);
    if (!entry_has_expired(walk->c->ks, item) &&
        (walk->all || glob_match(walk->pattern, key, false))) {
        reply_bulk(walk->c->reply, key);
        walk->count++;
    }
    return true;
}

void cmd_keys(struct call *c)
{
    struct keys_walk walk = {c, c->argv[1], slice_equal(c->argv[1], SLICE("*")), 0};
    struct reply_mark mark = reply_deferred_begin(c->reply);
    bool done;
    table_walk(&c->db->table, 0, UINT64_MAX, 0, visit_key, &walk, &done);
    reply_deferred_array(c->reply, mark, walk.count);
}

/* When this many random keys in a row were expired, it is left to active expiry to find a better
 * one: it has work then. */
#define RANDOM_TRIES 100

void cmd_randomkey(struct call *c)
{
    for (int i = 0; i < RANDOM_TRIES && c->db->table.count > 0; i++) {
        struct entry *e = table_random(&c->db->table, keyspace_random(c->ks));
        struct slice key = entry_key(e);
        if (!entry_has_expired(c->ks, e)) {
            reply_bulk(c->reply, key);
            return;
        }
        if (!c->ks->importing)
            db_expire(c->db, key, key_hash(key));
    }
    reply_null(c->reply);
}
