/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/hold.h"

#include <stdio.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "command/table.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/blocked.h"
#include "server/dispatch.h"

/* A power of two. As many changes as fit in a commit group or two, and some room. */
#define SLOTS (1 << 15)
/* A key is in one of so many slots from its place on. */
#define PROBES 8

/* The last change of a key; free when it is durable. `any`: of several keys, as there was no room. */
struct slot {
    uint64_t hash, lsn;
    bool any;
};

struct run {
    uint64_t start, end; /* offsets in all output that the client has ever got */
    uint64_t lsn;
    uint64_t replies;
};

/* The runs of a client that waits. */
struct held {
    struct held *prev, *next;
    struct client *client;
    struct run *runs;
    size_t first, count, room; /* runs[first .. first + count) */
};

struct hold {
    struct server *server;
    struct slot *slots; /* NULL until replies are held for the first time */
    uint64_t durable;
    uint64_t all_lsn; /* of the last change of who knows which keys */
    uint64_t needed;  /* what the reply of the command that is being executed waits for */
    bool noted;       /* hold_note_call has said so */
    bool changing;    /* an effect is to come that tells of what is being told */
    struct held *waiting;
    size_t waiting_clients;
    uint64_t waiting_replies;
    char failed[256]; /* the error; empty: the log works */
};

struct hold *hold_new(struct server *s)
{
    struct hold *h = mem_zalloc(sizeof(*h));
    h->server = s;
    return h;
}

void hold_free(struct hold *h)
{
    if (h == NULL)
        return;
    mem_free(h->slots);
    mem_free(h);
}

void hold_begin(struct hold *h)
{
    if (h->server->hold_replies)
        return;
    if (h->slots == NULL)
        h->slots = mem_zalloc(SLOTS * sizeof(*h->slots));
    h->all_lsn = stream_end(h->server->stream);
    h->server->hold_replies = true;
    server_update_hooks(h->server);
}

void hold_end(struct hold *h)
{
    h->server->hold_replies = false;
    server_update_hooks(h->server);
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
        if (slot->hash == key && !slot->any && slot->lsn > h->durable) {
            slot->lsn = lsn;
            return;
        }
        if (room == NULL && slot->lsn <= h->durable)
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
    if (h->durable >= end)
        return;
    need(h, h->all_lsn);
    if (command->first_key <= 0) {
        if (shows_data(command))
            need(h, end);
        return;
    }
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
    held->client->held = NULL;
    mem_free(held->runs);
    mem_free(held);
}

/* replies: 0 for a message. */
static void add_run(struct hold *h, struct client *c, uint64_t start, uint64_t lsn, uint64_t replies)
{
    struct held *held = held_of(h, c);
    uint64_t end = output_end(c);
    h->waiting_replies += replies;
    if (held->count > 0) {
        struct run *last = &held->runs[held->first + held->count - 1];
        bool same_group = lsn <= last->lsn || last->lsn > stream_published(h->server->stream);
        if (lsn < last->lsn)
            lsn = last->lsn;
        if (last->end == start && same_group) {
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
        (struct run){.start = start, .end = end, .lsn = lsn, .replies = replies};
}

size_t hold_writable(const struct client *c)
{
    if (c->held == NULL)
        return SIZE_MAX;
    return (size_t)(c->held->runs[c->held->first].start - c->output_bytes);
}

void hold_forget(struct client *c)
{
    if (c->held != NULL)
        stop_waiting(c->server->hold, c->held);
}

void hold_release(struct hold *h, uint64_t durable)
{
    if (durable > h->durable)
        h->durable = durable;
    blocked_durable(h->server, durable);
    /* What waits for an effect that did not come after all. */
    if (h->server->stream == NULL || durable >= stream_end(h->server->stream))
        durable = UINT64_MAX;
    for (struct held *held = h->waiting, *next; held != NULL; held = next) {
        next = held->next;
        if (held->runs[held->first].lsn > durable)
            continue;
        while (held->count > 0 && held->runs[held->first].lsn <= durable) {
            h->waiting_replies -= held->runs[held->first].replies;
            held->first++;
            held->count--;
        }
        client_want_write(held->client);
        if (held->count == 0)
            stop_waiting(h, held);
    }
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
static void fail_client(struct hold *h, struct held *held)
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
            reply_error(&reply, h->failed);
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
    if (lsn <= h->durable || outbuf_size(&c->io.out) == before)
        return;
    add_run(h, c, c->output_bytes + before, lsn, 0);
    if (h->failed[0] != '\0')
        fail_client(h, c->held);
}

void hold_fail(struct hold *h, const char *reason)
{
    if (reason == NULL) {
        h->failed[0] = '\0';
        return;
    }
    snprintf(h->failed, sizeof(h->failed),
             "MISCONF The log failed before this was durable: it may be lost, or not. %.160s", reason);
    while (h->waiting != NULL)
        fail_client(h, h->waiting);
}

/* ---- executing ---- */

bool hold_dispatch(struct client *c, struct call *call, const struct command *command)
{
    struct server *s = c->server;
    struct hold *h = s->hold;
    uint64_t start = output_end(c), before = stream_end(s->stream);
    h->needed = 0;
    h->noted = false;
    bool executed = dispatch(c, call, command);
    if (!executed || c->flags & CLIENT_CLOSING || output_end(c) == start || s->stream == NULL)
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
    if (h->needed > h->durable) {
        add_run(h, c, start, h->needed, 1);
        if (h->failed[0] != '\0')
            fail_client(h, c->held);
    }
    return executed;
}

uint64_t hold_reply_begin(const struct client *c)
{
    return output_end(c);
}

void hold_reply_end(struct client *c, uint64_t start)
{
    struct server *s = c->server;
    struct hold *h = s->hold;
    if (output_end(c) == start || s->stream == NULL)
        return;
    uint64_t end = stream_end(s->stream);
    if (end <= h->durable)
        return;
    add_run(h, c, start, end, 1);
    if (h->failed[0] != '\0')
        fail_client(h, c->held);
}

size_t hold_waiting_clients(const struct hold *h)
{
    return h->waiting_clients;
}

uint64_t hold_waiting_replies(const struct hold *h)
{
    return h->waiting_replies;
}
