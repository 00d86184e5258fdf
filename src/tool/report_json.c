/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The report for programs: one JSON object. All sizes in bytes, all times in milliseconds of 1970.
 */
#include <inttypes.h>

#include "tool/report.h"

static void add_tally(struct text *t, const struct tally *tally)
{
    text_appendf(t,
                 "\"keys\":%" PRIu64 ",\"elements\":%" PRIu64 ",\"memory_bytes\":%" PRIu64
                 ",\"serialised_bytes\":%" PRIu64,
                 tally->keys, tally->elements, tally->memory, tally->bytes);
}

static void add_section(struct text *t, const struct report_section *s)
{
    text_appendf(t, ",\n \"%s\":[", s->id);
    for (size_t i = 0; i < s->count; i++) {
        const struct report_row *row = &s->rows[i];
        text_appendf(t, "%s\n  {\"name\":", i ? "," : "");
        text_append_json(t, row->name);
        if (row->is_data)
            text_appendf(t, ",\"level\":%d", row->level);
        text_append_cstr(t, ",");
        add_tally(t, &row->tally);
        text_append_cstr(t, "}");
    }
    text_append_cstr(t, "]");
}

static void add_big_key(struct text *t, const struct big_key *k)
{
    text_appendf(t, "\n  {\"db\":%d,\"key\":", k->db);
    text_append_json(t, slice_of(k->key, k->kept));
    text_appendf(t, ",\"key_bytes\":%zu,\"key_is_cut\":%s,\"type\":\"%s\",\"encoding\":\"%s\",",
                 k->size, k->kept < k->size ? "true" : "false", entry_type_name(k->type),
                 k->encoding);
    if (k->due != ENTRY_NO_EXPIRY)
        text_appendf(t, "\"expire_at_ms\":%" PRId64 ",", k->due);
    add_tally(t, &k->tally);
    text_append_cstr(t, "}");
}

void report_print_json(const struct report *r, FILE *out)
{
    struct text t = {0};
    text_append_cstr(&t, "{\"file\":");
    text_append_json(&t, slice_cstr(r->path));
    text_appendf(&t, ",\"size_bytes\":%" PRIu64 ",\"rdb_version\":%d", r->file_size, r->version);
    if (r->created_ms)
        text_appendf(&t, ",\"created_ms\":%" PRId64, r->created_ms);
    text_append_cstr(&t, ",\"writer\":");
    text_append_json(&t, slice_cstr(r->writer));
    text_append_cstr(&t, ",\"separator\":");
    text_append_json(&t, slice_of(&r->separator, r->separator ? 1 : 0));
    text_append_cstr(&t, ",\n \"total\":{");
    add_tally(&t, &r->total);
    text_appendf(&t, ",\"table_bytes\":%" PRIu64 "},\n \"expiring\":{", r->table_bytes);
    add_tally(&t, &r->expiring);
    text_append_cstr(&t, "}");
    for (size_t i = 0; i < REPORT_SECTION_COUNT; i++)
        add_section(&t, &r->sections[i]);
    text_appendf(&t, ",\n \"prefixes_short_of_at_most_bytes\":%" PRIu64 ",\n \"biggest\":[",
                 r->prefix_missed);
    for (size_t i = 0; i < r->biggest_count; i++) {
        text_append_cstr(&t, i ? "," : "");
        add_big_key(&t, &r->biggest[i]);
    }
    text_append_cstr(&t, "]}\n");
    fwrite(t.data, 1, t.size, out);
    text_free(&t);
}
