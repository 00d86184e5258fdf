/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast report: what the keys of a file take, grouped in every way that helps to find out why.
 * report.c collects, and report_text.c, report_json.c and report_html.c show the same sections.
 *
 * The file is streamed. Memory: the prefixes (see prefixes.h), the biggest keys, fixed tables, and
 * one value at a time.
 */
#ifndef HF_TOOL_REPORT_H
#define HF_TOOL_REPORT_H

#include <stdio.h>

#include "keyspace/entry.h"
#include "tool/format.h"
#include "tool/prefixes.h"

#define REPORT_KEY_KEPT 512 /* of a key's name */

/* A line of a section. */
struct report_row {
    struct slice name; /* a constant, or in the section's `names` */
    bool is_data;      /* the name comes from the file */
    int level;         /* 1: top; more: part of the row of a lower level before it */
    struct tally tally;
};

enum report_section_id {
    REPORT_TYPES,
    REPORT_ENCODINGS,
    REPORT_DATABASES,
    REPORT_PREFIXES,
    REPORT_EXPIRY,
    REPORT_SIZES,
    REPORT_SECTION_COUNT
};

struct report_section {
    const char *id, *title, *note;
    struct report_row *rows;
    size_t count;
    struct text names; /* what the rows' names point into, where they are not constant */
};

struct big_key {
    int db;
    char *key; /* its first REPORT_KEY_KEPT bytes */
    size_t kept, size;
    enum entry_type type;
    const char *encoding;
    int64_t due;
    struct tally tally;
};

struct report {
    const char *path;
    uint64_t file_size;
    int version;
    int64_t created_ms; /* 0: the file does not say */
    int64_t now_ms;     /* what times to live count from: created_ms, or the present */
    char writer[64];    /* "Redis 7.0.15", "Holdfast 0.1.0"; "" when the file does not say */
    struct tally total, expiring;
    uint64_t table_bytes; /* what the key table needs beside the entries: an estimate */
    char separator;
    uint64_t prefix_missed;
    struct report_section sections[REPORT_SECTION_COUNT];
    struct big_key *biggest; /* the biggest first */
    size_t biggest_count;
};

void report_print_text(const struct report *r, FILE *out);
void report_print_json(const struct report *r, FILE *out);
void report_build_html(const struct report *r, struct text *out);

#endif
