/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast check DIR: a whole log. What is found sound here a start of the server loads. The files
 * of its history are validated as strictly; damage in them stops no start, which is said.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "os/file.h"
#include "persist/log/history.h"
#include "persist/log/recovery.h"
#include "persist/log/recovery_files.h"
#include "persist/rdb/format.h"
#include "persist/saver.h"
#include "tool/chain_files.h"
#include "tool/format.h"
#include "tool/log_dir.h"

static const char *format_moment(char out[FORMAT_SIZE], int64_t ms)
{
    if (ms > 0)
        return format_time(out, ms);
    snprintf(out, FORMAT_SIZE, "an unknown time");
    return out;
}

/* What a file is to a start of the server. */
enum place {
    PLACE_LAST,   /* its torn end is cut off */
    PLACE_MIDDLE, /* its end must lead up to the next file */
    PLACE_HISTORY,
    PLACE_HISTORY_END /* what follows it began anew: an interrupted append may have ended it */
};

static bool may_be_torn(enum place place)
{
    return place == PLACE_LAST || place == PLACE_HISTORY_END;
}

static void print_damage(enum log_read end, const struct log_status *s, enum place place)
{
    char count[FORMAT_SIZE], time[FORMAT_SIZE];
    bool torn = end == LOG_READ_TORN && may_be_torn(place);
    printf("    offset %" PRIu64 ": %s; all before offset %" PRIu64 " of %" PRIu64 " is good\n",
           s->bad_offset, s->reason, s->valid_end, s->size);
    if (torn && place == PLACE_LAST)
        printf("    the end of an append that was interrupted: a start cuts it off and keeps it\n");
    else if (torn)
        printf("    the end of an append that failed; what follows began anew and lacks nothing\n");
    else if (end == LOG_READ_TORN)
        printf("    it is not the last file, so that this was not lost by an interrupted append\n");
    if (s->later_groups > 0)
        printf("    behind it %s valid groups begin at offset %" PRIu64 ", up to LSN %" PRIu64
               " of %s%s\n",
               format_count(count, s->later_groups), s->later_offset, s->later_lsn,
               format_moment(time, s->later_ms), torn ? ", none of which was synced" : "");
}

/* Of a file that is damaged or missing. */
static void print_consequence(enum place place)
{
    if (place == PLACE_HISTORY || place == PLACE_HISTORY_END)
        printf("    a start does not read it, and is not stopped by this\n");
    else
        printf("    a start refuses this log\n");
}

static void print_file(const char *path, enum log_read end, const struct log_status *s,
                       enum place place)
{
    char commands[FORMAT_SIZE], groups[FORMAT_SIZE], time[FORMAT_SIZE];
    bool torn = end == LOG_READ_TORN && may_be_torn(place);
    printf("%s: %s, %s commands in %s groups, written by %s, up to LSN %" PRIu64 " of %s%s\n", path,
           end == LOG_READ_END ? "sound"
           : torn              ? "torn at its end"
                               : "DAMAGED",
           format_count(commands, s->commands), format_count(groups, s->groups),
           !s->annotated ? "redis-server"
           : s->foreign  ? "Holdfast, then redis-server"
                         : "Holdfast",
           s->lsn, format_moment(time, s->ms), s->closed ? ", closed in order" : "");
    if (end != LOG_READ_END)
        print_damage(end, s, place);
    if (end != LOG_READ_END && !torn)
        print_consequence(place);
}

/* The files of a log in their order, and how far they have been followed. */
struct walk {
    const struct log_dir *d;
    size_t memory;
    struct log_position at;
    /* what the base before is of; "": it does not say, or there is none */
    char history[ANNOTATION_HISTORY + 1];
    struct log_status last; /* of the file of commands that was read last */
    bool older;             /* of the history: a file of effects before is there */
};

static bool check_commands(struct walk *w, const char *path, uint64_t offset, enum place place,
                           struct log_damage *damage)
{
    struct log_status *s = &w->last;
    struct error err = {0};
    enum log_read end = log_dir_read(path, offset, &w->at, NULL, NULL, s, &err);
    if (end == LOG_READ_FAILED) {
        printf("%s: %s\n", path, err.message);
        print_consequence(place);
        return false;
    }
    print_file(path, end, s, place);
    w->at = (struct log_position){.lsn = s->lsn, .crc = s->crc, .ms = s->ms, .known = true};
    damage->cut = s->valid_end;
    damage->torn = end == LOG_READ_TORN && place == PLACE_LAST;
    return end == LOG_READ_END || (end == LOG_READ_TORN && place == PLACE_HISTORY_END);
}

static bool check_base(struct walk *w, const char *path, enum place place,
                       struct log_damage *damage)
{
    bool rdb;
    struct error err;
    uint64_t end = 0, size = 0;
    struct rdb_load_stats stats = {0};
    damage->base = true;
    w->history[0] = '\0';
    w->at.known = false;
    if (!recovery_is_rdb(path, &rdb, &err)) {
        printf("%s: %s\n", path, err.message);
        print_consequence(place);
        return false;
    }
    if (rdb && !check_rdb_file(path, w->memory, &end, &stats)) {
        print_consequence(place);
        return false;
    }
    struct os_file f;
    if (os_file_open(&f, path, OS_OPEN_READ, &err)) {
        os_file_size(&f, &size, &err);
        os_file_close(&f, &err);
    }
    memcpy(w->history, stats.repl_id, sizeof(w->history));
    w->at.lsn = (uint64_t)stats.repl_offset;
    /* Commands may follow the preamble. There they can be cut off. */
    bool ok = true;
    if (!rdb || end < size) {
        damage->base = false;
        ok = check_commands(w, path, end, place, damage);
        if (w->last.annotated)
            memcpy(w->history, w->last.log.history, sizeof(w->history));
        damage->base = w->last.annotated || damage->cut == 0;
    }
    w->at.known = false;
    return ok;
}

/* The first incremental of ours goes on where the base ends. */
static bool follows_base(const struct walk *w, const char *path)
{
    struct annotation a;
    struct error ignored;
    bool found = false;
    if (w->history[0] == '\0' || !recovery_first_line(path, &found, &a, &ignored) || !found ||
        a.kind != ANNOTATION_LOG || (a.lsn == w->at.lsn && strcmp(a.history, w->history) == 0))
        return true;
    printf("%s: DAMAGED: it begins at LSN %" PRIu64 " of history %.8s, but the base before it ends "
           "at %" PRIu64 " of %.8s: they are of two generations\n",
           path, a.lsn, a.history, w->at.lsn, w->history);
    print_consequence(PLACE_MIDDLE);
    return false;
}

static bool check_incremental(struct walk *w, const char *path, bool last,
                              struct log_damage *damage)
{
    if (!follows_base(w, path)) {
        damage->base = true;
        return false;
    }
    w->history[0] = '\0';
    bool ok = check_commands(w, path, 0, last ? PLACE_LAST : PLACE_MIDDLE, damage);
    /* In a manifest of ours the last file is always one of ours. */
    if (!last || !w->d->manifest.ours || w->last.annotated)
        return ok;
    printf("    offset 0: the first line is missing\n");
    print_consequence(PLACE_LAST);
    *damage = (struct log_damage){.index = damage->index};
    return false;
}

bool check_log_files(const struct log_dir *d, size_t memory, struct log_damage *damage)
{
    struct walk w = {.d = d, .memory = memory};
    *damage = (struct log_damage){0};
    for (size_t i = 0; log_dir_file(d, i) != NULL; i++) {
        const struct manifest_file *f = log_dir_file(d, i);
        bool last = log_dir_file(d, i + 1) == NULL;
        char path[512];
        struct error err;
        bool ok = log_dir_path(d, f, path, &err);
        struct log_damage here = {.index = i};
        if (!ok) {
            printf("%s\n", err.message);
        } else if (!os_path_exists(path)) {
            printf("%s: MISSING, though the manifest names it\n", path);
            print_consequence(PLACE_MIDDLE);
            here.base = f->type == MANIFEST_BASE;
            ok = false;
        } else if (f->type == MANIFEST_BASE) {
            ok = check_base(&w, path, last ? PLACE_LAST : PLACE_MIDDLE, &here);
        } else {
            ok = check_incremental(&w, path, last, &here);
        }
        if (!ok && !damage->found) {
            *damage = here;
            damage->found = true;
        }
        if (!ok) {
            w.at.known = false;
            w.history[0] = '\0';
        }
    }
    return !damage->found;
}

/* ---- the history ---- */

/* The first file of effects in use; NULL: none. */
static const struct manifest_file *first_incremental(const struct log_dir *d)
{
    const struct manifest_file *f;
    for (size_t i = 0; (f = log_dir_file(d, i)) != NULL; i++) {
        if (f->type == MANIFEST_INCREMENTAL)
            return f;
    }
    return NULL;
}

/* Whether the end of what was read leads up to this file, which is in use. It need not if that one
 * began anew. */
static bool leads_up(struct walk *w, const char *path, const struct manifest_file *next)
{
    struct annotation a;
    struct error ignored;
    char to[512];
    bool found = false;
    if (!w->at.known || next == NULL ||
        !log_dir_path(w->d, next, to, &ignored) ||
        !recovery_first_line(to, &found, &a, &ignored) || !found || a.kind != ANNOTATION_LOG ||
        a.chain == 0 || (a.chain == w->at.crc && a.lsn >= w->at.lsn))
        return true;
    printf("%s: DAMAGED: it ends at LSN %" PRIu64 " with %08x, but %s follows what ended with "
           "%08x\n",
           path, w->at.lsn, w->at.crc, next->name, a.chain);
    print_consequence(PLACE_HISTORY);
    return false;
}

static bool check_past(struct walk *w, const char *path, const struct manifest_file *next)
{
    struct log_damage here = {0};
    uint64_t lsn;
    bool anew = false;
    /* What it follows, if anything, is another log. */
    if (history_head(w->d->directory, path + strlen(w->d->directory) + 1, &lsn, &anew) && anew)
        w->at.known = false;
    anew = false;
    bool ended = next != NULL && history_head(w->d->directory, next->name, &lsn, &anew) && anew;
    bool ok = check_commands(w, path, 0, ended ? PLACE_HISTORY_END : PLACE_HISTORY, &here) &&
              (next == NULL || next->type == MANIFEST_HISTORY || leads_up(w, path, next));
    w->at.known = ok && !ended;
    return ok;
}

/* `next`: the file of effects behind it; NULL: none. */
static bool check_history_file(struct walk *w, const struct manifest_file *f,
                               const struct manifest_file *next)
{
    char path[512];
    struct error err;
    struct log_damage here = {0};
    if (!log_dir_path(w->d, f, path, &err)) {
        printf("%s\n", err.message);
        return false;
    }
    if (!os_path_exists(path)) {
        w->at.known = false;
        bool lost = w->older && manifest_is_incremental(f);
        printf(lost ? "%s: MISSING, though what was before it is there\n"
                    : "%s: removed, as nobody needs it any more\n",
               path);
        if (lost)
            print_consequence(PLACE_HISTORY);
        return !lost;
    }
    if (!manifest_is_incremental(f))
        return check_base(w, path, PLACE_HISTORY, &here);
    w->older = true;
    return check_past(w, path, next);
}

/* How many of its files are damaged, or lost while older ones are there. */
static size_t check_history(const struct log_dir *d, size_t memory)
{
    struct walk w = {.d = d, .memory = memory};
    size_t count, bad = 0;
    const struct manifest_file **files = log_dir_history(d, &count);
    if (count > 0)
        printf("Of the history, which no start reads:\n");
    for (size_t i = 0; i < count; i++) {
        bool more = i + 1 < count && manifest_is_incremental(files[i + 1]);
        bad += !check_history_file(&w, files[i], more ? files[i + 1] : first_incremental(d));
    }
    mem_free(files);
    return bad;
}

/* ---- a whole directory ---- */

struct beside {
    const char *path;
    size_t memory;
    size_t count; /* files found */
    bool ok;
};

static void check_beside(void *ctx, const char *name)
{
    struct beside *b = ctx;
    size_t n = strlen(name);
    char path[512];
    /* What a server is just writing, or has left unfinished, is nothing that a start would read. */
    if (n <= 4 || strcmp(name + n - 4, ".rdb") != 0 || saver_is_temporary(name))
        return;
    snprintf(path, sizeof(path), "%.250s/%.250s", b->path, name);
    b->count++;
    if (!check_rdb_file(path, b->memory, NULL, NULL))
        b->ok = false;
}

bool check_log_dir(const char *path, size_t memory)
{
    struct log_dir d;
    struct error err = {0}, ignored;
    struct log_damage damage;
    struct beside beside = {path, memory, 0, true};
    bool ok = log_dir_open(&d, path, &err);
    bool none = !ok && err.code == ERROR_NOT_FOUND;
    size_t bad_history = 0;
    if (ok) {
        if (!d.single)
            printf("%s/%s.manifest: sound, %zu files%s\n", d.directory, d.filename,
                   d.manifest.count, d.manifest.ours ? "" : ", without a checksum");
        ok = check_log_files(&d, memory, &damage);
        bad_history = check_history(&d, memory);
    }
    bool is_data = !ok || d.single || strcmp(d.directory, path) != 0;
    if (is_data && (!os_dir_list(path, check_beside, &beside, &ignored) ||
                    !check_chains_beside(path, &beside.count)))
        beside.ok = false;
    /* Without a log the RDB files are all that there is. */
    if (none && beside.count > 0)
        ok = true;
    ok = ok && beside.ok;
    if (!ok)
        printf("%s: %s\n", path,
               err.code != ERROR_NONE && (!none || beside.count == 0) ? err.message : "not sound");
    if (bad_history > 0)
        printf("%s: %zu files of the log's history are not sound: a replica that is so far behind "
               "gets all of the data; the next rewrites remove them\n",
               path, bad_history);
    log_dir_close(&d);
    return ok && bad_history == 0;
}
