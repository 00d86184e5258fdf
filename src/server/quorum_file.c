/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/quorum_file.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "os/file.h"
#include "os/thread.h"

#define FILE_MAX 4096
/* After a failure. */
#define RETRY_US 300000

struct quorum_file {
    const char *path;
    void (*wake)(void *ctx);
    void *ctx;
    struct quorum_state saved, wanted;
    bool unsure;      /* the last write failed: what it wrote may be there instead of `saved` */
    int64_t retry_us; /* not before then; monotonic */
    /* The one that is under way, by a thread of its own. */
    bool running;
    pthread_t thread;
    struct quorum_state written;
    struct error err;
    bool ok;
    bool ended; /* atomic */
};

struct quorum_file *quorum_file_new(const char *path, void (*wake)(void *ctx), void *ctx)
{
    struct quorum_file *f = mem_zalloc(sizeof(*f));
    f->path = path;
    f->wake = wake;
    f->ctx = ctx;
    f->saved.cap = f->wanted.cap = QUORUM_NO_CAP;
    return f;
}

/* ---- the form ---- */

#define FIRST_WORD "holdfast-quorum "

static void format(struct text *t, const struct quorum_state *q)
{
    text_appendf(t, FIRST_WORD "1\npromised %llu %s\nlog %llu %llu\n",
                 (unsigned long long)q->promised, q->promised_to[0] != '\0' ? q->promised_to : "-",
                 (unsigned long long)q->log_epoch, (unsigned long long)q->log_lsn);
    if (q->cap != QUORUM_NO_CAP)
        text_appendf(t, "cap %llu\n", (unsigned long long)q->cap);
    text_appendf(t, "%08x\n", crc32c(0, t->data, t->size));
}

static bool write_file(const char *path, const struct quorum_state *q, struct error *err)
{
    struct text t = {0};
    format(&t, q);
    bool ok = os_file_replace(path, t.data, t.size, err);
    text_free(&t);
    return ok;
}

/* The size of the last line, the crc's. */
#define CRC_LINE 9

static bool is_whole(const char *data, size_t size)
{
    char crc[CRC_LINE + 1];
    if (size < CRC_LINE)
        return false;
    snprintf(crc, sizeof(crc), "%08x\n", crc32c(0, data, size - CRC_LINE));
    return memcmp(crc, data + size - CRC_LINE, CRC_LINE) == 0;
}

/* True: it is in the exact form in which format() writes it. A line more may be one that binds this
 * node to something that this version does not know. */
static bool parse(struct quorum_state *q, const char *data, size_t size)
{
    unsigned long long promised, log_epoch, log_lsn, cap = QUORUM_NO_CAP;
    char name[CONFIG_NODE_NAME], copy[FILE_MAX + 1];
    struct text t = {0};
    static_assert(CONFIG_NODE_NAME == 32, "the width in the form below");
    memcpy(copy, data, size);
    copy[size] = '\0';
    int n = sscanf(copy, FIRST_WORD "1\npromised %llu %31s\nlog %llu %llu\ncap %llu\n", &promised,
                   name, &log_epoch, &log_lsn, &cap);
    if (n < 4)
        return false;
    q->promised = promised;
    snprintf(q->promised_to, sizeof(q->promised_to), "%s", strcmp(name, "-") == 0 ? "" : name);
    q->log_epoch = log_epoch;
    q->log_lsn = log_lsn;
    q->cap = n == 5 ? cap : QUORUM_NO_CAP;
    format(&t, q);
    bool same_form = t.size == size && memcmp(t.data, data, size) == 0;
    text_free(&t);
    return same_form;
}

/* What os_file_replace names the file that takes the path's place. */
static void remove_left_over(void *ctx, const char *name)
{
    const struct quorum_file *f = ctx;
    const char *slash = strrchr(f->path, '/'), *file = slash != NULL ? slash + 1 : f->path;
    size_t n = strlen(file);
    struct error ignored;
    char path[600];
    if (strncmp(name, file, n) != 0 || strncmp(name + n, ".tmp-", 5) != 0 ||
        name[n + 5 + strspn(name + n + 5, "0123456789")] != '\0')
        return;
    snprintf(path, sizeof(path), "%s%s", f->path, name + n);
    if (os_unlink(path, &ignored))
        log_notice("Removed a file that was not finished: %s", path);
}

bool quorum_file_load(struct quorum_file *f, struct quorum_state *state, struct error *err)
{
    char *data, dir[256];
    size_t size;
    struct error ignored;
    *state = f->saved;
    os_path_dir(f->path, dir, sizeof(dir));
    os_dir_list(dir, remove_left_over, f, &ignored);
    if (!os_file_read_whole(f->path, FILE_MAX, &data, &size, err))
        return err->code == ERROR_NOT_FOUND;
    bool whole = is_whole(data, size), ok = whole && parse(state, data, size);
    bool other =
        whole && size > strlen(FIRST_WORD) && memcmp(data, FIRST_WORD, strlen(FIRST_WORD)) == 0;
    mem_free(data);
    if (ok) {
        f->saved = f->wanted = *state;
        return true;
    }
    *state = f->saved;
    return other
               ? error_set(err, ERROR_UNSUPPORTED,
                           "%s is of a newer version of Holdfast: this node does not know what it "
                           "has promised. "
                           "Start it with that version",
                           f->path)
               : error_set(
                     err, ERROR_CORRUPT,
                     "%s is damaged: this node does not know what it has promised. If its data is "
                     "to be given up, remove the file together with the data",
                     f->path);
}

/* ---- writing ---- */

const struct quorum_state *quorum_file_saved(const struct quorum_file *f)
{
    return &f->saved;
}

static bool same(const struct quorum_state *a, const struct quorum_state *b)
{
    return a->promised == b->promised && strcmp(a->promised_to, b->promised_to) == 0 &&
           a->log_epoch == b->log_epoch && a->log_lsn == b->log_lsn && a->cap == b->cap;
}

bool quorum_file_is_sure(const struct quorum_file *f)
{
    return !f->unsure;
}

bool quorum_file_is_saved(const struct quorum_file *f, const struct quorum_state *state)
{
    return !f->running && !f->unsure && same(&f->saved, state);
}

static void note_end(struct quorum_file *f)
{
    f->unsure = !f->ok;
    if (f->ok) {
        f->saved = f->written;
        return;
    }
    log_warning("The state of the quorum is not on the disk: %s", f->err.message);
    f->retry_us = clock_monotonic_us() + RETRY_US;
}

static void run(void *arg)
{
    struct quorum_file *f = arg;
    void (*wake)(void *) = f->wake;
    void *ctx = f->ctx;
    f->ok = write_file(f->path, &f->written, &f->err);
    __atomic_store_n(&f->ended, true, __ATOMIC_RELEASE);
    wake(ctx);
}

/* What is under way ends. */
static void finish(struct quorum_file *f)
{
    if (!f->running)
        return;
    pthread_join(f->thread, NULL);
    f->running = false;
    note_end(f);
}

static void begin(struct quorum_file *f)
{
    struct error err = {0};
    if (f->running || quorum_file_is_saved(f, &f->wanted) || clock_monotonic_us() < f->retry_us)
        return;
    f->written = f->wanted;
    f->ended = false;
    f->running = os_thread_start(&f->thread, "hf-quorum", run, f, &err);
    if (!f->running) {
        log_warning("The state of the quorum is not on the disk: %s", err.message);
        f->retry_us = clock_monotonic_us() + RETRY_US;
    }
}

void quorum_file_save(struct quorum_file *f, const struct quorum_state *state)
{
    f->wanted = *state;
    begin(f);
}

void quorum_file_step(struct quorum_file *f)
{
    if (f->running && __atomic_load_n(&f->ended, __ATOMIC_ACQUIRE))
        finish(f);
    begin(f);
}

bool quorum_file_save_now(struct quorum_file *f, const struct quorum_state *state)
{
    finish(f);
    f->wanted = f->written = *state;
    if (quorum_file_is_saved(f, state))
        return true;
    f->ok = write_file(f->path, state, &f->err);
    note_end(f);
    return f->ok;
}

void quorum_file_free(struct quorum_file *f)
{
    if (f == NULL)
        return;
    finish(f);
    mem_free(f);
}
