/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast info: what is in this file? The header's fields as they stand in it, and counts and
 * sizes by database and type. Values are passed over, so that it is as fast as the disk.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "tool/chain_files.h"
#include "tool/format.h"
#include "tool/input.h"
#include "tool/tool.h"

#define FIELD_SHOWN 200
/* Nobody has so many; a damaged file must not make the table of them grow without bound. */
#define DATABASES_MOST 1024

struct counts {
    int db;
    uint64_t keys, expires, bytes;
    uint64_t keys_by_type[ENTRY_TYPE_COUNT + 1], bytes_by_type[ENTRY_TYPE_COUNT + 1];
};

struct info {
    struct input in;
    struct text fields; /* of the header, as they will be printed */
    bool json, has_field;
    struct counts *dbs;
    size_t db_count;
    bool summed;
    uint64_t libraries; /* of functions */
    uint64_t chunks; /* of Holdfast's index, whose fields are not shown one by one */
};

/* NULL: there are too many. */
static struct counts *counts_of(struct info *info, int db)
{
    for (size_t i = info->db_count; i-- > 0;) {
        if (info->dbs[i].db == db)
            return &info->dbs[i];
    }
    if (info->db_count == DATABASES_MOST)
        return NULL;
    info->dbs = mem_realloc(info->dbs, (info->db_count + 1) * sizeof(*info->dbs));
    info->dbs[info->db_count] = (struct counts){.db = db};
    return &info->dbs[info->db_count++];
}

static void add_field(struct info *info, const struct rdb_record *record)
{
    struct text *t = &info->fields;
    if (slice_equal(record->key, SLICE("hf-chunk"))) {
        info->chunks++;
        return;
    }
    if (slice_equal(record->key, SLICE("hf-index")))
        return;
    if (info->json) {
        text_append_cstr(t, info->has_field ? ",[" : "[");
        text_append_json(t, record->key);
        text_append_cstr(t, ",");
        text_append_json(t, record->value.bytes);
        text_append_cstr(t, "]");
        info->has_field = true;
        return;
    }
    text_append_cstr(t, "field ");
    text_append_printable(t, record->key, FIELD_SHOWN);
    text_append_cstr(t, ": ");
    text_append_printable(t, record->value.bytes, FIELD_SHOWN);
    text_append_cstr(t, "\n");
}

static bool add_key(struct info *info, const struct rdb_record *record)
{
    if (!input_skip(&info->in, record))
        return false;
    struct counts *c = counts_of(info, record->db);
    if (!c)
        return rdb_fail(&info->in.reader, ERROR_UNSUPPORTED, "more than %d databases",
                        DATABASES_MOST);
    enum entry_type type = rdb_entry_type(record->type);
    uint64_t bytes = input_offset(&info->in) - record->offset;
    c->keys++;
    c->bytes += bytes;
    c->expires += record->due != ENTRY_NO_EXPIRY;
    c->keys_by_type[type]++;
    c->bytes_by_type[type] += bytes;
    return true;
}

static bool read_all(struct info *info)
{
    struct rdb_record record = {0};
    do {
        if (!input_next(&info->in, &record))
            return false;
        if (record.kind == RDB_RECORD_AUX)
            add_field(info, &record);
        info->libraries += record.kind == RDB_RECORD_FUNCTION;
        if (record.kind == RDB_RECORD_KEY && !add_key(info, &record))
            return false;
    } while (record.kind != RDB_RECORD_END);
    info->summed = record.summed;
    return true;
}

static uint64_t total_keys(const struct info *info)
{
    uint64_t keys = 0;
    for (size_t i = 0; i < info->db_count; i++)
        keys += info->dbs[i].keys;
    return keys;
}

static void print_text(const struct info *info)
{
    printf("file: %s\nsize_bytes: %" PRIu64 "\nrdb_version: %d\nchecksum: %s\nchunks: %" PRIu64
           "\nlibraries: %" PRIu64 "\nkeys: %" PRIu64 "\n%s",
           info->in.path, info->in.size, info->in.records.version, info->summed ? "yes" : "no",
           info->chunks, info->libraries, total_keys(info), text_cstr(&info->fields));
    for (size_t i = 0; i < info->db_count; i++) {
        const struct counts *c = &info->dbs[i];
        printf("db%d: keys=%" PRIu64 ",expires=%" PRIu64 ",bytes=%" PRIu64, c->db, c->keys,
               c->expires, c->bytes);
        for (int t = 0; t < ENTRY_TYPE_COUNT; t++) {
            if (c->keys_by_type[t])
                printf(",%s=%" PRIu64, entry_type_name((enum entry_type)t), c->keys_by_type[t]);
        }
        printf("\n");
    }
}

static void print_json(const struct info *info)
{
    struct text t = {0};
    text_append_json(&t, slice_cstr(info->in.path));
    printf("{\"file\":%s,\"size_bytes\":%" PRIu64
           ",\"rdb_version\":%d,\"checksum\":%s,\"chunks\":%" PRIu64 ",\"libraries\":%" PRIu64
           ",\"keys\":%" PRIu64 ",\"fields\":[%s],\"databases\":[",
           text_cstr(&t), info->in.size, info->in.records.version, info->summed ? "true" : "false",
           info->chunks, info->libraries, total_keys(info), text_cstr(&info->fields));
    text_free(&t);
    for (size_t i = 0; i < info->db_count; i++) {
        const struct counts *c = &info->dbs[i];
        const char *comma = "";
        printf("%s{\"db\":%d,\"keys\":%" PRIu64 ",\"expires\":%" PRIu64
               ",\"serialised_bytes\":%" PRIu64 ",\"types\":{",
               i ? "," : "", c->db, c->keys, c->expires, c->bytes);
        for (int k = 0; k < ENTRY_TYPE_COUNT; k++) {
            if (c->keys_by_type[k] == 0)
                continue;
            printf("%s\"%s\":{\"keys\":%" PRIu64 ",\"serialised_bytes\":%" PRIu64 "}", comma,
                   entry_type_name((enum entry_type)k), c->keys_by_type[k], c->bytes_by_type[k]);
            comma = ",";
        }
        printf("}}");
    }
    printf("]}\n");
}

static int run(const char *path, bool json)
{
    struct info info = {.json = json};
    char inside[600];
    struct error err = {0};
    if (os_path_is_dir(path)) {
        if (!chain_merge_in_directory(path, inside, &err)) {
            fprintf(stderr, "%s: %s\n", path, err.message);
            return TOOL_FAILED;
        }
        path = inside;
    }
    enum chain_file kind = chain_file_of(path);
    if (kind != CHAIN_FILE_NONE)
        return info_chain_file(path, kind, json);
    if (!input_open(&info.in, path, "info")) {
        input_complain(&info.in);
        return TOOL_FAILED;
    }
    bool ok = read_all(&info);
    progress_end(&info.in.progress);
    if (!ok)
        input_complain(&info.in);
    else if (json)
        print_json(&info);
    else
        print_text(&info);
    text_free(&info.fields);
    mem_free(info.dbs);
    input_close(&info.in);
    return tool_finish_output("info", ok ? TOOL_OK : TOOL_FAILED);
}

int tool_info(int argc, char **argv)
{
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    bool json = false;
    int option;
    while ((option = tool_next_option(argc, argv, options)) != -1) {
        if (option != 'j')
            return tool_option_error("info", argv);
        json = true;
    }
    if (tool_argument_count(argc) != 1)
        return tool_usage_error("info", "one file is expected");
    return run(tool_argument(argv, 0), json);
}
