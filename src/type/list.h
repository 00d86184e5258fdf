/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Lists. A list whose listpack takes at most ENTRY_EMBED_MAX bytes is that listpack, embedded in
 * the entry (ENTRY_LISTPACK); a longer one is a btree by position (ENTRY_BTREE) and stays one, as a
 * tree of one leaf costs little more.
 *
 * What OBJECT ENCODING reports follows Redis 7.2 and is worked out when it is asked for: "listpack"
 * while the elements would fit in one listpack of list-max-listpack-size, else "quicklist".
 *
 * Functions that take a keyref change the list and leave ref->entry up to date; one that removes
 * the last element deletes the key (ref->entry is NULL then). Slices given in are copied and must
 * not point into the list itself. Functions that take a const entry write nothing and may be used
 * on a frozen entry by any thread.
 */
#ifndef HF_TYPE_LIST_H
#define HF_TYPE_LIST_H

#include "keyspace/keyspace.h"
#include "structure/listpack.h"

enum list_end { LIST_HEAD, LIST_TAIL };

uint64_t list_count(const struct entry *e);
const char *list_encoding_name(const struct entry *e, const struct encoding_limits *limits);

/* Iteration, from an index (0 .. count - 1; beyond the list there is nothing) towards the tail, or
 * with `reverse` towards the head. The list must not change meanwhile. */
struct list_iter {
    const char *lp; /* NULL for a tree */
    uint32_t at;
    bool reverse, more;
    struct btree_pos pos;
    char number[LISTPACK_NUMBER_SIZE];
};
void list_iter_init(struct list_iter *it, const struct entry *e, uint64_t index, bool reverse);
/* The next element, valid until the next call (in a tree: until the list is changed). */
bool list_iter_next(struct list_iter *it, struct slice *item);

typedef void list_visit_fn(void *ctx, struct slice item);

/* Push the items one after another on an end. Creates the list. */
void list_push(struct keyref *ref, enum list_end end, const struct slice *items, size_t count);

/* Take up to `count` elements off an end, each shown to fn (if not NULL) from that end on. fn must
 * not change the keyspace. Returns how many. */
uint64_t list_pop(struct keyref *ref, enum list_end end, uint64_t count, list_visit_fn *fn,
                  void *ctx);

/* Replace the element at index, which must be there. */
void list_set(struct keyref *ref, uint64_t index, struct slice item);

/* Insert before or behind the first element equal to pivot. False: there is none. */
bool list_insert(struct keyref *ref, struct slice pivot, bool before, struct slice item);

/* Keep only the `count` elements from `first` on (within the list). */
void list_trim(struct keyref *ref, uint64_t first, uint64_t count);

/* Remove the first `limit` (0: all) elements equal to item, seen from the head, or with `reverse`
 * from the tail. Returns how many. */
uint64_t list_remove(struct keyref *ref, struct slice item, uint64_t limit, bool reverse);

/* Building a list aside, for loading. One builder may build many, one after another. */
struct list_builder {
    struct epoch *epoch;
    bool large;
    struct btree tree;
    char lp[ENTRY_EMBED_MAX];
};
void list_builder_init(struct list_builder *b, struct epoch *epoch);
void list_builder_add(struct list_builder *b, struct slice item);
/* Add all elements of a listpack that listpack_check has passed. */
void list_builder_add_listpack(struct list_builder *b, const char *lp);
uint64_t list_builder_count(const struct list_builder *b);
/* The finished entry, for db_insert or keyref_give; NULL when nothing was added. The builder is
 * empty afterwards. */
struct entry *list_builder_finish(struct list_builder *b, struct slice key, int64_t due);
/* Throw away what was added. */
void list_builder_reset(struct list_builder *b);

#endif
