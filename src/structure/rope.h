/* SPDX-License-Identifier: BSD-3-Clause
 *
 * The rope: a long string as a tree of chunks, for string values too large to stand in their entry.
 * A write anywhere copies at most one chunk (and the path to it) for a snapshot, whatever the size:
 * SETBIT on a bitmap of 512 MB copies 8 KiB.
 *
 *     page:   header | up to 510 pointers to pages or chunks
 *     chunk:  header | up to ROPE_CHUNK bytes
 *
 * The n-th chunk holds the bytes from n * ROPE_CHUNK on. Height 0: the root is the only chunk. The
 * headers carry birth and height, so that a subtree can be walked from its top node alone.
 *
 * Whatever is not there reads as zeros: a chunk or page that is NULL (a hole, made by SETRANGE or
 * SETBIT far behind the end, costs nothing), pointers behind a page's capacity, bytes behind those
 * that a chunk has in use. So chunks and pages are as small as the allocator's classes allow, and
 * extending a rope touches nothing but the place that is written to.
 */
#ifndef HF_STRUCTURE_ROPE_H
#define HF_STRUCTURE_ROPE_H

#include "base/slice.h"
#include "structure/epoch.h"

#define ROPE_CHUNK 8176

/* The root: embedded in the entry, copied by value with it. Zeroed memory is an empty rope. */
struct rope {
    void *root;
    uint64_t size : 56;
    uint64_t height : 8;
};

void rope_init(struct rope *r);
/* The longest run of bytes at `offset` that lies together, at most `size`; empty at the end. Holes
 * are given as runs of a shared zero page. Valid until the rope is next changed. */
struct slice rope_run(const struct rope *r, uint64_t offset, uint64_t size);
/* How many bytes from `offset` on are a hole for sure, and so zeros that nothing has to look at; 0
 * when there is a chunk, or at the end. A longer hole may be told of in parts. */
uint64_t rope_hole(const struct rope *r, uint64_t offset);
/* Copy out; offset + size must be within the rope. */
void rope_read(const struct rope *r, uint64_t offset, void *out, size_t size);
/* Write at offset, extending the rope; a gap behind the old end reads as zeros. `bytes` must not
 * point into this rope; no bytes change nothing. */
void rope_write(struct rope *r, struct epoch *e, uint64_t offset, struct slice bytes);
/* Make it `size` bytes long with zeros, which take no memory; nothing when it is as long. */
void rope_extend(struct rope *r, struct epoch *e, uint64_t size);
/* Make an empty rope of `size` bytes from blocks (got by mem_alloc, of ROPE_HEAD + ROPE_CHUNK
 * bytes) whose bytes stand behind the head. The blocks are taken: NULL stands in their places
 * then. */
#define ROPE_HEAD 16
void rope_adopt(struct rope *r, struct epoch *e, char **blocks, uint64_t size);
void rope_clear(struct rope *r, struct epoch *e);
/* Moves (base/mem_move.h) what should: the chunk number `from`, and the pages that begin with it.
 * Returns the number of the next one to look at, 0 at the end; any number may be given. No snapshot
 * may be live. */
struct mem_mover;
uint64_t rope_move(struct rope *r, struct mem_mover *m, uint64_t from);
void rope_free_below(struct epoch_reclaim *ctx, const struct rope *r, uint64_t seen);
void rope_register(void); /* EPOCH_ROPE */
size_t rope_bytes(const struct rope *r);
void rope_check(const struct rope *r, const struct epoch *e);

#endif
