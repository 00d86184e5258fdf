/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/mem_move.h"

#include <string.h>

#include "base/mem.h"

static bool everything; /* only ever written by the thread that moves */

void mem_move_everything(bool on)
{
    everything = on;
}

bool mem_moves_everything(void)
{
    return everything;
}

#ifdef HF_JEMALLOC
#include <jemalloc/jemalloc.h>

/* What jemalloc 5 tells of a block's slab ("experimental.utilization.query"), in the order in which
 * it fills it in. A block that is too large for a slab is told to be alone in one. */
struct utilization {
    void *current; /* where the next blocks of this size come from, by now */
    size_t free, blocks, bytes;       /* of the slab */
    size_t all_free, all_blocks;      /* of all slabs of this size in its arena */
};

#define QUERY_DEPTH 3
static size_t query[QUERY_DEPTH];
static enum { UNKNOWN, CAN, CANNOT } ability;

static bool ask(const void *block, struct utilization *u)
{
    size_t size = sizeof(*u);
    return mallctlbymib(query, QUERY_DEPTH, u, &size, &block, sizeof(block)) == 0 &&
           size == sizeof(*u);
}

/* Asked once, about a block of which the answers are known as far as they have to make sense. */
static bool find_out(void)
{
    size_t depth = QUERY_DEPTH;
    if (mallctlnametomib("experimental.utilization.query", query, &depth) != 0 ||
        depth != QUERY_DEPTH)
        return false;
    char *probe = mem_alloc(64);
    struct utilization u = {0};
    bool ok = ask(probe, &u) && u.blocks > 1 && u.free < u.blocks && u.bytes >= 64 * u.blocks &&
              u.all_blocks >= u.blocks && u.all_blocks % u.blocks == 0 &&
              u.all_free <= u.all_blocks;
    mem_free(probe);
    return ok;
}

bool mem_can_move(void)
{
    if (ability == UNKNOWN)
        ability = find_out() ? CAN : CANNOT;
    return ability == CAN;
}

/* Of a size whose slabs are this full (15 of 16 blocks) there is nothing to be gained. */
#define DENSE_16THS 15

static bool should_move(const void *block)
{
    struct utilization u;
    if (!mem_can_move() || !ask(block, &u) || u.blocks <= 1 || u.free == 0 || u.all_blocks == 0)
        return false;
    if ((uintptr_t)block - (uintptr_t)u.current < u.bytes)
        return false; /* it would come back */
    size_t used = u.blocks - u.free, all_used = u.all_blocks - u.all_free;
    if (all_used * 16 >= u.all_blocks * DENSE_16THS)
        return false;
    /* An eighth above the average still moves: where all slabs are equally full none is below
     * it. */
    return used * u.all_blocks <= all_used * u.blocks + all_used * u.blocks / 8;
}

static void *take(size_t size)
{
    void *block = mallocx(size, MALLOCX_TCACHE_NONE);
    return block ? block : mem_alloc(size);
}

static void give_back(void *block)
{
    dallocx(block, MALLOCX_TCACHE_NONE);
}

#else

bool mem_can_move(void)
{
    return false;
}

static bool should_move(const void *block)
{
    (void)block;
    return false;
}

static void *take(size_t size)
{
    return mem_alloc(size);
}

static void give_back(void *block)
{
    mem_free(block);
}

#endif

void *mem_move(struct mem_mover *m, void *block)
{
    if (!everything && !should_move(block)) {
        m->stayed++;
        return block;
    }
    size_t size = mem_usable_size(block);
    void *fresh = take(size);
    memcpy(fresh, block, size);
    give_back(block);
    m->moved++;
    return fresh;
}
