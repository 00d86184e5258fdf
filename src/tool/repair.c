/* SPDX-License-Identifier: BSD-3-Clause
 *
 * holdfast repair: make a damaged log start again, with what can be proven of it. It keeps all up
 * to the first damage; the bytes behind it are put into a file beside, later files into a
 * directory.
 *
 * The order is that of safety: the manifest no longer names what will be put aside, then it is put
 * aside, then the damaged file is cut, its end being durable elsewhere first. Interrupted, it can
 * be run again.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "os/file.h"
#include "persist/log/recovery.h"
#include "persist/log/recovery_files.h"
#include "tool/log_dir.h"
#include "tool/tool.h"

#define MEMORY ((size_t)64 << 20)

struct repair {
    struct log_dir log;
    struct log_damage damage;
    size_t first_aside; /* the files from this index on are put aside */
};

static void print_plan(const struct repair *r)
{
    const struct manifest_file *f = log_dir_file(&r->log, r->damage.index);
    printf("\nTo be done:\n");
    if (r->first_aside > r->damage.index)
        printf("  cut off %s/%s at offset %" PRIu64
               "; the bytes behind are kept beside it in a file "
               "%s.torn-...\n",
               r->log.directory, f->name, r->damage.cut, f->name);
    for (size_t i = r->first_aside; log_dir_file(&r->log, i) != NULL; i++)
        printf("  no longer use %s/%s; it is kept in a directory repaired-...\n", r->log.directory,
               log_dir_file(&r->log, i)->name);
    if (!r->damage.torn)
        printf("All that was written behind the damage is lost to the server.\n");
}

/* In a manifest of ours the last file must be one of ours: when what stays ends in one of
 * redis-server's, it is written without our last line, as redis-server's are. */
static bool ends_in_ours(const struct repair *r)
{
    const struct manifest_file *f = log_dir_file(&r->log, r->first_aside - 1);
    struct annotation a;
    struct error ignored;
    char path[512];
    bool found = false;
    return f->type == MANIFEST_BASE ||
           (log_dir_path(&r->log, f, path, &ignored) &&
            recovery_first_line(path, &found, &a, &ignored) && found);
}

/* Split the manifest in what stays and what goes. */
static bool put_aside(struct repair *r, int64_t now_ms, struct error *err)
{
    struct manifest keep, aside;
    char place[256];
    if (log_dir_file(&r->log, r->first_aside) == NULL)
        return true;
    uint64_t seq = log_dir_file(&r->log, r->first_aside)->seq;
    manifest_copy(&keep, &r->log.manifest);
    manifest_copy(&aside, &r->log.manifest);
    size_t kept = 0, gone = 0;
    for (size_t i = 0; i < r->log.manifest.count; i++) {
        struct manifest_file *k = &keep.files[i], *a = &aside.files[i];
        /* The other one of the two becomes history, to be dropped. */
        bool goes = k->type == MANIFEST_INCREMENTAL && k->seq >= seq;
        (goes ? k : a)->type = MANIFEST_HISTORY;
        kept += !goes && k->type != MANIFEST_HISTORY;
        gone += goes;
    }
    manifest_drop_history(&keep);
    manifest_drop_history(&aside);
    bool ok = gone > 0 &&
              (kept > 0 || error_set(err, ERROR_INVALID, "nothing would be left of the log"));
    /* Beside later files such a manifest would seem to have lost its end: they go first then. */
    keep.unsummed = ok && !ends_in_ours(r);
    if (!keep.unsummed)
        ok = ok && manifest_write(&keep, r->log.directory, r->log.filename, err);
    ok = ok && recovery_put_aside(r->log.directory, r->log.filename, &aside, "repaired", now_ms,
                                  place, err);
    if (keep.unsummed)
        ok = ok && manifest_write(&keep, r->log.directory, r->log.filename, err);
    if (ok)
        printf("Put aside: %zu files, in %s\n", gone, place);
    manifest_free(&keep);
    manifest_free(&aside);
    return ok;
}

static bool carry_out(struct repair *r, struct error *err)
{
    int64_t now_ms = clock_wall_ms();
    char path[512], kept[256];
    if (!put_aside(r, now_ms, err))
        return false;
    if (r->first_aside == r->damage.index)
        return true;
    const struct manifest_file *f = log_dir_file(&r->log, r->damage.index);
    if (!log_dir_path(&r->log, f, path, err) ||
        !recovery_cut(path, r->damage.cut, now_ms, kept, err))
        return false;
    printf("Cut off: %s at offset %" PRIu64 "; what was behind is in %s\n", path, r->damage.cut,
           kept);
    return true;
}

static int repair(struct repair *r, bool yes)
{
    struct error err = {0};
    if (check_log_files(&r->log, MEMORY, &r->damage)) {
        printf("The log is sound: there is nothing to be repaired\n");
        return TOOL_OK;
    }
    if (r->damage.base) {
        printf("\nThe base is missing or damaged: what follows means nothing without it. Use a "
               "backup, or "
               "the RDB file (recovery-fallback snapshot)\n");
        return TOOL_FAILED;
    }
    /* Of a file without a valid first line nothing is left. */
    r->first_aside = r->damage.index + (r->damage.cut > 0);
    print_plan(r);
    if (!yes) {
        printf("Nothing was changed. With --yes it is done; stop the server first\n");
        return TOOL_FAILED;
    }
    int lock = -1;
    bool free = os_dir_lock(r->log.directory, &lock, &err) || err.code != ERROR_EXISTS;
    bool done = free && carry_out(r, &err);
    os_dir_unlock(&lock);
    if (done)
        return TOOL_OK;
    fprintf(stderr, "holdfast repair: %s\n", err.message);
    return TOOL_FAILED;
}

int tool_repair(int argc, char **argv)
{
    static const struct option known[] = {{"yes", no_argument, NULL, 'y'}, {0}};
    bool yes = false;
    int option;
    while ((option = tool_next_option(argc, argv, known)) != -1) {
        if (option != 'y')
            return tool_option_error("repair", argv);
        yes = true;
    }
    if (tool_argument_count(argc) != 1)
        return tool_usage_error("repair", "which directory?");
    struct repair r = {0};
    struct error err = {0};
    int status = TOOL_FAILED;
    if (log_dir_open(&r.log, tool_argument(argv, 0), &err))
        status = repair(&r, yes);
    else
        fprintf(stderr, "holdfast repair: %s\n", err.message);
    log_dir_close(&r.log);
    return tool_finish_output("repair", status);
}
