/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast-server: reads the configuration, starts logging, opens the sockets, loads the data and
 * serves until it is told to stop.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "command/table.h"
#include "os/file.h"
#include "os/log_file.h"
#include "os/process.h"
#include "os/thread.h"
#include "os/title.h"
#include "server/acl.h"
#include "server/check_system.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/life.h"
#include "server/persistence.h"
#include "server/quorum.h"
#include "server/replication.h"
#include "server/server.h"

/* How often a signal that has come is looked for. */
#define SIGNAL_INTERVAL_MS 50

static volatile sig_atomic_t signal_received;
static volatile sig_atomic_t is_loading;
static bool signal_handled; /* what signal_received says is being done */

static void on_signal(int number)
{
    if (is_loading)
        _exit(0); /* there is nothing to save, and nothing on disk that was begun */
    if (signal_received != 0 && number == SIGINT)
        _exit(1); /* asked for twice: do not wait for replicas or the save */
    signal_received = number;
}

static void install_signals(void)
{
    struct sigaction action = {0};
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_signal;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

static int64_t check_signal(void *ctx)
{
    struct server *s = ctx;
    int number = signal_received;
    if (number == 0 || s->stopping)
        return SIGNAL_INTERVAL_MS;
    /* It is kept while replicas are waited for, so that SIGINT then ends the wait; and forgotten
     * when that was given up. */
    if (signal_handled) {
        if (!s->shutdown.waiting) {
            signal_received = 0;
            signal_handled = false;
        }
        return SIGNAL_INTERVAL_MS;
    }
    log_warning("Received %s, shutting down", number == SIGINT ? "SIGINT" : "SIGTERM");
    int bits = number == SIGINT ? s->config->shutdown_on_sigint : s->config->shutdown_on_sigterm;
    signal_handled = true;
    shutdown_begin(s, bits);
    return SIGNAL_INTERVAL_MS;
}

static void print_version(void)
{
    printf("Holdfast server v=%s redis=%s malloc=%s bits=%zu\n", HF_VERSION, SERVER_REDIS_VERSION,
           mem_allocator_name(), 8 * sizeof(void *));
}

static void print_help(FILE *out)
{
    fputs("Usage: holdfast-server [FILE] [--NAME VALUE...]... [-]\n"
          "\n"
          "  FILE            a configuration file, as of redis-server (redis.conf)\n"
          "  --NAME VALUE... a directive, as it would stand in the file; goes before the file\n"
          "  -               read a configuration from standard input (first or last argument)\n"
          "  --check-system  first: look at the machine and the data directory for what would\n"
          "                  hurt, say what to do, and exit (1: something would)\n"
          "  -v, --version   print the version\n"
          "  -h, --help      print this\n"
          "\n"
          "Without any the server listens on port 6379 and keeps its data in the current\n"
          "directory. Without a FILE or - the log is on (appendonly yes, appendfsync everysec);\n"
          "with one redis-server's defaults hold.\n"
          "\n"
          "For one start:\n"
          "  --recover-until LSN|MS|DATE  replay the log up to there and go on from there; what\n"
          "                               the log was is kept in a directory beside\n"
          "\n"
          "Examples:\n"
          "  holdfast-server /etc/holdfast.conf\n"
          "  holdfast-server --port 7777 --dir /var/lib/holdfast --save 900 1\n"
          "  echo 'maxclients 100' | holdfast-server - --loglevel verbose\n",
          out);
}

static bool write_pidfile(const char *path)
{
    char text[32];
    struct error err;
    int n = snprintf(text, sizeof(text), "%d\n", os_process_id());
    if (os_file_replace(path, text, (size_t)n, &err))
        return true;
    log_warning("The pid file could not be written: %s", err.message);
    return false;
}

/* Everything between the configuration and the end. */
static int serve(struct config *config)
{
    int status = 1;
    struct server *s = server_new(config);
    persistence_init(s);
    life_supervise(s);
    char socket_error[SOCKET_ERROR_SIZE];
    struct error err = {0};
    const char *pidfile = config->pidfile;
    if (pidfile[0] == '\0' && config->daemonize)
        pidfile = "/var/run/redis.pid";
    bool pid_written = false;
    if (!acl_start(s, &err)) {
        log_warning("The users could not be loaded: %s", err.message);
        goto done;
    }
    if (!server_listen(s, socket_error)) {
        log_warning("%s", socket_error);
        goto done;
    }
    if (!life_apply_oom_score(config, &err))
        log_warning("%s", err.message);
    if (pidfile[0] != '\0')
        pid_written = write_pidfile(pidfile);
    s->startup_memory = mem_used();
    is_loading = true;
    bool loaded = persistence_load(s, &err);
    is_loading = false;
    if (!loaded) {
        log_warning("The data could not be loaded: %s", err.message);
        if (err.code == ERROR_CORRUPT || err.code == ERROR_TRUNCATED || err.code == ERROR_NOT_FOUND)
            log_warning(
                "Nothing was changed on disk. `holdfast check` on the data directory says what "
                "is damaged, and up to where all is good");
        goto done;
    }
    const struct recovery_result *found = &s->persistence->recovered;
    const struct durability_position at = {
        .manifest = &found->manifest,
        .lsn = found->lsn,
        .chain = found->crc,
        .history = found->history,
        .commands = found->log_commands,
        .command_bytes = found->log_bytes,
        .db = config->replicaof_host[0] != '\0' ? found->stream_db : 0,
        .own = found->own || config->replicaof_host[0] == '\0',
        .cut = found->uncut[0] != '\0' ? found->uncut : NULL,
        .cut_at = found->uncut_at,
        .no_base = found->no_base.code != ERROR_NONE ? found->no_base.message : NULL,
    };
    /* Told to stop while it loaded, it has not got the data: the log stays as it is. */
    if (config->appendonly && !s->stopping && !durability_start(s, &at, &err)) {
        log_warning("The log could not be started: %s", err.message);
        goto done;
    }
    replication_start(s, found);
    if (!quorum_start(s, &err)) {
        log_warning("%s", err.message);
        goto done;
    }
    config->apply_ctx = s;
    loop_add_timer(s->loop, SIGNAL_INTERVAL_MS, check_signal, s);
    log_notice("Ready to accept connections");
    life_ready(s);
    status = server_run(s);
    life_stopping(s, "Exiting");

done:;
    bool hangs;
    if (!durability_end(s, &hangs) && status == 0)
        status = 1;
    if (pid_written)
        os_unlink(pidfile, &err);
    life_end();
    if (hangs) {
        log_warning("Exiting without waiting any longer for the disk");
        _exit(status);
    }
    if (status == 0)
        log_notice("Holdfast is ready to exit, bye bye...");
    persistence_deinit(s);
    server_free(s);
    return status;
}

int main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "-v") == 0 || strcmp(argv[1], "--version") == 0)) {
        print_version();
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        print_help(stdout);
        return 0;
    }
    title_init(argc, argv);
    bool check_only = argc > 1 && strcmp(argv[1], "--check-system") == 0;
    if (check_only) {
        argv[1] = argv[0];
        argv++;
        argc--;
    }
    mem_thread_begin();
    hash_key_init(NULL);
    struct config config;
    struct config_error config_error;
    config_init(&config);
    if (!config_load_args(&config, argc, argv, &config_error)) {
        config_print_error(&config_error);
        config_deinit(&config);
        return 1;
    }
    if (config.hash_seed[0] != '\0')
        hash_key_from_seed(config.hash_seed, strlen(config.hash_seed));
    if (check_only) {
        struct text report = {0};
        bool well = check_system(&config, &report);
        fputs(text_cstr(&report), stdout);
        text_free(&report);
        config_deinit(&config);
        mem_thread_end();
        return well ? 0 : 1;
    }
    log_set_level((enum log_level)config.loglevel);
    log_set_format((enum log_format)config.log_format, (enum log_time)config.log_timestamp_format);
    struct error err = {0};
    if (!life_apply_title(&config, &err) || !log_file_open(config.logfile, &err) ||
        (config.daemonize && !os_daemonize(&err))) {
        fprintf(stderr, "%s\n", err.message);
        config_deinit(&config);
        return 1;
    }
    install_signals();
    life_begin(&config);
    life_apply_huge_pages(&config);
    os_thread_run_idle(mem_start_purging);
    log_notice("Holdfast %s is starting, process %d, %s", HF_VERSION, os_process_id(),
               config.file ? config.file : "no configuration file");
    config_log_warnings(&config);
    log_set_role('M');
    int status = serve(&config);
    log_set_second_sink(NULL);
    config_deinit(&config);
    command_rename_undo();
    mem_thread_end();
    return status;
}
