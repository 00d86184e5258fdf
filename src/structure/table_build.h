/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Building a whole table at once, by several threads: for loading.
 *
 * Inserting item by item touches a random segment for each and grows and splits every segment many
 * times. When all items are there before the table is, none of that is needed: they are sorted by
 * the bits of their hashes, one level of the trie after the other, and each segment is made in its
 * final size, filled while it is in the cache. The threads have nothing in common, as each builds
 * what lies under other slots of the root page:
 *
 *     who makes the items   keeps them by the top byte of their hashes: 256 parts
 *     table_build_plan      from the number of items in each part: which runs of parts become one
 *                           segment, and which parts a page and all below it. These are the tasks
 *     table_build_task      makes one of them: on any thread, all at once if there are so many
 *     table_build_finish    links the results into a table
 *
 * The table is as any other afterwards: full segments, the smallest pages that will do, all nodes
 * born in the epoch that was given, the earliest expiries noted.
 */
#ifndef HF_STRUCTURE_TABLE_BUILD_H
#define HF_STRUCTURE_TABLE_BUILD_H

#include "structure/table.h"

#define TABLE_BUILD_PARTS 256

/* An item and its hash. The lowest bit of the address says that the item has an expiry, so that the
 * other items need not be touched for it. */
struct table_pair {
    uint64_t hash;
    uintptr_t item;
};
#define TABLE_PAIR_DUE 1U

static inline void *table_pair_item(const struct table_pair *pair)
{
    return (void *)(pair->item & ~(uintptr_t)TABLE_PAIR_DUE);
}

static inline uint32_t table_build_part(uint64_t hash)
{
    return (uint32_t)(hash >> 56);
}

struct table_build {
    const struct table_type *type;
    uint64_t counts[TABLE_BUILD_PARTS];
    uint64_t total;
    uint32_t task_count; /* 0: there are no items */
    struct table_build_task {
        uint32_t first, parts; /* builds these parts: one, two, four, ... 256 of them */
        uint64_t items;
        trie_word word;    /* the result; 0: not built yet */
        uint64_t rejected; /* items of it that were not put in */
    } tasks[TABLE_BUILD_PARTS];
};

void table_build_plan(struct table_build *b, const struct table_type *type,
                      const uint64_t counts[TABLE_BUILD_PARTS]);

/* Build a task from its items, in any order; both arrays have room for task->items of them, and
 * their contents are used up. `e` is the thread's own or nobody else's meanwhile: only e->now and
 * the marks are read, which must be the same still when the table is made. An item whose key is
 * there already is not put in but given to `reject`: false is returned, and the rest is built all
 * the same.
 */
bool table_build_task(struct table_build *b, const struct epoch *e, uint32_t task,
                      struct table_pair *pairs, struct table_pair *scratch,
                      void (*reject)(void *ctx, void *item), void *ctx);

/* All tasks are built: make the table, which must be empty. */
void table_build_finish(struct table_build *b, const struct epoch *e, struct table *t);

#endif
