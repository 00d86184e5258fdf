/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The keeper of the chain: takes incremental snapshots, and knows from which one the next has to be
 * told. It does not take full ones: who does tells it when one begins and how it ended.
 *
 *     no chain --full ends--> chain of one --incremental--> chain of two ... --full ends--> of one
 *
 * Marks (keyspace/changes.h). One stands at the last link, the tip. An incremental snapshot sets
 * the second one at itself; when its file is written, proven and named by the manifest the first
 * one is let go, else the second: so after a failure the next one begins at the same tip. When the
 * tip's mark is lost, or a full snapshot began while an incremental one was running (a third mark
 * would be needed), the next snapshot has to be a full one.
 *
 * A delta is written by a save job (persist/save_job.h), with all that these can: threads, a rate,
 * a limit of memory, progress, cancelling. Then it is named:
 *
 *     SAVING --save job ends--> NAMING: the full snapshot's file is looked at, the manifest written
 *
 * The order on disk: temporary file, sync, read again and prove, rename, directory sync, manifest.
 * The files of deltas that are no longer needed are removed when a new full snapshot is in the
 * manifest.
 *
 * All functions are the executor's; it makes no calls on files here: threads of the jobs do.
 */
#ifndef HF_PERSIST_CHAIN_KEEPER_H
#define HF_PERSIST_CHAIN_KEEPER_H

#include "persist/chain/chain.h"
#include "persist/save_job.h"

struct chain_keeper;

/* wake is called on a job's thread when it has ended, to make the executor call
 * chain_keeper_poll. */
struct chain_keeper *chain_keeper_new(struct keyspace *ks, void (*wake)(void *ctx), void *ctx);
/* A job that is running is cancelled. */
void chain_keeper_free(struct chain_keeper *k);

/* What it reads keeps to this rate, which may change meanwhile, instead of those that are given
 * with each call. It outlives the keeper. */
void chain_keeper_set_limits(struct chain_keeper *k, const struct save_limits *limits);

/* Whether chains are wanted (snapshot-chain-max is not 0). When they are not no mark is set and
 * nothing costs anything. */
void chain_keeper_enable(struct chain_keeper *k, bool enabled);

/* Somebody takes incremental snapshots, or will: full ones are summed up while they are verified.
 * Until then they are not, as that takes a quarter of the processor time; the first incremental
 * snapshot then reads the full one's file again. */
void chain_keeper_want(struct chain_keeper *k);

/* A full snapshot is about to be taken with these options, which get its id, and whether to sum it
 * up. */
void chain_keeper_full_begins(struct chain_keeper *k, struct save_options *options, uint64_t lsn);
/* It has ended: *result as it is when ok. */
void chain_keeper_full_ended(struct chain_keeper *k, bool ok, const struct save_result *result);
/* What was loaded just now is the whole of this chain: it is continued. Takes it. */
void chain_keeper_loaded(struct chain_keeper *k, struct chain *chain, const char *rdb_path);

/* What was loaded just now is what the chain restores and what was changed since, which this mark
 * knows. Takes both. The links have not been proven: the next incremental snapshot does so before
 * it is named. */
void chain_keeper_continued(struct chain_keeper *k, struct chain *chain, const char *rdb_path,
                            int mark);
/* There is a chain that what was loaded does not continue, for this reason, a string that stays. */
void chain_keeper_not_continued(struct chain_keeper *k, const char *why);

/* Why an incremental snapshot cannot be taken, as the end of a sentence; NULL: it can. */
const char *chain_keeper_cannot(const struct chain_keeper *k);
/* Take one, with these options of a save of the RDB file; LINK_AUX_VERSION among the AUX fields is
 * the link's version. False: there is one running, or it cannot. */
bool chain_keeper_begin(struct chain_keeper *k, const struct save_options *options, uint64_t lsn,
                        struct error *err);
/* Prove all links in the background, at so many bytes a second (0: as fast as it goes); the outcome
 * is in the status. */
bool chain_keeper_begin_verify(struct chain_keeper *k, uint64_t rate, struct error *err);

bool chain_keeper_busy(const struct chain_keeper *k);        /* any job */
bool chain_keeper_incremental(const struct chain_keeper *k); /* an incremental snapshot */
void chain_keeper_cancel(struct chain_keeper *k);
/* Take the result of a job that has ended. True when an incremental snapshot has succeeded. */
bool chain_keeper_poll(struct chain_keeper *k);
/* Wait until no job is running, then likewise. */
bool chain_keeper_wait(struct chain_keeper *k);

struct chain_keeper_status {
    const struct chain *chain; /* valid until the next call of the keeper; count 0: none */
    uint64_t taken;            /* incremental ones since start */
    bool last_ok;
    char last_error[256];      /* of the last incremental one; empty if it succeeded */
    bool last_cancelled;       /* it was, which says nothing against the next; last_ok as before */
    int64_t last_duration_us;  /* -1: none has ended */
    struct save_progress progress;  /* of the running one; zeros, eta_ms -1, if none */
    struct save_result last_result; /* of the last one that succeeded */
    struct chain_link last;    /* the last one that succeeded */
    bool verifying;
    int64_t verified_ms;       /* wall clock of the last verification; 0: none */
    size_t verified_links;     /* that were whole then, from the beginning */
    char verify_error[256];    /* which link was broken; empty: none */
};
void chain_keeper_get_status(const struct chain_keeper *k, struct chain_keeper_status *status);

#endif
