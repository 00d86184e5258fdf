/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/config_table.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/mem_move.h"
#include "base/number.h"

#define FIXED DIRECTIVE_FIXED
#define LIVE DIRECTIVE_LIVE
#define HIDDEN DIRECTIVE_HIDDEN
#define SENSITIVE DIRECTIVE_SENSITIVE
#define PROTECTED DIRECTIVE_PROTECTED
#define MULTI DIRECTIVE_MULTI
#define INERT DIRECTIVE_INERT
#define FILE_NAME DIRECTIVE_FILE_NAME

#define ROW(type, field, name, alias, value, low, high, text, flags)                         \
    {name, alias, DIRECTIVE_##type, flags, offsetof(struct config, field), value, low, high, \
     text, NULL},

const struct directive config_directives[] = {
#define BOOL(field, name, alias, value, flags) \
    ROW(BOOL, field, name, alias, value, 0, 1, NULL, flags)
#define INT(field, name, alias, value, low, high, flags) \
    ROW(INT, field, name, alias, value, low, high, NULL, flags)
#define MEMORY(field, name, alias, value, low, high, flags) \
    ROW(MEMORY, field, name, alias, value, low, high, NULL, flags)
#define PERCENT(field, name, alias, value, flags) \
    ROW(PERCENT, field, name, alias, value, -100, INT64_MAX, NULL, flags)
#define OCTAL(field, name, alias, value, low, high, flags) \
    ROW(OCTAL, field, name, alias, value, low, high, NULL, flags)
#define STRING(field, name, alias, value, flags) \
    ROW(STRING, field, name, alias, 0, 0, 0, value, flags)
#define ENUM(field, name, alias, words, value, flags) \
    ROW(ENUM, field, name, alias, value, 0, 0, words, flags)
#define BITS(field, name, alias, words, value, flags) \
    ROW(BITS, field, name, alias, value, 0, 0, words, (flags) | MULTI)
#define SPECIAL(name, alias, kind, flags) \
    {name, alias, DIRECTIVE_SPECIAL, flags, 0, 0, 0, 0, NULL, &directive_##kind},
#define IGNORED(name) {name, NULL, DIRECTIVE_IGNORED, HIDDEN, 0, 0, 0, 0, NULL, NULL},
#include "server/config_directives.h"
};
const int config_directive_count = sizeof(config_directives) / sizeof(config_directives[0]);

/* Directives are looked up when a file is read or an operator changes one: a walk over the table is
 * fast enough. */
const struct directive *directive_find(struct slice name)
{
    for (int i = 0; i < config_directive_count; i++) {
        const struct directive *d = &config_directives[i];
        if (slice_is(name, d->name) || (d->alias && slice_is(name, d->alias)))
            return d;
    }
    return NULL;
}

static void *field_at(struct config *c, const struct directive *d)
{
    return (char *)c + d->offset;
}

void config_replace_string(char **field, struct slice value)
{
    char *copy = mem_dup(value.data, value.size);
    mem_free(*field);
    *field = copy;
}

bool config_parse_memory(struct slice s, int64_t *bytes)
{
    static const struct {
        const char *unit;
        int64_t factor;
    } units[] = {{"", 1},        {"b", 1},        {"k", 1000},       {"kb", 1 << 10},
                 {"m", 1000000}, {"mb", 1 << 20}, {"g", 1000000000}, {"gb", 1 << 30}};
    size_t digits = 0;
    int64_t n = 0;
    while (digits < s.size && s.data[digits] >= '0' && s.data[digits] <= '9') {
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, s.data[digits] - '0', &n))
            return false;
        digits++;
    }
    struct slice unit = slice_of(s.data + digits, s.size - digits);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
        if (slice_is(unit, units[i].unit))
            return !__builtin_mul_overflow(n, units[i].factor, bytes);
    return false;
}

static bool set_number(struct config *c, const struct directive *d, struct slice s,
                       struct error *err)
{
    int64_t v = 0;
    switch (d->type) {
    case DIRECTIVE_INT:
        if (!number_parse_int64(s, &v))
            return error_set(err, ERROR_INVALID, "argument couldn't be parsed into an integer");
        break;
    case DIRECTIVE_OCTAL: {
        char *end;
        v = strtoll(s.data, &end, 8);
        if (s.size == 0 || end != s.data + s.size)
            return error_set(err, ERROR_INVALID, "argument couldn't be parsed as an octal number");
        break;
    }
    case DIRECTIVE_PERCENT:
        if (s.size > 1 && s.data[s.size - 1] == '%') {
            if (!number_parse_int64(slice_of(s.data, s.size - 1), &v) || v < 0)
                return error_set(err, ERROR_INVALID, "argument must be a memory or percent value");
            if (v > 100)
                return error_set(err, ERROR_INVALID,
                                 "percentage argument must be less or equal to 100");
            v = -v;
        } else if (!config_parse_memory(s, &v)) {
            return error_set(err, ERROR_INVALID, "argument must be a memory or percent value");
        }
        break;
    default:
        if (!config_parse_memory(s, &v))
            return error_set(err, ERROR_INVALID, "argument must be a memory value");
        break;
    }
    if (v < d->low || v > d->high) {
        if (d->type == DIRECTIVE_OCTAL)
            return error_set(err, ERROR_INVALID, "argument must be between %llo and %llo inclusive",
                             (unsigned long long)d->low, (unsigned long long)d->high);
        return error_set(err, ERROR_INVALID, "argument must be between %lld and %lld inclusive",
                         (long long)d->low, (long long)d->high);
    }
    *(int64_t *)field_at(c, d) = v;
    return true;
}

/* The n-th word of a blank-separated list; empty behind the last. */
static struct slice word_at(const char *words, int n)
{
    while (n > 0 && *words) {
        words = words + strcspn(words, " ");
        words += *words == ' ';
        n--;
    }
    return slice_of(words, strcspn(words, " "));
}

static bool same_word(struct slice a, struct slice b)
{
    return a.size == b.size && strncasecmp(a.data, b.data, a.size) == 0;
}

/* The index of a word, -1 when it is none of them. */
static int word_index(const char *words, struct slice s)
{
    for (int i = 0;; i++) {
        struct slice w = word_at(words, i);
        if (w.size == 0)
            return -1;
        if (w.data[0] == '.')
            w = slice_of(w.data + 1, w.size - 1);
        if (same_word(w, s))
            return i;
    }
}

static bool not_one_of(const char *words, struct error *err)
{
    struct text list = {0};
    for (int i = 0;; i++) {
        struct slice w = word_at(words, i);
        if (w.size == 0)
            break;
        if (w.data[0] != '.')
            text_appendf(&list, "%s%.*s", list.size ? ", " : "", (int)w.size, w.data);
    }
    error_set(err, ERROR_INVALID, "argument(s) must be one of the following: %s", text_cstr(&list));
    text_free(&list);
    return false;
}

static bool set_words(struct config *c, const struct directive *d, const struct slice *argv,
                      int argc, struct error *err)
{
    int value = 0;
    for (int i = 0; i < argc; i++) {
        int index = word_index(d->text, argv[i]);
        if (index < 0)
            return not_one_of(d->text, err);
        if (d->type == DIRECTIVE_ENUM)
            value = index;
        else if (index > 0) /* the word for none adds nothing to others */
            value |= 1 << (index - 1);
    }
    /* The directives that take several words are those about the end of the process. */
    if (d->type == DIRECTIVE_BITS && value & SHUTDOWN_BIT_SAVE && value & SHUTDOWN_BIT_NOSAVE)
        return error_set(err, ERROR_INVALID,
                         "shutdown options SAVE and NOSAVE can't be used simultaneously");
    *(int *)field_at(c, d) = value;
    return true;
}

static bool set_string(struct config *c, const struct directive *d, struct slice s,
                       struct error *err)
{
    bool is_file = strcmp(d->name, "dbfilename") == 0 || strcmp(d->name, "appendfilename") == 0;
    bool is_dir = strcmp(d->name, "appenddirname") == 0 || strcmp(d->name, "backupdirname") == 0;
    if ((is_file || is_dir) &&
        (memchr(s.data, '/', s.size) || slice_is(s, ".") || slice_is(s, "..")))
        return error_set(err, ERROR_INVALID, "%s can't be a path, just a %s", d->name,
                         is_file ? "filename" : "dirname");
    if (s.size == 0 && (is_dir || strcmp(d->name, "appendfilename") == 0))
        return error_set(err, ERROR_INVALID, "%s can't be empty", d->name);
    if (memchr(s.data, '\0', s.size))
        return error_set(err, ERROR_INVALID, "argument must not contain a zero byte");
    config_replace_string(field_at(c, d), s);
    return true;
}

bool directive_set(struct config *c, const struct directive *d, const struct slice *argv, int argc,
                   bool loading, struct error *err)
{
    if (d->type == DIRECTIVE_IGNORED)
        return true;
    if (argc < 1 || (argc > 1 && !(d->flags & MULTI)))
        return error_set(err, ERROR_INVALID, "wrong number of arguments");
    switch (d->type) {
    case DIRECTIVE_BOOL:
        if (!slice_is(argv[0], "yes") && !slice_is(argv[0], "no"))
            return error_set(err, ERROR_INVALID, "argument must be 'yes' or 'no'");
        if (d->offset == offsetof(struct config, activedefrag) && slice_is(argv[0], "yes") &&
            !mem_can_move())
            return error_set(
                err, ERROR_INVALID,
                "Active defragmentation cannot be enabled: it needs jemalloc 5.2 or later, "
                "and this server uses %s",
                mem_allocator_name());
        *(bool *)field_at(c, d) = slice_is(argv[0], "yes");
        return true;
    case DIRECTIVE_STRING:
        return set_string(c, d, argv[0], err);
    case DIRECTIVE_ENUM:
    case DIRECTIVE_BITS:
        return set_words(c, d, argv, argc, err);
    case DIRECTIVE_SPECIAL:
        return d->special->set(c, argv, argc, loading, err);
    default:
        if (!set_number(c, d, argv[0], err))
            return false;
        /* Out of these bounds hz would be of no use; Redis limits it silently. */
        if (c->hz < 1)
            c->hz = 1;
        else if (c->hz > 500)
            c->hz = 500;
        return true;
    }
}

bool directive_set_string(struct config *c, const struct directive *d, struct slice value,
                          bool loading, struct error *err)
{
    if (!(d->flags & MULTI))
        return directive_set(c, d, &value, 1, loading, err);
    /* Separated by exactly one blank, so that two of them give an empty value, as in Redis. */
    int count = 1;
    for (size_t i = 0; i < value.size; i++)
        count += value.data[i] == ' ';
    struct slice *argv = mem_alloc((size_t)count * sizeof(*argv));
    char *copy = mem_dup(value.data, value.size);
    int n = 0;
    size_t start = 0;
    for (size_t i = 0; i <= value.size; i++) {
        if (i < value.size && copy[i] != ' ')
            continue;
        copy[i] = '\0';
        argv[n++] = slice_of(copy + start, i - start);
        start = i + 1;
    }
    bool ok = directive_set(c, d, argv, n, loading, err);
    mem_free(copy);
    mem_free(argv);
    return ok;
}

static void get_bits(const struct directive *d, int value, struct text *out)
{
    size_t before = out->size;
    for (int i = value ? 1 : 0;; i++) {
        struct slice w = word_at(d->text, i);
        if (w.size == 0)
            return;
        if (i == 0 || value & 1 << (i - 1))
            text_appendf(out, "%s%.*s", out->size > before ? " " : "", (int)w.size, w.data);
        if (i == 0)
            return;
    }
}

void directive_get(struct config *c, const struct directive *d, struct text *out)
{
    void *field = field_at(c, d);
    switch (d->type) {
    case DIRECTIVE_BOOL:
        text_append_cstr(out, *(bool *)field ? "yes" : "no");
        return;
    case DIRECTIVE_INT:
    case DIRECTIVE_MEMORY:
        text_appendf(out, "%lld", (long long)*(int64_t *)field);
        return;
    case DIRECTIVE_PERCENT: {
        long long v = *(int64_t *)field;
        text_appendf(out, v < 0 ? "%lld%%" : "%lld", v < 0 ? -v : v);
        return;
    }
    case DIRECTIVE_OCTAL:
        text_appendf(out, "%llo", (unsigned long long)*(int64_t *)field);
        return;
    case DIRECTIVE_STRING:
        text_append_cstr(out, *(char **)field);
        return;
    case DIRECTIVE_ENUM: {
        struct slice w = word_at(d->text, *(int *)field);
        bool unlisted = w.size && w.data[0] == '.';
        text_append(out, w.data + unlisted, w.size - unlisted);
        return;
    }
    case DIRECTIVE_BITS:
        get_bits(d, *(int *)field, out);
        return;
    case DIRECTIVE_SPECIAL:
        d->special->get(c, out);
        return;
    case DIRECTIVE_IGNORED:
        return;
    }
}

void directive_set_default(struct config *c, const struct directive *d)
{
    void *field = field_at(c, d);
    switch (d->type) {
    case DIRECTIVE_BOOL:
        *(bool *)field = d->value != 0;
        return;
    case DIRECTIVE_STRING:
        *(char **)field = mem_dup(d->text, strlen(d->text));
        return;
    case DIRECTIVE_ENUM:
    case DIRECTIVE_BITS:
        *(int *)field = (int)d->value;
        return;
    case DIRECTIVE_SPECIAL:
    case DIRECTIVE_IGNORED:
        return;
    default:
        *(int64_t *)field = d->value;
        return;
    }
}

void config_init(struct config *c)
{
    *c = (struct config){0};
    for (int i = 0; i < config_directive_count; i++)
        directive_set_default(c, &config_directives[i]);
    config_special_init(c);
}

void config_deinit(struct config *c)
{
    for (int i = 0; i < config_directive_count; i++)
        if (config_directives[i].type == DIRECTIVE_STRING)
            mem_free(*(char **)field_at(c, &config_directives[i]));
    config_special_deinit(c);
    mem_free(c->file);
    text_free(&c->warnings);
    text_free(&c->users);
    text_free(&c->inert_defaults);
}

void config_warn_inert(struct config *c, const struct directive *d, const char *source, int line)
{
    struct config fresh;
    config_init(&fresh);
    struct text now = {0}, usual = {0};
    directive_get(c, d, &now);
    directive_get(&fresh, d, &usual);
    if (slice_equal(text_slice(&now), text_slice(&usual)))
        text_appendf(&c->inert_defaults, "%s%s", c->inert_defaults.size ? ", " : "", d->name);
    else if (line > 0)
        text_appendf(&c->warnings, "%s, line %d: '%s' is known but has no effect yet\n", source,
                     line, d->name);
    else
        text_appendf(&c->warnings, "%s: '%s' is known but has no effect yet\n", source, d->name);
    text_free(&now);
    text_free(&usual);
    config_deinit(&fresh);
}

void config_log_warnings(struct config *c)
{
    char *line = c->warnings.data, *end;
    for (; line && (end = strchr(line, '\n')); line = end + 1)
        log_warning("%.*s", (int)(end - line), line);
    if (c->inert_defaults.size)
        log_notice("Configured as by default, known, but without effect yet: %s",
                   c->inert_defaults.data);
    text_free(&c->warnings);
    text_free(&c->inert_defaults);
}
