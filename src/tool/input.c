/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/input.h"

#include <stdio.h>

#include "tool/chain_files.h"

/* What is read at once: a record that is sought alone should not cost a megabyte. */
#define FILL_MOST (128 * 1024)

static bool fill(void *ctx, void *data, size_t room, size_t *got, struct error *err)
{
    struct input *in = ctx;
    if (!os_file_read_at(&in->file, in->position, data, room < FILL_MOST ? room : FILL_MOST, got,
                         err))
        return false;
    in->position += *got;
    progress_update(&in->progress, in->position);
    return true;
}

bool input_open(struct input *in, const char *path, const char *label)
{
    struct error ignored;
    *in = (struct input){.path = path};
    if (chain_file_of(path) != CHAIN_FILE_NONE)
        return error_set(&in->err, ERROR_UNSUPPORTED,
                         "this is a part of a chain of snapshots: `holdfast restore` makes an RDB file of "
                         "it, `holdfast info` and `holdfast check` tell of it");
    if (!os_file_open(&in->file, path, OS_OPEN_READ, &in->err))
        return false;
    if (!os_file_size(&in->file, &in->size, &in->err)) {
        os_file_close(&in->file, &ignored);
        return false;
    }
    progress_begin(&in->progress, label, path, in->size);
    rdb_reader_init_stream(&in->reader, in->size, fill, in, &in->err);
    in->ks = keyspace_new(1, false);
    in->loader = rdb_loader_new(&in->ks->epoch, &in->ks->limits);
    if (rdb_records_begin(&in->records, &in->reader))
        return true;
    input_close(in);
    return false;
}

void input_close(struct input *in)
{
    struct error ignored;
    progress_end(&in->progress);
    rdb_records_end(&in->records);
    rdb_loader_free(in->loader);
    keyspace_free(in->ks);
    rdb_reader_deinit(&in->reader);
    os_file_close(&in->file, &ignored);
}

bool input_next(struct input *in, struct rdb_record *record)
{
    return rdb_records_next(&in->records, record);
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

void input_seek(struct input *in, uint64_t offset, int db)
{
    int version = in->records.version;
    read_from(in, offset);
    rdb_records_resume(&in->records, &in->reader, version, db);
}

void input_complain(struct input *in)
{
    progress_end(&in->progress);
    fprintf(stderr, "%s: %s\n", in->path, in->err.message);
}
