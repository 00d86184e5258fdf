/* SPDX-License-Identifier: BSD-3-Clause
 *
 * RESP commands that make the data anew on a server whose databases are empty, as `redis-cli
 * --pipe` and any server take them. Collections are filled by several commands, none with more than
 * BATCH_ELEMENTS elements or, if one element is not more by itself, BATCH_BYTES bytes. The expiry
 * is set by PEXPIREAT behind the value: one that has passed removes the key.
 */
#include <inttypes.h>
#include <stdio.h>

#include "tool/export.h"
#include "tool/value.h"

#define BATCH_ELEMENTS 256
#define BATCH_BYTES (128 * 1024)

void export_resp_bulk(struct text *out, struct slice s)
{
    text_appendf(out, "$%zu\r\n", s.size);
    text_append(out, s.data, s.size);
    text_append_cstr(out, "\r\n");
}

void export_resp_begin(struct text *out, size_t count, const char *name)
{
    text_appendf(out, "*%zu\r\n", count);
    export_resp_bulk(out, slice_cstr(name));
}

/* The command that adds elements to a value of this type, with what has gathered in `body`. */
static void add_batch(struct text *out, const struct entry *e, struct text *body, size_t *count)
{
    static const char *const names[ENTRY_TYPE_COUNT] = {[ENTRY_STRING] = "SET",
                                                        [ENTRY_LIST] = "RPUSH",
                                                        [ENTRY_SET] = "SADD",
                                                        [ENTRY_ZSET] = "ZADD",
                                                        [ENTRY_HASH] = "HSET"};
    export_resp_begin(out, *count + 2, names[entry_type(e)]);
    export_resp_bulk(out, entry_key(e));
    text_append(out, body->data, body->size);
    text_clear(body);
    *count = 0;
    export_flush(out, EXPORT_FLUSH_SIZE);
}

/* Adds the element's arguments; returns how many. */
static size_t add_element(struct text *body, enum entry_type type,
                          const struct value_element *element)
{
    if (type == ENTRY_ZSET) {
        export_resp_bulk(body, element->value);
        export_resp_bulk(body, element->field);
        return 2;
    }
    if (type == ENTRY_HASH)
        export_resp_bulk(body, element->field);
    export_resp_bulk(body, element->value);
    return type == ENTRY_HASH ? 2 : 1;
}

/* HPEXPIREAT for each field that expires. */
static void add_field_dues(struct text *out, const struct entry *e)
{
    char due[24];
    struct value_iter it;
    struct value_element element;
    value_iter_init(&it, e);
    while (entry_timed(e) > 0 && value_iter_next(&it, &element)) {
        if (element.due == ENTRY_NO_EXPIRY)
            continue;
        export_resp_begin(out, 6, "HPEXPIREAT");
        export_resp_bulk(out, entry_key(e));
        snprintf(due, sizeof(due), "%" PRId64, element.due);
        export_resp_bulk(out, slice_cstr(due));
        export_resp_bulk(out, SLICE("FIELDS"));
        export_resp_bulk(out, SLICE("1"));
        export_resp_bulk(out, element.field);
        export_flush(out, EXPORT_FLUSH_SIZE);
    }
    value_iter_deinit(&it);
}

static void add(struct text *out, const struct export_key *key, int db_before)
{
    char number[24];
    struct text body = {0};
    struct value_iter it;
    struct value_element element;
    size_t count = 0;
    if (key->db != db_before) {
        export_resp_begin(out, 2, "SELECT");
        snprintf(number, sizeof(number), "%d", key->db);
        export_resp_bulk(out, slice_cstr(number));
    }
    if (entry_type(key->e) == ENTRY_STREAM)
        export_resp_stream(out, key->e);
    value_iter_init(&it, key->e);
    while (entry_type(key->e) != ENTRY_STREAM && value_iter_next(&it, &element)) {
        count += add_element(&body, entry_type(key->e), &element);
        if (count >= BATCH_ELEMENTS || body.size >= BATCH_BYTES)
            add_batch(out, key->e, &body, &count);
    }
    if (count > 0)
        add_batch(out, key->e, &body, &count);
    value_iter_deinit(&it);
    add_field_dues(out, key->e);
    if (entry_due(key->e) != ENTRY_NO_EXPIRY) {
        export_resp_begin(out, 3, "PEXPIREAT");
        export_resp_bulk(out, entry_key(key->e));
        snprintf(number, sizeof(number), "%" PRId64, entry_due(key->e));
        export_resp_bulk(out, slice_cstr(number));
    }
    text_free(&body);
}

static void add_library(struct text *out, struct slice code)
{
    export_resp_begin(out, 3, "FUNCTION");
    export_resp_bulk(out, SLICE("LOAD"));
    export_resp_bulk(out, code);
}

const struct export_format export_resp = {.name = "resp", .library = add_library, .add = add};
