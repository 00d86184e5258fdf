/* SPDX-License-Identifier: BSD-3-Clause
 *
 * What becomes of an entry that is deleted or trimmed while groups refer to it: KEEPREF, DELREF and
 * ACKED, which Redis has since 8.2.
 */
#include "base/mem.h"
#include "base/number.h"
#include "command/stream_common.h"

bool stream_refs_parse(struct slice word, enum stream_refs *refs)
{
    if (slice_is(word, "keepref"))
        *refs = STREAM_KEEPREF;
    else if (slice_is(word, "delref"))
        *refs = STREAM_DELREF;
    else if (slice_is(word, "acked"))
        *refs = STREAM_ACKED;
    else
        return false;
    return true;
}

bool stream_is_referred_to(const struct stream_root *s, struct stream_id id)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    struct stream_pending p;
    bool found = false;
    stream_group_iter_init(&it, s);
    while (!found && stream_group_iter_next(&it, &name, &g))
        found = stream_id_compare(g.last, id) < 0 || stream_pending_find(s, &g, id, &p);
    stream_name_iter_deinit(&it);
    return found;
}

uint64_t stream_remove_references(struct call *c, struct slice key, struct stream_root *s,
                                  struct stream_id id)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    uint64_t count = 0;
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g)) {
        if (!stream_pending_remove(s, &c->ks->epoch, &g, id))
            continue;
        stream_effect_ack(c, key, name, id);
        count++;
    }
    stream_name_iter_deinit(&it);
    return count;
}

/* No group has any entry up to `last` pending that is in the stream. Returns how many had. */
static uint64_t remove_references_up_to(struct call *c, struct slice key, struct stream_root *s,
                                        struct stream_id last)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    uint64_t count = 0;
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g)) {
        struct stream_pending p = {.id = s->first};
        while (stream_pending_from(s, &g, STREAM_ANY, p.id, &p) &&
               stream_id_compare(p.id, last) <= 0) {
            if (stream_find(s, p.id, NULL)) {
                stream_pending_remove(s, &c->ks->epoch, &g, p.id);
                stream_effect_ack(c, key, name, p.id);
                count++;
            }
            if (!stream_id_next(&p.id))
                break;
        }
    }
    stream_name_iter_deinit(&it);
    return count;
}

/* The last id that every group has read. */
static struct stream_id read_by_all(const struct stream_root *s)
{
    struct stream_name_iter it;
    struct stream_group g;
    struct slice name;
    struct stream_id last = STREAM_ID_MAX;
    stream_group_iter_init(&it, s);
    while (stream_group_iter_next(&it, &name, &g)) {
        if (stream_id_compare(g.last, last) < 0)
            last = g.last;
    }
    stream_name_iter_deinit(&it);
    return last;
}

/* Delete the oldest of the entries that nobody refers to, up to where trimming stops. */
static uint64_t trim_acked(struct call *c, struct slice key, struct stream_root *s,
                           const struct stream_trim *trim)
{
    struct stream_iter it;
    struct stream_item item;
    struct stream_id to = read_by_all(s), bound = STREAM_ID_MAX, *ids;
    uint64_t count = 0, most = s->length;
    /* Whole nodes only, which is to say: what of them may go. */
    if (trim->approximate && !stream_trim_last(s, trim, &bound))
        return 0;
    if (!trim->by_id)
        most = s->length > trim->max_length ? s->length - trim->max_length : 0;
    if (trim->by_id) {
        struct stream_id before = trim->min_id;
        if (!stream_id_prev(&before))
            return 0;
        bound = stream_id_compare(before, bound) < 0 ? before : bound;
    }
    if (stream_id_compare(bound, to) < 0)
        to = bound;
    if (most == 0)
        return 0;
    size_t room = 0;
    ids = NULL;
    stream_iter_init(&it, s, STREAM_ID_MIN, to, false);
    while (count < most && stream_iter_next(&it, &item)) {
        if (stream_is_referred_to(s, item.id))
            continue;
        if (count == room) {
            room = room * 2 + 16;
            ids = mem_realloc(ids, room * sizeof(*ids));
        }
        ids[count++] = item.id;
    }
    for (uint64_t i = 0; i < count; i++) {
        char text[STREAM_ID_TEXT_SIZE];
        stream_delete(s, &c->ks->epoch, ids[i]);
        CALL_EFFECT(c, c->db, SLICE("XDEL"), key, slice_of(text, stream_format_id(text, ids[i])));
    }
    mem_free(ids);
    return count;
}

uint64_t stream_trim_with_refs(struct call *c, struct slice key, struct stream_root *s,
                               const struct stream_trim *trim, enum stream_refs refs,
                               uint64_t *references)
{
    struct stream_id last;
    *references = 0;
    if (refs == STREAM_ACKED && stream_group_count(s) > 0)
        return trim_acked(c, key, s, trim);
    if (refs == STREAM_DELREF && stream_trim_last(s, trim, &last))
        *references = remove_references_up_to(c, key, s, last);
    uint64_t removed = stream_trim_front(s, &c->ks->epoch, trim);
    if (removed > 0) {
        char text[NUMBER_INT64_SIZE];
        CALL_EFFECT(c, c->db, SLICE("XTRIM"), key, SLICE("MAXLEN"), SLICE("="),
                    slice_of(text, number_format_int64(text, (int64_t)s->length)));
    }
    return removed;
}
