/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/set_scratch.h"

void set_scratch_init(struct set_scratch *s, struct keyspace *ks, struct slice key)
{
    s->db = (struct db){.ks = ks, .sizes = ks->sizes_aside};
    table_init(&s->db.table, ks->dbs[0].table.type);
    s->ref = (struct keyref){.db = &s->db, .key = key, .hash = key_hash(key)};
}

void set_scratch_deinit(struct set_scratch *s)
{
    if (s->ref.entry)
        keyref_delete(&s->ref);
    table_clear(&s->db.table, &s->db.ks->epoch);
}

void set_scratch_move(struct set_scratch *s, struct keyref *to)
{
    if (to->entry)
        keyref_delete(to);
    if (s->ref.entry)
        keyref_give(to, keyref_take(&s->ref));
}
