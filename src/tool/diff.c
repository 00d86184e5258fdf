/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast diff: which keys were added, removed or changed from one file to another. The order of
 * keys in the files does not matter, nor do encodings or the order of members.
 *
 * Memory is bounded: of each key in the old file 24 bytes are kept, a hash of its name and a digest
 * of its value (with room in the table: 30 to 60). Keys that do not fit are taken in further rounds
 * (tool/keyset.h). A round reads
 *
 *     the old file      a digest of each key
 *     the new file      not there: added. Another digest: changed; where the record stands in the
 *                       new file takes the digest's place
 *     the old file      if something is removed or changed: those keys, beside the new record
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/number.h"
#include "tool/export.h"
#include "tool/format.h"
#include "tool/input.h"
#include "tool/keyset.h"
#include "tool/tool.h"
#include "tool/value.h"

#define KEY_SHOWN 200
#define VALUE_SHOWN 400

/* What a key's 64 bits in the set say: two bits of state above 62 of digest or offset. */
#define STATE_SHIFT 62
#define REST_MASK ((UINT64_C(1) << STATE_SHIFT) - 1)
enum state { ONLY_OLD, SAME, CHANGED };

struct diff {
    const char *old_path, *new_path;
    bool json, values;
    size_t memory; /* of a chain's set of keys, and as much again of the table */
    struct keyset keys;
    struct input in;  /* the file being read */
    struct input new; /* the new file, where single keys are read from */
    struct text out;
    uint64_t pending; /* removed or changed keys that the third pass has to name */
    uint64_t added, removed, changed, same;
};

/* Digests -------------------------------------------------------------------------------------- */

static uint64_t hash_number(uint64_t a, uint64_t b)
{
    uint64_t both[2] = {a, b};
    return hash_bytes(both, sizeof(both));
}

/* Of the value alone: lists by order, the others whatever order they come in. */
static uint64_t value_digest(const struct entry *e)
{
    struct value_iter it;
    struct value_element element;
    uint64_t sum = 0, count = 0;
    value_iter_init(&it, e);
    for (; value_iter_next(&it, &element); count++) {
        uint64_t h = hash_bytes(element.value.data, element.value.size);
        if (element.due != ENTRY_NO_EXPIRY)
            h = hash_number(h, (uint64_t)element.due);
        if (entry_type(e) == ENTRY_LIST)
            h = hash_number(h, count);
        else if (entry_type(e) != ENTRY_STRING)
            h = hash_number(h, hash_bytes(element.field.data, element.field.size));
        sum += h;
    }
    value_iter_deinit(&it);
    return hash_number(hash_number(sum, count), entry_type(e));
}

static uint64_t key_digest(const struct entry *e)
{
    return hash_number(value_digest(e), (uint64_t)entry_due(e)) & REST_MASK;
}

/* Showing -------------------------------------------------------------------------------------- */

static void add_expiry(struct text *out, int64_t due)
{
    char time[FORMAT_SIZE];
    text_append_cstr(out, due == ENTRY_NO_EXPIRY ? "never" : format_time(time, due));
}

static void add_value_line(struct text *out, char sign, const struct entry *e)
{
    struct text value = {0};
    text_appendf(out, "    %c ", sign);
    export_json_value(&value, e, false);
    /* The value is JSON, but may still hold what does not belong on a terminal. */
    text_append_printable(out, text_slice(&value), VALUE_SHOWN);
    text_append_cstr(out, "\n");
    text_free(&value);
}

static void describe(struct text *out, const struct entry *e)
{
    char count[FORMAT_SIZE];
    text_appendf(out, " (%s", entry_type_name(entry_type(e)));
    if (entry_type(e) != ENTRY_STRING)
        text_appendf(out, ", %s elements", format_count(count, value_count(e)));
    text_append_cstr(out, ")");
}

static void describe_change(struct text *out, const struct entry *old, const struct entry *new)
{
    if (entry_type(old) != entry_type(new))
        text_appendf(out, "  type %s -> %s", entry_type_name(entry_type(old)),
                     entry_type_name(entry_type(new)));
    else if (value_digest(old) != value_digest(new))
        text_append_cstr(out, "  value");
    if (entry_type(old) == entry_type(new) && value_count(old) != value_count(new))
        text_appendf(out, " (%" PRIu64 " -> %" PRIu64 " elements)", value_count(old),
                     value_count(new));
    if (entry_due(old) != entry_due(new)) {
        text_append_cstr(out, "  expires ");
        add_expiry(out, entry_due(old));
        text_append_cstr(out, " -> ");
        add_expiry(out, entry_due(new));
    }
}

/* old is NULL for an added key, new for a removed one. */
static void show_text(struct diff *d, int db, const struct entry *old, const struct entry *new)
{
    struct text *out = &d->out;
    text_appendf(out, "%c db%d ", !old ? '+' : !new ? '-' : '~', db);
    text_append_printable(out, entry_key(old ? old : new), KEY_SHOWN);
    if (old && new)
        describe_change(out, old, new);
    else
        describe(out, old ? old : new);
    text_append_cstr(out, "\n");
    if (d->values && old)
        add_value_line(out, '-', old);
    if (d->values && new)
        add_value_line(out, '+', new);
}

static void add_json_side(struct diff *d, const char *name, const struct entry *e)
{
    struct text *out = &d->out;
    if (!e)
        return;
    text_appendf(out, ",\"%s\":{\"type\":\"%s\",\"elements\":%" PRIu64, name,
                 entry_type_name(entry_type(e)), value_count(e));
    if (entry_due(e) != ENTRY_NO_EXPIRY)
        text_appendf(out, ",\"expire_at_ms\":%" PRId64, entry_due(e));
    if (d->values) {
        text_append_cstr(out, ",\"value\":");
        export_json_value(out, e, true);
    }
    text_append_cstr(out, "}");
}

static void show_json(struct diff *d, int db, const struct entry *old, const struct entry *new)
{
    struct text *out = &d->out;
    text_appendf(out, "{\"change\":\"%s\",\"db\":%d,\"key\":",
                 !old   ? "added"
                 : !new ? "removed"
                        : "changed",
                 db);
    text_append_json(out, entry_key(old ? old : new));
    if (old && new) {
        bool value = value_digest(old) != value_digest(new),
             expiry = entry_due(old) != entry_due(new);
        text_appendf(out, ",\"value_changed\":%s,\"expiry_changed\":%s", value ? "true" : "false",
                     expiry ? "true" : "false");
    }
    add_json_side(d, "old", old);
    add_json_side(d, "new", new);
    text_append_cstr(out, "}\n");
}

static void show(struct diff *d, int db, const struct entry *old, const struct entry *new)
{
    progress_end(&d->in.progress);
    if (d->json)
        show_json(d, db, old, new);
    else
        show_text(d, db, old, new);
    export_flush(&d->out, EXPORT_FLUSH_SIZE);
}

/* The passes ----------------------------------------------------------------------------------- */

/* Called for each key that is covered, the reader standing in front of its value, which it
 * reads. */
typedef bool visit_fn(struct diff *d, const struct rdb_record *record, struct key_id id);

static bool visit_old(struct diff *d, const struct rdb_record *record, struct key_id id)
{
    struct entry *e;
    bool added;
    if (!input_load(&d->in, record, &e))
        return false;
    if (!e)
        return true;
    uint64_t *place = keyset_put(&d->keys, id, &added);
    if (place && added)
        *place = (uint64_t)ONLY_OLD << STATE_SHIFT | key_digest(e);
    input_drop(&d->in, e);
    return added ||
           rdb_fail(&d->in.reader, ERROR_CORRUPT, "a key occurs twice in database %d", record->db);
}

static bool visit_new(struct diff *d, const struct rdb_record *record, struct key_id id)
{
    struct entry *e;
    if (!input_load(&d->in, record, &e))
        return false;
    if (!e)
        return true;
    bool ok = true;
    uint64_t *place = keyset_find(&d->keys, id);
    if (!place) {
        d->added++;
        show(d, record->db, NULL, e);
    } else if (*place >> STATE_SHIFT != ONLY_OLD) {
        ok =
            rdb_fail(&d->in.reader, ERROR_CORRUPT, "a key occurs twice in database %d", record->db);
    } else if (*place == key_digest(e)) {
        *place = (uint64_t)SAME << STATE_SHIFT;
        d->same++;
        d->pending--;
    } else {
        *place = (uint64_t)CHANGED << STATE_SHIFT | input_place(&d->in, record);
    }
    input_drop(&d->in, e);
    return ok;
}

/* Read the record of the new file at this place, and show both. */
static bool show_changed(struct diff *d, int db, const struct entry *old, uint64_t place)
{
    struct rdb_record record = {0};
    struct entry *e;
    if (!input_seek(&d->new, place, db) || !input_next_as_it_is(&d->new, &record) ||
        !input_load(&d->new, &record, &e)) {
        input_complain(&d->new);
        return error_set(&d->in.err, ERROR_CORRUPT, "the other file changed while it was read");
    }
    d->changed++;
    show(d, db, old, e);
    input_drop(&d->new, e);
    return true;
}

static bool visit_old_again(struct diff *d, const struct rdb_record *record, struct key_id id)
{
    struct entry *e;
    const uint64_t *place = keyset_find(&d->keys, id);
    enum state state = place ? (enum state)(*place >> STATE_SHIFT) : SAME;
    if (state == SAME)
        return input_skip(&d->in, record);
    if (!input_load(&d->in, record, &e))
        return false;
    bool ok = true;
    if (e && state == CHANGED) {
        ok = show_changed(d, record->db, e, *place & REST_MASK);
    } else if (e) {
        d->removed++;
        show(d, record->db, e, NULL);
    }
    input_drop(&d->in, e);
    return ok;
}

static bool visit_all(struct diff *d, visit_fn *visit)
{
    struct rdb_record record = {0};
    do {
        if (!input_next(&d->in, &record))
            return false;
        if (record.kind != RDB_RECORD_KEY)
            continue;
        struct key_id id = key_id_of(record.db, record.key);
        if (!(keyset_covers(&d->keys, id) ? visit(d, &record, id) : input_skip(&d->in, &record)))
            return false;
    } while (record.kind != RDB_RECORD_END);
    return true;
}

static bool pass(struct diff *d, const char *path, const char *label, visit_fn *visit)
{
    if (!input_open_any(&d->in, path, label, d->memory)) {
        input_complain(&d->in);
        return false;
    }
    if (visit == visit_old && d->keys.first == 0)
        input_mention(&d->in);
    bool ok = visit_all(d, visit);
    if (!ok)
        input_complain(&d->in);
    input_close(&d->in);
    return ok;
}

static bool run_round(struct diff *d)
{
    if (!pass(d, d->old_path, "diff: old", visit_old))
        return false;
    d->pending = d->keys.count;
    if (!pass(d, d->new_path, "diff: new", visit_new))
        return false;
    return d->pending == 0 || pass(d, d->old_path, "diff: changes", visit_old_again);
}

static void show_summary(struct diff *d)
{
    if (d->json)
        text_appendf(&d->out,
                     "{\"added\":%" PRIu64 ",\"removed\":%" PRIu64 ",\"changed\":%" PRIu64
                     ",\"same\":%" PRIu64 "}\n",
                     d->added, d->removed, d->changed, d->same);
    else
        text_appendf(&d->out,
                     "%" PRIu64 " added, %" PRIu64 " removed, %" PRIu64 " changed, %" PRIu64
                     " the same\n",
                     d->added, d->removed, d->changed, d->same);
}

static int run(struct diff *d, size_t memory)
{
    d->memory = memory;
    if (!input_open_any(&d->new, d->new_path, NULL, 0)) {
        input_complain(&d->new);
        return TOOL_USAGE;
    }
    input_mention(&d->new);
    keyset_init(&d->keys, memory, true);
    bool ok = true;
    do {
        ok = run_round(d);
    } while (ok && keyset_next_range(&d->keys));
    if (ok)
        show_summary(d);
    export_flush(&d->out, 0);
    keyset_free(&d->keys);
    text_free(&d->out);
    input_close(&d->new);
    if (tool_finish_output("diff", TOOL_OK) != TOOL_OK || !ok)
        return TOOL_USAGE;
    return d->added + d->removed + d->changed > 0 ? TOOL_FAILED : TOOL_OK;
}

int tool_diff(int argc, char **argv)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'},
                                          {"values", no_argument, NULL, 'v'},
                                          {"memory", required_argument, NULL, 'm'},
                                          {0}};
    struct diff diff = {0};
    size_t memory = INPUT_CHAIN_MEMORY;
    int option;
    while ((option = tool_next_option(argc, argv, known)) != -1) {
        switch (option) {
        case 'j':
            diff.json = true;
            break;
        case 'v':
            diff.values = true;
            break;
        case 'm':
            if (!input_parse_memory(optarg, &memory))
                return tool_usage_error("diff", "--memory takes a number of MiB");
            break;
        default:
            return tool_option_error("diff", argv);
        }
    }
    if (tool_argument_count(argc) != 2)
        return tool_usage_error("diff", "two files are expected");
    diff.old_path = tool_argument(argv, 0);
    diff.new_path = tool_argument(argv, 1);
    return run(&diff, memory);
}
