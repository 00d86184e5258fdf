/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/migrate.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/number.h"
#include "handlers.h"
#include "net/peer.h"
#include "persist/rdb/format.h"
#include "server/config.h"
#include "server/server.h"

#define CACHE_MAX 64
#define IDLE_MAX_US 10000000
#define DEFAULT_TIMEOUT_MS 1000

/* ---- the cache ---- */

struct cached {
    struct peer *peer;
    char *target; /* host, port, user and password, each ended by a NUL */
    size_t target_size;
    int64_t db; /* selected on the other side; -1: not known */
    int64_t last_use_us;
};

struct migrate_cache {
    struct cached items[CACHE_MAX];
    size_t count;
};

struct migrate_cache *migrate_cache_new(void)
{
    return mem_zalloc(sizeof(struct migrate_cache));
}

static void cache_drop(struct migrate_cache *cache, struct cached *item)
{
    peer_close(item->peer);
    mem_free(item->target);
    *item = cache->items[--cache->count];
}

void migrate_cache_free(struct migrate_cache *cache)
{
    while (cache->count > 0)
        cache_drop(cache, &cache->items[cache->count - 1]);
    mem_free(cache);
}

void migrate_cache_cron(struct migrate_cache *cache, int64_t now_us)
{
    for (size_t i = cache->count; i-- > 0;)
        if (now_us - cache->items[i].last_use_us > IDLE_MAX_US)
            cache_drop(cache, &cache->items[i]);
}

size_t migrate_cache_count(const struct migrate_cache *cache)
{
    return cache->count;
}

static struct cached *cache_find(struct migrate_cache *cache, struct slice target)
{
    for (size_t i = 0; i < cache->count; i++)
        if (slice_equal(slice_of(cache->items[i].target, cache->items[i].target_size), target))
            return &cache->items[i];
    return NULL;
}

static struct cached *cache_add(struct migrate_cache *cache, struct slice target, struct peer *peer)
{
    if (cache->count == CACHE_MAX) {
        struct cached *oldest = &cache->items[0];
        for (size_t i = 1; i < cache->count; i++)
            if (cache->items[i].last_use_us < oldest->last_use_us)
                oldest = &cache->items[i];
        cache_drop(cache, oldest);
    }
    struct cached *item = &cache->items[cache->count++];
    *item = (struct cached){.peer = peer,
                            .target = mem_dup(target.data, target.size),
                            .target_size = target.size,
                            .db = -1};
    return item;
}

/* ---- the arguments ---- */

struct migration {
    struct call *c;
    char *host;
    int port, timeout_ms;
    int64_t db;
    bool copy, replace, auth;
    struct slice user, password; /* no user: AUTH with the password alone */
    int first_key, key_count;    /* in argv */
    /* The keys that exist, then those of them that were sent, in order. */
    struct moving {
        struct slice key;
        const struct entry *entry;
    } * keys;
    size_t count;
    struct cached *to;
};

static bool parse_options(struct migration *m)
{
    const struct slice *argv = m->c->argv;
    int argc = m->c->argc;
    m->first_key = 3;
    m->key_count = 1;
    for (int i = 6; i < argc; i++) {
        int more = argc - 1 - i;
        if (slice_is(argv[i], "copy")) {
            m->copy = true;
        } else if (slice_is(argv[i], "replace")) {
            m->replace = true;
        } else if (slice_is(argv[i], "auth") && more >= 1) {
            m->auth = true;
            m->user = (struct slice){0};
            m->password = argv[++i];
        } else if (slice_is(argv[i], "auth2") && more >= 2) {
            m->auth = true;
            m->user = argv[++i];
            m->password = argv[++i];
        } else if (slice_is(argv[i], "keys")) {
            if (argv[3].size != 0) {
                reply_error(m->c->reply, "ERR When using MIGRATE KEYS option, the key argument "
                                         "must be set to the empty string");
                return false;
            }
            m->first_key = i + 1;
            m->key_count = more;
            return true;
        } else {
            reply_syntax_error(m->c->reply);
            return false;
        }
    }
    return true;
}

static bool parse_numbers(struct migration *m)
{
    int64_t timeout, port;
    if (!call_int64(m->c, m->c->argv[5], &timeout, NULL) ||
        !call_int64(m->c, m->c->argv[4], &m->db, NULL))
        return false;
    if (timeout <= 0)
        timeout = DEFAULT_TIMEOUT_MS;
    m->timeout_ms = timeout < INT_MAX ? (int)timeout : INT_MAX;
    /* Nobody listens at what is no port: connecting will say so. */
    m->port = 0;
    if (number_parse_int64(m->c->argv[2], &port) && port > 0 && port <= UINT16_MAX)
        m->port = (int)port;
    return true;
}

static void find_keys(struct migration *m)
{
    m->keys = mem_alloc(((size_t)m->key_count + 1) * sizeof(*m->keys));
    for (int i = 0; i < m->key_count; i++) {
        struct slice key = m->c->argv[m->first_key + i];
        const struct entry *e = call_find_any(m->c, key);
        if (e != NULL)
            m->keys[m->count++] = (struct moving){key, e};
    }
}

/* ---- the exchange ---- */

static void append(char **at, struct slice s)
{
    if (s.size != 0)
        memcpy(*at, s.data, s.size);
    *at += s.size;
    *(*at)++ = '\0';
}

/* A connection, from the cache or new. False: there is none. */
static bool connect_target(struct migration *m, bool *reused)
{
    struct migrate_cache *cache = m->c->server->migrate;
    char port[NUMBER_INT64_SIZE];
    struct slice host = slice_cstr(m->host);
    struct slice number = slice_of(port, number_format_int64(port, m->port));
    char *text = mem_alloc(host.size + number.size + m->user.size + m->password.size + 4);
    char *end = text;
    append(&end, host);
    append(&end, number);
    append(&end, m->user);
    append(&end, m->password);
    struct slice target = slice_of(text, (size_t)(end - text));
    m->to = cache_find(cache, target);
    *reused = m->to != NULL;
    if (m->to == NULL) {
        const struct server *s = m->c->server;
        struct tls_context *tls = s->config->tls_cluster ? s->tls_client : NULL;
        struct peer *peer = peer_connect(m->host, m->port, s->config->bind_source_addr, tls,
                                         m->timeout_ms, NULL);
        if (peer != NULL)
            m->to = cache_add(cache, target, peer);
    }
    mem_free(text);
    if (m->to == NULL)
        return false;
    m->to->last_use_us = clock_monotonic_us();
    peer_set_timeout(m->to->peer, m->timeout_ms);
    return true;
}

static bool send_login(const struct migration *m)
{
    struct peer *p = m->to->peer;
    if (!m->auth)
        return true;
    return peer_write_request(p, m->user.data != NULL ? 3 : 2) &&
           peer_write_argument(p, SLICE("AUTH")) &&
           (m->user.data == NULL || peer_write_argument(p, m->user)) &&
           peer_write_argument(p, m->password);
}

static bool send_number(struct peer *p, int64_t v)
{
    char text[NUMBER_INT64_SIZE];
    return peer_write_argument(p, slice_of(text, number_format_int64(text, v)));
}

static bool send_key(const struct migration *m, const struct moving *k, int64_t ttl)
{
    struct peer *p = m->to->peer;
    struct rdb_writer w;
    rdb_writer_init(&w, 256, NULL, NULL);
    rdb_dump(&w, k->entry);
    bool ok = peer_write_request(p, m->replace ? 5 : 4) &&
              peer_write_argument(p, SLICE("RESTORE")) && peer_write_argument(p, k->key) &&
              send_number(p, ttl) && peer_write_argument(p, slice_of(w.buffer, w.used)) &&
              (!m->replace || peer_write_argument(p, SLICE("REPLACE")));
    int saved = errno;
    rdb_writer_deinit(&w);
    errno = saved;
    return ok;
}

/* Whether the other side has to be told of the database. */
static bool selects(const struct migration *m)
{
    return m->to->db != m->db;
}

static bool send_all(struct migration *m)
{
    struct peer *p = m->to->peer;
    if (!send_login(m))
        return false;
    if (selects(m) && !(peer_write_request(p, 2) && peer_write_argument(p, SLICE("SELECT")) &&
                        send_number(p, m->db)))
        return false;
    size_t sent = 0;
    for (size_t i = 0; i < m->count; i++) {
        int64_t due = entry_due(m->keys[i].entry), ttl = 0;
        if (due != ENTRY_NO_EXPIRY) {
            /* Connecting and writing take their time: what has expired by now stays here. */
            ttl = due - clock_wall_ms();
            if (ttl < 0)
                continue;
            if (ttl == 0)
                ttl = 1;
        }
        if (!send_key(m, &m->keys[i], ttl))
            return false;
        m->keys[sent++] = m->keys[i];
    }
    m->count = sent;
    return peer_flush(p);
}

static bool is_error(struct slice line)
{
    return line.size != 0 && line.data[0] == '-';
}

static void reply_refused(const struct migration *m, struct slice line)
{
    reply_errorf(m->c->reply, "ERR Target instance replied with error: %.*s", (int)line.size - 1,
                 line.data + 1);
}

static void delete_key(struct call *c, struct slice key)
{
    struct keyref ref;
    keyref_find(&ref, c->db, key, call_hash(c, key));
    if (ref.entry == NULL)
        return; /* it was named twice */
    keyref_delete(&ref);
    call_changed(c, c->db, key, EVENT_GENERIC, "del", 1);
    call_effect_delete(c, c->db, key);
}

/* A status that is no error; anything else but those two is no answer to what was asked. */
static bool read_status(struct peer *p, struct slice *line)
{
    if (!peer_read_line(p, line))
        return false;
    if (is_error(*line) || (line->size != 0 && line->data[0] == '+'))
        return true;
    errno = EPROTO;
    return false;
}

/* Read the replies and do what follows from them. *acknowledged: one for a key was read. *refused:
 * the target's first error was replied. False: the connection failed. */
static bool receive_all(struct migration *m, bool *acknowledged, bool *refused)
{
    struct peer *p = m->to->peer;
    struct slice line;
    bool logged_in = true;
    for (int i = 0; i < m->auth + selects(m); i++) {
        if (!read_status(p, &line))
            return false;
        if (is_error(line)) {
            if (!*refused)
                reply_refused(m, line);
            *refused = true;
            logged_in = false;
        }
    }
    for (size_t i = 0; i < m->count; i++) {
        if (!read_status(p, &line))
            return false;
        *acknowledged = true;
        if (is_error(line)) {
            if (!*refused)
                reply_refused(m, line);
            *refused = true;
        } else if (logged_in && !m->copy) {
            /* (If not, it is there in the wrong database, or under the wrong user.) */
            delete_key(m->c, m->keys[i].key);
        }
    }
    return true;
}

/* True: the command has been replied to. False: the connection turned out to be dead. */
static bool move_keys(struct migration *m)
{
    bool reused, acknowledged = false, refused = false;
    struct migrate_cache *cache = m->c->server->migrate;
    if (!connect_target(m, &reused)) {
        /* Redis tells a refused connection only by the first write to it. */
        bool connecting = errno == ETIMEDOUT || errno == EADDRNOTAVAIL;
        reply_error(m->c->reply, connecting ? "IOERR error or timeout connecting to the client"
                                            : "IOERR error or timeout writing to target instance");
        return true;
    }
    bool sent = send_all(m);
    if (sent && receive_all(m, &acknowledged, &refused)) {
        m->to->db = refused ? -1 : m->db;
        if (!refused)
            reply_ok(m->c->reply);
        return true;
    }
    int error = errno;
    cache_drop(cache, m->to);
    if (reused && !acknowledged && !refused && error != ETIMEDOUT)
        return false;
    if (!refused)
        reply_error(m->c->reply, sent ? "IOERR error or timeout reading from target instance"
                                      : "IOERR error or timeout writing to target instance");
    return true;
}

void cmd_migrate(struct call *c)
{
    struct migration m = {.c = c};
    if (!parse_options(&m) || !parse_numbers(&m))
        return;
    find_keys(&m);
    if (m.count == 0) {
        reply_simple(c->reply, "NOKEY");
    } else {
        m.host = mem_dup(c->argv[1].data, c->argv[1].size);
        /* The second connection is a new one, so that it decides. */
        if (!move_keys(&m))
            move_keys(&m);
        mem_free(m.host);
        /* Time has passed. */
        server_update_clock(c->server);
        c->now_ms = c->ks->now_ms;
    }
    mem_free(m.keys);
}
