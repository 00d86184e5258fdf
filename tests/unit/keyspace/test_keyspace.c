/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "keyspace/defrag.h"
#include "keyspace/keyspace.h"

/* The C library keeps the bookkeeping of threads that have ended for later ones: some hundred bytes
 * for each that ran at once. */
#ifdef HF_JEMALLOC
#define THREADS_KEEP 4096
#else
#define THREADS_KEEP 0
#endif

/* ---- the model: what every key should hold, kept in plain arrays ---- */

#define DBS 3
#define KEYS 70
#define ITEMS 400
#define BYTES_MAX 40000

struct model_value {
    bool exists;
    enum entry_encoding encoding;
    enum entry_type type;
    int64_t due;
    int64_t number;
    char *bytes; /* BYTES, LISTPACK, INTSET, ROPE */
    size_t size;
    uint32_t list[ITEMS]; /* BTREE, and the tree of ZTREE: items in order */
    size_t list_size;
    uint32_t map[ITEMS]; /* DICT, and the index of ZTREE: value + 1 of each key, 0: not there */
};

static struct model_value *model[DBS]; /* KEYS each */
static uint64_t random_state;
static int64_t fake_us;

static uint64_t rnd(uint64_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % bound;
}

static uint64_t seed(void)
{
    const char *given = getenv("HF_SEED");
    uint64_t s = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761U;
    fprintf(stderr, "HF_SEED=%" PRIu64 "\n", s);
    return s | 1;
}

/* Empty, short and long keys (more than 255 bytes). */
static struct slice key_name(int k, char buf[400])
{
    if (k == 0)
        return slice_of(buf, 0);
    size_t n = (size_t)sprintf(buf, "key:%d", k);
    if (k % 7 == 0) {
        memset(buf + n, '.', 300);
        n += 300;
    }
    return slice_of(buf, n);
}

static int key_number(struct slice key)
{
    char text[16] = {0};
    if (key.size == 0)
        return 0;
    memcpy(text, key.data + 4, key.size - 4 < 10 ? key.size - 4 : 10);
    return atoi(text);
}

static struct slice list_item(uint32_t id, char buf[64])
{
    int n = sprintf(buf, "item %u %.*s", id, (int)(id % 30), "..............................");
    return slice_of(buf, (size_t)n);
}

static struct slice map_key(bool index, uint32_t id, char buf[64])
{
    if (!index)
        return slice_of(buf, (size_t)sprintf(buf, "field %u", id));
    uint64_t h = (id + 1) * 0x9e3779b97f4a7c15ULL;
    memcpy(buf, &h, sizeof(h));
    return slice_of(buf, sizeof(h));
}

static struct slice map_value(bool index, uint32_t value, char buf[64])
{
    if (!index)
        return slice_of(buf, (size_t)sprintf(buf, "value %u", value));
    double d = value;
    memcpy(buf, &d, sizeof(d));
    return slice_of(buf, sizeof(d));
}

/* ---- digests: of what the model says, and of what an entry holds ---- */

static uint64_t mix(uint64_t h, const void *data, size_t size)
{
    struct hash_key key = {h, 42};
    return hash_bytes_keyed(&key, data, size);
}

static uint64_t digest_head(enum entry_type type, enum entry_encoding encoding, int64_t due)
{
    int64_t head[3] = {(int64_t)type, (int64_t)encoding, due};
    return mix(1, head, sizeof(head));
}

static uint64_t digest_pair(struct slice key, struct slice value)
{
    return mix(mix(2, key.data, key.size), value.data, value.size);
}

static bool is_embedded(enum entry_encoding c)
{
    return c == ENTRY_BYTES || c == ENTRY_LISTPACK || c == ENTRY_INTSET;
}

/* The least size of a value of this encoding: the keyspace looks at the head of packed ones. */
static size_t least_size(enum entry_encoding c)
{
    return is_embedded(c) && c != ENTRY_BYTES ? 8 : 0;
}

static uint64_t model_digest(const struct model_value *v)
{
    uint64_t h = digest_head(v->type, v->encoding, v->due);
    char a[64], b[64];
    bool index = v->encoding == ENTRY_ZTREE;
    if (v->encoding == ENTRY_INT)
        return mix(h, &v->number, sizeof(v->number));
    if (is_embedded(v->encoding) || v->encoding == ENTRY_ROPE)
        return mix(h, v->bytes, v->size);
    if (v->encoding == ENTRY_BTREE || index) {
        for (size_t i = 0; i < v->list_size; i++) {
            struct slice item = list_item(v->list[i], a);
            h = mix(h, item.data, item.size);
        }
    }
    if (v->encoding == ENTRY_DICT || index) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < ITEMS; i++) {
            if (v->map[i])
                sum += digest_pair(map_key(index, i, a), map_value(index, v->map[i] - 1, b));
        }
        h = mix(h, &sum, sizeof(sum));
    }
    return h;
}

static uint64_t entry_digest(const struct entry *e)
{
    enum entry_encoding c = entry_encoding(e);
    uint64_t h = digest_head(entry_type(e), c, entry_due(e));
    const void *value = entry_value(e);
    const struct zset_root *z = value;
    if (c == ENTRY_INT) {
        int64_t v = entry_int(e);
        return mix(h, &v, sizeof(v));
    }
    if (is_embedded(c))
        return mix(h, value, e->value_size);
    if (c == ENTRY_ROPE) {
        const struct rope *rope = value;
        static __thread char flat[BYTES_MAX];
        size_t at = 0;
        while (at < rope->size) {
            struct slice run = rope_run(rope, at, UINT64_MAX);
            memcpy(flat + at, run.data, run.size);
            at += run.size;
        }
        return mix(h, flat, at);
    }
    if (c == ENTRY_BTREE || c == ENTRY_ZTREE) {
        struct btree_pos pos;
        btree_seek_rank(c == ENTRY_BTREE ? (const struct btree *)value : &z->tree, 0, &pos);
        for (; !btree_at_end(&pos); btree_next(&pos)) {
            struct slice item = btree_item(&pos);
            h = mix(h, item.data, item.size);
        }
    }
    if (c == ENTRY_DICT || c == ENTRY_ZTREE) {
        struct dict_iter it;
        struct dict_item item;
        uint64_t sum = 0;
        dict_iter_init(&it, c == ENTRY_DICT ? (const struct dict *)value : &z->index);
        while (dict_iter_next(&it, &item))
            sum += digest_pair(item.key, item.value);
        h = mix(h, &sum, sizeof(sum));
    }
    return h;
}

/* ---- verifying a table, current or frozen ---- */

struct expected {
    uint64_t digest[DBS][KEYS]; /* 0: not there */
    uint64_t count[DBS], expires[DBS];
};

static void expect_model(struct expected *x)
{
    memset(x, 0, sizeof(*x));
    for (int d = 0; d < DBS; d++) {
        for (int k = 0; k < KEYS; k++) {
            const struct model_value *v = &model[d][k];
            if (!v->exists)
                continue;
            x->digest[d][k] = model_digest(v);
            x->count[d]++;
            x->expires[d] += v->due != ENTRY_NO_EXPIRY;
        }
    }
}

struct check {
    const uint64_t *digest;
    uint64_t seen;
    int wrong;
};

static bool check_item(void *ctx, void *item)
{
    struct check *check = ctx;
    const struct entry *e = item;
    int k = key_number(entry_key(e));
    if (k < 0 || k >= KEYS || check->digest[k] != entry_digest(e))
        check->wrong++;
    check->seen++;
    return true;
}

static int check_table(const struct table *t, const struct expected *x, int d)
{
    struct check check = {x->digest[d], 0, 0};
    bool done = false;
    table_walk(t, 0, UINT64_MAX, 0, check_item, &check, &done);
    return check.wrong + (check.seen != x->count[d]) + (t->count != x->count[d]) + !done;
}

struct held {
    struct snapshot *snapshot;
    struct expected expected;
    pthread_t thread;
    int wrong;
};

/* Another thread reads the snapshot all the while. */
static void *reader(void *arg)
{
    struct held *held = arg;
    mem_thread_begin();
    for (int round = 0; round < 3; round++) {
        for (int d = 0; d < DBS; d++)
            held->wrong += check_table(&held->snapshot->dbs[d].table, &held->expected, d);
    }
    mem_thread_end();
    return NULL;
}

static void check_current(struct keyspace *ks)
{
    struct expected x;
    expect_model(&x);
    for (int d = 0; d < DBS; d++) {
        assert_int_equal(check_table(&ks->dbs[d].table, &x, d), 0);
        assert_int_equal(ks->dbs[d].expires, x.expires[d]);
        table_check(&ks->dbs[d].table, &ks->epoch);
    }
}

/* ---- random changes, to the keyspace and to the model ---- */

static void model_clear(struct model_value *v)
{
    free(v->bytes);
    memset(v, 0, sizeof(*v));
    v->due = ENTRY_NO_EXPIRY;
}

static void model_copy(struct model_value *to, const struct model_value *from)
{
    model_clear(to);
    *to = *from;
    if (from->bytes) {
        to->bytes = malloc(from->size + 1);
        memcpy(to->bytes, from->bytes, from->size);
    }
}

static void model_move(struct model_value *to, struct model_value *from)
{
    model_clear(to);
    *to = *from;
    memset(from, 0, sizeof(*from));
    from->due = ENTRY_NO_EXPIRY;
}

static void model_resize(struct model_value *v, size_t size)
{
    v->bytes = realloc(v->bytes, size + 1);
    for (size_t i = v->size; i < size; i++)
        v->bytes[i] = 0;
    v->size = size;
}

static void expired(void *ctx, struct db *db, struct slice key)
{
    struct model_value *v = &model[db->id][key_number(key)];
    assert_true(v->exists);
    assert_true(v->due < ((struct keyspace *)ctx)->now_ms);
    model_clear(v);
}

static void *value_of(const struct keyref *ref)
{
    return (void *)(uintptr_t)entry_value(ref->entry);
}

static int64_t random_due(const struct keyspace *ks)
{
    return rnd(2) ? ENTRY_NO_EXPIRY : ks->now_ms + (int64_t)rnd(300);
}

static void fill(struct keyref *ref, struct model_value *v)
{
    struct epoch *epoch = &ref->db->ks->epoch;
    if (v->encoding == ENTRY_INT) {
        v->number = (int64_t)rnd(1000000);
        memcpy(value_of(ref), &v->number, sizeof(v->number));
    } else if (is_embedded(v->encoding)) {
        for (size_t i = 0; i < v->size; i++)
            v->bytes[i] = (char)rnd(256);
        if (v->size)
            memcpy(value_of(ref), v->bytes, v->size);
    } else if (v->encoding == ENTRY_ROPE) {
        size_t size = 1 + rnd(BYTES_MAX);
        model_resize(v, size);
        memset(v->bytes, 'a' + (int)rnd(26), size);
        rope_write(value_of(ref), epoch, 0, slice_of(v->bytes, size));
    } else if (v->encoding == ENTRY_DICT) {
        dict_init(value_of(ref), DICT_MAP);
    } else if (v->encoding == ENTRY_ZTREE) {
        struct zset_root *z = value_of(ref);
        dict_init(&z->index, DICT_INDEX);
    }
}

static void put(struct keyref *ref, struct model_value *v)
{
    static const struct {
        enum entry_type type;
        enum entry_encoding encoding;
    } kinds[] = {{ENTRY_STRING, ENTRY_INT},   {ENTRY_STRING, ENTRY_BYTES},
                 {ENTRY_STRING, ENTRY_ROPE},  {ENTRY_LIST, ENTRY_LISTPACK},
                 {ENTRY_SET, ENTRY_INTSET},   {ENTRY_HASH, ENTRY_DICT},
                 {ENTRY_LIST, ENTRY_BTREE},   {ENTRY_ZSET, ENTRY_ZTREE},
                 {ENTRY_STRING, ENTRY_BYTES}, {ENTRY_STRING, ENTRY_BYTES}};
    size_t kind = rnd(sizeof(kinds) / sizeof(kinds[0]));
    size_t least = least_size(kinds[kind].encoding);
    size_t size = is_embedded(kinds[kind].encoding)
                      ? least + rnd(rnd(4) ? 60 : ENTRY_EMBED_MAX + 1 - least)
                      : 0;
    int64_t due = random_due(ref->db->ks);
    bool keep = rnd(3) == 0;
    int64_t new_due = !keep ? due : v->exists ? v->due : ENTRY_NO_EXPIRY;
    keyref_put(ref, keep ? KEYREF_KEEP_DUE : due, kinds[kind].type, kinds[kind].encoding, size);
    model_clear(v);
    v->exists = true;
    v->due = new_due;
    v->type = kinds[kind].type;
    v->encoding = kinds[kind].encoding;
    if (size)
        model_resize(v, size);
    fill(ref, v);
}

static void change_list(struct keyref *ref, struct model_value *v, struct btree *t)
{
    struct epoch *epoch = &ref->db->ks->epoch;
    char buf[64];
    struct btree_pos pos;
    for (size_t n = rnd(20); n > 0; n--) {
        if (v->list_size < ITEMS && rnd(3)) {
            size_t at = rnd(v->list_size + 1);
            uint32_t id = (uint32_t)rnd(100000);
            btree_seek_rank(t, at, &pos);
            btree_insert(t, epoch, &pos, list_item(id, buf));
            memmove(v->list + at + 1, v->list + at, (v->list_size - at) * sizeof(v->list[0]));
            v->list[at] = id;
            v->list_size++;
        } else if (v->list_size) {
            size_t at = rnd(v->list_size);
            btree_seek_rank(t, at, &pos);
            btree_remove(t, epoch, &pos);
            v->list_size--;
            memmove(v->list + at, v->list + at + 1, (v->list_size - at) * sizeof(v->list[0]));
        }
    }
}

static void change_map(struct keyref *ref, struct model_value *v, struct dict *d, bool index)
{
    struct epoch *epoch = &ref->db->ks->epoch;
    for (size_t n = rnd(20); n > 0; n--) {
        uint32_t id = (uint32_t)rnd(ITEMS), value = (uint32_t)rnd(1000);
        char a[64], b[64];
        struct slice key = map_key(index, id, a), bytes = map_value(index, value, b);
        uint64_t hash = dict_hash(d, key);
        struct dict_place place;
        bool found = dict_find(d, hash, key, NULL, &place);
        assert_int_equal(found, v->map[id] != 0);
        if (!found) {
            dict_add(d, epoch, hash, key, bytes);
            v->map[id] = value + 1;
        } else if (rnd(2)) {
            dict_set_value(d, epoch, &place, bytes);
            v->map[id] = value + 1;
        } else {
            dict_remove(d, epoch, &place);
            v->map[id] = 0;
        }
    }
}

static void change_embedded(struct keyref *ref, struct model_value *v)
{
    if (rnd(2)) {
        size_t least = least_size(v->encoding), old = v->size;
        size_t size = least + rnd(rnd(3) ? 80 : ENTRY_EMBED_MAX + 1 - least);
        keyref_resize(ref, size);
        model_resize(v, size);
        if (size > old)
            memset((char *)value_of(ref) + old, 0, size - old);
        return;
    }
    keyref_own(ref);
    if (v->size) {
        size_t at = rnd(v->size);
        v->bytes[at] ^= 1;
        ((char *)value_of(ref))[at] ^= 1;
    }
}

/* Change a value in part, as its type would. */
static void change(struct keyref *ref, struct model_value *v)
{
    struct epoch *epoch = &ref->db->ks->epoch;
    assert_int_equal(entry_encoding(ref->entry), v->encoding);
    if (is_embedded(v->encoding) && v->type == ENTRY_STRING && rnd(8) == 0) {
        keyref_reencode(ref, ENTRY_ROPE, 0);
        rope_write(value_of(ref), epoch, 0, slice_of(v->bytes, v->size));
        v->encoding = ENTRY_ROPE;
        if (v->size == 0) {
            model_resize(v, 1);
            rope_write(value_of(ref), epoch, 0, SLICE("\0"));
        }
    } else if (is_embedded(v->encoding)) {
        change_embedded(ref, v);
    } else {
        keyref_own(ref);
        struct zset_root *z = value_of(ref);
        if (v->encoding == ENTRY_INT) {
            v->number++;
            memcpy(value_of(ref), &v->number, sizeof(v->number));
        } else if (v->encoding == ENTRY_ROPE) {
            size_t at = rnd(v->size + 10), size = 1 + rnd(200);
            if (at + size <= BYTES_MAX) {
                if (at + size > v->size)
                    model_resize(v, at + size);
                memset(v->bytes + at, 'A' + (int)rnd(26), size);
                rope_write(value_of(ref), epoch, at, slice_of(v->bytes + at, size));
            }
        } else if (v->encoding == ENTRY_BTREE) {
            change_list(ref, v, value_of(ref));
        } else if (v->encoding == ENTRY_DICT) {
            change_map(ref, v, value_of(ref), false);
        } else {
            change_list(ref, v, &z->tree);
            change_map(ref, v, &z->index, true);
        }
    }
}

static void find(struct keyspace *ks, struct keyref *ref, int d, int k, char buf[400])
{
    struct slice key = key_name(k, buf);
    keyref_find(ref, &ks->dbs[d], key, key_hash(key));
    assert_int_equal(ref->entry != NULL, model[d][k].exists);
}

/* RENAME and MOVE, or COPY, from one key to another. */
static void transfer(struct keyspace *ks, bool copy)
{
    int d = (int)rnd(DBS), k = (int)rnd(KEYS), d2 = (int)rnd(DBS), k2 = (int)rnd(KEYS);
    char buf[400], buf2[400];
    struct keyref from, to;
    if (d == d2 && k == k2)
        return;
    find(ks, &from, d, k, buf);
    find(ks, &to, d2, k2, buf2);
    if (from.entry == NULL)
        return;
    if (copy) {
        keyref_copy_from(&to, from.entry, entry_due(from.entry));
        model_copy(&model[d2][k2], &model[d][k]);
        return;
    }
    if (to.entry)
        keyref_delete(&to);
    keyref_give(&to, keyref_take(&from));
    model_move(&model[d2][k2], &model[d][k]);
}

static int64_t fake_clock_us(void)
{
    return fake_us += 100;
}

static void swap_or_flush(struct keyspace *ks)
{
    int a = (int)rnd(DBS), b = (int)rnd(DBS);
    if (rnd(2)) {
        keyspace_swap(ks, a, b);
        struct model_value *m = model[a];
        model[a] = model[b];
        model[b] = m;
    } else if (rnd(10) == 0) {
        db_flush(&ks->dbs[a]);
        for (int k = 0; k < KEYS; k++)
            model_clear(&model[a][k]);
    }
}

static void random_step(struct keyspace *ks)
{
    int d = (int)rnd(DBS), k = (int)rnd(KEYS);
    struct model_value *v = &model[d][k];
    char buf[400];
    struct keyref ref;
    uint64_t what = rnd(100);
    if (what == 0) {
        swap_or_flush(ks);
        return;
    }
    if (what < 8) {
        transfer(ks, what & 1);
        return;
    }
    if (what < 12) {
        ks->now_ms += (int64_t)rnd(20);
        ks->lru_clock++;
        keyspace_expire_step(ks, 1 + (int64_t)rnd(1000), fake_clock_us);
        return;
    }
    find(ks, &ref, d, k, buf);
    if (ref.entry == NULL || what < 35) {
        put(&ref, v);
    } else if (what < 45) {
        keyref_delete(&ref);
        assert_null(ref.entry);
        model_clear(v);
    } else if (what < 55) {
        v->due = random_due(ks);
        keyref_set_due(&ref, v->due);
    } else if (what < 60) {
        entry_touch(ks, ref.entry);
    } else {
        change(&ref, v);
    }
}

static void hold(struct keyspace *ks, struct held *held)
{
    expect_model(&held->expected);
    held->wrong = 0;
    held->snapshot = snapshot_begin(ks);
    assert_int_equal(pthread_create(&held->thread, NULL, reader, held), 0);
}

static void release(struct keyspace *ks, struct held *held)
{
    pthread_join(held->thread, NULL);
    assert_int_equal(held->wrong, 0);
    for (int d = 0; d < DBS; d++) {
        assert_int_equal(check_table(&held->snapshot->dbs[d].table, &held->expected, d), 0);
        assert_int_equal(held->snapshot->dbs[d].expires, held->expected.expires[d]);
    }
    snapshot_end(ks, held->snapshot);
    held->snapshot = NULL;
}

static void run_model(bool with_reclaimer, int steps)
{
    size_t before = mem_used();
    struct keyspace *ks = keyspace_new(DBS, with_reclaimer);
    ks->now_ms = 1000000;
    ks->on_expire = expired;
    ks->on_expire_ctx = ks;
    for (int d = 0; d < DBS; d++) {
        model[d] = calloc(KEYS, sizeof(*model[d]));
        for (int k = 0; k < KEYS; k++)
            model_clear(&model[d][k]);
    }
    static struct held held[3];
    struct defrag *defrag = defrag_new(ks);
    mem_move_everything(true);
    for (int i = 0; i < steps; i++) {
        random_step(ks);
        if (rnd(10) == 0)
            defrag_step(defrag, (int64_t)rnd(600), fake_clock_us, 1 + rnd(40));
        epoch_reclaim_step(&ks->epoch, 4);
        if (rnd(60) == 0) {
            struct held *h = &held[rnd(3)];
            if (h->snapshot)
                release(ks, h);
            else
                hold(ks, h);
        }
        if (i % 500 == 0)
            check_current(ks);
    }
    for (int i = 0; i < 3; i++) {
        if (held[i].snapshot)
            release(ks, &held[i]);
    }
    while (defrag_step(defrag, 300, fake_clock_us, 7) == DEFRAG_MORE)
        ;
    assert_true(defrag_get_stats(defrag)->keys_moved > 0);
    assert_int_equal(defrag_get_stats(defrag)->keys_stayed, 0);
    assert_int_equal(defrag_get_stats(defrag)->blocks.stayed, 0);
    mem_move_everything(false);
    defrag_free(defrag);
    check_current(ks);
    keyspace_free(ks);
    for (int d = 0; d < DBS; d++) {
        for (int k = 0; k < KEYS; k++)
            model_clear(&model[d][k]);
        free(model[d]);
    }
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* Whatever is written, moved, copied, expired and flushed, with snapshots taken, nested and
 * released at random: the keyspace holds what the model says, every snapshot reads as it did when
 * it was taken, also from another thread, and at the end nothing is left. */
static void test_model(void **state)
{
    (void)state;
    random_state = seed();
    run_model(false, 20000);
    run_model(true, 20000);
}

/* ---- single properties ---- */

static struct keyspace *small_keyspace(void)
{
    struct keyspace *ks = keyspace_new(2, false);
    ks->now_ms = 1000;
    return ks;
}

static struct keyref ref_of(struct keyspace *ks, const char *key)
{
    struct keyref ref;
    struct slice s = slice_cstr(key);
    keyref_find(&ref, &ks->dbs[0], s, key_hash(s));
    return ref;
}

/* A value of the same size class is written over in place while no snapshot is live, and never
 * while one can see it. */
static void test_put_in_place(void **state)
{
    (void)state;
    struct keyspace *ks = small_keyspace();
    struct keyref ref = ref_of(ks, "key");
    struct entry *first = keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_BYTES, 20);
    memset(value_of(&ref), 'a', 20);
    assert_ptr_equal(keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_BYTES, 21), first);
    assert_ptr_equal(keyref_own(&ref), first);
    memset(value_of(&ref), 'b', 21);

    struct snapshot *s = snapshot_begin(ks);
    struct entry *second = keyref_own(&ref);
    assert_ptr_not_equal(second, first);
    memset(value_of(&ref), 'c', 21);
    assert_ptr_equal(keyref_own(&ref), second);
    assert_ptr_equal(keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_BYTES, 20), second);
    struct slice key = SLICE("key");
    const struct entry *old = table_find(&s->dbs[0].table, key_hash(key), key.data, key.size);
    assert_ptr_equal(old, first);
    assert_int_equal(old->value_size, 21);
    assert_memory_equal(entry_value(old), "bbbbbbbbbbbbbbbbbbbbb", 21);
    snapshot_end(ks, s);
    keyspace_free(ks);
}

/* A key lives through the millisecond of its expiry and is gone in the next; it is counted and told
 * of once. */
static int told;
static void count_expired(void *ctx, struct db *db, struct slice key)
{
    (void)ctx;
    (void)db;
    assert_true(slice_equal(key, SLICE("key")));
    told++;
}

static void test_expiry(void **state)
{
    (void)state;
    struct keyspace *ks = small_keyspace();
    ks->on_expire = count_expired;
    told = 0;
    struct slice key = SLICE("key");
    for (int active = 0; active < 2; active++) {
        struct keyref ref = ref_of(ks, "key");
        keyref_put(&ref, ks->now_ms + 5, ENTRY_STRING, ENTRY_INT, 0);
        assert_int_equal(ks->dbs[0].expires, 1);
        ks->now_ms += 5;
        assert_false(keyspace_has_due(ks));
        assert_false(keyspace_expire_step(ks, 1000, fake_clock_us));
        assert_non_null(db_find(&ks->dbs[0], key, key_hash(key)));
        ks->now_ms++;
        assert_true(keyspace_has_due(ks));
        assert_null(db_find(&ks->dbs[0], key, key_hash(key)));
        assert_int_equal(ks->dbs[0].table.count, 1);
        if (active)
            assert_false(keyspace_expire_step(ks, 1000, fake_clock_us));
        else
            assert_null(ref_of(ks, "key").entry);
        assert_int_equal(ks->dbs[0].table.count, 0);
        assert_int_equal(ks->dbs[0].expires, 0);
        assert_int_equal(told, active + 1);
        assert_int_equal(ks->expired_count, active + 1);
    }
    keyspace_free(ks);
}

/* While lazy expiry is paused an expired key is hidden but stays, and a write replaces it. */
static void test_expiry_paused(void **state)
{
    (void)state;
    struct keyspace *ks = small_keyspace();
    struct keyref ref = ref_of(ks, "key");
    keyref_put(&ref, ks->now_ms, ENTRY_STRING, ENTRY_INT, 0);
    ks->now_ms++;
    ks->lazy_expire_paused = true;
    assert_false(keyspace_expire_step(ks, 1000, fake_clock_us));
    ref = ref_of(ks, "key");
    assert_null(ref.entry);
    assert_int_equal(ks->dbs[0].table.count, 1);
    keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_BYTES, 3);
    assert_int_equal(ks->dbs[0].table.count, 1);
    assert_int_equal(ks->dbs[0].expires, 0);
    assert_non_null(ref_of(ks, "key").entry);
    keyspace_free(ks);
}

/* Many keys that are due together are removed in slices: a step ends when its time is up. */
static void test_expiry_in_slices(void **state)
{
    (void)state;
    struct keyspace *ks = small_keyspace();
    char name[32];
    for (int i = 0; i < 20000; i++) {
        sprintf(name, "k%d", i);
        struct keyref ref = ref_of(ks, name);
        keyref_put(&ref, i % 2 ? ks->now_ms : ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_INT, 0);
    }
    ks->now_ms++;
    int steps = 0;
    while (keyspace_expire_step(ks, 100, fake_clock_us))
        steps++;
    assert_true(steps > 3);
    assert_int_equal(ks->dbs[0].table.count, 10000);
    assert_int_equal(ks->dbs[0].expires, 0);
    assert_int_equal(ks->expired_count, 10000);
    keyspace_free(ks);
}

/* The LRU clock tells the idle time over its wrap; a new value is a new access. */
static void test_lru_clock(void **state)
{
    (void)state;
    struct keyspace *ks = small_keyspace();
    ks->lru_clock = 0xffffff;
    struct keyref ref = ref_of(ks, "key");
    struct entry *e = keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_INT, 0);
    assert_int_equal(entry_idle_seconds(ks, e), 0);
    ks->lru_clock = 9;
    assert_int_equal(entry_idle_seconds(ks, e), 10);
    entry_touch(ks, e);
    assert_int_equal(entry_idle_seconds(ks, e), 0);
    entry_set_idle_seconds(ks, e, 100);
    assert_int_equal(entry_idle_seconds(ks, e), 100);
    assert_true(slice_equal(entry_key(e), SLICE("key")));
    keyspace_free(ks);
}

/* The LFU counter begins at 5, grows ever slower, stops at 255, decays by the minute, and stays
 * with the key when its value is replaced. */
static void test_lfu_clock(void **state)
{
    (void)state;
    struct keyspace *ks = small_keyspace();
    ks->lfu = true;
    struct keyref ref = ref_of(ks, "key");
    struct entry *e = keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_INT, 0);
    assert_int_equal(entry_frequency(ks, e), 5);
    entry_touch(ks, e);
    assert_int_equal(entry_frequency(ks, e), 6);
    for (int i = 0; i < 1000; i++)
        entry_touch(ks, e);
    uint32_t warm = entry_frequency(ks, e);
    assert_in_range(warm, 10, 40);
    e = keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_BYTES, 300);
    assert_int_equal(entry_frequency(ks, e), warm);
    ks->now_ms += 3 * 60000;
    assert_int_equal(entry_frequency(ks, e), warm - 3);
    ks->now_ms += 1000 * 60000;
    assert_int_equal(entry_frequency(ks, e), 0);
    entry_set_frequency(ks, e, 255);
    entry_touch(ks, e);
    assert_int_equal(entry_frequency(ks, e), 255);
    keyspace_free(ks);
}

/* Flushing takes as long with 20000 keys as with none, and a snapshot still has them. */
static void test_flush(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct keyspace *ks = keyspace_new(1, true);
    char name[32];
    for (int i = 0; i < 20000; i++) {
        sprintf(name, "k%d", i);
        struct keyref ref = ref_of(ks, name);
        keyref_put(&ref, ENTRY_NO_EXPIRY, ENTRY_STRING, ENTRY_INT, 0);
    }
    struct snapshot *s = snapshot_begin(ks);
    uint64_t flushes = ks->dbs[0].flush_count;
    keyspace_flush(ks);
    assert_int_equal(ks->dbs[0].table.count, 0);
    assert_int_equal(ks->dbs[0].flush_count, flushes + 1);
    struct slice key = SLICE("k777");
    assert_null(db_find(&ks->dbs[0], key, key_hash(key)));
    assert_non_null(table_find(&s->dbs[0].table, key_hash(key), key.data, key.size));
    snapshot_end(ks, s);
    keyspace_free(ks);
    assert_in_range(mem_used(), before, before + THREADS_KEEP);
}

/* An entry's parts are found whatever its key, expiry and encoding are, its roots are aligned, and
 * its size is what entry_size_for said. */
static void test_entry_layout(void **state)
{
    (void)state;
    char key[300];
    memset(key, 'k', sizeof(key));
    for (size_t n = 0; n < sizeof(key); n += 1 + n / 20) {
        for (int c = ENTRY_INT; c <= ENTRY_ZTREE; c++) {
            for (int expires = 0; expires < 2; expires++) {
                int64_t due = expires ? 123456789 : ENTRY_NO_EXPIRY;
                enum entry_encoding encoding = (enum entry_encoding)c;
                struct entry *e = entry_new(slice_of(key, n), due, ENTRY_HASH, encoding, 77);
                entry_set_clock(e, 0xabcdef);
                assert_int_equal(entry_clock(e), 0xabcdef);
                assert_true(slice_equal(entry_key(e), slice_of(key, n)));
                assert_int_equal(entry_due(e), due);
                assert_int_equal(entry_type(e), ENTRY_HASH);
                assert_int_equal(entry_encoding(e), encoding);
                size_t fixed = entry_fixed_value_size(encoding);
                size_t end =
                    (size_t)((const char *)entry_value(e) - (const char *)e) + (fixed ? fixed : 77);
                assert_int_equal(entry_size(e), end);
                assert_int_equal(entry_size_for(n, expires, encoding, 77), end);
                if (entry_has_root(e))
                    assert_int_equal((uintptr_t)entry_value(e) % 8, 0);
                entry_free_block(e);
            }
        }
    }
}

/* The C library keeps a thread's stack with what belongs to it for the next thread, and under
 * jemalloc that counts as memory in use: more threads than the tests have at once are made first.
 */
#define WARM_THREADS 6
static pthread_barrier_t warm_barrier;

static void *warm_thread(void *arg)
{
    pthread_barrier_wait(&warm_barrier);
    return arg;
}

static void warm_threads(void)
{
    pthread_t threads[WARM_THREADS];
    pthread_barrier_init(&warm_barrier, NULL, WARM_THREADS);
    for (int i = 0; i < WARM_THREADS; i++)
        pthread_create(&threads[i], NULL, warm_thread, NULL);
    for (int i = 0; i < WARM_THREADS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&warm_barrier);
}

int main(void)
{
    warm_threads();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entry_layout),
        cmocka_unit_test(test_put_in_place),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_expiry_paused),
        cmocka_unit_test(test_expiry_in_slices),
        cmocka_unit_test(test_lru_clock),
        cmocka_unit_test(test_lfu_clock),
        cmocka_unit_test(test_flush),
        cmocka_unit_test(test_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
