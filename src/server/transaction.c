/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/transaction.h"

#include "base/mem.h"
#include "handlers.h"
#include "server/acl.h"
#include "persist/log/stream.h"
#include "server/dispatch.h"
#include "server/hold.h"

struct transaction {
    struct queued_command *first, **last;
    size_t count;
    size_t bytes;
    uint32_t flags, lacking; /* that some command has; that some command has not */
};

/* One key watched by one client: in a chain of the table's and in a list of the client's. */
struct watch {
    struct watch *next, **link; /* in the chain; *link points here */
    struct watch *next_of_client;
    struct client *client;
    uint64_t hash;
    uint64_t flush_count; /* the database's, when the watch began */
    int db;
    bool existed; /* there was such a key, not expired */
    uint32_t key_size;
    char key[];
};

#define CHAINS_FIRST 64

/* No two arguments begin at the same place, empty ones neither: call_hash knows keys by it. */
static size_t room_of(struct slice arg)
{
    return arg.size != 0 ? arg.size : 1;
}

struct queued_command *queued_command_new(const struct command *command, const struct slice *argv,
                                          int argc)
{
    size_t bytes = 0;
    for (int i = 0; i < argc; i++)
        bytes += room_of(argv[i]);
    size_t head = sizeof(struct queued_command) + (size_t)argc * sizeof(struct slice);
    struct queued_command *q = mem_alloc(head + bytes);
    *q = (struct queued_command){.command = command, .argc = argc, .size = head + bytes};
    char *to = (char *)q + head;
    for (int i = 0; i < argc; i++) {
        if (argv[i].size != 0)
            memcpy(to, argv[i].data, argv[i].size);
        q->argv[i] = slice_of(to, argv[i].size);
        to += room_of(argv[i]);
    }
    return q;
}

void transaction_queue(struct client *c, const struct command *command, const struct slice *argv,
                       int argc)
{
    struct transaction *t = c->transaction;
    /* EXEC is bound to fail: what is queued is not needed. */
    if (c->flags & (CLIENT_DIRTY_CAS | CLIENT_DIRTY_EXEC))
        return;
    struct queued_command *q = queued_command_new(command, argv, argc);
    *t->last = q;
    t->last = &q->next;
    t->count++;
    t->bytes += q->size;
    t->flags |= command->flags;
    t->lacking |= ~command->flags;
}

static void transaction_free(struct transaction *t)
{
    for (struct queued_command *q = t->first, *next; q != NULL; q = next) {
        next = q->next;
        mem_free(q);
    }
    mem_free(t);
}

void transaction_discard(struct client *c)
{
    if (c->transaction != NULL)
        transaction_free(c->transaction);
    c->transaction = NULL;
    c->flags &= ~(uint32_t)(CLIENT_MULTI | CLIENT_DIRTY_CAS | CLIENT_DIRTY_EXEC);
    watch_forget_all(c);
}

uint32_t transaction_flags(const struct client *c)
{
    return c->transaction != NULL ? c->transaction->flags : 0;
}

uint32_t transaction_lacking(const struct client *c)
{
    return c->transaction != NULL ? c->transaction->lacking : 0;
}

size_t transaction_count(const struct client *c)
{
    return c->transaction != NULL ? c->transaction->count : 0;
}

size_t transaction_memory(const struct client *c)
{
    return c->transaction != NULL ? c->transaction->bytes : 0;
}

struct watch_table *watch_table_new(void)
{
    struct watch_table *t = mem_alloc(sizeof(*t));
    *t = (struct watch_table){.size = CHAINS_FIRST};
    t->chains = mem_zalloc(t->size * sizeof(struct watch *));
    return t;
}

void watch_table_free(struct watch_table *t)
{
    mem_free(t->chains);
    mem_free(t);
}

static void link_watch(struct watch_table *t, struct watch *w)
{
    struct watch **head = &t->chains[w->hash & (t->size - 1)];
    w->next = *head;
    w->link = head;
    if (w->next != NULL)
        w->next->link = &w->next;
    *head = w;
}

static void grow(struct watch_table *t)
{
    struct watch **old = t->chains;
    size_t old_size = t->size;
    t->size *= 2;
    t->chains = mem_zalloc(t->size * sizeof(struct watch *));
    for (size_t i = 0; i < old_size; i++) {
        for (struct watch *w = old[i], *next; w != NULL; w = next) {
            next = w->next;
            link_watch(t, w);
        }
    }
    mem_free(old);
}

static struct slice watch_key(const struct watch *w)
{
    return slice_of(w->key, w->key_size);
}

static void watch_add(struct client *c, struct slice key, uint64_t hash)
{
    struct server *s = c->server;
    struct watch_table *t = s->watches;
    for (struct watch *w = c->watches; w != NULL; w = w->next_of_client) {
        if (w->db == c->db->id && w->hash == hash && slice_equal(watch_key(w), key))
            return;
    }
    if (t->count == t->size)
        grow(t);
    struct watch *w = mem_alloc(sizeof(*w) + key.size);
    *w = (struct watch){.client = c,
                        .hash = hash,
                        .db = c->db->id,
                        .flush_count = c->db->flush_count,
                        .existed = db_find(c->db, key, hash) != NULL,
                        .key_size = (uint32_t)key.size,
                        .next_of_client = c->watches};
    memcpy(w->key, key.data, key.size);
    c->watches = w;
    link_watch(t, w);
    t->count++;
    server_update_hooks(s);
}

void watch_forget_all(struct client *c)
{
    struct server *s = c->server;
    if (c->watches == NULL)
        return;
    for (struct watch *w = c->watches, *next; w != NULL; w = next) {
        next = w->next_of_client;
        *w->link = w->next;
        if (w->next != NULL)
            w->next->link = w->link;
        mem_free(w);
        s->watches->count--;
    }
    c->watches = NULL;
    server_update_hooks(s);
}

void watch_touch(struct server *s, const struct db *db, struct slice key, uint64_t hash)
{
    struct watch_table *t = s->watches;
    for (struct watch *w = t->chains[hash & (t->size - 1)]; w != NULL; w = w->next) {
        if (w->hash == hash && w->db == db->id && slice_equal(watch_key(w), key))
            w->client->flags |= CLIENT_DIRTY_CAS;
    }
}

void watch_touch_expired(struct server *s, const struct db *db, struct slice key)
{
    struct watch_table *t = s->watches;
    if (t->count == 0)
        return;
    uint64_t hash = key_hash(key);
    for (struct watch *w = t->chains[hash & (t->size - 1)]; w != NULL; w = w->next) {
        /* For one who watched it when it had expired already nothing changes. */
        if (w->existed && w->hash == hash && w->db == db->id && slice_equal(watch_key(w), key))
            w->client->flags |= CLIENT_DIRTY_CAS;
    }
}

/* What no call tells of: keys that expired and nobody has removed, and databases that were flushed
 * or swapped. */
static bool watches_hold(const struct client *c)
{
    for (const struct watch *w = c->watches; w != NULL; w = w->next_of_client) {
        const struct db *db = &c->server->ks->dbs[w->db];
        bool flushed = db->flush_count != w->flush_count;
        if (w->existed && (flushed || db_find(db, watch_key(w), w->hash) == NULL))
            return false;
        if (!w->existed && flushed && db_find(db, watch_key(w), w->hash) != NULL)
            return false;
    }
    return true;
}

void cmd_multi(struct call *c)
{
    if (c->client->flags & CLIENT_MULTI) {
        reply_error(c->reply, "ERR MULTI calls can not be nested");
        return;
    }
    struct transaction *t = mem_zalloc(sizeof(*t));
    t->last = &t->first;
    c->client->transaction = t;
    c->client->flags |= CLIENT_MULTI;
    reply_ok(c->reply);
}

void cmd_discard(struct call *c)
{
    if (!(c->client->flags & CLIENT_MULTI)) {
        reply_error(c->reply, "ERR DISCARD without MULTI");
        return;
    }
    transaction_discard(c->client);
    reply_ok(c->reply);
}

void cmd_watch(struct call *c)
{
    if (c->client->flags & CLIENT_MULTI) {
        reply_error(c->reply, "ERR WATCH inside MULTI is not allowed");
        return;
    }
    /* EXEC is bound to fail: more watches cannot change that. */
    if (!(c->client->flags & CLIENT_DIRTY_CAS)) {
        for (int i = 1; i < c->argc; i++)
            watch_add(c->client, c->argv[i], call_hash(c, c->argv[i]));
    }
    reply_ok(c->reply);
}

void cmd_unwatch(struct call *c)
{
    watch_forget_all(c->client);
    c->client->flags &= ~(uint32_t)CLIENT_DIRTY_CAS;
    reply_ok(c->reply);
}

/* What the user may do can have changed since the command was queued. */
static bool still_permitted(struct client *c, const struct queued_command *q)
{
    static const char *const reasons[] = {
        [ACL_DENIED_COMMAND] = "no permission to execute the command or subcommand",
        [ACL_DENIED_KEY] = "no permission to touch the specified keys",
        [ACL_DENIED_CHANNEL] =
            "no permission to access one of the channels used as arguments to the "
            "command"};
    int at = 0;
    enum acl_denial denial = acl_check(c->user, q->command, q->argv, q->argc, &at);
    if (denial == ACL_ALLOWED)
        return true;
    struct slice object =
        denial == ACL_DENIED_COMMAND ? slice_cstr(q->command->full_name) : q->argv[at];
    acl_log(c, denial, "multi", object, slice_cstr(acl_user_name(c->user)));
    reply_errorf(&c->reply,
                 "NOPERM ACLs rules changed between the moment the transaction was accumulated and "
                 "the EXEC call. This command is no longer allowed for the following reason: %s",
                 reasons[denial]);
    return false;
}

void cmd_exec(struct call *c)
{
    struct client *client = c->client;
    if (!(client->flags & CLIENT_MULTI)) {
        reply_error(c->reply, "ERR EXEC without MULTI");
        return;
    }
    if (!(client->flags & CLIENT_DIRTY_CAS) && !watches_hold(client))
        client->flags |= CLIENT_DIRTY_CAS;
    if (client->flags & (CLIENT_DIRTY_CAS | CLIENT_DIRTY_EXEC)) {
        if (client->flags & CLIENT_DIRTY_EXEC)
            reply_error(c->reply, "EXECABORT Transaction discarded because of previous errors.");
        else
            reply_null_array(c->reply);
        transaction_discard(client);
        return;
    }
    struct transaction *t = client->transaction;
    client->transaction = NULL;
    /* The commands must not see the transaction, nor their own changes as somebody else's. */
    watch_forget_all(client);
    client->flags &= ~(uint32_t)CLIENT_MULTI;
    struct call call = *c;
    call.in_exec = true;
    call.request = slice_of(NULL, 0);
    reply_array(c->reply, t->count);
    uint64_t errors = c->reply->error_count;
    /* A single command is one group, if it has to be, without that. */
    struct stream *stream = t->count > 1 ? c->stream : NULL;
    if (stream != NULL)
        stream_begin_group(stream);
    for (struct queued_command *q = t->first; q != NULL; q = q->next) {
        call.db = client->db;
        call.argv = q->argv;
        call.argc = q->argc;
        call.keys = NULL;
        call.key_count = call.key_next = 0;
        if (client->flags & CLIENT_RESTRICTED && !still_permitted(client, q))
            continue;
        dispatch_call(client, &call, q->command);
        if (c->server->hold_replies)
            hold_note_call(c->server, &call, q->command);
    }
    /* Among the commands may be CONFIG SET appendonly: a stream that began there has no group to
     * end, even if it lies where the old one was. */
    if (stream != NULL && stream == c->server->stream && stream_in_group(stream))
        stream_end_group(stream);
    /* An error inside is not EXEC's own. */
    c->reply->error_count = errors;
    transaction_free(t);
}
