/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The end of the log, when the server ends: in order, if its disk lets it.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "os/process.h"
#include "persist/log/stream.h"
#include "server/config.h"
#include "server/durability.h"

/* So long is a disk waited for where shutdown-timeout gives no time. */
#define END_MOST_S 10

/* What has to end before the log can be closed, and before its threads can be joined. */
static bool log_is_busy(struct durability *d)
{
    return writer_busy(d->writer);
}

static bool files_are_busy(struct durability *d)
{
    return !durability_take_left(d) || generation_is_busy(&d->generation);
}

/* What moves is waited for, as a slow disk may have much to do; one on which nothing moves for
 * shutdown-timeout seconds hangs. */
static bool wait_while(struct durability *d, bool (*busy)(struct durability *d))
{
    int64_t timeout_s = d->server->config->shutdown_timeout;
    int64_t most_us = 1000000 * (timeout_s > 0 ? timeout_s : END_MOST_S);
    int64_t since_us = clock_monotonic_us();
    uint64_t before = 0;
    while (busy(d)) {
        uint64_t now = d->writer == NULL ? 0
                                         : writer_written_lsn(d->writer) +
                                               writer_durable_lsn(d->writer) +
                                               writer_file_size(d->writer, NULL);
        if (now != before)
            since_us = clock_monotonic_us();
        before = now;
        if (clock_monotonic_us() - since_us > most_us)
            return false;
        os_sleep_us(1000);
    }
    return true;
}

static bool close_log(struct durability *d, struct error *err)
{
    static const char *const hangs = "its disk does not answer";
    if (!wait_while(d, log_is_busy))
        return error_set(err, ERROR_SYSTEM, "%s", hangs);
    if (d->state == DURABILITY_FAILED) {
        *err = d->failure;
        return false;
    }
    if (d->state != DURABILITY_ON)
        return true;
    writer_close(d->writer);
    if (!wait_while(d, log_is_busy))
        return error_set(err, ERROR_SYSTEM, "%s", hangs);
    return writer_wait(d->writer, err);
}

bool durability_end_loses(const struct server *s, uint64_t *writes, uint64_t *bytes)
{
    const struct durability *d = s->durability;
    if (d->writer == NULL || d->refusal == NULL || s->is_replica ||
        s->config->appendfsync == FSYNC_ALWAYS)
        return false;
    *writes = durability_at_risk(d, bytes);
    return *bytes > 0;
}

bool durability_end(struct server *s, bool *hangs)
{
    struct durability *d = s->durability;
    struct error err = {0};
    bool ok = true;
    d->ended = true;
    generation_cancel(&d->generation);
    if (d->writer != NULL) {
        stream_publish(s->stream);
        writer_published(d->writer, s->now_us);
        ok = close_log(d, &err);
    }
    if (!ok) {
        uint64_t bytes, writes = durability_at_risk(d, &bytes), end = stream_end(s->stream);
        log_warning("The log could not be ended in order: %s", err.message);
        log_warning("At most %llu writes (%llu bytes) are not known to be on the disk, of which "
                    "%llu bytes were not even given to the system%s",
                    (unsigned long long)writes, (unsigned long long)bytes,
                    (unsigned long long)(end - writer_written_lsn(d->writer)),
                    s->config->appendfsync == FSYNC_ALWAYS ? "; none of them was acknowledged"
                                                           : "");
        /* The line that says that it was ended is all that lacks. */
        ok = bytes == 0;
    }
    *hangs = (d->writer != NULL && writer_busy(d->writer)) || !wait_while(d, files_are_busy);
    return ok;
}
