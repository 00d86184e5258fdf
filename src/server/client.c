/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/client.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "command/table.h"
#include "os/socket.h"
#include "server/acl.h"
#include "server/batch.h"
#include "server/blocked.h"
#include "server/himport.h"
#include "server/hold.h"
#include "server/pubsub.h"
#include "server/replication.h"
#include "server/secure.h"
#include "server/tracking.h"
#include "server/transaction.h"

/* By id, for those that are named by it. */
struct client *client_find(const struct server *s, uint64_t id)
{
    struct client *c = s->clients.by_id[id % CLIENT_CHAINS];
    while (c != NULL && c->id != id)
        c = c->next_by_id;
    return c != NULL && !(c->flags & CLIENT_CLOSING) ? c : NULL;
}

static void link_id(struct client *c)
{
    struct client **chain = &c->server->clients.by_id[c->id % CLIENT_CHAINS];
    c->next_by_id = *chain;
    *chain = c;
}

static void unlink_id(struct client *c)
{
    struct client **link = &c->server->clients.by_id[c->id % CLIENT_CHAINS];
    while (*link != c)
        link = &(*link)->next_by_id;
    *link = c->next_by_id;
}

static void client_ready(struct loop_source *source, uint32_t events)
{
    struct client *c =
        (struct client *)(void *)((char *)source - offsetof(struct client, io.source));
    /* Of one whose command is interrupted nothing is touched until it has ended; nor of the
     * primary. */
    if (c->flags & CLIENT_CLOSING || c == c->server->interrupted ||
        (c->flags & CLIENT_MASTER && c->server->busy != NULL))
        return;
    /* Nobody is there any more to take the replies that wait for the log. */
    if (events & (EPOLLHUP | EPOLLERR) && c->held != NULL) {
        client_close(c);
        return;
    }
    if (c->io.tls != NULL && !secure_ready(c, &events))
        return;
    if (events & EPOLLOUT)
        client_write(c);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !(c->flags & CLIENT_CLOSING))
        batch_read(c->server, c);
}

/* A reply that is not held, of the client itself (not of a script, say). */
static size_t send_direct(struct reply *r, const struct slice *parts, int count)
{
    struct client *c = (struct client *)(void *)((char *)r - offsetof(struct client, reply));
    struct server *s = c->server;
    if (r->out != &c->io.out || s->hold_replies || c->flags & CLIENT_CLOSING)
        return 0;
    size_t sent = connection_send(&c->io, parts, count);
    s->stats.writes++;
    s->stats.output_bytes += sent;
    s->direct_bytes += sent;
    c->output_bytes += sent;
    return sent;
}

void clients_init(struct server *s)
{
    s->direct.send = send_direct;
}

/* Tell a connection that is not wanted why, as far as the socket takes it. */
static void refuse(int fd, const char *error)
{
    char line[512];
    int n = snprintf(line, sizeof(line), "-%s\r\n", error);
    ssize_t written = socket_write(fd, line, (size_t)n);
    (void)written;
    socket_close(fd);
}

#define PROTECTED_MODE_ERROR                                                                      \
    "DENIED The server is in protected mode, as protected-mode is on and no password is set for " \
    "the default user: it takes connections from this machine only. Set a password "              \
    "(requirepass), "                                                                             \
    "or turn protected-mode off in the configuration file or by CONFIG SET from the machine "     \
    "itself "                                                                                     \
    "if the network is a trusted one."

static bool may_come_in(const struct server *s, int fd)
{
    return !s->limits.protected_mode || s->limits.password_set || socket_is_unix(fd) ||
           socket_peer_is_local(fd);
}

void client_admit(struct client *c)
{
    if (may_come_in(c->server, c->io.source.fd))
        return;
    c->server->stats.connections_rejected++;
    reply_error(&c->reply, PROTECTED_MODE_ERROR);
    client_close_after_reply(c);
}

static struct client *client_new(struct server *s, int fd, bool tls)
{
    bool local = socket_is_unix(fd);
    struct client *c = mem_zalloc(sizeof(*c));
    if (!connection_init(&c->io, s->loop, fd, client_ready)) {
        log_warning("Cannot wait for a new client's input: %s", strerror(errno));
        socket_close(fd);
        mem_free(c);
        return NULL;
    }
    if (!local) {
        socket_set_nodelay(fd);
        if (s->limits.tcp_keepalive_seconds > 0)
            socket_set_keepalive(fd, s->limits.tcp_keepalive_seconds);
    } else {
        c->flags |= CLIENT_UNIX;
    }
    c->server = s;
    if (tls && !secure_accept(c)) {
        log_warning("Cannot make a TLS session for a new client");
        connection_deinit(&c->io);
        mem_free(c);
        return NULL;
    }
    c->id = ++s->clients.next_id;
    c->db = &s->ks->dbs[0];
    c->reply = (struct reply){.out = &c->io.out, .direct = &s->direct, .protocol = 2};
    c->put_off_last = &c->put_off_first;
    c->created_us = c->active_us = s->now_us;
    acl_become_default(c);
    c->prev = s->clients.last;
    if (c->prev != NULL)
        c->prev->next = c;
    else
        s->clients.first = c;
    s->clients.last = c;
    s->clients.count++;
    link_id(c);
    s->stats.connections_received++;
    return c;
}

/* Beyond maxclients, for an administrator who comes by the Unix socket. */
#define CLIENTS_RESERVED 4
/* Who has not authenticated after so long makes room; so many are looked at. */
#define UNAUTHENTICATED_US 1000000
#define UNAUTHENTICATED_LOOKED_AT 2000

/* Closes the youngest of those who should have authenticated by now. False: there is none. */
static bool make_room(struct server *s)
{
    struct client *c = s->clients.last;
    for (int i = 0; c != NULL && i < UNAUTHENTICATED_LOOKED_AT; c = c->prev, i++) {
        if (c->flags & CLIENT_UNAUTHENTICATED && !(c->flags & CLIENT_CLOSING) &&
            s->now_us - c->created_us > UNAUTHENTICATED_US) {
            client_close(c);
            return true;
        }
    }
    return false;
}

static bool has_room(struct server *s, int fd)
{
    if (s->clients.count < s->limits.maxclients ||
        (s->clients.count < s->limits.maxclients + CLIENTS_RESERVED && socket_is_unix(fd)))
        return true;
    return make_room(s);
}

void client_accept(struct server *s, int fd, bool tls)
{
    if (!has_room(s, fd)) {
        s->stats.connections_rejected++;
        /* Before the handshake there is nothing that a client of TLS would understand. */
        if (tls)
            socket_close(fd);
        else
            refuse(fd, "ERR max number of clients reached");
        return;
    }
    if (!tls && !may_come_in(s, fd)) {
        s->stats.connections_rejected++;
        refuse(fd, PROTECTED_MODE_ERROR);
        return;
    }
    client_new(s, fd, tls);
}

struct client *client_adopt(struct server *s, int fd, struct tls *tls, struct slice received)
{
    struct client *c = client_new(s, fd, false);
    if (c == NULL) {
        tls_free(tls);
        return NULL;
    }
    if (tls != NULL) {
        connection_set_established(&c->io, tls);
        if (c->io.tls_pending)
            secure_note_pending(c);
    }
    if (received.size == 0)
        return c;
    c->io.own = c->io.data = mem_dup(received.data, received.size);
    c->io.own_size = c->io.end = received.size;
    c->input_bytes += received.size;
    batch_add(s, c);
    return c;
}

void client_close(struct client *c)
{
    if (c->flags & CLIENT_CLOSING)
        return;
    if (c->server->executing != c)
        blocked_forget(c);
    c->flags |= CLIENT_CLOSING;
    c->next_closing = c->server->clients.closing;
    c->server->clients.closing = c;
}

void client_close_after_reply(struct client *c)
{
    /* What it waits for would be given to nobody. */
    blocked_forget(c);
    c->flags |= CLIENT_CLOSE_AFTER_REPLY;
    client_want_write(c);
}

static void leave_list(struct client **first, struct client ***last, struct client *c)
{
    for (struct client **at = first; *at != NULL; at = &(*at)->next_write) {
        if (*at != c)
            continue;
        *at = c->next_write;
        if (*last == &c->next_write)
            *last = at;
        return;
    }
}

static void client_free(struct server *s, struct client *c)
{
    /* Told of another client's end, when the turn's output had been written already. */
    if (c->flags & CLIENT_IN_WRITE) {
        leave_list(&s->clients.write_first, &s->clients.write_last, c);
        leave_list(&s->clients.push_first, &s->clients.push_last, c);
    }
    hold_forget(c);
    if (c->flags & CLIENT_MASTER) {
        struct error why = {0};
        error_set(&why, ERROR_SYSTEM, "the connection has ended");
        replication_link_down(s, &why);
    }
    replication_forget_client(c);
    secure_forget(c);
    blocked_forget(c);
    transaction_discard(c);
    pubsub_forget(c);
    tracking_end(c);
    monitor_end(c);
    fieldsets_free(&c->fieldsets);
    for (struct queued_command *q = c->put_off_first, *next; q != NULL; q = next) {
        next = q->next;
        mem_free(q);
    }
    if (c->flags & CLIENT_BLOCKED)
        s->clients.blocked_count--;
    if (s->clients.cron_next == c)
        s->clients.cron_next = c->next;
    if (c->prev != NULL)
        c->prev->next = c->next;
    else
        s->clients.first = c->next;
    if (c->next != NULL)
        c->next->prev = c->prev;
    else
        s->clients.last = c->prev;
    s->clients.count--;
    unlink_id(c);
    outbuf_clear(&c->pushes);
    connection_deinit(&c->io);
    outbuf_clear(&c->discarded);
    mem_free(c->name);
    mem_free(c->lib_name);
    mem_free(c->lib_version);
    mem_free(c->peer);
    mem_free(c->local);
    mem_free(c);
}

void clients_free_closing(struct server *s)
{
    struct client *c;
    while ((c = s->clients.closing) != NULL) {
        s->clients.closing = c->next_closing;
        client_free(s, c);
    }
}

static void append_all(struct outbuf *to, const struct outbuf *from)
{
    const struct outbuf_block *last = from->last;
    for (const struct outbuf_block *b = from->first; b != NULL; b = b->next)
        outbuf_append(to, b->data, b == last ? (size_t)(from->pos - b->data) : b->size);
}

/* Written behind the replies of the turn: while many are told, those who were answered send what
 * they want next, and it is told together. */
static void want_push(struct client *c)
{
    struct server_clients *all = &c->server->clients;
    if (c->flags & CLIENT_IN_WRITE)
        return;
    c->flags |= CLIENT_IN_WRITE;
    c->next_write = NULL;
    *all->push_last = c;
    all->push_last = &c->next_write;
}

void client_push(struct client *c, const struct outbuf *message)
{
    if (c->flags & (CLIENT_CLOSING | CLIENT_CLOSE_AFTER_REPLY))
        return;
    if (c->server->executing == c) {
        append_all(&c->pushes, message);
        c->server->pushes_pending = true;
        return;
    }
    append_all(&c->io.out, message);
    want_push(c);
    client_check_output(c);
}

void client_send_pushes(struct client *c)
{
    if (outbuf_is_empty(&c->pushes))
        return;
    size_t before = outbuf_size(&c->io.out);
    outbuf_move(&c->io.out, &c->pushes);
    if (c->server->hold_replies)
        hold_note_message(c, before);
    client_want_write(c);
    client_check_output(c);
}

void client_want_write(struct client *c)
{
    struct server_clients *all = &c->server->clients;
    if (c->flags & CLIENT_IN_WRITE)
        return;
    c->flags |= CLIENT_IN_WRITE;
    c->next_write = NULL;
    *all->write_last = c;
    all->write_last = &c->next_write;
}

void client_write(struct client *c)
{
    struct server *s = c->server;
    size_t count, limit = hold_writable(c);
    if (limit != 0 && !outbuf_is_empty(&c->io.out)) {
        s->stats.writes++;
        switch (connection_write(&c->io, limit, &count)) {
        case CONNECTION_OK:
            c->soft_limit_since_us = 0;
            break;
        case CONNECTION_AGAIN:
            break;
        case CONNECTION_END:
        case CONNECTION_FAILED:
            log_verbose("Error writing to client: %s", strerror(errno));
            client_close(c);
            return;
        }
        c->output_bytes += count;
        s->stats.output_bytes += count;
        /* One who takes what he asked for is not idle. */
        if (count != 0)
            c->active_us = s->now_us;
    }
    if (c->flags & CLIENT_CLOSE_AFTER_REPLY && outbuf_is_empty(&c->io.out))
        client_close(c);
    else if (c->flags & CLIENT_REPLICA)
        replication_writable(c);
}

/* Put the clients with messages behind those with replies; the first of all. */
static struct client *join_write_lists(struct server_clients *all)
{
    if (all->push_first != NULL) {
        *all->write_last = all->push_first;
        all->write_last = all->push_last;
        all->push_first = NULL;
        all->push_last = &all->push_first;
    }
    return all->write_first;
}

void clients_write(struct server *s)
{
    struct server_clients *all = &s->clients;
    struct client *c;
    while ((c = join_write_lists(all)) != NULL) {
        for (; c != NULL; c = c->next_write) {
            c->flags &= ~(uint32_t)CLIENT_IN_WRITE;
            if (!(c->flags & CLIENT_CLOSING) && !c->io.write_blocked)
                client_write(c);
        }
        all->write_first = NULL;
        all->write_last = &all->write_first;
    }
}

enum client_class client_class(const struct client *c)
{
    if (c->flags & CLIENT_PUBSUB)
        return CLIENT_CLASS_PUBSUB;
    return c->flags & (CLIENT_MONITOR | CLIENT_REPLICA) ? CLIENT_CLASS_REPLICA
                                                        : CLIENT_CLASS_NORMAL;
}

/* Who has not authenticated may have so much of replies that he does not read. */
static const struct output_limit unauthenticated_limit = {.hard_bytes = 2 * OUTBUF_BLOCK_SIZE};

bool client_check_output(struct client *c)
{
    struct server *s = c->server;
    const struct output_limit *limit = c->flags & CLIENT_UNAUTHENTICATED
                                           ? &unauthenticated_limit
                                           : &s->limits.output[client_class(c)];
    if (limit->hard_bytes == 0 && limit->soft_bytes == 0)
        return !(c->flags & CLIENT_CLOSING);
    size_t size = c->io.out.allocated;
    bool over = limit->hard_bytes != 0 && size >= limit->hard_bytes;
    if (limit->soft_bytes != 0 && size >= limit->soft_bytes) {
        if (c->soft_limit_since_us == 0)
            c->soft_limit_since_us = s->now_us;
        else if (s->now_us - c->soft_limit_since_us > limit->soft_seconds * 1000000)
            over = true;
    } else {
        c->soft_limit_since_us = 0;
    }
    if (over && !(c->flags & CLIENT_CLOSING)) {
        log_warning("Client scheduled to be closed ASAP for overcoming of output buffer limits: "
                    "id=%llu addr=%s omem=%zu",
                    (unsigned long long)c->id, client_peer(c), size);
        s->stats.output_buffer_closed++;
        client_close(c);
    }
    return !(c->flags & CLIENT_CLOSING);
}

void clients_cron(struct server *s)
{
    /* Ten calls a second see everybody once, and five at least. */
    size_t count = s->clients.count / 10 + 5;
    struct client *c = s->clients.cron_next;
    for (; count > 0; count--) {
        if (c == NULL)
            c = s->clients.first;
        if (c == NULL)
            break;
        struct client *next = c->next;
        if (!(c->flags & CLIENT_CLOSING) && secure_handshake_is_late(c)) {
            log_verbose("TLS: addr=%s did not complete the handshake in time", client_peer(c));
            client_close(c);
        }
        if (!(c->flags & CLIENT_CLOSING) && client_check_output(c) &&
            s->limits.timeout_seconds > 0 &&
            !(c->flags & (CLIENT_BLOCKED | CLIENT_PUBSUB | CLIENT_MONITOR | CLIENT_REPLICA |
                           CLIENT_MASTER)) &&
            s->now_us - c->active_us > s->limits.timeout_seconds * 1000000) {
            log_verbose("Closing idle client");
            client_close(c);
        }
        c = next;
    }
    s->clients.cron_next = c;
}

const char *client_peer(struct client *c)
{
    if (c->peer == NULL) {
        char name[SOCKET_NAME_SIZE];
        socket_peer_name(c->io.source.fd, name);
        c->peer = mem_dup(name, strlen(name));
    }
    return c->peer;
}

const char *client_local(struct client *c)
{
    if (c->local == NULL) {
        char name[SOCKET_NAME_SIZE];
        socket_local_name(c->io.source.fd, name);
        c->local = mem_dup(name, strlen(name));
    }
    return c->local;
}

void client_describe_flags(const struct client *c, char out[CLIENT_FLAGS_SIZE])
{
    static const struct {
        uint32_t flag;
        char letter;
    } letters[] = {{CLIENT_REPLICA, 'S'},
                   {CLIENT_MONITOR, 'O'},
                   {CLIENT_MASTER, 'M'},
                   {CLIENT_PUBSUB, 'P'},
                   {CLIENT_MULTI, 'x'},
                   {CLIENT_BLOCKED, 'b'},
                   {CLIENT_DIRTY_CAS, 'd'},
                   {CLIENT_CLOSE_AFTER_REPLY, 'c'},
                   {CLIENT_CLOSING, 'A'},
                   {CLIENT_UNIX, 'U'},
                   {CLIENT_NO_EVICT, 'e'},
                   {CLIENT_NO_TOUCH, 'T'},
                   {CLIENT_READS_HERE, 'r'},
                   {CLIENT_IMPORTS, 'I'}};
    size_t n = 0;
    for (size_t i = 0; i < sizeof(letters) / sizeof(letters[0]); i++) {
        if (c->flags & letters[i].flag)
            out[n++] = letters[i].letter;
    }
    for (const char *p = tracking_letters(c); *p != '\0'; p++)
        out[n++] = *p;
    if (n == 0)
        out[n++] = 'N';
    out[n] = '\0';
}

static const char *or_empty(const char *s)
{
    return s != NULL ? s : "";
}

size_t client_memory(const struct client *c)
{
    size_t tls = c->io.tls != NULL ? tls_memory(c->io.tls) : 0;
    return sizeof(*c) + tls + connection_input_memory(&c->io) + c->io.out.allocated +
           transaction_memory(c) + pubsub_client_memory(c) + blocked_client_memory(c) +
           fieldsets_memory(c->fieldsets);
}

void client_describe(struct client *c, struct text *out)
{
    char flags[CLIENT_FLAGS_SIZE], events[3];
    size_t n = 0;
    client_describe_flags(c, flags);
    if (c->io.source.events & EPOLLIN)
        events[n++] = 'r';
    if (c->io.source.events & EPOLLOUT)
        events[n++] = 'w';
    events[n] = '\0';
    size_t window = c->io.end - c->io.start;
    size_t room = c->io.own_size > c->io.end ? c->io.own_size - c->io.end : 0;
    size_t output = outbuf_size(&c->io.out), allocated = c->io.out.allocated;
    size_t blocks = c->io.out.block_count;
    size_t queued = transaction_memory(c);
    size_t total = client_memory(c);
    int64_t now = c->server->now_us;
    text_appendf(out,
                 "id=%llu addr=%s laddr=%s fd=%d name=%s age=%lld idle=%lld flags=%s db=%d sub=%zu "
                 "psub=%zu ssub=%zu multi=%d qbuf=%zu qbuf-free=%zu argv-mem=%zu multi-mem=%zu ",
                 (unsigned long long)c->id, client_peer(c), client_local(c), c->io.source.fd,
                 or_empty(c->name), (long long)((now - c->created_us) / 1000000),
                 (long long)((now - c->active_us) / 1000000), flags, c->db->id,
                 pubsub_client_count(c, TOPIC_CHANNEL), pubsub_client_count(c, TOPIC_PATTERN),
                 pubsub_client_count(c, TOPIC_SHARD),
                 c->flags & CLIENT_MULTI ? (int)transaction_count(c) : -1, window, room,
                 parser_memory(&c->io.parser), queued);
    text_appendf(out,
                 "rbs=%d rbp=%zu obl=%zu oll=%zu omem=%zu tot-mem=%zu events=%s cmd=%s "
                 "user=%s redir=%lld resp=%d lib-name=%s lib-ver=%s",
                 OUTBUF_BLOCK_SIZE, output, blocks <= 1 ? output : 0, blocks > 1 ? blocks : 0,
                 blocks > 1 ? allocated : 0, total, events,
                 c->last_command != NULL ? c->last_command->full_name : "NULL",
                 c->user != NULL ? acl_user_name(c->user) : "(superuser)",
                 (long long)tracking_redirect(c), c->reply.protocol,
                 or_empty(c->lib_name), or_empty(c->lib_version));
}

void client_block(struct client *c)
{
    if (c->flags & CLIENT_BLOCKED)
        return;
    c->flags |= CLIENT_BLOCKED;
    c->server->clients.blocked_count++;
}

void client_unblock(struct client *c)
{
    if (!(c->flags & CLIENT_BLOCKED) || c->waiter != NULL)
        return;
    c->flags &= ~(uint32_t)CLIENT_BLOCKED;
    c->server->clients.blocked_count--;
    batch_add(c->server, c);
}

void client_set_text(char **place, struct slice text)
{
    mem_free(*place);
    *place = text.size != 0 ? mem_dup(text.data, text.size) : NULL;
}

void client_reset(struct client *c)
{
    transaction_discard(c);
    pubsub_forget(c);
    tracking_end(c);
    monitor_end(c);
    fieldsets_free(&c->fieldsets);
    c->db = &c->server->ks->dbs[0];
    c->reply.protocol = 2;
    client_set_text(&c->name, slice_of(NULL, 0));
    c->flags &= ~(uint32_t)(CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP_NEXT | CLIENT_NO_TOUCH |
                            CLIENT_UNAUTHENTICATED | CLIENT_REDIRECTS | CLIENT_READS_HERE |
                            CLIENT_IMPORTS);
    acl_become_default(c);
}

bool client_text_is_valid(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '!' || text.data[i] > '~')
            return false;
    }
    return true;
}

bool client_set_name(struct call *c, struct slice name)
{
    if (!client_text_is_valid(name)) {
        reply_error(c->reply,
                    "ERR Client names cannot contain spaces, newlines or special characters.");
        return false;
    }
    client_set_text(&c->client->name, name);
    return true;
}
