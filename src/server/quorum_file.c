/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/quorum_file.h"

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

struct quorum_file *quorum_file_new(void (*wake)(void *ctx), void *ctx)
{
    struct quorum_file *f = mem_zalloc(sizeof(*f));
    f->wake = wake;
    f->ctx = ctx;
    f->saved.cap = f->wanted.cap = QUORUM_NO_CAP;
    return f;
}

/* ---- the form ---- */

static bool write_file(const struct quorum_state *q, struct error *err)
{
    struct text t = {0};
    text_appendf(&t, "holdfast-quorum 1\npromised %llu %s\nlog %llu %llu\n",
                 (unsigned long long)q->promised, q->promised_to[0] != '\0' ? q->promised_to : "-",
                 (unsigned long long)q->log_epoch, (unsigned long long)q->log_lsn);
    if (q->cap != QUORUM_NO_CAP)
        text_appendf(&t, "cap %llu\n", (unsigned long long)q->cap);
    text_appendf(&t, "%08x\n", crc32c(0, t.data, t.size));
    bool ok = os_file_replace(QUORUM_FILE, t.data, t.size, err);
    text_free(&t);
    return ok;
}

static bool parse(struct quorum_state *q, char *data, size_t size)
{
    unsigned long long promised, log_epoch, log_lsn, cap = QUORUM_NO_CAP;
    char name[CONFIG_NODE_NAME], crc[16];
    if (size < 9 || data[size - 1] != '\n')
        return false;
    snprintf(crc, sizeof(crc), "%08x\n", crc32c(0, data, size - 9));
    if (memcmp(crc, data + size - 9, 9) != 0)
        return false;
    data[size - 9] = '\0';
    int n = sscanf(data, "holdfast-quorum 1\npromised %llu %31s\nlog %llu %llu\ncap %llu\n", &promised,
                   name, &log_epoch, &log_lsn, &cap);
    if (n < 4)
        return false;
    q->promised = promised;
    snprintf(q->promised_to, sizeof(q->promised_to), "%s", strcmp(name, "-") == 0 ? "" : name);
    q->log_epoch = log_epoch;
    q->log_lsn = log_lsn;
    q->cap = n == 5 ? cap : QUORUM_NO_CAP;
    return true;
}

bool quorum_file_load(struct quorum_file *f, struct quorum_state *state, struct error *err)
{
    char *data;
    size_t size;
    *state = f->saved;
    if (!os_path_exists(QUORUM_FILE))
        return true;
    if (!os_file_read_whole(QUORUM_FILE, FILE_MAX, &data, &size, err))
        return false;
    bool ok = parse(state, data, size);
    mem_free(data);
    if (!ok)
        return error_set(err, ERROR_CORRUPT,
                         "%s is damaged: this node does not know what it has promised. If its data is "
                         "to be given up, remove the file together with the data",
                         QUORUM_FILE);
    f->saved = f->wanted = *state;
    return true;
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
    f->ok = write_file(&f->written, &f->err);
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
    f->ok = write_file(state, &f->err);
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
