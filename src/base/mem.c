/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/mem.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <fcntl.h>

#ifdef HF_JEMALLOC
#include <jemalloc/jemalloc.h>

/* Read by jemalloc when it starts; the environment's MALLOC_CONF comes after it. Its own threads
 * are begun later (mem_start_purging). Huge pages (thp:always) are not asked for: they
 * save a pipelined GET 10 to 20 % of its processor time, but the fault of one took up to 7 ms of it
 * here, where nothing else took one. */
const char *malloc_conf = "background_thread:false";
#endif

static void out_of_memory(size_t size) __attribute__((noreturn, cold));
static void out_of_memory(size_t size)
{
    /* The log may need memory itself, so this goes to standard error directly. */
    fprintf(stderr, "holdfast: out of memory: could not allocate %zu bytes\n", size);
    abort();
}

/* Under jemalloc every thread has two counters of its own, read here by everybody. A thread's
 * counters are added to `ended` when it ends, as their storage goes with it. */
#define MEM_THREADS_MAX 512

static size_t peak;
static size_t huge_bytes; /* by mem_huge_alloc; atomic */

#ifdef HF_JEMALLOC

static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;

static struct {
    const uint64_t *allocated, *deallocated;
} threads[MEM_THREADS_MAX];
static int thread_count;       /* highest slot ever used, plus one; guarded by threads_lock */
static uint64_t ended_balance; /* wraps: allocated - freed by ended threads */
static __thread int thread_slot = -1;

static void *mem_do_alloc(size_t size)
{
    return mallocx(size ? size : 1, 0);
}

void mem_free_sized(void *ptr, size_t size)
{
    sdallocx(ptr, size ? size : 1, 0);
}

size_t mem_good_size(size_t size)
{
    return nallocx(size ? size : 1, 0);
}

size_t mem_usable_size(const void *ptr)
{
    return sallocx(ptr, 0);
}

static uint64_t load_counter(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_RELAXED);
}

void mem_thread_begin(void)
{
    if (thread_slot >= 0)
        return;
    uint64_t *a = NULL, *d = NULL;
    size_t size = sizeof(a);
    if (mallctl("thread.allocatedp", &a, &size, NULL, 0) != 0 ||
        mallctl("thread.deallocatedp", &d, &size, NULL, 0) != 0)
        return;
    pthread_mutex_lock(&threads_lock);
    for (int i = 0; i < MEM_THREADS_MAX; i++) {
        if (threads[i].allocated)
            continue;
        threads[i].allocated = a;
        threads[i].deallocated = d;
        thread_slot = i;
        if (i >= thread_count)
            thread_count = i + 1;
        break;
    }
    pthread_mutex_unlock(&threads_lock);
}

void mem_thread_end(void)
{
    if (thread_slot < 0)
        return;
    pthread_mutex_lock(&threads_lock);
    ended_balance += load_counter(threads[thread_slot].allocated) -
                     load_counter(threads[thread_slot].deallocated);
    threads[thread_slot].allocated = NULL;
    threads[thread_slot].deallocated = NULL;
    pthread_mutex_unlock(&threads_lock);
    thread_slot = -1;
}

/* The main thread needs no call: it is registered before main. */
static void __attribute__((constructor)) register_main_thread(void)
{
    mem_thread_begin();
}

size_t mem_used(void)
{
    pthread_mutex_lock(&threads_lock);
    uint64_t sum = ended_balance + __atomic_load_n(&huge_bytes, __ATOMIC_RELAXED);
    for (int i = 0; i < thread_count; i++) {
        if (threads[i].allocated)
            sum += load_counter(threads[i].allocated) - load_counter(threads[i].deallocated);
    }
    pthread_mutex_unlock(&threads_lock);
    /* Another thread may have freed what this one has not yet counted: never below zero. */
    return (int64_t)sum < 0 ? 0 : (size_t)sum;
}

static size_t read_size(const char *name)
{
    size_t v = 0, size = sizeof(v);
    return mallctl(name, &v, &size, NULL, 0) == 0 ? v : 0;
}

void mem_get_stats(struct mem_stats *stats)
{
    uint64_t generation = 1;
    mallctl("epoch", NULL, NULL, &generation, sizeof(generation));
    *stats = (struct mem_stats){.allocated = read_size("stats.allocated"),
                                .active = read_size("stats.active"),
                                .resident = read_size("stats.resident"),
                                .retained = read_size("stats.retained"),
                                .metadata = read_size("stats.metadata")};
}

const char *mem_allocator_name(void)
{
    static char name[64];
    if (name[0] == '\0') {
        const char *version = NULL;
        size_t size = sizeof(version);
        if (mallctl("version", &version, &size, NULL, 0) != 0)
            version = "unknown";
        snprintf(name, sizeof(name), "jemalloc-%.*s", (int)strcspn(version, "-"), version);
    }
    return name;
}

void mem_purge(void)
{
    char name[48];
    snprintf(name, sizeof(name), "arena.%u.purge", (unsigned)MALLCTL_ARENAS_ALL);
    mallctl(name, NULL, NULL, NULL, 0);
}

void mem_start_purging(void)
{
    bool on = true;
    mallctl("background_thread", NULL, NULL, &on, sizeof(on));
}

void mem_report(void (*write)(void *ctx, const char *piece), void *ctx)
{
    malloc_stats_print(write, ctx, NULL);
}

#else /* the C library's allocator: counted here, block by block */

static size_t used_bytes;

static void *mem_do_alloc(size_t size)
{
    return malloc(size ? size : 1);
}

void mem_free_sized(void *ptr, size_t size)
{
    (void)size;
    mem_free(ptr);
}

size_t mem_good_size(size_t size)
{
    /* jemalloc's classes: four to each doubling, 16 bytes apart below 128. The callers' growth
     * steps are then the same with either allocator. */
    if (size <= 8)
        return 8;
    if (size <= 128)
        return (size + 15) & ~(size_t)15;
    size_t step = (size_t)1 << (61 - __builtin_clzl(size - 1));
    return (size + step - 1) & ~(step - 1);
}

size_t mem_usable_size(const void *ptr)
{
    return malloc_usable_size((void *)(uintptr_t)ptr);
}

void mem_thread_begin(void)
{
}

void mem_thread_end(void)
{
}

size_t mem_used(void)
{
    return __atomic_load_n(&used_bytes, __ATOMIC_RELAXED) +
           __atomic_load_n(&huge_bytes, __ATOMIC_RELAXED);
}

void mem_get_stats(struct mem_stats *stats)
{
    *stats = (struct mem_stats){.allocated = mem_used()};
}

const char *mem_allocator_name(void)
{
    return "libc";
}

void mem_report(void (*write)(void *ctx, const char *piece), void *ctx)
{
    write(ctx, "Stats not supported for the current allocator");
}

void mem_purge(void)
{
    malloc_trim(0);
}

void mem_start_purging(void)
{
}

#endif

/* With jemalloc the allocator counts; these are then empty. */
static inline void *counted(void *ptr)
{
#ifndef HF_JEMALLOC
    if (ptr)
        __atomic_fetch_add(&used_bytes, malloc_usable_size(ptr), __ATOMIC_RELAXED);
#endif
    return ptr;
}

static inline void uncount(void *ptr)
{
#ifndef HF_JEMALLOC
    if (ptr)
        __atomic_fetch_sub(&used_bytes, malloc_usable_size(ptr), __ATOMIC_RELAXED);
#else
    (void)ptr;
#endif
}

void *mem_alloc(size_t size)
{
    void *ptr = counted(mem_do_alloc(size));
    if (__builtin_expect(ptr == NULL, 0))
        out_of_memory(size);
    return ptr;
}

void *mem_zalloc(size_t size)
{
    void *ptr = counted(calloc(1, size ? size : 1));
    if (__builtin_expect(ptr == NULL, 0))
        out_of_memory(size);
    return ptr;
}

void *mem_realloc(void *ptr, size_t size)
{
    uncount(ptr);
    void *fresh = counted(realloc(ptr, size ? size : 1));
    if (__builtin_expect(fresh == NULL, 0))
        out_of_memory(size);
    return fresh;
}

void *mem_try_alloc(size_t size)
{
    return counted(mem_do_alloc(size));
}

void mem_free(void *ptr)
{
    uncount(ptr);
    free(ptr);
}

char *mem_dup(const void *data, size_t size)
{
    char *copy = mem_alloc(size + 1);
    if (size)
        memcpy(copy, data, size);
    copy[size] = '\0';
    return copy;
}

static size_t huge_size(size_t size)
{
    return (size + MEM_HUGE_PAGE - 1) & ~(MEM_HUGE_PAGE - 1);
}

/* Mapped for itself: that it is of huge pages must not stay with memory that goes back to the
 * allocator. */
void *mem_huge_alloc(size_t size)
{
    size_t wanted = huge_size(size), more = wanted + MEM_HUGE_PAGE;
    char *base = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        out_of_memory(size);
    size_t before = (MEM_HUGE_PAGE - (uintptr_t)base % MEM_HUGE_PAGE) % MEM_HUGE_PAGE;
    if (before > 0)
        munmap(base, before);
    munmap(base + before + wanted, more - before - wanted);
    /* A wish: without huge pages it is memory like any other. */
    madvise(base + before, wanted, MADV_HUGEPAGE);
    __atomic_fetch_add(&huge_bytes, wanted, __ATOMIC_RELAXED);
    return base + before;
}

void mem_huge_free(void *ptr, size_t size)
{
    if (ptr == NULL)
        return;
    munmap(ptr, huge_size(size));
    __atomic_fetch_sub(&huge_bytes, huge_size(size), __ATOMIC_RELAXED);
}

size_t mem_note_peak(void)
{
    size_t used = mem_used();
    if (used > peak)
        peak = used;
    return peak;
}

size_t mem_rss(void)
{
    /* Second field of statm: resident pages. */
    char text[128];
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    unsigned long pages = 0;
    if (sscanf(text, "%*u %lu", &pages) != 1)
        return 0;
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}
