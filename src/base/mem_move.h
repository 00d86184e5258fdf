/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Moving blocks together, so that pages become free as a whole.
 *
 * The allocator keeps small blocks of one size in slabs of some pages, and gives a slab back when
 * its last block is freed. Where many blocks were freed here and there, all slabs stay, each of
 * them partly empty. mem_move looks at the slab that a block stands in: if it is not fuller than
 * those of its size are on average, the block is copied to where the allocator wants to have the
 * next one (past the thread's cache), so that the emptier slabs empty and the others fill up.
 *
 * Who owns a block calls it and puts the new address wherever the old one stood: nobody else may
 * know the old one, as it is void afterwards. What a block says of its own address does not move
 * with it.
 *
 * It needs to ask the allocator about slabs, which jemalloc answers. Elsewhere nothing is ever
 * moved, but in tests, which can have everything moved by either allocator.
 */
#ifndef HF_BASE_MEM_MOVE_H
#define HF_BASE_MEM_MOVE_H

#include <stdbool.h>
#include <stdint.h>

/* What a walk has looked at so far. */
struct mem_mover {
    uint64_t moved, stayed; /* blocks */
};

/* Whether the allocator can tell which blocks should move. */
bool mem_can_move(void);
/* From now on every block that is looked at moves: for tests. */
void mem_move_everything(bool everything);
bool mem_moves_everything(void);

/* The block's address from now on: another one, or the same. Not NULL; of mem_alloc or its kin. */
void *mem_move(struct mem_mover *m, void *block) __attribute__((returns_nonnull));

#endif
