/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The rope: a long string as a tree of chunks, for string values too large to stand in their entry.
 * A write anywhere copies at most one chunk (and the path to it) for a snapshot, whatever the size:
 * SETBIT on a bitmap of 512 MB copies 8 KiB.
 *
 * Chunks hold ROPE_CHUNK bytes each (the last may be allocated shorter, in the allocator's classes),
 * behind a header with their birth; pages hold up to 510 pointers behind theirs. Height 0: the root
 * is the only chunk. A chunk that was never written (a hole made by SETRANGE or SETBIT far behind
 * the end) is a NULL pointer and reads as zeros: it costs nothing.
 */
#ifndef HF_STRUCTURE_ROPE_H
#define HF_STRUCTURE_ROPE_H

#include "base/slice.h"
#include "structure/epoch.h"

#define ROPE_CHUNK 8176

struct rope {
    void *root;
    uint64_t size : 56;
    uint64_t height : 8;
};

void rope_init(struct rope *r);
/* The longest run of bytes at `offset` that lies together, at most `size`; empty at the end. Holes
 * are given as runs of a shared zero page. Valid until the rope is next changed. */
struct slice rope_run(const struct rope *r, uint64_t offset, uint64_t size);
/* Copy out; offset + size must be within the rope. */
void rope_read(const struct rope *r, uint64_t offset, void *out, size_t size);
/* Write at offset, extending the rope; a gap behind the old end reads as zeros. */
void rope_write(struct rope *r, struct epoch *e, uint64_t offset, struct slice bytes);
/* Give n bytes of room at the end, of which the caller fills what rope_tail_room returns, and
 * commits; used to read a socket or a file straight into the value. Only for owned ropes. */
char *rope_tail_room(struct rope *r, struct epoch *e, size_t want, size_t *room);
void rope_tail_commit(struct rope *r, size_t size);
/* Cut to `size`. */
void rope_truncate(struct rope *r, struct epoch *e, uint64_t size);
void rope_clear(struct rope *r, struct epoch *e);
void rope_free_below(struct epoch_reclaim *ctx, const struct rope *r, uint64_t seen);
void rope_register(void); /* EPOCH_ROPE */
size_t rope_bytes(const struct rope *r);
void rope_check(const struct rope *r, const struct epoch *e);

#endif
