/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Catching up: a replica that is farther behind than the stream in memory goes back is sent what is
 * missing from the log's files (persist/log/history.h), by a thread of its own, so that it need not
 * get everything anew. What it gets is the stream's bytes, proven by their checksums.
 *
 * Threads as for a feed (replication/feed.h): while it runs nobody else writes to the socket.
 */
#ifndef HF_REPLICATION_CATCHUP_H
#define HF_REPLICATION_CATCHUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "net/tls.h"

struct catchup_options {
    int fd; /* taken */
    struct tls *tls; /* taken (tls_share); NULL: bytes go as they are */
    char directory[256], filename[128]; /* of the log */
    uint64_t from, until;               /* until: written */
    char preamble[96];                  /* sent before the first byte: "+CONTINUE ...\r\n", or "" */
    int timeout_ms;                     /* the replica may take nothing for so long */
    void (*wake)(void *ctx);            /* on the thread, when it has ended */
    void *ctx;
};

struct catchup_result {
    bool ok;      /* everything was sent */
    bool begun;   /* something was */
    bool of_log;  /* not ok as the log did not give it; else the replica did not take it */
    struct error error;
};

struct catchup;

/* NULL: the thread could not be started, and the descriptor is closed. */
struct catchup *catchup_start(const struct catchup_options *options, struct error *err);
void catchup_cancel(struct catchup *c);
bool catchup_ended(const struct catchup *c);
/* Waits if it has not ended, and frees it. */
void catchup_finish(struct catchup *c, struct catchup_result *result);

#endif
