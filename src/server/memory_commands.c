/* SPDX-License-Identifier: BSD-3-Clause
 *
 * MEMORY: what memory is used for.
 */
#include <stdio.h>

#include "base/mem.h"
#include "base/mem_move.h"
#include "base/text.h"
#include "command/help.h"
#include "handlers.h"
#include "server/client.h"
#include "server/config.h"
#include "server/info.h"
#include "server/scripting.h"
#include "server/server.h"

void cmd_memory_usage(struct call *c)
{
    for (int i = 3; i < c->argc; i += 2) {
        int64_t samples;
        if (!slice_is(c->argv[i], "samples") || i + 1 == c->argc) {
            reply_syntax_error(c->reply);
            return;
        }
        /* It is checked, but all of the value is counted: samples would only make it less exact. */
        if (!call_int64(c, c->argv[i + 1], &samples, NULL))
            return;
        if (samples < 0) {
            reply_syntax_error(c->reply);
            return;
        }
    }
    const struct entry *e = db_find(c->db, c->argv[2], call_hash(c, c->argv[2]));
    if (e)
        reply_int(c->reply, (int64_t)entry_memory(e));
    else
        reply_null(c->reply);
}

static void field(struct reply *r, const char *name, int64_t v)
{
    reply_bulk_cstr(r, name);
    reply_int(r, v);
}

static void field_ratio(struct reply *r, const char *name, double v)
{
    reply_bulk_cstr(r, name);
    reply_double(r, v);
}

static double ratio(size_t a, size_t b)
{
    return b ? (double)a / (double)b : 0;
}

static int64_t difference(size_t a, size_t b)
{
    return (int64_t)a - (int64_t)b;
}

static void reply_db(struct reply *r, const struct db *db)
{
    char name[32];
    snprintf(name, sizeof(name), "db.%d", db->id);
    reply_bulk_cstr(r, name);
    reply_map(r, 3);
    field(r, "overhead.hashtable.main", (int64_t)table_overhead_bytes(&db->table));
    field(r, "overhead.hashtable.expires", 0);
    field(r, "overhead.hashtable.slot-to-keys", 0);
}

void cmd_memory_stats(struct call *c)
{
    struct reply *r = c->reply;
    struct memory_use use;
    struct mem_stats m;
    info_memory_use(c->server, &use);
    mem_get_stats(&m);
    size_t rss = mem_rss(), dbs = 0;
    for (int i = 0; i < c->ks->db_count; i++)
        dbs += c->ks->dbs[i].table.count != 0;
    size_t net = use.used > use.startup ? use.used - use.startup : 0;
    reply_map(r, 27 + dbs);
    field(r, "peak.allocated", (int64_t)use.peak);
    field(r, "total.allocated", (int64_t)use.used);
    field(r, "startup.allocated", (int64_t)use.startup);
    field(r, "replication.backlog", 0);
    field(r, "clients.slaves", 0);
    field(r, "clients.normal", (int64_t)use.clients);
    field(r, "cluster.links", 0);
    field(r, "aof.buffer", 0);
    struct scripting_memory scripts;
    scripting_memory(c->server->scripting, &scripts);
    field(r, "lua.caches", (int64_t)scripts.scripts);
    field(r, "functions.caches", (int64_t)scripts.functions);
    for (int i = 0; i < c->ks->db_count; i++)
        if (c->ks->dbs[i].table.count != 0)
            reply_db(r, &c->ks->dbs[i]);
    field(r, "overhead.total", (int64_t)use.overhead);
    field(r, "keys.count", (int64_t)use.keys);
    field(r, "keys.bytes-per-key", use.keys ? (int64_t)(net / use.keys) : 0);
    field(r, "dataset.bytes", (int64_t)use.dataset);
    field_ratio(r, "dataset.percentage", 100 * ratio(use.dataset, net));
    field_ratio(r, "peak.percentage", 100 * ratio(use.used, use.peak));
    field(r, "allocator.allocated", (int64_t)m.allocated);
    field(r, "allocator.active", (int64_t)m.active);
    field(r, "allocator.resident", (int64_t)m.resident);
    field_ratio(r, "allocator-fragmentation.ratio", ratio(m.active, m.allocated));
    field(r, "allocator-fragmentation.bytes", difference(m.active, m.allocated));
    field_ratio(r, "allocator-rss.ratio", ratio(m.resident, m.active));
    field(r, "allocator-rss.bytes", difference(m.resident, m.active));
    field_ratio(r, "rss-overhead.ratio", ratio(rss, m.resident));
    field(r, "rss-overhead.bytes", difference(rss, m.resident));
    field_ratio(r, "fragmentation", ratio(rss, use.used));
    field(r, "fragmentation.bytes", difference(rss, use.used));
}

void cmd_memory_doctor(struct call *c)
{
    enum { MEGABYTE = 1 << 20 };
    struct memory_use use;
    struct mem_stats m;
    struct text report = {0};
    info_memory_use(c->server, &use);
    mem_get_stats(&m);
    size_t rss = mem_rss();
    if (use.used < 5 * MEGABYTE) {
        text_append_cstr(&report, "There is too little data in memory to say anything of it.\n");
    } else {
        if (ratio(use.peak, use.used) > 1.5)
            text_append_cstr(&report,
                             "* Peak: far more memory was in use at some time than is now, so the "
                             "process may hold pages that it does not need. MEMORY PURGE gives "
                             "them back.\n");
        if (ratio(m.active, m.allocated) > 1.1 && m.active - m.allocated > 10 * MEGABYTE)
            text_append_cstr(&report,
                             "* Fragmentation: the allocator's pages are only partly used. That "
                             "follows from many deletions or from values that change in size; it "
                             "gets better as new data fills the gaps.\n");
        if (ratio(m.active, m.allocated) > 1.1 && m.active - m.allocated > 10 * MEGABYTE &&
            mem_can_move() && !c->server->config->activedefrag)
            text_append_cstr(&report,
                             "  CONFIG SET activedefrag yes has the server move what is left "
                             "together and give the rest back.\n");
        if (ratio(rss, m.resident) > 1.1 && rss - m.resident > 10 * MEGABYTE)
            text_append_cstr(&report, "* Resident memory: much of it is not the allocator's: "
                                      "threads' stacks, libraries, other mappings.\n");
        size_t clients = c->server->clients.count;
        if (clients && use.clients / clients > 200 * 1024)
            text_append_cstr(&report, "* Clients: their buffers are large, more than 200 KB each "
                                      "on average. See omem and qbuf of CLIENT LIST.\n");
        if (report.size == 0)
            text_append_cstr(&report, "No problem with memory was found.\n");
    }
    reply_verbatim(c->reply, text_slice(&report), "txt");
    text_free(&report);
}

void cmd_memory_purge(struct call *c)
{
    mem_purge();
    reply_ok(c->reply);
}

static void append(void *ctx, const char *piece)
{
    text_append_cstr(ctx, piece);
}

void cmd_memory_malloc_stats(struct call *c)
{
    struct text report = {0};
    mem_report(append, &report);
    reply_verbatim(c->reply, slice_of(text_cstr(&report), report.size), "txt");
    text_free(&report);
}

void cmd_memory_help(struct call *c)
{
    static const char *const lines[] = {
        "DOCTOR",
        "    Look for problems with memory.",
        "MALLOC-STATS",
        "    What the allocator reports of itself.",
        "PURGE",
        "    Give memory that is free back to the system.",
        "STATS",
        "    What memory is used for.",
        "USAGE <key> [SAMPLES <count>]",
        "    How many bytes a key and its value take. All of the value is counted.",
    };
    reply_help(c, "MEMORY", lines, sizeof(lines) / sizeof(lines[0]));
}
