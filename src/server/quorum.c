/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/quorum.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/text.h"
#include "command/wait.h"
#include "handlers.h"
#include "persist/log/stream.h"
#include "server/announce.h"
#include "server/blocked.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/replication.h"

/* So long may a node take to say what it would do; a vote takes its disk as well (VOTE_WAIT_MS). */
#define PEER_TIMEOUT_MS 500
#define RETRY_US 300000
/* Who is alone looks whether somebody else has been elected. */
#define PROBE_US 1000000
/* Who was voted out gives the other one time to gather its replicas. */
#define DEPOSED_US 3000000
#define NO_CAP QUORUM_NO_CAP
/* So long does an answer wait for the disk. */
#define VOTE_WAIT_MS 2000

static void on_saved(void *ctx);
static void start_round(struct quorum *q, bool real);
static void ask_for_votes(struct quorum *q);

/* ---- where this node is ---- */

/* False: it cannot say. */
static bool position(const struct server *s, uint64_t *epoch, uint64_t *lsn)
{
    const struct quorum *q = s->quorum;
    const struct durability *d = s->durability;
    if (q->blank || q->cap_unsure || s->loading || d->state != DURABILITY_ON)
        return false;
    *epoch = q->now.log_epoch;
    *lsn = writer_durable_lsn(d->writer);
    if (*lsn > q->now.cap)
        *lsn = q->now.cap;
    return true;
}

/* Behind this nothing was sure in the epoch that it is, or was, elected in. */
static uint64_t sure_in_epoch(const struct server *s)
{
    uint64_t sure = hold_sure(s->hold, HOLD_QUORUM);
    return sure > s->quorum->epoch_lsn ? sure : s->quorum->epoch_lsn;
}

/* Where a candidate has to be for this node's vote: it has what may have been sure by this node's
 * word. The primary of an epoch knows what was sure in it, and what it has beyond that is not
 * needed: when it has no majority, or has been voted out. */
static bool position_to_vote(const struct server *s, uint64_t *epoch, uint64_t *lsn)
{
    const struct quorum *q = s->quorum;
    uint64_t sure = UINT64_MAX;
    if (!position(s, epoch, lsn))
        return false;
    if (q->epoch != 0 && q->epoch == *epoch &&
        quorum_present(s, s->config->durability_timeout * 1000) < q->majority)
        sure = sure_in_epoch(s);
    else if (q->epoch == 0 && q->lost_epoch != 0 && q->lost_epoch == *epoch)
        sure = q->lost_sure;
    if (*lsn > sure)
        *lsn = sure;
    return true;
}

static void save(struct quorum *q)
{
    quorum_file_save(q->file, &q->now);
}

/* Whether this node's disk has the beginning of its primary's epoch now. The epoch may be the one
 * that its log is of already: after it has been a primary itself without having been elected. */
static void catch_up(struct server *s, uint64_t epoch, uint64_t lsn)
{
    struct quorum *q = s->quorum;
    const struct durability *d = s->durability;
    bool known = epoch < q->now.log_epoch ||
                 (epoch == q->now.log_epoch && q->now.cap == NO_CAP && (!q->blank || q->caught_up));
    if (known || epoch < q->now.promised || d->state != DURABILITY_ON ||
        writer_durable_lsn(d->writer) < lsn)
        return;
    q->now.log_epoch = epoch;
    q->now.log_lsn = lsn;
    q->now.cap = NO_CAP;
    if (q->now.promised < epoch) {
        q->now.promised = epoch;
        q->now.promised_to[0] = '\0';
    }
    q->caught_up = true;
    log_notice("This node's log is of epoch %llu from LSN %llu on", (unsigned long long)epoch,
               (unsigned long long)lsn);
    save(q);
    /* The file may say so already: then nobody comes to tell that it does. */
    if (quorum_file_is_saved(q->file, &q->now))
        on_saved(q);
}

/* The epoch that the log is of, for whoever else counts on it: also after the next start. */
static uint64_t saved_epoch(const struct quorum *q)
{
    const struct quorum_state *saved = quorum_file_saved(q->file);
    bool same = saved->cap == NO_CAP && saved->log_epoch == q->now.log_epoch;
    return quorum_file_is_sure(q->file) && q->now.cap == NO_CAP && same ? saved->log_epoch : 0;
}

static void set_cap_unsure(struct quorum *q, bool unsure)
{
    q->cap_unsure = unsure;
    server_pause_quorum(q->server, unsure);
}

/* Something more is on the disk, or could not be written. */
static void on_saved(void *ctx)
{
    struct quorum *q = ctx;
    struct server *s = q->server;
    quorum_file_step(q->file);
    if (q->cap_unsure && quorum_file_is_sure(q->file) &&
        quorum_file_saved(q->file)->cap == q->now.cap) {
        log_notice("What this promotion has to be known by is on the disk now");
        set_cap_unsure(q, false);
        q->retry_us = 0;
    }
    if (saved_epoch(q) != 0) {
        if (q->caught_up)
            q->caught_up = q->blank = false;
        if (s->is_replica)
            replication_link_durable(s);
        else
            replication_update_sure(s);
    }
    if (q->asking)
        ask_for_votes(q);
    /* Who waits for an answer. */
    blocked_durable(s, 0);
}

/* On the thread. */
static void wake_saved(void *ctx)
{
    struct quorum *q = ctx;
    loop_post(q->server->loop, on_saved, q);
}

/* ---- being elected ---- */

static void note_problem(struct quorum *q, const char *what)
{
    if (strcmp(q->problem, what) != 0)
        log_warning("Not elected by a majority of quorum-nodes: %s", what);
    snprintf(q->problem, sizeof(q->problem), "%.*s", (int)sizeof(q->problem) - 1, what);
}

static void try_again(struct quorum *q, int64_t after_us)
{
    q->retry_us = q->server->now_us + after_us + q->server->now_us % (after_us / 2);
}

static void lose(struct server *s, const char *why)
{
    struct quorum *q = s->quorum;
    if (q->epoch == 0)
        return;
    log_warning("No longer elected in epoch %llu: %s. Writes are refused",
                (unsigned long long)q->epoch, why);
    q->lost_epoch = q->epoch;
    q->lost_sure = sure_in_epoch(s);
    q->epoch = 0;
    q->outrun = true;
    announce_replication(s, "deposed", why);
    note_problem(q, why);
    try_again(q, DEPOSED_US);
    server_update_attention(s);
}

static void win(struct quorum *q)
{
    struct server *s = q->server;
    durability_publish(s);
    q->epoch = q->asked;
    q->epoch_lsn = stream_end(s->stream);
    q->elections++;
    q->outrun = false;
    try_again(q, PROBE_US);
    q->problem[0] = '\0';
    log_notice("Elected by a majority of quorum-nodes: epoch %llu begins at LSN %llu",
               (unsigned long long)q->epoch, (unsigned long long)q->epoch_lsn);
    announce_replication(s, "elected", NULL);
    hold_forget_replicas(s->hold);
    /* They have to learn of the epoch, and go on at once. */
    replication_close_replicas(s, "a new epoch has begun");
    server_update_attention(s);
    quorum_step(s);
}

/* Why the votes did not suffice. */
static void explain(struct quorum *q, const struct election_options *asked,
                    const struct election_vote *votes)
{
    char what[sizeof(q->problem)];
    int silent = 0, at = 0;
    for (int i = 0; i < asked->count; i++) {
        const struct election_vote *v = &votes[i];
        if (!v->answered) {
            silent++;
            at = i;
        } else if (!v->granted && (v->log_epoch > asked->log_epoch ||
                                   (v->log_epoch == asked->log_epoch && v->lsn > asked->lsn))) {
            snprintf(
                what, sizeof(what), "node %s has more: LSN %llu of epoch %llu, here %llu of %llu",
                asked->peers[i].name, (unsigned long long)v->lsn, (unsigned long long)v->log_epoch,
                (unsigned long long)asked->lsn, (unsigned long long)asked->log_epoch);
            q->outrun |= v->log_epoch > asked->log_epoch;
            /* That it has still more by now is no news. */
            int same = snprintf(NULL, 0, "node %s has more", asked->peers[i].name);
            if (strncmp(q->problem, what, (size_t)same) == 0)
                snprintf(q->problem, sizeof(q->problem), "%s", what);
            else
                note_problem(q, what);
            return;
        }
    }
    if (silent > 0)
        snprintf(what, sizeof(what), "%d of %d other nodes did not vote; %s: %.80s", silent,
                 asked->count, asked->peers[at].name, votes[at].error.message);
    else
        snprintf(what, sizeof(what), "others have voted for somebody else, or cannot vote now");
    note_problem(q, what);
}

/* Those that are willing, or all others. They are asked one after the other, and one that is cut
 * off or hangs takes its time: while a majority is willing it is not waited for. */
static void add_peers(const struct quorum *q, bool willing, struct election_options *o)
{
    const struct config *c = q->server->config;
    for (int i = 0; i < c->quorum_node_count; i++) {
        const struct config_node *node = &c->quorum_nodes[i];
        if (strcmp(node->name, c->quorum_node) == 0 || (q->willing >> i & 1) != willing)
            continue;
        struct election_peer *peer = &o->peers[o->count++];
        snprintf(peer->name, sizeof(peer->name), "%s", node->name);
        snprintf(peer->host, sizeof(peer->host), "%s", node->host);
        peer->port = node->port;
    }
}

static void make_options(struct quorum *q, struct election_options *o)
{
    const struct config *c = q->server->config;
    add_peers(q, true, o);
    add_peers(q, false, o);
    snprintf(o->candidate, sizeof(o->candidate), "%s", c->quorum_node);
    snprintf(o->source, sizeof(o->source), "%s", c->bind_source_addr);
    snprintf(o->user, sizeof(o->user), "%s", c->masteruser);
    snprintf(o->password, sizeof(o->password), "%s", c->masterauth);
}

/* From the votes that were asked for in that order. */
static void note_willing(struct quorum *q, const struct election_options *asked,
                         const struct election_vote *votes)
{
    const struct config *c = q->server->config;
    q->willing = 0;
    for (int i = 0; i < c->quorum_node_count; i++) {
        for (int k = 0; k < asked->count; k++) {
            if (votes[k].granted && strcmp(asked->peers[k].name, c->quorum_nodes[i].name) == 0)
                q->willing |= (uint32_t)1 << i;
        }
    }
}

static void end_round(struct quorum *q)
{
    struct server *s = q->server;
    struct election_vote votes[ELECTION_PEERS_MAX];
    struct election_options *asked = mem_zalloc(sizeof(*asked));
    int yes = 1; /* its own */
    if (q->election == NULL || !election_ended(q->election)) {
        mem_free(asked);
        return;
    }
    election_finish(q->election, votes);
    q->election = NULL;
    make_options(q, asked);
    position(s, &asked->log_epoch, &asked->lsn);
    for (int i = 0; i < asked->count; i++) {
        yes += votes[i].granted;
        if (votes[i].promised > q->seen)
            q->seen = votes[i].promised;
    }
    note_willing(q, asked, votes);
    if (s->is_replica) {
        /* It is not a candidate any more. */
    } else if (q->epoch != 0) {
        /* It was asked whether somebody else has been elected. */
        if (q->seen > q->epoch)
            lose(s, "others have voted for another one");
    } else if (yes < q->majority) {
        explain(q, asked, votes);
        try_again(q, RETRY_US);
    } else if (!q->real) {
        start_round(q, true);
    } else if (q->now.promised == q->asked &&
               strcmp(q->now.promised_to, s->config->quorum_node) == 0) {
        win(q);
    } else {
        try_again(q, RETRY_US);
    }
    mem_free(asked);
}

static void on_round_ended(void *ctx)
{
    end_round(ctx);
}

/* On the election's thread. */
static void wake(void *ctx)
{
    struct quorum *q = ctx;
    loop_post(q->server->loop, on_round_ended, q);
}

static void begin_election(struct quorum *q, bool real)
{
    struct server *s = q->server;
    struct election_options *o = mem_zalloc(sizeof(*o));
    struct error err = {0};
    make_options(q, o);
    if (!position(s, &o->log_epoch, &o->lsn)) {
        try_again(q, RETRY_US);
        mem_free(o);
        return;
    }
    o->epoch = q->asked;
    o->real = q->real = real;
    o->enough = q->majority - 1;
    o->timeout_ms = real ? VOTE_WAIT_MS : PEER_TIMEOUT_MS;
    o->wake = wake;
    o->ctx = q;
    o->tls = tls_context_share(s->config->tls_replication ? s->tls_client : NULL);
    q->election = election_start(o, &err);
    if (q->election == NULL) {
        note_problem(q, err.message);
        try_again(q, DEPOSED_US);
    }
    mem_free(o);
}

static void start_round(struct quorum *q, bool real)
{
    uint64_t newest = q->now.promised > q->seen ? q->now.promised : q->seen;
    if (!real || q->asked <= q->now.promised)
        q->asked = newest + 1;
    if (!real) {
        begin_election(q, false);
        return;
    }
    /* The own vote is on the disk before others are asked for theirs. */
    q->now.promised = q->asked;
    snprintf(q->now.promised_to, sizeof(q->now.promised_to), "%s", q->server->config->quorum_node);
    q->asking = true;
    save(q);
}

/* The own vote may be on the disk now. */
static void ask_for_votes(struct quorum *q)
{
    bool wanted = !q->server->is_replica && q->epoch == 0 && q->now.promised == q->asked &&
                  strcmp(q->now.promised_to, q->server->config->quorum_node) == 0;
    if (wanted && !quorum_file_is_saved(q->file, &q->now)) {
        note_problem(q, "the own vote is not on the disk yet");
        return;
    }
    q->asking = false;
    if (wanted)
        begin_election(q, true);
    else
        try_again(q, RETRY_US);
}

void quorum_step(struct server *s)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q) || s->stopping)
        return;
    /* What could not be written is tried again. */
    quorum_file_step(q->file);
    if (s->is_replica) {
        if (q->link_epoch != 0)
            catch_up(s, q->link_epoch, q->link_lsn);
        return;
    }
    if (q->epoch != 0) {
        catch_up(s, q->epoch, q->epoch_lsn);
        /* Whoever is left alone may have been replaced, and nobody comes to say so. */
        if (q->election == NULL && s->now_us >= q->retry_us &&
            quorum_present(s, s->config->durability_timeout * 1000) < q->majority) {
            try_again(q, PROBE_US);
            start_round(q, false);
        }
        return;
    }
    const struct durability *d = s->durability;
    if (q->election != NULL || q->asking || s->now_us < q->retry_us || s->loading)
        return;
    if (q->cap_unsure) {
        note_problem(q, "its disk does not take " QUORUM_FILE);
        return;
    }
    if (q->blank) {
        note_problem(q, "its log has less than it had: it has to be a replica first");
        return;
    }
    if (d->state != DURABILITY_ON) {
        note_problem(q, "its log is not on: quorum-nodes need appendonly yes");
        return;
    }
    /* Nothing is left behind that is only in memory. */
    uint64_t durable = writer_durable_lsn(d->writer);
    if (durable >= q->now.cap || durable >= stream_published(s->stream))
        start_round(q, false);
}

/* ---- voting ---- */

bool quorum_is_other(const struct quorum *q, struct slice name)
{
    const struct config *c = q->server->config;
    for (int i = 0; i < c->quorum_node_count; i++) {
        if (slice_equal(name, slice_cstr(c->quorum_nodes[i].name)))
            return !slice_equal(name, slice_cstr(c->quorum_node));
    }
    return false;
}

/* Of no epoch it has ever heard: it may have had anything, on a disk that is lost. */
static bool is_new(const struct quorum *q)
{
    return q->now.promised == 0 && q->now.log_epoch == 0;
}

struct candidate {
    struct slice name;
    uint64_t epoch, log_epoch, lsn;
};

static bool would_vote(const struct server *s, const struct candidate *k, uint64_t epoch,
                       uint64_t lsn)
{
    const struct quorum *q = s->quorum;
    if (k->epoch < q->now.promised ||
        (k->epoch == q->now.promised && !slice_equal(k->name, slice_cstr(q->now.promised_to))))
        return false;
    if (is_new(q) && k->log_epoch > 0)
        return false;
    return k->log_epoch > epoch || (k->log_epoch == epoch && k->lsn >= lsn);
}

/* From here on this node neither acknowledges what an older epoch's primary does nor does it
 * itself. That it is so also after a crash is known when it is on the disk. */
static void promise(struct server *s, const struct candidate *k)
{
    struct quorum *q = s->quorum;
    struct error why = {0};
    if (k->epoch == q->now.promised)
        return;
    q->now.promised = k->epoch;
    snprintf(q->now.promised_to, sizeof(q->now.promised_to), "%.*s", (int)k->name.size,
             k->name.data);
    save(q);
    if (!s->is_replica) {
        lose(s, "this node has voted for another one");
        if (q->retry_us < s->now_us + DEPOSED_US)
            try_again(q, DEPOSED_US);
    } else if (q->link_epoch != 0 && q->link_epoch < k->epoch) {
        error_set(&why, ERROR_CANCELLED, "this node has voted for %s in epoch %llu",
                  q->now.promised_to, (unsigned long long)k->epoch);
        replication_link_down(s, &why);
    }
}

/* A vote that was given, and is answered when it is on the disk. */
struct vote {
    char name[CONFIG_NODE_NAME];
    uint64_t epoch;          /* of the election */
    uint64_t log_epoch, lsn; /* where this node was */
};

static void reply_vote(struct call *c, const struct vote *v, bool granted)
{
    const struct quorum *q = c->server->quorum;
    char line[160];
    snprintf(line, sizeof(line), "VOTE %d %llu %llu %llu %s", granted,
             (unsigned long long)q->now.promised, (unsigned long long)v->log_epoch,
             (unsigned long long)v->lsn, c->server->config->quorum_node);
    reply_simple(c->reply, line);
}

static bool is_for(const struct quorum_state *state, const struct vote *v)
{
    return state->promised == v->epoch && strcmp(state->promised_to, v->name) == 0;
}

static bool serve_vote(struct call *c, struct slice key, struct entry *e, void *state)
{
    const struct quorum *q = c->server->quorum;
    const struct vote *v = state;
    bool stands = is_for(&q->now, v);
    (void)key;
    (void)e;
    if (stands && !is_for(quorum_file_saved(q->file), v))
        return false;
    reply_vote(c, v, stands);
    return true;
}

static void vote_timed_out(struct call *c, void *state)
{
    reply_vote(c, state, false);
}

void cmd_holdfast_vote(struct call *c)
{
    struct server *s = c->server;
    struct quorum *q = s->quorum;
    struct candidate k = {.name = c->argv[2]};
    int64_t numbers[3];
    for (int i = 0; i < 3; i++) {
        if (!call_int64_range(c, c->argv[3 + i], 0, INT64_MAX, &numbers[i], NULL))
            return;
    }
    k.epoch = (uint64_t)numbers[0];
    k.log_epoch = (uint64_t)numbers[1];
    k.lsn = (uint64_t)numbers[2];
    bool real = slice_is(c->argv[6], "real");
    if (!real && !slice_is(c->argv[6], "pre")) {
        reply_syntax_error(c->reply);
        return;
    }
    if (!quorum_is_on(q) || !quorum_is_other(q, k.name)) {
        reply_error(c->reply, "ERR That is no other one of this server's quorum-nodes");
        return;
    }
    struct vote v = {.epoch = k.epoch};
    snprintf(v.name, sizeof(v.name), "%.*s", (int)k.name.size, k.name.data);
    bool granted =
        position_to_vote(s, &v.log_epoch, &v.lsn) && would_vote(s, &k, v.log_epoch, v.lsn);
    if (granted && real)
        promise(s, &k);
    if (granted && real && !is_for(quorum_file_saved(q->file), &v))
        call_wait(c, &(struct call_wait){.timeout_ms = VOTE_WAIT_MS,
                                         .serve = serve_vote,
                                         .timed_out = vote_timed_out,
                                         .state = &v,
                                         .state_size = sizeof(v),
                                         .log = true});
    else
        reply_vote(c, &v, granted);
}

/* ---- roles and links ---- */

bool quorum_prepare(struct server *s)
{
    struct quorum *q = s->quorum;
    uint64_t cap, lsn = replication_lsn(s);
    if (!quorum_is_on(q) || !s->is_replica || lsn >= q->now.cap)
        return true;
    cap = q->now.cap;
    q->now.cap = lsn;
    if (quorum_file_save_now(q->file, &q->now))
        return true;
    q->now.cap = cap;
    save(q);
    return false;
}

void quorum_became_primary(struct server *s)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q))
        return;
    uint64_t lsn = replication_lsn(s);
    q->link_epoch = 0;
    q->epoch = q->lost_epoch = 0;
    q->retry_us = 0;
    q->outrun = false;
    note_problem(q, "the others have not been asked yet");
    /* What it appends from here on without having been elected is nobody's. */
    if (lsn < q->now.cap)
        q->now.cap = lsn;
    /* Before the log has anything of that on the disk. */
    if (q->now.cap != NO_CAP && !quorum_file_is_saved(q->file, &q->now))
        set_cap_unsure(q, !quorum_file_save_now(q->file, &q->now));
    server_update_attention(s);
    quorum_step(s);
}

void quorum_became_replica(struct server *s)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q))
        return;
    /* It goes on knowing what was sure, as long as its log is not of another epoch. */
    if (q->epoch != 0) {
        q->lost_epoch = q->epoch;
        q->lost_sure = sure_in_epoch(s);
    }
    q->epoch = 0;
    q->problem[0] = '\0';
    set_cap_unsure(q, false);
    /* The votes of the round that is under way are for a log which may be replaced now. */
    q->asked = 0;
    q->asking = false;
    if (q->election != NULL)
        election_cancel(q->election);
    server_update_attention(s);
}

bool quorum_accepts(const struct quorum *q, uint64_t epoch)
{
    return !quorum_is_on(q) || (epoch != 0 && epoch >= q->now.promised);
}

void quorum_link_up(struct server *s, uint64_t epoch, uint64_t lsn)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q))
        return;
    q->link_epoch = epoch;
    q->link_lsn = lsn;
    quorum_step(s);
}

void quorum_note_lost(struct server *s)
{
    if (!quorum_is_on(s->quorum))
        return;
    s->quorum->blank = true;
    s->quorum->caught_up = false;
}

void quorum_link_down(struct server *s)
{
    if (s->quorum != NULL)
        s->quorum->link_epoch = 0;
}

uint64_t quorum_acknowledges(const struct quorum *q)
{
    return quorum_is_on(q) && q->link_epoch != 0 && saved_epoch(q) == q->link_epoch &&
                   q->now.promised <= q->link_epoch
               ? q->link_epoch
               : 0;
}

void quorum_note_promise(struct server *s, uint64_t epoch)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q) || s->is_replica)
        return;
    if (epoch > q->seen)
        q->seen = epoch;
    if (q->epoch != 0 && epoch > q->epoch)
        lose(s, "a replica has voted for another one");
}

/* ---- what is sure ---- */

/* One acknowledgement for each node; a node that has come back has one connection alone. */
static bool counts(const struct quorum *q, const struct replica *r)
{
    return r->state == REPLICA_ONLINE && r->node[0] != '\0' && r->epoch == q->epoch;
}

uint64_t quorum_sure(const struct server *s)
{
    const struct quorum *q = s->quorum;
    uint64_t lsns[CONFIG_NODES_MAX + 1];
    int count = 0;
    if (!quorum_is_on(q) || q->epoch == 0 || saved_epoch(q) != q->epoch ||
        s->durability->state != DURABILITY_ON)
        return 0;
    lsns[count++] = writer_durable_lsn(s->durability->writer);
    for (const struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        if (!counts(q, r) || count == CONFIG_NODES_MAX)
            continue;
        int at = count++;
        for (; at > 0 && lsns[at - 1] < r->facked; at--)
            lsns[at] = lsns[at - 1];
        lsns[at] = r->facked;
    }
    if (count < q->majority)
        return 0;
    /* The own disk is always one of them. */
    uint64_t own = writer_durable_lsn(s->durability->writer), lsn = lsns[q->majority - 1];
    return lsn < own ? lsn : own;
}

int quorum_present(const struct server *s, int64_t within_us)
{
    const struct quorum *q = s->quorum;
    int count = 1;
    for (const struct replica *r = s->replication->replicas; r != NULL; r = r->next)
        count += counts(q, r) && s->now_us - r->acked_us <= within_us;
    return count;
}

const char *quorum_refusal(const struct server *s)
{
    const struct quorum *q = s->quorum;
    /* READONLY makes clients ask Sentinel again whom to write to. */
    return !quorum_is_on(q) || s->is_replica || q->epoch != 0 ? NULL
           : q->outrun
               ? "READONLY Another primary has been elected by a majority of quorum-nodes, or is "
                 "about to be"
               : "NOREPLICAS This primary has not been elected by a majority of quorum-nodes";
}

/* ---- start and end ---- */

void quorum_init(struct server *s)
{
    s->quorum = mem_zalloc(sizeof(*s->quorum));
    s->quorum->server = s;
    s->quorum->now.cap = NO_CAP;
    s->quorum->file = quorum_file_new(QUORUM_FILE, wake_saved, s->quorum);
}

bool quorum_start(struct server *s, struct error *err)
{
    struct quorum *q = s->quorum;
    const struct config *c = s->config;
    bool named = false;
    if (c->quorum_node_count == 0 && c->quorum_node[0] != '\0')
        return error_set(err, ERROR_INVALID, "quorum-node '%s' needs quorum-nodes, the list of all",
                         c->quorum_node);
    if (c->quorum_node_count == 0)
        return true;
    for (int i = 0; i < c->quorum_node_count; i++)
        named |= strcmp(c->quorum_nodes[i].name, c->quorum_node) == 0;
    if (!named)
        return error_set(err, ERROR_INVALID, "quorum-node '%s' is none of quorum-nodes",
                         c->quorum_node);
    if (!c->appendonly)
        return error_set(err, ERROR_INVALID, "quorum-nodes need appendonly yes");
    if (!quorum_file_load(q->file, &q->now, err))
        return false;
    q->enabled = true;
    q->majority = c->quorum_node_count / 2 + 1;
    q->blank = q->now.log_epoch != 0 && replication_lsn(s) < q->now.log_lsn;
    if (q->blank)
        log_warning("ALARM: what was found ends at LSN %llu, but this node had all up to %llu: it "
                    "has lost data, "
                    "and votes for nobody until it has caught up with an elected primary",
                    (unsigned long long)replication_lsn(s), (unsigned long long)q->now.log_lsn);
    if (!s->is_replica)
        quorum_became_primary(s);
    return true;
}

void quorum_deinit(struct server *s)
{
    struct quorum *q = s->quorum;
    struct election_vote votes[ELECTION_PEERS_MAX];
    if (q->election != NULL) {
        election_cancel(q->election);
        election_finish(q->election, votes);
    }
    quorum_file_free(q->file);
    mem_free(q);
    s->quorum = NULL;
}

void quorum_info(const struct server *s, struct text *out)
{
    const struct quorum *q = s->quorum;
    const struct config *c = s->config;
    if (!quorum_is_on(q))
        return;
    uint64_t epoch = 0, lsn = 0;
    bool known = position(s, &epoch, &lsn);
    const char *state = s->is_replica
                            ? (quorum_acknowledges(q) != 0 ? "acknowledging" : "following")
                        : q->epoch == 0 ? "not_elected"
                        : quorum_present(s, c->durability_timeout * 1000) < q->majority ? "alone"
                                                                                        : "elected";
    text_appendf(out, "quorum_node:%s\r\nquorum_nodes:%d\r\nquorum_state:%s\r\n", c->quorum_node,
                 c->quorum_node_count, state);
    text_appendf(out,
                 "quorum_epoch:%llu\r\nquorum_promised_epoch:%llu\r\nquorum_log_epoch:%llu\r\n",
                 (unsigned long long)(s->is_replica ? q->link_epoch : q->epoch),
                 (unsigned long long)q->now.promised, (unsigned long long)q->now.log_epoch);
    text_appendf(out, "quorum_position:%llu\r\nquorum_can_vote:%d\r\nquorum_elections:%llu\r\n",
                 (unsigned long long)lsn, known, (unsigned long long)q->elections);
    if (!s->is_replica)
        text_appendf(out, "quorum_sure_lsn:%llu\r\nquorum_present:%d\r\nquorum_problem:%s\r\n",
                     (unsigned long long)hold_sure(s->hold, HOLD_QUORUM),
                     q->epoch != 0 ? quorum_present(s, c->durability_timeout * 1000) : 0,
                     q->problem[0] != '\0' ? q->problem : "none");
}
