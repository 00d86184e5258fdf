/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "type/bitmap.h"
#include "unit/random.h"

static int setup(void **state)
{
    (void)state;
    random_begin();
    return 0;
}

/* ---- the model: the bytes in one block, behind the size zeros ---- */

#define LIMIT 60000
#define KEYS 3
#define SNAPSHOTS 3

struct model {
    unsigned char bytes[LIMIT + 16];
    size_t size;
};

struct world {
    struct keyspace *ks;
    struct model now[KEYS];
    struct {
        struct snapshot *snapshot;
        struct model then[KEYS];
    } frozen[SNAPSHOTS];
};

static const char *const names[KEYS] = {"a", "b", "c"};

static struct keyref find(struct keyspace *ks, int key)
{
    struct keyref ref;
    struct slice name = slice_cstr(names[key]);
    keyref_find(&ref, &ks->dbs[0], name, key_hash(name));
    return ref;
}

static bool model_get(const struct model *m, uint64_t bit)
{
    return bit / 8 < LIMIT && m->bytes[bit / 8] >> (7 - bit % 8) & 1;
}

static void assert_reads_as(const struct entry *e, const struct model *m)
{
    if (!e) {
        assert_int_equal(m->size, 0);
        return;
    }
    assert_true(string_equal(e, slice_of(m->bytes, m->size)));
    if (entry_encoding(e) == ENTRY_ROPE)
        rope_check(entry_value(e), NULL);
}

static const struct entry *frozen_entry(const struct snapshot *s, int key)
{
    struct slice name = slice_cstr(names[key]);
    return table_find(&s->dbs[0].table, key_hash(name), name.data, name.size);
}

/* ---- steps ---- */

static void write_step(struct world *w, int key)
{
    struct model *m = &w->now[key];
    struct keyref ref = find(w->ks, key);
    uint64_t at = random_below(random_below(3) ? LIMIT : 100), bit = at * 8 + random_below(8);
    if (random_below(2)) {
        bool old, value = random_below(2), grows = !ref.entry || at >= m->size;
        bool changed = bitmap_set(&ref, bit, value, &old);
        assert_int_equal(old, model_get(m, bit));
        assert_int_equal(changed, grows || old != value);
        unsigned char mask = (unsigned char)(0x80 >> bit % 8);
        m->bytes[at] = (unsigned char)(value ? m->bytes[at] | mask : m->bytes[at] & ~mask);
        m->size = at + 1 > m->size ? at + 1 : m->size;
        return;
    }
    unsigned width = 1 + (unsigned)random_below(64);
    uint64_t value = random_state ^ random_below(1000), end = (bit + width + 7) / 8;
    if (end > LIMIT)
        return;
    bitmap_grow(&ref, end);
    bitmap_set_field(&ref, bit, width, value);
    for (unsigned i = 0; i < width; i++) {
        uint64_t b = bit + i;
        unsigned char mask = (unsigned char)(0x80 >> b % 8);
        bool one = value >> (width - 1 - i) & 1;
        m->bytes[b / 8] = (unsigned char)(one ? m->bytes[b / 8] | mask : m->bytes[b / 8] & ~mask);
    }
    m->size = end > m->size ? end : m->size;
}

/* A value as SET gives one: short or long, with runs of equal bytes. */
static void set_step(struct world *w, int key)
{
    struct model *m = &w->now[key];
    size_t size = 1 + random_below(random_below(2) ? 40 : LIMIT);
    memset(m->bytes, 0, sizeof(m->bytes));
    for (size_t i = 0; i < size;) {
        size_t run = 1 + random_below(20000);
        uint64_t kind = random_below(3);
        for (; run > 0 && i < size; run--, i++)
            m->bytes[i] = kind == 0 ? 0 : kind == 1 ? 0xff : (unsigned char)random_below(256);
    }
    m->size = size;
    struct keyref ref = find(w->ks, key);
    string_set_bytes(&ref, slice_of(m->bytes, size), ENTRY_NO_EXPIRY);
}

static unsigned char combined(enum bitmap_operation op, const unsigned char *bytes, size_t n)
{
    unsigned char all = 0xff, some = 0, odd = 0, more = 0, others = 0;
    for (size_t i = 0; i < n; i++) {
        all &= bytes[i];
        more |= some & bytes[i];
        some |= bytes[i];
        odd ^= bytes[i];
        others |= i ? bytes[i] : 0;
    }
    switch (op) {
    case BITMAP_AND:
        return all;
    case BITMAP_OR:
        return some;
    case BITMAP_XOR:
        return odd;
    case BITMAP_NOT:
        return (unsigned char)~bytes[0];
    case BITMAP_DIFF:
        return (unsigned char)(bytes[0] & ~others);
    case BITMAP_DIFF1:
        return (unsigned char)(~bytes[0] & others);
    case BITMAP_ANDOR:
        return bytes[0] & others;
    case BITMAP_ONE:
        break;
    }
    return (unsigned char)(some & ~more);
}

static void combine_step(struct world *w, int key)
{
    const struct entry *sources[4];
    const struct model *models[4];
    enum bitmap_operation op = (enum bitmap_operation)random_below(BITMAP_ONE + 1);
    size_t count = op == BITMAP_NOT ? 1 : 2 + random_below(3), size = 0;
    for (size_t i = 0; i < count; i++) {
        int from = (int)random_below(KEYS);
        sources[i] = find(w->ks, from).entry;
        models[i] = &w->now[from];
        size = models[i]->size > size ? models[i]->size : size;
    }
    static struct model result;
    memset(&result, 0, sizeof(result));
    result.size = size;
    for (size_t i = 0; i < size; i++) {
        unsigned char bytes[4];
        for (size_t k = 0; k < count; k++)
            bytes[k] = models[k]->bytes[i];
        result.bytes[i] = combined(op, bytes, count);
    }
    struct rope rope;
    bitmap_combine(&rope, &w->ks->epoch, op, sources, count);
    assert_int_equal(rope.size, size);
    rope_check(&rope, &w->ks->epoch);
    struct keyref ref = find(w->ks, key);
    if (size) {
        string_take_rope(&ref, &rope);
        assert_string_equal(string_encoding_name(ref.entry), "raw");
    } else if (ref.entry) {
        keyref_delete(&ref);
    }
    w->now[key] = result;
}

static void read_step(struct world *w, int key)
{
    const struct model *m = &w->now[key];
    const struct entry *e = find(w->ks, key).entry;
    uint64_t all = m->size * 8, first = random_below(all + 1),
             end = first + random_below(all - first + 1);
    if (random_below(3) == 0)
        first = 0, end = all;
    uint64_t count = 0, zero = end, one = end;
    for (uint64_t i = end; i-- > first;) {
        bool bit = model_get(m, i);
        count += bit;
        zero = bit ? zero : i;
        one = bit ? i : one;
    }
    assert_int_equal(bitmap_count(e, first, end), count);
    if (e) {
        assert_int_equal(bitmap_find(e, false, first, end), zero);
        assert_int_equal(bitmap_find(e, true, first, end), one);
    }
    uint64_t bit = random_below(all + 100);
    unsigned width = 1 + (unsigned)random_below(64);
    assert_int_equal(bitmap_get(e, bit), model_get(m, bit));
    uint64_t field = 0;
    for (unsigned i = 0; i < width; i++)
        field = field << 1 | model_get(m, bit + i);
    assert_int_equal(bitmap_get_field(e, bit, width), field);
}

static void snapshot_step(struct world *w)
{
    int i = (int)random_below(SNAPSHOTS);
    if (!w->frozen[i].snapshot) {
        w->frozen[i].snapshot = snapshot_begin(w->ks);
        memcpy(w->frozen[i].then, w->now, sizeof(w->now));
        return;
    }
    for (int key = 0; key < KEYS; key++)
        assert_reads_as(frozen_entry(w->frozen[i].snapshot, key), &w->frozen[i].then[key]);
    snapshot_end(w->ks, w->frozen[i].snapshot);
    w->frozen[i].snapshot = NULL;
}

/* Bit operations on values that span chunks, with holes, do what they do to plain bytes; snapshots
 * taken meanwhile still read as they did; and at the end no byte is left. */
static void test_against_model(void **state)
{
    (void)state;
    size_t before = mem_used();
    struct world *w = calloc(1, sizeof(*w));
    w->ks = keyspace_new(1, false);
    for (int step = 0; step < 2500; step++) {
        int key = (int)random_below(KEYS);
        uint64_t kind = random_below(20);
        if (kind == 0)
            set_step(w, key);
        else if (kind < 4)
            combine_step(w, key);
        else if (kind < 6)
            snapshot_step(w);
        else if (kind < 10)
            read_step(w, key);
        else
            write_step(w, key);
        if (step % 16 == 0)
            assert_reads_as(find(w->ks, key).entry, &w->now[key]);
    }
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (w->frozen[i].snapshot)
            snapshot_end(w->ks, w->frozen[i].snapshot);
    }
    keyspace_free(w->ks);
    free(w);
    assert_int_equal(mem_used(), before);
}

/* A bitmap of 512 MB with two bits in it takes two chunks; combined with itself it is as small; a
 * change under a snapshot copies one chunk. Searching and counting pass over what is not there. */
static void test_holes(void **state)
{
    (void)state;
    const uint64_t last = (512ULL << 20) * 8 - 1, middle = last / 2;
    struct keyspace *ks = keyspace_new(1, false);
    struct keyref ref = find(ks, 0);
    bool old;
    assert_true(bitmap_set(&ref, last, true, &old));
    assert_true(bitmap_set(&ref, middle, true, &old));
    const struct rope *rope = entry_value(ref.entry);
    size_t bytes = rope_bytes(rope);
    assert_true(bytes < 100000);
    assert_int_equal(bitmap_count(ref.entry, 0, last + 1), 2);
    assert_int_equal(bitmap_find(ref.entry, true, 0, last + 1), middle);
    assert_int_equal(bitmap_find(ref.entry, true, middle + 1, last + 1), last);
    assert_int_equal(bitmap_find(ref.entry, false, 0, last + 1), 0);
    for (int i = 0; i < 2; i++) {
        const struct entry *sources[] = {ref.entry, ref.entry};
        struct rope result;
        bitmap_combine(&result, &ks->epoch, i ? BITMAP_XOR : BITMAP_OR, sources, 2);
        assert_int_equal(result.size, rope->size);
        assert_true(rope_bytes(&result) <= bytes);
        assert_int_equal(result.root == NULL, i);
        rope_clear(&result, &ks->epoch);
    }
    struct snapshot *s = snapshot_begin(ks);
    size_t used = mem_used();
    assert_true(bitmap_set(&ref, last - 1, true, &old));
    assert_in_range(mem_used() - used, 1, 60000);
    assert_int_equal(bitmap_count(ref.entry, 0, last + 1), 3);
    assert_int_equal(bitmap_count(frozen_entry(s, 0), 0, last + 1), 2);
    snapshot_end(ks, s);
    keyspace_free(ks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_against_model),
                                       cmocka_unit_test(test_holes)};
    return cmocka_run_group_tests(tests, setup, NULL);
}
