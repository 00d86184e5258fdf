/* SPDX-License-Identifier: BSD-3-Clause */
#include "replication/election.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "net/peer.h"
#include "os/thread.h"

struct election {
    struct election_options options;
    struct election_vote votes[ELECTION_PEERS_MAX];
    pthread_t thread;
    bool cancelled, ended; /* atomic */
};

static bool failed(struct election_vote *v, const char *what)
{
    return error_set(&v->error, ERROR_SYSTEM, "%s: %s", what,
                     errno == EPROTO ? "a line without end" : strerror(errno));
}

static bool ask(struct peer *p, struct election_vote *v, const struct slice *argv, int argc,
                struct slice *line)
{
    return (peer_send(p, argv, argc) && peer_read_line(p, line)) || failed(v, "asking");
}

static bool say_auth(struct election *e, struct peer *p, struct election_vote *v)
{
    const struct election_options *o = &e->options;
    struct slice line, argv[3];
    int argc = peer_auth_arguments(o->user, o->password, argv);
    if (argc == 0)
        return true;
    if (!ask(p, v, argv, argc, &line))
        return false;
    return (line.size > 0 && line.data[0] == '+') ||
           error_set(&v->error, ERROR_INVALID, "AUTH (masterauth) was refused");
}

/* The next word of the line; empty at its end. */
static struct slice next_word(struct slice *line)
{
    size_t n = 0;
    while (n < line->size && line->data[n] != ' ')
        n++;
    struct slice word = slice_of(line->data, n);
    *line = slice_of(line->data + n, line->size - n);
    if (line->size > 0)
        *line = slice_of(line->data + 1, line->size - 1);
    return word;
}

static bool take_number(struct slice *line, uint64_t *out)
{
    int64_t n;
    if (!number_parse_int64(next_word(line), &n) || n < 0)
        return false;
    *out = (uint64_t)n;
    return true;
}

static bool take_answer(const struct election_peer *peer, struct election_vote *v,
                        struct slice line)
{
    uint64_t granted;
    if (slice_equal(next_word(&line), SLICE("+VOTE")) && take_number(&line, &granted) &&
        take_number(&line, &v->promised) && take_number(&line, &v->log_epoch) &&
        take_number(&line, &v->lsn) && granted <= 1) {
        /* A node that is listed under two names would have two votes. */
        if (!slice_equal(line, slice_cstr(peer->name)))
            return error_set(&v->error, ERROR_INVALID, "another node answers at its address");
        v->answered = true;
        v->granted = granted == 1;
        return true;
    }
    return error_set(&v->error, ERROR_INVALID,
                     "it does not know of quorum-nodes, or refuses to vote");
}

static void ask_peer(struct election *e, int i)
{
    const struct election_options *o = &e->options;
    struct election_vote *v = &e->votes[i];
    char numbers[3][NUMBER_INT64_SIZE];
    const uint64_t values[3] = {o->epoch, o->log_epoch, o->lsn};
    struct slice line, argv[7] = {SLICE("HOLDFAST"), SLICE("VOTE"), slice_cstr(o->candidate)};
    for (int k = 0; k < 3; k++)
        argv[3 + k] = slice_of(numbers[k], number_format_int64(numbers[k], (int64_t)values[k]));
    argv[6] = o->real ? SLICE("REAL") : SLICE("PRE");
    struct peer *p = peer_connect(o->peers[i].host, o->peers[i].port, o->source, o->tls,
                                  o->timeout_ms, NULL);
    if (p == NULL) {
        failed(v, "connecting");
        return;
    }
    peer_set_timeout(p, o->timeout_ms);
    if (say_auth(e, p, v) && ask(p, v, argv, 7, &line))
        take_answer(&o->peers[i], v, line);
    peer_close(p);
}

static void election_main(void *arg)
{
    struct election *e = arg;
    const struct election_options *o = &e->options;
    int yes = 0;
    for (int i = 0; i < o->count && (o->enough == 0 || yes < o->enough); i++) {
        if (__atomic_load_n(&e->cancelled, __ATOMIC_ACQUIRE))
            break;
        ask_peer(e, i);
        yes += e->votes[i].granted;
    }
    void (*wake)(void *) = o->wake;
    void *ctx = o->ctx;
    __atomic_store_n(&e->ended, true, __ATOMIC_RELEASE);
    wake(ctx);
}

struct election *election_start(const struct election_options *options, struct error *err)
{
    struct election *e = mem_zalloc(sizeof(*e));
    e->options = *options;
    if (!os_thread_start(&e->thread, "election", election_main, e, err)) {
        tls_context_free(e->options.tls);
        mem_free(e);
        return NULL;
    }
    return e;
}

void election_cancel(struct election *e)
{
    __atomic_store_n(&e->cancelled, true, __ATOMIC_RELEASE);
}

bool election_ended(const struct election *e)
{
    return __atomic_load_n(&e->ended, __ATOMIC_ACQUIRE);
}

void election_finish(struct election *e, struct election_vote votes[ELECTION_PEERS_MAX])
{
    pthread_join(e->thread, NULL);
    memcpy(votes, e->votes, sizeof(e->votes));
    tls_context_free(e->options.tls);
    mem_free(e);
}
