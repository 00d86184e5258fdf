/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast export: the keys of a file as JSON lines, as commands, or as CSV. What is not asked for
 * is passed over without being decoded.
 */
#include "tool/export.h"

#include <getopt.h>
#include <stdio.h>

#include "base/glob.h"
#include "base/number.h"
#include "tool/input.h"
#include "tool/tool.h"
#include "type/encoding.h"

static const struct export_format *const formats[] = {&export_jsonl, &export_resp, &export_csv};

struct options {
    const struct export_format *format;
    const char *pattern; /* NULL: all keys */
    int64_t db;          /* -1: all */
    enum entry_type type; /* ENTRY_TYPE_COUNT: all */
    size_t memory;        /* of a chain's set of keys */
};

void export_flush(struct text *out, size_t more_than)
{
    if (out->size <= more_than)
        return;
    /* Whether all of it was written is asked once, at the end. */
    fwrite(out->data, 1, out->size, stdout);
    text_clear(out);
}

static bool is_wanted(const struct options *o, const struct rdb_record *record)
{
    if (o->db >= 0 && record->db != o->db)
        return false;
    if (o->type != ENTRY_TYPE_COUNT && rdb_entry_type(record->type) != o->type)
        return false;
    return !o->pattern || glob_match(slice_cstr(o->pattern), record->key, false);
}

static bool takes_all(const struct options *o)
{
    return !o->pattern && o->db < 0 && o->type == ENTRY_TYPE_COUNT;
}

static bool export_all(struct input *in, const struct options *o, struct text *out)
{
    struct rdb_record record = {0};
    struct entry *e;
    int db_before = -1;
    if (o->format->begin)
        o->format->begin(out);
    do {
        if (!input_next(in, &record))
            return false;
        if (record.kind == RDB_RECORD_FUNCTION && o->format->library && takes_all(o))
            o->format->library(out, record.value.bytes);
        if (record.kind != RDB_RECORD_KEY)
            continue;
        if (!is_wanted(o, &record)) {
            if (!input_skip(in, &record))
                return false;
            continue;
        }
        if (!input_load(in, &record, &e))
            return false;
        if (!e)
            continue;
        struct export_key key = {record.db, type_encoding_name(e, &in->ks->limits), e};
        o->format->add(out, &key, db_before);
        export_flush(out, EXPORT_FLUSH_SIZE);
        db_before = record.db;
        input_drop(in, e);
    } while (record.kind != RDB_RECORD_END && !ferror(stdout));
    return true;
}

static int run(const char *path, const struct options *o)
{
    struct input in;
    struct text out = {0};
    if (!input_open_any(&in, path, "export", o->memory)) {
        input_complain(&in);
        return TOOL_FAILED;
    }
    input_mention(&in);
    bool ok = export_all(&in, o, &out);
    export_flush(&out, 0);
    progress_end(&in.progress);
    if (!ok)
        input_complain(&in);
    text_free(&out);
    input_close(&in);
    return tool_finish_output("export", ok ? TOOL_OK : TOOL_FAILED);
}

static bool find_format(const char *name, struct options *o)
{
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(formats[i]->name, name) == 0)
            o->format = formats[i];
    }
    return o->format != NULL;
}

static bool find_type(const char *name, struct options *o)
{
    for (int t = 0; t < ENTRY_TYPE_COUNT; t++) {
        if (strcmp(entry_type_name((enum entry_type)t), name) == 0)
            o->type = (enum entry_type)t;
    }
    return o->type != ENTRY_TYPE_COUNT;
}

int tool_export(int argc, char **argv)
{
    static const struct option known[] = {{"format", required_argument, NULL, 'f'},
                                          {"key", required_argument, NULL, 'k'},
                                          {"db", required_argument, NULL, 'd'},
                                          {"type", required_argument, NULL, 't'},
                                          {"memory", required_argument, NULL, 'm'},
                                          {0}};
    struct options options = {.db = -1, .type = ENTRY_TYPE_COUNT, .memory = INPUT_CHAIN_MEMORY};
    int option;
    while ((option = tool_next_option(argc, argv, known)) != -1) {
        switch (option) {
        case 'f':
            if (!find_format(optarg, &options))
                return tool_usage_error("export", "--format takes jsonl, resp or csv");
            break;
        case 'k':
            options.pattern = optarg;
            break;
        case 'd':
            if (!number_parse_int64(slice_cstr(optarg), &options.db) || options.db < 0)
                return tool_usage_error("export", "--db takes the number of a database");
            break;
        case 't':
            if (!find_type(optarg, &options))
                return tool_usage_error("export",
                                        "--type takes string, list, set, zset, hash or stream");
            break;
        case 'm':
            if (!input_parse_memory(optarg, &options.memory))
                return tool_usage_error("export", "--memory takes a number of MiB");
            break;
        default:
            return tool_option_error("export", argv);
        }
    }
    if (!options.format)
        return tool_usage_error("export", "which --format?");
    if (tool_argument_count(argc) != 1)
        return tool_usage_error("export", "one file is expected");
    return run(tool_argument(argv, 0), &options);
}
