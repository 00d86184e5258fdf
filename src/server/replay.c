/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/replay.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/number.h"
#include "command/table.h"
#include "handlers.h"
#include "server/chain_follow.h"
#include "server/client.h"
#include "server/config.h"
#include "server/persistence.h"
#include "server/replication.h"

/* Commands whose keys are looked up ahead together, while those before them are executed, and how
 * many such groups are under way. */
#define STAGE 32
#define STAGES 4
/* The LFU clock counts minutes modulo 2^16: this long is once around. */
#define LFU_ROUND_MS ((int64_t)65536 * 60000)

struct replay {
    struct server *server;
    struct recovery_result *result;
    bool begun;           /* something has been executed */
    struct chain_follow follow;
    struct db *db;        /* which the next command is for */
    struct client client; /* nobody's: what handlers look at, and where replies go to be dropped */
    int64_t now_ms;       /* by the wall, when the load began */
    int64_t begun_us;
    int64_t first_us;    /* when the first commands came; 0: none have */
    uint64_t base_bytes; /* read before */
    uint64_t errors; /* commands that were refused by their handlers */
    char first_error[160];
};

/* One command made ready. */
struct item {
    const struct command *command;
    const struct slice *argv;
    uint64_t offset;
    struct call_key key;
    int argc;
    bool has_key;
};

/* While commands of the past are executed nothing is expired: a key that has expired since was
 * there when they came, and the DEL that ended it is in the log, too. So time stands still at a
 * moment of 1970, before any expiry that there can be; one that gives the LFU clock what it is
 * now. */
static void stop_time(struct replay *r)
{
    struct keyspace *ks = r->server->ks;
    ks->now_ms = r->now_ms % LFU_ROUND_MS;
    ks->lazy_expire_paused = true;
}

static void go_on_in_time(struct replay *r)
{
    r->server->ks->lazy_expire_paused = false;
    server_update_clock(r->server);
}

/* A time in the command is relative to now: only the log of a very old server, or one edited by
 * hand, has such. */
static bool is_relative(const struct item *item)
{
    command_handler *h = item->command->handler;
    if (h == cmd_expire || h == cmd_pexpire || h == cmd_setex || h == cmd_psetex)
        return true;
    if (h != cmd_set && h != cmd_getex)
        return false;
    for (int i = h == cmd_set ? 3 : 2; i + 1 < item->argc; i++) {
        if (slice_is(item->argv[i], "ex") || slice_is(item->argv[i], "px"))
            return true;
    }
    return false;
}

static bool select_db(struct replay *r, const struct item *item, struct error *err)
{
    int64_t id;
    struct keyspace *ks = r->server->ks;
    if (item->argc != 2 || !number_parse_int64(item->argv[1], &id) || id < 0 || id >= ks->db_count)
        return error_set(err, ERROR_INVALID,
                         "offset %llu: SELECT of a database that is not configured (databases %d)",
                         (unsigned long long)item->offset, ks->db_count);
    r->db = &ks->dbs[id];
    return true;
}

static bool find_command(const struct log_batch *b, const struct log_command *c,
                         const struct item *before, struct item *item, struct error *err)
{
    item->argv = b->args + c->first_arg;
    item->argc = (int)c->argc;
    item->offset = c->offset;
    item->has_key = false;
    struct slice name = item->argv[0];
    /* Logs have the same command many times over; of a container it may be another subcommand. */
    if (before != NULL && slice_equal(before->argv[0], name) &&
        before->command->full_name[name.size] == '\0')
        item->command = before->command;
    else
        item->command = command_find(name);
    const struct command *command = item->command;
    if (command != NULL && command->subcommand_count > 0 && item->argc > 1)
        item->command = command = command_find_sub(command, item->argv[1]);
    if (command == NULL || command->handler == NULL)
        return error_set(err, ERROR_UNSUPPORTED,
                         "offset %llu: the command '%.*s' is not known to this server",
                         (unsigned long long)c->offset, (int)(name.size < 64 ? name.size : 64),
                         name.data);
    if (command->arity > 0 ? item->argc != command->arity : item->argc < -command->arity)
        return error_set(err, ERROR_CORRUPT,
                         "offset %llu: '%s' with a wrong number of arguments",
                         (unsigned long long)c->offset, command->full_name);
    return true;
}

/* Some commands, one behind the other, of one database. */
struct stage {
    struct item items[STAGE];
    int count;
    struct db *db;
};

static void find_key(const struct db *db, struct item *item)
{
    int first = item->command->first_key;
    if (first <= 0 || first >= item->argc)
        return;
    struct slice key = item->argv[first];
    item->key = (struct call_key){key.data, key_hash(key)};
    item->has_key = true;
    trie_prefetch(db->table.root, item->key.hash);
}

/* What looking the keys up will touch, in steps, each of which needs what the one before has asked
 * for. In between other commands are executed, so that nothing waits for memory. */
static void prefetch_buckets(const struct stage *stage)
{
    for (int i = 0; i < stage->count; i++) {
        if (stage->items[i].has_key)
            table_prefetch_for_change(&stage->db->table, stage->items[i].key.hash);
    }
}

static void prefetch_entries(const struct stage *stage)
{
    for (int i = 0; i < stage->count; i++) {
        const struct entry *e = NULL;
        if (stage->items[i].has_key)
            e = table_prefetch_item(&stage->db->table, stage->items[i].key.hash);
        if (e != NULL)
            __builtin_prefetch((const char *)e + 64);
    }
}

static void note_refused(struct replay *r, const struct item *item)
{
    if (r->errors++ == 0)
        snprintf(r->first_error, sizeof(r->first_error), "'%s' at offset %llu: %s",
                 item->command->full_name, (unsigned long long)item->offset,
                 r->client.reply.last_error);
}

static void execute_stage(struct replay *r, const struct stage *stage)
{
    struct server *s = r->server;
    struct reply *reply = &r->client.reply;
    struct call call = {.ks = s->ks,
                        .db = stage->db,
                        .reply = reply,
                        .replays = true,
                        .client = &r->client,
                        .server = s};
    if (stage->count == 0)
        return;
    r->client.db = stage->db;
    for (int i = 0; i < stage->count; i++) {
        const struct item *item = &stage->items[i];
        call.command = item->command;
        call.argv = item->argv;
        call.argc = item->argc;
        call.now_ms = __builtin_expect(is_relative(item), 0) ? r->now_ms : s->ks->now_ms;
        call.keys = &item->key;
        call.key_count = item->has_key;
        call.key_next = 0;
        call.effect_given = call.effect_group = false;
        uint64_t errors = reply->error_count;
        item->command->handler(&call);
        if (__builtin_expect(reply->error_count != errors, 0))
            note_refused(r, item);
    }
}

/* Takes the next commands, up to a SELECT, which decides where the keys of what follows are. */
static bool prepare(struct replay *r, const struct log_batch *b, size_t *at, size_t count,
                    struct stage *stage, struct error *err)
{
    stage->count = 0;
    stage->db = r->db;
    for (; *at < count && stage->count < STAGE; ++*at) {
        const struct log_command *c = &b->commands[*at];
        if (c->control)
            continue;
        struct item *item = &stage->items[stage->count];
        if (!find_command(b, c, stage->count > 0 ? item - 1 : NULL, item, err))
            return false;
        if (item->command->handler == cmd_select) {
            if (stage->count > 0)
                break;
            if (!select_db(r, item, err))
                return false;
            stage->db = r->db;
            continue;
        }
        /* Whatever else somebody has put there: only what writes has an effect. */
        if (!(item->command->flags & COMMAND_WRITE))
            continue;
        find_key(stage->db, item);
        stage->count++;
    }
    return true;
}

/* Before the log comes its base: what was read until then was that. */
static void note_first(struct replay *r)
{
    r->first_us = clock_monotonic_us();
    r->base_bytes = r->server->persistence->loading.done;
}

static bool execute_range(struct replay *r, const struct log_batch *b, size_t at, size_t count,
                          struct error *err)
{
    static_assert((STAGES & (STAGES - 1)) == 0, "turns are counted modulo 2^32");
    struct stage stages[STAGES] = {0};
    bool ok = true;
    for (unsigned turn = 0, left = STAGES; left > 0; turn++) {
        struct stage *taken = &stages[turn % STAGES];
        const struct stage *with_buckets = &stages[(turn - 1) % STAGES];
        const struct stage *with_entries = &stages[(turn - 2) % STAGES];
        const struct stage *ready = &stages[(turn - 3) % STAGES];
        if (!ok || at == count)
            taken->count = 0;
        else if (!prepare(r, b, &at, count, taken, err))
            ok = false;
        prefetch_buckets(with_buckets);
        prefetch_entries(with_entries);
        execute_stage(r, ready);
        outbuf_clear(r->client.reply.out);
        left = ok && at < count ? STAGES : left - 1;
    }
    return ok;
}

static bool execute(void *ctx, const struct log_batch *b, size_t count, struct error *err)
{
    struct replay *r = ctx;
    if (r->first_us == 0)
        note_first(r);
    r->begun = true;
    bool ok = true;
    for (size_t at = 0, end; ok && at < count; at = end) {
        end = chain_follow_step(&r->follow, b, at, count);
        ok = execute_range(r, b, at, end, err);
    }
    return ok;
}

static void on_file(void *ctx, const char *history, uint64_t lsn)
{
    struct replay *r = ctx;
    chain_follow_file(&r->follow, history, lsn);
}

/* A replica's log goes on in the middle of its primary's stream; a base of commands leaves off in
 * whichever database it ends with. */
static void on_select(void *ctx, int db)
{
    struct replay *r = ctx;
    struct keyspace *ks = r->server->ks;
    r->db = &ks->dbs[db >= 0 && db < ks->db_count ? db : 0];
}

static void on_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct replay *r = ctx;
    loading_tell(r->server, done, size, 0);
    stop_time(r);
}

static bool save_base(void *ctx, const char *path, uint64_t lsn, const char *history,
                      struct error *err)
{
    struct replay *r = ctx;
    struct server *s = r->server;
    struct save_options options;
    go_on_in_time(r);
    persistence_options(s, &options);
    snprintf(options.path, sizeof(options.path), "%s", path);
    options.commands = !s->config->aof_use_rdb_preamble;
    options.version = 0;
    options.at.lsn = lsn;
    snprintf(options.at.history, sizeof(options.at.history), "%s", history);
    options.aux_count = 2;
    snprintf(options.aux[0].name, sizeof(options.aux[0].name), "repl-id");
    snprintf(options.aux[0].value, sizeof(options.aux[0].value), "%s", history);
    snprintf(options.aux[1].name, sizeof(options.aux[1].name), "repl-offset");
    snprintf(options.aux[1].value, sizeof(options.aux[1].value), "%llu", (unsigned long long)lsn);
    replication_put_found(&options, &r->result->lineage, r->result->own);
    saver_clean_temporary(path);
    return saver_save(s->persistence->saver, &options, err);
}

static bool load_snapshot(void *ctx, struct rdb_load_stats *stats, struct error *err)
{
    struct replay *r = ctx;
    go_on_in_time(r);
    bool ok = persistence_load_snapshot(r->server, r->server->ks, stats, err);
    stop_time(r);
    return ok;
}

/* Of the RDB file and the chain behind it. */
static void find_snapshot(const struct chain_tip *tip, struct recovery_snapshot *found)
{
    memcpy(found->log_id, tip->stats.log_id, sizeof(found->log_id));
    found->log_lsn = tip->stats.log_lsn;
    found->log_beyond = tip->stats.log_beyond;
    found->ms = tip->stats.created_ms;
    found->deltas = tip->chain.count > 1 ? tip->chain.count - 1 : 0;
}

static bool prove_snapshot(void *ctx, struct recovery_snapshot *whole, struct error *err)
{
    struct replay *r = ctx;
    struct chain_tip tip;
    chain_prove_tip(&tip, r->server->config->dbfilename);
    find_snapshot(&tip, whole);
    *err = tip.broken;
    chain_free(&tip.chain);
    return err->code == ERROR_NONE;
}

static void make_client(struct replay *r)
{
    struct client *c = &r->client;
    c->server = r->server;
    c->db = r->db = &r->server->ks->dbs[0];
    c->reply.out = &c->discarded;
    c->reply.protocol = 2;
    c->reply.muted = true;
}

/* How fast the base was loaded and the log replayed. */
static void note_speed(struct replay *r, const struct recovery_result *result)
{
    struct server *s = r->server;
    uint64_t size = s->persistence->loading.size;
    int64_t now_us = clock_monotonic_us();
    if (r->first_us == 0) {
        r->first_us = now_us;
        r->base_bytes = size;
    }
    if (result->rdb_keys > 0)
        snapshots_note_load(s, r->base_bytes, result->rdb_keys, r->first_us - r->begun_us);
    if (size > r->base_bytes)
        snapshots_note_replay(s, size - r->base_bytes, now_us - r->first_us);
}

static bool replay_files(struct server *s, struct recovery_result *result, bool again,
                         const struct recovery_until *until, struct error *err)
{
    const struct config *c = s->config;
    struct recovery_options options = {
        .directory = c->appenddirname,
        .filename = c->appendfilename,
        .rdb_path = c->dbfilename,
        .cut_torn = c->aof_load_truncated,
        .damaged_tail_max = (uint64_t)c->aof_load_corrupt_tail_max_size,
        .fall_back = c->recovery_fallback == FALLBACK_SNAPSHOT,
        .only_load = again,
        .may_lack_room = true,
        .now_ms = s->ks->now_ms,
        .new_history = s->run_id,
        .base_of_commands = !c->aof_use_rdb_preamble,
        .execute = execute,
        .select = on_select,
        .file = on_file,
        .progress = on_progress,
        .save_base = save_base,
        .load_snapshot = load_snapshot,
        .prove_snapshot = prove_snapshot,
    };
    loading_options(s, &options.rdb, NULL);
    if (until != NULL)
        options.until = *until;
    else if (c->recover_until[0] != '\0' &&
             !recovery_parse_until(slice_cstr(c->recover_until), &options.until))
        return error_set(
            err, ERROR_INVALID,
            "recover-until: '%s' is no LSN, milliseconds or date (2026-11-21T17:00:00)",
            c->recover_until);
    struct replay *r = mem_zalloc(sizeof(*r));
    options.ctx = r;
    r->server = s;
    r->result = result;
    r->now_ms = s->ks->now_ms;
    r->begun_us = clock_monotonic_us();
    make_client(r);
    chain_follow_init(&r->follow, s->ks, c->dbfilename, c->snapshot_chain_max > 0 && !again);
    find_snapshot(&r->follow.tip, &options.snapshot);
    uint64_t hits = s->ks->hit_count, misses = s->ks->miss_count;
    stop_time(r);
    bool ok = recovery_run(s->ks, &options, result, err);
    go_on_in_time(r);
    if (ok && !again && result->source == RECOVERY_LOG)
        chain_follow_end(&r->follow, s->persistence->chain, c->dbfilename,
                         r->errors > 0 ? "commands of the log were answered by errors" : NULL);
    chain_follow_deinit(&r->follow);
    if (ok)
        note_speed(r, result);
    s->ks->hit_count = hits;
    s->ks->miss_count = misses;
    if (r->begun)
        result->stream_db = r->db->id;
    if (ok && r->errors > 0)
        log_warning("%llu commands of the log were answered by an error (first: %s): they have "
                    "changed nothing",
                    (unsigned long long)r->errors, r->first_error);
    if (ok && result->commands > 0)
        log_notice("Replayed %llu commands in %.3f seconds", (unsigned long long)result->commands,
                   (double)(clock_monotonic_us() - r->begun_us) / 1e6);
    outbuf_clear(&r->client.discarded);
    mem_free(r);
    return ok;
}

bool replay_log(struct server *s, struct recovery_result *result, struct error *err)
{
    return replay_files(s, result, false, NULL, err);
}

bool replay_log_again(struct server *s, struct error *err)
{
    struct recovery_result result;
    bool ok = replay_files(s, &result, true, NULL, err);
    manifest_free(&result.manifest);
    return ok;
}

bool replay_log_until(struct server *s, uint64_t lsn, int *db, struct error *err)
{
    struct recovery_result result;
    const struct recovery_until until = {.kind = UNTIL_LSN, .lsn = lsn};
    bool ok = replay_files(s, &result, true, &until, err);
    *db = result.stream_db;
    manifest_free(&result.manifest);
    if (ok && result.lsn != lsn)
        ok = error_set(err, ERROR_INVALID, "it was replayed up to LSN %llu",
                       (unsigned long long)result.lsn);
    return ok;
}
