/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/hold.h"

#include <stdio.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "base/number.h"
#include "command/table.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/acl.h"
#include "server/blocked.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/durability.h"

/* A power of two. As many changes as fit in a commit group or two, and some room. */
#define SLOTS (1 << 15)
/* A key is in one of so many slots from its place on. */
#define PROBES 8

/* The last change of a key; free when it is durable. `any`: of several keys, as there was no
 * room. */
struct slot {
    uint64_t hash, lsn;
    bool any;
};

struct run {
    uint64_t start, end; /* offsets in all output that the client has ever got */
    uint64_t lsn;
    uint64_t replies;
    int64_t since_us; /* of the first reply */
    uint8_t level;
};

/* The runs of a client that waits. */
struct held {
    struct held *prev, *next;
    struct client *client;
    struct run *runs;
    size_t first, count, room; /* runs[first .. first + count) */
    size_t bytes;              /* of its output, as last counted */
    bool stopped;              /* it goes on when something of it is let go */
};

struct hold {
    struct server *server;
    struct slot *slots; /* NULL until replies are held for the first time */
    uint64_t sure[HOLD_LEVELS]; /* memory: all there ever is */
    uint64_t floor;             /* the least of those in use */
    uint8_t map[HOLD_LEVELS];   /* what a level amounts to now */
    uint8_t automatic;          /* the same for HOLD_AUTO */
    uint32_t used;              /* a bit for each level that replies are held at */
    size_t own_count[HOLD_LEVELS]; /* clients that have set it */
    uint64_t all_lsn; /* of the last change of who knows which keys */
    uint64_t needed;  /* what the reply of the command that is being executed waits for */
    bool noted;       /* hold_note_call has said so */
    bool changing;    /* an effect is to come that tells of what is being told */
    uint64_t replica_lsn; /* the greatest that somebody has waited for with `replica N` */
    struct held *waiting;
    size_t waiting_clients;
    uint64_t waiting_replies;
    size_t waiting_bytes; /* of the output of those that wait */
    char failed[256]; /* the error; empty: the log works */
};

struct hold *hold_new(struct server *s)
{
    struct hold *h = mem_zalloc(sizeof(*h));
    h->server = s;
    h->sure[HOLD_MEMORY] = h->floor = UINT64_MAX;
    return h;
}

void hold_free(struct hold *h)
{
    if (h == NULL)
        return;
    mem_free(h->slots);
    mem_free(h);
}

/* ---- levels ---- */

bool hold_parse_level(const struct slice *words, int count, int *level)
{
    static const struct {
        const char *name;
        int level;
    } names[] = {{"auto", HOLD_AUTO},
                 {"memory", HOLD_MEMORY},
                 {"local", HOLD_LOCAL},
                 {"quorum", HOLD_QUORUM}};
    int64_t n;
    if (count == 2 && slice_is(words[0], "replica") && number_parse_int64(words[1], &n) && n >= 1 &&
        n <= HOLD_REPLICAS_MOST) {
        *level = HOLD_REPLICA + (int)n - 1;
        return true;
    }
    for (size_t i = 0; count == 1 && i < sizeof(names) / sizeof(names[0]); i++) {
        if (slice_is(words[0], names[i].name)) {
            *level = names[i].level;
            return true;
        }
    }
    return false;
}

void hold_level_text(int level, char out[HOLD_LEVEL_TEXT])
{
    static const char *const names[] = {"memory", "local", "quorum"};
    if (level == HOLD_AUTO)
        snprintf(out, HOLD_LEVEL_TEXT, "auto");
    else if (level < HOLD_REPLICA)
        snprintf(out, HOLD_LEVEL_TEXT, "%s", names[level]);
    else
        snprintf(out, HOLD_LEVEL_TEXT, "replica %d", level - HOLD_REPLICA + 1);
}

int hold_own_level(const struct client *c)
{
    return (int)c->own_level - 1;
}

int hold_wanted_level(const struct client *c)
{
    int level = hold_own_level(c);
    if (level == HOLD_AUTO && c->user != NULL)
        level = acl_user_level(c->user);
    return level != HOLD_AUTO ? level : c->server->config->durability;
}

int hold_level_of(const struct client *c)
{
    const struct hold *h = c->server->hold;
    int level = hold_wanted_level(c);
    return level == HOLD_AUTO ? h->automatic : h->map[level];
}

void hold_set_level(struct client *c, int level)
{
    struct hold *h = c->server->hold;
    if (c->own_level != 0)
        h->own_count[hold_own_level(c)]--;
    c->own_level = (uint8_t)(level + 1);
    if (c->own_level != 0)
        h->own_count[level]++;
    hold_update(h);
}

static void find_floor(struct hold *h)
{
    h->floor = UINT64_MAX;
    for (int i = 0; i < HOLD_LEVELS; i++) {
        if (h->used & 1U << i && h->sure[i] < h->floor)
            h->floor = h->sure[i];
    }
}

static bool log_is_on(const struct server *s)
{
    const struct durability *d = s->durability;
    return d != NULL && (d->state == DURABILITY_ON || d->state == DURABILITY_FAILED);
}

static void make_map(struct hold *h)
{
    const struct server *s = h->server;
    bool log = log_is_on(s);
    for (int i = 0; i < HOLD_LEVELS; i++)
        h->map[i] = (uint8_t)i;
    if (!log)
        h->map[HOLD_LOCAL] = HOLD_MEMORY;
    for (int i = HOLD_QUORUM; i < HOLD_LEVELS && s->is_replica; i++)
        h->map[i] = h->map[HOLD_LOCAL];
    h->automatic = log && s->config->appendfsync == FSYNC_ALWAYS ? HOLD_LOCAL : HOLD_MEMORY;
}

void hold_update(struct hold *h)
{
    struct server *s = h->server;
    uint32_t used = 0, before = h->used;
    make_map(h);
    int level = s->config->durability;
    used |= 1U << (level == HOLD_AUTO ? h->automatic : h->map[level]);
    uint32_t users = s->acl != NULL ? acl_levels(s->acl) : 0;
    for (int i = 0; i < HOLD_LEVELS; i++) {
        if (h->own_count[i] != 0 || users & 1U << i)
            used |= 1U << h->map[i];
    }
    s->explicit_levels = users >> HOLD_LOCAL != 0;
    for (int i = HOLD_LOCAL; i < HOLD_LEVELS; i++)
        s->explicit_levels |= h->own_count[i] != 0;
    used &= ~(1U << HOLD_MEMORY);
    if (s->stream == NULL)
        used = 0;
    h->used = used;
    find_floor(h);
    if (used & ~before) {
        if (h->slots == NULL)
            h->slots = mem_zalloc(SLOTS * sizeof(*h->slots));
        h->all_lsn = stream_end(s->stream);
    }
    if (s->hold_replies != (used != 0)) {
        s->hold_replies = used != 0;
        server_update_hooks(s);
    }
    if (used != before)
        durability_follow_levels(s);
    if (s->replication != NULL)
        server_update_attention(s);
}

bool hold_uses(const struct hold *h, enum hold_level level)
{
    return h->used & 1U << level;
}

bool hold_uses_replicas(const struct hold *h)
{
    return h->used >> HOLD_QUORUM != 0;
}

uint64_t hold_sure(const struct hold *h, enum hold_level level)
{
    return h->sure[level];
}

/* ---- what is not durable ---- */

static uint64_t key_of(const struct db *db, uint64_t hash)
{
    return hash + (uint64_t)db->id * UINT64_C(0x9e3779b97f4a7c15);
}

/* The effect of the change may not be in the stream yet: but its commit group ends behind what is
 * there now, and the reply's LSN is bounded by the stream's end. */
void hold_note_change(struct hold *h, const struct db *db, uint64_t hash)
{
    uint64_t key = key_of(db, hash), lsn = stream_end(h->server->stream) + 1;
    struct slot *room = NULL;
    for (size_t i = 0; i < PROBES; i++) {
        struct slot *slot = &h->slots[(key + i) & (SLOTS - 1)];
        if (slot->hash == key && !slot->any && slot->lsn > h->floor) {
            slot->lsn = lsn;
            return;
        }
        if (room == NULL && slot->lsn <= h->floor)
            room = slot;
    }
    if (room != NULL) {
        *room = (struct slot){.hash = key, .lsn = lsn};
        return;
    }
    struct slot *home = &h->slots[key & (SLOTS - 1)];
    home->any = true;
    home->lsn = lsn;
}

static uint64_t last_change(const struct hold *h, const struct db *db, uint64_t hash)
{
    uint64_t key = key_of(db, hash), lsn = 0;
    for (size_t i = 0; i < PROBES; i++) {
        const struct slot *slot = &h->slots[(key + i) & (SLOTS - 1)];
        if ((slot->hash == key || slot->any) && slot->lsn > lsn)
            lsn = slot->lsn;
    }
    return lsn;
}

static void need(struct hold *h, uint64_t lsn)
{
    if (lsn > h->needed)
        h->needed = lsn;
}

/* Whether a command that names no keys shows what is in the databases. */
static bool shows_data(const struct command *command)
{
    command_handler *handler = command->handler;
    return command->flags & (COMMAND_READONLY | COMMAND_WRITE) || handler == cmd_debug ||
           handler == cmd_exec;
}

void hold_note_call(struct server *s, struct call *call, const struct command *command)
{
    struct hold *h = s->hold;
    h->noted = true;
    uint64_t end = stream_end(s->stream);
    if (h->floor >= end)
        return;
    if (command->first_key <= 0) {
        if (shows_data(command))
            need(h, end);
        return;
    }
    need(h, h->all_lsn);
    if (command->flags & COMMAND_MOVABLEKEYS) {
        need(h, end);
        return;
    }
    int last = command->last_key < 0 ? call->argc + command->last_key : command->last_key;
    int step = command->key_step > 0 ? command->key_step : 1;
    call->key_next = 0;
    for (int i = command->first_key; i <= last && i < call->argc; i += step)
        need(h, last_change(h, call->db, call_hash(call, call->argv[i])));
}

/* ---- clients that wait ---- */

static void count_bytes(struct hold *h, struct held *held)
{
    size_t bytes = outbuf_size(&held->client->io.out);
    h->waiting_bytes += bytes - held->bytes;
    held->bytes = bytes;
}

static void go_on(struct held *held)
{
    if (!held->stopped)
        return;
    held->stopped = false;
    client_unblock(held->client);
}

static uint64_t output_end(const struct client *c)
{
    return c->output_bytes + outbuf_size(&c->io.out);
}

static struct held *held_of(struct hold *h, struct client *c)
{
    struct held *held = c->held;
    if (held != NULL)
        return held;
    held = mem_zalloc(sizeof(*held));
    held->client = c;
    held->next = h->waiting;
    if (held->next != NULL)
        held->next->prev = held;
    h->waiting = held;
    h->waiting_clients++;
    c->held = held;
    return held;
}

static void stop_waiting(struct hold *h, struct held *held)
{
    if (held->prev != NULL)
        held->prev->next = held->next;
    else
        h->waiting = held->next;
    if (held->next != NULL)
        held->next->prev = held->prev;
    h->waiting_clients--;
    for (size_t i = 0; i < held->count; i++)
        h->waiting_replies -= held->runs[held->first + i].replies;
    h->waiting_bytes -= held->bytes;
    go_on(held);
    held->client->held = NULL;
    mem_free(held->runs);
    mem_free(held);
}

/* replies: 0 for a message. */
static void add_run(struct hold *h, struct client *c, uint64_t start, uint64_t lsn,
                    uint64_t replies, int level)
{
    struct held *held = held_of(h, c);
    uint64_t end = output_end(c);
    h->waiting_replies += replies;
    if (level >= HOLD_REPLICA && lsn > h->replica_lsn)
        h->replica_lsn = lsn;
    if (held->count > 0) {
        struct run *last = &held->runs[held->first + held->count - 1];
        bool same_group = lsn <= last->lsn || last->lsn > stream_published(h->server->stream);
        if (lsn < last->lsn)
            lsn = last->lsn;
        if (last->end == start && same_group && last->level == level) {
            last->end = end;
            last->replies += replies;
            last->lsn = lsn;
            return;
        }
    }
    if (held->first + held->count == held->room) {
        if (held->first > held->room / 2) {
            memmove(held->runs, held->runs + held->first, held->count * sizeof(*held->runs));
            held->first = 0;
        } else {
            held->room = held->room == 0 ? 4 : held->room * 2;
            held->runs = mem_realloc(held->runs, held->room * sizeof(*held->runs));
        }
    }
    held->runs[held->first + held->count++] =
        (struct run){.start = start,
                     .end = end,
                     .lsn = lsn,
                     .replies = replies,
                     .since_us = h->server->now_us,
                     .level = (uint8_t)level};
}

size_t hold_writable(const struct client *c)
{
    if (c->held == NULL)
        return SIZE_MAX;
    return (size_t)(c->held->runs[c->held->first].start - c->output_bytes);
}

void hold_forget(struct client *c)
{
    if (c->own_level != 0)
        hold_set_level(c, HOLD_AUTO);
    if (c->held == NULL)
        return;
    c->held->stopped = false; /* it does not go on any more */
    stop_waiting(c->server->hold, c->held);
}

static bool is_sure(const struct run *run, const uint64_t sure[HOLD_LEVELS])
{
    return run->lsn <= sure[run->level];
}

void hold_let_go(struct hold *h)
{
    uint64_t sure[HOLD_LEVELS];
    uint64_t end = h->server->stream != NULL ? stream_end(h->server->stream) : 0;
    if (h->waiting == NULL)
        return;
    /* What waits for an effect that did not come after all. */
    for (int i = 0; i < HOLD_LEVELS; i++)
        sure[i] = h->sure[i] >= end ? UINT64_MAX : h->sure[i];
    for (struct held *held = h->waiting, *next; held != NULL; held = next) {
        next = held->next;
        if (!is_sure(&held->runs[held->first], sure))
            continue;
        while (held->count > 0 && is_sure(&held->runs[held->first], sure)) {
            h->waiting_replies -= held->runs[held->first].replies;
            held->first++;
            held->count--;
        }
        client_want_write(held->client);
        go_on(held);
        if (held->count == 0)
            stop_waiting(h, held);
    }
}

void hold_note_sure(struct hold *h, enum hold_level level, uint64_t lsn)
{
    if (lsn <= h->sure[level])
        return;
    h->sure[level] = lsn;
    find_floor(h);
}

void hold_release(struct hold *h, uint64_t durable)
{
    hold_note_sure(h, HOLD_LOCAL, durable);
    blocked_durable(h->server, durable);
    hold_let_go(h);
}

void hold_restart(struct hold *h, uint64_t lsn)
{
    for (int i = HOLD_LOCAL; i < HOLD_LEVELS; i++)
        h->sure[i] = lsn;
    for (size_t i = 0; h->slots != NULL && i < SLOTS; i++)
        h->slots[i] = (struct slot){0};
    h->all_lsn = lsn;
    h->replica_lsn = 0;
    find_floor(h);
}

void hold_forget_replicas(struct hold *h)
{
    for (int i = HOLD_QUORUM; i < HOLD_LEVELS; i++)
        h->sure[i] = 0;
    if (h->server->stream != NULL)
        h->all_lsn = stream_end(h->server->stream);
    find_floor(h);
}

uint64_t hold_waits_for_replicas(const struct hold *h)
{
    return h->waiting != NULL ? h->replica_lsn : 0;
}

void hold_set_changing(struct hold *h, bool changing)
{
    h->changing = changing;
}

/* ---- the log has failed ---- */

/* The first `size` bytes of `from` go to the end of `to`, or nowhere. */
static void move_bytes(struct outbuf *to, struct outbuf *from, uint64_t size)
{
    while (size > 0) {
        struct iovec piece;
        outbuf_vectors(from, &piece, 1);
        size_t n = piece.iov_len < size ? piece.iov_len : (size_t)size;
        if (to != NULL)
            outbuf_append(to, piece.iov_base, n);
        outbuf_consume(from, n);
        size -= n;
    }
}

/* Put an error in the place of each held reply; what is between them stays. */
static void fail_client(struct hold *h, struct held *held, const char *error)
{
    struct client *c = held->client;
    struct outbuf old = c->io.out;
    uint64_t at = c->output_bytes;
    struct reply reply = {.out = &c->io.out, .protocol = c->reply.protocol};
    c->io.out = (struct outbuf){0};
    for (size_t i = 0; i < held->count; i++) {
        const struct run *run = &held->runs[held->first + i];
        move_bytes(&c->io.out, &old, run->start - at);
        move_bytes(NULL, &old, run->end - run->start);
        at = run->end;
        for (uint64_t n = 0; n < run->replies; n++) {
            reply_error(&reply, error);
            dispatch_count_error(c->server, reply.last_error);
        }
    }
    move_bytes(&c->io.out, &old, outbuf_size(&old));
    outbuf_clear(&old);
    stop_waiting(h, held);
    client_want_write(c);
}

void hold_note_message(struct client *c, size_t before)
{
    struct hold *h = c->server->hold;
    if (c->server->stream == NULL)
        return;
    uint64_t lsn = stream_end(c->server->stream) + h->changing;
    int level = hold_level_of(c);
    if (lsn <= h->sure[level] || outbuf_size(&c->io.out) == before)
        return;
    add_run(h, c, c->output_bytes + before, lsn, 0, level);
    if (h->failed[0] != '\0')
        fail_client(h, c->held, h->failed);
}

void hold_fail(struct hold *h, const char *reason)
{
    if (reason == NULL) {
        h->failed[0] = '\0';
        return;
    }
    snprintf(h->failed, sizeof(h->failed),
             "MISCONF The log failed before this was durable: it may be lost, or not. %.160s",
             reason);
    while (h->waiting != NULL)
        fail_client(h, h->waiting, h->failed);
}

void hold_give_up(struct hold *h, int64_t since_us, const char *error)
{
    for (struct held *held = h->waiting, *next; held != NULL; held = next) {
        next = held->next;
        for (size_t i = 0; i < held->count; i++) {
            const struct run *run = &held->runs[held->first + i];
            if (run->level < HOLD_QUORUM || run->since_us > since_us)
                continue;
            fail_client(h, held, error);
            break;
        }
    }
}

/* ---- executing ---- */

bool hold_dispatch(struct client *c, struct call *call, const struct command *command)
{
    struct server *s = c->server;
    struct hold *h = s->hold;
    /* Whoever waits himself would wait for what he asks for now, too: there is no use in having it
     * ready. */
    if (c->held != NULL) {
        count_bytes(h, c->held);
        if (h->waiting_bytes > (uint64_t)s->config->log_buffer_limit) {
            c->held->stopped = true;
            return false;
        }
    }
    uint64_t start = output_end(c), before = stream_end(s->stream);
    uint64_t processed = s->stats.commands_processed;
    int level;
    h->needed = 0;
    h->noted = false;
    bool executed = dispatch(c, call, command);
    /* What was refused tells of no data. */
    if (!executed || s->stats.commands_processed == processed || c->flags & CLIENT_CLOSING ||
        output_end(c) == start || s->stream == NULL)
        return executed;
    uint64_t end = stream_end(s->stream);
    command = c->last_command;
    if (end != before) {
        need(h, end);
        if (command != NULL && command->flags & COMMAND_WRITE && command->first_key <= 0)
            h->all_lsn = end;
    } else if (command != NULL && !h->noted && !(c->flags & CLIENT_MULTI)) {
        hold_note_call(s, call, command);
    }
    if (h->needed > end)
        h->needed = end;
    if (h->needed > h->floor && h->needed > h->sure[level = hold_level_of(c)]) {
        add_run(h, c, start, h->needed, 1, level);
        count_bytes(h, c->held);
        if (h->failed[0] != '\0')
            fail_client(h, c->held, h->failed);
    }
    return executed;
}

uint64_t hold_reply_begin(const struct client *c)
{
    return output_end(c);
}

void hold_reply_end(struct client *c, const struct command *command, uint64_t start)
{
    struct server *s = c->server;
    struct hold *h = s->hold;
    if (output_end(c) == start || s->stream == NULL || !shows_data(command))
        return;
    uint64_t end = stream_end(s->stream);
    int level = hold_level_of(c);
    if (end <= h->sure[level])
        return;
    add_run(h, c, start, end, 1, level);
    if (h->failed[0] != '\0')
        fail_client(h, c->held, h->failed);
}

size_t hold_waiting_clients(const struct hold *h)
{
    return h->waiting_clients;
}

uint64_t hold_waiting_replies(const struct hold *h)
{
    return h->waiting_replies;
}

size_t hold_waiting_bytes(const struct hold *h)
{
    return h->waiting_bytes;
}
