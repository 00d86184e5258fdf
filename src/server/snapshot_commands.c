/* SPDX-License-Identifier: BSD-3-Clause
 *
 * HOLDFAST SNAPSHOT: full and incremental snapshots and their chain (persist/chain).
 */
#include "command/help.h"
#include "handlers.h"
#include "persist/chain/keeper.h"
#include "server/config.h"
#include "server/persistence.h"
#include "server/preflight.h"
#include "server/server.h"

static void snapshot_help(struct call *c)
{
    static const char *const lines[] = {
        "SNAPSHOT FULL",
        "    Save all keys in the background, as BGSAVE does. A new chain begins with it.",
        "SNAPSHOT INCREMENTAL",
        "    Save in the background what was changed and deleted since the snapshot before; a full",
        "    one where there is none that it could follow.",
        "SNAPSHOT LIST",
        "    The chain: the full snapshot and the incremental ones after it.",
        "SNAPSHOT VERIFY",
        "    Read all files of the chain in the background. INFO persistence tells the outcome.",
        "SNAPSHOT PREFLIGHT",
        "    What a full save would take now - disk, memory, time - and whether it fits. Nothing",
        "    is written.",
        "DURABILITY [AUTO | MEMORY | LOCAL | REPLICA n | QUORUM]",
        "    How sure what this client is told has to be: replies wait for it.",
        "VOTE candidate epoch log-epoch lsn PRE | REAL",
        "    For nodes of a quorum alone.",
        "SNAPSHOT HELP",
        "    This text.",
    };
    reply_help(c, "HOLDFAST", lines, sizeof(lines) / sizeof(lines[0]));
}

void cmd_holdfast_help(struct call *c)
{
    snapshot_help(c);
}

static void snapshot_full(struct call *c)
{
    struct error err = {0};
    struct persistence *p = c->server->persistence;
    chain_keeper_want(p->chain);
    if (saver_running(p->saver)) {
        reply_error(c->reply, "ERR Background save already in progress");
    } else if (c->in_exec) {
        /* The snapshot must not be of one half of a transaction. */
        p->scheduled = true;
        reply_simple(c->reply, "Background full snapshot scheduled");
    } else if (persistence_begin_save(c->server, &err)) {
        reply_simple(c->reply, "Background full snapshot started");
    } else {
        reply_errorf(c->reply, "ERR %s", err.message);
    }
}

static void snapshot_incremental(struct call *c)
{
    struct error err = {0};
    struct persistence *p = c->server->persistence;
    if (c->in_exec) {
        reply_error(c->reply, "ERR An incremental snapshot cannot be taken within a transaction");
        return;
    }
    if (c->server->config->snapshot_chain_max == 0) {
        reply_error(c->reply, "ERR Incremental snapshots are off: snapshot-chain-max is 0");
        return;
    }
    if (saver_running(p->saver)) {
        reply_error(c->reply, "ERR Background save already in progress");
        return;
    }
    chain_keeper_want(p->chain);
    /* What has just ended makes way for it. */
    chain_keeper_enable(p->chain, true);
    if (!chain_keeper_busy(p->chain)) {
        const char *cannot = chain_keeper_cannot(p->chain);
        if (cannot) {
            if (persistence_begin_save(c->server, &err))
                reply_simple(c->reply, "Background full snapshot started");
            else
                reply_errorf(c->reply, "ERR %s", err.message);
            return;
        }
    }
    if (persistence_begin_incremental(c->server, &err))
        reply_simple(c->reply, "Background incremental snapshot started");
    else
        reply_errorf(c->reply, "ERR %s", err.message);
}

static void reply_field(struct call *c, const char *name, uint64_t v)
{
    reply_bulk_cstr(c->reply, name);
    reply_int(c->reply, (int64_t)v);
}

static void reply_text(struct call *c, const char *name, const char *text)
{
    reply_bulk_cstr(c->reply, name);
    reply_bulk_cstr(c->reply, text);
}

static void snapshot_list(struct call *c)
{
    struct chain_keeper_status status;
    chain_keeper_get_status(c->server->persistence->chain, &status);
    reply_array(c->reply, status.chain->count);
    for (size_t i = 0; i < status.chain->count; i++) {
        const struct chain_link *l = &status.chain->links[i];
        reply_map(c->reply, 10);
        reply_text(c, "kind", l->kind == LINK_FULL ? "full" : "incremental");
        reply_text(c, "file", l->name);
        reply_text(c, "id", l->id);
        reply_text(c, "parent", l->parent);
        reply_field(c, "offset", l->lsn);
        reply_field(c, "time", (uint64_t)l->time_ms);
        reply_field(c, "keys", l->keys);
        reply_field(c, "deleted", l->deleted);
        reply_field(c, "size", l->size);
        reply_text(c, "sha256", l->sha256);
    }
}

static void snapshot_verify(struct call *c)
{
    struct error err = {0};
    uint64_t rate = (uint64_t)c->server->config->snapshot_rate_limit;
    if (chain_keeper_begin_verify(c->server->persistence->chain, rate, &err))
        reply_simple(c->reply, "Background verification started");
    else
        reply_errorf(c->reply, "ERR %s", err.message);
}

static void snapshot_preflight(struct call *c)
{
    struct preflight f;
    preflight_run(c->server, &f);
    reply_map(c->reply, 15);
    reply_text(c, "verdict", f.reason_count == 0 ? "fits" : "does not fit");
    reply_bulk_cstr(c->reply, "reasons");
    reply_array(c->reply, (size_t)f.reason_count);
    for (int i = 0; i < f.reason_count; i++)
        reply_bulk_cstr(c->reply, f.reasons[i]);
    reply_text(c, "measured-by", f.estimate.measured ? "the last save" : "the size in memory");
    reply_field(c, "keys", f.estimate.keys);
    reply_field(c, "data-bytes", f.estimate.memory);
    reply_field(c, "disk-needed-bytes", f.estimate.bytes);
    reply_bulk_cstr(c->reply, "disk-free-bytes");
    reply_int(c->reply, f.disk_known ? (int64_t)f.disk_free : -1);
    reply_field(c, "disk-fits", f.disk_fits);
    reply_field(c, "memory-needed-bytes", f.memory_needed);
    reply_field(c, "memory-limit-bytes", f.memory_limit);
    reply_field(c, "memory-fits", f.memory_fits);
    reply_field(c, "time-ms", (uint64_t)f.estimate.ms);
    reply_field(c, "time-fits", f.time_fits);
    reply_field(c, "changes-per-second", (uint64_t)f.changes_s);
    reply_field(c, "written-bytes-per-second", (uint64_t)f.bytes_s);
}

void cmd_holdfast_snapshot(struct call *c)
{
    static const struct {
        const char *name;
        void (*run)(struct call *c);
    } actions[] = {{"full", snapshot_full},
                   {"incremental", snapshot_incremental},
                   {"list", snapshot_list},
                   {"verify", snapshot_verify},
                   {"preflight", snapshot_preflight},
                   {"help", snapshot_help}};
    for (size_t i = 0; c->argc == 3 && i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (slice_is(c->argv[2], actions[i].name)) {
            actions[i].run(c);
            return;
        }
    }
    reply_error(c->reply, "ERR Unknown action of HOLDFAST SNAPSHOT. Try HOLDFAST HELP.");
}
