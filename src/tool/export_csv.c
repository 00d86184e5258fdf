/* SPDX-License-Identifier: BSD-3-Clause
 *
 * CSV as RFC 4180 has it, a line for each element:
 *
 *     db,key,type,expire_at_ms,field,value,text,field_expire_at_ms
 *
 * `field` is the field of a hash, the member of a sorted set (`value` is its score) and the index
 * in a list; empty for strings and sets. In a stream it is an entry's id, and `value` its fields
 * and values as a JSON array; a stream's last line, with an empty `field`, has everything else as a
 * JSON object. CSV knows no bytes: when key, field or value is not UTF-8, all
 * three are in base64 and `text` says so.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tool/export.h"
#include "tool/format.h"
#include "tool/value.h"

static void begin(struct text *out)
{
    text_append_cstr(out, "db,key,type,expire_at_ms,field,value,text,field_expire_at_ms\r\n");
}

static bool needs_quotes(struct slice s)
{
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] == '\0' || strchr(",\"\r\n ", s.data[i]))
            return true;
    }
    return false;
}

static void add_cell(struct text *out, struct slice s, bool base64)
{
    if (base64) {
        text_append_base64(out, s);
        return;
    }
    if (!needs_quotes(s)) {
        text_append(out, s.data, s.size);
        return;
    }
    text_append_cstr(out, "\"");
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] == '"')
            text_append_cstr(out, "\"");
        text_append(out, &s.data[i], 1);
    }
    text_append_cstr(out, "\"");
}

/* A NUL is UTF-8, but ends the line for many a reader. */
static bool is_text(struct slice s)
{
    return utf8_valid(s) && (s.size == 0 || !memchr(s.data, '\0', s.size));
}

static void add(struct text *out, const struct export_key *key, int db_before)
{
    (void)db_before;
    struct slice name = entry_key(key->e);
    enum entry_type type = entry_type(key->e);
    struct value_iter it;
    struct value_element element;
    char index[24];
    uint64_t count = 0;
    value_iter_init(&it, key->e);
    while (value_iter_next(&it, &element)) {
        if (type == ENTRY_LIST) {
            snprintf(index, sizeof(index), "%" PRIu64, count++);
            element.field = slice_cstr(index);
        }
        bool base64 = !is_text(name) || !is_text(element.field) || !is_text(element.value);
        text_appendf(out, "%d,", key->db);
        add_cell(out, name, base64);
        text_appendf(out, ",%s,", entry_type_name(type));
        if (entry_due(key->e) != ENTRY_NO_EXPIRY)
            text_appendf(out, "%" PRId64, entry_due(key->e));
        text_append_cstr(out, ",");
        add_cell(out, element.field, base64);
        text_append_cstr(out, ",");
        add_cell(out, element.value, base64);
        text_append_cstr(out, base64 ? ",base64," : ",utf-8,");
        if (element.due != ENTRY_NO_EXPIRY)
            text_appendf(out, "%" PRId64, element.due);
        text_append_cstr(out, "\r\n");
        export_flush(out, EXPORT_FLUSH_SIZE);
    }
    value_iter_deinit(&it);
}

const struct export_format export_csv = {.name = "csv", .begin = begin, .add = add};
