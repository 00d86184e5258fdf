/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyspace/changes.h"

#include <assert.h>

#include "base/mem.h"
#include "keyspace/keyspace.h"

/* Chunks double up to this, so that a few names take little. A longer name has one of its own. */
#define CHUNK_FIRST 1024U
#define CHUNK_MOST (64U << 10)

/* Names, each after its size in 4 bytes. `next` and `used` are written by the executor after a
 * snapshot was taken, too; a reader goes by the snapshot's count and reads only what was there. */
struct deleted_chunk {
    struct deleted_chunk *next;
    uint32_t size, used;
    uint32_t count; /* atomic: a reader may come to the last chunk while it is filled */
    char bytes[];
};

static void list_add(struct deleted_list *list, struct slice key)
{
    uint32_t need = (uint32_t)(sizeof(uint32_t) + key.size);
    struct deleted_chunk *chunk = list->last;
    if (!chunk || chunk->size - chunk->used < need) {
        uint32_t size = chunk ? chunk->size * 2 : CHUNK_FIRST;
        if (size > CHUNK_MOST)
            size = CHUNK_MOST;
        if (size < need)
            size = need;
        struct deleted_chunk *fresh = mem_alloc(sizeof(*fresh) + size);
        *fresh = (struct deleted_chunk){.size = size};
        if (chunk)
            chunk->next = fresh;
        else
            list->first = fresh;
        list->last = chunk = fresh;
    }
    uint32_t key_size = (uint32_t)key.size;
    memcpy(chunk->bytes + chunk->used, &key_size, sizeof(key_size));
    memcpy(chunk->bytes + chunk->used + sizeof(key_size), key.data, key.size);
    chunk->used += need;
    __atomic_store_n(&chunk->count, chunk->count + 1, __ATOMIC_RELAXED);
    list->count++;
}

static void list_free(struct deleted_list *list)
{
    for (struct deleted_chunk *chunk = list->first, *next; chunk; chunk = next) {
        next = chunk->next;
        mem_free(chunk);
    }
    *list = (struct deleted_list){0};
}

/* --- marks -------------------------------------------------------------------------------------
 */

int changes_begin(struct keyspace *ks)
{
    for (int i = 0; i < EPOCH_MARKS; i++) {
        struct change_mark *mark = &ks->marks[i];
        if (mark->since)
            continue;
        /* One that no other mark has had. */
        *mark = (struct change_mark){.since = ks->epoch.now++};
        for (int d = 0; d < ks->db_count; d++) {
            mark->keys += ks->dbs[d].table.count;
            ks->dbs[d].changes[i].origin = d;
        }
        epoch_set_mark(&ks->epoch, (unsigned)i, mark->since);
        return i;
    }
    return -1;
}

void changes_end(struct keyspace *ks, int mark)
{
    epoch_set_mark(&ks->epoch, (unsigned)mark, 0);
    for (int d = 0; d < ks->db_count; d++) {
        list_free(&ks->dbs[d].changes[mark].deleted);
        ks->dbs[d].changes[mark].emptied = false;
    }
    ks->marks[mark] = (struct change_mark){0};
}

const char *changes_lost(const struct keyspace *ks, int mark)
{
    return ks->marks[mark].lost;
}

/* The lists stay until changes_end, as a snapshot may be reading them. */
static void lose(struct keyspace *ks, int mark, const char *why)
{
    ks->marks[mark].lost = why;
    epoch_set_mark(&ks->epoch, (unsigned)mark, 0);
}

void changes_lose(struct keyspace *ks, const char *why)
{
    for (int i = 0; i < EPOCH_MARKS; i++) {
        if (ks->epoch.marks[i])
            lose(ks, i, why);
    }
}

void changes_note_emptied(struct db *db)
{
    for (int i = 0; i < EPOCH_MARKS; i++) {
        if (db->ks->epoch.marks[i])
            db->changes[i].emptied = true;
    }
}

void changes_note_deleted(struct db *db, uint32_t at_marks, struct slice key)
{
    struct keyspace *ks = db->ks;
    for (int i = 0; i < EPOCH_MARKS; i++) {
        if (!(at_marks >> i & 1))
            continue;
        struct change_mark *mark = &ks->marks[i];
        mark->deleted++;
        mark->deleted_bytes += key.size + sizeof(uint32_t);
        if ((mark->deleted > CHANGES_DELETED_LEAST && mark->deleted > mark->keys / 4) ||
            mark->deleted_bytes > CHANGES_DELETED_BYTES)
            lose(ks, i, "too many keys have been deleted since the last one");
        else
            list_add(&db->changes[i].deleted, key);
    }
}

/* --- seen from a snapshot ----------------------------------------------------------------------
 */

int snapshot_mark_of(const struct snapshot *s, uint64_t since)
{
    for (int i = 0; i < EPOCH_MARKS; i++) {
        if (since != 0 && s->marks[i] == since)
            return i;
    }
    return -1;
}

bool snapshot_deleted(const struct snapshot *s, int db, int mark,
                      bool (*fn)(void *ctx, struct slice key), void *ctx)
{
    const struct snapshot_db *d = &s->dbs[db];
    const struct deleted_chunk *chunk = d->changes[mark].deleted.first;
    uint64_t left = d->changes[mark].emptied ? 0 : d->changes[mark].deleted.count;
    while (left) {
        const char *at = chunk->bytes;
        uint64_t count = __atomic_load_n(&chunk->count, __ATOMIC_RELAXED);
        for (uint64_t n = 0; n < count && left; n++, left--) {
            uint32_t size;
            memcpy(&size, at, sizeof(size));
            struct slice key = slice_of(at + sizeof(size), size);
            at += sizeof(size) + size;
            /* One that has been put in again is among the changed ones. */
            if (!table_find(&d->table, key_hash(key), key.data, key.size) && !fn(ctx, key))
                return false;
        }
        if (left)
            chunk = chunk->next;
    }
    return true;
}
