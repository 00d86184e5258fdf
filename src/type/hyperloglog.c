/* SPDX-License-Identifier: BSD-3-Clause
 *
 * A dense one is changed in place, two bytes at a time. A sparse one is copied out, changed there
 * and put back: it has at most SPARSE_SIZE_MAX bytes, and mostly less than 3000.
 */
#include "type/hyperloglog.h"

#include <assert.h>
#include <math.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "base/murmur.h"

#define HEADER_SIZE 16
#define ENCODING_AT 4
#define CACHE_AT 8
#define CACHE_SIZE 8
#define CACHE_VOID 0x80 /* in the cache's last byte */
enum { DENSE = 0, SPARSE = 1 };

#define INDEX_BITS 14
#define RANK_MAX (64 - INDEX_BITS + 1)
#define REGISTER_MAX 63
#define HASH_SEED 0xadc83b19U

#define ZERO_MAX 64     /* registers that one byte of zeros stands for */
#define VALUE_RUN_MAX 4 /* ... and one of equal values */
#define VALUE_MAX 32
/* Every run is of one register at least and takes two bytes at most: what is longer is damaged. */
#define SPARSE_SIZE_MAX (HEADER_SIZE + 2 * HLL_REGISTERS)

unsigned hll_register_of(struct slice element, uint8_t *value)
{
    uint64_t hash = murmur_hash64a(element.data, element.size, HASH_SEED);
    /* The bit behind the last one ends the count where all others are 0. */
    uint64_t rest = hash >> INDEX_BITS | 1ULL << (RANK_MAX - 1);
    *value = (uint8_t)(__builtin_ctzll(rest) + 1);
    return (unsigned)(hash & (HLL_REGISTERS - 1));
}

/* ---- the header ---- */

static void write_header(unsigned char *to, unsigned char encoding)
{
    memset(to, 0, HEADER_SIZE);
    memcpy(to, "HYLL", 4);
    to[ENCODING_AT] = encoding;
}

static unsigned char byte_of(const struct entry *e, uint64_t at)
{
    unsigned char byte;
    string_read(e, at, &byte, 1);
    return byte;
}

bool hll_is_dense(const struct entry *e)
{
    return byte_of(e, ENCODING_AT) == DENSE;
}

bool hll_check(const struct entry *e)
{
    uint64_t size = string_size(e);
    char magic[4];
    if (size < HEADER_SIZE)
        return false;
    string_read(e, 0, magic, sizeof(magic));
    unsigned char encoding = byte_of(e, ENCODING_AT);
    return memcmp(magic, "HYLL", sizeof(magic)) == 0 && encoding <= SPARSE &&
           (encoding == SPARSE || size == HLL_DENSE_SIZE);
}

void hll_create(struct keyref *ref)
{
    /* One run of zeros. */
    unsigned char bytes[HEADER_SIZE + 2];
    write_header(bytes, SPARSE);
    bytes[HEADER_SIZE] = 0x40 | (HLL_REGISTERS - 1) >> 8;
    bytes[HEADER_SIZE + 1] = (HLL_REGISTERS - 1) & 0xff;
    string_replace(ref, slice_of(bytes, sizeof(bytes)));
}

bool hll_cached(const struct entry *e, uint64_t *cardinality)
{
    unsigned char bytes[CACHE_SIZE];
    string_read(e, CACHE_AT, bytes, sizeof(bytes));
    *cardinality = bytes_le64(bytes);
    return !(bytes[CACHE_SIZE - 1] & CACHE_VOID);
}

void hll_set_cached(struct keyref *ref, uint64_t cardinality)
{
    unsigned char bytes[CACHE_SIZE];
    bytes_put_le(bytes, cardinality, CACHE_SIZE);
    string_write(ref, CACHE_AT, slice_of(bytes, sizeof(bytes)));
}

void hll_void_cache(struct keyref *ref)
{
    unsigned char last = byte_of(ref->entry, CACHE_AT + CACHE_SIZE - 1) | CACHE_VOID;
    string_write(ref, CACHE_AT + CACHE_SIZE - 1, slice_of(&last, 1));
}

/* ---- dense registers ---- */

static uint8_t dense_get(const unsigned char *registers, unsigned i)
{
    unsigned at = i * 6 / 8, shift = i * 6 % 8;
    unsigned word = registers[at];
    if (shift > 2)
        word |= (unsigned)registers[at + 1] << 8;
    return (uint8_t)(word >> shift & REGISTER_MAX);
}

static void dense_put(unsigned char *registers, unsigned i, uint8_t value)
{
    unsigned at = i * 6 / 8, shift = i * 6 % 8;
    unsigned mask = (unsigned)REGISTER_MAX << shift, word = (unsigned)value << shift;
    registers[at] = (unsigned char)((registers[at] & ~mask) | (word & 0xff));
    if (shift > 2)
        registers[at + 1] = (unsigned char)((registers[at + 1] & ~(mask >> 8)) | word >> 8);
}

/* Four registers of three bytes, one byte each in a word. */
static inline uint32_t dense_four(const unsigned char *p)
{
    uint32_t w = (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
    return (w & 0x3f) | (w & 0xfc0) << 2 | (w & 0x3f000) << 4 | (w & 0xfc0000) << 6;
}

static void dense_unpack(const unsigned char *from, uint8_t to[HLL_REGISTERS])
{
    for (unsigned i = 0; i < HLL_REGISTERS; i += 4, from += 3)
        bytes_put_le32(to + i, dense_four(from));
}

static bool dense_add(struct keyref *ref, unsigned i, uint8_t value)
{
    unsigned char bytes[2] = {0};
    uint64_t at = HEADER_SIZE + i * 6 / 8;
    unsigned shift = i * 6 % 8;
    size_t n = shift > 2 ? 2 : 1;
    string_read(ref->entry, at, bytes, n);
    unsigned word = bytes[0] | (unsigned)bytes[1] << 8;
    if ((word >> shift & REGISTER_MAX) >= value)
        return false;
    word = (word & ~((unsigned)REGISTER_MAX << shift)) | (unsigned)value << shift;
    bytes[0] = (unsigned char)(word & 0xff);
    bytes[1] = (unsigned char)(word >> 8 & 0xff);
    string_write(ref, at, slice_of(bytes, n));
    return true;
}

/* ---- sparse runs ---- */

struct run {
    enum hll_run kind;
    unsigned value, length; /* registers */
    size_t bytes;
};

/* The run at p, of which `left` bytes follow (at least one). False when it is cut off. */
static bool run_read(const unsigned char *p, size_t left, struct run *r)
{
    if (p[0] & 0x80) {
        *r = (struct run){HLL_RUN_VALUE, (unsigned)(p[0] >> 2 & 31) + 1, (p[0] & 3U) + 1, 1};
    } else if (p[0] & 0x40) {
        if (left < 2)
            return false;
        *r = (struct run){HLL_RUN_LONG_ZERO, 0, (p[0] & 63U) << 8 | p[1], 2};
        r->length++;
    } else {
        *r = (struct run){HLL_RUN_ZERO, 0, (p[0] & 63U) + 1, 1};
    }
    return true;
}

static size_t put_zeros(unsigned char *to, unsigned length)
{
    if (length == 0)
        return 0;
    length--;
    if (length < ZERO_MAX) {
        to[0] = (unsigned char)length;
        return 1;
    }
    to[0] = (unsigned char)(0x40 | length >> 8);
    to[1] = (unsigned char)(length & 0xff);
    return 2;
}

static size_t put_values(unsigned char *to, unsigned value, unsigned length)
{
    if (length == 0)
        return 0;
    to[0] = (unsigned char)(0x80 | (value - 1) << 2 | (length - 1));
    return 1;
}

/* An HLL that was copied out of its string. */
struct working {
    bool dense;
    size_t size;
    unsigned char bytes[SPARSE_SIZE_MAX + 8];
};
static_assert(SPARSE_SIZE_MAX >= HLL_DENSE_SIZE, "one buffer for both");

static bool working_load(struct working *w, const struct entry *e)
{
    uint64_t size = string_size(e);
    if (size > SPARSE_SIZE_MAX)
        return false;
    w->size = (size_t)size;
    string_read(e, 0, w->bytes, w->size);
    w->dense = w->bytes[ENCODING_AT] == DENSE;
    return true;
}

/* Go along all runs; they must stand for as many registers as there are. */
static bool sparse_visit(const struct working *w, hll_visit_fn *fn, void *ctx)
{
    unsigned registers = 0;
    for (size_t at = HEADER_SIZE; at < w->size;) {
        struct run r;
        if (!run_read(w->bytes + at, w->size - at, &r) || r.length > HLL_REGISTERS - registers)
            return false;
        fn(ctx, r.kind, r.value, r.length);
        registers += r.length;
        at += r.bytes;
    }
    return registers == HLL_REGISTERS;
}

struct unpacking {
    unsigned char *registers;
    unsigned i;
};

static void unpack_run(void *ctx, enum hll_run kind, unsigned value, unsigned length)
{
    struct unpacking *u = ctx;
    (void)kind;
    for (unsigned k = 0; k < length && value; k++)
        dense_put(u->registers, u->i + k, (uint8_t)value);
    u->i += length;
}

static bool working_make_dense(struct working *w)
{
    unsigned char registers[HLL_DENSE_SIZE - HEADER_SIZE] = {0};
    struct unpacking u = {registers, 0};
    if (!sparse_visit(w, unpack_run, &u))
        return false;
    memcpy(w->bytes + HEADER_SIZE, registers, sizeof(registers));
    w->bytes[ENCODING_AT] = DENSE;
    w->size = HLL_DENSE_SIZE;
    w->dense = true;
    return true;
}

static enum hll_result working_dense_add(struct working *w, unsigned i, uint8_t value)
{
    unsigned char *registers = w->bytes + HEADER_SIZE;
    if (dense_get(registers, i) >= value)
        return HLL_SAME;
    dense_put(registers, i, value);
    return HLL_CHANGED;
}

/* Join neighbouring runs of one value, from `at` on, as far as a change can have made some: the run
 * before it, up to three that it was made of, and the one behind. */
static void sparse_join(struct working *w, size_t at)
{
    for (int steps = 5; steps > 0 && at < w->size; steps--) {
        struct run r, next;
        if (!run_read(w->bytes + at, w->size - at, &r))
            return;
        if (r.kind == HLL_RUN_VALUE && at + 1 < w->size && w->bytes[at + 1] & 0x80) {
            if (run_read(w->bytes + at + 1, w->size - at - 1, &next) && r.value == next.value &&
                r.length + next.length <= VALUE_RUN_MAX) {
                put_values(w->bytes + at + 1, r.value, r.length + next.length);
                memmove(w->bytes + at, w->bytes + at + 1, w->size - at - 1);
                w->size--;
                continue;
            }
        }
        at += r.bytes;
    }
}

static enum hll_result sparse_promote(struct working *w, unsigned i, uint8_t value)
{
    if (!working_make_dense(w))
        return HLL_DAMAGED;
    return working_dense_add(w, i, value);
}

static enum hll_result sparse_add(struct working *w, unsigned i, uint8_t value, uint64_t size_max)
{
    if (value > VALUE_MAX)
        return sparse_promote(w, i, value);
    /* The run that has the register, and the one before. */
    struct run r = {0};
    size_t at = HEADER_SIZE, before = HEADER_SIZE;
    unsigned first = 0;
    for (;; first += r.length, before = at, at += r.bytes) {
        if (at >= w->size || !run_read(w->bytes + at, w->size - at, &r))
            return HLL_DAMAGED;
        if (i < first + r.length)
            break;
    }
    if (r.kind == HLL_RUN_VALUE && r.value >= value)
        return HLL_SAME;

    /* Up to three runs stand in its place. */
    unsigned char fresh[5];
    unsigned head = i - first, tail = r.length - 1 - head;
    size_t n;
    if (r.kind == HLL_RUN_VALUE) {
        n = put_values(fresh, r.value, head);
        n += put_values(fresh + n, value, 1);
        n += put_values(fresh + n, r.value, tail);
    } else {
        n = put_zeros(fresh, head);
        n += put_values(fresh + n, value, 1);
        n += put_zeros(fresh + n, tail);
    }
    if (n > r.bytes && w->size + (n - r.bytes) > size_max)
        return sparse_promote(w, i, value);
    if (w->size + n - r.bytes > SPARSE_SIZE_MAX)
        return HLL_DAMAGED;
    size_t behind = at + r.bytes;
    memmove(w->bytes + at + n, w->bytes + behind, w->size - behind);
    memcpy(w->bytes + at, fresh, n);
    w->size += n - r.bytes;
    sparse_join(w, before);
    return HLL_CHANGED;
}

static enum hll_result working_add(struct working *w, unsigned i, uint8_t value, uint64_t size_max)
{
    return w->dense ? working_dense_add(w, i, value) : sparse_add(w, i, value, size_max);
}

/* ---- what the commands do ---- */

enum hll_result hll_add(struct keyref *ref, const struct slice *elements, size_t count,
                        bool *changed)
{
    *changed = false;
    uint8_t value;
    if (hll_is_dense(ref->entry)) {
        for (size_t i = 0; i < count; i++) {
            unsigned at = hll_register_of(elements[i], &value);
            *changed |= dense_add(ref, at, value);
        }
        return *changed ? HLL_CHANGED : HLL_SAME;
    }
    struct working w;
    if (!working_load(&w, ref->entry))
        return count ? HLL_DAMAGED : HLL_SAME;
    enum hll_result result = HLL_SAME;
    for (size_t i = 0; i < count && result != HLL_DAMAGED; i++) {
        unsigned at = hll_register_of(elements[i], &value);
        result = working_add(&w, at, value, (uint64_t)ref->db->ks->limits.hll_sparse_max_bytes);
        *changed |= result == HLL_CHANGED;
    }
    if (*changed)
        string_replace(ref, slice_of(w.bytes, w.size));
    return result == HLL_DAMAGED ? HLL_DAMAGED : *changed ? HLL_CHANGED : HLL_SAME;
}

struct merging {
    uint8_t *into;
    unsigned i;
};

static void merge_run(void *ctx, enum hll_run kind, unsigned value, unsigned length)
{
    struct merging *m = ctx;
    (void)kind;
    for (unsigned k = 0; k < length && value; k++) {
        if (m->into[m->i + k] < value)
            m->into[m->i + k] = (uint8_t)value;
    }
    m->i += length;
}

bool hll_merge_into(uint8_t into[HLL_REGISTERS], const struct entry *e)
{
    struct working w;
    if (!working_load(&w, e))
        return false;
    if (!w.dense) {
        struct merging m = {into, 0};
        return sparse_visit(&w, merge_run, &m);
    }
    uint8_t registers[HLL_REGISTERS];
    dense_unpack(w.bytes + HEADER_SIZE, registers);
    for (unsigned i = 0; i < HLL_REGISTERS; i++)
        into[i] = into[i] > registers[i] ? into[i] : registers[i];
    return true;
}

enum hll_result hll_raise(struct keyref *ref, const uint8_t registers[HLL_REGISTERS], bool dense)
{
    struct working w;
    if (!working_load(&w, ref->entry) || (dense && !w.dense && !working_make_dense(&w)))
        return HLL_DAMAGED;
    uint64_t size_max = (uint64_t)ref->db->ks->limits.hll_sparse_max_bytes;
    for (unsigned i = 0; i < HLL_REGISTERS; i++) {
        if (registers[i] && working_add(&w, i, registers[i], size_max) == HLL_DAMAGED)
            return HLL_DAMAGED;
    }
    w.bytes[CACHE_AT + CACHE_SIZE - 1] |= CACHE_VOID;
    string_replace(ref, slice_of(w.bytes, w.size));
    return HLL_CHANGED;
}

enum hll_result hll_make_dense(struct keyref *ref)
{
    if (hll_is_dense(ref->entry))
        return HLL_SAME;
    struct working w;
    if (!working_load(&w, ref->entry) || !working_make_dense(&w))
        return HLL_DAMAGED;
    string_replace(ref, slice_of(w.bytes, w.size));
    return HLL_CHANGED;
}

bool hll_visit_runs(const struct entry *e, hll_visit_fn *fn, void *ctx)
{
    struct working w;
    return working_load(&w, e) && sparse_visit(&w, fn, ctx);
}

/* ---- the estimate ---- */

/* The correction for registers that are still 0, x being the part of them. */
static double sigma(double x)
{
    if (x == 1)
        return INFINITY;
    double y = 1, z = x, before;
    do {
        x *= x;
        before = z;
        z += x * y;
        y += y;
    } while (z != before);
    return z;
}

/* The correction for registers that are full, 1 - x being the part of them. */
static double tau(double x)
{
    if (x == 0 || x == 1)
        return 0;
    double y = 1, z = 1 - x, before;
    do {
        x = sqrt(x);
        before = z;
        y *= 0.5;
        z -= (1 - x) * (1 - x) * y;
    } while (z != before);
    return z / 3;
}

/* counts[v]: how many registers are v. Those beyond RANK_MAX, which no element makes, count for
 * nothing, as in Redis. */
static uint64_t estimate(const uint32_t counts[REGISTER_MAX + 1])
{
    const double m = HLL_REGISTERS, alpha = 0.721347520444481703680; /* 1 / (2 ln 2) */
    double z = m * tau((m - counts[RANK_MAX]) / m);
    for (int v = RANK_MAX - 1; v >= 1; v--) {
        z += counts[v];
        z *= 0.5;
    }
    z += m * sigma(counts[0] / m);
    return (uint64_t)llroundl(alpha * m * m / z);
}

uint64_t hll_estimate(const uint8_t registers[HLL_REGISTERS])
{
    /* Four tables, as counting the same value twice in a row would wait for the first. */
    uint32_t counts[4][REGISTER_MAX + 1] = {0};
    for (unsigned i = 0; i < HLL_REGISTERS; i += 4)
        for (unsigned k = 0; k < 4; k++)
            counts[k][registers[i + k] & REGISTER_MAX]++;
    for (unsigned v = 0; v <= REGISTER_MAX; v++)
        counts[0][v] += counts[1][v] + counts[2][v] + counts[3][v];
    return estimate(counts[0]);
}

static void count_run(void *ctx, enum hll_run kind, unsigned value, unsigned length)
{
    uint32_t *counts = ctx;
    (void)kind;
    counts[value] += length;
}

bool hll_count(const struct entry *e, uint64_t *cardinality)
{
    struct working w;
    if (!working_load(&w, e))
        return false;
    if (w.dense) {
        uint8_t registers[HLL_REGISTERS];
        dense_unpack(w.bytes + HEADER_SIZE, registers);
        *cardinality = hll_estimate(registers);
        return true;
    }
    uint32_t counts[REGISTER_MAX + 1] = {0};
    if (!sparse_visit(&w, count_run, counts))
        return false;
    *cardinality = estimate(counts);
    return true;
}
