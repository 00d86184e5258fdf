/* SPDX-License-Identifier: BSD-3-Clause
 *
 * XDELEX and XACKDEL: deleting entries with regard to the groups that they are pending in, as Redis
 * 8.2 has them. Their effects are XACK and XDEL.
 */
#include "command/stream_common.h"
#include "handlers.h"

struct delete_args {
    enum stream_refs refs;
    int first; /* of the ids, which go on to the end */
};

/* [KEEPREF|DELREF|ACKED] IDS numids id ..., from argv[at] on. */
static bool parse_args(struct call *c, int at, struct delete_args *a)
{
    int64_t count;
    struct stream_id id;
    struct slice word = c->argv[at];
    *a = (struct delete_args){STREAM_KEEPREF, 0};
    if (stream_refs_parse(word, &a->refs))
        at++;
    if (at + 1 >= c->argc || !slice_is(c->argv[at], "ids")) {
        reply_syntax_error(c->reply);
        return false;
    }
    if (!call_int64_range(c, c->argv[at + 1], 1, INT64_MAX, &count,
                          "ERR Number of IDs must be a positive integer"))
        return false;
    a->first = at + 2;
    if (count != c->argc - a->first) {
        reply_error(c->reply, "ERR The `numids` parameter must match the number of arguments");
        return false;
    }
    for (int i = a->first; i < c->argc; i++) {
        if (!call_stream_id_strict(c, c->argv[i], 0, &id, NULL))
            return false;
    }
    return true;
}

enum delete_reply { DELETE_NONE = -1, DELETE_DONE = 1, DELETE_REFERRED = 2 };

struct deleted {
    uint64_t entries, references;
};

/* The entry alone. */
static enum delete_reply delete_entry(struct call *c, struct slice key, struct stream_root *s,
                                      enum stream_refs refs, struct stream_id id, struct deleted *d)
{
    if (!stream_find(s, id, NULL))
        return DELETE_NONE;
    if (refs == STREAM_ACKED && stream_is_referred_to(s, id))
        return DELETE_REFERRED;
    if (refs == STREAM_DELREF)
        d->references += stream_remove_references(c, key, s, id);
    stream_delete(s, &c->ks->epoch, id);
    d->entries++;
    char text[STREAM_ID_TEXT_SIZE];
    CALL_EFFECT(c, c->db, SLICE("XDEL"), key, slice_of(text, stream_format_id(text, id)));
    return DELETE_DONE;
}

static void tell(struct call *c, struct slice key, const struct deleted *d)
{
    if (d->references > 0)
        call_changed_aside(c, c->db, key, EVENT_STREAM, NULL, d->references);
    if (d->entries > 0)
        call_changed(c, c->db, key, EVENT_STREAM, "xdel", d->entries);
}

/* Every id is replied to with DELETE_NONE: there is no stream, or no such group. */
static void reply_none(struct call *c, const struct delete_args *a)
{
    reply_array(c->reply, (size_t)(c->argc - a->first));
    for (int i = a->first; i < c->argc; i++)
        reply_int(c->reply, DELETE_NONE);
}

/* All of them; with a group, those that are pending there, which are acknowledged first. */
static void delete_all(struct call *c, struct keyref *ref, const struct delete_args *a,
                       const struct stream_group *g)
{
    struct stream_root *s = stream_own(ref);
    struct deleted d = {0};
    call_effect_group(c);
    reply_array(c->reply, (size_t)(c->argc - a->first));
    for (int i = a->first; i < c->argc; i++) {
        struct stream_id id;
        stream_id_parse(c->argv[i], 0, &id);
        if (g != NULL && !stream_pending_remove(s, &c->ks->epoch, g, id)) {
            reply_int(c->reply, DELETE_NONE);
            continue;
        }
        if (g != NULL) {
            d.references++;
            stream_effect_ack(c, ref->key, c->argv[2], id);
        }
        enum delete_reply reply = delete_entry(c, ref->key, s, a->refs, id, &d);
        /* It was acknowledged; that the entry had gone before is no matter. */
        reply_int(c->reply, g != NULL && reply == DELETE_NONE ? DELETE_DONE : reply);
    }
    tell(c, ref->key, &d);
}

void cmd_xdelex(struct call *c)
{
    struct keyref ref;
    struct delete_args a;
    if (!call_stream_write(c, c->argv[1], &ref) || !parse_args(c, 2, &a))
        return;
    if (!ref.entry)
        reply_none(c, &a);
    else
        delete_all(c, &ref, &a, NULL);
}

void cmd_xackdel(struct call *c)
{
    struct keyref ref;
    struct delete_args a;
    struct stream_group g;
    if (!call_stream_write(c, c->argv[1], &ref) || !parse_args(c, 3, &a))
        return;
    if (!ref.entry || !stream_group_find(stream_root_of(ref.entry), c->argv[2], &g))
        reply_none(c, &a);
    else
        delete_all(c, &ref, &a, &g);
}
