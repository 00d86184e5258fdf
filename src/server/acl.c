/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/acl.h"

#include <ctype.h>
#include <openssl/sha.h>
#include <stdio.h>

#include "base/mem.h"
#include "command/docs.h"
#include "command/table.h"
#include "server/acl_private.h"
#include "server/hold.h"

/* Commands in no category at all are meant, too. */
#define EVERY_CATEGORY UINT64_MAX

/* Users ---------------------------------------------------------------------------------------- */

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

/* Rules ---------------------------------------------------------------------------------------- */

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

/* "%RW~pattern" */
static bool apply_permissions(struct acl_selector *s, struct slice rule)
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
    if (at >= rule.size || rule.data[at] != '~' || permissions == 0)
        return false;
    pattern_add(&s->keys, slice_of(rule.data + at + 1, rule.size - at - 1), permissions, 0);
    return true;
}

bool acl_has_blank(struct slice s)
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
    if (rule.size == 0)
        return true; /* as in Redis: it says nothing */
    if (slice_is(rule, "allkeys") || slice_equal(rule, SLICE("~*"))) {
        s->all_keys = true;
        patterns_free(&s->keys);
        return true;
    }
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
    switch (rule.data[0]) {
    case '~':
    case '%':
        if (s->all_keys) {
            *reason =
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and "
                "does not have any effect. Try 'resetkeys' to start with an empty list of "
                "patterns";
            return false;
        }
        if (acl_has_blank(rest))
            return false;
        if (rule.data[0] == '%')
            return apply_permissions(s, rule);
        pattern_add(&s->keys, rest, ACL_READ_KEY | ACL_WRITE_KEY, 0);
        return true;
    case '&':
        if (s->all_channels) {
            *reason =
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and "
                "does not have any effect. Try 'resetchannels' to start with an empty list of "
                "channels";
            return false;
        }
        if (acl_has_blank(rest))
            return false;
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
            valid = (rest.data[i] >= '0' && rest.data[i] <= '9') ||
                    (rest.data[i] >= 'a' && rest.data[i] <= 'f');
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

/* Descriptions --------------------------------------------------------------------------------- */

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
