/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Who clients are, and the users of the configuration and of the file.
 */
#include <openssl/crypto.h>

#include "base/log.h"
#include "base/mem.h"
#include "handlers.h"
#include "os/file.h"
#include "server/acl_private.h"
#include "server/config.h"
#include "server/dispatch.h"
#include "server/hold.h"

#define FILE_MAX (16U << 20)

void acl_become(struct client *c, struct acl_user *u)
{
    c->user = u;
    c->flags &= ~(uint32_t)(CLIENT_UNAUTHENTICATED | CLIENT_RESTRICTED);
    if (u == NULL)
        c->flags |= CLIENT_UNAUTHENTICATED;
    else if (!acl_user_may_all(u))
        c->flags |= CLIENT_RESTRICTED;
}

void acl_become_default(struct client *c)
{
    struct acl_user *u = acl_default_user(c->server->acl);
    acl_become(c, u);
    if (!acl_user_is_open(u))
        c->flags |= CLIENT_UNAUTHENTICATED;
}

bool acl_authenticate(struct client *c, struct slice command, struct slice name,
                      struct slice password)
{
    struct acl_user *u = acl_find(c->server->acl, name);
    bool ok = u != NULL && u->on && u->no_password;
    if (!ok && u != NULL && u->on) {
        char hex[ACL_HASH_HEX + 1];
        acl_hash(password, hex);
        for (size_t i = 0; i < u->password_count; i++)
            ok |= CRYPTO_memcmp(hex, u->passwords[i].hex, ACL_HASH_HEX) == 0;
    }
    if (ok)
        acl_become(c, u);
    else
        acl_log(c, ACL_DENIED_AUTH, "toplevel", command, name);
    return ok;
}

void acl_refresh_clients(struct server *s)
{
    for (struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (c->user != NULL && !(c->flags & CLIENT_UNAUTHENTICATED))
            acl_become(c, c->user);
    }
    server_apply_config(s);
    /* For CONFIG REWRITE. */
    struct text *lines = &s->config->users;
    lines->size = 0;
    if (s->config->aclfile[0] == '\0')
        acl_describe(s->acl, lines);
}

bool acl_start(struct server *s, struct error *err)
{
    struct config *c = s->config;
    bool all_channels = c->acl_pubsub_default == 0;
    if (c->aclfile[0] != '\0' && c->users.size != 0)
        return error_set(
            err, ERROR_INVALID,
            "users stand in the configuration file, and aclfile names another file: only "
            "one of the two can say who may do what");
    if (c->aclfile[0] != '\0') {
        if (!acl_load_file(s, c->aclfile, err))
            return false;
    } else if (c->users.size != 0) {
        if (!acl_load_text(s->acl, "configuration", text_slice(&c->users), all_channels, err))
            return false;
        acl_refresh_clients(s);
    }
    if (c->requirepass[0] != '\0')
        acl_set_password(s->acl, slice_cstr(c->requirepass));
    server_apply_config(s);
    return true;
}

/* Files ---------------------------------------------------------------------------------------- */

bool acl_load_user(struct acl *a, const struct slice *words, int count, bool all_channels,
                   struct error *err)
{
    struct slice name = words[0];
    const char *reason;
    bool is_default = slice_equal(name, SLICE("default"));
    if (acl_has_blank(name) || name.size == 0)
        return error_set(err, ERROR_INVALID, "the name of a user has no blanks");
    if (acl_find(a, name) != NULL && !(is_default && !a->default_loaded))
        return error_set(err, ERROR_INVALID, "the user '%.*s' is there twice", (int)name.size,
                         name.data);
    struct acl_user *u = acl_user_new(name, all_channels);
    struct text joined = {0};
    bool ok = true;
    for (int i = 1; i < count && ok; i++) {
        struct slice rule = words[i];
        /* A selector may have been cut at its blanks. */
        if (rule.size > 0 && rule.data[0] == '(' && rule.data[rule.size - 1] != ')') {
            joined.size = 0;
            text_append(&joined, rule.data, rule.size);
            while (i + 1 < count && joined.data[joined.size - 1] != ')') {
                i++;
                text_append(&joined, " ", 1);
                text_append(&joined, words[i].data, words[i].size);
            }
            rule = text_slice(&joined);
        }
        ok = acl_user_apply(u, rule, all_channels, &reason);
        if (!ok)
            error_set(err, ERROR_INVALID, "user '%.*s', modifier '%.*s': %s", (int)name.size,
                      name.data, (int)rule.size, rule.data, reason);
    }
    text_free(&joined);
    if (ok && is_default) {
        acl_user_swap(acl_default_user(a), u);
        a->default_loaded = true;
        acl_user_free(u);
    } else if (ok) {
        acl_add(a, u);
    } else {
        acl_user_free(u);
    }
    return ok;
}

bool acl_load_text(struct acl *a, const char *path, struct slice text, bool all_channels,
                       struct error *err)
{
    const char *p = text.data, *end = text.data + text.size;
    struct text all = {0};
    for (int line = 1; p < end; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        struct slice this = slice_of(p, (size_t)((stop ? stop : end) - p));
        p = stop ? stop + 1 : end;
        struct words w;
        struct error reason = {0};
        if (!text_split(&w, this)) {
            text_appendf(&all, "%s:%d: unbalanced quotes. ", path, line);
            continue;
        }
        if (w.count > 0 && w.items[0].data[0] != '#') {
            if (!slice_is(w.items[0], "user") || w.count < 2)
                text_appendf(&all, "%s:%d: line should start with user keyword. ", path, line);
            else if (!acl_load_user(a, w.items + 1, w.count - 1, all_channels, &reason))
                text_appendf(&all, "%s:%d: %s. ", path, line, reason.message);
        }
        words_free(&w);
    }
    bool ok = all.size == 0;
    if (!ok)
        error_set(err, ERROR_INVALID, "%.200s", text_cstr(&all));
    text_free(&all);
    return ok;
}

/* Clients of users that are no more, or are other ones now, have to connect anew. */
static void replace_users(struct server *s, struct acl *fresh)
{
    struct acl *a = s->acl;
    for (struct client *c = s->clients.first; c != NULL; c = c->next) {
        if (c->user == NULL)
            continue;
        struct acl_user *now = acl_find(fresh, slice_cstr(c->user->name));
        struct text before = {0}, after = {0};
        acl_describe_user(c->user, &before);
        if (now != NULL)
            acl_describe_user(now, &after);
        bool same = slice_equal(text_slice(&before), text_slice(&after));
        text_free(&before);
        text_free(&after);
        bool authenticated = !(c->flags & CLIENT_UNAUTHENTICATED);
        c->user = now;
        if (!same && authenticated)
            client_close_after_reply(c);
    }
    struct acl_user *users = a->users;
    a->users = fresh->users;
    fresh->users = users;
}

bool acl_load_file(struct server *s, const char *path, struct error *err)
{
    char *data;
    size_t size;
    if (!os_file_read_whole(path, FILE_MAX, &data, &size, err))
        return false;
    struct acl *fresh = acl_new();
    bool ok =
        acl_load_text(fresh, path, slice_of(data, size), s->config->acl_pubsub_default == 0, err);
    if (ok) {
        replace_users(s, fresh);
        acl_refresh_clients(s);
    }
    acl_free(fresh);
    mem_free(data);
    return ok;
}

bool acl_save_file(const struct acl *a, const char *path, struct error *err)
{
    struct text out = {0};
    acl_describe(a, &out);
    bool ok = os_file_replace(path, out.data, out.size, err);
    text_free(&out);
    return ok;
}
