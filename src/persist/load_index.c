/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/load_index.h"

#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "persist/rdb/record.h"

/* The last field, as it must stand: opcode, name, value; then the end marker and the checksum. */
#define NAME "hf-index"
#define VALUE_SIZE 32U
#define FIELD_SIZE (1 + 1 + sizeof(NAME) - 1 + 1 + VALUE_SIZE)
#define END_SIZE 9U
/* An index larger than this, for some hundred thousand chunks, is not taken for one. */
#define INDEX_MAX (64U << 20)

/* Decimal numbers with a space between them, and perhaps spaces behind. */
static bool parse_numbers(struct slice text, uint64_t *numbers, int count)
{
    const char *p = text.data, *end = text.data + text.size;
    for (int i = 0; i < count; i++) {
        const char *from = p;
        while (p < end && *p != ' ')
            p++;
        int64_t v;
        if (!number_parse_int64(slice_of(from, (size_t)(p - from)), &v) || v < 0)
            return false;
        numbers[i] = (uint64_t)v;
        if (i + 1 < count && (p == end || *p++ != ' '))
            return false;
    }
    while (p < end && *p == ' ')
        p++;
    return p == end;
}

static bool read_at(struct os_file *f, uint64_t offset, unsigned char *data, size_t size,
                    struct error *err)
{
    while (size > 0) {
        size_t got;
        if (!os_file_read_at(f, offset, data, size, &got, err))
            return false;
        if (got == 0)
            return error_set(err, ERROR_TRUNCATED, "the file became shorter");
        offset += got;
        data += got;
        size -= got;
    }
    return true;
}

static bool find(struct load_index *index, struct os_file *f, uint64_t size, struct error *err)
{
    unsigned char field[FIELD_SIZE];
    const size_t name_at = 2, size_at = name_at + sizeof(NAME) - 1, value_at = size_at + 1;
    uint64_t numbers[2];
    if (size < FIELD_SIZE + END_SIZE)
        return error_set(err, ERROR_NOT_FOUND, "no index");
    uint64_t at = size - END_SIZE - FIELD_SIZE;
    if (!read_at(f, at, field, sizeof(field), err))
        return false;
    if (field[0] != RDB_OP_AUX || field[1] != sizeof(NAME) - 1 ||
        memcmp(field + name_at, NAME, sizeof(NAME) - 1) != 0 || field[size_at] != VALUE_SIZE)
        return error_set(err, ERROR_NOT_FOUND, "no index");
    if (!parse_numbers(slice_of(field + value_at, VALUE_SIZE), numbers, 2) || numbers[0] >= at ||
        at - numbers[0] > INDEX_MAX || numbers[1] > at - numbers[0])
        return error_set(err, ERROR_CORRUPT, "the index is not where it should be");
    index->offset = numbers[0];
    index->count = numbers[1];
    return true;
}

static bool take_chunk(struct load_index *index, uint64_t i, const struct rdb_record *record,
                       struct rdb_reader *r)
{
    uint64_t numbers[3];
    struct load_chunk *c = &index->chunks[i];
    if (record->kind != RDB_RECORD_AUX || !slice_equal(record->key, SLICE("hf-chunk")) ||
        !parse_numbers(record->value.bytes, numbers, 3) || numbers[0] > INT32_MAX ||
        numbers[1] >= index->offset || (i > 0 && numbers[1] <= c[-1].offset))
        return rdb_fail(r, ERROR_CORRUPT, "a field of the index is not one of a chunk");
    *c = (struct load_chunk){.db = (int)numbers[0], .offset = numbers[1], .keys = numbers[2]};
    return true;
}

static bool read_chunks(struct load_index *index, struct rdb_reader *r)
{
    struct rdb_records it;
    struct rdb_record record;
    bool ok = true;
    rdb_records_resume(&it, r, RDB_VERSION_DEFAULT, 0);
    for (uint64_t i = 0; ok && i < index->count; i++)
        ok = rdb_records_next(&it, &record) && take_chunk(index, i, &record, r);
    rdb_records_end(&it);
    return ok && (rdb_reader_left(r) == 0 ||
                  rdb_fail(r, ERROR_CORRUPT, "there is more than the index's chunks"));
}

bool load_index_read(struct load_index *index, struct os_file *f, uint64_t size, struct error *err)
{
    *index = (struct load_index){0};
    if (!find(index, f, size, err))
        return false;
    size_t bytes = (size_t)(size - END_SIZE - FIELD_SIZE - index->offset);
    unsigned char *data = mem_alloc(bytes + 1);
    index->chunks = mem_alloc((size_t)(index->count + 1) * sizeof(struct load_chunk));
    struct rdb_reader r;
    rdb_reader_init_memory(&r, data, bytes, err);
    bool ok = read_at(f, index->offset, data, bytes, err) && read_chunks(index, &r);
    rdb_reader_deinit(&r);
    mem_free(data);
    if (!ok)
        load_index_deinit(index);
    return ok;
}

void load_index_deinit(struct load_index *index)
{
    mem_free(index->chunks);
    index->chunks = NULL;
}
