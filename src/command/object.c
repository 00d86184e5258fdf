/* SPDX-License-Identifier: BSD-3-Clause
 *
 * OBJECT: how a value is kept, and when it was last used.
 */
#include "command/call.h"
#include "command/help.h"
#include "handlers.h"
#include "type/encoding.h"

/* The entry of argv[2], without an access, and without an event if it is missing; NULL: null was
 * replied. */
static const struct entry *find_object(struct call *c)
{
    const struct entry *e = db_find(c->db, c->argv[2], call_hash(c, c->argv[2]));
    if (e != NULL) {
        c->ks->hit_count++;
    } else {
        c->ks->miss_count++;
        reply_null(c->reply);
    }
    return e;
}

void cmd_object_encoding(struct call *c)
{
    const struct entry *e = find_object(c);
    if (e)
        reply_bulk_cstr(c->reply, type_encoding_name(e, &c->ks->limits));
}

void cmd_object_refcount(struct call *c)
{
    const struct entry *e = find_object(c);
    if (e == NULL)
        return;
    reply_int(c->reply, type_reference_count(e));
}

void cmd_object_idletime(struct call *c)
{
    const struct entry *e = find_object(c);
    if (e == NULL)
        return;
    if (c->ks->lfu)
        reply_error(c->reply, "ERR An LFU maxmemory policy is selected, idle time not tracked. "
                              "Please note that when switching between policies at runtime LRU "
                              "and LFU data will take some time to adjust.");
    else
        reply_int(c->reply, entry_idle_seconds(c->ks, e));
}

void cmd_object_freq(struct call *c)
{
    const struct entry *e = find_object(c);
    if (e == NULL)
        return;
    if (!c->ks->lfu)
        reply_error(c->reply, "ERR An LFU maxmemory policy is not selected, access frequency not "
                              "tracked. Please note that when switching between policies at "
                              "runtime LRU and LFU data will take some time to adjust.");
    else
        reply_int(c->reply, entry_frequency(c->ks, e));
}

void cmd_object_help(struct call *c)
{
    static const char *const lines[] = {
        "ENCODING <key>",
        "    The name of the encoding in which the value of <key> is kept.",
        "FREQ <key>",
        "    The access counter of <key> under an LFU policy; it grows with the logarithm of the",
        "    number of accesses and decays with time.",
        "IDLETIME <key>",
        "    The seconds since <key> was last accessed.",
        "REFCOUNT <key>",
        "    The number of references to the value of <key>.",
    };
    reply_help(c, "OBJECT", lines, sizeof(lines) / sizeof(lines[0]));
}
