/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "persist/log/stream.h"
#include "server/backup.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/hold.h"
#include "server/persistence.h"

static void percentiles(struct text *out, const char *name, const struct histogram *h)
{
    text_appendf(out, "log_%s_usec:p50=%llu,p99=%llu,p99.9=%llu,max=%llu\r\n", name,
                 (unsigned long long)histogram_percentile(h, 50),
                 (unsigned long long)histogram_percentile(h, 99),
                 (unsigned long long)histogram_percentile(h, 99.9),
                 (unsigned long long)histogram_percentile(h, 100));
}

uint64_t durability_at_risk(const struct durability *d, uint64_t *bytes)
{
    uint64_t known = d->first_effects, all = d->server->effects;
    uint64_t end = stream_end(d->server->stream), durable = writer_durable_lsn(d->writer);
    *bytes = end > durable ? end - durable : 0;
    if (*bytes == 0)
        return 0;
    /* As of the last count that was taken at or before it: at least as many as there are. */
    for (uint64_t i = d->count_end; i > d->count_first; i--) {
        const struct effect_count *c = &d->counts[(i - 1) % DURABILITY_COUNTS];
        if (c->lsn <= durable) {
            known = c->effects;
            break;
        }
    }
    return all - known;
}

static void when_on(const struct durability *d, const struct writer_stats *stats, struct text *out)
{
    const struct server *s = d->server;
    uint64_t end = stream_end(s->stream), durable = writer_durable_lsn(d->writer);
    uint64_t at_risk, writes = durability_at_risk(d, &at_risk);
    const struct durability_content *content = &d->content;
    uint64_t logged = content->commands + stream_requests(s->stream) - content->requests;
    uint64_t bytes = content->bytes + end - content->lsn;
    uint64_t size = durability_size(d);
    int64_t passed = clock_monotonic_us() - d->started_us;
    int64_t since = writer_at_risk_since_us(d->writer);
    text_appendf(out, "aof_current_size:%llu\r\naof_base_size:%llu\r\naof_pending_rewrite:%d\r\n",
                 (unsigned long long)size, (unsigned long long)d->generation.base_size,
                 d->rewrite_scheduled);
    text_appendf(out, "aof_buffer_length:%llu\r\naof_pending_bio_fsync:%d\r\n",
                 (unsigned long long)(end - writer_written_lsn(d->writer)), stats->syncing);
    text_appendf(out, "aof_delayed_fsync:%llu\r\n", (unsigned long long)d->slow_downs);
    text_appendf(out, "log_lsn:%llu\r\nlog_written_lsn:%llu\r\nlog_durable_lsn:%llu\r\n",
                 (unsigned long long)end, (unsigned long long)writer_written_lsn(d->writer),
                 (unsigned long long)durable);
    text_appendf(out, "log_at_risk_bytes:%llu\r\nlog_at_risk_writes:%llu\r\n",
                 (unsigned long long)at_risk, (unsigned long long)writes);
    text_appendf(out, "log_at_risk_ms:%lld\r\n",
                 since != 0 && at_risk != 0 ? (long long)((clock_monotonic_us() - since) / 1000)
                                            : 0);
    text_appendf(out, "log_waiting_clients:%zu\r\nlog_waiting_replies:%llu\r\n",
                 hold_waiting_clients(s->hold), (unsigned long long)hold_waiting_replies(s->hold));
    text_appendf(out, "log_waiting_reply_bytes:%zu\r\n", hold_waiting_bytes(s->hold));
    text_appendf(out, "log_slowing_writers:%d\r\n", d->slow_down);
    text_appendf(out, "log_groups:%llu\r\nlog_groups_beside:%llu\r\n",
                 (unsigned long long)stats->groups, (unsigned long long)stats->beside);
    text_appendf(out, "log_writes:%llu\r\nlog_syncs:%llu\r\nlog_slow_syncs:%llu\r\n",
                 (unsigned long long)stats->writes,
                 (unsigned long long)stats->syncs, (unsigned long long)stats->slow_syncs);
    text_appendf(out, "log_commands:%llu\r\nlog_command_mean_bytes:%.1f\r\n",
                 (unsigned long long)logged, logged != 0 ? (double)bytes / (double)logged : 0.0);
    percentiles(out, "write_latency", &stats->write);
    percentiles(out, "fsync_latency", &stats->sync);
    percentiles(out, "commit_latency", &stats->commit);
    text_appendf(out, "log_time_share_percent:%.2f\r\n",
                 passed > 0 ? 100 * (double)stats->busy_us / (double)passed : 0.0);
    text_appendf(
        out,
        "log_meter:a crash now loses at most %llu writes (%llu bytes), a start takes about "
        "%.1f s\r\n",
        (unsigned long long)writes, (unsigned long long)at_risk, snapshots_recovery_seconds(s));
}

void durability_info(struct server *s, struct text *out)
{
    static const char *const names[] = {"off", "starting", "on", "closing", "failed"};
    const struct durability *d = s->durability;
    const struct generation *g = &d->generation;
    bool on = d->writer != NULL;
    bool ok = d->state != DURABILITY_FAILED && d->refusal == NULL;
    text_appendf(out,
                 "aof_enabled:%d\r\naof_rewrite_in_progress:%d\r\naof_rewrite_scheduled:%d\r\n",
                 on && !d->once, g->running || d->once, d->rewrite_scheduled);
    text_appendf(out, "aof_last_rewrite_time_sec:%lld\r\naof_current_rewrite_time_sec:%lld\r\n",
                 (long long)g->last_seconds,
                 g->running ? (long long)((clock_monotonic_us() - g->begun_us) / 1000000) : -1LL);
    text_appendf(out, "aof_last_bgrewrite_status:%s\r\naof_rewrites:%llu\r\n",
                 g->last_ok ? "ok" : "err", (unsigned long long)g->count);
    text_appendf(out, "aof_rewrites_consecutive_failures:%llu\r\n",
                 (unsigned long long)g->failures);
    text_appendf(out, "aof_last_write_status:%s\r\naof_last_cow_size:%zu\r\n",
                 ok ? "ok" : "err", g->last_held_bytes);
    text_append_cstr(out, "module_fork_in_progress:0\r\nmodule_fork_last_cow_size:0\r\n");
    backup_info(d->server, out);
    bool full =
        d->refusal != NULL && (d->state == DURABILITY_ON || d->state == DURABILITY_STARTING);
    text_appendf(out, "log_state:%s\r\n", full ? "full" : names[d->state]);
    if (!on)
        return;
    struct writer_stats *stats = mem_alloc(sizeof(*stats));
    writer_get_stats(d->writer, stats);
    if (stats->error.code != ERROR_NONE || d->state == DURABILITY_FAILED)
        text_appendf(out, "log_error:%s\r\n",
                     d->state == DURABILITY_FAILED ? d->failure.message : stats->error.message);
    when_on(d, stats, out);
    mem_free(stats);
}
