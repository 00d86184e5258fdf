/* SPDX-License-Identifier: BSD-3-Clause
 *
 * SCAN: the keys of a database, step by step. The cursor is a place in hash order, so nothing is
 * kept between the steps.
 */
#include "base/mem.h"
#include "command/scan_args.h"
#include "handlers.h"

/* The keys found by a step; the reply needs the cursor before them. */
struct found_keys {
    const struct call *c;
    const struct scan_args *args;
    const struct entry **entries;
    size_t count, room;
};

static bool wanted(const struct found_keys *found, const struct entry *e)
{
    if (entry_has_expired(found->c->ks, e))
        return false;
    if (found->args->has_type && !slice_is(found->args->type, entry_type_name(entry_type(e))))
        return false;
    return scan_matches(found->args, entry_key(e));
}

static void visit(void *ctx, void *item)
{
    struct found_keys *found = ctx;
    if (!wanted(found, item))
        return;
    if (found->count == found->room) {
        found->room = found->room ? 2 * found->room : 32;
        found->entries = mem_realloc(found->entries, found->room * sizeof(*found->entries));
    }
    found->entries[found->count++] = item;
}

void cmd_scan(struct call *c)
{
    uint64_t cursor;
    struct scan_args args;
    if (!scan_parse_cursor(c, c->argv[1], &cursor) || !scan_parse_options(c, 2, SCAN_KEYS, &args))
        return;
    struct found_keys found = {.c = c, .args = &args};
    /* In an almost empty table many buckets hold few keys: the work is bounded, too. */
    size_t max_buckets = args.count < SIZE_MAX / 10 ? args.count * 10 : SIZE_MAX;
    cursor = table_scan(&c->db->table, cursor, args.count, max_buckets, visit, &found);

    scan_reply_cursor(c, cursor);
    reply_array(c->reply, found.count);
    for (size_t i = 0; i < found.count; i++)
        reply_bulk(c->reply, entry_key(found.entries[i]));
    mem_free(found.entries);
}
