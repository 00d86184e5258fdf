/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Snapshots of the keyspace: the roots of all databases and one live epoch. Nothing is copied here;
 * from now on writers copy what they change (keyref_own, table_own, and the structures below).
 */
#include "base/mem.h"
#include "keyspace/keyspace.h"

/* With a second snapshot live, what one has passed the other may still have to read. */
static void forget_walkers(struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++)
        ks->dbs[i].table.walked = NULL;
}

struct snapshot *snapshot_begin(struct keyspace *ks)
{
    size_t size = sizeof(struct snapshot) + (size_t)ks->db_count * sizeof(struct snapshot_db);
    struct snapshot *s = mem_alloc(size);
    s->db_count = ks->db_count;
    s->taken_ms = ks->now_ms;
    memcpy(s->marks, ks->epoch.marks, sizeof(s->marks));
    bool only = !epoch_has_snapshot(&ks->epoch);
    forget_walkers(ks);
    for (int i = 0; i < ks->db_count; i++) {
        s->dbs[i] = (struct snapshot_db){.table = ks->dbs[i].table, .expires = ks->dbs[i].expires};
        memcpy(s->dbs[i].changes, ks->dbs[i].changes, sizeof(s->dbs[i].changes));
        if (only)
            ks->dbs[i].table.walked = &s->dbs[i].walked;
    }
    s->epoch = epoch_snapshot_begin(&ks->epoch);
    return s;
}

void snapshot_note_walked(struct snapshot *s, int db, uint64_t hash)
{
    __atomic_store_n(&s->dbs[db].walked, hash, __ATOMIC_RELEASE);
}

void snapshot_end(struct keyspace *ks, struct snapshot *s)
{
    forget_walkers(ks);
    epoch_snapshot_end(&ks->epoch, s->epoch);
    mem_free(s);
}
