/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The histories that data have come through: each crash of a primary and each promotion begins a
 * history with an id of its own, which goes on where the one before was left.
 *
 *     A [0 ......... 700] B [700 .. 950] C [950 ...      pasts: B up to 950, A up to 700
 *
 * Two servers whose histories have parted find by it the place up to which their data are the same,
 * though neither knows the other's newest history. Bounded: the oldest are forgotten first.
 * Pure bytes.
 */
#ifndef HF_PERSIST_LOG_LINEAGE_H
#define HF_PERSIST_LOG_LINEAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

#define LINEAGE_MOST 8
#define LINEAGE_ID 40
/* "<id> <lsn> <p or c>", with the zero */
#define LINEAGE_TEXT 64

struct lineage_past {
    char id[LINEAGE_ID + 1];
    uint64_t lsn;  /* up to here the data are those of this history */
    bool promoted; /* left by a promotion, not by a start after a crash */
};

struct lineage {
    int count;
    struct lineage_past pasts[LINEAGE_MOST]; /* the newest first; their LSNs do not grow */
};

/* This one was left last. What there is of it already, and what came behind that, is forgotten. */
void lineage_push(struct lineage *l, const char *id, uint64_t lsn, bool promoted);
/* The data are of this history again: it and those behind it are not past. */
void lineage_cut(struct lineage *l, const char *id);
/* The data end here: those that were left later never were. */
void lineage_cut_at(struct lineage *l, uint64_t lsn);
/* NULL: it is none of them. */
const struct lineage_past *lineage_find(const struct lineage *l, struct slice id);

void lineage_format(const struct lineage_past *past, char text[LINEAGE_TEXT]);
/* False: it is not exactly of that form. */
bool lineage_parse(struct slice text, struct lineage_past *past);
/* Put the one that was at this place of another list. False: there is no such place. */
bool lineage_put(struct lineage *l, int64_t index, const struct lineage_past *past);

#endif
