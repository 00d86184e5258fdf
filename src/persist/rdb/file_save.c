/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/format.h"

#include <stdio.h>

static void write_aux(struct rdb_writer *w, const char *name, struct slice value)
{
    rdb_write_u8(w, RDB_OP_AUX);
    rdb_write_string(w, slice_cstr(name));
    rdb_write_string(w, value);
}

static void write_aux_int(struct rdb_writer *w, const char *name, int64_t value)
{
    rdb_write_u8(w, RDB_OP_AUX);
    rdb_write_string(w, slice_cstr(name));
    rdb_write_int(w, value);
}

void rdb_save_aux(struct rdb_writer *w, const char *name, struct slice value)
{
    rdb_write_u8(w, RDB_OP_AUX);
    rdb_write_string(w, slice_cstr(name));
    rdb_write_length(w, value.size);
    rdb_write_bytes(w, value.data, value.size);
}

void rdb_save_function(struct rdb_writer *w, struct slice code)
{
    rdb_write_u8(w, RDB_OP_FUNCTION2);
    rdb_write_string(w, code);
}

void rdb_save_header(struct rdb_writer *w, int64_t now_ms, size_t used_memory)
{
    char magic[16];
    snprintf(magic, sizeof(magic), "REDIS%04d", w->version);
    rdb_write_bytes(w, magic, 9);
    /* Tools take the server's version from here; the format is that of this Redis version. */
    write_aux(w, "redis-ver", SLICE("7.0.15"));
    write_aux_int(w, "redis-bits", 64);
    write_aux_int(w, "ctime", now_ms / 1000);
    write_aux_int(w, "used-mem", (int64_t)used_memory);
    write_aux(w, "holdfast-ver", SLICE(HF_VERSION));
}

void rdb_save_select(struct rdb_writer *w, int db, uint64_t keys, uint64_t expires)
{
    rdb_write_u8(w, RDB_OP_SELECTDB);
    rdb_write_length(w, (uint64_t)db);
    rdb_write_u8(w, RDB_OP_RESIZEDB);
    rdb_write_length(w, keys);
    rdb_write_length(w, expires);
}

void rdb_save_entry(struct rdb_writer *w, const struct entry *e, enum rdb_clock clock,
                    uint32_t lru_now)
{
    if (e->flags & ENTRY_EXPIRES) {
        rdb_write_u8(w, RDB_OP_EXPIRE_MS);
        rdb_write_le64(w, (uint64_t)entry_due(e));
    }
    if (w->version < 9) {
        /* No opcodes for it. */
    } else if (clock == RDB_CLOCK_LRU) {
        rdb_write_u8(w, RDB_OP_IDLE);
        rdb_write_length(w, (lru_now - entry_clock(e)) & 0xffffff);
    } else if (clock == RDB_CLOCK_LFU) {
        rdb_write_u8(w, RDB_OP_FREQ);
        rdb_write_u8(w, (uint8_t)entry_clock(e));
    }
    rdb_write_u8(w, rdb_type_of(e, w->version));
    rdb_write_string(w, entry_key(e));
    rdb_save_value(w, e);
}

bool rdb_save_end(struct rdb_writer *w, bool checksum)
{
    rdb_write_u8(w, RDB_OP_EOF);
    rdb_writer_flush(w);
    rdb_write_le64(w, checksum ? rdb_writer_crc(w) : 0);
    return rdb_writer_flush(w);
}
