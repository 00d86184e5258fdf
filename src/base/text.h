/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A text that grows: for reports (INFO), files that are written whole (configuration), messages.
 * `data` always ends in a NUL that does not count. A zeroed struct is an empty text without memory.
 */
#ifndef HF_BASE_TEXT_H
#define HF_BASE_TEXT_H

#include <stdarg.h>
#include <stddef.h>

#include "base/slice.h"

struct text {
    char *data; /* NULL while nothing was appended */
    size_t size, capacity;
};

void text_free(struct text *t); /* empty afterwards, may be used again */
void text_clear(struct text *t);
void text_append(struct text *t, const void *bytes, size_t size);
void text_append_cstr(struct text *t, const char *s);
void text_appendf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* In double quotes, with \n \r \t \a \b \" \\ and \xHH for what cannot be printed: what text_split
 * reads back. */
void text_append_quoted(struct text *t, struct slice s);

static inline struct slice text_slice(const struct text *t)
{
    return slice_of(t->data, t->size);
}
/* "" when empty. */
static inline const char *text_cstr(const struct text *t)
{
    return t->data ? t->data : "";
}

/* The words of a line: separated by blanks; "..." with escapes (\n \r \t \a \b \xHH, \c for any
 * other character) and '...' with \' may hold anything. A closing quote must be followed by a blank
 * or the end. */
struct words {
    struct slice *items; /* each is followed by a NUL that does not count */
    int count;
    char *memory;
};
/* False when quotes are not balanced: then nothing is to be freed. */
bool text_split(struct words *w, struct slice line);
void words_free(struct words *w);

#endif
