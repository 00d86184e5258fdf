/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What users may do: commands, keys, channels.
 */
#include <string.h>

#include "base/glob.h"
#include "base/mem.h"
#include "command/docs.h"
#include "command/table.h"
#include "handlers.h"
#include "server/acl_private.h"

static bool command_allowed(const struct acl_selector *s, const struct command *command,
                            const struct slice *argv, int argc)
{
    if (s->all_commands || command->flags & COMMAND_NO_AUTH ||
        s->bits[command->id / 64] >> (command->id % 64) & 1)
        return true;
    for (const struct acl_pattern *p = s->first_arguments; p != NULL && argc > 1; p = p->next) {
        if (p->command == command->id && p->size == argv[1].size &&
            strncasecmp(p->text, argv[1].data, p->size) == 0)
            return true;
    }
    return false;
}

static bool key_allowed(const struct acl_selector *s, struct slice key, unsigned wanted)
{
    for (const struct acl_pattern *p = s->keys; p != NULL; p = p->next) {
        if ((p->permissions & wanted) == wanted &&
            glob_match(slice_of(p->text, p->size), key, false))
            return true;
    }
    return s->all_keys;
}

static bool channel_allowed(const struct acl_selector *s, struct slice channel, bool literally)
{
    for (const struct acl_pattern *p = s->channels; p != NULL; p = p->next) {
        struct slice pattern = slice_of(p->text, p->size);
        if (literally ? slice_equal(pattern, channel) : glob_match(pattern, channel, false))
            return true;
    }
    return s->all_channels;
}

static enum acl_denial check_keys(const struct acl_selector *s, const struct command *command,
                                  const struct slice *argv, int argc, int *at)
{
    if (s->all_keys || !command_has_keys(command))
        return ACL_ALLOWED;
    struct command_key few[64], *keys = few;
    int room = argc < 64 ? 64 : argc;
    if (room > 64)
        keys = mem_alloc((size_t)room * sizeof(*keys));
    int count = command_keys_flags(command, argv, argc, keys, room);
    enum acl_denial denial = ACL_ALLOWED;
    for (int i = 0; i < count && denial == ACL_ALLOWED; i++) {
        unsigned flags = keys[i].flags, wanted = 0;
        if (flags & KEY_SPEC_NOT_KEY)
            continue;
        if (flags & KEY_SPEC_ACCESS)
            wanted |= ACL_READ_KEY;
        if (flags & (KEY_SPEC_INSERT | KEY_SPEC_DELETE | KEY_SPEC_UPDATE))
            wanted |= ACL_WRITE_KEY;
        if (!key_allowed(s, argv[keys[i].position], wanted)) {
            *at = keys[i].position;
            denial = ACL_DENIED_KEY;
        }
    }
    if (keys != few)
        mem_free(keys);
    return denial;
}

static enum acl_denial check_channels(const struct acl_selector *s, const struct command *command,
                                      const struct slice *argv, int argc, int *at)
{
    command_handler *h = command->handler;
    int last = 0;
    if (h == cmd_publish || h == cmd_spublish)
        last = 1;
    else if (h == cmd_subscribe || h == cmd_ssubscribe || h == cmd_psubscribe)
        last = argc - 1;
    for (int i = 1; i <= last; i++) {
        if (!channel_allowed(s, argv[i], h == cmd_psubscribe)) {
            *at = i;
            return ACL_DENIED_CHANNEL;
        }
    }
    return ACL_ALLOWED;
}

static bool may_read_all(const struct acl_selector *s)
{
    bool all = s->all_keys;
    for (const struct acl_pattern *p = s->keys; p != NULL && !all; p = p->next)
        all = p->size == 1 && p->text[0] == '*' && p->permissions & ACL_READ_KEY;
    return all;
}

const char *acl_check_sort(const struct acl_user *u, const struct command *command,
                           const struct slice *argv, int argc)
{
    int at;
    if (command->handler != cmd_sort && command->handler != cmd_sort_ro)
        return NULL;
    for (const struct acl_selector *s = u->selectors; s != NULL; s = s->next) {
        if (may_read_all(s) && command_allowed(s, command, argv, argc) &&
            check_keys(s, command, argv, argc, &at) == ACL_ALLOWED)
            return NULL;
    }
    for (int i = 2; i + 1 < argc; i++) {
        if (slice_is(argv[i], "by") && memchr(argv[i + 1].data, '*', argv[i + 1].size) != NULL)
            return "ERR BY option of SORT denied due to insufficient ACL permissions.";
        if (slice_is(argv[i], "get") && !slice_equal(argv[i + 1], SLICE("#")))
            return "ERR GET option of SORT denied due to insufficient ACL permissions.";
    }
    return NULL;
}

enum acl_denial acl_check(const struct acl_user *u, const struct command *command,
                          const struct slice *argv, int argc, int *at)
{
    enum acl_denial worst = ACL_DENIED_COMMAND;
    int worst_at = 0;
    for (const struct acl_selector *s = u->selectors; s != NULL; s = s->next) {
        int where = 0;
        enum acl_denial denial = ACL_ALLOWED;
        if (!command_allowed(s, command, argv, argc))
            denial = ACL_DENIED_COMMAND;
        if (denial == ACL_ALLOWED)
            denial = check_keys(s, command, argv, argc, &where);
        if (denial == ACL_ALLOWED && !s->all_channels)
            denial = check_channels(s, command, argv, argc, &where);
        if (denial == ACL_ALLOWED)
            return ACL_ALLOWED;
        if (denial > worst || (denial == worst && where > worst_at)) {
            worst = denial;
            worst_at = where;
        }
    }
    *at = worst_at;
    return worst;
}

void acl_denial_text(enum acl_denial denial, const struct command *command, struct text *out)
{
    if (denial == ACL_DENIED_COMMAND)
        text_appendf(out, "NOPERM this user has no permissions to run the '%s' command",
                     command->full_name);
    else
        text_appendf(
            out, "NOPERM this user has no permissions to access one of the %s used as arguments",
            denial == ACL_DENIED_CHANNEL ? "channels" : "keys");
}
