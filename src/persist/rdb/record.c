/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/record.h"

#include <string.h>

#include "base/mem.h"

/* Bytes that are read over at once: less than what a reader's buffer holds. */
#define SKIP_STEP (64 * 1024)

static bool read_plain_length(struct rdb_reader *r, uint64_t *v)
{
    bool special;
    if (!rdb_read_length(r, v, &special))
        return false;
    return special ? rdb_fail(r, ERROR_CORRUPT, "a length is expected") : true;
}

static bool read_header(struct rdb_reader *r, int *version)
{
    const unsigned char *p;
    if (!rdb_read_bytes(r, 9, &p))
        return false;
    bool valkey = memcmp(p, "VALKEY", 6) == 0;
    if (!valkey && memcmp(p, "REDIS", 5) != 0)
        return rdb_fail(r, ERROR_CORRUPT, "this is not an RDB file");
    int v = 0;
    for (int i = valkey ? 6 : 5; i < 9; i++) {
        if (p[i] < '0' || p[i] > '9')
            return rdb_fail(r, ERROR_CORRUPT, "the version is not a number");
        v = v * 10 + (p[i] - '0');
    }
    if (v < 1 || (valkey && v < RDB_VERSION_VALKEY))
        return rdb_fail(r, ERROR_CORRUPT, "there is no RDB version %d", v);
    if (v > RDB_VERSION_READ_MAX && !r->later)
        return rdb_fail(r, ERROR_UNSUPPORTED,
                        "RDB version %d; 1 to %d can be read, later ones may be tried by a server "
                        "with rdb-version-check relaxed",
                        v, RDB_VERSION_READ_MAX);
    *version = v;
    return true;
}

void rdb_records_resume(struct rdb_records *it, struct rdb_reader *r, int version, int db)
{
    *it = (struct rdb_records){.r = r, .version = version, .db = db, .name_capacity = 256};
    it->name = mem_alloc(it->name_capacity);
}

bool rdb_records_begin(struct rdb_records *it, struct rdb_reader *r)
{
    rdb_records_resume(it, r, 0, 0);
    it->verify = true;
    return read_header(r, &it->version);
}

void rdb_records_end(struct rdb_records *it)
{
    mem_free(it->name);
    it->name = NULL;
}

/* A string whose bytes must outlive the next read. */
static bool read_name(struct rdb_records *it, struct slice *name)
{
    struct rdb_string s;
    if (!rdb_read_string(it->r, &s))
        return false;
    if (s.bytes.size > it->name_capacity) {
        mem_free(it->name);
        it->name_capacity = s.bytes.size * 2;
        it->name = mem_try_alloc(it->name_capacity);
        if (!it->name) {
            it->name_capacity = 0;
            return rdb_fail(it->r, ERROR_TOO_LARGE, "no memory for a name of %zu bytes",
                            s.bytes.size);
        }
    }
    if (s.bytes.size)
        memcpy(it->name, s.bytes.data, s.bytes.size);
    *name = slice_of(it->name, s.bytes.size);
    return true;
}

static bool read_end(struct rdb_records *it, struct rdb_record *record)
{
    uint64_t computed = rdb_reader_crc(it->r), stored = 0;
    if (it->version >= 5 && !rdb_read_le64(it->r, &stored))
        return false;
    record->summed = stored != 0;
    if (record->summed && it->verify && stored != computed)
        return rdb_fail(it->r, ERROR_CORRUPT, "the checksum is %016llx but should be %016llx",
                        (unsigned long long)computed, (unsigned long long)stored);
    return true;
}

static bool read_select(struct rdb_records *it, struct rdb_record *record)
{
    uint64_t id;
    if (!read_plain_length(it->r, &id))
        return false;
    if (id > INT32_MAX)
        return rdb_fail(it->r, ERROR_CORRUPT, "a database %llu", (unsigned long long)id);
    record->db = it->db = (int)id;
    return true;
}

/* What stands before a key belongs to it: true with *is_key when the code is a key's type. */
static bool read_before_key(struct rdb_records *it, uint8_t code, struct rdb_record *record,
                            bool *is_key)
{
    struct rdb_reader *r = it->r;
    uint32_t seconds;
    uint64_t v;
    uint8_t byte;
    *is_key = false;
    switch (code) {
    case RDB_OP_EXPIRE:
        if (!rdb_read_le32(r, &seconds))
            return false;
        record->due = (int64_t)(int32_t)seconds * 1000;
        return true;
    case RDB_OP_EXPIRE_MS:
        if (!rdb_read_le64(r, &v))
            return false;
        record->due = (int64_t)v;
        return true;
    case RDB_OP_IDLE:
        record->has_idle = true;
        return read_plain_length(r, &record->idle);
    case RDB_OP_FREQ:
        if (!rdb_read_u8(r, &byte))
            return false;
        record->frequency = byte;
        return true;
    case RDB_OP_FUNCTION_PRE_GA:
        return rdb_fail(r, ERROR_UNSUPPORTED,
                        "the file holds functions as a test version of Redis 7 "
                        "wrote them");
    case RDB_OP_MODULE_AUX:
        return rdb_fail(r, ERROR_UNSUPPORTED, "the file holds a module's data");
    default:
        *is_key = true;
        record->type = code;
        if (!rdb_check_type(r, it->version, code) || !read_name(it, &record->key))
            return false;
        record->kind = RDB_RECORD_KEY;
        return true;
    }
}

bool rdb_records_next(struct rdb_records *it, struct rdb_record *record)
{
    struct rdb_reader *r = it->r;
    uint64_t ignored;
    record->offset = rdb_reader_offset(r);
    record->db = it->db;
    record->due = ENTRY_NO_EXPIRY;
    record->has_idle = false;
    record->frequency = -1;
    for (bool is_key = false; !is_key;) {
        uint8_t code;
        if (!rdb_read_u8(r, &code))
            return false;
        switch (code) {
        case RDB_OP_EOF:
            record->kind = RDB_RECORD_END;
            return read_end(it, record);
        case RDB_OP_AUX:
            record->kind = RDB_RECORD_AUX;
            return read_name(it, &record->key) && rdb_read_string(r, &record->value);
        case RDB_OP_FUNCTION2:
            record->kind = RDB_RECORD_FUNCTION;
            return rdb_read_string(r, &record->value);
        case RDB_OP_SELECTDB:
            record->kind = RDB_RECORD_SELECT;
            return read_select(it, record);
        case RDB_OP_RESIZEDB:
            record->kind = RDB_RECORD_RESIZE;
            return read_plain_length(r, &record->keys) && read_plain_length(r, &record->expires);
        case RDB_OP_SLOT_INFO:
            record->kind = RDB_RECORD_SLOT;
            return read_plain_length(r, &ignored) && read_plain_length(r, &ignored) &&
                   read_plain_length(r, &ignored);
        default:
            if (!read_before_key(it, code, record, &is_key))
                return false;
        }
    }
    return true;
}

/* Passing over values -------------------------------------------------------------------------- */

static bool skip_bytes(struct rdb_reader *r, uint64_t size)
{
    const unsigned char *p;
    if (size > rdb_reader_left(r))
        return rdb_fail(r, ERROR_TRUNCATED, "%llu bytes are needed, %llu are left",
                        (unsigned long long)size, (unsigned long long)rdb_reader_left(r));
    while (size > 0) {
        uint64_t step = size < SKIP_STEP ? size : SKIP_STEP;
        if (!rdb_read_bytes(r, (size_t)step, &p))
            return false;
        size -= step;
    }
    return true;
}

static bool skip_string(struct rdb_reader *r)
{
    enum { INTEGER_32 = 2, COMPRESSED = 3 };
    uint64_t v, ignored;
    bool special;
    if (!rdb_read_length(r, &v, &special))
        return false;
    if (!special)
        return skip_bytes(r, v);
    if (v <= INTEGER_32)
        return skip_bytes(r, (uint64_t)1 << v);
    if (v != COMPRESSED)
        return rdb_fail(r, ERROR_CORRUPT, "unknown string encoding %llu", (unsigned long long)v);
    return read_plain_length(r, &v) && read_plain_length(r, &ignored) && skip_bytes(r, v);
}

/* What one element of a plain collection is made of. */
struct shape {
    bool time;    /* 8 bytes in front */
    bool counted; /* a count, and so many elements; else one string */
    bool container; /* a length before the first string */
    int strings;
    int doubles; /* of 8 bytes */
    bool text_double;
};

static const struct shape shapes[] = {
    [RDB_STRING] = {.strings = 1},
    [RDB_LIST] = {.counted = true, .strings = 1},
    [RDB_SET] = {.counted = true, .strings = 1},
    [RDB_ZSET] = {.counted = true, .strings = 1, .text_double = true},
    [RDB_HASH] = {.counted = true, .strings = 2},
    [RDB_ZSET_2] = {.counted = true, .strings = 1, .doubles = 1},
    [RDB_HASH_ZIPMAP] = {.strings = 1},
    [RDB_LIST_ZIPLIST] = {.strings = 1},
    [RDB_SET_INTSET] = {.strings = 1},
    [RDB_ZSET_ZIPLIST] = {.strings = 1},
    [RDB_HASH_ZIPLIST] = {.strings = 1},
    [RDB_LIST_QUICKLIST] = {.counted = true, .strings = 1},
    [RDB_HASH_LISTPACK] = {.strings = 1},
    [RDB_ZSET_LISTPACK] = {.strings = 1},
    [RDB_LIST_QUICKLIST_2] = {.counted = true, .container = true, .strings = 1},
    [RDB_SET_LISTPACK] = {.strings = 1},
    [RDB_HASH_METADATA_PRE_GA] = {.counted = true, .container = true, .strings = 2},
    [RDB_HASH_LISTPACK_EX_PRE_GA] = {.strings = 1},
    [RDB_HASH_METADATA] = {.time = true, .counted = true, .container = true, .strings = 2},
    [RDB_HASH_LISTPACK_EX] = {.time = true, .strings = 1},
};

static bool skip_element(struct rdb_reader *r, const struct shape *shape)
{
    uint64_t ignored;
    double score;
    if (shape->container && !read_plain_length(r, &ignored))
        return false;
    for (int i = 0; i < shape->strings; i++) {
        if (!skip_string(r))
            return false;
    }
    if (shape->text_double)
        return rdb_read_text_double(r, &score);
    return shape->doubles == 0 || rdb_read_double(r, &score);
}

static bool skip_lengths(struct rdb_reader *r, unsigned count)
{
    uint64_t ignored;
    while (count-- > 0) {
        if (!read_plain_length(r, &ignored))
            return false;
    }
    return true;
}

/* A count of things that are so many bytes each, with a length behind each if `length`. */
static bool skip_records(struct rdb_reader *r, uint64_t size, bool length)
{
    uint64_t count;
    if (!rdb_read_count(r, size, &count))
        return false;
    for (; count > 0; count--) {
        if (!skip_bytes(r, size) || (length && !skip_lengths(r, 1)))
            return false;
    }
    return true;
}

/* The form is drawn in stream_load.c. */
static bool skip_group(struct rdb_reader *r, int version)
{
    enum { ID = 16, TIME = 8 };
    uint64_t consumers;
    if (!skip_string(r) || !skip_lengths(r, version >= 2 ? 3 : 2) ||
        !skip_records(r, ID + TIME, true) || !rdb_read_count(r, 1, &consumers))
        return false;
    for (; consumers > 0; consumers--) {
        if (!skip_string(r) || !skip_bytes(r, version >= 3 ? 2 * TIME : TIME) ||
            !skip_records(r, ID, false))
            return false;
    }
    return true;
}

static bool skip_stream(struct rdb_reader *r, int version)
{
    uint64_t nodes, groups;
    if (!rdb_read_count(r, 2, &nodes))
        return false;
    for (; nodes > 0; nodes--) {
        if (!skip_string(r) || !skip_string(r))
            return false;
    }
    if (!skip_lengths(r, version >= 2 ? 8 : 3) || !rdb_read_count(r, 1, &groups))
        return false;
    for (; groups > 0; groups--) {
        if (!skip_group(r, version))
            return false;
    }
    return true;
}

bool rdb_skip_value(struct rdb_reader *r, uint8_t type)
{
    if (type == RDB_STREAM_LISTPACKS || type == RDB_STREAM_LISTPACKS_2 ||
        type == RDB_STREAM_LISTPACKS_3)
        return skip_stream(r, type == RDB_STREAM_LISTPACKS     ? 1
                              : type == RDB_STREAM_LISTPACKS_2 ? 2
                                                               : 3);
    if (type >= sizeof(shapes) / sizeof(shapes[0]) || shapes[type].strings == 0)
        return rdb_fail(r, ERROR_UNSUPPORTED, "a value of type code %d is not supported", type);
    const struct shape *shape = &shapes[type];
    uint64_t count = 1, time;
    if (shape->time && !rdb_read_le64(r, &time))
        return false;
    if (shape->counted && !rdb_read_count(r, 1, &count))
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (!skip_element(r, shape))
            return false;
    }
    return true;
}

bool rdb_check_type(struct rdb_reader *r, int version, uint8_t type)
{
    bool valkey = version >= RDB_VERSION_VALKEY && type >= RDB_HASH_METADATA_PRE_GA;
    if (version <= RDB_VERSION_READ_MAX || (rdb_entry_type(type) < ENTRY_TYPE_COUNT && !valkey))
        return true;
    return rdb_fail(r, ERROR_UNSUPPORTED, "RDB version %d has something that is not known, code %d",
                    version, type);
}

enum entry_type rdb_entry_type(uint8_t type)
{
    switch ((enum rdb_type)type) {
    case RDB_STRING:
        return ENTRY_STRING;
    case RDB_LIST:
    case RDB_LIST_ZIPLIST:
    case RDB_LIST_QUICKLIST:
    case RDB_LIST_QUICKLIST_2:
        return ENTRY_LIST;
    case RDB_SET:
    case RDB_SET_INTSET:
    case RDB_SET_LISTPACK:
        return ENTRY_SET;
    case RDB_ZSET:
    case RDB_ZSET_2:
    case RDB_ZSET_ZIPLIST:
    case RDB_ZSET_LISTPACK:
        return ENTRY_ZSET;
    case RDB_HASH:
    case RDB_HASH_ZIPMAP:
    case RDB_HASH_ZIPLIST:
    case RDB_HASH_LISTPACK:
    case RDB_HASH_METADATA_PRE_GA:
    case RDB_HASH_LISTPACK_EX_PRE_GA:
    case RDB_HASH_METADATA:
    case RDB_HASH_LISTPACK_EX:
        return ENTRY_HASH;
    case RDB_STREAM_LISTPACKS:
    case RDB_STREAM_LISTPACKS_2:
    case RDB_STREAM_LISTPACKS_3:
        return ENTRY_STREAM;
    default:
        return ENTRY_TYPE_COUNT;
    }
}
