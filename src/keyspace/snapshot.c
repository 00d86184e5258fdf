/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Snapshots of the keyspace: the roots of all databases and one live epoch. Nothing is copied here;
 * from now on writers copy what they change (keyref_own, table_own, and the structures below).
 */
#include "base/mem.h"
#include "keyspace/keyspace.h"
#include "keyspace/libraries.h"

struct snapshot *snapshot_begin(struct keyspace *ks)
{
    size_t size = sizeof(struct snapshot) + (size_t)ks->db_count * sizeof(struct snapshot_db);
    struct snapshot *s = mem_alloc(size);
    s->db_count = ks->db_count;
    s->taken_ms = ks->now_ms;
    s->libraries = libraries_ref(ks->libraries);
    memcpy(s->marks, ks->epoch.marks, sizeof(s->marks));
    for (int i = 0; i < ks->db_count; i++) {
        s->dbs[i] = (struct snapshot_db){.table = ks->dbs[i].table,
                                         .expires = ks->dbs[i].expires,
                                         .timed = ks->dbs[i].timed};
        memcpy(s->dbs[i].changes, ks->dbs[i].changes, sizeof(s->dbs[i].changes));
    }
    s->epoch = epoch_snapshot_begin(&ks->epoch);
    return s;
}

void snapshot_note_done(struct snapshot *s, int db, uint32_t first_part, uint32_t last_part)
{
    /* The space goes with the table, also when databases have been swapped since. */
    epoch_snapshot_done(s->epoch, s->dbs[db].table.space, first_part, last_part);
}

void snapshot_end(struct keyspace *ks, struct snapshot *s)
{
    epoch_snapshot_end(&ks->epoch, s->epoch);
    libraries_unref(s->libraries);
    mem_free(s);
}
