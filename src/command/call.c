/* SPDX-License-Identifier: BSD-3-Clause */
#include "command/call.h"

#include "base/number.h"
#include "command/table.h"
#include "persist/log/stream.h"
#include "persist/rdb/format.h"

/* What a command that writes does not find must be gone for whoever replays it, too: there it would
 * not have expired. Reads leave it to active expiry. */
static __attribute__((noinline)) void miss(struct call *c, struct slice key)
{
    call_missed(c, key);
    if (c->stream != NULL && c->command->flags & COMMAND_WRITE)
        db_expire(c->db, key, call_hash(c, key));
}

void call_missed(struct call *c, struct slice key)
{
    c->ks->miss_count++;
    if (c->ks->on_miss != NULL)
        c->ks->on_miss(c->ks->on_miss_ctx, c->db, key);
}

static inline struct entry *find(struct call *c, struct slice key)
{
    struct entry *e = db_find(c->db, key, call_hash(c, key));
    if (e == NULL) {
        miss(c, key);
        return NULL;
    }
    c->ks->hit_count++;
    if (!c->no_touch && !c->ks->lrm)
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
    if (ref->entry != NULL && (!c->no_touch || c->ks->lrm))
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

void call_count_read(struct call *c, const struct keyref *ref)
{
    if (ref->entry != NULL)
        c->ks->hit_count++;
    else
        call_missed(c, ref->key);
}

bool call_find_update(struct call *c, struct slice key, enum entry_type type, struct keyref *ref)
{
    bool found = call_find_write(c, key, type, ref);
    call_count_read(c, ref);
    return found;
}

void call_changed(struct call *c, struct db *db, struct slice key, enum event_class class,
                  const char *event, uint64_t changes)
{
    c->ks->dirty += changes;
    if (__builtin_expect(c->hooks != NULL && c->hooks->wanted, 0))
        c->hooks->changed(c, db, key, (int)class, event);
}

void call_changed_aside(struct call *c, struct db *db, struct slice key, enum event_class class,
                        const char *event, uint64_t changes)
{
    c->ks->dirty += changes;
    if (__builtin_expect(c->hooks != NULL && c->hooks->wanted, 0))
        c->hooks->changed(c, db, key, (int)class | EVENT_KEEPS_WATCH, event);
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

void call_effect_begin(struct call *c, const struct db *db, uint64_t argc)
{
    c->effect_given = true;
    stream_begin_append(c->stream, db->id, argc);
}

void call_effect_argument(struct call *c, struct slice argument)
{
    stream_put_argument(c->stream, argument);
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

void call_effect_set(struct call *c, const struct db *db, struct slice key, struct slice value,
                     int64_t due)
{
    if (c->stream == NULL)
        return;
    char text[NUMBER_INT64_SIZE];
    const struct slice argv[] = {SLICE("SET"), key, value,
                                 due == KEYREF_KEEP_DUE ? SLICE("KEEPTTL") : SLICE("PXAT"),
                                 slice_of(text, number_format_int64(text, due))};
    call_effect_put(c, db, argv, due == ENTRY_NO_EXPIRY ? 3 : due == KEYREF_KEEP_DUE ? 4 : 5);
}

void call_effect_restore(struct call *c, const struct db *db, struct slice key,
                         const struct entry *e)
{
    if (c->stream == NULL)
        return;
    struct rdb_writer w;
    rdb_writer_init(&w, 256, NULL, NULL);
    rdb_dump(&w, e);
    char due[NUMBER_INT64_SIZE], access[NUMBER_INT64_SIZE];
    bool expires = entry_due(e) != ENTRY_NO_EXPIRY;
    int64_t clock = c->ks->lfu ? entry_frequency(c->ks, e) : entry_idle_seconds(c->ks, e);
    const struct slice argv[] = {
        SLICE("RESTORE"),
        key,
        slice_of(due, number_format_int64(due, expires ? entry_due(e) : 0)),
        slice_of(w.buffer, w.used),
        SLICE("REPLACE"),
        SLICE("ABSTTL"),
        c->ks->lfu ? SLICE("FREQ") : SLICE("IDLETIME"),
        slice_of(access, number_format_int64(access, clock))};
    /* An idle time of nothing is what it has without being told. */
    call_effect_put(c, db, argv, clock != 0 || c->ks->lfu ? 8 : 6);
    rdb_writer_deinit(&w);
}

/* Whether the request's bytes are what encoding its arguments would give. The parser skips line
 * feeds without a look at them; everything else is as it has to be, or it would not have been
 * taken. */
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
