/* SPDX-License-Identifier: BSD-3-Clause
 *
 * COMMAND and its subcommands: what the command table knows, told to clients.
 */
#include "base/glob.h"
#include "base/mem.h"
#include "command/docs.h"
#include "command/help.h"
#include "command/table.h"
#include "handlers.h"

/* A command by the name that COMMAND INFO takes: "get", "config|get". */
static const struct command *find_named(struct slice name)
{
    const char *bar = name.size ? memchr(name.data, '|', name.size) : NULL;
    if (!bar)
        return command_find(name);
    size_t size = (size_t)(bar - name.data);
    const struct command *container = command_find(slice_of(name.data, size));
    return container ? command_find_sub(container, slice_of(bar + 1, name.size - size - 1)) : NULL;
}

static size_t count_top(void)
{
    int n = 0;
    while (command_at(n))
        n++;
    return (size_t)n;
}

/* The names of the bits that are set, as a set of simple strings. */
static void reply_names(struct reply *r, uint64_t bits, const char *(*name)(unsigned bit),
                        const char *prefix)
{
    reply_set(r, (size_t)__builtin_popcountll(bits));
    for (unsigned bit = 0; bit < 64; bit++) {
        if (!(bits >> bit & 1))
            continue;
        char full[64];
        size_t n = strlen(prefix);
        memcpy(full, prefix, n);
        strcpy(full + n, name(bit));
        reply_simple(r, full);
    }
}

static void reply_field_int(struct reply *r, const char *name, int64_t v)
{
    reply_bulk_cstr(r, name);
    reply_int(r, v);
}

static void reply_field(struct reply *r, const char *name, const char *value)
{
    reply_bulk_cstr(r, name);
    reply_bulk_cstr(r, value);
}

static void reply_key_spec(struct reply *r, const struct key_spec *s)
{
    reply_map(r, s->notes ? 4 : 3);
    if (s->notes)
        reply_field(r, "notes", s->notes);
    reply_bulk_cstr(r, "flags");
    reply_names(r, s->flags, key_spec_flag_name, "");
    reply_bulk_cstr(r, "begin_search");
    reply_map(r, 2);
    static const char *const begin_types[] = {"index", "keyword", "unknown"};
    reply_field(r, "type", begin_types[s->begin]);
    reply_bulk_cstr(r, "spec");
    if (s->begin == KEY_BEGIN_INDEX) {
        reply_map(r, 1);
        reply_field_int(r, "index", s->begin_index);
    } else if (s->begin == KEY_BEGIN_KEYWORD) {
        reply_map(r, 2);
        reply_field(r, "keyword", s->keyword);
        reply_field_int(r, "startfrom", s->begin_index);
    } else {
        reply_map(r, 0);
    }
    reply_bulk_cstr(r, "find_keys");
    reply_map(r, 2);
    static const char *const find_types[] = {"range", "keynum", "unknown"};
    static const char *const find_fields[2][3] = {{"lastkey", "keystep", "limit"},
                                                  {"keynumidx", "firstkey", "keystep"}};
    reply_field(r, "type", find_types[s->find]);
    reply_bulk_cstr(r, "spec");
    if (s->find == KEY_FIND_UNKNOWN) {
        reply_map(r, 0);
        return;
    }
    reply_map(r, 3);
    reply_field_int(r, find_fields[s->find][0], s->find_a);
    reply_field_int(r, find_fields[s->find][1], s->find_b);
    reply_field_int(r, find_fields[s->find][2], s->find_c);
}

static void reply_info(struct reply *r, const struct command *cmd)
{
    if (!cmd) {
        reply_null(r);
        return;
    }
    const struct command_doc *doc = cmd->doc;
    reply_array(r, 10);
    reply_bulk_cstr(r, cmd->full_name);
    reply_int(r, cmd->arity);
    reply_names(r, cmd->flags, command_flag_name, "");
    reply_int(r, cmd->first_key);
    reply_int(r, cmd->last_key);
    reply_int(r, cmd->key_step);
    reply_names(r, cmd->acl_categories, command_acl_name, "@");
    reply_set(r, (size_t)doc->tip_count);
    for (int i = 0; i < doc->tip_count; i++)
        reply_bulk_cstr(r, doc->tips[i]);
    reply_set(r, (size_t)doc->key_spec_count);
    for (int i = 0; i < doc->key_spec_count; i++)
        reply_key_spec(r, &doc->key_specs[i]);
    /* Redis gives an array here, but a set when there are none. */
    if (cmd->subcommand_count)
        reply_array(r, cmd->subcommand_count);
    else
        reply_set(r, 0);
    for (int i = 0; i < cmd->subcommand_count; i++)
        reply_info(r, &cmd->subcommands[i]);
}

static void reply_all(struct reply *r)
{
    reply_array(r, count_top());
    for (int i = 0; command_at(i); i++)
        reply_info(r, command_at(i));
}

void cmd_command(struct call *c)
{
    reply_all(c->reply);
}

void cmd_command_count(struct call *c)
{
    reply_int(c->reply, (int64_t)count_top());
}

void cmd_command_info(struct call *c)
{
    if (c->argc == 2) {
        reply_all(c->reply);
        return;
    }
    reply_array(c->reply, (size_t)c->argc - 2);
    for (int i = 2; i < c->argc; i++)
        reply_info(c->reply, find_named(c->argv[i]));
}

/* COMMAND DOCS ----------------------------------------------------------------------------------
 */

static void reply_args(struct reply *r, const struct command_arg *args, int count)
{
    static const char *const flag_names[] = {"optional", "multiple", "multiple_token"};
    reply_array(r, (size_t)count);
    for (int i = 0; i < count; i++) {
        const struct command_arg *a = &args[i];
        reply_map(r, 2U + (a->key_spec_index >= 0) + (a->token != NULL) + (a->since != NULL) +
                         (a->deprecated_since != NULL) + (a->flags != 0) + (a->arg_count > 0));
        reply_field(r, "name", a->name);
        reply_field(r, "type", command_arg_type_name(a->type));
        if (a->key_spec_index >= 0)
            reply_field_int(r, "key_spec_index", a->key_spec_index);
        if (a->token)
            reply_field(r, "token", a->token);
        if (a->since)
            reply_field(r, "since", a->since);
        if (a->deprecated_since)
            reply_field(r, "deprecated_since", a->deprecated_since);
        if (a->flags) {
            reply_bulk_cstr(r, "flags");
            reply_set(r, (size_t)__builtin_popcount(a->flags));
            for (int bit = 0; bit < 3; bit++)
                if (a->flags & 1U << bit)
                    reply_simple(r, flag_names[bit]);
        }
        if (a->arg_count > 0) {
            reply_bulk_cstr(r, "arguments");
            reply_args(r, a->args, a->arg_count);
        }
    }
}

/* The name, and the map that belongs to it. */
static void reply_docs(struct reply *r, const struct command *cmd)
{
    const struct command_doc *doc = cmd->doc;
    unsigned flags = (doc->deprecated_since ? 1U : 0U) + (doc->syscmd ? 1U : 0U);
    reply_bulk_cstr(r, cmd->full_name);
    reply_map(r, 3U + (doc->complexity != NULL) + (flags != 0) + (doc->deprecated_since != NULL) +
                     (doc->replaced_by != NULL) + (doc->arg_count > 0) +
                     (cmd->subcommand_count > 0));
    reply_field(r, "summary", doc->summary);
    reply_field(r, "since", doc->since);
    reply_field(r, "group", doc->group);
    if (doc->complexity)
        reply_field(r, "complexity", doc->complexity);
    if (flags) {
        reply_bulk_cstr(r, "doc_flags");
        reply_set(r, flags);
        if (doc->deprecated_since)
            reply_simple(r, "deprecated");
        if (doc->syscmd)
            reply_simple(r, "syscmd");
    }
    if (doc->deprecated_since)
        reply_field(r, "deprecated_since", doc->deprecated_since);
    if (doc->replaced_by)
        reply_field(r, "replaced_by", doc->replaced_by);
    if (doc->arg_count > 0) {
        reply_bulk_cstr(r, "arguments");
        reply_args(r, doc->args, doc->arg_count);
    }
    if (cmd->subcommand_count > 0) {
        reply_bulk_cstr(r, "subcommands");
        reply_map(r, cmd->subcommand_count);
        for (int i = 0; i < cmd->subcommand_count; i++)
            reply_docs(r, &cmd->subcommands[i]);
    }
}

void cmd_command_docs(struct call *c)
{
    if (c->argc == 2) {
        reply_map(c->reply, count_top());
        for (int i = 0; command_at(i); i++)
            reply_docs(c->reply, command_at(i));
        return;
    }
    size_t known = 0;
    for (int i = 2; i < c->argc; i++)
        known += find_named(c->argv[i]) != NULL;
    reply_map(c->reply, known);
    for (int i = 2; i < c->argc; i++) {
        const struct command *cmd = find_named(c->argv[i]);
        if (cmd)
            reply_docs(c->reply, cmd);
    }
}

/* COMMAND LIST ----------------------------------------------------------------------------------
 */

struct filter {
    enum { FILTER_NONE, FILTER_ACLCAT, FILTER_PATTERN, FILTER_MODULE } kind;
    struct slice value;
    uint64_t category;
};

static bool filter_passes(const struct filter *f, const struct command *cmd)
{
    switch (f->kind) {
    case FILTER_NONE:
        return true;
    case FILTER_ACLCAT:
        return (cmd->acl_categories & f->category) != 0;
    case FILTER_PATTERN:
        return glob_match(f->value, slice_cstr(cmd->full_name), true);
    case FILTER_MODULE:
        return false; /* there are no modules */
    }
    return false;
}

static size_t list_one(struct reply *r, const struct filter *f, const struct command *cmd)
{
    size_t count = 0;
    if (filter_passes(f, cmd)) {
        reply_bulk_cstr(r, cmd->full_name);
        count++;
    }
    for (int i = 0; i < cmd->subcommand_count; i++)
        count += list_one(r, f, &cmd->subcommands[i]);
    return count;
}

void cmd_command_list(struct call *c)
{
    struct filter f = {FILTER_NONE, SLICE(""), 0};
    if (c->argc == 5 && slice_is(c->argv[2], "filterby")) {
        f.value = c->argv[4];
        if (slice_is(c->argv[3], "aclcat"))
            f.kind = FILTER_ACLCAT;
        else if (slice_is(c->argv[3], "pattern"))
            f.kind = FILTER_PATTERN;
        else if (slice_is(c->argv[3], "module"))
            f.kind = FILTER_MODULE;
    }
    if (c->argc != 2 && f.kind == FILTER_NONE) {
        reply_syntax_error(c->reply);
        return;
    }
    for (unsigned bit = 0; command_acl_name(bit); bit++)
        if (slice_is(f.value, command_acl_name(bit)))
            f.category = 1ULL << bit;
    struct reply_mark mark = reply_deferred_begin(c->reply);
    size_t count = 0;
    for (int i = 0; command_at(i); i++)
        count += list_one(c->reply, &f, command_at(i));
    reply_deferred_array(c->reply, mark, count);
}

/* COMMAND GETKEYS -------------------------------------------------------------------------------
 */

static bool arity_fits(const struct command *cmd, int argc)
{
    return cmd->arity > 0 ? argc == cmd->arity : argc >= -cmd->arity;
}

static void getkeys(struct call *c, bool with_flags)
{
    const struct slice *argv = c->argv + 2;
    int argc = c->argc - 2;
    const struct command *cmd = command_find(argv[0]);
    if (cmd && cmd->subcommand_count && argc > 1)
        cmd = command_find_sub(cmd, argv[1]);
    if (!cmd) {
        reply_error(c->reply, "ERR Invalid command specified");
        return;
    }
    if (!command_has_keys(cmd)) {
        reply_error(c->reply, "ERR The command has no key arguments");
        return;
    }
    if (!arity_fits(cmd, argc)) {
        reply_error(c->reply, "ERR Invalid number of arguments specified for command");
        return;
    }
    struct command_key *keys = mem_alloc((size_t)argc * sizeof(*keys));
    int count = command_keys_flags(cmd, argv, argc, keys, argc);
    if (count > argc)
        count = argc;
    if (count > 0) {
        reply_array(c->reply, (size_t)count);
        for (int i = 0; i < count; i++) {
            if (with_flags)
                reply_array(c->reply, 2);
            reply_bulk(c->reply, argv[keys[i].position]);
            if (with_flags)
                reply_names(c->reply, keys[i].flags, key_spec_flag_name, "");
        }
    } else if (cmd->flags & COMMAND_NO_MANDATORY_KEYS) {
        reply_empty_array(c->reply);
    } else {
        reply_error(c->reply, "ERR Invalid arguments specified for command");
    }
    mem_free(keys);
}

void cmd_command_getkeys(struct call *c)
{
    getkeys(c, false);
}

void cmd_command_getkeysandflags(struct call *c)
{
    getkeys(c, true);
}

void cmd_command_help(struct call *c)
{
    static const char *const lines[] = {
        "(without a subcommand)",
        "    Describe every command.",
        "COUNT",
        "    How many commands there are.",
        "DOCS [<command> ...]",
        "    Documentation of these commands, or of all.",
        "GETKEYS <command> [<argument> ...]",
        "    The keys among the arguments of a command.",
        "GETKEYSANDFLAGS <command> [<argument> ...]",
        "    The same, and what the command does to each key.",
        "INFO [<command> ...]",
        "    Describe these commands, or all.",
        "LIST [FILTERBY ACLCAT <category> | MODULE <name> | PATTERN <pattern>]",
        "    The names of all commands, or of those that the filter lets through.",
    };
    reply_help(c, "COMMAND", lines, sizeof(lines) / sizeof(lines[0]));
}
