/* SPDX-License-Identifier: BSD-3-Clause
 *
 * All directives that Redis (to 8.x) and Valkey (to 9.x) know, one row each, by area. config.h
 * makes the fields of struct config from it, config_table.c the table. To add a directive add a
 * row. It is included several times, with other definitions of the macros: hence no guard.
 *
 *     BOOL(field, name, alias, default, flags)
 *     INT(field, name, alias, default, lowest, highest, flags)
 *     MEMORY(field, name, alias, default, lowest, highest, flags)      with units: 1k, 1kb, 1m, ...
 *     PERCENT(field, name, alias, default, flags)                      memory, or -n for n percent
 *     OCTAL(field, name, alias, default, lowest, highest, flags)
 *     STRING(field, name, alias, default, flags)
 *     ENUM(field, name, alias, words, default, flags)    the value is the index of the word
 *     BITS(field, name, alias, words, default, flags)    several: bit i-1 for word i, 0: first
 *     SPECIAL(name, alias, kind, flags)                  functions of its own in config_special.c
 *     IGNORED(name)                                      accepted in files, without any effect ever
 *
 * A word that begins with a '.' is accepted (without the '.') but not listed in errors.
 *
 * Flags: LIVE (CONFIG SET may change it) or FIXED; HIDDEN from patterns; SENSITIVE (not to be
 * logged); PROTECTED (enable-protected-configs guards it); MULTI (several arguments); FILE_NAME
 * (set to the same value anew it is applied all the same, as the file may have changed); INERT:
 * known, but what it asks for is not there yet. Setting an INERT directive is answered by a
 * warning. Remove INERT when a directive takes effect.
 */
/* clang-format off */

/* cluster */
BOOL(cluster_allow_pubsubshard_when_down, "cluster-allow-pubsubshard-when-down", NULL, true,
     LIVE | INERT)
BOOL(cluster_allow_reads_when_down, "cluster-allow-reads-when-down", NULL, false, LIVE | INERT)
BOOL(cluster_allow_replica_migration, "cluster-allow-replica-migration", NULL, true, LIVE | INERT)
INT(cluster_announce_bus_port, "cluster-announce-bus-port", NULL, 0, 0, 65535, LIVE | INERT)
STRING(cluster_announce_client_ipv4, "cluster-announce-client-ipv4", NULL, "", LIVE | INERT)
STRING(cluster_announce_client_ipv6, "cluster-announce-client-ipv6", NULL, "", LIVE | INERT)
INT(cluster_announce_client_port, "cluster-announce-client-port", NULL, 0, 0, 65535, LIVE | INERT)
INT(cluster_announce_client_tls_port, "cluster-announce-client-tls-port", NULL, 0, 0, 65535,
    LIVE | INERT)
STRING(cluster_announce_hostname, "cluster-announce-hostname", NULL, "", LIVE | INERT)
STRING(cluster_announce_human_nodename, "cluster-announce-human-nodename", NULL, "", LIVE | INERT)
STRING(cluster_announce_ip, "cluster-announce-ip", NULL, "", LIVE | INERT)
INT(cluster_announce_port, "cluster-announce-port", NULL, 0, 0, 65535, LIVE | INERT)
INT(cluster_announce_tls_port, "cluster-announce-tls-port", NULL, 0, 0, 65535, LIVE | INERT)
INT(cluster_blacklist_ttl, "cluster-blacklist-ttl", NULL, 60, 0, INT64_MAX, LIVE | INERT)
BOOL(cluster_bus_port_protected_mode, "cluster-bus-port-protected-mode", NULL, false,
     LIVE | INERT)
INT(cluster_compatibility_sample_ratio, "cluster-compatibility-sample-ratio", NULL, 0, 0, 100,
    LIVE | INERT)
STRING(cluster_config_file, "cluster-config-file", NULL, "nodes.conf", FIXED | INERT)
ENUM(cluster_config_save_behavior, "cluster-config-save-behavior", NULL, "sync best-effort", 0,
     LIVE | INERT)
INT(cluster_databases, "cluster-databases", NULL, 1, 1, INT32_MAX, FIXED | INERT)
BOOL(cluster_enabled, "cluster-enabled", NULL, false, FIXED | INERT)
MEMORY(cluster_link_sendbuf_limit, "cluster-link-sendbuf-limit", NULL, 0, 0, INT64_MAX,
       LIVE | INERT)
INT(cluster_manual_failover_timeout, "cluster-manual-failover-timeout", NULL, 5000, 1, INT32_MAX,
    LIVE | INERT)
INT(cluster_message_gossip_perc, "cluster-message-gossip-perc", NULL, 10, 1, 100,
    LIVE | HIDDEN | INERT)
INT(cluster_migration_barrier, "cluster-migration-barrier", NULL, 1, 0, INT32_MAX, LIVE | INERT)
INT(cluster_node_timeout, "cluster-node-timeout", NULL, 15000, 0, INT64_MAX, LIVE | INERT)
INT(cluster_ping_interval, "cluster-ping-interval", NULL, 0, 0, INT64_MAX, LIVE | HIDDEN | INERT)
INT(cluster_port, "cluster-port", NULL, 0, 0, 65535, FIXED | INERT)
ENUM(cluster_preferred_endpoint_type, "cluster-preferred-endpoint-type", NULL,
     "ip hostname unknown-endpoint", 0, LIVE | INERT)
BOOL(cluster_replica_no_failover, "cluster-replica-no-failover", "cluster-slave-no-failover",
     false, LIVE | INERT)
INT(cluster_replica_validity_factor, "cluster-replica-validity-factor",
    "cluster-slave-validity-factor", 10, 0, INT32_MAX, LIVE | INERT)
BOOL(cluster_require_full_coverage, "cluster-require-full-coverage", NULL, true, LIVE | INERT)
MEMORY(cluster_slot_migration_handoff_max_lag_bytes,
       "cluster-slot-migration-handoff-max-lag-bytes", NULL, 1048576, 0, INT64_MAX, LIVE | INERT)
INT(cluster_slot_migration_log_max_len, "cluster-slot-migration-log-max-len", NULL, 1000, 0,
    INT64_MAX, LIVE | INERT)
INT(cluster_slot_migration_max_archived_tasks, "cluster-slot-migration-max-archived-tasks", NULL,
    32, 1, INT32_MAX, LIVE | HIDDEN | INERT)
INT(cluster_slot_migration_sync_buffer_drain_timeout,
    "cluster-slot-migration-sync-buffer-drain-timeout", NULL, 60000, 0, INT64_MAX,
    LIVE | HIDDEN | INERT)
INT(cluster_slot_migration_write_pause_timeout, "cluster-slot-migration-write-pause-timeout",
    NULL, 10000, 0, INT64_MAX, LIVE | INERT)
ENUM(cluster_slot_stats_enabled, "cluster-slot-stats-enabled", NULL, "no yes cpu net mem", 0,
     LIVE | INERT)
MEMORY(slot_migration_max_failover_repl_bytes, "slot-migration-max-failover-repl-bytes", NULL, 0,
       -1, INT64_MAX, LIVE | INERT)

/* encoding */
BOOL(activerehashing, "activerehashing", NULL, true, LIVE)
INT(array_slice_size, "array-slice-size", NULL, 4096, 256, 65536, LIVE | INERT)
INT(array_sparse_kmax, "array-sparse-kmax", NULL, 10, 0, 256, LIVE | INERT)
INT(array_sparse_kmin, "array-sparse-kmin", NULL, 5, 0, 256, LIVE | INERT)
INT(hash_max_listpack_entries, "hash-max-listpack-entries", "hash-max-ziplist-entries", 512, 0,
    INT64_MAX, LIVE)
MEMORY(hash_max_listpack_value, "hash-max-listpack-value", "hash-max-ziplist-value", 64, 0,
       INT64_MAX, LIVE)
INT(hash_max_template_entries, "hash-max-template-entries", NULL, 0, 0, INT64_MAX, LIVE | INERT)
INT(hash_min_template_entries, "hash-min-template-entries", NULL, 0, 0, INT64_MAX, LIVE | INERT)
STRING(hash_seed, "hash-seed", NULL, "", FIXED | SENSITIVE)
MEMORY(hll_sparse_max_bytes, "hll-sparse-max-bytes", NULL, 3000, 0, INT64_MAX, LIVE)
INT(list_compress_depth, "list-compress-depth", NULL, 0, 0, INT32_MAX, LIVE)
INT(list_max_listpack_size, "list-max-listpack-size", "list-max-ziplist-size", -2, INT32_MIN,
    INT32_MAX, LIVE)
INT(set_max_intset_entries, "set-max-intset-entries", NULL, 512, 0, INT64_MAX, LIVE)
INT(set_max_listpack_entries, "set-max-listpack-entries", NULL, 128, 0, INT64_MAX, LIVE)
INT(set_max_listpack_value, "set-max-listpack-value", NULL, 64, 0, INT64_MAX, LIVE)
INT(stream_idmp_duration, "stream-idmp-duration", NULL, 100, 1, 86400, LIVE | INERT)
INT(stream_idmp_maxsize, "stream-idmp-maxsize", NULL, 100, 1, 10000, LIVE | INERT)
MEMORY(stream_node_max_bytes, "stream-node-max-bytes", NULL, 4096, 0, INT64_MAX, LIVE)
INT(stream_node_max_entries, "stream-node-max-entries", NULL, 100, 0, INT64_MAX, LIVE)
BOOL(vset_force_single_threaded_execution, "vset-force-single-threaded-execution", NULL, false,
     LIVE | INERT)
INT(zset_max_listpack_entries, "zset-max-listpack-entries", "zset-max-ziplist-entries", 128, 0,
    INT64_MAX, LIVE)
MEMORY(zset_max_listpack_value, "zset-max-listpack-value", "zset-max-ziplist-value", 64, 0,
       INT64_MAX, LIVE)

/* general */
INT(client_default_resp, "client-default-resp", NULL, 2, 2, 3, FIXED | HIDDEN | INERT)
BOOL(daemonize, "daemonize", NULL, false, FIXED)
BOOL(dynamic_hz, "dynamic-hz", NULL, true, LIVE)
BOOL(extended_redis_compatibility, "extended-redis-compatibility", NULL, false, LIVE | INERT)
INT(hz, "hz", NULL, 10, 0, INT32_MAX, LIVE)
IGNORED("list-max-ziplist-entries")
IGNORED("list-max-ziplist-value")
STRING(locale_collate, "locale-collate", NULL, "", LIVE | INERT)
IGNORED("lua-replicate-commands")
STRING(pidfile, "pidfile", NULL, "", FIXED)
STRING(proc_title_template, "proc-title-template", NULL, "{title} {listen-addr} {server-mode}",
       LIVE)
STRING(req_res_logfile, "req-res-logfile", NULL, "", FIXED | HIDDEN | INERT)
BOOL(set_proc_title, "set-proc-title", NULL, true, FIXED)
BITS(shutdown_on_sigint, "shutdown-on-sigint", NULL, "default save nosave now force", 0, LIVE)
BITS(shutdown_on_sigterm, "shutdown-on-sigterm", NULL, "default save nosave now force", 0, LIVE)
INT(shutdown_timeout, "shutdown-timeout", NULL, 10, 0, INT32_MAX, LIVE)
ENUM(supervised, "supervised", NULL, "upstart systemd auto no", SUPERVISED_NO, FIXED)

/* keyspace */
INT(active_expire_effort, "active-expire-effort", NULL, 1, 1, 10, LIVE)
INT(databases, "databases", NULL, 16, 1, INT32_MAX, FIXED)
BOOL(lazyexpire_nested_arbitrary_keys, "lazyexpire-nested-arbitrary-keys", NULL, true,
     LIVE | HIDDEN | INERT)

/* latency */
INT(commandlog_large_reply_max_len, "commandlog-large-reply-max-len", NULL, 128, 0, INT64_MAX,
    LIVE)
INT(commandlog_large_request_max_len, "commandlog-large-request-max-len", NULL, 128, 0, INT64_MAX,
    LIVE)
INT(commandlog_reply_larger_than, "commandlog-reply-larger-than", NULL, 1048576, -1, INT64_MAX,
    LIVE)
INT(commandlog_request_larger_than, "commandlog-request-larger-than", NULL, 1048576, -1,
    INT64_MAX, LIVE)
INT(latency_monitor_threshold, "latency-monitor-threshold", NULL, 0, 0, INT64_MAX, LIVE)
BOOL(latency_tracking, "latency-tracking", NULL, true, LIVE)
INT(slowlog_entry_max_argc, "slowlog-entry-max-argc", NULL, 32, 2, INT32_MAX, LIVE)
INT(slowlog_entry_max_string_len, "slowlog-entry-max-string-len", NULL, 128, 1, INT64_MAX,
    LIVE)
INT(slowlog_log_slower_than, "slowlog-log-slower-than", "commandlog-execution-slower-than", 10000,
    -1, INT64_MAX, LIVE)
INT(slowlog_max_len, "slowlog-max-len", "commandlog-slow-execution-max-len", 128, 0, INT64_MAX,
    LIVE)

/* memory */
INT(active_defrag_cycle_max, "active-defrag-cycle-max", NULL, 25, 1, 99, LIVE)
INT(active_defrag_cycle_min, "active-defrag-cycle-min", NULL, 1, 1, 99, LIVE)
INT(active_defrag_cycle_us, "active-defrag-cycle-us", NULL, 500, 0, 100000, LIVE)
MEMORY(active_defrag_ignore_bytes, "active-defrag-ignore-bytes", NULL, 104857600, 1, INT64_MAX,
       LIVE)
INT(active_defrag_max_scan_fields, "active-defrag-max-scan-fields", NULL, 1000, 1, INT64_MAX, LIVE)
INT(active_defrag_threshold_lower, "active-defrag-threshold-lower", NULL, 10, 0, 1000, LIVE)
INT(active_defrag_threshold_upper, "active-defrag-threshold-upper", NULL, 100, 0, 1000, LIVE)
BOOL(activedefrag, "activedefrag", NULL, false, LIVE)
MEMORY(client_query_buffer_limit, "client-query-buffer-limit", NULL, 1073741824, 1048576,
       INT64_MAX, LIVE)
BOOL(disable_thp, "disable-thp", NULL, true, FIXED)
BOOL(jemalloc_bg_thread, "jemalloc-bg-thread", NULL, true, LIVE | INERT)
BOOL(key_memory_histograms, "key-memory-histograms", NULL, false, LIVE | INERT)
BOOL(lazyfree_lazy_eviction, "lazyfree-lazy-eviction", NULL, false, LIVE)
BOOL(lazyfree_lazy_expire, "lazyfree-lazy-expire", NULL, false, LIVE)
BOOL(lazyfree_lazy_server_del, "lazyfree-lazy-server-del", NULL, false, LIVE)
BOOL(lazyfree_lazy_user_del, "lazyfree-lazy-user-del", NULL, false, LIVE)
BOOL(lazyfree_lazy_user_flush, "lazyfree-lazy-user-flush", NULL, false, LIVE)
INT(lfu_decay_time, "lfu-decay-time", NULL, 1, 0, INT32_MAX, LIVE)
INT(lfu_log_factor, "lfu-log-factor", NULL, 10, 0, INT32_MAX, LIVE)
MEMORY(maxmemory, "maxmemory", NULL, 0, 0, INT64_MAX, LIVE)
PERCENT(maxmemory_clients, "maxmemory-clients", NULL, 0, LIVE)
INT(maxmemory_eviction_tenacity, "maxmemory-eviction-tenacity", NULL, 10, 0, 100, LIVE)
ENUM(maxmemory_policy, "maxmemory-policy", NULL,
     "volatile-lru volatile-lfu volatile-random volatile-ttl allkeys-lru allkeys-lfu "
     "allkeys-random noeviction .volatile-lrm .allkeys-lrm",
     POLICY_NOEVICTION, LIVE)
INT(maxmemory_samples, "maxmemory-samples", NULL, 5, 1, 64, LIVE)
ENUM(oom_score_adj, "oom-score-adj", NULL, "no yes relative absolute", OOM_SCORE_NO, LIVE)
INT(tracking_table_max_keys, "tracking-table-max-keys", NULL, 1000000, 0, INT64_MAX, LIVE)

/* network */
STRING(bind_source_addr, "bind-source-addr", NULL, "", LIVE)
INT(max_new_connections_per_cycle, "max-new-connections-per-cycle", NULL, 10, 1, 1000, LIVE)
INT(max_new_tls_connections_per_cycle, "max-new-tls-connections-per-cycle", NULL, 1, 1, 1000,
    LIVE)
INT(maxclients, "maxclients", NULL, 10000, 1, UINT32_MAX, LIVE)
STRING(metrics_bind, "metrics-bind", NULL, "127.0.0.1", LIVE)
INT(metrics_port, "metrics-port", NULL, 0, 0, 65535, LIVE)
BOOL(mptcp, "mptcp", NULL, false, FIXED | INERT)
INT(port, "port", NULL, 6379, 0, 65535, LIVE)
MEMORY(proto_max_bulk_len, "proto-max-bulk-len", NULL, 536870912, 1048576, INT64_MAX, LIVE)
STRING(rdma_bind, "rdma-bind", NULL, "", LIVE | INERT)
INT(rdma_completion_vector, "rdma-completion-vector", NULL, -1, -1, 1024, FIXED | INERT)
INT(rdma_port, "rdma-port", NULL, 0, 0, 65535, LIVE | INERT)
INT(rdma_rx_size, "rdma-rx-size", NULL, 1048576, 65536, 16777216, FIXED | INERT)
INT(socket_mark_id, "socket-mark-id", NULL, 0, 0, UINT32_MAX, FIXED | INERT)
INT(tcp_backlog, "tcp-backlog", NULL, 511, 0, INT32_MAX, FIXED)
INT(tcp_keepalive, "tcp-keepalive", NULL, 300, 0, INT32_MAX, LIVE)
INT(timeout, "timeout", NULL, 0, 0, INT32_MAX, LIVE)
STRING(unixsocket, "unixsocket", NULL, "", FIXED)
STRING(unixsocketgroup, "unixsocketgroup", NULL, "", FIXED)
OCTAL(unixsocketperm, "unixsocketperm", NULL, 0, 0, 0777, FIXED)

/* observability */
BOOL(always_show_logo, "always-show-logo", NULL, false, FIXED | INERT)
STRING(availability_zone, "availability-zone", NULL, "", LIVE)
BOOL(crash_log_enabled, "crash-log-enabled", NULL, true, LIVE)
BOOL(use_exit_on_panic, "use-exit-on-panic", NULL, false, LIVE | HIDDEN)
BOOL(crash_memcheck_enabled, "crash-memcheck-enabled", NULL, true, LIVE | INERT)
STRING(debug_context, "debug-context", NULL, "", LIVE | HIDDEN | INERT)
STRING(ignore_warnings, "ignore-warnings", NULL, "", LIVE | INERT)
ENUM(log_format, "log-format", NULL, "legacy logfmt json", LOG_FORMAT_LEGACY, LIVE)
ENUM(log_timestamp_format, "log-timestamp-format", NULL, "legacy iso8601 milliseconds",
     LOG_TIME_LEGACY, LIVE)
STRING(logfile, "logfile", NULL, "", FIXED)
ENUM(loglevel, "loglevel", NULL, "debug verbose notice warning .nothing", LOG_LEVEL_NOTICE, LIVE)
BOOL(syslog_enabled, "syslog-enabled", NULL, false, FIXED)
ENUM(syslog_facility, "syslog-facility", NULL,
     "user local0 local1 local2 local3 local4 local5 local6 local7", 1, FIXED)
STRING(syslog_ident, "syslog-ident", NULL, "redis", FIXED)
INT(watchdog_period, "watchdog-period", NULL, 0, 0, INT32_MAX, LIVE | HIDDEN | INERT)

/* persistence */
BOOL(aof_disable_auto_gc, "aof-disable-auto-gc", NULL, false, LIVE)
INT(aof_load_corrupt_tail_max_size, "aof-load-corrupt-tail-max-size", NULL, 0, 0, INT64_MAX,
    LIVE)
BOOL(aof_load_truncated, "aof-load-truncated", NULL, true, LIVE)
STRING(aof_rewrite_cpulist, "aof-rewrite-cpulist", "aof_rewrite_cpulist", "", FIXED | INERT)
BOOL(aof_rewrite_incremental_fsync, "aof-rewrite-incremental-fsync", NULL, true, LIVE)
BOOL(aof_timestamp_enabled, "aof-timestamp-enabled", NULL, false, LIVE)
BOOL(aof_use_rdb_preamble, "aof-use-rdb-preamble", NULL, true, LIVE)
STRING(appenddirname, "appenddirname", NULL, "appendonlydir", FIXED)
STRING(appendfilename, "appendfilename", NULL, "appendonly.aof", FIXED)
ENUM(appendfsync, "appendfsync", NULL, "everysec always no", FSYNC_EVERYSEC, LIVE)
BOOL(appendonly, "appendonly", NULL, false, LIVE)
MEMORY(auto_aof_rewrite_min_size, "auto-aof-rewrite-min-size", NULL, 67108864, 0, INT64_MAX,
       LIVE)
INT(auto_aof_rewrite_percentage, "auto-aof-rewrite-percentage", NULL, 100, 0, INT32_MAX, LIVE)
INT(backup_sealed_ttl, "backup-sealed-ttl", NULL, 0, 0, INT64_MAX, LIVE)
STRING(backupdirname, "backupdirname", NULL, "backupdir", FIXED)
INT(data_loss_target, "data-loss-target", NULL, 0, 0, INT32_MAX, LIVE)
STRING(dbfilename, "dbfilename", NULL, "dump.rdb", LIVE | PROTECTED)
INT(hash_rdb_load_max_template_entries, "hash-rdb-load-max-template-entries", NULL, 0, 0,
    INT64_MAX, LIVE | INERT)
INT(hash_rdb_load_min_template_entries, "hash-rdb-load-min-template-entries", NULL, 0, 0,
    INT64_MAX, LIVE | INERT)
INT(hash_rdb_load_template_disassembly_threshold, "hash-rdb-load-template-disassembly-threshold",
    NULL, 0, 0, INT64_MAX, LIVE | INERT)
INT(key_load_delay, "key-load-delay", NULL, 0, INT32_MIN, INT32_MAX, LIVE | HIDDEN)
INT(load_threads, "load-threads", NULL, 0, 0, 128, LIVE)
INT(loading_process_events_interval_bytes, "loading-process-events-interval-bytes", NULL, 524288,
    1024, INT32_MAX, LIVE | HIDDEN | INERT)
MEMORY(log_buffer_limit, "log-buffer-limit", NULL, 268435456, 1048576, INT64_MAX, LIVE)
BOOL(no_appendfsync_on_rewrite, "no-appendfsync-on-rewrite", NULL, false, LIVE)
STRING(preload_file, "preload-file", NULL, "", FIXED | INERT)
BOOL(rdb_del_sync_files, "rdb-del-sync-files", NULL, false, LIVE | INERT)
INT(rdb_key_save_delay, "rdb-key-save-delay", NULL, 0, INT32_MIN, INT32_MAX, LIVE | HIDDEN)
ENUM(rdb_format_version, "rdb-format-version", NULL, "auto 7 8 9 10 11 12", 0, LIVE)
BOOL(rdb_save_incremental_fsync, "rdb-save-incremental-fsync", NULL, true, LIVE)
BOOL(rdb_verify, "rdb-verify", NULL, true, LIVE)
ENUM(rdb_version_check, "rdb-version-check", NULL, "strict relaxed", 0, LIVE)
BOOL(rdbchecksum, "rdbchecksum", NULL, true, FIXED)
BOOL(rdbcompression, "rdbcompression", NULL, true, LIVE)
STRING(recover_until, "recover-until", NULL, "", FIXED | HIDDEN)
ENUM(recovery_fallback, "recovery-fallback", NULL, "refuse snapshot", FALLBACK_REFUSE, LIVE)
INT(recovery_time_target, "recovery-time-target", NULL, 0, 0, INT32_MAX, LIVE)
ENUM(sanitize_dump_payload, "sanitize-dump-payload", NULL, "no yes clients", 0, LIVE | INERT)
MEMORY(save_bytes, "save-bytes", NULL, 0, 0, INT64_MAX, LIVE)
INT(save_idle, "save-idle", NULL, 0, 0, INT32_MAX, LIVE)
BOOL(save_incremental, "save-incremental", NULL, false, LIVE)
PERCENT(snapshot_memory_limit, "snapshot-memory-limit", NULL, -100, LIVE)
MEMORY(snapshot_rate_limit, "snapshot-rate-limit", NULL, 0, 0, INT64_MAX, LIVE)
INT(snapshot_chain_max, "snapshot-chain-max", NULL, 8, 0, 10000, LIVE)
INT(snapshot_threads, "snapshot-threads", NULL, 0, 0, 128, LIVE)
BOOL(stop_writes_on_bgsave_error, "stop-writes-on-bgsave-error", NULL, true, LIVE)

/* replication */
INT(durability_timeout, "durability-timeout", NULL, 5000, 100, INT32_MAX, LIVE)
BOOL(dual_channel_replication_enabled, "dual-channel-replication-enabled", NULL, false,
     LIVE | INERT)
BOOL(import_mode, "import-mode", NULL, false, LIVE)
STRING(masterauth, "masterauth", "primaryauth", "", LIVE | SENSITIVE)
STRING(masteruser, "masteruser", "primaryuser", "", LIVE | SENSITIVE)
INT(min_replicas_max_lag, "min-replicas-max-lag", "min-slaves-max-lag", 10, 0, INT32_MAX,
    LIVE)
INT(min_replicas_to_write, "min-replicas-to-write", "min-slaves-to-write", 0, 0, INT32_MAX,
    LIVE)
ENUM(propagation_error_behavior, "propagation-error-behavior", NULL,
     "ignore panic panic-on-replicas", 0, LIVE | INERT)
MEMORY(repl_backlog_size, "repl-backlog-size", NULL, 1048576, 1, INT64_MAX, LIVE)
MEMORY(repl_log_history, "repl-log-history", NULL, 268435456, 0, INT64_MAX, LIVE)
STRING(quorum_node, "quorum-node", NULL, "", FIXED)
INT(repl_backlog_ttl, "repl-backlog-ttl", NULL, 3600, 0, INT64_MAX, LIVE)
INT(repl_compression, "repl-compression", NULL, 0, 0, 22, FIXED | INERT)
INT(repl_compression_max_latency, "repl-compression-max-latency", NULL, 100, 0, INT32_MAX,
    LIVE | INERT)
BOOL(repl_disable_tcp_nodelay, "repl-disable-tcp-nodelay", NULL, false, LIVE)
ENUM(repl_diskless_load, "repl-diskless-load", NULL,
     "disabled on-empty-db swapdb .flushdb .flush-before-load", 0, LIVE)
BOOL(repl_diskless_sync, "repl-diskless-sync", NULL, true, LIVE)
INT(repl_diskless_sync_delay, "repl-diskless-sync-delay", NULL, 5, 0, INT32_MAX, LIVE)
INT(repl_diskless_sync_max_replicas, "repl-diskless-sync-max-replicas", NULL, 0, 0, INT32_MAX,
    LIVE)
BOOL(repl_mptcp, "repl-mptcp", NULL, false, FIXED | INERT)
INT(repl_ping_replica_period, "repl-ping-replica-period", "repl-ping-slave-period", 10, 1,
    INT32_MAX, LIVE)
BOOL(repl_rdb_channel, "repl-rdb-channel", NULL, true, LIVE | HIDDEN | INERT)
INT(repl_timeout, "repl-timeout", NULL, 60, 1, INT32_MAX, LIVE)
BOOL(replica_accept_regression, "replica-accept-regression", NULL, false, LIVE)
STRING(replica_announce_ip, "replica-announce-ip", "slave-announce-ip", "", LIVE)
INT(replica_announce_port, "replica-announce-port", "slave-announce-port", 0, 0, 65535,
    LIVE)
BOOL(replica_announced, "replica-announced", NULL, true, LIVE)
MEMORY(replica_full_sync_buffer_limit, "replica-full-sync-buffer-limit", NULL, 0, 0, INT64_MAX,
       LIVE | INERT)
BOOL(replica_ignore_disk_write_errors, "replica-ignore-disk-write-errors", NULL, false,
     LIVE | INERT)
BOOL(replica_ignore_maxmemory, "replica-ignore-maxmemory", "slave-ignore-maxmemory", true,
     LIVE)
BOOL(replica_lazy_flush, "replica-lazy-flush", "slave-lazy-flush", false, LIVE)
INT(replica_priority, "replica-priority", "slave-priority", 100, 0, INT32_MAX, LIVE)
BOOL(replica_read_only, "replica-read-only", "slave-read-only", true, LIVE)
BOOL(replica_serve_stale_data, "replica-serve-stale-data", "slave-serve-stale-data", true,
     LIVE)

/* scripting */
INT(busy_reply_threshold, "busy-reply-threshold", "lua-time-limit", 5000, 0, INT64_MAX, LIVE)
MEMORY(script_memory_limit, "script-memory-limit", NULL, 1024 * 1024 * 1024, 0, INT64_MAX, LIVE)
BOOL(lua_enable_deprecated_api, "lua-enable-deprecated-api", "lua-enable-insecure-api", false,
     FIXED | HIDDEN | INERT)

/* security */
ENUM(acl_pubsub_default, "acl-pubsub-default", NULL, "allchannels resetchannels", 1, LIVE)
STRING(aclfile, "aclfile", NULL, "", FIXED)
INT(acllog_max_len, "acllog-max-len", NULL, 128, 0, INT64_MAX, LIVE)
BOOL(enable_debug_assert, "enable-debug-assert", NULL, false, FIXED | HIDDEN | INERT)
ENUM(enable_debug_command, "enable-debug-command", NULL, "no yes local", ALLOW_NO, FIXED)
ENUM(enable_module_command, "enable-module-command", NULL, "no yes local", ALLOW_NO,
     FIXED | INERT)
ENUM(enable_protected_configs, "enable-protected-configs", NULL, "no yes local", ALLOW_NO, FIXED)
BOOL(hide_user_data_from_log, "hide-user-data-from-log", NULL, false, LIVE)
BOOL(protected_mode, "protected-mode", NULL, true, LIVE)
STRING(requirepass, "requirepass", NULL, "", LIVE | SENSITIVE)

/* threading */
STRING(bgsave_cpulist, "bgsave-cpulist", "bgsave_cpulist", "", FIXED | INERT)
STRING(bio_cpulist, "bio-cpulist", "bio_cpulist", "", FIXED | INERT)
IGNORED("events-per-io-thread")
INT(io_threads, "io-threads", NULL, 1, 1, 128, FIXED | INERT)
BOOL(io_threads_always_active, "io-threads-always-active", NULL, false, LIVE | HIDDEN | INERT)
BOOL(io_threads_do_reads, "io-threads-do-reads", NULL, false, FIXED | INERT)
INT(lookahead, "lookahead", NULL, 16, 1, INT32_MAX, LIVE | INERT)
INT(min_io_threads_avoid_copy_reply, "min-io-threads-avoid-copy-reply", NULL, 7, 0, INT32_MAX,
    LIVE | HIDDEN | INERT)
INT(min_string_size_avoid_copy_reply, "min-string-size-avoid-copy-reply", NULL, 16384, 0,
    INT32_MAX, LIVE | HIDDEN | INERT)
INT(min_string_size_avoid_copy_reply_threaded, "min-string-size-avoid-copy-reply-threaded", NULL,
    65536, 0, INT32_MAX, LIVE | HIDDEN | INERT)
INT(prefetch_batch_max_size, "prefetch-batch-max-size", NULL, 16, 0, 128, LIVE | HIDDEN | INERT)
STRING(server_cpulist, "server-cpulist", "server_cpulist", "", FIXED | INERT)

/* tls */
ENUM(tls_auth_clients, "tls-auth-clients", NULL, "no yes optional", 1, LIVE)
ENUM(tls_auth_clients_user, "tls-auth-clients-user", NULL, "CN .URI off", 2, LIVE)
INT(tls_auto_reload_interval, "tls-auto-reload-interval", NULL, 0, 0, INT32_MAX, LIVE)
STRING(tls_ca_cert_dir, "tls-ca-cert-dir", NULL, "", LIVE | FILE_NAME)
STRING(tls_ca_cert_file, "tls-ca-cert-file", NULL, "", LIVE | FILE_NAME)
STRING(tls_cert_file, "tls-cert-file", NULL, "", LIVE | FILE_NAME)
STRING(tls_ciphers, "tls-ciphers", NULL, "", LIVE)
STRING(tls_ciphersuites, "tls-ciphersuites", NULL, "", LIVE)
STRING(tls_client_cert_file, "tls-client-cert-file", NULL, "", LIVE | FILE_NAME)
STRING(tls_client_key_file, "tls-client-key-file", NULL, "", LIVE | FILE_NAME)
STRING(tls_client_key_file_pass, "tls-client-key-file-pass", NULL, "", LIVE | FILE_NAME | SENSITIVE)
BOOL(tls_cluster, "tls-cluster", NULL, false, LIVE)
STRING(tls_dh_params_file, "tls-dh-params-file", NULL, "", LIVE | FILE_NAME)
STRING(tls_expected_peer_name, "tls-expected-peer-name", NULL, "", LIVE)
STRING(tls_key_file, "tls-key-file", NULL, "", LIVE | FILE_NAME)
STRING(tls_key_file_pass, "tls-key-file-pass", NULL, "", LIVE | FILE_NAME | SENSITIVE)
INT(tls_port, "tls-port", NULL, 0, 0, 65535, LIVE)
BOOL(tls_prefer_server_ciphers, "tls-prefer-server-ciphers", NULL, false, LIVE)
STRING(tls_protocols, "tls-protocols", NULL, "", LIVE)
BOOL(tls_replication, "tls-replication", NULL, false, LIVE)
INT(tls_session_cache_size, "tls-session-cache-size", NULL, 20480, 0, INT32_MAX, LIVE)
INT(tls_session_cache_timeout, "tls-session-cache-timeout", NULL, 300, 0, INT32_MAX, LIVE)
BOOL(tls_session_caching, "tls-session-caching", NULL, true, LIVE)

/* with functions of their own */
SPECIAL("bind", NULL, bind, LIVE | MULTI)
SPECIAL("client-output-buffer-limit", NULL, output_limits, LIVE | MULTI)
SPECIAL("dir", NULL, dir, LIVE | PROTECTED)
SPECIAL("latency-tracking-info-percentiles", NULL, percentiles, LIVE | MULTI)
SPECIAL("notify-keyspace-events", NULL, notify, LIVE)
SPECIAL("oom-score-adj-values", NULL, oom_values, LIVE | MULTI)
SPECIAL("durability", NULL, durability, LIVE | MULTI)
SPECIAL("quorum-nodes", NULL, quorum_nodes, FIXED | MULTI)
SPECIAL("replicaof", "slaveof", replicaof, FIXED | MULTI)
SPECIAL("save", NULL, save, LIVE | MULTI)
SPECIAL("save-cron", NULL, save_cron, LIVE | MULTI)

#undef BOOL
#undef INT
#undef MEMORY
#undef PERCENT
#undef OCTAL
#undef STRING
#undef ENUM
#undef BITS
#undef SPECIAL
#undef IGNORED
/* clang-format on */
