/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Loading: files, standard input and the command line, as redis-server takes them.
 */
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "command/table.h"
#include "os/file.h"
#include "os/process.h"
#include "server/config_table.h"

#define CONFIG_FILE_MAX (64U << 20)
#define INCLUDE_DEPTH_MAX 16

/* A text that is being read: the file, where it stands, and how deep it is included. */
struct source {
    const char *name;
    int line;
    int depth;
    struct slice text;
};

static bool load_source(struct config *c, struct source *src, struct config_error *err);

static bool fail(struct config_error *err, const struct source *src, const char *reason)
{
    snprintf(err->source, sizeof(err->source), "%s", src->name);
    err->line = src->line;
    snprintf(err->text, sizeof(err->text), "%.*s", (int)src->text.size, src->text.data);
    snprintf(err->reason, sizeof(err->reason), "%s", reason);
    return false;
}

static bool load_file(struct config *c, const char *path, int depth, struct error *open_error,
                      struct config_error *err)
{
    char *data;
    size_t size;
    if (!os_file_read_whole(path, CONFIG_FILE_MAX, &data, &size, open_error))
        return false;
    struct source src = {path, 0, depth, slice_of(data, size)};
    bool ok = load_source(c, &src, err);
    mem_free(data);
    return ok;
}

struct include {
    struct config *c;
    const struct source *from;
    struct config_error *err;
};

static bool load_included(void *ctx, const char *path)
{
    struct include *in = ctx;
    struct error open_error = {0};
    if (load_file(in->c, path, in->from->depth + 1, &open_error, in->err))
        return true;
    if (open_error.code != ERROR_NONE) {
        char reason[sizeof(in->err->reason)];
        snprintf(reason, sizeof(reason), "can't open config file '%.100s': %.100s", path,
                 open_error.message);
        fail(in->err, in->from, reason);
    }
    return false;
}

static bool load_rename(const struct source *src, const struct words *w, struct config_error *err)
{
    switch (command_rename(w->items[1], w->items[2])) {
    case COMMAND_RENAMED: return true;
    case COMMAND_RENAME_UNKNOWN: return fail(err, src, "No such command in rename-command");
    case COMMAND_RENAME_TAKEN: return fail(err, src, "Target command name already exists");
    }
    return false;
}

static bool load_include(struct config *c, const struct source *src, const struct words *w,
                         struct config_error *err)
{
    if (src->depth >= INCLUDE_DEPTH_MAX)
        return fail(err, src, "includes are nested too deeply");
    struct include in = {c, src, err};
    return os_glob(w->items[1].data, load_included, &in);
}

/* Checked and taken over by acl_start, when there is a table of commands. */
static bool load_user(struct config *c, const struct source *src)
{
    text_append(&c->users, src->text.data, src->text.size);
    text_append(&c->users, "\n", 1);
    return true;
}

/* What is for files alone and not a setting. Returns false when the line is nothing of it; *ok says
 * whether it was in order. */
static bool load_file_only(struct config *c, const struct source *src, const struct words *w,
                           struct config_error *err, bool *ok)
{
    static const struct {
        const char *name;
        int least, most;
        bool inert;
    } known[] = {
        {"include", 2, 2, false},
        {"rename-command", 3, 3, false},
        {"user", 2, INT_MAX, false},
        {"loadmodule", 2, INT_MAX, true},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (!slice_is(w->items[0], known[i].name))
            continue;
        if (w->count < known[i].least || w->count > known[i].most)
            *ok = fail(err, src, "wrong number of arguments");
        else if (known[i].inert)
            text_appendf(&c->warnings, "%s, line %d: '%s' is known but has no effect yet\n",
                         src->name, src->line, known[i].name);
        else
            *ok = i == 0   ? load_include(c, src, w, err)
                  : i == 1 ? load_rename(src, w, err)
                           : load_user(c, src);
        return true;
    }
    return false;
}

/* One line, in src->text, without blanks around it. */
static bool load_line(struct config *c, const struct source *src, struct config_error *err)
{
    struct words w;
    if (!text_split(&w, src->text))
        return fail(err, src, "the quotes of this line are not balanced");
    bool ok = true;
    if (w.count > 0 && !load_file_only(c, src, &w, err, &ok)) {
        const struct directive *d = directive_find(w.items[0]);
        struct error reason = {0};
        if (!d) {
            error_set(&reason, ERROR_NOT_FOUND, "'%.100s' is not a directive that is known here",
                      w.items[0].data);
            ok = fail(err, src, reason.message);
        } else if (w.count == 2 ? !directive_set_string(c, d, w.items[1], true, &reason)
                                : !directive_set(c, d, w.items + 1, w.count - 1, true, &reason)) {
            /* One argument may hold several values: --save "3600 1 300 100". */
            ok = fail(err, src, reason.message);
        } else if (d->flags & DIRECTIVE_INERT) {
            config_warn_inert(c, d, src->name, src->line);
        }
    }
    words_free(&w);
    return ok;
}

static bool is_blank(char ch)
{
    return ch == ' ' || ch == '\t' || ch == '\r';
}

static bool load_source(struct config *c, struct source *src, struct config_error *err)
{
    const char *p = src->text.data, *end = p + src->text.size;
    while (p < end) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        const char *next = stop ? stop + 1 : end;
        if (!stop)
            stop = end;
        src->line++;
        while (p < stop && is_blank(*p))
            p++;
        while (stop > p && is_blank(stop[-1]))
            stop--;
        if (p < stop && *p != '#') {
            struct source line = *src;
            line.text = slice_of(p, (size_t)(stop - p));
            if (!load_line(c, &line, err))
                return false;
        }
        p = next;
    }
    return true;
}

bool config_load_text(struct config *c, const char *source, struct slice text,
                      struct config_error *err)
{
    struct source src = {source, 0, 0, text};
    *err = (struct config_error){0};
    return load_source(c, &src, err);
}

/* Turns the arguments behind the file's name into lines. Each --name begins one; what follows are
 * its values, quoted, so that any byte gets through. The word behind --name is always a value, even
 * if it begins with "--", but for --save, which without one means: never. */
static void options_to_text(int argc, char **argv, int first, bool *from_stdin, struct text *out)
{
    bool value_seen = true;
    for (int i = first; i < argc; i++) {
        const char *arg = argv[i];
        if (strcmp(arg, "-") == 0 && (i == 1 || i == argc - 1)) {
            *from_stdin = true;
        } else if (value_seen && strncmp(arg, "--", 2) == 0) {
            text_appendf(out, "%s%s ", out->size ? "\n" : "", arg + 2);
            struct words w;
            bool name_alone = text_split(&w, slice_cstr(arg)) && w.count == 1;
            bool no_value = i + 1 == argc || strncmp(argv[i + 1], "--", 2) == 0;
            value_seen = !name_alone;
            if (name_alone && no_value && strcasecmp(arg, "--save") == 0) {
                text_append_cstr(out, "\"\"");
                value_seen = true;
            }
            words_free(&w);
        } else {
            text_append_quoted(out, slice_cstr(arg));
            text_append_cstr(out, " ");
            value_seen = true;
        }
    }
}

bool config_load_args(struct config *c, int argc, char **argv, struct config_error *err)
{
    *err = (struct config_error){0};
    int first = 1;
    struct text options = {0};
    bool ok = true, from_stdin = false;
    if (argc > 1 && argv[1][0] != '-' && argv[1][0] != '\0') {
        c->file = os_absolute_path(argv[1]);
        first = 2;
        struct error open_error = {0};
        ok = load_file(c, argv[1], 0, &open_error, err);
        if (!ok && open_error.code != ERROR_NONE) {
            struct source src = {argv[1], 0, 0, SLICE("")};
            fail(err, &src, open_error.message);
        }
    }
    options_to_text(argc, argv, first, &from_stdin, &options);
    /* Who has configured nothing wants to keep the data. Redis's default holds as soon as there is
     * a configuration. */
    if (c->file == NULL && !from_stdin)
        c->appendonly = true;
    if (ok && from_stdin) {
        struct text input = {0};
        struct error read_error = {0};
        struct source src = {"standard input", 0, 0, SLICE("")};
        ok = os_read_stdin(CONFIG_FILE_MAX, &input, &read_error)
                 ? config_load_text(c, src.name, text_slice(&input), err)
                 : fail(err, &src, read_error.message);
        text_free(&input);
    }
    if (ok)
        ok = config_load_text(c, "command line", text_slice(&options), err);
    text_free(&options);
    return ok;
}

void config_print_error(const struct config_error *err)
{
    fprintf(stderr, "\n*** FATAL CONFIG FILE ERROR (Holdfast %s) ***\n", HF_VERSION);
    if (err->line > 0)
        fprintf(stderr, "Reading %s, at line %d\n>>> '%s'\n", err->source, err->line, err->text);
    else
        fprintf(stderr, "Reading %s\n", err->source);
    fprintf(stderr, "%s\n", err->reason);
}
