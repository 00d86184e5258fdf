/* SPDX-License-Identifier: BSD-3-Clause
 *
 * An entry: one key with its value, in one allocation.
 *
 *     +--------+-------+------------+-----------+------------+-----+------------------------+
 *     | header | (due) | (key size) | key bytes | (padding)  |     value                    |
 *     +--------+-------+------------+-----------+------------+------------------------------+
 *       8        8 if    4 if          n          to 8, for    bytes (size in the header), or
 *                expires long key                 roots only   an int64, or the roots of trees
 *
 *     header:  type:4 | encoding:4 , flags , value size:16 , key size:8 | access clock:24
 *
 * The value is one of:
 *   - embedded bytes (a short string, a listpack, an intset) of value_size <= ENTRY_EMBED_MAX
 * bytes;
 *   - an integer of 8 bytes (unaligned);
 *   - the root(s) of a rope, dict or btree, 8-byte aligned; what hangs below has its own births.
 *
 * What OBJECT ENCODING reports is Redis's name for the value by Redis's thresholds; how it is kept
 * is our own matter (a hash of 500 small fields is a listpack to Redis, and a dict here as its
 * listpack would be beyond ENTRY_EMBED_MAX). ENTRY_GROWN says that Redis would have converted the
 * value to its large encoding; like there it stays until the key is written anew.
 *
 * The access clock is the one thing that a read changes. It shares its word with the key size and
 * is read and written with relaxed atomics, as snapshot threads read the word meanwhile.
 *
 * The block is always in the allocator's size class of entry_size(e), so that it can be freed by
 * that size.
 */
#ifndef HF_KEYSPACE_ENTRY_H
#define HF_KEYSPACE_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"
#include "structure/btree.h"
#include "structure/dict.h"
#include "structure/rope.h"

/* The numbers are ours; RDB's own type codes are in persist/rdb. */
enum entry_type {
    ENTRY_STRING = 0,
    ENTRY_LIST = 1,
    ENTRY_SET = 2,
    ENTRY_ZSET = 3,
    ENTRY_HASH = 4,
    ENTRY_STREAM = 5,
    ENTRY_TYPE_COUNT
};

enum entry_encoding {
    ENTRY_INT,      /* string: int64 */
    ENTRY_BYTES,    /* string: embedded */
    ENTRY_ROPE,     /* string: struct rope */
    ENTRY_LISTPACK, /* list, hash (field, value, ...), set, zset (member, score, ... in order) */
    ENTRY_INTSET,   /* set */
    ENTRY_DICT,     /* hash, set: struct dict */
    ENTRY_BTREE,    /* list: struct btree */
    ENTRY_ZTREE,    /* zset: struct zset_root */
    ENTRY_STREAM_TREES, /* stream: struct stream_root */
    ENTRY_TIMED_DICT /* hash, of which fields expire or did: struct timed_dict */
};

/* A hash whose fields may expire. The dict is first, as in ENTRY_DICT, so that it is read alike. */
struct timed_dict {
    struct dict fields;
    uint64_t timed; /* so many of them expire */
};

/* A large sorted set: the tree holds 8 bytes of score (btree_put_double) + member; the index maps
 * hash_bytes(member) -> score (8 bytes, as a double); the crowd is a set of the members that share
 * their score with many: see type/zset.h. */
struct zset_root {
    struct btree tree;
    struct dict index, crowd;
};

/* The id of a stream's entry: milliseconds, and a number within one. */
struct stream_id {
    uint64_t ms, seq;
};

/* The newest entries of a stream: one item as the tree of nodes has it (type/stream.h), with room
 * to grow in place. */
struct stream_tail {
    uint64_t birth;
    uint64_t size; /* of the block */
    char item[];
};

/* A stream: see type/stream.h. */
struct stream_root {
    struct btree nodes;       /* packed entries, all but the newest */
    struct stream_tail *tail; /* NULL: there are no entries */
    struct btree groups;      /* consumer groups and their consumers */
    struct btree pending;     /* by group and id */
    struct btree owned;       /* by group, consumer and id */
    uint64_t length;
    struct stream_id first;       /* the oldest entry; 0-0 when there is none */
    struct stream_id last;        /* the highest id ever given */
    struct stream_id max_deleted; /* the highest id that was deleted, not trimmed */
    uint64_t added;               /* entries ever added */
    uint64_t next_group;          /* the number that the next group gets */
};

enum entry_flag {
    ENTRY_EXPIRES = 1,  /* has the due field */
    ENTRY_LONG_KEY = 2, /* the key's size is in its own field */
    ENTRY_GROWN = 4,    /* Redis's large encoding is reported */
    ENTRY_INTEGERS = 8, /* set as a dict: Redis would have it as an intset */
    ENTRY_MOVED = 16    /* nodes of the value may be known to a snapshot under another key */
};
/* Those that belong to the value and go with it. */
#define ENTRY_VALUE_FLAGS (ENTRY_GROWN | ENTRY_INTEGERS | ENTRY_MOVED)

#define ENTRY_EMBED_MAX 4096
#define ENTRY_NO_EXPIRY INT64_MAX

struct entry {
    uint8_t type_encoding;
    uint8_t flags;
    uint16_t value_size;
    uint32_t key_clock; /* key size in the low 8 bits, access clock in the high 24 */
    char body[];
};

static inline enum entry_type entry_type(const struct entry *e)
{
    return (enum entry_type)(e->type_encoding >> 4);
}

static inline enum entry_encoding entry_encoding(const struct entry *e)
{
    return (enum entry_encoding)(e->type_encoding & 15);
}

static inline uint32_t entry_key_clock(const struct entry *e)
{
    return __atomic_load_n(&e->key_clock, __ATOMIC_RELAXED);
}

static inline struct slice entry_key(const struct entry *e)
{
    size_t at = e->flags & ENTRY_EXPIRES ? 8 : 0;
    if (__builtin_expect(e->flags & ENTRY_LONG_KEY, 0)) {
        uint32_t size;
        memcpy(&size, e->body + at, sizeof(size));
        return slice_of(e->body + at + 4, size);
    }
    return slice_of(e->body + at, entry_key_clock(e) & 0xff);
}

/* Milliseconds since 1970; ENTRY_NO_EXPIRY when it does not expire. */
static inline int64_t entry_due(const struct entry *e)
{
    int64_t due = ENTRY_NO_EXPIRY;
    if (e->flags & ENTRY_EXPIRES)
        memcpy(&due, e->body, sizeof(due));
    return due;
}

static inline bool entry_has_root(const struct entry *e)
{
    enum entry_encoding c = entry_encoding(e);
    return c == ENTRY_ROPE || c >= ENTRY_DICT;
}

static inline bool entry_has_dict(const struct entry *e)
{
    return entry_encoding(e) == ENTRY_DICT || entry_encoding(e) == ENTRY_TIMED_DICT;
}

/* Where the value stands: embedded bytes, the int64 (use memcpy), or the aligned root. */
static inline const void *entry_value(const struct entry *e)
{
    struct slice key = entry_key(e);
    const char *p = key.data + key.size;
    if (entry_has_root(e))
        p = (const char *)(((uintptr_t)p + 7) & ~(uintptr_t)7);
    return p;
}

/* How many fields of it expire. */
static inline uint64_t entry_timed(const struct entry *e)
{
    if (__builtin_expect(entry_encoding(e) != ENTRY_TIMED_DICT, 1))
        return 0;
    return ((const struct timed_dict *)entry_value(e))->timed;
}

/* A lower bound of when the first of its fields expires. */
static inline int64_t entry_fields_due(const struct entry *e)
{
    if (entry_timed(e) == 0)
        return ENTRY_NO_EXPIRY;
    return dict_due_bound(&((const struct timed_dict *)entry_value(e))->fields);
}

/* When something of it may have to be removed: the key, or a field. */
static inline int64_t entry_next_due(const struct entry *e)
{
    int64_t due = entry_due(e), fields = entry_fields_due(e);
    return due < fields ? due : fields;
}

static inline struct slice entry_bytes(const struct entry *e)
{
    return slice_of(entry_value(e), e->value_size);
}

static inline int64_t entry_int(const struct entry *e)
{
    int64_t v;
    memcpy(&v, entry_value(e), sizeof(v));
    return v;
}

/* The access clock: 24 bits, whatever the eviction policy makes of them. */
static inline uint32_t entry_clock(const struct entry *e)
{
    return entry_key_clock(e) >> 8;
}

static inline void entry_set_clock(struct entry *e, uint32_t clock)
{
    uint32_t word = (entry_key_clock(e) & 0xff) | clock << 8;
    __atomic_store_n(&e->key_clock, word, __ATOMIC_RELAXED);
}

/* Behind the last byte of the value field. */
const char *entry_end(const struct entry *e);
/* The size that was asked of the allocator. At least 9, so that every entry is aligned to 16
 * bytes. */
size_t entry_size(const struct entry *e);
/* The size of the value field for an encoding that has a fixed one (int, roots); 0 for bytes. */
size_t entry_fixed_value_size(enum entry_encoding encoding);
/* The size of an entry with these properties. value_size counts for embedded bytes only. */
static inline size_t entry_size_for(size_t key_size, bool expires, enum entry_encoding encoding,
                                    size_t value_size)
{
    size_t size =
        sizeof(struct entry) + (expires ? 8 : 0) + (key_size > UINT8_MAX ? 4 : 0) + key_size;
    if (encoding == ENTRY_ROPE || encoding >= ENTRY_DICT)
        return ((size + 7) & ~(size_t)7) + entry_fixed_value_size(encoding);
    size += encoding == ENTRY_INT ? sizeof(int64_t) : value_size;
    /* Blocks of 8 bytes are the only ones that are not aligned to 16. */
    return size + (size == sizeof(struct entry));
}

/* Allocate an entry. The value field is not set, but for roots, which are zeroed. `due` may be
 * ENTRY_NO_EXPIRY. value_size counts for embedded bytes only. */
struct entry *entry_new(struct slice key, int64_t due, enum entry_type type,
                        enum entry_encoding encoding, size_t value_size);
/* A block of this size that may be used up to the end of its class, as keyref_resize does. */
struct entry *entry_alloc(size_t size);
/* A copy of the block alone: the nodes below are shared with the original. */
struct entry *entry_clone(const struct entry *e);
/* Free the block alone. */
void entry_free_block(struct entry *e);

/* Bytes of everything, as MEMORY USAGE reports it (walks trees). */
size_t entry_memory(const struct entry *e);
/* "string", "list", ... as TYPE replies. */
const char *entry_type_name(enum entry_type type);

#endif
