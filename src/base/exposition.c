/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/exposition.h"

#include <math.h>

static void append_escaped(struct text *out, const char *value, bool quotes)
{
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '\n')
            text_append_cstr(out, "\\n");
        else if (*p == '\\')
            text_append_cstr(out, "\\\\");
        else if (*p == '"' && quotes)
            text_append_cstr(out, "\\\"");
        else
            text_append(out, p, 1);
    }
}

void exposition_begin(struct text *out, const char *name, const char *type, const char *help)
{
    text_appendf(out, "# HELP %s ", name);
    append_escaped(out, help, false);
    text_appendf(out, "\n# TYPE %s %s\n", name, type);
}

static void append_name(struct text *out, const char *name, const char *suffix,
                        const char *const *labels)
{
    text_appendf(out, "%s%s", name, suffix);
    if (labels != NULL && labels[0] != NULL) {
        for (int i = 0; labels[i] != NULL; i += 2) {
            text_appendf(out, "%s%s=\"", i == 0 ? "{" : ",", labels[i]);
            append_escaped(out, labels[i + 1], true);
            text_append_cstr(out, "\"");
        }
        text_append_cstr(out, "}");
    }
    text_append_cstr(out, " ");
}

void exposition_value(struct text *out, const char *name, const char *suffix,
                      const char *const *labels, double value)
{
    append_name(out, name, suffix, labels);
    if (isnan(value))
        text_append_cstr(out, "NaN\n");
    else if (isinf(value))
        text_append_cstr(out, value > 0 ? "+Inf\n" : "-Inf\n");
    else
        text_appendf(out, "%.15g\n", value);
}

void exposition_count(struct text *out, const char *name, const char *suffix,
                      const char *const *labels, uint64_t value)
{
    append_name(out, name, suffix, labels);
    text_appendf(out, "%llu\n", (unsigned long long)value);
}

void exposition_gauge(struct text *out, const char *name, const char *help, double value)
{
    exposition_begin(out, name, "gauge", help);
    exposition_value(out, name, "", NULL, value);
}

void exposition_counter(struct text *out, const char *name, const char *help, uint64_t value)
{
    exposition_begin(out, name, "counter", help);
    exposition_count(out, name, "", NULL, value);
}
