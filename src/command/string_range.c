/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Strings in parts: APPEND, SETRANGE, GETRANGE.
 */
#include "command/string_common.h"
#include "handlers.h"

/* Whether a string of this size may be made. */
static bool check_size(struct call *c, uint64_t offset, uint64_t size)
{
    uint64_t total;
    if (__builtin_add_overflow(offset, size, &total) || total > c->ks->string_size_max) {
        reply_error(c->reply, "ERR string exceeds maximum allowed size (proto-max-bulk-len)");
        return false;
    }
    return true;
}

void cmd_append(struct call *c)
{
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL;
    if (!is_new && !check_size(c, string_size(ref.entry), c->argv[2].size))
        return;
    uint64_t size = string_append(&ref, c->argv[2]);
    string_changed(c, ref.key, is_new, "append");
    reply_int(c->reply, (int64_t)size);
}

void cmd_setrange(struct call *c)
{
    int64_t offset;
    if (!call_int64(c, c->argv[2], &offset, NULL))
        return;
    if (offset < 0) {
        reply_error(c->reply, "ERR offset is out of range");
        return;
    }
    struct keyref ref;
    if (!call_find_write(c, c->argv[1], ENTRY_STRING, &ref))
        return;
    bool is_new = ref.entry == NULL;
    struct slice value = c->argv[3];
    if (value.size == 0) {
        reply_int(c->reply, is_new ? 0 : (int64_t)string_size(ref.entry));
        return;
    }
    if (!check_size(c, (uint64_t)offset, value.size))
        return;
    uint64_t size = string_write(&ref, (uint64_t)offset, value);
    string_changed(c, ref.key, is_new, "setrange");
    reply_int(c->reply, (int64_t)size);
}

void cmd_getrange(struct call *c)
{
    int64_t start, end;
    if (!call_int64(c, c->argv[2], &start, NULL) || !call_int64(c, c->argv[3], &end, NULL))
        return;
    struct entry *e;
    if (!call_find(c, c->argv[1], ENTRY_STRING, &e))
        return;
    int64_t size = e ? (int64_t)string_size(e) : 0;
    /* Both from the end and crossed: empty, even where clamping to 0 would let them meet. */
    bool crossed = start < 0 && end < 0 && start > end;
    if (start < 0)
        start = start + size < 0 ? 0 : start + size;
    if (end < 0)
        end = end + size < 0 ? 0 : end + size;
    if (end >= size)
        end = size - 1;
    if (crossed || start > end) {
        reply_bulk(c->reply, slice_of("", 0));
        return;
    }
    char buf[NUMBER_INT64_SIZE];
    uint64_t at = (uint64_t)start, left = (uint64_t)(end - start) + 1;
    reply_bulk_begin(c->reply, left);
    while (left > 0) {
        struct slice run = string_run(e, at, left, buf);
        reply_append(c->reply, run);
        at += run.size;
        left -= run.size;
    }
    reply_bulk_end(c->reply);
}

void cmd_substr(struct call *c)
{
    cmd_getrange(c);
}
