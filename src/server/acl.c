/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/acl.h"

#include <ctype.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "base/glob.h"
#include "base/log.h"
#include "base/mem.h"
#include "command/docs.h"
#include "command/table.h"
#include "handlers.h"
#include "os/file.h"
#include "server/acl_private.h"
#include "server/config.h"
#include "server/hold.h"
#include "server/dispatch.h"

#define FILE_MAX (16U << 20)
/* Commands in no category at all are meant, too. */
#define EVERY_CATEGORY UINT64_MAX

/* Users ------------------------------------------------------------------------------------------- */

static size_t bit_words(void)
{
    return ((size_t)command_count + 63) / 64;
}

static struct acl_selector *selector_new(bool all_channels)
{
    struct acl_selector *s = mem_zalloc(sizeof(*s) + bit_words() * sizeof(uint64_t));
    s->all_channels = all_channels;
    text_append_cstr(&s->rules, "-@all");
    return s;
}

static void patterns_free(struct acl_pattern **list)
{
    while (*list != NULL) {
        struct acl_pattern *p = *list;
        *list = p->next;
        mem_free(p);
    }
}

static void selector_free(struct acl_selector *s)
{
    patterns_free(&s->keys);
    patterns_free(&s->channels);
    patterns_free(&s->first_arguments);
    text_free(&s->rules);
    mem_free(s);
}

static void selectors_free(struct acl_selector *s)
{
    while (s != NULL) {
        struct acl_selector *next = s->next;
        selector_free(s);
        s = next;
    }
}

struct acl_user *acl_user_new(struct slice name, bool all_channels)
{
    struct acl_user *u = mem_zalloc(sizeof(*u));
    u->name = mem_dup(name.data, name.size);
    u->name_size = name.size;
    u->selectors = selector_new(all_channels);
    return u;
}

static void passwords_free(struct acl_user *u)
{
    mem_free(u->passwords);
    u->passwords = NULL;
    u->password_count = 0;
}

void acl_user_free(struct acl_user *u)
{
    passwords_free(u);
    selectors_free(u->selectors);
    mem_free(u->name);
    mem_free(u);
}

struct acl *acl_new(void)
{
    struct acl *a = mem_zalloc(sizeof(*a));
    const char *reason;
    static const char *const all[] = {"on", "nopass", "~*", "&*", "+@all"};
    a->users = acl_user_new(SLICE("default"), true);
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
        acl_user_apply(a->users, slice_cstr(all[i]), true, &reason);
    return a;
}

void acl_free(struct acl *a)
{
    while (a->users != NULL) {
        struct acl_user *u = a->users;
        a->users = u->next;
        acl_user_free(u);
    }
    acl_log_clear(a);
    mem_free(a);
}

struct acl_user *acl_find(const struct acl *a, struct slice name)
{
    struct acl_user *u = a->users;
    while (u != NULL && !slice_equal(slice_of(u->name, u->name_size), name))
        u = u->next;
    return u;
}

struct acl_user *acl_default_user(const struct acl *a)
{
    return acl_find(a, SLICE("default"));
}

const char *acl_user_name(const struct acl_user *u)
{
    return u->name;
}

bool acl_user_is_on(const struct acl_user *u)
{
    return u->on;
}

bool acl_user_is_open(const struct acl_user *u)
{
    return u->on && u->no_password;
}

void acl_add(struct acl *a, struct acl_user *u)
{
    struct acl_user **link = &a->users;
    while (*link != NULL && strcmp((*link)->name, u->name) < 0)
        link = &(*link)->next;
    u->next = *link;
    *link = u;
}

bool acl_user_may_all(const struct acl_user *u)
{
    for (const struct acl_selector *s = u->selectors; s != NULL; s = s->next) {
        if (s->all_commands && s->all_keys && s->all_channels)
            return true;
    }
    return false;
}

/* Rules ------------------------------------------------------------------------------------------- */

static const char syntax[] = "Syntax error";
static const char unknown[] = "Unknown command or category name in ACL";

static void pattern_add(struct acl_pattern **list, struct slice text, unsigned permissions,
                        uint16_t command)
{
    for (; *list != NULL; list = &(*list)->next) {
        struct acl_pattern *p = *list;
        if (p->command == command && slice_equal(slice_of(p->text, p->size), text)) {
            p->permissions |= permissions;
            return;
        }
    }
    struct acl_pattern *p = mem_alloc(sizeof(*p) + text.size);
    *p = (struct acl_pattern){.permissions = permissions, .command = command, .size = text.size};
    if (text.size != 0)
        memcpy(p->text, text.data, text.size);
    *list = p;
}

/* Of the command and its subcommands those in one of the categories. */
static void set_bits(struct acl_selector *s, const struct command *command, uint64_t categories,
                     bool on)
{
    uint64_t bit = UINT64_C(1) << (command->id % 64), *word = &s->bits[command->id / 64];
    if (categories == EVERY_CATEGORY || command->acl_categories & categories)
        *word = on ? *word | bit : *word & ~bit;
    for (int i = 0; i < command->subcommand_count; i++)
        set_bits(s, &command->subcommands[i], categories, on);
}

static void set_all_bits(struct acl_selector *s, uint64_t categories, bool on)
{
    for (int i = 0; command_at(i) != NULL; i++)
        set_bits(s, command_at(i), categories, on);
}

/* Append a rule about commands to the text, without the older ones that it makes void: on the same
 * category or command, or on a subcommand of it. */
static void note_rule(struct acl_selector *s, const char *name, bool on)
{
    struct text kept = {0};
    size_t size = strlen(name);
    const char *p = text_cstr(&s->rules);
    while (*p != '\0') {
        size_t n = strcspn(p, " ");
        bool same = n - 1 >= size && memcmp(p + 1, name, size) == 0 &&
                    (n - 1 == size || (p[1 + size] == '|' && name[0] != '@'));
        if (!same) {
            if (kept.size != 0)
                text_append(&kept, " ", 1);
            text_append(&kept, p, n);
        }
        p += n;
        p += *p == ' ';
    }
    text_appendf(&kept, "%s%c%s", kept.size != 0 ? " " : "", on ? '+' : '-', name);
    text_free(&s->rules);
    s->rules = kept;
}

static bool apply_category(struct acl_selector *s, struct slice name, bool on)
{
    char rule[64];
    if (slice_is(name, "all")) {
        set_all_bits(s, EVERY_CATEGORY, on);
        s->all_commands = on;
        patterns_free(&s->first_arguments);
        text_free(&s->rules);
        text_append_cstr(&s->rules, on ? "+@all" : "-@all");
        return true;
    }
    for (unsigned k = 0; command_acl_name(k) != NULL; k++) {
        if (!slice_is(name, command_acl_name(k)))
            continue;
        set_all_bits(s, UINT64_C(1) << k, on);
        if (!on)
            s->all_commands = false;
        snprintf(rule, sizeof(rule), "@%s", command_acl_name(k));
        note_rule(s, rule, on);
        return true;
    }
    return false;
}

/* "+get", "-config|set", and the old form "+select|0": a command with a given first argument. */
static bool apply_command(struct acl_selector *s, struct slice name, bool on, const char **reason)
{
    const char *bar = memchr(name.data, '|', name.size);
    size_t size = bar != NULL ? (size_t)(bar - name.data) : name.size;
    const struct command *command = command_find(slice_of(name.data, size));
    *reason = unknown;
    if (command == NULL)
        return false;
    if (bar != NULL) {
        struct slice rest = slice_of(bar + 1, name.size - size - 1);
        const char *second = memchr(rest.data, '|', rest.size);
        if (second != NULL) {
            struct slice first = slice_of(rest.data, (size_t)(second - rest.data));
            if (command_find_sub(command, first) != NULL)
                *reason = "Allowing first-arg of a subcommand is not supported";
            return false;
        }
        const struct command *sub = command_find_sub(command, rest);
        if (sub == NULL && (command->subcommand_count != 0 || !on))
            return false;
        if (rest.size == 0) {
            *reason = syntax;
            return false;
        }
        if (sub == NULL) {
            struct text rule = {0};
            pattern_add(&s->first_arguments, rest, 0, command->id);
            text_appendf(&rule, "%s|%.*s", command->full_name, (int)rest.size, rest.data);
            for (size_t i = 0; i < rule.size; i++)
                rule.data[i] = (char)tolower((unsigned char)rule.data[i]);
            note_rule(s, text_cstr(&rule), true);
            text_free(&rule);
            return true;
        }
        command = sub;
    }
    set_bits(s, command, EVERY_CATEGORY, on);
    if (!on)
        s->all_commands = false;
    note_rule(s, command->full_name, on);
    return true;
}

static bool add_key_pattern(struct acl_selector *s, struct slice text, unsigned permissions,
                            const char **reason)
{
    bool everything = text.size == 1 && text.data[0] == '*' && permissions == (ACL_READ_KEY | ACL_WRITE_KEY);
    if (s->all_keys && !everything) {
        *reason = "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does "
                  "not have any effect. Try 'resetkeys' to start with an empty list of patterns";
        return false;
    }
    if (everything) {
        s->all_keys = true;
        patterns_free(&s->keys);
        return true;
    }
    pattern_add(&s->keys, text, permissions, 0);
    return true;
}

/* "%RW~pattern" */
static bool apply_permissions(struct acl_selector *s, struct slice rule, const char **reason)
{
    unsigned permissions = 0;
    size_t at = 1;
    for (; at < rule.size && rule.data[at] != '~'; at++) {
        unsigned bit = toupper((unsigned char)rule.data[at]) == 'R'   ? ACL_READ_KEY
                       : toupper((unsigned char)rule.data[at]) == 'W' ? ACL_WRITE_KEY
                                                                      : 0;
        if (bit == 0)
            break;
        permissions |= bit;
    }
    *reason = syntax;
    if (at >= rule.size || rule.data[at] != '~' || permissions == 0)
        return false;
    return add_key_pattern(s, slice_of(rule.data + at + 1, rule.size - at - 1), permissions, reason);
}

static bool has_blank(struct slice s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (isspace((unsigned char)s.data[i]) || s.data[i] == '\0')
            return true;
    }
    return false;
}

static bool selector_apply(struct acl_selector *s, struct slice rule, const char **reason)
{
    struct slice rest = slice_of(rule.data + 1, rule.size > 0 ? rule.size - 1 : 0);
    *reason = syntax;
    if (slice_is(rule, "allkeys") || slice_equal(rule, SLICE("~*")))
        return add_key_pattern(s, SLICE("*"), ACL_READ_KEY | ACL_WRITE_KEY, reason);
    if (slice_is(rule, "resetkeys")) {
        s->all_keys = false;
        patterns_free(&s->keys);
        return true;
    }
    if (slice_is(rule, "allchannels") || slice_equal(rule, SLICE("&*"))) {
        s->all_channels = true;
        patterns_free(&s->channels);
        return true;
    }
    if (slice_is(rule, "resetchannels")) {
        s->all_channels = false;
        patterns_free(&s->channels);
        return true;
    }
    if (slice_is(rule, "allcommands"))
        return apply_category(s, SLICE("all"), true);
    if (slice_is(rule, "nocommands"))
        return apply_category(s, SLICE("all"), false);
    if (rule.size == 0)
        return false;
    switch (rule.data[0]) {
    case '~':
        return !has_blank(rest) && add_key_pattern(s, rest, ACL_READ_KEY | ACL_WRITE_KEY, reason);
    case '%':
        return !has_blank(rest) && apply_permissions(s, rule, reason);
    case '&':
        if (has_blank(rest))
            return false;
        if (s->all_channels) {
            *reason = "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and "
                      "does not have any effect. Try 'resetchannels' to start with an empty list of "
                      "channels";
            return false;
        }
        pattern_add(&s->channels, rest, 0, 0);
        return true;
    case '+':
    case '-':
        if (rest.size > 0 && rest.data[0] == '@') {
            *reason = unknown;
            return apply_category(s, slice_of(rest.data + 1, rest.size - 1), rule.data[0] == '+');
        }
        return apply_command(s, rest, rule.data[0] == '+', reason);
    default:
        return false;
    }
}

void acl_hash(struct slice password, char out[ACL_HASH_HEX + 1])
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    SHA256((const unsigned char *)password.data, password.size, digest);
    for (size_t i = 0; i < sizeof(digest); i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

static size_t find_password(const struct acl_user *u, const char *hex)
{
    size_t i = 0;
    while (i < u->password_count && memcmp(u->passwords[i].hex, hex, ACL_HASH_HEX) != 0)
        i++;
    return i;
}

static bool apply_password(struct acl_user *u, struct slice rule, const char **reason)
{
    char hex[ACL_HASH_HEX + 1];
    struct slice rest = slice_of(rule.data + 1, rule.size - 1);
    char kind = rule.data[0];
    if (kind == '#' || kind == '!') {
        bool valid = rest.size == ACL_HASH_HEX;
        for (size_t i = 0; valid && i < rest.size; i++)
            valid = (rest.data[i] >= '0' && rest.data[i] <= '9') || (rest.data[i] >= 'a' && rest.data[i] <= 'f');
        if (!valid) {
            *reason = "The password hash must be exactly 64 characters and contain only lowercase "
                      "hexadecimal characters";
            return false;
        }
        memcpy(hex, rest.data, ACL_HASH_HEX);
    } else {
        acl_hash(rest, hex);
    }
    size_t at = find_password(u, hex);
    if (kind == '#' || kind == '>') {
        if (at == u->password_count) {
            u->passwords = mem_realloc(u->passwords, (at + 1) * sizeof(*u->passwords));
            memcpy(u->passwords[at].hex, hex, ACL_HASH_HEX);
            u->password_count++;
        }
        u->no_password = false;
        return true;
    }
    if (at == u->password_count) {
        *reason = "The password you are trying to remove from the user does not exist";
        return false;
    }
    u->passwords[at] = u->passwords[--u->password_count];
    return true;
}

static void reset_user(struct acl_user *u, bool all_channels)
{
    passwords_free(u);
    selectors_free(u->selectors);
    u->selectors = selector_new(all_channels);
    u->on = u->no_password = u->skip_sanitize = false;
    u->sanitize = true;
    u->level = 0;
}

/* "(rule rule ...)" */
static bool apply_selector(struct acl_user *u, struct slice rule, bool all_channels,
                           const char **reason)
{
    struct acl_selector *s = selector_new(all_channels);
    const char *p = rule.data + 1, *end = rule.data + rule.size - 1;
    bool ok = true;
    while (ok) {
        while (p < end && isspace((unsigned char)*p))
            p++;
        if (p == end)
            break;
        const char *stop = p;
        while (stop < end && !isspace((unsigned char)*stop))
            stop++;
        ok = selector_apply(s, slice_of(p, (size_t)(stop - p)), reason);
        p = stop;
    }
    if (!ok) {
        selector_free(s);
        return false;
    }
    struct acl_selector **link = &u->selectors;
    while (*link != NULL)
        link = &(*link)->next;
    *link = s;
    return true;
}

#define LEVEL_RULE "durability:"

/* durability:quorum, durability:replica:2, durability:auto */
static bool apply_level(struct acl_user *u, struct slice rule, const char **reason)
{
    struct slice words[2];
    int count = 1, level;
    size_t skip = sizeof(LEVEL_RULE) - 1;
    words[0] = slice_of(rule.data + skip, rule.size - skip);
    const char *colon = memchr(words[0].data, ':', words[0].size);
    if (colon != NULL) {
        words[1] = slice_of(colon + 1, (size_t)(rule.data + rule.size - colon) - 1);
        words[0].size = (size_t)(colon - words[0].data);
        count = 2;
    }
    *reason = "durability: takes auto, memory, local, replica:N or quorum";
    if (!hold_parse_level(words, count, &level))
        return false;
    u->level = (uint8_t)(level + 1);
    return true;
}

int acl_user_level(const struct acl_user *u)
{
    return (int)u->level - 1;
}

uint32_t acl_levels(const struct acl *a)
{
    uint32_t levels = 0;
    for (const struct acl_user *u = a->users; u != NULL; u = u->next)
        levels |= u->level != 0 ? 1U << acl_user_level(u) : 0;
    return levels;
}

bool acl_user_apply(struct acl_user *u, struct slice rule, bool all_channels, const char **reason)
{
    *reason = syntax;
    if (slice_is(rule, "on")) {
        u->on = true;
    } else if (slice_is(rule, "off")) {
        u->on = false;
    } else if (slice_is(rule, "nopass")) {
        u->no_password = true;
        passwords_free(u);
    } else if (slice_is(rule, "resetpass")) {
        u->no_password = false;
        passwords_free(u);
    } else if (slice_is(rule, "sanitize-payload")) {
        u->sanitize = true;
        u->skip_sanitize = false;
    } else if (slice_is(rule, "skip-sanitize-payload")) {
        u->sanitize = false;
        u->skip_sanitize = true;
    } else if (rule.size > sizeof(LEVEL_RULE) - 1 &&
               memcmp(rule.data, LEVEL_RULE, sizeof(LEVEL_RULE) - 1) == 0) {
        return apply_level(u, rule, reason);
    } else if (slice_is(rule, "reset")) {
        reset_user(u, all_channels);
    } else if (slice_is(rule, "clearselectors")) {
        selectors_free(u->selectors->next);
        u->selectors->next = NULL;
    } else if (rule.size > 0 && memchr("><#!", rule.data[0], 4) != NULL) {
        return apply_password(u, rule, reason);
    } else if (rule.size > 1 && rule.data[0] == '(' && rule.data[rule.size - 1] == ')') {
        return apply_selector(u, rule, all_channels, reason);
    } else {
        return selector_apply(u->selectors, rule, reason);
    }
    return true;
}

struct acl_user *acl_user_copy(const struct acl_user *u)
{
    struct acl_user *copy = mem_alloc(sizeof(*copy));
    *copy = *u;
    copy->next = NULL;
    copy->name = mem_dup(u->name, u->name_size);
    copy->passwords = NULL;
    if (u->password_count != 0) {
        copy->passwords = mem_alloc(u->password_count * sizeof(*u->passwords));
        memcpy(copy->passwords, u->passwords, u->password_count * sizeof(*u->passwords));
    }
    struct acl_selector **link = &copy->selectors;
    for (const struct acl_selector *s = u->selectors; s != NULL; s = s->next) {
        struct acl_selector *to = selector_new(false);
        text_free(&to->rules);
        text_append(&to->rules, s->rules.data, s->rules.size);
        to->all_commands = s->all_commands;
        to->all_keys = s->all_keys;
        to->all_channels = s->all_channels;
        memcpy(to->bits, s->bits, bit_words() * sizeof(uint64_t));
        for (const struct acl_pattern *p = s->keys; p != NULL; p = p->next)
            pattern_add(&to->keys, slice_of(p->text, p->size), p->permissions, 0);
        for (const struct acl_pattern *p = s->channels; p != NULL; p = p->next)
            pattern_add(&to->channels, slice_of(p->text, p->size), 0, 0);
        for (const struct acl_pattern *p = s->first_arguments; p != NULL; p = p->next)
            pattern_add(&to->first_arguments, slice_of(p->text, p->size), 0, p->command);
        *link = to;
        link = &to->next;
    }
    *link = NULL;
    return copy;
}

void acl_user_swap(struct acl_user *a, struct acl_user *b)
{
    struct acl_user kept = *a;
    struct acl_user *next_a = a->next, *next_b = b->next;
    *a = *b;
    *b = kept;
    a->next = next_a;
    b->next = next_b;
}

void acl_set_password(struct acl *a, struct slice password)
{
    struct acl_user *u = acl_default_user(a);
    const char *reason;
    passwords_free(u);
    u->no_password = password.size == 0;
    if (password.size == 0)
        return;
    struct text rule = {0};
    text_append(&rule, ">", 1);
    text_append(&rule, password.data, password.size);
    apply_password(u, text_slice(&rule), &reason);
    text_free(&rule);
}

/* Descriptions ------------------------------------------------------------------------------------ */

void acl_describe_keys(const struct acl_selector *s, struct text *out)
{
    if (s->all_keys)
        text_append_cstr(out, "~*");
    for (const struct acl_pattern *p = s->keys; p != NULL; p = p->next) {
        static const char *const prefixes[] = {"~", "%R~", "%W~", "~"};
        text_appendf(out, "%s%s%.*s", p == s->keys ? "" : " ", prefixes[p->permissions & 3],
                     (int)p->size, p->text);
    }
}

void acl_describe_channels(const struct acl_selector *s, struct text *out)
{
    if (s->all_channels)
        text_append_cstr(out, "&*");
    for (const struct acl_pattern *p = s->channels; p != NULL; p = p->next)
        text_appendf(out, "%s&%.*s", p == s->channels ? "" : " ", (int)p->size, p->text);
}

static void describe_selector(const struct acl_selector *s, struct text *out)
{
    size_t before = out->size;
    acl_describe_keys(s, out);
    if (out->size != before)
        text_append(out, " ", 1);
    if (!s->all_channels)
        text_append_cstr(out, "resetchannels ");
    before = out->size;
    acl_describe_channels(s, out);
    text_appendf(out, "%s%s", out->size != before ? " " : "", text_cstr(&s->rules));
}

void acl_describe_user(const struct acl_user *u, struct text *out)
{
    text_appendf(out, "user %s %s", u->name, u->on ? "on" : "off");
    if (u->no_password)
        text_append_cstr(out, " nopass");
    if (u->skip_sanitize)
        text_append_cstr(out, " skip-sanitize-payload");
    if (u->sanitize)
        text_append_cstr(out, " sanitize-payload");
    if (u->level != 0) {
        char level[HOLD_LEVEL_TEXT];
        hold_level_text(acl_user_level(u), level);
        char *blank = strchr(level, ' ');
        if (blank != NULL)
            *blank = ':';
        text_appendf(out, " " LEVEL_RULE "%s", level);
    }
    for (size_t i = 0; i < u->password_count; i++)
        text_appendf(out, " #%.*s", ACL_HASH_HEX, u->passwords[i].hex);
    text_append(out, " ", 1);
    describe_selector(u->selectors, out);
    for (const struct acl_selector *s = u->selectors->next; s != NULL; s = s->next) {
        text_append_cstr(out, " (");
        describe_selector(s, out);
        text_append(out, ")", 1);
    }
}

void acl_describe(const struct acl *a, struct text *out)
{
    for (const struct acl_user *u = a->users; u != NULL; u = u->next) {
        acl_describe_user(u, out);
        text_append(out, "\n", 1);
    }
}

/* Checking ---------------------------------------------------------------------------------------- */

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
        text_appendf(out, "NOPERM this user has no permissions to run the '%s' command", command->full_name);
    else
        text_appendf(out, "NOPERM this user has no permissions to access one of the %s used as arguments",
                     denial == ACL_DENIED_CHANNEL ? "channels" : "keys");
}

/* Clients ----------------------------------------------------------------------------------------- */

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
        return error_set(err, ERROR_INVALID,
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

/* Files ------------------------------------------------------------------------------------------- */

bool acl_load_user(struct acl *a, const struct slice *words, int count, bool all_channels,
                   struct error *err)
{
    struct slice name = words[0];
    const char *reason;
    bool is_default = slice_equal(name, SLICE("default"));
    if (has_blank(name) || name.size == 0)
        return error_set(err, ERROR_INVALID, "the name of a user has no blanks");
    if (acl_find(a, name) != NULL && !(is_default && !a->default_loaded))
        return error_set(err, ERROR_INVALID, "the user '%.*s' is there twice", (int)name.size, name.data);
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
            error_set(err, ERROR_INVALID, "user '%.*s', modifier '%.*s': %s", (int)name.size, name.data,
                      (int)rule.size, rule.data, reason);
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
    bool ok = acl_load_text(fresh, path, slice_of(data, size), s->config->acl_pubsub_default == 0, err);
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
