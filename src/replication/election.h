/* SPDX-License-Identifier: BSD-3-Clause
 *
 * One round of an election: the other nodes are asked for their votes (HOLDFAST VOTE), one after
 * the other by a thread of its own, so that the executor does not wait for the network. What a vote
 * means, and what has to be on disk before one is asked for or given, is server/quorum.h's.
 *
 *     HOLDFAST VOTE <candidate> <epoch> <log epoch> <lsn> PRE|REAL
 *     +VOTE <0|1> <promised epoch> <log epoch> <lsn> <voter>
 *
 * A round ends when all have been asked, or when enough have said yes.
 */
#ifndef HF_REPLICATION_ELECTION_H
#define HF_REPLICATION_ELECTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "net/tls.h"

#define ELECTION_PEERS_MAX 8
#define ELECTION_NAME 32

struct election_peer {
    char name[ELECTION_NAME], host[256];
    int port;
};

struct election_options {
    struct election_peer peers[ELECTION_PEERS_MAX]; /* without the candidate */
    /* so many yes end the round; 0: all are asked */
    int count, enough;
    char source[64];                                /* the own address to come from; "": any */
    struct tls_context *tls;                        /* taken; NULL: without TLS */
    char user[128], password[512];                  /* "": none */
    char candidate[ELECTION_NAME];
    uint64_t epoch, log_epoch, lsn;
    bool real;      /* false: who would vote? Nothing is promised */
    int timeout_ms; /* for each step with each peer */
    void (*wake)(void *ctx); /* on the thread, when it has ended */
    void *ctx;
};

struct election_vote {
    bool answered, granted;
    uint64_t promised, log_epoch, lsn; /* of the voter, if it has answered */
    struct error error;                /* if not */
};

struct election;

/* Options are copied. NULL: the thread could not be started. */
struct election *election_start(const struct election_options *options, struct error *err);
/* Asks nobody more. */
void election_cancel(struct election *e);
bool election_ended(const struct election *e);
/* Waits if it has not ended, and frees it; votes[i] is of peers[i]. */
void election_finish(struct election *e, struct election_vote votes[ELECTION_PEERS_MAX]);

#endif
