/* SPDX-License-Identifier: BSD-3-Clause
 *
 * LMPOP, ZMPOP and those of them that wait: items from an end of the first of several keys that is
 * there. The log has them as what they did.
 */
#ifndef HF_COMMAND_MPOP_H
#define HF_COMMAND_MPOP_H

#include "command/call.h"

struct mpop_kind {
    enum entry_type type;
    const char *words[2];   /* of the ends 0 and 1, in the request */
    const char *effects[2]; /* the commands that take from them */
    uint64_t (*count)(const struct entry *e);
    /* Take items, of which there are as many, and reply each; the array is there. */
    void (*take)(struct call *c, struct keyref *ref, int end, uint64_t count);
};

/* numkeys is argv[1]; a null array when none of the keys is there. */
void mpop(struct call *c, const struct mpop_kind *kind);
/* The time-out is argv[1], numkeys argv[2]; waits when none of the keys is there. */
void mpop_or_wait(struct call *c, const struct mpop_kind *kind);

#endif
