/* SPDX-License-Identifier: BSD-3-Clause */
#include "keyspace/keyspace.h"

#include <assert.h>

#include "base/mem.h"
#include "keyspace/libraries.h"

/* ---- what a table knows of entries ---- */

static bool item_match(const void *item, const char *key, size_t size)
{
    struct slice k = entry_key(item);
    return k.size == size && memcmp(k.data, key, size) == 0;
}

static bool item_same(const void *item, const void *other)
{
    return slice_equal(entry_key(item), entry_key(other));
}

static uint64_t item_hash(const void *item)
{
    return key_hash(entry_key(item));
}

static size_t item_size(const void *item)
{
    return entry_size(item);
}

static int64_t item_due(const void *item)
{
    return entry_next_due(item);
}

static void item_free_below(struct epoch_reclaim *ctx, void *item, uint64_t seen)
{
    const void *value = entry_value(item);
    switch (entry_encoding(item)) {
    case ENTRY_ROPE:
        rope_free_below(ctx, value, seen);
        break;
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT:
        dict_free_below(ctx, value, seen);
        break;
    case ENTRY_BTREE:
        btree_free_below(ctx, value, seen);
        break;
    case ENTRY_ZTREE: {
        const struct zset_root *z = value;
        btree_free_below(ctx, &z->tree, seen);
        dict_free_below(ctx, &z->index, seen);
        dict_free_below(ctx, &z->crowd, seen);
        break;
    }
    case ENTRY_STREAM_TREES: {
        const struct stream_root *s = value;
        btree_free_below(ctx, &s->nodes, seen);
        btree_free_below(ctx, &s->groups, seen);
        btree_free_below(ctx, &s->pending, seen);
        btree_free_below(ctx, &s->owned, seen);
        if (s->tail && s->tail->birth > seen)
            mem_free(s->tail);
        else if (s->tail)
            epoch_keep(ctx, EPOCH_BLOCK, s->tail, s->tail->birth);
        break;
    }
    default:
        break;
    }
}

static const struct table_type entry_table_type = {.match = item_match,
                                                   .hash = item_hash,
                                                   .size = item_size,
                                                   .due = item_due,
                                                   .free_below = item_free_below,
                                                   .same = item_same};

/* ---- the keyspace ---- */

/* splitmix64 (Steele, Lea, Flood, 2014): spreads one seed over the generator's state. */
static uint64_t split_mix(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

struct keyspace *keyspace_new(int db_count, bool with_reclaimer)
{
    assert(db_count > 0);
    table_register(&entry_table_type);
    dict_register();
    btree_register();
    rope_register();

    struct keyspace *ks = mem_zalloc(sizeof(*ks));
    epoch_init(&ks->epoch, with_reclaimer);
    ks->db_count = db_count;
    ks->dbs = mem_zalloc((size_t)db_count * sizeof(*ks->dbs));
    for (int i = 0; i < db_count; i++) {
        ks->dbs[i].ks = ks;
        ks->dbs[i].id = i;
        ks->dbs[i].sizes = mem_zalloc(sizeof(*ks->dbs[i].sizes));
        table_init(&ks->dbs[i].table, &entry_table_type);
        ks->dbs[i].table.space = (uint32_t)i;
    }
    ks->sizes_aside = mem_zalloc(sizeof(*ks->sizes_aside));
    epoch_set_spaces(&ks->epoch, (uint32_t)db_count);
    ks->limits = (struct encoding_limits){.hash_max_listpack_entries = 512,
                                          .hash_max_listpack_value = 64,
                                          .set_max_intset_entries = 512,
                                          .set_max_listpack_entries = 128,
                                          .set_max_listpack_value = 64,
                                          .zset_max_listpack_entries = 128,
                                          .zset_max_listpack_value = 64,
                                          .list_max_listpack_size = -2,
                                          .hll_sparse_max_bytes = 3000,
                                          .stream_node_max_bytes = 4096,
                                          .stream_node_max_entries = 100};
    ks->string_size_max = 512ULL << 20;
    ks->lfu_log_factor = 10;
    ks->lfu_decay_minutes = 1;
    /* This key is random in a server and fixed in tests: so is what follows from it. */
    uint64_t seed = hash_bytes_keyed(&hash_unique_key, "keyspace", 8);
    for (int i = 0; i < 4; i++)
        ks->random_state[i] = split_mix(&seed);
    return ks;
}

void keyspace_free(struct keyspace *ks)
{
    libraries_unref(ks->libraries);
    keyspace_flush(ks);
    for (int i = 0; i < EPOCH_MARKS; i++)
        changes_end(ks, i);
    epoch_reclaim_all(&ks->epoch);
    epoch_deinit(&ks->epoch);
    for (int i = 0; i < ks->db_count; i++)
        mem_free(ks->dbs[i].sizes);
    mem_free(ks->sizes_aside);
    mem_free(ks->dbs);
    mem_free(ks);
}

/* xoshiro256** (Blackman, Vigna: "Scrambled linear pseudorandom number generators", 2018). */
uint64_t keyspace_random(struct keyspace *ks)
{
    uint64_t *s = ks->random_state;
    uint64_t m = s[1] * 5;
    uint64_t result = (m << 7 | m >> 57) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

uint64_t keyspace_random_below(struct keyspace *ks, uint64_t bound)
{
    __extension__ typedef unsigned __int128 wide;
    return (uint64_t)((wide)keyspace_random(ks) * bound >> 64);
}

const struct keysizes *db_keysizes(struct db *db)
{
    size_watch_end(&db->ks->size_watch);
    return db->sizes;
}

void db_flush(struct db *db)
{
    size_watch_drop(&db->ks->size_watch, db->sizes);
    table_clear(&db->table, &db->ks->epoch);
    changes_note_emptied(db);
    db->expires = 0;
    db->timed = 0;
    db->expire_cursor = 0;
    db->flush_count++;
}

void keyspace_flush(struct keyspace *ks)
{
    for (int i = 0; i < ks->db_count; i++)
        db_flush(&ks->dbs[i]);
}

void keyspace_swap(struct keyspace *ks, int a, int b)
{
    if (a == b)
        return;
    struct db *x = &ks->dbs[a], *y = &ks->dbs[b];
    struct table table = x->table;
    struct keysizes *sizes = x->sizes;
    uint64_t expires = x->expires, timed = x->timed, cursor = x->expire_cursor;
    size_watch_end(&ks->size_watch);
    x->table = y->table;
    x->sizes = y->sizes;
    x->expires = y->expires;
    x->timed = y->timed;
    x->expire_cursor = y->expire_cursor;
    y->table = table;
    y->sizes = sizes;
    y->expires = expires;
    y->timed = timed;
    y->expire_cursor = cursor;
    for (int i = 0; i < EPOCH_MARKS; i++) {
        struct db_changes changes = x->changes[i];
        x->changes[i] = y->changes[i];
        y->changes[i] = changes;
    }
    x->flush_count++;
    y->flush_count++;
}

void keyspace_exchange(struct keyspace *to, struct keyspace *from)
{
    assert(to->db_count == from->db_count);
    changes_lose(to, "data was loaded since the last one");
    size_watch_end(&to->size_watch);
    size_watch_end(&from->size_watch);
    for (int i = 0; i < to->db_count; i++) {
        struct db *x = &to->dbs[i], *y = &from->dbs[i];
        struct table table = x->table;
        struct keysizes *sizes = x->sizes;
        uint64_t expires = x->expires, timed = x->timed;
        assert(table.count == 0);
        x->table = y->table;
        x->sizes = y->sizes;
        x->expires = y->expires;
        x->timed = y->timed;
        x->expire_cursor = 0;
        x->flush_count++;
        y->table = table;
        y->sizes = sizes;
        y->expires = expires;
        y->timed = timed;
        y->expire_cursor = 0;
    }
}

void keyspace_discard(struct keyspace *ks, struct keyspace *from)
{
    for (int i = 0; i < from->db_count; i++) {
        size_watch_drop(&from->size_watch, from->dbs[i].sizes);
        table_clear(&from->dbs[i].table, &ks->epoch);
    }
    keyspace_free(from);
}

/* ---- finding ---- */

struct entry *db_find(const struct db *db, struct slice key, uint64_t hash)
{
    struct entry *e = table_find(&db->table, hash, key.data, key.size);
    if (e == NULL || __builtin_expect(entry_has_expired(db->ks, e), 0))
        return NULL;
    return e;
}

/* The key is past its expiry: tell of it and remove it. */
static void remove_expired(struct keyref *ref)
{
    struct keyspace *ks = ref->db->ks;
    if (ks->on_expire)
        ks->on_expire(ks->on_expire_ctx, ref->db, ref->key);
    keyref_delete(ref);
    ks->expired_count++;
}

bool db_expire(struct db *db, struct slice key, uint64_t hash)
{
    if (db->ks->lazy_expire_paused)
        return false;
    struct keyref ref = {.db = db,
                         .key = key,
                         .hash = hash,
                         .entry = table_find(&db->table, hash, key.data, key.size)};
    if (ref.entry == NULL || !entry_has_expired(db->ks, ref.entry))
        return false;
    remove_expired(&ref);
    return true;
}

void keyref_find(struct keyref *ref, struct db *db, struct slice key, uint64_t hash)
{
    ref->db = db;
    ref->key = key;
    ref->hash = hash;
    ref->entry = table_find(&db->table, hash, key.data, key.size);
    if (ref->entry == NULL || __builtin_expect(!entry_has_expired(db->ks, ref->entry), 1))
        return;
    if (db->ks->lazy_expire_paused)
        ref->entry = NULL;
    else
        remove_expired(ref);
}

/* ---- blocks ---- */

/* Whether blocks of the two sizes are of the same class of the allocator. */
static bool same_class(size_t a, size_t b)
{
    if (a == b)
        return true;
    /* Small classes, which most are of, are 16 bytes apart, and nothing is of 8. */
    if ((a | b) < 128)
        return (a + 15) / 16 == (b + 15) / 16;
    return mem_good_size(a) == mem_good_size(b);
}

/* A snapshot may still read a moved value's nodes where it stood before. */
static struct epoch value_view(const struct keyref *ref, const struct entry *e)
{
    const struct epoch *epoch = &ref->db->ks->epoch;
    if (e && e->flags & ENTRY_MOVED)
        return *epoch;
    return epoch_part(epoch, ref->db->table.space, ref->hash, 64);
}

struct epoch *keyref_part_epoch(const struct keyref *ref)
{
    /* The ref is its user's own, and the view a field that only this function fills. */
    struct epoch *view = (struct epoch *)(uintptr_t)&ref->view;
    *view = value_view(ref, ref->entry);
    return view;
}

/* Retire what hangs below a root. The root itself stays as it is: a snapshot may read it. */
static void retire_below(struct keyref *ref, const struct entry *e)
{
    struct epoch view = value_view(ref, e), *epoch = &view;
    const void *value = entry_value(e);
    switch (entry_encoding(e)) {
    case ENTRY_ROPE: {
        struct rope rope = *(const struct rope *)value;
        rope_clear(&rope, epoch);
        break;
    }
    case ENTRY_DICT:
    case ENTRY_TIMED_DICT: {
        struct dict dict = *(const struct dict *)value;
        dict_clear(&dict, epoch);
        break;
    }
    case ENTRY_BTREE: {
        struct btree tree = *(const struct btree *)value;
        btree_clear(&tree, epoch);
        break;
    }
    case ENTRY_ZTREE: {
        struct zset_root z = *(const struct zset_root *)value;
        btree_clear(&z.tree, epoch);
        dict_clear(&z.index, epoch);
        dict_clear(&z.crowd, epoch);
        break;
    }
    case ENTRY_STREAM_TREES: {
        struct stream_root s = *(const struct stream_root *)value;
        btree_clear(&s.nodes, epoch);
        btree_clear(&s.groups, epoch);
        btree_clear(&s.pending, epoch);
        btree_clear(&s.owned, epoch);
        if (s.tail)
            epoch_retire(epoch, s.tail, s.tail->size, s.tail->birth);
        break;
    }
    default:
        break;
    }
}

/* The block of an entry: it belongs to the part of the table where it stood. */
static void retire_block(const struct keyref *ref, struct entry *e, bool owned)
{
    const struct epoch *epoch = &ref->db->ks->epoch;
    if (owned || !epoch_has_snapshot(epoch)) {
        mem_free_sized(e, entry_size(e));
        return;
    }
    struct epoch view = epoch_part(epoch, ref->db->table.space, ref->hash, 64);
    epoch_retire_shared(&view, e, entry_size(e), true);
}

static bool item_has_due(const struct entry *e)
{
    return e->flags & ENTRY_EXPIRES || entry_encoding(e) == ENTRY_TIMED_DICT;
}

/* Before the entry itself is changed: whether it may be. Without a snapshot always. */
static bool entry_owned(struct keyref *ref)
{
    struct epoch *epoch = &ref->db->ks->epoch;
    if (!epoch_is_watched(epoch))
        return true;
    if (!epoch_has_snapshot(epoch)) {
        table_note_change(&ref->db->table, epoch, ref->hash, ref->entry);
        return true;
    }
    struct table_place place;
    table_own(&ref->db->table, epoch, ref->hash, ref->entry, &place);
    return table_item_owned(&ref->db->table, epoch, &place);
}

/* Put another block in the entry's place, and let go of the old one. */
static void replace_block(struct keyref *ref, struct entry *fresh)
{
    struct db *db = ref->db;
    struct epoch *epoch = &db->ks->epoch;
    struct entry *old = ref->entry;
    struct table_place place;
    table_own(&db->table, epoch, ref->hash, old, &place);
    bool owned = table_item_owned(&db->table, epoch, &place);
    table_replace(&db->table, &place, fresh);
    size_watch_move(&db->ks->size_watch, old, fresh);
    if (item_has_due(fresh))
        table_note_due(&db->table, &place, item_due(fresh));
    retire_block(ref, old, owned);
    ref->entry = fresh;
}

static void note_due(struct keyref *ref, int64_t due)
{
    struct db *db = ref->db;
    struct table_place place;
    table_own(&db->table, &db->ks->epoch, ref->hash, ref->entry, &place);
    table_note_due(&db->table, &place, due);
}

/* Whether it is a string of which put and resize know the size. */
static bool is_short(enum entry_encoding encoding)
{
    return encoding <= ENTRY_BYTES;
}

/* The entry's value is going to be changed. */
static inline void watch_size(struct keyref *ref)
{
    if (!is_short(entry_encoding(ref->entry)))
        size_watch_begin(&ref->db->ks->size_watch, ref->db->sizes, ref->entry);
}

static unsigned short_bin(enum entry_encoding encoding, size_t size)
{
    return encoding == ENTRY_INT ? keysizes_bin_of_int((int64_t)size) : keysizes_bin(size);
}

/* The value becomes another one, as keyref_put gives it. */
static inline void watch_new_size(struct keyref *ref, enum entry_encoding encoding, size_t size)
{
    struct entry *e = ref->entry;
    struct size_watch *w = &ref->db->ks->size_watch;
    struct keysizes *sizes = ref->db->sizes;
    if (!is_short(entry_encoding(e))) {
        size_watch_begin(w, sizes, e);
        return;
    }
    unsigned before = keysizes_bin_of_short(e);
    if (is_short(encoding)) {
        unsigned after = short_bin(encoding, size);
        if (before == after || w->entry == e)
            return;
        sizes->counts[ENTRY_STRING][before]--;
        sizes->counts[ENTRY_STRING][after]++;
    } else if (w->entry != e) {
        sizes->counts[ENTRY_STRING][before]--;
        size_watch_new(w, sizes, e);
    }
}

static void insert_block(struct db *db, uint64_t hash, struct entry *e)
{
    struct table_place place;
    table_insert(&db->table, &db->ks->epoch, hash, e, &place);
    if (__builtin_expect(!item_has_due(e), 1))
        return;
    table_note_due(&db->table, &place, item_due(e));
    db->expires += e->flags & ENTRY_EXPIRES ? 1 : 0;
    db->timed += entry_timed(e) > 0;
}

/* Give an owned block room for an expiry or take it away, moving all behind it (the key alone when
 * `with_value` is false), and set it. The block must be large enough. */
static void set_due_in_block(struct entry *e, int64_t due, bool with_value)
{
    bool had = e->flags & ENTRY_EXPIRES, has = due != ENTRY_NO_EXPIRY;
    if (had != has) {
        struct slice key = entry_key(e);
        const char *from = e->body + (had ? 8 : 0);
        const char *end = with_value ? entry_end(e) : key.data + key.size;
        size_t size = (size_t)(end - from);
        memmove(e->body + (has ? 8 : 0), from, size);
        e->flags ^= ENTRY_EXPIRES;
    }
    if (has)
        memcpy(e->body, &due, sizeof(due));
}

/* ---- writing ---- */

struct entry *keyref_own(struct keyref *ref)
{
    watch_size(ref);
    if (!entry_owned(ref))
        replace_block(ref, entry_clone(ref->entry));
    return ref->entry;
}

static struct entry *put_new(struct keyref *ref, int64_t due, enum entry_type type,
                             enum entry_encoding encoding, size_t value_size)
{
    struct db *db = ref->db;
    if (__builtin_expect(db->ks->lazy_expire_paused, 0)) {
        /* An expired key may stand there that keyref_find has hidden. */
        ref->entry = table_find(&db->table, ref->hash, ref->key.data, ref->key.size);
        if (ref->entry)
            keyref_delete(ref);
    }
    struct entry *e = entry_new(ref->key, due, type, encoding, value_size);
    entry_set_clock(e, entry_fresh_clock(db->ks));
    insert_block(db, ref->hash, e);
    if (is_short(encoding))
        db->sizes->counts[ENTRY_STRING][short_bin(encoding, value_size)]++;
    else
        size_watch_new(&db->ks->size_watch, db->sizes, e);
    ref->entry = e;
    return e;
}

struct entry *keyref_put(struct keyref *ref, int64_t due, enum entry_type type,
                         enum entry_encoding encoding, size_t value_size)
{
    struct db *db = ref->db;
    struct entry *old = ref->entry;
    if (old == NULL)
        return put_new(ref, due == KEYREF_KEEP_DUE ? ENTRY_NO_EXPIRY : due, type, encoding,
                       value_size);

    watch_new_size(ref, encoding, value_size);
    bool had = old->flags & ENTRY_EXPIRES;
    if (due == KEYREF_KEEP_DUE)
        due = entry_due(old);
    bool has = due != ENTRY_NO_EXPIRY;
    if (had != has)
        db->expires += has ? 1 : (uint64_t)-1;
    /* A new value is a new object to LRU; its frequency is the key's. */
    uint32_t clock = db->ks->lfu ? entry_clock(old) : entry_fresh_clock(db->ks);
    db->timed -= entry_timed(old) > 0;
    if (entry_has_root(old))
        retire_below(ref, old);

    size_t size = entry_size_for(ref->key.size, has, encoding, value_size);
    if (!same_class(size, entry_size(old)) || !entry_owned(ref)) {
        struct entry *e = entry_new(ref->key, due, type, encoding, value_size);
        entry_set_clock(e, clock);
        replace_block(ref, e);
        return e;
    }

    size_t fixed = entry_fixed_value_size(encoding);
    assert(fixed || value_size <= ENTRY_EMBED_MAX);
    if (had || has)
        set_due_in_block(old, due, false);
    old->type_encoding = (uint8_t)((unsigned)type << 4 | (unsigned)encoding);
    old->flags &= (uint8_t)~ENTRY_VALUE_FLAGS;
    old->value_size = fixed ? 0 : (uint16_t)value_size;
    entry_set_clock(old, clock);
    if (entry_has_root(old))
        memset((void *)(uintptr_t)entry_value(old), 0, fixed);
    size_watch_move(&db->ks->size_watch, old, old);
    if (has)
        note_due(ref, due);
    return old;
}

/* A block like the entry's, with another value field. */
static struct entry *new_like(const struct keyref *ref, enum entry_encoding encoding,
                              size_t value_size)
{
    const struct entry *old = ref->entry;
    struct entry *e = entry_new(ref->key, entry_due(old), entry_type(old), encoding, value_size);
    e->flags = old->flags;
    entry_set_clock(e, entry_clock(old));
    return e;
}

struct entry *keyref_resize(struct keyref *ref, size_t new_size)
{
    struct entry *old = ref->entry;
    assert(!entry_fixed_value_size(entry_encoding(old)) && new_size <= ENTRY_EMBED_MAX);
    watch_new_size(ref, entry_encoding(old), new_size);
    size_t size = entry_size(old);
    if (same_class(size - old->value_size + new_size, size) && entry_owned(ref)) {
        old->value_size = (uint16_t)new_size;
        return old;
    }
    struct entry *e = new_like(ref, entry_encoding(old), new_size);
    size_t common = old->value_size < new_size ? old->value_size : new_size;
    memcpy((void *)(uintptr_t)entry_value(e), entry_value(old), common);
    replace_block(ref, e);
    return e;
}

struct entry *keyref_reencode(struct keyref *ref, enum entry_encoding encoding, size_t value_size)
{
    watch_new_size(ref, encoding, value_size);
    replace_block(ref, new_like(ref, encoding, value_size));
    return ref->entry;
}

void keyref_set_due(struct keyref *ref, int64_t due)
{
    struct entry *old = ref->entry;
    bool had = old->flags & ENTRY_EXPIRES, has = due != ENTRY_NO_EXPIRY;
    if (!had && !has)
        return;
    size_t new_size =
        entry_size_for(entry_key(old).size, has, entry_encoding(old), old->value_size);
    if (same_class(entry_size(old), new_size) && entry_owned(ref)) {
        set_due_in_block(old, due, true);
        size_watch_move(&ref->db->ks->size_watch, old, old);
        if (has)
            note_due(ref, due);
    } else {
        struct entry *e = entry_alloc(new_size);
        memcpy(e, old, sizeof(*e));
        size_t from = had ? 8 : 0, to = has ? 8 : 0;
        memcpy(e->body + to, old->body + from, (size_t)(entry_end(old) - (old->body + from)));
        e->flags = (uint8_t)((old->flags & ~ENTRY_EXPIRES) | (has ? ENTRY_EXPIRES : 0));
        if (has)
            memcpy(e->body, &due, sizeof(due));
        replace_block(ref, e);
    }
    if (had != has)
        ref->db->expires += has ? 1 : (uint64_t)-1;
}

void keyref_note_timed(struct keyref *ref, int64_t change, int64_t due)
{
    struct timed_dict *t = (struct timed_dict *)(uintptr_t)entry_value(ref->entry);
    bool had = t->timed > 0;
    t->timed += (uint64_t)change;
    bool has = t->timed > 0;
    if (had != has)
        ref->db->timed += has ? 1 : (uint64_t)-1;
    if (due != ENTRY_NO_EXPIRY)
        note_due(ref, due);
}

static void fields_expire(void *ctx, const struct slice *fields, size_t count)
{
    struct keyref *ref = ctx;
    struct keyspace *ks = ref->db->ks;
    const struct timed_dict *t = entry_value(ref->entry);
    ks->expired_fields += count;
    if (ks->on_fields_expire)
        ks->on_fields_expire(ks->on_fields_expire_ctx, ref->db, ref->key, fields, count,
                             count == t->fields.count);
}

size_t keyref_expire_fields(struct keyref *ref, size_t want)
{
    struct keyspace *ks = ref->db->ks;
    if (ks->lazy_expire_paused || entry_fields_due(ref->entry) >= ks->now_ms)
        return 0;
    struct timed_dict *t = (struct timed_dict *)(uintptr_t)entry_value(keyref_own(ref));
    size_t done =
        dict_expire(&t->fields, keyref_epoch(ref), ks->now_ms, want, fields_expire, ref);
    keyref_note_timed(ref, -(int64_t)done, ENTRY_NO_EXPIRY);
    if (t->fields.count == 0)
        keyref_delete(ref);
    return done;
}

void keyref_expire_field(struct keyref *ref, struct slice field)
{
    struct keyspace *ks = ref->db->ks;
    if (ks->lazy_expire_paused || entry_fields_due(ref->entry) >= ks->now_ms)
        return;
    struct timed_dict *t = (struct timed_dict *)(uintptr_t)entry_value(ref->entry);
    struct dict_item item;
    struct dict_place place;
    if (!dict_find(&t->fields, hash_bytes(field.data, field.size), field, &item, &place) ||
        item.due >= ks->now_ms)
        return;
    fields_expire(ref, &field, 1);
    if (t->fields.count == 1) {
        keyref_delete(ref);
        return;
    }
    t = (struct timed_dict *)(uintptr_t)entry_value(keyref_own(ref));
    dict_remove(&t->fields, keyref_epoch(ref), &place);
    keyref_note_timed(ref, -1, ENTRY_NO_EXPIRY);
}

/* Take the entry out of the table. Returns whether the block is the caller's alone. */
static bool unlink_entry(struct keyref *ref)
{
    struct db *db = ref->db;
    struct epoch *epoch = &db->ks->epoch;
    struct table_place place;
    size_watch_remove(&db->ks->size_watch, db->sizes, ref->entry);
    table_own(&db->table, epoch, ref->hash, ref->entry, &place);
    bool owned = table_item_owned(&db->table, epoch, &place);
    if (__builtin_expect(place.at_marks != 0, 0))
        changes_note_deleted(db, place.at_marks, ref->key);
    table_remove(&db->table, epoch, &place);
    if (ref->entry->flags & ENTRY_EXPIRES)
        db->expires--;
    db->timed -= entry_timed(ref->entry) > 0;
    ref->entry = NULL;
    return owned;
}

void keyref_delete(struct keyref *ref)
{
    struct entry *e = ref->entry;
    bool owned = unlink_entry(ref);
    if (entry_has_root(e))
        retire_below(ref, e);
    retire_block(ref, e, owned);
}

struct entry *keyref_take(struct keyref *ref)
{
    struct entry *e = ref->entry, *taken = e;
    if (!unlink_entry(ref)) {
        taken = entry_clone(e);
        retire_block(ref, e, false);
    }
    /* From here on its nodes do not belong to the part that the key's hash says. */
    if (epoch_has_snapshot(&ref->db->ks->epoch) && entry_has_root(taken) &&
        ref->db->table.space != EPOCH_NOWHERE)
        taken->flags |= ENTRY_MOVED;
    return taken;
}

void keyref_give(struct keyref *ref, struct entry *e)
{
    if (!slice_equal(entry_key(e), ref->key)) {
        struct entry *named =
            entry_new(ref->key, entry_due(e), entry_type(e), entry_encoding(e), e->value_size);
        named->flags |= e->flags & ENTRY_VALUE_FLAGS;
        entry_set_clock(named, entry_clock(e));
        size_t fixed = entry_fixed_value_size(entry_encoding(e));
        memcpy((void *)(uintptr_t)entry_value(named), entry_value(e),
               fixed ? fixed : e->value_size);
        entry_free_block(e);
        e = named;
    }
    db_insert(ref->db, ref->hash, e);
    ref->entry = e;
}

void db_insert(struct db *db, uint64_t hash, struct entry *e)
{
    insert_block(db, hash, e);
    ++*keysizes_count_of(db->sizes, e);
}

/* ---- deep copies ---- */

static bool all_zero(struct slice s)
{
    return s.size == 0 || (s.data[0] == 0 && memcmp(s.data, s.data + 1, s.size - 1) == 0);
}

/* Runs of zeros are not written, so that holes stay holes. */
static void copy_rope(struct rope *to, const struct rope *from, struct epoch *epoch)
{
    rope_init(to);
    for (uint64_t at = 0; at < from->size;) {
        struct slice run = rope_run(from, at, from->size - at);
        if (!all_zero(run))
            rope_write(to, epoch, at, run);
        at += run.size;
    }
    if (to->size < from->size)
        rope_write(to, epoch, from->size - 1, SLICE("\0"));
}

static void copy_dict(struct dict *to, const struct dict *from, struct epoch *epoch)
{
    dict_init(to, (enum dict_kind)from->kind);
    struct dict_iter it;
    struct dict_item item;
    dict_iter_init(&it, from);
    while (dict_iter_next(&it, &item))
        dict_add_due(to, epoch, dict_hash(to, item.key), item.key, item.value, item.due);
}

static void copy_btree(struct btree *to, const struct btree *from, struct epoch *epoch)
{
    if (from->unordered)
        btree_init_unordered(to);
    else
        btree_init(to);
    struct btree_pos pos;
    btree_seek_rank(from, 0, &pos);
    for (; !btree_at_end(&pos); btree_next(&pos))
        btree_append(to, epoch, btree_item(&pos));
}

void keyref_copy_from(struct keyref *to, const struct entry *from, int64_t due)
{
    assert(to->entry != from);
    struct epoch *epoch = &to->db->ks->epoch;
    enum entry_encoding encoding = entry_encoding(from);
    size_t size = encoding == ENTRY_INT ? (size_t)entry_int(from) : from->value_size;
    struct entry *e = keyref_put(to, due, entry_type(from), encoding, size);
    e->flags |= from->flags & ENTRY_VALUE_FLAGS;

    void *value = (void *)(uintptr_t)entry_value(e);
    const void *source = entry_value(from);
    switch (encoding) {
    case ENTRY_ROPE:
        copy_rope(value, source, epoch);
        break;
    case ENTRY_DICT:
        copy_dict(value, source, epoch);
        break;
    case ENTRY_TIMED_DICT:
        copy_dict(value, source, epoch);
        keyref_note_timed(to, (int64_t)entry_timed(from), entry_fields_due(from));
        break;
    case ENTRY_BTREE:
        copy_btree(value, source, epoch);
        break;
    case ENTRY_ZTREE: {
        struct zset_root *z = value;
        const struct zset_root *s = source;
        copy_btree(&z->tree, &s->tree, epoch);
        copy_dict(&z->index, &s->index, epoch);
        copy_dict(&z->crowd, &s->crowd, epoch);
        break;
    }
    case ENTRY_STREAM_TREES: {
        struct stream_root *to_root = value;
        const struct stream_root *s = source;
        *to_root = *s;
        copy_btree(&to_root->nodes, &s->nodes, epoch);
        copy_btree(&to_root->groups, &s->groups, epoch);
        copy_btree(&to_root->pending, &s->pending, epoch);
        copy_btree(&to_root->owned, &s->owned, epoch);
        if (s->tail) {
            to_root->tail = mem_alloc(s->tail->size);
            memcpy(to_root->tail, s->tail, s->tail->size);
            to_root->tail->birth = epoch->now;
        }
        break;
    }
    case ENTRY_INT:
        memcpy(value, source, sizeof(int64_t));
        break;
    case ENTRY_BYTES:
    case ENTRY_LISTPACK:
    case ENTRY_INTSET:
        memcpy(value, source, from->value_size);
        break;
    }
}
