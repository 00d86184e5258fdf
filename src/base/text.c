/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/text.h"

#include <stdint.h>
#include <stdio.h>

#include "base/mem.h"

void text_free(struct text *t)
{
    mem_free(t->data);
    *t = (struct text){0};
}

void text_clear(struct text *t)
{
    t->size = 0;
    if (t->data)
        t->data[0] = '\0';
}

/* Room for `more` bytes and the NUL. */
static void text_reserve(struct text *t, size_t more)
{
    size_t need = t->size + more + 1;
    if (need <= t->capacity)
        return;
    size_t capacity = t->capacity * 2 > need ? t->capacity * 2 : need;
    if (capacity < 64)
        capacity = 64;
    t->data = mem_realloc(t->data, capacity);
    t->capacity = capacity;
}

void text_append(struct text *t, const void *bytes, size_t size)
{
    text_reserve(t, size);
    if (size)
        memcpy(t->data + t->size, bytes, size);
    t->size += size;
    t->data[t->size] = '\0';
}

void text_append_cstr(struct text *t, const char *s)
{
    text_append(t, s, strlen(s));
}

void text_appendf(struct text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    text_reserve(t, 128);
    int n = vsnprintf(t->data + t->size, t->capacity - t->size, format, args);
    if (n > 0 && (size_t)n >= t->capacity - t->size) {
        text_reserve(t, (size_t)n);
        n = vsnprintf(t->data + t->size, t->capacity - t->size, format, again);
    }
    if (n > 0)
        t->size += (size_t)n;
    va_end(again);
    va_end(args);
}

void text_append_quoted(struct text *t, struct slice s)
{
    text_append(t, "\"", 1);
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        static const char from[] = "\n\r\t\a\b\"\\";
        static const char to[] = "nrtab\"\\";
        const char *special = c ? strchr(from, c) : NULL;
        if (special) {
            char pair[2] = {'\\', to[special - from]};
            text_append(t, pair, 2);
        } else if (c < 0x20 || c >= 0x7f) {
            text_appendf(t, "\\x%02x", c);
        } else {
            text_append(t, &s.data[i], 1);
        }
    }
    text_append(t, "\"", 1);
}

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads the rest of a "..." behind its opening quote to *out; returns where it goes on behind the
 * closing one, or NULL. */
static const char *read_double_quoted(const char *p, const char *end, char **out)
{
    while (p < end && *p != '"') {
        if (*p != '\\' || p + 1 == end) {
            *(*out)++ = *p++;
            continue;
        }
        p++;
        if (*p == 'x' && end - p > 2 && hex_value(p[1]) >= 0 && hex_value(p[2]) >= 0) {
            *(*out)++ = (char)(hex_value(p[1]) << 4 | hex_value(p[2]));
            p += 3;
            continue;
        }
        static const char from[] = "nrtab";
        static const char to[] = "\n\r\t\a\b";
        const char *special = *p ? strchr(from, *p) : NULL;
        *(*out)++ = special ? to[special - from] : *p;
        p++;
    }
    return p < end ? p + 1 : NULL;
}

static const char *read_single_quoted(const char *p, const char *end, char **out)
{
    while (p < end && *p != '\'') {
        if (*p == '\\' && end - p > 1 && p[1] == '\'')
            p++;
        *(*out)++ = *p++;
    }
    return p < end ? p + 1 : NULL;
}

/* Reads one word that begins at p, which is not blank. A quoted part ends the word. */
static const char *read_word(const char *p, const char *end, char **out)
{
    while (p < end && !is_blank(*p) && *p != '\0') {
        if (*p == '"' || *p == '\'') {
            p = *p == '"' ? read_double_quoted(p + 1, end, out)
                          : read_single_quoted(p + 1, end, out);
            if (!p || (p < end && !is_blank(*p)))
                return NULL;
            return p;
        }
        *(*out)++ = *p++;
    }
    return p;
}

bool text_split(struct words *w, struct slice line)
{
    /* No word is longer than its source, and each is followed by a blank there, or by the end: the
     * copies with their NULs fit in the size of the line and one. */
    char *memory = mem_alloc(line.size + 1);
    char *out = memory;
    *w = (struct words){NULL, 0, memory};
    int capacity = 0;
    const char *p = line.data, *end = line.data + line.size;
    for (;;) {
        while (p < end && is_blank(*p))
            p++;
        if (p >= end || *p == '\0')
            return true;
        char *start = out;
        p = read_word(p, end, &out);
        if (!p) {
            words_free(w);
            return false;
        }
        if (w->count == capacity) {
            capacity = capacity ? 2 * capacity : 8;
            w->items = mem_realloc(w->items, (size_t)capacity * sizeof(*w->items));
        }
        w->items[w->count++] = slice_of(start, (size_t)(out - start));
        *out++ = '\0';
    }
}

void words_free(struct words *w)
{
    mem_free(w->items);
    mem_free(w->memory);
    *w = (struct words){0};
}
