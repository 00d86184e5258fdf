/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/quorum.h"

#include <stdio.h>
#include <string.h>

#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/number.h"
#include "base/text.h"
#include "handlers.h"
#include "os/file.h"
#include "persist/log/stream.h"
#include "server/announce.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/replication.h"

#define FILE_NAME "holdfast-quorum"
#define FILE_MAX 4096
#define PEER_TIMEOUT_MS 500
#define RETRY_US 300000
/* Who was voted out gives the other one time to gather its replicas. */
#define DEPOSED_US 3000000
#define NO_CAP UINT64_MAX

static void start_round(struct quorum *q, bool real);

/* ---- the file ---- */

static bool save(struct quorum *q)
{
    struct text t = {0};
    struct error err = {0};
    text_appendf(&t, "holdfast-quorum 1\npromised %llu %s\nlog %llu %llu\n",
                 (unsigned long long)q->promised, q->promised_to[0] != '\0' ? q->promised_to : "-",
                 (unsigned long long)q->log_epoch, (unsigned long long)q->log_lsn);
    if (q->cap != NO_CAP)
        text_appendf(&t, "cap %llu\n", (unsigned long long)q->cap);
    text_appendf(&t, "%08x\n", crc32c(0, t.data, t.size));
    bool ok = os_file_replace(FILE_NAME, t.data, t.size, &err);
    if (!ok)
        log_warning("The state of the quorum is not on the disk: %s", err.message);
    text_free(&t);
    return ok;
}

static bool parse(struct quorum *q, char *data, size_t size)
{
    unsigned long long promised, log_epoch, log_lsn, cap = NO_CAP;
    char name[CONFIG_NODE_NAME], crc[16];
    if (size < 9 || data[size - 1] != '\n')
        return false;
    snprintf(crc, sizeof(crc), "%08x\n", crc32c(0, data, size - 9));
    if (memcmp(crc, data + size - 9, 9) != 0)
        return false;
    data[size - 9] = '\0';
    int n = sscanf(data, "holdfast-quorum 1\npromised %llu %31s\nlog %llu %llu\ncap %llu\n", &promised,
                   name, &log_epoch, &log_lsn, &cap);
    if (n < 4)
        return false;
    q->promised = promised;
    snprintf(q->promised_to, sizeof(q->promised_to), "%s", strcmp(name, "-") == 0 ? "" : name);
    q->log_epoch = log_epoch;
    q->log_lsn = log_lsn;
    q->cap = n == 5 ? cap : NO_CAP;
    return true;
}

static bool load(struct quorum *q, struct error *err)
{
    char *data;
    size_t size;
    q->cap = NO_CAP;
    if (!os_path_exists(FILE_NAME))
        return true;
    if (!os_file_read_whole(FILE_NAME, FILE_MAX, &data, &size, err))
        return false;
    bool ok = parse(q, data, size);
    mem_free(data);
    return ok || error_set(err, ERROR_CORRUPT, "%s is damaged: this node does not know what it has promised. If "
                           "its data is to be given up, remove the file together with the data", FILE_NAME);
}

/* ---- where this node is ---- */

/* False: it cannot say. */
static bool position(const struct server *s, uint64_t *epoch, uint64_t *lsn)
{
    const struct quorum *q = s->quorum;
    const struct durability *d = s->durability;
    if (q->blank || s->loading || d->state != DURABILITY_ON)
        return false;
    *epoch = q->log_epoch;
    *lsn = writer_durable_lsn(d->writer);
    if (*lsn > q->cap)
        *lsn = q->cap;
    return true;
}

static bool adopt(struct quorum *q, uint64_t epoch, uint64_t lsn)
{
    struct quorum before = *q;
    q->log_epoch = epoch;
    q->log_lsn = lsn;
    q->cap = NO_CAP;
    if (q->promised < epoch) {
        q->promised = epoch;
        q->promised_to[0] = '\0';
    }
    if (!save(q)) {
        q->log_epoch = before.log_epoch;
        q->log_lsn = before.log_lsn;
        q->cap = before.cap;
        q->promised = before.promised;
        memcpy(q->promised_to, before.promised_to, sizeof(q->promised_to));
        return false;
    }
    q->blank = false;
    return true;
}

/* Whether this node's disk has the beginning of its primary's epoch now. The epoch may be the one that its log
 * is of already: after it has been a primary itself without having been elected. */
static bool catch_up(struct server *s, uint64_t epoch, uint64_t lsn)
{
    struct quorum *q = s->quorum;
    const struct durability *d = s->durability;
    bool known = epoch < q->log_epoch || (epoch == q->log_epoch && q->cap == NO_CAP);
    if (known || epoch < q->promised || d->state != DURABILITY_ON || writer_durable_lsn(d->writer) < lsn)
        return false;
    if (!adopt(q, epoch, lsn))
        return false;
    log_notice("This node's log is of epoch %llu from LSN %llu on", (unsigned long long)epoch,
               (unsigned long long)lsn);
    return true;
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
    log_warning("No longer elected in epoch %llu: %s. Writes are refused", (unsigned long long)q->epoch,
                why);
    q->epoch = 0;
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
            snprintf(what, sizeof(what), "node %s has more: LSN %llu of epoch %llu, here %llu of %llu",
                     asked->peers[i].name, (unsigned long long)v->lsn, (unsigned long long)v->log_epoch,
                     (unsigned long long)asked->lsn, (unsigned long long)asked->log_epoch);
            note_problem(q, what);
            return;
        }
    }
    if (silent > 0)
        snprintf(what, sizeof(what), "%d of %d other nodes did not vote; %s: %.80s", silent, asked->count,
                 asked->peers[at].name, votes[at].error.message);
    else
        snprintf(what, sizeof(what), "others have voted for somebody else, or cannot vote now");
    note_problem(q, what);
}

static void make_options(struct quorum *q, struct election_options *o)
{
    const struct config *c = q->server->config;
    for (int i = 0; i < c->quorum_node_count; i++) {
        const struct config_node *node = &c->quorum_nodes[i];
        if (strcmp(node->name, c->quorum_node) == 0)
            continue;
        struct election_peer *peer = &o->peers[o->count++];
        snprintf(peer->name, sizeof(peer->name), "%s", node->name);
        snprintf(peer->host, sizeof(peer->host), "%s", node->host);
        peer->port = node->port;
    }
    snprintf(o->candidate, sizeof(o->candidate), "%s", c->quorum_node);
    snprintf(o->user, sizeof(o->user), "%s", c->masteruser);
    snprintf(o->password, sizeof(o->password), "%s", c->masterauth);
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
    if (s->is_replica || q->epoch != 0) {
        /* It is not a candidate any more. */
    } else if (yes < q->majority) {
        explain(q, asked, votes);
        try_again(q, RETRY_US);
    } else if (!q->real) {
        start_round(q, true);
    } else if (q->promised == q->asked &&
               strcmp(q->promised_to, s->config->quorum_node) == 0) {
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

static void start_round(struct quorum *q, bool real)
{
    struct server *s = q->server;
    struct election_options *o = mem_zalloc(sizeof(*o));
    struct error err = {0};
    uint64_t newest = q->promised > q->seen ? q->promised : q->seen;
    make_options(q, o);
    if (!position(s, &o->log_epoch, &o->lsn)) {
        try_again(q, RETRY_US);
        mem_free(o);
        return;
    }
    if (!real || q->asked <= q->promised)
        q->asked = newest + 1;
    o->epoch = q->asked;
    o->real = q->real = real;
    o->enough = q->majority - 1;
    o->timeout_ms = PEER_TIMEOUT_MS;
    o->wake = wake;
    o->ctx = q;
    /* The own vote is on the disk before others are asked for theirs. */
    if (real) {
        q->promised = q->asked;
        snprintf(q->promised_to, sizeof(q->promised_to), "%s", s->config->quorum_node);
        if (!save(q)) {
            note_problem(q, "the own vote could not be written");
            try_again(q, DEPOSED_US);
            mem_free(o);
            return;
        }
    }
    o->tls = tls_context_share(s->config->tls_replication ? s->tls_client : NULL);
    q->election = election_start(o, &err);
    if (q->election == NULL) {
        note_problem(q, err.message);
        try_again(q, DEPOSED_US);
    }
    mem_free(o);
}

void quorum_step(struct server *s)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q) || s->stopping)
        return;
    if (s->is_replica) {
        if (q->link_epoch != 0)
            catch_up(s, q->link_epoch, q->link_lsn);
        return;
    }
    if (q->epoch != 0) {
        if (catch_up(s, q->epoch, q->epoch_lsn))
            replication_update_sure(s);
        return;
    }
    const struct durability *d = s->durability;
    if (q->election != NULL || s->now_us < q->retry_us || s->loading)
        return;
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
    if (durable >= q->cap || durable >= stream_published(s->stream))
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
    return q->promised == 0 && q->log_epoch == 0;
}

struct candidate {
    struct slice name;
    uint64_t epoch, log_epoch, lsn;
};

static bool would_vote(const struct server *s, const struct candidate *k, uint64_t epoch, uint64_t lsn)
{
    const struct quorum *q = s->quorum;
    if (k->epoch < q->promised ||
        (k->epoch == q->promised && !slice_equal(k->name, slice_cstr(q->promised_to))))
        return false;
    if (is_new(q) && k->log_epoch > 0)
        return false;
    return k->log_epoch > epoch || (k->log_epoch == epoch && k->lsn >= lsn);
}

/* From here on this node neither acknowledges what an older epoch's primary does nor does it itself. */
static bool promise(struct server *s, const struct candidate *k)
{
    struct quorum *q = s->quorum;
    struct error why = {0};
    if (k->epoch == q->promised)
        return save(q); /* the first time it may have failed */
    q->promised = k->epoch;
    snprintf(q->promised_to, sizeof(q->promised_to), "%.*s", (int)k->name.size, k->name.data);
    if (!s->is_replica) {
        lose(s, "this node has voted for another one");
        if (q->retry_us < s->now_us + DEPOSED_US)
            try_again(q, DEPOSED_US);
    } else if (q->link_epoch != 0 && q->link_epoch < k->epoch) {
        error_set(&why, ERROR_CANCELLED, "this node has voted for %s in epoch %llu", q->promised_to,
                  (unsigned long long)k->epoch);
        replication_link_down(s, &why);
    }
    return save(q);
}

void cmd_holdfast_vote(struct call *c)
{
    struct server *s = c->server;
    struct quorum *q = s->quorum;
    struct candidate k = {.name = c->argv[2]};
    int64_t numbers[3];
    char line[160];
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
    uint64_t epoch = 0, lsn = 0;
    bool granted = position(s, &epoch, &lsn) && would_vote(s, &k, epoch, lsn);
    if (granted && real)
        granted = promise(s, &k);
    snprintf(line, sizeof(line), "VOTE %d %llu %llu %llu %s", granted, (unsigned long long)q->promised,
             (unsigned long long)epoch, (unsigned long long)lsn, s->config->quorum_node);
    reply_simple(c->reply, line);
}

/* ---- roles and links ---- */

void quorum_became_primary(struct server *s)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q))
        return;
    uint64_t lsn = replication_lsn(s);
    q->link_epoch = 0;
    q->epoch = 0;
    q->retry_us = 0;
    note_problem(q, "the others have not been asked yet");
    /* What it appends from here on without having been elected is nobody's. */
    if (lsn < q->cap) {
        q->cap = lsn;
        if (!save(q))
            q->blank = true;
    }
    server_update_attention(s);
    quorum_step(s);
}

void quorum_became_replica(struct server *s)
{
    struct quorum *q = s->quorum;
    if (!quorum_is_on(q))
        return;
    q->epoch = 0;
    q->problem[0] = '\0';
    /* The votes of the round that is under way are for a log which may be replaced now. */
    q->asked = 0;
    if (q->election != NULL)
        election_cancel(q->election);
    server_update_attention(s);
}

bool quorum_accepts(const struct quorum *q, uint64_t epoch)
{
    return !quorum_is_on(q) || (epoch != 0 && epoch >= q->promised);
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

void quorum_link_down(struct server *s)
{
    if (s->quorum != NULL)
        s->quorum->link_epoch = 0;
}

uint64_t quorum_acknowledges(const struct quorum *q)
{
    return quorum_is_on(q) && q->link_epoch != 0 && q->log_epoch == q->link_epoch &&
                   q->cap == NO_CAP && q->promised <= q->link_epoch
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
    if (!quorum_is_on(q) || q->epoch == 0 || q->log_epoch != q->epoch ||
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
    return !quorum_is_on(q) || s->is_replica || q->epoch != 0
               ? NULL
               : "NOREPLICAS This primary has not been elected by a majority of quorum-nodes";
}

/* ---- start and end ---- */

void quorum_init(struct server *s)
{
    s->quorum = mem_zalloc(sizeof(*s->quorum));
    s->quorum->server = s;
    s->quorum->cap = NO_CAP;
}

bool quorum_start(struct server *s, struct error *err)
{
    struct quorum *q = s->quorum;
    const struct config *c = s->config;
    bool named = false;
    if (c->quorum_node_count == 0)
        return true;
    for (int i = 0; i < c->quorum_node_count; i++)
        named |= strcmp(c->quorum_nodes[i].name, c->quorum_node) == 0;
    if (!named)
        return error_set(err, ERROR_INVALID, "quorum-node '%s' is none of quorum-nodes", c->quorum_node);
    if (!c->appendonly)
        return error_set(err, ERROR_INVALID, "quorum-nodes need appendonly yes");
    if (!load(q, err))
        return false;
    q->enabled = true;
    q->majority = c->quorum_node_count / 2 + 1;
    q->blank = q->log_epoch != 0 && replication_lsn(s) < q->log_lsn;
    if (q->blank)
        log_warning("ALARM: what was found ends at LSN %llu, but this node had all up to %llu: it has lost data, "
                    "and votes for nobody until it has caught up with an elected primary",
                    (unsigned long long)replication_lsn(s), (unsigned long long)q->log_lsn);
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
    const char *state = s->is_replica      ? (quorum_acknowledges(q) != 0 ? "acknowledging" : "following")
                        : q->epoch == 0    ? "not_elected"
                        : quorum_present(s, c->durability_timeout * 1000) < q->majority ? "alone"
                                                                                       : "elected";
    text_appendf(out, "quorum_node:%s\r\nquorum_nodes:%d\r\nquorum_state:%s\r\n", c->quorum_node,
                 c->quorum_node_count, state);
    text_appendf(out, "quorum_epoch:%llu\r\nquorum_promised_epoch:%llu\r\nquorum_log_epoch:%llu\r\n",
                 (unsigned long long)(s->is_replica ? q->link_epoch : q->epoch),
                 (unsigned long long)q->promised, (unsigned long long)q->log_epoch);
    text_appendf(out, "quorum_position:%llu\r\nquorum_can_vote:%d\r\nquorum_elections:%llu\r\n",
                 (unsigned long long)lsn, known, (unsigned long long)q->elections);
    if (!s->is_replica)
        text_appendf(out, "quorum_sure_lsn:%llu\r\nquorum_present:%d\r\nquorum_problem:%s\r\n",
                     (unsigned long long)hold_sure(s->hold, HOLD_QUORUM),
                     q->epoch != 0 ? quorum_present(s, c->durability_timeout * 1000) : 0,
                     q->problem[0] != '\0' ? q->problem : "none");
}
