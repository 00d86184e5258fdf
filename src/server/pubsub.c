/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/pubsub.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/glob.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/text.h"
#include "command/help.h"
#include "command/table.h"
#include "handlers.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/hold.h"

#define CHAINS_FIRST 64

struct subscription;

struct topic {
    struct topic *next;                      /* in its chain */
    struct topic *next_pattern, *prev_pattern;
    uint64_t hash;
    struct subscription *first, *last;
    size_t count;
    enum topic_kind kind;
    uint32_t size;
    char name[];
};

struct subscription {
    struct subscription *next; /* in its chain */
    struct topic *topic;
    struct client *client;
    struct subscription *prev_in_topic, *next_in_topic;
    struct subscription *prev_of_client, *next_of_client;
};

/* What a client subscribes to; made with its first subscription. */
struct subscriber {
    struct subscription *first, *last;
    size_t counts[TOPIC_KINDS];
    size_t bytes;
};

struct pubsub {
    struct topic **topics;
    size_t topic_chains, topic_count; /* chains: a power of two */
    struct subscription **subscriptions;
    size_t subscription_chains, subscription_count;
    struct topic *patterns;
    size_t counts[TOPIC_KINDS]; /* topics of each kind */
};

struct pubsub *pubsub_new(void)
{
    struct pubsub *p = mem_zalloc(sizeof(*p));
    p->topic_chains = p->subscription_chains = CHAINS_FIRST;
    p->topics = mem_zalloc(CHAINS_FIRST * sizeof(struct topic *));
    p->subscriptions = mem_zalloc(CHAINS_FIRST * sizeof(struct subscription *));
    return p;
}

void pubsub_free(struct pubsub *p)
{
    mem_free(p->topics);
    mem_free(p->subscriptions);
    mem_free(p);
}

static struct slice topic_name(const struct topic *t)
{
    return slice_of(t->name, t->size);
}

static uint64_t topic_hash(enum topic_kind kind, struct slice name)
{
    return hash_bytes(name.data, name.size) + (uint64_t)kind;
}

static struct topic *find_topic(const struct pubsub *p, enum topic_kind kind, struct slice name)
{
    uint64_t hash = topic_hash(kind, name);
    struct topic *t = p->topics[hash & (p->topic_chains - 1)];
    while (t != NULL && (t->hash != hash || t->kind != kind || !slice_equal(topic_name(t), name)))
        t = t->next;
    return t;
}

static void grow_topics(struct pubsub *p)
{
    size_t chains = p->topic_chains * 2;
    struct topic **all = mem_zalloc(chains * sizeof(struct topic *));
    for (size_t i = 0; i < p->topic_chains; i++) {
        for (struct topic *t = p->topics[i], *next; t != NULL; t = next) {
            next = t->next;
            t->next = all[t->hash & (chains - 1)];
            all[t->hash & (chains - 1)] = t;
        }
    }
    mem_free(p->topics);
    p->topics = all;
    p->topic_chains = chains;
}

static struct topic *add_topic(struct pubsub *p, enum topic_kind kind, struct slice name)
{
    if (p->topic_count == p->topic_chains)
        grow_topics(p);
    struct topic *t = mem_alloc(sizeof(*t) + name.size);
    *t = (struct topic){
        .hash = topic_hash(kind, name), .kind = kind, .size = (uint32_t)name.size};
    if (name.size != 0)
        memcpy(t->name, name.data, name.size);
    struct topic **chain = &p->topics[t->hash & (p->topic_chains - 1)];
    t->next = *chain;
    *chain = t;
    if (kind == TOPIC_PATTERN) {
        t->next_pattern = p->patterns;
        if (p->patterns != NULL)
            p->patterns->prev_pattern = t;
        p->patterns = t;
    }
    p->topic_count++;
    p->counts[kind]++;
    return t;
}

static void remove_topic(struct pubsub *p, struct topic *t)
{
    struct topic **link = &p->topics[t->hash & (p->topic_chains - 1)];
    while (*link != t)
        link = &(*link)->next;
    *link = t->next;
    if (t->kind == TOPIC_PATTERN) {
        if (t->prev_pattern != NULL)
            t->prev_pattern->next_pattern = t->next_pattern;
        else
            p->patterns = t->next_pattern;
        if (t->next_pattern != NULL)
            t->next_pattern->prev_pattern = t->prev_pattern;
    }
    p->topic_count--;
    p->counts[t->kind]--;
    mem_free(t);
}

static uint64_t subscription_hash(const struct client *c, const struct topic *t)
{
    uint64_t h = t->hash ^ c->id * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static struct subscription **find_subscription(struct pubsub *p, const struct client *c,
                                               const struct topic *t)
{
    struct subscription **link =
        &p->subscriptions[subscription_hash(c, t) & (p->subscription_chains - 1)];
    while (*link != NULL && ((*link)->client != c || (*link)->topic != t))
        link = &(*link)->next;
    return link;
}

static void grow_subscriptions(struct pubsub *p)
{
    size_t chains = p->subscription_chains * 2;
    struct subscription **all = mem_zalloc(chains * sizeof(struct subscription *));
    for (size_t i = 0; i < p->subscription_chains; i++) {
        for (struct subscription *s = p->subscriptions[i], *next; s != NULL; s = next) {
            next = s->next;
            uint64_t at = subscription_hash(s->client, s->topic) & (chains - 1);
            s->next = all[at];
            all[at] = s;
        }
    }
    mem_free(p->subscriptions);
    p->subscriptions = all;
    p->subscription_chains = chains;
}

static bool subscribe(struct client *c, enum topic_kind kind, struct slice name)
{
    struct pubsub *p = c->server->pubsub;
    struct topic *t = find_topic(p, kind, name);
    if (t != NULL && *find_subscription(p, c, t) != NULL)
        return false;
    if (t == NULL)
        t = add_topic(p, kind, name);
    if (p->subscription_count == p->subscription_chains)
        grow_subscriptions(p);
    struct subscription *s = mem_zalloc(sizeof(*s));
    s->topic = t;
    s->client = c;
    *find_subscription(p, c, t) = s;
    p->subscription_count++;
    s->prev_in_topic = t->last;
    if (t->last != NULL)
        t->last->next_in_topic = s;
    else
        t->first = s;
    t->last = s;
    t->count++;
    if (c->subscriber == NULL)
        c->subscriber = mem_zalloc(sizeof(*c->subscriber));
    struct subscriber *all = c->subscriber;
    s->prev_of_client = all->last;
    if (all->last != NULL)
        all->last->next_of_client = s;
    else
        all->first = s;
    all->last = s;
    all->counts[kind]++;
    all->bytes += sizeof(*s) + name.size;
    c->flags |= CLIENT_PUBSUB;
    return true;
}

static void end_subscription(struct client *c, struct subscription *s)
{
    struct pubsub *p = c->server->pubsub;
    struct topic *t = s->topic;
    struct subscriber *all = c->subscriber;
    *find_subscription(p, c, t) = s->next;
    p->subscription_count--;
    if (s->prev_in_topic != NULL)
        s->prev_in_topic->next_in_topic = s->next_in_topic;
    else
        t->first = s->next_in_topic;
    if (s->next_in_topic != NULL)
        s->next_in_topic->prev_in_topic = s->prev_in_topic;
    else
        t->last = s->prev_in_topic;
    if (s->prev_of_client != NULL)
        s->prev_of_client->next_of_client = s->next_of_client;
    else
        all->first = s->next_of_client;
    if (s->next_of_client != NULL)
        s->next_of_client->prev_of_client = s->prev_of_client;
    else
        all->last = s->prev_of_client;
    all->counts[t->kind]--;
    all->bytes -= sizeof(*s) + t->size;
    if (--t->count == 0)
        remove_topic(p, t);
    mem_free(s);
    if (all->first == NULL)
        c->flags &= ~(uint32_t)CLIENT_PUBSUB;
}

size_t pubsub_topics(const struct pubsub *p, enum topic_kind kind)
{
    return p->counts[kind];
}

size_t pubsub_client_count(const struct client *c, enum topic_kind kind)
{
    return c->subscriber != NULL ? c->subscriber->counts[kind] : 0;
}

size_t pubsub_client_memory(const struct client *c)
{
    return c->subscriber != NULL ? sizeof(*c->subscriber) + c->subscriber->bytes : 0;
}

void pubsub_forget(struct client *c)
{
    if (c->subscriber == NULL)
        return;
    while (c->subscriber->first != NULL)
        end_subscription(c, c->subscriber->first);
    mem_free(c->subscriber);
    c->subscriber = NULL;
}

/* Delivery ------------------------------------------------------------------------------------- */

/* A message as the two protocols have it, made when first needed. */
struct message {
    const char *kind;
    struct slice pattern; /* data NULL: none */
    struct slice channel, payload;
    bool announces; /* the server itself speaks, of no write: nothing to wait for */
    struct outbuf encoded[2];
};

static void encode(struct message *m, unsigned protocol)
{
    struct reply r = {.out = &m->encoded[protocol - 2], .protocol = (uint8_t)protocol};
    reply_push(&r, m->pattern.data != NULL ? 4 : 3);
    reply_bulk_cstr(&r, m->kind);
    if (m->pattern.data != NULL)
        reply_bulk(&r, m->pattern);
    reply_bulk(&r, m->channel);
    reply_bulk(&r, m->payload);
}

static void deliver(struct client *c, struct message *m)
{
    unsigned protocol = c->reply.protocol;
    if (outbuf_is_empty(&m->encoded[protocol - 2]))
        encode(m, protocol);
    size_t before = outbuf_size(&c->io.out);
    client_push(c, &m->encoded[protocol - 2]);
    if (c->server->hold_replies && !m->announces && !(c->flags & CLIENT_CLOSING))
        hold_note_message(c, before);
}

static uint64_t deliver_all(const struct topic *t, struct message *m)
{
    for (struct subscription *s = t->first; s != NULL; s = s->next_in_topic)
        deliver(s->client, m);
    outbuf_clear(&m->encoded[0]);
    outbuf_clear(&m->encoded[1]);
    return t->count;
}

static uint64_t publish(struct server *s, enum topic_kind kind, struct slice channel,
                        struct slice message, bool announces)
{
    struct pubsub *p = s->pubsub;
    uint64_t count = 0;
    struct message m = {.kind = kind == TOPIC_SHARD ? "smessage" : "message",
                        .channel = channel,
                        .payload = message,
                        .announces = announces};
    const struct topic *t = find_topic(p, kind, channel);
    if (t != NULL)
        count += deliver_all(t, &m);
    if (kind == TOPIC_SHARD)
        return count;
    m.kind = "pmessage";
    for (t = p->patterns; t != NULL; t = t->next_pattern) {
        m.pattern = topic_name(t);
        if (glob_match(m.pattern, channel, false))
            count += deliver_all(t, &m);
    }
    return count;
}

uint64_t pubsub_publish(struct server *s, enum topic_kind kind, struct slice channel,
                        struct slice message)
{
    return publish(s, kind, channel, message, false);
}

void pubsub_announce(struct server *s, struct slice channel, struct slice message)
{
    publish(s, TOPIC_CHANNEL, channel, message, true);
}

void pubsub_notify(struct server *s, int class, const char *event, struct slice key, int db)
{
    int wanted = s->config->notify;
    if (!(wanted & class))
        return;
    struct text channel = {0};
    struct slice name = slice_of(event, strlen(event));
    if (wanted & NOTIFY_KEYSPACE) {
        text_appendf(&channel, "__keyspace@%d__:", db);
        text_append(&channel, key.data, key.size);
        pubsub_publish(s, TOPIC_CHANNEL, slice_of(channel.data, channel.size), name);
        channel.size = 0;
    }
    if (wanted & NOTIFY_KEYEVENT) {
        text_appendf(&channel, "__keyevent@%d__:%s", db, event);
        pubsub_publish(s, TOPIC_CHANNEL, slice_of(channel.data, channel.size), key);
    }
    text_free(&channel);
}

/* Commands ------------------------------------------------------------------------------------- */

/* What the number in the answer counts: shard channels are apart. */
static int64_t counted(const struct client *c, enum topic_kind kind)
{
    if (kind == TOPIC_SHARD)
        return (int64_t)pubsub_client_count(c, TOPIC_SHARD);
    return (int64_t)(pubsub_client_count(c, TOPIC_CHANNEL) + pubsub_client_count(c, TOPIC_PATTERN));
}

/* The answers to these commands are pushes: CLIENT REPLY does not suppress them. */
static void reply_change(struct call *c, const char *kind, enum topic_kind topic,
                         const struct slice *name)
{
    struct reply r = {.out = &c->client->io.out, .protocol = c->client->reply.protocol};
    reply_push(&r, 3);
    reply_bulk_cstr(&r, kind);
    if (name != NULL)
        reply_bulk(&r, *name);
    else
        reply_null(&r);
    reply_int(&r, counted(c->client, topic));
}

static void subscribe_all(struct call *c, const char *kind, enum topic_kind topic)
{
    for (int i = 1; i < c->argc; i++) {
        subscribe(c->client, topic, c->argv[i]);
        reply_change(c, kind, topic, &c->argv[i]);
    }
}

static struct subscription *first_of_kind(struct client *c, enum topic_kind kind)
{
    struct subscription *s = c->subscriber != NULL ? c->subscriber->first : NULL;
    while (s != NULL && s->topic->kind != kind)
        s = s->next_of_client;
    return s;
}

static void unsubscribe_every(struct call *c, const char *kind, enum topic_kind topic)
{
    if (pubsub_client_count(c->client, topic) == 0) {
        reply_change(c, kind, topic, NULL);
        return;
    }
    struct subscription *s;
    while ((s = first_of_kind(c->client, topic)) != NULL) {
        char *copy = mem_dup(s->topic->name, s->topic->size);
        struct slice name = slice_of(copy, s->topic->size);
        end_subscription(c->client, s);
        reply_change(c, kind, topic, &name);
        mem_free(copy);
    }
}

static void unsubscribe_all(struct call *c, const char *kind, enum topic_kind topic)
{
    struct pubsub *p = c->server->pubsub;
    if (c->argc == 1) {
        unsubscribe_every(c, kind, topic);
        return;
    }
    for (int i = 1; i < c->argc; i++) {
        struct topic *t = find_topic(p, topic, c->argv[i]);
        struct subscription *s = t != NULL ? *find_subscription(p, c->client, t) : NULL;
        if (s != NULL)
            end_subscription(c->client, s);
        reply_change(c, kind, topic, &c->argv[i]);
    }
}

void cmd_subscribe(struct call *c)
{
    subscribe_all(c, "subscribe", TOPIC_CHANNEL);
}

void cmd_psubscribe(struct call *c)
{
    subscribe_all(c, "psubscribe", TOPIC_PATTERN);
}

void cmd_ssubscribe(struct call *c)
{
    subscribe_all(c, "ssubscribe", TOPIC_SHARD);
}

void cmd_unsubscribe(struct call *c)
{
    unsubscribe_all(c, "unsubscribe", TOPIC_CHANNEL);
}

void cmd_punsubscribe(struct call *c)
{
    unsubscribe_all(c, "punsubscribe", TOPIC_PATTERN);
}

void cmd_sunsubscribe(struct call *c)
{
    unsubscribe_all(c, "sunsubscribe", TOPIC_SHARD);
}

void cmd_publish(struct call *c)
{
    reply_int(c->reply,
              (int64_t)pubsub_publish(c->server, TOPIC_CHANNEL, c->argv[1], c->argv[2]));
}

void cmd_spublish(struct call *c)
{
    reply_int(c->reply, (int64_t)pubsub_publish(c->server, TOPIC_SHARD, c->argv[1], c->argv[2]));
}

static void list_topics(struct call *c, enum topic_kind kind)
{
    if (c->argc > 3) {
        reply_errorf(c->reply,
                     "ERR unknown subcommand or wrong number of arguments for '%.*s'. Try PUBSUB "
                     "HELP.",
                     (int)c->argv[1].size, c->argv[1].data);
        return;
    }
    const struct pubsub *p = c->server->pubsub;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    size_t count = 0;
    for (size_t i = 0; i < p->topic_chains; i++) {
        for (const struct topic *t = p->topics[i]; t != NULL; t = t->next) {
            if (t->kind != kind ||
                (c->argc == 3 && !glob_match(c->argv[2], topic_name(t), false)))
                continue;
            reply_bulk(c->reply, topic_name(t));
            count++;
        }
    }
    reply_deferred_array(c->reply, mark, count);
}

static void count_subscribers(struct call *c, enum topic_kind kind)
{
    reply_array(c->reply, (size_t)(c->argc - 2) * 2);
    for (int i = 2; i < c->argc; i++) {
        const struct topic *t = find_topic(c->server->pubsub, kind, c->argv[i]);
        reply_bulk(c->reply, c->argv[i]);
        reply_int(c->reply, t != NULL ? (int64_t)t->count : 0);
    }
}

void cmd_pubsub_channels(struct call *c)
{
    list_topics(c, TOPIC_CHANNEL);
}

void cmd_pubsub_shardchannels(struct call *c)
{
    list_topics(c, TOPIC_SHARD);
}

void cmd_pubsub_numsub(struct call *c)
{
    count_subscribers(c, TOPIC_CHANNEL);
}

void cmd_pubsub_shardnumsub(struct call *c)
{
    count_subscribers(c, TOPIC_SHARD);
}

void cmd_pubsub_numpat(struct call *c)
{
    reply_int(c->reply, (int64_t)c->server->pubsub->counts[TOPIC_PATTERN]);
}

void cmd_pubsub_help(struct call *c)
{
    static const char *const lines[] = {
        "CHANNELS [<pattern>]",
        "    The channels that somebody subscribes to, or those that match.",
        "NUMPAT",
        "    How many patterns somebody subscribes to.",
        "NUMSUB [<channel> ...]",
        "    How many subscribe to each of the channels, patterns left aside.",
        "SHARDCHANNELS [<pattern>]",
        "    The shard channels that somebody subscribes to, or those that match.",
        "SHARDNUMSUB [<shardchannel> ...]",
        "    How many subscribe to each of the shard channels.",
    };
    reply_help(c, "PUBSUB", lines, sizeof(lines) / sizeof(lines[0]));
}

/* MONITOR -------------------------------------------------------------------------------------- */

void cmd_monitor(struct call *c)
{
    struct client *client = c->client;
    if (!(client->flags & CLIENT_MONITOR)) {
        client->flags |= CLIENT_MONITOR;
        client->next_monitor = c->server->clients.monitors;
        c->server->clients.monitors = client;
    }
    reply_ok(c->reply);
}

void monitor_end(struct client *c)
{
    if (!(c->flags & CLIENT_MONITOR))
        return;
    struct client **link = &c->server->clients.monitors;
    while (*link != c)
        link = &(*link)->next_monitor;
    *link = c->next_monitor;
    c->flags &= ~(uint32_t)CLIENT_MONITOR;
}

void monitor_feed(struct client *c, const struct command *command, const struct slice *argv,
                  int argc, const char *source)
{
    struct server *s = c->server;
    struct text line = {0};
    int64_t now_us = clock_wall_us();
    text_appendf(&line, "+%lld.%06lld [%d ", (long long)(now_us / 1000000),
                 (long long)(now_us % 1000000), c->db->id);
    if (source == NULL && c->flags & CLIENT_UNIX)
        text_appendf(&line, "unix:%s]", s->config->unixsocket);
    else
        text_appendf(&line, "%s]", source != NULL ? source : client_peer(c));
    for (int i = 0; i < argc; i++) {
        text_append(&line, " ", 1);
        text_append_quoted(&line,
                           dispatch_is_secret(command, argv, i) ? SLICE("(redacted)") : argv[i]);
    }
    text_append(&line, "\r\n", 2);
    for (struct client *m = s->clients.monitors; m != NULL; m = m->next_monitor) {
        if (m->flags & (CLIENT_CLOSING | CLIENT_CLOSE_AFTER_REPLY))
            continue;
        outbuf_append(&m->io.out, line.data, line.size);
        client_want_write(m);
        client_check_output(m);
    }
    text_free(&line);
}
