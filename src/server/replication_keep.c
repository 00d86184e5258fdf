/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Replication as a replica: what has to be given up for a primary. The thread of the
 * synchronisation (replication/sync.h) writes it to a divergence journal; what cannot be told one
 * by one is kept whole: where the log was rewritten since the ways parted, or there is none and
 * memory does not go back so far, or the primary is of a history that nobody here knows, so that
 * nobody can say what of it the primary has, and this server has written as a primary itself. All
 * of the data goes into an RDB file, `divergence-<date>-<lsn>.rdb` in `dir`, proven and synced,
 * before the primary is asked for everything.
 */
#include <stdio.h>

#include "base/log.h"
#include "base/mem.h"
#include "os/file.h"
#include "persist/log/recovery_files.h"
#include "persist/log/stream.h"
#include "persist/save_job.h"
#include "server/announce.h"
#include "server/config.h"
#include "server/durability.h"
#include "server/persistence.h"
#include "server/replication.h"

/* A disk that did not take it is not asked again at once. */
#define RETRY_US 5000000

static struct primary_link *link_of(const struct server *s)
{
    return &s->replication->link;
}

/* "divergence-20261121-171059-1234.rdb": what begins at this LSN, or is of it, and is kept now. */
static void set_name(const struct server *s, char *out, size_t size, uint64_t lsn,
                     const char *ending)
{
    char stamp[RECOVERY_STAMP_SIZE];
    recovery_stamp(s->ks->now_ms, stamp);
    snprintf(out, size, "divergence-%s-%llu.%s", stamp, (unsigned long long)lsn, ending);
}

/* ---- one by one ---- */

/* From where on there are effects one by one: in the log, from *logged on, or in memory. */
uint64_t replication_keep_first(const struct server *s, uint64_t *logged)
{
    const struct durability *d = s->durability;
    uint64_t end = replication_lsn(s), kept = s->stream != NULL ? stream_first(s->stream) : end;
    if (d->state != DURABILITY_ON || !generation_first_lsn(&d->generation, logged))
        *logged = end;
    return *logged <= link_of(s)->diverged_lsn || *logged < kept ? *logged : kept;
}

/* What there is behind the place where the primary's history went another way: from the log, which
 * is on the disk, or from memory. */
void replication_keep_journal(struct server *s, const char *history, struct sync_journal *j)
{
    struct primary_link *l = link_of(s);
    uint64_t end = replication_lsn(s), logged, first = replication_keep_first(s, &logged);
    *j = (struct sync_journal){.from = first > l->diverged_lsn ? first : l->diverged_lsn,
                               .until = end};
    if (j->from > l->diverged_lsn)
        log_warning("ALARM: what is given up, LSN %llu to %llu, cannot be written to a divergence "
                    "journal one by one: neither the log, if there is one, nor memory goes back so "
                    "far. All of the data is in %s",
                    (unsigned long long)l->diverged_lsn,
                    (unsigned long long)(j->from < end ? j->from : end),
                    l->kept_now ? l->kept : "no file");
    if (j->from >= end) {
        l->diverged = false;
        l->given_up = true;
        return;
    }
    if (logged <= j->from) {
        snprintf(j->log_directory, sizeof(j->log_directory), "%s", s->config->appenddirname);
        snprintf(j->log_filename, sizeof(j->log_filename), "%s", s->config->appendfilename);
    } else {
        j->bytes = mem_alloc((size_t)(end - j->from));
        stream_copy(s->stream, j->from, end, j->bytes);
    }
    set_name(s, j->path, sizeof(j->path), j->from, "aof");
    snprintf(j->history, sizeof(j->history), "%s", history);
    snprintf(l->journal_try, sizeof(l->journal_try), "%s", j->path);
    l->journal_try_from = j->from;
    l->journal_try_until = end;
}

void replication_keep_note_journal(struct server *s)
{
    struct primary_link *l = link_of(s);
    l->diverged = false;
    l->given_up = true;
    l->journals++;
    memcpy(l->journal, l->journal_try, sizeof(l->journal));
    l->journal_from = l->journal_try_from;
    l->journal_until = l->journal_try_until;
    announce_replication(s, "diverged", l->journal);
    log_warning("ALARM: this server's LSN %llu to %llu are not in the primary's history. They are "
                "given up, and kept in "
                "%s, which `holdfast log` reads",
                (unsigned long long)l->journal_from, (unsigned long long)l->journal_until,
                l->journal);
}

/* ---- as a whole ---- */

static void note_kept(struct server *s)
{
    struct primary_link *l = link_of(s);
    memcpy(l->kept, l->keep_try, sizeof(l->kept));
    l->kept_lsn = l->keep_try_lsn;
    l->kept_now = true;
    l->keep = false;
    log_warning("ALARM: what this server has at LSN %llu is not in the primary's history, or "
                "nobody knows how much of it. All of it is kept in %s, an RDB file",
                (unsigned long long)l->kept_lsn, l->kept);
    announce_replication(s, "diverged", l->kept);
}

static void note_failed(struct server *s, const struct error *err)
{
    struct primary_link *l = link_of(s);
    if (s->config->replica_accept_regression) {
        log_warning("ALARM: what is given up could not be kept (%s), and "
                    "replica-accept-regression is yes",
                    err->message);
        l->keep = false;
        return;
    }
    if (strcmp(l->failure.message, err->message) != 0)
        log_warning("ALARM: what this server would give up for the primary cannot be kept: %s. It "
                    "stays as it is until it can, or until replica-accept-regression is yes",
                    err->message);
    l->failure = *err;
    error_prefix(&l->failure, "what is given up cannot be kept");
    l->keep_retry_us = s->now_us + RETRY_US;
}

static void take_result(struct server *s)
{
    struct primary_link *l = link_of(s);
    struct save_result result;
    struct error err = {0}, ignored;
    bool ok = save_job_finish(l->keep_job, &result, &err);
    bool wanted = !l->keep_unwanted;
    l->keep_job = NULL;
    l->keep_unwanted = false;
    if (ok && wanted)
        note_kept(s);
    else if (ok)
        os_unlink(l->keep_try, &ignored);
    else if (wanted)
        note_failed(s, &err);
}

static void on_ended(void *ctx)
{
    struct server *s = ctx;
    struct primary_link *l = link_of(s);
    if (l->keep_job == NULL || !save_job_ended(l->keep_job))
        return;
    take_result(s);
    l->connect_now = true;
}

/* On a thread of the job. */
static void wake(void *ctx)
{
    struct server *s = ctx;
    loop_post(s->loop, on_ended, s);
}

static void begin(struct server *s)
{
    struct primary_link *l = link_of(s);
    struct error err = {0};
    struct save_options options;
    l->keep_try_lsn = replication_lsn(s);
    set_name(s, l->keep_try, sizeof(l->keep_try), l->keep_try_lsn, "rdb");
    persistence_options(s, &options);
    options.aux_count = 0;
    replication_put_aux(s, &options, l->keep_try_lsn);
    replication_put_lineage(s, &options);
    snprintf(options.path, sizeof(options.path), "%s", l->keep_try);
    log_notice("What has to be given up for the primary is saved to %s first", l->keep_try);
    l->keep_job = save_job_start(s->ks, snapshot_begin(s->ks), &options, wake, s, &err);
    if (l->keep_job == NULL)
        note_failed(s, &err);
}

bool replication_keep_step(struct server *s)
{
    struct primary_link *l = link_of(s);
    if (l->keep_job != NULL || !l->keep)
        return l->keep_job == NULL;
    if (l->kept_now || l->data_lost) {
        l->keep = false;
        return true;
    }
    if (s->now_us >= l->keep_retry_us)
        begin(s);
    return !l->keep && l->keep_job == NULL;
}

void replication_keep_forget(struct server *s)
{
    struct primary_link *l = link_of(s);
    l->keep = l->kept_now = false;
    l->keep_retry_us = 0;
    if (l->keep_job == NULL)
        return;
    save_job_cancel(l->keep_job);
    l->keep_unwanted = true;
}

void replication_keep_deinit(struct server *s)
{
    struct primary_link *l = link_of(s);
    if (l->keep_job == NULL)
        return;
    replication_keep_forget(s);
    take_result(s);
}
