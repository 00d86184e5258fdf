/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/input.h"

#include <stdio.h>

#include "base/number.h"
#include "persist/chain/link.h"
#include "tool/chain_files.h"

/* What is read at once: a record that is sought alone should not cost a megabyte. */
#define FILL_MOST (128 * 1024)

/* Where a record is: the link above the offset, in 62 bits. */
#define OFFSET_BITS 50
#define LINKS_MOST (1U << 12)
#define MEMORY_MOST_MIB (1 << 20)

static bool fill(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct input *in = ctx;
    if (!os_file_read_at(&in->file, in->position, data, room < FILL_MOST ? room : FILL_MOST, got,
                         err))
        return false;
    in->position += *got;
    progress_update(&in->progress, in->before + in->position);
    return true;
}

bool input_parse_memory(const char *mib, size_t *memory)
{
    int64_t v;
    if (!number_parse_int64(slice_cstr(mib), &v) || v < 0 || v > MEMORY_MOST_MIB)
        return false;
    *memory = (size_t)v << 20;
    return true;
}

/* Files ---------------------------------------------------------------------------------------- */

static bool open_file(struct input *in)
{
    struct error ignored;
    if (!os_file_open(&in->file, in->opened, OS_OPEN_READ, &in->err)) {
        in->file = (struct os_file)OS_FILE_CLOSED;
        return false;
    }
    in->position = 0;
    if (!os_file_size(&in->file, &in->size, &in->err)) {
        os_file_close(&in->file, &ignored);
        in->file = (struct os_file)OS_FILE_CLOSED;
        return false;
    }
    rdb_reader_init_stream(&in->reader, in->size, fill, in, &in->err);
    return true;
}

static void close_file(struct input *in)
{
    struct error ignored;
    if (in->file.fd < 0)
        return;
    rdb_records_end(&in->records);
    rdb_reader_deinit(&in->reader);
    os_file_close(&in->file, &ignored);
    in->file = (struct os_file)OS_FILE_CLOSED;
}

static bool begin(struct input *in, const char *label)
{
    progress_begin(&in->progress, label, in->path, in->total_size);
    in->label = label;
    in->ks = keyspace_new(1, false);
    in->loader = rdb_loader_new(&in->ks->epoch, &in->ks->limits);
    if (rdb_records_begin(&in->records, &in->reader))
        return true;
    input_close(in);
    return false;
}

bool input_open(struct input *in, const char *path, const char *label)
{
    *in = (struct input){.path = path};
    if (chain_file_of(path) != CHAIN_FILE_NONE)
        return error_set(&in->err, ERROR_UNSUPPORTED, "this is a part of a chain of snapshots");
    snprintf(in->opened, sizeof(in->opened), "%s", path);
    if (!open_file(in))
        return false;
    in->total_size = in->size;
    return begin(in, label);
}

/* Chains --------------------------------------------------------------------------------------- */

/* The file of another link, up to its first record. */
static bool open_link(struct input *in, size_t link)
{
    int version;
    close_file(in);
    in->link = link;
    if (!chain_merge_path(&in->merge, link, in->opened))
        return error_set(&in->err, ERROR_INVALID, "the path is too long");
    if (!open_file(in))
        return false;
    if (link == 0)
        return rdb_records_begin(&in->records, &in->reader);
    if (!link_read_magic(&in->reader, &version))
        return false;
    rdb_records_resume(&in->records, &in->reader, version, 0);
    in->records.verify = true;
    return true;
}

static bool is_gone(uint8_t type)
{
    return type == LINK_DELETED || type == LINK_EMPTIED || type == LINK_SWAPPED;
}

static bool skip_record(struct input *in, const struct rdb_record *record)
{
    return (in->link > 0 && is_gone(record->type)) || rdb_skip_value(&in->reader, record->type);
}

/* Read the delta to its end, where its checksum is, noting what it has. */
static bool note_link(struct input *in, size_t link)
{
    struct rdb_record record = {0};
    if (!open_link(in, link))
        return false;
    while (record.kind != RDB_RECORD_END) {
        if (!rdb_records_next(&in->records, &record))
            return false;
        if (record.kind != RDB_RECORD_KEY)
            continue;
        chain_merge_note(&in->merge, link, &record);
        if (!skip_record(in, &record))
            return false;
    }
    in->before += in->size;
    return true;
}

/* Find out which records count in this round, and begin with the full snapshot. */
static bool begin_round(struct input *in)
{
    in->merging = true;
    in->before = 0;
    progress_end(&in->progress);
    progress_begin(&in->progress, in->label, in->path,
                   2 * in->merge.size - in->merge.chain.links[0].size);
    for (size_t link = in->merge.chain.count; --link > 0;) {
        if (!note_link(in, link))
            return false;
    }
    return open_link(in, 0);
}

/* Behind a link comes the next, and behind the last another round, maybe. */
static bool next_file(struct input *in, bool *end)
{
    bool last = in->link + 1 == in->merge.chain.count;
    in->before += in->size;
    *end = last && !chain_merge_next_round(&in->merge);
    if (*end)
        return true;
    return last ? begin_round(in) : open_link(in, in->link + 1);
}

/* Whether a record that is no key's is told: of the chain as a whole there is one of each. */
static bool is_told(const struct input *in, const struct rdb_record *record)
{
    bool first_round = in->merge.deciding.first == 0, last = in->link + 1 == in->merge.chain.count;
    return first_round && ((record->kind == RDB_RECORD_AUX && (in->link == 0 || last)) ||
                           (record->kind == RDB_RECORD_FUNCTION && last));
}

static bool next_merged(struct input *in, struct rdb_record *record)
{
    if (!in->merging && !begin_round(in))
        return false;
    for (;;) {
        bool end;
        if (!rdb_records_next(&in->records, record))
            return false;
        if (record->kind == RDB_RECORD_END) {
            if (!next_file(in, &end))
                return false;
            if (end)
                return true;
            continue;
        }
        if (record->kind != RDB_RECORD_KEY) {
            if (is_told(in, record))
                return true;
            continue;
        }
        record->db = chain_merge_database(&in->merge, in->link, record->db);
        if (record->db >= 0 && !(in->link > 0 && is_gone(record->type)) &&
            chain_merge_counts(&in->merge, in->link, record))
            return true;
        if (!skip_record(in, record))
            return false;
    }
}

bool input_open_any(struct input *in, const char *named, const char *label, size_t memory)
{
    *in = (struct input){.path = named};
    enum chain_found_kind found =
        chain_merge_find(named, memory, in->opened, &in->merge, &in->err);
    if (found == CHAIN_IS_WRONG)
        return false;
    in->is_chain = found == CHAIN_IS_CHAIN;
    if (in->is_chain && in->merge.chain.count > LINKS_MOST) {
        chain_merge_free(&in->merge);
        return error_set(&in->err, ERROR_UNSUPPORTED, "a chain of more than %u links", LINKS_MOST);
    }
    if (in->is_chain)
        snprintf(in->opened, sizeof(in->opened), "%s", in->merge.rdb);
    if (!open_file(in)) {
        chain_merge_free(&in->merge);
        return false;
    }
    in->total_size = in->is_chain ? in->merge.size : in->size;
    return begin(in, label);
}

/* Reading -------------------------------------------------------------------------------------- */

void input_close(struct input *in)
{
    progress_end(&in->progress);
    rdb_loader_free(in->loader);
    in->loader = NULL;
    keyspace_free(in->ks);
    close_file(in);
    chain_merge_free(&in->merge);
}

void input_mention(const struct input *in)
{
    if (in->merge.note[0] != '\0')
        fprintf(stderr, "%s: %s\n", in->path, in->merge.note);
}

bool input_next(struct input *in, struct rdb_record *record)
{
    return in->is_chain ? next_merged(in, record) : rdb_records_next(&in->records, record);
}

bool input_load(struct input *in, const struct rdb_record *record, struct entry **e)
{
    return rdb_load_value(&in->reader, record->type, record->key, record->due, in->loader, e);
}

void input_drop(struct input *in, struct entry *e)
{
    if (e)
        rdb_drop_entry(in->loader, e);
}

bool input_skip(struct input *in, const struct rdb_record *record)
{
    return rdb_skip_value(&in->reader, record->type);
}

uint64_t input_offset(const struct input *in)
{
    return rdb_reader_offset(&in->reader);
}

/* A fresh reader whose first byte is that at `offset`. */
static void read_from(struct input *in, uint64_t offset)
{
    rdb_records_end(&in->records);
    rdb_reader_deinit(&in->reader);
    rdb_reader_init_stream(&in->reader, in->size, fill, in, &in->err);
    in->reader.offset = in->position = offset;
}

bool input_rewind(struct input *in, const char *label)
{
    progress_end(&in->progress);
    progress_begin(&in->progress, label, in->path, in->size);
    read_from(in, 0);
    return rdb_records_begin(&in->records, &in->reader);
}

uint64_t input_place(const struct input *in, const struct rdb_record *record)
{
    return (uint64_t)in->link << OFFSET_BITS | record->offset;
}

bool input_seek(struct input *in, uint64_t place, int db)
{
    size_t link = (size_t)(place >> OFFSET_BITS);
    /* What is read then is taken as it stands. */
    bool other = link != in->link;
    if (other && !open_link(in, link))
        return false;
    int version = in->records.version;
    read_from(in, place & ((UINT64_C(1) << OFFSET_BITS) - 1));
    rdb_records_resume(&in->records, &in->reader, version, db);
    return true;
}

bool input_next_as_it_is(struct input *in, struct rdb_record *record)
{
    return rdb_records_next(&in->records, record);
}

void input_complain(struct input *in)
{
    progress_end(&in->progress);
    if (in->is_chain && in->loader)
        fprintf(stderr, "%s: link %zu of %zu, %s: %s\n", in->path, in->link + 1,
                in->merge.chain.count, in->opened, in->err.message);
    else
        fprintf(stderr, "%s: %s\n", in->path, in->err.message);
}
