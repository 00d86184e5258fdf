/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/tracking.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "command/docs.h"
#include "command/table.h"
#include "handlers.h"
#include "server/config.h"
#include "server/pubsub.h"

#define CHAINS_FIRST 256
#define CHANNEL "__redis__:invalidate"

/* Who has read a key: ids, as clients come and go. */
struct tracked_key {
    struct tracked_key *next;
    uint64_t hash;
    uint64_t *clients;
    uint32_t count, room;
    uint32_t size;
    char name[];
};

struct changed_key {
    struct changed_key *next;
    uint64_t by; /* the client's id; 0: none */
    uint32_t size;
    char name[];
};

struct prefix {
    struct prefix *next;
    size_t size;
    char text[];
};

enum caching { CACHING_AS_SET, CACHING_YES, CACHING_NO };

struct tracking {
    uint64_t redirect; /* 0: to itself */
    bool broadcast, opt_in, opt_out, no_loop, broken;
    enum caching caching; /* CLIENT CACHING: for the next command, or all of a transaction */
    struct prefix *prefixes;
    struct client *next; /* all that track */
};

struct tracking_table {
    struct tracked_key **chains;
    size_t size, count, items; /* size: a power of two */
    struct client *clients;    /* that track */
    size_t client_count, broadcast_count, prefix_count;
    struct changed_key *changed, **changed_last; /* in this turn, for BCAST */
};

struct tracking_table *tracking_table_new(void)
{
    struct tracking_table *t = mem_zalloc(sizeof(*t));
    t->size = CHAINS_FIRST;
    t->chains = mem_zalloc(t->size * sizeof(*t->chains));
    t->changed_last = &t->changed;
    return t;
}

static void key_free(struct tracking_table *t, struct tracked_key *k)
{
    t->count--;
    t->items -= k->count;
    mem_free(k->clients);
    mem_free(k);
}

static void forget_all_keys(struct tracking_table *t)
{
    for (size_t i = 0; i < t->size && t->count > 0; i++) {
        for (struct tracked_key *k = t->chains[i], *next; k != NULL; k = next) {
            next = k->next;
            key_free(t, k);
        }
        t->chains[i] = NULL;
    }
}

static void forget_changed(struct tracking_table *t)
{
    for (struct changed_key *k = t->changed, *next; k != NULL; k = next) {
        next = k->next;
        mem_free(k);
    }
    t->changed = NULL;
    t->changed_last = &t->changed;
}

void tracking_table_free(struct tracking_table *t)
{
    forget_all_keys(t);
    forget_changed(t);
    mem_free(t->chains);
    mem_free(t);
}

static struct tracked_key **find(const struct tracking_table *t, uint64_t hash, struct slice key)
{
    struct tracked_key **link = &t->chains[hash & (t->size - 1)];
    while (*link != NULL && ((*link)->hash != hash ||
                             !slice_equal(slice_of((*link)->name, (*link)->size), key)))
        link = &(*link)->next;
    return link;
}

static void grow(struct tracking_table *t)
{
    size_t size = t->size * 2;
    struct tracked_key **chains = mem_zalloc(size * sizeof(*chains));
    for (size_t i = 0; i < t->size; i++) {
        for (struct tracked_key *k = t->chains[i], *next; k != NULL; k = next) {
            next = k->next;
            k->next = chains[k->hash & (size - 1)];
            chains[k->hash & (size - 1)] = k;
        }
    }
    mem_free(t->chains);
    t->chains = chains;
    t->size = size;
}

/* Messages ------------------------------------------------------------------------------------- */

/* Where the client's messages go; NULL: nowhere. */
static struct client *target(struct client *c)
{
    struct tracking *tracking = c->tracking;
    if (tracking->redirect == 0)
        return c->reply.protocol == 3 ? c : NULL;
    struct client *to = client_find(c->server, tracking->redirect);
    if (to != NULL)
        return to->reply.protocol == 3 || to->flags & CLIENT_PUBSUB ? to : NULL;
    if (!tracking->broken && c->reply.protocol == 3) {
        struct outbuf out = {0};
        struct reply r = {.out = &out, .protocol = 3};
        reply_push(&r, 2);
        reply_bulk_cstr(&r, "tracking-redir-broken");
        reply_int(&r, (int64_t)tracking->redirect);
        client_push(c, &out);
        outbuf_clear(&out);
    }
    tracking->broken = true;
    return NULL;
}

/* Tell a client of so many keys, which `put` writes; NULL: of all keys. */
static void tell(struct client *c, size_t count, void (*put)(struct reply *r, const void *keys),
                 const void *keys)
{
    struct client *to = target(c);
    if (to == NULL)
        return;
    struct outbuf out = {0};
    struct reply r = {.out = &out, .protocol = to->reply.protocol};
    if (r.protocol == 3) {
        reply_push(&r, 2);
        reply_bulk_cstr(&r, "invalidate");
    } else {
        reply_array(&r, 3);
        reply_bulk_cstr(&r, "message");
        reply_bulk_cstr(&r, CHANNEL);
    }
    if (put == NULL) {
        reply_null(&r);
    } else {
        reply_array(&r, count);
        put(&r, keys);
    }
    client_push(to, &out);
    outbuf_clear(&out);
}

static void put_key(struct reply *r, const void *key)
{
    reply_bulk(r, *(const struct slice *)key);
}

/* Tell all who have read the key, and forget it. */
static void tell_readers(struct server *s, struct tracked_key *k, uint64_t by)
{
    struct slice key = slice_of(k->name, k->size);
    for (uint32_t i = 0; i < k->count; i++) {
        struct client *c = client_find(s, k->clients[i]);
        if (c == NULL || c->tracking == NULL || c->tracking->broadcast ||
            (c->tracking->no_loop && c->id == by))
            continue;
        tell(c, 1, put_key, &key);
    }
}

static void forget_key(struct server *s, struct tracked_key **link, uint64_t by)
{
    struct tracked_key *k = *link;
    *link = k->next;
    tell_readers(s, k, by);
    key_free(s->tracking, k);
}

/* The table is full: some key is told of as if it had changed. */
static void forget_some_key(struct server *s)
{
    struct tracking_table *t = s->tracking;
    size_t at = keyspace_random(s->ks) & (t->size - 1);
    while (t->chains[at] == NULL)
        at = (at + 1) & (t->size - 1);
    forget_key(s, &t->chains[at], 0);
}

/* Events --------------------------------------------------------------------------------------- */

static void remember(struct client *c, struct slice key)
{
    struct tracking_table *t = c->server->tracking;
    uint64_t hash = hash_bytes(key.data, key.size);
    struct tracked_key **link = find(t, hash, key), *k = *link;
    if (k == NULL) {
        k = mem_alloc(sizeof(*k) + key.size);
        *k = (struct tracked_key){.hash = hash, .size = (uint32_t)key.size};
        memcpy(k->name, key.data, key.size);
        *link = k;
        if (++t->count > t->size)
            grow(t);
    }
    for (uint32_t i = 0; i < k->count; i++) {
        if (k->clients[i] == c->id)
            return;
    }
    if (k->count == k->room) {
        k->room = k->room == 0 ? 1 : k->room * 2;
        k->clients = mem_realloc(k->clients, k->room * sizeof(*k->clients));
    }
    k->clients[k->count++] = c->id;
    t->items++;
}

static bool wants_to_know(const struct tracking *t)
{
    if (t->broadcast)
        return false;
    return t->opt_in ? t->caching == CACHING_YES : t->opt_out ? t->caching != CACHING_NO : true;
}

void tracking_note_read(struct client *c, const struct command *command, const struct slice *argv,
                        int argc, bool in_exec)
{
    if (command->handler == cmd_client_caching || command->handler == cmd_multi)
        return;
    bool wanted = wants_to_know(c->tracking) && command->flags & COMMAND_READONLY;
    if (!in_exec)
        c->tracking->caching = CACHING_AS_SET;
    if (!wanted)
        return;
    int few[64], *positions = argc <= 64 ? few : mem_alloc((size_t)argc * sizeof(int));
    int count = command_keys(command, argv, argc, positions, argc);
    for (int i = 0; i < count; i++)
        remember(c, argv[positions[i]]);
    if (positions != few)
        mem_free(positions);
    size_t most = (size_t)c->server->config->tracking_table_max_keys;
    while (most != 0 && c->server->tracking->count > most)
        forget_some_key(c->server);
}

void tracking_changed(struct server *s, struct client *by, struct slice key)
{
    struct tracking_table *t = s->tracking;
    uint64_t id = by != NULL ? by->id : 0;
    if (t->broadcast_count != 0) {
        struct changed_key *k = mem_alloc(sizeof(*k) + key.size);
        *k = (struct changed_key){.by = id, .size = (uint32_t)key.size};
        memcpy(k->name, key.data, key.size);
        *t->changed_last = k;
        t->changed_last = &k->next;
    }
    if (t->count == 0)
        return;
    struct tracked_key **link = find(t, hash_bytes(key.data, key.size), key);
    if (*link != NULL)
        forget_key(s, link, id);
}

void tracking_flushed(struct server *s)
{
    struct tracking_table *t = s->tracking;
    for (struct client *c = t->clients; c != NULL; c = c->tracking->next)
        tell(c, 0, NULL, NULL);
    forget_all_keys(t);
    forget_changed(t);
}

static bool concerns(const struct client *c, const struct changed_key *k)
{
    const struct tracking *t = c->tracking;
    if (t->no_loop && k->by == c->id)
        return false;
    for (const struct prefix *p = t->prefixes; p != NULL; p = p->next) {
        if (k->size >= p->size && memcmp(k->name, p->text, p->size) == 0)
            return true;
    }
    return t->prefixes == NULL;
}

static void put_changed(struct reply *r, const void *client)
{
    const struct client *c = client;
    for (const struct changed_key *k = c->server->tracking->changed; k != NULL; k = k->next) {
        if (concerns(c, k))
            reply_bulk(r, slice_of(k->name, k->size));
    }
}

static int compare_changed(const void *a, const void *b)
{
    const struct changed_key *x = *(struct changed_key *const *)a,
                             *y = *(struct changed_key *const *)b;
    return slice_compare(slice_of(x->name, x->size), slice_of(y->name, y->size));
}

/* Of a key that was changed several times in the turn once is enough: by the client that did it, or
 * by nobody (0) when there were several, so that each is told. The keys are in order afterwards. */
static void drop_repeated(struct tracking_table *t)
{
    size_t count = 0, n = 0;
    for (struct changed_key *k = t->changed; k != NULL; k = k->next)
        count++;
    struct changed_key **keys = mem_alloc(count * sizeof(struct changed_key *));
    for (struct changed_key *k = t->changed; k != NULL; k = k->next)
        keys[n++] = k;
    qsort(keys, count, sizeof(*keys), compare_changed);
    t->changed_last = &t->changed;
    for (size_t i = 0; i < count;) {
        struct changed_key *k = keys[i++];
        for (; i < count && compare_changed(&k, &keys[i]) == 0; i++) {
            if (keys[i]->by != k->by)
                k->by = 0;
            mem_free(keys[i]);
        }
        *t->changed_last = k;
        t->changed_last = &k->next;
    }
    *t->changed_last = NULL;
    mem_free(keys);
}

void tracking_end_turn(struct server *s)
{
    struct tracking_table *t = s->tracking;
    if (t->changed == NULL)
        return;
    drop_repeated(t);
    for (struct client *c = t->clients; c != NULL; c = c->tracking->next) {
        size_t count = 0;
        if (!c->tracking->broadcast)
            continue;
        for (const struct changed_key *k = t->changed; k != NULL; k = k->next)
            count += concerns(c, k);
        if (count != 0)
            tell(c, count, put_changed, c);
    }
    forget_changed(t);
}

bool tracking_wanted(const struct server *s)
{
    return s->tracking->client_count != 0;
}

void tracking_end(struct client *c)
{
    struct tracking_table *t = c->server->tracking;
    struct tracking *tracking = c->tracking;
    if (tracking == NULL)
        return;
    struct client **link = &t->clients;
    while (*link != c)
        link = &(*link)->tracking->next;
    *link = tracking->next;
    t->client_count--;
    t->broadcast_count -= tracking->broadcast;
    for (struct prefix *p = tracking->prefixes, *next; p != NULL; p = next) {
        next = p->next;
        t->prefix_count--;
        mem_free(p);
    }
    mem_free(tracking);
    c->tracking = NULL;
    if (t->client_count == 0) {
        forget_all_keys(t);
        forget_changed(t);
    }
    server_update_hooks(c->server);
}

void tracking_count(const struct server *s, struct tracking_counts *counts)
{
    const struct tracking_table *t = s->tracking;
    *counts = (struct tracking_counts){t->client_count, t->count, t->items, t->prefix_count};
}

const char *tracking_letters(const struct client *c)
{
    if (c->tracking == NULL)
        return "";
    if (c->tracking->broken)
        return c->tracking->broadcast ? "tRB" : "tR";
    return c->tracking->broadcast ? "tB" : "t";
}

int64_t tracking_redirect(const struct client *c)
{
    return c->tracking != NULL ? (int64_t)c->tracking->redirect : -1;
}

/* Commands ------------------------------------------------------------------------------------- */

struct options {
    uint64_t redirect;
    bool broadcast, opt_in, opt_out, no_loop;
    int prefix_count;
};

static bool parse_options(struct call *c, struct options *o)
{
    for (int i = 3; i < c->argc; i++) {
        struct slice word = c->argv[i];
        bool more = i + 1 < c->argc;
        if (slice_is(word, "redirect") && more) {
            int64_t id;
            if (o->redirect != 0) {
                reply_error(c->reply, "ERR A client can only redirect to a single other client");
                return false;
            }
            if (!call_int64(c, c->argv[++i], &id, NULL))
                return false;
            if (id < 0 || client_find(c->server, (uint64_t)id) == NULL) {
                reply_error(c->reply, "ERR The client ID you want redirect to does not exist");
                return false;
            }
            o->redirect = (uint64_t)id;
        } else if (slice_is(word, "bcast")) {
            o->broadcast = true;
        } else if (slice_is(word, "optin")) {
            o->opt_in = true;
        } else if (slice_is(word, "optout")) {
            o->opt_out = true;
        } else if (slice_is(word, "noloop")) {
            o->no_loop = true;
        } else if (slice_is(word, "prefix") && more) {
            i++;
            o->prefix_count++;
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

static bool starts_with(struct slice s, struct slice prefix)
{
    return s.size >= prefix.size && memcmp(s.data, prefix.data, prefix.size) == 0;
}

static bool overlap(struct slice a, struct slice b)
{
    return starts_with(a, b) || starts_with(b, a);
}

/* The prefixes of the command must not overlap with each other nor with those that are there. */
static bool prefixes_are_apart(struct call *c)
{
    const struct tracking *t = c->client->tracking;
    for (int i = 3; i < c->argc; i++) {
        if (!slice_is(c->argv[i], "prefix")) {
            i += slice_is(c->argv[i], "redirect");
            continue;
        }
        struct slice mine = c->argv[++i];
        for (const struct prefix *p = t != NULL ? t->prefixes : NULL; p != NULL; p = p->next) {
            if (overlap(mine, slice_of(p->text, p->size))) {
                reply_errorf(
                    c->reply,
                    "ERR Prefix '%.*s' overlaps with an existing prefix '%.*s'. Prefixes for "
                    "a single client must not overlap.",
                    (int)mine.size, mine.data, (int)p->size, p->text);
                return false;
            }
        }
        for (int k = i + 1; k + 1 < c->argc; k++) {
            if (slice_is(c->argv[k], "prefix") && overlap(mine, c->argv[k + 1])) {
                reply_errorf(
                    c->reply,
                    "ERR Prefix '%.*s' overlaps with another provided prefix '%.*s'. Prefixes "
                    "for a single client must not overlap.",
                    (int)mine.size, mine.data, (int)c->argv[k + 1].size, c->argv[k + 1].data);
                return false;
            }
        }
    }
    return true;
}

static bool modes_fit(struct call *c, const struct options *o)
{
    const struct tracking *t = c->client->tracking;
    const char *error = NULL;
    if (!o->broadcast && o->prefix_count != 0)
        error = "ERR PREFIX option requires BCAST mode to be enabled";
    else if (t != NULL && t->broadcast != o->broadcast)
        error =
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and "
            "then re-enabling it with a different mode.";
    else if (o->broadcast && (o->opt_in || o->opt_out))
        error = "ERR OPTIN and OPTOUT are not compatible with BCAST";
    else if (o->opt_in && o->opt_out)
        error = "ERR You can't specify both OPTIN mode and OPTOUT mode";
    else if (t != NULL && ((o->opt_in && t->opt_out) || (o->opt_out && t->opt_in)))
        error =
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and "
            "then re-enabling it with a different mode.";
    if (error != NULL)
        reply_error(c->reply, error);
    return error == NULL;
}

static void add_prefixes(struct call *c, struct tracking *t)
{
    for (int i = 3; i + 1 < c->argc; i++) {
        if (!slice_is(c->argv[i], "prefix")) {
            i += slice_is(c->argv[i], "redirect");
            continue;
        }
        struct slice text = c->argv[++i];
        struct prefix *p = mem_alloc(sizeof(*p) + text.size);
        *p = (struct prefix){.size = text.size};
        memcpy(p->text, text.data, text.size);
        struct prefix **link = &t->prefixes;
        while (*link != NULL && slice_compare(slice_of((*link)->text, (*link)->size), text) < 0)
            link = &(*link)->next;
        p->next = *link;
        *link = p;
        c->server->tracking->prefix_count++;
    }
}

void cmd_client_tracking(struct call *c)
{
    struct client *client = c->client;
    struct options o = {0};
    bool on = slice_is(c->argv[2], "on");
    if (!parse_options(c, &o))
        return;
    if (!on && !slice_is(c->argv[2], "off")) {
        reply_syntax_error(c->reply);
        return;
    }
    if (!on) {
        tracking_end(client);
        reply_ok(c->reply);
        return;
    }
    if (!modes_fit(c, &o) || (o.broadcast && !prefixes_are_apart(c)))
        return;
    struct tracking *t = client->tracking;
    struct tracking_table *table = c->server->tracking;
    if (t == NULL) {
        t = client->tracking = mem_zalloc(sizeof(*t));
        t->next = table->clients;
        table->clients = client;
        table->client_count++;
        t->broadcast = o.broadcast;
        table->broadcast_count += o.broadcast;
    }
    t->redirect = o.redirect;
    t->broken = false;
    t->opt_in = o.opt_in;
    t->opt_out = o.opt_out;
    t->no_loop = o.no_loop;
    add_prefixes(c, t);
    server_update_hooks(c->server);
    reply_ok(c->reply);
}

void cmd_client_caching(struct call *c)
{
    struct tracking *t = c->client->tracking;
    bool yes = slice_is(c->argv[2], "yes");
    if (t == NULL || (!t->opt_in && !t->opt_out)) {
        reply_error(c->reply,
                    "ERR CLIENT CACHING can be called only when the client is in tracking mode "
                    "with OPTIN or OPTOUT mode enabled");
    } else if (!yes && !slice_is(c->argv[2], "no")) {
        reply_syntax_error(c->reply);
    } else if (yes && !t->opt_in) {
        reply_error(c->reply,
                    "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.");
    } else if (!yes && !t->opt_out) {
        reply_error(c->reply,
                    "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.");
    } else {
        t->caching = yes ? CACHING_YES : CACHING_NO;
        reply_ok(c->reply);
    }
}

void cmd_client_getredir(struct call *c)
{
    reply_int(c->reply, tracking_redirect(c->client));
}

void cmd_client_trackinginfo(struct call *c)
{
    const struct tracking *t = c->client->tracking;
    const char *flags[8];
    size_t count = 0;
    flags[count++] = t != NULL ? "on" : "off";
    if (t != NULL) {
        if (t->broadcast)
            flags[count++] = "bcast";
        if (t->opt_in) {
            flags[count++] = "optin";
            if (t->caching == CACHING_YES)
                flags[count++] = "caching-yes";
        }
        if (t->opt_out) {
            flags[count++] = "optout";
            if (t->caching == CACHING_NO)
                flags[count++] = "caching-no";
        }
        if (t->no_loop)
            flags[count++] = "noloop";
        if (t->broken)
            flags[count++] = "broken_redirect";
    }
    reply_map(c->reply, 3);
    reply_bulk_cstr(c->reply, "flags");
    reply_set(c->reply, count);
    for (size_t i = 0; i < count; i++)
        reply_bulk_cstr(c->reply, flags[i]);
    reply_bulk_cstr(c->reply, "redirect");
    reply_int(c->reply, tracking_redirect(c->client));
    reply_bulk_cstr(c->reply, "prefixes");
    struct reply_mark mark = reply_deferred_begin(c->reply);
    count = 0;
    for (const struct prefix *p = t != NULL ? t->prefixes : NULL; p != NULL; p = p->next, count++)
        reply_bulk(c->reply, slice_of(p->text, p->size));
    reply_deferred_array(c->reply, mark, count);
}
