/* SPDX-License-Identifier: BSD-3-Clause
 *
 * Memory for everything: jemalloc where it is linked, the C library's allocator under sanitizers.
 *
 * Running out: there is one policy. mem_alloc and its kin never return NULL; when the system has no
 * memory they log and abort, as a store that has lost an allocation half way through a change must
 * not go on. What a peer can ask for (argument sizes, lengths in files) is bounded before it gets
 * here; mem_try_alloc, which may return NULL, is for exactly such sizes.
 *
 * Accounting: mem_used() is the sum over all threads of bytes allocated minus bytes freed, in size
 * classes, read from jemalloc's own per-thread counters, so that counting costs nothing on the way.
 */
#ifndef HF_BASE_MEM_H
#define HF_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void *mem_realloc(void *ptr, size_t size) __attribute__((alloc_size(2), returns_nonnull));
void *mem_try_alloc(size_t size) __attribute__((malloc, alloc_size(1)));
void mem_free(void *ptr); /* NULL is allowed. */

/* Faster where the caller knows the size: `size` must fall in the same size class as the size that
 * the block was allocated with. */
void mem_free_sized(void *ptr, size_t size);

/* The usable size of the class that an allocation of `size` bytes falls in; never less than
 * size. */
size_t mem_good_size(size_t size);
/* The usable size of a block. */
size_t mem_usable_size(const void *ptr);

char *mem_dup(const void *data, size_t size); /* adds a NUL behind the copy */

/* A buffer for large reads and writes past the page cache: zeroed, aligned to MEM_HUGE_PAGE, and of
 * huge pages where the system has them, so that a disk is given a few large pieces of memory
 * instead of hundreds of pages. The size is rounded up to huge pages; it is freed with the size
 * that was asked for. */
#define MEM_HUGE_PAGE ((size_t)2 << 20)
void *mem_huge_alloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));
void mem_huge_free(void *ptr, size_t size); /* NULL is allowed. */

/* Bytes in use now, over all threads. Cheap: a few loads for every thread. */
size_t mem_used(void);
/* The highest mem_used() seen by mem_note_peak (called from the server's cron). */
size_t mem_note_peak(void);
/* Each thread that allocates calls begin when it starts and end as its last act. */
void mem_thread_begin(void);
void mem_thread_end(void);

/* Facts of the allocator for INFO and MEMORY STATS; zeros where it cannot tell. */
struct mem_stats {
    size_t allocated, active, resident, retained, metadata;
};
void mem_get_stats(struct mem_stats *stats);
/* The allocator's own report as text, piece by piece. */
void mem_report(void (*write)(void *ctx, const char *piece), void *ctx);
const char *mem_allocator_name(void); /* "jemalloc-5.3.0", "libc" */
size_t mem_rss(void);                 /* resident set size of the process, bytes */
void mem_purge(void);                 /* give free pages back to the system */
/* From now on threads of the allocator give free pages back, where it has such threads, so that no
 * command does. They are scheduled as the calling thread is. */
void mem_start_purging(void);

#endif
