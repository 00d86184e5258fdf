/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A connection: what one socket has received and not yet parsed, and what it has yet to send. It
 * knows no command and no keyspace: what belongs to executing is in the server's client, so that
 * reading, parsing and writing can move to other threads.
 *
 * Input. Bytes are read into an arena that all connections of a thread share during a turn:
 * requests are mostly executed whole before the turn ends, so that an idle connection has no input
 * buffer, and what is read is warm in the cache. At the end of a turn connection_keep copies what
 * is left (the beginning of a command) to a block of the connection's own. When much is left the
 * block is read into directly and grows; the rest of a big argument is read into its final place.
 *
 * With TLS the bytes go through a session (net/tls.h). Then epoll does not tell all: one side's
 * call may wait for the other side's event (connection_tls_events), and bytes may have been fetched
 * already that nobody has asked for (tls_pending): the next turn has to read without an event.
 *
 *     data:  [ consumed | start  window  end | room ]     in the arena, or data == own
 */
#ifndef HF_NET_CONNECTION_H
#define HF_NET_CONNECTION_H

#include "net/loop.h"
#include "net/tls.h"
#include "resp/outbuf.h"
#include "resp/parser.h"

/* How much is read at once, at most, and the least room that makes reading worth its while. */
#define CONNECTION_READ_MAX (64 * 1024)
#define CONNECTION_READ_MIN (16 * 1024)
/* Behind a big argument the next one is expected: little is read before its length is known, as
 * what was read of it has to be copied to its place. */
#define CONNECTION_READ_AHEAD (4 * 1024)
/* Leftovers up to this size are moved to the arena when more is read. */
#define CONNECTION_MOVE_MAX (4 * 1024)

struct read_arena {
    char *data;
    size_t size, used;
};

void read_arena_init(struct read_arena *arena, size_t size);
void read_arena_deinit(struct read_arena *arena);
/* No window may lie in it: every connection that read has been told to keep. */
static inline void read_arena_reset(struct read_arena *arena)
{
    arena->used = 0;
}
/* Whether there is room for one more read. */
static inline bool read_arena_has_room(const struct read_arena *arena)
{
    return arena->size - arena->used >= CONNECTION_MOVE_MAX + CONNECTION_READ_MIN;
}

struct connection {
    struct loop_source source;
    struct loop *loop;
    /* Input. */
    char *data;
    size_t start, end;
    char *own;
    size_t own_size;
    struct parser parser;
    bool after_big; /* the last read was into a big argument */
    /* Output. */
    struct outbuf out;
    bool write_blocked; /* the socket took no more: EPOLLOUT is waited for */
    /* TLS; NULL: bytes go as they are. */
    struct tls *tls;
    bool tls_established;      /* the handshake is done */
    bool tls_pending;          /* more can be read without an event */
    bool tls_read_wants_write; /* reading, or the handshake, goes on when the socket takes bytes */
    bool tls_write_wants_read;
};

enum connection_result {
    CONNECTION_OK,    /* bytes were moved; writing: all of them */
    CONNECTION_AGAIN, /* the socket has none, or takes no more now */
    CONNECTION_END,   /* the peer has closed its side */
    CONNECTION_FAILED /* errno */
};

/* Takes the descriptor; waits for input. False (errno): the loop could not take it. */
bool connection_init(struct connection *c, struct loop *loop, int fd,
                     void (*on_ready)(struct loop_source *source, uint32_t events));
/* From now on by TLS: takes the session. */
void connection_set_tls(struct connection *c, struct tls *tls);
/* The same, the handshake being done. */
void connection_set_established(struct connection *c, struct tls *tls);
/* As far as the handshake gets. OK: it is done. */
enum connection_result connection_handshake(struct connection *c);
/* What an event means for reading (EPOLLIN) and writing (EPOLLOUT). */
uint32_t connection_tls_events(struct connection *c, uint32_t events);
/* Closes the socket and frees all buffers. */
void connection_deinit(struct connection *c);

/* One read. *count is the number of bytes. */
enum connection_result connection_read(struct connection *c, struct read_arena *arena,
                                       size_t *count);
/* Move the window out of the arena; free the own block when nothing is left. */
void connection_keep(struct connection *c);
/* Bytes held for input, the parser's included; what CLIENT LIST calls qbuf is the window. */
size_t connection_input_memory(const struct connection *c);

static inline struct parser_window connection_window(const struct connection *c)
{
    return (struct parser_window){c->data + c->start, c->end - c->start};
}

static inline void connection_set_window(struct connection *c, const struct parser_window *w)
{
    c->start = (size_t)(w->data - c->data);
    c->end = c->start + w->size;
}

/* Write parts that are not in the output, which is empty; returns how many bytes the socket took, 0
 * if it cannot take any now. A short write leaves it to connection_write to find out why. */
size_t connection_send(struct connection *c, const struct slice *parts, int count);

/* As writev, of what is not in the output either; after a short write the next call begins with the
 * same bytes. Who waits for EPOLLOUT then, is the caller's business: write_blocked. */
ssize_t connection_writev(struct connection *c, struct iovec *pieces, int count);

/* Write pending output, `limit` bytes of it at most, until all is written or the socket takes no
 * more; then EPOLLOUT is waited for. *count is the number of bytes. */
enum connection_result connection_write(struct connection *c, size_t limit, size_t *count);

#endif
