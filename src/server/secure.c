/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/secure.h"

#include <errno.h>

#include "base/log.h"
#include "server/acl.h"
#include "server/config.h"

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

bool secure_configure(struct server *s, char error[TLS_ERROR_SIZE])
{
    const struct config *c = s->config;
    struct tls_context *context = NULL, *client = NULL;
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

void secure_deinit(struct server *s)
{
    tls_context_free(s->tls);
    tls_context_free(s->tls_client);
    s->tls = s->tls_client = NULL;
}

bool secure_concerns(const char *name)
{
    static const char *const names[] = {
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
