/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Consumer groups, consumers and pending entries: see stream.h for the items of the trees.
 */
#include <assert.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "type/stream.h"

#define ID_SIZE 16
#define NUMBER_SIZE 5
#define NUMBER_MAX ((1ULL << 8 * NUMBER_SIZE) - 1)
#define GROUP_VALUE_SIZE (NUMBER_SIZE + ID_SIZE + 8 + NUMBER_SIZE)
#define CONSUMER_KEY_SIZE (1 + 2 * NUMBER_SIZE)
#define CONSUMER_VALUE_SIZE 16 /* and the name */
#define PENDING_KEY_SIZE (NUMBER_SIZE + ID_SIZE)
#define PENDING_SIZE (PENDING_KEY_SIZE + NUMBER_SIZE + 16)
#define OWNED_SIZE (2 * NUMBER_SIZE + ID_SIZE)

enum { KIND_CONSUMER = 'C', KIND_GROUP = 'G', KIND_NAME = 'N' };

/* ---- items ---- */

static char *put_number(char *out, uint64_t number)
{
    bytes_put_be(out, number, NUMBER_SIZE);
    return out + NUMBER_SIZE;
}

static char *put_u64(char *out, uint64_t v)
{
    bytes_put_be(out, v, 8);
    return out + 8;
}

static uint64_t get_number(const char *in)
{
    return bytes_be(in, NUMBER_SIZE);
}

/* An item being made: on the stack unless it is long. */
struct made {
    char *data, *end;
    char *heap;
    char stack[256];
};

static void made_begin(struct made *m, size_t size)
{
    m->heap = size > sizeof(m->stack) ? mem_alloc(size) : NULL;
    m->data = m->end = m->heap ? m->heap : m->stack;
}

static struct slice made_slice(const struct made *m)
{
    return slice_of(m->data, (size_t)(m->end - m->data));
}

static void made_end(struct made *m)
{
    mem_free(m->heap);
}

static void add_escaped(struct made *m, struct slice name)
{
    for (size_t i = 0; i < name.size; i++) {
        *m->end++ = name.data[i];
        if (name.data[i] == 0)
            *m->end++ = (char)0xff;
    }
    *m->end++ = 0;
    *m->end++ = 1;
}

static size_t escaped_size(struct slice name)
{
    return name.size * 2 + 2;
}

/* The key of a group by name; room is left for its value. */
static void group_key(struct made *m, struct slice name)
{
    made_begin(m, 1 + escaped_size(name) + GROUP_VALUE_SIZE);
    *m->end++ = KIND_GROUP;
    add_escaped(m, name);
}

/* The key of a consumer by name; room is left for its number. */
static void name_key(struct made *m, const struct stream_group *g, struct slice name)
{
    made_begin(m, 1 + 2 * NUMBER_SIZE + escaped_size(name));
    *m->end++ = KIND_NAME;
    m->end = put_number(m->end, g->number);
    add_escaped(m, name);
}

static void consumer_key(char out[CONSUMER_KEY_SIZE], const struct stream_group *g,
                         uint64_t number)
{
    out[0] = KIND_CONSUMER;
    put_number(put_number(out + 1, g->number), number);
}

/* Stand on the item that begins with the key; false when there is none. */
static bool seek(const struct btree *t, struct slice key, struct btree_pos *pos)
{
    btree_seek(t, key, pos);
    if (btree_at_end(pos))
        return false;
    struct slice item = btree_item(pos);
    return item.size >= key.size && memcmp(item.data, key.data, key.size) == 0;
}

static uint64_t rank_of(const struct btree *t, struct slice key)
{
    struct btree_pos pos;
    btree_seek(t, key, &pos);
    return pos.rank;
}

/* How many items begin with this key, whose last byte may be raised; *first is the first one's
 * rank. A key that ends with a number is raised by giving the next number. */
static uint64_t count_prefix(const struct btree *t, struct slice key, uint64_t *first)
{
    unsigned char above[32];
    assert(key.size <= sizeof(above));
    memcpy(above, key.data, key.size);
    for (size_t i = key.size; i-- > 0 && ++above[i] == 0;)
        ;
    *first = rank_of(t, key);
    return rank_of(t, slice_of(above, key.size)) - *first;
}

static void remove_prefix(struct btree *t, struct epoch *e, struct slice key)
{
    uint64_t first, count = count_prefix(t, key, &first);
    btree_remove_range(t, e, first, count);
}

/* Put an item there in the place of the one that begins with the same key, if there is one. */
static void put(struct btree *t, struct epoch *e, struct slice item, size_t key_size)
{
    struct btree_pos pos;
    if (seek(t, slice_of(item.data, key_size), &pos))
        btree_replace(t, e, &pos, item);
    else
        btree_insert(t, e, &pos, item);
}

/* ---- groups ---- */

static void read_group(const char *p, struct stream_group *g)
{
    g->number = get_number(p);
    p += NUMBER_SIZE;
    g->last = stream_id_get(p);
    g->entries_read = (int64_t)bytes_be(p + ID_SIZE, 8);
    g->next_consumer = get_number(p + ID_SIZE + 8);
}

uint64_t stream_group_count(const struct stream_root *s)
{
    uint64_t first;
    return count_prefix(&s->groups, slice_of(&(char){KIND_GROUP}, 1), &first);
}

bool stream_group_find(const struct stream_root *s, struct slice name, struct stream_group *g)
{
    struct made m;
    struct btree_pos pos;
    group_key(&m, name);
    bool found = seek(&s->groups, made_slice(&m), &pos);
    if (found)
        read_group(btree_item(&pos).data + (m.end - m.data), g);
    made_end(&m);
    return found;
}

void stream_group_save(struct stream_root *s, struct epoch *e, struct slice name,
                       const struct stream_group *g)
{
    struct made m;
    group_key(&m, name);
    size_t key_size = made_slice(&m).size;
    m.end = put_number(m.end, g->number);
    stream_id_put(m.end, g->last);
    m.end = put_u64(m.end + ID_SIZE, (uint64_t)g->entries_read);
    m.end = put_number(m.end, g->next_consumer);
    put(&s->groups, e, made_slice(&m), key_size);
    made_end(&m);
}

void stream_group_create(struct stream_root *s, struct epoch *e, struct slice name,
                         struct stream_id last, int64_t entries_read, struct stream_group *g)
{
    assert(s->next_group < NUMBER_MAX);
    *g = (struct stream_group){s->next_group++, last, entries_read, 0};
    stream_group_save(s, e, name, g);
}

void stream_group_destroy(struct stream_root *s, struct epoch *e, struct slice name,
                          const struct stream_group *g)
{
    char key[1 + NUMBER_SIZE];
    put_number(key + 1, g->number);
    remove_prefix(&s->pending, e, slice_of(key + 1, NUMBER_SIZE));
    remove_prefix(&s->owned, e, slice_of(key + 1, NUMBER_SIZE));
    key[0] = KIND_CONSUMER;
    remove_prefix(&s->groups, e, slice_of(key, sizeof(key)));
    key[0] = KIND_NAME;
    remove_prefix(&s->groups, e, slice_of(key, sizeof(key)));
    struct made m;
    struct btree_pos pos;
    group_key(&m, name);
    if (seek(&s->groups, made_slice(&m), &pos))
        btree_remove(&s->groups, e, &pos);
    made_end(&m);
}

bool stream_group_lag(const struct stream_root *s, const struct stream_group *g, uint64_t *lag)
{
    int64_t read = g->entries_read;
    *lag = 0;
    if (s->added == 0)
        return true;
    if (read == STREAM_READ_UNKNOWN || stream_has_gap_from(s, g->last))
        read = stream_entries_up_to(s, g->last);
    if (read == STREAM_READ_UNKNOWN)
        return false;
    *lag = s->added - (uint64_t)read;
    return true;
}

void stream_group_advance(const struct stream_root *s, struct stream_group *g, struct stream_id id)
{
    if (g->entries_read != STREAM_READ_UNKNOWN && !stream_has_gap_from(s, id))
        g->entries_read++;
    else if (s->added > 0)
        g->entries_read = stream_entries_up_to(s, id);
    g->last = id;
}

/* ---- names in order ---- */

static void name_iter_init(struct stream_name_iter *it, const struct stream_root *s,
                           size_t prefix_size)
{
    it->prefix_size = prefix_size;
    it->name = NULL;
    it->capacity = 0;
    btree_seek(&s->groups, slice_of(it->prefix, prefix_size), &it->pos);
}

/* The next name; *value is what stands behind it. */
static bool name_iter_next(struct stream_name_iter *it, struct slice *name, const char **value)
{
    if (btree_at_end(&it->pos))
        return false;
    struct slice item = btree_item(&it->pos);
    if (item.size < it->prefix_size || memcmp(item.data, it->prefix, it->prefix_size) != 0)
        return false;
    if (it->capacity < item.size) {
        mem_free(it->name);
        it->capacity = item.size * 2;
        it->name = mem_alloc(it->capacity);
    }
    size_t size = 0;
    const char *p = item.data + it->prefix_size;
    while (p[0] != 0 || p[1] != 1) {
        it->name[size++] = *p;
        p += *p == 0 ? 2 : 1;
    }
    *name = slice_of(it->name, size);
    *value = p + 2;
    btree_next(&it->pos);
    return true;
}

void stream_name_iter_deinit(struct stream_name_iter *it)
{
    mem_free(it->name);
    it->name = NULL;
}

void stream_group_iter_init(struct stream_name_iter *it, const struct stream_root *s)
{
    it->prefix[0] = KIND_GROUP;
    name_iter_init(it, s, 1);
}

bool stream_group_iter_next(struct stream_name_iter *it, struct slice *name, struct stream_group *g)
{
    const char *value;
    if (!name_iter_next(it, name, &value))
        return false;
    read_group(value, g);
    return true;
}

void stream_consumer_iter_init(struct stream_name_iter *it, const struct stream_root *s,
                               const struct stream_group *g)
{
    it->prefix[0] = KIND_NAME;
    put_number(it->prefix + 1, g->number);
    name_iter_init(it, s, 1 + NUMBER_SIZE);
}

/* ---- consumers ---- */

static bool read_consumer(const struct stream_root *s, const struct stream_group *g,
                          uint64_t number, struct stream_consumer *consumer, struct slice *name)
{
    char key[CONSUMER_KEY_SIZE];
    struct btree_pos pos;
    consumer_key(key, g, number);
    if (!seek(&s->groups, slice_of(key, sizeof(key)), &pos))
        return false;
    struct slice item = btree_item(&pos);
    const char *p = item.data + sizeof(key);
    if (consumer)
        *consumer = (struct stream_consumer){number, (int64_t)bytes_be(p, 8),
                                             (int64_t)bytes_be(p + 8, 8)};
    if (name)
        *name = slice_of(p + CONSUMER_VALUE_SIZE, item.size - sizeof(key) - CONSUMER_VALUE_SIZE);
    return true;
}

bool stream_consumer_iter_next(struct stream_name_iter *it, const struct stream_root *s,
                               const struct stream_group *g, struct slice *name,
                               struct stream_consumer *consumer)
{
    const char *value;
    return name_iter_next(it, name, &value) &&
           read_consumer(s, g, get_number(value), consumer, NULL);
}

uint64_t stream_consumer_count(const struct stream_root *s, const struct stream_group *g)
{
    char key[1 + NUMBER_SIZE] = {KIND_CONSUMER};
    uint64_t first;
    put_number(key + 1, g->number);
    return count_prefix(&s->groups, slice_of(key, sizeof(key)), &first);
}

bool stream_consumer_find(const struct stream_root *s, const struct stream_group *g,
                          struct slice name, struct stream_consumer *consumer)
{
    struct made m;
    struct btree_pos pos;
    name_key(&m, g, name);
    bool found = seek(&s->groups, made_slice(&m), &pos);
    if (found)
        found = read_consumer(s, g, get_number(btree_item(&pos).data + (m.end - m.data)), consumer,
                              NULL);
    made_end(&m);
    return found;
}

struct slice stream_consumer_name(const struct stream_root *s, const struct stream_group *g,
                                  uint64_t number)
{
    struct slice name = {"", 0};
    bool found = read_consumer(s, g, number, NULL, &name);
    assert(found);
    (void)found;
    return name;
}

static void put_consumer(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                         const struct stream_consumer *consumer, struct slice name)
{
    struct made m;
    made_begin(&m, CONSUMER_KEY_SIZE + CONSUMER_VALUE_SIZE + name.size);
    consumer_key(m.data, g, consumer->number);
    m.end = put_u64(m.data + CONSUMER_KEY_SIZE, (uint64_t)consumer->seen_ms);
    m.end = put_u64(m.end, (uint64_t)consumer->active_ms);
    if (name.size)
        memcpy(m.end, name.data, name.size);
    m.end += name.size;
    put(&s->groups, e, made_slice(&m), CONSUMER_KEY_SIZE);
    made_end(&m);
}

void stream_consumer_save(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                          const struct stream_consumer *consumer)
{
    put_consumer(s, e, g, consumer, stream_consumer_name(s, g, consumer->number));
}

void stream_consumer_create(struct stream_root *s, struct epoch *e, struct slice group_name,
                            struct stream_group *g, struct slice name, int64_t now_ms,
                            struct stream_consumer *consumer)
{
    assert(g->next_consumer < NUMBER_MAX);
    *consumer = (struct stream_consumer){g->next_consumer++, now_ms, -1};
    stream_group_save(s, e, group_name, g);
    put_consumer(s, e, g, consumer, name);
    struct made m;
    name_key(&m, g, name);
    size_t key_size = made_slice(&m).size;
    m.end = put_number(m.end, consumer->number);
    put(&s->groups, e, made_slice(&m), key_size);
    made_end(&m);
}

uint64_t stream_consumer_delete(struct stream_root *s, struct epoch *e,
                                const struct stream_group *g, struct slice name,
                                const struct stream_consumer *consumer)
{
    char key[CONSUMER_KEY_SIZE];
    struct btree_pos pos;
    consumer_key(key, g, consumer->number);
    struct slice owner = slice_of(key + 1, 2 * NUMBER_SIZE);
    uint64_t count = 0;
    while (seek(&s->owned, owner, &pos)) {
        char id[ID_SIZE];
        memcpy(id, btree_item(&pos).data + owner.size, sizeof(id));
        stream_pending_remove(s, e, g, stream_id_get(id));
        count++;
    }
    if (seek(&s->groups, slice_of(key, sizeof(key)), &pos))
        btree_remove(&s->groups, e, &pos);
    struct made m;
    name_key(&m, g, name);
    if (seek(&s->groups, made_slice(&m), &pos))
        btree_remove(&s->groups, e, &pos);
    made_end(&m);
    return count;
}

/* ---- pending entries ---- */

static void pending_key(char out[PENDING_KEY_SIZE], const struct stream_group *g,
                        struct stream_id id)
{
    stream_id_put(put_number(out, g->number), id);
}

static void owned_item(char out[OWNED_SIZE], const struct stream_group *g, uint64_t consumer,
                       struct stream_id id)
{
    stream_id_put(put_number(put_number(out, g->number), consumer), id);
}

static void read_pending(const char *p, struct stream_pending *out)
{
    out->id = stream_id_get(p + NUMBER_SIZE);
    p += PENDING_KEY_SIZE;
    out->consumer = get_number(p);
    out->delivered_ms = (int64_t)bytes_be(p + NUMBER_SIZE, 8);
    out->deliveries = bytes_be(p + NUMBER_SIZE + 8, 8);
}

uint64_t stream_pending_count(const struct stream_root *s, const struct stream_group *g)
{
    char key[NUMBER_SIZE];
    uint64_t first;
    put_number(key, g->number);
    return count_prefix(&s->pending, slice_of(key, sizeof(key)), &first);
}

uint64_t stream_owned_count(const struct stream_root *s, const struct stream_group *g,
                            uint64_t consumer)
{
    char key[2 * NUMBER_SIZE];
    uint64_t first;
    put_number(put_number(key, g->number), consumer);
    return count_prefix(&s->owned, slice_of(key, sizeof(key)), &first);
}

bool stream_pending_find(const struct stream_root *s, const struct stream_group *g,
                         struct stream_id id, struct stream_pending *p)
{
    char key[PENDING_KEY_SIZE];
    struct btree_pos pos;
    pending_key(key, g, id);
    if (!seek(&s->pending, slice_of(key, sizeof(key)), &pos))
        return false;
    read_pending(btree_item(&pos).data, p);
    return true;
}

static void disown(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                   uint64_t consumer, struct stream_id id)
{
    char item[OWNED_SIZE];
    struct btree_pos pos;
    owned_item(item, g, consumer, id);
    if (seek(&s->owned, slice_of(item, sizeof(item)), &pos))
        btree_remove(&s->owned, e, &pos);
}

void stream_pending_put(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                        const struct stream_pending *p)
{
    char item[PENDING_SIZE], owned[OWNED_SIZE];
    struct btree_pos pos;
    pending_key(item, g, p->id);
    put_u64(put_u64(put_number(item + PENDING_KEY_SIZE, p->consumer), (uint64_t)p->delivered_ms),
            p->deliveries);
    bool owner_is_new = true;
    if (seek(&s->pending, slice_of(item, PENDING_KEY_SIZE), &pos)) {
        struct stream_pending before;
        read_pending(btree_item(&pos).data, &before);
        owner_is_new = before.consumer != p->consumer;
        btree_replace(&s->pending, e, &pos, slice_of(item, sizeof(item)));
        if (owner_is_new)
            disown(s, e, g, before.consumer, p->id);
    } else {
        btree_insert(&s->pending, e, &pos, slice_of(item, sizeof(item)));
    }
    if (owner_is_new) {
        owned_item(owned, g, p->consumer, p->id);
        put(&s->owned, e, slice_of(owned, sizeof(owned)), sizeof(owned));
    }
}

bool stream_pending_remove(struct stream_root *s, struct epoch *e, const struct stream_group *g,
                           struct stream_id id)
{
    char key[PENDING_KEY_SIZE];
    struct btree_pos pos;
    struct stream_pending p;
    pending_key(key, g, id);
    if (!seek(&s->pending, slice_of(key, sizeof(key)), &pos))
        return false;
    read_pending(btree_item(&pos).data, &p);
    btree_remove(&s->pending, e, &pos);
    disown(s, e, g, p.consumer, id);
    return true;
}

bool stream_pending_from(const struct stream_root *s, const struct stream_group *g,
                         uint64_t consumer, struct stream_id from, struct stream_pending *p)
{
    char key[OWNED_SIZE];
    struct btree_pos pos;
    const struct btree *t = &s->pending;
    size_t prefix = NUMBER_SIZE, size = PENDING_KEY_SIZE;
    if (consumer == STREAM_ANY) {
        pending_key(key, g, from);
    } else {
        t = &s->owned;
        prefix = 2 * NUMBER_SIZE;
        size = OWNED_SIZE;
        owned_item(key, g, consumer, from);
    }
    btree_seek(t, slice_of(key, size), &pos);
    if (btree_at_end(&pos) || memcmp(btree_item(&pos).data, key, prefix) != 0)
        return false;
    const char *item = btree_item(&pos).data;
    if (consumer != STREAM_ANY)
        return stream_pending_find(s, g, stream_id_get(item + prefix), p);
    read_pending(item, p);
    return true;
}

bool stream_pending_last(const struct stream_root *s, const struct stream_group *g,
                         struct stream_pending *p)
{
    char key[NUMBER_SIZE];
    uint64_t first;
    put_number(key, g->number);
    uint64_t count = count_prefix(&s->pending, slice_of(key, sizeof(key)), &first);
    if (count == 0)
        return false;
    struct btree_pos pos;
    btree_seek_rank(&s->pending, first + count - 1, &pos);
    read_pending(btree_item(&pos).data, p);
    return true;
}

/* ---- checking ---- */

static void check_nodes(const struct stream_root *s)
{
    struct stream_node_iter it;
    struct stream_node node;
    struct stream_id last = {0, 0};
    uint64_t length = 0;
    bool any = false;
    stream_node_iter_init(&it, s);
    while (stream_node_iter_next(&it, &node)) {
        assert(!any || stream_id_compare(node.master, last) > 0);
        bool sound = stream_node_check(node.lp, listpack_size(node.lp), node.master, &last);
        assert(sound && stream_node_live(node.lp) > 0);
        (void)sound;
        length += stream_node_live(node.lp);
        any = true;
    }
    assert(length == s->length && stream_id_compare(last, s->last) <= 0);
    assert(s->tail || s->nodes.count == 0);
    struct stream_item item;
    bool has_first = stream_edge(s, false, &item);
    assert(has_first == (length > 0));
    assert(stream_id_compare(s->first, has_first ? item.id : STREAM_ID_MIN) == 0);
}

void stream_check(const struct entry *entry, const struct epoch *epoch)
{
    assert(entry_type(entry) == ENTRY_STREAM);
    const struct stream_root *s = stream_root_of(entry);
    btree_check(&s->nodes, epoch, true);
    btree_check(&s->groups, epoch, true);
    btree_check(&s->pending, epoch, true);
    btree_check(&s->owned, epoch, true);
    check_nodes(s);
    uint64_t groups = 0, consumers = 0, owned = 0, pending = 0;
    struct stream_name_iter it, inner;
    struct stream_group g;
    struct stream_consumer consumer;
    struct slice name;
    for (stream_group_iter_init(&it, s); stream_group_iter_next(&it, &name, &g); groups++) {
        struct stream_group found;
        bool there = stream_group_find(s, name, &found);
        assert(there && found.number == g.number && g.number < s->next_group);
        (void)there;
        pending += stream_pending_count(s, &g);
        stream_consumer_iter_init(&inner, s, &g);
        for (; stream_consumer_iter_next(&inner, s, &g, &name, &consumer); consumers++) {
            assert(slice_equal(stream_consumer_name(s, &g, consumer.number), name));
            owned += stream_owned_count(s, &g, consumer.number);
            struct stream_pending p = {.id = STREAM_ID_MIN};
            while (stream_pending_from(s, &g, consumer.number, p.id, &p)) {
                assert(p.consumer == consumer.number);
                if (!stream_id_next(&p.id))
                    break;
            }
        }
        stream_name_iter_deinit(&inner);
    }
    stream_name_iter_deinit(&it);
    assert(groups == stream_group_count(s) && s->groups.count == groups + 2 * consumers);
    assert(pending == s->pending.count && owned == pending && s->owned.count == owned);
}
