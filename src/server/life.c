/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/life.h"

#include <stdio.h>

#include "base/log.h"
#include "command/table.h"
#include "os/crash.h"
#include "os/process.h"
#include "os/service.h"
#include "os/title.h"
#include "persist/log/stream.h"
#include "server/client.h"
#include "server/durability.h"
#include "server/persistence.h"

/* How often a load is told of, and how much longer each time it may take. */
#define LOAD_NOTE_MS 1000
#define LOAD_EXTENSION_US 60000000
#define OOM_SCORE_LOWEST (-1000)
#define OOM_SCORE_HIGHEST 1000
/* Of a command's arguments a crash report has so many, and so much of each. */
#define REPORT_ARGUMENTS 16
#define REPORT_ARGUMENT_BYTES 128

static struct server *crash_server; /* whose state a report tells; NULL: none */
static enum supervised supervisor = SUPERVISED_NO;

/* ---- the report of a crash: async-signal-safe, and may see anything half done ---- */

static void tell_command(int fd, const struct server *s)
{
    const struct client *c = s->executing;
    const struct command *command = c->last_command;
    crash_put(fd, "Client: id ");
    crash_put_number(fd, c->id);
    crash_put(fd, ", database ");
    crash_put_number(fd, c->db != NULL ? (uint64_t)c->db->id : 0);
    crash_put(fd, c->peer != NULL ? ", " : "");
    crash_put(fd, c->peer != NULL ? c->peer : "");
    crash_put(fd, "\nCommand: ");
    crash_put(fd, command != NULL ? command->full_name : "none");
    /* A client that is served while another's command runs has none of its own. */
    const struct call *call = s->executing_call;
    if (call != NULL && call->client != c)
        call = NULL;
    if (call != NULL) {
        crash_put(fd, ", ");
        crash_put_number(fd, (uint64_t)call->argc);
        crash_put(fd, " arguments with its name");
    }
    crash_put(fd, "\n");
    bool secret = command == NULL || command->flags & COMMAND_NO_AUTH ||
                  strncmp(command->full_name, "config", 6) == 0 ||
                  strncmp(command->full_name, "acl", 3) == 0 ||
                  strcmp(command->full_name, "migrate") == 0;
    if (call == NULL || s->config->hide_user_data_from_log || secret)
        return;
    for (int i = 0; i < call->argc && i < REPORT_ARGUMENTS; i++) {
        struct slice a = call->argv[i];
        crash_put(fd, "  ");
        crash_put_number(fd, (uint64_t)i);
        crash_put(fd, ": ");
        crash_put_bytes(fd, a.data,
                        a.size < REPORT_ARGUMENT_BYTES ? a.size : REPORT_ARGUMENT_BYTES);
        crash_put(fd, a.size > REPORT_ARGUMENT_BYTES ? "...\n" : "\n");
    }
}

static void tell_log(int fd, const struct durability *d)
{
    static const char *const names[] = {"off", "starting", "on", "closing", "failed"};
    crash_put(fd, "Log: ");
    crash_put(fd, names[d->state]);
    if (d->writer != NULL && d->server->stream != NULL) {
        crash_put(fd, ", end ");
        crash_put_number(fd, stream_end(d->server->stream));
        crash_put(fd, ", written ");
        crash_put_number(fd, writer_written_lsn(d->writer));
        crash_put(fd, ", durable ");
        crash_put_number(fd, writer_durable_lsn(d->writer));
    }
    crash_put(fd, "\n");
}

static void tell_server(int fd)
{
    const struct server *s = crash_server;
    crash_put(fd, "--- server ---\n");
    if (s == NULL) {
        crash_put(fd, "Not running yet, or not any more\n");
        return;
    }
    crash_put(fd, s->loading ? "Loading\n" : "");
    crash_put(fd, "Clients: ");
    crash_put_number(fd, s->clients.count);
    crash_put(fd, ", commands so far: ");
    crash_put_number(fd, s->stats.commands_processed);
    crash_put(fd, "\n");
    if (s->durability != NULL)
        tell_log(fd, s->durability);
    if (s->executing != NULL)
        tell_command(fd, s);
    else
        crash_put(fd, "Between commands\n");
}

void life_begin(const struct config *config)
{
    crash_install(HF_VERSION, tell_server);
    crash_set_enabled(config->crash_log_enabled);
    crash_set_exit(config->use_exit_on_panic);
    if (config->syslog_enabled) {
        static const char *const facilities[] = {"user",   "local0", "local1", "local2", "local3",
                                                 "local4", "local5", "local6", "local7"};
        service_syslog_open(config->syslog_ident, facilities[config->syslog_facility]);
    }
}

/* ---- the supervisor ---- */

static int64_t tell_loading(void *ctx)
{
    struct server *s = ctx;
    if (!s->loading)
        return 0;
    const struct loading *l = &s->persistence->loading;
    char text[160];
    snprintf(text, sizeof(text),
             "STATUS=Loading: %.1f %%, about %lld s to go\nEXTEND_TIMEOUT_USEC=%d",
             l->size > 0 ? 100 * (double)l->done / (double)l->size : 0.0,
             (long long)loading_eta_s(l), LOAD_EXTENSION_US);
    service_systemd_notify(text);
    return LOAD_NOTE_MS;
}

static int64_t watchdog(void *ctx)
{
    (void)ctx;
    service_systemd_notify("WATCHDOG=1");
    int64_t ms = service_watchdog_interval_us() / 1000;
    return ms > 0 ? ms : 1;
}

void life_supervise(struct server *s)
{
    int wanted = s->config->supervised;
    crash_server = s;
    supervisor = SUPERVISED_NO;
    if (wanted == SUPERVISED_SYSTEMD || wanted == SUPERVISED_AUTO) {
        if (service_systemd_present())
            supervisor = SUPERVISED_SYSTEMD;
        else if (wanted == SUPERVISED_SYSTEMD)
            log_warning("'supervised systemd', but NOTIFY_SOCKET names no socket");
    }
    if (supervisor == SUPERVISED_NO &&
        (wanted == SUPERVISED_UPSTART || wanted == SUPERVISED_AUTO)) {
        if (service_upstart_present())
            supervisor = SUPERVISED_UPSTART;
        else if (wanted == SUPERVISED_UPSTART)
            log_warning("'supervised upstart', but UPSTART_JOB is not set");
    }
    if (supervisor != SUPERVISED_SYSTEMD)
        return;
    char text[96];
    snprintf(text, sizeof(text), "STATUS=Loading\nEXTEND_TIMEOUT_USEC=%d", LOAD_EXTENSION_US);
    service_systemd_notify(text);
    loop_add_timer(s->loop, LOAD_NOTE_MS, tell_loading, s);
    if (service_watchdog_interval_us() > 0)
        loop_add_timer(s->loop, 1, watchdog, NULL);
}

void life_ready(struct server *s)
{
    (void)s;
    if (supervisor == SUPERVISED_SYSTEMD && !service_systemd_notify("READY=1\nSTATUS=Ready"))
        log_warning("The service manager could not be told that the server is ready");
    if (supervisor == SUPERVISED_UPSTART)
        service_upstart_ready();
}

void life_stopping(struct server *s, const char *status)
{
    char text[128];
    (void)s;
    snprintf(text, sizeof(text), "STOPPING=1\nSTATUS=%s", status);
    if (supervisor == SUPERVISED_SYSTEMD)
        service_systemd_notify(text);
}

void life_end(void)
{
    crash_server = NULL;
}

const char *life_supervisor(void)
{
    return supervisor == SUPERVISED_SYSTEMD   ? "systemd"
           : supervisor == SUPERVISED_UPSTART ? "upstart"
                                              : "no";
}

/* ---- whom the kernel kills ---- */

bool life_apply_oom_score(const struct config *config, struct error *err)
{
    static bool known, changed;
    static int before;
    int how = config->oom_score_adj, score;
    if (how == OOM_SCORE_NO && !changed)
        return true;
    if (!known && !service_oom_score_get(&before, err))
        return error_prefix(err, "Failed to apply new oom_score_adj configuration: ");
    known = true;
    score = before;
    if (how != OOM_SCORE_NO)
        score = config->oom_values[0] + (how == OOM_SCORE_ABSOLUTE ? 0 : before);
    if (score < OOM_SCORE_LOWEST)
        score = OOM_SCORE_LOWEST;
    if (score > OOM_SCORE_HIGHEST)
        score = OOM_SCORE_HIGHEST;
    if (!service_oom_score_set(score, err))
        return error_prefix(err, "Failed to apply new oom_score_adj configuration: ");
    changed = how != OOM_SCORE_NO;
    return true;
}

/* ---- what ps shows ---- */

/* Where clients reach the server: the first of the addresses. */
static void append_listen_address(struct text *out, const struct config *c)
{
    int64_t port = c->tls_port != 0 ? c->tls_port : c->port;
    if (port == 0)
        text_appendf(out, "unixsocket:%s", c->unixsocket);
    else
        text_appendf(out, "%s:%lld", c->bind_count > 0 ? c->bind[0] : "*", (long long)port);
}

static bool append_variable(struct text *out, const struct config *c, struct slice name)
{
    if (slice_equal(name, SLICE("title")))
        text_append_cstr(out, title_program());
    else if (slice_equal(name, SLICE("listen-addr")))
        append_listen_address(out, c);
    else if (slice_equal(name, SLICE("port")))
        text_appendf(out, "%lld", (long long)c->port);
    else if (slice_equal(name, SLICE("tls-port")))
        text_appendf(out, "%lld", (long long)c->tls_port);
    else if (slice_equal(name, SLICE("unixsocket")))
        text_append_cstr(out, c->unixsocket);
    else if (slice_equal(name, SLICE("config-file")))
        text_append_cstr(out, c->file != NULL ? c->file : "");
    else
        return slice_equal(name, SLICE("server-mode")); /* neither a cluster's nor a Sentinel */
    return true;
}

static bool make_title(struct text *out, const struct config *c)
{
    for (const char *at = c->proc_title_template; *at != '\0';) {
        size_t plain = strcspn(at, "{");
        text_append(out, at, plain);
        at += plain;
        if (*at == '\0')
            break;
        const char *end = strchr(at, '}');
        if (end == NULL || !append_variable(out, c, slice_of(at + 1, (size_t)(end - at - 1))))
            return false;
        at = end + 1;
    }
    return true;
}

bool life_apply_title(const struct config *config, struct error *err)
{
    struct text title = {0};
    bool ok = make_title(&title, config);
    size_t size = title.size;
    while (size > 0 && title.data[size - 1] == ' ')
        size--;
    if (ok && config->set_proc_title) {
        char *text = mem_dup(title.data, size);
        title_set(text);
        mem_free(text);
    }
    text_free(&title);
    return ok || error_set(err, ERROR_INVALID,
                           "template format is invalid or contains unknown variables");
}

/* ---- huge pages ---- */

void life_apply_huge_pages(const struct config *config)
{
    if (config->disable_thp && !os_huge_pages_by_advice_only())
        log_warning("disable-thp: the system does not let the process do without huge pages");
}
