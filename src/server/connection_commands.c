/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The commands of a connection: PING, ECHO, SELECT, QUIT, RESET, AUTH and HELLO.
 */
#include "base/number.h"
#include "handlers.h"
#include "server/acl.h"
#include "server/client.h"
#include "server/config.h"

static const char wrong_password[] =
    "WRONGPASS invalid username-password pair or user is disabled.";

void cmd_ping(struct call *c)
{
    if (c->argc > 2) {
        reply_error(c->reply, "ERR wrong number of arguments for 'ping' command");
    } else if (c->client->flags & CLIENT_PUBSUB && c->reply->protocol == 2) {
        /* It has to look like a message. */
        reply_array(c->reply, 2);
        reply_bulk_cstr(c->reply, "pong");
        reply_bulk(c->reply, c->argc == 2 ? c->argv[1] : SLICE(""));
    } else if (c->argc == 2) {
        reply_bulk(c->reply, c->argv[1]);
    } else {
        reply_append(c->reply, SLICE("+PONG\r\n"));
    }
}

void cmd_echo(struct call *c)
{
    reply_bulk(c->reply, c->argv[1]);
}

void cmd_select(struct call *c)
{
    int64_t id;
    if (!call_int64_range(c, c->argv[1], INT32_MIN, INT32_MAX, &id, NULL))
        return;
    if (id < 0 || id >= c->ks->db_count) {
        reply_error(c->reply, "ERR DB index is out of range");
        return;
    }
    c->client->db = &c->ks->dbs[id];
    reply_ok(c->reply);
}

void cmd_quit(struct call *c)
{
    reply_ok(c->reply);
    client_close_after_reply(c->client);
}

void cmd_reset(struct call *c)
{
    client_reset(c->client);
    reply_simple(c->reply, "RESET");
}

void cmd_auth(struct call *c)
{
    if (c->argc > 3) {
        reply_syntax_error(c->reply);
        return;
    }
    struct slice user = SLICE("default");
    if (c->argc == 3) {
        user = c->argv[1];
    } else if (acl_user_is_open(acl_default_user(c->server->acl))) {
        reply_error(c->reply, "ERR AUTH <password> called without any password configured for the "
                              "default user. Are you sure your configuration is correct?");
        return;
    }
    if (acl_authenticate(c->client, c->argv[0], user, c->argv[c->argc - 1])) {
        reply_ok(c->reply);
        return;
    }
    reply_error(c->reply, wrong_password);
}

void cmd_hello(struct call *c)
{
    struct client *client = c->client;
    int64_t protocol = 0;
    int next = 1;
    if (c->argc > 1) {
        if (!number_parse_int64(c->argv[1], &protocol)) {
            reply_error(c->reply, "ERR Protocol version is not an integer or out of range");
            return;
        }
        if (protocol < 2 || protocol > 3) {
            reply_error(c->reply, "NOPROTO unsupported protocol version");
            return;
        }
        next = 2;
    }
    while (next < c->argc) {
        int left = c->argc - 1 - next;
        if (slice_is(c->argv[next], "auth") && left >= 2) {
            if (!acl_authenticate(client, c->argv[0], c->argv[next + 1], c->argv[next + 2])) {
                reply_error(c->reply, wrong_password);
                return;
            }
            next += 3;
        } else if (slice_is(c->argv[next], "setname") && left >= 1) {
            if (!client_set_name(c, c->argv[next + 1]))
                return;
            next += 2;
        } else {
            reply_errorf(c->reply, "ERR Syntax error in HELLO option '%.*s'",
                         (int)c->argv[next].size, c->argv[next].data);
            return;
        }
    }
    if (client->flags & CLIENT_UNAUTHENTICATED) {
        reply_error(c->reply,
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise "
                    "the HELLO AUTH <user> <pass> option can be used to authenticate the "
                    "client and select the RESP protocol version at the same time");
        return;
    }
    if (protocol != 0)
        client->reply.protocol = (uint8_t)protocol;
    const char *zone = c->server->config->availability_zone;
    reply_map(c->reply, zone[0] != '\0' ? 8 : 7);
    reply_bulk_cstr(c->reply, "server");
    reply_bulk_cstr(c->reply, "redis");
    reply_bulk_cstr(c->reply, "version");
    reply_bulk_cstr(c->reply, SERVER_REDIS_VERSION);
    reply_bulk_cstr(c->reply, "proto");
    reply_int(c->reply, client->reply.protocol);
    reply_bulk_cstr(c->reply, "id");
    reply_int(c->reply, (int64_t)client->id);
    reply_bulk_cstr(c->reply, "mode");
    reply_bulk_cstr(c->reply, "standalone");
    reply_bulk_cstr(c->reply, "role");
    reply_bulk_cstr(c->reply, c->server->is_replica ? "replica" : "master");
    reply_bulk_cstr(c->reply, "modules");
    reply_array(c->reply, 0);
    if (zone[0] != '\0') {
        reply_bulk_cstr(c->reply, "availability_zone");
        reply_bulk_cstr(c->reply, zone);
    }
}
