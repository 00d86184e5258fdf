/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyspace/entry.h"

#include <assert.h>

#include "base/mem.h"

static_assert(sizeof(struct entry) == 8, "the header of an entry is 8 bytes");
static_assert(ENTRY_EMBED_MAX <= UINT16_MAX, "value_size has 16 bits");

size_t entry_fixed_value_size(enum entry_encoding encoding)
{
    switch (encoding) {
    case ENTRY_INT:
        return sizeof(int64_t);
    case ENTRY_ROPE:
        return sizeof(struct rope);
    case ENTRY_DICT:
        return sizeof(struct dict);
    case ENTRY_BTREE:
        return sizeof(struct btree);
    case ENTRY_ZTREE:
        return sizeof(struct zset_root);
    case ENTRY_STREAM_TREES:
        return sizeof(struct stream_root);
    case ENTRY_TIMED_DICT:
        return sizeof(struct timed_dict);
    case ENTRY_BYTES:
    case ENTRY_LISTPACK:
    case ENTRY_INTSET:
        break;
    }
    return 0;
}

const char *entry_end(const struct entry *e)
{
    size_t fixed = entry_fixed_value_size(entry_encoding(e));
    return (const char *)entry_value(e) + (fixed ? fixed : e->value_size);
}

size_t entry_size(const struct entry *e)
{
    return entry_size_for(entry_key(e).size, e->flags & ENTRY_EXPIRES, entry_encoding(e),
                          e->value_size);
}

struct entry *entry_alloc(size_t size)
{
#ifdef HF_JEMALLOC
    return mem_alloc(size); /* it gives the whole class anyway, and need not be asked how much */
#else
    return mem_alloc(mem_good_size(size));
#endif
}

struct entry *entry_new(struct slice key, int64_t due, enum entry_type type,
                        enum entry_encoding encoding, size_t value_size)
{
    bool expires = due != ENTRY_NO_EXPIRY;
    bool long_key = key.size > UINT8_MAX;
    size_t fixed = entry_fixed_value_size(encoding);
    assert(fixed || value_size <= ENTRY_EMBED_MAX);
    assert(key.size <= UINT32_MAX);

    struct entry *e = entry_alloc(entry_size_for(key.size, expires, encoding, value_size));
    e->type_encoding = (uint8_t)((unsigned)type << 4 | (unsigned)encoding);
    e->flags = (uint8_t)((expires ? ENTRY_EXPIRES : 0) | (long_key ? ENTRY_LONG_KEY : 0));
    e->value_size = fixed ? 0 : (uint16_t)value_size;
    e->key_clock = long_key ? 0 : (uint32_t)key.size;

    char *p = e->body;
    if (expires) {
        memcpy(p, &due, sizeof(due));
        p += sizeof(due);
    }
    if (long_key) {
        uint32_t size = (uint32_t)key.size;
        memcpy(p, &size, sizeof(size));
        p += sizeof(size);
    }
    if (key.size)
        memcpy(p, key.data, key.size);
    if (entry_has_root(e))
        memset((void *)(uintptr_t)entry_value(e), 0, fixed);
    return e;
}

struct entry *entry_clone(const struct entry *e)
{
    size_t size = entry_size(e);
    struct entry *copy = entry_alloc(size);
    memcpy(copy, e, size);
    return copy;
}

void entry_free_block(struct entry *e)
{
    mem_free_sized(e, entry_size(e));
}

size_t entry_memory(const struct entry *e)
{
    size_t size = mem_good_size(entry_size(e));
    const void *value = entry_value(e);
    switch (entry_encoding(e)) {
    case ENTRY_ROPE:
        return size + rope_bytes(value);
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT:
        return size + dict_bytes(value);
    case ENTRY_BTREE:
        return size + btree_bytes(value);
    case ENTRY_ZTREE: {
        const struct zset_root *z = value;
        return size + btree_bytes(&z->tree) + dict_bytes(&z->index) + dict_bytes(&z->crowd);
    }
    case ENTRY_STREAM_TREES: {
        const struct stream_root *s = value;
        return size + btree_bytes(&s->nodes) + btree_bytes(&s->groups) + btree_bytes(&s->pending) +
               btree_bytes(&s->owned) + (s->tail ? s->tail->size : 0);
    }
    default:
        return size;
    }
}

const char *entry_type_name(enum entry_type type)
{
    static const char *const names[ENTRY_TYPE_COUNT] = {
        [ENTRY_STRING] = "string", [ENTRY_LIST] = "list", [ENTRY_SET] = "set",
        [ENTRY_ZSET] = "zset",     [ENTRY_HASH] = "hash", [ENTRY_STREAM] = "stream"};
    return (unsigned)type < ENTRY_TYPE_COUNT ? names[type] : "none";
}
