/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/config.h"

#include <string.h>
#include <strings.h>

#include "base/glob.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/config_table.h"

/* One directive of a CONFIG SET. */
struct change {
    const struct directive *directive;
    struct slice name, value;
    struct text old;
    bool set;     /* the value is in place */
    bool applied; /* the apply function was called */
};

static bool refuse(struct error *err, struct slice name, const char *reason)
{
    char copy[sizeof(err->message)]; /* the reason may be err's own message */
    memcpy(copy, reason, strnlen(reason, sizeof(copy) - 1) + 1);
    copy[sizeof(copy) - 1] = '\0';
    int size = name.size > 100 ? 100 : (int)name.size;
    return error_set(err, ERROR_INVALID,
                     "CONFIG SET failed (possibly related to argument '%.*s') - %s", size,
                     name.data, copy);
}

/* Whether these directives may be changed by CONFIG SET at all. Unknown ones go before all else. */
static bool check_changes(struct change *changes, int count, bool protected_allowed,
                          struct error *err)
{
    for (int i = 0; i < count; i++) {
        const struct directive *d = directive_find(changes[i].name);
        if (!d || d->type == DIRECTIVE_IGNORED)
            return error_set(err, ERROR_NOT_FOUND,
                             "Unknown option or number of arguments for CONFIG SET - '%.*s'",
                             changes[i].name.size > 100 ? 100 : (int)changes[i].name.size,
                             changes[i].name.data);
        changes[i].directive = d;
    }
    for (int i = 0; i < count; i++) {
        const struct directive *d = changes[i].directive;
        if (!(d->flags & DIRECTIVE_LIVE))
            return refuse(err, changes[i].name, "can't set immutable config");
        if (d->flags & DIRECTIVE_PROTECTED && !protected_allowed)
            return refuse(err, changes[i].name, "can't set protected config");
        for (int j = 0; j < i; j++)
            if (changes[j].directive == d)
                return refuse(err, changes[i].name, "duplicate parameter");
    }
    return true;
}

static void roll_back(struct config *c, struct change *changes, int count)
{
    for (int i = count - 1; i >= 0; i--) {
        struct error ignored = {0};
        if (changes[i].set)
            directive_set_string(c, changes[i].directive, text_slice(&changes[i].old), false,
                                 &ignored);
    }
    for (int i = count - 1; i >= 0; i--) {
        struct error ignored = {0};
        if (changes[i].applied)
            c->apply(c->apply_ctx, c, changes[i].directive->name, &ignored);
    }
}

static bool make_changes(struct config *c, struct change *changes, int count, struct error *err)
{
    for (int i = 0; i < count; i++) {
        struct change *ch = &changes[i];
        text_append_cstr(&ch->old, "");
        directive_get(c, ch->directive, &ch->old);
        if (!directive_set_string(c, ch->directive, ch->value, false, err))
            return refuse(err, ch->name, err->message);
        ch->set = true;
    }
    for (int i = 0; i < count && c->apply; i++) {
        struct change *ch = &changes[i];
        struct text now = {0};
        directive_get(c, ch->directive, &now);
        bool same = slice_equal(text_slice(&now), text_slice(&ch->old));
        text_free(&now);
        if (same && !(ch->directive->flags & DIRECTIVE_FILE_NAME))
            continue;
        ch->applied = true; /* or in part, if it fails: both are to be undone */
        if (!c->apply(c->apply_ctx, c, ch->directive->name, err))
            return refuse(err, ch->name, err->message);
    }
    return true;
}

bool config_set(struct config *c, const struct slice *pairs, int count, bool protected_allowed,
                struct error *err)
{
    int n = count / 2;
    struct change *changes = mem_zalloc((size_t)n * sizeof(*changes) + 1);
    for (int i = 0; i < n; i++) {
        changes[i].name = pairs[2 * i];
        changes[i].value = pairs[2 * i + 1];
    }
    bool ok = check_changes(changes, n, protected_allowed, err);
    if (ok) {
        ok = make_changes(c, changes, n, err);
        if (!ok)
            roll_back(c, changes, n);
    }
    for (int i = 0; i < n; i++) {
        const struct directive *d = changes[i].directive;
        if (ok && d->flags & DIRECTIVE_INERT)
            log_warning("CONFIG SET: '%s' is known but has no effect yet", d->name);
        text_free(&changes[i].old);
    }
    mem_free(changes);
    return ok;
}

static bool matches(const char *name, bool hidden, const struct slice *patterns, int count)
{
    for (int i = 0; i < count; i++) {
        bool exact = slice_is(patterns[i], name);
        if (exact || (!hidden && glob_match(patterns[i], slice_cstr(name), true)))
            return true;
    }
    return false;
}

/* A directive that was asked for by its name is given back in the very letters of the question. */
static struct slice shown_name(const char *name, const struct slice *patterns, int count)
{
    for (int i = 0; i < count; i++)
        if (slice_is(patterns[i], name))
            return patterns[i];
    return slice_cstr(name);
}

void config_get(struct config *c, const struct slice *patterns, int count,
                void (*fn)(void *ctx, struct slice name, struct slice value), void *ctx)
{
    for (int i = 0; i < config_directive_count; i++) {
        const struct directive *d = &config_directives[i];
        if (d->type == DIRECTIVE_IGNORED)
            continue;
        bool hidden = d->flags & DIRECTIVE_HIDDEN;
        bool by_name = matches(d->name, hidden, patterns, count);
        bool by_alias = d->alias && matches(d->alias, hidden, patterns, count);
        if (!by_name && !by_alias)
            continue;
        struct text value = {0};
        directive_get(c, d, &value);
        if (by_name)
            fn(ctx, shown_name(d->name, patterns, count), text_slice(&value));
        if (by_alias)
            fn(ctx, shown_name(d->alias, patterns, count), text_slice(&value));
        text_free(&value);
    }
}

bool config_get_value(struct config *c, struct slice name, struct text *out)
{
    const struct directive *d = directive_find(name);
    if (d)
        directive_get(c, d, out);
    return d != NULL;
}
