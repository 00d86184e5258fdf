/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Values of any type, seen in one way: their number of elements, and their elements one after
 * another.
 */
#ifndef HF_TOOL_VALUE_H
#define HF_TOOL_VALUE_H

#include "base/number.h"
#include "base/text.h"
#include "keyspace/keyspace.h"
#include "type/list.h"
#include "type/member.h"
#include "type/stream.h"
#include "type/zset.h"

/* Items, members, fields or entries; 1 for a string. */
uint64_t value_count(const struct entry *e);

/* Iteration. What an element is made of:
 *     string           value: all of it, the only element
 *     list, set        value
 *     hash             field, value; due: when the field expires
 *     zset             field: the member; value: the score as text, and as a number in `score`
 *     stream           field: the id; value: fields and values as a JSON array; and last, without a
 *                      field, everything else (ids, counters, groups) as a JSON object */
struct value_element {
    struct slice field, value;
    double score;
    int64_t due; /* ENTRY_NO_EXPIRY: it does not expire on its own */
};
struct value_iter {
    const struct entry *e;
    bool ended;
    struct list_iter list;
    struct member_iter member;
    struct zset_iter zset;
    struct stream_iter stream;
    struct text json; /* a stream's element */
    char number[NUMBER_DOUBLE_SIZE + 8]; /* also an id */
    char *heap; /* of a large string */
};
void value_iter_init(struct value_iter *it, const struct entry *e);
/* The slices are valid until the next call. */
bool value_iter_next(struct value_iter *it, struct value_element *element);
void value_iter_deinit(struct value_iter *it);

#endif
