/* SPDX-License-Identifier: BSD-3-Clause
 *
 * How retired nodes wait and are freed.
 *
 * A retired node or subtree is a record of 16 bytes. Records are kept in batches: lists of chunks.
 * Every batch has a limit, and one rule covers whatever lies in it:
 *
 *     Rule. No live snapshot with an epoch above the limit can see the node; one with an epoch up
 *     to the limit sees it exactly if the node's birth is <= its epoch.
 *
 * It holds for what is retired to the newest snapshot n (limit n): later snapshots are taken after
 * the node was unlinked. It still holds with limit n-1 once n is released, and for what a deep free
 * with `seen` hands back (limit seen): the subtree was unlinked when no snapshot above `seen` could
 * see it. No snapshot ever appears below a limit, so the rule stays true however long a batch
 * waits and whatever is released meanwhile; who settles a record looks at the snapshots that are
 * live then. Settling: let m be the newest live snapshot up to the limit. If birth <= m the record
 * moves to m's batch. Else no live snapshot sees the node itself, and it is freed; a subtree is
 * walked with seen = m, as m may see parts of it.
 *
 *     retire -> batch of the newest snapshot -- end --> work --+--> older snapshot's batch
 *                                                        ^     +--> freed here
 *                                   kept (deep, seen > 0) |     +--> reclaimer thread -> freed
 *                                                         +------------------+
 *
 * Locks: everything of the queue between the executor and the reclaimer is guarded by `lock`; what
 * is guarded by nothing belongs to the executor.
 */
#include "structure/epoch.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* info: birth in bits 63..24, size in bits 23..4, kind in bits 3..0. The size of a block is in
 * units of 16 bytes (0: ask the allocator), of a subtree it is its weight. */
struct record {
    void *ptr;
    uint64_t info;
};

#define SIZE_MAX_CODE 0xfffffU
#define SIZE_UNIT 16
#define NODE_BYTES_GUESS 512 /* of a subtree's node, for the accounting */
#define BIRTH_MAX ((1ULL << 40) - 1)

#define CHUNK_RECORDS 255
struct chunk {
    struct chunk *next;
    size_t count;
    struct record records[CHUNK_RECORDS];
};
static_assert(sizeof(struct chunk) == 4096, "a chunk fills its size class");

struct batch {
    struct batch *next;
    uint64_t limit; /* in the reclaimer's queue: what deep frees are given as `seen` */
    struct chunk *first, *last;
    size_t count, bytes;
};

struct epoch_snapshot {
    uint64_t epoch;
    struct epoch_snapshot *older, *newer;
    struct batch *held;
};

struct epoch_private {
    struct epoch_snapshot *newest;
    struct batch *work, *work_last; /* of released snapshots, and what was handed back */
    size_t pending;                 /* records in `work` and with the snapshots */

    bool with_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake; /* the reclaimer waits for work */
    pthread_cond_t idle; /* the executor waits for the reclaimer to be through */
    bool stop, running;
    struct batch *queue, *queue_last;
    struct batch *kept;    /* handed back, to be settled by the executor */
    size_t thread_pending; /* records in queue, in work there, and in kept; atomic reads */
};

struct epoch_reclaim {
    struct batch *kept;
    uint64_t seen;
};

static epoch_free_fn *free_functions[EPOCH_KIND_COUNT];

void epoch_register(enum epoch_kind kind, epoch_free_fn *fn)
{
    assert(kind > EPOCH_BLOCK && kind < EPOCH_KIND_COUNT);
    /* Not written again, as a reclaimer thread may be reading. */
    if (free_functions[kind] != fn)
        free_functions[kind] = fn;
}

/* --- records and batches -----------------------------------------------------------------------
 */

static enum epoch_kind record_kind(struct record r)
{
    return (enum epoch_kind)(r.info & 15);
}

static uint64_t record_birth(struct record r)
{
    return r.info >> 24;
}

static size_t record_size(struct record r)
{
    return (r.info >> 4) & SIZE_MAX_CODE;
}

static struct record record_of(enum epoch_kind kind, void *ptr, uint64_t birth, size_t size)
{
    assert(birth <= BIRTH_MAX);
    return (struct record){ptr, birth << 24 | (uint64_t)size << 4 | (uint64_t)kind};
}

static struct record record_of_block(void *ptr, uint64_t birth, size_t size)
{
    /* Rounding up to 16 stays in the size class of every size above 8. */
    size_t code = (size + SIZE_UNIT - 1) / SIZE_UNIT;
    if (size <= 8 || code > SIZE_MAX_CODE)
        code = 0;
    return record_of(EPOCH_BLOCK, ptr, birth, code);
}

static struct record record_of_tree(enum epoch_kind kind, void *ptr, uint64_t birth, size_t weight)
{
    return record_of(kind, ptr, birth, weight < SIZE_MAX_CODE ? weight : SIZE_MAX_CODE);
}

static size_t record_bytes(struct record r)
{
    if (record_kind(r) != EPOCH_BLOCK)
        return record_size(r) * NODE_BYTES_GUESS;
    return record_size(r) ? record_size(r) * SIZE_UNIT : mem_usable_size(r.ptr);
}

static struct batch *batch_new(uint64_t limit)
{
    struct batch *b = mem_zalloc(sizeof(*b));
    b->limit = limit;
    return b;
}

static void batch_add(struct batch *b, struct record r)
{
    struct chunk *c = b->last;
    if (!c || c->count == CHUNK_RECORDS) {
        c = mem_alloc(sizeof(*c));
        c->next = NULL;
        c->count = 0;
        if (b->last)
            b->last->next = c;
        else
            b->first = c;
        b->last = c;
    }
    c->records[c->count++] = r;
    b->count++;
    /* Who reports on a snapshot may read it on another thread. */
    __atomic_store_n(&b->bytes, b->bytes + record_bytes(r), __ATOMIC_RELAXED);
}

static struct record batch_pop(struct batch *b)
{
    struct chunk *c = b->first;
    struct record r = c->records[--c->count];
    b->count--;
    if (c->count == 0) {
        b->first = c->next;
        if (!b->first)
            b->last = NULL;
        mem_free_sized(c, sizeof(*c));
    }
    return r;
}

static void block_free(struct record r)
{
    if (record_size(r))
        mem_free_sized(r.ptr, record_size(r) * SIZE_UNIT);
    else
        mem_free(r.ptr);
}

void epoch_keep(struct epoch_reclaim *ctx, enum epoch_kind kind, void *ptr, uint64_t birth)
{
    assert(birth <= ctx->seen);
    if (!ctx->kept)
        ctx->kept = batch_new(ctx->seen);
    /* Nothing is known of the size: a tree may be large. */
    batch_add(ctx->kept, kind == EPOCH_BLOCK
                             ? record_of_block(ptr, birth, 0)
                             : record_of_tree(kind, ptr, birth, EPOCH_SMALL_WEIGHT));
}

/* --- the reclaimer thread ----------------------------------------------------------------------
 */

static void reclaim_batch(struct batch *b, struct epoch_reclaim *ctx)
{
    while (b->count) {
        struct record r = batch_pop(b);
        if (record_kind(r) == EPOCH_BLOCK)
            block_free(r);
        else
            free_functions[record_kind(r)](ctx, r.ptr, b->limit);
    }
}

static void thread_pending_add(struct epoch_private *p, size_t n)
{
    __atomic_fetch_add(&p->thread_pending, n, __ATOMIC_RELAXED);
}

static void *reclaimer_main(void *arg)
{
    struct epoch_private *p = arg;
    mem_thread_begin();
    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (!p->queue && !p->stop) {
            p->running = false;
            pthread_cond_signal(&p->idle);
            pthread_cond_wait(&p->wake, &p->lock);
        }
        if (!p->queue)
            break;
        p->running = true;
        struct batch *b = p->queue;
        p->queue = b->next;
        if (!p->queue)
            p->queue_last = NULL;
        pthread_mutex_unlock(&p->lock);

        size_t count = b->count;
        struct epoch_reclaim ctx = {.seen = b->limit};
        reclaim_batch(b, &ctx);
        mem_free_sized(b, sizeof(*b));

        pthread_mutex_lock(&p->lock);
        if (ctx.kept) {
            thread_pending_add(p, ctx.kept->count);
            ctx.kept->next = p->kept;
            __atomic_store_n(&p->kept, ctx.kept, __ATOMIC_RELAXED);
        }
        thread_pending_add(p, -count);
    }
    pthread_mutex_unlock(&p->lock);
    mem_thread_end();
    return NULL;
}

/* The batch goes to the reclaimer whole: to be freed with seen = limit. */
static void give_batch(struct epoch_private *p, struct batch *b, uint64_t seen)
{
    b->limit = seen;
    b->next = NULL;
    p->pending -= b->count;
    pthread_mutex_lock(&p->lock);
    thread_pending_add(p, b->count);
    if (p->queue_last)
        p->queue_last->next = b;
    else
        p->queue = b;
    p->queue_last = b;
    if (!p->running)
        pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

/* One subtree: joins the last batch of the queue if that is to be freed alike. */
static void give_record(struct epoch_private *p, struct record r, uint64_t seen)
{
    p->pending--;
    pthread_mutex_lock(&p->lock);
    thread_pending_add(p, 1);
    if (!p->queue_last || p->queue_last->limit != seen) {
        struct batch *b = batch_new(seen);
        if (p->queue_last)
            p->queue_last->next = b;
        else
            p->queue = b;
        p->queue_last = b;
    }
    batch_add(p->queue_last, r);
    if (!p->running)
        pthread_cond_signal(&p->wake);
    pthread_mutex_unlock(&p->lock);
}

/* --- settling ----------------------------------------------------------------------------------
 */

static struct epoch_snapshot *newest_up_to(const struct epoch_private *p, uint64_t limit)
{
    struct epoch_snapshot *s = p->newest;
    while (s && s->epoch > limit)
        s = s->older;
    return s;
}

static void settle(struct epoch_private *p, struct record r, struct epoch_snapshot *m);

/* Free what no live snapshot sees the root of. `m` may see parts of it; it may be NULL. The record
 * counts as pending until then. */
static void free_record(struct epoch_private *p, struct record r, struct epoch_snapshot *m)
{
    if (record_kind(r) == EPOCH_BLOCK) {
        p->pending--;
        block_free(r);
        return;
    }
    uint64_t seen = m ? m->epoch : 0;
    if (p->with_thread && record_size(r) >= EPOCH_SMALL_WEIGHT) {
        give_record(p, r, seen);
        return;
    }
    struct epoch_reclaim ctx = {.seen = seen};
    free_functions[record_kind(r)](&ctx, r.ptr, seen);
    p->pending--;
    if (!ctx.kept)
        return;
    /* All kept ones are seen by m, so this does not come back here. */
    p->pending += ctx.kept->count;
    while (ctx.kept->count)
        settle(p, batch_pop(ctx.kept), m);
    mem_free_sized(ctx.kept, sizeof(*ctx.kept));
}

/* m: the newest live snapshot up to the record's limit. */
static void settle(struct epoch_private *p, struct record r, struct epoch_snapshot *m)
{
    if (m && record_birth(r) <= m->epoch)
        batch_add(m->held, r);
    else
        free_record(p, r, m);
}

static void add_work(struct epoch_private *p, struct batch *b)
{
    b->next = NULL;
    if (p->work_last)
        p->work_last->next = b;
    else
        p->work = b;
    p->work_last = b;
}

static void take_kept(struct epoch_private *p)
{
    if (!p->with_thread || !__atomic_load_n(&p->kept, __ATOMIC_RELAXED))
        return;
    pthread_mutex_lock(&p->lock);
    struct batch *b = p->kept;
    __atomic_store_n(&p->kept, NULL, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&p->lock);
    while (b) {
        struct batch *next = b->next;
        p->pending += b->count;
        thread_pending_add(p, -b->count);
        add_work(p, b);
        b = next;
    }
}

bool epoch_reclaim_step(struct epoch *e, size_t budget)
{
    struct epoch_private *p = e->priv;
    take_kept(p);
    while (p->work && budget) {
        struct batch *b = p->work;
        struct epoch_snapshot *m = newest_up_to(p, b->limit);
        bool give = !m && p->with_thread && b->count;
        while (!give && b->count && budget) {
            settle(p, batch_pop(b), m);
            budget--;
        }
        if (!give && b->count)
            break;
        p->work = b->next;
        if (!p->work)
            p->work_last = NULL;
        if (give)
            give_batch(p, b, 0);
        else
            mem_free_sized(b, sizeof(*b));
    }
    return p->work != NULL;
}

void epoch_reclaim_all(struct epoch *e)
{
    struct epoch_private *p = e->priv;
    for (;;) {
        while (epoch_reclaim_step(e, SIZE_MAX))
            ;
        if (!p->with_thread)
            return;
        pthread_mutex_lock(&p->lock);
        while (p->queue || p->running)
            pthread_cond_wait(&p->idle, &p->lock);
        bool kept = p->kept != NULL;
        pthread_mutex_unlock(&p->lock);
        if (!kept)
            return;
    }
}

size_t epoch_pending_count(const struct epoch *e)
{
    return e->priv->pending + __atomic_load_n(&e->priv->thread_pending, __ATOMIC_RELAXED);
}

/* --- retiring ----------------------------------------------------------------------------------
 */

void epoch_retire_frozen(struct epoch *e, void *ptr, size_t size, uint64_t birth)
{
    struct epoch_private *p = e->priv;
    assert(p->newest && birth <= p->newest->epoch);
    p->pending++;
    batch_add(p->newest->held, record_of_block(ptr, birth, size));
}

void epoch_retire_deep(struct epoch *e, enum epoch_kind kind, void *ptr, uint64_t birth,
                       size_t weight)
{
    struct epoch_private *p = e->priv;
    assert(kind != EPOCH_BLOCK && free_functions[kind]);
    p->pending++;
    settle(p, record_of_tree(kind, ptr, birth, weight), p->newest);
}

/* --- snapshots ---------------------------------------------------------------------------------
 */

struct epoch_snapshot *epoch_snapshot_begin(struct epoch *e)
{
    struct epoch_private *p = e->priv;
    struct epoch_snapshot *s = mem_zalloc(sizeof(*s));
    s->epoch = e->now;
    s->held = batch_new(s->epoch);
    s->older = p->newest;
    if (s->older)
        s->older->newer = s;
    p->newest = s;
    e->frozen = e->now;
    e->now++;
    return s;
}

uint64_t epoch_snapshot_epoch(const struct epoch_snapshot *s)
{
    return s->epoch;
}

size_t epoch_snapshot_held_bytes(const struct epoch_snapshot *s)
{
    return __atomic_load_n(&s->held->bytes, __ATOMIC_RELAXED);
}

size_t epoch_held_bytes(const struct epoch *e)
{
    size_t sum = 0;
    for (const struct epoch_snapshot *s = e->priv->newest; s != NULL; s = s->older)
        sum += epoch_snapshot_held_bytes(s);
    return sum;
}

size_t epoch_reclaiming_count(const struct epoch *e)
{
    return __atomic_load_n(&e->priv->thread_pending, __ATOMIC_ACQUIRE);
}

size_t epoch_snapshot_held_count(const struct epoch_snapshot *s)
{
    return s->held->count;
}

void epoch_snapshot_end(struct epoch *e, struct epoch_snapshot *s)
{
    struct epoch_private *p = e->priv;
    if (s->newer)
        s->newer->older = s->older;
    else
        p->newest = s->older;
    if (s->older)
        s->older->newer = s->newer;
    e->frozen = p->newest ? p->newest->epoch : 0;

    struct batch *b = s->held;
    b->limit = s->epoch - 1;
    if (b->count == 0)
        mem_free_sized(b, sizeof(*b));
    else if (!s->older && p->with_thread)
        give_batch(p, b, 0);
    else
        add_work(p, b);
    mem_free_sized(s, sizeof(*s));
}

/* --- the domain --------------------------------------------------------------------------------
 */

static void start_thread(struct epoch_private *p)
{
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->idle, NULL);
    p->running = true;
    /* Signals are for the threads that ask for them. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&p->thread, NULL, reclaimer_main, p);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        /* Not fatal: the executor then frees by itself. */
        p->with_thread = false;
        return;
    }
    pthread_setname_np(p->thread, "hf-reclaim");
}

void epoch_init(struct epoch *e, bool with_thread)
{
    struct epoch_private *p = mem_zalloc(sizeof(*p));
    *e = (struct epoch){.now = 1, .frozen = 0, .priv = p};
    p->with_thread = with_thread;
    if (with_thread)
        start_thread(p);
}

void epoch_deinit(struct epoch *e)
{
    struct epoch_private *p = e->priv;
    assert(!p->newest);
    epoch_reclaim_all(e);
    if (p->with_thread) {
        pthread_mutex_lock(&p->lock);
        p->stop = true;
        pthread_cond_signal(&p->wake);
        pthread_mutex_unlock(&p->lock);
        pthread_join(p->thread, NULL);
        pthread_cond_destroy(&p->idle);
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
    }
    mem_free(p);
    e->priv = NULL;
}
