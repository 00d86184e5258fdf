/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/chain_merge.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/number.h"
#include "os/file.h"
#include "tool/chain_files.h"
#include "tool/log_dir.h"

#define PATH_SIZE 600
#define SUFFIX ".chain"

/* What a link did to databases as wholes, before its own keys: first the swaps, in order. */
struct chain_changes {
    struct swapped {
        int a, b;
    } *swaps;
    int *emptied;
    size_t swap_count, emptied_count;
};

/* Finding -------------------------------------------------------------------------------------- */

struct listing {
    const char *end;
    size_t count;
    char name[PATH_SIZE / 2];
};

static void list_name(void *ctx, const char *name)
{
    struct listing *l = ctx;
    if (slice_ends_with(slice_cstr(name), l->end) && l->count++ == 0)
        snprintf(l->name, sizeof(l->name), "%s", name);
}

/* The one file of a directory whose name ends so. False: there is none, or err is set as there are
 * several. */
static bool find_one(const char *directory, const char *end, char path[PATH_SIZE],
                     struct error *err)
{
    struct listing l = {.end = end};
    if (!os_dir_list(directory, list_name, &l, err))
        return false;
    if (l.count > 1)
        return error_set(err, ERROR_INVALID, "there are %zu files *%s in it: which one?", l.count,
                         end);
    if (l.count == 1 && (size_t)snprintf(path, PATH_SIZE, "%s/%s", directory, l.name) >= PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path is too long");
    return l.count == 1;
}

/* A log's base is an RDB file, too, and would be taken for all of the data. */
static bool is_log(const char *directory, bool below, struct error *err)
{
    struct log_dir log;
    struct error ignored;
    bool is = log_dir_open(&log, directory, &ignored) &&
              (below || (!log.single && strcmp(log.directory, directory) == 0));
    if (is)
        error_set(err, ERROR_UNSUPPORTED,
                  "this is a log, whose commands only a server can execute: start holdfast-server "
                  "over it, and SAVE makes an RDB file of it (`holdfast log` lists the commands)");
    log_dir_close(&log);
    return is;
}

bool chain_merge_in_directory(const char *directory, char path[PATH_SIZE], struct error *err)
{
    if (find_one(directory, SUFFIX, path, err))
        return true;
    if (err->code == ERROR_NONE && is_log(directory, false, err))
        return false;
    if (err->code == ERROR_NONE && find_one(directory, ".rdb", path, err))
        return true;
    if (err->code == ERROR_NONE && !is_log(directory, true, err))
        error_set(err, ERROR_NOT_FOUND,
                  "there is neither a chain of snapshots nor an RDB file in it");
    return false;
}

/* The manifest at `path`, whose RDB file is m->rdb. */
static enum chain_found_kind open_chain(struct chain_merge *m, char path[PATH_SIZE],
                                        struct error *err)
{
    char id[LINK_ID_SIZE];
    struct error ignored;
    if (!chain_read(&m->chain, m->rdb, err))
        return CHAIN_IS_WRONG;
    /* The chain of an earlier snapshot: the RDB file is all there is. */
    if (link_read_id(m->rdb, id, &ignored) && strcmp(id, m->chain.links[0].id) != 0) {
        snprintf(m->note, sizeof(m->note),
                 "the chain is of an earlier snapshot than %.200s, which was "
                 "written since and is all there is",
                 m->rdb);
        chain_free(&m->chain);
        snprintf(path, PATH_SIZE, "%s", m->rdb);
        return CHAIN_IS_FILE;
    }
    for (size_t i = 0; i < m->chain.count; i++) {
        struct rdb_load_stats stats; /* its damage is told by its checksum, later */
        if (!chain_read_head(&m->chain, i, m->rdb, &stats, err))
            return CHAIN_IS_WRONG;
        m->size += m->chain.links[i].size;
    }
    return CHAIN_IS_CHAIN;
}

/* That there is more than the file that was named is said. */
static void mention_chain(struct chain_merge *m, const char *path)
{
    char id[LINK_ID_SIZE];
    struct chain c = {0};
    struct error ignored = {0};
    if (slice_ends_with(slice_cstr(path), SUFFIX) || !chain_read(&c, path, &ignored))
        return;
    if (c.count > 1 && link_read_id(path, id, &ignored) && strcmp(id, c.links[0].id) == 0)
        snprintf(m->note, sizeof(m->note),
                 "without the %zu incremental snapshots that follow it: %.200s" SUFFIX
                 " is the whole chain",
                 c.count - 1, path);
    chain_free(&c);
}

enum chain_found_kind chain_merge_find(const char *named, size_t memory, char path[PATH_SIZE],
                                       struct chain_merge *m, struct error *err)
{
    *m = (struct chain_merge){0};
    if ((size_t)snprintf(path, PATH_SIZE, "%s", named) >= PATH_SIZE) {
        error_set(err, ERROR_INVALID, "the path is too long");
        return CHAIN_IS_WRONG;
    }
    bool is_dir = os_path_is_dir(named);
    if (is_dir && !chain_merge_in_directory(named, path, err))
        return CHAIN_IS_WRONG;
    enum chain_file kind = chain_file_of(path);
    if (kind == CHAIN_FILE_DELTA) {
        error_set(err, ERROR_UNSUPPORTED,
                  "this is an incremental snapshot, which is nothing by itself: the "
                  "manifest (*" SUFFIX ") names all of a chain");
        return CHAIN_IS_WRONG;
    }
    if (kind == CHAIN_FILE_NONE) {
        if (!is_dir && log_dir_has_file(path)) {
            error_set(err, ERROR_UNSUPPORTED,
                      "a file of a log, which is no RDB file: `holdfast log` lists what is in it");
            return CHAIN_IS_WRONG;
        }
        if (!is_dir)
            mention_chain(m, path);
        return CHAIN_IS_FILE;
    }
    if (!slice_ends_with(slice_cstr(path), SUFFIX)) {
        error_set(err, ERROR_INVALID,
                  "the manifest of a chain has the name of its RDB file and " SUFFIX);
        return CHAIN_IS_WRONG;
    }
    snprintf(m->rdb, sizeof(m->rdb), "%.*s", (int)(strlen(path) - strlen(SUFFIX)), path);
    enum chain_found_kind found = open_chain(m, path, err);
    if (found != CHAIN_IS_CHAIN) {
        chain_free(&m->chain);
        return found;
    }
    m->changes = mem_zalloc(m->chain.count * sizeof(*m->changes));
    keyset_init(&m->deciding, memory, true);
    return found;
}

void chain_merge_free(struct chain_merge *m)
{
    for (size_t i = 0; i < m->chain.count && m->changes; i++) {
        mem_free(m->changes[i].swaps);
        mem_free(m->changes[i].emptied);
    }
    if (m->changes)
        keyset_free(&m->deciding);
    mem_free(m->changes);
    chain_free(&m->chain);
    *m = (struct chain_merge){0};
}

bool chain_merge_path(const struct chain_merge *m, size_t link, char path[PATH_SIZE])
{
    return chain_link_path(m->rdb, &m->chain.links[link], path, PATH_SIZE);
}

/* Deciding ------------------------------------------------------------------------------------- */

int chain_merge_database(const struct chain_merge *m, size_t link, int db)
{
    for (size_t i = link + 1; i < m->chain.count; i++) {
        const struct chain_changes *c = &m->changes[i];
        for (size_t n = 0; n < c->swap_count; n++) {
            if (db == c->swaps[n].a)
                db = c->swaps[n].b;
            else if (db == c->swaps[n].b)
                db = c->swaps[n].a;
        }
        for (size_t n = 0; n < c->emptied_count; n++) {
            if (db == c->emptied[n])
                return -1;
        }
    }
    return db;
}

/* Once: a delta says it again in each round. */
static void note_swap(struct chain_changes *c, int db, struct slice other)
{
    int64_t b;
    if (!number_parse_int64(other, &b) || b < 0 || b > INT32_MAX)
        b = db; /* which link_read refuses, and here changes nothing */
    c->swaps = mem_realloc(c->swaps, (c->swap_count + 1) * sizeof(*c->swaps));
    c->swaps[c->swap_count++] = (struct swapped){db, (int)b};
}

static void note_emptied(struct chain_changes *c, int db)
{
    c->emptied = mem_realloc(c->emptied, (c->emptied_count + 1) * sizeof(*c->emptied));
    c->emptied[c->emptied_count++] = db;
}

/* What the set says of a key: twice the link, and 1 for one that it deletes. */
static uint64_t decision(size_t link, bool deletes)
{
    return (uint64_t)link << 1 | deletes;
}

void chain_merge_note(struct chain_merge *m, size_t link, const struct rdb_record *record)
{
    struct chain_changes *c = &m->changes[link];
    bool first_round = m->deciding.first == 0;
    if (record->type == LINK_SWAPPED || record->type == LINK_EMPTIED) {
        if (first_round && record->type == LINK_SWAPPED)
            note_swap(c, record->db, record->key);
        else if (first_round)
            note_emptied(c, record->db);
        return;
    }
    int db = chain_merge_database(m, link, record->db);
    struct key_id id = key_id_of(db, record->key);
    bool added;
    if (db < 0 || !keyset_covers(&m->deciding, id))
        return;
    uint64_t *place = keyset_put(&m->deciding, id, &added);
    /* Within a delta what is put in comes behind what is deleted, and counts. */
    if (place && (added || *place >> 1 == link))
        *place = decision(link, record->type == LINK_DELETED);
}

bool chain_merge_counts(struct chain_merge *m, size_t link, const struct rdb_record *record)
{
    struct key_id id = key_id_of(record->db, record->key);
    if (!keyset_covers(&m->deciding, id))
        return false;
    const uint64_t *place = keyset_find(&m->deciding, id);
    return place ? *place == decision(link, false) : link == 0;
}

bool chain_merge_next_round(struct chain_merge *m)
{
    return keyset_next_range(&m->deciding);
}
