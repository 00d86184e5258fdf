/* SPDX-License-Identifier: BSD-3-Clause
 *
 * ACL and its log of denials.
 */
#include <stdio.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/mem.h"
#include "command/docs.h"
#include "command/help.h"
#include "command/table.h"
#include "handlers.h"
#include "server/acl_private.h"
#include "server/config.h"
#include "server/dispatch.h"

/* Denials that are alike within this time are one entry, which counts them. */
#define LOG_ALIKE_MS 60000
#define GENPASS_BITS_MAX 4096

static bool all_channels_by_default(const struct server *s)
{
    return s->config->acl_pubsub_default == 0;
}

/* The log -------------------------------------------------------------------------------------- */

struct acl_log_entry {
    struct acl_log_entry *older;
    uint64_t id, count;
    enum acl_denial denial;
    const char *context;
    char *object, *user, *client;
    int64_t created_ms, updated_ms;
};

static void entry_free(struct acl_log_entry *e)
{
    mem_free(e->object);
    mem_free(e->user);
    mem_free(e->client);
    mem_free(e);
}

static void shorten(struct acl *a, uint64_t most)
{
    struct acl_log_entry **link = &a->log;
    for (uint64_t i = 0; i < most && *link != NULL; i++)
        link = &(*link)->older;
    struct acl_log_entry *e = *link;
    *link = NULL;
    while (e != NULL) {
        struct acl_log_entry *older = e->older;
        entry_free(e);
        a->log_count--;
        e = older;
    }
}

void acl_log_clear(struct acl *a)
{
    shorten(a, 0);
}

void acl_log(struct client *c, enum acl_denial denial, const char *context, struct slice object,
             struct slice user)
{
    struct server *s = c->server;
    struct acl *a = s->acl;
    struct text description = {0};
    client_describe(c, &description);
    char *client = mem_dup(description.data, description.size);
    text_free(&description);
    if (denial == ACL_DENIED_AUTH)
        s->stats.unauthenticated_errors++;
    for (struct acl_log_entry **link = &a->log; *link != NULL; link = &(*link)->older) {
        struct acl_log_entry *e = *link;
        if (e->denial != denial || strcmp(e->context, context) != 0 ||
            s->ks->now_ms - e->updated_ms > LOG_ALIKE_MS ||
            !slice_equal(slice_cstr(e->object), object) || !slice_equal(slice_cstr(e->user), user))
            continue;
        e->count++;
        e->updated_ms = s->ks->now_ms;
        mem_free(e->client);
        e->client = client;
        *link = e->older;
        e->older = a->log;
        a->log = e;
        return;
    }
    struct acl_log_entry *e = mem_alloc(sizeof(*e));
    *e = (struct acl_log_entry){.older = a->log,
                                .id = a->log_next_id++,
                                .count = 1,
                                .denial = denial,
                                .context = context,
                                .object = mem_dup(object.data, object.size),
                                .user = mem_dup(user.data, user.size),
                                .client = client,
                                .created_ms = s->ks->now_ms,
                                .updated_ms = s->ks->now_ms};
    a->log = e;
    a->log_count++;
    shorten(a, (uint64_t)s->config->acllog_max_len);
}

void cmd_acl_log(struct call *c)
{
    static const char *const reasons[] = {"", "command", "key", "auth", "channel"};
    struct acl *a = c->server->acl;
    int64_t count = 10;
    if (c->argc > 3) {
        reply_error(c->reply,
                    "ERR unknown subcommand or wrong number of arguments for 'LOG'. Try ACL HELP.");
        return;
    }
    if (c->argc == 3 && slice_is(c->argv[2], "reset")) {
        acl_log_clear(a);
        reply_ok(c->reply);
        return;
    }
    if (c->argc == 3 && !call_int64(c, c->argv[2], &count, NULL))
        return;
    uint64_t n = count < 0 ? 0 : (uint64_t)count < a->log_count ? (uint64_t)count : a->log_count;
    reply_array(c->reply, n);
    for (const struct acl_log_entry *e = a->log; n > 0; e = e->older, n--) {
        reply_map(c->reply, 7);
        reply_bulk_cstr(c->reply, "count");
        reply_int(c->reply, (int64_t)e->count);
        reply_bulk_cstr(c->reply, "reason");
        reply_bulk_cstr(c->reply, reasons[e->denial]);
        reply_bulk_cstr(c->reply, "context");
        reply_bulk_cstr(c->reply, e->context);
        reply_bulk_cstr(c->reply, "object");
        reply_bulk_cstr(c->reply, e->object);
        reply_bulk_cstr(c->reply, "username");
        reply_bulk_cstr(c->reply, e->user);
        reply_bulk_cstr(c->reply, "age-seconds");
        reply_double(c->reply, (double)(c->now_ms - e->created_ms) / 1000.0);
        reply_bulk_cstr(c->reply, "client-info");
        reply_bulk_cstr(c->reply, e->client);
    }
}

/* Users ---------------------------------------------------------------------------------------- */

/* Selectors may come in pieces, cut at their blanks: they are joined. False: one has no end, and
 * the error was replied. */
static bool next_rule(struct call *c, int *i, struct text *joined, struct slice *rule)
{
    *rule = c->argv[*i];
    if (rule->size == 0 || rule->data[0] != '(')
        return true;
    int first = *i;
    joined->size = 0;
    text_append(joined, rule->data, rule->size);
    while (joined->data[joined->size - 1] != ')') {
        if (++*i == c->argc) {
            reply_errorf(c->reply, "ERR Unmatched parenthesis in acl selector starting at '%.*s'.",
                         (int)c->argv[first].size, c->argv[first].data);
            return false;
        }
        text_append(joined, " ", 1);
        text_append(joined, c->argv[*i].data, c->argv[*i].size);
    }
    *rule = text_slice(joined);
    return true;
}

void cmd_acl_setuser(struct call *c)
{
    struct acl *a = c->server->acl;
    struct slice name = c->argv[2];
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '\0' || name.data[i] == ' ' ||
            (name.data[i] >= '\t' && name.data[i] <= '\r')) {
            reply_error(c->reply, "ERR Usernames can't contain spaces or null characters");
            return;
        }
    }
    /* All rules or none: they are tried on a copy. */
    struct acl_user *user = acl_find(a, name);
    bool all_channels = all_channels_by_default(c->server);
    struct acl_user *copy = user != NULL ? acl_user_copy(user) : acl_user_new(name, all_channels);
    struct text joined = {0};
    bool ok = true;
    for (int i = 3; i < c->argc && ok; i++) {
        struct slice rule;
        const char *reason;
        ok = next_rule(c, &i, &joined, &rule);
        if (ok && !acl_user_apply(copy, rule, all_channels, &reason)) {
            reply_errorf(c->reply, "ERR Error in ACL SETUSER modifier '%.*s': %s", (int)rule.size,
                         rule.data, reason);
            ok = false;
        }
    }
    text_free(&joined);
    if (!ok) {
        acl_user_free(copy);
        return;
    }
    if (user != NULL) {
        acl_user_swap(user, copy);
        acl_user_free(copy);
    } else {
        acl_add(a, copy);
    }
    acl_refresh_clients(c->server);
    reply_ok(c->reply);
}

void cmd_acl_deluser(struct call *c)
{
    struct server *s = c->server;
    int64_t removed = 0;
    for (int i = 2; i < c->argc; i++) {
        if (slice_equal(c->argv[i], SLICE("default"))) {
            reply_error(c->reply, "ERR The 'default' user cannot be removed");
            return;
        }
    }
    for (int i = 2; i < c->argc; i++) {
        struct acl_user *u = acl_find(s->acl, c->argv[i]);
        if (u == NULL)
            continue;
        for (struct client *client = s->clients.first; client != NULL; client = client->next) {
            if (client->user != u)
                continue;
            acl_become(client, NULL);
            if (client == c->client)
                client_close_after_reply(client);
            else
                client_close(client);
        }
        struct acl_user **link = &s->acl->users;
        while (*link != u)
            link = &(*link)->next;
        *link = u->next;
        acl_user_free(u);
        removed++;
    }
    acl_refresh_clients(s);
    reply_int(c->reply, removed);
}

static void reply_selector(struct call *c, const struct acl_selector *s)
{
    struct text out = {0};
    reply_bulk_cstr(c->reply, "commands");
    reply_bulk(c->reply, text_slice(&s->rules));
    reply_bulk_cstr(c->reply, "keys");
    acl_describe_keys(s, &out);
    reply_bulk(c->reply, text_slice(&out));
    out.size = 0;
    reply_bulk_cstr(c->reply, "channels");
    acl_describe_channels(s, &out);
    reply_bulk(c->reply, text_slice(&out));
    text_free(&out);
}

void cmd_acl_getuser(struct call *c)
{
    const struct acl_user *u = acl_find(c->server->acl, c->argv[2]);
    if (u == NULL) {
        reply_null(c->reply);
        return;
    }
    reply_map(c->reply, 6);
    reply_bulk_cstr(c->reply, "flags");
    reply_set(c->reply, (size_t)(1 + u->no_password + u->skip_sanitize + u->sanitize));
    reply_bulk_cstr(c->reply, u->on ? "on" : "off");
    if (u->no_password)
        reply_bulk_cstr(c->reply, "nopass");
    if (u->skip_sanitize)
        reply_bulk_cstr(c->reply, "skip-sanitize-payload");
    if (u->sanitize)
        reply_bulk_cstr(c->reply, "sanitize-payload");
    reply_bulk_cstr(c->reply, "passwords");
    reply_array(c->reply, u->password_count);
    for (size_t i = 0; i < u->password_count; i++)
        reply_bulk(c->reply, slice_of(u->passwords[i].hex, ACL_HASH_HEX));
    reply_selector(c, u->selectors);
    reply_bulk_cstr(c->reply, "selectors");
    size_t count = 0;
    for (const struct acl_selector *s = u->selectors->next; s != NULL; s = s->next)
        count++;
    reply_array(c->reply, count);
    for (const struct acl_selector *s = u->selectors->next; s != NULL; s = s->next) {
        reply_map(c->reply, 3);
        reply_selector(c, s);
    }
}

static void reply_users(struct call *c, bool described)
{
    const struct acl *a = c->server->acl;
    size_t count = 0;
    for (const struct acl_user *u = a->users; u != NULL; u = u->next)
        count++;
    reply_array(c->reply, count);
    for (const struct acl_user *u = a->users; u != NULL; u = u->next) {
        struct text out = {0};
        if (described)
            acl_describe_user(u, &out);
        else
            text_append(&out, u->name, u->name_size);
        reply_bulk(c->reply, text_slice(&out));
        text_free(&out);
    }
}

void cmd_acl_list(struct call *c)
{
    reply_users(c, true);
}

void cmd_acl_users(struct call *c)
{
    reply_users(c, false);
}

void cmd_acl_whoami(struct call *c)
{
    if (c->client->user != NULL)
        reply_bulk_cstr(c->reply, acl_user_name(c->client->user));
    else
        reply_null(c->reply);
}

static size_t reply_category(struct call *c, const struct command *command, uint64_t category)
{
    size_t count = 0;
    if (command->acl_categories & category) {
        reply_bulk_cstr(c->reply, command->full_name);
        count++;
    }
    for (int i = 0; i < command->subcommand_count; i++)
        count += reply_category(c, &command->subcommands[i], category);
    return count;
}

void cmd_acl_cat(struct call *c)
{
    size_t count = 0;
    if (c->argc > 3) {
        reply_error(c->reply,
                    "ERR unknown subcommand or wrong number of arguments for 'CAT'. Try ACL HELP.");
        return;
    }
    if (c->argc == 2) {
        struct reply_mark mark = reply_deferred_begin(c->reply);
        for (; command_acl_name((unsigned)count) != NULL; count++)
            reply_bulk_cstr(c->reply, command_acl_name((unsigned)count));
        reply_deferred_array(c->reply, mark, count);
        return;
    }
    for (unsigned k = 0; command_acl_name(k) != NULL; k++) {
        if (!slice_is(c->argv[2], command_acl_name(k)))
            continue;
        struct reply_mark mark = reply_deferred_begin(c->reply);
        for (int i = 0; command_at(i) != NULL; i++)
            count += reply_category(c, command_at(i), UINT64_C(1) << k);
        reply_deferred_array(c->reply, mark, count);
        return;
    }
    reply_errorf(c->reply, "ERR Unknown category '%.*s'", (int)c->argv[2].size, c->argv[2].data);
}

void cmd_acl_genpass(struct call *c)
{
    int64_t bits = 256;
    unsigned char bytes[GENPASS_BITS_MAX / 8];
    char hex[GENPASS_BITS_MAX / 4 + 2];
    if (c->argc > 3) {
        reply_error(
            c->reply,
            "ERR unknown subcommand or wrong number of arguments for 'GENPASS'. Try ACL HELP.");
        return;
    }
    if (c->argc == 3) {
        if (!call_int64(c, c->argv[2], &bits, NULL))
            return;
        if (bits <= 0 || bits > GENPASS_BITS_MAX) {
            reply_errorf(
                c->reply,
                "ERR ACL GENPASS argument must be the number of bits for the output password, "
                "a positive number up to %d",
                GENPASS_BITS_MAX);
            return;
        }
    }
    size_t digits = ((size_t)bits + 3) / 4, n = (digits + 1) / 2;
    if (getrandom(bytes, n, 0) != (ssize_t)n) {
        reply_error(c->reply, "ERR the system gives no random numbers");
        return;
    }
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned)bytes[i]);
    reply_bulk(c->reply, slice_of(hex, digits));
}

void cmd_acl_dryrun(struct call *c)
{
    const struct acl_user *u = acl_find(c->server->acl, c->argv[2]);
    if (u == NULL) {
        reply_errorf(c->reply, "ERR User '%.*s' not found", (int)c->argv[2].size, c->argv[2].data);
        return;
    }
    const struct slice *argv = c->argv + 3;
    int argc = c->argc - 3, at = 0;
    const struct command *command = command_find(argv[0]);
    if (command != NULL && command->subcommand_count != 0 && argc > 1)
        command = command_find_sub(command, argv[1]);
    if (command == NULL) {
        reply_errorf(c->reply, "ERR Command '%.*s' not found", (int)argv[0].size, argv[0].data);
        return;
    }
    if ((command->arity > 0 && command->arity != argc) || argc < -command->arity) {
        reply_errorf(c->reply, "ERR wrong number of arguments for '%s' command",
                     command->full_name);
        return;
    }
    enum acl_denial denial = acl_check(u, command, argv, argc, &at);
    if (denial == ACL_ALLOWED) {
        reply_ok(c->reply);
        return;
    }
    if (denial == ACL_DENIED_COMMAND)
        reply_bulkf(c->reply, "This user has no permissions to run the '%s' command",
                    command->full_name);
    else
        reply_bulkf(c->reply, "This user has no permissions to access the '%.*s' %s",
                    (int)argv[at].size, argv[at].data,
                    denial == ACL_DENIED_CHANNEL ? "channel" : "key");
}

/* The ACL file's path, or NULL: there is none, and the error was replied. */
static const char *file_path(struct call *c)
{
    const char *path = c->server->config->aclfile;
    if (path[0] != '\0')
        return path;
    reply_error(c->reply,
                "ERR This Redis instance is not configured to use an ACL file. You may want to "
                "specify users via the ACL SETUSER command and then issue a CONFIG REWRITE "
                "(assuming you have a Redis configuration file set) in order to store users in "
                "the Redis configuration.");
    return NULL;
}

void cmd_acl_load(struct call *c)
{
    const char *path = file_path(c);
    struct error err = {0};
    if (path == NULL)
        return;
    if (acl_load_file(c->server, path, &err))
        reply_ok(c->reply);
    else
        reply_errorf(c->reply,
                     "ERR %s WARNING: ACL errors detected, no change to the previously active "
                     "ACL rules was performed",
                     err.message);
}

void cmd_acl_save(struct call *c)
{
    const char *path = file_path(c);
    struct error err = {0};
    if (path == NULL)
        return;
    if (acl_save_file(c->server->acl, path, &err))
        reply_ok(c->reply);
    else
        reply_errorf(c->reply, "ERR There was an error trying to save the ACLs. %s", err.message);
}

void cmd_acl_help(struct call *c)
{
    static const char *const lines[] = {
        "CAT [<category>]",
        "    The categories, or the commands of one.",
        "DELUSER <username> [<username> ...]",
        "    Remove users; their connections are closed.",
        "DRYRUN <username> <command> [<argument> ...]",
        "    Whether the user may run the command, which is not run.",
        "GENPASS [<bits>]",
        "    A random password of 256 or so many bits, in hexadecimal digits.",
        "GETUSER <username>",
        "    All about one user.",
        "LIST",
        "    The users and their rules, as an ACL file has them.",
        "LOAD",
        "    Read the ACL file again: all of it or nothing.",
        "LOG [<count> | RESET]",
        "    What was denied lately; forget it.",
        "SAVE",
        "    Write the users to the ACL file.",
        "SETUSER <username> [<rule> ...]",
        "    Make or change a user: all of the rules or none.",
        "USERS",
        "    The names of the users.",
        "WHOAMI",
        "    The user of this connection.",
    };
    reply_help(c, "ACL", lines, sizeof(lines) / sizeof(lines[0]));
}
