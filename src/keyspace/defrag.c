/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The walk's place is a database, a segment of it by hash and a slot in it, and, while a large
 * value is under way, that value's key and a place in it. All of them are only hints: they may be
 * anything, and what changes meanwhile makes the walk at most pass something over or look at it
 * twice.
 */
#include "keyspace/defrag.h"

#include "base/mem.h"

/* Blocks between two looks at the clock: 5 us or so, where they move 10 to 30. */
#define RUN 32

/* A place in a value: which of its structures, and where in that. */
struct value_place {
    uint32_t part;
    uint64_t at;
};

struct defrag {
    struct keyspace *ks;
    int db;
    struct table_cursor cursor;
    char *key; /* of the value that is under way; NULL: none is */
    size_t key_size;
    int key_db;
    struct value_place place;
    bool key_moved; /* something of it has */
    struct defrag_stats stats;
    /* The step that is running. */
    int64_t end_us;
    int64_t (*clock_us)(void);
    uint64_t run, next_look;
};

struct defrag *defrag_new(struct keyspace *ks)
{
    struct defrag *d = mem_zalloc(sizeof(*d));
    d->ks = ks;
    return d;
}

static void forget_value(struct defrag *d)
{
    mem_free(d->key);
    d->key = NULL;
}

void defrag_free(struct defrag *d)
{
    forget_value(d);
    mem_free(d);
}

void defrag_restart(struct defrag *d)
{
    forget_value(d);
    d->db = 0;
    d->cursor = (struct table_cursor){0, 0};
}

const struct defrag_stats *defrag_get_stats(const struct defrag *d)
{
    return &d->stats;
}

void defrag_reset_stats(struct defrag *d)
{
    d->stats = (struct defrag_stats){0};
}

static uint64_t blocks_seen(const struct defrag *d)
{
    return d->stats.blocks.moved + d->stats.blocks.stayed;
}

static bool time_is_up(struct defrag *d)
{
    if (blocks_seen(d) < d->next_look)
        return false;
    d->next_look = blocks_seen(d) + d->run;
    return d->clock_us() >= d->end_us;
}

static uint64_t move_in_stream(struct stream_root *s, struct mem_mover *m, struct value_place p)
{
    struct btree *trees[] = {&s->nodes, &s->groups, &s->pending, &s->owned};
    if (p.part < sizeof(trees) / sizeof(trees[0]))
        return btree_move(trees[p.part], m, p.at);
    if (s->tail)
        s->tail = mem_move(m, s->tail);
    return 0;
}

static uint64_t move_in_zset(struct zset_root *z, struct mem_mover *m, struct value_place p)
{
    if (p.part == 0)
        return btree_move(&z->tree, m, p.at);
    return dict_move(p.part == 1 ? &z->index : &z->crowd, m, p.at);
}

/* Some blocks of what hangs below an entry. False when that was the last of it. */
static bool move_below(struct entry *e, struct mem_mover *m, struct value_place *p)
{
    void *value = (void *)(uintptr_t)entry_value(e);
    uint32_t parts = 1;
    switch (entry_encoding(e)) {
    case ENTRY_ROPE:
        p->at = rope_move(value, m, p->at);
        break;
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT:
        p->at = dict_move(value, m, p->at);
        break;
    case ENTRY_BTREE:
        p->at = btree_move(value, m, p->at);
        break;
    case ENTRY_ZTREE:
        p->at = move_in_zset(value, m, *p);
        parts = 3;
        break;
    case ENTRY_STREAM_TREES:
        p->at = move_in_stream(value, m, *p);
        parts = 5;
        break;
    case ENTRY_INT:
    case ENTRY_BYTES:
    case ENTRY_LISTPACK:
    case ENTRY_INTSET:
        return false;
    }
    if (p->at == 0)
        p->part++;
    return p->part < parts;
}

static void count_key(struct defrag *d, bool moved)
{
    if (moved)
        d->stats.keys_moved++;
    else
        d->stats.keys_stayed++;
}

/* Moves below the entry from d->place on, until that is through (true) or, with the time up, put
 * down. */
static bool go_through_value(struct defrag *d, struct entry *e)
{
    struct mem_mover *m = &d->stats.blocks;
    uint64_t moved = m->moved;
    bool up = false, more = true;
    while (more && !up) {
        more = move_below(e, m, &d->place);
        up = time_is_up(d);
    }
    d->key_moved |= m->moved != moved;
    if (!more)
        count_key(d, d->key_moved);
    return !more;
}

/* One key, as table_move gives it. */
static void *visit(void *ctx, void *item, bool *stop)
{
    struct defrag *d = ctx;
    uint64_t moved = d->stats.blocks.moved;
    struct entry *e = mem_move(&d->stats.blocks, item);
    d->key_moved = d->stats.blocks.moved != moved;
    d->place = (struct value_place){0, 0};
    if (!entry_has_root(e)) {
        count_key(d, d->key_moved);
    } else if (!go_through_value(d, e)) {
        struct slice key = entry_key(e);
        d->key = mem_dup(key.data, key.size);
        d->key_size = key.size;
        d->key_db = d->db;
        *stop = true;
        return e;
    }
    *stop = time_is_up(d);
    return e;
}

/* On with the value that is under way. False: the time is up. */
static bool resume_value(struct defrag *d)
{
    struct table *t = &d->ks->dbs[d->key_db].table;
    struct slice key = slice_of(d->key, d->key_size);
    struct entry *e = table_find(t, key_hash(key), key.data, key.size);
    /* The key may have gone, or be another by now. */
    if (e && entry_has_root(e) && !go_through_value(d, e))
        return false;
    forget_value(d);
    return true;
}

enum defrag_result defrag_step(struct defrag *d, int64_t budget_us, int64_t (*clock_us)(void),
                               uint64_t fields)
{
    struct keyspace *ks = d->ks;
    if (epoch_has_snapshot(&ks->epoch))
        return DEFRAG_RESTS;
    /* The entry that is watched may move. */
    size_watch_end(&ks->size_watch);
    d->clock_us = clock_us;
    d->end_us = clock_us() + budget_us;
    d->run = fields < RUN ? fields : RUN;
    d->next_look = blocks_seen(d) + d->run;
    if (d->key && !resume_value(d))
        return DEFRAG_MORE;
    while (d->db < ks->db_count) {
        struct table *t = &ks->dbs[d->db].table;
        if (!table_move(t, &d->stats.blocks, &d->cursor, visit, d))
            d->db++;
        if (d->key || clock_us() >= d->end_us)
            break;
    }
    if (d->key || d->db < ks->db_count)
        return DEFRAG_MORE;
    d->db = 0;
    return DEFRAG_DONE;
}
