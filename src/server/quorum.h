/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The quorum: which primary may say that a write is on the disks of a majority of `quorum-nodes`,
 * and that no primary comes after it without that write. Whoever decides who is to be the primary
 * (REPLICAOF NO ONE, by a person or by Sentinel) is not trusted to know who has what: a primary
 * serves writes only when a majority of the nodes has elected it.
 *
 *     replica ──REPLICAOF NO ONE──> CANDIDATE ──a majority votes──> ELECTED in epoch e
 *     start as a primary ─────────────^                                │ somebody else was elected,
 *                                     └────────────────────────────────┘ as a voter here knows
 *
 * Each node keeps on its disk (server/quorum_file.h), before anybody else may count on it:
 *
 *     promised     the newest epoch that it has voted in: it follows and acknowledges no primary of
 *                  an older one
 *     log epoch    the epoch of the primary that its log is a copy of, as far as that goes
 *     cap          where what it has from then ends, if it goes on behind that without having been
 *                  elected; until it has caught up with an elected primary, of the same epoch or a
 *                  later one
 *
 * Its *position* is (log epoch, the LSN its disk holds, at most cap). The rules:
 *
 *  1. A node votes once in an epoch, in epochs that only grow, and only for a candidate whose
 *     position is not below its own. Before it votes it has left its primary, and the promise is on
 *     its disk. The primary of the epoch that its log is of, once it has no majority, takes the
 *     last LSN that was sure for its own position.
 *  2. An elected primary begins epoch e at the LSN that its stream has then. A node that follows it
 *     takes e as its log epoch as soon as its disk holds everything up to there, and acknowledges
 *     in e from then on.
 *  3. An LSN is sure when a majority, the primary included, has it on disk, acknowledged in e. The
 *     primary stops counting when it has promised a newer epoch itself.
 *
 * So: a write that was sure in e is on the disks of a majority whose log epoch is e or later.
 * Whoever is elected in a later epoch was voted for by at least one of them, after its last
 * acknowledgement, so its position is not below that one's: with a later log epoch its log is a
 * copy of that epoch's primary, which had the write by induction; with the same it is a copy of the
 * same primary's log, and longer. (If the one that has voted is e's primary itself it knows that
 * the write was sure, and the candidate has at least that.)
 *
 * Who has never heard of an epoch (a new node, or one whose disk is lost) votes for no candidate
 * that has; one whose log ends before the place where its log epoch began has lost data, and votes
 * for nobody until it has caught up. While there is no log that is known to be on the disk
 * (DURABILITY_ON) nobody votes.
 *
 * Not covered: two nodes of three that lose their disks, a node that is given another one's disk or
 * name, a change of quorum-nodes while nodes with the old list run; reads of a primary that is cut
 * off, which may be old.
 *
 * The file is written by a thread of its own (server/quorum_file.h), at elections and when a node
 * has caught up, not for writes. A promise binds this node at once; the answer that says so leaves,
 * and others are asked, when it is on the disk, and a log epoch is acknowledged in when it is. A
 * promotion alone waits for the file (cap), as it does for the log's new one. When the disk does
 * not take it, it is tried again: what is a primary by then neither stands for election nor lets
 * its stream grow until it is there, and one that FAILOVER asks to take over refuses.
 *
 * Owned by the executor.
 */
#ifndef HF_SERVER_QUORUM_H
#define HF_SERVER_QUORUM_H

#include "replication/election.h"
#include "server/config.h"
#include "server/quorum_file.h"
#include "server/server.h"

struct quorum {
    struct server *server;
    bool enabled;
    int majority;
    struct quorum_state now; /* on the disk some time; until then it only restrains this node */
    struct quorum_file *file;
    bool caught_up; /* since the log epoch was on the disk: others are to be told when it is */
    bool blank;     /* the log has less than it had */
    /* As a primary: the cap could not be written yet. Until it is, nothing may get into the log, as
     * after a crash nobody could tell it from what was there before (server_pause_quorum). */
    bool cap_unsure;
    /* As a primary. */
    uint64_t epoch, epoch_lsn; /* elected in this one, which begins there; 0: not */
    /* Elected in this one until somebody else was voted for, or it was made a replica, and nothing
     * behind that LSN was sure in it; 0: not. */
    uint64_t lost_epoch, lost_sure;
    uint64_t seen;             /* the newest epoch that somebody has named */
    uint64_t asked;            /* of the election that is under way */
    bool real;
    uint32_t willing; /* who voted for this node last: bits by place in quorum-nodes; asked first */
    bool asking; /* others, as soon as the own vote is on the disk */
    struct election *election;
    int64_t retry_us;
    uint64_t elections;
    char problem[160]; /* why it is not elected; "": it is, or nothing is known */
    bool outrun;       /* another one has been voted for since: clients are to look for that one */
    /* As a replica: its primary's epoch, while the link is up. */
    uint64_t link_epoch, link_lsn;
};

/* Sets s->quorum. */
void quorum_init(struct server *s);
/* What was recovered is known. False: what is configured makes no sense, or the file cannot be
 * read. */
bool quorum_start(struct server *s, struct error *err);
void quorum_deinit(struct server *s);

static inline bool quorum_is_on(const struct quorum *q)
{
    return q != NULL && q->enabled;
}

/* Whether this is the name of one of quorum-nodes, and not this one's. */
bool quorum_is_other(const struct quorum *q, struct slice name);

/* Roles change. */
/* What has to be on the disk before a replica may become a primary is there now. False: the disk
 * does not take it. */
bool quorum_prepare(struct server *s);
void quorum_became_primary(struct server *s);
void quorum_became_replica(struct server *s);
/* Whether a primary of this epoch may be followed; the link is up, or down. */
bool quorum_accepts(const struct quorum *q, uint64_t epoch);
void quorum_link_up(struct server *s, uint64_t epoch, uint64_t lsn);
void quorum_link_down(struct server *s);
/* There is less in memory than the log's position says: this node votes for nobody until it has
 * caught up. */
void quorum_note_lost(struct server *s);
/* The epoch to acknowledge in; 0: none. */
uint64_t quorum_acknowledges(const struct quorum *q);

/* This far the data is sure; and nodes that are there, this one included. As the elected
 * primary. */
uint64_t quorum_sure(const struct server *s);
int quorum_present(const struct server *s, int64_t within_us);
/* An error to reply to who wants to write; NULL: none. */
const char *quorum_refusal(const struct server *s);
/* A node that has promised this epoch asks to follow. */
void quorum_note_promise(struct server *s, uint64_t epoch);
/* What is there to do: the cron, and whenever more is on the disk. */
void quorum_step(struct server *s);

struct text;
void quorum_info(const struct server *s, struct text *out);

#endif
