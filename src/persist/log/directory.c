/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/directory.h"

#include "base/log.h"
#include "os/file.h"

bool log_directory_take(struct log_directory *d, const char *path, struct error *err)
{
    /* `dir` may be another one since. */
    os_dir_unlock(&d->lock);
    d->tried = os_dir_lock(path, &d->lock, err);
    if (d->tried || err->code == ERROR_EXISTS)
        return d->tried;
    d->tried = err->code != ERROR_NOT_FOUND;
    if (err->code == ERROR_UNSUPPORTED)
        log_warning("Nothing keeps a second server from this log: %s", err->message);
    *err = (struct error){0};
    return true;
}

void log_directory_take_new(struct log_directory *d, const char *path)
{
    struct error err = {0};
    if (!d->tried && !log_directory_take(d, path, &err)) {
        d->tried = true;
        log_warning("ALARM: two servers write one log: %s", err.message);
    }
}

bool log_directory_claim(struct log_directory *d, const char *path, const char *filename,
                         const struct manifest *known, struct error *err)
{
    struct manifest found;
    struct error ignored;
    os_dir_create(path, &ignored);
    if (!log_directory_take(d, path, err))
        return false;
    if (!manifest_read(&found, path, filename, err)) {
        if (err->code != ERROR_NOT_FOUND)
            return false;
        *err = (struct error){0};
        manifest_init(&found);
    }
    bool same = manifest_same_log(&found, known);
    manifest_free(&found);
    return same || error_set(err, ERROR_EXISTS,
                             "%s has the log of another server: start this one with it, or move it "
                             "out of the way and start this one anew",
                             path);
}

void log_directory_release(struct log_directory *d)
{
    os_dir_unlock(&d->lock);
    d->tried = false;
}
