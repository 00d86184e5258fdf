/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The forms that keys are exported in. Each is given one key after another, and writes to standard
 * output as it goes, so that a value needs no second copy in memory.
 */
#ifndef HF_TOOL_EXPORT_H
#define HF_TOOL_EXPORT_H

#include "base/text.h"
#include "keyspace/entry.h"

struct export_key {
    int db;
    const char *encoding; /* as OBJECT ENCODING names it */
    const struct entry *e;
};

struct export_format {
    const char *name;
    void (*begin)(struct text *out);
    /* A library of functions, before any key. NULL: the format has keys only. */
    void (*library)(struct text *out, struct slice code);
    /* The key's part of the output; calls export_flush now and then. db_before is the database of
     * the key before, -1 for the first. */
    void (*add)(struct text *out, const struct export_key *key, int db_before);
};

extern const struct export_format export_jsonl, export_resp, export_csv;

/* A value as JSON lines have it; with `flush` calls export_flush now and then. */
void export_json_value(struct text *out, const struct entry *e, bool flush);

/* Commands as RESP has them: one of `count` arguments, its name itself counted, which follow. */
void export_resp_begin(struct text *out, size_t count, const char *name);
void export_resp_bulk(struct text *out, struct slice s);
/* The commands that make a stream with its groups (export_stream.c). */
void export_resp_stream(struct text *out, const struct entry *e);

/* The most that gathers in `out` before it is written. */
#define EXPORT_FLUSH_SIZE (256 * 1024)
/* Write out what has gathered once it is much. */
void export_flush(struct text *out, size_t more_than);

#endif
