/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A scratch: a set that is built aside, under a key of a database of its own, which is empty but
 * for it and which no snapshot sees. From there it is moved under its key as by RENAME, or thrown
 * away.
 */
#ifndef HF_TYPE_SET_SCRATCH_H
#define HF_TYPE_SET_SCRATCH_H

#include "type/set.h"

struct set_scratch {
    struct db db;
    struct keyref ref; /* for set_add, set_remove; ref.entry: the set, NULL while it is empty */
};

/* `key` is the name that the result will have; it must live as long as the scratch, which must not
 * be moved. */
void set_scratch_init(struct set_scratch *s, struct keyspace *ks, struct slice key);
/* Throws away what is still in it. */
void set_scratch_deinit(struct set_scratch *s);
/* Move the set, if there is one, to `to` (the same key): what that had before is deleted. */
void set_scratch_move(struct set_scratch *s, struct keyref *to);

#endif
