/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/blocked.h"

#include "base/mem.h"
#include "command/table.h"
#include "server/batch.h"
#include "server/dispatch.h"
#include "server/hold.h"
#include "server/pubsub.h"
#include "server/transaction.h"

#define CHAINS_FIRST 64
/* The timer looks again at the latest after so long, however far away the next deadline is. */
#define TIMER_MAX_MS 3600000
#define NOT_IN_HEAP SIZE_MAX

struct wait_key {
    struct wait_key *next, **link; /* in its chain; *link points here */
    struct wait_key *next_ready;
    struct wait_link *first, *last;
    size_t gone_count; /* waiters that want to know of removal */
    uint64_t hash;
    struct db *db;
    bool ready;   /* listed */
    bool serving; /* its waiters are being walked */
    uint32_t size;
    char name[];
};

/* One key of one waiter. */
struct wait_link {
    struct wait_link *prev, *next; /* in the key's queue */
    struct wait_key *key;
    struct waiter *waiter;
};

/* What may write when its time is over is put off for so long while clients are paused. */
#define PAUSED_AGAIN_MS 10

struct waiter {
    struct client *client;
    struct db *db;
    struct queued_command *request;
    enum entry_type type;
    bool gone;
    wait_serve_fn *serve;
    wait_timed_out_fn *timed_out;
    wait_again_fn *again;
    bool log; /* waits for the log, up to lsn */
    uint64_t lsn;
    struct waiter *prev_lsn, *next_lsn; /* of those that wait for the log */
    int64_t deadline_us;                /* monotonic */
    uint64_t number;                    /* the later began to wait later */
    size_t heap_at;                     /* or NOT_IN_HEAP */
    size_t size;                        /* of this block */
    void *state;
    size_t link_count;
    struct wait_link links[];
};

struct blocked {
    struct server *server;
    struct wait_key **chains;
    size_t chain_count; /* a power of two */
    size_t key_count, keys_gone;
    struct wait_key *ready_first, **ready_last;
    struct wait_link *cursor; /* of the walk in serve_key: moves on when its link goes */
    struct waiter **heap;
    size_t heap_count, heap_room;
    struct waiter *lsn_first;
    struct waiter *lsn_cursor;
    struct loop_timer *timer;
    int64_t timer_us; /* when it is due */
    size_t waiter_count;
    size_t type_counts[ENTRY_TYPE_COUNT]; /* waiters with keys */
    uint64_t next_number;
};

struct blocked *blocked_new(struct server *s)
{
    struct blocked *b = mem_zalloc(sizeof(*b));
    b->server = s;
    b->chain_count = CHAINS_FIRST;
    b->chains = mem_zalloc(b->chain_count * sizeof(struct wait_key *));
    b->ready_last = &b->ready_first;
    return b;
}

static void release_key(struct blocked *b, struct wait_key *key);

void blocked_free(struct blocked *b)
{
    for (struct wait_key *key = b->ready_first, *next; key != NULL; key = next) {
        next = key->next_ready;
        key->ready = false;
        release_key(b, key);
    }
    mem_free(b->chains);
    mem_free(b->heap);
    mem_free(b);
}

/* ---- keys ---- */

static uint64_t place_of(const struct db *db, uint64_t hash)
{
    return hash + (uint64_t)db->id * UINT64_C(0x9e3779b97f4a7c15);
}

static void chain_key(struct blocked *b, struct wait_key *key)
{
    struct wait_key **head = &b->chains[place_of(key->db, key->hash) & (b->chain_count - 1)];
    key->next = *head;
    key->link = head;
    if (key->next != NULL)
        key->next->link = &key->next;
    *head = key;
}

static void grow(struct blocked *b)
{
    struct wait_key **old = b->chains;
    size_t old_count = b->chain_count;
    b->chain_count *= 2;
    b->chains = mem_zalloc(b->chain_count * sizeof(struct wait_key *));
    for (size_t i = 0; i < old_count; i++) {
        for (struct wait_key *key = old[i], *next; key != NULL; key = next) {
            next = key->next;
            chain_key(b, key);
        }
    }
    mem_free(old);
}

static struct slice key_name(const struct wait_key *key)
{
    return slice_of(key->name, key->size);
}

static struct wait_key *find_key(const struct blocked *b, const struct db *db, struct slice name,
                                 uint64_t hash)
{
    struct wait_key *key = b->chains[place_of(db, hash) & (b->chain_count - 1)];
    while (key != NULL && !(key->hash == hash && key->db == db && slice_equal(key_name(key), name)))
        key = key->next;
    return key;
}

static struct wait_key *add_key(struct blocked *b, struct db *db, struct slice name, uint64_t hash)
{
    if (b->key_count == b->chain_count)
        grow(b);
    struct wait_key *key = mem_alloc(sizeof(*key) + name.size);
    *key = (struct wait_key){.hash = hash, .db = db, .size = (uint32_t)name.size};
    if (name.size != 0)
        memcpy(key->name, name.data, name.size);
    chain_key(b, key);
    b->key_count++;
    return key;
}

/* Frees it when nobody waits for it and nobody holds it. */
static void release_key(struct blocked *b, struct wait_key *key)
{
    if (key->first != NULL || key->ready || key->serving)
        return;
    *key->link = key->next;
    if (key->next != NULL)
        key->next->link = key->link;
    b->key_count--;
    mem_free(key);
    if (b->key_count == 0)
        server_update_hooks(b->server);
}

static void link_waiter(struct blocked *b, struct waiter *w, struct slice name, uint64_t hash)
{
    struct wait_key *key = find_key(b, w->db, name, hash);
    if (key == NULL)
        key = add_key(b, w->db, name, hash);
    if (key->last != NULL && key->last->waiter == w)
        return; /* named twice */
    struct wait_link *link = &w->links[w->link_count++];
    *link = (struct wait_link){.key = key, .waiter = w, .prev = key->last};
    if (key->last != NULL)
        key->last->next = link;
    else
        key->first = link;
    key->last = link;
    if (w->gone && key->gone_count++ == 0)
        b->keys_gone++;
}

static void unlink_waiter(struct blocked *b, struct wait_link *link)
{
    struct wait_key *key = link->key;
    if (b->cursor == link)
        b->cursor = link->next;
    if (link->prev != NULL)
        link->prev->next = link->next;
    else
        key->first = link->next;
    if (link->next != NULL)
        link->next->prev = link->prev;
    else
        key->last = link->prev;
    if (link->waiter->gone && --key->gone_count == 0)
        b->keys_gone--;
    release_key(b, key);
}

/* ---- deadlines ---- */

static bool before(const struct waiter *a, const struct waiter *b)
{
    return a->deadline_us != b->deadline_us ? a->deadline_us < b->deadline_us
                                            : a->number < b->number;
}

static void heap_set(struct blocked *b, size_t at, struct waiter *w)
{
    b->heap[at] = w;
    w->heap_at = at;
}

static void sift_up(struct blocked *b, size_t at, struct waiter *w)
{
    for (; at > 0 && before(w, b->heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap_set(b, at, b->heap[(at - 1) / 2]);
    heap_set(b, at, w);
}

static void sift_down(struct blocked *b, size_t at, struct waiter *w)
{
    for (size_t child; (child = 2 * at + 1) < b->heap_count; at = child) {
        if (child + 1 < b->heap_count && before(b->heap[child + 1], b->heap[child]))
            child++;
        if (!before(b->heap[child], w))
            break;
        heap_set(b, at, b->heap[child]);
    }
    heap_set(b, at, w);
}

static void heap_remove(struct blocked *b, struct waiter *w)
{
    size_t at = w->heap_at;
    if (at == NOT_IN_HEAP)
        return;
    w->heap_at = NOT_IN_HEAP;
    struct waiter *last = b->heap[--b->heap_count];
    if (last == w)
        return;
    if (at > 0 && before(last, b->heap[(at - 1) / 2]))
        sift_up(b, at, last);
    else
        sift_down(b, at, last);
}

static void time_is_over(struct blocked *b, struct waiter *w);

/* Milliseconds from now, 1 at least. */
static int64_t timer_delay(const struct server *s, int64_t due_us)
{
    int64_t left_us = due_us - s->now_us;
    if (left_us > (int64_t)TIMER_MAX_MS * 1000)
        return TIMER_MAX_MS;
    return left_us <= 1000 ? 1 : (left_us + 999) / 1000;
}

static int64_t on_timer(void *ctx)
{
    struct blocked *b = ctx;
    struct server *s = b->server;
    while (b->heap_count > 0 && b->heap[0]->deadline_us <= s->now_us)
        time_is_over(b, b->heap[0]);
    if (b->heap_count == 0) {
        b->timer = NULL;
        return 0;
    }
    b->timer_us = b->heap[0]->deadline_us;
    return timer_delay(s, b->timer_us);
}

static void heap_add(struct blocked *b, struct waiter *w)
{
    struct server *s = b->server;
    if (b->heap_count == b->heap_room) {
        b->heap_room = b->heap_room == 0 ? 64 : b->heap_room * 2;
        b->heap = mem_realloc(b->heap, b->heap_room * sizeof(struct waiter *));
    }
    sift_up(b, b->heap_count++, w);
    if (b->timer != NULL && w->deadline_us >= b->timer_us)
        return;
    if (b->timer != NULL)
        loop_remove_timer(s->loop, b->timer);
    b->timer_us = w->deadline_us;
    b->timer = loop_add_timer(s->loop, timer_delay(s, w->deadline_us), on_timer, b);
}

/* ---- waiting ---- */

static void link_lsn(struct blocked *b, struct waiter *w)
{
    w->next_lsn = b->lsn_first;
    if (w->next_lsn != NULL)
        w->next_lsn->prev_lsn = w;
    b->lsn_first = w;
}

static void unlink_lsn(struct blocked *b, struct waiter *w)
{
    if (b->lsn_cursor == w)
        b->lsn_cursor = w->next_lsn;
    if (w->prev_lsn != NULL)
        w->prev_lsn->next_lsn = w->next_lsn;
    else
        b->lsn_first = w->next_lsn;
    if (w->next_lsn != NULL)
        w->next_lsn->prev_lsn = w->prev_lsn;
}

void blocked_wait(struct call *c, const struct call_wait *wait)
{
    struct server *s = c->server;
    struct blocked *b = s->blocked;
    struct client *client = c->client;
    bool hooked = b->key_count != 0;
    size_t head = sizeof(struct waiter) + (size_t)wait->key_count * sizeof(struct wait_link);
    head = (head + 15) & ~(size_t)15;
    struct waiter *w = mem_alloc(head + wait->state_size);
    *w = (struct waiter){.client = client,
                         .db = client->db,
                         .request = queued_command_new(c->command, c->argv, c->argc),
                         .type = wait->type,
                         .gone = wait->gone,
                         .serve = wait->serve,
                         .timed_out = wait->timed_out,
                         .again = wait->again,
                         .log = wait->log,
                         .lsn = wait->lsn,
                         .number = b->next_number++,
                         .heap_at = NOT_IN_HEAP,
                         .size = head + wait->state_size,
                         .state = (char *)w + head};
    if (wait->state_size != 0)
        memcpy(w->state, wait->state, wait->state_size);
    for (int i = 0; i < wait->key_count; i++)
        link_waiter(b, w, wait->keys[i], call_hash(c, wait->keys[i]));
    if (wait->log)
        link_lsn(b, w);
    if (wait->timeout_ms != 0) {
        bool far = wait->timeout_ms > (INT64_MAX - s->now_us) / 1000;
        w->deadline_us = far ? INT64_MAX : s->now_us + wait->timeout_ms * 1000;
        heap_add(b, w);
    }
    b->waiter_count++;
    if (w->link_count != 0)
        b->type_counts[w->type]++;
    client_block(client);
    client->waiter = w;
    if (!hooked && b->key_count != 0)
        server_update_hooks(s);
}

/* The client no longer waits; its flag stays. */
static void end_waiter(struct waiter *w)
{
    struct client *client = w->client;
    struct blocked *b = client->server->blocked;
    if (w->link_count != 0)
        b->type_counts[w->type]--;
    for (size_t i = 0; i < w->link_count; i++)
        unlink_waiter(b, &w->links[i]);
    if (w->log)
        unlink_lsn(b, w);
    heap_remove(b, w);
    b->waiter_count--;
    client->waiter = NULL;
    mem_free(w->request);
    mem_free(w);
}

void blocked_forget(struct client *c)
{
    if (c->waiter != NULL)
        end_waiter(c->waiter);
}

/* ---- replying to one who waits ---- */

struct answer {
    struct call call;
    struct outbuf *out;
    struct client *executing;
    uint64_t begin, dirty, errors, start;
};

/* A call as if the request had come just now. */
static void answer_begin(struct answer *a, const struct waiter *w)
{
    struct client *client = w->client;
    struct server *s = client->server;
    const struct queued_command *q = w->request;
    *a = (struct answer){.call = {.ks = s->ks,
                                  .db = w->db,
                                  .reply = &client->reply,
                                  .command = q->command,
                                  .argv = q->argv,
                                  .argc = q->argc,
                                  .now_ms = s->ks->now_ms,
                                  .hooks = &s->hooks,
                                  .no_touch = client->flags & CLIENT_NO_TOUCH,
                                  .stream = s->stream,
                                  .client = client,
                                  .server = s},
                         .out = client->reply.out,
                         .executing = s->executing,
                         .begin = server_cycles(),
                         .dirty = s->ks->dirty,
                         .errors = client->reply.error_count,
                         .start = hold_reply_begin(client)};
    if (client->flags & (CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP)) {
        client->reply.out = &client->discarded;
        client->reply.muted = true;
    }
    s->executing = client;
}

static void answer_put_back(const struct answer *a)
{
    struct client *client = a->call.client;
    if (client->reply.muted)
        outbuf_clear(&client->discarded);
    client->reply.out = a->out;
    client->reply.muted = false;
    client->server->executing = a->executing;
}

/* It was replied: count what was done, and let the client go on. */
static void answer_end(struct answer *a, struct waiter *w)
{
    struct client *client = w->client;
    struct server *s = client->server;
    struct command_stats *stats = &s->stats.commands[a->call.command->id];
    answer_put_back(a);
    if (a->call.stream != NULL) {
        bool changed = s->ks->dirty != a->dirty && a->call.command->flags & COMMAND_WRITE;
        call_end_effects(&a->call, a->call.db, changed);
        s->effects += changed;
    }
    if (s->hold_replies)
        hold_reply_end(client, a->call.command, a->start);
    stats->cycles += server_cycles() - a->begin;
    if (client->reply.error_count != a->errors) {
        stats->failed++;
        dispatch_count_error(s, client->reply.last_error);
    }
    end_waiter(w);
    client->flags &= ~(uint32_t)CLIENT_REPLY_SKIP;
    client_unblock(client);
    client_send_pushes(client);
    client_want_write(client);
    client_check_output(client);
}

static void time_out(struct waiter *w)
{
    struct answer a;
    answer_begin(&a, w);
    if (w->timed_out != NULL)
        w->timed_out(&a.call, w->state);
    else
        reply_null_array(a.call.reply);
    answer_end(&a, w);
}

static void time_is_over(struct blocked *b, struct waiter *w)
{
    struct answer a;
    int64_t again_ms;
    if (w->again == NULL) {
        time_out(w);
        return;
    }
    if (server_is_paused(b->server)) {
        again_ms = PAUSED_AGAIN_MS; /* as it may write */
    } else {
        answer_begin(&a, w);
        if (w->again(&a.call, w->state, &again_ms)) {
            answer_end(&a, w);
            return;
        }
        answer_put_back(&a);
    }
    heap_remove(b, w);
    w->deadline_us = b->server->now_us + again_ms * 1000;
    heap_add(b, w);
}

static void serve(struct waiter *w, struct slice key, struct entry *e)
{
    struct answer a;
    answer_begin(&a, w);
    if (w->serve(&a.call, key, e, w->state))
        answer_end(&a, w);
    else
        answer_put_back(&a);
}

bool blocked_unblock(struct client *c, const char *error)
{
    struct waiter *w = c->waiter;
    if (w == NULL)
        return false;
    c->wait_shutdown = false;
    if (error == NULL) {
        time_out(w);
        return true;
    }
    struct answer a;
    answer_begin(&a, w);
    reply_error(a.call.reply, error);
    answer_end(&a, w);
    return true;
}

/* ---- keys that become ready ---- */

bool blocked_has_keys(const struct blocked *b)
{
    return b->key_count != 0;
}

static void make_ready(struct blocked *b, struct wait_key *key)
{
    if (key->ready)
        return;
    key->ready = true;
    key->next_ready = NULL;
    *b->ready_last = key;
    b->ready_last = &key->next_ready;
    b->server->keys_ready = true;
}

/* A key of a type that nobody at all waits for is not listed: it may be of the right type later,
 * and gets its place in the order then. */
static void look(struct blocked *b, struct wait_key *key)
{
    if (key->ready)
        return;
    const struct entry *e = db_find(key->db, key_name(key), key->hash);
    if (key->gone_count != 0 || (e != NULL && b->type_counts[entry_type(e)] != 0))
        make_ready(b, key);
}

void blocked_signal(struct server *s, const struct db *db, struct slice name, uint64_t hash)
{
    struct wait_key *key = find_key(s->blocked, db, name, hash);
    if (key != NULL)
        look(s->blocked, key);
}

void blocked_signal_gone(struct server *s, const struct db *db, struct slice name)
{
    struct blocked *b = s->blocked;
    if (b->keys_gone == 0)
        return;
    struct wait_key *key = find_key(b, db, name, key_hash(name));
    if (key != NULL && key->gone_count != 0)
        make_ready(b, key);
}

void blocked_signal_db(struct server *s, const struct db *db)
{
    struct blocked *b = s->blocked;
    for (size_t i = 0; b->key_count != 0 && i < b->chain_count; i++) {
        for (struct wait_key *key = b->chains[i]; key != NULL; key = key->next) {
            if (key->db == db)
                look(b, key);
        }
    }
}

/* Everybody who waits for this key gets a look at it, in order. What one is given may be the last
 * there was, or be something else for the next one. */
static void serve_key(struct blocked *b, struct wait_key *key)
{
    key->serving = true;
    b->cursor = key->first;
    while (b->cursor != NULL) {
        struct wait_link *link = b->cursor;
        struct waiter *w = link->waiter;
        struct entry *e = db_find(key->db, key_name(key), key->hash);
        if (e == NULL && key->gone_count == 0)
            break;
        b->cursor = link->next;
        if (!(w->client->flags & CLIENT_CLOSING) &&
            (w->gone || (e != NULL && entry_type(e) == w->type)))
            serve(w, key_name(key), e);
    }
    b->cursor = NULL;
    key->serving = false;
}

void blocked_serve(struct server *s)
{
    struct blocked *b = s->blocked;
    struct wait_key *key;
    s->keys_ready = false;
    while ((key = b->ready_first) != NULL) {
        b->ready_first = key->next_ready;
        if (b->ready_first == NULL)
            b->ready_last = &b->ready_first;
        key->ready = false;
        serve_key(b, key);
        release_key(b, key);
    }
    s->keys_ready = false;
}

void blocked_durable(struct server *s, uint64_t lsn)
{
    struct blocked *b = s->blocked;
    b->lsn_cursor = b->lsn_first;
    while (b->lsn_cursor != NULL) {
        struct waiter *w = b->lsn_cursor;
        b->lsn_cursor = w->next_lsn;
        if (w->lsn <= lsn && !(w->client->flags & CLIENT_CLOSING))
            serve(w, slice_of(NULL, 0), NULL);
    }
}

/* ---- what INFO and CLIENT LIST show ---- */

struct blocked_counts blocked_count(const struct blocked *b)
{
    return (struct blocked_counts){.waiters = b->waiter_count,
                                   .with_timeout = b->heap_count,
                                   .keys = b->key_count,
                                   .keys_gone = b->keys_gone};
}

size_t blocked_client_memory(const struct client *c)
{
    return c->waiter != NULL ? c->waiter->size + c->waiter->request->size : 0;
}
