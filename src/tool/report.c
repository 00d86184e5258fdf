/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/report.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/number.h"
#include "tool/input.h"
#include "tool/tool.h"
#include "tool/value.h"
#include "type/encoding.h"

/* What a key needs in the table beside its entry: a slot of 8 bytes, a tag, and the room that is
 * kept free (docs/architecture.md). */
#define TABLE_BYTES_PER_KEY 12
#define SEPARATOR_SAMPLE 5000
/* Nobody has so many; a damaged file must not make the report grow without bound. */
#define DATABASES_MOST 1024
#define ENCODINGS_MOST 32
#define TOP_DEFAULT 20
#define TOP_MOST 1000
#define DEPTH_DEFAULT 3
/* Prefixes of a deeper level that are shown of one above. */
#define CHILDREN_SHOWN 6

#define SECOND INT64_C(1000)
#define DAY (86400 * SECOND)

/* Upper bounds, not included. */
static const struct {
    const char *name;
    int64_t below_ms;
} ttl_steps[] = {
    {"expired", 0},           {"under 1 min", 60 * SECOND}, {"under 1 h", 3600 * SECOND},
    {"under 6 h", 21600 * SECOND}, {"under 1 day", DAY},    {"under 1 week", 7 * DAY},
    {"under 30 days", 30 * DAY},   {"under 1 year", 365 * DAY}, {"longer", INT64_MAX},
    {"never", INT64_MAX},
};
#define TTL_COUNT (sizeof(ttl_steps) / sizeof(ttl_steps[0]))

static const struct {
    const char *name;
    uint64_t most;
} size_steps[] = {
    {"to 64 B", 64},           {"to 128 B", 128},      {"to 256 B", 256},
    {"to 1 KiB", 1 << 10},     {"to 4 KiB", 4 << 10},  {"to 16 KiB", 16 << 10},
    {"to 64 KiB", 64 << 10},   {"to 1 MiB", 1 << 20},  {"to 16 MiB", 16 << 20},
    {"to 256 MiB", 256 << 20}, {"larger", UINT64_MAX},
};
#define SIZE_COUNT (sizeof(size_steps) / sizeof(size_steps[0]))

struct options {
    const char *html; /* the file to write; NULL: none */
    bool json;
    size_t top;
    int depth;
    int separator; /* -1: to be guessed; 0: none */
    size_t memory; /* of a chain's set of keys */
};

struct collect {
    struct input in;
    const struct options *options;
    struct report *report;
    struct prefixes prefixes;
    struct tally types[ENTRY_TYPE_COUNT], ttl[TTL_COUNT], sizes[SIZE_COUNT];
    struct encoding {
        enum entry_type type;
        const char *name;
        struct tally tally;
    } encodings[ENCODINGS_MOST];
    size_t encoding_count;
    struct database {
        int db;
        struct tally tally;
    } *dbs;
    size_t db_count;
};

/* Collecting ----------------------------------------------------------------------------------- */

static void note_field(struct report *r, const struct rdb_record *record)
{
    int64_t number;
    struct slice value = record->value.bytes;
    if (slice_equal(record->key, SLICE("ctime")) && number_parse_int64(value, &number) &&
        number > 0 && number < INT64_MAX / 1000)
        r->created_ms = number * 1000;
    /* Holdfast's field stands behind that by which it names the version it is compatible with. */
    bool holdfast = slice_equal(record->key, SLICE("holdfast-ver"));
    if (holdfast || slice_equal(record->key, SLICE("redis-ver")))
        snprintf(r->writer, sizeof(r->writer), "%s %.*s", holdfast ? "Holdfast" : "Redis",
                 (int)(value.size < 40 ? value.size : 40), value.data);
}

/* NULL: there are too many. */
static struct tally *database_of(struct collect *c, int db)
{
    for (size_t i = c->db_count; i-- > 0;) {
        if (c->dbs[i].db == db)
            return &c->dbs[i].tally;
    }
    if (c->db_count == DATABASES_MOST)
        return NULL;
    c->dbs = mem_realloc(c->dbs, (c->db_count + 1) * sizeof(*c->dbs));
    c->dbs[c->db_count] = (struct database){.db = db};
    return &c->dbs[c->db_count++].tally;
}

static struct tally *encoding_of(struct collect *c, enum entry_type type, const char *name)
{
    for (size_t i = 0; i < c->encoding_count; i++) {
        if (c->encodings[i].type == type && strcmp(c->encodings[i].name, name) == 0)
            return &c->encodings[i].tally;
    }
    if (c->encoding_count == ENCODINGS_MOST)
        return &c->encodings[ENCODINGS_MOST - 1].tally;
    c->encodings[c->encoding_count] = (struct encoding){.type = type, .name = name};
    return &c->encodings[c->encoding_count++].tally;
}

static struct tally *ttl_of(struct collect *c, int64_t due)
{
    size_t i = 0;
    if (due == ENTRY_NO_EXPIRY)
        return &c->ttl[TTL_COUNT - 1];
    /* A file may hold any 64 bits as an expiry: nothing here may overflow. */
    while (i < TTL_COUNT - 2 && ttl_steps[i].below_ms <= INT64_MAX - c->report->now_ms &&
           due >= c->report->now_ms + ttl_steps[i].below_ms)
        i++;
    return &c->ttl[i];
}

static struct tally *size_of(struct collect *c, uint64_t memory)
{
    size_t i = 0;
    while (i < SIZE_COUNT - 1 && memory > size_steps[i].most)
        i++;
    return &c->sizes[i];
}

/* Keep the key if it is among the biggest so far, which are in order. */
static void note_big(struct collect *c, const struct rdb_record *record, const struct entry *e,
                     const char *encoding, const struct tally *t)
{
    struct report *r = c->report;
    size_t top = c->options->top;
    if (top == 0 || (r->biggest_count == top && r->biggest[top - 1].tally.memory >= t->memory))
        return;
    if (r->biggest_count == top)
        mem_free(r->biggest[--r->biggest_count].key);
    size_t at = r->biggest_count;
    while (at > 0 && r->biggest[at - 1].tally.memory < t->memory)
        at--;
    memmove(&r->biggest[at + 1], &r->biggest[at], (r->biggest_count - at) * sizeof(*r->biggest));
    size_t kept = record->key.size < REPORT_KEY_KEPT ? record->key.size : REPORT_KEY_KEPT;
    r->biggest[at] = (struct big_key){.db = record->db,
                                      .key = mem_dup(record->key.data, kept),
                                      .kept = kept,
                                      .size = record->key.size,
                                      .type = entry_type(e),
                                      .encoding = encoding,
                                      .due = record->due,
                                      .tally = *t};
    r->biggest_count++;
}

static bool tally_key(struct collect *c, const struct rdb_record *record, const struct entry *e)
{
    struct tally *database = database_of(c, record->db);
    if (!database)
        return rdb_fail(&c->in.reader, ERROR_UNSUPPORTED, "more than %d databases", DATABASES_MOST);
    const char *encoding = type_encoding_name(e, &c->in.ks->limits);
    struct tally t = {.keys = 1,
                      .elements = value_count(e),
                      .memory = entry_memory(e),
                      .bytes = input_offset(&c->in) - record->offset};
    tally_add(&c->report->total, &t);
    tally_add(&c->types[entry_type(e)], &t);
    tally_add(database, &t);
    tally_add(encoding_of(c, entry_type(e), encoding), &t);
    tally_add(ttl_of(c, record->due), &t);
    tally_add(size_of(c, t.memory), &t);
    if (record->due != ENTRY_NO_EXPIRY)
        tally_add(&c->report->expiring, &t);
    prefixes_add(&c->prefixes, record->key, &t);
    note_big(c, record, e, encoding, &t);
    return true;
}

static bool collect_all(struct collect *c)
{
    struct rdb_record record = {0};
    struct entry *e;
    do {
        if (!input_next(&c->in, &record))
            return false;
        if (record.kind == RDB_RECORD_AUX) {
            note_field(c->report, &record);
            if (c->report->created_ms)
                c->report->now_ms = c->report->created_ms;
        }
        if (record.kind != RDB_RECORD_KEY)
            continue;
        if (!input_load(&c->in, &record, &e))
            return false;
        bool ok = !e || tally_key(c, &record, e);
        input_drop(&c->in, e);
        if (!ok)
            return false;
    } while (record.kind != RDB_RECORD_END);
    return true;
}

/* Look at the first keys. What is wrong with the file is found, and told, later. */
static char guess_separator(const char *path, size_t memory)
{
    struct input in;
    struct separator_guess guess = {0};
    struct rdb_record record = {0};
    if (!input_open_any(&in, path, NULL, memory))
        return '\0';
    while (guess.keys < SEPARATOR_SAMPLE && input_next(&in, &record) &&
           record.kind != RDB_RECORD_END) {
        if (record.kind != RDB_RECORD_KEY)
            continue;
        separator_note(&guess, record.key);
        if (!input_skip(&in, &record))
            break;
    }
    input_close(&in);
    return separator_best(&guess);
}

/* The sections --------------------------------------------------------------------------------- */

static void add_row(struct report_section *s, struct slice name, bool is_data, int level,
                    const struct tally *t)
{
    if (s->count % 64 == 0)
        s->rows = mem_realloc(s->rows, (s->count + 64) * sizeof(*s->rows));
    s->rows[s->count++] = (struct report_row){name, is_data, level, *t};
}

static int row_by_memory(const void *a, const void *b)
{
    const struct report_row *x = a, *y = b;
    return (x->tally.memory < y->tally.memory) - (x->tally.memory > y->tally.memory);
}

static void sort_rows(struct report_section *s)
{
    if (s->count)
        qsort(s->rows, s->count, sizeof(*s->rows), row_by_memory);
}

static void add_types(struct collect *c, struct report_section *s)
{
    for (int i = 0; i < ENTRY_TYPE_COUNT; i++) {
        if (c->types[i].keys)
            add_row(s, slice_cstr(entry_type_name((enum entry_type)i)), false, 1, &c->types[i]);
    }
    sort_rows(s);
}

/* The rows' names are made first, as the text that they point into moves while it grows. */
static void add_encodings(struct collect *c, struct report_section *s)
{
    size_t at[ENCODINGS_MOST + 1];
    for (size_t i = 0; i < c->encoding_count; i++) {
        at[i] = s->names.size;
        text_appendf(&s->names, "%s: %s", entry_type_name(c->encodings[i].type),
                     c->encodings[i].name);
    }
    at[c->encoding_count] = s->names.size;
    for (size_t i = 0; i < c->encoding_count; i++)
        add_row(s, slice_of(s->names.data + at[i], at[i + 1] - at[i]), false, 1,
                &c->encodings[i].tally);
    sort_rows(s);
}

static void add_databases(struct collect *c, struct report_section *s)
{
    enum { WIDTH = 16 };
    char name[WIDTH + 1];
    for (size_t i = 0; i < c->db_count; i++) {
        snprintf(name, sizeof(name), "%-*d", WIDTH, c->dbs[i].db);
        text_append(&s->names, name, WIDTH);
    }
    for (size_t i = 0; i < c->db_count; i++) {
        const char *digits = s->names.data + i * WIDTH;
        add_row(s, slice_of(digits, strcspn(digits, " ")), false, 1, &c->dbs[i].tally);
    }
    sort_rows(s);
}

/* The prefixes that `above` is the beginning of, the largest first, each with those below it. */
static void add_prefixes_below(struct collect *c, struct report_section *s,
                               const struct prefix *above)
{
    int level = above ? above->level + 1 : 1;
    size_t shown = 0, most = above ? CHILDREN_SHOWN : c->options->top;
    for (size_t i = 0; i < c->prefixes.count && shown < most; i++) {
        const struct prefix *p = &c->prefixes.items[i];
        if (p->level != level ||
            (above && (p->size <= above->size || memcmp(p->name, above->name, above->size) != 0)))
            continue;
        shown++;
        if (p->size)
            add_row(s, slice_of(p->name, p->size), true, level, &p->tally);
        else
            add_row(s, SLICE("(no prefix)"), false, level, &p->tally);
        if (level < c->options->depth && p->size)
            add_prefixes_below(c, s, p);
    }
    if (above)
        return;
    /* What was given up belongs to the rest, too: it is what the rows do not have. */
    struct tally rest = c->report->total;
    for (size_t i = 0; i < s->count; i++) {
        if (s->rows[i].level != 1)
            continue;
        rest.keys -= s->rows[i].tally.keys;
        rest.elements -= s->rows[i].tally.elements;
        rest.memory -= s->rows[i].tally.memory;
        rest.bytes -= s->rows[i].tally.bytes;
    }
    if (rest.keys)
        add_row(s, SLICE("(all others)"), false, 1, &rest);
}

static void build_sections(struct collect *c)
{
    struct report *r = c->report;
    struct report_section *s = r->sections;
    s[REPORT_TYPES] = (struct report_section){.id = "types", .title = "Types"};
    add_types(c, &s[REPORT_TYPES]);
    s[REPORT_ENCODINGS] = (struct report_section){
        .id = "encodings", .title = "Encodings", .note = "As OBJECT ENCODING names them."};
    add_encodings(c, &s[REPORT_ENCODINGS]);
    s[REPORT_DATABASES] = (struct report_section){.id = "databases", .title = "Databases"};
    add_databases(c, &s[REPORT_DATABASES]);
    s[REPORT_PREFIXES] = (struct report_section){.id = "prefixes", .title = "Prefixes"};
    text_appendf(
        &s[REPORT_PREFIXES].names,
        "The parts of names are separated by \"%c\". An asterisk stands for ids: numbers, and "
        "long hexadecimal names.",
        r->separator ? r->separator : ' ');
    s[REPORT_PREFIXES].note = s[REPORT_PREFIXES].names.data;
    prefixes_sort(&c->prefixes);
    r->prefix_missed = c->prefixes.missed;
    add_prefixes_below(c, &s[REPORT_PREFIXES], NULL);
    s[REPORT_EXPIRY] = (struct report_section){
        .id = "expiry", .title = "Time to live",
        .note = r->created_ms ? "Counted from when the file was written." : "Counted from now."};
    for (size_t i = 0; i < TTL_COUNT; i++)
        add_row(&s[REPORT_EXPIRY], slice_cstr(ttl_steps[i].name), false, 1, &c->ttl[i]);
    s[REPORT_SIZES] = (struct report_section){
        .id = "sizes", .title = "Size of keys", .note = "Memory of a key with its value."};
    for (size_t i = 0; i < SIZE_COUNT; i++)
        add_row(&s[REPORT_SIZES], slice_cstr(size_steps[i].name), false, 1, &c->sizes[i]);
    r->table_bytes = r->total.keys * TABLE_BYTES_PER_KEY;
}

/* Running -------------------------------------------------------------------------------------- */

static bool write_html(const struct report *r, const char *path)
{
    struct error err;
    struct text page = {0};
    report_build_html(r, &page);
    bool ok = os_file_replace(path, page.data, page.size, &err);
    if (!ok)
        fprintf(stderr, "holdfast report: %s\n", err.message);
    text_free(&page);
    return ok;
}

static void report_free(struct report *r)
{
    for (size_t i = 0; i < REPORT_SECTION_COUNT; i++) {
        mem_free(r->sections[i].rows);
        text_free(&r->sections[i].names);
    }
    for (size_t i = 0; i < r->biggest_count; i++)
        mem_free(r->biggest[i].key);
    mem_free(r->biggest);
}

static int run(const char *path, const struct options *options)
{
    struct report report = {.path = path, .now_ms = clock_wall_ms()};
    struct collect c = {.report = &report, .options = options};
    report.separator =
        options->separator >= 0 ? (char)options->separator : guess_separator(path, options->memory);
    if (!input_open_any(&c.in, path, "report", options->memory)) {
        input_complain(&c.in);
        return TOOL_FAILED;
    }
    input_mention(&c.in);
    report.file_size = c.in.total_size;
    report.version = c.in.records.version;
    report.biggest = mem_alloc((options->top + 1) * sizeof(*report.biggest));
    prefixes_init(&c.prefixes, options->depth, report.separator);
    bool ok = collect_all(&c);
    progress_end(&c.in.progress);
    if (ok) {
        build_sections(&c);
        if (options->json)
            report_print_json(&report, stdout);
        else if (!options->html)
            report_print_text(&report, stdout);
        if (options->html)
            ok = write_html(&report, options->html);
    } else {
        input_complain(&c.in);
    }
    report_free(&report);
    prefixes_free(&c.prefixes);
    mem_free(c.dbs);
    input_close(&c.in);
    return tool_finish_output("report", ok ? TOOL_OK : TOOL_FAILED);
}

static bool parse_number(const char *text, int64_t least, int64_t most, int64_t *v)
{
    return number_parse_int64(slice_cstr(text), v) && *v >= least && *v <= most;
}

int tool_report(int argc, char **argv)
{
    static const struct option known[] = {
        {"json", no_argument, NULL, 'j'},        {"html", required_argument, NULL, 'h'},
        {"top", required_argument, NULL, 't'},   {"depth", required_argument, NULL, 'd'},
        {"separator", required_argument, NULL, 's'}, {"memory", required_argument, NULL, 'm'}, {0}};
    struct options options = {.top = TOP_DEFAULT, .depth = DEPTH_DEFAULT, .separator = -1,
                              .memory = INPUT_CHAIN_MEMORY};
    int option;
    int64_t v;
    while ((option = tool_next_option(argc, argv, known)) != -1) {
        switch (option) {
        case 'j':
            options.json = true;
            break;
        case 'h':
            options.html = optarg;
            break;
        case 't':
            if (!parse_number(optarg, 0, TOP_MOST, &v))
                return tool_usage_error("report", "--top takes a number from 0 to %d", TOP_MOST);
            options.top = (size_t)v;
            break;
        case 'd':
            if (!parse_number(optarg, 1, PREFIX_DEPTH_MOST, &v))
                return tool_usage_error("report", "--depth takes a number from 1 to %d",
                                        PREFIX_DEPTH_MOST);
            options.depth = (int)v;
            break;
        case 's':
            if (strcmp(optarg, "none") != 0 && strlen(optarg) != 1)
                return tool_usage_error("report", "--separator takes one character, or none");
            options.separator = strcmp(optarg, "none") == 0 ? 0 : (unsigned char)*optarg;
            break;
        case 'm':
            if (!input_parse_memory(optarg, &options.memory))
                return tool_usage_error("report", "--memory takes a number of MiB");
            break;
        default:
            return tool_option_error("report", argv);
        }
    }
    if (tool_argument_count(argc) != 1)
        return tool_usage_error("report", "one file is expected");
    return run(tool_argument(argv, 0), &options);
}
