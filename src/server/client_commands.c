/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CLIENT and its subcommands.
 */
#include "base/number.h"
#include "command/help.h"
#include "handlers.h"
#include "server/client.h"
#include "server/client_filter.h"
#include "server/config.h"

void cmd_client_id(struct call *c)
{
    reply_int(c->reply, (int64_t)c->client->id);
}

void cmd_client_getname(struct call *c)
{
    if (c->client->name != NULL)
        reply_bulk_cstr(c->reply, c->client->name);
    else
        reply_null(c->reply);
}

void cmd_client_setname(struct call *c)
{
    if (client_set_name(c, c->argv[2]))
        reply_ok(c->reply);
}

void cmd_client_setinfo(struct call *c)
{
    struct slice attribute = c->argv[2], value = c->argv[3];
    char **place;
    if (slice_is(attribute, "lib-name")) {
        place = &c->client->lib_name;
    } else if (slice_is(attribute, "lib-ver")) {
        place = &c->client->lib_version;
    } else {
        reply_errorf(c->reply, "ERR Unrecognized option '%.*s'", (int)attribute.size,
                     attribute.data);
        return;
    }
    if (!client_text_is_valid(value)) {
        reply_errorf(c->reply, "ERR %.*s cannot contain spaces, newlines or special characters.",
                     (int)attribute.size, attribute.data);
        return;
    }
    client_set_text(place, value);
    reply_ok(c->reply);
}

void cmd_client_info(struct call *c)
{
    struct text out = {0};
    client_describe(c->client, &out);
    text_append_cstr(&out, "\n");
    reply_verbatim(c->reply, text_slice(&out), "txt");
    text_free(&out);
}

static void list_client(struct client *p, struct text *out)
{
    client_describe(p, out);
    text_append_cstr(out, "\n");
}

void cmd_client_list(struct call *c)
{
    struct client_filter f = {0};
    struct text out = {0};
    int ids;
    if (!client_filter_parse(c, &f, false))
        return;
    if (client_filter_is_ids(&f, &ids)) {
        /* In the order in which they were asked for. */
        for (int i = 3; i < 3 + ids; i++) {
            int64_t id = 0;
            number_parse_int64(c->argv[i], &id);
            struct client *p = client_find(c->server, (uint64_t)id);
            if (p != NULL)
                list_client(p, &out);
        }
    } else {
        for (struct client *p = c->server->clients.first; p != NULL; p = p->next) {
            if (client_filter_passes(&f, p, c->client))
                list_client(p, &out);
        }
    }
    client_filter_deinit(&f);
    reply_verbatim(c->reply, text_slice(&out), "txt");
    text_free(&out);
}

static bool is_meant(struct call *c, const struct client_filter *f, struct client *p)
{
    /* CLIENT KILL ip:port is older than the filters. */
    if (c->argc == 3)
        return slice_equal(c->argv[2], slice_cstr(client_peer(p)));
    return client_filter_passes(f, p, c->client);
}

void cmd_client_kill(struct call *c)
{
    struct client_filter f = {0};
    int64_t killed = 0;
    bool self = false;
    if (c->argc != 3 && !client_filter_parse(c, &f, true))
        return;
    for (struct client *p = c->server->clients.first; p != NULL; p = p->next) {
        if (p->flags & CLIENT_CLOSING || !is_meant(c, &f, p))
            continue;
        if (p == c->client)
            self = true;
        else
            client_close(p);
        killed++;
    }
    client_filter_deinit(&f);
    if (c->argc != 3)
        reply_int(c->reply, killed);
    else if (killed != 0)
        reply_ok(c->reply);
    else
        reply_error(c->reply, "ERR No such client");
    if (self)
        client_close_after_reply(c->client);
}

/* ON or OFF sets or clears the flag; anything else is a syntax error. */
static void switch_flag(struct call *c, uint32_t flag)
{
    if (slice_is(c->argv[2], "on")) {
        c->client->flags |= flag;
    } else if (slice_is(c->argv[2], "off")) {
        c->client->flags &= ~flag;
    } else {
        reply_syntax_error(c->reply);
        return;
    }
    reply_ok(c->reply);
}

void cmd_client_no_evict(struct call *c)
{
    switch_flag(c, CLIENT_NO_EVICT);
}

void cmd_client_no_touch(struct call *c)
{
    switch_flag(c, CLIENT_NO_TOUCH);
}

void cmd_client_import_source(struct call *c)
{
    if (!c->server->config->import_mode)
        reply_error(c->reply, "ERR Server is not in import mode");
    else
        switch_flag(c, CLIENT_IMPORTS);
}

/* What this server knows nothing of is passed over. */
void cmd_client_capa(struct call *c)
{
    for (int i = 2; i < c->argc; i++) {
        if (slice_is(c->argv[i], "redirect"))
            c->client->flags |= CLIENT_REDIRECTS;
    }
    reply_ok(c->reply);
}

void cmd_client_pause(struct call *c)
{
    bool all = true;
    int64_t timeout;
    if (c->argc == 4) {
        if (slice_is(c->argv[3], "write")) {
            all = false;
        } else if (!slice_is(c->argv[3], "all")) {
            reply_error(c->reply, "ERR CLIENT PAUSE mode must be WRITE or ALL");
            return;
        }
    } else if (c->argc > 4) {
        reply_error(c->reply, "ERR unknown subcommand or wrong number of arguments for '"
                              "pause'. Try CLIENT HELP.");
        return;
    }
    if (!call_int64(c, c->argv[2], &timeout, "ERR timeout is not an integer or out of range"))
        return;
    if (timeout < 0) {
        reply_error(c->reply, "ERR timeout is negative");
        return;
    }
    if (timeout > INT64_MAX - c->now_ms) {
        reply_error(c->reply, "ERR timeout is out of range");
        return;
    }
    server_pause(c->server, c->now_ms + timeout, all);
    reply_ok(c->reply);
}

void cmd_client_unpause(struct call *c)
{
    server_unpause(c->server);
    reply_ok(c->reply);
}

void cmd_client_reply(struct call *c)
{
    struct client *client = c->client;
    if (slice_is(c->argv[2], "on")) {
        client->flags &= ~(uint32_t)(CLIENT_REPLY_SKIP | CLIENT_REPLY_OFF);
        /* This command's own reply is to be seen already. */
        client->reply.out = &client->io.out;
        client->reply.muted = false;
        reply_ok(c->reply);
    } else if (slice_is(c->argv[2], "off")) {
        client->flags |= CLIENT_REPLY_OFF;
    } else if (slice_is(c->argv[2], "skip")) {
        if (!(client->flags & CLIENT_REPLY_OFF))
            client->flags |= CLIENT_REPLY_SKIP_NEXT;
    } else {
        reply_syntax_error(c->reply);
    }
}

void cmd_client_help(struct call *c)
{
    static const char *const lines[] = {
        "CAPA <capability> [...]",
        "    What the client can do. redirect: go to the primary when a replica says -REDIRECT.",
        "GETNAME",
        "    The name of this connection.",
        "ID",
        "    The number of this connection.",
        "IMPORT-SOURCE ON|OFF",
        "    Whether this connection sees keys that have expired, while import-mode is on.",
        "INFO",
        "    What CLIENT LIST says of this connection.",
        "KILL <ip:port>",
        "    Close the connection from this address.",
        "KILL <option> <value> [...]",
        "    Close the connections that pass all of: ADDR <ip:port>, LADDR <ip:port>, ID <id>,",
        "    TYPE NORMAL|MASTER|REPLICA|PUBSUB, USER <name>, MAXAGE <seconds>, SKIPME YES|NO.",
        "LIST [TYPE <type> | ID <id> ...]",
        "    One line for each connection.",
        "NO-EVICT ON|OFF",
        "    Whether this connection may not be closed to save memory.",
        "NO-TOUCH ON|OFF",
        "    Whether reads of this connection leave the access clocks alone.",
        "PAUSE <milliseconds> [WRITE|ALL]",
        "    Put off all commands, or those that may write.",
        "REPLY ON|OFF|SKIP",
        "    Whether this connection gets replies.",
        "SETINFO LIB-NAME|LIB-VER <value>",
        "    What library the client uses.",
        "SETNAME <name>",
        "    Name this connection.",
        "UNBLOCK <id> [TIMEOUT|ERROR]",
        "    End a connection's waiting as if the time were over, or by an error.",
        "CACHING YES|NO",
        "    Whether the keys of the next command are tracked, in OPTIN or OPTOUT mode.",
        "GETREDIR",
        "    Where the messages about changed keys go.",
        "TRACKING ON|OFF [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
        "    Whether this connection is told of changes of the keys that it has read.",
        "TRACKINGINFO",
        "    How it is told of them.",
        "UNPAUSE",
        "    End a pause.",
    };
    reply_help(c, "CLIENT", lines, sizeof(lines) / sizeof(lines[0]));
}
