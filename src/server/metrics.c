/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/metrics.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/exposition.h"
#include "base/histogram.h"
#include "base/mem.h"
#include "command/table.h"
#include "os/process.h"
#include "persist/log/stream.h"
#include "server/blocked.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/info.h"
#include "server/persistence.h"
#include "server/pubsub.h"
#include "server/quorum.h"
#include "server/replication.h"

static const struct {
    double percent;
    const char *label;
} quantiles[] = {{50, "0.5"}, {90, "0.9"}, {99, "0.99"}, {99.9, "0.999"}};
#define QUANTILE_COUNT (sizeof(quantiles) / sizeof(quantiles[0]))

static void process_metrics(struct server *s, struct text *out)
{
    const char *const build[] = {"version", HF_VERSION, "redis_version", SERVER_REDIS_VERSION,
                                 "allocator", mem_allocator_name(), NULL};
    exposition_begin(out, "holdfast_build_info", "gauge", "1; the labels tell what is running.");
    exposition_value(out, "holdfast_build_info", "", build, 1);
    exposition_gauge(out, "holdfast_uptime_seconds", "Since the start.",
                     (double)(clock_monotonic_us() - s->stats.start_us) / 1e6);
    exposition_gauge(out, "holdfast_start_time_seconds", "When it was started, since 1970.",
                     (double)s->stats.start_ms / 1e3);
    struct os_cpu_times cpu;
    os_cpu_times(&cpu);
    const char *const user[] = {"mode", "user", NULL}, *const system[] = {"mode", "system", NULL};
    exposition_begin(out, "holdfast_cpu_seconds_total", "counter",
                     "Processor time, of all threads.");
    exposition_value(out, "holdfast_cpu_seconds_total", "", user, cpu.user);
    exposition_value(out, "holdfast_cpu_seconds_total", "", system, cpu.system);
}

static void client_metrics(struct server *s, struct text *out)
{
    exposition_gauge(out, "holdfast_connected_clients", "Clients that are connected.",
                     (double)s->clients.count);
    exposition_gauge(out, "holdfast_blocked_clients", "Clients that wait in a blocking command.",
                     (double)s->clients.blocked_count);
    exposition_gauge(out, "holdfast_max_clients", "As many are let in.",
                     (double)s->limits.maxclients);
    exposition_counter(out, "holdfast_connections_received_total", "Connections accepted.",
                       s->stats.connections_received);
    exposition_counter(out, "holdfast_connections_rejected_total",
                       "Connections refused, as there were maxclients.",
                       s->stats.connections_rejected);
    exposition_counter(out, "holdfast_evicted_clients_total",
                       "Clients closed for maxmemory-clients.", s->stats.evicted_clients);
    exposition_counter(out, "holdfast_output_limit_closed_total",
                       "Clients closed for their output buffer's limit.",
                       s->stats.output_buffer_closed);
    exposition_counter(out, "holdfast_network_input_bytes_total", "Received from clients.",
                       s->stats.input_bytes);
    exposition_counter(out, "holdfast_network_output_bytes_total", "Sent to clients.",
                       s->stats.output_bytes);
    exposition_gauge(out, "holdfast_pubsub_channels", "Channels that somebody is subscribed to.",
                     (double)pubsub_topics(s->pubsub, TOPIC_CHANNEL));
}

static void memory_metrics(struct server *s, struct text *out)
{
    struct memory_use use;
    info_memory_use(s, &use);
    exposition_gauge(out, "holdfast_memory_used_bytes", "What the allocator has handed out.",
                     (double)use.used);
    exposition_gauge(out, "holdfast_memory_peak_bytes", "The most it ever was.", (double)use.peak);
    exposition_gauge(out, "holdfast_memory_rss_bytes", "Of the machine's memory, resident.",
                     (double)mem_rss());
    exposition_gauge(out, "holdfast_memory_dataset_bytes", "Keys and values.", (double)use.dataset);
    exposition_gauge(out, "holdfast_memory_clients_bytes", "Buffers of clients.",
                     (double)use.clients);
    exposition_gauge(out, "holdfast_memory_max_bytes", "maxmemory; 0: there is no limit.",
                     (double)s->config->maxmemory);
}

/* What INFO keysizes has. */
static void keysizes_metrics(struct server *s, struct text *out)
{
    const char *name = "holdfast_db_keys_by_size";
    char id[16], least[24];
    exposition_begin(
        out, name, "gauge",
        "Keys of each type by size (bytes of strings, else elements), which is at least "
        "that of the label and less than twice as much.");
    for (int i = 0; i < s->ks->db_count; i++) {
        if (s->ks->dbs[i].table.count == 0)
            continue;
        snprintf(id, sizeof(id), "%d", i);
        const struct keysizes *sizes = db_keysizes(&s->ks->dbs[i]);
        for (int type = 0; type < ENTRY_TYPE_COUNT; type++) {
            for (unsigned bin = 0; bin < KEYSIZES_BINS; bin++) {
                uint64_t count = sizes->counts[type][bin];
                if (count == 0)
                    continue;
                snprintf(least, sizeof(least), "%llu", bin ? 1ULL << (bin - 1) : 0);
                const char *const labels[] = {
                    "db", id, "type", entry_type_name((enum entry_type)type), "size", least, NULL};
                exposition_count(out, name, "", labels, count);
            }
        }
    }
}

static void keyspace_metrics(struct server *s, struct text *out)
{
    char id[16];
    const char *const label[] = {"db", id, NULL};
    exposition_begin(out, "holdfast_db_keys", "gauge", "Keys in each database that has some.");
    for (int i = 0; i < s->ks->db_count; i++) {
        snprintf(id, sizeof(id), "%d", i);
        if (i == 0 || s->ks->dbs[i].table.count > 0)
            exposition_count(out, "holdfast_db_keys", "", label, s->ks->dbs[i].table.count);
    }
    exposition_begin(out, "holdfast_db_expiring_keys", "gauge", "Those that have a time to live.");
    for (int i = 0; i < s->ks->db_count; i++) {
        snprintf(id, sizeof(id), "%d", i);
        if (i == 0 || s->ks->dbs[i].table.count > 0)
            exposition_count(out, "holdfast_db_expiring_keys", "", label, s->ks->dbs[i].expires);
    }
    keysizes_metrics(s, out);
    exposition_counter(out, "holdfast_expired_keys_total", "Keys removed as their time had come.",
                       s->ks->expired_count);
    exposition_counter(out, "holdfast_expired_fields_total",
                       "Fields of hashes removed as their time had come.", s->ks->expired_fields);
    exposition_counter(out, "holdfast_evicted_keys_total", "Keys removed for maxmemory.",
                       s->stats.evicted_keys);
    exposition_counter(out, "holdfast_keyspace_hits_total", "Reads that found their key.",
                       s->ks->hit_count);
    exposition_counter(out, "holdfast_keyspace_misses_total", "Reads that did not.",
                       s->ks->miss_count);
}

/* One metric of commands: for all that were called or refused. */
struct command_metric {
    const char *name;
    struct server *server;
    struct text *out;
    void (*append)(const struct command_metric *m, const struct command *command,
                   const struct command_stats *stats);
};

static void each_command(const struct command_metric *m, const struct command *command)
{
    const struct command_stats *stats = &m->server->stats.commands[command->id];
    if (stats->calls + stats->rejected + stats->failed > 0)
        m->append(m, command, stats);
    for (int i = 0; i < command->subcommand_count; i++)
        each_command(m, &command->subcommands[i]);
}

static void all_commands(struct server *s, struct text *out, const char *name, const char *type,
                         const char *help,
                         void (*append)(const struct command_metric *m,
                                        const struct command *command,
                                        const struct command_stats *stats))
{
    const struct command_metric m = {name, s, out, append};
    exposition_begin(out, name, type, help);
    for (int i = 0; command_at(i) != NULL; i++)
        each_command(&m, command_at(i));
}

static void command_count_of(const struct command_metric *m, const struct command *command,
                             uint64_t count)
{
    const char *const label[] = {"command", command->full_name, NULL};
    exposition_count(m->out, m->name, "", label, count);
}

static void append_calls(const struct command_metric *m, const struct command *command,
                         const struct command_stats *stats)
{
    command_count_of(m, command, stats->calls);
}

static void append_rejected(const struct command_metric *m, const struct command *command,
                            const struct command_stats *stats)
{
    command_count_of(m, command, stats->rejected);
}

static void append_failed(const struct command_metric *m, const struct command *command,
                          const struct command_stats *stats)
{
    command_count_of(m, command, stats->failed);
}

static double cycles_seconds(const struct server *s, uint64_t cycles)
{
    /* Scaled up, as the conversion gives whole microseconds. */
    return (double)server_cycles_us(s, cycles * 1000) / 1e9;
}

static void append_seconds(const struct command_metric *m, const struct command *command,
                           const struct command_stats *stats)
{
    const char *const label[] = {"command", command->full_name, NULL};
    exposition_value(m->out, m->name, "", label,
                     (double)server_cycles_us(m->server, stats->cycles) / 1e6);
}

static void append_latency(const struct command_metric *m, const struct command *command,
                           const struct command_stats *stats)
{
    if (stats->latency == NULL)
        return;
    for (size_t i = 0; i < QUANTILE_COUNT; i++) {
        const char *const labels[] = {"command", command->full_name, "quantile", quantiles[i].label,
                                      NULL};
        uint64_t cycles = histogram_percentile(stats->latency, quantiles[i].percent);
        exposition_value(m->out, m->name, "", labels, cycles_seconds(m->server, cycles));
    }
    const char *const label[] = {"command", command->full_name, NULL};
    exposition_value(m->out, m->name, "_sum", label,
                     (double)server_cycles_us(m->server, stats->cycles) / 1e6);
    exposition_count(m->out, m->name, "_count", label, stats->calls);
}

static void command_metrics(struct server *s, struct text *out)
{
    exposition_counter(out, "holdfast_commands_processed_total", "Commands executed.",
                       s->stats.commands_processed);
    exposition_counter(out, "holdfast_error_replies_total", "Errors replied.",
                       s->stats.error_replies);
    all_commands(s, out, "holdfast_command_calls_total", "counter", "Calls of each command.",
                 append_calls);
    all_commands(s, out, "holdfast_command_seconds_total", "counter", "Time spent in each command.",
                 append_seconds);
    all_commands(s, out, "holdfast_command_rejected_total", "counter",
                 "Calls refused before they were executed.", append_rejected);
    all_commands(s, out, "holdfast_command_failed_total", "counter", "Calls that replied an error.",
                 append_failed);
    all_commands(s, out, "holdfast_command_latency_seconds", "summary",
                 "How long calls took, of those that were measured (latency-tracking).",
                 append_latency);
}

static void latency_summary(struct text *out, const char *name, const char *help,
                            const struct histogram *h)
{
    exposition_begin(out, name, "summary", help);
    for (size_t i = 0; i < QUANTILE_COUNT; i++) {
        const char *const label[] = {"quantile", quantiles[i].label, NULL};
        exposition_value(out, name, "", label,
                         (double)histogram_percentile(h, quantiles[i].percent) / 1e6);
    }
    exposition_count(out, name, "_count", NULL, h->total);
}

static void log_metrics(struct server *s, struct text *out)
{
    const struct durability *d = s->durability;
    exposition_gauge(out, "holdfast_log_enabled", "Whether there is a log (appendonly).",
                     d->writer != NULL);
    exposition_gauge(out, "holdfast_log_failed", "1: the log's disk has failed.",
                     d->state == DURABILITY_FAILED);
    if (d->writer == NULL || s->stream == NULL)
        return;
    uint64_t end = stream_end(s->stream), durable = writer_durable_lsn(d->writer);
    int64_t since = writer_at_risk_since_us(d->writer);
    bool at_risk = end > durable;
    exposition_counter(out, "holdfast_log_lsn", "Bytes ever written to the stream of effects.",
                       end);
    exposition_counter(out, "holdfast_log_durable_lsn", "Up to there the disk has it.", durable);
    exposition_gauge(out, "holdfast_log_at_risk_bytes", "What a crash now would lose.",
                     at_risk ? (double)(end - durable) : 0);
    exposition_gauge(out, "holdfast_log_at_risk_seconds", "The age of the oldest of it.",
                     at_risk && since != 0 ? (double)(clock_monotonic_us() - since) / 1e6 : 0);
    exposition_gauge(out, "holdfast_log_waiting_replies", "Replies held until the log is durable.",
                     (double)hold_waiting_replies(s->hold));
    exposition_gauge(out, "holdfast_log_size_bytes", "What a start would read.",
                     (double)durability_size(d));
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(d->writer, stats);
    exposition_counter(out, "holdfast_log_syncs_total", "Calls of fdatasync.", stats->syncs);
    exposition_counter(out, "holdfast_log_slow_syncs_total", "Those that took more than a second.",
                       stats->slow_syncs);
    latency_summary(out, "holdfast_log_fsync_seconds", "How long fdatasync took.", &stats->sync);
    latency_summary(out, "holdfast_log_commit_seconds", "From a change to its being durable.",
                    &stats->commit);
    mem_free(stats);
}

static void snapshot_metrics(struct server *s, struct text *out)
{
    const struct persistence *p = s->persistence;
    struct saver_status st;
    struct chain_keeper_status chain;
    saver_get_status(p->saver, &st);
    chain_keeper_get_status(p->chain, &chain);
    exposition_gauge(out, "holdfast_loading", "1 while the data is loaded.", s->loading);
    exposition_gauge(out, "holdfast_snapshot_last_time_seconds",
                     "When the last full snapshot was done, since 1970.", (double)st.last_save_s);
    exposition_gauge(out, "holdfast_snapshot_last_duration_seconds",
                     "How long the last successful one took.", (double)st.last.total_us / 1e6);
    exposition_gauge(out, "holdfast_snapshot_last_ok", "1: no snapshot has failed since.",
                     st.last_ok);
    exposition_gauge(out, "holdfast_snapshot_last_bytes", "The size of its file.",
                     (double)st.last.file_size);
    exposition_counter(out, "holdfast_snapshots_total", "Full snapshots that succeeded.", st.saves);
    exposition_gauge(out, "holdfast_snapshot_running", "1 while one is taken, of either kind.",
                     st.running || chain_keeper_incremental(p->chain));
    exposition_gauge(out, "holdfast_snapshot_changes", "Changes since the last full snapshot.",
                     (double)s->ks->dirty);
    exposition_gauge(out, "holdfast_snapshot_held_bytes",
                     "Memory that is kept for the running one alone.",
                     (double)(st.running ? st.progress : chain.progress).held_bytes);
    exposition_gauge(out, "holdfast_chain_links",
                     "Files of the chain of a full and incremental snapshots; 0: there is none.",
                     (double)chain.chain->count);
    exposition_counter(out, "holdfast_chain_incrementals_total",
                       "Incremental snapshots that succeeded.", chain.taken);
    exposition_gauge(out, "holdfast_chain_last_ok", "1: the last incremental one has succeeded.",
                     chain.last_ok);
    exposition_gauge(out, "holdfast_recovery_estimate_seconds", "How long a start would take.",
                     snapshots_recovery_seconds(s));
}

static void replica_label(struct replica *r, char label[SOCKET_NAME_SIZE + 16])
{
    char ip[SOCKET_NAME_SIZE];
    replication_address(r, ip);
    snprintf(label, SOCKET_NAME_SIZE + 16, "%s:%d", ip, r->listening_port);
}

/* Whether one before it in the list, which has come later, is called the same: a replica whose old
 * connection has not been found to be dead, or two that do not say on which port they listen. */
static bool is_named_twice(struct server *s, struct replica *r, const char *label)
{
    char other[SOCKET_NAME_SIZE + 16];
    for (struct replica *p = s->replication->replicas; p != r; p = p->next) {
        replica_label(p, other);
        if (strcmp(other, label) == 0)
            return true;
    }
    return false;
}

/* One sample of each replica. */
static void each_replica(struct server *s, struct text *out, const char *name, const char *help,
                         double (*value)(struct server *s, struct replica *r))
{
    if (s->replication->replicas == NULL)
        return;
    exposition_begin(out, name, "gauge", help);
    for (struct replica *r = s->replication->replicas; r != NULL; r = r->next) {
        char label[SOCKET_NAME_SIZE + 16];
        const char *labels[] = {"replica", label, NULL};
        replica_label(r, label);
        if (!is_named_twice(s, r, label))
            exposition_value(out, name, "", labels, value(s, r));
    }
}

static double lag_bytes(struct server *s, struct replica *r)
{
    struct marks_behind b;
    replication_behind(s, r->acked, &b);
    return (double)b.bytes;
}

static double lag_seconds(struct server *s, struct replica *r)
{
    struct marks_behind b;
    return replication_behind(s, r->acked, &b) ? (double)b.us / 1e6 : NAN;
}

static double is_online(struct server *s, struct replica *r)
{
    (void)s;
    return r->state == REPLICA_ONLINE;
}

static void replica_metrics(struct server *s, struct text *out)
{
    each_replica(s, out, "holdfast_replica_online", "1: it is sent the stream.", is_online);
    each_replica(s, out, "holdfast_replica_lag_bytes", "What it has not acknowledged.", lag_bytes);
    each_replica(s, out, "holdfast_replica_lag_seconds",
                 "How old the oldest of that is; NaN: older than this process.", lag_seconds);
}

static void replication_metrics(struct server *s, struct text *out)
{
    const struct replication *r = s->replication;
    bool replica = s->config->replicaof_host[0] != '\0';
    exposition_gauge(out, "holdfast_is_primary", "1: not a replica of another server.", !replica);
    exposition_gauge(out, "holdfast_connected_replicas", "Replicas that follow this server.",
                     (double)r->replica_count);
    exposition_gauge(out, "holdfast_good_replicas",
                     "Those that were heard of within min-replicas-max-lag.",
                     (double)r->good_count);
    exposition_counter(out, "holdfast_replication_offset",
                       "As far as this server is in the history.", replication_lsn(s));
    exposition_counter(out, "holdfast_full_syncs_total", "Full resynchronisations of replicas.",
                       r->sync_full);
    exposition_counter(out, "holdfast_partial_syncs_total", "Partial ones.", r->sync_partial_ok);
    exposition_counter(out, "holdfast_partial_syncs_from_disk_total",
                       "Of them: from the log on disk.", r->sync_partial_disk);
    exposition_counter(out, "holdfast_partial_syncs_refused_total",
                       "Replicas that asked for a partial one, and got everything.",
                       r->sync_partial_err);
    exposition_counter(out, "holdfast_divergence_journals_total",
                       "How often this server gave up what its primary does not have.",
                       r->link.journals);
    struct marks_behind lost;
    bool known = replication_would_lose(s, &lost);
    exposition_gauge(out, "holdfast_failover_would_lose_bytes", "What no replica has acknowledged.",
                     (double)lost.bytes);
    if (known) {
        exposition_gauge(out, "holdfast_failover_would_lose_writes", "The same, in writes at most.",
                         (double)lost.effects);
        exposition_gauge(out, "holdfast_failover_would_lose_seconds",
                         "The same: how old the oldest of them is.", (double)lost.us / 1e6);
    }
    uint64_t first;
    if (replication_reach(s, &first))
        exposition_gauge(out, "holdfast_partial_sync_reach_bytes",
                         "So far may a replica be behind and go on without everything being sent.",
                         (double)(replication_lsn(s) - first));
    replica_metrics(s, out);
    if (quorum_is_on(s->quorum)) {
        exposition_gauge(out, "holdfast_quorum_epoch",
                         "In which this primary is elected; 0: it is not.",
                         (double)s->quorum->epoch);
        exposition_gauge(out, "holdfast_quorum_present",
                         "Nodes that acknowledge, this one included.", (double)r->quorum_present);
        exposition_counter(out, "holdfast_quorum_elections_total", "That this node has won.",
                           s->quorum->elections);
    }
    if (replica)
        exposition_gauge(out, "holdfast_primary_link_up",
                         "1: connected to its primary, and in step.", r->link.state == LINK_UP);
    if (replica)
        exposition_counter(out, "holdfast_primary_stream_errors_total",
                           "Commands of the primary that were answered by an error here.",
                           r->link.errors);
}

void metrics_append(struct server *s, struct text *out)
{
    process_metrics(s, out);
    client_metrics(s, out);
    memory_metrics(s, out);
    keyspace_metrics(s, out);
    command_metrics(s, out);
    log_metrics(s, out);
    snapshot_metrics(s, out);
    replication_metrics(s, out);
    struct text ignored = {0};
    exposition_gauge(out, "holdfast_ready", "What /health/ready says.",
                     metrics_is_ready(s, &ignored));
    text_free(&ignored);
}

bool metrics_is_ready(const struct server *s, struct text *why)
{
    if (s->loading)
        text_append_cstr(why, "loading the data");
    else if (s->stopping)
        text_append_cstr(why, "stopping");
    else if (s->durability->refusal != NULL)
        text_appendf(why, "writes are refused: %s", s->durability->refusal);
    else if (s->persistence->refuse_writes)
        text_append_cstr(why, "writes are refused: the last snapshot failed");
    else if (s->out_of_memory)
        text_append_cstr(why, "writes are refused: maxmemory is reached");
    return why->size == 0;
}
