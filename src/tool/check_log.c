/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast check DIR: a whole log. What is found sound here a start of the server loads.
 */
#include <inttypes.h>
#include <stdio.h>

#include "os/file.h"
#include "persist/log/recovery.h"
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

static void print_file(const char *path, enum log_read end, const struct log_status *s, bool last)
{
    char count[FORMAT_SIZE], groups[FORMAT_SIZE], time[FORMAT_SIZE];
    bool ok = end == LOG_READ_END;
    printf("%s: %s, %s commands in %s groups, written by %s, up to LSN %" PRIu64 " of %s%s\n", path,
           ok                                ? "sound"
           : end == LOG_READ_TORN && last    ? "torn at its end"
                                             : "DAMAGED",
           format_count(count, s->commands), format_count(groups, s->groups),
           !s->annotated ? "redis-server"
           : s->foreign  ? "Holdfast, then redis-server"
                         : "Holdfast",
           s->lsn, format_moment(time, s->ms), s->closed ? ", closed in order" : "");
    if (ok)
        return;
    printf("    offset %" PRIu64 ": %s; all before offset %" PRIu64 " of %" PRIu64 " is good\n",
           s->bad_offset, s->reason, s->valid_end, s->size);
    if (end == LOG_READ_TORN && last)
        printf("    the end of an append that was interrupted: a start cuts it off and keeps it\n");
    else if (end == LOG_READ_TORN)
        printf("    it is not the last file, so that this was not lost by an interrupted append\n");
    if (s->later_groups > 0)
        printf("    behind it %s valid groups begin at offset %" PRIu64 ", up to LSN %" PRIu64
               " of %s%s\n",
               format_count(count, s->later_groups), s->later_offset, s->later_lsn,
               format_moment(time, s->later_ms),
               end == LOG_READ_TORN && last ? ", none of which was synced" : "");
}

static bool check_commands(const char *path, uint64_t offset, bool last, struct log_position *at,
                           struct log_damage *damage)
{
    struct log_status s;
    struct error err = {0};
    enum log_read end = log_dir_read(path, offset, at, NULL, NULL, &s, &err);
    if (end == LOG_READ_FAILED) {
        printf("%s: %s\n", path, err.message);
        return false;
    }
    print_file(path, end, &s, last);
    *at = (struct log_position){.lsn = s.lsn, .crc = s.crc, .ms = s.ms, .known = true};
    damage->cut = s.valid_end;
    damage->torn = end == LOG_READ_TORN && last;
    return end == LOG_READ_END;
}

static bool check_base(const char *path, size_t memory, bool last, struct log_position *at,
                       struct log_damage *damage)
{
    bool rdb;
    struct error err;
    uint64_t end = 0, size = 0;
    damage->base = true;
    if (!recovery_is_rdb(path, &rdb, &err)) {
        printf("%s: %s\n", path, err.message);
        return false;
    }
    if (rdb && !check_rdb_file(path, memory, &end))
        return false;
    struct os_file f;
    if (os_file_open(&f, path, OS_OPEN_READ, &err)) {
        os_file_size(&f, &size, &err);
        os_file_close(&f, &err);
    }
    /* Commands may follow the preamble. There they can be cut off. */
    bool ok = true;
    if (!rdb || end < size) {
        damage->base = false;
        ok = check_commands(path, end, last, at, damage);
    }
    at->known = false;
    return ok;
}

bool check_log_files(const struct log_dir *d, size_t memory, struct log_damage *damage)
{
    struct log_position at = {0};
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
            here.base = f->type == MANIFEST_BASE;
            ok = false;
        } else if (f->type == MANIFEST_BASE) {
            ok = check_base(path, memory, last, &at, &here);
        } else {
            ok = check_commands(path, 0, last, &at, &here);
        }
        if (!ok && !damage->found) {
            *damage = here;
            damage->found = true;
        }
        if (!ok)
            at.known = false;
    }
    return !damage->found;
}

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
    if (n <= 4 || strcmp(name + n - 4, ".rdb") != 0)
        return;
    snprintf(path, sizeof(path), "%.250s/%.250s", b->path, name);
    b->count++;
    if (!check_rdb_file(path, b->memory, NULL))
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
    if (ok) {
        if (!d.single)
            printf("%s/%s.manifest: sound, %zu files%s\n", d.directory, d.filename,
                   d.manifest.count, d.manifest.ours ? "" : ", without a checksum");
        ok = check_log_files(&d, memory, &damage);
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
    log_dir_close(&d);
    return ok;
}
