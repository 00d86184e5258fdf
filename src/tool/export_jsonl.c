/* SPDX-License-Identifier: BSD-3-Clause
 *
 * JSON lines: an object for each key.
 *
 *     {"db":0,"key":"k","type":"hash","encoding":"listpack","expire_at_ms":...,"value":[["f","v"]]}
 *
 *     string     the string             set     [member, ...]
 *     list       [item, ...]            zset    [[member, score], ...]; "inf" and "-inf" as strings
 *     hash       [[field, value], ...]
 *     stream     [[id, [field, value, ...]], ..., {"last_id":..., "groups":[...], ...}]
 *
 * Pairs and not objects, as fields keep their order and may hold any bytes: a string that is not
 * UTF-8 is {"base64":"..."}.
 */
#include <inttypes.h>
#include <math.h>

#include "tool/export.h"
#include "tool/format.h"
#include "tool/value.h"

static void add_score(struct text *out, const struct value_element *element)
{
    if (isfinite(element->score))
        text_append(out, element->value.data, element->value.size);
    else
        text_append_json(out, element->value);
}

static void add_element(struct text *out, enum entry_type type, const struct value_element *element)
{
    if (type == ENTRY_STREAM && element->field.size == 0) {
        text_append(out, element->value.data, element->value.size);
        return;
    }
    if (type != ENTRY_HASH && type != ENTRY_ZSET && type != ENTRY_STREAM) {
        text_append_json(out, element->value);
        return;
    }
    text_append_cstr(out, "[");
    text_append_json(out, element->field);
    text_append_cstr(out, ",");
    if (type == ENTRY_ZSET)
        add_score(out, element);
    else if (type == ENTRY_STREAM)
        text_append(out, element->value.data, element->value.size);
    else
        text_append_json(out, element->value);
    if (element->due != ENTRY_NO_EXPIRY)
        text_appendf(out, ",%" PRId64, element->due);
    text_append_cstr(out, "]");
}

void export_json_value(struct text *out, const struct entry *e, bool flush)
{
    struct value_iter it;
    struct value_element element;
    bool is_string = entry_type(e) == ENTRY_STRING;
    const char *comma = "";
    value_iter_init(&it, e);
    text_append_cstr(out, is_string ? "" : "[");
    while (value_iter_next(&it, &element)) {
        text_append_cstr(out, comma);
        add_element(out, entry_type(e), &element);
        if (flush)
            export_flush(out, EXPORT_FLUSH_SIZE);
        comma = ",";
    }
    text_append_cstr(out, is_string ? "" : "]");
    value_iter_deinit(&it);
}

static void add(struct text *out, const struct export_key *key, int db_before)
{
    (void)db_before;
    text_appendf(out, "{\"db\":%d,\"key\":", key->db);
    text_append_json(out, entry_key(key->e));
    text_appendf(out, ",\"type\":\"%s\",\"encoding\":\"%s\"", entry_type_name(entry_type(key->e)),
                 key->encoding);
    if (entry_due(key->e) != ENTRY_NO_EXPIRY)
        text_appendf(out, ",\"expire_at_ms\":%" PRId64, entry_due(key->e));
    text_append_cstr(out, ",\"value\":");
    export_json_value(out, key->e, true);
    text_append_cstr(out, "}\n");
}

const struct export_format export_jsonl = {.name = "jsonl", .add = add};
