/* SPDX-License-Identifier: BSD-3-Clause */
#include "persist/log/stream.h"

#include <assert.h>
#include <sys/uio.h>

#include "base/mem.h"
#include "base/number.h"

/* Large enough that a block is begun once in some thousand effects, small enough that a quiet
 * server keeps little. */
#define BLOCK_SIZE (256 * 1024)
/* "$" or "*", a number, CR LF. */
#define HEAD_SIZE (NUMBER_INT64_SIZE + 3)

/*
 * Blocks are filled to the last byte, so that the place of a byte follows from its LSN alone. A
 * reader needs `next` only when something behind the block is published: it was set before.
 */
struct block {
    struct block *next;
    uint64_t start; /* the LSN of data[0] */
    char data[BLOCK_SIZE];
};

/*
 * A reader that stands right behind a block's last byte still points to that block, as there may be
 * no next one yet. That is why trimming frees a block only when readers are past the byte behind
 * it.
 */
struct stream_reader {
    struct stream *stream;
    struct stream_reader *next; /* the executor's */
    struct block *block;        /* the reader's thread's */
    uint64_t lsn;               /* atomic; written by the reader's thread */
};

struct stream {
    struct block *head, *tail; /* never NULL */
    struct block *spare;       /* or NULL: the next one to be used */
    char *at, *limit;          /* where the next byte goes, and the end of the tail */
    int db;                    /* of the last effect; -1: SELECT is due */
    int depth;                 /* of groups */
    uint64_t requests;
    bool in_group;             /* MULTI has been put, EXEC has not */
    uint64_t backlog;
    struct stream_reader *readers;
    char apart[64];     /* readers must not fetch the executor's line from it all the time */
    uint64_t published; /* atomic; written by the executor */
};

static uint64_t block_end(const struct block *b)
{
    return b->start + BLOCK_SIZE;
}

static struct block *block_new(struct stream *s, uint64_t start)
{
    struct block *b = s->spare;
    if (b != NULL)
        s->spare = NULL;
    else
        b = mem_alloc(sizeof(*b));
    b->next = NULL;
    b->start = start;
    return b;
}

static void block_free(struct stream *s, struct block *b)
{
    if (s->spare == NULL)
        s->spare = b;
    else
        mem_free(b);
}

static void set_tail(struct stream *s, struct block *b)
{
    s->tail = b;
    s->at = b->data;
    s->limit = b->data + BLOCK_SIZE;
}

struct stream *stream_new(uint64_t lsn)
{
    struct stream *s = mem_zalloc(sizeof(*s));
    s->db = -1;
    s->published = lsn;
    s->head = block_new(s, lsn);
    set_tail(s, s->head);
    return s;
}

static void free_blocks(struct stream *s)
{
    for (struct block *b = s->head, *next; b != NULL; b = next) {
        next = b->next;
        block_free(s, b);
    }
}

void stream_free(struct stream *s)
{
    if (s == NULL)
        return;
    for (struct stream_reader *r = s->readers, *next; r != NULL; r = next) {
        next = r->next;
        mem_free(r);
    }
    free_blocks(s);
    mem_free(s->spare);
    mem_free(s);
}

void stream_select_again(struct stream *s)
{
    s->db = -1;
}

uint64_t stream_end(const struct stream *s)
{
    return s->tail->start + (uint64_t)(s->at - s->tail->data);
}

/* ---- appending ---- */

static __attribute__((noinline)) void put_across(struct stream *s, const char *data, size_t size)
{
    for (;;) {
        size_t room = (size_t)(s->limit - s->at);
        size_t n = size < room ? size : room;
        memcpy(s->at, data, n);
        s->at += n;
        size -= n;
        if (size == 0)
            return;
        data += n;
        s->tail->next = block_new(s, block_end(s->tail));
        set_tail(s, s->tail->next);
    }
}

static inline void put(struct stream *s, const char *data, size_t size)
{
    if (__builtin_expect(size > (size_t)(s->limit - s->at), 0)) {
        put_across(s, data, size);
        return;
    }
    memcpy(s->at, data, size);
    s->at += size;
}

static void put_head(struct stream *s, char mark, size_t n)
{
    char head[HEAD_SIZE];
    head[0] = mark;
    size_t size = 1 + number_format_int64(head + 1, (int64_t)n);
    head[size++] = '\r';
    head[size++] = '\n';
    put(s, head, size);
}

void stream_put_argument(struct stream *s, struct slice argument)
{
    put_head(s, '$', argument.size);
    if (argument.size != 0)
        put(s, argument.data, argument.size);
    put(s, "\r\n", 2);
}

static void put_request(struct stream *s, const struct slice *argv, int argc)
{
    s->requests++;
    put_head(s, '*', (size_t)argc);
    for (int i = 0; i < argc; i++)
        stream_put_argument(s, argv[i]);
}

static __attribute__((noinline)) void put_select(struct stream *s, int db)
{
    char text[NUMBER_INT64_SIZE];
    struct slice argv[] = {SLICE("SELECT"), slice_of(text, number_format_int64(text, db))};
    put_request(s, argv, 2);
    s->db = db;
}

/* What has to stand before an effect. SELECT comes before MULTI where it can: a transaction is no
 * longer than it was. */
static inline void prepare(struct stream *s, int db)
{
    if (__builtin_expect(db != s->db, 0))
        put_select(s, db);
    if (__builtin_expect(s->depth > 0 && !s->in_group, 0)) {
        static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
        put(s, multi, sizeof(multi) - 1);
        s->requests++;
        s->in_group = true;
    }
}

void stream_append(struct stream *s, int db, const struct slice *argv, int argc)
{
    assert(argc > 0);
    prepare(s, db);
    put_request(s, argv, argc);
}

void stream_begin_append(struct stream *s, int db, uint64_t argc)
{
    assert(argc > 0);
    prepare(s, db);
    s->requests++;
    put_head(s, '*', argc);
}

void stream_append_request(struct stream *s, int db, struct slice request)
{
    assert(request.size > 0);
    prepare(s, db);
    s->requests++;
    put(s, request.data, request.size);
}

void stream_append_raw(struct stream *s, struct slice bytes, uint64_t requests)
{
    s->requests += requests;
    if (bytes.size != 0)
        put(s, bytes.data, bytes.size);
}

void stream_begin_group(struct stream *s)
{
    s->depth++;
}

void stream_end_group(struct stream *s)
{
    assert(s->depth > 0);
    if (--s->depth > 0 || !s->in_group)
        return;
    static const char exec[] = "*1\r\n$4\r\nEXEC\r\n";
    put(s, exec, sizeof(exec) - 1);
    s->requests++;
    s->in_group = false;
}

uint64_t stream_requests(const struct stream *s)
{
    return s->requests;
}

bool stream_in_group(const struct stream *s)
{
    return s->depth > 0;
}

void stream_publish(struct stream *s)
{
    if (s->depth > 0)
        return;
    uint64_t end = stream_end(s);
    /* Mostly there is nothing new, and readers need not fetch the line again. */
    if (end != __atomic_load_n(&s->published, __ATOMIC_RELAXED))
        __atomic_store_n(&s->published, end, __ATOMIC_RELEASE);
}

uint64_t stream_published(const struct stream *s)
{
    return __atomic_load_n(&s->published, __ATOMIC_ACQUIRE);
}

/* ---- what is kept ---- */

/* The position of the last reader; the end when there is none. */
static uint64_t last_reader(const struct stream *s)
{
    uint64_t least = stream_end(s);
    for (const struct stream_reader *r = s->readers; r != NULL; r = r->next) {
        uint64_t lsn = __atomic_load_n(&r->lsn, __ATOMIC_ACQUIRE);
        if (lsn < least)
            least = lsn;
    }
    return least;
}

size_t stream_memory(const struct stream *s)
{
    return (size_t)(stream_end(s) - last_reader(s));
}

void stream_set_backlog(struct stream *s, uint64_t bytes)
{
    s->backlog = bytes;
}

uint64_t stream_first(const struct stream *s)
{
    return s->head->start;
}

void stream_trim(struct stream *s)
{
    if (s->head == s->tail)
        return;
    uint64_t end = stream_end(s), released = last_reader(s);
    uint64_t wanted = end > s->backlog ? end - s->backlog : 0;
    while (s->head != s->tail && block_end(s->head) < released && block_end(s->head) <= wanted) {
        struct block *b = s->head;
        s->head = b->next;
        block_free(s, b);
    }
}

void stream_copy(const struct stream *s, uint64_t from, uint64_t until, char *out)
{
    assert(from >= stream_first(s) && until <= stream_end(s));
    for (const struct block *b = s->head; b != NULL && b->start < until; b = b->next) {
        uint64_t first = from > b->start ? from : b->start;
        uint64_t last = until < block_end(b) ? until : block_end(b);
        if (first >= last)
            continue;
        memcpy(out, b->data + (first - b->start), (size_t)(last - first));
        out += last - first;
    }
}

/* ---- readers ---- */

struct stream_reader *stream_reader_new(struct stream *s, uint64_t lsn)
{
    assert(lsn >= stream_first(s) && lsn <= stream_end(s));
    struct block *b = s->head;
    while (lsn > block_end(b))
        b = b->next;
    struct stream_reader *r = mem_alloc(sizeof(*r));
    *r = (struct stream_reader){.stream = s, .next = s->readers, .block = b, .lsn = lsn};
    s->readers = r;
    return r;
}

void stream_reader_free(struct stream *s, struct stream_reader *r)
{
    struct stream_reader **link = &s->readers;
    while (*link != r) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    *link = r->next;
    mem_free(r);
}

uint64_t stream_reader_lsn(const struct stream_reader *r)
{
    return __atomic_load_n(&r->lsn, __ATOMIC_ACQUIRE);
}

int stream_reader_peek(struct stream_reader *r, struct iovec *pieces, int max, size_t limit)
{
    uint64_t published = stream_published(r->stream);
    uint64_t at = __atomic_load_n(&r->lsn, __ATOMIC_RELAXED);
    struct block *b = r->block;
    int count = 0;
    while (count < max && at < published && limit > 0) {
        if (at == block_end(b))
            b = b->next;
        uint64_t end = published < block_end(b) ? published : block_end(b);
        size_t size = (size_t)(end - at);
        if (size > limit)
            size = limit;
        pieces[count++] = (struct iovec){b->data + (at - b->start), size};
        at += size;
        limit -= size;
    }
    return count;
}

void stream_reader_advance(struct stream_reader *r, size_t size)
{
    uint64_t lsn = __atomic_load_n(&r->lsn, __ATOMIC_RELAXED) + size;
    assert(lsn <= stream_published(r->stream));
    while (lsn > block_end(r->block))
        r->block = r->block->next;
    __atomic_store_n(&r->lsn, lsn, __ATOMIC_RELEASE);
}
