/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Figures and keys as people, JSON and HTML readers see them. Keys and values are data from outside
 * and may hold any byte: what is written here can be printed to a terminal, and read back by a
 * parser, whatever they hold.
 */
#ifndef HF_TOOL_FORMAT_H
#define HF_TOOL_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "base/text.h"

#define FORMAT_SIZE 48

/* Each returns `out`. */
const char *format_bytes(char out[FORMAT_SIZE], uint64_t bytes);      /* "1.2 MiB" */
const char *format_count(char out[FORMAT_SIZE], uint64_t count);      /* "1,234,567" */
const char *format_duration(char out[FORMAT_SIZE], int64_t ms);       /* "3 h 12 min" */
/* "2026-11-21 17:10:59 UTC" */
const char *format_time(char out[FORMAT_SIZE], int64_t wall_ms);
const char *format_percent(char out[FORMAT_SIZE], uint64_t part, uint64_t whole); /* "12.3 %" */

/* The length of the well-formed UTF-8 character at `at`, with its code point; 0 when there is
 * none. */
size_t utf8_char(struct slice s, size_t at, uint32_t *code);
bool utf8_valid(struct slice s);

/* For the terminal: as it is when it can be printed as such, otherwise in double quotes with \xHH.
 * Longer than `most` bytes it is cut, and "..." follows. */
void text_append_printable(struct text *t, struct slice s, size_t most);
/* A JSON string; what is not UTF-8 becomes {"base64":"..."}, as JSON knows no bytes. */
void text_append_json(struct text *t, struct slice s);
void text_append_base64(struct text *t, struct slice s);
/* Text for an HTML element or a quoted attribute, printable as for the terminal. */
void text_append_html(struct text *t, struct slice s, size_t most);

#endif
