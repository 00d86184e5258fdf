/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands of the group "server" that concern the whole data set or the process: INFO, TIME,
 * DBSIZE, FLUSHDB, FLUSHALL, SWAPDB, SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "handlers.h"
#include "server/blocked.h"
#include "server/client.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/info.h"
#include "server/persistence.h"
#include "server/server.h"
#include "server/tracking.h"

void cmd_info(struct call *c)
{
    struct text report = {0};
    info_append(c->server, c->argv + 1, c->argc - 1, &report);
    reply_verbatim(c->reply, slice_of(text_cstr(&report), report.size), "txt");
    text_free(&report);
}

void cmd_time(struct call *c)
{
    int64_t now = clock_wall_us();
    reply_array(c->reply, 2);
    reply_bulk_int(c->reply, now / 1000000);
    reply_bulk_int(c->reply, now % 1000000);
}

void cmd_dbsize(struct call *c)
{
    reply_int(c->reply, (int64_t)c->db->table.count);
}

/* SYNC and ASYNC are the same to us: the executor never frees more than a bounded step. */
static bool flush_options(struct call *c)
{
    if (c->argc == 1 ||
        (c->argc == 2 && (slice_is(c->argv[1], "sync") || slice_is(c->argv[1], "async"))))
        return true;
    reply_syntax_error(c->reply);
    return false;
}

void cmd_flushdb(struct call *c)
{
    if (!flush_options(c))
        return;
    c->ks->dirty += c->db->table.count;
    db_flush(c->db);
    tracking_flushed(c->server);
    blocked_signal_db(c->server, c->db);
    reply_ok(c->reply);
}

void cmd_flushall(struct call *c)
{
    if (!flush_options(c))
        return;
    for (int i = 0; i < c->ks->db_count; i++)
        c->ks->dirty += c->ks->dbs[i].table.count;
    c->ks->dirty++;
    keyspace_flush(c->ks);
    tracking_flushed(c->server);
    for (int i = 0; i < c->ks->db_count; i++)
        blocked_signal_db(c->server, &c->ks->dbs[i]);
    reply_ok(c->reply);
}

void cmd_swapdb(struct call *c)
{
    int64_t a, b;
    if (!call_int64_range(c, c->argv[1], INT32_MIN, INT32_MAX, &a, "ERR invalid first DB index") ||
        !call_int64_range(c, c->argv[2], INT32_MIN, INT32_MAX, &b, "ERR invalid second DB index"))
        return;
    if (a < 0 || a >= c->ks->db_count || b < 0 || b >= c->ks->db_count) {
        reply_error(c->reply, "ERR DB index is out of range");
        return;
    }
    if (a != b) {
        keyspace_swap(c->ks, (int)a, (int)b);
        blocked_signal_db(c->server, &c->ks->dbs[a]);
        blocked_signal_db(c->server, &c->ks->dbs[b]);
    }
    c->ks->dirty++;
    reply_ok(c->reply);
}

void cmd_lastsave(struct call *c)
{
    struct saver_status status;
    saver_get_status(c->server->persistence->saver, &status);
    reply_int(c->reply, status.last_save_s);
}

void cmd_save(struct call *c)
{
    if (saver_running(c->server->persistence->saver)) {
        reply_error(c->reply, "ERR Background save already in progress");
        return;
    }
    struct error err = {0};
    if (persistence_save(c->server, &err))
        reply_ok(c->reply);
    else
        reply_errorf(c->reply, "ERR %s", err.message);
}

static void cancel_bgsave(struct call *c)
{
    struct persistence *p = c->server->persistence;
    if (saver_running(p->saver)) {
        log_notice("Background saving is cancelled, as the user asked for");
        saver_cancel(p->saver);
        reply_simple(c->reply, "Background saving cancelled");
    } else if (chain_keeper_incremental(p->chain)) {
        log_notice("The incremental snapshot is cancelled, as the user asked for");
        chain_keeper_cancel(p->chain);
        reply_simple(c->reply, "Background saving cancelled");
    } else if (p->scheduled) {
        p->scheduled = false;
        reply_simple(c->reply, "Scheduled background saving cancelled");
    } else {
        reply_error(c->reply, "ERR Background saving is currently not in progress or scheduled");
    }
}

void cmd_bgrewriteaof(struct call *c)
{
    switch (durability_rewrite(c->server, c->in_exec)) {
    case DURABILITY_REWRITE_RUNS:
        reply_error(c->reply, "ERR Background append only file rewriting already in progress");
        break;
    case DURABILITY_REWRITE_SCHEDULED:
        reply_simple(c->reply, "Background append only file rewriting scheduled");
        break;
    case DURABILITY_REWRITE_STARTED:
        reply_simple(c->reply, "Background append only file rewriting started");
        break;
    case DURABILITY_REWRITE_FAILED:
        reply_error(c->reply,
                    "ERR Can't execute an AOF background rewriting. Please check the server "
                    "logs for more information.");
        break;
    }
}

void cmd_bgsave(struct call *c)
{
    if (c->argc == 2 && slice_is(c->argv[1], "cancel")) {
        cancel_bgsave(c);
        return;
    }
    if (c->argc > 2 || (c->argc == 2 && !slice_is(c->argv[1], "schedule"))) {
        reply_syntax_error(c->reply);
        return;
    }
    /* SCHEDULE is for when a rewrite of the log runs, which does not keep a save from running here.
     */
    if (saver_running(c->server->persistence->saver)) {
        reply_error(c->reply, "ERR Background save already in progress");
        return;
    }
    /* The snapshot must not be of one half of a transaction. */
    if (c->in_exec) {
        c->server->persistence->scheduled = true;
        reply_simple(c->reply, "Background saving scheduled");
        return;
    }
    struct error err = {0};
    if (persistence_begin_save(c->server, &err))
        reply_simple(c->reply, "Background saving started");
    else
        reply_errorf(c->reply, "ERR %s", err.message);
}

