/* SPDX-License-Identifier: BSD-3-Clause
 *
 * INFO: a report of what the server is, has and does, in sections of "field:value" lines. The names
 * are Redis 7.0's. A field whose feature is not there has the value that an idle Redis gives.
 */
#ifndef HF_SERVER_INFO_H
#define HF_SERVER_INFO_H

#include "base/text.h"
#include "server/server.h"

/* Append the sections that are asked for: names, or "all", "everything", "default"; none: the
 * default ones. Unknown names are left out without a word. */
void info_append(struct server *s, const struct slice *names, int count, struct text *out);

/* "1.50K" */
void info_append_human(struct text *out, uint64_t bytes);

/* How the memory in use divides: what INFO and MEMORY STATS report. */
struct memory_use {
    size_t used, peak, startup;
    size_t clients;  /* input, output and state of all clients */
    size_t tables;   /* pages and segments of the databases' tables */
    size_t overhead; /* startup + clients + tables */
    size_t dataset;  /* the rest */
    uint64_t keys;
};
void info_memory_use(struct server *s, struct memory_use *use);

#endif
