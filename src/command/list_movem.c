/* SPDX-License-Identifier: BSD-3-Clause
 *
 * LMOVEM, which moves several elements of a list to an end of another, and what it shares with
 * BLMOVEM. The log has it as commands that Redis 7.0 knows: a push of what was moved and a pop.
 *
 * Where the block of elements comes to stand, and in which order, is the same however it is
 * reached:
 *
 *     one by one   each is put beyond the one before: the block is in the order in which they were
 *                  taken at the tail, and in the opposite order at the head
 *     in bulk      the block is in the order that it had in the source
 *
 * so that a block whose ends differ is in the source's order in both cases.
 */
#include "base/mem.h"
#include "base/number.h"
#include "command/list_common.h"
#include "handlers.h"

bool list_parse_movem(struct call *c, int at, struct list_movem *o)
{
    *o = (struct list_movem){.count = 1};
    if (!list_parse_end(c, c->argv[3], &o->from) || !list_parse_end(c, c->argv[4], &o->to))
        return false;
    if (c->argc == at)
        return true;
    if (c->argc != at + 3) {
        reply_syntax_error(c->reply);
        return false;
    }
    o->exactly = slice_is(c->argv[at], "exactly");
    o->in_bulk = slice_is(c->argv[at + 2], "bulk");
    if ((!o->exactly && !slice_is(c->argv[at], "count")) ||
        (!o->in_bulk && !slice_is(c->argv[at + 2], "obo"))) {
        reply_syntax_error(c->reply);
        return false;
    }
    int64_t count;
    if (!call_int64_range(c, c->argv[at + 1], 1, INT64_MAX, &count,
                          "ERR count should be greater than 0"))
        return false;
    o->count = (uint64_t)count;
    return true;
}

/* A copy of an element, which the caller frees. */
static struct slice copy_item(const struct entry *e, uint64_t index, char **heap)
{
    struct list_iter it;
    struct slice item = {NULL, 0};
    list_iter_init(&it, e, index, false);
    list_iter_next(&it, &item);
    *heap = mem_alloc(item.size + 1);
    if (item.size > 0)
        memcpy(*heap, item.data, item.size);
    return slice_of(*heap, item.size);
}

/* Within one list. */
static void move_within(struct keyref *ref, const struct list_movem *o, uint64_t count)
{
    char *heap;
    if (o->from != o->to) {
        /* Pushed first, so that the key stays when it has no other element. */
        for (uint64_t i = 0; i < count; i++) {
            uint64_t index = o->from == LIST_HEAD ? 0 : list_count(ref->entry) - 1;
            struct slice item = copy_item(ref->entry, index, &heap);
            list_push(ref, o->to, &item, 1);
            list_pop(ref, o->from, 1, NULL, NULL);
            mem_free(heap);
        }
    } else if (!o->in_bulk) {
        /* The block turns round where it stands. */
        uint64_t first = o->from == LIST_HEAD ? 0 : list_count(ref->entry) - count;
        for (uint64_t i = first, j = first + count - 1; i < j; i++, j--) {
            char *other_heap;
            struct slice item = copy_item(ref->entry, i, &heap);
            struct slice other = copy_item(ref->entry, j, &other_heap);
            list_set(ref, i, other);
            list_set(ref, j, item);
            mem_free(heap);
            mem_free(other_heap);
        }
    }
}

/* From one list to another. */
static void move_between(struct keyref *from, struct keyref *to, const struct list_movem *o,
                         uint64_t count)
{
    uint64_t total = list_count(from->entry), first = o->from == LIST_HEAD ? 0 : total - count;
    /* The block's order in the destination is the source's, or the opposite; at the head the
     * element that comes to stand last is pushed first. */
    bool turned = o->from == o->to && !o->in_bulk, reverse = turned != (o->to == LIST_HEAD);
    struct list_iter it;
    struct slice item;
    list_iter_init(&it, from->entry, reverse ? first + count - 1 : first, reverse);
    for (uint64_t i = 0; i < count && list_iter_next(&it, &item); i++)
        list_push(to, o->to, &item, 1);
    list_pop(from, o->from, count, NULL, NULL);
}

/* As many at a time as a request may well have. */
#define EFFECT_ITEMS 512

/* What stands at the end `to` of `e`, pushed on that end of the destination. */
static void put_pushes(struct call *c, const struct entry *e, enum list_end to, uint64_t count)
{
    struct list_iter it;
    struct slice item;
    bool head = to == LIST_HEAD;
    list_iter_init(&it, e, head ? count - 1 : list_count(e) - count, head);
    for (uint64_t done = 0; done < count;) {
        uint64_t n = count - done < EFFECT_ITEMS ? count - done : EFFECT_ITEMS;
        call_effect_begin(c, c->db, n + 2);
        call_effect_argument(c, head ? SLICE("LPUSH") : SLICE("RPUSH"));
        call_effect_argument(c, c->argv[2]);
        for (uint64_t i = 0; i < n && list_iter_next(&it, &item); i++)
            call_effect_argument(c, item);
        done += n;
    }
}

/* `e`: the destination as it is now. */
static void put_effect(struct call *c, const struct list_movem *o, const struct entry *e,
                       uint64_t count, bool same)
{
    char text[NUMBER_INT64_SIZE];
    if (c->stream == NULL)
        return;
    if (count == 1) {
        CALL_EFFECT(c, c->db, SLICE("LMOVE"), c->argv[1], c->argv[2], c->argv[3], c->argv[4]);
        return;
    }
    if (same && o->from == o->to) {
        if (o->in_bulk) {
            call_no_effect(c);
            return;
        }
        uint64_t first = o->from == LIST_HEAD ? 0 : list_count(e) - count;
        struct list_iter it;
        struct slice item;
        list_iter_init(&it, e, first, false);
        call_effect_group(c);
        for (uint64_t i = first; i < first + count && list_iter_next(&it, &item); i++)
            CALL_EFFECT(c, c->db, SLICE("LSET"), c->argv[1],
                        slice_of(text, number_format_int64(text, (int64_t)i)), item);
        return;
    }
    call_effect_group(c);
    put_pushes(c, e, o->to, count);
    CALL_EFFECT(c, c->db, o->from == LIST_HEAD ? SLICE("LPOP") : SLICE("RPOP"), c->argv[1],
                slice_of(text, number_format_int64(text, (int64_t)count)));
}

static void reply_block(struct call *c, const struct entry *e, enum list_end end, uint64_t count)
{
    struct list_iter it;
    struct slice item;
    reply_array(c->reply, count);
    list_iter_init(&it, e, end == LIST_HEAD ? 0 : list_count(e) - count, false);
    for (uint64_t i = 0; i < count && list_iter_next(&it, &item); i++)
        reply_bulk(c->reply, item);
}

bool list_reply_movem(struct call *c, const struct list_movem *o)
{
    struct keyref from, to;
    if (!call_find_write(c, c->argv[1], ENTRY_LIST, &from))
        return true;
    if (!from.entry)
        return false;
    uint64_t count = list_count(from.entry);
    if (o->exactly && count < o->count)
        return false;
    if (count > o->count)
        count = o->count;
    bool same = slice_equal(c->argv[1], c->argv[2]), is_new = false;
    if (same) {
        move_within(&from, o, count);
    } else {
        if (!call_find_write(c, c->argv[2], ENTRY_LIST, &to))
            return true;
        is_new = to.entry == NULL;
        move_between(&from, &to, o, count);
    }
    const struct entry *e = same ? from.entry : to.entry;
    reply_block(c, e, o->to, count);
    put_effect(c, o, e, count, same);
    if (is_new)
        call_changed(c, c->db, c->argv[2], EVENT_NEW_KEY, "new", 0);
    call_changed(c, c->db, c->argv[2], EVENT_LIST, o->to == LIST_HEAD ? "lpush" : "rpush", 0);
    call_changed(c, c->db, c->argv[1], EVENT_LIST, o->from == LIST_HEAD ? "lpop" : "rpop", count);
    if (!from.entry)
        call_changed(c, c->db, c->argv[1], EVENT_GENERIC, "del", 0);
    return true;
}

void cmd_lmovem(struct call *c)
{
    struct list_movem o;
    if (!list_parse_movem(c, 5, &o) || list_reply_movem(c, &o))
        return;
    if (o.exactly)
        reply_null_array(c->reply);
    else
        reply_empty_array(c->reply);
}
