/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/string.h"

#include <assert.h>

#include "base/mem.h"

/* Decimal forms of an int64 have 20 bytes at most. */
#define INT64_DIGITS_MAX 20

static char *value_of(struct entry *e)
{
    return (char *)(uintptr_t)entry_value(e);
}

static const struct rope *rope_of(const struct entry *e)
{
    return entry_value(e);
}

/* ---- reading ---- */

uint64_t string_size(const struct entry *e)
{
    char digits[NUMBER_INT64_SIZE];
    switch (entry_encoding(e)) {
    case ENTRY_INT:
        return number_format_int64(digits, entry_int(e));
    case ENTRY_ROPE:
        return rope_of(e)->size;
    default:
        return e->value_size;
    }
}

struct slice string_run(const struct entry *e, uint64_t offset, uint64_t size,
                        char buf[NUMBER_INT64_SIZE])
{
    struct slice s;
    switch (entry_encoding(e)) {
    case ENTRY_ROPE:
        return rope_run(rope_of(e), offset, size);
    case ENTRY_INT:
        s = slice_of(buf, number_format_int64(buf, entry_int(e)));
        break;
    default:
        s = entry_bytes(e);
        break;
    }
    if (offset >= s.size)
        return slice_of(s.data, 0);
    uint64_t left = s.size - offset;
    return slice_of(s.data + offset, left < size ? left : size);
}

uint64_t string_hole(const struct entry *e, uint64_t offset)
{
    return entry_encoding(e) == ENTRY_ROPE ? rope_hole(rope_of(e), offset) : 0;
}

void string_read(const struct entry *e, uint64_t offset, void *out, size_t size)
{
    if (entry_encoding(e) == ENTRY_ROPE) {
        rope_read(rope_of(e), offset, out, size);
        return;
    }
    char buf[NUMBER_INT64_SIZE];
    struct slice s = string_run(e, offset, size, buf);
    assert(s.size == size);
    memcpy(out, s.data, s.size);
}

struct slice string_flat(const struct entry *e, char buf[NUMBER_INT64_SIZE], char **heap)
{
    *heap = NULL;
    if (entry_encoding(e) != ENTRY_ROPE)
        return string_run(e, 0, UINT64_MAX, buf);
    size_t size = rope_of(e)->size;
    *heap = mem_alloc(size);
    rope_read(rope_of(e), 0, *heap, size);
    return slice_of(*heap, size);
}

bool string_equal(const struct entry *e, struct slice s)
{
    if (string_size(e) != s.size)
        return false;
    char buf[NUMBER_INT64_SIZE];
    for (size_t at = 0; at < s.size;) {
        struct slice run = string_run(e, at, s.size - at, buf);
        if (memcmp(run.data, s.data + at, run.size) != 0)
            return false;
        at += run.size;
    }
    return true;
}

bool string_get_int64(const struct entry *e, int64_t *out)
{
    switch (entry_encoding(e)) {
    case ENTRY_INT:
        *out = entry_int(e);
        return true;
    case ENTRY_BYTES:
        return number_parse_int64(entry_bytes(e), out);
    default:
        return false;
    }
}

bool string_get_long_double(const struct entry *e, long double *out)
{
    switch (entry_encoding(e)) {
    case ENTRY_INT:
        *out = (long double)entry_int(e);
        return true;
    case ENTRY_BYTES:
        return number_parse_long_double(entry_bytes(e), out);
    default: {
        /* The largest numbers have a few digits more than an entry holds. */
        char text[NUMBER_LONG_DOUBLE_SIZE];
        size_t size = string_size(e);
        if (size >= sizeof(text))
            return false;
        string_read(e, 0, text, size);
        return number_parse_long_double(slice_of(text, size), out);
    }
    }
}

const char *string_encoding_name(const struct entry *e)
{
    if (entry_encoding(e) == ENTRY_INT)
        return "int";
    bool small = entry_encoding(e) == ENTRY_BYTES && e->value_size <= STRING_EMBSTR_MAX;
    return small && !(e->flags & ENTRY_GROWN) ? "embstr" : "raw";
}

/* ---- writing ---- */

void string_set_int64(struct keyref *ref, int64_t value, int64_t due)
{
    struct entry *e = keyref_put(ref, due, ENTRY_STRING, ENTRY_INT, (size_t)value);
    memcpy(value_of(e), &value, sizeof(value));
}

void string_set_bytes(struct keyref *ref, struct slice value, int64_t due)
{
    if (value.size <= ENTRY_EMBED_MAX) {
        struct entry *e = keyref_put(ref, due, ENTRY_STRING, ENTRY_BYTES, value.size);
        if (value.size)
            memcpy(value_of(e), value.data, value.size);
        return;
    }
    struct entry *e = keyref_put(ref, due, ENTRY_STRING, ENTRY_ROPE, 0);
    struct rope *rope = (struct rope *)(void *)value_of(e);
    rope_init(rope);
    rope_write(rope, keyref_epoch(ref), 0, value);
}

void string_set_blocks(struct keyref *ref, char **blocks, uint64_t size, int64_t due)
{
    assert(size > ENTRY_EMBED_MAX);
    struct entry *e = keyref_put(ref, due, ENTRY_STRING, ENTRY_ROPE, 0);
    struct rope *rope = (struct rope *)(void *)value_of(e);
    rope_init(rope);
    rope_adopt(rope, &ref->db->ks->epoch, blocks, size);
}

void string_set(struct keyref *ref, struct slice value, int64_t due)
{
    int64_t number;
    if (value.size <= INT64_DIGITS_MAX && value.size > 0 && (unsigned char)value.data[0] <= '9' &&
        number_parse_int64(value, &number))
        string_set_int64(ref, number, due);
    else
        string_set_bytes(ref, value, due);
}

/* Make an existing string a changeable run of `size` bytes or more (the new ones zero), embedded or
 * a rope, and `raw`. A rope is not extended: rope_write does that. */
static struct entry *make_raw(struct keyref *ref, uint64_t size)
{
    struct entry *e = ref->entry;
    if (entry_encoding(e) == ENTRY_ROPE) {
        e = keyref_own(ref);
    } else if (entry_encoding(e) == ENTRY_BYTES && size <= ENTRY_EMBED_MAX) {
        size_t old_size = e->value_size;
        if (size > old_size) {
            e = keyref_resize(ref, size);
            memset(value_of(e) + old_size, 0, size - old_size);
        } else {
            e = keyref_own(ref);
        }
    } else {
        char old[ENTRY_EMBED_MAX];
        size_t old_size = string_size(e);
        string_read(e, 0, old, old_size);
        if (size <= ENTRY_EMBED_MAX) {
            size_t new_size = size > old_size ? size : old_size;
            e = keyref_reencode(ref, ENTRY_BYTES, new_size);
            memcpy(value_of(e), old, old_size);
            memset(value_of(e) + old_size, 0, new_size - old_size);
        } else {
            e = keyref_reencode(ref, ENTRY_ROPE, 0);
            struct rope *rope = (struct rope *)(void *)value_of(e);
            rope_init(rope);
            if (old_size)
                rope_write(rope, keyref_epoch(ref), 0, slice_of(old, old_size));
        }
    }
    e->flags |= ENTRY_GROWN;
    return e;
}

uint64_t string_write(struct keyref *ref, uint64_t offset, struct slice bytes)
{
    uint64_t end = offset + bytes.size;
    if (ref->entry == NULL)
        string_set_bytes(ref, slice_of("", 0), ENTRY_NO_EXPIRY);
    struct entry *e = make_raw(ref, end);
    if (entry_encoding(e) == ENTRY_ROPE) {
        struct rope *rope = (struct rope *)(void *)value_of(e);
        if (bytes.size)
            rope_write(rope, keyref_epoch(ref), offset, bytes);
        return rope->size;
    }
    if (bytes.size)
        memcpy(value_of(e) + offset, bytes.data, bytes.size);
    return e->value_size;
}

uint64_t string_append(struct keyref *ref, struct slice bytes)
{
    if (ref->entry)
        return string_write(ref, string_size(ref->entry), bytes);
    string_set(ref, bytes, ENTRY_NO_EXPIRY);
    return bytes.size;
}

void string_replace(struct keyref *ref, struct slice bytes)
{
    struct entry *e = ref->entry;
    if (e != NULL && entry_encoding(e) == ENTRY_BYTES && bytes.size <= ENTRY_EMBED_MAX) {
        e = e->value_size == bytes.size ? keyref_own(ref) : keyref_resize(ref, bytes.size);
        if (bytes.size)
            memcpy(value_of(e), bytes.data, bytes.size);
    } else {
        string_set_bytes(ref, bytes, KEYREF_KEEP_DUE);
    }
    ref->entry->flags |= ENTRY_GROWN;
}

void string_take_rope(struct keyref *ref, struct rope *rope)
{
    if (rope->size <= ENTRY_EMBED_MAX) {
        struct entry *e =
            keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_BYTES, rope->size);
        rope_read(rope, 0, value_of(e), rope->size);
        rope_clear(rope, &ref->db->ks->epoch);
    } else {
        struct entry *e = keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_ROPE, 0);
        memcpy(value_of(e), rope, sizeof(*rope));
        rope_init(rope);
    }
    ref->entry->flags |= ENTRY_GROWN;
}

enum string_incr_result string_incr(struct keyref *ref, int64_t delta, int64_t *result)
{
    int64_t value = 0;
    if (ref->entry && !string_get_int64(ref->entry, &value))
        return STRING_INCR_NOT_INTEGER;
    if (__builtin_add_overflow(value, delta, &value))
        return STRING_INCR_OVERFLOW;
    if (ref->entry && entry_encoding(ref->entry) == ENTRY_INT) {
        keyref_note_int(ref, value);
        memcpy(value_of(keyref_own(ref)), &value, sizeof(value));
    } else {
        string_set_int64(ref, value, KEYREF_KEEP_DUE);
    }
    *result = value;
    return STRING_INCR_OK;
}
