/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values of any type, seen in one way: their number of elements, and their elements one after
 * another.
 */
#ifndef HF_TOOL_VALUE_H
#define HF_TOOL_VALUE_H

#include "base/number.h"
#include "keyspace/keyspace.h"
#include "type/list.h"
#include "type/member.h"
#include "type/zset.h"

/* Items, members or fields; 1 for a string. */
uint64_t value_count(const struct entry *e);

/* Iteration. What an element is made of:
 *     string           value: all of it, the only element
 *     list, set        value
 *     hash             field, value
 *     zset             field: the member; value: the score as text, and as a number in `score` */
struct value_element {
    struct slice field, value;
    double score;
};
struct value_iter {
    const struct entry *e;
    bool ended;
    struct list_iter list;
    struct member_iter member;
    struct zset_iter zset;
    char number[NUMBER_DOUBLE_SIZE];
    char *heap; /* of a large string */
};
void value_iter_init(struct value_iter *it, const struct entry *e);
/* The slices are valid until the next call. */
bool value_iter_next(struct value_iter *it, struct value_element *element);
void value_iter_deinit(struct value_iter *it);

#endif
