/* SPDX-License-Identifier: BSD-3-Clause
 *
 * DUMP and RESTORE: one value in the form that it has in an RDB file.
 */
#include "handlers.h"

#include "persist/rdb/format.h"

void cmd_dump(struct call *c)
{
    struct entry *e = call_find_any(c, c->argv[1]);
    if (!e) {
        reply_null(c->reply);
        return;
    }
    struct rdb_writer w;
    rdb_writer_init(&w, 256, NULL, NULL);
    rdb_dump(&w, e);
    reply_bulk(c->reply, slice_of(w.buffer, w.used));
    rdb_writer_deinit(&w);
}

struct restore_options {
    bool replace, absolute;
    int64_t idle, freq; /* -1: not given */
};

static bool parse_options(struct call *c, struct restore_options *o)
{
    *o = (struct restore_options){.idle = -1, .freq = -1};
    for (int i = 4; i < c->argc; i++) {
        bool more = i + 1 < c->argc;
        if (slice_is(c->argv[i], "replace")) {
            o->replace = true;
        } else if (slice_is(c->argv[i], "absttl")) {
            o->absolute = true;
        } else if (slice_is(c->argv[i], "idletime") && more && o->freq < 0) {
            if (!call_int64(c, c->argv[++i], &o->idle, NULL))
                return false;
            if (o->idle < 0) {
                reply_error(c->reply, "ERR Invalid IDLETIME value, must be >= 0");
                return false;
            }
        } else if (slice_is(c->argv[i], "freq") && more && o->idle < 0) {
            if (!call_int64(c, c->argv[++i], &o->freq, NULL))
                return false;
            if (o->freq < 0 || o->freq > 255) {
                reply_error(c->reply, "ERR Invalid FREQ value, must be >= 0 and <= 255");
                return false;
            }
        } else {
            reply_syntax_error(c->reply);
            return false;
        }
    }
    return true;
}

/* The expiry that the time-to-live argument means; false when it replied with an error. */
static bool parse_due(struct call *c, const struct restore_options *o, int64_t *due)
{
    int64_t ttl;
    if (!call_int64(c, c->argv[2], &ttl, NULL))
        return false;
    if (ttl < 0) {
        reply_error(c->reply, "ERR Invalid TTL value, must be >= 0");
        return false;
    }
    *due = ENTRY_NO_EXPIRY;
    if (ttl == 0)
        return true;
    if (o->absolute)
        *due = ttl;
    else if (__builtin_add_overflow(ttl, c->now_ms, due))
        *due = INT64_MAX - 1;
    if (*due == ENTRY_NO_EXPIRY)
        *due = ENTRY_NO_EXPIRY - 1; /* the last millisecond stands for none */
    return true;
}

static void set_access(struct keyspace *ks, struct entry *e, const struct restore_options *o)
{
    /* Half a turn of the clock is the longest that can be told from the future. */
    const int64_t idle_max = 1 << 23;
    entry_set_clock(e, entry_fresh_clock(ks));
    if (o->freq >= 0)
        entry_set_frequency(ks, e, (uint32_t)o->freq);
    if (o->idle > 0)
        entry_set_idle_seconds(ks, e, (uint32_t)(o->idle < idle_max ? o->idle : idle_max));
}

void cmd_restore(struct call *c)
{
    struct slice key = c->argv[1];
    struct restore_options o;
    struct keyref ref;
    int64_t due;
    if (!parse_options(c, &o))
        return;
    call_find_write_any(c, key, &ref);
    if (ref.entry && !o.replace) {
        reply_error(c->reply, "BUSYKEY Target key name already exists.");
        return;
    }
    if (!parse_due(c, &o, &due))
        return;

    struct error err;
    struct entry *e;
    struct rdb_loader *loader = rdb_loader_new(&c->ks->epoch, &c->ks->limits);
    if (!rdb_restore(c->argv[3], key, due, c->ks->later_rdb, loader, &e, &err)) {
        reply_error(c->reply, err.code == ERROR_INVALID
                                  ? "ERR DUMP payload version or checksum are wrong"
                                  : "ERR Bad data format");
        rdb_loader_free(loader);
        return;
    }
    bool replaced = ref.entry != NULL;
    if (replaced)
        keyref_delete(&ref);
    if (due <= c->now_ms && !c->ks->lazy_expire_paused && !c->ks->importing) {
        /* It has expired already: all that is left of the command is that the old key is gone. */
        rdb_drop_entry(loader, e);
        if (replaced) {
            call_changed(c, c->db, key, EVENT_GENERIC, "del", 1);
            call_effect_delete(c, c->db, key);
        }
    } else {
        set_access(c->ks, e, &o);
        keyref_give(&ref, e);
        call_changed(c, c->db, key, EVENT_NEW_KEY, "new", 0);
        call_changed(c, c->db, key, EVENT_GENERIC, "restore", 1);
        /* Written anew: the payload may be of a version that not everybody reads. */
        call_effect_restore(c, c->db, key, ref.entry);
    }
    rdb_loader_free(loader);
    reply_ok(c->reply);
}

/* The same: what it may do besides is the cluster's matter. */
void cmd_restore_asking(struct call *c)
{
    cmd_restore(c);
}
