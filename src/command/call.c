/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/call.h"

#include "base/number.h"
#include "command/table.h"
#include "persist/log/stream.h"

static inline struct entry *find(struct call *c, struct slice key)
{
    struct entry *e = db_find(c->db, key, call_hash(c, key));
    if (e == NULL) {
        c->ks->miss_count++;
        return NULL;
    }
    c->ks->hit_count++;
    if (!c->no_touch)
        entry_touch(c->ks, e);
    return e;
}

bool call_find(struct call *c, struct slice key, enum entry_type type, struct entry **e)
{
    *e = find(c, key);
    if (*e != NULL && entry_type(*e) != type) {
        reply_wrong_type(c->reply);
        return false;
    }
    return true;
}

struct entry *call_find_any(struct call *c, struct slice key)
{
    return find(c, key);
}

void call_find_write_any(struct call *c, struct slice key, struct keyref *ref)
{
    keyref_find(ref, c->db, key, call_hash(c, key));
    if (ref->entry != NULL && !c->no_touch)
        entry_touch(c->ks, ref->entry);
}

bool call_find_write(struct call *c, struct slice key, enum entry_type type, struct keyref *ref)
{
    call_find_write_any(c, key, ref);
    if (ref->entry != NULL && entry_type(ref->entry) != type) {
        reply_wrong_type(c->reply);
        return false;
    }
    return true;
}

void call_changed(struct call *c, struct db *db, struct slice key, enum event_class class,
                  const char *event, uint64_t changes)
{
    c->ks->dirty += changes;
    if (__builtin_expect(c->hooks != NULL && c->hooks->wanted, 0))
        c->hooks->changed(c, db, key, (int)class, event);
}

void call_effect_put(struct call *c, const struct db *db, const struct slice *argv, int argc)
{
    if (c->stream == NULL)
        return;
    c->effect_given = true;
    stream_append(c->stream, db->id, argv, argc);
}

void call_effect_group(struct call *c)
{
    if (c->stream == NULL || c->effect_group)
        return;
    c->effect_group = true;
    stream_begin_group(c->stream);
}

void call_effect_due(struct call *c, const struct db *db, struct slice key, int64_t due)
{
    char text[NUMBER_INT64_SIZE];
    CALL_EFFECT(c, db, SLICE("PEXPIREAT"), key, slice_of(text, number_format_int64(text, due)));
}

void call_effect_delete(struct call *c, const struct db *db, struct slice key)
{
    CALL_EFFECT(c, db, SLICE("DEL"), key);
}

/* Whether the request's bytes are what encoding its arguments would give. The parser skips line feeds
 * without a look at them; everything else is as it has to be, or it would not have been taken. */
static bool request_is_plain(struct slice request, const struct slice *argv, int argc)
{
    const char *p = request.data + 1;
    while (*p != '\r')
        p++;
    bool plain = p[1] == '\n';
    for (int i = 0; i < argc; i++) {
        const char *data = argv[i].data, *end = data + argv[i].size;
        plain &= data[-1] == '\n' && end[0] == '\r' && end[1] == '\n';
    }
    return plain;
}

void call_end_effects(struct call *c, const struct db *db, bool changed)
{
    if (changed && !c->effect_given) {
        if (c->request.size != 0 && request_is_plain(c->request, c->argv, c->argc))
            stream_append_request(c->stream, db->id, c->request);
        else
            stream_append(c->stream, db->id, c->argv, c->argc);
    }
    if (c->effect_group)
        stream_end_group(c->stream);
    c->effect_given = c->effect_group = false;
}

bool call_int64(struct call *c, struct slice s, int64_t *out, const char *error)
{
    if (number_parse_int64(s, out))
        return true;
    if (error != NULL)
        reply_error(c->reply, error);
    else
        reply_not_integer(c->reply);
    return false;
}

bool call_int64_range(struct call *c, struct slice s, int64_t low, int64_t high, int64_t *out,
                      const char *error)
{
    if (!call_int64(c, s, out, error))
        return false;
    if (*out >= low && *out <= high)
        return true;
    if (error != NULL)
        reply_error(c->reply, error);
    else
        reply_errorf(c->reply, "ERR value is out of range, value must between %lld and %lld",
                     (long long)low, (long long)high);
    return false;
}

bool call_double(struct call *c, struct slice s, double *out, const char *error)
{
    if (number_parse_double(s, out))
        return true;
    if (error != NULL)
        reply_error(c->reply, error);
    else
        reply_not_float(c->reply);
    return false;
}
