/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/batch.h"

#include <errno.h>

#include "base/log.h"
#include "base/mem.h"
#include "command/table.h"
#include "handlers.h"
#include "server/blocked.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/memory_limit.h"
#include "server/replication.h"
#include "server/secure.h"
#include "server/transaction.h"
#include "type/member.h"

/* How many commands are executed between two stages of prefetching: their buckets and entries
 * should fit in the first two levels of cache. */
#define BATCH_MAX 128
/* Keys are looked up ahead for at most so many in a batch and in one command of it. */
#define KEYS_MAX 192
#define COMMAND_KEYS_MAX 64
/* What the sockets have sent in one go before it is executed. */
#define ARENA_SIZE (512 * 1024)
/* Room for the arguments of a batch, besides those of one more command. */
#define ARGS_MAX 2048
/* With maxmemory the memory in use is looked at before every so many commands, and before those
 * with big arguments. */
#define MEMORY_CHECK 8
/* More output than this is written at once, as long as it is in the cache. */
#define WRITE_EARLY (64 * 1024)
/* What may be kept of a request of who has not authenticated. */
#define UNAUTHENTICATED_INPUT (32 * 1024)

struct item {
    struct client *client;
    const struct command *command; /* NULL: unknown */
    const struct slice *argv;
    struct slice request;           /* its bytes, or empty: see struct call */
    struct queued_command *put_off; /* it comes from the client's put_off queue */
    int argc;
    uint16_t key_at, key_count; /* its keys in the batch's keys */
    bool kept;                  /* the parser holds the arguments */
};

struct batch {
    struct item items[BATCH_MAX];
    int count;
    int key_count;
    struct call_key keys[KEYS_MAX + COMMAND_KEYS_MAX];
    size_t args_used;
    struct slice args[ARGS_MAX + PARSER_ARGS_FAST];
    struct client *input_first, **input_last; /* windows to be parsed */
    struct client **turn;                     /* clients that were read from in this turn */
    size_t turn_count, turn_room;
    bool running;
    int executing;        /* the item */
    struct batch *outer;  /* it was interrupted for this one: batch_step_aside */
    struct read_arena arena;
};

struct batch *batch_new(void)
{
    struct batch *b = mem_alloc(sizeof(*b));
    b->count = 0;
    b->args_used = 0;
    b->input_first = NULL;
    b->input_last = &b->input_first;
    b->turn = NULL;
    b->turn_count = b->turn_room = 0;
    b->running = false;
    b->outer = NULL;
    read_arena_init(&b->arena, ARENA_SIZE);
    return b;
}

void batch_free(struct batch *b)
{
    read_arena_deinit(&b->arena);
    mem_free(b->turn);
    mem_free(b);
}

void batch_add(struct server *s, struct client *c)
{
    struct batch *b = s->batch;
    if (c->flags & (CLIENT_IN_INPUT | CLIENT_STOPPED))
        return;
    c->flags |= CLIENT_IN_INPUT;
    c->next_input = NULL;
    *b->input_last = c;
    b->input_last = &c->next_input;
}

static void input_pop(struct batch *b)
{
    struct client *c = b->input_first;
    b->input_first = c->next_input;
    if (b->input_first == NULL)
        b->input_last = &b->input_first;
    c->flags &= ~(uint32_t)CLIENT_IN_INPUT;
}

static void note_turn(struct batch *b, struct client *c)
{
    if (c->flags & CLIENT_IN_TURN)
        return;
    if (b->turn_count == b->turn_room) {
        b->turn_room = b->turn_room == 0 ? 64 : b->turn_room * 2;
        b->turn = mem_realloc(b->turn, b->turn_room * sizeof(*b->turn));
    }
    c->flags |= CLIENT_IN_TURN;
    b->turn[b->turn_count++] = c;
}

void batch_end_turn(struct server *s)
{
    struct batch *b = s->batch;
    for (size_t i = 0; i < b->turn_count; i++) {
        struct client *c = b->turn[i];
        c->flags &= ~(uint32_t)CLIENT_IN_TURN;
        connection_keep(&c->io);
    }
    b->turn_count = 0;
    read_arena_reset(&b->arena);
}

void batch_read(struct server *s, struct client *c)
{
    struct batch *b = s->batch;
    if (!read_arena_has_room(&b->arena)) {
        batch_run(s);
        batch_end_turn(s);
        if (c->flags & CLIENT_CLOSING)
            return;
    }
    size_t count;
    enum connection_result result = connection_read(&c->io, &b->arena, &count);
    s->stats.reads++;
    switch (result) {
    case CONNECTION_AGAIN:
        return;
    case CONNECTION_FAILED:
        log_verbose("Reading from client: %s", strerror(errno));
        client_close(c);
        return;
    case CONNECTION_END:
        /* Who has said all he has to say may still wait for replies that are held. */
        if (c->held != NULL) {
            loop_set_events(s->loop, &c->io.source, c->io.source.events & ~(uint32_t)EPOLLIN);
            client_close_after_reply(c);
        } else {
            client_close(c);
        }
        return;
    case CONNECTION_OK:
        break;
    }
    if (c->io.tls_pending)
        secure_note_pending(c);
    note_turn(b, c);
    c->active_us = s->now_us;
    c->input_bytes += count;
    s->stats.input_bytes += count;
    if (c->flags & CLIENT_CLOSE_AFTER_REPLY) {
        /* Nothing of it is wanted any more. */
        c->io.start = c->io.end;
        return;
    }
    uint64_t most = s->limits.query_buffer_max;
    if (c->flags & CLIENT_UNAUTHENTICATED && most > UNAUTHENTICATED_INPUT)
        most = UNAUTHENTICATED_INPUT;
    if (c->io.own_size != 0 && connection_input_memory(&c->io) + transaction_memory(c) > most) {
        log_warning("Closing client that reached max query buffer length: id=%llu addr=%s",
                    (unsigned long long)c->id, client_peer(c));
        s->stats.query_buffer_closed++;
        client_close(c);
        return;
    }
    batch_add(s, c);
}

static void protocol_error(struct server *s, struct client *c)
{
    log_verbose("%s from client: id=%llu addr=%s", parser_error_text(&c->io.parser),
                (unsigned long long)c->id, client_peer(c));
    reply_errorf(&c->reply, "ERR %s", parser_error_text(&c->io.parser));
    s->stats.protocol_errors++;
    dispatch_count_error(s, "ERR");
    c->flags |= CLIENT_PROTOCOL_ERROR;
    client_close_after_reply(c);
}

/* Hash the keys of the last item and ask for their buckets. */
static inline void prefetch_buckets(struct batch *b, struct item *item)
{
    const struct command *command = item->command;
    item->key_at = (uint16_t)b->key_count;
    item->key_count = 0;
    if (command == NULL || command->first_key <= 0 || command->key_step <= 0)
        return;
    const struct table *table = &item->client->db->table;
    int last = command->last_key < 0 ? item->argc + command->last_key : command->last_key;
    if (last >= item->argc)
        return;
    int count = 0;
    for (int i = command->first_key; i <= last && count < COMMAND_KEYS_MAX;
         i += command->key_step) {
        struct slice key = item->argv[i];
        uint64_t hash = key_hash(key);
        b->keys[b->key_count + count++] = (struct call_key){key.data, hash};
        if (command->flags & COMMAND_WRITE)
            table_prefetch_for_change(table, hash);
        else
            table_prefetch_bucket(table, hash);
    }
    item->key_count = (uint16_t)count;
    b->key_count += count;
}

static inline bool has_room(const struct batch *b)
{
    return b->count < BATCH_MAX && b->args_used < ARGS_MAX && b->key_count < KEYS_MAX;
}

/* Commands that were put off come before what is parsed. False: there are more. */
static bool fill_from_put_off(struct batch *b, struct client *c)
{
    struct queued_command *q = c->put_off_first;
    for (; q != NULL && has_room(b); q = q->next) {
        struct item *item = &b->items[b->count++];
        *item = (struct item){
            .client = c, .put_off = q, .command = q->command, .argv = q->argv, .argc = q->argc};
        prefetch_buckets(b, item);
    }
    return q == NULL;
}

/* The value of a plain SET is read to where it will stay. */
static bool comes_in_pieces(const struct slice *argv, int argc, int64_t count)
{
    return count == 3 && argc == 2 && slice_is(argv[0], "set");
}

/* Whoever looks at the arguments besides the handler of SET (the log, a transaction that queues
 * them, one who listens, a client that has to wait) gets them whole. */
static struct parser_pieces *take_pieces(struct server *s, struct client *c,
                                         const struct command *command)
{
    if (command == NULL || command->handler != cmd_set || s->attention || s->stream != NULL ||
        s->hooks.wanted || s->clients.monitors != NULL ||
        c->flags & (CLIENT_STOPPED | CLIENT_ATTENTION))
        parser_join(&c->io.parser);
    return parser_pieces(&c->io.parser);
}

/* Parse commands of one client into the batch. Returns true when it has no more for now. */
static bool fill_from(struct server *s, struct batch *b, struct client *c)
{
    struct parser_limits limits = {.bulk_max = s->limits.bulk_max,
                                   .in_pieces = comes_in_pieces,
                                   .unauthenticated = c->flags & CLIENT_UNAUTHENTICATED};
    struct parser_window window = connection_window(&c->io);
    struct parser *parser = &c->io.parser;
    bool drained = false;
    /* What has come since goes into the same batch, so that a client that goes on does so with all
     * it has asked for. AUTH, though, changes the limits of what follows. */
    if (c->put_off_first != NULL && (!fill_from_put_off(b, c) || limits.unauthenticated))
        return false;
    while (has_room(b)) {
        struct item *item = &b->items[b->count];
        const char *begin = window.data;
        enum parse_result result;
        result = parser_next(parser, &window, &limits, b->args + b->args_used, &item->argv,
                             &item->argc, &item->kept);
        if (result == PARSE_EMPTY)
            continue;
        if (result != PARSE_COMMAND) {
            drained = true;
            if (result == PARSE_ERROR) {
                /* What came before in this batch is to be answered before the error. */
                if (b->count > 0 && b->items[b->count - 1].client == c)
                    drained = false;
                else
                    protocol_error(s, c);
            }
            break;
        }
        item->client = c;
        item->put_off = NULL;
        item->request = item->kept ? parser_held_request(parser, &window)
                                   : slice_of(begin, (size_t)(window.data - begin));
        item->command = command_find(item->argv[0]);
        prefetch_buckets(b, item);
        b->count++;
        if (item->kept) {
            /* The parser goes on when this command has been executed. */
            break;
        }
        b->args_used += (size_t)item->argc;
        if (limits.unauthenticated) {
            /* AUTH changes the limits of what follows. */
            break;
        }
    }
    connection_set_window(&c->io, &window);
    return drained;
}

static void fill(struct server *s, struct batch *b)
{
    b->count = 0;
    b->key_count = 0;
    b->args_used = 0;
    struct client *first_left = NULL;
    while (b->input_first != NULL && has_room(b)) {
        struct client *c = b->input_first;
        if (c == first_left)
            break;
        input_pop(b);
        if (c->flags & CLIENT_STOPPED)
            continue;
        if (!fill_from(s, b, c)) {
            /* It has more, when this has been executed. */
            batch_add(s, c);
            if (first_left == NULL)
                first_left = c;
        }
    }
}

/* The member that a command on a large collection will look at. */
struct lookup {
    const struct dict *dict;
    uint64_t hash;
};

/* Which argument that is; 0 when the command is not for it. It need not be right: nothing but a
 * prefetch follows from it. */
static inline int member_argument(const struct item *item)
{
    const uint64_t with_members = ACL_HASH | ACL_SET | ACL_SORTEDSET;
    const struct command *command = item->command;
    if (item->key_count != 1 || item->argc < 3 || !(command->acl_categories & with_members) ||
        !(command->flags & COMMAND_FAST))
        return 0;
    /* ZADD has it behind the score. */
    return command->acl_categories & ACL_SORTEDSET ? item->argc - 1 : 2;
}

static void prefetch_members(const struct lookup *lookups, int count)
{
    for (int i = 0; i < count; i++)
        dict_prefetch(lookups[i].dict, lookups[i].hash);
    for (int i = 0; i < count; i++)
        dict_prefetch_item(lookups[i].dict, lookups[i].hash);
}

static void prefetch(struct batch *b)
{
    const struct entry *entries[BATCH_MAX];
    int with_member[BATCH_MAX];
    int count = 0;
    for (int i = 0; i < b->count; i++) {
        struct item *item = &b->items[i];
        const struct table *table = &item->client->db->table;
        for (int k = 0; k < item->key_count; k++) {
            const struct entry *e = table_prefetch_item(table, b->keys[item->key_at + k].hash);
            /* Entries are mostly of more than a line, and do not begin with one. */
            if (e != NULL)
                __builtin_prefetch((const char *)e + 64);
            if (k == 0 && e != NULL && member_argument(item) != 0) {
                entries[count] = e;
                with_member[count++] = i;
            }
        }
    }
    /* Their headers are on the way by now. The entry may be of a key with a like hash: it is
     * looked at, nothing more. */
    struct lookup lookups[BATCH_MAX];
    int lookup_count = 0;
    for (int i = 0; i < count; i++) {
        const struct dict *dict = member_index(entries[i]);
        if (dict == NULL)
            continue;
        const struct item *item = &b->items[with_member[i]];
        struct slice member = item->argv[member_argument(item)];
        lookups[lookup_count++] = (struct lookup){dict, hash_bytes(member.data, member.size)};
    }
    prefetch_members(lookups, lookup_count);
}

/* The client waits: keep a copy of the command until it may run. */
static void put_off(struct client *c, const struct item *item)
{
    if (item->put_off != NULL)
        return; /* it stands in the queue already */
    struct queued_command *q = queued_command_new(item->command, item->argv, item->argc);
    *c->put_off_last = q;
    c->put_off_last = &q->next;
}

/* The item has been executed, put off or dropped: free what holds its arguments. */
static void release(struct client *c, struct item *item, bool executed)
{
    if (item->kept) {
        struct parser_window window = connection_window(&c->io);
        parser_release(&c->io.parser, &window);
        connection_set_window(&c->io, &window);
    } else if (item->put_off != NULL && executed) {
        c->put_off_first = item->put_off->next;
        if (c->put_off_first == NULL)
            c->put_off_last = &c->put_off_first;
        mem_free(item->put_off);
    }
}

static void execute(struct server *s, struct batch *b)
{
    struct call call = {.ks = s->ks, .hooks = &s->hooks, .now_ms = s->ks->now_ms, .server = s};
    for (int i = 0; i < b->count; i++) {
        struct item *item = &b->items[i];
        struct client *c = item->client;
        b->executing = i;
        if (__builtin_expect(c == NULL, 0))
            continue; /* it was put off meanwhile */
        if (s->config->maxmemory != 0 && (i % MEMORY_CHECK == 0 || item->kept))
            memory_limit_check(s);
        call.pieces = NULL;
        if (__builtin_expect(item->kept, 0))
            call.pieces = take_pieces(s, c, item->command);
        /* What comes behind SHUTDOWN would be acknowledged, and not be in the file that was
         * saved. */
        if (__builtin_expect((c->flags & CLIENT_STOPPED) != 0 || s->stopping, 0)) {
            if ((c->flags & CLIENT_STOPPED) == CLIENT_BLOCKED)
                put_off(c, item);
            if (item->kept)
                release(c, item, false);
            continue;
        }
        call.client = c;
        call.db = c->db;
        call.reply = &c->reply;
        call.argv = item->argv;
        call.argc = item->argc;
        call.request = item->request;
        call.keys = b->keys + item->key_at;
        call.key_count = item->key_count;
        call.key_next = 0;
        call.no_touch = c->flags & CLIENT_NO_TOUCH;
        bool imports = __builtin_expect((c->flags & CLIENT_IMPORTS) != 0, 0);
        if (imports)
            s->ks->show_expired = s->ks->importing && !s->is_replica;
        s->executing = c;
        s->executing_call = &call;
        bool executed = true;
        if (__builtin_expect(c->flags & CLIENT_MASTER, 0))
            replication_execute(c, &call, item->command);
        else if (__builtin_expect(s->hold_replies, 0))
            executed = hold_dispatch(c, &call, item->command);
        else
            executed = dispatch(c, &call, item->command);
        s->executing = NULL;
        s->executing_call = NULL;
        if (imports)
            s->ks->show_expired = false;
        if (__builtin_expect(s->pushes_pending, 0)) {
            s->pushes_pending = false;
            client_send_pushes(c);
        }
        if (__builtin_expect(!executed, 0)) {
            put_off(c, item);
            client_block(c);
        }
        if (__builtin_expect(item->kept || item->put_off != NULL, 0)) {
            release(c, item, executed);
            /* Of these as much may come in one turn as there are clients. */
            durability_check_room(s);
        }
        if (!(c->flags & CLIENT_IN_WRITE))
            client_want_write(c);
        if (__builtin_expect(c->io.out.block_count > 1, 0) && client_check_output(c) &&
            outbuf_size(&c->io.out) > WRITE_EARLY && !c->io.write_blocked)
            client_write(c);
        /* What a script that is interrupted has put there is given when it has ended. */
        if (__builtin_expect(s->keys_ready, 0) && s->busy == NULL)
            blocked_serve(s);
    }
}

void batch_run(struct server *s)
{
    struct batch *b = s->batch;
    if (b->running)
        return;
    b->running = true;
    if (s->keys_ready)
        blocked_serve(s);
    while (b->input_first != NULL) {
        fill(s, b);
        prefetch(b);
        execute(s, b);
    }
    b->running = false;
    if (s->stream != NULL)
        durability_publish(s);
}

bool batch_is_running(const struct batch *b)
{
    return b->running;
}

/* Who called the script goes on in the batch, and so does the primary: it cannot be told -BUSY. */
static bool stays(const struct client *c, const struct client *executing)
{
    return c == executing || c->flags & CLIENT_MASTER;
}

/* Commands that wait in the batch are put off; those of clients that are blocked anyway, too. */
static void put_off_rest(struct batch *b, const struct client *executing)
{
    for (int i = b->executing + 1; i < b->count; i++) {
        struct item *item = &b->items[i];
        struct client *c = item->client;
        if (c == NULL || stays(c, executing))
            continue;
        if (item->kept)
            parser_join(&c->io.parser);
        if (!(c->flags & (CLIENT_CLOSE_AFTER_REPLY | CLIENT_CLOSING)))
            put_off(c, item);
        release(c, item, false);
        item->client = NULL;
    }
}

void batch_step_aside(struct server *s, struct client *executing)
{
    struct batch *b = s->batch, *aside = batch_new();
    put_off_rest(b, executing);
    size_t left = 0;
    for (size_t i = 0; i < b->turn_count; i++) {
        struct client *c = b->turn[i];
        if (stays(c, executing)) {
            b->turn[left++] = c;
            continue;
        }
        c->flags &= ~(uint32_t)CLIENT_IN_TURN;
        connection_keep(&c->io);
    }
    b->turn_count = left;
    aside->outer = b;
    s->batch = aside;
    s->interrupted = executing;
    /* Everybody else's input goes over. */
    struct client *next;
    struct client *input = b->input_first;
    b->input_first = NULL;
    b->input_last = &b->input_first;
    for (struct client *c = input; c != NULL; c = next) {
        next = c->next_input;
        struct batch *to = stays(c, executing) ? b : aside;
        c->next_input = NULL;
        *to->input_last = c;
        to->input_last = &c->next_input;
    }
    for (struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (!stays(c, executing) && c->put_off_first != NULL)
            batch_add(s, c);
    }
}

void batch_step_back(struct server *s)
{
    struct batch *aside = s->batch, *b = aside->outer;
    s->batch = b;
    s->interrupted = NULL;
    /* What has been read and not executed, as its clients wait, waits in them. */
    while (aside->input_first != NULL) {
        struct client *c = aside->input_first;
        input_pop(aside);
        batch_add(s, c);
    }
    batch_free(aside);
}
