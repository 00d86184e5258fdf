/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/secure.h"

#include <errno.h>

#include "base/log.h"
#include "os/file.h"
#include "server/acl.h"
#include "server/config.h"

/* How often the clock is looked at for tls-auto-reload-interval. */
#define WATCH_MS 1000

/* The values of tls-auth-clients-user. */
enum { USER_BY_COMMON_NAME, USER_BY_URI, USER_OFF };

/* Of tls-port, or of connections to other servers: with the client's certificate, if there is
 * one. */
static struct tls_context *make(const struct config *c, bool client, char error[TLS_ERROR_SIZE])
{
    bool own = client && c->tls_client_cert_file[0] != '\0';
    const struct tls_options options = {
        .client = client,
        .cert_file = own ? c->tls_client_cert_file : c->tls_cert_file,
        .key_file = own ? c->tls_client_key_file : c->tls_key_file,
        .key_file_pass = own ? c->tls_client_key_file_pass : c->tls_key_file_pass,
        .ca_cert_file = c->tls_ca_cert_file,
        .ca_cert_dir = c->tls_ca_cert_dir,
        .peer_names = c->tls_expected_peer_name,
        .protocols = c->tls_protocols,
        .ciphers = c->tls_ciphers,
        .ciphersuites = c->tls_ciphersuites,
        .dh_params_file = client ? "" : c->tls_dh_params_file,
        .auth_clients = (enum tls_client_auth)c->tls_auth_clients,
        .prefer_server_ciphers = c->tls_prefer_server_ciphers,
        .session_caching = c->tls_session_caching,
        .session_cache_size = c->tls_session_cache_size,
        .session_cache_timeout_s = c->tls_session_cache_timeout,
    };
    return tls_context_new(&options, error);
}

static uint64_t files_fingerprint(const struct config *c)
{
    const char *const names[] = {c->tls_cert_file,        c->tls_key_file,
                                 c->tls_client_cert_file, c->tls_client_key_file,
                                 c->tls_ca_cert_file,     c->tls_ca_cert_dir,
                                 c->tls_dh_params_file};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint64_t one = names[i][0] != '\0' ? os_file_fingerprint(names[i]) : 0;
        sum = (sum ^ one) * 0x9e3779b97f4a7c15U + i;
    }
    return sum;
}

bool secure_configure(struct server *s, char error[TLS_ERROR_SIZE])
{
    const struct config *c = s->config;
    struct tls_context *context = NULL, *client = NULL;
    /* Before they are read: what changes meanwhile is seen the next time. */
    s->tls_files = files_fingerprint(c);
    if (c->tls_port != 0 && (context = make(c, false, error)) == NULL)
        return false;
    if ((c->tls_replication || c->tls_cluster) && (client = make(c, true, error)) == NULL) {
        tls_context_free(context);
        return false;
    }
    tls_context_free(s->tls);
    tls_context_free(s->tls_client);
    s->tls = context;
    s->tls_client = client;
    return true;
}

static int64_t watch(void *ctx)
{
    struct server *s = ctx;
    int64_t interval_us = s->config->tls_auto_reload_interval * 1000000;
    char why[TLS_ERROR_SIZE];
    if ((s->tls == NULL && s->tls_client == NULL) || interval_us == 0 ||
        s->now_us - s->tls_watched_us < interval_us)
        return WATCH_MS;
    s->tls_watched_us = s->now_us;
    if (files_fingerprint(s->config) == s->tls_files)
        return WATCH_MS;
    /* Half of a new pair does not fit the other half: the one that is there stays until it does. */
    if (secure_configure(s, why))
        log_notice("TLS: files have changed, new connections get what stands in them");
    else
        log_warning("TLS: files have changed, but cannot be used: %s", why);
    return WATCH_MS;
}

void secure_watch(struct server *s)
{
    loop_add_timer(s->loop, WATCH_MS, watch, s);
}

bool secure_check_names(const char *names, struct error *err)
{
    if (strpbrk(names, "\t\n\v\f\r") != NULL)
        return error_set(err, ERROR_INVALID,
                         "tls-expected-peer-name has whitespace other than spaces between names");
    if (names[0] != '\0' && names[strspn(names, " ")] == '\0')
        return error_set(err, ERROR_INVALID,
                         "tls-expected-peer-name needs at least one name, or is empty for none");
    return true;
}

void secure_deinit(struct server *s)
{
    tls_context_free(s->tls);
    tls_context_free(s->tls_client);
    s->tls = s->tls_client = NULL;
}

bool secure_concerns(const char *name)
{
    static const char *const names[] = {
        "tls-expected-peer-name",
        "tls-replication",   "tls-cluster",         "tls-client-cert-file",
        "tls-client-key-file", "tls-client-key-file-pass",
        "tls-port",          "tls-cert-file",       "tls-key-file",
        "tls-key-file-pass", "tls-ca-cert-file",    "tls-ca-cert-dir",
        "tls-protocols",     "tls-ciphers",         "tls-ciphersuites",
        "tls-auth-clients",  "tls-dh-params-file",  "tls-prefer-server-ciphers",
        "tls-session-caching", "tls-session-cache-size", "tls-session-cache-timeout"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0)
            return true;
    }
    return false;
}

bool secure_accept(struct client *c)
{
    struct tls *tls = c->server->tls != NULL ? tls_new(c->server->tls, c->io.source.fd) : NULL;
    if (tls == NULL)
        return false;
    connection_set_tls(&c->io, tls);
    return true;
}

/* True: there is such a user, who is on; the client is it from now on. */
static bool become(struct client *c, const char *name)
{
    struct acl_user *u = acl_find(c->server->acl, slice_cstr(name));
    if (u == NULL || !acl_user_is_on(u))
        return false;
    acl_become(c, u);
    log_verbose("TLS: id=%llu addr=%s is user %s by its certificate", (unsigned long long)c->id,
                client_peer(c), name);
    return true;
}

static void become_by_certificate(struct client *c)
{
    char name[512];
    switch (c->server->config->tls_auth_clients_user) {
    case USER_BY_COMMON_NAME:
        if (tls_peer_common_name(c->io.tls, name, sizeof(name)))
            become(c, name);
        break;
    case USER_BY_URI:
        for (int i = 0; tls_peer_uri(c->io.tls, i, name, sizeof(name)); i++) {
            if (become(c, name))
                break;
        }
        break;
    default:
        break;
    }
}

bool secure_ready(struct client *c, uint32_t *events)
{
    if (c->io.tls_established) {
        *events = connection_tls_events(&c->io, *events);
        return true;
    }
    switch (connection_handshake(&c->io)) {
    case CONNECTION_AGAIN:
        return false;
    case CONNECTION_END:
        log_verbose("TLS: addr=%s closed the connection during the handshake", client_peer(c));
        client_close(c);
        return false;
    case CONNECTION_FAILED:
        log_notice("TLS: error accepting a connection: %s (addr=%s)", tls_error(c->io.tls),
                   client_peer(c));
        client_close(c);
        return false;
    case CONNECTION_OK:
        break;
    }
    become_by_certificate(c);
    client_admit(c);
    /* The first request may have come with the end of the handshake. */
    *events = EPOLLIN;
    return c->io.tls_pending;
}

bool secure_handshake_is_late(const struct client *c)
{
    return c->io.tls != NULL && !c->io.tls_established &&
           c->server->now_us - c->created_us > SECURE_HANDSHAKE_S * INT64_C(1000000);
}

void secure_note_pending(struct client *c)
{
    if (c->tls_listed)
        return;
    c->tls_listed = true;
    c->next_tls = c->server->clients.tls_pending;
    c->server->clients.tls_pending = c;
}

void secure_read_pending(struct server *s)
{
    struct client *c = s->clients.tls_pending;
    s->clients.tls_pending = NULL;
    for (struct client *next; c != NULL; c = next) {
        next = c->next_tls;
        c->tls_listed = false;
        c->io.source.on_ready(&c->io.source, EPOLLIN);
    }
}

void secure_forget(struct client *c)
{
    if (!c->tls_listed)
        return;
    struct client **at = &c->server->clients.tls_pending;
    while (*at != c)
        at = &(*at)->next_tls;
    *at = c->next_tls;
    c->tls_listed = false;
}
