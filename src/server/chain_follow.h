/* SPDX-License-Identifier: BSD-3-Clause
 *
 * At a start from the log: where in it the chain of snapshots ends, so that the next incremental
 * snapshot can follow the chain's last one, its tip.
 *
 *     base at LSN b ...... tip at LSN t ................ the log's end
 *                            | a mark is set (keyspace/changes.h)
 *
 * Who replays tells where files begin and asks how far it may go. When the data is what the tip
 * holds the mark is set, so that it knows of all that the rest of the log changes.
 *
 * That is sound only where the tip holds exactly what a replay up to its LSN makes: it says so
 * itself (hf-log-exact), its history is that of the log at that place, and the base is older. A
 * base of the same LSN may have been made later, with what was changed without an effect meanwhile.
 * Otherwise there is a reason, and the next snapshot is a full one.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_CHAIN_FOLLOW_H
#define HF_SERVER_CHAIN_FOLLOW_H

#include "persist/chain/chain.h"
#include "persist/chain/keeper.h"
#include "persist/log/reader.h"

struct chain_follow {
    struct keyspace *ks;
    struct chain_tip tip;
    const char *why; /* it cannot be followed; NULL: that is not known */
    int mark;        /* -1: replay has not come to the tip */
    bool begun;      /* a file behind the base has */
    bool matches;    /* the history that is being replayed is the tip's */
    uint64_t lsn;    /* replayed up to here */
};

/* Reads the tip. wanted: incremental snapshots are on. */
void chain_follow_init(struct chain_follow *f, struct keyspace *ks, const char *rdb_path,
                       bool wanted);

/* A file behind the base begins, at this LSN of this history. */
void chain_follow_file(struct chain_follow *f, const char *history, uint64_t lsn);
/* Commands [from, count) of a batch are to be executed: returns up to which that may be done before
 * this is called again. Sets the mark when its place has come. */
size_t chain_follow_step(struct chain_follow *f, const struct log_batch *b, size_t from,
                         size_t count);

/* The log has been replayed: the keeper takes the chain over, or is told why it cannot. against:
 * another reason against it; NULL: none. */
void chain_follow_end(struct chain_follow *f, struct chain_keeper *keeper, const char *rdb_path,
                      const char *against);
/* What was replayed is not what is served: nothing is followed. After either this may be called. */
void chain_follow_deinit(struct chain_follow *f);

#endif
