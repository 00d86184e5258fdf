/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/encoding.h"

#include "type/hash.h"
#include "type/list.h"
#include "type/set.h"
#include "type/string.h"
#include "type/zset.h"

#define SHARED_INTEGERS 10000

const char *type_encoding_name(const struct entry *e, const struct encoding_limits *limits)
{
    switch (entry_type(e)) {
    case ENTRY_STRING:
        return string_encoding_name(e);
    case ENTRY_LIST:
        return list_encoding_name(e, limits);
    case ENTRY_SET:
        return set_encoding_name(e);
    case ENTRY_ZSET:
        return zset_encoding_name(e);
    case ENTRY_HASH:
        return hash_encoding_name(e);
    default:
        return "stream";
    }
}

int64_t type_reference_count(const struct entry *e)
{
    bool shared =
        entry_encoding(e) == ENTRY_INT && entry_int(e) >= 0 && entry_int(e) < SHARED_INTEGERS;
    return shared ? INT32_MAX : 1;
}
