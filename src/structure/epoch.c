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
 * (Where the node belongs to a part, "live snapshot" means here: one that is live and not done with
 * that part. All records of a batch belong to one part, or to none.)
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
#include <sched.h>
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

/* Small, as every part of a space may have one that is nearly empty. */
#define CHUNK_RECORDS 63
struct chunk {
    struct chunk *next;
    size_t count;
    struct record records[CHUNK_RECORDS];
};
static_assert(sizeof(struct chunk) == 1024, "a chunk fills its size class");

struct batch {
    struct batch *next;
    uint64_t limit; /* in the reclaimer's queue: what deep frees are given as `seen` */
    uint32_t space, part; /* that all of it belongs to */
    struct chunk *first, *last;
    size_t count, bytes;
};

#define DONE_WORDS (EPOCH_PARTS / 64)

struct space {
    uint64_t done[DONE_WORDS]; /* atomic: a bit for each part that the reader is done with */
    struct batch **parts;      /* what waits, by part; NULL: nothing yet */
};

struct epoch_snapshot {
    uint64_t epoch;
    struct epoch_snapshot *older, *newer;
    struct batch *held;     /* what belongs to no part */
    size_t held_count;      /* in it and the parts */
    size_t held_bytes;      /* atomic: who reports on a snapshot may do so on another thread */
    uint64_t done_count;    /* atomic: calls of epoch_snapshot_done */
    uint64_t settled_count; /* as of the last look at the parts */
    uint32_t space_count;
    struct space spaces[];
};

struct epoch_private {
    struct epoch_snapshot *newest;
    struct batch *work, *work_last; /* of released snapshots, and what was handed back */
    size_t pending;                 /* records in `work` and with the snapshots */
    uint32_t space_count;

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
    uint32_t space, part;
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

static struct batch *batch_new(uint64_t limit, uint32_t space, uint32_t part)
{
    struct batch *b = mem_zalloc(sizeof(*b));
    b->limit = limit;
    b->space = space;
    b->part = part;
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
    b->bytes += record_bytes(r);
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
        ctx->kept = batch_new(ctx->seen, ctx->space, ctx->part);
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

/* Whoever runs the process under another policy has his reasons. */
static void never_interrupt(void)
{
    struct sched_param none = {0};
    if (sched_getscheduler(0) == SCHED_OTHER)
        pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
}

static void *reclaimer_main(void *arg)
{
    struct epoch_private *p = arg;
    mem_thread_begin();
    never_interrupt();
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
        struct epoch_reclaim ctx = {.seen = b->limit, .space = b->space, .part = b->part};
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
static void give_record(struct epoch_private *p, struct record r, uint64_t seen, uint32_t space,
                        uint32_t part)
{
    p->pending--;
    pthread_mutex_lock(&p->lock);
    thread_pending_add(p, 1);
    if (!p->queue_last || p->queue_last->limit != seen || p->queue_last->space != space ||
        p->queue_last->part != part) {
        struct batch *b = batch_new(seen, space, part);
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

/* Whether the reader is done with all parts from first to last. */
static bool is_done(const struct epoch_snapshot *s, uint32_t space, uint32_t first, uint32_t last)
{
    if (space >= s->space_count)
        return false;
    const uint64_t *done = s->spaces[space].done;
    for (uint32_t part = first; part <= last; part++) {
        if (!(__atomic_load_n(&done[part / 64], __ATOMIC_ACQUIRE) >> (part % 64) & 1))
            return false;
    }
    return true;
}

/* The newest live snapshot up to the limit that may still read what belongs to the part. */
static struct epoch_snapshot *newest_up_to(const struct epoch_private *p, uint64_t limit,
                                           uint32_t space, uint32_t part)
{
    struct epoch_snapshot *s = p->newest;
    while (s && (s->epoch > limit || is_done(s, space, part, part)))
        s = s->older;
    return s;
}

static void hold(struct epoch_snapshot *s, struct record r, uint32_t space, uint32_t part)
{
    struct batch *b = s->held;
    if (space < s->space_count) {
        struct space *in = &s->spaces[space];
        if (!in->parts)
            in->parts = mem_zalloc(EPOCH_PARTS * sizeof(struct batch *));
        if (!in->parts[part])
            in->parts[part] = batch_new(s->epoch, space, part);
        b = in->parts[part];
    }
    size_t before = b->bytes;
    batch_add(b, r);
    s->held_count++;
    __atomic_store_n(&s->held_bytes, s->held_bytes + b->bytes - before, __ATOMIC_RELAXED);
}

static void settle(struct epoch_private *p, struct record r, struct epoch_snapshot *m,
                   uint32_t space, uint32_t part);

/* Free what no live snapshot sees the root of. `m` may see parts of it; it may be NULL. The record
 * counts as pending until then. */
static void free_record(struct epoch_private *p, struct record r, struct epoch_snapshot *m,
                        uint32_t space, uint32_t part)
{
    if (record_kind(r) == EPOCH_BLOCK) {
        p->pending--;
        block_free(r);
        return;
    }
    uint64_t seen = m ? m->epoch : 0;
    if (p->with_thread && record_size(r) >= EPOCH_SMALL_WEIGHT) {
        give_record(p, r, seen, space, part);
        return;
    }
    struct epoch_reclaim ctx = {.seen = seen, .space = space, .part = part};
    free_functions[record_kind(r)](&ctx, r.ptr, seen);
    p->pending--;
    if (!ctx.kept)
        return;
    /* All kept ones are seen by m, so this does not come back here. */
    p->pending += ctx.kept->count;
    while (ctx.kept->count)
        settle(p, batch_pop(ctx.kept), m, space, part);
    mem_free_sized(ctx.kept, sizeof(*ctx.kept));
}

/* m: the newest live snapshot up to the record's limit that is not done with its part. */
static void settle(struct epoch_private *p, struct record r, struct epoch_snapshot *m,
                   uint32_t space, uint32_t part)
{
    if (m && record_birth(r) <= m->epoch)
        hold(m, r, space, part);
    else
        free_record(p, r, m, space, part);
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

/* What waited for a snapshot is work now: it counts from here on as retired before it was taken. */
static void let_go(struct epoch_private *p, struct epoch_snapshot *s, struct batch *b)
{
    s->held_count -= b->count;
    __atomic_store_n(&s->held_bytes, s->held_bytes - b->bytes, __ATOMIC_RELAXED);
    b->limit = s->epoch - 1;
    if (b->count == 0)
        mem_free_sized(b, sizeof(*b));
    else
        add_work(p, b);
}

/* The parts that the readers are done with. */
static void take_done(struct epoch_private *p)
{
    for (struct epoch_snapshot *s = p->newest; s; s = s->older) {
        uint64_t count = __atomic_load_n(&s->done_count, __ATOMIC_ACQUIRE);
        if (count == s->settled_count)
            continue;
        s->settled_count = count;
        for (uint32_t i = 0; i < s->space_count; i++) {
            struct batch **parts = s->spaces[i].parts;
            for (uint32_t part = 0; parts && part < EPOCH_PARTS; part++) {
                if (parts[part] && is_done(s, i, part, part)) {
                    let_go(p, s, parts[part]);
                    parts[part] = NULL;
                }
            }
        }
    }
}

bool epoch_reclaim_step(struct epoch *e, size_t budget)
{
    struct epoch_private *p = e->priv;
    take_kept(p);
    take_done(p);
    while (p->work && budget) {
        struct batch *b = p->work;
        struct epoch_snapshot *m = newest_up_to(p, b->limit, b->space, b->part);
        bool give = !m && p->with_thread && b->count;
        while (!give && b->count && budget) {
            settle(p, batch_pop(b), m, b->space, b->part);
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

/* The snapshot that a view's `frozen` stands for; NULL: none. */
static struct epoch_snapshot *snapshot_of(const struct epoch *e)
{
    struct epoch_snapshot *s = e->priv->newest;
    while (s && s->epoch != e->frozen)
        s = s->older;
    return s;
}

void epoch_retire_frozen(struct epoch *e, void *ptr, size_t size, uint64_t birth)
{
    struct epoch_snapshot *s = snapshot_of(e);
    assert(s && birth <= s->epoch);
    e->priv->pending++;
    hold(s, record_of_block(ptr, birth, size), e->space, e->part);
}

void epoch_retire_deep(struct epoch *e, enum epoch_kind kind, void *ptr, uint64_t birth,
                       size_t weight)
{
    struct epoch_private *p = e->priv;
    assert(kind != EPOCH_BLOCK && free_functions[kind]);
    p->pending++;
    settle(p, record_of_tree(kind, ptr, birth, weight), snapshot_of(e), e->space, e->part);
}

struct epoch epoch_part(const struct epoch *e, uint32_t space, uint64_t hash, unsigned depth)
{
    struct epoch view = *e;
    if (!epoch_has_snapshot(e) || space >= e->priv->space_count)
        return view;
    uint64_t below = depth < 64 ? UINT64_MAX >> depth : 0;
    uint32_t first = epoch_part_of(hash & ~below), last = epoch_part_of(hash | below);
    struct epoch_snapshot *s = e->priv->newest;
    while (s && is_done(s, space, first, last))
        s = s->older;
    view.frozen = s ? s->epoch : 0;
    /* What lies in several parts waits until the snapshot's end. */
    if (first == last) {
        view.space = space;
        view.part = first;
    }
    return view;
}

/* --- snapshots ---------------------------------------------------------------------------------
 */

struct epoch_snapshot *epoch_snapshot_begin(struct epoch *e)
{
    struct epoch_private *p = e->priv;
    struct epoch_snapshot *s = mem_zalloc(sizeof(*s) + p->space_count * sizeof(s->spaces[0]));
    s->epoch = e->now;
    s->held = batch_new(s->epoch, EPOCH_NOWHERE, EPOCH_NOWHERE);
    s->space_count = p->space_count;
    s->older = p->newest;
    if (s->older)
        s->older->newer = s;
    p->newest = s;
    e->frozen = e->now;
    e->now++;
    return s;
}

size_t epoch_snapshot_held_bytes(const struct epoch_snapshot *s)
{
    return __atomic_load_n(&s->held_bytes, __ATOMIC_RELAXED);
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
    return s->held_count;
}

void epoch_set_spaces(struct epoch *e, uint32_t count)
{
    e->priv->space_count = count;
}

void epoch_snapshot_done(struct epoch_snapshot *s, uint32_t space, uint32_t first, uint32_t last)
{
    assert(space < s->space_count && last < EPOCH_PARTS);
    uint64_t *done = s->spaces[space].done;
    for (uint32_t part = first; part <= last; part++)
        __atomic_fetch_or(&done[part / 64], 1ULL << (part % 64), __ATOMIC_RELEASE);
    __atomic_fetch_add(&s->done_count, 1, __ATOMIC_RELEASE);
}

/* A batch of a snapshot that is no longer live. */
static void release(struct epoch_private *p, struct epoch_snapshot *s, struct batch *b)
{
    bool give = !s->older && p->with_thread && b->count;
    if (give)
        give_batch(p, b, 0);
    else
        let_go(p, s, b);
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

    for (uint32_t i = 0; i < s->space_count; i++) {
        struct batch **parts = s->spaces[i].parts;
        for (uint32_t part = 0; parts && part < EPOCH_PARTS; part++) {
            if (parts[part])
                release(p, s, parts[part]);
        }
        mem_free(parts);
    }
    release(p, s, s->held);
    mem_free(s);
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
    *e = (struct epoch){
        .now = 1, .frozen = 0, .space = EPOCH_NOWHERE, .part = EPOCH_NOWHERE, .priv = p};
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
