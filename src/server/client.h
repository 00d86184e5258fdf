/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A client: the state of executing one connection's commands. Its connection (net/connection.h)
 * holds bytes only.
 *
 * Life: client_accept makes one; client_close marks it and lists it, and the end of the turn frees
 * it, so that whoever runs meanwhile (a batch, CLIENT KILL) may hold its pointer until then.
 */
#ifndef HF_SERVER_CLIENT_H
#define HF_SERVER_CLIENT_H

#include "base/text.h"
#include "net/connection.h"
#include "server/server.h"

enum client_flag {
    CLIENT_CLOSE_AFTER_REPLY = 1U << 0,
    CLIENT_CLOSING = 1U << 1,     /* to be freed at the end of the turn */
    /* it waits, or its next command was put off: nothing is executed */
    CLIENT_BLOCKED = 1U << 2,
    CLIENT_UNAUTHENTICATED = 1U << 3,
    CLIENT_MULTI = 1U << 4,
    CLIENT_DIRTY_CAS = 1U << 5,   /* a watched key was changed: EXEC will fail */
    CLIENT_DIRTY_EXEC = 1U << 6,  /* a command was refused while queueing: EXEC will fail */
    CLIENT_REPLY_OFF = 1U << 7,
    CLIENT_REPLY_SKIP_NEXT = 1U << 8, /* becomes SKIP for the next command */
    CLIENT_REPLY_SKIP = 1U << 9,
    CLIENT_UNIX = 1U << 10,
    CLIENT_NO_EVICT = 1U << 11,
    CLIENT_NO_TOUCH = 1U << 12,
    CLIENT_IN_INPUT = 1U << 13,   /* in the batch's queue of inputs */
    CLIENT_IN_TURN = 1U << 14,    /* was read from in this turn */
    CLIENT_IN_WRITE = 1U << 15,   /* in the list of those with output */
    CLIENT_PROTOCOL_ERROR = 1U << 16,
    CLIENT_PUBSUB = 1U << 17, /* subscribes to something */
    CLIENT_MONITOR = 1U << 18,
    CLIENT_RESTRICTED = 1U << 19, /* its user may not do everything: see server/acl.h */
    CLIENT_REPLICA = 1U << 20,    /* has asked for the stream */
    CLIENT_MASTER = 1U << 21,     /* sends the stream: this server's primary */
    CLIENT_REDIRECTS = 1U << 22,  /* CLIENT CAPA redirect: a replica sends it to its primary */
    CLIENT_READS_HERE = 1U << 23, /* READONLY: but not for reads */
    /* CLIENT IMPORT-SOURCE: in import-mode it sees keys that have expired */
    CLIENT_IMPORTS = 1U << 24
};

/* Nothing more of such a client is parsed or executed. */
#define CLIENT_STOPPED (CLIENT_CLOSE_AFTER_REPLY | CLIENT_CLOSING | CLIENT_BLOCKED)
/* Dispatch looks closer. */
#define CLIENT_ATTENTION                                                                           \
    (CLIENT_UNAUTHENTICATED | CLIENT_MULTI | CLIENT_REPLY_OFF | CLIENT_REPLY_SKIP_NEXT |           \
     CLIENT_REPLY_SKIP | CLIENT_PUBSUB | CLIENT_RESTRICTED)

struct acl_user;
struct fieldset;
struct held;
struct queued_command;
struct replica;
struct subscriber;
struct tracking;
struct transaction;
struct waiter;
struct watch;

struct client {
    struct connection io;
    struct server *server;
    struct db *db;
    struct acl_user *user; /* NULL: it was removed */
    struct reply reply;
    uint32_t flags;
    uint64_t id;
    struct client *prev, *next;   /* all clients */
    struct client *next_input;    /* the batch's queue */
    struct client *next_write;
    struct client *next_closing;
    const struct command *last_command;
    struct transaction *transaction; /* with CLIENT_MULTI */
    struct watch *watches;
    /* with CLIENT_BLOCKED: what it waits for (server/blocked.h); NULL: put off */
    struct waiter *waiter;
    struct subscriber *subscriber; /* NULL: it never subscribed */
    struct client *next_monitor;
    struct client *next_by_id;  /* in its chain */
    struct tracking *tracking;  /* CLIENT TRACKING: server/tracking.h; NULL: off */
    struct queued_command *put_off_first, **put_off_last; /* while blocked: to be executed first */
    char *name, *lib_name, *lib_version; /* NULL: not set */
    char *peer, *local;                  /* made when first asked for */
    int64_t created_us, active_us;       /* monotonic */
    int64_t soft_limit_since_us;         /* output above the soft limit; 0: it is not */
    struct fieldset *fieldsets;          /* of HIMPORT: server/himport.h */
    struct replica *replica;             /* what REPLCONF has said: server/replication.h */
    uint64_t wait_lsn;                   /* WAIT, WAITAOF: for this, */
    size_t wait_replicas;                /* by so many; 0: it does not */
    bool wait_disk;                      /* on their disks */
    bool wait_shutdown;                  /* it has sent SHUTDOWN, which waits for replicas */
    struct held *held;                   /* replies that wait for the log: server/hold.h */
    uint8_t own_level;                   /* HOLDFAST DURABILITY: 1 + the level; 0: not set */
    struct outbuf pushes;                /* that came while its own command was executed */
    struct outbuf discarded;             /* where replies go that CLIENT REPLY suppresses */
    uint64_t input_bytes, output_bytes, commands;
    struct client *next_tls; /* server/secure.h: to be read from without an event */
    bool tls_listed;
};

/* Before the first: how large replies reach them without a copy. */
void clients_init(struct server *s);
void client_accept(struct server *s, int fd, bool tls);
/* A connection that this server has made, its session (NULL: no TLS), and what was received on it
 * already. NULL: the loop does not take it; it is closed. */
struct client *client_adopt(struct server *s, int fd, struct tls *tls, struct slice received);
/* Protected mode: a client that may not be here is told so and closed. With TLS it is asked when
 * the handshake is done. */
void client_admit(struct client *c);
/* To be freed at the end of this turn; nothing of it is executed any more. */
void client_close(struct client *c);
/* As client_close, but what has been replied is written first. */
void client_close_after_reply(struct client *c);
/* Frees those that were closed. */
void clients_free_closing(struct server *s);
/* Note that it may have output. */
void client_want_write(struct client *c);
/* Write out what this client has got. */
void client_write(struct client *c);
/* Write out what all clients in the lists have got. */
void clients_write(struct server *s);
/* Append a message that is no reply (a copy of all of it) to the client's output; behind the reply,
 * if its own command is being executed. It is written when all who have replies got theirs. */
void client_push(struct client *c, const struct outbuf *message);
/* Move those that came meanwhile behind the reply. */
void client_send_pushes(struct client *c);
/* The client with this id, or NULL. */
struct client *client_find(const struct server *s, uint64_t id);
/* False: its output is beyond the limits of its class, and it is being closed. */
bool client_check_output(struct client *c);
/* Some of the clients, all within about a second: timeouts, soft output limits. */
void clients_cron(struct server *s);

const char *client_peer(struct client *c);
const char *client_local(struct client *c);
enum client_class client_class(const struct client *c);
/* Bytes of its state, input, output and queued commands. */
size_t client_memory(const struct client *c);
/* The letters that CLIENT LIST has for its state. */
#define CLIENT_FLAGS_SIZE 16
void client_describe_flags(const struct client *c, char out[CLIENT_FLAGS_SIZE]);
/* The line of CLIENT LIST, without the end of line. */
void client_describe(struct client *c, struct text *out);

/* Execute nothing more of it (its next command is put off, or it waits), and go on with it. One
 * that waits goes on only when it no longer does. */
void client_block(struct client *c);
void client_unblock(struct client *c);

/* As after accepting: for RESET. */
void client_reset(struct client *c);
/* Printable and without blanks, as names and the library's attributes have to be. */
bool client_text_is_valid(struct slice text);
/* Replace one of the client's texts; an empty one becomes NULL. */
void client_set_text(char **place, struct slice text);
/* "ERR Client names cannot contain ..." was replied if false. An empty name removes it. */
bool client_set_name(struct call *c, struct slice name);

#endif
