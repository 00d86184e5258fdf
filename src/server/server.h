/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The server: the wiring of keyspace, configuration, event loop and clients, and what belongs to
 * the process as a whole. Grouped in small structs; a function that needs one group takes that
 * group. Everything here is owned by the executor thread.
 *
 *     server_new -> (load data) -> server_listen -> server_run -> server_free
 *
 * Files: server.c (start, cron, stop), client.c (connections and their state), batch.c (reading,
 * parsing, prefetching and executing in batches), dispatch.c (what is checked before a command
 * runs, and counted after), transaction.c (MULTI, WATCH), durability.c (the log and its errors),
 * hold.c (replies that wait for it).
 */
#ifndef HF_SERVER_SERVER_H
#define HF_SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "command/call.h"
#include "net/listener.h"
#include "net/loop.h"
#include "persist/save_limits.h"
#include "server/shutdown.h"

/* The version of Redis whose behaviour is followed: HELLO and INFO report it, as clients choose by
 * it what they send. */
#define SERVER_REDIS_VERSION "7.0.15"

struct batch;
struct blocked;
struct client;
struct config;
struct defragment;
struct durability;
struct histogram;
struct hold;
struct metrics_listener;
struct migrate_cache;
struct persistence;
struct replication;
struct stream;
struct acl;
struct pubsub;
struct tracking_table;
struct evictor;
struct scripting;
struct command_log;
struct latency_monitor;
struct tls_context;
struct watch_table;

enum client_class {
    CLIENT_CLASS_NORMAL,
    CLIENT_CLASS_REPLICA,
    CLIENT_CLASS_PUBSUB,
    CLIENT_CLASSES
};

struct output_limit {
    uint64_t hard_bytes, soft_bytes; /* 0: none */
    int64_t soft_seconds;
};

/* What is looked at for every request or connection, copied from the configuration by
 * server_apply_config. */
struct server_limits {
    int64_t bulk_max;            /* proto-max-bulk-len */
    uint64_t query_buffer_max;   /* client-query-buffer-limit */
    uint64_t maxclients;
    int64_t timeout_seconds;     /* 0: idle clients stay */
    int tcp_keepalive_seconds;
    bool protected_mode;
    bool password_set;           /* the default user needs a password, or is off */
    bool notify_events;          /* notify-keyspace-events is not empty */
    bool track_latency;          /* latency-tracking */
    struct output_limit output[CLIENT_CLASSES];
};

/* Clients are found by id in so many chains. */
#define CLIENT_CHAINS 1024

struct server_clients {
    struct client *by_id[CLIENT_CHAINS];
    struct client *first, *last; /* all, the oldest first */
    size_t count;
    uint64_t next_id;
    struct client *closing;    /* to be freed at the end of the turn */
    struct client *write_first, **write_last; /* have output to be written at the end of the turn */
    struct client *push_first, **push_last;   /* the same, but messages alone */
    struct client *monitors;   /* MONITOR */
    struct client *tls_pending; /* to be read from without an event: server/secure.h */
    size_t blocked_count;      /* that wait, or whose next command was put off */
    struct client *cron_next;  /* where clients_cron goes on */
};

/* CLIENT PAUSE. */
struct server_pause {
    int64_t until_ms; /* by the wall clock; 0: not paused */
    bool all;         /* everything, not just writes */
    bool failover;    /* writes, until FAILOVER (failover.h) has come to an end */
    bool shutdown;    /* writes, while replicas are waited for at the end (shutdown.h) */
    bool quorum;      /* writes, while the disk does not take the promotion (quorum.h) */
};

struct command_stats {
    uint64_t calls, cycles, rejected, failed; /* see server_cycles_us */
    struct histogram *latency; /* in cycles, for latency-tracking; NULL: nothing was noted */
};

struct error_stat {
    char code[64];
    uint64_t count;
};
#define SERVER_ERROR_STATS_MAX 128

struct server_stats {
    int64_t start_ms; /* wall clock */
    int64_t start_us; /* monotonic */
    uint64_t cycles_at_start;
    uint64_t connections_received, connections_rejected;
    uint64_t commands_processed;
    uint64_t input_bytes, output_bytes;
    uint64_t reads, writes; /* socket calls */
    uint64_t query_buffer_closed, output_buffer_closed; /* clients closed by these limits */
    uint64_t unauthenticated_errors;
    uint64_t evicted_keys, evicted_clients;
    uint64_t error_replies;
    uint64_t protocol_errors;
    struct command_stats *commands; /* command_count of them, by command->id */
    struct error_stat errors[SERVER_ERROR_STATS_MAX];
    size_t error_count;
    /* For instantaneous_*: sampled by the cron sixteen times over. */
    struct {
        uint64_t last_commands, last_input, last_output;
        int64_t last_us;
        uint64_t commands[16], input[16], output[16]; /* a second */
        unsigned at;
    } rate;
};

/* While a primary's data come and are loaded beside the own ones: whether these are read, as they
 * are the past of what comes, or not, as they are another primary's. */
enum loading_beside { BESIDE_NONE, BESIDE_READ, BESIDE_HIDDEN };

struct server {
    struct keyspace *ks;
    struct config *config;
    struct server_limits limits;
    struct loop *loop;
    struct listeners *listeners;
    int64_t tls_watched_us; /* when the files of TLS were looked at */
    uint64_t tls_files; /* the fingerprint of the files of both */
    struct tls_context *tls; /* of new connections to tls-port; NULL: there is no such port */
    struct tls_context *tls_client; /* of connections to other servers; NULL: none is made by TLS */
    struct server_clients clients;
    struct server_pause pause;
    struct server_stats stats;
    struct batch *batch;
    struct watch_table *watches;
    struct blocked *blocked; /* clients that wait: server/blocked.h */
    struct stream *stream; /* effects: persist/log/stream.h; NULL while nobody wants them */
    struct pubsub *pubsub;
    struct tracking_table *tracking;
    struct acl *acl;
    char *password_applied; /* requirepass as the default user has it */
    struct evictor *evictor; /* for maxmemory: server/memory_limit.h */
    bool out_of_memory, evict_timer_set;
    struct defragment *defragment; /* server/defragment.h */
    struct command_log *command_logs; /* server/slowlog.h */
    struct hotkeys *hotkeys;          /* server/hotkeys.h; NULL: nothing was counted */
    struct latency_monitor *latency;
    uint64_t slow_cycles; /* a command that takes as long is looked at closely */
    bool log_small;       /* COMMANDLOG wants to know of requests and replies of any size */
    struct client *executing; /* whose command this is; NULL between commands */
    /* the call of it, while there is one: for the crash report */
    const struct call *executing_call;
    bool pushes_pending;      /* it was sent messages meanwhile */
    bool keys_ready;          /* clients that wait for keys are to be served */
    uint64_t changed_bytes; /* of requests that changed something, while there is no stream */
    uint64_t effects; /* commands that had one, while there is a stream */
    struct durability *durability; /* the log: server/durability.h */
    struct backup *backup;         /* server/backup.h */
    struct hold *hold;   /* replies that wait for it: server/hold.h */
    bool hold_replies;   /* they do */
    bool explicit_levels; /* some client or user has set one that needs the log or replicas */
    struct replication *replication; /* server/replication.h */
    bool is_replica;
    struct quorum *quorum; /* server/quorum.h */
    struct persistence *persistence; /* data on disk: server/persistence.h */
    struct metrics_listener *metrics; /* metrics-port: server/metrics_listener.h */
    struct scripting *scripting; /* server/scripting.h */
    struct fieldset *script_fieldsets; /* of the script that runs: server/himport.h */
    struct migrate_cache *migrate; /* connections that MIGRATE has made: server/migrate.h */
    struct reply_direct direct;    /* large strings go to their client without a copy */
    size_t direct_bytes;           /* of the command that is executed: sent so */
    struct call_hooks hooks;
    char run_id[41];
    int64_t now_us; /* the monotonic clock at the beginning of the turn */
    /* Not zero: something concerns all commands (loading, a pause), so that dispatch looks
     * closer. */
    bool attention;
    bool loading;
    enum loading_beside loading_beside; /* not while `loading` */
    const char *busy; /* the error that others get while a script is interrupted; NULL: none is */
    struct client *interrupted; /* who called it */
    struct shutdown shutdown; /* server/shutdown.h */
    struct save_limits save_limits; /* of all that writes snapshots; server/persistence.h */
    bool stopping;
    bool cron_running;
    bool expire_disabled;   /* DEBUG SET-ACTIVE-EXPIRE 0 */
    bool expire_timer_set;
    bool expire_more;       /* the last step of active expiry left something */
    int64_t expire_next_us; /* not before then */
    struct loop_timer *pause_timer;
    size_t startup_memory; /* in use before any data was loaded */
    int exit_status;
    uint64_t cron_count;
};

/* The processor's own clock: commands are timed by it, as it costs a tenth of the system's. */
static inline uint64_t server_cycles(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    return (uint64_t)clock_monotonic_ns();
#endif
}
/* As microseconds, by their mean rate since the start. */
uint64_t server_cycles_us(const struct server *s, uint64_t cycles);

/* Makes the keyspace too. `config` must outlive the server. */
struct server *server_new(struct config *config);
void server_free(struct server *s);
/* Open the listening sockets as configured. On failure `error` says which and why. */
bool server_listen(struct server *s, char error[SOCKET_ERROR_SIZE]);
/* The same for the TCP addresses of one of the two ports, after `bind` or the port was changed. */
bool server_listen_again(struct server *s, bool tls, char error[SOCKET_ERROR_SIZE]);
/* Serve until server_stop; returns the process's exit status. */
int server_run(struct server *s);
/* End server_run after this turn. From the loop's thread; others loop_post it. */
void server_stop(struct server *s, int exit_status);
/* Take over what the configuration says now. To be called after every change of it. */
void server_apply_config(struct server *s);
/* Serve clients once while something long runs in this thread (loading): they get -LOADING. Waits
 * for something to do for so many ms at most, 0: does not wait. */
void server_serve_while_busy(struct server *s, int wait_ms);
/* The same in the middle of a script, behind batch_step_aside: sockets only, no timers and no
 * tasks, and time stands still. */
void server_serve_aside(struct server *s);
/* Have long turns execute and answer what their first half has brought before they read the
 * second. */
void server_split_turns(struct server *s, bool split);
void server_set_loading(struct server *s, bool loading);
/* Set the clocks of keyspace and server to now. */
void server_update_clock(struct server *s);
/* A key is about to go that no command removes: who waits for it, tracks it or listens is told, and
 * the log. Watches are the caller's. */
void server_key_gone(struct server *s, struct db *db, struct slice key, int notify_class,
                     const char *event);

/* The mean of what the cron has sampled in the last 1.6 seconds, a second. */
uint64_t server_commands_per_second(const struct server *s);
uint64_t server_input_per_second(const struct server *s);
uint64_t server_output_per_second(const struct server *s);
void server_reset_stats(struct server *s); /* CONFIG RESETSTAT */

/* CLIENT PAUSE until this time (wall clock), and its end. */
void server_pause(struct server *s, int64_t until_ms, bool all);
void server_unpause(struct server *s);
void server_pause_failover(struct server *s, bool pause);
void server_pause_shutdown(struct server *s, bool pause);
void server_pause_quorum(struct server *s, bool pause);
static inline bool server_is_paused(const struct server *s)
{
    return s->pause.until_ms != 0 || s->pause.failover || s->pause.shutdown || s->pause.quorum;
}

/* Recompute s->attention. */
void server_update_attention(struct server *s);
/* Recompute s->hooks.wanted. */
void server_update_hooks(struct server *s);

#endif
