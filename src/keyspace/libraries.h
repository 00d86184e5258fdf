/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The code of the libraries of functions, which is data as keys are: in snapshots, files and the
 * log. Nothing here knows what a library is; whoever compiles them (server/scripting.h) does.
 *
 * A set never changes: another one takes its place, so that a snapshot only keeps the one that was
 * there. References are counted by the executor; other threads read what a snapshot holds.
 */
#ifndef HF_KEYSPACE_LIBRARIES_H
#define HF_KEYSPACE_LIBRARIES_H

#include <stddef.h>

#include "base/slice.h"

struct libraries {
    size_t references, count, bytes; /* bytes: of the code */
    struct slice codes[];            /* copies, in one block with this */
};

/* A set with copies of these; NULL when there are none. The caller has one reference. */
struct libraries *libraries_new(const struct slice *codes, size_t count);
struct libraries *libraries_ref(struct libraries *l); /* NULL is allowed, as below */
void libraries_unref(struct libraries *l);
/* Put a set with one code more in the place of *l. */
void libraries_append(struct libraries **l, struct slice code);
/* Put another in the place of *l, whose reference it takes. */
void libraries_replace(struct libraries **l, struct libraries *by);

#endif
