/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Fuzzes what recovery reads. The first byte says what the rest is:
 *   0: a file of the log, as it is
 *   1: the inside of a commit group, which is put between lines with right checksums
 *   2: a manifest       3: a line that may be an annotation
 *
 * Besides not crashing: a file cut at the end of what is valid is valid as a whole and gives the
 * same groups; a manifest and an annotation that are accepted are written as they were read.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"
#include "persist/log/manifest.h"
#include "persist/log/reader.h"
#include "tests/unit/persist/log/log_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char path[64];
static int fd = -1;
static volatile char sink;

static void set_file(const void *data, size_t size)
{
    if (fd < 0) {
        fd = memfd_create("log", 0);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    if (ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
}

static void check_batch(const struct log_batch *b, uint64_t *end)
{
    for (size_t g = 0; g < b->group_count; g++) {
        const struct log_group *group = &b->groups[g];
        if (group->offset < *end || group->end <= group->offset)
            abort();
        *end = group->end;
        for (size_t i = 0; i < group->command_count; i++) {
            const struct log_command *c = &b->commands[group->first_command + i];
            if (c->argc == 0 || c->offset < group->offset || c->offset >= group->end)
                abort();
            for (size_t a = 0; a < c->argc; a++) {
                struct slice s = b->args[c->first_arg + a];
                if (s.size > 0)
                    sink = (char)(s.data[0] ^ s.data[s.size - 1]);
            }
        }
    }
    if (b->command_count > 0 && !b->commands[b->command_count - 1].unit)
        abort();
}

static enum log_read read_all(struct log_status *status)
{
    static const struct log_position none = {0};
    struct error err = {0};
    struct log_batch b;
    uint64_t end = 0;
    struct log_reader *r = log_reader_open(path, 0, &none, &err);
    if (r == NULL)
        abort();
    log_batch_init(&b);
    enum log_read result;
    while ((result = log_reader_next(r, &b, &err)) == LOG_READ_GROUPS)
        check_batch(&b, &end);
    *status = *log_reader_status(r);
    log_reader_close(r);
    log_batch_free(&b);
    if (result == LOG_READ_FAILED || status->valid_end > status->size || end > status->valid_end)
        abort();
    if (result == LOG_READ_END && status->valid_end != status->size)
        abort();
    return result;
}

static void fuzz_file(const void *data, size_t size)
{
    struct log_status first, second;
    set_file(data, size);
    if (read_all(&first) == LOG_READ_END)
        return;
    if (ftruncate(fd, (off_t)first.valid_end) != 0)
        abort();
    if (read_all(&second) != LOG_READ_END || second.groups != first.groups ||
        second.lsn != first.lsn || second.crc != first.crc)
        abort();
}

static void fuzz_group(const char *data, size_t size)
{
    struct log_bytes l = {.lsn = 7};
    log_begin(&l, 1);
    for (int i = 0; i < 2; i++) {
        log_group_begin(&l);
        text_append(&l.text, data, size);
        l.lsn += size;
        log_group_end(&l, 2 + i);
    }
    fuzz_file(l.text.data, l.text.size);
    text_free(&l.text);
}

static void fuzz_manifest(struct slice text)
{
    struct manifest m, again;
    struct error err = {0};
    struct text first = {0}, second = {0};
    if (!manifest_parse(&m, text, &err))
        return;
    manifest_format(&m, &first);
    if (!manifest_parse(&again, text_slice(&first), &err) || !again.ours)
        abort();
    manifest_format(&again, &second);
    if (!slice_equal(text_slice(&first), text_slice(&second)))
        abort();
    manifest_free(&m);
    manifest_free(&again);
    text_free(&first);
    text_free(&second);
}

static void fuzz_annotation(struct slice line)
{
    struct annotation a;
    char out[ANNOTATION_MAX + 16];
    if (!annotation_parse(line, &a))
        return;
    size_t size = annotation_format(&a, out);
    if (a.kind != ANNOTATION_GROUP)
        size += annotation_finish(a.crc, out + size);
    if (!slice_equal(line, slice_of(out, size)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const char *rest = (const char *)data + 1;
    switch (data[0] % 4) {
    case 0:
        fuzz_file(rest, size - 1);
        break;
    case 1:
        fuzz_group(rest, size - 1);
        break;
    case 2:
        fuzz_manifest(slice_of(rest, size - 1));
        break;
    default:
        fuzz_annotation(slice_of(rest, size - 1));
    }
    return 0;
}
