/* SPDX-License-Identifier: BSD-3-Clause */
#include "tool/value.h"

#include "base/mem.h"
#include "type/string.h"

uint64_t value_count(const struct entry *e)
{
    switch (entry_type(e)) {
    case ENTRY_LIST:
        return list_count(e);
    case ENTRY_SET:
    case ENTRY_HASH:
        return member_count(e);
    case ENTRY_ZSET:
        return zset_count(e);
    default:
        return 1;
    }
}

void value_iter_init(struct value_iter *it, const struct entry *e)
{
    it->e = e;
    it->ended = false;
    it->heap = NULL;
    switch (entry_type(e)) {
    case ENTRY_LIST:
        list_iter_init(&it->list, e, 0, false);
        break;
    case ENTRY_SET:
    case ENTRY_HASH:
        member_iter_init(&it->member, e);
        break;
    case ENTRY_ZSET:
        zset_iter_init(&it->zset, e, 0, false);
        break;
    default:
        break;
    }
}

bool value_iter_next(struct value_iter *it, struct value_element *element)
{
    struct dict_item item;
    struct zset_item scored;
    element->field = (struct slice){"", 0};
    element->score = 0;
    switch (entry_type(it->e)) {
    case ENTRY_LIST:
        return list_iter_next(&it->list, &element->value);
    case ENTRY_SET:
        if (!member_iter_next(&it->member, &item))
            return false;
        element->value = item.key;
        return true;
    case ENTRY_HASH:
        if (!member_iter_next(&it->member, &item))
            return false;
        element->field = item.key;
        element->value = item.value;
        return true;
    case ENTRY_ZSET:
        if (!zset_iter_next(&it->zset, &scored))
            return false;
        element->field = scored.member;
        element->score = scored.score;
        element->value = slice_of(it->number, number_format_double(it->number, scored.score));
        return true;
    default:
        if (it->ended)
            return false;
        it->ended = true;
        element->value = string_flat(it->e, it->number, &it->heap);
        return true;
    }
}

void value_iter_deinit(struct value_iter *it)
{
    mem_free(it->heap);
    it->heap = NULL;
}
