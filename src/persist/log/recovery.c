/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/recovery.h"

#include <stdio.h>
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "persist/load.h"
#include "persist/log/pipeline.h"
#include "persist/log/recovery_files.h"

#define WAIT_US 50000
/* How much of the last file may not have been synced when the server ended: what may gather in
 * memory for a disk that hangs is bounded far below this. */
#define TAIL_SIZE ((uint64_t)64 << 20)
#define PATH_SIZE 256
/* The RDB file says when it was made in whole seconds. */
#define YOUNGER_MS 1000

enum log_kind {
    KIND_NONE,     /* there never was a log here */
    KIND_SINGLE,   /* a file as Redis before 7.0 has it */
    KIND_MANIFEST,
};

struct run {
    struct keyspace *ks;
    const struct recovery_options *options;
    struct recovery_result *result;
    struct error *err;
    enum log_kind kind;
    struct manifest manifest; /* as read; of a single file, as it will be written */
    bool damaged_manifest;    /* there is one that cannot be used */
    char single[PATH_SIZE];   /* where the single file is */
    uint64_t size, done;      /* bytes of all files; of those that were read */
    struct log_position at;   /* the end of what was replayed */
    bool base_positioned;     /* the base says which LSN it is of */
    bool in_base;             /* `until` is for what follows it */
    bool reached;             /* the end that `until` sets */
    uint64_t torn_at;         /* of the last file; only if `torn` */
    bool torn;
    bool damaged;    /* it is damage that is cut off as a torn tail */
    bool superseded; /* the snapshot goes on where the log ends */
    bool beyond_lost; /* it did, but is damaged */
    struct recovery_snapshot snapshot; /* as in the options; what is whole of it, once known */
    size_t deltas;   /* that were loaded behind the RDB file */
    struct log_status last;   /* of the last file */
    char last_path[PATH_SIZE];
};

/* What `until` says, as it was understood. */
static const char *asked_for(char out[RECOVERY_DATE_SIZE], const struct recovery_until *until)
{
    if (until->kind == UNTIL_MS)
        return recovery_date(out, until->ms);
    snprintf(out, RECOVERY_DATE_SIZE, "LSN %llu", (unsigned long long)until->lsn);
    return out;
}

/* "dump.rdb and 2 incremental snapshots" */
static const char *with_deltas(char out[PATH_SIZE], const char *rdb_path, size_t deltas)
{
    int n = snprintf(out, PATH_SIZE, "%s", rdb_path);
    if (deltas > 0 && n > 0 && n < PATH_SIZE)
        snprintf(out + n, PATH_SIZE - (size_t)n, " and %zu incremental snapshot%s", deltas,
                 deltas == 1 ? "" : "s");
    return out;
}

static bool set_path(char out[PATH_SIZE], const char *directory, const char *name,
                     struct error *err)
{
    int n = snprintf(out, PATH_SIZE, "%s/%s", directory, name);
    if (n < 0 || n >= PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s...", directory);
    return true;
}

/* --- what is there --- */

/* Where a file of the manifest is: a single file whose move into the directory was interrupted may
 * still be beside it. */
static bool path_of(const struct run *run, const struct manifest_file *f, char out[PATH_SIZE],
                    struct error *err)
{
    if (!set_path(out, run->options->directory, f->name, err))
        return false;
    bool single = run->manifest.count == 1 && f->type == MANIFEST_BASE &&
                  strcmp(f->name, run->options->filename) == 0;
    if (single && !os_path_exists(out) && os_path_exists(run->single))
        snprintf(out, PATH_SIZE, "%s", run->single);
    return true;
}

static bool find_log(struct run *run)
{
    const struct recovery_options *o = run->options;
    char dir[PATH_SIZE];
    os_path_dir(o->directory, dir, sizeof(dir));
    if (!set_path(run->single, dir, o->filename, run->err))
        return false;
    run->kind = KIND_MANIFEST;
    if (manifest_read(&run->manifest, o->directory, o->filename, run->err))
        return true;
    if (run->err->code != ERROR_NOT_FOUND) {
        run->damaged_manifest = true;
        return false;
    }
    struct recovery_names names;
    if (!recovery_list_names(o->directory, o->filename, &names, run->err))
        return false;
    /* A base alone is one that a first start has not come to name. */
    if (names.incrementals > 0)
        return error_set(run->err, ERROR_NOT_FOUND,
                         "%s holds %zu files of a log, but no manifest (%s.manifest)", o->directory,
                         names.bases + names.incrementals, o->filename);
    *run->err = (struct error){0};
    run->kind = KIND_NONE;
    if (!os_path_exists(run->single))
        return true;
    run->kind = KIND_SINGLE;
    run->manifest.files = mem_alloc(sizeof(*run->manifest.files));
    run->manifest.files[0] =
        (struct manifest_file){.name = mem_dup(o->filename, strlen(o->filename)),
                               .seq = 1,
                               .type = MANIFEST_BASE};
    run->manifest.count = 1;
    run->manifest.base_seq = 1;
    return true;
}

/* All files are there, before anything is loaded. */
static bool check_files(struct run *run)
{
    for (size_t i = 0; i < run->manifest.count; i++) {
        const struct manifest_file *f = &run->manifest.files[i];
        char path[PATH_SIZE];
        struct os_file file;
        uint64_t size;
        struct error ignored;
        if (f->type == MANIFEST_HISTORY)
            continue;
        if (!path_of(run, f, path, run->err))
            return false;
        if (!os_file_open(&file, path, OS_OPEN_READ, run->err))
            return error_prefix(run->err, "the manifest names %s, which is missing", f->name);
        bool ok = os_file_size(&file, &size, run->err);
        os_file_close(&file, &ignored);
        if (!ok)
            return false;
        run->size += size;
    }
    return true;
}

/* --- loading --- */

static void on_rdb_progress(void *ctx, uint64_t done, uint64_t size)
{
    struct run *run = ctx;
    (void)size;
    if (run->options->progress != NULL)
        run->options->progress(run->options->ctx, run->done + done, run->size);
}

/* end: where what follows a preamble begins; NULL: it must be the whole file. */
static bool load_rdb(struct run *run, const char *path, bool snapshot, uint64_t *end)
{
    struct rdb_load_options options = run->options->rdb;
    struct rdb_load_stats stats = {0};
    options.progress = on_rdb_progress;
    options.progress_ctx = run;
    /* Commands behind a base may still be about keys that have expired since. */
    options.drop_expired = snapshot;
    const struct recovery_options *o = run->options;
    bool ok = snapshot && o->load_snapshot != NULL
                  ? o->load_snapshot(o->ctx, &stats, run->err)
              : end != NULL
                  ? recovery_load_preamble(run->ks, path, &options, &stats, end, run->err)
                  : load_rdb_file(run->ks, path, &options, &stats, run->err);
    if (!ok)
        return false;
    struct recovery_result *result = run->result;
    result->rdb_keys = stats.keys;
    result->rdb_expired = stats.expired;
    run->at.ms = stats.created_ms;
    run->deltas = stats.deltas;
    if (stats.repl_id[0] != '\0') {
        run->at.lsn = (uint64_t)stats.repl_offset;
        memcpy(result->history, stats.repl_id, sizeof(result->history));
        result->lineage = stats.lineage;
        result->own = stats.own;
        result->stream_db = stats.stream_db;
        run->base_positioned = true;
    }
    return true;
}

/* How many commands of the batch come before the end that was asked for. */
static size_t count_until(struct run *run, const struct log_batch *b)
{
    const struct recovery_until *until = &run->options->until;
    size_t count = 0;
    if (run->in_base)
        return b->command_count;
    for (size_t g = 0; g < b->group_count; g++) {
        const struct log_group *group = &b->groups[g];
        if (until->kind == UNTIL_MS) {
            if (group->ms > until->ms) {
                run->reached = true;
                break;
            }
            count = group->first_command + group->command_count;
        } else if (until->kind == UNTIL_LSN) {
            for (size_t i = 0; i < group->command_count; i++) {
                const struct log_command *c = &b->commands[group->first_command + i];
                if (c->lsn > until->lsn) {
                    run->reached = true;
                    break;
                }
                if (c->unit)
                    count = group->first_command + i + 1;
            }
            if (run->reached)
                break;
        } else {
            count = b->command_count;
        }
        run->at.ms = group->ms;
    }
    return count;
}

static bool execute(struct run *run, const struct log_batch *b, const char *path)
{
    size_t count = count_until(run, b);
    if (run->options->until.kind == UNTIL_MS && b->groups[0].ms == 0 && !run->in_base)
        return error_set(run->err, ERROR_UNSUPPORTED,
                         "%s: nothing says when its commands were executed, so that it cannot be "
                         "replayed up to a time (aof-timestamp-enabled was no)",
                         path);
    if (count > 0 && !run->options->execute(run->options->ctx, b, count, run->err))
        return error_prefix(run->err, "%s", path);
    if (count > 0)
        run->at.lsn = b->commands[count - 1].lsn;
    run->result->commands += count;
    if (!run->in_base) {
        run->result->log_commands += count;
        for (size_t i = 0; i < count; i++)
            run->result->log_bytes += b->commands[i].size;
    }
    return true;
}

/* Of damage. A base of ours is whole or of no use: what it lacks is no end of a history. */
static bool may_cut(const struct run *run)
{
    const struct log_status *s = &run->last;
    return !run->in_base && s->size - s->valid_end <= run->options->damaged_tail_max;
}

/* What stands in the file behind the last valid group. */
static bool judge(struct run *run, const char *path, enum log_read result, bool last)
{
    const struct log_status *s = &run->last;
    const struct recovery_options *o = run->options;
    char from[RECOVERY_MOMENT_SIZE], to[RECOVERY_MOMENT_SIZE];
    if (result == LOG_READ_FAILED)
        return false;
    if (result == LOG_READ_TORN && last) {
        if (!o->cut_torn)
            return error_set(run->err, ERROR_TRUNCATED,
                             "%s ends in %llu bytes that are not whole (offset %llu: %s), and "
                             "aof-load-truncated is no",
                             path, (unsigned long long)(s->size - s->valid_end),
                             (unsigned long long)s->valid_end, s->reason);
        if (s->later_groups > 0)
            log_warning(
                "%s: behind offset %llu, where a group was lost, are %llu whole ones, up to "
                "%s: none of them was synced, and they go with it",
                path, (unsigned long long)s->valid_end, (unsigned long long)s->later_groups,
                recovery_moment(to, s->later_ms, s->later_lsn));
        run->torn = true;
        run->torn_at = s->valid_end;
        return true;
    }
    if (result == LOG_READ_END)
        return true;
    if (last && may_cut(run)) {
        log_warning("%s is damaged at offset %llu: %s. The %llu bytes from offset %llu on are "
                    "within aof-load-corrupt-tail-max-size, and are cut off",
                    path, (unsigned long long)s->bad_offset, s->reason,
                    (unsigned long long)(s->size - s->valid_end),
                    (unsigned long long)s->valid_end);
        if (s->later_groups > 0)
            log_warning("With them go %llu valid groups, up to %s",
                        (unsigned long long)s->later_groups,
                        recovery_moment(to, s->later_ms, s->later_lsn));
        run->torn = run->damaged = true;
        run->torn_at = s->valid_end;
        return true;
    }
    log_warning("%s is damaged at offset %llu: %s", path, (unsigned long long)s->bad_offset,
                s->reason);
    log_warning("All before offset %llu is good, up to %s", (unsigned long long)s->valid_end,
                recovery_moment(from, s->ms, s->lsn));
    if (s->later_groups > 0)
        log_warning("Behind the damage %llu valid groups begin at offset %llu, up to %s",
                    (unsigned long long)s->later_groups, (unsigned long long)s->later_offset,
                    recovery_moment(to, s->later_ms, s->later_lsn));
    if (!last)
        log_warning("Files that follow this one in the manifest have not been looked at");
    char data[PATH_SIZE];
    os_path_dir(o->directory, data, sizeof(data));
    log_warning("`holdfast check` and `holdfast repair` on %s tell more; repair would keep what is "
                "before the damage, and put aside what is behind",
                run->kind == KIND_SINGLE ? data : o->directory);
    return error_set(run->err, ERROR_CORRUPT, "%s: offset %llu, LSN %llu: %s", path,
                     (unsigned long long)s->bad_offset, (unsigned long long)s->lsn, s->reason);
}

/* One file of commands, from `offset` on. */
static bool replay(struct run *run, const char *path, uint64_t offset, bool last)
{
    const struct recovery_options *o = run->options;
    struct log_reader *reader = log_reader_open(path, offset, &run->at, run->err);
    struct pipeline *p = reader != NULL ? pipeline_start(reader, run->err) : NULL;
    if (p == NULL)
        return false;
    struct log_batch *b;
    enum log_read result;
    bool ok = true;
    uint64_t end = offset;
    while ((result = pipeline_take(p, WAIT_US, &b, run->err)) == LOG_READ_GROUPS) {
        if (b != NULL) {
            ok = execute(run, b, path);
            end = b->end;
            pipeline_give(p, b);
        }
        if (ok && o->rdb.cancel != NULL && *o->rdb.cancel)
            ok = error_set(run->err, ERROR_CANCELLED, "the load was cancelled");
        if (!ok || run->reached)
            break;
        if (o->progress != NULL)
            o->progress(o->ctx, run->done + end, run->size);
    }
    if (result != LOG_READ_GROUPS) {
        run->last = *pipeline_status(p);
        snprintf(run->last_path, sizeof(run->last_path), "%s", path);
    }
    pipeline_stop(p);
    if (!ok || run->reached)
        return ok;
    if (!judge(run, path, result, last))
        return false;
    const struct log_status *s = &run->last;
    run->done += s->size;
    run->at = (struct log_position){.lsn = s->lsn, .crc = s->crc, .ms = s->ms, .known = true};
    if (s->annotated)
        memcpy(run->result->history, s->log.history, sizeof(run->result->history));
    return true;
}

static bool load_base(struct run *run, const struct manifest_file *f, bool last)
{
    char path[PATH_SIZE];
    bool rdb;
    uint64_t end = 0;
    if (!path_of(run, f, path, run->err) || !recovery_is_rdb(path, &rdb, run->err))
        return false;
    log_notice("Loading the base %s", path);
    size_t n = strlen(f->name);
    if (rdb && n > 4 && strcmp(f->name + n - 4, ".rdb") == 0) {
        if (!load_rdb(run, path, false, NULL))
            return false;
        struct os_file file;
        struct error ignored;
        uint64_t size = 0;
        if (os_file_open(&file, path, OS_OPEN_READ, &ignored)) {
            os_file_size(&file, &size, &ignored);
            os_file_close(&file, &ignored);
        }
        run->done += size;
        return true;
    }
    if (rdb && !load_rdb(run, path, false, &end))
        return false;
    /* Commands follow the preamble, or are all there is. */
    struct annotation a;
    bool found = false;
    if (!rdb && !recovery_first_line(path, &found, &a, run->err))
        return false;
    /* Such a base is whole or damaged, and its LSNs are its own. */
    run->in_base = found && a.kind == ANNOTATION_BASE;
    bool ok = replay(run, path, end, last);
    /* The first incremental's chain is that of a file which is no more. */
    run->base_positioned = run->base_positioned || run->last.annotated;
    if (run->in_base)
        run->result->stream_db = (int)run->last.log.db;
    run->in_base = false;
    run->at.known = false;
    return ok;
}

/* What is asked for may be before all that there is. */
static bool check_until(struct run *run)
{
    const struct recovery_until *until = &run->options->until;
    char when[RECOVERY_MOMENT_SIZE], asked[RECOVERY_DATE_SIZE];
    bool before = (until->kind == UNTIL_LSN && run->base_positioned && until->lsn < run->at.lsn) ||
                  (until->kind == UNTIL_MS && until->ms < run->at.ms);
    if (!before)
        return true;
    return error_set(run->err, ERROR_INVALID,
                     "recover-until asks for %s, but the log begins with a base of %s: it cannot "
                     "be replayed up to a moment before",
                     asked_for(asked, until), recovery_moment(when, run->at.ms, run->at.lsn));
}

/* Or behind it. An LSN behind the end is of what was lost, or of another log, and a time that is
 * yet to come is a slip: who asked does not want to be served what was to be undone. A time since
 * which nothing was written is a fair question. */
static bool check_reached(struct run *run)
{
    const struct recovery_until *until = &run->options->until;
    char when[RECOVERY_MOMENT_SIZE], asked[RECOVERY_DATE_SIZE];
    bool behind = until->kind == UNTIL_MS    ? until->ms > run->at.ms
                  : until->kind == UNTIL_LSN ? until->lsn > run->at.lsn
                                             : false;
    if (run->reached || !behind)
        return true;
    asked_for(asked, until);
    recovery_moment(when, run->at.ms, run->at.lsn);
    if (until->kind == UNTIL_LSN || until->ms > run->options->now_ms)
        return error_set(run->err, ERROR_INVALID,
                         "recover-until asks for %s%s, but the log goes up to %s%s. Without "
                         "recover-until all of it is loaded",
                         asked, until->kind == UNTIL_MS ? ", which is yet to come" : "", when,
                         run->torn ? ", where it is torn" : "");
    log_warning("recover-until asks for %s, but the log goes up to %s%s: what was asked for lies "
                "behind that, and all of the log was replayed",
                asked, when, run->torn ? ", where it is torn" : "");
    return true;
}

/* The first incremental of ours goes on where the base ends. */
static bool check_base(struct run *run, const char *path)
{
    struct annotation a;
    bool found;
    if (!run->base_positioned)
        return true;
    if (!recovery_first_line(path, &found, &a, run->err))
        return false;
    if (!found || a.kind != ANNOTATION_LOG)
        return true; /* The reader says what is to be said of it. */
    if (a.lsn == run->at.lsn && strcmp(a.history, run->result->history) == 0)
        return true;
    return error_set(
        run->err, ERROR_CORRUPT,
        "%s begins at LSN %llu of history %.8s, but the base before it ends at %llu of "
        "%.8s: they are of two generations",
        path, (unsigned long long)a.lsn, a.history, (unsigned long long)run->at.lsn,
        run->result->history);
}

/* Where a file is of another history than what was before, that one was left there: by a start
 * after a crash if both are this server's own. */
static void note_history(struct recovery_result *result, const struct annotation *head)
{
    if (result->history[0] != '\0' && strcmp(result->history, head->history) != 0)
        lineage_push(&result->lineage, result->history, head->lsn, !(result->own && head->own));
    memcpy(result->history, head->history, sizeof(result->history));
    result->own = head->own;
}

static bool tell_file(struct run *run, const char *path)
{
    const struct recovery_options *o = run->options;
    struct annotation a;
    bool found;
    if (!recovery_first_line(path, &found, &a, run->err))
        return false;
    found = found && a.kind == ANNOTATION_LOG;
    if (o->file != NULL)
        o->file(o->ctx, found ? a.history : "", found ? a.lsn : 0);
    if (found)
        note_history(run->result, &a);
    return true;
}

static bool load_log(struct run *run)
{
    const struct manifest *m = &run->manifest;
    size_t files = 0, seen = 0;
    for (size_t i = 0; i < m->count; i++)
        files += m->files[i].type != MANIFEST_HISTORY;
    bool first = true;
    for (size_t i = 0; i < m->count && !run->reached; i++) {
        const struct manifest_file *f = &m->files[i];
        if (f->type == MANIFEST_HISTORY)
            continue;
        bool last = ++seen == files;
        char path[PATH_SIZE];
        if (f->type == MANIFEST_BASE) {
            if (!load_base(run, f, last) || !check_until(run))
                return false;
            if (run->options->select != NULL)
                run->options->select(run->options->ctx, run->result->stream_db);
            continue;
        }
        if (!path_of(run, f, path, run->err) || (first && !check_base(run, path)))
            return false;
        first = false;
        log_notice("Replaying %s", path);
        if (!tell_file(run, path))
            return false;
        if (!replay(run, path, 0, last))
            return false;
        /* In a manifest of ours the last file is always one of ours, which has a first line. */
        if (last && m->ours && !run->reached && !run->last.annotated)
            return error_set(run->err, ERROR_CORRUPT, "%s: the first line is missing", path);
    }
    run->result->source = RECOVERY_LOG;
    return true;
}

/* --- afterwards --- */

/* False: err says why. A disk without room leaves the file as it is; see may_lack_room. */
static bool cut_tail(struct run *run)
{
    char kept[PATH_SIZE], when[RECOVERY_MOMENT_SIZE];
    const struct log_status *s = &run->last;
    struct recovery_result *result = run->result;
    unsigned long long bytes = s->size - run->torn_at;
    const char *what = run->damaged ? "was damaged" : "ended in the middle of an append";
    if (recovery_cut(run->last_path, run->torn_at, run->options->now_ms, kept, run->err)) {
        result->cut_bytes = bytes;
        log_warning("%s %s (%s at offset %llu): %llu bytes were cut off and are kept in %s. The "
                    "data goes up to %s",
                    run->last_path, what, s->reason, (unsigned long long)run->torn_at, bytes, kept,
                    recovery_moment(when, s->ms, s->lsn));
        return true;
    }
    if (run->err->code != ERROR_NO_SPACE || !run->options->may_lack_room)
        return error_prefix(run->err, "the torn end of the log could not be cut off");
    log_warning(
        "%s %s (%s at offset %llu): there is no room to keep these "
        "%llu bytes, and they stay where they are until there is. The data goes up to %s",
        run->last_path, what, s->reason, (unsigned long long)run->torn_at, bytes,
        recovery_moment(when, s->ms, s->lsn));
    *run->err = (struct error){0};
    snprintf(result->uncut, sizeof(result->uncut), "%s", run->last_path);
    result->uncut_at = run->torn_at;
    return true;
}

/* Make sure of what is good; cut off what is torn. In this order, as the first needs no room. */
static bool settle_tail(struct run *run)
{
    const struct log_status *s = &run->last;
    if (run->last_path[0] == '\0')
        return true;
    uint64_t size = run->torn ? run->torn_at : s->size;
    if (!s->closed &&
        !recovery_sync_again(run->last_path, size > TAIL_SIZE ? size - TAIL_SIZE : 0, run->err))
        return false;
    return !run->torn || cut_tail(run);
}

/* Into the directory, as Redis 7 does it: each step can be the last one. */
static bool move_single(struct run *run)
{
    const struct recovery_options *o = run->options;
    char path[PATH_SIZE], dir[PATH_SIZE];
    os_path_dir(o->directory, dir, sizeof(dir));
    if (!set_path(path, o->directory, o->filename, run->err))
        return false;
    if (run->kind == KIND_SINGLE) {
        if (!os_dir_create(o->directory, run->err) || !os_dir_sync(dir, run->err) ||
            !manifest_write(&run->manifest, o->directory, o->filename, run->err))
            return false;
    } else if (run->manifest.count != 1 || os_path_exists(path) || !os_path_exists(run->single)) {
        return true;
    }
    log_notice("Moving %s to %s", run->single, path);
    return os_rename(run->single, path, run->err) && os_dir_sync(o->directory, run->err) &&
           os_dir_sync(dir, run->err);
}

/* The manifest that cannot be read keeps its bytes. */
static bool keep_manifest(struct run *run, struct manifest *fresh)
{
    const struct recovery_options *o = run->options;
    struct recovery_names names;
    if (!recovery_list_names(o->directory, o->filename, &names, run->err))
        return false;
    if (names.base_seq > fresh->base_seq)
        fresh->base_seq = names.base_seq;
    if (names.incremental_seq > fresh->incremental_seq)
        fresh->incremental_seq = names.incremental_seq;
    if (!run->damaged_manifest)
        return true;
    char from[2 * PATH_SIZE], to[3 * PATH_SIZE], stamp[RECOVERY_STAMP_SIZE];
    recovery_stamp(o->now_ms, stamp);
    snprintf(from, sizeof(from), "%s/%s.manifest", o->directory, o->filename);
    snprintf(to, sizeof(to), "%s.damaged-%s", from, stamp);
    log_warning("The manifest is kept as %s", to);
    return os_rename(from, to, run->err);
}

/* A base of what is in memory now, named alone. The files that were named before stay in force
 * until then, and are put aside after. */
static bool begin_anew(struct run *run, const char *why)
{
    const struct recovery_options *o = run->options;
    struct manifest fresh;
    char path[PATH_SIZE], dir[PATH_SIZE];
    run->result->log_commands = run->result->log_bytes = 0;
    manifest_copy(&fresh, &run->manifest);
    manifest_retire_before(&fresh, UINT64_MAX);
    os_path_dir(o->directory, dir, sizeof(dir));
    bool ok = os_dir_create(o->directory, run->err) && os_dir_sync(dir, run->err) &&
              keep_manifest(run, &fresh);
    if (ok) {
        struct manifest_file *base = manifest_add_base(&fresh, o->filename, !o->base_of_commands);
        ok = set_path(path, o->directory, base->name, run->err) &&
             o->save_base(o->ctx, path, run->at.lsn, run->result->history, run->err);
    }
    manifest_drop_history(&fresh);
    if (ok && !manifest_write(&fresh, o->directory, o->filename, run->err)) {
        ok = false;
        /* On a full disk it only takes up room; else the manifest may be there and name it. */
        struct error ignored;
        if (run->err->code == ERROR_NO_SPACE)
            os_unlink(path, &ignored);
    }
    /* A single file stays where it is: with a manifest there it is not looked at. */
    if (ok && run->kind == KIND_MANIFEST && run->manifest.count > 0) {
        char place[PATH_SIZE];
        ok = recovery_put_aside(o->directory, o->filename, &run->manifest, why, o->now_ms, place,
                                run->err);
        if (ok)
            log_notice("The log as it was is kept in %s", place);
    }
    manifest_free(&run->manifest);
    run->manifest = fresh;
    return ok;
}

/* --- all of it --- */

static bool load_snapshot(struct run *run)
{
    const struct recovery_options *o = run->options;
    char when[RECOVERY_MOMENT_SIZE], what[PATH_SIZE];
    run->at = (struct log_position){0};
    run->done = run->size = 0;
    run->result->history[0] = '\0';
    run->result->lineage.count = 0;
    run->result->own = false;
    if (load_rdb(run, o->rdb_path, true, NULL)) {
        run->result->source = RECOVERY_SNAPSHOT;
        log_notice("Loaded %llu keys from %s, made %s",
                   (unsigned long long)run->result->rdb_keys,
                   with_deltas(what, o->rdb_path, run->deltas),
                   recovery_moment(when, run->at.ms, run->at.lsn));
        return true;
    }
    if (run->err->code != ERROR_NOT_FOUND)
        return false;
    *run->err = (struct error){0};
    run->result->source = RECOVERY_NOTHING;
    return true;
}

/* There is something that a start could fall back to. */
static void tell_of_snapshot(const struct run *run)
{
    const struct recovery_snapshot *s = &run->options->snapshot;
    char when[RECOVERY_MOMENT_SIZE] = "at an unknown time", what[PATH_SIZE];
    const char *path = run->options->rdb_path;
    if (!os_path_exists(path))
        return;
    with_deltas(what, path, s->deltas);
    if (s->log_id[0] != '\0')
        recovery_moment(when, s->ms, s->log_lsn);
    else if (s->ms > 0)
        recovery_date(when, s->ms);
    log_warning("There is %s, made %s: `recovery-fallback snapshot` starts from that, without what "
                "is only in the log",
                what, when);
}

/* What a start from the snapshot does without: as far as the log, which was at `good` of this
 * history, was found good and, behind its damage, seen to go. */
static void tell_of_loss(const struct run *run, const struct log_position *good,
                         const char *history)
{
    const struct log_status *s = &run->last;
    char when[RECOVERY_MOMENT_SIZE], of_log[RECOVERY_MOMENT_SIZE], what[PATH_SIZE];
    log_warning("recovery-fallback is snapshot: starting from %s, made %s. What was changed since "
                "then is lost to this start; the files of the log are kept",
                with_deltas(what, run->options->rdb_path, run->deltas),
                recovery_moment(when, run->at.ms, run->at.lsn));
    if (good->lsn == 0)
        return;
    bool more = good->lsn > run->at.lsn && strcmp(history, run->result->history) == 0;
    log_warning("The log was good up to %s%s", recovery_moment(of_log, good->ms, good->lsn),
                more ? ": that is more than there is now, and `holdfast repair` on the files that "
                       "are kept would save it"
                     : "");
    if (s->later_groups > 0)
        log_warning("Behind its damage it goes on up to %s",
                    recovery_moment(of_log, s->later_ms, s->later_lsn));
}

static bool fall_back(struct run *run)
{
    /* An RDB file is of one moment, and not of that which was asked for. */
    if (run->err->code == ERROR_CANCELLED || run->options->until.kind != UNTIL_END)
        return false;
    log_warning("The log cannot be used: %s", run->err->message);
    if (!run->options->fall_back) {
        tell_of_snapshot(run);
        return false;
    }
    if (!os_path_exists(run->options->rdb_path))
        return error_prefix(run->err, "there is no %s to fall back to", run->options->rdb_path);
    struct log_position good = run->at;
    char history[ANNOTATION_HISTORY + 1];
    memcpy(history, run->result->history, sizeof(history));
    keyspace_flush(run->ks);
    *run->err = (struct error){0};
    run->result->commands = 0;
    run->torn = false;
    run->last_path[0] = '\0';
    run->result->fell_back = true;
    if (!load_snapshot(run))
        return false;
    tell_of_loss(run, &good, history);
    return true;
}

/* Whether the snapshot goes on where the log ends. */
static bool goes_beyond(const struct run *run, const struct recovery_snapshot *s)
{
    return s->log_id[0] != '\0' && strcmp(s->log_id, run->result->history) == 0 &&
           (s->log_lsn > run->at.lsn || (s->log_lsn == run->at.lsn && s->log_beyond));
}

/* The log was loaded, whole. Whether the RDB file holds all of it, and more. */
static bool is_superseded(const struct run *run)
{
    const struct recovery_snapshot *s = &run->snapshot;
    char of_log[RECOVERY_MOMENT_SIZE], of_file[RECOVERY_MOMENT_SIZE];
    recovery_moment(of_log, run->at.ms, run->at.lsn);
    recovery_moment(of_file, s->ms, s->log_lsn);
    const char *path = run->options->rdb_path;
    if (run->options->until.kind != UNTIL_END || run->reached)
        return false;
    if (goes_beyond(run, s))
        return true;
    if (s->log_id[0] == '\0' || strcmp(s->log_id, run->result->history) != 0) {
        if (s->ms > run->at.ms + YOUNGER_MS)
            log_warning(
                "%s was made %s, after the last that is known of the log, %s, and it cannot be "
                "told whether it goes on where the log ends: the log is used, as Redis does",
                path, of_file, of_log);
    } else if (s->log_beyond) {
        log_warning(
            "%s, made %s, holds changes that are not in the log, but not all that is in the log, "
            "which goes up to %s: the log is used",
            path, of_file, of_log);
    }
    return false;
}

static bool supersede(struct run *run)
{
    const struct recovery_snapshot *s = &run->snapshot;
    char of_log[RECOVERY_MOMENT_SIZE], of_file[RECOVERY_MOMENT_SIZE], what[PATH_SIZE];
    log_warning("%s, made %s, %s all that is in the log up to its end, %s, and what was changed "
                "then without the log: that is used, and the log begins anew from it",
                with_deltas(what, run->options->rdb_path, s->deltas),
                recovery_moment(of_file, s->ms, s->log_lsn), s->deltas > 0 ? "hold" : "holds",
                recovery_moment(of_log, run->at.ms, run->at.lsn));
    keyspace_flush(run->ks);
    run->result->commands = 0;
    run->torn = false;
    run->last_path[0] = '\0';
    run->superseded = true;
    if (!load_snapshot(run))
        return false;
    if (run->result->source == RECOVERY_NOTHING)
        return error_set(run->err, ERROR_NOT_FOUND, "%s is gone", run->options->rdb_path);
    if (strcmp(run->result->history, s->log_id) != 0 || run->at.lsn > s->log_lsn)
        return true; /* it tells its own place, in a history that was counted without the log */
    /* Nobody counted: it is at no place of that history. What follows comes behind every position
     * that a file made meanwhile can name. */
    run->at.lsn = s->log_lsn + 2;
    run->result->history[0] = '\0';
    run->result->lineage.count = 0;
    return true;
}

/* The log was loaded, whole: it is used, or the snapshot that holds more, as far as that is whole
 * itself. */
static bool choose(struct run *run)
{
    const struct recovery_options *o = run->options;
    struct recovery_snapshot whole;
    char of_log[RECOVERY_MOMENT_SIZE], of_file[RECOVERY_MOMENT_SIZE], what[PATH_SIZE];
    if (!is_superseded(run))
        return true;
    if (o->prove_snapshot == NULL || o->prove_snapshot(o->ctx, &whole, run->err))
        return supersede(run);
    if (goes_beyond(run, &whole)) {
        /* Loading it asks recovery-fallback whether that will do. */
        *run->err = (struct error){0};
        run->snapshot = whole;
        return supersede(run);
    }
    log_warning("The log is whole, up to %s. %s, made %s, go beyond that, but are damaged: %s",
                recovery_moment(of_log, run->at.ms, run->at.lsn),
                with_deltas(what, o->rdb_path, run->snapshot.deltas),
                recovery_moment(of_file, run->snapshot.ms, run->snapshot.log_lsn),
                run->err->message);
    if (!o->fall_back) {
        log_warning("`recovery-fallback snapshot` starts from the log; what was changed beyond it "
                    "is lost then");
        return false;
    }
    log_warning("recovery-fallback is snapshot: starting from the log, which has more than what is "
                "whole of them. What was changed beyond it is lost");
    *run->err = (struct error){0};
    run->beyond_lost = true;
    return true;
}

static bool load(struct run *run)
{
    bool ok = find_log(run);
    if (run->options->only_load) {
        if (ok && run->kind == KIND_NONE)
            return error_set(run->err, ERROR_NOT_FOUND, "there is no log in %s",
                             run->options->directory);
        return ok && check_files(run) && load_log(run);
    }
    if (ok && run->kind == KIND_NONE) {
        if (run->options->until.kind != UNTIL_END)
            return error_set(run->err, ERROR_NOT_FOUND,
                             "there is no log in %s that could be replayed up to a moment",
                             run->options->directory);
        if (!load_snapshot(run))
            return false;
        if (run->result->source == RECOVERY_NOTHING)
            log_notice("No data to load: there is neither a log in %s nor %s",
                       run->options->directory, run->options->rdb_path);
        return true;
    }
    ok = ok && check_files(run) && load_log(run) && check_reached(run);
    if (!ok)
        return fall_back(run);
    return choose(run);
}

/* Only room has failed, and what was loaded is what a start without it would load again: the caller
 * goes on. Nothing is on disk that names a file. */
static bool goes_without_base(struct run *run)
{
    bool again = run->kind == KIND_NONE ||
                 (run->kind == KIND_SINGLE && run->result->source == RECOVERY_LOG);
    if (!run->options->may_lack_room || run->options->until.kind != UNTIL_END || !again ||
        run->err->code != ERROR_NO_SPACE)
        return false;
    run->result->no_base = *run->err;
    *run->err = (struct error){0};
    manifest_free(&run->manifest);
    run->manifest = (struct manifest){0};
    return true;
}

static bool settle(struct run *run)
{
    bool until = run->options->until.kind != UNTIL_END, ok;
    if (run->result->source == RECOVERY_LOG && !until)
        ok = settle_tail(run) && move_single(run);
    else
        ok = begin_anew(run, until             ? "before-recover-until"
                             : run->superseded ? "superseded"
                                               : "not-used");
    return ok || goes_without_base(run);
}

static void report(const struct run *run)
{
    const struct recovery_result *r = run->result;
    char when[RECOVERY_MOMENT_SIZE];
    if (r->source != RECOVERY_LOG)
        return;
    log_notice("Loaded the log: %llu keys from its base, %llu commands replayed, up to %s%s",
               (unsigned long long)r->rdb_keys, (unsigned long long)r->commands,
               recovery_moment(when, run->at.ms, run->at.lsn),
               run->reached                                       ? ", as asked"
               : run->options->until.kind != UNTIL_END            ? ", where it ends"
               : run->last_path[0] != '\0' && run->last.closed    ? ", where it was closed"
                                                                  : "");
}

bool recovery_run(struct keyspace *ks, const struct recovery_options *options,
                  struct recovery_result *result, struct error *err)
{
    struct run run = {.ks = ks,
                      .options = options,
                      .result = result,
                      .err = err,
                      .snapshot = options->snapshot};
    *result = (struct recovery_result){0};
    bool ok = load(&run);
    if (ok) {
        report(&run);
        bool whole = result->source == RECOVERY_LOG && options->until.kind == UNTIL_END;
        /* To a base alone nothing was added yet. */
        result->closed = whole && !run.torn && !run.beyond_lost &&
                         (run.last_path[0] == '\0' || run.last.closed);
        memcpy(result->found_history, result->history, sizeof(result->history));
        lineage_cut_at(&result->lineage, run.at.lsn);
        /* What was lost may have been seen by replicas: another history begins. */
        if (!result->closed || result->history[0] == '\0')
            snprintf(result->history, sizeof(result->history), "%s", options->new_history);
    }
    ok = ok && (options->only_load || settle(&run));
    result->lsn = run.at.lsn;
    result->ms = run.at.ms;
    result->crc = run.at.known && result->source == RECOVERY_LOG &&
                          options->until.kind == UNTIL_END
                      ? run.at.crc
                      : 0;
    if (ok)
        result->manifest = run.manifest;
    else
        manifest_free(&run.manifest);
    return ok;
}
