/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/rdb/format.h"

#include <string.h>

#include "base/bytes.h"
#include "base/crc.h"
#include "persist/rdb/record.h"

#define FOOTER 10

void rdb_dump(struct rdb_writer *w, const struct entry *e)
{
    if (w->version < RDB_VERSION_TIMED && entry_timed(e) > 0)
        w->version = RDB_VERSION_TIMED;
    rdb_write_u8(w, rdb_type_of(e, w->version));
    rdb_save_value(w, e);
    rdb_write_u8(w, (uint8_t)(w->version & 0xff));
    rdb_write_u8(w, (uint8_t)(w->version >> 8));
    rdb_write_le64(w, rdb_writer_crc(w));
}

bool rdb_restore(struct slice payload, struct slice key, int64_t due, bool later,
                 struct rdb_loader *l, struct entry **e, struct error *err)
{
    *e = NULL;
    if (payload.size < FOOTER + 1)
        return error_set(err, ERROR_INVALID, "the payload is too short");
    const unsigned char *p = (const unsigned char *)payload.data;
    size_t body = payload.size - FOOTER;
    uint64_t version = bytes_le(p + body, 2), stored = bytes_le(p + body + 2, 8);
    if (version > RDB_VERSION_READ_MAX && !later)
        return error_set(err, ERROR_INVALID, "the payload's version %d is not known", (int)version);
    if (stored != crc64(0, p, body + 2))
        return error_set(err, ERROR_INVALID, "the payload's checksum is wrong");
    struct rdb_reader r;
    rdb_reader_init_memory(&r, p, body, err);
    uint8_t type;
    bool ok = rdb_read_u8(&r, &type) && rdb_check_type(&r, (int)version, type) &&
              rdb_load_value(&r, type, key, due, l, e);
    if (ok && rdb_reader_left(&r) != 0) {
        ok = rdb_fail(&r, ERROR_CORRUPT, "bytes are left over");
        if (*e)
            rdb_drop_entry(l, *e);
        *e = NULL;
    }
    if (ok && !*e)
        ok = error_set(err, ERROR_CORRUPT, "the collection is empty");
    rdb_reader_deinit(&r);
    return ok;
}
