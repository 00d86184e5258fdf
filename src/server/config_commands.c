/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CONFIG, and what a changed setting means for the running server.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "command/help.h"
#include "handlers.h"
#include "server/access.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/life.h"
#include "server/metrics_listener.h"
#include "server/persistence.h"
#include "server/secure.h"
#include "server/server.h"

struct found {
    struct slice name; /* of the table or the arguments */
    struct text value;
};

struct found_list {
    struct found *items;
    size_t count, capacity;
};

static void note(void *ctx, struct slice name, struct slice value)
{
    struct found_list *list = ctx;
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 16;
        list->items = mem_realloc(list->items, list->capacity * sizeof(*list->items));
    }
    struct found *f = &list->items[list->count++];
    *f = (struct found){name, {0}};
    text_append(&f->value, value.data, value.size);
}

void cmd_config_get(struct call *c)
{
    struct found_list list = {0};
    config_get(c->server->config, c->argv + 2, c->argc - 2, note, &list);
    reply_map(c->reply, list.count);
    for (size_t i = 0; i < list.count; i++) {
        reply_bulk(c->reply, list.items[i].name);
        reply_bulk(c->reply, text_slice(&list.items[i].value));
        text_free(&list.items[i].value);
    }
    mem_free(list.items);
}

/* A directive has changed: take it over where it does not suffice that the field is read. */
static bool apply(void *ctx, const struct config *config, const char *name, struct error *err)
{
    struct server *s = ctx;
    if (strcmp(name, "tls-expected-peer-name") == 0 &&
        !secure_check_names(config->tls_expected_peer_name, err))
        return false;
    if (secure_concerns(name)) {
        char why[TLS_ERROR_SIZE];
        if (!secure_configure(s, why)) {
            log_warning("%s", why);
            return error_set(err, ERROR_SYSTEM,
                             "Unable to update TLS configuration. Check server logs.");
        }
    }
    bool bind = strcmp(name, "bind") == 0;
    bool plain_port = strcmp(name, "port") == 0, tls_port = strcmp(name, "tls-port") == 0;
    char why[SOCKET_ERROR_SIZE];
    if (((plain_port || bind) && !server_listen_again(s, false, why)) ||
        ((tls_port || bind) && !server_listen_again(s, true, why))) {
        log_warning("%s", why);
        return error_set(err, ERROR_SYSTEM,
                         bind ? "Failed to bind to specified addresses."
                              : "Unable to listen on this port. Check server logs.");
    }
    if (strncmp(name, "metrics-", 8) == 0) {
        if (!metrics_listen(s, why))
            return error_set(err, ERROR_SYSTEM, "Unable to listen for metrics: %.180s", why);
    }
    if (strcmp(name, "appendonly") == 0 && config->appendonly && !durability_may_start(s, err))
        return false;
    log_set_level((enum log_level)config->loglevel);
    log_set_format((enum log_format)config->log_format,
                   (enum log_time)config->log_timestamp_format);
    if (strncmp(name, "oom-score-adj", 13) == 0 && !life_apply_oom_score(config, err))
        return false;
    if ((strcmp(name, "proc-title-template") == 0 || bind || plain_port || tls_port) &&
        !life_apply_title(config, err))
        return false;
    server_apply_config(s);
    if (strcmp(name, "maxclients") == 0 && s->limits.maxclients < (uint64_t)config->maxclients)
        return error_set(err, ERROR_SYSTEM,
                         "The operating system is not able to handle the specified number of "
                         "clients, try with %llu",
                         (unsigned long long)s->limits.maxclients);
    snapshots_config_changed(s, name);
    persistence_update(s->persistence);
    return true;
}

void cmd_config_set(struct call *c)
{
    if (c->argc % 2) {
        reply_syntax_error(c->reply);
        return;
    }
    struct config *config = c->server->config;
    struct error err = {0};
    config->apply = apply;
    config->apply_ctx = c->server;
    bool protected_allowed = access_allowed(c, config->enable_protected_configs);
    if (config_set(config, c->argv + 2, c->argc - 2, protected_allowed, &err))
        reply_ok(c->reply);
    else
        reply_errorf(c->reply, "ERR %s", err.message);
}

void cmd_config_rewrite(struct call *c)
{
    struct error err = {0};
    if (config_rewrite(c->server->config, &err)) {
        log_notice("CONFIG REWRITE executed with success");
        reply_ok(c->reply);
    } else if (!c->server->config->file) {
        reply_errorf(c->reply, "ERR %s", err.message);
    } else {
        log_warning("CONFIG REWRITE failed: %s", err.message);
        reply_errorf(c->reply, "ERR Rewriting config file: %s", err.message);
    }
}

void cmd_config_resetstat(struct call *c)
{
    server_reset_stats(c->server);
    reply_ok(c->reply);
}

void cmd_config_help(struct call *c)
{
    static const char *const lines[] = {
        "GET <pattern> [<pattern> ...]",
        "    The settings whose names match one of the patterns, with their values.",
        "SET <name> <value> [<name> <value> ...]",
        "    Change settings: all of them, or none if one is refused.",
        "RESETSTAT",
        "    Set the statistics of INFO to zero.",
        "REWRITE",
        "    Write the present settings to the configuration file, keeping its comments.",
    };
    reply_help(c, "CONFIG", lines, sizeof(lines) / sizeof(lines[0]));
}
