/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "command/help.h"
#include "handlers.h"
#include "os/file.h"
#include "os/process.h"
#include "persist/log/stream.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/server.h"

#define PATH_SIZE sizeof(((struct os_file *)0)->path)

enum backup_state { IDLE, PENDING, SNAPSHOTTING, INCREMENTING, SEALED, FAILED };

struct backup {
    enum backup_state state;
    int64_t start_ms, end_ms; /* 0: not yet */
    struct error error;       /* of FAILED */
    char **names;             /* of the files that are there for it, in the order of LIST */
    size_t count;
};

static const char *state_name(enum backup_state state)
{
    static const char *const names[] = {"idle",         "pending", "snapshotting",
                                        "incrementing", "sealed",  "failed"};
    return names[state];
}

bool backup_in_progress(const struct server *s)
{
    enum backup_state state = s->backup->state;
    return state == PENDING || state == SNAPSHOTTING || state == INCREMENTING;
}

bool backup_keeps_files(const struct server *s)
{
    return s->backup->state == INCREMENTING;
}

/* ---- its files ---- */

static bool path_in(const char *directory, const char *name, char path[PATH_SIZE],
                    struct error *err)
{
    int n = snprintf(path, PATH_SIZE, "%s/%s", directory, name);
    return (n > 0 && (size_t)n < PATH_SIZE) ||
           error_set(err, ERROR_INVALID, "the path is too long: %.100s", name);
}

static void add_name(struct backup *b, const char *name)
{
    b->names = mem_realloc(b->names, (b->count + 1) * sizeof(*b->names));
    b->names[b->count++] = mem_dup(name, strlen(name));
}

/* Only what it has put there itself. */
static void remove_files(struct server *s)
{
    struct backup *b = s->backup;
    const char *directory = s->config->backupdirname;
    struct error err;
    char path[PATH_SIZE];
    for (size_t i = b->count; i-- > 0;) {
        if (path_in(directory, b->names[i], path, &err) && !os_unlink_large(path, &err))
            log_warning("A file of the backup stays: %s", err.message);
        mem_free(b->names[i]);
    }
    if (b->count > 0 && !os_dir_sync(directory, &err))
        log_warning("%s", err.message);
    mem_free(b->names);
    b->names = NULL;
    b->count = 0;
}

/* A file of the log, which has come to its end. */
static bool take_file(struct server *s, const char *name, struct error *err)
{
    char from[PATH_SIZE], to[PATH_SIZE];
    if (!path_in(s->config->appenddirname, name, from, err) ||
        !path_in(s->config->backupdirname, name, to, err) || !os_link(from, to, err))
        return false;
    add_name(s->backup, name);
    return true;
}

static bool make_directory(struct server *s, struct error *err)
{
    const char *directory = s->config->backupdirname;
    bool empty;
    if (!os_dir_create_synced(directory, err) || !os_dir_is_empty(directory, &empty, err))
        return false;
    return empty || error_set(err, ERROR_INVALID, "Backup directory '%s' is not empty", directory);
}

/* ---- states ---- */

static void fail(struct server *s, const char *why)
{
    struct backup *b = s->backup;
    remove_files(s);
    b->state = FAILED;
    error_set(&b->error, ERROR_INVALID, "%s", why);
    durability_release(s);
}

void backup_base_begun(struct server *s)
{
    if (s->backup->state == PENDING)
        s->backup->state = SNAPSHOTTING;
}

void backup_base_ended(struct server *s, const char *why)
{
    struct backup *b = s->backup;
    struct error err = {0};
    if (b->state != SNAPSHOTTING)
        return;
    const struct manifest_file *base = manifest_base(&s->durability->generation.manifest);
    if (why == NULL &&
        !(take_file(s, base->name, &err) && os_dir_sync(s->config->backupdirname, &err)))
        why = err.message;
    if (why != NULL) {
        log_warning("The backup has failed: %s", why);
        fail(s, why);
        return;
    }
    b->state = INCREMENTING;
    log_notice("The backup has its base: %s", base->name);
}

void backup_log_broken(struct server *s, const char *why)
{
    if (!backup_in_progress(s))
        return;
    log_warning("The backup has failed: %s", why);
    fail(s, why);
}

static bool start(struct server *s, bool later, struct error *err)
{
    struct backup *b = s->backup;
    if (!durability_may_start(s, err) || !make_directory(s, err))
        return false;
    b->state = PENDING;
    b->start_ms = s->ks->wall_ms;
    b->end_ms = 0;
    b->error = (struct error){0};
    durability_make_base(s, later);
    return true;
}

/* The manifest of what a start is to read. */
static bool write_manifest(struct server *s, struct error *err)
{
    struct manifest m;
    char name[PATH_SIZE];
    const char *filename = s->config->appendfilename;
    manifest_copy(&m, &s->durability->generation.manifest);
    manifest_drop_history(&m);
    manifest_forget(&m, m.files[m.count - 1].name);
    bool ok = true;
    for (size_t i = 0; i < m.count && ok; i++)
        ok = m.files[i].type != MANIFEST_INCREMENTAL || take_file(s, m.files[i].name, err);
    ok = ok && manifest_write(&m, s->config->backupdirname, filename, err);
    manifest_free(&m);
    if (!ok)
        return false;
    snprintf(name, sizeof(name), "%s.manifest", filename);
    add_name(s->backup, name);
    return true;
}

static bool seal(struct server *s, struct error *err)
{
    struct backup *b = s->backup;
    if (!durability_end_file(s, err))
        return false;
    if (!write_manifest(s, err)) {
        backup_log_broken(s, err->message);
        return false;
    }
    b->state = SEALED;
    b->end_ms = s->ks->wall_ms;
    durability_release(s);
    return true;
}

static void clean_up(struct server *s)
{
    struct backup *b = s->backup;
    remove_files(s);
    *b = (struct backup){0};
}

void backup_look(struct server *s)
{
    struct backup *b = s->backup;
    int64_t ttl = s->config->backup_sealed_ttl;
    if (b->state != SEALED || ttl == 0 || (s->ks->wall_ms - b->end_ms) / 1000 < ttl)
        return;
    log_notice("The sealed backup is removed: it is older than backup-sealed-ttl");
    clean_up(s);
}

void backup_init(struct server *s)
{
    s->backup = mem_zalloc(sizeof(*s->backup));
}

void backup_deinit(struct server *s)
{
    struct backup *b = s->backup;
    if (backup_in_progress(s))
        remove_files(s);
    for (size_t i = 0; i < b->count; i++)
        mem_free(b->names[i]);
    mem_free(b->names);
    mem_free(b);
    s->backup = NULL;
}

void backup_info(struct server *s, struct text *out)
{
    text_appendf(out, "backup_in_progress:%d\r\n", backup_in_progress(s));
}

/* ---- commands ---- */

static void reply_outcome(struct call *c, bool ok, const struct error *err)
{
    if (ok)
        reply_ok(c->reply);
    else
        reply_errorf(c->reply, "ERR %s", err->message);
}

void cmd_backup_start(struct call *c)
{
    struct error err = {0};
    struct server *s = c->server;
    if (backup_in_progress(s))
        reply_error(c->reply, "ERR A backup is already in progress");
    else if (s->backup->state == SEALED)
        reply_error(c->reply, "ERR There is a sealed backup: BACKUP CLEANUP removes it");
    else
        reply_outcome(c, start(s, c->in_exec, &err), &err);
}

void cmd_backup_seal(struct call *c)
{
    struct error err = {0};
    struct server *s = c->server;
    if (s->backup->state != INCREMENTING)
        reply_error(c->reply, "ERR No backup ready to seal");
    else if (stream_in_group(s->stream))
        reply_error(c->reply, "ERR BACKUP SEAL cannot stand between the writes of a transaction");
    else
        reply_outcome(c, seal(s, &err), &err);
}

void cmd_backup_abort(struct call *c)
{
    if (!backup_in_progress(c->server)) {
        reply_error(c->reply, "ERR No backup in progress");
        return;
    }
    fail(c->server, "aborted by user");
    reply_ok(c->reply);
}

void cmd_backup_cleanup(struct call *c)
{
    if (backup_in_progress(c->server)) {
        reply_error(c->reply, "ERR A backup is in progress: BACKUP ABORT ends it");
        return;
    }
    clean_up(c->server);
    reply_ok(c->reply);
}

void cmd_backup_status(struct call *c)
{
    const struct backup *b = c->server->backup;
    char number[24];
    reply_map(c->reply, 4);
    reply_bulk_cstr(c->reply, "state");
    reply_bulk_cstr(c->reply, state_name(b->state));
    reply_bulk_cstr(c->reply, "error");
    reply_bulk_cstr(c->reply, b->error.message);
    reply_bulk_cstr(c->reply, "start_time");
    snprintf(number, sizeof(number), "%lld", (long long)b->start_ms / 1000);
    reply_bulk_cstr(c->reply, number);
    reply_bulk_cstr(c->reply, "end_time");
    snprintf(number, sizeof(number), "%lld", (long long)b->end_ms / 1000);
    reply_bulk_cstr(c->reply, number);
}

void cmd_backup_list(struct call *c)
{
    const struct backup *b = c->server->backup;
    char *directory = os_absolute_path(c->server->config->backupdirname);
    reply_array(c->reply, b->count);
    for (size_t i = 0; i < b->count; i++) {
        struct text path = {0};
        text_appendf(&path, "%s/%s", directory, b->names[i]);
        reply_bulk(c->reply, slice_of(path.data, path.size));
        text_free(&path);
    }
    mem_free(directory);
}

void cmd_backup_help(struct call *c)
{
    static const char *const lines[] = {
        "START",
        "    Begin a backup in the directory backupdirname: a new base of the log is made.",
        "SEAL",
        "    End it: what is in memory now is in the backup, and nothing later.",
        "STATUS",
        "    How far it is.",
        "LIST",
        "    The files that it has so far, which do not change any more.",
        "ABORT",
        "    Give up one that is not sealed.",
        "CLEANUP",
        "    Remove the files of one that is sealed.",
    };
    reply_help(c, "BACKUP", lines, sizeof(lines) / sizeof(lines[0]));
}
