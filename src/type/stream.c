/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Streams: their entries. Groups are in stream_group.c.
 */
#include "type/stream.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/mem.h"

#define ID_SIZE 16

bool stream_id_next(struct stream_id *id)
{
    if (id->ms == UINT64_MAX && id->seq == UINT64_MAX)
        return false;
    if (++id->seq == 0)
        id->ms++;
    return true;
}

bool stream_id_prev(struct stream_id *id)
{
    if (stream_id_is_zero(*id))
        return false;
    if (id->seq-- == 0)
        id->ms--;
    return true;
}

void stream_id_put(char out[16], struct stream_id id)
{
    bytes_put_be(out, id.ms, 8);
    bytes_put_be(out + 8, id.seq, 8);
}

struct stream_id stream_id_get(const char in[16])
{
    return (struct stream_id){bytes_be(in, 8), bytes_be(in + 8, 8)};
}

struct stream_root *stream_create(struct keyref *ref)
{
    return stream_root_of(keyref_put(ref, ENTRY_NO_EXPIRY, ENTRY_STREAM, ENTRY_STREAM_TREES, 0));
}

/* ---- the tail ---- */

static struct stream_node node_of_item(struct slice item)
{
    return (struct stream_node){item.data + ID_SIZE, stream_id_get(item.data)};
}

static struct slice item_of_tail(const struct stream_tail *tail)
{
    return slice_of(tail->item, ID_SIZE + listpack_size(tail->item + ID_SIZE));
}

static struct stream_node node_of_tail(const struct stream_tail *tail)
{
    return node_of_item(item_of_tail(tail));
}

static char *tail_listpack(struct stream_root *s)
{
    return s->tail->item + ID_SIZE;
}

static struct stream_tail *tail_alloc(const struct epoch *e, size_t item_size)
{
    size_t size = mem_good_size(sizeof(struct stream_tail) + item_size);
    struct stream_tail *tail = mem_alloc(size);
    tail->birth = e->now;
    tail->size = size;
    return tail;
}

static void tail_retire(struct epoch *e, struct stream_tail *tail)
{
    epoch_retire(e, tail, tail->size, tail->birth);
}

/* Make the tail changeable, with room for `more` bytes. */
static void tail_own(struct stream_root *s, struct epoch *e, size_t more)
{
    struct stream_tail *tail = s->tail;
    struct slice item = item_of_tail(tail);
    size_t need = item.size + more;
    bool owned = epoch_owned(e, tail->birth);
    if (owned && sizeof(*tail) + need <= tail->size)
        return;
    struct stream_tail *fresh = tail_alloc(e, owned ? need + need / 2 : need);
    memcpy(fresh->item, item.data, item.size);
    tail_retire(e, tail);
    s->tail = fresh;
}

/* The tail becomes the last node of the tree. */
static void tail_seal(struct stream_root *s, struct epoch *e)
{
    btree_append(&s->nodes, e, item_of_tail(s->tail));
    tail_retire(e, s->tail);
    s->tail = NULL;
}

/* The tail is gone: the last node of the tree, if there is one, becomes the tail. */
static void tail_refill(struct stream_root *s, struct epoch *e)
{
    if (s->nodes.count == 0)
        return;
    struct btree_pos pos;
    btree_seek_rank(&s->nodes, s->nodes.count - 1, &pos);
    struct slice item = btree_item(&pos);
    s->tail = tail_alloc(e, item.size);
    memcpy(s->tail->item, item.data, item.size);
    btree_remove(&s->nodes, e, &pos);
}

static void tail_drop(struct stream_root *s, struct epoch *e)
{
    tail_retire(e, s->tail);
    s->tail = NULL;
    tail_refill(s, e);
}

/* ---- adding ---- */

/* Whether an entry with so many bytes in its fields and values goes to the tail as well. */
static bool tail_takes(const struct stream_root *s, const struct encoding_limits *limits,
                       size_t bytes)
{
    const char *lp = s->tail->item + ID_SIZE;
    uint64_t size_max = (uint64_t)limits->stream_node_max_bytes;
    if (size_max == 0 || size_max > STREAM_NODE_SIZE_MAX)
        size_max = STREAM_NODE_SIZE_MAX;
    if (listpack_size(lp) + bytes >= size_max)
        return false;
    return limits->stream_node_max_entries == 0 || stream_node_live(lp) + stream_node_deleted(lp) <
                                                       (uint64_t)limits->stream_node_max_entries;
}

static size_t bytes_of(const struct slice *pairs, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count * 2; i++)
        bytes += pairs[i].size;
    return bytes;
}

void stream_add(struct stream_root *s, struct epoch *e, const struct encoding_limits *limits,
                struct stream_id id, const struct slice *pairs, size_t count)
{
    assert(stream_id_compare(id, s->last) > 0);
    size_t room = stream_node_room(pairs, count);
    if (s->tail && !tail_takes(s, limits, bytes_of(pairs, count)))
        tail_seal(s, e);
    if (s->tail) {
        tail_own(s, e, room);
    } else {
        s->tail = tail_alloc(e, ID_SIZE + LISTPACK_EMPTY_SIZE + room * 2);
        stream_id_put(s->tail->item, id);
        stream_node_init(tail_listpack(s), pairs, count);
    }
    stream_node_append(tail_listpack(s), node_of_tail(s->tail).master, id, pairs, count);
    if (s->length++ == 0)
        s->first = id;
    s->last = id;
    /* Only a payload made by hand has so many: it must not seem that there were fewer than there
     * are. */
    if (s->added != UINT64_MAX)
        s->added++;
}

void stream_add_node(struct stream_root *s, struct epoch *e, struct stream_id master,
                     const char *lp)
{
    if (s->tail)
        tail_seal(s, e);
    size_t size = listpack_size(lp);
    s->tail = tail_alloc(e, ID_SIZE + size);
    stream_id_put(s->tail->item, master);
    memcpy(tail_listpack(s), lp, size);
    s->length += stream_node_live(lp);
}

/* ---- finding ---- */

/* A node: one of the tree, where pos stands, or the tail. */
struct place {
    bool in_tail;
    struct btree_pos pos;
    struct stream_node node;
};

/* The node that the id is in, if it is in any; false when it is before the first. */
static bool find_node(const struct stream_root *s, struct stream_id id, struct place *place)
{
    if (!s->tail)
        return false;
    place->in_tail = true;
    place->node = node_of_tail(s->tail);
    if (stream_id_compare(place->node.master, id) <= 0)
        return true;
    place->in_tail = false;
    char key[ID_SIZE];
    stream_id_put(key, id);
    btree_seek(&s->nodes, slice_of(key, sizeof(key)), &place->pos);
    bool equal =
        !btree_at_end(&place->pos) && memcmp(btree_item(&place->pos).data, key, sizeof(key)) == 0;
    if (!equal && !btree_prev(&place->pos))
        return false;
    place->node = node_of_item(btree_item(&place->pos));
    return true;
}

static bool find_place(const struct stream_root *s, struct stream_id id, struct place *place,
                       struct stream_item *item)
{
    if (!find_node(s, id, place))
        return false;
    for (bool more = stream_node_first(&place->node, item); more;
         more = stream_node_next(&place->node, item)) {
        int order = stream_id_compare(item->id, id);
        if (order >= 0)
            return order == 0 && !item->deleted;
    }
    return false;
}

bool stream_find(const struct stream_root *s, struct stream_id id, struct stream_item *item)
{
    struct place place;
    struct stream_item found;
    return find_place(s, id, &place, item ? item : &found);
}

/* ---- iteration ---- */

void stream_iter_init(struct stream_iter *it, const struct stream_root *s, struct stream_id from,
                      struct stream_id to, bool reverse)
{
    it->s = s;
    it->from = from;
    it->to = to;
    it->reverse = reverse;
    it->begun = false;
    it->ended = stream_id_compare(from, to) > 0;
}

static void iter_take(struct stream_iter *it, const struct place *place)
{
    it->in_tail = place->in_tail;
    if (!place->in_tail)
        it->pos = place->pos;
    it->node = place->node;
}

static void iter_take_tail(struct stream_iter *it)
{
    it->in_tail = true;
    it->node = node_of_tail(it->s->tail);
}

/* The node where the iteration begins. */
static bool iter_first_node(struct stream_iter *it)
{
    struct place place;
    if (!it->s->tail)
        return false;
    if (find_node(it->s, it->reverse ? it->to : it->from, &place)) {
        iter_take(it, &place);
        return true;
    }
    if (it->reverse)
        return false;
    if (it->s->nodes.count == 0) {
        iter_take_tail(it);
        return true;
    }
    btree_seek_rank(&it->s->nodes, 0, &place.pos);
    place.in_tail = false;
    place.node = node_of_item(btree_item(&place.pos));
    iter_take(it, &place);
    return true;
}

static bool iter_next_node(struct stream_iter *it)
{
    if (it->reverse) {
        if (it->in_tail) {
            if (it->s->nodes.count == 0)
                return false;
            btree_seek_rank(&it->s->nodes, it->s->nodes.count - 1, &it->pos);
            it->in_tail = false;
        } else if (!btree_prev(&it->pos)) {
            return false;
        }
    } else {
        if (it->in_tail)
            return false;
        if (!btree_next(&it->pos)) {
            iter_take_tail(it);
            return true;
        }
    }
    it->node = node_of_item(btree_item(&it->pos));
    return true;
}

/* The next entry, deleted or not. */
static bool iter_step(struct stream_iter *it)
{
    bool more;
    if (!it->begun) {
        it->begun = true;
        if (!iter_first_node(it))
            return false;
        more = it->reverse ? stream_node_last(&it->node, &it->item)
                           : stream_node_first(&it->node, &it->item);
    } else {
        more = it->reverse ? stream_node_prev(&it->node, &it->item)
                           : stream_node_next(&it->node, &it->item);
    }
    while (!more) {
        if (!iter_next_node(it))
            return false;
        more = it->reverse ? stream_node_last(&it->node, &it->item)
                           : stream_node_first(&it->node, &it->item);
    }
    return true;
}

bool stream_iter_next(struct stream_iter *it, struct stream_item *item)
{
    while (!it->ended && iter_step(it)) {
        int above = stream_id_compare(it->item.id, it->from);
        int below = stream_id_compare(it->item.id, it->to);
        if (it->reverse ? above < 0 : below > 0)
            break;
        if (above < 0 || below > 0 || it->item.deleted)
            continue;
        *item = it->item;
        return true;
    }
    it->ended = true;
    return false;
}

void stream_item_pair(struct stream_item *item, struct stream_pair *pair)
{
    const char *lp = item->lp;
    uint32_t value_at = item->same ? item->value_at : listpack_next(lp, item->field_at);
    pair->field = listpack_get_slice(lp, item->field_at, pair->field_number);
    pair->value = listpack_get_slice(lp, value_at, pair->value_number);
    if (item->same) {
        item->field_at = listpack_next(lp, item->field_at);
        item->value_at = listpack_next(lp, value_at);
    } else {
        item->field_at = listpack_next(lp, value_at);
    }
}

bool stream_edge(const struct stream_root *s, bool newest, struct stream_item *item)
{
    struct stream_iter it;
    stream_iter_init(&it, s, STREAM_ID_MIN, STREAM_ID_MAX, newest);
    return stream_iter_next(&it, item);
}

uint64_t stream_node_count(const struct stream_root *s)
{
    return s->nodes.count + (s->tail != NULL);
}

void stream_node_iter_init(struct stream_node_iter *it, const struct stream_root *s)
{
    it->s = s;
    it->tail_given = s->tail == NULL;
    btree_seek_rank(&s->nodes, 0, &it->pos);
}

bool stream_node_iter_next(struct stream_node_iter *it, struct stream_node *node)
{
    if (!btree_at_end(&it->pos)) {
        *node = node_of_item(btree_item(&it->pos));
        btree_next(&it->pos);
        return true;
    }
    if (it->tail_given)
        return false;
    it->tail_given = true;
    *node = node_of_tail(it->s->tail);
    return true;
}

/* ---- removing ---- */

static void find_first(struct stream_root *s)
{
    struct stream_item item;
    s->first = stream_edge(s, false, &item) ? item.id : STREAM_ID_MIN;
}

/* A copy of the node where pos stands, to be changed and put back by node_put. */
static char *node_copy(const struct btree_pos *pos)
{
    struct slice item = btree_item(pos);
    char *copy = mem_alloc(item.size + 2 * LISTPACK_NUMBER_BYTES);
    memcpy(copy, item.data, item.size);
    return copy;
}

static void node_put(struct stream_root *s, struct epoch *e, struct btree_pos *pos, char *copy)
{
    btree_replace(&s->nodes, e, pos, slice_of(copy, ID_SIZE + listpack_size(copy + ID_SIZE)));
    mem_free(copy);
}

bool stream_delete(struct stream_root *s, struct epoch *e, struct stream_id id)
{
    struct place place;
    struct stream_item item;
    if (!find_place(s, id, &place, &item))
        return false;
    bool alone = stream_node_live(place.node.lp) == 1;
    if (place.in_tail && alone) {
        tail_drop(s, e);
    } else if (place.in_tail) {
        tail_own(s, e, LISTPACK_NUMBER_BYTES);
        stream_node_delete(tail_listpack(s), item.at);
    } else if (alone) {
        btree_remove(&s->nodes, e, &place.pos);
    } else {
        char *copy = node_copy(&place.pos);
        stream_node_delete(copy + ID_SIZE, item.at);
        node_put(s, e, &place.pos, copy);
    }
    s->length--;
    if (stream_id_compare(id, s->max_deleted) > 0)
        s->max_deleted = id;
    if (stream_id_compare(id, s->first) == 0)
        find_first(s);
    return true;
}

/* Whether trimming removes all of a node, `length` entries being left at that point. */
static bool trims_node(const struct stream_trim *trim, const struct stream_node *node,
                       uint64_t length)
{
    if (!trim->by_id)
        return length - stream_node_live(node->lp) >= trim->max_length;
    struct stream_item last;
    return stream_node_last(node, &last) && stream_id_compare(last.id, trim->min_id) < 0;
}

/* Delete entries from the node's front on; returns how many. */
static uint64_t trim_within(const struct stream_trim *trim, char *lp, struct stream_id master,
                            uint64_t length)
{
    struct stream_node node = {lp, master};
    struct stream_item item;
    uint64_t deleted = 0;
    for (bool more = stream_node_first(&node, &item); more; more = stream_node_next(&node, &item)) {
        if (trim->by_id ? stream_id_compare(item.id, trim->min_id) >= 0
                        : length - deleted <= trim->max_length)
            break;
        if (item.deleted)
            continue;
        uint32_t size = listpack_size(lp);
        stream_node_delete(lp, item.at);
        /* The counts in front may have grown, or shrunk. */
        item.at = item.at + listpack_size(lp) - size;
        deleted++;
    }
    return deleted;
}

static uint64_t trim_first_node(struct stream_root *s, struct epoch *e,
                                const struct stream_trim *trim)
{
    uint64_t deleted;
    bool empty;
    /* Two counts may take a byte more each; entries are flagged in place. */
    if (s->nodes.count == 0) {
        tail_own(s, e, 2 * LISTPACK_NUMBER_BYTES);
        deleted = trim_within(trim, tail_listpack(s), node_of_tail(s->tail).master, s->length);
        empty = stream_node_live(tail_listpack(s)) == 0;
        if (empty)
            tail_drop(s, e);
        return deleted;
    }
    struct btree_pos pos;
    btree_seek_rank(&s->nodes, 0, &pos);
    char *copy = node_copy(&pos);
    deleted = trim_within(trim, copy + ID_SIZE, stream_id_get(copy), s->length);
    empty = stream_node_live(copy + ID_SIZE) == 0;
    if (deleted > 0 && !empty) {
        node_put(s, e, &pos, copy);
        return deleted;
    }
    mem_free(copy);
    if (empty)
        btree_remove(&s->nodes, e, &pos);
    return deleted;
}

/* The nodes at the front that trimming removes as a whole. */
struct trimmed_nodes {
    uint64_t nodes, entries;
    bool within;                   /* then some entries of the next one */
    struct stream_node last, next; /* the last of them, and the one behind */
};

static struct trimmed_nodes find_trimmed(const struct stream_root *s,
                                         const struct stream_trim *trim)
{
    struct trimmed_nodes t = {.nodes = 0};
    struct stream_node_iter it;
    bool stopped = false;
    stream_node_iter_init(&it, s);
    while (stream_node_iter_next(&it, &t.next)) {
        uint64_t live = stream_node_live(t.next.lp), length = s->length - t.entries;
        stopped = (!trim->by_id && length <= trim->max_length) ||
                  (trim->limit != 0 && t.entries + live > trim->limit);
        if (stopped || !trims_node(trim, &t.next, length))
            break;
        t.last = t.next;
        t.entries += live;
        t.nodes++;
    }
    t.within = t.nodes != stream_node_count(s) && !stopped && !trim->approximate;
    return t;
}

bool stream_trim_last(const struct stream_root *s, const struct stream_trim *trim,
                      struct stream_id *last)
{
    struct trimmed_nodes t = find_trimmed(s, trim);
    struct stream_item item;
    uint64_t left = s->length - t.entries;
    bool any = t.nodes > 0;
    /* Its last entry may have been deleted before, which is as good. */
    if (any && stream_node_last(&t.last, &item))
        *last = item.id;
    bool more = t.within && stream_node_first(&t.next, &item);
    for (; more; more = stream_node_next(&t.next, &item)) {
        if (trim->by_id ? stream_id_compare(item.id, trim->min_id) >= 0 : left <= trim->max_length)
            break;
        if (item.deleted)
            continue;
        *last = item.id;
        any = true;
        left--;
    }
    return any;
}

uint64_t stream_trim_front(struct stream_root *s, struct epoch *e, const struct stream_trim *trim)
{
    struct trimmed_nodes t = find_trimmed(s, trim);
    uint64_t removed = t.entries;
    bool all = t.nodes == stream_node_count(s);
    btree_remove_range(&s->nodes, e, 0, t.nodes);
    if (all && s->tail) {
        tail_retire(e, s->tail);
        s->tail = NULL;
    }
    s->length -= removed;
    if (t.within) {
        uint64_t deleted = trim_first_node(s, e, trim);
        s->length -= deleted;
        removed += deleted;
    }
    if (removed > 0)
        find_first(s);
    return removed;
}

/* ---- what is known of the past ---- */

int64_t stream_entries_up_to(const struct stream_root *s, struct stream_id id)
{
    if (s->added == 0)
        return 0;
    int order = stream_id_compare(id, s->last);
    if (s->length == 0 && order <= 0)
        return (int64_t)s->added;
    if (order == 0)
        return (int64_t)s->added;
    if (order > 0)
        return STREAM_READ_UNKNOWN;
    /* Entries behind the first may be missing if one was deleted there. */
    int against_first = stream_id_compare(id, s->first);
    if (against_first <= 0 &&
        (stream_id_is_zero(s->max_deleted) || stream_id_compare(s->max_deleted, s->first) < 0))
        return (int64_t)(s->added - s->length) + (against_first == 0);
    return STREAM_READ_UNKNOWN;
}

bool stream_has_gap_from(const struct stream_root *s, struct stream_id from)
{
    return s->length > 0 && stream_id_compare(s->max_deleted, s->first) >= 0 &&
           stream_id_compare(from, s->max_deleted) <= 0;
}

/* ---- the radix tree that Redis would have ---- */

#define RADIX_EXACT 512

/* Bytes that two keys have in common. */
static unsigned common(const char a[ID_SIZE], const char b[ID_SIZE])
{
    unsigned n = 0;
    while (n < ID_SIZE && a[n] == b[n])
        n++;
    return n;
}

/* The nodes below a branch at depth `from`, for keys from `first` to `end`: a run of bytes that all
 * share, if there is one, then a leaf or a node that branches. */
static uint64_t radix_below(char (*keys)[ID_SIZE], size_t first, size_t end, unsigned from)
{
    if (end - first == 1)
        return 1 + (from < ID_SIZE);
    unsigned depth = common(keys[first], keys[end - 1]);
    uint64_t nodes = 1 + (depth > from);
    for (size_t i = first; i < end;) {
        size_t next = i + 1;
        while (next < end && keys[next][depth] == keys[i][depth])
            next++;
        nodes += radix_below(keys, i, next, depth + 1);
        i = next;
    }
    return nodes;
}

uint64_t stream_radix_nodes(const struct stream_root *s)
{
    char keys[RADIX_EXACT][ID_SIZE];
    struct stream_node_iter it;
    struct stream_node node;
    uint64_t count = stream_node_count(s);
    size_t n = 0;
    if (count == 0)
        return 1;
    stream_node_iter_init(&it, s);
    while (n < RADIX_EXACT && stream_node_iter_next(&it, &node))
        stream_id_put(keys[n++], node.master);
    return radix_below(keys, 0, n, 0) * count / n;
}
