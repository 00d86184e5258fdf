/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/info.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/histogram.h"
#include "base/mem.h"
#include "command/table.h"
#include "os/process.h"
#include "server/blocked.h"
#include "server/client.h"
#include "server/config.h"
#include "server/defragment.h"
#include "server/durability.h"
#include "server/life.h"
#include "server/memory_limit.h"
#include "server/migrate.h"
#include "server/persistence.h"
#include "server/replication.h"
#include "server/pubsub.h"
#include "server/scripting.h"
#include "server/tracking.h"

void info_append_human(struct text *out, uint64_t bytes)
{
    static const char units[] = "KMGTPE";
    if (bytes < 1024) {
        text_appendf(out, "%lluB", (unsigned long long)bytes);
        return;
    }
    double v = (double)bytes / 1024;
    int unit = 0;
    while (v >= 1024 && units[unit + 1]) {
        v /= 1024;
        unit++;
    }
    text_appendf(out, "%.2f%c", v, units[unit]);
}

void info_memory_use(struct server *s, struct memory_use *use)
{
    *use = (struct memory_use){.used = mem_used(), .startup = s->startup_memory};
    use->peak = mem_note_peak();
    for (struct client *c = s->clients.first; c; c = c->next)
        use->clients += client_memory(c);
    for (int i = 0; i < s->ks->db_count; i++) {
        const struct table *t = &s->ks->dbs[i].table;
        use->keys += t->count;
        if (t->count)
            use->tables += table_overhead_bytes(t);
    }
    use->overhead = use->startup + use->clients + use->tables;
    if (use->overhead > use->used)
        use->overhead = use->used;
    use->dataset = use->used - use->overhead;
}

static void server_section(struct server *s, struct text *out)
{
    char system[256], program[4096];
    os_system_name(system, sizeof(system));
    os_program_path(program, sizeof(program));
    int64_t uptime = (s->now_us - s->stats.start_us) / 1000000;
    text_appendf(out, "redis_version:%s\r\n", SERVER_REDIS_VERSION);
    text_appendf(out, "holdfast_version:%s\r\n", HF_VERSION);
    text_append_cstr(out, "redis_git_sha1:00000000\r\nredis_git_dirty:0\r\nredis_build_id:0\r\n"
                          "redis_mode:standalone\r\n");
    text_appendf(out, "os:%s\r\narch_bits:%zu\r\n", system, 8 * sizeof(void *));
    text_append_cstr(out, "monotonic_clock:POSIX clock_gettime\r\nmultiplexing_api:epoll\r\n"
                          "atomicvar_api:c11-builtin\r\n");
    text_appendf(out, "gcc_version:%d.%d.%d\r\n", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
    text_appendf(out, "process_id:%d\r\nprocess_supervised:%s\r\nrun_id:%s\r\n", os_process_id(),
                 life_supervisor(), s->run_id);
    text_appendf(out, "tcp_port:%d\r\nserver_time_usec:%lld\r\n",
                 (int)(s->config->port != 0 ? s->config->port : s->config->tls_port),
                 (long long)clock_wall_us());
    text_appendf(out, "uptime_in_seconds:%lld\r\nuptime_in_days:%lld\r\n", (long long)uptime,
                 (long long)(uptime / 86400));
    text_appendf(out, "hz:%lld\r\nconfigured_hz:%lld\r\nlru_clock:%u\r\n", (long long)s->config->hz,
                 (long long)s->config->hz, s->ks->lru_clock);
    text_appendf(out, "availability_zone:%s\r\n", s->config->availability_zone);
    text_appendf(out, "executable:%s\r\nconfig_file:%s\r\nio_threads_active:0\r\n", program,
                 s->config->file ? s->config->file : "");
    shutdown_info(s, out);
}

static void clients_section(struct server *s, struct text *out)
{
    size_t input = 0, output = 0;
    for (struct client *c = s->clients.first; c; c = c->next) {
        size_t in = connection_input_memory(&c->io);
        input = in > input ? in : input;
        output = c->io.out.allocated > output ? c->io.out.allocated : output;
    }
    text_appendf(out, "connected_clients:%zu\r\ncluster_connections:0\r\nmaxclients:%llu\r\n",
                 s->clients.count, (unsigned long long)s->limits.maxclients);
    text_appendf(out, "client_recent_max_input_buffer:%zu\r\n", input);
    text_appendf(out, "client_recent_max_output_buffer:%zu\r\n", output);
    struct blocked_counts blocked = blocked_count(s->blocked);
    struct tracking_counts tracking;
    tracking_count(s, &tracking);
    text_appendf(out,
                 "blocked_clients:%zu\r\ntracking_clients:%zu\r\nclients_in_timeout_table:%zu\r\n"
                 "total_blocking_keys:%zu\r\ntotal_blocking_keys_on_nokey:%zu\r\n",
                 s->clients.blocked_count, tracking.clients, blocked.with_timeout, blocked.keys,
                 blocked.keys_gone);
}

static void both(struct text *out, const char *name, uint64_t bytes)
{
    text_appendf(out, "%s:%llu\r\n%s_human:", name, (unsigned long long)bytes, name);
    info_append_human(out, bytes);
    text_append_cstr(out, "\r\n");
}

static double ratio(size_t a, size_t b)
{
    return b ? (double)a / (double)b : 0;
}

/* A ratio and the difference in bytes, as INFO gives them in pairs. */
static void overhead(struct text *out, const char *ratio_name, const char *bytes_name, size_t big,
                     size_t small)
{
    text_appendf(out, "%s:%.2f\r\n%s:%lld\r\n", ratio_name, ratio(big, small), bytes_name,
                 (long long)big - (long long)small);
}

static void memory_section(struct server *s, struct text *out)
{
    struct memory_use use;
    struct mem_stats stats;
    info_memory_use(s, &use);
    mem_get_stats(&stats);
    size_t rss = mem_rss();
    both(out, "used_memory", use.used);
    both(out, "used_memory_rss", rss);
    both(out, "used_memory_peak", use.peak);
    text_appendf(out, "used_memory_peak_perc:%.2f%%\r\n", 100 * ratio(use.used, use.peak));
    text_appendf(out, "used_memory_overhead:%zu\r\nused_memory_startup:%zu\r\n", use.overhead,
                 use.startup);
    size_t net = use.used > use.startup ? use.used - use.startup : 0;
    text_appendf(out, "used_memory_dataset:%zu\r\nused_memory_dataset_perc:%.2f%%\r\n", use.dataset,
                 100 * ratio(use.dataset, net));
    text_appendf(out,
                 "allocator_allocated:%zu\r\nallocator_active:%zu\r\nallocator_resident:%zu\r\n",
                 stats.allocated, stats.active, stats.resident);
    both(out, "total_system_memory", os_total_memory());
    struct scripting_memory scripts;
    scripting_memory(s->scripting, &scripts);
    both(out, "used_memory_lua", scripts.eval_vm);
    text_appendf(out,
                 "used_memory_vm_eval:%zu\r\nused_memory_scripts_eval:%zu\r\n"
                 "number_of_cached_scripts:%zu\r\nnumber_of_functions:%zu\r\n"
                 "number_of_libraries:%zu\r\nused_memory_vm_functions:%zu\r\n",
                 scripts.eval_vm, scripts.scripts, scripts.script_count, scripts.function_count,
                 scripts.library_count, scripts.functions_vm);
    both(out, "used_memory_vm_total", scripts.eval_vm + scripts.functions_vm);
    text_appendf(out, "used_memory_functions:%zu\r\n", scripts.functions);
    both(out, "used_memory_scripts", scripts.scripts + scripts.functions);
    both(out, "maxmemory", (uint64_t)s->config->maxmemory);
    struct text policy = {0};
    config_get_value(s->config, SLICE("maxmemory-policy"), &policy);
    text_appendf(out, "maxmemory_policy:%s\r\n", text_cstr(&policy));
    text_free(&policy);
    overhead(out, "allocator_frag_ratio", "allocator_frag_bytes", stats.active, stats.allocated);
    overhead(out, "allocator_rss_ratio", "allocator_rss_bytes", stats.resident, stats.active);
    overhead(out, "rss_overhead_ratio", "rss_overhead_bytes", rss, stats.resident);
    overhead(out, "mem_fragmentation_ratio", "mem_fragmentation_bytes", rss, use.used);
    text_appendf(out, "mem_not_counted_for_evict:%zu\r\n", memory_limit_not_counted(s));
    text_append_cstr(out, "mem_replication_backlog:0\r\n"
                          "mem_total_replication_buffers:0\r\nmem_clients_slaves:0\r\n");
    text_appendf(out, "mem_clients_normal:%zu\r\nmem_cluster_links:0\r\nmem_aof_buffer:0\r\n",
                 use.clients);
    struct defragment_report defragment;
    defragment_get_report(s->defragment, &defragment);
    text_appendf(out, "mem_allocator:%s\r\nactive_defrag_running:%d\r\n", mem_allocator_name(),
                 defragment.percent);
    text_appendf(out, "lazyfree_pending_objects:%zu\r\nlazyfreed_objects:0\r\n",
                 epoch_pending_count(&s->ks->epoch));
}

static void loading_fields(const struct server *s, struct text *out)
{
    const struct loading *l = &s->persistence->loading;
    double share = l->size ? (double)l->done / (double)l->size : 0;
    text_appendf(out, "loading_start_time:%lld\r\n", (long long)l->start_s);
    text_appendf(out, "loading_total_bytes:%llu\r\nloading_rdb_used_mem:0\r\n",
                 (unsigned long long)l->size);
    text_appendf(out, "loading_loaded_bytes:%llu\r\nloading_loaded_perc:%.2f\r\n",
                 (unsigned long long)l->done, 100 * share);
    text_appendf(out, "loading_eta_seconds:%lld\r\nloading_loaded_keys:%llu\r\n",
                 (long long)loading_eta_s(l), (unsigned long long)l->keys);
}

/* Of a job that runs, under names that begin so. */
static void progress_fields(const char *name, const char *phase, const struct save_progress *sp,
                            struct text *out)
{
    uint64_t keys_left = sp->keys_total > sp->keys_done ? sp->keys_total - sp->keys_done : 0;
    uint64_t bytes_left =
        sp->bytes_estimated > sp->bytes_done ? sp->bytes_estimated - sp->bytes_done : 0;
    text_appendf(out, "%s_phase:%s\r\n", name, phase);
    text_appendf(out, "%s_keys_done:%llu\r\n%s_keys_left:%llu\r\n", name,
                 (unsigned long long)sp->keys_done, name, (unsigned long long)keys_left);
    text_appendf(out, "%s_bytes_done:%llu\r\n%s_bytes_left:%llu\r\n", name,
                 (unsigned long long)sp->bytes_done, name, (unsigned long long)bytes_left);
    text_appendf(out, "%s_eta_ms:%lld\r\n%s_held_bytes:%zu\r\n", name, (long long)sp->eta_ms,
                 name, sp->held_bytes);
}

/* The base of the log that is being written, if one is. */
static const struct save_job *base_job(const struct server *s)
{
    return s->durability->generation.running ? s->durability->generation.job : NULL;
}

/* Of the others that read a frozen version, but not for dump.rdb: while they run only. */
static void other_progress(const struct server *s, struct text *out)
{
    struct save_progress sp;
    const struct replication *all = s->replication;
    if (base_job(s) != NULL) {
        save_job_progress(base_job(s), &sp);
        progress_fields("aof_rewrite_current", sp.verifying ? "verify" : "write", &sp, out);
    }
    if (all->save != NULL) {
        save_job_progress(all->save, &sp);
        progress_fields("full_sync_current", sp.verifying ? "verify" : "write", &sp, out);
    } else if (all->feed != NULL) {
        feed_progress(all->feed, &sp);
        progress_fields("full_sync_current", "send", &sp, out);
    }
}

/* Of that which Redis' fields tell: one at most runs there at a time. */
static void main_progress(const struct server *s, const struct saver_status *saver,
                          const struct chain_keeper_status *chain, bool incremental,
                          struct save_progress *sp)
{
    *sp = saver->running ? saver->progress : chain->progress;
    if (saver->running || incremental)
        return;
    if (base_job(s) != NULL)
        save_job_progress(base_job(s), sp);
    else if (s->replication->save != NULL)
        save_job_progress(s->replication->save, sp);
    else if (s->replication->feed != NULL)
        feed_progress(s->replication->feed, sp);
}

/* What Redis does not tell: how the running save gets on, and what the last one came to. */
static void snapshot_fields(const struct persistence *p, const struct saver_status *st,
                            const struct chain_keeper_status *chain, bool incremental,
                            struct text *out)
{
    bool running = st->running || incremental;
    const struct save_progress *sp = st->running ? &st->progress : &chain->progress;
    const struct save_result *last = &st->last;
    progress_fields("snapshot_current", !running ? "none" : sp->verifying ? "verify" : "write", sp,
                    out);
    text_appendf(out, "snapshot_current_kind:%s\r\n",
                 !running ? "none" : st->running ? "full" : "incremental");
    text_appendf(out, "snapshot_last_error:%s\r\n",
                 p->incremental_error[0] != '\0' ? p->incremental_error : st->last_error);
    text_appendf(out, "snapshot_last_keys:%llu\r\nsnapshot_last_file_size:%llu\r\n",
                 (unsigned long long)last->keys, (unsigned long long)last->file_size);
    text_appendf(out, "snapshot_last_data_size:%llu\r\nsnapshot_last_overhead_size:%lld\r\n",
                 (unsigned long long)last->data_size,
                 (long long)last->file_size - (long long)last->data_size);
    text_appendf(out, "snapshot_last_write_ms:%lld\r\nsnapshot_last_sync_ms:%lld\r\n",
                 (long long)last->serialise_us / 1000, (long long)last->sync_us / 1000);
    text_appendf(out, "snapshot_last_verify_ms:%lld\r\nsnapshot_last_total_ms:%lld\r\n",
                 (long long)last->verify_us / 1000, (long long)last->total_us / 1000);
    text_appendf(out, "snapshot_last_held_bytes_most:%zu\r\nsnapshot_last_sha256:%s\r\n",
                 last->held_bytes_most, last->sha256);
    text_appendf(out, "snapshot_last_verified_time:%lld\r\n", (long long)st->last_verified_s);
}

/* The chain of full and incremental snapshots. */
static void chain_fields(const struct chain_keeper *k, const struct chain_keeper_status *st,
                         struct text *out)
{
    uint64_t bytes = 0;
    for (size_t i = 1; i < st->chain->count; i++)
        bytes += st->chain->links[i].size;
    const char *cannot = chain_keeper_cannot(k);
    text_appendf(out, "chain_links:%zu\r\nchain_incremental_bytes:%llu\r\n", st->chain->count,
                 (unsigned long long)bytes);
    text_appendf(out, "chain_next_is_full_as:%s\r\n", cannot ? cannot : "");
    text_appendf(out, "chain_incremental_in_progress:%d\r\nchain_incrementals_taken:%llu\r\n",
                 chain_keeper_incremental(k), (unsigned long long)st->taken);
    text_appendf(out, "chain_last_incremental_status:%s\r\nchain_last_incremental_error:%s\r\n",
                 st->last_ok ? "ok" : "err", st->last_error);
    text_appendf(out, "chain_last_incremental_keys:%llu\r\nchain_last_incremental_deleted:%llu\r\n",
                 (unsigned long long)st->last.keys, (unsigned long long)st->last.deleted);
    text_appendf(out, "chain_last_incremental_size:%llu\r\nchain_last_incremental_us:%lld\r\n",
                 (unsigned long long)st->last.size, (long long)st->last_duration_us);
    text_appendf(out, "chain_last_incremental_held_bytes_most:%zu\r\n",
                 st->last_result.held_bytes_most);
    text_appendf(out, "chain_verify_in_progress:%d\r\nchain_last_verified_time:%lld\r\n",
                 st->verifying, (long long)st->verified_ms / 1000);
    text_appendf(out, "chain_verified_links:%zu\r\nchain_verify_error:%s\r\n", st->verified_links,
                 st->verify_error);
}

/* How long the background save of either kind has been running; -1: there is none. */
static int64_t seconds_running(const struct persistence *p, const struct saver_status *st)
{
    if (st->running)
        return p->server->ks->now_ms / 1000 - st->started_s;
    const struct snapshot_run *run = &p->snapshots.runs[SNAPSHOT_INCREMENTAL];
    return run->running ? (clock_monotonic_us() - run->begun_us) / 1000000 : -1;
}

static void persistence_section(struct server *s, struct text *out)
{
    const struct persistence *p = s->persistence;
    struct saver_status st;
    struct chain_keeper_status chain;
    saver_get_status(p->saver, &st);
    chain_keeper_get_status(p->chain, &chain);
    bool incremental = chain_keeper_incremental(p->chain);
    struct save_progress current, *sp = &current;
    main_progress(s, &st, &chain, incremental, sp);
    double percent = sp->keys_total ? 100 * (double)sp->keys_done / (double)sp->keys_total : 0;
    bool beside = s->loading_beside == BESIDE_READ;
    text_appendf(out, "loading:%d\r\nasync_loading:%d\r\n",
                 s->loading || s->loading_beside == BESIDE_HIDDEN, beside);
    text_appendf(out, "current_cow_peak:%zu\r\ncurrent_cow_size:%zu\r\ncurrent_cow_size_age:0\r\n",
                 sp->held_bytes, sp->held_bytes);
    text_appendf(out, "current_fork_perc:%.2f\r\n", percent);
    text_appendf(out, "current_save_keys_processed:%llu\r\ncurrent_save_keys_total:%llu\r\n",
                 (unsigned long long)sp->keys_done, (unsigned long long)sp->keys_total);
    text_appendf(out, "rdb_changes_since_last_save:%llu\r\nrdb_bgsave_in_progress:%d\r\n",
                 (unsigned long long)s->ks->dirty,
                 st.running || incremental);
    text_appendf(out, "rdb_last_save_time:%lld\r\nrdb_last_bgsave_status:%s\r\n",
                 (long long)st.last_save_s,
                 st.last_ok && p->incremental_error[0] == '\0' ? "ok" : "err");
    text_appendf(out, "rdb_last_bgsave_time_sec:%lld\r\nrdb_current_bgsave_time_sec:%lld\r\n",
                 (long long)st.last_duration_s,
                 (long long)seconds_running(p, &st));
    text_appendf(out, "rdb_saves:%llu\r\nrdb_last_cow_size:%zu\r\n", (unsigned long long)st.saves,
                 st.last_held_bytes);
    text_appendf(out, "rdb_last_load_keys_expired:%llu\r\nrdb_last_load_keys_loaded:%llu\r\n",
                 (unsigned long long)p->loaded_expired, (unsigned long long)p->loaded_keys);
    durability_info(s, out);
    snapshot_fields(p, &st, &chain, incremental, out);
    other_progress(s, out);
    chain_fields(p->chain, &chain, out);
    snapshots_info(s, out);
    if (s->loading || s->loading_beside != BESIDE_NONE)
        loading_fields(s, out);
}

static void number(struct text *out, const char *name, uint64_t v)
{
    text_appendf(out, "%s:%llu\r\n", name, (unsigned long long)v);
}

/* Times are milliseconds, as Redis has them; what it does not have are the last three. */
static void defragment_fields(const struct server *s, struct text *out)
{
    struct defragment_report r;
    defragment_get_report(s->defragment, &r);
    number(out, "active_defrag_hits", r.stats.blocks.moved);
    number(out, "active_defrag_misses", r.stats.blocks.stayed);
    number(out, "active_defrag_key_hits", r.stats.keys_moved);
    number(out, "active_defrag_key_misses", r.stats.keys_stayed);
    number(out, "total_active_defrag_time", (uint64_t)r.total_us / 1000);
    number(out, "current_active_defrag_time", (uint64_t)r.current_us / 1000);
    number(out, "active_defrag_passes", r.passes);
    number(out, "active_defrag_executor_usec", (uint64_t)r.executor_us);
    number(out, "active_defrag_slowest_slice_usec", (uint64_t)r.slowest_slice_us);
}

static void stats_section(struct server *s, struct text *out)
{
    const struct server_stats *st = &s->stats;
    number(out, "total_connections_received", st->connections_received);
    number(out, "total_commands_processed", st->commands_processed);
    number(out, "instantaneous_ops_per_sec", server_commands_per_second(s));
    number(out, "total_net_input_bytes", st->input_bytes);
    number(out, "total_net_output_bytes", st->output_bytes);
    text_append_cstr(out, "total_net_repl_input_bytes:0\r\ntotal_net_repl_output_bytes:0\r\n");
    text_appendf(out, "instantaneous_input_kbps:%.2f\r\ninstantaneous_output_kbps:%.2f\r\n",
                 (double)server_input_per_second(s) / 1024,
                 (double)server_output_per_second(s) / 1024);
    text_append_cstr(out, "instantaneous_input_repl_kbps:0.00\r\n"
                          "instantaneous_output_repl_kbps:0.00\r\n");
    number(out, "rejected_connections", st->connections_rejected);
    number(out, "sync_full", s->replication->sync_full);
    number(out, "sync_partial_ok", s->replication->sync_partial_ok);
    number(out, "sync_partial_err", s->replication->sync_partial_err);
    number(out, "expired_subkeys", s->ks->expired_fields);
    number(out, "expired_keys", s->ks->expired_count);
    text_append_cstr(out, "expired_stale_perc:0.00\r\nexpired_time_cap_reached_count:0\r\n"
                          "expire_cycle_cpu_milliseconds:0\r\ntotal_eviction_exceeded_time:0\r\n"
                          "current_eviction_exceeded_time:0\r\n");
    number(out, "evicted_keys", s->stats.evicted_keys);
    number(out, "evicted_clients", s->stats.evicted_clients);
    number(out, "keyspace_hits", s->ks->hit_count);
    number(out, "keyspace_misses", s->ks->miss_count);
    number(out, "pubsub_channels", pubsub_topics(s->pubsub, TOPIC_CHANNEL));
    number(out, "pubsub_patterns", pubsub_topics(s->pubsub, TOPIC_PATTERN));
    number(out, "pubsubshard_channels", pubsub_topics(s->pubsub, TOPIC_SHARD));
    text_append_cstr(out, "latest_fork_usec:0\r\ntotal_forks:0\r\n");
    number(out, "migrate_cached_sockets", migrate_cache_count(s->migrate));
    text_append_cstr(out, "slave_expires_tracked_keys:0\r\n");
    defragment_fields(s, out);
    struct tracking_counts tracking;
    tracking_count(s, &tracking);
    number(out, "tracking_total_keys", tracking.keys);
    number(out, "tracking_total_items", tracking.items);
    number(out, "tracking_total_prefixes", tracking.prefixes);
    text_append_cstr(out, "unexpected_error_replies:0\r\n");
    number(out, "total_error_replies", st->error_replies);
    text_append_cstr(out, "dump_payload_sanitizations:0\r\n");
    number(out, "total_reads_processed", st->reads);
    number(out, "total_writes_processed", st->writes);
    text_append_cstr(out, "io_threaded_reads_processed:0\r\nio_threaded_writes_processed:0\r\n"
                          "reply_buffer_shrinks:0\r\nreply_buffer_expands:0\r\n");
}

static void replication_section(struct server *s, struct text *out)
{
    replication_info(s, out);
}

static void cpu_section(struct server *s, struct text *out)
{
    (void)s;
    struct os_cpu_times t;
    os_cpu_times(&t);
    text_appendf(out, "used_cpu_sys:%.6f\r\nused_cpu_user:%.6f\r\n", t.system, t.user);
    text_appendf(out, "used_cpu_sys_children:%.6f\r\nused_cpu_user_children:%.6f\r\n",
                 t.system_children, t.user_children);
    text_appendf(out, "used_cpu_sys_main_thread:%.6f\r\nused_cpu_user_main_thread:%.6f\r\n",
                 t.system_thread, t.user_thread);
}

static void modules_section(struct server *s, struct text *out)
{
    (void)s;
    (void)out;
}

static void one_command(struct server *s, const struct command *cmd, struct text *out)
{
    const struct command_stats *st = &s->stats.commands[cmd->id];
    if (st->calls || st->rejected || st->failed) {
        uint64_t us = server_cycles_us(s, st->cycles);
        text_appendf(out,
                     "cmdstat_%s:calls=%llu,usec=%llu,usec_per_call=%.2f,rejected_calls=%llu,"
                     "failed_calls=%llu\r\n",
                     cmd->full_name, (unsigned long long)st->calls, (unsigned long long)us,
                     st->calls ? (double)us / (double)st->calls : 0.0,
                     (unsigned long long)st->rejected, (unsigned long long)st->failed);
    }
    for (int i = 0; i < cmd->subcommand_count; i++)
        one_command(s, &cmd->subcommands[i], out);
}

static void commandstats_section(struct server *s, struct text *out)
{
    for (int i = 0; command_at(i); i++)
        one_command(s, command_at(i), out);
}

static void errorstats_section(struct server *s, struct text *out)
{
    for (size_t i = 0; i < s->stats.error_count; i++)
        text_appendf(out, "errorstat_%s:count=%llu\r\n", s->stats.errors[i].code,
                     (unsigned long long)s->stats.errors[i].count);
}

static void one_latency(struct server *s, const struct command *cmd, struct text *out)
{
    const struct histogram *h = s->stats.commands[cmd->id].latency;
    if (h) {
        text_appendf(out, "latency_percentiles_usec_%s:", cmd->full_name);
        for (int i = 0; i < s->config->percentile_count; i++) {
            double percent = s->config->percentiles[i];
            uint64_t cycles = histogram_percentile(h, percent);
            /* Scaled up, as the conversion gives whole microseconds. */
            text_appendf(out, "%sp%.10g=%.3f", i ? "," : "", percent,
                         (double)server_cycles_us(s, cycles * 1000) / 1000);
        }
        text_append_cstr(out, "\r\n");
    }
    for (int i = 0; i < cmd->subcommand_count; i++)
        one_latency(s, &cmd->subcommands[i], out);
}

static void latencystats_section(struct server *s, struct text *out)
{
    for (int i = 0; s->config->latency_tracking && command_at(i); i++)
        one_latency(s, command_at(i), out);
}

static void cluster_section(struct server *s, struct text *out)
{
    (void)s;
    text_append_cstr(out, "cluster_enabled:0\r\n");
}

/* The mean time to live of a sample of keys: looking at all would take too long. */
static int64_t average_ttl(struct server *s, const struct db *db)
{
    enum { SAMPLE = 64, ROUNDS = 4 };
    void *items[SAMPLE];
    int64_t sum = 0, count = 0;
    if (db->expires == 0)
        return 0;
    for (int round = 0; round < ROUNDS; round++) {
        size_t n = table_sample(&db->table, keyspace_random(s->ks), items, SAMPLE);
        for (size_t i = 0; i < n; i++) {
            const struct entry *e = items[i];
            if (!(e->flags & ENTRY_EXPIRES) || entry_due(e) < s->ks->now_ms)
                continue;
            int64_t left = entry_due(e) - s->ks->now_ms;
            sum += left / (SAMPLE * ROUNDS); /* no overflow, whatever the times are */
            count++;
        }
    }
    return count ? (int64_t)((double)sum * (SAMPLE * ROUNDS) / (double)count) : 0;
}

static void keyspace_section(struct server *s, struct text *out)
{
    for (int i = 0; i < s->ks->db_count; i++) {
        const struct db *db = &s->ks->dbs[i];
        if (db->table.count)
            text_appendf(out, "db%d:keys=%llu,expires=%llu,avg_ttl=%lld,subexpiry=%llu\r\n", i,
                         (unsigned long long)db->table.count, (unsigned long long)db->expires,
                         (long long)average_ttl(s, db), (unsigned long long)db->timed);
    }
}

/* "512", "1K", "2K", ...: the least size that is in the bin. */
static void append_size(struct text *out, unsigned bin)
{
    static const char units[] = {'\0', 'K', 'M', 'G', 'T'};
    unsigned power = bin == 0 ? 0 : bin - 1;
    text_appendf(out, "%u", bin == 0 ? 0 : 1U << power % 10);
    if (power >= 10)
        text_appendf(out, "%c", units[power / 10]);
}

static void keysizes_section(struct server *s, struct text *out)
{
    static const struct {
        enum entry_type type;
        const char *name;
    } kinds[] = {{ENTRY_STRING, "strings_sizes"}, {ENTRY_LIST, "lists_items"},
                 {ENTRY_SET, "sets_items"},       {ENTRY_ZSET, "zsets_items"},
                 {ENTRY_HASH, "hashes_items"},    {ENTRY_STREAM, "streams_items"}};
    for (int i = 0; i < s->ks->db_count; i++) {
        if (s->ks->dbs[i].table.count == 0)
            continue;
        const struct keysizes *sizes = db_keysizes(&s->ks->dbs[i]);
        for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
            const uint64_t *counts = sizes->counts[kinds[k].type];
            bool first = true;
            for (unsigned bin = 0; bin < KEYSIZES_BINS; bin++) {
                if (counts[bin] == 0)
                    continue;
                if (first)
                    text_appendf(out, "db%d_distrib_%s:", i, kinds[k].name);
                else
                    text_append_cstr(out, ",");
                append_size(out, bin);
                text_appendf(out, "=%llu", (unsigned long long)counts[bin]);
                first = false;
            }
            if (!first)
                text_append_cstr(out, "\r\n");
        }
    }
}

enum section_class { SECTION_DEFAULT, SECTION_ALL };

static const struct section {
    const char *name; /* as it is asked for */
    const char *title;
    enum section_class class;
    void (*append)(struct server *s, struct text *out);
} sections[] = {
    {"server", "Server", SECTION_DEFAULT, server_section},
    {"clients", "Clients", SECTION_DEFAULT, clients_section},
    {"memory", "Memory", SECTION_DEFAULT, memory_section},
    {"persistence", "Persistence", SECTION_DEFAULT, persistence_section},
    {"stats", "Stats", SECTION_DEFAULT, stats_section},
    {"replication", "Replication", SECTION_DEFAULT, replication_section},
    {"cpu", "CPU", SECTION_DEFAULT, cpu_section},
    {"modules", "Modules", SECTION_DEFAULT, modules_section},
    {"commandstats", "Commandstats", SECTION_ALL, commandstats_section},
    {"errorstats", "Errorstats", SECTION_DEFAULT, errorstats_section},
    {"latencystats", "Latencystats", SECTION_ALL, latencystats_section},
    {"cluster", "Cluster", SECTION_DEFAULT, cluster_section},
    {"keyspace", "Keyspace", SECTION_DEFAULT, keyspace_section},
    {"keysizes", "Keysizes", SECTION_DEFAULT, keysizes_section},
};

static bool is_wanted(const struct section *section, const struct slice *names, int count)
{
    if (count == 0)
        return section->class == SECTION_DEFAULT;
    for (int i = 0; i < count; i++) {
        if (slice_is(names[i], section->name) || slice_is(names[i], "everything") ||
            slice_is(names[i], "all") ||
            (slice_is(names[i], "default") && section->class == SECTION_DEFAULT))
            return true;
    }
    return false;
}

void info_append(struct server *s, const struct slice *names, int count, struct text *out)
{
    bool first = true;
    for (size_t i = 0; i < sizeof(sections) / sizeof(sections[0]); i++) {
        if (!is_wanted(&sections[i], names, count))
            continue;
        text_appendf(out, "%s# %s\r\n", first ? "" : "\r\n", sections[i].title);
        sections[i].append(s, out);
        first = false;
    }
}
