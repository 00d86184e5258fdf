/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The report as one HTML page that needs nothing but itself: no scripts, no fonts, no requests (its
 * content security policy forbids them). Charts are inline SVG with a title on each mark, and the
 * same figures stand in a table beside each. Colours are variables, with a set for dark screens.
 *
 * Everything that comes from the file goes through text_append_html.
 */
#include <inttypes.h>

#include "tool/report.h"

#define NAME_MOST 72
/* Of a name beside a bar: characters that fit in BAR_NAMES at 13 px, nearly whatever they are. */
#define BAR_NAME_MOST 26
#define BAR_NAMES 200
#define BAR_FIGURES 140
#define BAR_STEP 28
#define BARS_MOST 15
/* So many databases fit beside the types, chart and table. */
#define FEW 4
/* Widths of charts, in the units of their view boxes: about the pixels that they get, so that text
 * has one size in all of them. */
#define WIDE 1076
#define NARROW 506

static const char style[] =
    ":root{color-scheme:light dark;--ground:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5b6675;"
    "--line:#dde2e9;--track:#eef1f5;--keys:#c47a1c;"
    "--c0:#2c6fbb;--c1:#b8562f;--c2:#3d8a55;--c3:#8457b3;--c4:#a88a1e;--c5:#4b8f9b}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#12161c;--card:#1b2129;--ink:#e6eaf0;"
    "--soft:#9aa6b5;--line:#303946;--track:#262e39;--keys:#e0a04a;"
    "--c0:#5b9ee6;--c1:#e08a5f;--c2:#6bbd85;--c3:#b08ae0;--c4:#d6b94a;--c5:#72bfcc}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"
    "\"Segoe UI\",\"DejaVu Sans\",sans-serif}\n"
    "main{max-width:1120px;margin:0 auto;padding:32px 20px 56px}\n"
    "h1{font-size:26px;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}\n"
    "h2{font-size:17px;margin:0 0 2px}\n"
    "p{margin:0 0 12px;color:var(--soft)}\n"
    ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px;margin:"
    "20px 0}\n"
    ".facts div,section{background:var(--card);border:1px solid var(--line);border-radius:10px}\n"
    ".facts div{padding:12px 16px}\n"
    ".facts dt{color:var(--soft);font-size:13px}\n"
    ".facts dd{margin:0;font-size:22px;font-weight:600;font-variant-numeric:tabular-nums}\n"
    ".facts small{display:block;color:var(--soft);font-size:12px;font-weight:400}\n"
    "dl{margin:0}\n"
    ".pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:"
    "16px}\n"
    "section{padding:18px 20px;margin:0 0 16px;min-width:0}\n"
    "svg{display:block;width:100%;height:auto;margin:6px 0 10px;font:13px system-ui,-apple-system,"
    "\"Segoe UI\",\"DejaVu Sans\",sans-serif}\n"
    "svg text{fill:var(--ink)}svg .soft{fill:var(--soft);font-size:12px}\n"
    "svg .grid{stroke:var(--line)}svg .track{fill:var(--track)}\n"
    ".m{fill:var(--c0)}.k{fill:var(--keys)}\n"
    "svg g:hover .m,svg g:hover .k,svg rect.mark:hover{opacity:.75}\n"
    ".c0{fill:var(--c0);background:var(--c0)}.c1{fill:var(--c1);background:var(--c1)}"
    ".c2{fill:var(--c2);background:var(--c2)}.c3{fill:var(--c3);background:var(--c3)}"
    ".c4{fill:var(--c4);background:var(--c4)}.c5{fill:var(--c5);background:var(--c5)}"
    ".cm{background:var(--c0)}.ck{background:var(--keys)}\n"
    ".swatch{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px}\n"
    ".legend{font-size:13px;color:var(--soft)}.legend span{margin-right:16px}\n"
    ".scroll{overflow-x:auto}svg.w1076{min-width:760px}svg.w506{min-width:400px}\n"
    "table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}\n"
    "th,td{padding:5px 0 5px 14px;text-align:right;border-top:1px solid "
    "var(--line);white-space:nowrap}\n"
    "th{color:var(--soft);font-weight:500;font-size:12.5px;border-top:0}\n"
    "th:first-child,td:first-child{text-align:left;padding-left:0;white-space:normal;overflow-wrap:"
    "anywhere}\n"
    "td.name{text-align:left}\n"
    "code{font:13px ui-monospace,\"DejaVu Sans Mono\",monospace;overflow-wrap:anywhere}\n"
    "summary{cursor:pointer;color:var(--soft);font-size:13px;padding:2px 0}\n"
    "td.l2:first-child{padding-left:18px}td.l3:first-child{padding-left:36px}td.l4:first-child{"
    "padding-left:54px}"
    "td.l5:first-child{padding-left:72px}td.l6:first-child{padding-left:90px}"
    "td.l7:first-child{padding-left:108px}td.l8:first-child{padding-left:126px}\n"
    "footer{color:var(--soft);font-size:13px;margin-top:20px}\n"
    "@media print{body{background:#fff}section{break-inside:avoid}}\n";

/* As format_percent, whose "<0.1 %" would begin a tag. */
static const char *percent(char out[FORMAT_SIZE], uint64_t part, uint64_t whole)
{
    char text[FORMAT_SIZE];
    format_percent(text, part, whole);
    snprintf(out, FORMAT_SIZE, "%s%.30s", text[0] == '<' ? "&lt;" : "", text + (text[0] == '<'));
    return out;
}

static void add_name(struct text *t, const struct report_row *row, size_t most)
{
    text_append_html(t, row->name, most);
}

/* "user:  12,345 keys, 1.2 MiB (34.5 %), 0.9 MiB in the file" in a title that shows on hovering. */
static void add_title(struct text *t, const struct report *r, const struct report_row *row)
{
    char keys[FORMAT_SIZE], memory[FORMAT_SIZE], share[FORMAT_SIZE], bytes[FORMAT_SIZE];
    text_append_cstr(t, "<title>");
    add_name(t, row, NAME_MOST);
    text_appendf(t, " \xe2\x80\x93 %s keys, %s of memory (%s), %s in the file</title>",
                 format_count(keys, row->tally.keys), format_bytes(memory, row->tally.memory),
                 percent(share, row->tally.memory, r->total.memory),
                 format_bytes(bytes, row->tally.bytes));
}

static double share_of(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : 0;
}

/* Tables --------------------------------------------------------------------------------------- */

static void add_table(struct text *t, const struct report *r, const struct report_section *s,
                      bool swatches)
{
    char text[FORMAT_SIZE];
    text_append_cstr(t, "<div class=scroll><table><thead><tr><th>");
    text_append_cstr(t, s->title);
    text_append_cstr(t, "<th>Keys<th>Memory<th>Share<th>Per key<th>In file</thead><tbody>\n");
    for (size_t i = 0; i < s->count; i++) {
        const struct report_row *row = &s->rows[i];
        if (row->tally.keys == 0)
            continue;
        text_appendf(t, "<tr><td class=l%d>", row->level);
        if (swatches)
            text_appendf(t, "<span class=\"swatch c%zu\"></span>", i % 6);
        text_append_cstr(t, row->is_data ? "<code>" : "");
        add_name(t, row, NAME_MOST);
        text_append_cstr(t, row->is_data ? "</code>" : "");
        text_appendf(t, "<td>%s", format_count(text, row->tally.keys));
        text_appendf(t, "<td>%s", format_bytes(text, row->tally.memory));
        text_appendf(t, "<td>%s", percent(text, row->tally.memory, r->total.memory));
        text_appendf(t, "<td>%s", format_bytes(text, row->tally.memory / row->tally.keys));
        text_appendf(t, "<td>%s\n", format_bytes(text, row->tally.bytes));
    }
    text_append_cstr(t, "</tbody></table></div>\n");
}

static void add_folded_table(struct text *t, const struct report *r, const struct report_section *s)
{
    text_append_cstr(t, "<details><summary>Figures</summary>\n");
    add_table(t, r, s, false);
    text_append_cstr(t, "</details>\n");
}

/* Charts --------------------------------------------------------------------------------------- */

static void begin_chart(struct text *t, const struct report_section *s, int width, int height,
                        const char *what)
{
    text_appendf(t,
                 "<div class=scroll><svg class=w%d id=\"chart-%s\" viewBox=\"0 0 %d %d\" "
                 "role=\"img\" aria-label=\"%s: %s. The same "
                 "figures are in the table.\">\n",
                 width, s->id, width, height, s->title, what);
}

/* One bar of all memory, in parts. */
static void add_parts(struct text *t, const struct report *r, const struct report_section *s,
                      int whole)
{
    double at = 0;
    begin_chart(t, s, whole, 40, "share of memory");
    text_appendf(t, "<rect class=track x=\"0\" y=\"4\" width=\"%d\" height=\"32\" rx=\"5\"/>\n",
                 whole);
    for (size_t i = 0; i < s->count; i++) {
        double width = share_of(s->rows[i].tally.memory, r->total.memory) * whole;
        text_appendf(t,
                     "<rect class=\"mark c%zu\" x=\"%.1f\" y=\"4\" width=\"%.1f\" height=\"32\">",
                     i % 6, at, width > 2 ? width - 1 : width);
        add_title(t, r, &s->rows[i]);
        text_append_cstr(t, "</rect>\n");
        at += width;
    }
    text_append_cstr(t, "</svg></div>\n");
}

/* A bar for each of the largest rows of the top level. */
static void add_bars(struct text *t, const struct report *r, const struct report_section *s,
                     int whole, int names)
{
    char memory[FORMAT_SIZE], share[FORMAT_SIZE];
    int count = 0, y = 0;
    uint64_t most = 1;
    for (size_t i = 0; i < s->count && count < BARS_MOST; i++) {
        if (s->rows[i].level != 1)
            continue;
        count++;
        if (s->rows[i].tally.memory > most)
            most = s->rows[i].tally.memory;
    }
    begin_chart(t, s, whole, count * BAR_STEP, "memory");
    for (size_t i = 0; i < s->count && count > 0; i++) {
        const struct report_row *row = &s->rows[i];
        if (row->level != 1)
            continue;
        double room = whole - names - BAR_FIGURES;
        double width = share_of(row->tally.memory, most) * room;
        text_append_cstr(t, "<g>");
        add_title(t, r, row);
        text_appendf(t, "<text x=\"0\" y=\"%d\">", y + 19);
        add_name(t, row, BAR_NAME_MOST);
        text_appendf(
            t,
            "</text><rect class=track x=\"%d\" y=\"%d\" width=\"%.0f\" height=\"18\" rx=\"4\"/>"
            "<rect class=m x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"18\" rx=\"4\"/>"
            "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s <tspan "
            "class=soft>%s</tspan></text></g>\n",
            names, y + 5, room, names, y + 5, width < 2 ? 2 : width, whole, y + 19,
            format_bytes(memory, row->tally.memory),
            percent(share, row->tally.memory, r->total.memory));
        y += BAR_STEP;
        count--;
    }
    text_append_cstr(t, "</svg></div>\n");
}

/* Two columns for each row, in the order of the rows: the share of memory and of keys. */
static void add_columns(struct text *t, const struct report *r, const struct report_section *s)
{
    enum { TOP = 14, BASE = 190, HEIGHT = 244, LEFT = 48, WIDTH = WIDE };
    char memory[FORMAT_SIZE], keys[FORMAT_SIZE];
    double most = 0.01;
    for (size_t i = 0; i < s->count; i++) {
        double m = share_of(s->rows[i].tally.memory, r->total.memory);
        double k = share_of(s->rows[i].tally.keys, r->total.keys);
        most = m > most ? m : most;
        most = k > most ? k : most;
    }
    /* The axis ends at a round share. */
    static const double ends[] = {0.02, 0.04, 0.1, 0.2, 0.4, 0.6, 0.8, 1};
    size_t end = 0;
    while (end < sizeof(ends) / sizeof(ends[0]) - 1 && ends[end] < most)
        end++;
    text_append_cstr(t, "<div class=legend><span><i class=\"swatch cm\"></i>share of memory</span>"
                        "<span><i class=\"swatch ck\"></i>share of keys</span>"
                        "<span>below: memory, keys</span></div>\n");
    begin_chart(t, s, WIDTH, HEIGHT, "share of memory and of keys");
    for (int i = 0; i <= 4; i++) {
        double y = BASE - (BASE - TOP) * i / 4.0;
        text_appendf(t, "<line class=grid x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                     WIDTH, y, y);
        text_appendf(t, "<text class=soft x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g %%</text>\n",
                     LEFT - 6, y + 4, ends[end] * 100 * i / 4);
    }
    double step = (double)(WIDTH - LEFT) / (double)(s->count ? s->count : 1), bar = step * 0.34;
    for (size_t i = 0; i < s->count; i++) {
        const struct report_row *row = &s->rows[i];
        double middle = LEFT + step * ((double)i + 0.5);
        double m = share_of(row->tally.memory, r->total.memory) / ends[end] * (BASE - TOP);
        double k = share_of(row->tally.keys, r->total.keys) / ends[end] * (BASE - TOP);
        text_append_cstr(t, "<g>");
        add_title(t, r, row);
        text_appendf(t,
                     "<rect class=hit x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"%d\" "
                     "fill=\"transparent\"/>",
                     middle - step / 2, TOP, step, BASE - TOP);
        text_appendf(
            t, "<rect class=m x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"/>",
            middle - bar - 1, BASE - m, bar, m);
        text_appendf(
            t, "<rect class=k x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"2\"/>",
            middle + 1, BASE - k, bar, k);
        text_appendf(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\" font-size=\"12.5\">",
                     middle, BASE + 17);
        add_name(t, row, NAME_MOST);
        text_append_cstr(t, "</text>");
        if (row->tally.keys)
            text_appendf(t,
                         "<text class=soft x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>"
                         "<text class=soft x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>",
                         middle, BASE + 34, format_bytes(memory, row->tally.memory), middle,
                         BASE + 50, format_count(keys, row->tally.keys));
        text_append_cstr(t, "</g>\n");
    }
    text_append_cstr(t, "</svg></div>\n");
}

/* The page ------------------------------------------------------------------------------------- */

static void begin_section(struct text *t, const struct report_section *s)
{
    text_appendf(t, "<section id=\"%s\"><h2>%s</h2>\n<p>", s->id, s->title);
    if (s->note)
        text_append_html(t, slice_cstr(s->note), SIZE_MAX);
    text_append_cstr(t, "</p>\n");
}

static void add_fact(struct text *t, const char *name, const char *value, const char *note)
{
    text_appendf(t, "<div><dt>%s</dt><dd>%s<small>%s</small></dd></div>\n", name, value, note);
}

static void add_facts(struct text *t, const struct report *r)
{
    char value[FORMAT_SIZE], a[FORMAT_SIZE], note[2 * FORMAT_SIZE];
    text_append_cstr(t, "<dl class=facts>\n");
    snprintf(note, sizeof(note), "in %zu database%s", r->sections[REPORT_DATABASES].count,
             r->sections[REPORT_DATABASES].count == 1 ? "" : "s");
    add_fact(t, "Keys", format_count(value, r->total.keys), note);
    snprintf(note, sizeof(note), "and %s for the table of keys", format_bytes(a, r->table_bytes));
    add_fact(t, "Memory in Holdfast", format_bytes(value, r->total.memory), note);
    add_fact(t, "In the file", format_bytes(value, r->total.bytes), "keys and values, serialised");
    snprintf(note, sizeof(note), "%s of all keys", percent(a, r->expiring.keys, r->total.keys));
    add_fact(t, "Keys that expire", format_count(value, r->expiring.keys), note);
    add_fact(t, "Average key",
             format_bytes(value, r->total.keys ? r->total.memory / r->total.keys : 0),
             "with its value, in memory");
    uint64_t largest = r->biggest_count ? r->biggest[0].tally.memory : 0;
    snprintf(note, sizeof(note), "%s of all memory", percent(a, largest, r->total.memory));
    add_fact(t, "Biggest key", format_bytes(value, largest), note);
    text_append_cstr(t, "</dl>\n");
}

static void add_head(struct text *t, const struct report *r)
{
    char time[FORMAT_SIZE], size[FORMAT_SIZE];
    text_append_cstr(
        t, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
           "style-src 'unsafe-inline'\">\n"
           "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    text_append_html(t, slice_cstr(r->path), SIZE_MAX);
    text_append_cstr(t, " \xe2\x80\x93 memory report</title>\n<style>\n");
    text_append_cstr(t, style);
    text_append_cstr(t, "</style></head><body><main>\n<h1>");
    text_append_html(t, slice_cstr(r->path), SIZE_MAX);
    text_appendf(t, "</h1>\n<p>RDB version %d, %s", r->version, format_bytes(size, r->file_size));
    if (r->created_ms)
        text_appendf(t, ", written %s", format_time(time, r->created_ms));
    if (r->writer[0]) {
        text_append_cstr(t, " by ");
        text_append_html(t, slice_cstr(r->writer), SIZE_MAX);
    }
    text_append_cstr(t, "</p>\n");
}

static void add_prefixes(struct text *t, const struct report *r)
{
    char text[FORMAT_SIZE];
    const struct report_section *s = &r->sections[REPORT_PREFIXES];
    if (!r->separator)
        return;
    begin_section(t, s);
    add_bars(t, r, s, WIDE, BAR_NAMES);
    add_table(t, r, s, false);
    if (r->prefix_missed)
        text_appendf(t,
                     "<p>There are more prefixes than were counted: a figure may be short of up to "
                     "%s.</p>\n",
                     format_bytes(text, r->prefix_missed));
    text_append_cstr(t, "</section>\n");
}

static void add_biggest(struct text *t, const struct report *r)
{
    char text[FORMAT_SIZE];
    text_append_cstr(
        t, "<section id=\"biggest\"><h2>Biggest keys</h2>\n<p>By memory, with their values.</p>\n"
           "<div class=scroll><table><thead><tr><th>Key<th>Database<th>Type<th>Encoding<th>Elements"
           "<th>Memory<th>Share<th>In file<th>Expires</thead><tbody>\n");
    for (size_t i = 0; i < r->biggest_count; i++) {
        const struct big_key *k = &r->biggest[i];
        text_append_cstr(t, "<tr><td><code>");
        text_append_html(t, slice_of(k->key, k->kept), NAME_MOST);
        text_appendf(
            t, "</code><td>%d<td>%s<td>%s<td>%s", k->db, entry_type_name(k->type), k->encoding,
            k->type == ENTRY_STRING ? "\xe2\x80\x93" : format_count(text, k->tally.elements));
        text_appendf(t, "<td>%s", format_bytes(text, k->tally.memory));
        text_appendf(t, "<td>%s", percent(text, k->tally.memory, r->total.memory));
        text_appendf(t, "<td>%s", format_bytes(text, k->tally.bytes));
        text_appendf(t, "<td>%s\n",
                     k->due == ENTRY_NO_EXPIRY ? "\xe2\x80\x93" : format_time(text, k->due));
    }
    text_append_cstr(t, "</tbody></table></div></section>\n");
}

void report_build_html(const struct report *r, struct text *out)
{
    const struct report_section *s = r->sections;
    add_head(out, r);
    add_facts(out, r);
    text_append_cstr(out, "<div class=pair>\n");
    begin_section(out, &s[REPORT_TYPES]);
    add_parts(out, r, &s[REPORT_TYPES], NARROW);
    add_table(out, r, &s[REPORT_TYPES], true);
    text_append_cstr(out, "</section>\n");
    begin_section(out, &s[REPORT_DATABASES]);
    add_bars(out, r, &s[REPORT_DATABASES], NARROW, BAR_NAMES / 4);
    if (s[REPORT_DATABASES].count <= FEW)
        add_table(out, r, &s[REPORT_DATABASES], false);
    else
        add_folded_table(out, r, &s[REPORT_DATABASES]);
    text_append_cstr(out, "</section></div>\n");
    add_prefixes(out, r);
    for (int i = REPORT_EXPIRY; i <= REPORT_SIZES; i++) {
        begin_section(out, &s[i]);
        add_columns(out, r, &s[i]);
        add_folded_table(out, r, &s[i]);
        text_append_cstr(out, "</section>\n");
    }
    add_biggest(out, r);
    begin_section(out, &s[REPORT_ENCODINGS]);
    add_bars(out, r, &s[REPORT_ENCODINGS], WIDE, BAR_NAMES);
    add_folded_table(out, r, &s[REPORT_ENCODINGS]);
    text_append_cstr(out, "</section>\n<footer>Made by holdfast " HF_VERSION
                          ". Memory is what Holdfast needs for a key with its value; "
                          "\xe2\x80\x9cin file\xe2\x80\x9d is "
                          "its serialised size. Point at a bar to see its figures.</footer>\n"
                          "</main></body></html>\n");
}
