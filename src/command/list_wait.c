/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands that take elements from lists and wait for them: BLPOP, BRPOP, BLMPOP, BLMOVE,
 * BLMOVEM, BRPOPLPUSH. The log has them as what they did: LPOP, RPOP, LMOVE, RPOPLPUSH.
 */
#include "command/list_common.h"
#include "command/wait.h"
#include "handlers.h"

/* ---- BLPOP, BRPOP ---- */

static void take_element(struct call *c, struct keyref *ref, int end)
{
    reply_array(c->reply, 2);
    reply_bulk(c->reply, ref->key);
    list_reply_pop(c, ref, (enum list_end)end, 1);
    CALL_EFFECT(c, c->db, end == LIST_HEAD ? SLICE("LPOP") : SLICE("RPOP"), ref->key);
}

void cmd_blpop(struct call *c)
{
    call_take_or_wait(c, ENTRY_LIST, take_element, LIST_HEAD);
}

void cmd_brpop(struct call *c)
{
    call_take_or_wait(c, ENTRY_LIST, take_element, LIST_TAIL);
}

/* ---- BLMPOP ---- */

void cmd_blmpop(struct call *c)
{
    mpop_or_wait(c, &list_mpop);
}

/* ---- BLMOVE, BRPOPLPUSH ---- */

struct move {
    enum list_end from, to;
};

/* False: the source is not there. */
static bool move(struct call *c, const struct move *m)
{
    uint64_t errors = c->reply->error_count;
    if (!list_reply_move(c, m->from, m->to))
        return false;
    if (c->reply->error_count != errors)
        return true;
    if (c->argc == 4)
        CALL_EFFECT(c, c->db, SLICE("RPOPLPUSH"), c->argv[1], c->argv[2]);
    else
        CALL_EFFECT(c, c->db, SLICE("LMOVE"), c->argv[1], c->argv[2], c->argv[3], c->argv[4]);
    return true;
}

static bool serve_move(struct call *c, struct slice key, struct entry *e, void *state)
{
    (void)key;
    (void)e;
    return move(c, state);
}

static void move_or_wait(struct call *c, struct move m)
{
    int64_t timeout_ms;
    if (!call_timeout_seconds(c, c->argv[c->argc - 1], &timeout_ms) || move(c, &m))
        return;
    /* A transaction gets the null of LMOVE, who has waited that of BLPOP. */
    if (c->in_exec) {
        reply_null(c->reply);
        return;
    }
    call_wait(c, &(struct call_wait){.type = ENTRY_LIST,
                                     .keys = c->argv + 1,
                                     .key_count = 1,
                                     .timeout_ms = timeout_ms,
                                     .serve = serve_move,
                                     .state = &m,
                                     .state_size = sizeof(m)});
}

void cmd_blmove(struct call *c)
{
    struct move m;
    if (list_parse_end(c, c->argv[3], &m.from) && list_parse_end(c, c->argv[4], &m.to))
        move_or_wait(c, m);
}

void cmd_brpoplpush(struct call *c)
{
    move_or_wait(c, (struct move){LIST_TAIL, LIST_HEAD});
}

/* ---- BLMOVEM ---- */

static bool serve_movem(struct call *c, struct slice key, struct entry *e, void *state)
{
    (void)key;
    (void)e;
    return list_reply_movem(c, state);
}

void cmd_blmovem(struct call *c)
{
    struct list_movem o;
    int64_t timeout_ms;
    if (!list_parse_movem(c, 6, &o) || !call_timeout_seconds(c, c->argv[5], &timeout_ms) ||
        list_reply_movem(c, &o))
        return;
    call_wait(c, &(struct call_wait){.type = ENTRY_LIST,
                                     .keys = c->argv + 1,
                                     .key_count = 1,
                                     .timeout_ms = timeout_ms,
                                     .serve = serve_movem,
                                     .state = &o,
                                     .state_size = sizeof(o)});
}
