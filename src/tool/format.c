/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/format.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

const char *format_bytes(char out[FORMAT_SIZE], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double v = (double)bytes;
    int unit = 0;
    /* 1023.96 KiB would be shown as 1024.0 KiB. */
    for (; v >= 1023.95 && unit < 6; unit++)
        v /= 1024;
    snprintf(out, FORMAT_SIZE, unit == 0 ? "%.0f %s" : v < 99.95 ? "%.1f %s" : "%.0f %s", v,
             units[unit]);
    return out;
}

const char *format_count(char out[FORMAT_SIZE], uint64_t count)
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%" PRIu64, count), used = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            out[used++] = ',';
        out[used++] = digits[i];
    }
    out[used] = '\0';
    return out;
}

const char *format_duration(char out[FORMAT_SIZE], int64_t ms)
{
    int64_t s = ms / 1000;
    if (s < 60)
        snprintf(out, FORMAT_SIZE, "%" PRId64 " s", s);
    else if (s < 3600)
        snprintf(out, FORMAT_SIZE, "%" PRId64 " min %" PRId64 " s", s / 60, s % 60);
    else if (s < 86400)
        snprintf(out, FORMAT_SIZE, "%" PRId64 " h %" PRId64 " min", s / 3600, s / 60 % 60);
    else
        snprintf(out, FORMAT_SIZE, "%" PRId64 " d %" PRId64 " h", s / 86400, s / 3600 % 24);
    return out;
}

const char *format_time(char out[FORMAT_SIZE], int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || strftime(out, FORMAT_SIZE, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        snprintf(out, FORMAT_SIZE, "%" PRId64 " ms", wall_ms);
    return out;
}

const char *format_percent(char out[FORMAT_SIZE], uint64_t part, uint64_t whole)
{
    double v = whole ? 100.0 * (double)part / (double)whole : 0;
    snprintf(out, FORMAT_SIZE, v > 0 && v < 0.1 ? "<0.1 %%" : "%.1f %%", v);
    return out;
}

size_t utf8_char(struct slice s, size_t at, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s.data[at];
    size_t size = first < 0x80       ? 1
                  : first >> 5 == 6  ? 2
                  : first >> 4 == 14 ? 3
                  : first >> 3 == 30 ? 4
                                     : 0;
    if (size == 0 || size > s.size - at)
        return 0;
    uint32_t v = size == 1 ? first : first & (0x7fu >> size);
    for (size_t i = 1; i < size; i++) {
        unsigned char next = (unsigned char)s.data[at + i];
        if (next >> 6 != 2)
            return 0;
        v = v << 6 | (next & 63);
    }
    /* Neither longer than need be, nor half of a surrogate pair, nor beyond Unicode. */
    if (v < least[size] || (v >= 0xd800 && v < 0xe000) || v > 0x10ffff)
        return 0;
    *code = v;
    return size;
}

bool utf8_valid(struct slice s)
{
    uint32_t code;
    for (size_t at = 0, size; at < s.size; at += size) {
        if (s.data[at] > 0) {
            size = 1;
            continue;
        }
        size = utf8_char(s, at, &code);
        if (size == 0)
            return false;
    }
    return true;
}

/* Control characters, and those that change the direction of what is shown beside them. */
static bool is_control(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || (code >= 0x200b && code <= 0x200f) ||
           (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) ||
           code == 0xfeff;
}

/* Whether the text shows what it is when it is printed as such. */
static bool is_printable(struct slice s)
{
    uint32_t code;
    for (size_t at = 0, size; at < s.size; at += size) {
        size = utf8_char(s, at, &code);
        if (size == 0 || is_control(code))
            return false;
    }
    return s.size > 0 && s.data[0] != '"' && s.data[0] != ' ' && s.data[s.size - 1] != ' ';
}

void text_append_printable(struct text *t, struct slice s, size_t most)
{
    struct slice shown = s;
    if (s.size > most) {
        shown.size = most;
        /* Not within a character. */
        while (shown.size > 0 && most - shown.size < 3 && (s.data[shown.size] & 0xc0) == 0x80)
            shown.size--;
    }
    if (is_printable(shown))
        text_append(t, shown.data, shown.size);
    else
        text_append_quoted(t, shown);
    if (shown.size < s.size)
        text_append_cstr(t, "...");
}

void text_append_base64(struct text *t, struct slice s)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *p = (const unsigned char *)s.data;
    for (size_t i = 0; i < s.size; i += 3) {
        size_t n = s.size - i < 3 ? s.size - i : 3;
        uint32_t v =
            (uint32_t)p[i] << 16 | (n > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (n > 2 ? p[i + 2] : 0);
        char out[4] = {digits[v >> 18], digits[v >> 12 & 63], n > 1 ? digits[v >> 6 & 63] : '=',
                       n > 2 ? digits[v & 63] : '='};
        text_append(t, out, sizeof(out));
    }
}

void text_append_json(struct text *t, struct slice s)
{
    if (!utf8_valid(s)) {
        text_append_cstr(t, "{\"base64\":\"");
        text_append_base64(t, s);
        text_append_cstr(t, "\"}");
        return;
    }
    text_append_cstr(t, "\"");
    size_t plain = 0; /* where what is to be copied as it is begins */
    for (size_t i = 0; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        text_append(t, s.data + plain, i - plain);
        plain = i + 1;
        if (c == '"' || c == '\\')
            text_appendf(t, "\\%c", c);
        else
            text_appendf(t, "\\u%04x", c);
    }
    text_append(t, s.data + plain, s.size - plain);
    text_append_cstr(t, "\"");
}

void text_append_html(struct text *t, struct slice s, size_t most)
{
    struct text shown = {0};
    text_append_printable(&shown, s, most);
    for (size_t i = 0; i < shown.size; i++) {
        char c = shown.data[i];
        switch (c) {
        case '&':
            text_append_cstr(t, "&amp;");
            break;
        case '<':
            text_append_cstr(t, "&lt;");
            break;
        case '>':
            text_append_cstr(t, "&gt;");
            break;
        case '"':
            text_append_cstr(t, "&quot;");
            break;
        case '\'':
            text_append_cstr(t, "&#39;");
            break;
        default:
            text_append(t, &c, 1);
        }
    }
    text_free(&shown);
}
