/* SPDX-License-Identifier: BSD-3-Clause */
#include "type/stream_node.h"

enum { FLAG_DELETED = 1, FLAG_SAME = 2 };

static int64_t number_at(const char *lp, uint32_t at)
{
    return listpack_get(lp, at).number;
}

static uint32_t skip(const char *lp, uint32_t at, uint64_t count)
{
    for (; count > 0; count--)
        at = listpack_next(lp, at);
    return at;
}

static uint32_t fields_of_master(const char *lp, uint64_t *count)
{
    uint32_t at = skip(lp, listpack_first(lp), 2);
    *count = (uint64_t)number_at(lp, at);
    return listpack_next(lp, at);
}

uint64_t stream_node_live(const char *lp)
{
    return (uint64_t)number_at(lp, listpack_first(lp));
}

uint64_t stream_node_deleted(const char *lp)
{
    return (uint64_t)number_at(lp, listpack_next(lp, listpack_first(lp)));
}

size_t stream_node_room(const struct slice *pairs, size_t count)
{
    enum { HEAD = 5, BACKLEN = 5, NUMBERS = 10 };
    size_t size = NUMBERS * LISTPACK_NUMBER_BYTES;
    for (size_t i = 0; i < count * 2; i++)
        size += pairs[i].size + HEAD + BACKLEN;
    return size;
}

void stream_node_init(char *lp, const struct slice *pairs, size_t count)
{
    listpack_init(lp);
    listpack_insert_number(lp, 0, 0);
    listpack_insert_number(lp, 0, 0);
    listpack_insert_number(lp, 0, (int64_t)count);
    for (size_t i = 0; i < count; i++)
        listpack_insert(lp, 0, pairs[i * 2]);
    listpack_insert_number(lp, 0, 0);
}

static bool has_fields_of_master(const char *lp, const struct slice *pairs, size_t count)
{
    uint64_t fields;
    uint32_t at = fields_of_master(lp, &fields);
    if (fields != count)
        return false;
    for (size_t i = 0; i < count; i++, at = listpack_next(lp, at)) {
        if (!listpack_equal(lp, at, pairs[i * 2]))
            return false;
    }
    return true;
}

void stream_node_append(char *lp, struct stream_id master, struct stream_id id,
                        const struct slice *pairs, size_t count)
{
    bool same = has_fields_of_master(lp, pairs, count);
    listpack_replace_number(lp, listpack_first(lp), (int64_t)stream_node_live(lp) + 1);
    listpack_insert_number(lp, 0, same ? FLAG_SAME : 0);
    listpack_insert_number(lp, 0, (int64_t)(id.ms - master.ms));
    listpack_insert_number(lp, 0, (int64_t)(id.seq - master.seq));
    if (!same)
        listpack_insert_number(lp, 0, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        if (!same)
            listpack_insert(lp, 0, pairs[i * 2]);
        listpack_insert(lp, 0, pairs[i * 2 + 1]);
    }
    listpack_insert_number(lp, 0, (int64_t)(same ? count + 3 : count * 2 + 4));
}

static void read_item(const struct stream_node *n, uint32_t at, struct stream_item *item)
{
    const char *lp = item->lp = n->lp;
    item->at = at;
    int64_t flags = number_at(lp, at);
    item->deleted = flags & FLAG_DELETED;
    item->same = flags & FLAG_SAME;
    at = listpack_next(lp, at);
    item->id.ms = n->master.ms + (uint64_t)number_at(lp, at);
    at = listpack_next(lp, at);
    item->id.seq = n->master.seq + (uint64_t)number_at(lp, at);
    at = listpack_next(lp, at);
    if (item->same) {
        item->field_at = fields_of_master(lp, &item->fields);
        item->value_at = at;
    } else {
        item->fields = (uint64_t)number_at(lp, at);
        item->field_at = listpack_next(lp, at);
    }
}

bool stream_node_first(const struct stream_node *n, struct stream_item *item)
{
    uint64_t fields;
    uint32_t at = fields_of_master(n->lp, &fields);
    at = listpack_next(n->lp, skip(n->lp, at, fields));
    if (at == 0)
        return false;
    read_item(n, at, item);
    return true;
}

bool stream_node_next(const struct stream_node *n, struct stream_item *item)
{
    /* From the flags: the ids, and what follows them. */
    uint64_t elements = item->same ? 3 + item->fields : 4 + item->fields * 2;
    uint32_t at = listpack_next(n->lp, skip(n->lp, item->at, elements));
    if (at == 0)
        return false;
    read_item(n, at, item);
    return true;
}

/* The entry that ends with its count of elements at `at`; the master entry ends with 0. */
static bool item_ending(const struct stream_node *n, uint32_t at, struct stream_item *item)
{
    int64_t elements = number_at(n->lp, at);
    if (elements == 0)
        return false;
    for (; elements > 0; elements--)
        at = listpack_prev(n->lp, at);
    read_item(n, at, item);
    return true;
}

bool stream_node_last(const struct stream_node *n, struct stream_item *item)
{
    return item_ending(n, listpack_last(n->lp), item);
}

bool stream_node_prev(const struct stream_node *n, struct stream_item *item)
{
    return item_ending(n, listpack_prev(n->lp, item->at), item);
}

void stream_node_delete(char *lp, uint32_t at)
{
    listpack_replace_number(lp, at, number_at(lp, at) | FLAG_DELETED);
    uint64_t live = stream_node_live(lp), deleted = stream_node_deleted(lp);
    listpack_replace_number(lp, listpack_first(lp), (int64_t)live - 1);
    listpack_replace_number(lp, listpack_next(lp, listpack_first(lp)), (int64_t)deleted + 1);
}

/* Checking: a cursor over the elements, each taken once. */
struct cursor {
    const char *lp;
    uint32_t at;
};

static bool take_number(struct cursor *c, int64_t *v)
{
    if (c->at == 0)
        return false;
    struct listpack_value value = listpack_get(c->lp, c->at);
    *v = value.number;
    c->at = listpack_next(c->lp, c->at);
    return value.data == NULL;
}

static bool take_any(struct cursor *c, uint64_t count)
{
    for (; count > 0; count--) {
        if (c->at == 0)
            return false;
        c->at = listpack_next(c->lp, c->at);
    }
    return true;
}

static bool check_item(struct cursor *c, uint64_t master_fields, int64_t *flags, int64_t diff[2])
{
    int64_t fields = (int64_t)master_fields, elements;
    if (!take_number(c, flags) || *flags < 0 || *flags > (FLAG_DELETED | FLAG_SAME) ||
        !take_number(c, &diff[0]) || !take_number(c, &diff[1]))
        return false;
    bool same = *flags & FLAG_SAME;
    if (!same && (!take_number(c, &fields) || fields < 0 || fields > UINT32_MAX))
        return false;
    uint64_t values = (uint64_t)fields * (same ? 1 : 2);
    return take_any(c, values) && take_number(c, &elements) &&
           (uint64_t)elements == values + (same ? 3 : 4);
}

bool stream_node_check(const char *lp, size_t size, struct stream_id master, struct stream_id *last)
{
    int64_t live, deleted, fields, zero, flags, diff[2];
    if (!listpack_check(lp, size))
        return false;
    struct cursor c = {lp, listpack_first(lp)};
    if (!take_number(&c, &live) || !take_number(&c, &deleted) || !take_number(&c, &fields) ||
        fields < 0 || fields > UINT32_MAX || !take_any(&c, (uint64_t)fields) ||
        !take_number(&c, &zero) || zero != 0)
        return false;
    bool first = true;
    while (c.at != 0) {
        if (!check_item(&c, (uint64_t)fields, &flags, diff))
            return false;
        struct stream_id id = {master.ms + (uint64_t)diff[0], master.seq + (uint64_t)diff[1]};
        int order = stream_id_compare(id, first ? master : *last);
        if (first ? order < 0 : order <= 0)
            return false;
        first = false;
        *last = id;
        if (flags & FLAG_DELETED)
            deleted--;
        else
            live--;
    }
    return !first && live == 0 && deleted == 0;
}
