/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/save_commands.h"

#include "base/crc.h"
#include "persist/emit.h"
#include "persist/log/reader.h"
#include "persist/save_verify.h"

#define FUNCTIONS_BUFFER ((size_t)64 << 10)

static bool put_line(struct save_commands *c, enum annotation_kind kind)
{
    char line[ANNOTATION_MAX];
    const struct annotation a = {.kind = kind, .lsn = c->lsn, .ms = c->ms};
    return c->write(c->ctx, line, annotation_put(&a, &c->crc, line));
}

bool save_commands_put(struct save_commands *c, const void *data, size_t size, bool ends)
{
    if (size > 0 && !c->in_group) {
        if (!put_line(c, ANNOTATION_GROUP))
            return false;
        c->in_group = true;
    }
    c->crc = crc32c(c->crc, data, size);
    c->lsn += size;
    if (size > 0 && !c->write(c->ctx, data, size))
        return false;
    if (!ends || !c->in_group)
        return true;
    c->in_group = false;
    return put_line(c, ANNOTATION_COMMIT);
}

static bool flush_functions(void *ctx, const void *data, size_t size)
{
    return save_commands_put(ctx, data, size, false);
}

bool save_commands_begin(struct save_commands *c, const struct save_position *at, int64_t ms,
                         const struct libraries *functions)
{
    char line[ANNOTATION_MAX];
    struct annotation first = {
        .kind = ANNOTATION_BASE, .lsn = at->lsn, .ms = ms, .db = (uint32_t)at->db};
    memcpy(first.history, at->history, sizeof(first.history));
    c->ms = ms;
    if (!c->write(c->ctx, line, annotation_put(&first, &c->crc, line)))
        return false;
    if (functions == NULL || functions->count == 0)
        return true;
    struct rdb_writer w;
    struct emitter m;
    rdb_writer_init(&w, FUNCTIONS_BUFFER, flush_functions, c);
    emit_init(&m, &w, NULL, NULL);
    for (size_t i = 0; i < functions->count; i++)
        emit_function(&m, functions->codes[i]);
    c->commands = m.commands;
    bool ok = rdb_writer_flush(&w) && save_commands_put(c, NULL, 0, true);
    emit_deinit(&m);
    rdb_writer_deinit(&w);
    return ok;
}

bool save_commands_end(struct save_commands *c)
{
    return put_line(c, ANNOTATION_CLOSE);
}

/* What the reader says of the file is what it should be. */
static bool is_as_written(const struct save_commands *c, uint64_t size,
                          const struct save_counters *counters, enum log_read end,
                          const struct log_status *s, const char *path, struct error *err)
{
    if (end == LOG_READ_FAILED)
        return false;
    if (end != LOG_READ_END)
        return error_set(err, ERROR_CORRUPT, "%s: offset %llu: %s", path,
                         (unsigned long long)s->bad_offset, s->reason);
    uint64_t commands = c->commands + __atomic_load_n(&counters->commands, __ATOMIC_RELAXED);
    if (!s->base || s->crc != c->crc || s->size != size || s->commands != commands)
        return error_set(err, ERROR_CORRUPT,
                         "%s has %llu commands in %llu bytes, but %llu in %llu were written", path,
                         (unsigned long long)s->commands, (unsigned long long)s->size,
                         (unsigned long long)commands, (unsigned long long)size);
    return true;
}

bool save_commands_verify(const struct save_commands *c, const char *path, uint64_t size,
                          const struct save_options *options, struct os_polite *polite,
                          struct save_counters *counters, uint64_t *done, struct error *err)
{
    static const struct log_position start = {0};
    struct log_batch batch;
    struct save_pace pace;
    enum log_read end;
    uint64_t before = 0;
    struct log_reader *reader = log_reader_open(path, 0, &start, err);
    if (reader == NULL)
        return error_prefix(err, "the file was written, but could not be verified");
    log_batch_init(&batch);
    save_pace_begin(&pace);
    bool stopped = false;
    while (!stopped && (end = log_reader_next(reader, &batch, err)) == LOG_READ_GROUPS) {
        __atomic_store_n(done, batch.end, __ATOMIC_RELAXED);
        save_pace_wait(&pace, options, batch.end - before, counters);
        before = batch.end;
        if (polite != NULL)
            os_polite_check(polite);
        stopped = __atomic_load_n(&counters->stop, __ATOMIC_RELAXED);
    }
    bool ok = stopped ? error_set(err, ERROR_CANCELLED, "the save was cancelled")
                      : is_as_written(c, size, counters, end, log_reader_status(reader), path, err);
    log_reader_close(reader);
    log_batch_free(&batch);
    return ok || error_prefix(err, "the file was written, but could not be verified");
}
