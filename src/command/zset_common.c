/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/zset_common.h"

void zset_tell(struct call *c, struct slice key, bool is_new, const char *event, uint64_t changes)
{
    if (is_new)
        call_changed(c, c->db, key, EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, key, EVENT_ZSET, event, changes);
}

void zset_tell_if_gone(struct call *c, const struct keyref *ref)
{
    if (!ref->entry)
        call_changed(c, c->db, ref->key, EVENT_GENERIC, "del", 0);
}

void zset_reply_begin(struct reply *r, uint64_t count, bool with_scores)
{
    reply_array(r, with_scores && r->protocol == 2 ? count * 2 : count);
}

void zset_reply_item(struct reply *r, const struct zset_item *item, bool with_scores)
{
    if (with_scores && r->protocol > 2)
        reply_array(r, 2);
    reply_bulk(r, item->member);
    if (with_scores)
        reply_double(r, item->score);
}

void zset_store(struct call *c, struct slice key, struct zset_builder *b, const char *event)
{
    uint64_t count = zset_builder_count(b);
    struct entry *e = zset_builder_finish(b, key, ENTRY_NO_EXPIRY);
    struct keyref ref;
    call_find_write_any(c, key, &ref);
    bool is_new = !ref.entry;
    if (!is_new)
        keyref_delete(&ref);
    reply_int(c->reply, (int64_t)count);
    if (e) {
        entry_set_clock(e, entry_fresh_clock(c->ks));
        keyref_give(&ref, e);
        zset_tell(c, key, is_new, event, 1);
    } else if (!is_new) {
        call_changed(c, c->db, key, EVENT_GENERIC, "del", 1);
    }
}
