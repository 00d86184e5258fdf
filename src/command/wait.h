/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Waiting: how a handler lets its client wait for keys (BLPOP, BZMPOP, XREAD BLOCK) or for nothing
 * but time (WAIT). Handlers see this; who waits for what, the order and the time-outs are
 * server/blocked.h's.
 *
 *     void cmd_thing(struct call *c)
 *     {
 *         if (!call_timeout_seconds(c, c->argv[c->argc - 1], &timeout_ms) || serve_now(c))
 *             return;                                   an error or the answer was replied
 *         call_wait(c, &(struct call_wait){.serve = serve_thing, .type = ENTRY_LIST, ...});
 *     }                                                 nothing may be replied behind it
 *
 * When a command, a transaction or a script has made one of the keys a key of that type (or, for
 * streams, has told of any change of it by call_changed), `serve` is called once that command has
 * ended, for one client after another in the order in which they began to wait. It gets a call of
 * its own: argv are copies of the request's arguments, reply, db and client are the waiting
 * client's, effects are taken as from any handler (call_changed, call_effect: name the effect, as
 * the request itself is never logged). What it changes may make other keys ready: they are served
 * after all that were ready before.
 *
 * In a transaction, a script, and while a log is replayed nobody waits: call_wait then does at once
 * what a time-out would do.
 */
#ifndef HF_COMMAND_WAIT_H
#define HF_COMMAND_WAIT_H

#include "command/call.h"

/* `e` is what is under the key now: of the type that is waited for, or with `gone` maybe NULL or of
 * another type. True: the value or an error was replied, and the client goes on. False: there is
 * nothing for this client; nothing was replied or changed, and it goes on waiting in its place. */
typedef bool wait_serve_fn(struct call *c, struct slice key, struct entry *e, void *state);
/* Replies what the client gets when the time is over, or CLIENT UNBLOCK ends the wait. */
typedef void wait_timed_out_fn(struct call *c, void *state);

/* The time is over. True: a reply was made, and the client goes on; false: it goes on waiting for
 * *again_ms more (above 0), and nothing was replied or changed. */
typedef bool wait_again_fn(struct call *c, void *state, int64_t *again_ms);

struct call_wait {
    enum entry_type type;
    /* Be called, too, when the key was removed (deleted, expired, evicted, flushed) or is of
     * another type now: XREADGROUP. */
    bool gone;
    const struct slice *keys; /* in the client's database; copied. The same key may occur twice. */
    int key_count;            /* 0: for time only, and for the log */
    int64_t timeout_ms;       /* from now; 0: for ever */
    wait_serve_fn *serve;
    wait_timed_out_fn *timed_out; /* NULL: replies a null array */
    /* NULL, or called in place of timed_out when the time is over; not for CLIENT UNBLOCK. */
    wait_again_fn *again;
    /* Bytes that serve and timed_out get to see, in a copy (which they may change) that lives until
     * the client goes on: the IDs that `$` meant, say. */
    const void *state;
    size_t state_size;
    /* `serve` is called, with no key and no entry, when the log is durable up to lsn, or off. */
    bool log;
    uint64_t lsn;
};

void call_wait(struct call *c, const struct call_wait *w);

/* BLPOP, BZPOPMIN and their like, whose arguments are keys and, as the last one, the time-out:
 * `take` replies with, and takes from, the first key that is there, now or when there is one; `how`
 * is for it. */
typedef void wait_take_fn(struct call *c, struct keyref *ref, int how);
void call_take_or_wait(struct call *c, enum entry_type type, wait_take_fn *take, int how);

/* The time-out argument of most blocking commands: seconds, which may have a fraction (of less than
 * a millisecond: is rounded up). In milliseconds; 0: for ever. False: an error was replied. */
bool call_timeout_seconds(struct call *c, struct slice s, int64_t *timeout_ms);
/* The same for a whole number of milliseconds (XREAD BLOCK, WAIT). */
bool call_timeout_ms(struct call *c, struct slice s, int64_t *timeout_ms);

#endif
