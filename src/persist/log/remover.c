/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/remover.h"

#include <pthread.h>
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "os/thread.h"

struct remover {
    char *directory;
    struct manifest files;
    void (*wake)(void *ctx);
    void *ctx;
    pthread_t thread;
    bool *gone;
    bool ended; /* atomic */
};

static bool remove_file(const struct remover *r, const char *name, struct error *err)
{
    char path[sizeof(((struct os_file *)0)->path)];
    int n = snprintf(path, sizeof(path), "%s/%s", r->directory, name);
    if (n < 0 || (size_t)n >= sizeof(path))
        return error_set(err, ERROR_INVALID, "the path is too long: %.100s", name);
    return os_unlink(path, err) || err->code == ERROR_NOT_FOUND;
}

static void run(void *arg)
{
    struct remover *r = arg;
    for (size_t i = 0; i < r->files.count; i++) {
        const struct manifest_file *f = &r->files.files[i];
        struct error err = {0};
        if (f->type != MANIFEST_HISTORY)
            continue;
        r->gone[i] = remove_file(r, f->name, &err);
        if (!r->gone[i])
            log_warning("A file of the log that is not needed any more stays: %s", err.message);
    }
    struct error err = {0};
    if (!os_dir_sync(r->directory, &err))
        log_warning("%s", err.message);
    __atomic_store_n(&r->ended, true, __ATOMIC_RELEASE);
    r->wake(r->ctx);
}

static void free_remover(struct remover *r)
{
    manifest_free(&r->files);
    mem_free(r->gone);
    mem_free(r->directory);
    mem_free(r);
}

struct remover *remover_start(const char *directory, const struct manifest *files,
                              void (*wake)(void *ctx), void *ctx, struct error *err)
{
    struct remover *r = mem_zalloc(sizeof(*r));
    r->directory = mem_dup(directory, strlen(directory));
    manifest_copy(&r->files, files);
    r->gone = mem_zalloc((files->count + 1) * sizeof(*r->gone));
    r->wake = wake;
    r->ctx = ctx;
    if (os_thread_start(&r->thread, "hf-remove", run, r, err))
        return r;
    free_remover(r);
    return NULL;
}

bool remover_ended(const struct remover *r)
{
    return __atomic_load_n(&r->ended, __ATOMIC_ACQUIRE);
}

void remover_finish(struct remover *r, struct manifest *m)
{
    pthread_join(r->thread, NULL);
    for (size_t i = 0; i < r->files.count; i++) {
        if (r->gone[i])
            manifest_forget(m, r->files.files[i].name);
    }
    free_remover(r);
}
