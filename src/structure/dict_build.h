/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Building a whole dict at once, for loading: items are added in any order, and at the end the dict
 * is made with every leaf and page in its final size. Adding them one by one would touch a random
 * leaf for each, and copy and split every leaf many times.
 *
 * Items are kept packed as they stand in leaves. When there are many they are kept apart by the top
 * byte of their hashes, and each of these parts is freed once its leaves are made, so that there is
 * never much more than the dict and what has not become part of it yet.
 *
 *     dict_builder_begin    with about how many items will come, if that is known
 *     dict_builder_add      copies the slices; equal keys are not noticed yet
 *     dict_builder_finish   makes the dict; tells whether a key was there twice
 *     dict_builder_drop     instead: throws all away
 *
 * The dict is as any other afterwards; all its nodes are born in the present epoch. A builder
 * belongs to one thread.
 */
#ifndef HF_STRUCTURE_DICT_BUILD_H
#define HF_STRUCTURE_DICT_BUILD_H

#include "structure/dict.h"

#define DICT_BUILD_PARTS 256

struct dict_build_block;

struct dict_builder {
    struct epoch *e;
    enum dict_kind kind;
    uint32_t parts; /* 1 or DICT_BUILD_PARTS: used are so many of the following */
    uint64_t total; /* items added */
    struct dict_build_part {
        struct dict_build_block *blocks;
        uint64_t count, used; /* items, and bytes of them in leaves */
    } part[DICT_BUILD_PARTS];
};

/* Called for an index where two items have one key: with that, the values of the two, and what is
 * to be answered: whether they are the same to the caller. */
typedef bool dict_build_same_fn(void *ctx, uint64_t key, const char value[8], const char other[8]);

void dict_builder_begin(struct dict_builder *b, struct epoch *e, enum dict_kind kind,
                        uint64_t expected);
void dict_builder_add(struct dict_builder *b, uint64_t hash, struct slice key, struct slice value);

/* Make *d, whatever it held before, of all items. False when a key is there twice (in an index: and
 * `same` says yes; NULL: never): *d is empty then. The builder is used up in both cases. */
bool dict_builder_finish(struct dict_builder *b, struct dict *d, dict_build_same_fn *same,
                         void *ctx);
void dict_builder_drop(struct dict_builder *b);

#endif
