/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The report for a terminal: a table for each section.
 */
#include <inttypes.h>

#include "tool/report.h"

#define NAME_WIDTH 34
#define NAME_MOST 72

/* Columns that a name takes: its characters, as each of them is printed in one. */
static int width_of(const struct text *t)
{
    int width = 0;
    for (size_t i = 0; i < t->size; i++)
        width += (t->data[i] & 0xc0) != 0x80;
    return width;
}

static void print_name(FILE *out, const struct report_row *row)
{
    struct text name = {0};
    if (row->is_data)
        text_append_printable(&name, row->name, NAME_MOST);
    else
        text_append(&name, row->name.data, row->name.size);
    int indent = 2 * row->level, pad = NAME_WIDTH - indent - width_of(&name);
    fprintf(out, "%*s%s%*s", indent, "", text_cstr(&name), pad > 0 ? pad : 0, "");
    text_free(&name);
}

static void print_section(const struct report *r, const struct report_section *s, FILE *out)
{
    char keys[FORMAT_SIZE], memory[FORMAT_SIZE], share[FORMAT_SIZE], bytes[FORMAT_SIZE],
        average[FORMAT_SIZE];
    fprintf(out, "\n%-*s %13s %10s %8s %10s %10s\n", NAME_WIDTH, s->title, "keys", "memory",
            "share", "per key", "in file");
    for (size_t i = 0; i < s->count; i++) {
        const struct tally *t = &s->rows[i].tally;
        if (t->keys == 0)
            continue;
        print_name(out, &s->rows[i]);
        fprintf(out, " %13s %10s %8s %10s %10s\n", format_count(keys, t->keys),
                format_bytes(memory, t->memory), format_percent(share, t->memory, r->total.memory),
                format_bytes(average, t->memory / t->keys), format_bytes(bytes, t->bytes));
    }
    if (s->note)
        fprintf(out, "  %s\n", s->note);
}

static void print_biggest(const struct report *r, FILE *out)
{
    char memory[FORMAT_SIZE], bytes[FORMAT_SIZE], elements[FORMAT_SIZE];
    if (r->biggest_count == 0)
        return;
    fprintf(out, "\n%-17s %10s %10s %13s  %s\n", "Biggest keys", "memory", "in file", "elements",
            "key");
    for (size_t i = 0; i < r->biggest_count; i++) {
        const struct big_key *k = &r->biggest[i];
        struct text name = {0}, kind = {0};
        text_append_printable(&name, slice_of(k->key, k->kept), NAME_MOST);
        text_appendf(&kind, "%s %s", entry_type_name(k->type), k->encoding);
        fprintf(out, "  %-15.15s %10s %10s %13s  %s (db %d)\n", text_cstr(&kind),
                format_bytes(memory, k->tally.memory), format_bytes(bytes, k->tally.bytes),
                k->type == ENTRY_STRING ? "-" : format_count(elements, k->tally.elements),
                text_cstr(&name), k->db);
        text_free(&name);
        text_free(&kind);
    }
}

void report_print_text(const struct report *r, FILE *out)
{
    char a[FORMAT_SIZE], b[FORMAT_SIZE], c[FORMAT_SIZE];
    fprintf(out, "%s: RDB version %d, %s", r->path, r->version, format_bytes(a, r->file_size));
    if (r->created_ms)
        fprintf(out, ", written %s", format_time(a, r->created_ms));
    if (r->writer[0]) {
        struct text writer = {0};
        text_append_printable(&writer, slice_cstr(r->writer), sizeof(r->writer));
        fprintf(out, " by %s", text_cstr(&writer));
        text_free(&writer);
    }
    fprintf(out, "\n%s keys, %s expire\n", format_count(a, r->total.keys),
            format_count(b, r->expiring.keys));
    fprintf(out, "%s of memory in Holdfast, and %s for the table of keys; %s in the file\n",
            format_bytes(a, r->total.memory), format_bytes(b, r->table_bytes),
            format_bytes(c, r->total.bytes));
    for (size_t i = 0; i < REPORT_SECTION_COUNT; i++) {
        if (i != REPORT_PREFIXES || r->separator)
            print_section(r, &r->sections[i], out);
    }
    if (r->prefix_missed)
        fprintf(out,
                "  There are more prefixes than were counted: a figure may be short of up to %s.\n",
                format_bytes(a, r->prefix_missed));
    print_biggest(r, out);
}
