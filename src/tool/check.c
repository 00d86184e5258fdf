/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast check: are these files sound? (Directories: check_log.c; chains: chain_files.c.) Every
 * value is decoded as the server would, the checksum is compared, and no key may occur twice. What
 * is accepted here the server loads.
 *
 * The index of chunks in a file of Holdfast is compared with what the chunks are. A wrong one loses
 * nothing, as a server that finds it wrong reads the file without it: that is said, and no damage.
 *
 * Memory: a value at a time, and the set of keys that were seen, which is bounded. A file with more
 * keys than fit in it is gone over again for the rest, values passed over.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/number.h"
#include "persist/load_index.h"
#include "tool/chain_files.h"
#include "tool/format.h"
#include "tool/input.h"
#include "tool/keyset.h"
#include "tool/log_dir.h"
#include "tool/tool.h"

#define MEMORY_DEFAULT_MIB 64
#define MEMORY_MOST_MIB (1 << 20)
#define KEY_SHOWN 120

struct check {
    struct input in;
    struct rdb_record record; /* the one being read */
    struct keyset seen;
    uint64_t keys;
    bool first; /* the pass that decodes the values */
    struct load_index index;
    bool has_index, index_wrong;
    uint64_t chunk;      /* of the index: those before it were begun */
    uint64_t chunk_keys; /* found in the one before it */
    struct rdb_load_stats *stats; /* NULL: nobody asks for them */
};

/* Compare with the index what is found while the records are gone through in order. */
static void follow_index(struct check *c)
{
    const struct rdb_record *r = &c->record;
    const struct load_chunk *next = &c->index.chunks[c->chunk];
    bool more = c->chunk < c->index.count, began = c->chunk > 0;
    if (more && r->offset >= next->offset) {
        bool ended_right = !began || c->chunk_keys == next[-1].keys;
        if (r->offset != next->offset || r->kind != RDB_RECORD_SELECT || r->db != next->db ||
            !ended_right)
            c->index_wrong = true;
        c->chunk++;
        c->chunk_keys = 0;
    }
    if (r->kind == RDB_RECORD_KEY) {
        c->chunk_keys++;
        c->index_wrong |= c->chunk == 0 || r->db != c->index.chunks[c->chunk - 1].db;
    }
    if (r->kind == RDB_RECORD_END)
        c->index_wrong |= more || (began && c->chunk_keys != next[-1].keys);
}

static bool note_key(struct check *c)
{
    bool added;
    struct key_id id = key_id_of(c->record.db, c->record.key);
    if (!keyset_covers(&c->seen, id))
        return true;
    keyset_put(&c->seen, id, &added);
    return added || rdb_fail(&c->in.reader, ERROR_CORRUPT, "a key occurs twice in database %d",
                             c->record.db);
}

static bool check_key(struct check *c)
{
    struct entry *e;
    if (!c->first)
        return input_skip(&c->in, &c->record) && note_key(c);
    if (!input_load(&c->in, &c->record, &e))
        return false;
    input_drop(&c->in, e);
    /* An empty collection is not kept: it is no second key. */
    if (e && !note_key(c))
        return false;
    c->keys++;
    return true;
}

/* Go over the records of the open file. */
static bool pass(struct check *c)
{
    do {
        c->record.kind = RDB_RECORD_AUX;
        if (!input_next(&c->in, &c->record))
            return false;
        if (c->first && c->has_index)
            follow_index(c);
        if (c->first && c->stats != NULL && c->record.kind == RDB_RECORD_AUX)
            rdb_note_aux(&c->record, c->stats);
        if (c->record.kind == RDB_RECORD_KEY && !check_key(c))
            return false;
    } while (c->record.kind != RDB_RECORD_END);
    return true;
}

static void print_damage(struct check *c)
{
    char count[FORMAT_SIZE];
    struct text key = {0};
    printf("%s: %s", c->in.path, c->in.err.message);
    if (c->record.kind == RDB_RECORD_KEY) {
        text_append_printable(&key, c->record.key, KEY_SHOWN);
        printf(" (in key %s of database %d, whose record begins at offset %" PRIu64 ")",
               text_cstr(&key), c->record.db, c->record.offset);
    }
    printf("; %s keys before it are sound\n", format_count(count, c->keys));
    text_free(&key);
}

static void print_sound(const struct check *c)
{
    uint64_t end = input_offset(&c->in);
    printf("%s: sound, RDB version %d, %" PRIu64 " keys%s", c->in.path, c->in.records.version,
           c->keys, c->record.summed ? "" : ", without a checksum");
    if (c->has_index && !c->index_wrong)
        printf(", %" PRIu64 " chunks", c->index.count);
    if (c->index_wrong)
        printf("; its index of chunks is wrong, so that it is loaded by one thread");
    if (end < c->in.size)
        printf("; %" PRIu64 " bytes behind the end, at offset %" PRIu64
               ", belong to something else",
               c->in.size - end, end);
    printf("\n");
}

bool check_rdb_file(const char *path, size_t memory, uint64_t *end, struct rdb_load_stats *stats)
{
    struct check c = {.first = true, .stats = stats};
    if (!input_open(&c.in, path, "check")) {
        printf("%s: %s\n", path, c.in.err.message);
        return false;
    }
    struct error no_index;
    c.has_index = load_index_read(&c.index, &c.in.file, c.in.size, &no_index);
    keyset_init(&c.seen, memory, false);
    bool ok = pass(&c);
    while (ok && keyset_next_range(&c.seen)) {
        c.first = false;
        ok = input_rewind(&c.in, "check for keys that occur twice in") && pass(&c);
    }
    progress_end(&c.in.progress);
    if (ok && end != NULL)
        *end = input_offset(&c.in);
    if (ok)
        print_sound(&c);
    else
        print_damage(&c);
    load_index_deinit(&c.index);
    keyset_free(&c.seen);
    input_close(&c.in);
    return ok;
}

static bool refuse_log_file(const char *path)
{
    printf("%s: a file of a log, which is checked whole: `holdfast check` takes its directory\n",
           path);
    return false;
}

int tool_check(int argc, char **argv)
{
    static const struct option known[] = {{"memory", required_argument, NULL, 'm'}, {0}};
    int64_t mib = MEMORY_DEFAULT_MIB;
    int option, status = TOOL_OK;
    while ((option = tool_next_option(argc, argv, known)) != -1) {
        if (option != 'm')
            return tool_option_error("check", argv);
        if (!number_parse_int64(slice_cstr(optarg), &mib) || mib < 0 || mib > MEMORY_MOST_MIB)
            return tool_usage_error("check", "--memory takes a number of MiB");
    }
    int count = tool_argument_count(argc);
    if (count == 0)
        return tool_usage_error("check", "which file or directory?");
    for (int i = 0; i < count; i++) {
        const char *path = tool_argument(argv, i);
        size_t memory = (size_t)mib << 20;
        enum chain_file kind = chain_file_of(path);
        if (!(os_path_is_dir(path)      ? check_log_dir(path, memory)
              : kind != CHAIN_FILE_NONE ? check_chain_file(path, kind)
              : log_dir_has_file(path)  ? refuse_log_file(path)
                                        : check_rdb_file(path, memory, NULL, NULL)))
            status = TOOL_FAILED;
    }
    return tool_finish_output("check", status);
}
